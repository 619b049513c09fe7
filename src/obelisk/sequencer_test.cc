#include "obelisk/sequencer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <set>

#include "io/sim/simulator.h"
#include "obelisk/scarab_generator.h"

namespace pyralog::obelisk {
namespace {

using io::Task;
using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;

constexpr const char* kPath = "/counter.obl";

Header header_of(Mode mode, std::uint64_t base = 100) {
  Header header;
  header.mode = mode;
  header.base = base;
  return header;
}
io::Disk& disk() {
  return io::Shard::current().disk();
}
Result<std::unique_ptr<ObeliskSequencer>> open(Node& node, Mode mode,
                                               SequencerOptions options = {}) {
  return node.run(
      [=] { return ObeliskSequencer::open_or_create(kPath, header_of(mode), options); });
}
Result<std::uint64_t> take(Node& node, ObeliskSequencer& sequencer, std::uint64_t count = 1) {
  return node.run([&sequencer, count] { return sequencer.take(count); });
}
Inspection must_inspect(Node& node) {
  return node.run([] { return inspect(disk(), kPath); }).value();
}

/// Killed after a fresh file was put in place and before its name was durable: the next process must
/// not count on that name.
TEST(obelisk_format, a_name_that_a_killed_process_left_is_made_durable) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Simulator sim(seed);
    Node& node = sim.add_node();
    node.disk().set_hook([](DiskOp op, const std::string&) {
      return op == DiskOp::kSyncDir ? DiskFault::kKill : DiskFault::kNone;
    });
    (void)node.try_run([] {
      return ObeliskSequencer::open_or_create(kPath, header_of(Mode::kStrict), {});
    });
    ASSERT_FALSE(node.up());
    node.disk().set_hook({});
    node.restart();
    const std::uint64_t issued = [&] {
      const auto sequencer = open(node, Mode::kStrict).value();
      return take(node, *sequencer, 5).value();
    }();
    node.lose_power();
    node.restart();
    EXPECT_GE(must_inspect(node).ceiling, issued + 5) << seed;
  }
}

TEST(obelisk_format, header_bytes_are_golden) {
  Header header = header_of(Mode::kStrict, 0x0102030405060708);
  header.granule = 3;
  header.machine_id = 1023;
  header.name_space = 7;
  header.generation = 2;
  for (std::uint8_t i = 0; i < 16; ++i) header.cluster.bytes[i] = i;
  const Bytes block = encode_header(header);
  ASSERT_EQ(block.size(), 4096u);
  // clang-format off
  const Bytes expected = {'O', 'B', 'E', 'L', 'I', 'S', 'K', '1',  1, 0,  1, 0,  3, 0, 0, 0,
                          8, 7, 6, 5, 4, 3, 2, 1,  0xff, 0x03,  7, 0,  2, 0, 0, 0,
                          0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  // clang-format on
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), block.begin()));
  EXPECT_EQ(decode_header(block, "x").value(), header);
  EXPECT_TRUE(std::all_of(block.begin() + 52, block.end(), [](std::uint8_t b) { return b == 0; }));
}

TEST(obelisk_format, every_damaged_byte_of_the_header_is_refused) {
  const Bytes good = encode_header(header_of(Mode::kLease));
  for (std::size_t at = 0; at < 52; ++at) {
    for (int flip = 1; flip < 256; flip *= 2) {
      Bytes bad = good;
      bad[at] = static_cast<std::uint8_t>(bad[at] ^ flip);
      EXPECT_FALSE(decode_header(bad, "x").has_value()) << at;
    }
  }
  EXPECT_FALSE(decode_header(ByteView(good).first(51), "x").has_value());
  Bytes newer = good;
  newer[8] = 2;
  EXPECT_EQ(decode_header(newer, "x").error().code, Code::kUnsupported);
}

TEST(obelisk_format, create_open_and_their_refusals) {
  Simulator sim(1);
  Node& node = sim.add_node();
  EXPECT_EQ(node.run([] { return ObeliskSequencer::open(kPath); }).error().code, Code::kNotFound);
  const auto create = [] { return CeilingFile::create(disk(), kPath, header_of(Mode::kLease)); };
  EXPECT_TRUE(node.run(create).has_value());
  EXPECT_EQ(node.run(create).error().code, Code::kAlreadyExists);
  auto first = open(node, Mode::kLease).value();
  const auto second = node.run([] { return ObeliskSequencer::open(kPath); });
  ASSERT_FALSE(second.has_value()) << "a second opener";
  EXPECT_EQ(second.error().code, Code::kAlreadyExists);
  node.run([&] { return first->close(); });
  EXPECT_TRUE(node.run([] { return ObeliskSequencer::open(kPath); }).has_value());
}

