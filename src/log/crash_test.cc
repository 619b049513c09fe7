// Crashes, power loss, failing disks and damage: what was acknowledged is there, or refused by name.
#include <functional>
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

LogConfig small_segments() {
  LogConfig c;
  c.segment_bytes = 1500;
  c.index_interval_bytes = 300;
  return c;
}

std::string dir_of(std::uint8_t n) { return "/data/" + to_string(partition(n)) + "/"; }

/// What a test knows of one partition, whatever happens to the node.
struct Known {
  std::vector<Bytes> batches;     ///< all that were handed to the log, by place
  std::int64_t end = 0;           ///< offset after the last one
  std::int64_t acknowledged = 0;  ///< offset below which everything must survive
};

/// The log is what was written, up to some batch at or behind what was acknowledged.
io::Task<void> check_survivors(std::shared_ptr<PartitionLog> log, Known* known) {
  EXPECT_GE(log->end_offset().value, known->acknowledged);
  const auto bytes = co_await read_all(log, Offset(0), 4000);
  EXPECT_TRUE(bytes.has_value()) << (bytes ? "" : bytes.error().message);
  if (!bytes) co_return;
  Bytes expected;
  std::size_t kept = 0;
  while (expected.size() < bytes->size() && kept < known->batches.size()) {
    const Bytes& next = known->batches[kept++];
    expected.insert(expected.end(), next.begin(), next.end());
  }
  EXPECT_EQ(*bytes, expected);
  known->batches.resize(kept);
  known->end = log->end_offset().value;
}

/// Appends and syncs at random until the steps are done or a log goes offline.
io::Task<void> write_some(ShardLogs& shard, Known* known, std::uint32_t epoch, int steps,
                          std::mt19937_64& rng) {
  const std::shared_ptr<PartitionLog> logs[] = {shard.find(partition(0)), shard.find(partition(1))};
  for (int i = 0; i < steps; ++i) {
    const std::size_t p = rng() % 2;
    Known& k = known[p];
    const int records = static_cast<int>(1 + rng() % 3);
    Bytes bytes = batch(k.end, epoch, records, 1000 + i, rng() % 300);
    k.batches.push_back(bytes);
    auto done = co_await append(*logs[p], std::move(bytes));
    if (!done) {
      if (logs[p]->offline()) co_return;
      k.batches.pop_back();
      continue;
    }
    k.end = done->end.value;
    if (rng() % 3 == 0) continue;
    const auto synced = co_await shard.sync(logs[p]);
    if (!synced) co_return;
    k.acknowledged = std::max(k.acknowledged, synced->value);
  }
}

/// One life of a server with two partitions: recover, check, write.
/// `opened` is called once all logs are open.
io::Task<void> live(Node& node, Known* known, std::uint32_t epoch, int steps, std::uint64_t seed,
                    std::function<void()> opened_all = {}) {
  std::mt19937_64 rng(seed);
  auto opened = co_await open_shard();
  EXPECT_TRUE(opened.has_value() || !node.up()) << opened.error().message;
  if (!opened) co_return;
  ShardLogs& shard = **opened;
  bool sound = true;
  for (std::uint8_t p = 0; p < 2 && sound; ++p) {
    auto log = co_await shard.open_log(partition(p), small_segments());
    sound = log.has_value();
    EXPECT_TRUE(sound || !node.up()) << log.error().message;
    if (sound) co_await check_survivors(*log, &known[p]);
  }
  if (sound && opened_all) opened_all();
  if (sound) co_await write_some(shard, known, epoch, steps, rng);
  if (sound && rng() % 2 == 0) (void)co_await shard.close();
  co_await shard.abandon();
}

