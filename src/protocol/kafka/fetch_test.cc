// Fetch, its sessions, and ListOffsets on the wire.
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/list_offsets.h"
#include "wire/kafka/gen/offset_for_leader_epoch.h"

namespace pyralog::protocol::kafka {
namespace {

using testing::batch_of;
using testing::KafkaTest;
using testing::RawClient;
using testing::Received;
using testing::values_of;
using Strings = std::vector<std::string>;

class FetchTest : public KafkaTest {
 protected:
  FetchTest() {
    start();
    with_client([](RawClient& client) -> io::Task<void> {
      EXPECT_EQ(co_await create(client, "t", 3), 0);
    });
  }
  static wire::FetchRequest request(std::vector<std::pair<std::int32_t, std::int64_t>> from,
                                    std::int32_t session = 0, std::int32_t epoch = -1) {
    wire::FetchRequest made;
    made.max_wait_ms = 0;
    made.session_id = session;
    made.session_epoch = epoch;
    if (from.empty()) return made;
    auto& topic = made.topics.emplace_back();
    topic.topic = "t";
    for (const auto& [partition, offset] : from) {
      auto& each = topic.partitions.emplace_back();
      each.partition = partition;
      each.fetch_offset = offset;
      each.partition_max_bytes = 1 << 20;
    }
    return made;
  }
  /// "0:a,b 2:" — partitions that were answered, with their values or "!" and an error.
  static std::string told(const Received<wire::FetchResponse>& answer) {
    std::string all;
    for (const auto& topic : answer->responses) {
      for (const auto& partition : topic.partitions) {
        all += (all.empty() ? "" : " ") + std::to_string(partition.partition_index) + ":";
        if (partition.error_code != 0) all += "!" + std::to_string(partition.error_code);
        bool first = true;
        for (const auto& value : values_of(partition.records.view)) {
          all += (first ? "" : ",") + value;
          first = false;
        }
      }
    }
    return all;
  }
  static io::Task<void> write(RawClient& client, std::int32_t partition, std::string value) {
    const std::vector<Bytes> batches{batch_of({std::move(value)})};
    auto made = produce("t", batches);
    made.topic_data[0].partition_data[0].index = partition;
    const auto answer = co_await client.call<wire::ProduceResponse>(made, 9);
    EXPECT_EQ(answer->responses[0].partition_responses[0].error_code, 0);
  }
};

TEST_F(FetchTest, does_not_wait_for_records_for_a_client_that_left) {
  with_client([this](RawClient& client) -> io::Task<void> {
    auto fetch = request({{0, 0}});
    fetch.min_bytes = 1;
    fetch.max_wait_ms = 60'000;
    co_await client.send(fetch, 12);
    co_await io::sleep_for(1s);
    EXPECT_EQ(services_[0]->fetching() + services_[1]->fetching(), 1u);
  });
  sim_.run_for(1s);
  EXPECT_EQ(services_[0]->fetching() + services_[1]->fetching(), 0u);
}

TEST_F(FetchTest, every_served_version_reads_and_the_older_ones_say_35) {
  const Uuid id = cluster_->catalog()->topic("t")->id.uuid;
  with_client([&](RawClient& client) -> io::Task<void> {
    co_await write(client, 0, "a");
    for (std::int16_t version = 0; version <= 16; ++version) {
      auto fetch = request({{0, 0}});
      fetch.topics[0].topic_id = id;
      const auto answer = co_await client.call<wire::FetchResponse>(fetch, version);
      EXPECT_EQ(told(answer), version < 4 ? "0:!35" : "0:a") << version;
      if (version < 4 || answer->responses.empty()) continue;
      EXPECT_EQ(answer->responses[0].partitions[0].high_watermark, 1);
      EXPECT_EQ(answer->responses[0].partitions[0].last_stable_offset, 1);
    }
  });
}

TEST_F(FetchTest, read_committed_is_served) {
  with_client([](RawClient& client) -> io::Task<void> {
    co_await write(client, 0, "a");
    auto committed = request({{0, 0}});
    committed.isolation_level = 1;
    EXPECT_EQ(told(co_await client.call<wire::FetchResponse>(committed, 11)), "0:a");
  });
}

TEST_F(FetchTest, errors_stand_where_they_belong) {
  with_client([](RawClient& client) -> io::Task<void> {
    auto mixed = request({{0, 5}, {1, 0}, {9, 0}});
    mixed.topics[0].partitions[1].current_leader_epoch = 4;
    EXPECT_EQ(told(co_await client.call<wire::FetchResponse>(mixed, 12)), "0:!1 1:!75 9:!3");
    mixed.topics[0].partitions[1].current_leader_epoch = 0;
    EXPECT_EQ(told(co_await client.call<wire::FetchResponse>(mixed, 12)), "0:!1 1:!74 9:!3");
  });
}

TEST_F(FetchTest, a_file_that_fails_while_it_is_sent_ends_the_connection_and_is_verified_again) {
  std::vector<std::string> lines;
  observe::capture_log([&](const std::string& line) { lines.push_back(line); });
  bool failing = false;
  std::string sent;
  disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
    if (op != io::sim::DiskOp::kSend) return io::sim::DiskFault::kNone;
    sent = path;
    return failing ? io::sim::DiskFault::kError : io::sim::DiskFault::kNone;
  });
  with_client([&](RawClient& client) -> io::Task<void> {
    co_await write(client, 0, "a");
    EXPECT_EQ(told(co_await client.call<wire::FetchResponse>(request({{0, 0}}), 12)), "0:a");
    failing = true;
    const auto other = co_await connect();
    co_await other->send(request({{0, 0}}), 12);
    const Instant began = io::Shard::current().now();
    EXPECT_FALSE(co_await other->frame(20s));
    EXPECT_LT(io::Shard::current().now() - began, Duration(1s)) << "the connection ends";
    failing = false;
    constexpr std::uint64_t kInRecord = 64 + 61 + 5;  // behind the headers of segment and batch
    EXPECT_TRUE(disk().corrupt(sent, kInRecord));
    EXPECT_EQ(told(co_await client.call<wire::FetchResponse>(request({{0, 0}}), 12)), "0:!56");
    EXPECT_TRUE(disk().corrupt(sent, kInRecord));  // as it was
    EXPECT_EQ(told(co_await client.call<wire::FetchResponse>(request({{0, 0}}), 12)), "0:a");
  });
  observe::capture_log({});
  disk().set_hook({});
  std::erase_if(lines, [](const auto& line) { return !line.contains("log.send_failed"); });
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], ::testing::ContainsRegex("partition=t-0 file=.*/0+\\.log .*input/output error"));
}

