#include "log/partition_log.h"

#include <random>

#include "log/log_testing.h"
#include "observe/log.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;

TEST(PartitionLog, reads_whole_batches_within_limits) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), {})).value();
    std::vector<Bytes> batches;
    for (int i = 0; i < 100; ++i) {
      batches.push_back(batch(i * 3, 1, 3, 1000 + i, 200));
      const Appended done = (co_await append(*log, batches.back())).value();
      EXPECT_EQ(done.first, Offset(i * 3));
      EXPECT_EQ(done.end, Offset(i * 3 + 3));
    }
    EXPECT_EQ((co_await read_all(log, Offset(0))).value(), join(batches));
    EXPECT_EQ((co_await read_all(log, Offset(0), 1)).value(), join(batches));
    EXPECT_EQ((co_await read_all(log, Offset(100), 2500)).value(), join(batches, 33));
    ReadResult r = (co_await log->read(Offset(4), {1, Offset(300), true})).value();
    EXPECT_EQ(r.first, Offset(3));
    EXPECT_EQ(r.next, Offset(6));
    EXPECT_EQ(r.bytes, batches[1].size());
    r = (co_await log->read(Offset(4), {1, Offset(300), false})).value();
    EXPECT_TRUE(r.pieces.empty());
    EXPECT_EQ(r.next, Offset(4));
    r = (co_await log->read(Offset(0), {1u << 20, Offset(30), true})).value();
    EXPECT_EQ(r.next, Offset(30));
    r = (co_await log->read(Offset(0), {1u << 20, Offset(31), true})).value();
    EXPECT_EQ(r.next, Offset(30));
    r = (co_await log->read(Offset(300), {1u << 20, Offset(300), true})).value();
    EXPECT_TRUE(r.pieces.empty());
    EXPECT_EQ((co_await log->read(Offset(301), {1, Offset(400), true})).error().code,
              Code::kOutOfRange);
    co_await shard->abandon();
  });
}

TEST(PartitionLog, refuses_what_does_not_continue_it) {
  Simulator sim(2);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), {}, Offset(50))).value();
    EXPECT_EQ(log->end_offset(), Offset(50));
    (void)(co_await append(*log, batch(50, 4))).value();
    for (const Bytes& wrong : {batch(50, 4), batch(52, 4), batch(51, 3), batch(51, 0)}) {
      EXPECT_EQ((co_await append(*log, wrong)).error().code, Code::kInvalidArgument);
    }
    (void)(co_await append(*log, batch(51, 6, 4))).value();
    EXPECT_EQ(log->epochs(), (std::vector<EpochStart>{{Epoch(4), Offset(50)}, {Epoch(6), Offset(51)}}));
    EXPECT_EQ(log->epoch_end(Epoch(5)), (EpochStart{Epoch(4), Offset(51)}));
    EXPECT_EQ(log->epoch_end(Epoch(9)), (EpochStart{Epoch(6), Offset(55)}));
    EXPECT_EQ(log->epoch_end(Epoch(3)), (EpochStart{Epoch(0), Offset(50)}));
    co_await shard->abandon();
  });
}

LogConfig small_segments() {
  LogConfig c;
  c.segment_bytes = 2000;
  c.index_interval_bytes = 300;
  return c;
}

TEST(PartitionLog, finds_timestamps_inside_compressed_batches) {
  Simulator sim(6);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    for (const Durability durability : {Durability::kFsync, Durability::kMemory}) {
      LogConfig config = small_segments();
      config.durability = durability;
      const PartitionId id = partition(durability == Durability::kMemory ? 2 : 1);
      auto log = (co_await shard->open_log(id, config)).value();
      const Codec codecs[] = {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};
      for (int i = 0; i < 50; ++i) {
        // Later batches overlap earlier ones in time.
        (void)(co_await append(*log, batch(i * 10, 1, 10, 1000 + i * 7, 30, codecs[i % 5]))).value();
      }
      for (std::int64_t ts = 990; ts < 1360; ++ts) {
        std::int64_t want = -1;
        for (std::int64_t o = 0; o < 500 && want < 0; ++o) {
          if (1000 + o / 10 * 7 + o % 10 >= ts) want = o;
        }
        const auto hit = (co_await log->find_timestamp(ts, log->end_offset())).value();
        EXPECT_EQ(hit ? hit->offset.value : -1, want) << ts;
      }
      EXPECT_FALSE((co_await log->find_timestamp(1009, Offset(3))).value());
      EXPECT_EQ(log->max_timestamp().timestamp, 1352);
    }
    co_await shard->abandon();
  });
}

