// Group commit by way of the write-ahead files: one sync for many logs, and nothing lost by it.
#include "log/write_ahead.h"

#include <functional>
#include <map>
#include <random>

#include "log/log_details.h"
#include "log/tools.h"
#include "log/write_ahead_replay.h"
#include "log/write_ahead_testing.h"

namespace pyralog::log {
namespace {

using namespace test;

std::size_t wal_files(Node& node) { return count_files(node, ".wal"); }

TEST(write_ahead, one_sync_makes_many_logs_durable) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  std::uint64_t log_syncs = 0;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    log_syncs += op == DiskOp::kSync && path.ends_with(".log") ? 1 : 0;
    return DiskFault::kNone;
  });
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    EXPECT_TRUE(co_await round(*life, 1));
    log_syncs = 0;
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_EQ(log_syncs, 0u);
    EXPECT_GE(life->shard->stats().write_ahead_rounds, 5u);
    for (const auto& log : life->logs) EXPECT_EQ(log->synced_end(), log->end_offset());
    co_await life->shard->abandon();
  });
  EXPECT_EQ(wal_files(node), 2u);
  node.disk().set_hook({});
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    EXPECT_TRUE(life.has_value()) << (life ? "" : life.error().message);
    if (!life) co_return;
    for (const auto& log : life->logs) {
      EXPECT_EQ(log->end_offset().value, 12);
      EXPECT_TRUE((co_await read_all(log, Offset(0))).has_value());
    }
    co_await life->shard->abandon();
  });
  EXPECT_EQ(wal_files(node), 0u);
}

TEST(write_ahead, few_files_and_long_ranges_are_synced_themselves) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  std::uint64_t log_syncs = 0;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    log_syncs += op == DiskOp::kSync && path.ends_with(".log") ? 1 : 0;
    return DiskFault::kNone;
  });
  node.run([&]() -> io::Task<void> {
    Options o = ahead(16u << 20);
    o.write_ahead_min_files = 4;
    o.append_time_sync = std::chrono::hours(1);
    auto life = co_await begin(o, config(16u << 20));
    EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_EQ(life->shard->stats().write_ahead_rounds, 1u);
    log_syncs = 0;
    EXPECT_TRUE((co_await append(*life->logs[0], batch(2, 1, 1, 1000, 400'000))).has_value());
    EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_EQ(life->shard->stats().write_ahead_rounds, 2u);
    EXPECT_EQ(log_syncs, 1u);
    // Not at once: rounds of few files among such of many go with these.
    life->logs.resize(2);
    EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_EQ(life->shard->stats().write_ahead_rounds, 3u);
    EXPECT_EQ(log_syncs, 1u);
    co_await io::sleep_for(1s);
    EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_EQ(life->shard->stats().write_ahead_rounds, 3u);
    EXPECT_EQ(log_syncs, 3u);
    co_await life->shard->abandon();
  });
}

TEST(write_ahead, a_clean_stop_leaves_no_files) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_GE(life->shard->stats().write_ahead_rounds, 4u);
    EXPECT_TRUE((co_await life->shard->close()).has_value());
  });
  EXPECT_EQ(wal_files(node), 0u);
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    for (const auto& log : life->logs) EXPECT_EQ(log->end_offset().value, 10);
    EXPECT_EQ(life->shard->stats().scanned_bytes, 0u);
    co_await life->shard->abandon();
  });
}