TEST(crash_log, acknowledged_records_survive_a_crash_at_every_call) {
  std::uint64_t crashes = 0;
  for (std::uint64_t at = 1; at <= 240; ++at) {
    SCOPED_TRACE(at);
    Simulator sim(at * 6151);
    Node& node = sim.add_node();
    Known known[2];
    for (std::uint32_t life = 1; life <= 3; ++life) {
      std::uint64_t calls = 0;
      const std::uint64_t when = life == 1 ? at : 1 + (at * life * 31) % 150;
      node.disk().set_hook([&](DiskOp, const std::string&) {
        if (++calls != when) return DiskFault::kNone;
        ++crashes;
        return (at + life) % 4 == 0 ? DiskFault::kKill : DiskFault::kPowerLoss;
      });
      const auto done = node.try_run([&] { return live(node, known, life, 30, at * 10 + life); });
      node.disk().set_hook({});
      if (done) node.lose_power();
      node.restart();
    }
    (void)node.try_run([&] { return live(node, known, 9, 0, at); });
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(crashes, 400u);
}

TEST(crash_log, names_that_a_killed_process_left_are_made_durable) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    Simulator sim(seed);
    Node& node = sim.add_node(quiet_disk());
    Known known[2];
    // Killed at some sync of a directory: a partition's, or that of all.
    (void)node.try_run([&] { return live(node, known, 1, 12, seed); });
    std::uint64_t syncs = 0;
    node.disk().set_hook([&](DiskOp op, const std::string&) {
      return op == DiskOp::kSyncDir && ++syncs == 1 + seed % 12 ? DiskFault::kKill
                                                                : DiskFault::kNone;
    });
    if (node.up()) node.kill();
    node.restart();
    (void)node.try_run([&] { return live(node, known, 2, 60, seed + 1); });
    node.disk().set_hook({});
    if (node.up()) node.kill();
    node.restart();
    (void)node.try_run([&] { return live(node, known, 3, 6, seed + 2); });
    node.lose_power();
    node.restart();
    (void)node.try_run([&] { return live(node, known, 4, 0, seed); });
    if (testing::Test::HasFailure()) break;
  }
}

TEST(crash_log, a_failed_sync_takes_the_partition_offline_until_it_is_verified) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    auto other = (co_await shard->open_log(partition(2), {})).value();
    (void)(co_await append(*log, batch(0))).value();
    (void)(co_await append(*other, batch(0))).value();
    (void)(co_await shard->sync(log)).value();
    (void)(co_await append(*log, batch(1))).value();
    (void)(co_await append(*log, batch(2))).value();
    int failures = 0;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      const bool fails = op == DiskOp::kSync && path.starts_with(dir_of(1));
      failures += fails ? 1 : 0;
      return fails ? DiskFault::kError : DiskFault::kNone;
    });
    const auto failed = co_await shard->sync(log);
    EXPECT_EQ(failed.error().code, Code::kIo);
    EXPECT_NE(failed.error().message.find(to_string(partition(1))), std::string::npos);
    EXPECT_EQ(failures, 1);
    node.disk().set_hook({});
    // Never again by the same log object: the pages count as clean now.
    EXPECT_FALSE((co_await shard->sync(log)).has_value());
    EXPECT_FALSE((co_await append(*log, batch(3))).has_value());
    EXPECT_FALSE((co_await log->read(Offset(0), {1, Offset(1), true})).has_value());
    EXPECT_EQ((co_await shard->sync(other)).value(), Offset(1));
    auto again = (co_await shard->reopen(partition(1))).value();
    EXPECT_EQ(again->end_offset(), Offset(1));
    EXPECT_EQ((co_await read_all(again, Offset(0))).value(), batch(0));
    (void)(co_await append(*again, batch(1))).value();
    EXPECT_EQ((co_await shard->sync(again)).value(), Offset(2));
    co_await shard->abandon();
  });
}

