#include "log/log_details.h"

#include <algorithm>

#include "base/plant.h"
#include "log/damage.h"
#include "log/partition_log.h"
#include "log/shard_logs.h"

namespace pyralog::log {

ShardLogUse& ShardLogUse::operator+=(const ShardLogUse& other) {
  logs += other.logs;
  segments += other.segments;
  open_files += other.open_files;
  memory_topic_bytes += other.memory_topic_bytes;
  index_bytes += other.index_bytes;
  backlog_bytes += other.backlog_bytes;
  failed_write_ahead += other.failed_write_ahead;
  return *this;
}

std::uint64_t PartitionLog::backlog_bytes() const {
  if (!config_.compaction) return 0;
  const Offset upto = compaction_state_ ? compaction_state_->upto() : Offset(0);
  std::uint64_t bytes = 0;
  for (const SegmentRef& segment : segments_) {
    const bool compared = segment->next <= upto && !PYRALOG_PLANT("log.backlog_never_shrinks");
    if (segment->sealed && !compared) bytes += segment->size;
  }
  return bytes;
}

std::optional<std::string> PartitionLog::damage() const {
  for (const SegmentRef& segment : segments_) {
    if (segment->damaged.empty()) {
      if (damage_met_ && damage_met_->segment == segment->base) return damage_met_->message;
      continue;
    }
    const DamagedRange& first = segment->damaged.front();
    return damage_message(name(), segment_file_name(segment->base, "log"), first.from, first.what);
  }
  return std::nullopt;
}

LogDetails PartitionLog::details() const {
  LogDetails out;
  out.segments = segments_.size();
  out.index_bytes = index_memory_bytes();
  const std::size_t first = segments_.size() - std::min(segments_.size(), LogDetails::kMaxSegments);
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const Segment& segment = *segments_[i];
    out.damaged_ranges += segment.damaged.size();
    for (const DamagedRange& range : segment.damaged) {
      if (out.damage.size() == LogDetails::kMaxDamage) break;
      out.damage.push_back(damage_message(name(), segment_file_name(segment.base, "log"),
                                          range.from, range.what));
    }
    if (i < first) continue;
    out.newest.push_back({segment.base, segment.next, segment.size, segment.synced, !segment.sealed});
  }
  if (const SyncedEntry* noted = shard_.committer_.latest(id_); noted != nullptr) {
    out.evidence = LogDetails::Evidence{noted->segment, noted->end_position, noted->end_offset,
                                        noted->epoch, noted->start};
  }
  if (config_.compaction) {
    const Offset upto = compaction_state_ ? compaction_state_->upto() : Offset(0);
    out.cleaner = LogDetails::Cleaner{compacting_, compaction_state_.has_value(), upto,
                                      backlog_bytes()};
  }
  return out;
}

ShardLogUse ShardLogs::use() const {
  ShardLogUse out;
  out.logs = logs_.size();
  for (const auto& [id, log] : logs_) {
    out.segments += log->segments_.size();
    out.backlog_bytes += log->backlog_bytes();
  }
  out.open_files = files_.open_files();
  out.memory_topic_bytes = memory_room_->held_bytes();
  out.index_bytes = indexes_.bytes();
  out.failed_write_ahead = write_ahead_.failed() ? 1 : 0;
  return out;
}

}  // namespace pyralog::log
