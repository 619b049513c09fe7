// Writing and reading through the broker: order, acknowledgement, bounds, waiting.
#include <gmock/gmock.h>

#include "broker/testing.h"

namespace pyralog::broker {
namespace {

using io::sim::DiskFault;
using io::sim::DiskOp;
using testing::batch_of;
using testing::BatchSpec;
using testing::BrokerTest;
using testing::values_of;
using Strings = std::vector<std::string>;

class ProduceFetchTest : public BrokerTest {
 protected:
  ProduceFetchTest() { start(); }
  void fail_syncs_of_segments() {
    disk().set_hook([](DiskOp op, const std::string& path) {
      return op == DiskOp::kSync && path.ends_with(".log") ? DiskFault::kError : DiskFault::kNone;
    });
  }
  /// One batch to t-0 on a connection that has `order`, and what becomes of it.
  io::Task<ProduceOutcome> in_order(io::Turn& order, Bytes batch) {
    std::vector<Bytes> one;
    one.push_back(std::move(batch));
    co_return (co_await broker().produce(items("t", std::move(one)), Acks::kAll, 10s, &order))[0];
  }
  void slow_disk(Duration by) {
    disk().options().slow = 1;
    disk().options().slow_by = by;
  }
};

TEST_F(ProduceFetchTest, gives_back_what_was_written_on_every_shard) {
  EXPECT_EQ(create("t", 4), KafkaError::kNone);
  const auto outcomes = run([this]() -> io::Task<std::vector<ProduceOutcome>> {
    std::vector<Bytes> batches;
    for (const char* value : {"a", "b", "c", "d"}) batches.push_back(batch_of({value, "x"}));
    co_return co_await broker().produce(items("t", std::move(batches)), Acks::kAll, 10s);
  }, 1);
  for (const auto& each : outcomes) {
    EXPECT_EQ(each.error, KafkaError::kNone) << each.message;
    EXPECT_EQ(each.base_offset, 0);
    EXPECT_EQ(each.log_start, 0);
  }
  EXPECT_EQ(values("t", 0), (Strings{"a", "x"}));
  EXPECT_EQ(values("t", 3), (Strings{"d", "x"}));
}

TEST_F(ProduceFetchTest, refuses_with_kafkas_codes) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(create("small", 1, {{"max.message.bytes", "100"}}), KafkaError::kNone);
  EXPECT_EQ(create("compact", 1, {{"cleanup.policy", "compact"}}), KafkaError::kNone);
  EXPECT_EQ(create("near", 1, {{"message.timestamp.before.max.ms", "1000"}}), KafkaError::kNone);
  const auto error_of = [this](const std::string& topic, Bytes bytes) {
    return produce(topic, std::move(bytes)).error;
  };
  EXPECT_EQ(error_of("none", batch_of({"a"})), KafkaError::kUnknownTopicOrPartition);
  EXPECT_EQ(error_of("small", batch_of({std::string(100, 'x')})), KafkaError::kMessageTooLarge);
  EXPECT_EQ(error_of("compact", batch_of({"a"}, {.keys = false})), KafkaError::kInvalidRecord);
  EXPECT_EQ(error_of("near", batch_of({"a"}, {.timestamp = 1})), KafkaError::kInvalidTimestamp);
  EXPECT_EQ(error_of("t", batch_of({"a"}, {.timestamp = 1LL << 50})),
            KafkaError::kInvalidTimestamp);
  EXPECT_EQ(error_of("t", batch_of({"a"}, {.attributes = 0x20})), KafkaError::kInvalidRecord);
  EXPECT_EQ(error_of("t", batch_of({"a"}, {.producer = 1, .epoch = 0, .sequence = 0,
                                           .attributes = 0x10})),
            KafkaError::kInvalidTxnState);
  EXPECT_EQ(error_of("t", batch_of({"a"}, {.producer = 1, .epoch = 0, .sequence = 4})),
            KafkaError::kUnknownProducerId);
  Bytes bad = batch_of({"a"});
  bad.back() ^= 1;
  EXPECT_EQ(error_of("t", bad), KafkaError::kCorruptMessage);
  for (const std::uint8_t magic : Bytes{0, 1, 3}) {
    bad = batch_of({"a"});
    bad[16] = magic;
    EXPECT_EQ(error_of("t", bad), KafkaError::kInvalidRecord) << int{magic};
  }
  for (const auto* topic : {"t", "small", "compact", "near"}) EXPECT_EQ(values(topic), Strings{});
}

TEST_F(ProduceFetchTest, exactly_one_batch_per_partition) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  Bytes two = batch_of({"a"});
  const Bytes second = batch_of({"b"});
  two.insert(two.end(), second.begin(), second.end());
  // Sent again it would be as wrong: the code must not invite to it, as CORRUPT_MESSAGE does.
  EXPECT_EQ(produce("t", two).error, KafkaError::kInvalidRecord);
  EXPECT_EQ(produce("t", {}).error, KafkaError::kInvalidRecord);
  EXPECT_EQ(values("t"), Strings{});
}

