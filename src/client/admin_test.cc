#include "client/admin.h"

#include <gmock/gmock.h>

#include "client/testing.h"

namespace pyralog::client {
namespace {

using ::testing::AllOf;
using testing::Fault;
using ::testing::HasSubstr;
using wire::kafka::ApiKey;

constexpr std::int16_t kNotLeader = 6;
constexpr std::int16_t kLoading = 14;
constexpr std::int16_t kUnknownMember = 25;
constexpr std::int16_t kMetadataTooLarge = 12;

class AdminTest : public testing::ClientTest {
 protected:
  /// The first `times` requests of the kind get `code` and are not carried out.
  void refuse(ApiKey key, std::int16_t code, int times) {
    broker_.fault = [key, code, times](const wire::kafka::RequestFrame& request) mutable {
      const bool meant = request.header.request_api_key == static_cast<std::int16_t>(key);
      return meant && times-- > 0 ? Fault{Fault::Kind::kError, code} : Fault{};
    };
  }
  Result<void> commit() {
    Result<void> result;
    with_cluster([&](Cluster& cluster) -> io::Task<void> {
      result = co_await Admin(cluster).commit_offsets("g", {{{"t", 0}, 7}, {{"t", 2}, 9}}, in(30s));
    });
    return result;
  }
  Result<Offsets> delete_records(Offsets before) {
    Result<Offsets> result;
    with_cluster([&](Cluster& cluster) -> io::Task<void> {
      result = co_await Admin(cluster).delete_records(before, in(30s));
    });
    return result;
  }
};

TEST_F(AdminTest, offsets_are_stored_for_a_group_without_members) {
  ASSERT_TRUE(commit());
  EXPECT_EQ(broker_.committed("t", 0), 7);
  EXPECT_EQ(broker_.committed("t", 1), -1);
  EXPECT_EQ(broker_.committed("t", 2), 9);
}

TEST_F(AdminTest, a_coordinator_that_loads_is_asked_again) {
  refuse(ApiKey::kOffsetCommit, kLoading, 2);
  ASSERT_TRUE(commit());
  EXPECT_EQ(broker_.committed("t", 0), 7);
  EXPECT_EQ(broker_.count(ApiKey::kOffsetCommit), 3);
}

TEST_F(AdminTest, a_group_with_members_is_named_with_the_remedy) {
  refuse(ApiKey::kOffsetCommit, kUnknownMember, 1);
  const auto refused = commit();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kAlreadyExists);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("group \"g\""), HasSubstr("members; stop")));
  EXPECT_EQ(broker_.committed("t", 0), -1);
}

TEST_F(AdminTest, a_partition_that_is_refused_is_named) {
  refuse(ApiKey::kOffsetCommit, kMetadataTooLarge, 1);
  const auto refused = commit();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message,
              AllOf(HasSubstr("group \"g\": topic \"t\" partition 0"), HasSubstr("error 12")));
  EXPECT_EQ(broker_.count(ApiKey::kOffsetCommit), 1) << "asking again would not help";
}

TEST_F(AdminTest, records_are_deleted_where_their_leader_is_now) {
  broker_.partition("t", 0).end = 9;
  broker_.partition("t", 1).end = 4;
  refuse(ApiKey::kDeleteRecords, kNotLeader, 1);
  const auto starts = delete_records({{{"t", 0}, 5}, {{"t", 1}, -1}});
  ASSERT_TRUE(starts) << starts.error().message;
  EXPECT_EQ(*starts, (Offsets{{{"t", 0}, 5}, {{"t", 1}, 4}}));
  EXPECT_EQ(broker_.partition("t", 0).start, 5);
  EXPECT_EQ(broker_.partition("t", 1).start, 4);
  EXPECT_EQ(broker_.partition("t", 2).start, 0);
}

TEST_F(AdminTest, a_partition_that_refuses_keeps_no_other_from_being_cut) {
  broker_.partition("t", 1).end = 4;
  const auto refused = delete_records({{{"t", 0}, 5}, {{"t", 1}, 3}, {{"t", 9}, 0}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(broker_.partition("t", 1).start, 3);
  EXPECT_EQ(broker_.count(ApiKey::kDeleteRecords), 1);
}

TEST_F(AdminTest, each_partition_says_whether_its_leader_was_moved) {
  broker_.partition("t", 0).led_by_another = true;
  broker_.partition("t", 2).led_by_another = true;
  broker_.partition("t", 2).refuses_election = 80;
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Admin admin(cluster);
    const auto named = co_await admin.elect_preferred({{{"t", 0}, {"t", 1}}}, in(30s));
    EXPECT_TRUE(named);
    EXPECT_EQ(named->size(), 2u);
    EXPECT_EQ(named->at({"t", 0}), Election::kMoved);
    EXPECT_EQ(named->at({"t", 1}), Election::kNotNeeded);
    const auto rest = co_await admin.elect_preferred(std::nullopt, in(30s));
    EXPECT_TRUE(rest);
    EXPECT_EQ(rest->size(), 1u);
    EXPECT_FALSE(rest->at({"t", 2}));
    EXPECT_THAT(rest->at({"t", 2}).error().message,
                HasSubstr("topic \"t\" partition 2: as it was asked"));
  });
  EXPECT_EQ(broker_.count(ApiKey::kElectLeaders), 2);
}

