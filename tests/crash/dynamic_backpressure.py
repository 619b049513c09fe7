#!/usr/bin/env python3
"""A hundred and twenty clients take a topic in memory, twenty one on disk, at 10 KB/s, while writers write as
fast as they can and a quick reader of each follows. The slow ones come one by one and ask for a megabyte of
what is about to be forgotten, so that together they could hold much more than the server may give. They hold up
nobody but themselves: the quick ones never wait two seconds for records that are there, the server's memory
stays bounded, nobody who takes something is dropped, and everybody gets every record in order."""

import os
import pathlib
import random
import socket
import struct
import tempfile
import threading
import time
import traceback

import client
from rounds import check
from server import Server
from wire import Connection, Reader, array, batch, i8, i32, i64, string

SOAK = os.environ.get("PYRALOG_SOAK") == "1"
SECONDS = float(os.environ.get("SECONDS") or (300 if SOAK else 12))
SLOW = {"memory": 120, "disk": 20}      # readers of each topic
RATE = 10_000                           # bytes that each of them takes in a second
ASKED = 1_000_000                       # bytes of a fetch: one takes longer than any time limit
COMING = 0.6                            # the part of the time in which the slow ones come, one by one
GAP = 2.0                               # seconds that a quick reader may wait for records that are there
MIB = 1 << 20
# Nobody gets less than 64 KiB for an answer: there is more than that for all of them, and much less than they ask.
ANSWERS, TOPICS, REQUESTS, SLACK = 16 * MIB, 32 * MIB, 16 * MIB, 40 * MIB
OPTIONS = ("--shards", "2", "--queued-max-response-bytes", str(ANSWERS), "--memory-topics-max-bytes", str(TOPICS),
           "--queued-max-request-bytes", str(REQUESTS), "--max-request-bytes", str(4 * MIB))
OUT_OF_RANGE = 1
# Made once: what is to be fast is the server.
POOL = [batch([f"{n}.{k}|".encode() + bytes([97 + n % 26]) * 1_000 for k in range(20)]) for n in range(16)]
BY_CRC = {made[17:21]: made for made in POOL}


def fetch_body(topic, offset, max_bytes):
    return (i32(-1) + i32(500) + i32(1) + i32(max_bytes) + i8(0)
            + array([string(topic) + array([i32(0) + i64(offset) + i32(max_bytes)])]))


def answer_of(reader):
    """(error, raw batches) of a fetch of one partition."""
    reader.i32(), reader.i32(), reader.string(), reader.i32(), reader.i32()
    code = reader.i16()
    reader.i64(), reader.i64()
    reader.array(lambda: (reader.i64(), reader.i64()))
    return code, reader.data() or b""


class Follower:
    """Where one reader of a topic is, and what it has seen."""
    late = False  # so far behind that retention may overtake it

    def __init__(self, topic, offset):
        self.topic, self.at = topic, offset
        self.seen = {}  # base offset: what tells a batch from others
        self.skipped = self.taken = 0

    def take(self, raw):
        """Whole batches as they came; each must be one that was sent, in its place."""
        place = 0
        while len(raw) - place >= 61:
            base, length = struct.unpack_from(">qi", raw, place)
            end = place + 12 + length
            if end > len(raw):
                break
            made = BY_CRC.get(raw[place + 17:place + 21])
            check(made is not None and raw[place + 21:end] == made[21:], f"{self.topic}: no batch of ours at {base}")
            check(base == self.at, f"{self.topic}: {base} came where {self.at} was due")
            self.seen[base] = made[17:21]
            self.at = base + 20
            place = end

    def skip_to(self, start):
        """Its records have gone meanwhile. Of a topic on disk those that are read at once never go."""
        may = self.late or self.topic == "memory"
        check(may and start > self.at, f"{self.topic}: {self.at} is gone, it begins at {start}")
        self.skipped += 1
        self.at = start


class Slow(Follower):
    """Takes RATE bytes a second, never waits, and asks for more when it has all of an answer."""
    late = True

    def __init__(self, bootstrap, topic, offset):
        super().__init__(topic, offset)
        host, port = bootstrap.rsplit(":", 1)
        self.wire = Connection.__new__(Connection)
        self.wire.correlation = 0
        self.wire.socket = socket.socket()
        self.wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        self.wire.socket.connect((host, int(port)))
        self.wire.socket.settimeout(0)
        self.inbox = bytearray()
        self.taken = 0
        self.ask()

    def ask(self):
        self.wire.send(client.FETCH, 4, fetch_body(self.topic, self.at, ASKED))

    def read(self, most, admin):
        """Takes up to `most` bytes that are there; True once an answer was whole."""
        try:
            part = self.wire.socket.recv(most)
        except BlockingIOError:
            return False
        check(part, f"{self.topic}: a slow reader was dropped after {self.taken} bytes")
        self.taken += len(part)
        self.inbox += part
        if len(self.inbox) < 4 or len(self.inbox) < 4 + struct.unpack_from(">i", self.inbox)[0]:
            return False
        reader = Reader(bytes(self.inbox[4:]))
        self.inbox.clear()
        reader.i32()
        code, raw = answer_of(reader)
        check(code in (client.NONE, OUT_OF_RANGE), f"{self.topic}: error {code}")
        if code == OUT_OF_RANGE:
            self.skip_to(admin.offset(self.topic, 0, -2))
        self.take(raw)
        self.ask()
        return True


