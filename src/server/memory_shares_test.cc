#include "server/memory_shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace pyralog::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1u << 20;

ServerOptions on_machine(std::uint64_t memory, unsigned cores) {
  ServerOptions options;
  options.machine = {memory, cores};
  return options;
}

std::uint64_t in_all(const MemoryShares& shares, unsigned cores) {
  return shares.requests + shares.answers + shares.topics + shares.groups +
         (shares.compaction + shares.indexes) * cores;
}

TEST(MemoryShares, a_large_machine_gives_each_room_what_it_has_use_for) {
  const auto shares = share_memory(on_machine(24'576 * kMiB, 2));
  ASSERT_TRUE(shares);
  EXPECT_EQ(shares->all, 18'432 * kMiB);
  EXPECT_EQ(shares->requests, 320 * kMiB);
  EXPECT_EQ(shares->answers, 128 * kMiB);
  EXPECT_EQ(shares->topics, 1024 * kMiB);
  EXPECT_EQ(shares->groups, 1024 * kMiB);
  EXPECT_EQ(shares->compaction, 32 * kMiB);
  EXPECT_EQ(shares->indexes, 64 * kMiB);
}

TEST(MemoryShares, the_usual_request_finds_room_on_any_number_of_shards) {
  for (const std::uint64_t memory : {64u, 512u, 4096u, 65'536u}) {
    for (const unsigned cores : {1u, 2u, 3u, 8u, 64u, 256u}) {
      ServerOptions options = on_machine(memory * kMiB, cores);
      const auto shares = share_memory(options);
      if (!shares) continue;  // too little for other rooms
      EXPECT_GT(shares->largest_request, static_cast<std::uint64_t>(options.message_max_bytes)) << cores;
      EXPECT_LT(shares->largest_request, shares->requests / cores) << "all shards together stay within it";
    }
  }
  EXPECT_EQ(share_memory(on_machine(16'384 * kMiB, 1))->largest_request, 184 * kMiB);
  for (const unsigned cores : {2u, 4u, 8u, 16u}) {
    EXPECT_GE(share_memory(on_machine(16'384 * kMiB, cores))->largest_request, 100 * kMiB) << cores;
  }
  EXPECT_EQ(share_memory(on_machine(16'384 * kMiB, 64))->requests, 3072 * kMiB);
}

TEST(MemoryShares, a_small_container_is_divided) {
  const auto shares = share_memory(on_machine(512 * kMiB, 2));
  ASSERT_TRUE(shares);
  EXPECT_EQ(shares->all, 384 * kMiB);
  EXPECT_EQ(shares->requests, 96 * kMiB);
  EXPECT_EQ(shares->answers, 48 * kMiB);
  EXPECT_EQ(shares->topics, 144 * kMiB);
  EXPECT_EQ(shares->groups, 48 * kMiB);
  EXPECT_EQ(shares->compaction, 12 * kMiB);
  EXPECT_EQ(shares->indexes, 12 * kMiB);
}

TEST(MemoryShares, what_is_set_counts_and_the_rest_shares_what_is_left) {
  ServerOptions options = on_machine(512 * kMiB, 1);
  options.memory_topics_bytes = 304 * kMiB;
  const auto shares = share_memory(options);
  ASSERT_TRUE(shares);
  EXPECT_EQ(shares->topics, 304 * kMiB);
  EXPECT_EQ(shares->requests, 32 * kMiB);
  EXPECT_EQ(shares->answers, 16 * kMiB);
  EXPECT_EQ(shares->groups, 16 * kMiB);
}

TEST(MemoryShares, more_than_there_is_cannot_be_set) {
  ServerOptions options = on_machine(512 * kMiB, 4);
  options.memory_topics_bytes = 300 * kMiB;
  options.cleaner_table_bytes = 32 * kMiB;
  const auto shares = share_memory(options);
  ASSERT_FALSE(shares);
  EXPECT_THAT(shares.error().message,
              AllOf(HasSubstr("memory.topics.max.bytes = 314572800"),
                    HasSubstr("log.cleaner.dedupe.buffer.size = 33554432 for each of 4 shards"),
                    HasSubstr("three quarters"), HasSubstr("402653184 bytes")));
  options.memory_max_bytes = 600 * kMiB;
  EXPECT_TRUE(share_memory(options));
}

TEST(MemoryShares, no_room_is_left_without_any) {
  ServerOptions options = on_machine(16'384 * kMiB, 4);
  options.memory_topics_bytes = 12'288 * kMiB;
  const auto shares = share_memory(options);
  ASSERT_FALSE(shares);
  EXPECT_THAT(shares.error().message,
              AllOf(HasSubstr("memory.topics.max.bytes = 12884901888"), HasSubstr("too little for"),
                    HasSubstr("raise memory.max.bytes")));
}

TEST(MemoryShares, a_bound_that_nothing_fits_into_is_refused) {
  ServerOptions options = on_machine(512 * kMiB, 4);
  options.queued_max_request_bytes = 4096;
  const auto shares = share_memory(options);
  ASSERT_FALSE(shares);
  EXPECT_THAT(shares.error().message,
              AllOf(HasSubstr("queued.max.request.bytes cannot be 4096"), HasSubstr("7549748 bytes with 4 shards")));
  options = on_machine(512 * kMiB, 4);
  options.memory_max_bytes = 0;
  ASSERT_FALSE(share_memory(options));
  EXPECT_THAT(share_memory(options).error().message, HasSubstr("memory.max.bytes"));
}

TEST(MemoryShares, never_come_to_more_than_all) {
  std::mt19937_64 random(7);
  const auto draw = [&](std::int64_t least, std::uint64_t most) -> std::int64_t {
    if (random() % 2 == 0) return -1;
    return least + static_cast<std::int64_t>(random() % most);
  };
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    const auto cores = static_cast<unsigned>(1 + random() % 16);
    ServerOptions options = on_machine((32 + random() % 4096) * kMiB, cores);
    options.memory_max_bytes = draw(16 * kMiB, 2048 * kMiB);
    options.queued_max_request_bytes = draw(kMiB, 256 * kMiB);
    options.queued_max_response_bytes = draw(kMiB, 256 * kMiB);
    options.memory_topics_bytes = draw(kMiB, 2048 * kMiB);
    options.memory_groups_bytes = draw(kMiB, 256 * kMiB);
    options.cleaner_table_bytes = draw(1 << 16, 64 * kMiB);
    const auto shares = share_memory(options);
    if (!shares) continue;
    ++accepted;
    ASSERT_LE(in_all(*shares, cores), shares->all) << i;
  }
  EXPECT_GT(accepted, 2'000);
}

}  // namespace
}  // namespace pyralog::server
