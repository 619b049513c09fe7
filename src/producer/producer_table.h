#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "model/fundamental.h"
#include "model/kafka_error.h"
#include "model/record_batch.h"
#include "producer/producer_clock.h"

namespace pyralog::producer {

/// How many producers all partitions of a node remember together; one that writes to several counts in
/// each. Any thread; between shards the count may be a moment old.
class ProducerRoom {
 public:
  explicit ProducerRoom(std::size_t limit) : limit_(limit) {}
  ProducerRoom(const ProducerRoom&) = delete;
  ProducerRoom& operator=(const ProducerRoom&) = delete;
  [[nodiscard]] bool full() const { return used() >= limit_; }
  [[nodiscard]] std::size_t used() const { return used_.load(std::memory_order_relaxed); }

  /// What one partition has of it.
  class Part {
   public:
    Part() = default;
    explicit Part(std::shared_ptr<ProducerRoom> room) : room_(std::move(room)) {}
    Part(Part&& o) noexcept : room_(std::move(o.room_)), held_(std::exchange(o.held_, 0)) {}
    Part& operator=(Part&& o) noexcept {
      if (this != &o) {
        hold(0);
        room_ = std::move(o.room_);
        held_ = std::exchange(o.held_, 0);
      }
      return *this;
    }
    ~Part() { hold(0); }
    void hold(std::size_t producers) {
      // Wraps around where it gets less, and back.
      if (room_ != nullptr && producers != held_) {
        room_->used_.fetch_add(producers - held_, std::memory_order_relaxed);
      }
      held_ = producers;
    }
    [[nodiscard]] bool full() const { return room_ != nullptr && room_->full(); }

   private:
    std::shared_ptr<ProducerRoom> room_;
    std::size_t held_ = 0;
  };

 private:
  std::size_t limit_;
  std::atomic<std::size_t> used_ = 0;
};

struct Options {
  /// A producer that has appended nothing for so long is forgotten (`producer.id.expiration.ms`).
  std::int64_t expiration_ms = 86'400'000;
  /// Producers remembered per partition; above it new ones are refused, known ones never forgotten.
  std::size_t max_producers = 100'000;
  /// Shared by all partitions (`max.producer.ids`); null = no bound. When it is full, who has
  /// been silent for a quarter of an hour is forgotten already, and new ones are refused if there is
  /// nobody.
  std::shared_ptr<ProducerRoom> room;
};

enum class Verdict : std::uint8_t {
  kAppend,            ///< in sequence (or not idempotent): append it, then `apply`
  kDuplicate,         ///< appended before: wait for the original and answer with its offsets
  kOutOfOrder,        ///< a gap, or older than the last five batches
  kFenced,            ///< an older epoch of this producer
  kUnknownProducer,   ///< sequence above 0 from a producer that is not known (any more)
  kTooManyProducers,  ///< `Options::max_producers` reached
};

/// Kafka's code for a verdict; kNone for kAppend and kDuplicate.
[[nodiscard]] KafkaError kafka_error(Verdict verdict);

struct Judgement {
  Verdict verdict = Verdict::kAppend;
  // kDuplicate: the original. It is acknowledged once the high watermark reaches last_offset + 1.
  Offset base_offset{-1};
  Offset last_offset{-1};
  std::int64_t max_timestamp = -1;  ///< what the original's header carries
  // kOutOfOrder and kFenced: what the table knows.
  std::int32_t expected_sequence = -1;
  std::int16_t known_epoch = -1;
};

/// Why `header` was refused, for a log line or an error message.
[[nodiscard]] std::string describe(const Judgement& judgement, const BatchHeader& header);

/// One producer as DescribeProducers shows it.
struct ActiveProducer {
  ProducerId id;
  std::int16_t epoch = -1;
  std::int32_t last_sequence = -1;
  std::int64_t last_timestamp = -1;
};

/// What one partition knows of its idempotent producers: epoch, and the last five batches of each,
/// so that a batch sent again is recognised and a gap refused (KIP-98). Pure; lives on the
/// partition's shard. It is a view of the log: `apply` follows every append, also in recovery and
/// on followers, and a snapshot plus the log behind it yields the same table. Producers are
/// forgotten by time only, sooner where the node remembers too many.
class ProducerTable {
 public:
  explicit ProducerTable(Options options = {})
      : options_(std::move(options)), part_(options_.room) {}

