// What clients are told of the other nodes of a cluster: who leads, who coordinates, where they
// are.
#include <algorithm>

#include "group/records.h"
#include "protocol/kafka/cluster_testing.h"
#include "protocol/kafka/nodes.h"
#include "wire/kafka/gen/delete_groups.h"
#include "wire/kafka/gen/delete_records.h"
#include "wire/kafka/gen/describe_cluster.h"
#include "wire/kafka/gen/describe_groups.h"
#include "wire/kafka/gen/describe_producers.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/heartbeat.h"
#include "wire/kafka/gen/join_group.h"
#include "wire/kafka/gen/leave_group.h"
#include "wire/kafka/gen/list_groups.h"
#include "wire/kafka/gen/list_offsets.h"
#include "wire/kafka/gen/metadata.h"
#include "wire/kafka/gen/offset_commit.h"
#include "wire/kafka/gen/offset_delete.h"
#include "wire/kafka/gen/offset_fetch.h"
#include "wire/kafka/gen/offset_for_leader_epoch.h"
#include "wire/kafka/gen/sync_group.h"

namespace pyralog::protocol::kafka {
namespace {

using testing::batch_of;
using testing::disk_of;
using testing::Ids;
using testing::RawClient;

constexpr std::int16_t kNotLeader = 6;
constexpr std::int16_t kFenced = 74;
constexpr std::int16_t kNoCoordinator = 15;
constexpr std::int16_t kNotCoordinator = 16;

class ClusterTest : public testing::KafkaOfManyTest {
 protected:
  /// "10.0.0.2:9192 b" and so on.
  template <typename Node>
  static std::string address(const Node& node) {
    return node.host + ":" + std::to_string(node.port) + " " + node.rack.value_or("-");
  }
  static wire::FetchRequest fetch_of(std::string topic, std::int32_t epoch = -1, Uuid id = {}) {
    wire::FetchRequest made;
    made.max_wait_ms = 0;
    auto& to = made.topics.emplace_back();
    to.topic = std::move(topic);
    to.topic_id = id;
    auto& partition = to.partitions.emplace_back();
    partition.current_leader_epoch = epoch;
    partition.partition_max_bytes = 1 << 20;
    return made;
  }
  /// "2@5 10.0.0.2:9192 b": the leader that an answer tells of, and the nodes that it has addresses
  /// of.
  template <typename Partition, typename Endpoints>
  static std::string hint(const Partition& partition, const Endpoints& endpoints) {
    std::string all = std::to_string(partition.current_leader.leader_id) + "@" +
                      std::to_string(partition.current_leader.leader_epoch);
    for (const auto& each : endpoints) all += " " + address(each);
    return all;
  }
  /// A group that belongs to this of two partitions.
  static std::string group_in(std::int32_t partition) {
    for (int i = 0;; ++i) {
      const std::string name = "g" + std::to_string(i);
      if (group::partition_for(name, 2) == partition) return name;
    }
  }
};

TEST_F(ClusterTest, metadata_tells_of_each_partition_who_leads_it_and_of_each_node_where_it_is) {
  propose({topic("far", {nodes({2, 1, 3}), nodes({3}), nodes({3, 2})}),
           led(id_of("far"), 0, 5, 2, {1}), led(id_of("far"), 2, 4, 3, {2}),
           proposed(id_of("far"), 2, 6, 2)});
  with_client([](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 1; version <= 12; ++version) {
      wire::MetadataRequest request;
      request.topics.emplace().push_back({{}, "far"});
      const auto answer = co_await client.call<wire::MetadataResponse>(request, version);
      EXPECT_EQ(answer->brokers.size(), 3u);
      EXPECT_EQ(address(answer->brokers.at(0)), "10.0.0.1:9092 -");
      EXPECT_EQ(address(answer->brokers.at(1)), "10.0.0.2:9192 b");
      EXPECT_EQ(address(answer->brokers.at(2)), "10.0.0.3:9292 c");
      const auto& partitions = answer->topics.at(0).partitions;
      EXPECT_EQ(partitions.size(), 3u);
      const std::int32_t none = -1;
      EXPECT_EQ(partitions.at(0).error_code, 0);
      EXPECT_EQ(partitions.at(0).leader_id, 2);
      EXPECT_EQ(partitions.at(0).leader_epoch, version >= 7 ? 5 : none);
      EXPECT_EQ(partitions.at(0).replica_nodes, (Ids{2, 1, 3}));
      EXPECT_EQ(partitions.at(0).isr_nodes, (Ids{2, 1}));
      EXPECT_EQ(partitions.at(1).error_code, 5) << "it has no leader yet";
      EXPECT_EQ(partitions.at(1).leader_id, none);
      EXPECT_EQ(partitions.at(1).leader_epoch, none);
      EXPECT_EQ(partitions.at(2).error_code, 5) << "another is about to lead it";
      EXPECT_EQ(partitions.at(2).leader_id, none);
      EXPECT_EQ(partitions.at(2).leader_epoch, version >= 7 ? 4 : none) << "as far as it is known";
      EXPECT_EQ(partitions.at(2).isr_nodes, (Ids{3, 2}));
    }
    for (std::int16_t version = 0; version <= 1; ++version) {
      const auto answer = co_await client.call<wire::DescribeClusterResponse>(
          wire::DescribeClusterRequest{}, version);
      EXPECT_EQ(answer->brokers.size(), 3u);
      EXPECT_EQ(address(answer->brokers.at(2)), "10.0.0.3:9292 c");
    }
  });
}

/// A cluster of three as node 2 sees it.
class NodesTest : public ::testing::Test {
 protected:
  NodesTest() {
    catalog::Catalog state;
    EXPECT_TRUE(state.apply(catalog::ClusterCreated{Uuid{{1}}, 16, WallMs{1}}, 1));
    for (std::int32_t id = 1; id <= 3; ++id) {
      EXPECT_TRUE(
          state.apply(catalog::NodeRegistered{NodeId(id), disk_of(id), 1, "h", 9092, "", false},
                      static_cast<std::uint64_t>(id) + 1));
    }
    state_ = std::make_shared<const catalog::Catalog>(std::move(state));
  }
  [[nodiscard]] Nodes seen_by_2(const Ids& reached, const Ids& lost_lately = {}) const {
    const auto has = [](const Ids& ids, NodeId id) {
      return std::ranges::find(ids, id.value) != ids.end();
    };
    return {state_, NodeId(2), [&](NodeId id) {
              if (has(reached, id)) return Nodes::Seen::kReached;
              return has(lost_lately, id) ? Nodes::Seen::kLost : Nodes::Seen::kGone;
            }};
  }
  broker::CatalogPtr state_;
};

TEST_F(NodesTest, leave_out_whom_they_cannot_reach_unless_they_are_cut_off_themselves) {
  const auto ids = [](const Nodes& seen) {
    Ids all;
    for (const auto* each : seen.all()) all.push_back(each->id.value);
    return all;
  };
  EXPECT_EQ(ids(seen_by_2({1, 2, 3})), (Ids{1, 2, 3}));
  const Nodes without_1 = seen_by_2({3});
  EXPECT_EQ(ids(without_1), (Ids{2, 3}));
  EXPECT_EQ(ids(seen_by_2({})), (Ids{1, 2, 3})) << "clients may reach whom this one does not";
  const Nodes just_without_1 = seen_by_2({3}, {1});
  EXPECT_EQ(ids(just_without_1), (Ids{1, 2, 3})) << "for a while";
  EXPECT_EQ(just_without_1.find(NodeId(1)), nullptr);
  EXPECT_EQ(without_1.find(NodeId(1)), nullptr);
  EXPECT_EQ(without_1.find(NodeId(4)), nullptr);
  EXPECT_EQ(without_1.find(NodeId(3))->id, NodeId(3));
  // Who is not reached leads nothing, told of or not.
  broker::PartitionRoles roles;
  EXPECT_EQ(without_1.leader(roles), std::nullopt);
  roles.leader = NodeId(1);
  EXPECT_EQ(without_1.leader(roles), std::nullopt);
  EXPECT_EQ(just_without_1.leader(roles), std::nullopt);
  roles.leader = NodeId(3);
  EXPECT_EQ(without_1.leader(roles), NodeId(3));
}

TEST_F(NodesTest, a_partition_shows_who_is_offline_and_keeps_its_epoch_without_a_leader) {
  const Nodes seen = seen_by_2({3});
  broker::PartitionRoles roles{.leader = NodeId(3),
                               .epoch = Epoch(7),
                               .replicas = {NodeId(3), NodeId(1), NodeId(2)},
                               .in_sync = {NodeId(3), NodeId(2)},
                               .offline = {NodeId(1)}};
  const auto well = seen.describe(PartitionIndex(4), roles);
  EXPECT_EQ(well.partition_index, 4);
  EXPECT_EQ(well.error_code, 0);
  EXPECT_EQ(well.leader_id, 3);
  EXPECT_EQ(well.leader_epoch, 7);
  EXPECT_EQ(well.replica_nodes, (Ids{3, 1, 2}));
  EXPECT_EQ(well.isr_nodes, (Ids{3, 2}));
  EXPECT_EQ(well.offline_replicas, (Ids{1}));
  roles.leader = NodeId(1);
  const auto led_by_none = seen.describe(PartitionIndex(4), roles);
  EXPECT_EQ(led_by_none.error_code, 5) << "who leads it cannot be reached";
  EXPECT_EQ(led_by_none.leader_id, -1);
  EXPECT_EQ(led_by_none.leader_epoch, 7);
}

TEST_F(ClusterTest, each_group_is_sent_to_the_node_that_coordinates_it) {
  const std::string name = "__consumer_offsets";
  propose({topic(name, {nodes({2, 3}), nodes({1, 3})}), led(id_of(name), 0, 1, 2),
           led(id_of(name), 1, 1, 1)});
  const std::string theirs = group_in(0);
  const std::string ours = group_in(1);
  with_client([&](RawClient& client) -> io::Task<void> {
    wire::FindCoordinatorRequest find;
    for (std::int16_t version = 0; version <= 3; ++version) {
      find.key = theirs;
      const auto there = co_await client.call<wire::FindCoordinatorResponse>(find, version);
      EXPECT_EQ(there->error_code, 0);
      EXPECT_EQ(there->node_id, 2);
      EXPECT_EQ(there->host, "10.0.0.2");
      EXPECT_EQ(there->port, 9192);
      find.key = ours;
      EXPECT_EQ((co_await client.call<wire::FindCoordinatorResponse>(find, version))->node_id, 1);
    }
    find.coordinator_keys = {theirs, ours};
    const auto both = co_await client.call<wire::FindCoordinatorResponse>(find, 4);
    EXPECT_EQ(both->coordinators.size(), 2u);
    EXPECT_EQ(both->coordinators.at(0).key, theirs);
    EXPECT_EQ(both->coordinators.at(0).node_id, 2);
    EXPECT_EQ(both->coordinators.at(0).port, 9192);
    EXPECT_EQ(both->coordinators.at(1).key, ours);
    EXPECT_EQ(both->coordinators.at(1).node_id, 1);
    EXPECT_EQ(both->coordinators.at(1).host, "10.0.0.1");
  });
  propose({proposed(id_of(name), 0, 2, 3)});
  with_client([&](RawClient& client) -> io::Task<void> {
    wire::FindCoordinatorRequest find;
    find.key = theirs;
    find.coordinator_keys = {theirs, ours};
    for (std::int16_t version = 0; version <= 3; ++version) {
      const auto nobody = co_await client.call<wire::FindCoordinatorResponse>(find, version);
      EXPECT_EQ(nobody->error_code, kNoCoordinator);
      EXPECT_EQ(nobody->node_id, -1);
      EXPECT_EQ(nobody->error_message.has_value(), version >= 1);
    }
    const auto both = co_await client.call<wire::FindCoordinatorResponse>(find, 4);
    EXPECT_EQ(both->coordinators.at(0).error_code, kNoCoordinator);
    EXPECT_EQ(both->coordinators.at(0).node_id, -1);
    EXPECT_EQ(both->coordinators.at(1).error_code, 0) << "the other group's goes on";
  });
}

/// Sends what every request about groups looks like at every version, and yields what it is
/// answered.
class Elsewhere {
 public:
  Elsewhere(RawClient& client, std::string group) : client_(client), group_(std::move(group)) {}

