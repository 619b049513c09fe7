#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/compression.h"
#include "base/result.h"
#include "model/fundamental.h"

namespace pyralog::model {

/// Kafka's record batch, format v2 (magic 2), is the one form in which records exist on the wire and
/// on disk. 61 bytes of header, big-endian, then the records, compressed as a whole if at all.
/// CRC-32C covers everything from `attributes` on; base offset, length, leader epoch and magic are
/// outside it. Source: kafka.apache.org/documentation/#messageformat.
inline constexpr std::size_t kBatchHeaderBytes = 61;
/// base offset and length, which `length` does not count.
inline constexpr std::size_t kBatchPrefixBytes = 12;

struct BatchHeader {
  std::int64_t base_offset = 0;
  std::int32_t length = 0;  ///< bytes after this field
  std::int32_t leader_epoch = -1;
  std::int8_t magic = 2;
  std::uint32_t crc = 0;
  std::int16_t attributes = 0;
  std::int32_t last_offset_delta = 0;
  std::int64_t base_timestamp = -1;
  std::int64_t max_timestamp = -1;
  std::int64_t producer_id = -1;
  std::int16_t producer_epoch = -1;
  std::int32_t base_sequence = -1;
  std::int32_t count = 0;

  [[nodiscard]] std::size_t total_bytes() const {
    return static_cast<std::size_t>(length) + kBatchPrefixBytes;
  }
  [[nodiscard]] std::int64_t last_offset() const { return base_offset + last_offset_delta; }
  [[nodiscard]] std::int64_t next_offset() const { return last_offset() + 1; }
  [[nodiscard]] Codec codec() const { return static_cast<Codec>(attributes & 7); }
  [[nodiscard]] bool log_append_time() const { return (attributes & 8) != 0; }
  [[nodiscard]] bool transactional() const { return (attributes & 16) != 0; }
  [[nodiscard]] bool control() const { return (attributes & 32) != 0; }
  [[nodiscard]] bool idempotent() const { return producer_id >= 0; }
};

/// Reads the 61 bytes; kOutOfRange if `bytes` holds fewer, kCorrupt if `length` is below the header's
/// own rest (49) . Checks nothing else: see check_batch.
[[nodiscard]] Result<BatchHeader> parse_batch_header(ByteView bytes);
/// Writes the 61 bytes to `out`, which has room for them.
void write_batch_header(const BatchHeader& header, std::uint8_t* out);

/// The CRC-32C that `batch` (a whole batch) should carry.
[[nodiscard]] std::uint32_t batch_crc(ByteView batch);

/// What the leader writes into a batch it accepts, in place; the CRC stays valid.
void assign_offset_and_epoch(MutableBytes batch, Offset base, Epoch epoch);
/// For topics with log-append time: sets bit 3, both timestamps, and the CRC anew.
void assign_append_time(MutableBytes batch, std::int64_t wall_ms);

/// Why a batch was refused, for the wire's error code.
enum class BatchFault : std::uint8_t {
  kTruncated,          ///< fewer bytes than it says
  kNotOne,             ///< no bytes at all, or more after its end
  kBadMagic,           ///< magic other than 2
  kBadCrc,
  kBadCount,           ///< count ≤ 0 or ≠ last offset delta + 1
  kBadProducer,        ///< id, epoch and sequence contradict one another
  kBadTimestamp,       ///< says that the broker has set it
  kBadCodec,           ///< 5–7
  kControl,            ///< clients may not write control batches
  kTransactional,
  kTooLarge,
  kBadRecord,          ///< an uncompressed record does not parse or its deltas are off
  kNullKey,            ///< a record without key on a compacted topic
};
[[nodiscard]] const char* describe(BatchFault fault);

struct BatchCheck {
  std::size_t max_bytes = 1048588;  ///< of one whole batch; topic setting max.message.bytes
  bool require_keys = false;        ///< compacted topic
  bool open_compressed = false;     ///< topic setting record.validation=full
  std::size_t max_inflated_bytes = 100u << 20;  ///< bound for opening compressed records
};

inline constexpr std::size_t kMaxNamedRecords = 1024;
/// What a check found in a batch's records, if it looked at them.
struct BatchContent {
  std::vector<std::int32_t> keyless;  ///< with kNullKey: which, from 0; the first kMaxNamedRecords
  bool unopened = false;              ///< with kTooLarge: max_inflated_bytes were not enough
  bool seen = false;                  ///< the next two are known
  std::int64_t min_timestamp = -1;    ///< of those that have one; -1 = none has
  std::int64_t max_timestamp = -1;
};

/// Judges one batch that a client sent: `bytes` must be exactly one batch. Header, CRC and, where
/// they are not compressed (or must be opened), every record. The records of a batch whose greatest
/// timestamp cannot be right are always opened: some clients leave it out, or take the last record's.
/// nullopt = sound; `header` is filled in whenever it could be read. Pure.
[[nodiscard]] std::optional<BatchFault> check_batch(ByteView bytes, const BatchCheck& check,
                                                    BatchHeader& header,
                                                    BatchContent* content = nullptr);

/// Sets the greatest timestamp, and the CRC anew.
void assign_max_timestamp(MutableBytes batch, std::int64_t timestamp);

struct HeaderView {
  std::string_view name;
  std::optional<ByteView> value;
};

/// One record; views into the batch or its inflated copy.
struct RecordView {
  std::int64_t offset = 0;
  std::int64_t timestamp = -1;
  std::optional<ByteView> key;
  std::optional<ByteView> value;  ///< none = tombstone
  std::vector<HeaderView> headers;  ///< empty if the reader was told to leave them raw
  std::int32_t header_count = 0;
  ByteView raw_headers;             ///< as they stand in the batch
};

/// Walks the records of one batch whose CRC has been checked. Inflates at most `max_inflated_bytes`.
/// `next` yields nullopt after the last; kCorrupt when the bytes break the format. Offsets ascend but
/// may have gaps, as compaction leaves them. Views live as long as the reader and the batch.
class RecordReader {
 public:
  /// A record may have millions of headers of two bytes, which take forty each once they are taken
  /// apart: who does not need them leaves them raw.
  enum class Headers : std::uint8_t { kDecoded, kRaw };
  [[nodiscard]] static Result<RecordReader> open(ByteView batch, std::size_t max_inflated_bytes,
                                                 Headers headers = Headers::kDecoded);
  [[nodiscard]] Result<std::optional<RecordView>> next();
  [[nodiscard]] const BatchHeader& header() const { return header_; }

