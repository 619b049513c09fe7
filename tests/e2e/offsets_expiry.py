#!/usr/bin/env python3
"""offsets_expiry: committed offsets that nobody uses are forgotten in time, through a kill -9 in
between, and not a moment early; groups that are left with nothing go, too."""

import json
import signal
import subprocess
import time

import brokers
from wire import Connection, array, data, i8, i16, i32, i64, string

OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, LEAVE_GROUP = 8, 9, 10, 11, 13
SYNC_GROUP, CREATE_TOPICS = 14, 19
COORDINATOR_LOADS, NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE = 14, 16, 15
RETENTION_S = 60
OPTIONS = ("--offsets-retention-minutes", "1", "--offsets-retention-check-interval-ms", "200",
           "--group-initial-rebalance-delay-ms", "0", "--durability", "os")


def until(seconds, what, holds):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


class Groups:
    """What the test asks of one server."""

    def __init__(self, broker):
        self.broker = broker

    def call(self, api, version, body):
        with Connection(self.broker.bootstrap) as connection:
            return connection.call(api, version, body)

    def create(self, topic):
        self.call(CREATE_TOPICS, 2, array([string(topic) + i32(1) + i16(1) + array([]) + array([])])
                  + i32(15_000) + i8(0))

    def find(self, group):
        def found():
            answer = self.call(FIND_COORDINATOR, 1, string(group) + i8(0))
            answer.i32()
            return answer.i16() == 0
        until(20, f"coordinator of {group}", found)

    def commit(self, group, offset, generation=-1, member="", retention_ms=-1, topic="t"):
        """OffsetCommit 4 carries a retention of its own, as old clients send it."""
        def code():
            answer = self.call(OFFSET_COMMIT, 4, string(group) + i32(generation) + string(member)
                               + i64(retention_ms)
                               + array([string(topic) + array([i32(0) + i64(offset) + string("")])]))
            answer.i32()
            return answer.array(lambda: (answer.string(), answer.array(
                lambda: (answer.i32(), answer.i16()))))[0][1][0][1]
        loading = (COORDINATOR_LOADS, NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE)
        until(20, f"commit of {group}", lambda: self.last(code()) not in loading)
        assert self.code == 0, f"commit of {group}: error {self.code}"
        return time.monotonic()

    def last(self, code):
        self.code = code
        return code

    def committed(self, group, topic="t"):
        """The offset, −1 if there is none, or None while the coordinator loads."""
        answer = self.call(OFFSET_FETCH, 3, string(group) + array([string(topic) + array([i32(0)])]))
        answer.i32()
        offset = answer.array(lambda: (answer.string(), answer.array(
            lambda: (answer.i32(), answer.i64(), answer.string(), answer.i16()))))[0][1][0][1]
        return offset if answer.i16() == 0 else None

    def join(self, group, topics):
        """Joins alone and gets all: (generation, member id)."""
        subscription = i16(0) + array([string(topic) for topic in topics]) + data(b"")
        answer = self.call(JOIN_GROUP, 3, string(group) + i32(30_000) + i32(30_000) + string("")
                           + string("consumer") + array([string("range") + data(subscription)]))
        answer.i32()
        assert answer.i16() == 0, "join"
        generation = answer.i32()
        answer.string(), answer.string()
        member = answer.string()
        answer = self.call(SYNC_GROUP, 1, string(group) + i32(generation) + string(member)
                           + array([string(member) + data(b"all")]))
        answer.i32()
        assert answer.i16() == 0, "sync"
        return generation, member

    def leave(self, group, member):
        answer = self.call(LEAVE_GROUP, 1, string(group) + string(member))
        answer.i32()
        assert answer.i16() == 0, "leave"

    def names(self):
        done = subprocess.run([self.broker.binary, "group", "list", "--bootstrap",
                               self.broker.bootstrap, "--json"], capture_output=True, text=True,
                              timeout=30, check=True)
        return {group["group"] for group in json.loads(done.stdout)}


def check(broker):
    groups = Groups(broker)
    groups.create("t")
    groups.create("unread")
    for name in ("simple", "brief", "left", "reads"):
        groups.find(name)

    groups.commit("brief", 4, retention_ms=500)
    simple = groups.commit("simple", 1)
    generation, member = groups.join("left", ["t"])
    groups.commit("left", 2, generation, member)
    until(20, "an offset with a retention of its own goes", lambda: groups.committed("brief") == -1)
    assert "brief" not in groups.names()
    assert groups.committed("simple") == 1

    time.sleep(max(0.0, simple + 15 - time.monotonic()))
    groups.leave("left", member)
    left = time.monotonic()
    broker.process.send_signal(signal.SIGKILL)
    broker.process.wait()
    broker.start()
    groups.find("reads")
    groups.commit("reads", 3)
    unread = groups.commit("reads", 5, topic="unread")
    generation, reader = groups.join("reads", ["t"])

    def kept_until(since, group, topic="t"):
        """When the offset goes, in seconds after `since`."""
        while groups.committed(group, topic) != -1:
            assert time.monotonic() - since < RETENTION_S + 20, f"{group} keeps {topic}"
            heartbeat()
            time.sleep(0.1)
        return time.monotonic() - since

    def heartbeat():
        groups.commit("reads", 3, generation, reader)

    for since, group, topic in ((simple, "simple", "t"), (left, "left", "t"),
                                (unread, "reads", "unread")):
        kept = kept_until(since, group, topic)
        assert kept > RETENTION_S - 2, f"{group}, {topic}: gone after {kept:.1f} s"
    assert groups.committed("reads") == 3, "what a member reads stays"
    assert groups.names() == {"reads"}, groups.names()

    broker.process.send_signal(signal.SIGKILL)
    broker.process.wait()
    broker.start()
    until(20, "loading", lambda: groups.committed("simple") is not None)
    assert groups.committed("simple") == -1 and groups.committed("left") == -1
    assert "left" not in groups.names()


def main():
    with brokers.Pyralog(options=OPTIONS) as broker:
        check(broker)
        print("offsets_expiry: all as promised")


if __name__ == "__main__":
    main()
