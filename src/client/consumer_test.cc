#include "client/consumer.h"

#include <gmock/gmock.h>

#include "client/admin.h"
#include "client/offsets.h"
#include "client/testing.h"

namespace pyralog::client {
namespace {

using testing::Fault;
using wire::kafka::ApiKey;

class ConsumerTest : public testing::ClientTest {
 protected:
  explicit ConsumerTest(std::uint64_t seed = 1) : ClientTest(seed) {}
  /// Stores 0 … count−1 in batches of up to `per_batch` in a partition, timestamps 1000 + value.
  void fill(std::int32_t partition, int count, int per_batch = 7, Codec codec = Codec::kNone) {
    auto& log = broker_.partition("t", partition);
    for (int i = 0; i < count;) {
      BatchBuilder builder(codec);
      const int end = std::min(count, i + per_batch);
      for (; i < end; ++i) {
        const std::string value = std::to_string(i);
        NewRecord record;
        record.timestamp = 1000 + i;
        record.value = as_bytes(value);
        builder.add(record);
      }
      log.batches.push_back(builder.build(Offset(log.end)).value());
      log.end += builder.count();
    }
  }
  static void append_values(std::vector<std::string>& to, const std::vector<PolledBatch>& batches) {
    for (const PolledBatch& batch : batches) {
      const auto read = for_each_record(
          batch, [&](const RecordView& record) { to.emplace_back(as_text(*record.value)); });
      EXPECT_TRUE(read) << read.error().message;
    }
  }
  /// Polls until `count` values have come, or time is up.
  static io::Task<std::vector<std::string>> read(Consumer& consumer, std::size_t count,
                                                 Duration patience = 60s) {
    std::vector<std::string> values;
    const Instant deadline = in(patience);
    while (values.size() < count && io::Shard::current().now() < deadline) {
      const auto batches = co_await consumer.poll(in(1s));
      if (!batches) {
        ADD_FAILURE() << batches.error().message;
        break;
      }
      append_values(values, *batches);
    }
    co_return values;
  }
  static ConsumerOptions in_group(std::vector<group::Assignor> assignors = {
                                      group::Assignor::kRange}) {
    ConsumerOptions options;
    options.membership.emplace();
    options.membership->group = "g";
    options.membership->assignors = std::move(assignors);
    options.reset = OffsetReset::kEarliest;
    return options;
  }
};

TEST_F(ConsumerTest, reads_from_an_offset_inside_a_batch_to_the_end) {
  fill(0, 50);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Consumer consumer(cluster, {});
    consumer.assign({{{"t", 0}, 10}});
    const auto values = co_await read(consumer, 40);
    EXPECT_EQ(values.size(), 40u);
    EXPECT_EQ(values.front(), "10");
    EXPECT_EQ(values.back(), "49");
    EXPECT_EQ(consumer.positions().at({"t", 0}), 50);
    EXPECT_TRUE(co_await consumer.close(in(5s)));
  });
}

TEST_F(ConsumerTest, reads_all_codecs_and_several_partitions) {
  fill(0, 20, 5, Codec::kGzip);
  fill(1, 20, 5, Codec::kZstd);
  fill(2, 20, 5, Codec::kSnappy);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Consumer consumer(cluster, {});
    consumer.assign({{{"t", 0}, 0}, {{"t", 1}, 0}, {{"t", 2}, 0}});
    EXPECT_EQ((co_await read(consumer, 60)).size(), 60u);
    EXPECT_TRUE(co_await consumer.close(in(5s)));
  });
}

TEST_F(ConsumerTest, goes_on_over_cut_connections_and_passing_errors_without_loss_or_repeat) {
  fill(0, 300, 3);
  int fetched = 0;
  broker_.fault = [&](const wire::kafka::RequestFrame& request) {
    if (request.api->key != ApiKey::kFetch) return Fault{};
    switch (++fetched % 5) {
      case 1:
        return Fault{Fault::Kind::kCutBefore};
      case 2:
        return Fault{Fault::Kind::kSwallow};
      case 3:
        return Fault{Fault::Kind::kError, 6};
      default:
        return Fault{};
    }
  };
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    ConsumerOptions options;
    options.fetch.partition_max_bytes = 400;
    Consumer consumer(cluster, options);
    consumer.assign({{{"t", 0}, 0}});
    EXPECT_EQ(co_await read(consumer, 300, 600s), numbers(300));
    EXPECT_TRUE(co_await consumer.close(in(5s)));
  });
}

TEST_F(ConsumerTest, an_offset_that_is_gone_is_reset_as_asked) {
  fill(0, 30);
  broker_.partition("t", 0).start = 14;
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    ConsumerOptions options;
    options.reset = OffsetReset::kEarliest;
    Consumer consumer(cluster, options);
    consumer.assign({{{"t", 0}, 3}});
    const auto values = co_await read(consumer, 16);
    EXPECT_EQ(values.front(), "14");
    EXPECT_TRUE(co_await consumer.close(in(5s)));
    options.reset = OffsetReset::kFail;
    Consumer strict(cluster, options);
    strict.assign({{{"t", 0}, 3}});
    const auto refused = co_await strict.poll(in(5s));
    EXPECT_FALSE(refused);
    if (!refused) {
      EXPECT_EQ(refused.error().code, Code::kOutOfRange);
    }
    EXPECT_TRUE(co_await strict.close(in(5s)));
  });
}

