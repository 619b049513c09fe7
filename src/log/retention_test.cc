// What goes and what stays: the rule, the clock it goes by, and the files.
#include "log/retention.h"

#include <algorithm>

#include "log/believed_time.h"
#include "log/tools.h"
#include "log/torn_log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;
using namespace std::chrono_literals;

const std::vector<KeptSegment> kFour = {
    {Offset(0), Offset(10), 100, 1000},
    {Offset(10), Offset(20), 100, 2000},
    {Offset(20), Offset(30), 100, 3000},
    {Offset(30), Offset(35), 50, 9000},
};

TEST(retention, time_size_both_or_neither_decide) {
  const auto start = [](Retention rule, std::int64_t now, std::int64_t limit = 35) {
    return retention_start(kFour, rule, WallMs{now}, Offset(limit)).value;
  };
  EXPECT_EQ(start({-1, -1}, 1'000'000), 0) << "for ever";
  EXPECT_EQ(start({500, -1}, 1499), 0);
  EXPECT_EQ(start({500, -1}, 1500), 10);
  EXPECT_EQ(start({500, -1}, 2500), 20);
  EXPECT_EQ(start({500, -1}, 1'000'000), 30) << "the active one stays";
  EXPECT_EQ(start({-1, 350}, 0), 0);
  EXPECT_EQ(start({-1, 250}, 0), 10);
  EXPECT_EQ(start({-1, 249}, 0), 10);
  EXPECT_EQ(start({-1, 0}, 0), 30);
  EXPECT_EQ(start({500, 250}, 2500), 20) << "whichever is reached first";
  EXPECT_EQ(start({500, 50}, 0), 30);
  EXPECT_EQ(start({0, 0}, 1'000'000, 25), 20) << "nothing above the limit";
  EXPECT_EQ(retention_start({}, {0, 0}, WallMs{5}, Offset(7)), Offset(7));
}