TEST(obelisk_format, a_damaged_file_is_refused_when_opened) {
  Simulator sim(1);
  Node& node = sim.add_node();
  ASSERT_TRUE(open(node, Mode::kLease).has_value());
  ASSERT_TRUE(node.disk().corrupt(kPath, 20).has_value());
  const auto damaged = node.run([] { return ObeliskSequencer::open(kPath); });
  ASSERT_FALSE(damaged.has_value());
  EXPECT_EQ(damaged.error().code, Code::kCorrupt);
  EXPECT_NE(damaged.error().message.find(kPath), std::string::npos);
}

TEST(obelisk_format, inspect_needs_no_lock) {
  Simulator sim(1);
  Node& node = sim.add_node();
  auto sequencer = open(node, Mode::kLease, {.lease = 1000}).value();
  EXPECT_EQ(take(node, *sequencer), 100u);
  const Inspection seen = must_inspect(node);
  EXPECT_EQ(seen.header, header_of(Mode::kLease));
  EXPECT_GE(seen.ceiling, 1100u);
  EXPECT_EQ(seen.file_bytes, 4096 + seen.ceiling - 100);
}

TEST(obelisk_sequencer, issues_consecutive_values_from_the_base) {
  for (const Mode mode : {Mode::kStrict, Mode::kLease, Mode::kRelaxed}) {
    Simulator sim(2);
    Node& node = sim.add_node();
    auto sequencer = open(node, mode, {.lease = 10}).value();
    std::uint64_t next = 100;
    for (std::uint64_t i = 0; i < 60; ++i) {
      const std::uint64_t count = 1 + i % 25;
      ASSERT_EQ(take(node, *sequencer, count), next) << name(mode);
      next += count;
    }
  }
}

TEST(obelisk_sequencer, a_granule_counts_for_many) {
  Simulator sim(2);
  Node& node = sim.add_node();
  Header header = header_of(Mode::kLease, 5);
  header.granule = 1000;
  auto sequencer =
      node.run([=] { return ObeliskSequencer::open_or_create(kPath, header, {.lease = 1500}); })
          .value();
  EXPECT_EQ(take(node, *sequencer), 5u);
  EXPECT_EQ(must_inspect(node).file_bytes, 4096u + 2) << "1505 values in two granules";
}

TEST(obelisk_sequencer, without_early_renewal_a_short_life_wastes_nothing) {
  Simulator sim(2);
  Node& node = sim.add_node();
  for (std::uint64_t i = 0; i < 5; ++i) {
    auto sequencer = open(node, Mode::kLease, {.lease = 1, .renew_early = false}).value();
    EXPECT_EQ(take(node, *sequencer), 100 + i);
    node.run([&] { return sequencer->close(); });
    EXPECT_EQ(take(node, *sequencer).error().code, Code::kUnavailable) << "closed";
  }
}

TEST(obelisk_sequencer, refuses_counts_that_make_no_sense) {
  Simulator sim(2);
  Node& node = sim.add_node();
  auto sequencer = open(node, Mode::kLease).value();
  EXPECT_EQ(take(node, *sequencer, 0).error().code, Code::kInvalidArgument);
  EXPECT_EQ(take(node, *sequencer, UINT64_MAX).error().code, Code::kInvalidArgument);
  EXPECT_EQ(sequencer->try_take(0).error().code, Code::kInvalidArgument);
}

TEST(obelisk_sequencer, strict_callers_share_a_sync) {
  Simulator sim(3);
  Node& node = sim.add_node();
  auto sequencer = open(node, Mode::kStrict).value();
  int syncs = 0;
  node.disk().set_hook([&](DiskOp op, const std::string&) {
    syncs += op == DiskOp::kSync ? 1 : 0;
    return DiskFault::kNone;
  });
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 64; ++i) {
    node.spawn([&]() -> Task<void> { seen.insert((co_await sequencer->take()).value()); });
  }
  sim.run_until_idle();
  EXPECT_EQ(seen.size(), 64u);
  EXPECT_LE(syncs, 3);
  EXPECT_GE(syncs, 1);
}

TEST(obelisk_sequencer, stops_at_the_durable_ceiling_after_a_sync_error_and_resumes_above) {
  for (const Mode mode : {Mode::kStrict, Mode::kLease}) {
    Simulator sim(4);
    Node& node = sim.add_node();
    auto sequencer = open(node, mode, {.lease = 10, .renew_early = false}).value();
    ASSERT_EQ(take(node, *sequencer), 100u);
    node.disk().options().sync_error = 1;
    std::uint64_t issued = 1;
    auto got = take(node, *sequencer);
    while (got.has_value()) {
      ++issued;
      got = take(node, *sequencer);
    }
    EXPECT_EQ(issued, mode == Mode::kLease ? 10u : 1u) << "what was durable before";
    EXPECT_EQ(got.error().code, Code::kIo);
    node.disk().options().sync_error = 0;
    EXPECT_FALSE(take(node, *sequencer).has_value()) << "a failed sync is never tried again";
    ASSERT_TRUE(node.run([&] { return sequencer->resume(); }).has_value());
    const auto next = take(node, *sequencer);
    ASSERT_TRUE(next.has_value());
    EXPECT_GE(*next, 100 + issued);
    EXPECT_EQ(must_inspect(node).header.generation, 2u);
  }
}

