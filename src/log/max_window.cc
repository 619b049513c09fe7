#include "log/max_window.h"

#include <algorithm>

#include "base/assert.h"
#include "base/plant.h"

namespace pyralog::log {

namespace {
constexpr std::uint64_t kBlock = 64;
}  // namespace

void MaxWindow::Level::note(std::uint64_t number, std::int64_t value) {
  if (number == end()) {
    values.push_back(value);
  } else {
    values.back() = std::max(values.back(), value);
  }
}

void MaxWindow::Level::pop_front() {
  ++head;
  ++first;
  // What is gone takes at most as much as what is there, and each is moved at most once for that.
  if (head < kBlock || head < values.size() - head) return;
  values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(head));
  head = 0;
  if (values.capacity() / 4 > values.size()) values.shrink_to_fit();
}

void MaxWindow::push_back(std::int64_t value) {
  std::uint64_t number = levels_.front().end();
  for (Level& level : levels_) {
    level.note(number, value);
    number /= kBlock;
  }
  if (levels_.back().size() <= kBlock) return;
  const Level& top = levels_.back();
  Level above;
  above.first = top.first / kBlock;
  for (std::uint64_t each = top.first; each < top.end(); ++each) {
    above.note(each / kBlock, top.at(each));
  }
  levels_.push_back(std::move(above));
}

void MaxWindow::pop_front() {
  PYRALOG_ASSERT(size() > 0);
  for (Level& level : levels_) {
    level.pop_front();
    if (level.first % kBlock != 0) break;  // the block above has others
  }
}

void MaxWindow::truncate(std::size_t count) {
  PYRALOG_ASSERT(count <= size());
  if (count == size()) return;
  levels_.front().values.resize(levels_.front().head + count);
  for (std::size_t l = 1; l < levels_.size(); ++l) {
    const Level& below = levels_[l - 1];
    Level& level = levels_[l];
    level.values.resize(level.head + ((below.end() + kBlock - 1) / kBlock - level.first));
    if (level.size() == 0 || PYRALOG_PLANT("log.keep_cut_times")) continue;
    const std::uint64_t last = level.end() - 1;
    std::int64_t max = INT64_MIN;
    for (std::uint64_t each = std::max(below.first, last * kBlock); each < below.end(); ++each) {
      max = std::max(max, below.at(each));
    }
    level.at(last) = max;
  }
}

template <typename Visit>
std::optional<MaxWindow::Found> MaxWindow::walk(std::uint64_t from, Visit visit) const {
  std::size_t l = 0;
  std::uint64_t number = from;
  while (number < levels_[l].end()) {
    if (number % kBlock == 0 && l + 1 < levels_.size() && !PYRALOG_PLANT("log.scan_memory_times")) {
      number /= kBlock;
      ++l;
      continue;
    }
    if (visit(levels_[l].at(number))) return Found{l, number};
    ++number;
  }
  return std::nullopt;
}

std::optional<std::int64_t> MaxWindow::max() const {
  if (size() == 0) return std::nullopt;
  std::int64_t max = INT64_MIN;
  (void)walk(levels_.front().first, [&max](std::int64_t value) {
    max = std::max(max, value);
    return false;
  });
  return max;
}

std::size_t MaxWindow::first_at_or_above(std::size_t from, std::int64_t bound) const {
  const std::uint64_t first = levels_.front().first;
  const auto found = walk(first + from, [bound](std::int64_t value) { return value >= bound; });
  if (!found) return size();
  auto [l, number] = *found;
  while (l > 0) {
    --l;
    number *= kBlock;
    while (levels_[l].at(number) < bound) {
      ++number;
      PYRALOG_ASSERT(number < levels_[l].end());
    }
  }
  return static_cast<std::size_t>(number - first);
}

}  // namespace pyralog::log
