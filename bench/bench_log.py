#!/usr/bin/env python3
"""Produce throughput of Pyralog beside Apache Kafka."""

import sys

import harness
import loads
from harness import brokers, field, middle, ratios, spread
from loads import java_performance, librdkafka, native

GOAL, CPU_GOAL, MEMORY_GOAL, START_GOAL = 2, 1 / 3, 1 / 8, 1 / 10
STOCK_GOAL, MOCK_GOAL = 1, 0.95


class Log(harness.Area):
    __doc__ = __doc__
    name = "log"
    title = "The log: produce"

    def __init__(self, arguments):
        super().__init__(arguments)
        self.rows, self.figures = [], []

    def run(self):
        if self.wanted("start"):
            self.starts()
        with loads.Started(loads.both_brokers(self)) as found:
            self.memory("resident when idle after the start", found, "VmRSS")
            self.loads(found)
            self.memory("peak resident memory over all loads", found, "VmHWM", MEMORY_GOAL)

    def loads(self, found):
        cap, seconds = 1_500_000_000, self.scaled(2, 0.3)
        for title, load, floor, cpu in (
                ("prebuilt batches, 100 B", native(100, 65_536, seconds, max_bytes=cap), GOAL,
                 CPU_GOAL),
                ("prebuilt batches, 1 KiB", native(1024, 65_536, seconds, max_bytes=cap), GOAL,
                 CPU_GOAL),
                ("prebuilt batches, 100 B, acks=1",
                 native(100, 65_536, seconds, max_bytes=cap, acks=1), None, None),
                ("ProducerPerformance, 100 B",
                 java_performance(100, self.scaled(600_000, 20_000)), STOCK_GOAL, None),
                ("ProducerPerformance, 1 KiB",
                 java_performance(1024, self.scaled(200_000, 10_000)), STOCK_GOAL, None),
                ("librdkafka, 100 B", librdkafka(100, self.scaled(4_000_000, 100_000)), STOCK_GOAL,
                 None),
                ("librdkafka, 1 KiB", librdkafka(1024, self.scaled(1_000_000, 50_000)), STOCK_GOAL,
                 None)):
            self.row(title, found, load, floor, cpu)
        self.mock(found[0], 100, self.scaled(4_000_000, 100_000))
        self.mock(found[0], 1024, self.scaled(1_000_000, 50_000))

    def row(self, title, found, load, floor, cpu):
        results = self.turns(title, {broker.name: (lambda b=broker: loads.on_fresh_topic(b, load))
                                     for broker in found})
        if results is not None:
            self.rows.append(loads.compared(title, "os", results, "kafka", floor, cpu))
            print(" | ".join(self.rows[-1]), flush=True)

    def figure(self, what, ours, peer, ratio="–", goal="–"):
        self.figures.append([what, ours, peer, ratio, goal])
        print(" | ".join(self.figures[-1]), flush=True)

    def starts(self):
        """From exec to ready on a fresh directory, turn by turn."""
        def once(make):
            with make() as broker:
                return {"ms": 1000 * broker.start_seconds}

        sides = {"pyralog": lambda: once(lambda: brokers.Pyralog(self.binary))}
        if brokers.Kafka.available():
            sides["kafka"] = lambda: once(lambda: brokers.Kafka(heap="1g"))
        results = self.turns("start", sides)
        ours, what = field(results["pyralog"], "ms"), "start to ready, fresh directory"
        if "kafka" not in results:
            self.figure(what, f"{spread(ours, 0)} ms", "skipped")
            return
        found = ratios(results["pyralog"], results["kafka"], "ms")
        self.figure(what, f"{spread(ours, 0)} ms", f"{spread(field(results['kafka'], 'ms'), 0)} ms",
                    spread(found, 3), harness.at_most(START_GOAL, found))

    def memory(self, what, found, kind, ceiling=None):
        sizes = [broker.memory_kib(kind) / harness.KIB for broker in found]
        if len(sizes) == 1:
            self.figure(what, f"{sizes[0]:.0f} MiB", "skipped")
            return
        ratio = sizes[0] / sizes[1]
        self.figure(what, *(f"{size:,.0f} MiB" for size in sizes), f"{ratio:.3f}",
                    harness.at_most(ceiling, [ratio]) if ceiling else "–")

    def mock(self, pyralog, size, records):
        """librdkafka on Pyralog beside librdkafka on its own mock, turn by turn."""
        load = librdkafka(size, records)

        def alone():
            harness.settle_memory()
            return load(None, "mock", 1) | {"cpu_per_gb": 0}  # it is in the client's

        title = (f"librdkafka, {size} B: rate beside its own mock broker, in the client's "
                 "process, which keeps nothing")
        results = self.turns(title, {"pyralog": lambda: loads.on_fresh_topic(pyralog, load),
                                     "mock": alone})
        if results is None:
            return
        found = ratios(results["pyralog"], results["mock"], "records_per_s")
        self.figure(title, *(f"{middle(field(side, 'records_per_s')) / 1000:,.0f} k rec/s"
                             for side in results.values()), spread(found),
                    harness.at_least(MOCK_GOAL, found, "×"))
        # What the difference is made of: with as many cores busy, rates go as CPU times do.
        for side in results.values():
            for turn in side:
                gigabytes = turn["total_bytes"] / harness.GB
                turn["client_per_gb"] = turn["client_cpu_s"] / gigabytes
                turn["both_per_gb"] = turn["client_per_gb"] + turn["cpu_per_gb"]
                turn["cores"] = turn["both_per_gb"] * gigabytes / turn["seconds"]
        self.figure(f"in these turns, {size} B: CPU time of client + broker",
                    *(f"{middle(field(side, 'client_per_gb')):.2f} + "
                      f"{middle(field(side, 'cpu_per_gb')):.2f} s/GB" for side in results.values()),
                    spread(ratios(results["pyralog"], results["mock"], "both_per_gb")))
        self.figure(f"in these turns, {size} B: cores that both keep busy",
                    *(f"{middle(field(side, 'cores')):.2f}" for side in results.values()),
                    spread(ratios(results["pyralog"], results["mock"], "cores")))

    def head(self):
        return [
            f"Peers: {harness.kafka_version()}, Debian's librdkafka",
            loads.DURABILITY_TEXT,
            harness.SETTLED,
            "Load: prebuilt batches of 64 KiB from one pinned thread, 4 connections with 8 "
            "requests in flight; stock clients with their defaults",
            f"{self.pairs} pairs, turn by turn; ratios are the median [min–max] of the pairs, "
            "Pyralog ÷ peer; broker CPU in seconds per GB of batches (stock clients: of values)",
            "The mock broker neither checks nor writes what it gets, and its work counts as the "
            "client's: what Pyralog spends per GB to receive, check and write comes on top of the "
            "client's time, and both share the machine's cores",
        ]

    def body(self):
        return [*harness.table(loads.HEAD, self.rows), "",
                *harness.table(("what", "Pyralog", "peer", "ratio", "goal"), self.figures)]


if __name__ == "__main__":
    sys.exit(harness.main(Log))
