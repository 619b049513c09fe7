// The bytes of write-ahead files, field by field: what one version wrote the next must read.
#include "log/write_ahead_format.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"

namespace pyralog::log {
namespace {

constexpr WriteAheadHeader kHeader{7, 0x0102030405060708U, 0x1112131415161718U};

TEST(write_ahead_format, a_header_lies_where_the_documents_say_and_one_copy_suffices) {
  const Bytes whole = encode(kHeader);
  ASSERT_EQ(whole.size(), kWriteAheadFirst);
  for (const std::size_t at : {std::size_t{0}, std::size_t{4096}}) {
    const ByteView copy = ByteView(whole).subspan(at, 64);
    EXPECT_EQ(as_text(copy.first(8)), "PYRAWAHD");
    EXPECT_EQ(load_le<std::uint16_t>(copy.data() + 8), 1);
    EXPECT_EQ(load_le<std::uint32_t>(copy.data() + 12), kHeader.shard);
    EXPECT_EQ(load_le<std::uint64_t>(copy.data() + 16), kHeader.generation);
    EXPECT_EQ(load_le<std::uint64_t>(copy.data() + 24), kHeader.salt);
    EXPECT_EQ(load_le<std::uint32_t>(copy.data() + 60), crc32c(copy.first(60)));
    Bytes damaged = whole;
    damaged[at + 20] ^= 1;
    const auto other = decode_write_ahead_header(damaged, "f");
    ASSERT_TRUE(other.has_value());
    EXPECT_EQ(other->salt, kHeader.salt);
    damaged[4096 - at + 20] ^= 1;
    EXPECT_EQ(decode_write_ahead_header(damaged, "f").error().code, Code::kCorrupt);
  }
  Bytes newer = whole;
  newer[8] = 2;
  store_le(newer.data() + 60, crc32c(ByteView(newer).first(60)));
  EXPECT_EQ(decode_write_ahead_header(newer, "f").error().code, Code::kUnsupported);
  EXPECT_EQ(decode_write_ahead_header(ByteView(whole).first(10), "f").error().code, Code::kCorrupt);
}

TEST(write_ahead_format, a_frame_belongs_to_its_place_and_its_use) {
  Bytes frame(kWriteAheadFrameHeaderBytes);
  frame.insert(frame.end(), {1, 2, 3});
  seal_write_ahead_frame(frame, 8192, kHeader.salt);
  const ByteView body = ByteView(frame).subspan(kWriteAheadFrameHeaderBytes);
  EXPECT_EQ(load_le<std::uint32_t>(frame.data()), 3u);
  EXPECT_EQ(load_le<std::uint32_t>(frame.data() + 4),
            crc32c(body, static_cast<std::uint32_t>(kHeader.salt)));
  EXPECT_EQ(write_ahead_body_length(frame, 8192, kHeader.salt), 3u);
  EXPECT_TRUE(write_ahead_body_sound(frame, body, kHeader.salt));
  EXPECT_FALSE(write_ahead_body_length(frame, 12288, kHeader.salt).has_value());
  EXPECT_FALSE(write_ahead_body_length(frame, 8192, kHeader.salt + 1).has_value());
  for (std::size_t i = 0; i < frame.size(); ++i) {
    Bytes bad = frame;
    bad[i] ^= 0x10;
    EXPECT_FALSE(write_ahead_body_length(bad, 8192, kHeader.salt) &&
                 write_ahead_body_sound(bad, ByteView(bad).subspan(16), kHeader.salt))
        << i;
  }
}

TEST(write_ahead_format, items_come_back_and_no_shorter_body_is_taken_for_them) {
  WriteAheadData item;
  item.partition.topic.uuid.bytes[3] = 9;
  item.partition.partition.value = 5;
  item.segment = Offset(42);
  item.file = WriteAheadFile::kAppendTimes;
  item.position = 77;
  SyncedEntry entry;
  entry.partition = item.partition;
  entry.end_position = 123;
  Bytes body;
  put_evidence(body, entry);
  const std::size_t evidence_bytes = body.size();
  put_data_header(body, item, 4);
  EXPECT_EQ(body.size() - evidence_bytes, 42u);
  body.insert(body.end(), {'d', 'a', 't', 'a'});
  const auto found = decode_write_ahead_body(body);
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->evidence.size(), 1u);
  EXPECT_EQ(found->evidence[0], entry);
  ASSERT_EQ(found->data.size(), 1u);
  EXPECT_EQ(found->data[0].partition, item.partition);
  EXPECT_EQ(found->data[0].segment, item.segment);
  EXPECT_EQ(found->data[0].file, item.file);
  EXPECT_EQ(found->data[0].position, item.position);
  EXPECT_EQ(as_text(found->data[0].bytes), "data");
  for (std::size_t size = 1; size < body.size(); ++size) {
    EXPECT_EQ(decode_write_ahead_body(ByteView(body).first(size)).has_value(),
              size == evidence_bytes)
        << size;
  }
}

}  // namespace
}  // namespace pyralog::log
