// What /metrics shows beside what is counted as it happens. It is asked for at each scrape, so that
// partitions, topics and groups that are gone leave no series behind.
#include <algorithm>
#include <chrono>
#include <map>
#include <string_view>
#include <unordered_map>

#include "base/plant.h"
#include "log/shard_logs.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "server/node.h"

namespace pyralog::server {

namespace {

using protocol::kafka::TopicTraffic;

constexpr std::string_view kTopic = "topic";

void put(observe::Registry& metrics, const char* name, const char* help, std::uint64_t value,
         observe::Labels labels = {}) {
  metrics.gauge(name, help, std::move(labels)).set(static_cast<std::int64_t>(value));
}

void count(observe::Registry& metrics, const char* name, const char* help, std::uint64_t value,
           observe::Labels labels = {}) {
  metrics.counter(name, help, std::move(labels)).add(value);
}

void add_problems(observe::Registry& metrics, const std::vector<Problem>& problems) {
  for (const std::string_view kind : kProblemKinds) {
    const auto found =
        std::ranges::count_if(problems, [kind](const Problem& each) { return each.kind == kind; });
    put(metrics, "pyralog_server_problems", "What does not work, as /health names it",
        static_cast<std::uint64_t>(found), {{"kind", std::string(kind)}});
  }
}

void add_traffic(observe::Registry& metrics, const std::string& topic, const TopicTraffic& traffic) {
  const observe::Labels labels{{std::string(kTopic), topic}};
  count(metrics, "pyralog_kafka_topic_produced_records_total", "Records that clients have written",
        traffic.produced_records, labels);
  count(metrics, "pyralog_kafka_topic_produced_bytes_total",
        "Bytes of record batches that clients have written", traffic.produced_bytes, labels);
  count(metrics, "pyralog_kafka_topic_fetched_records_total",
        "Records that clients were sent, by their offsets", traffic.fetched_records, labels);
  count(metrics, "pyralog_kafka_topic_fetched_bytes_total",
        "Bytes of record batches that clients were sent", traffic.fetched_bytes, labels);
}

void add_logs(observe::Registry& metrics, const log::ShardLogUse& logs) {
  put(metrics, "pyralog_log_segments", "Segments of all logs", logs.segments);
  put(metrics, "pyralog_log_open_files", "Closed segments that are open for reading", logs.open_files);
  put(metrics, "pyralog_log_compaction_backlog_bytes",
      "Closed segments of compacted topics that compaction has not compared yet", logs.backlog_bytes);
  put(metrics, "pyralog_log_write_ahead_failed",
      "Shards whose write-ahead files cannot be used since a write or sync failed",
      logs.failed_write_ahead);
}

}  // namespace

void Node::add_process(observe::Registry& metrics) const {
  metrics.counter_from("process_cpu_seconds_total", "Processor time, user and system", {},
                       [seconds = process_.cpu_seconds] { return seconds; });
  put(metrics, "process_resident_memory_bytes", "Memory that is in RAM", process_.resident_bytes);
  put(metrics, "process_virtual_memory_bytes", "Address space", process_.virtual_bytes);
  put(metrics, "process_open_fds", "Open file descriptors", process_.open_files);
  put(metrics, "process_max_fds", "File descriptors that there may be", process_.max_open_files);
  metrics.gauge_from("process_start_time_seconds", "When it began, in seconds since 1970", {},
                     [ms = began_.ms] { return static_cast<double>(ms) / 1000; });
  put(metrics, "pyralog_build_info", "Always 1; its label says what is running", 1,
      {{"version", PYRALOG_VERSION}});
}

io::Task<void> Node::add_kafka(observe::Registry& metrics) {
  if (kafka_ == nullptr) co_return;
  put(metrics, "pyralog_kafka_connections", "Kafka clients connected now", kafka_->connections());
  const auto& arrivals = kafka_->arrivals();
  count(metrics, "pyralog_kafka_connections_accepted_total", "Connections that clients have opened",
        arrivals.accepted);
  count(metrics, "pyralog_kafka_connections_refused_total",
        "Connections that were closed at once because of max.connections", arrivals.refused);
  count(metrics, "pyralog_kafka_connections_moved_total",
        "Connections that went on at the shard of the partitions that their client asked for first",
        arrivals.moved);
  count(metrics, "pyralog_kafka_accept_failures_total",
        "Connections that could not be accepted, for want of descriptors say", arrivals.failures);
  kafka_memory_ = co_await kafka_->memory();
  put(metrics, "pyralog_kafka_request_memory_bytes", "Held by requests being received or served",
      kafka_memory_.requests);
  put(metrics, "pyralog_kafka_answer_memory_bytes",
      "Held by large answers that their clients have not taken yet", kafka_memory_.answers);
  add_waits(metrics);
}

void Node::add_waits(observe::Registry& metrics) const {
  const std::pair<const char*, protocol::kafka::Waits> reasons[] = {
      {"request_memory", kafka_memory_.request_waits},
      {"answer_memory", kafka_memory_.answer_waits},
      {"credit", kafka_memory_.credit_waits}};
  for (const auto& [reason, waits] : reasons) {
    const observe::Labels labels{{"reason", reason}};
    count(metrics, "pyralog_kafka_waits_total", "Requests that had to wait for room, by what for", waits.count,
          labels);
    metrics.counter_from("pyralog_kafka_wait_seconds_total", "How long they have waited, those that no longer do",
                         labels, [time = waits.time] { return std::chrono::duration<double>(time).count(); });
  }
}

void Node::add_cluster(observe::Registry& metrics) {
  if (cluster_ == nullptr) return;
  put(metrics, "pyralog_cluster_starts", "Starts of this node with this data directory",
      cluster_->cookie().boot_counter);
  put(metrics, "pyralog_cluster_topics", "Topics", cluster_->catalog()->topic_count());
  const auto view = cluster_view();
  if (!view) return;
  put(metrics, "pyralog_cluster_nodes", "Nodes of the cluster, this one among them",
      view->nodes.size());
  put(metrics, "pyralog_cluster_nodes_reachable",
      "Those that this node can reach, itself among them", view->reachable());
  put(metrics, "pyralog_cluster_is_controller", "1 if this node leads the metadata log",
      view->controller == view->self ? 1 : 0);
  put(metrics, "pyralog_cluster_has_controller", "1 if this node knows who leads the metadata log",
      view->controller ? 1 : 0);
  put(metrics, "pyralog_cluster_metadata_term", "Raft's term of the metadata log; 0 of a lone node",
      view->term);
  put(metrics, "pyralog_cluster_metadata_committed_entries",
      "Entries of the metadata log that this node knows to stand", view->committed);
}

/// What is not of Kafka's listener, and is told before the node is ready, too.
void Node::add_doors(observe::Registry& metrics) const {
  count(metrics, "pyralog_observe_dropped_lines_total",
        "Log lines that were dropped because they were not taken as fast", observe::dropped_lines());
  if (http_ == nullptr) return;
  put(metrics, "pyralog_http_connections", "HTTP clients connected now", http_->connections());
  count(metrics, "pyralog_http_connections_refused_total",
        "Connections that were told 503 because of http.max.connections", http_->refused());
}

io::Task<void> Node::add_topics(observe::Registry& metrics) {
  std::map<std::string, TopicTraffic> all;
  std::size_t sessions = 0;
  for (unsigned s = 0; s < services_.size(); ++s) {
    co_await io::on(*shards_[s], [this, s, &all, &sessions]() -> io::Task<void> {
      sessions += services_[s]->sessions().size();
      const auto catalog = broker_->catalog();
      auto& topics = services_[s]->counts().topics();
      std::erase_if(topics, [&](const auto& each) { return catalog->topic(each.first) == nullptr; });
      for (const auto& [topic, traffic] : topics) all[topic] += traffic;
      co_return;
    });
  }
  put(metrics, "pyralog_kafka_fetch_sessions", "Fetch sessions that are kept", sessions);
  put(metrics, "pyralog_kafka_fetch_sessions_limit", "max.incremental.fetch.session.cache.slots",
      static_cast<std::uint64_t>(options_.max_fetch_sessions));
  // Those with most of it.
  std::vector<std::pair<std::uint64_t, const std::string*>> order;
  for (const auto& [topic, traffic] : all) order.emplace_back(traffic.bytes(), &topic);
  const std::size_t most = static_cast<std::size_t>(options_.metrics_max_topics);
  const std::size_t told = PYRALOG_PLANT("server.tell_of_every_topic") ? order.size()
                                                                       : std::min(most, order.size());
  std::ranges::sort(order, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : *a.second < *b.second;
  });
  for (std::size_t i = 0; i < told; ++i) add_traffic(metrics, *order[i].second, all[*order[i].second]);
  put(metrics, "pyralog_kafka_topics_left_out",
      "Topics with traffic that is not told one by one because of metrics.max.topics",
      order.size() - told);
}

