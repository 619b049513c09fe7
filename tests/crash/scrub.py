#!/usr/bin/env python3
"""A bit flips in a closed segment while the server runs: the scrubber finds it before a reader does, says
so by name in log, metrics and status, and from then on readers of these records are refused, of all
others served. Nothing is blamed that is sound, and a flip that is undone is served again."""

import random
import tempfile
import time
import urllib.request

import client
import evidence
from rounds import Rounds, check
from server import Server
from wire import batch

RECORDS, SEGMENT = 60, 20_000
STORAGE_ERROR = 56
OPTIONS = ("--log-scrub-interval-ms", "300", "--log-format", "json")
PARTITIONS = 2


def metric(server, name):
    with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=15) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name + " ") or line.startswith(name + "{"):
                return float(line.rsplit(" ", 1)[1])
    raise SystemExit(f"FAILED: no metric {name}")


def await_(server, what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f"{what} did not come within {seconds} s; the log ends:\n"
                                      f"{server.log_tail()}")
        time.sleep(0.05)


def rounds_pass(server, count=3):
    """Rounds that began later than now have ended, on every shard."""
    goal = metric(server, "pyralog_log_scrub_rounds_total") + count * server.status()["shards"]
    await_(server, "a round", lambda: metric(server, "pyralog_log_scrub_rounds_total") >= goal)


def refused(reader, partition):
    """The offsets whose records cannot be read, each asked for by itself."""
    found = set()
    for offset in range(RECORDS):
        try:
            reader.fetch("scrubbed", partition, offset, 1)
        except client.Refused as answer:
            check(answer.code == STORAGE_ERROR, f"offset {offset}: {answer}")
            found.add(offset)
    return found


def one(folder, rng):
    with Server(folder + "/data", OPTIONS) as server:
        server.ready()
        with client.Client(server.bootstrap) as user:
            user.create_topic("scrubbed", PARTITIONS, segment_bytes=SEGMENT)
            for partition in range(PARTITIONS):
                for number in range(RECORDS):
                    code, _ = user.produce("scrubbed", partition, batch([b"%d|" % number + b"x" * 1500]))
                    check(code == client.NONE, f"produce: error {code}")
            rounds_pass(server)
            check(metric(server, "pyralog_log_scrub_damaged_ranges") == 0, "damage where there is none")
            check("log.scrub" not in server.log_text(), f"a false alarm:\n{server.log_tail()}")
            check(metric(server, "pyralog_log_scrubbed_bytes_total") > 2 * SEGMENT, "nothing was read")
            check(server.status()["scrub"].get("last_round_ms", 0) > 0, "/status knows no round")

            directory = server.partitions()["scrubbed-0"]["directory"]
            closed = evidence.segments(server.data, directory)[:-1]
            check(len(closed) >= 2, f"{len(closed)} closed segments")
            segment = rng.choice(closed)
            begin, offset = rng.choice(segment.batches)
            at, mask = begin + rng.randrange(61, 1500), 1 << rng.randrange(8)
            segment.flip(at, mask)
            await_(server, "the alarm", lambda: "log.scrub_damage" in server.log_text())
            line = next(l for l in server.log_text().splitlines() if "log.scrub_damage" in l)
            for word in ("scrubbed-0", segment.path.name, f"byte {begin}", "pyralog log repair", "error"):
                check(word in line, f"{word!r} is not in the alarm: {line}")
            check(metric(server, "pyralog_log_scrub_damaged_ranges") == 1, "not one damaged range")
            damage = server.status()["scrub"]["damage"]
            check(len(damage) == 1 and segment.path.name in damage[0], f"/status says {damage}")
            check(refused(user, 0) == {offset}, f"{refused(user, 0)} are refused, not {offset}")
            check(refused(user, 1) == set(), "the other partition is refused")
            check(len(user.read("scrubbed", 1)) == RECORDS, "the other partition is not whole")
            check(user.produce("scrubbed", 0, batch([b"more"]))[0] == client.NONE, "no record is taken")
            check(not server.partitions()["scrubbed-0"].get("offline"), "the partition is offline")
            rounds_pass(server)
            check(server.log_text().count("log.scrub_damage") == 1, "told more than once")

            segment.flip(at, mask)
            await_(server, "peace", lambda: metric(server, "pyralog_log_scrub_damaged_ranges") == 0)
            check(refused(user, 0) == set(), "what is sound again is refused")
        check(server.terminate()[0] == 0, "a clean stop failed")


def main():
    rounds = Rounds("scrub", quick=2, full=20)
    for _, rng in rounds:
        with tempfile.TemporaryDirectory(prefix="pyralog-scrub-") as folder:
            one(folder, random.Random(rng.random()))
    rounds.done("every flip was found")


if __name__ == "__main__":
    main()
