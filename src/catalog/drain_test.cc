// Where the partitions of a node go that is to hold none.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "catalog/catalog_testing.h"
#include "catalog/plan.h"
#include "catalog/reassign.h"

namespace pyralog::catalog {
namespace {

using namespace testing;
using Nodes = std::vector<NodeId>;

Nodes ids(std::initializer_list<std::int32_t> numbers) {
  Nodes nodes;
  for (const std::int32_t each : numbers) nodes.emplace_back(each);
  return nodes;
}

/// Applies the moves and activates epochs of just their targets.
void carry_out(Catalog& c, const DrainPlan& plan) {
  for (const ReplicasWanted& move : plan.moves) {
    ASSERT_TRUE(apply(c, move));
    EpochActivation a;
    a.partition = move.partition;
    a.epoch = Epoch(c.partition(move.partition)->highest_proposed.value + 1);
    a.leader = move.target.front();
    for (const NodeId each : move.target) a.replicas.push_back({each, c.node(each)->incarnation});
    a.write_quorum = write_quorum(a.replicas.size(), 1);
    ASSERT_TRUE(apply(c, EpochProposed{a.partition, a.epoch, a.leader}));
    ASSERT_TRUE(apply(c, activated(a)));
  }
}

TEST(Drain, moves_all_a_few_at_a_time_and_then_the_node_may_be_removed) {
  Catalog c = cluster(5);
  TopicCreated t = topic(1, "a");
  t.partitions = place(c.nodes(), 20, 3, 0);
  ASSERT_TRUE(apply(c, t));
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(2), true}));
  std::size_t moved = 0;
  for (int round = 0; round < 10; ++round) {
    const DrainPlan plan = plan_drain(c, NodeId(2), 5);
    EXPECT_EQ(plan.moves.size() + plan.waiting, 12 - moved);
    EXPECT_LE(plan.moves.size(), 5u);
    EXPECT_EQ(plan.done(), moved == 12);
    if (plan.done()) break;
    EXPECT_FALSE(apply(c, NodeRemoved{NodeId(2)}));
    carry_out(c, plan);
    moved += plan.moves.size();
  }
  EXPECT_EQ(moved, 12u);
  std::map<NodeId, int> holds;
  std::map<NodeId, int> leads;
  for (const auto& p : c.topic("a")->partitions) {
    for (const NodeId each : p->replicas) ++holds[each];
    ++leads[p->replicas.front()];
  }
  for (const NodeId each : ids({1, 3, 4, 5})) {
    EXPECT_EQ(holds[each], 15);
    EXPECT_GE(leads[each], 4);
  }
  EXPECT_TRUE(apply(c, NodeRemoved{NodeId(2)}));
}

TEST(Drain, those_under_way_count) {
  Catalog c = cluster(3);
  ASSERT_TRUE(apply(c, topic(1, "a", 4, ids({1, 2}))));
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(2), true}));
  DrainPlan plan = plan_drain(c, NodeId(2), 3);
  ASSERT_EQ(plan.moves.size(), 3u);
  EXPECT_EQ(plan.moves[0], (ReplicasWanted{partition_id(1, 0), ids({1, 3})}));
  for (const ReplicasWanted& each : plan.moves) ASSERT_TRUE(apply(c, each));
  plan = plan_drain(c, NodeId(2), 3);
  EXPECT_EQ(plan.moves.size(), 0u);
  EXPECT_EQ(plan.under_way, 3u);
  EXPECT_EQ(plan.waiting, 1u);
  EXPECT_FALSE(plan.done());
  EXPECT_EQ(plan_drain(c, NodeId(2), 10).moves.size(), 1u);
}

TEST(Drain, says_what_has_nowhere_to_go) {
  Catalog c = cluster(3);
  ASSERT_TRUE(apply(c, topic(1, "a", 12, ids({1, 2, 3}))));
  ASSERT_TRUE(apply(c, topic(2, "b", 1, ids({2}))));
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(2), true}));
  DrainPlan plan = plan_drain(c, NodeId(2), 100);
  EXPECT_EQ(plan.stuck, 12u);
  EXPECT_EQ(plan.moves.size(), 1u);
  ASSERT_EQ(plan.examples.size(), DrainPlan::kExamples);
  EXPECT_EQ(plan.examples[0].partition, partition_id(1, 0));
  EXPECT_NE(plan.examples[0].reason.find("topic \"a\" partition 0"), std::string::npos);
  EXPECT_FALSE(plan.done());
  ASSERT_TRUE(apply(c, node(4)));
  plan = plan_drain(c, NodeId(2), 100);
  EXPECT_EQ(plan.stuck, 0u);
  EXPECT_EQ(plan.moves.size(), 13u);
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(4), true}));
  EXPECT_EQ(plan_drain(c, NodeId(2), 100).stuck, 12u) << "that one is to be emptied, too";
}

TEST(Drain, turns_a_move_around_that_goes_to_the_node) {
  Catalog c = cluster(4);
  ASSERT_TRUE(apply(c, topic(1, "a", 1, ids({1, 2}))));
  ASSERT_TRUE(apply(c, ReplicasWanted{partition_id(1), ids({3, 2})}));
  ASSERT_TRUE(apply(c, ReplicasWanted{partition_id(1), ids({3, 4})}));
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(3), true}));
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(4), true}));
  const DrainPlan plan = plan_drain(c, NodeId(4), 1);
  ASSERT_EQ(plan.moves.size(), 1u);
  EXPECT_EQ(plan.moves[0].target, ids({3, 1})) << "node 3 goes in its own turn";
  EXPECT_TRUE(apply(c, plan.moves[0]));
}

TEST(Drain, prefers_a_rack_of_its_own_then_room_then_those_it_knows) {
  Catalog c = cluster(0);
  for (const auto& [id, rack] :
       {std::pair{1, "x"}, {2, "y"}, {3, "x"}, {4, "y"}, {5, "y"}, {6, "x"}}) {
    ASSERT_TRUE(apply(c, node(id, 1, rack)));
  }
  ASSERT_TRUE(apply(c, topic(1, "a", 1, ids({1, 2}))));
  ASSERT_TRUE(apply(c, topic(2, "b", 2, ids({4, 6}))));
  ASSERT_TRUE(apply(c, topic(3, "c", 1, ids({5, 3}))));
  ASSERT_TRUE(apply(c, topic(4, "d", 1, ids({5, 1}))));
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(2), true}));
  DrainPlan plan = plan_drain(c, NodeId(2), 9);
  ASSERT_EQ(plan.moves.size(), 1u);
  EXPECT_EQ(plan.moves[0].target, ids({1, 5})) << "nodes 4 and 5 hold two, and 5 is with 1 already";
  ASSERT_TRUE(apply(c, topic(5, "e", 1, ids({5, 6}))));
  plan = plan_drain(c, NodeId(2), 9);
  EXPECT_EQ(plan.moves[0].target, ids({1, 4})) << "node 5 holds three";
}

}  // namespace
}  // namespace pyralog::catalog