TEST(retention, a_clock_that_jumps_ahead_is_not_believed_at_once) {
  RetentionClock clock;
  const auto at = [](Duration since) { return Instant{0} + since; };
  const std::int64_t begin = 1'700'000'000'000;
  const std::int64_t day = 86'400'000;
  EXPECT_EQ(clock.now(WallMs{begin}, at(0s)).ms, begin);
  EXPECT_EQ(clock.now(WallMs{begin + 60'000}, at(60s)).ms, begin + 60'000);
  EXPECT_EQ(clock.now(WallMs{begin + day + 120'000}, at(120s)).ms, begin + 120'000);
  EXPECT_EQ(clock.now(WallMs{begin + 180'000}, at(180s)).ms, begin + 180'000) << "it came back";
  EXPECT_EQ(clock.now(WallMs{begin + day}, at(1h)).ms, begin + 3'600'000);
  EXPECT_EQ(clock.now(WallMs{begin + day + 3'599'000}, at(1h + 3599s)).ms, begin + 7'199'000);
  EXPECT_EQ(clock.now(WallMs{begin + day + 3'600'000}, at(2h)).ms, begin + day + 3'600'000)
      << "it has stood for an hour";
  EXPECT_EQ(clock.now(WallMs{begin}, at(2h)).ms, begin) << "back counts at once";
}

TEST(retention, nor_is_one_that_is_ahead_after_a_restart) {
  const auto at = [](Duration since) { return Instant{7'000'000'000} + since; };
  const std::int64_t before = 1'700'000'000'000;
  const std::int64_t day = 86'400'000;
  for (const std::int64_t ahead : {std::int64_t{10'000}, day, 400 * day}) {
    RetentionClock clock{WallMs{before}};
    EXPECT_EQ(clock.now(WallMs{before + ahead}, at(0s)).ms, before);
    EXPECT_EQ(clock.now(WallMs{before + ahead + 3'599'000}, at(3599s)).ms, before + 3'599'000);
    EXPECT_EQ(clock.now(WallMs{before + ahead + 3'600'000}, at(1h)).ms, before + ahead + 3'600'000);
  }
  RetentionClock behind{WallMs{before}};
  EXPECT_EQ(behind.now(WallMs{before - day}, at(0s)).ms, before - day) << "back counts at once";
  EXPECT_EQ(behind.now(WallMs{before + 60'000}, at(60s)).ms, before - day + 60'000);
  RetentionClock near{WallMs{before}};
  EXPECT_EQ(near.now(WallMs{before + 1'500}, at(0s)).ms, before + 1'500);
  RetentionClock unknown{RetentionClock::kUnknown};
  EXPECT_LT(unknown.now(WallMs{before}, at(0s)).ms, day);
  EXPECT_EQ(unknown.now(WallMs{before + 3'600'000}, at(1h)).ms, before + 3'600'000);
}

TEST(retention, the_time_that_was_believed_is_read_back_or_not_known) {
  const Bytes good = encode_believed_time(WallMs{1'700'000'000'123});
  EXPECT_EQ(decode_believed_time(good, "f").value().ms, 1'700'000'000'123);
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= 1;
    EXPECT_FALSE(decode_believed_time(bad, "f")) << i;
    EXPECT_FALSE(decode_believed_time(ByteView(good).first(i), "f")) << i;
  }
  Bytes newer = good;
  newer[8] = 2;
  EXPECT_EQ(decode_believed_time(newer, "f").error().code, Code::kUnsupported);
}

LogConfig kept(std::int64_t ms, std::int64_t bytes) {
  LogConfig config = small_segments();
  config.retention = {ms, bytes};
  return config;
}

io::Task<Result<void>> retain_now(PartitionLog& log) {
  co_return co_await log.retain(io::Shard::current().wall(), log.end_offset());
}

TEST(retention, segments_go_by_age_and_the_active_one_stays) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  Offset start;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), kept(60'000, -1))).value();
    for (int i = 0; i < 30; ++i) (void)(co_await append(*log, batch(i, 1, 1, 7, 200))).value();
    co_await io::sleep_for(59s);
    for (int i = 30; i < 40; ++i) (void)(co_await append(*log, batch(i, 1, 1, 7, 200))).value();
    (co_await retain_now(*log)).value();
    EXPECT_EQ(log->start_offset(), Offset(0));
    co_await io::sleep_for(2s);
    (co_await retain_now(*log)).value();
    // Old by the server's clock, whatever the records say.
    EXPECT_GT(log->start_offset(), Offset(20));
    EXPECT_LT(log->start_offset(), Offset(31));
    co_await io::sleep_for(5min);
    (co_await retain_now(*log)).value();
    start = log->start_offset();
    EXPECT_GT(start, Offset(30));
    EXPECT_LT(start, Offset(40)) << "the active one stays";
    EXPECT_TRUE((co_await read_all(log, start)).has_value());
    EXPECT_EQ((co_await log->read(Offset(0), {1, Offset(40), true})).error().code,
              Code::kOutOfRange);
    co_await shard->abandon();
  });
  node.kill();
  node.restart();
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), kept(60'000, -1))).value();
    EXPECT_EQ(log->start_offset(), start);
    EXPECT_EQ(log->end_offset(), Offset(40));
    co_await shard->abandon();
  });
}

TEST(retention, a_log_that_nobody_writes_to_ends_its_segment_too) {
  Simulator sim(2);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    LogConfig config = kept(60'000, -1);
    config.segment_ms = 30'000;
    auto log = (co_await shard->open_log(partition(), config)).value();
    (void)(co_await append(*log, batch(0))).value();
    co_await io::sleep_for(31s);
    (co_await retain_now(*log)).value();
    EXPECT_EQ(log->start_offset(), Offset(0));
    co_await io::sleep_for(61s);
    (co_await retain_now(*log)).value();
    EXPECT_EQ(log->start_offset(), Offset(1));
    (co_await shard->close()).value();
  });
  node.lose_power();
  node.restart();
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), kept(60'000, -1))).value();
    EXPECT_EQ(log->start_offset(), Offset(1));
    EXPECT_EQ(log->end_offset(), Offset(1)) << "no offset is given twice";
    co_await shard->abandon();
  });
}

TEST(retention, an_epoch_whose_records_are_all_forgotten_gives_way_to_the_next) {
  Simulator sim(4);
  Node& node = sim.add_node(quiet_disk());
  LogConfig config = kept(1'000, -1);
  config.segment_ms = 1'000;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), config)).value();
    (void)(co_await append(*log, batch(0, 1))).value();
    for (int i = 0; i < 2; ++i) {
      co_await io::sleep_for(2s);
      (co_await retain_now(*log)).value();
    }
    EXPECT_EQ(log->start_offset(), Offset(1));
    (void)(co_await append(*log, batch(1, 2))).value();
    EXPECT_EQ(log->epochs(), (std::vector<EpochStart>{{Epoch(2), Offset(1)}}));
    co_await io::sleep_for(2s);
    (void)(co_await append(*log, batch(2, 2))).value();
    (void)(co_await shard->sync(log)).value();
    co_await shard->abandon();
  });
  node.kill();
  node.restart();
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), config)).value();
    const auto read = co_await read_all(log, Offset(1));
    EXPECT_TRUE(read.has_value()) << read.error().message;
    if (read) EXPECT_EQ(*read, join({batch(1, 2), batch(2, 2)}));
    co_await shard->abandon();
  });
}

