"""Clusters of three nodes as peers: Pyralog's and Kafka's, each node a process on loopback, with what
a benchmark asks of them: who leads, what all nodes spend, and an end for one of them."""

import concurrent.futures
import contextlib
import pathlib
import secrets
import shutil
import signal
import tempfile
import time
import urllib.request

from harness import brokers
from wire import Connection, array, batch, data, i8, i16, i32, string

PRODUCE, METADATA, CREATE_TOPICS, DELETE_TOPICS = 0, 3, 19, 20
NODES = 3
TROUBLE = (OSError, ValueError, brokers.BrokerError)  # of a node that has gone, or is about to
KAFKA_TUNED = {  # what decides how soon a lost node is noticed, each at a fraction of its default
    "broker.session.timeout.ms": "1000", "broker.heartbeat.interval.ms": "200",
    "controller.quorum.fetch.timeout.ms": "1000", "controller.quorum.election.timeout.ms": "500",
}


class KafkaNode(brokers.Kafka):
    """A node of a Kafka cluster, combined broker and controller, on ports that it keeps."""

    patience = 180  # three of them start at once

    def __init__(self, number, ports, controllers, options, heap, **kwargs):
        port, controller = ports
        voters = ",".join(f"{i + 1}@127.0.0.1:{c}" for i, c in enumerate(controllers))
        super().__init__(heap=heap, ports=ports, options={
            "node.id": str(number), "controller.quorum.voters": voters,
            "offsets.topic.replication.factor": str(NODES), "min.insync.replicas": "2",
            "group.initial.rebalance.delay.ms": "3000",  # as it ships
            "log.segment.delete.delay.ms": "1000", **options}, **kwargs)
        self.address = f"127.0.0.1:{port}"


class Cluster:
    """Starts and ends with its `with` block; its folder goes with it. Nodes count from 0."""

    name = "cluster"

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pyralog-bench-cluster-"))
        self.nodes = []
        self.spent = [0.0] * NODES  # processor time of lives that have ended

    def __enter__(self):
        try:
            with concurrent.futures.ThreadPoolExecutor(NODES) as pool:
                list(pool.map(lambda node: node.start(), self.nodes))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with concurrent.futures.ThreadPoolExecutor(NODES) as pool:
            list(pool.map(self.end, self.nodes))
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def end(node):
        if node.process is not None:
            node.process.send_signal(signal.SIGCONT)
        node.stop()

    @property
    def addresses(self):
        return [node.address for node in self.nodes]

    @property
    def bootstrap(self):
        return ",".join(self.addresses)

    def cpu_seconds(self):
        """User and system time of all nodes so far."""
        return sum(before + node.cpu_seconds() for before, node in zip(self.spent, self.nodes))

    def memory_mib(self, field="VmRSS"):
        """Of the node that has most."""
        return max(node.memory_kib(field) for node in self.nodes) / 1024

    def number_of(self, address):
        return self.addresses.index(address)

    def kill(self, number):
        """kill -9; `revive` starts it again on its folder and ports."""
        node = self.nodes[number]
        self.spent[number] += node.cpu_seconds()
        node.process.kill()
        node.process.wait()

    def revive(self, number):
        self.nodes[number].start()

    def controller(self):
        """The node that leads the metadata, if it can be told."""
        return None

    def pause(self, number):
        self.nodes[number].process.send_signal(signal.SIGSTOP)

    def resume(self, number):
        self.nodes[number].process.send_signal(signal.SIGCONT)


class PyralogCluster(Cluster):
    name = "pyralog"

    def __init__(self, binary=None, shards=1, options=()):
        super().__init__()
        secret = self.folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(32))
        members = ",".join(f"{i + 1}@127.0.0.1:{brokers.quiet_port()}" for i in range(NODES))
        for i in range(NODES):
            folder = self.folder / f"node-{i + 1}"
            folder.mkdir()
            node = brokers.Pyralog(binary, port=brokers.quiet_port(), folder=folder, options=[
                "--node-id", str(i + 1), "--cluster", members, "--cluster-secret-file",
                str(secret), "--shards", str(shards), *options])
            node.address = f"127.0.0.1:{node.port}"
            self.nodes.append(node)


    def controller(self):
        for number, node in enumerate(self.nodes):
            with urllib.request.urlopen(f"http://{node.http}/metrics", timeout=10) as answer:
                if b"\npyralog_cluster_is_controller 1\n" in answer.read():
                    return number
        return None


class KafkaCluster(Cluster):
    name = "kafka"

    def __init__(self, options=None, heap="1g"):
        super().__init__()
        ports = [(brokers.quiet_port(), brokers.quiet_port()) for _ in range(NODES)]
        for i in range(NODES):
            folder = self.folder / f"node-{i + 1}"
            folder.mkdir()
            self.nodes.append(KafkaNode(i + 1, ports[i], [c for _, c in ports], options or {}, heap,
                                        folder=folder))


