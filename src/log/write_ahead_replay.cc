#include "log/write_ahead_replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/plant.h"
#include "journal/journal.h"
#include "log/segment_check.h"
#include "observe/log.h"

namespace pyralog::log {

namespace {

/// Files that are held open at a time while ranges are put in place.
constexpr std::size_t kMaxOpen = 256;

/// One write-ahead file with a sound header.
struct Use {
  std::string path;
  std::shared_ptr<io::File> file;
  WriteAheadHeader header;
};

io::Task<Result<std::vector<Use>>> find_uses(io::Disk& disk, std::string data_dir,
                                             std::vector<std::string>* files) {
  std::vector<Use> uses;
  PYRALOG_CO_ASSIGN(const std::vector<io::DirEntry> names, co_await disk.list(data_dir));
  for (const io::DirEntry& entry : names) {
    if (entry.is_directory || !entry.name.starts_with("shard-") || !entry.name.ends_with(".wal"))
      continue;
    Use use;
    use.path = data_dir + "/" + entry.name;
    files->push_back(use.path);
    PYRALOG_CO_ASSIGN(use.file, co_await disk.open(use.path, io::OpenMode::kRead));
    Bytes block(kWriteAheadBlock);
    PYRALOG_CO_ASSIGN(const std::size_t got, co_await use.file->read_at(0, block));
    auto header = decode_write_ahead_header(ByteView(block).first(got), use.path);
    if (!header && header.error().code == Code::kUnsupported) co_return fail(header.error());
    // Without a header nothing in it was acknowledged, or the evidence elsewhere will say so.
    if (!header) continue;
    use.header = *header;
    uses.push_back(std::move(use));
  }
  std::ranges::sort(uses, {}, [](const Use& use) {
    return std::pair(use.header.generation, use.header.shard);
  });
  co_return uses;
}

/// The sound frames of one file.
io::Task<Result<void>> walk_use(Use use, WriteAheadVisitor visit, WriteAheadWalk* walk) {
  Bytes header(kWriteAheadFrameHeaderBytes);
  Bytes body;
  bool bad_before = false;
  for (std::uint64_t at = kWriteAheadBlock; at + header.size() < use.file->size();) {
    PYRALOG_CO_ASSIGN(std::size_t got, co_await use.file->read_at(at, header));
    const auto length =
        write_ahead_body_length(ByteView(header).first(got), at, use.header.salt);
    if (length) {
      body.resize(*length);
      PYRALOG_CO_ASSIGN(got, co_await use.file->read_at(at + header.size(), body));
      if (got < body.size()) break;
    }
    const bool sound = length && write_ahead_body_sound(header, body, use.header.salt);
    auto parsed = sound ? decode_write_ahead_body(body)
                        : Result<WriteAheadBody>(fail(Code::kCorrupt, "a bad frame"));
    if (!parsed) {
      bad_before = true;
      at += kWriteAheadBlock;
      continue;
    }
    walk->skipped += std::exchange(bad_before, false) ? 1 : 0;
    walk->frames += 1;
    walk->bytes += header.size() + body.size();
    at += (header.size() + body.size() + kWriteAheadBlock - 1) / kWriteAheadBlock * kWriteAheadBlock;
    PYRALOG_CO_TRY(co_await visit(use.header.shard, std::move(*parsed)));
  }
  co_return Result<void>{};
}

/// Puts ranges in place, or only counts those that are not.
class Placer {
 public:
  Placer(io::Disk& disk, std::string data_dir, bool read_only)
      : disk_(disk), data_dir_(std::move(data_dir)), read_only_(read_only) {}
  [[nodiscard]] io::Task<Result<void>> place(WriteAheadData item);
  [[nodiscard]] io::Task<Result<void>> sync();
  [[nodiscard]] std::uint64_t placed_bytes() const { return placed_bytes_; }

 private:
  struct Target {
    std::shared_ptr<io::File> file;  ///< null: nothing is to be put there
  };
  [[nodiscard]] io::Task<Result<Target>> open_target(WriteAheadData item);
  [[nodiscard]] std::string path_of(const WriteAheadData& item, WriteAheadFile file) const {
    return data_dir_ + "/" + to_string(item.partition) + "/" +
           segment_file_name(item.segment, extension_of(file));
  }

