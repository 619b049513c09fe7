#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/json.h"
#include "base/time.h"
#include "observe/histogram.h"

namespace pyralog::cli {

/// When the records of an open loop are due: `rate` a second from `start` on, whether the server keeps
/// up or not. Latencies count from there, so that a stall shows in every record that it held up. Pure.
class Schedule {
 public:
  Schedule(Instant start, double rate) : start_(start), rate_(rate) {}
  /// When record `number`, from 0, is due.
  [[nodiscard]] Instant due(std::uint64_t number) const;
  /// How many records are due at `now`.
  [[nodiscard]] std::uint64_t due_by(Instant now) const;

 private:
  Instant start_;
  double rate_;
};

/// Values to send: a few of them, so that making them costs nothing, as compressible as text. The first
/// eight bytes are left for a time.
[[nodiscard]] std::vector<Bytes> bench_values(std::size_t bytes, std::uint64_t seed);

/// What a benchmark has moved, in which time.
struct Moved {
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;
  double seconds = 0;
};
/// "1000 records, 0.1 MB in 1.0 s: 1000 records/s, 0.1 MB/s"
[[nodiscard]] std::string moved_text(const Moved& moved);
void add_moved(JsonWriter& json, const Moved& moved);

/// "p50 0.31 ms  p90 …  p99 …  p99.9 …  max …": nanoseconds, each known to 1/16.
[[nodiscard]] std::string latency_text(const observe::HistogramData& latency);
/// The same as an object of milliseconds.
void add_latency(JsonWriter& json, std::string_view name, const observe::HistogramData& latency);

}  // namespace pyralog::cli
