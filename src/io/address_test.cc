#include <gtest/gtest.h>

#include "io/disk.h"
#include "io/net.h"
#include "io/rng.h"

namespace pyralog::io {
namespace {

TEST(Address, reads_host_and_port) {
  EXPECT_EQ(parse_address("localhost:9092").value(), (Address{"localhost", 9092}));
  EXPECT_EQ(parse_address("127.0.0.1:0").value(), (Address{"127.0.0.1", 0}));
  EXPECT_EQ(parse_address("[::1]:65535").value(), (Address{"::1", 65535}));
  for (const char* text : {"::1", "127.0.0.1:0", "broker-1.example.org:9092", "[fe80::2]:1"}) {
    const auto address = parse_address(text);
    if (address) EXPECT_EQ(to_string(*address), text);
  }
}

TEST(Address, refuses_what_is_none_and_says_why) {
  for (const char* text : {"", ":", "host", "host:", ":9092", "host:65536", "host:-1", "host:1x",
                           "::1:9092", "[::1]", "[::1", "[::1]9092", "[host]:1", "[]:1",
                           "host:99999999999999999999", "a b:1", "host:1:2", "http://host:1"}) {
    const auto address = parse_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code, Code::kInvalidArgument);
    EXPECT_NE(address.error().message.find("HOST:PORT"), std::string::npos);
  }
}

TEST(Address, knows_what_is_loopback) {
  for (const char* host : {"localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(is_loopback({host, 1})) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "example.org", "::ffff:1.2.3.4",
                           "localhost.example.org"}) {
    EXPECT_FALSE(is_loopback({host, 1})) << host;
  }
}

TEST(Address, knows_a_wildcard_however_it_is_written) {
  for (const char* host : {"0.0.0.0", "0", "0.0", "0x0", "00.0.0.0", "::", "0:0:0:0:0:0:0:0", "::0",
                           "::0.0.0.0", "::ffff:0.0.0.0", ""}) {
    EXPECT_TRUE(is_wildcard({host, 1})) << host;
    EXPECT_FALSE(is_loopback({host, 1})) << host;
  }
  for (const char* host : {"127.0.0.1", "0.0.0.1", "1", "::1", "::ffff:1.2.3.4", "localhost", "o"}) {
    EXPECT_FALSE(is_wildcard({host, 1})) << host;
  }
}

TEST(ParentDir, is_the_part_before_the_last_name) {
  EXPECT_EQ(parent_dir("/a/b"), "/a");
  EXPECT_EQ(parent_dir("/a/b/"), "/a");
  EXPECT_EQ(parent_dir("/a"), "/");
  EXPECT_EQ(parent_dir("/"), "/");
  EXPECT_EQ(parent_dir("a"), ".");
  EXPECT_EQ(parent_dir("a/b"), "a");
  EXPECT_EQ(parent_dir(""), ".");
}

TEST(SeededRng, follows_its_seed_and_is_even) {
  SeededRng a(5);
  SeededRng b(5);
  SeededRng c(6);
  int hits = 0;
  int differ = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t word = a.next();
    EXPECT_EQ(word, b.next());
    differ += word != c.next() ? 1 : 0;
    EXPECT_LT(a.below(7), 7U);
    static_cast<void>(b.below(7));
    hits += a.chance(0.25) ? 1 : 0;
    static_cast<void>(b.next());
  }
  EXPECT_EQ(differ, 10'000);
  EXPECT_NEAR(hits, 2500, 250);
  Bytes bytes(13);
  a.fill(bytes);
  EXPECT_NE(bytes, Bytes(13));
}

}  // namespace
}  // namespace pyralog::io
