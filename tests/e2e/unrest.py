"""A broker that has no peace: it is killed, or now and then stopped, and started again at random, while
topics of its own forget by size and by key. What was acknowledged to these, and to the clients of the
scenario, is asked for. And a cluster, where whoever leads is killed."""

import pathlib
import random
import sys
import threading
import time

from drivers import StepFailed

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "crash"))

import client as crash_client  # noqa: E402
import compaction  # noqa: E402
import load  # noqa: E402
import retention  # noqa: E402
from rounds import check  # noqa: E402

# Everything rolls soon, and what may go is looked for all the time.
OPTIONS = ("--log-segment-bytes", "65536", "--log-cleaner-backoff-ms", "200",
           "--log-retention-check-interval-ms", "200", "--group-initial-rebalance-delay-ms", "200")
PAUSE = 0.02  # seconds between two requests of a writer: the clients need the machine as well
TRIES = 8     # of a step that a kill has spoilt
NOTICED = 3.0  # seconds until a client finds out, at the latest, that it has lost its connection


class Account:
    """What the clients of the scenario were told is written, topic by topic."""

    def __init__(self):
        self.lock = threading.Lock()
        self.told = {}  # (topic, partition): {offset: (key, value)}
        self.last = None  # the topic that was written to last

    def add(self, topic, records, offsets):
        with self.lock:
            self.last = topic
            for record, offset in zip(records, offsets):
                if offset >= 0:  # kcat is not told where its records went
                    held = self.told.setdefault((topic, record.get("partition", 0)), {})
                    held[offset] = (record.get("key"), record.get("value"))

    def audit(self, driver):
        """Reads it all by `driver`; returns how many records were there."""
        count = 0
        for (topic, partition), held in sorted(self.told.items()):
            marks = driver.call("watermarks", topic=topic, partition=partition)
            size = marks["high"] - marks["low"]
            check(marks["low"] == 0 and size > max(held),
                  f"{topic}-{partition} holds {marks}, {max(held)} was acknowledged")
            found = driver.call("fetch", topic=topic, partition=partition, count=size, timeout_ms=30_000,
                                **{"from": "earliest"})["records"]
            there = {r["offset"]: (r.get("key"), r.get("value")) for r in found}
            for offset, record in held.items():
                check(there.get(offset) == record, f"{topic}-{partition}: what was acknowledged at {offset} "
                                                   f"is {str(there.get(offset))[:80]}, not {str(record)[:80]}")
            count += len(held)
        return count


class Unrest:
    """Ends `broker` at random while its `with` block lasts, and judges its own topics after each start."""

    def __init__(self, broker, seed, pause):
        self.broker, self.rng, self.pause = broker, random.Random(seed), pause
        self.account = Account()
        self.kills = []    # (when it began, when it was over)
        self.failure = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.guarded, daemon=True)
        self.sized, self.keyed = retention.Partition("by-size"), compaction.Topic("by-key")
        self.lives = self.forgotten = 0

    def __enter__(self):
        with crash_client.Client(self.broker.bootstrap) as admin:
            admin.create_topic(self.sized.topic, 1, segment_bytes=retention.SEGMENT,
                               retention_bytes=retention.KEPT)
            admin.create_topic(self.keyed.name, 1, segment_bytes=compaction.SEGMENT,
                               cleanup_policy="compact", min_cleanable_dirty_ratio=0.1)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(90)

    def since(self, moment):
        """Whether the broker was away at any time after `moment`, or so short before it that a client may
        not know yet."""
        return any(until >= moment - NOTICED for _, until in self.kills)

    def guarded(self):
        try:
            while self.life():
                pass
        except SystemExit as failed:  # of a check
            self.failure = str(failed)
        except Exception as failed:
            self.failure = f"{type(failed).__name__}: {failed}"

    def life(self):
        """Writers at work until the next kill; False after the last."""
        self.lives += 1
        writers = load.start(self.broker, self.sized.topic, 1, self.rng, self.lives, 1, pause=PAUSE)
        keyed = compaction.Writer(self.keyed.name, self.broker.bootstrap, random.Random(self.rng.random()),
                                  self.lives, pause=PAUSE)
        keyed.start()
        last = self.over.wait(self.rng.uniform(*self.pause))
        began = time.monotonic()
        self.kills.append((began, float("inf")))
        cleanly = self.rng.random() < 0.2
        self.broker.end(cleanly)
        load.finish(writers, acked := {}, load.GOING_DOWN if cleanly else ())
        self.sized.acked.update(acked.get(0, {}))
        self.keyed.learn(keyed)
        time.sleep(self.rng.choice((0.0, 0.0, 0.3, 1.0)))  # clients meet a port that nobody listens on
        self.broker.start()
        self.kills[-1] = (began, time.monotonic())
        with crash_client.Client(self.broker.bootstrap) as reader:
            before = self.sized.start
            self.sized.audit(reader)
            self.forgotten += self.sized.start - before
            self.keyed.audit(reader)
        return not last

    def judge(self, driver):
        """After the last step, with the broker up: what the run was, or StepFailed."""
        if self.thread.is_alive():
            raise StepFailed("the thread that kills the broker does not end")
        if self.failure:
            raise StepFailed(self.failure)
        try:
            records = self.account.audit(driver)
        except SystemExit as failed:
            raise StepFailed(str(failed)) from failed
        log = self.broker.log_text()
        if not self.forgotten or "broker.compacted" not in log:
            raise StepFailed(f"{self.forgotten} records were forgotten, and compaction "
                             + ("worked" if "broker.compacted" in log else "never worked"))
        return (f"{len(self.kills)} times ended, {records} records of the scenario as acknowledged, "
                f"{self.forgotten} forgotten by size, {log.count('broker.compacted')} compactions")


class LeadersKilled:
    """Kills (-9) at random who leads what was written to last, while its `with` block lasts, and starts it
    again; the other nodes go on. The next one is killed when the cluster is whole again."""

    def __init__(self, broker, seed, pause):
        self.broker, self.rng, self.pause = broker, random.Random(seed), pause
        self.account = Account()
        self.kills = []  # (when it began, when the cluster was whole again)
        self.failure = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.guarded, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(90)

    since = Unrest.since

    def guarded(self):
        try:
            pause = 1.0  # whatever is played, it meets one
            while not self.over.wait(pause):
                self.kill_one()
                pause = self.rng.uniform(*self.pause)
        except Exception as failed:
            self.failure = f"{type(failed).__name__}: {failed}"

    def victim(self):
        leaders = []
        try:
            leaders = [node for node in self.broker.leaders(self.account.last).values() if node in self.broker.nodes]
        except (crash_client.Refused, OSError):
            pass  # nothing was written to yet, or it is deleted
        return leaders[0] if leaders else self.rng.choice(list(self.broker.nodes))

    def kill_one(self):
        victim = self.victim()
        began = time.monotonic()
        self.kills.append((began, float("inf")))
        self.broker.kill(victim)
        time.sleep(self.rng.uniform(0.0, 4.0))
        self.broker.restart(victim)
        self.broker.await_whole()
        self.kills[-1] = (began, time.monotonic())

    def judge(self, driver):
        """After the last step, with all nodes up: what the run was, or StepFailed."""
        if self.thread.is_alive():
            raise StepFailed("the thread that kills the leaders does not end")
        if self.failure:
            raise StepFailed(self.failure)
        if not self.kills:
            raise StepFailed("no leader was killed: the steps were over too soon")
        try:
            records = self.account.audit(driver)
        except SystemExit as failed:
            raise StepFailed(str(failed)) from failed
        return f"{len(self.kills)} leaders killed, {records} records of the scenario as acknowledged"