TEST(PartitionLog, a_log_is_deleted_while_others_are_never_at_rest) {
  Simulator sim(6);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    bool stop = false;
    io::TaskGroup busy;
    const auto write = [&](std::uint8_t p) -> io::Task<void> {
      auto log = (co_await shard->open_log(partition(p), {})).value();
      std::int64_t base = 0;
      while (!stop) {
        (void)(co_await append(*log, batch(base++))).value();
        (void)(co_await shard->sync(log)).value();
      }
    };
    for (std::uint8_t p = 1; p <= 3; ++p) busy.spawn(write(p));
    auto log = (co_await shard->open_log(partition(9), {})).value();
    (void)(co_await append(*log, batch(0))).value();
    (void)(co_await shard->sync(log)).value();
    bool deleted = false;
    busy.spawn([](ShardLogs& logs, bool& done) -> io::Task<void> {
      (co_await logs.delete_log(partition(9))).value();
      done = true;
    }(*shard, deleted));
    co_await io::sleep_for(100ms);
    EXPECT_TRUE(deleted);
    stop = true;
    co_await busy.join();
    co_await shard->abandon();
  });
}

TEST(PartitionLog, a_clean_start_opens_no_file) {
  Simulator sim(7);
  Node& node = sim.add_node(quiet_disk());
  constexpr int kLogs = 50;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    for (int i = 0; i < kLogs; ++i) {
      auto log = (co_await shard->open_log(partition(static_cast<std::uint8_t>(i)), {})).value();
      (void)(co_await append(*log, batch(0))).value();
    }
    (co_await shard->close()).value();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    const std::uint64_t before = node.disk().calls();
    for (int i = 0; i < kLogs; ++i) {
      auto log = (co_await shard->open_log(partition(static_cast<std::uint8_t>(i)), {})).value();
      EXPECT_EQ(log->end_offset(), Offset(1));
    }
    EXPECT_EQ(node.disk().calls(), before);
    auto log = shard->find(partition(3));
    EXPECT_EQ((co_await read_all(log, Offset(0))).value(), batch(0));
    EXPECT_EQ(count_files(node, ".clean"), 1u);
    (void)(co_await append(*log, batch(1))).value();
    EXPECT_EQ(count_files(node, ".clean"), 0u);
    EXPECT_EQ((co_await read_all(log, Offset(0))).value(), join({batch(0), batch(1)}));
    co_await shard->abandon();
  });
}

TEST(PartitionLog, truncates_at_batch_boundaries_and_appends_again) {
  for (const int cut : {0, 2, 30, 58, 60}) {
    for (const bool crash : {false, true}) {
      Simulator sim(8);
      Node& node = sim.add_node(quiet_disk());
      std::vector<Bytes> batches;
      node.run([&]() -> io::Task<void> {
        auto shard = (co_await open_shard()).value();
        auto log = (co_await shard->open_log(partition(), small_segments())).value();
        for (int i = 0; i < 30; ++i) {
          batches.push_back(batch(i * 2, static_cast<std::uint32_t>(1 + i / 10), 2, 5000 - i, 90));
          (void)(co_await append(*log, batches.back())).value();
        }
        (void)(co_await shard->sync(log)).value();
        EXPECT_EQ((co_await log->truncate_to(Offset(31))).error().code, Code::kInvalidArgument);
        EXPECT_EQ((co_await log->truncate_to(Offset(61))).error().code, Code::kInvalidArgument);
        (co_await log->truncate_to(Offset(cut))).value();
        batches.resize(static_cast<std::size_t>(cut) / 2);
        EXPECT_EQ(log->end_offset(), Offset(cut));
        if (crash) {
          co_await shard->abandon();
          co_return;
        }
        EXPECT_EQ((co_await read_all(log, Offset(0))).value(), join(batches));
        batches.push_back(batch(cut, 9, 3));
        (void)(co_await append(*log, batches.back())).value();
        EXPECT_EQ((co_await read_all(log, Offset(0))).value(), join(batches));
        (void)(co_await shard->sync(log)).value();
        co_await shard->abandon();
      });
      restart(node, true);
      node.run([&]() -> io::Task<void> {
        auto shard = (co_await open_shard()).value();
        auto opened = co_await shard->open_log(partition(), small_segments());
        EXPECT_TRUE(opened.has_value()) << cut << " " << opened.error().message;
        if (opened) EXPECT_EQ((co_await read_all(*opened, Offset(0))).value(), join(batches));
        co_await shard->abandon();
      });
    }
  }
}

