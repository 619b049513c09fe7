"""The rules. Each takes a Tree and returns its complaints, each naming the thing and the remedy."""

import ast
import concurrent.futures
import hashlib
import json
import pathlib
import re
import shlex
import subprocess

import cxx
from symbols import waits

MAX_FILE = 800
MAX_FUNCTION = 100
MAX_README = 80

# Bottom up; "x/*" stands for any room below x.
ORDER = ("base model wire/* producer group txn algebra catalog raft lang/* "
         "io io/posix io/sim observe journal obelisk pphm log lsm client peer multiraft replica "
         "cluster kv broker view query protocol/* server cli").split()
PURE = "base model wire/* producer group txn algebra catalog raft lang/*".split()
ASIO_ROOMS = ("io/posix", "protocol/http")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def place(name):
    """Where a room stands in the house, or None."""
    for pattern in (name, name.split("/")[0] + "/*"):
        if pattern in ORDER:
            return ORDER.index(pattern)
    return None


def is_pure(name):
    return name in PURE or name.split("/")[0] + "/*" in PURE


def read(path):
    return path.read_text(encoding="utf-8", errors="replace")


def sources(tree):
    return tree.files(".h", ".cc", under=("src",))


def is_test_support(name):
    """What only tests include: testing.h, group_testing.h, fake_broker.cc … go by `testing` or `fake_`."""
    stem = name.rsplit(".", 1)[0]
    return stem.endswith("testing") or stem.startswith("fake_")


def includes(tree):
    """A room includes only what it names, and base and model; io and observe if it is not pure."""
    found = []
    for path in sources(tree):
        name = path.relative_to(tree.src).as_posix()
        room = tree.room_of(name)
        if room is None:
            continue
        allowed = {room.name, "base", "model", *room.deps}
        if not is_pure(room.name):
            allowed |= {"io", "observe"}
        for_tests = (path.name.endswith("_test.cc") or path.name in room.tests or
                     path.name.startswith("fuzz_") or is_test_support(path.name))
        if for_tests:
            allowed |= set(room.test_rooms)
        for included in INCLUDE.findall(read(path)):
            if not for_tests and is_test_support(included.split("/")[-1]):
                found.append(f"src/{name}: includes {included}, which is for tests")
            other = tree.room_of(included)
            if other is None:
                if "/" not in included:
                    found.append(f'src/{name}: write #include "{room.name}/{included}"')
                continue
            if other.name not in allowed:
                found.append(f"src/{name}: includes {included}, but room {room.name} does not name "
                             f"{other.name} in its DEPS")
    return found


def order(tree):
    """Rooms are listed bottom up and use only rooms below them; pure rooms use only pure ones."""
    found, listed = [], tree.order()
    for name in tree.rooms:
        if name not in listed:
            found.append(f"src/CMakeLists.txt: does not list room {name}")
    for name in listed:
        if place(name) is None:
            found.append(f"src/CMakeLists.txt: {name} has no place in the house")
    known = [name for name in listed if place(name) is not None]
    for first, second in zip(known, known[1:]):
        if place(first) > place(second):
            found.append(f"src/CMakeLists.txt: {second} belongs above {first} in the list")
    for room in tree.rooms.values():
        for dep in room.deps:
            if dep not in tree.rooms:
                found.append(f"room {room.name}: names {dep}, which does not exist")
            elif room.name in listed and dep in listed and listed.index(dep) >= listed.index(room.name):
                found.append(f"room {room.name}: names {dep}, which does not stand below it")
            elif is_pure(room.name) and not is_pure(dep):
                found.append(f"room {room.name}: is pure and names {dep}, which is not")
        if room.pure != is_pure(room.name):
            found.append(f"room {room.name}: {'must' if is_pure(room.name) else 'must not'} be PURE")
    return found


def folders(tree):
    """Every folder with code is one room, declared by its own CMakeLists.txt under its path."""
    found = []
    for path, room in tree.declared_in:
        if room.name != path.parent.relative_to(tree.src).as_posix():
            found.append(f"{tree.rel(path)}: declares a room {room.name}; name it as its folder")
    for folder in sorted({p.parent for p in sources(tree)}):
        name = folder.relative_to(tree.src).as_posix()
        if name not in tree.rooms:
            found.append(f"src/{name}: has code but is no room; give it a CMakeLists.txt with "
                         f"pyralog_room(NAME {name} …) or move the code")
    return found


