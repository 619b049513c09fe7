#include "replica/batches.h"

#include <gtest/gtest.h>

namespace pyralog::replica {
namespace {

Bytes batch(std::int64_t base, std::uint32_t epoch, int records = 2) {
  BatchBuilder builder;
  for (int i = 0; i < records; ++i) {
    NewRecord record;
    record.timestamp = 1;
    record.value = as_bytes("value");
    builder.add(record);
  }
  Bytes bytes = builder.build().value();
  assign_offset_and_epoch(bytes, Offset(base), Epoch(epoch));
  return bytes;
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& each : parts) all.insert(all.end(), each.begin(), each.end());
  return all;
}

TEST(BatchesTest, says_what_there_is_and_in_which_epochs) {
  const Bytes bytes = joined({batch(10, 1), batch(12, 1), batch(14, 3)});
  const auto batches = parse_batches(bytes);
  ASSERT_TRUE(batches) << batches.error().message;
  EXPECT_EQ(batches->base, Offset(10));
  EXPECT_EQ(batches->end, Offset(16));
  EXPECT_EQ(batches->views.size(), 3u);
  ASSERT_EQ(batches->runs.size(), 2u);
  EXPECT_EQ(batches->runs[0], (EpochStart{Epoch(1), Offset(10)}));
  EXPECT_EQ(batches->runs[1], (EpochStart{Epoch(3), Offset(14)}));
  EXPECT_TRUE(parse_batches({})->views.empty());
}

TEST(BatchesTest, refuses_what_is_not_whole_sound_and_in_order) {
  EXPECT_FALSE(parse_batches(joined({batch(10, 1), batch(13, 1)}))) << "a gap";
  EXPECT_FALSE(parse_batches(joined({batch(10, 1), batch(11, 1)}))) << "twice";
  EXPECT_FALSE(parse_batches(joined({batch(10, 2), batch(12, 1)}))) << "epochs go back";
  EXPECT_FALSE(parse_batches(batch(10, 0))) << "of no epoch";
  const Bytes whole = batch(10, 1);
  for (std::size_t cut = 1; cut < whole.size(); ++cut) {
    EXPECT_FALSE(parse_batches(ByteView(whole).first(cut))) << cut;
  }
}

TEST(BatchesTest, refuses_every_flipped_bit_that_a_checksum_covers) {
  const Bytes whole = batch(10, 1);
  for (std::size_t at = 21; at < whole.size();
       ++at) {  // from the attributes on, and the checksum before
    for (int bit = 0; bit < 8; ++bit) {
      Bytes bad = whole;
      bad[at] = static_cast<std::uint8_t>(bad[at] ^ (1 << bit));
      EXPECT_FALSE(parse_batches(bad)) << at << " " << bit;
    }
  }
}

std::vector<std::int64_t> offsets_of(ByteView batches) {
  std::vector<std::int64_t> out;
  while (!batches.empty()) {
    const BatchHeader header = parse_batch_header(batches).value();
    auto reader = RecordReader::open(batches.first(header.total_bytes()), 1u << 20).value();
    while (const auto record = reader.next().value()) out.push_back(record->offset);
    batches = batches.subspan(header.total_bytes());
  }
  return out;
}

TEST(BatchesTest, what_compaction_has_put_together_begins_wherever_a_log_may_end) {
  // Offsets 10 to 19, of which some are gone.
  BatchBuilder builder;
  NewRecord record;
  record.timestamp = 5;
  record.value = as_bytes("value");
  for (const std::int32_t delta : {0, 3, 4, 8}) builder.add_at(delta, record);
  Bytes merged = builder.build_sparse(Offset(10), 9).value();
  assign_offset_and_epoch(merged, Offset(10), Epoch(4));
  const Bytes all = joined({merged, batch(20, 5)});
  for (std::int64_t from = 10; from < 20; ++from) {
    const auto tail = beginning_at(all, Offset(from));
    ASSERT_TRUE(tail) << from << ": " << tail.error().message;
    const auto parsed = parse_batches(*tail);
    ASSERT_TRUE(parsed) << from << ": " << parsed.error().message;
    EXPECT_EQ(parsed->base, Offset(from));
    EXPECT_EQ(parsed->end, Offset(22));
    EXPECT_EQ(parsed->runs[0], (EpochStart{Epoch(4), Offset(from)}));
    std::vector<std::int64_t> expected;
    for (const std::int64_t offset : {10, 13, 14, 18, 20, 21}) {
      if (offset >= from) expected.push_back(offset);
    }
    EXPECT_EQ(offsets_of(*tail), expected) << from;
  }
  EXPECT_EQ(beginning_at(all, Offset(20)).error().code, Code::kOutOfRange);
  EXPECT_EQ(beginning_at(all, Offset(9)).error().code, Code::kOutOfRange);
}

}  // namespace
}  // namespace pyralog::replica
