// Segments end by size, by age and by hand; what is read never depends on the index files.
#include <algorithm>

#include "log/log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;

/// Appends 60 batches, by size, time or hand in several segments; then removes all indexes.
void roll_and_reopen(Node& node, const LogConfig& config, bool by_hand, bool clean) {
  std::vector<Bytes> batches;
  const LogConfig c = config;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), c)).value();
    for (int i = 0; i < 60; ++i) {
      batches.push_back(batch(i * 2, static_cast<std::uint32_t>(1 + i / 25), 2, 5000 + i * 10, 90));
      (void)(co_await append(*log, batches.back())).value();
      if (by_hand && i % 13 == 12) (co_await log->roll()).value();
      co_await io::sleep_for(10ms);
    }
    (void)(co_await shard->sync(log)).value();
    EXPECT_EQ(log->synced_end(), log->end_offset());
    if (clean) {
      (co_await shard->close()).value();
    } else {
      co_await shard->abandon();
    }
  });
  EXPECT_GE(count_files(node, ".log"), 3u);
  restart(node, false);
  if (!clean) EXPECT_EQ(count_files(node, ".clean"), 0u);
  for (const bool indexes : {true, false}) {
    if (!indexes) {
      node.run([&]() -> io::Task<void> {
        io::Disk& disk = io::Shard::current().disk();
        for (const std::string& path : node.disk().files()) {
          if (path.ends_with("index")) (co_await disk.remove(path)).value();
        }
      });
      EXPECT_EQ(count_files(node, "index"), 0u);
    }
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), c)).value();
      EXPECT_EQ(shard->stats().scanned_bytes == 0, clean);
      EXPECT_EQ(log->end_offset(), Offset(120));
      EXPECT_EQ(log->epochs().size(), 3u);
      EXPECT_EQ(log->max_timestamp().timestamp, 5591);
      for (const int from : {0, 1, 47, 119}) {
        EXPECT_EQ((co_await read_all(log, Offset(from), 700)).value(),
                  join(batches, static_cast<std::size_t>(from / 2)));
      }
      for (int i = 0; i < 60; ++i) {
        const auto hit = (co_await log->find_timestamp(5000 + i * 10, Offset(120))).value();
        EXPECT_TRUE(hit && hit->offset == Offset(i * 2)) << i;
      }
      EXPECT_FALSE((co_await log->find_timestamp(5592, Offset(120))).value());
      co_await shard->abandon();
    });
  }
}

LogConfig small_segments() {
  LogConfig c;
  c.segment_bytes = 2000;
  c.index_interval_bytes = 300;
  return c;
}

TEST(segment_roll, by_size_reads_the_same_without_indexes) {
  for (const bool clean : {true, false}) {
    Simulator sim(3);
    roll_and_reopen(sim.add_node(quiet_disk()), small_segments(), false, clean);
  }
}

TEST(segment_roll, by_time_reads_the_same_without_indexes) {
  LogConfig c;
  c.segment_ms = 120;
  for (const bool clean : {true, false}) {
    Simulator sim(4);
    roll_and_reopen(sim.add_node(quiet_disk()), c, false, clean);
  }
}

TEST(segment_roll, by_hand_reads_the_same_without_indexes) {
  for (const bool clean : {true, false}) {
    Simulator sim(5);
    roll_and_reopen(sim.add_node(quiet_disk()), {}, true, clean);
  }
}

/// Reads from every offset on, and finds every timestamp; each batch has three records.
io::Task<void> expect_all(std::shared_ptr<PartitionLog> log, std::vector<Bytes> batches,
                          std::string what) {
  for (std::int64_t o = 0; o < log->end_offset().value; ++o) {
    const auto bytes = co_await read_all(log, Offset(o), 400);
    EXPECT_TRUE(bytes.has_value()) << what << ": " << bytes.error().message;
    if (bytes)
      EXPECT_EQ(*bytes, join(batches, static_cast<std::size_t>(o / 3))) << what << ", from " << o;
    const auto hit = co_await log->find_timestamp(1000 + o, log->end_offset());
    EXPECT_TRUE(hit && *hit && (*hit)->offset == Offset(o)) << what << ", time of " << o;
  }
}

