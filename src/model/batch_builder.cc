#include <algorithm>

#include "base/varint.h"
#include "model/record_batch.h"

namespace pyralog::model {
namespace {

std::size_t nullable_size(std::size_t length) {
  return base::varint_size(static_cast<std::int64_t>(length)) + length;
}
std::size_t nullable_size(const std::optional<ByteView>& bytes) {
  return bytes ? nullable_size(bytes->size()) : base::varint_size(-1);
}

void put(Bytes& out, ByteView bytes) {
  base::encode_varint(out, static_cast<std::int64_t>(bytes.size()));
  out.insert(out.end(), bytes.begin(), bytes.end());
}
void put(Bytes& out, const std::optional<ByteView>& bytes) {
  if (bytes) {
    put(out, *bytes);
  } else {
    base::encode_varint(out, -1);
  }
}

/// a − b modulo 2⁶⁴; timestamps of honest callers never wrap.
std::int64_t difference(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}

}  // namespace

BatchBuilder& BatchBuilder::producer(std::int64_t id, std::int16_t epoch,
                                     std::int32_t base_sequence) {
  producer_id_ = id;
  producer_epoch_ = epoch;
  base_sequence_ = base_sequence;
  return *this;
}

BatchBuilder& BatchBuilder::attributes(std::int16_t extra) {
  extra_ = extra;
  return *this;
}

void BatchBuilder::put_record(std::int32_t offset_delta, std::int64_t timestamp,
                              const std::optional<ByteView>& key,
                              const std::optional<ByteView>& value, std::int32_t header_count,
                              ByteView headers) {
  PYRALOG_ASSERT(offset_delta > last_delta_);
  if (count_ == 0) base_timestamp_ = max_timestamp_ = timestamp;
  max_timestamp_ = std::max(max_timestamp_, timestamp);
  const std::int64_t timestamp_delta = difference(timestamp, base_timestamp_);
  const std::size_t size = 1 + base::varint_size(timestamp_delta) +
                           base::varint_size(offset_delta) + nullable_size(key) +
                           nullable_size(value) + base::varint_size(header_count) + headers.size();
  base::encode_varint(records_, static_cast<std::int64_t>(size));
  const std::size_t begin = records_.size();
  records_.push_back(0);
  base::encode_varint(records_, timestamp_delta);
  base::encode_varint(records_, offset_delta);
  put(records_, key);
  put(records_, value);
  base::encode_varint(records_, header_count);
  records_.insert(records_.end(), headers.begin(), headers.end());
  PYRALOG_ASSERT(records_.size() - begin == size);
  ++count_;
  last_delta_ = offset_delta;
}

void BatchBuilder::add_at(std::int32_t offset_delta, const NewRecord& record) {
  Bytes headers;
  for (const HeaderView& header : record.headers) {
    put(headers, base::as_bytes(header.name));
    put(headers, header.value);
  }
  put_record(offset_delta, record.timestamp, record.key, record.value,
             static_cast<std::int32_t>(record.headers.size()), headers);
}

void BatchBuilder::add_at(std::int32_t offset_delta, const RecordView& record) {
  put_record(offset_delta, record.timestamp, record.key, record.value, record.header_count,
             record.raw_headers);
}

std::size_t BatchBuilder::size_bytes() const {
  return kBatchHeaderBytes + records_.size();
}

Result<Bytes> BatchBuilder::build(Offset base) const {
  PYRALOG_ASSERT(count_ > 0);
  return build_sparse(base, last_delta_);
}

Result<Bytes> BatchBuilder::build_sparse(Offset base, std::int32_t last_delta,
                                         std::optional<std::int64_t> max_timestamp) const {
  PYRALOG_ASSERT(last_delta >= last_delta_ && last_delta >= 0);
  Bytes batch(kBatchHeaderBytes);
  if (codec_ == Codec::kNone) {
    batch.insert(batch.end(), records_.begin(), records_.end());
  } else {
    PYRALOG_ASSIGN(const Bytes packed, base::compress(codec_, records_));
    batch.insert(batch.end(), packed.begin(), packed.end());
  }
  const std::size_t length = batch.size() - kBatchPrefixBytes;
  if (length > INT32_MAX) {
    return fail(Code::kTooLarge, "record batch of " + std::to_string(batch.size()) +
                                     " bytes; a batch holds less than 2 GiB");
  }
  BatchHeader header;
  header.base_offset = base.value;
  header.length = static_cast<std::int32_t>(length);
  header.attributes = static_cast<std::int16_t>(static_cast<int>(codec_) | extra_);
  header.last_offset_delta = last_delta;
  header.base_timestamp = base_timestamp_;
  header.max_timestamp = max_timestamp.value_or(max_timestamp_);
  header.producer_id = producer_id_;
  header.producer_epoch = producer_epoch_;
  header.base_sequence = base_sequence_;
  header.count = count_;
  write_batch_header(header, batch.data());
  header.crc = batch_crc(batch);
  write_batch_header(header, batch.data());
  return batch;
}

}  // namespace pyralog::model
