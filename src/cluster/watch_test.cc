// Nodes of a cluster, of which some fail: who is proposed to lead instead, and how soon.
#include "cluster/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "cluster/cluster.h"
#include "cluster/testing.h"
#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"

namespace pyralog::cluster {
namespace {

using namespace std::chrono_literals;

class WatchTest : public ::testing::Test {
 protected:
  explicit WatchTest(std::uint64_t seed = 1) : sim_(seed) {
    for (std::int32_t i = 1; i <= 3; ++i) {
      sim_.add_node({.name = "n" + std::to_string(i), .shards = 2});
      nodes_.push_back(std::make_unique<One>());
      members_.push_back({NodeId(i), {"n" + std::to_string(i), 9093}});
    }
  }
  struct One {
    Cluster* cluster = nullptr;
    std::string refused;
  };
  One& at(std::int32_t i) { return *nodes_[static_cast<std::size_t>(i - 1)]; }
  io::sim::Node& machine(std::int32_t i) { return sim_.node(static_cast<std::size_t>(i - 1)); }
  Watch& watch(std::int32_t i) { return at(i).cluster->joined()->watch(); }

  /// Starts a node; it activates what it is the candidate of, if `leads`.
  void start(std::int32_t i, bool leads = true) {
    Cluster::Options options;
    options.data_dir = "/data";
    options.node = NodeId(i);
    options.host = "n" + std::to_string(i);
    options.join.members = members_;
    options.join.secret = Bytes(32, 7);
    options.join.secret_name = "the secret";
    options.join.shards = machine(i).shards();
    options.join.watch.steward.balance_after = balance_after_;
    One& one = at(i);
    one.refused.clear();
    machine(i).spawn([&one, options, leads]() -> io::Task<void> {
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
      if (leads) (void)co_await come_back(*owned);
      while (true) {
        co_await io::sleep_for(10ms);
        if (leads) (void)co_await activate(*owned);
      }
    });
  }
  /// What a replica will do once it has sealed the epoch before.
  static io::Task<Result<void>> activate(Cluster& cluster) {
    const NodeId self = cluster.node();
    const auto plan = [self](const catalog::Catalog& state) {
      catalog::EpochsActivated all;
      for (const auto& topic : state.topics()) {
        for (const auto& p : topic->partitions) {
          if (p->candidate != self || p->highest_proposed <= p->current->epoch) continue;
          catalog::EpochActivation a;
          a.partition = {topic->id, p->index};
          a.epoch = p->highest_proposed;
          a.leader = self;
          a.replicas = p->current->replicas;
          a.write_quorum = p->current->write_quorum;
          all.activations.push_back(a);
        }
      }
      std::vector<catalog::Entry> entries;
      if (!all.activations.empty()) entries.emplace_back(std::move(all));
      return Result<std::vector<catalog::Entry>>(std::move(entries));
    };
    const auto wanted = plan(*cluster.catalog());
    if (!wanted || wanted->empty()) co_return Result<void>{};
    PYRALOG_CO_TRY(co_await cluster.metadata().propose(plan));
    co_return Result<void>{};
  }

  /// What a node that has started does about the partitions that it has led.
  static io::Task<Result<void>> come_back(Cluster& cluster) {
    const NodeId self = cluster.node();
    const auto plan = [self](const catalog::Catalog& state) {
      std::vector<catalog::Entry> entries;
      for (const auto& topic : state.topics()) {
        for (const auto& p : topic->partitions) {
          if (p->current->leader != self || p->highest_proposed > p->current->epoch) continue;
          entries.emplace_back(catalog::EpochProposed{
              {topic->id, p->index}, Epoch(p->highest_proposed.value + 1), self});
        }
      }
      return Result<std::vector<catalog::Entry>>(std::move(entries));
    };
    PYRALOG_CO_TRY(co_await cluster.metadata().propose(plan));
    co_return Result<void>{};
  }

