// Leaders are given back to whom their assignment prefers: what a request for it is answered.
#include <map>

#include "protocol/kafka/cluster_testing.h"
#include "wire/kafka/gen/elect_leaders.h"

namespace pyralog::protocol::kafka {
namespace {

using ::testing::HasSubstr;
using testing::Ids;
using testing::RawClient;
using Wanted = std::vector<std::pair<std::string, Ids>>;

constexpr std::int16_t kInvalid = 42;
constexpr std::int8_t kUnclean = 1;

wire::ElectLeadersRequest election(const std::optional<Wanted>& wanted, std::int8_t type = 0) {
  wire::ElectLeadersRequest made;
  made.election_type = type;
  made.timeout_ms = 10'000;
  if (wanted) {
    made.topic_partitions.emplace();
    for (const auto& [topic, partitions] : *wanted)
      made.topic_partitions->push_back({topic, partitions});
  }
  return made;
}

/// "t-0: 84 message", in the order of the answer.
std::vector<std::string> results(const wire::ElectLeadersResponse& answer) {
  std::vector<std::string> out;
  for (const auto& topic : answer.replica_election_results) {
    for (const auto& each : topic.partition_result) {
      out.push_back(topic.topic + "-" + std::to_string(each.partition_id) + ": " +
                    std::to_string(each.error_code) + " " + each.error_message.value_or(""));
    }
  }
  return out;
}

/// The same, without messages.
std::vector<std::string> codes(const wire::ElectLeadersResponse& answer) {
  std::vector<std::string> out;
  for (const std::string& each : results(answer))
    out.push_back(each.substr(0, each.find(' ', each.find(": ") + 2)));
  return out;
}

using Codes = std::vector<std::string>;

class LeadersTest : public testing::KafkaOfManyTest {
 protected:
  /// Of "far": 0 is led by whom it prefers, 1 by another, 2 by nobody, 3 by another while who is
  /// preferred is not of its epoch.
  LeadersTest() {
    const TopicId far = id_of("far");
    propose({topic("far", {nodes({2, 3}), nodes({3, 2}), nodes({2, 3}), nodes({3, 2})}),
             led(far, 0, 5, 2, {3}), led(far, 1, 5, 2, {3}), led(far, 3, 5, 2)});
  }
};

TEST_F(LeadersTest, each_partition_is_answered_once_whatever_is_named_twice) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 0; version <= 2; ++version) {
      const auto answer = co_await client.call<wire::ElectLeadersResponse>(
          election(Wanted{{"far", {0, 7, 0, -1}}, {"a", {0}}, {"far", {7, 0}}}), version);
      EXPECT_EQ(answer->error_code, 0);
      EXPECT_EQ(codes(answer.message), (Codes{"a-0: 3", "far--1: 3", "far-0: 84", "far-7: 3"}))
          << version;
      EXPECT_EQ(answer->replica_election_results.size(), 2u);
    }
    const auto none = co_await client.call<wire::ElectLeadersResponse>(election(Wanted{}), 2);
    EXPECT_EQ(results(none.message), Codes{});
  });
}

TEST_F(LeadersTest, whoever_does_not_have_all_of_it_is_not_made_to_lead) {
  with_client([](RawClient& client) -> io::Task<void> {
    const auto answer =
        co_await client.call<wire::ElectLeadersResponse>(election(Wanted{{"far", {3}}}), 2);
    EXPECT_EQ(codes(answer.message), (Codes{"far-3: 80"}));
    EXPECT_THAT(results(answer.message).at(0), HasSubstr("node 3"));
  });
}

TEST_F(LeadersTest,
       of_all_partitions_those_are_told_of_that_their_preferred_replica_does_not_lead) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 0; version <= 2; ++version) {
      const auto answer =
          co_await client.call<wire::ElectLeadersResponse>(election(std::nullopt), version);
      // A lone node moves nothing.
      EXPECT_EQ(codes(answer.message), (Codes{"far-1: 42", "far-2: 80", "far-3: 80"})) << version;
    }
  });
}

TEST_F(LeadersTest, an_unclean_election_is_refused_with_what_to_do) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 1; version <= 2; ++version) {
      const auto named = co_await client.call<wire::ElectLeadersResponse>(
          election(Wanted{{"far", {1, 2, 9}}}, kUnclean), version);
      EXPECT_EQ(codes(named.message), (Codes{"far-1: 84", "far-2: 42", "far-9: 3"})) << version;
      EXPECT_THAT(results(named.message).at(1), HasSubstr("unclean.leader.election.enable=true"));
      const auto all = co_await client.call<wire::ElectLeadersResponse>(
          election(std::nullopt, kUnclean), version);
      EXPECT_EQ(codes(all.message), (Codes{"far-2: 42"})) << version;
    }
    const auto unknown =
        co_await client.call<wire::ElectLeadersResponse>(election(Wanted{{"far", {1}}}, 7), 2);
    EXPECT_EQ(unknown->error_code, kInvalid);
    EXPECT_EQ(results(unknown.message), Codes{});
  });
}

class LeadersRoomTest : public testing::KafkaTest {
 protected:
  LeadersRoomTest() {
    service_.max_answer_bytes = 1u << 20;
    start();
  }
};

TEST_F(LeadersRoomTest, a_request_that_names_too_much_ends_its_connection) {
  with_client([](RawClient& client) -> io::Task<void> {
    Ids many(20'000);
    for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::int32_t>(i);
    co_await client.send(election(Wanted{{"t", many}}), 2);
    EXPECT_TRUE(co_await client.closed());
  });
  with_client([](RawClient& client) -> io::Task<void> {
    const auto well =
        co_await client.call<wire::ElectLeadersResponse>(election(Wanted{{"t", Ids(20'000)}}), 2);
    EXPECT_EQ(codes(well.message), (Codes{"t-0: 3"}));
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
