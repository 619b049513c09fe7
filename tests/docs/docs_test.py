#!/usr/bin/env python3
"""Runs every shell block of README.md and docs/ against the built server.

Blocks are fenced with ```sh or ```console and run in order, one bash session a file, in a temporary
directory and a network namespace of their own, so that the ports in the text stay literal. Info
strings:

  ```sh                      runs; every command must succeed
  ```sh background           is started in the background; the next block runs once it said `ready `
  ```sh no-run=REASON        is not run; only for installing packages and fetching the repository
  ```console                 lines with `$ ` are run, the lines after each are what it prints
                             (a line of `…`, or `…` in a line, stands for anything)

usage: docs_test.py [--root DIR] [--binary FILE] [--self-test] [FILE.md ...]
Exit: 0 green, 1 red, 77 skipped (says what it needs; with CI=true that is 1).
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib

import reference

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import seen  # noqa: E402

FENCE = re.compile(r"^(\s*)(```+)\s*(\S*)\s*(.*?)\s*$")
NO_RUN_ALLOWED = re.compile(r"^(sudo )?(apt-get|apt|git clone|scripts/setup\.sh|cd |#)")
FILE_SECONDS = 300
READY_SECONDS = 120
MARK = "\x01docs-test"


class Block:
    def __init__(self, line, kind, options, text):
        self.line = line
        self.kind = kind
        self.options = options
        self.text = text


def parse(text, name):
    """The blocks of a document, and what is wrong with their info strings."""
    blocks, problems = [], []
    inside = None
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line)
        if inside is None:
            if match and match.group(3) in ("sh", "console", "bash", "shell"):
                if match.group(3) in ("bash", "shell"):
                    problems.append(f"{name}:{number}: fence a shell block with sh or console")
                inside = Block(number, match.group(3), match.group(4), "")
                indent, fence = match.group(1), match.group(2)
                body = []
            elif match and match.group(2):
                inside = Block(number, "other", "", "")
                indent, fence = match.group(1), match.group(2)
                body = []
            continue
        if line.strip() == fence:
            inside.text = "\n".join(body)
            if inside.kind in ("sh", "console"):
                blocks.append(inside)
            inside = None
            continue
        body.append(line[len(indent):] if line.startswith(indent) else line)
    if inside is not None:
        problems.append(f"{name}:{inside.line}: the block is never closed")
    for block in blocks:
        problems += check_options(block, name)
    return blocks, problems


def check_options(block, name):
    options = block.options or ""
    where = f"{name}:{block.line}"
    if options.startswith("no-run"):
        if not options.startswith("no-run=") or len(options) <= len("no-run="):
            return [f"{where}: no-run needs a reason: no-run=REASON"]
        for line in block.text.splitlines():
            if line.strip() and not NO_RUN_ALLOWED.match(line.strip()):
                return [f"{where}: no-run is for installing packages only, not for: {line.strip()}"]
        return []
    if options not in ("", "background"):
        return [f"{where}: unknown info string: {options}"]
    return []


def console_commands(block):
    """[(line number, command, expected lines)] of a console block."""
    commands = []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            commands.append((number, line[2:], []))
        elif line.startswith("> ") and commands and not commands[-1][2]:
            commands[-1] = (commands[-1][0], commands[-1][1] + "\n" + line[2:], [])
        elif commands:
            commands[-1][2].append(line)
    return commands


def script_for(blocks, work):
    """One bash script: the blocks in order, each announced by a mark with its line."""
    out = ["set -eo pipefail", "ip link set lo up"]
    for block in blocks:
        if (block.options or "").startswith("no-run"):
            continue
        if block.options == "background":
            log = work / f"background-{block.line}.log"
            out += [
                f"printf '%s %s\\n' {shlex.quote(MARK)} {block.line}",
                f"( {block.text}\n) </dev/null >{log} 2>&1 &",
                f"docs_pid=$!; docs_left={READY_SECONDS * 10}",
                f"until grep -q '^ready ' {log}; do",
                "  kill -0 $docs_pid 2>/dev/null && [ $docs_left -gt 0 ] || "
                f"{{ echo 'it never said ready:'; tail -n 30 {log}; exit 1; }}",
                "  docs_left=$((docs_left - 1)); sleep 0.1",
                "done",
            ]
        elif block.kind == "console":
            for number, command, _ in console_commands(block):
                out += [f"printf '%s %s\\n' {shlex.quote(MARK)} {number}", command]
        else:
            out += [f"printf '%s %s\\n' {shlex.quote(MARK)} {block.line}", block.text]
    out += [f"printf '%s done\\n' {shlex.quote(MARK)}", "jobs -p | xargs -r kill 2>/dev/null || true",
            "wait 2>/dev/null || true", "exit 0"]
    return "\n".join(out) + "\n"


def matches(expected, actual):
    """Whether the printed lines are the expected ones; `…` stands for anything."""
    pattern = "\n".join(re.escape(line.rstrip()).replace("…", "[^\\n]*") for line in expected)
    pattern = re.sub(r"(^|\n)\[\^\\n\]\*(?=\n|$)", r"\1(?:[^\\0]*)", pattern)
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in actual).strip("\n")) is not None


def split_output(text):
    """{line number as text: lines printed after that mark}, and the last mark seen."""
    pieces, last = {}, None
    for line in text.splitlines():
        if line.startswith(MARK):
            last = line[len(MARK):].strip()
            pieces[last] = []
        elif last is not None:
            pieces[last].append(line)
    return pieces, last


def isolation():
    """The command prefix that gives a network of its own, or None and what it would need."""
    for flags in (["--net", "--pid", "--fork", "--kill-child", "--mount-proc"],
                  ["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]):
        probe = ["unshare", *flags, "sh", "-c", "ip link set lo up"]
        try:
            if subprocess.run(probe, capture_output=True, timeout=20).returncode == 0:
                return ["unshare", *flags], ""
        except (OSError, subprocess.TimeoutExpired):
            pass
    return None, "a network namespace (root, or unprivileged user namespaces) and iproute2"


def make_shims(work, root, binary):
    """`make` acts on the repository, its data stays in the temporary directory."""
    shims = work / "shims"
    shims.mkdir()
    make = shutil.which("make") or "/usr/bin/make"
    (shims / "make").write_text(f"#!/bin/sh\nexec {make} --no-print-directory -C {shlex.quote(str(root))} \"$@\"\n")
    (shims / "make").chmod(0o755)
    if binary:
        (work / "here" / "build" / "release").mkdir(parents=True)
        (work / "here" / "build" / "release" / "pyralog").symlink_to(binary)
        (shims / "pyralog").symlink_to(binary)
    return shims


def run_document(path, name, root, binary, prefix):
    """Runs one document; returns what went wrong."""
    blocks, problems = parse(path.read_text(encoding="utf-8"), name)
    if problems or not blocks:
        return problems, 0
    runnable = [b for b in blocks if not (b.options or "").startswith("no-run")]
    if not runnable:
        return [], 0
    with tempfile.TemporaryDirectory(prefix="pyralog-docs-") as tmp:
        work = pathlib.Path(tmp)
        (work / "here").mkdir()
        shims = make_shims(work, root, binary)
        script = work / "script.sh"
        script.write_text(script_for(blocks, work), encoding="utf-8")
        env = dict(os.environ, PATH=f"{shims}:{os.environ['PATH']}:/usr/sbin:/sbin",
                   PYRALOG_DATA_DIR=str(work / "here" / "data"), HOME=str(work), LC_ALL="C.UTF-8")
        for key in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            env.pop(key, None)
        try:
            run = subprocess.run([*prefix, "bash", str(script)], cwd=work / "here", env=env,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, timeout=FILE_SECONDS)
            output, code = run.stdout.decode("utf-8", "replace"), run.returncode
        except subprocess.TimeoutExpired as late:
            output, code = (late.stdout or b"").decode("utf-8", "replace"), "no end within its time"
    pieces, last = split_output(output)
    if last != "done":
        tail = "\n    ".join(pieces.get(last, output.splitlines())[-20:])
        return [f"{name}:{last or '?'}: the block failed (exit {code})\n    {tail}"], len(runnable)
    for block in runnable:
        if block.kind != "console":
            continue
        for number, _, expected in console_commands(block):
            actual = pieces.get(str(number), [])
            if expected and not matches(expected, actual):
                problems.append(f"{name}:{number}: printed\n    " + "\n    ".join(actual) +
                                "\n  where the text says\n    " + "\n    ".join(expected))
    return problems, len(runnable)


def build_first(root, files):
    """What `make run` in the documents would build is built before their time runs: with sources that are
    newer than the binary each of them would only say that the server was never ready."""
    if not any("make run" in path.read_text(encoding="utf-8") for path in files):
        return []
    build = subprocess.run([str(root / "scripts/build.sh"), "release", "pyralog"], cwd=root,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if build.returncode == 0:
        return []
    return ["`make run` of the documents cannot build:\n" + (build.stdout + build.stderr)[-3000:]]


def check_configuration(root, binary):
    """docs/configuration.md is what the binary prints."""
    path = root / "docs" / "configuration.md"
    if not path.exists():
        return ["docs/configuration.md is missing; make it with "
                "`pyralog config reference --markdown > docs/configuration.md`"]
    run = subprocess.run([str(binary), "config", "reference", "--markdown"], capture_output=True,
                         timeout=30)
    if run.returncode != 0:
        return ["`pyralog config reference --markdown` failed: " + run.stderr.decode()]
    if run.stdout.decode("utf-8") != path.read_text(encoding="utf-8"):
        return ["docs/configuration.md is not current; make it anew with "
                "`pyralog config reference --markdown > docs/configuration.md`"]
    return []


def check_apis(table, schemas):
    """The table of APIs (| key | name | a–b | …) says what the schemas (`api KEY NAME a-b`) do."""
    shown = re.findall(r"^\| (\d+) \| (\w+) \| (\d+)–(\d+) \|", table, re.M)
    served = re.findall(r"^api (\d+) (\w+) (\d+)-(\d+)", schemas, re.M)
    wrong = sorted(set(shown) ^ set(served), key=lambda api: int(api[0]))
    problems = [f"docs/kafka-compatibility.md: {api[1]} {api[2]}–{api[3]} is "
                + ("served, not shown" if api in served else "shown, not served") for api in wrong]
    return problems if shown else problems + ["docs/kafka-compatibility.md has no table of APIs"]


def pinned_clients(root):
    """{client as the page calls it: the version that tests/clients installs}."""
    folder = root / "tests/clients"
    python = dict(re.findall(r"^([\w-]+)==([\d.]+)", (folder / "requirements.txt").read_text(), re.M))
    java = re.search(r"<artifactId>kafka-clients</artifactId>\s*<version>([\d.]+)<", (folder / "pom.xml").read_text())
    return {"confluent-kafka for Python": python["confluent-kafka"], "kafka-python": python["kafka-python"],
            "kafkajs": json.loads((folder / "package.json").read_text())["dependencies"]["kafkajs"],
            "Java kafka-clients": java.group(1)}


def check_compatibility(root):
    """The tables of APIs and of clients are those of the schemas, of the scenario and of what is installed."""
    page = (root / "docs/kafka-compatibility.md").read_text(encoding="utf-8")
    schemas = "\n".join(p.read_text() for p in sorted(root.glob("src/wire/kafka/schema/*.msg")))
    problems = check_apis(page, schemas)
    served = {int(key): (name, int(low), int(high))
              for key, name, low, high in re.findall(r"^api (\d+) (\w+) (\d+)-(\d+)", schemas, re.M)}
    scenario = tomllib.loads((root / "tests/e2e/scenario.toml").read_text(encoding="utf-8"))
    problems += seen.check(page, list(scenario["client"]), served)
    for client, version in pinned_clients(root).items():
        if f"\n| {client} | {version} |\n" not in page:
            problems.append(f"docs/kafka-compatibility.md does not say that {client} is tried in {version}")
    return problems


def check_links(root, files):
    """Relative links of the documents lead to something."""
    problems = []
    for path in files:
        in_code = False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.lstrip().startswith("```"):
                in_code = not in_code
            if in_code:
                continue
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", line):
                if "://" in target or target.startswith("mailto:"):
                    continue
                if not (path.parent / target).exists():
                    problems.append(f"{path.relative_to(root)}:{number}: no such file: {target}")
    return problems


def documents(root):
    files = [root / "README.md"] if (root / "README.md").exists() else []
    return files + sorted((root / "docs").rglob("*.md"))


SELF_TESTS = [
    # (what, text, part of the complaint or None for green)
    ("a failing block", "# a\n```sh\ntrue\n```\ntext\n```sh\nfalse\n```\n", "t.md:6"),
    ("a failing first command", "```sh\nfalse\ntrue\n```\n", "t.md:1"),
    ("a failing pipe", "```sh\nfalse | cat\n```\n", "t.md:1"),
    ("an unknown command", "```sh\npyralog-no-such-command\n```\n", "t.md:1"),
    ("no-run without reason", "```sh no-run\napt-get install x\n```\n", "needs a reason"),
    ("no-run for more than packages", "```sh no-run=slow\nmake test\n```\n", "installing packages"),
    ("a background that never says ready", "```sh background\ntrue\n```\n", "never said ready"),
    ("a wrong output", "```console\n$ echo one\ntwo\n```\n", "t.md:2"),
    ("an open block", "```sh\ntrue\n", "never closed"),
    ("a bash fence", "```bash\ntrue\n```\n", "sh or console"),
    ("green: variables live on", "```sh\nx=1\n```\n```sh\ntest $x = 1\n```\n", None),
    ("green: output", "```console\n$ echo a b c\na … c\n$ printf '1\\n2\\n3\\n'\n1\n…\n3\n```\n", None),
    ("green: background", "```sh background\necho ready now; sleep 30\n```\n```sh\ntrue\n```\n", None),
    ("green: other languages", "```toml\nfalse\n```\n```sh no-run=packages\nsudo apt-get install x\n```\n",
     None),
    ("green: an own network", "```sh\n! (exec 3<>/dev/tcp/127.0.0.1/9092) 2>/dev/null\n```\n", None),
]


def self_test(prefix):
    problems = []
    with tempfile.TemporaryDirectory(prefix="pyralog-docs-self-") as tmp:
        root = pathlib.Path(tmp)
        for what, text, complaint in SELF_TESTS:
            (root / "t.md").write_text(text, encoding="utf-8")
            found, _ = run_document(root / "t.md", "t.md", root, None, prefix)
            said = "\n".join(found)
            if complaint is None and found:
                problems.append(f"self-test: {what}: should be green, was: {said}")
            if complaint is not None and complaint not in said:
                problems.append(f"self-test: {what}: should say '{complaint}', said: {said or 'nothing'}")
        (root / "l.md").write_text("[x](gone.md) [y](t.md)\n", encoding="utf-8")
        if len(check_links(root, [root / "l.md"])) != 1:
            problems.append("self-test: a dead link is not found")
    if len(check_apis("| 1 | A | 0–3 |\n| 2 | B | 0–1 |\n", "api 1 A 0-4 x\napi 2 B 0-1 x\n")) != 2:
        problems.append("self-test: an API with other versions is not found")
    table = ["| key | API | a | b |", "|---|---|---|---|", "| 1 | A | 0, 3 | – |", "| 2 | B | 1 | 7 |"]
    served = {1: ("A", 0, 3), 2: ("B", 0, 5), 3: ("C", 0, 0)}
    if len(seen.check("\n".join(table), ["a", "b"], served)) != 2:
        problems.append("self-test: an API without a row, or a version that is not served, is not found")
    if len(seen.differences("\n".join(table), ["a", "b"], {"a": {1: {3}, 2: {1, 2}}, "b": {1: {0}}})) != 2:
        problems.append("self-test: what a client uses and the page does not say is not found")
    return problems + reference.self_test()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=str(pathlib.Path(__file__).resolve().parents[2]))
    parser.add_argument("--binary")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("files", nargs="*")
    args = parser.parse_args()
    root = pathlib.Path(args.root).resolve()

    prefix, needs = isolation()
    if prefix is None:
        print(f"docs_test: {'failed' if os.environ.get('CI') == 'true' else 'skipped'}: needs {needs}")
        return 1 if os.environ.get("CI") == "true" else 77

    if args.self_test:
        problems = self_test(prefix)
        print("\n".join(problems) or f"docs_test: self-test: all {len(SELF_TESTS) + 2} caught")
        return 1 if problems else 0

    binary = pathlib.Path(args.binary or root / "build" / "release" / "pyralog").resolve()
    if not binary.exists():
        print(f"docs_test: {binary} is missing; build it with `make`")
        return 1
    files = [pathlib.Path(f).resolve() for f in args.files] or documents(root)
    broken = build_first(root, files)
    if broken:
        print("docs_test: " + broken[0])
        return 1
    problems, count = check_links(root, files), 0
    for path in files:
        name = str(path.relative_to(root))
        found, ran = run_document(path, name, root, binary, prefix)
        print(f"{'red  ' if found else 'green'} {name}: {ran} blocks")
        problems += found
        count += ran
    if not args.files:
        problems += check_configuration(root, binary)
        problems += check_compatibility(root)
        problems += reference.check(root)
    print("\n".join(problems))
    print(f"docs_test: {count} blocks of {len(files)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