  bool up(std::initializer_list<std::int32_t> nodes, Duration limit = 20s) {
    return sim_.run_until(
        [&] {
          return std::ranges::all_of(nodes, [&](auto i) { return at(i).cluster != nullptr; });
        },
        limit);
  }
  /// Three nodes, one topic of a partition for each to lead, and some time in which nothing
  /// happens. Its first two partitions are led by who does not lead the metadata.
  void form(bool leads = true) {
    for (std::int32_t i = 1; i <= 3; ++i) start(i, leads);
    ASSERT_TRUE(up({1, 2, 3}));
    sim_.run_for(3s);
    boss_ = boss();
    a_ = boss_ % 3 + 1;
    b_ = a_ % 3 + 1;
    const auto made = machine(a_).try_run([&]() -> io::Task<Result<CatalogPtr>> {
      co_return co_await at(a_).cluster->metadata().propose(
          [&](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
            catalog::TopicCreated topic = testing::ClusterTest::topic("t", 3);
            topic.partitions = {{NodeId(a_), NodeId(b_), NodeId(boss_)},
                                {NodeId(b_), NodeId(a_), NodeId(boss_)},
                                {NodeId(boss_), NodeId(a_), NodeId(b_)}};
            return Cluster::with_first_epochs(topic, state);
          });
    });
    ASSERT_TRUE(made && *made);
    sim_.run_for(2s);
  }
  /// Who leads the metadata log, 0 if nobody does.
  std::int32_t boss() {
    for (std::int32_t i = 1; i <= 3; ++i) {
      if (at(i).cluster != nullptr && at(i).cluster->joined()->raft().settled_leader(kGlobalGroup))
        return i;
    }
    return 0;
  }
  const catalog::Partition& partition(std::int32_t seen_by, std::size_t index) {
    return *at(seen_by).cluster->catalog()->topic("t")->partitions[index];
  }
  NodeId leader(std::int32_t seen_by, std::size_t index) {
    return partition(seen_by, index).current->leader;
  }
  std::uint64_t proposed() {
    std::uint64_t all = 0;
    for (std::int32_t i = 1; i <= 3; ++i) {
      if (at(i).cluster != nullptr) all += watch(i).stats().proposed;
    }
    return all;
  }
  /// How long until a node shows another candidate for a partition.
  Duration until_proposed(std::int32_t seen_by, std::size_t index, Epoch above) {
    const Instant begin = sim_.now();
    EXPECT_TRUE(
        sim_.run_until([&] { return partition(seen_by, index).highest_proposed > above; }, 30s));
    return sim_.now() - begin;
  }

