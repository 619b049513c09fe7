"""The steps of scenario.toml, one function a `kind`. Each takes the Context of one client and the
step's table, and raises StepFailed when something is not as it should be."""

import signal
import time

from drivers import Driver, OperationFailed, StepFailed
from proxy import ResponseLossProxy

UNKNOWN_TOPIC, TOO_LARGE, OUT_OF_RANGE = 3, 10, 1
BAD_TOPIC, TOPIC_EXISTS, BAD_PARTITIONS, BAD_REPLICATION, BAD_CONFIG = 17, 36, 37, 38, 40
NON_EMPTY_GROUP, NO_GROUP, FENCED_INSTANCE = 68, 69, 82

HELPER = "librdkafka"  # does what a client lacks, so that its other steps can be played


class Context:
    """What a step works with: its client's driver, its partner's, and members that it starts."""

    def __init__(self, client, lacks, partner, bootstrap, limits, run, log):
        self.client, self.lacks, self.partner = client, lacks, partner
        self.bootstrap, self.limits, self.run, self.log = bootstrap, limits, run, log
        self.own_bootstrap = bootstrap  # of this client only: its partner and its helper go by the other
        self.shared = {}
        self.members = []
        self.forgetful = set()  # topics that need not keep what they were given
        self.step = None
        self.serial = 0
        self.deadline = None
        self.account = None  # of what is acknowledged, where the broker is killed meanwhile
        self.nodes = 1  # of the cluster under test

    def begin(self, step):
        self.step = step["name"]
        self.deadline = time.monotonic() + self.limits["step_seconds"]

    def end(self, failed):
        for member in self.members:
            if failed:
                member.dump()
            member.close()
        self.members.clear()
        if failed:
            self.close()

    def close(self):
        for driver in self.shared.values():
            driver.close()
        self.shared.clear()

    def left(self):
        return max(self.deadline - time.monotonic(), 0.1)

    def named(self, suffix):
        self.serial += 1
        return f"{self.run}-{self.client}-{self.step}-{self.serial}-{suffix}".replace("_", "-")

    def way(self, client):
        return self.own_bootstrap if client == self.client else self.bootstrap

    def driver(self, client=None):
        client = client or self.client
        if client not in self.shared:
            self.shared[client] = Driver(client, self.way(client), self.log)
        return self.shared[client]

    def call(self, op, client=None, **arguments):
        return self.driver(client).call(op, timeout=self.left(), **arguments)

    def helper(self, capability):
        """The client itself, or one that has what it lacks."""
        return self.client if capability not in self.lacks else HELPER

    def topic(self, suffix="t", partitions=1, **configs):
        name = self.named(suffix)
        self.create(name, self.helper("admin"), partitions=partitions, configs=configs)
        if "cleanup.policy" in configs:
            self.forgetful.add(name)
        return name

    def create(self, name, client=None, **options):
        options.setdefault("replication_factor", min(3, self.nodes))
        self.call("create_topic", client, topic=name, **options)

    def member(self, group, topics=(), client=None, **options):
        member = Driver(client or self.client, self.way(client or self.client), self.log)
        self.members.append(member)
        options.setdefault("reset", "earliest")
        options.setdefault("commit", "each")
        options.setdefault("session_timeout_ms", self.limits["session_timeout_ms"])
        member.call("join", timeout=self.left(), group=group, topics=list(topics), **options)
        return member

    def produce(self, topic, records, client=None, **options):
        offsets = self.call("produce", client, topic=topic, records=records, **options)["offsets"]
        if self.account and topic not in self.forgetful and options.get("acks", "all") == "all":
            self.account.add(topic, records, offsets)
        return offsets

    def committed(self, group, topic, partitions):
        found = self.call("committed", self.helper("commit"), group=group, topic=topic,
                          partitions=list(range(partitions)))["offsets"]
        return {int(partition): offset for partition, offset in found.items()}


def expect(condition, text):
    if not condition:
        raise StepFailed(text)


def expect_equal(found, wanted, what):
    expect(found == wanted, f"{what}: expected {shorten(wanted)}, found {shorten(found)}")


def shorten(value, limit=300):
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "…"


def expect_code(code, what, operation):
    try:
        operation()
    except OperationFailed as failure:
        codes = code if isinstance(code, tuple) else (code,)
        expect(failure.code in codes, f"{what}: expected error {code}, found {failure}")
        return
    raise StepFailed(f"{what}: expected error {code}, but it went well")


