"""What the source tree contains: rooms, as their CMakeLists.txt declare them, and files."""

import dataclasses
import re

KEYWORDS = ("NAME", "SOURCES", "TESTS", "DEPS", "LIBS", "TEST_LIBS", "FUZZERS")
FLAGS = ("PURE",)
# Folders with code of our own. What packages install below them is not ours.
OURS = ("src", "tests", "bench", "scripts", "cmake")
NOT_OURS = {"node_modules", "__pycache__", "build", ".deps", "target", ".venv"}


@dataclasses.dataclass
class Room:
    name: str
    folder: object
    pure: bool = False
    deps: tuple = ()
    tests: tuple = ()
    test_rooms: tuple = ()


def tokens(text):
    return re.findall(r'"[^"]*"|[^\s"]+', re.sub(r"#[^\n]*", "", text))


def parse_rooms(text, folder, ids):
    """The rooms that one CMakeLists.txt declares."""
    rooms = []
    for body in re.findall(r"pyralog_room\s*\(([^)]*)\)", re.sub(r"#[^\n]*", "", text)):
        fields, current, pure = {k: [] for k in KEYWORDS}, None, False
        for token in tokens(body):
            if token in KEYWORDS:
                current = token
            elif token in FLAGS:
                pure, current = True, None
            elif current:
                fields[current].append(token.strip('"'))
        name = fields["NAME"][0] if fields["NAME"] else "?"
        test_rooms = [ids.get(t.removeprefix("pyralog_"), "") for t in fields["TEST_LIBS"]
                      if t.startswith("pyralog_")]
        rooms.append(Room(name, folder, pure, tuple(fields["DEPS"]),
                          tuple(fields["TESTS"] + fields["FUZZERS"]), tuple(filter(None, test_rooms))))
    return rooms


class Tree:
    def __init__(self, root, build):
        self.root = root
        self.build = build
        self.src = root / "src"
        lists = sorted(self.src.rglob("CMakeLists.txt"))
        folders = [p.parent.relative_to(self.src).as_posix() for p in lists if p.parent != self.src]
        ids = {f.replace("/", "_"): f for f in folders}
        self.rooms = {}
        self.declared_in = []
        for path in lists:
            if path.parent == self.src:
                continue
            for room in parse_rooms(path.read_text(encoding="utf-8"), path.parent, ids):
                self.rooms[room.name] = room
                self.declared_in.append((path, room))

    def rel(self, path):
        return path.relative_to(self.root).as_posix()

    def files(self, *suffixes, under=OURS):
        """Our own files with these suffixes, sorted."""
        found = []
        for folder in under:
            base = self.root / folder
            if not base.is_dir():
                continue
            for path in base.rglob("*"):
                parts = path.relative_to(self.root).parts
                if path.suffix in suffixes and path.is_file() and not NOT_OURS.intersection(parts):
                    found.append(path)
        return sorted(found)

    def room_of(self, name):
        """The room that a path below src/ belongs to ("wire/kafka/x.h" -> wire/kafka), or None."""
        parts = name.split("/")[:-1]
        while parts:
            if "/".join(parts) in self.rooms:
                return self.rooms["/".join(parts)]
            parts.pop()
        return None

    def order(self):
        """The rooms in the order of src/CMakeLists.txt."""
        path = self.src / "CMakeLists.txt"
        if not path.exists():
            return []
        match = re.search(r"PYRALOG_ROOM_ORDER([^)]*)\)", re.sub(r"#[^\n]*", "", path.read_text()))
        return tokens(match.group(1)) if match else []
