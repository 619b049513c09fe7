#include "replica/history.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/assert.h"

namespace pyralog::replica {

Result<History> History::make(Offset start, Offset end, std::vector<EpochStart> epochs) {
  const auto wrong = [&] {
    return fail(Code::kCorrupt, "history: " + std::to_string(epochs.size()) +
                                    " epochs do not describe a log from " +
                                    std::to_string(start.value) + " to " +
                                    std::to_string(end.value) + "; ask its owner again");
  };
  if (start.value < 0 || end < start) return wrong();
  // Of a log whose records are all gone it may be known which epoch comes next; it holds none.
  if (start == end) epochs.clear();
  for (std::size_t i = 0; i < epochs.size(); ++i) {
    if (epochs[i].epoch.value == 0 || epochs[i].start.value < 0 || epochs[i].start >= end) {
      return wrong();
    }
    if (i == 0) continue;
    if (epochs[i].epoch <= epochs[i - 1].epoch || epochs[i].start <= epochs[i - 1].start) {
      return wrong();
    }
  }
  if (start != end && (epochs.empty() || epochs.front().start > start)) return wrong();
  History made(start);
  made.end_ = end;
  if (start != end) made.epochs_ = std::move(epochs);
  made.trim(start);
  return made;
}

Epoch History::before(Offset offset) const {
  if (offset <= start_ || offset > end_) return Epoch(0);
  const auto after = std::ranges::lower_bound(epochs_, offset, {}, &EpochStart::start);
  return std::prev(after)->epoch;
}

EpochTail History::end_of(Epoch epoch) const {
  const auto after = std::ranges::upper_bound(epochs_, epoch, {}, &EpochStart::epoch);
  if (after == epochs_.begin()) return {Epoch(0), start_};
  return {std::prev(after)->epoch, after == epochs_.end() ? end_ : after->start};
}

std::vector<EpochStart> History::runs(Offset from, Offset to) const {
  PYRALOG_ASSERT(start_ <= from && from <= to && to <= end_);
  if (from == to) return {};
  auto first = std::ranges::upper_bound(epochs_, from, {}, &EpochStart::start);
  const auto last = std::ranges::lower_bound(epochs_, to, {}, &EpochStart::start);
  std::vector<EpochStart> found{{std::prev(first)->epoch, from}};
  found.insert(found.end(), first, last);
  return found;
}

bool History::follows(std::span<const EpochStart> runs, Offset to) const {
  if (runs.empty() || to <= end_) return runs.empty() && to == end_;
  if (runs.front().start != end_ || runs.front().epoch < last() || runs.front().epoch.value == 0) {
    return false;
  }
  for (std::size_t i = 1; i < runs.size(); ++i) {
    if (runs[i].epoch <= runs[i - 1].epoch || runs[i].start <= runs[i - 1].start) return false;
  }
  return runs.back().start < to;
}

void History::append(std::span<const EpochStart> runs, Offset to) {
  PYRALOG_ASSERT(follows(runs, to));
  for (const EpochStart& run : runs) {
    if (epochs_.empty() || epochs_.back().epoch != run.epoch) epochs_.push_back(run);
  }
  end_ = to;
}

void History::append(Epoch epoch, Offset to) {
  const EpochStart run{epoch, end_};
  append({&run, 1}, to);
}

void History::truncate(Offset to) {
  PYRALOG_ASSERT(start_ <= to && to <= end_);
  end_ = to;
  while (!epochs_.empty() && (epochs_.back().start >= to || to == start_)) epochs_.pop_back();
}

void History::trim(Offset start) {
  PYRALOG_ASSERT(start_ <= start && start <= end_);
  start_ = start;
  if (start_ == end_) {
    epochs_.clear();
    return;
  }
  const auto kept = std::ranges::upper_bound(epochs_, start, {}, &EpochStart::start);
  if (kept != epochs_.begin()) epochs_.erase(epochs_.begin(), std::prev(kept));
}

Offset agreed_end(const History& a, const History& b) {
  const Offset from = std::max(a.start(), b.start());
  Offset at = std::min(a.end(), b.end());
  // Of two epochs at one offset the log with the smaller has no record of the greater below it:
  // each round leaves one epoch behind.
  while (at > from) {
    const Epoch mine = a.before(at);
    const Epoch other = b.before(at);
    if (mine == other) return at;
    const History& greater = mine > other ? a : b;
    at = greater.end_of(Epoch(std::max(mine, other).value - 1)).end;
  }
  return from;
}

}  // namespace pyralog::replica
