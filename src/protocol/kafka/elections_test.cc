// Leaders are given back in a cluster of three nodes.
#include "broker/cluster_testing.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/elect_leaders.h"
#include "wire/kafka/gen/metadata.h"

namespace pyralog::protocol::kafka {
namespace {

using broker::testing::ClusterOfBrokersTest;
using Answer = std::map<std::string, std::int16_t>;  ///< "t-0" → error

class ElectionsTest : public ClusterOfBrokersTest {
 protected:
  ElectionsTest() { start_all(); }

  /// What node `i` answers.
  template <typename Response, typename Asked>
  io::Task<Response> ask(std::int32_t i, Asked asked, std::int16_t version) {
    auto frame = wire::encode_request(asked, version, 1, "test");
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
    const auto head = wire::parse_response(ByteView(all).subspan(4), Asked::kApiKey, version);
    PYRALOG_ASSERT(head.has_value());
    auto answer = wire::decode_message<Response>(head->body, version);
    PYRALOG_ASSERT(answer.has_value());
    co_return std::move(*answer);
  }
  /// `wanted` none = all partitions.
  Answer elect(std::int32_t i, std::optional<std::vector<std::int32_t>> wanted,
               std::int32_t timeout_ms = 10'000, std::int16_t version = 2) {
    return run(i, [=, this]() -> io::Task<Answer> {
      wire::ElectLeadersRequest asked;
      asked.timeout_ms = timeout_ms;
      if (wanted) asked.topic_partitions.emplace().push_back({"t", *wanted});
      const auto answer = co_await ask<wire::ElectLeadersResponse>(i, std::move(asked), version);
      Answer out;
      for (const auto& topic : answer.replica_election_results) {
        for (const auto& each : topic.partition_result) {
          out[topic.topic + "-" + std::to_string(each.partition_id)] = each.error_code;
        }
      }
      co_return out;
    });
  }
  wire::MetadataResponse metadata(std::int32_t i, std::optional<std::string> topic = {}) {
    return run(i, [=, this]() -> io::Task<wire::MetadataResponse> {
      wire::MetadataRequest asked;
      if (topic) asked.topics.emplace().emplace_back().name = topic;
      co_return co_await ask<wire::MetadataResponse>(i, std::move(asked), 9);
    });
  }
  /// Whom the assignment prefers.
  std::int32_t preferred(std::int32_t partition) {
    return run(1, [=, this]() -> io::Task<std::int32_t> {
      const auto topic = at(1).broker->catalog()->topic("t");
      co_return topic->partitions[static_cast<std::size_t>(partition)]->replicas.front().value;
    });
  }
  bool led(std::int32_t partition, std::int32_t by) {
    return sim_.run_until(
        [&] {
          for (std::int32_t i = 1; i <= kNodes; ++i) {
            if (at(i).broker != nullptr && leader(i, "t", partition) != by) return false;
          }
          return true;
        },
        10s);
  }
  void create_led(std::int32_t partitions) {
    ASSERT_EQ(create(1, "t", partitions), KafkaError::kNone);
    for (std::int32_t p = 0; p < partitions; ++p) ASSERT_TRUE(led(p, preferred(p))) << p;
  }
  /// Lets the next node after the preferred one lead, and returns the preferred.
  std::int32_t lead_astray(std::int32_t partition) {
    const std::int32_t whom = preferred(partition);
    const std::int32_t other = whom % kNodes + 1;
    // Whoever has only just begun to lead the metadata moves nobody yet.
    EXPECT_TRUE(sim_.run_until(
        [&] {
          return run(2, [=, this]() -> io::Task<KafkaError> {
                   const auto moved =
                       co_await at(2).broker->move_leader({"t", partition}, NodeId(other));
                   co_return moved.error;
                 }) == KafkaError::kNone;
        },
        10s));
    EXPECT_TRUE(led(partition, other));
    return whom;
  }
};

TEST_F(ElectionsTest, whoever_is_preferred_leads_when_the_answer_comes) {
  create_led(1);
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    const std::int32_t whom = lead_astray(0);
    EXPECT_EQ(elect(i, {{0}}, 10'000, static_cast<std::int16_t>(i - 1)), (Answer{{"t-0", 0}})) << i;
    EXPECT_EQ(leader(i, "t"), whom) << "as the node that has answered sees it";
    EXPECT_EQ(elect(i, {{0}}), (Answer{{"t-0", 84}})) << "it leads already";
  }
  EXPECT_TRUE(write("t", "a"));
}

TEST_F(ElectionsTest, all_partitions_are_given_back_at_once_and_no_other_is_told_of) {
  create_led(6);
  Answer expected;
  for (const std::int32_t p : {0, 2, 3, 5}) {
    lead_astray(p);
    expected["t-" + std::to_string(p)] = 0;
  }
  EXPECT_EQ(elect(3, std::nullopt), expected);
  for (std::int32_t p = 0; p < 6; ++p) EXPECT_EQ(leader(3, "t", p), preferred(p)) << p;
  EXPECT_EQ(elect(3, std::nullopt), Answer{});
}

TEST_F(ElectionsTest, whoever_cannot_be_reached_is_not_asked_to_lead) {
  create_led(1);
  const std::int32_t whom = preferred(0);
  const std::int32_t other = whom % kNodes + 1;
  kill(whom);
  ASSERT_TRUE(
      sim_.run_until([&] { return leader(other, "t") != whom && leader(other, "t") != 0; }, 10s));
  const std::int32_t led_by = leader(other, "t");
  EXPECT_EQ(elect(other, {{0}}), (Answer{{"t-0", 80}}));
  EXPECT_EQ(leader(other, "t"), led_by);
  start(whom);
  ASSERT_TRUE(up({whom}));
  ASSERT_TRUE(sim_.run_until([&] { return elect(other, {{0}}).at("t-0") == 0; }, 20s));
  EXPECT_EQ(leader(other, "t"), whom);
}

TEST_F(ElectionsTest, who_asks_while_leaders_change_is_told_the_new_ones) {
  create_led(6);
  sim_.run_for(2s);
  const std::int32_t gone = preferred(0);
  const std::int32_t other = gone % kNodes + 1;
  kill(gone);
  // Once it has seen that, and before anybody else can lead.
  ASSERT_TRUE(sim_.run_until(
      [&] {
        return run(other, [&]() -> io::Task<bool> {
          co_return !at(other).broker->reachable(NodeId(gone));
        });
      },
      1s));
  ASSERT_EQ(leader(other, "t"), gone);
  for (const bool all : {false, true}) {
    const auto answer = metadata(other, all ? std::nullopt : std::optional<std::string>("t"));
    EXPECT_EQ(answer.brokers.size(), 3u) << "the lost one is told of for a while";
    for (const auto& each : answer.topics.at(0).partitions) {
      EXPECT_EQ(each.error_code, 0) << each.partition_index;
      EXPECT_NE(each.leader_id, gone);
    }
  }
  sim_.run_for(11s);
  EXPECT_EQ(metadata(other).brokers.size(), 2u);
}

TEST_F(ElectionsTest, who_asks_about_what_nobody_can_lead_is_told_so) {
  ASSERT_EQ(create(1, "t", 3, {}, 1), KafkaError::kNone);
  for (std::int32_t p = 0; p < 3; ++p) ASSERT_TRUE(led(p, preferred(p)));
  const std::int32_t gone = preferred(0);
  const std::int32_t other = gone % kNodes + 1;
  kill(gone);
  ASSERT_TRUE(sim_.run_until(
      [&] {
        return run(other, [&]() -> io::Task<bool> {
          co_return !at(other).broker->reachable(NodeId(gone));
        });
      },
      1s));
  const Instant asked = sim_.now();
  EXPECT_EQ(metadata(other, "t").topics.at(0).partitions.at(0).error_code, 5);
  EXPECT_LT(sim_.now() - asked, 50ms);
}

TEST_F(ElectionsTest, nothing_is_begun_once_the_time_is_up) {
  create_led(1);
  const std::int32_t whom = lead_astray(0);
  EXPECT_EQ(elect(1, {{0}}, 0), (Answer{{"t-0", 7}}));
  sim_.run_for(2s);
  EXPECT_NE(leader(1, "t"), whom);
}

}  // namespace
}  // namespace pyralog::protocol::kafka
