#!/usr/bin/env python3
"""Between two runs of the server, bits of segment files are flipped and torn batches written behind
their ends. Beyond the last `synced` entry the log is cut before the first bad batch; below it the
partition goes offline by name, or, where the start reads nothing, refuses the range that is read; never
is a changed byte served. The server stays up and the other partitions serve. `pyralog log verify` names
each fault, `log repair` mends a torn tail by itself and damage only when told to."""

import json
import tempfile
import time

import client
import evidence
import load
from rounds import Rounds, check
from server import Server, run_pyralog

# A partition of `torn` has several segments, one of `loose` a single one that is seldom synced.
TOPICS = {"torn": (4, "fsync", 30_000), "loose": (4, "os", 1 << 30), "whole": (1, "fsync", 30_000)}


class Damage:
    """What was done to a partition between two runs, and what must follow: `cut` (a torn tail),
    `offline`, or `refused` (where the start need not read: met then, or when it is read)."""

    def __init__(self, partition, segments, entry, clean, rng):
        self.partition = partition
        self.segment = rng.choice(segments[-2:] if rng.random() < 0.7 else segments)
        self.position = self.mask = None
        self.size = self.segment.size
        if not clean and (rng.random() < 0.25 or not self.segment.batches):
            self.segment = segments[-1]
            self.size = self.segment.size
            self.position, self.kind, self.end = self.size, "cut", partition.end
            self.segment.append(self.torn_batch(rng))
            self.synced = False
            return
        self.position = rng.randrange(self.size)
        # Often among the youngest bytes, which may lie beyond the evidence.
        if rng.random() < 0.5:
            self.position = rng.randrange(max(0, self.size - 4000), self.size)
        self.mask = rng.randrange(1, 256)
        self.judge(entry, clean)
        self.segment.flip(self.position, self.mask)

    def judge(self, entry, clean):
        header = self.position < evidence.HEADER
        self.end = self.segment.base if header else self.segment.batch_at(self.position)[1]
        place = (self.segment.base, self.position)
        self.synced = entry is not None and place < entry
        if clean or (entry is not None and self.segment.base < entry[0]):
            self.kind = "refused"
        elif self.synced or header:
            self.kind = "offline"
        else:
            self.kind = "cut"

    def torn_batch(self, rng):
        """The beginning of a batch, one with a wrong bit, zeros, or noise."""
        raw = bytearray(evidence.placed(load.batch([load.value_of(999, 0, 300)]), self.partition.end, 1000))
        kind = rng.randrange(4)
        if kind == 0:
            return bytes(raw[:rng.randrange(1, len(raw))])
        if kind == 1:
            raw[rng.randrange(21, len(raw))] ^= rng.randrange(1, 256)
            return bytes(raw)
        return bytes(rng.randrange(1, 9000)) if kind == 2 else rng.randbytes(rng.randrange(1, 9000))

    def undo(self):
        """The file as it was, as from a copy."""
        self.segment.flip(self.position, self.mask)

    def describe(self):
        return (f"{self.partition.name} ({self.partition.directory}): {self.kind}, segment {self.segment.base}, "
                f"byte {self.position} of {self.size}, mask {self.mask}, end {self.end}")


class Partition:
    def __init__(self, topic, index, directory):
        self.topic, self.index, self.directory = topic, index, directory
        self.name = f"{topic}-{index}"
        self.acked = {}
        self.end = 0

    def audit(self, reader):
        """Reads all of it; the log may end anywhere behind what was acknowledged."""
        audit = load.Audit(self.name)
        audit.feed(reader.read(self.topic, self.index), self.acked)
        self.end = audit.next

    def shorten(self, end):
        self.acked = {offset: value for offset, value in self.acked.items() if offset < end}


def judge_offline(server, reader, damage, status):
    told, partition = status.get("offline", ""), damage.partition
    check(partition.directory in told and damage.segment.path.name in told,
          f"{damage.describe()}: /status does not name it: {status}")
    check(f"{partition.name}" in server.log_tail(400), f"{damage.describe()}: the log does not name it")
    check(any(each.startswith(partition.name + ":") for each in server.get("/health")["offline_partitions"]),
          f"{damage.describe()}: /health does not name it")
    code, _ = reader.produce(partition.topic, partition.index, load.batch([b"999.1|no"]))
    check(code == client.STORAGE_ERROR, f"{damage.describe()}: produce got error {code}")
    try:
        reader.fetch(partition.topic, partition.index, 0)
        check(False, f"{damage.describe()}: it was read")
    except client.Refused as refused:
        check(refused.code == client.STORAGE_ERROR, f"{damage.describe()}: {refused}")


def judge_refused(server, reader, damage, status):
    """Everything before the damage can be read, the damage cannot."""
    partition, audit = damage.partition, load.Audit(damage.partition.name)
    if "offline" in status:  # the start read it for what producers had sent
        return judge_offline(server, reader, damage, status)
    try:
        while True:
            raw = reader.fetch(partition.topic, partition.index, audit.next, 4000)
            check(raw, f"{damage.describe()}: nothing at {audit.next}")
            audit.feed([r for r in client.records_of(raw) if r.offset >= audit.next], partition.acked,
                       upto=audit.next)
            check(audit.next <= damage.end, f"{damage.describe()}: {audit.next - 1} was served")
    except client.Refused as refused:
        check(refused.code == client.STORAGE_ERROR, f"{damage.describe()}: {refused}")
        check(audit.next <= damage.end, f"{damage.describe()}: refused only at {audit.next}")


