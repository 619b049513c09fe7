// What compaction makes of batches: records go, offsets and everything else stay.
#include "log/batch_cleaner.h"

#include <map>

#include "log/log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;

SecretHash::Secret secret() {
  SecretHash::Secret bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 7 + 1);
  return bytes;
}

struct Wanted {
  std::string key;
  std::optional<std::string> value;
};

Bytes batch_of(std::int64_t base, const std::vector<Wanted>& records, std::uint32_t epoch = 1,
               Codec codec = Codec::kNone, std::int64_t producer = -1) {
  BatchBuilder builder(codec);
  if (producer >= 0) builder.producer(producer, 3, static_cast<std::int32_t>(base));
  std::int64_t ts = 1000 + base;
  for (const Wanted& r : records) {
    NewRecord record;
    record.timestamp = ts++;
    record.key = as_bytes(r.key);
    if (r.value) record.value = as_bytes(*r.value);
    record.headers.push_back({"h", as_bytes(r.key)});
    builder.add(record);
  }
  Bytes bytes = builder.build(Offset(base)).value();
  assign_offset_and_epoch(bytes, Offset(base), Epoch(epoch));
  return bytes;
}

struct Kept {
  std::int64_t offset;
  std::string key;
  std::optional<std::string> value;
  std::int64_t timestamp;
  friend bool operator==(const Kept&, const Kept&) = default;
};

/// Checks that the batches are contiguous and sound, and returns their records.
std::vector<Kept> records_in(const Bytes& bytes, std::int64_t first, std::int64_t next,
                             std::vector<BatchHeader>* headers = nullptr) {
  std::vector<Kept> out;
  ByteView rest = bytes;
  while (!rest.empty()) {
    const BatchHeader header = parse_batch_header(rest).value();
    const ByteView one = rest.first(header.total_bytes());
    rest = rest.subspan(header.total_bytes());
    EXPECT_EQ(header.base_offset, first);
    EXPECT_EQ(batch_crc(one), header.crc);
    first = header.next_offset();
    if (headers != nullptr) headers->push_back(header);
    RecordReader reader = RecordReader::open(one, 1u << 20).value();
    while (const auto r = reader.next().value()) {
      EXPECT_EQ(r->headers.size(), 1u);
      out.push_back({r->offset, std::string(as_text(*r->key)),
                     r->value ? std::optional(std::string(as_text(*r->value))) : std::nullopt,
                     r->timestamp});
    }
  }
  EXPECT_EQ(first, next);
  return out;
}

struct Cleaned {
  Bytes bytes;
  CleanCounts counts;
};

Cleaned clean(const std::vector<Bytes>& batches, CleanRules rules) {
  BatchCleaner cleaner(rules);
  for (const Bytes& batch : batches) EXPECT_TRUE(cleaner.add(batch).has_value());
  EXPECT_TRUE(cleaner.finish().has_value());
  return {cleaner.take(), cleaner.counts()};
}