void Node::add_partitions(observe::Registry& metrics,
                          const std::vector<broker::PartitionStatus>& partitions) const {
  put(metrics, "pyralog_broker_partitions", "Partitions of all topics", partitions.size());
  put(metrics, "pyralog_broker_partitions_limit", "max.partitions: what would make more is refused",
      static_cast<std::uint64_t>(options_.max_partitions));
  const broker::Options& broker = broker_->options();
  put(metrics, "pyralog_broker_producer_ids", "Idempotent producers that are remembered, in each partition",
      broker.producers.room == nullptr ? 0 : broker.producers.room->used());
  put(metrics, "pyralog_broker_producer_ids_limit", "max.producer.ids", broker.max_producer_ids);
  std::uint64_t holds = 0;
  std::uint64_t held_back = 0;
  for (const auto& p : partitions) {
    const observe::Labels labels{{"partition", p.name}};
    const auto tell = [&](const char* name, const char* help, std::int64_t value) {
      metrics.gauge(name, help, labels).set(value);
    };
    tell("pyralog_broker_partition_offline", "1 if the partition serves nobody",
         p.offline.empty() ? 0 : 1);
    tell("pyralog_broker_partition_leader_epoch", "Leader epoch", p.epoch);
    tell("pyralog_broker_partition_log_start_offset", "First offset that is kept", p.log_start);
    tell("pyralog_broker_partition_high_watermark_offset", "End of what consumers may see",
         p.high_watermark);
    tell("pyralog_broker_partition_log_end_offset", "Offset of the next record", p.log_end);
    tell("pyralog_broker_partition_log_bytes", "Size of the log", static_cast<std::int64_t>(p.bytes));
    holds += p.holds.size();
    held_back += p.held_back_bytes;
  }
  put(metrics, "pyralog_broker_holds", "Readers that keep records from retention and compaction", holds);
  put(metrics, "pyralog_broker_held_back_bytes", "What retention left only because it is held", held_back);
}

