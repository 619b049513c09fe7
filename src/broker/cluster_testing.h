#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/testing.h"
#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"

namespace pyralog::broker::testing {

using namespace std::chrono_literals;

/// Three machines, two shards each, whose nodes form one cluster.
class ClusterOfBrokersTest : public ::testing::Test {
 protected:
  static constexpr std::int32_t kNodes = 3;
  explicit ClusterOfBrokersTest(std::uint64_t seed = 1, std::int32_t machines = kNodes)
      : sim_(seed), machines_(machines) {
    for (std::int32_t i = 1; i <= machines_; ++i) {
      sim_.add_node({.name = name_of(i), .shards = 2});
      nodes_.push_back(std::make_unique<One>());
      if (i <= kNodes) members_.push_back({NodeId(i), {name_of(i), 9093}});
    }
    options_.data_dir = "/data";
    options_.offsets_partitions = 3;
    options_.groups.initial_rebalance_delay_ms = 0;
  }
  ~ClusterOfBrokersTest() override {
    for (std::int32_t i = 1; i <= machines_; ++i) {
      if (machine(i).up()) machine(i).kill();
    }
  }

  struct One {
    cluster::Cluster* cluster = nullptr;
    Broker* broker = nullptr;
    std::string refused;
    io::WaitList* stop = nullptr;
    bool stopping = false;
  };
  static std::string name_of(std::int32_t i) { return "n" + std::to_string(i); }
  static std::string rack_of(std::int32_t i) { return "r" + std::to_string(i); }
  One& at(std::int32_t i) { return *nodes_[static_cast<std::size_t>(i - 1)]; }
  io::sim::Node& machine(std::int32_t i) { return sim_.node(static_cast<std::size_t>(i - 1)); }

  void start(std::int32_t i) { start(i, options_of(i)); }
  void start(std::int32_t i, const cluster::Cluster::Options& options) {
    machine(i).spawn([this, i, options] { return life(i, options); });
  }
  cluster::Cluster::Options options_of(std::int32_t i) {
    cluster::Cluster::Options options;
    options.data_dir = "/data";
    options.node = NodeId(i);
    options.host = name_of(i);
    if (in_racks_) options.rack = rack_of(i);
    options.join.members = members_;
    options.join.secret = Bytes(32, 7);
    options.join.secret_name = "the secret";
    options.join.shards = machine(i).shards();
    return options;
  }
  void start_all() {
    for (std::int32_t i = 1; i <= kNodes; ++i) start(i);
    ASSERT_TRUE(up({1, 2, 3})) << at(1).refused << at(2).refused << at(3).refused;
  }
  bool up(std::initializer_list<std::int32_t> nodes, Duration limit = 20s) {
    return sim_.run_until(
        [&] { return std::ranges::all_of(nodes, [&](auto i) { return at(i).broker != nullptr; }); },
        limit);
  }
  void kill(std::int32_t i, bool power = false) {
    power ? machine(i).lose_power() : machine(i).kill();
    machine(i).restart();
    at(i).cluster = nullptr;
    at(i).broker = nullptr;
  }
  void stop(std::int32_t i) {
    at(i).stopping = true;
    machine(i).spawn([this, i]() -> io::Task<void> {
      at(i).stop->wake_all();
      co_return;
    });
    ASSERT_TRUE(sim_.run_until([&] { return at(i).broker == nullptr; }, 20s));
    at(i).stopping = false;
  }
  template <typename F>
  auto run(std::int32_t i, F make) {
    auto told = machine(i).try_run(std::move(make));
    PYRALOG_ASSERT(told);
    return std::move(*told);
  }