  std::vector<Member> members_;
  std::vector<std::unique_ptr<One>> nodes_;
  io::sim::Simulator sim_;
  std::int32_t boss_ = 0, a_ = 0, b_ = 0;
  Duration balance_after_ = 5min;
};

TEST_F(WatchTest, a_killed_nodes_partitions_have_a_candidate_at_once) {
  form(false);
  machine(a_).kill();
  EXPECT_LE(until_proposed(b_, 0, Epoch(1)), 50ms) << "nobody listens there: it has ended";
  EXPECT_EQ(partition(b_, 0).candidate, NodeId(b_));
  EXPECT_EQ(partition(b_, 1).highest_proposed, Epoch(1)) << "whose leader is well";
  EXPECT_EQ(partition(b_, 2).highest_proposed, Epoch(1));
}

TEST_F(WatchTest, a_node_without_power_is_missed_within_two_and_a_half) {
  form(false);
  machine(a_).lose_power();
  EXPECT_LE(until_proposed(b_, 0, Epoch(1)), 2500ms);
  EXPECT_EQ(partition(b_, 0).candidate, NodeId(b_));
}

TEST_F(WatchTest, so_is_one_that_led_the_metadata) {
  balance_after_ = 10s;
  form();
  machine(boss_).kill();
  EXPECT_LE(until_proposed(a_, 2, Epoch(1)), 250ms) << "an election, and then the same";
  EXPECT_EQ(partition(a_, 2).candidate, NodeId(a_));
  machine(boss_).restart();
  start(boss_);
  ASSERT_TRUE(up({boss_}));
  sim_.run_for(15s);  // its partition has gone back to it
  // Whoever leads the metadata by now is the next to go.
  const std::int32_t next = boss();
  ASSERT_TRUE(next == a_ || next == b_);
  const std::int32_t other = next == a_ ? b_ : a_;
  const std::size_t its = next == a_ ? 0 : 1;
  ASSERT_EQ(leader(other, its), NodeId(next));
  ASSERT_EQ(leader(other, 2), NodeId(boss_));
  const Epoch before = partition(other, its).highest_proposed;
  machine(next).lose_power();
  EXPECT_LE(until_proposed(other, its, before), 3s);
  EXPECT_EQ(partition(other, its).candidate, NodeId(other));
}

TEST_F(WatchTest, nothing_is_proposed_while_nothing_fails) {
  form();
  sim_.run_for(10min);
  EXPECT_EQ(proposed(), 0u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(partition(1, i).highest_proposed, Epoch(1));
}

TEST_F(WatchTest, a_leader_that_is_gone_is_followed_and_gets_its_partitions_back_in_time) {
  balance_after_ = 30s;
  form();
  machine(a_).kill();
  ASSERT_TRUE(sim_.run_until([&] { return leader(b_, 0) == NodeId(b_); }, 2s));
  machine(a_).restart();
  start(a_);
  ASSERT_TRUE(up({a_}));
  sim_.run_for(25s);
  EXPECT_EQ(leader(b_, 0), NodeId(b_));
  sim_.run_for(7s);
  EXPECT_EQ(leader(b_, 0), NodeId(a_));
  EXPECT_EQ(partition(b_, 0).highest_proposed, Epoch(3));
}

TEST_F(WatchTest, a_node_whose_process_is_another_by_now_is_not_mistaken_for_a_leader) {
  form();
  // So fast that it is hardly missed; and it does not come back to lead by itself.
  machine(a_).kill();
  machine(a_).restart();
  start(a_, false);
  ASSERT_TRUE(up({a_}));
  sim_.run_for(1s);
  const bool missed = partition(b_, 0).highest_proposed > Epoch(1);
  EXPECT_TRUE(sim_.run_until([&] { return leader(b_, 0) == NodeId(b_); }, 4s)) << missed;
}

TEST_F(WatchTest, a_candidate_that_does_not_come_to_lead_is_followed_by_another) {
  form(false);
  machine(a_).kill();
  until_proposed(b_, 0, Epoch(1));
  EXPECT_EQ(partition(b_, 0).candidate, NodeId(b_));
  const Duration waited = until_proposed(b_, 0, Epoch(2));
  EXPECT_GE(waited, 2900ms);
  EXPECT_LE(waited, 4s);
  EXPECT_EQ(partition(b_, 0).candidate, NodeId(boss_));
}

TEST_F(WatchTest, on_another_disk_nobody_is_up) {
  form();
  machine(a_).kill();
  machine(a_).restart();
  ASSERT_TRUE(sim_.run_until([&] { return leader(b_, 0) == NodeId(b_); }, 2s));
  machine(a_).run([&]() -> io::Task<void> {
    EXPECT_TRUE(co_await io::Shard::current().disk().remove("/data/cookie"));
    EXPECT_TRUE(co_await io::Shard::current().disk().remove("/data/raft.log"));
  });
  start(a_);
  sim_.run_for(5s);
  EXPECT_EQ(at(a_).cluster, nullptr);
  EXPECT_FALSE(watch(b_).liveness().at(NodeId(a_)).up);
  EXPECT_FALSE(watch(boss_).liveness().at(NodeId(a_)).up);
  EXPECT_TRUE(watch(boss_).liveness().at(NodeId(b_)).up);
}

TEST_F(WatchTest, a_start_that_is_not_registered_is_not_up) {
  form();
  machine(a_).kill();
  sim_.run_for(100ms);
  machine(a_).restart();
  // It is connected long before it has counted its start.
  machine(a_).disk().options().slow = 1;
  machine(a_).disk().options().slow_by = 300ms;
  start(a_);
  const auto& links = at(boss_).cluster->joined()->peers().links(0);
  ASSERT_TRUE(sim_.run_until([&] { return links.connected(NodeId(a_)) != nullptr; }, 20s));
  sim_.run_for(20ms);
  EXPECT_EQ(at(a_).cluster, nullptr);
  EXPECT_FALSE(watch(boss_).liveness().at(NodeId(a_)).up);
  machine(a_).disk().options().slow = 0;
  EXPECT_TRUE(sim_.run_until([&] { return watch(boss_).liveness().at(NodeId(a_)).up; }, 20s));
}

TEST_F(WatchTest, a_new_leader_that_was_cut_off_believes_nobody_down_for_a_while) {
  form();
  // The others cannot tell it whom they reach; and one connection of its own is slow to come.
  const auto& raft = at(boss_).cluster->joined()->raft();
  sim_.net().reset_all(machine(b_));
  sim_.run_for(200ms);
  machine(boss_).run([&]() -> io::Task<void> {
    auto& own = at(boss_).cluster->joined()->raft();
    EXPECT_TRUE(own.transfer(kGlobalGroup, NodeId(b_)));
    co_return;
  });
  ASSERT_TRUE(sim_.run_until([&] { return boss() == b_; }, 5s))
      << raft.status(kGlobalGroup).term.value;
  const Instant begin = sim_.now();
  machine(a_).kill();
  until_proposed(b_, 0, Epoch(1));
  EXPECT_GE(sim_.now() - begin, 650ms);
  EXPECT_LE(sim_.now() - begin, 1500ms);
}

TEST_F(WatchTest, leads_away_from_who_is_draining_and_where_it_is_told) {
  form();
  watch(boss_).set_draining(NodeId(a_), true);
  EXPECT_TRUE(sim_.run_until([&] { return leader(b_, 0) == NodeId(b_); }, 3s));
  const auto move = [&](std::int32_t by, std::int32_t to) {
    return machine(by).run([&, by, to]() -> io::Task<Result<void>> {
      const auto topic = at(by).cluster->catalog()->topic("t")->id;
      co_return co_await watch(by).move({topic, PartitionIndex(0)}, NodeId(to));
    });
  };
  EXPECT_EQ(move(b_, boss_).error().code, Code::kUnavailable) << "leads no metadata";
  EXPECT_EQ(move(boss_, a_).error().code, Code::kUnavailable) << "is draining";
  EXPECT_TRUE(move(boss_, boss_));
  EXPECT_TRUE(sim_.run_until([&] { return leader(b_, 0) == NodeId(boss_); }, 1s));
}

TEST_F(WatchTest, what_others_change_meanwhile_spoils_nothing) {
  form();
  const auto change = [&](catalog::Entry entry) {
    machine(boss_).spawn([&, entry]() -> io::Task<void> {
      EXPECT_TRUE(co_await at(boss_).cluster->metadata().propose(
          [&entry](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
            const auto* made = std::get_if<catalog::TopicCreated>(&entry);
            if (made != nullptr) return Cluster::with_first_epochs(*made, state);
            return std::vector<catalog::Entry>{entry};
          }));
    });
  };
  std::vector<TopicId> topics;
  for (int i = 0; i < 100; ++i) {
    catalog::TopicCreated topic = testing::ClusterTest::topic("gone-" + std::to_string(i), 1);
    topic.partitions = {{NodeId(a_), NodeId(b_), NodeId(boss_)}};
    topics.push_back(topic.id);
    change(topic);
  }
  sim_.run_for(5s);
  // What is proposed waits for its turn.
  for (std::int32_t i = 1; i <= 3; ++i) {
    machine(i).disk().options().slow = 1;
    machine(i).disk().options().slow_by = 20ms;
  }
  machine(a_).kill();
  // While its partitions are taken over they disappear, one after the other.
  for (const TopicId& topic : topics) {
    change(catalog::TopicDeleted{topic});
    sim_.run_for(1ms);
  }
  sim_.run_for(3s);
  EXPECT_EQ(leader(b_, 0), NodeId(b_));
  EXPECT_EQ(at(b_).cluster->catalog()->topic_count(), 1u);
  EXPECT_GT(watch(boss_).stats().left_out, 0u) << "nothing was tried";
  EXPECT_EQ(watch(boss_).stats().failures, 0u);
}

TEST_F(WatchTest, ends_whatever_it_is_about) {
  form();
  machine(a_).kill();
  sim_.run_for(200ms);
  // It has something to propose, and nobody to agree with.
  sim_.net().isolate(machine(boss_));
  sim_.run_for(300ms);
  const auto ended = machine(boss_).try_run(
      [&]() -> io::Task<void> { co_await at(boss_).cluster->stop(); }, 0, 30s);
  EXPECT_TRUE(ended);
}

class WatchFaultsTest : public WatchTest, public ::testing::WithParamInterface<std::uint64_t> {
 protected:
  WatchFaultsTest() : WatchTest(GetParam()) {}
};

TEST_P(WatchFaultsTest, once_all_is_well_everything_is_led_and_stays_so) {
  form();
  io::Rng& rng = sim_.rng();
  for (int fault = 0; fault < 12; ++fault) {
    const auto node = static_cast<std::int32_t>(1 + rng.below(3));
    switch (rng.below(4)) {
      case 0:
      case 1:
        rng.below(2) == 0 ? machine(node).kill() : machine(node).lose_power();
        sim_.run_for(50ms * rng.below(60));
        machine(node).restart();
        start(node);
        break;
      case 2:
        sim_.net().isolate(machine(node));
        sim_.run_for(50ms * rng.below(60));
        sim_.net().heal_all();
        break;
      default:
        sim_.net().reset_all(machine(node));
    }
    sim_.run_for(50ms * rng.below(60));
  }
  ASSERT_TRUE(up({1, 2, 3}, 60s)) << at(1).refused << at(2).refused << at(3).refused;
  sim_.run_for(10s);
  ASSERT_NE(boss(), 0);
  std::vector<Epoch> epochs;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(partition(1, i).highest_proposed, partition(1, i).current->epoch) << i;
    epochs.push_back(partition(1, i).current->epoch);
  }
  for (std::int32_t i = 1; i <= 3; ++i) {
    EXPECT_TRUE(watch(boss()).liveness().at(NodeId(i)).up) << i;
  }
  sim_.run_for(1min);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(partition(1, i).highest_proposed, epochs[i]) << i;
}
std::uint64_t end_of_seeds() {
  return std::getenv("PYRALOG_SOAK") != nullptr ? 501 : 21;
}
INSTANTIATE_TEST_SUITE_P(Seeds, WatchFaultsTest,
                         ::testing::Range<std::uint64_t>(1, end_of_seeds()));

}  // namespace
}  // namespace pyralog::cluster