  io::Disk& disk_;
  std::string data_dir_;
  bool read_only_;
  std::map<std::string, Target> targets_;
  std::uint64_t placed_bytes_ = 0;
};

io::Task<Result<Placer::Target>> Placer::open_target(WriteAheadData item) {
  const auto mode = read_only_ ? io::OpenMode::kRead : io::OpenMode::kReadWrite;
  const std::string log_path = path_of(item, WriteAheadFile::kLog);
  auto log = co_await disk_.open(log_path, mode);
  if (!log && log.error().code == Code::kNotFound) co_return Target{};
  if (!log) co_return fail(log.error());
  const auto header = co_await read_segment_header(*log);
  if (!header && header.error().code != Code::kCorrupt) co_return fail(header.error());
  // Recovery will say what is wrong with it. What compaction wrote was durable before it had the name.
  const bool same = header && header->partition == item.partition && header->base == item.segment &&
                    (header->next.value < 0 || PYRALOG_PLANT("log.replay_into_compacted"));
  if (!same) co_return Target{};
  if (item.file == WriteAheadFile::kLog) co_return Target{std::move(*log)};
  auto beside = co_await disk_.open(path_of(item, item.file), mode);
  if (!beside && beside.error().code == Code::kNotFound) co_return Target{};
  if (!beside) co_return fail(beside.error());
  co_return Target{std::move(*beside)};
}

io::Task<Result<void>> Placer::place(WriteAheadData item) {
  const std::string path = path_of(item, item.file);
  auto found = targets_.find(path);
  if (found == targets_.end()) {
    if (targets_.size() >= kMaxOpen) PYRALOG_CO_TRY(co_await sync());
    PYRALOG_CO_ASSIGN(Target opened, co_await open_target(item));
    found = targets_.emplace(path, std::move(opened)).first;
  }
  const std::shared_ptr<io::File> file = found->second.file;
  // Bytes are missing before it: that is damage, which recovery finds and names.
  if (file == nullptr || file->size() < item.position) co_return Result<void>{};
  Bytes there(item.bytes.size());
  PYRALOG_CO_ASSIGN(const std::size_t got, co_await file->read_at(item.position, there));
  const bool equal = got == there.size() && std::ranges::equal(there, item.bytes);
  placed_bytes_ += equal ? 0 : item.bytes.size();
  // Bytes that are equal may be so in the page cache only, on pages that count as clean since a sync of
  // them failed; so they are written all the same.
  const bool done = read_only_ || (equal && PYRALOG_PLANT("log.replay_trusts_cache"));
  co_return done ? Result<void>{} : file->write_at(item.position, item.bytes);
}

io::Task<Result<void>> Placer::sync() {
  std::vector<std::shared_ptr<io::File>> files;
  for (const auto& [path, target] : targets_) {
    if (target.file != nullptr) files.push_back(target.file);
  }
  targets_.clear();
  if (read_only_ || PYRALOG_PLANT("log.replay_no_sync")) co_return Result<void>{};
  for (const auto& result : co_await disk_.sync(files)) {
    if (!result) co_return fail(result.error());
  }
  co_return Result<void>{};
}

/// Adds what a shard's write-ahead files say to its journal of evidence.
io::Task<Result<void>> keep_evidence(io::Disk& disk, std::string path,
                                     std::map<PartitionId, SyncedEntry> found) {
  std::map<PartitionId, SyncedEntry> known;
  journal::Options options;
  options.kind = kSyncedJournalKind;
  PYRALOG_CO_ASSIGN(const auto journal, co_await journal::Journal::open(
                                            disk, path, options, [&](ByteView payload) -> Result<void> {
                                              PYRALOG_ASSIGN(const SyncedEntry entry,
                                                             decode_synced_entry(payload));
                                              known[entry.partition] = entry;
                                              return {};
                                            }));
  for (auto& [id, entry] : found) {
    const auto before = known.find(id);
    const SyncedEntry* than = before == known.end() ? nullptr : &before->second;
    if (!says_more(entry, than)) continue;
    if (than != nullptr) entry.start = std::max(entry.start, than->start);
    PYRALOG_CO_TRY(journal->append(encode(entry)));
  }
  co_return co_await journal->commit(journal->end());
}

}  // namespace

bool says_more(const SyncedEntry& entry, const SyncedEntry* known) {
  if (known == nullptr) return true;
  if (known->generation != entry.generation) return known->generation < entry.generation;
  if (known->kind != SyncedEntry::Kind::kSynced) return false;
  return std::pair(known->segment, known->end_position) <
         std::pair(entry.segment, entry.end_position);
}

io::Task<Result<WriteAheadWalk>> walk_write_ahead(io::Disk& disk, std::string data_dir,
                                                  WriteAheadVisitor visit) {
  WriteAheadWalk walk;
  PYRALOG_CO_ASSIGN(const std::vector<Use> uses,
                    co_await find_uses(disk, std::move(data_dir), &walk.files));
  for (const Use& use : uses) PYRALOG_CO_TRY(co_await walk_use(use, visit, &walk));
  co_return walk;
}

namespace {

io::Task<Result<void>> replay(io::Disk& disk, std::string data_dir) {
  Placer placer(disk, data_dir, false);
  std::map<unsigned, std::map<PartitionId, SyncedEntry>> evidence;
  const WriteAheadVisitor take = [&](unsigned shard, WriteAheadBody body) -> io::Task<Result<void>> {
    for (const SyncedEntry& entry : body.evidence) evidence[shard][entry.partition] = entry;
    for (const WriteAheadData& item : body.data) PYRALOG_CO_TRY(co_await placer.place(item));
    co_return Result<void>{};
  };
  PYRALOG_CO_ASSIGN(const WriteAheadWalk walk, co_await walk_write_ahead(disk, data_dir, take));
  if (walk.files.empty()) co_return Result<void>{};
  PYRALOG_CO_TRY(co_await placer.sync());
  for (auto& [shard, entries] : evidence) {
    PYRALOG_CO_TRY(co_await keep_evidence(disk, data_dir + "/" + synced_journal_name(shard),
                                          std::move(entries)));
  }
  for (const std::string& path : walk.files) {
    auto removed = co_await disk.remove(path);
    if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  }
  PYRALOG_CO_TRY(co_await disk.sync_dir(data_dir));
  if (walk.frames > 0) {
    observe::log_info("log.write_ahead_replayed", {{"frames", walk.frames},
                                                   {"bytes", walk.bytes},
                                                   {"placed_bytes", placer.placed_bytes()}});
  }
  if (walk.skipped > 0) {
    observe::log_warn("log.write_ahead_damaged", {{"frames", walk.skipped},
                                                  {"files", walk.files.front()}});
  }
  co_return Result<void>{};
}

}  // namespace

io::Task<Result<void>> replay_write_ahead(io::Disk& disk, std::string data_dir) {
  if (PYRALOG_PLANT("log.no_replay")) co_return Result<void>{};
  auto done = co_await replay(disk, data_dir);
  if (done || done.error().code == Code::kUnsupported) co_return done;
  Error error = std::move(done.error());
  error.message += "; acknowledged records wait in the files shard-*.wal of " + data_dir +
                   " to be put in their place: free space or mend the disk, and start again";
  co_return fail(std::move(error));
}

namespace {

io::Task<Result<void>> place_one(io::Disk& disk, std::string data_dir, PartitionId partition,
                                 Placer* placer) {
  const WriteAheadVisitor take = [&](unsigned, WriteAheadBody body) -> io::Task<Result<void>> {
    for (const WriteAheadData& item : body.data) {
      if (item.partition == partition) PYRALOG_CO_TRY(co_await placer->place(item));
    }
    co_return Result<void>{};
  };
  PYRALOG_CO_TRY(co_await walk_write_ahead(disk, data_dir, take));
  co_return Result<void>{};
}

}  // namespace

io::Task<Result<void>> place_partition(io::Disk& disk, std::string data_dir, PartitionId partition) {
  Placer placer(disk, data_dir, false);
  PYRALOG_CO_TRY(co_await place_one(disk, data_dir, partition, &placer));
  co_return co_await placer.sync();
}

io::Task<Result<std::uint64_t>> unplaced_bytes(io::Disk& disk, std::string data_dir,
                                               PartitionId partition) {
  Placer placer(disk, data_dir, true);
  PYRALOG_CO_TRY(co_await place_one(disk, data_dir, partition, &placer));
  co_return placer.placed_bytes();
}

}  // namespace pyralog::log