TEST(retention, waits_for_no_pause_of_the_writers) {
  Simulator sim(12);
  io::sim::NodeOptions slow = quiet_disk();
  slow.disk.latency_min = slow.disk.latency_max = 1ms;
  Node& node = sim.add_node(slow);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    LogConfig config = small_segments();
    config.segment_bytes = 100'000;
    auto log = (co_await shard->open_log(partition(), config)).value();
    int next = 0;
    bool stop = false;
    // Two that take turns: when the round of one is over, the other has written again.
    const auto write = [&]() -> io::Task<void> {
      while (!stop) {
        (void)(co_await append(*log, batch(next++, 1, 1, 7, 200))).value();
        (void)(co_await shard->sync(log)).value();
      }
    };
    io::TaskGroup writers;
    writers.spawn(write());
    co_await io::sleep_for(700us);
    writers.spawn(write());
    co_await io::sleep_for(50ms);
    int deleted = 0;
    for (; deleted < 20; ++deleted) {
      const Instant began = io::Shard::current().now();
      const auto done = co_await log->delete_records_below(Offset(deleted + 1));
      EXPECT_TRUE(done.has_value());
      EXPECT_EQ(log->start_offset(), Offset(deleted + 1));
      // A round that runs, the next one, and the evidence; each syncs once or twice.
      EXPECT_LE(io::Shard::current().now() - began, 12ms);
      if (testing::Test::HasFailure()) break;
    }
    stop = true;
    co_await writers.join();
    co_await shard->abandon();
  });
}

TEST(retention, size_counts_what_stays) {
  Simulator sim(3);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), kept(-1, 4000))).value();
    for (int i = 0; i < 60; ++i) (void)(co_await append(*log, batch(i, 1, 1, 7, 200))).value();
    (co_await retain_now(*log)).value();
    EXPECT_GE(log->size_bytes(), 4000u);
    EXPECT_LT(log->size_bytes(), 4000u + 1500u);
    EXPECT_TRUE((co_await read_all(log, log->start_offset())).has_value());
    co_await shard->abandon();
  });
}

TEST(retention, an_empty_segment_is_not_what_was_to_be_kept) {
  Simulator sim(4);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    LogConfig config = kept(-1, 15);
    config.segment_ms = 30'000;
    auto log = (co_await shard->open_log(partition(), config)).value();
    (void)(co_await append(*log, batch(0))).value();
    co_await io::sleep_for(31s);          // of simulated time, which passes at once: beyond segment_ms
    (co_await retain_now(*log)).value();  // begins a segment
    (co_await retain_now(*log)).value();
    EXPECT_EQ(log->start_offset(), Offset(0));
    (void)(co_await append(*log, batch(1))).value();
    (co_await retain_now(*log)).value();
    EXPECT_EQ(log->start_offset(), Offset(1));
    co_await shard->abandon();
  });
}

/// The evidence of a deletion that was refused may be written by a later round.
TEST(retention, a_refused_deletion_does_not_come_back_at_a_later_start) {
  Simulator sim(13);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), small_segments())).value();
    for (int i = 0; i < 10; ++i) (void)(co_await append(*log, batch(i))).value();
    (void)(co_await shard->sync(log)).value();
    bool failed = false;
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      if (op != DiskOp::kSync || failed || !path.contains(".synced")) return DiskFault::kNone;
      failed = true;
      return DiskFault::kError;
    });
    EXPECT_FALSE((co_await log->delete_records_below(Offset(5))).has_value());
    EXPECT_TRUE(failed);
    EXPECT_EQ(log->start_offset(), Offset(0));
    (void)(co_await append(*log, batch(10))).value();
    (void)(co_await shard->sync(log)).value();
    (co_await shard->close()).value();
  });
  node.disk().set_hook({});
  node.kill();
  Offset said;
  for (const bool power : {false, true}) {
    node.restart();
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), small_segments())).value();
      if (power) EXPECT_EQ(log->start_offset(), said);
      said = log->start_offset();
      EXPECT_TRUE((co_await read_all(log, said)).has_value());
      // The checkpoint goes.
      (void)(co_await append(*log, batch(power ? 12 : 11))).value();
      (void)(co_await shard->sync(log)).value();
      co_await shard->abandon();
    });
    if (!power) node.lose_power();
  }
}

