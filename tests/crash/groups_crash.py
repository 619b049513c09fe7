#!/usr/bin/env python3
"""Consumer groups commit offsets, partition by partition, while the server is killed again and again:
a commit that was acknowledged is never undone, a member goes on in its generation or a newer one, and
a zombie with an older generation is fenced and moves nothing, before a kill and after it."""

import tempfile
import threading
import time

import client
from rounds import Rounds, check
from server import Server

TOPIC, PARTITIONS, GROUPS = "groups", 4, 6
ILLEGAL_GENERATION, UNKNOWN_MEMBER = 22, 25


class Group:
    """A group of one member, whatever becomes of the server."""

    def __init__(self, name, rng):
        self.name, self.rng = name, rng
        self.member, self.generation = "", 0
        self.acked = dict.fromkeys(range(PARTITIONS), -1)
        self.sent = dict.fromkeys(range(PARTITIONS), -1)  # a commit without an answer may stand
        self.commits = self.fenced = 0

    def verify(self, admin):
        found = admin.committed(self.name, TOPIC, range(PARTITIONS))
        for partition, offset in found.items():
            check(self.acked[partition] <= offset <= self.sent[partition],
                  f"{self.name}: partition {partition} is at {offset}; acknowledged was "
                  f"{self.acked[partition]}, sent {self.sent[partition]}")
            self.acked[partition] = offset

    def fence(self, admin, generation, member):
        """A commit from the past must be refused and move nothing."""
        codes = admin.commit(self.name, generation, member, TOPIC, {p: 10**9 for p in range(PARTITIONS)})
        check(set(codes.values()) <= {ILLEGAL_GENERATION, UNKNOWN_MEMBER},
              f"{self.name}: a zombie of generation {generation} got {codes} in generation {self.generation}")
        self.fenced += 1
        self.verify(admin)

    def rejoin(self, admin):
        old = (self.generation, self.member)
        try:
            self.generation, self.member = admin.join(self.name, self.member, [TOPIC])
        except client.Refused as refused:
            check(refused.code == UNKNOWN_MEMBER, f"{self.name}: {refused}")
            self.generation, self.member = admin.join(self.name, "", [TOPIC])
        check(self.generation > old[0] or not old[1],
              f"{self.name}: generation {self.generation} follows {old[0]}")
        if old[1]:
            self.fence(admin, old[0], old[1])

    def commit(self, admin):
        chosen = self.rng.sample(range(PARTITIONS), self.rng.randint(1, PARTITIONS))
        offsets = {p: max(self.sent[p], self.acked[p]) + self.rng.randint(1, 50) for p in chosen}
        self.sent.update(offsets)
        codes = admin.commit(self.name, self.generation, self.member, TOPIC, offsets)
        check(set(codes.values()) == {client.NONE}, f"{self.name}: commit got {codes}")
        self.acked.update(offsets)
        self.commits += 1

    def work(self, bootstrap):
        """Checks what is left of earlier rounds, joins, commits until the connection ends."""
        with client.Client(bootstrap) as admin:
            admin.settle(self.name)
            self.verify(admin)
            self.rejoin(admin)
            while True:
                for _ in range(self.rng.randint(3, 12)):
                    self.commit(admin)
                if self.rng.random() < 0.2:
                    self.rejoin(admin)

    def run(self, bootstrap, failed):
        try:
            self.work(bootstrap)
        except OSError:
            pass  # the server is gone
        except (SystemExit, client.Refused) as failure:
            failed.append(str(failure))


def work(server, groups, until):
    """Runs every group on a thread until `until()` has ended the server."""
    failed = []
    threads = [threading.Thread(target=g.run, args=(server.bootstrap, failed), daemon=True) for g in groups]
    for thread in threads:
        thread.start()
    until()
    for thread in threads:
        thread.join(60)
        check(not thread.is_alive(), "a member waits for ever")
    check(not failed, "; ".join(failed))


def main():
    rounds = Rounds("groups_crash", quick=10, full=100)
    groups, options = [], ("--group-initial-rebalance-delay-ms=0", "--offsets-topic-num-partitions=8")
    with tempfile.TemporaryDirectory(prefix="pyralog-groups-") as folder:
        data = folder + "/data"
        for number, rng in rounds:
            with Server(data, options) as server:
                server.ready()
                if number == 0:
                    with client.Client(server.bootstrap) as admin:
                        admin.create_topic(TOPIC, PARTITIONS)
                    groups = [Group(f"group-{i}", rng) for i in range(GROUPS)]

                def blow():
                    time.sleep(rng.uniform(0.1, 0.4))  # when it falls is drawn, not awaited
                    server.kill()
                work(server, groups, blow)
        with Server(data, options) as server:
            server.ready()
            with client.Client(server.bootstrap) as admin:
                for group in groups:
                    admin.settle(group.name)
                    group.verify(admin)
                    # The zombie of a member that the server has never seen alive since.
                    group.fence(admin, group.generation - 1, group.member)
            check(server.terminate()[0] == 0, "a clean stop failed")
    commits, fenced = sum(g.commits for g in groups), sum(g.fenced for g in groups)
    check(min(g.commits for g in groups) > rounds.count, "a group hardly committed anything")
    rounds.done(f"{rounds.count} kills, {commits} commits acknowledged, none undone; {fenced} zombies fenced")


if __name__ == "__main__":
    main()
