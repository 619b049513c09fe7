#!/usr/bin/env python3
"""What an acknowledgement promises: acks {0, 1, all} x durability {memory, os, fsync} x {kill -9, power
loss, clean stop}, on one replica. For every cell: what was promised is there; whatever is there is a
beginning of what was sent, unharmed; the partition serves on at its end, in a newer epoch."""

import random
import tempfile
import threading
import time

import client
import disk
import load
from rounds import Rounds, check
from server import Server

ACKS = {"0": 0, "1": 1, "all": -1}
DURABILITIES = ("memory", "os", "fsync")
FAILURES = ("kill", "power", "clean")
BATCHES = 12


def promised(acks, durability, failure):
    """Whether an acknowledgement covers this failure."""
    if acks == "0" or durability == "memory":
        return False
    if failure == "power":
        return acks == "all" and durability == "fsync"
    return True


class Cell:
    """One topic of the matrix and what it was sent."""

    def __init__(self, acks, durability):
        self.acks, self.durability = acks, durability
        self.topic = f"acks-{acks}-{durability}"
        self.sent = []   # values in the order in which they were sent
        self.acked = {}  # {offset: value}
        self.fresh = 0   # records of the last filling
        self.began = 0   # where the log ended when the server started

    def fill(self, bootstrap, rng):
        already = len(self.sent)
        with client.Client(bootstrap) as producer:
            for _ in range(BATCHES):
                values = [load.value_of(0, len(self.sent) + i, rng.randint(20, 2000))
                          for i in range(rng.randint(1, 4))]
                self.sent += values
                body = client.produce_body(self.topic, 0, load.batch(values), ACKS[self.acks])
                if self.acks == "0":
                    producer.wire.send(client.PRODUCE, 7, body)
                    continue
                code, base = client.produce_answer(producer.call(client.PRODUCE, 7, body))
                check(code == client.NONE, f"{self.topic}: produce was refused with error {code}")
                self.acked.update((base + i, value) for i, value in enumerate(values))
        self.fresh = len(self.sent) - already

    def judge(self, reader, status, failure, before):
        """Compares what is there with what was promised; returns how many acknowledged records that
        were not promised are gone."""
        what = f"{self.topic} after {failure}"
        check("offline" not in status, f"{what}: {status.get('offline')}")
        check(status["epoch"] > before["epoch"], f"{what}: the epoch stays {before['epoch']}")
        records = reader.read(self.topic, 0)
        if self.durability == "memory":
            self.judge_memory(what, records, status, failure, before)
        else:
            values = [record.value for record in records]
            check([r.offset for r in records] == list(range(len(records))), f"{what}: offsets have gaps")
            check(values == self.sent[:len(values)], f"{what}: not a beginning of what was sent")
        gone = sum(offset not in {r.offset for r in records} for offset in self.acked)
        check(not gone or not promised(self.acks, self.durability, failure),
              f"{what}: {gone} of {len(self.acked)} acknowledged records are lost")
        end = status["log_end"]
        code, base = reader.produce(self.topic, 0, load.batch([b"0.0|after"]))
        check((code, base) == (client.NONE, end), f"{what}: the next record got error {code}, offset {base}, not {end}")
        lost = [each["from"] for each in status.get("lost", [])]
        if self.durability == "os":
            check((end in lost) == (failure == "power"), f"{what}: the log ends at {end}, recorded as lost: {lost}")
        if self.durability == "fsync":
            check(not lost, f"{what}: recorded as lost: {lost}")
        return gone

    def judge_memory(self, what, records, status, failure, before):
        check(not records and status["log_start"] == status["log_end"], f"{what}: a memory topic is not empty")
        # A clean stop keeps the place; otherwise it goes on where the epoch that is gone began.
        at = before["log_end"] if failure == "clean" else self.began
        check(status["log_end"] == at, f"{what}: goes on at {status['log_end']}, not at {at}")
        check(any((lost["from"], lost["to"]) == (self.began, at) for lost in status.get("lost", [])),
              f"{what}: the loss is not recorded: {status}")


def fill_all(server, cells, rng):
    seeds = [rng.randrange(1 << 30) for _ in cells]
    failed = []

    def work(cell, seed):
        try:
            cell.fill(server.bootstrap, random.Random(seed))
        except BaseException as error:  # told below, on the main thread
            failed.append(f"{cell.topic}: {error}")
    threads = [threading.Thread(target=work, args=pair) for pair in zip(cells, seeds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    check(not failed, "; ".join(failed))


def settle(server, cells):
    """Nothing tells when a record sent with acks=0 is there: asks until all are."""
    end = time.monotonic() + 30
    while True:
        status = server.partitions()
        late = [c.topic for c in cells if status[c.topic + "-0"]["log_end"] < c.began + c.fresh]
        if not late:
            return status
        check(time.monotonic() < end, f"records of {late} never came")


def run(data, cells, rng, failure, image=None, copy=None):
    """Fills the topics over two runs of the server; the second ends with `failure`. Returns what
    /status said just before."""
    for second in (False, True):
        with Server(data) as server:
            server.ready()
            if not second:
                with client.Client(server.bootstrap) as admin:
                    for cell in cells:
                        admin.create_topic(cell.topic, durability=cell.durability, segment_bytes=16_000)
            status = server.partitions()
            for cell in cells:
                cell.began = status[cell.topic + "-0"]["log_end"]
            fill_all(server, cells, rng)
            before = settle(server, cells)
            if second and failure == "kill":
                server.kill()
            elif second and failure == "power":
                disk.lose_power(server, image, copy)
            else:
                check(server.terminate()[0] == 0, "a clean stop failed")
    return before


def judge_all(data, cells, failure, before):
    with Server(data) as server:
        server.ready()
        status = server.partitions()
        with client.Client(server.bootstrap) as reader:
            return sum(cell.judge(reader, status[cell.topic + "-0"], failure, before[cell.topic + "-0"])
                       for cell in cells)


def main():
    disk.need_disks("acks_durability")
    rounds = Rounds("acks_durability", quick=10, full=100)
    gone = dict.fromkeys(FAILURES, 0)
    for number, rng in rounds:
        for failure in FAILURES:
            cells = [Cell(acks, durability) for acks in ACKS for durability in DURABILITIES]
            with tempfile.TemporaryDirectory(prefix="pyralog-acks-") as folder:
                if failure != "power":
                    before = run(folder + "/data", cells, rng, failure)
                    gone[failure] += judge_all(folder + "/data", cells, failure, before)
                    continue
                options = disk.MOUNTS[number % len(disk.MOUNTS)]
                image, copy = disk.new_image(folder + "/image"), folder + "/copy"
                with disk.mounted(image, folder + "/mounted", options) as root:
                    before = run(root / "data", cells, rng, failure, image, copy)
                with disk.mounted(copy, folder + "/mounted", options) as root:
                    disk.boot_anew(root / "data")
                    gone[failure] += judge_all(root / "data", cells, failure, before)
    rounds.done(f"{rounds.count} rounds of {len(ACKS) * len(DURABILITIES) * len(FAILURES)} cells; "
                f"acknowledged without promise and gone: {gone}")


if __name__ == "__main__":
    main()