TEST_F(FetchTest, a_session_is_told_only_what_is_new) {
  with_client([](RawClient& client) -> io::Task<void> {
    co_await write(client, 0, "a");
    auto answer = co_await client.call<wire::FetchResponse>(
        request({{0, 0}, {1, 0}, {2, 0}}, 0, 0), 12);
    const std::int32_t id = answer->session_id;
    EXPECT_NE(id, 0);
    EXPECT_EQ(told(answer), "0:a 1: 2:");
    answer = co_await client.call<wire::FetchResponse>(request({{0, 1}}, id, 1), 12);
    EXPECT_EQ(told(answer), "");
    EXPECT_EQ(answer->session_id, id);
    co_await write(client, 2, "c");
    answer = co_await client.call<wire::FetchResponse>(request({}, id, 2), 12);
    EXPECT_EQ(told(answer), "2:c");
    answer = co_await client.call<wire::FetchResponse>(request({{2, 1}}, id, 3), 12);
    EXPECT_EQ(told(answer), "");
    auto forget = request({}, id, 4);
    forget.forgotten_topics_data.push_back({"t", {}, {1}});
    co_await write(client, 1, "b");
    answer = co_await client.call<wire::FetchResponse>(forget, 12);
    EXPECT_EQ(told(answer), "");
    answer = co_await client.call<wire::FetchResponse>(request({{1, 0}}, id, 5), 12);
    EXPECT_EQ(told(answer), "1:b");
  });
}

TEST_F(FetchTest, a_session_serves_any_connection_of_any_shard) {
  std::int32_t id = 0;
  with_client([&](RawClient& client) -> io::Task<void> {
    id = (co_await client.call<wire::FetchResponse>(request({{0, 0}}, 0, 0), 12))->session_id;
    co_await write(client, 0, "a");
  });
  for (std::int32_t epoch = 1; epoch <= 4; ++epoch) {
    with_client([&](RawClient& client) -> io::Task<void> {
      const auto answer = co_await client.call<wire::FetchResponse>(request({}, id, epoch), 12);
      EXPECT_EQ(answer->error_code, 0) << epoch;
      EXPECT_EQ(told(answer), "0:a");
    });
  }
}

TEST_F(FetchTest, session_epochs_are_checked_and_sessions_end) {
  with_client([](RawClient& client) -> io::Task<void> {
    const auto opened = co_await client.call<wire::FetchResponse>(request({{0, 0}}, 0, 0), 12);
    const std::int32_t id = opened->session_id;
    const auto error = [&](std::int32_t session, std::int32_t epoch) -> io::Task<std::int16_t> {
      const auto answer =
          co_await client.call<wire::FetchResponse>(request({}, session, epoch), 12);
      EXPECT_TRUE(answer->responses.empty());
      co_return answer->error_code;
    };
    EXPECT_EQ(co_await error(id, 2), 71);
    EXPECT_EQ(co_await error(id, 1), 0);
    EXPECT_EQ(co_await error(id, 1), 71) << "sent again, or by somebody else";
    EXPECT_EQ(co_await error(id + 2, 1), 70);
    EXPECT_EQ(co_await error(-5, 1), 70);
    EXPECT_EQ(co_await error(0, 7), 70);
    // Epoch 0 with an id ends that session and opens another; −1 only ends.
    const auto renewed = co_await client.call<wire::FetchResponse>(request({{0, 0}}, id, 0), 12);
    EXPECT_NE(renewed->session_id, id);
    EXPECT_EQ(co_await error(id, 2), 70);
    const std::int32_t next = renewed->session_id;
    EXPECT_EQ((co_await client.call<wire::FetchResponse>(request({}, next, -1), 12))->session_id, 0);
    EXPECT_EQ(co_await error(next, 1), 70);
  });
}

