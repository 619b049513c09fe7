#include "cluster/voters.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pyralog::cluster {
namespace {

using raft::ConfigChange;
using Kind = ConfigChange::Kind;
using Steps = std::vector<ConfigChange::Step>;

std::vector<NodeId> ids(std::initializer_list<std::int32_t> nodes) {
  std::vector<NodeId> out;
  for (const auto each : nodes) out.emplace_back(each);
  return out;
}

/// All are up and have caught up.
VoterView of(std::initializer_list<std::int32_t> voters,
             std::initializer_list<std::int32_t> learners, std::int32_t nodes) {
  VoterView view;
  view.self = *ids(voters).begin();
  view.config.voters = ids(voters);
  view.config.learners = ids(learners);
  for (std::int32_t i = 1; i <= nodes; ++i) {
    VoterNode node;
    node.id = NodeId(i);
    node.up = node.caught_up = true;
    view.nodes.push_back(node);
  }
  return view;
}
VoterNode& at(VoterView& view, std::int32_t i) {
  return view.nodes[static_cast<std::size_t>(i - 1)];
}
Steps steps(const VoterView& view) {
  const auto change = next_change(view);
  return change ? change->steps : Steps{};
}

TEST(Voters, three_or_five_vote) {
  const std::size_t wanted[] = {0, 1, 2, 3, 3, 5, 5, 5};
  for (std::size_t n = 0; n < 8; ++n) EXPECT_EQ(wanted_voters(n), wanted[n]) << n;
}

TEST(Voters, a_node_that_comes_learns_first_and_votes_once_it_has_caught_up) {
  VoterView view = of({1}, {}, 2);
  EXPECT_EQ(steps(view), (Steps{{Kind::kAddLearner, NodeId(2)}}));
  at(view, 2).up = false;
  EXPECT_EQ(steps(view), Steps{});
  view = of({1}, {2}, 2);
  at(view, 2).caught_up = false;
  EXPECT_EQ(steps(view), Steps{}) << "cluster.promote_at_once";
  at(view, 2).caught_up = true;
  EXPECT_EQ(steps(view), (Steps{{Kind::kAddVoter, NodeId(2)}}));
}

TEST(Voters, a_fourth_and_a_sixth_only_learn) {
  EXPECT_EQ(steps(of({1, 2, 3}, {4}, 4)), Steps{});
  EXPECT_EQ(steps(of({1, 2, 3, 4, 5}, {6}, 6)), Steps{});
}

TEST(Voters, the_fourth_and_the_fifth_come_together) {
  VoterView view = of({1, 2, 3}, {4, 5}, 5);
  EXPECT_EQ(steps(view), (Steps{{Kind::kAddVoter, NodeId(4)}, {Kind::kAddVoter, NodeId(5)}}));
  at(view, 5).caught_up = false;
  EXPECT_EQ(steps(view), Steps{}) << "four bear no more losses than three";
}

TEST(Voters, one_that_drains_gives_its_place_to_one_that_has_caught_up) {
  VoterView view = of({1, 2, 3}, {4}, 4);
  at(view, 2).leaving = true;
  EXPECT_EQ(steps(view), (Steps{{Kind::kAddVoter, NodeId(4)}, {Kind::kAddLearner, NodeId(2)}}));
  at(view, 4).caught_up = false;
  EXPECT_EQ(steps(view), Steps{});
  at(view, 4).caught_up = true;
  at(view, 4).leaving = true;
  EXPECT_EQ(steps(view), Steps{});
}

TEST(Voters, one_that_is_down_keeps_its_place_for_long) {
  VoterView view = of({1, 2, 3}, {4}, 4);
  at(view, 3).up = false;
  EXPECT_EQ(steps(view), Steps{});
  at(view, 3).gone_long = true;
  EXPECT_EQ(steps(view), (Steps{{Kind::kAddVoter, NodeId(4)}, {Kind::kAddLearner, NodeId(3)}}));
}

TEST(Voters, more_than_are_wanted_become_fewer) {
  VoterView view = of({1, 2, 3, 4}, {}, 4);
  EXPECT_EQ(steps(view), (Steps{{Kind::kAddLearner, NodeId(4)}}));
  at(view, 2).up = false;
  EXPECT_EQ(steps(view), (Steps{{Kind::kAddLearner, NodeId(2)}}));
  at(view, 3).leaving = true;
  EXPECT_EQ(steps(view), (Steps{{Kind::kAddLearner, NodeId(3)}}));
}

TEST(Voters, first_disks_that_have_not_come_are_waited_for) {
  VoterView view = of({1, 2, 3}, {}, 2);
  EXPECT_EQ(steps(view), Steps{});
}

TEST(Voters, who_is_taken_out_leaves_a_majority_that_is_up) {
  VoterView view = of({1, 2, 3}, {}, 3);
  at(view, 3).up = false;
  EXPECT_EQ((*change_without(view, NodeId(3)))->steps, (Steps{{Kind::kRemove, NodeId(3)}}));
  EXPECT_EQ(change_without(view, NodeId(2)).error().code, Code::kUnavailable);
  EXPECT_EQ(change_without(view, NodeId(1)).error().code, Code::kUnavailable) << "it leads";
  EXPECT_FALSE(*change_without(view, NodeId(9)));
  view = of({1, 2, 3}, {4}, 4);
  EXPECT_EQ((*change_without(view, NodeId(3)))->steps,
            (Steps{{Kind::kRemove, NodeId(3)}, {Kind::kAddVoter, NodeId(4)}}));
  view.config.outgoing = ids({1, 2});
  EXPECT_FALSE(change_without(view, NodeId(3)));
  EXPECT_EQ(steps(view), Steps{});
}

/// All views of up to five nodes, each in one of so many states, and of each leader.
TEST(Voters, no_change_of_any_small_view_loses_the_majority_or_makes_a_stranger_vote) {
  enum State { kNone, kLearner, kVoter, kStates };
  for (int n = 1; n <= 5; ++n) {
    int all = 1;
    for (int i = 0; i < n; ++i) all *= kStates * 2 * 2 * 2;
    for (int code = 0; code < all; code += n == 5 ? 37 : 1) {
      VoterView view;
      int rest = code;
      for (int i = 1; i <= n; ++i) {
        VoterNode node;
        node.id = NodeId(i);
        const int state = rest % kStates;
        rest /= kStates;
        node.up = rest % 2 == 0;
        node.caught_up = rest / 2 % 2 == 0;
        node.leaving = rest / 4 % 2 == 0;
        node.gone_long = !node.up && node.caught_up;
        rest /= 8;
        if (state == kLearner) view.config.learners.push_back(node.id);
        if (state == kVoter) view.config.voters.push_back(node.id);
        if (state == kVoter && node.up && view.self == NodeId(0)) view.self = node.id;
        view.nodes.push_back(node);
      }
      if (view.self == NodeId(0)) continue;
      const auto up = [&](NodeId id) {
        return std::ranges::find(view.nodes, id, &VoterNode::id)->up;
      };
      const auto majority_of = [&](const std::vector<NodeId>& voters) {
        return 2 * static_cast<std::size_t>(std::ranges::count_if(voters, up)) > voters.size();
      };
      if (!majority_of(view.config.voters)) continue;  // nobody leads
      const auto change = next_change(view);
      if (!change) continue;
      const auto next = raft::changed(view.config, *change);
      ASSERT_TRUE(next) << code;
      ASSERT_TRUE(majority_of(next->voters)) << code;
      for (const NodeId id : next->voters) {
        const VoterNode& node = *std::ranges::find(view.nodes, id, &VoterNode::id);
        const bool before = std::ranges::binary_search(view.config.voters, id);
        ASSERT_TRUE(before || (node.up && node.caught_up && view.config.is_learner(id))) << code;
      }
    }
  }
}

}  // namespace
}  // namespace pyralog::cluster
