"""NATS with JetStream as a peer: the server that bench/setup.sh installs, and its streams."""

import json
import socket
import subprocess
import time

from harness import brokers

BINARY = brokers.DEPS / "nats/bin/nats-server"


class Nats(brokers.Broker):
    """One node on loopback that syncs before it acknowledges."""

    name = "nats"

    @staticmethod
    def available():
        return BINARY.exists()

    @staticmethod
    def version():
        if not BINARY.exists():
            return "NATS: absent"
        return "NATS " + subprocess.run(
            [str(BINARY), "--version"], capture_output=True, text=True, check=False,
            timeout=10).stdout.split(":")[-1].strip()

    def start(self):
        if not self.available():
            raise brokers.BrokerError("no nats-server in .deps/nats; run bench/setup.sh nats")
        port = brokers.free_port()
        settings = self.folder / "nats.conf"
        settings.write_text(
            f'host: "127.0.0.1"\nport: {port}\nmax_pending: 256MB\n'
            f'jetstream {{ store_dir: "{self.folder}/data", max_file_store: 64GB, '
            'max_memory_store: 1GB, sync_interval: always }\n')
        began = time.monotonic()
        with open(self.folder / "stderr.log", "ab") as errors:
            self.process = subprocess.Popen(
                self.prefix + [str(BINARY), "-c", str(settings)], stdout=errors, stderr=errors,
                stdin=subprocess.DEVNULL)
        brokers.await_port(port, self.process, 30)
        self.bootstrap = f"127.0.0.1:{port}"
        self.start_seconds = time.monotonic() - began


class Control:
    """Asks JetStream's API, one request at a time."""

    def __init__(self, bootstrap):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.input = self.socket.makefile("rb")
        self.socket.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n'
                            b"SUB _INBOX.control 1\r\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.input.close()
        self.socket.close()

    def call(self, subject, request):
        body = json.dumps(request).encode()
        head = f"PUB {subject} _INBOX.control {len(body)}\r\n".encode()
        self.socket.sendall(head + body + b"\r\n")
        while True:
            line = self.input.readline()
            if not line:
                raise ConnectionError("nats: the server closed the connection")
            if line.startswith(b"MSG "):
                answer = json.loads(self.input.read(int(line.split()[-1])))
                self.input.readline()
                if "error" in answer:
                    raise RuntimeError(f"nats: {subject}: {answer['error']}")
                return answer
            if line.startswith(b"PING"):
                self.socket.sendall(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise RuntimeError(f"nats: {line.decode().strip()}")


def create_streams(broker, prefix, count, atomic):
    """A stream in files for each partition; stream i takes the subject PREFIX.i."""
    with Control(broker.bootstrap) as control:
        for i in range(count):
            name = f"{prefix}-{i}"
            control.call(f"$JS.API.STREAM.CREATE.{name}",
                         {"name": name, "subjects": [f"{prefix}.{i}"], "storage": "file",
                          "retention": "limits", "num_replicas": 1, "allow_atomic": atomic})


def delete_streams(broker, prefix, count):
    with Control(broker.bootstrap) as control:
        for i in range(count):
            control.call(f"$JS.API.STREAM.DELETE.{prefix}-{i}", {})
