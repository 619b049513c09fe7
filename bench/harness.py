"""What the areas of the benchmark share: turns, ratios, goals, and the page.

An area measures its sides turn by turn (A B A B ...), so that the machine's moods meet all of
them. Each pair of turns gives one ratio; reported is the median with the smallest and largest. A
peer or tool that is missing is reported as skipped. Every area rewrites its own part of
docs/benchmarks.md.
"""

import argparse
import datetime
import json
import mmap
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests/e2e"))

import brokers  # noqa: E402

BUILD = REPOSITORY / "build/release/bench"
GB = 1e9
KIB, MIB = 1 << 10, 1 << 20


class Skipped(Exception):
    """A peer or tool that is not here."""


def tool(name):
    """The path of a load generator that the build has made."""
    path = pathlib.Path(os.environ.get("BENCH_TOOLS", BUILD)) / name
    if not path.exists():
        raise Skipped(f"{name} is not built (-DPYRALOG_BENCH=ON)")
    return str(path)


def options(**named):
    """Command line options: record_bytes=1 becomes --record-bytes 1."""
    return [word for name, value in named.items()
            for word in ("--" + name.replace("_", "-"), str(value))]


def run_text(command, timeout=180, env=None):
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False,
                          stdin=subprocess.DEVNULL, env=env)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {(done.stdout + done.stderr).strip()[-600:]}")
    return done.stdout


def run_json(command, timeout=180):
    return json.loads(run_text(command, timeout))


def kafka_tool(name, *arguments, timeout=180):
    """Output of a tool of the Kafka distribution."""
    if not brokers.Kafka.available():
        raise Skipped("the Java tools are not in .deps/kafka")
    return run_text(["java", "-Xmx512m", "-cp", f"{brokers.DEPS}/kafka/*",
                     f"org.apache.kafka.tools.{name}", *map(str, arguments)], timeout)


def settle_memory(size=2_500_000_000):
    """Has a virtual machine's host hand out the memory that the page cache will take.

    A host takes free memory back after seconds (free page reporting); whoever touches it next pays
    for that with a fault of many microseconds a page, up to ten times what the load itself costs.
    Who pays would be chance. So before every turn the same amount is touched and let go."""
    with mmap.mmap(-1, size) as memory:
        zeros = bytes(1 << 20)
        for _ in range(size // len(zeros)):
            memory.write(zeros)


SETTLED = ("Before every turn 2.5 GB of memory are touched and let go, so that no broker pays for "
           "memory which the machine's host had taken back")


def middle(values):
    return statistics.median(values)


def spread(values, digits=2):
    """Median [min–max]."""
    return f"{middle(values):,.{digits}f} [{min(values):,.{digits}f}–{max(values):,.{digits}f}]"


def field(results, name):
    return [result[name] for result in results]


def ratios(ours, theirs, name):
    """Pyralog ÷ peer, pair by pair."""
    return [a[name] / b[name] if b[name] else float("nan") for a, b in zip(ours, theirs)]


def at_least(floor, values, unit=""):
    """A goal and whether the median meets it."""
    return f"≥ {floor:g}{unit}: {'met' if middle(values) >= floor else 'missed'}"


def at_most(ceiling, values, unit="", name=""):
    shown = f"1/{1 / ceiling:.0f}" if 0 < ceiling < 0.51 else f"{ceiling:g}"
    return f"{name}≤ {shown}{unit}: {'met' if middle(values) <= ceiling else 'missed'}"


def goals(*found):
    return "; ".join(one for one in found if one) or "–"


def table(head, rows):
    """Markdown lines; none without rows."""
    if not rows:
        return []
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(row) + " |" for row in rows)]


def write_part(path, name, text):
    """Replaces what stands between the markers of `name`, or appends it."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = path.read_text() if path.exists() else (
        "# Benchmarks\n\nWritten by `make bench`. Absolute figures belong to one machine and one "
        "hour; the ratios of one run are what counts.\n")
    part = f"{begin}\n{text}\n{end}"
    if begin in old and end in old:
        head, rest = old.split(begin, 1)
        new = head + part + rest.split(end, 1)[1]
    else:
        new = old.rstrip("\n") + "\n\n" + part + "\n"
    path.write_text(new)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in
                  pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}"


def kafka_version():
    if not brokers.Kafka.available():
        return "Apache Kafka: absent"
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    return (f"Apache Kafka {brokers.Kafka.version()} (KRaft, one node, 1 GiB heap, "
            f"{java.stderr.splitlines()[0]})")


class Area:
    """One part of the page. A subclass names itself and says in `run` what is measured."""

    name = title = ""

    def __init__(self, arguments):
        self.quick = arguments.quick
        self.pairs = 1 if self.quick else arguments.pairs
        self.binary = arguments.binary
        self.only = arguments.row
        self.notes = []

    @staticmethod
    def more_options(parser):
        """Options of its own."""

    # What a subclass says.
    def run(self):
        raise NotImplementedError

    def head(self):
        """Lines about peers, durability and load."""
        return []

    def body(self):
        """The tables, as Markdown lines."""
        return []

    # What it may use.
    def wanted(self, title):
        return not self.only or any(word in title for word in self.only)

    def scaled(self, full, quick):
        """How much of something: the real run's, or that of a run which only has to end."""
        return quick if self.quick else full

    def note(self, text):
        self.notes.append(text)
        print(text, flush=True)

    def turns(self, title, sides):
        """{name: results} of the sides, {name: callable}, turn by turn. The first turn of each
        warms up and does not count. None if the row is not wanted or something for it is absent."""
        if not self.wanted(title):
            return None
        results = {name: [] for name in sides}
        warm = 0 if self.quick else 1
        try:
            for turn in range(self.pairs + warm):
                for name, measure in sides.items():
                    result = measure()
                    if turn >= warm:
                        results[name].append(result)
        except Skipped as reason:
            self.note(f"{title}: skipped, {reason}")
            return None
        return results

    def report(self, began):
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY,
                                capture_output=True, text=True, check=False).stdout.strip()
        took = time.time() - began
        lines = [
            f"## {self.title}", "",
            f"- Date: {datetime.date.today()}, commit {commit}, took {took:.0f} s; "
            f"load average at the end {os.getloadavg()[0]:.1f}",
            f"- Machine: {machine()}",
            *(f"- {line}" for line in self.head()),
            f"- Command: `make bench-{self.name}`", "",
            *self.body(),
        ]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines)


def main(area):
    """Runs the area and writes its part of the page."""
    parser = argparse.ArgumentParser(description=area.__doc__)
    parser.add_argument("--binary", help="the pyralog binary (default build/release/pyralog)")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--row", action="append", help="only rows whose title contains this")
    parser.add_argument("--quick", action="store_true",
                        help="one short pair without a warm-up, to see that all rows run; implies "
                             "--dry-run, for such figures mean nothing")
    parser.add_argument("--dry-run", action="store_true", help="print, do not write the page")
    area.more_options(parser)
    arguments = parser.parse_args()
    began = time.time()
    # Whoever ends this ends the brokers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    running = area(arguments)
    running.run()
    text = running.report(began)
    if arguments.dry_run or arguments.quick:
        print(f"<!-- begin {area.name} -->\n{text}\n<!-- end {area.name} -->")
    else:
        write_part(REPOSITORY / "docs/benchmarks.md", area.name, text)
        print(f"docs/benchmarks.md: part {area.name} written ({time.time() - began:.0f} s)")
    return 0
