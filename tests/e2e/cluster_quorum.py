#!/usr/bin/env python3
"""What an acknowledgement takes: acks 0, 1 and all on topics of one, two and three replicas, with all nodes,
with one down and with two down. Fewer replicas than W: refused, never acknowledged, and what was refused is
not there when the others are back; topics that need fewer go on."""

import sys
import time

from appenders import NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT, produce
from cluster import Cluster, until, wire_client
from cluster_load import read_all
from rounds import Rounds, check
from wire import batch

# {topic: (replicas, min.insync.replicas, W)}
TOPICS = {"one": (1, 1, 1), "two": (2, 1, 2), "three": (3, 1, 2), "three-two": (3, 2, 2), "three-all": (3, 3, 3)}
PARTITIONS = 3  # each node leads one of them, or more
INVALID_CONFIG, NO_LEADER = 40, (5, 6)


class Account:
    """What was sent, by what became of it."""

    def __init__(self, cluster):
        self.cluster, self.count = cluster, 0
        self.acked, self.refused, self.open = {}, set(), set()

    def try_append(self, topic, partition, leader, acks=-1, timeout_ms=1_500):
        """The error; "no answer" if there is none."""
        self.count += 1
        value = f"{topic}.{self.count}"
        try:
            with self.cluster.door(leader, timeout_ms / 1000 + 5) as door:
                code, offset = produce(door, topic, partition, value, acks, timeout_ms)
        except OSError:
            code = "no answer"
        if code == 0 and acks == -1:
            self.acked[topic, partition, offset] = value
        elif code == NOT_ENOUGH_REPLICAS:
            self.refused.add(value)
        else:
            self.open.add(value)
        return code

    def led(self, topic):
        """{partition: leader} of partitions whose leader runs, as nodes that run say."""
        alive = self.cluster.alive()
        return {p: leader for p, (error, leader, *_) in self.cluster.partitions(topic, alive[0]).items()
                if error == 0 and leader in alive}

    def takes(self, topic, partitions=PARTITIONS, seconds=10):
        """Every partition takes records with acks=all, in time."""
        def all_take():
            led = self.led(topic)
            return len(led) >= partitions and all(self.try_append(topic, p, node) == 0 for p, node in led.items())
        until(all_take, f"{topic} takes records on {partitions} partitions", seconds)

    def refuses(self, topic, led, seconds=10):
        """No partition acknowledges anything, and those of `led`, which keep their leader, say why. Another
        leader would need W replicas to begin with, so the rest have none."""
        def all_say_why():
            now = self.led(topic)
            answers = {p: self.try_append(topic, p, node) for p, node in now.items()}
            check(0 not in answers.values(), f"{topic} acknowledges with {len(self.cluster.alive())} nodes")
            return now and now.items() <= led.items() and set(answers.values()) == {NOT_ENOUGH_REPLICAS}
        until(all_say_why, f"{topic} says NOT_ENOUGH_REPLICAS on {sorted(led)}", seconds)

    def audit(self):
        for topic in TOPICS:
            there = read_all(self.cluster, topic)
            for (named, partition, offset), value in self.acked.items():
                if named == topic:
                    check(there[partition].get(offset) == value,
                          f"{topic}-{partition}: {value} was acknowledged at {offset}, there is "
                          f"{there[partition].get(offset)}")
            found = [value for held in there.values() for value in held.values()]
            check(len(set(found)) == len(found), f"{topic} has a record twice")
            check(not self.refused & set(found), f"{topic}: refused, and there: {self.refused & set(found)}")


def all_acks(cluster, account):
    """With all nodes: each kind of acknowledgement on each topic; acks=0 gets no answer, and arrives."""
    for topic in TOPICS:
        account.takes(topic)
        for partition, leader in cluster.leaders(topic).items():
            check(account.try_append(topic, partition, leader, acks=1) == 0, f"{topic}: acks=1 is refused")
            with cluster.door(leader) as door:
                end = door.offset(topic, partition)
                body = wire_client.produce_body(topic, partition, batch([f"{topic}.{partition}.silent".encode()]), 0)
                door.wire.send(wire_client.PRODUCE, 7, body)
                # The next answer on this connection is of the next request.
                until(lambda: door.offset(topic, partition) == end + 1, f"{topic}: acks=0 arrives", 5)