io::Task<void> Node::add_lag(observe::Registry& metrics,
                             const std::vector<broker::PartitionStatus>& partitions) {
  const auto listed = co_await broker_->list_groups({});
  put(metrics, "pyralog_group_groups", "Consumer groups", listed.groups.size());
  const auto most = static_cast<std::size_t>(options_.metrics_max_groups);
  std::unordered_map<std::string_view, std::int64_t> ends;
  if (most > 0 && !listed.groups.empty()) {
    for (const auto& p : partitions) ends.emplace(p.name, p.high_watermark);
  }
  std::size_t left = most;
  std::size_t asked = 0;
  std::size_t whole = 0;
  for (const auto& listing : listed.groups) {
    if (asked++ == most || left == 0) break;
    ++whole;
    group::FetchOffsetsRequest request;
    request.group = listing.group;
    const auto answer = co_await broker_->with_group(
        listing.group, [&request](broker::GroupHost& host) -> io::Task<group::FetchOffsetsResponse> {
          co_return host.table().fetch_offsets(request);
        },
        false);
    if (!answer || answer->error != KafkaError::kNone) continue;
    std::map<std::string_view, std::int64_t> lags;
    for (const group::OffsetEntry& entry : answer->partitions) {
      const auto end = ends.find(entry.topic + "-" + std::to_string(entry.partition));
      if (end == ends.end() || entry.offset < 0) continue;
      lags[entry.topic] += std::max<std::int64_t>(end->second - entry.offset, 0);
    }
    for (const auto& [topic, lag] : lags) {
      if (left == 0 && !PYRALOG_PLANT("server.tell_of_every_group")) {
        --whole;
        break;
      }
      left -= std::min<std::size_t>(left, 1);
      metrics
          .gauge("pyralog_group_lag_records",
                 "How far behind the ends of its partitions a group's committed offsets are",
                 {{"group", listing.group}, {std::string(kTopic), std::string(topic)}})
          .set(lag);
    }
  }
  put(metrics, "pyralog_group_left_out",
      "Groups whose lag is not told, or not wholly, because of metrics.max.groups",
      listed.groups.size() - whole);
}

