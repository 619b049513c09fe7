// When a log is compacted, and what is left whatever happens meanwhile.
#include "log/compaction.h"

#include <algorithm>
#include <map>

#include "log/segment_swap.h"
#include "log/tools.h"
#include "log/torn_log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;

constexpr std::int64_t kNever = INT64_MAX;

TEST(Compaction, is_due_by_the_share_of_what_is_new_by_age_or_for_tombstones) {
  const std::vector<CleanableSegment> segments = {{Offset(0), Offset(10), 600, 1000},
                                                  {Offset(10), Offset(20), 400, 2000}};
  const auto due = [&](Compaction rule, const CompactionState& state, std::int64_t now) {
    return compaction_is_due(segments, rule, state, WallMs{now});
  };
  CompactionState none;
  CompactionState some;
  some.passed(Offset(10), WallMs{1500}, 100, 0, Offset(0));
  CompactionState all;
  all.passed(Offset(20), WallMs{1500}, 100, 3, Offset(0));
  EXPECT_TRUE(due({0.5, 0, kNever, 100}, none, 3000));
  EXPECT_FALSE(due({0.5, 0, kNever, 100}, some, 3000)) << "400 of 1000";
  EXPECT_TRUE(due({0.4, 0, kNever, 100}, some, 3000));
  EXPECT_TRUE(due({0.9, 0, 1000, 100}, some, 3000)) << "it is old";
  EXPECT_FALSE(due({0.9, 0, 1001, 100}, some, 3000));
  EXPECT_FALSE(due({0.0, 0, 0, 100}, all, 1599)) << "nothing is new";
  EXPECT_TRUE(due({0.0, 0, 0, 100}, all, 1600)) << "three tombstones may go";
  EXPECT_FALSE(compaction_is_due({}, {0, 0, 0, 0}, none, WallMs{3000}));
}

