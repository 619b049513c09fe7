// Rounds of group commit that begin while others are under way: what they share, and what a crash between
// them leaves.
#include <algorithm>
#include <map>
#include <set>

#include "log/committer.h"
#include "log/log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;

constexpr std::uint8_t kLogs = 6;

Options ahead(std::uint64_t bytes, std::size_t min_files) {
  Options o = options();
  o.write_ahead_bytes = bytes;
  o.write_ahead_min_files = min_files;
  return o;
}

/// Appends a batch and waits until it is durable, again and again; each of several at a time.
io::Task<void> write_on(ShardLogs* shard, std::shared_ptr<PartitionLog> log, std::uint32_t epoch,
                        int batches, std::int64_t* acknowledged, std::uint64_t* calls) {
  for (int i = 0; i < batches; ++i) {
    const std::int64_t at = log->end_offset().value;
    if (!co_await append(*log, batch(at, epoch, 2, 1000 + at, 200))) co_return;
    const auto synced = co_await shard->sync(log);
    if (!synced) co_return;
    EXPECT_GE(synced->value, at + 2);
    *acknowledged = std::max(*acknowledged, synced->value);
    *calls += 1;
    if (i % 3 == 0) co_await io::sleep_for(1ms);
  }
}

using Logs = std::vector<std::shared_ptr<PartitionLog>>;

io::Task<Logs> open_all(ShardLogs& shard, std::uint64_t segment_bytes) {
  Logs logs;
  LogConfig config;
  config.segment_bytes = segment_bytes;
  for (std::uint8_t p = 0; p < kLogs; ++p) {
    auto log = co_await shard.open_log(partition(p), config);
    EXPECT_TRUE(log.has_value() || log.error().code != Code::kCorrupt) << log.error().message;
    if (!log) break;
    logs.push_back(std::move(*log));
  }
  co_return logs;
}

/// One life of a node: everything acknowledged before is there, and writers go on until the disk ends it.
io::Task<void> live(Options o, std::uint64_t segment_bytes, std::uint32_t epoch,
                    std::map<std::size_t, std::int64_t>* acknowledged, std::uint64_t* calls) {
  auto shard = co_await open_shard(std::move(o));
  if (!shard) co_return;
  const Logs logs = co_await open_all(**shard, segment_bytes);
  for (std::size_t p = 0; p < logs.size(); ++p) {
    EXPECT_GE(logs[p]->end_offset().value, (*acknowledged)[p]) << p;
    EXPECT_TRUE((co_await read_all(logs[p], Offset(0))).has_value()) << p;
    (*acknowledged)[p] = std::min((*acknowledged)[p], logs[p]->end_offset().value);
  }
  if (logs.size() == kLogs) {
    io::TaskGroup all;
    for (std::size_t p = 0; p < logs.size(); ++p) {
      for (int writer = 0; writer < 3; ++writer) {
        all.spawn(write_on(shard->get(), logs[p], epoch, 12, &(*acknowledged)[p], calls));
      }
    }
    co_await all.join();
  }
  co_await (*shard)->abandon();
}

