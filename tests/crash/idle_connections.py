#!/usr/bin/env python3
"""Ten thousand connections that do nothing: the server's memory stays below 200 MiB, and others are served as
quickly as without them. Beside them a flood of connections that come and go, thousands a second: with no
byte, with a part of a frame, with rubbish, with what looks like the begin of TLS; a producer and a consumer go
on. Who comes beyond the limit is refused at once and clearly, and nobody who is there is touched. When all
have gone, so have their descriptors, and those who come after them need no more memory."""

import contextlib
import multiprocessing
import os
import pathlib
import random
import resource
import select
import signal
import socket
import struct
import tempfile
import threading
import time

import client
from rounds import Rounds, check
from server import Server
from wire import batch, i16, i32, string

MIB = 1 << 20
IDLE, SPARE = 10_000, 40     # connections; those that the limit leaves beside them
MOST = 200 * MIB             # that the server may take with all of them
FLOODERS = 2
SECONDS = 60.0 if os.environ.get("PYRALOG_SOAK") == "1" else 2.5  # of the flood
API_VERSIONS = 18
QUESTION = i16(API_VERSIONS) + i16(0) + i32(7) + string("idle")
GARBAGE = (
    b"", b"", b"\0", b"\0\0\4\0" + b"a" * 100, b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),  # a TLS client's hello, cut
    b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x20" + bytes(32), i32(len(QUESTION)) + QUESTION[:9],
)


