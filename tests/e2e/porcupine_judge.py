"""A second judge of histories of appends, Porcupine: it searches for an order by itself. It judges the order
only; values are compared before.

The Go client fetches the module that porcupine/go.mod names and go.sum vouches for, once.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "crash"))

from append_history import OK  # noqa: E402
from brokers import DEPS, REPOSITORY  # noqa: E402
from rounds import check  # noqa: E402

SOURCE = REPOSITORY / "tests/e2e/porcupine"
WINDOW = 4_000  # operations at a time: its memory grows with their square
BUILD_SECONDS = 400


def program():
    """The judge, built once for each state of its source; None, and a line that says why, if it cannot be."""
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go")))
    target = DEPS / "porcupine" / digest.hexdigest()[:16]
    if target.exists():
        return target
    why = "needs Go (go); run scripts/setup.sh test"
    if shutil.which("go"):
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        environment = dict(os.environ, GOMODCACHE=str(DEPS / "go"), GOFLAGS="-modcacherw", GOWORK="off")
        with tempfile.TemporaryDirectory() as folder:  # the client may write into go.mod
            copy = shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
            try:
                built = subprocess.run(["go", "build", "-o", str(fresh), "."], cwd=copy, env=environment, text=True,
                                       timeout=BUILD_SECONDS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                if built.returncode == 0:
                    fresh.rename(target)
                    return target
                why = "the Go client: " + (built.stdout.strip().splitlines() or ["it says nothing"])[-1]
            except subprocess.TimeoutExpired:
                why = f"the Go client is not done in {BUILD_SECONDS} s"
    print(f"porcupine: skipped, {why}", flush=True)
    if os.environ.get("CI") == "true":
        sys.exit(1)
    return None


def operations(appends, reads, final):
    """[(place, operation as the program reads it)] in order. Where an append went that has no answer, the list
    shows; if it is not there, it took no effect."""
    at = {value: offset for offset, value in enumerate(final)}
    clients = {}
    end = 1 + max((each.ended for each in [*appends, *reads] if each.ended != float("inf")), default=0)

    def one(each, kind, number):
        # A client without an answer goes on, so what is open is of a client of its own.
        by = clients.setdefault(each.by if each.ended < end else each, len(clients))
        return {"c": by, "b": int(each.began * 1e9), "e": int(min(each.ended, end) * 1e9), "k": kind, "n": number}
    found = [(2 * offset + 1, one(a, "a", offset)) for a in appends
             if (offset := a.offset if a.outcome == OK else at.get(a.value)) is not None]
    found += [(2 * read.size(), one(read, "r", read.size())) for read in reads]
    return sorted(found, key=lambda each: each[0])


def windows(history):
    """Runs of operations that follow each other in the list, each as if the list began there."""
    out, at = [], 0
    while at < len(history):
        base = history[at][0] // 2
        part = [dict(operation, n=operation["n"] - base) for _, operation in history[at:at + WINDOW]]
        out.append(part)
        at += WINDOW
    return out


def verdicts(judge, histories):
    """"ok" or what else it says, of each."""
    lines = "".join(json.dumps(history) + "\n" for history in histories)
    done = subprocess.run([str(judge)], input=lines, text=True, stdout=subprocess.PIPE, timeout=600, check=True)
    return done.stdout.split()


def second_opinion(appends, reads, final):
    """Fails if Porcupine finds no order; returns who has judged, in words."""
    judge = program()
    if judge is None:
        return "by one judge"
    said = verdicts(judge, windows(operations(appends, reads, final)))
    check(set(said) == {"ok"}, f"Porcupine says {said}")
    return "by Porcupine as well"
