#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "io/task.h"
#include "log/partition_log.h"
#include "model/fundamental.h"

namespace pyralog::log {

class ShardLogs;
struct Segment;

struct ScrubCall {
  Duration interval = std::chrono::hours(24 * 7);  ///< a round should not take longer
  std::uint64_t bytes_per_second = UINT64_MAX;     ///< at most, even if it does
  std::function<bool()> stop;                      ///< true = come to an end
};

struct Scrubbed {
  bool whole = false;  ///< it was not stopped
  std::uint64_t segments = 0;
  std::uint64_t bytes = 0;
};

/// How many bytes a second a round over `bytes` reads: enough to be done after half the interval,
/// since more is appended meanwhile, and at least a mebibyte, but never more than `most`. Pure.
[[nodiscard]] std::uint64_t scrub_rate(std::uint64_t bytes, Duration interval, std::uint64_t most);

/// Goes round the closed segments of a shard's logs and reads them back from the device, so that
/// damage is found before a reader meets it. Lives on its shard, not longer than its ShardLogs.
class Scrubber {
 public:
  explicit Scrubber(ShardLogs& shard) : shard_(shard) {}
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  /// One round. It begins anywhere: a node that restarts before rounds end comes everywhere in
  /// time. What appears meanwhile in front of it belongs to it, what goes meanwhile does not. One
  /// at a time.
  [[nodiscard]] io::Task<Scrubbed> round(ScrubCall call);

  /// When the last whole round ended.
  [[nodiscard]] std::optional<WallMs> last_round() const { return last_round_; }
  /// Parts of segments that are known to be damaged, and still there.
  [[nodiscard]] std::size_t damaged_ranges() const;
  /// What there is to say about them, of `most` of them.
  [[nodiscard]] std::vector<std::string> damage(std::size_t most) const;

 private:
  using LogRef = std::shared_ptr<PartitionLog>;
  using SegmentRef = std::shared_ptr<Segment>;
  /// Of one log the segments that reach into these offsets.
  struct Leg {
    PartitionId log;
    Offset from{0};
    Offset to{INT64_MAX};
  };
  struct Known {
    std::weak_ptr<PartitionLog> log;
    std::weak_ptr<Segment> segment;
  };

  [[nodiscard]] static bool closed(const PartitionLog& log, const Segment& segment);
  [[nodiscard]] static SegmentRef next(const PartitionLog& log, Offset from, Offset to);
  /// All logs, in their order, from where byte `at` of all closed segments lies, and round to
  /// there.
  [[nodiscard]] std::vector<Leg> plan(std::uint64_t at) const;
  [[nodiscard]] std::uint64_t closed_bytes() const;
  [[nodiscard]] io::Task<bool> go(Leg leg, Scrubbed& done);
  [[nodiscard]] io::Task<Result<void>> pace(std::uint64_t bytes);
  [[nodiscard]] bool stopped() const { return call_.stop && call_.stop(); }
  /// The segment, if it is still its log's.
  [[nodiscard]] SegmentRef current(const Known& known) const;
  void remember(const LogRef& log, const SegmentRef& segment);

  ShardLogs& shard_;
  ScrubCall call_;            ///< of the round under way
  std::uint64_t rate_ = 1;    ///< likewise
  Instant due_{};             ///< when the pace allows the next read
  std::uint64_t bytes_ = 0;   ///< read in this round
  std::vector<Known> known_;  ///< segments with damage, and the one in work
  std::optional<WallMs> last_round_;
};

}  // namespace pyralog::log
