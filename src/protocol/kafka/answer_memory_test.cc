// What answers may take: each by itself, and all of a shard together.
#include "protocol/kafka/answer_memory.h"

#include <functional>
#include <list>

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
    AnswerMemory::Holder client(memory_);
    auto hold = co_await memory_.begin(client, kMetadata);
    memory_.settle_anyway(client, hold, kMetadata, bytes);
    most_ = std::max(most_, memory_.used());
    co_await io::sleep_for(taking);
    ++done_;
  }
  void start_answer(std::size_t bytes, Duration taking = 1s) {
    node().spawn([=, this] { return serve(bytes, taking); });
  }
  /// Takes `bytes`, or waits for them, and keeps them until the test lets go.
  struct Taker {
    explicit Taker(AnswerMemory& memory) : client(memory) {}
    AnswerMemory::Holder client;
    AnswerMemory::Hold hold;
    bool done = false;
  };
  io::Task<void> keep(Taker& taker, std::size_t bytes) {
    taker.hold = co_await memory_.take(taker.client, bytes, Instant::never());
    taker.done = true;
  }
  void start_taking(Taker& taker, std::size_t bytes) {
    node().spawn([=, this, &taker] { return keep(taker, bytes); });
    sim_.run_for(10ms);
  }
  /// On the node's shard.
  void now(std::function<void()> what) {
    node().run([&]() -> io::Task<bool> {
      what();
      co_return true;
    });
    sim_.run_for(10ms);
  }
};

TEST_F(AnswerMemoryTest, large_answers_wait_for_those_that_are_not_taken_yet) {
  for (int i = 0; i < 50; ++i) start_answer(3 * kMiB);
  sim_.run_for(500ms);
  EXPECT_EQ(memory_.used(), 6 * kMiB);
  sim_.run_for(60s);
  EXPECT_EQ(done_, 50);
  EXPECT_EQ(most_, 6 * kMiB);
  EXPECT_EQ(memory_.used(), 0u);
}

TEST_F(AnswerMemoryTest, one_answer_is_made_however_large) {
  for (int i = 0; i < 3; ++i) start_answer(70 * kMiB);
  sim_.run_for(60s);
  EXPECT_EQ(done_, 3);
  EXPECT_EQ(most_, 70 * kMiB);
}

TEST_F(AnswerMemoryTest, nobody_gets_more_than_there_is_however_long_others_take) {
  for (int i = 0; i < 5; ++i) start_answer(6 * kMiB, 1h);
  sim_.run_for(59min);
  EXPECT_EQ(memory_.used(), 6 * kMiB);
  sim_.run_for(5h);
  EXPECT_EQ(done_, 5);
  EXPECT_EQ(most_, 6 * kMiB);
}

