#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

// The words that name a place in a log, or a part of one. Pure.
namespace pyralog::cli {

/// "1700000000123" or "2026-01-31T12:00:00.5+01:00" (also without the fraction, the zone, which is
/// then UTC, or the time of day) → milliseconds since 1970, which are at least 0; nullopt if it is
/// neither.
[[nodiscard]] std::optional<std::int64_t> parse_time_ms(const std::string& text);

/// Where `consume` begins.
struct StartPoint {
  enum class Kind : std::uint8_t { kBeginning, kEnd, kOffset, kTime };
  Kind kind = Kind::kBeginning;
  std::int64_t number = 0;  ///< offset, or milliseconds since 1970
};
/// "beginning", "end", an offset, "@MS" or a time with its date; kInvalidArgument names `option`.
[[nodiscard]] Result<StartPoint> parse_start(const std::string& option, const std::string& text);

/// What `group reset` moves a group's offsets to.
struct ResetTarget {
  enum class Kind : std::uint8_t { kEarliest, kLatest, kOffset, kTime, kShift };
  Kind kind = Kind::kEarliest;
  std::int64_t number = 0;  ///< offset, milliseconds since 1970, or records to go on (< 0: back)
};
/// "earliest", "latest", "offset N", "timestamp TIME" or "shift N".
[[nodiscard]] Result<ResetTarget> parse_reset(const std::string& text);

/// What there is of a partition when its offset is to be reset.
struct ResetFrom {
  std::optional<std::int64_t> committed;
  std::int64_t start = 0;
  std::int64_t end = 0;
  std::int64_t at_time = -1;  ///< the first record of the target's time; −1 = none is that young
};
struct ResetTo {
  std::int64_t offset = 0;
  bool moved = false;  ///< the log does not hold what was asked for: this is the nearest
};
/// Where `target` is in a partition, within what its log holds; nullopt if there is no committed
/// offset to shift.
[[nodiscard]] std::optional<ResetTo> reset_to(const ResetTarget& target, const ResetFrom& from);

/// "orders" or "orders:0,2" → a topic and its partitions, empty = all.
struct TopicPart {
  std::string topic;
  std::vector<std::int32_t> partitions;
};
[[nodiscard]] Result<TopicPart> parse_topic_part(const std::string& text);

}  // namespace pyralog::cli
