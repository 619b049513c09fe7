// What a client can make the coordinator keep, write and look at, and that all of it is bounded.
#include <gtest/gtest.h>

#include <ctime>

#include "group/assignor.h"
#include "group/group_testing.h"

namespace pyralog::group {
namespace {

using namespace testing;
using enum KafkaError;

KafkaError join_error(Coordinator& c, const JoinRequest& in) {
  c.feed(in);
  const auto answer = c.reply<JoinResponse>(in.token);
  return answer ? answer->error : kNone;  // it waits for others
}
KafkaError commit_error(Coordinator& c, const CommitRequest& in) {
  c.feed(in);
  const auto answer = c.reply<CommitResponse>(in.token);
  return answer ? answer->partitions.at(0).error : kNone;  // it is being stored
}
/// A new member that says `bytes`.
JoinRequest large_join(Token token, std::size_t bytes) {
  JoinRequest r = join(token, {}, 3);
  r.protocols[0].metadata.resize(bytes);
  return r;
}
JoinRequest reader(Token token, const std::vector<std::string>& topics) {
  JoinRequest r = join(token, {}, 3);
  r.protocols = {Protocol{"range", encode(Subscription{topics, {}, {}, -1, {}})}};
  return r;
}
CommitRequest commit_of(Token token, std::int32_t partition, std::size_t metadata) {
  CommitRequest r = commit(token, -1, "", 1);
  r.partitions[0].partition = partition;
  r.partitions[0].metadata.assign(metadata, 'm');
  return r;
}
std::size_t largest_value(const Coordinator& c) {
  std::size_t largest = 0;
  for (const StoredRecord& r : c.log()) largest = std::max(largest, r.value ? r.value->size() : 0);
  return largest;
}
/// Seconds of the processor that `what` takes; those in which others had it do not count. Bounds on them
/// are far from what it takes, and from what it took when each request looked at everything.
template <typename What>
double work_of(What what) {
  const std::clock_t began = std::clock();
  what();
  return static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
}

TEST(Bounds, protocols_that_no_client_offers_are_refused) {
  Coordinator c;
  Token token = 1;
  const auto offering = [&](const std::vector<std::string>& names) {
    JoinRequest r = join(token++, {}, 3);
    r.protocols.clear();
    for (const auto& n : names) r.protocols.push_back(Protocol{n, {}});
    return join_error(c, r);
  };
  std::vector<std::string> many;
  for (int i = 0; i < 101; ++i) many.push_back("p" + std::to_string(i));
  EXPECT_EQ(offering(many), kInconsistentGroupProtocol);
  EXPECT_EQ(offering({"range", "range"}), kInconsistentGroupProtocol);
  EXPECT_EQ(offering({"range", ""}), kInconsistentGroupProtocol);
  EXPECT_EQ(c.table().size(), 0u);
  many.pop_back();
  EXPECT_EQ(offering(many), kNone);
  EXPECT_TRUE(c.table().consistent());
}

TEST(Bounds, the_groups_of_a_table_share_room_for_members) {
  Coordinator c(Options{.max_members_bytes = 100'000});
  const std::string id = stable_alone(c);
  Token token = 1;
  KafkaError error = kNone;
  for (; token < 100 && error == kNone; ++token) {
    JoinRequest r = large_join(token, 5'000);
    r.group = "g" + std::to_string(token);
    error = join_error(c, r);
  }
  EXPECT_EQ(error, kCoordinatorNotAvailable) << "clients come back at this one";
  EXPECT_GT(token, 10u);
  EXPECT_LT(token, 20u);
  EXPECT_LE(c.table().kept().members, 75'000u) << "the rest is for assignments";
  JoinRequest again = join(200, id, 3);
  again.group = "g";
  EXPECT_EQ(join_error(c, again), kNone) << "who is there may rejoin";
  EXPECT_EQ(join_error(c, large_join(201, 8'000)), kCoordinatorNotAvailable);
  EXPECT_TRUE(c.table().consistent());
  c.pass(2 * 300'000);
  EXPECT_EQ(join_error(c, large_join(202, 5'000)), kNone) << "those others are gone";
  EXPECT_TRUE(c.table().consistent());
}

TEST(Bounds, the_tables_of_a_shard_share_one_room) {
  const auto tally = std::make_shared<Tally>();
  const Options options{.max_members_bytes = 100'000, .max_offsets_bytes = 100'000};
  Coordinator one(options, tally);
  Coordinator two(options, tally);
  Token token = 1;
  while (token < 100 && join_error(one, large_join(token, 5'000)) == kNone) ++token;
  EXPECT_LT(token, 20u);
  EXPECT_EQ(join_error(two, large_join(200, 5'000)), kCoordinatorNotAvailable);
  one.feed(leave(201, "c-1"));
  EXPECT_EQ(join_error(two, large_join(202, 5'000)), kNone) << "one has left there";

  CommitRequest r = commit_of(300, 0, 4'000);
  for (int i = 0; i < 100; ++i) {
    r.group = "h" + std::to_string(i);
    if (commit_error(one, r) != kNone) break;
  }
  EXPECT_LE(tally->kept().offsets, 100'000u);
  EXPECT_EQ(commit_error(two, r), kInvalidCommitOffsetSize);
  one.feed(DeleteRequest{301, "h0"});
  EXPECT_EQ(commit_error(two, r), kNone) << "a group has gone there";
  (void)one.table().unload();
  EXPECT_EQ(tally->kept(), two.table().kept());
  EXPECT_TRUE(two.table().consistent());
}

TEST(Bounds, what_a_member_offers_again_after_a_restart_is_no_growth) {
  Coordinator c(Options{.max_members_bytes = 100'000});
  JoinRequest r = join(1, {}, 3);
  r.protocols = {Protocol{"range", Bytes(2'000)}, Protocol{"sticky", Bytes(2'000)}};
  EXPECT_EQ(join_error(c, r), kNone);
  c.pass(3'000);
  c.feed(sync(2, 1, "c-1", {{"c-1", bytes("A")}}));
  ASSERT_EQ(c.reply<SyncResponse>(2)->error, kNone);
  c.restart();
  // What is not stored of it looks like room, and is taken.
  Token token = 10;
  for (const std::size_t each : {5'000u, 1u}) {
    KafkaError error = kNone;
    for (; token < 200 && error == kNone; ++token) {
      JoinRequest other = large_join(token, each);
      other.group = "g" + std::to_string(token);
      error = join_error(c, other);
    }
    EXPECT_EQ(error, kCoordinatorNotAvailable);
  }
  r.member_id = "c-1";
  r.token = 300;
  r.protocols[1].metadata.resize(20'000);
  EXPECT_EQ(join_error(c, r), kCoordinatorNotAvailable) << "it had not offered so much";
  r.token = 301;
  r.protocols[1].metadata.resize(2'000);
  EXPECT_EQ(join_error(c, r), kNone);
  EXPECT_TRUE(c.table().consistent());
  r.token = 302;
  r.protocols[1].metadata.resize(3'000);
  EXPECT_EQ(join_error(c, r), kCoordinatorNotAvailable) << "now all of it is known";
}

TEST(Bounds, a_room_is_divided_and_nothing_is_let_in_that_cannot_fit) {
  const Options options = Options{}.within(8u << 20);
  EXPECT_EQ(options.max_members_bytes + options.max_offsets_bytes + options.max_storing_bytes, 8u << 20);
  EXPECT_LE(options.max_group_bytes, options.max_members_bytes);
  EXPECT_LE(options.max_group_offset_bytes, options.max_offsets_bytes);
  EXPECT_LE(options.max_commit_bytes, options.max_storing_bytes);
  EXPECT_EQ(Options{}.within(1u << 30).max_group_bytes, Options{}.max_group_bytes);
}

TEST(Bounds, elements_and_ids_count_too) {
  Coordinator c(Options{.max_members_bytes = 1'000'000});
  KafkaError error = kNone;
  Token token = 1;
  for (; token < 1'000 && error == kNone; ++token) {
    JoinRequest r = join(token);
    r.new_member_id = std::string(32'000, 'x') + std::to_string(token);
    error = join_error(c, r);
    if (error == kMemberIdRequired) error = kNone;
  }
  EXPECT_EQ(error, kCoordinatorNotAvailable) << "ids given out";
  EXPECT_LT(token, 30u);
  c.pass(10'000);
  EXPECT_EQ(c.table().kept(), Kept{}) << "nobody came back with them";
  error = kNone;
  for (token = 2'000; token < 3'000 && error == kNone; ++token) {
    JoinRequest r = join(token, {}, 3);
    for (int i = 0; i < 99; ++i) r.protocols.push_back(Protocol{"p" + std::to_string(i), {}});
    error = join_error(c, r);
  }
  EXPECT_EQ(error, kCoordinatorNotAvailable) << "protocols without metadata";
  EXPECT_LT(token, 2'060u);
  EXPECT_TRUE(c.table().consistent());
}

TEST(Bounds, names_of_groups_count_too) {
  Coordinator c(Options{.max_offsets_bytes = 1'000'000});
  KafkaError error = kNone;
  int made = 0;
  for (; made < 100 && error == kNone; ++made) {
    JoinRequest r = join(1);
    r.group = std::string(30'000, 'g') + std::to_string(made);
    error = join_error(c, r);
    if (error == kMemberIdRequired) error = kNone;
  }
  EXPECT_EQ(error, kCoordinatorNotAvailable);
  EXPECT_LT(made, 10);
  CommitRequest r = commit(2, -1, "", 1);
  r.group = std::string(30'000, 'h');
  EXPECT_EQ(commit_error(c, r), kInvalidCommitOffsetSize);
  c.pass(10'000);
  EXPECT_EQ(c.table().kept(), Kept{});
}

TEST(Bounds, what_goes_gives_its_room_back) {
  Coordinator c;
  c.feed(reader(1, {"t", "u"}));
  c.feed(reader(2, {"u"}));
  c.feed(join(3));
  c.pass(6'000);
  c.feed(leave(4, "c-3"));
  const auto joined = c.reply<JoinResponse>(1);
  ASSERT_TRUE(joined);
  c.feed(sync(5, joined->generation, "c-1", {{"c-1", bytes("A")}, {"c-2", bytes("B")}}));
  c.feed(sync(6, joined->generation, "c-2"));
  ASSERT_EQ(c.reply<SyncResponse>(6)->assignment, bytes("B"));
  c.hold = true;
  EXPECT_EQ(commit_error(c, commit(7, joined->generation, "c-1", 42)), kNone);
  EXPECT_GT(c.table().kept().storing, 0u);
  EXPECT_TRUE(c.table().consistent());
  c.hold = false;
  c.release();
  EXPECT_EQ(c.table().kept().storing, 0u);
  EXPECT_TRUE(c.table().consistent());
  const Kept before = c.table().kept();
  c.restart();
  EXPECT_EQ(c.table().kept(), before) << "as much as was stored";
  c.feed(leave(8, "c-1"));
  EXPECT_TRUE(c.table().consistent());
  c.feed(leave(9, "c-2"));
  EXPECT_EQ(c.table().kept().members, 0u);
  EXPECT_GT(c.table().kept().offsets, 0u);
  c.feed(DeleteRequest{10, "g"});
  EXPECT_EQ(c.table().kept(), Kept{});
  EXPECT_TRUE(c.table().consistent());
}

TEST(Bounds, what_was_stored_under_wider_ones_is_loaded_and_goes_on) {
  Coordinator wide;
  const std::string id = stable_alone(wide);
  (void)commit_error(wide, commit(1, 1, id, 42));
  GroupTable table(Options{.max_member_bytes = 10,
                           .max_group_bytes = 1,
                           .max_members_bytes = 1,
                           .max_record_bytes = 1,
                           .max_group_offset_bytes = 1,
                           .max_offsets_bytes = 1});
  for (const StoredRecord& r : wide.log()) {
    const auto value = r.value ? std::optional<ByteView>(*r.value) : std::nullopt;
    ASSERT_TRUE(table.load(r.key, value));
  }
  const Now now = wide.now();
  (void)table.loaded(now);
  EXPECT_EQ(table.describe("g").members.size(), 1u);
  EXPECT_EQ(committed(table), 42);
  EXPECT_TRUE(table.step(heartbeat(2, 1, id), now).replies.size() == 1u);
  const auto rejoined = table.step(join(3, id, 3), now);
  ASSERT_EQ(rejoined.replies.size(), 1u);
  EXPECT_EQ(std::get<JoinResponse>(rejoined.replies[0].response).error, kNone);
  const auto again = table.step(join(5, id, 3), now);
  ASSERT_EQ(again.replies.size(), 1u);
  EXPECT_EQ(std::get<JoinResponse>(again.replies[0].response).error, kNone) << "nor has it grown since";
  const auto newcomer = table.step(join(4, {}, 3), now);
  ASSERT_EQ(newcomer.replies.size(), 1u);
  EXPECT_EQ(std::get<JoinResponse>(newcomer.replies[0].response).error, kGroupMaxSizeReached);
  EXPECT_TRUE(table.consistent());
}

TEST(Bounds, a_groups_record_fits_the_log) {
  Coordinator c(Options{.max_record_bytes = 10'000});
  EXPECT_EQ(join_error(c, large_join(1, 4'000)), kNone);
  EXPECT_EQ(join_error(c, large_join(2, 4'000)), kNone);
  EXPECT_EQ(join_error(c, large_join(3, 4'000)), kGroupMaxSizeReached);
  c.pass(6'000);
  ASSERT_EQ(c.reply<JoinResponse>(1)->members.size(), 2u);
  c.feed(sync(4, 1, "c-2"));
  c.feed(sync(5, 1, "c-1", {{"c-1", Bytes(3'000)}, {"c-2", bytes("B")}}));
  const auto leader = c.reply<SyncResponse>(5);
  ASSERT_TRUE(leader);
  EXPECT_EQ(leader->error, kUnknownServerError) << "as Kafka, whose log refuses it";
  EXPECT_EQ(c.reply<SyncResponse>(4)->error, kUnknownServerError);
  EXPECT_EQ(c.table().describe("g").state, "PreparingRebalance");
  EXPECT_LE(largest_value(c), 10'000u);
  EXPECT_TRUE(c.table().consistent());
}

TEST(Bounds, an_assignment_needs_room_in_the_table) {
  Coordinator c(Options{.max_members_bytes = 10'000});
  c.feed(join(1, {}, 3));
  c.pass(3'000);
  c.feed(sync(2, 1, "c-1", {{"c-1", Bytes(20'000)}}));
  EXPECT_EQ(c.reply<SyncResponse>(2)->error, kCoordinatorNotAvailable);
  EXPECT_EQ(c.table().describe("g").state, "PreparingRebalance");
  EXPECT_LE(c.table().kept().members, 10'000u);
}

TEST(Bounds, records_on_their_way_to_the_log_are_bounded) {
  Coordinator c(Options{.max_storing_bytes = 50'000});
  JoinRequest r = join_static(1, "a");
  r.protocols[0].metadata.resize(5'000);
  c.feed(r);
  c.pass(3'000);
  c.feed(sync(2, 1, "a-1", {{"a-1", bytes("A")}}));
  ASSERT_EQ(c.table().describe("g").state, "Stable");
  c.hold = true;
  KafkaError error = kNone;
  Token token = 10;
  for (; token < 100 && error == kNone; ++token) {
    r.token = token;
    r.new_member_id = "a-" + std::to_string(token);
    error = join_error(c, r);
  }
  EXPECT_EQ(error, kCoordinatorNotAvailable);
  EXPECT_LT(token, 20u);
  EXPECT_LE(c.table().kept().storing, 50'000u);
  CommitRequest other = commit(200, -1, "", 1);
  other.group = "other";
  other.partitions[0].metadata.assign(4'000, 'm');
  error = kNone;
  for (; other.token < 300 && error == kNone; ++other.token) error = commit_error(c, other);
  EXPECT_EQ(error, kCoordinatorNotAvailable);
  EXPECT_LT(other.token, 205u);
  EXPECT_TRUE(c.table().consistent());
  c.hold = false;
  c.release();
  EXPECT_EQ(commit_error(c, other), kNone);
  EXPECT_EQ(c.table().kept().storing, 0u);
  EXPECT_TRUE(c.table().consistent());
}

TEST(Bounds, offsets_with_metadata_have_a_budget_in_bytes) {
  Coordinator c(Options{.max_group_offset_bytes = 100'000});
  c.hold = true;
  std::int32_t partition = 0;
  KafkaError error = kNone;
  for (; partition < 100 && error == kNone; ++partition) {
    error = commit_error(c, commit_of(static_cast<Token>(partition), partition, 4'000));
  }
  EXPECT_EQ(error, kInvalidCommitOffsetSize) << "also while they are being stored";
  EXPECT_GT(partition, 20);
  EXPECT_LT(partition, 27);
  EXPECT_LE(c.table().kept().offsets, 100'000u);
  EXPECT_TRUE(c.table().consistent());
  c.release();
  c.hold = false;
  c.replies.clear();
  EXPECT_LE(c.table().kept().offsets, 100'000u);
  EXPECT_EQ(commit_error(c, commit_of(200, 0, 4'000)), kNone) << "in the place of another";
  EXPECT_EQ(commit_error(c, commit_of(201, 0, 10)), kNone);
  EXPECT_EQ(commit_error(c, commit_of(202, 90, 3'000)), kNone) << "where that was";
  EXPECT_TRUE(c.table().consistent());
}

TEST(Bounds, the_groups_of_a_table_share_room_for_offsets) {
  Coordinator c(Options{.max_offsets_bytes = 100'000});
  KafkaError error = kNone;
  int groups = 0;
  for (; groups < 100 && error == kNone; ++groups) {
    CommitRequest r = commit_of(1, 0, 4'000);
    r.group = "g" + std::to_string(groups);
    error = commit_error(c, r);
  }
  EXPECT_EQ(error, kInvalidCommitOffsetSize);
  EXPECT_LT(groups, 25);
  CommitRequest r = commit_of(2, 1, 4'000);
  r.group = "g0";
  EXPECT_EQ(commit_error(c, r), kInvalidCommitOffsetSize) << "nor more of a group that is there";
  EXPECT_LE(c.table().kept().offsets, 100'000u);
  EXPECT_TRUE(c.table().consistent());
}

TEST(Bounds, a_commit_writes_no_more_than_its_own) {
  Coordinator c(Options{.max_commit_bytes = 1'000'000});
  CommitRequest r = commit(1, -1, "", 1);
  r.group = std::string(30'000, 'g');  // is in each of its records
  r.partitions.assign(1'000, {"t", 0, 1, -1, ""});
  c.hold = true;
  c.feed(r);
  ASSERT_EQ(c.held.size(), 1u);
  EXPECT_LT(c.held[0].records.size(), 34u);
  c.release();
  const auto answer = c.reply<CommitResponse>(1);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->partitions.front().error, kNone);
  EXPECT_EQ(answer->partitions.back().error, kInvalidCommitOffsetSize);
}

TEST(Bounds, an_offset_that_is_named_often_is_deleted_once) {
  Coordinator c;
  (void)commit_error(c, commit(1, -1, "", 42));
  DeleteOffsetsRequest r{2, "g", {}};
  r.partitions.assign(1'000, {"t", 0});
  c.feed(r);
  EXPECT_EQ(c.reply<DeleteOffsetsResponse>(2)->partitions.size(), 1'000u);
  EXPECT_EQ(c.largest_append, 1u);
}

TEST(Bounds, an_offset_that_is_asked_for_often_is_told_once) {
  Coordinator c;
  (void)commit_error(c, commit_of(1, 0, 4'000));
  FetchOffsetsRequest r{"g", {{{"t", std::vector<std::int32_t>(1'000, 0)}, {"t", {0, 1}}}}};
  const auto fetched = c.table().fetch_offsets(r);
  ASSERT_EQ(fetched.partitions.size(), 2u);
  EXPECT_EQ(fetched.partitions[0].offset, 1);
  EXPECT_EQ(fetched.partitions[1].offset, -1);
}

TEST(Bounds, filters_are_read_once_for_all_groups) {
  Coordinator c;
  for (int i = 0; i < 500; ++i) {
    CommitRequest r = commit(1, -1, "", 1);
    r.group = "g" + std::to_string(i);
    (void)commit_error(c, r);
  }
  std::vector<std::string> states(100'000, "empti");
  double took = work_of([&] { EXPECT_TRUE(c.table().list(states).groups.empty()); });
  EXPECT_LT(took, 2.0);
  states.push_back("eMPty");
  took = work_of([&] { EXPECT_EQ(c.table().list(states).groups.size(), 500u); });
  EXPECT_LT(took, 2.0);
}

TEST(Bounds, what_members_read_is_not_asked_of_each_for_each_topic) {
  Coordinator c;
  std::vector<std::string> topics;
  for (int i = 0; i < 10'000; ++i) topics.push_back("topic-" + std::to_string(i));
  for (Token token = 1; token <= 4; ++token) c.feed(reader(token, topics));
  c.pass(12'000);
  c.feed(sync(10, 1, "c-1", {}));
  ASSERT_EQ(c.table().describe("g").state, "Stable");
  DeleteOffsetsRequest r{20, "g", {}};
  for (int i = 0; i < 60; ++i) r.partitions.push_back({i % 2 == 0 ? "topic-7" : "other", 0});
  const double took = work_of([&] { c.feed(r); });
  const auto answer = c.reply<DeleteOffsetsResponse>(20);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->partitions[0].error, kGroupSubscribedToTopic);
  EXPECT_EQ(answer->partitions[1].error, kNone);
  EXPECT_LT(took, 2.0);
}

TEST(Bounds, while_members_have_not_agreed_any_topic_may_be_read) {
  Coordinator c;
  (void)commit_error(c, commit(1, -1, "", 42, "other"));
  c.feed(reader(2, {"t"}));
  c.feed(DeleteOffsetsRequest{3, "g", {{"other", 0}}});
  EXPECT_EQ(c.reply<DeleteOffsetsResponse>(3)->partitions.at(0).error, kGroupSubscribedToTopic);
}

TEST(Bounds, a_leave_of_many_looks_at_each_once) {
  constexpr Token kMembers = 20'000;
  Coordinator c(Options{.initial_rebalance_delay_ms = 0,
                        .max_group_size = kMembers,
                        .max_group_bytes = 100u << 20,
                        .max_members_bytes = 200u << 20});
  LeaveRequest all{1, "g", {}};
  for (Token token = 10; token < 10 + kMembers; ++token) {
    c.feed(join(token, {}, 3));
    all.members.push_back({"c-" + std::to_string(token), std::nullopt});
  }
  const double took = work_of([&] { c.feed(all); });
  const auto left = c.reply<LeaveResponse>(1);
  ASSERT_TRUE(left);
  for (const auto& m : left->members) ASSERT_EQ(m.error, kNone);
  EXPECT_EQ(c.table().kept().members, 0u);
  EXPECT_LT(took, 3.0);
}

TEST(Bounds, static_members_that_stay_away_are_not_waited_for_in_haste) {
  Coordinator c;
  for (Token token = 1; token <= 2; ++token) {
    JoinRequest r = join_static(token, token == 1 ? "a" : "b");
    r.rebalance_timeout_ms = 1;
    c.feed(r);
  }
  c.pass(3'000);
  c.feed(sync(3, 1, "a-1", {}));
  c.feed(sync(4, 1, "b-2"));
  ASSERT_EQ(c.table().describe("g").state, "Stable");
  c.ticks = 0;
  c.feed(leave(5, "", "b"));
  c.pass(9'000);
  EXPECT_LT(c.ticks, 20u);
  EXPECT_EQ(c.table().describe("g").state, "PreparingRebalance") << "a is still waited for";
}

TEST(Bounds, topics_of_a_subscription_take_no_more_than_they_are) {
  Subscription s{{"u", "t", "u"}, {}, {}, 3, {}};
  const std::string topic(30'000, 't');
  for (std::int32_t p = 0; p < 1'000; ++p) s.owned.emplace_back(topic, p);
  const auto topics = decode_topics(encode(s));
  ASSERT_TRUE(topics);
  EXPECT_EQ(*topics, (std::vector<std::string>{"t", "u"}));
  EXPECT_FALSE(decode_topics(bytes("m")));
}

}  // namespace
}  // namespace pyralog::group
