#!/usr/bin/env python3
"""One server lives on, life after life, under a load of everything at once: plain and idempotent producers,
topics that forget by size and by key, one in memory, groups that commit, topics made and deleted, readers,
one of them so slow that it never reads, and connections that come to nothing. It is killed, stopped,
frozen, its disk fills up and loses its power. Nothing that was acknowledged is lost, and neither memory
nor files grow: in the last life, which is a long one, nor from life to life."""

import contextlib
import os
import pathlib
import random
import socket
import statistics
import tempfile
import threading
import time
import traceback

import client
import compaction
import disk
import eos_crash
import groups_crash
import load
import retention
from full_disk import delete_topic
from rounds import check
from server import Server
from wire import batch

SOAK = os.environ.get("PYRALOG_SOAK") == "1"
SECONDS = float(os.environ.get("SECONDS") or (3600 if SOAK else 40))
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 31))
LAST = 0.25                       # the share of the last life
LIFE = (4.0, 40.0) if SOAK else (1.0, 3.0)
MEBIBYTES, FLOOR = 768, 16 << 20
PAUSE = 0.02                      # seconds between a thread's requests
OPTIONS = ("--min-free-bytes", str(FLOOR), "--disk-reserve-bytes", str(2 << 20), "--log-cleaner-backoff-ms", "200",
           "--log-retention-check-interval-ms", "200", "--log-scrub-interval-ms", "5000",
           "--group-initial-rebalance-delay-ms", "0", "--offsets-topic-num-partitions", "8",
           "--log-write-ahead-bytes", "1048576")
FORGET = {"segment_bytes": 1 << 18, "retention_bytes": 1 << 20}
IN_DOUBT = (client.STORAGE_ERROR, *load.GOING_DOWN)


class Committer(groups_crash.Group):
    def commit(self, admin):
        time.sleep(PAUSE)
        super().commit(admin)


class NotNow(Exception):
    """A refusal for want of space, or at a stop: it is to be sent again."""


class Idempotent(eos_crash.Producer):
    in_doubt = IN_DOUBT

    def next_batch(self):
        time.sleep(PAUSE)
        return super().next_batch()

    def answer(self, wire):
        code, base = super().answer(wire)
        if code in self.in_doubt:
            raise NotNow
        return code, base

    def work(self, bootstrap, stopping):
        """After a refusal what is pending is sent again on another connection, as clients do."""
        while True:
            with contextlib.suppress(NotNow):
                return super().work(bootstrap, stopping)
            if stopping.wait(PAUSE):
                return None


