#!/usr/bin/env python3
"""A partition of a cluster is a list that many append to: linearizable while its leader is killed (-9), or
frozen and goes on as if it still led. Every append and every read is written down with its times and judged."""

import time

import porcupine_judge
from append_history import FAILED, OK, judge
from appenders import Reader, Writer, read_final, refused_in_words
from cluster import Cluster
from rounds import Rounds, check

TOPIC = "list"


def kill(cluster, leader, rng):
    cluster.kill(leader)
    time.sleep(rng.uniform(0.0, 2.0))
    cluster.restart(leader)


def freeze(cluster, leader, rng):
    cluster.pause(leader)
    time.sleep(rng.uniform(0.2, 2.5))
    cluster.resume(leader)


def kill_while_another_is_frozen(cluster, leader, rng):
    other = rng.choice([n for n in cluster.nodes if n != leader])
    cluster.pause(other)
    time.sleep(rng.uniform(0.0, 0.5))
    cluster.kill(leader)
    time.sleep(rng.uniform(0.0, 1.0))
    cluster.resume(other)
    cluster.restart(leader)


def freeze_and_kill_who_takes_over(cluster, leader, rng):
    cluster.pause(leader)
    time.sleep(rng.uniform(1.0, 2.0))
    taker = cluster.leaders(TOPIC, next(n for n in cluster.nodes if n != leader))[0]
    if taker in (leader, -1):
        taker = next(n for n in cluster.nodes if n != leader)
    cluster.kill(taker)
    cluster.resume(leader)
    time.sleep(rng.uniform(0.0, 0.5))
    cluster.restart(taker)


FAULTS = (kill, freeze, kill_while_another_is_frozen, freeze_and_kill_who_takes_over)


def main():
    rounds = Rounds("cluster_appends", quick=5, full=200)
    with Cluster() as cluster:
        cluster.create(TOPIC)
        writers = [Writer(f"w{n}", cluster, TOPIC) for n in range(4)]
        readers = [Reader(f"r{n}", cluster, TOPIC, gap=0.01) for n in range(2)]
        for each in writers + readers:
            each.start()
        for number, rng in rounds:
            time.sleep(rng.uniform(0.2, 0.6))
            fault = FAULTS[number % len(FAULTS)]
            leader = cluster.leaders(TOPIC)[0]
            began = time.monotonic()
            fault(cluster, leader, rng)
            cluster.await_whole([TOPIC])
            print(f"round {number}: node {leader}: {fault.__name__}: whole after {time.monotonic() - began:.1f} s",
                  flush=True)
        time.sleep(0.3)
        for each in writers + readers:
            each.stop()
        final = read_final(cluster, TOPIC)
        appends = [each for writer in writers for each in writer.history]
        reads = [each for reader in readers for each in reader.history]
        outcomes = [each.outcome for each in appends]
        done, refused = outcomes.count(OK), outcomes.count(FAILED)
        print(f"{done} appends done, {refused} refused, {len(appends) - done - refused} open, {len(reads)} reads; "
              f"errors of appends {refused_in_words(writers)}; of reads {refused_in_words(readers)}")
        wrong = judge(appends, reads, final)
        check(not wrong, f"{len(wrong)} things are wrong, the first: " + "\n  ".join(wrong[:5]))
        agreed = porcupine_judge.second_opinion(appends, reads, final)
        check(done > 100 * rounds.count / 5 and len(reads) > 20, "hardly anything was done")
    rounds.done(f"{done} appends and {len(reads)} reads are linearizable, {agreed}")


if __name__ == "__main__":
    main()
