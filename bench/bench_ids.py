#!/usr/bin/env python3
"""Numbers that are never issued twice: Obelisk beside a bare atomic and an fsync for each id."""

import json
import os
import sys
import tempfile

import harness
from harness import at_least, middle, spread, tool

LEASE_GOAL, STRICT_GOAL = 20, 10  # millions a second and thread; times one caller
SHOWN = (  # benchmark, what it is, threads
    ("bare_atomic/real_time/threads:1", "bare atomic", 1),
    ("bare_atomic/real_time/threads:2", "bare atomic, 2 threads", 2),
    ("lease/real_time/threads:1", "Obelisk, lease", 1),
    ("lease/real_time/threads:2", "Obelisk, lease, 2 threads", 2),
    ("fsync_per_id/real_time", "write and fsync per id", 1),
    ("strict/1/real_time", "Obelisk, strict, 1 caller", 1),
    ("strict/64/real_time", "Obelisk, strict, 64 callers", 1),
)


class Ids(harness.Area):
    __doc__ = __doc__
    name = "ids"
    title = "Ids"

    def __init__(self, arguments):
        super().__init__(arguments)
        self.rows = []

    def run(self):
        try:
            program = tool("ids_bench")
        except harness.Skipped as reason:
            self.note(f"all rows: skipped, {reason}; libbenchmark-dev is needed too")
            return
        with tempfile.TemporaryDirectory(prefix="pyralog-bench-") as folder:
            out = harness.run_text(
                [program, "--benchmark_format=json", f"--benchmark_repetitions={self.pairs}",
                 "--benchmark_enable_random_interleaving=true",
                 f"--benchmark_min_time={self.scaled(0.5, 0.02)}"],
                timeout=600, env=dict(os.environ, BENCH_FOLDER=folder))
        rates, waits = {}, {}
        for run in json.loads(out)["benchmarks"]:
            if run["run_type"] == "iteration":
                rates.setdefault(run["run_name"], []).append(run["items_per_second"])
                waits.setdefault(run["run_name"], []).append(run.get("waits", 0))
        for name, shown, threads in SHOWN:
            self.row(shown, threads, rates[name], self.goal(name, rates))
        for name, shown, _ in SHOWN:
            if any(waits[name]):
                self.note(f"{shown}: looks at a lease that was used up before the next was "
                          f"durable: {spread(waits[name], 0)} a run")

    @staticmethod
    def goal(name, rates):
        if name == "lease/real_time/threads:1":
            return at_least(LEASE_GOAL, [rate / 1e6 for rate in rates[name]], " M/s a thread")
        if name == "strict/64/real_time":
            # The repetitions come in random order: pairs have no meaning, medians do.
            one = middle(rates["strict/1/real_time"])
            found = [rate / one for rate in rates[name]]
            return f"{at_least(STRICT_GOAL, found, '× one caller')}, {spread(found, 1)}×"
        return "–"

    def row(self, shown, threads, rates, goal):
        unit, size = ("M", 1e6) if middle(rates) >= 1e6 else ("k", 1e3)
        per_thread = [rate / threads / size for rate in rates]
        self.rows.append([shown, f"{spread([rate / size for rate in rates])} {unit}/s",
                          f"{middle(per_thread):,.2f} {unit}/s",
                          f"{1e9 * threads / middle(rates):,.1f}", goal])
        print(" | ".join(self.rows[-1]), flush=True)

    def head(self):
        return [
            "Durability: strict and \"write and fsync per id\": on the device before the number is "
            "given out; lease: a ceiling above every number given out is on the device, a crash "
            "skips at most two leases (of 16,777,216 here); bare atomic: none",
            "Google Benchmark, in one process, files on the same disk; strict callers are "
            "coroutines of one shard, each asks for its next number when it has the last",
            f"{self.pairs} repetitions in random order; median [min–max]",
        ]

    def body(self):
        return harness.table(("what", "ids a second", "of them a thread", "ns an id and thread",
                              "goal"), self.rows)


if __name__ == "__main__":
    sys.exit(harness.main(Ids))