  /// Judges a batch that is about to be appended; `check_batch` has passed it. Changes nothing that
  /// a later call could notice. `now` is the node's ProducerClock's.
  [[nodiscard]] Judgement judge(const BatchHeader& header, RunningMs now);

  /// Takes note of a batch that has been appended at `base_offset`; call it in offset order for
  /// every batch, before the next `judge`. `appended` is when it was, by the same clock
  /// (in replay, now: a log does not say). Never refuses: the log is right.
  void apply(const BatchHeader& header, Offset base_offset, RunningMs appended);

  /// Forgets producers that have been silent for longer than the expiration; returns how many.
  std::size_t expire(RunningMs now);

  /// The log has lost everything from `end` on. False if the table can't go back so far: throw it
  /// away and rebuild it from a snapshot and the log; until then it must not be asked.
  [[nodiscard]] bool truncate_from(Offset end);

  /// The state after everything below `upto` and nothing of what follows, in bytes. Write it only
  /// once the log is synced up to `upto`. kUnavailable if appends beyond `upto` have already pushed
  /// out what is needed; a snapshot at `end()`, taken first and written after the sync, never
  /// fails.
  [[nodiscard]] Result<Bytes> snapshot(Offset upto) const;

  /// A table from a snapshot; `end()` is then the offset that the snapshot covers, from which the
  /// log is to be applied. kCorrupt, kUnsupported (a newer version).
  /// Nobody has been heard of later than `now`. In version 1 times are a wall clock's and say nothing:
  /// everybody counts as heard of now.
  [[nodiscard]] static Result<ProducerTable> restore(ByteView snapshot, RunningMs now,
                                                     Options options = {});
  /// Whether a snapshot is as this program writes it, not as an older one did.
  [[nodiscard]] static bool is_current(ByteView snapshot);

  /// Offset after the last batch applied, or the offset the restored snapshot covers.
  [[nodiscard]] Offset end() const { return end_; }
  [[nodiscard]] std::size_t size() const { return producers_.size(); }
  /// Base offsets of the batches that are remembered, rising: compaction leaves their headers.
  [[nodiscard]] std::vector<Offset> remembered() const;
  /// All producers that have not expired at `now`, by id.
  [[nodiscard]] std::vector<ActiveProducer> list(RunningMs now) const;

  /// Up to where a read_committed consumer may read: no transaction is ever open, so the high
  /// watermark itself.
  [[nodiscard]] Offset last_stable_offset(Offset high_watermark) const { return high_watermark; }

 private:
  static constexpr std::size_t kRemembered = 5;
  struct Batch {
    std::int64_t base_offset = 0;
    std::int64_t appended_ms = 0;
    std::int64_t max_timestamp = 0;
    std::int32_t last_delta = 0;
    std::int32_t base_sequence = 0;
    [[nodiscard]] std::int64_t next_offset() const { return base_offset + last_delta + 1; }
  };
  struct Producer {
    std::array<Batch, kRemembered> batches{};  ///< oldest first
    std::uint8_t count = 0;
    /// There were earlier batches (of this or an older epoch) that are no longer in `batches`.
    bool forgot = false;
    std::int16_t epoch = -1;
    [[nodiscard]] const Batch& last() const { return batches[count - 1U]; }
    /// How many batches end at or below `offset`.
    [[nodiscard]] std::size_t below(std::int64_t offset) const;
    [[nodiscard]] std::int32_t next_sequence() const;
    /// Whether its first `keep` batches are all that was remembered at that point of the log.
    [[nodiscard]] bool exact(std::size_t keep) const { return keep == count || !forgot; }
  };

  [[nodiscard]] static bool silent(const Producer& producer, RunningMs now, std::int64_t longer_than_ms);
  [[nodiscard]] bool expired(const Producer& producer, RunningMs now) const;
  [[nodiscard]] bool may_admit(RunningMs now);
  [[nodiscard]] static Judgement judge_known(const Producer& producer, const BatchHeader& header);
  static Result<void> restore_producer(Reader& in, std::int64_t covers, ProducerTable& table);
  void cap_times(RunningMs now, bool foreign);

  Options options_;
  ProducerRoom::Part part_;
  Offset end_{0};
  RunningMs next_scan_{INT64_MIN};  ///< a full table is not searched for expired producers before this
  std::unordered_map<std::int64_t, Producer> producers_;
};

}  // namespace pyralog::producer
