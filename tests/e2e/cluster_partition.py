#!/usr/bin/env python3
"""The network between the nodes of a cluster is cut, for one node or between two, while clients reach all of
them, and go on asking the leader that they know. Appends stay linearizable, and so do reads, except that a
node that is cut off may show less than there is: always a beginning of the list."""

import sys
import time

import networks
import porcupine_judge
from append_history import FAILED, OK, judge
from appenders import Reader, Writer, read_final, refused_in_words
from rounds import Rounds, check, need

TOPIC = "list"


def cut_the_leader(cluster, leader, rng):
    cluster.cut(leader)
    time.sleep(rng.uniform(1.0, 3.0))
    cluster.mend(leader)
    return {leader}


def cut_a_follower(cluster, leader, rng):
    other = rng.choice([n for n in cluster.nodes if n != leader])
    cluster.cut(other)
    time.sleep(rng.uniform(0.3, 2.0))
    cluster.mend(other)
    return {other}


def cut_between_two(cluster, leader, rng):
    other = rng.choice([n for n in cluster.nodes if n != leader])
    cluster.cut_between(leader, other)
    time.sleep(rng.uniform(1.0, 3.0))
    cluster.mend_between(leader, other)
    return {leader, other}


def cut_the_leader_and_kill_another(cluster, leader, rng):
    """Nobody has a majority until the network is whole."""
    other = rng.choice([n for n in cluster.nodes if n != leader])
    cluster.cut(leader)
    time.sleep(rng.uniform(0.0, 1.5))
    cluster.kill(other)
    time.sleep(rng.uniform(0.2, 1.0))
    cluster.mend(leader)
    cluster.restart(other)
    return {leader}


FAULTS = (cut_the_leader, cut_between_two, cut_a_follower, cut_the_leader_and_kill_another)


def split(reads, cuts):
    """(reads of nodes that saw all the others, reads of nodes that may be late)"""
    def may_be_late(read):
        return any(int(read.by.rsplit(" ", 1)[1]) in nodes and read.began <= until and read.ended >= since
                   for nodes, since, until in cuts)
    late = [read for read in reads if may_be_late(read)]
    return [read for read in reads if not may_be_late(read)], late


def main():
    why = networks.enter()
    need(why is None, "cluster_partition", why)
    rounds = Rounds("cluster_partition", quick=4, full=200)
    cuts = []
    with networks.CutCluster() as cluster:
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
            nodes = fault(cluster, leader, rng)
            cluster.await_whole([TOPIC])
            cuts.append((nodes, began, time.monotonic()))  # until connections are there again
            print(f"round {number}: node {leader}: {fault.__name__}: whole after {time.monotonic() - began:.1f} s, "
                  f"node {cluster.leaders(TOPIC)[0]} leads", flush=True)
        time.sleep(0.3)
        for each in writers + readers:
            each.stop()
        final = read_final(cluster, TOPIC)
        appends = [each for writer in writers for each in writer.history]
        strict, late = split([each for reader in readers for each in reader.history], cuts)
        outcomes = [each.outcome for each in appends]
        done = outcomes.count(OK)
        print(f"{done} appends done, {outcomes.count(FAILED)} refused, {len(strict)} reads, {len(late)} of nodes that "
              f"were cut off; errors of appends {refused_in_words(writers)}; of reads {refused_in_words(readers)}")
        wrong = judge(appends, strict, final, late)
        check(not wrong, f"{len(wrong)} things are wrong, the first: " + "\n  ".join(wrong[:5]))
        agreed = porcupine_judge.second_opinion(appends, strict, final)
        behind = len(judge(appends, strict + late, final))
        check(done > 20 * rounds.count and len(strict) > 20, "hardly anything was done")
    rounds.done(f"{done} appends and {len(strict)} reads are linearizable, {agreed}; of {len(late)} "
                f"reads of nodes that were cut off, {behind} showed less than there was")


if __name__ == "__main__":
    sys.exit(main())
