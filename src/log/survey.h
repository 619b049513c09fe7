#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/append_time.h"
#include "log/batch_scan.h"
#include "log/epoch_table.h"
#include "log/evidence.h"
#include "log/segment.h"
#include "log/segment_check.h"
#include "log/tools.h"
#include "log/write_ahead_replay.h"
#include "model/fundamental.h"

namespace pyralog::log {

struct Beside {
  std::shared_ptr<const Evidence> evidence;
  std::map<PartitionId, Unplaced> unplaced;
};

/// What a survey found of one segment beyond its report.
struct SurveyedSegment {
  Offset base;
  std::uint64_t bytes = 0;         ///< of the file
  bool compacted = false;          ///< compaction wrote it
  SegmentIndex index;              ///< made anew from the sound batches
  AppendTimes append_times;        ///< the sound entries below `SegmentReport::next`
  bool append_times_whole = true;  ///< the file holds these and nothing else
};

/// Where a log must end so that all of it is sound: before `position` of segment `segment`.
struct CutPoint {
  std::size_t segment = 0;  ///< index; one past the last if a whole segment is missing at the end
  std::uint64_t position = 0;  ///< at most kSegmentHeaderBytes: nothing of the segment stays
  Offset end;
  bool synced = false;  ///< below the evidence: records go that were durable
};

/// A partition's directory, read and compared with the evidence beside it; nothing is changed.
struct Survey {
  LogReport report;
  std::vector<SurveyedSegment> segments;  ///< one per segment of the report
  std::shared_ptr<const Evidence> evidence;
  EpochTable epochs;              ///< of the batches, up to the first fault
  bool epochs_file_sound = true;  ///< the table on disk is there and agrees, as far as it must
  std::optional<CutPoint> cut;    ///< none = no fault in the segments
  bool front_missing = false;     ///< files before the first one are gone that should be there
};

/// Reads the directory `dir` of a partition: headers only, or every byte. `inspect` says which
/// batch headers to list, and which epochs there were. Used by the tools; kInvalidArgument if `dir` is
/// not named as a partition.
[[nodiscard]] io::Task<Result<Survey>> survey(io::Disk& disk, std::string dir, BatchScan::Mode mode,
                                              InspectOptions inspect);

}  // namespace pyralog::log
