#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "log/key_table.h"
#include "model/fundamental.h"
#include "model/record_batch.h"

namespace pyralog::log {

/// What compaction keeps.
struct CleanRules {
  const KeyTable* table = nullptr;  ///< a record goes if the table knows a newer one of its key
  Offset tombstones_below{0};       ///< tombstones below this offset go
  /// Base offsets, rising, of batches that producers may still send again: they stay by themselves,
  /// if need be without records, so that what is known of producers can be read from the log.
  std::span<const Offset> producer_batches;
  std::size_t merge_bytes = 256u << 10;  ///< small batches are put together up to this size
  std::size_t max_inflated_bytes = 100u << 20;
};

struct CleanCounts {
  std::uint64_t records_in = 0;
  std::uint64_t records_out = 0;
  std::uint64_t tombstones = 0;  ///< of those that stay
  std::uint64_t unreadable = 0;  ///< batches whose records do not parse: they stay as they are
  std::uint64_t batches_in = 0;
  std::uint64_t batches_out = 0;
};

/// Makes of a run of batches the same run without the records that compaction removes. Records keep
/// their offsets. Batches stay contiguous: one that has lost its records is put together with its
/// neighbours, and what comes out takes the same offsets as what went in. Never merged are batches
/// of different epochs, or of different attributes, and a producer's remembered ones. Pure.
class BatchCleaner {
 public:
  explicit BatchCleaner(CleanRules rules) : rules_(rules) {}
  /// Takes the next batch, whose checksum and place were checked. kCorrupt: its records do not
  /// parse.
  [[nodiscard]] Result<void> add(ByteView batch);
  /// Ends the run.
  [[nodiscard]] Result<void> finish() { return flush(); }
  /// What has come out since the last call.
  [[nodiscard]] Bytes take() { return std::exchange(out_, {}); }
  /// Of what will still come out; before compression.
  [[nodiscard]] std::size_t pending_bytes() const { return run_ ? run_->bytes : 0; }
  [[nodiscard]] const CleanCounts& counts() const { return counts_; }

 private:
  /// The batch that is being put together.
  struct Run {
    BatchHeader first;                ///< of the first source batch
    std::int64_t next = 0;            ///< the offset after the last one
    bool alone = false;               ///< takes no other batch in
    std::size_t bytes = 0;            ///< what it will have, before compression
    Bytes original;                   ///< the only source batch, unchanged; else empty and:
    std::optional<BatchHeader> kind;  ///< of the first source batch that kept a record
    BatchBuilder builder;
  };
  [[nodiscard]] bool keeps(const RecordView& record) const;
  [[nodiscard]] bool joins(const BatchHeader& header, std::size_t bytes, bool empty) const;
  [[nodiscard]] Result<void> unpack();
  /// Adds the records that are kept, or all, to the run.
  [[nodiscard]] Result<void> put(ByteView batch, const BatchHeader& header, bool all);
  /// What of a batch is kept.
  struct Kept {
    std::int32_t records = 0;
    std::size_t bytes = 0;  ///< not compressed, about
    std::uint64_t tombstones = 0;
  };
  [[nodiscard]] Result<Kept> look(ByteView batch) const;
  [[nodiscard]] Result<void> flush();
  void copy(ByteView batch);

  CleanRules rules_;
  CleanCounts counts_;
  Bytes out_;
  std::optional<Run> run_;
};

}  // namespace pyralog::log
