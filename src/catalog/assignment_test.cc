// Which nodes there are, and on which of them partitions are to be.
#include <gtest/gtest.h>

#include <algorithm>

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
Code code_of(const Result<void>& result) {
  return result ? Code{-1} : result.error().code;
}
constexpr Code kTaken{-1};

/// A cluster of `nodes` with a topic 1 of one partition on `replicas`.
Catalog with_topic(std::int32_t nodes, const Nodes& replicas) {
  Catalog c = cluster(nodes);
  PYRALOG_ASSERT(apply(c, topic(1, "a", 1, replicas)).has_value());
  return c;
}
Result<void> activate(Catalog& c, const Nodes& nodes, std::uint16_t w) {
  const Partition& p = *c.partition(partition_id(1));
  EpochActivation a = activation(1, p.highest_proposed.value + 1, 0, nodes.front().value);
  a.replicas.clear();
  for (const NodeId each : nodes) a.replicas.push_back({each, c.node(each)->incarnation});
  a.write_quorum = w;
  PYRALOG_TRY(apply(c, EpochProposed{a.partition, a.epoch, a.leader}));
  return apply(c, activated(a));
}
Result<void> want(Catalog& c, const Nodes& target) {
  return apply(c, ReplicasWanted{partition_id(1), target});
}
const Partition& partition(const Catalog& c) {
  return *c.partition(partition_id(1));
}

TEST(Reassignment, is_done_by_an_epoch_of_just_these_nodes) {
  Catalog c = with_topic(5, ids({1, 2, 3}));
  ASSERT_TRUE(activate(c, ids({1, 2, 3}), 2));
  ASSERT_TRUE(want(c, ids({5, 4, 1})));
  EXPECT_EQ(partition(c).replicas, ids({1, 2, 3}));
  EXPECT_EQ(partition(c).target, ids({5, 4, 1}));
  ASSERT_TRUE(activate(c, ids({1, 2, 3, 4, 5}), 3));
  EXPECT_EQ(partition(c).target, ids({5, 4, 1}));
  const auto back = Catalog::decode_snapshot(c.encode_snapshot());
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, c);
  ASSERT_TRUE(activate(c, ids({1, 5, 4}), 2));
  EXPECT_EQ(partition(c).replicas, ids({5, 4, 1})) << "in the order of preference";
  EXPECT_EQ(partition(c).target, Nodes());
}

TEST(Reassignment, is_not_done_by_an_epoch_that_acknowledges_with_fewer_copies) {
  Catalog c = with_topic(2, ids({1}));
  ASSERT_TRUE(activate(c, ids({1}), 1));
  ASSERT_TRUE(want(c, ids({1, 2})));
  ASSERT_TRUE(activate(c, ids({1, 2}), 1));
  EXPECT_EQ(partition(c).target, ids({1, 2})) << "node 2 may hold nothing yet";
  ASSERT_TRUE(activate(c, ids({1, 2}), 2));
  EXPECT_EQ(partition(c).replicas, ids({1, 2}));
  EXPECT_EQ(partition(c).target, Nodes());
}

TEST(Reassignment, of_the_order_alone_is_done_at_once) {
  Catalog c = with_topic(3, ids({1, 2, 3}));
  ASSERT_TRUE(want(c, ids({3, 1, 2})));
  EXPECT_EQ(partition(c).replicas, ids({3, 1, 2}));
  EXPECT_EQ(partition(c).target, Nodes());
}

TEST(Reassignment, goes_back_to_what_was_assigned_when_cancelled) {
  Catalog c = with_topic(5, ids({1, 2}));
  EXPECT_EQ(code_of(want(c, {})), Code::kNotFound);
  ASSERT_TRUE(want(c, ids({3, 4})));
  ASSERT_TRUE(want(c, {}));
  EXPECT_EQ(partition(c).target, Nodes()) << "nothing was written yet";
  ASSERT_TRUE(activate(c, ids({1, 2}), 2));
  ASSERT_TRUE(want(c, ids({3, 4})));
  ASSERT_TRUE(want(c, {}));
  EXPECT_EQ(partition(c).target, Nodes()) << "nothing has begun";
  ASSERT_TRUE(want(c, ids({3, 4})));
  ASSERT_TRUE(activate(c, ids({1, 2, 3}), 2));
  ASSERT_TRUE(want(c, {}));
  EXPECT_EQ(partition(c).target, ids({1, 2})) << "node 3 has to go again";
  ASSERT_TRUE(activate(c, ids({1, 2}), 2));
  EXPECT_EQ(partition(c).target, Nodes());
  EXPECT_EQ(partition(c).replicas, ids({1, 2}));
}

