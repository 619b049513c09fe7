#!/usr/bin/env python3
"""Produce throughput of Pyralog beside Apache Kafka, in one run, turn by turn.

Both brokers run at once and take turns under the same load (A B A B ...), so that the machine's
moods meet both. Each pair gives one ratio; reported is the median with the smallest and largest.
A peer that is missing is reported as skipped. Rewrites the part `log` of docs/benchmarks.md.
"""

import argparse
import datetime
import json
import mmap
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests/e2e"))

import brokers  # noqa: E402
from wire import Connection, array, i8, i16, i32, i64, string  # noqa: E402

BUILD = REPOSITORY / "build/release/bench"
LIST_OFFSETS, CREATE_TOPICS, DELETE_TOPICS = 2, 19, 20
DURABILITY = {  # the same promise in each broker's words
    "os": {"pyralog": {"durability": "os"}, "kafka": {}},
    "fsync": {"pyralog": {"durability": "fsync"}, "kafka": {"flush.messages": "1"}},
}
GB = 1e9


class Skipped(Exception):
    """A peer or tool that is not here."""


def create_topic(broker, name, partitions, durability):
    configs = DURABILITY[durability][broker.name]
    body = array([string(name) + i32(partitions) + i16(1) + array([])
                  + array([string(k) + string(v) for k, v in configs.items()])])
    with Connection(broker.bootstrap, timeout=60) as connection:
        reader = connection.call(CREATE_TOPICS, 2, body + i32(30_000) + i8(0))
    reader.i32()
    name, code, message = reader.array(
        lambda: (reader.string(), reader.i16(), reader.string()))[0]
    if code != 0:
        raise RuntimeError(f"{broker.name}: create {name}: error {code}: {message}")
    await_leaders(broker, name, partitions)


def await_leaders(broker, name, partitions):
    """A topic exists before all its partitions serve: asks for their offsets until they do."""
    body = i32(-1) + i8(0) + array([string(name) + array([i32(p) + i64(-1)
                                                         for p in range(partitions)])])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with Connection(broker.bootstrap) as connection:
            reader = connection.call(LIST_OFFSETS, 2, body)
        reader.i32()
        codes = reader.array(lambda: (reader.string(), reader.array(
            lambda: (reader.i32(), reader.i16(), reader.i64(), reader.i64())[1])))[0][1]
        if not any(codes):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{broker.name}: {name}: no leaders within 30 s")


def delete_topic(broker, name):
    with Connection(broker.bootstrap, timeout=60) as connection:
        connection.call(DELETE_TOPICS, 1, array([string(name)]) + i32(30_000))


def tool(name):
    path = pathlib.Path(os.environ.get("PYRALOG_BENCH_TOOLS", BUILD)) / name
    if not path.exists():
        raise Skipped(f"{name} is not built (-DPYRALOG_BENCH=ON)")
    return str(path)


def run_json(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)


def native(record_bytes, batch_bytes, seconds, **more):
    """Prebuilt batches from one pinned thread."""
    def load(broker, topic, partitions):
        command = [tool("produce_bench"), "--bootstrap", broker.bootstrap, "--topic", topic,
                   "--partitions", str(partitions), "--record-bytes", str(record_bytes),
                   "--batch-bytes", str(batch_bytes), "--seconds", str(seconds),
                   "--cpu", str(os.cpu_count() - 1)]
        for name, value in more.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        return run_json(command)
    return load