class Load:
    """The threads that run beside each other, and what they have found."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.over = threading.Event()
        self.failed = []
        self.acked = {"memory": {}, "disk": {}}
        self.quick, self.gaps = {}, {"memory": [], "disk": []}
        self.slow = []
        self.come = threading.Event()  # the slow ones
        works = [lambda t=t, w=w: w(t) for t in self.acked for w in (self.write, self.follow)]
        self.threads = [threading.Thread(target=self.guarded, args=(w,), daemon=True)
                        for w in (*works, self.crawl)]
        for thread in self.threads:
            thread.start()

    def guarded(self, work):
        try:
            work()
        except (SystemExit, client.Refused) as failure:
            self.failed.append(str(failure))
        except Exception:
            self.failed.append(traceback.format_exc())

    def write(self, topic):
        number = 0
        with client.Client(self.bootstrap) as producer:
            while not self.over.is_set():
                made = POOL[number % len(POOL)]
                code, base = producer.produce(topic, 0, made, acks=1)
                check(code == client.NONE, f"{topic}: error {code}")
                self.acked[topic][base] = made[17:21]
                number += 1

    def follow(self, topic):
        """As fast as it can; a gap is the time from asking to records."""
        follower = self.quick[topic] = Follower(topic, 0)
        with client.Client(self.bootstrap) as reader:
            asked = time.monotonic()
            while not self.over.is_set():
                code, raw = answer_of(reader.call(client.FETCH, 4, fetch_body(topic, follower.at, MIB)))
                check(code in (client.NONE, OUT_OF_RANGE), f"{topic}: error {code}")
                if code == OUT_OF_RANGE:
                    follower.skip_to(reader.offset(topic, 0, -2))
                if raw:
                    follower.take(raw)
                    self.gaps[topic].append(time.monotonic() - asked)
                if raw or follower.at not in self.acked[topic]:
                    asked = time.monotonic()

    def crawl(self):
        step = 0.1
        coming = [topic for topic, count in SLOW.items() for _ in range(count)]
        random.Random(1).shuffle(coming)
        pace = SECONDS * COMING / len(coming)
        while not self.come.wait(step) and not self.over.is_set():
            pass
        with client.Client(self.bootstrap) as admin:
            began = time.monotonic()
            while not self.over.wait(step):
                while coming and len(self.slow) < (time.monotonic() - began) / pace:
                    topic = coming.pop()
                    # One in ten from where the topic ends: it waits for what comes.
                    at = admin.offset(topic, 0, -1 if len(self.slow) % 10 == 9 else -2)
                    self.slow.append(Slow(self.bootstrap, topic, at))
                for each in self.slow:
                    each.read(int(RATE * step), admin)
            check(not coming, f"{len(coming)} slow readers never came")
            # What they were in the midst of is whole, too.
            end = time.monotonic() + 60
            waiting = list(self.slow)
            while waiting:
                check(time.monotonic() < end, f"{len(waiting)} answers never came to their end")
                waiting = [each for each in waiting if not each.read(1 << 16, admin)]
                time.sleep(0.005)

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(90)
            check(not thread.is_alive(), "a thread waits for ever")
        check(not self.failed, "; ".join(self.failed))

    def audit(self):
        """What was read is what was acknowledged."""
        for each in (*self.slow, *self.quick.values()):
            acked = self.acked[each.topic]
            wrong = [base for base, crc in each.seen.items() if acked.get(base, crc) != crc]
            check(not wrong, f"{each.topic}: other records than those acknowledged at {wrong[:5]}")
            check(each.seen or each.taken, f"{each.topic}: a reader got nothing")


def resident(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def main():
    with tempfile.TemporaryDirectory(prefix="pyralog-backpressure-") as folder, \
            Server(pathlib.Path(folder) / "data", OPTIONS) as server:
        server.ready()
        with client.Client(server.bootstrap) as admin:
            admin.create_topic("memory", 1, durability="memory", retention_bytes=TOPICS)
            admin.create_topic("disk", 1, retention_bytes=512 * MIB, segment_bytes=16 * MIB)
        load = Load(server.bootstrap)
        full = time.monotonic() + 30
        while len(load.acked["memory"]) * 20_000 < 2 * TOPICS and not load.failed:
            check(time.monotonic() < full, "the topic in memory does not get full")
            time.sleep(0.05)
        before = most = resident(server)  # with everything but the slow ones
        load.come.set()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not load.failed:
            time.sleep(0.25)
            most = max(most, resident(server))
        load.end()
        load.audit()
        check(most <= before + ANSWERS + SLACK,
              f"the server took {most / MIB:.0f} MiB, {before / MIB:.0f} before")
        told = []
        for topic, gaps in load.gaps.items():
            check(gaps and max(gaps) < GAP, f"{topic}: a quick reader waited {max(gaps, default=0):.1f} s")
            slow = [each.taken for each in load.slow if each.topic == topic]
            told.append(f"{topic}: {len(load.acked[topic])} batches written, {len(load.quick[topic].seen)} read, "
                        f"longest gap {max(gaps) * 1000:.0f} ms, slow ones took {min(slow)}..{max(slow)} bytes")
        print(f"dynamic_backpressure: {SECONDS:.0f} s, {sum(SLOW.values())} slow readers; {'; '.join(told)}; "
              f"{before / MIB:.0f} MiB resident, at most {most / MIB:.0f}")
        code, _ = server.terminate()
        check(code == 0, "a clean stop failed")
    print(f"soak: dynamic_backpressure count={sum(SLOW.values())} seeds=1..1", flush=True)


if __name__ == "__main__":
    main()
