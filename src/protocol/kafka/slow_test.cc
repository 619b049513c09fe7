// The slow-operation log: what is slow, whose it is, where the time went; and what is not.
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/join_group.h"
#include "wire/kafka/gen/offset_commit.h"

namespace pyralog::protocol::kafka {
namespace {

using io::sim::DiskFault;
using io::sim::DiskOp;
using testing::batch_of;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using testing::KafkaTest;
using testing::RawClient;

class SlowTest : public KafkaTest {
 protected:
  SlowTest() {
    service_.slow = &slow_;
    options_.log.slow = &slow_;
    options_.log.sync_times = &syncs_;
    options_.groups.initial_rebalance_delay_ms = 3'000;
    start();
    with_client([](RawClient& client) -> io::Task<void> {
      EXPECT_EQ(co_await create(client, "orders", 20), 0);
      // Its segment is made.
      EXPECT_EQ((co_await send(client, "orders", batch_of({"a"}))).error_code, 0);
      wire::FindCoordinatorRequest find;
      find.key = "g";
      EXPECT_EQ((co_await client.call<wire::FindCoordinatorResponse>(find, 0))->error_code, 0);
    });
    sim_.run_for(1s);
    observe::capture_log([this](const std::string& line) { lines_.push_back(line); });
  }
  ~SlowTest() override {
    observe::capture_log({});
    if (broker_ != nullptr) stop();
  }
  void slow_logs() {
    disk().options().slow_by = 2s;
    disk().set_hook([this](DiskOp op, const std::string& path) {
      disk().options().slow = op == DiskOp::kSync && path.ends_with(".log") ? 1 : 0;
      return DiskFault::kNone;
    });
  }
  [[nodiscard]] std::vector<std::string> lines(const std::string& event) const {
    std::vector<std::string> found;
    for (const std::string& line : lines_) {
      if (line.find(" WARN " + event + " ") != std::string::npos) found.push_back(line);
    }
    return found;
  }

  observe::Registry registry_{2};
  observe::SlowLog slow_{registry_, 1s};
  observe::Histogram& syncs_ =
      registry_.histogram("pyralog_log_sync_seconds", "Syncs", observe::Unit::kSeconds);
  std::vector<std::string> lines_;
};

TEST_F(SlowTest, a_slow_sync_is_told_and_whose_request_had_to_wait_for_it) {
  slow_logs();
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ((co_await send(client, "orders", batch_of({"b"}))).error_code, 0);
  });
  ASSERT_EQ(lines("slow.sync").size(), 1u);
  EXPECT_THAT(lines("slow.sync")[0],
              ContainsRegex("what=group_commit partition=orders-0 partitions=1 files=[0-9]+ "
                            "queue_ms=0 ms=200[0-9] limit_ms=1000$"));
  ASSERT_EQ(lines("slow.request").size(), 1u);
  EXPECT_THAT(
      lines("slow.request")[0],
      ContainsRegex("api=Produce client_id=raw client=.*10\\.0\\.0\\.2.* partition=orders-0 "
                    "queue_ms=0 disk_ms=200[0-9] client_wait_ms=0 ms=200[0-9]"));
  EXPECT_THAT(registry_.text(), HasSubstr("pyralog_slow_operations_total{kind=\"sync\"} 1\n"));
  EXPECT_THAT(registry_.text(), HasSubstr("pyralog_slow_operations_total{kind=\"request\"} 1\n"));
  EXPECT_GE(syncs_.snapshot().max(), 2'000'000'000u);
}

TEST_F(SlowTest, a_new_segment_and_a_commit_of_offsets_tell_too) {
  slow_logs();
  with_client([](RawClient& client) -> io::Task<void> {
    wire::OffsetCommitRequest request;
    request.group_id = "g";
    auto& to = request.topics.emplace_back();
    to.name = "orders";
    to.partitions.emplace_back();
    const auto answer = co_await client.call<wire::OffsetCommitResponse>(request, 5);
    EXPECT_EQ(answer->topics.at(0).partitions.at(0).error_code, 0);
  });
  EXPECT_THAT(lines("slow.sync").at(0),
              ContainsRegex("what=new_segment partition=__consumer_offsets-[01] ms="));
  EXPECT_THAT(lines("slow.request").at(0), ContainsRegex("api=OffsetCommit .* disk_ms=[2-9]"));
}

TEST_F(SlowTest, what_a_client_asks_to_wait_for_is_not_slow) {
  with_client([](RawClient& client) -> io::Task<void> {
    wire::FetchRequest fetch;
    fetch.max_wait_ms = 5'000;
    fetch.min_bytes = 1;
    fetch.max_bytes = 1 << 20;
    auto& topic = fetch.topics.emplace_back();
    topic.topic = "orders";
    auto& partition = topic.partitions.emplace_back();
    partition.fetch_offset = 1;
    partition.partition_max_bytes = 1 << 20;
    const Instant began = io::Shard::current().now();
    EXPECT_EQ((co_await client.call<wire::FetchResponse>(fetch, 11))->error_code, 0);
    EXPECT_GE(io::Shard::current().now() - began, 5s);
    wire::JoinGroupRequest join;
    join.group_id = "g";
    join.session_timeout_ms = join.rebalance_timeout_ms = 10'000;
    join.protocol_type = "consumer";
    join.protocols.push_back({"range", Bytes{1, 2}});
    EXPECT_EQ((co_await client.call<wire::JoinGroupResponse>(join, 3))->error_code, 0);
    EXPECT_GE(io::Shard::current().now() - began, 8s);
  });
  EXPECT_TRUE(lines("slow.request").empty()) << lines("slow.request").front();
  EXPECT_THAT(registry_.text(), HasSubstr("pyralog_slow_operations_total{kind=\"request\"} 0\n"));
}

TEST_F(SlowTest, a_sick_disk_does_not_fill_the_log) {
  slow_logs();
  constexpr int kRequests = 40;
  with_client([](RawClient& client) -> io::Task<void> {
    const std::vector<Bytes> one = {batch_of({"c"})};
    for (int i = 0; i < kRequests; ++i) co_await client.send(produce("orders", one), 9);
    for (int i = 0; i < kRequests; ++i) {
      (void)co_await client.receive<wire::ProduceResponse>(9);
    }
  });
  EXPECT_EQ(lines("slow.request").size(), observe::LineBound::kLines);
  EXPECT_THAT(registry_.text(), HasSubstr("pyralog_slow_operations_total{kind=\"request\"} 40\n"));
}

}  // namespace
}  // namespace pyralog::protocol::kafka
