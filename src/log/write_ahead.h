#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "io/shard.h"
#include "io/task.h"
#include "log/write_ahead_format.h"

namespace pyralog::log {

class ShardLogs;

/// Bytes of a file that are in the page cache and are to become durable.
struct UnsyncedRange {
  PartitionId partition;
  Offset segment;
  WriteAheadFile kind = WriteAheadFile::kLog;
  std::shared_ptr<io::File> file;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  SharedBytes content{};  ///< what was written there, if that is at hand; else it is read back
  [[nodiscard]] std::uint64_t bytes() const { return to - from; }
};

/// Makes small ranges of many files durable by one sync of one file: a copy of them goes there, and the
/// files themselves are synced later, at leisure (BookKeeper's journal, InnoDB's doublewrite buffer).
/// Two files of a fixed size take turns: one is written to while the segments that the other one
/// vouches for are synced; only then is it written over, from its beginning. Written over, because a
/// sync that need not make a file grow is one flush of the device and no more (the first use of each does).
/// The segments are synced little by little while the other file fills: all at once, they would keep the
/// device from the rounds for as long as it takes to write half of `write_ahead_bytes`.
///
/// What it holds is put in place when the node starts, before any log is opened (write_ahead_replay.h).
/// So nothing that it vouches for may be cut or written anew: see `retire`. Lives on its shard.
class WriteAhead {
 public:
  explicit WriteAhead(ShardLogs& shard) : shard_(shard) {}

  /// Whether there is anything to be written to; tried again by nobody after a failure.
  [[nodiscard]] bool usable() const;
  /// Whether rounds of that many files are worth the second copy.
  [[nodiscard]] bool wants(std::size_t files) const;
  /// Whether it takes a range of this length; longer ones go by themselves.
  [[nodiscard]] static bool takes(std::uint64_t bytes);

  /// Makes `ranges` durable, together with `evidence` of earlier rounds; returns the file whose sync did it,
  /// null if that was a write of its own, which is counted already.
  /// After an error nothing need be: the caller syncs the files. kUnavailable: no room now; kExhausted, kIo.
  /// Calls get their places one after the other, in the order in which they came, and return in that order:
  /// until then what one has written may be durable and what one before it has written may not.
  [[nodiscard]] io::Task<Result<std::shared_ptr<io::File>>> commit(std::vector<UnsyncedRange> ranges,
                                                                  std::vector<SyncedEntry> evidence);

  /// Before files of `partition` are cut or written anew: puts everything in place and lets the files
  /// go, durably, if they hold anything of it.
  [[nodiscard]] io::Task<Result<void>> retire(PartitionId partition);
  /// Before files of `partition`, which is offline, are looked at anew: puts what is held of it in place
  /// through fresh handles, then as `retire`.
  [[nodiscard]] io::Task<Result<void>> restore(PartitionId partition);
  /// As `retire`, whatever they hold; at a clean stop. Files whose segments could not be synced stay, for
  /// the next start.
  [[nodiscard]] io::Task<Result<void>> close();
  /// Syncs a closed segment's own file if this vouches for it. A failure takes its log offline.
  [[nodiscard]] io::Task<void> settle_segment(PartitionId partition, Offset segment);
  /// Whether it may hold data or evidence of a partition.
  [[nodiscard]] bool holds(const PartitionId& partition) const;
  /// The file at `path` is removed: nothing of it needs to be in place any more.
  void forget(const std::string& path);
  /// A write or sync of a file failed: every log's own files are synced from then on.
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  struct Kept {
    PartitionId partition;
    std::shared_ptr<io::File> file;
    std::uint64_t from = 0;   ///< the bytes that it vouches for lie from here
    std::uint64_t to = 0;     ///< to here
    bool failed = false;  ///< it could not be synced: the next start needs what is held of it
  };
  using Key = std::tuple<PartitionId, Offset, WriteAheadFile>;
  struct Half {
    std::shared_ptr<io::File> file;  ///< null until it is first used
    WriteAheadHeader header;
    std::uint64_t end = 0;       ///< where the next frame begins
    std::map<Key, Kept> kept;  ///< files that it vouches for
    std::set<PartitionId> held;        ///< of whom it may hold anything, in place already or not
    std::set<PartitionId> held_before; ///< by its last use, until a round of this one is durable
    unsigned in_flight = 0;  ///< commits that have a place in it and are not durable yet
    bool begun = false;  ///< the header of this use is durable
    bool settling = false;
    bool hurry = false;    ///< somebody waits for the end of that
    bool unsettled = false;  ///< its segments, or the evidence in it, may be durable nowhere else
  };
  [[nodiscard]] io::Task<Result<void>> open();
  using FrameSpace = std::unique_ptr<std::uint8_t[]>;
  struct Frame;
  struct Written;
  void begin_use(Half& half);
  [[nodiscard]] static bool stuck(const Half& half);
  [[nodiscard]] Result<void> make_room(std::uint64_t bytes);
  [[nodiscard]] io::Task<Result<Written>> write(std::vector<UnsyncedRange> ranges,
                                                std::vector<SyncedEntry> evidence);
  [[nodiscard]] io::Task<Result<void>> make_frames(Frame& frame, std::vector<UnsyncedRange> ranges,
                                                   std::vector<SyncedEntry> evidence);
  [[nodiscard]] Result<void> seal(Frame& frame);
  [[nodiscard]] io::Task<Result<void>> write_frame(Frame& frame);
  [[nodiscard]] io::Task<Result<void>> make_durable(const Written& written);
  void end(Written& written);
  [[nodiscard]] std::unexpected<Error> give_up(Half& half, const Error& cause);
  void hurry(Half& half);
  struct Settling;
  [[nodiscard]] io::Task<void> settle(unsigned half);
  [[nodiscard]] io::Task<void> settle_some(Half& half, Settling& so_far);
  [[nodiscard]] io::Task<void> sync_own_files(Half& half, std::vector<std::pair<Key, Kept>> some);
  [[nodiscard]] io::Task<void> keep_pace(const Half& half, const Settling& so_far);
  [[nodiscard]] io::Task<Result<void>> let_go();
  [[nodiscard]] std::string path_of(unsigned half) const;

  ShardLogs& shard_;
  Half halves_[2];
  unsigned current_ = 0;
  std::uint64_t generation_ = 0;
  std::uint64_t half_bytes_ = 0;  ///< 0 = not opened yet
  bool dead_ = false;  ///< a write or sync failed, or there is no room: not used any more by this process
  bool failed_ = false;
  io::Turn turn_;
  std::vector<FrameSpace> frame_spaces_;  ///< that no commit uses just now
  io::WaitList settled_;  ///< a half is no longer being settled, or a commit is over
  io::WaitList written_;  ///< something was written, or somebody is in a hurry
};

}  // namespace pyralog::log
