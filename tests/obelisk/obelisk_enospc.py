#!/usr/bin/env python3
"""The disk fails under a process that issues ids: it is full, over a quota, or broken, at any call and at
any time, and the failing call is one that Obelisk files make. The process ends in order, with a line that
names the file and, where there is one, the remedy, or it never starts; no signal ends it. Over all restarts
no id is issued twice, and once the disk is well again ids go on. Last, a real file system is filled to its
last byte (as root)."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import worker

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "crash"))
import faults  # noqa: E402

LEASE = 200
MODES = ("strict", "lease", "scarab")
# Calls of an Obelisk file, of its folder and of what replaces it.
CALLS = ("open", "create", "read", "write", "sync", "truncate", "rename")
WHATS = {"open": ("EMFILE", "EIO"), "create": ("ENOSPC", "EDQUOT", "EIO"), "read": ("EIO",),
         "rename": ("ENOSPC", "EDQUOT", "EIO")}
REMEDIES = {"ENOSPC": "free space", "EDQUOT": "free space", "EMFILE": "ulimit -n", "EIO": ""}


def check(condition, what):
    if not condition:
        sys.exit(f"obelisk_enospc: {what}")


def run_out(issuer, seconds):
    """Lets it issue until it ends by itself, or for so long; returns whether it ended."""
    issuer.pump_until(lambda: False, seconds)
    return issuer.process.poll() is not None or ended_soon(issuer)


def ended_soon(issuer):
    """It closes its output a moment before it is gone."""
    try:
        issuer.process.wait(0.05)
        return True
    except subprocess.TimeoutExpired:
        return False


class Ids:
    """One file over all its restarts."""

    def __init__(self, mode, folder):
        self.mode, self.path = mode, os.path.join(folder, mode + ".obl")
        self.ranges, self.refusals, self.failed = [], 0, 0

    def begin(self, environment, errors, must_open):
        return worker.Worker(self.path, self.mode, LEASE, 2, environment, errors, must_open)

    def take_over(self, issuer):
        """Ends it, if it has not ended, and keeps what it issued."""
        before = worker.top(self.ranges)
        issuer.kill()
        fresh = issuer.ranges()
        again = worker.overlaps(self.ranges + fresh)
        check(not again, f"{self.mode}: {again} ranges were issued twice")
        check(self.mode == "scarab" or not fresh or min(fresh)[0] >= before,
              f"{self.mode}: went on at {min(fresh, default=0)} below {before}")
        self.ranges += fresh
        return len(fresh)

    def fail(self, made, rng, folder):
        """One run in which a call fails, again and again or once."""
        call = rng.choice(CALLS)
        what = rng.choice(WHATS.get(call, ("ENOSPC", "EDQUOT", "EIO")))
        nth = rng.choice((1, 1, 2, 3, 8, 40))
        rule = f"{call} {folder}* #{nth}{rng.choice(('', '+'))} {what}"
        if call == "rename" or (call in ("create", "write") and rng.random() < 0.5):
            self.path = os.path.join(folder, f"{self.mode}{len(self.ranges)}-{rng.randrange(1 << 30)}.obl")
            self.ranges = []
        began = len(made.lines("fault"))
        made.set(rule)
        with tempfile.TemporaryFile() as errors:
            issuer = self.begin(made.environment, errors, False)
            ended = run_out(issuer, rng.uniform(0.02, 0.15))
            code = issuer.process.poll()
            self.take_over(issuer)
            errors.seek(0)
            told = errors.read().decode(errors="replace")
        self.failed += len(made.lines("fault")) > began
        made.set()
        if not ended:
            return
        self.refusals += 1
        check(code == 1, f"{self.mode}: {rule}: ended with {code}: {told}")
        check(folder in told and REMEDIES[what] in told, f"{self.mode}: {rule}: the line says {told!r}")
        check(len(told.splitlines()) <= 2, f"{self.mode}: {rule}: more than a line a thread: {told}")

    def go_on(self):
        """The disk is well: ids come."""
        issuer = self.begin(None, None, True)
        issuer.run_until_ranges(5)
        check(self.take_over(issuer) >= 5, f"{self.mode}: no ids from a disk that is well again")


def fill(root):
    """Somebody else takes everything that there is."""
    with open(os.path.join(root, "foreign"), "wb", buffering=0) as out:
        for size in (1 << 16, 512, 1):
            try:
                while True:
                    out.write(b"x" * size)
            except OSError:
                pass


def fill_a_disk(folder, rng):
    """A small file system without a byte left: who has a file goes on or ends in order, a new file is
    refused by name; when there is space again everybody goes on."""
    import disk
    image = disk.new_image(pathlib.Path(folder) / "full.img", 8)
    with disk.mounted(image, os.path.join(folder, "full"), "commit=1") as root:
        for mode in MODES:
            old, new = Ids(mode, str(root)), Ids("new-" + mode, str(root))
            new.mode = mode
            issuer = old.begin(None, None, True)
            issuer.run_until_ranges(5)
            fill(root)
            with tempfile.TemporaryFile() as errors:
                refused = new.begin(None, errors, False)
                check(run_out(refused, 30) and refused.process.returncode == 1,
                      f"{mode}: a new file on a full disk: {refused.process.returncode}")
                refused.kill()
                errors.seek(0)
                told = errors.read().decode(errors="replace")
                check(new.path in told and "free space" in told, f"{mode}: on a full disk it says {told!r}")
            run_out(issuer, rng.uniform(0.05, 0.2))
            code = issuer.process.poll()
            check(code in (None, 1), f"{mode}: on a full disk it ended with {code}")
            old.take_over(issuer)
            issuer = old.begin(None, subprocess.DEVNULL, False)
            run_out(issuer, 0.1)
            check(issuer.process.poll() in (None, 1), f"{mode}: on a full disk: {issuer.process.poll()}")
            old.take_over(issuer)
            os.unlink(root / "foreign")
            old.go_on()
            new.go_on()


def main():
    if not faults.library():
        print("obelisk_enospc: skipped, needs io_faults.so: ninja io_faults")
        sys.exit(1 if os.environ.get("CI") == "true" else 77)
    rounds = 400 if worker.SOAK else 24
    rng = worker.Seeded("obelisk_enospc")
    check(signal.getsignal(signal.SIGBUS) == signal.SIG_DFL, "SIGBUS is not what it should be")
    with tempfile.TemporaryDirectory() as folder:
        made = faults.Faults(os.path.join(tempfile.gettempdir(), f"obelisk-faults-{os.getpid()}"))
        every = [Ids(mode, folder) for mode in MODES]
        try:
            for _ in range(rounds):
                for ids in every:
                    ids.fail(made, rng, folder)
                    if rng.random() < 0.3:
                        ids.go_on()
        finally:
            os.unlink(made.control)
            os.unlink(made.told)
        for ids in every:
            ids.go_on()
            check(ids.failed > rounds / 4, f"{ids.mode}: a call failed in {ids.failed} runs only")
            print(f"{ids.mode}: a call failed in {ids.failed} of {rounds} runs, {ids.refusals} ended in order", flush=True)
        if os.geteuid() == 0 and shutil.which("mkfs.ext4") and os.path.exists("/dev/loop-control"):
            fill_a_disk(folder, rng)
            print("full: a disk without a byte left, and with some again", flush=True)
        else:
            print("obelisk_enospc: no real disk was filled, that needs root, mkfs.ext4 and loop devices")
    rng.done(rounds * len(MODES))


if __name__ == "__main__":
    main()