/// Power goes at every call of the disk while rounds, rolls and turns of the files go on.
TEST(write_ahead, acknowledged_records_survive_a_power_loss_at_every_call) {
  std::uint64_t losses = 0;
  std::uint64_t rounds = 0;
  std::uint64_t placed = 0;
  for (std::uint64_t at = 1; at <= 400; ++at) {
    SCOPED_TRACE(at);
    Simulator sim(at * 7919);
    Node& node = sim.add_node();
    std::int64_t acknowledged = 0;
    for (std::uint32_t epoch = 1; epoch <= 3; ++epoch) {
      std::uint64_t calls = 0;
      const std::uint64_t when = epoch == 1 ? at : 1 + at * epoch * 37 % 200;
      node.disk().set_hook([&](DiskOp, const std::string&) {
        if (++calls != when) return DiskFault::kNone;
        ++losses;
        return at % 5 == 0 ? DiskFault::kKill : DiskFault::kPowerLoss;
      });
      const auto done = node.try_run([&]() -> io::Task<void> {
        auto life = co_await begin(ahead(96 << 10), config(at % 2 == 0 ? 4000 : 1 << 20));
        EXPECT_TRUE(life.has_value() || !node.up()) << life.error().message;
        if (!life) co_return;
        for (const auto& log : life->logs) {
          EXPECT_GE(log->end_offset().value, acknowledged);
          EXPECT_TRUE((co_await read_all(log, Offset(0))).has_value());
        }
        // All go on from the same offset, so that one number says what was acknowledged.
        Offset least(INT64_MAX);
        for (const auto& log : life->logs) least = std::min(least, log->end_offset());
        for (const auto& log : life->logs) {
          const auto cut = co_await log->truncate_to(least);
          EXPECT_TRUE(cut.has_value() || !node.up()) << cut.error().message;
        }
        for (int i = 0; i < 12; ++i) {
          if (!co_await round(*life, epoch, 200)) break;
          acknowledged = life->logs[0]->end_offset().value;
          ++rounds;
        }
        if (at % 3 == 0) (void)co_await life->shard->close();
        co_await life->shard->abandon();
      });
      node.disk().set_hook({});
      if (done) node.lose_power();
      node.restart();
      const auto walked = node.try_run([&]() -> io::Task<void> {
        io::Disk& disk = io::Shard::current().disk();
        if (!co_await disk.exists("/data")) co_return;
        if (const auto waiting = co_await unplaced_bytes(disk, "/data")) {
          for (const auto& [id, of] : *waiting) placed += of.bytes;
        }
      });
      (void)walked;
    }
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(losses, 600u);
  EXPECT_GT(rounds, 1500u);
  EXPECT_GT(placed, 10'000u);
}

TEST(write_ahead, what_was_cut_does_not_come_back) {
  Simulator sim(3);
  Node& node = sim.add_node(quiet_disk());
  Bytes before;
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    for (int i = 0; i < 6; ++i) EXPECT_TRUE(co_await round(*life, 1));
    for (const auto& log : life->logs) EXPECT_TRUE((co_await log->truncate_to(Offset(4))).has_value());
    EXPECT_EQ(wal_files(node), 0u);
    // Others come in their place, of another length, and durable by their own files.
    const auto log = life->logs[0];
    for (int i = 0; i < 4; ++i) {
      const auto done = co_await append(*log, batch(log->end_offset().value, 2, 1, 5000, 77));
      EXPECT_TRUE(done.has_value());
      EXPECT_TRUE((co_await life->shard->sync(log)).has_value());
    }
    before = (co_await read_all(log, Offset(0))).value();
    co_await life->shard->abandon();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    EXPECT_TRUE(life.has_value()) << (life ? "" : life.error().message);
    if (!life) co_return;
    EXPECT_EQ((co_await read_all(life->logs[0], Offset(0))).value(), before);
    co_await life->shard->abandon();
  });
}

TEST(write_ahead, a_failed_sync_of_it_loses_nothing) {
  Simulator sim(4);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_EQ(life->shard->use().failed_write_ahead, 0u);
    node.disk().set_hook([](DiskOp op, const std::string& path) {
      return op == DiskOp::kSync && path.ends_with(".wal") ? DiskFault::kError : DiskFault::kNone;
    });
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_LE(life->shard->stats().write_ahead_rounds, 3u);
    EXPECT_EQ(life->shard->use().failed_write_ahead, 1u);
    for (const auto& log : life->logs) EXPECT_FALSE(log->offline().has_value());
    co_await life->shard->abandon();
  });
  node.disk().set_hook({});
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    for (const auto& log : life->logs) EXPECT_EQ(log->end_offset().value, 12);
    co_await life->shard->abandon();
  });
}