TEST(PartitionLog, drops_whole_segments_below_an_offset) {
  Simulator sim(9);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), small_segments())).value();
    for (int i = 0; i < 60; ++i) (void)(co_await append(*log, batch(i, 1, 1, 7, 200))).value();
    (co_await log->drop_segments_below(Offset(40))).value();
    EXPECT_GT(log->start_offset(), Offset(20));
    EXPECT_LE(log->start_offset(), Offset(40));
    EXPECT_EQ((co_await log->read(Offset(0), {1, Offset(60), true})).error().code,
              Code::kOutOfRange);
    co_await shard->abandon();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), small_segments())).value();
    EXPECT_GT(log->start_offset(), Offset(20));
    EXPECT_EQ(log->end_offset(), Offset(60));
    EXPECT_EQ(log->epochs(), (std::vector<EpochStart>{{Epoch(1), log->start_offset()}}));
    EXPECT_TRUE((co_await read_all(log, log->start_offset())).has_value());
    co_await shard->abandon();
  });
}

TEST(PartitionLog, logs_in_memory_share_a_room_and_the_largest_pays) {
  Simulator sim(10);
  Node& node = sim.add_node(quiet_disk());
  LogConfig config;
  config.durability = Durability::kMemory;
  Options shared = options();
  const std::uint64_t each = batch(0, 1, 1, 1000, 200).size() + MemoryStore::kBookkeepingBytes;
  shared.memory_bytes = 36 * each;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard(shared)).value();
    auto small = (co_await shard->open_log(partition(0), config)).value();
    auto large = (co_await shard->open_log(partition(1), config)).value();
    const auto write = [](PartitionLog& log, int number) -> io::Task<std::uint64_t> {
      const Bytes bytes = batch(number, 1, 1, 1000, 200);
      (void)(co_await append(log, bytes)).value();
      co_return bytes.size();
    };
    const auto batches = [](const PartitionLog& log) {
      return log.end_offset().value - log.start_offset().value;
    };
    const std::uint64_t one = co_await write(*small, 0);
    for (int i = 0; i < 200; ++i) {
      (void)co_await write(*large, i);
      EXPECT_LE(batches(*small) + batches(*large), 36);
    }
    EXPECT_EQ(small->start_offset(), Offset(0)) << "it has less than its share";
    EXPECT_GT(batches(*large), 33);
    // The other one grows at its cost, up to its own share.
    for (int i = 1; i < 200; ++i) (void)co_await write(*small, i);
    EXPECT_LE(batches(*small) + batches(*large), 36);
    EXPECT_GT(batches(*small), 15);
    EXPECT_GT(batches(*large), 15);
    EXPECT_EQ(large->end_offset(), Offset(200));
    EXPECT_TRUE((co_await read_all(large, large->start_offset())).has_value());
    EXPECT_EQ((co_await large->read(Offset(0), {1, Offset(200), true})).error().code,
              Code::kOutOfRange);
    EXPECT_GT(shard->stats().memory_dropped_bytes, 200 * one);
    // What is closed takes no room any more.
    (co_await shard->close()).value();
  });
}

TEST(PartitionLog, memory_logs_write_no_files_and_keep_to_their_budget) {
  Simulator sim(10);
  Node& node = sim.add_node(quiet_disk());
  LogConfig config;
  config.durability = Durability::kMemory;
  config.memory_bytes = 5000;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), config, Offset(7))).value();
    std::vector<Bytes> batches;
    for (int i = 0; i < 100; ++i) {
      batches.push_back(batch(7 + i, 1, 1, 1000, 200));
      (void)(co_await append(*log, batches.back())).value();
      EXPECT_LE(log->size_bytes(), 5000u);
    }
    EXPECT_EQ((co_await shard->sync(log)).value(), Offset(107));
    const Offset start = log->start_offset();
    EXPECT_GT(start, Offset(80));
    const std::size_t kept = static_cast<std::size_t>(start.value - 7);
    EXPECT_EQ((co_await read_all(log, start, 600)).value(), join(batches, kept));
    (co_await log->truncate_to(Offset(105))).value();
    EXPECT_EQ(log->end_offset(), Offset(105));
    EXPECT_EQ(count_files(node, ".log"), 0u);
    (co_await shard->close()).value();
  });
  restart(node, false);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), config)).value();
    EXPECT_EQ(log->start_offset(), Offset(105));
    EXPECT_EQ(log->end_offset(), Offset(105));
    co_await shard->abandon();
  });
}

