#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
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

/// Group commit of one shard. A round captures the end of every log that waits, makes what no earlier
/// round has captured durable, and only then moves the logs' synced ends to what was captured. Rounds
/// begin while others are under way, as soon as somebody waits: their syncs line up in the files
/// (io::SyncQueue), so that the device goes from one to the next, and the many that come during one sync
/// share the next. They settle in the order in which they began. A round's evidence goes to the `synced`
/// journal, or a write-ahead file, after it is over and becomes durable with a later round. Lives on its
/// shard.
class Committer {
 public:
  explicit Committer(ShardLogs& shard) : shard_(shard) {}
  /// Opens the shard's `synced` journal.
  [[nodiscard]] io::Task<Result<void>> open();
  [[nodiscard]] io::Task<Result<Offset>> sync(std::shared_ptr<PartitionLog> log);
  /// Says durably, before a log is cut below what is believed durable, that it ends at `entry`.
  [[nodiscard]] io::Task<Result<void>> lower(SyncedEntry entry);
  /// Says durably that a log begins at `entry.start` at least; how far it is durable only goes on.
  [[nodiscard]] io::Task<Result<void>> raise_start(SyncedEntry entry);
  /// Notes evidence without waiting; it becomes durable with the next round.
  void note(SyncedEntry entry);
  /// The newest evidence about a partition in this shard's journal, or null.
  [[nodiscard]] const SyncedEntry* latest(const PartitionId& id) const;
  /// A partition's files are gone for good, after evidence that it is forgotten: the journal need not
  /// speak of it any more once it is written anew.
  void drop(const PartitionId& id);
  /// As `drop`, of all that `gone` names and that the journal still speaks of.
  void drop_if(const std::function<bool(const PartitionId&)>& gone);
  /// Whether the rounds go to write-ahead files at present.
  [[nodiscard]] bool goes_ahead() const;
  /// Nothing that was noted of a partition is written any more by a later round.
  [[nodiscard]] io::Task<void> forget_noted(PartitionId id);
  /// Waits until the rounds that run now are over.
  [[nodiscard]] io::Task<void> drain();
  /// Makes the evidence durable now; at a clean shutdown.
  [[nodiscard]] io::Task<Result<void>> flush();

 private:
  struct Round;
  void note_times(const Round& round, Duration took) const;
  void note_later(SyncedEntry entry);
  void write_entry(const PartitionId& id);
  void write_noted();
  [[nodiscard]] io::Task<void> run();
  void capture(Round& round);
  [[nodiscard]] io::Task<void> run_round(std::shared_ptr<Round> round);
  [[nodiscard]] io::Task<void> make_durable(Round* round);
  [[nodiscard]] bool wants_ahead();
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
  std::set<PartitionId> noted_;      ///< whose evidence no file was synced for yet
  std::set<PartitionId> unwritten_;  ///< whose newest evidence the journal does not hold
  std::shared_ptr<Round> next_;      ///< who waits for the round that begins next; null: nobody
  std::map<PartitionId, unsigned> under_way_;  ///< rounds that have captured them and are not over
  Instant ahead_until_{};
  bool running_ = false;
  bool syncing_journal_ = false;
  bool evidence_missing_ = false;  ///< an entry could not be written: rewrite the journal
  std::uint64_t rounds_begun_ = 0;
  std::uint64_t rounds_done_ = 0;
  /// The file that made the last round durable, and its syncs by then: who finds the same shared that one.
  std::pair<const io::File*, std::uint64_t> last_sync_{};
  io::WaitList news_;  ///< a round is over, or somebody waits for the next
};

}  // namespace pyralog::log