TEST(write_ahead, a_segment_that_cannot_be_synced_later_is_whole_after_a_restart) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet_disk());
  std::int64_t acknowledged = 0;
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin(ahead(128 << 10));
    EXPECT_TRUE(co_await round(*life, 1));
    const std::string bad = life->logs[2]->dir();
    node.disk().set_hook([bad](DiskOp op, const std::string& path) {
      return op == DiskOp::kSync && path.starts_with(bad + "/") ? DiskFault::kError
                                                                : DiskFault::kNone;
    });
    for (int i = 0; i < 200 && !life->logs[2]->offline(); ++i) {
      const std::int64_t end = life->logs[2]->end_offset().value;
      if (co_await round(*life, 1, 400)) acknowledged = end + 2;
    }
    EXPECT_TRUE(life->logs[2]->offline().has_value());
    EXPECT_GT(acknowledged, 10);
    // The others go on, and even a clean stop keeps the files that hold what is not in place.
    for (int i = 0; i < 60; ++i) (void)co_await round(*life, 1, 400);
    EXPECT_FALSE(life->logs[1]->offline().has_value());
    EXPECT_FALSE((co_await life->shard->close()).has_value());
  });
  EXPECT_EQ(wal_files(node), 2u);
  node.disk().set_hook({});
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin(ahead(128 << 10));
    EXPECT_TRUE(life.has_value()) << (life ? "" : life.error().message);
    if (!life) co_return;
    EXPECT_GE(life->logs[2]->end_offset().value, acknowledged);
    EXPECT_TRUE((co_await read_all(life->logs[2], Offset(0))).has_value());
    co_await life->shard->abandon();
  });
  EXPECT_EQ(wal_files(node), 0u);
}

TEST(write_ahead, tools_say_what_is_not_in_place_and_repair_puts_it_there) {
  Simulator sim(6);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    for (int i = 0; i < 6; ++i) EXPECT_TRUE(co_await round(*life, 1));
    co_await life->shard->abandon();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    io::Disk& disk = io::Shard::current().disk();
    const std::string dir = "/data/" + to_string(partition(1));
    EXPECT_GT((co_await unplaced_bytes(disk, "/data")).value().at(partition(1)).bytes, 0u);
    const auto refused = co_await verify(disk, dir);
    EXPECT_FALSE(refused.has_value());
    if (!refused) EXPECT_EQ(refused.error().code, Code::kUnavailable);
    EXPECT_TRUE((co_await repair(disk, dir)).has_value());
    const auto report = co_await verify(disk, dir);
    EXPECT_TRUE(report.has_value());
    EXPECT_TRUE(report->sound());
    EXPECT_EQ(report->end.value, 12);
    EXPECT_GE(report->synced_end.value, 10);
  });
}

TEST(write_ahead, damage_in_it_is_named_by_the_evidence_of_later_rounds) {
  std::size_t refused = 0;
  std::size_t kept = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Simulator sim(seed);
    Node& node = sim.add_node(quiet_disk());
    std::string file;
    node.run([&]() -> io::Task<void> {
      auto life = co_await begin();
      for (int i = 0; i < 8; ++i) EXPECT_TRUE(co_await round(*life, 1));
      co_await life->shard->abandon();
    });
    restart(node, true);
    node.run([&]() -> io::Task<void> {
      // A bit of the body of some durable frame that is not the last.
      io::Disk& disk = io::Shard::current().disk();
      for (const std::string& path : node.disk().files()) {
        if (!path.ends_with(".wal")) continue;
        auto opened = (co_await disk.open(path, io::OpenMode::kReadWrite)).value();
        if (opened->size() > kWriteAheadFirst + 3 * kWriteAheadBlock) file = path;
      }
      auto opened = (co_await disk.open(file, io::OpenMode::kReadWrite)).value();
      const std::uint64_t at = kWriteAheadFirst + kWriteAheadBlock * (seed % 5) + 40 + seed * 13;
      Bytes byte(1);
      EXPECT_EQ((co_await opened->read_at(at, byte)).value(), 1u);
      byte[0] ^= 4;
      EXPECT_TRUE(opened->write_at(at, byte).has_value());
      EXPECT_TRUE((co_await opened->sync()).has_value());
    });
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard(ahead())).value();
      for (std::uint8_t p = 0; p < kLogs; ++p) {
        const auto log = co_await shard->open_log(partition(p), config());
        if (!log) {
          EXPECT_EQ(log.error().code, Code::kCorrupt);
          ++refused;
        } else {
          EXPECT_GE((*log)->end_offset().value, 14);
        }
      }
      co_await shard->abandon();
    });
    // What could not be put in its place is kept, for people.
    kept += count_files(node, ".wal.damaged");
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(refused, 20u);
  EXPECT_GT(kept, 20u);
}

