#!/usr/bin/env python3
"""Idempotent producers through kill -9 and clean stops of the server: after each they send again what
they cannot know to be written, and the last batches that they do know. At the end each sequence is in
the log exactly once, in order, and every duplicate got the original's offset."""

import collections
import tempfile
import threading
import time

import client
from load import batch, value_of
from rounds import Rounds, check
from server import Server

TOPIC, PARTITIONS, PRODUCERS = "eos", 3, 6
SEGMENT_BYTES = 40_000
REMEMBERED = 5  # batches of a producer that the broker knows again, and the most in flight
OUT_OF_ORDER = 45


class Producer:
    """One producer id on one partition, whatever becomes of the server."""

    def __init__(self, identity, partition, admin, rng):
        self.identity, self.partition, self.rng = identity, partition, rng
        self.producer, self.epoch = admin.producer_id()
        self.sequence = 0
        self.pending = collections.deque()                # sent, not known to be written
        self.known = collections.deque(maxlen=REMEMBERED)  # (first sequence, raw batch, base offset)
        self.offsets = {}                                  # sequence -> offset as acknowledged
        self.duplicates = 0

    def next_batch(self):
        first, values = self.sequence, []
        for _ in range(self.rng.choice((1, 2, 4))):
            values.append(value_of(self.identity, self.sequence, self.rng.randint(30, 600)))
            self.sequence += 1
        return first, len(values), batch(values, producer=(self.producer, self.epoch, first))

    def send(self, wire, raw):
        wire.send(client.PRODUCE, 7, client.produce_body(TOPIC, self.partition, raw, -1))

    def answer(self, wire):
        answer = wire.receive()
        if answer is None:
            raise ConnectionError
        return client.produce_answer(answer[1])

    def take(self, wire):
        """The answer to the oldest batch in flight."""
        code, base = self.answer(wire)
        first, count, raw = self.pending[0]
        check(code == client.NONE, f"producer {self.producer}: sequence {first} was refused with error {code}")
        self.pending.popleft()
        for index in range(count):
            self.offsets[first + index] = base + index
        self.known.append((first, raw, base))

    def repeat_known(self, wire):
        """Duplicates of what was acknowledged before the server ended. What is pending may be written,
        and then pushes the oldest out of the broker's memory."""
        for first, raw, base in list(self.known)[len(self.pending):]:
            self.send(wire, raw)
            code, again = self.answer(wire)
            check((code, again) == (client.NONE, base),
                  f"producer {self.producer}: a duplicate of sequence {first} got error {code}, offset "
                  f"{again}; the original has {base}")
            self.duplicates += 1

    def refuse_gap(self, wire):
        """Sequence numbers are known again, not only batches."""
        raw = batch([b"gap"], producer=(self.producer, self.epoch, self.sequence + 3))
        self.send(wire, raw)
        code, _ = self.answer(wire)
        check(code == OUT_OF_ORDER, f"producer {self.producer}: a gap got error {code}")

    def work(self, bootstrap, stopping):
        """Produces until it is told to stop (then everything is answered) or a connection ends: what is
        pending then will be sent again."""
        with client.Client(bootstrap) as connection:
            wire = connection.wire
            if self.known:
                self.repeat_known(wire)
            again = len(self.pending)
            for _, _, raw in self.pending:
                self.send(wire, raw)
            for _ in range(again):
                self.take(wire)
            if self.sequence:
                self.refuse_gap(wire)
            window = self.rng.randint(1, REMEMBERED)
            while not stopping.is_set() or self.pending:
                while len(self.pending) < window and not stopping.is_set():
                    self.pending.append(self.next_batch())
                    self.send(wire, self.pending[-1][2])
                if self.pending:
                    self.take(wire)


class Working:
    """Producers at work, each on a thread."""

    def __init__(self, producers, bootstrap):
        self.stopping = threading.Event()
        self.failed = []
        self.threads = [threading.Thread(target=self.guarded, args=(p, bootstrap), daemon=True)
                        for p in producers]
        for thread in self.threads:
            thread.start()

    def guarded(self, producer, bootstrap):
        try:
            producer.work(bootstrap, self.stopping)
        except OSError:
            pass  # the server is gone
        except SystemExit as failure:  # a failed check
            self.failed.append(str(failure))

    def join(self):
        for thread in self.threads:
            thread.join(60)
            check(not thread.is_alive(), "a producer waits for ever")
        check(not self.failed, "; ".join(self.failed))


def judge(server, producers):
    """Each sequence of each producer is there exactly once, in order, where it was acknowledged."""
    with client.Client(server.bootstrap) as reader:
        found = {p: reader.read(TOPIC, p) for p in range(PARTITIONS)}
    for producer in producers:
        mine = [r for r in found[producer.partition] if r.producer == producer.producer]
        sequences = [r.sequence for r in mine]
        check(sequences == list(range(producer.sequence)),
              f"producer {producer.producer}: sequences are not 0 to {producer.sequence - 1}, each once: "
              f"{len(sequences)} records, the first wrong one at "
              f"{next((i for i, s in enumerate(sequences) if s != i), len(sequences))}")
        wrong = [r for r in mine if producer.offsets.get(r.sequence) != r.offset]
        check(not wrong, f"producer {producer.producer}: sequence {wrong[0].sequence if wrong else 0} is not "
                         f"where it was acknowledged")


def main():
    rounds = Rounds("eos_crash", quick=14, full=200)
    producers, clean = [], 0
    with tempfile.TemporaryDirectory(prefix="pyralog-eos-") as folder:
        data = folder + "/data"
        for number, rng in rounds:
            with Server(data) as server:
                server.ready()
                if number == 0:
                    with client.Client(server.bootstrap) as admin:
                        admin.create_topic(TOPIC, PARTITIONS, segment_bytes=SEGMENT_BYTES)
                        producers = [Producer(i, i % PARTITIONS, admin, rng) for i in range(PRODUCERS)]
                working = Working(producers, server.bootstrap)
                time.sleep(rng.uniform(0.05, 0.35))  # when the blow falls is drawn, not awaited
                if rng.random() < 0.25:
                    clean += 1
                    check(server.terminate()[0] == 0, "a clean stop failed")
                else:
                    server.kill()
                working.join()
        with Server(data) as server:
            server.ready()
            working = Working(producers, server.bootstrap)
            working.stopping.set()
            working.join()
            judge(server, producers)
    duplicates = sum(p.duplicates for p in producers)
    check(duplicates > rounds.count, f"only {duplicates} duplicates were sent")
    rounds.done(f"{rounds.count - clean} kills and {clean} clean stops, "
                f"{sum(p.sequence for p in producers)} sequences once each, {duplicates} duplicates answered")


if __name__ == "__main__":
    main()
