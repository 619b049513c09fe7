#!/usr/bin/env python3
"""Catch-up reads: Pyralog beside Apache Kafka, by a reader of our own and by Kafka's
ConsumerPerformance."""

import os
import sys

import harness
import loads
from harness import field, middle, options, ratios, run_json, spread, tool

PARTITIONS = 4
BATCH = 65_536
OWN_GOAL, CPU_GOAL, STOCK_GOAL = 2, 1 / 3, 1


class Fetch(harness.Area):
    __doc__ = __doc__
    name = "fetch"
    title = "The log: catch-up reads"

    def __init__(self, arguments):
        super().__init__(arguments)
        self.rows, self.floors = [], []
        self.bytes = self.scaled(1_000_000_000, 50_000_000)

    def run(self):
        # Kafka is set up the same way: who joins a group waits for nobody else.
        started = loads.both_brokers(self, ["--group-initial-rebalance-delay-ms", "0"])
        with loads.Started(started) as found:
            for record, shown in ((100, "100 B"), (1024, "1 KiB")):
                self.reads(found, record, shown)
            for broker in found:
                self.note(f"{broker.name}: peak resident memory over all loads: "
                          f"{broker.memory_kib() / 1024:.0f} MiB")

    def reads(self, found, record, shown):
        """Every reader on one topic that is written before; the page cache holds it."""
        titles = (f"own reader, {shown}", f"ConsumerPerformance, {shown}",
                  f"own reader, {shown}, 64 KiB of each partition")
        if not any(map(self.wanted, titles)):
            return
        topic = loads.fresh_name()
        fill = loads.native(record, BATCH, 60, warmup=0, max_bytes=self.bytes)
        records = {}
        for broker in found:
            loads.create_topic(broker, topic, PARTITIONS, "os")
            harness.settle_memory()
            fill(broker, topic, PARTITIONS)
            records[broker.name] = sum(loads.end_offsets(broker, topic, PARTITIONS).values())
        results = self.row(titles[0], found, lambda b: self.own(b, topic), OWN_GOAL, CPU_GOAL,
                           {"bare": lambda: self.bare(found[0].folder)})
        self.floor(titles[0], results)
        self.row(titles[1], found, lambda b: self.stock(b, topic, records[b.name], record),
                 STOCK_GOAL)
        self.row(titles[2], found, lambda b: self.own(b, topic, sessions=PARTITIONS,
                                                      fetch_bytes=BATCH))
        for broker in found:
            loads.delete_topic(broker, topic)

    def row(self, title, found, measure, floor=None, cpu=None, more=None):
        sides = {b.name: (lambda b=b: loads.with_cpu(b, lambda: measure(b))) for b in found}
        results = self.turns(title, {**sides, **(more or {})})
        if results is not None:
            self.rows.append(loads.compared(title, "os", results, "kafka", floor, cpu))
            print(" | ".join(self.rows[-1]), flush=True)
        return results

    def bare(self, folder):
        return run_json([tool("sendfile_probe"), *options(
            folder=folder, connections=PARTITIONS, file_bytes=int(self.bytes), seconds=self.scaled(2, 0.5),
            cpu=os.cpu_count() - 1)])

    def floor(self, title, results):
        """Pyralog beside a process that does nothing but send a file."""
        if results is None:
            return
        sides = results["pyralog"], results["bare"]
        row = [title]
        for name, scale in (("mb_per_s", 1000), ("cpu_per_gb", 1)):
            row += [f"{middle(field(side, name)) / scale:.2f}" for side in sides]
            row.append(spread(ratios(*sides, name)))
        row.append(spread(ratios(results["bare"], results["kafka"], "cpu_per_gb")))
        self.floors.append(row)
        print(" | ".join(row), flush=True)

    def own(self, broker, topic, **more):
        return run_json([tool("fetch_bench"), *options(
            bootstrap=broker.bootstrap, topic=topic, partitions=PARTITIONS,
            seconds=self.scaled(3, 0.5), cpu=os.cpu_count() - 1, **more)])

    @staticmethod
    def stock(broker, topic, records, record):
        out = harness.kafka_tool("ConsumerPerformance", "--bootstrap-server", broker.bootstrap,
                                 "--topic", topic, "--num-records", records, "--group",
                                 loads.fresh_name(), "--timeout", 30_000)
        lines = [line.split(",") for line in out.splitlines() if line.count(",") >= 9]
        found = dict(zip((word.strip() for word in lines[0]), lines[-1]))
        if float(found["data.consumed.in.nMsg"]) < records:
            raise RuntimeError(f"ConsumerPerformance read too little: {out[-400:]}")
        return {"records_per_s": float(found["fetch.nMsg.sec"]), "total_bytes": records * record}

    def head(self):
        return [
            f"Peer: {harness.kafka_version()}",
            loads.DURABILITY_TEXT,
            f"Load: a topic of {PARTITIONS} partitions with {self.bytes / harness.GB:g} GB of "
            "batches of 64 KiB, which the page cache holds, is read from its beginning",
            "Own reader: one pinned thread, a connection for each partition with one Fetch of "
            "1 MiB in flight; of each answer it reads the first batch's header and has the kernel drop "
            "the rest (it used to read every batch's, and bounded what it could show of a broker); "
            "at the end it begins anew. The brokers' threads run where they like; one of Pyralog's "
            "two moves to the reader's processor",
            f"64 KiB of each partition: {PARTITIONS} connections, each reads all partitions in a "
            "Fetch session and has one request in flight",
            "ConsumerPerformance: Kafka's own tool with its defaults, once over the topic, a fresh "
            "group each time; its rate without the time of joining",
            f"{self.pairs} pairs, turn by turn; ratios are the median [min–max] of the pairs, "
            "Pyralog ÷ Kafka; broker CPU in seconds per GB of batches (ConsumerPerformance: of "
            "values)",
        ]

    def body(self):
        lines = harness.table(loads.HEAD, self.rows)
        if self.floors:
            lines += ["", "What the machine allows, measured in the same turns: a process that "
                      "does nothing but send a file of the page cache, as large as the topic and written in "
                      "pieces of as many bytes, over as many connections to a pinned thread that drops "
                      "it, by a pipe of 512 KiB and on that thread's processor; it answers no requests.", ""]
            lines += harness.table(
                ("load", "Pyralog GB/s", "bare sender GB/s", "ratio", "Pyralog CPU s/GB",
                 "bare sender CPU s/GB", "ratio", "bare sender CPU ÷ Kafka's"), self.floors)
        return lines


if __name__ == "__main__":
    sys.exit(harness.main(Fetch))
