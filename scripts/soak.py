#!/usr/bin/env python3
"""Runs the full counts of the tests, in parts that run and resume alone; writes docs/soak.md.

usage: scripts/soak.py [--list] [--again] [--no-build] [PART ...]

Parts are the tables of tests/soak.toml. Each is a command of a build, run with PYRALOG_SOAK=1 and
the part's own environment. A test says what it did in lines of the form

    soak: NAME count=20000 seeds=1..20000

one row each; a part that prints none gives one row of its own. A part is red, too, if a test did
nothing (count=0), or if no row and no count of tests that passed shows that any test ran. A part that
ended green at this commit is not run again unless --again is given. What a part printed is in
build/soak/PART.log.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
STATE = ROOT / "build" / "soak"
PAGE = ROOT / "docs" / "soak.md"
LINE = re.compile(r"soak: (\S+) count=(\d+)(?: seeds=(\S+))?")
# What ctest, GoogleTest and our own scripts say of tests that passed.
PASSED = re.compile(r"^(?: *\d+/\d+ Test +#\d+: .*?\bPassed\b|(?:\d+: )?\[  PASSED  \] [1-9]\d* tests?"
                    r"|(?:\d+: )?[1-9]\d* passed, \d+ failed)", re.MULTILINE)
HEAD = """# Soak

What was tested how often. `make soak` runs the full counts in parts that run and resume alone and
writes this page.

| test | count | seeds | minutes | commit | result |
|---|---|---|---|---|---|
"""


def commit():
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "src", "tests", "cmake", "CMakeLists.txt")
    return git("rev-parse", "--short=10", "HEAD") + ("+" if dirty else "")


def load():
    with open(ROOT / "tests" / "soak.toml", "rb") as file:
        return tomllib.load(file)


def state(part):
    path = STATE / f"{part}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def command_of(part):
    if "ctest" in part:
        return ["ctest", "--test-dir", f"build/{part['build']}", *part["ctest"], "--no-tests=error",
                "-V", "--timeout", str(part.get("minutes", 60) * 60)]
    return ["bash", "-c", part["command"]]


def nothing_ran(output):
    """What shows that a part, or a test of it, did nothing; empty if all did something."""
    found = LINE.findall(output)
    idle = [test for test, count, _ in found if int(count) == 0]
    if idle:
        return f"nothing ran in {', '.join(dict.fromkeys(idle))}"
    return "" if found or PASSED.search(output) else "no test ran"


def run(name, part, here):
    """Runs one part and keeps its rows."""
    env = dict(os.environ, PYRALOG_SOAK="1", **{k: str(v) for k, v in part.get("env", {}).items()})
    log = STATE / f"{name}.log"
    limit = part.get("minutes", 60) * 60 + 60
    start = time.monotonic()
    with open(log, "wb") as out:
        try:
            code = subprocess.run(["nice", *command_of(part)], cwd=ROOT, env=env, stdout=out,
                                  stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            code = "no end within its time"
    minutes = (time.monotonic() - start) / 60
    output = log.read_text(encoding="utf-8", errors="replace")
    found = LINE.findall(output)
    if not found:
        found = [(name, str(part.get("count", "")), str(part.get("seeds", "")))]
    nothing = nothing_ran(output)
    result = f"red (exit {code})" if code != 0 else f"red ({nothing})" if nothing else "green"
    rows = [{"test": test, "count": count, "seeds": seeds} for test, count, seeds in dict.fromkeys(found)]
    kept = {"commit": here, "result": result, "minutes": round(minutes, 1), "rows": rows,
            "date": datetime.date.today().isoformat()}
    (STATE / f"{name}.json").write_text(json.dumps(kept, indent=1))
    return result == "green"


def write_page(parts):
    lines = []
    for name in parts:
        kept = state(name)
        for index, row in enumerate(kept.get("rows", [])):
            minutes = kept["minutes"] if index == 0 else ""
            lines.append(f"| {row['test']} | {row['count']} | {row['seeds']} | {minutes} | "
                         f"{kept['commit']} | {kept['result']} |\n")
    if lines:
        PAGE.write_text(HEAD + "".join(lines), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("parts", nargs="*")
    args = parser.parse_args()
    every = load()
    unknown = [p for p in args.parts if p not in every]
    if unknown:
        print(f"soak: no part {', '.join(unknown)}; there are: {' '.join(every)}", file=sys.stderr)
        return 2
    STATE.mkdir(parents=True, exist_ok=True)
    here = commit()
    if args.list:
        for name, part in every.items():
            kept = state(name)
            now = kept.get("result", "not run") + (f" at {kept['commit']}" if kept else "")
            print(f"{name:20} {part.get('what', ''):60} {now}")
        return 0

    passed = failed = 0
    built = set()  # (preset, target …)
    for name in args.parts or list(every):
        part, kept = every[name], state(name)
        if not args.again and kept.get("result") == "green" and kept.get("commit") == here and "+" not in here:
            print(f"soak: {name}: green at {here} already")
            passed += 1
            continue
        wanted = (part.get("build"), *part.get("targets", []))
        if not args.no_build and wanted[0] and wanted not in built:
            subprocess.run(["scripts/build.sh", *wanted], cwd=ROOT, check=True)
            built.add(wanted)
        print(f"soak: {name}: {part.get('what', '')}", flush=True)
        good = run(name, part, here)
        passed, failed = passed + good, failed + (not good)
        print(f"soak: {name}: {state(name)['result']} after {state(name)['minutes']} minutes", flush=True)
        write_page(every)
    write_page(every)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
