"""Runs the client drivers of tests/clients as child processes and talks JSON lines with them."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from brokers import DEPS, REPOSITORY

CLIENTS = REPOSITORY / "tests/clients"
PYTHON_CLIENTS = {"kcat", "confluent", "kafka-python"}


class StepFailed(Exception):
    """What a step expected did not happen."""


class OperationFailed(StepFailed):
    """A driver answered that its operation failed; `code` is Kafka's or None."""

    def __init__(self, client, op, answer):
        self.code, self.name = answer.get("code"), answer.get("name")
        super().__init__(f"{client}: {op}: {self.name} ({self.code}): {answer.get('message')}")


def compiled_java():
    """Folder with the compiled Java driver, built once for each state of its source."""
    source = CLIENTS / "java/Driver.java"
    digest = hashlib.sha256(source.read_bytes() + (CLIENTS / "pom.xml").read_bytes()).hexdigest()
    folder = DEPS / "java-driver" / digest[:16]
    if not (folder / "Driver.class").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["javac", "-nowarn", "-cp", f"{DEPS}/java/*", "-d", str(folder), str(source)],
                       check=True, timeout=120)
    return folder


def compiled_librdkafka():
    """The C driver: CMake's, named by PYRALOG_LIBRDKAFKA_DRIVER, or one that we compile here."""
    given = os.environ.get("PYRALOG_LIBRDKAFKA_DRIVER")
    if given:
        return given
    source = CLIENTS / "librdkafka/driver.cc"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    target = DEPS / "librdkafka-driver" / digest[:16]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CXX", "clang++-22")
        fresh = target.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-std=c++23", "-O1", str(source), "-o", str(fresh), "-lrdkafka",
                        "-lpthread"], check=True, timeout=300)
        fresh.rename(target)
    return str(target)


def prepare(names):
    """Compiles what the named clients need, before any step is timed."""
    for name in names:
        command_of(name)


def command_of(name):
    """The command line of a client's driver, without the bootstrap address."""
    return {
        "kcat": lambda: ["python3", str(CLIENTS / "kcat/driver.py")],
        "librdkafka": lambda: [compiled_librdkafka()],
        "confluent": lambda: ["python3", str(CLIENTS / "confluent/driver.py")],
        "kafka-python": lambda: ["python3", str(CLIENTS / "kafka_python/driver.py")],
        "kafkajs": lambda: ["node", str(CLIENTS / "kafkajs/driver.js")],
        "java": lambda: ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx160m",
                         "-Xshare:auto", "-cp", f"{compiled_java()}:{DEPS}/java/*", "Driver"],
    }[name]()


class Driver:
    """One driver process, in a process group of its own."""

    def __init__(self, client, bootstrap, log):
        self.client = client
        self.events = []
        self.answers = {}
        self.serial = 0
        self.changed = threading.Condition()
        environment = dict(os.environ, PYTHONPATH=str(DEPS / "py"), PYRALOG_DEPS=str(DEPS),
                           KAFKAJS_NO_PARTITIONER_WARNING="1")
        self.process = subprocess.Popen(
            command_of(client) + [bootstrap], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log, text=True, env=environment, start_new_session=True, cwd=REPOSITORY)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            with self.changed:
                if "event" in message:
                    self.events.append(message)
                else:
                    self.answers[message["id"]] = message
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def post(self, op, **arguments):
        """Sends a request and returns its number; `answer` waits for what comes back."""
        self.serial += 1
        self.process.stdin.write(json.dumps({"id": self.serial, "op": op, **arguments}) + "\n")
        self.process.stdin.flush()
        return self.serial

    def answer(self, number, op, timeout):
        with self.changed:
            self.changed.wait_for(
                lambda: number in self.answers or self.process.poll() is not None, timeout)
            found = self.answers.pop(number, None)
        if found is None:
            state = self.process.poll()
            raise StepFailed(f"{self.client}: {op}: no answer in {timeout:.0f} s"
                             if state is None else f"{self.client}: {op}: driver ended ({state})")
        if not found["ok"]:
            raise OperationFailed(self.client, op, found)
        return found

    def call(self, op, timeout=45, **arguments):
        return self.answer(self.post(op, **arguments), op, timeout)

    def until(self, condition, what, timeout):
        """Waits until `condition(events)` is true and returns it."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                found = condition(self.events)
                if found:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    tail = [e for e in self.events if e["event"] != "record"][-4:]
                    raise StepFailed(f"{self.client}: {what}: not within {timeout:.0f} s; {tail}")
                self.changed.wait(min(left, 0.5))

    def assignment(self):
        """What the member holds now, as a set of (topic, partition)."""
        with self.changed:
            for event in reversed(self.events):
                if event["event"] == "assigned":
                    return {(topic, partition) for topic, partition in event["partitions"]}
        return set()

    def records(self):
        with self.changed:
            return [event for event in self.events if event["event"] == "record"]

    def signal(self, number):
        """Sends a signal to the driver and to what it started."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def dump(self):
        """Makes a driver that is written in Python say where it is, for the log of a failed step."""
        if self.client in PYTHON_CLIENTS and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)

    def close(self):
        if self.process.poll() is None:
            try:
                self.process.stdin.close()
                self.process.wait(2)
            except (OSError, subprocess.TimeoutExpired):
                pass
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        self.process.wait()
