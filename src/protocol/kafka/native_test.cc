// Messages of our own: who is told of them, and what becomes of a drain.
#include "protocol/kafka/cluster_testing.h"
#include "wire/kafka/gen/api_versions.h"
#include "wire/kafka/gen/drain_node.h"
#include "wire/kafka/gen/next_counter.h"
#include "wire/kafka/gen/next_ids.h"

namespace pyralog::protocol::kafka {
namespace {

using ::testing::HasSubstr;
using testing::RawClient;

class NativeTest : public testing::KafkaOfManyTest {
 protected:
  wire::DrainNodeResponse drain(std::int32_t id, int change) {
    wire::DrainNodeResponse out;
    with_client([&](RawClient& client) -> io::Task<void> {
      wire::DrainNodeRequest request;
      request.node_id = id;
      request.change = static_cast<std::int8_t>(change);
      out = (co_await client.call<wire::DrainNodeResponse>(request, 0)).message;
    });
    return out;
  }
};

TEST_F(NativeTest, own_messages_are_listed_to_own_clients_only) {
  with_client([&](RawClient& client) -> io::Task<void> {
    const auto most = [&](std::string name, std::int16_t version) -> io::Task<int> {
      wire::ApiVersionsRequest request;
      request.client_software_name = std::move(name);
      request.client_software_version = "1";
      const auto answer = co_await client.call<wire::ApiVersionsResponse>(request, version);
      int highest = 0;
      for (const auto& each : answer->api_keys) highest = std::max<int>(highest, each.api_key);
      co_return highest;
    };
    for (const std::int16_t version : {std::int16_t{3}, std::int16_t{4}}) {
      EXPECT_GE(co_await most("pyralog", version), 10'000);
      for (const char* other : {"apache-kafka-java", "Pyralog", "pyralog2", "librdkafka"}) {
        EXPECT_LT(co_await most(other, version), 10'000) << other;
      }
    }
    EXPECT_LT(co_await most("pyralog", 2), 10'000) << "older versions do not carry the name";
  });
}

TEST_F(NativeTest, a_question_changes_nothing_and_tells_what_is_to_be_moved) {
  propose({topic("t", {nodes({2, 1}), nodes({1, 3}), nodes({2, 3})}), proposed(id_of("t"), 0, 1, 2),
           led(id_of("t"), 0, 1, 2, {1})});
  const auto answer = drain(2, 0);
  EXPECT_EQ(answer.error_code, 0);
  EXPECT_FALSE(answer.draining);
  EXPECT_EQ(answer.leading, 1);
  EXPECT_EQ(answer.waiting, 2);
  EXPECT_EQ(answer.under_way + answer.stuck_count, 0);
  EXPECT_FALSE(drain(2, 0).draining);
}

TEST_F(NativeTest, a_node_drains_until_that_is_taken_back) {
  EXPECT_TRUE(drain(2, 1).draining);
  EXPECT_TRUE(drain(2, 1).draining) << "once more does no harm";
  EXPECT_TRUE(drain(2, 0).draining);
  EXPECT_FALSE(drain(2, 2).draining);
  EXPECT_FALSE(drain(2, 2).draining);
}

TEST_F(NativeTest, what_cannot_be_moved_is_told_of_with_the_reason) {
  std::vector<std::vector<NodeId>> partitions(25, nodes({1, 2, 3}));
  propose({topic("all", std::move(partitions))});
  const auto answer = drain(3, 1);
  EXPECT_EQ(answer.error_code, 0);
  EXPECT_TRUE(answer.draining);
  EXPECT_EQ(answer.stuck_count, 25);
  ASSERT_EQ(answer.stuck.size(), catalog::DrainPlan::kExamples);
  EXPECT_EQ(answer.stuck[1].topic, "all");
  EXPECT_EQ(answer.stuck[1].partition, 1);
  EXPECT_THAT(answer.stuck[1].reason, HasSubstr("; add a node"));
}

TEST_F(NativeTest, a_drain_of_nobody_or_of_the_last_one_is_refused) {
  auto answer = drain(9, 1);
  EXPECT_EQ(answer.error_code, 102);
  EXPECT_THAT(answer.error_message.value_or(""),
              HasSubstr("node 9: the cluster has no such node;"));
  EXPECT_EQ(drain(9, 0).error_code, 102);
  EXPECT_EQ(drain(-1, 2).error_code, 102);
  answer = drain(2, 3);
  EXPECT_EQ(answer.error_code, 42);
  EXPECT_FALSE(answer.draining);
  EXPECT_EQ(drain(1, 1).error_code, 0);
  EXPECT_EQ(drain(2, 1).error_code, 0);
  answer = drain(3, 1);
  EXPECT_EQ(answer.error_code, 42) << "it is the last one";
  EXPECT_FALSE(answer.draining);
  EXPECT_THAT(answer.error_message.value_or(""), HasSubstr("; add a node"));
}

TEST_F(NativeTest, ids_and_values_are_given_to_whoever_asks_for_a_number_that_can_be) {
  with_client([&](RawClient& client) -> io::Task<void> {
    std::int64_t last = 0;
    for (const std::int32_t count : {1, 5'000, 81'920}) {
      wire::NextIdsRequest request;
      request.count = count;
      request.timeout_ms = 1'000;
      const auto ids = (co_await client.call<wire::NextIdsResponse>(request, 0)).message;
      EXPECT_EQ(ids.error_code, 0) << ids.error_message.value_or("");
      EXPECT_EQ(ids.count, count);
      const std::int64_t first = ids.first_ms << 13 | ids.sequence;
      EXPECT_GT(first, last);
      last = first + count - 1;
    }
    for (const std::int32_t count : {0, -1, 81'921, INT32_MIN, INT32_MAX}) {
      wire::NextIdsRequest request;
      request.count = count;
      const auto refused = (co_await client.call<wire::NextIdsResponse>(request, 0)).message;
      EXPECT_EQ(refused.error_code, 42) << count;
      EXPECT_THAT(refused.error_message.value_or(""), HasSubstr("; ask for 1 to 81920"));
    }
    for (const std::int64_t expected : {1, 4, 7}) {
      wire::NextCounterRequest request;
      request.name = "orders";
      request.count = 3;
      request.strict = true;
      EXPECT_EQ((co_await client.call<wire::NextCounterResponse>(request, 0))->first, expected);
    }
    for (const char* name : {"", "Orders", "a/b"}) {
      wire::NextCounterRequest request;
      request.name = name;
      const auto refused = (co_await client.call<wire::NextCounterResponse>(request, 0)).message;
      EXPECT_EQ(refused.error_code, 42) << name;
    }
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
