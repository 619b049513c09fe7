// The write-ahead files under load, and when the disk fails under them.
#include <set>

#include "log/write_ahead_testing.h"

namespace pyralog::log {
namespace {

using namespace test;

TEST(write_ahead, under_load_nothing_is_read_back) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  std::uint64_t reads = 0;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    reads += op == DiskOp::kRead && path.ends_with(".log") ? 1 : 0;
    return DiskFault::kNone;
  });
  node.run([&]() -> io::Task<void> {
    auto life = co_await live_on(ahead(), 1);
    reads = 0;
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_GE(life->shard->stats().write_ahead_rounds, 5u);
    EXPECT_EQ(reads, 0u);
    co_await life->shard->abandon();
  });
  node.disk().set_hook({});
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = (co_await begin()).value();
    for (const auto& log : life.logs) {
      EXPECT_EQ(log->end_offset(), Offset(12));
      EXPECT_TRUE((co_await read_all(log, Offset(0))).has_value());
    }
    co_await life.shard->abandon();
  });
}

TEST(write_ahead, append_times_that_are_not_written_yet_are_no_reason_to_sync_each_file) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  std::uint64_t log_syncs = 0;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    log_syncs += op == DiskOp::kSync && path.ends_with(".log") ? 1 : 0;
    return DiskFault::kNone;
  });
  node.run([&]() -> io::Task<void> {
    Options o = ahead();
    o.append_time_sync = 1s;
    auto life = co_await begin(o);
    EXPECT_TRUE(co_await round(*life, 1));
    co_await io::sleep_for(2s);
    // These entries are written, the next ones not, and a second has passed since the last were synced.
    for (const auto& log : life->logs) EXPECT_TRUE(co_await append(*log, batch(log->end_offset().value)));
    log_syncs = 0;
    for (int i = 0; i < 30; ++i) {
      co_await io::sleep_for(170ms);
      EXPECT_TRUE(co_await round(*life, 1));
    }
    EXPECT_EQ(log_syncs, 0u);
    co_await life->shard->abandon();
  });
}

TEST(write_ahead, segments_are_synced_little_by_little) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  std::set<int> rounds_with_syncs;
  int rounds = 0;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    if (op == DiskOp::kSync && path.ends_with(".log")) rounds_with_syncs.insert(rounds);
    return DiskFault::kNone;
  });
  node.run([&]() -> io::Task<void> {
    constexpr std::uint8_t kMany = 60;
    auto life = co_await begin(ahead(2u << 20), config(), kMany);
    rounds_with_syncs.clear();
    // Some twenty fill a half, and the disk is done with its segments long before the next one begins.
    for (; rounds < 45; ++rounds) {
      co_await io::sleep_for(1ms);
      EXPECT_TRUE(co_await round(*life, 1, 400));
    }
    EXPECT_EQ(life->shard->stats().write_ahead_rounds, 45u);
    EXPECT_GE(rounds_with_syncs.size(), 8u);
    co_await life->shard->abandon();
  });
}

/// One batch to each of three logs from `first` on, made durable together; whether that went well.
io::Task<void> commit_three(Life* life, std::size_t first, bool* fine) {
  io::TaskGroup all;
  unsigned synced = 0;
  for (std::size_t i = first; i < first + 3; ++i) {
    (void)co_await append(*life->logs[i], batch(life->logs[i]->end_offset().value, 1, 2, 1000, 50));
    all.spawn([](ShardLogs* shard, std::shared_ptr<PartitionLog> log, unsigned* done) -> io::Task<void> {
      if (co_await shard->sync(std::move(log))) ++*done;
    }(life->shard.get(), life->logs[i], &synced));
  }
  co_await all.join();
  *fine = synced == 3;
}

TEST(write_ahead, what_rounds_beside_a_failed_one_promise_is_there) {
  int behind = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Simulator sim(seed);
    Node& node = sim.add_node(quiet_disk());
    bool first = false;
    bool second = false;
    (void)node.try_run([&]() -> io::Task<void> {
      auto life = (co_await begin()).value();
      for (int i = 0; i < 2; ++i) EXPECT_TRUE(co_await round(life, 1));
      int failing = 1;
      node.disk().set_hook([&](DiskOp op, const std::string& path) {
        const bool ahead = op == DiskOp::kSync && path.ends_with(".wal");
        return ahead && failing-- > 0 ? DiskFault::kError : DiskFault::kNone;
      });
      io::TaskGroup rounds;
      rounds.spawn(commit_three(&life, 0, &first));
      co_await io::yield();
      co_await io::yield();
      rounds.spawn([](Life* of, bool* fine, Node* on) -> io::Task<void> {
        co_await commit_three(of, 3, fine);
        // What is promised now must be there, whatever comes.
        on->disk().set_hook([](DiskOp, const std::string&) { return DiskFault::kPowerLoss; });
        (void)co_await io::Shard::current().disk().sync_dir("/data");
      }(&life, &second, &node));
      co_await rounds.join();
      co_await life.shard->abandon();
    });
    node.disk().set_hook({});
    if (node.up()) node.lose_power();
    node.restart();
    node.run([&]() -> io::Task<void> {
      auto life = (co_await begin()).value();
      for (std::size_t i = 0; i < 6; ++i) {
        if (i < 3 ? first : second) EXPECT_EQ(life.logs[i]->end_offset().value, 6) << seed << " log " << i;
      }
      co_await life.shard->abandon();
    });
    behind += second ? 1 : 0;
  }
  EXPECT_GT(behind, 30);
}

TEST(write_ahead, what_a_failed_sync_left_in_memory_alone_is_written_anew) {
  Simulator sim(15);
  Node& node = sim.add_node(quiet_disk());
  node.disk().options().sync_error_drops = 0;
  const std::int64_t acknowledged = rounds_until_a_sync_fails(node, Duration(0));
  // The process goes, and the page cache with the bytes that the device has not stays.
  restart(node, false);
  node.run([&]() -> io::Task<void> {
    auto life = (co_await begin()).value();
    EXPECT_GE(life.logs[0]->end_offset().value, acknowledged);
    (co_await life.shard->close()).value();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = (co_await begin()).value();
    EXPECT_GE(life.logs[0]->end_offset().value, acknowledged);
    EXPECT_TRUE((co_await read_all(life.logs[0], Offset(0))).has_value());
    co_await life.shard->abandon();
  });
}

}  // namespace
}  // namespace pyralog::log
