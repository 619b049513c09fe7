#!/usr/bin/env python3
"""Each of three replicas is damaged, in another place, and the scrubbers find all of it at about the same time. That
is more than W - 1 disks, so the partition may wait or refuse what nobody can give; but each record lies sound on two
disks, and none of them is thrown away: in the logs and in what was set aside all that was acknowledged is still
there."""

import signal
import time

from cluster import until
from cluster_damage import Racks
from cluster_load import Producer, await_pace
from damage import Replica, evidence, extents
from rounds import Rounds, check

TOPIC, RECORDS, SEGMENT = "orders", 2_500, 16_384
SETTLED = 15.0  # seconds: all have looked at it, tried to mend it, and been asked to lead


def sound_copies(cluster, directory, whole):
    """{base offset: how many files hold the batch as it was}, of logs and of what was set aside."""
    found = dict.fromkeys(whole, 0)
    for node in cluster.nodes.values():
        for folder in node.data.glob(f"{directory}*"):
            for segment in evidence.segments(node.data, folder.name):
                raw = segment.path.read_bytes()
                for begin, end, offset in extents(segment):
                    found[offset] = found.get(offset, 0) + (raw[begin:end] == whole.get(offset))
    return found


def one(cluster, rng, topic):
    cluster.create(topic, segment_bytes=SEGMENT)
    producer = Producer(topic, cluster.bootstrap, topic, 1, rate=1_000).start()
    await_pace([producer], RECORDS)
    producer.stop()
    end = max(producer.snapshot()[0]) + 1
    replicas = [Replica(cluster, n, topic, 0) for n in cluster.nodes]
    path = f"/partitions/{topic}-0/status"
    until(lambda: all(each.node.status(path)["synced_end"] == end for each in replicas), "all have all", 20)
    whole, closed = replicas[0].raw(end), min(each.closed_below() for each in replicas)
    for replica, offset in zip(replicas, rng.sample([o for o in whole if o < closed], len(replicas))):
        replica.flip_at(rng, offset)
    until(lambda: sum(bool(each.events("log.scrub_damage")) for each in replicas) >= 2, "the scrubbers find it", 20)
    time.sleep(SETTLED)
    copies = sound_copies(cluster, replicas[0].directory, whole)
    gone = [offset for offset, count in copies.items() if count == 0]
    check(not gone, f"{topic}: of {len(whole)} batches {len(gone)} are nowhere any more, from offset {min(gone or [0])} "
                    f"on; each lay sound on two disks of three")


def main():
    rounds = Rounds("cluster_damage_all", quick=2, full=20)
    with Racks() as cluster:
        for node in cluster.nodes.values():
            node.words[node.words.index("--log-scrub-interval-ms") + 1] = "500"
            node.end(signal.SIGTERM)
        cluster.start()
        for number, rng in rounds:
            one(cluster, rng, f"{TOPIC}-{number}")
            print(f"round {number}: all batches are still there", flush=True)
    rounds.done("nothing sound was thrown away")


if __name__ == "__main__":
    main()