/// The power goes, or the process dies, at every call of the disk; `min_files`: whether by way of the
/// write-ahead files.
void lose_power_everywhere(std::size_t min_files) {
  std::uint64_t losses = 0;
  std::uint64_t calls = 0;
  for (std::uint64_t at = 1; at <= 250; ++at) {
    SCOPED_TRACE(at);
    Simulator sim(at * 6271);
    Node& node = sim.add_node();
    std::map<std::size_t, std::int64_t> acknowledged;
    for (std::uint32_t epoch = 1; epoch <= 3; ++epoch) {
      std::uint64_t seen = 0;
      const std::uint64_t when = 20 + at * epoch * 37 % 300;
      node.disk().set_hook([&](DiskOp, const std::string&) {
        if (++seen != when) return DiskFault::kNone;
        ++losses;
        return at % 5 == 0 ? DiskFault::kKill : DiskFault::kPowerLoss;
      });
      const auto done = node.try_run([&]() -> io::Task<void> {
        co_await live(ahead(96 << 10, min_files), at % 2 == 0 ? 4000 : 1 << 20, epoch, &acknowledged,
                      &calls);
      });
      node.disk().set_hook({});
      if (done) node.lose_power();
      node.restart();
      // Nothing of this is damage: nobody was told of what the power took.
      EXPECT_EQ(count_files(node, ".damaged"), 0u);
    }
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(losses, 500u);
  EXPECT_GT(calls, 4000u);
}

TEST(Rounds, what_is_acknowledged_survives_the_power_among_rounds_under_way) {
  lose_power_everywhere(2);
}

TEST(Rounds, so_it_does_where_each_log_is_synced_by_itself) { lose_power_everywhere(100); }

io::Task<void> sync_it(ShardLogs* logs, std::shared_ptr<PartitionLog> log) {
  EXPECT_TRUE((co_await logs->sync(std::move(log))).has_value());
}

/// Three logs with a round behind them, so that what is small goes by way of the write-ahead files.
io::Task<Logs> three_logs(ShardLogs& shard) {
  Logs logs;
  for (std::uint8_t p = 0; p < 3; ++p) logs.push_back((co_await shard.open_log(partition(p), {})).value());
  for (int round = 0; round < 2; ++round) {
    io::TaskGroup all;
    for (const auto& log : logs) EXPECT_TRUE(co_await append(*log, batch(log->end_offset().value)));
    for (const auto& log : logs) all.spawn(sync_it(&shard, log));
    co_await all.join();
  }
  co_return logs;
}

TEST(Rounds, one_that_is_quicker_waits_for_the_one_before) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet_disk());
  const std::string slow = "/data/" + to_string(partition(0)) + "/";
  bool slowly = false;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    const bool long_sync = slowly && op == DiskOp::kSync && path.starts_with(slow) && path.ends_with(".log");
    auto& options = node.disk().options();
    options.latency_min = options.latency_max = long_sync ? Duration(50ms) : Duration(10us);
    return DiskFault::kNone;
  });
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard(ahead(4u << 20, 2))).value();
    const Logs logs = co_await three_logs(*shard);
    const Offset before = logs[0]->synced_end();
    slowly = true;
    io::TaskGroup all;
    // So long that it is synced in its own file, beside the small ones of its round.
    EXPECT_TRUE(co_await append(*logs[0], batch(before.value, 1, 1, 1000, 400'000)));
    EXPECT_TRUE(co_await append(*logs[1], batch(before.value)));
    EXPECT_TRUE(co_await append(*logs[2], batch(before.value)));
    for (const auto& log : logs) all.spawn(sync_it(shard.get(), log));
    co_await io::sleep_for(1ms);
    slowly = false;
    node.disk().options().latency_min = node.disk().options().latency_max = Duration(10us);
    EXPECT_TRUE(co_await append(*logs[0], batch(before.value + 1)));
    EXPECT_TRUE(co_await append(*logs[1], batch(before.value + 1)));
    all.spawn(sync_it(shard.get(), logs[0]));
    all.spawn(sync_it(shard.get(), logs[1]));
    co_await io::sleep_for(10ms);
    EXPECT_EQ(logs[0]->synced_end(), before) << "what lies before it is not durable";
    co_await all.join();
    EXPECT_EQ(logs[0]->synced_end(), Offset(before.value + 2));
    co_await shard->abandon();
  });
}

TEST(Rounds, what_the_power_took_of_one_is_no_damage_though_a_later_one_is_there) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    Simulator sim(seed);
    Node& node = sim.add_node(quiet_disk());
    bool power_goes = false;
    bool slowly = false;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      if (power_goes) return DiskFault::kPowerLoss;
      const bool long_sync = slowly && op == DiskOp::kSync && path.ends_with(".wal");
      auto& options = node.disk().options();
      options.latency_min = options.latency_max = long_sync ? Duration(50ms) : Duration(10us);
      return DiskFault::kNone;
    });
    Offset acknowledged;
    (void)node.try_run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard(ahead(4u << 20, 2))).value();
      const Logs logs = co_await three_logs(*shard);
      acknowledged = logs[0]->synced_end();
      std::string name;
      for (const std::string& path : node.disk().files()) {
        if (path.ends_with(".wal") && node.disk().peek(path)->size() > kWriteAheadFirst) name = path;
      }
      io::Disk& disk = io::Shard::current().disk();
      auto file = (co_await disk.open(name, io::OpenMode::kReadWrite)).value();
      slowly = true;
      io::TaskGroup all;
      std::uint64_t end = 0;
      for (int round = 0; round < 2; ++round) {
        end = file->size();
        for (const auto& log : logs) EXPECT_TRUE(co_await append(*log, batch(acknowledged.value + round)));
        for (const auto& log : logs) all.spawn(sync_it(shard.get(), log));
        co_await io::sleep_for(1ms);
        node.disk().options().latency_min = node.disk().options().latency_max = Duration(10us);
      }
      EXPECT_GT(file->size(), end);
      // The device has the second one's frame, whether by chance or because it felt like it.
      co_await file->write_out(end, file->size() - end);
      power_goes = true;
      (void)co_await disk.exists("/data");
      co_await all.join();
    });
    node.disk().set_hook({});
    node.restart();
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard(ahead(4u << 20, 2))).value();
      for (std::uint8_t p = 0; p < 3; ++p) {
        auto log = co_await shard->open_log(partition(p), {});
        EXPECT_TRUE(log.has_value()) << (log ? "" : log.error().message);
        if (log) EXPECT_GE((*log)->end_offset(), acknowledged);
      }
      co_await shard->abandon();
    });
    EXPECT_EQ(count_files(node, ".damaged"), 0u);
  }
}