class Life:
    """The threads of one life. Each ends by itself once the server is gone or `over` is set."""

    def __init__(self, world, server, rng, in_doubt=IN_DOUBT):
        self.in_doubt = Idempotent.in_doubt = in_doubt
        self.world, self.server, self.over = world, server, threading.Event()
        self.failed = []
        self.writers = load.start(server, "by-size", 1, rng, world.identity, 2, pause=PAUSE)
        world.identity += 2
        self.keyed = compaction.Writer("by-key", server.bootstrap, random.Random(rng.random()), world.lives,
                                       pause=PAUSE, in_doubt=in_doubt)
        self.keyed.start()
        works = [lambda p=p: p.work(server.bootstrap, self.over) for p in world.producers]
        works += [lambda g=g: self.commit(g) for g in world.groups]
        works += [lambda w=w, seed=rng.random(): w(random.Random(seed))
                  for w in (self.churn, self.remember, self.read, self.crawl, self.knock)]
        self.threads = [threading.Thread(target=self.guarded, args=(w,), daemon=True) for w in works]
        for thread in self.threads:
            thread.start()

    def guarded(self, work):
        try:
            work()
        except TimeoutError:
            pass  # it may be frozen for long
        except OSError:  # the server is gone
            if not self.server.ending:
                self.failed.append("the server ended a connection, and not itself: " + traceback.format_exc())
        except (SystemExit, client.Refused) as failure:
            self.failed.append(str(failure))
        except Exception:  # an answer that makes no sense
            self.failed.append(traceback.format_exc())

    def commit(self, group):
        """Commits are refused by a server that is being stopped, and by no other."""
        try:
            group.work(self.server.bootstrap)
        except (SystemExit, client.Refused):
            if not self.server.ending:
                raise

    def churn(self, rng):
        with client.Client(self.server.bootstrap) as admin:
            while not self.over.wait(5 * PAUSE):
                name = f"churn-{self.world.lives}-{rng.randrange(1 << 30)}"
                admin.create_topic(name, 3, segment_bytes=1 << 16)
                for partition in range(3):
                    code, _ = admin.produce(name, partition, batch([b"x" * rng.randint(10, 3000)] * 3))
                    check(code in (client.NONE, *self.in_doubt), f"{name}: error {code}")
                    if code == client.NONE:
                        check(len(admin.read(name, partition)) == 3, f"{name}-{partition}: not all is there")
                delete_topic(admin, name)

    def remember(self, rng):
        with client.Client(self.server.bootstrap) as producer:
            while not self.over.wait(PAUSE):
                code, _ = producer.produce("memory", 0, batch([b"m" * rng.randint(10, 20_000)]))
                check(code in (client.NONE, *load.GOING_DOWN), f"memory: error {code}")

    def read(self, rng):
        with client.Client(self.server.bootstrap) as reader:
            while not self.over.wait(10 * PAUSE):
                try:
                    reader.read("by-size", 0)
                except client.Refused as refused:
                    check(refused.code in (1, *load.GOING_DOWN), str(refused))  # forgotten meanwhile

    def crawl(self, rng):
        """Asks for much and reads nothing of it."""
        body = (client.i32(-1) + client.i32(0) + client.i32(0) + client.i32(1 << 20) + client.i8(0)
                + client.array([client.string("idempotent")
                                + client.array([client.i32(0) + client.i64(0) + client.i32(1 << 20)])]))
        with client.Client(self.server.bootstrap) as slow:
            slow.wire.socket.settimeout(0.5)
            with contextlib.suppress(OSError):  # it may be thrown out
                for _ in range(200):
                    slow.wire.send(client.FETCH, 4, body)
            self.over.wait(rng.uniform(1, 30))

    def knock(self, rng):
        """Connections that send nothing, or not all that they announce, or rubbish."""
        host, port = self.server.bootstrap.split(":")
        held = []
        try:
            while not self.over.wait(PAUSE):
                held.append(socket.create_connection((host, int(port)), timeout=5))
                with contextlib.suppress(ConnectionError):
                    held[-1].send(rng.choice((b"\0", b"\0\0\4\0" + b"a" * 100, b"GET / HTTP/1.1\r\n\r\n",
                                              b"\0\0\0\x20" + rng.randbytes(32))))
                if len(held) > 60:
                    held.pop(rng.randrange(len(held))).close()
        finally:
            for each in held:
                each.close()

    def end(self):
        """After the server's end: everything has ended, and what it was told is kept."""
        self.over.set()
        for thread in self.threads:
            thread.join(60)
            check(not thread.is_alive(), "a thread waits for ever")
        check(not self.failed, "; ".join(self.failed))
        load.finish(self.writers, acked := {}, self.in_doubt)
        self.world.sized.acked.update(acked.get(0, {}))
        self.world.keyed.learn(self.keyed)


