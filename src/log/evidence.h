#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/give_up.h"
#include "journal/journal.h"
#include "log/segment.h"
#include "model/fundamental.h"

namespace pyralog::log {

inline constexpr std::uint32_t kSyncedJournalKind = 0x434e5953;  ///< "SYNC"

/// What the `synced` journal says of one partition: all bytes of segment `segment` below
/// `end_position`, and all older segments, were durable. See README.md for the bytes.
struct SyncedEntry {
  enum class Kind : std::uint8_t {
    kSynced = 0,
    kForgotten = 1,  ///< the partition is deleted
  };
  Kind kind = Kind::kSynced;
  PartitionId partition;
  std::uint32_t generation = 0;  ///< start of the node that wrote it; the greatest wins
  Offset segment;
  std::uint64_t end_position = 0;
  Offset end_offset;
  Epoch epoch;              ///< of the last batch below the end
  std::uint32_t chain = 0;  ///< of the segment's headers up to end_position
  /// The log's first offset: nothing below is read any more, everything from there on was there.
  /// −1 = not known (entries of the first version).
  Offset start{-1};
  friend bool operator==(const SyncedEntry&, const SyncedEntry&) = default;
};
[[nodiscard]] Bytes encode(const SyncedEntry& entry);
[[nodiscard]] Result<SyncedEntry> decode_synced_entry(ByteView bytes);

/// A log as a clean shutdown left it.
struct CleanLog {
  struct CleanSegment {
    Offset base;
    Offset next;
    std::uint64_t size = 0;
    std::int64_t created_ms = 0;
    Epoch epoch;
    std::uint32_t chain = 0;
    TimeEntry max_timestamp;
  };
  PartitionId partition;
  Offset start;
  Offset end;
  std::vector<EpochStart> epochs;
  std::vector<CleanSegment> segments;
};
/// A shard's checkpoint of a clean shutdown: everything its logs need to open without a scan.
struct CleanState {
  std::uint32_t generation = 0;
  std::vector<CleanLog> logs;
};
[[nodiscard]] Bytes encode(const CleanState& state);
[[nodiscard]] Result<CleanState> decode_clean_state(ByteView bytes, const std::string& path);

/// What Evidence::load may do to the journals that it reads.
enum class EvidenceAccess : std::uint8_t {
  kMend,      ///< for a node, which goes on writing them: cut a torn tail off, replay write-ahead files
  kReadOnly,  ///< change nothing
};

/// What earlier runs left about all partitions of a data directory, whatever shard had them then.
/// Loaded once at a node's start, then shared and immutable.
class Evidence {
 public:
  /// Reads every shard's checkpoint and `synced` journal. A torn journal tail does not count; a newer
  /// version is kUnsupported. An unreadable checkpoint counts as none. A journal that is damaged below its
  /// tail is kCorrupt for who only reads; a node sets it aside (see `damaged`). `give_up` ends a replay of
  /// write-ahead files.
  [[nodiscard]] static io::Task<Result<std::shared_ptr<const Evidence>>> load(
      io::Disk& disk, std::string data_dir, EvidenceAccess access = EvidenceAccess::kMend,
      GiveUp give_up = nullptr);

  [[nodiscard]] const SyncedEntry* synced(const PartitionId& id) const;
  [[nodiscard]] const CleanLog* clean(const PartitionId& id) const;
  /// Greater than that of any entry or checkpoint found.
  [[nodiscard]] std::uint32_t generation() const { return generation_; }
  [[nodiscard]] const std::vector<std::string>& checkpoint_files() const { return checkpoints_; }
  /// Shards whose journal was found damaged, by this start or by one before that did not get as far as
  /// `doubt_recorded`: how far their partitions were durable cannot be told.
  [[nodiscard]] const std::set<unsigned>& damaged() const { return damaged_; }

 private:
  std::map<PartitionId, SyncedEntry> synced_;
  std::map<PartitionId, CleanLog> clean_;
  std::vector<std::string> checkpoints_;
  std::set<unsigned> damaged_;
  std::uint32_t generation_ = 1;
};

/// Opens a journal of evidence and shows its entries. A damaged one is set aside, durably, as `….doubt`,
/// and begun anew: of what it says nothing can be trusted, since an entry that lowered it may be lost.
[[nodiscard]] io::Task<Result<std::unique_ptr<journal::Journal>>> open_synced_journal(
    io::Disk& disk, std::string path, std::function<void(const SyncedEntry&)> show);
/// Whatever a damaged journal leaves in doubt is recorded: it becomes `….damaged`, which no start reads.
[[nodiscard]] io::Task<Result<void>> doubt_recorded(io::Disk& disk, std::string data_dir);

[[nodiscard]] std::string synced_journal_name(unsigned shard);
[[nodiscard]] std::string checkpoint_name(unsigned shard);

}  // namespace pyralog::log
