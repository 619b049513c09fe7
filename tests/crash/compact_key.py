#!/usr/bin/env python3
"""A topic that keeps the newest record of each key, ten versions of every key, while the server is killed
and cleanly stopped, also in the middle of compaction. In the end there is exactly the newest record of each
key, at the offset where it was acknowledged; a deleted key has its tombstone until delete.retention.ms is
over, then nothing, and never an older value. The cleaner keeps to its pace and to its memory."""

import array
import collections
import itertools
import os
import pathlib
import random
import re
import struct
import tempfile
import time
import zlib

import client
import evidence
from client import i16, i32, i64, string
from rounds import Rounds, check
from server import Server, run_pyralog
from wire import crc32c, data, varint

SOAK = os.environ.get("PYRALOG_SOAK") == "1"
KEYS = int(os.environ.get("KEYS") or (1_000_000 if SOAK else 40_000))
VERSIONS, UNCLEANED = 10, 3       # how many of the last versions find no cleaner
TOPIC, PARTITIONS, CHUNK, WINDOW = "by-key", 4, 500, 4
SEGMENT = 4 << 20 if SOAK else 96 << 10
SHARDS = 2
TABLE = KEYS // 4 * 32            # of each shard: a quarter of the keys, so that passes have to follow passes
PACE = 1 << 20 if SOAK else 64 << 10
PACED_SECONDS = 6.0 if SOAK else 2.0
STOP_SECONDS = 5.0
MORE_MEMORY = 2 * SHARDS * TABLE + (48 << 20)
DELETED = 15                      # stands for a version
OPTIONS = ("--shards", str(SHARDS), "--log-cleaner-dedupe-buffer-size", str(TABLE))
CLEANING = (*OPTIONS, "--log-cleaner-backoff-ms", "100")


def version_of(key, version):
    """The version that a round of writing gives to a key. Three in ten keys are deleted: one at the last,
    one in the midst, and is written again, one twice."""
    last = version == VERSIONS - 1
    if key % 10 == 3 and last or key % 10 == 4 and version == 5 or key % 10 == 5 and (last or version == 2):
        return DELETED
    return version


def prefix(delta, deleted):
    body = b"\0\0" + varint(delta) + varint(7)
    return varint(len(body) + 7 + (2 if deleted else 1 + 10 + 1)) + body


VALUED = [prefix(delta, False) for delta in range(CHUNK)]
EMPTIED = [prefix(delta, True) for delta in range(CHUNK)]
NO_VALUE = varint(-1) + varint(0)


def chunk_bytes(chunk, packed):
    """A batch of records, one for each of `chunk`: numbers of 16 × key + version."""
    records = b"".join(
        EMPTIED[i] + b"%07d" % (n >> 4) + NO_VALUE if n & 15 == DELETED
        else VALUED[i] + b"%07d\x14%07d.%02d\0" % (n >> 4, n >> 4, n & 15) for i, n in enumerate(chunk))
    if packed:
        squeezer = zlib.compressobj(1, zlib.DEFLATED, 31)
        records = squeezer.compress(records) + squeezer.flush()
    now = int(time.time() * 1000)
    tail = struct.pack(">hiqqqhii", int(packed), len(chunk) - 1, now, now, -1, -1, -1, len(chunk)) + records
    return struct.pack(">qiibI", 0, 9 + len(tail), -1, 2, crc32c(tail)) + tail


def numbers_of(raw):
    """(offset, 16 × key + version) of every record of whole batches, and the offset after them."""
    at, end = 0, None
    found = []
    while len(raw) - at >= 61:
        base, length = struct.unpack_from(">qi", raw, at)
        if len(raw) - at < 12 + length:
            break
        attributes, last = struct.unpack_from(">hi", raw, at + 21)
        count = struct.unpack_from(">i", raw, at + 57)[0]
        records = raw[at + 61:at + 12 + length]
        if attributes & 7:
            records = zlib.decompress(records, 31)
        place = 0
        for _ in range(count):
            size, place = client.varint(records, place)
            _, inner = client.varint(records, place + 1)
            delta, inner = client.varint(records, inner)
            key = records[inner + 1:inner + 8]
            number = int(key) * 16
            if records[inner + 8:inner + 9] == b"\x01":
                number += DELETED
            else:
                value = records[inner + 9:inner + 19]
                check(value[:7] == key, f"offset {base + delta}: key {key} has the value {value}")
                number += int(value[8:])
            found.append((base + delta, number))
            place += size
        end = base + last + 1
        at += 12 + length
    return found, end


