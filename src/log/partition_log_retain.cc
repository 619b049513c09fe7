// The front of a log: what is forgotten, and what is deleted by name.
#include <fmt/format.h>

#include <algorithm>

#include "base/plant.h"
#include "log/partition_log.h"
#include "log/segment_check.h"
#include "log/shard_logs.h"

namespace pyralog::log {

/// Removes the oldest segment. Its name may come back with the power, without its successor's: the log
/// begins behind it all the same.
io::Task<Result<void>> PartitionLog::drop_front() {
  const SegmentRef front = segments_.front();
  front->dropped = true;
  start_ = std::max(start_, segments_[1]->base);
  auto removed = co_await remove_files(front->base);
  // An earlier try may have come half the way.
  if (!removed && removed.error().code == Code::kNotFound) {
    removed = co_await remove_side_files(front->base);
  }
  if (!removed) co_return removed;
  shard_.stats_.dropped_segments += 1;
  shard_.stats_.dropped_bytes += front->size;
  segments_.erase(segments_.begin());
  co_return Result<void>{};
}

/// Says durably that the log begins at `start` at least, and that the evidence lies in the active
/// segment, which stays.
io::Task<Result<void>> PartitionLog::put_start(Offset start) {
  PYRALOG_CO_TRY(co_await shard_.begin_writing());
  // One round is enough, and under load the log is never at rest; nobody rolls meanwhile, so what the
  // round noted lies in the active segment.
  if (dirty()) PYRALOG_CO_TRY(co_await shard_.sync(shard_.find(id_)));
  while (dirty() && PYRALOG_PLANT("log.start_waits_for_rest")) {
    PYRALOG_CO_TRY(co_await shard_.sync(shard_.find(id_)));
  }
  const SyncedEntry* noted = dirty() ? shard_.committer_.latest(id_) : nullptr;
  SyncedEntry entry = noted != nullptr && noted->segment == segments_.back()->base
                          ? *noted
                          : synced_entry(*segments_.back(), end_);
  if (dirty() && entry.end_offset > synced_end_) {
    co_return fail(Code::kUnavailable,
                   fmt::format("partition {}: what is durable is not known yet; try again",
                               to_string(id_)));
  }
  entry.start = std::max(entry.start, start);
  co_return co_await shard_.committer_.raise_start(entry);
}

io::Task<Result<void>> PartitionLog::drop_below_start() {
  if (segments_.size() < 2 || segments_[1]->base > start_) co_return Result<void>{};
  while (segments_.size() > 1 && segments_[1]->base <= start_) {
    PYRALOG_CO_TRY(co_await drop_front());
  }
  PYRALOG_CO_TRY(co_await shard_.disk_.sync_dir(dir_));
  epochs_.drop_below(segments_.front()->base);
  epochs_saved_ = SIZE_MAX;
  co_return co_await save_epochs();
}

io::Task<Result<void>> PartitionLog::drop_segments_below(Offset offset) {
  const auto guard = co_await turn_.lock();
  if (offline_) co_return refuse();
  if (memory_) {
    memory_->drop_below(std::min(offset, end_));
    epochs_.drop_below(memory_->start());
    co_return Result<void>{};
  }
  const auto keep = std::find_if(segments_.rbegin(), segments_.rend(),
                                 [&](const SegmentRef& s) { return s->base <= offset; });
  if (keep == segments_.rend() || *keep == segments_.front()) co_return Result<void>{};
  const Offset base = (*keep)->base;
  PYRALOG_CO_TRY(co_await put_start(base));
  start_ = std::max(start_, base);
  co_return co_await drop_below_start();
}

io::Task<Result<void>> PartitionLog::delete_records_below(Offset offset) {
  const auto guard = co_await turn_.lock();
  if (offline_) co_return refuse();
  if (offset > end_) {
    co_return fail(Code::kOutOfRange,
                   fmt::format("partition {}: offset {} is beyond the end, {}", to_string(id_),
                               offset.value, end_.value));
  }
  if (offset <= start_offset()) co_return Result<void>{};
  if (memory_) {
    memory_->begin_at(offset);
    epochs_.drop_below(offset);
    co_return Result<void>{};
  }
  // Not visible before it is durable: nobody may see records go and come back.
  if (!PYRALOG_PLANT("log.delete_records_in_memory")) PYRALOG_CO_TRY(co_await put_start(offset));
  start_ = std::max(start_, offset);
  // The files can wait for the next round if they cannot be removed now.
  (void)co_await drop_below_start();
  co_return Result<void>{};
}

/// The time when `segment` was created; of one that was not opened in this process, its header says.
io::Task<Result<std::int64_t>> PartitionLog::created_ms(SegmentRef segment) {
  if (segment->created_ms != 0) co_return segment->created_ms;
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, co_await file_of(segment));
  PYRALOG_CO_ASSIGN(const SegmentHeader header, co_await read_segment_header(std::move(file)));
  segment->created_ms = header.created_ms;
  co_return segment->created_ms;
}

io::Task<Result<void>> PartitionLog::retain(WallMs now, Offset limit, std::optional<Offset> held) {
  if (offline_) co_return refuse();
  const Offset lowest = std::min(limit, held.value_or(limit));
  if (memory_) {
    if (config_.retention.ms >= 0) memory_->drop_older(now.ms - config_.retention.ms, lowest);
    epochs_.drop_below(memory_->start());
    co_return Result<void>{};
  }
  if (segments_.empty()) co_return Result<void>{};
  // A topic that nobody writes to any more ends its segment, too, or would keep it for ever.
  const Segment& active = *segments_.back();
  if (!active.sealed && active.size > kSegmentHeaderBytes &&
      io::Shard::current().wall().ms - active.created_ms >= config_.segment_ms) {
    PYRALOG_CO_TRY(co_await prepare(0, io::Shard::current().wall()));
  }
  std::vector<KeptSegment> kept;
  const std::vector<SegmentRef> segments = segments_;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    KeptSegment& each = kept.emplace_back();
    each.base = segments[i]->base;
    each.next = segments[i]->next;
    // Of records, not of files: an empty segment's header must not take the place of what was to be kept.
    each.bytes = segments[i]->size;
    if (!PYRALOG_PLANT("log.retain_counts_headers")) {
      each.bytes -= std::min<std::uint64_t>(each.bytes, kSegmentHeaderBytes);
    }
    each.sealed_ms = now.ms;
    if (i + 1 == segments.size() || config_.retention.ms < 0) continue;
    PYRALOG_CO_ASSIGN(each.sealed_ms, co_await created_ms(segments[i + 1]));
  }
  const Offset start = retention_start(kept, config_.retention, now, lowest);
  const Offset without = retention_start(kept, config_.retention, now, limit);
  held_back_bytes_ = 0;
  for (const KeptSegment& each : kept) {
    if (each.base >= start && each.base < without) held_back_bytes_ += each.bytes;
  }
  if (start > segments.front()->base) co_return co_await drop_segments_below(start);
  const auto guard = co_await turn_.lock();
  if (offline_) co_return refuse();
  // Segments that were active when their records were deleted: the evidence may still lie in them.
  const bool left = segments_.size() > 1 && segments_[1]->base <= start_;
  if (left && !PYRALOG_PLANT("log.drop_evidence")) PYRALOG_CO_TRY(co_await put_start(start_));
  co_return co_await drop_below_start();
}

}  // namespace pyralog::log
