#include "log/write_ahead_replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/plant.h"
#include "io/retry.h"
#include "journal/journal.h"
#include "log/segment_check.h"
#include "log/set_aside.h"
#include "observe/log.h"

namespace pyralog::log {

namespace {

/// How often a replay that the disk has failed is repeated, and after which pauses: what passes in a few
/// seconds keeps no node down.
constexpr unsigned kReplayRepeats = 4;
constexpr io::BackoffOptions kReplayPauses{.first = 100ms, .most = 2s};

/// One write-ahead file with a sound header.
struct Use {
  std::string path;
  std::shared_ptr<io::File> file;
  WriteAheadHeader header;
};

/// What cannot be read may have been acknowledged, and nothing else need tell of it.
std::unexpected<Error> unreadable(const io::File& file, std::uint64_t at, Error why) {
  why.message = fmt::format("byte {} of the write-ahead file {} cannot be read ({}); if that stays so, "
                            "put in its place a copy of what can be read of it, or move it away: what "
                            "it alone holds is lost then",
                            at, file.path(), why.message);
  return fail(std::move(why));
}

/// Null if no copy is sound. Where one is, the other need not be readable.
io::Task<Result<std::optional<WriteAheadHeader>>> read_header(std::shared_ptr<io::File> file) {
  Bytes blocks(kWriteAheadFirst, 0);
  Result<std::size_t> read;
  for (const std::uint64_t at : {std::uint64_t{0}, kWriteAheadBlock}) {
    auto got = co_await file->read_at(at, MutableBytes(blocks).subspan(at, kWriteAheadBlock));
    if (!got) read = std::move(got);
  }
  auto header = decode_write_ahead_header(blocks, file->path());
  if (header) co_return *header;
  if (header.error().code == Code::kUnsupported) co_return fail(header.error());
  if (!read && !PYRALOG_PLANT("log.replay_skips_unreadable")) {
    co_return unreadable(*file, 0, std::move(read.error()));
  }
  co_return std::nullopt;
}

io::Task<Result<std::vector<Use>>> find_uses(io::Disk& disk, std::string data_dir,
                                             WriteAheadWalk* walk) {
  std::vector<Use> uses;
  PYRALOG_CO_ASSIGN(const std::vector<io::DirEntry> names, co_await disk.list(data_dir));
  for (const io::DirEntry& entry : names) {
    if (entry.is_directory || !entry.name.starts_with("shard-") || !entry.name.ends_with(".wal"))
      continue;
    Use use;
    use.path = data_dir + "/" + entry.name;
    walk->files.push_back(use.path);
    PYRALOG_CO_ASSIGN(use.file, co_await disk.open(use.path, io::OpenMode::kRead));
    PYRALOG_CO_ASSIGN(auto header, co_await read_header(use.file));
    if (!header) {
      // Without one a file was never used: it is durable before anything else is written.
      walk->damaged = walk->damaged || use.file->size() > kWriteAheadFirst;
      continue;
    }
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
  for (std::uint64_t at = kWriteAheadFirst; at + header.size() < use.file->size();) {
    auto got = co_await use.file->read_at(at, header);
    const auto length =
        write_ahead_body_length(ByteView(header).first(got.value_or(0)), at, use.header.salt);
    if (length) {
      body.resize(*length);
      got = co_await use.file->read_at(at + header.size(), body);
    }
    if (!got && !PYRALOG_PLANT("log.replay_skips_unreadable")) {
      co_return unreadable(*use.file, at, std::move(got.error()));
    }
    const bool sound = length && got.value_or(0) == body.size() &&
                       write_ahead_body_sound(header, body, use.header.salt);
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

/// Puts ranges in place, or only counts those that are not. The files of one pass are open at a time.
class Placer {
 public:
  Placer(io::Disk& disk, std::string data_dir, bool read_only)
      : disk_(disk), data_dir_(std::move(data_dir)), read_only_(read_only) {}
  [[nodiscard]] io::Task<Result<void>> place(WriteAheadData item);
  [[nodiscard]] io::Task<Result<void>> sync();
  [[nodiscard]] std::uint64_t placed_bytes() const { return placed_bytes_; }
  /// Files that are open until the next sync, or were found not to be there.
  [[nodiscard]] std::size_t open_targets() const { return targets_.size(); }
  /// Partitions with something that could not be put in its place, and why.
  [[nodiscard]] const std::map<PartitionId, std::string>& failed() const { return failed_; }
  /// Rounds are written while the one before is not durable yet, so the power may leave what follows
  /// upon bytes that it took: nobody was told of either. But if evidence of `known` says that the bytes
  /// which are missing were durable, that partition has failed.
  void judge_gaps(const std::map<PartitionId, SyncedEntry>& known);
  [[nodiscard]] std::string path_of(const WriteAheadData& item, WriteAheadFile file) const {
    return data_dir_ + "/" + to_string(item.partition) + "/" +
           segment_file_name(item.segment, extension_of(file));
  }

 private:
  struct Target {
    PartitionId partition;
    std::shared_ptr<io::File> file;  ///< null: nothing is to be put there
  };
  [[nodiscard]] io::Task<Result<std::shared_ptr<io::File>>> open_target(WriteAheadData item);
  /// Whether to go on without that partition: its own bytes are wrong. Where a call failed, or there is
  /// no space, another try is better.
  [[nodiscard]] Result<void> fail_or_note(const PartitionId& partition, const Error& error);

  io::Disk& disk_;
  std::string data_dir_;
  bool read_only_;
  std::map<std::string, Target> targets_;
  struct Gap {
    Offset segment;
    std::uint64_t from = 0;  ///< where the segment ends
    std::string why;
  };

  std::map<PartitionId, std::string> failed_;
  std::map<PartitionId, Gap> gaps_;  ///< the first of each partition
  std::uint64_t placed_bytes_ = 0;
};

void Placer::judge_gaps(const std::map<PartitionId, SyncedEntry>& known) {
  for (const auto& [partition, gap] : gaps_) {
    const auto found = known.find(partition);
    if (found == known.end() || found->second.kind != SyncedEntry::Kind::kSynced) continue;
    const SyncedEntry& entry = found->second;
    const bool durable =
        std::pair(entry.segment, entry.end_position) > std::pair(gap.segment, gap.from) ||
        PYRALOG_PLANT("log.replay_takes_gaps_for_damage");
    if (durable && !PYRALOG_PLANT("log.replay_ignores_gaps")) failed_.emplace(partition, gap.why);
  }
}

Result<void> Placer::fail_or_note(const PartitionId& partition, const Error& error) {
  const bool passing = error.code == Code::kIo && !PYRALOG_PLANT("log.replay_strands_records");
  if (passing || (error.code != Code::kIo && error.code != Code::kCorrupt)) return fail(error);
  failed_.emplace(partition, error.message);
  return {};
}

/// Null if nothing is to be put there.
io::Task<Result<std::shared_ptr<io::File>>> Placer::open_target(WriteAheadData item) {
  const auto mode = read_only_ ? io::OpenMode::kRead : io::OpenMode::kReadWrite;
  const std::shared_ptr<io::File> none;
  auto log = co_await disk_.open(path_of(item, WriteAheadFile::kLog), mode);
  if (!log && log.error().code == Code::kNotFound) co_return none;
  if (!log) co_return log;
  PYRALOG_CO_ASSIGN(const SegmentHeader header, co_await read_segment_header(*log));
  // What compaction wrote was durable before it had the name.
  const bool same = header.partition == item.partition && header.base == item.segment &&
                    (header.next.value < 0 || PYRALOG_PLANT("log.replay_into_compacted"));
  if (!same) co_return none;
  if (item.file == WriteAheadFile::kLog) co_return log;
  auto beside = co_await disk_.open(path_of(item, item.file), mode);
  if (!beside && beside.error().code == Code::kNotFound) co_return none;
  co_return beside;
}

io::Task<Result<void>> Placer::place(WriteAheadData item) {
  const std::string path = path_of(item, item.file);
  auto found = targets_.find(path);
  if (found == targets_.end()) {
    auto opened = co_await open_target(item);
    if (!opened) PYRALOG_CO_TRY(fail_or_note(item.partition, opened.error()));
    Target target{item.partition, opened ? std::move(*opened) : nullptr};
    found = targets_.emplace(path, std::move(target)).first;
  }
  const std::shared_ptr<io::File> file = found->second.file;
  if (file == nullptr) co_return Result<void>{};
  if (file->size() < item.position) {
    // Append times are allowed to lack what is young; a log is not.
    if (item.file == WriteAheadFile::kLog) {
      gaps_.try_emplace(item.partition, Gap{item.segment, file->size(),
                                            fmt::format("{} ends before byte {}", path, item.position)});
    }
    co_return Result<void>{};
  }
  Bytes there(item.bytes.size());
  const std::size_t got = (co_await file->read_at(item.position, there)).value_or(0);
  const bool equal = got == there.size() && std::ranges::equal(there, item.bytes);
  placed_bytes_ += equal ? 0 : item.bytes.size();
  // Bytes that are equal may be so in the page cache only, on pages that count as clean since a sync of
  // them failed; so they are written all the same.
  const bool done = read_only_ || (equal && PYRALOG_PLANT("log.replay_trusts_cache"));
  if (done) co_return Result<void>{};
  if (auto written = file->write_at(item.position, item.bytes); !written) {
    co_return fail_or_note(item.partition, written.error());
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Placer::sync() {
  std::vector<std::shared_ptr<io::File>> files;
  std::vector<PartitionId> owners;
  for (const auto& [path, target] : targets_) {
    if (target.file == nullptr) continue;
    files.push_back(target.file);
    owners.push_back(target.partition);
  }
  targets_.clear();
  if (read_only_ || PYRALOG_PLANT("log.replay_no_sync")) co_return Result<void>{};
  const auto results = co_await disk_.sync(std::move(files));
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (!results[i]) PYRALOG_CO_TRY(fail_or_note(owners[i], results[i].error()));
  }
  co_return Result<void>{};
}

/// Adds what a shard's write-ahead files say to its journal of evidence; returns what is known then.
io::Task<Result<std::map<PartitionId, SyncedEntry>>> keep_evidence(
    io::Disk& disk, std::string path, std::map<PartitionId, SyncedEntry> found) {
  std::map<PartitionId, SyncedEntry> known;
  PYRALOG_CO_ASSIGN(const auto journal,
                    co_await open_synced_journal(disk, std::move(path), [&](const SyncedEntry& entry) {
                      known[entry.partition] = entry;
                    }));
  for (const auto& [id, entry] : found) {
    if (const SyncedEntry* more = add_evidence(known, entry)) {
      PYRALOG_CO_TRY(journal->append(encode(*more)));
    }
  }
  PYRALOG_CO_TRY(co_await journal->commit(journal->end()));
  co_return known;
}

}  // namespace

const SyncedEntry* add_evidence(std::map<PartitionId, SyncedEntry>& known, const SyncedEntry& entry) {
  const auto [at, fresh] = known.try_emplace(entry.partition, entry);
  SyncedEntry& kept = at->second;
  if (fresh) return &kept;
  if (kept.generation > entry.generation) return nullptr;
  if (kept.generation == entry.generation) {
    if (kept.kind != SyncedEntry::Kind::kSynced) return nullptr;
    if (std::pair(kept.segment, kept.end_position) >= std::pair(entry.segment, entry.end_position)) {
      return nullptr;
    }
  }
  const Offset start = std::max(kept.start, entry.start);
  kept = entry;
  kept.start = start;
  return &kept;
}

io::Task<Result<WriteAheadWalk>> walk_write_ahead(io::Disk& disk, std::string data_dir,
                                                  WriteAheadVisitor visit) {
  WriteAheadWalk walk;
  PYRALOG_CO_ASSIGN(const std::vector<Use> uses,
                    co_await find_uses(disk, std::move(data_dir), &walk));
  for (const Use& use : uses) PYRALOG_CO_TRY(co_await walk_use(use, visit, &walk));
  co_return walk;
}

namespace {

/// Lets the files go, or keeps them for people if something in them is in no other place.
io::Task<Result<void>> remove_files(io::Disk& disk, std::string data_dir,
                                    std::vector<std::string> files, bool keep) {
  for (const std::string& path : files) {
    std::string aside;
    if (keep) {
      PYRALOG_CO_ASSIGN(aside, co_await free_damaged_name(disk, path));
    }
    if (PYRALOG_PLANT("log.one_write_ahead_incident_only")) aside = path + ".damaged";
    auto gone = keep ? co_await disk.rename(path, std::move(aside)) : co_await disk.remove(path);
    if (!gone && gone.error().code != Code::kNotFound) co_return gone;
  }
  co_return co_await disk.sync_dir(std::move(data_dir));
}

io::Task<Result<void>> replay(io::Disk& disk, std::string data_dir, std::size_t open_files,
                              GiveUp give_up) {
  Placer placer(disk, data_dir, false);
  std::map<unsigned, std::map<PartitionId, SyncedEntry>> evidence;
  std::set<std::string> paths;
  std::set<unsigned> shards;
  const WriteAheadVisitor look = [&](unsigned shard, WriteAheadBody body) -> io::Task<Result<void>> {
    PYRALOG_CO_TRY(go_on(give_up));
    shards.insert(shard);
    for (const SyncedEntry& entry : body.evidence) evidence[shard][entry.partition] = entry;
    for (const WriteAheadData& item : body.data) paths.insert(placer.path_of(item, item.file));
    co_return Result<void>{};
  };
  PYRALOG_CO_ASSIGN(const WriteAheadWalk walk, co_await walk_write_ahead(disk, data_dir, look));
  if (walk.files.empty()) co_return Result<void>{};
  // Each file is opened and synced once: a pass takes as many as may be open.
  for (auto from = paths.begin(); from != paths.end();) {
    auto to = from;
    for (std::size_t n = 0; n < open_files && to != paths.end(); ++n) ++to;
    const std::string& first = *from;
    const std::string* behind = to == paths.end() ? nullptr : &*to;
    const WriteAheadVisitor place = [&](unsigned, WriteAheadBody body) -> io::Task<Result<void>> {
      PYRALOG_CO_TRY(go_on(give_up));
      for (const WriteAheadData& item : body.data) {
        const std::string path = placer.path_of(item, item.file);
        if (path < first || (behind != nullptr && path >= *behind)) continue;
        PYRALOG_CO_TRY(co_await placer.place(item));
      }
      co_return Result<void>{};
    };
    PYRALOG_CO_TRY(co_await walk_write_ahead(disk, data_dir, place));
    PYRALOG_CO_TRY(co_await placer.sync());
    from = to;
  }
  std::map<PartitionId, SyncedEntry> known;
  for (const unsigned shard : shards) {
    PYRALOG_CO_ASSIGN(const auto of_shard,
                      co_await keep_evidence(disk, data_dir + "/" + synced_journal_name(shard),
                                             std::move(evidence[shard])));
    for (const auto& [id, entry] : of_shard) (void)add_evidence(known, entry);
  }
  placer.judge_gaps(known);
  const bool keep = walk.damaged || !placer.failed().empty();
  PYRALOG_CO_TRY(co_await remove_files(disk, data_dir, walk.files, keep));
  if (walk.frames > 0) {
    observe::log_info("log.write_ahead_replayed", {{"frames", walk.frames},
                                                   {"bytes", walk.bytes},
                                                   {"placed_bytes", placer.placed_bytes()}});
  }
  for (const auto& [partition, why] : placer.failed()) {
    observe::log_error("log.write_ahead_not_placed",
                       {{"partition", to_string(partition)},
                        {"kept", walk.files.front() + ".damaged"},
                        {"reason", why}});
  }
  if (walk.damaged) {
    observe::log_error("log.write_ahead_damaged",
                       {{"kept", walk.files.front() + ".damaged"},
                        {"reason", "a file has no sound header; what was durable by it alone is missing"}});
  }
  // So does a round of several frames look that the power cut short.
  if (walk.skipped > 0) {
    observe::log_warn("log.write_ahead_frames_skipped",
                      {{"file", walk.files.front()}, {"places", walk.skipped}});
  }
  co_return Result<void>{};
}

}  // namespace

io::Task<Result<void>> replay_write_ahead(io::Disk& disk, std::string data_dir,
                                          std::size_t open_files, GiveUp give_up) {
  if (PYRALOG_PLANT("log.no_replay")) co_return Result<void>{};
  // Each attempt opens all files anew and writes all bytes again: a handle whose sync has failed, and
  // pages that count as clean since, prove nothing.
  io::Backoff pause(kReplayPauses);
  auto done = co_await replay(disk, data_dir, open_files, give_up);
  while (!done && done.error().code == Code::kIo && pause.attempts() < kReplayRepeats) {
    if (PYRALOG_PLANT("log.replay_gives_up_at_once")) break;
    observe::log_warn("log.write_ahead_replay_repeated", {{"reason", done.error().message}});
    if (!co_await pause.wait(Instant::never())) break;
    PYRALOG_CO_TRY(go_on(give_up));
    done = co_await replay(disk, data_dir, open_files, give_up);
  }
  if (done || done.error().code == Code::kUnsupported || done.error().code == Code::kCancelled) {
    co_return done;
  }
  Error error = std::move(done.error());
  error.message += "; acknowledged records wait in the files shard-*.wal of " + data_dir +
                   " to be put in their place: free space, mend the disk or copy the directory to "
                   "another one, and start again";
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

io::Task<Result<void>> place_partition(io::Disk& disk, std::string data_dir, PartitionId partition,
                                       const SyncedEntry* known) {
  Placer placer(disk, data_dir, false);
  PYRALOG_CO_TRY(co_await place_one(disk, data_dir, partition, &placer));
  PYRALOG_CO_TRY(co_await placer.sync());
  if (known != nullptr) placer.judge_gaps({{partition, *known}});
  if (!placer.failed().empty()) co_return fail(Code::kIo, placer.failed().begin()->second);
  co_return Result<void>{};
}

io::Task<Result<std::map<PartitionId, Unplaced>>> unplaced_bytes(io::Disk& disk, std::string data_dir,
                                                                 std::size_t open_files) {
  Placer placer(disk, data_dir, true);
  std::map<PartitionId, Unplaced> found;
  const WriteAheadVisitor look = [&](unsigned, WriteAheadBody body) -> io::Task<Result<void>> {
    for (const WriteAheadData& item : body.data) {
      const auto known = found.find(item.partition);
      if (known != found.end() && known->second.unreadable) continue;
      if (placer.open_targets() >= open_files) PYRALOG_CO_TRY(co_await placer.sync());
      const std::uint64_t before = placer.placed_bytes();
      auto placed = co_await placer.place(item);
      const std::uint64_t bytes = placer.placed_bytes() - before;
      if (placed && bytes == 0) continue;
      Unplaced& partition = found[item.partition];
      partition.bytes += bytes;
      // One partition that cannot be read is no reason to leave the others alone.
      if (!placed) partition.unreadable = std::move(placed.error());
    }
    co_return Result<void>{};
  };
  PYRALOG_CO_TRY(co_await walk_write_ahead(disk, data_dir, look));
  co_return found;
}

}  // namespace pyralog::log
