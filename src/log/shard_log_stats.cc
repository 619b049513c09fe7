#include <array>

#include "log/shard_logs.h"

namespace pyralog::log {

namespace {
using Stats = ShardLogStats;
constexpr std::array kCounts = {
    ShardLogCount{&Stats::appended_bytes, "pyralog_log_appended_bytes_total",
                  "Bytes that were appended to logs"},
    ShardLogCount{&Stats::syncs, "pyralog_log_syncs_total", "Rounds of group commit"},
    ShardLogCount{&Stats::failed_syncs, "pyralog_log_sync_failures_total",
                  "Logs that a failed sync took offline"},
    ShardLogCount{&Stats::rolls, "pyralog_log_rolls_total",
                  "Segments that were ended for a new one"},
    ShardLogCount{&Stats::dropped_segments, "pyralog_log_retention_segments_total",
                  "Segments that retention or a deletion of records let go"},
    ShardLogCount{&Stats::dropped_bytes, "pyralog_log_retention_bytes_total",
                  "Bytes of the segments that retention or a deletion of records let go"},
    ShardLogCount{&Stats::memory_dropped_bytes, "pyralog_log_memory_dropped_bytes_total",
                  "Bytes that topics in memory let go because all of them together took too much"},
    ShardLogCount{&Stats::verified_bytes, "pyralog_log_verified_bytes_total",
                  "Bytes that were checked at their first read"},
    ShardLogCount{&Stats::corrupt_ranges, "pyralog_log_corrupt_ranges_total",
                  "Reads that were refused because what is stored is damaged"},
    ShardLogCount{&Stats::recovered_logs, "pyralog_log_recovered_logs_total",
                  "Logs that were scanned when they were opened"},
    ShardLogCount{&Stats::scanned_bytes, "pyralog_log_scanned_bytes_total",
                  "Bytes of these logs that were read back and checked"},
    ShardLogCount{&Stats::torn_bytes, "pyralog_log_torn_bytes_total",
                  "Bytes that were cut off behind the last sound batch"},
    ShardLogCount{&Stats::lost_evidence, "pyralog_log_lost_evidence_total",
                  "Entries about what is durable that could not be written"},
    ShardLogCount{&Stats::write_ahead_rounds, "pyralog_log_write_ahead_rounds_total",
                  "Rounds of group commit that went to the write-ahead files"},
    ShardLogCount{&Stats::write_ahead_bytes, "pyralog_log_write_ahead_bytes_total",
                  "Bytes that were written to the write-ahead files"},
    ShardLogCount{&Stats::compaction_passes, "pyralog_log_compaction_passes_total",
                  "Passes of compaction over a log"},
    ShardLogCount{&Stats::compaction_failures, "pyralog_log_compaction_failures_total",
                  "Compactions of a log that ended with an error"},
    ShardLogCount{&Stats::compaction_read_bytes, "pyralog_log_compaction_read_bytes_total",
                  "Bytes of the segments that compaction has replaced"},
    ShardLogCount{&Stats::compaction_written_bytes, "pyralog_log_compaction_written_bytes_total",
                  "Bytes of the segments that compaction has put in their place"},
    ShardLogCount{&Stats::compaction_removed_records, "pyralog_log_compaction_removed_records_total",
                  "Records that compaction has removed"},
    ShardLogCount{&Stats::scrubbed_bytes, "pyralog_log_scrubbed_bytes_total",
                  "Bytes of closed segments that were read back from the device and checked"},
    ShardLogCount{&Stats::scrub_rounds, "pyralog_log_scrub_rounds_total",
                  "Rounds over all closed segments of a shard that came to their end"},
    ShardLogCount{&Stats::scrub_bad_append_times, "pyralog_log_scrub_bad_append_times_total",
                  "Entries of append times that were found damaged"},
};
static_assert(sizeof(Stats) == kCounts.size() * sizeof(std::uint64_t), "a count is not shown");
}  // namespace

std::span<const ShardLogCount> shard_log_counts() {
  return kCounts;
}

ShardLogStats& ShardLogStats::operator+=(const ShardLogStats& other) {
  for (const ShardLogCount& each : kCounts) this->*each.count += other.*each.count;
  return *this;
}

}  // namespace pyralog::log
