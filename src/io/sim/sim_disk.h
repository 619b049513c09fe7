#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"
#include "io/disk.h"
#include "io/rng.h"
#include "io/sim/stats.h"

namespace pyralog::io::sim {

class Node;

/// What a simulated disk does, and how often it fails; rates are probabilities per call.
struct DiskOptions {
  std::uint64_t capacity = std::uint64_t{1} << 40U;  ///< bytes; writes beyond fail with ENOSPC
  Duration latency_min = std::chrono::microseconds(5);
  Duration latency_max = std::chrono::microseconds(300);
  double cold_read = 0.05;   ///< a read that has to wait although the pages might be in memory
  double writeback = 0.05;   ///< per write: the system writes some dirty page on its own
  double slow = 0;           ///< calls that take `slow_by` longer
  Duration slow_by = std::chrono::milliseconds(200);
  double read_error = 0;
  double write_error = 0;    ///< EIO; a part of the bytes may have been written
  double sync_error = 0;     ///< EIO; the pages count as clean afterwards, as on Linux
  double sync_error_drops = 0;  ///< of failed syncs: what was not written is gone from memory as well
  double metadata_error = 0; ///< EIO of open, rename, remove, list, sync_dir …
  double bit_rot = 0;        ///< per file at power loss and drop_cache: one stored bit flips
};

enum class DiskOp : std::uint8_t {
  kOpen, kRead, kWrite, kSync, kTruncate, kMakeDirs, kSyncDir, kList, kRename, kRemove, kLock,
  kSend,  ///< of a file range, by a stream
};
/// What a hook makes of a call. After kKill and kPowerLoss the call has no effect and never returns
/// (a write returns an error to code that will not run on).
enum class DiskFault : std::uint8_t {
  kNone, kError, kNoSpace, kNoQuota, kNoDescriptors, kKill, kPowerLoss,
};
using DiskHook = std::function<DiskFault(DiskOp op, const std::string& path)>;

struct Inode;

/// One node's file system. Written bytes live in a page cache until a sync; a power loss keeps what
/// was synced and of the rest, page by page, nothing, all, or some sectors of 512 bytes; a file may
/// come back longer than its data, with zeros. Names that are created, renamed or removed come back
/// or not until their directory was synced. A process kill loses nothing. Serves all shards of the
/// node and survives its crashes.
class SimDisk final : public Disk {
 public:
  SimDisk(Node& node, DiskOptions options, std::uint64_t seed, Stats& stats);
  ~SimDisk() override;

  /// Rates may be changed at any time.
  [[nodiscard]] DiskOptions& options() { return options_; }
  /// Asked before every call; empty = none.
  void set_hook(DiskHook hook) { hook_ = std::move(hook); }
  /// Calls so far, by any shard: for "crash at the n-th call".
  [[nodiscard]] std::uint64_t calls() const { return calls_; }
  /// Whether there is a file or directory of this name now.
  [[nodiscard]] bool has(const std::string& path) const { return find(path).inode != nullptr; }
  /// What a reader would see now, for checks from outside; kNotFound.
  [[nodiscard]] Result<Bytes> peek(const std::string& path) const;
  /// Damages a file: flips bits of one byte, in memory and as stored. kNotFound, kOutOfRange.
  Result<void> corrupt(const std::string& path, std::uint64_t position, std::uint8_t mask = 1);
  /// Damages what is stored; who reads the pages in memory does not see it.
  Result<void> corrupt_stored(const std::string& path, std::uint64_t position,
                              std::uint8_t mask = 1);
  /// All files, by path.
  [[nodiscard]] std::vector<std::string> files() const;

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

 private:
  friend class Node;
  friend class SimFile;
  friend class SimFileLock;
  struct Place {
    std::shared_ptr<Inode> dir;  ///< the parent directory; null if there is none
    std::string name;
    std::shared_ptr<Inode> inode;  ///< null if the name does not exist
  };
  [[nodiscard]] Place find(const std::string& path) const;
  /// Counts the call, asks hook and rates; kNone if it may go on.
  DiskFault judge(DiskOp op, const std::string& path, double rate);
  /// judge, then the time that the call takes.
  Task<Result<void>> admit(DiskOp op, std::string path, double rate);
  Result<void> refused(DiskFault fault, DiskOp op, const std::string& path);
  [[nodiscard]] Duration latency();
  /// Bytes that may still be written.
  [[nodiscard]] std::uint64_t room() const {
    return options_.capacity > used_ ? options_.capacity - used_ : 0;
  }
  void link(Inode& dir, const std::string& name, std::shared_ptr<Inode> inode);
  void unlink(Inode& dir, const std::string& name);
  void forget_tree(Inode& dir);
  Result<std::shared_ptr<Inode>> create(const Place& place, const std::string& path, bool directory);

  // For Node.
  void process_ended(bool power_too);
  void power_lost();
  void abandon_syncs(Inode& dir);
  void settle_directory(Inode& dir, int mood);
  void settle_file(Inode& file, int mood);
  void settle_page(Inode& file, std::uint64_t page, ByteView now, int mood);
  void rot(Inode& file);

  Node& node_;
  DiskOptions options_;
  SeededRng rng_;
  Stats& stats_;
  DiskHook hook_;
  std::shared_ptr<Inode> root_;
  std::uint64_t calls_ = 0;
  std::uint64_t used_ = 0;
  std::uint64_t boots_ = 1;
  std::uint64_t next_change_ = 1;
  std::uint64_t process_ = 1;
  std::set<std::string> locks_;
};

}  // namespace pyralog::io::sim
