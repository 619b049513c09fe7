// When records came: what of it is on disk, and what the clock may do meanwhile.
#include "log/append_time.h"

#include "log/log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::Node;
using io::sim::Simulator;

/// The entries of the segment that begins at `base`, as the disk has them.
std::vector<AppendTime> entries_of(Node& node, std::int64_t base) {
  const auto bytes = node.disk().peek("/data/" + to_string(partition()) + "/" +
                                      segment_file_name(Offset(base), "appendtime"));
  if (!bytes) return {};
  return decode_append_times(*bytes, Offset(base), Offset(INT64_MAX)).entries;
}

TEST(AppendTimes, outlive_a_power_loss_with_their_file) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    Simulator sim(seed);
    Node& node = sim.add_node(quiet_disk());
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), {})).value();
      (void)(co_await append(*log, batch(0))).value();
      (void)(co_await shard->sync(log)).value();
      co_await shard->abandon();
    });
    restart(node, true);
    EXPECT_EQ(entries_of(node, 0).size(), 1u);
  }
}

TEST(AppendTimes, of_a_sealed_segment_are_synced_too) {
  Options lazy = options();
  lazy.append_time_sync = std::chrono::hours(1);
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    SCOPED_TRACE(seed);
    // Synced by a later round, or by the close although there is nothing for a round to do.
    const bool closing = seed % 2 == 0;
    Simulator sim(seed);
    Node& node = sim.add_node(quiet_disk());
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard(lazy)).value();
      auto log = (co_await shard->open_log(partition(), {})).value();
      (void)(co_await append(*log, batch(0))).value();
      if (closing) (void)(co_await shard->sync(log)).value();
      (co_await log->roll()).value();
      if (!closing) (void)(co_await append(*log, batch(1))).value();
      if (!closing) (void)(co_await shard->sync(log)).value();
      if (closing) {
        (co_await shard->close()).value();
      } else {
        co_await shard->abandon();
      }
    });
    restart(node, true);
    EXPECT_EQ(entries_of(node, 0).size(), 1u);
  }
}

TEST(AppendTimes, that_follow_upon_each_other_are_written_together) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  int writes = 0;
  node.disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
    writes += op == io::sim::DiskOp::kWrite && path.ends_with(".appendtime") ? 1 : 0;
    return io::sim::DiskFault::kNone;
  });
  Options second = options();
  second.append_time_sync = 1s;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard(second)).value();
    auto log = (co_await shard->open_log(partition(), {})).value();
    (void)(co_await append(*log, batch(0))).value();
    co_await io::sleep_for(2s);
    (void)(co_await append(*log, batch(1))).value();
    EXPECT_EQ(entries_of(node, 0).size(), 2u);  // after a silence none waits
    std::vector<WallMs> walls;
    writes = 0;
    for (int i = 2; i < 22; ++i) {
      co_await io::sleep_for(20ms);
      walls.push_back(io::Shard::current().wall());
      (void)(co_await append(*log, batch(i))).value();
    }
    EXPECT_EQ(writes, 0);
    // Who asks hears of all of them.
    for (int i = 2; i < 22; ++i) {
      const WallMs before(walls[static_cast<std::size_t>(i - 2)].ms - 1);
      EXPECT_EQ((co_await log->end_offset_at(before)).value(), Offset(i));
    }
    EXPECT_EQ(writes, 1);
    for (int i = 22; i < 32; ++i) {
      co_await io::sleep_for(20ms);
      (void)(co_await append(*log, batch(i))).value();
    }
    (co_await shard->close()).value();
  });
  EXPECT_EQ(entries_of(node, 0).size(), 32u);
}

TEST(AppendTimes, go_on_when_the_clock_went_back) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), {})).value();
    const std::int64_t then = 1'000'000'000;
    for (int i = 0; i < 10; ++i) {
      const Bytes bytes = batch(i);
      const ByteView views[] = {bytes};
      const WallMs wall{then + i * 20 - (i >= 5 ? 3'600'000 : 0)};
      while (!log->ready(bytes.size(), wall)) (co_await log->prepare(bytes.size(), wall)).value();
      EXPECT_TRUE(log->append(views, wall));
      co_await io::sleep_for(20ms);
      if (i == 6) (co_await log->roll()).value();
    }
    EXPECT_EQ((co_await log->end_offset_at(WallMs{then + 70})).value(), Offset(4));
    EXPECT_EQ((co_await log->end_offset_at(WallMs{then + 80})).value(), Offset(10));
    EXPECT_EQ((co_await log->end_offset_at(WallMs{then - 1})).value(), Offset(0));
    co_await shard->abandon();
  });
  std::vector<AppendTime> all = entries_of(node, 0);
  EXPECT_EQ(all.size(), 7u);
  for (const AppendTime& each : entries_of(node, 7)) all.push_back(each);
  ASSERT_EQ(all.size(), 10u);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].base, Offset(static_cast<std::int64_t>(i)));
    EXPECT_EQ(all[i].append_ms, 1'000'000'000 + 20 * std::min(static_cast<int>(i), 4));
  }
}

}  // namespace
}  // namespace pyralog::log
