#!/usr/bin/env python3
"""Who is in sync: a follower that is frozen (SIGSTOP) leaves within replica.lag.time.max.ms and what it takes to be
told; it is back only when it has caught up; and a burst of records makes nobody leave, however briefly."""

import os
import subprocess
import threading
import time

from appenders import produce
from cluster import Cluster, until
from rounds import Rounds, check

TOPIC = "orders"
LAG_MS = 4_000
TOLD = 4.0  # seconds: looked at once a second, told to others, on a machine that is busy
BURST = 1_000_000 if os.environ.get("PYRALOG_SOAK") == "1" else 300_000


def in_sync(cluster, ask):
    return set(cluster.partitions(TOPIC, ask)[0][4])


def end_of(cluster, number):
    return cluster.nodes[number].status(f"/partitions/{TOPIC}-0/status")["log_end"]


def freeze(cluster, rng):
    leader = cluster.leaders(TOPIC)[0]
    follower = rng.choice([n for n in cluster.nodes if n != leader])
    others = [n for n in cluster.nodes if n != follower]
    frozen = cluster.pause(follower)
    acked = 0
    with cluster.door(leader) as door:
        until(lambda: all(follower not in in_sync(cluster, n) for n in others), "the frozen follower leaves",
              LAG_MS / 1000 + TOLD)
        left = time.monotonic() - frozen
        for i in range(200):
            acked += produce(door, TOPIC, 0, f"without-{i}")[0] == 0
        check(acked == 200, f"without one follower of two {acked} of 200 records were acknowledged")
        end = end_of(cluster, leader)
        time.sleep(1)
        check(all(follower not in in_sync(cluster, n) for n in others), "it is in sync though it is frozen")
    resumed = cluster.resume(follower)
    until(lambda: follower in in_sync(cluster, leader), "it is in sync again", 30)
    back = time.monotonic() - resumed
    check(end_of(cluster, follower) >= end, "it was in sync before it had caught up")
    cluster.await_whole([TOPIC])
    return left, back


class Watch(threading.Thread):
    """Asks one node again and again who is in sync."""

    def __init__(self, cluster, node):
        super().__init__(daemon=True)
        self.cluster, self.node, self.over = cluster, node, threading.Event()
        self.asked, self.missing = 0, []

    def run(self):
        while not self.over.is_set():
            found = in_sync(self.cluster, self.node)
            self.asked += 1
            if found != set(self.cluster.nodes):
                self.missing.append(set(self.cluster.nodes) - found)
            self.over.wait(0.05)


def burst(cluster):
    watches = [Watch(cluster, n) for n in cluster.nodes]
    for watch in watches:
        watch.start()
    binary = cluster.nodes[1].binary
    began = time.monotonic()
    done = subprocess.run([binary, "bench", "produce", TOPIC, "--bootstrap", cluster.bootstrap, "--records",
                           str(BURST), "--size", "100"], capture_output=True, text=True, timeout=600, check=False)
    took = time.monotonic() - began
    time.sleep(2)  # who left late would show by then
    for watch in watches:
        watch.over.set()
        watch.join()
    check(done.returncode == 0, f"bench: {done.stderr}")
    missing = [m for watch in watches for m in watch.missing]
    check(not missing, f"a burst of {BURST} records: {missing[:5]} left {len(missing)} times")
    return took, sum(watch.asked for watch in watches)


def main():
    rounds = Rounds("cluster_isr", quick=2, full=30)
    lefts, backs = [], []
    with Cluster(options=("--shards", "1", "--replica-lag-time-max-ms", str(LAG_MS))) as cluster:
        cluster.create(TOPIC)
        for _, rng in rounds:
            left, back = freeze(cluster, rng)
            lefts.append(left)
            backs.append(back)
        took, asked = burst(cluster)
    rounds.done(f"a frozen follower left within {max(lefts):.1f} s and was back {max(backs):.1f} s after it went on; "
                f"{BURST} records in {took:.1f} s, in sync all three each of {asked} times that one asked")


if __name__ == "__main__":
    main()
