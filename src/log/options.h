#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/time.h"
#include "log/compaction.h"
#include "log/give_up.h"
#include "log/retention.h"
#include "model/fundamental.h"
#include "observe/slow.h"

namespace pyralog::log {

/// What a topic's settings say about one partition's log.
struct LogConfig {
  std::string name;  ///< what people call it, for log lines: topic-partition
  Durability durability = Durability::kFsync;
  std::uint64_t segment_bytes = 1u << 30;              ///< segment.bytes
  std::int64_t segment_ms = 7LL * 24 * 3600 * 1000;    ///< segment.ms
  std::uint32_t index_interval_bytes = 4096;           ///< index.interval.bytes
  std::uint64_t memory_bytes = 64u << 20;  ///< what a `memory` log keeps at most; the oldest goes first
  Retention retention;                     ///< retention.ms and .bytes, where the topic deletes
  std::optional<Compaction> compaction;    ///< of topics that keep the newest record of each key
  friend bool operator==(const LogConfig&, const LogConfig&) = default;
};

/// What one shard's logs share.
struct Options {
  std::string data_dir;  ///< exists; holds the partitions' directories and the shard's files
  unsigned shard = 0;    ///< names the shard's files
  unsigned shards = 1;   ///< of the node: they share the disk
  std::size_t max_open_files = 256;  ///< closed segments' files kept open for reading
  std::size_t max_index_bytes = 64u << 20;     ///< that closed segments' indexes take in memory
  std::uint64_t memory_bytes = 1u << 30;       ///< that all logs in memory take, on all shards
  std::size_t verify_step_bytes = 256u << 10;  ///< read and checked at a time, between other work
  /// A batch on disk that claims more is damage. Whatever the limits of today, one that was accepted
  /// under others must stay readable: the format's own bound.
  std::size_t max_batch_bytes = std::size_t{INT32_MAX} + 12;
  std::size_t max_inflated_bytes = 100u << 20; ///< bound when a compressed batch is opened
  std::uint64_t synced_journal_bytes = 16u << 20;  ///< rewritten when larger
  /// Disk that the shard's two write-ahead files take at most (and those of all shards no more than 1/32
  /// of the disk); 0 = every round syncs the logs' own files.
  std::uint64_t write_ahead_bytes = 512u << 20;
  std::size_t write_ahead_min_files = 4;  ///< rounds of fewer files sync these
  GiveUp give_up;  ///< ends the opening of logs: kCancelled
  Duration append_time_step = 10ms;                ///< at most one .appendtime entry per step
  Duration append_time_sync = 1s;  ///< entries younger than this may be lost with the power
  observe::SlowLog* slow = nullptr;          ///< outlives the logs; nullptr = nothing is told
  observe::Histogram* sync_times = nullptr;  ///< of rounds of group commit; likewise
};

}  // namespace pyralog::log