KeyTable table_of(const std::map<std::string, std::int64_t>& newest) {
  KeyTable table(100'000, secret());
  for (const auto& [key, offset] : newest) EXPECT_TRUE(table.put(as_bytes(key), Offset(offset)));
  return table;
}

TEST(compact_key, the_newest_of_each_key_stays_with_its_offset) {
  for (const Codec codec :
       {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    const std::vector<Bytes> batches = {
        batch_of(0, {{"a", "0"}, {"b", "1"}, {"c", "2"}}, 1, codec),
        batch_of(3, {{"a", "3"}, {"d", "4"}}, 1, codec),
        batch_of(5, {{"b", "5"}}, 1, codec),
        batch_of(6, {{"e", "6"}, {"a", "7"}}, 2, codec),
    };
    const KeyTable table = table_of({{"a", 7}, {"b", 5}, {"c", 2}, {"d", 4}, {"e", 6}});
    CleanRules rules;
    rules.table = &table;
    std::vector<BatchHeader> headers;
    const Cleaned out = clean(batches, rules);
    const std::vector<Kept> expected = {{2, "c", "2", 1002},
                                        {4, "d", "4", 1004},
                                        {5, "b", "5", 1005},
                                        {6, "e", "6", 1006},
                                        {7, "a", "7", 1007}};
    EXPECT_EQ(records_in(out.bytes, 0, 8, &headers), expected);
    ASSERT_EQ(headers.size(), 2u) << "one of each epoch";
    EXPECT_EQ(headers[0].leader_epoch, 1);
    EXPECT_EQ(headers[0].codec(), codec);
    EXPECT_EQ(headers[0].max_timestamp, 1005);
    EXPECT_EQ(headers[1].leader_epoch, 2);
    EXPECT_EQ(out.counts.records_in, 8u);
    EXPECT_EQ(out.counts.records_out, 5u);
    // A second time nothing is left to do.
    const Cleaned again = clean(
        {out.bytes.begin() == out.bytes.end()
             ? Bytes{}
             : Bytes(out.bytes.begin(),
                     out.bytes.begin() + static_cast<std::ptrdiff_t>(headers[0].total_bytes()))},
        rules);
    EXPECT_TRUE(std::equal(again.bytes.begin(), again.bytes.end(), out.bytes.begin()));
  }
}

TEST(compact_key, tombstones_stay_until_they_are_below_the_horizon) {
  const std::vector<Bytes> batches = {batch_of(0, {{"a", "0"}, {"b", std::nullopt}}),
                                      batch_of(2, {{"c", std::nullopt}, {"a", std::nullopt}})};
  const KeyTable table = table_of({{"a", 3}, {"b", 1}, {"c", 2}});
  CleanRules rules;
  rules.table = &table;
  EXPECT_EQ(records_in(clean(batches, rules).bytes, 0, 4).size(), 3u);
  EXPECT_EQ(clean(batches, rules).counts.tombstones, 3u);
  rules.tombstones_below = Offset(3);
  const auto left = records_in(clean(batches, rules).bytes, 0, 4);
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].key, "a");
  EXPECT_EQ(left[0].value, std::nullopt);
}

TEST(compact_key, a_run_without_records_still_takes_its_offsets) {
  const std::vector<Bytes> batches = {batch_of(10, {{"a", "0"}}), batch_of(11, {{"a", "1"}}),
                                      batch_of(12, {{"a", "2"}, {"a", "3"}})};
  const KeyTable table = table_of({{"a", 99}});
  CleanRules rules;
  rules.table = &table;
  std::vector<BatchHeader> headers;
  EXPECT_TRUE(records_in(clean(batches, rules).bytes, 10, 14, &headers).empty());
  ASSERT_EQ(headers.size(), 1u);
  EXPECT_EQ(headers[0].count, 0);
  EXPECT_EQ(headers[0].total_bytes(), kBatchHeaderBytes);
}

TEST(compact_key, what_a_producer_may_send_again_stays_by_itself) {
  const std::vector<Bytes> batches = {batch_of(0, {{"a", "0"}, {"b", "1"}}, 1, Codec::kZstd, 7),
                                      batch_of(2, {{"a", "2"}, {"b", "3"}}, 1, Codec::kZstd, 7),
                                      batch_of(4, {{"a", "4"}, {"b", "5"}}, 1, Codec::kZstd, 7),
                                      batch_of(6, {{"a", "6"}}, 1, Codec::kZstd, 8)};
  const KeyTable table = table_of({{"a", 6}, {"b", 5}});
  const Offset remembered[] = {Offset(2), Offset(4)};
  CleanRules rules;
  rules.table = &table;
  rules.producer_batches = remembered;
  std::vector<BatchHeader> headers;
  const auto left = records_in(clean(batches, rules).bytes, 0, 7, &headers);
  EXPECT_EQ(left.size(), 2u);
  ASSERT_EQ(headers.size(), 4u);
  EXPECT_EQ(headers[0].count, 0);
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) {
    EXPECT_EQ(headers[i].producer_id, 7);
    EXPECT_EQ(headers[i].producer_epoch, 3);
    EXPECT_EQ(headers[i].base_sequence, static_cast<std::int32_t>(2 * i));
    EXPECT_EQ(headers[i].last_offset_delta, 1);
    EXPECT_EQ(headers[i].max_timestamp, 1001 + static_cast<std::int64_t>(2 * i));
  }
  EXPECT_EQ(headers[1].count, 0);
  EXPECT_EQ(headers[2].count, 1);
}

