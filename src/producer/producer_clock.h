#pragma once

#include <algorithm>
#include <chrono>
#include <compare>
#include <cstdint>

#include "base/time.h"

namespace pyralog::producer {

/// Milliseconds that a node has run, in all its lives: what the silence of producers is measured by.
/// The same on all its shards.
struct RunningMs {
  std::int64_t ms = 0;
  friend auto operator<=>(RunningMs, RunningMs) = default;
};

/// Counts that time. It goes by the monotonic clock while the node runs, and over a restart it goes on
/// from where it was written down last: the time in between is not known for sure, for a wall clock may
/// have jumped, and does not count. So it may only be behind, and producers are only remembered longer.
/// Pure.
class ProducerClock {
 public:
  ProducerClock() = default;
  /// Stands at `reached` at the instant `at`.
  ProducerClock(RunningMs reached, base::Instant at) : reached_(reached), at_(at) {}
  [[nodiscard]] RunningMs now(base::Instant at) const {
    const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(at - at_).count();
    return {reached_.ms + std::max<std::int64_t>(since, 0)};
  }

 private:
  RunningMs reached_;
  base::Instant at_;
};

}  // namespace pyralog::producer
