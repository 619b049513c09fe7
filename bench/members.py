"""A consumer group whose members are plain connections: what a rebalance takes of the coordinator."""

import contextlib
import select
import time

from wire import Connection, array, data, i8, i16, i32, string

FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP = 10, 11, 14
AGAIN = {14, 15, 16}  # the coordinator loads, is not there yet, or is another node
REBALANCE_IN_PROGRESS = 27
ASSIGNMENT = b"\0" * 64


def find_coordinator(cluster, group, patience=60):
    """Its address, once there is one."""
    deadline = time.monotonic() + patience
    while True:
        with Connection(cluster.addresses[0], timeout=30) as connection:
            reader = connection.call(FIND_COORDINATOR, 1, string(group) + i8(0))
        reader.i32()
        code = reader.i16()
        reader.string()
        reader.i32()
        host, port = reader.string(), reader.i32()
        if code == 0:
            return f"{host}:{port}"
        if code not in AGAIN or time.monotonic() > deadline:
            raise RuntimeError(f"{cluster.name}: no coordinator of {group}: error {code}")
        time.sleep(0.1)


class Members:
    """They join and get their assignments all at once, in rounds; each round is a rebalance, because
    what they say of themselves changes."""

    def __init__(self, cluster, group, count):
        self.cluster, self.group = cluster, group
        self.held = contextlib.ExitStack()
        address = find_coordinator(cluster, group)
        self.all = [self.held.enter_context(Connection(address, timeout=60)) for _ in range(count)]
        self.ids = [""] * count
        self.round = 0

    def __enter__(self):
        self.rebalance()
        return self

    def __exit__(self, *_):
        self.held.close()

    def each(self, send, take, patience=60):
        """Sends to every member's connection, takes the answers as they come."""
        waiting = {}
        for number, member in enumerate(self.all):
            send(number, member)
            waiting[member.socket.fileno()] = number
        poll = select.poll()
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + patience
        while waiting:
            ready = poll.poll(max(0, 1000 * (deadline - time.monotonic())))
            if not ready:
                raise RuntimeError(f"{self.cluster.name}: {len(waiting)} members of {self.group} have "
                                   f"no answer within {patience} s")
            for descriptor, _ in ready:
                number = waiting.pop(descriptor)
                poll.unregister(descriptor)
                answer = self.all[number].receive()
                if answer is None:
                    raise ConnectionError("the coordinator closed a connection")
                take(number, answer[1])

    def join(self):
        """Every member joins; {number: (code, generation, whether it leads)}."""
        found = {}
        about = data(i16(0) + array([string(f"topic-{self.round}")]) + data(b""))

        def send(number, member):
            member.send(JOIN_GROUP, 3, string(self.group) + i32(60_000) + i32(60_000)
                        + string(self.ids[number]) + string("consumer")
                        + array([string("range") + about]))

        def take(number, reader):
            reader.i32()
            code, generation = reader.i16(), reader.i32()
            reader.string()
            leader, own = reader.string(), reader.string()
            self.ids[number] = own or self.ids[number]
            found[number] = (code, generation, bool(own) and leader == own)

        self.each(send, take)
        return found

    def sync(self, joined):
        """Every member asks for its assignment, which the leader gives. The codes."""
        codes = []

        def send(number, member):
            _, generation, leads = joined[number]
            given = [string(one) + data(ASSIGNMENT) for one in self.ids] if leads else []
            member.send(SYNC_GROUP, 1, string(self.group) + i32(generation)
                        + string(self.ids[number]) + array(given))

        def take(_, reader):
            reader.i32()
            codes.append(reader.i16())
            reader.data()

        self.each(send, take)
        return codes

    def rebalance(self, patience=60):
        """Seconds until all have been given their parts in one generation, and in how many goes:
        whoever was late makes the others join again."""
        self.round += 1
        began = time.monotonic()
        goes = 0
        while time.monotonic() < began + patience:
            goes += 1
            joined = self.join()
            codes = {code for code, _, _ in joined.values()}
            if codes <= {0} and len({generation for _, generation, _ in joined.values()}) == 1:
                codes = set(self.sync(joined))
                if codes <= {0}:
                    return time.monotonic() - began, goes
            if not codes <= AGAIN | {0, REBALANCE_IN_PROGRESS}:
                raise RuntimeError(f"{self.cluster.name}: {self.group}: errors {codes}")
        raise RuntimeError(f"{self.cluster.name}: {self.group}: no assignment within {patience} s")
