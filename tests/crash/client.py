"""A Kafka client of the crash tests' own: it knows exactly what it has sent and what was answered."""

import struct
import sys
import time

import server  # noqa: F401  (puts tests/e2e on the path)
from wire import Connection, Reader, array, data, i8, i16, i32, i64, string

PRODUCE, FETCH, LIST_OFFSETS = 0, 1, 2
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP = 8, 9, 10, 11
SYNC_GROUP, CREATE_TOPICS, INIT_PRODUCER_ID = 14, 19, 22

NONE, CORRUPT_MESSAGE, STORAGE_ERROR = 0, 2, 56
LEADER_NOT_AVAILABLE, NOT_LEADER = 5, 6
LOADING, NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16
TRANSIENT = {LOADING, NOT_AVAILABLE, NOT_COORDINATOR}


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, what, code):
        super().__init__(f"{what}: error {code}")
        self.code = code


class Record:
    """One record as it was read back."""

    __slots__ = ("offset", "key", "value", "epoch", "producer", "sequence")

    def __init__(self, offset, key, value, epoch, producer, sequence):
        self.offset, self.key, self.value, self.epoch = offset, key, value, epoch
        self.producer, self.sequence = producer, sequence


def varint(raw, at):
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def records_of(raw):
    """The records of whole batches; a batch that is cut at the end is left out."""
    found, at = [], 0
    while len(raw) - at >= 61:
        base, length, epoch = struct.unpack_from(">qii", raw, at)
        if len(raw) - at < 12 + length:
            break
        producer, _, sequence, count = struct.unpack_from(">qhii", raw, at + 43)
        place = at + 61
        for index in range(count):
            size, place = varint(raw, place)
            end = place + size
            _, inner = varint(raw, place + 1)
            delta, inner = varint(raw, inner)
            size, inner = varint(raw, inner)
            key = None if size < 0 else raw[inner:inner + size]
            inner += max(size, 0)
            size, inner = varint(raw, inner)
            value = None if size < 0 else raw[inner:inner + size]
            found.append(Record(base + delta, key, value, epoch, producer,
                                sequence + index if producer >= 0 else -1))
            place = end
        at += 12 + length
    return found


def end_of(raw):
    """The offset after whole batches, None if there are none: the last ones may have no records."""
    end, at = None, 0
    while len(raw) - at >= 61:
        base, length = struct.unpack_from(">qi", raw, at)
        if len(raw) - at < 12 + length:
            break
        end = base + struct.unpack_from(">i", raw, at + 23)[0] + 1
        at += 12 + length
    return end


def produce_body(topic, partition, batch, acks, timeout_ms=10_000):
    return (string(None) + i16(acks) + i32(timeout_ms)
            + array([string(topic) + array([i32(partition) + data(batch)])]))


def produce_answer(reader):
    """(error, base offset) of an answer for one partition."""
    reader.i32(), reader.string(), reader.i32(), reader.i32()
    return reader.i16(), reader.i64()


