#!/usr/bin/env python3
"""Consumers that name their rack read from the follower there (KIP-392): the nodes' counts of what they sent say
so. The follower is killed: they go on at the leader. It comes back: they return to it. The leader is killed: they
go on with the next. Nothing is missed, and nothing that was not written is seen."""

import http.client
import os
import re
import sys
import time

import drivers
from appenders import produce
from cluster import Cluster, until, wire_client
from rounds import Rounds, check

CLIENTS = ("java", "confluent", "librdkafka")
# Go on at the leader when their replica is gone. librdkafka 2.0 does not as long as the leader is the same, until
# a lease of its own of five minutes is over; 2.16, which confluent has, does.
GO_BACK = ("java", "confluent")
GO_BACK_SECONDS = 15
BURST = 200


class Racks(Cluster):
    """Each node in a rack of its own."""

    def __init__(self):
        super().__init__()
        for number, node in self.nodes.items():
            node.words += ["--broker-rack", f"r{number}"]

    def sent(self, number, topic):
        """Records of a topic that a node has sent to clients since it started."""
        host, port = self.nodes[number].http.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        series = r'^pyralog_kafka_topic_fetched_records_total\{[^}]*topic="%s"[^}]*\} (\d+)'
        found = re.search(series % topic, text, re.M)
        return int(found.group(1)) if found else 0


class Reading:
    """One consumer, and what it has to see."""

    def __init__(self, cluster, client, topic):
        self.cluster, self.client, self.topic = cluster, client, topic
        self.written = []
        self.leader = cluster.leaders(topic)[0]
        self.near = self.leader % 3 + 1
        self.driver = drivers.Driver(client, cluster.bootstrap, sys.stderr)
        self.driver.call("join", group=f"group-{topic}", topics=[topic], reset="earliest",
                         session_timeout_ms=10_000, rack=f"r{self.near}")

    def led_by(self):
        leader = self.cluster.leaders(self.topic)[0]
        return leader if leader in self.cluster.alive() else None

    def write(self, count):
        def one(value):
            def attempt():
                leader = self.led_by()
                if leader is None:
                    return False
                with self.cluster.door(leader, 3.0) as door:
                    return produce(door, self.topic, 0, value)[0] == 0
            until(attempt, f"{value} is acknowledged", 20)
            self.written.append(value)
        leader = until(self.led_by, f"{self.topic} is led", 20)
        try:
            with self.cluster.door(leader, 3.0) as door:
                for _ in range(count):
                    value = f"{self.client}-{len(self.written)}"
                    if produce(door, self.topic, 0, value)[0] != 0:
                        one(value)
                    else:
                        self.written.append(value)
        except (OSError, wire_client.Refused):
            one(f"{self.client}-{len(self.written)}-again")

    def seen(self):
        return [event["value"] for event in self.driver.records()]

    def await_all(self, what, seconds=60):
        self.driver.until(lambda _: set(self.written) <= set(self.seen()), what, seconds)

    def returns(self):
        """Writes on until the follower in its rack sends again."""
        before = self.cluster.sent(self.near, self.topic)

        def there():
            self.write(5)
            return self.cluster.sent(self.near, self.topic) > before
        until(there, f"{self.client} reads from its rack again", 60, pause=0.3)


def play(cluster, client, number):
    topic = f"reads-{client}-{number}"
    cluster.create(topic)
    reading = Reading(cluster, client, topic)
    try:
        reading.write(BURST)
        reading.await_all("reads what was written")
        # While a consumer begins the leader may send a little, before it has sent the consumer away.
        reading.write(BURST)
        reading.await_all("reads on")
        near, leader = cluster.sent(reading.near, topic), cluster.sent(reading.leader, topic)
        check(near >= BURST, f"{client}: the follower in its rack sent {near} records, the leader {leader}")

        cluster.kill(reading.near)
        killed = time.monotonic()
        reading.write(50)
        went_on = "not asked how soon"
        if client in GO_BACK:
            reading.await_all("goes on at the leader", GO_BACK_SECONDS)
            went_on = f"at the leader after {time.monotonic() - killed:.1f} s"
        cluster.restart(reading.near)
        cluster.await_whole([topic], 40)
        reading.returns()
        reading.await_all("reads from the follower that is back")

        leader = cluster.leaders(topic)[0]
        cluster.kill(leader)
        reading.write(50)
        reading.await_all("goes on when its leader is gone")
        cluster.restart(leader)
        cluster.await_whole([topic], 40)
        strange = [v for v in reading.seen() if v not in set(reading.written) and not v.endswith("-again")]
        check(not strange, f"{client} saw {strange[:5]}")
        print(f"{client}: {near} of {2 * BURST} records from the follower in its rack; all {len(reading.written)} "
              f"seen though it, and the leader, were killed; {went_on}", flush=True)
    finally:
        reading.driver.close()


def main():
    rounds = Rounds("cluster_reads", quick=1, full=10)
    clients = os.environ.get("CLIENTS", " ".join(CLIENTS)).split()
    drivers.prepare(clients)
    with Racks() as cluster:
        for number, _ in rounds:
            for client in clients:
                play(cluster, client, number)
    rounds.done("consumers read in their racks, and go on whoever dies")


if __name__ == "__main__":
    main()
