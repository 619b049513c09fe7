"""How long partitions cannot be written to when their leader is lost: the clients that find out."""

import contextlib
import threading
import time

import clusters
from clusters import TROUBLE
from wire import Connection, array, batch, data, i16, i32, string

PRODUCE = 0
LOOK_AGAIN = 0.005  # between two looks at who leads
ANSWER = 5.0  # for an answer to come; a lost one is asked for again elsewhere
CHUNK = 50  # partitions in one request, so that a slow one holds few others up


def produce_body(topic, partitions, payload, wait_ms=4_000):
    body = string(None) + i16(-1) + i32(wait_ms)
    return body + array([string(topic) + array([i32(p) + data(payload) for p in partitions])])


def answered(reader):
    """{partition: error code} of a produce response."""
    found = {}
    for _ in range(reader.i32()):
        reader.string()
        for _ in range(reader.i32()):
            partition, code = reader.i32(), reader.i16()
            reader.i64()
            reader.i64()
            reader.i64()
            found[partition] = code
    return found


class Finder:
    """Writes a record to each of some partitions as soon as somebody takes it, by asking the nodes
    that are left who leads: every few milliseconds, so that what shows is the cluster's time and not
    a client's patience."""

    def __init__(self, cluster, topic, survivors):
        self.topic = topic
        self.addresses = [cluster.addresses[number] for number in survivors]
        self.open = {}
        self.payload = batch([b"x" * 100])
        self.turn = 0
        self.errors = {}

    def __enter__(self):
        for address in self.addresses:
            self.connection(address)
        return self

    def __exit__(self, *_):
        for address in list(self.open):
            self.close(address)

    def connection(self, address):
        if address not in self.open:
            self.open[address] = Connection(address, timeout=ANSWER)
        return self.open[address]

    def close(self, address):
        with contextlib.suppress(KeyError):
            self.open.pop(address).socket.close()

    def run(self, partitions, began, patience):
        """{partition: seconds from `began` to its first acknowledgement}."""
        left, taken = set(partitions), {}
        while left and time.monotonic() < began + patience:
            missing = len(left)
            for address, theirs in self.led(left).items():
                for at in range(0, len(theirs), CHUNK):
                    self.write(address, theirs[at:at + CHUNK], began, taken)
            left.difference_update(taken)
            if len(left) == missing:
                time.sleep(LOOK_AGAIN)
        if left:
            raise RuntimeError(f"{self.topic}: {len(left)} partitions, {sorted(left)[:5]} and on, take "
                               f"no records {patience} s after their leader was lost; errors so far: "
                               f"{self.errors}")
        return taken

    def led(self, partitions):
        """{leader that is left: its partitions}, as the next survivor sees it."""
        self.turn += 1
        address, found = self.addresses[self.turn % len(self.addresses)], {}
        try:
            for p, one in clusters.metadata(self.connection(address), self.topic).items():
                if p in partitions and one.leader in self.addresses:
                    found.setdefault(one.leader, []).append(p)
        except TROUBLE:
            self.close(address)
        return found

    def write(self, address, partitions, began, taken):
        try:
            reader = self.connection(address).call(
                PRODUCE, 7, produce_body(self.topic, partitions, self.payload))
        except TROUBLE as trouble:
            self.errors[str(trouble)] = self.errors.get(str(trouble), 0) + 1
            self.close(address)
            return
        now = time.monotonic()
        for partition, code in answered(reader).items():
            if code == 0:
                taken[partition] = now - began
            else:
                self.errors[code] = self.errors.get(code, 0) + 1


class StockWriter:
    """A librdkafka producer with its defaults and acks=all that sends a record to one partition every
    five milliseconds; when was the first acknowledged of those that it took after the loss?"""

    def __init__(self, bootstrap, topic, partition):
        from confluent_kafka import Producer
        self.producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0,
                                  "message.timeout.ms": 60_000, "log_level": 0})
        self.topic, self.partition = topic, partition
        self.lost_at = None
        self.first = threading.Event()
        self.first_at = None
        self.acknowledged = 0
        self.failed = 0
        self.ending = False
        self.thread = threading.Thread(target=self.loop)

    def __enter__(self):
        self.thread.start()
        deadline = time.monotonic() + 30
        while not self.acknowledged:
            if time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"{self.topic}: the producer has no acknowledgement within 30 s")
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.ending = True
        self.thread.join()
        self.producer.flush(5)

    def loop(self):
        while not self.ending:
            sent_at = time.monotonic()

            def done(error, _, sent_at=sent_at):
                if error is not None:
                    self.failed += 1
                    return
                self.acknowledged += 1
                if self.lost_at is not None and sent_at > self.lost_at and not self.first.is_set():
                    self.first_at = time.monotonic()
                    self.first.set()
            with contextlib.suppress(BufferError):
                self.producer.produce(self.topic, b"x" * 100, partition=self.partition,
                                      on_delivery=done)
            self.producer.poll(0.005)

    def seconds(self, patience):
        """From the loss to that acknowledgement."""
        if not self.first.wait(patience):
            raise RuntimeError(f"{self.topic}: the producer has no acknowledgement {patience} s after "
                               "the leader was lost")
        return self.first_at - self.lost_at


def lose_leader(cluster, topic, partitions, lose, patience, stock=True):
    """One loss of the node that leads partition 0: `lose(number)`. Seconds until the partitions that
    it led take records: {"all": the last of them, "own": partition 0, "stock": a librdkafka producer
    at partition 0}, and how many there were."""
    leaders = clusters.await_in_sync(cluster, topic, partitions)
    victim = cluster.number_of(leaders[0])
    survivors = [number for number in range(clusters.NODES) if number != victim]
    lost = [p for p in range(partitions) if leaders[p] == leaders[0]]
    with contextlib.ExitStack() as held:
        finder = held.enter_context(Finder(cluster, topic, survivors))
        writer = held.enter_context(StockWriter(cluster.bootstrap, topic, 0)) if stock else None
        began = time.monotonic()
        if writer:
            writer.lost_at = began
        lose(victim)
        taken = finder.run(lost, began, patience)
        found = {"victim": victim, "own": taken[0], "all": max(taken.values()), "lost": len(lost)}
        if writer:
            found["stock"] = writer.seconds(patience)
    return found
