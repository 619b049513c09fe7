// What a start makes of what earlier lives have left.
#include <gmock/gmock.h>

#include "base/crc32c.h"
#include "broker/testing.h"
#include "observe/log.h"
#include "replica/producer_snapshots.h"

namespace pyralog::broker {
namespace {

using testing::batch_of;
using testing::BatchSpec;
using testing::BrokerTest;
using Strings = std::vector<std::string>;

class RestartTest : public BrokerTest {
 protected:
  explicit RestartTest(unsigned shards = 1) : BrokerTest(shards) { start(); }
  std::string segment() {
    for (const std::string& path : disk().files()) {
      if (path.ends_with("/00000000000000000000.log")) return path;
    }
    ADD_FAILURE() << "no segment";
    return {};
  }
  std::vector<catalog::LostRecord> lost() {
    return run([this]() -> io::Task<std::vector<catalog::LostRecord>> {
      co_return (co_await broker().status()).front().lost;
    });
  }
  PartitionStatus status() {
    return run([this]() -> io::Task<PartitionStatus> {
      co_return (co_await broker().status()).front();
    });
  }
  void pass(Duration time) {
    EXPECT_TRUE(run([time]() -> io::Task<bool> {
      co_await io::sleep_for(time);
      co_return true;
    }));
  }
  std::string snapshot() {
    for (const std::string& path : disk().files()) {
      if (path.starts_with("/data/producers-")) return path;
    }
    ADD_FAILURE() << "no snapshot";
    return {};
  }
  /// A snapshot that lies in the file of a shard that does not have the partition, and knows more
  /// than is left of the log.
  void leaves_a_stray_snapshot_alone(const std::function<std::string(std::string)>& stray_of) {
    EXPECT_EQ(create("t"), KafkaError::kNone);
    const BatchSpec second{.producer = 7, .epoch = 0, .sequence = 1};
    EXPECT_EQ(produce("t", batch_of({"a"}, {.producer = 7, .epoch = 0, .sequence = 0})).base_offset,
              0);
    const std::uint64_t first = disk().peek(segment()).value().size();
    EXPECT_EQ(produce("t", batch_of({"b"}, second)).base_offset, 1);
    stop();
    const std::string own = snapshot();
    const std::string stray = stray_of(own);
    EXPECT_TRUE(run([&]() -> io::Task<bool> {
      const Bytes bytes = disk().peek(own).value();
      co_return (co_await io::replace_file(io::Shard::current().disk(), stray, bytes)).has_value();
    }));
    cut(first);
    start();
    EXPECT_EQ(produce("t", batch_of({"other"})).base_offset, 1);
    EXPECT_EQ(produce("t", batch_of({"more"})).base_offset, 2);
    restart_after_crash();
    const auto again = produce("t", batch_of({"b"}, second));
    EXPECT_EQ(again.error, KafkaError::kNone) << again.message;
    EXPECT_EQ(again.base_offset, 3) << "swallowed as a duplicate of a record that is gone";
  }
  /// Cuts the only segment by hand, and what vouched for its end.
  void cut(std::uint64_t bytes) {
    const std::string path = segment();
    EXPECT_TRUE(run([path, bytes, this]() -> io::Task<bool> {
      io::Disk& files = io::Shard::current().disk();
      for (const std::string& each : disk().files()) {
        if (each.starts_with("/data/shard-")) EXPECT_TRUE(co_await files.remove(each));
      }
      auto file = (co_await files.open(path, io::OpenMode::kReadWrite)).value();
      EXPECT_TRUE(co_await file->truncate(bytes));
      EXPECT_TRUE(co_await file->sync());
      co_return (co_await files.sync_dir("/data")).has_value();
    }));
  }
};

TEST_F(RestartTest, a_log_that_was_cut_does_not_keep_the_node_from_starting) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).base_offset, 0);
  const std::uint64_t first = disk().peek(segment()).value().size();
  EXPECT_EQ(produce("t", batch_of({"b", "c"})).base_offset, 1);
  stop();
  start();
  stop();
  cut(first);
  start();
  EXPECT_EQ(values("t"), Strings{"a"});
  EXPECT_EQ(produce("t", batch_of({"d"})).base_offset, 1);
  const auto status = run([this]() -> io::Task<PartitionStatus> {
    co_return (co_await broker().status()).front();
  });
  ASSERT_EQ(status.lost.size(), 1u);
  EXPECT_EQ(status.lost[0].from, Offset(1));
  EXPECT_EQ(status.lost[0].to, Offset(3));
}

