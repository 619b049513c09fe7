#!/usr/bin/env python3
"""A server's life: its listeners, its ready line, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request

import command
import wire
from command import BINARY, CommandTest, environment, pyralog

READY = re.compile(r"^ready( kafka=127\.0\.0\.1:[1-9]\d*)?( http=127\.0\.0\.1:[1-9]\d*)?$")


def own_network():
    """The command prefix that gives a network of its own with only a loopback, or None."""
    for flags in (["--net"], ["--map-root-user", "--net"]):
        prefix = ["unshare", *flags, "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
        if subprocess.run([*prefix, "true"], capture_output=True, timeout=20).returncode == 0:
            return prefix
    return None


class Serve:
    """`pyralog serve` with exactly these options; what it says is kept."""

    def __init__(self, test, *options, prefix=(), data="data"):
        self.log = test.folder / "serve.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, BINARY, "serve", "--data-dir", str(test.folder / data), *options],
                stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True,
                env=environment())
        test.addCleanup(self.process.stdout.close)
        test.addCleanup(self.process.wait)
        test.addCleanup(self.process.kill)
        os.set_blocking(self.process.stdout.fileno(), True)
        self.ready = self.process.stdout.readline().rstrip("\n")
        self.doors = dict(word.split("=", 1) for word in self.ready.split()[1:])

    def end(self, seconds, *signals):
        """Sends the signals and returns (exit code, how long it took)."""
        began = time.monotonic()
        for each in signals:
            self.process.send_signal(each)
        code = self.process.wait(seconds)
        return code, time.monotonic() - began

    def said(self):
        return self.log.read_text()


class Listeners(CommandTest):
    def test_both_are_ready_when_it_says_so(self):
        serve = Serve(self, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
        self.assertRegex(serve.ready, READY)
        self.assertEqual(list(serve.doors), ["kafka", "http"])
        self.good("topic", "create", "t", "--bootstrap", serve.doors["kafka"])
        for path in ("live", "ready", "health", "version", "status", "metrics"):
            with urllib.request.urlopen(f"http://{serve.doors['http']}/{path}", timeout=10) as answer:
                self.assertEqual(answer.status, 200, path)
                body = answer.read().decode()
        self.assertIn('pyralog_broker_partition_high_watermark_offset{partition="t-0"} 0', body)
        self.assertIn('pyralog_kafka_request_seconds_count{api="CreateTopics"} 1', body)
        self.assertEqual(serve.end(15, signal.SIGTERM)[0], 0)
        self.assertEqual(serve.process.stdout.read(), "", "only the ready line is on standard output")
        self.assertIn("server.started", serve.said())

    def test_ready_in_json(self):
        serve = Serve(self, "--kafka", "127.0.0.1:0", "--json")
        self.assertEqual(set(json.loads(serve.ready)), {"ready", "kafka"})

    def test_only_the_named_ones_open(self):
        for door in ("kafka", "http"):
            serve = Serve(self, f"--{door}", "127.0.0.1:0", data=f"data-{door}")
            self.assertEqual(list(serve.doors), [door])
            inodes = self.listening(serve.process.pid)
            self.assertEqual(len(inodes), 1, inodes)
            self.assertEqual(serve.end(15, signal.SIGTERM)[0], 0)

    @staticmethod
    def listening(pid):
        """The addresses on which the process listens, as /proc tells them."""
        sockets = set()
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
        found = []
        for table in ("tcp", "tcp6"):
            with open(f"/proc/{pid}/net/{table}", encoding="ascii") as lines:
                rows = [line.split() for line in list(lines)[1:]]
            found += [row[1] for row in rows if row[3] == "0A" and row[9] in sockets]
        return found

    def test_with_none_named_all_open_at_their_ports(self):
        prefix = own_network()
        if prefix is None:
            if os.environ.get("CI") == "true":
                self.fail("needs a network namespace (root, or unprivileged user namespaces)")
            self.skipTest("needs a network namespace (root, or unprivileged user namespaces)")
        serve = Serve(self, prefix=prefix)
        self.assertEqual(serve.ready, "ready kafka=127.0.0.1:9092 http=127.0.0.1:9094")
        self.assertEqual(sorted(self.listening(serve.process.pid)),
                         ["0100007F:2384", "0100007F:2386"])  # 9092 and 9094 on 127.0.0.1
        self.assertEqual(serve.end(15, signal.SIGTERM)[0], 0)

    def test_beyond_the_loopback_needs_consent_and_an_address_to_tell(self):
        data = self.folder / "data"
        for words, says in [
                (("--kafka", "0.0.0.0:0"), ["0.0.0.0:0", "--allow-insecure"]),
                (("--http", "0.0.0.0:0"), ["0.0.0.0:0", "--allow-insecure"]),
                (("--kafka", "[::]:0"), ["[::]:0", "--allow-insecure"]),
                (("--kafka", "0.0.0.0:0", "--advertise", "b:1"), ["--allow-insecure"]),
                (("--kafka", "0.0.0.0:0", "--allow-insecure"), ["--advertise HOST:PORT"]),
                (("--kafka", "[::]:0", "--allow-insecure"), ["--advertise HOST:PORT"]),
                (("--kafka", "0.0.0.0:0", "--allow-insecure", "--advertise", "0.0.0.0:9092"),
                 ["advertise 0.0.0.0:9092", "name the host"])]:
            self.refused("serve", "--data-dir", data, *words, code=2, says=says)
        self.assertFalse(data.exists())

    def test_what_clients_are_told_and_the_warning_at_every_start(self):
        for start in (1, 2):
            serve = Serve(self, "--kafka", "0.0.0.0:0", "--allow-insecure", "--advertise",
                          "broker.example:1234")
            port = int(serve.doors["kafka"].rsplit(":", 1)[1])
            self.assertEqual(self.told(port), [("broker.example", 1234)])
            self.assertEqual(serve.said().count("server.insecure"), start)
            self.assertEqual(serve.end(15, signal.SIGTERM)[0], 0)
        serve = Serve(self, "--kafka", "127.0.0.1:0", "--advertise", "localhost:0")
        port = int(serve.doors["kafka"].rsplit(":", 1)[1])
        self.assertEqual(self.told(port), [("localhost", port)])

    @staticmethod
    def told(port):
        """The servers that a Metadata response (version 1) names."""
        with wire.Connection(f"127.0.0.1:{port}") as connection:
            reader = connection.call(3, 1, wire.array([]))
        return [(host, at) for _, host, at, _ in
                reader.array(lambda: (reader.i32(), reader.string(), reader.i32(), reader.string()))]

    def test_a_port_in_use_is_named_and_nothing_is_touched(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            for door in ("kafka", "http"):
                ran = self.refused("serve", "--data-dir", self.folder / "data", f"--{door}", taken,
                                   says=[taken])
                self.assertRegex(ran.err, "in use.*;")
                self.assertEqual(ran.out, "")
        self.assertFalse((self.folder / "data").exists())


class Reading(CommandTest):
    """SIGHUP: the settings are read again."""

    def test_what_has_changed_counts_or_is_named_and_what_was_removed_is_the_default(self):
        config = self.folder / "pyralog.toml"
        config.write_text('log.level = "info"\n')
        serve = Serve(self, "--config", str(config), "--kafka", "127.0.0.1:0")

        def read_again(text, *lines):
            config.write_text(text)
            before = len(serve.said())
            serve.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 30
            while not all(line in serve.said()[before:] for line in lines):
                self.assertLess(time.monotonic(), deadline, f"{lines}: {serve.said()[before:]}")
                time.sleep(0.01)

        read_again('log.retention.ms = 60000\nmax.connections = 5\n',
                   "server.setting_changed setting=log.retention.ms from=604800000 to=60000",
                   "server.restart_needed settings=max.connections", "server.reloaded changed=1")
        read_again("", "server.setting_changed setting=log.retention.ms from=60000 to=604800000",
                   "server.reloaded changed=1")
        read_again("nonsense = 1\n", "server.reload_failed", "nonsense")
        self.assertEqual(serve.end(15, signal.SIGTERM)[0], 0)


class Ending(CommandTest):
    def setUp(self):
        super().setUp()
        self.data = self.folder / "data"

    def serve(self, *options):
        return Serve(self, "--kafka", "127.0.0.1:0", *options)

    def clean_marks(self):
        return sorted(path.name for path in self.data.glob("shard-*.clean"))

    def test_sigterm_and_ctrl_c_end_it_in_order(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            serve = self.serve("--shards", "1")
            at = serve.doors["kafka"]
            self.good("topic", "create", f"t{number}", "--bootstrap", at)
            self.good("produce", f"t{number}", "--bootstrap", at, given=b"1\n2\n")
            self.assertEqual(self.clean_marks(), [], "nothing may be believed once it has written")
            code, took = serve.end(15, number)
            self.assertEqual(code, 0, serve.said())
            self.assertLess(took, 10)
            self.assertEqual(self.clean_marks(), ["shard-0.clean"],
                             "which says that the next start need not scan")
            serve = self.serve("--shards", "1")
            self.assertEqual(
                self.good("consume", f"t{number}", "--from", "beginning", "--until-end",
                          "--bootstrap", serve.doors["kafka"]).out, "1\n2\n")
            self.assertEqual(serve.end(15, signal.SIGTERM)[0], 0)

    def test_who_waits_is_answered_at_once_and_idle_clients_do_not_hold_it(self):
        serve = self.serve("--http", "127.0.0.1:0")
        at = serve.doors["kafka"]
        self.good("topic", "create", "t", "--bootstrap", at)
        host, port = serve.doors["http"].rsplit(":", 1)
        with wire.Connection(at) as idle, socket.create_connection((host, int(port))) as half, \
                wire.Connection(at) as waiting:
            idle.call(3, 1, wire.array([]))
            half.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n")
            self.fetch(waiting, wait_ms=60_000, min_bytes=1)
            code, took = serve.end(15, signal.SIGTERM)
            self.assertEqual(code, 0, serve.said())
            self.assertLess(took, 11)
            self.assertIsNotNone(waiting.receive())

    @staticmethod
    def fetch(connection, wait_ms=0, min_bytes=0, max_bytes=50 << 20):
        """Sends a Fetch (version 4) of t-0 from its beginning."""
        connection.send(1, 4, wire.i32(-1) + wire.i32(wait_ms) + wire.i32(min_bytes)
                        + wire.i32(max_bytes) + wire.i8(0) + wire.array(
                            [wire.string("t") + wire.array(
                                [wire.i32(0) + wire.i64(0) + wire.i32(max_bytes)])]))

    def stuck_client(self, at):
        """A client that asks for far more than a socket's buffers hold and reads none of it."""
        self.good("topic", "create", "t", "--bootstrap", at)
        self.good("produce", "t", "--bootstrap", at, given=(b"x" * 99_999 + b"\n") * 200)
        stuck = wire.Connection(at)
        self.addCleanup(stuck.socket.close)
        for _ in range(8):
            self.fetch(stuck)
        stuck.socket.recv(1, socket.MSG_PEEK)
        return stuck

    def test_what_cannot_finish_is_cut_off_in_ten_seconds(self):
        serve = self.serve()
        self.stuck_client(serve.doors["kafka"])
        code, took = serve.end(20, signal.SIGTERM)
        self.assertEqual(code, 0, serve.said())
        self.assertGreater(took, 5, "a request in work gets its time")
        self.assertLess(took, 13)

    def test_a_second_signal_ends_it_at_once(self):
        serve = self.serve("--shutdown-timeout-ms", "60000")
        self.stuck_client(serve.doors["kafka"])
        serve.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while "server.stopping" not in serve.said() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertIsNone(serve.process.poll(), "it waits for the request in work")
        code, took = serve.end(5, signal.SIGTERM)
        self.assertEqual(code, 130)
        self.assertLess(took, 2)
        self.assertEqual(self.clean_marks(), [])
        serve = self.serve()
        count = self.good("consume", "t", "--from", "beginning", "--until-end", "--bootstrap",
                          serve.doors["kafka"], "--format", "%o\\n").out.split()
        self.assertEqual(count, [str(offset) for offset in range(200)], "and nothing is lost")

    def test_no_new_client_is_served_while_it_ends(self):
        serve = self.serve("--shutdown-timeout-ms", "60000")
        at = serve.doors["kafka"]
        self.stuck_client(at)
        serve.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while "server.stopping" not in serve.said() and time.monotonic() < deadline:
            time.sleep(0.01)
        ran = pyralog("topic", "list", "--bootstrap", at, "--timeout", "1s")
        self.assertEqual(ran.code, 1, ran)
        serve.process.kill()

    def test_it_raises_its_limit_of_open_files(self):
        serve = Serve(self, "--kafka", "127.0.0.1:0",
                      prefix=["sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh"])
        with open(f"/proc/{serve.process.pid}/limits", encoding="ascii") as lines:
            row = next(line for line in lines if line.startswith("Max open files"))
        soft, hard = row.split()[3:5]
        self.assertEqual(soft, hard)
        self.assertNotEqual(soft, "256")

    def test_closed_segments_hold_no_files(self):
        serve = self.serve("--shards", "1")
        at = serve.doors["kafka"]
        self.good("topic", "create", "t", "--bootstrap", at, "--config", "segment.bytes=65536")
        self.good("produce", "t", "--bootstrap", at, "--batch-bytes", "20000",
                  given=(b"x" * 999 + b"\n") * 1500)
        segments = list(self.data.glob("*-0/*.log"))
        self.assertGreater(len(segments), 15)
        fds = f"/proc/{serve.process.pid}/fd"
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            targets = [os.readlink(f"{fds}/{fd}") for fd in os.listdir(fds)
                       if os.path.islink(f"{fds}/{fd}")]
            held = [target for target in targets if target.endswith(".log")
                    and "metadata" not in target]
            if len(held) <= 3:
                break
            time.sleep(0.05)
        self.assertLessEqual(len(held), 3, held)


if __name__ == "__main__":
    command.main()
