// What inspect, verify and repair say of a partition's files, and what repair does to them.
#include "log/tools.h"

#include <algorithm>
#include <map>

#include "log/torn_log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::Node;
using io::sim::Simulator;

Result<LogReport> verify_it(Node& node) {
  return node.run([] { return verify(io::Shard::current().disk(), dir_of(1)); });
}
Result<LogReport> repair_it(Node& node, RepairOptions options = {}) {
  return node.run([=] { return repair(io::Shard::current().disk(), dir_of(1), options); });
}
Result<Bytes> read_it(Node& node, Offset* end) {
  return node.run([=] { return open_and_read(end); });
}
std::string name_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

/// Everything in the data directory, by path.
std::map<std::string, Bytes> image(Node& node) {
  std::map<std::string, Bytes> all;
  for (const std::string& path : node.disk().files()) all[path] = node.disk().peek(path).value();
  return all;
}
std::vector<std::string> kept_aside(Node& node) {
  std::vector<std::string> found;
  for (const std::string& path : node.disk().files()) {
    if (path.ends_with(".damaged")) found.push_back(name_of(path));
  }
  return found;
}
void stop_cleanly(Node& node) {
  node.run([]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    (void)(co_await shard->open_log(partition(1), small_segments())).value();
    (co_await shard->close()).value();
  });
}

TEST(LogTools, a_sound_log_is_reported_and_left_alone) {
  for (const bool clean : {false, true}) {
    Simulator sim(1);
    Node& node = sim.add_node(quiet_disk());
    const Torn torn = make_torn(node, 22, 0);
    if (clean) stop_cleanly(node);
    const auto before = image(node);
    const LogReport report = verify_it(node).value();
    EXPECT_TRUE(report.sound()) << report.findings.front().what;
    EXPECT_EQ(report.partition, partition(1));
    EXPECT_EQ(report.start, Offset(0));
    EXPECT_EQ(report.end, Offset(torn.acknowledged()));
    EXPECT_TRUE(report.has_synced);
    EXPECT_EQ(report.synced_end, Offset(torn.acknowledged()));
    EXPECT_EQ(report.synced_position, torn.contents.back().size());
    EXPECT_EQ(report.cut_bytes, 0u);
    ASSERT_EQ(report.segments.size(), torn.files.size());
    std::uint64_t records = 0;
    std::uint64_t batches = 0;
    for (std::size_t i = 0; i < report.segments.size(); ++i) {
      const SegmentReport& s = report.segments[i];
      EXPECT_EQ(s.file, name_of(torn.files[i]));
      EXPECT_EQ(s.bytes, torn.contents[i].size());
      EXPECT_EQ(s.sound_bytes, s.bytes);
      EXPECT_EQ(s.bad_append_times, 0u);
      EXPECT_TRUE(s.index_sound || (!clean && i + 1 == report.segments.size())) << i;
      records += s.records;
      batches += s.batches;
    }
    EXPECT_EQ(records, static_cast<std::uint64_t>(torn.acknowledged()));
    EXPECT_EQ(batches, torn.batches.size());
    EXPECT_EQ(report.epochs.size(), static_cast<std::size_t>(torn.acknowledged() - 1) / 8 + 1);
    const LogReport listed =
        node.run([] { return inspect(io::Shard::current().disk(), dir_of(1), {true, 5}); }).value();
    std::size_t headers = 0;
    for (const SegmentReport& s : listed.segments) headers += s.headers.size();
    EXPECT_EQ(headers, 5u);
    EXPECT_EQ(image(node), before);
    EXPECT_EQ(node.run([] { return list_logs(io::Shard::current().disk(), "/data"); }).value(),
              std::vector<PartitionId>{partition(1)});
  }
}

TEST(LogTools, names_what_is_no_partition) {
  Simulator sim(2);
  Node& node = sim.add_node(quiet_disk());
  (void)make_torn(node, 1, 0);
  EXPECT_EQ(node.run([] { return verify(io::Shard::current().disk(), "/data"); }).error().code,
            Code::kInvalidArgument);
  EXPECT_EQ(node.run([] { return verify(io::Shard::current().disk(), dir_of(2)); }).error().code,
            Code::kNotFound);
}

