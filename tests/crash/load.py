"""Writers that keep account of what was acknowledged, and the audit of what is there afterwards."""

import collections
import random
import threading

import client
from rounds import check
from wire import batch

WINDOW = 5  # requests in flight on one connection
# What a request may be told that comes while the server goes down; clients try again elsewhere.
GOING_DOWN = (client.NOT_LEADER, client.LEADER_NOT_AVAILABLE)
PADDING = b"the log is the database; " * 64


def value_of(writer, number, size):
    head = f"{writer}.{number}|".encode()
    return head + PADDING[:max(0, size - len(head))]


def parse(value):
    writer, number = value.split(b"|", 1)[0].split(b".")
    return int(writer), int(number)


class Writer(threading.Thread):
    """One connection that produces, several requests in flight, until it is told to stop or the
    server goes away. It never sends a record twice. `acked` is {partition: {offset: value}}, filled
    for every answer without an error; `refused` are the other answers. With a `pause`, in seconds, it
    waits so long after each answer."""

    def __init__(self, identity, bootstrap, topic, partitions, rng, acks=-1, sizes=(50, 900), pause=0.0):
        super().__init__(daemon=True)
        self.pause = pause
        self.identity, self.topic, self.partitions = identity, topic, partitions
        self.rng, self.acks, self.sizes = rng, acks, sizes
        self.connection = client.Client(bootstrap).wire
        self.acked = {p: {} for p in range(partitions)}
        self.refused = []
        self.sent = self.answered = 0
        self.stopping = threading.Event()
        self.begun = threading.Event()  # the first answer is there

    def run(self):
        flight = collections.deque()
        try:
            while not self.stopping.is_set() or flight:
                while len(flight) < WINDOW and not self.stopping.is_set():
                    flight.append(self.send())
                self.receive(*flight.popleft())
                if self.pause:
                    self.stopping.wait(self.pause)
        except (OSError, ConnectionError):
            pass  # the server is gone
        finally:
            self.begun.set()

    def send(self):
        partition = self.rng.randrange(self.partitions)
        values = []
        for _ in range(self.rng.choice((1, 1, 2, 5))):
            values.append(value_of(self.identity, self.sent, self.rng.randint(*self.sizes)))
            self.sent += 1
        self.connection.send(client.PRODUCE, 7, client.produce_body(self.topic, partition,
                                                                    batch(values), self.acks))
        return partition, values

    def receive(self, partition, values):
        answer = self.connection.receive()
        if answer is None:
            raise ConnectionError
        code, base = client.produce_answer(answer[1])
        if code == client.NONE:
            self.acked[partition].update((base + i, value) for i, value in enumerate(values))
            self.answered += len(values)
        else:
            self.refused.append((code, values))
        self.begun.set()


class Audit:
    """What one partition may hold: offsets without a gap, records of each writer in the order in
    which they were sent and so none twice, and every acknowledged one at its offset. Fed in pieces,
    as the log grows."""

    def __init__(self, name, start=0):
        self.name, self.next = name, start
        self.last = {}

    def feed(self, records, acked, upto=None):
        """Checks `records`, which go on where the last ones ended; acknowledged offsets below `upto`
        (default: all) must be among what was fed so far."""
        for record in records:
            check(record.offset == self.next,
                  f"{self.name}: offset {record.offset} follows {self.next - 1}")
            writer, number = parse(record.value)
            check(number > self.last.get(writer, -1),
                  f"{self.name}: at offset {record.offset} record {number} of writer {writer} follows "
                  f"{self.last.get(writer)}: twice, or out of order")
            self.last[writer] = number
            expected = acked.get(record.offset)
            check(expected is None or expected == record.value,
                  f"{self.name}: offset {record.offset} is not what was acknowledged there")
            self.next += 1
        missing = [offset for offset in acked
                   if offset >= self.next and (upto is None or offset < upto)]
        check(not missing, f"{self.name}: {len(missing)} acknowledged records are lost, the first at "
                           f"offset {min(missing, default=None)}; the log ends at {self.next}")


def start(server, topic, partitions, rng, identity, count, acks=-1, pause=0.0):
    """`count` writers at work; returns them once the first has an answer."""
    writers = [Writer(identity + i, server.bootstrap, topic, partitions,
                      random.Random(rng.randrange(1 << 30)), acks, pause=pause) for i in range(count)]
    for writer in writers:
        writer.start()
    check(writers[0].begun.wait(30), "no answer within 30 s")
    return writers


def finish(writers, acked, may_refuse=()):
    """Waits for the writers, whose server has ended, and adds what they had acknowledged to `acked`,
    {partition: {offset: value}}. No offset may have been given twice."""
    for writer in writers:
        writer.join(30)
        check(not writer.is_alive(), "a writer waits for a server that is gone")
        bad = [code for code, _ in writer.refused if code not in may_refuse]
        check(not bad, f"{writer.topic}: a produce was refused with error {bad[:1]}")
        for partition, offsets in writer.acked.items():
            both = acked.setdefault(partition, {})
            twice = both.keys() & offsets.keys()
            check(not twice, f"{writer.topic}-{partition}: offset {min(twice, default=None)} was given twice")
            both.update(offsets)
