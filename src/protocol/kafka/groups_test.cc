// Groups on the wire: coordinators, joins, commits.
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/delete_groups.h"
#include "wire/kafka/gen/delete_topics.h"
#include "wire/kafka/gen/describe_groups.h"
#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/heartbeat.h"
#include "wire/kafka/gen/join_group.h"
#include "wire/kafka/gen/leave_group.h"
#include "wire/kafka/gen/list_groups.h"
#include "wire/kafka/gen/offset_commit.h"
#include "wire/kafka/gen/offset_fetch.h"
#include "wire/kafka/gen/sync_group.h"

namespace pyralog::protocol::kafka {
namespace {

using testing::KafkaTest;
using testing::RawClient;

class WireGroupsTest : public KafkaTest {
 protected:
  WireGroupsTest() {
    start();
    with_client([](RawClient& client) -> io::Task<void> {
      EXPECT_EQ(co_await create(client, "t", 2), 0);
      wire::FindCoordinatorRequest find;
      find.key = "g";
      EXPECT_EQ((co_await client.call<wire::FindCoordinatorResponse>(find, 0))->error_code, 0);
    });
    sim_.run_for(1s);
  }
  static wire::JoinGroupRequest join(std::string member, std::optional<std::string> instance = {}) {
    wire::JoinGroupRequest made;
    made.group_id = "g";
    made.session_timeout_ms = 10'000;
    made.rebalance_timeout_ms = 10'000;
    made.member_id = std::move(member);
    made.group_instance_id = std::move(instance);
    made.protocol_type = "consumer";
    made.protocols.push_back({"range", Bytes{1, 2}});
    return made;
  }
  static io::Task<std::int16_t> commit(RawClient& client, std::int32_t generation,
                                       std::string member, std::int64_t offset,
                                       std::int16_t version = 9, std::string topic = "t") {
    wire::OffsetCommitRequest request;
    request.group_id = "g";
    request.generation_id_or_member_epoch = generation;
    request.member_id = std::move(member);
    auto& to = request.topics.emplace_back();
    to.name = std::move(topic);
    auto& partition = to.partitions.emplace_back();
    partition.committed_offset = offset;
    partition.committed_metadata = "m";
    const auto answer = co_await client.call<wire::OffsetCommitResponse>(request, version);
    co_return answer->topics.at(0).partitions.at(0).error_code;
  }
  static io::Task<std::int64_t> committed(RawClient& client, std::int16_t version,
                                          std::string of = "g") {
    wire::OffsetFetchRequest request;
    if (version < 8) {
      request.group_id = of;
      request.topics.emplace();
      request.topics->push_back({"t", {0}});
    } else {
      auto& group = request.groups.emplace_back();
      group.group_id = of;
      group.topics.emplace();
      group.topics->push_back({"t", {0}});
    }
    const auto answer = co_await client.call<wire::OffsetFetchResponse>(request, version);
    if (version < 8) {
      EXPECT_EQ(answer->error_code, 0);
      co_return answer->topics.at(0).partitions.at(0).committed_offset;
    }
    EXPECT_EQ(answer->groups.at(0).error_code, 0);
    co_return answer->groups.at(0).topics.at(0).partitions.at(0).committed_offset;
  }
};

TEST_F(WireGroupsTest, coordinators_are_found_one_by_one_or_in_a_batch) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 0; version <= 4; ++version) {
      wire::FindCoordinatorRequest find;
      find.key = "g";
      if (version == 4) find.coordinator_keys = {"g", "h"};
      const auto answer = co_await client.call<wire::FindCoordinatorResponse>(find, version);
      if (version < 4) {
        EXPECT_EQ(answer->error_code, 0);
        EXPECT_EQ(answer->node_id, 1);
        EXPECT_EQ(answer->host, "10.0.0.1");
      } else {
        EXPECT_EQ(answer->coordinators.size(), 2u);
        EXPECT_EQ(answer->coordinators.at(1).key, "h");
        EXPECT_EQ(answer->coordinators.at(1).port, 9092);
      }
      if (version == 0) continue;
      find.key_type = 1;
      const auto refused = co_await client.call<wire::FindCoordinatorResponse>(find, version);
      EXPECT_EQ(version < 4 ? refused->error_code : refused->coordinators.at(0).error_code, 53)
          << "a code that clients do not try again after";
    }
  });
}