class Partition:
    """What the metadata of a cluster says of one: the leader's address, or None, and how many
    replicas are in sync."""

    def __init__(self, error, leader, in_sync):
        self.error, self.leader, self.in_sync = error, leader, in_sync


def metadata(connection, topic):
    """{partition: Partition} as one node sees it; none if it does not know the topic."""
    reader = connection.call(METADATA, 7, array([string(topic)]) + i8(0))
    reader.i32()
    nodes = {}
    for _ in range(reader.i32()):
        number, host, port = reader.i32(), reader.string(), reader.i32()
        reader.string()
        nodes[number] = f"{host}:{port}"
    reader.string()
    reader.i32()
    found = {}
    for _ in range(reader.i32()):
        reader.i16()
        reader.string()
        reader.take(1)
        for _ in range(reader.i32()):
            error, index, leader = reader.i16(), reader.i32(), reader.i32()
            reader.i32()
            reader.array(reader.i32)
            in_sync = len(reader.array(reader.i32))
            reader.array(reader.i32)
            found[index] = Partition(error, nodes.get(leader), in_sync)
    return found


def produce(connection, topic, partitions, wait_ms=4_000):
    """A record of 100 B to each of the partitions, acks=all: {partition: error code}."""
    payload = data(batch([b"x" * 100], now_ms=int(time.time() * 1000)))
    body = array([string(topic) + array([i32(p) + payload for p in partitions])])
    reader = connection.call(PRODUCE, 7, string(None) + i16(-1) + i32(wait_ms) + body)
    found = {}
    for _ in range(reader.i32()):
        reader.string()
        for _ in range(reader.i32()):
            partition, code = reader.i32(), reader.i16()
            reader.i64(), reader.i64(), reader.i64()
            found[partition] = code
    return found


def await_writable(cluster, topic, leaders, patience=30):
    """Until each partition has taken a record: that its replicas are said to be in sync does not mean
    that its leader has heard of them."""
    deadline, codes = time.monotonic() + patience, {}
    for partition, address in enumerate(leaders):
        with Connection(address, timeout=30) as connection:
            while (codes := produce(connection, topic, [partition])) != {partition: 0}:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{cluster.name}: {topic}: takes no records: {codes}")
                time.sleep(0.01)


def create_topic(cluster, name, partitions, configs):
    """With three replicas, all in sync when it returns. Returns the seconds that took."""
    began = time.monotonic()
    body = array([string(name) + i32(partitions) + i16(NODES) + array([])
                  + array([string(k) + string(v) for k, v in configs.items()])])
    with Connection(cluster.addresses[0], timeout=120) as connection:
        reader = connection.call(CREATE_TOPICS, 2, body + i32(60_000) + i8(0))
    reader.i32()
    _, code, message = reader.array(lambda: (reader.string(), reader.i16(), reader.string()))[0]
    if code != 0:
        raise RuntimeError(f"{cluster.name}: create {name}: error {code}: {message}")
    await_in_sync(cluster, name, partitions)
    return time.monotonic() - began


def delete_topic(cluster, name):
    with Connection(cluster.addresses[0], timeout=120) as connection:
        connection.call(DELETE_TOPICS, 1, array([string(name)]) + i32(60_000))


def await_in_sync(cluster, topic, partitions, patience=240):
    """Until every node says of every partition that it has a leader and all replicas are in sync.
    The leader's address of each, in order."""
    deadline = time.monotonic() + patience
    seen = "nothing"
    while time.monotonic() < deadline:
        views = []
        for address in cluster.addresses:
            try:
                with Connection(address, timeout=10) as connection:
                    views.append(metadata(connection, topic))
            except TROUBLE as trouble:
                seen = f"{address}: {trouble}"
                break
        if len(views) == NODES:
            good = [[p for p, one in view.items() if one.error == 0 and one.leader and
                     one.in_sync == NODES] for view in views]
            if all(len(each) == partitions for each in good):
                return [views[0][p].leader for p in range(partitions)]
            seen = "of %d are well, as the nodes see it: %s" % (partitions, [*map(len, good)])
        time.sleep(0.05)
    raise RuntimeError(f"{cluster.name}: {topic}: not in sync within {patience} s: {seen}")


class Started:
    """Clusters that run for the length of a `with` block: {name: cluster}."""

    def __init__(self, makers):
        self.makers = makers

    def __enter__(self):
        with contextlib.ExitStack() as held:
            found = {name: held.enter_context(make()) for name, make in self.makers.items()}
            self.held = held.pop_all()
        return found

    def __exit__(self, *_):
        self.held.close()