TEST(LogTools, a_torn_tail_is_no_damage_and_repair_keeps_what_it_cuts) {
  Simulator sim(3);
  Node& node = sim.add_node(quiet_disk());
  const Torn torn = make_torn(node, 10, 2);
  const std::uint64_t fault = torn.synced_position;
  ASSERT_TRUE(node.disk().corrupt(torn.files.back(), fault + 70, 1).has_value());
  const Bytes tail = [&] {
    const Bytes now = node.disk().peek(torn.files.back()).value();
    return Bytes(now.begin() + static_cast<std::ptrdiff_t>(fault), now.end());
  }();
  const LogReport report = verify_it(node).value();
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].file, name_of(torn.files.back()));
  EXPECT_EQ(report.findings[0].position, fault);
  EXPECT_FALSE(report.findings[0].synced);
  EXPECT_EQ(report.cut_bytes, tail.size());
  EXPECT_EQ(report.end, Offset(torn.acknowledged()));

  const auto before = image(node);
  EXPECT_EQ(repair_it(node, {false, true}).value().cut_bytes, tail.size());
  EXPECT_EQ(image(node), before);

  const LogReport repaired = repair_it(node).value();
  EXPECT_EQ(repaired.cut_bytes, tail.size());
  EXPECT_EQ(repaired.end, Offset(torn.acknowledged()));
  ASSERT_EQ(kept_aside(node).size(), 1u);
  const std::string kept =
      name_of(torn.files.back()) + ".from-" + std::to_string(fault) + ".damaged";
  EXPECT_EQ(kept_aside(node)[0], kept);
  EXPECT_EQ(node.disk().peek(dir_of(1) + "/" + kept).value(), tail);
  const LogReport again = verify_it(node).value();
  EXPECT_TRUE(again.sound());
  for (const SegmentReport& s : again.segments) EXPECT_TRUE(s.index_sound) << s.file;
  Offset end;
  EXPECT_EQ(read_it(node, &end).value(), torn.first(torn.synced));
}

/// Flips one byte of what was synced and lets repair mend it.
void damage_and_repair(std::uint64_t seed, std::size_t file, std::uint64_t position, bool clean) {
  SCOPED_TRACE("file " + std::to_string(file) + " byte " + std::to_string(position));
  Simulator sim(seed);
  Node& node = sim.add_node(quiet_disk());
  const Torn torn = make_torn(node, 22, 0);
  ASSERT_GE(torn.files.size(), 3u);
  if (clean) stop_cleanly(node);
  ASSERT_TRUE(node.disk().corrupt(torn.files[file], position, 0x10).has_value());
  const LogReport report = verify_it(node).value();
  ASSERT_FALSE(report.sound());
  EXPECT_EQ(report.findings[0].file, name_of(torn.files[file]));
  EXPECT_LE(report.findings[0].position, position);
  EXPECT_TRUE(report.findings[0].synced);

  const auto before = image(node);
  const auto refused = repair_it(node);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kCorrupt);
  EXPECT_NE(refused.error().message.find(name_of(torn.files[file])), std::string::npos);
  EXPECT_NE(refused.error().message.find("--below-synced"), std::string::npos);
  EXPECT_EQ(image(node), before);
  EXPECT_FALSE(repair_it(node, {true, true}).value().sound());
  EXPECT_EQ(image(node), before);

  const LogReport repaired = repair_it(node, {true, false}).value();
  EXPECT_TRUE(verify_it(node).value().sound());
  EXPECT_FALSE(kept_aside(node).empty());
  // Everything that went is beside what stayed.
  std::uint64_t aside = 0;
  for (const std::string& name : kept_aside(node)) {
    if (name.find(".log.") != std::string::npos) {
      aside += node.disk().peek(dir_of(1) + "/" + name).value().size();
    }
  }
  EXPECT_GE(aside, repaired.cut_bytes);
  EXPECT_LE(aside, repaired.cut_bytes + kSegmentHeaderBytes);
  // The server takes it, from the front to where it was cut, through a power loss.
  node.lose_power();
  node.restart();
  Offset end;
  const auto read = read_it(node, &end);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(end, repaired.end);
  const auto kept = std::find(torn.bases.begin(), torn.bases.end(), end.value);
  ASSERT_NE(kept, torn.bases.end());
  EXPECT_EQ(*read, torn.first(static_cast<std::size_t>(kept - torn.bases.begin())));
}