TEST(PartitionLog, deletes_its_files_and_starts_anew) {
  Simulator sim(11);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), {})).value();
    (void)(co_await append(*log, batch(0))).value();
    (void)(co_await shard->sync(log)).value();
    (co_await shard->delete_log(partition())).value();
    EXPECT_FALSE((co_await append(*log, batch(1))).has_value());
    EXPECT_EQ(count_files(node, ".log"), 0u);
    co_await shard->abandon();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), {})).value();
    EXPECT_EQ(log->end_offset(), Offset(0));
    co_await shard->abandon();
  });
}

TEST(PartitionLog, begins_anew_under_its_name_whatever_the_one_before_had_on_disk) {
  for (const bool clean : {false, true}) {
    Simulator sim(12);
    Node& node = sim.add_node(quiet_disk());
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), {})).value();
      (void)(co_await append(*log, batch(0))).value();
      (void)(co_await shard->sync(log)).value();
      if (clean) {
        EXPECT_TRUE((co_await shard->close()).has_value());
      } else {
        co_await shard->abandon();
      }
    });
    restart(node, true);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      EXPECT_TRUE((co_await shard->open_log(partition(), {})).has_value());
      EXPECT_TRUE((co_await shard->delete_log(partition())).has_value());
      auto log = co_await shard->open_log(partition(), {}, Offset(5));
      EXPECT_TRUE(log) << log.error().message;
      if (!log) co_return;
      EXPECT_EQ((*log)->start_offset(), Offset(5));
      (void)(co_await append(**log, batch(5))).value();
      (void)(co_await shard->sync(*log)).value();
      co_await shard->abandon();
    });
    restart(node, true);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = co_await shard->open_log(partition(), {});
      EXPECT_TRUE(log) << log.error().message;
      if (log) EXPECT_EQ((*log)->end_offset(), Offset(6));
      co_await shard->abandon();
    });
  }
}

TEST(PartitionLog, a_full_disk_does_not_keep_what_is_deleted) {
  for (const bool evidence_missing : {false, true}) {
    Simulator sim(14);
    Node& node = sim.add_node(quiet_disk());
    bool full = false;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      return op == DiskOp::kWrite && full && !path.ends_with(".log") ? DiskFault::kNoSpace
                                                                     : DiskFault::kNone;
    });
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(1), {})).value();
      auto other = (co_await shard->open_log(partition(2), {})).value();
      (void)(co_await append(*log, batch(0))).value();
      (void)(co_await append(*other, batch(0))).value();
      (void)(co_await shard->sync(other)).value();
      full = true;
      if (evidence_missing) (void)(co_await shard->sync(log)).value();
      EXPECT_TRUE((co_await shard->delete_log(partition(1))).has_value());
      EXPECT_EQ(count_files(node, ".log"), 1u);
      full = false;
      for (int i = 1; i < 4; ++i) {
        (void)(co_await append(*other, batch(i))).value();
        (void)(co_await shard->sync(other)).value();
      }
      co_await shard->abandon();
    });
    restart(node, true);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      EXPECT_EQ((co_await shard->open_log(partition(1), {})).value()->end_offset(), Offset(0));
      EXPECT_EQ((co_await shard->open_log(partition(2), {})).value()->end_offset(), Offset(4));
      co_await shard->abandon();
    });
  }
}

TEST(PartitionLog, a_read_that_is_under_way_keeps_no_deleted_file_open) {
  for (int microseconds = 0; microseconds < 1500; microseconds += 10) {
    SCOPED_TRACE(microseconds);
    io::sim::NodeOptions cold = quiet_disk();
    cold.disk.cold_read = 1;
    cold.disk.latency_min = cold.disk.latency_max = std::chrono::microseconds(100);
    Simulator sim(1);
    Node& node = sim.add_node(cold);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(1), {})).value();
      (void)(co_await append(*log, batch(0))).value();
      (co_await log->roll()).value();
      (void)(co_await append(*log, batch(1))).value();
      EXPECT_TRUE((co_await shard->close()).has_value());
    });
    restart(node, false);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(1), {})).value();
      io::TaskGroup group;
      group.spawn([](PartitionLog& l) -> io::Task<void> {
        (void)co_await l.read(Offset(0), {1u << 20, Offset(1), true});
      }(*log));
      co_await io::sleep_for(std::chrono::microseconds(microseconds));
      (co_await shard->delete_log(partition(1))).value();
      co_await group.join();
      EXPECT_EQ(shard->open_files(), 0u);
      co_await shard->abandon();
    });
  }
}

