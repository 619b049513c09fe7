"""Driver for confluent-kafka (librdkafka >= 2.12); protocol in ../README.md."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import confluent_kafka as ck  # noqa: E402
from confluent_kafka import admin as ck_admin  # noqa: E402

from driver_loop import DriverError, emit, run  # noqa: E402

TIMEOUT = 20.0


def encode(text):
    return None if text is None else text.encode()


def decode(data):
    return None if data is None else data.decode()


def to_error(error):
    if error.code() == ck.KafkaError._FATAL and "Static consumer fenced" in error.str():
        # this binding does not tell what lies beneath a fatal error but in its text
        return DriverError("FENCED_INSTANCE_ID", error.str(), ck.KafkaError.FENCED_INSTANCE_ID)
    return DriverError(error.name(), error.str(), error.code() if error.code() > 0 else None)


class Driver:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.member = None
        self.commit_each = False
        self.admin_client = None

    @staticmethod
    def translate(error):
        if isinstance(error, ck.KafkaException) and isinstance(error.args[0], ck.KafkaError):
            return to_error(error.args[0])
        return error

    def admin(self):
        if self.admin_client is None:
            self.admin_client = ck_admin.AdminClient({"bootstrap.servers": self.bootstrap})
        return self.admin_client

    def op_hello(self, _):
        return {"client": f"confluent-kafka {ck.__version__}, librdkafka {ck.libversion()[0]}"}

    def op_create_topic(self, request):
        topic = ck_admin.NewTopic(request["topic"], request.get("partitions", 1),
                                  request.get("replication_factor", 1),
                                  config=request.get("configs", {}))
        self.admin().create_topics([topic])[request["topic"]].result(TIMEOUT)

    def op_delete_topic(self, request):
        self.admin().delete_topics([request["topic"]])[request["topic"]].result(TIMEOUT)

    def op_create_partitions(self, request):
        wanted = ck_admin.NewPartitions(request["topic"], request["total"])
        self.admin().create_partitions([wanted])[request["topic"]].result(TIMEOUT)

    def op_list_topics(self, _):
        topics = self.admin().list_topics(timeout=TIMEOUT).topics
        return {"topics": {name: len(t.partitions) for name, t in topics.items()}}

    def op_describe_configs(self, request):
        resource = ck_admin.ConfigResource(ck_admin.ResourceType.TOPIC, request["topic"])
        entries = self.admin().describe_configs([resource])[resource].result(TIMEOUT)
        return {"configs": {name: entry.value for name, entry in entries.items()}}

    def op_alter_configs(self, request):
        entries = [ck_admin.ConfigEntry(name, value,
                                        incremental_operation=ck_admin.AlterConfigOpType.SET)
                   for name, value in request["configs"].items()]
        resource = ck_admin.ConfigResource(ck_admin.ResourceType.TOPIC, request["topic"],
                                           incremental_configs=entries)
        self.admin().incremental_alter_configs([resource])[resource].result(TIMEOUT)

    def op_produce(self, request):
        producer = ck.Producer({
            "bootstrap.servers": request.get("bootstrap", self.bootstrap),
            "compression.type": request.get("codec", "none"),
            "acks": request.get("acks", "all"),
            "enable.idempotence": request.get("idempotent", False),
            "message.max.bytes": 4_000_000,
            "linger.ms": 5,
            "batch.num.messages": request.get("batch", 10_000),
            "message.timeout.ms": 60_000,
            "retry.backoff.ms": 20,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100,
        })
        offsets, errors = [-1] * len(request["records"]), []

        def delivered(index):
            def report(error, message):
                if error is not None:
                    errors.append(error)
                else:
                    offsets[index] = message.offset() if message.offset() is not None else -1
            return report

        for index, record in enumerate(request["records"]):
            options = {}
            if record.get("timestamp") is not None:
                options["timestamp"] = record["timestamp"]
            if record.get("headers"):
                options["headers"] = [(name, encode(value)) for name, value in record["headers"]]
            if record.get("partition") is not None:
                options["partition"] = record["partition"]
            producer.produce(request["topic"], value=encode(record.get("value")),
                             key=encode(record.get("key")), on_delivery=delivered(index), **options)
            producer.poll(0)
        left = producer.flush(70)
        if errors:
            raise to_error(errors[0])
        if left:
            raise DriverError("FLUSH_TIMED_OUT", f"{left} messages left")
        return {"offsets": offsets}

    def consumer(self, group=None, **more):
        return ck.Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": group or "unused",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
            "fetch.message.max.bytes": 4_000_000,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            **more,
        })

    def op_fetch(self, request):
        start = request["from"]
        logical = {"earliest": ck.OFFSET_BEGINNING, "latest": ck.OFFSET_END}
        consumer = self.consumer(**{
            "isolation.level": request.get("isolation", "read_committed"),
            "auto.offset.reset": "error", "allow.auto.create.topics": False})
        records = []
        try:
            # a consumer that was assigned, not subscribed, is not told of an unknown topic
            topic = consumer.list_topics(request["topic"], timeout=TIMEOUT).topics[request["topic"]]
            if topic.error:
                raise to_error(topic.error)
            consumer.assign([ck.TopicPartition(request["topic"], request["partition"],
                                               logical.get(start, start))])
            deadline = time.monotonic() + request.get("timeout_ms", 10_000) / 1000
            while len(records) < request["count"] and time.monotonic() < deadline:
                message = consumer.poll(0.2)
                if message is None:
                    continue
                if message.error():
                    raise to_error(message.error())
                records.append(self.record(message))
        finally:
            consumer.close()
        return {"records": records}

    @staticmethod
    def record(message):
        return {
            "offset": message.offset(),
            "timestamp": message.timestamp()[1],
            "key": decode(message.key()),
            "value": decode(message.value()),
            "headers": [[name, decode(value)] for name, value in message.headers() or []],
        }

    def op_offset_for_time(self, request):
        consumer = self.consumer()
        try:
            wanted = ck.TopicPartition(request["topic"], request["partition"], request["timestamp"])
            found = consumer.offsets_for_times([wanted], timeout=TIMEOUT)[0]
            if found.error:
                raise to_error(found.error)
            return {"offset": found.offset if found.offset >= 0 else -1}
        finally:
            consumer.close()

    def op_watermarks(self, request):
        consumer = self.consumer()
        try:
            partition = ck.TopicPartition(request["topic"], request["partition"])
            low, high = consumer.get_watermark_offsets(partition, timeout=TIMEOUT)
            return {"low": low, "high": high}
        finally:
            consumer.close()

    def op_commit(self, request):
        consumer = self.consumer(request["group"])
        try:
            wanted = [ck.TopicPartition(request["topic"], int(partition), offset)
                      for partition, offset in request["offsets"].items()]
            for result in consumer.commit(offsets=wanted, asynchronous=False):
                if result.error:
                    raise to_error(result.error)
        finally:
            consumer.close()

    def op_committed(self, request):
        consumer = self.consumer(request["group"])
        try:
            wanted = [ck.TopicPartition(request["topic"], p) for p in request["partitions"]]
            found = consumer.committed(wanted, timeout=TIMEOUT)
            return {"offsets": {str(t.partition): max(t.offset, -1) for t in found}}
        finally:
            consumer.close()

    def op_list_groups(self, _):
        found = self.admin().list_consumer_groups().result(TIMEOUT)
        if found.errors:
            raise found.errors[0]
        return {"groups": [group.group_id for group in found.valid]}

    def op_describe_group(self, request):
        group = self.admin().describe_consumer_groups([request["group"]])[request["group"]]
        found = group.result(TIMEOUT)
        return {"state": found.state.name, "members": len(found.members)}

    def op_delete_group(self, request):
        group = self.admin().delete_consumer_groups([request["group"]])[request["group"]]
        group.result(TIMEOUT)

    def op_join(self, request):
        more = {
            "auto.offset.reset": {"none": "error"}.get(request["reset"], request["reset"]),
            "session.timeout.ms": request["session_timeout_ms"],
            "heartbeat.interval.ms": 500,
            "partition.assignment.strategy": request.get("strategy", "range"),
            "topic.metadata.refresh.interval.ms": 1000,
        }
        if request.get("instance_id"):
            more["group.instance.id"] = request["instance_id"]
        if request.get("rack"):
            more["client.rack"] = request["rack"]
        self.commit_each = request.get("commit") == "each"
        member = self.consumer(request["group"], **more)
        self.incremental = more["partition.assignment.strategy"] == "cooperative-sticky"
        topics = [request["pattern"]] if request.get("pattern") else request["topics"]
        member.subscribe(topics, on_assign=self.on_assign, on_revoke=self.on_revoke,
                         on_lost=self.on_revoke)
        self.member = member
        self.held = set()

    def show(self):
        emit(event="assigned", partitions=sorted(list(held) for held in self.held))

    def on_assign(self, consumer, partitions):
        (consumer.incremental_assign if self.incremental else consumer.assign)(partitions)
        self.held |= {(p.topic, p.partition) for p in partitions}
        self.show()

    def on_revoke(self, consumer, partitions):
        self.held -= {(p.topic, p.partition) for p in partitions}
        (consumer.incremental_unassign(partitions) if self.incremental else consumer.unassign())
        self.show()

    def poll_member(self):
        messages = self.member.consume(50, 0.1)
        for message in messages:
            if message.error():
                raise to_error(message.error())
            emit(event="record", topic=message.topic(), partition=message.partition(),
                 offset=message.offset(), value=decode(message.value()))
        if messages and self.commit_each:
            self.op_commit_now(None)

    def op_commit_now(self, _):
        try:
            self.member.commit(asynchronous=False)
        except ck.KafkaException as error:
            if error.args[0].code() != ck.KafkaError._NO_OFFSET:
                raise

    def op_pause(self, request):
        self.member.pause([ck.TopicPartition(request["topic"], request["partition"])])

    def op_resume(self, request):
        self.member.resume([ck.TopicPartition(request["topic"], request["partition"])])

    def op_leave(self, _):
        member, self.member = self.member, None
        if member is not None:
            member.close()


run(Driver(sys.argv[1]))
