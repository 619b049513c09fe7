#!/usr/bin/env python3
"""All nodes of a cluster are killed (-9) at once and started again, under load: whatever was acknowledged is
there, once, in order and at its offset, and so are committed offsets."""

import time

from cluster import Cluster, until
from cluster_load import Member, Producer, all_seen, audit, await_pace, read_all
from rounds import Rounds, check

GROUP = "readers"
# Partitions of three replicas, and of one: an acknowledgement means the disk in either case.
TOPICS = {"of-three": (6, 3), "of-one": (3, 1)}


class Load:
    """What works on one topic through all rounds."""

    def __init__(self, cluster, topic, partitions):
        self.topic = topic
        self.producer = Producer(f"p-{topic}", cluster.bootstrap, topic, partitions).start()
        self.member = Member(f"{GROUP}-{topic}", cluster.bootstrap, topic).start()

    def audit(self, cluster):
        """What was acknowledged before now; the producer goes on meanwhile."""
        acked = self.producer.snapshot()
        with self.member.lock:
            seen = dict(self.member.seen)
        there = read_all(cluster, self.topic)
        for partition, held in acked.items():
            for offset, value in held.items():
                check(there[partition].get(offset) == value,
                      f"{self.topic}-{partition}: {value} was acknowledged at {offset}, there is "
                      f"{there[partition].get(offset)}; the log ends at {len(there[partition])}")
        for (partition, offset), value in seen.items():
            check(there[partition].get(offset) == value, f"{self.topic}-{partition}: a reader saw {value} at {offset}, "
                                                         f"there is {there[partition].get(offset)}")


def coordinator(cluster, group):
    """A connection to who coordinates the group."""
    with cluster.door(cluster.alive()[0]) as door:
        reader = door.call(10, 0, b"".join((len(group).to_bytes(2, "big"), group.encode())))
        code = reader.i16()
        node = reader.i32()
    return cluster.door(node) if code == 0 and node in cluster.nodes else None


def committed(cluster, group, topic, partitions):
    """{partition: committed offset}, as the group's coordinator says."""
    door = until(lambda: coordinator(cluster, group), f"a coordinator of {group}", 20)
    with door:
        return door.committed(group, topic, range(partitions))


def main():
    rounds = Rounds("cluster_power", quick=3, full=100)
    kept, starts = 0, []
    with Cluster() as cluster:
        for topic, (partitions, replicas) in TOPICS.items():
            cluster.create(topic, partitions, replicas)
        loads = [Load(cluster, topic, partitions) for topic, (partitions, _) in TOPICS.items()]
        for number, rng in rounds:
            await_pace([load.producer for load in loads], 200)
            until(lambda: all(load.member.commits for load in loads), "commits", 20)
            time.sleep(rng.uniform(0.0, 0.5))
            before = [dict(load.member.commits) for load in loads]
            cluster.kill(*cluster.nodes)
            began = time.monotonic()
            cluster.start()
            cluster.await_whole(TOPICS)
            starts.append(time.monotonic() - began)
            for load, commits in zip(loads, before):
                load.audit(cluster)
                partitions = TOPICS[load.topic][0]
                found = committed(cluster, load.member.group, load.topic, partitions)
                for partition, offset in commits.items():
                    check(found[partition] >= offset, f"{load.member.group}: {load.topic}-{partition} was committed "
                                                      f"at {offset}, is at {found[partition]}")
                    kept += 1
            print(f"round {number}: whole again {starts[-1]:.2f} s after the kill", flush=True)
        count = 0
        for load in loads:
            load.producer.stop()
            there = read_all(cluster, load.topic)
            count += audit(there, [load.producer])
            wanted = sum(map(len, there.values()))
            until(lambda: len(all_seen([load.member])) >= wanted, f"the group sees all of {load.topic}", 30)
            load.member.stop()
    rounds.done(f"{count} records and {kept} committed offsets as acknowledged; whole again after "
                f"{max(starts):.2f} s at most")


if __name__ == "__main__":
    main()