TEST_F(WireGroupsTest, a_member_joins_syncs_commits_and_leaves) {
  with_client([](RawClient& client) -> io::Task<void> {
    const auto first = co_await client.call<wire::JoinGroupResponse>(join(""), 9);
    EXPECT_EQ(first->error_code, 79) << "KIP-394: first an id";
    EXPECT_FALSE(first->member_id.empty());
    const auto joined = co_await client.call<wire::JoinGroupResponse>(join(first->member_id), 9);
    EXPECT_EQ(joined->error_code, 0);
    EXPECT_EQ(joined->leader, first->member_id);
    EXPECT_EQ(joined->members.size(), 1u);
    EXPECT_EQ(joined->protocol_name, "range");
    wire::SyncGroupRequest sync;
    sync.group_id = "g";
    sync.generation_id = joined->generation_id;
    sync.member_id = first->member_id;
    sync.protocol_type = "consumer";
    sync.protocol_name = "range";
    sync.assignments.push_back({first->member_id, Bytes{7}});
    const auto synced = co_await client.call<wire::SyncGroupResponse>(sync, 5);
    EXPECT_EQ(synced->error_code, 0);
    EXPECT_EQ(synced->assignment, Bytes{7});
    wire::HeartbeatRequest beat;
    beat.group_id = "g";
    beat.generation_id = joined->generation_id;
    beat.member_id = first->member_id;
    EXPECT_EQ((co_await client.call<wire::HeartbeatResponse>(beat, 4))->error_code, 0);
    beat.generation_id += 1;
    EXPECT_EQ((co_await client.call<wire::HeartbeatResponse>(beat, 4))->error_code, 22);
    EXPECT_EQ(co_await commit(client, joined->generation_id, first->member_id, 5), 0);
    EXPECT_EQ(co_await commit(client, joined->generation_id + 1, first->member_id, 6), 22);
    EXPECT_EQ(co_await commit(client, joined->generation_id, "nobody", 6), 25);
    EXPECT_EQ(co_await commit(client, joined->generation_id, first->member_id, 6, 9, "nowhere"), 3);
    EXPECT_EQ(co_await committed(client, 9), 5);
    wire::DeleteGroupsRequest remove;
    remove.groups_names = {"g", "unknown"};
    auto removed = co_await client.call<wire::DeleteGroupsResponse>(remove, 2);
    EXPECT_EQ(removed->results.at(0).error_code, 68);
    EXPECT_EQ(removed->results.at(1).error_code, 69);
    wire::LeaveGroupRequest leave;
    leave.group_id = "g";
    leave.members.emplace_back().member_id = first->member_id;
    leave.members.emplace_back().member_id = "nobody";
    const auto left = co_await client.call<wire::LeaveGroupResponse>(leave, 5);
    EXPECT_EQ(left->members.at(0).error_code, 0);
    EXPECT_EQ(left->members.at(1).error_code, 25);
    removed = co_await client.call<wire::DeleteGroupsResponse>(remove, 2);
    EXPECT_EQ(removed->results.at(0).error_code, 0);
    EXPECT_EQ(co_await committed(client, 9), -1);
  });
}

TEST_F(WireGroupsTest, old_clients_join_without_an_id) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 0; version <= 3; ++version) {
      const auto joined = co_await client.call<wire::JoinGroupResponse>(join(""), version);
      EXPECT_EQ(joined->error_code, 0) << version;
      wire::LeaveGroupRequest leave;
      leave.group_id = "g";
      leave.member_id = joined->member_id;
      const auto left = co_await client.call<wire::LeaveGroupResponse>(leave, version < 3 ? version : std::int16_t{2});
      EXPECT_EQ(left->error_code, 0);
    }
  });
}

TEST_F(WireGroupsTest, a_static_member_that_comes_back_fences_its_former_self) {
  with_client([](RawClient& client) -> io::Task<void> {
    const auto first = co_await client.call<wire::JoinGroupResponse>(join("", "one"), 9);
    EXPECT_EQ(first->error_code, 0) << "a static member needs no id beforehand";
    wire::SyncGroupRequest sync;
    sync.group_id = "g";
    sync.generation_id = first->generation_id;
    sync.member_id = first->member_id;
    sync.group_instance_id = "one";
    EXPECT_EQ((co_await client.call<wire::SyncGroupResponse>(sync, 3))->error_code, 0);
    const auto again = co_await client.call<wire::JoinGroupResponse>(join("", "one"), 9);
    EXPECT_EQ(again->error_code, 0);
    EXPECT_NE(again->member_id, first->member_id);
    wire::HeartbeatRequest beat;
    beat.group_id = "g";
    beat.generation_id = first->generation_id;
    beat.member_id = first->member_id;
    beat.group_instance_id = "one";
    EXPECT_EQ((co_await client.call<wire::HeartbeatResponse>(beat, 4))->error_code, 82);
  });
}

