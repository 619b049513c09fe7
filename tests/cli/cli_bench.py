#!/usr/bin/env python3
"""`pyralog bench` with the real binary: what it moves is there, and what it says adds up."""

import signal
import subprocess
import time

import command
from command import CommandTest


class Bench(CommandTest):
    def setUp(self):
        super().setUp()
        self.broker = self.server()

    def client(self, *words, **options):
        return self.good(*words, "--bootstrap", self.broker.bootstrap, **options)

    def end(self, topic):
        parts = self.client("topic", "describe", topic, "--json").document()["partitions"]
        return sum(p["end"] for p in parts)

    def ordered(self, latency):
        self.assertEqual(list(latency), ["p50", "p90", "p99", "p999", "max", "mean"])
        mean = latency.pop("mean")
        values = list(latency.values())
        self.assertEqual(values, sorted(values))
        self.assertTrue(0 < mean <= values[-1])
        self.assertGreater(values[0], 0)

    def test_produce_sends_what_it_says(self):
        told = self.client("bench", "produce", "t", "--records", 5000, "--size", 50, "--json").document()
        self.assertEqual((told["records"], told["bytes"]), (5000, 250_000))
        self.assertAlmostEqual(told["records_per_second"], 5000 / told["seconds"], delta=1)
        self.ordered(told["acknowledged_ms"])
        self.assertEqual(self.end("t"), 5000)
        for acks, codec in (("1", "zstd"), ("0", "gzip")):
            told = self.client("bench", "produce", "u", "--records", 100, "--acks", acks, "--codec", codec,
                               "--json").document()
            self.assertEqual(told["records"], 100)

    def test_a_rate_is_kept_to(self):
        told = self.client("bench", "produce", "t", "--rate", 2000, "--for", "1s", "--json").document()
        self.assertEqual(told["records"], 2000, "all that was due, however late")
        self.assertGreaterEqual(told["seconds"], 0.99)

    def test_consume_reads_what_is_there(self):
        self.client("topic", "create", "t", "--partitions", 3)
        self.client("bench", "produce", "t", "--records", 3000)
        told = self.client("bench", "consume", "t", "--json").document()
        self.assertEqual(told["records"], 3000)
        self.assertNotIn("acknowledged_ms", told)
        text = self.client("bench", "consume", "t").out
        self.assertRegex(text, r"^3000 records, 0\.\d MB in \d+\.\d\d s: \d+ records/s, \d+\.\d MB/s\n$")
        told = self.client("bench", "consume", "t", "--from", "end", "--for", "300ms", "--json").document()
        self.assertEqual(told["records"], 0)

    def test_latency_sees_its_own_records_arrive(self):
        self.client("bench", "produce", "t", "--records", 500)
        told = self.client("bench", "latency", "t", "--rate", 500, "--records", 300, "--json").document()
        self.assertEqual(told["records"], 300)
        self.ordered(told["acknowledged_ms"])
        self.ordered(told["arrived_ms"])
        self.assertEqual(self.end("t"), 800)
        text = self.client("bench", "latency", "t", "--rate", 500, "--records", 10).out
        self.assertRegex(text, r"(?m)^arrived after +p50 \d")

    def test_in_a_closed_loop_throughput_is_what_latency_leaves(self):
        for in_flight in (1, 8):
            told = self.client("bench", "latency", "t", "--in-flight", in_flight, "--records", 2000,
                               "--json").document()
            self.assertEqual(told["records"], 2000)
            # Little's law: records a second times seconds each = records at a time.
            at_a_time = told["records_per_second"] * told["acknowledged_ms"]["mean"] / 1000
            self.assertLessEqual(at_a_time, in_flight * 1.02)
            self.assertGreater(at_a_time, in_flight * 0.5)
        self.refused("bench", "latency", "t", "--in-flight", 1, "--rate", 5, code=2, says=["--in-flight"])

    def test_says_what_is_wrong(self):
        self.refused("bench", "consume", "nowhere", "--bootstrap", self.broker.bootstrap,
                     says=["there is no such topic"])
        self.refused("bench", "latency", "t", "--size", 3, code=2, says=["--size"])

    def test_an_interrupt_ends_it_with_what_there_is(self):
        process = subprocess.Popen([command.BINARY, "bench", "produce", "t", "--rate", "1000", "--json",
                                    "--bootstrap", self.broker.bootstrap], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=command.environment())
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 1)
        self.assertIn(b'"records":', out)
        self.assertIn(b"interrupted", err)


if __name__ == "__main__":
    command.main()
