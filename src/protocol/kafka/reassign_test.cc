// Replicas are given to other nodes by clients' requests, in one node's catalogue and in a cluster
// of three.
#include "broker/cluster_testing.h"
#include "protocol/kafka/cluster_testing.h"
#include "wire/kafka/gen/alter_partition_reassignments.h"
#include "wire/kafka/gen/list_partition_reassignments.h"

namespace pyralog::protocol::kafka {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Ids;
using testing::RawClient;
using Wanted = std::optional<Ids>;

wire::AlterPartitionReassignmentsRequest asked_for(
    const std::vector<std::tuple<std::string, std::int32_t, Wanted>>& all,
    std::int32_t timeout_ms = 10'000) {
  wire::AlterPartitionReassignmentsRequest request;
  request.timeout_ms = timeout_ms;
  for (const auto& [name, index, replicas] : all) {
    if (request.topics.empty() || request.topics.back().name != name) {
      request.topics.emplace_back().name = name;
    }
    auto& each = request.topics.back().partitions.emplace_back();
    each.partition_index = index;
    each.replicas = replicas;
  }
  return request;
}

class ReassignTest : public testing::KafkaOfManyTest {
 protected:
  wire::AlterPartitionReassignmentsResponse alter(
      wire::AlterPartitionReassignmentsRequest request) {
    wire::AlterPartitionReassignmentsResponse out;
    with_client([&](RawClient& client) -> io::Task<void> {
      out = (co_await client.call<wire::AlterPartitionReassignmentsResponse>(request, 0)).message;
    });
    return out;
  }
  /// Of one partition.
  std::pair<std::int16_t, std::string> move(std::string name, std::int32_t index, Wanted replicas,
                                            std::int32_t timeout_ms = 10'000) {
    const auto out = alter(asked_for({{std::move(name), index, std::move(replicas)}}, timeout_ms));
    EXPECT_EQ(out.error_code, 0);
    if (out.responses.size() != 1 || out.responses[0].partitions.size() != 1) return {-99, ""};
    const auto& each = out.responses[0].partitions[0];
    EXPECT_EQ(each.partition_index, index);
    return {each.error_code, each.error_message.value_or("")};
  }
  wire::ListPartitionReassignmentsResponse list(
      std::optional<std::map<std::string, Ids>> only = std::nullopt) {
    wire::ListPartitionReassignmentsResponse out;
    with_client([&](RawClient& client) -> io::Task<void> {
      wire::ListPartitionReassignmentsRequest request;
      if (only) {
        request.topics.emplace();
        for (const auto& [name, indexes] : *only) request.topics->push_back({name, indexes});
      }
      out = (co_await client.call<wire::ListPartitionReassignmentsResponse>(request, 0)).message;
    });
    return out;
  }
};

TEST_F(ReassignTest, what_is_under_way_is_listed_as_kafka_does) {
  propose({topic("t", {nodes({1, 2}), nodes({2, 1})}), proposed(id_of("t"), 0, 1, 1),
           led(id_of("t"), 0, 1, 1, {2})});
  EXPECT_TRUE(list().topics.empty());
  EXPECT_EQ(move("t", 0, Ids{3, 1}).first, 0);
  const auto all = list();
  ASSERT_EQ(all.topics.size(), 1u);
  EXPECT_EQ(all.topics[0].name, "t");
  ASSERT_EQ(all.topics[0].partitions.size(), 1u);
  const auto& only = all.topics[0].partitions[0];
  EXPECT_EQ(only.partition_index, 0);
  EXPECT_THAT(only.replicas, ElementsAre(3, 1, 2));
  EXPECT_THAT(only.adding_replicas, ElementsAre(3));
  EXPECT_THAT(only.removing_replicas, ElementsAre(2));
  EXPECT_EQ(list({{{"t", {0, 0, 1}}}}), all);
  EXPECT_TRUE(list({{{"t", {1}}}}).topics.empty());
  EXPECT_TRUE(list({{{"u", {0}}, {"t", {7, -1}}}}).topics.empty());
  EXPECT_TRUE(list({std::map<std::string, Ids>{}}).topics.empty()) << "of none, not of all";
}

TEST_F(ReassignTest, nothing_takes_back_what_is_under_way) {
  propose(
      {topic("t", {nodes({1, 2})}), proposed(id_of("t"), 0, 1, 1), led(id_of("t"), 0, 1, 1, {2})});
  EXPECT_EQ(move("t", 0, std::nullopt).first, 85);
  EXPECT_EQ(move("t", 0, Ids{3, 2}).first, 0);
  EXPECT_EQ(move("t", 0, std::nullopt).first, 0);
  EXPECT_TRUE(list().topics.empty());
  EXPECT_EQ(move("t", 0, std::nullopt).first, 85);
  EXPECT_EQ(move("t", 0, Ids{3}).first, 0) << "another number of replicas";
  EXPECT_EQ(move("t", 0, Ids{3, 2, 1}).first, 0) << "a newer wish takes the place of an older one";
}

TEST_F(ReassignTest, each_partition_is_refused_by_itself) {
  propose({topic("t", {nodes({1, 2}), nodes({2, 1}), nodes({1, 2})})});
  const auto out = alter(asked_for({{"t", 0, Ids{3, 1}},
                                    {"t", 1, Ids{}},
                                    {"t", 2, Ids{1, 9}},
                                    {"t", 3, Ids{1}},
                                    {"t", -1, Ids{1}},
                                    {"none", 0, Ids{1}}}));
  EXPECT_EQ(out.error_code, 0);
  std::map<std::string, std::pair<std::int16_t, std::string>> found;
  for (const auto& named : out.responses) {
    for (const auto& each : named.partitions) {
      found[named.name + std::to_string(each.partition_index)] = {each.error_code,
                                                                  each.error_message.value_or("")};
    }
  }
  ASSERT_EQ(found.size(), 6u);
  EXPECT_EQ(found["t0"].first, 0);
  for (const auto& [name, code] : std::map<std::string, std::int16_t>{
           {"t1", 39}, {"t2", 39}, {"t3", 3}, {"t-1", 3}, {"none0", 3}}) {
    EXPECT_EQ(found[name].first, code) << name;
    EXPECT_THAT(found[name].second, HasSubstr("; ")) << "says what to do";
  }
  EXPECT_EQ(list().topics.size(), 1u);
}

TEST_F(ReassignTest, a_node_named_twice_or_draining_takes_no_replica) {
  propose({topic("t", {nodes({1, 2})}), catalog::NodeDraining{NodeId(3), true}});
  EXPECT_EQ(move("t", 0, Ids{1, 1}).first, 39);
  const auto [code, said] = move("t", 0, Ids{1, 3});
  EXPECT_EQ(code, 39);
  EXPECT_THAT(said, HasSubstr("draining"));
  EXPECT_TRUE(list().topics.empty());
}

TEST_F(ReassignTest, a_partition_that_is_named_twice_is_not_moved) {
  propose({topic("t", {nodes({1, 2})})});
  const auto out = alter(asked_for({{"t", 0, Ids{3, 1}}, {"t", 0, Ids{2, 3}}}));
  ASSERT_EQ(out.responses.size(), 1u);
  ASSERT_EQ(out.responses[0].partitions.size(), 1u);
  EXPECT_EQ(out.responses[0].partitions[0].error_code, 42);
  EXPECT_TRUE(list().topics.empty());
}

TEST_F(ReassignTest, nothing_is_begun_once_the_time_is_up) {
  propose({topic("t", {nodes({1, 2})})});
  EXPECT_EQ(move("t", 0, Ids{3, 1}, 0).first, 7);
  EXPECT_TRUE(list().topics.empty());
}

TEST_F(ReassignTest, more_nodes_than_can_hold_it_are_refused) {
  propose({topic("t", {nodes({1, 2})})});
  Ids many(10'000);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::int32_t>(i);
  EXPECT_EQ(move("t", 0, many).first, 39);
  EXPECT_TRUE(list().topics.empty());
}

class ReassignRoomTest : public testing::KafkaTest {
 protected:
  ReassignRoomTest() {
    service_.max_answer_bytes = 1u << 20;
    start();
  }
};

TEST_F(ReassignRoomTest, a_request_that_names_too_much_ends_its_connection) {
  with_client([](RawClient& client) -> io::Task<void> {
    std::vector<std::tuple<std::string, std::int32_t, Wanted>> all;
    for (std::int32_t i = 0; i < 20'000; ++i) all.emplace_back("t", i, std::nullopt);
    co_await client.send(asked_for(all), 0);
    EXPECT_TRUE(co_await client.closed());
  });
}

/// In a cluster, by requests to any of its nodes.
class ReassignmentsTest : public broker::testing::ClusterOfBrokersTest {
 protected:
  ReassignmentsTest() { start_all(); }

  template <typename Response, typename Asked>
  Response ask(std::int32_t i, Asked asked) {
    return run(i, [=, this]() -> io::Task<Response> {
      auto frame = wire::encode_request(asked, 0, 1, "test");
      PYRALOG_ASSERT(frame.has_value());
      auto bytes = std::make_shared<Bytes>(frame->bytes.begin() + 4, frame->bytes.end());
      auto parsed = wire::parse_request(*bytes);
      PYRALOG_ASSERT(parsed.has_value());
      Request request;
      request.frame = std::move(*parsed);
      request.bytes = std::move(bytes);
      Service service(*at(i).broker, io::Shard::current().index(), {});
      auto reply = co_await service.handle(std::move(request));
      PYRALOG_ASSERT(reply.has_value());
      const Bytes all = co_await broker::testing::bytes_of(std::move(reply->pieces));
      const auto head = wire::parse_response(ByteView(all).subspan(4), Response::kApiKey, 0);
      PYRALOG_ASSERT(head.has_value());
      auto answer = wire::decode_message<Response>(head->body, 0);
      PYRALOG_ASSERT(answer.has_value());
      co_return std::move(*answer);
    });
  }
  std::int16_t move(std::int32_t i, const std::string& name, Wanted replicas) {
    const auto out = ask<wire::AlterPartitionReassignmentsResponse>(
        i, asked_for({{name, 0, std::move(replicas)}}));
    return out.responses.at(0).partitions.at(0).error_code;
  }
  std::size_t moving(std::int32_t i) {
    return ask<wire::ListPartitionReassignmentsResponse>(i,
                                                         wire::ListPartitionReassignmentsRequest{})
        .topics.size();
  }
  Ids replicas(std::int32_t i, const std::string& name) {
    return run(i, [=, this]() -> io::Task<Ids> {
      Ids ids;
      const auto known = at(i).broker->catalog()->topic(name);
      for (const NodeId each : known->partitions[0]->replicas) ids.push_back(each.value);
      co_return ids;
    });
  }
};

TEST_F(ReassignmentsTest, any_node_takes_and_lists_them_while_records_are_written) {
  ASSERT_EQ(create(1, "t", 1, {}, 2), KafkaError::kNone);
  std::vector<std::string> all;
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    const Ids before = replicas(i, "t");
    const Ids after{6 - before[0] - before[1], before[0]};
    ASSERT_EQ(move(i, "t", after), 0) << i;
    EXPECT_EQ(moving(i), 1u) << "whoever has answered knows it";
    const std::int32_t other = i % kNodes + 1;
    const Instant end = sim_.now() + 60s;
    while (sim_.now() < end && (moving(other) != 0 || replicas(other, "t") != after)) {
      all.push_back(std::to_string(all.size()) + std::string(20'000, 'x'));
      ASSERT_TRUE(write("t", all.back()));
    }
    EXPECT_EQ(replicas(other, "t"), after) << i;
  }
  std::vector<std::string> there = read("t");
  there.erase(std::ranges::unique(there).begin(), there.end());
  EXPECT_TRUE(there == all);
}

TEST_F(ReassignmentsTest, what_is_taken_back_on_the_way_stays_where_it_was) {
  ASSERT_EQ(create(1, "t", 1, {}, 2), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  const Ids before = replicas(1, "t");
  const std::int32_t other = 6 - before[0] - before[1];
  // To a node that does not come: it cannot end by itself.
  kill(other);
  ASSERT_EQ(move(before[0], "t", Ids{before[0], other}), 0);
  sim_.run_for(5s);
  EXPECT_EQ(moving(before[1]), 1u);
  ASSERT_EQ(move(before[1], "t", std::nullopt), 0);
  EXPECT_TRUE(sim_.run_until([&] { return moving(before[0]) == 0; }, 60s));
  EXPECT_EQ(replicas(before[0], "t"), before);
  EXPECT_EQ(move(before[0], "t", std::nullopt), 85);
  ASSERT_TRUE(write("t", "b"));
  EXPECT_THAT(read("t"), ElementsAre("a", "b"));
}

}  // namespace
}  // namespace pyralog::protocol::kafka
