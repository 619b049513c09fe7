#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/shard.h"
#include "io/task.h"

namespace pyralog::io {

/// Coalesces the syncs of one open file: one is under way, and one more, lined up behind it, covers
/// everything that comes until it begins. So the device goes from one to the next without a word from
/// the shard, however busy that is. A sync that failed is never tried again, because the system may have
/// dropped the pages that it could not write: from then on every sync of this file fails. For
/// implementations of File; lives on the file's shard.
class SyncQueue {
 public:
  /// One raw sync, lined up or under way.
  class Sync {
   public:
    explicit Sync(SyncQueue& queue) : queue_(queue) {}
    /// To be called once, just before the device is; on any thread. What was written, and asked for,
    /// before counts as covered.
    void begin();

   private:
    friend class SyncQueue;
    SyncQueue& queue_;
    std::uint64_t covers_ = 0;
  };
  /// `raw` waits for the one before it, calls `begin`, and makes durable what was written by then. After
  /// one has failed each must fail.
  explicit SyncQueue(std::move_only_function<Task<Result<void>>(Sync& sync)> raw)
      : raw_(std::move(raw)) {}
  /// The result of a raw sync that begins after this call. `owner` keeps the queue alive meanwhile.
  [[nodiscard]] Task<Result<void>> sync(std::shared_ptr<File> owner);
  /// Raw syncs that went well so far.
  [[nodiscard]] std::uint64_t syncs() const { return syncs_; }
  /// A sync of the file by other means went well, or failed.
  void count(const Result<void>& other);
  /// What every sync fails with from now on.
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  [[nodiscard]] bool on_its_way(std::uint64_t request) const;

  std::move_only_function<Task<Result<void>>(Sync& sync)> raw_;
  // Read by raw syncs when they begin, on their threads.
  std::atomic<std::uint64_t> requests_{0};
  std::atomic<std::uint64_t> begun_{0};
  std::atomic<std::uint64_t> promised_{0};  ///< requests that the last to begin covers
  std::uint64_t submitted_ = 0;
  std::uint64_t in_flight_ = 0;
  std::uint64_t covered_ = 0;
  std::uint64_t syncs_ = 0;
  std::optional<Error> error_;
  WaitList done_;
};

/// Disk::sync for implementations whose files coalesce by themselves: all at once, results in order.
[[nodiscard]] Task<std::vector<Result<void>>> sync_all(std::vector<std::shared_ptr<File>> files);

}  // namespace pyralog::io
