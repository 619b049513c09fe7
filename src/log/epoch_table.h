#pragma once

#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "model/fundamental.h"

namespace pyralog::log {

/// Where each epoch of a log begins, oldest first; epochs and starts rise strictly. Pure.
class EpochTable {
 public:
  EpochTable() = default;
  /// Entries that do not rise are left out.
  explicit EpochTable(const std::vector<EpochStart>& entries);
  [[nodiscard]] const std::vector<EpochStart>& entries() const { return entries_; }
  /// Epoch(0) if the table is empty.
  [[nodiscard]] Epoch last() const { return entries_.empty() ? Epoch(0) : entries_.back().epoch; }
  /// Notes a batch of `epoch` at `at`; nothing to do if the epoch is the last one already. False if
  /// it would go back.
  bool note(Epoch epoch, Offset at);
  /// The epoch that the batch at `at` must carry; Epoch(0) before the first entry.
  [[nodiscard]] Epoch at(Offset at) const;
  /// {greatest epoch ≤ `epoch`, offset where it ends}; {0, log_end} style: Epoch(0) and the first
  /// start if all are greater.
  [[nodiscard]] EpochStart end_of(Epoch epoch, Offset log_end) const;
  /// Forgets what begins at or above `end`.
  void truncate(Offset end);
  /// Forgets what lies wholly below `start`; the epoch that holds `start` begins there from now on.
  void drop_below(Offset start);

  /// The file `epochs`: see README.md.
  [[nodiscard]] Bytes encode() const;
  [[nodiscard]] static Result<EpochTable> decode(ByteView bytes, const std::string& path);

 private:
  std::vector<EpochStart> entries_;
};

}  // namespace pyralog::log