def readmes(tree):
    """Every room says on a page what it owns."""
    found = []
    for room in tree.rooms.values():
        path = room.folder / "README.md"
        if not path.exists():
            found.append(f"src/{room.name}: has no README.md")
        elif len(read(path).splitlines()) > MAX_README:
            found.append(f"src/{room.name}/README.md: is longer than a page ({MAX_README} lines)")
    return found


def pure(tree):
    """The library of a pure room imports nothing that waits."""
    found = []
    for room in tree.rooms.values():
        if not is_pure(room.name):
            continue
        name = f"libpyralog_{room.name.replace('/', '_')}.a"
        library = next(iter(sorted(tree.build.rglob(name))), None)
        has_code = any(p.suffix == ".cc" and not p.name.endswith("_test.cc") and
                       not p.name.startswith("fuzz_") for p in room.folder.iterdir())
        if library is None:
            if has_code:
                found.append(f"room {room.name}: {name} is not built in {tree.build}")
            continue
        run = subprocess.run(["nm", "-u", "--format=posix", str(library)], capture_output=True, text=True)
        if run.returncode != 0:
            found.append(f"room {room.name}: nm failed: {run.stderr.strip()}")
        for symbol in sorted({line.split()[0] for line in run.stdout.splitlines()
                              if len(line.split()) > 1 and line.split()[1] in "Uw"}):
            reason = waits(symbol, room.name)
            if reason:
                found.append(f"room {room.name}: is pure but imports {symbol} ({reason})")
    return found


def asio(tree):
    """Asio stays in the two rooms that own an event loop."""
    found = []
    for path in sources(tree):
        room = tree.room_of(path.relative_to(tree.src).as_posix())
        if room is not None and room.name in ASIO_ROOMS:
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            if re.search(r"boost/(asio|beast)\b|\bboost::(asio|beast)\b", line):
                found.append(f"{tree.rel(path)}:{number}: Asio belongs into {' and '.join(ASIO_ROOMS)}")
                break
    return found


def file_length(tree):
    """A file is one idea."""
    found = []
    for path in tree.files(".h", ".cc", ".c", ".cpp", ".py", ".sh", ".js", ".java", ".cmake"):
        lines = read(path).count("\n")
        if lines > MAX_FILE:
            found.append(f"{tree.rel(path)}: {lines} lines; split it (at most {MAX_FILE})")
    return found


def function_length(tree):
    """A function fits a screen or two."""
    found = []
    for path in tree.files(".h", ".cc", ".py"):
        text = read(path)
        if path.suffix == ".py":
            measured = [(node.lineno, node.end_lineno - node.lineno + 1)
                        for node in ast.walk(ast.parse(text))
                        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        else:
            measured = cxx.functions(text)
        for first, length in measured:
            if length > MAX_FUNCTION:
                found.append(f"{tree.rel(path)}:{first}: a function of {length} lines; split it "
                             f"(at most {MAX_FUNCTION})")
    return found


def named_sources(tree):
    """The source files that any CMakeLists.txt names."""
    named = set()
    for lists in [tree.root / "CMakeLists.txt", *(p for f in ("src", "tests", "bench")
                                                  for p in (tree.root / f).rglob("CMakeLists.txt"))]:
        if not lists.exists():
            continue
        for token in re.findall(r"[^\s()\"]+\.cc\b", re.sub(r"#[^\n]*", "", read(lists))):
            folder = tree.root if token.startswith("${PROJECT_SOURCE_DIR}") else lists.parent
            named.add((folder / re.sub(r"^\$\{\w+\}/", "", token)).resolve())
    return named


def used(tree):
    """Every source file belongs to a target, every header is included somewhere."""
    found, included, named = [], set(), named_sources(tree)
    every = tree.files(".h", ".cc")
    for path in every:
        included |= {i.split("/")[-1] for i in INCLUDE.findall(read(path))}
    for path in every:
        if path.suffix == ".h" and path.name not in included:
            found.append(f"{tree.rel(path)}: nothing includes it; remove it")
        if path.suffix == ".cc" and path.resolve() not in named:
            found.append(f"{tree.rel(path)}: no target uses it; name it in CMakeLists.txt or remove it")
    return found


def unfinished(tree):
    """What is committed is finished."""
    found = []
    words = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "H" + "ACK")) + r")\b")
    for path in tree.files(".h", ".cc", ".py", ".sh", ".js", ".java", ".cmake"):
        for number, line in enumerate(read(path).splitlines(), 1):
            match = words.search(line)
            if match:
                found.append(f"{tree.rel(path)}:{number}: says {match.group(1)}; finish it")
    return found


