#!/usr/bin/env python3
"""`pyralog doctor`: what it says of this machine, and that it leaves nothing behind."""

import contextlib
import http.server
import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time

import command
from command import BINARY, CommandTest, brokers, environment, pyralog

CHECKS = ["data directory", "disk sync", "free space", "file system", "open files", "clock", "memory",
          "paging", "processor", "port kafka", "port http"]


def everything_in(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def settled(folder):
    """As everything_in, once the server that runs there has made its files and replaces none."""
    last = time.monotonic() + 10
    while True:
        found = everything_in(folder)
        made = (folder / "believed-time").exists() and not any(path.endswith(".tmp") for path in found)
        if made or time.monotonic() > last:
            return found
        time.sleep(0.01)


@contextlib.contextmanager
def http_that_says(body):
    """HOST:PORT of an HTTP server with this answer to everything, with status 503."""

    class Says(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(503)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Says) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class Doctor(CommandTest):
    def setUp(self):
        super().setUp()
        self.kafka = f"127.0.0.1:{brokers.free_port()}"
        self.http = f"127.0.0.1:{brokers.free_port()}"

    def words(self, *more, folder=None):
        return ("doctor", "--data-dir", folder or self.folder, "--kafka", self.kafka, "--http",
                self.http, *more)

    def checks(self, *more, folder=None):
        """({check: its JSON}, the run); its verdict and exit code agree."""
        ran = pyralog(*self.words(*more, "--json", folder=folder))
        answer = ran.document()
        problems = [c["check"] for c in answer["checks"] if c["health"] == "problem"]
        self.assertEqual(answer["ok"], not problems, ran)
        self.assertEqual(ran.code, 1 if problems else 0, ran)
        for check in answer["checks"]:
            self.assertIn(check["health"], ("ok", "warning", "problem"), ran)
            self.assertEqual("remedy" in check, check["health"] != "ok", ran)
        return {check["check"]: check for check in answer["checks"]}, ran

    def test_every_check_answers_in_text_and_in_json(self):
        checks, _ = self.checks()
        self.assertEqual(list(checks), CHECKS)
        text = pyralog(*self.words()).out
        for name in CHECKS:
            self.assertRegex(text, rf"(?m)^(ok|warning|problem) +{name}: ")
        sync = checks["disk sync"]
        self.assertTrue(1 <= sync["count"] <= 100, sync)
        self.assertTrue(0 < sync["p50_us"] <= sync["p99_us"] <= sync["max_us"], sync)
        space = os.statvfs(self.folder)
        self.assertEqual(checks["free space"]["total_bytes"], space.f_blocks * space.f_frsize)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.assertEqual(checks["open files"]["limit"], hard)
        self.assertLess(abs(checks["clock"]["drift_us"]), 50_000)
        self.assertIn("is free", checks["port kafka"]["what"])

    def test_nothing_is_left_behind(self):
        absent = self.folder / "new" / "data"
        checks, _ = self.checks(folder=absent)
        self.assertIn("not there yet", checks["data directory"]["what"])
        self.assertIn("disk sync", checks)
        self.assertEqual(everything_in(self.folder), [])
        for delay in (0.0, 0.01, 0.03, 0.1):  # nor by one that is killed in the middle
            running = subprocess.Popen([BINARY, *map(str, self.words())], env=environment(),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            running.send_signal(signal.SIGKILL)
            running.wait(15)
            self.assertEqual(everything_in(self.folder), [])

    def test_a_port_that_another_has(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.kafka = f"127.0.0.1:{taken.getsockname()[1]}"
            checks, ran = self.checks()
        self.assertEqual(checks["port kafka"]["health"], "problem")
        self.assertIn("--kafka", checks["port kafka"]["remedy"])
        self.assertIn("pyralog: doctor: problems: ", ran.err)
        self.assertIn("port kafka", ran.err)

    def test_a_server_that_runs_is_no_problem_and_is_left_alone(self):
        broker = self.server()
        self.kafka, data = broker.bootstrap, self.folder / "data"
        before = settled(data)
        checks, _ = self.checks(folder=data)
        self.assertIn("a server has it open", checks["data directory"]["what"])
        self.assertEqual(checks["port kafka"]["health"], "ok", checks["port kafka"])
        self.assertEqual(settled(data), before)
        self.good("topic", "create", "t", "--bootstrap", broker.bootstrap)

    def test_a_server_that_runs_is_asked_how_it_is(self):
        broker = self.server()
        self.kafka, self.http, data = broker.bootstrap, broker.http, self.folder / "data"
        checks, _ = self.checks(folder=data)
        self.assertEqual(checks["server"]["health"], "ok", checks["server"])
        self.assertIn(broker.http, checks["server"]["what"])
        health = {"status": "degraded", "problems": [
            {"kind": "disk_full", "subject": "/data", "what": "no room", "remedy": "free space"}]}
        with http_that_says(json.dumps(health)) as self.http:
            checks, ran = self.checks(folder=data)
        self.assertEqual(checks["server"]["health"], "problem")
        self.assertEqual(checks["server disk_full"]["what"], "/data: no room")
        self.assertEqual(checks["server disk_full"]["remedy"], "free space")
        self.assertIn("server disk_full", ran.err)
        with http_that_says("<html>another one</html>") as self.http:
            checks, _ = self.checks(folder=data)
        self.assertEqual(checks["server"]["health"], "warning")

    def test_limits_that_are_too_low(self):
        low = subprocess.run(["bash", "-c", 'ulimit -n 512; exec "$@"', "-", BINARY,
                              *map(str, self.words("--json"))], capture_output=True, text=True,
                             timeout=60, env=environment())
        self.assertEqual(low.returncode, 1, low)
        self.assertIn("open files", low.stderr)

    def test_places_that_cannot_be(self):
        file = self.write("file", "x")
        checks, _ = self.checks(folder=file)
        self.assertEqual(checks["data directory"]["health"], "problem")
        self.assertIn("no directory", checks["data directory"]["what"])
        self.assertNotIn("disk sync", checks)
        if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK):
            checks, _ = self.checks(folder="/dev/shm/pyralog-doctor-is-not-made")
            self.assertEqual(checks["file system"]["health"], "problem")
        self.refused("doctor", "--data-dir", self.folder, "--kafka", "nowhere", code=2, says=["kafka"])
        self.refused("doctor", "--data-dirs", self.folder, code=2, says=["did you mean --data-dir?"])


if __name__ == "__main__":
    command.main()
