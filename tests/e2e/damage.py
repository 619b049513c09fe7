"""Bits of one replica's files are flipped: where, what its node says of it, and whether it has what others have."""

import subprocess
import sys

import brokers
from cluster import until

sys.path.insert(0, str(brokers.DEPS / "py"))

import confluent_kafka as ck  # noqa: E402
import evidence  # noqa: E402
from cluster_load import PATIENCE, quiet  # noqa: E402
from rounds import check  # noqa: E402

MADE_ANEW, REMOVED = "broker.damaged_partition_made_anew", "broker.damaged_copy_removed"
OUTSIDE_CRC = 17  # bytes of a batch that the checksum in it leaves out


def extents(segment):
    """(where it begins, where it ends, base offset) of each whole batch"""
    raw = segment.path.read_bytes()
    return [(begin, begin + 12 + int.from_bytes(raw[begin + 8:begin + 12], "big"), offset)
            for begin, offset in segment.batches]


class Replica:
    """One partition as one node holds it, on its disk and in its log of events from now on."""

    def __init__(self, cluster, number, topic, partition):
        self.node, self.name = cluster.nodes[number], f"{topic}-{partition}"
        self.number, self.topic, self.partition = number, topic, partition
        self.directory = self.node.status(f"/partitions/{self.name}/status")["directory"]
        self.folder = self.node.data / self.directory
        self.read_from = self.node.log.stat().st_size

    def __str__(self):
        return f"{self.name} at node {self.number}"

    def closed_below(self):
        """Where the segment begins that is written to."""
        return evidence.segments(self.node.data, self.directory)[-1].base

    def flip_closed(self, rng, below=None):
        """A bit of a batch in a segment that is written to no more; its segment and the batch's offset."""
        closed = [s for s in evidence.segments(self.node.data, self.directory)[:-1] if below is None or s.end <= below]
        check(len(closed) >= 2, f"{self}: {len(closed)} closed segments")
        return self.flip(rng, rng.choice(closed))

    def flip_last(self, rng):
        """One in the newest segment of which its node, which is down, knows that it was durable."""
        place = evidence.synced(self.node.data)[self.directory]
        for segment in reversed(evidence.segments(self.node.data, self.directory)):
            durable = [each for each in extents(segment) if (segment.base, each[1]) <= place]
            if durable:
                return self.flip(rng, segment, durable)
        check(False, f"{self}: nothing is known to be durable")

    def flip_at(self, rng, offset):
        """One in the batch with this base offset."""
        for segment in evidence.segments(self.node.data, self.directory):
            if found := [each for each in extents(segment) if each[2] == offset]:
                return self.flip(rng, segment, found)
        check(False, f"{self}: no batch has base offset {offset}")

    def flip(self, rng, segment, among=None):
        begin, end, offset = rng.choice(among or extents(segment))
        segment.flip(rng.randrange(begin + OUTSIDE_CRC, end), 1 << rng.randrange(8))
        return segment, offset

    def events(self, event):
        """Lines of its node's log with this event and of this partition."""
        with open(self.node.log, "rb") as log:
            log.seek(self.read_from)
            lines = log.read().decode(errors="replace").splitlines()
        return [line for line in lines if event in line and (self.name in line or self.directory in line)]

    def kept(self):
        """What was set aside."""
        return [path.name for path in self.node.data.glob(f"{self.directory}*.damaged")]

    def raw(self, upto):
        """{base offset: bytes of the batch} as they lie in the files."""
        found = {}
        for segment in evidence.segments(self.node.data, self.directory):
            raw = segment.path.read_bytes()
            found.update({offset: raw[begin:end] for begin, end, offset in extents(segment) if offset < upto})
        return found


def await_mended(cluster, replica, find=lambda: None, seconds=20):
    """The replica is made anew, all are in sync, and what was set aside is gone; returns what was said of it.
    `find` is done again and again until something is said: damage that nobody looks at nobody finds."""
    def said():
        return replica.events(MADE_ANEW) or (find(), replica.events(MADE_ANEW))[1]
    line = until(said, f"{replica} is made anew", seconds)[0].strip()
    cluster.await_whole([replica.topic], seconds)
    until(lambda: replica.events(REMOVED) and not replica.kept(), f"what {replica} had kept is removed", seconds)
    return line


def same_everywhere(cluster, topic, partition, upto):
    """Replicas come to have the same bytes below an offset, durably."""
    _, _, _, numbers, _ = cluster.partitions(topic)[partition]
    path = f"/partitions/{topic}-{partition}/status"
    until(lambda: all(cluster.nodes[n].status(path)["synced_end"] >= upto for n in numbers),
          f"nodes {numbers} have {topic}-{partition} below {upto}", 20)
    held = {n: Replica(cluster, n, topic, partition).raw(upto) for n in numbers}
    first = held[numbers[0]]
    for number, batches in held.items():
        other = [offset for offset in sorted(first.keys() | batches.keys()) if first.get(offset) != batches.get(offset)]
        check(not other, f"{topic}-{partition}: nodes {numbers[0]} and {number} differ at offsets {other[:5]}")
    check(sum(map(len, first.values())) > 0, f"{topic}-{partition}: nothing was compared")


def read_through(cluster, topic, acked, rack=None, seconds=20):
    """librdkafka reads each partition from its start to the last of `acked` ({partition: {offset: value}}), where it
    likes or in a rack: every offset comes, once and in order, its checksum right, with what was acknowledged."""
    consumer = ck.Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "through", "check.crcs": True,
                            "enable.auto.commit": False, "fetch.wait.max.ms": 100, "error_cb": quiet,
                            "topic.metadata.refresh.interval.ms": 500, "fetch.error.backoff.ms": 50,
                            **({"client.rack": rack} if rack else {}), **PATIENCE})
    consumer.assign([ck.TopicPartition(topic, p, 0) for p in acked])
    seen = {p: [] for p in acked}

    def whole():
        for message in consumer.consume(1_000, 0.1):
            error = message.error()
            if error:
                check(error.code() != ck.KafkaError._BAD_MSG, f"{topic} was served damaged: {error.str()}")
                continue
            held = seen[message.partition()]
            check(message.offset() == len(held), f"{topic}-{message.partition()}: {message.offset()} came after "
                                                 f"{len(held) - 1}")
            held.append(message.value())
        return all(len(seen[p]) > max(held) for p, held in acked.items())
    try:
        until(whole, f"{topic} is read to its end, rack {rack}", seconds, pause=0)
    finally:
        consumer.close()
    for partition, held in acked.items():
        for offset, value in held.items():
            check(seen[partition][offset] == value.encode(), f"{topic}-{partition}: at {offset} {value} was "
                                                             f"acknowledged, {seen[partition][offset]} read")


def verify(node):
    """`pyralog log verify` of a node that is stopped."""
    done = subprocess.run([node.binary, "log", "verify", str(node.data)], capture_output=True, text=True, timeout=60,
                          check=False)
    check(done.returncode == 0, f"log verify of node {node.number}: {done.stdout}{done.stderr}")
