// Finding places in a log: by time, by epoch, at its ends.
#include "broker/testing.h"

namespace pyralog::broker {
namespace {

using testing::batch_of;
using testing::BrokerTest;

class OffsetsTest : public BrokerTest {
 protected:
  OffsetsTest() { start(); }
  KafkaError fetch_error(std::int32_t leader_epoch) {
    return run([=, this]() -> io::Task<KafkaError> {
      std::vector<FetchItem> one(1);
      one[0].target = {"t", 0};
      one[0].leader_epoch = leader_epoch;
      one[0].max_bytes = 1000;
      co_return (co_await broker().fetch(std::move(one), {0, 1000, in(0s)}))[0].error;
    });
  }
  EpochAnswer epoch_end(std::int32_t epoch, std::int32_t current = -1) {
    return run([=, this]() -> io::Task<EpochAnswer> {
      std::vector<EpochQuery> one;
      one.push_back({{"t", 0}, current, epoch});
      co_return (co_await broker().epoch_ends(std::move(one))).front();
    });
  }
};

TEST_F(OffsetsTest, by_time_is_exact_inside_of_compressed_batches) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  std::int64_t time = 1'000;
  for (const Codec codec : {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    EXPECT_EQ(produce("t", batch_of({"a", "b", "c", "d"}, {.timestamp = time, .codec = codec})).error,
              KafkaError::kNone);
    time += 1'000;
  }
  for (std::int64_t batch = 0; batch < 5; ++batch) {
    for (std::int64_t record = 0; record < 4; ++record) {
      const OffsetAnswer at = offset("t", 1'000 * (batch + 1) + record);
      EXPECT_EQ(at.offset, 4 * batch + record);
      EXPECT_EQ(at.timestamp, 1'000 * (batch + 1) + record);
      EXPECT_EQ(at.leader_epoch, 1);
    }
    EXPECT_EQ(offset("t", 1'000 * batch + 500).offset, 4 * batch) << "the next one, if none is at it";
  }
  EXPECT_EQ(offset("t", 5'004).offset, -1);
}

TEST_F(OffsetsTest, the_ends_and_the_greatest_timestamp) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(offset("t", -1).offset, 0);
  EXPECT_EQ(offset("t", -2).offset, 0);
  EXPECT_EQ(offset("t", -3).offset, -1);
  EXPECT_EQ(produce("t", batch_of({"a", "b"}, {.timestamp = 9'000})).error, KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"c"}, {.timestamp = 10})).error, KafkaError::kNone);
  EXPECT_EQ(offset("t", -1).offset, 3);
  EXPECT_EQ(offset("t", -3).offset, 1);
  EXPECT_EQ(offset("t", -3).timestamp, 9'001);
  EXPECT_EQ(offset("t", -9).error, KafkaError::kUnsupportedVersion);
  EXPECT_EQ(offset("nowhere", -1).error, KafkaError::kUnknownTopicOrPartition);
}

TEST_F(OffsetsTest, the_greatest_timestamp_of_what_is_being_committed_is_waited_for) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"}, {.timestamp = 100})).error, KafkaError::kNone);
  disk().options().slow = 1;
  disk().options().slow_by = 500ms;
  EXPECT_EQ(produce("t", batch_of({"b"}, {.timestamp = 200}), Acks::kLeader).error,
            KafkaError::kNone);
  const OffsetAnswer greatest = offset("t", -3);
  EXPECT_EQ(greatest.offset, 1) << "there are records: −1 would say that there are none";
  EXPECT_EQ(greatest.timestamp, 200);
}

TEST_F(OffsetsTest, the_end_lies_behind_what_the_leader_has_acknowledged) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  disk().options().slow = 1;
  disk().options().slow_by = 500ms;
  EXPECT_EQ(produce("t", batch_of({"a", "b"}, {.timestamp = 100}), Acks::kLeader).error,
            KafkaError::kNone);
  EXPECT_EQ(offset("t", -1).offset, 2) << "who seeks there now must not be sent its own records";
  EXPECT_EQ(produce("t", batch_of({"c"}, {.timestamp = 200}), Acks::kLeader).error,
            KafkaError::kNone);
  EXPECT_EQ(offset("t", 150).offset, 2);
}

TEST_F(OffsetsTest, a_disk_that_does_not_come_back_does_not_hold_the_end_for_ever) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
  disk().options().slow = 1;
  disk().options().slow_by = 10min;
  EXPECT_EQ(produce("t", batch_of({"b"}), Acks::kLeader).error, KafkaError::kNone);
  const OffsetAnswer end = offset("t", -1);
  EXPECT_EQ(end.error, KafkaError::kNone);
  EXPECT_EQ(end.offset, 1) << "the end of what is committed";
  disk().options().slow = 0;
}

TEST_F(OffsetsTest, a_batch_is_found_by_time_though_its_client_left_the_greatest_timestamp_out) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  for (const Codec codec : {Codec::kNone, Codec::kLz4}) {
    Bytes batch = batch_of({"a", "b"}, {.timestamp = 5'000, .codec = codec});
    assign_max_timestamp(batch, -1);
    EXPECT_EQ(produce("t", std::move(batch)).error, KafkaError::kNone);
  }
  EXPECT_EQ(offset("t", 5'001).offset, 1);
  EXPECT_EQ(offset("t", 5'001).timestamp, 5'001);
  EXPECT_EQ(offset("t", -3).timestamp, 5'001);
}

TEST_F(OffsetsTest, leader_epochs_are_checked) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  stop();
  start();
  EXPECT_EQ(fetch_error(-1), KafkaError::kNone);
  EXPECT_EQ(fetch_error(2), KafkaError::kNone);
  EXPECT_EQ(fetch_error(1), KafkaError::kFencedLeaderEpoch);
  EXPECT_EQ(fetch_error(3), KafkaError::kUnknownLeaderEpoch);
  EXPECT_EQ(epoch_end(1, 1).error, KafkaError::kFencedLeaderEpoch);
  EXPECT_EQ(epoch_end(1, 3).error, KafkaError::kUnknownLeaderEpoch);
}

TEST_F(OffsetsTest, ends_of_epochs) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a", "b"})).error, KafkaError::kNone);
  stop();
  start();  // epoch 2 stays empty
  restart_after_crash();
  EXPECT_EQ(produce("t", batch_of({"c"})).error, KafkaError::kNone);
  const auto is = [](const EpochAnswer& a, std::int32_t epoch, std::int64_t end) {
    return a.error == KafkaError::kNone && a.leader_epoch == epoch && a.end_offset == end;
  };
  EXPECT_TRUE(is(epoch_end(1), 1, 2));
  EXPECT_TRUE(is(epoch_end(2), 1, 2)) << "the greatest epoch not above it that has records";
  EXPECT_TRUE(is(epoch_end(3), 3, 3));
  EXPECT_TRUE(is(epoch_end(4), -1, -1));
  EXPECT_TRUE(is(epoch_end(0), 0, 0)) << "below the first one with records";
}

/// A consumer keeps the epoch in which it saw an empty topic; records that came since must not be
/// passed over because that epoch wrote none.
TEST_F(OffsetsTest, an_epoch_without_records_ends_where_the_next_one_begins) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  restart_after_crash();
  EXPECT_EQ(produce("t", batch_of({"a", "b"})).error, KafkaError::kNone);
  const EpochAnswer end = epoch_end(1);
  EXPECT_EQ(end.error, KafkaError::kNone);
  EXPECT_EQ(end.leader_epoch, 1);
  EXPECT_EQ(end.end_offset, 0);
  const auto read = run([this]() -> io::Task<FetchOutcome> {
    std::vector<FetchItem> one(1);
    one[0].target = {"t", 0};
    one[0].offset = 0;
    one[0].last_fetched_epoch = 1;
    co_return (co_await broker().fetch(std::move(one), {})).front();
  });
  EXPECT_FALSE(read.diverging.has_value());
}

TEST_F(OffsetsTest, a_reader_of_another_history_is_told_where_it_parts) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a", "b"})).error, KafkaError::kNone);
  restart_after_crash();
  EXPECT_EQ(produce("t", batch_of({"c", "d"})).error, KafkaError::kNone);
  const auto diverging = [this](std::int64_t at, std::int32_t last) {
    return run([=, this]() -> io::Task<std::optional<EpochStart>> {
      std::vector<FetchItem> one(1);
      one[0].target = {"t", 0};
      one[0].offset = at;
      one[0].last_fetched_epoch = last;
      one[0].max_bytes = 1000;
      co_return (co_await broker().fetch(std::move(one), {0, 1000, in(0s)}))[0].diverging;
    });
  };
  EXPECT_FALSE(diverging(2, 1));
  EXPECT_FALSE(diverging(4, 2));
  const auto parted = diverging(3, 1);
  ASSERT_TRUE(parted);
  EXPECT_EQ(parted->epoch, Epoch(1));
  EXPECT_EQ(parted->start, Offset(2));
}

}  // namespace
}  // namespace pyralog::broker
