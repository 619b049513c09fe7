// Produce and producer ids on the wire.
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/api_versions.h"
#include "wire/kafka/gen/describe_producers.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/init_producer_id.h"

namespace pyralog::protocol::kafka {
namespace {

using testing::batch_of;
using testing::BatchSpec;
using testing::KafkaTest;
using testing::RawClient;
using testing::values_of;

class ProduceTest : public KafkaTest {
 protected:
  ProduceTest() {
    start();
    with_client([](RawClient& client) -> io::Task<void> {
      EXPECT_EQ(co_await create(client, "t", 2), 0);
    });
  }
  static io::Task<std::vector<std::string>> values(RawClient& client) {
    wire::FetchRequest request;
    request.max_wait_ms = 0;
    auto& topic = request.topics.emplace_back();
    topic.topic = "t";
    topic.partitions.emplace_back().partition_max_bytes = 1 << 20;
    const auto answer = co_await client.call<wire::FetchResponse>(request, 11);
    if (answer->responses.empty()) co_return std::vector<std::string>{"no answer"};
    co_return values_of(answer->responses[0].partitions[0].records.view);
  }
};

TEST_F(ProduceTest, every_served_version_writes_and_the_older_ones_say_35) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 0; version <= 11; ++version) {
      const auto out = co_await send(client, "t", batch_of({std::to_string(version)}), -1, version);
      EXPECT_EQ(out.error_code, version < 3 ? 35 : 0) << version;
    }
    EXPECT_EQ(co_await values(client),
              (std::vector<std::string>{"3", "4", "5", "6", "7", "8", "9", "10", "11"}));
  });
}

TEST_F(ProduceTest, records_without_key_on_a_compacted_topic_are_named) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "c", 1, {{"cleanup.policy", "compact"}}), 0);
    for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
      BatchBuilder builder(codec);
      for (const bool key : {true, false, true, false}) {
        NewRecord record;
        record.timestamp = 1;
        if (key) record.key = as_bytes("k");
        record.value = as_bytes("v");
        builder.add(record);
      }
      const auto out = co_await send(client, "c", builder.build().value());
      EXPECT_EQ(out.error_code, 87);
      EXPECT_EQ(out.record_errors.size(), 2u) << "so that a client knows which ones to blame";
      if (out.record_errors.size() != 2) co_return;
      EXPECT_EQ(out.record_errors[0].batch_index, 1);
      EXPECT_EQ(out.record_errors[1].batch_index, 3);
      EXPECT_TRUE(out.record_errors[1].batch_index_error_message);
    }
    EXPECT_TRUE((co_await send(client, "t", {})).record_errors.empty());
  });
}

TEST_F(ProduceTest, refusals_carry_kafkas_codes) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ((co_await send(client, "nowhere", batch_of({"a"}))).error_code, 3);
    EXPECT_EQ((co_await send(client, "t", batch_of({"a"}), 2)).error_code, 21);
    EXPECT_EQ((co_await send(client, "t", batch_of({"a"}, {.attributes = 0x20}))).error_code, 87);
    const BatchSpec transactional{.producer = 1, .epoch = 0, .sequence = 0, .attributes = 0x10};
    EXPECT_EQ((co_await send(client, "t", batch_of({"a"}, transactional))).error_code, 48);
    EXPECT_EQ((co_await send(client, "t", batch_of({std::string(2 << 20, 'x')}))).error_code, 10);
    EXPECT_EQ((co_await send(client, "t", {})).error_code, 87);
    auto null = produce("t", {Bytes{}});
    null.topic_data[0].partition_data[0].records = {};
    const auto answer = co_await client.call<wire::ProduceResponse>(null, 9);
    EXPECT_EQ(answer->responses[0].partition_responses[0].error_code, 87) << "null records";
    auto named = produce("t", {Bytes{}});
    named.transactional_id = "tx";
    const auto refused = co_await client.call<wire::ProduceResponse>(named, 9);
    EXPECT_EQ(refused->responses[0].partition_responses[0].error_code, 53);
    EXPECT_TRUE(refused->responses[0].partition_responses[0].error_message);
    EXPECT_EQ(co_await values(client), std::vector<std::string>{});
  });
}

TEST_F(ProduceTest, zstd_needs_a_client_that_has_heard_of_it) {
  with_client([](RawClient& client) -> io::Task<void> {
    const Bytes batch = batch_of({"a"}, {.codec = Codec::kZstd});
    EXPECT_EQ((co_await send(client, "t", batch, -1, 6)).error_code, 76);
    EXPECT_EQ((co_await send(client, "t", batch, -1, 7)).error_code, 0);
  });
}