def until(condition, what, timeout, pause=0.05):
    """Polls `condition` until it is true; for facts that only a request to the broker shows."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise StepFailed(f"{what}: not within {timeout:.0f} s")
        time.sleep(pause)


def admin(ctx, _):
    name = ctx.topic("a", partitions=3, **{"retention.ms": "3600000"})
    until(lambda: ctx.call("list_topics")["topics"].get(name) == 3, "topic with 3 partitions", 10)
    expect_equal(ctx.call("describe_configs", topic=name)["configs"].get("retention.ms"), "3600000",
                 "retention.ms as created")
    ctx.call("alter_configs", topic=name, configs={"retention.ms": "7200000"})
    until(lambda: ctx.call("describe_configs", topic=name)["configs"].get("retention.ms")
          == "7200000", "retention.ms as altered", 10)
    ctx.call("create_partitions", topic=name, total=5)
    until(lambda: ctx.call("list_topics")["topics"].get(name) == 5, "topic with 5 partitions", 10)
    until(lambda: ctx.call("list_topics", ctx.partner)["topics"].get(name) == 5,
          "partner sees 5 partitions", 10)
    ctx.call("delete_topic", topic=name)
    until(lambda: name not in ctx.call("list_topics")["topics"], "topic gone", 10)


def admin_errors(ctx, _):
    name = ctx.topic("a", partitions=2)

    def create(topic, **more):
        return lambda: ctx.create(topic, **more)

    expect_code(TOPIC_EXISTS, "same topic twice", create(name))
    expect_code(BAD_REPLICATION, "more replicas than nodes",
                create(ctx.named("r"), replication_factor=ctx.nodes + 2))
    expect_code(BAD_CONFIG, "impossible retention.ms",
                create(ctx.named("c"), configs={"retention.ms": "soon"}))
    expect_code(BAD_TOPIC, "forbidden name", create("no spaces allowed"))
    expect_code(BAD_PARTITIONS, "fewer partitions than there are",
                lambda: ctx.call("create_partitions", topic=name, total=1))
    expect_code(UNKNOWN_TOPIC, "delete of an unknown topic",
                lambda: ctx.call("delete_topic", topic=ctx.named("none")))


def records_of(step):
    if "records" in step:
        return [dict(record, partition=0) for record in step["records"]]
    size = step["generate"]["bytes"]
    letters = "".join(chr(97 + (i * 7 + i // 26) % 26) for i in range(1000))
    return [{"partition": 0, "key": f"key-{i}",
             "value": (f"{i}:" + letters[i % 26:] + letters * (size // 1000 + 1))[:size]}
            for i in range(step["generate"]["count"])]


def plain(record):
    return (record.get("key"), record.get("value"),
            [tuple(header) for header in record.get("headers") or []])


def check_records(found, wanted, who):
    expect_equal(len(found), len(wanted), f"{who}: number of records")
    for number, (one, other) in enumerate(zip(found, wanted)):
        expect_equal(one["offset"], number, f"{who}: offset of record {number}")
        expect_equal(plain(one), plain(other), f"{who}: record {number}")
        if other.get("timestamp") is not None:
            expect_equal(one["timestamp"], other["timestamp"], f"{who}: timestamp of {number}")
        else:
            age = time.time() * 1000 - one["timestamp"]
            expect(-5_000 < age < 120_000, f"{who}: timestamp {one['timestamp']} is not now")


def roundtrip(ctx, step):
    wanted = records_of(step)
    if ctx.client == "kcat" or ctx.partner == "kcat":
        # kcat's command line knows no difference between an empty and an absent key
        wanted = [record for record in wanted if record.get("key") != ""]
    for codec in step["codecs"]:
        for acks in step.get("acks", ["all"]):
            for isolation in step.get("isolation", ["read_committed"]):
                one_roundtrip(ctx, wanted, codec, acks, isolation, step.get("batch", 10_000))


def one_roundtrip(ctx, wanted, codec, acks, isolation, batch):
    pairs = [(ctx.client, ctx.partner)]
    if "timestamps" not in ctx.lacks and not (ctx.partner == "kcat" and "timestamp" in wanted[0]):
        pairs.append((ctx.partner, ctx.client))
    for writer, reader in pairs:
        topic = ctx.topic(f"{codec}-{acks}")
        offsets = ctx.produce(topic, wanted, writer, codec=codec, acks=acks, batch=batch)
        if acks != "0" and writer != "kcat":
            expect_equal(offsets, list(range(len(wanted))), f"{writer}: offsets of {codec}")
        for client in {reader, ctx.client}:
            # acks=0 has no answer: the read waits for the records to arrive
            found = ctx.call("fetch", client, topic=topic, partition=0, count=len(wanted),
                             isolation=isolation, timeout_ms=15_000, **{"from": "earliest"})
            check_records(found["records"], wanted, f"{codec}, acks {acks}: {writer} to {client}")


def seek(ctx, _):
    base, count = 1_700_000_000_000, 40
    records = [{"partition": 0, "key": "k", "value": f"v{i}", "timestamp": base + i * 1000}
               for i in range(count)]
    for codec in ("none", "gzip"):
        topic = ctx.topic(codec)
        writer = ctx.helper("timestamps")
        ctx.produce(topic, records[:25], writer, codec=codec)
        ctx.produce(topic, records[25:], writer, codec=codec)
        for offset in (0, 7, 24, 25, 39):
            found = ctx.call("fetch", topic=topic, partition=0, count=1, **{"from": offset})
            expect_equal([(r["offset"], r["value"]) for r in found["records"]],
                         [(offset, f"v{offset}")], f"{codec}: fetch at {offset}")
        # exactly at, just after, before all, in a later batch, past the end
        for timestamp, offset in ((base + 7000, 7), (base + 7001, 8), (base - 1, 0),
                                  (base + 30_500, 31), (base + count * 1000, -1)):
            found = ctx.call("offset_for_time", topic=topic, partition=0, timestamp=timestamp)
            if offset == -1 and ctx.client == "kafkajs":
                offset = count  # kafkajs answers the end instead
            expect_equal(found["offset"], offset, f"{codec}: offset for time {timestamp - base}")
        marks = ctx.call("watermarks", topic=topic, partition=0)
        expect_equal((marks["low"], marks["high"]), (0, count), f"{codec}: watermarks")


def compacted(ctx, step):
    """Compaction takes what a newer record of its key has replaced; the rest stays at its offset, and a
    reader gets over batches that have lost records, or all of them."""
    topic = ctx.topic("c", **{"cleanup.policy": "compact", "segment.bytes": "16384",
                              "min.cleanable.dirty.ratio": "0.01"})
    keys = step["keys"]
    truth, written = {}, 0
    for turn, codec in enumerate(step["codecs"]):
        records = []
        for i in range(step["records"]):
            key = f"k{(i * 7 + turn) % keys}"
            record = {"key": key}
            if (i + turn) % 11:
                record["value"] = f"{turn}.{i}:" + "v" * 300
            truth[key] = (written + i, record.get("value"))
            records.append(record)
        written += len(records)
        ctx.produce(topic, records, codec=codec, batch=20)

    def read(client, count, at="earliest"):
        return ctx.call("fetch", client, topic=topic, partition=0, count=count, timeout_ms=20_000,
                        **{"from": at})["records"]

    # The last segment is as it was written; how many are left in all, only a reader can tell.
    last = max(offset for offset, _ in truth.values())

    def read_all():
        found = []
        while not found or found[-1]["offset"] < last:
            part = read(HELPER, 1, found[-1]["offset"] + 1 if found else "earliest")
            expect(part, f"nothing behind {found[-1:]}, yet there is a record at {last}")
            found += part
        return found

    def settled():
        before = read(HELPER, 1)[0]["offset"]
        time.sleep(1)  # compaction looks five times meanwhile
        found = read_all()
        return found if found[0]["offset"] == before > step["records"] else None

    left = until(settled, "the first records are gone", 60)
    expect(len(left) < written / 2, f"{len(left)} of {written} records are left")
    for client in {ctx.client, ctx.partner}:
        found = read(client, len(left))
        expect_equal([r["offset"] for r in found], [r["offset"] for r in left], f"{client}: offsets")
        expect_equal({r["key"]: (r["offset"], r.get("value")) for r in found}, truth,
                     f"{client}: the newest of each key")


def client_errors(ctx, _):
    missing = ctx.named("none")
    expect_code(UNKNOWN_TOPIC, "fetch from an unknown topic",
                lambda: ctx.call("fetch", topic=missing, partition=0, count=1, timeout_ms=15_000,
                                 **{"from": 0}))
    small = ctx.topic("small", **{"max.message.bytes": "2000"})
    expect_code(TOO_LARGE, "message over max.message.bytes",
                lambda: ctx.produce(small, [{"partition": 0, "key": "k", "value": "x" * 20_000}]))
    ctx.produce(small, [{"partition": 0, "key": "k", "value": "fits"}])
    found = ctx.call("fetch", topic=small, partition=0, count=1, **{"from": "earliest"})
    expect_equal(found["records"][0]["value"], "fits", "record after the refused one")


def idempotent(ctx, step):
    topic = ctx.topic("i")
    records = [{"partition": 0, "key": "k", "value": str(i)} for i in range(step["records"])]
    with ResponseLossProxy(ctx.way(ctx.client), step["loss"], step["seed"]) as proxy:
        ctx.produce(topic, records, idempotent=True, bootstrap=proxy.bootstrap,
                    batch=step["batch"], batch_bytes=40 * step["batch"])
        expect(proxy.swallowed >= 2, f"the proxy lost only {proxy.swallowed} of {proxy.produced}")
    marks = ctx.call("watermarks", topic=topic, partition=0)
    expect_equal(marks["high"], len(records), f"records after {proxy.swallowed} lost answers")
    found = ctx.call("fetch", ctx.partner, topic=topic, partition=0, count=len(records),
                     **{"from": "earliest"})
    expect_equal([r["value"] for r in found["records"]], [r["value"] for r in records],
                 "values in order")


def commit_fetch(ctx, _):
    topic, group = ctx.topic(partitions=3), ctx.named("g")
    ctx.produce(topic, [{"partition": p, "key": "k", "value": f"{p}.{i}"}
                        for p in range(3) for i in range(10)])
    expect_equal(ctx.committed(group, topic, 3), {0: -1, 1: -1, 2: -1}, "before any commit")
    ctx.call("commit", group=group, topic=topic, offsets={"0": 4, "2": 10})
    expect_equal(ctx.committed(group, topic, 3), {0: 4, 1: -1, 2: 10}, "after a commit")
    ctx.call("commit", ctx.partner if ctx.partner != "kcat" else ctx.client, group=group,
             topic=topic, offsets={"0": 7})
    expect_equal(ctx.committed(group, topic, 3), {0: 7, 1: -1, 2: 10}, "after another client's")
    member = ctx.member(group, [topic], reset="earliest")
    member.until(lambda events: sum(e["event"] == "record" for e in events) >= 13,
                 "records from the committed offsets on", ctx.left())
    first = {}
    for record in member.records():
        first.setdefault(record["partition"], record["offset"])
    expect_equal(first, {0: 7, 1: 0}, "where the member began")


def offset_reset(ctx, _):
    topic = ctx.topic()
    ctx.produce(topic, [{"partition": 0, "key": "k", "value": f"old{i}"} for i in range(5)])
    member = ctx.member(ctx.named("g"), [topic], reset="earliest")
    member.until(lambda _: len(member.records()) >= 5, "5 old records", ctx.left())
    expect_equal(member.records()[0]["offset"], 0, "first offset with reset=earliest")
    late = ctx.member(ctx.named("g"), [topic], reset="latest")
    late.until(lambda _: late.assignment(), "an assignment", ctx.left())
    # A member with an assignment may not have its position yet: write until it sees something.
    deadline = time.monotonic() + ctx.left()
    number = 0
    while not late.records():
        expect(time.monotonic() < deadline, "reset=latest: no new record arrived")
        ctx.produce(topic, [{"partition": 0, "key": "k", "value": f"new{number}"}])
        number += 1
        time.sleep(0.1)
    expect(late.records()[0]["offset"] >= 5, "reset=latest showed an old record")


def offset_reset_none(ctx, _):
    topic = ctx.topic()
    ctx.produce(topic, [{"partition": 0, "key": "k", "value": "v"}])
    member = ctx.member(ctx.named("g"), [topic], reset="none")
    member.until(lambda events: any(e["event"] == "error" for e in events),
                 "an error, for there is no committed offset", ctx.left())
    expect_equal(member.records(), [], "records with reset=none")


def await_covered(ctx, members, wanted, timeout=60):
    """Waits until the members' assignments are disjoint, none empty, and cover `wanted`."""

    def covered():
        held = [member.assignment() for member in members]
        return (all(held) and sum(map(len, held)) == len(wanted)
                and set().union(*held) == wanted)

    until(covered, f"{len(wanted)} partitions on {len(members)} members",
          min(timeout, ctx.left()))


