#!/usr/bin/env python3
"""Leaders are killed (-9) and started again while librdkafka's producers (acks=all, idempotent) and a consumer
group are at work on twelve partitions of three replicas: what was acknowledged is there, once and in order,
the group sees all of it, and each partition takes records again within PAUSE seconds of the kill."""

import collections
import os
import time

from cluster import Cluster, until
from cluster_load import Member, Producer, all_seen, audit, await_pace, read_all
from rounds import Rounds, check

TOPIC, PARTITIONS = "orders", 12
PAUSE = float(os.environ.get("PYRALOG_FAILOVER_SECONDS", "3"))  # on a machine that is loaded by other tests


def next_victim(leaders, last):
    """Who leads most, but another one than the last time."""
    counts = collections.Counter(node for node in leaders.values() if node != last)
    return counts.most_common(1)[0][0]


def pause_of(producers, killed, partitions):
    """{partition: seconds from the kill to the first acknowledgement of a record that was sent after it}"""
    def all_again():
        first = {}
        for producer in producers:
            for partition, moment in producer.first_after(killed, partitions).items():
                first[partition] = min(moment, first.get(partition, moment))
        return first if set(first) == partitions else None
    first = until(all_again, f"partitions {sorted(partitions)} take records again", 20)
    return {partition: moment - killed for partition, moment in first.items()}


def main():
    rounds = Rounds("cluster_failover", quick=4, full=100)
    pauses, victim = [], None
    with Cluster() as cluster:
        cluster.create(TOPIC, PARTITIONS)
        producers = [Producer(f"p{n}", cluster.bootstrap, TOPIC, PARTITIONS).start() for n in range(2)]
        members = [Member("readers", cluster.bootstrap, TOPIC).start() for _ in range(2)]
        await_pace(producers, 200)
        until(lambda: all_seen(members), "the group's first records", 20)
        for number, rng in rounds:
            leaders = cluster.leaders(TOPIC)
            victim = next_victim(leaders, victim)
            led = {p for p, node in leaders.items() if node == victim}
            controller = cluster.nodes[victim].status()["cluster"]["controller"] == victim
            killed = cluster.kill(victim)
            took = pause_of(producers, killed, led)
            pauses += took.values()
            what = f"{len(led)} partitions{' and the metadata' if controller else ''}"
            print(f"round {number}: node {victim} led {what}; they took records again after "
                  f"{min(took.values()):.2f} to {max(took.values()):.2f} s", flush=True)
            check(max(took.values()) <= PAUSE, f"a partition took nothing for {max(took.values()):.2f} s, "
                                               f"longer than {PAUSE} s")
            time.sleep(rng.choice((0.0, 0.3)))
            cluster.restart(victim)
            cluster.await_whole([TOPIC])
            await_pace(producers, 50)
        for producer in producers:
            producer.stop()
        there = read_all(cluster, TOPIC)
        count = audit(there, producers)
        wanted = {(p, o): v for p, held in there.items() for o, v in held.items()}
        until(lambda: len(all_seen(members)) >= len(wanted), "the group sees every record", 20)
        check(all_seen(members) == wanted, "the group saw other records than there are")
        for member in members:
            member.stop()
    pauses.sort()
    rounds.done(f"{count} records acknowledged, all there, each once and in order, seen by the group; pause "
                f"median {pauses[len(pauses) // 2]:.2f} s, longest {pauses[-1]:.2f} s of {len(pauses)}")


if __name__ == "__main__":
    main()
