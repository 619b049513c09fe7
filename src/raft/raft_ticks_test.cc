// What time does to a member, and when it does nothing.
#include "raft/raft_members_testing.h"

namespace pyralog::raft {
namespace {

class RaftTicks : public RaftTest {};

TEST_F(RaftTicks, ticks_that_are_idle_say_nothing_and_the_next_does) {
  options_.heartbeat_ticks = 4;
  group(3);
  elect(1);
  for (int i = 0; i < 100; ++i) {
    const unsigned idle = at(1).idle_ticks();
    for (unsigned k = 0; k < idle; ++k) {
      at(1).tick();
      ASSERT_FALSE(at(1).has_ready());
    }
    at(1).tick();
    settle();
    if (idle > 0) EXPECT_LE(idle, 3U);
  }
  EXPECT_EQ(at(1).role(), Role::kLeader) << "the others were heard in time";
  while (at(1).idle_ticks() == 0) tick();
  at(1).read(7);
  EXPECT_EQ(at(1).idle_ticks(), 0U);
  tick();
  EXPECT_TRUE(member(1).reads.contains(7)) << "who reads does not wait for the heartbeat";
  for (int i = 0; i < 20; ++i) {
    const unsigned idle = at(2).idle_ticks();
    ASSERT_GE(idle + 1, options_.election_ticks);
    for (unsigned k = 0; k < idle; ++k) {
      at(2).tick();
      ASSERT_FALSE(at(2).has_ready());
    }
    cut_ = {2};
    at(2).tick();
    EXPECT_EQ(at(2).role(), Role::kPreCandidate);
    settle();
    cut_ = {};
    for (int k = 0; k < 4; ++k) at(1).tick();
    settle();
    ASSERT_EQ(at(2).role(), Role::kFollower);
  }
}

TEST_F(RaftTicks, a_learner_that_hears_nothing_knows_of_no_leader) {
  const Config config{.voters = {NodeId(1), NodeId(2), NodeId(3)}, .learners = {NodeId(4)}};
  for (int i = 1; i <= 4; ++i) add(i, config);
  elect(1);
  tick(3);
  ASSERT_EQ(at(4).leader(), NodeId(1));
  cut_ = {4};
  tick(30);
  EXPECT_EQ(at(4).leader(), kNobody);
  EXPECT_EQ(at(4).role(), Role::kFollower);
  cut_ = {};
  tick(3);
  EXPECT_EQ(at(4).leader(), NodeId(1));
}

}  // namespace
}  // namespace pyralog::raft
