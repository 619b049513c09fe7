"""Asks one node for ids and counters by the messages of Pyralog's own, so that a test knows who was asked."""

import socket
import struct

from wire import i8, i16, i32

NEXT_IDS, NEXT_COUNTER = 10020, 10021
NOT_CONTROLLER = 41


def compact(text):
    raw = text.encode()
    assert len(raw) < 126
    return bytes([len(raw) + 1]) + raw


class Issuer:
    """One connection to one node. A request may be sent long before its answer is read."""

    def __init__(self, address, seconds=10.0):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), seconds)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, api, body):
        self.correlation += 1
        frame = i16(api) + i16(0) + i32(self.correlation) + i16(-1) + b"\0" + body + b"\0"
        self.socket.sendall(i32(len(frame)) + frame)

    def exactly(self, size):
        raw = b""
        while len(raw) < size:
            if not (more := self.socket.recv(size - len(raw))):
                raise ConnectionError("the node closed the connection")
            raw += more
        return raw

    def receive(self):
        """(error code, the rest of the answer)"""
        raw = self.exactly(struct.unpack(">i", self.exactly(4))[0])
        _, _, _, code, size = struct.unpack_from(">ibihB", raw)
        return code, raw[12 + max(size - 1, 0):]

    def ask_ids(self, count, timeout_ms=300):
        self.send(NEXT_IDS, i32(timeout_ms) + i32(count))

    def answered_ids(self):
        """(error code, machine id, ids)"""
        code, raw = self.receive()
        if code:
            return code, None, []
        ms, machine, sequence, count = struct.unpack_from(">qhhi", raw)
        first = ms << 13 | sequence
        ticks = range(first, first + count)
        return 0, machine, [(t >> 13) << 23 | machine << 13 | (t & 8191) for t in ticks]

    def ids(self, count, timeout_ms=300):
        self.ask_ids(count, timeout_ms)
        return self.answered_ids()

    def counter(self, name, count=1, strict=False, timeout_ms=300):
        """(error code, first value)"""
        self.send(NEXT_COUNTER, i32(timeout_ms) + compact(name) + i32(count) + i8(strict))
        code, raw = self.receive()
        return code, None if code else struct.unpack_from(">q", raw)[0]
