"""How long partitions cannot be written to when their leader is lost: the clients that find out."""

import contextlib
import sys
import threading
import time

import clusters
from clusters import TROUBLE
from harness import brokers
from wire import Connection

sys.path.insert(0, str(brokers.DEPS / "py"))
try:
    import confluent_kafka
except ImportError:
    confluent_kafka = None

LOOK_AGAIN = 0.005  # between two looks at who leads
ANSWER = 5.0  # for an answer to come; a lost one is asked for again elsewhere
CHUNK = 50  # partitions in one request, so that a slow one holds few others up


class Finder:
    """Writes a record to each of some partitions as soon as somebody takes it, by asking the nodes
    that are left who leads: every few milliseconds, so that what shows is the cluster's time and not
    a client's patience."""

    def __init__(self, cluster, topic, survivors):
        self.topic = topic
        self.addresses = [cluster.addresses[number] for number in survivors]
        self.open = {}
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
            answers = clusters.produce(self.connection(address), self.topic, partitions)
        except TROUBLE as trouble:
            self.errors[str(trouble)] = self.errors.get(str(trouble), 0) + 1
            self.close(address)
            return
        now = time.monotonic()
        for partition, code in answers.items():
            if code == 0:
                taken[partition] = now - began
            else:
                self.errors[code] = self.errors.get(code, 0) + 1


class StockWriter:
    """A librdkafka producer with its defaults and acks=all that sends a record to one partition every
    five milliseconds; when was the first acknowledged of those that it took after the loss?"""

    def __init__(self, bootstrap, topic, partition):
        self.producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0,
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

    def first_acknowledged(self, patience):
        """When that acknowledgement came."""
        if not self.first.wait(patience):
            raise RuntimeError(f"{self.topic}: the producer has no acknowledgement {patience} s after "
                               "the leader was lost")
        return self.first_at


def lose_leader(cluster, topic, partitions, victim, lose, patience, stock=False):
    """`lose(victim)` is called, a node that leads some of the partitions. Seconds from before that
    until those take records again: {"own": {partition: seconds}} and, if asked for, {"stock": seconds
    of a librdkafka producer at the first of them}. None if it leads none."""
    leaders = clusters.await_in_sync(cluster, topic, partitions)
    lost = [p for p in range(partitions) if leaders[p] == cluster.addresses[victim]]
    if not lost:
        return None
    survivors = [number for number in range(clusters.NODES) if number != victim]
    with contextlib.ExitStack() as held:
        finder = held.enter_context(Finder(cluster, topic, survivors))
        writer = stock and held.enter_context(StockWriter(cluster.bootstrap, topic, lost[0]))
        began = time.monotonic()
        lose(victim)
        if writer:
            writer.lost_at = time.monotonic()  # what it sends from now on, the lost node cannot take
        found = {"own": finder.run(lost, began, patience), "victim": victim}
        if writer:
            found["stock"] = writer.first_acknowledged(patience) - began
    return found
