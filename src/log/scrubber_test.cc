// What is read back from the device: damage is found, named and refused; nothing else is blamed.
#include "log/scrubber.h"

#include <algorithm>
#include <set>

#include "log/append_time.h"
#include "log/torn_log_testing.h"
#include "log/write_ahead_testing.h"
#include "observe/log.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;
using namespace std::chrono_literals;

constexpr std::optional<Code> kFine;
constexpr std::optional<Code> kBad = Code::kCorrupt;

/// The log lines while it lives.
class Lines {
 public:
  Lines() {
    observe::capture_log([this](const std::string& line) { lines_.push_back(line); });
  }
  ~Lines() { observe::capture_log({}); }
  [[nodiscard]] std::vector<std::string> with(std::string_view what) const {
    std::vector<std::string> found;
    for (const auto& line : lines_) {
      if (line.find(what) != std::string::npos) found.push_back(line);
    }
    return found;
  }

 private:
  std::vector<std::string> lines_;
};

/// A position in the index for every batch.
LogConfig indexed(std::string name) {
  LogConfig config = small_segments();
  config.index_interval_bytes = 1;
  config.name = std::move(name);
  return config;
}

/// A log of `count` batches, one record each, whose segments but the last are closed.
io::Task<std::shared_ptr<PartitionLog>> filled(ShardLogs& shard, std::uint8_t n, int count,
                                               std::size_t value_bytes = 200) {
  auto log = (co_await shard.open_log(partition(n), indexed("topic-" + std::to_string(n)))).value();
  for (int i = 0; i < count; ++i) {
    (void)(co_await append(*log, batch(i, 1, 1, 7, value_bytes))).value();
    co_await io::sleep_for(20ms);
  }
  (void)(co_await shard.sync(log)).value();
  co_await io::sleep_for(1s);
  co_return log;
}

std::string file_of(std::uint8_t n, std::int64_t base, std::string_view extension = "log") {
  return dir_of(n) + "/" + segment_file_name(Offset(base), extension);
}

/// Where the segments of a partition's directory begin, by offset.
std::vector<std::int64_t> bases(Node& node, std::uint8_t n) {
  std::vector<std::int64_t> found;
  for (const std::string& path : node.disk().files()) {
    if (!path.starts_with(dir_of(n) + "/")) continue;
    if (const auto base = parse_segment_name(path.substr(path.rfind('/') + 1))) {
      found.push_back(base->value);
    }
  }
  return found;
}

/// Why the batch at `offset` cannot be read.
io::Task<std::optional<Code>> read_one(PartitionLog& log, std::int64_t offset) {
  const auto read = co_await log.read(Offset(offset), {1, log.end_offset(), true});
  if (!read) co_return read.error().code;
  co_return kFine;
}

/// One round after the other. The pause is the simulator's time, in which what the rounds are to meet goes on;
/// it waits for nothing.
io::Task<void> scrub_until(const bool& stop, Scrubber& scrubber, Duration pause) {
  while (!stop) {
    (void)co_await scrubber.round({1h, UINT64_MAX, [&stop] { return stop; }});
    co_await io::sleep_for(pause);
  }
}

