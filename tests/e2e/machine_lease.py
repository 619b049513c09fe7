#!/usr/bin/env python3
"""A node is frozen (SIGSTOP) for longer than its machine id was lent to it, another takes that id, and the first
goes on: of what it had been asked meanwhile, and what it is asked then, nothing is an id that the other has given."""

import time

from cluster import Cluster, until
from issuers import Issuer
from rounds import Rounds, check

LENT = 21.0  # seconds until another may have a frozen node's machine id: 10 of the grant, 10 for clocks


def machine_of(cluster, number):
    with Issuer(cluster.nodes[number].kafka) as issuer:
        code, machine, _ = issuer.ids(1)
        return machine if code == 0 else None


def keep(seen, ids, who):
    for each in ids:
        check(each not in seen, f"id {each} was given by {seen.get(each)} and by {who}")
        seen[each] = who


def one_round(cluster, number, rng):
    seen = {}
    frozen = rng.choice(sorted(cluster.nodes))
    others = [n for n in cluster.nodes if n != frozen]
    with Issuer(cluster.nodes[frozen].kafka, 30) as issuer:
        code, machine, ids = until(lambda: (got := issuer.ids(100))[0] == 0 and got, "a node gives ids", 20)
        keep(seen, ids, "the frozen one, before")
        since = cluster.pause(frozen)
        asleep = 20
        for _ in range(asleep):
            issuer.ask_ids(50)
        # A process that has started anew takes the lowest machine id that is free.
        time.sleep(max(0.0, since + LENT - time.monotonic()))
        taker = None
        for turn in range(6):
            cluster.kill(others[turn % 2])
            cluster.restart(others[turn % 2])
            if until(lambda: machine_of(cluster, others[turn % 2]) is not None, "it gives ids again", 20) and \
                    machine_of(cluster, others[turn % 2]) == machine:
                taker = others[turn % 2]
                break
        check(taker is not None, f"nobody took machine id {machine} of the frozen node")
        with Issuer(cluster.nodes[taker].kafka, 30) as other:
            keep(seen, other.ids(100)[2], "the taker")
            cluster.resume(frozen)
            given, refused = 0, 0
            for turn in range(200):
                if turn >= asleep:
                    issuer.ask_ids(50)
                code, held, ids = issuer.answered_ids()
                keep(seen, ids, f"the frozen one, after, as machine {held}")
                given, refused = given + (code == 0), refused + (code != 0)
                keep(seen, other.ids(50)[2], "the taker")
            check(given > 0, "the frozen node gives no ids any more")
    print(f"round {number}: node {frozen} was machine {machine}, node {taker} took it; afterwards the first answered "
          f"{given} requests and refused {refused}; {len(seen)} ids, each once", flush=True)
    cluster.await_whole()
    return len(seen)


def main():
    rounds = Rounds("machine_lease", quick=1, full=20)
    with Cluster() as cluster:
        cluster.await_whole()
        total = sum(one_round(cluster, number, rng) for number, rng in rounds)
    rounds.done(f"{total} ids, none twice")


if __name__ == "__main__":
    main()
