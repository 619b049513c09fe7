#include <gtest/gtest.h>

#include "group/assignor.h"
#include "group/group_testing.h"

namespace pyralog::group {
namespace {

using namespace testing;
using enum KafkaError;

JoinRequest subscribed(JoinRequest r, std::vector<std::string> topics,
                       std::int32_t generation = -1) {
  Subscription s;
  s.topics = std::move(topics);
  s.generation = generation;
  r.protocols = {Protocol{"range", encode(s)}};
  return r;
}

/// Two static members "a" (leading) and "b" in stable generation 1.
struct Pair {
  Coordinator c;
  std::string a = "a-1";
  std::string b = "b-2";
  explicit Pair(int version = 5) {
    c.feed(subscribed(join_static(1, "a", {}, version), {"t"}));
    c.feed(subscribed(join_static(2, "b", {}, version), {"t"}));
    c.pass(6'000);
    PYRALOG_ASSERT(c.reply<JoinResponse>(1)->leader == a);
    PYRALOG_ASSERT(c.reply<JoinResponse>(2)->generation == 1);
    c.feed(sync(3, 1, b));
    c.feed(sync(4, 1, a, {{a, bytes("A")}, {b, bytes("B")}}));
    PYRALOG_ASSERT(c.reply<SyncResponse>(3)->assignment == bytes("B"));
    PYRALOG_ASSERT(c.reply<SyncResponse>(4)->assignment == bytes("A"));
  }
};

TEST(StaticMember, a_restart_keeps_generation_and_assignment) {
  Pair p;
  p.c.hold = true;
  p.c.feed(subscribed(join_static(10, "b"), {"t"}, 7));
  EXPECT_TRUE(p.c.replies.empty()) << "not before the new id is stored";
  p.c.release();
  const auto joined = p.c.reply<JoinResponse>(10);
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->error, kNone);
  EXPECT_EQ(joined->generation, 1);
  EXPECT_EQ(joined->member_id, "b-10");
  p.c.feed(sync(11, 1, "b-10"));
  EXPECT_EQ(p.c.reply<SyncResponse>(11)->assignment, bytes("B"));
}

TEST(StaticMember, the_one_before_is_fenced) {
  Pair p;
  p.c.feed(subscribed(join_static(10, "b"), {"t"}));
  HeartbeatRequest beat = heartbeat(11, 1, p.b);
  beat.instance_id = "b";
  p.c.feed(beat);
  EXPECT_EQ(p.c.reply<HeartbeatResponse>(11)->error, kFencedInstanceId);
  CommitRequest late = commit(12, 1, p.b, 5);
  late.instance_id = "b";
  p.c.feed(late);
  EXPECT_EQ(p.c.reply<CommitResponse>(12)->partitions[0].error, kFencedInstanceId);
  SyncRequest again = sync(13, 1, p.b);
  again.instance_id = "b";
  p.c.feed(again);
  EXPECT_EQ(p.c.reply<SyncResponse>(13)->error, kFencedInstanceId);
  JoinRequest back = subscribed(join_static(14, "b", p.b), {"t"});
  p.c.feed(back);
  EXPECT_EQ(p.c.reply<JoinResponse>(14)->error, kFencedInstanceId);
  p.c.feed(heartbeat(15, 1, p.b));
  EXPECT_EQ(p.c.reply<HeartbeatResponse>(15)->error, kUnknownMemberId) << "without its instance id";
}

TEST(StaticMember, the_fence_holds_when_the_coordinator_moves) {
  Pair p;
  p.c.feed(subscribed(join_static(10, "b"), {"t"}));
  p.c.restart();
  HeartbeatRequest beat = heartbeat(11, 1, p.b);
  beat.instance_id = "b";
  p.c.feed(beat);
  EXPECT_EQ(p.c.reply<HeartbeatResponse>(11)->error, kFencedInstanceId);
  beat = heartbeat(12, 1, "b-10");
  beat.instance_id = "b";
  p.c.feed(beat);
  EXPECT_EQ(p.c.reply<HeartbeatResponse>(12)->error, kNone);
}

TEST(StaticMember, a_twin_that_waits_to_join_is_fenced) {
  Coordinator c;
  c.feed(join_static(1, "a"));
  c.feed(join_static(2, "a"));
  EXPECT_EQ(c.reply<JoinResponse>(1)->error, kFencedInstanceId);
  c.pass(6'000);
  EXPECT_EQ(c.reply<JoinResponse>(2)->error, kNone);
}

TEST(StaticMember, other_topics_are_a_rebalance) {
  Pair p;
  p.c.feed(subscribed(join_static(10, "b"), {"t", "u"}));
  EXPECT_FALSE(p.c.reply<JoinResponse>(10));
  EXPECT_EQ(p.c.table().describe("g").state, "PreparingRebalance");
  p.c.feed(subscribed(join_static(11, "a", p.a), {"t"}));
  EXPECT_EQ(p.c.reply<JoinResponse>(10)->generation, 2);
}

TEST(StaticMember, a_returning_leader_is_told_to_skip_the_assignment_or_of_its_old_self) {
  Pair modern(9);
  modern.c.feed(subscribed(join_static(10, "a", {}, 9), {"t"}));
  const auto skips = modern.c.reply<JoinResponse>(10);
  EXPECT_TRUE(skips->skip_assignment);
  EXPECT_EQ(skips->leader, "a-10");
  EXPECT_EQ(skips->members.size(), 2u);
  Pair old(5);
  old.c.feed(subscribed(join_static(10, "a"), {"t"}));
  const auto follows = old.c.reply<JoinResponse>(10);
  EXPECT_FALSE(follows->skip_assignment);
  EXPECT_EQ(follows->leader, "a-1");
  EXPECT_TRUE(follows->members.empty());
}

TEST(StaticMember, a_restart_that_cannot_be_stored_is_undone) {
  Pair p;
  p.c.hold = true;
  p.c.feed(subscribed(join_static(10, "b"), {"t"}));
  p.c.release(kNotLeaderOrFollower);
  EXPECT_EQ(p.c.reply<JoinResponse>(10)->error, kNotCoordinator);
  HeartbeatRequest beat = heartbeat(11, 1, p.b);
  beat.instance_id = "b";
  p.c.feed(beat);
  EXPECT_EQ(p.c.reply<HeartbeatResponse>(11)->error, kNone) << "the old one is valid again";
}

TEST(StaticMember, while_the_leader_assigns_a_restart_is_a_rebalance) {
  Coordinator c;
  c.feed(join_static(1, "a"));
  c.feed(join_static(2, "b"));
  c.pass(6'000);
  c.feed(sync(3, 1, "b-2"));
  c.feed(join_static(4, "b"));
  EXPECT_EQ(c.reply<SyncResponse>(3)->error, kFencedInstanceId);
  EXPECT_EQ(c.table().describe("g").state, "PreparingRebalance");
}

TEST(StaticMember, who_never_syncs_is_answered_though_its_restart_is_still_being_stored) {
  Coordinator c;
  c.feed(subscribed(join_static(1, "a"), {"t"}));
  c.feed(subscribed(join_static(2, "b"), {"t"}));
  c.pass(6'000);
  c.feed(sync(3, 1, "a-1", {{"a-1", bytes("A")}, {"b-2", bytes("B")}}));
  ASSERT_EQ(c.table().describe("g").state, "Stable");
  c.hold = true;
  c.feed(subscribed(join_static(10, "b"), {"t"}));
  for (int i = 0; i < 12; ++i) {
    c.feed(heartbeat(100 + static_cast<Token>(i), 1, "a-1"));
    c.pass(5'000);
  }
  ASSERT_EQ(c.table().describe("g").state, "PreparingRebalance") << "b has not synced in time";
  const auto told = c.reply<JoinResponse>(10);
  ASSERT_TRUE(told) << "nobody else will answer it";
  EXPECT_EQ(told->error, kUnknownMemberId);
  c.release();
  EXPECT_EQ(c.answered_twice, 0u);
}

TEST(StaticMember, leaves_only_by_instance_id_or_expiry) {
  Pair p;
  p.c.feed(leave(10, "", "b"));
  EXPECT_EQ(p.c.reply<LeaveResponse>(10)->members[0].error, kNone);
  p.c.feed(leave(11, "", "b"));
  EXPECT_EQ(p.c.reply<LeaveResponse>(11)->members[0].error, kUnknownMemberId);
  p.c.feed(leave(12, "someone", "a"));
  EXPECT_EQ(p.c.reply<LeaveResponse>(12)->members[0].error, kFencedInstanceId);
  EXPECT_EQ(p.c.table().describe("g").members.size(), 1u);
}

TEST(StaticMember, a_rebalance_keeps_its_place_until_the_session_ends) {
  Pair p;
  p.c.feed(subscribed(join(20, {}, 3), {"t"}));
  p.c.feed(subscribed(join_static(21, "a", p.a), {"t"}));
  for (int i = 0; i < 2; ++i) {
    p.c.pass(4'000);
    HeartbeatRequest beat = heartbeat(30 + static_cast<Token>(i), 1, p.b);
    p.c.feed(beat);
  }
  EXPECT_FALSE(p.c.reply<JoinResponse>(20)) << "b is waited for";
  p.c.pass(10'000);
  EXPECT_EQ(p.c.reply<JoinResponse>(20)->generation, 2);
  EXPECT_EQ(p.c.table().describe("g").members.size(), 2u);
}

}  // namespace
}  // namespace pyralog::group
