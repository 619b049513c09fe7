// Deleting records, and how much the logs hold, on the wire.
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/delete_records.h"
#include "wire/kafka/gen/describe_log_dirs.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/list_offsets.h"

namespace pyralog::protocol::kafka {
namespace {

using testing::batch_of;
using testing::KafkaTest;
using testing::RawClient;

class RecordsTest : public KafkaTest {
 protected:
  RecordsTest() {
    start();
    with_client([](RawClient& client) -> io::Task<void> {
      EXPECT_EQ(co_await create(client, "t", 2), 0);
      EXPECT_EQ(co_await create(client, "c", 1, {{"cleanup.policy", "compact"}}), 0);
      EXPECT_EQ((co_await send(client, "t", batch_of({"a", "b", "c"}))).error_code, 0);
      EXPECT_EQ((co_await send(client, "t", batch_of({"d", "e"}))).error_code, 0);
    });
  }
  /// {error, low watermark}
  static io::Task<std::pair<std::int16_t, std::int64_t>> remove(RawClient& client, std::string topic,
                                                                std::int32_t partition,
                                                                std::int64_t offset,
                                                                std::int16_t version = 2) {
    wire::DeleteRecordsRequest request;
    request.timeout_ms = 0;  // it is for other replicas
    request.topics.push_back({std::move(topic), {{partition, offset}}});
    const auto answer = co_await client.call<wire::DeleteRecordsResponse>(request, version);
    const auto& one = answer->topics.at(0).partitions.at(0);
    co_return std::pair(one.error_code, one.low_watermark);
  }
  static io::Task<std::int16_t> fetch(RawClient& client, std::int64_t offset) {
    wire::FetchRequest request;
    request.max_wait_ms = 0;
    auto& topic = request.topics.emplace_back();
    topic.topic = "t";
    topic.partitions.push_back({});
    topic.partitions[0].fetch_offset = offset;
    topic.partitions[0].partition_max_bytes = 1 << 20;
    const auto answer = co_await client.call<wire::FetchResponse>(request, 11);
    co_return answer->responses.at(0).partitions.at(0).error_code;
  }
};

using Answer = std::pair<std::int16_t, std::int64_t>;

TEST_F(RecordsTest, records_are_deleted_for_good_up_to_an_offset) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await remove(client, "t", 0, 2, 0), Answer(0, 2));
    EXPECT_EQ(co_await remove(client, "t", 0, 1, 1), Answer(0, 2)) << "it does not go back";
    EXPECT_EQ(co_await fetch(client, 1), 1);
    EXPECT_EQ(co_await fetch(client, 2), 0);
    wire::ListOffsetsRequest earliest;
    earliest.topics.push_back(
        {"t", {{.partition_index = 0, .current_leader_epoch = -1, .timestamp = -2}}});
    const auto found = co_await client.call<wire::ListOffsetsResponse>(earliest, 7);
    EXPECT_EQ(found->topics.at(0).partitions.at(0).offset, 2);
    EXPECT_EQ(co_await remove(client, "t", 0, 6), Answer(1, -1)) << "above the high watermark";
    EXPECT_EQ(co_await remove(client, "t", 0, -2), Answer(1, -1));
    EXPECT_EQ(co_await remove(client, "t", 0, -1), Answer(0, 5));
    EXPECT_EQ(co_await remove(client, "t", 1, -1), Answer(0, 0)) << "there is nothing in it";
    EXPECT_EQ(co_await remove(client, "t", 7, 0), Answer(3, -1));
    EXPECT_EQ(co_await remove(client, "nowhere", 0, 0), Answer(3, -1));
    EXPECT_EQ(co_await remove(client, "c", 0, 0), Answer(44, -1));
    EXPECT_EQ((co_await send(client, "t", batch_of({"f"}))).base_offset, 5);
  });
}

TEST_F(RecordsTest, each_partition_of_a_request_gets_its_own_answer) {
  with_client([](RawClient& client) -> io::Task<void> {
    wire::DeleteRecordsRequest request;
    request.topics.push_back({"t", {{1, 0}, {7, 0}, {0, 4}}});
    request.topics.push_back({"c", {{0, 0}}});
    const auto answer = co_await client.call<wire::DeleteRecordsResponse>(request, 2);
    std::vector<std::tuple<std::int32_t, std::int16_t, std::int64_t>> got;
    for (const auto& topic : answer->topics) {
      for (const auto& p : topic.partitions) {
        got.emplace_back(p.partition_index, p.error_code, p.low_watermark);
      }
    }
    EXPECT_EQ(got, (decltype(got){{1, 0, 0}, {7, 3, -1}, {0, 0, 4}, {0, 44, -1}}));
  });
}

TEST_F(RecordsTest, what_acks_1_has_answered_can_be_deleted_at_once) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (int i = 0; i < 20; ++i) {
      const auto sent = co_await send(client, "t", batch_of({"x"}), 1);
      EXPECT_EQ(sent.error_code, 0);
      const std::int64_t end = sent.base_offset + 1;
      EXPECT_EQ(co_await remove(client, "t", 0, i % 2 == 0 ? end : -1), Answer(0, end));
    }
  });
}

TEST_F(RecordsTest, the_directory_says_what_it_holds) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 1; version <= 4; ++version) {
      wire::DescribeLogDirsRequest all;
      const auto answer = co_await client.call<wire::DescribeLogDirsResponse>(all, version);
      EXPECT_EQ(answer->results.size(), 1u);
      const auto& dir = answer->results.at(0);
      EXPECT_EQ(dir.error_code, 0);
      EXPECT_FALSE(dir.log_dir.empty());
      EXPECT_EQ(dir.topics.size(), 2u);
      EXPECT_EQ(dir.topics.at(1).name, "t");
      EXPECT_GT(dir.topics.at(1).partitions.at(0).partition_size, 100);
      EXPECT_EQ(dir.total_bytes > 0, version == 4);
      wire::DescribeLogDirsRequest some;
      some.topics.emplace().push_back({"t", {1, 9}});
      const auto one = co_await client.call<wire::DescribeLogDirsResponse>(some, version);
      EXPECT_EQ(one->results.at(0).topics.size(), 1u);
      EXPECT_EQ(one->results.at(0).topics.at(0).partitions.size(), 1u);
    }
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
