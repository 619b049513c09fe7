#!/usr/bin/env python3
"""Kills a process that issues ids, again and again: no id twice, and no more skipped than the rest of
a lease and the next one, which is made when half of the first is left."""

import os
import sys
import tempfile

import worker

LEASE = 2000
THREADS = 4
# What four threads may have taken and not yet reported when they were killed.
IN_HAND = sum(range(1, THREADS + 1))


def main():
    rounds = 500 if worker.SOAK else 12
    rng = worker.Seeded("obelisk_kill9")
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("lease", "strict", "relaxed", "scarab"):
            path = os.path.join(folder, mode + ".obl")
            ranges = []
            for number in range(rounds):
                before = worker.top(ranges)
                issuer = worker.Worker(path, mode, LEASE, THREADS)
                issuer.run_for(rng.uniform(0.0, 0.03))
                issuer.run_until_ranges(1)
                issuer.kill()
                fresh = issuer.ranges()
                if not fresh:
                    sys.exit(f"{mode}: round {number} issued nothing")
                skipped = min(fresh)[0] - before
                if mode != "scarab" and before and skipped > LEASE * 3 // 2 + IN_HAND:
                    sys.exit(f"{mode}: round {number} skipped {skipped} ids, more than a lease and a half")
                ranges += fresh
            again = worker.overlaps(ranges)
            if again:
                sys.exit(f"{mode}: {again} ranges were issued twice in {rounds} rounds")
            print(f"{mode}: {rounds} kills, {len(ranges)} ranges, none twice", flush=True)
    rng.done(4 * rounds)


if __name__ == "__main__":
    main()
