#!/usr/bin/env python3
"""How long a node takes to start and how much memory it holds: with many partitions, after a clean
stop and after kill -9 under load, and with many idle connections."""

import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time

import harness
import loads
from harness import KIB, at_most, brokers, options, spread, tool

TOPIC = "sizes"
CONNECTIONS = 10_000
# ApiVersions 0: size, key, version, correlation id, no client id
HELLO = struct.pack(">ihhih", 10, 18, 0, 1, -1)


def resident_mib(broker):
    return broker.memory_kib("VmRSS") / KIB


class Sizes(harness.Area):
    __doc__ = __doc__
    name = "sizes"
    title = "Sizes: start and memory"

    def __init__(self, arguments):
        super().__init__(arguments)
        self.rows = []

    def run(self):
        for partitions in (1000, 2000):
            self.partitions(partitions)
        self.connections(self.scaled(CONNECTIONS, 1000))

    def node(self, folder):
        return brokers.Pyralog(self.binary, folder=folder)

    @contextlib.contextmanager
    def filled(self, partitions):
        """A data directory with so many partitions, each with a few batches."""
        with tempfile.TemporaryDirectory(prefix="pyralog-bench-") as folder:
            with self.node(folder) as broker:
                loads.create_topic(broker, TOPIC, partitions, "fsync")
                self.write(broker, partitions, seconds=30, warmup=0,
                           max_bytes=partitions * 100_000)
            yield folder

    @staticmethod
    def write(broker, partitions, **how_long):
        loads.native(1024, 16_384, connections=8, **{"seconds": 30, **how_long})(
            broker, TOPIC, partitions)

    def start(self, folder, partitions):
        """Starts a node, waits until it serves every partition and then for `settle` seconds; gives
        the figures and stops it."""
        with self.node(folder) as broker:
            began = time.monotonic() - broker.start_seconds
            loads.end_offsets(broker, TOPIC, partitions)
            served = time.monotonic() - began
            cpu = broker.cpu_seconds()
            time.sleep(self.scaled(3, 0.5))
            return {"ready_ms": 1000 * broker.start_seconds, "served_ms": 1000 * served,
                    "cpu_ms": 1000 * cpu, "resident": resident_mib(broker)}

    def kill(self, folder, partitions):
        """Kills a node in the middle of writes to all partitions."""
        broker = self.node(folder)
        try:
            broker.start()
            command = [tool("produce_bench"), *options(
                bootstrap=broker.bootstrap, topic=TOPIC, partitions=partitions, record_bytes=1024,
                batch_bytes=16_384, seconds=30, connections=8)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  stdin=subprocess.DEVNULL) as writer:
                time.sleep(self.scaled(1.0, 0.3))
                broker.process.kill()
                broker.process.wait()
                writer.wait(30)  # its connections have broken
        finally:
            broker.stop()

    def partitions(self, count):
        if not self.wanted(f"{count:,} partitions"):
            return
        clean, killed = [], []
        try:
            with self.filled(count) as folder:
                for _ in range(self.pairs):
                    clean.append(self.start(folder, count))
                    self.kill(folder, count)
                    killed.append(self.start(folder, count))
        except harness.Skipped as reason:
            self.note(f"{count:,} partitions: skipped, {reason}")
            return
        first = count == 1000
        self.times(f"{count:,} partitions, start after a clean stop", clean, 300 if first else None)
        self.times(f"{count:,} partitions, start after kill −9 under load", killed,
                   2000 if first else None)
        found = [one["resident"] for one in clean]
        ceiling = 40 if first else 100
        self.row(f"{count:,} partitions, resident when idle", f"{spread(found, 1)} MiB",
                 at_most(ceiling, found, " MiB"))

    def times(self, title, found, ceiling):
        ready = harness.field(found, "ready_ms")
        self.row(f"{title}, until ready", f"{spread(ready, 0)} ms",
                 at_most(ceiling, ready, " ms") if ceiling else "–")
        self.row(f"{title}, until every partition has answered",
                 f"{spread(harness.field(found, 'served_ms'), 0)} ms", "–")
        self.row(f"{title}, CPU time until then",
                 f"{spread(harness.field(found, 'cpu_ms'), 0)} ms", "–")

    def connections(self, count):
        title = f"{count:,} idle connections"
        if not self.wanted(title):
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < count + 100:
            self.note(f"{title}: skipped, at most {hard} open files are allowed here")
            return
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        found, refused = [], 0
        for _ in range(self.pairs):
            with brokers.Pyralog(self.binary) as broker, contextlib.ExitStack() as held:
                before = resident_mib(broker)
                refused += count - self.greet(broker, held, count)
                time.sleep(self.scaled(3, 0.5))
                found.append(resident_mib(broker))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.row(f"{title}, resident", f"{spread(found, 1)} MiB", at_most(200, found, " MiB"))
        self.note(f"{title}: without them {before:.1f} MiB; refused: {refused}")

    @staticmethod
    def greet(broker, held, count):
        """Opens connections that `held` closes; each asks for the API versions once. The number
        that got an answer."""
        host, port = broker.bootstrap.rsplit(":", 1)
        answered = 0
        for _ in range(count):
            connection = held.enter_context(socket.create_connection((host, int(port)), timeout=30))
            connection.sendall(HELLO)
            with contextlib.suppress(ConnectionResetError):
                answered += len(connection.recv(4096)) > 4
        return answered

    def row(self, what, figure, goal):
        self.rows.append([what, figure, goal])
        print(" | ".join(self.rows[-1]), flush=True)

    def head(self):
        return [
            "Durability: Pyralog's default, `durability=fsync`",
            "Partitions: one topic, about 100 kB of batches of 16 KiB in each before the first "
            "start; every kill −9 comes amid writes to all of them. \"Ready\" is the line that "
            "`pyralog serve` prints; then one ListOffsets request asks every partition for its end",
            "Connections: each has asked for the API versions once and is silent since",
            f"{self.pairs} starts of each kind, by turns; median [min–max]; resident memory 3 s "
            f"after the start (the last connection)",
        ]

    def body(self):
        return harness.table(("what", "Pyralog", "goal"), self.rows)


if __name__ == "__main__":
    sys.exit(harness.main(Sizes))
