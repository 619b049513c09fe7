#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "io/task.h"

namespace pyralog::io {

/// One open file. Used by the shard that opened it; `write_at` runs on the caller's thread (it goes
/// to the page cache), everything that may wait for the device is a Task that runs in a pool.
/// Short writes and EINTR are dealt with inside; an error leaves the range undefined.
class File {
 public:
  virtual ~File() = default;
  [[nodiscard]] virtual const std::string& path() const = 0;
  /// Size in bytes as of the last call that changed it through this object (or open).
  [[nodiscard]] virtual std::uint64_t size() const = 0;
  /// Writes all pieces, in order, from `position`; not durable before a sync. kIo, kExhausted (no
  /// space).
  [[nodiscard]] virtual Result<void> write_at(std::uint64_t position,
                                              std::span<const ByteView> pieces) = 0;
  [[nodiscard]] Result<void> write_at(std::uint64_t position, ByteView bytes) {
    return write_at(position, std::span<const ByteView>(&bytes, 1));
  }
  /// As write_at, but in the `sync` pool and, where the file system can, straight from `bytes` to the device:
  /// that takes half the processor time and leaves no pages behind. For it address, position and length are
  /// multiples of kDirectBlock; else it goes by the page cache. `bytes` stay until it returns.
  [[nodiscard]] virtual Task<Result<void>> write_direct(std::uint64_t position, ByteView bytes) = 0;
  static constexpr std::uint64_t kDirectBlock = 4096;
  /// As write_direct, and durable when it returns, by one trip to the pool; several at a time go side by side.
  /// Of what was written otherwise it need make nothing durable. After a sync failed each of these fails.
  [[nodiscard]] virtual Task<Result<void>> write_durably(std::uint64_t position, ByteView bytes) = 0;
  /// Fills `out` from `position` as far as the file goes; returns bytes read. Served at once if the
  /// pages are in memory, else by the `disk` pool.
  [[nodiscard]] virtual Task<Result<std::size_t>> read_at(std::uint64_t position,
                                                          MutableBytes out) = 0;
  /// As read_at, but from the device, in the `disk` pool: clean pages of the range are dropped first,
  /// and what was not in memory before is not afterwards. Pages that are dirty or being sent are read
  /// as they are in memory. Reads through this object do not read ahead from then on.
  [[nodiscard]] virtual Task<Result<std::size_t>> read_stored(std::uint64_t position,
                                                              MutableBytes out) = 0;
  /// fdatasync of everything written before the call; see Disk::sync for many files.
  [[nodiscard]] virtual Task<Result<void>> sync() = 0;
  /// Lets the device begin to write a range that was written before, so that a later sync finds less to do.
  /// It makes nothing durable, and what fails is told by that sync.
  [[nodiscard]] virtual Task<void> write_out(std::uint64_t position, std::uint64_t count) = 0;
  /// Syncs that the device has done for this handle so far: calls of `sync` share them, each write_durably
  /// has one.
  [[nodiscard]] virtual std::uint64_t syncs() const = 0;
  /// Sets the size; growth is a hole that reads as zeros.
  [[nodiscard]] virtual Task<Result<void>> truncate(std::uint64_t size) = 0;
  /// Makes the file at least `size` bytes and takes the space of all of them now; what was not
  /// written reads as zeros. Durable after a sync. kExhausted: the file may have grown.
  [[nodiscard]] virtual Task<Result<void>> allocate(std::uint64_t size) = 0;
  /// Drops clean cached pages, so that the next read comes from the device.
  virtual void drop_cache() = 0;
};

/// Whoever gave out a part of a file hears of it when that could not be read to be sent.
class RangeOwner {
 public:
  virtual ~RangeOwner() = default;
  /// Any thread; nothing of the call outlives it.
  virtual void unreadable(const std::string& path, std::uint64_t position, std::uint64_t count,
                          const Error& error) = 0;
};

/// Part of an open file, for sending without a copy. The file stays open while a range lives.
struct FileRange {
  std::shared_ptr<File> file;
  std::uint64_t position = 0;
  std::uint64_t count = 0;
  std::shared_ptr<RangeOwner> owner = nullptr;  ///< null = nobody wants to know
};

/// An advisory lock on a file, held until destroyed; a second holder, of this or another process, is
/// refused.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

enum class OpenMode : std::uint8_t {
  kRead,       ///< must exist
  kReadWrite,  ///< must exist
  kCreate,     ///< must not exist
  kOpenOrCreate,
};

struct DirEntry {
  std::string name;
  bool is_directory = false;
  std::uint64_t size = 0;
};

struct SpaceInfo {
  std::uint64_t free_bytes = 0;  ///< what this process may still write
  std::uint64_t total_bytes = 0;
};

/// A node's file system. Paths are as the operating system takes them. Names that are created,
/// renamed or removed are durable only after sync_dir of their directory. Errors name the path.
class Disk {
 public:
  virtual ~Disk() = default;
  [[nodiscard]] virtual Task<Result<std::shared_ptr<File>>> open(std::string path,
                                                                 OpenMode mode) = 0;
  /// Makes every file durable as of the call. One sync is in flight per file, the next covers all
  /// that came meanwhile; a set fans out over the `sync` pool. One result per file, in order.
  [[nodiscard]] virtual Task<std::vector<Result<void>>> sync(
      std::vector<std::shared_ptr<File>> files) = 0;
  /// Creates the directory and its parents (and syncs the parents it created).
  [[nodiscard]] virtual Task<Result<void>> make_dirs(std::string path) = 0;
  [[nodiscard]] virtual Task<Result<void>> sync_dir(std::string path) = 0;
  /// Entries without "." and "..", sorted by name; kNotFound if there is no such directory.
  [[nodiscard]] virtual Task<Result<std::vector<DirEntry>>> list(std::string path) = 0;
  /// Replaces `to` if it exists, atomically.
  [[nodiscard]] virtual Task<Result<void>> rename(std::string from, std::string to) = 0;
  /// Removes a file; kNotFound if there is none.
  [[nodiscard]] virtual Task<Result<void>> remove(std::string path) = 0;
  /// Removes a directory and everything in it; fine if there is none.
  [[nodiscard]] virtual Task<Result<void>> remove_tree(std::string path) = 0;
  [[nodiscard]] virtual Task<Result<bool>> exists(std::string path) = 0;
  /// Creates the file if need be and takes its lock, without waiting; kAlreadyExists if it is held.
  [[nodiscard]] virtual Task<Result<std::unique_ptr<FileLock>>> lock(std::string path) = 0;
  [[nodiscard]] virtual Task<Result<SpaceInfo>> space(std::string path) = 0;
  /// Identifies this start of the operating system; differs after a reboot or a power loss.
  [[nodiscard]] virtual std::string boot_id() = 0;
};

/// Reads a whole file of at most `max_bytes` (kTooLarge beyond).
[[nodiscard]] Task<Result<Bytes>> read_file(Disk& disk, std::string path, std::size_t max_bytes);

/// Replaces `path` by `bytes` so that a crash leaves the old or the new content: temporary file,
/// sync, rename, sync of the directory.
[[nodiscard]] Task<Result<void>> replace_file(Disk& disk, std::string path, Bytes bytes);

/// True if a call was refused because the file system, or somebody's share of it, is full.
[[nodiscard]] bool is_no_space(const Error& error);
/// True if a call was refused because too many files are open.
[[nodiscard]] bool is_no_descriptors(const Error& error);

/// The directory part of a path, "." if there is none.
[[nodiscard]] std::string parent_dir(const std::string& path);

}  // namespace pyralog::io
