#pragma once

#include <memory>
#include <optional>
#include <string>

#include "io/disk.h"
#include "io/sim/inode.h"
#include "io/sim/sim_disk.h"
#include "io/sync_queue.h"

namespace pyralog::io::sim {

/// An open file of a SimDisk.
class SimFile final : public File, public std::enable_shared_from_this<SimFile> {
 public:
  [[nodiscard]] static std::shared_ptr<SimFile> make(SimDisk& disk, std::string path,
                                                     std::shared_ptr<Inode> inode, bool writable);
  SimFile(SimDisk& disk, std::string path, std::shared_ptr<Inode> inode, bool writable);

  const std::string& path() const override { return path_; }
  std::uint64_t size() const override { return inode_->content.size(); }
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

  /// Copies what is in memory, for sending; short at the end of the file.
  [[nodiscard]] Bytes copy(std::uint64_t position, std::uint64_t count) const;
  /// Whether that may go on; asks the disk's hook only, which names no crash.
  [[nodiscard]] Result<void> may_send() const;

 private:
  Task<Result<void>> sync_once(SyncQueue::Sync& sync);
  Task<Result<void>> store_dirty();
  Task<Result<bool>> begin_sync(std::uint64_t first, std::uint64_t last);
  void put(std::uint64_t position, ByteView bytes);
  void write_back_some();
  void drop_pages(std::uint64_t first, std::uint64_t last);
  static void spoil(MutableBytes out);

  SimDisk& disk_;
  std::string path_;
  std::shared_ptr<Inode> inode_;
  bool writable_;
  Turn sync_turn_;
  std::optional<Error> sync_failed_;
  bool sync_has_failed_ = false;  ///< which its caller may not have heard yet
  SyncQueue queue_;
};

}  // namespace pyralog::io::sim
