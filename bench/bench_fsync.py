#!/usr/bin/env python3
"""Produce with fsync over 1 to 1,000 partitions: Pyralog beside Apache Kafka and NATS JetStream,
and beside what the disk can do."""

import os
import sys

import harness
import loads
import nats_peer
from harness import field, middle, options, run_json, spread, tool

RECORD, BATCH = 1024, 16_384
IN_A_BATCH = 15  # records of 1 KiB that a batch of 16 KiB holds
CONNECTIONS, WINDOW = 8, 8  # batches in flight on each connection
GOAL, LIMIT_GOAL = 3, 0.9


class Fsync(harness.Area):
    __doc__ = __doc__
    name = "fsync"
    title = "The log: produce with fsync"

    def __init__(self, arguments):
        super().__init__(arguments)
        self.rows, self.limits = [], []
        self.seconds = self.scaled(2, 0.5)
        self.cap = 1_500_000_000

    def pyralog(self, broker, partitions):
        """A turn, and right after it what the disk can do with rounds of the same size."""
        load = loads.native(RECORD, BATCH, self.seconds, max_bytes=self.cap,
                            connections=CONNECTIONS, window=WINDOW)
        before = loads.metrics(broker)
        result = loads.on_fresh_topic(broker, load, partitions, "fsync")
        after = loads.metrics(broker)
        rounds = max(after["pyralog_log_syncs_total"] - before["pyralog_log_syncs_total"], 1)
        records = result["total_bytes"] / result["batch_bytes"] * result["records_per_batch"]
        shards = int(after["pyralog_server_shards"])
        probe, direct = (run_json([tool("fsync_probe"), *options(
            folder=broker.folder, bytes=int(result["total_bytes"] / rounds), direct=past_cache,
            threads=min(partitions, shards), seconds=self.scaled(1, 0.3))]) for past_cache in (0, 1))
        result["records_per_round"] = records / rounds
        result["round_bytes"] = probe["bytes"]
        result["disk_syncs_per_s"] = probe["syncs_per_s"]
        result["direct_syncs_per_s"] = direct["syncs_per_s"]
        result["of_limit"] = result["records_per_s"] / (probe["syncs_per_s"] * records / rounds)
        return result

    def kafka(self, broker, partitions):
        load = loads.native(RECORD, BATCH, self.seconds, max_bytes=self.cap,
                            connections=CONNECTIONS, window=WINDOW)
        return loads.on_fresh_topic(broker, load, partitions, "fsync")

    def nats(self, broker, partitions, batch):
        """As many messages in flight as the others have in their batches."""
        prefix = loads.fresh_name()
        nats_peer.create_streams(broker, prefix, partitions, batch > 1)
        harness.settle_memory()
        result = loads.with_cpu(broker, lambda: run_json([tool("nats_bench"), *options(
            server=broker.bootstrap, prefix=prefix, streams=partitions, record_bytes=RECORD,
            batch=batch, connections=CONNECTIONS, window=WINDOW * IN_A_BATCH // batch,
            seconds=self.seconds, max_bytes=self.cap, cpu=os.cpu_count() - 1)]))
        nats_peer.delete_streams(broker, prefix, partitions)
        return result

    def run(self):
        found = loads.both_brokers(self)
        if nats_peer.Nats.available():
            found.append(nats_peer.Nats())
        else:
            self.note("NATS: skipped, not in .deps/nats (bench/setup.sh nats)")
        with loads.Started(found):
            by_name = {broker.name: broker for broker in found}
            for partitions in (1, 10, 100, 1000):
                self.measure(by_name, partitions)
            for broker in found:
                self.note(f"{broker.name}: peak resident memory over all loads: "
                          f"{broker.memory_kib() / 1024:.0f} MiB")

    def measure(self, by_name, partitions):
        title = f"1 KiB, partitions: {partitions:,}"
        sides = {"pyralog": lambda: self.pyralog(by_name["pyralog"], partitions)}
        if "kafka" in by_name:
            sides["kafka"] = lambda: self.kafka(by_name["kafka"], partitions)
        if "nats" in by_name:
            sides["nats"] = lambda: self.nats(by_name["nats"], partitions, 1)
            if partitions == 10:  # once, to show that they are no way round the syncs
                sides["nats, atomic batches"] = lambda: self.nats(by_name["nats"], partitions,
                                                                  IN_A_BATCH)
        results = self.turns(title, sides)
        if results is None:
            return
        for peer in ("kafka", "nats", *list(sides)[3:]):
            self.rows.append(loads.compared(title, "fsync", results, peer, GOAL))
            print(" | ".join(self.rows[-1]), flush=True)
        ours = results["pyralog"]
        share = field(ours, "of_limit")
        self.limits.append([
            title, f"{middle(field(ours, 'round_bytes')) / 1000:,.0f}",
            f"{middle(field(ours, 'records_per_round')):,.0f}",
            spread(field(ours, "disk_syncs_per_s"), 0),
            spread(field(ours, "direct_syncs_per_s"), 0),
            f"{middle(field(ours, 'records_per_s')) / 1000:,.1f}", spread(share),
            harness.at_least(LIMIT_GOAL, share)])
        print(" | ".join(self.limits[-1]), flush=True)

    def head(self):
        return [
            f"Peers: {harness.kafka_version()}; {nats_peer.Nats.version()} with JetStream",
            "Durability: fsync before each acknowledgement: Pyralog `durability=fsync`, Kafka "
            "`flush.messages=1`, both acks=all; NATS `sync_interval: always`, streams in files",
            harness.SETTLED,
            f"Load: prebuilt batches of {IN_A_BATCH} records from one pinned thread, {CONNECTIONS} "
            f"connections with {WINDOW} batches in flight, turning over the partitions",
            "NATS: a stream for each partition. A publish in NATS is one message, so the same "
            f"thread keeps {WINDOW * IN_A_BATCH} messages in flight on each connection, the same "
            f"bytes; or, as \"atomic batches\", {IN_A_BATCH} messages a batch, which JetStream "
            "acknowledges as one and still syncs one by one",
            f"{self.pairs} pairs, turn by turn; ratios are the median [min–max] of the pairs, "
            "Pyralog ÷ peer; broker CPU in seconds per GB of batches (NATS: of payload)",
        ]

    def body(self):
        lines = harness.table(loads.HEAD, self.rows)
        lines += ["", "The disk's limit is measured after each of Pyralog's turns in its data "
                  "folder: a thread for each of Pyralog's shards that has a partition appends as "
                  "many bytes as a round of group commit had to one file of its own and calls "
                  "fdatasync. Limit = fdatasync a second × records in a round. Beside it the same "
                  "written past the page cache, as Pyralog does with what several partitions "
                  "share: so its share of the limit may be above 1.", ""]
        return lines + harness.table(
            ("load", "kB a round", "records a round", "fdatasync/s of the disk",
             "past the page cache", "Pyralog k rec/s",
             "share of the limit", "goal"), self.limits)


if __name__ == "__main__":
    sys.exit(harness.main(Fsync))
