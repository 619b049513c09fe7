#include "replica/replica.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "io/sim/simulator.h"
#include "log/evidence.h"
#include "log/shard_logs.h"
#include "replica/producer_snapshots.h"

namespace pyralog::replica {
namespace {

using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;

PartitionId partition() {
  PartitionId id;
  id.topic.uuid.bytes[15] = 7;
  id.partition = PartitionIndex(0);
  return id;
}

struct Sequence {
  std::int64_t producer = -1;
  std::int16_t epoch = -1;
  std::int32_t first = -1;
};

NewBatch batch(int records = 1, Sequence sequence = {}) {
  BatchBuilder builder;
  builder.producer(sequence.producer, sequence.epoch, sequence.first);
  for (int i = 0; i < records; ++i) {
    NewRecord record;
    record.timestamp = 1000 + i;
    record.value = as_bytes("value");
    builder.add(record);
  }
  auto bytes = std::make_shared<Bytes>(builder.build().value());
  NewBatch made;
  made.header = parse_batch_header(*bytes).value();
  made.bytes = MutableBytes(*bytes);
  made.owner = std::move(bytes);
  return made;
}

class Told final : public DataWatcher {
 public:
  void data_available() override { ++times; }
  int times = 0;
};

/// A replica on one simulated machine; `body` is one life of it.
class ReplicaTest : public ::testing::Test {
 protected:
  ReplicaTest() : sim_(3), node_(sim_.add_node()) {
    options_.name = "orders-0";
    logs_.data_dir = "/data";
  }
  using Body = std::function<io::Task<void>(Replica&)>;
  void life(Body body, std::uint32_t epoch = 1, std::optional<Bytes> snapshot = {}) {
    EXPECT_TRUE(node_.run([&, this]() -> io::Task<bool> {
      co_return co_await live(std::move(body), epoch, std::move(snapshot));
    }));
  }
  io::Task<bool> live(Body body, std::uint32_t epoch, std::optional<Bytes> snapshot) {
    io::Disk& disk = io::Shard::current().disk();
    EXPECT_TRUE(co_await disk.make_dirs("/data"));
    auto evidence = co_await log::Evidence::load(disk, "/data");
    auto logs = co_await log::ShardLogs::open(disk, logs_, *evidence);
    auto replica =
        co_await Replica::open(**logs, partition(), options_, Offset(0), std::move(snapshot));
    EXPECT_TRUE(replica) << replica.error().message;
    if (!replica) co_return false;
    if (epoch > 0) (*replica)->lead(Epoch(epoch));
    co_await body(**replica);
    co_await (*replica)->stop(KafkaError::kNotLeaderOrFollower);
    replica->reset();
    static_cast<void>(co_await (*logs)->close());
    co_return true;
  }
  static Instant in(Duration time) { return io::Shard::current().now() + time; }
  static io::Task<AppendOutcome> committed(Replica& replica, NewBatch made) {
    auto out = co_await replica.append(std::move(made));
    EXPECT_EQ(out.error, KafkaError::kNone) << out.message;
    EXPECT_EQ(co_await replica.wait_committed(out.end, in(10s)), KafkaError::kNone);
    co_return out;
  }
  /// From now on syncs of segment files take `time`, or fail.
  void slow_syncs(Duration time) {
    node_.disk().options().slow = 1;
    node_.disk().options().slow_by = time;
  }
  void fail_syncs() {
    node_.disk().set_hook([](DiskOp op, const std::string& path) {
      return op == DiskOp::kSync && path.ends_with(".log") ? DiskFault::kError : DiskFault::kNone;
    });
  }

