#!/usr/bin/env python3
"""A disk fills up under the real server: records are refused while there still is space, and reads,
committed offsets, new and deleted topics and deleted records go on. Then somebody else takes all the
rest: the reserve file goes, and the same goes on, after a start as well. When there is space again,
records are taken again and everything that was acknowledged is there."""

import os
import pathlib
import signal
import tempfile
import time

import client
import disk
from rounds import Rounds, check
from server import Server
from wire import array, batch, i32, i64, string

DELETE_RECORDS, DELETE_TOPICS = 21, 20
MEBIBYTES = 160
FLOOR, RESERVE = 16 << 20, 2 << 20
OPTIONS = ("--min-free-bytes", str(FLOOR), "--disk-reserve-bytes", str(RESERVE),
           "--group-initial-rebalance-delay-ms", "0")
BATCH = batch([b"x" * 1000] * 200)


def delete_topic(wire, name):
    reader = wire.call(DELETE_TOPICS, 1, array([string(name)]) + i32(15_000))
    reader.i32()
    code = reader.array(lambda: (reader.string(), reader.i16()))[0][1]
    check(code == client.NONE, f"delete {name}: error {code}")


def delete_records(wire, topic, below):
    body = array([string(topic) + array([i32(0) + i64(below)])]) + i32(15_000)
    reader = wire.call(DELETE_RECORDS, 0, body)
    reader.i32(), reader.i32(), reader.string(), reader.i32(), reader.i32(), reader.i64()
    code = reader.i16()
    check(code == client.NONE, f"delete records of {topic}: error {code}")


def until(holds, what, seconds=30.0):
    end = time.monotonic() + seconds
    while not holds():
        check(time.monotonic() < end, what)
        time.sleep(0.05)


def free(root):
    seen = os.statvfs(root)
    return seen.f_bavail * seen.f_frsize


def fill(root):
    """Somebody else takes everything that there is."""
    with open(root / "foreign", "wb", buffering=0) as out:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    out.write(b"x" * size)
            except OSError:
                pass
        os.fsync(out.fileno())


def expect_the_rest_goes_on(server, number):
    """Each of it, twice: what it needs must not be used up by the first."""
    for turn in range(2):
        name = f"made-{number}-{turn}"
        with client.Client(server.bootstrap) as wire:
            wire.create_topic(name)
            group = f"group-{number}-{turn}"
            wire.settle(group)
            generation, member = wire.join(group, "", ["t"])
            answer = wire.commit(group, generation, member, "t", {0: 7})
            check(answer == {0: client.NONE}, f"commit of {group}: {answer}")
            check(wire.committed(group, "t", [0]) == {0: 7}, f"{group} has lost its commit")
            check(len(client.records_of(wire.fetch("t", 0, wire.offset("t", 0, -2)))) > 0,
                  "nothing can be read")
            wire.producer_id()
            delete_topic(wire, name)


def run_round(root, rng):
    acked = 0
    with Server(root / "data", OPTIONS) as server:
        server.ready()
        check((root / "data" / "reserve").stat().st_blocks * 512 >= RESERVE, "the reserve is a hole")
        with client.Client(server.bootstrap) as wire:
            wire.create_topic("t", segment_bytes=1 << 20)
            wire.create_topic("big")
            wire.create_topic("memory", durability="memory")
            for _ in range(3):
                check(wire.produce("t", 0, BATCH)[0] == client.NONE, "t")
                acked += 200
            error = client.NONE
            end = time.monotonic() + 120
            while error == client.NONE:
                check(time.monotonic() < end, "records are taken for ever")
                error, _ = wire.produce("big", 0, BATCH)
            check(error == client.STORAGE_ERROR, f"error {error}")
            check(free(root) > FLOOR / 2, f"only {free(root)} bytes are free, and {FLOOR} should be")
            check(wire.produce("memory", 0, BATCH)[0] == client.NONE, "memory needs no disk")
            health = server.get("/health")
            check(health["status"] == "degraded" and "min.free.bytes" in health["writes_refused"],
                  f"health: {health}")
            expect_the_rest_goes_on(server, 1)

            server.freeze()  # or it might let the reserve go while somebody is still taking
            fill(root)
            server.process.send_signal(signal.SIGCONT)
            until(lambda: server.status()["disk"]["reserve_bytes"] == 0, "the reserve stays")
            check(not (root / "data" / "reserve").exists(), "the reserve is still there")
            check(free(root) > 0, "it set nothing free")
            expect_the_rest_goes_on(server, 2)
            check(wire.produce("t", 0, BATCH)[0] == client.STORAGE_ERROR, "the reserve is for all")
            delete_records(wire, "t", 200)
        server.kill() if rng.random() < 0.5 else server.terminate()
    with Server(root / "data", OPTIONS) as server:
        server.ready()
        expect_the_rest_goes_on(server, 3)
        with client.Client(server.bootstrap) as wire:
            check(wire.produce("t", 0, BATCH)[0] == client.STORAGE_ERROR, "after a start")
            delete_topic(wire, "big")
            (root / "foreign").unlink()
            until(lambda: not server.status()["disk"]["refusing"], "records are refused for ever")
            check(wire.produce("t", 0, BATCH)[0] == client.NONE, "there is space again")
            acked += 200
            until(lambda: server.status()["disk"]["reserve_bytes"] == RESERVE, "no reserve again")
            found = [r.offset for r in wire.read("t", 0)]
            check(found == list(range(200, acked)), f"t holds {found[:1]} to {found[-1:]} of {acked}")
        log = server.log_text()
        for event in ("writes_refused", "reserve_released", "writes_resumed", "reserve_made"):
            check(f"broker.{event}" in log, f"no line says {event}")
        check(log.count("broker.writes_refused") < 10, "it turns to and fro")
        offline = {name: p["offline"] for name, p in server.partitions().items() if "offline" in p}
        check(not offline, f"offline: {offline}")


def main():
    disk.need_disks("full_disk")
    rounds = Rounds("full_disk", quick=2, full=20)
    with tempfile.TemporaryDirectory(prefix="pyralog-full-") as folder:
        for number, rng in rounds:
            image = pathlib.Path(folder) / f"{number}.img"
            disk.new_image(image, MEBIBYTES)
            disk.run("tune2fs", "-m", "0", str(image))  # nothing for root alone, that is for us
            with disk.mounted(image, f"{folder}/mounted", disk.MOUNTS[-1]) as root:
                run_round(root, rng)
            disk.remove(image)
    rounds.done(f"{rounds.count} disks filled up, what has to go on went on")


if __name__ == "__main__":
    main()
