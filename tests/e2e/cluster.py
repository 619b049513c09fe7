"""Nodes that are one cluster, each a process of its own that can be killed, frozen and started again.

Ports stay through restarts. Everything ends with the `with` block, and with the test whatever ends that.
"""

import concurrent.futures
import http.client
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import brokers
from brokers import BrokerError

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "crash"))

import client as wire_client  # noqa: E402
from wire import i8, i32, string, array  # noqa: E402

METADATA = 3
START_SECONDS = 40
# A child that is to end with its parent ends with the thread that made it: so all come from one that stays.
SPAWNER = concurrent.futures.ThreadPoolExecutor(1)
BOUND = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def until(condition, what, seconds, pause=0.05):
    """Polls `condition` until it holds and returns what it was. One that fails to ask has not held."""
    deadline = time.monotonic() + seconds
    trouble = None
    while True:
        try:
            if found := condition():
                return found
        except (OSError, ValueError, http.client.HTTPException, wire_client.Refused) as failed:
            trouble = failed
        if time.monotonic() > deadline:
            raise BrokerError(f"{what}: not within {seconds} s" + (f" ({trouble})" if trouble else ""))
        time.sleep(pause)


class Door(wire_client.Client):
    """A connection to one node; it also asks who leads."""

    def metadata(self, topic):
        """({node: bootstrap}, {partition: (error, leader, leader epoch, replicas, in sync)})"""
        reader = self.call(METADATA, 7, array([string(topic)]) + i8(0))
        reader.i32()
        nodes = {}
        for _ in range(reader.i32()):
            node, host, port = reader.i32(), reader.string(), reader.i32()
            reader.string()
            nodes[node] = f"{host}:{port}"
        reader.string(), reader.i32()
        found = {}
        for _ in range(reader.i32()):
            code = reader.i16()
            reader.string(), reader.take(1)
            for _ in range(reader.i32()):
                error, partition, leader, epoch = reader.i16(), reader.i32(), reader.i32(), reader.i32()
                replicas, in_sync = reader.array(reader.i32), reader.array(reader.i32)
                reader.array(reader.i32)
                found[partition] = (error, leader, epoch, replicas, in_sync)
            if code not in (wire_client.NONE, wire_client.LEADER_NOT_AVAILABLE):
                raise wire_client.Refused(f"metadata of {topic}", code)
        return nodes, found


