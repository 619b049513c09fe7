#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "cluster/cluster.h"
#include "io/sim/simulator.h"

namespace pyralog::cluster::testing {

/// One simulated machine on which a node's membership is opened, used and let go.
class ClusterTest : public ::testing::Test {
 protected:
  explicit ClusterTest(std::uint64_t seed = 1) : sim_(seed) {
    sim_.add_node();
    options_.data_dir = "/data";
  }
  io::sim::Node& node() { return sim_.node(0); }
  io::sim::SimDisk& disk() { return node().disk(); }

  using Body = std::function<io::Task<void>(Cluster&)>;
  /// One life: opens, runs `body`, lets go. The message of the refusal, "" if it opened, "crashed"
  /// if the machine went down.
  std::string life(Body body = {}) {
    const auto told = node().try_run([&, this]() -> io::Task<std::string> {
      io::Shard& shard = io::Shard::current();
      auto opened = co_await Cluster::open(shard.disk(), shard.rng(), options_);
      if (!opened) co_return opened.error().message;
      if (body) co_await body(**opened);
      co_return "";
    });
    return told.value_or("crashed");
  }
  void restart(bool power = false) {
    power ? node().lose_power() : node().kill();
    node().restart();
  }
  void write(const std::string& path, Bytes bytes) {
    EXPECT_TRUE(node().run([&]() -> io::Task<bool> {
      io::Disk& disk = io::Shard::current().disk();
      EXPECT_TRUE(co_await disk.make_dirs(io::parent_dir(path)));
      EXPECT_TRUE(co_await io::replace_file(disk, path, bytes));
      co_return true;
    }));
  }
  void remove(const std::string& path) {
    EXPECT_TRUE(node().run([&]() -> io::Task<bool> {
      co_return (co_await io::Shard::current().disk().remove(path)).has_value();
    }));
  }
  Bytes bytes_of(const std::string& path) { return disk().peek(path).value(); }

 public:
  static catalog::TopicCreated topic(const std::string& name, std::size_t partitions = 1) {
    catalog::TopicCreated made;
    const std::size_t h = std::hash<std::string>{}(name);
    for (std::size_t i = 0; i < 8; ++i) {
      made.id.uuid.bytes[i] = static_cast<std::uint8_t>(h >> (8 * i));
    }
    made.id.uuid.bytes[15] = 1;
    made.name = name;
    made.partitions.assign(partitions, {NodeId(1)});
    return made;
  }

 protected:
  static io::Task<Result<CatalogPtr>> create(Cluster& cluster, std::string name,
                                             std::size_t partitions = 1) {
    co_return co_await cluster.metadata().propose(
        [&](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
          if (state.topic(name) != nullptr) return fail(Code::kAlreadyExists, name);
          return Cluster::with_first_epochs(topic(name, partitions), state);
        });
  }

  io::sim::Simulator sim_;
  Cluster::Options options_;
};

}  // namespace pyralog::cluster::testing