TEST_F(WireGroupsTest, every_served_version_commits_and_fetches) {
  with_client([](RawClient& client) -> io::Task<void> {
    std::int64_t offset = 10;
    for (std::int16_t version = 2; version <= 9; ++version) {
      EXPECT_EQ(co_await commit(client, -1, "", ++offset, version), 0) << version;
      EXPECT_EQ(co_await committed(client, version), offset);
    }
    EXPECT_EQ(co_await committed(client, 1), offset);
    wire::OffsetFetchRequest all;
    all.group_id = "g";
    const auto told = co_await client.call<wire::OffsetFetchResponse>(all, 7);
    EXPECT_EQ(told->topics.size(), 1u);
    wire::ListGroupsRequest list;
    for (std::int16_t version = 0; version <= 5; ++version) {
      const auto groups = co_await client.call<wire::ListGroupsResponse>(list, version);
      EXPECT_EQ(groups->groups.size(), 1u);
    }
    list.states_filter = {"Stable"};
    EXPECT_TRUE((co_await client.call<wire::ListGroupsResponse>(list, 5))->groups.empty());
    list.states_filter = {"Empty"};
    list.types_filter = {"Classic"};
    EXPECT_EQ((co_await client.call<wire::ListGroupsResponse>(list, 5))->groups.size(), 1u);
    list.types_filter = {"consumer"};
    EXPECT_TRUE((co_await client.call<wire::ListGroupsResponse>(list, 5))->groups.empty());
    wire::DescribeGroupsRequest describe;
    describe.groups = {"g", "unknown"};
    const auto described = co_await client.call<wire::DescribeGroupsResponse>(describe, 5);
    EXPECT_EQ(described->groups.at(0).group_state, "Empty");
    EXPECT_EQ(described->groups.at(1).group_state, "Dead");
    for (std::int16_t version = 3; version <= 5; ++version) {
      describe.include_authorized_operations = false;
      const auto less = co_await client.call<wire::DescribeGroupsResponse>(describe, version);
      EXPECT_EQ(less->groups.at(0).authorized_operations, INT32_MIN);
      describe.include_authorized_operations = true;
      const auto more = co_await client.call<wire::DescribeGroupsResponse>(describe, version);
      EXPECT_EQ(more->groups.at(0).authorized_operations, 1 << 3 | 1 << 6 | 1 << 8)
          << "READ, DELETE, DESCRIBE";
    }
  });
}

TEST_F(WireGroupsTest, a_commit_that_meets_the_deletion_of_its_topic_leaves_nothing) {
  wire::OffsetCommitRequest request;
  request.topics.emplace_back().name = "t";
  request.topics.back().partitions.emplace_back().committed_offset = 5;
  for (int round = 0; round < 80; ++round) {
    request.group_id = "g" + std::to_string(round);  // coordinated here or there
    const Bytes frame = wire::encode_request(request, 9, 1, "raw").value().bytes;
    with_client([](RawClient& client) -> io::Task<void> {
      wire::DeleteTopicsRequest gone;
      gone.topic_names = {"t"};
      co_await client.send(gone, 3);
    });
    sim_.run_until([this] { return cluster_->catalog()->topic("t") == nullptr; }, 10s);
    // The deletion is decided; the shards learn of it in any order, and the commit is at one of
    // them.
    node().spawn(
        [&, this]() -> io::Task<void> {
          const auto bytes = std::make_shared<Bytes>(frame.begin() + 4, frame.end());
          RequestTimes times;
          Request commit{bytes, wire::parse_request(*bytes).value(), "client", {}, &times};
          static_cast<void>(co_await handle_offset_commit(*services_[1], std::move(commit)));
        },
        1);
    sim_.run_for(1s);
    with_client([&](RawClient& client) -> io::Task<void> {
      EXPECT_EQ(co_await create(client, "t"), 0);
      EXPECT_EQ(co_await committed(client, 9, request.group_id), -1);
    });
  }
}

TEST_F(WireGroupsTest, a_join_that_waits_lets_go_at_a_stop) {
  with_client([this](RawClient& client) -> io::Task<void> {
    const auto joined = co_await client.call<wire::JoinGroupResponse>(join(""), 3);
    EXPECT_EQ(joined->error_code, 0);
    const auto other = co_await connect();
    co_await other->send(join(""), 3);  // waits for the first one to join again
    co_await io::sleep_for(100ms);
    sim_.schedule(Duration{0}, [this] { ask_to_stop(); });
    const auto answer = co_await other->receive<wire::JoinGroupResponse>(3);
    if (answer) EXPECT_EQ((*answer)->error_code, 16);
  });
  sim_.run_until([this] { return broker_ == nullptr; }, 60s);
  EXPECT_EQ(broker_, nullptr);
  stopping_ = false;
}

}  // namespace
}  // namespace pyralog::protocol::kafka