  /// For requests with one error for the whole.
  template <typename Response, typename Request>
  io::Task<void> whole(Request request, std::int16_t from) {
    request.group_id = group_;
    for (std::int16_t version = from; version <= Request::kMaxVersion; ++version) {
      const auto answer = co_await client_.call<Response>(request, version);
      EXPECT_EQ(answer->error_code, kNotCoordinator) << Request::kInfo.name << " " << version;
    }
  }
  io::Task<void> offsets() {
    wire::OffsetCommitRequest commit;
    commit.group_id = group_;
    commit.topics.push_back({"t", {{0, 1, -1, std::nullopt}}});
    for (std::int16_t version = 2; version <= 9; ++version) {
      const auto answer = co_await client_.call<wire::OffsetCommitResponse>(commit, version);
      EXPECT_EQ(answer->topics.at(0).partitions.at(0).error_code, kNotCoordinator) << version;
    }
    wire::OffsetFetchRequest fetch;
    fetch.group_id = group_;
    fetch.topics.emplace().push_back({"t", {0}});
    fetch.groups.emplace_back().group_id = group_;
    for (std::int16_t version = 1; version <= 9; ++version) {
      const auto answer = co_await client_.call<wire::OffsetFetchResponse>(fetch, version);
      if (version == 1) {
        EXPECT_EQ(answer->topics.at(0).partitions.at(0).error_code, kNotCoordinator);
      } else {
        EXPECT_EQ(version < 8 ? answer->error_code : answer->groups.at(0).error_code,
                  kNotCoordinator)
            << version;
      }
    }
  }
  io::Task<void> admin() {
    wire::DescribeGroupsRequest describe;
    describe.groups = {group_};
    for (std::int16_t version = 0; version <= 5; ++version) {
      const auto answer = co_await client_.call<wire::DescribeGroupsResponse>(describe, version);
      EXPECT_EQ(answer->groups.at(0).error_code, kNotCoordinator) << version;
    }
    wire::DeleteGroupsRequest gone;
    gone.groups_names = {group_};
    for (std::int16_t version = 0; version <= 2; ++version) {
      const auto answer = co_await client_.call<wire::DeleteGroupsResponse>(gone, version);
      EXPECT_EQ(answer->results.at(0).error_code, kNotCoordinator) << version;
    }
    for (std::int16_t version = 0; version <= 5; ++version) {
      const auto answer =
          co_await client_.call<wire::ListGroupsResponse>(wire::ListGroupsRequest{}, version);
      EXPECT_EQ(answer->error_code, 0) << "of this node's groups, whatever others have";
      EXPECT_TRUE(answer->groups.empty());
    }
  }