  KafkaError create(std::int32_t i, std::string name, std::int32_t partitions = 1,
                    catalog::SettingChanges settings = {}, std::int16_t replicas = 3) {
    return run(i, [=, this]() -> io::Task<KafkaError> {
      catalog::CreateTopic topic;
      topic.name = name;
      topic.partitions = partitions;
      topic.replication_factor = replicas;
      topic.settings = settings;
      co_return (co_await at(i).broker->create_topic(std::move(topic), false)).error;
    });
  }
  /// Who leads, as a node sees it; 0 = nobody.
  std::int32_t leader(std::int32_t i, const std::string& topic, std::int32_t partition = 0) {
    if (at(i).broker == nullptr) return 0;
    return run(i, [=, this]() -> io::Task<std::int32_t> {
      const auto found = at(i).broker->catalog()->topic(topic);
      if (found == nullptr) co_return 0;
      const auto roles =
          at(i).broker->roles(*found, *found->partitions[static_cast<std::size_t>(partition)]);
      co_return roles.leader ? roles.leader->value : 0;
    });
  }
  ProduceOutcome produce(std::int32_t i, const std::string& topic, Bytes batch,
                         Acks acks = Acks::kAll) {
    return run(i, [&, this]() -> io::Task<ProduceOutcome> {
      auto owner = std::make_shared<Bytes>(std::move(batch));
      std::vector<ProduceItem> items;
      items.push_back({{topic, 0}, owner, MutableBytes(*owner)});
      auto out = co_await at(i).broker->produce(std::move(items), acks, 10s);
      co_return std::move(out.front());
    });
  }
  /// Writes to whoever leads, as clients do: asks anew until it is taken.
  bool write(const std::string& topic, const std::string& value, Duration limit = 10s) {
    const Instant end = sim_.now() + limit;
    while (sim_.now() < end) {
      for (std::int32_t i = 1; i <= machines_; ++i) {
        if (at(i).broker == nullptr || leader(i, topic) != i) continue;
        if (produce(i, topic, batch_of({value})).error == KafkaError::kNone) return true;
      }
      sim_.run_for(20ms);
    }
    return false;
  }
  FetchOutcome fetch(std::int32_t i, const std::string& topic, std::int64_t offset = 0) {
    return run(i, [&, this]() -> io::Task<FetchOutcome> {
      std::vector<FetchItem> wanted(1);
      wanted[0].target = {topic, 0};
      wanted[0].offset = offset;
      wanted[0].max_bytes = 1 << 20;
      auto out = co_await at(i).broker->fetch(std::move(wanted), {1, 50u << 20, Instant{}});
      co_return std::move(out.front());
    });
  }
  /// As a client that stands in `rack` reads.
  FetchOutcome fetch_near(std::int32_t i, const std::string& rack, std::int64_t offset,
                          Duration wait = {}, std::int32_t epoch = -1) {
    return run(i, [&, this]() -> io::Task<FetchOutcome> {
      std::vector<FetchItem> wanted(1);
      wanted[0].target = {"t", 0};
      wanted[0].offset = offset;
      wanted[0].leader_epoch = epoch;
      wanted[0].max_bytes = 1 << 20;
      FetchBounds bounds{.min_bytes = 1, .deadline = io::Shard::current().now() + wait};
      bounds.rack = rack;
      auto out = co_await at(i).broker->fetch(std::move(wanted), std::move(bounds));
      co_return std::move(out.front());
    });
  }
  std::vector<std::string> values_in(std::int32_t i, FetchOutcome& out) {
    return run(i, [&]() -> io::Task<std::vector<std::string>> {
      co_return values_of(co_await bytes_of(std::move(out.records)));
    });
  }
  /// What a node's replica of partition 0 has; log_end −1 = it has none.
  io::Task<PartitionStatus> status_of(std::int32_t i, std::string topic) {
    for (PartitionStatus& each : co_await at(i).broker->status()) {
      if (each.name == topic + "-0") co_return std::move(each);
    }
    PartitionStatus none;
    none.log_end = -1;
    co_return none;
  }
  PartitionStatus status(std::int32_t i, const std::string& topic) {
    return run(
        i, [&, this]() -> io::Task<PartitionStatus> { co_return co_await status_of(i, topic); });
  }
  /// Waits until a majority leads, then whoever it is; 0 = nobody in time.
  std::int32_t wait_leader(const std::string& topic, Duration limit = 10s) {
    std::int32_t found = 0;
    (void)sim_.run_until(
        [&] {
          for (std::int32_t i = 1; i <= machines_ && found == 0; ++i) {
            if (leads(i, topic)) found = i;
          }
          return found != 0;
        },
        limit);
    return found;
  }
  /// Whether its own replica says so.
  bool leads(std::int32_t i, const std::string& topic) {
    if (at(i).broker == nullptr) return false;
    const auto found = at(i).cluster->catalog()->topic(topic);
    if (found == nullptr) return false;
    const auto& current = found->partitions[0]->current;
    return current && current->leader == NodeId(i) &&
           found->partitions[0]->highest_proposed == current->epoch;
  }
  /// Waits until all replicas end at the same offset and know that it is committed.
  bool even(const std::string& topic, Duration limit = 20s) {
    const Instant end = sim_.now() + limit;
    while (sim_.now() < end) {
      std::set<std::pair<std::int64_t, std::int64_t>> ends;
      for (std::int32_t i = 1; i <= machines_; ++i) {
        if (at(i).broker == nullptr) continue;
        const PartitionStatus one = status(i, topic);
        ends.insert({one.log_end, one.high_watermark});
      }
      if (ends.size() == 1 && ends.begin()->first == ends.begin()->second) return true;
      sim_.run_for(50ms);
    }
    return false;
  }
  // Of group offsets, at whoever coordinates.
  KafkaError commit(std::string group, std::int64_t offset, Duration limit = 10s) {
    const Instant end = sim_.now() + limit;
    KafkaError last = KafkaError::kCoordinatorNotAvailable;
    for (; sim_.now() < end; sim_.run_for(20ms)) {
      for (std::int32_t i = 1; i <= machines_; ++i) {
        if (at(i).broker == nullptr) continue;
        last = run(i, [&, this]() -> io::Task<KafkaError> {
          group::CommitRequest request;
          request.group = group;
          request.generation = -1;
          request.partitions.push_back({"t", 0, offset, -1, ""});
          const auto answer = co_await at(i).broker->with_group(
              group, [&](GroupHost& host) -> io::Task<group::Response> {
                co_return co_await host.ask(group::Input(request));
              });
          if (!answer) co_return answer.error();
          co_return std::get<group::CommitResponse>(*answer).partitions.front().error;
        });
        if (last == KafkaError::kNone) return last;
      }
    }
    return last;
  }
  std::int64_t committed(std::string group, Duration limit = 10s) {
    const Instant end = sim_.now() + limit;
    for (; sim_.now() < end; sim_.run_for(20ms)) {
      for (std::int32_t i = 1; i <= machines_; ++i) {
        if (at(i).broker == nullptr) continue;
        const auto answer =
            run(i, [&, this]() -> io::Task<std::expected<group::FetchOffsetsResponse, KafkaError>> {
              group::FetchOffsetsRequest request;
              request.group = group;
              request.topics.emplace();
              request.topics->push_back({"t", {0}});
              co_return co_await at(i).broker->with_group(
                  group, [&](GroupHost& host) -> io::Task<group::FetchOffsetsResponse> {
                    co_return host.table().fetch_offsets(request);
                  });
            });
        if (answer && answer->error == KafkaError::kNone) return answer->partitions.front().offset;
      }
    }
    return -2;
  }
  /// All that the leader shows, from where its log begins; whoever leads by then.
  std::vector<std::string> read(const std::string& topic) {
    const Instant end = sim_.now() + 20s;
    for (; sim_.now() < end; sim_.run_for(20ms)) {
      for (std::int32_t i = 1; i <= machines_; ++i) {
        if (at(i).broker == nullptr || leader(i, topic) != i) continue;
        if (auto all = read_from(i, topic)) return std::move(*all);
      }
    }
    return {"nobody leads"};
  }
  std::optional<std::vector<std::string>> read_from(std::int32_t i, const std::string& topic) {
    return run(i, [&, this]() -> io::Task<std::optional<std::vector<std::string>>> {
      std::vector<std::string> all;
      std::vector<FetchItem> wanted(1);
      wanted[0].target = {topic, 0};
      wanted[0].max_bytes = 1 << 20;
      wanted[0].offset = (co_await status_of(i, topic)).log_start;
      while (true) {
        auto out = co_await at(i).broker->fetch(wanted, {1, 50u << 20, Instant{}});
        if (out.front().error != KafkaError::kNone) co_return std::nullopt;
        if (out.front().bytes == 0) co_return all;
        wanted[0].offset += out.front().offsets;
        std::ranges::move(values_of(co_await bytes_of(std::move(out.front().records))),
                          std::back_inserter(all));
      }
    });
  }

