#pragma once

#include <cstdint>
#include <map>

#include "base/result.h"
#include "client/cluster.h"
#include "io/task.h"

namespace pyralog::client {

/// Times that ask for an end instead of a time.
inline constexpr std::int64_t kLatestTime = -1;
inline constexpr std::int64_t kEarliestTime = -2;

struct OffsetAtTime {
  std::int64_t offset = -1;  ///< −1 = no record is that young
  std::int64_t timestamp = -1;
  std::int32_t leader_epoch = -1;
};

/// For each partition the first offset whose timestamp is at least the time asked for (ms), or an
/// end of its log. Asks all leaders, trying again until `deadline` where an error may pass.
/// `committed` asks for the last stable offset where the end is asked for.
[[nodiscard]] io::Task<Result<std::map<TopicPartition, OffsetAtTime>>> list_offsets(
    Cluster& cluster, std::map<TopicPartition, std::int64_t> times, bool committed,
    Instant deadline);

}  // namespace pyralog::client
