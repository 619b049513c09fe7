"""Topics, and what puts load on them: what several areas of the benchmark measure with."""

import os
import re
import time
import urllib.request

import harness
from harness import GB, brokers, options, run_json, tool
from wire import Connection, array, i8, i16, i32, i64, string

LIST_OFFSETS, CREATE_TOPICS, DELETE_TOPICS = 2, 19, 20
DURABILITY = {  # the same promise in each broker's words
    "os": {"pyralog": {"durability": "os"}, "kafka": {}},
    "fsync": {"pyralog": {"durability": "fsync"}, "kafka": {"flush.messages": "1"}},
}
DURABILITY_TEXT = ("Durability: os = Pyralog `durability=os`, Kafka as it ships; fsync = Pyralog "
                   "`durability=fsync`, Kafka `flush.messages=1`. acks=all unless it says "
                   "otherwise")


def create_topic(broker, name, partitions, durability):
    configs = DURABILITY[durability][broker.name]
    body = array([string(name) + i32(partitions) + i16(1) + array([])
                  + array([string(k) + string(v) for k, v in configs.items()])])
    with Connection(broker.bootstrap, timeout=120) as connection:
        reader = connection.call(CREATE_TOPICS, 2, body + i32(60_000) + i8(0))
    reader.i32()
    name, code, message = reader.array(
        lambda: (reader.string(), reader.i16(), reader.string()))[0]
    if code != 0:
        raise RuntimeError(f"{broker.name}: create {name}: error {code}: {message}")
    end_offsets(broker, name, partitions)


def end_offsets(broker, name, partitions, patience=60):
    """The end of each partition. A topic exists before all its partitions serve, so this asks until
    none of them answers with an error."""
    body = i32(-1) + i8(0) + array([string(name) + array([i32(p) + i64(-1)
                                                         for p in range(partitions)])])
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with Connection(broker.bootstrap, timeout=patience) as connection:
            reader = connection.call(LIST_OFFSETS, 2, body)
        reader.i32()
        answers = reader.array(lambda: (reader.string(), reader.array(
            lambda: (reader.i32(), reader.i16(), reader.i64(), reader.i64()))))[0][1]
        if not any(code for _, code, _, _ in answers):
            return {partition: offset for partition, _, _, offset in answers}
        time.sleep(0.02)
    raise RuntimeError(f"{broker.name}: {name}: no leaders within {patience} s")


def delete_topic(broker, name):
    with Connection(broker.bootstrap, timeout=120) as connection:
        connection.call(DELETE_TOPICS, 1, array([string(name)]) + i32(60_000))


def both_brokers(area, pyralog_options=()):
    """Pyralog and, if it is here, Kafka; not started."""
    found = [brokers.Pyralog(area.binary, options=pyralog_options)]
    if brokers.Kafka.available():
        found.append(brokers.Kafka(heap="1g", options={"log.segment.delete.delay.ms": "1000"}))
    else:
        area.note("Apache Kafka: skipped, not in .deps/kafka (bench/setup.sh kafka)")
    return found


class Started:
    """Brokers that run for the length of a `with` block."""

    def __init__(self, found):
        self.found = found

    def __enter__(self):
        try:
            for broker in self.found:
                broker.start()
        except BaseException:
            self.__exit__()
            raise
        return self.found

    def __exit__(self, *_):
        for broker in self.found:
            broker.stop()


_serial = 0


def fresh_name():
    global _serial
    _serial += 1
    return f"bench-{_serial}"


def with_cpu(broker, load):
    """The load's result and what CPU time the broker used meanwhile, per GB."""
    before = broker.cpu_seconds()
    result = load()
    result["cpu_per_gb"] = (broker.cpu_seconds() - before) / (result["total_bytes"] / GB)
    return result


def on_fresh_topic(broker, load, partitions=1, durability="os"):
    """One turn: a topic of its own, the load on it."""
    topic = fresh_name()
    create_topic(broker, topic, partitions, durability)
    harness.settle_memory()
    result = with_cpu(broker, lambda: load(broker, topic, partitions))
    delete_topic(broker, topic)
    return result


def native(record_bytes, batch_bytes, seconds, **more):
    """Prebuilt batches from one pinned thread."""
    def load(broker, topic, partitions):
        return run_json([tool("produce_bench"), *options(
            bootstrap=broker.bootstrap, topic=topic, partitions=partitions,
            record_bytes=record_bytes, batch_bytes=batch_bytes, seconds=seconds,
            cpu=os.cpu_count() - 1, **more)])
    return load


def java_performance(record_bytes, records):
    """kafka-producer-perf-test of the Kafka distribution."""
    def load(broker, topic, _):
        out = harness.kafka_tool(
            "ProducerPerformance", "--topic", topic, "--num-records", records, "--record-size",
            record_bytes, "--throughput", "-1", "--producer-props",
            f"bootstrap.servers={broker.bootstrap}", "acks=all")
        found = re.findall(r"([\d.,]+) records/sec \(([\d.,]+) MB/sec\)", out)
        if not found:
            raise RuntimeError(f"ProducerPerformance: {out[-400:]}")
        rate = float(found[-1][0].replace(",", ""))
        return {"records_per_s": rate, "mb_per_s": rate * record_bytes / 1e6,
                "total_bytes": records * record_bytes}
    return load


def librdkafka(record_bytes, records):
    def load(broker, topic, _):
        where = ["--mock"] if broker is None else ["--bootstrap", broker.bootstrap]
        return run_json([tool("rdkafka_bench"), *where,
                         *options(topic=topic, bytes=record_bytes, messages=records)])
    return load


def metrics(broker):
    """{name: value} of Pyralog's metrics that have no labels."""
    with urllib.request.urlopen(f"http://{broker.http}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.split()[0]: float(line.split()[1])
            for line in lines if line and not line.startswith("#") and "{" not in line}


HEAD = ("load", "durability", "peer", "Pyralog k rec/s", "peer k rec/s", "throughput ratio",
        "Pyralog CPU s/GB", "peer CPU s/GB", "CPU ratio", "goal")


def compared(title, durability, results, peer, floor=None, cpu=None):
    """A row of a table under HEAD: Pyralog beside one peer, or alone where that was skipped."""
    ours, theirs = results["pyralog"], results.get(peer)

    def rate(side):
        return f"{harness.middle(harness.field(side, 'records_per_s')) / 1000:,.1f}"

    def cost(side):
        return f"{harness.middle(harness.field(side, 'cpu_per_gb')):.2f}"

    if not theirs:
        return [title, durability, peer, rate(ours), "skipped", "–", cost(ours), "skipped", "–",
                "–"]
    speed = harness.ratios(ours, theirs, "records_per_s")
    spent = harness.ratios(ours, theirs, "cpu_per_gb")
    return [title, durability, peer, rate(ours), rate(theirs), harness.spread(speed), cost(ours),
            cost(theirs), harness.spread(spent),
            harness.goals(floor and harness.at_least(floor, speed, "×"),
                          cpu and harness.at_most(cpu, spent, name="CPU "))]
