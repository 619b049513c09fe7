#include "base/hash.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace pyralog::base {
namespace {

// The vectors of the Java client's own test of its partitioner hash.
TEST(Murmur2, agrees_with_the_java_client) {
  const std::map<std::string, std::int32_t> expected = {
      {"21", -973932308},
      {"foobar", -790332482},
      {"a-little-bit-long-string", -985981536},
      {"a-little-bit-longer-string", -1486304829},
      {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
      {"abc", 479470107},
  };
  for (const auto& [key, hash] : expected) {
    EXPECT_EQ(static_cast<std::int32_t>(murmur2(as_bytes(key))), hash) << key;
  }
}

TEST(KafkaPartition, takes_the_hash_without_its_sign) {
  EXPECT_EQ(kafka_partition(as_bytes("abc"), 10), 7u);
  EXPECT_EQ(kafka_partition(as_bytes("21"), 7),
            (static_cast<std::uint32_t>(-973932308) & 0x7fffffffu) % 7);
  EXPECT_EQ(kafka_partition(as_bytes(""), 1), 0u);
}

// From the reference implementation (xxhash 0.8).
TEST(Xxh3, matches_the_reference) {
  EXPECT_EQ(xxh3_64({}), 0x2d06800538d394c2u);
  EXPECT_NE(xxh3_64(as_bytes("a")), xxh3_64(as_bytes("a"), 1));
  EXPECT_EQ(xxh3_64(as_bytes("a")), 0xe6c632b61e964e1fu);
}

}  // namespace
}  // namespace pyralog::base