TEST_F(RestartTest, what_the_power_took_is_recorded_though_a_start_was_killed_before) {
  EXPECT_EQ(create("t", 1, {{"durability", "os"}}), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).base_offset, 0);
  crash(true);
  disk().set_hook([](io::sim::DiskOp op, const std::string& path) {
    return op == io::sim::DiskOp::kSyncDir && path.starts_with("/data/")
               ? io::sim::DiskFault::kKill
               : io::sim::DiskFault::kNone;
  });
  EXPECT_FALSE(try_start());
  disk().set_hook({});
  node().restart();
  start();
  EXPECT_EQ(lost().size(), 1u);
  restart_after_crash();
  EXPECT_EQ(lost().size(), 1u) << "recorded again";
}

TEST_F(RestartTest, what_the_power_took_is_recorded_though_a_start_failed_before) {
  EXPECT_EQ(create("t", 1, {{"durability", "os"}}), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).base_offset, 0);
  crash(true);
  bool opening = false;
  disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
    opening = opening || (op == io::sim::DiskOp::kSyncDir && path.starts_with("/data/"));
    return op == io::sim::DiskOp::kWrite && opening && path.find("metadata.log") != path.npos
               ? io::sim::DiskFault::kError
               : io::sim::DiskFault::kNone;
  });
  EXPECT_FALSE(try_start());
  EXPECT_TRUE(opening);
  // Its end, too, has come.
  EXPECT_TRUE(run([]() -> io::Task<bool> {
    co_await io::sleep_for(std::chrono::seconds(5));
    co_return true;
  }));
  for (const std::string& path : disk().files()) EXPECT_FALSE(path.ends_with(".clean")) << path;
  disk().set_hook({});
  start();
  EXPECT_EQ(lost().size(), 1u);
}

TEST_F(RestartTest, a_snapshot_of_producers_that_knows_more_than_the_log_never_fits_again) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"}, {.producer = 7, .epoch = 0, .sequence = 0})).base_offset, 0);
  const std::uint64_t first = disk().peek(segment()).value().size();
  EXPECT_EQ(produce("t", batch_of({"b"}, {.producer = 7, .epoch = 0, .sequence = 1})).base_offset, 1);
  stop();  // writes the snapshot
  cut(first);
  start();
  EXPECT_EQ(produce("t", batch_of({"other"})).base_offset, 1);
  EXPECT_EQ(produce("t", batch_of({"more"})).base_offset, 2);
  restart_after_crash();
  const auto again = produce("t", batch_of({"b"}, {.producer = 7, .epoch = 0, .sequence = 1}));
  EXPECT_EQ(again.error, KafkaError::kNone) << again.message;
  EXPECT_EQ(again.base_offset, 3) << "swallowed as a duplicate of a record that is gone";
  EXPECT_EQ(values("t"), (Strings{"a", "other", "more", "b"}));
}

TEST_F(RestartTest, a_snapshot_of_a_shard_that_is_no_more_is_not_believed_for_ever) {
  const std::string stray = "/data/producers-7.snapshot";
  leaves_a_stray_snapshot_alone([&](std::string) { return stray; });
  EXPECT_FALSE(disk().peek(stray));
}

TEST_F(RestartTest, a_partition_that_could_not_be_opened_comes_back_by_itself_in_its_own_epoch) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  const BatchSpec first{.producer = 7, .epoch = 0, .sequence = 0};
  EXPECT_EQ(produce("t", batch_of({"a"}, first)).base_offset, 0);
  const std::string log = segment();
  crash();
  int tries = 0;
  disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
    const bool fails = op == io::sim::DiskOp::kOpen && path == log;
    tries += fails ? 1 : 0;
    return fails ? io::sim::DiskFault::kError : io::sim::DiskFault::kNone;
  });
  start();
  EXPECT_EQ(produce("t", batch_of({"b"})).error, KafkaError::kKafkaStorageError);
  EXPECT_NE(status().offline, "");
  pass(std::chrono::seconds(100));
  EXPECT_GE(tries, 6);
  EXPECT_LE(tries, 14);
  disk().set_hook({});
  pass(std::chrono::seconds(40));
  EXPECT_EQ(status().offline, "");
  EXPECT_EQ(status().epoch, 2u);
  EXPECT_EQ(produce("t", batch_of({"a"}, first)).base_offset, 0) << "it was there already";
  EXPECT_EQ(produce("t", batch_of({"b"})).base_offset, 1);
  EXPECT_EQ(values("t"), (Strings{"a", "b"}));
  restart_after_crash();
  EXPECT_EQ(status().epoch, 3u);
  EXPECT_EQ(values("t"), (Strings{"a", "b"}));
}

