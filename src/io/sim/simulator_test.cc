#include "io/sim/simulator.h"

#include <gtest/gtest.h>

#include "io/sim/sim_net.h"

namespace pyralog::io::sim {
namespace {

Bytes bytes_of(std::string_view text) {
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

TEST(Simulator, runs_timers_in_order_of_virtual_time) {
  Simulator sim(1);
  Node& node = sim.add_node();
  std::vector<int> order;
  for (const int ms : {30, 10, 20}) {
    node.spawn([&order, ms]() -> Task<void> {
      co_await sleep_for(std::chrono::milliseconds(ms));
      order.push_back(ms);
    });
  }
  EXPECT_TRUE(sim.run_until_idle());
  EXPECT_EQ(order, (std::vector<int>{10, 20, 30}));
  EXPECT_GE(sim.now().ns, 30'000'000);
}

TEST(Simulator, a_process_kill_keeps_what_was_written) {
  Simulator sim(2);
  Node& node = sim.add_node();
  node.run([]() -> Task<void> {
    auto file = (co_await Shard::current().disk().open("/a", OpenMode::kCreate)).value();
    file->write_at(0, as_bytes("hello")).value();
  });
  node.kill();
  node.restart();
  EXPECT_EQ(node.disk().peek("/a").value(), bytes_of("hello"));
}

}  // namespace
}  // namespace pyralog::io::sim
