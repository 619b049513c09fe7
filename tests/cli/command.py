"""What the tests of the command share: running it, starting servers, taking answers apart."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "e2e"))

import brokers  # noqa: E402

BINARY = os.environ.get("PYRALOG_BINARY", str(REPOSITORY / "build/release/pyralog"))
SECONDS = 60


class Ran:
    """One run of the command that has ended."""

    def __init__(self, words, code, out, err):
        self.words, self.code, self.out, self.err = words, code, out, err

    def __str__(self):
        return f"pyralog {' '.join(map(str, self.words))}\nexit {self.code}\n{self.out}\n{self.err}"

    def documents(self):
        """The JSON documents of standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def document(self):
        found = self.documents()
        assert len(found) == 1, f"not one JSON document: {self}"
        return found[0]


def environment(extra=None):
    kept = {k: v for k, v in os.environ.items()
            if not k.startswith("PYRALOG_") or k == "PYRALOG_PLANT"}
    return {**kept, **(extra or {})}


def pyralog(*words, given=b"", env=None, cwd=None):
    """Runs the command to its end."""
    ended = subprocess.run([BINARY, *map(str, words)], input=given, capture_output=True,
                           timeout=SECONDS, env=environment(env), cwd=cwd)
    return Ran(words, ended.returncode, ended.stdout.decode(), ended.stderr.decode())


class CommandTest(unittest.TestCase):
    """A test with a folder of its own."""

    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="pyralog-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def good(self, *words, **options):
        ran = pyralog(*words, **options)
        self.assertEqual(ran.code, 0, ran)
        return ran

    def refused(self, *words, code=1, says=(), **options):
        """The command fails with `code`, one line on standard error, and nothing is on the other."""
        ran = pyralog(*words, **options)
        self.assertEqual(ran.code, code, ran)
        lines = ran.err.strip().splitlines()
        self.assertTrue(lines and lines[-1].startswith("pyralog: "), ran)
        for text in says:
            self.assertIn(text, lines[-1], ran)
        return ran

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def server(self, *options, folder=None):
        """A server over `folder`/data, stopped at the test's end."""
        folder = folder or self.folder
        folder.mkdir(exist_ok=True)
        broker = brokers.Pyralog(BINARY, options, folder=folder)
        self.addCleanup(broker.stop)
        broker.start()
        return broker


def main():
    unittest.main(verbosity=2)