TEST(Reassignment, may_be_given_another_target_on_the_way) {
  Catalog c = with_topic(5, ids({1, 2}));
  ASSERT_TRUE(activate(c, ids({1, 2}), 2));
  ASSERT_TRUE(want(c, ids({2, 3})));
  ASSERT_TRUE(activate(c, ids({1, 2, 3}), 2));
  ASSERT_TRUE(want(c, ids({4, 5})));
  EXPECT_EQ(partition(c).replicas, ids({1, 2}));
  ASSERT_TRUE(activate(c, ids({2, 3}), 2));
  EXPECT_EQ(partition(c).target, ids({4, 5})) << "no longer where it is to be";
  ASSERT_TRUE(want(c, ids({2, 1}))) << "what was assigned, in another order";
  EXPECT_EQ(partition(c).target, ids({2, 1}));
}

TEST(Reassignment, goes_only_to_known_nodes_that_take_new_replicas) {
  Catalog c = with_topic(4, ids({1, 2}));
  EXPECT_EQ(code_of(apply(c, ReplicasWanted{partition_id(1, 7), ids({1})})), Code::kNotFound);
  EXPECT_EQ(code_of(want(c, ids({1, 9}))), Code::kNotFound);
  EXPECT_EQ(code_of(want(c, ids({1, 1}))), Code::kInvalidArgument);
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(2), true}));
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(3), true}));
  EXPECT_EQ(code_of(want(c, ids({1, 3}))), Code::kInvalidArgument);
  EXPECT_EQ(code_of(want(c, ids({2, 4}))), kTaken) << "node 2 holds it already";
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(4), true}));
  EXPECT_EQ(code_of(want(c, ids({1, 4}))), kTaken) << "node 4 was to hold it already";
}

TEST(Reassignment, leaves_as_many_as_min_insync_replicas) {
  Catalog c = with_topic(4, ids({1, 2, 3}));
  ASSERT_TRUE(apply(c, TopicSettingsChanged{topic_id(1), {{"min.insync.replicas", "2"}}}));
  EXPECT_EQ(code_of(want(c, ids({1}))), Code::kInvalidArgument);
  ASSERT_TRUE(want(c, ids({1, 4})));
  EXPECT_FALSE(apply(c, TopicSettingsChanged{topic_id(1), {{"min.insync.replicas", "3"}}}))
      << "there are to be only two";
}

TEST(Reassignment, holds_no_more_nodes_at_once_than_an_epoch_may) {
  Nodes from;
  Nodes to;
  for (std::int32_t n = 1; n <= 40; ++n) from.emplace_back(n);
  for (std::int32_t n = 41; n <= 80; ++n) to.emplace_back(n);
  Catalog c = with_topic(80, from);
  ASSERT_TRUE(activate(c, from, 21));
  EXPECT_EQ(code_of(want(c, to)), Code::kInvalidArgument);
  to.resize(24);
  EXPECT_EQ(code_of(want(c, to)), kTaken);
}

// ---- Nodes ----

TEST(NodeRemoval, is_refused_while_a_partition_names_the_node) {
  Catalog c = with_topic(4, ids({1, 2}));
  EXPECT_EQ(code_of(apply(c, NodeRemoved{NodeId(9)})), Code::kNotFound);
  const auto refused = apply(c, NodeRemoved{NodeId(2)});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("1 partitions"), std::string::npos);
  EXPECT_NE(refused.error().message.find("\"a\" 0"), std::string::npos);
  ASSERT_TRUE(activate(c, ids({1, 2}), 2));
  ASSERT_TRUE(want(c, ids({1, 3})));
  EXPECT_FALSE(apply(c, NodeRemoved{NodeId(3)})) << "is to hold it";
  ASSERT_TRUE(activate(c, ids({1, 3, 4}), 2));
  EXPECT_FALSE(apply(c, NodeRemoved{NodeId(4)})) << "of the newest epoch";
  EXPECT_FALSE(apply(c, NodeRemoved{NodeId(2)})) << "is still assigned";
  ASSERT_TRUE(activate(c, ids({1, 3}), 2));
  EXPECT_TRUE(apply(c, NodeRemoved{NodeId(2)}));
  EXPECT_TRUE(apply(c, NodeRemoved{NodeId(4)}));
  EXPECT_EQ(c.node(NodeId(2)), nullptr);
}