TEST(LogTools, damage_is_cut_only_if_asked_for) {
  for (const bool clean : {false, true}) {
    // A segment's header; a record, an epoch and an offset in the first and in the last batch.
    for (const std::uint64_t position : {3u, 50u, 150u, 79u, 71u}) {
      for (const std::size_t file : {0u, 1u, 2u}) damage_and_repair(4, file, position, clean);
    }
  }
}

TEST(LogTools, a_log_of_which_nothing_is_left_goes_on_where_it_was_cut) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet_disk());
  node.run([]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {}, Offset(70))).value();
    (void)(co_await append(*log, batch(70, 4))).value();
    (void)(co_await shard->sync(log)).value();
    co_await shard->abandon();
  });
  const std::string path = dir_of(1) + "/" + segment_file_name(Offset(70), "log");
  (void)node.run([&] { return io::Shard::current().disk().remove(path); });
  const LogReport report = verify_it(node).value();
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].what, "the file is missing");
  EXPECT_TRUE(report.findings[0].synced);
  EXPECT_EQ(repair_it(node, {true, false}).value().end, Offset(70));
  node.run([]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {}, Offset(0))).value();
    EXPECT_EQ(log->end_offset(), Offset(70));
    (void)(co_await append(*log, batch(70, 5))).value();
    EXPECT_EQ((co_await shard->sync(log)).value(), Offset(71));
    co_await shard->abandon();
  });
  EXPECT_TRUE(verify_it(node).value().sound());
}

TEST(LogTools, a_missing_segment_is_damage) {
  for (const std::size_t file : {1u, 4u}) {
    Simulator sim(6);
    Node& node = sim.add_node(quiet_disk());
    const Torn torn = make_torn(node, 30, 0);
    ASSERT_EQ(torn.files.size(), 5u);
    (void)node.run([&] { return io::Shard::current().disk().remove(torn.files[file]); });
    const LogReport report = verify_it(node).value();
    ASSERT_FALSE(report.sound());
    EXPECT_TRUE(report.findings[0].synced);
    EXPECT_FALSE(repair_it(node).has_value());
    const Offset end = repair_it(node, {true, false}).value().end;
    EXPECT_EQ(name_of(torn.files[file]), segment_file_name(end, "log"));
    EXPECT_TRUE(verify_it(node).value().sound());
    Offset opened;
    ASSERT_TRUE(read_it(node, &opened).has_value());
    EXPECT_EQ(opened, end);
  }
}

/// Kafka's checksum leaves the epoch out; the batch behind one of a higher epoch looks no less odd.
TEST(LogTools, a_wrong_epoch_is_found_in_the_batch_that_has_it) {
  Simulator sim(10);
  Node& node = sim.add_node(quiet_disk());
  const Torn torn = make_torn(node, 20, 3);
  const auto verify_with_epochs = [&] {
    return node
        .run([&] { 
          InspectOptions known;
          known.given_out = torn.given_out();
          return verify(io::Shard::current().disk(), dir_of(1), std::move(known));
        })
        .value();
  };
  EXPECT_TRUE(verify_with_epochs().sound());
  for (const std::uint8_t mask : std::initializer_list<std::uint8_t>{0x01, 0x02, 0x40}) {
    std::uint64_t from = torn.contents.back().size();
    for (std::size_t i = torn.batches.size(); from > kSegmentHeaderBytes;) {
      const std::uint64_t at = from -= torn.batches[--i].size();
      // The two lower bytes of the epoch, at byte 12 of a batch.
      for (const std::uint64_t byte : {at + 14, at + 15}) {
        ASSERT_TRUE(node.disk().corrupt(torn.files.back(), byte, mask).has_value());
        const LogReport report = verify_with_epochs();
        ASSERT_FALSE(report.sound()) << byte;
        EXPECT_EQ(report.findings[0].position, at) << report.findings[0].what;
        EXPECT_EQ(report.findings[0].synced, at < torn.synced_position);
        ASSERT_TRUE(node.disk().corrupt(torn.files.back(), byte, mask).has_value());
      }
    }
  }
}

