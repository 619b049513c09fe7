#!/usr/bin/env python3
"""Clients take ids and counter values while one node of three after the other is killed or frozen (SIGSTOP):
nothing comes twice, and nobody who takes ids waits for a second."""

import subprocess
import threading
import time

from cluster import BOUND, SPAWNER, Cluster
from rounds import Rounds, check

CLIENTS = 4
MOST = 1.0  # seconds without an id
BEFORE, AFTER = 2.0, 4.0


class Taker:
    """`pyralog ids next` that goes on until it is ended; when its ids came."""

    def __init__(self, binary, servers):
        words = [*BOUND, binary, "ids", "next", "--server", servers, "--count", "1000000000", "--at-once", "1",
                 "--timeout", "20s"]
        self.process = SPAWNER.submit(subprocess.Popen, words, stdout=subprocess.PIPE, text=True).result()
        self.ids, self.worst, self.last = [], 0.0, None
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        for line in self.process.stdout:
            now = time.monotonic()
            if self.last is not None:
                self.worst = max(self.worst, now - self.last)
            self.last = now
            self.ids.append(int(line))

    def end(self):
        check(self.process.poll() is None, f"a client ended with {self.process.returncode}")
        self.worst = max(self.worst, time.monotonic() - self.last) if self.last else 99.0
        self.process.kill()
        self.thread.join()
        self.process.wait()


class Counter:
    """Takes values one call after the other, each a process of its own."""

    def __init__(self, binary, servers, name, strict):
        self.words = [binary, "counter", "next", name, "--server", servers, *(["--strict"] if strict else [])]
        self.values, self.worst, self.ending = [], 0.0, False
        self.failed = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ending:
            began = time.monotonic()
            done = subprocess.run(self.words, capture_output=True, text=True, check=False)
            if done.returncode:
                self.failed = done.stderr
                return
            self.worst = max(self.worst, time.monotonic() - began)
            self.values.append(int(done.stdout))

    def end(self):
        self.ending = True
        self.thread.join()
        check(self.failed is None, f"a counter's call failed: {self.failed}")


def one_round(cluster, number, seen, kept):
    victim = sorted(cluster.nodes)[number % len(cluster.nodes)]
    binary = cluster.nodes[1].binary
    controller = cluster.nodes[victim].status()["cluster"]["controller"] == victim
    takers = [Taker(binary, cluster.bootstrap) for _ in range(CLIENTS)]
    counters = [Counter(binary, cluster.bootstrap, "orders", False), Counter(binary, cluster.bootstrap, "strict", True)]
    time.sleep(BEFORE)
    freeze = number % 2 == 1
    (cluster.pause if freeze else cluster.kill)(victim)
    time.sleep(AFTER)
    for each in takers + counters:
        each.end()
    (cluster.resume if freeze else cluster.restart)(victim)
    cluster.await_whole()
    before = len(seen)
    total = sum(len(each.ids) for each in takers)
    for each in takers:
        seen.update(each.ids)
    check(len(seen) == before + total, f"{before + total - len(seen)} ids came twice")
    for each, name in zip(counters, ("orders", "strict")):
        check(len(set(each.values)) == len(each.values), f"counter {name}: a value came twice")
        check(not kept[name] & set(each.values), f"counter {name}: a value of an earlier round came again")
        kept[name] |= set(each.values)
    check(counters[1].values == sorted(counters[1].values), "strict values are not in the order of the calls")
    check(all(len(each.ids) > 100 for each in takers), "a client got hardly any ids")
    worst = max(each.worst for each in takers)
    print(f"round {number}: node {victim}{' (controller)' if controller else ''} {'frozen' if freeze else 'killed'}; {total} ids, none for "
          f"{worst:.2f} s at worst; {len(counters[0].values)} values, a call took {counters[0].worst:.2f} s at most; "
          f"{len(counters[1].values)} strict ones, {counters[1].worst:.2f} s", flush=True)
    check(worst < MOST, f"a client had no id for {worst:.2f} s")
    return worst


def main():
    rounds = Rounds("pharaoh_failover", quick=4, full=60)
    seen, kept = set(), {"orders": set(), "strict": set()}
    with Cluster() as cluster:
        cluster.await_whole()
        stalls = [one_round(cluster, number, seen, kept) for number, _ in rounds]
    rounds.done(f"{len(seen)} ids and {sum(map(len, kept.values()))} counter values, none twice; the longest time "
                f"without an id was {max(stalls):.2f} s")


if __name__ == "__main__":
    main()
