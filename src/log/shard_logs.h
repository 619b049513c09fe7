#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/shard.h"
#include "io/task.h"
#include "log/committer.h"
#include "log/evidence.h"
#include "log/file_cache.h"
#include "log/index_cache.h"
#include "log/options.h"
#include "log/partition_log.h"
#include "log/write_ahead.h"
#include "model/fundamental.h"

namespace pyralog::log {

struct ShardLogUse;  // log_details.h

/// What the logs of a shard have done so far; for metrics. Only counts, all of one type.
struct ShardLogStats {
  std::uint64_t appended_bytes = 0;
  std::uint64_t syncs = 0;             ///< group commits
  std::uint64_t dropped_segments = 0;  ///< by retention and deletion of records
  std::uint64_t dropped_bytes = 0;
  std::uint64_t failed_syncs = 0;
  std::uint64_t rolls = 0;
  std::uint64_t memory_dropped_bytes = 0;  ///< of logs in memory, for want of room
  std::uint64_t verified_bytes = 0;        ///< checked at cold reads
  std::uint64_t corrupt_ranges = 0;        ///< refused reads
  std::uint64_t recovered_logs = 0;        ///< scanned at open
  std::uint64_t scanned_bytes = 0;
  std::uint64_t torn_bytes = 0;          ///< cut off at recovery
  std::uint64_t lost_evidence = 0;       ///< `synced` entries that could not be written
  std::uint64_t write_ahead_rounds = 0;  ///< group commits by way of the write-ahead files
  std::uint64_t write_ahead_bytes = 0;
  std::uint64_t compaction_passes = 0;
  std::uint64_t compaction_failures = 0;    ///< calls that ended with an error
  std::uint64_t compaction_read_bytes = 0;  ///< of the segments that were replaced
  std::uint64_t compaction_written_bytes = 0;
  std::uint64_t compaction_removed_records = 0;
  std::uint64_t scrubbed_bytes = 0;  ///< read back from the device
  std::uint64_t scrub_rounds = 0;    ///< that came to their end
  std::uint64_t scrub_bad_append_times = 0;
  ShardLogStats& operator+=(const ShardLogStats& other);
};

/// One count as metrics show it.
struct ShardLogCount {
  std::uint64_t ShardLogStats::* count;
  const char* metric;
  const char* help;
};
/// All of them.
[[nodiscard]] std::span<const ShardLogCount> shard_log_counts();

/// All partition logs of one shard: opens and deletes them, commits them in groups, closes them so
/// that the next start scans nothing. Lives on its shard.
class ShardLogs {
 public:
  /// `evidence` was loaded once for the node and is shared by its shards.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<ShardLogs>>> open(
      io::Disk& disk, Options options, std::shared_ptr<const Evidence> evidence);
  ShardLogs(const ShardLogs&) = delete;
  ShardLogs& operator=(const ShardLogs&) = delete;
  ~ShardLogs();

  /// Opens a partition's log, or creates it durably where there is none. After a clean shutdown
  /// nothing is read; else the tail is recovered. A log without anything on disk begins at
  /// `initial`. `given_out`: where each epoch of the partition began, as far as known; Kafka's
  /// checksum does not cover a batch's epoch, so this tells recovery a torn one. kCorrupt: damage,
  /// named; the partition must stay offline, other partitions are not concerned. kUnsupported:
  /// written by a newer version.
  [[nodiscard]] io::Task<Result<std::shared_ptr<PartitionLog>>> open_log(PartitionId id,
                                                                         LogConfig config,
                                                                         Offset initial = Offset(0),
                                                                         EpochTable given_out = {});
  /// The open log of a partition, or null.
  [[nodiscard]] std::shared_ptr<PartitionLog> find(const PartitionId& id) const;
  /// Closes a log that is offline, verifies it from disk and opens it again. The old object stays
  /// offline for good.
  [[nodiscard]] io::Task<Result<std::shared_ptr<PartitionLog>>> reopen(PartitionId id);
  /// Removes a partition's files, durably, and then what is known of it. The log object goes
  /// offline (kNotFound).
  [[nodiscard]] io::Task<Result<void>> delete_log(PartitionId id);
  /// The same, but what is on disk is kept, as what is returned, and no server opens it again.
  [[nodiscard]] io::Task<Result<std::string>> set_aside(PartitionId id);
  /// True of a partition that is not open yet and ended no clean stop, if the journal that said how
  /// far it was durable is damaged: all of it is read, and what is there cannot be compared with
  /// what was.
  [[nodiscard]] bool in_doubt(const PartitionId& id) const;
  /// At a start: lets go what earlier ones have left of partitions that are `gone`, files and all.
  void drop_evidence(const std::function<bool(const PartitionId&)>& gone);

