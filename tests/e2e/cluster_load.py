"""Load on a cluster by librdkafka, with an account of what was acknowledged, and the audit of what is there."""

import sys
import threading
import time

import brokers
from cluster import Door, until

sys.path.insert(0, str(brokers.DEPS / "py"))

import confluent_kafka as ck  # noqa: E402
from rounds import check  # noqa: E402

# As they come but for these: a test cannot wait until a client looks again for a node that was away.
PATIENCE = {"reconnect.backoff.max.ms": 500, "retry.backoff.ms": 50, "log_level": 2}
STALE_MS = 120_000  # no record may be given up: that would be a gap


def quiet(_):
    """Brokers that are away are no news here."""


class Producer:
    """An idempotent librdkafka producer in a thread: it writes to all partitions by turns until it is told
    to stop. Values are `producer.partition.number`, in order in each partition."""

    def __init__(self, name, bootstrap, topic, partitions, rate=150.0):
        self.name, self.topic, self.partitions = name, topic, partitions
        self.gap = 1.0 / rate
        self.lock = threading.Lock()
        self.sent = dict.fromkeys(range(partitions), 0)
        self.acked = {p: {} for p in range(partitions)}  # {partition: {offset: value}}
        self.acks = []  # (partition, when sent, when acknowledged)
        self.failures = []
        self.over = threading.Event()
        self.producer = ck.Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True,
                                     "message.timeout.ms": STALE_MS, "linger.ms": 2, "error_cb": quiet, **PATIENCE})
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def run(self):
        while not self.over.is_set():
            for partition in range(self.partitions):
                self.send(partition)
                self.producer.poll(0)
                if self.over.wait(self.gap):
                    break
                self.producer.poll(0)

    def send(self, partition):
        value = f"{self.name}.{partition}.{self.sent[partition]}"
        moment = time.monotonic()

        def told(error, message):
            with self.lock:
                if error is not None:
                    self.failures.append(f"{value}: {error.str()}")
                else:
                    self.acked[partition][message.offset()] = value
                    self.acks.append((partition, moment, time.monotonic()))
        try:
            self.producer.produce(self.topic, value.encode(), partition=partition, on_delivery=told)
            self.sent[partition] += 1
        except BufferError:
            pass  # it waits for a leader

    def stop(self, seconds=60):
        """Waits for all that is under way."""
        self.over.set()
        self.thread.join(10)
        left = self.producer.flush(seconds)
        check(left == 0, f"producer {self.name}: {left} records are still under way after {seconds} s")
        check(not self.failures, f"producer {self.name} was refused: {self.failures[:3]}")

    def first_after(self, moment, partitions):
        """{partition: when the first record that was sent after `moment` was acknowledged}"""
        found = {}
        with self.lock:
            for partition, sent, acked in self.acks:
                if sent >= moment and partition in partitions:
                    found[partition] = min(acked, found.get(partition, acked))
        return found

    def total(self):
        with self.lock:
            return len(self.acks)

    def snapshot(self):
        with self.lock:
            return {p: dict(held) for p, held in self.acked.items()}


class Member:
    """A consumer of a group in a thread; it commits what it has seen, and keeps it with its offset."""

    def __init__(self, group, bootstrap, topic, session_ms=6_000):
        self.group = group
        self.lock = threading.Lock()
        self.seen = {}  # {(partition, offset): value}
        self.commits = {}  # {partition: the greatest offset of an acknowledged commit}
        self.failures = []
        self.over = threading.Event()
        self.consumer = ck.Consumer({
            "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "session.timeout.ms": session_ms, "heartbeat.interval.ms": 500,
            "fetch.wait.max.ms": 100, "error_cb": quiet, **PATIENCE})
        self.consumer.subscribe([topic])
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def run(self):
        while not self.over.is_set():
            found = self.consumer.consume(200, 0.2)
            with self.lock:
                for message in found:
                    if message.error():
                        continue  # of a leader that is away; it is asked again
                    place, value = (message.partition(), message.offset()), message.value().decode()
                    if self.seen.setdefault(place, value) != value:
                        self.failures.append(f"{place} was {self.seen[place]} and then {value}")
            if found:
                self.commit()
        self.consumer.close()

    def commit(self):
        try:
            for each in self.consumer.commit(asynchronous=False) or []:
                if each.error is None:
                    with self.lock:
                        self.commits[each.partition] = max(each.offset, self.commits.get(each.partition, 0))
        except ck.KafkaException:
            pass  # the coordinator is away, or the group is another; what was not committed comes again

    def stop(self):
        self.over.set()
        self.thread.join(30)
        check(not self.thread.is_alive(), "a consumer does not end")
        check(not self.failures, f"a consumer saw what cannot be: {self.failures[:3]}")


def all_seen(members):
    """{(partition, offset): value} of all members together."""
    seen = {}
    for member in members:
        with member.lock:
            for place, value in member.seen.items():
                check(seen.setdefault(place, value) == value, f"two members saw other records at {place}")
    return seen


def read_all(cluster, topic):
    """{partition: {offset: value}} from whoever leads each partition now."""
    def one(partition):
        leader = cluster.leaders(topic)[partition]
        if leader not in cluster.nodes:
            return None
        with Door(cluster.nodes[leader].kafka, 10.0) as door:
            return ({r.offset: r.value.decode() for r in door.read(topic, partition)},)
    return {p: until(lambda p=p: one(p), f"{topic}-{p} can be read", 20)[0] for p in sorted(cluster.leaders(topic))}


def audit(there, producers):
    """Everything that was acknowledged is there, at its offset; nothing is twice; each producer's records
    are in order; and nothing is there that nobody sent. Returns how many were acknowledged."""
    count = 0
    for partition, held in there.items():
        check(sorted(held) == list(range(len(held))), f"partition {partition} has gaps")
        values = list(held.values())
        twice = {v for v in values if values.count(v) > 1} if len(set(values)) != len(values) else ()
        check(not twice, f"partition {partition} has twice: {sorted(twice)[:5]}")
        for producer in producers:
            acked = producer.snapshot()[partition]
            count += len(acked)
            for offset, value in acked.items():
                check(held.get(offset) == value,
                      f"partition {partition}: {value} was acknowledged at {offset}, there is {held.get(offset)}; "
                      f"the log ends at {len(held)}")
            numbers = [int(v.split(".")[2]) for _, v in sorted(held.items()) if v.startswith(f"{producer.name}.")]
            check(numbers == sorted(numbers), f"partition {partition}: records of {producer.name} are out of order")
        strange = [v for v in values if not any(v.startswith(f"{p.name}.{partition}.") for p in producers)]
        check(not strange, f"partition {partition} has what nobody sent: {strange[:3]}")
    return count


def await_pace(producers, count, seconds=20):
    """Waits until so many more records are acknowledged."""
    goal = sum(p.total() for p in producers) + count
    until(lambda: sum(p.total() for p in producers) >= goal, f"{count} more acknowledged records", seconds)