TEST(scrubber, finds_what_rots_on_the_device_and_refuses_it_by_name) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 30);
    auto other = co_await filled(*shard, 2, 30);
    Scrubber scrubber(*shard);
    EXPECT_TRUE((co_await scrubber.round({})).whole);
    EXPECT_EQ(scrubber.damaged_ranges(), 0U);
    EXPECT_TRUE(lines.with("scrub").empty());

    const std::int64_t base = bases(node, 1).at(1);
    EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, base), 200));
    EXPECT_TRUE((co_await read_all(log, Offset(0))).has_value()) << "memory does not show it";
    const auto done = co_await scrubber.round({});
    EXPECT_TRUE(done.whole);
    EXPECT_EQ(scrubber.damaged_ranges(), 1U);
    const auto told = lines.with("log.scrub_damage");
    if (told.size() != 1) {
      ADD_FAILURE() << told.size() << " lines";
      co_return;
    }
    EXPECT_NE(told[0].find("topic-1"), std::string::npos) << told[0];
    EXPECT_NE(told[0].find(segment_file_name(Offset(base), "log")), std::string::npos);
    EXPECT_NE(told[0].find("byte=64"), std::string::npos) << told[0];
    EXPECT_NE(told[0].find("pyralog log repair"), std::string::npos) << told[0];
    const auto known = scrubber.damage(5);
    EXPECT_EQ(known.size(), 1U);
    EXPECT_TRUE(known.at(0).starts_with("topic-1: partition ")) << known.at(0);

    const auto refused = co_await log->read(Offset(base), {1, log->end_offset(), true});
    EXPECT_FALSE(refused);
    if (!refused) {
      EXPECT_EQ(refused.error().code, Code::kCorrupt);
      EXPECT_NE(refused.error().message.find("byte 64"), std::string::npos);
    }
    EXPECT_FALSE(log->offline());
    for (std::int64_t i = 0; i < 30; ++i) {
      EXPECT_EQ(co_await read_one(*log, i), i == base ? kBad : kFine) << i;
      EXPECT_EQ(co_await read_one(*other, i), kFine) << i;
    }
    EXPECT_TRUE((co_await append(*log, batch(30))).has_value());
    co_await shard->abandon();
  });
}

TEST(scrubber, a_long_read_brings_what_lies_before_the_damage) {
  Simulator sim(1);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 30);
    Scrubber scrubber(*shard);
    const auto segments = bases(node, 1);
    const std::size_t size = node.disk().peek(file_of(1, segments.at(1))).value().size();
    EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, segments.at(1)), size / 2));
    EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, segments.at(3)), 64 + 30));
    (void)co_await scrubber.round({});
    EXPECT_EQ(scrubber.damaged_ranges(), 2U);
    std::vector<std::int64_t> refused;
    for (Offset at(0); at < log->end_offset();) {
      const auto part = co_await log->read(at, {1u << 20, log->end_offset(), true});
      if (part) {
        EXPECT_EQ(part->first, at);
        EXPECT_GT(part->next, at);
        at = part->next;
        continue;
      }
      refused.push_back(at.value);
      at = Offset(at.value + 1);
    }
    EXPECT_EQ(refused,
              (std::vector<std::int64_t>{(segments.at(1) + segments.at(2)) / 2, segments.at(3)}));
    co_await shard->abandon();
  });
}

TEST(scrubber, refuses_what_memory_still_shows_sound) {
  Simulator sim(2);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 12);
    Scrubber scrubber(*shard);
    EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, 0), 100));
    (void)co_await scrubber.round({});
    // The pages in memory are what they were before, as if they could not be dropped.
    EXPECT_TRUE(node.disk().corrupt(file_of(1, 0), 100));
    EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, 0), 100));
    EXPECT_EQ(co_await read_one(*log, 0), kBad);
    co_await shard->abandon();
  });
}

TEST(scrubber, tells_of_a_place_once_and_takes_it_back_when_it_is_sound) {
  Simulator sim(3);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 20);
    Scrubber scrubber(*shard);
    const std::int64_t base = bases(node, 1).at(1);
    EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, 0), 100));
    EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, base), 100));
    for (int i = 0; i < 5; ++i) {
      (void)co_await scrubber.round({});
      EXPECT_EQ(scrubber.damaged_ranges(), 2U);
    }
    EXPECT_EQ(lines.with("log.scrub_damage").size(), 2U);
    EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, base), 100));
    (void)co_await scrubber.round({});
    EXPECT_EQ(scrubber.damaged_ranges(), 1U);
    EXPECT_EQ(lines.with("log.scrub_sound_again").size(), 1U);
    EXPECT_EQ(co_await read_one(*log, base), kFine);
    EXPECT_EQ(co_await read_one(*log, 0), kBad);
    // What goes takes its damage along.
    EXPECT_TRUE((co_await log->drop_segments_below(Offset(base))).has_value());
    EXPECT_EQ(scrubber.damaged_ranges(), 0U);
    co_await shard->abandon();
  });
}