TEST(NodeRemoval, is_for_good_for_its_disks_and_not_for_its_id) {
  Catalog c = cluster(2);
  NodeRegistered replaced = node(2);
  replaced.incarnation = uuid(77);
  replaced.replace_disk = true;
  ASSERT_TRUE(apply(c, replaced));
  ASSERT_TRUE(apply(c, NodeRemoved{NodeId(2)}));
  const auto again = Catalog::decode_snapshot(c.encode_snapshot());
  ASSERT_TRUE(again);
  ASSERT_EQ(*again, c);
  for (Catalog each : {c, *again}) {
    for (const std::uint8_t disk : {std::uint8_t{77}, std::uint8_t{102}}) {
      for (const std::int32_t id : {2, 3}) {
        NodeRegistered back = node(id, 99);
        back.incarnation = uuid(disk);
        back.replace_disk = true;
        const auto refused = apply(each, back);
        EXPECT_EQ(code_of(refused), Code::kFenced);
        EXPECT_NE(refused.error().message.find("removed"), std::string::npos);
      }
    }
    NodeRegistered fresh = node(2);
    fresh.incarnation = uuid(78);
    EXPECT_TRUE(apply(each, fresh));
    EXPECT_TRUE(each.node(NodeId(2))->retired.empty());
  }
}

TEST(Invitation, lets_one_disk_in_and_no_other_once_it_has_come) {
  Catalog c = cluster(1);
  EXPECT_EQ(c.check_disk(NodeId(2), uuid(50)).error().code, Code::kNotFound);
  ASSERT_TRUE(apply(c, NodeInvited{NodeId(2), {}, "n2", 9093}));
  ASSERT_TRUE(apply(c, NodeInvited{NodeId(2), {}, "elsewhere", 9093}));
  EXPECT_EQ(c.invited().at(NodeId(2)).host, "elsewhere");
  const auto back = Catalog::decode_snapshot(c.encode_snapshot());
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, c);
  EXPECT_TRUE(c.check_disk(NodeId(2), uuid(50)));
  NodeRegistered comes = node(2);
  comes.incarnation = uuid(50);
  ASSERT_TRUE(apply(c, comes));
  EXPECT_TRUE(c.invited().empty());
  EXPECT_FALSE(c.check_disk(NodeId(2), uuid(51)));
  EXPECT_EQ(code_of(apply(c, NodeInvited{NodeId(2), {}, "n2", 9093})), Code::kAlreadyExists);
  // Of the first nodes of a cluster just one disk.
  ASSERT_TRUE(apply(c, NodeInvited{NodeId(3), uuid(60), "", 0}));
  comes = node(3);
  comes.incarnation = uuid(61);
  EXPECT_EQ(code_of(apply(c, comes)), Code::kFenced);
  ASSERT_TRUE(apply(c, NodeRemoved{NodeId(3)})) << "it may not come any more";
  EXPECT_TRUE(c.invited().empty());
  EXPECT_FALSE(apply(c, NodeInvited{NodeId(3), {}, "", 0}));
  EXPECT_FALSE(apply(c, NodeInvited{NodeId(0), {}, "n", 1}));
}

TEST(DiskRetirement, lets_another_disk_come_and_never_the_old_one) {
  Catalog c = cluster(2);
  const Uuid old = c.node(NodeId(2))->incarnation;
  EXPECT_EQ(code_of(apply(c, DiskRetired{NodeId(9), old})), Code::kNotFound);
  EXPECT_EQ(code_of(apply(c, DiskRetired{NodeId(2), uuid(9)})), Code::kFenced);
  ASSERT_TRUE(apply(c, DiskRetired{NodeId(2), old}));
  ASSERT_TRUE(apply(c, DiskRetired{NodeId(2), old})) << "once more";
  EXPECT_TRUE(c.node(NodeId(2))->lacks_disk());
  NodeRegistered back = node(2, 99);
  const auto refused = apply(c, back);
  EXPECT_EQ(code_of(refused), Code::kFenced);
  EXPECT_NE(refused.error().message.find(kWasReplaced), std::string::npos);
  back.incarnation = uuid(78);
  ASSERT_TRUE(apply(c, back));
  EXPECT_FALSE(c.node(NodeId(2))->lacks_disk());
  EXPECT_EQ(c.node(NodeId(2))->retired.size(), 1u);
  EXPECT_EQ(*Catalog::decode_snapshot(c.encode_snapshot()), c);
  EXPECT_FALSE(c.check_disk(NodeId(2), old));
}