TEST_F(AdminTest, an_election_that_is_refused_as_a_whole_fails) {
  refuse(ApiKey::kElectLeaders, 42, 1);
  with_cluster([](Cluster& cluster) -> io::Task<void> {
    const auto refused = co_await Admin(cluster).elect_preferred(std::nullopt, in(30s));
    EXPECT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  });
}

TEST_F(AdminTest, a_partition_gets_other_replicas_until_that_is_taken_back) {
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Admin admin(cluster);
    const std::vector<std::int32_t> to{3, 1};
    EXPECT_TRUE(co_await admin.reassign({"t", 1}, to, in(30s)));
    const auto moves = co_await admin.reassignments(in(30s));
    EXPECT_TRUE(moves);
    EXPECT_EQ(moves->size(), 1u);
    EXPECT_EQ(moves->at({"t", 1}).replicas, to);
    EXPECT_TRUE(co_await admin.reassign({"t", 1}, std::nullopt, in(30s)));
    EXPECT_TRUE((co_await admin.reassignments(in(30s)))->empty());
    const auto nothing = co_await admin.reassign({"t", 1}, std::nullopt, in(30s));
    EXPECT_FALSE(nothing);
    EXPECT_EQ(nothing.error().code, Code::kNotFound);
    EXPECT_EQ(nothing.error().message, "topic \"t\" partition 1: as it was asked (error 85)");
  });
}

TEST_F(AdminTest, what_is_refused_of_a_move_fails) {
  refuse(ApiKey::kAlterPartitionReassignments, 39, 1);
  with_cluster([](Cluster& cluster) -> io::Task<void> {
    const std::vector<std::int32_t> to{9};
    const auto refused = co_await Admin(cluster).reassign({"t", 0}, to, in(30s));
    EXPECT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  });
  EXPECT_EQ(broker_.count(ApiKey::kAlterPartitionReassignments), 1);
}

TEST_F(AdminTest, what_nobody_can_say_of_a_move_is_asked_again) {
  const std::vector<std::int32_t> to{3, 1};
  for (const auto& wanted : {std::optional(to), std::optional<std::vector<std::int32_t>>()}) {
    refuse(ApiKey::kAlterPartitionReassignments, 7, 1);
    with_cluster([&](Cluster& cluster) -> io::Task<void> {
      const auto done = co_await Admin(cluster).reassign({"t", 1}, wanted, in(30s));
      EXPECT_TRUE(done) << done.error().message;
    });
  }
  EXPECT_EQ(broker_.count(ApiKey::kAlterPartitionReassignments), 4);
  // It was taken back by the attempt that had no answer.
  refuse(ApiKey::kAlterPartitionReassignments, 7, 1);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    const auto done = co_await Admin(cluster).reassign({"t", 1}, std::nullopt, in(30s));
    EXPECT_TRUE(done) << done.error().message;
  });
  refuse(ApiKey::kDrainNode, 7, 1);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    EXPECT_TRUE(co_await Admin(cluster).drain_node(3, DrainChange::kDrain, in(30s)));
  });
  EXPECT_EQ(broker_.count(ApiKey::kDrainNode), 2);
}

TEST_F(AdminTest, a_node_is_drained_asked_and_let_be) {
  with_cluster([](Cluster& cluster) -> io::Task<void> {
    Admin admin(cluster);
    EXPECT_FALSE((co_await admin.drain_node(3, DrainChange::kNone, in(30s)))->draining);
    const auto drain = co_await admin.drain_node(3, DrainChange::kDrain, in(30s));
    EXPECT_TRUE(drain);
    EXPECT_TRUE(drain->draining);
    EXPECT_EQ(drain->waiting, 2);
    EXPECT_EQ(drain->stuck, 1);
    EXPECT_EQ(drain->examples.size(), 1u);
    EXPECT_EQ(drain->examples[0].partition, (TopicPartition{"t", 2}));
    EXPECT_FALSE(drain->done());
    EXPECT_FALSE((co_await admin.drain_node(3, DrainChange::kDrainNoLonger, in(30s)))->draining);
  });
  refuse(ApiKey::kDrainNode, 102, 1);
  with_cluster([](Cluster& cluster) -> io::Task<void> {
    const auto refused = co_await Admin(cluster).drain_node(9, DrainChange::kDrain, in(30s));
    EXPECT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kNotFound);
  });
}

}  // namespace
}  // namespace pyralog::client
