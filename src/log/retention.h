#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>

#include "base/time.h"
#include "model/fundamental.h"

namespace pyralog::log {

/// How long a log keeps its segments; −1 = no limit. Both = whichever is reached first.
struct Retention {
  std::int64_t ms = -1;     ///< since a segment's last record was appended, by the server's clock
  std::int64_t bytes = -1;  ///< of records in all segments: the oldest go while the rest has as many
  friend bool operator==(const Retention&, const Retention&) = default;
};

/// A segment as retention sees it.
struct KeptSegment {
  Offset base;
  Offset next;
  std::uint64_t bytes = 0;
  std::int64_t sealed_ms = 0;  ///< nothing was appended after this
};

/// Where a log may begin: segments go whole, oldest first, and only below `limit`. `segments` are
/// oldest first; the last one is active and stays. `now` never runs ahead of time: see RetentionClock.
/// Pure.
[[nodiscard]] Offset retention_start(std::span<const KeptSegment> segments, const Retention& rule,
                                     WallMs now, Offset limit);

/// The time that retention goes by. The wall clock may jump, and what was deleted for a jump is gone:
/// a jump forward counts only once it has stood for `kBelievedAfter`, one back counts at once. That holds
/// over a restart, too: what the wall clock says beyond the time that was believed before may be a jump, and
/// a node that was really off for long only forgets an hour later. Pure.
class RetentionClock {
 public:
  static constexpr Duration kBelievedAfter = std::chrono::hours(1);
  /// Believes what the wall clock says first.
  RetentionClock() = default;
  /// Goes on from `believed`, or from before all records if that is not known.
  explicit RetentionClock(WallMs believed) : before_(believed) {}
  static constexpr WallMs kUnknown{0};
  /// The wall clock says `wall` at the monotonic instant `at`, which never goes back.
  [[nodiscard]] WallMs now(WallMs wall, Instant at);

 private:
  std::optional<WallMs> before_;  ///< what was believed before this process
  bool begun_ = false;
  std::int64_t ahead_ms_ = 0;  ///< wall − monotonic that is believed
  std::int64_t claimed_ms_ = 0;  ///< the greater one that the wall clock has claimed since
  Instant claimed_at_;
};

}  // namespace pyralog::log
