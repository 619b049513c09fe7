#!/usr/bin/env python3
"""Every subcommand against a real server: as text, with --json, and where it must fail."""

import os
import shutil
import signal
import subprocess
import time
import unittest

import command
from command import BINARY, CommandTest, brokers, environment, pyralog

# Filled by the tests below; the last test compares it with the table of commands.
ANSWERED_IN_TEXT, ANSWERED_IN_JSON = set(), set()


def family_and_word(words):
    known = {each["command"] for each in pyralog("--json").document()}
    for size in (2, 1):
        path = " ".join(map(str, words[:size]))
        if path in known:
            return path
    return None


class Commands(CommandTest):
    def setUp(self):
        super().setUp()
        self.at = self.server().bootstrap

    def both(self, *words, **options):
        """Runs it as text and with --json; returns (text, documents)."""
        text = self.good(*words, **options)
        answer = self.good(*words, "--json", **options)
        ANSWERED_IN_TEXT.add(family_and_word(words))
        ANSWERED_IN_JSON.add(family_and_word(words))
        return text.out, answer.documents()

    def client(self, *words, **options):
        return self.good(*words, "--bootstrap", self.at, **options)

    def test_topics(self):
        where = ("--bootstrap", self.at)
        self.assertEqual(self.client("topic", "create", "a").out, "created topic a\n")
        made = self.client("topic", "create", "b", "--partitions", 3, "--replication-factor", 1,
                           "--config", "retention.ms=86400000", "--config", "durability=os", "--json")
        self.assertEqual(made.document(), {"topic": "b", "done": "created"})
        text, documents = self.both("topic", "create", "b", "--if-not-exists", *where)
        self.assertEqual((text, documents), ("found topic b\n", [{"topic": "b", "done": "found"}]))
        text, (topics,) = self.both("topic", "list", *where)
        self.assertEqual(text, "a  partitions 1  replicas 1\nb  partitions 3  replicas 1\n")
        self.assertEqual([(t["topic"], t["partitions"]) for t in topics], [("a", 1), ("b", 3)])
        text, (b,) = self.both("topic", "describe", "b", *where)
        self.assertIn("retention.ms = 86400000", text)
        self.assertEqual(b["config"], {"retention.ms": "86400000", "durability": "os"})
        self.assertEqual([p["partition"] for p in b["partitions"]], [0, 1, 2])
        self.both("topic", "alter", "b", "--config", "durability=fsync", "--delete-config",
                  "retention.ms", *where)
        self.client("topic", "alter", "b", "--partitions", 5)
        b = self.client("topic", "describe", "b", "--json").document()
        self.assertEqual(b["config"], {"durability": "fsync"})
        self.assertEqual(len(b["partitions"]), 5)
        everything = self.client("topic", "describe", "b", "--all", "--json").document()
        self.assertEqual(everything["config"]["retention.ms"], "604800000")
        self.assertEqual(self.client("topic", "delete", "a").out, "deleted topic a\n")
        self.assertEqual(self.client("topic", "delete", "b", "--json").documents(),
                         [{"topic": "b", "done": "deleted"}])
        ANSWERED_IN_TEXT.add("topic delete")
        ANSWERED_IN_JSON.add("topic delete")
        self.assertEqual(self.client("topic", "list").out, "")

    def test_topics_that_cannot_be(self):
        where = ("--bootstrap", self.at)
        self.client("topic", "create", "a")
        self.refused("topic", "create", "a", *where, says=['topic "a"', "exists already", "choose"])
        self.refused("topic", "create", "no/slash", *where, says=["no/slash", "a-z A-Z 0-9"])
        self.refused("topic", "create", "b", "--replication-factor", 5, *where,
                     says=["replication factor 5", "lower it"])
        self.refused("topic", "create", "b", "--config", "x.y=1", *where, says=["x.y"])
        self.refused("topic", "create", "b", "--config", "compression.type=gzip", *where,
                     says=["compression.type", "producer"])
        self.refused("topic", "create", "b", "--config", "min.insync.replicas=2", *where,
                     says=["min.insync.replicas"])
        self.refused("topic", "create", "b", "--partitions", 0, *where, code=2, says=["--partitions"])
        self.refused("topic", "create", "b", "--config", "novalue", *where, code=2, says=["KEY=VALUE"])
        self.refused("topic", "create", *where, code=2, says=["NAME"])
        self.refused("topic", "describe", "b", *where, says=['topic "b"', "no such topic"])
        self.refused("topic", "alter", "b", "--partitions", 3, *where, says=['"b"'])
        self.refused("topic", "alter", "a", "--partitions", 1, *where, says=["has 1 partitions"])
        self.refused("topic", "alter", "a", "--config", "durability=memory", *where,
                     says=["cannot change to memory", "create another"])
        self.refused("topic", "alter", "a", *where, code=2, says=["nothing to change"])
        gone = self.refused("topic", "delete", "b", "a", *where, says=['"b"'])
        self.assertEqual(gone.out, "deleted topic a\n")
        self.assertEqual(self.client("topic", "list").out, "")

    def test_produce_and_consume(self):
        where = ("--bootstrap", self.at)
        self.client("topic", "create", "t")
        lines = b"ada:first\ngrace:second\nada:\nlinus:a:b\nplain\n"
        self.assertEqual(self.client("produce", "t", "--key-separator", ":", given=lines).out, "")
        sent = self.write("sent", "from a file, without an end of line")
        answer = self.good("produce", "t", "--file", sent, "--codec", "zstd", "--acks", "1",
                           "--header", "h=v", "--json", *where).document()
        self.assertEqual((answer["records"], answer["acknowledged"], answer["failed"]), (1, 1, 0))
        ANSWERED_IN_TEXT.add("produce")
        ANSWERED_IN_JSON.add("produce")
        all_of_it = ("consume", "t", "--from", "beginning", "--until-end", *where)
        text, documents = self.both(*all_of_it)
        self.assertEqual(text, "first\nsecond\n\na:b\nplain\nfrom a file, without an end of line\n")
        self.assertEqual([d["key"] for d in documents],
                         ["ada", "grace", "ada", "linus", None, None])
        self.assertEqual([d["offset"] for d in documents], list(range(6)))
        self.assertEqual(documents[5]["headers"], [{"name": "h", "value": "v"}])
        formatted = self.good(*all_of_it, "--format", "%t/%p/%o %k=%s|%h\\n")
        self.assertEqual(formatted.out.splitlines()[0], "t/0/0 ada=first|")
        self.assertEqual(formatted.out.splitlines()[5],
                         "t/0/5 =from a file, without an end of line|h=v")

    def test_progress_says_the_rate(self):
        ran = self.client("produce", "t", "--progress", given=b"a\nb\n")
        self.assertRegex(ran.err, r"2 read, 2 acknowledged, 0\.0 MB, \d+ records/s")
        self.assertEqual(ran.out, "")

    def test_consume_begins_where_it_is_told(self):
        self.client("topic", "create", "t")
        before = int(time.time() * 1000) - 60_000
        self.client("produce", "t", given=b"0\n1\n2\n3\n")

        def read(*words):
            return self.client("consume", "t", "--until-end", *words).out.split()

        self.assertEqual(read("--from", "beginning"), ["0", "1", "2", "3"])
        self.assertEqual(read(), [])
        self.assertEqual(read("--from", "end"), [])
        self.assertEqual(read("--from", "2"), ["2", "3"])
        self.assertEqual(read("--from", "99"), [])
        self.assertEqual(read("--from", f"@{before}"), ["0", "1", "2", "3"])
        self.assertEqual(read("--from", f"@{before + 3_600_000}"), [])
        self.assertEqual(read("--from", "2020-01-01"), ["0", "1", "2", "3"])
        self.assertEqual(read("--from", "1", "--count", "2"), ["1", "2"])
        self.assertEqual(read("--from", "1", "--partition", "0"), ["1", "2", "3"])
        where = ("--bootstrap", self.at)
        self.refused("consume", "t", "--from", "never", *where, code=2, says=["--from", "never"])
        self.refused("consume", "t", "--format", "%z", *where, code=2, says=["%z"])
        self.refused("consume", "t", "--partition", 7, *where, says=["no partition 7"])
        self.refused("consume", "nothing", *where, says=['topic "nothing"', "create it"])

    def test_consume_waits_for_what_comes_and_ends_at_a_signal(self):
        self.client("topic", "create", "t")
        reading = subprocess.Popen([BINARY, "consume", "t", "--bootstrap", self.at, "--from",
                                    "beginning"], stdout=subprocess.PIPE, text=True,
                                   env=environment())
        self.addCleanup(reading.stdout.close)
        self.addCleanup(reading.kill)
        self.client("produce", "t", given=b"late\n")
        self.assertEqual(reading.stdout.readline(), "late\n")
        reading.send_signal(signal.SIGINT)
        self.assertEqual(reading.wait(15), 0)

    def test_groups(self):
        where = ("--bootstrap", self.at)
        self.client("topic", "create", "t")
        self.client("produce", "t", given=b"0\n1\n2\n")
        self.assertEqual(self.client("consume", "t", "--group", "g", "--count", 2).out, "0\n1\n")
        text, (groups,) = self.both("group", "list", *where)
        self.assertEqual(text, "g  Empty\n")
        self.assertEqual(groups, [{"group": "g", "state": "Empty", "type": "consumer"}])
        text, (g,) = self.both("group", "describe", "g", *where)
        self.assertIn("t-0  offset 2  end 3  lag 1", text)
        self.assertEqual(g["offsets"],
                         [{"topic": "t", "partition": 0, "offset": 2, "end": 3, "lag": 1}])
        # The group goes on where it was, whatever --from says.
        rest = self.client("consume", "t", "--group", "g", "--from", "beginning", "--until-end")
        self.assertEqual(rest.out, "2\n")
        self.both("group", "reset", "g", "--topic", "t", "--to", "earliest", *where)
        self.client("group", "delete-offsets", "g", "--topic", "t")
        self.client("group", "reset", "g", "--topic", "t", "--to", "offset", 1, "--execute")
        self.client("group", "delete-offsets", "g", "--topic", "t:0", "--json").document()
        self.client("group", "delete", "g")
        self.client("group", "reset", "g", "--topic", "t", "--to", "latest", "--execute")
        self.client("group", "delete", "g", "--json").document()
        for answered in (ANSWERED_IN_TEXT, ANSWERED_IN_JSON):
            answered.update(("group delete", "group delete-offsets"))
        self.refused("group", "describe", "nobody", *where, says=['group "nobody"', "no such group"])
        self.refused("consume", "t", "--group", "g", "--from", "3", *where, code=2, says=["--from"])

    def test_bootstrap_names_several_servers_and_comes_from_the_environment(self):
        self.client("topic", "create", "t")
        nobody = f"127.0.0.1:{brokers.free_port()}"
        several = self.good("topic", "list", "--bootstrap", f"{nobody},{self.at}")
        self.assertIn("t  partitions 1", several.out)
        by_name = self.good("topic", "list", env={"PYRALOG_BOOTSTRAP": self.at})
        self.assertEqual(by_name.out, several.out)
        self.refused("topic", "list", "--bootstrap", nobody, "--timeout", "1s",
                     says=[nobody, "is the server running?"])
        self.refused("topic", "list", "--bootstrap", "nowhere", code=2, says=["HOST:PORT"])
        self.refused("topic", "list", "--timeout", "soon", code=2, says=["--timeout"])

    def test_log_tools(self):
        broker = self.server(folder=self.folder / "other")
        where = ("--bootstrap", broker.bootstrap)
        self.good("topic", "create", "t", *where)
        self.good("produce", "t", *where, given=b"0\n1\n2\n")
        data = self.folder / "other" / "data"
        for tool in ("inspect", "verify", "repair"):
            self.refused("log", tool, data, says=[str(data), "a server has it open"])
        broker.process.send_signal(signal.SIGTERM)
        self.assertEqual(broker.process.wait(15), 0)
        text, (reports,) = self.both("log", "inspect", data)
        self.assertIn("offsets 0 to 3", text)
        self.assertEqual([(r["start"], r["end"], r["sound"]) for r in reports], [(0, 3, True)])
        partition = next(path for path in data.iterdir() if path.is_dir())
        headers = self.good("log", "inspect", partition, "--batches", "--json").document()
        self.assertEqual(headers[0]["segments"][0]["headers"][0]["base_offset"], 0)
        self.both("log", "verify", data)
        self.both("log", "repair", partition, "--dry-run")
        segment = next(partition.glob("*.log"))
        whole = segment.read_bytes()
        segment.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        found = self.refused("log", "verify", data, says=["1 of 1 partitions", "pyralog log repair"])
        self.assertIn("DAMAGE", found.out)
        segment.write_bytes(whole)
        self.good("log", "verify", data)
        self.refused("log", "inspect", self.folder, says=[str(self.folder), "no partitions"])
        self.refused("log", "inspect", self.folder / "absent", says=["absent"])

    def test_repair_of_many(self):
        """A partition that is left as it is keeps no other from being looked at."""
        broker = self.server(folder=self.folder / "many")
        where = ("--bootstrap", broker.bootstrap)
        self.good("topic", "create", "t", "--partitions", 3, *where)
        for key in range(30):
            self.good("produce", "t", "--key-separator", ":", *where, given=f"{key}:v\n".encode())
        data = self.folder / "many" / "data"
        broker.process.send_signal(signal.SIGTERM)
        self.assertEqual(broker.process.wait(15), 0)
        damaged = sorted(path for path in data.iterdir() if path.is_dir())[:2]
        for partition in damaged:
            segment = next(partition.glob("*.log"))
            whole = segment.read_bytes()
            segment.write_bytes(whole[:70] + bytes([whole[70] ^ 1]) + whole[71:])
        (reports,) = self.refused("log", "repair", data, "--json",
                                  says=["2 of 3 partitions were left"]).documents()
        self.assertEqual([("error" in r, r.get("sound")) for r in reports],
                         [(True, None), (True, None), (False, True)])
        shown = self.refused("log", "repair", data, says=["2 of 3 partitions were left"]).out
        for partition in damaged:
            self.assertIn(partition.name, shown)
        self.good("log", "repair", data, "--below-synced")
        self.good("log", "verify", data)

    def test_ids(self):
        ids = self.folder / "ids"
        first = int(self.good("id", "next", "--file", ids).out)
        again = int(self.good("id", "next", "--file", ids, "--json").document()[0])
        batch = self.good("id", "batch", "--file", ids, "--count", 1000, "--json").document()
        lines = self.good("id", "batch", "--file", ids, "--count", 5).out.split()
        everything = [first, again, *map(int, batch), *map(int, lines)]
        self.assertEqual(len(everything), 1007)
        self.assertEqual(sorted(set(everything)), everything)
        ANSWERED_IN_TEXT.update(("id next", "id batch"))
        ANSWERED_IN_JSON.update(("id next", "id batch"))
        text, (seen,) = self.both("id", "inspect", "--file", ids)
        self.assertIn("nothing issued at or above", text)
        self.assertEqual(seen["machine"], 0)
        parts = self.good("id", "inspect", first, "--json").document()
        self.assertEqual(parts["id"], str(first))
        self.assertLess(abs(parts["unix_ms"] - time.time() * 1000), 600_000)
        counter = self.folder / "counter"
        numbers = self.good("id", "batch", "--file", counter, "--counter", "--mode", "strict",
                            "--count", 3).out.split()
        self.assertEqual([int(n) - int(numbers[0]) for n in numbers], [0, 1, 2])
        self.refused("id", "next", code=2, says=["--file"])
        self.refused("id", "inspect", code=2, says=["--file FILE or an ID"])
        self.refused("id", "inspect", "12x", code=2, says=["12x"])
        self.refused("id", "next", "--file", ids, "--machine", 1024, code=2, says=["0 to 1023"])
        self.refused("id", "inspect", "--file", self.write("junk", "junk"), says=["junk"])
        self.refused("id", "inspect", "--file", self.folder / "absent", says=["absent"])

    def test_version_help_and_five_lines(self):
        text, (seen,) = self.both("version")
        self.assertIn(seen["version"], text)
        self.assertEqual(self.good("--version").out, text)
        self.assertEqual(self.good().out.count("\n"), 5)
        self.assertEqual(self.good("help").out, self.good("--help").out)
        self.refused("frobnicate", code=2, says=["frobnicate", "--help"])
        self.refused("topc", "list", code=2, says=["`pyralog topic`"])
        self.refused("topic", "create", "t", "--partition", 3, code=2,
                     says=["did you mean --partitions?"])

    def test_completion(self):
        table = pyralog("--json").document()
        for shell in ("bash", "zsh", "fish"):
            text, (answer,) = self.both("completion", shell)
            self.assertEqual(answer["script"], text)
            parser = shutil.which("bash" if shell != "fish" else "fish")
            if parser:
                script = self.write(shell, text)
                parsed = subprocess.run([parser, "-n", script], capture_output=True, timeout=20)
                self.assertEqual((parsed.returncode, parsed.stderr), (0, b""), shell)
        self.refused("completion", "tcsh", code=2, says=["tcsh"])
        script = self.folder / "bash"

        def offered(*words):
            asked = " ".join(f"'{word}'" for word in ("pyralog", *words))
            run = subprocess.run(
                ["bash", "-c", f". {script}; COMP_WORDS=({asked}); COMP_CWORD={len(words)}; _pyralog;"
                 ' printf "%s\\n" "${COMPREPLY[@]}"'], capture_output=True, text=True, timeout=20)
            self.assertEqual((run.returncode, run.stderr), (0, ""))
            return run.stdout.split()

        self.assertEqual(set(offered("")),
                         {each["command"].split()[0] for each in table} | {"help", "--help"})
        self.assertEqual(offered("ser"), ["serve"])
        self.assertEqual(set(offered("topic", "")),
                         {"create", "list", "describe", "alter", "delete", "--help"})
        self.assertEqual(offered("group", "reset", "g", "--to", "e"), ["earliest"])
        self.assertEqual(offered("topic", "create", "t", "--par"), ["--partitions"])
        self.assertEqual(offered("produce", "t", "--codec", "z"), ["zstd"])
        for each in table:
            options = set(offered(*each["command"].split(), "--"))
            self.assertEqual(options, {o["name"] for o in each["options"]} | {"--json", "--help"},
                             each["command"])

    def test_man_page(self):
        text, (answer,) = self.both("man")
        self.assertEqual(answer["page"], text)
        self.assertTrue(text.startswith(".TH PYRALOG 1"))
        if not shutil.which("groff"):
            return
        page = self.write("pyralog.1", text)
        shown = subprocess.run(["groff", "-man", "-ww", "-Tascii", "-P-cbou", page],
                               capture_output=True, text=True, timeout=30)
        self.assertEqual((shown.returncode, shown.stderr), (0, ""))
        for each in pyralog("--json").document():
            self.assertIn("pyralog " + each["command"], shown.stdout)
        if shutil.which("man"):
            shown = subprocess.run(["man", "-l", page], capture_output=True, timeout=30,
                                   env=dict(os.environ, MANPAGER="cat", LC_ALL="C.UTF-8"))
            self.assertEqual(shown.returncode, 0, shown.stderr)

    def test_config(self):
        text, (answer,) = self.both("config", "check")
        self.assertIn("the settings are fine", text)
        self.assertTrue(answer["ok"])
        text, (rows,) = self.both("config", "reference")
        self.assertEqual([row["key"] for row in rows], list(answer["settings"]))
        self.assertIn("data_dir = ./data", text)
        page = self.good("config", "reference", "--markdown").out
        for row in rows:
            self.assertIn(f"| `{row['key']}` | ", page)


class Table(unittest.TestCase):
    """Runs last: unittest takes classes in the order in which they are here."""

    def test_every_command_has_answered_in_text_and_in_json(self):
        table = {each["command"] for each in pyralog("--json").document()}
        # cli_lifecycle.py, cli_doctor.py, cli_bench.py, cli_cluster.py
        elsewhere = {"serve", "doctor", "bench produce", "bench consume", "bench latency", "dev cluster",
                     "cluster status", "cluster rebalance", "cluster drain", "cluster add", "cluster remove",
                     "cluster replace-disk", "partition list", "partition move",
                     "ids next", "counter next"}
        self.assertEqual(table - ANSWERED_IN_TEXT, elsewhere)
        self.assertEqual(table - ANSWERED_IN_JSON, elsewhere)


def load_tests(loader, *_):
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (Commands, Table))


if __name__ == "__main__":
    command.main()
