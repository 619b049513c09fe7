#pragma once

#include <map>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "model/fundamental.h"
#include "producer/producer_clock.h"

namespace pyralog::replica {

/// What one shard last knew of its partitions' producers, in one file: saves the next start from
/// reading whole logs. Only states that cover synced records are written, so a snapshot never knows
/// more than the log that survived. Damaged or missing, it costs time, not correctness.
struct ProducerSnapshot {
  Offset covers;  ///< everything below is in it
  Bytes state;    ///< of a ProducerTable
  friend bool operator==(const ProducerSnapshot&, const ProducerSnapshot&) = default;
};
using ProducerSnapshots = std::map<PartitionId, ProducerSnapshot>;
struct SnapshotFile {
  ProducerSnapshots partitions;
  producer::RunningMs clock;  ///< how long the node had run when it was written
  friend bool operator==(const SnapshotFile&, const SnapshotFile&) = default;
};
using SnapshotFiles = std::map<unsigned, SnapshotFile>;  ///< by the shard that wrote them

/// Reads what every shard of earlier runs left in `data_dir`. Damaged or newer files are left aside
/// and named in `skipped`.
[[nodiscard]] io::Task<Result<SnapshotFiles>> load_producer_snapshots(
    io::Disk& disk, std::string data_dir, std::vector<std::string>& skipped);
/// Of two snapshots of a partition the one that covers more.
[[nodiscard]] ProducerSnapshots newest(const SnapshotFiles& files);
/// How long the node is known to have run: what its files say at most, 0 if none says so.
[[nodiscard]] producer::RunningMs time_run(const SnapshotFiles& files);
/// Removes, durably, the files of shards from `shards` on: nobody would write them anew.
[[nodiscard]] io::Task<Result<void>> remove_producer_snapshots(io::Disk& disk, std::string data_dir,
                                                               std::size_t shards);

/// Replaces the shard's file durably.
[[nodiscard]] io::Task<Result<void>> write_producer_snapshots(io::Disk& disk, std::string data_dir,
                                                              unsigned shard, SnapshotFile file);

[[nodiscard]] Bytes encode(const SnapshotFile& file);
/// Version 1, too, which has no clock. kCorrupt, kUnsupported (a newer version).
[[nodiscard]] Result<SnapshotFile> decode_producer_snapshots(ByteView bytes);

}  // namespace pyralog::replica
