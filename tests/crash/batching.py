#!/usr/bin/env python3
"""What a batch is good for: 100 records of 100 bytes in one batch are written at least ten times as
fast as one by one, on one connection with one request at a time, acknowledged by all from the device."""

import tempfile
import time

import client
from rounds import Rounds, check
from server import Server
from wire import batch

TOPIC, VALUE, MANY = "batching", b"v" * 100, 100
SECONDS = 0.25  # of each turn


def rate(producer, raw, records):
    """Records a second."""
    began, written = time.monotonic(), 0
    while time.monotonic() < began + SECONDS:
        code, _ = producer.produce(TOPIC, 0, raw)
        check(code == client.NONE, f"produce was refused with error {code}")
        written += records
    return written / (time.monotonic() - began)


def main():
    rounds = Rounds("batching", quick=10, full=50)
    single, many = batch([VALUE]), batch([VALUE] * MANY)
    singles, manies = [], []
    with tempfile.TemporaryDirectory(prefix="pyralog-batching-") as folder:
        with Server(folder + "/data") as server:
            server.ready()
            with client.Client(server.bootstrap) as producer:
                producer.create_topic(TOPIC)
                rate(producer, single, 1)  # warm
                for _ in rounds:  # turn by turn, so that both meet the same disk
                    singles.append(rate(producer, single, 1))
                    manies.append(rate(producer, many, MANY))
            check(server.terminate()[0] == 0, "a clean stop failed")
    one, hundred = sum(singles) / len(singles), sum(manies) / len(manies)
    check(hundred >= 10 * one, f"{hundred:.0f} records/s in batches of {MANY}, {one:.0f} one by one: "
                               f"{hundred / one:.1f} times")
    rounds.done(f"{hundred:.0f} records/s in batches of {MANY}, {one:.0f} one by one: {hundred / one:.0f} times")


if __name__ == "__main__":
    main()
