#!/usr/bin/env python3
"""Topics that keep the newest record of each key (cleanup.policy=compact), under load, while the server
is killed, also in the middle of compaction and of a start: of every key the newest acknowledged record is
there, or one that came later, at its offset, with its value; what was deleted stays deleted; offsets only
rise; and the log stays small."""

import random
import tempfile
import threading
import time

import client
import evidence
from rounds import Rounds, check
from server import Server
from wire import batch

SEGMENT, KEYS = 20_000, 40
TOPICS = {
    "plain": {},
    "forgetful": {"delete_retention_ms": 300},
    "slow": {"min_compaction_lag_ms": 200},
}
OPTIONS = ("--log-cleaner-backoff-ms", "100", "--log-cleaner-dedupe-buffer-size", "65536")
PADDING = "keeps what counts; " * 30


class Writer(threading.Thread):
    """Writes records of few keys, one request at a time, until the server goes away. `acked` is {key:
    (offset, value)} of the newest acknowledged record; `open` are keys and values of the request that
    was not answered, or with an error of `in_doubt`. With a `pause`, in seconds, it waits so long after
    each answer."""

    def __init__(self, topic, bootstrap, rng, number, pause=0.0, in_doubt=()):
        super().__init__(daemon=True)
        self.topic, self.rng, self.number, self.pause, self.in_doubt = topic, rng, number, pause, in_doubt
        self.client = client.Client(bootstrap)
        self.acked, self.open, self.sent = {}, [], 0
        self.failure = None
        self.doubtful = []  # as `open`, of all requests before

    def run(self):
        try:
            while True:
                self.open = []
                for _ in range(self.rng.choice((1, 3, 8))):
                    key = b"key-%d" % self.rng.randrange(KEYS)
                    self.sent += 1
                    text = f"{self.topic}/{key.decode()}/{self.number}.{self.sent}|{PADDING}"
                    value = None if self.rng.random() < 0.15 else text[:self.rng.randint(60, 500)].encode()
                    self.open.append((key, value))
                code, base = self.client.produce(self.topic, 0, batch([v for _, v in self.open],
                                                                      keys=[k for k, _ in self.open]))
                if code in self.in_doubt:
                    self.doubtful += self.open
                    time.sleep(self.pause)
                    continue
                if code != client.NONE:
                    check(code in (client.NOT_LEADER, client.LEADER_NOT_AVAILABLE),
                          f"{self.topic}: produce: error {code}")
                    return
                for i, (key, value) in enumerate(self.open):
                    self.acked[key] = (base + i, value)
                self.open = []
                if self.pause:
                    time.sleep(self.pause)
        except (OSError, ConnectionError):
            pass  # the server is gone
        except SystemExit as failed:  # of a check
            self.failure = str(failed)


class Topic:
    """What is known of a topic's only partition."""

    def __init__(self, name):
        self.name = name
        self.acked = {}  # key: (offset, value)
        self.open = {}   # key: values of requests that were never answered

    def learn(self, writer):
        writer.join(30)
        check(not writer.is_alive(), f"{self.name}: a writer does not end")
        check(writer.failure is None, writer.failure)
        self.acked.update(writer.acked)
        for key, value in writer.doubtful + writer.open:
            self.open.setdefault(key, set()).add(value)

    def audit(self, reader):
        start, end = reader.offset(self.name, 0, -2), reader.offset(self.name, 0)
        check(start == 0, f"{self.name}: begins at {start}")
        newest, last, count = {}, -1, 0
        at = start
        while at < end:
            raw = reader.fetch(self.name, 0, at)
            for record in client.records_of(raw):
                if record.offset < at:
                    continue
                check(record.offset > last, f"{self.name}: offset {record.offset} follows {last}")
                last = record.offset
                newest[record.key] = (record.offset, record.value)
                count += 1
            after = client.end_of(raw)
            check(after is not None and after > at, f"{self.name}: nothing to read at {at} of {end}")
            at = after
        for key, (offset, value) in self.acked.items():
            found = newest.get(key)
            if found is None:
                gone = value is None or None in self.open.get(key, ())
                check(gone, f"{self.name}: {key}: nothing is left of it, offset {offset} was acknowledged")
                continue
            check(found[0] >= offset, f"{self.name}: {key}: its newest record is {found[0]}, "
                                      f"{offset} was acknowledged")
            if found[0] == offset:
                check(found[1] == value, f"{self.name}: {key}: offset {offset} has another value")
            else:
                check(found[1] in self.open.get(key, ()),
                      f"{self.name}: {key}: nobody wrote what is at {found[0]}")
        for key, (_, value) in newest.items():
            check(value is None or value.startswith(b"%s/%s/" % (self.name.encode(), key)),
                  f"{self.name}: {key}: the value is not of this key")
        return count


def settled(server, topics):
    """With nobody writing, what is left is what compaction keeps."""
    deadline = time.monotonic() + 15
    while True:
        partitions = server.partitions()
        sizes = {t.name: partitions[f"{t.name}-0"]["bytes"] for t in topics}
        left = evidence.orphans(server.data, partitions)
        # The newest of each key, the active segment, and a closed one or two that are not worth it.
        if all(size < KEYS * 600 + 3 * SEGMENT for size in sizes.values()) and not left:
            return
        check(time.monotonic() < deadline, f"the logs stay large: {sizes}; files without a segment: {left}")
        time.sleep(0.05)


def main():
    rounds = Rounds("compaction", quick=12, full=200)
    topics = [Topic(name) for name in TOPICS]
    written = 0
    with tempfile.TemporaryDirectory(prefix="pyralog-compaction-") as folder:
        for number, rng in rounds:
            if number and rng.random() < 0.3:
                with Server(folder + "/data", OPTIONS) as server:
                    server.ready_within(rng.uniform(0.0, 0.1))
            with Server(folder + "/data", OPTIONS) as server:
                server.ready()
                with client.Client(server.bootstrap) as admin:
                    for name, settings in TOPICS.items() if number == 0 else ():
                        admin.create_topic(name, 1, segment_bytes=SEGMENT, cleanup_policy="compact",
                                           min_cleanable_dirty_ratio=0.1, **settings)
                    offline = {n: p["offline"] for n, p in server.partitions().items() if p.get("offline")}
                    check(not offline, f"round {number}: offline partitions: {offline}")
                    for topic in topics:
                        topic.audit(admin)
                writers = [Writer(t.name, server.bootstrap, random.Random(rng.random()), number) for t in topics]
                for writer in writers:
                    writer.start()
                time.sleep(rng.uniform(0.05, 0.6))
                if rng.random() < 0.2:
                    check(server.terminate()[0] == 0, "a clean stop failed")
                else:
                    server.kill()
                for writer, topic in zip(writers, topics):
                    topic.learn(writer)
                    written += writer.sent
        with Server(folder + "/data", OPTIONS) as server:
            server.ready()
            settled(server, topics)
            with client.Client(server.bootstrap) as reader:
                left = sum(topic.audit(reader) for topic in topics)
            check(not [p for p in server.partitions().values() if p.get("offline")], "offline partitions")
            check("broker.compacted" in server.log_text(), "nothing was ever compacted")
            check(server.terminate()[0] == 0, "a clean stop failed")
    rounds.done(f"{written} records written, {left} left")


if __name__ == "__main__":
    main()
