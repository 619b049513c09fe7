"""What the tests of Obelisk files share: running obelisk_worker and judging what it reported."""

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time

SOAK = os.environ.get("PYRALOG_SOAK") == "1"


def binary():
    """The worker: named by the build, else on PATH (as in `make plants`)."""
    found = os.environ.get("OBELISK_WORKER") or shutil.which("obelisk_worker")
    if not found:
        sys.exit("obelisk_worker is not built: ninja obelisk_worker")
    return found


class Worker:
    """A worker that issues ids until it is killed; `ranges` are those that it has reported."""

    def __init__(self, path, mode, lease, threads=4, environment=None, errors=None, must_open=True):
        self.process = subprocess.Popen([binary(), path, mode, str(lease), str(threads)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                                        env=dict(os.environ, **(environment or {})))
        self.buffer = b""
        self.lines = []
        self.pump_until(lambda: b"open\n" in self.buffer, 60)
        if not must_open:
            return
        if b"open\n" not in self.buffer:
            self.kill()
            sys.exit(f"the worker did not open {path}")

    def pump_until(self, done, seconds):
        """Reads reports until `done()` or the time is over or the worker has ended."""
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self.process.stdout], [], [], left)
            if ready:
                data = os.read(self.process.stdout.fileno(), 1 << 16)
                if not data:
                    return
                self.buffer += data

    def run_for(self, seconds):
        self.pump_until(lambda: False, seconds)

    def run_until_ranges(self, count, seconds=60):
        self.pump_until(lambda: self.buffer.count(b"\n") > count, seconds)

    def stop(self):
        """SIGSTOP, and everything that it had reported by then."""
        self.process.send_signal(signal.SIGSTOP)
        self.drain()

    def drain(self):
        while select.select([self.process.stdout], [], [], 0.05)[0]:
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                return
            self.buffer += data

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            self.buffer += data
        self.process.wait()
        self.process.stdout.close()

    def ranges(self):
        """[(first, count)] of the whole lines so far."""
        lines = self.buffer[:self.buffer.rfind(b"\n") + 1].split(b"\n")
        return [tuple(map(int, line.split())) for line in lines if line and line != b"open"]


def overlaps(ranges):
    """How many ranges of a list of (first, count) share a value with an earlier one in order."""
    found = 0
    end = -1
    for first, count in sorted(ranges):
        if first < end:
            found += 1
        end = max(end, first + count)
    return found


def top(ranges):
    return max((first + count for first, count in ranges), default=0)


class Seeded(random.Random):
    """A random source whose seed can be chosen and is told."""

    def __init__(self, name):
        self.name = name
        self.base = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"{name}: SEED={self.base}", flush=True)
        super().__init__(self.base)

    def done(self, count):
        """The line that `make soak` reads."""
        print(f"soak: {self.name} count={count} seeds={self.base}..{self.base}", flush=True)
