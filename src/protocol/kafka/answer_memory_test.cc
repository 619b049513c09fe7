// What answers may take: each by itself, and all of a shard together.
#include "protocol/kafka/answer_memory.h"

#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/describe_configs.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/metadata.h"
#include "wire/kafka/gen/offset_fetch.h"

namespace pyralog::protocol::kafka {
namespace {

constexpr std::size_t kMiB = 1u << 20;
constexpr std::int16_t kMetadata = 3;

/// Outlives the machines that use it.
struct Answers {
  AnswerMemory memory_{10 * kMiB};
  std::size_t most_ = 0;
  int done_ = 0;
};

class AnswerMemoryTest : protected Answers, public testing::KafkaTest {
 protected:
  AnswerMemoryTest() : KafkaTest(1) {}
  /// Makes an answer at once, which its client takes after `taking`.
  io::Task<void> serve(std::size_t bytes, Duration taking) {
    auto hold = co_await memory_.begin(kMetadata);
    memory_.settle(hold, kMetadata, bytes);
    most_ = std::max(most_, memory_.used());
    co_await io::sleep_for(taking);
    ++done_;
  }
  void start_answer(std::size_t bytes, Duration taking = 1s) {
    node().spawn([=, this] { return serve(bytes, taking); });
  }
};

TEST_F(AnswerMemoryTest, large_answers_wait_for_those_that_are_not_taken_yet) {
  for (int i = 0; i < 50; ++i) start_answer(3 * kMiB);
  sim_.run_for(500ms);
  EXPECT_EQ(memory_.used(), 9 * kMiB);
  sim_.run_for(60s);
  EXPECT_EQ(done_, 50);
  EXPECT_EQ(most_, 9 * kMiB);
  EXPECT_EQ(memory_.used(), 0u);
}

TEST_F(AnswerMemoryTest, one_answer_is_made_however_large) {
  for (int i = 0; i < 3; ++i) start_answer(70 * kMiB);
  sim_.run_for(60s);
  EXPECT_EQ(done_, 3);
  EXPECT_EQ(most_, 70 * kMiB);
}

TEST_F(AnswerMemoryTest, nobody_waits_for_ever) {
  for (int i = 0; i < 10; ++i) start_answer(9 * kMiB, 1h);
  sim_.run_for(12s);
  EXPECT_EQ(memory_.used(), 27 * kMiB) << "one more every five seconds";
  sim_.run_for(60s);
  EXPECT_EQ(memory_.used(), 90 * kMiB);
}

TEST_F(AnswerMemoryTest, small_answers_do_not_wait) {
  start_answer(9 * kMiB, 1h);
  sim_.run_for(1s);
  const bool at_once = node().run([this]() -> io::Task<bool> {
    auto hold = co_await memory_.begin(18);
    memory_.settle(hold, 18, AnswerMemory::kSmall);
    co_return hold.bytes() == 0;
  });
  EXPECT_TRUE(at_once);
  EXPECT_EQ(memory_.used(), 9 * kMiB);
}

TEST_F(AnswerMemoryTest, a_kind_whose_answers_have_become_small_no_longer_waits) {
  start_answer(5 * kMiB, 1ms);
  sim_.run_for(1s);
  for (int i = 0; i < 60; ++i) start_answer(1000, 1ms);
  sim_.run_for(10s);
  EXPECT_EQ(done_, 61);
  start_answer(9 * kMiB, 1h);
  sim_.run_for(1s);
  EXPECT_EQ(memory_.used(), 9 * kMiB);
}

/// A node that builds little for one request.
class AnswerRoomTest : public testing::KafkaTest {
 protected:
  AnswerRoomTest() { service_.max_answer_bytes = 1 * kMiB; }
  /// Whether the server ends the connection over it.
  template <typename Response, typename Request>
  bool is_refused(const Request& request, std::int16_t version) {
    bool refused = false;
    with_client([&](testing::RawClient& client) -> io::Task<void> {
      co_await client.send(request, version);
      refused = co_await client.closed(20s);
    });
    return refused;
  }
};

TEST_F(AnswerRoomTest, an_id_that_is_named_often_is_answered_once) {
  start();
  with_client([](testing::RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "wide", 100), 0);
    wire::MetadataRequest by_name;
    by_name.topics.emplace().emplace_back().name = "wide";
    const auto known = co_await client.call<wire::MetadataResponse>(by_name, 12);
    wire::MetadataRequest request;
    request.topics.emplace();
    for (int i = 0; i < 5'000; ++i) {
      auto& topic = request.topics->emplace_back();
      topic.topic_id = known->topics.at(0).topic_id;
    }
    const auto answer = co_await client.call<wire::MetadataResponse>(request, 12);
    EXPECT_EQ(answer->topics.size(), 1u);
    EXPECT_EQ(answer->topics.at(0).partitions.size(), 100u);
  });
}

