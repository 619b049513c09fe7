#!/usr/bin/env python3
"""Topics that forget by size, by age, or when they are told to (DeleteRecords), under load, while the
server is killed, also in the middle of a start: a partition's beginning only rises, what was deleted by
name stays away, the rest is there, once, in order, at its offset, and files do not pile up."""

import tempfile
import time

import client
import evidence
import load
from client import array, i32, i64, string
from rounds import Rounds, check
from server import Server

SEGMENT, KEPT, AGE_MS = 20_000, 60_000, 400
TOPICS = {
    "by-size": {"retention_bytes": KEPT},
    "by-age": {"retention_ms": AGE_MS, "segment_ms": 150},
    "by-name": {"retention_ms": -1},
    "for-ever": {"retention_ms": -1},
}
OPTIONS = ("--log-retention-check-interval-ms", "100")
DELETE_RECORDS = 21


class Partition:
    """What is known of a topic's only partition."""

    def __init__(self, topic):
        self.topic, self.acked = topic, {}
        self.start = 0   # the greatest beginning that was shown
        self.told = 0    # where it was told to begin, and said so

    def audit(self, reader):
        start = reader.offset(self.topic, 0, -2)
        check(start >= self.start, f"{self.topic}: begins at {start}, it began at {self.start} before")
        check(start >= self.told, f"{self.topic}: begins at {start}, records below {self.told} were deleted")
        check(self.topic in ("by-size", "by-age") or start == self.told,
              f"{self.topic}: begins at {start}, nobody deleted records beyond {self.told}")
        for _ in range(20):  # what is read may be forgotten meanwhile
            try:
                audit = load.Audit(f"{self.topic}-0", start)
                records = reader.read(self.topic, 0, start)
                break
            except client.Refused as refused:
                check(refused.code == 1 and self.topic in ("by-size", "by-age"), f"{self.topic}: {refused}")
                start = reader.offset(self.topic, 0, -2)
        audit.feed(records, {o: v for o, v in self.acked.items() if o >= start})
        self.start = start
        self.acked = {o: v for o, v in self.acked.items() if o >= start}


def delete_records(connection, topic, offset):
    body = array([string(topic) + array([i32(0) + i64(offset)])]) + i32(10_000)
    connection.send(DELETE_RECORDS, 0, body)
    answer = connection.receive()
    if answer is None:
        return None
    reader = answer[1]
    reader.i32(), reader.i32(), reader.string(), reader.i32(), reader.i32()
    low, code = reader.i64(), reader.i16()
    check(code == client.NONE, f"DeleteRecords of {topic} to {offset}: error {code}")
    return low


def delete_some(server, partition, rng):
    """Tells the topic where to begin; the server may go away meanwhile."""
    try:
        with client.Client(server.bootstrap) as admin:
            end = admin.offset(partition.topic, 0)
            to = rng.randint(partition.told, max(partition.told, end))
            low = delete_records(admin.wire, partition.topic, to)
            if low is not None:
                check(low == to, f"{partition.topic}: begins at {low}, not at {to}")
                partition.told = to
    except (OSError, ConnectionError):
        pass


def settled(server):
    """With nobody writing, sizes come down to what is kept, and no file is left behind."""
    deadline = time.monotonic() + 10
    while True:
        partitions = server.partitions()
        size = partitions["by-size-0"]["bytes"]
        aged = list((server.data / partitions["by-age-0"]["directory"]).glob("*.log"))
        left = evidence.orphans(server.data, partitions)
        if size < KEPT + SEGMENT + 2000 and len(aged) <= 2 and not left:
            return
        check(time.monotonic() < deadline,
              f"by-size keeps {size} bytes, by-age {len(aged)} files; files without a segment: {left}")
        time.sleep(0.05)


def main():
    rounds = Rounds("retention", quick=12, full=200)
    partitions = [Partition(topic) for topic in TOPICS]
    identity, forgotten = 0, 0
    with tempfile.TemporaryDirectory(prefix="pyralog-retention-") as folder:
        for number, rng in rounds:
            if number and rng.random() < 0.3:
                with Server(folder + "/data", OPTIONS) as server:
                    server.ready_within(rng.uniform(0.0, 0.1))
            with Server(folder + "/data", OPTIONS) as server:
                server.ready()
                with client.Client(server.bootstrap) as admin:
                    for topic, settings in TOPICS.items() if number == 0 else ():
                        admin.create_topic(topic, 1, segment_bytes=SEGMENT, **settings)
                    offline = {n: p["offline"] for n, p in server.partitions().items() if p.get("offline")}
                    check(not offline, f"round {number}: offline partitions: {offline}")
                    for partition in partitions:
                        partition.audit(admin)
                writers = [w for i, p in enumerate(partitions)
                           for w in load.start(server, p.topic, 1, rng, identity + i, 1)]
                identity += len(partitions)
                named = next(p for p in partitions if p.topic == "by-name")
                for _ in range(rng.randint(1, 4)):
                    time.sleep(rng.uniform(0.0, 0.15))
                    delete_some(server, named, rng)
                if clean := rng.random() < 0.2:
                    check(server.terminate()[0] == 0, "a clean stop failed")
                else:
                    server.kill()
                for writer, partition in zip(writers, partitions):
                    load.finish([writer], acked := {}, load.GOING_DOWN if clean else ())
                    partition.acked.update(acked.get(0, {}))
        with Server(folder + "/data", OPTIONS) as server:
            server.ready()
            with client.Client(server.bootstrap) as reader:
                for partition in partitions:
                    partition.audit(reader)
            settled(server)
            check(not [p for p in server.partitions().values() if p.get("offline")], "offline partitions")
            check(server.terminate()[0] == 0, "a clean stop failed")
    for partition in partitions[:3]:
        check(partition.start > 0, f"{partition.topic} never forgot anything")
        forgotten += partition.start
    rounds.done(f"{forgotten} records forgotten")


if __name__ == "__main__":
    main()