def all_of(topic, partitions):
    return {(topic, partition) for partition in range(partitions)}


def group_member_killed(ctx, step):
    partitions, share = step["partitions"], step["records"]
    topic, group = ctx.topic(partitions=partitions), ctx.named("g")
    members = [ctx.member(group, [topic]) for _ in range(step["members"])]
    await_covered(ctx, members, all_of(topic, partitions))

    def write(round_number):
        ctx.produce(topic, [{"partition": i % partitions, "key": "k", "value": f"{round_number}.{i}"}
                            for i in range(share)])

    def seen():
        return {(r["partition"], r["offset"]) for m in members for r in m.records()}

    write(0)
    until(lambda: len(seen()) == share, "first records", ctx.left())
    victim = members[1]
    victim.signal(signal.SIGKILL)
    write(1)
    await_covered(ctx, [members[0], members[2]], all_of(topic, partitions))
    write(2)
    until(lambda: len(seen()) == 3 * share, "every record on some member", ctx.left())
    ends = {p: 3 * share // partitions for p in range(partitions)}
    until(lambda: ctx.committed(group, topic, partitions) == ends, "all offsets committed",
          ctx.left(), pause=0.3)


def static_members(ctx, _):
    topic, group = ctx.topic(partitions=4), ctx.named("g")
    patient = {"session_timeout_ms": 30_000}  # the restart must come before it, on any machine
    first = ctx.member(group, [topic], instance_id="pharaoh", **patient)
    second = ctx.member(group, [topic], instance_id="scribe", **patient)
    await_covered(ctx, [first, second], all_of(topic, 4))
    held = second.assignment()
    changes = len([e for e in first.events if e["event"] == "assigned"])
    second.signal(signal.SIGKILL)
    back = ctx.member(group, [topic], instance_id="scribe", **patient)
    back.until(lambda _: back.assignment() == held, "the same partitions after a restart",
               ctx.left())
    expect_equal(len([e for e in first.events if e["event"] == "assigned"]), changes,
                 "rebalances of the other member")
    usurper = ctx.member(group, [topic], instance_id="scribe", **patient)
    usurper.until(lambda _: usurper.assignment() == held, "the partitions of the fenced member",
                  ctx.left())
    if "fenced_event" in ctx.lacks:
        expect_code(FENCED_INSTANCE, "commit of the fenced member",
                    lambda: back.call("commit_now", timeout=ctx.left()))
        return
    back.until(lambda events: any(e["event"] == "error" for e in events), "to be fenced",
               ctx.left())
    error = next(e for e in back.events if e["event"] == "error")
    expect_equal(error["code"], FENCED_INSTANCE, f"why it was fenced ({error.get('message')})")


def stale_commit(ctx, _):
    topic, group = ctx.topic(partitions=2), ctx.named("g")
    write = [{"partition": p, "key": "k", "value": f"{p}.{i}"} for p in range(2) for i in range(5)]
    ctx.produce(topic, write)
    stale = ctx.member(group, [topic], commit="manual")
    stale.until(lambda _: len(stale.records()) == 10, "10 records", ctx.left())
    stale.signal(signal.SIGSTOP)
    fresh = ctx.member(group, [topic])
    fresh.until(lambda _: fresh.assignment() == all_of(topic, 2), "the partitions", ctx.left())
    ctx.produce(topic, write)
    until(lambda: ctx.committed(group, topic, 2) == {0: 10, 1: 10}, "the new owner's commits",
          ctx.left(), pause=0.3)
    number = stale.post("commit_now")
    stale.signal(signal.SIGCONT)
    try:
        stale.answer(number, "commit_now", min(30, ctx.left()))
        refused = False
    except OperationFailed as failure:
        refused = True
        expect(failure.code in (None, 22, 25, 27, 82), f"stale commit: strange error {failure}")
    # A client that has already noticed and joined again may commit, but only what it was given.
    expect_equal(ctx.committed(group, topic, 2), {0: 10, 1: 10},
                 f"commits after a stale one ({'refused' if refused else 'not refused'})")


def assignors(ctx, step):
    for strategy in step["strategies"]:
        topic, group = ctx.topic(strategy, partitions=4), ctx.named("g")
        members = [ctx.member(group, [topic], strategy=strategy) for _ in range(2)]
        await_covered(ctx, members, all_of(topic, 4))
        expect_equal(sorted(len(m.assignment()) for m in members), [2, 2], f"{strategy}: shares")
        for member in members:
            member.call("leave", timeout=ctx.left())


def mixed_group(ctx, _):
    other = ctx.partner if ctx.partner != "kafkajs" else "java"
    topic, group = ctx.topic(partitions=4), ctx.named("g")
    members = [ctx.member(group, [topic], strategy="range"),
               ctx.member(group, [topic], client=other, strategy="range")]
    await_covered(ctx, members, all_of(topic, 4))
    ctx.produce(topic, [{"partition": i % 4, "key": "k", "value": str(i)} for i in range(40)])
    until(lambda: len({(r["partition"], r["offset"]) for m in members for r in m.records()}) == 40,
          f"40 records between {ctx.client} and {other}", ctx.left())


def cooperative(ctx, _):
    topic, group = ctx.topic(partitions=4), ctx.named("g")
    first = ctx.member(group, [topic], strategy="cooperative-sticky")
    first.until(lambda _: first.assignment() == all_of(topic, 4), "all partitions", ctx.left())
    before = len(first.events)
    second = ctx.member(group, [topic], strategy="cooperative-sticky")
    await_covered(ctx, [first, second], all_of(topic, 4))
    kept = first.assignment()
    for event in first.events[before:]:
        if event["event"] == "assigned":
            shown = {(t, p) for t, p in event["partitions"]}
            expect(kept <= shown, f"kept partitions were revoked on the way: {shown}")


def regex(ctx, _):
    stem = ctx.named("rx")
    admin_client = ctx.helper("admin")

    def create(name):
        ctx.create(name, admin_client, partitions=1)
        ctx.produce(name, [{"partition": 0, "key": "k", "value": name}])
        return name

    names = [create(stem + "-a"), create(stem + "-b")]
    create("other-" + stem)
    member = ctx.member(ctx.named("g"), pattern=f"^{stem}-.*")
    member.until(lambda _: {r["topic"] for r in member.records()} == set(names),
                 "records of both topics", ctx.left())
    if "regex_later" not in ctx.lacks:
        names.append(create(stem + "-later"))
        member.until(lambda _: {r["topic"] for r in member.records()} == set(names),
                     "records of a topic made later", ctx.left())
    expect_equal({r["value"] for r in member.records()}, set(names), "topics that matched")


def pause_resume(ctx, _):
    topic = ctx.topic(partitions=2)
    member = ctx.member(ctx.named("g"), [topic])
    member.until(lambda _: member.assignment() == all_of(topic, 2), "both partitions", ctx.left())
    member.call("pause", timeout=ctx.left(), topic=topic, partition=0)

    def of(partition):
        return [r for r in member.records() if r["partition"] == partition]

    for number in (1, 2):
        ctx.produce(topic, [{"partition": p, "key": "k", "value": str(i)}
                            for p in (0, 1) for i in range(5)])
        member.until(lambda _, n=number: len(of(1)) == 5 * n, "the other partition", ctx.left())
    expect_equal(of(0), [], "records of the paused partition")
    member.call("resume", timeout=ctx.left(), topic=topic, partition=0)
    member.until(lambda _: len(of(0)) == 10, "the resumed partition", ctx.left())


def group_admin(ctx, _):
    topic, group = ctx.topic(partitions=2), ctx.named("g")
    ctx.produce(topic, [{"partition": 0, "key": "k", "value": "v"}])
    member = ctx.member(group, [topic])
    member.until(lambda _: member.assignment() == all_of(topic, 2), "the partitions", ctx.left())
    expect(group in ctx.call("list_groups")["groups"], "the group is not listed")
    until(lambda: ctx.call("describe_group", group=group) | {"id": 0}
          == {"id": 0, "ok": True, "state": "STABLE", "members": 1}, "one stable member", 10)
    expect_code(NON_EMPTY_GROUP, "delete of a group with members",
                lambda: ctx.call("delete_group", group=group))
    member.until(lambda _: member.records(), "the record", ctx.left())
    member.call("leave", timeout=ctx.left())
    until(lambda: ctx.call("describe_group", group=group)["state"] == "EMPTY", "an empty group", 15)
    ctx.call("delete_group", group=group)
    until(lambda: group not in ctx.call("list_groups")["groups"], "the group gone", 10)
    expect_code(NO_GROUP, "delete of an unknown group",
                lambda: ctx.call("delete_group", group=ctx.named("none")))


KINDS = {function.__name__: function for function in (
    admin, admin_errors, roundtrip, seek, compacted, client_errors, idempotent, commit_fetch,
    offset_reset, offset_reset_none, group_member_killed, static_members, stale_commit, assignors, cooperative,
    regex, pause_resume, group_admin)}
KINDS["mixed_group"] = mixed_group