def one_down(cluster, account, rng):
    down = rng.choice(list(cluster.nodes))
    left = {p: node for p, node in cluster.leaders("three-all").items() if node != down}
    cluster.kill(down)
    for topic in ("three", "three-two"):
        account.takes(topic)
    account.refuses("three-all", left)
    # Of two replicas, both are needed: a partition that has none on the dead node goes on.
    replicas = {p: entry[3] for p, entry in cluster.partitions("two").items()}
    whole = sum(down not in held for held in replicas.values())
    for partition, leader in account.led("two").items():
        code = account.try_append("two", partition, leader)
        check((code == 0) == (down not in replicas[partition]), f"two-{partition} on {replicas[partition]} without "
                                                                f"node {down} answers {code}")
    led = account.led("one")
    check(len(led) == PARTITIONS - sum(down in entry[3] for entry in cluster.partitions("one").values()),
          f"of the topic without replicas, {sorted(led)} are led")
    for partition, leader in led.items():
        check(account.try_append("one", partition, leader) == 0, f"one-{partition} does not go on")
    print(f"node {down} down: W of 2 goes on, W of 3 refuses; of two replicas {whole} of {PARTITIONS} partitions go "
          f"on, {len(led)} of {PARTITIONS} without replicas", flush=True)
    # A leader's own write is all that acks=1 waits for, but a leader that cannot commit takes nothing.
    answers = {account.try_append("three-all", p, n, acks=1) for p, n in account.led("three-all").items()}
    check(answers <= {0, NOT_ENOUGH_REPLICAS}, f"acks=1 without W replicas answers {answers}")
    cluster.restart(down)
    cluster.await_whole(TOPICS)
    for topic in TOPICS:
        account.takes(topic)


def two_down(cluster, account, rng):
    last = rng.choice(list(cluster.nodes))
    leaders = cluster.leaders("three")
    cluster.kill(*[n for n in cluster.nodes if n != last])
    killed, answers = time.monotonic(), {}
    while time.monotonic() < killed + 3.0:
        for topic in ("three", "three-two", "three-all", "two"):
            for partition in range(PARTITIONS):
                code = account.try_append(topic, partition, last, timeout_ms=500)
                answers[code] = answers.get(code, 0) + 1
                check(code != 0, f"node {last} alone acknowledges {topic}-{partition}")
        time.sleep(0.02)
    allowed = {NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT, "no answer", *NO_LEADER}
    check(set(answers) <= allowed, f"a lone node answers {answers}")
    led = [p for p, node in leaders.items() if node == last]
    for partition in led:
        code = account.try_append("three", partition, last)
        check(code == NOT_ENOUGH_REPLICAS, f"three-{partition}, which node {last} led, answers {code}")
    back = rng.choice([n for n in cluster.nodes if n != last])
    began = time.monotonic()
    cluster.restart(back)
    for topic in ("three", "three-two"):
        account.takes(topic)
    print(f"node {last} alone: {answers}; with node {back}, records again after {time.monotonic() - began:.2f} s",
          flush=True)
    cluster.start()
    cluster.await_whole(TOPICS)
    for topic in TOPICS:
        account.takes(topic)


def main():
    rounds = Rounds("cluster_quorum", quick=1, full=40)
    with Cluster() as cluster:
        for topic, (replicas, least, _) in TOPICS.items():
            cluster.create(topic, PARTITIONS, replicas, min_insync_replicas=least)
        try:
            cluster.create("impossible", 1, 3, min_insync_replicas=4)
            sys.exit("FAILED: min.insync.replicas above the replicas was accepted")
        except wire_client.Refused as refused:
            check(refused.code == INVALID_CONFIG, f"min.insync.replicas above the replicas: {refused}")
        account = Account(cluster)
        all_acks(cluster, account)
        for _, rng in rounds:
            one_down(cluster, account, rng)
            two_down(cluster, account, rng)
        account.audit()
    rounds.done(f"{len(account.acked)} acknowledged and there, {len(account.refused)} refused and not there, "
                f"{len(account.open)} open")


if __name__ == "__main__":
    main()