TEST(PartitionLog, files_that_are_only_kept_are_closed_when_no_more_can_be_opened) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    for (int i = 0; i < 4; ++i) {
      (void)(co_await append(*log, batch(i))).value();
      (co_await log->roll()).value();
    }
    EXPECT_TRUE((co_await shard->close()).has_value());
  });
  restart(node, false);
  int refusals = 0;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(co_await log->read(Offset(i), {1u << 20, Offset(i + 1), true}));
    }
    EXPECT_EQ(shard->open_files(), 2u);
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      const bool refused = op == DiskOp::kOpen && path.ends_with(".log") && refusals++ == 0;
      return refused ? DiskFault::kNoDescriptors : DiskFault::kNone;
    });
    EXPECT_TRUE(co_await log->read(Offset(2), {1u << 20, Offset(3), true}));
    EXPECT_EQ(shard->open_files(), 1u);
    co_await shard->abandon();
  });
  EXPECT_EQ(refusals, 2);
}

TEST(PartitionLog, a_want_of_descriptors_is_no_full_disk_and_passes) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  std::vector<std::string> lines;
  observe::capture_log([&](const std::string& line) { lines.push_back(line); });
  bool refuse = true;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    const bool meant = refuse && op == DiskOp::kOpen && path.ends_with(".log");
    return meant ? DiskFault::kNoDescriptors : DiskFault::kNone;
  });
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    const auto refused = co_await append(*log, batch(0));
    EXPECT_TRUE(!refused && io::is_no_descriptors(refused.error()));
    EXPECT_FALSE(!refused && io::is_no_space(refused.error()));
    refuse = false;
    EXPECT_TRUE(co_await append(*log, batch(0)));
    co_await shard->abandon();
  });
  observe::capture_log({});
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("log.no_descriptors"), std::string::npos) << lines[0];
}

TEST(PartitionLog, tells_once_what_keeps_it_from_beginning_a_segment) {
  Simulator sim(1);
  // A place in the code may write so many lines a second; no other test is in this second.
  io::sim::NodeOptions later = quiet_disk();
  later.wall_offset = 20'000h;
  Node& node = sim.add_node(later);
  std::vector<std::string> lines;
  observe::capture_log([&](const std::string& line) { lines.push_back(line); });
  bool refuse = true;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    const bool meant = refuse && op == DiskOp::kWrite && path.ends_with("/epochs.tmp");
    return meant ? DiskFault::kError : DiskFault::kNone;
  });
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), small_segments())).value();
    std::int64_t at = 0;
    while (co_await append(*log, batch(at))) ++at;
    EXPECT_GT(at, 0);
    EXPECT_FALSE(co_await append(*log, batch(at)));
    refuse = false;
    EXPECT_TRUE(co_await append(*log, batch(at)));
    co_await shard->abandon();
  });
  observe::capture_log({});
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("log.cannot_write"), std::string::npos) << lines[0];
  EXPECT_NE(lines[0].find("/epochs.tmp: write failed"), std::string::npos) << lines[0];
}

TEST(PartitionLog, knows_its_end_at_a_time_of_the_server) {
  Simulator sim(12);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), small_segments())).value();
    std::vector<std::int64_t> at;
    for (int i = 0; i < 40; ++i) {
      at.push_back(io::Shard::current().wall().ms);
      (void)(co_await append(*log, batch(i, 1, 1, 7, 200))).value();
      co_await io::sleep_for(50ms);
    }
    for (int i = 1; i < 40; ++i) {
      const std::int64_t before = at[static_cast<std::size_t>(i)] - 1;
      EXPECT_EQ((co_await log->end_offset_at(WallMs{before})).value(), Offset(i));
    }
    EXPECT_EQ((co_await log->end_offset_at(WallMs{at[0] - 1})).value(), Offset(0));
    co_await shard->abandon();
  });
}

