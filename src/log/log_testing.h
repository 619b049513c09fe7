#pragma once
// What the tests of this room share: a node with a simulated disk, batches, and whole reads.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "io/sim/simulator.h"
#include "log/evidence.h"
#include "log/shard_logs.h"
#include "model/record_batch.h"

namespace pyralog::log::test {

using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;

inline PartitionId partition(std::uint8_t n = 1) {
  PartitionId id;
  id.topic.uuid.bytes = {0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x47, 0x80,
                         0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0, n};
  id.partition.value = n;
  return id;
}

/// A batch of `records` records with timestamps from `ts` on, as the leader hands it to the log.
inline Bytes batch(std::int64_t base, std::uint32_t epoch = 1, int records = 1, std::int64_t ts = 1000,
                   std::size_t value_bytes = 20, Codec codec = Codec::kNone) {
  BatchBuilder builder(codec);
  for (int i = 0; i < records; ++i) {
    const std::string key = "k" + std::to_string(base + i);
    const std::string value(value_bytes, static_cast<char>('a' + (base + i) % 26));
    NewRecord record;
    record.timestamp = ts + i;
    record.key = as_bytes(key);
    record.value = as_bytes(value);
    builder.add(record);
  }
  Bytes bytes = builder.build(Offset(base)).value();
  assign_offset_and_epoch(bytes, Offset(base), Epoch(epoch));
  return bytes;
}

inline io::sim::NodeOptions quiet_disk() {
  io::sim::NodeOptions o;
  o.disk.writeback = 0;
  o.disk.cold_read = 0;
  o.disk.latency_min = o.disk.latency_max = std::chrono::microseconds(10);
  return o;
}

inline std::size_t count_files(io::sim::Node& node, std::string_view ending) {
  std::size_t n = 0;
  for (const std::string& path : node.disk().files()) n += path.ends_with(ending) ? 1 : 0;
  return n;
}

inline Options options() {
  Options o;
  o.data_dir = "/data";
  o.verify_step_bytes = 512;
  o.append_time_sync = std::chrono::milliseconds(0);
  return o;
}

inline io::Task<Result<std::unique_ptr<ShardLogs>>> open_shard(Options o = options()) {
  io::Disk& disk = io::Shard::current().disk();
  PYRALOG_CO_TRY(co_await disk.make_dirs(o.data_dir));
  PYRALOG_CO_ASSIGN(auto evidence, co_await Evidence::load(disk, o.data_dir));
  co_return co_await ShardLogs::open(disk, std::move(o), std::move(evidence));
}

inline io::Task<Result<Appended>> append(PartitionLog& log, Bytes bytes) {
  const WallMs wall = io::Shard::current().wall();
  while (!log.ready(bytes.size(), wall)) {
    PYRALOG_CO_TRY(co_await log.prepare(bytes.size(), wall));
  }
  const ByteView views[] = {bytes};
  co_return log.append(views, wall);
}

inline io::Task<Result<Bytes>> bytes_of(ReadResult result) {
  Bytes all;
  for (const io::Piece& piece : result.pieces) {
    if (const auto* memory = std::get_if<SharedBytes>(&piece)) {
      all.insert(all.end(), memory->view().begin(), memory->view().end());
      continue;
    }
    const auto& range = std::get<io::FileRange>(piece);
    Bytes part(range.count);
    PYRALOG_CO_ASSIGN(const std::size_t got, co_await range.file->read_at(range.position, part));
    if (got != part.size()) co_return fail(Code::kIo, "short range");
    all.insert(all.end(), part.begin(), part.end());
  }
  co_return all;
}

/// Everything from `from` on, read in pieces of `step` bytes.
inline io::Task<Result<Bytes>> read_all(std::shared_ptr<PartitionLog> log, Offset from,
                                        std::uint64_t step = 1u << 20) {
  Bytes all;
  while (from < log->end_offset()) {
    PYRALOG_CO_ASSIGN(ReadResult part, co_await log->read(from, {step, log->end_offset(), true}));
    if (part.next <= from) co_return fail(Code::kIo, "the read did not move on");
    from = part.next;
    PYRALOG_CO_ASSIGN(const Bytes bytes, co_await bytes_of(std::move(part)));
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  co_return all;
}

inline Bytes join(const std::vector<Bytes>& batches, std::size_t from = 0) {
  Bytes all;
  for (std::size_t i = from; i < batches.size(); ++i) {
    all.insert(all.end(), batches[i].begin(), batches[i].end());
  }
  return all;
}

/// Ends the process without a checkpoint and starts it again.
inline void restart(io::sim::Node& node, bool power_loss) {
  power_loss ? node.lose_power() : node.kill();
  node.restart();
}

}  // namespace pyralog::log::test
