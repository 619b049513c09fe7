#!/usr/bin/env python3
"""kill -9 while several connections produce with acks=all to fsync topics of small segments, also in
the middle of a start: every acknowledged record is there, once, in order, at its offset."""

import tempfile
import time

import client
import load
from rounds import Rounds, check
from server import Server

TOPIC, PARTITIONS, WRITERS = "crash", 4, 4
SEGMENT_BYTES = 20_000  # a partition rolls several times in a round


def interrupted_start(data, usual, rng):
    """Kills a server somewhere between its start and a little after it is ready."""
    with Server(data) as server:
        server.ready_within(rng.uniform(0.0, 1.3 * usual))


def verify(server, audits, acked, whole=False):
    with client.Client(server.bootstrap) as reader:
        for partition in range(PARTITIONS):
            audit = load.Audit(f"{TOPIC}-{partition}") if whole else audits[partition]
            records = reader.read(TOPIC, partition, audit.next)
            audit.feed(records, acked.get(partition, {}))


def main():
    rounds = Rounds("crash_log", quick=20, full=250)
    acked, audits = {}, [load.Audit(f"{TOPIC}-{p}") for p in range(PARTITIONS)]
    identity = starts_cut = stops = 0
    usual = 0.05
    with tempfile.TemporaryDirectory(prefix="pyralog-crash-") as folder:
        data = folder + "/data"
        for number, rng in rounds:
            while number and rng.random() < 0.4:
                interrupted_start(data, usual, rng)
                starts_cut += 1
            with Server(data) as server:
                server.ready()
                usual = server.start_seconds
                if number == 0:
                    with client.Client(server.bootstrap) as admin:
                        admin.create_topic(TOPIC, PARTITIONS, segment_bytes=SEGMENT_BYTES)
                verify(server, audits, acked, whole=number % 20 == 19)
                writers = load.start(server, TOPIC, PARTITIONS, rng, identity, WRITERS)
                identity += WRITERS
                time.sleep(rng.uniform(0.0, 0.25))  # when the blow falls is drawn, not awaited
                # A clean stop now and then: what it left for the next start must not outlive that start.
                if clean := stops < rounds.count // 5 and rng.random() < 0.15:
                    check(server.terminate()[0] == 0, "a clean stop failed")
                    stops += 1
                else:
                    server.kill()
                load.finish(writers, acked, load.GOING_DOWN if clean else ())
        with Server(data) as server:
            server.ready()
            verify(server, audits, acked)
            verify(server, audits, acked, whole=True)
            check(not [p for p in server.partitions().values() if p.get("offline")], "offline partitions")
            code, _ = server.terminate()
            check(code == 0, f"exit code {code}")
    check(rounds.count < 250 or rounds.count - stops >= 200, "fewer than 200 kills")
    total = sum(len(each) for each in acked.values())
    check(total > 10 * rounds.count, f"only {total} records were acknowledged")
    rounds.done(f"{rounds.count - stops} kills, {starts_cut} more during a start, {stops} clean stops, "
                f"{total} records acknowledged, all there once")


if __name__ == "__main__":
    main()
