// What is offered, what ends a connection, and what comes back in which order.
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/api_versions.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/metadata.h"

namespace pyralog::protocol::kafka {
namespace {

using testing::batch_of;
using testing::KafkaTest;
using testing::RawClient;

class ProtocolTest : public KafkaTest {
 protected:
  ProtocolTest() { start(); }
};

TEST_F(ProtocolTest, offers_these_keys_and_versions_and_no_others) {
  const std::map<int, std::pair<int, int>> expected = {
      {0, {0, 11}}, {1, {0, 16}}, {2, {1, 7}},  {3, {0, 12}}, {8, {2, 9}},  {9, {1, 9}},
      {10, {0, 4}}, {11, {0, 9}}, {12, {0, 4}}, {13, {0, 5}}, {14, {0, 5}}, {15, {0, 5}},
      {16, {0, 5}}, {18, {0, 4}}, {19, {2, 7}}, {20, {1, 6}}, {21, {0, 2}}, {22, {0, 4}},
      {23, {2, 4}}, {32, {1, 4}}, {33, {0, 2}}, {35, {1, 4}}, {37, {0, 3}}, {42, {0, 2}},
      {43, {0, 2}}, {44, {0, 1}}, {45, {0, 0}}, {46, {0, 0}}, {47, {0, 0}}, {60, {0, 1}}, {61, {0, 0}}};
  with_client([&](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 0; version <= 4; ++version) {
      wire::ApiVersionsRequest request;
      request.client_software_name = "test";
      request.client_software_version = "1";
      const auto answer = co_await client.call<wire::ApiVersionsResponse>(request, version);
      EXPECT_EQ(answer->error_code, 0);
      std::map<int, std::pair<int, int>> found;
      for (const auto& api : answer->api_keys) {
        found[api.api_key] = {api.min_version, api.max_version};
      }
      EXPECT_EQ(found, expected) << version;
    }
  });
}

TEST_F(ProtocolTest, api_versions_wants_names_of_software_that_can_be_told_again) {
  with_client([](RawClient& client) -> io::Task<void> {
    const auto ask = [&](std::string name, std::string version,
                         std::int16_t api_version) -> io::Task<std::int16_t> {
      wire::ApiVersionsRequest request;
      request.client_software_name = std::move(name);
      request.client_software_version = std::move(version);
      const auto answer = co_await client.call<wire::ApiVersionsResponse>(request, api_version);
      EXPECT_EQ(answer->api_keys.empty(), answer->error_code != 0);
      co_return answer->error_code;
    };
    for (const std::int16_t version : {std::int16_t{3}, std::int16_t{4}}) {
      for (const char* good : {"apache-kafka-java", "4.3.1", "a", "0", "x-1.2-rc.3", "A..--Z"}) {
        EXPECT_EQ(co_await ask(good, "1", version), 0) << good;
        EXPECT_EQ(co_await ask("x", good, version), 0) << good;
      }
      for (const char* bad : {"", " ", "a b", "-a", "a-", ".1", "1.", "a_b", "1+2", "caf\xc3\xa9", "a\n"}) {
        EXPECT_EQ(co_await ask(bad, "1", version), 42) << bad;
        EXPECT_EQ(co_await ask("x", bad, version), 42) << bad;
      }
    }
    EXPECT_EQ(co_await ask("not sent", "", 2), 0) << "older versions do not have them";
  });
}

TEST_F(ProtocolTest, api_versions_of_the_future_get_version_0_with_our_range) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (const std::int16_t version : {std::int16_t{5}, std::int16_t{99}, std::int16_t{-1}}) {
      co_await client.send_frame(18, version, Bytes{1, 1, 0});
      const auto answer = co_await client.receive<wire::ApiVersionsResponse>(0);
      if (!answer) co_return;
      EXPECT_EQ((*answer)->error_code, 35);
      EXPECT_EQ((*answer)->api_keys.size(), 1u);
      if ((*answer)->api_keys.empty()) co_return;
      EXPECT_EQ((*answer)->api_keys[0].api_key, 18);
      EXPECT_EQ((*answer)->api_keys[0].max_version, 4);
    }
    const auto again = co_await client.call<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0);
    EXPECT_EQ(again->error_code, 0) << "the connection goes on";
  });
}

