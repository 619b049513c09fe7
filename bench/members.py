"""A consumer group whose members are plain connections: what a rebalance takes of the coordinator."""

import contextlib
import select
import time

from wire import Connection, array, data, i8, i16, i32, string

FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, SYNC_GROUP = 10, 11, 12, 14
LOADING = {14, 15, 16}  # the coordinator loads, is not there yet, or is another node
AGAIN = {14, 27}  # it loads, or others have joined or left
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
        if code not in LOADING or time.monotonic() > deadline:
            raise RuntimeError(f"{cluster.name}: no coordinator of {group}: error {code}")
        time.sleep(0.1)


class Member:
    """A member and where it stands; one request of it is under way, or none once it is settled."""

    def __init__(self, group, address):
        self.group = group
        self.connection = Connection(address, timeout=60)
        self.id, self.generation = "", -1
        self.take = None  # what the answer under way is given to
        self.settled = False

    def ask(self, api, body, take):
        self.connection.send(api, 3 if api == JOIN_GROUP else 1, string(self.group) + body)
        self.take = take

    def join(self, topic):
        """`topic` is what it says of itself."""
        self.settled = False
        about = data(i16(0) + array([string(topic)]) + data(b""))
        self.ask(JOIN_GROUP, i32(60_000) + i32(60_000) + string(self.id) + string("consumer")
                 + array([string("range") + about]), lambda reader: self.joined(reader, topic))

    def joined(self, reader, topic):
        reader.i32()
        code, self.generation = reader.i16(), reader.i32()
        reader.string()
        reader.string()
        self.id = reader.string() or self.id
        if code in AGAIN | LOADING:
            if code in LOADING:  # of a group that is being made
                time.sleep(0.02)
            self.join(topic)
            return
        self.check(code)
        everybody = reader.array(lambda: (reader.string(), reader.data()))  # told to the leader only
        given = array([string(one) + data(ASSIGNMENT) for one, _ in everybody])
        self.ask(SYNC_GROUP, i32(self.generation) + string(self.id) + given,
                 lambda answer: self.told(answer, topic))

    def beat(self, topic):
        self.ask(HEARTBEAT, i32(self.generation) + string(self.id),
                 lambda reader: self.told(reader, topic))

    def told(self, reader, topic):
        """It has its part, or must join again."""
        reader.i32()
        code = reader.i16()
        if code in AGAIN:
            self.join(topic)
            return
        self.check(code)
        self.take, self.settled = None, True

    def check(self, code):
        if code != 0:
            raise RuntimeError(f"{self.group}: member {self.id}: error {code}")


class Members:
    """They join when the block begins. In a round all join again at once, and the group rebalances
    because what they say of themselves has changed. Who has its part asks every quarter of a second
    whether it still holds."""

    BEAT = 0.25

    def __init__(self, cluster, group, count):
        self.name = f"{cluster.name}: {group}"
        self.held = contextlib.ExitStack()
        address = find_coordinator(cluster, group)
        self.poll, self.members = select.poll(), {}
        for _ in range(count):
            member = Member(group, address)
            self.held.enter_context(member.connection)
            descriptor = member.connection.socket.fileno()
            self.members[descriptor] = member
            self.poll.register(descriptor, select.POLLIN)
        self.round, self.generation = 0, -1

    def __enter__(self):
        try:
            self.rebalance()
        except BaseException:
            self.held.close()
            raise
        return self

    def __exit__(self, *_):
        self.held.close()

    def rebalance(self, patience=60):
        """Seconds until all have been given their parts of one generation."""
        self.round += 1
        topic = f"topic-{self.round}"
        began = time.monotonic()
        for member in self.members.values():
            member.join(topic)
        beat_at = began + self.BEAT
        while not self.agree():
            now = time.monotonic()
            if now > began + patience:
                waiting = sum(not member.settled for member in self.members.values())
                raise RuntimeError(f"{self.name}: {waiting} of {len(self.members)} members have no "
                                   f"part within {patience} s")
            if now >= beat_at:
                beat_at = now + self.BEAT
                for member in self.members.values():
                    if member.take is None:
                        member.beat(topic)
            for descriptor, _ in self.poll.poll(max(1, 1000 * (beat_at - now))):
                self.answer(self.members[descriptor])
        took, before = time.monotonic() - began, self.generation
        self.generation = next(iter(self.members.values())).generation
        if self.generation <= before:
            raise RuntimeError(f"{self.name}: all have joined and it is still generation {before}")
        return took

    def answer(self, member):
        answer = member.connection.receive()
        if answer is None or member.take is None:
            raise ConnectionError(f"{self.name}: the coordinator closed a connection or spoke unasked")
        member.take(answer[1])

    def agree(self):
        return (all(member.settled and member.take is None for member in self.members.values())
                and len({member.generation for member in self.members.values()}) == 1)
