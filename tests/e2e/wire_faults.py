#!/usr/bin/env python3
"""Malformed requests and lies on raw sockets: each must get its error, or lose its own connection
and no other. Runs against Pyralog, or with --kafka / --bootstrap against Apache Kafka, whose
answers differ where a check says so."""

import argparse
import pathlib
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import brokers  # noqa: E402
from wire import (Connection, array, batch, data, i8, i16, i32, i64, old_message,  # noqa: E402
                  string)

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT = 8, 9, 10, 11, 12
SYNC_GROUP, API_VERSIONS, CREATE_TOPICS, INIT_PRODUCER_ID = 14, 18, 19, 22
OFFSET_DELETE = 47

REQUIRED = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 22, 23, 32, 33, 37, 42, 44,
            47, 60, 61]
PYRALOG_MINIMA = {0: 0, 1: 0, 2: 1, 3: 0, 8: 2, 9: 1, 10: 0, 11: 0, 12: 0, 13: 0, 14: 0, 18: 0,
                  19: 2, 20: 1, 23: 2, 32: 1}


class Faults:
    """The checks; each method whose name begins with `check_` is one."""

    def __init__(self, bootstrap, is_pyralog):
        self.bootstrap, self.is_pyralog = bootstrap, is_pyralog
        self.serial = 0
        self.topic = self.create()

    def connect(self):
        return Connection(self.bootstrap)

    def create(self, replication=1, configs=(), expected=0):
        self.serial += 1
        name = f"faults-{self.serial}"
        body = array([string(name) + i32(1) + i16(replication) + array([])
                      + array([string(k) + string(v) for k, v in configs])]) + i32(15_000) + i8(0)
        with self.connect() as connection:
            reader = connection.call(CREATE_TOPICS, 2, body)
        reader.i32()
        code = reader.array(lambda: (reader.string(), reader.i16(), reader.string()))[0][1]
        assert code in (expected, 36), f"create {name}: expected {expected}, got {code}"
        return name

    def produce_body(self, records, acks=-1, topic=None, version=7):
        body = string(None) if version >= 3 else b""
        return body + i16(acks) + i32(10_000) + array(
            [string(topic or self.topic) + array([i32(0) + data(records)])])

    def produce(self, records, acks=-1, version=7):
        with self.connect() as connection:
            reader = connection.call(PRODUCE, version,
                                     self.produce_body(records, acks, version=version))
        assert reader.i32() == 1
        reader.string()
        assert reader.i32() == 1
        reader.i32()
        return reader.i16()

    def high_watermark(self):
        body = i32(-1) + i8(0) + array([string(self.topic) + array([i32(0) + i64(-1)])])
        with self.connect() as connection:
            reader = connection.call(LIST_OFFSETS, 2, body)
        reader.i32()
        reader.i32(), reader.string(), reader.i32(), reader.i32()
        assert reader.i16() == 0
        reader.i64()
        return reader.i64()

    def refused(self, records, codes, **options):
        before = self.high_watermark()
        code = self.produce(records, **options)
        assert code in codes, f"expected one of {codes}, got {code}"
        assert self.high_watermark() == before, "a refused batch reached the log"

    def fetch_body(self, version, offset=0, wait_ms=0, min_bytes=0, session=0, epoch=-1):
        head = i32(-1) + i32(wait_ms) + i32(min_bytes)
        if version >= 3:
            head += i32(1 << 20)
        if version >= 4:
            head += i8(0)
        if version >= 7:
            head += i32(session) + i32(epoch)
        partition = i32(0) + (i32(-1) if version >= 9 else b"") + i64(offset)
        partition += (i64(-1) if version >= 5 else b"") + i32(1 << 20)
        return head + array([string(self.topic) + array([partition])]) + (
            array([]) if version >= 7 else b"")

    # ---- versions

    def check_api_versions_of_the_future(self):
        with self.connect() as connection:
            reader = connection.call(API_VERSIONS, 99, b"\x01\x01\x00")
            assert reader.i16() == 35
            keys = reader.array(lambda: (reader.i16(), reader.i16(), reader.i16()))
            assert any(key == API_VERSIONS and high >= 3 for key, low, high in keys), keys
            assert connection.call(API_VERSIONS, 0).i16() == 0, "the connection goes on"

    def check_advertised_keys(self):
        with self.connect() as connection:
            reader = connection.call(API_VERSIONS, 0)
        assert reader.i16() == 0
        found = {key: (low, high) for key, low, high in
                 reader.array(lambda: (reader.i16(), reader.i16(), reader.i16()))}
        missing = [key for key in REQUIRED if key not in found]
        assert not missing, f"not advertised: {missing}"
        if self.is_pyralog:
            wrong = {key: found[key] for key, low in PYRALOG_MINIMA.items() if found[key][0] != low}
            assert not wrong, f"lower ends: {wrong}"
            assert max(found) < 10_000, "native keys are for our own clients"

    def check_unadvertised_key_closes(self):
        for key in (999, -1, 4, 9_999):
            with self.connect() as connection:
                connection.send(key, 0)
                assert connection.closed(), f"api key {key}"

    def check_produce_v0(self):
        body = self.produce_body(old_message(0, b"x"), acks=1, version=0)
        with self.connect() as connection:
            connection.send(PRODUCE, 0, body)
            if not self.is_pyralog:
                return  # Kafka 4 closes the connection
            reader = connection.receive()[1]
        assert reader.i32() == 1
        reader.string()
        reader.i32(), reader.i32()
        assert reader.i16() == 35

    def check_fetch_v0(self):
        with self.connect() as connection:
            connection.send(FETCH, 0, self.fetch_body(0))
            if not self.is_pyralog:
                return  # Kafka 4 closes the connection
            reader = connection.receive()[1]
        assert reader.i32() == 1
        reader.string()
        reader.i32(), reader.i32()
        assert reader.i16() == 35

    # ---- frames

    def closes_alone(self, raw, finish=False):
        with self.connect() as bystander, self.connect() as connection:
            connection.send_raw(raw)
            if finish:
                connection.socket.shutdown(1)
            assert connection.closed()
            assert bystander.call(API_VERSIONS, 0).i16() == 0, "another connection suffered"

    def check_negative_frame(self):
        self.closes_alone(i32(-5) + b"12345")

    def check_huge_frame(self):
        self.closes_alone(struct.pack(">I", 0x7FFFFFFF) + b"x" * 64)

    def check_frame_just_over_the_limit(self):
        self.closes_alone(i32(100 * 1024 * 1024 + 1) + b"x" * 64)

    def check_http_request(self):
        self.closes_alone(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    def check_truncated_frame(self):
        self.closes_alone(i32(100) + i16(API_VERSIONS) + i16(0), finish=True)

    def check_frame_shorter_than_its_header(self):
        self.closes_alone(i32(3) + b"\0\x12\0")

    def check_array_longer_than_the_frame(self):
        body = i16(METADATA) + i16(1) + i32(1) + string("wire") + i32(0x7FFFFFF0)
        self.closes_alone(i32(len(body)) + body)

    def check_string_longer_than_the_frame(self):
        body = i16(METADATA) + i16(1) + i32(1) + string("wire") + i32(1) + i16(0x7FFF) + b"abc"
        self.closes_alone(i32(len(body)) + body)

    def check_negative_array(self):
        body = i16(PRODUCE) + i16(7) + i32(1) + string("w") + string(None) + i16(1) + i32(1) + i32(-7)
        self.closes_alone(i32(len(body)) + body)

    def check_frame_in_single_bytes(self):
        frame = i16(API_VERSIONS) + i16(0) + i32(77) + string("slow")
        with self.connect() as connection:
            for byte in i32(len(frame)) + frame:
                connection.send_raw(bytes([byte]))
            assert connection.receive()[0] == 77

    # ---- batches

    def check_good_batch(self):
        before = self.high_watermark()
        assert self.produce(batch([b"a", b"b", b"c"])) == 0
        assert self.high_watermark() == before + 3

    def check_bad_crc(self):
        self.refused(batch([b"a"], crc_xor=1), {2})

    def check_flipped_record_byte(self):
        raw = bytearray(batch([b"abcdef"]))
        raw[-3] ^= 0x40
        self.refused(bytes(raw), {2})

    def check_old_formats(self):
        for magic in (0, 1):
            self.refused(old_message(magic, b"x"), {2, 43, 87})
        self.refused(batch([b"x"], magic=3), {2, 43, 87})

    def check_wrong_count(self):
        self.refused(batch([b"a", b"b"], count=3), {2, 87})
        self.refused(batch([b"a", b"b"], count=0, last_delta=1), {2, 87})
        self.refused(batch([b"a", b"b"], count=-1), {2, 87})

    def check_wrong_offset_deltas(self):
        self.refused(batch([b"a", b"b"], last_delta=5), {2, 87})
        if self.is_pyralog:  # Kafka does not look into uncompressed records
            self.refused(batch([b"a", b"b"], deltas=[0, 3]), {2, 87})
            self.refused(batch([b"a", b"b"], deltas=[1, 0]), {2, 87})

    def check_lying_length(self):
        self.refused(batch([b"a"], length_add=10), {2, 87})
        self.refused(batch([b"a"], length_add=-10), {2, 87})
        self.refused(batch([b"a"])[:40], {2, 87})

    def check_control_bit(self):
        self.refused(batch([b"a"], attributes=0x20), {87})

    def check_transactional_bit(self):
        if self.is_pyralog:
            self.refused(batch([b"a"], attributes=0x10, producer=(1, 0, 0)), {48})

    def check_unknown_codec(self):
        if self.is_pyralog:  # Kafka 4 answers with an unexpected error
            self.refused(batch([b"a"], attributes=7), {2, 76, 87})

    def check_invalid_acks(self):
        self.refused(batch([b"a"]), {21}, acks=2)

    def check_sequence_without_state(self):
        with self.connect() as connection:
            reader = connection.call(INIT_PRODUCER_ID, 1, string(None) + i32(60_000))
        reader.i32()
        assert reader.i16() == 0
        producer, epoch = reader.i64(), reader.i16()
        if self.is_pyralog:  # Kafka 4 takes the first sequence that it sees
            self.refused(batch([b"a"], producer=(producer, epoch, 7)), {59})
        assert self.produce(batch([b"a"], producer=(producer, epoch, 0))) == 0
        before = self.high_watermark()
        assert self.produce(batch([b"a"], producer=(producer, epoch, 0))) == 0, "a duplicate is well"
        assert self.high_watermark() == before, "a duplicate was written again"
        self.refused(batch([b"a"], producer=(producer, epoch, 5)), {45})

    # ---- settings, sessions, coordinators

    def check_compression_setting(self):
        if self.is_pyralog:
            self.create(configs=[("compression.type", "gzip")], expected=40)
        self.create(configs=[("compression.type", "producer")])

    def check_replication_factor(self):
        self.create(replication=3, expected=38)

    def check_unknown_fetch_session(self):
        with self.connect() as connection:
            reader = connection.call(FETCH, 7, self.fetch_body(7, session=123_456, epoch=1))
        reader.i32()
        assert reader.i16() == 70

    def check_fetch_beyond_the_end(self):
        with self.connect() as connection:
            reader = connection.call(FETCH, 4, self.fetch_body(4, offset=1 << 40))
        reader.i32(), reader.i32(), reader.string(), reader.i32(), reader.i32()
        assert reader.i16() == 1

    def check_transaction_coordinator(self):
        if self.is_pyralog:
            with self.connect() as connection:
                reader = connection.call(FIND_COORDINATOR, 1, string("tx") + i8(1))
            reader.i32()
            assert reader.i16() == 53

    def check_pipelined_requests(self):
        """A fetch that waits, then quick ones: answers come in the order of the requests."""
        with self.connect() as connection:
            connection.send(FETCH, 4, self.fetch_body(4, offset=self.high_watermark(), wait_ms=400,
                                                      min_bytes=1))
            for number in range(30):
                if number % 3 == 0:
                    connection.send(API_VERSIONS, 0)
                elif number % 3 == 1:
                    connection.send(METADATA, 1, array([string(self.topic)]))
                else:
                    connection.send(PRODUCE, 7, self.produce_body(batch([b"p"])))
            order = [connection.receive()[0] for _ in range(31)]
        assert order == list(range(1, 32)), order

    def check_answers_after_the_client_has_ended_its_side(self):
        """Pyralog sends them, however slowly they are taken; Kafka ends the connection."""
        if not self.is_pyralog:
            return
        topic, self.topic = self.topic, self.create()
        for _ in range(24):
            assert self.produce(batch([b"x" * 900_000])) == 0
        with self.connect() as connection:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            head = i32(-1) + i32(0) + i32(1) + i32(50 << 20) + i8(0)
            partition = i32(0) + i64(0) + i32(50 << 20)
            connection.send(FETCH, 4, head + array([string(self.topic) + array([partition])]))
            connection.socket.shutdown(socket.SHUT_WR)
            # Beyond what waits for the next answer to be made; what has come shows that there is more.
            begun, taken = time.monotonic(), b""
            while time.monotonic() - begun < 7:
                taken += connection.exactly(1 << 20) or b""
                time.sleep(0.5)
            size = struct.unpack(">i", taken[:4])[0]
            assert size > 20_000_000, size
            rest = connection.exactly(4 + size - len(taken))
            assert rest is not None, f"cut off after {len(taken)} of {size} bytes"
        self.topic = topic

    def check_padded_request(self):
        """librdkafka leaves bytes behind some requests; like Kafka, nobody minds."""
        with self.connect() as connection:
            number = connection.send(METADATA, 1, array([string(self.topic)]) + b"\0\0\0")
            assert connection.receive()[0] == number

    def check_group_that_is_not(self):
        """Before version 6 an unknown group is shown as dead, without an error."""
        with self.connect() as connection:
            connection.call(FIND_COORDINATOR, 0, string("nobody-made-this"))
            reader = connection.call(15, 0, array([string("nobody-made-this")]))
        assert reader.i32() == 1
        assert (reader.i16(), reader.string(), reader.string()) == (0, "nobody-made-this", "Dead")

    def check_acks_0_has_no_answer(self):
        before = self.high_watermark()
        with self.connect() as connection:
            connection.send(PRODUCE, 7, self.produce_body(batch([b"silent"]), acks=0))
            number = connection.send(API_VERSIONS, 0)
            assert connection.receive()[0] == number
        deadline = time.monotonic() + 10  # nothing tells when the record is there
        while self.high_watermark() != before + 1:
            assert time.monotonic() < deadline, "the record never came"

    def check_acks_0_error_closes(self):
        with self.connect() as connection:
            connection.send(PRODUCE, 7, self.produce_body(batch([b"bad"], crc_xor=1), acks=0))
            assert connection.closed(), "with acks=0 closing is the only way to tell"

    def join(self, connection, group, member, metadata):
        body = (string(group) + i32(10_000) + i32(10_000) + string(member) + string("consumer")
                + array([string("range") + data(metadata)]))
        reader = connection.call(JOIN_GROUP, 2, body)
        reader.i32()
        code, generation = reader.i16(), reader.i32()
        reader.string(), reader.string()
        return code, generation, reader.string()

    def commit(self, connection, group, generation, member, offset):
        body = (string(group) + i32(generation) + string(member) + i64(-1)
                + array([string(self.topic) + array([i32(0) + i64(offset) + string("")])]))
        reader = connection.call(OFFSET_COMMIT, 2, body)
        assert reader.i32() == 1
        reader.string(), reader.i32(), reader.i32()
        return reader.i16()

    def settle(self, group):
        """FindCoordinator and a first join, repeated while the coordinator still loads."""
        for _ in range(200):
            with self.connect() as connection:
                reader = connection.call(FIND_COORDINATOR, 0, string(group))
                if reader.i16() == 0:
                    body = string(group) + array([])
                    if connection.call(OFFSET_FETCH, 1, body):
                        return

    def check_stale_generation(self):
        group = "faults-group"
        self.settle(group)
        subscription = i16(0) + array([string(self.topic)]) + data(None)
        with self.connect() as connection:
            for _ in range(200):
                code, first, member = self.join(connection, group, "", subscription)
                if code not in (14, 15, 16):
                    break
            assert code == 0, code
            sync = (string(group) + i32(first) + string(member)
                    + array([string(member) + data(b"plan")]))
            reader = connection.call(SYNC_GROUP, 1, sync)
            reader.i32()
            assert (reader.i16(), reader.data()) == (0, b"plan")
            assert self.commit(connection, group, first, member, 1) == 0
            code, second, _ = self.join(connection, group, member, subscription + b"\0")
            assert (code, second) == (0, first + 1), (code, second)
            assert self.commit(connection, group, first, member, 2) == 22
            assert self.commit(connection, group, second, "nobody", 2) == 25
            heartbeat = string(group) + i32(first) + string(member)
            reader = connection.call(HEARTBEAT, 1, heartbeat)
            reader.i32()
            assert reader.i16() in (22, 27)
            reader = connection.call(OFFSET_FETCH, 1,
                                     string(group) + array([string(self.topic) + array([i32(0)])]))
            reader.i32(), reader.string(), reader.i32(), reader.i32()
            assert reader.i64() == 1, "a stale commit moved the offset"

    def committed(self, connection, group, topic):
        reader = connection.call(OFFSET_FETCH, 1,
                                 string(group) + array([string(topic) + array([i32(0)])]))
        reader.i32(), reader.string(), reader.i32(), reader.i32()
        return reader.i64()

    def delete_offsets(self, connection, group, topics):
        """(error of the group, {topic: error of its partition 0})"""
        body = string(group) + array([string(topic) + array([i32(0)]) for topic in topics])
        for _ in range(200):
            reader = connection.call(OFFSET_DELETE, 0, body)
            error = reader.i16()
            if error not in (14, 15, 16):
                break
            time.sleep(0.05)  # the coordinator still loads
        reader.i32()
        told = reader.array(lambda: (reader.string(), reader.array(
            lambda: (reader.i32(), reader.i16()))))
        assert reader.at == len(reader.raw), "bytes are left of the answer"
        return error, {topic: partitions[0][1] for topic, partitions in told}

    def check_offset_delete(self):
        """Offsets go one by one, not while a member reads the topic, and not of no group."""
        group, other = "faults-forgets", self.create()
        self.settle("nobody-made-this")
        self.settle(group)
        with self.connect() as connection:
            assert self.delete_offsets(connection, "nobody-made-this", [self.topic]) == (69, {})
            for topic, offset in ((self.topic, 3), (other, 4)):
                body = (string(group) + i32(-1) + string("") + i64(-1)
                        + array([string(topic) + array([i32(0) + i64(offset) + string("")])]))
                reader = connection.call(OFFSET_COMMIT, 2, body)
                assert reader.i32() == 1
                reader.string(), reader.i32(), reader.i32()
                assert reader.i16() == 0
            assert self.committed(connection, group, other) == 4
            assert self.delete_offsets(connection, group, [other, "faults-none"]) == (
                0, {other: 0, "faults-none": 3})
            assert self.committed(connection, group, other) == -1, "the offset is still there"
            assert self.committed(connection, group, self.topic) == 3, "another's offset went"
            assert self.delete_offsets(connection, group, [other]) == (0, {other: 0}), "a second time"
            subscription = i16(0) + array([string(self.topic)]) + data(None)
            code, generation, member = self.join(connection, group, "", subscription)
            assert code == 0, code
            sync = (string(group) + i32(generation) + string(member)
                    + array([string(member) + data(b"")]))
            connection.call(SYNC_GROUP, 1, sync)
            assert self.delete_offsets(connection, group, [self.topic, other]) == (
                0, {self.topic: 86, other: 0})
            assert self.committed(connection, group, self.topic) == 3, "a member's offset went"


def broker_of(arguments):
    if arguments.bootstrap:
        return brokers.External(arguments.bootstrap)
    return brokers.Kafka() if arguments.kafka else brokers.Pyralog(arguments.binary)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", nargs="?", help="the pyralog binary (or PYRALOG_BINARY)")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="Apache Kafka that runs already")
    parser.add_argument("--kafka", action="store_true", help="start Apache Kafka")
    parser.add_argument("--check", action="append", help="only this one (may be repeated)")
    arguments = parser.parse_args()
    failed = passed = 0
    with broker_of(arguments) as broker:
        faults = Faults(broker.bootstrap, broker.name == "pyralog")
        for name in [name for name in dir(Faults) if name.startswith("check_")]:
            if arguments.check and name.removeprefix("check_") not in arguments.check:
                continue
            try:
                getattr(faults, name)()
                passed += 1
                print(f"ok   {name.removeprefix('check_')}", flush=True)
            except Exception as error:  # any surprise is a failed check
                failed += 1
                print(f"FAIL {name.removeprefix('check_')}: {type(error).__name__}: {error}",
                      flush=True)
        if broker.name == "pyralog":
            if broker.process.poll() is not None:
                failed += 1
                print(f"FAIL the broker ended with code {broker.process.returncode}")
            if failed:
                print("--- broker said:\n" + broker.log_tail())
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