class Node:
    """`pyralog serve` of one node."""

    def __init__(self, number, folder, binary, place):
        self.number, self.binary, self.words = number, binary, []
        self.data, self.log = folder / f"node-{number}", folder / f"node-{number}.log"
        self.prefix, self.kafka, self.http, self.peer = place
        self.process = None
        self.ready = threading.Event()
        self.began = self.ready_seconds = None

    def spawn(self):
        """Starts it and does not wait: it is ready once a majority agrees."""
        self.ready = ready = threading.Event()
        self.began = time.monotonic()
        with open(self.log, "ab") as errors:
            command = [*BOUND, *self.prefix, self.binary, "serve", "--data-dir", str(self.data), *self.words]
            started = SPAWNER.submit(subprocess.Popen, command, stdout=subprocess.PIPE, stderr=errors,
                                     stdin=subprocess.DEVNULL, text=True)
            self.process = process = started.result()

        def listen():
            for line in process.stdout:
                if line.startswith("ready "):
                    self.ready_seconds = time.monotonic() - self.began
                    ready.set()
            process.stdout.close()
        threading.Thread(target=listen, daemon=True).start()

    def await_ready(self, seconds=START_SECONDS):
        deadline = time.monotonic() + seconds
        while not self.ready.wait(0.05):
            if self.process.poll() is not None:
                raise BrokerError(f"node {self.number} ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"node {self.number} is not ready after {seconds} s:\n{self.tail()}")

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def end(self, number=signal.SIGKILL, seconds=20):
        """Ends it by a signal; one that does not end in time is killed, and that is told."""
        if not self.runs():
            return
        self.process.send_signal(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise BrokerError(f"node {self.number} did not end in {seconds} s:\n{self.tail()}") from None

    def status(self, path="/status", seconds=5.0):
        """What it says of itself."""
        host, port = self.http.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=seconds)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def tail(self, lines=25):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class Cluster:
    """`size` nodes on this machine, with a shared secret, in a temporary folder."""

    name = "cluster"

    def __init__(self, binary=None, size=3, options=("--shards", "1")):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pyralog-cluster-"))
        secret = self.folder / "secret"
        secret.write_text("the tests' own secret, of no worth\n")
        secret.chmod(0o600)
        binary = str(binary or brokers.Pyralog().binary)
        self.nodes = {n: Node(n, self.folder, binary, self.place(n)) for n in range(1, size + 1)}
        members = ",".join(f"{n}@{node.peer}" for n, node in self.nodes.items())
        for number, node in self.nodes.items():
            node.words = ["--node-id", str(number), "--cluster", members, "--cluster-secret-file", str(secret),
                          "--kafka", node.kafka, "--http", node.http, *options]
        self.bootstrap = ",".join(node.kafka for node in self.nodes.values())

    def place(self, number):
        """What to begin its command with, and its addresses for clients, for HTTP and for other nodes."""
        return [], *(f"127.0.0.1:{brokers.quiet_port()}" for _ in range(3))

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the nodes end as well
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None and kind is not KeyboardInterrupt:
            print(self.log_tail(), flush=True)
        self.stop()

    def start(self):
        """Starts those that do not run, and waits until they serve."""
        started = [node for node in self.nodes.values() if not node.runs()]
        for node in started:
            node.spawn()
        for node in started:
            node.await_ready()

    def stop(self):
        for node in self.nodes.values():
            if node.runs():
                node.process.send_signal(signal.SIGCONT)
                node.process.kill()
        for node in self.nodes.values():
            if node.process is not None:
                node.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self, lines=25):
        return "\n".join(f"--- node {n} said last\n{node.tail(lines)}" for n, node in self.nodes.items())

    def kill(self, *numbers):
        """kill -9 of all that are named, at once; returns when that was."""
        moment = time.monotonic()
        for number in numbers:
            self.nodes[number].process.kill()
        for number in numbers:
            self.nodes[number].process.wait()
        return moment

    def restart(self, *numbers):
        for number in numbers:
            self.nodes[number].spawn()
        for number in numbers:
            self.nodes[number].await_ready()

    def pause(self, number):
        self.nodes[number].process.send_signal(signal.SIGSTOP)
        return time.monotonic()

    def resume(self, number):
        self.nodes[number].process.send_signal(signal.SIGCONT)
        return time.monotonic()

    def door(self, number, seconds=10.0):
        return Door(self.nodes[number].kafka, seconds)

    def alive(self):
        return [n for n, node in self.nodes.items() if node.runs()]

    def partitions(self, topic, ask=None):
        """Metadata of a topic as node `ask` (default: any that runs) knows it."""
        with self.door(ask or self.alive()[0], 3.0) as door:
            return door.metadata(topic)[1]

    def leaders(self, topic, ask=None):
        return {p: leader for p, (_, leader, _, _, _) in self.partitions(topic, ask).items()}

    def await_whole(self, topics=(), seconds=20):
        """Every node that runs sees all others that run, and the topics' partitions are led, with all their
        replicas that run in sync."""
        alive = set(self.alive())

        def whole():
            for number in alive:
                seen = self.nodes[number].status()["cluster"]
                if seen["controller"] not in alive or seen["reachable"] != len(alive):
                    return False
                for topic in topics:
                    found = self.partitions(topic, number)
                    if not found or any(error or leader not in alive or not set(replicas) & alive <= set(in_sync)
                                        for error, leader, _, replicas, in_sync in found.values()):
                        return False
            return True
        return until(whole, f"nodes {sorted(alive)} are a whole cluster with {list(topics)}", seconds)

    def create(self, topic, partitions=1, replicas=3, **settings):
        """Makes a topic and waits until all its partitions are led."""
        with self.door(self.alive()[0]) as door:
            door.create_topic(topic, partitions, replicas=replicas, **settings)
        self.await_whole([topic])