TEST(compact_key, log_append_time_stays_what_it_was) {
  Bytes first = batch_of(0, {{"a", "0"}, {"b", "1"}});
  Bytes second = batch_of(2, {{"a", "2"}, {"c", "3"}});
  assign_append_time(first, 5000);
  assign_append_time(second, 6000);
  const KeyTable table = table_of({{"a", 2}});
  CleanRules rules;
  rules.table = &table;
  std::vector<BatchHeader> headers;
  const auto left = records_in(clean({first, second}, rules).bytes, 0, 4, &headers);
  ASSERT_EQ(headers.size(), 2u);
  EXPECT_TRUE(headers[0].log_append_time() && headers[1].log_append_time());
  const std::vector<Kept> expected = {
      {1, "b", "1", 5000}, {2, "a", "2", 6000}, {3, "c", "3", 6000}};
  EXPECT_EQ(left, expected);
}

TEST(compact_key, small_batches_become_larger_ones_and_no_larger_than_that) {
  std::vector<Bytes> batches;
  for (int i = 0; i < 400; ++i) {
    batches.push_back(batch_of(i, {{"k" + std::to_string(i), std::string(50, 'x')}}));
  }
  const KeyTable table = table_of({});
  CleanRules rules;
  rules.table = &table;
  rules.merge_bytes = 4000;
  std::vector<BatchHeader> headers;
  EXPECT_EQ(records_in(clean(batches, rules).bytes, 0, 400, &headers).size(), 400u);
  EXPECT_LT(headers.size(), 20u);
  for (const BatchHeader& header : headers) EXPECT_LE(header.total_bytes(), 4000u);
}

TEST(compact_key, what_nobody_can_read_goes_through_as_it_is) {
  // A topic that was not compacted took it unopened; its checksum is right.
  Bytes bad = batch_of(3, {{"a", "3"}, {"b", "4"}}, 1, Codec::kZstd);
  for (std::size_t i = kBatchHeaderBytes; i < bad.size(); ++i) bad[i] ^= 0x55;
  assign_max_timestamp(bad, 1004);
  const std::vector<Bytes> batches = {batch_of(0, {{"a", "0"}, {"b", "1"}, {"c", "2"}}), bad,
                                      batch_of(5, {{"c", "5"}})};
  const KeyTable table = table_of({{"c", 5}});
  CleanRules rules;
  rules.table = &table;
  const Cleaned out = clean(batches, rules);
  EXPECT_EQ(out.counts.unreadable, 1u);
  EXPECT_EQ(out.counts.records_in - out.counts.records_out, 1u);
  const auto at = std::search(out.bytes.begin(), out.bytes.end(), bad.begin(), bad.end());
  EXPECT_NE(at, out.bytes.end());
}

TEST(compact_key, what_grows_when_it_is_opened_is_not_put_together) {
  // Each is some hundred bytes on disk.
  const std::string large(150'000, 'x');
  const std::vector<Bytes> batches = {batch_of(0, {{"a", large}}, 1, Codec::kZstd),
                                      batch_of(1, {{"b", large}}, 1, Codec::kZstd)};
  const KeyTable table = table_of({});
  CleanRules rules;
  rules.table = &table;
  std::vector<BatchHeader> headers;
  EXPECT_EQ(records_in(clean(batches, rules).bytes, 0, 2, &headers).size(), 2u);
  EXPECT_EQ(headers.size(), 2u);
}

TEST(compact_key, a_table_that_is_full_says_so_and_forgets_nothing) {
  KeyTable table(24 * 8, secret());
  int put = 0;
  while (table.put(as_bytes("k" + std::to_string(put)), Offset(put))) ++put;
  EXPECT_EQ(put, 6);
  for (int i = 0; i < put; ++i) {
    EXPECT_TRUE(table.put(as_bytes("k" + std::to_string(i)), Offset(100 + i))) << "it is known";
    EXPECT_EQ(table.newest(as_bytes("k" + std::to_string(i))), Offset(100 + i));
  }
  EXPECT_EQ(table.newest(as_bytes("k6")), std::nullopt);
  KeyTable least(0, secret());
  EXPECT_TRUE(least.put(as_bytes("a"), Offset(1)));
  EXPECT_FALSE(least.put(as_bytes("b"), Offset(2)));
}

}  // namespace
}  // namespace pyralog::log
