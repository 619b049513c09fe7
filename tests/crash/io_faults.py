#!/usr/bin/env python3
"""Calls of the real server to the operating system fail by rule, one kind of call on one kind of file a
round: while it starts, under load, while it is stopped. Every request is answered, by success or by a clear
error; the server lives on; the log names the file; a sync that has failed is never tried again on what the
system may have dropped, and what was lost with it is not missed; partitions that have nothing to do with it go
on; and when the disk is well again everything that was acknowledged is there, after a kill and a clean stop."""

import contextlib
import os
import pathlib
import random
import re
import tempfile
import threading
import time
import traceback

import client
import compaction
import load
from faults import Faults, need_faults
from rounds import Rounds, check
from server import Server
from wire import array, batch, i32, string

PARTITIONS, PAUSE, PATIENCE = 6, 0.004, 12.0
OPTIONS = ("--disk-reserve-bytes", str(1 << 20), "--log-write-ahead-bytes", str(1 << 20),
           "--log-retention-check-interval-ms", "200", "--log-cleaner-backoff-ms", "100",
           "--log-cleaner-dedupe-buffer-size", "65536", "--offsets-topic-num-partitions", "2",
           "--group-initial-rebalance-delay-ms", "0", "--log-scrub-interval-ms", "1000")
STORED, DELETE_TOPICS, UNKNOWN_TOPIC, TOPIC_EXISTS = client.STORAGE_ERROR, 20, 3, 36
REFUSED = (STORED, *load.GOING_DOWN)
GROUP_REFUSED = (*client.TRANSIENT, STORED, 5, 6, 22, 25, 27)

# What may go wrong with a call, and the names of files by kind. {plain} is one partition's directory.
WHATS = {
    "open": ("EMFILE", "EIO"), "create": ("EMFILE", "EIO", "ENOSPC", "EDQUOT"), "list": ("EIO", "EMFILE"),
    "read": ("EIO", "short"), "sendfile": ("EIO", "short"), "write": ("EIO", "ENOSPC", "EDQUOT", "short"),
    "sync": ("EIO", "ENOSPC", "EDQUOT"), "truncate": ("EIO",), "allocate": ("ENOSPC", "EIO"),
    "rename": ("EIO", "EDQUOT"), "unlink": ("EIO",), "mkdir": ("ENOSPC", "EIO", "EDQUOT"),
}
RARE = ("cookie", "lock", "clean", "producers", "reserve", "metadata", "compaction", "swapped", "compacted", "epochs")
FILES = {
    "segment": "{plain}/*.log", "append time": "{plain}/*.appendtime", "index": "*.index*",
    "time index": "*.timeindex*", "epochs": "*/epochs*", "any segment": "*/0*.log", "synced": "*.synced*",
    "write-ahead": "*.wal*", "metadata": "*/metadata.log*", "offsets": "{offsets}/*", "compacted": "*.cleaned",
    "swapped": "*.swap", "compaction": "*/cleaned*", "reserve": "*/reserve*", "cookie": "*/cookie*",
    "lock": "*/lock", "clean": "*.clean*", "producers": "*/producers-*", "partition": "{plain}",
    "partitions": "*/data/*-*-*-*", "data": "*/data", "anything": "*/data/*",
}
CALLS = {
    "run": {
        "segment": "create write sync sendfile", "append time": "create write sync", "index": "create write",
        "time index": "create write", "epochs": "create write sync rename", "any segment": "create write sync read",
        "synced": "write sync create rename", "write-ahead": "create write sync allocate",
        "metadata": "write sync", "offsets": "create write sync", "compacted": "create write sync rename",
        "swapped": "rename", "compaction": "create write sync rename", "partition": "sync", "partitions": "mkdir sync unlink",
        "data": "sync", "anything": "write sync create unlink read",
    },
    "stop": {
        "clean": "create write sync rename", "producers": "create write sync rename", "index": "create write",
        "segment": "sync", "synced": "write sync", "anything": "write sync create", "epochs": "write",
    },
    "start": {
        "segment": "open read", "index": "open read", "any segment": "open read", "synced": "open read write sync",
        "write-ahead": "open read", "metadata": "open read write sync", "offsets": "open read", "epochs": "open read",
        "append time": "open read", "cookie": "open read create write sync rename", "lock": "open",
        "reserve": "create allocate write", "clean": "open read unlink", "producers": "open read",
        "partition": "list sync", "data": "list sync", "anything": "write sync create open read",
    },
}
# ONLY is a regular expression for "PHASE KIND CALL".
CASES = [(phase, kind, call) for phase, kinds in CALLS.items() for kind, calls in kinds.items()
         for call in calls.split() if re.search(os.environ.get("ONLY", ""), f"{phase} {kind} {call}")]
