// The `synced` journals: what they keep, and for how long.
#include "log/evidence.h"

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

}  // namespace
}  // namespace pyralog::log