TEST(obelisk_sequencer, a_full_disk_is_a_clean_error) {
  Simulator sim(4);
  Node& node = sim.add_node();
  auto sequencer = open(node, Mode::kLease, {.lease = 10}).value();
  node.disk().set_hook([](DiskOp op, const std::string&) {
    return op == DiskOp::kTruncate ? DiskFault::kNoSpace : DiskFault::kNone;
  });
  EXPECT_EQ(take(node, *sequencer).error().code, Code::kExhausted);
}

TEST(obelisk_sequencer, resumes_above_everything_that_was_asked) {
  Simulator sim(5);
  Node& node = sim.add_node();
  auto sequencer = open(node, Mode::kLease, {.lease = 1, .renew_early = false}).value();
  EXPECT_EQ(take(node, *sequencer), 100u);
  constexpr std::uint64_t kMuch = std::uint64_t{1} << 40;
  node.disk().set_hook([](DiskOp op, const std::string&) {
    return op == DiskOp::kTruncate ? DiskFault::kNoSpace : DiskFault::kNone;
  });
  EXPECT_FALSE(take(node, *sequencer, kMuch).has_value());
  node.disk().set_hook({});
  ASSERT_TRUE(node.run([&] { return sequencer->resume(); }).has_value());
  EXPECT_GT(take(node, *sequencer).value(), kMuch) << "the refused growth may be on the disk";
  EXPECT_LT(must_inspect(node).file_bytes, 10'000u);
}

TEST(obelisk_sequencer, begins_a_fresh_file_before_the_length_runs_out) {
  Simulator sim(5);
  Node& node = sim.add_node();
  const std::uint64_t target = 100 + kMaxFileBytes;
  node.run([target]() -> Task<void> {
    EXPECT_TRUE((co_await CeilingFile::create(disk(), kPath, header_of(Mode::kLease))).has_value());
    CeilingFile file = (co_await CeilingFile::open(disk(), kPath)).value();
    EXPECT_TRUE((co_await file.raise(200)).has_value());
    EXPECT_TRUE((co_await file.raise(target)).has_value());
    EXPECT_GE(file.ceiling(), target);
    EXPECT_TRUE((co_await file.raise(target + 10)).has_value());
    EXPECT_EQ((co_await file.raise(UINT64_MAX)).error().code, Code::kExhausted);
  });
  const Inspection seen = must_inspect(node);
  EXPECT_EQ(seen.header.generation, 2u);
  EXPECT_GE(seen.ceiling, target + 10);
  EXPECT_LT(seen.file_bytes, 10'000u);
}

using Note = std::function<void(std::uint64_t value, std::uint64_t count)>;

Task<void> caller(ObeliskSequencer& sequencer, std::uint64_t count, Note note) {
  for (int i = 0; i < 60; ++i) {
    const auto value = co_await sequencer.take(count);
    if (!value) co_return;
    note(*value, count);
  }
}

/// Runs takers until the node dies at the n-th disk call, restarts it and goes on: a value seen
/// twice is a failure. Returns how many values were seen again.
std::size_t reissued(Mode mode, std::uint64_t seed, bool power) {
  Simulator sim(seed);
  Node& node = sim.add_node();
  node.disk().options().writeback = 0.2;
  std::set<std::uint64_t> seen;
  std::size_t again = 0;
  std::uint64_t highest = 99;
  constexpr std::uint64_t kLease = 20;
  for (int round = 0; round < 4; ++round) {
    const std::uint64_t dies_at = node.disk().calls() + 3 + sim.rng().below(60);
    // The first round at least gets its file.
    node.disk().set_hook([&, dies_at](DiskOp, const std::string&) {
      const bool now = node.disk().calls() == dies_at;
      return !now ? DiskFault::kNone : power ? DiskFault::kPowerLoss : DiskFault::kKill;
    });
    const std::uint64_t before = highest;
    bool first = true;
    const auto note = [&](std::uint64_t value, std::uint64_t count) {
      if (first && before >= 100) {
        EXPECT_LE(value, before + 2 * kLease + 12)
            << "skips at most two leases and what was in hand";
      }
      first = false;
      for (std::uint64_t v = value; v < value + count; ++v)
        again += seen.insert(v).second ? 0U : 1U;
      highest = std::max(highest, value + count - 1);
    };
    node.spawn([&, mode]() -> Task<void> {
      auto opened =
          co_await ObeliskSequencer::open_or_create(kPath, header_of(mode), {.lease = kLease});
      if (!opened) co_return;
      io::TaskGroup callers;
      for (std::uint64_t count = 1; count <= 4; ++count)
        callers.spawn(caller(**opened, count, note));
      co_await callers.join();
    });
    sim.run_until([&] { return !node.up(); }, std::chrono::minutes(1));
    if (node.up()) power ? node.lose_power() : node.kill();
    node.disk().set_hook({});
    node.restart();
  }
  return again;
}

std::uint64_t seeds() {
  return std::getenv("PYRALOG_SOAK") == nullptr ? 200 : 5000;
}

TEST(obelisk_crash, no_mode_reissues_after_the_death_of_the_process) {
  for (const Mode mode : {Mode::kStrict, Mode::kLease, Mode::kRelaxed}) {
    for (std::uint64_t seed = 1; seed <= seeds(); ++seed) {
      ASSERT_EQ(reissued(mode, seed, false), 0u) << name(mode) << " seed " << seed;
    }
  }
}

TEST(obelisk_crash, strict_and_lease_never_reissue_after_a_power_loss) {
  for (const Mode mode : {Mode::kStrict, Mode::kLease}) {
    for (std::uint64_t seed = 1; seed <= seeds(); ++seed) {
      ASSERT_EQ(reissued(mode, seed, true), 0u) << name(mode) << " seed " << seed;
    }
  }
}

TEST(obelisk_crash, relaxed_does_reissue_after_a_power_loss) {
  std::size_t again = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) again += reissued(Mode::kRelaxed, seed, true);
  EXPECT_GT(again, 0u) << "the control: this test can see a missing sync";
}

TEST(scarab_generator, ids_ascend_through_crashes_and_clock_steps) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Simulator sim(seed);
    Node& node = sim.add_node();
    std::uint64_t last = 0;
    for (int round = 0; round < 6; ++round) {
      node.spawn([&]() -> Task<void> {
        auto generator = co_await ScarabGenerator::open_or_create("/ids.obl", 42);
        if (!generator) co_return;
        for (int i = 0; i < 300; ++i) {
          const auto ids = co_await (*generator)->next(1 + static_cast<std::uint64_t>(i) % 3000);
          if (!ids) co_return;
          EXPECT_GT((*ids)[0].value, last) << "seed " << seed;
          last = (*ids)[ids->size() - 1].value;
          EXPECT_EQ(scarab_parts((*ids)[0]).machine, 42);
          if (i % 10 == 0) co_await io::sleep_for(std::chrono::milliseconds(7));
        }
      });
      sim.run_for(std::chrono::milliseconds(1 + sim.rng().below(400)));
      node.set_wall_offset(
          std::chrono::seconds(static_cast<std::int64_t>(sim.rng().below(20)) - 10));
      sim.rng().chance(0.5) ? node.lose_power() : node.kill();
      node.restart();
    }
    EXPECT_GT(last, 0u);
  }
}

