// Every message at every version, by generated random values.
#include <gtest/gtest.h>

#include "wire/kafka/testing.h"

namespace pyralog::wire::kafka::testing {
namespace {

constexpr int kRounds = 40;

std::string where(const AnyMessage& message, int version, int round) {
  return std::string(message.info.name) + " v" + std::to_string(version) + " round " +
         std::to_string(round);
}

TEST(Messages, survive_the_round_trip_at_every_version) {
  std::size_t tried = 0;
  for (const AnyMessage& message : all_messages()) {
    for (int version = message.info.min_version; version <= message.info.max_version; ++version) {
      for (int round = 0; round < kRounds; ++round) {
        Random random(static_cast<std::uint64_t>(version * 1000 + round));
        const auto bytes = message.make(random, static_cast<std::int16_t>(version));
        ASSERT_TRUE(bytes) << where(message, version, round) << ": " << bytes.error().message;
        const auto again = message.recode(*bytes, static_cast<std::int16_t>(version), {});
        ASSERT_TRUE(again && *again == *bytes) << where(message, version, round);
        ++tried;
      }
    }
  }
  EXPECT_GT(tried, 10000u);
}

TEST(Messages, refuse_every_truncation_and_any_extra_byte) {
  for (const AnyMessage& message : all_messages()) {
    for (int v = message.info.min_version; v <= message.info.max_version; ++v) {
      const auto version = static_cast<std::int16_t>(v);
      Random random(static_cast<std::uint64_t>(v) + 7);
      auto bytes = message.make(random, version);
      ASSERT_TRUE(bytes);
      for (std::size_t keep = 0; keep < bytes->size(); ++keep) {
        const auto cut = message.recode(ByteView(*bytes).first(keep), version, {});
        ASSERT_FALSE(cut) << where(message, v, static_cast<int>(keep));
        ASSERT_EQ(cut.error().code, Code::kCorrupt) << cut.error().message;
      }
      bytes->push_back(0);
      const auto longer = message.recode(*bytes, version, {});
      ASSERT_FALSE(longer) << where(message, v, 0);
      ASSERT_EQ(longer.error().code, Code::kCorrupt);
    }
  }
}

TEST(Messages, refuse_versions_that_do_not_exist) {
  for (const AnyMessage& message : all_messages()) {
    for (const int v : {-1, message.info.min_version - 1, message.info.max_version + 1, 32767}) {
      const auto version = static_cast<std::int16_t>(v);
      Random random(1);
      const auto made = message.make(random, version);
      ASSERT_FALSE(made) << where(message, v, 0);
      const auto decoded = message.recode(Bytes(64), version, {});
      ASSERT_FALSE(decoded);
      ASSERT_EQ(decoded.error().code, Code::kUnsupported) << decoded.error().message;
    }
  }
}

TEST(Messages, withstand_mutated_bytes_within_their_memory_limit) {
  Random random(2026);
  for (int round = 0; round < 20000; ++round) {
    Bytes input = make_input(random);
    for (std::uint64_t n = random.below(5); n != 0; --n) {
      input[random.below(input.size())] = static_cast<std::uint8_t>(random.below(256));
    }
    try_input(input);
  }
}

}  // namespace
}  // namespace pyralog::wire::kafka::testing