  Simulator sim_;
  Node& node_;
  Replica::Options options_;
  log::Options logs_;
};

TEST_F(ReplicaTest, writes_offsets_and_its_epoch_into_the_batch) {
  life(
      [](Replica& replica) -> io::Task<void> {
        const auto first = co_await committed(replica, batch(3));
        EXPECT_EQ(first.base, Offset(0));
        EXPECT_EQ(first.end, Offset(3));
        NewBatch next = batch(2);
        const std::shared_ptr<void> kept = next.owner;
        const MutableBytes bytes = next.bytes;
        const auto second = co_await committed(replica, std::move(next));
        const auto header = parse_batch_header(bytes).value();
        EXPECT_EQ(header.base_offset, 3);
        EXPECT_EQ(header.leader_epoch, 7);
        EXPECT_EQ(second.end, Offset(5));
        EXPECT_EQ(batch_crc(bytes), header.crc);
      },
      7);
}

TEST_F(ReplicaTest, takes_nothing_before_it_leads) {
  life(
      [](Replica& replica) -> io::Task<void> {
        const auto out = co_await replica.append(batch());
        EXPECT_EQ(out.error, KafkaError::kLeaderNotAvailable);
        EXPECT_EQ(replica.log_end(), Offset(0));
      },
      0);
}

TEST_F(ReplicaTest, the_high_watermark_waits_for_the_sync) {
  life([this](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch());
    slow_syncs(1s);
    const auto out = co_await replica.append(batch());
    EXPECT_EQ(out.error, KafkaError::kNone);
    EXPECT_EQ(replica.log_end(), Offset(2));
    EXPECT_EQ(replica.high_watermark(), Offset(1));
    EXPECT_EQ(co_await replica.wait_committed(out.end, in(100ms)), KafkaError::kRequestTimedOut);
    const auto read = co_await replica.read(Offset(1), 1 << 20, true);
    EXPECT_TRUE(read);
    EXPECT_EQ(read->bytes, 0u) << "a record above the high watermark was read";
    EXPECT_EQ(co_await replica.wait_committed(out.end, in(10s)), KafkaError::kNone);
    EXPECT_EQ(replica.high_watermark(), Offset(2));
  });
}

TEST_F(ReplicaTest, an_append_during_a_sync_waits_for_the_next_one) {
  life([this](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch());
    slow_syncs(1s);
    const auto first = co_await replica.append(batch());
    co_await io::sleep_for(500ms);  // the sync is under way
    const auto second = co_await replica.append(batch());
    EXPECT_EQ(co_await replica.wait_committed(first.end, in(10s)), KafkaError::kNone);
    EXPECT_EQ(replica.high_watermark(), first.end) << "the sync that ran did not cover it";
    EXPECT_EQ(co_await replica.wait_committed(second.end, in(10s)), KafkaError::kNone);
  });
}

TEST_F(ReplicaTest, os_and_memory_commit_with_the_write) {
  for (const Durability durability : {Durability::kOs, Durability::kMemory}) {
    options_.log.durability = durability;
    life([](Replica& replica) -> io::Task<void> {
      const Offset before = replica.log_end();
      static_cast<void>(co_await replica.append(batch()));
      EXPECT_EQ(replica.high_watermark(), Offset(before.value + 1));
      co_return;
    });
    node_.kill();
    node_.restart();
  }
}

TEST_F(ReplicaTest, a_duplicate_joins_the_wait_of_the_original) {
  life([this](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch());
    slow_syncs(1s);
    const auto original = co_await replica.append(batch(2, {9, 0, 0}));
    const auto again = co_await replica.append(batch(2, {9, 0, 0}));
    EXPECT_EQ(again.error, KafkaError::kNone);
    EXPECT_EQ(again.base, original.base);
    EXPECT_EQ(again.end, original.end);
    EXPECT_EQ(replica.log_end(), original.end) << "it was written twice";
    EXPECT_EQ(co_await replica.wait_committed(again.end, in(10ms)), KafkaError::kRequestTimedOut);
    EXPECT_EQ(co_await replica.wait_committed(again.end, in(10s)), KafkaError::kNone);
  });
}