TEST_F(FetchTest, an_error_in_a_session_is_told_until_it_is_gone) {
  with_client([](RawClient& client) -> io::Task<void> {
    auto answer = co_await client.call<wire::FetchResponse>(request({{0, 3}}, 0, 0), 12);
    EXPECT_EQ(told(answer), "0:!1");
    const std::int32_t id = answer->session_id;
    answer = co_await client.call<wire::FetchResponse>(request({}, id, 1), 12);
    EXPECT_EQ(told(answer), "0:!1");
    answer = co_await client.call<wire::FetchResponse>(request({{0, 0}}, id, 2), 12);
    EXPECT_EQ(told(answer), "0:") << "the client must hear that it is well again";
    answer = co_await client.call<wire::FetchResponse>(request({}, id, 3), 12);
    EXPECT_EQ(told(answer), "");
  });
}

TEST_F(FetchTest, list_offsets_tells_what_its_version_lacks_and_what_is_named_twice) {
  with_client([](RawClient& client) -> io::Task<void> {
    using Asked = std::vector<std::pair<std::int32_t, std::int64_t>>;  // partition, timestamp
    const auto list = [&](Asked asked, std::int16_t version) -> io::Task<std::string> {
      wire::ListOffsetsRequest in;
      for (const auto& [index, timestamp] : asked) {
        // Each in a list of its own: a topic that is named twice is one topic, too.
        auto& topic = in.topics.emplace_back();
        topic.name = "t";
        auto& partition = topic.partitions.emplace_back();
        partition.partition_index = index;
        partition.timestamp = timestamp;
      }
      const auto answer = co_await client.call<wire::ListOffsetsResponse>(in, version);
      std::string all;
      for (const auto& topic : answer->topics) {
        const auto& each = topic.partitions.at(0);
        all += std::to_string(each.partition_index) + ":" + std::to_string(each.error_code) + "/" +
               std::to_string(each.offset) + " ";
      }
      co_return all;
    };
    for (std::int16_t version = 1; version <= 7; ++version) {
      const std::string greatest = version < 7 ? "0:35/-1 " : "0:0/-1 ";
      EXPECT_EQ(co_await list({{0, -3}}, version), greatest) << version;
      for (const std::int64_t place : {-4, -5, -6, -99}) {
        EXPECT_EQ(co_await list({{0, place}}, version), "0:35/-1 ") << version << " " << place;
      }
      EXPECT_EQ(co_await list({{0, -1}, {1, -4}, {2, -2}}, version), "0:0/0 1:35/-1 2:0/0 ");
      EXPECT_EQ(co_await list({{1, -1}, {0, -1}, {1, -2}}, version), "1:42/-1 0:0/0 1:42/-1 ");
    }
  });
}

TEST_F(FetchTest, list_offsets_and_epochs) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ((co_await send(client, "t", batch_of({"a", "b", "c"}, {.timestamp = 5'000}))).error_code,
              0);
    const auto list = [&](std::int64_t timestamp, std::int16_t version,
                          std::int32_t epoch = -1) -> io::Task<std::string> {
      wire::ListOffsetsRequest asked;
      asked.replica_id = -1;
      auto& topic = asked.topics.emplace_back();
      topic.name = "t";
      auto& partition = topic.partitions.emplace_back();
      partition.timestamp = timestamp;
      partition.current_leader_epoch = epoch;
      const auto answer = co_await client.call<wire::ListOffsetsResponse>(asked, version);
      const auto& out = answer->topics.at(0).partitions.at(0);
      co_return std::to_string(out.error_code) + "/" + std::to_string(out.offset) + "@" +
          std::to_string(out.timestamp);
    };
    for (std::int16_t version = 1; version <= 7; ++version) {
      EXPECT_EQ(co_await list(-1, version), "0/3@-1");
      EXPECT_EQ(co_await list(-2, version), "0/0@-1");
      EXPECT_EQ(co_await list(5'001, version), "0/1@5001");
      EXPECT_EQ(co_await list(6'000, version), "0/-1@-1");
    }
    EXPECT_EQ(co_await list(-3, 7), "0/2@5002");
    EXPECT_EQ(co_await list(-1, 7, 9), "75/-1@-1");
    EXPECT_EQ(co_await list(-1, 7, 0), "74/-1@-1");
    wire::OffsetForLeaderEpochRequest ends;
    auto& topic = ends.topics.emplace_back();
    topic.topic = "t";
    auto& partition = topic.partitions.emplace_back();
    partition.leader_epoch = 1;
    for (std::int16_t version = 2; version <= 4; ++version) {
      const auto answer = co_await client.call<wire::OffsetForLeaderEpochResponse>(ends, version);
      EXPECT_EQ(answer->topics.at(0).partitions.at(0).end_offset, 3);
      EXPECT_EQ(answer->topics.at(0).partitions.at(0).leader_epoch, 1);
    }
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
