"""Driver for kcat, which is run once for each operation; protocol in ../README.md.

kcat prints what goes wrong as text, so the codes below are found by librdkafka's wording.
"""

import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from driver_loop import DriverError, emit, run  # noqa: E402

CODES = {
    "Broker: Unknown topic or partition": (3, "UNKNOWN_TOPIC_OR_PART"),
    "Broker: Message size too large": (10, "MSG_SIZE_TOO_LARGE"),
    "Broker: Offset out of range": (1, "OFFSET_OUT_OF_RANGE"),
    "Broker: Static consumer fenced": (82, "FENCED_INSTANCE_ID"),
    "Local: No offset stored": (None, "_NO_OFFSET"),
    "no previously committed offset": (None, "_AUTO_OFFSET_RESET"),
}


def explain(text, fallback):
    for words, (code, name) in CODES.items():
        if words in text:
            return DriverError(name, text.strip(), code)
    return DriverError(fallback, text.strip())


class Driver:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.member = None  # kcat polls by itself: its lines are forwarded by threads
        self.child = None

    @staticmethod
    def translate(error):
        return error

    def kcat(self, *arguments, data=None, timeout=30, bootstrap=None):
        command = ["kcat", "-b", bootstrap or self.bootstrap, *arguments]
        try:
            done = subprocess.run(command, input=data, capture_output=True, timeout=timeout,
                                  check=False)
        except subprocess.TimeoutExpired as late:
            raise DriverError("TIMED_OUT", f"kcat {' '.join(arguments)}: {late.stderr}") from late
        errors = done.stderr.decode(errors="replace")
        if done.returncode != 0:
            raise explain(errors, "KCAT_FAILED")
        return done.stdout.decode()

    def op_hello(self, _):
        text = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
        return {"client": "kcat " + re.search(r"Version (\S+)", text).group(1) + ", librdkafka "
                + re.search(r"librdkafka (\S+)", text).group(1)}

    def op_list_topics(self, _):
        found = json.loads(self.kcat("-L", "-J"))
        return {"topics": {t["topic"]: len(t["partitions"]) for t in found["topics"]}}

    def op_produce(self, request):
        """One kcat for each run of records with the same partition, headers and nullness."""
        groups = []
        for record in request["records"]:
            kind = (record.get("partition"), json.dumps(record.get("headers") or []),
                    record.get("key") is None, record.get("value") is None)
            if not groups or groups[-1][0] != kind:
                groups.append((kind, record, []))
            groups[-1][2].append(record)
        for (partition, _, no_key, _), first, records in groups:
            options = ["-P", "-E", "-t", request["topic"], "-Z",
                       "-z", request.get("codec", "none"),
                       "-X", f"acks={request.get('acks', 'all')}",
                       "-X", "message.max.bytes=4000000", "-X", "linger.ms=5",
                       "-X", f"batch.num.messages={request.get('batch', 10000)}",
                       "-X", "retry.backoff.ms=20", "-X", "reconnect.backoff.ms=10",
                       "-X", "reconnect.backoff.max.ms=100"]
            if request.get("idempotent"):
                options += ["-X", "enable.idempotence=true"]
            if partition is not None:
                options += ["-p", str(partition)]
            for name, value in first.get("headers") or []:
                options += ["-H", name if value is None else f"{name}={value}"]
            if not no_key:
                options += ["-K", "\x1d"]
            lines = [("" if no_key else (r.get("key") or "") + "\x1d") + (r.get("value") or "")
                     for r in records]
            with tempfile.NamedTemporaryFile() as file:
                if no_key and len(records) == 1 and lines[0]:
                    file.write(lines[0].encode())  # a file argument is one message, unsplit
                    file.flush()
                    self.kcat(*options, file.name, timeout=70,
                              bootstrap=request.get("bootstrap"))
                else:
                    data = "".join(line + "\x1e" for line in lines).encode()
                    self.kcat(*options, "-D", "\x1e", data=data, timeout=70,
                              bootstrap=request.get("bootstrap"))
        return {"offsets": [-1] * len(request["records"])}

    @staticmethod
    def to_record(line):
        flat = line.get("headers") or []
        return {
            "offset": line["offset"],
            "timestamp": line.get("ts"),
            "key": line.get("key"),
            "value": line.get("payload"),
            "headers": [[flat[i], flat[i + 1]] for i in range(0, len(flat), 2)],
        }

    def op_fetch(self, request):
        start = {"earliest": "beginning", "latest": "end"}.get(request["from"], request["from"])
        text = self.kcat("-C", "-J", "-q", "-t", request["topic"], "-p", str(request["partition"]),
                         "-o", str(start), "-c", str(request["count"]),
                         "-X", f"isolation.level={request.get('isolation', 'read_committed')}",
                         "-X", "allow.auto.create.topics=false",
                         "-X", "topic.metadata.propagation.max.ms=0",
                         "-X", "auto.offset.reset=error",
                         "-X", "fetch.message.max.bytes=4000000",
                         timeout=request.get("timeout_ms", 10_000) / 1000 + 2)
        return {"records": [self.to_record(json.loads(line)) for line in text.splitlines()]}

    def op_offset_for_time(self, request):
        name, partition = request["topic"], request["partition"]
        found = json.loads(self.kcat("-Q", "-J", "-t", f"{name}:{partition}:{request['timestamp']}"))
        offset = found[name][str(partition)]["offset"]
        return {"offset": offset if offset >= 0 else -1}

    def op_watermarks(self, request):
        marks = {}
        for side, when in (("low", -2), ("high", -1)):
            found = json.loads(self.kcat("-Q", "-J", "-t",
                                         f"{request['topic']}:{request['partition']}:{when}"))
            marks[side] = found[request["topic"]][str(request["partition"])]["offset"]
        return marks

    def op_join(self, request):
        topics = [request["pattern"]] if request.get("pattern") else request["topics"]
        reset = {"none": "error"}.get(request["reset"], request["reset"])
        options = ["-J", "-u", "-G", request["group"],
                   "-X", f"auto.offset.reset={reset}",
                   "-X", f"session.timeout.ms={request['session_timeout_ms']}",
                   "-X", "heartbeat.interval.ms=500", "-X", "auto.commit.interval.ms=100",
                   "-X", "topic.metadata.refresh.interval.ms=1000",
                   "-X", f"partition.assignment.strategy={request.get('strategy', 'range')}"]
        if request.get("instance_id"):
            options += ["-X", f"group.instance.id={request['instance_id']}"]
        self.child = subprocess.Popen(["kcat", "-b", self.bootstrap, *options, *topics],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.held = set()
        for target in (self.forward_records, self.forward_notes):
            threading.Thread(target=target, args=(self.child,), daemon=True).start()

    @staticmethod
    def forward_records(child):
        for line in child.stdout:
            record = json.loads(line)
            if "offset" in record:
                emit(event="record", topic=record["topic"], partition=record["partition"],
                     offset=record["offset"], value=record.get("payload"))

    def forward_notes(self, child):
        """`% Group g rebalanced (memberid m): assigned: t [0], t [1]`, or `% Group g rebalanced:
        incremental assignment of 2 partition(s) (...): t [0], t [1]`; and errors."""
        errors = []
        for line in child.stderr:
            if " rebalanced" in line:
                named = {(topic, int(number))
                         for topic, number in re.findall(r"([\w.-]+) \[(\d+)\]", line)}
                if "incremental assignment" in line or "assigned:" in line:
                    self.held |= named
                else:
                    self.held -= named or set(self.held)
                emit(event="assigned", partitions=sorted(list(one) for one in self.held))
            elif "ERROR" in line:
                errors.append(line)
        if child.wait() not in (0, -signal.SIGTERM, -signal.SIGKILL) or errors:
            error = explain("".join(errors), "KCAT_FAILED")
            emit(event="error", code=error.code, name=error.name, message=error.message)

    def op_leave(self, _):
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.child = None


run(Driver(sys.argv[1]))