TEST(write_ahead, bytes_of_compacted_and_removed_segments_are_left_alone) {
  Simulator sim(8);
  Node& node = sim.add_node(quiet_disk());
  Bytes after;
  node.run([&]() -> io::Task<void> {
    LogConfig c = config(2000);
    c.compaction = Compaction{};
    auto life = co_await begin(ahead(), c);
    for (int i = 0; i < 30; ++i) EXPECT_TRUE(co_await round(*life, 1));
    (void)co_await life->logs[0]->roll();
    co_await io::sleep_for(1s);
    CompactionCall call;
    call.limit = life->logs[0]->end_offset();
    const auto done = co_await life->logs[0]->compact(call);
    EXPECT_TRUE(done.has_value()) << (done ? "" : done.error().message);
    EXPECT_TRUE((co_await life->logs[1]->drop_segments_below(Offset(30))).has_value());
    after = (co_await read_all(life->logs[0], Offset(0))).value();
    co_await life->shard->abandon();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    LogConfig c = config(2000);
    c.compaction = Compaction{};
    auto life = co_await begin(ahead(), c);
    EXPECT_TRUE(life.has_value()) << (life ? "" : life.error().message);
    if (!life) co_return;
    EXPECT_EQ((co_await read_all(life->logs[0], Offset(0))).value(), after);
    EXPECT_GT(life->logs[1]->start_offset().value, 0);
    co_await life->shard->abandon();
  });
}

TEST(write_ahead, evidence_of_what_was_cut_does_not_come_back) {
  Simulator sim(10);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    Options o = ahead();
    o.write_ahead_min_files = 4;
    auto life = co_await live_on(o);
    const auto log = life->logs[0];
    // Nothing is held of it any more, then it is synced by its own file, and the others are not.
    EXPECT_TRUE((co_await log->truncate_to(Offset(4))).has_value());
    co_await io::sleep_for(1s);  // until rounds of few files go by themselves again
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE((co_await append(*log, batch(4 + i, 1, 1, 3000, 60))).has_value());
    }
    EXPECT_TRUE((co_await life->shard->sync(log)).has_value());
    life->logs.erase(life->logs.begin());
    const std::uint64_t before = life->shard->stats().write_ahead_rounds;
    EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_EQ(life->shard->stats().write_ahead_rounds, before + 1);
    EXPECT_TRUE((co_await log->truncate_to(Offset(5))).has_value());
    EXPECT_TRUE(co_await round(*life, 1));
    co_await life->shard->abandon();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    EXPECT_TRUE(life.has_value()) << (life ? "" : life.error().message);
    if (!life) co_return;
    EXPECT_EQ(life->logs[0]->end_offset().value, 5);
    co_await life->shard->abandon();
  });
}

TEST(write_ahead, evidence_of_what_was_deleted_does_not_come_back) {
  Simulator sim(14);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    Options o = ahead();
    o.synced_journal_bytes = 300;
    auto life = co_await live_on(o);
    EXPECT_TRUE((co_await life->shard->delete_log(partition(0))).has_value());
    life->logs.erase(life->logs.begin());
    // The journal is written anew meanwhile, the write-ahead file is not.
    for (int i = 0; i < 12; ++i) EXPECT_TRUE(co_await round(*life, 1));
    EXPECT_LT(node.disk().peek("/data/shard-0.synced").value().size(), 3000u);
    co_await life->shard->abandon();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    EXPECT_TRUE(life.has_value()) << (life ? "" : life.error().message);
    if (!life) co_return;
    EXPECT_EQ(life->logs[0]->end_offset().value, 0);
    EXPECT_EQ(life->logs[1]->end_offset().value, 30);
    co_await life->shard->abandon();
  });
}

TEST(write_ahead, what_a_failing_sync_takes_from_memory_is_not_copied) {
  Simulator sim(15);
  Node& node = sim.add_node(quiet_disk());
  node.disk().options().sync_error_drops = 1;
  // With a pause nothing is kept for the write-ahead file, but read back.
  const std::int64_t acknowledged = rounds_until_a_sync_fails(node, 1s);
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    EXPECT_TRUE(life.has_value()) << (life ? "" : life.error().message);
    if (!life) co_return;
    EXPECT_GE(life->logs[0]->end_offset().value, acknowledged);
    EXPECT_TRUE((co_await read_all(life->logs[0], Offset(0))).has_value());
    co_await life->shard->abandon();
  });
}

