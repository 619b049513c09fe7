#include "client/producer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/hash.h"
#include "client/testing.h"

namespace pyralog::client {
namespace {

using testing::Fault;
using wire::kafka::ApiKey;

class ProducerTest : public testing::ClientTest {
 protected:
  explicit ProducerTest(std::uint64_t seed = 1) : ClientTest(seed) {}
  static ProducerRecord record(std::string value, std::optional<std::int32_t> partition = 0) {
    ProducerRecord made;
    made.topic = "t";
    made.partition = partition;
    made.value = Bytes(value.begin(), value.end());
    return made;
  }
  /// Sends 0 … count−1 to partition 0 in small batches; returns the offsets that were told.
  std::vector<std::int64_t> send_numbers(int count, ProducerOptions options) {
    std::vector<std::int64_t> offsets;
    with_cluster([&](Cluster& cluster) -> io::Task<void> {
      Producer producer(cluster, options);
      for (int i = 0; i < count; ++i) {
        const auto sent =
            co_await producer.send(record(std::to_string(i)), [&](const Result<Delivery>& result) {
              offsets.push_back(result ? result->offset : -2);
              if (!result) last_error_ = result.error().message;
            });
        EXPECT_TRUE(sent);
      }
      (void)co_await producer.flush();
      co_await producer.close();
      EXPECT_EQ(producer.buffered_bytes(), 0u);
    });
    return offsets;
  }
  std::string last_error_;
};

ProducerOptions small_batches() {
  ProducerOptions options;
  options.batch_bytes = 300;
  options.linger = 1ms;
  return options;
}

TEST_F(ProducerTest, delivers_in_order_and_tells_offsets) {
  const auto offsets = send_numbers(100, small_batches());
  ASSERT_EQ(offsets.size(), 100u);
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ(offsets[i], static_cast<std::int64_t>(i));
  EXPECT_EQ(broker_.values("t", 0), numbers(100));
}

TEST_F(ProducerTest, swallowed_responses_and_cut_connections_repeat_under_the_same_sequence) {
  int produced = 0;
  broker_.fault = [&](const wire::kafka::RequestFrame& request) {
    if (request.api->key != ApiKey::kProduce) return Fault{};
    ++produced;
    if (produced % 5 == 2) return Fault{Fault::Kind::kSwallow};
    if (produced % 7 == 3) return Fault{Fault::Kind::kCutBefore};
    return Fault{};
  };
  const auto offsets = send_numbers(200, small_batches());
  EXPECT_EQ(broker_.values("t", 0), numbers(200));
  EXPECT_EQ(offsets.size(), 200u);
  EXPECT_EQ(std::ranges::count(offsets, -2), 0) << last_error_;
}

TEST_F(ProducerTest, an_answer_that_never_comes_is_asked_for_again) {
  int produced = 0;
  broker_.fault = [&](const wire::kafka::RequestFrame& request) {
    if (request.api->key == ApiKey::kProduce && ++produced == 2)
      return Fault{Fault::Kind::kSilence};
    return Fault{};
  };
  send_numbers(50, small_batches());
  EXPECT_EQ(broker_.values("t", 0), numbers(50));
}

TEST_F(ProducerTest, retriable_errors_are_retried_in_order) {
  int produced = 0;
  broker_.fault = [&](const wire::kafka::RequestFrame& request) {
    if (request.api->key != ApiKey::kProduce) return Fault{};
    ++produced;
    if (produced == 1 || produced == 4) return Fault{Fault::Kind::kError, 6};
    if (produced == 9) return Fault{Fault::Kind::kError, 19};
    return Fault{};
  };
  const auto offsets = send_numbers(100, small_batches());
  EXPECT_EQ(broker_.values("t", 0), numbers(100));
  EXPECT_EQ(std::ranges::count(offsets, -2), 0) << last_error_;
}

TEST_F(ProducerTest, asks_another_server_when_one_names_a_leader_that_does_not_lead) {
  testing::FakeBroker other("10.0.0.3", 9092);
  other.add_topic("t", 3);
  io::sim::Node& third = sim_.add_node();
  third.spawn([&other]() -> io::Task<void> { co_await other.serve(); });
  broker_.fault = [](const wire::kafka::RequestFrame& request) {
    return request.api->key == ApiKey::kProduce ? Fault{Fault::Kind::kError, 6} : Fault{};
  };
  std::int64_t offset = -1;
  EXPECT_TRUE(sim_.node(1).run([&]() -> io::Task<bool> {
    ClusterOptions options;
    options.bootstrap = {{"10.0.0.1", 9092}, {"10.0.0.3", 9092}};
    Cluster cluster(options);
    ProducerOptions sends;
    sends.delivery_timeout = 10s;
    Producer producer(cluster, sends);
    const auto sent = co_await producer.send(record("0"), [&](const Result<Delivery>& result) {
      offset = result ? result->offset : -2;
    });
    (void)co_await producer.flush();
    co_await producer.close();
    co_await cluster.close();
    co_return sent.has_value();
  }));
  EXPECT_EQ(offset, 0);
  EXPECT_EQ(other.values("t", 0), numbers(1));
  EXPECT_TRUE(third.run([&]() -> io::Task<bool> {
    other.stop();
    co_return true;
  }));
  sim_.run_for(1s);
}

TEST_F(ProducerTest, a_refused_batch_fails_alone_and_the_rest_goes_on_in_order) {
  int produced = 0;
  broker_.fault = [&](const wire::kafka::RequestFrame& request) {
    if (request.api->key == ApiKey::kProduce && ++produced == 2)
      return Fault{Fault::Kind::kError, 10};
    return Fault{};
  };
  const auto offsets = send_numbers(60, small_batches());
  ASSERT_EQ(offsets.size(), 60u);
  const auto failed = std::ranges::count(offsets, -2);
  EXPECT_GT(failed, 0);
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < 60; ++i) {
    if (offsets[i] != -2) kept.push_back(std::to_string(i));
  }
  EXPECT_EQ(broker_.values("t", 0), kept);
  EXPECT_THAT(last_error_, ::testing::HasSubstr("max.message.bytes"));
}

TEST_F(ProducerTest, what_is_not_acknowledged_in_time_is_given_up) {
  broker_.fault = [](const wire::kafka::RequestFrame& request) {
    return request.api->key == ApiKey::kProduce ? Fault{Fault::Kind::kError, 19} : Fault{};
  };
  auto options = small_batches();
  options.delivery_timeout = 10s;
  const auto offsets = send_numbers(10, options);
  EXPECT_EQ(std::ranges::count(offsets, -2), 10);
  EXPECT_THAT(last_error_, ::testing::HasSubstr("too few replicas"));
}

TEST_F(ProducerTest, keys_choose_the_partition_as_other_clients_do) {
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Producer producer(cluster, {});
    for (const char* key : {"a", "b", "c", "d", "e", "f"}) {
      auto made = record(key, std::nullopt);
      made.key = Bytes{static_cast<std::uint8_t>(*key)};
      EXPECT_TRUE(co_await producer.send(std::move(made)));
    }
    EXPECT_TRUE(co_await producer.flush());
    co_await producer.close();
  });
  for (const char* key : {"a", "b", "c", "d", "e", "f"}) {
    const auto at = static_cast<std::int32_t>(kafka_partition(as_bytes(key), 3));
    EXPECT_THAT(broker_.values("t", at), ::testing::Contains(key));
  }
}

