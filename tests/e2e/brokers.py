"""Starts the brokers that the end-to-end tests and the benchmarks talk to: Pyralog, or Apache
Kafka in KRaft mode (one node, loopback) from the jars that bench/setup.sh installs.

Every broker lives in its own temporary folder and stops with its `with` block.
"""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEPS = pathlib.Path(os.environ.get("PYRALOG_DEPS", REPOSITORY / ".deps"))


class BrokerError(Exception):
    """The broker did not start or did not stop as it should."""


def free_port():
    """A TCP port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def quiet_port():
    """A free TCP port that the kernel gives to no outgoing connection: it can be opened again and again."""
    low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(15_000 if low > 20_000 else 1_024, max(low, 2_048))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def await_port(port, process, seconds):
    """Waits until 127.0.0.1:port accepts, or raises when the process ends first."""
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise BrokerError(f"the broker ended with code {process.returncode} before it listened")
        if time.monotonic() > deadline:
            raise BrokerError(f"port {port}: nobody accepted within {seconds} s")
        time.sleep(0.01)


class Broker:
    """Common part: a temporary folder, a child process, its resource figures from /proc."""

    name = "broker"

    def __init__(self, folder=None, prefix=()):
        self.owns_folder = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="pyralog-e2e-"))
        self.prefix = list(prefix)
        self.process = None
        self.bootstrap = None
        self.start_seconds = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        raise NotImplementedError

    def stop(self, grace=15.0):
        """SIGTERM, then SIGKILL after `grace` seconds; the folder goes too if we made it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self):
        path = self.folder / "stderr.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def log_tail(self, lines=40):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def cpu_seconds(self):
        """User plus system time of the process so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_kib(self, field="VmHWM"):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        return 0


class Pyralog(Broker):
    """`pyralog serve` on a free port, or on `port`; ready when it prints its `ready` line."""

    name = "pyralog"

    def __init__(self, binary=None, options=(), port=0, **kwargs):
        super().__init__(**kwargs)
        self.port = port
        default = REPOSITORY / "build/release/pyralog"
        self.binary = str(binary or os.environ.get("PYRALOG_BINARY") or default)
        self.options = list(options)
        self.http = None

    def start(self):
        if not os.access(self.binary, os.X_OK):
            raise BrokerError(f"no pyralog binary at {self.binary}; build it or set PYRALOG_BINARY")
        command = self.prefix + [self.binary, "serve", "--data-dir", str(self.folder / "data"),
                                 "--kafka", f"127.0.0.1:{self.port}", "--http", "127.0.0.1:0"] + self.options
        self.bootstrap = None
        errors = open(self.folder / "stderr.log", "ab")
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors,
                                        stdin=subprocess.DEVNULL, text=True)
        errors.close()
        watchdog = threading.Timer(30.0, self.process.kill)
        watchdog.start()
        for line in self.process.stdout:
            if line.startswith("ready "):
                doors = dict(word.split("=", 1) for word in line.split()[1:])
                self.bootstrap, self.http = doors["kafka"], doors.get("http")
                self.start_seconds = time.monotonic() - began
                break
        watchdog.cancel()
        if self.bootstrap is None:
            raise BrokerError(f"pyralog printed no ready line; its log ends:\n{self.log_tail()}")
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()

    def end(self, cleanly):
        """SIGTERM or kill -9; `start` starts it again on the same folder."""
        self.process.send_signal(signal.SIGTERM if cleanly else signal.SIGKILL)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise BrokerError(f"pyralog did not end; its log ends:\n{self.log_tail()}") from None


class Kafka(Broker):
    """Apache Kafka, one combined KRaft node, settings as Kafka ships them but for loopback."""

    name = "kafka"
    patience = 60  # in seconds, until it listens

    def __init__(self, options=None, heap="512m", ports=None, **kwargs):
        super().__init__(**kwargs)
        self.ports = ports  # of the broker and the controller; free ones at each start if not named
        self.options = dict(options or {})
        self.heap = heap

    @staticmethod
    def available():
        return any((DEPS / "kafka").glob("kafka_2.13-*.jar")) and shutil.which("java") is not None

    @staticmethod
    def version():
        jars = sorted((DEPS / "kafka").glob("kafka_2.13-*.jar"))
        return jars[0].stem.split("-", 1)[1] if jars else "absent"

    def java(self, main, *arguments, flags=()):
        return ["java", *flags, "-cp", f"{self.folder}:{DEPS / 'kafka'}/*", main, *arguments]

    def start(self):
        if not self.available():
            raise BrokerError("Apache Kafka is not in .deps/kafka; run bench/setup.sh kafka")
        port, controller = self.ports or (free_port(), free_port())
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "log.dirs": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **self.options,
        }
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        errors = open(self.folder / "stderr.log", "ab")
        quiet = ("-Xmx256m", "-XX:TieredStopAtLevel=1")
        if not (self.folder / "data" / "meta.properties").exists():
            subprocess.run(self.java("kafka.tools.StorageTool", "format", "-t",
                                     "cGhhcmFvaHMtZGVzayEhIQ", "-c", str(properties), flags=quiet),
                           check=True, stdout=errors, stderr=errors)
        began = time.monotonic()
        flags = (f"-Xmx{self.heap}", f"-Xms{self.heap}", "-XX:+UseG1GC",
                 "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")
        self.process = subprocess.Popen(
            self.prefix + self.java("kafka.Kafka", str(properties), flags=flags),
            stdout=errors, stderr=errors, stdin=subprocess.DEVNULL)
        await_port(port, self.process, self.patience)
        self.bootstrap = f"127.0.0.1:{port}"
        self.start_seconds = time.monotonic() - began


class External:
    """A broker that somebody else started."""

    name = "external"

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def log_tail(self, lines=40):
        return ""