TEST(LogTools, a_log_whose_first_file_is_gone_begins_with_the_next_one_when_told_to) {
  Simulator sim(11);
  Node& node = sim.add_node(quiet_disk());
  const Torn torn = make_torn(node, 20, 0);
  ASSERT_GE(torn.files.size(), 3u);
  Offset end;
  ASSERT_TRUE(read_it(node, &end).has_value());
  (void)node.run([&] { return io::Shard::current().disk().remove(torn.files[0]); });
  const LogReport report = verify_it(node).value();
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].file, name_of(torn.files[0]));
  EXPECT_TRUE(report.findings[0].synced);
  EXPECT_EQ(repair_it(node).error().code, Code::kCorrupt);
  EXPECT_EQ(repair_it(node, {true, false}).value().cut_bytes, 0u);
  EXPECT_TRUE(verify_it(node).value().sound());
  const auto opened = node.run([]() -> io::Task<Result<Offset>> {
    PYRALOG_CO_ASSIGN(auto shard, co_await open_shard());
    auto log = co_await shard->open_log(partition(1), small_segments());
    co_await shard->abandon();
    if (!log) co_return fail(log.error());
    co_return (*log)->start_offset();
  });
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  EXPECT_EQ(*opened, *parse_segment_name(name_of(torn.files[1])));
}

TEST(LogTools, a_second_repair_keeps_what_the_first_one_kept) {
  Simulator sim(7);
  Node& node = sim.add_node(quiet_disk());
  const Torn torn = make_torn(node, 4, 2);
  for (int round = 1; round <= 3; ++round) {
    (void)node.run([&] { return restore(io::Shard::current().disk(), torn); });
    ASSERT_TRUE(node.disk().corrupt(torn.files.back(), torn.synced_position + 5, static_cast<std::uint8_t>(round)).has_value());
    (void)repair_it(node).value();
    EXPECT_EQ(kept_aside(node).size(), static_cast<std::size_t>(round));
  }
}

TEST(LogTools, bad_append_times_are_named_and_taken_out) {
  Simulator sim(8);
  Node& node = sim.add_node(quiet_disk());
  node.run([]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    for (int i = 0; i < 5; ++i) {
      (void)(co_await append(*log, batch(i))).value();
      co_await io::sleep_for(50ms);
    }
    (void)(co_await shard->sync(log)).value();
    co_await shard->abandon();
  });
  const std::string path = dir_of(1) + "/" + segment_file_name(Offset(0), "appendtime");
  ASSERT_TRUE(node.disk().corrupt(path, 2 * kAppendTimeEntryBytes + 3, 1).has_value());
  const LogReport report = verify_it(node).value();
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].file, name_of(path));
  EXPECT_EQ(report.segments[0].append_times, 4u);
  EXPECT_EQ(report.segments[0].bad_append_times, 1u);
  EXPECT_EQ(repair_it(node).value().cut_bytes, 0u);
  const LogReport again = verify_it(node).value();
  EXPECT_TRUE(again.sound());
  EXPECT_EQ(again.segments[0].append_times, 4u);
  EXPECT_EQ(kept_aside(node), std::vector<std::string>{name_of(path) + ".damaged"});
}

TEST(LogTools, damaged_side_files_are_made_anew) {
  Simulator sim(9);
  Node& node = sim.add_node(quiet_disk());
  const Torn torn = make_torn(node, 22, 0);
  stop_cleanly(node);
  const std::string index = torn.files[0].substr(0, torn.files[0].size() - 3) + "index";
  ASSERT_TRUE(node.disk().corrupt(index, 40, 1).has_value());
  ASSERT_TRUE(node.disk().corrupt(dir_of(1) + "/epochs", 30, 1).has_value());
  const LogReport report = verify_it(node).value();
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].file, "epochs");
  EXPECT_FALSE(report.segments[0].index_sound);
  EXPECT_TRUE(repair_it(node).value().segments[0].index_sound);
  const LogReport again = verify_it(node).value();
  EXPECT_TRUE(again.sound());
  EXPECT_TRUE(again.segments[0].index_sound);
  EXPECT_EQ(again.epochs, report.epochs);
}