TEST_F(AnswerMemoryTest, small_answers_do_not_wait) {
  start_answer(9 * kMiB, 1h);
  sim_.run_for(1s);
  const bool at_once = node().run([this]() -> io::Task<bool> {
    AnswerMemory::Holder client(memory_);
    AnswerMemory::Hold hold;
    memory_.settle_anyway(client, hold, 18, AnswerMemory::kSmall);
    hold = co_await memory_.begin(client, 18);
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

TEST_F(AnswerMemoryTest, an_answer_larger_than_expected_waits_before_it_is_made_again) {
  start_answer(6 * kMiB, 10s);
  sim_.run_for(1s);
  bool fitted = true;
  node().spawn([&, this]() -> io::Task<void> {
    AnswerMemory::Holder client(memory_);
    constexpr std::int16_t kOther = 32;
    auto hold = co_await memory_.begin(client, kOther);
    fitted = memory_.settle(client, hold, kOther, 5 * kMiB);
    hold.release();
    hold = co_await memory_.begin(client, kOther, 5 * kMiB);
    EXPECT_TRUE(memory_.settle(client, hold, kOther, 5 * kMiB));
    ++done_;
  });
  sim_.run_for(5s);
  EXPECT_FALSE(fitted);
  EXPECT_EQ(memory_.used(), 6 * kMiB);
  sim_.run_for(10s);
  EXPECT_EQ(done_, 2);
  EXPECT_EQ(memory_.used(), 0u);
}

TEST_F(AnswerMemoryTest, a_large_answer_that_waits_holds_up_no_small_one_and_gets_its_turn) {
  std::list<Taker> first, second;
  Taker large(memory_);
  constexpr std::size_t kLittle = 150'000;
  for (int i = 0; i < 60; ++i) start_taking(first.emplace_back(memory_), kLittle);
  start_taking(large, 5 * kMiB);
  EXPECT_FALSE(large.done);
  // What is given back beyond the reserve is kept for the large one; in the reserve small ones go on.
  for (int i = 0; i < 50; ++i) now([&] { first.pop_front(); });
  EXPECT_TRUE(large.done);
  start_taking(second.emplace_back(memory_), kLittle);
  EXPECT_TRUE(second.back().done);
  Taker larger(memory_);
  start_taking(larger, 7 * kMiB);
  EXPECT_FALSE(larger.done);
  start_taking(second.emplace_back(memory_), kLittle);
  EXPECT_TRUE(second.back().done) << "small ones do not wait behind large ones";
  now([&] {
    large.hold.release();
    first.clear();
    second.clear();
  });
  EXPECT_TRUE(larger.done);
  now([&] { larger.hold.release(); });
  EXPECT_EQ(memory_.used(), 0u);
}

TEST_F(AnswerMemoryTest, who_waits_is_served_in_order_and_who_has_left_gives_up_its_place) {
  Taker first(memory_), second(memory_), third(memory_), fourth(memory_);
  start_taking(first, 7 * kMiB);
  start_taking(second, 6 * kMiB);
  start_taking(third, 2 * kMiB);
  start_taking(fourth, 6 * kMiB);
  EXPECT_TRUE(first.done);
  now([&] { first.hold.resize(5 * kMiB); });
  EXPECT_FALSE(third.done) << "it came after the second";
  now([&] { second.client.leave(); });
  EXPECT_TRUE(second.done);
  EXPECT_EQ(second.hold.bytes(), 0u);
  EXPECT_TRUE(third.done);
  EXPECT_FALSE(fourth.done);
  now([&] { first.hold.release(); });
  EXPECT_FALSE(fourth.done);
  now([&] { third.hold.release(); });
  EXPECT_TRUE(fourth.done);
  now([&] { fourth.hold.release(); });
}

TEST_F(AnswerMemoryTest, who_holds_its_part_gets_no_more_of_what_is_free) {
  std::list<Taker> others;
  Taker one(memory_);
  for (int i = 0; i < 9; ++i) start_taking(others.emplace_back(memory_), 100'000);
  now([&, this] {
    one.hold = memory_.take_some(one.client, 50 * kMiB);
    EXPECT_EQ(one.hold.bytes(), kMiB) << "a tenth";
    EXPECT_EQ(memory_.take_some(one.client, 50 * kMiB).bytes(), 0u);
  });
  Taker* more = &one;
  AnswerMemory::Hold another;
  bool got = false;
  node().spawn([&, more, this]() -> io::Task<void> {
    another = co_await memory_.take(more->client, 200'000, Instant::never());
    got = true;
  });
  sim_.run_for(10s);
  EXPECT_FALSE(got) << "there is room, but not for more of its answers";
  now([&] { one.hold.release(); });
  EXPECT_TRUE(got);
  now([&] {
    another.release();
    others.clear();
  });
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
  static wire::FetchRequest all_of(std::string name) {
    wire::FetchRequest fetch;
    fetch.max_wait_ms = 500;
    fetch.min_bytes = 1;
    fetch.max_bytes = 50 << 20;
    auto& topic = fetch.topics.emplace_back();
    topic.topic = std::move(name);
    auto& partition = topic.partitions.emplace_back();
    partition.partition_max_bytes = 50 << 20;
    return fetch;
  }
  static io::Task<void> fill(testing::RawClient& client) {
    EXPECT_EQ(co_await create(client, "m", 1, {{"durability", "memory"}}), 0);
    for (int i = 0; i < 40; ++i) {
      const auto sent = co_await send(client, "m", testing::batch_of({std::string(90'000, 'v')}));
      EXPECT_EQ(sent.error_code, 0);
    }
  }
  /// So many clients that ask for `fetch`, one after the other, and read nothing.
  static io::Task<std::vector<std::unique_ptr<testing::RawClient>>> begin_slow(
      int count, wire::FetchRequest fetch, Duration pause = Duration(0)) {
    std::vector<std::unique_ptr<testing::RawClient>> slow;
    for (int i = 0; i < count; ++i) {
      slow.push_back(co_await connect());
      co_await slow.back()->send(fetch, 11);
      if (pause > Duration(0)) co_await io::sleep_for(pause);
    }
    co_return slow;
  }
};

TEST_F(SlowReaders, hold_no_more_than_the_answers_memory_of_what_has_gone) {
  start();
  with_client([](testing::RawClient& client) -> io::Task<void> {
    co_await fill(client);
    const wire::FetchRequest fetch = all_of("m");
    // Each takes a quarter of what room there is, and none of it is read.
    const auto slow = co_await begin_slow(16, fetch, 10ms);
    co_await io::sleep_for(5s);
    std::size_t bytes = 0;
    for (const auto& each : slow) {
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

TEST_F(SlowReaders, do_not_starve_a_quick_one) {
  start();
  with_client([](testing::RawClient& client) -> io::Task<void> {
    co_await fill(client);
    const wire::FetchRequest fetch = all_of("m");
    const auto slow = co_await begin_slow(20, fetch);
    co_await io::sleep_for(1s);
    for (int i = 0; i < 50; ++i) {
      const Instant began = io::Shard::current().now();
      const auto answer = co_await client.call<wire::FetchResponse>(fetch, 11);
      EXPECT_GE(answer.frame.size(), 90'000u);
      EXPECT_LT(io::Shard::current().now() - began, Duration(200ms));
    }
  });
}

TEST_F(SlowReaders, that_leave_give_up_their_places) {
  listener_.max_answer_memory = 1 * kMiB;
  start();
  with_client([](testing::RawClient& client) -> io::Task<void> {
    co_await fill(client);
    const wire::FetchRequest fetch = all_of("m");
    // Whoever comes first holds what there is, the others wait for it.
    auto slow = co_await begin_slow(30, fetch);
    co_await io::sleep_for(100ms);
    slow.clear();
    co_await io::sleep_for(100ms);
    const Instant began = io::Shard::current().now();
    const auto answer = co_await client.call<wire::FetchResponse>(fetch, 11);
    EXPECT_GE(answer.frame.size(), 90'000u);
    EXPECT_LT(io::Shard::current().now() - began, Duration(100ms));
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
