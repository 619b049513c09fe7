#!/usr/bin/env python3
"""What /metrics shows is what happened."""

import re
import time
import urllib.request

import command
from command import CommandTest

SAMPLE = re.compile(r"^([a-z_0-9]+)(\{.*\})? (\S+)$")


def scrape(broker):
    """Every series of /metrics, {name with labels: value}."""
    with urllib.request.urlopen(f"http://{broker.http}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith("#"):
            continue
        name, labels, value = SAMPLE.match(line).groups()
        found[name + (labels or "")] = float(value)
    return found


class Metrics(CommandTest):
    def until(self, holds, what):
        deadline = time.monotonic() + 30
        while not holds():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.05)

    def test_retention_counts_the_files_that_are_gone(self):
        server = self.server("--log-retention-check-interval-ms", "100")
        self.good("topic", "create", "t", "--bootstrap", server.bootstrap,
                  "--config", "segment.bytes=65536", "--config", "retention.bytes=100000")
        for _ in range(10):
            self.good("produce", "t", "--bootstrap", server.bootstrap,
                      given=b"\n".join([b"x" * 999] * 50) + b"\n")
        partition, = (server.folder / "data").glob("*-0")

        def settled():
            seen = scrape(server)
            files = len(list(partition.glob("*.log")))
            self.seen = seen
            return (seen["pyralog_log_retention_segments_total"] > 0 and
                    seen["pyralog_log_retention_segments_total"] ==
                    seen["pyralog_log_rolls_total"] + 1 - files)
        self.until(settled, "the count of segments is that of files")
        self.assertGreaterEqual(self.seen["pyralog_log_appended_bytes_total"], 10 * 50 * 1000)
        self.assertGreater(self.seen["pyralog_log_syncs_total"], 0)
        kept = self.seen['pyralog_broker_partition_log_bytes{partition="t-0"}']
        gone = self.seen["pyralog_log_retention_bytes_total"]
        headers = 64 * (self.seen["pyralog_log_rolls_total"] + 1)
        self.assertEqual(kept + gone - self.seen["pyralog_log_appended_bytes_total"], headers)

    def test_slow_operations_are_told_of_and_counted(self):
        server = self.server("--log-slow-operation-ms", "0")
        self.good("topic", "create", "t", "--bootstrap", server.bootstrap)
        self.good("produce", "t", "--bootstrap", server.bootstrap, given=b"a\n")
        seen = scrape(server)
        for kind in ("request", "sync", "write"):
            self.assertGreater(seen[f'pyralog_slow_operations_total{{kind="{kind}"}}'], 0)
        said = server.log_tail(1000)
        self.assertRegex(said, r" WARN slow\.request api=Metadata client_id=\S+ client=\S+ queue_ms=")
        self.assertRegex(said, r" WARN slow\.sync what=new_segment partition=t-0 ms=")
        self.assertRegex(said, r" WARN slow\.write what=append partition=t-0 ms=")

    def test_no_operation_is_slow_if_that_is_off(self):
        server = self.server("--log-slow-operation-ms", "-1")
        self.good("topic", "create", "t", "--bootstrap", server.bootstrap)
        self.good("produce", "t", "--bootstrap", server.bootstrap, given=b"a\n")
        self.assertNotIn("slow.", server.log_tail(1000))
        self.assertEqual(scrape(server)['pyralog_slow_operations_total{kind="request"}'], 0)


if __name__ == "__main__":
    command.main()
