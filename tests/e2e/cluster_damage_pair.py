#!/usr/bin/env python3
"""Damage in one of two replicas while the other is down: what is damaged is served to nobody, all else is, and
nothing is thrown away, for there is nothing that it could be made from. Once the other is back, a partition that
could not be opened is made anew from that; one that could is when it is moved."""

import signal
import subprocess
import time

from appenders import NOT_ENOUGH_REPLICAS, produce
from cluster import until, wire_client
from cluster_damage import Racks, lead, stop_and_start
from damage import MADE_ANEW, Replica, await_mended, read_through, same_everywhere, verify
from rounds import Rounds, check

RECORDS, SEGMENT = 60, 16_384
STORAGE_ERROR, LED_BY_OTHERS = 56, (5, 6)
LOOKS = 2.0  # seconds in which a node looks at its damaged partitions more than once


class Pair:
    """A topic of two replicas, and what was acknowledged to it."""

    def __init__(self, cluster, topic):
        self.cluster, self.topic, self.acked = cluster, topic, {}
        cluster.create(topic, replicas=2, segment_bytes=SEGMENT)
        self.held, self.other = cluster.partitions(topic)[0][3]
        self.third = next(n for n in cluster.nodes if n not in (self.held, self.other))
        lead(cluster, self.held, topic, 0)
        with cluster.door(self.held) as door:
            for number in range(RECORDS):
                self.append(door, f"{number}|" + "x" * 1_000)
        self.damaged = Replica(cluster, self.held, topic, 0)

    def append(self, door, value):
        """Of a topic that was just made the first ones may be refused."""
        def acknowledged():
            code, offset = produce(door, self.topic, 0, value)
            check(code in (0, NOT_ENOUGH_REPLICAS, *LED_BY_OTHERS), f"{self.topic}: error {code}")
            return code == 0 and (offset,)
        self.acked[until(acknowledged, f"{self.topic} takes a record", 20)[0]] = value

    def read_alone(self, door):
        """The offsets that are refused, each asked for by itself; all others hold what was acknowledged."""
        refused = set()
        for offset, value in self.acked.items():
            try:
                found = wire_client.records_of(door.fetch(self.topic, 0, offset, 1))
                check([(r.offset, r.value) for r in found] == [(offset, value.encode())],
                      f"{self.topic}: at {offset} {found[0].value if found else None!r} was served")
            except wire_client.Refused as answer:
                check(answer.code == STORAGE_ERROR, str(answer))
                refused.add(offset)
        return refused

    def read(self):
        read_through(self.cluster, self.topic, {0: self.acked})

    def nothing_is_thrown_away(self, files):
        time.sleep(LOOKS)
        made = self.damaged.events(MADE_ANEW) + self.damaged.kept()
        check(not made, f"{self.damaged} was made anew of nothing: {made}")
        check(files <= set(self.damaged.folder.glob("*.log")), f"{self.damaged} has lost files")


def goes_on_with_what_is_sound(cluster, rng, pair):
    stop_and_start(cluster, pair.held, pair.topic)
    lead(cluster, pair.held, pair.topic, 0)
    cluster.kill(pair.other)
    _, offset = pair.damaged.flip_closed(rng)
    files = set(pair.damaged.folder.glob("*.log"))
    with cluster.door(pair.held) as door:
        check(pair.read_alone(door) == {offset}, f"{pair.read_alone(door)} are refused, {offset} is damaged")
        until(lambda: produce(door, pair.topic, 0, "no")[0] == NOT_ENOUGH_REPLICAS, "one of two refuses records", 10)
        pair.nothing_is_thrown_away(files)
        check(pair.read_alone(door) == {offset}, f"{pair.read_alone(door)} are refused, {offset} is damaged")
        cluster.restart(pair.other)
        cluster.await_whole([pair.topic])
        until(lambda: produce(door, pair.topic, 0, "yes")[0] == 0, "two of two take records", 20)
        pair.nothing_is_thrown_away(files)
    move(cluster, pair, pair.other, pair.third)
    until(lambda: not pair.damaged.folder.exists() and not pair.damaged.kept(), f"{pair.damaged} is gone", 20)


def is_not_opened(cluster, rng, pair):
    cluster.kill(pair.held, pair.other)
    _, offset = pair.damaged.flip_last(rng)
    files = set(pair.damaged.folder.glob("*.log"))
    cluster.restart(pair.held)
    with cluster.door(pair.held) as door:
        pair.nothing_is_thrown_away(files)
        for each in pair.acked:
            try:
                door.fetch(pair.topic, 0, each)
                check(False, f"{pair.topic}: it was read at {each} though {offset} is damaged")
            except wire_client.Refused as answer:
                check(answer.code in (STORAGE_ERROR, *LED_BY_OTHERS), str(answer))
    told = cluster.nodes[pair.held].status("/health")["offline_partitions"]
    check(any(each.startswith(f"{pair.damaged.name}:") for each in told), f"/health names {told}, not {pair.damaged}")
    cluster.restart(pair.other)
    await_mended(cluster, pair.damaged, seconds=40)
    lead(cluster, pair.held, pair.topic, 0)


def move(cluster, pair, *nodes):
    done = subprocess.run([cluster.nodes[1].binary, "partition", "move", pair.topic, "0", "--to",
                           ",".join(map(str, nodes)), "--wait", "--timeout", "40s", "--bootstrap", cluster.bootstrap],
                          capture_output=True, text=True, timeout=60, check=False)
    check(done.returncode == 0, f"{pair.topic} does not move: {done.stdout}{done.stderr}")


def main():
    rounds = Rounds("cluster_damage_pair", quick=2, full=20)
    with Racks() as cluster:
        for number, rng in rounds:
            began = time.monotonic()
            pair = Pair(cluster, f"pair-{number}")
            way = (goes_on_with_what_is_sound, is_not_opened)[number % 2]
            way(cluster, rng, pair)
            pair.read()
            same_everywhere(cluster, pair.topic, 0, max(pair.acked) + 1)
            print(f"round {number}: {way.__name__}: {pair.damaged}, {time.monotonic() - began:.2f} s", flush=True)
        for node in cluster.nodes.values():
            node.end(signal.SIGTERM)
            verify(node)
    rounds.done("what was damaged was refused, and mended once there was another copy")


if __name__ == "__main__":
    main()
