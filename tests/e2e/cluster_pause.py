#!/usr/bin/env python3
"""The leader of a partition is frozen (SIGSTOP) until others have taken over, and goes on: what it had been
sent meanwhile and what comes on connections that it already had is acknowledged by nobody unless it is in the
one log; what it shows is a beginning of that log; and it catches up."""

import time

from appenders import fetch, produce, read_final
from cluster import Cluster, until, wire_client
from rounds import Rounds, check
from wire import batch

TOPIC = "orders"
FROZEN = 3.0  # seconds


class Account:
    """Values, and where each was acknowledged."""

    def __init__(self):
        self.acked, self.shown, self.count = {}, [], 0

    def value(self, by):
        self.count += 1
        return f"{by}.{self.count}"

    def append(self, door, by):
        value = self.value(by)
        code, offset = produce(door, TOPIC, 0, value)
        if code == 0:
            self.acked[value] = offset
        return code

    def read(self, door):
        """Keeps what a node shows; False if it refuses."""
        code, mark, found = fetch(door, TOPIC, 0, 0)
        if code == 0:
            self.shown.append([r.value.decode() for r in found if r.offset < mark])
        return code == 0


def send_only(door, value):
    """A produce request whose answer is awaited later."""
    return door.wire.send(wire_client.PRODUCE, 7,
                          wire_client.produce_body(TOPIC, 0, batch([value.encode()]), -1, 2_000))


def one_round(cluster, account, number):
    leader = cluster.leaders(TOPIC)[0]
    others = [n for n in cluster.nodes if n != leader]
    with cluster.door(leader) as waiting, cluster.door(leader) as stale, cluster.door(leader) as reading:
        # A leader that is new may wait for its followers a moment, and says so.
        until(lambda: account.append(stale, f"first-{number}") == 0, "the leader takes records", 5)
        for _ in range(20):
            check(account.append(stale, f"before-{number}") == 0, "the leader refuses before anything happened")
        check(account.read(reading), "the leader shows nothing before anything happened")
        frozen = cluster.pause(leader)
        asleep = account.value(f"asleep-{number}")
        send_only(waiting, asleep)

        def new_leader():
            error, node = cluster.partitions(TOPIC, others[0])[0][:2]
            return node if error == 0 and node in others else None
        taker = until(new_leader, "another node leads", 10)
        took = time.monotonic() - frozen
        with cluster.door(taker) as door:
            def goes_on():
                return account.append(door, f"taker-{number}") == 0
            until(goes_on, "the new leader takes records", 10)
            served = time.monotonic() - frozen
            taken = 0
            while time.monotonic() < frozen + FROZEN:
                taken += account.append(door, f"taker-{number}") == 0
                time.sleep(0.02)
            check(taken >= 5, f"the new leader took {taken} records")
            cluster.resume(leader)
            resumed = time.monotonic()
            # On connections that it had all the time, and at once: it may not know yet that it leads no more.
            answers = []
            while time.monotonic() < resumed + 1.0:
                answers.append(account.append(stale, f"stale-{number}"))
                account.read(reading)
                account.append(door, f"taker-{number}")
            answer = waiting.wire.receive()
            if answer is not None:
                code, offset = wire_client.produce_answer(answer[1])
                answers.append(code)
                if code == 0:
                    account.acked[asleep] = offset
        cluster.await_whole([TOPIC])
        caught_up = time.monotonic() - resumed
    print(f"round {number}: node {leader} frozen; node {taker} led after {took:.2f} s and took records after "
          f"{served:.2f} s; the old leader answered {sorted(set(answers))}, in sync within {caught_up:.2f} s",
          flush=True)
    check(any(answers), "the frozen leader answered as if it still led")
    return served


def main():
    rounds = Rounds("cluster_pause", quick=2, full=100)
    pauses = []
    account = Account()
    with Cluster() as cluster:
        cluster.create(TOPIC)
        for number, _ in rounds:
            pauses.append(one_round(cluster, account, number))
        final = read_final(cluster, TOPIC)
    check(len(set(final)) == len(final), "a record is there twice")
    for value, offset in account.acked.items():
        check(offset < len(final) and final[offset] == value,
              f"{value} was acknowledged at {offset}, there is {final[offset:offset + 1]}")
    for shown in account.shown:
        check(shown == final[:len(shown)], f"a reader was shown {len(shown)} records that are not how the log begins")
    rounds.done(f"{len(account.acked)} records as acknowledged, {len(account.shown)} reads of one log; others took "
                f"over within {max(pauses):.2f} s")


if __name__ == "__main__":
    main()
