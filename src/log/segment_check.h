#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/batch_scan.h"
#include "log/epoch_table.h"
#include "log/give_up.h"
#include "log/options.h"
#include "log/segment.h"
#include "model/fundamental.h"

namespace pyralog::log {

/// What is expected of a segment, and how to look at it.
struct CheckOptions {
  Offset base;
  Epoch last_epoch;  ///< of what lies before the segment
  /// Where each epoch of the partition began, as far as known: Kafka's checksum does not cover the
  /// epoch of a batch. Null or empty = not known. Outlives the check.
  const EpochTable* given_out = nullptr;
  std::uint32_t index_interval_bytes = 4096;
  std::size_t step_bytes = 256u << 10;
  std::size_t max_batch_bytes = std::size_t{INT32_MAX} + 12;
  BatchScan::Mode mode = BatchScan::Mode::kChecked;
  std::uint64_t to = UINT64_MAX;    ///< look no further than this position
  std::uint64_t mark = 0;           ///< report the chain and offset at this position
  GiveUp give_up{};                 ///< ends the walk: kCancelled
  std::function<void(const BatchScan::Batch&)> visit;  ///< every sound batch, in order
};

/// What a walk over a segment's batches found, up to its first fault.
struct SegmentCheck {
  std::uint64_t sound_bytes = kSegmentHeaderBytes;
  Offset next;
  Epoch last_epoch;
  std::uint32_t chain = 0;
  SegmentIndex index;
  std::vector<EpochStart> epochs;  ///< the first batch, and those of another epoch than before
  std::uint64_t batches = 0;
  std::uint64_t records = 0;
  std::string fault;               ///< empty = all batches are sound
  bool mark_seen = false;          ///< a batch ends exactly at the mark
  std::uint32_t chain_at_mark = 0;
  Offset offset_at_mark;
};

/// Walks `file` from behind its header. Errors are those of reading; faults are in the result.
[[nodiscard]] io::Task<Result<SegmentCheck>> check_segment(std::shared_ptr<io::File> file,
                                                           CheckOptions options);

/// Reads and decodes the 64 bytes at the front.
[[nodiscard]] io::Task<Result<SegmentHeader>> read_segment_header(std::shared_ptr<io::File> file);

}  // namespace pyralog::log