TEST(Rounds, many_that_come_during_a_sync_share_the_next) {
  for (const std::size_t min_files : {std::size_t{1}, std::size_t{100}}) {
    Simulator sim(7);
    auto slow = quiet_disk();
    slow.disk.latency_min = slow.disk.latency_max = 5ms;
    Node& node = sim.add_node(slow);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard(ahead(1u << 20, min_files))).value();
      auto log = (co_await shard->open_log(partition(1), {})).value();
      EXPECT_TRUE(co_await append(*log, batch(0)));
      EXPECT_TRUE(co_await shard->sync(log));
      const std::uint64_t before = shard->stats().syncs;
      io::TaskGroup all;
      std::vector<std::int64_t> ends;
      for (int i = 1; i <= 10; ++i) {
        EXPECT_TRUE(co_await append(*log, batch(i)));
        all.spawn([](ShardLogs* logs, std::shared_ptr<PartitionLog> of, int number,
                     std::vector<std::int64_t>* out) -> io::Task<void> {
          const auto synced = co_await logs->sync(std::move(of));
          EXPECT_TRUE(synced && synced->value > number);
          out->push_back(number);
        }(shard.get(), log, i, &ends));
        co_await io::yield();
        co_await io::yield();
      }
      co_await all.join();
      // Three rounds began by themselves; all the others came while these were under way. In a write-ahead file
      // each has a sync of its own; of those of the log's file the second and the third share one.
      EXPECT_EQ(shard->stats().syncs - before, min_files == 1 ? 4u : 3u);
      EXPECT_TRUE(std::ranges::is_sorted(ends));
      EXPECT_EQ(ends.size(), 10u);
      co_await shard->abandon();
    });
  }
}

TEST(Rounds, each_byte_is_copied_once) {
  Simulator sim(8);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard(ahead(1u << 20, 1))).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    io::TaskGroup all;
    std::int64_t acknowledged = 0;
    std::uint64_t calls = 0;
    for (int writer = 0; writer < 8; ++writer) {
      all.spawn(write_on(shard.get(), log, 1, 10, &acknowledged, &calls));
    }
    co_await all.join();
    const auto& stats = shard->stats();
    // Headers of frames and items, and evidence, come on top.
    EXPECT_GE(stats.write_ahead_bytes, stats.appended_bytes);
    EXPECT_LT(stats.write_ahead_bytes, stats.appended_bytes * 2);
    co_await shard->abandon();
  });
}

/// A round fails whose successors are written already: none of them is acknowledged.
TEST(Rounds, behind_one_that_failed_nobody_is_told_yes) {
  Simulator sim(9);
  auto slow = quiet_disk();
  slow.disk.latency_min = slow.disk.latency_max = 5ms;
  Node& node = sim.add_node(slow);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard(ahead(0, 1))).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    auto other = (co_await shard->open_log(partition(2), {})).value();
    for (const auto& each : {log, other}) {
      EXPECT_TRUE(co_await append(*each, batch(0)));
      EXPECT_TRUE(co_await shard->sync(each));
    }
    bool failing = true;
    node.disk().set_hook([&, bad = log->dir()](DiskOp op, const std::string& path) {
      const bool meant = failing && op == DiskOp::kSync && path.starts_with(bad + "/");
      return meant ? DiskFault::kError : DiskFault::kNone;
    });
    io::TaskGroup all;
    int refused = 0;
    int fine = 0;
    for (int i = 0; i < 8; ++i) {
      const auto& which = i % 2 == 0 ? log : other;
      if (!co_await append(*which, batch(which->end_offset().value))) continue;
      all.spawn([](ShardLogs* logs, std::shared_ptr<PartitionLog> of, int* good,
                   int* bad) -> io::Task<void> {
        ++(co_await logs->sync(std::move(of)) ? *good : *bad);
      }(shard.get(), which, &fine, &refused));
      co_await io::yield();
      co_await io::yield();
    }
    co_await all.join();
    EXPECT_EQ(refused, 4);
    EXPECT_EQ(fine, 4);
    EXPECT_TRUE(log->offline().has_value());
    EXPECT_FALSE(other->offline().has_value());
    failing = false;
    co_await shard->abandon();
  });
}

}  // namespace
}  // namespace pyralog::log
