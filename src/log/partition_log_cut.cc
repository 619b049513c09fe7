#include <fmt/format.h>

#include <algorithm>

#include "log/partition_log.h"
#include "log/segment_check.h"
#include "log/shard_logs.h"

namespace pyralog::log {

io::Task<Result<void>> PartitionLog::cut_unknown_tail() {
  if (!tail_unknown_) co_return Result<void>{};
  const SegmentRef active = segments_.back();
  // Durable at once: of a segment that is full nothing more is synced, and what came back with the
  // power would be taken for damage.
  auto cut = co_await active->file->truncate(active->size);
  if (cut) cut = co_await active->file->sync();
  if (!cut) co_return go_offline(cut.error());
  tail_unknown_ = false;
  co_return Result<void>{};
}

io::Task<Result<void>> PartitionLog::remove_files(Offset base) {
  const std::string log = path_of(base, "log");
  shard_.forget_file(log);
  shard_.forget_file(path_of(base, "appendtime"));
  PYRALOG_CO_TRY(co_await shard_.disk_.remove(log));
  co_return co_await remove_side_files(base);
}

io::Task<Result<void>> PartitionLog::remove_side_files(Offset base) {
  for (const std::string_view extension : {"index", "timeindex", "appendtime"}) {
    auto removed = co_await shard_.disk_.remove(path_of(base, extension));
    if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  }
  co_return Result<void>{};
}

/// Makes `segment` end at `position`, a boundary, and the active one.
io::Task<Result<void>> PartitionLog::cut_segment(SegmentRef segment, std::uint64_t position,
                                                 Offset end) {
  const std::string path = path_of(segment->base, "log");
  shard_.files_.forget(path);
  if (segment->file == nullptr) {
    PYRALOG_CO_ASSIGN(segment->file, co_await shard_.disk_.open(path, io::OpenMode::kReadWrite));
  }
  CheckOptions check;
  check.base = segment->base;
  check.last_epoch = segment->epoch;
  check.index_interval_bytes = config_.index_interval_bytes;
  check.step_bytes = shard_.options().verify_step_bytes;
  check.max_batch_bytes = shard_.options().max_batch_bytes;
  check.mode = BatchScan::Mode::kHeaders;
  check.to = position;
  PYRALOG_CO_ASSIGN(SegmentCheck found, co_await check_segment(segment->file, std::move(check)));
  if (!found.fault.empty() || found.next != end) {
    co_return corrupt(*segment, found.sound_bytes, found.fault);
  }
  // Nobody may later take the missing bytes for damage.
  segment->size = position;
  segment->chain = found.chain;
  SyncedEntry lowered = synced_entry(*segment, end);
  lowered.epoch = found.last_epoch;
  PYRALOG_CO_TRY(co_await shard_.committer_.lower(lowered));
  PYRALOG_CO_TRY(co_await segment->file->truncate(position));
  PYRALOG_CO_TRY(co_await segment->file->sync());
  segment->next = end;
  segment->synced = segment->captured = position;
  segment->index = std::move(found.index);
  segment->max_timestamp = segment->index.max_timestamp();
  segment->index_loaded = segment->max_known = true;
  segment->index_saved = segment->sealed = false;
  segment->verified.truncate(position);
  cut_damage(segment->damaged, position);
  co_return Result<void>{};
}

io::Task<Result<void>> PartitionLog::cut_disk(Offset end) {
  const SegmentRef target =
      end == start_ ? segments_.front() : segment_of(Offset(end.value - 1));
  PYRALOG_CO_ASSIGN(const Place place, co_await locate(target, end));
  if (place.base != end) {
    co_return fail(Code::kInvalidArgument,
                   fmt::format("partition {}: offset {} lies inside the batch at {}; a log is cut "
                               "between batches",
                               to_string(id_), end.value, place.base.value));
  }
  PYRALOG_CO_TRY(co_await shard_.begin_writing());
  co_await shard_.committer_.drain();
  if (offline_) co_return refuse();
  // What goes must not come back at the next start, over what has taken its place.
  co_await shard_.committer_.forget_noted(id_);
  PYRALOG_CO_TRY(co_await shard_.write_ahead_.retire(id_));
  ++cuts_;
  memo_offset_ = Offset(-1);
  times_file_.reset();
  times_unwritten_.clear();
  times_dirty_ = tail_unknown_ = false;
  // What comes in the place of the records that go was not compared.
  compaction_state_.reset();
  auto removed = co_await shard_.disk_.remove(dir_ + "/cleaned");
  if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  PYRALOG_CO_TRY(co_await shard_.disk_.sync_dir(dir_));
  PYRALOG_CO_TRY(co_await cut_segment(target, place.position, end));
  while (segments_.back() != target) {
    PYRALOG_CO_TRY(co_await remove_files(segments_.back()->base));
    segments_.pop_back();
  }
  end_ = synced_end_ = end;
  compaction_state_.reset();
  epochs_.truncate(end);
  // On disk the table may name epochs above the cut for a while: batches tell what is true there.
  epochs_saved_ = SIZE_MAX;
  PYRALOG_CO_TRY(co_await save_epochs());
  co_return co_await shard_.disk_.sync_dir(dir_);
}

io::Task<Result<void>> PartitionLog::truncate_to(Offset end) {
  const auto guard = co_await turn_.lock();
  if (offline_) co_return refuse();
  if (end == end_) co_return Result<void>{};
  if (end > end_ || end < start_offset()) {
    co_return fail(Code::kInvalidArgument,
                   fmt::format("partition {}: cannot end at offset {}, it holds {} to {}",
                               to_string(id_), end.value, start_offset().value, end_.value));
  }
  if (memory_) {
    const std::size_t at = memory_->find(end);
    if (at < memory_->batches().size() && memory_->batches()[at].base != end) {
      co_return fail(Code::kInvalidArgument,
                     fmt::format("partition {}: offset {} lies inside a batch; a log is cut between "
                                 "batches",
                                 to_string(id_), end.value));
    }
    memory_->truncate(end);
    epochs_.truncate(end);
    end_ = end;
    co_return Result<void>{};
  }
  cutting_ = true;
  auto cut = co_await cut_disk(end);
  cutting_ = false;
  // Half a cut is only mended by looking at the disk again.
  if (!cut && cut.error().code != Code::kInvalidArgument) co_return go_offline(cut.error());
  co_return cut;
}

}  // namespace pyralog::log