 private:
  RawClient& client_;
  std::string group_;
};

TEST_F(ClusterTest, every_request_about_a_group_of_another_node_says_so) {
  const std::string name = "__consumer_offsets";
  propose({topic(name, {nodes({2}), nodes({1})}), led(id_of(name), 1, 1, 1)});
  with_client([](RawClient& client) -> io::Task<void> {
    Elsewhere all(client, group_in(0));
    wire::JoinGroupRequest join;
    join.session_timeout_ms = join.rebalance_timeout_ms = 10'000;
    join.protocol_type = "consumer";
    join.protocols.push_back({"range", Bytes{1}});
    co_await all.whole<wire::JoinGroupResponse>(join, 0);
    co_await all.whole<wire::SyncGroupResponse>(wire::SyncGroupRequest{}, 0);
    co_await all.whole<wire::HeartbeatResponse>(wire::HeartbeatRequest{}, 0);
    co_await all.whole<wire::LeaveGroupResponse>(wire::LeaveGroupRequest{}, 0);
    co_await all.whole<wire::OffsetDeleteResponse>(wire::OffsetDeleteRequest{}, 0);
    co_await all.offsets();
    co_await all.admin();
  });
}

TEST_F(ClusterTest, a_client_of_an_older_epoch_is_told_the_newer_one_and_its_leader) {
  const TopicId t = id_of("t");
  propose({topic("t", {nodes({1, 2})}), led(t, 0, 1, 1, {2})});
  std::string expected = "1@1 10.0.0.1:9092 -";
  const auto ask = [&](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 9; version <= 16; ++version) {
      const auto answer =
          co_await client.call<wire::FetchResponse>(fetch_of("t", 0, t.uuid), version);
      const auto& partition = answer->responses.at(0).partitions.at(0);
      EXPECT_THAT(partition.error_code, ::testing::AnyOf(kFenced, kNotLeader));
      EXPECT_EQ(hint(partition, answer->node_endpoints), version < 16 ? "-1@-1" : expected);
    }
    const auto well = co_await client.call<wire::FetchResponse>(fetch_of("nowhere"), 12);
    EXPECT_EQ(hint(well->responses.at(0).partitions.at(0), well->node_endpoints), "-1@-1");
  };
  with_client(ask);
  propose({proposed(t, 0, 5, 2), led(t, 0, 5, 2)});
  expected = "2@5 10.0.0.2:9192 b";
  with_client(ask);
  propose({proposed(t, 0, 6, 3)});
  expected = "-1@5";
  with_client(ask);
}