def resident(server):
    """Bytes."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def raise_limits():
    """How many connections this machine lets both sides have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 20_000),) * 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The server keeps an eighth of its descriptors for files.
    count = min(IDLE, hard * 7 // 8 - 300)
    if count < IDLE:
        print(f"idle_connections: only {count} connections, the limit of open files is {hard}")
    return count


def connect(address):
    made = socket.create_connection(address, timeout=15)
    return made


def ask(each):
    """A request and its answer."""
    each.sendall(i32(len(QUESTION)) + QUESTION)
    head = each.recv(8)
    check(len(head) == 8 and struct.unpack(">ii", head)[1] == 7, f"no answer: {head!r}")
    left = struct.unpack(">i", head[:4])[0] - 4
    while left > 0:
        part = each.recv(left)
        check(part, "an answer was cut")
        left -= len(part)


def flood(address, over, counted, seconds):
    """Connections that come to nothing, as many as there can be, each gone soon; in a process of its own, that
    ends after so many seconds whatever becomes of the one that began it."""
    rng, held, end = random.Random(os.getpid()), [], time.monotonic() + seconds
    while not over.is_set() and time.monotonic() < end:
        with contextlib.suppress(OSError):
            each = socket.socket()
            if rng.random() < 0.5:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
            each.connect(address)
            each.send(rng.choice(GARBAGE))
            held.append(each)
            with counted.get_lock():
                counted.value += 1
        # Half of what the limit leaves may be there at a time.
        while len(held) > SPARE // (2 * FLOODERS) - 1:
            held.pop(rng.randrange(len(held))).close()


@contextlib.contextmanager
def flooding(address, seconds):
    """Yields how many connections came so far. However this ends, nobody who floods is left: what they inherited
    of this process would keep its reader waiting."""
    over, counted = multiprocessing.Event(), multiprocessing.Value("q", 0)
    flooders = [multiprocessing.Process(target=flood, args=(address, over, counted, seconds), daemon=True)
                for _ in range(FLOODERS)]
    for each in flooders:
        each.start()
    try:
        yield counted
        over.set()
        for each in flooders:
            each.join(30)
            check(each.exitcode == 0, f"a flooder ended with {each.exitcode}")
    finally:
        for each in flooders:
            each.kill()


class Turns(threading.Thread):
    """A producer and a consumer of what it sends, turn by turn: how long each turn took, in seconds. It is
    connected and served when the constructor returns."""

    def __init__(self, server, topic):
        super().__init__(daemon=True)
        self.topic, self.wire, self.over = topic, client.Client(server.bootstrap), threading.Event()
        self.took, self.failure, self.next = [], None, self.wire.offset(topic, 0)

    def run(self):
        try:
            raw, expected = batch([b"turn" * 25]), self.next
            while not self.over.is_set():
                began = time.monotonic()
                code, base = self.wire.produce(self.topic, 0, raw)
                check(code == client.NONE and base == expected, f"produce: error {code}, offset {base}")
                found = client.records_of(self.wire.fetch(self.topic, 0, base))
                check([record.offset for record in found] == [base], f"offset {base} was not there")
                expected += 1
                self.took.append(time.monotonic() - began)
        except (OSError, client.Refused, SystemExit) as failure:
            self.failure = repr(failure)

    def end(self):
        self.over.set()
        self.join(30)
        check(self.failure is None, self.failure)
        return sorted(self.took)


def turns_for(turns, seconds, amid=lambda: None):
    """Sorted times of turns; `amid` is called in their midst."""
    turns.start()
    time.sleep(seconds / 2)
    amid()
    time.sleep(seconds / 2)
    return turns.end()


def pause(server):
    """For so short a time nothing runs of it. Then all that came meanwhile is let in before it is seen that it has
    left again, so the limit is reached for a moment."""
    os.kill(server.process.pid, signal.SIGSTOP)
    time.sleep(0.05)
    os.kill(server.process.pid, signal.SIGCONT)


def share(times, part):
    return times[min(len(times) - 1, int(len(times) * part))]


def let_in(address, count):
    """Half of them ask something first, half never say a word."""
    made = []
    for number in range(count):
        made.append(connect(address))
        if number % 2:
            ask(made[-1])
    return made


def expect_refusals(server, address, idle):
    """Beyond the limit: closed at once, and it is said; who was there stays."""
    more, refused, end = [], 0, time.monotonic() + 10
    for _ in range(3 * SPARE):
        each = connect(address)
        each.setblocking(False)
        more.append(each)
    waiting = set(more)
    while refused < 2 * SPARE and time.monotonic() < end:
        for each in select.select([e for e in waiting if e.fileno() < 1024], [], [], 0)[0] or list(waiting):
            with contextlib.suppress(BlockingIOError):
                try:
                    gone = each.recv(1) == b""
                except ConnectionResetError:
                    gone = True
                refused += gone
                waiting.discard(each)
    check(refused >= 2 * SPARE, f"beyond the limit {refused} of {len(more)} were refused")
    for each in more:
        each.close()
    check("kafka.connection_refused" in server.log_text() and "max.connections" in server.log_text(),
          "the log does not say that connections were refused, and why")
    for each in random.sample(idle, min(200, len(idle))):
        ask(each)
    return refused


def close_all(server, idle, files):
    """Their descriptors come back, to the last."""
    for each in idle:
        each.close()
    end = time.monotonic() + 30
    while descriptors(server) > files:
        check(time.monotonic() < end, f"{descriptors(server)} descriptors are left of all these; there were {files}")
        time.sleep(0.05)


def run_round(server, count, rng, quick):
    host, port = server.bootstrap.split(":")
    address = (host, int(port))
    files, before = descriptors(server), resident(server)
    alone = turns_for(Turns(server, "alone"), 0.5)
    idle = let_in(address, count)
    with_idle = resident(server)
    check(with_idle <= MOST, f"{count} idle connections: {with_idle / MIB:.0f} MiB")
    beside = turns_for(Turns(server, "beside"), 1.0)
    for part in (0.5, 0.99):
        most = 4 * share(alone, part) + (0.02 if part < 0.9 else 0.1)
        check(share(beside, part) <= most, f"beside idle connections {part:.0%} of the turns took up to "
                                           f"{share(beside, part) * 1000:.1f} ms, alone {share(alone, part) * 1000:.1f}")
    # The flood fills the limit for moments, as those whose end the server has not read yet count. So the one that is
    # to be left alone is there before it.
    turns = Turns(server, "flooded")
    with flooding(address, quick + 60) as counted:
        flooded = turns_for(turns, quick, lambda: pause(server))
        check("kafka.connection_refused" in server.log_text(), "the flood did not reach the limit")
        most = resident(server)
    check(counted.value > 300 * quick, f"that was no flood: {counted.value} connections in {quick:.0f} s")
    check(flooded and flooded[-1] < 5.0, f"in the flood a turn took {flooded[-1]:.2f} s")
    check(most <= MOST, f"in the flood: {most / MIB:.0f} MiB")
    refused = expect_refusals(server, address, idle)
    rng.shuffle(idle)
    close_all(server, idle, files + 4)
    # What an allocator keeps of their memory serves those who come next.
    idle = let_in(address, count)
    again = resident(server)
    check(again <= max(most, with_idle) + 8 * MIB, f"{count} came once more: {again / MIB:.0f} MiB, {with_idle / MIB:.0f} "
                                                   f"the first time: something is left of those before")
    close_all(server, idle, files + 4)
    return (f"{count} idle: {before / MIB:.0f} MiB, then {with_idle / MIB:.0f}, again {again / MIB:.0f}; a turn "
            f"{share(alone, 0.5) * 1000:.1f} ms alone, {share(beside, 0.5) * 1000:.1f} beside them, "
            f"{share(flooded, 0.5) * 1000:.1f} in a flood of {counted.value / quick:.0f} a second; {refused} refused")


def main():
    count = raise_limits()
    rounds = Rounds("idle_connections", quick=1, full=5)
    options = ("--max-connections", str(count + SPARE), "--shards", "2")
    with tempfile.TemporaryDirectory(prefix="pyralog-idle-") as folder:
        for _, rng in rounds:
            with Server(pathlib.Path(folder) / f"data{rng.random()}", options) as server:
                server.ready()
                with client.Client(server.bootstrap) as admin:
                    for topic in ("alone", "beside", "flooded"):
                        admin.create_topic(topic, durability="os")
                        check(admin.produce(topic, 0, batch([b"first"]))[0] == client.NONE, topic)  # opens its files
                told = run_round(server, count, rng, SECONDS)
                print(told, flush=True)
                check(server.terminate()[0] == 0, "a clean stop failed")
    rounds.done(told)


if __name__ == "__main__":
    try:
        main()
    except SystemExit as ended:  # at once: nobody waits for thousands of connections and who floods them
        print(ended.code, flush=True)
        os._exit(ended.code if isinstance(ended.code, int) else 1)