TEST(NodeRemoval, remembers_the_last_disks_and_no_more) {
  Catalog c = cluster(1);
  const auto disk = [](std::uint32_t n) {
    Uuid id = uuid(9);
    store_be(id.bytes.data() + 4, n);
    return id;
  };
  const auto come_and_go = [&](std::uint32_t n) -> Result<void> {
    NodeRegistered one = node(2);
    one.incarnation = disk(n);
    PYRALOG_TRY(apply(c, one));
    return apply(c, NodeRemoved{NodeId(2)});
  };
  for (std::uint32_t n = 0; n < Catalog::kMaxRemoved; ++n) ASSERT_TRUE(come_and_go(n));
  EXPECT_FALSE(come_and_go(0));
  ASSERT_TRUE(come_and_go(5000));
  EXPECT_EQ(c.removed().size(), Catalog::kMaxRemoved);
  EXPECT_TRUE(come_and_go(0)) << "the oldest is forgotten";
  EXPECT_FALSE(come_and_go(2));
  EXPECT_TRUE(Catalog::decode_snapshot(c.encode_snapshot()));
}

TEST(NodeDraining, is_kept_over_starts_until_it_is_taken_back) {
  Catalog c = cluster(2);
  EXPECT_EQ(code_of(apply(c, NodeDraining{NodeId(3), true})), Code::kNotFound);
  const Bytes before = c.encode_snapshot();
  EXPECT_EQ(load_le<std::uint16_t>(before.data() + 8), 1);
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(2), true}));
  ASSERT_TRUE(apply(c, node(2, 2)));
  EXPECT_TRUE(c.node(NodeId(2))->draining);
  const auto back = Catalog::decode_snapshot(c.encode_snapshot());
  ASSERT_TRUE(back);
  EXPECT_TRUE(back->node(NodeId(2))->draining);
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(2), false}));
  EXPECT_FALSE(Catalog::decode_snapshot(c.encode_snapshot())->node(NodeId(2))->draining);
}

TEST(NodeRoles, an_obelisk_is_given_no_partition) {
  Catalog c = cluster(4);
  ASSERT_TRUE(apply(c, topic(1, "old", 1, ids({1, 2, 3}))));
  EXPECT_EQ(code_of(apply(c, NodeRoleSet{NodeId(2), NodeRole::kObelisk})), Code::kInvalidArgument)
      << "it holds a partition";
  EXPECT_EQ(code_of(apply(c, NodeRoleSet{NodeId(9), NodeRole::kObelisk})), Code::kNotFound);
  ASSERT_TRUE(apply(c, NodeRoleSet{NodeId(1), NodeRole::kPyramid}));
  ASSERT_TRUE(apply(c, NodeRoleSet{NodeId(4), NodeRole::kObelisk}));
  ASSERT_TRUE(apply(c, node(4, 2))) << "the role stays over a start";
  const auto back = Catalog::decode_snapshot(c.encode_snapshot());
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, c);
  EXPECT_EQ(back->node(NodeId(4))->role, NodeRole::kObelisk);
  CreateTopic request;
  request.name = "new";
  request.partitions = 12;
  const auto planned = plan_create_topic(request, c, WallMs{5}, uuid(50));
  ASSERT_TRUE(planned);
  for (const auto& replicas : planned->partitions) {
    EXPECT_EQ(replicas.size(), 3u);
    EXPECT_EQ(std::ranges::count(replicas, NodeId(4)), 0);
  }
  request.partitions = -1;
  request.assignment = {{0, ids({1, 4})}};
  const auto named = plan_create_topic(request, c, WallMs{5}, uuid(50));
  ASSERT_FALSE(named);
  EXPECT_NE(named.error().message.find("an obelisk"), std::string::npos);
  const auto moved = want(c, ids({1, 4}));
  EXPECT_EQ(code_of(moved), Code::kInvalidArgument);
  EXPECT_NE(moved.error().message.find("an obelisk"), std::string::npos);
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(2), true}));
  EXPECT_EQ(plan_drain(c, NodeId(2), 5).stuck, 1u) << "only the obelisk is left";
}

