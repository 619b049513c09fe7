#!/usr/bin/env python3
"""A rolling upgrade of three nodes, under the load of librdkafka's producers (acks=all, idempotent): nodes of the
previous feature level are restarted one after the other as what they are, for a while there are both. What needs the
new level is refused with the reason until all nodes have it and works from then on; a node may go back before that
and is refused afterwards. Nothing that was acknowledged is lost, and no partition pauses for longer than PAUSE."""

import json
import os
import signal
import subprocess
import time

from cluster import Cluster, until
from cluster_load import Producer, audit, await_pace, read_all
from rounds import Rounds, check

TOPIC, PARTITIONS, MOVED = "orders", 6, "moved"
OLD, NEW = 2, 3
PAUSE = float(os.environ.get("PYRALOG_UPGRADE_SECONDS", "5"))  # on a machine that is loaded by other tests


def levels(cluster, ask):
    """(the cluster's level, {node: its own}) as node `ask` says by `pyralog cluster status`."""
    node = cluster.nodes[ask]
    said = subprocess.run([node.binary, "cluster", "status", "--http", node.http, "--json"], capture_output=True,
                          text=True, timeout=20, check=True).stdout
    told = json.loads(said)
    return told["feature_level"], {each["node_id"]: each.get("feature_level") for each in told["nodes"]}


def move(cluster, ask, target):
    """Whether node `ask` took the move, and what it said."""
    node = cluster.nodes[ask]
    done = subprocess.run([node.binary, "partition", "move", MOVED, "0", "--to", target, "--wait", "--bootstrap",
                           node.kafka], capture_output=True, text=True, timeout=60)
    return done.returncode == 0, done.stdout + done.stderr


def restart(cluster, producers, number, words):
    """SIGTERM, and a start with other words; returns the longest pause of a partition that it led."""
    node = cluster.nodes[number]
    led = {p for p, leader in cluster.leaders(TOPIC).items() if leader == number}
    began = time.monotonic() - 1.0
    node.end(signal.SIGTERM)
    node.words = words
    node.spawn()
    node.await_ready()
    cluster.await_whole([TOPIC, MOVED], seconds=40)
    await_pace(producers, 60)
    longest = 0.0
    for producer in producers:
        with producer.lock:
            acks = sorted((p, acked) for p, _, acked in producer.acks if p in led and acked >= began)
        for (p, one), (q, other) in zip(acks, acks[1:]):
            longest = max(longest, other - one if p == q else 0.0)
    check(longest <= PAUSE, f"a partition of node {number} took nothing for {longest:.2f} s, longer than {PAUSE} s")
    return longest


def refused_while_mixed(cluster, ask, why):
    taken, said = move(cluster, ask, "3,1")
    check(not taken, f"node {ask} let a partition be moved while {why}: {said}")
    check("feature level 3" in said and "does not understand" in said, f"the refusal does not say why: {said}")
    check(levels(cluster, ask)[0] == OLD, f"the level has risen while {why}")


def refused_afterwards(cluster, number, old, new):
    """A node of the old level does not come back; as what it is it does."""
    node = cluster.nodes[number]
    node.end(signal.SIGTERM)
    node.words = old
    node.spawn()
    until(lambda: not node.runs(), f"node {number} of the old level is refused", 20)
    check(node.process.returncode != 0, f"node {number} ended as if all were well")
    check("feature level 3" in node.tail() and "--feature-level" in node.tail(),
          f"it does not say why it is refused:\n{node.tail()}")
    check(set(levels(cluster, number % 3 + 1)[1].values()) == {NEW}, "who was refused has changed the levels")
    node.words = new
    node.spawn()
    node.await_ready()
    cluster.await_whole([TOPIC, MOVED], seconds=40)


def one_upgrade(rng):
    """(records acknowledged, the longest pause)"""
    cluster = Cluster()
    new = {n: list(node.words) for n, node in cluster.nodes.items()}
    old = {n: [*words, "--feature-level", str(OLD)] for n, words in new.items()}
    for number, node in cluster.nodes.items():
        node.words = old[number]
    with cluster:
        cluster.create(TOPIC, PARTITIONS)
        cluster.create(MOVED, 1, replicas=2)
        producers = [Producer(f"p{n}", cluster.bootstrap, TOPIC, PARTITIONS).start() for n in range(2)]
        await_pace(producers, 200)
        check(levels(cluster, 1) == (OLD, {1: OLD, 2: OLD, 3: OLD}), f"levels at the start: {levels(cluster, 1)}")
        order = rng.sample(sorted(cluster.nodes), 3)
        refused_while_mixed(cluster, order[0], "all nodes are old")
        pauses = [restart(cluster, producers, order[0], new[order[0]])]
        for ask in order:
            refused_while_mixed(cluster, ask, "one node is new")
        pauses.append(restart(cluster, producers, order[1], new[order[1]]))
        check(sorted(levels(cluster, 3)[1].values()) == [OLD, NEW, NEW], f"while mixed: {levels(cluster, 3)}")
        refused_while_mixed(cluster, order[1], "one node is old")
        # There and back again, as long as not all are new.
        pauses.append(restart(cluster, producers, order[0], old[order[0]]))
        check(sorted(levels(cluster, 3)[1].values()) == [OLD, OLD, NEW], f"after going back: {levels(cluster, 3)}")
        pauses.append(restart(cluster, producers, order[0], new[order[0]]))
        pauses.append(restart(cluster, producers, order[2], new[order[2]]))
        for ask in order:
            until(lambda ask=ask: levels(cluster, ask) == (NEW, {1: NEW, 2: NEW, 3: NEW}), "the level rises", 10)
        holders = {n for _, _, _, replicas, _ in cluster.partitions(MOVED).values() for n in replicas}
        newcomer = next(n for n in order if n not in holders)
        taken, said = move(cluster, order[2], f"{newcomer},{min(holders)}")
        check(taken, f"a move is refused though all nodes are new: {said}")
        refused_afterwards(cluster, order[1], old[order[1]], new[order[1]])
        await_pace(producers, 100)
        for producer in producers:
            producer.stop()
        return audit(read_all(cluster, TOPIC), producers), max(pauses)


def main():
    rounds = Rounds("cluster_upgrade", quick=1, full=20)
    count, pauses = 0, []
    for number, rng in rounds:
        acknowledged, longest = one_upgrade(rng)
        count += acknowledged
        pauses.append(longest)
        print(f"round {number}: {acknowledged} records, longest pause {longest:.2f} s", flush=True)
    rounds.done(f"{count} records acknowledged through rolling upgrades, all there, each once and in order; "
                f"longest pause {max(pauses):.2f} s")


if __name__ == "__main__":
    main()
