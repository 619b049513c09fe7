#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "log/segment.h"
#include "model/fundamental.h"
#include "model/record_batch.h"

namespace pyralog::log {

class MemoryStore;

/// What the logs in memory of one shard hold together. Beyond the limit the oldest batches go: of the
/// log that is being written to, if it has more than its share, else of the one that has most.
class MemoryRoom {
 public:
  explicit MemoryRoom(std::uint64_t limit_bytes) : limit_(limit_bytes) {}
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t limit() const { return limit_; }
  /// Lets go of what is too much, but never of the newest batch of `written`; returns its bytes.
  std::uint64_t make_room(MemoryStore& written);

 private:
  friend class MemoryStore;
  [[nodiscard]] MemoryStore* who_pays(MemoryStore& written) const;
  std::uint64_t limit_;
  std::uint64_t bytes_ = 0;
  std::vector<MemoryStore*> stores_;
};

/// The batches of a log with durability `memory`: no file, the oldest go when the budget is full, or
/// the room that it shares. Pure but for the memory it holds; lives with its PartitionLog.
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
    std::int64_t max_timestamp = -1;
    std::int64_t append_ms = 0;  ///< by the server's clock
  };
  void set_budget(std::uint64_t bytes) { budget_ = bytes; }
  void append(SharedBytes bytes, const BatchHeader& header, std::int64_t append_ms);
  /// Index of the batch that holds `offset`, or the number of batches.
  [[nodiscard]] std::size_t find(Offset offset) const;
  [[nodiscard]] const std::deque<Batch>& batches() const { return batches_; }
  [[nodiscard]] Offset start() const { return start_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  void truncate(Offset end);
  void drop_below(Offset offset);
  /// Drops the oldest batches while they were appended before `append_ms` and lie below `limit`.
  void drop_older(std::int64_t append_ms, Offset limit);
  /// Begins at `offset`, inside a batch too.
  void begin_at(Offset offset);

 private:
  void lose(const Batch& batch);
  std::deque<Batch> batches_;
  Offset start_;
  std::uint64_t budget_;
  std::uint64_t bytes_ = 0;
  std::shared_ptr<MemoryRoom> room_;
};

}  // namespace pyralog::log
