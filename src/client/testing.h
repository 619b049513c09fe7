#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "client/fake_broker.h"
#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"

namespace pyralog::client::testing {

/// A fake broker on one simulated machine, a client on another.
class ClientTest : public ::testing::Test {
 protected:
  explicit ClientTest(std::uint64_t seed = 1) : sim_(seed), broker_("10.0.0.1", 9092) {
    sim_.add_node();
    sim_.add_node();
    broker_.add_topic("t", 3);
    sim_.node(0).spawn([this]() -> io::Task<void> { co_await broker_.serve(); });
  }
  ~ClientTest() override {
    sim_.node(0).run([this]() -> io::Task<int> {
      broker_.stop();
      co_return 0;
    });
    sim_.run_for(1s);
  }
  /// Runs `body` on the client's machine with an open cluster.
  void with_cluster(std::function<io::Task<void>(Cluster&)> body) {
    const int done = sim_.node(1).run([&]() -> io::Task<int> {
      ClusterOptions options;
      options.bootstrap = {{"10.0.0.1", 9092}};
      options.request_timeout = 5s;
      Cluster cluster(options);
      co_await body(cluster);
      co_await cluster.close();
      co_return 1;
    });
    EXPECT_EQ(done, 1);
  }
  static std::vector<std::string> numbers(int count) {
    std::vector<std::string> made;
    for (int i = 0; i < count; ++i) made.push_back(std::to_string(i));
    return made;
  }
  static Instant in(Duration time) { return io::Shard::current().now() + time; }

  io::sim::Simulator sim_;
  FakeBroker broker_;
};

}  // namespace pyralog::client::testing
