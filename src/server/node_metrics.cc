// What /metrics shows.
#include "log/shard_logs.h"
#include "observe/metrics.h"
#include "server/node.h"

namespace pyralog::server {

io::Task<std::string> Node::metrics_text() {
  // What is asked for at each scrape, so that partitions that are gone leave no series behind.
  observe::Registry metrics(static_cast<unsigned>(shards_.size()));
  metrics.gauge("pyralog_server_ready_count", "1 once clients are accepted").set(ready_ ? 1 : 0);
  metrics.gauge("pyralog_server_shards_count", "Event loops")
      .set(static_cast<std::int64_t>(shards_.size()));
  if (cluster_ != nullptr) {
    metrics.gauge("pyralog_cluster_starts_count", "Starts of this node with this data directory")
        .set(static_cast<std::int64_t>(cluster_->cookie().boot_counter));
    metrics.gauge("pyralog_cluster_topics_count", "Topics")
        .set(static_cast<std::int64_t>(cluster_->catalog()->topic_count()));
  }
  if (kafka_ != nullptr) {
    metrics.gauge("pyralog_kafka_connections_count", "Kafka clients connected now")
        .set(static_cast<std::int64_t>(kafka_->connections()));
    const auto used = co_await kafka_->memory();
    metrics.gauge("pyralog_kafka_request_memory_bytes", "Held by requests being received or served")
        .set(static_cast<std::int64_t>(used.requests));
    metrics
        .gauge("pyralog_kafka_answer_memory_bytes",
               "Held by large answers that their clients have not taken yet")
        .set(static_cast<std::int64_t>(used.answers));
  }
  if (!ready_) co_return metrics_.text() + metrics.text();
  for (const auto& p : co_await broker_->status()) {
    const observe::Labels labels{{"partition", p.name}};
    const auto put = [&](const char* name, const char* help, std::int64_t value) {
      metrics.gauge(name, help, labels).set(value);
    };
    put("pyralog_broker_partition_offline_count", "1 if the partition serves nobody",
        p.offline.empty() ? 0 : 1);
    put("pyralog_broker_partition_epoch_count", "Leader epoch", p.epoch);
    put("pyralog_broker_partition_log_start_offset", "First offset that is kept", p.log_start);
    put("pyralog_broker_partition_high_watermark_offset", "End of what consumers may see",
        p.high_watermark);
    put("pyralog_broker_partition_log_end_offset", "Offset of the next record", p.log_end);
    put("pyralog_broker_partition_log_bytes", "Size of the log",
        static_cast<std::int64_t>(p.bytes));
  }
  const broker::SpaceStatus& space = broker_->space();
  const auto put = [&](const char* name, const char* help, std::uint64_t value) {
    metrics.gauge(name, help).set(static_cast<std::int64_t>(value));
  };
  put("pyralog_broker_disk_free_bytes", "Free on the disk of the data directory", space.free_bytes);
  put("pyralog_broker_disk_limit_bytes", "With less free, records of clients are refused",
      space.limits.floor);
  put("pyralog_broker_disk_reserve_bytes", "What the reserve file takes now; 0 = it had to go",
      space.held_bytes);
  put("pyralog_broker_disk_refusing_count", "1 while records are refused for want of space",
      space.refusing ? 1 : 0);
  const broker::BrokerTotals totals = co_await broker_->totals();
  for (const log::ShardLogCount& each : log::shard_log_counts()) {
    metrics.counter(each.metric, each.help).add(totals.log.*each.count);
  }
  metrics
      .gauge("pyralog_log_scrub_damaged_ranges",
             "Parts of closed segments that are known to be damaged")
      .set(static_cast<std::int64_t>((co_await broker_->scrub_status()).damaged_ranges));
  metrics
      .counter("pyralog_broker_refused_for_space_total",
               "Batches of clients that were refused because of min.free.bytes")
      .add(totals.refused_for_space);
  const auto held = [&](const char* kind, std::size_t bytes) {
    metrics
        .gauge("pyralog_group_memory_bytes",
               "Held by groups: their members, committed offsets, and records being stored",
               observe::Labels{{"kind", kind}})
        .set(static_cast<std::int64_t>(bytes));
  };
  held("members", totals.groups.members);
  held("offsets", totals.groups.offsets);
  held("storing", totals.groups.storing);
  metrics.counter("pyralog_group_expired_offsets_total", "Committed offsets that retention let go")
      .add(totals.expired.offsets);
  metrics.counter("pyralog_group_expired_groups_total", "Empty groups that went with them")
      .add(totals.expired.groups);
  metrics
      .counter("pyralog_group_expiry_failures_total",
               "Times that the tombstones of expired offsets could not be stored")
      .add(totals.expired.failures);
  co_return metrics_.text() + metrics.text();
}

}  // namespace pyralog::server
