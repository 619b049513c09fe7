#include "log/log_details.h"

#include "log/torn_log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::Node;
using io::sim::Simulator;

TEST(log_details, tell_of_segments_of_evidence_and_of_what_compaction_has_left) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    LogConfig config = small_segments();
    config.compaction = Compaction{0.0, 0, INT64_MAX, 1'000'000'000};
    auto log = (co_await shard->open_log(partition(), config)).value();
    for (int i = 0; i < 40; ++i) {
      EXPECT_TRUE((co_await append(*log, batch(i))).has_value());
      if (i % 10 == 0) EXPECT_TRUE((co_await shard->sync(log)).has_value());
    }
    EXPECT_TRUE((co_await shard->sync(log)).has_value());

    const LogDetails before = log->details();
    EXPECT_EQ(before.segments, shard->stats().rolls + 1);
    EXPECT_EQ(before.newest.size(), before.segments);
    EXPECT_GT(before.segments, 2u);
    EXPECT_TRUE(before.newest.back().active);
    EXPECT_FALSE(before.newest.front().active);
    EXPECT_EQ(before.newest.front().base, Offset(0));
    EXPECT_EQ(before.newest.back().next, log->end_offset());
    std::uint64_t closed = 0;
    for (const auto& segment : before.newest) {
      EXPECT_EQ(segment.synced_bytes, segment.bytes);
      if (!segment.active) closed += segment.bytes;
    }
    EXPECT_TRUE(before.evidence && before.evidence->end_offset > Offset(20));
    EXPECT_TRUE(before.cleaner && !before.cleaner->running);
    EXPECT_EQ(before.cleaner->backlog_bytes, closed);
    EXPECT_EQ(shard->use().backlog_bytes, closed);
    EXPECT_EQ(shard->use().segments, before.segments);
    EXPECT_EQ(shard->use().failed_write_ahead, 0u);

    CompactionCall call;
    call.now = io::Shard::current().wall();
    call.limit = log->end_offset();
    call.producer_batches = [] { return std::vector<Offset>(); };
    // What was sealed last may still be on its way.
    for (int i = 0; i < 10 && log->backlog_bytes() > 0; ++i) {
      EXPECT_TRUE((co_await log->compact(call)).has_value());
    }
    const LogDetails after = log->details();
    EXPECT_TRUE(after.cleaner && after.cleaner->known);
    EXPECT_GT(after.cleaner->upto, Offset(0));
    EXPECT_EQ(after.cleaner->backlog_bytes, 0u);
    (co_await shard->close()).value();
  });
}

TEST(log_details, topics_in_memory_take_what_they_hold) {
  Simulator sim(2);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    LogConfig config;
    config.durability = Durability::kMemory;
    auto log = (co_await shard->open_log(partition(), config)).value();
    EXPECT_EQ(shard->use().memory_topic_bytes, 0u);
    EXPECT_TRUE((co_await append(*log, batch(0, 1, 10))).has_value());
    EXPECT_GT(shard->use().memory_topic_bytes, log->size_bytes());
    EXPECT_EQ(log->details().segments, 0u);
    EXPECT_FALSE(log->details().cleaner.has_value());
    (co_await shard->close()).value();
  });
}

}  // namespace
}  // namespace pyralog::log