TEST(segment_roll, the_new_segment_does_not_wait_for_the_old_ones_sync) {
  Simulator sim(11);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), small_segments())).value();
    int i = 0;
    for (; i < 5; ++i) (void)(co_await append(*log, batch(i, 1, 1, 7, 200))).value();
    const std::string old = segment_file_name(log->start_offset(), "log");
    std::vector<std::string> synced;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      if (op == DiskOp::kSync && path.ends_with(".log")) synced.push_back(path);
      return DiskFault::kNone;
    });
    while (shard->stats().rolls == 0) {
      (void)(co_await append(*log, batch(i++, 1, 1, 7, 200))).value();
    }
    EXPECT_EQ(synced.size(), 1u) << "a large file's sync would hold up the small ones";
    if (!synced.empty()) EXPECT_FALSE(synced.front().ends_with(old));
    co_await io::sleep_for(1s);
    EXPECT_EQ(std::ranges::count_if(synced, [&](const auto& p) { return p.ends_with(old); }), 1)
        << "but it comes";
    EXPECT_EQ(log->synced_end(), log->end_offset());
    node.disk().set_hook({});
    co_await shard->abandon();
  });
}

TEST(segment_roll, takes_no_file_away_that_it_did_not_make) {
  Simulator sim(7);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    io::Disk& disk = io::Shard::current().disk();
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), small_segments())).value();
    (void)(co_await append(*log, batch(0))).value();
    (void)(co_await shard->sync(log)).value();
    const std::string path = log->dir() + "/" + segment_file_name(Offset(1), "log");
    const Bytes strange{1, 2, 3};
    (co_await io::replace_file(disk, path, strange)).value();
    EXPECT_EQ((co_await log->roll()).error().code, Code::kIo);
    EXPECT_TRUE(log->offline());
    EXPECT_EQ(node.disk().peek(path).value(), strange);
    co_await shard->abandon();
  });
}

TEST(segment_roll, a_file_that_cannot_be_begun_is_tried_again) {
  Simulator sim(7);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), small_segments())).value();
    (void)(co_await append(*log, batch(0))).value();
    const std::string path = log->dir() + "/" + segment_file_name(Offset(1), "log");
    DiskOp at = DiskOp::kOpen;
    node.disk().set_hook([&](DiskOp op, const std::string& p) {
      return op == at && p == path ? DiskFault::kError : DiskFault::kNone;
    });
    EXPECT_EQ((co_await log->roll()).error().code, Code::kIo);
    EXPECT_EQ((co_await append(*log, batch(1))).error().code, Code::kIo);
    EXPECT_FALSE(log->offline());
    node.disk().set_hook({});
    EXPECT_EQ((co_await append(*log, batch(1))).value().first, Offset(1));
    (void)(co_await shard->sync(log)).value();
    EXPECT_EQ((co_await read_all(log, Offset(0))).value(), join({batch(0), batch(1)}));
    // What was begun may lie there in part.
    at = DiskOp::kSync;
    const std::string next = log->dir() + "/" + segment_file_name(Offset(2), "log");
    node.disk().set_hook([&](DiskOp op, const std::string& p) {
      return op == at && p == next ? DiskFault::kError : DiskFault::kNone;
    });
    EXPECT_EQ((co_await log->roll()).error().code, Code::kIo);
    EXPECT_TRUE(log->offline());
    co_await shard->abandon();
  });
}

TEST(segment_roll, makes_its_file_again_when_there_is_space) {
  for (const DiskOp at : {DiskOp::kOpen, DiskOp::kWrite, DiskOp::kSync, DiskOp::kSyncDir}) {
    Simulator sim(7);
    Node& node = sim.add_node(quiet_disk());
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), small_segments())).value();
      (void)(co_await append(*log, batch(0))).value();
      (void)(co_await shard->sync(log)).value();
      const std::string path = log->dir() + "/" + segment_file_name(Offset(1), "log");
      node.disk().set_hook([&](DiskOp op, const std::string& p) {
        return op == at && (p == path || p == log->dir()) ? DiskFault::kNoSpace : DiskFault::kNone;
      });
      EXPECT_EQ((co_await log->roll()).error().code, Code::kExhausted);
      EXPECT_FALSE(log->offline());
      EXPECT_FALSE(node.disk().peek(path));
      node.disk().set_hook({});
      (void)(co_await append(*log, batch(1))).value();
      EXPECT_EQ((co_await read_all(log, Offset(0))).value(), join({batch(0), batch(1)}));
      co_await shard->abandon();
    });
  }
}