TEST_F(ProduceFetchTest, a_full_validation_topic_opens_compressed_batches) {
  EXPECT_EQ(create("t", 1, {{"record.validation", "full"}}), KafkaError::kNone);
  Bytes lies = batch_of({"a", "b"}, {.codec = Codec::kGzip});
  BatchHeader header = parse_batch_header(lies).value();
  header.count = 3;
  header.last_offset_delta = 2;
  write_batch_header(header, lies.data());
  header.crc = batch_crc(lies);
  write_batch_header(header, lies.data());
  EXPECT_EQ(produce("t", lies).error, KafkaError::kInvalidRecord);
  EXPECT_EQ(produce("t", batch_of({"a", "b"}, {.codec = Codec::kGzip})).error, KafkaError::kNone);
}

TEST_F(ProduceFetchTest, what_opens_to_much_is_opened_elsewhere_and_nothing_overtakes_it) {
  EXPECT_EQ(create("t", 2, {{"record.validation", "full"}}), KafkaError::kNone);
  const auto large = [] { return batch_of({std::string(900'000, 'x')}, {.codec = Codec::kZstd}); };
  EXPECT_LT(large().size(), 4'000u);
  std::vector<int> ended;
  run([&, this]() -> io::Task<bool> {
    io::Turn order;
    io::TaskGroup all;
    const auto call = [&](int number, Bytes batch) -> io::Task<void> {
      const ProduceOutcome out = co_await in_order(order, std::move(batch));
      EXPECT_EQ(out.error, KafkaError::kNone) << out.message;
      EXPECT_EQ(out.base_offset, number);
      ended.push_back(number);
    };
    all.spawn(call(0, batch_of({"first"})));
    all.spawn(call(1, large()));
    all.spawn(call(2, batch_of({"small"})));
    all.spawn(call(3, large()));
    all.spawn(call(4, batch_of({"last"})));
    co_await all.join();
    co_return true;
  });
  EXPECT_EQ(ended.size(), 5u);
}

TEST_F(ProduceFetchTest, a_bomb_is_refused_and_who_waits_behind_it_goes_on) {
  options_.max_inflated_bytes = 1u << 20;
  stop();
  start();
  EXPECT_EQ(create("t", 1, {{"record.validation", "full"}}), KafkaError::kNone);
  run([&, this]() -> io::Task<bool> {
    io::Turn order;
    io::TaskGroup all;
    const auto call = [&](Bytes batch, KafkaError expected) -> io::Task<void> {
      EXPECT_EQ((co_await in_order(order, std::move(batch))).error, expected);
    };
    all.spawn(call(batch_of({std::string(2u << 20, 'x')}, {.codec = Codec::kZstd}),
                   KafkaError::kMessageTooLarge));
    all.spawn(call(batch_of({"small"}), KafkaError::kNone));
    co_await all.join();
    EXPECT_FALSE(order.busy());
    co_return true;
  });
  EXPECT_EQ(values("t", 0), Strings{"small"});
}

TEST_F(ProduceFetchTest, acks_all_waits_for_the_disk_and_acks_1_does_not) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"first"})).error, KafkaError::kNone);
  slow_disk(1s);
  Instant begun = sim_.now();
  EXPECT_EQ(produce("t", batch_of({"one"}), Acks::kLeader).base_offset, 1);
  EXPECT_LT(sim_.now() - begun, 100ms);
  begun = sim_.now();
  EXPECT_EQ(produce("t", batch_of({"all"})).base_offset, 2);
  EXPECT_GE(sim_.now() - begun, 1s);
  EXPECT_EQ(run([this]() -> io::Task<KafkaError> {
    co_return (co_await send("t", batch_of({"late"}), Acks::kAll, 10ms)).error;
  }), KafkaError::kRequestTimedOut);
  disk().options().slow = 0;
  EXPECT_EQ(produce("t", batch_of({"last"})).base_offset, 4) << "what timed out may still commit";
}

