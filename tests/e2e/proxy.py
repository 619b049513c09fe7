"""A TCP proxy for the Kafka protocol that loses answers to Produce.

With probability `loss` (seeded) it lets a Produce request through, swallows the broker's response
and closes the connection, so that the client cannot know whether its records were written. In
responses that name the broker's own address it puts its own port, so that clients stay on it. Of a cluster
("HOST:PORT,HOST:PORT,…") it has a port for each node.
"""

import random
import selectors
import socket
import struct
import threading

PRODUCE, FETCH, METADATA, FIND_COORDINATOR, DESCRIBE_CLUSTER = 0, 1, 3, 10, 60
NAMES_ADDRESS = {PRODUCE, FETCH, METADATA, FIND_COORDINATOR, DESCRIBE_CLUSTER}


class Frames:
    """Cuts a byte stream into frames, each with its four length bytes."""

    def __init__(self):
        self.buffer = bytearray()

    def feed(self, data):
        self.buffer += data
        while len(self.buffer) >= 4:
            size = struct.unpack_from(">i", self.buffer)[0] + 4
            if len(self.buffer) < size:
                return
            frame = bytes(self.buffer[:size])
            del self.buffer[:size]
            yield frame


class ResponseLossProxy:
    """Listens on a free port of 127.0.0.1 for each node while its `with` block lasts."""

    def __init__(self, upstream, loss, seed):
        self.loss = loss
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.produced = 0
        self.swallowed = 0
        self.doors = []  # (listener, address of the node)
        self.renamed = []  # (how an answer names a node, how the proxy does)
        for each in upstream.split(","):
            host, port = each.rsplit(":", 1)
            listener = socket.create_server(("127.0.0.1", 0))
            self.doors.append((listener, (host, int(port))))
            self.renamed.append((host.encode() + struct.pack(">i", int(port)),
                                 host.encode() + struct.pack(">i", listener.getsockname()[1])))
        self.bootstrap = ",".join(f"127.0.0.1:{listener.getsockname()[1]}" for listener, _ in self.doors)
        self.open = True

    def __enter__(self):
        for door in self.doors:
            threading.Thread(target=self.accept, args=door, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.open = False
        for listener, _ in self.doors:
            listener.close()

    def accept(self, listener, upstream):
        while self.open:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(client, upstream), daemon=True).start()

    def swallow(self):
        with self.lock:
            self.produced += 1
            lost = self.random.random() < self.loss
            self.swallowed += lost
            return lost

    def relay(self, client, upstream):
        try:
            server = socket.create_connection(upstream)
        except OSError:
            client.close()
            return
        keys, requests, responses = {}, Frames(), Frames()
        with client, server, selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ)
            ready.register(server, selectors.EVENT_READ)
            while self.open:
                for key, _ in ready.select(0.5):
                    try:
                        data = key.fileobj.recv(1 << 16)
                        if not data:
                            return
                        if key.fileobj is client:
                            self.forward(requests.feed(data), keys, server)
                        elif not self.give_back(responses.feed(data), keys, client):
                            return
                    except OSError:
                        return

    def forward(self, frames, keys, server):
        for frame in frames:
            api, _, correlation = struct.unpack_from(">hhi", frame, 4)
            keys[correlation] = api
            server.sendall(frame)

    def give_back(self, frames, keys, client):
        """Passes responses on; False when one was swallowed and the connection must close."""
        for frame in frames:
            api = keys.pop(struct.unpack_from(">i", frame, 4)[0], None)
            if api == PRODUCE and self.swallow():
                return False
            if api in NAMES_ADDRESS:
                for theirs, ours in self.renamed:
                    frame = frame.replace(theirs, ours)
            client.sendall(frame)
        return True
