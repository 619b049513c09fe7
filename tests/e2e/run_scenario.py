#!/usr/bin/env python3
"""Plays scenario.toml on every client and prints the matrix step by client.

The broker under test is started here: Pyralog (default), Apache Kafka (--kafka), or one that runs
already (--bootstrap HOST:PORT). Ends with a code other than 0 if any cell is red.
"""

import argparse
import concurrent.futures
import os
import pathlib
import sys
import tempfile
import threading
import time
import tomllib
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import brokers  # noqa: E402
import steps  # noqa: E402
from drivers import StepFailed, prepare  # noqa: E402

PRINTING = threading.Lock()


def say(text):
    with PRINTING:
        print(text, flush=True)


def needed(client, step):
    """Why this client cannot play this step, or None."""
    for need in step.get("needs", []):
        if need in client["lacks"]:
            return client["lacks"][need]
    return None


def play(name, scenario, chosen, bootstrap, run, log):
    """Plays the chosen steps on one client; returns {step: (verdict, seconds, text)}."""
    client = scenario["client"][name]
    ctx = steps.Context(name, client["lacks"], client["partner"], bootstrap, scenario["limits"],
                        run, log)
    results = {}
    try:
        for step in chosen:
            reason = needed(client, step)
            if reason:
                results[step["name"]] = ("n/a", 0.0, reason)
                continue
            results[step["name"]] = play_step(ctx, step)
            verdict, seconds, text = results[step["name"]]
            say(f"{verdict:4} {name:13} {step['name']} ({seconds:.1f} s)"
                + (f"\n     {text}" if text else ""))
    finally:
        ctx.close()
    return results


def play_step(ctx, step):
    began = time.monotonic()
    ctx.begin(step)
    try:
        steps.KINDS[step["kind"]](ctx, step)
        verdict, text = "ok", ""
    except StepFailed as failure:
        verdict, text = "FAIL", str(failure)
    except Exception:  # a defect of the harness is a failure too, with its trace
        verdict, text = "FAIL", traceback.format_exc()
    ctx.end(failed=verdict != "ok")
    return verdict, time.monotonic() - began, text


def show(results, chosen):
    clients = list(results)
    width = max(len(step["name"]) for step in chosen) + 2
    print("\n" + " " * width + "".join(f"{name:>14}" for name in clients))
    for step in chosen:
        cells = [results[name].get(step["name"], ("-", 0, ""))[0] for name in clients]
        print(f"{step['name']:{width}}" + "".join(f"{cell:>14}" for cell in cells))
    notes = {(name, reason) for name in clients
             for verdict, _, reason in results[name].values() if verdict == "n/a"}
    for name, reason in sorted(notes):
        print(f"n/a: {name}: {reason}")


def broker_of(arguments):
    if arguments.bootstrap:
        return brokers.External(arguments.bootstrap)
    if arguments.kafka:
        return brokers.Kafka()
    return brokers.Pyralog(arguments.binary, options=["--log-cleaner-backoff-ms", "200"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", nargs="?", help="the pyralog binary (or PYRALOG_BINARY)")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="use a broker that runs already")
    parser.add_argument("--kafka", action="store_true", help="run against Apache Kafka")
    parser.add_argument("--client", action="append", help="only this client (may be repeated)")
    parser.add_argument("--step", action="append", help="only this step (may be repeated)")
    parser.add_argument("--parallel", type=int, default=2, help="clients, or steps of a lone one, at once (default 2)")
    arguments = parser.parse_args()

    here = pathlib.Path(__file__).resolve().parent
    scenario = tomllib.loads((here / "scenario.toml").read_text())
    clients = arguments.client or list(scenario["client"])
    chosen = [s for s in scenario["step"] if not arguments.step or s["name"] in arguments.step]
    unknown = (set(clients) - set(scenario["client"])) | (
        set(arguments.step or []) - {s["name"] for s in scenario["step"]})
    if unknown:
        parser.error(f"scenario.toml has no {', '.join(sorted(unknown))}")

    prepare(set(clients) | {scenario["client"][name]["partner"] for name in clients}
            | {steps.HELPER})
    began = time.monotonic()
    run = f"s{os.getpid()}"
    with broker_of(arguments) as broker, tempfile.TemporaryFile("w+") as log:
        print(f"broker: {broker.name} at {broker.bootstrap}", flush=True)
        with concurrent.futures.ThreadPoolExecutor(arguments.parallel) as pool:
            lanes = max(1, arguments.parallel // len(clients))  # a lone client plays two steps at once
            futures = [(name, pool.submit(play, name, scenario, chosen[lane::lanes],
                                          broker.bootstrap, run, log))
                       for name in clients for lane in range(lanes)]
            results = {name: {} for name in clients}
            for name, future in futures:
                results[name] |= future.result()
        verdicts = [cell[0] for cells in results.values() for cell in cells.values()]
        if "FAIL" in verdicts:
            log.seek(0)
            print("--- clients said:\n" + log.read()[-4000:])
            print("--- broker said:\n" + broker.log_tail())
    show(results, chosen)
    counts = {word: verdicts.count(word) for word in ("ok", "FAIL", "n/a")}
    print(f"\n{counts['ok']} passed, {counts['FAIL']} failed, {counts['n/a']} not applicable"
          f" ({time.monotonic() - began:.0f} s)")
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