/// Every single bit counts, and costs no more than the batch that it lies in.
TEST(scrubber, no_byte_of_a_closed_segment_is_left_out) {
  Simulator sim(4);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 30);
    Scrubber scrubber(*shard);
    const auto segments = bases(node, 1);
    const std::int64_t base = segments.at(1);
    const std::int64_t next = segments.at(2);
    const std::size_t size = node.disk().peek(file_of(1, base)).value().size();
    const std::size_t each = (size - kSegmentHeaderBytes) / static_cast<std::size_t>(next - base);
    for (std::size_t at = 0; at < size; at += at % 7 == 3 ? 5 : 1) {
      const auto mask = static_cast<std::uint8_t>(1U << (at % 8));
      EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, base), at, mask));
      (void)co_await scrubber.round({});
      EXPECT_EQ(scrubber.damaged_ranges(), 1U) << at;
      const bool header = at < kSegmentHeaderBytes;
      const auto hit =
          header ? -1 : base + static_cast<std::int64_t>((at - kSegmentHeaderBytes) / each);
      for (std::int64_t i = base - 1; i <= next; ++i) {
        const bool inside = i >= base && i < next;
        // A read of the batch before looks at this header to see whether it ends there.
        const std::size_t in_batch = (at - kSegmentHeaderBytes) % each;
        if (i == hit - 1 && i >= base && in_batch < kBatchHeaderBytes) continue;
        const bool refused = i == hit || (header && inside);
        EXPECT_EQ(co_await read_one(*log, i), refused ? kBad : kFine)
            << "byte " << at << ", offset " << i;
      }
      EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, base), at, mask));
      (void)co_await scrubber.round({});
      EXPECT_EQ(scrubber.damaged_ranges(), 0U) << at;
      EXPECT_EQ(co_await read_one(*log, base), kFine);
    }
    co_await shard->abandon();
  });
}

TEST(scrubber, damage_after_damage_is_one_place_and_what_lies_behind_stays) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 12);
    const std::int64_t next = bases(node, 1).at(1);
    Scrubber scrubber(*shard);
    // The second and the third batch, with all that is in their headers.
    const std::size_t size = node.disk().peek(file_of(1, 0)).value().size();
    const std::size_t each = (size - kSegmentHeaderBytes) / static_cast<std::size_t>(next);
    for (std::size_t i = each; i < 3 * each; ++i) {
      EXPECT_TRUE(node.disk().corrupt_stored(file_of(1, 0), kSegmentHeaderBytes + i, 0xff));
    }
    (void)co_await scrubber.round({});
    EXPECT_EQ(scrubber.damaged_ranges(), 1U);
    EXPECT_EQ(lines.with("log.scrub_damage").size(), 1U);
    for (std::int64_t i = 1; i < 12; ++i) {
      EXPECT_EQ(co_await read_one(*log, i), i == 1 || i == 2 ? kBad : kFine) << i;
    }
    co_await shard->abandon();
  });
}

TEST(scrubber, a_file_that_is_missing_or_of_another_length_is_damage) {
  Simulator sim(6);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 20);
    Scrubber scrubber(*shard);
    const auto segments = bases(node, 1);
    io::Disk& disk = io::Shard::current().disk();
    EXPECT_TRUE((co_await disk.remove(file_of(1, 0))).has_value());
    auto file = (co_await disk.open(file_of(1, segments.at(1)), io::OpenMode::kReadWrite)).value();
    EXPECT_TRUE((co_await file->truncate(file->size() - 1)).has_value());
    EXPECT_TRUE((co_await file->sync()).has_value());
    (void)co_await scrubber.round({});
    EXPECT_EQ(scrubber.damaged_ranges(), 2U);
    EXPECT_EQ(lines.with("the file is missing").size(), 1U);
    EXPECT_EQ(lines.with("bytes, ").size(), 1U);
    EXPECT_NE(co_await read_one(*log, segments.at(1)), kFine);
    EXPECT_EQ(co_await read_one(*log, segments.at(2)), kFine);
    co_await shard->abandon();
  });
}