TEST(write_ahead, evidence_outlives_the_file_that_held_it) {
  Simulator sim(11);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto life = co_await live_on(ahead(128 << 10));
    life->logs.erase(life->logs.begin());
    for (int i = 0; i < 60; ++i) EXPECT_TRUE(co_await round(*life, 1, 500));
    co_await life->shard->abandon();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    const auto evidence = co_await Evidence::load(io::Shard::current().disk(), "/data");
    EXPECT_TRUE(evidence.has_value());
    const SyncedEntry* entry = (*evidence)->synced(partition(0));
    EXPECT_TRUE(entry != nullptr);
    if (entry != nullptr) EXPECT_EQ(entry->end_offset.value, 6);
  });
}

TEST(write_ahead, a_start_opens_each_file_once_and_few_at_a_time) {
  Simulator sim(12);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    for (int i = 0; i < 8; ++i) EXPECT_TRUE(co_await round(*life, 1));
    co_await life->shard->abandon();
  });
  restart(node, true);
  std::map<std::string, int> synced;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    synced[path] += op == DiskOp::kSync && path.ends_with(".log") ? 1 : 0;
    return DiskFault::kNone;
  });
  node.run([&]() -> io::Task<void> {
    EXPECT_TRUE(
        (co_await replay_write_ahead(io::Shard::current().disk(), "/data", 5)).has_value());
  });
  node.disk().set_hook({});
  EXPECT_EQ(wal_files(node), 0u);
  std::size_t logs = 0;
  for (const auto& [path, times] : synced) {
    EXPECT_LE(times, 1) << path;
    logs += path.ends_with(".log") ? 1 : 0;
  }
  EXPECT_EQ(logs, std::size_t{kLogs});
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    EXPECT_TRUE(life.has_value()) << (life ? "" : life.error().message);
    if (!life) co_return;
    for (const auto& log : life->logs) EXPECT_EQ(log->end_offset().value, 16);
    co_await life->shard->abandon();
  });
}

/// A node whose write-ahead files hold the last rounds of all logs, as a power loss leaves them.
Node& lose_power_behind_rounds(Simulator& sim) {
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    for (int i = 0; i < 8; ++i) EXPECT_TRUE(co_await round(*life, 1));
    co_await life->shard->abandon();
  });
  restart(node, true);
  return node;
}

/// Starts, and expects every log to be there as far as it was acknowledged; the power goes again.
void expect_all_there(Node& node) {
  for (int i = 0; i < 2; ++i) {
    node.run([&]() -> io::Task<void> {
      auto life = co_await begin();
      EXPECT_TRUE(life.has_value()) << (life ? "" : life.error().message);
      if (!life) co_return;
      for (const auto& log : life->logs) {
        EXPECT_EQ(log->end_offset().value, 16);
        EXPECT_TRUE((co_await read_all(log, Offset(0))).has_value());
      }
      co_await life->shard->abandon();
    });
    restart(node, true);
  }
  EXPECT_EQ(wal_files(node), 0u);
  EXPECT_EQ(count_files(node, ".wal.damaged"), 0u);
}

const std::string kThirdLog = "/data/" + to_string(partition(3)) + "/00000000000000000000.log";

struct Trouble {
  DiskOp op;
  std::string file;  ///< how the path ends
  int after = 0;     ///< calls that go well
};
const Trouble kTroubles[] = {{DiskOp::kOpen, kThirdLog},   {DiskOp::kWrite, kThirdLog},
                             {DiskOp::kSync, kThirdLog},   {DiskOp::kRead, kThirdLog},
                             {DiskOp::kOpen, ".wal"},      {DiskOp::kRead, ".0.wal"},
                             {DiskOp::kRead, ".1.wal", 6}, {DiskOp::kRead, ".1.wal", 1},
                             {DiskOp::kList, "/data"},     {DiskOp::kSync, ".synced"},
                             {DiskOp::kRemove, ".wal"}};

