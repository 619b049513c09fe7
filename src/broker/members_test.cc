// Whole nodes come to a cluster, leave it, and come back with another disk, while it is written.
#include "broker/cluster_testing.h"

namespace pyralog::broker {
namespace {

using namespace std::chrono_literals;
using Kind = cluster::MemberChange::Kind;

class BrokerMembersTest : public testing::ClusterOfBrokersTest {
 protected:
  BrokerMembersTest() : ClusterOfBrokersTest(1, 4) {}

  AdminOutcome change(std::int32_t asked, Kind kind, std::int32_t node) {
    return run(asked, [=, this]() -> io::Task<AdminOutcome> {
      co_return co_await at(asked).broker->change_member(
          {kind, NodeId(node), {name_of(node), 9093}}, 20s);
    });
  }
  AdminOutcome move(std::int32_t asked, std::string topic, std::int32_t partition,
                    std::vector<std::int32_t> to) {
    return run(asked, [=, this]() -> io::Task<AdminOutcome> {
      std::vector<NodeId> nodes;
      for (const auto each : to) nodes.emplace_back(each);
      co_return co_await at(asked).broker->reassign({topic, partition}, nodes);
    });
  }
  /// Whether its replicas are just these, and nothing is on the way.
  bool held(std::int32_t asked, const std::string& topic, std::vector<std::int32_t> by,
            Duration limit = 40s) {
    return sim_.run_until(
        [&] {
          const auto found = at(asked).cluster->catalog()->topic(topic);
          if (found == nullptr) return false;
          for (const auto& each : found->partitions) {
            std::vector<std::int32_t> replicas;
            std::vector<std::int32_t> current;
            for (const NodeId id : each->replicas) replicas.push_back(id.value);
            if (!each->current || !each->target.empty()) return false;
            for (const auto& one : each->current->replicas) {
              const auto* node = at(asked).cluster->catalog()->node(one.node);
              if (node == nullptr || node->incarnation != one.incarnation) return false;
              current.push_back(one.node.value);
            }
            std::ranges::sort(replicas);
            std::ranges::sort(current);
            if (replicas != by || current != by) return false;
          }
          return true;
        },
        limit);
  }
  void write_some(const std::string& topic, int count) {
    for (int i = 0; i < count; ++i) {
      const std::string value = "v" + std::to_string(written_.size());
      ASSERT_TRUE(write(topic, value, 30s)) << value;
      written_.push_back(value);
    }
  }
  std::vector<std::string> written_;
};

TEST_F(BrokerMembersTest, a_partition_moves_away_from_its_leader_again_and_again) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_EQ(change(2, Kind::kAdd, 4).error, KafkaError::kNone);
  cluster::Cluster::Options fourth = options_of(4);
  fourth.join.listen = io::Address{name_of(4), 9093};
  start(4, fourth);
  ASSERT_TRUE(up({4})) << at(4).refused;
  const auto epoch = [&] {
    return at(1).cluster->catalog()->topic("t")->partitions[0]->current->epoch.value;
  };
  for (int round = 0; round < 4; ++round) {
    write_some("t", 5);
    const std::int32_t leads = leader(1, "t");
    std::vector<std::int32_t> others;
    for (std::int32_t i = 1; i <= 4; ++i) {
      if (i != leads) others.push_back(i);
    }
    const auto before = epoch();
    ASSERT_EQ(move(2, "t", 0, others).error, KafkaError::kNone);
    // On the way an epoch has four nodes, and a W that three have not.
    ASSERT_TRUE(held(1, "t", others)) << "round " << round << " from node " << leads;
    EXPECT_LE(epoch(), before + 6);
  }
  EXPECT_EQ(read("t"), written_);
}

TEST_F(BrokerMembersTest, a_fourth_node_takes_over_from_the_first_which_leaves) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  write_some("t", 10);
  ASSERT_EQ(change(2, Kind::kAdd, 4).error, KafkaError::kNone);
  cluster::Cluster::Options fourth = options_of(4);
  fourth.join.listen = io::Address{name_of(4), 9093};
  start(4, fourth);
  ASSERT_TRUE(up({4})) << at(4).refused;
  const AdminOutcome refused = change(2, Kind::kRemove, 1);
  EXPECT_NE(refused.error, KafkaError::kNone);
  EXPECT_THAT(refused.message, ::testing::HasSubstr("drain"));
  ASSERT_EQ(move(2, "t", 0, {2, 3, 4}).error, KafkaError::kNone);
  write_some("t", 10);
  ASSERT_TRUE(held(2, "t", {2, 3, 4}));
  const AdminOutcome removed = change(2, Kind::kRemove, 1);
  ASSERT_EQ(removed.error, KafkaError::kNone) << removed.message;
  write_some("t", 10);
  EXPECT_EQ(at(2).cluster->catalog()->node(NodeId(1)), nullptr);
  const auto votes = [&](std::int32_t i) {
    const auto config = at(i).cluster->joined()->raft().status(cluster::kGlobalGroup).config;
    return config.voters.size() == 3 && config.is_voter(NodeId(4)) && !config.joint();
  };
  ASSERT_TRUE(sim_.run_until([&] { return votes(2) && votes(3) && votes(4); }, 20s));
  kill(1);
  kill(2);
  write_some("t", 5);
  EXPECT_EQ(read("t"), written_);
}

