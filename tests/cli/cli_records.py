#!/usr/bin/env python3
"""Records that are deleted while their topic stays, and settings that change, with the real binary."""

import time

import command
from command import CommandTest


class Records(CommandTest):
    def setUp(self):
        super().setUp()
        self.broker = self.server()
        self.client("topic", "create", "t", "--partitions", 2)
        for partition, count in ((0, 5), (1, 3)):
            self.produce(partition, count)

    def client(self, *words, **options):
        return self.good(*words, "--bootstrap", self.broker.bootstrap, **options)

    def fails(self, *words, **options):
        return self.refused(*words, "--bootstrap", self.broker.bootstrap, **options)

    def produce(self, partition, count, topic="t"):
        self.client("produce", topic, "--partition", partition,
                    given="".join(f"{n}\n" for n in range(count)).encode())

    def ends(self, topic="t"):
        parts = self.client("topic", "describe", topic, "--json").document()["partitions"]
        return [(p["start"], p["end"]) for p in parts]

    def delete(self, *words):
        """[(partition, deleted, start, end)]"""
        done = self.client("topic", "delete", "t", *words, "--json").document()
        self.assertEqual((done["topic"], done["done"]), ("t", "deleted records"))
        return [(p["partition"], p["deleted"], p["start"], p["end"]) for p in done["partitions"]]

    def test_records_before_an_offset_go_and_stay_gone(self):
        self.assertEqual(self.delete("--records-before", 2), [(0, 2, 2, 5), (1, 2, 2, 3)])
        self.assertEqual(self.ends(), [(2, 5), (2, 3)])
        self.assertEqual(self.delete("--records-before", 1), [(0, 0, 2, 5), (1, 0, 2, 3)])
        text = self.client("topic", "delete", "t", "--records-before", 4, "--partition", 0).out
        self.assertEqual(text, "deleted records of topic t\n  t-0  deleted 2  offsets 4 to 5\n")
        self.broker.process.kill()
        self.broker.process.wait()
        self.broker.start()
        self.assertEqual(self.ends(), [(4, 5), (2, 3)])
        left = self.client("consume", "t", "--from", "beginning", "--until-end", "--format", "%p/%o\\n")
        self.assertEqual(sorted(left.out.split()), ["0/4", "1/2"])

    def test_records_before_the_end(self):
        self.assertEqual(self.delete("--records-before", "end", "--partition", 1), [(1, 3, 3, 3)])
        self.assertEqual(self.delete("--records-before", "end"), [(0, 5, 5, 5), (1, 0, 3, 3)])
        self.produce(0, 1)
        self.assertEqual(self.ends(), [(5, 6), (3, 3)])

    def test_records_before_a_time(self):
        time.sleep(0.02)
        between = int(time.time() * 1000)
        time.sleep(0.02)
        self.assertEqual(self.delete("--records-before", "2020-01-01T00:00:00Z"),
                         [(0, 0, 0, 5), (1, 0, 0, 3)])
        self.produce(0, 2)
        self.assertEqual(self.delete("--records-before", f"@{between}"),
                         [(0, 5, 5, 7), (1, 3, 3, 3)])
        self.assertEqual(self.ends(), [(5, 7), (3, 3)])

    def test_deletions_that_cannot_be(self):
        before = ("topic", "delete", "t", "--records-before")
        self.fails(*before, 4, says=['topic "t" partition 1', "ends at 3", "--partition"])
        self.assertEqual(self.ends(), [(0, 5), (0, 3)], "all or nothing")
        self.fails(*before, 6, "--partition", 0, says=['topic "t" partition 0', "ends at 5"])
        self.fails(*before, 1, "--partition", 7, says=['topic "t"', "no partition 7"])
        self.fails("topic", "delete", "none", "--records-before", "end", says=['topic "none"'])
        self.client("topic", "create", "kept", "--config", "cleanup.policy=compact")
        self.fails("topic", "delete", "kept", "--records-before", "end",
                   says=['topic "kept" partition 0', "compacted only", "cleanup.policy"])
        for words in (("soon",), ("beginning",), ("-1",)):
            self.fails(*before[:3], f"--records-before={words[0]}", code=2, says=["--records-before"])
        self.fails("topic", "delete", "t", "kept", "--records-before", "end", code=2,
                   says=["one topic at a time"])
        self.fails("topic", "delete", "t", "--partition", 1, code=2, says=["--records-before"])
        self.assertEqual(self.ends(), [(0, 5), (0, 3)])

    def test_settings_and_partitions_change_together(self):
        done = self.client("topic", "alter", "t", "--config", "retention.ms=1000000", "--config",
                           "durability=os", "--partitions", 3, "--json").document()
        self.assertEqual(done, {"topic": "t", "done": "altered"})
        self.client("topic", "alter", "t", "--delete-config", "retention.ms")
        topic = self.client("topic", "describe", "t", "--json").document()
        self.assertEqual((topic["config"], len(topic["partitions"])), ({"durability": "os"}, 3))
        self.fails("topic", "alter", "t", "--config", "no.such=1", says=["no.such"])
        self.fails("topic", "alter", "t", "--delete-config", "no.such", says=["no.such"])
        self.fails("topic", "alter", "t", "--config", "retention.ms=soon", says=["retention.ms"])
        self.fails("topic", "alter", "none", "--config", "durability=os", says=['topic "none"'])


if __name__ == "__main__":
    command.main()
