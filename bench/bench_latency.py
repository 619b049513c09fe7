#!/usr/bin/env python3
"""Latency at half load: Pyralog beside Apache Kafka, by an open-loop client of our own and by
Kafka's EndToEndLatency."""

import re
import sys

import harness
import loads
from harness import field, middle, ratios, spread

RECORD, BATCH = 100, 16_384
PERCENTILES = (("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9"))
P99_GOAL, END_TO_END_GOAL = 1 / 5, 1 / 2


def end_to_end(records):
    """Kafka's tool: sends one record, waits until its consumer has it, sends the next."""
    def load(broker, topic, _):
        out = harness.kafka_tool("EndToEndLatency", broker.bootstrap, topic, records, "all", RECORD)
        average = re.search(r"Avg latency: ([\d.]+) ms", out)
        rest = re.search(r"50th = (\d+), 99th = (\d+), 99.9th = (\d+)", out)
        if average is None or rest is None:
            raise RuntimeError(f"EndToEndLatency: {out[-400:]}")
        return {"average_us": 1000 * float(average.group(1)), "whole_ms": rest.groups(),
                "total_bytes": records * RECORD}
    return load


class Latency(harness.Area):
    __doc__ = __doc__
    name = "latency"
    title = "The log: latency at half load"

    def __init__(self, arguments):
        super().__init__(arguments)
        self.rows = []

    def run(self):
        with loads.Started(loads.both_brokers(self)) as found:
            for durability in ("os", "fsync"):
                self.open_loop(found, durability)
            for durability in ("os", "fsync"):
                self.end_to_end(found, durability)

    def sides(self, found, load, durability):
        return {broker.name: (lambda b=broker: loads.on_fresh_topic(b, load, 1, durability))
                for broker in found}

    def half_rate(self, found, durability):
        """Half of what the slower broker takes in a closed loop, by the same batches."""
        load = loads.native(RECORD, BATCH, self.scaled(2, 0.5), max_bytes=1_500_000_000)
        closed = self.turns(f"open loop, {durability}", self.sides(found, load, durability))
        return closed and int(0.5 * min(middle(field(results, "records_per_s"))
                                        for results in closed.values()))

    def open_loop(self, found, durability):
        rate = self.half_rate(found, durability)
        if not rate:
            return
        load = loads.native(RECORD, BATCH, self.scaled(3, 0.5), rate=rate)
        results = self.turns(f"open loop, {durability}", self.sides(found, load, durability))
        for name, shown in PERCENTILES:
            self.row(f"produce, open loop, {rate / 1000:,.0f} k rec/s", durability, shown, results,
                     name, P99_GOAL if shown == "p99" and durability == "os" else None)

    def end_to_end(self, found, durability):
        title = f"EndToEndLatency, {durability}"
        results = self.turns(title, self.sides(found, end_to_end(self.scaled(5_000, 500)),
                                               durability))
        if results is None:
            return
        self.row("EndToEndLatency", durability, "average", results, "average_us",
                 END_TO_END_GOAL if durability == "os" else None)
        for broker, of_broker in results.items():
            whole = ["/".join(result["whole_ms"]) for result in of_broker]
            self.note(f"{title}: {broker}: p50/p99/p99.9 of each turn, which the tool gives in "
                      f"whole ms: {', '.join(whole)}")

    def row(self, load, durability, what, results, name, ceiling):
        ours, theirs = results["pyralog"], results.get("kafka")
        row = [load, durability, what,
               spread([value / 1000 for value in field(ours, name)])]
        if theirs:
            found = ratios(ours, theirs, name)
            row += [spread([value / 1000 for value in field(theirs, name)]), spread(found),
                    harness.goals(ceiling and harness.at_most(ceiling, found))]
        else:
            row += ["skipped", "–", "–"]
        self.rows.append(row)
        print(" | ".join(row), flush=True)

    def head(self):
        return [
            f"Peer: {harness.kafka_version()}",
            loads.DURABILITY_TEXT,
            harness.SETTLED,
            "Open loop: prebuilt batches of 16 KiB of 100 B records leave one pinned thread on a "
            "schedule, at half of what the slower broker takes from the same thread in a closed "
            "loop; a latency counts from the moment a batch was due to its acknowledgement",
            "EndToEndLatency: Kafka's own tool with its producer and consumer, one record of 100 B "
            "at a time, from before its sending until it is consumed",
            f"{self.pairs} pairs, turn by turn; median [min–max]; the ratio is Pyralog ÷ Kafka",
        ]

    def body(self):
        return harness.table(("load", "durability", "latency", "Pyralog ms", "Kafka ms", "ratio",
                              "goal"), self.rows)


if __name__ == "__main__":
    sys.exit(harness.main(Latency))
