"""The server of the crash tests: the real binary on a folder of its own, ended in every way there is."""

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "e2e"))

READY_SECONDS = 60.0


def binary():
    path = os.environ.get("PYRALOG_BINARY") or str(REPOSITORY / "build/release/pyralog")
    if not os.access(path, os.X_OK):
        sys.exit(f"no pyralog binary at {path}; build it or set PYRALOG_BINARY")
    return path


class Server:
    """`pyralog serve` on a data directory that outlives it. One object is one process."""

    def __init__(self, data, options=(), environment=None):
        self.data = pathlib.Path(data)
        self.errors = self.data.parent / (self.data.name + ".stderr")
        command = [binary(), "serve", "--data-dir", str(self.data), "--kafka", "127.0.0.1:0",
                   "--http", "127.0.0.1:0", *options]
        self.began = time.monotonic()
        with open(self.errors, "ab") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors,
                                            stdout=subprocess.PIPE,
                                            env=dict(os.environ, **(environment or {})))
        self.bootstrap = self.http = self.start_seconds = None
        self.ending = False  # it was told to end, or killed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def ready(self):
        """Waits for the `ready` line."""
        if not self.ready_within(READY_SECONDS):
            self.kill()
            sys.exit(f"pyralog did not become ready (exit code {self.process.returncode}); "
                     f"its log ends:\n{self.log_tail()}")
        return self

    def ready_within(self, seconds):
        """True once the `ready` line is there; False after `seconds` or when the process has ended."""
        end = self.began + seconds
        line = b""
        while not line.endswith(b"\n"):
            left = max(0.0, end - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                return False
            part = os.read(self.process.stdout.fileno(), 1)
            if not part:
                return False
            line += part
        doors = dict(word.split("=", 1) for word in line.decode().split()[1:])
        self.bootstrap, self.http = doors["kafka"], doors["http"]
        self.start_seconds = time.monotonic() - self.began
        return True

    def kill(self):
        """kill -9, at once."""
        self.ending = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def terminate(self, seconds=15.0):
        """SIGTERM; returns (exit code, seconds that it took)."""
        began = time.monotonic()
        self.ending = True
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            sys.exit(f"pyralog did not end within {seconds} s of SIGTERM; its log ends:\n{self.log_tail()}")
        self.process.stdout.close()
        return code, time.monotonic() - began

    def freeze(self):
        """SIGSTOP, and every thread stands still when this returns: nothing more reaches the disk."""
        self.process.send_signal(signal.SIGSTOP)
        end = time.monotonic() + 30.0
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        while time.monotonic() < end:
            states = [(task / "stat").read_text().rsplit(")", 1)[1].split()[0]
                      for task in tasks.iterdir()]
            if all(state in "Tt" for state in states):
                return
            os.sched_yield()
        sys.exit("pyralog does not stand still after SIGSTOP")

    def get(self, path):
        """The JSON of a page; a degraded server answers with 503 and says why."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=15) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as degraded:
            return json.load(degraded)

    def status(self):
        return self.get("/status")

    def partitions(self):
        """{name: what /status says of it}"""
        return {each["name"]: each for each in self.status()["partitions"]}

    def log_text(self):
        return self.errors.read_text(errors="replace")

    def log_tail(self, lines=30):
        return "\n".join(self.log_text().splitlines()[-lines:])


def run_pyralog(*words, seconds=60):
    """A command of the binary, to its end."""
    return subprocess.run([binary(), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=seconds)
