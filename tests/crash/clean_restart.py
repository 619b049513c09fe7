#!/usr/bin/env python3
"""SIGTERM under load: what was acknowledged stays, requests in flight end, the server exits with 0 within
10 s, and the next start reads no log at all. Prints how long a cold start takes."""

import statistics
import tempfile
import time

import client
import load
from rounds import Rounds, check
from server import Server

TOPICS, PARTITIONS, WRITERS = {"clean-fsync": "fsync", "clean-os": "os"}, 4, 2
SEGMENT_BYTES = 60_000
GROUP = "clean-group"


def commit_some(server, number):
    """Leaves records in the offsets topic too."""
    with client.Client(server.bootstrap) as admin:
        admin.settle(GROUP)
        codes = admin.commit(GROUP, -1, "", "clean-os", {0: number})
        check(codes == {0: client.NONE}, f"commit got {codes}")


def verify(server, audits, acked, number):
    recovery = server.status()["recovery"]
    read = {key: recovery[key] for key in ("logs", "scanned_bytes", "replayed_bytes", "torn_bytes")}
    check(not any(read.values()), f"start {number} after a clean stop read logs: {read}")
    with client.Client(server.bootstrap) as reader:
        for (topic, partition), audit in audits.items():
            audit.feed(reader.read(topic, partition, audit.next), acked[topic].get(partition, {}))
        reader.settle(GROUP)
        found = reader.committed(GROUP, "clean-os", [0])
        check(found == {0: number - 1}, f"committed was {number - 1}, found {found}")


def main():
    rounds = Rounds("clean_restart", quick=10, full=100)
    acked = {topic: {} for topic in TOPICS}
    audits = {(topic, p): load.Audit(f"{topic}-{p}") for topic in TOPICS for p in range(PARTITIONS)}
    identity, starts, stops = 0, [], []
    with tempfile.TemporaryDirectory(prefix="pyralog-clean-") as folder:
        data = folder + "/data"
        for number, rng in rounds:
            with Server(data) as server:
                server.ready()
                if number == 0:
                    with client.Client(server.bootstrap) as admin:
                        for topic, durability in TOPICS.items():
                            admin.create_topic(topic, PARTITIONS, durability=durability,
                                               segment_bytes=SEGMENT_BYTES)
                else:
                    starts.append(server.start_seconds)
                    verify(server, audits, acked, number)
                commit_some(server, number)
                writers = {}
                for topic in TOPICS:
                    writers[topic] = load.start(server, topic, PARTITIONS, rng, identity, WRITERS)
                    identity += WRITERS
                time.sleep(rng.uniform(0.05, 0.3))  # when it falls is drawn, not awaited
                code, seconds = server.terminate()
                check(code == 0, f"exit code {code}; the log ends:\n{server.log_tail()}")
                check(seconds < 10, f"the stop took {seconds:.1f} s")
                stops.append(seconds)
                for topic in TOPICS:
                    load.finish(writers[topic], acked[topic], load.GOING_DOWN)
        with Server(data) as server:
            server.ready()
            starts.append(server.start_seconds)
            verify(server, audits, acked, rounds.count)
            mebibytes = sum(p["bytes"] for p in server.partitions().values()) / (1 << 20)
    records = sum(len(offsets) for each in acked.values() for offsets in each.values())
    rounds.done(f"{rounds.count} clean stops, {records} records acknowledged, all there once; cold start "
                f"{1000 * statistics.median(starts):.0f} ms (at most {1000 * max(starts):.0f} ms, {mebibytes:.1f} "
                f"MiB of logs at last), stop at most {1000 * max(stops):.0f} ms")


if __name__ == "__main__":
    main()
