#include "log/shard_logs.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "log/recovery.h"
#include "log/set_aside.h"

namespace pyralog::log {

ShardLogs::ShardLogs(io::Disk& disk, Options options, std::shared_ptr<const Evidence> evidence)
    : disk_(disk),
      options_(std::move(options)),
      evidence_(std::move(evidence)),
      files_(disk, options_.max_open_files),
      indexes_(options_.max_index_bytes),
      memory_room_(
          std::make_shared<MemoryRoom>(options_.memory_bytes / std::max(options_.shards, 1U))),
      write_ahead_(*this),
      committer_(*this) {}

ShardLogs::~ShardLogs() = default;

void ShardLogs::spawn(io::Task<void> task) {
  background_.spawn(std::move(task));
}

io::Task<Result<std::unique_ptr<ShardLogs>>> ShardLogs::open(
    io::Disk& disk, Options options, std::shared_ptr<const Evidence> evidence) {
  std::unique_ptr<ShardLogs> logs(new ShardLogs(disk, std::move(options), std::move(evidence)));
  PYRALOG_CO_TRY(co_await logs->committer_.open());
  co_return logs;
}

void ShardLogs::forget_file(const std::string& path) {
  files_.forget(path);
  write_ahead_.forget(path);
}

io::Task<Result<void>> ShardLogs::begin_writing() {
  if (writing_) co_return Result<void>{};
  const auto guard = co_await begin_turn_.lock();
  if (writing_) co_return Result<void>{};
  // The checkpoints of all shards: a partition may have come here from another one.
  for (const std::string& path : evidence_->checkpoint_files()) {
    if (PYRALOG_PLANT("log.keep_checkpoint")) break;
    auto removed = co_await disk_.remove(path);
    if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  }
  if (!evidence_->checkpoint_files().empty()) {
    PYRALOG_CO_TRY(co_await disk_.sync_dir(options_.data_dir));
  }
  writing_ = true;
  co_return Result<void>{};
}

std::shared_ptr<PartitionLog> ShardLogs::find(const PartitionId& id) const {
  const auto found = logs_.find(id);
  return found == logs_.end() ? nullptr : found->second;
}

void ShardLogs::open_clean(PartitionLog& log, const CleanLog& clean) const {
  log.start_ = clean.start;
  // Who deleted records may have been refused when the evidence could not be written, and a later
  // write took it along all the same. A start after a crash goes by it, so this one does.
  const SyncedEntry* synced = evidence_->synced(log.id_);
  if (synced != nullptr && !PYRALOG_PLANT("log.clean_start_below_evidence")) {
    log.start_ = std::max(log.start_, std::min(synced->start, clean.end));
  }
  log.end_ = log.synced_end_ = clean.end;
  for (const EpochStart& e : clean.epochs) (void)log.epochs_.note(e.epoch, e.start);
  log.epochs_saved_ = SIZE_MAX;
  for (const CleanLog::CleanSegment& s : clean.segments) {
    auto segment = std::make_shared<Segment>();
    segment->base = s.base;
    segment->next = s.next;
    segment->size = segment->synced = s.size;
    segment->created_ms = s.created_ms;
    segment->epoch = s.epoch;
    segment->chain = s.chain;
    segment->max_timestamp = s.max_timestamp;
    segment->sealed = &s != &clean.segments.back();
    segment->index = SegmentIndex(s.base, log.config_.index_interval_bytes);
    log.segments_.push_back(std::move(segment));
  }
}

bool ShardLogs::in_doubt(const PartitionId& id) const {
  if (evidence_->damaged().empty() || evidence_->clean(id) != nullptr) return false;
  if (deleted_.contains(id)) return false;
  return evidence_->damaged().contains(options_.shard) || committer_.latest(id) == nullptr;
}

io::Task<Result<std::shared_ptr<PartitionLog>>> ShardLogs::open_log(PartitionId id,
                                                                    LogConfig config,
                                                                    Offset initial,
                                                                    EpochTable given_out) {
  if (logs_.contains(id)) {
    co_return fail(Code::kAlreadyExists,
                   fmt::format("partition {} is open already", to_string(id)));
  }
  std::shared_ptr<PartitionLog> log(new PartitionLog(*this, id, config));
  const bool first = first_opening(id) && !deleted_.contains(id);
  const CleanLog* clean = first ? evidence_->clean(id) : nullptr;
  if (config.durability == Durability::kMemory) {
    const Offset start = clean ? std::max(clean->end, initial) : initial;
    log->memory_ = std::make_unique<MemoryStore>(start, config.memory_bytes, memory_room_);
    log->start_ = log->end_ = start;
  } else if (clean != nullptr) {
    open_clean(*log, *clean);
  } else {
    const bool doubt = in_doubt(id);
    const SyncedEntry* synced = committer_.latest(id);
    // What other shards' journals say may be older than what the damaged one said.
    const bool other =
        deleted_.contains(id) && !PYRALOG_PLANT("log.believe_evidence_of_a_deleted_log");
    const SyncedEntry* older = doubt || other ? nullptr : evidence_->synced(id);
    if (synced == nullptr || (older != nullptr && synced->generation < older->generation)) {
      synced = older;
    }
    std::optional<SyncedEntry> copy;
    if (synced != nullptr) copy = *synced;
    Recovery recovery(*this, *log, copy ? &*copy : nullptr, std::move(given_out), doubt);
    PYRALOG_CO_TRY(co_await recovery.run(initial));
  }
  opened_.insert(id);
  if (!logs_.emplace(id, log).second) {
    co_return fail(Code::kAlreadyExists,
                   fmt::format("partition {} is open already", to_string(id)));
  }
  co_return log;
}

io::Task<Result<std::shared_ptr<PartitionLog>>> ShardLogs::reopen(PartitionId id) {
  const auto found = logs_.find(id);
  if (found == logs_.end()) {
    co_return fail(Code::kNotFound, fmt::format("partition {} is not open", to_string(id)));
  }
  const std::shared_ptr<PartitionLog> old = found->second;
  if (old->memory_) co_return old;
  (void)old->end_serving(Error{Code::kUnavailable, "it is being opened anew", 0});
  const auto guard = co_await old->turn_.lock();
  co_await committer_.drain();
  co_await committer_.forget_noted(id);
  PYRALOG_CO_TRY(co_await write_ahead_.restore(id));
  for (const auto& segment : old->segments_) files_.forget(old->path_of(segment->base, "log"));
  logs_.erase(id);
  auto opened = co_await open_log(id, old->config_, old->start_, old->epochs_);
  if (!opened) logs_.emplace(id, old);
  co_return opened;
}

io::Task<Result<void>> ShardLogs::delete_log(PartitionId id) { return take_away(id, {}); }

io::Task<Result<std::string>> ShardLogs::set_aside(PartitionId id) {
  PYRALOG_CO_ASSIGN(std::string name,
                    co_await free_damaged_name(disk_, options_.data_dir + "/" + to_string(id)));
  PYRALOG_CO_TRY(co_await take_away(id, name));
  co_return name;
}

io::Task<Result<void>> ShardLogs::take_away(PartitionId id, std::string kept_as) {
  PYRALOG_CO_TRY(co_await begin_writing());
  std::string dir = options_.data_dir + "/" + to_string(id);
  const auto found = logs_.find(id);
  const std::shared_ptr<PartitionLog> log = found == logs_.end() ? nullptr : found->second;
  const auto forget_files = [this, &log] {
    if (log == nullptr) return;
    for (const auto& segment : log->segments_) {
      forget_file(log->path_of(segment->base, "log"));
      forget_file(log->path_of(segment->base, "appendtime"));
    }
  };
  if (log != nullptr) {
    (void)log->end_serving(Error{Code::kNotFound, "it is deleted", 0});
    logs_.erase(found);
    const auto guard = co_await log->turn_.lock();
    co_await committer_.forget_noted(id);
    if (log->memory_) co_return Result<void>{};
  }
  forget_files();
  deleted_.insert(id);
  // First the evidence: a directory that is half removed is no damage.
  SyncedEntry forgotten;
  forgotten.kind = SyncedEntry::Kind::kForgotten;
  forgotten.partition = id;
  if (auto told = co_await committer_.lower(forgotten); !told) {
    if (PYRALOG_PLANT("log.delete_needs_space")) co_return told;
    // A full disk must not keep what is to make room on it. Nobody opens the partition again, so
    // its evidence may be written later, with the next round that can.
    committer_.note(forgotten);
  }
  if (PYRALOG_PLANT("log.keep_deleted_files")) co_return Result<void>{};
  Result<void> removed;
  if (kept_as.empty()) {
    removed = co_await disk_.remove_tree(dir);
  } else if (const auto there = co_await disk_.exists(dir); !there || *there) {
    removed = co_await disk_.rename(dir, std::move(kept_as));
  }
  // A read that had begun before may have opened its file again meanwhile.
  if (!PYRALOG_PLANT("log.forget_files_once")) forget_files();
  PYRALOG_CO_TRY(removed);
  PYRALOG_CO_TRY(co_await disk_.sync_dir(options_.data_dir));
  committer_.drop(id);
  co_return Result<void>{};
}

void ShardLogs::drop_evidence(const std::function<bool(const PartitionId&)>& gone) {
  committer_.drop_if(gone);
}

io::Task<Result<Offset>> ShardLogs::sync(std::shared_ptr<PartitionLog> log) {
  return committer_.sync(std::move(log));
}

io::Task<Result<void>> ShardLogs::close_log(std::shared_ptr<PartitionLog> log) {
  PYRALOG_CO_TRY(co_await committer_.sync(log));
  if (log->memory_) co_return Result<void>{};
  {
    const auto guard = co_await log->turn_.lock();
    if (log->offline_) co_return log->refuse();
    PYRALOG_CO_TRY(co_await log->cut_unknown_tail());
    // After a clean stop nobody looks for files that should not be there.
    if (log->stray_ && !PYRALOG_PLANT("log.leave_stray_segment")) {
      auto removed = co_await log->remove_files(*log->stray_);
      if (!removed && removed.error().code != Code::kNotFound) co_return removed;
      PYRALOG_CO_TRY(co_await disk_.sync_dir(log->dir_));
      log->stray_.reset();
    }
  }
  for (const auto& segment : log->segments_) {
    if (!segment->max_known) PYRALOG_CO_TRY(co_await log->load_index(segment));
    if (!segment->index_loaded || segment->index_saved) continue;
    if (!co_await log->write_index(segment, segment->index)) continue;  // it will be rebuilt
    segment->index_saved = true;
  }
  log->write_append_times();
  if (log->times_dirty_ && log->times_file_) PYRALOG_CO_TRY(co_await log->times_file_->sync());
  const auto sealed = std::exchange(log->sealed_times_, {});
  for (const auto& file : sealed) PYRALOG_CO_TRY(co_await file->sync());
  co_return Result<void>{};
}

io::Task<Result<void>> ShardLogs::write_clean_state() {
  CleanState state;
  state.generation = evidence_->generation();
  for (const auto& [id, log] : logs_) {
    if (log->offline_) continue;
    CleanLog clean{id, log->start_offset(), log->end_, log->epochs(), {}};
    for (const auto& s : log->segments_) {
      clean.segments.push_back(
          {s->base, s->next, s->size, s->created_ms, s->epoch, s->chain, s->max_timestamp});
    }
    state.logs.push_back(std::move(clean));
  }
  const std::string path = options_.data_dir + "/" + checkpoint_name(options_.shard);
  co_return co_await io::replace_file(disk_, path, encode(state));
}

io::Task<Result<void>> ShardLogs::close() {
  // Both may start more of the other's kind.
  co_await background_.join();
  std::vector<std::shared_ptr<PartitionLog>> logs;
  for (const auto& [id, log] : logs_) logs.push_back(log);
  Result<void> worst;
  for (const auto& log : logs) {
    if (log->offline_) continue;
    if (auto closed = co_await close_log(log); !closed) {
      (void)log->go_offline(closed.error());
      worst = std::move(closed);
    }
  }
  co_await background_.join();
  // Before anything says that no start need look: what it holds must be in place by then. What is
  // not stays in it, and the next start sees to it.
  if (auto settled = co_await write_ahead_.close(); !settled && worst) worst = std::move(settled);
  if (auto flushed = co_await committer_.flush(); !flushed) co_return flushed;
  if (!PYRALOG_PLANT("log.no_checkpoint")) PYRALOG_CO_TRY(co_await write_clean_state());
  files_.forget_all();
  co_return worst;
}

io::Task<void> ShardLogs::abandon() {
  co_await background_.join();
}

}  // namespace pyralog::log
