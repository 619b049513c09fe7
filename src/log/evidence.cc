#include "log/evidence.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/crc32c.h"
#include "base/plant.h"
#include "journal/journal.h"
#include "log/set_aside.h"
#include "log/write_ahead_replay.h"
#include "observe/log.h"

namespace pyralog::log {

namespace {

constexpr std::string_view kCleanMagic = "PYRACLN1";
constexpr std::uint16_t kCleanVersion = 1;
constexpr std::size_t kMaxCleanBytes = 1u << 30;
constexpr std::string_view kDoubt = ".doubt";

void put_partition(Writer& out, const PartitionId& id) {
  out.raw(id.topic.uuid.bytes).le(id.partition.value);
}

PartitionId get_partition(Reader& in) {
  PartitionId id;
  const ByteView topic = in.raw(16);
  std::copy(topic.begin(), topic.end(), id.topic.uuid.bytes.begin());
  id.partition.value = in.le<std::int32_t>();
  return id;
}

CleanLog get_clean_log(Reader& in) {
  CleanLog log;
  log.partition = get_partition(in);
  log.start.value = in.le<std::int64_t>();
  log.end.value = in.le<std::int64_t>();
  const auto epochs = in.le<std::uint32_t>();
  for (std::uint32_t i = 0; i < epochs && in.ok(); ++i) {
    EpochStart e;
    e.epoch.value = in.le<std::uint32_t>();
    e.start.value = in.le<std::int64_t>();
    log.epochs.push_back(e);
  }
  const auto segments = in.le<std::uint32_t>();
  for (std::uint32_t i = 0; i < segments && in.ok(); ++i) {
    CleanLog::CleanSegment s;
    s.base.value = in.le<std::int64_t>();
    s.next.value = in.le<std::int64_t>();
    s.size = in.le<std::uint64_t>();
    s.created_ms = in.le<std::int64_t>();
    s.epoch.value = in.le<std::uint32_t>();
    s.chain = in.le<std::uint32_t>();
    s.max_timestamp.timestamp = in.le<std::int64_t>();
    s.max_timestamp.relative_offset = in.le<std::uint32_t>();
    log.segments.push_back(s);
  }
  return log;
}

}  // namespace

Bytes encode(const SyncedEntry& entry) {
  Writer out;
  out.le(static_cast<std::uint8_t>(entry.kind));
  put_partition(out, entry.partition);
  out.le(entry.generation).le(entry.segment.value).le(entry.end_position);
  out.le(entry.end_offset.value).le(entry.epoch.value).le(entry.chain).le(entry.start.value);
  return out.take();
}

Result<SyncedEntry> decode_synced_entry(ByteView bytes) {
  Reader in(bytes);
  SyncedEntry entry;
  const auto kind = in.le<std::uint8_t>();
  entry.kind = static_cast<SyncedEntry::Kind>(kind);
  entry.partition = get_partition(in);
  entry.generation = in.le<std::uint32_t>();
  entry.segment.value = in.le<std::int64_t>();
  entry.end_position = in.le<std::uint64_t>();
  entry.end_offset.value = in.le<std::int64_t>();
  entry.epoch.value = in.le<std::uint32_t>();
  entry.chain = in.le<std::uint32_t>();
  // Entries of the first version end here.
  if (in.left() > 0) entry.start.value = in.le<std::int64_t>();
  if (!in.done() || kind > static_cast<std::uint8_t>(SyncedEntry::Kind::kForgotten)) {
    return fail(Code::kCorrupt, "a `synced` entry does not parse");
  }
  return entry;
}

Bytes encode(const CleanState& state) {
  Writer out;
  out.raw(as_bytes(kCleanMagic)).le(kCleanVersion).le(std::uint16_t{0}).le(state.generation);
  out.le(static_cast<std::uint32_t>(state.logs.size()));
  for (const CleanLog& log : state.logs) {
    put_partition(out, log.partition);
    out.le(log.start.value).le(log.end.value);
    out.le(static_cast<std::uint32_t>(log.epochs.size()));
    for (const EpochStart& e : log.epochs) out.le(e.epoch.value).le(e.start.value);
    out.le(static_cast<std::uint32_t>(log.segments.size()));
    for (const CleanLog::CleanSegment& s : log.segments) {
      out.le(s.base.value).le(s.next.value).le(s.size).le(s.created_ms).le(s.epoch.value);
      out.le(s.chain).le(s.max_timestamp.timestamp).le(s.max_timestamp.relative_offset);
    }
  }
  out.le(crc32c(out.view()));
  return out.take();
}

Result<CleanState> decode_clean_state(ByteView bytes, const std::string& path) {
  const auto damaged = [&] {
    return fail(Code::kCorrupt, fmt::format("checkpoint {} fails its checks", path));
  };
  if (bytes.size() < 24) return damaged();
  const ByteView body = bytes.first(bytes.size() - 4);
  Reader in(body);
  if (as_text(in.raw(kCleanMagic.size())) != kCleanMagic) return damaged();
  const auto version = in.le<std::uint16_t>();
  (void)in.le<std::uint16_t>();
  if (load_le<std::uint32_t>(bytes.data() + body.size()) != crc32c(body)) return damaged();
  if (version != kCleanVersion) {
    return fail(Code::kUnsupported,
                fmt::format("checkpoint {} has format version {}, this program reads version {}; "
                            "start the version of pyralog that wrote it, or a later one",
                            path, version, kCleanVersion));
  }
  CleanState state;
  state.generation = in.le<std::uint32_t>();
  const auto count = in.le<std::uint32_t>();
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) state.logs.push_back(get_clean_log(in));
  if (!in.done()) return damaged();
  return state;
}

