#!/usr/bin/env python3
"""Batches of few bytes that inflate to hundreds of megabytes, in every codec, to topics that look at each
record and to compacted ones: refused by name. One that stays just below the bound is taken, given back and
compacted. Many come at a time; the server's memory stays bounded, and other clients are served meanwhile."""

import pathlib
import struct
import tempfile
import threading
import time
import traceback
import zlib

import client
from idle_connections import resident
from rounds import Rounds, check
from server import Server
from wire import CRC_TABLE, batch, i8, i16, i32, i64, varint

MIB = 1 << 20
INFLATED, BOUND = 256 * MIB, 100 * MIB  # of the bombs; of what one batch may come to
MOST = 600 * MIB    # that the server may take beyond what it had: some bombs at a time, up to their bound
PATIENCE = 5.0      # seconds that others may wait
BOMBERS, TOO_LARGE = 3, 10
TOPICS = {"looked-at": {"record_validation": "full"}, "compacted": {"cleanup_policy": "compact",
                                                                    "min_cleanable_dirty_ratio": 0.01}}
OPTIONS = ("--shards", "2", "--max-request-bytes", str(32 * MIB), "--log-cleaner-backoff-ms", "100",
           "--log-retention-check-interval-ms", "200")
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4


# ---- a checksum of pieces that come again and again: as zlib's crc32_combine

def times(matrix, vector):
    out = 0
    for row in matrix:
        if vector & 1:
            out ^= row
        vector >>= 1
    return out


def zeros(count):
    """What `count` zero bytes make of a checksum."""
    one = [0x82F63B78] + [1 << n for n in range(31)]  # a zero bit
    for _ in range(3):
        one = [times(one, row) for row in one]
    out = [1 << n for n in range(32)]
    while count:
        if count & 1:
            out = [times(one, row) for row in out]
        one = [times(one, row) for row in one]
        count >>= 1
    return out


def crc_of(pieces):
    """CRC-32C of [(bytes, how often)]."""
    whole = 0
    for raw, count in pieces:
        value = 0xFFFFFFFF
        for byte in raw:
            value = CRC_TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
        value ^= 0xFFFFFFFF
        shift = zeros(len(raw))
        for _ in range(count):
            whole = times(shift, whole) ^ value
    return whole


# ---- bombs: pieces that inflate to so many bytes

