"""A small Kafka codec of the tests' own: just enough to say wrong things on purpose."""

import socket
import struct

# CRC-32C (Castagnoli), reflected
CRC_TABLE = []
for _byte in range(256):
    _value = _byte
    for _ in range(8):
        _value = (_value >> 1) ^ (0x82F63B78 if _value & 1 else 0)
    CRC_TABLE.append(_value)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = CRC_TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def i8(value):
    return struct.pack(">b", value)


def i16(value):
    return struct.pack(">h", value)


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def string(text):
    return i16(-1) if text is None else i16(len(text.encode())) + text.encode()


def data(raw):
    return i32(-1) if raw is None else i32(len(raw)) + raw


def array(items):
    return i32(len(items)) + b"".join(items)


def varint(value):
    """Zigzag, as in records."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value & ~0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def record(offset_delta, value, timestamp_delta=0, key=None):
    def nullable(text):
        return varint(-1) if text is None else varint(len(text)) + text

    body = (b"\0" + varint(timestamp_delta) + varint(offset_delta) + nullable(key) + nullable(value)
            + varint(0))
    return varint(len(body)) + body


def batch(values, attributes=0, count=None, last_delta=None, deltas=None, magic=2, crc_xor=0,
          length_add=0, producer=(-1, -1, -1), now_ms=1_700_000_000_000, keys=None):
    """A record batch v2; the options make it lie."""
    deltas = deltas or range(len(values))
    keys = keys or [None] * len(values)
    records = b"".join(record(delta, value, key=key)
                       for delta, value, key in zip(deltas, values, keys))
    tail = (i16(attributes) + i32(len(values) - 1 if last_delta is None else last_delta)
            + i64(now_ms) + i64(now_ms) + i64(producer[0]) + i16(producer[1]) + i32(producer[2])
            + i32(len(values) if count is None else count) + records)
    crc = struct.pack(">I", crc32c(tail) ^ crc_xor)
    after_length = i32(-1) + i8(magic) + crc + tail
    return i64(0) + i32(len(after_length) + length_add) + after_length


def old_message(magic, value):
    """A message set of one message in the formats before batches."""
    import zlib
    body = i8(magic) + i8(0) + (i64(0) if magic == 1 else b"") + data(None) + data(value)
    message = struct.pack(">I", zlib.crc32(body)) + body
    return i64(0) + data(message)


class Reader:
    """Takes a response apart."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, size):
        if self.at + size > len(self.raw):
            raise ValueError("the response is too short")
        self.at += size
        return self.raw[self.at - size:self.at]

    def i16(self):
        return struct.unpack(">h", self.take(2))[0]

    def i32(self):
        return struct.unpack(">i", self.take(4))[0]

    def i64(self):
        return struct.unpack(">q", self.take(8))[0]

    def string(self):
        size = self.i16()
        return None if size < 0 else self.take(size).decode()

    def data(self):
        size = self.i32()
        return None if size < 0 else self.take(size)

    def array(self, item):
        return [item() for _ in range(self.i32())]


class Connection:
    """One connection; requests with header v1 (v0 responses), so no flexible versions."""

    def __init__(self, bootstrap, timeout=15.0):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_raw(self, raw):
        self.socket.sendall(raw)

    def send(self, api, version, body=b"", client="wire"):
        self.correlation += 1
        frame = i16(api) + i16(version) + i32(self.correlation) + string(client) + body
        self.send_raw(i32(len(frame)) + frame)
        return self.correlation

    def receive(self):
        """The next response as (correlation id, Reader); None at the end of the stream, which may come
        in the midst of a response."""
        head = self.exactly(4)
        body = None if head is None else self.exactly(struct.unpack(">i", head)[0])
        if body is None:
            return None
        reader = Reader(body)
        return reader.i32(), reader

    def exactly(self, size):
        out = b""
        while len(out) < size:
            try:
                part = self.socket.recv(size - len(out))
            except ConnectionResetError:
                return None
            if not part:
                return None
            out += part
        return out

    def call(self, api, version, body=b""):
        number = self.send(api, version, body)
        answer = self.receive()
        if answer is None:
            raise ConnectionError("the broker closed the connection")
        if answer[0] != number:
            raise ValueError(f"response {answer[0]} to request {number}")
        return answer[1]

    def closed(self):
        """True if the broker ends the connection; raises when it answers or stays silent."""
        return self.receive() is None
