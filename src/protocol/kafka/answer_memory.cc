#include "protocol/kafka/answer_memory.h"

#include <algorithm>

#include "base/assert.h"
#include "base/plant.h"

namespace pyralog::protocol::kafka {

namespace {
/// What an answer is taken to come to before one of its kind has been seen.
constexpr std::size_t kUnknown = 1u << 20;
constexpr std::size_t kMostSmall = 1u << 20;
}  // namespace

AnswerMemory::AnswerMemory(std::size_t limit_bytes)
    : limit_(limit_bytes),
      reserve_(limit_bytes / 4),
      minimum_(std::min(kSmall, reserve_)),
      small_(std::clamp(limit_bytes / 64, minimum_, std::max(minimum_, kMostSmall))) {}

AnswerMemory::Holder::~Holder() {
  if (io::Shard::tearing_down()) return;
  PYRALOG_ASSERT(!counts());
}

void AnswerMemory::Holder::leave() {
  if (std::exchange(left_, true) || PYRALOG_PLANT("kafka.places_of_those_who_left")) return;
  if (waiting_ == 0) return;
  for (Queue* queue : {&memory_.small_waiting_, &memory_.large_waiting_}) {
    for (auto at = queue->begin(); at != queue->end();) {
      Waiter* waiter = *at;
      if (waiter->holder != this) {
        ++at;
        continue;
      }
      at = queue->erase(at);
      memory_.put_waiting(*this, waiting_ - 1);
      waiter->changed.wake_all();
    }
  }
  memory_.serve();
}

void AnswerMemory::Hold::release() {
  Holder* holder = std::exchange(holder_, nullptr);
  const std::size_t bytes = std::exchange(bytes_, 0);
  // In a teardown the memory may have gone first.
  if (holder == nullptr || io::Shard::tearing_down()) return;
  holder->memory_.give_back(*holder, bytes, small_);
}

void AnswerMemory::Hold::resize(std::size_t bytes) {
  PYRALOG_ASSERT(holder_ != nullptr);
  if (bytes == 0) return release();
  AnswerMemory& memory = holder_->memory_;
  if (bytes > bytes_) {
    memory.add(*holder_, bytes - bytes_, small_);
  } else if (bytes < bytes_) {
    memory.give_back(*holder_, bytes_ - bytes, small_);
  }
  bytes_ = bytes;
}

void AnswerMemory::add(Holder& holder, std::size_t bytes, bool small) {
  const bool counted = holder.counts();
  (small ? small_used_ : large_used_) += bytes;
  holder.held_ += bytes;
  if (!counted && holder.counts()) ++counting_;
}

void AnswerMemory::give_back(Holder& holder, std::size_t bytes, bool small) {
  const bool counted = holder.counts();
  (small ? small_used_ : large_used_) -= bytes;
  holder.held_ -= bytes;
  if (counted && !holder.counts()) --counting_;
  serve();
}

void AnswerMemory::put_waiting(Holder& holder, std::size_t waiting) {
  const bool counted = holder.counts();
  holder.waiting_ = waiting;
  if (!counted && holder.counts()) ++counting_;
  if (counted && !holder.counts()) --counting_;
}

bool AnswerMemory::is_small(std::size_t bytes) const {
  return bytes <= small_ && !PYRALOG_PLANT("kafka.small_answers_have_no_reserve");
}

/// What large answers may still take; small ones that go beyond their reserve take it from them.
std::size_t AnswerMemory::large_room() const {
  const std::size_t taken = large_used_ + (small_used_ - std::min(small_used_, reserve_));
  const std::size_t all = limit_ - reserve_;
  return all - std::min(all, taken);
}

bool AnswerMemory::fits(std::size_t bytes, bool small) const {
  if (PYRALOG_PLANT("kafka.unbounded_answers")) return true;
  if (!small) return bytes <= large_room();
  if (small_used_ + bytes <= reserve_) return true;
  // What is free beyond the reserve is for a large one, if one waits for it.
  return large_waiting_.empty() && used() + bytes <= limit_;
}

std::size_t AnswerMemory::fair_part(const Holder& holder) const {
  const std::size_t others = counting_ - (holder.counts() ? 1 : 0);
  return std::max(minimum_, limit_ / (others + 1));
}

bool AnswerMemory::is_fair(const Holder& holder, std::size_t bytes) const {
  return holder.held_ == 0 || holder.held_ + bytes <= fair_part(holder) ||
         PYRALOG_PLANT("kafka.unfair_answers");
}

void AnswerMemory::serve() {
  for (Queue* queue : {&small_waiting_, &large_waiting_}) {
    for (auto at = queue->begin(); at != queue->end();) {
      Waiter& waiter = **at;
      if (!fits(waiter.bytes, waiter.small)) break;
      if (!is_fair(*waiter.holder, waiter.bytes)) {
        ++at;  // it waits for its own client
        continue;
      }
      at = queue->erase(at);
      add(*waiter.holder, waiter.bytes, waiter.small);
      put_waiting(*waiter.holder, waiter.holder->waiting_ - 1);
      waiter.granted = true;
      waiter.changed.wake_all();
    }
  }
}

io::Task<AnswerMemory::Hold> AnswerMemory::take(Holder& holder, std::size_t bytes,
                                                Instant deadline) {
  const bool small = is_small(bytes);
  bytes = std::min(bytes, small ? reserve_ : limit_ - reserve_);
  if (holder.left()) co_return Hold();
  if (queue(small).empty() && fits(bytes, small) && is_fair(holder, bytes)) {
    add(holder, bytes, small);
    co_return Hold(&holder, bytes, small);
  }
  Waiter waiter{&holder, bytes, small};
  queue(small).push_back(&waiter);
  put_waiting(holder, holder.waiting_ + 1);
  const Instant begun = io::Shard::current().now();
  // Woken when it was granted, or the client has left.
  const bool woken = co_await waiter.changed.wait(deadline);
  waits_.add(io::Shard::current().now() - begun);
  if (waiter.granted) co_return Hold(&holder, bytes, small);
  if (!woken && std::erase(queue(small), &waiter) > 0) {
    put_waiting(holder, holder.waiting_ - 1);
    serve();  // it may have been in the way
  }
  co_return Hold();
}

AnswerMemory::Hold AnswerMemory::take_some(Holder& holder, std::size_t wanted) {
  const std::size_t fair = fair_part(holder);
  // Who waits is first: its answer has to leave before this one.
  if (holder.left() || holder.waiting_ > 0 || wanted == 0) return {};
  std::size_t most = wanted;
  if (!PYRALOG_PLANT("kafka.unfair_answers")) {
    if (holder.held_ >= fair) return {};
    most = std::min(most, fair - holder.held_);
  }
  const std::size_t free = limit_ - std::min(limit_, used());
  const std::size_t large = std::min({most, (free + 3) / 4, large_room()});
  if (large > minimum_ && large_waiting_.empty()) {
    add(holder, large, false);
    return {&holder, large, false};
  }
  const std::size_t least = std::min(most, minimum_);
  if (!is_small(least) || !small_waiting_.empty() || !fits(least, true)) return {};
  add(holder, least, true);
  return {&holder, least, true};
}

std::size_t AnswerMemory::wanted(std::int16_t api, std::size_t least) {
  const auto known = expected_.find(api);
  const std::size_t expected = known == expected_.end() ? kUnknown : known->second;
  return std::max(least, expected);
}

io::Task<AnswerMemory::Hold> AnswerMemory::begin(Holder& holder, std::int16_t api,
                                                 std::size_t least) {
  const std::size_t bytes = wanted(api, least);
  if (bytes <= kSmall) co_return Hold();
  co_return co_await take(holder, bytes, Instant::never());
}

bool AnswerMemory::settle(Holder& holder, Hold& hold, std::int16_t api, std::size_t bytes) {
  const bool all = hold.bytes() >= std::min(bytes, limit_ - reserve_);
  if (bytes > kSmall && !all && !fits(bytes - std::min(bytes, hold.bytes()), false)) {
    expected_[api] = std::max(expected_[api], bytes);
    return false;
  }
  settle_anyway(holder, hold, api, bytes);
  return true;
}

void AnswerMemory::settle_anyway(Holder& holder, Hold& hold, std::int16_t api, std::size_t bytes) {
  std::size_t& expected = expected_[api];
  expected = std::max(bytes, expected - expected / 8);
  if (bytes <= kSmall) return hold.release();
  if (!hold) hold = Hold(&holder, 0, is_small(bytes));
  hold.resize(bytes);
}

Result<void> AnswerRoom::take(std::size_t bytes) {
  if (bytes > left_ && !PYRALOG_PLANT("kafka.answers_without_end")) {
    return fail(Code::kTooLarge,
                "the answer would take more memory than queued.max.response.bytes allows; ask for less at "
                "a time");
  }
  left_ -= std::min(bytes, left_);
  return {};
}

}  // namespace pyralog::protocol::kafka
