"""Writes the C++ structures, encoders and decoders of messages."""

from schema import FOREVER

CPP = {"bool": "bool", "int8": "std::int8_t", "int16": "std::int16_t", "int32": "std::int32_t",
       "int64": "std::int64_t", "uuid": "model::Uuid", "string": "std::string", "bytes": "Bytes",
       "records": "Records"}
CALL = {"bool": "boolean", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
        "uuid": "uuid"}


class Target:
    """What a family of messages is generated for: its room, and what it calls its numbers."""

    def __init__(self, room="wire/kafka", numbers="ApiKey"):
        self.room, self.numbers = room, numbers
        self.stem = "api_key" if numbers == "ApiKey" else numbers.lower()
        self.entry = "Api" if numbers == "ApiKey" else numbers
        self.about = ("Kafka's number of each API that has a codec here." if numbers == "ApiKey" else
                      "The number of each message, or of a request and its reply.")
        self.note = f"// Generated from src/{room}/schema by src/wire/kafka/gen; do not edit.\n"
        self.space = "pyralog::" + room.replace("/", "::")
        self.open = f"namespace {self.space} {{\n"
        self.close = f"\n}}  // namespace {self.space}\n"


def cpp_type(field):
    kind = field.base if field.is_struct else CPP[field.base]
    if field.array:
        kind = f"std::vector<{kind}>"
    if field.optional and field.base != "records":
        kind = f"std::optional<{kind}>"
    return kind


def default_value(field):
    if field.default is None:
        return "{}" if field.base not in ("bool",) or field.array else "false"
    if field.base == "int32" and field.default == "-2147483648":
        return "INT32_MIN"
    return field.default


def versions_text(field, message):
    lo, hi = max(field.versions.lo, message.versions.lo), field.versions.hi
    if hi >= message.versions.hi:
        return "" if lo <= message.versions.lo else f"version {lo} on"
    return f"version {lo}" if lo == hi else f"versions {lo} to {hi}"


def condition(versions, message):
    """C++ that is true in `versions`, given that `v` is a version of `message`."""
    parts = []
    if versions.lo == FOREVER or versions.lo > message.versions.hi:
        return "false"
    if versions.lo > message.versions.lo:
        parts.append(f"v >= {versions.lo}")
    if versions.hi < message.versions.hi:
        parts.append(f"v <= {versions.hi}")
    return " && ".join(parts) or "true"


def structure(message, struct, indent):
    pad, lines = " " * indent, []
    for field in struct.fields:
        notes = [n for n in (versions_text(field, message), field.remark) if n]
        note = "  ///< " + "; ".join(notes) if notes else ""
        name = "" if default_value(field) == "{}" else " = " + default_value(field)
        name = name or "{}"
        lines.append(f"{pad}{cpp_type(field)} {field.name}{name};{note}")
    lines.append(f"{pad}friend bool operator==(const {struct.name}&, const {struct.name}&) = default;")
    return lines


def number_name(message):
    """What the number of a message is called: a request and its response share theirs."""
    if message.kind == "message":
        return message.name
    return message.name.removesuffix("Request").removesuffix("Response")


def declare(target, message):
    lines = [f"/// {message.about}" if message.about else f"/// {message.name}.",
             f"struct {message.name} {{"]
    for inner in message.struct.inner():
        lines += [f"  struct {inner.name} {{", *structure(message, inner, 4), "  };"]
    lines += structure(message, message.struct, 2)
    flexible = message.flexible.lo
    if message.key is not None:
        key = number_name(message)
        numbers = target.numbers
        lines.append(f"\n  static constexpr {numbers} k{numbers} = {numbers}::k{key};")
        lines.append(f"  static constexpr bool kIsRequest = {str(message.kind != 'response').lower()};")
    lines += [f"  static constexpr std::int16_t kMinVersion = {message.versions.lo};",
              f"  static constexpr std::int16_t kMaxVersion = {message.versions.hi};",
              f"  static constexpr MessageInfo kInfo{{\"{message.name}\", kMinVersion, kMaxVersion, "
              f"{flexible}}};",
              "  void encode(Encoder& e, std::int16_t version) const;",
              f"  [[nodiscard]] static Result<{message.name}> decode(Decoder& d, std::int16_t version);",
              "};\n"]
    return "\n".join(lines)


