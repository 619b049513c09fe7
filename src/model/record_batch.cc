#include "model/record_batch.h"

#include <algorithm>
#include <string>

#include "base/crc32c.h"
#include "base/plant.h"
#include "base/varint.h"

namespace pyralog::model {
namespace {

// Where the fields of the header stand.
constexpr std::size_t kLengthAt = 8;
constexpr std::size_t kLeaderEpochAt = 12;
constexpr std::size_t kMagicAt = 16;
constexpr std::size_t kCrcAt = 17;
constexpr std::size_t kAttributesAt = 21;  // the CRC covers everything from here on
constexpr std::size_t kLastDeltaAt = 23;
constexpr std::size_t kBaseTimestampAt = 27;
constexpr std::size_t kMaxTimestampAt = 35;
constexpr std::size_t kProducerIdAt = 43;
constexpr std::size_t kProducerEpochAt = 51;
constexpr std::size_t kBaseSequenceAt = 53;
constexpr std::size_t kCountAt = 57;

constexpr std::int16_t kLogAppendTimeBit = 8;
/// Length, attributes, two deltas, key and value lengths, header count: one byte each.
constexpr std::size_t kMinRecordBytes = 7;
constexpr std::size_t kMinHeaderBytes = 2;

/// One record as it stands in the bytes; nothing is copied or allocated.
struct RawRecord {
  std::int64_t timestamp_delta = 0;
  std::int32_t offset_delta = 0;
  std::optional<ByteView> key;
  std::optional<ByteView> value;
  std::int32_t header_count = 0;
  ByteView headers;
};

/// Takes a length of −1 (null) or that many bytes from the front of `in`; false if they are not
/// there.
bool take_nullable(ByteView& in, std::optional<ByteView>& out) {
  const auto length = base::decode_varint32(in);
  if (!length || *length < -1) return false;
  if (*length == -1) {
    out.reset();
    return true;
  }
  const auto size = static_cast<std::size_t>(*length);
  if (size > in.size()) return false;
  out = in.first(size);
  in = in.subspan(size);
  return true;
}

bool take_header(ByteView& in, HeaderView& out) {
  std::optional<ByteView> header_name;
  if (!take_nullable(in, header_name) || !header_name) return false;
  out.name = base::as_text(*header_name);
  return take_nullable(in, out.value);
}

/// Takes one record from the front of `in`; false if it breaks the format.
bool take_record(ByteView& in, RawRecord& out) {
  const auto length = base::decode_varint32(in);
  if (!length || *length < 0 || static_cast<std::size_t>(*length) > in.size()) return false;
  ByteView body = in.first(static_cast<std::size_t>(*length));
  in = in.subspan(body.size());
  if (body.empty()) return false;
  body = body.subspan(1);  // attributes: none are defined
  const auto timestamp_delta = base::decode_varint64(body);
  if (!timestamp_delta) return false;
  const auto offset_delta = base::decode_varint32(body);
  if (!offset_delta || *offset_delta < 0) return false;
  out.timestamp_delta = *timestamp_delta;
  out.offset_delta = *offset_delta;
  if (!take_nullable(body, out.key) || !take_nullable(body, out.value)) return false;
  const auto headers = base::decode_varint32(body);
  if (!headers || *headers < 0) return false;
  if (static_cast<std::size_t>(*headers) > body.size() / kMinHeaderBytes) return false;
  out.header_count = *headers;
  out.headers = body;
  HeaderView ignored;
  for (std::int32_t i = 0; i < *headers; ++i) {
    if (!take_header(body, ignored)) return false;
  }
  return body.empty();
}

std::optional<BatchFault> check_records(ByteView records, const BatchHeader& header,
                                        bool require_keys, BatchContent* content) {
  if (static_cast<std::size_t>(header.count) > records.size() / kMinRecordBytes) {
    return BatchFault::kBadRecord;
  }
  bool null_key = false;
  BatchContent found;
  for (std::int32_t i = 0; i < header.count; ++i) {
    RawRecord record;
    if (!take_record(records, record) || record.offset_delta != i) return BatchFault::kBadRecord;
    std::int64_t timestamp = 0;
    if (__builtin_add_overflow(header.base_timestamp, record.timestamp_delta, &timestamp)) {
      return BatchFault::kBadRecord;
    }
    found.max_timestamp = std::max(found.max_timestamp, timestamp);
    if (timestamp >= 0 && (found.min_timestamp < 0 || timestamp < found.min_timestamp)) {
      found.min_timestamp = timestamp;
    }
    if (!require_keys || record.key) continue;
    null_key = true;
    if (found.keyless.size() < kMaxNamedRecords || PYRALOG_PLANT("model.name_all_records")) {
      found.keyless.push_back(i);
    }
  }
  if (!records.empty()) return BatchFault::kBadRecord;
  found.seen = true;
  if (content != nullptr) *content = std::move(found);
  return null_key ? std::optional(BatchFault::kNullKey) : std::nullopt;
}

/// Everything that the header alone can show, once its bytes are all there and the CRC holds.
std::optional<BatchFault> check_fields(const BatchHeader& h) {
  if (static_cast<int>(h.codec()) > static_cast<int>(Codec::kZstd)) return BatchFault::kBadCodec;
  if (h.control()) return BatchFault::kControl;
  if (h.transactional()) return BatchFault::kTransactional;
  if (h.count <= 0 || h.last_offset_delta != h.count - 1) return BatchFault::kBadCount;
  // Without a producer id epoch and sequence mean nothing; some clients leave zeros there.
  if (h.producer_id < -1) return BatchFault::kBadProducer;
  if (h.idempotent() && (h.producer_epoch < 0 || h.base_sequence < 0)) {
    return BatchFault::kBadProducer;
  }
  // Log-append time is the broker's word, not the client's.
  if (h.log_append_time()) return BatchFault::kBadTimestamp;
  return std::nullopt;
}

std::unexpected<Error> broken_record(const BatchHeader& header, std::int32_t index) {
  return fail(Code::kCorrupt, "batch at offset " + std::to_string(header.base_offset) +
                                  ": record " + std::to_string(index) + " of " +
                                  std::to_string(header.count) + " breaks the format");
}

}  // namespace

Result<BatchHeader> parse_batch_header(ByteView bytes) {
  if (bytes.size() < kBatchHeaderBytes) {
    return fail(Code::kOutOfRange, "record batch: " + std::to_string(bytes.size()) +
                                       " bytes are no whole header of 61");
  }
  const std::uint8_t* p = bytes.data();
  BatchHeader h;
  h.base_offset = base::load_be<std::int64_t>(p);
  h.length = base::load_be<std::int32_t>(p + kLengthAt);
  h.leader_epoch = base::load_be<std::int32_t>(p + kLeaderEpochAt);
  h.magic = static_cast<std::int8_t>(p[kMagicAt]);
  h.crc = base::load_be<std::uint32_t>(p + kCrcAt);
  h.attributes = base::load_be<std::int16_t>(p + kAttributesAt);
  h.last_offset_delta = base::load_be<std::int32_t>(p + kLastDeltaAt);
  h.base_timestamp = base::load_be<std::int64_t>(p + kBaseTimestampAt);
  h.max_timestamp = base::load_be<std::int64_t>(p + kMaxTimestampAt);
  h.producer_id = base::load_be<std::int64_t>(p + kProducerIdAt);
  h.producer_epoch = base::load_be<std::int16_t>(p + kProducerEpochAt);
  h.base_sequence = base::load_be<std::int32_t>(p + kBaseSequenceAt);
  h.count = base::load_be<std::int32_t>(p + kCountAt);
  if (h.length < static_cast<std::int32_t>(kBatchHeaderBytes - kBatchPrefixBytes)) {
    return fail(Code::kCorrupt, "record batch at offset " + std::to_string(h.base_offset) +
                                    ": says a length of " + std::to_string(h.length) +
                                    ", less than its own header");
  }
  return h;
}

void write_batch_header(const BatchHeader& h, std::uint8_t* out) {
  base::store_be(out, h.base_offset);
  base::store_be(out + kLengthAt, h.length);
  base::store_be(out + kLeaderEpochAt, h.leader_epoch);
  out[kMagicAt] = static_cast<std::uint8_t>(h.magic);
  base::store_be(out + kCrcAt, h.crc);
  base::store_be(out + kAttributesAt, h.attributes);
  base::store_be(out + kLastDeltaAt, h.last_offset_delta);
  base::store_be(out + kBaseTimestampAt, h.base_timestamp);
  base::store_be(out + kMaxTimestampAt, h.max_timestamp);
  base::store_be(out + kProducerIdAt, h.producer_id);
  base::store_be(out + kProducerEpochAt, h.producer_epoch);
  base::store_be(out + kBaseSequenceAt, h.base_sequence);
  base::store_be(out + kCountAt, h.count);
}

std::uint32_t batch_crc(ByteView batch) {
  PYRALOG_ASSERT(batch.size() >= kBatchHeaderBytes);
  return base::crc32c(batch.subspan(kAttributesAt));
}

void assign_offset_and_epoch(MutableBytes batch, Offset base, Epoch epoch) {
  PYRALOG_ASSERT(batch.size() >= kBatchHeaderBytes);
  base::store_be(batch.data(), base.value);
  base::store_be(batch.data() + kLeaderEpochAt, epoch.value);
}

void assign_append_time(MutableBytes batch, std::int64_t wall_ms) {
  PYRALOG_ASSERT(batch.size() >= kBatchHeaderBytes);
  std::uint8_t* p = batch.data();
  const auto attributes = base::load_be<std::int16_t>(p + kAttributesAt);
  base::store_be(p + kAttributesAt, static_cast<std::int16_t>(attributes | kLogAppendTimeBit));
  base::store_be(p + kBaseTimestampAt, wall_ms);
  base::store_be(p + kMaxTimestampAt, wall_ms);
  base::store_be(p + kCrcAt, batch_crc(batch));
}

void assign_max_timestamp(MutableBytes batch, std::int64_t timestamp) {
  PYRALOG_ASSERT(batch.size() >= kBatchHeaderBytes);
  base::store_be(batch.data() + kMaxTimestampAt, timestamp);
  base::store_be(batch.data() + kCrcAt, batch_crc(batch));
}

const char* describe(BatchFault fault) {
  switch (fault) {
    case BatchFault::kTruncated:
      return "its bytes are fewer than it says";
    case BatchFault::kNotOne:
      return "there must be exactly one batch";
    case BatchFault::kBadMagic:
      return "its format is not version 2";
    case BatchFault::kBadCrc:
      return "its checksum is wrong";
    case BatchFault::kBadCount:
      return "its record count contradicts its last offset";
    case BatchFault::kBadProducer:
      return "its producer id, epoch and sequence contradict one another";
    case BatchFault::kBadTimestamp:
      return "its timestamps are missing or contradict one another";
    case BatchFault::kBadCodec:
      return "its compression codec does not exist";
    case BatchFault::kControl:
      return "it is a control batch, which clients may not write";
    case BatchFault::kTransactional:
      return "it is transactional, which is not supported";
    case BatchFault::kTooLarge:
      return "it is larger than max.message.bytes";
    case BatchFault::kBadRecord:
      return "one of its records breaks the format";
    case BatchFault::kNullKey:
      return "a record has no key, which a compacted topic needs";
  }
  return "unknown fault";
}

std::optional<BatchFault> check_batch(ByteView bytes, const BatchCheck& check,
                                      BatchHeader& header, BatchContent* content) {
  if (bytes.empty()) return BatchFault::kNotOne;
  // All formats keep the magic in one place, and older ones may be shorter than our header.
  if (bytes.size() > kMagicAt && bytes[kMagicAt] != 2) return BatchFault::kBadMagic;
  const auto parsed = parse_batch_header(bytes);
  if (!parsed) return BatchFault::kTruncated;
  header = *parsed;
  if (header.total_bytes() > check.max_bytes) return BatchFault::kTooLarge;
  if (header.total_bytes() > bytes.size()) return BatchFault::kTruncated;
  if (header.total_bytes() < bytes.size()) return BatchFault::kNotOne;
  if (batch_crc(bytes) != header.crc && !PYRALOG_PLANT("model.skip_crc")) {
    return BatchFault::kBadCrc;
  }
  if (const auto fault = check_fields(header)) return fault;
  const ByteView payload = bytes.subspan(kBatchHeaderBytes);
  if (header.codec() == Codec::kNone) {
    if (PYRALOG_PLANT("model.skip_records")) return std::nullopt;
    return check_records(payload, header, check.require_keys, content);
  }
  const bool wrong_maximum = header.max_timestamp < header.base_timestamp;
  if (!check.open_compressed && !check.require_keys && !wrong_maximum) return std::nullopt;
  const auto inflated = base::decompress(header.codec(), payload, check.max_inflated_bytes);
  if (!inflated) {
    if (inflated.error().code != Code::kTooLarge) return BatchFault::kBadRecord;
    if (content != nullptr) content->unopened = true;
    return BatchFault::kTooLarge;
  }
  return check_records(*inflated, header, check.require_keys, content);
}

Result<RecordReader> RecordReader::open(ByteView batch, std::size_t max_inflated_bytes,
                                        Headers headers) {
  RecordReader reader;
  reader.headers_ = headers;
  PYRALOG_ASSIGN(reader.header_, parse_batch_header(batch));
  const BatchHeader& h = reader.header_;
  const auto refuse = [&](const std::string& what) {
    return fail(Code::kCorrupt, "batch at offset " + std::to_string(h.base_offset) + ": " + what);
  };
  if (h.magic != 2) return refuse("format version " + std::to_string(h.magic) + ", not 2");
  if (h.total_bytes() != batch.size()) return refuse("its length is not that of its bytes");
  if (h.count < 0 || h.last_offset_delta < 0 || h.count > std::int64_t{h.last_offset_delta} + 1) {
    return refuse("its record count contradicts its last offset");
  }
  if (h.base_offset < 0 || h.base_offset > INT64_MAX - h.last_offset_delta - 1) {
    return refuse("its offsets are impossible");
  }
  reader.batch_records_ = batch.subspan(kBatchHeaderBytes);
  if (h.codec() == Codec::kNone) return reader;
  auto inflated = base::decompress(h.codec(), reader.batch_records_, max_inflated_bytes);
  if (!inflated) {
    inflated.error().message.insert(0, "batch at offset " + std::to_string(h.base_offset) + ": ");
    return fail(std::move(inflated.error()));
  }
  reader.inflated_ = std::move(*inflated);
  return reader;
}

Result<std::optional<RecordView>> RecordReader::next() {
  const ByteView all = header_.codec() == Codec::kNone ? batch_records_ : ByteView(inflated_);
  ByteView left = all.subspan(position_);
  if (index_ == header_.count) {
    if (!left.empty()) return broken_record(header_, index_);
    return std::optional<RecordView>();
  }
  RawRecord raw;
  if (!take_record(left, raw) || raw.offset_delta <= last_delta_ ||
      raw.offset_delta > header_.last_offset_delta) {
    return broken_record(header_, index_);
  }
  RecordView record;
  record.offset = header_.base_offset + raw.offset_delta;
  if (header_.log_append_time()) {
    record.timestamp = header_.max_timestamp;
  } else if (__builtin_add_overflow(header_.base_timestamp, raw.timestamp_delta,
                                    &record.timestamp)) {
    return broken_record(header_, index_);
  }
  record.key = raw.key;
  record.value = raw.value;
  record.header_count = raw.header_count;
  record.raw_headers = raw.headers;
  if (headers_ == Headers::kDecoded) {
    record.headers.resize(static_cast<std::size_t>(raw.header_count));
  }
  for (HeaderView& header : record.headers) {
    PYRALOG_ASSERT(take_header(raw.headers, header));
  }
  position_ = all.size() - left.size();
  last_delta_ = raw.offset_delta;
  ++index_;
  return record;
}

}  // namespace pyralog::model