TEST(Compaction, marks_tell_since_when_and_stay_few) {
  CompactionState state;
  for (int i = 1; i <= 1000; ++i) {
    state.passed(Offset(i * 10), WallMs{i * 1000}, 600'000, 1, Offset(0));
    EXPECT_LE(state.marks().size(), CompactionState::kMaxMarks);
  }
  EXPECT_EQ(state.upto(), Offset(10'000));
  EXPECT_EQ(state.horizon(WallMs{1'000'000}, 0), Offset(10'000));
  // Never more than is true, and not much less.
  for (const std::int64_t ms : {100'000, 300'000, 550'000}) {
    const std::int64_t truth = (1'000'000 - ms) / 100;
    EXPECT_LE(state.horizon(WallMs{1'000'000}, ms).value, truth);
    EXPECT_GE(state.horizon(WallMs{1'000'000}, ms).value, truth - 600);
  }
  const auto back = CompactionState::decode(state.encode(), "x");
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->marks(), state.marks());
  EXPECT_TRUE(back->has_old_tombstones(WallMs{1'000'000}, 0));
  Bytes bytes = state.encode();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= 4;
    EXPECT_FALSE(CompactionState::decode(bytes, "x").has_value()) << i;
    bytes[i] ^= 4;
    EXPECT_FALSE(CompactionState::decode(ByteView(bytes).first(i), "x").has_value()) << i;
  }
}

TEST(Compaction, small_segments_are_put_together) {
  const CleanableSegment first{Offset(5), Offset(10), 300, 0};
  CleanableSegment next{Offset(10), Offset(20), 300, 0};
  EXPECT_TRUE(may_join(first, 700, next, 1000));
  EXPECT_FALSE(may_join(first, 701, next, 1000));
  next.next = Offset((std::int64_t{1} << 31) + 5);
  EXPECT_TRUE(may_join(first, 0, next, 1000));
  next.next = Offset((std::int64_t{1} << 31) + 6);
  EXPECT_FALSE(may_join(first, 0, next, 1000));
}

LogConfig compacted(std::int64_t delete_retention_ms = 1'000'000'000) {
  LogConfig config = small_segments();
  config.compaction = Compaction{0.0, 0, kNever, delete_retention_ms};
  return config;
}

/// One record; no value = tombstone.
Bytes keyed(std::int64_t base, int key, bool tombstone, std::uint32_t epoch = 1) {
  BatchBuilder builder(base % 3 == 0 ? Codec::kZstd : Codec::kNone);
  const std::string k = "key-" + std::to_string(key);
  const std::string v = "value-of-" + std::to_string(base) + std::string(60, '.');
  NewRecord record;
  record.timestamp = 1000 + base;
  record.key = as_bytes(k);
  if (!tombstone) record.value = as_bytes(v);
  builder.add(record);
  Bytes bytes = builder.build(Offset(base)).value();
  assign_offset_and_epoch(bytes, Offset(base), Epoch(epoch));
  return bytes;
}

using Table = std::map<std::string, std::pair<std::int64_t, bool>>;  // key → offset, has a value

/// What a reader makes of the log: the newest of each key. Checks that offsets rise.
io::Task<Result<Table>> table_of(std::shared_ptr<PartitionLog> log,
                                 std::size_t* records = nullptr) {
  PYRALOG_CO_ASSIGN(const Bytes bytes, co_await read_all(log, log->start_offset(), 700));
  Table table;
  std::int64_t last = -1;
  ByteView rest = bytes;
  while (!rest.empty()) {
    const BatchHeader header = parse_batch_header(rest).value();
    RecordReader reader = RecordReader::open(rest.first(header.total_bytes()), 1u << 20).value();
    rest = rest.subspan(header.total_bytes());
    while (const auto r = reader.next().value()) {
      EXPECT_GT(r->offset, last);
      last = r->offset;
      table[std::string(as_text(*r->key))] = {r->offset, r->value.has_value()};
      if (r->value) {
        EXPECT_TRUE(as_text(*r->value).starts_with("value-of-" + std::to_string(r->offset) + "."));
      }
      if (records != nullptr) ++*records;
    }
  }
  co_return table;
}

io::Task<Result<Compacted>> compact_now(PartitionLog& log, std::size_t table_bytes = 100'000) {
  CompactionCall call;
  call.now = io::Shard::current().wall();
  call.limit = log.synced_end();
  call.table_bytes = table_bytes;
  co_return co_await log.compact(call);
}

/// Appends `n` records of few keys, syncs them; every seventh is a tombstone.
io::Task<void> fill(ShardLogs& shard, const std::shared_ptr<PartitionLog>& log, int n, Table& truth,
                    int keys = 9) {
  for (int i = 0; i < n; ++i) {
    const std::int64_t base = log->end_offset().value;
    const int key = static_cast<int>((base * 5 + base / 11) % keys);
    const bool tombstone = base % 7 == 3;
    (void)(co_await append(*log, keyed(base, key, tombstone))).value();
    truth["key-" + std::to_string(key)] = {base, !tombstone};
  }
  (void)(co_await shard.sync(log)).value();
  co_await io::sleep_for(10ms);  // sealed segments are finished
}

Table without_tombstones(Table table) {
  std::erase_if(table, [](const auto& entry) { return !entry.second.second; });
  return table;
}

TEST(compact_key, the_newest_of_each_key_is_left_in_few_segments) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  Table truth;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted())).value();
    co_await fill(*shard, log, 300, truth);
    const auto bytes = log->size_bytes();
    const auto done = (co_await compact_now(*log)).value();
    EXPECT_EQ(done.passes, 1u);
    EXPECT_GT(done.records_removed, 250u);
    EXPECT_GT(done.segments_in, 10u);
    EXPECT_LT(log->size_bytes(), bytes / 5);
    std::size_t records = 0;
    EXPECT_EQ((co_await table_of(log, &records)).value(), truth);
    // Those of the active segment are not compared.
    EXPECT_LE(records, truth.size() + 20);
    EXPECT_EQ((co_await compact_now(*log)).value().passes, 0u) << "nothing is new";
    co_await fill(*shard, log, 300, truth);
    (void)(co_await compact_now(*log)).value();
    EXPECT_EQ((co_await table_of(log)).value(), truth);
    EXPECT_EQ(log->start_offset(), Offset(0));
    EXPECT_EQ(log->end_offset(), Offset(600));
    // A segment that was full takes nothing in; what is left of it goes into another.
    co_await fill(*shard, log, 20, truth);
    (void)(co_await compact_now(*log)).value();
    // Times are found as before, in what is left.
    const auto hit = (co_await log->find_timestamp(1000, log->end_offset())).value();
    EXPECT_TRUE(hit && hit->offset > Offset(0));
    co_await shard->abandon();
  });
  EXPECT_LE(count_files(node, ".log"), 8u) << "of sixty";
  node.kill();
  node.restart();
  node.run([&]() -> io::Task<void> {
    const auto report =
        co_await verify(io::Shard::current().disk(), "/data/" + to_string(partition()));
    EXPECT_TRUE(report && report->findings.empty())
        << (report && !report->findings.empty() ? report->findings[0].what : "");
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted())).value();
    EXPECT_EQ((co_await table_of(log)).value(), truth);
    EXPECT_EQ((co_await compact_now(*log)).value().passes, 0u) << "it remembers";
    (co_await shard->close()).value();
  });
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted())).value();
    EXPECT_EQ(shard->stats().scanned_bytes, 0u);
    EXPECT_EQ((co_await table_of(log)).value(), truth);
    co_await shard->abandon();
  });
}

