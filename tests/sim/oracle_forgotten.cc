// What may be gone, and what must be: retention, deletion of records, compaction.
#include <algorithm>
#include <limits>
#include <utility>

#include "oracle.h"

namespace pyralog::simtest {

void Oracle::deleting(std::uint32_t p, std::int64_t offset) {
  partitions_[p].deleted = std::max(partitions_[p].deleted, offset);
}

void Oracle::shown_start(std::uint32_t p, std::int64_t start, std::int64_t floor) {
  Partition& partition = partitions_[p];
  if (start < floor) {
    violate(fmt::format("{}: begins at {}, it began at {} before", partition.name(), start, floor));
  }
  const Forgets& may = partition.forgets;
  const bool by_itself = may.retention_bytes >= 0 || may.retention_ms >= 0;
  if (start > partition.deleted && !by_itself) {
    violate(fmt::format("{}: begins at {} though nobody removed more than what is below {}",
                        partition.name(), start, partition.deleted));
  }
  partition.start = std::max(partition.start, start);
}

/// The front has gone by itself: only what its topic does not keep.
void Oracle::check_retention(std::uint32_t p, const std::vector<SeenBatch>& log, std::int64_t start,
                             Strength survives, std::int64_t now_ms) {
  const Partition& partition = partitions_[p];
  const Forgets& may = partition.forgets;
  if (may.retention_ms < 0 && survives == Strength::kProcess) {
    std::int64_t kept = 0;
    for (const SeenBatch& batch : log) {
      kept += static_cast<std::int64_t>(batch.header.total_bytes());
    }
    stats_.add("rare.forgotten_by_size");
    if (kept < may.retention_bytes) {
      violate(fmt::format("{}: begins at {} and keeps {} bytes; it was to keep {}",
                          partition.name(), start, kept, may.retention_bytes));
    }
  }
  if (may.retention_bytes >= 0 || !ages_hold_) return;
  stats_.add("rare.forgotten_by_age");
  const auto known = static_cast<std::int64_t>(partition.known.size());
  for (std::int64_t o = partition.deleted; o < std::min(start, known); ++o) {
    const std::uint64_t record = partition.known[static_cast<std::size_t>(o)].record;
    if (record == 0 || sent(record).timestamp + may.retention_ms <= now_ms) continue;
    violate(fmt::format(
        "{} offset {}: record {} was forgotten after {} ms at most, it was to stay "
        "for {} ms",
        partition.name(), o, record, now_ms - sent(record).timestamp, may.retention_ms));
  }
}

/// By key the greatest offset where a tombstone may have been, and been forgotten by now.
std::map<std::string, std::int64_t> Oracle::last_tombstones(std::uint32_t p,
                                                            std::int64_t now_ms) const {
  const Partition& partition = partitions_[p];
  const auto old_enough = [&](const SentRecord& record) {
    return !ages_hold_ || record.timestamp + partition.forgets.delete_retention_ms <= now_ms;
  };
  std::map<std::string, std::int64_t> last;
  std::map<std::uint64_t, std::uint32_t> copies;
  for (std::size_t o = 0; o < partition.known.size(); ++o) {
    const std::uint64_t record = partition.known[o].record;
    if (record == 0 || !sent(record).tombstone) continue;
    ++copies[record];
    if (old_enough(sent(record))) last[key_of(record)] = static_cast<std::int64_t>(o);
  }
  // What was sent and never seen may have been anywhere.
  for (std::uint64_t record = 1; record <= sent_.size(); ++record) {
    const SentRecord& was = sent(record);
    if (was.partition != p || !was.tombstone || was.attempts <= copies[record]) continue;
    if (was.idempotent && copies[record] > 0) continue;
    if (old_enough(was)) last[key_of(record)] = std::numeric_limits<std::int64_t>::max();
  }
  return last;
}

/// Behind the log's beginning a record may only be gone for a newer one of its key, and a tombstone
/// when its time is over, but not before what it deletes.
void Oracle::check_forgotten(std::uint32_t p, const std::vector<SeenBatch>& log, std::int64_t end,
                             std::int64_t now_ms) {
  Partition& partition = partitions_[p];
  std::map<std::int64_t, std::uint64_t> there;
  std::map<std::string, std::int64_t> newest;
  for (const SeenBatch& batch : log) {
    for (std::size_t i = 0; i < batch.records.size(); ++i) {
      // A batch that reaches beyond the beginning is served whole.
      if (batch.offsets[i] < partition.start) continue;
      there.emplace(batch.offsets[i], batch.records[i]);
      newest[key_of(batch.records[i])] = batch.offsets[i];
    }
  }
  for (const auto& [offset, record] : std::exchange(partition.passed_over, {})) {
    const auto at = there.find(offset);
    if (at == there.end() || at->second != record) continue;
    violate(fmt::format("{}: a search by time passed over record {} at offset {}, still there",
                        partition.name(), record, offset));
  }
  const auto upto = std::min(static_cast<std::int64_t>(partition.known.size()), end);
  std::map<std::string, std::int64_t> tombstones;
  if (partition.forgets.compacted) tombstones = last_tombstones(p, now_ms);
  for (std::int64_t o = partition.start; o < upto; ++o) {
    const std::uint64_t record = partition.known[static_cast<std::size_t>(o)].record;
    if (record == 0 || there.contains(o)) continue;
    if (!partition.forgets.compacted) {
      violate(fmt::format("{} offset {}: record {} is gone from the middle", partition.name(), o,
                          record));
      continue;
    }
    const std::string key = key_of(record);
    const auto at = newest.find(key);
    const auto tombstone = tombstones.find(key);
    if (at != newest.end() && at->second > o) {
      stats_.add("rare.record_compacted");
    } else if (at == newest.end() && tombstone != tombstones.end() && tombstone->second >= o) {
      stats_.add(sent(record).tombstone ? "rare.tombstone_forgotten" : "rare.key_forgotten");
    } else {
      violate(fmt::format("{} offset {}: record {} is gone, {} of {} is there", partition.name(), o,
                          record, at == newest.end() ? "and nothing newer" : "but an older one",
                          key));
    }
  }
}

}  // namespace pyralog::simtest
