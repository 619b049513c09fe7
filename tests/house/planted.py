"""A small good tree, and one violation of it for every rule."""

import json
import shutil
import subprocess

NEED_BUILD = {"pure", "headers_alone"}

GOOD = {
    "src/CMakeLists.txt": "set(PYRALOG_ROOM_ORDER base model wire/kafka io observe log)\n",
    "src/base/CMakeLists.txt": "pyralog_room(NAME base PURE SOURCES base.cc)\n",
    "src/base/README.md": "# base\n",
    "src/base/base.h": "#pragma once\nnamespace pyralog {\nint one();\n}\n",
    "src/base/base.cc": '#include "base/base.h"\n#include <cstdio>\n#include <cstdlib>\n'
                        "int pyralog::one() {\n  std::fputs(std::getenv(\"X\"), stderr);\n  return 1;\n}\n",
    "src/wire/kafka/CMakeLists.txt": "pyralog_room(NAME wire/kafka PURE SOURCES codec.cc)\n",
    "src/wire/kafka/README.md": "# wire/kafka\n",
    "src/wire/kafka/codec.h": "#pragma once\n#include \"base/base.h\"\nstruct Codec {\n  int x = 0;\n};\n",
    "src/wire/kafka/codec.cc": '#include "wire/kafka/codec.h"\nint codec() { return Codec{}.x; }\n',
    "src/io/CMakeLists.txt": "pyralog_room(NAME io)\n",
    "src/io/README.md": "# io\n",
    "src/io/clock.h": "#pragma once\nstruct Clock {};\n",
    "src/log/CMakeLists.txt": "# a comment (with a bracket)\npyralog_room(NAME log SOURCES log.cc\n"
                              "  TESTS log_test.cc DEPS wire/kafka TEST_LIBS pyralog_io)\n",
    "src/log/README.md": "# log\n",
    "src/log/log.cc": '#include "io/clock.h"\n#include "wire/kafka/codec.h"\nint log_it() { return 1; }\n',
    "src/log/log_test.cc": '#include "base/base.h"\nint main() { return 0; }\n',
}

LONG_BODY = "".join(f"  x += {i};\n" for i in range(120))
LONG_TABLE = "int kTable[] = {\n" + "".join(f"  f({i}),\n" for i in range(120)) + "};\n"