random.Random(1).shuffle(CASES)  # a few rounds are to meet some of everything


class Case:
    """What goes wrong in one round."""

    def __init__(self, number):
        self.phase, self.kind, self.call = CASES[number % len(CASES)]
        self.rules, self.local = [], False

    def options(self):
        """On one shard more files take part in each group commit, which then goes by the write-ahead files."""
        return (*OPTIONS, "--shards", "1" if self.kind == "write-ahead" else "2")

    def aim(self, rng, data, directories):
        glob = FILES[self.kind].format(plain=data / directories["plain-0"],
                                       offsets=data / directories["__consumer_offsets-0"])
        what = rng.choice(WHATS[self.call])
        nth = rng.choice((1, 1, 1, 2) if self.kind in RARE else (1, 1, 2, 3, 5))
        when = rng.choice((f"#{nth}", f"#{nth}+", f"#{nth}+", f"~{rng.uniform(0.1, 0.9):.2f}:{rng.randrange(999)}"))
        self.rules = [f"{self.call} {glob} {when} {what}"]
        if what == "short" and self.call == "write" and rng.random() < 0.7:
            self.rules = [f"write {glob} #{nth} short", f"write {glob} #{nth}+ ENOSPC"]
        # What is wrong with one partition's own files is no other's business; want of space is.
        self.local = self.kind in ("segment", "append time", "partition") and what in ("EIO", "EMFILE")

    def __str__(self):
        return f"{self.phase} {self.kind} {self.call}: {'; '.join(self.rules)}"


class Committer:
    """A group of one member that commits rising offsets."""

    def __init__(self, name):
        self.name, self.acked, self.sent = name, -1, -1
        self.commits = self.refused = 0

    def work(self, wire, over):
        """Joins and commits; any refusal but a clear one is a failure."""
        generation = None
        while not over.wait(PAUSE):
            try:
                if generation is None:
                    wire.settle(self.name)
                    generation, member = wire.join(self.name, "", ["plain"])
                self.sent += 1
                code = wire.commit(self.name, generation, member, "plain", {0: self.sent})[0]
                if code == client.NONE:
                    self.acked = self.sent
                    self.commits += 1
                    continue
                raise client.Refused(f"{self.name}: commit", code)
            except client.Refused as refused:
                check(refused.code in GROUP_REFUSED, str(refused))
                self.refused += 1
                if refused.code != STORED:
                    generation = None

    def audit(self, wire):
        wire.settle(self.name)
        found = wire.committed(self.name, "plain", [0])[0]
        check(self.acked <= found <= self.sent, f"{self.name}: {found} is committed, acknowledged was {self.acked}, "
                                                f"sent {self.sent}")


def delete_topic(wire, name):
    reader = wire.call(DELETE_TOPICS, 1, array([string(name)]) + i32(15_000))
    reader.i32()
    return reader.array(lambda: (reader.string(), reader.i16()))[0][1]