  /// Group commit: returns the offset below which `log` is durable, at least its end at the time of
  /// the call. Calls of one turn of the loop share a round of syncs. kIo: the log is offline now. A
  /// `memory` log returns its end at once.
  [[nodiscard]] io::Task<Result<Offset>> sync(std::shared_ptr<PartitionLog> log);

  /// Durable end of everything, then the checkpoint that spares the next start its scan. No call
  /// may be under way, none may follow.
  [[nodiscard]] io::Task<Result<void>> close();
  /// Ends background work without writing anything more, as before a crash; for a node that must
  /// not checkpoint. No call may follow.
  [[nodiscard]] io::Task<void> abandon();

  [[nodiscard]] const ShardLogStats& stats() const { return stats_; }
  /// What they have now. Looks at all of them.
  [[nodiscard]] ShardLogUse use() const;
  [[nodiscard]] std::size_t open_files() const { return files_.open_files(); }
  [[nodiscard]] const Options& options() const { return options_; }

 private:
  friend class PartitionLog;
  friend class Committer;
  friend class Compactor;
  friend class Recovery;
  friend class Scrubber;
  friend class SegmentScrub;
  friend class WriteAhead;
  ShardLogs(io::Disk& disk, Options options, std::shared_ptr<const Evidence> evidence);

  /// Before the first write: the checkpoints of the last clean shutdown stop being true.
  [[nodiscard]] io::Task<Result<void>> begin_writing();
  [[nodiscard]] io::Task<Result<void>> write_clean_state();
  /// The file at `path` is removed, or another takes its place.
  void forget_file(const std::string& path);
  void open_clean(PartitionLog& log, const CleanLog& clean) const;
  /// The checkpoint is true of a log only as long as this process has not had it open.
  [[nodiscard]] bool first_opening(const PartitionId& id) const { return !opened_.contains(id); }
  [[nodiscard]] io::Task<Result<void>> close_log(std::shared_ptr<PartitionLog> log);
  /// Takes a partition's directory away and forgets it; `kept_as` empty: its files go.
  [[nodiscard]] io::Task<Result<void>> take_away(PartitionId id, std::string kept_as);
  /// Runs `task` beside the callers; joined by close and abandon.
  void spawn(io::Task<void> task);

  io::Disk& disk_;
  Options options_;
  std::shared_ptr<const Evidence> evidence_;
  ShardLogStats stats_;
  FileCache files_;
  IndexCache indexes_;
  std::shared_ptr<MemoryRoom> memory_room_;
  std::shared_ptr<std::size_t> copies_ =
      std::make_shared<std::size_t>(0);  ///< see PartitionLog::Copy
  WriteAhead write_ahead_;
  Committer committer_;
  std::map<PartitionId, std::shared_ptr<PartitionLog>> logs_;
  std::set<PartitionId> opened_;   ///< since the start
  std::set<PartitionId> deleted_;  ///< since the start: its evidence is of another log
  bool writing_ = false;           ///< checkpoints are gone
  io::Turn begin_turn_;
  io::TaskGroup background_;
};

}  // namespace pyralog::log
