#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "io/sim/stats.h"
#include "model/fundamental.h"
#include "model/record_batch.h"
#include "trace.h"

namespace pyralog::simtest {

/// The worst end of the server that a record has been promised to survive.
enum class Strength : std::uint8_t {
  kNothing,  ///< records of `memory` topics: gone with the process
  kProcess,  ///< kill -9 of the process
  kPower,    ///< power loss
};
[[nodiscard]] const char* name(Strength strength);

/// One record that a client has sent; its number, from 1, is in its value.
struct SentRecord {
  std::uint32_t partition = 0;  ///< index of the oracle's partition
  std::uint32_t producer = 0;
  std::uint32_t attempts = 0;  ///< times that a frame with it has been sent
  bool idempotent = false;
  std::int64_t timestamp = 0;
  bool tombstone = false;
};

/// What a topic may forget by itself.
struct Forgets {
  bool compacted = false;                 ///< records have keys; an older one of a key may be gone
  std::int64_t delete_retention_ms = -1;  ///< of tombstones
  bool from_the_front = false;            ///< by the two below, or because a client says so
  std::int64_t retention_bytes = -1;
  std::int64_t retention_ms = -1;
};

/// A batch as a client finds it in a log.
struct SeenBatch {
  BatchHeader header;
  std::vector<std::uint64_t> records;  ///< numbers, in order of offset
  std::vector<std::int64_t> offsets;   ///< of these
};

/// What clients have been promised and shown so far, and whether what they see now fits to it. All
/// checks live here; the first that fails says what and where.
class Oracle {
 public:
  struct Partition {
    std::string topic;
    std::int32_t index = 0;
    Durability durability = Durability::kFsync;
    Forgets forgets;
    /// What is known to be at an offset.
    struct Known {
      std::uint64_t record = 0;  ///< 0 = nothing known
      std::int32_t epoch = -1;
      Strength strength = Strength::kNothing;
    };
    std::vector<Known> known;         ///< by offset
    std::int64_t start = 0;           ///< the greatest beginning of the log that was shown
    std::int64_t deleted = 0;         ///< nothing below it was to be kept, a client has said
    std::int64_t high_watermark = 0;  ///< the highest seen
    std::int32_t epoch = 0;           ///< the highest seen
    std::uint64_t losses = 0;         ///< how often known records have gone, as they may
    /// Offset and record that a search by time has passed over where records may go: right only if
    /// it was gone by then.
    std::map<std::int64_t, std::uint64_t> passed_over;
    std::map<std::uint32_t, std::int64_t> last_ack;  ///< plain producer → greatest acknowledged
    /// Idempotent producer → first record of each acknowledged batch → its offset.
    std::map<std::uint32_t, std::map<std::uint64_t, std::int64_t>> acked;
    [[nodiscard]] std::string name() const { return topic + "-" + std::to_string(index); }
  };

  Oracle(Trace& trace, io::sim::Stats& stats) : trace_(trace), stats_(stats) {}

  [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }
  void violate(std::string what);

  std::uint32_t add_partition(std::string topic, std::int32_t index, Durability durability,
                              Forgets forgets);
  [[nodiscard]] std::size_t partitions() const { return partitions_.size(); }
  [[nodiscard]] const Partition& partition(std::uint32_t p) const { return partitions_[p]; }

  // Records.
  [[nodiscard]] std::uint64_t new_record(std::uint32_t partition, std::uint32_t producer,
                                         bool idempotent, std::int64_t timestamp);
  /// Whether a record of the partition would be one without value; its number is in a header.
  [[nodiscard]] bool is_tombstone(std::uint32_t partition, std::uint64_t record) const {
    return partitions_[partition].forgets.compacted && record % 6 == 0;
  }
  void attempted(std::uint64_t record) { ++sent_[record - 1].attempts; }
  [[nodiscard]] const SentRecord& sent(std::uint64_t record) const { return sent_[record - 1]; }
  /// The bytes of a record's value.
  [[nodiscard]] static Bytes value_of(std::uint64_t record);
  /// Its key, in a compacted partition.
  [[nodiscard]] static std::string key_of(std::uint64_t record) {
    return "key-" + std::to_string(record * 7 % 11);
  }

