// Which nodes hold a partition: who leads, in which racks, and with how many others.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "catalog/catalog_testing.h"
#include "catalog/plan.h"

namespace pyralog::catalog {
namespace {

using namespace testing;
using Nodes = std::map<NodeId, Node>;
using Placed = std::vector<std::vector<NodeId>>;

/// As many nodes in each rack as `racks` says, numbered from 1.
Nodes in_racks(const std::vector<std::size_t>& racks) {
  Nodes nodes;
  std::int32_t id = 0;
  for (std::size_t r = 0; r < racks.size(); ++r) {
    for (std::size_t i = 0; i < racks[r]; ++i) {
      Node node;
      node.id = NodeId(++id);
      node.rack = "rack-" + std::to_string(r);
      nodes.emplace(node.id, node);
    }
  }
  return nodes;
}

/// With whom each node shares partitions.
void meet(const Placed& placed, std::map<NodeId, std::set<NodeId>>& met) {
  for (const auto& replicas : placed) {
    for (const NodeId a : replicas) {
      for (const NodeId b : replicas) {
        if (a != b) met[a].insert(b);
      }
    }
  }
}
std::size_t widest(const std::map<NodeId, std::set<NodeId>>& met) {
  std::size_t most = 0;
  for (const auto& [node, others] : met) most = std::max(most, others.size());
  return most;
}

TEST(Place, spreads_leaders_and_keeps_racks_apart) {
  Catalog c;
  ASSERT_TRUE(apply(c, ClusterCreated{uuid(1), 16, WallMs{1}}));
  for (int n = 1; n <= 6; ++n) ASSERT_TRUE(apply(c, node(n, 1, n <= 3 ? "r1" : "r2")));
  const auto all = place(c.nodes(), 12, 2, 7);
  std::map<NodeId, int> leads;
  std::map<NodeId, int> holds;
  for (const auto& replicas : all) {
    ASSERT_EQ(replicas.size(), 2u);
    EXPECT_NE(c.node(replicas[0])->rack, c.node(replicas[1])->rack);
    ++leads[replicas[0]];
    for (const NodeId n : replicas) ++holds[n];
  }
  for (int n = 1; n <= 6; ++n) {
    EXPECT_EQ(leads[NodeId(n)], 2);
    EXPECT_GE(holds[NodeId(n)], 3);
    EXPECT_LE(holds[NodeId(n)], 5);
  }
  for (const auto& replicas : place(c.nodes(), 5, 6, 0)) {
    EXPECT_EQ(std::set<NodeId>(replicas.begin(), replicas.end()).size(), 6u);
  }
}

std::size_t pick(std::size_t from, std::size_t below) {
  return *rc::gen::inRange<std::size_t>(from, below);
}

RC_GTEST_PROP(Place, any_racks_are_all_used_and_leaders_are_even, ()) {
  std::vector<std::size_t> racks;
  for (std::size_t i = pick(1, 6); i > 0; --i) racks.push_back(pick(1, 7));
  const Nodes nodes = in_racks(racks);
  const std::size_t replicas = pick(1, std::min<std::size_t>(nodes.size(), 6) + 1);
  const std::size_t partitions = pick(1, 60);
  const auto first = *rc::gen::arbitrary<std::uint64_t>();
  const Placed placed = place(nodes, partitions, replicas, first);
  RC_ASSERT(placed.size() == partitions);
  RC_ASSERT(placed == place(nodes, partitions, replicas, first));
  std::map<NodeId, std::size_t> leads;
  for (const auto& set : placed) {
    RC_ASSERT(set.size() == replicas);
    RC_ASSERT((std::set<NodeId>(set.begin(), set.end()).size() == replicas));
    std::set<std::string> used;
    for (const NodeId each : set) used.insert(nodes.at(each).rack);
    RC_ASSERT(used.size() == std::min(replicas, racks.size()));
    ++leads[set.front()];
  }
  for (const auto& [id, node] : nodes) {
    RC_ASSERT(leads[id] >= partitions / nodes.size());
    RC_ASSERT(leads[id] <= partitions / nodes.size() + 1);
  }
}

RC_GTEST_PROP(Place, nodes_share_partitions_with_few_whatever_the_topic, ()) {
  // Racks that are all as large, or none.
  const std::size_t replicas = pick(2, 6);
  const std::size_t count = pick(1, 8);
  const std::size_t least = 2 * replicas / count + 1;
  const Nodes nodes = in_racks(std::vector<std::size_t>(count, pick(least, least + 5)));
  std::map<NodeId, std::set<NodeId>> met;
  std::map<NodeId, std::size_t> holds;
  const std::size_t partitions = nodes.size() * pick(1, 4);
  for (int topic = 0; topic < 5; ++topic) {
    const auto first = *rc::gen::arbitrary<std::uint64_t>();
    const Placed placed = place(nodes, partitions, replicas, first);
    meet(placed, met);
    for (const auto& set : placed) {
      for (const NodeId each : set) ++holds[each];
    }
  }
  RC_ASSERT(widest(met) <= 2 * (replicas - 1));
  for (const auto& [id, node] : nodes) {
    RC_ASSERT(holds[id] == 5 * partitions / nodes.size() * replicas);
  }
}

TEST(Place, uneven_racks_stay_narrow_while_they_leave_a_choice) {
  for (const auto& racks : std::vector<std::vector<std::size_t>>{
           {3, 2, 2}, {3, 3, 2}, {4, 3, 3}, {5, 4, 4}, {4, 4, 3, 3}, {7, 7, 6}, {34, 33, 33}}) {
    std::map<NodeId, std::set<NodeId>> met;
    const Nodes nodes = in_racks(racks);
    for (std::uint64_t first = 0; first < 3; ++first) meet(place(nodes, 300, 3, first), met);
    EXPECT_LE(widest(met), 4u) << racks[0] << " " << racks.back();
  }
  // One node alone in its rack is in every set, and nothing else is worse for it.
  std::map<NodeId, std::set<NodeId>> met;
  meet(place(in_racks({8, 1}), 90, 2, 0), met);
  EXPECT_EQ(met[NodeId(9)].size(), 8u);
  EXPECT_EQ(met[NodeId(1)].size(), 1u);
}

TEST(Place, the_partitions_of_a_node_that_is_gone_go_to_several) {
  std::map<NodeId, std::size_t> next;
  for (const auto& set : place(in_racks({9}), 90, 3, 0)) {
    if (set.front() == NodeId(1)) ++next[set[1]];
  }
  ASSERT_EQ(next.size(), 2u);
  for (const auto& [node, count] : next) EXPECT_EQ(count, 5u);
}

}  // namespace
}  // namespace pyralog::catalog
