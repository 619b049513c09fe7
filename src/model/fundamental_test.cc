#include "model/fundamental.h"

#include <gtest/gtest.h>

#include <unordered_set>

namespace pyralog::model {
namespace {

Uuid some_uuid() {
  Uuid id;
  for (std::uint8_t i = 0; i < 16; ++i) id.bytes[i] = static_cast<std::uint8_t>(i * 17);
  return id;
}

TEST(Uuid, text_round_trip) {
  EXPECT_EQ(to_string(some_uuid()), "00112233-4455-6677-8899-aabbccddeeff");
  EXPECT_EQ(parse_uuid("00112233-4455-6677-8899-AABBCCDDEEFF"), some_uuid());
  EXPECT_TRUE(Uuid{}.is_nil());
  EXPECT_FALSE(some_uuid().is_nil());
}

TEST(Uuid, refuses_other_forms) {
  for (const char* text :
       {"", "00112233445566778899aabbccddeeff", "00112233-4455-6677-8899-aabbccddeef",
        "00112233-4455-6677-8899-aabbccddeefg", "00112233_4455-6677-8899-aabbccddeeff",
        "{0112233-4455-6677-8899-aabbccddeeff", "0-112233-4455-6677-8899aaabbccddeeff"}) {
    const auto id = parse_uuid(text);
    ASSERT_FALSE(id.has_value()) << text;
    EXPECT_EQ(id.error().code, Code::kInvalidArgument);
  }
}

TEST(PartitionId, text_round_trip) {
  const PartitionId id{TopicId{some_uuid()}, PartitionIndex(12)};
  EXPECT_EQ(to_string(id), "00112233-4455-6677-8899-aabbccddeeff-12");
  EXPECT_EQ(parse_partition_id(to_string(id)), id);
}

TEST(PartitionId, has_one_name_only) {
  const std::string uuid = to_string(some_uuid());
  for (const char* tail :
       {"", "-", "-x", "-01", "-+1", "--1", "-1 ", "-2147483648", "-2147483648000", "1"}) {
    EXPECT_FALSE(parse_partition_id(uuid + tail).has_value()) << tail;
  }
  EXPECT_TRUE(parse_partition_id(uuid + "-2147483647").has_value());
  EXPECT_TRUE(parse_partition_id(uuid + "-0").has_value());
}

TEST(PartitionId, hashes_apart) {
  std::unordered_set<PartitionId> seen;
  for (int i = 0; i < 100; ++i) seen.insert({TopicId{some_uuid()}, PartitionIndex(i)});
  EXPECT_EQ(seen.size(), 100u);
}

TEST(Durability, text_round_trip) {
  for (const auto d : {Durability::kMemory, Durability::kOs, Durability::kFsync}) {
    EXPECT_EQ(parse_durability(name(d)), d);
  }
  EXPECT_FALSE(parse_durability("sync").has_value());
}

TEST(TopicName, follows_kafkas_rule) {
  EXPECT_TRUE(is_valid_topic_name("orders"));
  EXPECT_TRUE(is_valid_topic_name("A.b_c-9"));
  EXPECT_TRUE(is_valid_topic_name("__consumer_offsets"));
  EXPECT_TRUE(is_valid_topic_name("..."));
  EXPECT_TRUE(is_valid_topic_name(std::string(249, 'a')));
  EXPECT_FALSE(is_valid_topic_name(std::string(250, 'a')));
  for (const char* bad : {"", ".", "..", "a/b", "a b", "a@b", "\xc3\xa4", "a\n"}) {
    EXPECT_FALSE(is_valid_topic_name(bad)) << bad;
  }
  EXPECT_FALSE(is_valid_topic_name(std::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace pyralog::model
