#!/usr/bin/env python3
"""The power goes while several connections produce with acks=all to fsync topics: the image of the
disk is copied mid-run, the copy mounted and the server started on it, twice over. Everything that had
been acknowledged before the copy is there, once and in order; torn tails are cut; nothing is offline.
Every other round has many partitions, so that they are made durable by way of the write-ahead files, and
these are small, so that they are written over all the time."""

import tempfile
import time
import urllib.request

import client
import disk
import load
from rounds import Rounds, check
from server import Server

TOPIC = "power"
FEW, MANY = (3, 3), (24, 10)  # partitions, writers
WRITE_AHEAD = ("--log-write-ahead-bytes=131072",)
SEGMENT_BYTES = 30_000


def verify(server, acked, partitions):
    with client.Client(server.bootstrap) as reader:
        for partition in range(partitions):
            load.Audit(f"{TOPIC}-{partition}").feed(reader.read(TOPIC, partition),
                                                    acked.get(partition, {}))
    offline = {name: p["offline"] for name, p in server.partitions().items() if "offline" in p}
    check(not offline, f"offline after a power loss: {offline}")


def write_ahead_rounds(server):
    with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=10) as answer:
        return sum(float(line.rsplit(" ", 1)[1]) for line in answer.read().decode().splitlines()
                   if line.startswith("pyralog_log_write_ahead_rounds_total"))


def main():
    disk.need_disks("power_loss")
    rounds = Rounds("power_loss", quick=10, full=100)
    total = torn = ahead = 0
    with tempfile.TemporaryDirectory(prefix="pyralog-power-") as folder:
        for number, rng in rounds:
            options = disk.MOUNTS[number % len(disk.MOUNTS)]
            partitions, count = MANY if number % 2 else FEW
            images = [f"{folder}/{number}.{generation}" for generation in range(3)]
            disk.new_image(images[0])
            acked, identity = {}, 0
            # The second power loss falls on a disk that has been recovered once already.
            for generation in range(2):
                with disk.mounted(images[generation], f"{folder}/mounted", options) as root:
                    with Server(root / "data", WRITE_AHEAD) as server:
                        server.ready()
                        if generation == 0:
                            with client.Client(server.bootstrap) as admin:
                                admin.create_topic(TOPIC, partitions, segment_bytes=SEGMENT_BYTES)
                        else:
                            verify(server, acked, partitions)
                            torn += server.status()["recovery"]["torn_bytes"]
                        writers = load.start(server, TOPIC, partitions, rng, identity, count)
                        identity += count
                        time.sleep(rng.uniform(0.0, 0.25))  # when it falls is drawn, not awaited
                        ahead += write_ahead_rounds(server)
                        disk.lose_power(server, images[generation], images[generation + 1])
                        load.finish(writers, acked)
            with disk.mounted(images[2], f"{folder}/mounted", "commit=300") as root:
                with Server(root / "data") as server:
                    server.ready()
                    torn += server.status()["recovery"]["torn_bytes"]
                    verify(server, acked, partitions)
            disk.remove(*images)
            total += sum(len(each) for each in acked.values())
    check(ahead > 2 * rounds.count, f"only {ahead} rounds of group commit by way of write-ahead files")
    rounds.done(f"{2 * rounds.count} power losses, {total} records acknowledged, all there once, {ahead:.0f} "
                f"rounds by write-ahead files; {torn} torn bytes cut")


if __name__ == "__main__":
    main()
