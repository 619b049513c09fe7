#!/usr/bin/env python3
"""What /metrics shows is what happened."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import command
from command import REPOSITORY, CommandTest

sys.path.insert(0, str(REPOSITORY / "tests" / "docs"))
import reference  # noqa: E402

DASHBOARD = REPOSITORY / "docs" / "grafana-dashboard.json"

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


class Reference(CommandTest):
    def test_the_page_of_metrics_says_what_the_server_tells(self):
        server = self.server()
        some_of_everything(self, server)
        types, labels = {}, {}
        with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("# TYPE "):
                    name, types[name] = line.split()[2:]
                elif not line.startswith("#"):
                    found = re.findall(r'(\w+)="', SAMPLE.match(line).group(2) or "")
                    labels.setdefault(name, set()).update(set(found) - {"le"})
        rows = reference.table((REPOSITORY / "docs" / "metrics.md").read_text())
        self.assertEqual({row[0]: row[1] for row in rows}, types)
        self.assertEqual({row[0]: reference.words(row[2]) for row in rows}, labels)

    def test_prometheus_own_tool_finds_nothing_wrong(self):
        promtool = shutil.which("promtool") or REPOSITORY / ".deps" / "prometheus" / "usr" / "bin" / "promtool"
        server = self.server()
        some_of_everything(self, server)
        with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=10) as answer:
            metrics = answer.read()
        for words, given in ((("metrics",), metrics),
                             (("rules", str(REPOSITORY / "docs" / "prometheus-alerts.yml")), b"")):
            ran = subprocess.run([promtool, "check", *words], input=given, capture_output=True, timeout=60)
            self.assertEqual((ran.returncode, ran.stderr.decode()), (0, ""), ran.stdout.decode())

    def test_health_and_one_partition(self):
        server = self.server()
        some_of_everything(self, server)

        def get(path):
            with urllib.request.urlopen(f"http://{server.http}{path}", timeout=10) as answer:
                return json.load(answer)
        health = get("/health")
        self.assertEqual((health["status"], health["problems"]), ("ok", []))
        told = get("/partitions/t-0/status")
        self.assertEqual((told["name"], told["log_end"], told["status"]), ("t-0", 1, "ok"))
        self.assertEqual(told["log"]["newest_segments"][0]["base"], 0)
        with self.assertRaises(urllib.error.HTTPError) as refused:
            get("/partitions/t-9/status")
        self.assertEqual(refused.exception.code, 404)
        refused.exception.close()


def some_of_everything(test, server):
    """What makes every metric appear: a topic that is written and read in a group, and an error."""
    test.good("topic", "create", "t", "--bootstrap", server.bootstrap)
    test.good("produce", "t", "--bootstrap", server.bootstrap, given=b"a\n")
    test.good("consume", "t", "--group", "g", "--until-end", "--bootstrap", server.bootstrap)
    test.assertNotEqual(command.pyralog("topic", "create", "t", "--bootstrap", server.bootstrap).code, 0)


def strings_of(value, key=None):
    """Every (key, text) of a JSON document."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from strings_of(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from strings_of(each, key)
    elif isinstance(value, str):
        yield key, value


def asked_by(dashboard):
    """The metrics that a dashboard names anywhere, and {metric: labels that it is asked for}."""
    names, labels = set(), {}
    for _, text in strings_of(dashboard):
        names |= set(re.findall(r"\b(?:pyralog|process)_\w+", text))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            for grouping in re.findall(r"\bby \(([^)]*)\)", target["expr"]):
                wanted |= {label.strip() for label in grouping.split(",")}
            for name, matchers in re.findall(r"\b((?:pyralog|process)_\w+)\{([^}]*)\}", target["expr"]):
                found = set(re.findall(r"(\w+)\s*[=!]", matchers))
                labels.setdefault(name, set()).update(wanted | found)
    return names, labels


def complaints(dashboard, series):
    """What the dashboard asks for and `series` ("name{labels}") have not."""
    have = {}
    for each in series:
        name, _, rest = each.partition("{")
        have.setdefault(name, set()).update(re.findall(r"(\w+)=\"", rest))
    names, labels = asked_by(dashboard)
    found = [f"no metric {name}" for name in sorted(names - set(have))]
    for name, wanted in sorted(labels.items()):
        # Prometheus adds the instance itself.
        missing = wanted - have.get(name, set()) - {"instance"}
        found += [f"{name} has no label {label}" for label in sorted(missing) if name in have]
    return found


class Dashboard(CommandTest):
    def setUp(self):
        super().setUp()
        self.dashboard = json.loads(DASHBOARD.read_text())

    def test_it_asks_for_nothing_that_the_server_does_not_have(self):
        server = self.server()
        some_of_everything(self, server)
        series = scrape(server)
        self.assertEqual(complaints(self.dashboard, series), [])
        self.assertGreater(len(asked_by(self.dashboard)[0]), 20)
        for metric in ("pyralog_log_syncs_total", "pyralog_kafka_request_seconds_bucket"):
            without = [each for each in series if not each.startswith(metric)]
            self.assertEqual(complaints(self.dashboard, without), [f"no metric {metric}"])
        renamed = [each.replace('api="', 'key="') for each in series]
        self.assertIn("pyralog_kafka_request_seconds_count has no label api",
                      complaints(self.dashboard, renamed))

    def test_everything_that_the_server_counts_is_in_it(self):
        server = self.server()
        some_of_everything(self, server)
        asked = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked_by(self.dashboard)[0]}
        counted = {re.sub(r"_(bucket|count|sum)$", "", each.partition("{")[0])
                   for each in scrape(server)}
        uninteresting = {"pyralog_server_shards", "pyralog_broker_partition_leader_epoch"}
        self.assertEqual(counted - asked - uninteresting, set())

    def test_its_panels_have_ids_of_their_own_and_do_not_overlap(self):
        panels = self.dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken = set()
        for panel in panels:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                     for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells


if __name__ == "__main__":
    command.main()
