// What is counted of requests: by API, by error, by topic.
#include "protocol/kafka/request_counts.h"

#include "protocol/kafka/error_names.h"
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/offset_fetch.h"

namespace pyralog::protocol::kafka {
namespace {

using testing::batch_of;
using ::testing::HasSubstr;
using testing::KafkaTest;
using testing::RawClient;

class RequestCountsTest : public KafkaTest {
 protected:
  RequestCountsTest() {
    service_.metrics = &registry_;
    start();
    with_client([](RawClient& client) -> io::Task<void> {
      EXPECT_EQ(co_await create(client, "orders"), 0);
    });
  }
  ~RequestCountsTest() override {
    if (broker_ != nullptr) stop();  // before what it counts into
  }
  [[nodiscard]] TopicTraffic traffic(const std::string& topic) const {
    TopicTraffic all;
    for (Service* service : services_) {
      const auto& topics = service->counts().topics();
      if (const auto at = topics.find(topic); at != topics.end()) all += at->second;
    }
    return all;
  }
  static wire::FetchRequest from(std::int64_t offset) {
    wire::FetchRequest fetch;
    fetch.max_bytes = 1 << 20;
    auto& topic = fetch.topics.emplace_back();
    topic.topic = "orders";
    auto& partition = topic.partitions.emplace_back();
    partition.fetch_offset = offset;
    partition.partition_max_bytes = 1 << 20;
    return fetch;
  }

  observe::Registry registry_{2};
};

TEST_F(RequestCountsTest, what_a_topic_gets_and_gives) {
  const Bytes batch = batch_of({"a", "b", "c"});
  with_client([&](RawClient& client) -> io::Task<void> {
    EXPECT_EQ((co_await send(client, "orders", batch)).error_code, 0);
    EXPECT_NE((co_await send(client, "nothing", batch)).error_code, 0);
    // Records of a batch that lie below the offset that was asked for are not counted.
    EXPECT_EQ((co_await client.call<wire::FetchResponse>(from(1), 11))->error_code, 0);
  });
  EXPECT_EQ(traffic("orders").produced_records, 3u);
  EXPECT_EQ(traffic("orders").produced_bytes, batch.size());
  EXPECT_EQ(traffic("orders").fetched_records, 2u);
  EXPECT_EQ(traffic("orders").fetched_bytes, batch.size());
  EXPECT_EQ(traffic("nothing").bytes(), 0u);
  const std::string text = registry_.text();
  EXPECT_THAT(text, HasSubstr("pyralog_kafka_produced_records_total 3\n"));
  EXPECT_THAT(text, HasSubstr("pyralog_kafka_fetched_records_total 2\n"));
}

TEST_F(RequestCountsTest, errors_by_api_wherever_they_stand_in_the_answer) {
  with_client([&](RawClient& client) -> io::Task<void> {
    EXPECT_NE((co_await send(client, "nothing", batch_of({"a"}))).error_code, 0);
    EXPECT_NE((co_await send(client, "nothing", batch_of({"a"}))).error_code, 0);
    (void)co_await client.call<wire::FetchResponse>(from(99), 11);
    EXPECT_NE(co_await create(client, "orders"), 0);
    co_await client.send_frame(999, 0);
    EXPECT_TRUE(co_await client.closed());
  });
  const std::string text = registry_.text();
  EXPECT_THAT(text, HasSubstr("pyralog_kafka_errors_total{api=\"Produce\",error=\"UNKNOWN_TOPIC_OR_"
                              "PARTITION\"} 2\n"));
  EXPECT_THAT(text,
              HasSubstr("pyralog_kafka_errors_total{api=\"Fetch\",error=\"OFFSET_OUT_OF_RANGE\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("{api=\"CreateTopics\",error=\"TOPIC_ALREADY_EXISTS\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("pyralog_kafka_requests_refused_total 1\n"));
}

TEST_F(RequestCountsTest, an_error_that_gets_no_answer_is_counted_too) {
  with_client([&](RawClient& client) -> io::Task<void> {
    const std::vector<Bytes> one = {batch_of({"a"})};
    co_await client.send(produce("nothing", one, 0), 9);
    EXPECT_TRUE(co_await client.closed());
  });
  EXPECT_THAT(registry_.text(), HasSubstr("{api=\"Produce\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"} 1\n"));
}

TEST_F(RequestCountsTest, times_and_bytes_by_api) {
  with_client([&](RawClient& client) -> io::Task<void> {
    EXPECT_EQ((co_await send(client, "orders", batch_of({"a"}))).error_code, 0);
  });
  sim_.run_for(1s);
  const std::string text = registry_.text();
  for (const char* what : {"request_queue", "request", "request_total"}) {
    EXPECT_THAT(text, HasSubstr(std::string("pyralog_kafka_") + what +
                                "_seconds_count{api=\"Produce\"} 1\n"));
  }
  EXPECT_EQ(text.find("pyralog_kafka_response_bytes_total{api=\"Produce\"} 0\n"), std::string::npos);
  EXPECT_EQ(text.find("pyralog_kafka_request_bytes_total{api=\"Produce\"} 0\n"), std::string::npos);
  EXPECT_THAT(text, HasSubstr("pyralog_kafka_response_bytes_total{api=\"Fetch\"} 0\n"));
}

TEST(ErrorCounts, each_part_of_an_answer_is_looked_at) {
  wire::OffsetFetchResponse response;
  response.error_code = 14;
  response.groups.emplace_back().error_code = 69;
  response.groups.back().topics.emplace_back().partitions.emplace_back().error_code = 3;
  response.groups.back().topics.back().partitions.emplace_back().error_code = 3;
  response.groups.back().topics.back().partitions.emplace_back();
  ErrorCounts counts;
  count_errors(response, counts);
  const std::vector<std::pair<std::int16_t, std::uint32_t>> expected = {{14, 1}, {69, 1}, {3, 2}};
  EXPECT_EQ(counts.all(), expected);
  EXPECT_EQ(error_name(static_cast<KafkaError>(14)), "COORDINATOR_LOAD_IN_PROGRESS");
  EXPECT_EQ(error_name(static_cast<KafkaError>(999)), "UNKNOWN");
}

}  // namespace
}  // namespace pyralog::protocol::kafka
