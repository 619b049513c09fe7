#include "raft/entry_log.h"

#include <algorithm>

#include "base/assert.h"
#include "base/plant.h"

namespace pyralog::raft {

EntryLog::EntryLog(SnapshotMark snapshot, std::vector<Entry> entries, Index committed)
    : snapshot_(std::move(snapshot)),
      before_(snapshot_.index),
      before_term_(snapshot_.term),
      stored_(snapshot_.index.value + entries.size()),
      durable_(stored_),
      committed_(std::max(committed, snapshot_.index)),
      handed_out_(snapshot_.index),
      applied_(snapshot_.index) {
  for (auto& entry : entries) {
    PYRALOG_ASSERT(entry.index.value == last().value + 1);
    entries_.push_back(std::move(entry));
  }
  PYRALOG_ASSERT(committed_ <= last());
  // A crash may have kept entries and not what came with them, how far they are committed. But a
  // change of the group is appended only once the one before it has been applied.
  bool later = false;
  for (Index i = last(); i > committed_ && !PYRALOG_PLANT("raft.forget_what_changes_say");
       i = Index(i.value - 1)) {
    if (at(i).kind != EntryKind::kConfig) continue;
    if (later) committed_ = i;
    later = true;
  }
}

const Entry& EntryLog::at(Index index) const {
  PYRALOG_ASSERT(index >= first() && index <= last());
  return entries_[index.value - first().value];
}

std::optional<Term> EntryLog::term_of(Index index) const {
  if (index == before_) return before_term_;
  if (index < first() || index > last()) return std::nullopt;
  return at(index).term;
}

bool EntryLog::is_up_to_date(Index index, Term term) const {
  if (PYRALOG_PLANT("raft.vote_for_any_log")) return true;
  return term > last_term() || (term == last_term() && index >= last());
}

Index EntryLog::may_agree(Index index, Term term) const {
  index = std::min(index, last());
  while (index >= first() && at(index).term > term) index = Index(index.value - 1);
  return index;
}

void EntryLog::append(std::vector<Entry> entries) {
  for (auto& entry : entries) {
    entry.index = Index(last().value + 1);
    entries_.push_back(std::move(entry));
  }
}

std::optional<Index> EntryLog::append_after(Index index, Term term,
                                            std::span<const Entry> entries) {
  if (!matches(index, term) && !PYRALOG_PLANT("raft.append_anywhere")) return std::nullopt;
  const Index end(index.value + entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    PYRALOG_ASSERT(entry.index.value == index.value + i + 1);
    // Below the snapshot all is committed, and so the same.
    if (entry.index < first() || matches(entry.index, entry.term)) continue;
    PYRALOG_ASSERT(entry.index > committed_);
    const Index kept(entry.index.value - 1);
    while (last() > kept) entries_.pop_back();
    stored_ = std::min(stored_, kept);
    durable_ = std::min(durable_, kept);
    entries_.insert(entries_.end(), entries.begin() + static_cast<std::ptrdiff_t>(i),
                    entries.end());
    break;
  }
  return end;
}

void EntryLog::commit(Index index) {
  if (index <= committed_) return;
  PYRALOG_ASSERT(index <= last());
  committed_ = index;
}

std::vector<Entry> EntryLog::slice(Index from, Index upto, std::size_t max_bytes) const {
  std::vector<Entry> out;
  std::size_t bytes = 0;
  for (Index index = from; index <= upto; index = Index(index.value + 1)) {
    const Entry& entry = at(index);
    if (!out.empty() && bytes + entry.data.size() > max_bytes) break;
    bytes += entry.data.size();
    out.push_back(entry);
  }
  return out;
}

std::size_t EntryLog::bytes(Index from, Index upto) const {
  std::size_t sum = 0;
  for (Index index = from; index <= upto; index = Index(index.value + 1))
    sum += at(index).data.size();
  return sum;
}

std::vector<Entry> EntryLog::take_unstored() {
  std::vector<Entry> out = slice(Index(stored_.value + 1), last(), SIZE_MAX);
  stored_ = last();
  return out;
}

void EntryLog::stored(Index index, Term term) {
  // The same index and term are the same entry.
  if (index > durable_ && matches(index, term)) durable_ = index;
}

bool EntryLog::has_committed() const {
  return handed_out_ < std::min(committed_, durable_);
}

std::vector<Entry> EntryLog::take_committed(std::size_t max_bytes) {
  if (!has_committed()) return {};
  std::vector<Entry> out =
      slice(Index(handed_out_.value + 1), std::min(committed_, durable_), max_bytes);
  handed_out_ = out.back().index;
  return out;
}

void EntryLog::applied(Index index) {
  PYRALOG_ASSERT(index <= handed_out_);
  applied_ = std::max(applied_, index);
}

void EntryLog::compact(SnapshotMark mark, Keep keep) {
  if (mark.index <= snapshot_.index) return;
  PYRALOG_ASSERT(mark.index <= applied_ && matches(mark.index, mark.term));
  auto forgotten = static_cast<std::size_t>(mark.index.value - before_.value);
  std::size_t bytes = 0;
  for (std::size_t kept = 0; forgotten > 0 && kept < keep.entries; ++kept) {
    bytes += entries_[forgotten - 1].data.size();
    if (bytes > keep.bytes) break;
    --forgotten;
  }
  if (forgotten > 0) {
    before_term_ = entries_[forgotten - 1].term;
    before_ = Index(before_.value + forgotten);
    entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(forgotten));
  }
  snapshot_ = std::move(mark);
}

void EntryLog::restore(SnapshotMark mark) {
  PYRALOG_ASSERT(mark.index > committed_);
  entries_.clear();
  snapshot_ = std::move(mark);
  before_ = snapshot_.index;
  before_term_ = snapshot_.term;
  stored_ = committed_ = handed_out_ = applied_ = snapshot_.index;
  durable_ = std::min(durable_, Index(snapshot_.index.value - 1));
}

}  // namespace pyralog::raft
