#include "log/memory_store.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::log {

MemoryStore* MemoryRoom::who_pays(MemoryStore& written) const {
  // At a steady load whoever writes has its share: nobody else is looked at.
  if (written.batches().size() > 1 && written.bytes() >= bytes_ / stores_.size()) return &written;
  MemoryStore* most = nullptr;
  for (MemoryStore* each : stores_) {
    if (each->batches().size() <= (each == &written ? 1U : 0U)) continue;
    if (most == nullptr || each->bytes() > most->bytes()) most = each;
  }
  return most;
}

std::uint64_t MemoryRoom::make_room(MemoryStore& written) {
  const std::uint64_t before = bytes_;
  while (bytes_ > limit_ && !PYRALOG_PLANT("log.memory_without_bound")) {
    MemoryStore* pays = who_pays(written);
    if (pays == nullptr) break;
    pays->drop_below(pays->batches().front().next);
  }
  return before - bytes_;
}

MemoryStore::MemoryStore(Offset start, std::uint64_t budget_bytes, std::shared_ptr<MemoryRoom> room)
    : start_(start), budget_(budget_bytes), room_(std::move(room)) {
  room_->stores_.push_back(this);
}

MemoryStore::~MemoryStore() {
  room_->bytes_ -= bytes_;
  std::erase(room_->stores_, this);
}

void MemoryStore::lose(const Batch& batch) {
  bytes_ -= batch.bytes.size();
  room_->bytes_ -= batch.bytes.size();
}

void MemoryStore::append(SharedBytes bytes, const BatchHeader& header, std::int64_t append_ms) {
  bytes_ += bytes.size();
  room_->bytes_ += bytes.size();
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
    lose(batches_.back());
    batches_.pop_back();
  }
}

void MemoryStore::drop_below(Offset offset) {
  while (!batches_.empty() && batches_.front().next <= offset) {
    start_ = std::max(start_, batches_.front().next);
    lose(batches_.front());
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