TEST(compact_key, with_little_memory_there_are_more_passes) {
  Simulator sim(2);
  Node& node = sim.add_node(quiet_disk());
  Table truth;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted())).value();
    co_await fill(*shard, log, 300, truth, 60);
    const auto done = (co_await compact_now(*log, 24 * 20)).value();
    EXPECT_GT(done.passes, 3u);
    std::size_t records = 0;
    EXPECT_EQ((co_await table_of(log, &records)).value(), truth);
    EXPECT_LE(records, truth.size() + 20);
    co_await shard->abandon();
  });
}

/// A clock that is ahead after a long stop is believed after an hour only; what is compacted meanwhile is
/// not a day older for that.
TEST(compact_key, tombstones_stay_though_the_believed_time_makes_up_for_a_day) {
  Simulator sim(13);
  Node& node = sim.add_node(quiet_disk());
  Table truth;
  node.run([&]() -> io::Task<void> {
    constexpr std::int64_t kDay = 24 * 3'600'000;
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted(kDay))).value();
    co_await fill(*shard, log, 200, truth);
    (co_await log->roll()).value();
    co_await io::sleep_for(10ms);
    CompactionCall call;
    call.limit = log->end_offset();
    for (const std::int64_t behind : {kDay, kDay, std::int64_t{0}, std::int64_t{0}}) {
      call.now = WallMs{io::Shard::current().wall().ms - behind};
      EXPECT_TRUE(co_await log->compact(call));
      co_await io::sleep_for(1s);
    }
    EXPECT_EQ((co_await table_of(log)).value(), truth);
    co_await shard->abandon();
  });
}

TEST(compact_key, tombstones_go_when_they_were_alone_for_long_enough) {
  Simulator sim(3);
  Node& node = sim.add_node(quiet_disk());
  Table truth;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted(60'000))).value();
    co_await fill(*shard, log, 200, truth);
    (co_await log->roll()).value();
    co_await io::sleep_for(10ms);
    EXPECT_NE(truth, without_tombstones(truth));
    (void)(co_await compact_now(*log)).value();
    EXPECT_EQ((co_await table_of(log)).value(), truth);
    co_await io::sleep_for(59s);
    EXPECT_EQ((co_await compact_now(*log)).value().passes, 0u);
    EXPECT_EQ((co_await table_of(log)).value(), truth) << "not yet";
    co_await io::sleep_for(2s);
    EXPECT_EQ((co_await compact_now(*log)).value().passes, 1u);
    EXPECT_EQ((co_await table_of(log)).value(), without_tombstones(truth));
    EXPECT_EQ((co_await compact_now(*log)).value().passes, 0u);
    co_await shard->abandon();
  });
}

