#include "server/settings.h"

namespace pyralog::server {

namespace {

using Kind = SettingKind;
using Options = ServerOptions;
constexpr std::int64_t kMaxInt32 = 2'147'483'647;
/// A hundred years; a thousand are more nanoseconds than Duration holds.
constexpr std::int64_t kMaxMillis = 100LL * 86'400'000 * 365;

constexpr Setting kSettings[] = {
    {"data_dir", "", "Place and listeners", Kind::kText, &Options::data_dir, 0, 0, "",
     "Directory of all that the node keeps; made if it is not there."},
    {"listeners.kafka", "kafka", "Place and listeners", Kind::kAddress, &Options::kafka_listener, 0,
     0, "",
     "Where Kafka clients connect. Of kafka and http only the named ones open; with none named "
     "both "
     "do, on 127.0.0.1:9092 and 127.0.0.1:9094. Port 0 takes a free one."},
    {"listeners.http", "http", "Place and listeners", Kind::kAddress, &Options::http_listener, 0, 0,
     "", "Where health, status and metrics are served."},
    {"listeners.peer", "peer", "Place and listeners", Kind::kAddress, &Options::peer_listener, 0, 0,
     "",
     "Where other nodes of the cluster connect, if cluster.members does not say it of this node, or "
     "it listens elsewhere than that says. Not named there, a node on 0.0.0.0 or [::] tells the "
     "others the host of advertise."},
    {"advertise", "", "Place and listeners", Kind::kAddress, &Options::advertise, 0, 0, "",
     "What Kafka clients are told to connect to; needed where the listener is 0.0.0.0 or [::]. "
     "Port 0 stands for the listener's own."},
    {"allow_insecure", "", "Place and listeners", Kind::kBool, &Options::allow_insecure, 0, 0, "",
     "Lets listeners without encryption and authentication open beyond the loopback."},
    {"shards", "", "Place and listeners", Kind::kInteger, &Options::shards, 0, 256, "",
     "Threads that each own a share of the partitions; 0 takes one per core."},
    {"follow.readers", "", "Place and listeners", Kind::kBool, &Options::follow_readers, 0, 0, "",
     "A shard that does little but send files to readers on this machine stays on their processor "
     "meanwhile, which takes less time of both. False leaves threads where the system puts them."},

    {"node.id", "", "Cluster", Kind::kInteger, &Options::node_id, 1, kMaxInt32, "",
     "Which node this is. A data directory keeps the number of its first start."},
    {"cluster.members", "cluster", "Cluster", Kind::kMembers, &Options::members, 0, 0, "",
     "The nodes that form a cluster, up to five and best three, with the addresses where they "
     "connect to each other: 1@HOST:PORT,2@HOST:PORT,3@HOST:PORT, the same on all of them. It "
     "counts while the data directory is empty; later the cluster itself knows. Not named, a node "
     "with an empty directory is alone."},
    {"cluster.secret.file", "", "Cluster", Kind::kText, &Options::secret_file, 0, 0, "",
     "File with the secret that nodes prove to each other, the same on all: 16 to 4096 bytes, the "
     "end of the line not counted. Only its owner may be able to read it (chmod 600)."},
    {"feature.level", "", "Cluster", Kind::kInteger, &Options::feature_level,
     catalog::kLeastClusterLevel, catalog::kFeatureLevel, "",
     "For a rolling upgrade: pins this node to what the previous release understands and writes. A "
     "cluster takes up a level once all of its nodes understand it, and then for good."},
    {"broker.rack", "", "Cluster", Kind::kText, &Options::rack, 0, 0, "",
     "Where this node stands: replicas of a partition go to different racks if there are any."},
    {"node.role", "role", "Cluster", Kind::kChoice, &Options::role, 0, 0, "all|pyramid|obelisk",
     "What this node is there for: pyramid holds partitions and issues no ids and counters, obelisk "
     "issues these and holds no partitions, all does both. Counts from the next start on; a node that "
     "holds partitions is drained before it becomes an obelisk."},
    {"replica.lag.time.max.ms", "", "Cluster", Kind::kMillis, &Options::replica_lag_time_max_ms,
     1'000, kMaxMillis, "",
     "A replica that has not had all that its leader has for so long is shown as not in sync, and "
     "clients do not read there."},
    {"replica.selector.class", "", "Cluster", Kind::kText, &Options::replica_selector, 0, 0, "",
     "Where clients that name their rack read: rack (from a replica in sync in their rack, if there is "
     "one) or leader."},

    {"max.connections", "", "Connections and requests", Kind::kInteger, &Options::max_connections,
     1, 1'000'000, "", "Kafka connections at a time; further ones are closed at once."},
    {"connections.max.idle.ms", "", "Connections and requests", Kind::kMillis,
     &Options::connections_max_idle_ms, 1'000, kMaxMillis, "",
     "A connection without a request for so long is closed."},
    {"max.request.bytes", "", "Connections and requests", Kind::kBytes, &Options::max_request_bytes,
     1'024, kMaxInt32, "",
     "The largest request frame; a larger one ends its connection. By default it is lowered to what finds "
     "room on a shard: 5/8 or more of its share of queued.max.request.bytes. More than that cannot be set."},
    {"socket.send.buffer.bytes", "", "Connections and requests", Kind::kBytes,
     &Options::send_buffer_bytes, -1, kMaxInt32, "",
     "What the system holds of answers that a client has not taken yet, for each connection; -1 leaves "
     "it to the system. More serves distant clients (bandwidth times round trip); what comes from files "
     "takes no memory but the page cache's."},
    {"queued.max.request.bytes", "", "Connections and requests", Kind::kBytes,
     &Options::queued_max_request_bytes, -1, 1LL << 40, "",
     "Memory for requests being received or served, each shard has its share; beyond it connections wait to "
     "be read. At least 1.8 MiB a shard. A client that sends what others wait for at less than half the pace of a request in 60 s is "
     "closed. -1 is its part of memory.max.bytes, a quarter, at most 256 MiB or 160 MiB a shard."},
    {"queued.max.response.bytes", "", "Connections and requests", Kind::kBytes,
     &Options::queued_max_response_bytes, -1, 1LL << 40, "",
     "Memory for answers that clients have not taken yet (records that come from files take none); beyond it "
     "requests with large answers wait, and no client holds more than its part. -1 is its part of "
     "memory.max.bytes, an eighth, 128 MiB at most."},
    {"connection.max.requests", "", "Connections and requests", Kind::kInteger,
     &Options::connection_max_requests, 1, 10'000, "",
     "Requests of one connection in work at a time; beyond it the connection waits to be read."},
    {"fetch.max.bytes", "", "Connections and requests", Kind::kBytes, &Options::fetch_max_bytes,
     1'024, kMaxInt32, "", "The most that one fetch answers, whatever the client asks."},
    {"max.incremental.fetch.session.cache.slots", "", "Connections and requests", Kind::kInteger,
     &Options::max_fetch_sessions, 0, 1'000'000, "",
     "Fetch sessions kept at a time, divided among the shards (one each at least); 0 keeps none."},
    {"shutdown.timeout.ms", "", "Connections and requests", Kind::kMillis,
     &Options::shutdown_timeout_ms, 0, 600'000, "",
     "How long requests in work may still take when the server is asked to end."},
    {"http.max.connections", "", "Connections and requests", Kind::kInteger,
     &Options::http_max_connections, 1, 100'000, "", "HTTP connections at a time."},
    {"metrics.max.topics", "", "Connections and requests", Kind::kInteger,
     &Options::metrics_max_topics, 0, 1'000'000, "",
     "Topics whose traffic /metrics tells one by one: those with most of it. The sums are of all."},
    {"metrics.max.groups", "", "Connections and requests", Kind::kInteger,
     &Options::metrics_max_groups, 0, 1'000'000, "",
     "Consumer groups whose lag /metrics tells, the first by name, and how many pairs of a group and a "
     "topic there may be in all. Each scrape asks their coordinators; 0 tells of none."},

    {"auto.create.topics.enable", "", "Topics", Kind::kBool, &Options::auto_create_topics, 0, 0, "",
     "Creates a topic when a client first asks for it by name."},
    {"num.partitions", "", "Topics", Kind::kInteger, &Options::num_partitions, 1, 100'000, "",
     "Partitions of a topic whose creator names no number."},
    {"max.partitions", "", "Topics", Kind::kInteger, &Options::max_partitions, 1, 10'000'000, "",
     "Partitions of all topics together; what would make more is refused. Each takes two open "
     "files "
     "while it is written to."},
    {"default.replication.factor", "", "Topics", Kind::kInteger,
     &Options::default_replication_factor, -1, 32'767, "",
     "Replicas of a topic whose creator names no number; -1 is the smaller of 3 and the nodes."},
    {"min.insync.replicas", "", "Topics", Kind::kInteger, &Options::min_insync_replicas, 1, 32'767,
     "", "Replicas that must hold a record before acks=all is answered, if more than a majority.",
     true},
    {"durability", "", "Topics", Kind::kChoice, &Options::durability, 0, 0, "os|fsync",
     "What \"written\" means: given to the operating system, or on the device. A topic's own "
     "setting may also be memory.",
     true},
    {"message.max.bytes", "", "Topics", Kind::kBytes, &Options::message_max_bytes, 61, kMaxInt32,
     "", "The largest record batch that is accepted.", true},
    {"log.segment.bytes", "", "Topics", Kind::kBytes, &Options::segment_bytes, 65'536, kMaxInt32,
     "", "The size at which a partition's log goes on in a new file.", true},
    {"log.retention.ms", "", "Topics", Kind::kMillis, &Options::retention_ms, -1, kMaxMillis, "",
     "retention.ms of topics: how long records are kept; -1 for ever.", true},
    {"log.retention.bytes", "", "Topics", Kind::kBytes, &Options::retention_bytes, -1, 1LL << 60,
     "", "retention.bytes of topics: how much of a partition is kept; -1 sets no limit.", true},
    {"log.retention.check.interval.ms", "", "Topics", Kind::kMillis,
     &Options::retention_check_interval_ms, 100, kMaxMillis, "",
     "How often partitions are looked at for files that retention lets go."},
    {"memory.topics.max.bytes", "", "Topics", Kind::kBytes, &Options::memory_topics_bytes, -1,
     1LL << 50, "",
     "Memory of all topics with durability=memory together, each shard has its share; beyond it the "
     "oldest records go, of the partition that has most. -1 is its part of memory.max.bytes, three "
     "eighths, 1 GiB at most."},
    {"log.write.ahead.bytes", "", "Topics", Kind::kBytes, &Options::write_ahead_bytes, 0, 1LL << 40, "",
     "Disk that each shard may take for its two write-ahead files, by which many partitions are made "
     "durable with one sync; all shards together take at most 1/32 of the disk. 0: every partition's own file is synced."},
    {"log.cleaner.backoff.ms", "", "Topics", Kind::kMillis, &Options::cleaner_backoff_ms, 100,
     kMaxMillis, "", "How often topics with cleanup.policy=compact are looked at."},
    {"log.cleaner.dedupe.buffer.size", "", "Topics", Kind::kBytes, &Options::cleaner_table_bytes,
     -1, 1LL << 40, "",
     "Memory of each shard for the keys that compaction compares, 32 bytes a key; with less of it, "
     "compaction takes more passes. -1 is its part of memory.max.bytes, a sixteenth for all shards, 32 "
     "MiB each at most."},
    {"log.cleaner.io.max.bytes.per.second", "", "Topics", Kind::kBytes,
     &Options::cleaner_bytes_per_second, -1, 1LL << 50, "",
     "How much compaction reads and writes in a second, on each shard; -1 sets no limit."},
    {"log.scrub.interval.ms", "", "Topics", Kind::kMillis, &Options::scrub_interval_ms, -1,
     kMaxMillis, "",
     "The time in which all closed segments are once read back from the device and checked; -1 or 0 "
     "never does."},
    {"log.scrub.max.bytes.per.second", "", "Topics", Kind::kBytes, &Options::scrub_bytes_per_second,
     -1, 1LL << 50, "",
     "How much of that the server reads in a second, at most, even if it takes longer then; -1 sets "
     "no limit."},

    {"offsets.topic.num.partitions", "", "Groups and producers", Kind::kInteger,
     &Options::offsets_partitions, 1, 10'000, "",
     "Partitions of __consumer_offsets; takes effect when it is first made."},
    {"offsets.topic.replication.factor", "", "Groups and producers", Kind::kInteger,
     &Options::offsets_replication_factor, -1, 32'767, "",
     "Replicas of __consumer_offsets; -1 is the smaller of 3 and the nodes."},
    {"offset.metadata.max.bytes", "", "Groups and producers", Kind::kBytes,
     &Options::offset_metadata_max_bytes, 0, 32'767, "",
     "The longest text that a client may commit beside an offset."},
    {"offsets.retention.minutes", "", "Groups and producers", Kind::kInteger,
     &Options::offsets_retention_minutes, 1, kMaxMillis / 60'000, "",
     "How long committed offsets are kept that nobody uses: of a group without members since its "
     "last one left, of a consumer outside a group since each commit, of topics that no member of "
     "a group reads since the commit."},
    {"offsets.retention.check.interval.ms", "", "Groups and producers", Kind::kMillis,
     &Options::offsets_retention_check_interval_ms, 100, kMaxMillis, "",
     "How often committed offsets are looked at for those to forget."},
    {"group.min.session.timeout.ms", "", "Groups and producers", Kind::kMillis,
     &Options::group_min_session_timeout_ms, 1, kMaxInt32, "",
     "The shortest session timeout that a group member may ask for."},
    {"group.max.session.timeout.ms", "", "Groups and producers", Kind::kMillis,
     &Options::group_max_session_timeout_ms, 1, kMaxInt32, "",
     "The longest session timeout that a group member may ask for."},
    {"group.initial.rebalance.delay.ms", "", "Groups and producers", Kind::kMillis,
     &Options::group_initial_rebalance_delay_ms, 0, 600'000, "",
     "How long an empty group waits for more members before its first rebalance."},
    {"group.max.size", "", "Groups and producers", Kind::kInteger, &Options::group_max_size, 1,
     kMaxInt32, "", "Members of one group."},
    {"memory.groups.max.bytes", "", "Groups and producers", Kind::kBytes,
     &Options::memory_groups_bytes, -1, 1LL << 50, "",
     "Memory of all groups together, each shard has its share: a half for committed offsets, a quarter "
     "for members and their assignments, a quarter for what is being stored of them; beyond it what "
     "would grow is refused. -1 is its part of memory.max.bytes, an eighth, 512 MiB a shard at most."},
    {"producer.id.expiration.ms", "", "Groups and producers", Kind::kMillis,
     &Options::producer_id_expiration_ms, 1'000, kMaxMillis, "",
     "How long the sequence numbers of a silent idempotent producer are remembered, in time that the "
     "node runs."},
    {"max.producer.ids", "", "Groups and producers", Kind::kInteger, &Options::max_producer_ids, -1,
     1'000'000'000, "",
     "Idempotent producers that are remembered, counted in each partition that they write to, some 250 "
     "bytes each. When there are more, those that have been silent for 15 minutes are forgotten, and new "
     "ones are refused if that does not help. -1 is one for every 2 KiB of memory.max.bytes."},

    {"memory.max.bytes", "", "Machine", Kind::kBytes, &Options::memory_max_bytes, -1, 1LL << 50, "",
     "Memory that requests, answers, topics in memory, groups, compaction and indexes share; each has "
     "a bound of its own, and those that are set may not come to more than this. -1 is three quarters of the "
     "machine's memory, or of its control group's. What else the server takes comes on top."},
    {"min.free.bytes", "", "Machine", Kind::kBytes, &Options::min_free_bytes, -1, 1LL << 50, "",
     "With less than so much free on the disk of data_dir, records of clients are refused, except "
     "for topics in memory; reads, deletions, committed offsets and metadata go on. Never less "
     "than "
     "disk.reserve.bytes; -1 is the smaller of 256 MiB and a twentieth of the disk, 0 sets no "
     "limit "
     "of its own."},
    {"disk.reserve.bytes", "", "Machine", Kind::kBytes, &Options::disk_reserve_bytes, -1, 1LL << 40,
     "",
     "Size of a file in data_dir that only keeps space: it goes when the disk is full, so that "
     "what "
     "goes on has room, and comes back when there is space again. -1 is the smaller of 32 MiB and "
     "a "
     "hundredth of the disk, 0 keeps none."},
    {"pool.sync.threads", "", "Machine", Kind::kInteger, &Options::sync_threads, 1, 256, "",
     "Threads that make files durable."},
    {"pool.disk.threads", "", "Machine", Kind::kInteger, &Options::disk_threads, 1, 256, "",
     "Threads that read cold data and open and remove files."},
    {"pool.work.threads", "", "Machine", Kind::kInteger, &Options::work_threads, 1, 256, "",
     "Threads for long computations."},

    {"log.level", "", "Log lines", Kind::kChoice, &Options::log_level, 0, 0,
     "debug|info|warn|error", "The least important log lines that are written, to standard error."},
    {"log.format", "", "Log lines", Kind::kChoice, &Options::log_format, 0, 0, "text|json",
     "How a log line is written."},
    {"log.slow.operation.ms", "", "Log lines", Kind::kMillis, &Options::slow_operation_ms, -1,
     kMaxMillis, "",
     "Requests, syncs and writes that take longer are told of, a few lines at a time, and counted; "
     "-1 tells of none. What a client asked to wait for does not count."},
};

}  // namespace

std::span<const Setting> settings() {
  return kSettings;
}

const Setting* find_setting(std::string_view key) {
  for (const Setting& setting : kSettings) {
    if (setting.key == key) return &setting;
  }
  return nullptr;
}

}  // namespace pyralog::server