TEST(segment_roll, a_segment_that_could_not_be_made_is_not_found_after_a_clean_stop) {
  for (const int tries : {1, 2}) {
    Simulator sim(21);
    Node& node = sim.add_node(quiet_disk());
    bool full = false;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      const bool second =
          path.ends_with(".log") && !path.ends_with(segment_file_name(Offset(0), "log"));
      if (!full || !second) return DiskFault::kNone;
      if (op == DiskOp::kRemove) return DiskFault::kError;
      return op == DiskOp::kWrite ? DiskFault::kNoSpace : DiskFault::kNone;
    });
    Bytes whole;
    std::int64_t end = 0;
    const auto add = [&](PartitionLog& log) -> io::Task<bool> {
      Bytes bytes = batch(end, 1, 1, 7, 300);
      const auto added = co_await append(log, bytes);
      if (!added) co_return false;
      whole = join({whole, bytes});
      ++end;
      co_return true;
    };
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), small_segments())).value();
      full = true;
      while (co_await add(*log)) continue;
      if (tries > 1) EXPECT_FALSE(co_await add(*log));
      full = false;
      EXPECT_TRUE((co_await shard->close()).has_value());
    });
    node.kill();
    for (int life = 0; life < 2; ++life) {
      node.restart();
      node.run([&]() -> io::Task<void> {
        auto shard = (co_await open_shard()).value();
        LogConfig config = small_segments();
        config.segment_bytes = 3000;  // the last segment goes on beyond where it ended
        auto log = (co_await shard->open_log(partition(), config)).value();
        EXPECT_EQ((co_await read_all(log, Offset(0), 3000)).value(), whole);
        for (int i = 0; i < 12; ++i) EXPECT_TRUE(co_await add(*log));
        (void)(co_await shard->sync(log)).value();
        co_await shard->abandon();
      });
      node.kill();
    }
  }
}

TEST(segment_roll, indexes_of_closed_segments_take_bounded_memory) {
  Options bounded = options();
  bounded.max_index_bytes = 2000;
  for (const bool clean : {true, false}) {
    Simulator sim(8);
    Node& node = sim.add_node(quiet_disk());
    std::vector<Bytes> batches;
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), small_segments())).value();
      for (int i = 0; i < 600; ++i) {
        batches.push_back(batch(i, 1, 1, 1000 + i, 200));
        (void)(co_await append(*log, batches.back())).value();
      }
      if (clean) {
        (co_await shard->close()).value();
      } else {
        co_await shard->abandon();  // without evidence: all of it is scanned
      }
    });
    restart(node, false);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard(bounded)).value();
      auto log = (co_await shard->open_log(partition(), small_segments())).value();
      // The active segment's index is not among those that may go.
      const std::size_t most = bounded.max_index_bytes + 500;
      EXPECT_LE(log->index_memory_bytes(), most);
      for (int round = 0; round < 2; ++round) {
        for (std::size_t i = 0; i < batches.size(); ++i) {
          const Offset at(static_cast<std::int64_t>(i * 7 % batches.size()));
          const auto read = (co_await log->read(at, {1, Offset(600), true})).value();
          EXPECT_EQ((co_await bytes_of(read)).value(), batches[static_cast<std::size_t>(at.value)]);
          EXPECT_LE(log->index_memory_bytes(), most);
        }
      }
      EXPECT_GT(log->index_memory_bytes(), 1000u) << "it keeps what it may";
      // Nothing is lost of what the indexes know.
      for (int i = 0; i < 600; i += 50) {
        const auto hit = (co_await log->find_timestamp(1000 + i, Offset(600))).value();
        EXPECT_TRUE(hit && hit->offset == Offset(i)) << i;
      }
      EXPECT_GT(count_files(node, ".timeindex"), 50u);
      co_await shard->abandon();
    });
  }
}

TEST(segment_roll, a_damaged_index_changes_no_read) {
  Simulator sim(6);
  Node& node = sim.add_node(quiet_disk());
  std::vector<Bytes> batches;
  LogConfig config;
  config.segment_bytes = 800;
  config.index_interval_bytes = 100;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), config)).value();
    for (int i = 0; i < 12; ++i) {
      batches.push_back(batch(i * 3, 1, 3, 1000 + i * 3, 10));
      (void)(co_await append(*log, batches.back())).value();
    }
    (co_await shard->close()).value();
  });
  std::size_t damaged = 0;
  for (const std::string& path : node.disk().files()) {
    if (!path.ends_with("index")) continue;
    const Bytes content = node.disk().peek(path).value();
    for (std::uint64_t at = 0; at < content.size(); ++at) {
      ASSERT_TRUE(node.disk().corrupt(path, at, 0x02).has_value());
      node.run([&]() -> io::Task<void> {
        auto shard = (co_await open_shard()).value();
        auto log = (co_await shard->open_log(partition(), config)).value();
        co_await expect_all(log, batches, path + " byte " + std::to_string(at));
        co_await shard->abandon();
      });
      ASSERT_TRUE(node.disk().corrupt(path, at, 0x02).has_value());
      ++damaged;
      if (testing::Test::HasFailure()) return;
    }
  }
  EXPECT_GT(damaged, 150u);
}

}  // namespace
}  // namespace pyralog::log