class Topics:
    """Topics that are made, written to and deleted, and producer ids that are taken."""

    def __init__(self):
        self.made, self.deleted, self.doubtful = {}, set(), set()
        self.producers = set()
        self.refused = 0

    def work(self, wire, over):
        number = 0
        while not over.wait(4 * PAUSE):
            number += 1
            name = f"made-{number}"
            try:
                producer = wire.producer_id()[0]
                check(producer not in self.producers, f"producer id {producer} was given out twice")
                self.producers.add(producer)
                self.doubtful.add(name)
                wire.create_topic(name, 2)
                self.made[name] = 0
                code, _ = wire.produce(name, 1, batch([name.encode()]))
                check(code in (client.NONE, *REFUSED), f"{name}: error {code}")
                self.made[name] = int(code == client.NONE)
                if number % 2:
                    code = delete_topic(wire, name)
                    if code != client.NONE:
                        raise client.Refused(f"delete {name}", code)
                    self.deleted.add(name)
                self.doubtful.discard(name)
            except client.Refused as refused:
                check(refused.code > 0, str(refused))
                check(not str(refused).startswith("create") or ": None" not in str(refused), f"{refused}: no message")
                self.refused += 1

    def audit(self, wire, partitions):
        there = {name.rpartition("-")[0] for name in partitions}
        for name, records in self.made.items():
            if name in self.doubtful:
                continue
            check((name in there) != (name in self.deleted), f"{name} was {'deleted' if name in self.deleted else 'made'}"
                                                             f", which was acknowledged")
            if name in there:
                found = [record.value for record in wire.read(name, 1)]
                check(found[:1] == [name.encode()][:records] or not records, f"{name}: {found}")
        fresh = wire.producer_id()[0]
        check(fresh not in self.producers, f"producer id {fresh} was given out twice")


class World:
    """One data directory, what works on it, and what was acknowledged."""

    def __init__(self, data, rng):
        self.data, self.rng = data, rng
        self.acked = {name: {} for name in ("plain", "calm")}
        self.keyed = compaction.Topic("keyed")
        self.groups, self.topics = [Committer(f"group-{i}") for i in range(2)], Topics()
        self.lives = self.identity = self.refusals = 0

    def make(self, server):
        with client.Client(server.bootstrap) as admin:
            admin.create_topic("plain", PARTITIONS, segment_bytes=20_000)
            admin.create_topic("calm", 1, segment_bytes=20_000)
            admin.create_topic("keyed", 1, segment_bytes=compaction.SEGMENT, cleanup_policy="compact",
                               min_cleanable_dirty_ratio=0.1)
            for group in self.groups:
                admin.settle(group.name)
            code, _ = admin.produce("plain", 0, load.batch([load.value_of(0, 0, 50)]))
            check(code == client.NONE, f"plain: error {code}")
        return {name: each["directory"] for name, each in server.partitions().items()}

    def audit(self, server):
        partitions = server.partitions()
        offline = {name: each["offline"] for name, each in partitions.items() if each.get("offline")}
        check(not offline, f"offline after the disk is well again: {offline}")
        with client.Client(server.bootstrap) as reader:
            for name, count in (("plain", PARTITIONS), ("calm", 1)):
                for index in range(count):
                    audit = load.Audit(f"{name}-{index}")
                    audit.feed(reader.read(name, index), self.acked[name].get(index, {}))
            self.keyed.audit(reader)
            for group in self.groups:
                group.audit(reader)
            self.topics.audit(reader, partitions)