def java_performance(record_bytes, records):
    """kafka-producer-perf-test of the Kafka distribution."""
    def load(broker, topic, _):
        if not brokers.Kafka.available():
            raise Skipped("the Java tools are not in .deps/kafka")
        command = ["java", "-Xmx512m", "-cp", f"{brokers.DEPS}/kafka/*",
                   "org.apache.kafka.tools.ProducerPerformance", "--topic", topic,
                   "--num-records", str(records), "--record-size", str(record_bytes),
                   "--throughput", "-1", "--producer-props",
                   f"bootstrap.servers={broker.bootstrap}", "acks=all"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        found = re.findall(r"([\d.,]+) records/sec \(([\d.,]+) MB/sec\)", done.stdout)
        if not found:
            raise RuntimeError(f"ProducerPerformance: {(done.stdout + done.stderr)[-400:]}")
        return {"records_per_s": float(found[-1][0].replace(",", "")),
                "mb_per_s": float(found[-1][0].replace(",", "")) * record_bytes / 1e6,
                "total_bytes": records * record_bytes}
    return load


def librdkafka(record_bytes, records):
    def load(broker, topic, _):
        where = ["--mock"] if broker is None else ["--bootstrap", broker.bootstrap]
        return run_json([tool("rdkafka_bench"), *where, "--topic", topic,
                         "--bytes", str(record_bytes), "--messages", str(records)])
    return load


def settle_memory(size=2_500_000_000):
    """Has a virtual machine's host hand out the memory that the page cache will take.

    A host takes free memory back after seconds (free page reporting); whoever touches it next pays
    for that with a fault of many microseconds a page, up to ten times what the load itself costs.
    Who pays would be chance. So before every turn the same amount is touched and let go."""
    with mmap.mmap(-1, size) as memory:
        zeros = bytes(1 << 20)
        for _ in range(size // len(zeros)):
            memory.write(zeros)


class Bench:
    def __init__(self, arguments):
        self.pairs = arguments.pairs
        self.binary = arguments.binary
        self.only = arguments.row
        self.rows, self.notes = [], []
        self.serial = 0

    def measure(self, broker, load, partitions, durability):
        """One turn: a topic of its own, the load, the broker's CPU time meanwhile."""
        self.serial += 1
        topic = f"bench-{self.serial}"
        create_topic(broker, topic, partitions, durability)
        settle_memory()
        before = broker.cpu_seconds()
        result = load(broker, topic, partitions)
        result["cpu_per_gb"] = (broker.cpu_seconds() - before) / (result["total_bytes"] / GB)
        delete_topic(broker, topic)
        return result

    def wanted(self, title):
        return not self.only or any(word in title for word in self.only)

    def row(self, title, brokers_, load, partitions=1, durability="os", figure="records_per_s"):
        """Turn by turn on every broker; the first turn of each warms up and does not count."""
        if not self.wanted(title):
            return None
        results = {broker.name: [] for broker in brokers_}
        try:
            for turn in range(self.pairs + 1):
                for broker in brokers_:
                    result = self.measure(broker, load, partitions, durability)
                    if turn > 0:
                        results[broker.name].append(result)
        except Skipped as reason:
            self.notes.append(f"{title}: skipped, {reason}")
            print(self.notes[-1], flush=True)
            return None
        self.rows.append((title, durability, figure, results))
        print(self.line(*self.rows[-1]), flush=True)
        return results

    @staticmethod
    def spread(values, digits=2):
        return (f"{statistics.median(values):.{digits}f} "
                f"[{min(values):.{digits}f}–{max(values):.{digits}f}]")

    def line(self, title, durability, figure, results):
        def middle(name, field):
            return statistics.median(r[field] for r in results[name])

        def ratio(field):
            return self.spread([a[field] / b[field] if b[field] else float("nan")
                                for a, b in zip(results["pyralog"], results["kafka"])])

        unit = 1000 if figure == "records_per_s" else 1
        cells = [title, durability]
        if "kafka" in results:
            cells += [f"{middle('pyralog', figure) / unit:,.0f}",
                      f"{middle('kafka', figure) / unit:,.0f}", ratio(figure),
                      f"{middle('pyralog', 'cpu_per_gb'):.2f}",
                      f"{middle('kafka', 'cpu_per_gb'):.2f}", ratio("cpu_per_gb")]
        else:
            cells += [f"{middle('pyralog', figure) / unit:,.0f}", "skipped", "–",
                      f"{middle('pyralog', 'cpu_per_gb'):.2f}", "skipped", "–"]
        return "| " + " | ".join(cells) + " |"

    def starts(self, with_kafka):
        """Seconds from exec to ready, on a fresh directory, turn by turn."""
        times = {"pyralog": [], "kafka": []}
        for _ in range(self.pairs):
            with brokers.Pyralog(self.binary) as broker:
                times["pyralog"].append(broker.start_seconds)
            if with_kafka:
                with brokers.Kafka(heap="1g") as broker:
                    times["kafka"].append(broker.start_seconds)
        return times

    def mock(self, pyralog, size, records):
        """librdkafka on Pyralog beside librdkafka on its own mock, turn by turn."""
        title = f"librdkafka, {size} B"
        if not self.wanted(title):
            return
        load, ratios = librdkafka(size, records), []
        try:
            for turn in range(self.pairs + 1):
                ours = self.measure(pyralog, load, 1, "os")["records_per_s"]
                mock = load(None, "mock", 1)["records_per_s"]
                if turn > 0:
                    ratios.append(ours / mock)
        except Skipped as reason:
            self.notes.append(f"{title} beside its mock: skipped, {reason}")
            return
        self.notes.append(f"{title}: rate on Pyralog ÷ rate on librdkafka's own mock broker "
                          f"(in the client's process, keeps nothing): {self.spread(ratios)}")
        print(self.notes[-1], flush=True)

    def half_load(self, both):
        """Latency in an open loop at half of the slower broker's rate."""
        title = "latency at half load"
        closed = [r for r in self.rows if r[0] == "prebuilt batches, 100 B"]
        if not closed or not self.wanted(title):
            return
        rate = 0.5 * min(statistics.median(r["records_per_s"] for r in results)
                         for results in closed[0][3].values())
        load = native(100, 16_384, 2, rate=int(rate))
        results = {broker.name: [] for broker in both}
        for turn in range(self.pairs + 1):
            for broker in both:
                result = self.measure(broker, load, 1, "os")
                if turn > 0:
                    results[broker.name].append(result)
        for field in ("p50_us", "p99_us", "p999_us"):
            shown = ", ".join(f"{name} {self.spread([r[field] / 1000 for r in found])} ms"
                              for name, found in results.items())
            self.notes.append(f"{title} ({rate / 1000:,.0f} k records/s of 100 B, open loop, "
                              f"acks=all): {field[:-3]} {shown}")
            print(self.notes[-1], flush=True)

    def run(self):
        with_kafka = brokers.Kafka.available()
        if not with_kafka:
            self.notes.append("Apache Kafka: skipped, not in .deps/kafka (bench/setup.sh kafka)")
        if self.wanted("start"):
            for name, times in self.starts(with_kafka).items():
                if times:
                    self.notes.append(f"{name}: start to ready, fresh directory: "
                                      f"{self.spread([1000 * t for t in times], 0)} ms")
                    print(self.notes[-1], flush=True)
        both = [brokers.Pyralog(self.binary)]
        if with_kafka:
            both.append(brokers.Kafka(heap="1g", options={"log.segment.delete.delay.ms": "1000"}))
        try:
            for broker in both:
                broker.start()
                self.notes.append(f"{broker.name}: resident when idle after the start: "
                                  f"{broker.memory_kib('VmRSS') / 1024:.0f} MiB")
            self.loads(both)
            for broker in both:
                self.notes.append(f"{broker.name}: peak resident memory over all loads: "
                                  f"{broker.memory_kib() / 1024:.0f} MiB")
        finally:
            for broker in both:
                broker.stop()

    def loads(self, both):
        cap = 1_500_000_000
        self.row("prebuilt batches, 100 B", both, native(100, 65_536, 2, max_bytes=cap))
        self.row("prebuilt batches, 1 KiB", both, native(1024, 65_536, 2, max_bytes=cap))
        self.row("prebuilt batches, 100 B, acks=1", both,
                 native(100, 65_536, 2, max_bytes=cap, acks=1))
        for partitions in (1, 10, 100):
            self.row(f"prebuilt batches, 1 KiB, partitions: {partitions}", both,
                     native(1024, 16_384, 2, max_bytes=cap, connections=8), partitions, "fsync")
        self.half_load(both)
        self.row("ProducerPerformance, 100 B", both, java_performance(100, 600_000))
        self.row("ProducerPerformance, 1 KiB", both, java_performance(1024, 200_000))
        self.row("librdkafka, 100 B", both, librdkafka(100, 4_000_000))
        self.row("librdkafka, 1 KiB", both, librdkafka(1024, 1_000_000))
        self.mock(both[0], 100, 4_000_000)
        self.mock(both[0], 1024, 1_000_000)

    def report(self, began):
        model = next((line.split(":", 1)[1].strip() for line in
                      pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                      if line.startswith("model name")), platform.machine())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY,
                                capture_output=True, text=True, check=False).stdout.strip()
        version = java.stderr.splitlines()[0] if java.stderr else "absent"
        lines = [
            "## The log: produce", "",
            f"- Date: {datetime.date.today()}, commit {commit}, took {time.time() - began:.0f} s;"
            f" load average at the end {os.getloadavg()[0]:.1f}",
            f"- Machine: {os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}",
            f"- Peers: Apache Kafka {brokers.Kafka.version()} (KRaft, one node, 1 GiB heap, "
            f"{version}), Debian's librdkafka",
            "- Durability: os = Pyralog `durability=os`, Kafka as it ships; fsync = Pyralog "
            "`durability=fsync`, Kafka `flush.messages=1`. acks=all unless it says otherwise",
            "- Before every turn 2.5 GB of memory are touched and let go, so that no broker pays for "
            "memory which the machine's host had taken back",
            "- Load: prebuilt batches of 64 KiB (fsync: 16 KiB) from one pinned thread, 4 (8) "
            "connections with 8 requests in flight; stock clients with their defaults",
            f"- Command: `make bench-log`; {self.pairs} pairs, turn by turn; median [min–max] of "
            "the pairs' ratios Pyralog ÷ Kafka; broker CPU in seconds per GB of batches", "",
            "| load | durability | Pyralog k rec/s | Kafka k rec/s | throughput ratio "
            "| Pyralog CPU s/GB | Kafka CPU s/GB | CPU ratio |",
            "|---|---|---|---|---|---|---|---|",
            *[self.line(*row) for row in self.rows], "",
            *[f"- {note}" for note in self.notes],
        ]
        return "\n".join(lines)


def write_part(path, name, text):
    """Replaces what stands between the markers of `name`, or appends it."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = path.read_text() if path.exists() else (
        "# Benchmarks\n\nWritten by `make bench`. Absolute figures belong to one machine and one "
        "hour; the ratios of one run are what counts.\n")
    part = f"{begin}\n{text}\n{end}"
    if begin in old and end in old:
        head, rest = old.split(begin, 1)
        new = head + part + rest.split(end, 1)[1]
    else:
        new = old.rstrip("\n") + "\n\n" + part + "\n"
    path.write_text(new)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", help="the pyralog binary (default build/release/pyralog)")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--row", action="append", help="only rows whose title contains this")
    parser.add_argument("--dry-run", action="store_true", help="print, do not write the page")
    arguments = parser.parse_args()
    began = time.time()
    bench = Bench(arguments)
    bench.run()
    text = bench.report(began)
    if arguments.dry_run:
        print(text)
    else:
        write_part(REPOSITORY / "docs/benchmarks.md", "log", text)
        print(f"docs/benchmarks.md: part log written ({time.time() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
