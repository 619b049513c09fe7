#pragma once

#include <map>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "model/fundamental.h"

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
using SnapshotFiles = std::map<unsigned, ProducerSnapshots>;  ///< by the shard that wrote them

/// Reads what every shard of earlier runs left in `data_dir`. Damaged or newer files are left aside
/// and named in `skipped`.
[[nodiscard]] io::Task<Result<SnapshotFiles>> load_producer_snapshots(
    io::Disk& disk, std::string data_dir, std::vector<std::string>& skipped);
/// Of two snapshots of a partition the one that covers more.
[[nodiscard]] ProducerSnapshots newest(const SnapshotFiles& files);
/// Removes, durably, the files of shards from `shards` on: nobody would write them anew.
[[nodiscard]] io::Task<Result<void>> remove_producer_snapshots(io::Disk& disk, std::string data_dir,
                                                               std::size_t shards);

/// Replaces the shard's file durably.
[[nodiscard]] io::Task<Result<void>> write_producer_snapshots(io::Disk& disk, std::string data_dir,
                                                              unsigned shard,
                                                              ProducerSnapshots snapshots);

[[nodiscard]] Bytes encode(const ProducerSnapshots& snapshots);
[[nodiscard]] Result<ProducerSnapshots> decode_producer_snapshots(ByteView bytes);

}  // namespace pyralog::replica
