#include "raft/config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace pyralog::raft {
namespace {

using Kind = ConfigChange::Kind;
using Transition = ConfigChange::Transition;

std::vector<NodeId> nodes(std::initializer_list<int> ids) {
  std::vector<NodeId> out;
  for (const int id : ids) out.emplace_back(id);
  return out;
}

Config voters(std::initializer_list<int> ids) {
  return {.voters = nodes(ids)};
}

TEST(RaftConfig, one_voter_at_a_time_needs_no_joint_phase) {
  const auto added = changed(voters({1, 2, 3}), {.steps = {{Kind::kAddVoter, NodeId(4)}}});
  EXPECT_EQ(added, voters({1, 2, 3, 4}));
  const auto learner = changed(*added, {.steps = {{Kind::kAddLearner, NodeId(2)}}});
  EXPECT_EQ(learner, (Config{.voters = nodes({1, 3, 4}), .learners = nodes({2})}));
  EXPECT_EQ(changed(*learner, {.steps = {{Kind::kRemove, NodeId(2)}}}), voters({1, 3, 4}));
}

TEST(RaftConfig, several_voters_change_jointly) {
  const ConfigChange swap{.steps = {{Kind::kAddVoter, NodeId(4)},
                                    {Kind::kRemove, NodeId(1)},
                                    {Kind::kAddLearner, NodeId(2)}}};
  const auto joint = changed(voters({1, 2, 3}), swap);
  EXPECT_EQ(joint, (Config{.voters = nodes({3, 4}),
                           .outgoing = nodes({1, 2, 3}),
                           .next_learners = nodes({2}),
                           .leaves_by_itself = true}));
  EXPECT_FALSE(changed(*joint, swap)) << "one at a time";
  EXPECT_EQ(changed(*joint, {}), (Config{.voters = nodes({3, 4}), .learners = nodes({2})}));
  EXPECT_FALSE(changed(voters({1}), {})) << "there is nothing to end";
}

TEST(RaftConfig, refuses_what_leaves_nobody_or_is_ambiguous) {
  EXPECT_FALSE(changed(voters({1}), {.steps = {{Kind::kRemove, NodeId(1)}}}));
  EXPECT_FALSE(
      changed(voters({1}), {.steps = {{Kind::kAddVoter, NodeId(2)}, {Kind::kRemove, NodeId(2)}}}));
  EXPECT_FALSE(changed(voters({1}), {.steps = {{Kind::kAddVoter, NodeId(0)}}}));
}

TEST(RaftConfig, any_two_majorities_that_may_decide_side_by_side_meet) {
  std::mt19937 random(1);
  for (int round = 0; round < 2'000; ++round) {
    Config config;
    const int count = 1 + static_cast<int>(random() % 7);
    for (int i = 1; i <= count; ++i) config.voters.emplace_back(i);
    ConfigChange change;
    for (int i = 1; i <= 8; ++i) {
      if (random() % 3 == 0) change.steps.push_back({static_cast<Kind>(random() % 3), NodeId(i)});
    }
    if (change.steps.empty()) continue;
    const auto next = changed(config, change);
    if (!next) continue;
    // Disjoint sets of nodes: not both may be majorities, in whichever of the two configurations
    // each acts.
    const auto mask = random() % 256;
    const auto one = [&](NodeId node) { return (mask >> (node.value - 1) & 1U) != 0; };
    const auto other = [&](NodeId node) { return !one(node); };
    EXPECT_FALSE(is_majority(config, one) && is_majority(*next, other));
    EXPECT_FALSE(is_majority(*next, one) && is_majority(*next, other));
    if (!next->joint()) continue;
    const auto after = changed(*next, {});
    ASSERT_TRUE(after);
    EXPECT_FALSE(is_majority(*next, one) && is_majority(*after, other));
  }
}

TEST(RaftConfig, an_index_is_agreed_once_each_majority_has_it) {
  const auto match = [](NodeId node) { return Index(static_cast<std::uint64_t>(node.value) * 10); };
  EXPECT_EQ(agreed(voters({1}), match), Index(10));
  EXPECT_EQ(agreed(voters({1, 2}), match), Index(10));
  EXPECT_EQ(agreed(voters({1, 2, 3}), match), Index(20));
  EXPECT_EQ(agreed(voters({1, 2, 3, 4}), match), Index(20));
  EXPECT_EQ(agreed({.voters = nodes({4, 5, 6}), .outgoing = nodes({1, 2, 3})}, match), Index(20));
  EXPECT_EQ(tally(voters({1, 2, 3}), {{NodeId(1), true}}), Tally::kPending);
  EXPECT_EQ(tally(voters({1, 2, 3}), {{NodeId(1), false}, {NodeId(2), false}}), Tally::kLost);
  EXPECT_EQ(tally(voters({1, 2, 3}), {{NodeId(1), true}, {NodeId(4), true}}), Tally::kPending)
      << "no voter";
}

TEST(RaftConfig, bytes_come_back_and_others_are_refused) {
  const ConfigChange change{
      .transition = Transition::kJointAndStay,
      .steps = {{Kind::kAddVoter, NodeId(4)}, {Kind::kRemove, NodeId(70'000)}}};
  Bytes bytes = encode(change);
  EXPECT_EQ(decode_config_change(bytes), change);
  bytes.pop_back();
  EXPECT_EQ(decode_config_change(bytes).error().code, Code::kCorrupt);
  bytes[0] = 2;
  EXPECT_EQ(decode_config_change(bytes).error().code, Code::kUnsupported);
  const Config config{.voters = nodes({3, 4}),
                      .outgoing = nodes({1, 2, 3}),
                      .next_learners = nodes({2}),
                      .leaves_by_itself = true};
  EXPECT_EQ(decode_config(encode(config)), config);
  EXPECT_FALSE(decode_config({}));
}

}  // namespace
}  // namespace pyralog::raft
