#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "base/time.h"
#include "observe/log.h"
#include "observe/metrics.h"

namespace pyralog::observe {

/// What may take too long.
enum class SlowKind : std::uint8_t {
  kRequest,  ///< a client's request, without the waits that it asked for
  kSync,     ///< files made durable
  kWrite,    ///< bytes given to the operating system
};
inline constexpr std::size_t kSlowKinds = 3;

/// Bounds the lines about one kind of thing: at most `kLines` in `kWindow`, and the next line says
/// how many were left out since the last. Pure.
class LineBound {
 public:
  static constexpr unsigned kLines = 5;
  static constexpr Duration kWindow = std::chrono::seconds(10);
  /// How many were left out before the line that is to be written at `now`, or nothing if that one
  /// is to be left out as well.
  [[nodiscard]] std::optional<std::uint64_t> admit(Instant now);

 private:
  Instant window_;  ///< its beginning
  unsigned lines_ = 0;
  std::uint64_t left_out_ = 0;
};

/// Warns about operations that took longer than a limit, so few lines that a sick disk does not
/// fill the log, and counts all of them in pyralog_slow_operations_total. One per node; any shard.
class SlowLog {
 public:
  /// A negative limit: nothing is slow. `registry` outlives it.
  SlowLog(Registry& registry, Duration limit);
  [[nodiscard]] bool is_slow(Duration took) const { return limit_ >= Duration{} && took > limit_; }
  /// Counts and, within the bounds, writes a line `slow.KIND` with `fields` and how long it took;
  /// does nothing if `took` is not slow. Texts in `fields` are not copied.
  void note(SlowKind kind, Duration took, std::vector<Field> fields);

 private:
  Duration limit_;
  std::array<Counter*, kSlowKinds> counts_;
  std::mutex mutex_;
  std::array<LineBound, kSlowKinds> bounds_;
};

/// Whole milliseconds, for a field.
[[nodiscard]] constexpr std::int64_t to_ms(Duration time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
}

}  // namespace pyralog::observe
