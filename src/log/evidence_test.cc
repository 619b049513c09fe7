// The `synced` journals: what they keep, and for how long.
#include "log/evidence.h"

#include <algorithm>

#include "log/log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::Node;
using io::sim::Simulator;

const char* const kJournal = "/data/shard-0.synced";

PartitionId numbered(std::uint32_t n) {
  PartitionId id = partition(1);
  id.partition.value = static_cast<std::int32_t>(100 + n);
  return id;
}

TEST(evidence, its_journal_does_not_grow_as_logs_come_and_go) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  std::size_t largest = 0;
  for (std::uint32_t life = 0; life < 3; ++life) {
    node.run([&]() -> io::Task<void> {
      Options o = options();
      o.synced_journal_bytes = 4000;
      auto shard = (co_await open_shard(o)).value();
      const auto stays = co_await shard->open_log(partition(1), {});
      EXPECT_TRUE(stays.has_value()) << (stays ? "" : stays.error().message);
      if (!stays) co_return;
      EXPECT_EQ((*stays)->end_offset().value, life);
      (void)(co_await append(**stays, batch(life, life + 1))).value();
      EXPECT_TRUE((co_await shard->sync(*stays)).has_value());
      for (std::uint32_t n = 0; n < 200; ++n) {
        const PartitionId id = numbered(life * 1000 + n);
        const auto log = (co_await shard->open_log(id, {})).value();
        (void)(co_await append(*log, batch(0))).value();
        EXPECT_TRUE((co_await shard->sync(log)).has_value());
        EXPECT_TRUE((co_await shard->delete_log(id)).has_value());
        largest = std::max(largest, node.disk().peek(kJournal).value().size());
      }
      co_await shard->abandon();
    });
    restart(node, true);
  }
  EXPECT_GT(largest, 4000u) << "it was never written anew";
  EXPECT_LT(largest, 12'000u);
}

TEST(evidence, of_logs_that_went_in_another_life_is_let_go_at_a_start) {
  Simulator sim(2);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    for (std::uint32_t n = 0; n < 20; ++n) {
      const auto log = (co_await shard->open_log(numbered(n), {})).value();
      (void)(co_await append(*log, batch(0))).value();
      EXPECT_TRUE((co_await shard->sync(log)).has_value());
    }
    co_await shard->abandon();
  });
  restart(node, false);
  node.run([&]() -> io::Task<void> {
    Options o = options();
    o.synced_journal_bytes = 200;
    auto shard = (co_await open_shard(o)).value();
    shard->drop_evidence([](const PartitionId& id) { return id.partition.value >= 100; });
    const auto log = (co_await shard->open_log(partition(1), {})).value();
    for (int i = 0; i < 3; ++i) {
      (void)(co_await append(*log, batch(i))).value();
      EXPECT_TRUE((co_await shard->sync(log)).has_value());
    }
    co_await shard->abandon();
  });
  EXPECT_LT(node.disk().peek(kJournal).value().size(), 600u);
}

TEST(evidence, a_log_whose_directory_a_failed_attempt_made_outlives_a_power_loss) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Simulator sim(seed);
    Node& node = sim.add_node(quiet_disk());
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      bool failed = false;
      node.disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
        const bool met = op == io::sim::DiskOp::kSyncDir && path == "/data" && !failed;
        failed = failed || met;
        return met ? io::sim::DiskFault::kError : io::sim::DiskFault::kNone;
      });
      EXPECT_FALSE((co_await shard->open_log(partition(1), {})).has_value());
      const auto log = (co_await shard->open_log(partition(1), {})).value();
      (void)(co_await append(*log, batch(0))).value();
      EXPECT_TRUE((co_await shard->sync(log)).has_value());
      co_await shard->abandon();
    });
    node.disk().set_hook({});
    restart(node, true);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      const auto log = co_await shard->open_log(partition(1), {});
      EXPECT_TRUE(log.has_value()) << (log ? "" : log.error().message);
      if (log) EXPECT_EQ((*log)->end_offset().value, 1);
      co_await shard->abandon();
    });
  }
}

/// Ten batches, each durable by itself, and then a process that dies.
void live_and_die(Node& node) {
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    const auto log = (co_await shard->open_log(partition(1), {})).value();
    for (int i = 0; i < 10; ++i) {
      (void)(co_await append(*log, batch(i))).value();
      EXPECT_TRUE((co_await shard->sync(log)).has_value());
    }
    co_await shard->abandon();
  });
  restart(node, false);
}

TEST(evidence, a_damaged_journal_leaves_its_logs_in_doubt_until_that_is_recorded) {
  Simulator sim(3);
  Node& node = sim.add_node(quiet_disk());
  live_and_die(node);
  EXPECT_TRUE(node.disk().corrupt(kJournal, 100).has_value());
  for (const bool recorded : {false, true}) {
    node.run([&]() -> io::Task<void> {
      const auto opened = co_await open_shard();
      EXPECT_TRUE(opened.has_value()) << (opened ? "" : opened.error().message);
      if (!opened) co_return;
      ShardLogs& shard = **opened;
      EXPECT_TRUE(shard.in_doubt(partition(1)));
      const auto log = co_await shard.open_log(partition(1), {});
      EXPECT_TRUE(log.has_value()) << (log ? "" : log.error().message);
      if (log) EXPECT_EQ((*log)->end_offset().value, 10);
      if (recorded) {
        EXPECT_TRUE((co_await doubt_recorded(io::Shard::current().disk(), "/data")).has_value());
      }
      co_await shard.abandon();
    });
    restart(node, false);
  }
  EXPECT_EQ(count_files(node, "shard-0.synced.damaged"), 1u);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    EXPECT_FALSE(shard->in_doubt(partition(1)));
    co_await shard->abandon();
  });
}

TEST(evidence, in_doubt_no_damaged_batch_is_served_and_what_is_cut_is_kept) {
  Simulator sim(4);
  Node& node = sim.add_node(quiet_disk());
  live_and_die(node);
  const std::string path = "/data/" + to_string(partition(1)) + "/00000000000000000000.log";
  Bytes sound;
  for (int i = 0; i < 5; ++i) {
    const Bytes each = batch(i);
    sound.insert(sound.end(), each.begin(), each.end());
  }
  const std::uint64_t at = kSegmentHeaderBytes + sound.size();
  EXPECT_TRUE(node.disk().corrupt(kJournal, 100).has_value());
  EXPECT_TRUE(node.disk().corrupt(path, at + 70).has_value());
  const Bytes before = node.disk().peek(path).value();
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    const auto log = co_await shard->open_log(partition(1), {});
    EXPECT_TRUE(log.has_value()) << (log ? "" : log.error().message);
    if (!log) co_return;
    EXPECT_EQ((*log)->end_offset().value, 5);
    EXPECT_EQ((co_await read_all(*log, Offset(0))).value(), sound);
    co_await shard->abandon();
  });
  const auto kept = node.disk().peek(path + ".from-" + std::to_string(at) + ".damaged");
  EXPECT_TRUE(kept.has_value()) << (kept ? "" : kept.error().message);
  if (kept) EXPECT_TRUE(std::ranges::equal(*kept, ByteView(before).subspan(at)));
}

}  // namespace
}  // namespace pyralog::log