TEST_F(ProduceTest, one_bad_partition_does_not_spoil_the_others) {
  with_client([](RawClient& client) -> io::Task<void> {
    Bytes bad = batch_of({"bad"});
    bad.back() ^= 1;
    const std::vector<Bytes> batches{batch_of({"good"}), bad, batch_of({"no such partition"})};
    const auto answer = co_await client.call<wire::ProduceResponse>(produce("t", batches), 9);
    const auto& parts = answer->responses[0].partition_responses;
    EXPECT_EQ(parts[0].error_code, 0);
    EXPECT_EQ(parts[1].error_code, 2);
    EXPECT_EQ(parts[1].base_offset, -1);
    EXPECT_EQ(parts[2].error_code, 3);
  });
}

TEST_F(ProduceTest, acks_0_never_gets_a_frame_and_an_error_ends_the_connection) {
  with_client([](RawClient& client) -> io::Task<void> {
    const std::vector<Bytes> good{batch_of({"silent"})};
    co_await client.send(produce("t", good, 0), 9);
    client.skip_response();
    const auto next = co_await client.call<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0);
    EXPECT_EQ(next->error_code, 0);
    Bytes bad = good[0];
    bad.back() ^= 1;
    for (int fault = 0; fault < 3; ++fault) {
      const auto other = co_await connect();
      const std::vector<Bytes> batches{fault == 0 ? bad : good[0]};
      auto request = produce("t", batches, 0);
      if (fault == 1) request.transactional_id = "tx";
      co_await other->send(request, fault == 2 ? std::int16_t{2} : std::int16_t{9});
      EXPECT_TRUE(co_await other->closed()) << fault << ": a frame nobody waits for";
    }
    EXPECT_EQ(co_await values(client), std::vector<std::string>{"silent"});
  });
}

TEST_F(ProduceTest, duplicates_get_the_original_and_gaps_are_refused) {
  with_client([](RawClient& client) -> io::Task<void> {
    wire::InitProducerIdRequest init;
    const auto id = co_await client.call<wire::InitProducerIdResponse>(init, 4);
    EXPECT_EQ(id->error_code, 0);
    EXPECT_EQ(id->producer_epoch, 0);
    const auto sent = [&](std::int32_t sequence) -> io::Task<std::pair<int, std::int64_t>> {
      const auto out = co_await send(
          client, "t", batch_of({"x"}, {.producer = id->producer_id, .epoch = 0,
                                        .sequence = sequence}));
      co_return std::pair<int, std::int64_t>(out.error_code, out.base_offset);
    };
    using Told = std::pair<int, std::int64_t>;
    EXPECT_EQ(co_await sent(4), Told(59, -1));
    EXPECT_EQ(co_await sent(0), Told(0, 0));
    EXPECT_EQ(co_await sent(1), Told(0, 1));
    EXPECT_EQ(co_await sent(0), Told(0, 0));
    EXPECT_EQ(co_await sent(3), Told(45, -1));
    EXPECT_EQ(co_await values(client), (std::vector<std::string>{"x", "x"}));
    wire::DescribeProducersRequest describe;
    auto& topic = describe.topics.emplace_back();
    topic.name = "t";
    topic.partition_indexes = {0, 1, 7};
    const auto told = co_await client.call<wire::DescribeProducersResponse>(describe, 0);
    const auto& parts = told->topics[0].partitions;
    EXPECT_EQ(parts[0].active_producers.size(), 1u);
    if (parts[0].active_producers.empty()) co_return;
    EXPECT_EQ(parts[0].active_producers[0].producer_id, id->producer_id);
    EXPECT_EQ(parts[0].active_producers[0].last_sequence, 1);
    EXPECT_EQ(parts[0].active_producers[0].current_txn_start_offset, -1);
    EXPECT_TRUE(parts[1].active_producers.empty());
    EXPECT_EQ(parts[2].error_code, 3);
  });
}

TEST_F(ProduceTest, transactions_are_refused_for_good) {
  with_client([](RawClient& client) -> io::Task<void> {
    wire::InitProducerIdRequest init;
    init.transactional_id = "tx";
    init.transaction_timeout_ms = 60'000;
    for (std::int16_t version = 0; version <= 4; ++version) {
      const auto answer = co_await client.call<wire::InitProducerIdResponse>(init, version);
      EXPECT_EQ(answer->error_code, 53);
      EXPECT_EQ(answer->producer_id, -1);
    }
    init.transactional_id = "";
    const auto empty = co_await client.call<wire::InitProducerIdResponse>(init, 4);
    EXPECT_EQ(empty->error_code, 42);
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