TEST_F(ProduceFetchTest, requests_in_flight_keep_their_order_in_each_partition_through_a_roll) {
  // The first request waits for a new segment of its first partition; the second one must not
  // overtake it in the other.
  const auto request = [](const std::string& topic, int number) {
    std::vector<Bytes> batches;
    batches.push_back(batch_of({std::string(3000, 'x')}));
    for (int p = 1; p < 4; ++p) batches.push_back(batch_of({std::to_string(number)}));
    auto all = items(topic, std::move(batches));
    if (number % 2 == 1) all.erase(all.begin());
    return all;
  };
  for (int n = 0; n < 10; ++n) {
    const std::string topic = "t" + std::to_string(n);
    EXPECT_EQ(create(topic, 4, {{"segment.bytes", "4000"}}), KafkaError::kNone);
    run([&, this]() -> io::Task<bool> {
      for (const auto& out : co_await broker().produce(request(topic, 0), Acks::kAll, 10s)) {
        EXPECT_EQ(out.error, KafkaError::kNone) << out.message;
      }
      io::TaskGroup group;
      for (int i = 2; i < 8; ++i) {
        group.spawn([](Broker& b, std::vector<ProduceItem> all) -> io::Task<void> {
          for (const auto& out : co_await b.produce(std::move(all), Acks::kAll, 10s)) {
            EXPECT_EQ(out.error, KafkaError::kNone) << out.message;
          }
        }(broker(), request(topic, i)));
      }
      co_await group.join();
      co_return true;
    });
    for (int p = 1; p < 4; ++p) {
      EXPECT_EQ(values(topic, p), (Strings{"0", "2", "3", "4", "5", "6", "7"})) << topic << "-" << p;
    }
  }
}

TEST_F(ProduceFetchTest, nothing_is_read_before_it_is_committed) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
  slow_disk(1s);
  EXPECT_EQ(produce("t", batch_of({"b"}), Acks::kLeader).error, KafkaError::kNone);
  const FetchOutcome at_the_end = fetch("t", 1);
  EXPECT_EQ(at_the_end.high_watermark, 1);
  EXPECT_EQ(at_the_end.bytes, 0u);
  EXPECT_EQ(values("t"), Strings{"a"});
  sim_.run_for(5s);
  EXPECT_EQ(values("t"), (Strings{"a", "b"}));
}

TEST_F(ProduceFetchTest, a_fetch_waits_for_data_and_for_its_deadline) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  Instant begun = sim_.now();
  EXPECT_EQ(fetch("t", 0, 2s).bytes, 0u);
  EXPECT_GE(sim_.now() - begun, 2s);
  begun = sim_.now();
  const FetchOutcome woken = run([this]() -> io::Task<FetchOutcome> {
    io::TaskGroup group;
    FetchOutcome out;
    Instant at;
    group.spawn(read_into(out, at, 0, 60s));
    co_await io::sleep_for(1s);
    EXPECT_EQ((co_await send("t", batch_of({"a"}))).error, KafkaError::kNone);
    co_await group.join();
    co_return out;
  });
  EXPECT_GT(woken.bytes, 0u);
  EXPECT_LT(sim_.now() - begun, 2s);
}

TEST_F(ProduceFetchTest, the_first_batch_comes_whatever_the_bounds) {
  EXPECT_EQ(create("t", 2), KafkaError::kNone);
  run([this]() -> io::Task<bool> {
    std::vector<Bytes> batches;
    batches.push_back(batch_of({std::string(3000, 'x')}));
    batches.push_back(batch_of({std::string(3000, 'y')}));
    static_cast<void>(co_await broker().produce(items("t", std::move(batches)), Acks::kAll, 10s));
    for (const std::uint64_t max : {0u, 1u, 3000u, 4000u}) {
      std::vector<FetchItem> wanted(2);
      wanted[0].target = {"t", 0};
      wanted[1].target = {"t", 1};
      wanted[0].max_bytes = wanted[1].max_bytes = static_cast<std::int64_t>(max);
      const auto out = co_await broker().fetch(std::move(wanted), {1, max, in(0s)});
      EXPECT_GT(out[0].bytes, 3000u) << max;
      EXPECT_EQ(out[1].bytes, 0u) << max;
    }
    co_return true;
  });
}

