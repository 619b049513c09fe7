#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/net.h"
#include "io/shard.h"
#include "io/task.h"
#include "log/append_time.h"
#include "log/compaction.h"
#include "log/epoch_table.h"
#include "log/evidence.h"
#include "log/memory_store.h"
#include "log/options.h"
#include "log/segment.h"
#include "log/write_ahead.h"
#include "model/fundamental.h"
#include "model/record_batch.h"

namespace pyralog::log {

class ShardLogs;
struct LogDetails;  // log_details.h

/// What an append did.
struct Appended {
  Offset first;     ///< offset of the first record
  Offset end;       ///< the log's end: the offset after the last record
};

struct ReadLimits {
  std::uint64_t max_bytes = 1u << 20;
  Offset upto;           ///< nothing at or above this offset is returned (high watermark)
  bool min_one = true;   ///< return the first batch even if it alone exceeds max_bytes (KIP-74)
};

/// Whole batches, ready to be sent: file ranges, or memory for a `memory` log. The first batch may
/// begin below the offset that was asked for. Empty if there is nothing to return.
struct ReadResult {
  std::vector<io::Piece> pieces;
  std::uint64_t bytes = 0;
  Offset first;  ///< base offset of the first batch; the offset asked for if empty
  Offset next;   ///< where to go on reading
  std::uint64_t next_bytes = 0;  ///< of a log in memory: the batch there, if it was too large for max_bytes
};

struct TimestampHit {
  Offset offset;
  std::int64_t timestamp = -1;
};

/// One partition's log: segments of Kafka v2 batches, back to back. Lives on one shard; nobody else
/// calls it. Owned by the shard's ShardLogs.
///
/// Writing: `prepare`, then `append` in the same turn (nothing awaited in between), then
/// `ShardLogs::sync` for what must be durable. The caller keeps the order of its own appends.
/// After a failed write or sync the log is offline: every call fails with the cause until
/// ShardLogs::reopen has verified it from disk.
class PartitionLog {
 public:
  PartitionLog(const PartitionLog&) = delete;
  PartitionLog& operator=(const PartitionLog&) = delete;
  ~PartitionLog();

  [[nodiscard]] const PartitionId& id() const { return id_; }
  [[nodiscard]] const std::string& dir() const { return dir_; }
  [[nodiscard]] const LogConfig& config() const { return config_; }
  /// For people: topic-partition, or the directory if nobody has said.
  [[nodiscard]] const std::string& name() const {
    return config_.name.empty() ? dir_ : config_.name;
  }
  /// New settings hold from the next roll on; durability may not change between memory and disk.
  void set_config(const LogConfig& config);

  /// Offset of the first record that is kept.
  [[nodiscard]] Offset start_offset() const;
  /// The offset that the next record gets.
  [[nodiscard]] Offset end_offset() const { return end_; }
  /// Everything below is durable on the device. A `memory` log has no such thing: its end.
  [[nodiscard]] Offset synced_end() const;
  /// Bytes of all segments.
  [[nodiscard]] std::uint64_t size_bytes() const;
  /// Greatest client timestamp and the base offset of the batch that carries it; −1 if none.
  [[nodiscard]] TimestampHit max_timestamp() const;
  /// The epochs whose batches are in the log, oldest first, with the offset where each begins.
  [[nodiscard]] const std::vector<EpochStart>& epochs() const { return epochs_.entries(); }
  [[nodiscard]] Epoch last_epoch() const { return epochs_.last(); }
  /// Offset where `epoch` ends: where the next greater epoch begins, or the log's end; with the
  /// greatest epoch of the log that is not above `epoch` (Kafka's OffsetForLeaderEpoch).
  [[nodiscard]] EpochStart epoch_end(Epoch epoch) const { return epochs_.end_of(epoch, end_); }
  /// Why the log takes no calls; nullopt = online.
  [[nodiscard]] const std::optional<Error>& offline() const { return offline_; }

  /// True if `append` of `bytes`, at `wall`, needs no prepare.
  [[nodiscard]] bool ready(std::uint64_t bytes, WallMs wall) const;
  /// Makes room for `bytes`: opens the active segment, rolls when its size, its age or its index
  /// says so. A new segment and its name are durable when this returns. kExhausted, kIo,
  /// kUnavailable (offline).
  [[nodiscard]] io::Task<Result<void>> prepare(std::uint64_t bytes, WallMs wall);

  /// Writes whole batches, checked already, with base offset and leader epoch assigned, in one write
  /// to the page cache. `ready` must hold. Offsets go on from `end_offset`, epochs never go back
  /// (else kInvalidArgument and nothing is written). kExhausted: nothing appended, may be tried
  /// again after `prepare`; kIo: the log is offline. `wall` is the server's clock.
  [[nodiscard]] Result<Appended> append(std::span<const ByteView> batches, WallMs wall);

