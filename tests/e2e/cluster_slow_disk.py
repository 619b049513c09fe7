#!/usr/bin/env python3
"""One disk of three is slow: each sync of one node takes long, under librdkafka's idempotent producers. Records are
acknowledged at the pace of the two others, whether the slow node follows or leads; it stays in sync, and what it has
durably catches up when the disk is well. If another node is killed meanwhile, the two that are left go on and each
acknowledgement waits for the slow disk, for it takes two; nothing that was acknowledged is lost."""

import math
import signal
import subprocess
import time

from cluster import Cluster, until
from cluster_load import Producer, audit, await_pace, read_all
from damage import same_everywhere, verify
from faults import Faults, need_faults
from rounds import Rounds, check

TOPIC, PARTITIONS = "orders", 3
LATE = 2.0  # seconds that a sync of the slow disk takes
WELL_BELOW = 0.4 * LATE  # of 99 of 100 acknowledgements, on a machine that other tests load, too
LATE_ALONE = 0.4  # where each step of a takeover waits for it
PAUSE = 20.0
SETTLED = 0.3  # seconds after which what began before a change is over


class SlowDisks(Cluster):
    """Each node's syncs may be made to take longer while it runs."""

    def __init__(self):
        self.faults = {}
        super().__init__()

    def place(self, number):
        self.faults[number] = Faults(self.folder / f"faults-{number}")
        environment = [f"{name}={value}" for name, value in self.faults[number].environment.items()]
        prefix, *doors = super().place(number)
        return [*prefix, "env", *environment], *doors

    def slow(self, number, late):
        self.faults[number].set(f"sync {self.nodes[number].data}/* #1+ {round(late * 1000)}ms")

    def well(self, number):
        self.faults[number].set()

    def ends(self, number, partition):
        """(where its log ends, how far that is durable there)"""
        told = self.nodes[number].status(f"/partitions/{TOPIC}-{partition}/status")
        return told["log_end"], told["synced_end"]

    def rebalance(self):
        """Each node leads what it should."""
        def balanced():
            if all(held[0] == leader for _, leader, _, held, _ in self.partitions(TOPIC).values()):
                return True
            subprocess.run([self.nodes[1].binary, "cluster", "rebalance", "--bootstrap", self.bootstrap],
                           capture_output=True, timeout=60, check=False)
            return False
        until(balanced, "each partition is led by its first replica", 30)


def took(producers, since, partitions=None):
    """How long those took that were sent since then, in order."""
    out = []
    for producer in producers:
        with producer.lock:
            out += [acked - sent for p, sent, acked in producer.acks
                    if sent >= since and (partitions is None or p in partitions)]
    check(out, f"nothing that was sent in the last {time.monotonic() - since:.1f} s was acknowledged")
    return sorted(out)


def of_100(values, part):
    return values[min(len(values) - 1, math.ceil(len(values) * part / 100))]


def one_is_slow(cluster, producers, slow, seconds):
    """What it does (lead, follow), and how long half and 99 of 100 acknowledgements took where it does that."""
    cluster.slow(slow, LATE)
    time.sleep(SETTLED)
    since, before = time.monotonic(), len(cluster.faults[slow].lines("fault"))
    behind = 0
    while time.monotonic() < since + seconds:
        time.sleep(0.2)
        found = cluster.partitions(TOPIC)
        for partition, (error, leader, _, held, in_sync) in found.items():
            check(error == 0 and leader == held[0], f"{TOPIC}-{partition}: led by {leader}, error {error}")
            check(slow in in_sync, f"{TOPIC}-{partition}: node {slow} is not in sync, though it follows")
            end, synced = cluster.ends(slow, partition)
            behind = max(behind, end - synced)
    led = {p for p, (_, leader, *_) in found.items() if leader == slow}
    check(led and len(led) < PARTITIONS, f"node {slow} leads {led}")
    check(len(cluster.faults[slow].lines("fault")) > before, f"no sync of node {slow} was slow")
    check(behind > 0, f"node {slow} was never behind with its syncs")
    sent = [dict(p.sent) for p in producers]
    time.sleep(WELL_BELOW)
    for which, partitions in (("leads", led), ("follows", set(range(PARTITIONS)) - led)):
        times = took(producers, since, partitions)
        half, most = of_100(times, 50), of_100(times, 99)
        late = sum(max(0, many[p] - len(each.acked[p])) for each, many in zip(producers, sent) for p in partitions)
        check(most <= WELL_BELOW and late <= len(times) / 100,
              f"what the slow node {which}: half of {len(times)} records acknowledged within {half:.2f} s, 99 of 100 "
              f"within {most:.2f} s, {late} not after {WELL_BELOW} s")
        yield which, half, most


def another_is_killed(cluster, producers, slow, victim):
    """How long until all partitions took records again."""
    cluster.slow(slow, LATE_ALONE)
    killed = cluster.kill(victim)
    everyone = set(range(PARTITIONS))

    def again():
        firsts = [p.first_after(killed + SETTLED, everyone) for p in producers]
        return all(set(first) == everyone for first in firsts) and firsts
    firsts = until(again, f"all partitions take records without node {victim}", PAUSE)
    quickest = took(producers, killed + SETTLED)[0]
    check(quickest >= LATE_ALONE, f"acknowledged after {quickest:.3f} s, though it takes both nodes that are left, and "
                                  f"the syncs of one take {LATE_ALONE} s")
    return max(max(first.values()) for first in firsts) - killed


def main():
    need_faults("cluster_slow_disk")
    rounds = Rounds("cluster_slow_disk", quick=2, full=40)
    with SlowDisks() as cluster:
        cluster.create(TOPIC, PARTITIONS)
        producers = [Producer(f"p{n}", cluster.bootstrap, TOPIC, PARTITIONS, rate=200).start() for n in range(2)]
        await_pace(producers, 300)
        for number, rng in rounds:
            cluster.rebalance()
            await_pace(producers, 100)
            slow, victim = rng.sample(sorted(cluster.nodes), 2)
            said = [f"{which} {median * 1000:.0f} ms, 99 of 100 within {most * 1000:.0f} ms"
                    for which, median, most in one_is_slow(cluster, producers, slow, 2 * LATE)]
            pause = another_is_killed(cluster, producers, slow, victim)
            cluster.well(slow)
            goal = {p: cluster.ends(slow, p)[0] for p in range(PARTITIONS)}
            until(lambda: all(cluster.ends(slow, p)[1] >= end for p, end in goal.items()), "its disk catches up", 10)
            cluster.restart(victim)
            cluster.await_whole([TOPIC])
            print(f"round {number}: node {slow} slow: {'; '.join(said)}; node {victim} killed: all went on after "
                  f"{pause:.2f} s", flush=True)
        for producer in producers:
            producer.stop()
        there = read_all(cluster, TOPIC)
        count = audit(there, producers)
        for partition, held in there.items():
            same_everywhere(cluster, TOPIC, partition, len(held))
        for node in cluster.nodes.values():
            node.end(signal.SIGTERM)
            verify(node)
    rounds.done(f"{count} records acknowledged, all there, once and in order, on each node")


if __name__ == "__main__":
    main()
