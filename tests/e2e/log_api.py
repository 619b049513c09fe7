#!/usr/bin/env python3
"""log_api: topics are made, configured, listed and deleted; names follow Kafka's rule; a topic's id
and directory are never used again, whatever ends the server in between."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import brokers

VALID = ["a", "A.b_c-9", "...", "-", "x" * 249]
INVALID = ["", ".", "..", "a b", "a/b", "naïve", "a:b", "x" * 250, "new\nline"]


class Api:
    """The command line's view of one server."""

    def __init__(self, broker):
        self.broker = broker

    def run(self, *words):
        door = ["--bootstrap", self.broker.bootstrap, "--json"]
        done = subprocess.run([self.broker.binary, *words[:2], *door, *words[2:]],
                              capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout, done.stderr

    def ask(self, *words):
        code, out, errors = self.run(*words)
        assert code == 0, f"{words}: exit {code}: {errors}"
        return json.loads(out)

    def names(self):
        return {topic["topic"] for topic in self.ask("topic", "list") if not topic["internal"]}

    def create(self, name, *more):
        self.ask("topic", "create", name, *more)
        return self.ask("topic", "describe", name)


def check_names(api):
    for name in VALID:
        api.ask("topic", "create", "--", name)  # "-" is a name, too
    assert api.names() == set(VALID), api.names()
    for name in INVALID:
        code, _, errors = api.run("topic", "create", name)
        assert code != 0 and errors.strip(), f"{name!r} was accepted"
    assert api.names() == set(VALID), "a refused name left a topic"
    for name in VALID:
        api.ask("topic", "delete", "--", name)
    assert api.names() == set()


def check_settings(api):
    made = api.create("orders", "--partitions", "3", "--config", "retention.ms=60000",
                      "--config", "durability=os")
    assert len(made["partitions"]) == 3, made
    assert made["config"] == {"retention.ms": "60000", "durability": "os"}, made["config"]
    api.ask("topic", "alter", "orders", "--config", "segment.bytes=1048576")
    assert api.ask("topic", "describe", "orders")["config"]["segment.bytes"] == "1048576"
    for words in (["topic", "create", "orders"], ["topic", "create", "x", "--config", "no.such=1"],
                  ["topic", "create", "x", "--config", "compression.type=gzip"],
                  ["topic", "create", "x", "--partitions", "0"],
                  ["topic", "create", "x", "--replication-factor", "2"],
                  ["topic", "create", "x", "--config", "min.insync.replicas=2"],
                  ["topic", "alter", "orders", "--config", "retention.ms=soon"],
                  ["topic", "delete", "none"], ["topic", "describe", "none"]):
        code, _, errors = api.run(*words)
        assert code != 0 and errors.strip(), f"{words} was accepted"
    assert api.names() == {"orders"}
    return made["id"]


def directories(broker, topic_id):
    return sorted(p.name for p in pathlib.Path(broker.folder, "data").iterdir()
                  if p.is_dir() and p.name.startswith(topic_id))


def check_ids(api, rounds, known):
    """The same name again and again; restarts in order and by kill -9 in between."""
    broker = api.broker
    for turn in range(rounds):
        topic = api.create("again", "--partitions", "2")
        assert topic["id"] not in known, f"round {turn}: id {topic['id']} was used before"
        known.add(topic["id"])
        assert directories(broker, topic["id"]) == [f"{topic['id']}-{p}" for p in range(2)]
        if turn % 3 == 1:
            restart(broker, signal.SIGTERM)
            assert api.ask("topic", "describe", "again")["id"] == topic["id"], "another id after a restart"
        api.ask("topic", "delete", "again")
        if turn % 3 == 2:
            restart(broker, signal.SIGKILL)
        assert "again" not in api.names()
        assert not directories(broker, topic["id"]), "a deleted topic's files are still there"


def restart(broker, how):
    broker.process.send_signal(how)
    broker.process.wait(15)
    broker.start()


def main():
    rounds = 200 if os.environ.get("PYRALOG_SOAK") else 12
    with brokers.Pyralog() as broker:
        api = Api(broker)
        check_names(api)
        known = {check_settings(api)}
        check_ids(api, rounds, known)
    print(f"soak: log_api count={rounds}")
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