/// Deletes by name, and by age, until the node stops somewhere.
TEST(retention, a_crash_anywhere_leaves_a_log_that_begins_where_it_said) {
  std::uint64_t crashes = 0;
  for (std::uint64_t at = 1; at <= 60; ++at) {
    for (std::uint64_t round = 0; round < 5; ++round) {
      const bool power = round > 0;
      SCOPED_TRACE(testing::Message() << at << (power ? " power" : " kill"));
      Simulator sim(5 * at + round);
      Node& node = sim.add_node(quiet_disk());
      std::int64_t said = 0;
      std::int64_t asked = 0;
      node.run([&]() -> io::Task<void> {
        auto shard = (co_await open_shard()).value();
        auto log = (co_await shard->open_log(partition(), small_segments())).value();
        for (int i = 0; i < 40; ++i) (void)(co_await append(*log, batch(i, 1, 1, 7, 200))).value();
        (void)(co_await shard->sync(log)).value();
        co_await shard->abandon();
      });
      std::uint64_t calls = 0;
      node.disk().set_hook([&](DiskOp, const std::string&) {
        if (++calls != at) return DiskFault::kNone;
        ++crashes;
        return power ? DiskFault::kPowerLoss : DiskFault::kKill;
      });
      (void)node.try_run([&]() -> io::Task<void> {
        auto shard = (co_await open_shard()).value();
        auto log = (co_await shard->open_log(partition(), kept(-1, 3000))).value();
        for (const std::int64_t to : {7, 33}) {
          asked = to;
          (co_await log->delete_records_below(Offset(to))).value();
          said = to;
          EXPECT_EQ(log->start_offset(), Offset(to));
        }
        (co_await retain_now(*log)).value();
        co_await shard->abandon();
      });
      node.disk().set_hook({});
      if (node.up()) power ? node.lose_power() : node.kill();
      node.restart();
      node.run([&]() -> io::Task<void> {
        auto shard = (co_await open_shard()).value();
        const auto report =
            co_await verify(io::Shard::current().disk(), "/data/" + to_string(partition()));
        EXPECT_TRUE(report && std::none_of(report->findings.begin(), report->findings.end(),
                                           [](const Finding& f) { return f.synced; }));
        auto log = co_await shard->open_log(partition(), small_segments());
        EXPECT_TRUE(log.has_value()) << log.error().message;
        if (log) {
          EXPECT_GE((*log)->start_offset().value, said);
          EXPECT_LE((*log)->start_offset().value, asked);
          EXPECT_EQ((*log)->end_offset(), Offset(40));
          EXPECT_TRUE((co_await read_all(*log, (*log)->start_offset())).has_value());
          for (const auto& entry : (co_await io::Shard::current().disk().list((*log)->dir())).value()) {
            const auto beside = parse_side_file_name(entry.name);
            EXPECT_TRUE(!beside || (co_await io::Shard::current().disk().exists(
                                        (*log)->dir() + "/" + segment_file_name(*beside, "log")))
                                       .value())
                << entry.name;
          }
          (void)(co_await append(**log, batch(40))).value();
          (void)(co_await shard->sync(*log)).value();
        }
        const auto closed = co_await shard->close();
        EXPECT_TRUE(closed.has_value()) << closed.error().message;
      });
      if (testing::Test::HasFailure()) return;
    }
  }
  EXPECT_GT(crashes, 40u);
}

