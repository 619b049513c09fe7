#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/give_up.h"
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
  bool damaged = false;       ///< a file that was written to has no sound header
};
/// Reads a frame at a time. A bad frame is passed over: if it was durable, the evidence of a later
/// round says what is missing. kUnsupported: written by a newer version; kIo: not all of it can be read.
/// Changes nothing.
[[nodiscard]] io::Task<Result<WriteAheadWalk>> walk_write_ahead(io::Disk& disk, std::string data_dir,
                                                                WriteAheadVisitor visit);

/// Files that a replay holds open at a time, within what a process may open by default.
inline constexpr std::size_t kReplayOpenFiles = 900;

/// Puts what write-ahead files hold in its place, durably, adds their evidence to the `synced` journal
/// of their shard, and removes them; before any log of the data directory is opened. Segments that are
/// gone, or that compaction has written anew, are left as they are. Where a segment's own bytes are wrong
/// (kCorrupt) that is told of, the files are then kept as `.damaged`, and the log in question is found
/// damaged when it is opened. Calls of the disk that fail (kIo) are tried again for some seconds, all from
/// the beginning and through fresh handles. After an error (kIo, no space, a newer version) nothing is
/// lost: the files are still there for another try. So they are after kCancelled, when `give_up` is set.
[[nodiscard]] io::Task<Result<void>> replay_write_ahead(io::Disk& disk, std::string data_dir,
                                                        std::size_t open_files = kReplayOpenFiles,
                                                        GiveUp give_up = nullptr);

/// Puts what write-ahead files hold of one partition in its place, durably; the files stay. `known`: the
/// newest evidence about it, null if there is none; there until the Task is done.
[[nodiscard]] io::Task<Result<void>> place_partition(io::Disk& disk, std::string data_dir,
                                                     PartitionId partition, const SyncedEntry* known);

/// What write-ahead files hold of a partition and is not in its place, as after a power loss.
struct Unplaced {
  std::uint64_t bytes = 0;
  std::optional<Error> unreadable;  ///< why that cannot be told: its own files cannot be read
};
/// Of every partition of which there is something to say; the write-ahead files are read once for all.
/// Changes nothing.
[[nodiscard]] io::Task<Result<std::map<PartitionId, Unplaced>>> unplaced_bytes(
    io::Disk& disk, std::string data_dir, std::size_t open_files = kReplayOpenFiles);

/// Adds what a write-ahead file says to what is `known`, if that is more; returns what is known then, or
/// null if it was no more.
const SyncedEntry* add_evidence(std::map<PartitionId, SyncedEntry>& known, const SyncedEntry& entry);

}  // namespace pyralog::log
