// Whole nodes on simulated machines that form a cluster.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"
#include "server/node.h"

namespace pyralog::server {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;

class NodeClusterTest : public ::testing::Test {
 protected:
  NodeClusterTest() : sim_(11) {
    secret_ = ::testing::TempDir() + "pyralog_cluster_secret_" + std::to_string(::getpid());
    std::ofstream(secret_) << "a secret that all the nodes share\n";
    EXPECT_EQ(::chmod(secret_.c_str(), 0600), 0);
    for (int i = 1; i <= 3; ++i) {
      sim_.add_node({.name = "n" + std::to_string(i), .shards = 1});
      ones_.push_back(std::make_unique<One>());
    }
  }
  ~NodeClusterTest() override {
    for (int i = 1; i <= 3; ++i) stop(i);
    std::remove(secret_.c_str());
  }

  struct One {
    Node* node = nullptr;
    bool starting = false;
    bool ready = false;
    bool stop = false;
    std::string refused;
    io::WaitList changed;
  };
  One& at(int i) { return *ones_[static_cast<std::size_t>(i - 1)]; }
  io::sim::Node& machine(int i) { return sim_.node(static_cast<std::size_t>(i - 1)); }

  ServerOptions options(int i) const {
    const std::string host = "n" + std::to_string(i);
    ServerOptions out;
    out.machine = {std::uint64_t{16} << 30, 1};
    out.shards = 1;
    out.data_dir = "/data";
    out.kafka_listener = host + ":0";
    out.http_listener = host + ":9094";
    out.allow_insecure = true;
    out.node_id = i;
    out.rack = "rack " + std::to_string(i);
    out.members = "1@n1:9093,2@n2:9093,3@n3:9093";
    out.secret_file = secret_;
    return out;
  }
  void start(int i, ServerOptions options) {
    One& one = at(i);
    one.starting = true;
    one.ready = one.stop = false;
    one.refused.clear();
    machine(i).spawn([this, &one, i, options]() -> io::Task<void> {
      Node node(machine(i).shards(), options);
      one.node = &node;
      const auto started = co_await node.start();
      if (!started) one.refused = started.error().message;
      one.ready = started.has_value();
      while (one.ready && !one.stop) co_await one.changed.wait(Instant::never());
      one.ready = false;
      EXPECT_TRUE(co_await node.stop());
      one.node = nullptr;
      one.starting = false;
    });
  }
  void start(int i) { start(i, options(i)); }
  void stop(int i) {
    One& one = at(i);
    if (!one.starting) return;
    machine(i).run([&one]() -> io::Task<void> {
      one.stop = true;
      if (one.node != nullptr) one.node->give_up_start();
      one.changed.wake_all();
      co_return;
    });
    EXPECT_TRUE(sim_.run_until([&one] { return !one.starting; }, 2min)) << "node " << i;
  }
  void kill(int i) {
    machine(i).kill();
    at(i).starting = at(i).ready = false;
    at(i).node = nullptr;
  }
  bool ready(std::initializer_list<int> nodes) {
    return sim_.run_until(
        [&] { return std::ranges::all_of(nodes, [&](int i) { return at(i).ready; }); }, 1min);
  }
  ClusterView view(int i) {
    ClusterView out;
    machine(i).run([&]() -> io::Task<void> {
      out = view_of(at(i).node->cluster());
      co_return;
    });
    return out;
  }
  bool sees(int i, std::size_t reachable, bool controller) {
    return sim_.run_until(
        [&] {
          if (at(i).node == nullptr) return false;
          const ClusterView seen = view(i);
          return seen.reachable() == reachable && seen.controller.has_value() == controller;
        },
        10s);
  }
  std::string get(int i, const std::string& path) {
    std::string answer;
    const io::Address address{"n" + std::to_string(i), 9094};
    machine(i).run([&]() -> io::Task<void> {
      const Instant deadline = io::Shard::current().now() + 20s;
      auto stream = co_await io::Shard::current().net().connect(address, deadline);
      EXPECT_TRUE(stream);
      if (!stream) co_return;
      const std::string text = "GET " + path + " HTTP/1.1\r\nConnection: close\r\n\r\n";
      std::vector<io::Piece> pieces;
      pieces.emplace_back(SharedBytes::copy(as_bytes(text)));
      EXPECT_TRUE(co_await (*stream)->write(std::move(pieces), deadline));
      Bytes room(1 << 16);
      for (;;) {
        const auto got = co_await (*stream)->read_some(room, deadline);
        if (!got || *got == 0) break;
        answer += as_text(ByteView(room).first(*got));
      }
    });
    return answer;
  }

