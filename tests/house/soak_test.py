#!/usr/bin/env python3
"""scripts/soak.py calls nothing green that did not run."""

import importlib.util
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load():
    spec = importlib.util.spec_from_file_location("soak", ROOT / "scripts" / "soak.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Soak(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.soak = load()
        self.soak.STATE = pathlib.Path(folder.name)

    def result(self, script):
        good = self.soak.run("part", {"command": script}, "0123456789")
        result = self.soak.state("part")["result"]
        self.assertEqual(good, result == "green")
        return result

    def test_a_part_that_ran_no_test_is_red(self):
        self.assertEqual(self.result("true"), "red (no test ran)")
        self.assertEqual(self.result("echo '0 passed, 0 failed'"), "red (no test ran)")
        self.assertEqual(self.result("echo '[  PASSED  ] 0 tests.'"), "red (no test ran)")
        skipped = "1/1 Test #1: e2e_power_loss ...................***Skipped   0.10 sec"
        self.assertEqual(self.result(f"echo '{skipped}'; echo '100% tests passed, 0 tests failed out of 1'"),
                         "red (no test ran)")

    def test_a_test_that_counted_nothing_is_red_beside_others(self):
        self.assertEqual(self.result("echo soak: fuzz_a count=0; echo soak: fuzz_b count=7; "
                                     "echo '2 passed, 0 failed'"), "red (nothing ran in fuzz_a)")

    def test_what_failed_is_red_whatever_it_printed(self):
        self.assertEqual(self.result("echo soak: a count=7; exit 3"), "red (exit 3)")

    def test_what_ran_is_green(self):
        for said in ("soak: a count=20 seeds=1..20", "12: soak: a count=20", "12: [  PASSED  ] 3 tests.",
                     "[  PASSED  ] 1 test.", "3 passed, 0 failed",
                     " 3/17 Test  #3: unit_log .........................   Passed   12.00 sec"):
            self.assertEqual(self.result(f"echo '{said}'"), "green", said)


if __name__ == "__main__":
    sys.exit(unittest.main())