TEST(crash_log, a_full_disk_fails_the_append_and_nothing_else) {
  Simulator sim(2);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    (void)(co_await append(*log, batch(0))).value();
    bool full = true;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      return op == DiskOp::kWrite && full && path.ends_with(".log") ? DiskFault::kNoSpace
                                                                    : DiskFault::kNone;
    });
    EXPECT_EQ((co_await append(*log, batch(1, 1, 5))).error().code, Code::kExhausted);
    EXPECT_FALSE(log->offline());
    EXPECT_EQ(log->end_offset(), Offset(1));
    full = false;
    (void)(co_await append(*log, batch(1))).value();
    (void)(co_await shard->sync(log)).value();
    EXPECT_EQ((co_await read_all(log, Offset(0))).value(), join({batch(0), batch(1)}));
    co_await shard->abandon();
  });
}

/// What an operator reads when records are refused: once, not for each record.
TEST(crash_log, says_in_the_log_why_it_refuses) {
  std::vector<std::string> lines;
  observe::capture_log([&](const std::string& line) { lines.push_back(line); });
  const auto said = [&](std::string_view event) {
    return std::count_if(lines.begin(), lines.end(), [&](const std::string& line) {
      return line.find(event) != std::string::npos;
    });
  };
  Simulator sim(3);
  // A place in the code may write so many lines a second; no other test is in this second.
  io::sim::NodeOptions later = quiet_disk();
  later.wall_offset = 10'000h;
  Node& node = sim.add_node(later);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    DiskFault fault = DiskFault::kNoSpace;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      const bool meant = fault == DiskFault::kNoSpace ? op == DiskOp::kWrite : op == DiskOp::kSync;
      return meant && path.ends_with(".log") ? fault : DiskFault::kNone;
    });
    for (const int at : {0, 1}) {  // when its first segment is made, and in the middle of one
      fault = DiskFault::kNoSpace;
      for (int i = 0; i < 3; ++i) EXPECT_FALSE((co_await append(*log, batch(at))).has_value());
      EXPECT_EQ(said("log.no_space"), at + 1);
      fault = DiskFault::kNone;
      (void)(co_await append(*log, batch(at))).value();
    }
    EXPECT_EQ(said("log.partition_offline"), 0);
    fault = DiskFault::kError;
    EXPECT_FALSE((co_await shard->sync(log)).has_value());
    EXPECT_FALSE((co_await shard->sync(log)).has_value());
    EXPECT_EQ(said("log.partition_offline"), 1);
    co_await shard->abandon();
  });
  observe::capture_log({});
}

TEST(crash_log, an_append_cut_short_by_a_full_disk_is_no_damage_after_a_clean_stop) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    Simulator sim(seed);
    Node& node = sim.add_node(quiet_disk());
    bool full = false;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      return op == DiskOp::kWrite && full && path.ends_with(".log") ? DiskFault::kNoSpace
                                                                    : DiskFault::kNone;
    });
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(1), {})).value();
      (void)(co_await append(*log, batch(0))).value();
      full = true;
      EXPECT_EQ((co_await append(*log, batch(1, 1, 5))).error().code, Code::kExhausted);
      full = false;
      log.reset();
      EXPECT_TRUE((co_await shard->close()).has_value());
    });
    node.lose_power();
    node.restart();
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(1), {})).value();
      EXPECT_EQ((co_await read_all(log, Offset(0))).value(), batch(0));
      (void)(co_await append(*log, batch(1))).value();
      co_await shard->abandon();
    });
  }
}

/// Appends, syncs and often cuts a log until the node stops; `floor` is where it must end at least.
io::Task<void> append_and_cut(ShardLogs& shard, std::uint8_t p, std::int64_t* floor,
                              io::SeededRng rng) {
  auto log = (co_await shard.open_log(partition(p), {})).value();
  std::int64_t end = 0;
  for (int i = 0; i < 40; ++i) {
    for (const std::int64_t to = end + 1 + static_cast<std::int64_t>(rng.below(4)); end < to; ++end) {
      if (!co_await append(*log, batch(end))) co_return;
    }
    if (!co_await shard.sync(log)) co_return;
    *floor = end;
    if (rng.chance(0.5)) {
      *floor = end - static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(end)));
      if (!co_await log->truncate_to(Offset(*floor))) co_return;
      end = *floor;
    }
    co_await io::sleep_for(std::chrono::microseconds(rng.below(1500)));
  }
}

