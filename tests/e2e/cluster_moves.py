#!/usr/bin/env python3
"""Replicas are moved to random nodes and nodes are drained, by the command line and by Kafka's own tool, while
librdkafka's producers (acks=all, idempotent) and a consumer group are at work, and now and then a node that takes
part is killed (-9): each move ends where it was to end, a drained node holds nothing, and what was acknowledged is
there, once and in order, seen by the group."""

import json
import os
import shutil
import subprocess

import brokers
from cluster import Cluster, until
from cluster_load import Member, Producer, all_seen, audit, await_pace, read_all
from rounds import Rounds, check

TOPIC, PARTITIONS, SECONDS = "orders", 6, 120
OPTIONS = ("--shards", "1", "--offsets-topic-replication-factor", "2", "--offsets-topic-num-partitions", "6")
TOOL = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"


def pyralog(cluster, *words, code=0):
    """What the command line says; its servers are those that run."""
    bootstrap = ",".join(cluster.nodes[n].kafka for n in cluster.alive())
    done = subprocess.run([cluster.nodes[1].binary, *map(str, words), "--bootstrap", bootstrap], timeout=SECONDS + 30,
                          capture_output=True, text=True, check=False)
    check(done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def begin(cluster, *words):
    bootstrap = ",".join(node.kafka for node in cluster.nodes.values())
    return subprocess.Popen([cluster.nodes[1].binary, *map(str, words), "--bootstrap", bootstrap],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process, what):
    said, _ = process.communicate(timeout=SECONDS + 30)
    check(process.returncode == 0, f"{what} ended with {process.returncode}: {said}")
    return said


def replicas(cluster):
    return {p: held for p, (_, _, _, held, _) in cluster.partitions(TOPIC).items()}


def names(nodes):
    return ",".join(map(str, nodes))


def move_some(cluster, rng, most, victim=None):
    """Moves half of the partitions at once; with a victim, that one is killed and started again meanwhile."""
    wanted = {p: rng.sample(sorted(cluster.nodes), rng.randint(1, most))
              for p in rng.sample(range(PARTITIONS), PARTITIONS // 2)}
    moves = {p: begin(cluster, "partition", "move", TOPIC, p, "--to", names(to), "--wait", "--timeout", f"{SECONDS}s")
             for p, to in wanted.items()}
    if victim is not None:
        cluster.kill(victim)
        cluster.restart(victim)
    for partition, move in moves.items():
        finish(move, f"the move of partition {partition} to {wanted[partition]}")
    until(lambda: wanted.items() <= replicas(cluster).items(), f"partitions are at {wanted}", 10)


def shrink(cluster):
    """No partition has more replicas than two nodes can hold."""
    for partition, held in replicas(cluster).items():
        if len(held) > 2:
            pyralog(cluster, "partition", "move", TOPIC, partition, "--to", names(held[:2]), "--wait", "--timeout",
                    f"{SECONDS}s")


def drain(cluster, node, kill):
    draining = begin(cluster, "cluster", "drain", node, "--wait", "--timeout", f"{SECONDS}s")
    if kill:
        cluster.kill(node)
        cluster.restart(node)
    finish(draining, f"the drain of node {node}")
    check(not any(node in held for held in replicas(cluster).values()), f"node {node} is assigned partitions yet")
    until(lambda: not cluster.nodes[node].status()["partitions"], f"node {node} holds nothing", 20)
    told = json.loads(pyralog(cluster, "cluster", "drain", node, "--status", "--json"))
    check(told["draining"] and told["done"], f"node {node} says {told}")
    pyralog(cluster, "cluster", "drain", node, "--cancel")


def by_kafkas_tool(cluster, rng):
    """kafka-reassign-partitions: --execute, --list, --verify, and --cancel of what cannot end."""
    path = brokers.DEPS / "kafka"
    if not (shutil.which("java") and list(path.glob("kafka-tools-*.jar"))):
        # They come with the broker that benchmarks run beside ours, not with the clients of the tests.
        said = "Kafka's own tool is not here; `scripts/setup.sh bench` brings it"
        check("PYRALOG_SOAK" not in os.environ, said)
        print(f"without the part of it: {said}", flush=True)
        return

    def tool(wanted, *words):
        plan = cluster.folder / "plan.json"
        plan.write_text(json.dumps({"version": 1, "partitions": [
            {"topic": TOPIC, "partition": p, "replicas": to} for p, to in wanted.items()]}))
        named = () if "--list" in words else ("--reassignment-json-file", plan)
        done = subprocess.run(["java", "-Xmx256m", "-cp", f"{path}/*:{path.parent / 'java'}/*", TOOL,
                               "--bootstrap-server", ",".join(cluster.nodes[n].kafka for n in cluster.alive()),
                               *named, *words], capture_output=True, text=True, timeout=120, check=False)
        check(done.returncode == 0, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    wanted = {p: rng.sample(sorted(cluster.nodes), 2) for p in range(PARTITIONS)}
    said = tool(wanted, "--execute")
    check("Successfully started" in said, said)

    def verified():
        said = tool(wanted, "--verify")
        return all(f"Reassignment of partition {TOPIC}-{p} is completed." in said for p in wanted)
    until(verified, "the tool says that all moves are completed", SECONDS)
    check(replicas(cluster) == wanted, f"{replicas(cluster)} is not {wanted}")
    check("No partition reassignments found." in tool(wanted, "--list"), "a move is under way")
    # To a node that is down: that cannot end.
    down = 3
    moved = {p: [held[0], down] for p, held in wanted.items() if down not in held}
    cluster.kill(down)
    for partition, to in moved.items():
        pyralog(cluster, "partition", "move", TOPIC, partition, "--to", names(to))
    if moved:
        said = tool(moved, "--list")
        check(all(f"{TOPIC}-{p}: replicas:" in said and f"adding: {down}" in said for p in moved), said)
        said = tool(moved, "--verify")
        check(f"Reassignment of partition {TOPIC}-{min(moved)} is still in progress." in said, said)
        # It would have Kafka's settings of throttles removed, also from the node that is down.
        said = tool(moved, "--cancel", "--preserve-throttles")
        check("Successfully cancelled" in said, said)
    cluster.restart(down)
    until(lambda: not json.loads(pyralog(cluster, "partition", "list", "--moving", "--json")), "all are back", 30)
    check(replicas(cluster) == wanted, f"after the cancel {replicas(cluster)} is not {wanted}")


def main():
    rounds = Rounds("cluster_moves", quick=3, full=60)
    with Cluster(options=OPTIONS) as cluster:
        cluster.create(TOPIC, PARTITIONS, replicas=2)
        producers = [Producer(f"p{n}", cluster.bootstrap, TOPIC, PARTITIONS).start() for n in range(2)]
        members = [Member("readers", cluster.bootstrap, TOPIC).start() for _ in range(2)]
        await_pace(producers, 200)
        until(lambda: all_seen(members), "the group's first records", 20)
        for number, rng in rounds:
            move_some(cluster, rng, 3, victim=rng.choice((1, 2, 3)) if number % 3 == 1 else None)
            await_pace(producers, 50)
            shrink(cluster)
            node = rng.choice((1, 2, 3))
            drain(cluster, node, kill=number % 3 == 2)
            await_pace(producers, 50)
            if number == 0:
                by_kafkas_tool(cluster, rng)
            print(f"round {number}: node {node} drained", flush=True)
        for producer in producers:
            producer.stop()
        there = read_all(cluster, TOPIC)
        count = audit(there, producers)
        wanted = {(p, o): v for p, held in there.items() for o, v in held.items()}
        until(lambda: len(all_seen(members)) >= len(wanted), "the group sees every record", 20)
        check(all_seen(members) == wanted, "the group saw other records than there are")
        for member in members:
            member.stop()
    rounds.done(f"{count} records acknowledged, all there, each once and in order, seen by the group")


if __name__ == "__main__":
    main()
