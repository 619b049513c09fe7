#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "raft/types.h"

namespace pyralog::raft {

/// How much of what a snapshot has stays in memory, at most.
struct Keep {
  std::size_t entries = 0;
  std::size_t bytes = 0;  ///< of their data
};

/// The entries since a snapshot, in memory, and how far they are durable, committed and applied.
/// Its owner takes snapshots often enough that they fit. Pure.
///
/// snapshot ≤ applied ≤ min(committed, durable); a conflict takes back what is not committed.
class EntryLog {
 public:
  EntryLog() = default;
  /// As it was stored: `entries` follow on the snapshot without a gap.
  EntryLog(SnapshotMark snapshot, std::vector<Entry> entries, Index committed);

  [[nodiscard]] const SnapshotMark& snapshot() const { return snapshot_; }
  /// The first entry that is here: the one behind the snapshot, or an earlier one that was kept.
  [[nodiscard]] Index first() const { return Index(before_.value + 1); }
  [[nodiscard]] Index last() const { return Index(before_.value + entries_.size()); }
  [[nodiscard]] Term last_term() const { return *term_of(last()); }
  [[nodiscard]] Index committed() const { return committed_; }
  [[nodiscard]] Index applied() const { return applied_; }
  [[nodiscard]] Index durable() const { return durable_; }
  /// nullopt for what is forgotten, but for the last of that, and above the end.
  [[nodiscard]] std::optional<Term> term_of(Index index) const;
  [[nodiscard]] bool matches(Index index, Term term) const { return term_of(index) == term; }
  /// Whether a log that ends there has all that this one may have committed.
  [[nodiscard]] bool is_up_to_date(Index index, Term term) const;
  /// The greatest index up to `index` whose term is not above `term`: no entry above it can be one
  /// of a log that has `term` there. `index` itself where this log knows no more.
  [[nodiscard]] Index may_agree(Index index, Term term) const;

  /// At the end, as its leader. Sets their indexes.
  void append(std::vector<Entry> entries);
  /// As a follower: entries behind (`index`, `term`). The last index that is known to agree, or
  /// nullopt if that entry is another here. What differs behind it is replaced; it is never
  /// committed.
  std::optional<Index> append_after(Index index, Term term, std::span<const Entry> entries);
  void commit(Index index);
  /// From `from` up to `upto`, not more than `max_bytes` of data but at least one.
  [[nodiscard]] std::vector<Entry> slice(Index from, Index upto, std::size_t max_bytes) const;

  /// Of the data of entries from `from` up to `upto`.
  [[nodiscard]] std::size_t bytes(Index from, Index upto) const;
  [[nodiscard]] const Entry& at(Index index) const;

  /// What is to be stored and has not been handed out; then it has been.
  [[nodiscard]] std::vector<Entry> take_unstored();
  /// What has been handed out to be stored, and has not been replaced since.
  [[nodiscard]] Index handed_to_store() const { return stored_; }
  [[nodiscard]] bool has_unstored() const { return stored_ < last(); }
  /// The entry at `index` of `term`, and all before it, are durable, and no write under way
  /// replaces them; nothing if it has been replaced since.
  void stored(Index index, Term term);
  /// What may be applied and has not been handed out.
  [[nodiscard]] std::vector<Entry> take_committed(std::size_t max_bytes);
  [[nodiscard]] bool has_committed() const;
  void applied(Index index);

  /// Forgets the entries up to `mark`, which are applied, but for the newest of them.
  void compact(SnapshotMark mark, Keep keep = {});
  /// Begins anew behind a leader's snapshot. It counts as durable once `stored` says so.
  void restore(SnapshotMark mark);

 private:
  SnapshotMark snapshot_;
  Index before_;  ///< of the entry before the first one here; not above the snapshot
  Term before_term_;
  std::deque<Entry> entries_;
  Index stored_;  ///< handed out to be stored
  Index durable_;
  Index committed_;
  Index handed_out_;  ///< to be applied
  Index applied_;
};

}  // namespace pyralog::raft
