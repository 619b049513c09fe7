#!/usr/bin/env python3
"""Three nodes on one machine beside three of Apache Kafka: replicated produce, loss of a leader, a
thousand partitions, a group of a hundred."""

import itertools
import os
import sys
import time

import clusters
import harness
import loads
import members
import takeover
from clusters import KafkaCluster, PyralogCluster
from harness import at_most, brokers, field, middle, options, spread

GOAL, CPU_GOAL = 2, 1 / 2
KILL_GOAL, PAUSE_GOAL, MANY_GOAL, REBALANCE_GOAL = 1.0, 2.5, 3.0, 3.0
MEMORY_GOAL, IDLE_GOAL = 300, 0.01
LED = 3  # partitions of the topic whose leaders are lost: each node leads some
MANY, GROUP = 1000, 100
PATIENCE = 90
LOSSES = {"kill −9": ("kill", KILL_GOAL), "SIGSTOP": ("pause", PAUSE_GOAL)}  # how, and the goal
KAFKA, TUNED = "kafka", "kafka tuned"


class ClusterArea(harness.Area):
    __doc__ = __doc__
    name = "cluster"
    title = "Three nodes"

    def __init__(self, arguments):
        super().__init__(arguments)
        self.shards = arguments.shards
        self.kills = 5 if self.quick else arguments.kills
        self.kafka_kills = 1 if self.quick else arguments.kafka_kills
        self.stock = takeover.confluent_kafka is not None
        self.loads, self.losses, self.figures = [], [], []

    @staticmethod
    def more_options(parser):
        parser.add_argument("--kills", type=int, default=50, help="of nodes of Pyralog")
        parser.add_argument("--kafka-kills", type=int, default=10, help="of nodes of each Kafka")
        parser.add_argument("--shards", type=int, default=1, help="of each node of Pyralog")

    def run(self):
        if self.wanted("prebuilt batches"):
            self.produce()
        if any(map(self.wanted, LOSSES)):
            self.lose()
        if self.wanted("partitions") or self.wanted("group"):
            self.many()

    def makers(self, *names, heap="1g"):
        """{name: how to make such a cluster}, of those that are here."""
        made = {"pyralog": lambda: PyralogCluster(self.binary, self.shards),
                KAFKA: lambda: KafkaCluster(heap=heap),
                TUNED: lambda: KafkaCluster(clusters.KAFKA_TUNED, heap)}
        if not brokers.Kafka.available():
            self.note("Apache Kafka: skipped, not in .deps/kafka (bench/setup.sh kafka)")
            names = ["pyralog"]
        return {name: made[name] for name in names}

    # --- replicated produce

    def produce(self):
        try:
            harness.tool("produce_bench")
        except harness.Skipped as reason:
            self.note(f"prebuilt batches: skipped, {reason}")
            return
        with clusters.Started(self.makers("pyralog", KAFKA)) as found:
            sizes = ((100, "prebuilt batches, 100 B"), (1024, "prebuilt batches, 1 KiB"))
            for cluster in found.values():
                self.warm(cluster)
            for size, title in sizes:
                results = self.turns(title, {
                    name: (lambda c=cluster, s=size: self.produce_once(c, s, self.scaled(3, 0.5)))
                    for name, cluster in found.items()})
                if results is not None:
                    self.loads.append(loads.compared(title, "os", results, KAFKA, GOAL, CPU_GOAL))
                    print(" | ".join(self.loads[-1]), flush=True)
            for name, cluster in found.items():
                self.note(f"{name}: peak resident memory of the largest node over these loads: "
                          f"{cluster.memory_mib('VmHWM'):,.0f} MiB")

    def warm(self, cluster):
        """A virtual machine that compiles what it runs is slow for its first seconds."""
        for _ in range(self.scaled(5 if cluster.name == KAFKA else 1, 1)):
            self.produce_once(cluster, 100, self.scaled(4, 0.5))

    def produce_once(self, cluster, record_bytes, seconds):
        """A topic of its own with a partition led by each node. Writes at most 3 × 0.8 GB."""
        topic = loads.fresh_name()
        clusters.create_topic(cluster, topic, clusters.NODES, loads.DURABILITY["os"][cluster.name])
        leaders = clusters.await_in_sync(cluster, topic, clusters.NODES)
        clusters.await_writable(cluster, topic, leaders)
        harness.settle_memory(self.scaled(2_500_000_000, 100_000_000))
        result = loads.with_cpu(cluster, lambda: harness.run_json([
            harness.tool("produce_bench"), *options(
                bootstrap=",".join(leaders), topic=topic, partitions=clusters.NODES,
                record_bytes=record_bytes, batch_bytes=65_536, seconds=seconds, connections=6,
                max_bytes=800_000_000, cpu=os.cpu_count() - 1)]))
        clusters.delete_topic(cluster, topic)
        time.sleep(self.scaled(2, 0.2))  # Kafka removes files a second later
        return result

    # --- the loss of a leader

    def lose(self):
        """One cluster at a time, for those of Kafka keep a machine busy by being there: half of
        Pyralog's losses come before Kafka's, half after."""
        if not self.stock:
            self.note("librdkafka producer: skipped, confluent-kafka is not in .deps/py "
                      "(tests/clients/setup.sh)")
        makers = self.makers("pyralog", KAFKA, TUNED, heap="512m")
        lost = {kind: {name: [] for name in makers} for kind in LOSSES if self.wanted(kind)}
        for name in (*makers, "pyralog"):
            ours = name == "pyralog"
            counts = {"kill −9": self.kills if ours else self.kafka_kills,
                      "SIGSTOP": max(1, self.kills // 10 if ours else self.kafka_kills // 3)}
            with makers[name]() as cluster:
                clusters.create_topic(cluster, "lost", LED, loads.DURABILITY["os"][cluster.name])
                clusters.await_writable(cluster, "lost",
                                        clusters.await_in_sync(cluster, "lost", LED))
                turn = itertools.cycle(range(clusters.NODES))
                for kind, all_ in lost.items():
                    done = len(all_[name])
                    upto = counts[kind] if not ours or done else (counts[kind] + 1) // 2
                    for _ in range(done, upto):
                        all_[name].append(self.once(kind, cluster, "lost", LED, turn))
        for kind, all_ in lost.items():
            self.tell_losses(kind, all_)

    def tell_losses(self, kind, lost):
        worst = {name: [max(one["own"].values()) for one in all_] for name, all_ in lost.items()}
        self.loss(f"{kind} → its partitions take records", worst, LOSSES[kind][1])
        for led, what in ((True, "led the metadata log, too"), (False, "did not")):
            some = [max(one["own"].values()) for one in lost["pyralog"] if one["led_all"] == led]
            if some:
                self.loss(f"{kind}, the lost node {what}", {"pyralog": some})
        stock = {name: [one["stock"] for one in all_ if "stock" in one]
                 for name, all_ in lost.items()}
        if stock["pyralog"]:
            self.loss(f"{kind} → a librdkafka producer's next record is acknowledged", stock)

    def once(self, kind, cluster, topic, partitions, turn):
        """The next node of `turn` that leads something is lost, and comes back."""
        clusters.await_in_sync(cluster, topic, partitions)
        time.sleep(self.scaled(1.2, 0.2))
        led_all = cluster.controller()
        for victim in turn:
            result = takeover.lose_leader(cluster, topic, partitions, victim,
                                          getattr(cluster, LOSSES[kind][0]), PATIENCE,
                                          stock=self.stock and kind == "kill −9"
                                          and partitions == LED)
            if result:
                break
        getattr(cluster, {"kill": "revive", "pause": "resume"}[LOSSES[kind][0]])(victim)
        result["led_all"] = led_all == victim
        print(f"{cluster.name}: {kind} of node {victim + 1}{' (metadata)' * result['led_all']}: "
              f"{len(result['own'])} partitions, {max(result['own'].values()):.3f} s"
              + (f", librdkafka {result['stock']:.3f} s" if "stock" in result else ""), flush=True)
        return result

    def loss(self, what, found, goal=None):
        """One row: most and median of each, how many."""
        def figure(name):
            values = found.get(name)
            return (f"{max(values):.2f} / {middle(values):.2f} s of {len(values)}" if values
                    else "–")
        ours = max(found["pyralog"])
        self.losses.append([what, figure("pyralog"), figure(KAFKA), figure(TUNED),
                            at_most(goal, [ours], " s") if goal else "–"])
        print(" | ".join(self.losses[-1]), flush=True)

    # --- a thousand partitions

    def many(self):
        found = {}
        for name, make in self.makers("pyralog", TUNED).items():
            with make() as cluster:
                found[name] = self.many_once(cluster)

        def row(what, key, show, goal="–"):
            shown = [show(found[name][key]) if name in found and key in found[name] else "–"
                     for name in ("pyralog", TUNED)]
            self.figures.append([what, *shown, goal])
            print(" | ".join(self.figures[-1]), flush=True)

        ours = found["pyralog"]
        if "rebalance" in ours:
            row(f"a rebalance of a group of {GROUP}, all of whom join at once", "rebalance",
                lambda v: f"{spread(v)} s", at_most(REBALANCE_GOAL, [max(ours["rebalance"])], " s"))
        if "create" not in ours:
            return
        count = self.scaled(MANY, 100)
        row(f"{count:,} partitions: created, all replicas in sync", "create", lambda v: f"{v:.2f} s")
        row(f"{count:,} partitions: resident, the largest node", "resident",
            lambda v: f"{v:,.0f} MiB", at_most(MEMORY_GOAL, [ours["resident"]], " MiB"))
        row(f"{count:,} partitions: idle, cores that all three nodes keep busy", "idle",
            lambda v: f"{v:.3f}", at_most(IDLE_GOAL, [ours["idle"]]))
        row(f"{count:,} partitions: kill −9 → all that the node led take records", "kill",
            lambda v: f"{max(v):.2f} / {middle(v):.2f} s of {len(v)}",
            at_most(MANY_GOAL, [max(ours["kill"])], " s"))
        row("of these: until the first takes records", "first",
            lambda v: f"{max(v):.2f} / {middle(v):.2f} s")
        row("so many it led, at the most", "led", lambda v: f"{max(v):,}")

    def many_once(self, cluster):
        found, count = {}, self.scaled(MANY, 100)
        if self.wanted("group"):
            with members.Members(cluster, "rebalanced", self.scaled(GROUP, 20)) as group:
                found["rebalance"] = [group.rebalance() for _ in range(self.scaled(10, 3))]
        if not self.wanted("partitions"):
            return found
        found["create"] = clusters.create_topic(cluster, "many", count,
                                                loads.DURABILITY["os"][cluster.name])
        time.sleep(self.scaled(20, 2))
        found["resident"] = cluster.memory_mib()
        before, began = cluster.cpu_seconds(), time.monotonic()
        time.sleep(self.scaled(30, 2))
        found["idle"] = (cluster.cpu_seconds() - before) / (time.monotonic() - began)
        turn = itertools.cycle(range(clusters.NODES))
        kills = self.scaled(9, 1) if cluster.name == "pyralog" else self.scaled(2, 1)
        lost = [self.once("kill −9", cluster, "many", count, turn) for _ in range(kills)]
        found["kill"] = [max(one["own"].values()) for one in lost]
        found["first"] = [min(one["own"].values()) for one in lost]
        found["led"] = [len(one["own"]) for one in lost]
        return found

    # --- the page

    def head(self):
        tuned = ", ".join(f"`{name}={value}`" for name, value in clusters.KAFKA_TUNED.items())
        return [
            "Peer: " + harness.kafka_version().replace(
                "one node, 1 GiB heap", "three combined nodes, 1 GiB heap each, 512 MiB in the "
                "table of losses"),
            f"Pyralog: three `pyralog serve --shards {self.shards}`; all six and the load share the "
            "machine",
            "Durability: os = Pyralog `durability=os`, Kafka as it ships with "
            "`min.insync.replicas=2`; three replicas, acks=all",
            harness.SETTLED,
            "Load: prebuilt batches of 64 KiB from one pinned thread, a partition led by each node, "
            "6 connections with 8 requests in flight; CPU time is that of all three nodes",
            f"{self.pairs} pairs, turn by turn, after half a minute of load on Kafka that does not "
            "count; ratios are the median [min–max] of the pairs, Pyralog ÷ peer",
            "Losses: most / median; from before the signal to the first acknowledgement (acks=all) of "
            "a record sent after it, for the last of the partitions that the node led. The own client "
            "asks the nodes that are left every few milliseconds who leads, and writes there. Nodes "
            "are lost in rotation, one at a time, after all replicas are in sync again. Clusters of "
            "Kafka run alone; half of Pyralog's losses come before them, half after",
            f"kafka tuned: {tuned}",
            "A librdkafka producer with its defaults writes meanwhile; that figure has what it takes "
            "to find the new leader",
        ]

    def body(self):
        kinds = ("Pyralog", "Kafka", "Kafka tuned", "goal")
        tables = (harness.table(loads.HEAD, self.loads),
                  harness.table(("loss of a leader, most / median", *kinds), self.losses),
                  harness.table(("what", "Pyralog", "Kafka tuned", "goal"), self.figures))
        return "\n\n".join("\n".join(one) for one in tables if one).splitlines()


if __name__ == "__main__":
    sys.exit(harness.main(ClusterArea))
