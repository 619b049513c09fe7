"""A disk that can lose its power: an ext4 image on a loop device. Needs root.

The image is copied while the server stands still (SIGSTOP), so the copy holds what had reached the
device by then and nothing of what a dying process or a kernel with time to spare would write later.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess

import server  # noqa: F401  (puts tests/e2e on the path)
from rounds import check, need
from wire import crc32c

# With data=writeback and without delayed allocation a file's length may be on disk before its bytes
# are, which is how torn tails come about.
MOUNTS = ("commit=300", "commit=300,data=writeback,nodelalloc", "commit=1")


def need_disks(name):
    need(os.geteuid() == 0, name, "root to mount images")
    need(shutil.which("mkfs.ext4"), name, "mkfs.ext4 (package e2fsprogs)")
    need(os.path.exists("/dev/loop-control"), name, "loop devices")


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def new_image(path, mebibytes=96):
    with open(path, "wb") as out:
        out.truncate(mebibytes << 20)
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(path))
    return path


@contextlib.contextmanager
def mounted(image, folder, options):
    os.makedirs(folder, exist_ok=True)
    run("mount", "-o", "loop," + options, str(image), str(folder))
    try:
        yield pathlib.Path(folder)
    finally:
        run("umount", str(folder))


def lose_power(server, image, copy):
    """Copies the image under the server, then kills the server."""
    server.freeze()
    run("cp", "--sparse=always", str(image), str(copy))
    server.kill()


def boot_anew(data):
    """Makes the directory's cookie say that it was last used before the operating system started, as
    after a real power loss: the boot id is text behind a length, the last four bytes are a checksum."""
    path = pathlib.Path(data) / "cookie"
    raw = bytearray(path.read_bytes())
    boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip().encode()
    at = bytes(raw).find(boot_id)
    check(at > 0, f"{path} does not hold the boot id")
    raw[at] = ord("a") if raw[at] != ord("a") else ord("b")
    path.write_bytes(bytes(raw[:-4]) + crc32c(bytes(raw[:-4])).to_bytes(4, "little"))


def remove(*images):
    for image in images:
        os.unlink(image)