  // What clients are told.
  /// `records` were acknowledged at `base`, for the first time.
  void acknowledged(std::uint32_t p, std::int64_t base, const std::vector<std::uint64_t>& records,
                    Acks acks);
  /// A producer has lost its place in a partition whose `losses` were that many when it began.
  /// Right as well if all that it had stored was forgotten: `start` is where the log is said to
  /// begin, `last` the greatest offset where the producer was acknowledged, or -1.
  void sequence_lost(std::uint32_t p, std::uint64_t losses_then, std::int64_t start,
                     std::int64_t last, const std::string& why);
  /// Where a partition began when that was shown last.
  [[nodiscard]] std::int64_t start_of(std::uint32_t p) const { return partitions_[p].start; }
  /// A high watermark that a client was shown; `floor` is what it was when the client asked.
  void shown_high_watermark(std::uint32_t p, std::int64_t now, std::int64_t floor,
                            std::uint64_t losses_then);
  /// Bytes that a fetch from `offset` returned; nullopt if they are unsound.
  std::optional<std::vector<SeenBatch>> served(std::uint32_t p, std::int64_t offset, ByteView bytes,
                                               std::int64_t high_watermark);
  void shown_epoch(std::uint32_t p, std::int32_t epoch);
  /// A client is about to delete what is below `offset`.
  void deleting(std::uint32_t p, std::int64_t offset);
  /// The log was said to begin at `start`; `floor` is what was known of it when the client asked.
  void shown_start(std::uint32_t p, std::int64_t start, std::int64_t floor);
  /// The wall clock of the server went ahead of time: ages mean nothing from now on.
  void clock_went_ahead() { ages_hold_ = false; }
  /// A search by time found `offset` (−1 = nothing), in an unchanged partition; `floor` is what the
  /// high watermark was when the client asked.
  void found_by_time(std::uint32_t p, std::int64_t timestamp, std::int64_t offset,
                     std::int64_t found_timestamp, std::int64_t floor);
  /// False if it has been given out before.
  [[nodiscard]] bool is_new_producer_id(std::int64_t id) { return producer_ids_.insert(id).second; }

  // The ends of lives.
  /// The server ended cleanly: everything on disk is as safe as it can be.
  void ended_cleanly();
  /// The whole of a partition after a restart that could cost records below `survives`; nobody else
  /// is at work.
  void recovered(std::uint32_t p, const std::vector<Bytes>& batches, std::int64_t start,
                 std::int64_t end, std::int32_t epoch, Strength survives, std::int64_t now_ms);

 private:
  void note(Partition& partition, std::int64_t offset, std::uint64_t record, std::int32_t epoch,
            Strength strength, const char* how);
  void check_order(Partition& partition, std::int64_t base, std::uint64_t first);
  // oracle_forgotten.cc
  void check_retention(std::uint32_t p, const std::vector<SeenBatch>& log, std::int64_t start,
                       Strength survives, std::int64_t now_ms);
  void check_forgotten(std::uint32_t p, const std::vector<SeenBatch>& log, std::int64_t end,
                       std::int64_t now_ms);
  [[nodiscard]] std::map<std::string, std::int64_t> last_tombstones(std::uint32_t p,
                                                                    std::int64_t now_ms) const;

  void check_producers(const Partition& partition, const std::vector<SeenBatch>& log);
  [[nodiscard]] std::optional<SeenBatch> open_batch(const Partition& partition, std::uint32_t p,
                                                    ByteView batch);

  Trace& trace_;
  io::sim::Stats& stats_;
  std::vector<Partition> partitions_;
  std::vector<SentRecord> sent_;
  std::vector<std::string> violations_;
  std::set<std::int64_t> producer_ids_;
  bool ages_hold_ = true;
};

}  // namespace pyralog::simtest
