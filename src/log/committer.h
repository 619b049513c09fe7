#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/shard.h"
#include "io/task.h"
#include "journal/journal.h"
#include "log/evidence.h"
#include "model/fundamental.h"

namespace pyralog::log {

class PartitionLog;
class ShardLogs;

/// Group commit of one shard. A round captures the end of every log that waits, syncs their files at
/// once, and only then moves the logs' synced ends to what was captured. The round's evidence goes
/// to the `synced` journal when it is over and becomes durable with the next round. One round runs
/// at a time; who comes meanwhile shares the next. Lives on its shard.
class Committer {
 public:
  explicit Committer(ShardLogs& shard) : shard_(shard) {}
  /// Opens the shard's `synced` journal.
  [[nodiscard]] io::Task<Result<void>> open();
  [[nodiscard]] io::Task<Result<Offset>> sync(std::shared_ptr<PartitionLog> log);
  /// Says durably, before a log is cut below what is believed durable, that it ends at `entry`.
  [[nodiscard]] io::Task<Result<void>> lower(SyncedEntry entry);
  /// Notes evidence without waiting; it becomes durable with the next round.
  void note(SyncedEntry entry);
  /// The newest evidence about a partition in this shard's journal, or null.
  [[nodiscard]] const SyncedEntry* latest(const PartitionId& id) const;
  /// A partition's files are gone for good, after evidence that it is forgotten: the journal need not
  /// speak of it any more once it is written anew.
  void drop(const PartitionId& id);
  /// As `drop`, of all that `gone` names and that the journal still speaks of.
  void drop_if(const std::function<bool(const PartitionId&)>& gone);
  /// Nothing that was noted of a partition is written any more by a later round.
  [[nodiscard]] io::Task<void> forget_noted(PartitionId id);
  /// Waits until the round that runs now is over.
  [[nodiscard]] io::Task<void> drain();
  /// Makes the evidence durable now; at a clean shutdown.
  [[nodiscard]] io::Task<Result<void>> flush();

 private:
  struct Round;
  void note_times(const Round& round, Duration queued, Duration took) const;
  [[nodiscard]] io::Task<void> run();
  [[nodiscard]] io::Task<void> run_round();
  [[nodiscard]] io::Task<Result<void>> sync_ahead(Round* round);
  [[nodiscard]] io::Task<void> sync_files(Round* round, bool all);
  void settle(Round& round);
  [[nodiscard]] bool journal_due() const;
  [[nodiscard]] io::Task<void> sync_journal();
  [[nodiscard]] io::Task<Result<void>> renew_journal();
  [[nodiscard]] std::vector<Bytes> journal_frames();

  ShardLogs& shard_;
  /// Null while it is opened anew. Who waits for it keeps it: it may be replaced meanwhile.
  std::shared_ptr<journal::Journal> journal_;
  io::Turn renewing_;
  std::map<PartitionId, SyncedEntry> latest_;  ///< what the journal must hold when rewritten
  /// Of whom a journal that is written anew says once more that they are forgotten, as long as a
  /// write-ahead file may hold other evidence.
  std::set<PartitionId> gone_;
  std::vector<std::shared_ptr<PartitionLog>> waiting_;
  Instant waiting_since_;  ///< the first of them
  std::set<PartitionId> noted_;  ///< whose evidence no file was synced for yet
  bool running_ = false;
  bool evidence_missing_ = false;  ///< an entry could not be written: rewrite the journal
  std::uint64_t rounds_begun_ = 0;
  std::uint64_t rounds_done_ = 0;
  io::WaitList done_;
};

}  // namespace pyralog::log