/// Files go one by one, and not all names are gone with the power.
TEST(retention, what_came_back_of_deleted_segments_is_no_part_of_the_log) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    io::Disk& disk = io::Shard::current().disk();
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), small_segments())).value();
    for (int i = 0; i < 40; ++i) (void)(co_await append(*log, batch(i, 1, 1, 7, 200))).value();
    (void)(co_await shard->sync(log)).value();
    const std::size_t before = count_files(node, ".log");
    const std::string first = log->dir() + "/" + segment_file_name(Offset(0), "log");
    Bytes torn = (co_await io::read_file(disk, first, 1 << 20)).value();
    torn.resize(torn.size() / 2);
    EXPECT_TRUE((co_await log->delete_records_below(Offset(33))).has_value());
    const std::size_t kept = count_files(node, ".log");
    EXPECT_LT(kept + 2, before);
    co_await shard->abandon();
    log.reset();
    EXPECT_TRUE((co_await io::replace_file(disk, first, std::move(torn))).has_value());

    const auto report = co_await verify(disk, "/data/" + to_string(partition()));
    EXPECT_TRUE(report && report->findings.empty());
    shard = (co_await open_shard()).value();
    log = (co_await shard->open_log(partition(), small_segments())).value();
    EXPECT_EQ(count_files(node, ".log"), kept);
    EXPECT_EQ(log->start_offset(), Offset(33));
    EXPECT_TRUE((co_await read_all(log, Offset(33))).has_value());
    const auto closed = co_await shard->close();
    EXPECT_TRUE(closed.has_value()) << closed.error().message;
  });
}

/// The active segment cannot go when all its records are deleted; a later round removes it, and what says
/// that the log was durable up to there must not lie in a file that is gone.
TEST(retention, a_segment_that_was_active_when_its_records_were_deleted_goes_later) {
  Simulator sim(6);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), kept(-1, -1))).value();
    for (int i = 0; count_files(node, ".log") < 2; ++i) {
      (co_await log->delete_records_below(log->end_offset())).value();
      (void)(co_await append(*log, batch(i, 1, 1, 7, 200))).value();
    }
    // Nothing is synced behind the new segment.
    (co_await retain_now(*log)).value();
    EXPECT_EQ(count_files(node, ".log"), 1u);
    co_await shard->abandon();
  });
  node.lose_power();
  node.restart();
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await shard->open_log(partition(), kept(-1, -1));
    EXPECT_TRUE(log.has_value()) << log.error().message;
    co_await shard->abandon();
  });
}

TEST(retention, a_search_by_time_goes_on_when_segments_go_meanwhile) {
  std::uint64_t moved = 0;
  for (int wait_us = 0; wait_us < 3000; wait_us += 100) {
    Simulator sim(7);
    io::sim::NodeOptions slow = quiet_disk();
    slow.disk.latency_min = slow.disk.latency_max = 100us;
    slow.disk.cold_read = 1;
    Node& node = sim.add_node(slow);
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), kept(-1, 3000))).value();
      for (int i = 0; i < 40; ++i) {
        (void)(co_await append(*log, batch(i, 1, 1, i < 39 ? 100 : 200, 200))).value();
      }
      (void)(co_await shard->sync(log)).value();
      Result<std::optional<TimestampHit>> hit;
      std::uint64_t visited = 0;
      Offset start;
      io::TaskGroup readers;
      readers.spawn([](PartitionLog& of, Result<std::optional<TimestampHit>>& to) -> io::Task<void> {
        to = co_await of.find_timestamp(200, of.end_offset());
      }(*log, hit));
      readers.spawn([](PartitionLog& of, std::uint64_t& count, Offset& last) -> io::Task<void> {
        auto walked = co_await of.scan_headers(Offset(0), [&](const BatchHeader& header) {
          ++count;
          last = Offset(header.next_offset());
          return true;
        });
        EXPECT_TRUE(walked.has_value()) << walked.error().message;
      }(*log, visited, start));
      co_await io::sleep_for(wait_us * 1us);
      (co_await retain_now(*log)).value();
      EXPECT_GT(log->start_offset(), Offset(0));
      co_await readers.join();
      EXPECT_TRUE(hit && *hit && (*hit)->offset == Offset(39))
          << (hit ? "nothing" : hit.error().message);
      EXPECT_EQ(start, Offset(40));
      moved += visited < 40 ? 1 : 0;
      co_await shard->abandon();
    });
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(moved, 3u);
}

TEST(retention, a_search_by_time_passes_over_what_was_deleted) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), {})).value();
    (void)(co_await append(*log, batch(0, 1, 10, 1000, 20, Codec::kGzip))).value();
    (co_await log->delete_records_below(Offset(4))).value();
    const auto hit = (co_await log->find_timestamp(0, Offset(10))).value();
    EXPECT_EQ(hit.value().offset, Offset(4));
    EXPECT_EQ((co_await log->delete_records_below(Offset(11))).error().code, Code::kOutOfRange);
    (co_await log->delete_records_below(Offset(2))).value();
    EXPECT_EQ(log->start_offset(), Offset(4)) << "it does not go back";
    co_await shard->abandon();
  });
}

}  // namespace
}  // namespace pyralog::log
