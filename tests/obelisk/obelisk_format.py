#!/usr/bin/env python3
"""A real Obelisk file: one block of disk after 1e9 ids, a damaged header and a second opener refused."""

import os
import subprocess
import sys
import tempfile

import worker


def attempt(path, mode="lease", lease=10, threads=1, count=1):
    return subprocess.run([worker.binary(), path, mode, str(lease), str(threads), str(count)],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def check(condition, what):
    if not condition:
        sys.exit(f"obelisk_format: {what}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "big.obl")
        first = attempt(path, lease=1_000_000_000)
        check(first.returncode == 0 and first.stdout == "open\n0 1\n", f"first run: {first}")
        seen = os.stat(path)
        check(seen.st_size >= 4096 + 1_000_000_000, f"size {seen.st_size}")
        check(seen.st_blocks <= 8, f"{seen.st_blocks} blocks after 1e9 ids: not a hole")
        again = attempt(path, lease=1000)
        check(again.returncode == 0 and int(again.stdout.split()[1]) >= 1_000_000_000,
              f"reopened below the ceiling: {again}")

        holder = worker.Worker(path, "lease", 1000, 1)
        second = attempt(path)
        holder.kill()
        check(second.returncode != 0 and path in second.stderr, f"second opener: {second}")
        check(attempt(path).returncode == 0, "not free again after its holder was killed")

        for at in (0, 8, 10, 12, 20, 25, 33, 47, 50):
            bad = os.path.join(folder, f"bad{at}.obl")
            with open(path, "rb") as good, open(bad, "wb") as out:
                block = bytearray(good.read(4096))
                block[at] ^= 0x04
                out.write(block)
            refused = attempt(bad)
            check(refused.returncode != 0 and bad in refused.stderr, f"byte {at}: {refused}")
        short = os.path.join(folder, "short.obl")
        with open(path, "rb") as good, open(short, "wb") as out:
            out.write(good.read(4095))
        check(attempt(short).returncode != 0, "a cut header was accepted")
    print("obelisk_format: ok")


if __name__ == "__main__":
    main()
