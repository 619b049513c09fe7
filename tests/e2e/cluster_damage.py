#!/usr/bin/env python3
"""Damage heals: bits of one replica's files are flipped, while its node is down (kill -9) and while it runs, leads or
follows, under librdkafka's idempotent producers and a consumer group. A start, a reader or the scrubber finds it;
nobody is served it; the replica is made anew from the others and has byte for byte what they have."""

import signal
import subprocess
import time

from cluster import Cluster, until
from cluster_load import Member, Producer, all_seen, audit, await_pace, read_all
from damage import MADE_ANEW, Replica, await_mended, read_through, same_everywhere, verify
from rounds import Rounds, check

TOPIC, PARTITIONS, SEGMENT = "orders", 3, 16_384
SCRUBBED = 3  # the node that reads its files back all the time, if one does


class Racks(Cluster):
    """Each node in a rack of its own, so that one may choose where to read; on those that are not scrubbed readers
    come to damage first."""

    def __init__(self, scrubbed=None):
        super().__init__()
        for number, node in self.nodes.items():
            scrub = "500" if number == scrubbed else "-1"
            node.words += ["--broker-rack", f"rack-{number}", "--log-scrub-interval-ms", scrub]


class Load:
    """What works on the topic through all rounds."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.producers = [Producer(f"p{n}", cluster.bootstrap, TOPIC, PARTITIONS, rate=500).start() for n in range(2)]
        self.member = Member("readers", cluster.bootstrap, TOPIC).start()

    def acked(self):
        """{partition: {offset: value}} of all producers."""
        both = [p.snapshot() for p in self.producers]
        return {p: {o: v for held in both for o, v in held[p].items()} for p in range(PARTITIONS)}

    def read(self, rack=None):
        """What was acknowledged before now."""
        read_through(self.cluster, TOPIC, self.acked(), rack and f"rack-{rack}")

    def seen(self, partition, offset):
        with self.member.lock:
            return (partition, offset) in self.member.seen

    def audit(self):
        for producer in self.producers:
            producer.stop()
        there = read_all(self.cluster, TOPIC)
        count = audit(there, self.producers)
        wanted = {(p, o): v for p, held in there.items() for o, v in held.items()}
        until(lambda: len(all_seen([self.member])) >= len(wanted), "the group sees every record", 20)
        check(all_seen([self.member]) == wanted, "the group saw other records than there are")
        self.member.stop()
        return count


def lead(cluster, number, topic, partition):
    """Lets a partition's preferred replica lead it."""
    def moved():
        if cluster.leaders(topic)[partition] == number:
            return True
        subprocess.run([cluster.nodes[number].binary, "partition", "move", topic, str(partition), "--preferred",
                        "--bootstrap", cluster.bootstrap], capture_output=True, timeout=40, check=False)
        return False
    until(moved, f"node {number} leads {topic}-{partition}", 20)


def stop_and_start(cluster, number, topic):
    """In order, so that the start reads no record: whoever comes first will."""
    cluster.nodes[number].end(signal.SIGTERM)
    cluster.restart(number)
    cluster.await_whole([topic])


def some_replica(cluster, rng, number, where):
    """Of a partition that the node is to lead, or another one; and who that is."""
    preferred = {p: held[0] for p, (_, _, _, held, _) in cluster.partitions(TOPIC).items()}
    partition = rng.choice([p for p, leader in preferred.items() if (leader == number) == (where == "leader")])
    return Replica(cluster, number, TOPIC, partition), preferred[partition]


def read_below(load, replica):
    """An offset in closed segments below which the group reads nothing any more. What a process has verified it
    sends from memory, where a disk's damage does not come but ours does."""
    below = replica.closed_below()
    until(lambda: load.seen(replica.partition, below - 1), f"the group has read {replica} below {below}", 20)
    return below


def found_by_a_start(cluster, rng, load, where):
    partition, number = rng.randrange(PARTITIONS), rng.choice((1, 2))
    replica = Replica(cluster, number, TOPIC, partition)
    cluster.kill(number)
    replica.flip_closed(rng) if where == "closed" else replica.flip_last(rng)
    cluster.restart(number)
    # A start that has a snapshot of what producers had sent reads the newest records only.
    return replica, lambda: load.read(rack=number)


def found_by_a_reader(cluster, rng, load, where):
    number = rng.choice((1, 2))
    replica, leader = some_replica(cluster, rng, number, where)
    below = read_below(load, replica)
    stop_and_start(cluster, number, TOPIC)
    lead(cluster, leader, TOPIC, replica.partition)
    replica.flip_closed(rng, below)
    return replica, lambda: load.read(rack=number)


def found_by_the_scrubber(cluster, rng, load, where):
    replica, leader = some_replica(cluster, rng, SCRUBBED, where)
    lead(cluster, leader, TOPIC, replica.partition)
    replica.flip_closed(rng, read_below(load, replica))
    until(lambda: replica.events("log.scrub_damage"), f"the scrubber finds it in {replica}", 20)
    return replica, lambda: None


CASES = [(found_by_a_start, "closed"), (found_by_the_scrubber, "leader"), (found_by_a_reader, "follower"),
         (found_by_a_start, "last"), (found_by_a_reader, "leader"), (found_by_the_scrubber, "follower")]


def main():
    rounds = Rounds("cluster_damage", quick=6, full=60)
    took = []
    with Racks(SCRUBBED) as cluster:
        cluster.create(TOPIC, PARTITIONS, segment_bytes=SEGMENT)
        load = Load(cluster)
        await_pace(load.producers, 2_500)
        for number, rng in rounds:
            way, where = CASES[number % len(CASES)]
            began = time.monotonic()
            replica, find = way(cluster, rng, load, where)
            said = await_mended(cluster, replica, find)
            took.append(time.monotonic() - began)
            acked = load.acked()
            load.read()
            load.read(rack=replica.number)
            same_everywhere(cluster, TOPIC, replica.partition, max(acked[replica.partition]))
            check(len(replica.events(MADE_ANEW)) == 1, f"{replica} was made anew more than once")
            print(f"round {number}: {way.__name__} ({where}): {replica} mended after {took[-1]:.2f} s: {said}",
                  flush=True)
            await_pace(load.producers, 300)
        count = load.audit()
        for node in cluster.nodes.values():
            node.end(signal.SIGTERM)
            verify(node)
    rounds.done(f"{count} records acknowledged, all there and served, never what was damaged; mended after "
                f"{max(took):.1f} s at most")


if __name__ == "__main__":
    main()