# rule, what is planted, files, a part of what must be said
BAD = [
    ("includes", "a room that is not named",
     {"src/log/CMakeLists.txt": "pyralog_room(NAME log SOURCES log.cc TESTS log_test.cc)\n"},
     "does not name wire/kafka"),
    ("includes", "a pure room that includes io",
     {"src/wire/kafka/codec.cc": '#include "io/clock.h"\nint codec() { return 0; }\n'},
     "does not name io"),
    ("includes", "an include without its room",
     {"src/log/log.cc": '#include "log.h"\n', "src/log/log.h": "#pragma once\n"}, 'write #include "log/log.h"'),
    ("includes", "code that uses what is for tests",
     {"src/log/log.cc": '#include "log/log_testing.h"\n', "src/log/log_testing.h": "#pragma once\n"},
     "which is for tests"),
    ("order", "a room that nobody lists",
     {"src/CMakeLists.txt": "set(PYRALOG_ROOM_ORDER base model io observe log)\n"}, "does not list room wire/kafka"),
    ("order", "a room above its user",
     {"src/CMakeLists.txt": "set(PYRALOG_ROOM_ORDER base model log wire/kafka io observe)\n"},
     "which does not stand below it"),
    ("order", "a list that is not bottom up",
     {"src/CMakeLists.txt": "set(PYRALOG_ROOM_ORDER model base wire/kafka io observe log)\n"},
     "base belongs above model"),
    ("order", "a room without a place",
     {"src/CMakeLists.txt": "set(PYRALOG_ROOM_ORDER base utils wire/kafka io observe log)\n"},
     "utils has no place"),
    ("order", "a pure room over one that waits",
     {"src/CMakeLists.txt": "set(PYRALOG_ROOM_ORDER base io model wire/kafka observe log)\n",
      "src/wire/kafka/CMakeLists.txt": "pyralog_room(NAME wire/kafka PURE SOURCES codec.cc DEPS io)\n"},
     "is pure and names io"),
    ("order", "a pure room that does not say so",
     {"src/wire/kafka/CMakeLists.txt": "pyralog_room(NAME wire/kafka SOURCES codec.cc)\n"}, "must be PURE"),
    ("folders", "a folder that is no room", {"src/log/deep/x.cc": "int x;\n"}, "is no room"),
    ("folders", "a room under another name",
     {"src/io/CMakeLists.txt": "pyralog_room(NAME ios)\n"}, "name it as its folder"),
    ("readmes", "a long README", {"src/io/README.md": "line\n" * 200}, "longer than a page"),
    ("readmes", "no README", {"src/io/README.md": None}, "has no README.md"),
    ("pure", "a clock",
     {"src/wire/kafka/codec.cc": "#include <chrono>\nlong codec() {\n  return "
                                 "std::chrono::steady_clock::now().time_since_epoch().count();\n}\n"}, "(clock)"),
    ("pure", "a file",
     {"src/wire/kafka/codec.cc": "#include <fcntl.h>\nint codec() { return open(\"x\", 0); }\n"}, "(file)"),
    ("pure", "a file stream",
     {"src/wire/kafka/codec.cc": "#include <fstream>\nbool codec() { return std::ifstream(\"x\").good(); }\n"},
     "(file)"),
    ("pure", "a socket",
     {"src/wire/kafka/codec.cc": "#include <sys/socket.h>\nint codec() { return socket(1, 1, 0); }\n"}, "(socket)"),
    ("pure", "a thread",
     {"src/wire/kafka/codec.cc": "#include <thread>\nvoid codec() { std::thread([] {}).join(); }\n"}, "(thread)"),
    ("pure", "a lock",
     {"src/wire/kafka/codec.cc": "#include <mutex>\nstd::mutex m;\nvoid codec() { std::lock_guard g(m); }\n"},
     "(thread)"),
    ("pure", "chance",
     {"src/wire/kafka/codec.cc": "#include <random>\nunsigned codec() { return std::random_device{}(); }\n"},
     "(random)"),
    ("pure", "printing outside base",
     {"src/wire/kafka/codec.cc": "#include <cstdio>\nvoid codec() { std::fputs(\"x\", stderr); }\n"}, "(file)"),
    ("asio", "Asio in a room", {"src/log/log.cc": "#include <boost/asio/ip/tcp.hpp>\n"}, "src/log/log.cc:1"),
    ("file_length", "a long file", {"src/log/log.cc": "// x\n" * 900}, "900 lines"),
    ("file_length", "a long script", {"scripts/x.sh": "true\n" * 900}, "900 lines"),
    ("function_length", "a long function",
     {"src/log/log.cc": "namespace a {\nint f(int x)\n    noexcept {\n" + LONG_BODY + "  return x;\n}\n}\n"},
     "src/log/log.cc:2: a function of 124 lines"),
    ("function_length", "a long constructor",
     {"src/log/log.cc": "A::A(int x) : x(x), y{x} {\n" + LONG_BODY + "}\n"}, "src/log/log.cc:1"),
    ("function_length", "a long member",
     {"src/log/log.cc": "class A {\n public:\n  auto f() const -> int {\n" + LONG_BODY + "}\n};\n"},
     "src/log/log.cc:3"),
    ("function_length", "a long test",
     {"src/log/log_test.cc": "TEST(A, b) {\n  const char* s = R\"({{{)\"; char c = '{'; // {\n" + LONG_BODY + "}\n"},
     "src/log/log_test.cc:1"),
    ("function_length", "a long Python function",
     {"tests/x.py": "def f():\n" + "    pass\n" * 120}, "tests/x.py:1"),
    ("used", "a file without a target", {"src/log/stray.cc": "int stray;\n"}, "src/log/stray.cc: no target"),
    ("used", "a header without a user", {"src/log/stray.h": "#pragma once\n"}, "nothing includes it"),
    ("unfinished", "a loose end", {"src/log/log.cc": "// TO" + "DO: later\n"}, "src/log/log.cc:1"),
    ("headers_alone", "a header that needs another",
     {"src/log/needy.h": "#pragma once\nstd::string name();\n"}, "src/log/needy.h: does not compile alone"),
]

# What stays green although it looks like a violation.
GOOD["src/log/table.cc"] = LONG_TABLE + "class B {\n" + "  void f() {}\n" * 120 + "};\n"
GOOD["src/log/CMakeLists.txt"] = GOOD["src/log/CMakeLists.txt"].replace("log.cc\n", "log.cc table.cc\n")


def write(root, files):
    for name, text in files.items():
        if text is None:
            continue
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def compiler():
    for name in ("clang++-22", "clang++-21", "clang++-20", "clang++-19", "clang++"):
        if shutil.which(name):
            return name
    raise SystemExit("house_test: no clang++ here; run scripts/setup.sh run")


def build(root):
    """The two pure libraries and the compile commands, as the real build leaves them."""
    out = root / "build"
    out.mkdir()
    cxx = compiler()
    commands = []
    for room in ("base", "wire/kafka"):
        objects = []
        for source in sorted((root / "src" / room).glob("*.cc")):
            target = out / (source.stem + ".o")
            words = [cxx, f"-I{root / 'src'}", "-std=c++23", "-O1", "-o", str(target), "-c", str(source)]
            subprocess.run(words, check=True)
            objects.append(str(target))
            commands.append({"directory": str(out), "command": " ".join(words), "file": str(source)})
        library = out / f"libpyralog_{room.replace('/', '_')}.a"
        subprocess.run(["ar", "rcs", str(library), *objects], check=True)
    (out / "compile_commands.json").write_text(json.dumps(commands), encoding="utf-8")