TEST_F(ProducerTest, acks_zero_waits_for_nothing_and_stores) {
  auto options = small_batches();
  options.acks = Acks::kNone;
  const auto offsets = send_numbers(20, options);
  EXPECT_EQ(std::ranges::count(offsets, -1), 20);
  sim_.run_for(1s);
  EXPECT_EQ(broker_.values("t", 0).size(), 20u);
}

TEST_F(ProducerTest, an_older_server_is_spoken_to_in_its_versions) {
  broker_.version_limits = {{18, 0}, {0, 3}, {3, 1}, {22, 0}};
  send_numbers(5, small_batches());
  EXPECT_EQ(broker_.values("t", 0), numbers(5));
}

TEST_F(ProducerTest, an_unreachable_server_is_an_error_with_its_name) {
  const auto outcome = sim_.node(1).run([&]() -> io::Task<std::string> {
    ClusterOptions options;
    options.bootstrap = {{"10.0.0.1", 1}};
    Cluster cluster(options);
    const auto topic = co_await cluster.topic("t", false, io::Shard::current().now() + 3s);
    co_await cluster.close();
    co_return topic ? "found" : topic.error().message;
  });
  EXPECT_THAT(outcome, ::testing::HasSubstr("10.0.0.1"));
}

class ProducerFaults : public ProducerTest, public ::testing::WithParamInterface<int> {
 protected:
  ProducerFaults() : ProducerTest(static_cast<std::uint64_t>(GetParam())) {}
};

TEST_P(ProducerFaults, exactly_n_records_in_order_whatever_the_network_does) {
  sim_.net().options().reset = 0.02;
  broker_.fault = [&](const wire::kafka::RequestFrame& request) {
    if (request.api->key != ApiKey::kProduce) return Fault{};
    switch (sim_.rng().below(12)) {
      case 0:
        return Fault{Fault::Kind::kSwallow};
      case 1:
        return Fault{Fault::Kind::kCutBefore};
      case 2:
        return Fault{Fault::Kind::kError, 6};
      case 3:
        return Fault{Fault::Kind::kError, 7};
      default:
        return Fault{};
    }
  };
  auto options = small_batches();
  options.delivery_timeout = 600s;
  const auto offsets = send_numbers(150, options);
  EXPECT_EQ(std::ranges::count(offsets, -2), 0) << last_error_;
  EXPECT_EQ(broker_.values("t", 0), numbers(150));
}

INSTANTIATE_TEST_SUITE_P(Seeds, ProducerFaults, ::testing::Range(1, 41));

}  // namespace
}  // namespace pyralog::client