std::string synced_journal_name(unsigned shard) { return fmt::format("shard-{}.synced", shard); }
std::string checkpoint_name(unsigned shard) { return fmt::format("shard-{}.clean", shard); }

const SyncedEntry* Evidence::synced(const PartitionId& id) const {
  const auto found = synced_.find(id);
  return found == synced_.end() || found->second.kind != SyncedEntry::Kind::kSynced ? nullptr
                                                                                  : &found->second;
}

const CleanLog* Evidence::clean(const PartitionId& id) const {
  const auto found = clean_.find(id);
  return found == clean_.end() ? nullptr : &found->second;
}

io::Task<Result<std::unique_ptr<journal::Journal>>> open_synced_journal(
    io::Disk& disk, std::string path, std::function<void(const SyncedEntry&)> show) {
  std::vector<SyncedEntry> found;
  const auto take = [&](ByteView payload) -> Result<void> {
    PYRALOG_ASSIGN(const SyncedEntry entry, decode_synced_entry(payload));
    found.push_back(entry);
    return {};
  };
  journal::Options options;
  options.kind = kSyncedJournalKind;
  auto opened = co_await journal::Journal::open(disk, path, options, take);
  if (!opened && opened.error().code == Code::kCorrupt && !PYRALOG_PLANT("log.doubt_stops_the_start")) {
    std::string aside = path;
    aside += PYRALOG_PLANT("log.doubt_forgotten_at_once") ? ".damaged" : kDoubt;
    observe::log_error("log.evidence_damaged", {{"file", path},
                                                {"reason", opened.error().message},
                                                {"next", "its partitions are read back as a whole"}});
    found.clear();
    PYRALOG_CO_TRY(co_await disk.rename(path, std::move(aside)));
    PYRALOG_CO_TRY(co_await disk.sync_dir(io::parent_dir(path)));
    opened = co_await journal::Journal::open(disk, path, options, take);
  }
  if (opened) std::ranges::for_each(found, show);
  co_return opened;
}

namespace {
/// The shard in "shard-N.synced.doubt".
std::optional<unsigned> doubted_shard(std::string_view name) {
  constexpr std::string_view kBefore = "shard-";
  constexpr std::string_view kBehind = ".synced.doubt";
  if (!name.starts_with(kBefore) || !name.ends_with(kBehind)) return std::nullopt;
  if (name.size() <= kBefore.size() + kBehind.size()) return std::nullopt;
  name = name.substr(kBefore.size(), name.size() - kBefore.size() - kBehind.size());
  unsigned shard = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), shard);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return shard;
}
}  // namespace