void Node::add_space(observe::Registry& metrics) const {
  const broker::SpaceStatus& space = broker_->space();
  put(metrics, "pyralog_broker_disk_free_bytes", "Free on the disk of the data directory",
      space.free_bytes);
  put(metrics, "pyralog_broker_disk_size_bytes", "Size of the disk of the data directory", space.total_bytes);
  put(metrics, "pyralog_broker_disk_limit_bytes", "With less free, records of clients are refused",
      space.limits.floor);
  put(metrics, "pyralog_broker_disk_reserve_bytes", "What the reserve file takes now; 0 = it had to go",
      space.held_bytes);
  put(metrics, "pyralog_broker_disk_refusing", "1 while records are refused for want of space",
      space.refusing ? 1 : 0);
}

void Node::add_totals(observe::Registry& metrics, const broker::BrokerTotals& totals) {
  for (const log::ShardLogCount& each : log::shard_log_counts()) {
    count(metrics, each.metric, each.help, totals.log.*each.count);
  }
  count(metrics, "pyralog_broker_refused_for_space_total",
        "Batches of clients that were refused because of min.free.bytes", totals.refused_for_space);
  const auto held = [&](const char* kind, std::size_t bytes) {
    put(metrics, "pyralog_group_memory_bytes",
        "Held by groups: their members, committed offsets, and records being stored", bytes,
        {{"kind", kind}});
  };
  held("members", totals.groups.members);
  held("offsets", totals.groups.offsets);
  held("storing", totals.groups.storing);
  count(metrics, "pyralog_group_expired_offsets_total", "Committed offsets that retention let go",
        totals.expired.offsets);
  count(metrics, "pyralog_group_expired_groups_total", "Empty groups that went with their last offset",
        totals.expired.groups);
  count(metrics, "pyralog_group_expiry_failures_total",
        "Times that the tombstones of expired offsets could not be stored", totals.expired.failures);
}

void Node::add_memory(observe::Registry& metrics, const log::ShardLogUse& logs,
                      const group::Kept& groups) const {
  const std::uint64_t shards = shards_.size();
  const auto limit = [&](const char* part, std::uint64_t bytes) {
    put(metrics, "pyralog_server_memory_limit_bytes",
        "What a part of memory.max.bytes may take, of all shards", bytes, {{"part", part}});
  };
  const auto used = [&](const char* part, std::uint64_t bytes) {
    put(metrics, "pyralog_server_memory_used_bytes",
        "What a part of memory.max.bytes takes now, of all shards", bytes, {{"part", part}});
  };
  limit("all", memory_.all);
  limit("requests", memory_.requests);
  limit("answers", memory_.answers);
  limit("topics", memory_.topics);
  limit("groups", memory_.groups);
  limit("compaction", memory_.compaction * shards);
  limit("indexes", memory_.indexes * shards);
  used("requests", kafka_memory_.requests);
  used("answers", kafka_memory_.answers);
  used("topics", logs.memory_topic_bytes);
  used("groups", groups.members + groups.offsets + groups.storing);
  used("indexes", logs.index_bytes);
}

io::Task<std::string> Node::metrics_text() {
  look_at_process();
  observe::Registry metrics(static_cast<unsigned>(shards_.size()));
  add_process(metrics);
  put(metrics, "pyralog_server_ready", "1 once clients are accepted", ready_ ? 1 : 0);
  put(metrics, "pyralog_server_shards", "Event loops", shards_.size());
  add_cluster(metrics);
  add_doors(metrics);
  co_await add_kafka(metrics);
  if (!ready_) co_return metrics_.text() + metrics.text();
  const auto partitions = co_await broker_->status();
  const log::ShardLogUse logs = co_await broker_->log_use();
  const broker::ScrubStatus scrub = co_await broker_->scrub_status();
  add_problems(metrics, problems_in(health_facts(partitions, logs, scrub)));
  add_partitions(metrics, partitions);
  add_space(metrics);
  add_logs(metrics, logs);
  const broker::BrokerTotals totals = co_await broker_->totals();
  add_memory(metrics, logs, totals.groups);
  put(metrics, "pyralog_log_scrub_damaged_ranges",
      "Parts of closed segments that are known to be damaged", scrub.damaged_ranges);
  co_await add_topics(metrics);
  co_await add_lag(metrics, partitions);
  add_totals(metrics, totals);
  co_return metrics_.text() + metrics.text();
}

}  // namespace pyralog::server
