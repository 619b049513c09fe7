#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/cluster.h"
#include "cluster/testing.h"
#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"

namespace pyralog::cluster::testing {

using namespace std::chrono_literals;

/// Machines whose nodes are parts of one cluster, as their command lines say.
class NodesTest : public ::testing::Test {
 protected:
  static constexpr std::int32_t kMachines = 5;
  explicit NodesTest(std::uint64_t seed = 1) : sim_(seed) {
    for (std::int32_t i = 1; i <= kMachines; ++i) {
      sim_.add_node({.name = "n" + std::to_string(i), .shards = 2});
      nodes_.push_back(std::make_unique<One>());
      if (i <= 3) members_.push_back({NodeId(i), address(i)});
    }
  }

  struct One {
    Cluster* cluster = nullptr;
    std::string refused;
    bool give_up = false;
    std::vector<std::string> topics;  ///< as its observer has seen them last
  };
  static io::Address address(std::int32_t i) { return {"n" + std::to_string(i), 9093}; }

  One& at(std::int32_t i) { return *nodes_[static_cast<std::size_t>(i - 1)]; }
  io::sim::Node& machine(std::int32_t i) { return sim_.node(static_cast<std::size_t>(i - 1)); }

  Cluster::Options options(std::int32_t i) {
    Cluster::Options out;
    out.data_dir = "/data";
    out.node = NodeId(i);
    out.host = "n" + std::to_string(i);
    out.join.members = members_;
    out.join.secret = Bytes(32, 7);
    out.join.secret_name = "the secret";
    out.join.shards = machine(i).shards();
    out.give_up = [this, i] { return at(i).give_up; };
    return out;
  }

  /// Starts a node; it lives until its machine goes down.
  void start(std::int32_t i, Cluster::Options options) {
    One& one = at(i);
    one.refused.clear();
    machine(i).spawn([&one, options]() -> io::Task<void> {
      io::Shard& shard = io::Shard::current();
      auto opened = co_await Cluster::open(shard.disk(), shard.rng(), options);
      if (!opened) {
        one.refused = opened.error().message;
        co_return;
      }
      const auto owned = std::move(*opened);
      const std::unique_ptr<One, void (*)(One*)> known(&one,
                                                       [](One* gone) { gone->cluster = nullptr; });
      one.cluster = owned.get();
      co_await owned->metadata().on_change([&one](CatalogPtr state) -> io::Task<void> {
        one.topics.clear();
        for (const auto& topic : state->topics()) one.topics.push_back(topic->name);
        co_return;
      });
      io::WaitList forever;
      co_await forever.wait(Instant::never());
    });
  }
  void start(std::int32_t i) { start(i, options(i)); }
  void stop(std::int32_t i, bool power = false) {
    power ? machine(i).lose_power() : machine(i).kill();
    machine(i).restart();
  }
  bool up(std::initializer_list<std::int32_t> nodes, Duration limit = 20s) {
    return sim_.run_until(
        [&] {
          return std::ranges::all_of(nodes, [&](auto i) { return at(i).cluster != nullptr; });
        },
        limit);
  }
  bool refuses(std::int32_t i, Duration limit = 20s) {
    return sim_.run_until([&] { return !at(i).refused.empty(); }, limit);
  }
  std::optional<Error> create(std::int32_t i, const std::string& name) {
    const auto made = machine(i).try_run([this, i, name]() -> io::Task<Result<CatalogPtr>> {
      co_return co_await at(i).cluster->metadata().propose(
          [name](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
            catalog::TopicCreated topic = ClusterTest::topic(name, 2);
            topic.partitions = {{NodeId(1), NodeId(2), NodeId(3)},
                                {NodeId(2), NodeId(3), NodeId(1)}};
            return Cluster::with_first_epochs(topic, state);
          });
    });
    PYRALOG_ASSERT(made);
    if (!*made) return made->error();
    return std::nullopt;
  }
  bool see(std::initializer_list<std::int32_t> nodes, const std::string& topic) {
    return sim_.run_until(
        [&] {
          return std::ranges::all_of(nodes, [&](auto i) {
            return std::ranges::find(at(i).topics, topic) != at(i).topics.end();
          });
        },
        20s);
  }

  std::vector<Member> members_;
  std::vector<std::unique_ptr<One>> nodes_;
  io::sim::Simulator sim_;
};

}  // namespace pyralog::cluster::testing