TEST_F(ClusterTest, whoever_asks_a_node_that_does_not_lead_is_told_who_does) {
  // Until its files are there nobody leads it here, whoever is to.
  disk().options().slow = 1;
  disk().options().slow_by = 10s;
  const TopicId far = id_of("far");
  node().spawn([this, far]() -> io::Task<void> {
    co_await stand({topic("far", {nodes({2})}), led(far, 0, 5, 2)});
  });
  with_client([&](RawClient& client) -> io::Task<void> {
    for (int i = 0; i < 300; ++i) {
      wire::MetadataRequest request;
      request.topics.emplace().push_back({{}, "far"});
      request.allow_auto_topic_creation = false;
      if ((co_await client.call<wire::MetadataResponse>(request, 12))->topics.at(0).error_code == 0)
        break;
      co_await io::sleep_for(200ms);
    }
    const std::vector<Bytes> batches{batch_of({"a"})};
    for (std::int16_t version = 3; version <= 11; ++version) {
      const auto sent =
          co_await client.call<wire::ProduceResponse>(produce("far", batches), version);
      const auto& partition = sent->responses.at(0).partition_responses.at(0);
      EXPECT_EQ(partition.error_code, kNotLeader) << version;
      EXPECT_EQ(hint(partition, sent->node_endpoints),
                version < 10 ? "-1@-1" : "2@5 10.0.0.2:9192 b");
    }
    const auto read = co_await client.call<wire::FetchResponse>(fetch_of("", 5, far.uuid), 16);
    EXPECT_EQ(read->responses.at(0).partitions.at(0).error_code, kNotLeader);
    EXPECT_EQ(hint(read->responses.at(0).partitions.at(0), read->node_endpoints),
              "2@5 10.0.0.2:9192 b");
    wire::ListOffsetsRequest list;
    list.topics.push_back(
        {"far", {{.partition_index = 0, .current_leader_epoch = -1, .timestamp = -1}}});
    for (std::int16_t version = 1; version <= 7; ++version) {
      const auto answer = co_await client.call<wire::ListOffsetsResponse>(list, version);
      EXPECT_EQ(answer->topics.at(0).partitions.at(0).error_code, kNotLeader) << version;
    }
    wire::OffsetForLeaderEpochRequest ends;
    ends.topics.push_back(
        {"far", {{.partition = 0, .current_leader_epoch = -1, .leader_epoch = 1}}});
    for (std::int16_t version = 2; version <= 4; ++version) {
      const auto answer = co_await client.call<wire::OffsetForLeaderEpochResponse>(ends, version);
      EXPECT_EQ(answer->topics.at(0).partitions.at(0).error_code, kNotLeader) << version;
    }
    wire::DeleteRecordsRequest gone;
    gone.topics.push_back({"far", {{0, -1}}});
    for (std::int16_t version = 0; version <= 2; ++version) {
      const auto answer = co_await client.call<wire::DeleteRecordsResponse>(gone, version);
      EXPECT_EQ(answer->topics.at(0).partitions.at(0).error_code, kNotLeader) << version;
    }
    wire::DescribeProducersRequest producers;
    producers.topics.push_back({"far", {0}});
    const auto known = co_await client.call<wire::DescribeProducersResponse>(producers, 0);
    EXPECT_EQ(known->topics.at(0).partitions.at(0).error_code, kNotLeader);
  });
  disk().options().slow = 0;
  sim_.run_for(60s);
}

}  // namespace
}  // namespace pyralog::protocol::kafka