TEST_F(BrokerMembersTest, a_disk_is_replaced_and_then_another_node_dies) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  write_some("t", 20);
  kill(3, true);
  write_some("t", 5);
  sim_.run_for(2s);  // until its silence is noticed
  const AdminOutcome replaced = change(1, Kind::kReplaceDisk, 3);
  ASSERT_EQ(replaced.error, KafkaError::kNone) << replaced.message;
  cluster::Cluster::Options wiped = options_of(3);
  wiped.data_dir = "/new";
  start(3, wiped);
  ASSERT_TRUE(up({3})) << at(3).refused;
  write_some("t", 5);
  ASSERT_TRUE(held(1, "t", {1, 2, 3})) << "with the new disk";
  const auto votes = [&](std::int32_t i) {
    const auto config = at(i).cluster->joined()->raft().status(cluster::kGlobalGroup).config;
    return config.voters.size() == 3 && !config.joint();
  };
  ASSERT_TRUE(sim_.run_until([&] { return votes(1) && votes(2) && votes(3); }, 20s));
  kill(1, true);
  write_some("t", 5);
  EXPECT_EQ(read("t"), written_);
}

TEST_F(BrokerMembersTest, a_lone_node_grows_to_three_with_all_that_it_has) {
  options_.offsets_partitions = 1;
  cluster::Cluster::Options alone = options_of(1);
  alone.join = {};
  start(1, alone);
  ASSERT_TRUE(up({1})) << at(1).refused;
  ASSERT_EQ(create(1, "t", 1, {}, 1), KafkaError::kNone);
  write_some("t", 10);
  ASSERT_EQ(run(1,
                [&]() -> io::Task<AdminOutcome> {
                  co_return co_await at(1).broker->ensure_offsets_topic();
                })
                .error,
            KafkaError::kNone);
  ASSERT_EQ(commit("g", 7), KafkaError::kNone);
  EXPECT_THAT(change(1, Kind::kAdd, 2).message, ::testing::HasSubstr("--peer"));
  stop(1);
  cluster::Cluster::Options listens = options_of(1);
  listens.join.members.clear();
  listens.join.listen = io::Address{name_of(1), 9093};
  start(1, listens);
  ASSERT_TRUE(up({1})) << at(1).refused;
  EXPECT_EQ(read("t"), written_);
  for (std::int32_t i = 2; i <= 3; ++i) {
    ASSERT_EQ(change(1, Kind::kAdd, i).error, KafkaError::kNone);
    cluster::Cluster::Options comes = options_of(i);
    comes.join.members.resize(1);
    comes.join.listen = io::Address{name_of(i), 9093};
    start(i, comes);
    ASSERT_TRUE(up({i})) << at(i).refused;
  }
  ASSERT_EQ(move(1, "t", 0, {1, 2, 3}).error, KafkaError::kNone);
  write_some("t", 5);
  ASSERT_TRUE(held(1, "t", {1, 2, 3}));
  ASSERT_TRUE(held(1, "__consumer_offsets", {1, 2, 3})) << "by itself";
  const auto votes = [&](std::int32_t i) {
    return at(i).cluster->joined()->raft().status(cluster::kGlobalGroup).config.voters.size() == 3;
  };
  ASSERT_TRUE(sim_.run_until([&] { return votes(1) && votes(2) && votes(3); }, 20s));
  kill(1, true);
  write_some("t", 5);
  EXPECT_EQ(read("t"), written_);
  EXPECT_EQ(committed("g", 30s), 7);
}

}  // namespace
}  // namespace pyralog::broker
