#!/usr/bin/env python3
"""Prints a bash script that does what a README's first screen says, up to `make demo`.

usage: first_screen.py README.md REPOSITORY

The words are the README's; only `<…>` in the line with `git clone` becomes REPOSITORY, and the
block marked `background` runs in the background until it says `ready `.
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "docs"))
import docs_test  # noqa: E402

COLD_SECONDS = 3000


def first_screen(blocks):
    """The blocks up to the one that says `make demo`."""
    taken = []
    for block in blocks:
        taken.append(block)
        if re.search(r"^make demo\b", block.text, re.M):
            return taken
    raise SystemExit("first_screen: README.md never says `make demo`")


def main():
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    blocks, problems = docs_test.parse(text, "README.md")
    if problems:
        raise SystemExit("\n".join(problems))
    out = ["set -eo pipefail", "cd ~"]
    for block in first_screen(blocks):
        body = re.sub(r"^(git clone )<[^>]*>", lambda m: m.group(1) + sys.argv[2], block.text, flags=re.M)
        out.append(f"echo '== README.md:{block.line}'")
        if block.options == "background":
            log = f"~/background-{block.line}.log"
            out += [
                "started=$SECONDS",
                f"( {body}\n) </dev/null >{log} 2>&1 &",
                f"until grep -q '^ready ' {log}; do",
                f"  kill -0 $! 2>/dev/null && [ $((SECONDS - started)) -lt {COLD_SECONDS} ] ||"
                f" {{ tail -n 60 {log}; exit 1; }}",
                "  sleep 0.2",
                "done",
                f"cat {log}",
                'echo "fresh: ready after $((SECONDS - started)) s"',
            ]
        elif block.kind == "console":
            out += [command for _, command, _ in docs_test.console_commands(block)]
        else:
            out.append(body)
    print("\n".join(out))


if __name__ == "__main__":
    main()