TEST(compact_key, keeps_to_its_pace_and_stops_in_the_middle_of_it) {
  Simulator sim(8);
  Node& node = sim.add_node(quiet_disk());
  Table truth;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted())).value();
    co_await fill(*shard, log, 100, truth);
    const auto bytes = log->size_bytes();
    CompactionCall call;
    call.now = io::Shard::current().wall();
    call.limit = log->synced_end();
    call.bytes_per_second = 50;
    const Instant began = io::Shard::current().now();
    call.stop = [&] { return io::Shard::current().now() - began > 3s; };
    EXPECT_EQ((co_await log->compact(call)).error().code, Code::kCancelled);
    EXPECT_LT(io::Shard::current().now() - began, 4s) << "one segment alone takes half a minute";
    call.stop = nullptr;
    const Instant again = io::Shard::current().now();
    EXPECT_TRUE((co_await log->compact(call)).has_value());
    // All but the active segment is read twice.
    EXPECT_GT(io::Shard::current().now() - again, std::chrono::seconds(2 * (bytes - 1600) / 50));
    EXPECT_EQ((co_await table_of(log)).value(), truth);
    co_await shard->abandon();
  });
}

TEST(compact_key, holds_and_young_records_are_respected) {
  Simulator sim(4);
  Node& node = sim.add_node(quiet_disk());
  Table truth;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    LogConfig config = compacted();
    config.compaction->min_lag_ms = 60'000;
    auto log = (co_await shard->open_log(partition(), config)).value();
    co_await fill(*shard, log, 100, truth);
    EXPECT_EQ((co_await compact_now(*log)).value().passes, 0u) << "all is young";
    co_await io::sleep_for(61s);
    co_await fill(*shard, log, 100, truth);
    CompactionCall call;
    call.now = io::Shard::current().wall();
    call.limit = Offset(50);
    EXPECT_LE((co_await log->compact(call)).value().upto, Offset(50));
    EXPECT_GT((co_await log->compact(call)).value().upto, Offset(20));
    call.limit = log->synced_end();
    EXPECT_LE((co_await log->compact(call)).value().upto, Offset(110));
    config.compaction->max_lag_ms = 30'000;
    config.compaction->min_lag_ms = 0;
    log->set_config(config);
    co_await io::sleep_for(31s);
    call.now = io::Shard::current().wall();
    EXPECT_EQ((co_await log->compact(call)).value().upto, Offset(200)) << "the active one too";
    EXPECT_EQ((co_await table_of(log)).value(), truth);
    co_await shard->abandon();
  });
}

