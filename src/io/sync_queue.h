#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/shard.h"
#include "io/task.h"

namespace pyralog::io {

/// Coalesces the syncs of one open file: one is in flight, the next covers everything that came
/// meanwhile. A sync that failed is never tried again, because the system may have dropped the pages
/// that it could not write: from then on every sync of this file fails. For implementations of File;
/// lives on the file's shard.
class SyncQueue {
 public:
  /// `raw` makes durable what was written before it was called.
  explicit SyncQueue(std::move_only_function<Task<Result<void>>()> raw) : raw_(std::move(raw)) {}
  /// The result of a raw sync that started after this call. `owner` keeps the queue alive meanwhile.
  [[nodiscard]] Task<Result<void>> sync(std::shared_ptr<File> owner);

 private:
  std::move_only_function<Task<Result<void>>()> raw_;
  std::uint64_t started_ = 0;
  std::uint64_t finished_ = 0;
  std::uint64_t failed_round_ = UINT64_MAX;
  Error error_;
  WaitList done_;
};

/// Disk::sync for implementations whose files coalesce by themselves: all at once, results in order.
[[nodiscard]] Task<std::vector<Result<void>>> sync_all(std::vector<std::shared_ptr<File>> files);

}  // namespace pyralog::io
