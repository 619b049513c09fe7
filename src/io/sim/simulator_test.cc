#include "io/sim/simulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "io/pools.h"
#include "io/sim/sim_net.h"

namespace pyralog::io::sim {
namespace {

using namespace std::chrono_literals;

TEST(Simulator, time_is_virtual_and_goes_on_only_by_events) {
  Simulator sim(1);
  Node& node = sim.add_node();
  int ticks = 0;
  node.spawn([&ticks]() -> Task<void> {
    for (; ticks < 24; ++ticks) co_await sleep_for(1h);
  });
  EXPECT_FALSE(sim.run_until_idle(90min));
  EXPECT_EQ(ticks, 1);
  EXPECT_TRUE(sim.run_until([&] { return ticks == 10; }, 24h));
  sim.run_for(24h);
  EXPECT_EQ(ticks, 24);
  EXPECT_TRUE(sim.run_until_idle());
  EXPECT_GE(sim.now(), Instant{} + 33h);
}

/// A busy run of two nodes; returns what happened, as text.
std::string trace(std::uint64_t seed) {
  Simulator sim(seed);
  std::string out;
  for (int n = 0; n < 2; ++n) {
    Node& node = sim.add_node({.shards = 2});
    for (unsigned s = 0; s < 2; ++s) {
      node.spawn(
          [&out, &node, s]() -> Task<void> {
            for (int i = 0; i < 30; ++i) {
              Rng& rng = Shard::current().rng();
              switch (rng.below(4)) {
                case 0: co_await sleep_for(Duration(rng.below(50'000))); break;
                case 1: co_await run_in(Pool::kWork, [] { return 0; }); break;
                case 2: co_await on(node.shard(1 - s), []() -> Task<void> { co_return; }); break;
                default: static_cast<void>(co_await replace_file(
                    Shard::current().disk(), "/" + std::to_string(s), Bytes(rng.below(9'000))));
              }
              out += std::to_string(node.index()) + "/" + std::to_string(s) + "@" +
                     std::to_string(Shard::current().now().ns) + " ";
            }
          },
          s);
    }
  }
  sim.run_for(3ms);
  sim.node(0).lose_power();
  for (const std::string& path : sim.node(0).disk().files()) {
    out += path + ":" + std::to_string(sim.node(0).disk().peek(path)->size()) + " ";
  }
  sim.run_until_idle();
  for (const auto& [name, count] : sim.stats().all()) out += name + "=" + std::to_string(count) + " ";
  return out;
}

TEST(Simulator, the_same_seed_replays_the_same_run) {
  std::set<std::string> traces;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const std::string first = trace(seed);
    EXPECT_EQ(first, trace(seed)) << seed;
    traces.insert(first);
  }
  EXPECT_EQ(traces.size(), 20U);
}

TEST(Simulator, what_is_due_at_once_runs_in_every_order) {
  std::set<std::vector<int>> orders;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Simulator sim(seed);
    std::vector<int> order;
    for (int i = 0; i < 3; ++i) {
      sim.add_node().spawn([&order, i]() -> Task<void> {
        order.push_back(i);
        co_return;
      });
    }
    EXPECT_TRUE(sim.run_until_idle());
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 6U);
}

TEST(Simulator, scheduled_faults_come_at_their_time) {
  Simulator sim(1);
  Node& node = sim.add_node();
  node.spawn([]() -> Task<void> { co_await sleep_for(1h); });
  sim.schedule(5ms, [&] { node.kill(); });
  sim.schedule(7ms, [&] { node.restart(); });
  EXPECT_TRUE(sim.run_until([&] { return !node.up(); }));
  EXPECT_EQ(sim.now(), Instant{} + 5ms);
  EXPECT_TRUE(sim.run_until([&] { return node.up(); }));
  EXPECT_EQ(node.incarnation(), 2U);
  EXPECT_TRUE(sim.run_until_idle(1s));  // nothing of the first incarnation is left
}

TEST(Simulator, a_run_that_cannot_finish_says_so) {
  Simulator sim(1);
  Node& node = sim.add_node();
  EXPECT_FALSE(node.try_run([]() -> Task<void> { co_await sleep_for(1h); }, 0, 1min));
  sim.schedule(1ms, [&] { node.kill(); });
  EXPECT_FALSE(node.try_run([]() -> Task<int> {
    co_await sleep_for(1h);
    co_return 1;
  }));
}

}  // namespace
}  // namespace pyralog::io::sim
