#!/usr/bin/env python3
"""A test is worth what it catches: runs every planted defect of tests/plants.md.

Each row names a plant, the test that must go red and its command. The command must be green
without the plant and red with it. Commands run in the repository's root with the test binaries of
the plants build on PATH, PYRALOG_BINARY set to its server, and PYRALOG_PLANT naming the plant.

usage: tests/plants/run.py [--no-build] [--list] [--check] [PLANT ...]
  --check   only compares the table with the plants in the code
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "plants.md"
BUILD = ROOT / "build" / "plants"
SECONDS = 300
SKIPPED = 77  # a test that says so needs what is not here; with CI=true it fails instead


def rows():
    """[(plant, test, command)] of the table."""
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        # A bar inside a command is written as \|, as everywhere in a Markdown table.
        cells = [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if len(cells) != 3 or not line.startswith("|") or cells[0] in ("plant", "") or set(cells[0]) <= set("-: "):
            continue
        plant, test, command = (c.strip("`") for c in cells)
        found.append((plant, test, command))
    return found


def in_code():
    """The plants that the code carries."""
    found = set()
    for path in (ROOT / "src").rglob("*"):
        if path.suffix in (".h", ".cc") and path.name != "plant.h":
            found |= set(re.findall(r'PYRALOG_PLANT\(\s*"([^"]+)"', path.read_text(encoding="utf-8")))
    return found


def check(table):
    listed = {plant for plant, _, _ in table}
    problems = [f"plant {p} is in the code but not in tests/plants.md" for p in sorted(in_code() - listed)]
    return problems + [f"plant {p} is in tests/plants.md but not in the code" for p in sorted(listed - in_code())]


def binaries():
    """Folders of the plants build that hold something to run."""
    return sorted({str(p.parent) for p in BUILD.rglob("*")
                   if p.is_file() and os.access(p, os.X_OK) and "CMakeFiles" not in p.parts})


def run(command, plant, path):
    env = dict(os.environ, PATH=os.pathsep.join([*path, os.environ["PATH"]]),
               PYRALOG_BINARY=str(BUILD / "pyralog"))
    env.pop("PYRALOG_PLANT", None)
    if plant:
        env["PYRALOG_PLANT"] = plant
    start = time.monotonic()
    try:
        result = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS)
        code, output = result.returncode, result.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired as late:
        code, output = "timeout", (late.stdout or b"").decode("utf-8", "replace")
    return code, output, time.monotonic() - start


def ran_nothing(output):
    return bool(re.search(r"No tests were found|Running 0 tests|0 tests ran|\[  PASSED  \] 0 tests", output))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("plants", nargs="*")
    args = parser.parse_args()

    table = rows()
    problems = check(table)
    if args.check or args.list:
        for row in table if args.list else []:
            print("{:36} {:50} {}".format(*row))
        print("\n".join(problems) or f"plants: {len(table)} rows, all in the code")
        return 1 if problems else 0
    if args.plants:
        table = [row for row in table if row[0] in args.plants]
        problems = []
    if not args.no_build:
        subprocess.run(["scripts/build.sh", "plants"], cwd=ROOT, check=True)
    path = binaries()

    passed, failed, skipped, green = 0, len(problems), 0, {}
    print("\n".join(problems))
    for plant, test, command in table:
        if command not in green:
            green[command] = run(command, None, path)
        code, output, _ = green[command]
        if code == SKIPPED:
            print(f"skip {plant}: {test}: {output.strip().splitlines()[-1]}")
            skipped += 1
            continue
        if code != 0 or ran_nothing(output):
            failed += 1
            print(f"FAIL {plant}: {test} must be green without the plant (exit {code}): {command}")
            print("\n".join("     " + line for line in output.splitlines()[-15:]))
            continue
        code, output, seconds = run(command, plant, path)
        # 126 and 127 say that the command could not be run, which catches nothing.
        if code in (0, 126, 127):
            failed += 1
            print(f"FAIL {plant}: {test} stays green ({seconds:.1f} s): {command}")
        else:
            passed += 1
            print(f"ok   {plant}: {test} is red ({seconds:.1f} s)")
        sys.stdout.flush()
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not table else 0


if __name__ == "__main__":
    sys.exit(main())
