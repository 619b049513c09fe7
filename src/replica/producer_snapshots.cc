#include "replica/producer_snapshots.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/crc32c.h"
#include "base/plant.h"

namespace pyralog::replica {

namespace {
constexpr std::string_view kMagic = "PYRAPROD";
constexpr std::uint32_t kVersion = 2;
constexpr std::uint32_t kWithoutClock = 1;
constexpr std::string_view kPrefix = "producers-";
constexpr std::string_view kSuffix = ".snapshot";
constexpr std::size_t kMaxFileBytes = 1u << 30;

/// The shard whose file has this name.
std::optional<unsigned> shard_of_file(std::string_view name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  name.remove_suffix(kSuffix.size());
  unsigned shard = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), shard);
  if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  return shard;
}
}  // namespace

Bytes encode(const SnapshotFile& file) {
  Writer out;
  out.raw(as_bytes(kMagic)).le(kVersion).le(file.clock.ms);
  out.le(static_cast<std::uint32_t>(file.partitions.size()));
  for (const auto& [id, snapshot] : file.partitions) {
    out.raw(id.topic.uuid.bytes).le(id.partition.value).le(snapshot.covers.value);
    out.sized(snapshot.state);
  }
  const std::uint32_t crc = crc32c(out.view());
  out.le(crc);
  return out.take();
}

Result<SnapshotFile> decode_producer_snapshots(ByteView bytes) {
  Reader in(bytes);
  if (as_text(in.raw(kMagic.size())) != kMagic) return fail(Code::kCorrupt, "not a snapshot");
  const auto version = in.le<std::uint32_t>();
  if (version > kVersion) return fail(Code::kUnsupported, "a newer snapshot");
  if (bytes.size() < 4 ||
      crc32c(bytes.first(bytes.size() - 4)) != load_le<std::uint32_t>(bytes.data() + bytes.size() - 4)) {
    return fail(Code::kCorrupt, "checksum");
  }
  SnapshotFile file;
  if (version > kWithoutClock) file.clock.ms = in.le<std::int64_t>();
  if (version < kWithoutClock || file.clock.ms < 0) return fail(Code::kCorrupt, "header");
  const auto count = in.le<std::uint32_t>();
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    PartitionId id;
    const ByteView raw = in.raw(id.topic.uuid.bytes.size());
    if (!in.ok()) break;
    std::copy(raw.begin(), raw.end(), id.topic.uuid.bytes.begin());
    id.partition = PartitionIndex(in.le<std::int32_t>());
    ProducerSnapshot snapshot;
    snapshot.covers = Offset(in.le<std::int64_t>());
    const ByteView state = in.sized();
    snapshot.state.assign(state.begin(), state.end());
    file.partitions.emplace(id, std::move(snapshot));
  }
  if (!in.ok() || in.left() != 4) return fail(Code::kCorrupt, "length");
  return file;
}

io::Task<Result<SnapshotFiles>> load_producer_snapshots(io::Disk& disk, std::string data_dir,
                                                        std::vector<std::string>& skipped) {
  SnapshotFiles files;
  PYRALOG_CO_ASSIGN(const auto entries, co_await disk.list(data_dir));
  for (const auto& entry : entries) {
    const auto shard = shard_of_file(entry.name);
    if (!shard) continue;
    auto bytes = co_await io::read_file(disk, data_dir + "/" + entry.name, kMaxFileBytes);
    Result<SnapshotFile> file =
        bytes ? decode_producer_snapshots(*bytes) : fail(std::move(bytes.error()));
    if (!file) {
      skipped.push_back(entry.name + ": " + file.error().message);
      continue;
    }
    files[*shard] = std::move(*file);
  }
  co_return files;
}

ProducerSnapshots newest(const SnapshotFiles& files) {
  ProducerSnapshots all;
  for (const auto& [shard, file] : files) {
    for (const auto& [id, snapshot] : file.partitions) {
      auto [at, fresh] = all.try_emplace(id, snapshot);
      if (!fresh && at->second.covers < snapshot.covers) at->second = snapshot;
    }
  }
  return all;
}

producer::RunningMs time_run(const SnapshotFiles& files) {
  producer::RunningMs most;
  if (PYRALOG_PLANT("replica.forget_time_run")) return most;
  for (const auto& [shard, file] : files) most = std::max(most, file.clock);
  return most;
}

io::Task<Result<void>> remove_producer_snapshots(io::Disk& disk, std::string data_dir,
                                                 std::size_t shards) {
  PYRALOG_CO_ASSIGN(const auto entries, co_await disk.list(data_dir));
  for (const auto& entry : entries) {
    const auto shard = shard_of_file(entry.name);
    if (shard && *shard >= shards)
      PYRALOG_CO_TRY(co_await disk.remove(data_dir + "/" + entry.name));
  }
  co_return co_await disk.sync_dir(data_dir);
}

io::Task<Result<void>> write_producer_snapshots(io::Disk& disk, std::string data_dir,
                                                unsigned shard, SnapshotFile file) {
  const std::string path =
      data_dir + "/" + std::string(kPrefix) + std::to_string(shard) + std::string(kSuffix);
  co_return co_await io::replace_file(disk, path, encode(file));
}

}  // namespace pyralog::replica
