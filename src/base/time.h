#pragma once

#include <chrono>
#include <cstdint>

namespace pyralog::base {

using Duration = std::chrono::nanoseconds;
using namespace std::chrono_literals;

/// A point on the monotonic clock of one process (real or simulated); never compared across nodes.
struct Instant {
  std::int64_t ns = 0;
  friend auto operator<=>(Instant, Instant) = default;
  friend Instant operator+(Instant a, Duration d) { return {a.ns + d.count()}; }
  friend Instant operator-(Instant a, Duration d) { return {a.ns - d.count()}; }
  friend Duration operator-(Instant a, Instant b) { return Duration(a.ns - b.ns); }
  static constexpr Instant never() { return {INT64_MAX}; }
};

/// Milliseconds since 1970-01-01T00:00Z by the wall clock, as Kafka writes them; −1 = none.
struct WallMs {
  std::int64_t ms = -1;
  friend auto operator<=>(WallMs, WallMs) = default;
};

}  // namespace pyralog::base