TEST(scarab_generator, belongs_to_its_machine_and_is_no_counter) {
  Simulator sim(7);
  Node& node = sim.add_node();
  ASSERT_TRUE(node.run([] { return ScarabGenerator::open_or_create("/ids.obl", 3); }).has_value());
  EXPECT_EQ(node.run([] { return ScarabGenerator::open_or_create("/ids.obl", 4); }).error().code,
            Code::kInvalidArgument);
  EXPECT_EQ(node.run([] { return ScarabGenerator::open_or_create("/bad.obl", 1024); }).error().code,
            Code::kInvalidArgument);
  ASSERT_TRUE(open(node, Mode::kStrict).has_value());
  EXPECT_EQ(node.run([] { return ScarabGenerator::open(kPath); }).error().code,
            Code::kInvalidArgument);
}

TEST(scarab_generator, one_sync_a_half_second) {
  Simulator sim(8);
  Node& node = sim.add_node();
  int syncs = 0;
  node.disk().set_hook([&](DiskOp op, const std::string& path) {
    syncs += op == DiskOp::kSync && path == "/ids.obl" ? 1 : 0;
    return DiskFault::kNone;
  });
  node.run([]() -> Task<void> {
    auto generator = (co_await ScarabGenerator::open_or_create("/ids.obl", 1)).value();
    for (int ms = 0; ms < 10'000; ++ms) {
      EXPECT_TRUE((co_await generator->next(100)).has_value());
      co_await io::sleep_for(std::chrono::milliseconds(1));
    }
    co_await generator->close();
    EXPECT_FALSE((co_await generator->next()).has_value());
    EXPECT_FALSE(generator->try_next().has_value());
  });
  EXPECT_LE(syncs, 25);
}

}  // namespace
}  // namespace pyralog::obelisk
