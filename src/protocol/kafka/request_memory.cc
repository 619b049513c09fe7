#include "protocol/kafka/request_memory.h"

#include <algorithm>
#include <vector>

#include "base/plant.h"

namespace pyralog::protocol::kafka {

void RequestMemory::Hold::release() {
  small_.release();
  RequestMemory* memory = std::exchange(memory_, nullptr);
  // In a teardown the memory may have gone first.
  if (memory == nullptr || io::Shard::tearing_down()) return;
  memory->used_ -= at_->held;
  memory->wholes_ -= at_->whole;
  memory->entries_.erase(at_);
  memory->serve();
}

/// Whether all that is held then is within the limit, and the requests that are still arriving can
/// get the rest of what they need: the one that lacks least first, the next with what that one
/// gives back, and so on. Requests that are there are answered in any case.
bool RequestMemory::fits(const Entry& entry, std::size_t bytes) const {
  if (wholes_ <= limit_) return true;  // nearly always: there is room for everybody
  if (bytes - entry.held > limit_ - used_) return PYRALOG_PLANT("kafka.unbounded_requests");
  std::vector<std::pair<std::size_t, std::size_t>> arriving;  // lacks, holds
  std::size_t free = limit_;
  for (const Entry& each : entries_) {
    const std::size_t held = &each == &entry ? bytes : each.held;
    if (held == 0 || held == each.whole) continue;
    arriving.emplace_back(each.whole - held, held);
    free -= held;
  }
  if (PYRALOG_PLANT("kafka.requests_in_a_circle")) return true;
  std::ranges::sort(arriving);
  for (const auto& [lacks, holds] : arriving) {
    if (lacks > free) return false;
    free += holds;
  }
  return true;
}

bool RequestMemory::try_grant(Entry& entry, std::size_t bytes) {
  if (!fits(entry, bytes)) return false;
  used_ += bytes - entry.held;
  entry.held = bytes;
  return true;
}

/// First come, first served, but what has begun goes on before anything new begins.
void RequestMemory::serve() {
  bool blocked = false;
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    Waiter& waiter = **at;
    const bool may = !blocked || waiter.entry->held > 0;
    if (may && try_grant(*waiter.entry, waiter.bytes)) {
      waiter.granted = true;
      at = waiting_.erase(at);
      continue;
    }
    blocked = true;
    ++at;
  }
  granted_.wake_all();
}

io::Task<void> RequestMemory::wait_for(Entry& entry, std::size_t bytes) {
  Waiter waiter{&entry, bytes};
  waiting_.push_back(&waiter);
  while (!waiter.granted) co_await granted_.wait(Instant::never());
}

io::Task<RequestMemory::Hold> RequestMemory::begin(std::size_t whole, std::size_t now) {
  const bool small = whole <= kSmall && !PYRALOG_PLANT("kafka.small_behind_large");
  whole = std::min(whole, limit_);
  now = small ? whole : std::min(now, whole);
  Hold hold;
  hold.memory_ = this;
  hold.at_ = entries_.insert(entries_.end(), Entry{0, whole});
  wholes_ += whole;
  if (waiting_.empty() && try_grant(*hold.at_, now)) co_return hold;
  if (small) {
    hold.release();
    hold.small_ = co_await reserve_.take(whole);
    co_return hold;
  }
  co_await wait_for(*hold.at_, now);
  co_return hold;
}

io::Task<void> RequestMemory::grow(Hold& hold, std::size_t bytes) {
  if (hold.memory_ == nullptr) co_return;
  Entry& entry = *hold.at_;
  bytes = std::min(bytes, entry.whole);
  if (bytes <= entry.held || try_grant(entry, bytes)) co_return;
  co_await wait_for(entry, bytes);
}

}  // namespace pyralog::protocol::kafka