TEST_F(ReplicaTest, refuses_gaps_fenced_and_unknown_producers) {
  life([](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch(2, {9, 1, 0}));
    const auto error_of = [&](Sequence sequence) -> io::Task<KafkaError> {
      co_return (co_await replica.append(batch(1, sequence))).error;
    };
    EXPECT_EQ(co_await error_of({9, 1, 3}), KafkaError::kOutOfOrderSequenceNumber);
    EXPECT_EQ(co_await error_of({9, 0, 2}), KafkaError::kInvalidProducerEpoch);
    EXPECT_EQ(co_await error_of({8, 0, 5}), KafkaError::kUnknownProducerId);
    EXPECT_EQ(replica.log_end(), Offset(2));
    EXPECT_EQ(co_await error_of({9, 1, 2}), KafkaError::kNone);
  });
}

TEST_F(ReplicaTest, knows_its_producers_after_a_crash) {
  life([](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch(2, {9, 0, 0}));
    co_await committed(replica, batch(1, {9, 0, 2}));
  });
  node_.lose_power();
  node_.restart();
  life(
      [](Replica& replica) -> io::Task<void> {
        EXPECT_EQ(replica.high_watermark(), Offset(3));
        const auto again = co_await replica.append(batch(1, {9, 0, 2}));
        EXPECT_EQ(again.base, Offset(2));
        EXPECT_EQ((co_await replica.append(batch(1, {9, 0, 3}))).base, Offset(3));
      },
      2);
}

TEST_F(ReplicaTest, a_snapshot_that_claims_more_than_the_log_is_left_aside) {
  producer::ProducerTable table;
  table.apply(batch(5, {9, 0, 0}).header, Offset(0), producer::RunningMs{1});
  life(
      [](Replica& replica) -> io::Task<void> {
        EXPECT_EQ(replica.producers().size(), 0u);
        EXPECT_EQ((co_await replica.append(batch(1, {9, 0, 0}))).base, Offset(0));
      },
      1, table.snapshot(Offset(5)).value());
}

TEST_F(ReplicaTest, a_snapshot_that_ends_inside_a_batch_is_left_aside) {
  life([](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch(2, {9, 0, 0}));
    co_await committed(replica, batch(1, {9, 0, 2}));
  });
  producer::ProducerTable table;
  table.apply(batch(1, {8, 0, 0}).header, Offset(0), producer::RunningMs{1});
  life(
      [](Replica& replica) -> io::Task<void> {
        EXPECT_EQ(replica.producers().size(), 1u);
        EXPECT_EQ((co_await replica.append(batch(1, {9, 0, 2}))).base, Offset(2));
        EXPECT_EQ((co_await replica.append(batch(1, {9, 0, 3}))).base, Offset(3));
      },
      2, table.snapshot(Offset(1)).value());
}

TEST_F(ReplicaTest, a_snapshot_that_ends_at_the_start_inside_a_compacted_batch_is_left_aside) {
  options_.log.segment_bytes = 4000;
  options_.log.compaction = log::Compaction{0.0, 0, INT64_MAX, 1'000'000};
  std::optional<Bytes> snapshot;
  life([&](Replica& replica) -> io::Task<void> {
    for (int i = 0; i < 3; ++i) co_await committed(replica, batch(2));
    snapshot = replica.producers().snapshot(Offset(6)).value();
    EXPECT_TRUE((co_await replica.delete_records_below(Offset(6))).has_value());
    for (int i = 0; i < 3; ++i) co_await committed(replica, batch(2));
    EXPECT_TRUE((co_await replica.log().roll()).has_value());
    co_await io::sleep_for(100ms);
    log::CompactionCall call;
    call.now = io::Shard::current().wall();
    const auto done = co_await replica.compact(call);
    EXPECT_TRUE(done && done->passes == 1);
    // What lies on both sides of the start is one batch now.
    const auto read = co_await replica.read(Offset(6), 1 << 20, true);
    EXPECT_TRUE(read && read->first == Offset(0)) << read->first.value;
  });
  life(
      [](Replica& replica) -> io::Task<void> {
        EXPECT_EQ(replica.producers().end(), Offset(12));
        EXPECT_EQ((co_await committed(replica, batch())).base, Offset(12));
      },
      2, std::move(snapshot));
}