class Partition:
    """What is written to a partition, chunk after chunk; the same whenever it is asked for."""

    def __init__(self, index, seed):
        self.index, self.seed = index, seed
        keys = len(range(index, KEYS, PARTITIONS))
        self.per_version = -(-keys // CHUNK)
        self.next = 0                   # the chunk to be sent next
        self.flight = collections.deque()
        self.sent = array.array("i")    # by offset, what is there or was
        self.orders = {}

    def chunk(self, number):
        version, place = divmod(number, self.per_version)
        if version not in self.orders:
            order = list(range(self.index, KEYS, PARTITIONS))
            random.Random(f"{self.seed}/{self.index}/{version}").shuffle(order)
            self.orders = {v: o for v, o in self.orders.items() if v >= version - 1}
            self.orders[version] = order
        keys = self.orders[version][place * CHUNK:(place + 1) * CHUNK]
        return [key * 16 + version_of(key, version) for key in keys]

    def settle(self, end):
        """After a crash: of the requests that were not answered the first ones are there, or none."""
        while self.flight and len(self.sent) < end:
            self.sent.extend(self.chunk(self.flight.popleft()))
        check(len(self.sent) == end, f"{TOPIC}-{self.index}: ends at {end}, in the midst of a batch or beyond "
                                     f"what was sent; {len(self.sent)} is what was acknowledged, or sent")
        if self.flight:
            self.next = self.flight[0]
        self.flight.clear()

    def audit(self, reader, exact=False, without_tombstones=False):
        """None if all that must be there is and, with `exact`, nothing more; else what is too much."""
        name = f"{TOPIC}-{self.index}"
        start, end = reader.offset(TOPIC, self.index, -2), reader.offset(TOPIC, self.index)
        check((start, end) == (0, len(self.sent)), f"{name}: is {start} to {end}, not 0 to {len(self.sent)}")
        newest = {number >> 4: offset for offset, number in enumerate(self.sent)}
        found, last, at, count = {}, -1, 0, 0
        while at < end:
            numbers, after = numbers_of(reader.fetch(TOPIC, self.index, at))
            check(after is not None and after > at, f"{name}: nothing to read at {at} of {end}")
            for offset, number in numbers:
                if offset < at:
                    continue
                check(offset > last, f"{name}: offset {offset} follows {last}")
                check(self.sent[offset] == number, f"{name}: offset {offset} holds {number}, sent was "
                                                   f"{self.sent[offset]} (16 × key + version)")
                found[number >> 4], last = offset, offset
                count += 1
            at = after
        for key, offset in newest.items():
            there = found.get(key)
            deleted = self.sent[offset] & 15 == DELETED
            if there == offset or (there is None and deleted and without_tombstones):
                continue
            what = ("is deleted, and there is again" if deleted else "has lost its newest record") if there \
                is not None else "is gone"
            check(False, f"{name}: key {key} {what}: its newest record was at {offset}, {there} is there")
        if not exact:
            return None
        kept = sum(1 for offset in newest.values()
                   if not without_tombstones or self.sent[offset] & 15 != DELETED)
        return None if count == kept else f"{name}: {count} records are there, of {kept} that are to stay"


def produce(wire, partitions, upto):
    """Writes until every partition has sent its chunks below `upto`, or the server is gone."""
    def send():
        parts = []
        for partition in partitions:
            if partition.next < upto:
                raw = chunk_bytes(partition.chunk(partition.next), partition.next % 2 == 0)
                parts.append(i32(partition.index) + data(raw))
                partition.flight.append(partition.next)
                partition.next += 1
        body = string(None) + i16(-1) + i32(30_000) + i32(1) + string(TOPIC) + i32(len(parts)) + b"".join(parts)
        wire.send(client.PRODUCE, 7, body)

    def receive():
        answer = wire.receive()
        if answer is None:
            raise ConnectionError
        reader = answer[1]
        reader.i32(), reader.string()
        for index, code, base, _, _ in reader.array(
                lambda: (reader.i32(), reader.i16(), reader.i64(), reader.i64(), reader.i64())):
            partition = partitions[index]
            check(code == client.NONE, f"{TOPIC}-{index}: produce: error {code}")
            check(base == len(partition.sent),
                  f"{TOPIC}-{index}: {base} was acknowledged, not {len(partition.sent)}")
            partition.sent.extend(partition.chunk(partition.flight.popleft()))

    flying = 0
    while flying or any(p.next < upto for p in partitions):
        while flying < WINDOW and any(p.next < upto for p in partitions):
            send()
            flying += 1
        receive()
        flying -= 1
        yield


def begin(server, partitions):
    """After a start: nothing is offline, and what was in doubt is there or is not."""
    if server.bootstrap is None:
        server.ready()
    offline = {n: p["offline"] for n, p in server.partitions().items() if p.get("offline")}
    check(not offline, f"offline partitions: {offline}")
    with client.Client(server.bootstrap) as reader:
        for partition in partitions:
            partition.settle(reader.offset(TOPIC, partition.index))


def end(server, rng):
    if rng.random() < 0.6:
        server.kill()
    else:
        check(server.terminate(STOP_SECONDS)[0] == 0, "a clean stop failed")


def write(folder, partitions, rounds):
    """All versions of all keys, over several lives; the last ones find no cleaner at work."""
    total = VERSIONS * partitions[0].per_version
    cleaned = total * (VERSIONS - UNCLEANED) // VERSIONS
    for number, rng in rounds:
        upto = total * (number + 1) // rounds.count
        options = CLEANING if upto <= cleaned else (*OPTIONS, "--log-cleaner-backoff-ms", "3600000")
        if rng.random() < 0.5:
            with Server(folder, options) as server:  # ends in a start, or while it compacts
                if server.ready_within(rng.uniform(0.0, 0.5)):
                    time.sleep(rng.uniform(0.0, 0.3))
                    end(server, rng)
        with Server(folder, options) as server:
            server.ready()
            if number == 0:
                with client.Client(server.bootstrap) as admin:
                    admin.create_topic(TOPIC, PARTITIONS, cleanup_policy="compact", segment_bytes=SEGMENT,
                                       min_cleanable_dirty_ratio=0.3, delete_retention_ms=3_600_000)
            begin(server, partitions)
            with client.Client(server.bootstrap) as writer:
                last = number == rounds.count - 1
                work = produce(writer.wire, partitions, upto)
                # Killed with requests under way, but for the last life.
                share = max(1, (upto - partitions[0].next) - (0 if last else rng.randint(1, 2 * WINDOW)))
                for _ in work if last else itertools.islice(work, share):
                    pass
                if number == rounds.count // 2:
                    # Not by the writer: answers to what is under way in other partitions come there.
                    with client.Client(server.bootstrap) as reader:
                        for partition in partitions:
                            if not partition.flight:
                                partition.audit(reader)
            if last:
                check(server.terminate(STOP_SECONDS)[0] == 0, "a clean stop failed")
            else:
                server.kill()


def io_bytes(server):
    """What the process has read and written so far, by its calls."""
    text = pathlib.Path(f"/proc/{server.process.pid}/io").read_text()
    return sum(int(n) for n in re.findall(r"[rw]char: (\d+)", text))


def memory(server, what):
    text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", text)[1]) << 10


def keeps_its_pace(folder, partitions):
    """With a backlog and a slow pace; then stopped in the midst of it."""
    options = (*CLEANING, "--log-cleaner-io-max-bytes-per-second", str(PACE))
    with Server(folder, options) as server:
        begin(server, partitions)
        before, began = io_bytes(server), time.monotonic()
        time.sleep(PACED_SECONDS)
        took, done = time.monotonic() - began, io_bytes(server) - before
        # What was written is read back, beside the pace. A step may be as long as a segment, or a MiB.
        most = SHARDS * (1.5 * PACE * took + 4 * min(SEGMENT, 1 << 20)) + (256 << 10)
        check(done <= most, f"compaction read and wrote {done} bytes in {took:.1f} s, its pace allows {most:.0f}")
        code, seconds = server.terminate(STOP_SECONDS)
        check(code == 0, "a clean stop failed while it compacted")
    return done, seconds


def settled(server, partitions, **how):
    """Waits until exactly what is to stay is there."""
    deadline = time.monotonic() + (600 if SOAK else 30)
    sizes = None
    with client.Client(server.bootstrap) as reader:
        while True:
            time.sleep(2.0 if SOAK else 0.25)
            # As long as files change it is too soon to read them all.
            before, sizes = sizes, {n: p["bytes"] for n, p in server.partitions().items()}
            if sizes != before and time.monotonic() < deadline:
                continue
            left = [each for each in (p.audit(reader, exact=True, **how) for p in partitions) if each]
            if not left:
                return
            check(time.monotonic() < deadline, f"compaction does not come to its end: {left}")


def alter(server, **settings):
    words = [w for key, value in settings.items() for w in ("--config", f"{key.replace('_', '.')}={value}")]
    done = run_pyralog("topic", "alter", TOPIC, *words, "--bootstrap", server.bootstrap)
    check(done.returncode == 0, f"topic alter: {done.stderr}")


def compact(folder, partitions, rng):
    """All that there is is compacted, by a server that keeps to its memory."""
    with Server(folder, CLEANING) as server:
        begin(server, partitions)
        pathlib.Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
        before, seen = memory(server, "VmRSS"), len(server.log_text())
        alter(server, max_compaction_lag_ms=1)
        deadline = time.monotonic() + (600 if SOAK else 30)
        while server.log_text()[seen:].count("broker.compacted") < PARTITIONS:
            check(time.monotonic() < deadline, "nothing is compacted")
            time.sleep(0.05)
        grown = memory(server, "VmHWM") - before
        settled(server, partitions)
        check(grown <= MORE_MEMORY, f"compaction took {grown} bytes of memory, {MORE_MEMORY} at most were to be")
        end(server, rng)
    return grown


def forget_tombstones(folder, partitions, rng, lives):
    """They go a while after they were alone, also from a server that does not live long."""
    for life in range(lives):
        with Server(folder, CLEANING) as server:
            begin(server, partitions)
            if life == 0:
                settled(server, partitions)
                alter(server, delete_retention_ms=400)
            if life < lives - 1:
                time.sleep(rng.uniform(0.0, 0.5))
                end(server, rng)
                continue
            settled(server, partitions, without_tombstones=True)
            left = evidence.orphans(server.data, server.partitions())
            check(not left, f"files without a segment: {left}")
            check(server.terminate(STOP_SECONDS)[0] == 0, "a clean stop failed")
    with Server(folder, CLEANING) as server:
        begin(server, partitions)
        settled(server, partitions, without_tombstones=True)


def main():
    rounds = Rounds("compact_key", quick=6, full=30)
    rng = random.Random(rounds.base)
    partitions = [Partition(index, rounds.base) for index in range(PARTITIONS)]
    with tempfile.TemporaryDirectory(prefix="pyralog-compact-key-") as folder:
        data_dir = folder + "/data"
        began = time.monotonic()
        write(data_dir, partitions, rounds)
        written = time.monotonic() - began
        paced, stop = keeps_its_pace(data_dir, partitions)
        grown = compact(data_dir, partitions, rng)
        forget_tombstones(data_dir, partitions, rng, lives=5 if SOAK else 3)
    rounds.done(f"{sum(len(p.sent) for p in partitions)} records of {KEYS} keys written in {written:.1f} s; "
                f"{paced} bytes in {PACED_SECONDS} s at {PACE} bytes/s, stopped in {stop:.2f} s; "
                f"{grown >> 10} KiB of memory more; {time.monotonic() - began:.1f} s in all")


if __name__ == "__main__":
    main()