class Life:
    """The threads of one life of the server."""

    def __init__(self, world, server):
        self.world, self.server = world, server
        self.over, self.failed = threading.Event(), []
        rng = world.rng
        self.writers = {"plain": load.start(server, "plain", PARTITIONS, rng, world.identity + 1, 3, pause=PAUSE),
                        "calm": load.start(server, "calm", 1, rng, world.identity + 4, 1, pause=PAUSE)}
        world.identity += 5
        self.keyed = compaction.Writer("keyed", server.bootstrap, random.Random(rng.random()), world.lives,
                                       pause=PAUSE, in_doubt=REFUSED)
        self.keyed.start()
        world.lives += 1
        works = [*(group.work for group in world.groups), world.topics.work, self.read]
        self.threads = [threading.Thread(target=self.guarded, args=(work,), daemon=True) for work in works]
        for thread in self.threads:
            thread.start()

    def guarded(self, work):
        try:
            with client.Client(self.server.bootstrap) as wire:
                work(wire, self.over)
        except OSError:  # TimeoutError as well
            if not self.server.ending:
                self.failed.append("no answer: " + traceback.format_exc())
        except (SystemExit, client.Refused) as failure:
            self.failed.append(str(failure))
        except Exception:
            self.failed.append(traceback.format_exc())

    def read(self, _, over):
        """Reads here and there; what cannot be read from its file ends the connection."""
        rng = random.Random(self.world.rng.random())
        while not over.wait(PAUSE):
            index = rng.randrange(PARTITIONS)
            with contextlib.suppress(client.Refused, ConnectionError), client.Client(self.server.bootstrap) as reader:
                end = reader.offset("plain", index)
                for record in client.records_of(reader.fetch("plain", index, rng.randrange(end + 1), 1 << 16)):
                    load.parse(record.value)

    def answers(self, topic):
        return [writer.answered + len(writer.refused) for writer in self.writers[topic]]

    def expect_answers(self):
        """Nobody waits for ever: each writer gets another answer."""
        for topic, writers in self.writers.items():
            before, end = self.answers(topic), time.monotonic() + PATIENCE
            while any(now <= then for now, then in zip(self.answers(topic), before)):
                check(self.server.process.poll() is None, f"the server ended with {self.server.process.returncode}")
                check(time.monotonic() < end and all(writer.is_alive() for writer in writers),
                      f"{topic}: a request got no answer within {PATIENCE:.0f} s")
                time.sleep(0.01)
        check(self.keyed.is_alive(), f"keyed: {self.keyed.failure}")

    def end(self):
        """After the server's end."""
        self.over.set()
        for thread in self.threads:
            thread.join(40)
            check(not thread.is_alive(), "a thread waits for ever")
        check(not self.failed, "; ".join(self.failed))
        for topic, writers in self.writers.items():
            self.world.refusals += sum(len(writer.refused) for writer in writers)
            load.finish(writers, self.world.acked[topic], REFUSED)
        self.world.keyed.learn(self.keyed)


def judge_log(server, faults, refused):
    """What failed is named, where somebody could notice."""
    failed = {words[1] for words in faults.lines("fault")}
    if not failed or not refused:
        return
    told = server.log_text() + str(server.get("/health") if server.process.poll() is None else "")
    named = [path for path in failed if path in told or pathlib.Path(path).name in told
             or pathlib.Path(path).parent.name in told]
    check(named, f"requests were refused, and neither the log nor /health names any of {sorted(failed)[:5]}")


def under_load(world, server, faults, case, length):
    """The rules hold for a while."""
    early = case.phase == "run" and case.kind == "write-ahead"  # its files are made at once and for long
    if early:
        faults.set(*case.rules)
    life = Life(world, server)
    time.sleep(length / 4)
    if case.phase == "run":
        calm = [writer.answered for writer in life.writers["calm"]]
        if not early:
            faults.set(*case.rules)
        end = time.monotonic() + 1.0
        time.sleep(length / 2)
        while not faults.lines("fault") and time.monotonic() < end:
            time.sleep(0.02)
        life.expect_answers()
        if case.local:
            check(not any(writer.refused for writer in life.writers["calm"]), "another partition was refused")
            check([writer.answered for writer in life.writers["calm"]] > calm, "another partition stood still")
        judge_log(server, faults, sum(len(writer.refused) for writer in life.writers["plain"]))
        check(all(problem["remedy"] for problem in server.get("/health")["problems"]), "a problem without remedy")
        faults.set()
        life.expect_answers()
    return life


def expect_back(server, faults):
    """What a start could not open comes back by itself. What a fault has taken from its service asks for a restart,
    which every round ends with, and names what failed."""
    failed, end = {words[1] for words in faults.lines("fault")}, time.monotonic() + PATIENCE
    while True:
        offline = {name: each["offline"] for name, each in server.partitions().items() if each.get("offline")}
        asking = {name for name, reason in offline.items() if "restart the server" in reason}
        for name in asking:
            check(any(path in offline[name] for path in failed), f"{name}: {offline[name]}, yet {failed} failed")
        if offline.keys() <= asking:
            return
        check(time.monotonic() < end, f"offline for ever: {offline}")
        time.sleep(0.05)


