#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/batch_cleaner.h"
#include "log/compaction.h"
#include "log/key_table.h"
#include "log/partition_log.h"

namespace pyralog::log {

/// Compacts one log: passes over its closed segments, each with a table of as many keys as the
/// memory allows, until all that may be compared has been. A pass reads the records since the last
/// one into the table, then writes the segments below anew without what is outdated, several small
/// ones as one, and swaps them in (segment_swap.h). Appends and reads go on meanwhile. Lives as
/// long as one call.
class Compactor {
 public:
  /// The log's settings ask for compaction.
  Compactor(ShardLogs& shard, PartitionLog& log, const CompactionCall& call)
      : shard_(shard), log_(log), call_(call), rule_(*log.config_.compaction) {}
  [[nodiscard]] io::Task<Result<Compacted>> run();
  /// What it has done, also if `run` failed.
  [[nodiscard]] const Compacted& done() const { return done_; }

 private:
  using SegmentRef = std::shared_ptr<Segment>;
  /// Sees one batch, its checks passed; in the `work` pool. False = enough.
  using Visitor = std::function<Result<bool>(ByteView batch)>;
  struct Output;
  struct Thinned;

  [[nodiscard]] io::Task<Result<void>> load_state();
  [[nodiscard]] io::Task<Result<void>> end_old_active();
  /// The segments that may be compacted, oldest first.
  [[nodiscard]] io::Task<Result<std::vector<SegmentRef>>> cleanable();
  [[nodiscard]] io::Task<Result<void>> pass(const std::vector<SegmentRef>& segments);
  /// Fills the table with what lies behind `from`; where that ended.
  [[nodiscard]] io::Task<Result<Offset>> fill(KeyTable& table,
                                              const std::vector<SegmentRef>& segments, Offset from);
  /// Shows all batches of a segment; `after` runs on the shard after each chunk of them and says
  /// how many bytes it has written.
  using AfterChunk = std::function<io::Task<Result<std::uint64_t>>()>;
  [[nodiscard]] io::Task<Result<void>> feed(SegmentRef segment, Visitor visit, AfterChunk after);
  /// Replaces the first of `segments`, and as many more as become one with it; how many.
  [[nodiscard]] io::Task<Result<std::size_t>> replace(std::span<const SegmentRef> segments,
                                                      const KeyTable& table, Offset horizon);
  [[nodiscard]] io::Task<Result<std::size_t>> write(std::span<const SegmentRef> segments,
                                                    const KeyTable& table, Offset horizon,
                                                    Output& out);
  [[nodiscard]] io::Task<Result<SegmentRef>> check(std::span<const SegmentRef> group, Output& out);
  [[nodiscard]] io::Task<Result<void>> read_append_times(SegmentRef segment, Thinned& merged);
  [[nodiscard]] io::Task<Result<Bytes>> merge_append_times(std::span<const SegmentRef> group);
  [[nodiscard]] io::Task<Result<void>> swap(std::span<const SegmentRef> group, SegmentRef fresh,
                                            std::string cleaned);
  [[nodiscard]] io::Task<Result<void>> pace(std::uint64_t bytes);
  [[nodiscard]] Result<void> may_go_on() const;

  ShardLogs& shard_;
  PartitionLog& log_;
  const CompactionCall& call_;
  const Compaction rule_;  ///< as it was at the beginning: settings may change meanwhile
  std::vector<Offset> producer_batches_;
  std::uint64_t cuts_ = 0;
  std::uint64_t tombstones_ = 0;  ///< that the pass has kept
  Compacted done_;
};

}  // namespace pyralog::log