  io::sim::Simulator sim_;
  std::int32_t machines_;
  Options options_;
  std::vector<cluster::Member> members_;
  std::vector<std::unique_ptr<One>> nodes_;
  bool in_racks_ = false;  ///< each node in a rack of its own
  /// Serves clients until the node is to stop, and drains the broker then.
  std::function<io::Task<void>(std::int32_t, Broker&)> door_;

 private:
  io::Task<void> life(std::int32_t i, cluster::Cluster::Options options) {
    One& one = at(i);
    one.refused.clear();
    io::Shard& shard = io::Shard::current();
    auto cluster = co_await cluster::Cluster::open(shard.disk(), shard.rng(), options);
    if (!cluster) {
      one.refused = cluster.error().message;
      co_return;
    }
    Options own = options_;
    own.data_dir = options.data_dir;
    Broker broker(machine(i).shards(), own);
    io::WaitList stop;
    if (auto started = co_await broker.start(**cluster); !started) {
      one.refused = started.error().message;
      static_cast<void>(co_await broker.stop());
      co_await (*cluster)->stop();
      co_return;
    }
    one.cluster = cluster->get();
    one.stop = &stop;
    one.broker = &broker;
    if (door_) {
      co_await door_(i, broker);
    } else {
      while (!one.stopping) co_await stop.wait(Instant::never());
      co_await broker.drain();
    }
    const auto stopped = co_await broker.stop();
    EXPECT_TRUE(stopped) << stopped.error().message;
    co_await (*cluster)->stop();
    one.broker = nullptr;
    one.cluster = nullptr;
  }
};

}  // namespace pyralog::broker::testing