TEST_F(AnswerRoomTest, settings_told_again_and_again_end_the_connection) {
  start();
  wire::DescribeConfigsRequest request;
  request.include_documentation = true;
  request.include_synonyms = true;
  const auto ask_times = [&](int times) {
    request.resources.clear();
    for (int i = 0; i < times; ++i) {
      auto& broker = request.resources.emplace_back();
      broker.resource_type = 4;
    }
  };
  ask_times(20'000);
  EXPECT_TRUE((is_refused<wire::DescribeConfigsResponse>(request, 4)));
  ask_times(2);
  with_client([&](testing::RawClient& client) -> io::Task<void> {
    const auto answer = co_await client.call<wire::DescribeConfigsResponse>(request, 4);
    EXPECT_EQ(answer->results.size(), 2u);
  });
}

TEST_F(AnswerRoomTest, a_long_name_is_not_copied_for_each_of_many_partitions) {
  start();
  const std::string name(30'000, 'n');
  wire::OffsetFetchRequest offsets;
  offsets.group_id = "g";
  auto& topic = offsets.topics.emplace().emplace_back();
  topic.name = name;
  topic.partition_indexes.assign(1'000, 0);
  EXPECT_TRUE((is_refused<wire::OffsetFetchResponse>(offsets, 5)));
  wire::FetchRequest fetch;
  fetch.max_bytes = 1000;
  auto& from = fetch.topics.emplace_back();
  from.topic = name;
  for (int i = 0; i < 1'000; ++i) from.partitions.emplace_back().partition = i;
  EXPECT_TRUE((is_refused<wire::FetchResponse>(fetch, 11)));
  wire::ProduceRequest produce;
  produce.acks = -1;
  auto& to = produce.topic_data.emplace_back();
  to.name = name;
  for (int i = 0; i < 1'000; ++i) to.partition_data.emplace_back().index = i;
  EXPECT_TRUE((is_refused<wire::ProduceResponse>(produce, 8)));
  wire::FindCoordinatorRequest find;
  find.coordinator_keys.assign(20'000, "k");
  EXPECT_TRUE((is_refused<wire::FindCoordinatorResponse>(find, 4)));
}

/// A topic in memory whose records are read by clients that do not take them.
class SlowReaders : public testing::KafkaTest {
 protected:
  SlowReaders() : KafkaTest(1) { listener_.max_answer_memory = 16 * kMiB; }
};

TEST_F(SlowReaders, hold_no_more_than_the_answers_memory_of_what_has_gone) {
  start();
  with_client([](testing::RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "m", 1, {{"durability", "memory"}}), 0);
    for (int i = 0; i < 40; ++i) {
      const auto sent = co_await send(client, "m", testing::batch_of({std::string(90'000, 'v')}));
      EXPECT_EQ(sent.error_code, 0);
    }
    wire::FetchRequest fetch;
    fetch.max_wait_ms = 500;
    fetch.min_bytes = 1;
    fetch.max_bytes = 50 << 20;
    auto& topic = fetch.topics.emplace_back();
    topic.topic = "m";
    auto& partition = topic.partitions.emplace_back();
    partition.partition_max_bytes = 50 << 20;
    // Each takes a quarter of what room there is, and none of it is read.
    std::vector<std::unique_ptr<testing::RawClient>> slow;
    for (int i = 0; i < 16; ++i) {
      slow.push_back(co_await connect());
      co_await slow.back()->send(fetch, 11);
      co_await io::sleep_for(10ms);
    }
    co_await io::sleep_for(5s);
    std::size_t bytes = 0;
    for (auto& each : slow) {
      const auto answer = co_await each->receive<wire::FetchResponse>(11);
      EXPECT_TRUE(answer);
      if (answer) bytes += answer->frame.size();
    }
    EXPECT_LE(bytes, 17 * kMiB);
    EXPECT_GE(bytes, 8 * kMiB);
    // Once these are taken there is room again.
    const auto later = co_await slow.front()->call<wire::FetchResponse>(fetch, 11);
    EXPECT_GT(later.frame.size(), 3 * kMiB);
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
