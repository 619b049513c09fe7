#include "log/memory_store.h"

#include <algorithm>

namespace pyralog::log {

void MemoryStore::append(SharedBytes bytes, const BatchHeader& header, std::int64_t append_ms) {
  bytes_ += bytes.size();
  batches_.push_back({std::move(bytes), Offset(header.base_offset), Offset(header.next_offset()),
                      header.max_timestamp, append_ms});
  while (bytes_ > budget_ && batches_.size() > 1) drop_below(batches_.front().next);
}

std::size_t MemoryStore::find(Offset offset) const {
  const auto found = std::upper_bound(batches_.begin(), batches_.end(), offset,
                                      [](Offset o, const Batch& b) { return o < b.next; });
  return static_cast<std::size_t>(found - batches_.begin());
}

void MemoryStore::truncate(Offset end) {
  while (!batches_.empty() && batches_.back().base >= end) {
    bytes_ -= batches_.back().bytes.size();
    batches_.pop_back();
  }
}

void MemoryStore::drop_below(Offset offset) {
  while (!batches_.empty() && batches_.front().next <= offset) {
    start_ = std::max(start_, batches_.front().next);
    bytes_ -= batches_.front().bytes.size();
    batches_.pop_front();
  }
}

void MemoryStore::drop_older(std::int64_t append_ms, Offset limit) {
  while (!batches_.empty() && batches_.front().append_ms <= append_ms &&
         batches_.front().next <= limit) {
    drop_below(batches_.front().next);
  }
}

void MemoryStore::begin_at(Offset offset) {
  drop_below(offset);
  start_ = std::max(start_, offset);
}

}  // namespace pyralog::log
