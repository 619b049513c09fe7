#pragma once

#include <functional>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "io/disk.h"
#include "io/sync_queue.h"

namespace pyralog::io::posix {

/// An open file. Writes go to the page cache on the caller's thread; what may wait for the device
/// runs in the pools.
class PosixFile final : public File, public std::enable_shared_from_this<PosixFile> {
 public:
  PosixFile(std::string path, int fd, std::uint64_t size);
  ~PosixFile() override;
  const std::string& path() const override { return path_; }
  std::uint64_t size() const override { return size_; }
  using File::write_at;
  Result<void> write_at(std::uint64_t position, std::span<const ByteView> pieces) override;
  Task<Result<void>> write_direct(std::uint64_t position, ByteView bytes) override;
  Task<Result<void>> write_durably(std::uint64_t position, ByteView bytes) override;
  Task<Result<std::size_t>> read_at(std::uint64_t position, MutableBytes out) override;
  Task<Result<std::size_t>> read_stored(std::uint64_t position, MutableBytes out) override;
  Task<Result<void>> sync() override { return queue_.sync(shared_from_this()); }
  Task<void> write_out(std::uint64_t position, std::uint64_t count) override;
  std::uint64_t syncs() const override { return queue_.syncs(); }
  Task<Result<void>> truncate(std::uint64_t size) override;
  Task<Result<void>> allocate(std::uint64_t size) override;
  void drop_cache() override;

  [[nodiscard]] int fd() const { return fd_; }
  /// Whether the first and the last page of a range are in memory; asks the system.
  [[nodiscard]] bool probably_cached(std::uint64_t position, std::uint64_t count) const;
  /// Brings a range into memory, in the `disk` pool.
  [[nodiscard]] Task<Result<void>> warm(std::uint64_t position, std::uint64_t count);
  /// Whether a sync has failed: the system may have dropped pages that it did not write, and what is read
  /// now may be what the device had before. Any thread.
  [[nodiscard]] bool sync_has_failed() const { return failed_with_ != 0; }

 private:
  /// One fdatasync; returns what is to be done when the file is free for the next.
  using SyncJob = std::move_only_function<std::move_only_function<void()>()>;
  [[nodiscard]] Task<Result<void>> sync_once(SyncQueue::Sync& sync);
  void sync_in_turn(SyncJob job);
  [[nodiscard]] Result<void> sync_now(SyncQueue::Sync& sync);
  [[nodiscard]] Result<void> sync_by(int fd);
  [[nodiscard]] int direct_fd();
  /// Returns whether all of it went past the page cache.
  [[nodiscard]] Result<bool> write_past_cache(std::uint64_t position, ByteView bytes);

  std::string path_;
  int fd_;
  std::uint64_t size_;
  std::once_flag direct_opened_;
  std::atomic<int> direct_fd_{-1};
  std::atomic<int> failed_with_{0};  ///< a sync by either descriptor
  // Threads of the pool, one after the other.
  std::mutex sync_mutex_;
  bool syncing_ = false;
  SyncJob lined_up_;
  std::optional<Error> sync_failed_;
  SyncQueue queue_;
};

/// The machine's file system. Stateless; one per shard only so that it is used as one shard's.
class PosixDisk final : public Disk {
 public:
  Task<Result<std::shared_ptr<File>>> open(std::string path, OpenMode mode) override;
  Task<std::vector<Result<void>>> sync(std::vector<std::shared_ptr<File>> files) override;
  Task<Result<void>> make_dirs(std::string path) override;
  Task<Result<void>> sync_dir(std::string path) override;
  Task<Result<std::vector<DirEntry>>> list(std::string path) override;
  Task<Result<void>> rename(std::string from, std::string to) override;
  Task<Result<void>> remove(std::string path) override;
  Task<Result<void>> remove_tree(std::string path) override;
  Task<Result<bool>> exists(std::string path) override;
  Task<Result<std::unique_ptr<FileLock>>> lock(std::string path) override;
  Task<Result<SpaceInfo>> space(std::string path) override;
  std::string boot_id() override;
};

}  // namespace pyralog::io::posix
