#include "protocol/kafka/request_memory.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::protocol::kafka {

namespace {

constexpr std::size_t kMostForSmall = 8u << 20;
/// Requests that cannot go on and are tried nevertheless when memory comes back: who lacks least is
/// first, so it is mostly the first one that can.
constexpr int kTries = 4;

std::size_t for_small(std::size_t limit) { return std::min(kMostForSmall, limit / 8); }

}  // namespace

RequestMemory::RequestMemory(std::size_t limit_bytes) : limit_(limit_bytes) {
  parts_[0].limit = for_small(limit_bytes);
  parts_[1].limit = limit_bytes / 4;
  parts_[2].limit = largest(limit_bytes);
}

std::size_t RequestMemory::largest(std::size_t limit_bytes) {
  return limit_bytes - limit_bytes / 4 - for_small(limit_bytes);
}

/// An ordinary request is one of which two fit.
std::size_t RequestMemory::part_of(std::size_t whole) const {
  if (PYRALOG_PLANT("kafka.small_behind_large")) return 2;
  if (whole <= std::min(kSmall, parts_[0].limit)) return 0;
  if (whole <= parts_[1].limit / 2 && !PYRALOG_PLANT("kafka.ordinary_behind_large")) return 1;
  return 2;
}

std::size_t RequestMemory::used() const {
  return parts_[0].used + parts_[1].used + parts_[2].used;
}

void RequestMemory::Holder::leave() {
  if (std::exchange(left_, true) || waiting_ == nullptr) return;
  memory_.take_out(*waiting_);
  waiting_->changed.wake_all();
}

void RequestMemory::Hold::release() {
  RequestMemory* memory = std::exchange(memory_, nullptr);
  // In a teardown the memory may have gone first.
  if (memory == nullptr || io::Shard::tearing_down()) return;
  Entry& entry = *at_;
  Part& part = *entry.part;
  Holder& holder = *entry.holder;
  if (entry.arriving()) {
    part.arriving.erase(entry.order());
    part.arriving_held -= entry.held;
  }
  part.used -= entry.held;
  part.wholes -= entry.whole;
  holder.held_ -= entry.held;
  memory->entries_.erase(at_);
  memory->count(holder);
  memory->serve(part);
}

void RequestMemory::count(Holder& holder) {
  const bool counts = holder.held_ > 0 || holder.waiting_ != nullptr;
  if (counts == holder.counted_) return;
  holder.counted_ = counts;
  counts ? ++counting_ : --counting_;
}

/// Whether all that is held then is within the limit, and the requests that are still arriving can
/// get the rest of what they need: the one that lacks least first, the next with what that one
/// gives back, and so on. Requests that are there are answered in any case.
bool RequestMemory::fits(const Part& part, const Entry& entry, std::size_t bytes) {
  if (bytes - entry.held > part.limit - part.used) {
    return PYRALOG_PLANT("kafka.unbounded_requests");
  }
  if (part.wholes <= part.limit) return true;  // nearly always: there is room for everybody
  if (PYRALOG_PLANT("kafka.requests_in_a_circle")) return true;
  Entry then = entry;
  then.held = bytes;
  std::size_t free = part.limit - part.arriving_held;
  if (entry.arriving()) free += entry.held;
  if (then.arriving()) free -= bytes;
  bool counted = !then.arriving();
  for (const auto& [order, each] : part.arriving) {
    if (each == &entry) continue;
    if (!counted && then.order() < order) {
      if (then.whole - bytes > free) return false;
      free += bytes;
      counted = true;
    }
    // Nobody lacks more than the last one.
    if (counted && part.arriving.rbegin()->first.first <= free) return true;
    if (order.first > free) return false;
    free += each->held;
  }
  return counted || then.whole - bytes <= free;
}

bool RequestMemory::try_grant(Entry& entry, std::size_t bytes) {
  Part& part = *entry.part;
  if (!fits(part, entry, bytes)) return false;
  if (entry.arriving()) {
    part.arriving.erase(entry.order());
    part.arriving_held -= entry.held;
  }
  part.used += bytes - entry.held;
  entry.holder->held_ += bytes - entry.held;
  entry.held = bytes;
  if (entry.arriving()) {
    part.arriving.emplace(entry.order(), &entry);
    part.arriving_held += bytes;
  }
  count(*entry.holder);
  return true;
}

bool RequestMemory::try_lend(Entry& entry) {
  Part& own = *entry.part;
  for (Part* part = &own + 1; part != parts_.data() + parts_.size(); ++part) {
    if (part->waited_for()) continue;
    own.wholes -= entry.whole;
    part->wholes += entry.whole;
    entry.part = part;
    // All at once: it shall not wait there behind larger ones.
    if (try_grant(entry, entry.whole)) return true;
    part->wholes -= entry.whole;
    own.wholes += entry.whole;
    entry.part = &own;
  }
  return false;
}

