"""Which versions of which APIs each client was seen to use, and the table of a page that says so.

A proxy stands between a client and the broker and writes down the key and the version of every request.
The table has a row for each API that is served and a column for each client of the scenario.
"""

import re
import struct

from proxy import ResponseLossProxy

PAGE = "docs/kafka-compatibility.md"
NOBODY = "–"
ROW = re.compile(r"^\| (\d+) \| (\w+) \|((?: [^|]* \|)+)$")


class RecordingProxy(ResponseLossProxy):
    """Loses nothing, and knows what was asked: `used`, {key: set of versions}."""

    def __init__(self, upstream):
        super().__init__(upstream, 0.0, 0)
        self.used = {}

    def forward(self, frames, keys, server):
        for frame in frames:
            key, version = struct.unpack_from(">hh", frame, 4)
            with self.lock:
                self.used.setdefault(key, set()).add(version)
            super().forward([frame], keys, server)


def header_of(clients):
    return "| key | API | " + " | ".join(clients) + " |"


def cells(row):
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def versions_in(cell):
    return set() if cell == NOBODY else {int(version) for version in cell.split(", ")}


def find(lines, clients):
    """Where the table begins and ends among the lines of its page; its header is known by the clients."""
    try:
        begin = lines.index(header_of(clients))
    except ValueError:
        raise ValueError(f"{PAGE} has no table that begins with: {header_of(clients)}") from None
    end = begin
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    return begin, end


def read(text, clients):
    """({client: {key: versions}}, {key: name}) as the page has them."""
    lines = text.splitlines()
    begin, end = find(lines, clients)
    shown, names = {client: {} for client in clients}, {}
    for line in lines[begin + 2:end]:
        key, name, *used = cells(line)
        names[int(key)] = name
        for client, cell in zip(clients, used, strict=True):
            if versions_in(cell):
                shown[client][int(key)] = versions_in(cell)
    return shown, names


def write(text, clients, seen):
    """The page with what was seen of some clients instead of what it had of them."""
    lines = text.splitlines()
    shown, names = read(text, clients)
    begin, end = find(lines, clients)
    for client, used in seen.items():
        shown[client] = used
    rows = []
    for key, name in sorted(names.items()):
        used = [", ".join(map(str, sorted(shown[client].get(key, ())))) or NOBODY for client in clients]
        rows.append(f"| {key} | {name} | " + " | ".join(used) + " |")
    return "\n".join(lines[:begin + 2] + rows + lines[end:]) + "\n"


def differences(text, clients, seen):
    """What was seen and the page does not have. What the page has need not be seen every time: a client
    that is never interrupted does not ask for everything."""
    shown, names = read(text, clients)
    found = []
    for client, used in seen.items():
        for key, versions in sorted(used.items()):
            more = versions - shown[client].get(key, set())
            if more:
                found.append(f"{client} uses {names.get(key, 'API ' + str(key))} in version "
                             f"{', '.join(map(str, sorted(more)))}; {PAGE} does not say so. Write the table "
                             "anew: tests/e2e/run_scenario.py --write-seen")
    return found


def check(text, clients, served):
    """What is wrong with the table by itself: `served` is {key: (name, lowest, highest version)}."""
    try:
        shown, names = read(text, clients)
    except ValueError as fault:
        return [str(fault)]
    found = [f"{PAGE}: the table of clients has no row {key} {served[key][0]}" for key in sorted(served)
             if names.get(key) != served[key][0]]
    found += [f"{PAGE}: the table of clients has {key} {names[key]}, which is not served"
              for key in sorted(names) if key not in served]
    for client, used in shown.items():
        if not used:
            found.append(f"{PAGE}: nothing was seen of {client}")
        for key, versions in sorted(used.items()):
            low, high = served.get(key, (None, 0, -1))[1:]
            if not all(low <= version <= high for version in versions):
                found.append(f"{PAGE}: {client} uses a version of {names[key]} that is not served")
    return found
