#include "raft/raft.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "raft/raft_members_testing.h"

namespace pyralog::raft {
namespace {

using Kind = ConfigChange::Kind;

TEST_F(RaftTest, replicates_what_is_proposed_in_order) {
  group(3);
  elect(1);
  for (const char* each : {"a", "b", "c"}) ASSERT_TRUE(at(1).propose(text(each)));
  settle();
  for (int id = 1; id <= 3; ++id)
    EXPECT_EQ(member(id).applied, (std::vector<std::string>{"", "a", "b", "c"}));
  EXPECT_EQ(at(2).propose(text("d")).error().code, Code::kUnavailable);
  EXPECT_NE(at(2).propose(text("d")).error().message.find("node 1 leads"), std::string::npos);
}

TEST_F(RaftTest, a_lone_member_commits_what_is_durable_and_nothing_before) {
  group(1);
  elect(1);
  member(1).slow_disk = true;
  ASSERT_TRUE(at(1).propose(text("a")));
  settle();
  EXPECT_EQ(member(1).applied.size(), 1U);
  store(1);
  settle();
  EXPECT_EQ(member(1).applied.back(), "a");
}

TEST_F(RaftTest, a_leader_counts_itself_once_its_log_is_durable) {
  group(3);
  elect(1);
  cut_ = {3};
  member(1).slow_disk = true;
  ASSERT_TRUE(at(1).propose(text("a")));
  settle();
  EXPECT_EQ(at(2).log().last(), Index(2)) << "it is sent before that";
  EXPECT_EQ(at(1).log().committed(), Index(1));
  store(1);
  settle();
  EXPECT_EQ(at(1).log().committed(), Index(2));
}

TEST_F(RaftTest, acknowledges_only_what_is_durable) {
  group(3);
  elect(1);
  cut_ = {3};
  member(2).slow_disk = true;
  ASSERT_TRUE(at(1).propose(text("a")));
  settle();
  EXPECT_EQ(at(1).log().committed(), Index(1)) << "node 2 has it in memory";
  store(2);
  settle();
  EXPECT_EQ(at(1).log().committed(), Index(2));
}

TEST_F(RaftTest, a_leader_that_reaches_no_majority_steps_down) {
  group(3);
  elect(1);
  tick(3);
  cut_ = {1};
  tick(30);
  EXPECT_NE(at(1).role(), Role::kLeader);
  EXPECT_EQ(at(1).propose(text("a")).error().code, Code::kUnavailable);
}

TEST_F(RaftTest, who_may_not_lead_begins_no_election_and_takes_no_lead) {
  group(3);
  elect(1);
  at(2).may_lead(false);
  ASSERT_TRUE(at(1).transfer_to(NodeId(2)));
  settle();
  EXPECT_EQ(at(1).role(), Role::kLeader) << "it was not taken";
  cut_ = {1};
  at(3).may_lead(false);
  tick(100);
  EXPECT_EQ(at(2).role(), Role::kFollower);
  EXPECT_EQ(at(3).role(), Role::kFollower);
  at(3).may_lead(true);
  tick(30);
  EXPECT_EQ(at(3).role(), Role::kLeader) << "by the vote of one that may not lead";
  at(3).may_lead(false);
  tick(30);
  EXPECT_EQ(at(3).role(), Role::kLeader) << "who leads goes on";
}

TEST_F(RaftTest, a_leader_that_has_ended_is_followed_by_the_next_within_ticks) {
  group(5);
  elect(4);
  tick(3);
  const Term before = at(4).term();
  cut_ = {1, 4};  // the first that would ask has no chance
  for (const int each : {1, 2, 3, 5}) at(each).has_ended(NodeId(4));
  tick(3);
  EXPECT_EQ(at(2).role(), Role::kLeader);
  EXPECT_EQ(at(2).term(), Term(before.value + 1)) << "at the first try";
  EXPECT_EQ(at(3).leader(), NodeId(2));
  EXPECT_EQ(at(5).leader(), NodeId(2));
}

TEST_F(RaftTest, a_leader_that_has_not_ended_after_all_leads_on) {
  group(3);
  elect(1);
  tick(3);
  const Term before = at(1).term();
  at(2).has_ended(NodeId(1));
  at(3).has_ended(NodeId(2));
  tick(30);
  EXPECT_EQ(at(1).role(), Role::kLeader);
  EXPECT_EQ(at(1).term(), before);
  EXPECT_EQ(at(2).leader(), NodeId(1));
  // Whoever took it for ended is no more eager from then on.
  cut_ = {1};
  tick(9);
  EXPECT_EQ(at(2).role(), Role::kFollower);
  EXPECT_EQ(at(3).role(), Role::kFollower);
}

TEST_F(RaftTest, within_a_promise_a_leader_that_has_ended_is_not_followed) {
  options_.lease_ticks = 8;
  group(3);
  tick(40);  // those that have just started promise nothing
  const NodeId leader = at(1).leader();
  ASSERT_NE(leader, kNobody);
  cut_ = {leader.value};
  for (const int each : {1, 2, 3}) at(each).has_ended(leader);
  tick(9);
  for (const int each : {1, 2, 3}) {
    if (NodeId(each) != leader) EXPECT_EQ(at(each).role(), Role::kFollower);
  }
}

TEST_F(RaftTest, who_may_not_vote_grants_none_and_begins_no_election) {
  group(3);
  at(2).may_vote(false);
  cut_ = {3};
  tick(100);
  EXPECT_NE(at(1).role(), Role::kLeader);
  EXPECT_EQ(at(2).role(), Role::kFollower);
  at(2).may_vote(true);
  tick(100);
  EXPECT_TRUE(at(1).role() == Role::kLeader || at(2).role() == Role::kLeader);
}

TEST_F(RaftTest, of_one_term_there_is_one_leader) {
  group(3);
  elect(1);
  Message m;
  m.kind = MessageKind::kAppend;
  m.term = at(1).term();
  m.from = NodeId(2);
  m.to = NodeId(1);
  at(1).step(m);
  EXPECT_EQ(at(1).role(), Role::kLeader);
  m.to = NodeId(3);
  at(3).step(m);
  EXPECT_EQ(at(3).leader(), NodeId(1));
  settle();
  ASSERT_TRUE(at(1).propose(text("a")));
  settle();
  EXPECT_EQ(member(3).applied.back(), "a");
}

TEST_F(RaftTest, a_member_that_was_cut_off_disturbs_nobody) {
  group(3);
  elect(1);
  const Term term = at(1).term();
  // It is heard, and hears answers, but nothing of a leader.
  drop_ = [](const Message& m) {
    return m.to.value == 3 && (m.kind == MessageKind::kHeartbeat || m.kind == MessageKind::kAppend);
  };
  tick(100);
  drop_ = [](const Message&) { return false; };
  tick(30);
  EXPECT_EQ(at(1).role(), Role::kLeader);
  EXPECT_EQ(at(1).term(), term);
}

TEST_F(RaftTest, entries_of_an_older_term_are_not_committed_by_counting) {
  // The paper's figure 8: node 5 may still win, and would replace what three of five have.
  options_.max_append_bytes = 1;
  group(5);
  const auto with_log = [this](int id, std::initializer_list<std::uint64_t> terms) {
    Stored& disk = member(id).disk;
    disk.hard = {.term = Term(3), .commit = Index(1)};
    for (const std::uint64_t term : terms) {
      disk.entries.push_back(
          {Term(term), Index(disk.entries.size() + 1), EntryKind::kNormal, text("x")});
    }
    start(id);
  };
  with_log(1, {1, 2});
  with_log(2, {1, 2});
  with_log(3, {1});
  with_log(4, {1});
  with_log(5, {1, 3});
  cut_ = {4, 5};
  drop_ = [](Message& m) {
    std::erase_if(m.entries, [](const Entry& entry) { return entry.index > Index(2); });
    return false;
  };
  elect(1);
  tick(3);
  EXPECT_EQ(at(3).log().last(), Index(2)) << "three have it";
  EXPECT_EQ(at(1).log().committed(), Index(1));
  drop_ = [](const Message&) { return false; };
  tick(3);
  EXPECT_EQ(at(1).log().committed(), Index(3)) << "with an entry of the leader's own term";
}

TEST_F(RaftTest, an_entry_that_comes_back_is_durable_by_its_last_write) {
  group(3);
  Raft& it = at(2);
  const auto append = [&](int from, std::uint64_t term, std::vector<std::uint64_t> terms) {
    Message m;
    m.kind = MessageKind::kAppend;
    m.from = NodeId(from);
    m.to = NodeId(2);
    m.term = Term(term);
    for (const std::uint64_t each : terms)
      m.entries.push_back({Term(each), Index(m.entries.size() + 1), EntryKind::kNormal, {}});
    it.step(std::move(m));
    return it.ready().number;
  };
  // Node 1's first entry, node 3's in its place, and node 1's again, all before any is stored.
  const std::uint64_t first = append(1, 1, {1});
  const std::uint64_t second = append(3, 2, {2});
  const std::uint64_t third = append(1, 3, {1});
  it.persisted(first);
  EXPECT_EQ(it.log().durable(), Index(0)) << "the second is still to be written over it";
  it.persisted(second);
  EXPECT_EQ(it.log().durable(), Index(0));
  it.persisted(third);
  EXPECT_EQ(it.log().durable(), Index(1));
}

TEST_F(RaftTest, proposals_under_way_are_bounded) {
  options_.max_uncommitted_bytes = 100;
  group(3);
  elect(1);
  cut_ = {1};
  ASSERT_TRUE(at(1).propose(text(std::string(90, 'a'))));
  EXPECT_EQ(at(1).propose(text(std::string(20, 'b'))).error().code, Code::kExhausted);
  settle();
  cut_ = {};
  tick(3);
  EXPECT_TRUE(at(1).propose(text(std::string(20, 'b')))) << "the first is committed";
}

TEST_F(RaftTest, a_read_waits_for_a_heartbeat_and_for_an_own_commit) {
  group(3);
  elect(1);
  at(1).read(7);
  settle();
  EXPECT_EQ(member(1).reads.at(7).index, Index(1));
  cut_ = {1};
  at(1).read(8);
  settle();
  EXPECT_FALSE(member(1).reads.contains(8)) << "another may lead by now";
  tick(30);
  ASSERT_TRUE(member(1).reads.contains(8));
  EXPECT_FALSE(member(1).reads.at(8).index) << "it does not lead any more";
  at(2).read(9);
  settle();
  if (at(2).role() != Role::kLeader) {
    EXPECT_FALSE(member(2).reads.at(9).index);
  }
}

TEST_F(RaftTest, a_new_leader_answers_reads_once_it_has_committed) {
  group(3);
  elect(1);
  drop_ = [](const Message& m) { return m.kind == MessageKind::kAppend; };
  ASSERT_TRUE(at(1).transfer_to(NodeId(2)));
  settle();
  ASSERT_EQ(at(2).role(), Role::kLeader);
  at(2).read(1);
  tick(2);
  EXPECT_FALSE(member(2).reads.contains(1))
      << "what its predecessor has committed is not known yet";
  drop_ = [](const Message&) { return false; };
  tick(2);
  EXPECT_EQ(member(2).reads.at(1).index, Index(2));
}

TEST_F(RaftTest, a_lease_lasts_as_long_as_it_is_renewed) {
  options_.lease_ticks = 5;
  group(3);
  at(1).campaign();
  settle();
  ASSERT_EQ(at(1).role(), Role::kLeader);
  tick();
  EXPECT_TRUE(at(1).lease());
  cut_ = {1};
  tick(6);
  EXPECT_FALSE(at(1).lease());
}

TEST_F(RaftTest, within_a_lease_nobody_votes_nor_after_a_start) {
  options_.lease_ticks = 8;
  group(3);
  elect(1);
  tick();
  ASSERT_TRUE(at(1).lease());
  start(2);
  start(3);
  cut_ = {1};
  at(2).campaign();
  settle();
  EXPECT_NE(at(2).role(), Role::kLeader) << "node 3 does not know any more whom it has heard of";
  at(3).campaign();
  settle();
  EXPECT_NE(at(3).role(), Role::kLeader);
}

TEST_F(RaftTest, a_promise_of_no_vote_lasts_for_whole_ticks) {
  options_.lease_ticks = 8;
  group(3);
  elect(1);
  tick();
  cut_ = {1};
  // Node 3 has heard of the leader just before a tick, so that ten of them are nine and a bit.
  for (int i = 0; i < 10; ++i) at(3).tick();
  for (int i = 0; i < 11; ++i) at(2).tick();
  at(2).campaign();
  settle();
  EXPECT_NE(at(2).role(), Role::kLeader);
  at(3).tick();
  at(2).campaign();
  settle();
  EXPECT_EQ(at(2).role(), Role::kLeader);
}

TEST_F(RaftTest, a_leader_that_has_told_another_to_take_over_has_no_lease) {
  options_.lease_ticks = 8;
  group(3);
  elect(1);
  tick();
  drop_ = [](const Message& m) { return m.kind == MessageKind::kTimeoutNow; };
  ASSERT_TRUE(at(1).transfer_to(NodeId(2)));
  settle();
  tick(20);  // given up
  EXPECT_EQ(at(1).role(), Role::kLeader);
  EXPECT_FALSE(at(1).lease()) << "what it told may arrive at any time";
}

TEST_F(RaftTest, hands_over_at_once) {
  group(3);
  elect(1);
  ASSERT_TRUE(at(1).propose(text("a")));
  ASSERT_TRUE(at(1).transfer_to(NodeId(3)));
  EXPECT_EQ(at(1).propose(text("b")).error().code, Code::kUnavailable);
  settle();
  EXPECT_EQ(at(3).role(), Role::kLeader);
  EXPECT_EQ(member(3).applied, (std::vector<std::string>{"", "a", ""}));
  EXPECT_EQ(at(1).transfer_to(NodeId(2)).error().code, Code::kUnavailable);
  EXPECT_EQ(at(3).transfer_to(NodeId(9)).error().code, Code::kInvalidArgument);
}

TEST_F(RaftTest, one_change_at_a_time) {
  group(3);
  elect(1);
  cut_ = {1};
  ASSERT_TRUE(at(1).propose(ConfigChange{.steps = {{Kind::kAddVoter, NodeId(4)}}}));
  EXPECT_EQ(at(1).propose(ConfigChange{.steps = {{Kind::kAddVoter, NodeId(5)}}}).error().code,
            Code::kUnavailable);
}

TEST_F(RaftTest, a_joint_change_ends_by_itself_and_brings_the_new_ones_up_to_date) {
  group(3);
  elect(1);
  ASSERT_TRUE(at(1).propose(text("a")));
  settle();
  for (const int id : {4, 5}) add(id, at(1).config());
  ASSERT_TRUE(at(1).propose(ConfigChange{.steps = {{Kind::kAddVoter, NodeId(4)},
                                                   {Kind::kAddVoter, NodeId(5)},
                                                   {Kind::kRemove, NodeId(3)}}}));
  settle();
  tick(2);
  EXPECT_EQ(at(1).config().voters,
            (std::vector<NodeId>{NodeId(1), NodeId(2), NodeId(4), NodeId(5)}));
  EXPECT_FALSE(at(1).config().joint());
  EXPECT_EQ(at(5).config(), at(1).config());
  EXPECT_EQ(member(5).applied[1], "a");
}

TEST_F(RaftTest, a_leader_that_leaves_goes_once_those_who_stay_know) {
  group(2);
  elect(1);
  tick();
  ASSERT_TRUE(at(1).propose(ConfigChange{.steps = {{Kind::kRemove, NodeId(1)}}}));
  EXPECT_EQ(at(1).propose(text("more")).error().code, Code::kUnavailable)
      << "node 2 could not win against it";
  // Node 2 has the change, and does not hear that it is committed.
  drop_ = [](Message& m) {
    if (m.from.value == 1) m.commit = std::min(m.commit, Index(1));
    return false;
  };
  settle();
  tick(3);
  EXPECT_EQ(at(1).role(), Role::kLeader);
  EXPECT_EQ(at(1).config().voters, std::vector<NodeId>{NodeId(2)});
  drop_ = [](const Message&) { return false; };
  tick(2);
  EXPECT_EQ(at(1).role(), Role::kFollower);
  EXPECT_EQ(at(2).role(), Role::kLeader);
  cut_ = {1};
  ASSERT_TRUE(at(2).propose(text("alone")));
  settle();
  EXPECT_EQ(member(2).applied.back(), "alone");
}

TEST_F(RaftTest, whoever_lacks_what_is_forgotten_gets_a_snapshot) {
  group(3);
  elect(1);
  tick();
  cut_ = {3};
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(at(1).propose(text(std::to_string(i))));
  settle();
  at(1).compact(at(1).mark());
  cut_ = {};
  tick(3);
  EXPECT_EQ(at(3).log().committed(), at(1).log().committed());
  EXPECT_EQ(at(3).log().snapshot().index, Index(11));
  ASSERT_TRUE(at(1).propose(text("z")));
  settle();
  EXPECT_EQ(member(3).applied.back(), "z");
}

TEST_F(RaftTest, a_torn_ready_does_not_hide_who_takes_part) {
  group(3);
  elect(1);
  tick();
  for (const int id : {4, 5}) add(id, at(1).config());
  member(2).slow_disk = true;
  // Node 2 learns with entries only what is committed, node 3 does not.
  drop_ = [](Message& m) {
    if (m.to.value == 3) m.commit = std::min(m.commit, Index(1));
    return m.to.value == 2 && (m.kind == MessageKind::kHeartbeat || m.entries.empty());
  };
  ASSERT_TRUE(at(1).propose(ConfigChange{.steps = {{Kind::kAddVoter, NodeId(4)},
                                                   {Kind::kAddVoter, NodeId(5)},
                                                   {Kind::kRemove, NodeId(2)},
                                                   {Kind::kRemove, NodeId(3)}}}));
  settle();
  tick(2);
  ASSERT_EQ(at(1).config().voters, (std::vector<NodeId>{NodeId(1), NodeId(4), NodeId(5)}));
  // Of the Ready that told it of the first change, only the entries get to the disk.
  for (const Ready& ready : member(2).storing) {
    Stored& disk = member(2).disk;
    disk.entries.insert(disk.entries.end(), ready.entries.begin(), ready.entries.end());
    if (ready.hard && ready.hard->commit > Index(1)) break;
    if (ready.hard) disk.hard = *ready.hard;
  }
  member(2).slow_disk = false;
  start(2);
  drop_ = [](const Message& m) {
    const auto left = [](NodeId node) { return node.value == 2 || node.value == 3; };
    return left(m.from) != left(m.to);
  };
  ASSERT_TRUE(at(1).propose(text("E")));
  settle();
  tick(60);
  ASSERT_EQ(at(1).log().committed(), Index(4));
  EXPECT_LT(at(2).log().committed(), Index(4)) << "nodes 2 and 3 decide nothing any more";
}

TEST_F(RaftTest, a_promise_of_no_vote_outlives_a_newer_term) {
  options_.lease_ticks = 8;
  group(3);
  elect(1);
  tick();
  ASSERT_TRUE(at(1).lease());
  // Node 3 has come to a newer term by itself, and node 2 hears of that before the leader does.
  Message old;
  old.kind = MessageKind::kPreVoteReply;
  old.from = NodeId(3);
  old.to = NodeId(2);
  old.term = Term(7);
  old.reject = true;
  cut_ = {1};
  at(2).step(old);
  settle();
  Message ask;
  ask.kind = MessageKind::kVote;
  ask.from = NodeId(3);
  ask.to = NodeId(2);
  ask.term = Term(7);
  ask.index = at(2).log().last();
  ask.log_term = at(2).log().last_term();
  bool granted = false;
  drop_ = [&granted](const Message& m) {
    granted = granted || (m.kind == MessageKind::kVoteReply && !m.reject);
    return true;
  };
  at(2).step(ask);
  settle();
  EXPECT_TRUE(at(1).lease());
  EXPECT_FALSE(granted);
}

TEST_F(RaftTest, nobody_campaigns_within_a_lease) {
  options_.lease_ticks = 8;
  group(3);
  elect(1);
  tick();
  drop_ = [](const Message& m) { return m.from.value + m.to.value == 4; };
  tick(12);  // node 3 has long not heard of node 1
  cut_ = {1};
  at(2).campaign();
  settle();
  EXPECT_TRUE(at(1).lease());
  EXPECT_NE(at(2).role(), Role::kLeader);
}

TEST_F(RaftTest, a_member_that_would_forget_its_promise_gives_none) {
  options_.lease_ticks = 8;
  group(3);
  member(3).slow_disk = true;
  elect(1);
  drop_ = [](const Message& m) { return m.from.value + m.to.value == 3; };
  tick(9);
  EXPECT_FALSE(at(1).lease()) << "node 3 has no durable term, node 2 is cut off";
  store(3);
  settle();
  tick();
  EXPECT_TRUE(at(1).lease());
}

TEST_F(RaftTest, a_leader_that_inherits_its_leave_appends_nothing_more) {
  group(2);
  elect(1);
  tick();
  drop_ = [](const Message& m) { return m.kind == MessageKind::kAppend; };
  ASSERT_TRUE(at(1).propose(ConfigChange{.steps = {{Kind::kRemove, NodeId(1)}}}));
  settle();
  start(1);
  for (int i = 0; i < 60 && at(1).role() != Role::kLeader; ++i) tick();
  ASSERT_EQ(at(1).role(), Role::kLeader);
  EXPECT_EQ(at(1).propose(text("more")).error().code, Code::kUnavailable);
}

TEST_F(RaftTest, a_leader_that_inherits_its_leave_goes_once_those_who_stay_know) {
  options_.check_quorum = false;
  options_.pre_vote = false;  // it hears of the commit by the vote that makes it the leader
  group(3);
  elect(2);
  tick();
  // Node 1 has an entry behind its leave, and does not hear that its leave is committed; the entry
  // is not.
  const Index leave(at(2).log().last().value + 1);
  drop_ = [leave](Message& m) {
    if (m.kind == MessageKind::kAppendReply) m.index = std::min(m.index, leave);
    if (m.to.value == 1) m.commit = std::min(m.commit, Index(leave.value - 1));
    return false;
  };
  ASSERT_TRUE(at(2).propose(ConfigChange{.steps = {{Kind::kRemove, NodeId(1)}}}));
  ASSERT_TRUE(at(2).propose(text("X")));
  settle();
  ASSERT_EQ(at(3).log().committed(), leave);
  ASSERT_EQ(at(1).log().last().value, leave.value + 1);
  drop_ = [](const Message&) { return false; };
  cut_ = {2};
  elect(1);
  cut_ = {};
  tick(100);
  EXPECT_NE(at(1).role(), Role::kLeader) << "that what follows is committed nobody has synced";
  EXPECT_TRUE(at(2).role() == Role::kLeader || at(3).role() == Role::kLeader);
}

TEST_F(RaftTest, what_a_snapshot_has_is_known_to_be_committed_after_a_start) {
  group(3);
  elect(1);
  Stored& disk = member(3).disk;
  for (const char* each : {"A", "B"}) ASSERT_TRUE(at(1).propose(text(each)));
  settle();
  // Its snapshot is younger than its hard state.
  disk.snapshot = at(3).mark();
  disk.entries.clear();
  disk.hard.commit = Index(1);
  start(3);
  Index told;
  drop_ = [&told](const Message& m) {
    if (m.from.value == 3) told = std::max(told, m.commit);
    return false;
  };
  tick(2);
  EXPECT_EQ(told, disk.snapshot.index);
}

TEST_F(RaftTest, votes_tell_what_is_committed) {
  group(4);
  elect(4);
  tick();
  // Node 1, which is being removed, gets more than node 2, and hears of the commit.
  drop_ = [](Message& m) {
    if (m.to.value == 2) {
      m.commit = std::min(m.commit, Index(1));
      std::erase_if(m.entries, [](const Entry& entry) { return entry.index > Index(2); });
    }
    return m.to.value == 3;
  };
  ASSERT_TRUE(at(4).propose(ConfigChange{.steps = {{Kind::kRemove, NodeId(1)}}}));
  ASSERT_TRUE(at(4).propose(text("X")));
  settle();
  ASSERT_FALSE(at(4).config().is_voter(NodeId(1)));
  cut_ = {4};
  drop_ = [](const Message&) { return false; };
  tick(200);
  EXPECT_TRUE(at(2).role() == Role::kLeader || at(3).role() == Role::kLeader)
      << "they are a majority of those who stay";
}

TEST_F(RaftTest, a_joint_phase_ends_after_a_transfer_that_failed) {
  group(3);
  elect(1);
  tick();
  drop_ = [](const Message& m) { return m.kind == MessageKind::kTimeoutNow; };
  ASSERT_TRUE(at(1).propose(ConfigChange{.transition = ConfigChange::Transition::kJoint,
                                         .steps = {{Kind::kRemove, NodeId(3)}}}));
  ASSERT_TRUE(at(1).transfer_to(NodeId(2)));
  settle();
  tick(30);
  EXPECT_EQ(at(1).role(), Role::kLeader);
  EXPECT_FALSE(at(1).config().joint());
}

TEST_F(RaftTest, that_somebody_has_left_is_not_forgotten) {
  group(2);
  elect(2);
  tick();
  member(2).loses_unsynced = true;
  ASSERT_TRUE(at(2).propose(ConfigChange{.steps = {{Kind::kRemove, NodeId(1)}}}));
  settle();
  tick(3);
  ASSERT_EQ(at(2).config().voters, std::vector<NodeId>{NodeId(2)});
  cut_ = {1};  // it is gone for good
  start(2);
  tick(50);
  EXPECT_EQ(at(2).role(), Role::kLeader) << "it is alone in its group";
}

}  // namespace
}  // namespace pyralog::raft