TEST_F(RestartTest, a_partition_whose_records_could_not_be_read_comes_back_by_itself) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  const BatchSpec first{.producer = 7, .epoch = 0, .sequence = 0};
  EXPECT_EQ(produce("t", batch_of({"a"}, first)).base_offset, 0);
  const std::string log = segment();
  stop();
  // Without it the records are read for what producers had sent.
  const std::string known = snapshot();
  EXPECT_TRUE(run([known]() -> io::Task<bool> {
    co_return (co_await io::Shard::current().disk().remove(known)).has_value();
  }));
  disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
    return op == io::sim::DiskOp::kRead && path == log ? io::sim::DiskFault::kError
                                                       : io::sim::DiskFault::kNone;
  });
  start();
  EXPECT_NE(status().offline, "");
  disk().set_hook({});
  pass(std::chrono::seconds(40));
  EXPECT_EQ(status().offline, "");
  EXPECT_EQ(produce("t", batch_of({"a"}, first)).base_offset, 0) << "it was there already";
  EXPECT_EQ(produce("t", batch_of({"b"})).base_offset, 1);
  EXPECT_EQ(values("t"), (Strings{"a", "b"}));
}

TEST_F(RestartTest, a_damaged_journal_of_evidence_keeps_no_node_down_and_the_doubt_is_recorded) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  for (const char* value : {"a", "b", "c", "d"}) {
    EXPECT_EQ(produce("t", batch_of({value})).error, KafkaError::kNone);
  }
  crash();
  EXPECT_TRUE(disk().corrupt("/data/shard-0.synced", 100).has_value());
  // A start that dies before it has recorded anything makes no difference.
  disk().set_hook([opening = false](io::sim::DiskOp op, const std::string& path) mutable {
    opening = opening || (op == io::sim::DiskOp::kSyncDir && path.starts_with("/data/"));
    return opening && op == io::sim::DiskOp::kWrite && path.find("metadata.log") != path.npos
               ? io::sim::DiskFault::kKill
               : io::sim::DiskFault::kNone;
  });
  EXPECT_FALSE(try_start());
  disk().set_hook({});
  node().restart();
  int warnings = 0;
  observe::capture_log([&](const std::string& line) {
    warnings += line.find("records_may_be_missing") != std::string::npos ? 1 : 0;
  });
  start();
  EXPECT_EQ(warnings, 1);
  observe::capture_log({});
  EXPECT_EQ(values("t"), (Strings{"a", "b", "c", "d"}));
  ASSERT_EQ(lost().size(), 1u);
  EXPECT_EQ(lost()[0].from, Offset(4));
  EXPECT_TRUE(disk().peek("/data/shard-0.synced.damaged").has_value());
  EXPECT_EQ(produce("t", batch_of({"e"})).base_offset, 4);
  restart_after_crash();
  EXPECT_EQ(lost().size(), 1u) << "recorded again";
  EXPECT_EQ(values("t"), (Strings{"a", "b", "c", "d", "e"}));
}

TEST_F(RestartTest, a_new_topic_in_memory_has_lost_nothing) {
  std::string told;
  observe::capture_log([&](const std::string& line) {
    if (line.find("records_may_be_missing") != std::string::npos) told = line;
  });
  EXPECT_EQ(create("m", 1, {{"durability", "memory"}}), KafkaError::kNone);
  EXPECT_EQ(told, "");
  EXPECT_EQ(produce("m", batch_of({"a"})).base_offset, 0);
  restart_after_crash();
  EXPECT_NE(told, "");
  observe::capture_log({});
}

class RestartOnTwoTest : public RestartTest {
 protected:
  RestartOnTwoTest() : RestartTest(2) {}
};

TEST_F(RestartOnTwoTest, a_snapshot_in_the_file_of_another_shard_is_not_believed_for_ever) {
  leaves_a_stray_snapshot_alone([](std::string own) -> std::string {
    return own == "/data/producers-0.snapshot" ? "/data/producers-1.snapshot"
                                               : "/data/producers-0.snapshot";
  });
}

TEST_F(RestartOnTwoTest, what_could_not_be_opened_comes_back_on_every_shard) {
  EXPECT_EQ(create("t", 4), KafkaError::kNone);
  crash();
  disk().set_hook([](io::sim::DiskOp op, const std::string& path) {
    return op == io::sim::DiskOp::kSyncDir && path.starts_with("/data/") ? io::sim::DiskFault::kError
                                                                         : io::sim::DiskFault::kNone;
  });
  start();
  const auto all = [this] {
    return run([this]() -> io::Task<std::vector<PartitionStatus>> {
      co_return co_await broker().status();
    });
  };
  for (const PartitionStatus& each : all()) EXPECT_NE(each.offline, "") << each.name;
  disk().set_hook({});
  pass(std::chrono::seconds(40));
  for (const PartitionStatus& each : all()) {
    EXPECT_EQ(each.offline, "") << each.name;
    EXPECT_EQ(each.epoch, 2u) << each.name;
  }
  EXPECT_EQ(produce("t", batch_of({"a"})).base_offset, 0);
}

