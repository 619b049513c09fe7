#!/usr/bin/env python3
"""Nodes that form a cluster, each one command: `dev cluster`, `cluster status`, and what `serve` refuses."""

import contextlib
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import command
from command import BINARY, CommandTest, brokers, environment, pyralog

READY = re.compile(r"^ready kafka=127\.0\.0\.1:\d+ http=(127\.0\.0\.1:\d+) pid=(\d+)$")


def until(seconds, holds, what):
    """Waits for `holds()` to be true; returns what it was."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.02)


def get(http, path):
    """(status, document) of what a node answers."""
    try:
        with urllib.request.urlopen(f"http://{http}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def is_there(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def end_at_once(pid):
    """Whatever a defect has left behind."""
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/{pid}/exe") == os.path.realpath(BINARY):
            os.kill(pid, signal.SIGKILL)


class Dev:
    """`pyralog dev cluster` that runs; its lines are kept as they come."""

    def __init__(self, test, *words, data="three"):
        self.test = test
        self.data = test.folder / data
        self.process = subprocess.Popen(
            [BINARY, "dev", "cluster", *words, "--data-dir", str(self.data)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
            env=environment({"PYRALOG_LISTENERS_KAFKA": "127.0.0.1:1"}))
        self.said, self.errors = [], []
        self.readers = [threading.Thread(target=lambda f=f, to=to: to.extend(f), daemon=True)
                        for f, to in ((self.process.stdout, self.said), (self.process.stderr, self.errors))]
        for reader in self.readers:
            reader.start()
        test.addCleanup(self.close)

    def close(self):
        self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join(20)
        self.process.stdout.close()
        self.process.stderr.close()

    def ready(self, count):
        """{node id: (http, pid)} once so many lines have been said."""
        until(60, lambda: len(self.said) >= count or self.process.poll() is not None, self.all)
        found = {}
        for line in self.said[:count]:
            match = READY.match(line.rstrip("\n"))
            assert match, self.all()
            self.test.addCleanup(end_at_once, int(match[2]))
            found[get(match[1], "/status")[1]["node_id"]] = (match[1], int(match[2]))
        assert len(found) == count, self.all()
        return found

    def all(self):
        logs = "".join(f"--- {path}\n{path.read_text()}" for path in sorted(self.data.glob("*.log")))
        return f"{self.said}\n{self.errors}\n{logs}"

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(40)


class Development(CommandTest):
    def whole(self, nodes):
        """The status of each once each sees all of them and one who leads."""
        def look():
            all_say = [get(http, "/status")[1]["cluster"] for http, _ in nodes.values()]
            leaders = {each["controller"] for each in all_say}
            whole = all(each["reachable"] == len(nodes) == len(each["nodes"]) for each in all_say)
            return all_say if whole and len(leaders) == 1 and None not in leaders else None
        return until(20, look, "they do not see each other")

    def test_three_nodes_are_one_cluster_and_are_that_again_at_the_next_start(self):
        dev = Dev(self, "3")
        nodes = dev.ready(3)
        self.assertEqual(set(nodes), {1, 2, 3})
        first = self.whole(nodes)
        for status in first:
            self.assertEqual([each["node_id"] for each in status["nodes"]], [1, 2, 3])
            self.assertEqual(sum(each["controller"] for each in status["nodes"]), 1)
            self.assertTrue(all(each["reachable"] and each["voter"] for each in status["nodes"]))
        self.assertEqual(len({status["id"] for status in first}), 1)
        for http, _ in nodes.values():
            self.assertEqual(get(http, "/health")[0], 200)
        self.assertEqual((dev.data / "secret").stat().st_mode & 0o777, 0o600)
        self.refused("dev", "cluster", "3", "--data-dir", dev.data, says=["another `pyralog dev cluster`"])
        self.assertEqual(dev.end(), 0, dev.all())
        self.assertFalse(any(is_there(pid) for _, pid in nodes.values()))
        again = Dev(self)  # 3 if nothing is said
        restarted = again.ready(3)
        second = self.whole(restarted)
        self.assertEqual({status["id"] for status in second}, {status["id"] for status in first})
        self.assertEqual([each["peer"] for each in second[0]["nodes"]],
                         [each["peer"] for each in first[0]["nodes"]])
        self.assertEqual({node: http for node, (http, _) in restarted.items()},
                         {node: http for node, (http, _) in nodes.items()}, "on the same ports")
        self.assertEqual(get(restarted[1][0], "/status")[1]["starts"], 2)
        self.assertEqual(again.end(signal.SIGINT), 0, again.all())
        self.refused("dev", "cluster", "5", "--data-dir", dev.data, code=2, says=["a cluster of 3"])

    def test_one_that_is_killed_is_told_of_and_the_others_go_on(self):
        dev = Dev(self, "3")
        nodes = dev.ready(3)
        victim = self.whole(nodes)[0]["controller"]
        http = {node: at for node, (at, _) in nodes.items() if node != victim}
        os.kill(nodes[victim][1], signal.SIGKILL)
        killed = time.monotonic()

        def noticed():
            for at in http.values():
                status = get(at, "/status")[1]["cluster"]
                gone = [each["node_id"] for each in status["nodes"] if not each["reachable"]]
                if gone != [victim] or status["controller"] in (None, victim):
                    return False
            return True
        until(10, noticed, dev.all)
        self.assertLess(time.monotonic() - killed, 3)
        code, health = get(next(iter(http.values())), "/health")
        self.assertEqual((code, health["status"]), (200, "warning"))
        self.assertEqual([(each["kind"], each["subject"]) for each in health["problems"]],
                         [("node_unreachable", f"node {victim}")])
        lines = self.good("cluster", "status", "--http", next(iter(http.values()))).out.splitlines()
        self.assertRegex(lines[0], r"^cluster \S+  controller \d  term \d+  committed \d+  feature level 3$")
        self.assertRegex(lines[victim], rf"^  node {victim}  kafka .*  unreachable: .*refused")
        document = self.good("cluster", "status", "--json", "--http", next(iter(http.values()))).document()
        self.assertEqual(document["reachable"], 2)
        until(5, lambda: any(f"node {victim} has ended (signal 9), the others go on" in line
                             for line in dev.errors), dev.all)
        self.assertIsNone(dev.process.poll())
        # Without a majority nobody leads, and whoever is left says so.
        last, other = http
        os.kill(nodes[other][1], signal.SIGKILL)
        until(15, lambda: get(http[last], "/health")[0] == 503, dev.all)
        kinds = {each["kind"] for each in get(http[last], "/health")[1]["problems"]}
        self.assertEqual(kinds, {"no_controller", "node_unreachable"})
        self.assertEqual(dev.end(), 1, "not all have ended as they should")
        self.assertIn(f"node {victim} has ended (signal 9)", "".join(dev.errors))

    def test_none_outlives_a_parent_that_is_killed(self):
        dev = Dev(self, "3")
        nodes = dev.ready(3)
        dev.process.kill()
        dev.process.wait(10)
        until(5, lambda: not any(is_there(pid) for _, pid in nodes.values()), "nodes are left behind")

    def test_it_can_be_ended_while_it_starts(self):
        dev = Dev(self, "3")
        until(20, (dev.data / "node-3.log").exists, dev.all)
        self.assertEqual(dev.end(), 0, dev.all())

    def test_ctrl_c_at_a_terminal_ends_all_in_order(self):
        """The terminal sends it to the whole process group, and a node takes a second one as urgent."""
        data = self.folder / "three"
        child, terminal = pty.fork()
        if child == 0:
            os.execve(BINARY, [BINARY, "dev", "cluster", "3", "--data-dir", str(data)], environment())
        self.addCleanup(os.close, terminal)
        self.addCleanup(lambda: is_there(child) and os.kill(child, signal.SIGKILL))
        said = b""
        while b"all are ready" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        with contextlib.suppress(OSError):  # which is how a terminal says that nobody is left
            while os.read(terminal, 4096):
                pass
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, said)
        for node in (1, 2, 3):
            self.assertTrue((data / f"node-{node}" / "shard-0.clean").exists(), f"node {node}")

    def test_ready_in_json_at_ports_that_were_asked_for(self):
        base = brokers.quiet_port()
        dev = Dev(self, "1", "--json", "--base-port", str(base))
        until(60, lambda: dev.said or dev.process.poll() is not None, dev.all)
        said = json.loads(dev.said[0])
        self.assertEqual((said["node"], said["kafka"], said["http"]),
                         (1, f"127.0.0.1:{base}", f"127.0.0.1:{base + 1}"), dev.all())
        self.assertEqual(dev.end(signal.SIGHUP), 0, dev.all())

    def test_numbers_that_make_no_sense_are_refused(self):
        for words, says in [(("2",), "1, 3 or 5"), (("7",), "1 to 5"), (("x",), "\"x\""),
                            (("--base-port", "65530"), "--base-port")]:
            self.refused("dev", "cluster", *words, "--data-dir", self.folder / "none", code=2, says=[says])
        self.assertFalse((self.folder / "none").exists())

    def test_a_lone_node_is_a_cluster_of_one(self):
        server = self.server()
        said = self.good("cluster", "status", "--http", server.http).out
        self.assertIn("node 1  kafka ", said)
        self.assertIn("controller  reachable", said)
        self.assertNotIn("cluster", get(server.http, "/status")[1])
        server.stop()
        self.refused("cluster", "status", "--http", server.http, says=[server.http, "--http"])


class NodesTest(CommandTest):
    """Nodes of a cluster, each a `serve` of its own."""

    def setUp(self):
        super().setUp()
        self.secret = self.write("secret", "0123456789abcdef0123456789abcdef\n")
        self.secret.chmod(0o600)
        ports = [brokers.quiet_port() for _ in range(3)]
        self.members = ",".join(f"{i + 1}@127.0.0.1:{port}" for i, port in enumerate(ports))

    def words(self, node, *more_words, members=None, secret=None, more=()):
        return ["serve", "--data-dir", str(self.folder / f"node-{node}"), "--node-id", str(node),
                "--cluster", members or self.members, "--cluster-secret-file", str(secret or self.secret),
                "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--shards", "1", *more_words, *more]

    def run_node(self, node, **options):
        log = self.folder / f"node-{node}.log"
        with open(log, "ab") as errors:
            process = subprocess.Popen([BINARY, *self.words(node, **options)], stdout=subprocess.PIPE,
                                       stderr=errors, stdin=subprocess.DEVNULL, text=True, env=environment())
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process, log


class Partitions(NodesTest):
    def setUp(self):
        super().setUp()
        self.running = {node: self.run_node(node) for node in (1, 2, 3)}
        self.kafka = {node: self.ready(node) for node in self.running}
        self.good("topic", "create", "orders", "--partitions", "3", "--replication-factor", "3", *self.to(1))
        self.preferred = {each["partition"]: each["preferred"] for each in self.listed(1)}

    def ready(self, node):
        process, log = self.running[node]
        line = process.stdout.readline()
        self.assertRegex(line, "^ready kafka=", log.read_text())
        return re.search(r"kafka=(\S+)", line)[1]

    def to(self, node):
        return "--bootstrap", self.kafka[node]

    def listed(self, node, *words):
        return self.good("partition", "list", *words, "--json", *self.to(node)).document()

    def leaders(self, node):
        return {each["partition"]: each["leader"] for each in self.listed(node, "orders")}

    def all(self):
        return "".join(f"--- {log}\n{log.read_text()}" for _, log in self.running.values())

    def test_leaders_of_a_node_that_was_down_are_given_back(self):
        until(20, lambda: self.leaders(1) == self.preferred, self.all)
        self.refused("partition", "move", "orders", "0", *self.to(1), code=2, says=["--preferred"])
        self.refused("partition", "move", "orders", "x", "--preferred", *self.to(1), code=2, says=['"x"'])
        self.refused("partition", "move", "orders", "9", "--preferred", *self.to(1),
                     says=['topic "orders" partition 9', "no such partition"])
        self.assertIn("already", self.good("partition", "move", "orders", "0", "--preferred", *self.to(2)).out)
        self.assertIn("already", self.good("cluster", "rebalance", *self.to(3)).out)
        down = self.preferred[0]
        other = down % 3 + 1
        self.running[down][0].kill()
        until(20, lambda: self.leaders(other)[0] not in (None, down), self.all)
        found = self.listed(other, "orders")[0]
        self.assertEqual((found["offline"], found["preferred"]), ([down], down))
        self.assertNotIn(down, found["in_sync"])
        lines = self.good("partition", "list", "orders", *self.to(other)).out.splitlines()
        self.assertRegex(lines[0], rf"^orders  partition 0  leader \d  epoch \d+  replicas {down},\d,\d  "
                                   rf"in sync \d,\d  offline {down}  prefers {down}$")
        self.refused("partition", "move", "orders", "0", "--preferred", *self.to(other),
                     says=['topic "orders" partition 0', f"node {down}", "start it"])
        failed = pyralog("cluster", "rebalance", "--json", *self.to(other))
        self.assertEqual(failed.code, 1, failed)
        self.assertEqual([each["leader"] for each in failed.document() if each["topic"] == "orders"], ["failed"])
        self.running[down] = self.run_node(down)
        self.kafka[down] = self.ready(down)
        until(30, lambda: down in self.listed(other, "orders")[0]["in_sync"], self.all)
        moved = self.good("partition", "move", "orders", "0", "--preferred", "--json", *self.to(other)).document()
        self.assertEqual(moved, [{"topic": "orders", "partition": 0, "leader": "moved"}])
        self.assertEqual(self.leaders(other)[0], down)
        self.good("cluster", "rebalance", *self.to(other))
        self.assertEqual(self.leaders(other), self.preferred)


    def moving(self, node):
        return self.good("partition", "list", "--moving", "--json", *self.to(node)).document()

    def test_replicas_are_moved_and_moves_taken_back(self):
        self.good("topic", "create", "two", "--replication-factor", "2", *self.to(1))
        first, second = next(each["replicas"] for each in self.listed(1, "two"))
        third = 6 - first - second
        move = ("partition", "move", "two", "0")
        for words, code, says in [
                (("--to", "1,x"), 2, ['"1,x"', "1,2,3"]), (("--to", "1", "--cancel"), 2, ["--to N,N,N"]),
                (("--to", f"{first},9"), 1, ['topic "two" partition 0', "node 9"]),
                (("--to", f"{first},{first}"), 1, ['topic "two" partition 0']),
                (("--cancel",), 1, ["not being moved"])]:
            with self.subTest(words):
                self.refused(*move, *words, *self.to(1), code=code, says=says)
        self.refused("partition", "move", "two", "7", "--to", "1", *self.to(1), says=["no such partition"])
        self.refused("partition", "move", "none", "0", "--to", "1", *self.to(1), says=["no such partition"])
        self.assertIn("no replicas", self.good("partition", "list", "--moving", *self.to(2)).out)
        moved = self.good(*move, "--to", f"{third},{first}", "--wait", "--json", *self.to(2)).document()
        self.assertEqual(moved, [{"topic": "two", "partition": 0, "replicas": [third, first], "state": "moved"}])
        until(5, lambda: self.listed(3, "two")[0]["replicas"] == [third, first], self.all)
        self.assertEqual(self.moving(1), [])
        # To one that is down: that does not end by itself.
        self.running[second][0].kill()
        self.assertIn("on its way", self.good(*move, "--to", f"{first},{second}", *self.to(first)).out)
        self.assertEqual(self.moving(first), [{"topic": "two", "partition": 0, "replicas": [first, second, third],
                                               "adding": [second], "removing": [third]}])
        self.assertIn("removing", self.good("partition", "list", "two", "--moving", *self.to(first)).out)
        late = pyralog(*move, "--to", f"{first},{second}", "--wait", "--timeout", "2s", *self.to(first))
        self.assertEqual(late.code, 1, late)
        self.assertIn("partition list --moving", late.err)
        self.assertIn("still moving", late.err)
        self.good(*move, "--cancel", "--wait", *self.to(third))
        self.assertEqual(self.moving(third), [])

    def test_a_node_is_drained_or_says_what_cannot_leave(self):
        for words, code, says in [
                (("x",), 2, ['"x"']), (("3", "--cancel", "--wait"), 2, ["--cancel stands alone"]),
                (("9",), 1, ["node 9", "no such node"]), (("9", "--status"), 1, ["node 9"])]:
            with self.subTest(words):
                self.refused("cluster", "drain", *words, *self.to(1), code=code, says=says)
        self.good("topic", "create", "two", "--partitions", "4", "--replication-factor", "2", *self.to(1))
        asked = self.good("cluster", "drain", "3", "--status", "--json", *self.to(2)).document()
        self.assertEqual((asked["draining"], asked["done"], asked["stuck"]), (False, False, 3))
        self.refused("cluster", "drain", "3", "--wait", *self.to(2), says=["3 partitions cannot leave it", "; add a node"])
        until(10, lambda: not any(3 in each["replicas"] for each in self.listed(1, "two")), self.all)
        for partition in range(3):
            self.good("partition", "move", "orders", str(partition), "--to", "1,2", *self.to(1))
        said = self.good("cluster", "drain", "3", "--wait", *self.to(1)).out
        self.assertIn("node 3: drained", said)
        self.assertFalse(any(3 in each["replicas"] for each in self.listed(1)))
        self.refused("partition", "move", "two", "0", "--to", "1,3", *self.to(1), says=["draining"])
        self.assertIn("holds nothing", self.good("cluster", "drain", "3", "--cancel", *self.to(2)).out)
        self.good("partition", "move", "two", "0", "--to", "3,1", "--wait", *self.to(1))


    def test_nodes_come_go_and_come_back_with_another_disk(self):
        at = f"127.0.0.1:{brokers.quiet_port()}"
        for words, code, says in ((("add", "4"), 2, ["ID@HOST:PORT"]), (("add", f"1@{at}"), 1, ["node 1", "already"]),
                                  (("remove", "x"), 2, ["no node's id"]), (("remove", "9"), 1, ["node 9"]),
                                  (("remove", "1"), 1, ["node 1", "drain it first"]),
                                  (("replace-disk", "x"), 2, ["no node's id"]),
                                  (("replace-disk", "2"), 1, ["node 2", "stop it first"])):
            with self.subTest(words):
                self.refused("cluster", *words, *self.to(1), code=code, says=says)
        told = self.good("cluster", "add", f"4@{at}", "--json", *self.to(2)).document()
        self.assertEqual((told["node"], told["state"]), (4, "invited"))
        self.assertIn(f"--node-id 4 --cluster {self.members} --peer {at} ", told["start"])
        self.assertIn("node 4 may come", self.good("cluster", "add", f"4@{at}", *self.to(1)).out)
        self.running[4] = self.run_node(4, more=("--peer", at))
        self.kafka[4] = self.ready(4)
        self.assertIn("already", self.good("cluster", "add", f"4@{at}", *self.to(4)).out)
        self.good("partition", "move", "orders", "0", "--to", "4,1,2", "--wait", *self.to(3))
        # The third is lost, and comes back empty.
        self.running[3][0].kill()
        self.running[3][0].wait()
        time.sleep(2)  # the others see it at once, or by its silence
        told = self.good("cluster", "replace-disk", "3", "--json", *self.to(1)).document()
        self.assertEqual(told, {"node": 3, "state": "expected"})
        (self.folder / "node-3").rename(self.folder / "old-3")
        self.running[3] = self.run_node(3)
        self.kafka[3] = self.ready(3)
        until(30, lambda: all(3 in each["in_sync"] for each in self.listed(1, "orders") if 3 in each["replicas"]),
              self.all)
        self.good("partition", "move", "orders", "0", "--to", "1,2,3", "--wait", *self.to(3))
        self.assertIn("none of the cluster", self.good("cluster", "remove", "4", *self.to(1)).out)
        log = self.running[4][1]
        until(20, lambda: "cluster.not_wanted" in log.read_text(), log.read_text)


class Serve(NodesTest):
    def test_what_is_said_of_a_cluster_by_halves_is_refused(self):
        loose = self.write("loose", "0123456789abcdef\n")
        loose.chmod(0o644)
        for mode, text in ((0o600, ""), (0o600, "short\n")):
            path = self.write(f"bad-{len(text)}", text)
            path.chmod(mode)
        without = self.words(1)
        del without[7:9]
        lonely = self.words(1)
        del lonely[5:7]
        for words, says in [
                (self.words(4), ["cluster.members does not name node 4", "node.id"]),
                (self.words(1, members="1@127.0.0.1:1,1@127.0.0.1:2"), ["--cluster", "node 1 is named twice"]),
                (self.words(1, members="1@127.0.0.1:1,2@127.0.0.1:1"), ["nodes 1 and 2", "127.0.0.1:1"]),
                (self.words(1, members="127.0.0.1:1"), ["--cluster", "ID@HOST:PORT"]),
                (self.words(0), ["--node-id", "1 to 2147483647"]),
                (without, ["cluster.members without cluster.secret.file"]),
                (lonely, ["cluster.secret.file without cluster.members"]),
                (self.words(1, members="1@10.9.8.7:1"), ["listener peer 10.9.8.7:1", "--allow-insecure"]),
                (self.words(1, secret=loose), [str(loose), "chmod 600"]),
                (self.words(1, secret=self.folder / "absent"), ["absent", "No such file"]),
                (self.words(1, secret=self.folder / "bad-0"), ["is empty"]),
                (self.words(1, secret=self.folder / "bad-6"), ["5 bytes, fewer than 16"])]:
            with self.subTest(says):
                checked = ["config", "check", *words[1:]]
                self.assertEqual(self.refused(*words, code=2, says=says).err,
                                 self.refused(*checked, code=2, says=says).err)
        self.assertFalse(any(self.folder.glob("node-*")), "nothing is made")

    def test_a_node_with_another_secret_is_not_let_in(self):
        other = self.write("other", "another secret, as long as one has to be\n")
        other.chmod(0o600)
        first, first_log = self.run_node(1)
        _, log = self.run_node(2, secret=other)
        until(20, lambda: "secret" in log.read_text() or "secret" in first_log.read_text(),
              lambda: log.read_text() + first_log.read_text())
        self.assertIsNone(first.poll(), "it waits for a majority")
        for text in (log.read_text(), first_log.read_text()):
            self.assertNotIn("0123456789abcdef", text)
            self.assertNotIn("another secret", text)
        self.assertNotIn("server.started", first_log.read_text())
        # A start that waits for others can be ended.
        first.send_signal(signal.SIGTERM)
        self.assertEqual(first.wait(15), 0)

    def test_a_directory_stays_what_it_is(self):
        members = self.members.split(",")[0]
        process, log = self.run_node(1, members=members)
        self.assertRegex(process.stdout.readline(), "^ready ", log.read_text())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(15), 0)
        data = self.folder / "node-1"
        alone = ["serve", "--data-dir", data, "--kafka", "127.0.0.1:0"]
        self.refused(*alone, says=["is that of a node of a cluster", "--cluster-secret-file"])
        self.refused(*alone, "--cluster-secret-file", self.secret, code=2, says=["--peer HOST:PORT"])
        with_secret = ["--cluster-secret-file", str(self.secret), "--peer", members.split("@")[1]]
        self.refused(*alone, "--node-id", "2", *with_secret, says=["belongs to node 1, not 2", "node.id"])
        server = brokers.Pyralog(BINARY, with_secret, folder=self.folder)
        (self.folder / "node-1").rename(self.folder / "data")
        self.addCleanup(server.stop)
        server.start()
        self.assertEqual(get(server.http, "/status")[1]["cluster"]["controller"], 1)
        server.stop()
        self.refused("serve", "--data-dir", self.folder / "fresh", "--kafka", "127.0.0.1:0", *with_secret,
                     says=["is no cluster's"])

    def test_a_lone_nodes_directory_becomes_a_cluster_for_good(self):
        lone = self.server(folder=self.folder / "lone")
        self.good("topic", "create", "kept", "--bootstrap", lone.bootstrap)
        lone.stop()
        with_secret = ["--cluster-secret-file", str(self.secret), "--peer", self.members.split(",")[0].split("@")[1]]
        server = brokers.Pyralog(BINARY, with_secret, folder=self.folder / "lone")
        self.addCleanup(server.stop)
        server.start()
        self.assertEqual(get(server.http, "/status")[1]["cluster"]["controller"], 1)
        self.assertIn("kept", self.good("topic", "list", "--bootstrap", server.bootstrap).out)
        server.stop()
        self.refused("serve", "--data-dir", self.folder / "lone" / "data", "--kafka", "127.0.0.1:0",
                     says=["is that of a node of a cluster", "--cluster-secret-file"])

    def test_a_start_that_waits_for_others_tells_of_it(self):
        port = brokers.quiet_port()
        words = self.words(1)
        words[words.index("--http") + 1] = f"127.0.0.1:{port}"
        process = subprocess.Popen([BINARY, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   stdin=subprocess.DEVNULL, text=True, env=environment())
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        brokers.await_port(port, process, 20)
        http = f"127.0.0.1:{port}"
        self.assertEqual(get(http, "/live")[0], 200)
        self.assertEqual(get(http, "/ready")[0], 503)
        health = until(10, lambda: "waits_for" in get(http, "/health")[1] and get(http, "/health"), "no reason")
        self.assertEqual((health[0], health[1]["status"]), (503, "starting"))
        self.assertIn("majority", health[1]["waits_for"])
        self.assertIn(self.members, health[1]["waits_for"])
        self.refused("cluster", "status", "--http", http, says=["waits for agreement of a majority"])
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(15), 0)
        self.assertEqual(process.stdout.read(), "")


if __name__ == "__main__":
    command.main()