TEST(scrubber, what_the_device_cannot_read_is_told_and_read_once_it_can) {
  Simulator sim(7);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 20);
    Scrubber scrubber(*shard);
    node.disk().set_hook([&](DiskOp op, const std::string& path) {
      return op == DiskOp::kRead && path == file_of(1, 0) ? DiskFault::kError : DiskFault::kNone;
    });
    (void)co_await scrubber.round({});
    EXPECT_EQ(scrubber.damaged_ranges(), 1U);
    EXPECT_EQ(lines.with("log.scrub_unreadable").size(), 1U);
    EXPECT_TRUE(lines.with("log.scrub_damage").empty());
    node.disk().set_hook({});
    EXPECT_EQ(co_await read_one(*log, 0), kFine);
    (void)co_await scrubber.round({});
    EXPECT_EQ(scrubber.damaged_ranges(), 0U);
    co_await shard->abandon();
  });
}

/// In a compacted topic every second pass replaces segments; others are dropped, cut or deleted.
TEST(scrubber, what_goes_meanwhile_is_no_damage) {
  std::uint64_t rounds = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Simulator sim(seed);
    Node& node = sim.add_node();
    const Lines lines;
    node.run([&]() -> io::Task<void> {
      Options small = options();
      small.max_open_files = 2;
      auto shard = (co_await open_shard(small)).value();
      LogConfig config = indexed("compacted-0");
      config.compaction = Compaction{0, 0, INT64_MAX, 0};
      auto compacted = (co_await shard->open_log(partition(3), config)).value();
      auto log = co_await filled(*shard, 1, 25);
      auto gone = co_await filled(*shard, 2, 25);
      bool stop = false;
      Scrubber scrubber(*shard);
      io::TaskGroup tasks;
      tasks.spawn(scrub_until(stop, scrubber, 300us));
      for (std::int64_t i = 0; i < 25; ++i) {
        Bytes bytes = batch(i % 5, 1, 1, 7, 200);
        assign_offset_and_epoch(bytes, Offset(i), Epoch(1));
        (void)(co_await append(*compacted, bytes)).value();
        if (i % 8 != 7) continue;
        (void)(co_await shard->sync(compacted)).value();
        co_await io::sleep_for(Duration(static_cast<std::int64_t>(seed) * 7'000));
        CompactionCall call;
        call.now = io::Shard::current().wall();
        call.limit = compacted->end_offset();
        EXPECT_TRUE((co_await compacted->compact(call)).has_value());
      }
      EXPECT_TRUE((co_await log->drop_segments_below(Offset(12))).has_value());
      EXPECT_TRUE((co_await log->truncate_to(Offset(18))).has_value());
      co_await io::sleep_for(Duration(static_cast<std::int64_t>(seed) * 3'000));
      EXPECT_TRUE((co_await shard->delete_log(partition(2))).has_value());
      EXPECT_TRUE((co_await log->truncate_to(Offset(13))).has_value());
      co_await io::sleep_for(5ms);
      stop = true;
      co_await tasks.join();
      EXPECT_EQ(scrubber.damaged_ranges(), 0U);
      rounds += shard->stats().scrub_rounds;
      co_await shard->abandon();
    });
    EXPECT_TRUE(lines.with("log.scrub").empty()) << seed << ": " << lines.with("log.scrub").at(0);
  }
  EXPECT_GT(rounds, 40U);
}

/// A removal that came half the way is gone on with in a later round; until then a clean start knows the
/// segment, whose file is gone.
TEST(scrubber, what_is_left_of_deleted_segments_is_no_damage) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 30);
    const std::vector<std::int64_t> all = bases(node, 1);
    EXPECT_GT(all.size(), 4U);
    const std::string index = file_of(1, all.at(0), "index");
    node.disk().set_hook([&index](DiskOp op, const std::string& path) {
      return op == DiskOp::kRemove && path == index ? DiskFault::kError : DiskFault::kNone;
    });
    EXPECT_TRUE((co_await log->delete_records_below(Offset(all.at(3)))).has_value());
    EXPECT_EQ(bases(node, 1).size(), all.size() - 1);
    EXPECT_TRUE((co_await shard->close()).has_value());
    log.reset();

    shard = (co_await open_shard()).value();
    log = (co_await shard->open_log(partition(1), indexed("topic-1"))).value();
    EXPECT_EQ(log->start_offset(), Offset(all.at(3)));
    Scrubber scrubber(*shard);
    EXPECT_TRUE((co_await scrubber.round({})).whole);
    EXPECT_EQ(scrubber.damaged_ranges(), 0U);
    co_await shard->abandon();
  });
  EXPECT_TRUE(lines.with("log.scrub").empty()) << lines.with("log.scrub").at(0);
}