/// Producers are remembered for an hour.
class SilenceTest : public RestartTest {
 protected:
  SilenceTest() {
    options_.producers.expiration_ms = 3'600'000;
    stop();
    start();
    EXPECT_EQ(create("t"), KafkaError::kNone);
    EXPECT_EQ(next(), KafkaError::kNone);
  }
  /// The producer's next batch.
  KafkaError next() {
    const auto sent =
        produce("t", batch_of({"v"}, {.producer = 7, .epoch = 0, .sequence = sequence_}));
    if (sent.error == KafkaError::kNone) ++sequence_;
    return sent.error;
  }
  std::int32_t sequence_ = 0;
};

TEST_F(SilenceTest, a_clock_that_jumps_forgets_nobody) {
  for (const Duration wrong : {Duration(48h), Duration(-48h), Duration(0)}) {
    node().set_wall_offset(wrong);
    sim_.run_for(5min);
    EXPECT_EQ(next(), KafkaError::kNone);
  }
  sim_.run_for(59min);
  EXPECT_EQ(next(), KafkaError::kNone);
  sim_.run_for(61min);
  EXPECT_EQ(next(), KafkaError::kUnknownProducerId);
}

TEST_F(SilenceTest, nor_does_one_that_is_another_after_a_restart_or_a_time_in_which_nothing_ran) {
  for (const Duration wrong : {Duration(24h), Duration(-24h), Duration(0)}) {
    stop();
    node().set_wall_offset(wrong);
    start();
    sim_.run_for(5min);
    EXPECT_EQ(next(), KafkaError::kNone);
  }
  stop();
  sim_.run_for(72h);
  start();
  EXPECT_EQ(next(), KafkaError::kNone);
}

TEST_F(SilenceTest, goes_on_over_a_restart) {
  sim_.run_for(40min);
  stop();
  start();
  sim_.run_for(25min);
  EXPECT_EQ(next(), KafkaError::kUnknownProducerId);
}

TEST_F(SilenceTest, goes_on_over_a_crash_though_nothing_else_was_written) {
  sim_.run_for(40min);
  restart_after_crash(true);
  sim_.run_for(19min);
  EXPECT_EQ(next(), KafkaError::kNone);
  sim_.run_for(40min);
  restart_after_crash(true);
  sim_.run_for(25min);
  EXPECT_EQ(next(), KafkaError::kUnknownProducerId) << "three minutes are not known of at most";
}

TEST_F(SilenceTest, what_an_older_server_wrote_of_producers_is_taken_over) {
  sim_.run_for(2min);
  EXPECT_TRUE(run([this]() -> io::Task<bool> {
    co_return (co_await broker().delete_records({"t", 0}, -1, 10s)).has_value();
  })) << "only the snapshot knows the producer now";
  stop();
  const std::string path = snapshot();
  const auto file = replica::decode_producer_snapshots(disk().peek(path).value()).value();
  EXPECT_GT(file.clock, producer::RunningMs{0});
  Writer old;
  old.raw(as_bytes("PYRAPROD")).le(std::uint32_t{1}).le(std::uint32_t{1});
  ASSERT_EQ(file.partitions.size(), 1u);
  for (const auto& [id, each] : file.partitions) {
    EXPECT_TRUE(producer::ProducerTable::is_current(each.state));
    Bytes state = each.state;
    state[8] = 1;
    store_le(state.data() + state.size() - 4, crc32c(ByteView(state).first(state.size() - 4)));
    old.raw(id.topic.uuid.bytes).le(id.partition.value).le(each.covers.value).sized(state);
  }
  old.le(crc32c(old.view()));
  EXPECT_TRUE(run([&]() -> io::Task<bool> {
    co_return (co_await io::replace_file(io::Shard::current().disk(), path, old.bytes())).has_value();
  }));
  start();
  EXPECT_EQ(next(), KafkaError::kNone);
  stop();
  const auto anew = replica::decode_producer_snapshots(disk().peek(path).value()).value();
  EXPECT_TRUE(producer::ProducerTable::is_current(anew.partitions.begin()->second.state));
  start();
}

TEST_F(RestartTest, after_a_clean_stop_nothing_is_read_and_after_a_crash_it_is_told) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"}, {.producer = 7, .epoch = 0, .sequence = 0})).base_offset, 0);
  stop();
  start();
  EXPECT_EQ(broker().recovery().logs, 0u);
  EXPECT_EQ(broker().recovery().scanned_bytes, 0u);
  EXPECT_EQ(broker().recovery().replayed_bytes, 0u);
  EXPECT_EQ(produce("t", batch_of({"b"})).base_offset, 1);
  restart_after_crash();
  EXPECT_EQ(broker().recovery().logs, 1u);
  EXPECT_EQ(broker().recovery().scanned_bytes, disk().peek(segment()).value().size());
}

}  // namespace
}  // namespace pyralog::broker