def compile_flags(tree):
    """{folder: flags} of the compile commands, without input and output, and any set of flags."""
    path = tree.build / "compile_commands.json"
    flags = {}
    if not path.exists():
        return flags
    for entry in json.loads(read(path)):
        words = shlex.split(entry["command"]) if "command" in entry else entry["arguments"]
        while words and ("ccache" in pathlib.Path(words[0]).name or words[0].startswith("CCACHE_")):
            words = words[1:]
        kept, skip = [], False
        for word in words:
            if skip:
                skip = False
            elif word in ("-o", "-MF", "-MT", "-MQ"):
                skip = True
            elif word not in ("-c", "-MD", "-MMD") and word != entry["file"]:
                kept.append(word)
        flags.setdefault(pathlib.Path(entry["file"]).parent, (kept, entry["directory"]))
    return flags


def closure(tree, path, seen):
    """The file and all of our headers that it reaches."""
    if path in seen or not path.exists():
        return seen
    seen.add(path)
    for included in INCLUDE.findall(read(path)):
        closure(tree, tree.src / included, seen)
    return seen


def proved_by_source(tree):
    """Headers that a source file includes before anything else: that file compiles, so they do."""
    proved = set()
    for path in tree.files(".cc", under=("src",)):
        first = re.search(r'^\s*#\s*(?:include\s*(["<])([^">]+)|if|define|pragma)', read(path), re.M)
        if first and first.group(1) == '"':
            proved.add(tree.src / first.group(2))
    return proved


def headers_alone(tree):
    """Every header compiles alone. What compiled once is remembered by content."""
    flags = compile_flags(tree)
    proved = proved_by_source(tree)
    headers = [h for h in tree.files(".h", under=("src",)) if h not in proved]
    if headers and not flags:
        return [f"{tree.build}/compile_commands.json is missing; configure the build first"]
    cache = tree.build / "house-headers"
    cache.mkdir(parents=True, exist_ok=True)
    # A room of headers only takes any room's flags, with every folder that is searched for headers.
    anything = next(iter(flags.values()), None)
    if anything:
        searched = [w for words, _ in flags.values() for w in words if w.startswith("-I")]
        anything = (anything[0] + sorted(set(searched) - set(anything[0])), anything[1])

    def compile_one(path):
        words, directory = flags.get(path.parent, anything)
        digest = hashlib.sha256(" ".join(words).encode())
        for part in sorted(closure(tree, path, set())):
            digest.update(part.read_bytes())
        mark = cache / digest.hexdigest()
        if mark.exists():
            return None
        run = subprocess.run(["nice", *words, "-fsyntax-only", "-x", "c++", "-Wno-pragma-once-outside-header",
                              "-Wno-unused-const-variable", str(path)], cwd=directory,
                             capture_output=True, text=True)
        if run.returncode == 0:
            mark.touch()
            return None
        first = next((l for l in run.stderr.splitlines() if "error" in l), run.stderr.strip()[:300])
        return f"{tree.rel(path)}: does not compile alone: {first}"

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return [said for said in pool.map(compile_one, headers) if said]


RULES = {
    "includes": includes,
    "order": order,
    "folders": folders,
    "readmes": readmes,
    "pure": pure,
    "asio": asio,
    "file_length": file_length,
    "function_length": function_length,
    "used": used,
    "unfinished": unfinished,
    "headers_alone": headers_alone,
}
