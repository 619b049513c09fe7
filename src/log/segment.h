#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "log/damage.h"
#include "log/intervals.h"
#include "model/fundamental.h"
#include "model/record_batch.h"

namespace pyralog::log {

inline constexpr std::size_t kSegmentHeaderBytes = 64;
inline constexpr std::uint16_t kSegmentVersion = 1;

/// The first 64 bytes of a `.log` file. See README.md.
struct SegmentHeader {
  PartitionId partition;
  Offset base;
  Epoch epoch;  ///< of the first batch
  std::int64_t created_ms = 0;
  /// Compaction wrote the file, for these offsets up to `next`; −1 = records were appended to it.
  Offset next{-1};
};
[[nodiscard]] Bytes encode(const SegmentHeader& header);
/// kCorrupt, or kUnsupported for a newer version; both name `path`.
[[nodiscard]] Result<SegmentHeader> decode_segment_header(ByteView bytes, const std::string& path);

/// "00000000000000000042.log" and its sisters ("index", "timeindex", "appendtime").
[[nodiscard]] std::string segment_file_name(Offset base, std::string_view extension);
/// The base offset if `name` is a segment's `.log`.
[[nodiscard]] std::optional<Offset> parse_segment_name(std::string_view name);

inline constexpr std::uint64_t kMaxSegmentBytes = UINT32_MAX;
inline constexpr std::int64_t kMaxRelativeOffset = std::int64_t{1} << 31;

struct IndexEntry {
  std::uint32_t relative_offset = 0;  ///< of a batch's base offset, from the segment's
  std::uint32_t position = 0;         ///< of that batch in the file
  friend bool operator==(const IndexEntry&, const IndexEntry&) = default;
};
struct TimeEntry {
  std::int64_t timestamp = -1;        ///< greatest so far
  std::uint32_t relative_offset = 0;  ///< base offset of the batch that brought it
  friend bool operator==(const TimeEntry&, const TimeEntry&) = default;
};

/// The sparse indexes of one segment in memory: what `note` saw, batch by batch. Pure. An entry per
/// interval, so lookups end with a walk over batch headers of at most one interval.
class SegmentIndex {
 public:
  explicit SegmentIndex(Offset base = Offset(0), std::uint32_t interval_bytes = 4096)
      : base_(base), interval_(interval_bytes) {}
  /// Takes the next batch of the segment.
  void note(const BatchHeader& header, std::uint64_t position);
  /// The last entry at or below `offset`; the segment's first batch if there is none.
  [[nodiscard]] IndexEntry floor(Offset offset) const;
  /// The last entry at or below `position`.
  [[nodiscard]] IndexEntry floor_position(std::uint64_t position) const;
  /// Where to begin looking for the first timestamp ≥ `ts`.
  [[nodiscard]] IndexEntry floor_timestamp(std::int64_t ts) const;
  [[nodiscard]] const TimeEntry& max_timestamp() const { return max_; }
  [[nodiscard]] std::size_t entries() const { return offsets_.size(); }
  [[nodiscard]] const std::vector<IndexEntry>& offset_entries() const { return offsets_; }
  [[nodiscard]] const std::vector<TimeEntry>& time_entries() const { return times_; }
  [[nodiscard]] std::size_t memory_bytes() const;

  [[nodiscard]] Bytes encode_offsets(std::uint64_t segment_bytes) const;
  [[nodiscard]] Bytes encode_times(std::uint64_t segment_bytes) const;
  /// Reads both files back; any doubt, or files made for another length of the segment, is an error
  /// and the caller rebuilds.
  [[nodiscard]] static Result<SegmentIndex> decode(Offset base, std::uint32_t interval_bytes,
                                                   std::uint64_t segment_bytes, ByteView offsets,
                                                   ByteView times);
  /// The interval that an index file says it was made with; nothing else of it is checked.
  [[nodiscard]] static std::optional<std::uint32_t> interval_of(ByteView file);
  friend bool operator==(const SegmentIndex&, const SegmentIndex&) = default;

 private:
  Offset base_;
  std::uint32_t interval_ = 4096;
  std::uint64_t last_indexed_ = 0;  ///< position of the last batch with an entry; 0 = none
  TimeEntry max_;
  std::vector<IndexEntry> offsets_;
  std::vector<TimeEntry> times_;
};

/// One segment, open or closed, as its PartitionLog knows it.
struct Segment {
  Offset base;
  Offset next;                                ///< after its last record
  std::uint64_t size = kSegmentHeaderBytes;   ///< valid bytes of the file
  std::uint64_t synced = 0;                   ///< of these, durable
  std::uint64_t captured = 0;                 ///< a round of group commit that is not over has these
  std::int64_t created_ms = 0;
  Epoch epoch;
  std::uint32_t chain = 0;   ///< CRC over the header bytes that Kafka's CRC leaves out, to `size`
  TimeEntry max_timestamp;   ///< over the whole segment
  bool sealed = false;
  bool dropped = false;      ///< its file is being removed, or gone
  bool replaced = false;     ///< compaction has put another in its place
  bool header_checked = false;  ///< in this process
  bool max_known = true;      ///< `max_timestamp` is
  bool index_saved = false;   ///< its index files were written for this size
  bool index_loaded = false;  ///< `index` covers the whole segment
  SegmentIndex index;
  Intervals verified;         ///< bytes whose checks passed in this process
  std::vector<DamagedRange> damaged;  ///< what the scrubber found; sorted by `from`
  bool bad_times_told = false;        ///< that entries of its append times are damaged
  std::shared_ptr<io::File> file;  ///< held while written to; closed ones come from the cache
};

/// What io::replace_file leaves of a segment's append times when the process dies in it.
inline constexpr std::string_view kTimesBeingReplaced = ".appendtime.tmp";
/// The offset in the name of a file beside a segment: its indexes, its append times, also half made.
[[nodiscard]] std::optional<Offset> parse_side_file_name(std::string_view name);

/// Adds a batch's 17 header bytes that Kafka's CRC does not cover to the chain.
[[nodiscard]] std::uint32_t chain_header(std::uint32_t chain, ByteView batch);

}  // namespace pyralog::log
