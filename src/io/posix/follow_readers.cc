#include "io/posix/follow_readers.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::io::posix {

namespace {
// Fewer bytes, and it matters little where they are sent.
constexpr double kLeastBytesPerSecond = 500e6;
// More processor time for a byte: the shard does other work, too, which need not be beside the reader.
constexpr double kMostNanosecondsPerByte = 0.25;
// Fewer of the bytes for one processor: readers are spread, and no place is near all of them.
constexpr double kLeastPart = 0.9;
}  // namespace

void FollowReaders::sent(int processor, std::uint64_t bytes) {
  at_rest_ = false;
  for (auto& [known, sum] : sent_) {
    if (known != processor) continue;
    sum += bytes;
    return;
  }
  sent_.emplace_back(processor, bytes);
}

std::optional<int> FollowReaders::place_of_readers(Duration lasted, Duration used) const {
  std::uint64_t sum = 0;
  std::pair<int, std::uint64_t> most{-1, 0};
  for (const auto& each : sent_) {
    sum += each.second;
    if (each.second > most.second) most = each;
  }
  const auto bytes = static_cast<double>(sum);
  const double seconds = std::chrono::duration<double>(lasted).count();
  if (most.first < 0 || bytes < kLeastBytesPerSecond * seconds) return std::nullopt;
  const bool other_work = static_cast<double>(used.count()) > kMostNanosecondsPerByte * bytes;
  if (other_work && !PYRALOG_PLANT("io.follow_while_busy")) return std::nullopt;
  const bool spread = static_cast<double>(most.second) < kLeastPart * bytes;
  if (spread && !PYRALOG_PLANT("io.follow_scattered_readers")) return std::nullopt;
  return most.first;
}

bool FollowedProcessors::join(int processor) {
  const bool before = taken_[static_cast<std::size_t>(processor)].exchange(true, std::memory_order_relaxed);
  return !before || PYRALOG_PLANT("io.all_follow_one_reader");
}

void FollowedProcessors::leave(int processor) {
  taken_[static_cast<std::size_t>(processor)].store(false, std::memory_order_relaxed);
}

std::optional<int> FollowReaders::end_period(Duration lasted, Duration used) {
  const std::optional<int> place = place_of_readers(lasted, used);
  at_rest_ = sent_.empty() && !following_;
  sent_.clear();
  if (following_) {
    if (place == following_) {
      if (++followed_ == kStayed) needed_ = kFirstPeriods;
      return following_;
    }
    // Readers that the system moves away as soon as somebody joins them are not chased.
    if (followed_ < kStayed) needed_ = std::min(needed_ * 2, kMostPeriods);
    following_.reset();
    candidate_.reset();
    alike_ = 0;
  }
  alike_ = !place ? 0 : place == candidate_ ? alike_ + 1 : 1;
  candidate_ = place;
  if (alike_ >= needed_) {
    following_ = place;
    followed_ = 0;
  }
  return following_;
}

}  // namespace pyralog::io::posix