  /// Ends the active segment, so that the next append begins a new one. Nothing if it is empty.
  [[nodiscard]] io::Task<Result<void>> roll();

  /// Whole batches from the one that holds `offset`. kOutOfRange below start_offset or above
  /// end_offset; kCorrupt names directory, segment and position of bytes that fail their checks.
  [[nodiscard]] io::Task<Result<ReadResult>> read(Offset offset, ReadLimits limits);

  /// The first record, in offset order, whose timestamp is at least `timestamp_ms`, below `upto`;
  /// exact inside compressed batches too. nullopt = none.
  [[nodiscard]] io::Task<Result<std::optional<TimestampHit>>> find_timestamp(
      std::int64_t timestamp_ms, Offset upto);

  /// Calls `visit` with the header of every batch from the one that holds `from`, in order, until it
  /// returns false. Bytes that were not verified in this process yet are, first.
  using HeaderVisitor = std::function<bool(const BatchHeader& header)>;
  [[nodiscard]] io::Task<Result<void>> scan_headers(Offset from, HeaderVisitor visit);

  /// Cuts the log so that it ends at `end`, a batch boundary (else kInvalidArgument); durable when it
  /// returns. The caller sees to it that nobody appends meanwhile.
  [[nodiscard]] io::Task<Result<void>> truncate_to(Offset end);

  /// Removes whole segments that lie below `offset`, never the active one; durable on return.
  [[nodiscard]] io::Task<Result<void>> drop_segments_below(Offset offset);
  /// Makes the log begin at `offset`, inside a segment too: what lies below is never read again.
  /// Durable on return. kOutOfRange above the end.
  [[nodiscard]] io::Task<Result<void>> delete_records_below(Offset offset);
  /// Ends an active segment that is older than segment_ms and removes segments as LogConfig::retention
  /// says, none that reaches above `limit`, or above `held`, from where somebody still reads. `now` as
  /// RetentionClock has it. What fails is tried again by the next call.
  [[nodiscard]] io::Task<Result<void>> retain(WallMs now, Offset limit,
                                              std::optional<Offset> held = std::nullopt);
  /// Bytes of segments that the last `retain` left there only because they were held.
  [[nodiscard]] std::uint64_t held_back_bytes() const { return held_back_bytes_; }

  /// Compacts what is closed, below `call.limit` and worth it by LogConfig::compaction; nothing without
  /// that, or while another call runs. Offsets stay, batches stay contiguous. kCorrupt: a segment is
  /// damaged and stays as it is; kCancelled: it was stopped. What fails is tried again by the next call.
  [[nodiscard]] io::Task<Result<Compacted>> compact(const CompactionCall& call);

  /// When something had been appended by `wall`: the end offset that the log had at that time, as
  /// far as its append times tell (within Options::append_time_step).
  [[nodiscard]] io::Task<Result<Offset>> end_offset_at(WallMs wall);

  /// What is known to be damaged of what is here, in one sentence; reads and the scrubber find it.
  [[nodiscard]] std::optional<std::string> damage() const;
  /// How it stands, for people: segments, evidence, compaction, damage. Bounded.
  [[nodiscard]] LogDetails details() const;
  /// Of a log that is compacted: bytes of closed segments with records that compaction has not
  /// compared yet; all of them until it was first looked at in this process.
  [[nodiscard]] std::uint64_t backlog_bytes() const;
  /// Memory that its indexes take now.
  [[nodiscard]] std::size_t index_memory_bytes() const;

 private:
  friend class ShardLogs;
  friend class Committer;
  friend class Compactor;
  friend class Recovery;
  friend class Scrubber;
  friend class SegmentScrub;
  friend class WriteAhead;
  using SegmentRef = std::shared_ptr<Segment>;

  /// What a round of the Committer captured before it submitted the syncs.
  struct Capture {
    std::vector<UnsyncedRange> ranges;
    std::vector<std::pair<SegmentRef, std::uint64_t>> segments;  ///< bytes that become durable
    std::vector<std::shared_ptr<io::File>> sealed_times;  ///< of `ranges`, not needed any more after
    SyncedEntry entry;
    std::uint64_t cuts = 0;
  };
  /// A batch boundary: the batch that begins there, or the end of the segment.
  struct Place {
    std::uint64_t position = 0;
    Offset base;
    std::uint64_t end = 0;  ///< where that batch ends
  };
  /// Whole batches of one segment.
  struct Extent {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    Offset first;
    Offset next;
  };

