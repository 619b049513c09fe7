#include "log/memory_store.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::log {

void MemoryRoom::put(Places::iterator& place, std::uint64_t held_bytes) {
  held_bytes_ = held_bytes_ - place->held_bytes + held_bytes;
  auto node = places_.extract(place);
  node.value().held_bytes = held_bytes;
  place = places_.insert(std::move(node)).position;
}

MemoryStore* MemoryRoom::who_pays(MemoryStore& written) const {
  // At a steady load whoever writes has its share: nobody else is looked at.
  if (written.batches().size() > 1 && written.held_bytes() >= held_bytes_ / places_.size()) {
    return &written;
  }
  // The first or the second: what holds anything has a batch.
  for (const Place& each : places_) {
    if (each.store->batches().size() > (each.store == &written ? 1U : 0U)) return each.store;
    if (each.store != &written) break;
  }
  return nullptr;
}

std::uint64_t MemoryRoom::make_room(MemoryStore& written) {
  std::uint64_t dropped = 0;
  while (held_bytes_ > limit_ && !PYRALOG_PLANT("log.memory_without_bound")) {
    MemoryStore* pays = who_pays(written);
    if (pays == nullptr) break;
    const std::uint64_t before = pays->bytes();
    pays->drop_below(pays->batches().front().next);
    dropped += before - pays->bytes();
  }
  return dropped;
}

MemoryStore::MemoryStore(Offset start, std::uint64_t budget_bytes, std::shared_ptr<MemoryRoom> room)
    : start_(start),
      budget_(budget_bytes),
      room_(std::move(room)),
      place_(room_->places_.insert(MemoryRoom::Place{0, room_->made_++, this}).first) {}

MemoryStore::~MemoryStore() {
  room_->held_bytes_ -= place_->held_bytes;
  room_->places_.erase(place_);
}

void MemoryStore::drop_front() {
  start_ = std::max(start_, batches_.front().next);
  bytes_ -= batches_.front().bytes.size();
  batches_.pop_front();
  times_.pop_front();
}

void MemoryStore::append(SharedBytes bytes, const BatchHeader& header, std::int64_t append_ms) {
  bytes_ += bytes.size();
  times_.push_back(header.max_timestamp);
  batches_.push_back(
      {std::move(bytes), Offset(header.base_offset), Offset(header.next_offset()), append_ms});
  while (bytes_ > budget_ && batches_.size() > 1) drop_front();
  account();
}

std::int64_t MemoryStore::max_timestamp() const {
  return std::max<std::int64_t>(times_.max().value_or(-1), -1);
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
  times_.truncate(batches_.size());
  account();
}

void MemoryStore::drop_below(Offset offset) {
  while (!batches_.empty() && batches_.front().next <= offset) drop_front();
  account();
}

void MemoryStore::drop_older(std::int64_t append_ms, Offset limit) {
  while (!batches_.empty() && batches_.front().append_ms <= append_ms &&
         batches_.front().next <= limit) {
    drop_front();
  }
  account();
}

void MemoryStore::begin_at(Offset offset) {
  drop_below(offset);
  start_ = std::max(start_, offset);
}

}  // namespace pyralog::log
