// A disk that fails for a while takes partitions offline; they come back by themselves, with everything
// that was acknowledged.
#include <gmock/gmock.h>

#include <algorithm>
#include <random>

#include "broker/testing.h"

namespace pyralog::broker {
namespace {

using io::sim::DiskFault;
using io::sim::DiskOp;
using testing::batch_of;
using testing::BrokerTest;
using Strings = std::vector<std::string>;

class ReopenTest : public BrokerTest {
 protected:
  ReopenTest() : BrokerTest(1) {
    options_.log.write_ahead_bytes = 0;
    start();
  }
  static bool is_segment(const std::string& path) {
    return path.ends_with(".log") && path.find("metadata") == std::string::npos;
  }
  /// Each such call on a segment fails.
  void fail(DiskOp failing) {
    disk().set_hook([failing](DiskOp op, const std::string& path) {
      return op == failing && is_segment(path) ? DiskFault::kError : DiskFault::kNone;
    });
  }
  void heal() { disk().set_hook({}); }
  PartitionStatus status() {
    return run([this]() -> io::Task<PartitionStatus> {
      co_return (co_await broker().status()).front();
    });
  }
  std::uint64_t reopened() {
    return run([this]() -> io::Task<std::uint64_t> {
      co_return (co_await broker().totals()).reopened;
    });
  }
  std::string segment() {
    for (const std::string& path : disk().files()) {
      if (path.ends_with("/00000000000000000000.log")) return path;
    }
    return {};
  }
  /// All that was acknowledged is there, in order; what was refused may be.
  void expect_all_there(const Strings& acknowledged) {
    Strings there = values("t");
    auto at = there.begin();
    for (const std::string& value : acknowledged) {
      at = std::find(at, there.end(), value);
      ASSERT_NE(at, there.end()) << value << " is lost";
      ++at;
    }
  }
};

TEST_F(ReopenTest, a_partition_whose_sync_failed_serves_again_in_a_new_epoch) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
  fail(DiskOp::kSync);
  EXPECT_EQ(produce("t", batch_of({"lost"})).error, KafkaError::kKafkaStorageError);
  EXPECT_THAT(status().offline, ::testing::HasSubstr("by itself"));
  sim_.run_for(2min);
  EXPECT_NE(status().offline, "") << "the disk fails still";
  EXPECT_EQ(fetch("t", 0).error, KafkaError::kKafkaStorageError);
  heal();
  sim_.run_for(40s);
  EXPECT_EQ(status().offline, "");
  EXPECT_EQ(status().epoch, 2u);
  EXPECT_EQ(reopened(), 1u);
  EXPECT_EQ(produce("t", batch_of({"b"})).error, KafkaError::kNone);
  expect_all_there({"a", "b"});
  EXPECT_TRUE(status().lost.empty());
  restart_after_crash(true);
  expect_all_there({"a", "b"});
}

TEST_F(ReopenTest, what_was_acknowledged_outlives_syncs_that_fail_now_and_then) {
  for (std::uint32_t round = 1; round <= 10; ++round) {
    SCOPED_TRACE(round);
    std::mt19937 rng(round);
    bool failing = false;
    disk().set_hook([&](DiskOp op, const std::string& path) {
      return failing && op == DiskOp::kSync && is_segment(path) && rng() % 10 == 0 ? DiskFault::kError
                                                                                   : DiskFault::kNone;
    });
    EXPECT_EQ(create("t", 1, {{"segment.bytes", "1500"}}), KafkaError::kNone);
    Strings acknowledged;
    std::uint64_t refused = 0;
    for (int i = 0; i < 150; ++i) {
      failing = i < 120 && i % 40 > 10;
      const std::string value = std::to_string(round) + "-" + std::to_string(i);
      if (produce("t", batch_of({value})).error == KafkaError::kNone) {
        acknowledged.push_back(value);
      } else {
        ++refused;
        sim_.run_for(Duration(std::chrono::milliseconds(rng() % 5000)));
      }
    }
    heal();
    sim_.run_for(11min);
    EXPECT_GT(refused, 0u);
    expect_all_there(acknowledged);
    restart_after_crash(true);
    expect_all_there(acknowledged);
    EXPECT_EQ(run([this]() -> io::Task<KafkaError> {
      co_return (co_await broker().delete_topic("t")).error;
    }), KafkaError::kNone);
  }
}

TEST_F(ReopenTest, damage_that_is_found_then_keeps_it_offline) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
  fail(DiskOp::kSync);
  EXPECT_EQ(produce("t", batch_of({"b"})).error, KafkaError::kKafkaStorageError);
  ASSERT_TRUE(disk().corrupt(segment(), 64 + 70));
  heal();
  sim_.run_for(1h);
  EXPECT_THAT(status().offline, ::testing::HasSubstr("damaged"));
  EXPECT_EQ(produce("t", batch_of({"c"})).error, KafkaError::kKafkaStorageError);
  EXPECT_EQ(reopened(), 0u);
}

TEST_F(ReopenTest, below_fsync_what_the_disk_did_not_get_is_recorded_as_lost) {
  EXPECT_EQ(create("t", 1, {{"durability", "os"}}), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
  sim_.run_for(1min);
  disk().options().writeback = 0;
  EXPECT_EQ(produce("t", batch_of({"b"})).error, KafkaError::kNone);
  EXPECT_EQ(status().high_watermark, 2);
  fail(DiskOp::kWrite);
  EXPECT_EQ(produce("t", batch_of({"c"})).error, KafkaError::kKafkaStorageError);
  // The sync that verifies it fails, too, and takes along what was in memory only.
  fail(DiskOp::kSync);
  sim_.run_for(5s);
  heal();
  sim_.run_for(1min);
  ASSERT_EQ(status().offline, "");
  if (status().high_watermark < 2) {
    ASSERT_EQ(status().lost.size(), 1u);
    EXPECT_EQ(status().lost[0].from, Offset(status().log_end));
  } else {
    EXPECT_TRUE(status().lost.empty());
  }
  EXPECT_EQ(produce("t", batch_of({"d"})).error, KafkaError::kNone);
}

TEST_F(ReopenTest, one_that_fails_again_and_again_is_tried_ever_more_rarely) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
  // What a start does goes well, what comes then does not.
  fail(DiskOp::kWrite);
  for (int i = 0; i < 1800; ++i) {
    (void)produce("t", batch_of({"x"}));
    sim_.run_for(2s);
  }
  EXPECT_GE(reopened(), 5u);
  EXPECT_LE(reopened(), 25u);
  heal();
  sim_.run_for(11min);
  EXPECT_EQ(produce("t", batch_of({"b"})).error, KafkaError::kNone);
  expect_all_there({"a", "b"});
}

}  // namespace
}  // namespace pyralog::broker