class HoldTest : public ReplicaTest {
 protected:
  HoldTest() { options_.log.segment_bytes = 300; }
  /// Segments of three records, all but the last closed.
  static io::Task<void> fill(Replica& replica, int records) {
    for (int i = 0; i < records; ++i) co_await committed(replica, batch());
    EXPECT_TRUE((co_await replica.log().roll()).has_value());
    co_await committed(replica, batch());
    co_await io::sleep_for(100ms);
  }
  static io::Task<Result<void>> retain(Replica& replica) {
    co_return co_await replica.retain(io::Shard::current().wall());
  }
  static io::Task<Code> refused_hold(Replica& replica, std::int64_t offset) {
    const auto held = co_await replica.hold("late", Offset(offset));
    EXPECT_FALSE(held);
    co_return held ? Code::kNotFound : held.error().code;
  }
};

TEST_F(HoldTest, retention_stops_where_somebody_reads) {
  options_.log.retention = {-1, 0};
  life([](Replica& replica) -> io::Task<void> {
    co_await fill(replica, 30);
    EXPECT_TRUE((co_await replica.hold("behind", Offset(10))).has_value());
    EXPECT_TRUE((co_await replica.hold("ahead", Offset(25))).has_value());
    EXPECT_TRUE((co_await retain(replica)).has_value());
    EXPECT_GT(replica.log_start(), Offset(5));
    EXPECT_LE(replica.log_start(), Offset(10));
    EXPECT_TRUE((co_await replica.read(Offset(10), 1, true)).has_value());
    const std::uint64_t held_back = replica.log().held_back_bytes();
    EXPECT_GT(held_back, 1'000u);

    EXPECT_TRUE((co_await replica.hold("behind", Offset(20))).has_value()) << "it moves";
    EXPECT_TRUE((co_await retain(replica)).has_value());
    EXPECT_GT(replica.log_start(), Offset(15));
    EXPECT_LE(replica.log_start(), Offset(20));
    EXPECT_LT(replica.log().held_back_bytes(), held_back);
    replica.release("behind");
    EXPECT_TRUE((co_await retain(replica)).has_value());
    EXPECT_GT(replica.log_start(), Offset(20));
    EXPECT_LE(replica.log_start(), Offset(25));
    replica.release("ahead");
    EXPECT_TRUE((co_await retain(replica)).has_value());
    EXPECT_EQ(replica.log_start(), Offset(30)) << "the active segment stays";
    EXPECT_EQ(replica.log().held_back_bytes(), 0u);
  });
}

TEST_F(HoldTest, records_cannot_be_deleted_beyond_it) {
  life([](Replica& replica) -> io::Task<void> {
    co_await fill(replica, 10);
    EXPECT_TRUE((co_await replica.hold("view of orders", Offset(4))).has_value());
    const auto refused = co_await replica.delete_records_below(Offset(5));
    EXPECT_EQ(refused.error().code, Code::kFenced);
    EXPECT_NE(refused.error().message.find("view of orders"), std::string::npos);
    EXPECT_EQ(replica.log_start(), Offset(0));
    EXPECT_TRUE((co_await replica.delete_records_below(Offset(4))).has_value());
    EXPECT_EQ(replica.log_start(), Offset(4));
    EXPECT_EQ(co_await refused_hold(replica, 3), Code::kOutOfRange) << "they are gone";
    EXPECT_EQ(co_await refused_hold(replica, 12), Code::kOutOfRange) << "they are not there yet";
    for (std::size_t i = replica.holds().size(); i < Replica::kMaxHolds; ++i) {
      EXPECT_TRUE((co_await replica.hold("h" + std::to_string(i), Offset(11))).has_value());
    }
    EXPECT_EQ(co_await refused_hold(replica, 5), Code::kExhausted);
    EXPECT_EQ(replica.holds().size(), Replica::kMaxHolds);
  });
}

TEST_F(HoldTest, a_refused_hold_leaves_the_earlier_one_of_its_name) {
  life([](Replica& replica) -> io::Task<void> {
    co_await fill(replica, 10);
    EXPECT_TRUE((co_await replica.delete_records_below(Offset(4))).has_value());
    EXPECT_TRUE((co_await replica.hold("late", Offset(6))).has_value());
    EXPECT_EQ(co_await refused_hold(replica, 3), Code::kOutOfRange);
    EXPECT_EQ(replica.holds().at("late"), Offset(6));
  });
}

TEST_F(HoldTest, a_hold_that_comes_while_records_go_is_granted_only_if_its_own_stay) {
  options_.log.retention = {-1, 0};
  life([this](Replica& replica) -> io::Task<void> {
    co_await fill(replica, 30);
    slow_syncs(500ms);
    io::TaskGroup group;
    group.spawn([](Replica& r) -> io::Task<void> {
      EXPECT_TRUE((co_await retain(r)).has_value());
    }(replica));
    co_await io::yield();
    EXPECT_EQ(replica.log_start(), Offset(0)) << "it is at work";
    EXPECT_EQ(co_await refused_hold(replica, 0), Code::kOutOfRange);
    co_await group.join();
    EXPECT_EQ(replica.log_start(), Offset(30));
    EXPECT_TRUE(replica.holds().empty());
  });
}

TEST_F(HoldTest, compaction_ends_for_a_hold_and_goes_on_without) {
  options_.log.compaction = log::Compaction{0.0, 0, INT64_MAX, 1'000'000};
  life([](Replica& replica) -> io::Task<void> {
    co_await fill(replica, 30);
    log::CompactionCall call;
    call.now = io::Shard::current().wall();
    std::optional<Result<log::Compacted>> slow;
    io::TaskGroup group;
    group.spawn([](Replica& r, log::CompactionCall how, auto& done) -> io::Task<void> {
      how.bytes_per_second = 10;
      done = co_await r.compact(how);
    }(replica, call, slow));
    co_await io::sleep_for(1s);
    EXPECT_FALSE(slow.has_value()) << "it is at work";
    const Instant began = io::Shard::current().now();
    EXPECT_TRUE((co_await replica.hold("view", Offset(0))).has_value());
    EXPECT_LT(io::Shard::current().now() - began, 1s);
    co_await group.join();
    EXPECT_EQ(slow->error().code, Code::kCancelled);
    const std::uint64_t bytes = replica.log().size_bytes();
    auto held = co_await replica.compact(call);
    EXPECT_TRUE(held && held->passes == 0);
    EXPECT_EQ(replica.log().size_bytes(), bytes);
    replica.release("view");
    auto done = co_await replica.compact(call);
    EXPECT_TRUE(done && done->passes == 1);
    EXPECT_LT(replica.log().size_bytes(), bytes);
  });
}

TEST_F(ReplicaTest, appends_keep_their_order_while_segments_roll) {
  options_.log.segment_bytes = 300;
  life([](Replica& replica) -> io::Task<void> {
    std::vector<std::int64_t> bases(40, -1);
    io::TaskGroup group;
    for (std::size_t i = 0; i < bases.size(); ++i) {
      group.spawn([](Replica& r, std::int64_t& base) -> io::Task<void> {
        base = (co_await r.append(batch())).base.value;
      }(replica, bases[i]));
    }
    co_await group.join();
    for (std::size_t i = 0; i < bases.size(); ++i) {
      EXPECT_EQ(bases[i], static_cast<std::int64_t>(i));
    }
  });
}

TEST_F(ReplicaTest, a_failed_sync_takes_it_offline_and_tells_all_who_wait) {
  life([this](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch());
    fail_syncs();
    const auto watcher = std::make_shared<Told>();
    replica.watch(Offset(1), watcher);
    const auto out = co_await replica.append(batch());
    EXPECT_EQ(co_await replica.wait_committed(out.end, in(10s)), KafkaError::kKafkaStorageError);
    EXPECT_EQ(watcher->times, 1) << "a reader would wait for nothing";
    EXPECT_TRUE(replica.offline());
    node_.disk().set_hook({});
    EXPECT_EQ((co_await replica.append(batch())).error, KafkaError::kKafkaStorageError)
        << "a sync that failed must not be tried again";
    EXPECT_EQ(replica.high_watermark(), Offset(1));
    EXPECT_FALSE(co_await replica.read(Offset(0), 1 << 20, true));
  });
  node_.kill();
  node_.restart();
  life(
      [](Replica& replica) -> io::Task<void> {
        EXPECT_GE(replica.log_end(), Offset(1));
        co_await committed(replica, batch());
      },
      2);
}

