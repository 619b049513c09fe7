#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/write_ahead_format.h"

namespace pyralog::log {

/// Called for every sound frame of a data directory's write-ahead files, a shard's in the order of its
/// rounds. What the body's views show is there until the Task is done.
using WriteAheadVisitor = std::function<io::Task<Result<void>>(unsigned shard, WriteAheadBody body)>;

/// What was met on the way.
struct WriteAheadWalk {
  std::vector<std::string> files;
  std::uint64_t frames = 0;
  std::uint64_t bytes = 0;  ///< of sound frames
  std::uint64_t skipped = 0;  ///< places where a bad frame lay before a sound one: damage
};
/// Reads a frame at a time. A bad frame is passed over: if it was durable, the evidence of a later
/// round says what is missing. kUnsupported: written by a newer version. Changes nothing.
[[nodiscard]] io::Task<Result<WriteAheadWalk>> walk_write_ahead(io::Disk& disk, std::string data_dir,
                                                                WriteAheadVisitor visit);

/// Puts what write-ahead files hold in its place, durably, adds their evidence to the `synced` journal
/// of their shard, and removes them; before any log of the data directory is opened. Segments that are
/// gone, or that compaction has written anew, are left as they are. After an error nothing is lost:
/// the files are still there for another try.
[[nodiscard]] io::Task<Result<void>> replay_write_ahead(io::Disk& disk, std::string data_dir);

/// Puts what write-ahead files hold of one partition in its place, durably; the files stay.
[[nodiscard]] io::Task<Result<void>> place_partition(io::Disk& disk, std::string data_dir,
                                                     PartitionId partition);

/// Bytes of one partition that write-ahead files hold and that are not in their place, as after a power
/// loss; changes nothing.
[[nodiscard]] io::Task<Result<std::uint64_t>> unplaced_bytes(io::Disk& disk, std::string data_dir,
                                                             PartitionId partition);

/// Whether evidence that a write-ahead file holds says more than what is known already.
[[nodiscard]] bool says_more(const SyncedEntry& entry, const SyncedEntry* known);

}  // namespace pyralog::log