TEST(compact_key, readers_and_writers_go_on_meanwhile) {
  Simulator sim(5);
  io::sim::NodeOptions slow = quiet_disk();
  slow.disk.cold_read = 0.5;
  slow.disk.latency_max = 2ms;
  Node& node = sim.add_node(slow);
  Table truth;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted())).value();
    co_await fill(*shard, log, 200, truth);
    bool stop = false;
    std::uint64_t reads = 0;
    std::uint64_t finds = 0;
    const auto read = [&]() -> io::Task<void> {
      while (!stop) {
        for (Offset at = log->start_offset(); at < log->end_offset();) {
          const auto part = co_await log->read(at, {300, log->end_offset(), true});
          EXPECT_TRUE(part.has_value()) << part.error().message;
          if (!part || part->next <= at) break;
          at = part->next;
          const auto bytes = co_await bytes_of(*part);
          EXPECT_TRUE(bytes.has_value());
          EXPECT_EQ(parse_batch_header(*bytes).value().base_offset, part->first.value);
          ++reads;
        }
        const auto hit = co_await log->find_timestamp(1100, log->end_offset());
        EXPECT_TRUE(hit.has_value()) << hit.error().message;
        ++finds;
        std::int64_t next = -1;
        EXPECT_TRUE((co_await log->scan_headers(log->start_offset(), [&](const BatchHeader& h) {
                      EXPECT_GT(h.next_offset(), next);
                      next = h.next_offset();
                      return true;
                    })).has_value());
        co_await io::sleep_for(1ms);
      }
    };
    io::TaskGroup readers;
    for (int i = 0; i < 3; ++i) readers.spawn(read());
    for (int i = 0; i < 12; ++i) {
      (void)(co_await compact_now(*log)).value();
      co_await fill(*shard, log, 40, truth);
    }
    stop = true;
    co_await readers.join();
    EXPECT_GT(reads, 500u);
    EXPECT_GT(finds, 20u);
    EXPECT_EQ((co_await table_of(log)).value(), truth);
    EXPECT_EQ(shard->stats().corrupt_ranges, 0u);
    co_await shard->abandon();
  });
}

/// A node on which half full segments are compacted, two of them to one, until it stops.
struct CompactionCrash {
  io::sim::DiskHook when;  ///< asked for each call of the compaction
  std::uint64_t seed = 0;
  std::int64_t delete_retention_ms = 1'000'000;
  std::uint64_t table_bytes = 100'000;  ///< for the keys; 240: for ten of them

  /// Whether all is there afterwards, in order and without leftovers; and stays so.
  void run(bool power) {
    Simulator sim(seed);
    Node& node = sim.add_node(quiet_disk());
    Table truth;
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), compacted(delete_retention_ms))).value();
      for (int i = 0; i < 6; ++i) {
        co_await fill(*shard, log, 4, truth);
        (co_await log->roll()).value();
      }
      co_await fill(*shard, log, 2, truth);
      co_await shard->abandon();
    });
    (void)node.try_run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), compacted(delete_retention_ms))).value();
      // Nothing was acknowledged in the new segment: the evidence still speaks of the old one.
      (void)co_await log->roll();
      co_await io::sleep_for(10ms);
      node.disk().set_hook(when);
      (void)co_await compact_now(*log, table_bytes);
      co_await shard->abandon();
    });
    node.disk().set_hook({});
    if (node.up()) power ? node.lose_power() : node.kill();
    node.restart();
    node.run([&]() -> io::Task<void> { co_await look(truth); });
  }

 private:
  static io::Task<void> look(Table truth) {
    io::Disk& disk = io::Shard::current().disk();
    const auto report = co_await verify(disk, "/data/" + to_string(partition()));
    EXPECT_TRUE(report && std::ranges::none_of(report->findings, &Finding::synced));
    auto shard = (co_await open_shard()).value();
    auto log = co_await shard->open_log(partition(), compacted());
    EXPECT_TRUE(log.has_value()) << log.error().message;
    if (log) {
      const auto table = co_await table_of(*log);
      EXPECT_TRUE(table.has_value()) << table.error().message;
      EXPECT_EQ(without_tombstones(table.value_or(Table())), without_tombstones(truth));
      EXPECT_EQ((*log)->end_offset(), Offset(26));
      for (const auto& entry : (co_await disk.list((*log)->dir())).value()) {
        EXPECT_FALSE(parse_swap_name(entry.name, kSwapExtension) ||
                     parse_swap_name(entry.name, kCleanedExtension))
            << entry.name;
        EXPECT_FALSE(entry.name.starts_with("0") && entry.name.ends_with(".tmp")) << entry.name;
        const auto beside = parse_side_file_name(entry.name);
        EXPECT_TRUE(!beside || (co_await disk.exists((*log)->dir() + "/" +
                                                     segment_file_name(*beside, "log")))
                                   .value())
            << entry.name;
      }
      co_await fill(*shard, *log, 30, truth);
      (void)(co_await compact_now(**log)).value();
      EXPECT_EQ(without_tombstones((co_await table_of(*log)).value()), without_tombstones(truth));
    }
    co_await shard->abandon();
  }
};

