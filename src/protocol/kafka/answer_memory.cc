#include "protocol/kafka/answer_memory.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::protocol::kafka {

void AnswerMemory::Hold::release() {
  AnswerMemory* memory = std::exchange(memory_, nullptr);
  const std::size_t bytes = std::exchange(bytes_, 0);
  // In a teardown the memory may have gone first.
  if (memory == nullptr || io::Shard::tearing_down()) return;
  memory->used_ -= bytes;
  memory->freed_.wake_all();
}

std::size_t AnswerMemory::wanted(std::int16_t api) { return std::min(expected_[api], limit_ / 2); }

io::Task<AnswerMemory::Hold> AnswerMemory::begin(std::int16_t api) {
  const auto known = expected_.find(api);
  if (known == expected_.end() || known->second <= kSmall) co_return Hold();
  const auto guard = co_await turn_.lock();
  // Looked at anew: while it waits, it may be found that they are larger, or not so large.
  const Instant last = io::Shard::current().now() + kLongestWait;
  while (used_ + wanted(api) > limit_ && !PYRALOG_PLANT("kafka.unbounded_answers")) {
    if (!co_await freed_.wait(last)) break;
  }
  used_ += wanted(api);
  co_return Hold(this, wanted(api));
}

void AnswerMemory::settle(Hold& hold, std::int16_t api, std::size_t bytes) {
  std::size_t& expected = expected_[api];
  expected = std::max(bytes, expected - expected / 8);
  if (bytes <= kSmall) return hold.release();
  if (hold.memory_ == nullptr) hold = Hold(this, 0);
  used_ = used_ - hold.bytes_ + bytes;
  const bool less = bytes < hold.bytes_;
  hold.bytes_ = bytes;
  if (less) freed_.wake_all();
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