TEST(PartitionLog, shares_group_commits) {
  Simulator sim(13);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    std::vector<std::shared_ptr<PartitionLog>> logs;
    for (int i = 0; i < 10; ++i) {
      logs.push_back((co_await shard->open_log(partition(static_cast<std::uint8_t>(i)), {})).value());
      (void)(co_await append(*logs.back(), batch(0))).value();
    }
    io::TaskGroup group;
    for (auto& log : logs) {
      group.spawn([](ShardLogs& s, std::shared_ptr<PartitionLog> l) -> io::Task<void> {
        EXPECT_EQ((co_await s.sync(l)).value(), Offset(1));
      }(*shard, log));
    }
    co_await group.join();
    EXPECT_EQ(shard->stats().syncs, 1u);
    co_await shard->abandon();
  });
}

/// Random appends, reads, rolls, cuts, syncs, stops: the log holds what an array of batches holds.
void random_life(std::uint64_t seed) {
  Simulator sim(seed);
  Node& node = sim.add_node();
  std::mt19937_64 rng(seed);
  const auto draw = [&](std::uint64_t n) { return static_cast<int>(rng() % n); };
  std::vector<Bytes> batches;
  std::vector<std::int64_t> bases;
  std::int64_t end = 0;
  std::uint32_t epoch = 1;
  LogConfig config = small_segments();
  config.segment_bytes = 500 + static_cast<std::uint64_t>(draw(4000));
  for (int life = 0; life < 4; ++life) {
    const bool clean = draw(2) == 0;
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), config)).value();
      EXPECT_EQ(log->end_offset(), Offset(end));
      for (int step = 0; step < 60; ++step) {
        const int what = draw(12);
        if (what < 6) {
          if (draw(10) == 0) ++epoch;
          const int records = 1 + draw(5);
          batches.push_back(batch(end, epoch, records, 1000 + draw(1000),
                                  static_cast<std::size_t>(draw(400))));
          bases.push_back(end);
          end += records;
          (void)(co_await append(*log, batches.back())).value();
        } else if (what < 9 && end > 0) {
          const auto i = static_cast<std::size_t>(draw(batches.size()));
          const auto step_bytes = static_cast<std::uint64_t>(1 + draw(2000));
          EXPECT_EQ((co_await read_all(log, Offset(bases[i]), step_bytes)).value(),
                    join(batches, i));
        } else if (what == 9) {
          (co_await log->roll()).value();
        } else if (what == 10) {
          (void)(co_await shard->sync(log)).value();
        } else if (!batches.empty() && draw(4) == 0) {
          const auto i = static_cast<std::size_t>(draw(batches.size()));
          end = bases[i];
          batches.resize(i);
          bases.resize(i);
          (co_await log->truncate_to(Offset(end))).value();
        }
      }
      EXPECT_EQ((co_await read_all(log, Offset(0))).value(), join(batches));
      if (clean) {
        (co_await shard->close()).value();
      } else {
        co_await shard->abandon();
      }
    });
    restart(node, clean && draw(2) == 0);
  }
}

TEST(PartitionLog, behaves_like_an_array_of_batches) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    random_life(seed);
    if (testing::Test::HasFailure()) break;
  }
}

TEST(PartitionLog, a_read_never_returns_what_is_appended_behind_its_back) {
  for (int microseconds = 0; microseconds < 800; microseconds += 10) {
    SCOPED_TRACE(microseconds);
    io::sim::NodeOptions cold = quiet_disk();
    cold.disk.cold_read = 1;
    cold.disk.latency_min = cold.disk.latency_max = std::chrono::microseconds(100);
    Simulator sim(1);
    Node& node = sim.add_node(cold);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(1), {})).value();
      (void)(co_await append(*log, batch(0))).value();
      io::TaskGroup group;
      group.spawn([](PartitionLog& l) -> io::Task<void> {
        const auto read = (co_await l.read(Offset(0), {1, Offset(1), true})).value();
        EXPECT_EQ(read.next, Offset(1));
        EXPECT_EQ(read.bytes, batch(0).size());
      }(*log));
      co_await io::sleep_for(std::chrono::microseconds(microseconds));
      (void)(co_await append(*log, batch(1))).value();
      co_await group.join();
      co_await shard->abandon();
    });
  }
}

}  // namespace
}  // namespace pyralog::log
