#!/usr/bin/env python3
"""Plays scenario.toml on every client and prints the matrix step by client.

The broker under test is started here: Pyralog (default), Apache Kafka (--kafka), or one that runs
already (--bootstrap HOST:PORT). Ends with a code other than 0 if any cell is red.

With --unrest the broker is killed and started again at random while it plays, and its own topics forget
by size and by key. A step that a kill has spoilt is played again on topics of its own, a few times; what
was acknowledged to any step, also to one that failed, must be there at the end, at its offset.

With --nodes 3 the broker is a cluster, topics have three replicas, and with --unrest besides it is the leader of
what clients have just written to that is killed, again and again.

With --seen a proxy writes down which versions of which APIs the clients use, and what the table in
docs/kafka-compatibility.md does not have is red; --write-seen writes that table anew instead.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import random
import sys
import tempfile
import threading
import time
import tomllib
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import brokers  # noqa: E402
import cluster  # noqa: E402
import seen  # noqa: E402
import steps  # noqa: E402
import unrest  # noqa: E402
from drivers import Driver, StepFailed, prepare  # noqa: E402

PRINTING = threading.Lock()
CLUSTER_OPTIONS = ("--shards", "1", "--log-cleaner-backoff-ms", "200", "--group-initial-rebalance-delay-ms", "200")


def say(text):
    with PRINTING:
        print(text, flush=True)


def needed(client, step, disturbed):
    """Why this client cannot play this step, or None."""
    for need in step.get("needs", []) + (step.get("unrest_needs", []) if disturbed else []):
        if need in client["lacks"]:
            return client["lacks"][need]
    return None


def play(name, scenario, chosen, broker, own_bootstrap, run, log, disturber):
    """Plays the chosen steps on one client; returns {step: (verdict, seconds, text)}."""
    client = scenario["client"][name]
    ctx = steps.Context(name, client["lacks"], client["partner"], broker.bootstrap, scenario["limits"],
                        run, log)
    ctx.nodes = len(getattr(broker, "nodes", "1"))
    ctx.account = disturber and disturber.account
    ctx.own_bootstrap = own_bootstrap
    results = {}
    try:
        for step in chosen:
            reason = needed(client, step, disturber)
            if reason:
                results[step["name"]] = ("n/a", 0.0, reason)
                continue
            results[step["name"]] = play_patiently(ctx, step, disturber)
            verdict, seconds, text = results[step["name"]]
            say(f"{verdict:4} {name:13} {step['name']} ({seconds:.1f} s)"
                + (f"\n     {text}" if text else ""))
    finally:
        ctx.close()
    return results


def play_patiently(ctx, step, disturber):
    """Plays a step, and again where a kill fell into it and it failed."""
    for attempt in range(unrest.TRIES):
        began = time.monotonic()
        result = play_step(ctx, step)
        if result[0] == "ok" or not disturber or not disturber.since(began) or attempt + 1 == unrest.TRIES:
            return result
        say(f"again {ctx.client} {step['name']} ({result[1]:.1f} s): {result[2].splitlines()[-1]}")


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


def red(results):
    """Those that failed: what a later turn says changes nothing about it."""
    return {step: cell for step, cell in results.items() if cell[0] == "FAIL"}


def broker_of(arguments):
    if arguments.bootstrap:
        return brokers.External(arguments.bootstrap)
    if arguments.kafka:
        return brokers.Kafka()
    if arguments.nodes > 1:
        return cluster.Cluster(arguments.binary, arguments.nodes, CLUSTER_OPTIONS)
    if arguments.unrest:
        return brokers.Pyralog(arguments.binary, options=unrest.OPTIONS, port=brokers.quiet_port())
    return brokers.Pyralog(arguments.binary, options=["--log-cleaner-backoff-ms", "200"])


def judged(disturber, log):
    """The last cell: what became of what was acknowledged."""
    driver = Driver(steps.HELPER, disturber.broker.bootstrap, log)
    try:
        return "ok", 0.0, disturber.judge(driver)
    except StepFailed as failure:
        return "FAIL", 0.0, str(failure)
    finally:
        driver.close()


@contextlib.contextmanager
def recorders(arguments, clients, bootstrap):
    """{client: its recording proxy}; empty if nothing is to be recorded."""
    with contextlib.ExitStack() as open_proxies:
        wanted = clients if arguments.seen or arguments.write_seen else []
        yield {name: open_proxies.enter_context(seen.RecordingProxy(bootstrap)) for name in wanted}


def judge_seen(arguments, scenario, proxies, results):
    """Compares what the proxies saw with the page, or writes it there; returns whether it is well. A client
    that failed says nothing: it may not have come to all that it uses."""
    page = brokers.REPOSITORY / seen.PAGE
    text = page.read_text(encoding="utf-8")
    used = {name: proxy.used for name, proxy in proxies.items() if not red(results[name])}
    for name, apis in used.items():
        print(f"seen: {name} " + " ".join(f"{key}:{','.join(map(str, sorted(versions)))}"
                                          for key, versions in sorted(apis.items())))
    if arguments.write_seen:
        page.write_text(seen.write(text, list(scenario["client"]), used), encoding="utf-8")
        return True
    found = seen.differences(text, list(scenario["client"]), used)
    for each in found:
        print(f"FAIL {each}")
    return not found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", nargs="?", help="the pyralog binary (or PYRALOG_BINARY)")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="use a broker that runs already")
    parser.add_argument("--kafka", action="store_true", help="run against Apache Kafka")
    parser.add_argument("--client", action="append", help="only this client (may be repeated)")
    parser.add_argument("--step", action="append", help="only this step (may be repeated)")
    parser.add_argument("--unrest", type=float, metavar="SECONDS",
                        help="kill the broker about so long after it was started, again and again")
    parser.add_argument("--nodes", type=int, default=1, help="of the cluster under test (default 1, no cluster)")
    parser.add_argument("--turns", type=int, default=1, help="play everything so often (default 1)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31),
                        help="of the moments at which it is killed")
    parser.add_argument("--seen", action="store_true", help="red if a client uses what the page does not say")
    parser.add_argument("--write-seen", action="store_true", help="write the page's table of what clients use")
    parser.add_argument("--parallel", type=int, default=2, help="clients, or steps of a lone one, at once (default 2)")
    arguments = parser.parse_args()

    here = pathlib.Path(__file__).resolve().parent
    scenario = tomllib.loads((here / "scenario.toml").read_text())
    clients = arguments.client or list(scenario["client"])
    chosen = [s for s in scenario["step"] if not arguments.step or s["name"] in arguments.step]
    if arguments.unrest and not arguments.step and os.environ.get("PYRALOG_SOAK") != "1":
        chosen = [s for s in chosen if s.get("unrest")]
    if arguments.write_seen and (arguments.step or arguments.unrest or arguments.kafka):
        parser.error("--write-seen wants every step, undisturbed, against Pyralog")
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
        disturber = None
        if arguments.unrest:
            print(f"unrest: seed {arguments.seed}", flush=True)
            kind = unrest.Unrest if arguments.nodes == 1 else unrest.LeadersKilled
            disturber = kind(broker, arguments.seed, (arguments.unrest / 2, arguments.unrest * 3 / 2))
        with (disturber or contextlib.nullcontext(), recorders(arguments, clients, broker.bootstrap) as proxies,
              concurrent.futures.ThreadPoolExecutor(arguments.parallel) as pool):
            lanes = max(1, arguments.parallel // len(clients))  # a lone client plays two steps at once
            futures = [(name, pool.submit(play, name, scenario, chosen[lane::lanes],
                                          broker, proxies.get(name, broker).bootstrap,
                                          f"{run}t{turn}", log, disturber))
                       for turn in range(arguments.turns) for name in clients for lane in range(lanes)]
            results = {name: {} for name in clients}
            for name, future in futures:
                results[name] = results[name] | future.result() | red(results[name])
        if disturber:
            verdict, _, text = judged(disturber, log)
            results.setdefault("broker", {})["unrest"] = (verdict, 0.0, text)
            say(f"{verdict:4} broker        unrest\n     {text}")
            name = "scenario_unrest"
            if arguments.nodes > 1:
                name = "_".join(["scenario_cluster", *(arguments.client or [])])
            print(f"soak: {name} count={len(disturber.kills)} seeds={arguments.seed}..{arguments.seed}")
        verdicts = [cell[0] for cells in results.values() for cell in cells.values()]
        if "FAIL" in verdicts:
            log.seek(0)
            print("--- clients said:\n" + log.read()[-4000:])
            print("--- broker said:\n" + broker.log_tail())
        well = not proxies or judge_seen(arguments, scenario, proxies, results)
    show(results, chosen)
    counts = {word: verdicts.count(word) for word in ("ok", "FAIL", "n/a")}
    print(f"\n{counts['ok']} passed, {counts['FAIL']} failed, {counts['n/a']} not applicable"
          f" ({time.monotonic() - began:.0f} s)")
    return 1 if counts["FAIL"] or not well else 0


if __name__ == "__main__":
    sys.exit(main())