TEST(write_ahead, calls_that_fail_while_it_is_put_in_place_are_tried_again) {
  for (const Trouble& trouble : kTroubles) {
    for (const int times : {1, 3}) {
      SCOPED_TRACE(trouble.file + " " + std::to_string(static_cast<int>(trouble.op)));
      Simulator sim(13);
      Node& node = lose_power_behind_rounds(sim);
      int calls = 0;
      node.disk().set_hook([&](DiskOp op, const std::string& path) {
        const bool met = op == trouble.op && path.ends_with(trouble.file) && ++calls > trouble.after;
        return met && calls <= trouble.after + times ? DiskFault::kError : DiskFault::kNone;
      });
      node.run([&]() -> io::Task<void> {
        const auto done = co_await replay_write_ahead(io::Shard::current().disk(), "/data");
        EXPECT_TRUE(done.has_value()) << (done ? "" : done.error().message);
      });
      EXPECT_GT(calls, trouble.after);
      node.disk().set_hook({});
      restart(node, true);
      expect_all_there(node);
    }
  }
}

TEST(write_ahead, a_disk_that_goes_on_failing_refuses_the_start_and_nothing_is_stranded) {
  for (const Trouble& trouble : kTroubles) {
    SCOPED_TRACE(trouble.file + " " + std::to_string(static_cast<int>(trouble.op)));
    Simulator sim(13);
    Node& node = lose_power_behind_rounds(sim);
    int calls = 0;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      const bool met = op == trouble.op && path.ends_with(trouble.file) && ++calls > trouble.after;
      return met ? DiskFault::kError : DiskFault::kNone;
    });
    node.run([&]() -> io::Task<void> {
      const auto done = co_await replay_write_ahead(io::Shard::current().disk(), "/data");
      EXPECT_FALSE(done.has_value());
      if (done) co_return;
      EXPECT_EQ(done.error().code, Code::kIo);
      EXPECT_NE(done.error().message.find("mend the disk"), std::string::npos) << done.error().message;
    });
    EXPECT_EQ(wal_files(node), 2u);
    EXPECT_EQ(count_files(node, ".wal.damaged"), 0u);
    node.disk().set_hook({});
    restart(node, true);
    expect_all_there(node);
  }
}

TEST(write_ahead, a_segment_with_wrong_bytes_keeps_one_log_from_opening_and_no_other) {
  Simulator sim(13);
  Node& node = lose_power_behind_rounds(sim);
  EXPECT_TRUE(node.disk().corrupt(kThirdLog, 20).has_value());
  const std::string earlier = "/data/shard-0.0.wal.damaged";
  node.run([&]() -> io::Task<void> {
    const Bytes before{1, 2, 3};
    EXPECT_TRUE((co_await io::replace_file(io::Shard::current().disk(), earlier, before)).has_value());
    auto shard = co_await open_shard(ahead());
    EXPECT_TRUE(shard.has_value()) << (shard ? "" : shard.error().message);
    if (!shard) co_return;
    for (std::uint8_t p = 0; p < kLogs; ++p) {
      const auto log = co_await (*shard)->open_log(partition(p), config());
      EXPECT_EQ(log.has_value(), p != 3) << int{p};
      if (log) EXPECT_EQ((*log)->end_offset().value, 16);
    }
    co_await (*shard)->abandon();
  });
  EXPECT_EQ(wal_files(node), 0u);
  EXPECT_EQ(count_files(node, ".damaged"), 3u);
  EXPECT_EQ(node.disk().peek(earlier).value(), (Bytes{1, 2, 3})) << "of an incident before this one";
}

TEST(write_ahead, files_of_deleted_logs_are_let_go) {
  Simulator sim(9);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(co_await round(*life, 1));
    life->logs.clear();
    for (std::uint8_t p = 0; p < kLogs; ++p) {
      EXPECT_TRUE((co_await life->shard->delete_log(partition(p))).has_value());
    }
    co_await life->shard->abandon();
  });
  restart(node, true);
  node.run([&]() -> io::Task<void> {
    auto life = co_await begin();
    EXPECT_TRUE(life.has_value());
    for (const auto& log : life->logs) EXPECT_EQ(log->end_offset().value, 0);
    co_await life->shard->abandon();
  });
}

}  // namespace
}  // namespace pyralog::log
