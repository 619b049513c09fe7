#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/evidence.h"
#include "log/partition_log.h"
#include "log/segment_check.h"

namespace pyralog::log {

/// Opens one log from what is on disk after an unclean stop: syncs, drops cached pages, reads back,
/// keeps every sound batch. A fault beyond the last `synced` entry begins the torn tail, which is
/// cut; one below it is damage (kCorrupt, by name). Lives as long as one open_log.
class Recovery {
 public:
  /// `synced` may be null. Fills `log`. `given_out`: CheckOptions::given_out. `in_doubt`: the tail that is
  /// cut may be damage, so a copy of it is kept.
  Recovery(ShardLogs& shard, PartitionLog& log, const SyncedEntry* synced, EpochTable given_out,
           bool in_doubt);
  [[nodiscard]] io::Task<Result<void>> run(Offset initial);

 private:
  [[nodiscard]] io::Task<Result<void>> list_segments();
  void leave_out_deleted();
  [[nodiscard]] io::Task<Result<void>> forget_compaction();
  [[nodiscard]] Result<std::size_t> first_to_scan() const;
  [[nodiscard]] io::Task<bool> is_left_over(Offset base, std::string_view name);
  /// Removes what a crash has left of segments that were being forgotten or merged.
  [[nodiscard]] io::Task<Result<void>> sweep();
  [[nodiscard]] io::Task<Result<void>> read_epochs();
  /// Adds a segment that was durable before the evidence was written; nothing is read.
  void trust(std::size_t index);
  [[nodiscard]] io::Task<Result<bool>> scan(std::size_t index);
  [[nodiscard]] io::Task<Result<bool>> scan_header(std::shared_ptr<io::File> file, Offset base);
  [[nodiscard]] Result<void> compare_evidence(Offset base, const SegmentCheck& check,
                                              std::uint64_t file_bytes) const;
  void take(Offset base, SegmentCheck check);
  [[nodiscard]] io::Task<Result<void>> cut(std::size_t index, std::uint64_t position);
  [[nodiscard]] io::Task<Result<void>> set_aside(std::size_t from);
  [[nodiscard]] bool below_evidence(Offset base, std::uint64_t position) const;
  [[nodiscard]] std::unexpected<Error> damage(Offset base, std::uint64_t position,
                                              const std::string& what) const;

  struct Found {
    Offset base;
    std::uint64_t bytes = 0;
  };
  ShardLogs& shard_;
  PartitionLog& log_;
  const SyncedEntry* synced_;
  EpochTable given_out_;
  bool in_doubt_;
  std::vector<Found> found_;
  std::vector<Offset> deleted_;  ///< segments that are there and no part of the log
  bool has_compaction_ = false;  ///< the file `cleaned` is there
  std::vector<std::pair<Offset, std::string>> side_files_;  ///< names, and whose they are
  EpochTable saved_epochs_;
  bool has_epochs_ = false;
  SegmentHeader header_;
  std::shared_ptr<io::File> file_;  ///< of the last segment that was scanned
};

}  // namespace pyralog::log