TEST(scrubber, what_a_failed_sync_has_lost_is_that_failure_and_no_damage) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Simulator sim(seed);
    io::sim::NodeOptions slow;
    slow.disk.latency_max = 5ms;
    Node& node = sim.add_node(slow);
    node.disk().options().sync_error_drops = 1;
    const Lines lines;
    node.run([&]() -> io::Task<void> {
      auto life = (co_await begin(ahead())).value();
      life.logs[0]->set_config(config(1000));
      for (int i = 0; i < 6; ++i) EXPECT_TRUE(co_await round(life, 1, 300));
      // Only what is closed: the write-ahead files vouch for it.
      life.logs[0]->set_config(config());
      std::set<std::string> closed;
      for (const std::int64_t base : bases(node, 0)) closed.insert(file_of(0, base));
      closed.erase(closed.rbegin()->c_str());
      node.disk().set_hook([&closed](DiskOp op, const std::string& path) {
        return op == DiskOp::kSync && closed.contains(path) ? DiskFault::kError : DiskFault::kNone;
      });
      bool stop = false;
      Scrubber scrubber(*life.shard);
      io::TaskGroup tasks;
      tasks.spawn(scrub_until(stop, scrubber, 100us));
      for (int i = 0; i < 200 && !life.logs[0]->offline(); ++i) (void)co_await round(life, 1, 300);
      EXPECT_TRUE(life.logs[0]->offline());
      co_await io::sleep_for(5ms);
      stop = true;
      co_await tasks.join();
      EXPECT_GT(life.shard->stats().scrub_rounds, 3U);
      co_await life.shard->abandon();
    });
    EXPECT_TRUE(lines.with("log.scrub_damage").empty()) << seed << ": " << lines.with("log.scrub_damage").at(0);
  }
}

TEST(scrubber, a_log_that_is_cut_under_its_hands_is_no_damage) {
  Simulator sim(9);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 7);  // of two segments the first is closed
    Scrubber scrubber(*shard);
    io::TaskGroup tasks;
    tasks.spawn([](Scrubber& s) -> io::Task<void> {
      (void)co_await s.round({1h, 512, {}});  // a second for each step
    }(scrubber));
    co_await io::sleep_for(1500ms);
    EXPECT_TRUE((co_await log->truncate_to(Offset(1))).has_value());
    co_await tasks.join();
    EXPECT_EQ(scrubber.damaged_ranges(), 0U);
    co_await shard->abandon();
  });
  EXPECT_TRUE(lines.with("log.scrub").empty());
}

TEST(scrubber, keeps_to_its_pace_and_holds_up_nobody) {
  EXPECT_EQ(scrub_rate(0, 1h, UINT64_MAX), 1U << 20);
  EXPECT_EQ(scrub_rate(1u << 30, 7 * 24h, 10u << 20), 1U << 20);
  EXPECT_EQ(scrub_rate(std::uint64_t{1} << 40, 7 * 24h, 10u << 20), 3'635'951U);
  EXPECT_EQ(scrub_rate(std::uint64_t{1} << 50, 7 * 24h, 10u << 20), 10U << 20);
  EXPECT_EQ(scrub_rate(1000, 1h, 100), 100U);
  EXPECT_EQ(scrub_rate(1000, Duration(0), 0), 1U);

  Simulator sim(10);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 100);
    Scrubber scrubber(*shard);
    Scrubbed done;
    const Instant began = io::Shard::current().now();
    io::TaskGroup tasks;
    tasks.spawn([](Scrubber& s, Scrubbed& into) -> io::Task<void> {
      into = co_await s.round({1h, 1000, {}});
    }(scrubber, done));
    co_await io::sleep_for(3s);
    // Meanwhile others go on.
    const Instant before = io::Shard::current().now();
    EXPECT_TRUE((co_await append(*log, batch(100))).has_value());
    EXPECT_TRUE((co_await read_all(log, Offset(0))).has_value());
    EXPECT_LT(io::Shard::current().now() - before, 100ms);
    co_await tasks.join();
    const auto took = std::chrono::duration<double>(io::Shard::current().now() - began).count();
    EXPECT_TRUE(done.whole);
    EXPECT_GT(done.bytes, 20'000U);
    EXPECT_NEAR(took, static_cast<double>(done.bytes) / 1000, 1.0);
    EXPECT_EQ(shard->stats().scrubbed_bytes, done.bytes);
    EXPECT_EQ(shard->stats().scrub_rounds, 1U);
    co_await shard->abandon();
  });
}