TEST_F(ReplicaTest, a_failed_write_takes_it_offline_and_tells_its_readers) {
  life([this](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch());
    const auto watcher = std::make_shared<Told>();
    replica.watch(Offset(1), watcher);
    node_.disk().set_hook([](DiskOp op, const std::string& path) {
      return op == DiskOp::kWrite && path.ends_with(".log") ? DiskFault::kError : DiskFault::kNone;
    });
    EXPECT_EQ((co_await replica.append(batch())).error, KafkaError::kKafkaStorageError);
    EXPECT_EQ(watcher->times, 1);
    node_.disk().set_hook({});
  });
}

TEST_F(ReplicaTest, a_full_disk_refuses_and_then_goes_on) {
  life([this](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch(1, {9, 0, 0}));
    node_.disk().set_hook([](DiskOp op, const std::string& path) {
      return op == DiskOp::kWrite && path.ends_with(".log") ? DiskFault::kNoSpace
                                                            : DiskFault::kNone;
    });
    EXPECT_EQ((co_await replica.append(batch(1, {9, 0, 1}))).error, KafkaError::kKafkaStorageError);
    node_.disk().set_hook({});
    EXPECT_FALSE(replica.offline());
    EXPECT_EQ((co_await committed(replica, batch(1, {9, 0, 1}))).base, Offset(1))
        << "a refused batch must not count in its producer's sequence";
  });
}

