#!/usr/bin/env python3
"""Takes the power from a file system under a process that issues ids: copies the image of a
loop-mounted ext4 mid-run, mounts the copy and issues on. Strict, lease and scarab repeat nothing;
relaxed must, or the test could not see a missing sync. Needs root."""

import os
import shutil
import subprocess
import sys
import tempfile

import worker

LEASE = 2000
SKIPPED = 77


def need(condition, what):
    if condition:
        return
    print(f"obelisk_powerloss: skipped, needs {what}")
    sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class Mounted:
    """An image mounted with a journal that commits only when it must."""

    def __init__(self, image, folder):
        self.image, self.folder = image, folder

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        run("mount", "-o", "loop,commit=300", self.image, self.folder)
        return self

    def __exit__(self, *_):
        run("umount", self.folder)


def lose_power(folder, mode, number, rng):
    """Ids issued before and after one power loss."""
    image = os.path.join(folder, f"{mode}{number}.img")
    copy = image + ".copy"
    with open(image, "wb") as out:
        out.truncate(32 << 20)
    run("mkfs.ext4", "-q", "-F", image)
    with Mounted(image, os.path.join(folder, "before")) as disk:
        issuer = worker.Worker(os.path.join(disk.folder, "ids.obl"), mode, LEASE)
        issuer.run_for(rng.uniform(0.05, 0.3))
        issuer.run_until_ranges(10)
        # Stopped, not killed: nothing that its end might write may reach the copy.
        issuer.stop()
        before = issuer.ranges()
        shutil.copyfile(image, copy)
        issuer.kill()
    with Mounted(copy, os.path.join(folder, "after")) as disk:
        issuer = worker.Worker(os.path.join(disk.folder, "ids.obl"), mode, LEASE)
        issuer.run_for(0.05)
        issuer.run_until_ranges(10)
        issuer.kill()
        after = issuer.ranges()
    os.unlink(image)
    os.unlink(copy)
    return before, after


def main():
    need(os.geteuid() == 0, "root to mount images")
    need(shutil.which("mkfs.ext4"), "mkfs.ext4 (package e2fsprogs)")
    need(os.path.exists("/dev/loop-control"), "loop devices")
    rounds = 50 if worker.SOAK else 10
    rng = worker.Seeded("obelisk_powerloss")
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("strict", "lease", "scarab", "relaxed"):
            repeated = 0
            for number in range(rounds):
                before, after = lose_power(folder, mode, number, rng)
                repeated += worker.overlaps(before + after)
            if mode == "relaxed" and not repeated:
                sys.exit("relaxed repeated nothing: this test cannot see a missing sync")
            if mode != "relaxed" and repeated:
                sys.exit(f"{mode}: {repeated} ranges were issued twice in {rounds} power losses")
            print(f"{mode}: {rounds} power losses, {repeated} ranges twice", flush=True)
    rng.done(4 * rounds)


if __name__ == "__main__":
    main()