TEST_F(ProduceFetchTest, more_than_fits_is_not_waited_for) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({std::string(3000, 'x')})).error, KafkaError::kNone);
  const Instant begun = sim_.now();
  run([this]() -> io::Task<bool> {
    std::vector<FetchItem> wanted(1);
    wanted[0].target = {"t", 0};
    wanted[0].max_bytes = 1 << 20;
    // At least 100,000 bytes are wanted, but no more than 2,000 will ever be sent at once.
    const auto out = co_await broker().fetch(std::move(wanted), {100'000, 2'000, in(60s)});
    EXPECT_GT(out[0].bytes, 0u);
    co_return true;
  });
  EXPECT_LT(sim_.now() - begun, 1s);
}

TEST_F(ProduceFetchTest, offsets_outside_of_the_log_are_refused) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a", "b"})).error, KafkaError::kNone);
  EXPECT_EQ(fetch("t", 2).error, KafkaError::kNone);
  EXPECT_EQ(fetch("t", 3).error, KafkaError::kOffsetOutOfRange);
  EXPECT_EQ(fetch("t", -1).error, KafkaError::kOffsetOutOfRange);
  EXPECT_EQ(fetch("u", 0).error, KafkaError::kUnknownTopicOrPartition);
  const auto inside = fetch("t", 1);
  EXPECT_EQ(inside.high_watermark, 2);
  EXPECT_EQ(inside.last_stable, 2);
  EXPECT_GT(inside.bytes, 0u) << "the batch that holds the offset";
}

TEST_F(ProduceFetchTest, a_partition_whose_sync_failed_is_offline_for_everybody) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(create("sound"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
  fail_syncs_of_segments();
  const FetchOutcome waited = run([this]() -> io::Task<FetchOutcome> {
    io::TaskGroup group;
    FetchOutcome out;
    Instant at;
    group.spawn(read_into(out, at, 1, 60s));
    co_await io::sleep_for(1s);
    EXPECT_EQ((co_await send("t", batch_of({"b"}))).error, KafkaError::kKafkaStorageError);
    co_await group.join();
    co_return out;
  });
  EXPECT_EQ(waited.error, KafkaError::kKafkaStorageError);
  disk().set_hook({});
  EXPECT_EQ(produce("t", batch_of({"b"})).error, KafkaError::kKafkaStorageError);
  EXPECT_EQ(fetch("t", 0).error, KafkaError::kKafkaStorageError);
  EXPECT_EQ(fetch("t", 1, 60s).error, KafkaError::kKafkaStorageError);
  EXPECT_EQ(offset("t", -1).error, KafkaError::kKafkaStorageError);
  const auto told = run([this]() -> io::Task<std::vector<PartitionStatus>> {
    co_return co_await broker().status();
  });
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].name, "sound-0");
  EXPECT_EQ(told[0].offline, "");
  EXPECT_NE(told[1].offline, "");
  EXPECT_EQ(produce("sound", batch_of({"c"})).error, KafkaError::kNone);
  restart_after_crash();
  EXPECT_EQ(produce("t", batch_of({"c"})).error, KafkaError::kNone);
  EXPECT_EQ(values("t").front(), "a");
}

TEST_F(ProduceFetchTest, draining_answers_those_who_wait_for_data) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  Instant answered{};
  run([&, this]() -> io::Task<bool> {
    io::TaskGroup group;
    FetchOutcome out;
    group.spawn(read_into(out, answered, 0, 60s));
    co_await io::sleep_for(1s);
    co_await broker().drain();
    EXPECT_EQ((co_await send("t", batch_of({"a"}))).error, KafkaError::kNone)
        << "writes in flight go on";
    co_await group.join();
    co_return true;
  });
  EXPECT_LT(answered - Instant{}, 5s);
}

}  // namespace
}  // namespace pyralog::broker
