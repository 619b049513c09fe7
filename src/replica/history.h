#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "model/fundamental.h"

namespace pyralog::replica {

/// An epoch and where its records end, with the greatest epoch up to the one that was asked for.
struct EpochTail {
  Epoch epoch;  ///< 0: no record
  Offset end;
  friend bool operator==(const EpochTail&, const EpochTail&) = default;
};

/// Which epoch wrote which records of a log: [start, end), and where each epoch begins. Two logs
/// that have a record of the same epoch at the same offset are the same up to there, for an epoch
/// has one writer and everybody appends at the end only; so two histories say where two logs part.
/// Pure.
class History {
 public:
  History() = default;
  /// An empty log whose first record will be at `start`.
  explicit History(Offset start) : start_(start), end_(start) {}
  /// kCorrupt unless epochs and offsets grow, none is below 1 or beyond `end`, and the first epoch
  /// begins at `start` or before (the records before are gone).
  [[nodiscard]] static Result<History> make(Offset start, Offset end,
                                            std::vector<EpochStart> epochs);

  [[nodiscard]] Offset start() const { return start_; }
  [[nodiscard]] Offset end() const { return end_; }
  [[nodiscard]] bool empty() const { return start_ == end_; }
  [[nodiscard]] const std::vector<EpochStart>& epochs() const { return epochs_; }
  /// Of the last record; 0 if there is none.
  [[nodiscard]] Epoch last() const { return empty() ? Epoch(0) : epochs_.back().epoch; }

  /// The epoch of the record just below `offset`; 0 if that is not in (start, end].
  [[nodiscard]] Epoch before(Offset offset) const;
  /// The greatest epoch with records that is not above `epoch`, and where they end; {0, start} if
  /// none.
  [[nodiscard]] EpochTail end_of(Epoch epoch) const;
  /// The epochs of the records [from, to), the first one from `from`. Within the log.
  [[nodiscard]] std::vector<EpochStart> runs(Offset from, Offset to) const;
  /// Whether `runs` may follow here: what `runs()` gives for [end, to), with no epoch below the
  /// last.
  [[nodiscard]] bool follows(std::span<const EpochStart> runs, Offset to) const;

  /// Records up to `to`, with their epochs as `runs` gives them; `follows` holds.
  void append(std::span<const EpochStart> runs, Offset to);
  /// Records of one epoch, not below the last.
  void append(Epoch epoch, Offset to);
  /// Drops what is at or above `to`, which is within [start, end].
  void truncate(Offset to);
  /// Drops what is below `start`, which is within [start, end].
  void trim(Offset start);

  friend bool operator==(const History&, const History&) = default;

 private:
  Offset start_;
  Offset end_;
  std::vector<EpochStart> epochs_;  ///< those that hold records
};

/// Up to where two logs are the same. What only one of them still has below the other's start
/// counts as the same: it is gone because it was committed. The greater of the two starts if
/// nothing above is.
[[nodiscard]] Offset agreed_end(const History& a, const History& b);

}  // namespace pyralog::replica
