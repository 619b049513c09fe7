#include "log/retention.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::log {

namespace {
/// Clocks are slewed by a little all the time.
constexpr std::int64_t kNoJumpMs = 2000;
}  // namespace

Offset retention_start(std::span<const KeptSegment> segments, const Retention& rule, WallMs now,
                       Offset limit) {
  if (segments.empty()) return limit;
  std::uint64_t bytes = 0;
  for (const KeptSegment& s : segments) bytes += s.bytes;
  std::size_t gone = 0;
  while (gone + 1 < segments.size() && segments[gone].next <= limit) {
    const KeptSegment& s = segments[gone];
    const bool old = rule.ms >= 0 && s.sealed_ms + rule.ms <= now.ms;
    const bool beyond =
        rule.bytes >= 0 && bytes - s.bytes >= static_cast<std::uint64_t>(rule.bytes);
    if (!old && !beyond) break;
    bytes -= s.bytes;
    ++gone;
  }
  return segments[gone].base;
}

WallMs RetentionClock::now(WallMs wall, Instant at) {
  const std::int64_t monotonic = at.ns / 1'000'000;
  const std::int64_t ahead = wall.ms - monotonic;
  if (!begun_) {
    begun_ = true;
    ahead_ms_ = claimed_ms_ = ahead;
    if (before_ && !PYRALOG_PLANT("log.believe_the_clock_at_a_start")) {
      ahead_ms_ = claimed_ms_ = std::min(ahead, before_->ms - monotonic);
    }
  }
  if (ahead <= ahead_ms_ + kNoJumpMs) {
    ahead_ms_ = claimed_ms_ = ahead;
    return wall;
  }
  if (ahead > claimed_ms_ + kNoJumpMs || claimed_ms_ <= ahead_ms_) {
    claimed_ms_ = ahead;
    claimed_at_ = at;
  }
  if (at - claimed_at_ >= kBelievedAfter) {
    ahead_ms_ = claimed_ms_ = ahead;
    return wall;
  }
  return WallMs{monotonic + ahead_ms_};
}

}  // namespace pyralog::log
