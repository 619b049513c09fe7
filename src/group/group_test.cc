#include "group/group.h"

#include <gtest/gtest.h>

#include "group/group_testing.h"

namespace pyralog::group {
namespace {

using namespace testing;
using enum KafkaError;

template <typename T>
KafkaError error_of(Coordinator& c, Token token) {
  const auto answer = c.reply<T>(token);
  return answer ? answer->error : kUnknownServerError;
}
std::string state(Coordinator& c) {
  return c.table().describe("g").state;
}

TEST(Group, members_are_given_an_id_before_they_join) {
  Coordinator c;
  c.feed(join(1));
  const auto first = c.reply<JoinResponse>(1);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->error, kMemberIdRequired);
  EXPECT_EQ(first->member_id, "c-1");
  EXPECT_EQ(state(c), "Empty");
  c.feed(join(2, "c-1"));
  EXPECT_FALSE(c.reply<JoinResponse>(2)) << "an empty group waits for others";
  EXPECT_EQ(state(c), "PreparingRebalance");
  c.pass(2'999);
  EXPECT_FALSE(c.reply<JoinResponse>(2));
  c.pass(1);
  const auto joined = c.reply<JoinResponse>(2);
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->error, kNone);
  EXPECT_EQ(joined->generation, 1);
  EXPECT_EQ(joined->leader, "c-1");
  EXPECT_EQ(joined->protocol_name, "range");
  ASSERT_EQ(joined->members.size(), 1u);
  EXPECT_EQ(joined->members[0].metadata, bytes("m"));
  EXPECT_EQ(state(c), "CompletingRebalance");
}

TEST(Group, an_id_that_is_not_used_is_forgotten) {
  Coordinator c;
  c.feed(join(1));
  (void)c.reply<JoinResponse>(1);
  EXPECT_EQ(c.table().size(), 1u);
  c.pass(10'000);
  EXPECT_EQ(c.table().size(), 0u);
  c.feed(join(2, "c-1"));
  EXPECT_EQ(error_of<JoinResponse>(c, 2), kUnknownMemberId);
}

TEST(Group, the_first_generation_waits_longer_while_members_arrive) {
  Coordinator c;
  c.feed(join(1, {}, 3));
  c.pass(2'000);
  c.feed(join(2, {}, 3));
  c.pass(1'000);
  EXPECT_FALSE(c.reply<JoinResponse>(1)) << "another came meanwhile";
  c.pass(3'000);
  EXPECT_TRUE(c.reply<JoinResponse>(1));
  EXPECT_TRUE(c.reply<JoinResponse>(2));
}

TEST(Group, everybody_gets_what_the_leader_assigned) {
  Coordinator c;
  c.feed(join(1, {}, 3));
  c.feed(join(2, {}, 3));
  c.pass(6'000);
  EXPECT_EQ(c.reply<JoinResponse>(1)->members.size(), 2u);
  EXPECT_TRUE(c.reply<JoinResponse>(2)->members.empty());
  c.hold = true;
  c.feed(sync(3, 1, "c-2"));
  EXPECT_FALSE(c.reply<SyncResponse>(3));
  c.feed(sync(4, 1, "c-1", {{"c-1", bytes("A")}, {"c-2", bytes("B")}, {"c-9", bytes("C")}}));
  EXPECT_TRUE(c.replies.empty()) << "not before the assignment is stored";
  c.release();
  EXPECT_EQ(c.reply<SyncResponse>(3)->assignment, bytes("B"));
  EXPECT_EQ(c.reply<SyncResponse>(4)->assignment, bytes("A"));
  EXPECT_EQ(state(c), "Stable");
  c.feed(sync(5, 1, "c-2"));
  EXPECT_EQ(c.reply<SyncResponse>(5)->assignment, bytes("B")) << "asked again";
  const auto d = c.table().describe("g");
  EXPECT_EQ(d.protocol, "range");
  EXPECT_EQ(d.members.at(1).assignment, bytes("B"));
  EXPECT_EQ(d.members.at(1).client_host, "/127.0.0.1");
}

TEST(Group, an_assignment_that_cannot_be_stored_starts_over) {
  Coordinator c;
  c.feed(join(1, {}, 3));
  c.pass(3'000);
  c.hold = true;
  c.feed(sync(2, 1, "c-1", {{"c-1", bytes("A")}}));
  c.release(kNotEnoughReplicas);
  EXPECT_EQ(error_of<SyncResponse>(c, 2), kCoordinatorNotAvailable);
  EXPECT_EQ(state(c), "PreparingRebalance");
}

TEST(Group, a_newcomer_makes_the_others_rejoin) {
  Coordinator c;
  const std::string old = stable_alone(c);
  c.feed(join(1, {}, 3));
  EXPECT_FALSE(c.reply<JoinResponse>(1));
  c.feed(heartbeat(2, 1, old));
  EXPECT_EQ(error_of<HeartbeatResponse>(c, 2), kRebalanceInProgress);
  c.feed(commit(3, 1, old, 5));
  EXPECT_EQ(c.reply<CommitResponse>(3)->partitions[0].error, kNone)
      << "what it still works on may be committed";
  c.feed(sync(4, 1, old));
  EXPECT_EQ(error_of<SyncResponse>(c, 4), kRebalanceInProgress);
  c.feed(join(5, old, 3));
  EXPECT_EQ(c.reply<JoinResponse>(5)->generation, 2);
  EXPECT_EQ(c.reply<JoinResponse>(1)->leader, old);
  c.feed(commit(6, 1, old, 6));
  EXPECT_EQ(c.reply<CommitResponse>(6)->partitions[0].error, kIllegalGeneration);
  c.feed(commit(7, 2, old, 6));
  EXPECT_EQ(c.reply<CommitResponse>(7)->partitions[0].error, kRebalanceInProgress);
}

TEST(Group, who_does_not_rejoin_in_time_is_left_behind) {
  Coordinator c;
  const std::string old = stable_alone(c);
  c.feed(join(1, {}, 3));
  for (int i = 0; i < 20; ++i) {
    c.feed(heartbeat(100 + static_cast<Token>(i), 1, old));
    c.pass(3'000);
  }
  const auto joined = c.reply<JoinResponse>(1);
  ASSERT_TRUE(joined) << "60 s are over";
  EXPECT_EQ(joined->leader, "c-1");
  c.feed(heartbeat(2, 1, old));
  EXPECT_EQ(error_of<HeartbeatResponse>(c, 2), kUnknownMemberId);
}

TEST(Group, a_silent_member_expires) {
  Coordinator c;
  const std::string id = stable_alone(c);
  c.pass(9'999);
  EXPECT_EQ(state(c), "Stable");
  c.feed(heartbeat(1, 1, id));
  c.pass(9'999);
  EXPECT_EQ(state(c), "Stable");
  c.pass(1);
  EXPECT_EQ(state(c), "Empty");
  EXPECT_EQ(c.table().describe("g").generation, 2);
}

TEST(Group, who_joined_but_does_not_sync_is_dropped) {
  Coordinator c;
  c.feed(join(1, {}, 3));
  c.feed(join(2, {}, 3));
  c.pass(6'000);
  c.feed(sync(3, 1, "c-1", {{"c-1", bytes("A")}}));
  EXPECT_EQ(state(c), "Stable");
  for (int i = 0; i < 20; ++i) {
    c.feed(heartbeat(100 + static_cast<Token>(i), 1, "c-1"));
    c.feed(heartbeat(200 + static_cast<Token>(i), 1, "c-2"));
    c.pass(3'000);
  }
  EXPECT_EQ(state(c), "PreparingRebalance");
  c.feed(heartbeat(4, 1, "c-2"));
  EXPECT_EQ(error_of<HeartbeatResponse>(c, 4), kUnknownMemberId);
}

TEST(Group, leaving_ends_the_generation_at_once) {
  Coordinator c;
  const std::string id = stable_alone(c);
  c.feed(leave(1, "stranger"));
  EXPECT_EQ(c.reply<LeaveResponse>(1)->members[0].error, kUnknownMemberId);
  c.feed(leave(2, id));
  EXPECT_EQ(c.reply<LeaveResponse>(2)->members[0].error, kNone);
  EXPECT_EQ(state(c), "Empty");
  c.feed(heartbeat(3, 1, id));
  EXPECT_EQ(error_of<HeartbeatResponse>(c, 3), kUnknownMemberId);
}

TEST(Group, one_who_waits_to_join_is_told_when_it_is_removed) {
  Coordinator c;
  c.feed(join(1, {}, 3));
  c.feed(leave(2, "c-1"));
  EXPECT_EQ(error_of<JoinResponse>(c, 1), kUnknownMemberId);
}

TEST(Group, a_lost_join_answer_is_given_again) {
  Coordinator c;
  c.feed(join(1, {}, 3));
  c.pass(3'000);
  (void)c.reply<JoinResponse>(1);
  c.feed(join(2, "c-1", 3));
  const auto again = c.reply<JoinResponse>(2);
  EXPECT_EQ(again->generation, 1);
  EXPECT_EQ(again->members.size(), 1u) << "it leads";
  auto changed = join(3, "c-1", 3);
  changed.protocols[0].metadata = bytes("other");
  c.feed(changed);
  EXPECT_EQ(c.reply<JoinResponse>(3)->generation, 2) << "with news, it is a rebalance";
}

TEST(Group, in_a_stable_group_a_follower_rejoins_quietly_and_a_leader_does_not) {
  Coordinator c;
  c.feed(join(1, {}, 3));
  c.feed(join(2, {}, 3));
  c.pass(6'000);
  c.feed(sync(3, 1, "c-2"));
  c.feed(sync(4, 1, "c-1", {}));
  c.feed(join(5, "c-2", 3));
  const auto quiet = c.reply<JoinResponse>(5);
  ASSERT_TRUE(quiet);
  EXPECT_EQ(quiet->generation, 1);
  c.feed(join(6, "c-1", 3));
  EXPECT_FALSE(c.reply<JoinResponse>(6));
  EXPECT_EQ(state(c), "PreparingRebalance");
}

TEST(Group, the_assignor_that_most_prefer_is_chosen_among_those_all_have) {
  Coordinator c;
  const auto with = [](Token token, std::vector<std::string> names) {
    JoinRequest r = join(token, {}, 3);
    r.protocols.clear();
    for (const auto& n : names) r.protocols.push_back(Protocol{n, bytes(n)});
    return r;
  };
  c.feed(with(1, {"only-mine", "a", "b"}));
  c.feed(with(2, {"b", "a"}));
  c.feed(with(3, {"b", "a"}));
  c.feed(with(4, {"x"}));
  EXPECT_EQ(error_of<JoinResponse>(c, 4), kInconsistentGroupProtocol);
  JoinRequest connect = with(5, {"a"});
  connect.protocol_type = "connect";
  c.feed(connect);
  EXPECT_EQ(error_of<JoinResponse>(c, 5), kInconsistentGroupProtocol);
  c.pass(9'000);
  EXPECT_EQ(c.reply<JoinResponse>(1)->protocol_name, "b");
  SyncRequest wrong = sync(6, 1, "c-2");
  wrong.protocol_name = "a";
  c.feed(wrong);
  EXPECT_EQ(error_of<SyncResponse>(c, 6), kInconsistentGroupProtocol);
}

TEST(Group, asks_after_a_restart_what_members_offer_before_it_refuses_anybody) {
  Coordinator c;
  const auto with = [](Token token, std::string id, std::vector<std::string> names) {
    JoinRequest r = join(token, std::move(id), 3);
    r.protocols.clear();
    for (const auto& n : names) r.protocols.push_back(Protocol{n, bytes(n)});
    return r;
  };
  c.feed(with(1, {}, {"a", "b"}));
  c.pass(3'000);
  c.feed(sync(2, 1, "c-1", {{"c-1", bytes("A")}}));
  ASSERT_EQ(c.reply<SyncResponse>(2)->error, kNone);
  c.restart();  // of what it offers only "a" is known now
  JoinRequest connect = with(3, {}, {"b"});
  connect.protocol_type = "connect";
  c.feed(connect);
  EXPECT_EQ(error_of<JoinResponse>(c, 3), kInconsistentGroupProtocol);
  c.feed(with(4, {}, {"b"}));
  EXPECT_EQ(error_of<JoinResponse>(c, 4), kRebalanceInProgress);
  c.feed(heartbeat(5, 1, "c-1"));
  EXPECT_EQ(error_of<HeartbeatResponse>(c, 5), kRebalanceInProgress);
  c.feed(with(6, {}, {"b"}));
  EXPECT_EQ(error_of<JoinResponse>(c, 6), kRebalanceInProgress) << "it has not said so yet";
  c.feed(with(7, "c-1", {"a", "b"}));
  c.feed(with(8, {}, {"b"}));
  c.feed(with(9, {}, {"x"}));
  EXPECT_EQ(error_of<JoinResponse>(c, 9), kInconsistentGroupProtocol) << "now all is known";
  c.feed(with(10, "c-1", {"a", "b"}));
  const auto in = c.reply<JoinResponse>(8);
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->protocol_name, "b");
}

TEST(Group, asks_once_after_a_restart_and_one_who_does_not_answer_expires) {
  Coordinator c;
  const auto with = [](Token token, std::string id, std::vector<std::string> names) {
    JoinRequest r = join(token, std::move(id), 3);
    r.rebalance_timeout_ms = 2'000;
    r.protocols.clear();
    for (const auto& n : names) r.protocols.push_back(Protocol{n, bytes(n)});
    return r;
  };
  JoinRequest fixed = with(1, {}, {"a", "b"});
  fixed.instance_id = "i";
  c.feed(fixed);
  c.feed(with(2, {}, {"a", "b"}));
  c.pass(3'000);
  const auto one = c.reply<JoinResponse>(1);
  const auto two = c.reply<JoinResponse>(2);
  ASSERT_TRUE(one && two);
  const std::string lead = one->leader == one->member_id ? one->member_id : two->member_id;
  c.feed(sync(3, 1, lead, {{one->member_id, bytes("A")}, {two->member_id, bytes("B")}}));
  c.restart();
  // The static one is gone, the other does what it should; whoever comes again and again with "b"
  // must not keep alive by its questions the one that hinders it.
  Token token = 10;
  std::int32_t generation = 1;
  bool in = false;
  for (int tenths = 0; tenths < 600 && !in; ++tenths) {
    c.feed(with(++token, {}, {"b"}));
    const Token newcomer = token;
    c.feed(heartbeat(++token, generation, two->member_id));
    if (c.reply<HeartbeatResponse>(token)->error == kRebalanceInProgress) {
      c.feed(with(++token, two->member_id, {"a", "b"}));
      c.pass(2'100);
      if (const auto again = c.reply<JoinResponse>(token); again && again->error == kNone) {
        generation = again->generation;
        c.feed(sync(++token, generation, two->member_id, {{two->member_id, bytes("B")}}));
      }
    } else {
      c.pass(100);
    }
    const auto said = c.reply<JoinResponse>(newcomer);
    in = said && said->error == kNone;
  }
  EXPECT_TRUE(in);
}

TEST(Group, one_who_comes_back_with_other_protocols_needs_only_what_the_others_have) {
  Coordinator c;
  const auto with = [](Token token, std::string id, std::vector<std::string> names) {
    JoinRequest r = join(token, std::move(id), 3);
    r.protocols.clear();
    for (const auto& n : names) r.protocols.push_back(Protocol{n, bytes(n)});
    return r;
  };
  c.feed(with(1, {}, {"a"}));
  c.pass(3'000);
  c.feed(sync(2, 1, "c-1", {{"c-1", bytes("A")}}));
  c.feed(with(3, "c-1", {"b"}));
  const auto in = c.reply<JoinResponse>(3);
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->protocol_name, "b");
  c.feed(with(4, {}, {"a"}));
  EXPECT_EQ(error_of<JoinResponse>(c, 4), kInconsistentGroupProtocol);
  EXPECT_TRUE(c.table().consistent());
}

TEST(Group, refuses_what_is_out_of_bounds) {
  Coordinator c(Options{.max_group_size = 1, .max_groups = 1, .max_member_bytes = 100});
  JoinRequest r = join(1);
  r.session_timeout_ms = 5'999;
  c.feed(r);
  EXPECT_EQ(error_of<JoinResponse>(c, 1), kInvalidSessionTimeout);
  r = join(2);
  r.session_timeout_ms = 1'800'001;
  c.feed(r);
  EXPECT_EQ(error_of<JoinResponse>(c, 2), kInvalidSessionTimeout);
  r = join(3);
  r.group.clear();
  c.feed(r);
  EXPECT_EQ(error_of<JoinResponse>(c, 3), kInvalidGroupId);
  r = join(4, {}, 3);
  r.protocols[0].metadata.resize(200);
  c.feed(r);
  EXPECT_EQ(error_of<JoinResponse>(c, 4), kGroupMaxSizeReached);
  r = join(5);
  r.protocols.clear();
  c.feed(r);
  EXPECT_EQ(error_of<JoinResponse>(c, 5), kInconsistentGroupProtocol);
  EXPECT_EQ(c.table().size(), 0u) << "refusals leave no group behind";
  (void)stable_alone(c);
  c.feed(join(6, {}, 3));
  EXPECT_EQ(error_of<JoinResponse>(c, 6), kGroupMaxSizeReached);
  r = join(7, {}, 3);
  r.group = "another";
  c.feed(r);
  EXPECT_EQ(error_of<JoinResponse>(c, 7), kPolicyViolation);
}

TEST(GroupTable, while_loading_answers_so) {
  GroupTable table{Options{}};
  const Now now{Instant{1}, WallMs{1}};
  const auto only = [&](const Input& in) {
    return std::move(table.step(in, now).replies.at(0).response);
  };
  EXPECT_EQ(std::get<JoinResponse>(only(join(1))).error, kCoordinatorLoadInProgress);
  EXPECT_EQ(std::get<SyncResponse>(only(sync(1, 1, "m"))).error, kRebalanceInProgress);
  EXPECT_EQ(std::get<HeartbeatResponse>(only(heartbeat(1, 1, "m"))).error, kNone);
  EXPECT_EQ(std::get<LeaveResponse>(only(leave(1, "m"))).error, kCoordinatorLoadInProgress);
  EXPECT_EQ(std::get<CommitResponse>(only(commit(1, -1, "", 1))).partitions[0].error,
            kCoordinatorLoadInProgress);
  EXPECT_EQ(std::get<DeleteResponse>(only(DeleteRequest{1, "g"})).error,
            kCoordinatorLoadInProgress);
  EXPECT_EQ(table.fetch_offsets({"g", {}}).error, kCoordinatorLoadInProgress);
  EXPECT_EQ(table.describe("g").error, kCoordinatorLoadInProgress);
  EXPECT_EQ(table.list({}).error, kCoordinatorLoadInProgress);
}

TEST(GroupTable, a_new_leader_goes_on_where_the_old_one_was) {
  Coordinator c;
  const std::string id = stable_alone(c);
  c.feed(commit(1, 1, id, 77));
  c.pass(8'000);
  c.restart();
  EXPECT_EQ(committed(c.table()), 77);
  c.pass(9'999);
  c.feed(heartbeat(2, 1, id));
  EXPECT_EQ(error_of<HeartbeatResponse>(c, 2), kNone) << "sessions start afresh";
  const auto d = c.table().describe("g");
  EXPECT_EQ(d.state, "Stable");
  EXPECT_EQ(d.members.at(0).assignment, bytes("all"));
  EXPECT_EQ(d.members.at(0).metadata, bytes("m"));
  c.feed(join(3, id, 3));
  EXPECT_EQ(c.reply<JoinResponse>(3)->generation, 2);
}

TEST(GroupTable, losing_leadership_tells_everybody_who_waits) {
  Coordinator c;
  const std::string id = stable_alone(c);
  c.feed(join(1, {}, 3));
  c.hold = true;
  c.feed(commit(2, 1, id, 5));
  c.restart();
  EXPECT_EQ(error_of<JoinResponse>(c, 1), kNotCoordinator);
  EXPECT_EQ(c.reply<CommitResponse>(2)->partitions[0].error, kNotCoordinator);
  EXPECT_EQ(committed(c.table()), -1) << "it was not acknowledged, and did not commit";
}

TEST(GroupTable, lists_by_state) {
  Coordinator c;
  (void)stable_alone(c);
  JoinRequest other = join(1, {}, 3);
  other.group = "h";
  c.feed(other);
  EXPECT_EQ(c.table().list({}).groups.size(), 2u);
  const auto stable = c.table().list({"stable"});
  ASSERT_EQ(stable.groups.size(), 1u);
  EXPECT_EQ(stable.groups[0].group, "g");
  EXPECT_EQ(stable.groups[0].protocol_type, "consumer");
  EXPECT_EQ(c.table().describe("none").error, kGroupIdNotFound);
  EXPECT_EQ(c.table().describe("none").state, "Dead");
}

}  // namespace
}  // namespace pyralog::group