TEST_F(ProtocolTest, keys_that_are_not_offered_end_their_connection_and_no_other) {
  with_client([](RawClient& bystander) -> io::Task<void> {
    for (const int key : {4, 5, 6, 7, 17, 24, 25, 26, 28, 29, 36, 43, 50, 68,
                                   9999, 19999, -1, 32767}) {
      const auto client = co_await connect();
      co_await client->send_frame(static_cast<std::int16_t>(key), 0);
      EXPECT_TRUE(co_await client->closed()) << key;
    }
    const auto alive =
        co_await bystander.call<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0);
    EXPECT_EQ(alive->error_code, 0);
  });
}

TEST_F(ProtocolTest, versions_that_are_not_offered_end_the_connection) {
  with_client([](RawClient&) -> io::Task<void> {
    for (const OfferedApi& api : offered_apis()) {
      if (api.key == wire::ApiKey::kApiVersions) continue;
      for (const int version : {api.min_version - 1, api.max_version + 1}) {
        const auto client = co_await connect();
        co_await client->send_frame(static_cast<std::int16_t>(api.key),
                                    static_cast<std::int16_t>(version), Bytes(20));
        EXPECT_TRUE(co_await client->closed()) << static_cast<int>(api.key) << " v" << version;
      }
    }
  });
}

TEST_F(ProtocolTest, malformed_frames_end_the_connection) {
  const std::vector<Bytes> evil = {
      {0, 0, 0, 0},                                              // no key
      {0, 0, 0, 1, 0},                                           // half a key
      {0, 0, 0, 3, 0, 18, 0},                                    // half a header
      {0xff, 0xff, 0xff, 0xff},                                  // a negative length
      {0x7f, 0xff, 0xff, 0xff, 1, 2, 3},                         // a huge one
      {0, 0, 0, 12, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 9},   // a cut array count
      {0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xf0},
      {'G', 'E', 'T', ' ', '/', ' ', 'H', 'T', 'T', 'P', '/', '1', '.', '1', '\r', '\n'},
  };
  with_client([&](RawClient& bystander) -> io::Task<void> {
    for (std::size_t i = 0; i < evil.size(); ++i) {
      const auto client = co_await connect();
      co_await client->send_raw(evil[i]);
      EXPECT_TRUE(co_await client->closed()) << i;
    }
    const auto alive =
        co_await bystander.call<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0);
    EXPECT_EQ(alive->error_code, 0);
  });
}

TEST_F(ProtocolTest, pipelined_requests_are_answered_in_their_order) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "t"), 0);
    wire::FetchRequest waits;
    waits.max_wait_ms = 500;
    waits.min_bytes = 1;
    auto& topic = waits.topics.emplace_back();
    topic.topic = "t";
    topic.partitions.emplace_back().partition_max_bytes = 1000;
    co_await client.send(waits, 4);
    const std::vector<Bytes> batches{batch_of({"a"})};
    for (int i = 0; i < 10; ++i) {
      co_await client.send(wire::ApiVersionsRequest{}, 0);
      co_await client.send(produce("t", batches), 7);
      co_await client.send(wire::MetadataRequest{}, 1);
    }
    EXPECT_TRUE(co_await client.receive<wire::FetchResponse>(4));
    for (int i = 0; i < 10; ++i) {
      EXPECT_TRUE(co_await client.receive<wire::ApiVersionsResponse>(0));
      const auto made = co_await client.receive<wire::ProduceResponse>(7);
      if (!made) co_return;
      EXPECT_EQ((*made)->responses[0].partition_responses[0].base_offset, i);
      EXPECT_TRUE(co_await client.receive<wire::MetadataResponse>(1));
    }
  });
}

