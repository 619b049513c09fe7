#include "io/posix/timers.h"

#include <algorithm>

namespace pyralog::io::posix {

Shard::TimerId Timers::add(Instant at, Shard::Job job) {
  std::uint32_t slot = 0;
  if (free_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  slots_[slot].job = std::move(job);
  heap_.push_back({at.ns, next_number_++, slot, slots_[slot].generation});
  std::push_heap(heap_.begin(), heap_.end());
  ++live_;
  return (Shard::TimerId{slots_[slot].generation} << 32U) | slot;
}

void Timers::free(std::uint32_t slot) {
  ++slots_[slot].generation;
  free_.push_back(slot);
  --live_;
}

void Timers::cancel(Shard::TimerId id) {
  const auto slot = static_cast<std::uint32_t>(id);
  if (slot >= slots_.size() || slots_[slot].generation != id >> 32U) return;
  const Shard::Job dropped = std::move(slots_[slot].job);
  free(slot);
  if (heap_.size() > 64 && heap_.size() > 2 * live_) compact();
}

void Timers::compact() {
  std::erase_if(heap_, [this](const Entry& entry) { return stale(entry); });
  std::make_heap(heap_.begin(), heap_.end());
}

void Timers::drop_stale_top() {
  while (!heap_.empty() && stale(heap_.front())) {
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
  }
}

Instant Timers::next() {
  drop_stale_top();
  return heap_.empty() ? Instant::never() : Instant{heap_.front().at};
}

Shard::Job Timers::take_due(Instant now) {
  if (next() > now || heap_.empty()) return {};
  const std::uint32_t slot = heap_.front().slot;
  std::pop_heap(heap_.begin(), heap_.end());
  heap_.pop_back();
  Shard::Job job = std::move(slots_[slot].job);
  slots_[slot].job = nullptr;
  free(slot);
  return job;
}

void Timers::clear() {
  std::vector<Shard::Job> dropped;  // their destructors may cancel other timers
  for (Slot& slot : slots_) {
    ++slot.generation;
    if (slot.job) dropped.push_back(std::exchange(slot.job, nullptr));
  }
  heap_.clear();
  free_.clear();
  slots_.clear();
  live_ = 0;
}

}  // namespace pyralog::io::posix
