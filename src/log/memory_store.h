#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/bytes.h"
#include "log/segment.h"
#include "model/fundamental.h"
#include "model/record_batch.h"

namespace pyralog::log {

/// The batches of a log with durability `memory`: no file, the oldest go when the budget is full.
/// Pure but for the memory it holds; lives with its PartitionLog.
class MemoryStore {
 public:
  MemoryStore(Offset start, std::uint64_t budget_bytes) : start_(start), budget_(budget_bytes) {}
  struct Batch {
    SharedBytes bytes;
    Offset base;
    Offset next;
    std::int64_t max_timestamp = -1;
  };
  void set_budget(std::uint64_t bytes) { budget_ = bytes; }
  void append(SharedBytes bytes, const BatchHeader& header);
  /// Index of the batch that holds `offset`, or the number of batches.
  [[nodiscard]] std::size_t find(Offset offset) const;
  [[nodiscard]] const std::deque<Batch>& batches() const { return batches_; }
  [[nodiscard]] Offset start() const { return start_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  void truncate(Offset end);
  void drop_below(Offset offset);

 private:
  std::deque<Batch> batches_;
  Offset start_;
  std::uint64_t budget_;
  std::uint64_t bytes_ = 0;
};

}  // namespace pyralog::log