io::Task<Result<void>> doubt_recorded(io::Disk& disk, std::string data_dir) {
  PYRALOG_CO_ASSIGN(const std::vector<io::DirEntry> names, co_await disk.list(data_dir));
  bool changed = false;
  for (const io::DirEntry& entry : names) {
    if (!doubted_shard(entry.name)) continue;
    const std::string path = data_dir + "/" + entry.name;
    const std::string journal = path.substr(0, path.size() - kDoubt.size());
    PYRALOG_CO_ASSIGN(std::string name, co_await free_damaged_name(disk, journal));
    PYRALOG_CO_TRY(co_await disk.rename(path, std::move(name)));
    changed = true;
  }
  if (!changed) co_return Result<void>{};
  co_return co_await disk.sync_dir(std::move(data_dir));
}

io::Task<Result<std::shared_ptr<const Evidence>>> Evidence::load(io::Disk& disk,
                                                                 std::string data_dir,
                                                                 EvidenceAccess access,
                                                                 GiveUp give_up) {
  auto evidence = std::make_shared<Evidence>();
  std::map<PartitionId, std::uint32_t> clean_generation;
  // A checkpoint that a killed process removed must not come back, nor a partition's name go.
  if (access == EvidenceAccess::kMend && !PYRALOG_PLANT("log.trust_names")) {
    PYRALOG_CO_TRY(co_await disk.sync_dir(data_dir));
  }
  // What was acknowledged is put where the logs look for it, before anybody looks.
  if (access == EvidenceAccess::kMend) {
    PYRALOG_CO_TRY(co_await replay_write_ahead(disk, data_dir, kReplayOpenFiles, std::move(give_up)));
  }
  journal::Options journal_options;
  journal_options.kind = kSyncedJournalKind;
  PYRALOG_CO_ASSIGN(const std::vector<io::DirEntry> names, co_await disk.list(data_dir));
  for (const io::DirEntry& entry : names) {
    const std::string path = data_dir + "/" + entry.name;
    if (entry.is_directory || !entry.name.starts_with("shard-")) continue;
    if (entry.name.ends_with(".synced")) {
      const auto note = [&](const SyncedEntry& found) {
        SyncedEntry& kept = evidence->synced_[found.partition];
        if (found.generation >= kept.generation) kept = found;
        evidence->generation_ = std::max(evidence->generation_, found.generation + 1);
      };
      if (access == EvidenceAccess::kMend) {
        PYRALOG_CO_TRY(co_await open_synced_journal(disk, path, note));
        continue;
      }
      const auto take = [&](ByteView payload) -> Result<void> {
        PYRALOG_ASSIGN(const SyncedEntry found, decode_synced_entry(payload));
        note(found);
        return {};
      };
      PYRALOG_CO_TRY(co_await journal::Journal::peek(disk, path, journal_options, take));
    } else if (entry.name.ends_with(".clean")) {
      evidence->checkpoints_.push_back(path);
      auto bytes = co_await io::read_file(disk, path, kMaxCleanBytes);
      if (!bytes) continue;
      auto state = decode_clean_state(*bytes, path);
      if (!state && state.error().code == Code::kUnsupported) co_return fail(state.error());
      if (!state) continue;
      evidence->generation_ = std::max(evidence->generation_, state->generation + 1);
      for (CleanLog& log : state->logs) {
        std::uint32_t& kept = clean_generation[log.partition];
        if (state->generation < kept) continue;
        kept = state->generation;
        evidence->clean_[log.partition] = std::move(log);
      }
    }
  }
  // Once more: one may just have been set aside.
  PYRALOG_CO_ASSIGN(const std::vector<io::DirEntry> left, co_await disk.list(data_dir));
  for (const io::DirEntry& entry : left) {
    if (const auto shard = doubted_shard(entry.name)) evidence->damaged_.insert(*shard);
  }
  if (access == EvidenceAccess::kReadOnly) {
    const WriteAheadVisitor take = [&](unsigned, WriteAheadBody body) -> io::Task<Result<void>> {
      for (const SyncedEntry& entry : body.evidence) (void)add_evidence(evidence->synced_, entry);
      co_return Result<void>{};
    };
    PYRALOG_CO_TRY(co_await walk_write_ahead(disk, data_dir, take));
  }
  co_return evidence;
}

}  // namespace pyralog::log
