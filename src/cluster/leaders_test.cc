#include "cluster/leaders.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/rng.h"

namespace pyralog::cluster {
namespace {

/// What `Leaders` should say, from the catalogue as it is.
void compare(const Leaders& leaders, const catalog::Catalog& state) {
  std::map<NodeId, Leaders::Partitions> settled;
  Leaders::Partitions pending;
  Leaders::Partitions astray;
  for (const auto& topic : state.topics()) {
    for (const auto& each : topic->partitions) {
      if (!each->current) continue;
      const PartitionId id{topic->id, each->index};
      if (each->highest_proposed > each->current->epoch) {
        pending[id] = each;
        continue;
      }
      settled[each->current->leader][id] = each;
      const NodeId preferred = each->replicas.front();
      const bool stays =
          each->target.empty() || std::ranges::find(each->target, preferred) != each->target.end();
      if (preferred != each->current->leader && stays) astray[id] = each;
    }
  }
  EXPECT_EQ(leaders.settled(), settled);
  EXPECT_EQ(leaders.pending(), pending);
  EXPECT_EQ(leaders.astray(), astray);
}

TEST(Leaders, says_what_the_catalogue_says_whatever_has_changed) {
  io::SeededRng rng(7);
  const auto below = [&](std::uint64_t n) { return static_cast<std::int32_t>(rng.below(n)); };
  catalog::Catalog state;
  const auto apply = [&](const catalog::Entry& entry) {
    return state.apply(entry, state.position() + 1).has_value();
  };
  ASSERT_TRUE(apply(catalog::ClusterCreated{.cluster = {{1}}, .created = WallMs{1}}));
  const auto disk = [](std::int32_t node) { return Uuid{{2, static_cast<std::uint8_t>(node)}}; };
  for (std::int32_t i = 1; i <= 3; ++i) {
    catalog::NodeRegistered node;
    node.node = NodeId(i);
    node.incarnation = disk(i);
    node.boot_counter = 1;
    node.host = "n";
    node.port = 1;
    ASSERT_TRUE(apply(node));
  }
  Leaders leaders;
  std::uint8_t next_topic = 1;
  std::vector<TopicId> made;
  const auto any_partition = [&] {
    return PartitionId{made[static_cast<std::size_t>(below(made.size()))],
                       PartitionIndex(below(3))};
  };
  std::size_t took = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::int32_t what = made.empty() ? 0 : below(12);
    const NodeId node(1 + below(3));
    if (what == 0) {
      catalog::TopicCreated topic;
      topic.id = TopicId{Uuid{{3, next_topic++}}};
      topic.name = std::string(1, static_cast<char>('a' + below(5)));
      for (std::int32_t p = 1 + below(3); p > 0; --p)
        topic.partitions.push_back({node, NodeId(1 + node.value % 3)});
      if (next_topic < 250 && apply(topic)) made.push_back(topic.id);
    } else if (what == 1 && below(3) == 0) {
      (void)apply(catalog::TopicDeleted{any_partition().topic});
    } else if (what == 2) {
      const NodeId other(1 + node.value % 3);
      took += apply(catalog::ReplicasWanted{
          any_partition(),
          below(3) == 0 ? std::vector<NodeId>{} : std::vector<NodeId>{node, other}});
    } else if (what < 5) {
      const PartitionId id = any_partition();
      const catalog::Partition* p = state.partition(id);
      if (p != nullptr)
        took += apply(catalog::EpochProposed{id, Epoch(p->highest_proposed.value + 1), node});
    } else {
      const PartitionId id = any_partition();
      const catalog::Partition* p = state.partition(id);
      if (p == nullptr) continue;
      catalog::EpochActivation a;
      a.partition = id;
      a.epoch = Epoch(p->highest_proposed.value + static_cast<std::uint32_t>(below(2)));
      a.leader = below(2) == 0 && p->candidate.value > 0 ? p->candidate : node;
      a.replicas = {{a.leader, disk(a.leader.value)}};
      took += apply(catalog::EpochsActivated{{a}});
    }
    if (below(3) != 0) continue;
    leaders.update(state);
    compare(leaders, state);
    if (HasFailure()) return;
    EXPECT_TRUE(leaders.update(state).empty());
  }
  EXPECT_GT(took, 200u);
}

}  // namespace
}  // namespace pyralog::cluster