def judge(server, partitions, damages):
    """The server as it is after the damage."""
    status = server.partitions()
    with client.Client(server.bootstrap) as reader:
        for partition in partitions:
            damage = damages.get(partition)
            if damage is None or damage.kind == "cut":
                if damage is not None:
                    check(status[partition.name]["log_end"] == damage.end,
                          f"{damage.describe()}: the log ends at {status[partition.name]['log_end']}")
                    partition.shorten(damage.end)
                check("offline" not in status[partition.name], f"{partition.name}: {status[partition.name]}")
                partition.audit(reader)
            elif damage.kind == "offline":
                judge_offline(server, reader, damage, status[partition.name])
            else:
                judge_refused(server, reader, damage, status[partition.name])
        whole = next(p for p in partitions if p.topic == "whole")
        code, base = reader.produce("whole", 0, load.batch([load.value_of(998, int(1e9 * time.monotonic()), 40)]))
        check((code, base) == (client.NONE, whole.end), f"the whole partition got error {code}, offset {base}")
        whole.end += 1


def judge_verify(data, partitions, damages, torn):
    """`log verify` finds the faults, all of them, and no others; `torn` are tails that the kill left."""
    done = run_pyralog("log", "verify", str(data), "--json")
    reports = {report["partition"]: report for report in json.loads(done.stdout)}
    check((done.returncode != 0) == bool(damages or torn), f"log verify ended with {done.returncode}: {done.stderr}")
    for partition in partitions:
        damage, report = damages.get(partition), reports[partition.directory]
        if damage is None:
            check(report["sound"] == (partition not in torn), f"{partition.name}: log verify says {report['findings']}")
            continue
        named = [f for f in report["findings"] if f["file"] == damage.segment.path.name
                 and f["position"] <= damage.position and f["synced"] == damage.synced]
        check(named, f"{damage.describe()}: log verify says {report['findings']}")


def repair(data, damage):
    """`log repair` of one partition; returns whether it was cut."""
    path = str(data / damage.partition.directory)
    before = damage.segment.path.read_bytes()
    done = run_pyralog("log", "repair", path)
    if damage.synced:
        check(done.returncode != 0 and damage.segment.path.name in done.stderr,
              f"{damage.describe()}: repair took it for a torn tail: {done.stdout} {done.stderr}")
        check(damage.segment.path.read_bytes() == before, f"{damage.describe()}: a refused repair changed it")
        done = run_pyralog("log", "repair", path, "--below-synced")
    check(done.returncode == 0, f"{damage.describe()}: repair ended with {done.returncode}: {done.stderr}")
    check(run_pyralog("log", "verify", path).returncode == 0, f"{damage.describe()}: not sound after repair")
    damage.partition.shorten(damage.end)


def create(server, partitions):
    with client.Client(server.bootstrap) as admin:
        for topic, (count, durability, segment_bytes) in TOPICS.items():
            admin.create_topic(topic, count, durability=durability, segment_bytes=segment_bytes)
    for name, status in server.partitions().items():
        topic, index = name.rsplit("-", 1)
        partitions.append(Partition(topic, int(index), status["directory"]))


def fill(server, partitions, rng, identity, clean=False):
    """Writes to all topics, then kills the server under load, or stops it in order."""
    writers = [writer for i, topic in enumerate(TOPICS)
               for writer in load.start(server, topic, TOPICS[topic][0], rng, identity + 2 * i, 2)]
    time.sleep(rng.uniform(0.05, 0.2))  # when the blow falls is drawn, not awaited
    if clean:
        check(server.terminate()[0] == 0, "a clean stop failed")
    else:
        server.kill()
    for topic in TOPICS:
        acked = {p.index: p.acked for p in partitions if p.topic == topic}
        load.finish([w for w in writers if w.topic == topic], acked, load.GOING_DOWN if clean else ())
    return identity + 2 * len(TOPICS)


def main():
    rounds = Rounds("torn_write", quick=10, full=200)
    partitions, kinds, repaired, identity = [], {"cut": 0, "offline": 0, "refused": 0}, 0, 0
    with tempfile.TemporaryDirectory(prefix="pyralog-torn-") as folder:
        for number, rng in rounds:
            with Server(folder + "/data") as server:
                server.ready()
                if number == 0:
                    create(server, partitions)
                judge(server, partitions, {})
                identity = fill(server, partitions, rng, identity)
            # A run in between, so that what is on disk is settled and known to the byte.
            with Server(folder + "/data") as server:
                server.ready()
                judge(server, partitions, {})
                clean = rng.random() < 0.25
                identity = fill(server, partitions, rng, identity, clean)
            entries, damages, torn = evidence.synced(server.data), {}, []
            for partition in partitions:
                segments = evidence.segments(server.data, partition.directory)
                if not segments[-1].whole:
                    torn.append(partition)  # by the kill itself
                    continue
                if partition.topic == "whole" or rng.random() < 0.2:
                    continue
                partition.end = segments[-1].end
                damages[partition] = Damage(partition, segments, entries.get(partition.directory),
                                             clean, rng)
                kinds[damages[partition].kind] += 1
            judge_verify(server.data, partitions, damages, torn)
            for partition, damage in list(damages.items()):
                if damage.kind == "cut" and rng.random() < 0.3:
                    repair(server.data, damages.pop(partition))
                    repaired += 1
            with Server(folder + "/data") as server:
                server.ready()
                judge(server, partitions, damages)
                server.kill()
            for damage in damages.values():
                if damage.kind == "cut":
                    continue
                if rng.random() < 0.4:
                    repair(server.data, damage)
                    repaired += 1
                else:
                    damage.undo()
    check(rounds.count < 10 or all(kinds.values()), f"a kind of damage never came: {kinds}")
    rounds.done(f"{sum(kinds.values())} faults: {kinds}, {repaired} repaired")


if __name__ == "__main__":
    main()
