#include "model/record_batch.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <string>

#include "base/varint.h"

namespace pyralog::model {
namespace {

using base::as_bytes;

// Three records, written down from the format's definition; kafka-python builds the same bytes.
// clang-format off
const Bytes kGolden = {
    0, 0, 0, 0, 0, 0, 0, 5,                          // base offset
    0, 0, 0, 0x52,                                   // length: 94 - 12
    0xff, 0xff, 0xff, 0xff,                          // leader epoch: none
    2,                                               // magic
    0xda, 0x71, 0xcc, 0x0d,                          // CRC-32C
    0, 0,                                            // attributes
    0, 0, 0, 2,                                      // last offset delta
    0, 0, 0, 0, 0, 0, 0x03, 0xe8,                    // base timestamp 1000
    0, 0, 0, 0, 0, 0, 0x03, 0xea,                    // max timestamp 1002
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,  // producer id: none
    0xff, 0xff,                                      // producer epoch: none
    0xff, 0xff, 0xff, 0xff,                          // base sequence: none
    0, 0, 0, 3,                                      // count
    0x1e, 0, 0, 0, 0x02, 'k', 0x02, 'v',             // 15 bytes: deltas 0, 0, key, value,
    0x04, 0x02, 'h', 0x02, 'x', 0x02, 'n', 0x01,     // two headers, the second one null
    0x10, 0, 0x04, 0x02, 0x01, 0x04, 'v', '2', 0,    // 8 bytes: deltas +2, 1, null key
    0x0e, 0, 0x01, 0x04, 0x02, 'k', 0x01, 0,         // 7 bytes: deltas -1, 2, tombstone
};
// clang-format on

BatchBuilder golden_builder() {
  BatchBuilder builder;
  builder.add({1000, as_bytes("k"), as_bytes("v"), {{"h", as_bytes("x")}, {"n", std::nullopt}}});
  builder.add({1002, std::nullopt, as_bytes("v2"), {}});
  builder.add({999, as_bytes("k"), std::nullopt, {}});
  return builder;
}

Bytes must_build(const BatchBuilder& builder, std::int64_t base = 0) {
  auto batch = builder.build(Offset(base));
  if (!batch) throw std::runtime_error(batch.error().message);
  return *batch;
}
std::optional<BatchFault> judge(ByteView bytes, const BatchCheck& check = {}) {
  BatchHeader header;
  return check_batch(bytes, check, header);
}
/// Makes length and CRC right again after a change, so that the change itself is judged.
void sign(Bytes& batch) {
  base::store_be(batch.data() + 8, static_cast<std::int32_t>(batch.size() - 12));
  base::store_be(batch.data() + 17, batch_crc(batch));
}
/// A batch of `count` whose records are `records`, byte for byte.
Bytes raw_batch(ByteView records, std::int32_t count, Codec codec = Codec::kNone) {
  BatchHeader header;
  header.attributes = static_cast<std::int16_t>(codec);
  header.base_timestamp = header.max_timestamp = 1000;
  header.count = count;
  header.last_offset_delta = count - 1;
  Bytes batch(kBatchHeaderBytes);
  write_batch_header(header, batch.data());
  batch.insert(batch.end(), records.begin(), records.end());
  sign(batch);
  return batch;
}
Result<std::vector<RecordView>> read_all(ByteView batch, std::size_t max_inflated = 1u << 20) {
  PYRALOG_ASSIGN(auto reader, RecordReader::open(batch, max_inflated));
  std::vector<RecordView> out;
  while (true) {
    PYRALOG_ASSIGN(auto record, reader.next());
    if (!record) return out;
    out.push_back(std::move(*record));
  }
}

TEST(RecordFormat, builds_the_golden_bytes) {
  EXPECT_EQ(must_build(golden_builder(), 5), kGolden);
}

TEST(RecordFormat, accepts_the_golden_bytes) {
  BatchHeader header;
  EXPECT_EQ(check_batch(kGolden, {}, header), std::nullopt);
  EXPECT_EQ(header.base_offset, 5);
  EXPECT_EQ(header.last_offset(), 7);
  EXPECT_EQ(header.next_offset(), 8);
  EXPECT_EQ(header.total_bytes(), kGolden.size());
  EXPECT_EQ(header.codec(), Codec::kNone);
  EXPECT_EQ(header.count, 3);
  EXPECT_FALSE(header.idempotent());
  EXPECT_FALSE(header.control());
}

TEST(RecordFormat, reads_headers_tombstone_and_null_key) {
  auto reader = RecordReader::open(kGolden, 0);
  ASSERT_TRUE(reader.has_value());
  const auto first = reader->next();
  ASSERT_TRUE(first.has_value() && first->has_value());
  EXPECT_EQ((*first)->offset, 5);
  EXPECT_EQ((*first)->timestamp, 1000);
  EXPECT_EQ(base::as_text(*(*first)->key), "k");
  EXPECT_EQ(base::as_text(*(*first)->value), "v");
  ASSERT_EQ((*first)->headers.size(), 2u);
  EXPECT_EQ((*first)->headers[0].name, "h");
  EXPECT_EQ(base::as_text(*(*first)->headers[0].value), "x");
  EXPECT_FALSE((*first)->headers[1].value.has_value());
  const auto second = reader->next();
  EXPECT_FALSE((*second)->key.has_value());
  EXPECT_EQ((*second)->timestamp, 1002);
  const auto third = reader->next();
  EXPECT_EQ((*third)->offset, 7);
  EXPECT_EQ((*third)->timestamp, 999);
  EXPECT_FALSE((*third)->value.has_value());
  EXPECT_EQ(*reader->next(), std::nullopt) << "after the last";
  EXPECT_EQ(*reader->next(), std::nullopt) << "and again";
}

TEST(RecordFormat, header_round_trip) {
  const auto header = parse_batch_header(kGolden);
  ASSERT_TRUE(header.has_value());
  Bytes again(kBatchHeaderBytes);
  write_batch_header(*header, again.data());
  EXPECT_TRUE(std::equal(again.begin(), again.end(), kGolden.begin()));
}

TEST(RecordFormat, a_header_needs_all_its_bytes_and_a_possible_length) {
  EXPECT_EQ(parse_batch_header(ByteView(kGolden).first(60)).error().code, Code::kOutOfRange);
  Bytes bad = kGolden;
  bad[11] = 48;
  EXPECT_EQ(parse_batch_header(bad).error().code, Code::kCorrupt);
  bad[8] = 0x80;
  EXPECT_EQ(parse_batch_header(bad).error().code, Code::kCorrupt);
}

TEST(RecordFormat, every_changed_byte_is_refused_or_lies_outside_the_checksum) {
  for (const Codec codec : {Codec::kNone, Codec::kGzip, Codec::kLz4}) {
    BatchBuilder builder(codec);
    builder.producer(7, 1, 0);
    builder.add({1000, as_bytes("key"), as_bytes("value"), {{"h", as_bytes("x")}}});
    builder.add({1001, as_bytes("key"), std::nullopt, {}});
    const Bytes good = must_build(builder);
    ASSERT_EQ(judge(good), std::nullopt);
    for (std::size_t at = 0; at < good.size(); ++at) {
      for (int flip = 1; flip < 256; ++flip) {
        Bytes bad = good;
        bad[at] = static_cast<std::uint8_t>(bad[at] ^ flip);
        const bool outside = at < 8 || (at >= 12 && at < 16);  // base offset, leader epoch
        ASSERT_EQ(judge(bad) == std::nullopt, outside) << "byte " << at << " flipped by " << flip;
      }
    }
  }
}

TEST(RecordFormat, the_leader_may_write_offset_and_epoch) {
  Bytes batch = kGolden;
  assign_offset_and_epoch(batch, Offset(1234567890123), Epoch(42));
  BatchHeader header;
  EXPECT_EQ(check_batch(batch, {}, header), std::nullopt);
  EXPECT_EQ(header.base_offset, 1234567890123);
  EXPECT_EQ(header.leader_epoch, 42);
}

TEST(RecordFormat, append_time_replaces_every_timestamp) {
  Bytes batch = kGolden;
  assign_append_time(batch, 77777);
  const auto header = parse_batch_header(batch);
  EXPECT_EQ(header->crc, batch_crc(batch));
  EXPECT_TRUE(header->log_append_time());
  const auto records = read_all(batch);
  ASSERT_TRUE(records.has_value());
  for (const auto& record : *records) EXPECT_EQ(record.timestamp, 77777);
}

TEST(CheckBatch, names_the_fault_of_the_frame) {
  EXPECT_EQ(judge({}), BatchFault::kNotOne);
  for (std::size_t size = 1; size < kGolden.size(); ++size) {
    EXPECT_EQ(judge(ByteView(kGolden).first(size)), BatchFault::kTruncated) << size;
  }
  Bytes longer = kGolden;
  longer.push_back(0);
  EXPECT_EQ(judge(longer), BatchFault::kNotOne);
  Bytes old = kGolden;
  old[16] = 1;
  EXPECT_EQ(judge(old), BatchFault::kBadMagic);
  EXPECT_EQ(judge(ByteView(old).first(30)), BatchFault::kBadMagic);
  BatchCheck small;
  small.max_bytes = kGolden.size() - 1;
  EXPECT_EQ(judge(kGolden, small), BatchFault::kTooLarge);
  small.max_bytes = kGolden.size();
  EXPECT_EQ(judge(kGolden, small), std::nullopt);
}

template <typename T>
std::optional<BatchFault> judge_with(std::size_t at, T value) {
  Bytes batch = kGolden;
  base::store_be(batch.data() + at, value);
  sign(batch);
  return judge(batch);
}

TEST(CheckBatch, names_the_fault_of_a_field) {
  EXPECT_EQ(judge_with<std::int16_t>(21, 5), BatchFault::kBadCodec);
  EXPECT_EQ(judge_with<std::int16_t>(21, 7), BatchFault::kBadCodec);
  EXPECT_EQ(judge_with<std::int16_t>(21, 16), BatchFault::kTransactional);
  EXPECT_EQ(judge_with<std::int16_t>(21, 32), BatchFault::kControl);
  EXPECT_EQ(judge_with<std::int16_t>(21, 48), BatchFault::kControl);
  EXPECT_EQ(judge_with<std::int16_t>(21, 8), BatchFault::kBadTimestamp);
  EXPECT_EQ(judge_with<std::int32_t>(23, 1), BatchFault::kBadCount);
  EXPECT_EQ(judge_with<std::int32_t>(23, -1), BatchFault::kBadCount);
  EXPECT_EQ(judge_with<std::int64_t>(43, -2), BatchFault::kBadProducer);
  EXPECT_EQ(judge_with<std::int64_t>(43, 4), BatchFault::kBadProducer) << "no epoch, no sequence";
  EXPECT_EQ(judge_with<std::int32_t>(57, 2), BatchFault::kBadCount);
  EXPECT_EQ(judge_with<std::int32_t>(57, 0), BatchFault::kBadCount);
  EXPECT_EQ(judge_with<std::int32_t>(57, -3), BatchFault::kBadCount);
}

/// Some clients leave the greatest timestamp out, or take that of their last record.
TEST(CheckBatch, finds_the_greatest_timestamp_where_the_header_cannot_be_right) {
  for (const Codec codec : {Codec::kNone, Codec::kGzip}) {
    BatchBuilder builder(codec);
    for (const std::int64_t timestamp : {2000, 1000, 3000, -1}) {
      builder.add({.timestamp = timestamp, .key = {}, .value = {}, .headers = {}});
    }
    Bytes batch = must_build(builder);
    for (const std::int64_t said : {-1, 1999, 3000}) {
      assign_max_timestamp(batch, said);
      BatchHeader header;
      BatchContent content;
      ASSERT_EQ(check_batch(batch, {}, header, &content), std::nullopt) << said;
      EXPECT_EQ(header.max_timestamp, said);
      EXPECT_EQ(content.seen, codec == Codec::kNone || said < 2000);
      if (!content.seen) continue;
      EXPECT_EQ(content.min_timestamp, 1000);
      EXPECT_EQ(content.max_timestamp, 3000);
    }
  }
}

TEST(CheckBatch, without_a_producer_id_epoch_and_sequence_mean_nothing) {
  Bytes batch = kGolden;
  base::store_be<std::int16_t>(batch.data() + 51, 0);
  base::store_be<std::int32_t>(batch.data() + 53, 0);
  sign(batch);
  EXPECT_EQ(judge(batch), std::nullopt);
}

TEST(CheckBatch, refuses_a_count_that_the_bytes_cannot_hold) {
  Bytes batch = kGolden;
  base::store_be<std::int32_t>(batch.data() + 23, INT32_MAX - 1);
  base::store_be<std::int32_t>(batch.data() + 57, INT32_MAX);
  sign(batch);
  EXPECT_EQ(judge(batch), BatchFault::kBadRecord);
  EXPECT_FALSE(read_all(batch).has_value());
}

TEST(CheckBatch, refuses_evil_records) {
  const std::vector<Bytes> evil = {
      {},                                                         // no record at all
      {0x0e, 0, 0, 0, 0x01, 0x01, 0},                             // a byte missing
      {0x0c, 0, 0, 0, 0x01, 0x01, 0, 0},                          // bytes after the last
      {0x0e, 0, 0, 0, 0x01, 0x01, 0, 0},                          // bytes inside a record
      {0x0c, 0, 0, 0x02, 0x01, 0x01, 0},                          // first offset delta 1
      {0x0c, 0, 0, 0x01, 0x01, 0x01, 0},                          // offset delta -1
      {0x0c, 0, 0, 0, 0x03, 0x01, 0},                             // key length -2
      {0x0c, 0, 0, 0, 0x7e, 0x01, 0},                             // key beyond the record
      {0x0c, 0, 0, 0, 0x01, 0x01, 0x01},                          // -1 headers
      {0x0c, 0, 0, 0, 0x01, 0x01, 0x7e},                          // headers that are not there
      {0x10, 0, 0, 0, 0x01, 0x01, 0x02, 0x01, 0x01},              // a header without name
      {0x14, 0, 0, 0, 0x01, 0x01, 0xfe, 0xff, 0xff, 0xff, 0x0f},  // 2^31-1 headers
      {0x01, 0, 0, 0, 0x01, 0x01, 0},                             // length -1
      {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},                 // endless varint
      {0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0x01, 0x01, 0},     // length 2^31-1
      {0x1e, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0x01, 0x01, 0},
      {0x1e, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 0x01, 0x01, 0},
  };
  for (std::size_t i = 0; i < evil.size(); ++i) {
    EXPECT_EQ(judge(raw_batch(evil[i], 1)), BatchFault::kBadRecord) << i;
    if (i != 4) EXPECT_FALSE(read_all(raw_batch(evil[i], 1)).has_value()) << i;
    const auto packed = base::compress(Codec::kZstd, evil[i]);
    BatchCheck full;
    full.open_compressed = true;
    EXPECT_EQ(judge(raw_batch(*packed, 1, Codec::kZstd), full), BatchFault::kBadRecord) << i;
  }
  EXPECT_EQ(judge(raw_batch(Bytes{0x0c, 0, 0, 0, 0x01, 0x01, 0}, 1)), std::nullopt);
}

TEST(CheckBatch, opens_compressed_records_only_when_asked) {
  const Bytes batch = raw_batch(as_bytes("this is no gzip member at all"), 1, Codec::kGzip);
  EXPECT_EQ(judge(batch), std::nullopt);
  BatchCheck full;
  full.open_compressed = true;
  EXPECT_EQ(judge(batch, full), BatchFault::kBadRecord);
  const auto records = read_all(batch);
  ASSERT_FALSE(records.has_value());
  EXPECT_EQ(records.error().code, Code::kCorrupt);
}

TEST(CheckBatch, refuses_an_inflation_bomb) {
  const auto packed = base::compress(Codec::kZstd, Bytes(16u << 20, 0));
  const Bytes bomb = raw_batch(*packed, 1, Codec::kZstd);
  ASSERT_LT(bomb.size(), 4096u);
  BatchCheck full;
  full.open_compressed = true;
  full.max_inflated_bytes = 1u << 20;
  EXPECT_EQ(judge(bomb, full), BatchFault::kTooLarge);
  EXPECT_EQ(RecordReader::open(bomb, 1u << 20).error().code, Code::kTooLarge);
}

TEST(CheckBatch, a_compacted_topic_needs_keys_also_in_compressed_batches) {
  BatchCheck keys;
  keys.require_keys = true;
  for (const Codec codec : {Codec::kNone, Codec::kSnappy}) {
    BatchBuilder builder(codec);
    builder.add({1, as_bytes("k"), std::nullopt, {}});
    EXPECT_EQ(judge(must_build(builder), keys), std::nullopt);
    builder.add({1, std::nullopt, as_bytes("v"), {}});
    EXPECT_EQ(judge(must_build(builder), keys), BatchFault::kNullKey);
    EXPECT_EQ(judge(must_build(builder)), std::nullopt);
    builder.add({1, as_bytes("k"), std::nullopt, {}});
    for (int i = 0; i < 2000; ++i) builder.add({1, std::nullopt, as_bytes("v"), {}});
    BatchHeader header;
    BatchContent content;
    EXPECT_EQ(check_batch(must_build(builder), keys, header, &content), BatchFault::kNullKey);
    EXPECT_EQ(content.keyless.size(), kMaxNamedRecords) << "they are named up to a bound";
    EXPECT_EQ(content.keyless.at(0), 1);
    EXPECT_EQ(content.keyless.at(1), 3);
  }
}

TEST(RecordReader, follows_gaps_that_compaction_leaves) {
  // Offsets 1 and 4 of what were six records.
  Bytes batch =
      raw_batch(Bytes{0x0c, 0, 0, 0x02, 0x01, 0x01, 0, 0x0c, 0, 0, 0x08, 0x01, 0x01, 0}, 2);
  base::store_be<std::int64_t>(batch.data(), 100);
  base::store_be<std::int32_t>(batch.data() + 23, 5);
  sign(batch);
  const auto records = read_all(batch);
  ASSERT_TRUE(records.has_value());
  ASSERT_EQ(records->size(), 2u);
  EXPECT_EQ((*records)[0].offset, 101);
  EXPECT_EQ((*records)[1].offset, 104);
}

TEST(RecordReader, reads_a_batch_that_compaction_emptied) {
  Bytes batch = raw_batch({}, 1);
  base::store_be<std::int32_t>(batch.data() + 57, 0);
  sign(batch);
  const auto records = read_all(batch);
  ASSERT_TRUE(records.has_value());
  EXPECT_TRUE(records->empty());
}

TEST(RecordReader, refuses_offsets_that_do_not_ascend_or_leave_the_batch) {
  EXPECT_FALSE(read_all(
      raw_batch(Bytes{0x0c, 0, 0, 0x02, 0x01, 0x01, 0, 0x0c, 0, 0, 0x02, 0x01, 0x01, 0}, 2)));
  EXPECT_FALSE(read_all(
      raw_batch(Bytes{0x0c, 0, 0, 0x00, 0x01, 0x01, 0, 0x0c, 0, 0, 0x04, 0x01, 0x01, 0}, 2)));
  Bytes far = kGolden;
  base::store_be(far.data(), INT64_MAX - 1);
  EXPECT_FALSE(RecordReader::open(far, 0).has_value());
}

TEST(BatchBuilder, knows_its_size_and_carries_the_producer) {
  BatchBuilder builder = golden_builder();
  EXPECT_EQ(builder.count(), 3);
  EXPECT_EQ(builder.size_bytes(), kGolden.size());
  builder.producer(99, 3, INT32_MAX);
  builder.attributes(16);
  const auto header = parse_batch_header(must_build(builder));
  EXPECT_EQ(header->producer_id, 99);
  EXPECT_EQ(header->producer_epoch, 3);
  EXPECT_EQ(header->base_sequence, INT32_MAX);
  EXPECT_TRUE(header->idempotent());
  EXPECT_TRUE(header->transactional());
}

struct Owned {
  std::int64_t timestamp;
  std::optional<Bytes> key;
  std::optional<Bytes> value;
  std::vector<std::pair<std::string, std::optional<Bytes>>> headers;
};

std::optional<Bytes> maybe_bytes() {
  return *rc::gen::oneOf(rc::gen::just(std::optional<Bytes>()),
                         rc::gen::map(rc::gen::arbitrary<Bytes>(),
                                      [](Bytes b) { return std::optional(std::move(b)); }));
}
std::optional<ByteView> view(const std::optional<Bytes>& bytes) {
  if (!bytes) return std::nullopt;
  return ByteView(*bytes);
}
Owned any_record() {
  Owned out;
  out.timestamp = *rc::gen::oneOf(rc::gen::inRange<std::int64_t>(0, 5000),
                                  rc::gen::inRange<std::int64_t>(0, INT64_MAX));
  out.key = maybe_bytes();
  out.value = maybe_bytes();
  const auto headers = *rc::gen::inRange(0, 4);
  for (int i = 0; i < headers; ++i)
    out.headers.emplace_back(*rc::gen::arbitrary<std::string>(), maybe_bytes());
  return out;
}

RC_GTEST_PROP(RecordFormat, round_trip_with_every_codec, ()) {
  const auto codec = static_cast<Codec>(*rc::gen::inRange(0, 5));
  std::vector<Owned> records(*rc::gen::inRange<std::size_t>(1, 20));
  BatchBuilder builder(codec);
  for (auto& record : records) {
    record = any_record();
    NewRecord fresh{record.timestamp, view(record.key), view(record.value), {}};
    for (const auto& [header, value] : record.headers)
      fresh.headers.push_back({header, view(value)});
    builder.add(fresh);
  }
  const Bytes batch = must_build(builder, 1000);
  BatchCheck full;
  full.open_compressed = true;
  RC_ASSERT(judge(batch, full) == std::nullopt);
  const auto back = read_all(batch);
  RC_ASSERT(back.has_value());
  // Views into the reader's inflated copy have died with it: read again, record by record.
  auto reader = RecordReader::open(batch, 1u << 20);
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto next = reader->next();
    RC_ASSERT(next.has_value() && next->has_value());
    const RecordView& got = **next;
    RC_ASSERT(got.offset == 1000 + static_cast<std::int64_t>(i));
    RC_ASSERT(got.timestamp == records[i].timestamp);
    const auto same = [](const std::optional<ByteView>& a, const std::optional<Bytes>& b) {
      return a.has_value() == b.has_value() &&
             (!a || std::equal(a->begin(), a->end(), b->begin(), b->end()));
    };
    RC_ASSERT(same(got.key, records[i].key));
    RC_ASSERT(same(got.value, records[i].value));
    RC_ASSERT(got.headers.size() == records[i].headers.size());
    for (std::size_t h = 0; h < got.headers.size(); ++h) {
      RC_ASSERT(got.headers[h].name == records[i].headers[h].first);
      RC_ASSERT(same(got.headers[h].value, records[i].headers[h].second));
    }
  }
  const auto end = reader->next();
  RC_ASSERT(end.has_value() && !end->has_value());
}

RC_GTEST_PROP(RecordFormat, signed_noise_never_crashes, (const Bytes& noise)) {
  const auto codec = static_cast<Codec>(*rc::gen::inRange(0, 5));
  const Bytes batch = raw_batch(noise, *rc::gen::inRange(1, 10), codec);
  BatchCheck full;
  full.open_compressed = true;
  full.max_inflated_bytes = 4096;
  const bool sound = judge(batch, full) == std::nullopt;
  if (sound) RC_ASSERT(read_all(batch, 4096).has_value());
}

}  // namespace
}  // namespace pyralog::model
