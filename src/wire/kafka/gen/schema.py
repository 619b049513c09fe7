"""Reads the schema tables (schema/README in the room's README.md) into Message objects.

A file holds one API (`api KEY NAME VERSIONS flexible RANGE`, then `request` and `response`) or any
number of messages: `message NAME VERSIONS flexible RANGE`, or with a number of its own
`kind KEY NAME VERSIONS flexible RANGE`, which may be empty. Below come fields, one a line:

    name  type  [versions]  [null=versions]  [=default]  [tag=N]  [plain]   # remark

`type?` may be null (null=RANGE: only there), `[]type` is an array, `Name` or `[]Name` a structure
whose fields follow, two columns deeper.
"""

import re

PRIMITIVES = {"bool": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uuid": 16}
SIZED = {"string", "bytes", "records"}
FOREVER = 32767


class SchemaError(Exception):
    pass


class Range:
    """Versions lo to hi, both included; empty if lo > hi."""

    def __init__(self, lo, hi):
        self.lo, self.hi = lo, hi

    def __contains__(self, version):
        return self.lo <= version <= self.hi


def parse_range(text):
    if text == "none":
        return Range(FOREVER, 0)
    match = re.fullmatch(r"(\d+)(\+|-(\d+))?", text)
    if not match:
        raise SchemaError(f"bad version range {text!r}")
    lo = int(match[1])
    return Range(lo, FOREVER if match[2] == "+" else int(match[3] or lo))


class Field:
    def __init__(self, name, type_text, tokens, remark):
        self.name, self.remark = name, remark
        self.versions, self.nullable = Range(0, FOREVER), Range(FOREVER, 0)
        self.default, self.tag, self.plain = None, None, False
        self.optional = type_text.endswith("?")
        if self.optional:
            type_text = type_text[:-1]
            self.nullable = Range(0, FOREVER)
        self.array = type_text.startswith("[]")
        self.base = type_text[2:] if self.array else type_text
        self.struct = None
        for token in tokens:
            if token.startswith("null="):
                self.nullable = parse_range(token[5:])
            elif token.startswith("tag="):
                self.tag = int(token[4:])
            elif token.startswith("="):
                self.default = token[1:]
            elif token == "plain":
                self.plain = True
            else:
                self.versions = parse_range(token)
        if not self.is_struct and self.base not in PRIMITIVES and self.base not in SIZED:
            raise SchemaError(f"field {name}: unknown type {self.base!r}")

    @property
    def is_struct(self):
        return self.base[0].isupper()

    def compact(self, flexible):
        return flexible and not self.plain

    def min_bytes(self, version, flexible):
        """The fewest bytes that the field takes on the wire; 0 if it is absent or tagged."""
        if version not in self.versions or self.tag is not None:
            return 0
        if self.array:
            return 1 if flexible else 4
        if self.is_struct:
            return self.struct.min_bytes(version, flexible)
        if self.base == "string":
            return 1 if self.compact(flexible) else 2
        return PRIMITIVES.get(self.base, 1 if flexible else 4)


class Struct:
    """The fields of a message or of a structure in it."""

    def __init__(self, name):
        self.name, self.fields = name, []

    def present(self, version):
        return [f for f in self.fields if version in f.versions and f.tag is None]

    def tagged(self):
        return sorted((f for f in self.fields if f.tag is not None), key=lambda f: f.tag)

    def min_bytes(self, version, flexible):
        own = sum(f.min_bytes(version, flexible) for f in self.fields)
        return own + (1 if flexible else 0)

    def inner(self):
        """Structures inside this one, the innermost first."""
        found = []
        for field in self.fields:
            if field.struct:
                found += field.struct.inner() + [field.struct]
        return found


class Message:
    def __init__(self, name, versions, flexible, key=None, kind="message", about=""):
        self.name, self.versions, self.flexible = name, versions, flexible
        self.key, self.kind, self.about = key, kind, about
        self.struct = Struct(name)

    def is_flexible(self, version):
        return version in self.flexible

    def each_version(self):
        return range(self.versions.lo, self.versions.hi + 1)

    def min_bytes(self, struct):
        sizes = (struct.min_bytes(v, self.is_flexible(v)) for v in self.each_version())
        return max(1, min(sizes))

    def check(self):
        structs = [self.struct] + self.struct.inner()
        names = [s.name for s in structs]
        if len(set(names)) != len(names):
            raise SchemaError(f"{self.name}: two structures have one name")
        for struct in structs:
            if not struct.fields and (struct is not self.struct or self.kind != "message" or
                                      self.key is None):
                raise SchemaError(f"{self.name}: {struct.name} has no fields")
            for field in struct.tagged():
                if field.base == "records":
                    raise SchemaError(f"{self.name}.{field.name}: records cannot be tagged")


def _add_field(stack, line, remark, where):
    depth = (len(line) - len(line.lstrip())) // 2
    words = line.split()
    if len(words) < 2 or depth < 1 or depth > len(stack):
        raise SchemaError(f"{where}: expected a field, two columns deeper than its structure")
    field = Field(words[0], words[1], words[2:], remark)
    del stack[depth:]
    stack[-1].fields.append(field)
    if field.is_struct:
        field.struct = Struct(field.base)
        stack.append(field.struct)


def parse(path):
    """The messages of one file, in order."""
    messages, stack, api, about = [], [], None, []
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    for number, raw in enumerate(lines, 1):
        where = f"{path}:{number}"
        code, _, remark = raw.partition("#")
        line, remark = code.rstrip(), remark.strip()
        if not line:
            if remark and not messages and api is None:
                about.append(remark)
            continue
        words = line.split()
        try:
            if not line.startswith(" ") and words[0] in ("api", "kind", "message"):
                if words[-2] != "flexible":
                    raise SchemaError("expected: … VERSIONS flexible RANGE")
                versions, flexible = parse_range(words[-3]), parse_range(words[-1])
                if words[0] == "api":
                    api = (int(words[1]), words[2], versions, flexible)
                    continue
                key = int(words[1]) if words[0] == "kind" else None
                messages.append(Message(words[-4], versions, flexible, key, about=" ".join(about)))
                stack = [messages[-1].struct]
            elif line in ("request", "response"):
                key, name, versions, flexible = api
                messages.append(Message(name + line.capitalize(), versions, flexible, key, line,
                                        " ".join(about)))
                stack = [messages[-1].struct]
            else:
                _add_field(stack, line, remark, where)
        except SchemaError as error:
            raise SchemaError(f"{where}: {error}") from None
    for message in messages:
        message.check()
    return messages