def gzip_bomb(size):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(b"x" * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    return [(b"\x1f\x8b\x08\0\0\0\0\0\0\xff", 1), (first, size // MIB)]


def snappy_bomb(size):
    """As snappy-java's stream, in blocks of 64 KiB."""
    block = varint_plain(65536) + b"\0x" + b"\xfe\1\0" * 1023 + struct.pack("<BH", (62 << 2) | 2, 1)
    return [(b"\x82SNAPPY\0" + i32(1) + i32(1), 1), (i32(len(block)) + block, size // 65536)]


def varint_plain(value):
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    return bytes([*out, value])


def lz4_bomb(size):
    """Blocks of 4 MiB, each one literal and a match as long as it can be."""
    left = 4 * MIB - 1 - 5 - 4 - 15
    block = b"\x1fx\1\0" + b"\xff" * (left // 255) + bytes([left % 255]) + b"\x50xxxxx"
    return [(b"\x04\x22\x4d\x18\x60\x70\x73", 1), (struct.pack("<I", len(block)) + block, size // (4 * MIB)),
            (b"\0\0\0\0", 1)]


def zstd_block(kind, size, last=0):
    return struct.pack("<I", last | kind << 1 | size << 3)[:3]


def zstd_bomb(size, head=b"", tail=b""):
    """Blocks of one byte that stands for 128 KiB."""
    pieces = [(b"\x28\xb5\x2f\xfd\0\x38" + (zstd_block(0, len(head)) + head if head else b""), 1),
              (zstd_block(1, 1 << 17) + b"x", size >> 17)]
    return [*pieces, (zstd_block(0, len(tail), 1) + tail, 1)]


BOMBS = {"gzip": (GZIP, gzip_bomb(INFLATED)), "snappy": (SNAPPY, snappy_bomb(INFLATED // 2)),
         "lz4": (LZ4, lz4_bomb(INFLATED)), "zstd": (ZSTD, zstd_bomb(INFLATED))}


def batch_of(codec, pieces, now_ms=1_700_000_000_000):
    """A batch of one record, so it says, behind whose checksum come these bytes."""
    head = (i16(codec) + i32(0) + i64(now_ms) + i64(now_ms) + i64(-1) + i16(-1) + i32(-1) + i32(1))
    crc = struct.pack(">I", crc_of([(head, 1), *pieces]))
    body = i32(-1) + i8(2) + crc + head + b"".join(raw * count for raw, count in pieces)
    return i64(0) + i32(len(body)) + body


def large_record(size):
    """One record of so many bytes, and a few; few when it is packed."""
    value = size >> 17 << 17
    inner = b"\0" + varint(0) + varint(0) + varint(1) + b"k" + varint(value)
    return batch_of(ZSTD, zstd_bomb(value, varint(len(inner) + value + 1) + inner, b"\0"))


def produce(wire, topic, raw):
    """(error, what is said of it)"""
    reader = wire.call(client.PRODUCE, 8, client.produce_body(topic, 0, raw, -1, 60_000))
    reader.i32(), reader.string(), reader.i32(), reader.i32()
    code = reader.i16()
    reader.i64(), reader.i64(), reader.i64()
    reader.array(lambda: (reader.i32(), reader.string()))
    return code, reader.string()


class Beside:
    """Threads beside the test, and what went wrong in them."""

    def __init__(self):
        self.failed, self.threads, self.over = [], [], threading.Event()

    def start(self, work, *words):
        def guarded():
            try:
                work(*words)
            except SystemExit as failure:
                self.failed.append(str(failure))
            except Exception:
                self.failed.append(traceback.format_exc())
        self.threads.append(threading.Thread(target=guarded, daemon=True))
        self.threads[-1].start()

    def join(self, threads):
        for thread in threads:
            thread.join(120)
            check(not thread.is_alive(), "a thread waits for ever")
        check(not self.failed, "; ".join(self.failed))


def bomb(server, bombs, rng):
    """Throws each at each topic."""
    order = [(topic, name) for topic in TOPICS for name in bombs]
    rng.shuffle(order)
    for topic, name in order:
        with client.Client(server.bootstrap) as wire:
            wire.wire.socket.settimeout(90)
            code, told = produce(wire, topic, bombs[name])
            check(code == TOO_LARGE, f"{name} to {topic}: error {code}: {told}")
            check(f"topic {topic}, partition 0" in (told or ""), f"{name} to {topic}: it says {told!r}")


def others(server, over, waits):
    """Produces and fetches; how long each took."""
    raw = batch([b"calm" * 20])
    with client.Client(server.bootstrap) as wire:
        while not over.is_set():
            began = time.monotonic()
            code, base = wire.produce("calm", 0, raw)
            check(code == client.NONE, f"calm: error {code}")
            check(client.records_of(wire.fetch("calm", 0, base)), "calm: nothing to read")
            waits.append(time.monotonic() - began)


def watch(server, over, most):
    while not over.wait(0.01):
        most[0] = max(most[0], resident(server))


def main():
    rounds = Rounds("bomb", quick=1, full=20)
    bombs = {name: batch_of(codec, pieces) for name, (codec, pieces) in BOMBS.items()}
    below = large_record(BOUND - 2 * MIB)
    sizes = {name: len(raw) for name, raw in (*bombs.items(), ("below", below))}
    with tempfile.TemporaryDirectory(prefix="pyralog-bomb-") as folder, \
            Server(pathlib.Path(folder) / "data", OPTIONS) as server:
        server.ready()
        with client.Client(server.bootstrap) as admin:
            for topic, settings in {**TOPICS, "calm": {}}.items():
                admin.create_topic(topic, 1, max_message_bytes=32 * MIB, segment_bytes=64 * 1024, **settings)
        before, most, waits = resident(server), [0], []
        beside = Beside()
        beside.start(others, server, beside.over, waits)
        beside.start(watch, server, beside.over, most)
        for number, rng in rounds:
            first = len(beside.threads)
            for _ in range(BOMBERS):
                beside.start(bomb, server, bombs, rng)
            beside.join(beside.threads[first:])
            with client.Client(server.bootstrap) as wire:
                for topic in TOPICS:
                    for _ in range(3):
                        code, told = produce(wire, topic, below)
                        check(code == client.NONE, f"{topic}: one of {BOUND - 2 * MIB} bytes: error {code}: {told}")
                filler = batch([rng.randbytes(3000) for _ in range(10)], keys=[b"%d" % n for n in range(10)])
                for _ in range(6):  # so that compaction gets at what lies below
                    check(wire.produce("compacted", 0, filler)[0] == client.NONE, "compacted: a small one")
                raw = wire.fetch("looked-at", 0, 3 * number)
                check(raw[21:len(below)] == below[21:], "what is given back is not what was sent")
        end = time.monotonic() + 20
        while "broker.compacted partition=compacted-0" not in server.log_text():
            check(time.monotonic() < end, "what inflates to much is never compacted")
            time.sleep(0.05)
        beside.over.set()
        beside.join(beside.threads)
        check(most[0] <= before + MOST, f"the server took {most[0] / MIB:.0f} MiB, {before / MIB:.0f} before")
        check(waits and max(waits) < PATIENCE, f"others waited {max(waits, default=0):.2f} s")
        check(server.terminate()[0] == 0, "a clean stop failed")
    rounds.done(f"{rounds.count * BOMBERS * len(bombs) * len(TOPICS)} bombs of {sizes} bytes refused; {before / MIB:.0f} MiB "
                f"resident, at most {most[0] / MIB:.0f}; others waited {max(waits) * 1000:.0f} ms at most")


if __name__ == "__main__":
    main()
