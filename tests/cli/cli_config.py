#!/usr/bin/env python3
"""Config: TOML. The command line over the environment over the file over the default; an unknown key
or an impossible value refuses to start and names it, and then nothing has been touched."""

import re

import command
from command import CommandTest, pyralog

FILE = """
num.partitions = 2
[log]
level = "warn"
segment.bytes = "1MiB"
[max]
connections = 22
"""


class Config(CommandTest):
    def check(self, *words, **options):
        return self.good("config", "check", "--json", *words, **options).document()["settings"]

    def test_command_line_over_environment_over_file_over_default(self):
        file = self.write("pyralog.toml", FILE)
        environment = {"PYRALOG_NUM_PARTITIONS": "3", "PYRALOG_LOG_LEVEL": "error",
                       "PYRALOG_CONFIG": str(file)}
        expected = [
            # (words, environment, num.partitions, log.level, max.connections)
            ((), {}, "1", "info", "10000"),
            (("--config", file), {}, "2", "warn", "22"),
            ((), {"PYRALOG_CONFIG": str(file)}, "2", "warn", "22"),
            ((), environment, "3", "error", "22"),
            (("--num-partitions", "4"), environment, "4", "error", "22"),
            (("--num-partitions=4", "--num-partitions=5"), environment, "5", "error", "22"),
        ]
        for words, given, *values in expected:
            settings = self.check(*words, env=given)
            keys = ("num.partitions", "log.level", "max.connections")
            self.assertEqual([settings[key]["value"] for key in keys], values, words)
        settings = self.check("--num-partitions", "4", env=environment)
        self.assertEqual([settings[key]["origin"] for key in
                          ("num.partitions", "log.level", "max.connections", "shards")],
                         ["option --num-partitions", "environment variable PYRALOG_LOG_LEVEL",
                          f"{file}:7", "default"])
        self.assertEqual(settings["log.segment.bytes"]["value"], str(1 << 20))
        other = self.write("other.toml", "num.partitions = 9\n")
        self.assertEqual(self.check("--config", other, env=environment)["max.connections"]["value"],
                         "10000", "--config replaces the file that the environment names")

    def test_text_says_where_each_value_comes_from(self):
        file = self.write("pyralog.toml", FILE)
        said = self.good("config", "check", "--config", file, "--shards", "1").out
        self.assertIn(f"num.partitions = 2  ({file}:2)\n", said)
        self.assertIn("shards = 1  (option --shards)\n", said)
        self.assertNotIn("fetch.max.bytes", said)

    def refused_by_both(self, *words, says, env=None):
        """`config check` and `serve` refuse alike, and `serve` makes nothing."""
        said = self.refused("config", "check", *words, code=2, says=says, env=env)
        data = self.folder / "data"
        serve = self.refused("serve", "--data-dir", data, "--kafka", "127.0.0.1:0", *words, code=2,
                             says=says, env=env)
        self.assertEqual(re.sub(r"\bserve\b", "config check", serve.err), said.err)
        self.assertEqual(serve.out + said.out, "")
        self.assertFalse(data.exists())

    def test_an_unknown_key_is_refused_by_name(self):
        file = self.write("pyralog.toml", "\n\nnum.partition = 3\n")
        self.refused_by_both("--config", file,
                             says=[f"{file}:3", '"num.partition"', 'did you mean "num.partitions"?'])
        file.write_text("[server]\nfrobnicate = true\n")
        self.refused_by_both("--config", file, says=[f"{file}:2", '"server.frobnicate"',
                                                     "pyralog config reference"])
        self.refused_by_both(env={"PYRALOG_NUM_PARTITION": "3"},
                             says=["PYRALOG_NUM_PARTITION:", "did you mean PYRALOG_NUM_PARTITIONS?"])
        self.refused_by_both("--num-partition", "3", says=["did you mean --num-partitions?"])
        self.refused_by_both("--frobnicate", says=["--frobnicate"])

    def test_an_impossible_value_is_refused_by_name(self):
        file = self.folder / "pyralog.toml"
        for line, says in [
                ("num.partitions = 0", ["num.partitions", '"0"', "1 to 100000"]),
                ("num.partitions = -1", ["num.partitions"]),
                ("num.partitions = 1.5", ["num.partitions", "1.5"]),
                ("num.partitions = true", ["num.partitions", "true"]),
                ("num.partitions = [1]", ["num.partitions", "arrays"]),
                ("num.partitions = 99999999999999999999", [":1:"]),
                ("num.partitions = 1\nnum.partitions = 2", [":2:"]),
                ("num.partitions =", [":1:"]),
                ('durability = "sometimes"', ["durability", "os or fsync"]),
                ('log.segment.bytes = "1 parsec"', ["log.segment.bytes", "KiB"]),
                ('log.retention.ms = "99999999d"', ["log.retention.ms"]),
                ('listeners.kafka = "9092"', ["listeners.kafka", "HOST:PORT"]),
                ('listeners.kafka = "127.0.0.1:70000"', ["listeners.kafka"]),
                ('data_dir = ""', ["data_dir"]),
                ('message.max.bytes = "200MiB"', ["message.max.bytes", "max.request.bytes"])]:
            with self.subTest(line):
                file.write_text(line + "\n")
                self.refused_by_both("--config", file, says=[str(file), *says]
                                     if "max.request" not in line else says)
        self.refused_by_both("--shards", "257", says=["--shards", "0 to 256"])
        self.refused_by_both("--shards", "two", says=["--shards", '"two"'])
        self.refused_by_both("--log-level", "loud", says=["--log-level", "loud"])
        self.refused_by_both("--allow-insecure=perhaps", says=["--allow-insecure", "true or false"])
        self.refused_by_both(env={"PYRALOG_SHARDS": "-1"}, says=["PYRALOG_SHARDS", '"-1"'])

    def test_a_file_that_cannot_be_read_is_named(self):
        absent = self.folder / "absent.toml"
        self.refused_by_both("--config", absent, says=[str(absent), "No such file", "--config"])
        self.refused_by_both("--config", self.folder, says=[str(self.folder), "cannot be read"])
        self.refused_by_both(env={"PYRALOG_CONFIG": str(absent)}, says=[str(absent)])

    def test_variables_of_others_are_left_alone(self):
        self.check(env={"PYRALOG_SERVICE_HOST": "10.0.0.1", "PYRALOG_PORT": "tcp://10.0.0.1:9092",
                        "PYRALOG_BOOTSTRAP": "127.0.0.1:1", "PYRALOG_TEST_X": "1"})

    def test_the_server_obeys(self):
        file = self.write("pyralog.toml", 'num.partitions = 3\ndurability = "os"\n'
                                          'log.retention.ms = "1d"\nauto.create.topics.enable = false\n')
        broker = self.server("--config", str(file))
        where = ("--bootstrap", broker.bootstrap)
        self.refused("consume", "unmade", "--until-end", *where, says=["unmade"])
        self.good("topic", "create", "t", *where)

        def described(name):
            return self.good("topic", "describe", name, "--all", "--json", *where).document()

        t = described("t")
        self.assertEqual(len(t["partitions"]), 3)
        self.assertEqual((t["config"]["durability"], t["config"]["retention.ms"]), ("os", "86400000"))
        self.good("topic", "create", "own", "--config", "durability=fsync", *where)
        self.assertEqual(described("own")["config"]["durability"], "fsync")
        # Committed offsets are durable whatever the default is.
        self.good("produce", "t", "--partition", 0, given=b"x\n", *where)
        self.good("consume", "t", "--group", "g", "--count", 1, *where)
        self.assertEqual(described("__consumer_offsets")["config"]["durability"], "fsync")
        # Another start with another value changes it, one that is silent does not.
        for options, durability in ((["--durability", "fsync"], "fsync"), ([], "fsync")):
            broker.stop()
            broker = self.server(*options)
            where = ("--bootstrap", broker.bootstrap)
            self.assertEqual(described("t")["config"]["durability"], durability)
            self.assertEqual(described("t")["config"]["retention.ms"], "86400000")

    def test_config_check_warns_as_serve_would(self):
        open_door = ("--kafka", "0.0.0.0:0", "--advertise", "broker.example:9092", "--allow-insecure")
        self.assertIn("warning: listener kafka", self.good("config", "check", *open_door).out)
        answer = self.good("config", "check", *open_door, "--json").document()
        self.assertEqual(len(answer["warnings"]), 1)
        self.assertEqual(pyralog("config", "check", *open_door[:-1]).code, 2)


if __name__ == "__main__":
    command.main()
