#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/epoch_table.h"
#include "model/fundamental.h"
#include "model/record_batch.h"

namespace pyralog::log {

/// A fault in a partition's directory.
struct Finding {
  std::string file;            ///< name in the directory
  std::uint64_t position = 0;  ///< in bytes
  std::string what;            ///< what is wrong, in words
  bool synced = false;         ///< below the last evidence of a sync: damage, not a torn tail
};

struct SegmentReport {
  std::string file;
  std::uint64_t bytes = 0;       ///< of the file
  std::uint64_t sound_bytes = 0; ///< up to the first fault
  Offset first;
  Offset next;
  Epoch first_epoch;
  Epoch last_epoch;
  std::int64_t created_ms = 0;
  std::int64_t max_timestamp = -1;
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  bool index_sound = false;       ///< `.index` and `.timeindex` agree with the batches
  std::uint64_t append_times = 0; ///< sound entries of `.appendtime`
  std::uint64_t bad_append_times = 0;
  std::vector<BatchHeader> headers;  ///< filled by inspect if asked for
};

struct LogReport {
  std::string dir;
  PartitionId partition;
  std::vector<SegmentReport> segments;
  std::vector<EpochStart> epochs;
  Offset start;
  Offset end;                   ///< of what is sound
  bool has_synced = false;      ///< the next three are known
  Offset synced_segment;
  std::uint64_t synced_position = 0;
  Offset synced_end;
  std::vector<Finding> findings;
  std::uint64_t cut_bytes = 0;  ///< what repair would cut, or has cut
  [[nodiscard]] bool sound() const { return findings.empty(); }
};

/// What a data directory tells of all its partitions: evidence of syncs, write-ahead files. Read once it
/// serves for each of them, as long as nothing there changes. Immutable.
struct Beside;
using BesidePtr = std::shared_ptr<const Beside>;
/// kCorrupt, kUnsupported, kIo: what lies there cannot be read; the message names the file.
[[nodiscard]] io::Task<Result<BesidePtr>> read_beside(io::Disk& disk, std::string data_dir);

struct InspectOptions {
  bool headers = false;              ///< list every batch
  std::size_t max_headers = 100000;  ///< bound on that list, over all segments
  EpochTable given_out{};            ///< where each epoch of the partition began, if known
  BesidePtr beside = nullptr;        ///< of the parent directory; read anew if null
  /// Called after each segment with the bytes of it; empty = nobody wants to know.
  std::function<void(std::uint64_t bytes)> on_segment{};
};
struct RepairOptions {
  bool below_synced = false;  ///< also cut what was known to be durable: acknowledged records go
  bool dry_run = false;       ///< report only
  EpochTable given_out{};     ///< where each epoch of the partition began, if known
};

/// Tools on the directory of one partition, `<data>/<topic id>-<partition>`, while no server has it
/// open (the caller holds the data directory's lock). Run on any shard; read in bounded steps.

/// What is there, as far as it can be read; checks structure, not checksums of records.
[[nodiscard]] io::Task<Result<LogReport>> inspect(io::Disk& disk, std::string dir,
                                                  InspectOptions options = {});
/// Checks every byte: headers, checksums, offsets, epochs, indexes, append times, and the `synced`
/// evidence in the parent directory. Without `given_out` a wrong epoch in a header shows only where
/// others contradict it.
[[nodiscard]] io::Task<Result<LogReport>> verify(io::Disk& disk, std::string dir,
                                                 InspectOptions options = {});
/// Cuts the log before its first fault and rebuilds the indexes. What is cut is kept beside it in
/// files named `.damaged`. kCorrupt, and nothing is touched, if the fault lies below what was synced
/// and `below_synced` is not set.
[[nodiscard]] io::Task<Result<LogReport>> repair(io::Disk& disk, std::string dir,
                                                 RepairOptions options = {});

/// Directories of partitions in a data directory, sorted.
[[nodiscard]] io::Task<Result<std::vector<PartitionId>>> list_logs(io::Disk& disk,
                                                                   std::string data_dir);

}  // namespace pyralog::log
