#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/time.h"
#include "observe/histogram.h"

namespace pyralog {
using namespace base;
}

namespace pyralog::server {

/// What a node has moved since it began, as its counters say at one time.
struct Movement {
  Instant at;
  std::uint64_t records_in = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t records_out = 0;
  std::uint64_t bytes_out = 0;
  observe::HistogramData produce;  ///< how long each Produce took, ns
};

/// What it has moved in the last minute, or since it began if that is less.
struct MinuteMoved {
  double seconds = 0;
  std::uint64_t records_in = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t records_out = 0;
  std::uint64_t bytes_out = 0;
  std::optional<Duration> produce_p99;  ///< to 1/16; none = there was no Produce
};

/// Compares counters with what they were a minute ago. Pure; bounded: a reading every ten seconds is kept.
class LastMinute {
 public:
  static constexpr Duration kStep = std::chrono::seconds(10);
  /// To be called every kStep or so. Time never goes back.
  void note(Movement now);
  [[nodiscard]] MinuteMoved until(const Movement& now) const;

 private:
  static constexpr Duration kSpan = std::chrono::minutes(1);
  std::deque<Movement> readings_;  ///< oldest first
};

}  // namespace pyralog::server