TEST_F(ProtocolTest, connections_go_on_at_the_shard_of_their_partitions_while_shards_stay_even) {
  with_client([this](RawClient& first) -> io::Task<void> {
    EXPECT_EQ(co_await create(first, "t", 2), 0);
    // Partition 0 is the shard's of every other connection. With 13 in all, more than two would crowd it.
    std::vector<std::unique_ptr<RawClient>> more;
    for (int i = 0; i < 12; ++i) more.push_back(co_await connect());
    const std::vector<Bytes> batches{batch_of({"a"})};
    for (int i = 0; i < 12; ++i) {
      RawClient& client = *more[static_cast<std::size_t>(i)];
      // The rest is there by the time the first request is looked at.
      client.add(produce("t", batches), 7);
      client.add(wire::ApiVersionsRequest{}, 0);
      client.add(produce("t", batches), 7);
      co_await client.send_added();
      for (int k = 0; k < 2; ++k) {
        const auto made = co_await client.receive<wire::ProduceResponse>(7);
        if (!made) co_return;
        EXPECT_EQ((*made)->responses[0].partition_responses[0].base_offset, 2 * i + k);
        if (k == 0) {
          EXPECT_TRUE(co_await client.receive<wire::ApiVersionsResponse>(0));
        }
      }
    }
    EXPECT_THAT(kafka_->arrivals().moved, ::testing::AllOf(::testing::Ge(1u), ::testing::Le(3u)));
    EXPECT_EQ(kafka_->connections(), 13u);
  });
}

TEST_F(ProtocolTest, a_client_whose_first_request_is_large_stays_where_it_is) {
  with_client([this](RawClient& first) -> io::Task<void> {
    EXPECT_EQ(co_await create(first, "t", 2), 0);
    const std::vector<Bytes> batches{batch_of({std::string(8'000, 'a')})};
    for (int i = 0; i < 2; ++i) {
      const auto client = co_await connect();
      const auto made = co_await client->call<wire::ProduceResponse>(produce("t", batches), 7);
      EXPECT_EQ(made->responses[0].partition_responses[0].base_offset, i);
      client->close();
    }
    EXPECT_EQ(kafka_->arrivals().moved, 0u) << "on its way it would be in no bound";
  });
}

TEST_F(ProtocolTest, a_client_of_partitions_of_several_shards_stays_where_it_is) {
  with_client([this](RawClient& first) -> io::Task<void> {
    EXPECT_EQ(co_await create(first, "t", 2), 0);
    const std::vector<Bytes> batches{batch_of({"a"}), batch_of({"b"})};
    for (int i = 0; i < 2; ++i) {
      const auto client = co_await connect();
      (void)co_await client->call<wire::ProduceResponse>(produce("t", batches), 7);
      // Its first request decides.
      (void)co_await client->call<wire::ProduceResponse>(produce("t", {batches[0]}), 7);
      client->close();
    }
    EXPECT_EQ(kafka_->arrivals().moved, 0u);
  });
}

TEST_F(ProtocolTest, a_stop_answers_what_is_in_flight) {
  with_client([this](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "t"), 0);
    wire::FetchRequest waits;
    waits.max_wait_ms = 50'000;
    waits.min_bytes = 1;
    auto& topic = waits.topics.emplace_back();
    topic.topic = "t";
    topic.partitions.emplace_back().partition_max_bytes = 1000;
    co_await client.send(waits, 4);
    co_await io::sleep_for(100ms);
    sim_.schedule(Duration{0}, [this] { ask_to_stop(); });
    const Instant begun = io::Shard::current().now();
    EXPECT_TRUE(co_await client.receive<wire::FetchResponse>(4));
    EXPECT_TRUE(co_await client.closed());
    EXPECT_LT(io::Shard::current().now() - begun, 10s);
  });
  sim_.run_until([this] { return broker_ == nullptr; }, 60s);
  EXPECT_EQ(broker_, nullptr);
  stopping_ = false;
}

TEST_F(ProtocolTest, connections_are_bounded) {
  stop();
  listener_.max_connections = 3;
  start();
  with_client([](RawClient& first) -> io::Task<void> {
    std::vector<std::unique_ptr<RawClient>> more;
    for (int i = 0; i < 3; ++i) more.push_back(co_await connect());
    EXPECT_TRUE(co_await more[2]->closed());
    more[1]->close();
    co_await io::sleep_for(1s);
    const auto again = co_await connect();
    const auto answer =
        co_await again->call<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0);
    EXPECT_EQ(answer->error_code, 0);
    EXPECT_EQ((co_await first.call<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0))
                  ->error_code, 0);
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
