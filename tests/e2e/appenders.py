"""Clients that append to one partition of a cluster and read it, and write down what happened when. They speak
Kafka's protocol by themselves, so that an answer is an answer and nothing is sent twice."""

import random
import sys
import threading
import time

from append_history import FAILED, OK, UNKNOWN, Append, Read
from cluster import Door, until, wire_client
from wire import array, batch, i8, i16, i32, i64, string

REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS = 7, 19
OUT_OF_RANGE = 1
LOOK_BACK = 100  # records that a reader reads again


def produce(door, topic, partition, value, acks=-1, timeout_ms=2_000):
    """(error, offset) of one record"""
    body = wire_client.produce_body(topic, partition, batch([value.encode()]), acks, timeout_ms)
    return wire_client.produce_answer(door.call(wire_client.PRODUCE, 7, body))


def fetch(door, topic, partition, offset):
    """(error, high watermark, records)"""
    body = (i32(-1) + i32(0) + i32(0) + i32(1 << 20) + i8(0)
            + array([string(topic) + array([i32(partition) + i64(offset) + i32(1 << 20)])]))
    reader = door.call(wire_client.FETCH, 4, body)
    reader.i32(), reader.i32(), reader.string(), reader.i32(), reader.i32()
    code, mark = reader.i16(), reader.i64()
    reader.i64()
    reader.array(lambda: (reader.i64(), reader.i64()))
    found = wire_client.records_of(reader.data() or b"")
    return code, mark, [r for r in found if r.offset >= offset]


def outcome_of(code):
    """What an answer to an append says. One that a leader gives up, it may have passed on before."""
    return {0: OK, NOT_ENOUGH_REPLICAS: FAILED}.get(code, UNKNOWN)


class Client(threading.Thread):
    """One connection, to whom it takes for the leader; after a refusal it asks anew, whoever comes first. If only
    replicas are missing it may as well stay."""

    def __init__(self, name, cluster, topic, seconds=2.5, gap=0.004):
        super().__init__(daemon=True)
        self.name, self.cluster, self.topic, self.seconds, self.gap = name, cluster, topic, seconds, gap
        self.door, self.node = None, None
        self.answers = {}  # {error: how often}
        self.over = threading.Event()
        self.rng = random.Random(name)

    def leave(self):
        if self.door is not None:
            self.door.__exit__()
        self.door = None

    def find(self):
        """Connects to who leads, as some node says; waits a little if none does."""
        alive = self.cluster.alive()
        for number in self.rng.sample(alive, len(alive)):
            try:
                with Door(self.cluster.nodes[number].kafka, 0.5) as asked:
                    _, found = asked.metadata(self.topic)
                error, leader = found[0][:2]
                if error == 0 and leader in self.cluster.nodes:
                    self.door, self.node = Door(self.cluster.nodes[leader].kafka, self.seconds), leader
                    return True
            except (OSError, ValueError, KeyError, wire_client.Refused):
                continue
        self.over.wait(0.05)
        return False

    def run(self):
        while not self.over.is_set():
            if self.door is None and not self.find():
                continue
            try:
                code = self.work()
            except (OSError, ValueError):
                code = "no answer"
            if code:
                self.answers[code] = self.answers.get(code, 0) + 1
            stays = code in (0, OUT_OF_RANGE) or (code in (NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT)
                                                  and self.rng.random() < 0.8)
            if not stays:
                self.leave()
            self.over.wait(self.gap)
        self.leave()

    def work(self):
        raise NotImplementedError

    def stop(self):
        self.over.set()
        self.join(20)
        if self.is_alive():
            sys.exit(f"FAILED: {self.name} does not end")


class Writer(Client):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.history = []

    def work(self):
        each = Append(f"{self.name}.{len(self.history)}", time.monotonic(), by=f"{self.name} at node {self.node}")
        self.history.append(each)
        code, offset = produce(self.door, self.topic, 0, each.value)
        each.outcome = outcome_of(code)
        if each.outcome != UNKNOWN:
            each.ended = time.monotonic()
        if code == 0:
            each.offset = offset
        return code


class Reader(Client):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.history = []
        self.known = 0

    def work(self):
        start = max(0, self.known - LOOK_BACK)
        began = time.monotonic()
        code, mark, found = fetch(self.door, self.topic, 0, start)
        if code == OUT_OF_RANGE:
            self.known = 0
        if code:
            return code
        values = [r.value.decode() for r in found if r.offset < mark]
        while start + len(values) < mark:
            code, _, found = fetch(self.door, self.topic, 0, start + len(values))
            if code or not found:
                return code
            values += [r.value.decode() for r in found if r.offset < mark]
        self.history.append(Read(values, began, time.monotonic(), f"{self.name} at node {self.node}", start))
        self.known = start + len(values)
        return 0


def read_final(cluster, topic):
    """The whole partition as it is in the end: as each node that leads it says."""
    def whole():
        leader = cluster.leaders(topic)[0]
        with cluster.door(leader) as door:
            return [r.value.decode() for r in door.read(topic, 0)] or None
    return until(whole, f"{topic} can be read", 20)


def refused_in_words(clients):
    counts = {}
    for each in clients:
        for code, count in each.answers.items():
            counts[code] = counts.get(code, 0) + count
    return ", ".join(f"{code}: {count}" for code, count in sorted(counts.items(), key=str)) or "none"
