"""Driver for kafka-python; protocol in ../README.md."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import kafka  # noqa: E402
from kafka import errors as kafka_errors  # noqa: E402
from kafka.admin import ConfigFilterType, ConfigResource, ConfigResourceType  # noqa: E402
from kafka.admin import KafkaAdminClient  # noqa: E402
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor  # noqa: E402
from kafka.coordinator.assignors.range import RangePartitionAssignor  # noqa: E402
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor  # noqa: E402
from kafka.coordinator.assignors.sticky.sticky_assignor import (  # noqa: E402
    StickyPartitionAssignor)

from driver_loop import DriverError, emit, run  # noqa: E402

ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


def encode(text):
    return None if text is None else text.encode()


def decode(data):
    return None if data is None else data.decode()


class Listener(kafka.ConsumerRebalanceListener):
    def __init__(self, driver):
        self.driver = driver

    def on_partitions_revoked(self, revoked):
        self.driver.held -= {(p.topic, p.partition) for p in revoked}
        self.driver.show()

    def on_partitions_assigned(self, assigned):
        self.driver.held |= {(p.topic, p.partition) for p in assigned}
        self.driver.show()


class Driver:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.member = None
        self.commit_each = False
        self.held = set()
        self.admin_client = None

    @staticmethod
    def translate(error):
        if isinstance(error, kafka_errors.BrokerResponseError) and error.errno > 0:
            return DriverError(getattr(error, "message", None) or type(error).__name__, str(error),
                               error.errno)
        return error

    def admin(self):
        if self.admin_client is None:
            self.admin_client = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        return self.admin_client

    def op_hello(self, _):
        return {"client": f"kafka-python {kafka.__version__}"}

    def op_create_topic(self, request):
        self.admin().create_topics({request["topic"]: {
            "num_partitions": request.get("partitions", 1),
            "replication_factor": request.get("replication_factor", 1),
            "configs": request.get("configs", {})}})

    def op_delete_topic(self, request):
        self.admin().delete_topics([request["topic"]])

    def op_create_partitions(self, request):
        self.admin().create_partitions({request["topic"]: request["total"]})

    def op_list_topics(self, _):
        found = self.admin().describe_topics()
        return {"topics": {topic["name"]: len(topic["partitions"]) for topic in found}}

    def op_describe_configs(self, request):
        resource = ConfigResource(ConfigResourceType.TOPIC, request["topic"])
        found = self.admin().describe_configs([resource], config_filter=ConfigFilterType.ALL)
        entries = next(iter(found.values()))[request["topic"]]
        return {"configs": {name: entry["value"] if isinstance(entry, dict) else entry
                            for name, entry in entries.items()}}

    def op_alter_configs(self, request):
        self.admin().alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, request["topic"], request["configs"])])

    def op_produce(self, request):
        codec = request.get("codec", "none")
        idempotent = request.get("idempotent", False)
        acks = request.get("acks", "all")
        producer = kafka.KafkaProducer(
            bootstrap_servers=request.get("bootstrap", self.bootstrap),
            compression_type=None if codec == "none" else codec,
            acks=acks if acks == "all" else int(acks),
            enable_idempotence=idempotent,
            max_request_size=4_000_000,
            batch_size=request.get("batch_bytes", 16384),
            linger_ms=5,
            delivery_timeout_ms=60_000,
            request_timeout_ms=20_000,
            retry_backoff_ms=20,
            reconnect_backoff_ms=10,
            reconnect_backoff_max_ms=100)
        try:
            pending = []
            for record in request["records"]:
                headers = [(name, encode(value)) for name, value in record.get("headers") or []]
                pending.append(producer.send(
                    request["topic"], value=encode(record.get("value")),
                    key=encode(record.get("key")), headers=headers or None,
                    partition=record.get("partition"), timestamp_ms=record.get("timestamp")))
            producer.flush(70)
            told = [future.get(timeout=1).offset for future in pending]
            return {"offsets": [-1 if offset is None else offset for offset in told]}
        finally:
            producer.close(timeout=5)

    def consumer(self, group=None, **more):
        return kafka.KafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False,
            fetch_max_wait_ms=100, max_partition_fetch_bytes=4_000_000,
            reconnect_backoff_ms=20, reconnect_backoff_max_ms=200, **more)

    def op_fetch(self, request):
        consumer = self.consumer(isolation_level=request.get("isolation", "read_committed"),
                                 auto_offset_reset="none", allow_auto_create_topics=False)
        try:
            partition = kafka.TopicPartition(request["topic"], request["partition"])
            if not consumer.partitions_for_topic(request["topic"]):
                raise kafka_errors.UnknownTopicOrPartitionError()
            consumer.assign([partition])
            start = request["from"]
            if start == "earliest":
                consumer.seek_to_beginning(partition)
            elif start == "latest":
                consumer.seek_to_end(partition)
            else:
                consumer.seek(partition, start)
            records = []
            deadline = time.monotonic() + request.get("timeout_ms", 10_000) / 1000
            while len(records) < request["count"] and time.monotonic() < deadline:
                for message in consumer.poll(200).get(partition, []):
                    records.append({
                        "offset": message.offset,
                        "timestamp": message.timestamp,
                        "key": decode(message.key),
                        "value": decode(message.value),
                        "headers": [[n, decode(v)] for n, v in message.headers],
                    })
            return {"records": records[:request["count"]]}
        finally:
            consumer.close()

    def op_offset_for_time(self, request):
        consumer = self.consumer()
        try:
            partition = kafka.TopicPartition(request["topic"], request["partition"])
            found = consumer.offsets_for_times({partition: request["timestamp"]})[partition]
            return {"offset": -1 if found is None else found.offset}
        finally:
            consumer.close()

    def op_watermarks(self, request):
        consumer = self.consumer()
        try:
            partition = kafka.TopicPartition(request["topic"], request["partition"])
            return {"low": consumer.beginning_offsets([partition])[partition],
                    "high": consumer.end_offsets([partition])[partition]}
        finally:
            consumer.close()

    def op_commit(self, request):
        consumer = self.consumer(request["group"])
        try:
            consumer.commit({kafka.TopicPartition(request["topic"], int(partition)):
                             kafka.OffsetAndMetadata(offset, "", -1)
                             for partition, offset in request["offsets"].items()})
        finally:
            consumer.close()

    def op_committed(self, request):
        consumer = self.consumer(request["group"])
        try:
            found = {p: consumer.committed(kafka.TopicPartition(request["topic"], p))
                     for p in request["partitions"]}
            return {"offsets": {str(p): -1 if o is None else o for p, o in found.items()}}
        finally:
            consumer.close()

    def op_list_groups(self, _):
        return {"groups": [group["group_id"] for group in self.admin().list_groups()]}

    def op_describe_group(self, request):
        found = self.admin().describe_groups([request["group"]])[request["group"]]
        return {"state": str(found["group_state"]).rsplit(".", 1)[-1].upper(),
                "members": len(found["members"])}

    def op_delete_group(self, request):
        outcome = dict(self.admin().delete_groups([request["group"]]))[request["group"]]
        if outcome != "OK":  # else the name of an error class
            raise getattr(kafka_errors, str(outcome))()

    def op_join(self, request):
        more = {}
        if request.get("instance_id"):
            more["group_instance_id"] = request["instance_id"]
        self.commit_each = request.get("commit") == "each"
        member = self.consumer(
            request["group"], auto_offset_reset=request["reset"],
            session_timeout_ms=request["session_timeout_ms"], heartbeat_interval_ms=500,
            metadata_max_age_ms=1000, max_poll_records=50,
            partition_assignment_strategy=[ASSIGNORS[request.get("strategy", "range")]], **more)
        self.held = set()
        if request.get("pattern"):
            member.subscribe(pattern=request["pattern"], listener=Listener(self))
        else:
            member.subscribe(topics=request["topics"], listener=Listener(self))
        self.member = member

    def show(self):
        emit(event="assigned", partitions=sorted(list(held) for held in self.held))

    def poll_member(self):
        found = self.member.poll(100)
        for messages in found.values():
            for message in messages:
                emit(event="record", topic=message.topic, partition=message.partition,
                     offset=message.offset, value=decode(message.value))
        if found and self.commit_each:
            self.member.commit()

    def op_commit_now(self, _):
        self.member.commit()

    def op_pause(self, request):
        self.member.pause(kafka.TopicPartition(request["topic"], request["partition"]))

    def op_resume(self, request):
        self.member.resume(kafka.TopicPartition(request["topic"], request["partition"]))

    def op_leave(self, _):
        member, self.member = self.member, None
        if member is not None:
            member.close()


run(Driver(sys.argv[1]))
