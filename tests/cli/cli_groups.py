#!/usr/bin/env python3
"""Groups as an administrator changes them: resetting and deleting, with the real binary."""

import subprocess
import time

import command
from command import BINARY, CommandTest, environment

GOES_ON = ("--to", "latest")


class Groups(CommandTest):
    def setUp(self):
        super().setUp()
        self.at = self.server().bootstrap
        self.client("topic", "create", "t", "--partitions", 2)
        for partition, count in ((0, 5), (1, 3)):
            self.client("produce", "t", "--partition", partition,
                        given="".join(f"{n}\n" for n in range(count)).encode())

    def client(self, *words, **options):
        return self.good(*words, "--bootstrap", self.at, **options)

    def fails(self, *words, **options):
        return self.refused(*words, "--bootstrap", self.at, **options)

    def offsets(self, group):
        """{(topic, partition): offset} as the group has them."""
        found = self.client("group", "describe", group, "--json").document()["offsets"]
        return {(each["topic"], each["partition"]): each["offset"] for each in found}

    def read(self, group):
        self.client("consume", "t", "--group", group, "--until-end")

    def reset(self, *words, group="g"):
        """The new offsets of t by partition, from the command's plan."""
        answer = self.client("group", "reset", group, *words, "--json").document()
        self.assertEqual(answer["group"], group)
        self.assertEqual(answer["executed"], "--execute" in words)
        return {each["partition"]: each["new_offset"] for each in answer["offsets"]}

    def member(self, group):
        """A member that stays until the test's end, or until it is ended."""
        reading = subprocess.Popen([BINARY, "consume", "t", "--group", group, "--bootstrap", self.at,
                                    "--from", "beginning"], stdout=subprocess.PIPE, text=True,
                                   env=environment())
        self.addCleanup(reading.stdout.close)
        self.addCleanup(reading.wait, 15)
        self.addCleanup(reading.terminate)
        deadline = time.monotonic() + 30
        while True:
            ran = command.pyralog("group", "describe", group, "--json", "--bootstrap", self.at)
            if ran.code == 0 and ran.document()["state"] == "Stable":
                return reading
            self.assertLess(time.monotonic(), deadline, "the member never joined")
            time.sleep(0.05)

    def test_a_plan_changes_nothing_until_it_is_carried_out(self):
        self.read("g")
        for words in ((), ("--dry-run",)):
            shown = self.client("group", "reset", "g", "--topic", "t", "--to", "earliest", *words).out
            self.assertIn("nothing changes without --execute", shown)
            self.assertIn("t-0  offset 5  new 0  of 0 to 5", shown)
            self.assertEqual(self.offsets("g"), {("t", 0): 5, ("t", 1): 3})
        done = self.client("group", "reset", "g", "--topic", "t", "--to", "earliest", "--execute").out
        self.assertIn("offsets are reset", done)
        self.assertEqual(self.offsets("g"), {("t", 0): 0, ("t", 1): 0})
        again = self.client("consume", "t", "--group", "g", "--until-end").out
        self.assertEqual(len(again.split()), 8)

    def test_every_place_that_offsets_go_to(self):
        self.read("g")
        every = ("--topic", "t")
        self.assertEqual(self.reset(*every, "--to", "earliest"), {0: 0, 1: 0})
        self.assertEqual(self.reset(*every, "--to", "latest"), {0: 5, 1: 3})
        self.assertEqual(self.reset(*every, "--to", "offset", 4), {0: 4, 1: 3})
        self.assertEqual(self.reset("--topic", "t:1", "--to", "offset", 1), {1: 1})
        self.assertEqual(self.reset("--topic", "t:0", "--topic", "t:1", "--to", "shift", -1),
                         {0: 4, 1: 2})
        self.assertEqual(self.reset("--all-topics", "--to", "shift", -4), {0: 1, 1: 0})
        self.assertEqual(self.reset("--topic", "t:0,1", "--to", "shift", 9), {0: 5, 1: 3})
        old, new = "2020-01-01T00:00:00Z", int(time.time() * 1000) + 3_600_000
        self.assertEqual(self.reset(*every, "--to", "timestamp", old), {0: 0, 1: 0})
        self.assertEqual(self.reset(*every, "--to", "timestamp", new), {0: 5, 1: 3})
        nearest = self.client("group", "reset", "g", *every, "--to", "offset", 4, "--json").document()
        self.assertEqual([each["nearest"] for each in nearest["offsets"]], [False, True])
        self.assertEqual(self.offsets("g"), {("t", 0): 5, ("t", 1): 3})

    def test_a_time_between_records(self):
        time.sleep(0.02)
        between = int(time.time() * 1000)
        time.sleep(0.02)
        self.client("produce", "t", "--partition", 0, given=b"late\n")
        self.assertEqual(self.reset("--topic", "t", "--to", "timestamp", between, group="new"),
                         {0: 5, 1: 3})

    def test_a_group_is_made_by_its_first_reset(self):
        self.assertEqual(self.reset("--topic", "t:0", "--to", "offset", 2, "--execute", group="new"),
                         {0: 2})
        self.assertEqual(self.offsets("new"), {("t", 0): 2})

    def test_resets_that_cannot_be(self):
        self.fails("group", "reset", "nobody", "--all-topics", *GOES_ON,
                   says=['group "nobody"', "no committed offsets", "--topic"])
        self.fails("group", "reset", "nobody", "--topic", "t", "--to", "shift", 1,
                   says=['group "nobody"', 'topic "t" partition 0', "no committed offset to shift"])
        self.fails("group", "reset", "g", "--topic", "none", *GOES_ON, says=['topic "none"'])
        self.fails("group", "reset", "g", "--topic", "t:7", *GOES_ON, says=["no partition 7"])
        self.fails("group", "reset", "g", "--topic", "t", "--to", "soon", code=2, says=["--to", "soon"])
        self.fails("group", "reset", "g", *GOES_ON, code=2, says=["--topic", "--all-topics"])
        self.fails("group", "reset", "g", "--topic", "t", code=2, says=["--to"])

    def test_a_group_with_members_keeps_what_it_has(self):
        self.read("g")
        before = self.offsets("g")
        reading = self.member("g")
        for words in (("reset", "g", "--topic", "t", "--to", "earliest", "--execute"),
                      ("reset", "g", "--all-topics", "--to", "earliest")):
            self.fails("group", *words, says=['group "g"', "is Stable with 1 members", "stop them"])
        self.fails("group", "delete", "g", says=['group "g"', "still has members", "stop them"])
        self.fails("group", "delete-offsets", "g", "--topic", "t",
                   says=['group "g"', 'topic "t" partition 0', "members read the topic", "stop them"])
        self.assertEqual(self.offsets("g"), before)
        reading.terminate()
        reading.wait(15)
        self.reset("--topic", "t", "--to", "earliest", "--execute")
        self.assertEqual(self.offsets("g"), {("t", 0): 0, ("t", 1): 0})

    def test_groups_are_deleted_with_their_offsets(self):
        for group in ("a", "b", "c"):
            self.read(group)
        gone = self.fails("group", "delete", "a", "nobody", "b",
                          says=['group "nobody"', "no such group", "check the name"])
        self.assertEqual(gone.out, "deleted group a\ndeleted group b\n")
        self.assertEqual(self.client("group", "delete", "c", "--json").documents(),
                         [{"group": "c", "done": "deleted"}])
        self.assertEqual(self.client("group", "list").out, "")
        self.fails("group", "describe", "a", says=['group "a"', "no such group"])
        self.read("a")
        self.assertEqual(self.offsets("a"), {("t", 0): 5, ("t", 1): 3}, "it begins anew")

    def test_offsets_are_deleted_by_topic_and_partition(self):
        self.read("g")
        gone = self.client("group", "delete-offsets", "g", "--topic", "t:1", "--json").document()
        self.assertEqual(gone, {"group": "g", "done": "deleted offsets",
                                "offsets": [{"topic": "t", "partition": 1, "offset": 3}]})
        self.assertEqual(self.offsets("g"), {("t", 0): 5})
        self.fails("group", "delete-offsets", "g", "--topic", "t:1",
                   says=['group "g"', 'no committed offset of topic "t" partition 1', "group describe g"])
        self.fails("group", "delete-offsets", "g", "--topic", "none", says=['topic "none"'])
        self.fails("group", "delete-offsets", "nobody", "--topic", "t", says=['group "nobody"'])
        text = self.client("group", "delete-offsets", "g", "--topic", "t").out
        self.assertEqual(text, "group g: offsets are deleted\n  t-0  offset 5\n")
        self.assertEqual([g["group"] for g in self.client("group", "list", "--json").document()], ["g"])
        self.assertEqual(self.offsets("g"), {})


if __name__ == "__main__":
    command.main()
