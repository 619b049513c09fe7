#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>

#include "base/bytes.h"
#include "base/plant.h"
#include "log/max_window.h"
#include "model/fundamental.h"
#include "model/record_batch.h"

namespace pyralog::log {

class MemoryStore;

/// What the logs in memory of one shard hold together, with what it takes to keep it. Beyond the
/// limit the oldest batches go: of the log that is being written to, if it has more than its share,
/// else of the one that has most.
class MemoryRoom {
 public:
  explicit MemoryRoom(std::uint64_t limit_bytes) : limit_(limit_bytes) {}
  /// Lets go of what is too much, but never of the newest batch of `written`; returns the bytes of
  /// the batches that went.
  std::uint64_t make_room(MemoryStore& written);
  [[nodiscard]] std::uint64_t held_bytes() const { return held_bytes_; }

 private:
  friend class MemoryStore;
  struct Place {
    std::uint64_t held_bytes = 0;
    std::uint64_t number = 0;  ///< which store it is of all that there were: no two runs differ
    MemoryStore* store = nullptr;
  };
  struct MostFirst {
    bool operator()(const Place& a, const Place& b) const {
      if (PYRALOG_PLANT("log.oldest_memory_log_pays")) return a.number < b.number;
      return a.held_bytes != b.held_bytes ? a.held_bytes > b.held_bytes : a.number < b.number;
    }
  };
  using Places = std::set<Place, MostFirst>;
  /// What `place` holds now.
  void put(Places::iterator& place, std::uint64_t held_bytes);
  [[nodiscard]] MemoryStore* who_pays(MemoryStore& written) const;
  std::uint64_t limit_;
  std::uint64_t held_bytes_ = 0;
  std::uint64_t made_ = 0;  ///< stores so far
  Places places_;
};

/// The batches of a log with durability `memory`: no file, the oldest go when the budget is full,
/// or the room that it shares. Pure but for the memory it holds; lives with its PartitionLog.
class MemoryStore {
 public:
  MemoryStore(Offset start, std::uint64_t budget_bytes, std::shared_ptr<MemoryRoom> room);
  MemoryStore(const MemoryStore&) = delete;
  MemoryStore& operator=(const MemoryStore&) = delete;
  ~MemoryStore();
  struct Batch {
    SharedBytes bytes;
    Offset base;
    Offset next;
    std::int64_t append_ms = 0;  ///< by the server's clock
  };
  /// What a batch takes beside its bytes: its place here and among the timestamps, the header of
  /// its block, and what the allocator adds to both.
  static constexpr std::uint64_t kBookkeepingBytes = sizeof(Batch) + 96;
  /// Of `bytes()`.
  void set_budget(std::uint64_t bytes) { budget_ = bytes; }
  void append(SharedBytes bytes, const BatchHeader& header, std::int64_t append_ms);
  /// Index of the batch that holds `offset`, or the number of batches.
  [[nodiscard]] std::size_t find(Offset offset) const;
  [[nodiscard]] const std::deque<Batch>& batches() const { return batches_; }
  [[nodiscard]] Offset start() const { return start_; }
  /// Of the batches.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// With what they take beside.
  [[nodiscard]] std::uint64_t held_bytes() const {
    const std::uint64_t each = PYRALOG_PLANT("log.count_payload_only") ? 0 : kBookkeepingBytes;
    return bytes_ + batches_.size() * each;
  }
  /// The greatest timestamp of a record; −1 if there is none.
  [[nodiscard]] std::int64_t max_timestamp() const;
  /// Index of the first batch, from index `from` on, whose greatest timestamp is `timestamp` or
  /// later; the number of batches if there is none.
  [[nodiscard]] std::size_t find_timestamp(std::size_t from, std::int64_t timestamp) const {
    return times_.first_at_or_above(from, timestamp);
  }
  void truncate(Offset end);
  void drop_below(Offset offset);
  /// Drops the oldest batches while they were appended before `append_ms` and lie below `limit`.
  void drop_older(std::int64_t append_ms, Offset limit);
  /// Begins at `offset`, inside a batch too.
  void begin_at(Offset offset);

 private:
  void drop_front();
  /// Tells the room.
  void account() { room_->put(place_, held_bytes()); }
  std::deque<Batch> batches_;
  MaxWindow times_;  ///< the greatest timestamp of each
  Offset start_;
  std::uint64_t budget_;
  std::uint64_t bytes_ = 0;
  std::shared_ptr<MemoryRoom> room_;
  MemoryRoom::Places::iterator place_;
};

}  // namespace pyralog::log
