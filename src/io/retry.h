#pragma once

#include <algorithm>
#include <cstdint>

#include "base/time.h"
#include "io/rng.h"
#include "io/shard.h"
#include "io/task.h"

namespace pyralog::io {

/// How long to wait between attempts.
struct BackoffOptions {
  Duration first = 100ms;
  Duration most = 1s;
};

/// The project's one retry helper: exponential waits with full jitter in their upper half, never
/// beyond a deadline. One per sequence of attempts, on one shard:
/// `while (!(result = co_await attempt()) && co_await backoff.wait(deadline)) {}`
class Backoff {
 public:
  explicit Backoff(BackoffOptions options = {}) : options_(options), next_(options.first) {}
  /// Waits before the next attempt; false, at once, if the deadline would come first.
  [[nodiscard]] Task<bool> wait(Instant deadline) {
    Shard& shard = Shard::current();
    const Duration delay = next_delay(shard.rng());
    if (shard.now() + delay >= deadline) co_return false;
    co_await sleep_for(delay);
    co_return true;
  }
  /// The wait before the next attempt, in [half, whole] of the step; moves the step on.
  [[nodiscard]] Duration next_delay(Rng& rng) {
    const Duration step = next_;
    next_ = std::min(options_.most, next_ * 2);
    ++attempts_;
    const auto half = static_cast<std::uint64_t>(step.count() / 2);
    return Duration(step.count() - static_cast<std::int64_t>(rng.below(half + 1)));
  }
  /// After a success: the next wait is short again.
  void reset() {
    next_ = options_.first;
    attempts_ = 0;
  }
  [[nodiscard]] unsigned attempts() const { return attempts_; }

 private:
  BackoffOptions options_;
  Duration next_;
  unsigned attempts_ = 0;
};

}  // namespace pyralog::io