  PartitionLog(ShardLogs& shard, PartitionId id, LogConfig config);

  // partition_log.cc: writing and the group commit's side.
  [[nodiscard]] std::unexpected<Error> refuse() const;
  [[nodiscard]] std::unexpected<Error> go_offline(const Error& cause);
  /// The same without a word: it is meant.
  [[nodiscard]] std::unexpected<Error> end_serving(const Error& cause);
  void tell_no_space(const Error& error);
  [[nodiscard]] std::string path_of(Offset base, std::string_view extension) const;
  [[nodiscard]] bool must_roll(std::uint64_t bytes, WallMs wall) const;
  [[nodiscard]] io::Task<Result<void>> open_active();
  [[nodiscard]] io::Task<Result<void>> open_append_times(SegmentRef segment, io::OpenMode mode);
  [[nodiscard]] io::Task<Result<void>> create_segment(WallMs wall);
  [[nodiscard]] io::Task<Result<std::shared_ptr<io::File>>> create_files(SegmentRef segment);
  void seal_active();
  [[nodiscard]] io::Task<void> finish_sealing(SegmentRef segment);
  [[nodiscard]] io::Task<Result<void>> write_index(SegmentRef segment, const SegmentIndex& index);
  [[nodiscard]] Result<void> parse_appended(std::span<const ByteView> batches);
  void take_appended(std::span<const ByteView> batches);
  /// Tells the slow-operation log, if it wants to know.
  void note_slow(observe::SlowKind kind, const char* what, Instant began) const;
  void note_append_time(Offset base, WallMs wall);
  void write_append_times();
  /// Keeps what was appended at `position` of the active segment for the write-ahead files.
  void keep_copy(std::span<const ByteView> batches, std::uint64_t position);
  [[nodiscard]] SharedBytes take_copy(const Segment& segment, std::uint64_t from);
  [[nodiscard]] Result<Appended> append_to_memory(std::span<const ByteView> batches,
                                                  WallMs wall);
  [[nodiscard]] io::Task<Result<void>> save_epochs();
  [[nodiscard]] bool dirty() const { return synced_end_ < end_; }
  [[nodiscard]] Capture capture();
  void apply(const Capture& captured);
  [[nodiscard]] SyncedEntry synced_entry(const Segment& segment, Offset end) const;

  // partition_log_read.cc
  [[nodiscard]] io::Task<Result<ReadResult>> read_once(Offset offset, ReadLimits limits);
  [[nodiscard]] SegmentRef segment_of(Offset offset) const;
  [[nodiscard]] std::unexpected<Error> gone(Offset offset) const;
  [[nodiscard]] std::unexpected<Error> was_replaced() const;
  [[nodiscard]] std::unexpected<Error> corrupt(const Segment& segment, std::uint64_t position,
                                               std::string_view what);
  [[nodiscard]] io::Task<Result<std::shared_ptr<io::File>>> file_of(SegmentRef segment);
  /// Until the caller awaits something, the index stays loaded.
  [[nodiscard]] io::Task<Result<void>> load_index(SegmentRef segment);
  [[nodiscard]] io::Task<Result<void>> rebuild_index(SegmentRef segment);
  [[nodiscard]] io::Task<Result<Place>> locate(SegmentRef segment, Offset offset);
  [[nodiscard]] io::Task<Result<Place>> walk_to(SegmentRef segment, IndexEntry from, Offset offset,
                                                std::uint64_t position_limit);
  [[nodiscard]] io::Task<Result<Place>> place(SegmentRef segment, IndexEntry from, Offset offset,
                                              std::uint64_t position_limit);
  [[nodiscard]] io::Task<Result<Extent>> extent(SegmentRef segment, Offset from, Offset upto,
                                                std::uint64_t max_bytes, bool min_one);
  [[nodiscard]] io::Task<Result<Extent>> verify(SegmentRef segment, Extent extent);
  /// Ends the extent where something damaged follows upon what is not.
  static void stop_before_damage(const std::vector<DamagedRange>& damaged, Extent& extent);
  [[nodiscard]] ReadResult read_memory(Offset offset, const ReadLimits& limits) const;
  /// What was given out could not be read when it was sent: it is verified again before it goes out.
  void distrust(const std::string& path, std::uint64_t from, std::uint64_t count, const Error& error);