TEST_F(ConsumerTest, a_damaged_batch_is_an_error_by_partition_and_offset) {
  fill(0, 10);
  broker_.partition("t", 0).batches[0][70] ^= 1;
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Consumer consumer(cluster, {});
    consumer.assign({{{"t", 0}, 0}});
    const auto refused = co_await consumer.poll(in(5s));
    EXPECT_FALSE(refused);
    if (!refused) {
      EXPECT_THAT(refused.error().message, ::testing::HasSubstr("offset 0"));
    }
    EXPECT_TRUE(co_await consumer.close(in(5s)));
  });
}

TEST_F(ConsumerTest, finds_offsets_by_time_and_ends) {
  fill(0, 50, 10);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    const auto found =
        co_await list_offsets(cluster, {{{"t", 0}, 1025}, {{"t", 1}, kLatestTime}}, false, in(5s));
    EXPECT_TRUE(found);
    EXPECT_EQ(found->at({"t", 0}).offset, 20);
    EXPECT_EQ(found->at({"t", 1}).offset, 0);
    const auto none = co_await list_offsets(cluster, {{{"nowhere", 0}, 1}}, false, in(5s));
    EXPECT_FALSE(none);
    if (!none) {
      EXPECT_EQ(none.error().code, Code::kNotFound);
    }
  });
}

TEST_F(ConsumerTest, a_group_begins_where_it_stopped) {
  fill(0, 20);
  fill(1, 20);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Consumer first(cluster, in_group());
    first.subscribe({"t"});
    EXPECT_EQ((co_await read(first, 40)).size(), 40u);
    EXPECT_TRUE(co_await first.close(in(5s)));
  });
  EXPECT_EQ(broker_.committed("t", 0), 20);
  EXPECT_EQ(broker_.committed("t", 1), 20);
  fill(0, 5);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Consumer second(cluster, in_group());
    second.subscribe({"t"});
    EXPECT_EQ(co_await read(second, 5), numbers(5));
    EXPECT_TRUE(co_await second.close(in(5s)));
  });
}

class Rebalance : public ConsumerTest, public ::testing::WithParamInterface<group::Assignor> {};

TEST_P(Rebalance, commits_rejoins_and_goes_on_without_loss_or_repeat) {
  fill(0, 20);
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    auto options = in_group({GetParam()});
    options.auto_commit_interval = 3600s;
    Consumer consumer(cluster, options);
    consumer.subscribe({"t"});
    auto values = co_await read(consumer, 20);
    const std::int32_t before = broker_.generation();
    broker_.rebalance();
    const Instant patience = in(30s);
    while (broker_.generation() == before && io::Shard::current().now() < patience) {
      const auto more = co_await consumer.poll(in(1s));
      EXPECT_TRUE(more);
      if (more) append_values(values, *more);
    }
    EXPECT_GT(broker_.generation(), before);
    EXPECT_EQ(broker_.committed("t", 0), 20);
    fill(0, 10);
    for (const auto& value : co_await read(consumer, 10)) values.push_back(value);
    EXPECT_EQ(values.size(), 30u);
    EXPECT_TRUE(co_await consumer.close(in(5s)));
  });
}

INSTANTIATE_TEST_SUITE_P(Assignors, Rebalance,
                         ::testing::Values(group::Assignor::kRange,
                                           group::Assignor::kCooperativeSticky),
                         [](const auto& each) {
                           return each.param == group::Assignor::kRange ? "eager" : "cooperative";
                         });

TEST_F(ConsumerTest, survives_lost_heartbeats_and_a_moved_coordinator) {
  fill(0, 20);
  int commits = 0;
  int beats = 0;
  broker_.fault = [&](const wire::kafka::RequestFrame& request) {
    if (request.api->key == ApiKey::kOffsetCommit && ++commits == 1)
      return Fault{Fault::Kind::kError, 16};
    if (request.api->key == ApiKey::kHeartbeat && ++beats % 2 == 1)
      return Fault{Fault::Kind::kSwallow};
    if (request.api->key == ApiKey::kJoinGroup && beats == 0 &&
        broker_.count(ApiKey::kJoinGroup) == 1) {
      return Fault{Fault::Kind::kCutBefore};
    }
    return Fault{};
  };
  with_cluster([&](Cluster& cluster) -> io::Task<void> {
    Consumer consumer(cluster, in_group());
    consumer.subscribe({"t"});
    EXPECT_EQ((co_await read(consumer, 20)).size(), 20u);
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(co_await consumer.poll(in(1s)));
    EXPECT_GT(beats, 2);
    EXPECT_TRUE(co_await consumer.close(in(5s)));
  });
  EXPECT_EQ(broker_.committed("t", 0), 20);
}

}  // namespace
}  // namespace pyralog::client