bool RequestMemory::is_fair(const Waiter& waiter) const {
  const Holder& holder = *waiter.entry->holder;
  return holder.held_ == 0 || PYRALOG_PLANT("kafka.unfair_requests") ||
         holder.held_ + waiter.bytes <= limit_ / std::max<std::size_t>(counting_, 1);
}

void RequestMemory::take_out(Waiter& waiter) {
  if (!std::exchange(waiter.queued, false)) return;
  Part& part = *waiter.entry->part;
  if (waiter.entry->held > 0) {
    part.growing.erase(waiter.entry->order());
  } else {
    std::erase(part.fresh, &waiter);
  }
}

void RequestMemory::grant(Waiter& waiter) {
  waiter.queued = false;
  waiter.granted = true;
  waiter.changed.wake_all();
}

void RequestMemory::serve_growing(Part& part) {
  int refused = 0;
  for (auto at = part.growing.begin(); at != part.growing.end() && refused < kTries;) {
    Waiter& waiter = *at->second;
    if (!try_grant(*waiter.entry, waiter.bytes)) {
      ++refused;
      ++at;
      continue;
    }
    at = part.growing.erase(at);
    grant(waiter);
  }
}

void RequestMemory::serve_fresh(Part& part, bool fair) {
  for (auto at = part.fresh.begin(); at != part.fresh.end();) {
    Waiter& waiter = **at;
    if (is_fair(waiter) != fair) {
      ++at;
      continue;
    }
    const bool own = part.growing.empty() && try_grant(*waiter.entry, waiter.bytes);
    if (!own && !try_lend(*waiter.entry)) break;
    at = part.fresh.erase(at);
    grant(waiter);
  }
}

/// What has begun goes on before anything new begins; then first come, first served, but for those
/// who have their fair part already. What is left is for smaller ones.
void RequestMemory::serve(Part& part) {
  serve_growing(part);
  const auto is_first = [this](const Waiter* each) { return is_fair(*each); };
  for (Part* each = &part;; --each) {
    serve_fresh(*each, true);
    if (std::ranges::none_of(each->fresh, is_first)) serve_fresh(*each, false);
    if (each->waited_for() || each == parts_.data()) break;
  }
}

io::Task<bool> RequestMemory::wait_for(Entry& entry, std::size_t bytes, Instant deadline) {
  const Instant begun = io::Shard::current().now();
  Holder& holder = *entry.holder;
  Waiter waiter{&entry, bytes};
  if (entry.held > 0) {
    entry.part->growing.emplace(entry.order(), &waiter);
  } else {
    entry.part->fresh.push_back(&waiter);
  }
  holder.waiting_ = &waiter;
  count(holder);
  static_cast<void>(co_await waiter.changed.wait(deadline));
  holder.waiting_ = nullptr;
  count(holder);
  waits_.add(io::Shard::current().now() - begun);
  if (waiter.granted) co_return true;
  take_out(waiter);
  serve(*entry.part);  // it may have been in the way
  co_return false;
}

io::Task<RequestMemory::Hold> RequestMemory::begin(Holder& holder, std::size_t whole,
                                                   std::size_t now, Instant deadline) {
  Hold hold;
  if (holder.left_) co_return hold;
  const std::size_t index = part_of(whole);
  Part& part = parts_[index];
  whole = std::min(whole, part.limit);
  now = index == 0 ? whole : std::min(now, whole);
  hold.memory_ = this;
  hold.at_ = entries_.insert(entries_.end(), Entry{&part, &holder, next_++, 0, whole});
  part.wholes += whole;
  Entry& entry = *hold.at_;
  if (part.fresh.empty()) {
    if (part.growing.empty() && try_grant(entry, now)) co_return hold;
    if (try_lend(entry)) co_return hold;
  }
  if (!co_await wait_for(entry, now, deadline)) hold.release();
  co_return hold;
}

io::Task<bool> RequestMemory::grow(Hold& hold, std::size_t bytes, Instant deadline) {
  if (hold.memory_ == nullptr) co_return false;
  Entry& entry = *hold.at_;
  bytes = std::min(bytes, entry.whole);
  if (bytes <= entry.held || try_grant(entry, bytes)) co_return true;
  if (entry.holder->left_) co_return false;
  co_return co_await wait_for(entry, bytes, deadline);
}

bool RequestMemory::is_wanted(const Hold& hold) const {
  // Smaller ones wait for it too, where they have used up their own.
  const auto waited_for = [](const Part& part) { return part.waited_for(); };
  const Part* first = parts_.data();
  const Part* own = hold ? hold.at_->part : nullptr;
  return hold && std::any_of(first, own + 1, waited_for);
}

}  // namespace pyralog::protocol::kafka