def header(target, messages):
    return "".join([target.note, "#pragma once\n\n#include <cstdint>\n#include <optional>\n",
                    "#include <string>\n#include <vector>\n\n",
                    f"#include \"{target.room}/codec.h\"\n",
                    f"#include \"{target.room}/gen/{target.stem}.h\"\n\n", target.open, "\n",
                    "\n".join(declare(target, m) for m in messages), target.close])


# --- encoding


def put_one(field, value, null_ok):
    """Statements that write one value; `null_ok` is None where null cannot be."""
    if field.is_struct:
        return f"put(e, v, {value});"
    if field.base in CALL:
        return f"e.{CALL[field.base]}({value});"
    if field.base == "records":
        return f"e.records({value}, {null_ok or 'false'});"
    if field.plain:
        return f"e.plain_nullable_string({value});"
    if null_ok is None:
        return f"e.{field.base}({value});"
    return f"e.nullable_{field.base}({value}, {null_ok});"


def put_field(message, field, value):
    null_ok = condition(field.nullable, message) if field.optional else None
    if not field.array:
        return [put_one(field, value, null_ok)]
    element = put_one(field, "x", None)
    if not field.optional:
        return [f"e.array({value}.size());", f"for (const auto& x : {value}) {element}"]
    return [f"if ({value}) {{", f"  e.array({value}->size());",
            f"  for (const auto& x : *{value}) {element}", "} else {",
            f"  e.null_array({null_ok});", "}"]


def is_set(message, field):
    """C++ that is true if the tagged field differs from its default."""
    value = f"m.{field.name}"
    if field.optional:
        return f"{value}.has_value()"
    if field.array or field.base in ("string", "bytes"):
        return f"!{value}.empty()"
    default = default_value(field)
    kind = qualified(message, field.struct) if field.is_struct else cpp_type(field)
    return f"!({value} == {kind}{{}})" if default == "{}" else f"{value} != {default}"


def guarded(test, lines, indent):
    pad = " " * indent
    if test == "true":
        return [pad + line for line in lines]
    if len(lines) == 1:
        return [f"{pad}if ({test}) {lines[0]}"]
    return [f"{pad}if ({test}) {{", *[pad + "  " + line for line in lines], pad + "}"]


def qualified(message, struct):
    return message.name if struct is message.struct else f"{message.name}::{struct.name}"


def encoder(message, struct):
    unused = "" if struct.fields else "[[maybe_unused]] "
    lines = [f"[[maybe_unused]] void put(Encoder& e, [[maybe_unused]] int v, "
             f"{unused}const {qualified(message, struct)}& m) {{"]
    for field in struct.fields:
        if field.tag is None:
            body = put_field(message, field, f"m.{field.name}")
            lines += guarded(condition(field.versions, message), body, 2)
    tagged = struct.tagged()
    if not tagged:
        return "\n".join([*lines, "  e.no_tags();", "}\n"])
    lines += ["  if (!e.flexible()) return;", "  std::uint32_t count = 0;"]
    for field in tagged:
        test = condition(field.versions, message)
        lines.append(f"  const bool has_{field.name} = {test} && {is_set(message, field)};")
        lines.append(f"  if (has_{field.name}) ++count;")
    lines.append("  e.tags(count);")
    for field in tagged:
        lines.append(f"  if (has_{field.name}) {{")
        lines.append(f"    const std::size_t mark = e.open_tag({field.tag});")
        lines += ["    " + line for line in put_field(message, field, f"m.{field.name}")]
        lines += ["    e.close_tag(mark);", "  }"]
    return "\n".join([*lines, "}\n"])


# --- decoding


def get_one(field, value, path, null_ok):
    if field.is_struct:
        return f"get(d, v, {value});"
    if field.base in CALL:
        return f"{value} = d.{CALL[field.base]}({path});"
    if field.base == "records":
        return f"{value} = d.records({path}, {null_ok or 'false'});"
    if field.plain:
        return f"{value} = d.plain_nullable_string({path});"
    if null_ok is None:
        return f"{value} = d.{field.base}({path});"
    return f"{value} = d.nullable_{field.base}({path}, {null_ok});"


def element_bytes(message, field):
    if field.is_struct:
        return message.min_bytes(field.struct)
    return min(max(1, field_element_bytes(field, message.is_flexible(v)))
               for v in message.each_version())


def field_element_bytes(field, flexible):
    from schema import PRIMITIVES
    if field.base in PRIMITIVES:
        return PRIMITIVES[field.base]
    return 1 if flexible else (2 if field.base == "string" else 4)


