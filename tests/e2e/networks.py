"""A cluster whose nodes have a network between them that can be cut, while clients still reach every node.

Each node lives in a network namespace of its own with two cables: one to the clients, one to the other nodes.
Needs root (or what may make namespaces), `unshare`, `nsenter` and `ip`.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

from cluster import BOUND, SPAWNER, Cluster, until

INSIDE = "PYRALOG_TEST_NETWORK"
CLIENTS, PEERS = "10.77.0", "10.78.0"  # both end with the node's number


def enter():
    """Goes on in a network of its own; returns why it cannot, or None once it is there."""
    if os.environ.get(INSIDE) == "1":
        return None
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return "unshare, nsenter and ip (util-linux, iproute2)"
    probe = "ip link add probe type bridge && ip link add probe1 type veth peer name probe2 && unshare --net true"
    if subprocess.run(["unshare", "--net", "sh", "-c", probe], capture_output=True, timeout=20).returncode != 0:
        return "root, and a kernel with bridges and veth"
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])


def ip(*words, inside=None):
    there = ["nsenter", f"--net=/proc/{inside}/ns/net"] if inside else []
    subprocess.run([*there, "ip", *map(str, words)], check=True, timeout=20)


class CutCluster(Cluster):
    """Nodes 1, 2, … at 10.77.0.N for clients and at 10.78.0.N among themselves."""

    def __init__(self, binary=None, size=3, options=("--shards", "1")):
        self.holders = {}
        ip("link", "set", "lo", "up")
        for bridge in ("clients", "peers"):
            ip("link", "add", bridge, "type", "bridge")
            ip("link", "set", bridge, "up")
        ip("addr", "add", f"{CLIENTS}.254/24", "dev", "clients")
        super().__init__(binary, size, ("--allow-insecure", *options))

    def place(self, number):
        holder = SPAWNER.submit(subprocess.Popen, BOUND + ["unshare", "--net", "sleep", "infinity"]).result()
        self.holders[number] = holder
        ours = os.readlink("/proc/self/ns/net")
        until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != ours
              and pathlib.Path(f"/proc/{holder.pid}/comm").read_text().strip() == "sleep", "a namespace", 10)
        ip("link", "set", "lo", "up", inside=holder.pid)
        for bridge, network in (("clients", CLIENTS), ("peers", PEERS)):
            cable, end = f"{bridge}{number}", f"{bridge}in{number}"
            ip("link", "add", cable, "type", "veth", "peer", "name", end)
            ip("link", "set", end, "netns", holder.pid)
            ip("link", "set", cable, "master", bridge)
            ip("link", "set", cable, "up")
            ip("addr", "add", f"{network}.{number}/24", "dev", end, inside=holder.pid)
            ip("link", "set", end, "up", inside=holder.pid)
        return (["nsenter", f"--net=/proc/{holder.pid}/ns/net"], f"{CLIENTS}.{number}:9092",
                f"{CLIENTS}.{number}:9094", f"{PEERS}.{number}:9093")

    def cut(self, number):
        """From all other nodes; packets get lost, no connection is told."""
        ip("link", "set", f"peers{number}", "down")

    def mend(self, number):
        ip("link", "set", f"peers{number}", "up")

    def cut_between(self, one, other):
        """These two only."""
        ip("route", "add", "blackhole", f"{PEERS}.{other}/32", inside=self.holders[one].pid)

    def mend_between(self, one, other):
        ip("route", "del", "blackhole", f"{PEERS}.{other}/32", inside=self.holders[one].pid)

    def stop(self):
        super().stop()
        for holder in self.holders.values():
            holder.send_signal(signal.SIGKILL)
            holder.wait()