TEST(LogTools, a_crash_in_the_middle_of_a_repair_leaves_what_a_second_one_mends) {
  std::uint64_t crashes = 0;
  for (std::uint64_t at = 1; at <= 80; ++at) {
    SCOPED_TRACE(at);
    Simulator sim(at);
    Node& node = sim.add_node(quiet_disk());
    const Torn torn = make_torn(node, 22, 0);
    ASSERT_TRUE(node.disk().corrupt(torn.files[1], 200, 1).has_value());
    const Offset end = verify_it(node).value().end;
    std::uint64_t calls = 0;
    node.disk().set_hook([&](io::sim::DiskOp, const std::string&) {
      if (++calls != at) return io::sim::DiskFault::kNone;
      ++crashes;
      return at % 3 == 0 ? io::sim::DiskFault::kKill : io::sim::DiskFault::kPowerLoss;
    });
    (void)node.try_run(
        [] { return repair(io::Shard::current().disk(), dir_of(1), {true, false}); });
    node.disk().set_hook({});
    if (node.up()) node.kill();
    node.restart();
    const auto second = repair_it(node, {true, false});
    ASSERT_TRUE(second.has_value()) << second.error().message;
    EXPECT_EQ(second->end, end);
    Offset opened;
    const auto read = read_it(node, &opened);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    EXPECT_EQ(opened, end);
  }
  EXPECT_GT(crashes, 40u);
}

TEST(LogTools, what_lies_beside_the_partitions_is_read_once_for_all_of_them) {
  const auto reads = [](std::uint8_t logs) {
    Simulator sim(1);
    Node& node = sim.add_node(quiet_disk());
    node.run([logs]() -> io::Task<void> {
      Options o = options();
      o.write_ahead_bytes = 1u << 20;
      o.write_ahead_min_files = 1;
      auto shard = (co_await open_shard(o)).value();
      for (std::uint8_t p = 0; p < logs; ++p) {
        auto log = (co_await shard->open_log(partition(p), small_segments())).value();
        (void)(co_await append(*log, batch(0))).value();
        (void)(co_await shard->sync(log)).value();
      }
      co_await shard->abandon();
    });
    std::uint64_t opened = 0;
    node.disk().set_hook([&opened](io::sim::DiskOp op, const std::string& path) {
      const bool beside = path.ends_with(".synced") || path.ends_with(".wal");
      opened += op == io::sim::DiskOp::kOpen && beside ? 1 : 0;
      return io::sim::DiskFault::kNone;
    });
    node.run([logs]() -> io::Task<void> {
      io::Disk& disk = io::Shard::current().disk();
      InspectOptions look;
      look.beside = (co_await read_beside(disk, "/data")).value();
      std::uint64_t segments = 0;
      look.on_segment = [&segments](std::uint64_t) { ++segments; };
      for (std::uint8_t p = 0; p < logs; ++p) {
        const LogReport report = (co_await verify(disk, dir_of(p), look)).value();
        EXPECT_TRUE(report.sound()) << report.findings.front().what;
        EXPECT_EQ(report.synced_end, Offset(1));
      }
      EXPECT_EQ(segments, logs);
    });
    return opened;
  };
  const std::uint64_t one = reads(1);
  EXPECT_GT(one, 0u);
  EXPECT_EQ(reads(9), one);
}

TEST(LogTools, a_partition_that_waits_for_what_is_in_write_ahead_files_holds_no_other_up) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  node.run([]() -> io::Task<void> {
    Options o = options();
    o.write_ahead_bytes = 1u << 20;
    o.write_ahead_min_files = 1;
    auto shard = (co_await open_shard(o)).value();
    for (std::uint8_t p = 0; p < 3; ++p) {
      auto log = (co_await shard->open_log(partition(p), small_segments())).value();
      (void)(co_await append(*log, batch(0))).value();
      (void)(co_await shard->sync(log)).value();
    }
    co_await shard->abandon();
  });
  // The pages of the second one's segment have not reached the disk.
  const std::string segment = dir_of(1) + "/" + segment_file_name(Offset(0), "log");
  EXPECT_TRUE(node.disk().corrupt(segment, kSegmentHeaderBytes + 30));
  node.disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
    const bool bad = op == io::sim::DiskOp::kOpen && path.starts_with(dir_of(2));
    return bad ? io::sim::DiskFault::kError : io::sim::DiskFault::kNone;
  });
  node.run([]() -> io::Task<void> {
    io::Disk& disk = io::Shard::current().disk();
    InspectOptions look;
    look.beside = (co_await read_beside(disk, "/data")).value();
    EXPECT_TRUE((co_await verify(disk, dir_of(0), look)).value().sound());
    EXPECT_EQ((co_await verify(disk, dir_of(1), look)).error().code, Code::kUnavailable);
    EXPECT_EQ((co_await verify(disk, dir_of(2), look)).error().code, Code::kIo);
  });
}

}  // namespace
}  // namespace pyralog::log