TEST(compact_key, a_crash_anywhere_leaves_the_newest_of_each_key) {
  std::map<DiskOp, int> crashes;
  const std::uint64_t kRounds = std::getenv("PYRALOG_SOAK") != nullptr ? 40 : 4;
  std::uint64_t longest = 1;
  for (std::uint64_t at = 1; at <= longest; ++at) {
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const bool power = round > 0;
      SCOPED_TRACE(testing::Message() << at << (power ? " power " : " kill ") << round);
      std::uint64_t calls = 0;
      CompactionCrash crash;
      crash.seed = 7 * at + round;
      if (round == 3) crash.delete_retention_ms = 0;
      if (round % 2 == 0) crash.table_bytes = 240;
      crash.when = [&](DiskOp op, const std::string&) {
        if (++calls != at) return DiskFault::kNone;
        longest = at + 1;
        ++crashes[op];
        return power ? DiskFault::kPowerLoss : DiskFault::kKill;
      };
      crash.run(power);
      if (testing::Test::HasFailure()) return;
    }
  }
  EXPECT_GT(crashes[DiskOp::kRename], 3);
  EXPECT_GT(crashes[DiskOp::kRemove], 3);
  EXPECT_GT(crashes[DiskOp::kSyncDir], 3);
}

/// Where a directory keeps any of its changes, the new segment may have its name and an old one still have its own.
TEST(compact_key, what_a_segment_replaces_is_gone_before_it_has_its_name) {
  int crashes = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    bool renamed = false;
    CompactionCrash crash;
    crash.seed = seed;
    crash.when = [&](DiskOp op, const std::string& path) {
      if (op == DiskOp::kRename) renamed = path.ends_with(kSwapExtension);
      if (op != DiskOp::kSyncDir || !renamed) return DiskFault::kNone;
      ++crashes;
      return DiskFault::kPowerLoss;
    };
    crash.run(true);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_EQ(crashes, 40);
}

/// A process may die when it has made an index for a segment that compaction has just put into another.
TEST(compact_key, files_beside_segments_that_were_merged_are_swept) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet_disk());
  const std::string dir = "/data/" + to_string(partition());
  Table truth;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted())).value();
    co_await fill(*shard, log, 300, truth);
    (void)(co_await compact_now(*log)).value();
    co_await fill(*shard, log, 30, truth);
    co_await shard->abandon();
  });
  node.kill();
  node.restart();
  node.run([&]() -> io::Task<void> {
    io::Disk& disk = io::Shard::current().disk();
    std::vector<Offset> bases;
    for (const auto& entry : (co_await disk.list(dir)).value()) {
      if (const auto base = parse_segment_name(entry.name)) bases.push_back(*base);
    }
    const auto path = [&](Offset base, std::string_view extension) {
      return dir + "/" + segment_file_name(base, extension);
    };
    const Offset merged(bases[0].value + 1);
    // It is lost, as by somebody's mistake, and may be brought back.
    const Offset lost = bases[bases.size() - 2];
    EXPECT_TRUE(co_await disk.remove(path(lost, "log")));
    const std::vector<std::string> beside{"index", "timeindex", "appendtime", "appendtime.tmp"};
    for (const Offset base : {merged, lost}) {
      for (const std::string& extension : beside) {
        auto file = co_await disk.open(path(base, extension), io::OpenMode::kOpenOrCreate);
        EXPECT_TRUE(file && (*file)->write_at(0, as_bytes("left")));
      }
    }
    auto shard = (co_await open_shard()).value();
    (void)co_await shard->open_log(partition(), compacted());
    for (const std::string& extension : beside) {
      EXPECT_FALSE((co_await disk.exists(path(merged, extension))).value()) << extension;
      EXPECT_EQ((co_await disk.exists(path(lost, extension))).value(), extension != "appendtime.tmp")
          << extension;
    }
    co_await shard->abandon();
  });
}

