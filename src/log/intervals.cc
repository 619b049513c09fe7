#include "log/intervals.h"

#include <algorithm>

namespace pyralog::log {

void Intervals::add(std::uint64_t from, std::uint64_t to) {
  if (from >= to) return;
  auto first = std::lower_bound(ranges_.begin(), ranges_.end(), from,
                                [](const Range& r, std::uint64_t v) { return r.to < v; });
  auto last = first;
  while (last != ranges_.end() && last->from <= to) {
    from = std::min(from, last->from);
    to = std::max(to, last->to);
    ++last;
  }
  first = ranges_.erase(first, last);
  ranges_.insert(first, Range{from, to});
}

std::uint64_t Intervals::covered_to(std::uint64_t from) const {
  const auto found = std::upper_bound(ranges_.begin(), ranges_.end(), from,
                                      [](std::uint64_t v, const Range& r) { return v < r.to; });
  return found != ranges_.end() && found->from <= from ? found->to : from;
}

bool Intervals::covers(std::uint64_t from, std::uint64_t to) const {
  return from >= to || covered_to(from) >= to;
}

void Intervals::remove(std::uint64_t from, std::uint64_t to) {
  if (from >= to) return;
  std::vector<Range> left;
  left.reserve(ranges_.size() + 1);
  for (const Range& range : ranges_) {
    if (range.from < from) left.push_back({range.from, std::min(range.to, from)});
    if (range.to > to) left.push_back({std::max(range.from, to), range.to});
  }
  ranges_ = std::move(left);
}

void Intervals::truncate(std::uint64_t end) {
  while (!ranges_.empty() && ranges_.back().from >= end) ranges_.pop_back();
  if (!ranges_.empty()) ranges_.back().to = std::min(ranges_.back().to, end);
}

}  // namespace pyralog::log