class World:
    """What is known from life to life."""

    def __init__(self, rng):
        self.rng = rng
        self.sized, self.keyed = retention.Partition("by-size"), compaction.Topic("by-key")
        self.producers, self.groups = [], []
        self.identity = self.lives = 0
        self.ends = {}
        self.resident, self.files = [], []  # at the end of each life

    def begin(self, server):
        """Makes what is needed, or asks for what was promised; clears away what a kill has left."""
        with client.Client(server.bootstrap) as admin:
            if not self.lives:
                admin.create_topic("by-size", 1, **FORGET)
                admin.create_topic("by-key", 1, segment_bytes=compaction.SEGMENT, cleanup_policy="compact",
                                   min_cleanable_dirty_ratio=0.1)
                admin.create_topic("memory", 1, durability="memory", retention_bytes=1 << 20)
                admin.create_topic("idempotent", 3)
                admin.create_topic(groups_crash.TOPIC, groups_crash.PARTITIONS)
                self.producers = [Idempotent(i, i % 3, admin, self.rng) for i in range(4)]
                self.groups = [Committer(f"group-{i}", self.rng) for i in range(3)]
            partitions = server.partitions()
            offline = {name: p["offline"] for name, p in partitions.items() if p.get("offline")}
            check(not offline, f"life {self.lives}: offline partitions: {offline}")
            for name in {n.rpartition("-")[0] for n in partitions if n.startswith("churn-")}:
                delete_topic(admin, name)
            self.sized.audit(admin)
            self.keyed.audit(admin)

    def look(self, server):
        """(resident MiB, files in the directory, files that are open) at this moment."""
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        files = sum(len(names) for _, _, names in os.walk(server.data))
        return resident / 1024, files, len(os.listdir(f"/proc/{server.process.pid}/fd"))

    def finish(self, server, image):
        """Ends the life in one of the ways there are; returns the image that the next one lives on."""
        end = self.rng.choices(("kill", "stop", "power"), (5, 2, 2))[0]
        self.ends[end] = self.ends.get(end, 0) + 1
        if end == "kill":
            server.kill()
        elif end == "stop":
            check(server.terminate()[0] == 0, "a clean stop failed")
        else:
            copy = image.with_name(f"{self.lives}.img")
            disk.lose_power(server, image, copy)
            return copy
        return image

    def fault(self, server, root):
        """Something that befalls a life in its middle."""
        fault = self.rng.choices(("none", "full", "frozen"), (3, 2, 1))[0]
        self.ends[fault] = self.ends.get(fault, 0) + 1
        if fault == "frozen":
            server.freeze()
            time.sleep(self.rng.uniform(0.1, LIFE[0]))
            server.process.send_signal(18)
        elif fault == "full":
            seen = os.statvfs(root)
            foreign = root / "foreign"
            with open(foreign, "wb") as out:
                os.posix_fallocate(out.fileno(), 0, max(seen.f_bavail * seen.f_frsize - FLOOR // 2, 1 << 20))
            time.sleep(self.rng.uniform(0.5, LIFE[0]))
            foreign.unlink()


def live(world, image, folder):
    with disk.mounted(image, f"{folder}/mounted", world.rng.choice(disk.MOUNTS)) as root:
        (root / "foreign").unlink(missing_ok=True)  # the power went while the disk was full
        with Server(root / "data", OPTIONS) as server:
            server.ready()
            world.begin(server)
            life = Life(world, server, world.rng)
            length = world.rng.uniform(*LIFE)
            time.sleep(length / 2)
            world.fault(server, root)
            time.sleep(length / 2)
            resident, files, _ = world.look(server)
            after = world.finish(server, image)
            life.end()
    world.lives += 1
    world.resident.append(resident)
    world.files.append(files)
    if after != image:
        disk.remove(image)
    return after


def live_last(world, image, folder, seconds):
    """A life without a fault: what it takes of memory and files, and then the judgement."""
    seen = []
    with disk.mounted(image, f"{folder}/mounted", disk.MOUNTS[0]) as root:
        (root / "foreign").unlink(missing_ok=True)
        with Server(root / "data", OPTIONS) as server:
            server.ready()
            world.begin(server)
            before = [len(producer.offsets) for producer in world.producers]
            life = Life(world, server, world.rng, load.GOING_DOWN)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.5)
                seen.append(world.look(server))
            for producer, count in zip(world.producers, before):
                check(len(producer.offsets) > count, "an idempotent producer never got through")
            life.over.set()
            check(server.terminate()[0] == 0, "a clean stop failed")
            life.end()
        with Server(root / "data", OPTIONS) as server:
            server.ready()
            world.begin(server)
            working = eos_crash.Working(world.producers, server.bootstrap)
            working.stopping.set()
            working.join()
            eos_crash.judge(server, world.producers)
            with client.Client(server.bootstrap) as admin:
                for group in world.groups:
                    admin.settle(group.name)
                    group.verify(admin)
    return seen


def flat(values, what, slack):
    """The last third is no greater than the one before, but for a tenth and `slack`."""
    third = len(values) // 3
    middle, last = statistics.median(values[third:2 * third]), statistics.median(values[2 * third:])
    check(last <= middle * 1.1 + slack, f"{what} grow: {middle:.0f}, then {last:.0f}")
    return f"{what} {middle:.0f} then {last:.0f}"


def main():
    disk.need_disks("lived_on")
    print(f"lived_on: SEED={SEED} SECONDS={SECONDS:.0f}", flush=True)
    eos_crash.TOPIC = "idempotent"
    world = World(random.Random(SEED))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pyralog-lived-") as folder:
        image = disk.new_image(pathlib.Path(folder) / "first.img", MEBIBYTES)
        while time.monotonic() < began + SECONDS * (1 - LAST) or world.lives < 10:
            image = live(world, image, folder)
            if SOAK:
                print(f"{time.monotonic() - began:6.0f} s: life {world.lives}, {world.ends}, "
                      f"{world.resident[-1]:.0f} MiB, {world.files[-1]} files", flush=True)
        seen = live_last(world, image, folder, SECONDS * LAST)
    figures = [flat([r for r, _, _ in seen], "MiB resident", 4), flat([f for _, f, _ in seen], "files", 20),
               flat([o for _, _, o in seen], "open files", 20),
               flat(world.files, "files from life to life", 30),
               flat(world.resident, "MiB from life to life", 16)]  # a short life shows what befell it
    check(world.sized.start > 0, "nothing was ever forgotten")
    print(f"lived_on: {world.lives} lives, {world.ends}; {'; '.join(figures)}; "
          f"{sum(p.sequence for p in world.producers)} sequences once each, "
          f"{sum(g.commits for g in world.groups)} commits, {world.sized.start} records forgotten")
    print(f"soak: lived_on count={world.lives} seeds={SEED}..{SEED}", flush=True)


if __name__ == "__main__":
    main()
