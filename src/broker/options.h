#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"
#include "broker/space_guard.h"
#include "catalog/plan.h"
#include "group/options.h"
#include "io/retry.h"
#include "log/options.h"
#include "log/retention.h"
#include "producer/producer_table.h"

namespace pyralog::broker {

struct Options {
  std::string data_dir = "./data";
  bool auto_create_topics = true;            ///< auto.create.topics.enable
  catalog::PlanOptions topics;               ///< num.partitions and bounds
  std::int16_t default_replication_factor = -1;
  std::int32_t offsets_partitions = 50;      ///< offsets.topic.num.partitions
  std::int16_t offsets_replication_factor = -1;  ///< offsets.topic.replication.factor
  std::size_t max_inflated_bytes = 100u << 20;  ///< of one compressed batch that must be opened
  std::size_t open_at_once = 16;             ///< partitions that a shard opens at the same time
  Duration retention_check_interval = std::chrono::minutes(5);  ///< log.retention.check.interval.ms
  Duration cleaner_backoff = std::chrono::seconds(15);  ///< log.cleaner.backoff.ms
  std::size_t cleaner_table_bytes = 32u << 20;  ///< log.cleaner.dedupe.buffer.size, of each shard
  std::uint64_t cleaner_bytes_per_second = UINT64_MAX;  ///< log.cleaner.io.max.bytes.per.second
  Duration scrub_interval = std::chrono::hours(24 * 7);  ///< log.scrub.interval.ms; 0 = never
  std::uint64_t scrub_bytes_per_second = 10u << 20;  ///< log.scrub.max.bytes.per.second, of the node
  Duration offsets_check_interval =
      std::chrono::minutes(10);  ///< offsets.retention.check.interval.ms
  Duration producer_snapshot_interval = std::chrono::seconds(60);
  io::BackoffOptions reopen{.first = std::chrono::seconds(1),   ///< of partitions that could not
                            .most = std::chrono::seconds(30)};  ///< be opened
  Duration replica_lag_time_max = std::chrono::seconds(30);  ///< replica.lag.time.max.ms
  bool read_by_rack = true;  ///< replica.selector.class: clients that name their rack may read there
  Duration commit_timeout = std::chrono::seconds(5);  ///< of a coordinator's own records
  std::int32_t producer_id_block = 1000;
  SpaceOptions space;                        ///< min.free.bytes, disk.reserve.bytes
  log::Options log;                          ///< data_dir and shard are filled in
  producer::Options producers;
  producer::ProducerClock producer_clock;    ///< set at the start
  log::RetentionClock retention_clock;       ///< likewise; each shard has one of its own from there
  std::size_t max_producer_ids = 2'000'000;  ///< max.producer.ids, of all shards
  group::Options groups;
  std::uint64_t group_bytes = 1u << 30;  ///< memory.groups.max.bytes: that groups keep, of all shards
};

}  // namespace pyralog::broker