def get_field(message, field, path):
    value = f"m.{field.name}"
    null_ok = condition(field.nullable, message) if field.optional else None
    if not field.array:
        return [get_one(field, value, path, null_ok)]
    kind = qualified(message, field.struct) if field.is_struct else CPP[field.base]
    lines = [f"if (const auto n = d.array({path}, {null_ok or 'false'}, "
             f"{element_bytes(message, field)}, sizeof({kind}))) {{"]
    target = value
    if field.optional:
        lines.append(f"  auto& list = {value}.emplace();")
        target = "list"
    lines += [f"  {target}.resize(*n);", f"  for (auto& x : {target}) {{",
              "    if (!d.ok()) return;", f"    {get_one(field, 'x', path, None)}", "  }", "}"]
    return lines


def decoder(message, struct, prefix):
    unused = "" if struct.fields else "[[maybe_unused]] "
    lines = [f"[[maybe_unused]] void get(Decoder& d, [[maybe_unused]] int v, "
             f"{unused}{qualified(message, struct)}& m) {{"]
    for field in struct.fields:
        if field.tag is None:
            body = get_field(message, field, f'"{prefix}{field.name}"')
            lines += guarded(condition(field.versions, message), body, 2)
    where = f'"{prefix}tagged fields"'
    tagged = struct.tagged()
    if not tagged:
        return "\n".join([*lines, f"  d.skip_tags({where});", "}\n"])
    lines += ["  if (!d.flexible()) return;", f"  auto tags = d.open_tags({where});",
              "  for (; d.ok() && tags.count != 0; --tags.count) {",
              f"    switch (d.open_tag(tags, {where})) {{"]
    for field in tagged:
        lines.append(f"      case {field.tag}:")
        body = get_field(message, field, f'"{prefix}{field.name}"')
        lines += guarded(condition(field.versions, message), body, 8)
        lines.append("        break;")
    lines += ["      default:", "        break;", "    }", f"    d.close_tag(tags, {where});", "  }"]
    return "\n".join([*lines, "}\n"])


def paths(struct, prefix=""):
    """(structure, dotted prefix of its fields), the innermost first."""
    found = []
    for field in struct.fields:
        if field.struct:
            found += paths(field.struct, f"{prefix}{field.name}.")
    return [*found, (struct, prefix)]


def define(message):
    name, parts = message.name, ["namespace {\n"]
    for struct, prefix in paths(message.struct):
        parts += [encoder(message, struct), decoder(message, struct, prefix)]
    parts.append(f"""}}  // namespace

void {name}::encode(Encoder& e, std::int16_t version) const {{
  if (e.begin(kInfo, version)) put(e, version, *this);
}}

Result<{name}> {name}::decode(Decoder& d, std::int16_t version) {{
  Result<{name}> out(std::in_place);
  if (d.begin(kInfo, version)) get(d, version, *out);
  if (!d.ok()) return fail(d.take_error());
  return out;
}}
""")
    return "\n".join(parts)


def source(target, stem, messages):
    return "".join([target.note, f'#include "{target.room}/gen/{stem}.h"\n\n#include <utility>\n\n',
                    target.open, "\n", "\n".join(define(m) for m in messages), target.close])


# --- the table of numbers


def number_table(target, messages):
    numbered = sorted((m for m in messages if m.key is not None and m.kind != "response"),
                      key=lambda m: m.key)
    names = [number_name(m) for m in numbered]
    enum, entry = target.numbers, target.entry
    lines = [target.note, "#pragma once\n\n#include <array>\n#include <cstdint>\n\n", target.open,
             f"\n/// {target.about}\n", f"enum class {enum} : std::int16_t {{\n"]
    lines += [f"  k{name} = {m.key},\n" for name, m in zip(names, numbered)]
    lines += [f"}};\n\n/// One {'API' if entry == 'Api' else entry.lower()}: "
              f"the versions that its codec knows.\nstruct {entry}Info {{\n",
              f"  {enum} key;\n  const char* name;\n  std::int16_t min_version;\n",
              "  std::int16_t max_version;\n  std::int16_t flexible_from;  ///< INT16_MAX = never\n",
              "};\n\n/// By ascending key.\n",
              f"inline constexpr std::array<{entry}Info, {len(numbered)}> k{entry}s{{{{\n"]
    lines += [f'    {{{enum}::k{name}, "{name}", {m.versions.lo}, {m.versions.hi}, '
              f"{m.flexible.lo}}},\n" for name, m in zip(names, numbered)]
    return "".join([*lines, "}};\n", target.close])
