#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "model/fundamental.h"

namespace pyralog::log {

/// When and how a log is compacted: the newest record of each key stays. Milliseconds.
struct Compaction {
  double min_dirty_ratio = 0.5;                   ///< min.cleanable.dirty.ratio
  std::int64_t min_lag_ms = 0;                    ///< min.compaction.lag.ms
  std::int64_t max_lag_ms = INT64_MAX;            ///< max.compaction.lag.ms
  std::int64_t delete_retention_ms = 86'400'000;  ///< delete.retention.ms
  friend bool operator==(const Compaction&, const Compaction&) = default;
};

/// One look at a log, and the work if it is due.
struct CompactionCall {
  WallMs now;    ///< as RetentionClock has it
  Offset limit;  ///< nothing that reaches above is touched
  /// What CleanRules::producer_batches are now; asked as a pass begins.
  std::function<std::vector<Offset>()> producer_batches;
  std::size_t table_bytes = 16u << 20;  ///< for the keys; with less room there are more passes
  std::uint64_t bytes_per_second = UINT64_MAX;  ///< read and written
  std::function<bool()> stop;                   ///< asked now and then; true ends the work early
};

/// What a call has done.
struct Compacted {
  unsigned passes = 0;
  std::uint64_t segments_in = 0;  ///< that were replaced
  std::uint64_t segments_out = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t records_removed = 0;
  Offset upto;  ///< everything below has been compared
};

/// How far a log has been compacted, and since when: the file `cleaned` in its directory. Lost, it
/// only means that the work is done again. Pure.
class CompactionState {
 public:
  struct Mark {
    Offset upto;             ///< below this offset every key had one record
    std::int64_t at_ms = 0;  ///< since then
    friend bool operator==(const Mark&, const Mark&) = default;
  };
  static constexpr std::size_t kMaxMarks = 64;

  [[nodiscard]] Offset upto() const { return marks_.empty() ? Offset(0) : marks_.back().upto; }
  /// Tombstones below this offset were the only record of their key for `retention_ms` at least.
  [[nodiscard]] Offset horizon(WallMs now, std::int64_t retention_ms) const;
  /// A pass has ended that compared everything below `upto`. `tombstones` are left in the log, all
  /// that lay below `horizon` are gone.
  void passed(Offset upto, WallMs now, std::int64_t retention_ms, std::uint64_t tombstones,
              Offset horizon);
  /// True if tombstones may have become old enough since the last pass.
  [[nodiscard]] bool has_old_tombstones(WallMs now, std::int64_t retention_ms) const {
    return tombstones_ > 0 && horizon(now, retention_ms) > horizon_;
  }
  [[nodiscard]] const std::vector<Mark>& marks() const { return marks_; }

  [[nodiscard]] Bytes encode() const;
  [[nodiscard]] static Result<CompactionState> decode(ByteView bytes, const std::string& path);

 private:
  std::vector<Mark> marks_;  ///< both rise
  std::uint64_t tombstones_ = 0;
  Offset horizon_{0};
};

/// A closed segment as compaction sees it.
struct CleanableSegment {
  Offset base;
  Offset next;
  std::uint64_t bytes = 0;
  std::int64_t created_ms = 0;
};

/// Whether `segments` (oldest first, all that may be compacted now) are worth it.
[[nodiscard]] bool compaction_is_due(std::span<const CleanableSegment> segments,
                                     const Compaction& rule, const CompactionState& state,
                                     WallMs now);

/// Whether `next` can go into the file that began with `first` and has `written` bytes: whatever of
/// it stays, the file keeps to `max_bytes`, and relative offsets reach.
[[nodiscard]] bool may_join(const CleanableSegment& first, std::uint64_t written,
                            const CleanableSegment& next, std::uint64_t max_bytes);

}  // namespace pyralog::log
