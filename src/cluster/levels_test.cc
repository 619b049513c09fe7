#include "cluster/levels.h"

#include <gtest/gtest.h>

namespace pyralog::cluster {
namespace {

using model::NodeId;

Uuid uuid(int n) {
  Uuid id;
  id.bytes[0] = static_cast<std::uint8_t>(n);
  return id;
}

/// Nodes from 1 on with these levels; 0 = it has not said.
catalog::Catalog state_with(const std::vector<std::uint16_t>& levels) {
  catalog::Catalog state;
  std::vector<catalog::Entry> entries;
  catalog::ClusterCreated created;
  created.cluster = uuid(99);
  entries.emplace_back(created);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto number = static_cast<int>(i) + 1;
    catalog::NodeRegistered node;
    node.node = NodeId(number);
    node.incarnation = uuid(number);
    node.boot_counter = 1;
    entries.emplace_back(node);
    if (levels[i] == 0) continue;
    entries.emplace_back(
        catalog::PeerRegistered{NodeId(number), uuid(number), "h", 9093, levels[i]});
  }
  EXPECT_TRUE(state.apply_all(entries));
  return state;
}

TEST(Levels, rise_once_all_nodes_understand) {
  EXPECT_EQ(level_to_raise(state_with({3, 3, 3}), {NodeId(1), NodeId(2), NodeId(3)}), 3);
  EXPECT_EQ(level_to_raise(state_with({4, 3, 5}), {NodeId(1), NodeId(2), NodeId(3)}), 3);
  EXPECT_EQ(level_to_raise(state_with({3, 2, 3}), {NodeId(1), NodeId(2), NodeId(3)}), 0);
  EXPECT_EQ(level_to_raise(state_with({2, 2}), {NodeId(1), NodeId(2)}), 0);
}

TEST(Levels, wait_for_members_that_have_not_come_yet) {
  EXPECT_EQ(level_to_raise(state_with({3, 3}), {NodeId(1), NodeId(2), NodeId(3)}), 0)
      << "plant: cluster.raise_without_all";
  EXPECT_EQ(level_to_raise(state_with({3, 3, 0}), {NodeId(1), NodeId(2), NodeId(3)}), 0);
}

TEST(Levels, rise_once) {
  catalog::Catalog state = state_with({3, 3});
  ASSERT_TRUE(state.apply(catalog::FeatureLevelRaised{3}, state.position() + 1));
  EXPECT_EQ(level_to_raise(state, {NodeId(1), NodeId(2)}), 0);
}

}  // namespace
}  // namespace pyralog::cluster
