// Ids and counters while servers fail: gaps, never duplicates.
#include "client/ids.h"

#include <gmock/gmock.h>

#include <set>

#include "client/testing.h"

namespace pyralog::client {
namespace {

using testing::Fault;
using ::testing::HasSubstr;
using wire::kafka::ApiKey;

class IdsTest : public testing::ClientTest {
 protected:
  /// Every `nth` request for ids or values meets with `fault`.
  void often(Fault fault, int nth) {
    broker_.fault = [fault, nth, asked = 0](const wire::kafka::RequestFrame& request) mutable {
      const bool meant =
          request.api->key == ApiKey::kNextIds || request.api->key == ApiKey::kNextCounter;
      return meant && ++asked % nth == 0 ? fault : Fault{};
    };
  }
  /// Takes `calls` times seven ids and three values; how many came, none of them twice.
  void take(int calls) {
    with_cluster([&](Cluster& cluster) -> io::Task<void> {
      Ids ids(cluster);
      for (int i = 0; i < calls; ++i) {
        const auto got = co_await ids.next_ids(7, in(30s));
        EXPECT_TRUE(got) << got.error().message;
        for (std::uint64_t k = 0; got && k < got->size(); ++k)
          EXPECT_TRUE(ids_.insert((*got)[k].value).second);
        const auto first = co_await ids.next_counter("c", 3, i % 2 == 0, in(30s));
        EXPECT_TRUE(first) << first.error().message;
        for (std::int64_t v = first.value_or(0); first && v < *first + 3; ++v)
          EXPECT_TRUE(values_.insert(v).second) << v;
      }
    });
    EXPECT_EQ(ids_.size(), static_cast<std::size_t>(calls) * 7);
    EXPECT_EQ(values_.size(), static_cast<std::size_t>(calls) * 3);
  }
  std::set<std::uint64_t> ids_;
  std::set<std::int64_t> values_;
};

TEST_F(IdsTest, come_from_the_answer_over_the_end_of_a_millisecond) {
  broker_.next_tick = (std::uint64_t{1'000} << 13) + 8'190;
  take(2);
  EXPECT_EQ(*ids_.begin(), std::uint64_t{1'000} << 23 | 7u << 13 | 8'190u);
  EXPECT_EQ(*ids_.rbegin() >> 23, 1'001u);
}

TEST_F(IdsTest, pharaoh_failover_an_answer_that_is_lost_is_given_to_nobody_else) {
  for (const auto kind : {Fault::Kind::kSwallow, Fault::Kind::kSilence, Fault::Kind::kCutBefore}) {
    ids_.clear();
    values_.clear();
    often({kind, 0}, 3);
    take(20);
  }
}

TEST_F(IdsTest, pharaoh_failover_silence_costs_no_more_than_the_patience) {
  often({Fault::Kind::kSilence, 0}, 2);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Ids ids(cluster);
    EXPECT_TRUE(co_await ids.next_ids(1, in(30s)));
    const Instant began = io::Shard::current().now();
    EXPECT_TRUE(co_await ids.next_ids(1, in(30s)));
    EXPECT_GE(io::Shard::current().now() - began, 300ms);
    EXPECT_LT(io::Shard::current().now() - began, 900ms);
  });
}

TEST_F(IdsTest, a_node_without_the_role_is_left_for_another) {
  often({Fault::Kind::kError, static_cast<std::int16_t>(KafkaError::kNotController)}, 2);
  take(10);
}

TEST_F(IdsTest, what_is_refused_for_good_is_not_asked_again) {
  often({Fault::Kind::kError, static_cast<std::int16_t>(KafkaError::kInvalidRequest)}, 1);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Ids ids(cluster);
    const auto refused = co_await ids.next_counter("C", 1, false, in(30s));
    EXPECT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("counter \"C\""));
    EXPECT_FALSE(co_await ids.next_ids(0, in(30s)));
    EXPECT_FALSE(co_await ids.next_ids(obelisk::kScarabMaxBatch + 1, in(30s)));
  });
  EXPECT_EQ(broker_.count(ApiKey::kNextCounter), 1);
  EXPECT_EQ(broker_.count(ApiKey::kNextIds), 0);
}

TEST_F(IdsTest, nobody_there_ends_at_the_deadline) {
  often({Fault::Kind::kSilence, 0}, 1);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Ids ids(cluster);
    const Instant began = io::Shard::current().now();
    EXPECT_FALSE(co_await ids.next_ids(1, in(2s)));
    EXPECT_LE(io::Shard::current().now() - began, 2500ms);
  });
}

}  // namespace
}  // namespace pyralog::client