TEST(NodeDraining, nothing_new_is_placed_there) {
  Catalog c = cluster(4);
  ASSERT_TRUE(apply(c, topic(1, "old", 1, ids({1, 2, 3}))));
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(2), true}));
  CreateTopic request;
  request.name = "new";
  request.partitions = 12;
  const auto planned = plan_create_topic(request, c, WallMs{5}, uuid(50));
  ASSERT_TRUE(planned);
  auto placed = planned->partitions;
  const auto more = plan_create_partitions({"old", 9, {}}, c);
  ASSERT_TRUE(more);
  placed.insert(placed.end(), more->partitions.begin(), more->partitions.end());
  for (const auto& replicas : placed) {
    EXPECT_EQ(replicas.size(), 3u);
    EXPECT_EQ(std::ranges::count(replicas, NodeId(2)), 0);
  }
  request.partitions = -1;
  request.assignment = {{0, ids({1, 2})}};
  EXPECT_EQ(plan_create_topic(request, c, WallMs{5}, uuid(50)).error().code,
            KafkaError::kInvalidReplicaAssignment);
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(4), true}));
  request.assignment = {};
  request.replication_factor = 3;
  const auto refused = plan_create_topic(request, c, WallMs{5}, uuid(50));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, KafkaError::kInvalidReplicationFactor);
  EXPECT_NE(refused.error().message.find("node 2, 4 (draining)"), std::string::npos);
  EXPECT_EQ(plan_create_partitions({"old", 9, {}}, c).error().code,
            KafkaError::kInvalidReplicationFactor);
  request.replication_factor = -1;
  EXPECT_TRUE(plan_create_topic(request, c, WallMs{5}, uuid(50))) << "on the two that are left";
}

TEST(PlanReassign, answers_with_kafkas_codes) {
  Catalog c = with_topic(4, ids({1, 2}));
  const auto code = [&](const char* name, std::int32_t index, std::optional<Nodes> replicas) {
    const auto planned = plan_reassign(name, index, replicas, c);
    if (planned) {
      EXPECT_TRUE(apply(c, *planned));
    } else {
      EXPECT_FALSE(planned.error().message.empty());
    }
    return planned ? KafkaError::kNone : planned.error().code;
  };
  EXPECT_EQ(code("b", 0, ids({1})), KafkaError::kUnknownTopicOrPartition);
  EXPECT_EQ(code("a", 1, ids({1})), KafkaError::kUnknownTopicOrPartition);
  EXPECT_EQ(code("a", -1, std::nullopt), KafkaError::kUnknownTopicOrPartition);
  EXPECT_EQ(code("a", 0, std::nullopt), KafkaError::kNoReassignmentInProgress);
  for (const Nodes& bad : {ids({}), ids({1, 1}), ids({9}), Nodes(65, NodeId(1))}) {
    EXPECT_EQ(code("a", 0, bad), KafkaError::kInvalidReplicaAssignment);
  }
  ASSERT_TRUE(activate(c, ids({1, 2}), 2));
  EXPECT_EQ(code("a", 0, ids({3, 4})), KafkaError::kNone);
  EXPECT_EQ(partition(c).target, ids({3, 4}));
  EXPECT_EQ(code("a", 0, std::nullopt), KafkaError::kNone);
  EXPECT_EQ(partition(c).target, Nodes());
}

TEST(EntryOfLevel3, has_fixed_bytes) {
  EXPECT_EQ(encode_entry(NodeDraining{NodeId(3), true}), (Bytes{16, 0, 1, 0, 3, 0, 3, 0, 0, 0, 1}));
  EXPECT_EQ(encode_entry(NodeRemoved{NodeId(3)}), (Bytes{17, 0, 1, 0, 3, 0, 3, 0, 0, 0}));
  EXPECT_EQ(encode_entry(FeatureLevelRaised{3}), (Bytes{20, 0, 1, 0, 3, 0, 3, 0}));
  const Bytes wanted = encode_entry(ReplicasWanted{partition_id(1, 2), ids({4, 5})});
  EXPECT_EQ(ByteView(wanted).first(6)[0], 15);
  EXPECT_EQ(Bytes(wanted.begin() + 22, wanted.end()),
            (Bytes{2, 0, 0, 0, 2, 4, 0, 0, 0, 5, 0, 0, 0}));
}

}  // namespace
}  // namespace pyralog::catalog
