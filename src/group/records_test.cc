#include "group/records.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "group/group_testing.h"

namespace pyralog::group {
namespace {

using testing::bytes;

std::string hex(const Bytes& b) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t x : b) {
    text += kDigits[x >> 4];
    text += kDigits[x & 15];
  }
  return text;
}

TEST(Records, are_kafkas) {
  EXPECT_EQ(hex(encode_key(OffsetKey{"g", "t", 7})),
            "0001"
            "000167"
            "000174"
            "00000007");
  EXPECT_EQ(hex(encode_key(GroupKey{"g"})),
            "0002"
            "000167");
  EXPECT_EQ(hex(encode_value(OffsetValue{9, 2, "m", 5, -1})),
            "0003"
            "0000000000000009"
            "00000002"
            "00016d"
            "0000000000000005");
  GroupValue v{"consumer", 3, "range", "m", 6, {}};
  v.members.push_back(StoredMember{"m", std::nullopt, "c", "h", 10, 20, bytes("s"), bytes("a")});
  EXPECT_EQ(hex(encode_value(v)),
            "0003"
            "0008636f6e73756d6572"
            "00000003"
            "000572616e6765"
            "00016d"
            "0000000000000006"
            "00000001"
            "00016d"
            "ffff"
            "000163"
            "000168"
            "0000000a"
            "00000014"
            "0000000173"
            "0000000161");
}

TEST(Records, an_offset_with_an_expiry_of_its_own_has_the_version_that_can_say_so) {
  const Bytes value = encode_value(OffsetValue{9, 2, "", 5, 6});
  EXPECT_EQ(hex(value),
            "0001"
            "0000000000000009"
            "0000"
            "0000000000000005"
            "0000000000000006");
  EXPECT_EQ(decode_offset_value(value)->expire_timestamp_ms, 6);
}

TEST(Records, older_versions_are_read) {
  const auto old = decode_offset_value(Bytes{0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0,  // offset, ""
                                             0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6});
  ASSERT_TRUE(old) << old.error().message;
  EXPECT_EQ(*old, (OffsetValue{9, -1, "", 5, 6}));
  const auto group = decode_group_value(Bytes{0,    0, 0, 1, 'c', 0, 0, 0,   2, 0xFF, 0xFF, 0xFF,
                                              0xFF, 0, 0, 0, 1,   0, 1, 'm', 0, 0,    0,    0,
                                              0,    0, 0, 9, 0,   0, 0, 0,   0, 0,    0,    0});
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(group->members.at(0).rebalance_timeout_ms, 9) << "version 0 has only the session's";
}

TEST(Records, newer_ones_are_unsupported_and_broken_ones_corrupt) {
  EXPECT_EQ(decode_key(Bytes{0, 3, 0, 0}).error().code, Code::kUnsupported);
  EXPECT_EQ(decode_offset_value(Bytes{0, 5}).error().code, Code::kUnsupported);
  EXPECT_EQ(decode_group_value(Bytes{0, 9}).error().code, Code::kUnsupported);
  EXPECT_FALSE(decode_key(Bytes{}));
  EXPECT_FALSE(decode_key(Bytes{0xFF, 0xFF}));
  EXPECT_EQ(decode_key(Bytes{0, 2, 0, 9, 'g'}).error().code, Code::kCorrupt);
  EXPECT_EQ(decode_key(Bytes{0, 2, 0, 1, 'g', 0}).error().code, Code::kCorrupt);
}

TEST(Records, a_group_is_coordinated_where_javas_hash_says) {
  EXPECT_EQ(partition_for("", 50), 0);
  EXPECT_EQ(partition_for("g", 50), 103 % 50);
  EXPECT_EQ(partition_for("test-group", 50), 627841412 % 50);
  EXPECT_EQ(partition_for("polygenelubricants", 50), 0) << "its hash is −2³¹";
  EXPECT_EQ(partition_for("é", 50), 233 % 50);
  EXPECT_EQ(partition_for("😀", 50), (0xD83D * 31 + 0xDE00) % 50);
  EXPECT_GE(partition_for("\xFF\xC3", 50), 0) << "no UTF-8";
}

RC_GTEST_PROP(RecordsProperty, survive_their_bytes_and_any_cut_is_refused,
              (const std::string& group, const std::string& topic, std::int32_t partition)) {
  const Bytes key = encode_key(OffsetKey{group, topic, partition});
  const auto back = decode_key(key);
  RC_ASSERT(back.has_value());
  RC_ASSERT(std::get<OffsetKey>(*back) == (OffsetKey{group, topic, partition}));
  GroupValue v{group, std::abs(partition % 1000), topic, std::nullopt, partition, {}};
  v.members.push_back(
      StoredMember{topic, group, group, topic, partition, 7, bytes(group), bytes(topic)});
  const Bytes value = encode_value(v);
  const auto decoded = decode_group_value(value);
  RC_ASSERT(decoded.has_value());
  RC_ASSERT(*decoded == v);
  const auto cut = *rc::gen::inRange<std::size_t>(0, value.size());
  RC_ASSERT(!decode_group_value(ByteView(value).first(cut)).has_value());
}

}  // namespace
}  // namespace pyralog::group
