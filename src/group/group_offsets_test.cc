#include <gtest/gtest.h>

#include "group/assignor.h"
#include "group/group_testing.h"

namespace pyralog::group {
namespace {

using namespace testing;
using enum KafkaError;

KafkaError commit_error(Coordinator& c, const CommitRequest& in) {
  c.feed(in);
  const auto answer = c.reply<CommitResponse>(in.token);
  return answer ? answer->partitions.at(0).error : kUnknownServerError;
}

TEST(Offsets, are_told_only_once_they_are_committed) {
  Coordinator c;
  const std::string id = stable_alone(c);
  c.hold = true;
  c.feed(commit(1, 1, id, 42));
  EXPECT_TRUE(c.replies.empty());
  EXPECT_EQ(committed(c.table()), -1);
  c.release();
  EXPECT_EQ(c.reply<CommitResponse>(1)->partitions[0].error, kNone);
  const auto fetched = c.table().fetch_offsets({"g", {}});
  ASSERT_EQ(fetched.partitions.size(), 1u);
  EXPECT_EQ(fetched.partitions[0].offset, 42);
  EXPECT_EQ(fetched.partitions[0].leader_epoch, 3);
  EXPECT_EQ(fetched.partitions[0].metadata, "note");
}

TEST(Offsets, that_cannot_be_stored_are_not_there) {
  Coordinator c;
  const std::string id = stable_alone(c);
  for (const auto& [fault, told] : {std::pair{kNotEnoughReplicas, kCoordinatorNotAvailable},
                                    {kNotLeaderOrFollower, kNotCoordinator},
                                    {kMessageTooLarge, kInvalidCommitOffsetSize},
                                    {kRequestTimedOut, kRequestTimedOut}}) {
    c.hold = true;
    c.feed(commit(1, 1, id, 42));
    c.release(fault);
    EXPECT_EQ(c.reply<CommitResponse>(1)->partitions[0].error, told);
  }
  EXPECT_EQ(committed(c.table()), -1);
}

TEST(Offsets, the_later_of_two_commits_in_flight_wins) {
  Coordinator c;
  const std::string id = stable_alone(c);
  c.hold = true;
  c.feed(commit(1, 1, id, 42));
  c.feed(commit(2, 1, id, 41));
  c.release();
  EXPECT_EQ(committed(c.table()), 41);
  c.restart();
  EXPECT_EQ(committed(c.table()), 41);
}

TEST(Offsets, only_members_of_the_current_generation_commit) {
  Coordinator c;
  const std::string id = stable_alone(c);
  EXPECT_EQ(commit_error(c, commit(1, 0, id, 1)), kIllegalGeneration);
  EXPECT_EQ(commit_error(c, commit(2, 2, id, 1)), kIllegalGeneration);
  EXPECT_EQ(commit_error(c, commit(3, 1, "stranger", 1)), kUnknownMemberId);
  EXPECT_EQ(commit_error(c, commit(4, -1, "", 1)), kUnknownMemberId) << "the group has members";
  EXPECT_EQ(commit_error(c, commit(5, 1, id, 1)), kNone);
  EXPECT_EQ(commit_error(c, commit(6, 1, id, 1, "no/topic")), kInvalidTopicException);
}

TEST(Offsets, consumers_without_group_management_commit_into_an_empty_group) {
  Coordinator c;
  EXPECT_EQ(commit_error(c, commit(1, 5, "m", 1)), kIllegalGeneration) << "no such group";
  EXPECT_EQ(commit_error(c, commit(2, -1, "", 9)), kNone);
  EXPECT_EQ(committed(c.table()), 9);
  EXPECT_EQ(c.table().describe("g").state, "Empty");
  EXPECT_EQ(c.table().list({}).groups.at(0).protocol_type, "");
  EXPECT_EQ(commit_error(c, commit(3, 1, "m", 1)), kUnknownMemberId);
  CommitRequest nameless = commit(4, -1, "", 9);
  nameless.group.clear();
  EXPECT_EQ(commit_error(c, nameless), kNone) << "the empty id is a group for offsets";
}

TEST(Offsets, bounds_are_per_partition) {
  Coordinator c(Options{.offset_metadata_max_bytes = 4, .max_offsets_per_group = 2});
  CommitRequest r = commit(1, -1, "", 1);
  r.partitions = {
      {"t", 0, 1, -1, "1234"}, {"t", 1, 1, -1, "12345"}, {"t", 2, 1, -1, ""}, {"t", 3, 1, -1, ""}};
  c.feed(r);
  const auto answer = c.reply<CommitResponse>(1);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->partitions[0].error, kNone);
  EXPECT_EQ(answer->partitions[1].error, kOffsetMetadataTooLarge);
  EXPECT_EQ(answer->partitions[2].error, kNone);
  EXPECT_EQ(answer->partitions[3].error, kInvalidCommitOffsetSize);
  EXPECT_EQ(c.table().fetch_offsets({"g", {}}).partitions.size(), 2u);
}

TEST(Offsets, fetch_says_minus_one_for_what_is_not_there) {
  Coordinator c;
  const auto unknown = c.table().fetch_offsets({"nobody", {{{"t", {0, 1}}}}});
  EXPECT_EQ(unknown.error, kNone);
  ASSERT_EQ(unknown.partitions.size(), 2u);
  EXPECT_EQ(unknown.partitions[1].offset, -1);
  EXPECT_EQ(unknown.partitions[1].partition, 1);
  EXPECT_TRUE(c.table().fetch_offsets({"nobody", {}}).partitions.empty());
}

TEST(Offsets, commits_keep_a_member_alive) {
  Coordinator c;
  const std::string id = stable_alone(c);
  for (int i = 0; i < 5; ++i) {
    c.pass(9'000);
    EXPECT_EQ(commit_error(c, commit(static_cast<Token>(i), 1, id, i)), kNone);
  }
}

TEST(DeleteGroup, removes_an_empty_one_with_its_offsets_for_good) {
  Coordinator c;
  const std::string id = stable_alone(c);
  (void)commit_error(c, commit(1, 1, id, 42));
  c.feed(DeleteRequest{2, "g"});
  EXPECT_EQ(c.reply<DeleteResponse>(2)->error, kNonEmptyGroup);
  c.feed(leave(3, id));
  c.hold = true;
  c.feed(DeleteRequest{4, "g"});
  EXPECT_FALSE(c.reply<DeleteResponse>(4)) << "not before the tombstones are stored";
  EXPECT_EQ(c.table().describe("g").state, "Dead");
  c.feed(join(5));
  EXPECT_EQ(c.reply<JoinResponse>(5)->error, kCoordinatorNotAvailable);
  c.feed(DeleteRequest{6, "g"});
  EXPECT_EQ(c.reply<DeleteResponse>(6)->error, kGroupIdNotFound);
  c.release();
  EXPECT_EQ(c.reply<DeleteResponse>(4)->error, kNone);
  EXPECT_EQ(c.table().size(), 0u);
  c.restart();
  EXPECT_EQ(c.table().size(), 0u);
  EXPECT_EQ(committed(c.table()), -1);
  c.feed(DeleteRequest{7, "g"});
  EXPECT_EQ(c.reply<DeleteResponse>(7)->error, kGroupIdNotFound);
}

TEST(DeleteGroup, that_cannot_be_stored_leaves_the_group) {
  Coordinator c;
  (void)commit_error(c, commit(1, -1, "", 42));
  c.hold = true;
  c.feed(DeleteRequest{2, "g"});
  c.release(kNotEnoughReplicas);
  EXPECT_EQ(c.reply<DeleteResponse>(2)->error, kCoordinatorNotAvailable);
  EXPECT_EQ(c.table().describe("g").state, "Empty");
  EXPECT_EQ(committed(c.table()), 42);
}

TEST(DeleteGroup, covers_what_is_still_on_its_way) {
  Coordinator c;
  c.hold = true;
  c.feed(commit(1, -1, "", 42));
  c.feed(DeleteRequest{2, "g"});
  c.release();
  EXPECT_EQ(c.reply<DeleteResponse>(2)->error, kNone);
  c.restart();
  EXPECT_EQ(committed(c.table()), -1);
}

TEST(DeleteOffsets, forgets_what_an_empty_group_has_committed) {
  Coordinator c;
  (void)commit_error(c, commit(1, -1, "", 42));
  (void)commit_error(c, commit(2, -1, "", 43, "keep"));
  c.feed(DeleteOffsetsRequest{3, "g", {{"t", 0}, {"t", 7}}});
  const auto answer = c.reply<DeleteOffsetsResponse>(3);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->error, kNone);
  ASSERT_EQ(answer->partitions.size(), 2u);
  EXPECT_EQ(answer->partitions[0].error, kNone);
  EXPECT_EQ(answer->partitions[1].error, kNone) << "there was nothing to forget";
  EXPECT_EQ(committed(c.table()), -1);
  EXPECT_EQ(committed(c.table(), "keep"), 43);
  c.restart();
  EXPECT_EQ(committed(c.table()), -1);
  EXPECT_EQ(committed(c.table(), "keep"), 43);
  c.feed(DeleteOffsetsRequest{4, "nobody", {{"t", 0}}});
  EXPECT_EQ(c.reply<DeleteOffsetsResponse>(4)->error, KafkaError::kGroupIdNotFound);
}

TEST(DeleteOffsets, leaves_the_topics_that_members_read) {
  Coordinator c;
  (void)commit_error(c, commit(1, -1, "", 42));
  (void)commit_error(c, commit(2, -1, "", 43, "other"));
  JoinRequest reader = join(3, {}, 3);
  reader.protocols = {Protocol{"range", encode(Subscription{{"t"}, {}, {}, -1, {}})}};
  c.feed(reader);
  c.pass(3'000);
  const auto joined = c.reply<JoinResponse>(3);
  ASSERT_TRUE(joined.has_value());
  c.feed(sync(4, joined->generation, joined->member_id, {{joined->member_id, bytes("all")}}));
  c.feed(DeleteOffsetsRequest{5, "g", {{"t", 0}, {"other", 0}}});
  const auto answer = c.reply<DeleteOffsetsResponse>(5);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->partitions.at(0).error, KafkaError::kGroupSubscribedToTopic);
  EXPECT_EQ(answer->partitions.at(1).error, kNone);
  EXPECT_EQ(committed(c.table()), 42);
  EXPECT_EQ(committed(c.table(), "other"), -1);
}

TEST(DeleteOffsets, a_commit_that_came_later_stands) {
  Coordinator c;
  (void)commit_error(c, commit(1, -1, "", 42));
  c.hold = true;
  c.feed(DeleteOffsetsRequest{2, "g", {{"t", 0}}});
  c.feed(commit(3, -1, "", 44));
  c.release();
  EXPECT_EQ(committed(c.table()), 44);
  c.restart();
  EXPECT_EQ(committed(c.table()), 44);
}

TEST(TopicsDeleted, takes_their_offsets_along) {
  Coordinator c;
  (void)commit_error(c, commit(1, -1, "", 42));
  (void)commit_error(c, commit(2, -1, "", 43, "keep"));
  c.hold = true;
  c.feed(commit(3, -1, "", 44));
  c.feed(TopicsDeleted{{"t"}});
  c.release();
  EXPECT_EQ(committed(c.table()), -1);
  EXPECT_EQ(committed(c.table(), "keep"), 43);
  EXPECT_EQ(c.table().topics(), std::set<std::string>{"keep"});
  c.restart();
  EXPECT_EQ(committed(c.table()), -1);
  EXPECT_EQ(committed(c.table(), "keep"), 43);
}

}  // namespace
}  // namespace pyralog::group
