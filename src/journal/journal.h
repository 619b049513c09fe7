#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "io/shard.h"
#include "io/task.h"
#include "model/fundamental.h"

namespace pyralog::journal {

/// Where a frame ends, counted over the journal's life (a rewrite does not turn it back). Ordered;
/// means nothing to another process.
using Position = Strong<std::uint64_t, struct PositionTag>;

struct Options {
  std::uint32_t kind = 0;  ///< what the frames are; a file of another kind is refused
  Uuid owner;              ///< whose journal it is; a file of another owner is refused
  std::size_t max_frame_bytes = 16u << 20;
};

/// An append-only file of checksummed frames with group commit. Lives on the shard that opened it.
///
/// A frame's checksum covers its place and the file's own salt, so that no older frame, of this file
/// or another, is taken for it. Each frame also says how far the file was known to be durable when
/// it was written: at open, a bad frame below what a later one says was durable is damage (kCorrupt,
/// naming file and position); any other bad frame begins the torn tail, which is cut off.
///
/// After a failed write or sync of the device every call fails with kIo until the journal is opened
/// anew; a failed sync is never tried again.
class Journal {
 public:
  /// Called at open for every frame, oldest first; an error ends the opening with it.
  using Visitor = std::function<Result<void>(ByteView payload)>;

  /// Opens `path` or creates it, durably, in a directory that exists. kCorrupt for damage,
  /// kUnsupported for a newer version, kInvalidArgument for another kind or owner; all name the file.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Journal>>> open(io::Disk& disk,
                                                                       std::string path,
                                                                       Options options,
                                                                       Visitor visit);
  /// Shows the frames of a journal that stays closed, and changes nothing: a torn tail is left where
  /// it is. Fails as open does, and with kNotFound.
  [[nodiscard]] static io::Task<Result<void>> peek(io::Disk& disk, std::string path, Options options,
                                                   Visitor visit);
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  /// Writes one frame to the page cache. kTooLarge, kExhausted (no space; nothing appended, may be
  /// tried again), kIo.
  [[nodiscard]] Result<Position> append(ByteView payload);

  /// Returns once everything up to `position` is durable. Callers that come while a sync runs share
  /// the next one.
  [[nodiscard]] io::Task<Result<void>> commit(Position position);

  /// Replaces all frames by those that `snapshot` returns: a new file, synced, renamed over the old
  /// one; a crash leaves either. `snapshot` is called once, on this shard, at the instant from which
  /// later appends go to both files. One rewrite at a time; a second one is refused (kUnavailable).
  /// Without a snapshot it is given up (kCancelled), and the journal stays as it is.
  using Snapshot = std::function<std::optional<std::vector<Bytes>>()>;
  [[nodiscard]] io::Task<Result<void>> rewrite(Snapshot snapshot);

  [[nodiscard]] Position end() const { return end_; }
  [[nodiscard]] Position durable() const { return durable_; }
  /// Bytes of the file now.
  [[nodiscard]] std::uint64_t size_bytes() const;
  /// Bytes cut off at open: the torn tail.
  [[nodiscard]] std::uint64_t torn_bytes() const { return torn_bytes_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// True after a failure from which only a new open recovers.
  [[nodiscard]] bool dead() const { return dead_.has_value(); }

 private:
  struct Output {
    std::shared_ptr<io::File> file;
    std::uint32_t seed = 0;     ///< CRC of the file's header
    std::uint64_t end = 0;      ///< position in the file
    std::uint64_t durable = 0;  ///< position in the file
  };
  Journal(io::Disk& disk, std::string path, Options options);
  [[nodiscard]] io::Task<Result<Output>> create_output(std::string path);
  [[nodiscard]] io::Task<Result<void>> create();
  [[nodiscard]] io::Task<Result<void>> recover(Bytes content, const Visitor& visit);
  [[nodiscard]] Result<void> write_frame(Output& out, ByteView payload);
  [[nodiscard]] io::Task<Result<void>> sync_now();
  [[nodiscard]] io::Task<Result<void>> replace();
  [[nodiscard]] std::unexpected<Error> die(const Error& cause);

  io::Disk& disk_;
  std::string path_;
  Options options_;
  Output out_;
  std::optional<Output> next_;  ///< the file that a rewrite is about to put in place
  Position end_{0};
  Position durable_{0};
  std::uint64_t torn_bytes_ = 0;
  std::optional<Error> dead_;
  bool rewriting_ = false;
  bool renaming_ = false;  ///< the new file may be in place already
  bool syncing_ = false;
  io::WaitList synced_;
  Bytes scratch_;
};

}  // namespace pyralog::journal
