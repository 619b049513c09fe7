"""How often a crash test goes round, and from which seed."""

import os
import random
import sys

SKIPPED = 77


class Rounds:
    """`for number, rng in Rounds("crash_log", quick=10, full=200)`: round n draws from seed base + n.

    PYRALOG_SOAK=1 takes the full count, ROUNDS=n any other, SEED=n begins at that seed. A run that
    comes to its end says so in the line that `make soak` reads.
    """

    def __init__(self, name, quick, full):
        self.name = name
        self.count = int(os.environ.get("ROUNDS") or (full if os.environ.get("PYRALOG_SOAK") == "1" else quick))
        self.base = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 31))
        print(f"{name}: SEED={self.base} ROUNDS={self.count}", flush=True)

    def __iter__(self):
        for number in range(self.count):
            yield number, random.Random(self.base + number)

    def done(self, what):
        print(f"{self.name}: {what}")
        print(f"soak: {self.name} count={self.count} seeds={self.base}..{self.base + self.count - 1}",
              flush=True)


def need(condition, name, what):
    """Ends the test as skipped, saying what it needs; with CI=true that is a failure."""
    if not condition:
        print(f"{name}: skipped, needs {what}")
        sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")
