#!/usr/bin/env python3
"""A file through kcat with every codec, in and out: its SHA-256 must come back. And kcat must see
every feature of the protocol that librdkafka knows how to look for."""

import argparse
import hashlib
import os
import pathlib
import random
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import brokers  # noqa: E402

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
FEATURES = ("MsgVer1", "MsgVer2", "ApiVersion", "BrokerBalancedConsumer", "ThrottleTime",
            "BrokerGroupCoordinator", "LZ4", "ZSTD", "OffsetTime", "IdempotentProducer")
GONE_FROM_KAFKA = ("MsgVer1", "ThrottleTime")  # Kafka 4 no longer advertises Fetch below 4
LINES = 20_000


def lines():
    """Lines that compress well and lines that do not."""
    rng = random.Random(7)
    words = ["obelisk", "scarab", "pharaoh", "pyramid", "cartouche", "ankh", "papyrus"]
    for number in range(LINES):
        if number % 3:
            yield f"{number} " + " ".join(rng.choices(words, k=rng.randint(0, 12)))
        else:
            yield f"{number} " + rng.randbytes(rng.randint(1, 60)).hex()


def kcat(bootstrap, *arguments, data=None):
    done = subprocess.run(["kcat", "-b", bootstrap, *arguments], input=data, capture_output=True,
                          timeout=60, check=False)
    if done.returncode != 0:
        raise SystemExit(f"FAIL kcat {' '.join(arguments)}: {done.stderr.decode()[-500:]}")
    return done


def digest(raw):
    return hashlib.sha256(raw).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", nargs="?", help="the pyralog binary (or PYRALOG_BINARY)")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="a broker that runs already")
    arguments = parser.parse_args()
    whole = ("\n".join(lines()) + "\n").encode()
    broker = (brokers.External(arguments.bootstrap) if arguments.bootstrap
              else brokers.Pyralog(arguments.binary))
    failed = 0
    with broker:
        for codec in CODECS:
            topic = f"kcat-{os.getpid()}-{codec}"
            kcat(broker.bootstrap, "-P", "-t", topic, "-p", "0", "-z", codec, data=whole)
            back = kcat(broker.bootstrap, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-e",
                        "-q").stdout
            good = digest(back) == digest(whole)
            failed += not good
            print(f"{'ok  ' if good else 'FAIL'} {codec}: {len(back)} bytes {digest(back)[:16]}")
        shown = kcat(broker.bootstrap, "-L", "-d", "feature").stderr.decode()
        for feature in FEATURES:
            seen = re.findall(rf"Feature {feature}: .*supported by broker", shown)
            good = bool(seen) and not any("NOT supported" in line for line in seen)
            if not good and arguments.bootstrap and feature in GONE_FROM_KAFKA:
                continue
            failed += not good
            print(f"{'ok  ' if good else 'FAIL'} feature {feature}")
        if failed and broker.name == "pyralog":
            print("--- broker said:\n" + broker.log_tail())
    print(f"{len(CODECS) + len(FEATURES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