/// Rounds and cuts both write the evidence anew after a failure; none may undo the other's.
TEST(crash_log, evidence_that_fails_while_logs_are_cut_stays_true) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE(seed);
    Simulator sim(seed);
    auto disk = quiet_disk();
    disk.disk.latency_max = std::chrono::microseconds(1500);
    Node& node = sim.add_node(disk);
    io::SeededRng rng(seed);
    std::vector<std::int64_t> floors(4, 0);
    bool failing = true;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      const bool evidence = path.find("synced") != std::string::npos;
      return failing && evidence && op != DiskOp::kOpen && rng.chance(0.15) ? DiskFault::kError
                                                                            : DiskFault::kNone;
    });
    node.run([&]() -> io::Task<void> {
      Options o = options();
      o.synced_journal_bytes = 2000;
      auto shard = co_await open_shard(o);
      if (!shard) co_return;
      io::TaskGroup work;
      for (std::uint8_t p = 0; p < floors.size(); ++p) {
        work.spawn(append_and_cut(**shard, p, &floors[p], io::SeededRng(seed * 8 + p)));
      }
      co_await work.join();
      co_await (*shard)->abandon();
    });
    if (seed % 2 == 0) {
      node.kill();
    } else {
      node.lose_power();
    }
    failing = false;
    node.restart();
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      for (std::uint8_t p = 0; p < floors.size(); ++p) {
        auto log = co_await shard->open_log(partition(p), {});
        EXPECT_TRUE(log.has_value()) << log.error().message;
        if (log) EXPECT_GE((*log)->end_offset().value, floors[p]);
      }
      co_await shard->abandon();
    });
    if (testing::Test::HasFailure()) return;
  }
}

TEST(crash_log, lives_with_disks_that_fail_now_and_then) {
  std::uint64_t errors = 0;
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    SCOPED_TRACE(seed);
    Simulator sim(seed);
    Node& node = sim.add_node();
    Known known[2];
    for (std::uint32_t life = 1; life <= 4; ++life) {
      const io::sim::DiskOptions sound = node.disk().options();
      const auto done = node.try_run([&] {
        return live(node, known, life, 40, seed * 10 + life, [&] {
          if (life % 2 == 0) return;
          node.disk().options().sync_error = 0.02;
          node.disk().options().write_error = 0.01;
        });
      });
      EXPECT_TRUE(done.has_value());
      node.disk().options() = sound;
      seed % 2 == 0 ? node.kill() : node.lose_power();
      node.restart();
    }
    (void)node.try_run([&] { return live(node, known, 9, 0, seed); });
    errors += sim.stats()["disk.error_sync"] + sim.stats()["disk.error_write"];
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(errors, 60u);
}

TEST(crash_log, what_comes_during_a_sync_is_not_taken_for_durable) {
  Simulator sim(21);
  io::sim::NodeOptions slow = quiet_disk();
  slow.disk.latency_min = slow.disk.latency_max = 10ms;
  Node& node = sim.add_node(slow);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), {})).value();
    (void)(co_await append(*log, batch(0))).value();
    Offset durable;
    io::TaskGroup beside;
    const auto sync = [&]() -> io::Task<void> { durable = (co_await shard->sync(log)).value(); };
    beside.spawn(sync());
    co_await io::sleep_for(5ms);
    EXPECT_EQ(log->synced_end(), Offset(0)) << "the sync is under way";
    (void)(co_await append(*log, batch(1))).value();
    co_await beside.join();
    EXPECT_EQ(durable, Offset(1));
    EXPECT_EQ(log->synced_end(), Offset(1));
    co_await shard->abandon();
  });
}

}  // namespace
}  // namespace pyralog::log