class Client:
    """One connection, one request at a time."""

    def __init__(self, bootstrap, timeout=30.0):
        self.wire = Connection(bootstrap, timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.__exit__()

    def call(self, api, version, body) -> Reader:
        return self.wire.call(api, version, body)

    def create_topic(self, name, partitions=1, replicas=1, **settings):
        pairs = [string(key.replace("_", ".")) + string(str(value)) for key, value in settings.items()]
        body = array([string(name) + i32(partitions) + i16(replicas) + array([]) + array(pairs)])
        reader = self.call(CREATE_TOPICS, 2, body + i32(15_000) + i8(0))
        reader.i32()
        code, message = reader.array(lambda: (reader.string(), reader.i16(), reader.string()))[0][1:]
        if code != NONE:
            raise Refused(f"create {name}: {message}", code)

    def produce(self, topic, partition, batch, acks=-1):
        """(error, base offset)"""
        return produce_answer(self.call(PRODUCE, 7, produce_body(topic, partition, batch, acks)))

    def offset(self, topic, partition, at=-1):
        """The end of the partition, or with at=-2 its start."""
        body = i32(-1) + i8(0) + array([string(topic) + array([i32(partition) + i64(at)])])
        reader = self.call(LIST_OFFSETS, 2, body)
        reader.i32(), reader.i32(), reader.string(), reader.i32(), reader.i32()
        code = reader.i16()
        if code != NONE:
            raise Refused(f"offsets of {topic}-{partition}", code)
        reader.i64()
        return reader.i64()

    def fetch(self, topic, partition, offset, max_bytes=1 << 20):
        """Raw batches from `offset`; empty at the end."""
        body = (i32(-1) + i32(0) + i32(0) + i32(max_bytes) + i8(0)
                + array([string(topic) + array([i32(partition) + i64(offset) + i32(max_bytes)])]))
        reader = self.call(FETCH, 4, body)
        reader.i32(), reader.i32(), reader.string(), reader.i32(), reader.i32()
        code = reader.i16()
        if code != NONE:
            raise Refused(f"fetch {topic}-{partition} at {offset}", code)
        reader.i64(), reader.i64()
        reader.array(lambda: (reader.i64(), reader.i64()))
        return reader.data() or b""

    def read(self, topic, partition, offset=None):
        """Every record from `offset` (default: the start) to the end."""
        at = self.offset(topic, partition, -2) if offset is None else offset
        end = self.offset(topic, partition)
        found = []
        while at < end:
            fresh = [r for r in records_of(self.fetch(topic, partition, at)) if r.offset >= at]
            if not fresh:
                sys.exit(f"{topic}-{partition}: nothing to read at {at}, yet the end is {end}")
            found += fresh
            at = fresh[-1].offset + 1
        return found

    def producer_id(self):
        reader = self.call(INIT_PRODUCER_ID, 1, string(None) + i32(60_000))
        reader.i32()
        code = reader.i16()
        if code != NONE:
            raise Refused("a producer id", code)
        return reader.i64(), reader.i16()

    # ---- groups

    def patiently(self, attempt, seconds=30.0):
        """Calls `attempt`, which returns (code, answer), until the coordinator has loaded."""
        end = time.monotonic() + seconds
        while True:
            code, answer = attempt()
            if code not in TRANSIENT:
                return code, answer
            if time.monotonic() > end:
                raise Refused("the coordinator does not come", code)

    def settle(self, group):
        def attempt():
            reader = self.call(FIND_COORDINATOR, 0, string(group))
            return reader.i16(), None
        code, _ = self.patiently(attempt)
        if code != NONE:
            raise Refused(f"coordinator of {group}", code)

    def join(self, group, member, topics):
        """(generation, member id) of a group of one, after its SyncGroup."""
        subscription = i16(0) + array([string(t) for t in topics]) + data(None)

        def attempt():
            reader = self.call(JOIN_GROUP, 2, string(group) + i32(30_000) + i32(30_000)
                               + string(member) + string("consumer")
                               + array([string("range") + data(subscription)]))
            reader.i32()
            code, generation = reader.i16(), reader.i32()
            reader.string(), reader.string()
            return code, (generation, reader.string())
        code, joined = self.patiently(attempt)
        if code != NONE:
            raise Refused(f"join {group}", code)
        generation, member = joined
        reader = self.call(SYNC_GROUP, 1, string(group) + i32(generation) + string(member)
                           + array([string(member) + data(b"plan")]))
        reader.i32()
        code = reader.i16()
        if code != NONE:
            raise Refused(f"sync {group}", code)
        return joined

    def commit(self, group, generation, member, topic, offsets):
        """{partition: error} for {partition: offset}."""
        parts = [i32(p) + i64(offset) + string("") for p, offset in offsets.items()]
        reader = self.call(OFFSET_COMMIT, 2, string(group) + i32(generation) + string(member) + i64(-1)
                           + array([string(topic) + array(parts)]))
        reader.i32(), reader.string()
        return dict(reader.array(lambda: (reader.i32(), reader.i16())))

    def committed(self, group, topic, partitions):
        """{partition: offset}, −1 where nothing was committed."""
        def attempt():
            reader = self.call(OFFSET_FETCH, 2, string(group) + array(
                [string(topic) + array([i32(p) for p in partitions])]))
            found, code = {}, NONE
            for _ in range(reader.i32()):
                reader.string()
                for _ in range(reader.i32()):
                    partition, offset = reader.i32(), reader.i64()
                    reader.string()
                    code = reader.i16() or code
                    found[partition] = offset
            return reader.i16() or code, found
        code, found = self.patiently(attempt)
        if code != NONE:
            raise Refused(f"offsets of {group}", code)
        return found