TEST_F(ReplicaTest, watchers_hear_once_and_only_of_committed_data) {
  life([this](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch());
    slow_syncs(1s);
    const auto at_end = std::make_shared<Told>();
    const auto behind = std::make_shared<Told>();
    replica.watch(Offset(1), at_end);
    replica.watch(Offset(0), behind);
    EXPECT_EQ(behind->times, 1) << "there is data already";
    const auto out = co_await replica.append(batch());
    EXPECT_EQ(at_end->times, 0);
    EXPECT_EQ(co_await replica.wait_committed(out.end, in(10s)), KafkaError::kNone);
    EXPECT_EQ(at_end->times, 1);
    co_await committed(replica, batch());
    EXPECT_EQ(at_end->times, 1);
  });
}

TEST_F(ReplicaTest, stop_wakes_everybody_and_takes_no_more) {
  life([this](Replica& replica) -> io::Task<void> {
    co_await committed(replica, batch());
    slow_syncs(1s);
    const auto out = co_await replica.append(batch());
    const auto watcher = std::make_shared<Told>();
    replica.watch(Offset(1), watcher);
    io::TaskGroup group;
    KafkaError waited = KafkaError::kNone;
    group.spawn([](Replica& r, Offset end, KafkaError& to) -> io::Task<void> {
      to = co_await r.wait_committed(end, in(10s));
    }(replica, out.end, waited));
    co_await replica.stop(KafkaError::kUnknownTopicOrPartition);
    co_await group.join();
    EXPECT_EQ(waited, KafkaError::kUnknownTopicOrPartition);
    EXPECT_EQ(watcher->times, 1);
    EXPECT_EQ((co_await replica.append(batch())).error, KafkaError::kUnknownTopicOrPartition);
  });
}

