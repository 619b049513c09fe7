"""Reads what a data directory holds, by docs/on-disk-format.md: segments, and the `synced` journals that
say how far each was durable."""

import pathlib
import struct
import uuid

HEADER = 64       # of a segment and of a journal
FRAME = 20        # header of a journal's frame


def frames(path):
    """Payloads of a framed journal, up to the first that is not whole."""
    raw, at = path.read_bytes(), HEADER
    while len(raw) - at >= FRAME:
        size = struct.unpack_from("<I", raw, at)[0]
        if len(raw) - at - FRAME < size:
            return
        yield raw[at + FRAME:at + FRAME + size]
        at += FRAME + size


def synced(data):
    """{directory of the partition: (base offset of the segment, end position)}, the last that was said."""
    found, newest = {}, {}
    for path in sorted(pathlib.Path(data).glob("shard-*.synced")):
        for payload in frames(path):
            kind, topic, partition, generation, segment, position = struct.unpack_from("<B16siIqQ", payload)
            name = f"{uuid.UUID(bytes=topic)}-{partition}"
            if generation < newest.get(name, 0):
                continue
            newest[name] = generation
            found[name] = (segment, position) if kind == 0 else None
    return found


class Segment:
    """One segment file and where its batches begin."""

    def __init__(self, path):
        self.path, self.base = path, int(path.stem)
        raw = path.read_bytes()
        self.size, self.batches, at = len(raw), [], HEADER
        self.end = self.base  # the offset after the last batch
        while len(raw) - at >= 61:
            base, length = struct.unpack_from(">qi", raw, at)
            if length < 49 or at + 12 + length > len(raw):
                break
            self.batches.append((at, base))
            self.end = base + struct.unpack_from(">i", raw, at + 23)[0] + 1
            at += 12 + length
        self.whole = at == self.size  # not so where a kill came in the middle of a write

    def batch_at(self, position):
        """(position, base offset) of the batch that holds a byte."""
        return max(each for each in self.batches if each[0] <= position)

    def flip(self, position, mask):
        """Flips bits of a byte; done twice, nothing has happened."""
        with open(self.path, "r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ mask]))

    def append(self, raw):
        with open(self.path, "ab") as file:
            file.write(raw)


def segments(data, directory):
    """The segments of a partition, oldest first."""
    return [Segment(path) for path in sorted((pathlib.Path(data) / directory).glob("*.log"))]


def placed(raw, offset, epoch):
    """A batch as a server writes it: with its offset and its epoch."""
    return struct.pack(">q", offset) + raw[8:12] + struct.pack(">i", epoch) + raw[16:]


def orphans(data, partitions):
    """Per partition the files that belong to no segment. A segment that goes away at this moment shows
    here as well, file by file: only what stays was left behind."""
    found = {}
    for name, status in partitions.items():
        folder = pathlib.Path(data) / status["directory"]
        segments = {p.name.split(".")[0] for p in folder.glob("*.log")}
        if left := sorted({p.name.split(".")[0] for p in folder.glob("0*")} - segments):
            found[name] = left
    return found
