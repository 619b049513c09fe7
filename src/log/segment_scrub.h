#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/damage.h"
#include "log/partition_log.h"
#include "log/segment.h"
#include "model/fundamental.h"

namespace pyralog::log {

/// One pass over a closed segment and its append times, as the device holds them: the checks of a
/// first read, whatever was verified before. Behind damage it goes on, so that what is sound stays
/// readable. Lives as long as one call.
class SegmentScrub {
 public:
  /// Awaited after every read of so many bytes. kCancelled ends the pass.
  using Pace = std::function<io::Task<Result<void>>(std::uint64_t bytes)>;
  SegmentScrub(ShardLogs& shard, std::shared_ptr<PartitionLog> log,
               std::shared_ptr<Segment> segment, Pace pace);

  /// Keeps what it finds in Segment::damaged, from where reads are refused, and logs what is new.
  /// kUnavailable: the segment was dropped, replaced, cut or taken offline meanwhile, which is no
  /// damage. Other errors: of `pace`, or it could not be opened.
  [[nodiscard]] io::Task<Result<void>> run();

 private:
  /// Where a batch begins, and its offset.
  struct Spot {
    std::uint64_t position = 0;
    Offset base;
  };
  struct Fault {
    Spot at;
    std::string what;
    bool unreadable = false;
    std::optional<Spot> behind = std::nullopt;  ///< where the next batch is, if the header is right
  };

  [[nodiscard]] bool still_there() const;
  [[nodiscard]] std::unexpected<Error> gone() const;
  [[nodiscard]] io::Task<Result<void>> check_file();
  /// Why the file as a whole is none that can be read; empty = it can.
  [[nodiscard]] io::Task<Result<std::string>> header_fault();
  [[nodiscard]] io::Task<Result<void>> check_batches();
  /// Goes on from `at`, which moves behind the last sound batch; nullopt = all are, to the end.
  [[nodiscard]] io::Task<Result<std::optional<Fault>>> walk(Spot& at);
  [[nodiscard]] std::string fault_of(const BatchHeader& header, Offset expected) const;
  /// Notes the fault and finds where batches may be sound again; the end of the segment if nowhere.
  [[nodiscard]] io::Task<Result<Spot>> pass_over(Fault fault);
  /// The first batch above `position` that the index names.
  [[nodiscard]] io::Task<Spot> indexed_above(std::uint64_t position);
  void whole_file(std::string what);
  /// The last range is as far as it is known: reads are refused from now on.
  void publish();
  /// The pass is over: what was not found again is sound.
  void settle();
  void tell(const DamagedRange& range) const;
  [[nodiscard]] io::Task<Result<void>> check_append_times();

  ShardLogs& shard_;
  std::shared_ptr<PartitionLog> log_;
  std::shared_ptr<Segment> segment_;
  Pace pace_;
  std::uint64_t cuts_;
  std::shared_ptr<io::File> file_;
  std::vector<DamagedRange> found_;
  Spot last_sound_;              ///< the last sound batch
  std::uint64_t failed_at_ = 0;  ///< the fault that the index is searched from
  bool guessed_ = false;         ///< a damaged batch's own length led to where the pass went on
};

}  // namespace pyralog::log