 private:
  BatchHeader header_;
  Headers headers_ = Headers::kDecoded;
  Bytes inflated_;
  ByteView batch_records_;  ///< uncompressed: view into the caller's batch
  std::size_t position_ = 0;
  std::int32_t index_ = 0;
  std::int32_t last_delta_ = -1;
};

struct NewRecord {
  std::int64_t timestamp = -1;
  std::optional<ByteView> key;
  std::optional<ByteView> value;
  std::vector<HeaderView> headers;
};

/// Collects records and builds one batch; used by the client, the coordinators and tests.
class BatchBuilder {
 public:
  explicit BatchBuilder(Codec codec = Codec::kNone) : codec_(codec) {}
  BatchBuilder& producer(std::int64_t id, std::int16_t epoch, std::int32_t base_sequence);
  BatchBuilder& attributes(std::int16_t extra);  ///< or-ed to the codec; control, transactional
  void add(const NewRecord& record) { add_at(last_delta_ + 1, record); }
  /// Leaves a gap, as compaction does: `offset_delta` is the record's offset less the batch's base
  /// and rises from record to record.
  void add_at(std::int32_t offset_delta, const NewRecord& record);
  /// The same for a record that was read, its headers raw or not.
  void add_at(std::int32_t offset_delta, const RecordView& record);
  [[nodiscard]] std::int32_t count() const { return count_; }
  /// Uncompressed size of the batch so far.
  [[nodiscard]] std::size_t size_bytes() const;
  /// The finished batch with base offset `base`; at least one record has been added.
  [[nodiscard]] Result<Bytes> build(Offset base = Offset(0)) const;
  /// A batch that takes the offsets up to base + `last_delta`, with or without records. For log-append
  /// time (attributes bit 3) `max_timestamp` is that of all records; else it is left out.
  [[nodiscard]] Result<Bytes> build_sparse(
      Offset base, std::int32_t last_delta,
      std::optional<std::int64_t> max_timestamp = std::nullopt) const;

 private:
  void put_record(std::int32_t offset_delta, std::int64_t timestamp,
                  const std::optional<ByteView>& key, const std::optional<ByteView>& value,
                  std::int32_t header_count, ByteView headers);
  Codec codec_;
  std::int16_t extra_ = 0;
  std::int64_t producer_id_ = -1;
  std::int16_t producer_epoch_ = -1;
  std::int32_t base_sequence_ = -1;
  std::int64_t base_timestamp_ = -1;
  std::int64_t max_timestamp_ = -1;
  std::int32_t count_ = 0;
  std::int32_t last_delta_ = -1;
  Bytes records_;
};

}  // namespace pyralog::model