TEST_F(ReplicaTest, log_append_time_is_written_and_told) {
  options_.log_append_time = true;
  life([](Replica& replica) -> io::Task<void> {
    NewBatch made = batch(2, {9, 0, 0});
    const auto kept = made.owner;
    const MutableBytes bytes = made.bytes;
    const auto out = co_await committed(replica, std::move(made));
    const auto header = parse_batch_header(bytes).value();
    EXPECT_EQ(out.append_time_ms, header.max_timestamp);
    EXPECT_TRUE(header.log_append_time());
    EXPECT_EQ(batch_crc(bytes), header.crc);
    co_await io::sleep_for(1s);
    EXPECT_EQ((co_await replica.append(batch(2, {9, 0, 0}))).append_time_ms, out.append_time_ms);
  });
}

TEST(ProducerSnapshots, come_back_and_the_one_that_covers_more_wins) {
  Simulator sim(1);
  Node& node = sim.add_node();
  EXPECT_TRUE(node.run([]() -> io::Task<bool> {
    io::Disk& disk = io::Shard::current().disk();
    EXPECT_TRUE(co_await disk.make_dirs("/data"));
    const SnapshotFile one{{{partition(), {Offset(5), Bytes{1}}}}, {7'000}};
    const SnapshotFile two{{{partition(), {Offset(9), Bytes{2}}}}, {5'000}};
    EXPECT_TRUE(co_await write_producer_snapshots(disk, "/data", 0, one));
    EXPECT_TRUE(co_await write_producer_snapshots(disk, "/data", 1, two));
    std::vector<std::string> skipped;
    const auto files = co_await load_producer_snapshots(disk, "/data", skipped);
    EXPECT_TRUE(files && skipped.empty());
    EXPECT_EQ(files->size(), 2u);
    const ProducerSnapshots all = newest(*files);
    EXPECT_EQ(all.at(partition()).covers, Offset(9));
    EXPECT_EQ(all.at(partition()).state, Bytes{2});
    EXPECT_EQ(time_run(*files), producer::RunningMs{7'000}) << "whoever wrote last";
    EXPECT_TRUE(co_await remove_producer_snapshots(disk, "/data", 1));
    EXPECT_EQ((co_await load_producer_snapshots(disk, "/data", skipped)).value(),
              (SnapshotFiles{{0, one}}));
    co_return true;
  }));
}

TEST(ProducerSnapshots, damage_costs_only_time) {
  const Bytes sound = encode(SnapshotFile{{{partition(), {Offset(5), Bytes{1, 2, 3}}}}, {7'000}});
  for (std::size_t i = 0; i < sound.size(); ++i) {
    Bytes bad = sound;
    bad[i] ^= 0x40;
    EXPECT_FALSE(decode_producer_snapshots(bad)) << i;
    EXPECT_FALSE(decode_producer_snapshots(ByteView(sound).first(i))) << i;
  }
  EXPECT_TRUE(decode_producer_snapshots(sound));
}

TEST(ProducerSnapshots, of_before_there_was_a_clock_are_read) {
  Writer old;
  old.raw(as_bytes("PYRAPROD")).le(std::uint32_t{1}).le(std::uint32_t{1});
  old.raw(partition().topic.uuid.bytes)
      .le(std::int32_t{0})
      .le(std::int64_t{5})
      .sized(Bytes{1, 2, 3});
  old.le(crc32c(old.view()));
  const auto read = decode_producer_snapshots(old.view());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, (SnapshotFile{{{partition(), {Offset(5), Bytes{1, 2, 3}}}}, {}}));
}

}  // namespace
}  // namespace pyralog::replica