def start_with(world, faults, case):
    """The rules hold while the server starts: it does, or it says what is wrong."""
    if case.kind == "reserve":
        (world.data / "reserve").unlink()
    faults.set(*case.rules)
    with Server(world.data, case.options(), faults.environment) as server:
        begun = len(server.log_text())
        ready = server.ready_within(30)
        if not ready:
            code = server.process.poll() if server.process.poll() is not None else server.process.wait(5)
            check(code is not None and code > 0, f"it neither starts nor ends: {code}")
            told = server.log_text()[begun:]
            failed = [words[1] for words in faults.lines("fault")]
            check(any(path in told or pathlib.Path(path).name in told for path in failed),
                  f"it does not start, and names none of {failed[:5]}: {told[-500:]}")
            faults.set()
            return
        life = Life(world, server)
        life.expect_answers()
        faults.set()
        expect_back(server, faults)
        life.expect_answers()
        server.kill()
        life.end()


def end_life(world, server, life, faults, case):
    """Ends the server, as it comes; what a failed sync has lost goes."""
    if case.phase == "stop":
        faults.set(*case.rules)
    if case.phase == "stop" or case.kind in ("clean", "producers") or world.rng.random() < 0.4:
        code, _ = server.terminate(30)
        check(code >= 0, f"a stop ended with {code}")
    else:
        server.kill()
    faults.set()
    life.end()
    faults.let_go(world.data)


def run_round(number, rng, folder):
    """Returns whether anything failed, and the case."""
    world, faults, case = World(folder / "data", rng), Faults(folder / "control"), Case(number)
    with Server(world.data, case.options(), faults.environment) as server:
        server.ready()
        case.aim(rng, world.data, world.make(server))
        print(f"{number}: {case}", flush=True)
        life = under_load(world, server, faults, case, rng.uniform(0.3, 1.0))
        end_life(world, server, life, faults, case)
    if case.phase == "start":
        start_with(world, faults, case)
        faults.let_go(world.data)
    again = faults.lines("again")
    check(not again, f"{again[:1]}: a sync that had failed was tried again")
    with Server(world.data, OPTIONS) as server:
        server.ready()
        world.audit(server)
        code, _ = server.terminate()
        check(code == 0, f"a clean stop with a disk that is well ended with {code}")
    with Server(world.data, OPTIONS) as server:
        server.ready()
        world.audit(server)
    return bool(faults.lines("fault")), case, world


def main():
    need_faults("io_faults")
    rounds = Rounds("io_faults", quick=14, full=200)
    met, refusals = {}, 0
    for number, rng in rounds:
        with tempfile.TemporaryDirectory(prefix="pyralog-faults-") as folder:
            try:
                fired, case, world = run_round(rounds.base + number, rng, pathlib.Path(folder))
            except SystemExit:
                print(f"round {number}, SEED={rounds.base + number} ROUNDS=1:\n"
                      + (pathlib.Path(folder) / "data.stderr").read_text(errors="replace")[-6000:]
                      + (pathlib.Path(folder) / "control.log").read_text()[-3000:])
                raise
        met.setdefault(case.kind, []).append(fired)
        refusals += world.refusals
    idle = sorted(kind for kind, fired in met.items() if rounds.count >= len(CASES) and not any(fired))
    check(not idle, f"nothing ever went wrong with: {idle}")
    fired = sum(sum(each) for each in met.values())
    check(rounds.count < 10 or fired > rounds.count / 3, f"a fault came in {fired} rounds only")
    rounds.done(f"a fault came in {fired} of {rounds.count} rounds, to {len(met)} kinds of files; {refusals} requests "
                f"refused, nothing lost")


if __name__ == "__main__":
    main()