TEST(scrubber, stops_at_once) {
  Simulator sim(11);
  Node& node = sim.add_node(quiet_disk());
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 30);
    Scrubber scrubber(*shard);
    bool stop = false;
    Scrubbed done{true};
    io::TaskGroup tasks;
    tasks.spawn([](Scrubber& s, bool& ends, Scrubbed& into) -> io::Task<void> {
      into = co_await s.round({1h, 1, [&ends] { return ends; }});
    }(scrubber, stop, done));
    co_await io::sleep_for(10s);
    stop = true;
    const Instant asked = io::Shard::current().now();
    co_await tasks.join();
    EXPECT_LT(io::Shard::current().now() - asked, 300ms);
    EXPECT_FALSE(done.whole);
    EXPECT_FALSE(scrubber.last_round());
    EXPECT_EQ(shard->stats().scrub_rounds, 0U);
    co_await shard->abandon();
  });
}

/// As on a node that restarts before any round ends.
TEST(scrubber, rounds_that_are_cut_short_come_everywhere_in_time) {
  Simulator sim(12);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 30);
    auto other = co_await filled(*shard, 2, 30);
    for (const std::uint8_t n : {std::uint8_t{1}, std::uint8_t{2}}) {
      auto segments = bases(node, n);
      segments.pop_back();
      for (const std::int64_t base : segments) {
        EXPECT_TRUE(node.disk().corrupt_stored(file_of(n, base), 100));
      }
    }
    const std::size_t all = bases(node, 1).size() + bases(node, 2).size() - 2;
    std::size_t tries = 0;
    for (; tries < 500 && lines.with("log.scrub_damage").size() < all; ++tries) {
      Scrubber scrubber(*shard);
      int asked = 0;
      (void)co_await scrubber.round({1h, UINT64_MAX, [&asked] { return ++asked > 12; }});
      EXPECT_FALSE(scrubber.last_round());
    }
    EXPECT_EQ(lines.with("log.scrub_damage").size(), all) << tries << " tries";
    co_await shard->abandon();
  });
}

TEST(scrubber, damaged_append_times_are_told_once_and_a_torn_end_is_not) {
  Simulator sim(13);
  Node& node = sim.add_node(quiet_disk());
  const Lines lines;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = co_await filled(*shard, 1, 20);
    co_await io::sleep_for(2s);
    (void)(co_await append(*log, batch(20, 1, 1, 7, 200))).value();
    (void)(co_await shard->sync(log)).value();
    Scrubber scrubber(*shard);
    const std::string first = file_of(1, 0, "appendtime");
    const std::string second = file_of(1, bases(node, 1).at(1), "appendtime");
    const std::size_t size = node.disk().peek(second).value().size();
    EXPECT_GE(size, 3 * kAppendTimeEntryBytes);
    EXPECT_TRUE(node.disk().corrupt(second, size - 1));
    (void)co_await scrubber.round({});
    EXPECT_TRUE(lines.with("log.scrub").empty()) << "the end may have been lost";
    EXPECT_TRUE(node.disk().corrupt(first, kAppendTimeEntryBytes + 3));
    for (int i = 0; i < 3; ++i) (void)co_await scrubber.round({});
    const auto told = lines.with("log.scrub_append_times");
    EXPECT_EQ(told.size(), 1U);
    EXPECT_NE(told.at(0).find("bad_entries=1"), std::string::npos) << told.at(0);
    EXPECT_NE(told.at(0).find(first), std::string::npos) << told.at(0);
    EXPECT_EQ(shard->stats().scrub_bad_append_times, 1U);
    EXPECT_EQ(scrubber.damaged_ranges(), 0U);
    co_await shard->abandon();
  });
}

}  // namespace
}  // namespace pyralog::log