  // partition_log_find.cc
  /// Checks and then shows the batches of a segment from the one that holds `from`, a window at a
  /// time, until `visit` returns false; that is the result.
  using BatchVisitor = std::function<bool(const BatchHeader& header, std::uint64_t position)>;
  [[nodiscard]] io::Task<Result<bool>> walk(SegmentRef segment, Offset from, BatchVisitor visit);
  [[nodiscard]] bool has_moved(const Error& error, std::uint64_t swaps, Offset start) const;
  [[nodiscard]] io::Task<Result<std::optional<TimestampHit>>> find_on_disk(std::int64_t ts,
                                                                           Offset upto);
  [[nodiscard]] io::Task<Result<std::optional<TimestampHit>>> find_in_segment(SegmentRef segment,
                                                                              std::int64_t ts,
                                                                              Offset upto);
  [[nodiscard]] io::Task<Result<std::optional<TimestampHit>>> find_in_batch(SharedBytes batch,
                                                                            std::int64_t ts,
                                                                            Offset upto);
  [[nodiscard]] io::Task<Result<std::optional<TimestampHit>>> find_in_memory(std::int64_t ts,
                                                                             Offset upto);

  // partition_log_cut.cc
  [[nodiscard]] io::Task<Result<void>> cut_disk(Offset end);
  /// Cuts off what a failed write left behind the end; durable when it returns.
  [[nodiscard]] io::Task<Result<void>> cut_unknown_tail();
  [[nodiscard]] io::Task<Result<void>> remove_files(Offset base);
  [[nodiscard]] io::Task<Result<void>> remove_side_files(Offset base);
  [[nodiscard]] io::Task<Result<void>> cut_segment(SegmentRef segment, std::uint64_t position,
                                                   Offset end);

  // partition_log_retain.cc
  [[nodiscard]] io::Task<Result<void>> drop_front();
  [[nodiscard]] io::Task<Result<void>> put_start(Offset start);
  [[nodiscard]] io::Task<Result<void>> drop_below_start();
  [[nodiscard]] io::Task<Result<std::int64_t>> created_ms(SegmentRef segment);

  class GivenOut;
  ShardLogs& shard_;
  PartitionId id_;
  std::string dir_;
  LogConfig config_;
  Offset start_{0};
  Offset end_{0};
  Offset synced_end_{0};
  std::vector<SegmentRef> segments_;
  EpochTable epochs_;
  std::size_t epochs_saved_ = 0;  ///< entries that the file `epochs` holds
  std::optional<Error> offline_;
  std::unique_ptr<MemoryStore> memory_;
  io::Turn turn_;                  ///< prepare, roll, truncate, drop
  bool tail_unknown_ = false;      ///< a failed write left bytes behind the end
  bool no_space_told_ = false;     ///< since the last write that went well
  bool roll_asked_ = false;
  /// A segment that could not be made: its file may still be there, or come back with the power.
  std::optional<Offset> stray_;
  std::uint64_t cuts_ = 0;         ///< truncations so far
  bool cutting_ = false;           ///< one is under way: nothing to be captured
  std::uint64_t held_back_bytes_ = 0;
  struct Met {
    Offset segment;
    std::string message;
  };
  std::optional<Met> damage_met_;  ///< the last that was met
  std::uint64_t swaps_ = 0;        ///< segments that compaction has replaced so far
  bool compacting_ = false;
  std::optional<CompactionState> compaction_state_;  ///< once it was read
  std::shared_ptr<io::File> times_file_;  ///< `.appendtime` of the active segment
  std::uint64_t times_next_ = 0;
  std::int64_t times_last_ms_ = 0;      ///< of the last entry; entries never go back
  std::optional<Instant> times_noted_;  ///< when it was made; none since the file was opened
  Bytes times_unwritten_;               ///< the last of the entries
  Instant times_written_{};
  bool times_dirty_ = false;
  std::uint64_t times_captured_ = 0;    ///< entries of the file that were captured for a sync
  std::vector<std::shared_ptr<io::File>> sealed_times_;  ///< of sealed segments, not synced yet
  Instant times_synced_{};
  std::vector<BatchHeader> parsed_;  ///< of the append under way
  /// What no round has captured yet, of the segment that begins at `copy_segment_`, from `copy_from_`.
  struct Copy {
    explicit Copy(std::shared_ptr<std::size_t> of_all) : all(std::move(of_all)) {}
    Copy(const Copy&) = delete;
    Copy& operator=(const Copy&) = delete;
    ~Copy() { *all -= bytes.size(); }
    std::shared_ptr<std::size_t> all;  ///< bytes of all copies of the shard
    Bytes bytes;
  };
  std::shared_ptr<Copy> copy_;
  Offset copy_segment_{-1};
  std::uint64_t copy_from_ = 0;
  std::shared_ptr<GivenOut> given_out_;  ///< made by the first read
  // Where the last read ended: its successor needs no search.
  std::uint64_t memo_position_ = 0;
  Offset memo_offset_{-1};
  Offset memo_segment_{-1};
};

}  // namespace pyralog::log
