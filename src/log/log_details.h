#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/fundamental.h"

namespace pyralog::log {

/// How one log stands, for people: what PartitionLog::details tells. Offsets are the log's own.
struct LogDetails {
  static constexpr std::size_t kMaxSegments = 100;  ///< that are told one by one
  static constexpr std::size_t kMaxDamage = 100;

  struct Segment {
    Offset base;
    Offset next;                     ///< after its last record
    std::uint64_t bytes = 0;         ///< of its file
    std::uint64_t synced_bytes = 0;  ///< of these, known to be durable
    bool active = false;             ///< it is the one that is written to
  };
  /// The last entry about what is durable: what a start after a crash goes by.
  struct Evidence {
    Offset segment;
    std::uint64_t end_position = 0;
    Offset end_offset;
    Epoch epoch;
    Offset start;  ///< of the log; −1 = not known
  };
  /// Of a topic that is compacted.
  struct Cleaner {
    bool running = false;
    bool known = false;  ///< `upto` is: it is read when the log is first compacted in this process
    Offset upto;         ///< below this offset every key had one record
    std::uint64_t backlog_bytes = 0;
  };

  std::size_t segments = 0;
  std::vector<Segment> newest;  ///< oldest first
  std::optional<Evidence> evidence;
  std::optional<Cleaner> cleaner;
  std::size_t damaged_ranges = 0;
  std::vector<std::string> damage;  ///< what there is to say about the first of them
  std::size_t index_bytes = 0;      ///< memory that its indexes take
};

/// What the logs of a shard have now.
struct ShardLogUse {
  std::uint64_t logs = 0;
  std::uint64_t segments = 0;
  std::uint64_t open_files = 0;          ///< closed segments', open for reading
  std::uint64_t memory_topic_bytes = 0;  ///< records of topics in memory, with what they take beside
  std::uint64_t index_bytes = 0;         ///< of closed segments, in memory
  std::uint64_t backlog_bytes = 0;       ///< PartitionLog::backlog_bytes of all
  std::uint64_t failed_write_ahead = 0;  ///< 1 if the write-ahead files failed
  ShardLogUse& operator+=(const ShardLogUse& other);
};

}  // namespace pyralog::log