  std::string secret_;
  std::vector<std::unique_ptr<One>> ones_;
  io::sim::Simulator sim_;
};

TEST_F(NodeClusterTest, three_nodes_are_one_cluster_and_know_it) {
  for (int i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(ready({1, 2, 3})) << at(1).refused << at(2).refused << at(3).refused;
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(sees(i, 3, true)) << i;
    const ClusterView seen = view(i);
    EXPECT_EQ(seen.name, view(1).name);
    EXPECT_EQ(seen.self, NodeId(i));
    EXPECT_EQ(seen.controller, view(1).controller);
    ASSERT_EQ(seen.nodes.size(), 3u);
    for (int k = 1; k <= 3; ++k) {
      const NodeView& node = seen.nodes[static_cast<std::size_t>(k - 1)];
      const std::string host = "n" + std::to_string(k);
      EXPECT_EQ(node.id, NodeId(k));
      EXPECT_EQ(node.peer, host + ":9093");
      EXPECT_EQ(node.kafka, io::to_string(*at(k).node->kafka()))
          << "the port that was really taken";
      EXPECT_EQ(node.rack, "rack " + std::to_string(k));
      EXPECT_TRUE(node.voter);
    }
    EXPECT_THAT(get(i, "/health"), HasSubstr(R"("status":"ok")"));
    EXPECT_THAT(get(i, "/metrics"), AllOf(HasSubstr("pyralog_cluster_nodes 3\n"),
                                          HasSubstr("pyralog_cluster_nodes_reachable 3\n"),
                                          HasSubstr("pyralog_cluster_has_controller 1\n")));
  }
}

TEST_F(NodeClusterTest, a_start_waits_for_a_majority_says_so_and_can_be_ended) {
  start(1);
  sim_.run_for(3s);
  EXPECT_FALSE(at(1).ready);
  EXPECT_THAT(get(1, "/health"),
              AllOf(HasSubstr(R"("status":"starting")"),
                    HasSubstr(R"("waits_for":"agreement of a majority)"), HasSubstr("2@n2:9093")));
  EXPECT_THAT(get(1, "/ready"), HasSubstr("503"));
  EXPECT_THAT(get(1, "/live"), HasSubstr("200"));
  stop(1);
  EXPECT_THAT(at(1).refused, HasSubstr("ended"));
  start(1);
  start(2);
  sim_.run_for(3s);
  EXPECT_FALSE(at(1).ready || at(2).ready) << "the first start is one of all";
  start(3);
  EXPECT_TRUE(ready({1, 2, 3})) << at(1).refused << at(2).refused << at(3).refused;
  for (int i = 1; i <= 3; ++i) stop(i);
  start(1);
  start(2);
  EXPECT_TRUE(ready({1, 2})) << at(1).refused << at(2).refused;
}

TEST_F(NodeClusterTest, those_that_are_left_tell_of_one_that_has_gone) {
  for (int i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(ready({1, 2, 3}));
  ASSERT_TRUE(sees(1, 3, true) && sees(2, 3, true));
  kill(3);
  ASSERT_TRUE(sees(1, 2, true) && sees(2, 2, true));
  EXPECT_THAT(get(1, "/health"),
              AllOf(HasSubstr(" 200 "), HasSubstr(R"("kind":"node_unreachable")"),
                    HasSubstr(R"("subject":"node 3")"), HasSubstr(R"("status":"warning")")));
  kill(2);
  ASSERT_TRUE(sees(1, 1, false));
  EXPECT_THAT(get(1, "/health"), AllOf(HasSubstr(" 503 "), HasSubstr(R"("kind":"no_controller")")));
  machine(2).restart();
  start(2);
  EXPECT_TRUE(ready({2})) << at(2).refused;
  EXPECT_TRUE(sees(1, 2, true));
}

TEST_F(NodeClusterTest,
       a_node_of_a_cluster_comes_back_without_the_list_and_not_without_the_secret) {
  for (int i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(ready({1, 2, 3}));
  stop(3);
  ServerOptions alone = options(3);
  alone.members.clear();
  alone.secret_file.clear();
  start(3, alone);
  ASSERT_TRUE(sim_.run_until([&] { return !at(3).starting; }, 10s));
  EXPECT_THAT(at(3).refused, AllOf(HasSubstr("/data"), HasSubstr("--cluster-secret-file")));
  alone.secret_file = secret_;
  alone.peer_listener = "n3:9999";
  start(3, alone);
  ASSERT_TRUE(ready({3})) << at(3).refused;
  EXPECT_TRUE(sees(1, 3, true)) << "the others find it where it is now";
  EXPECT_EQ(view(1).nodes[2].peer, "n3:9999");
}

TEST_F(NodeClusterTest, a_secret_makes_no_cluster_of_a_lone_node) {
  ServerOptions lone = options(1);
  lone.members.clear();
  lone.peer_listener = "n1:9093";
  start(1, lone);
  ASSERT_TRUE(sim_.run_until([&] { return !at(1).starting; }, 10s));
  EXPECT_THAT(at(1).refused, AllOf(HasSubstr("/data"), HasSubstr("--cluster")));
}

TEST_F(NodeClusterTest, defaults_of_all_nodes_are_set_though_all_start_at_once) {
  for (int i = 1; i <= 3; ++i) {
    ServerOptions with = options(i);
    with.cluster_defaults = {{"log.retention.ms", "60000"}};
    start(i, with);
  }
  ASSERT_TRUE(ready({1, 2, 3})) << at(1).refused << at(2).refused << at(3).refused;
  for (int i = 1; i <= 3; ++i) {
    EXPECT_TRUE(sim_.run_until(
        [&] {
          const auto& set = at(i).node->cluster().catalog()->cluster_settings();
          return set.contains("log.retention.ms");
        },
        10s));
  }
}

TEST_F(NodeClusterTest, who_has_left_can_be_reached_no_more) {
  for (int i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(ready({1, 2, 3}));
  stop(2);
  EXPECT_TRUE(sees(1, 2, true));
  EXPECT_TRUE(sees(3, 2, true));
}

}  // namespace
}  // namespace pyralog::server