TEST(compact_key, a_swap_that_cannot_be_right_replaces_nothing) {
  // Another partition's, one that goes beyond all segments, and one whose header is damaged.
  for (const int kind : {0, 1, 2}) {
    SCOPED_TRACE(kind);
    Simulator sim(30);
    Node& node = sim.add_node(quiet_disk());
    Table truth;
    node.run([&]() -> io::Task<void> {
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), compacted())).value();
      co_await fill(*shard, log, 80, truth);
      SegmentHeader header{partition(kind == 0 ? 2 : 1), Offset(0), Epoch(1), 5, Offset(0)};
      header.next = kind == 1 ? Offset(5000) : Offset(80);
      for (const auto& entry : (co_await io::Shard::current().disk().list(log->dir())).value()) {
        if (const auto base = parse_segment_name(entry.name);
            base && *base > Offset(0) && kind != 1) {
          header.next = *base;
        }
      }
      Bytes bytes = encode(header);
      if (kind == 2) bytes[20] ^= 1;
      const std::string path = log->dir() + "/" + segment_file_name(Offset(0), kSwapExtension);
      (co_await io::replace_file(io::Shard::current().disk(), path, std::move(bytes))).value();
      co_await shard->abandon();
    });
    node.kill();
    node.restart();
    node.run([&]() -> io::Task<void> {
      io::Disk& disk = io::Shard::current().disk();
      const std::string dir = "/data/" + to_string(partition());
      {
        auto shard = (co_await open_shard()).value();
        auto log = co_await shard->open_log(partition(), compacted());
        EXPECT_TRUE(!log && log.error().code == Code::kCorrupt);
        co_await shard->abandon();
      }
      const auto report = co_await verify(disk, dir);
      EXPECT_TRUE(report && report->findings.size() == 1);
      EXPECT_EQ((co_await repair(disk, dir, {})).error().code, Code::kCorrupt);
      RepairOptions all;
      all.below_synced = true;
      EXPECT_TRUE((co_await repair(disk, dir, all)).has_value());
      auto shard = (co_await open_shard()).value();
      auto log = (co_await shard->open_log(partition(), compacted())).value();
      EXPECT_EQ((co_await table_of(log)).value(), truth);
      co_await shard->abandon();
    });
  }
}

TEST(compact_key, a_full_disk_or_a_damaged_segment_changes_nothing) {
  Simulator sim(6);
  Node& node = sim.add_node(quiet_disk());
  Table truth;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted())).value();
    co_await fill(*shard, log, 80, truth);
    node.disk().set_hook([](DiskOp op, const std::string& path) {
      return op == DiskOp::kWrite && path.ends_with(".cleaned") ? DiskFault::kNoSpace
                                                                : DiskFault::kNone;
    });
    EXPECT_EQ((co_await compact_now(*log)).error().code, Code::kExhausted);
    node.disk().set_hook({});
    EXPECT_FALSE(log->offline());
    EXPECT_EQ((co_await table_of(log)).value(), truth);
    co_await shard->abandon();
  });
  std::string first;
  for (const std::string& path : node.disk().files()) {
    EXPECT_FALSE(path.ends_with(".cleaned"));
    if (first.empty() && path.ends_with(".log")) first = path;
  }
  ASSERT_TRUE(node.disk().corrupt(first, 200, 4).has_value());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(), compacted())).value();
    const auto before = log->size_bytes();
    EXPECT_EQ((co_await compact_now(*log)).error().code, Code::kCorrupt);
    EXPECT_EQ(log->size_bytes(), before);
    EXPECT_FALSE(log->offline());
    co_await shard->abandon();
  });
}

}  // namespace
}  // namespace pyralog::log
