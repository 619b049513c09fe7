#include "cluster/first_start.h"

#include <gtest/gtest.h>

namespace pyralog::cluster {
namespace {

using Kind = FirstStart::Kind;

Uuid disk(std::uint8_t n) {
  Uuid out;
  out.bytes[0] = n;
  return out;
}

const std::vector<Member> kThree{
    {NodeId(1), {"a", 1}}, {NodeId(2), {"b", 1}}, {NodeId(3), {"c", 1}}};

FirstStart first(std::map<NodeId, Seen> seen, bool waited_long = false, NodeId self = NodeId(1)) {
  return decide_first_start(self, disk(1), kThree, seen, waited_long);
}

TEST(FirstStart, a_cluster_begins_once_all_whom_the_command_line_names_have_not_begun) {
  EXPECT_EQ(first({}).kind, Kind::kWait);
  EXPECT_EQ(first({{NodeId(2), {disk(2), {}}}}).kind, Kind::kWait);
  EXPECT_EQ(first({{NodeId(2), {disk(2), {}}}}, true).kind, Kind::kWait) << "however long it takes";
  const auto begins = first({{NodeId(2), {disk(2), {}}}, {NodeId(3), {disk(3), {}}}});
  EXPECT_EQ(begins.kind, Kind::kBegin);
  EXPECT_EQ(begins.cluster,
            cluster_of({{NodeId(1), disk(1)}, {NodeId(2), disk(2)}, {NodeId(3), disk(3)}}));
  // Who has been faster with the same disks is of the same cluster.
  const auto second = first({{NodeId(2), {disk(2), begins.cluster}}, {NodeId(3), {disk(3), {}}}});
  EXPECT_EQ(second.kind, Kind::kBegin);
  EXPECT_EQ(second.cluster, begins.cluster);
}

TEST(FirstStart, a_cluster_that_began_with_other_disks_is_joined) {
  const Uuid with_old =
      cluster_of({{NodeId(1), disk(9)}, {NodeId(2), disk(2)}, {NodeId(3), disk(3)}});
  const std::map<NodeId, Seen> both{{NodeId(2), {disk(2), with_old}}, {NodeId(3), {disk(3), {}}}};
  EXPECT_EQ(first(both).kind, Kind::kJoin);
  EXPECT_EQ(first(both).cluster, with_old);
  const std::map<NodeId, Seen> one{{NodeId(2), {disk(2), with_old}}};
  EXPECT_EQ(first(one).kind, Kind::kWait) << "the third may be about to begin with this disk";
  EXPECT_EQ(first(one, true).kind, Kind::kJoin);
}

TEST(FirstStart, who_is_not_named_only_ever_joins) {
  const std::map<NodeId, Seen> none{
      {NodeId(1), {disk(1), {}}}, {NodeId(2), {disk(2), {}}}, {NodeId(3), {disk(3), {}}}};
  EXPECT_EQ(first(none, true, NodeId(4)).kind, Kind::kWait);
  EXPECT_EQ(first({{NodeId(2), {disk(2), disk(77)}}}, false, NodeId(4)).kind, Kind::kJoin);
}

TEST(FirstStart, what_a_cluster_begins_with_expects_its_first_disks_and_no_others) {
  const catalog::Catalog state = first_catalog({{NodeId(1), disk(1)}, {NodeId(2), disk(2)}});
  EXPECT_FALSE(state.cluster().is_nil());
  EXPECT_TRUE(state.nodes().empty());
  EXPECT_TRUE(state.check_disk(NodeId(2), disk(2)));
  EXPECT_EQ(state.check_disk(NodeId(2), disk(3)).error().code, Code::kFenced);
  EXPECT_EQ(state.check_disk(NodeId(4), disk(3)).error().code, Code::kNotFound);
  EXPECT_EQ(*catalog::Catalog::decode_snapshot(state.encode_snapshot()), state);
}

TEST(FirstStart, a_cluster_begins_with_what_all_of_its_nodes_understand) {
  const std::map<NodeId, Uuid> disks{
      {NodeId(1), disk(1)}, {NodeId(2), disk(2)}, {NodeId(3), disk(3)}};
  const auto begins = first({{NodeId(2), {disk(2), {}, 2}}, {NodeId(3), {disk(3), {}, 3}}});
  ASSERT_EQ(begins.kind, Kind::kBegin);
  EXPECT_EQ(begins.level, 2) << "plant: cluster.begin_with_own_level";
  EXPECT_EQ(begins.cluster, cluster_of(disks, 2));
  const auto pinned =
      decide_first_start(NodeId(1), disk(1), kThree,
                         {{NodeId(2), {disk(2), {}}}, {NodeId(3), {disk(3), {}}}}, false, 2);
  EXPECT_EQ(pinned.level, 2);
  EXPECT_EQ(pinned.cluster, begins.cluster);
  // Who was taken for a newer one while another began is not of the same cluster.
  EXPECT_NE(cluster_of(disks, 2), cluster_of(disks, 3));
  const auto other =
      first({{NodeId(2), {disk(2), begins.cluster, 3}}, {NodeId(3), {disk(3), {}, 3}}});
  EXPECT_EQ(other.kind, Kind::kJoin);
  EXPECT_EQ(other.cluster, begins.cluster);
}

TEST(FirstStart, of_an_older_level_expects_its_first_disks_and_no_others_as_well) {
  const catalog::Catalog state = first_catalog({{NodeId(1), disk(1)}, {NodeId(2), disk(2)}}, 2);
  const auto read = catalog::Catalog::decode_snapshot(state.encode_snapshot(), 2);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, state);
  EXPECT_TRUE(state.check_disk(NodeId(2), disk(2)));
  EXPECT_EQ(state.check_disk(NodeId(2), disk(3)).error().code, Code::kFenced);
  EXPECT_EQ(state.check_disk(NodeId(4), disk(3)).error().code, Code::kNotFound);
}

}  // namespace
}  // namespace pyralog::cluster
