// One seed = one node's lives under faults, with its clients (README.md beside this file). Chosen
// by the environment: PYRALOG_SEED=n replays one run and prints it; PYRALOG_SEEDS=a..b runs those;
// PYRALOG_SOAK=1 runs 20,000 instead of 500.
#include <gtest/gtest.h>

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>

#include "observe/log.h"
#include "world.h"

namespace pyralog::simtest {
namespace {

constexpr std::uint64_t kDefaultSeeds = 500;
constexpr std::uint64_t kSoakSeeds = 20'000;

struct Seeds {
  std::uint64_t first = 1;
  std::uint64_t last = kDefaultSeeds;
};

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Seeds chosen_seeds() {
  Seeds seeds;
  if (setting("PYRALOG_SOAK") == "1") seeds.last = kSoakSeeds;
  const std::string range = setting("PYRALOG_SEEDS");
  const std::size_t dots = range.find("..");
  if (dots != std::string::npos) {
    seeds.first = number(std::string_view(range).substr(0, dots)).value_or(1);
    seeds.last = number(std::string_view(range).substr(dots + 2)).value_or(seeds.first);
  }
  return seeds;
}

/// All that a run of the default size must have met.
constexpr const char* kMustHappen[] = {
    "client.batches_read",
    "client.commit_error_16",
    "client.committed",
    "client.create_error_0",
    "client.delete_error_0",
    "client.delete_records_error_0",
    "client.delete_records_error_44",
    "client.diverging_epoch",
    "client.fetch_error_56",
    "client.found_by_time",
    "client.fresh_topic_checked",
    "client.group_joined",
    "client.acknowledged",
    "client.join_error_25",
    "client.nothing_by_time",
    "client.offset_fetched",
    "client.offset_out_of_range",
    "client.pipelined",
    "client.produce_error_45",
    "client.produce_error_56",
    "client.produce_error_59",
    "client.produce_error_7",
    "client.sent_again",
    "client.sent_twice_at_once",
    "client.sequence_lost",
    "disk.cold_read",
    "disk.error_list",
    "disk.error_lock",
    "disk.error_make directory",
    "disk.error_open",
    "disk.error_read",
    "disk.error_remove",
    "disk.error_rename",
    "disk.error_sync",
    "disk.error_sync directory",
    "disk.error_truncate",
    "disk.error_write",
    "disk.grown_by_zeros",
    "disk.name_kept",
    "disk.name_lost",
    "disk.no_descriptors",
    "disk.no_quota",
    "disk.no_space",
    "disk.page_kept",
    "disk.page_lost",
    "disk.page_torn",
    "disk.pages_dropped_by_a_failed_sync",
    "disk.slow",
    "disk.stored_read",
    "disk.write_cut_short",
    "disk.writeback",
    "end.clean",
    "fault.clock_jump",
    "fault.clock_jump_of_a_day",
    "fault.connections_reset",
    "fault.disk_full",
    "fault.disk_full_in_compaction",
    "fault.isolated",
    "fault.kill_at_a_call",
    "fault.log_sync_failed",
    "fault.log_write_failed",
    "fault.metadata_sync_failed",
    "fault.no_room_at_a_sync",
    "fault.open_failed",
    "fault.power_loss_at_a_call",
    "fault.resetting_network",
    "fault.send_failed",
    "fault.slow_disk",
    "fault.slow_network",
    "fault.storm",
    "fault.sync_dir_failed",
    "fault.synced_journal_sync_failed",
    "net.backpressure",
    "net.connect_blocked",
    "net.refused",
    "net.reset",
    "net.short_read",
    "net.slowed",
    "net.stalled",
    "node.kill",
    "node.power_loss",
    "rare.crash_in_recovery",
    "rare.doubtful_commit_stood",
    "rare.doubtful_topic_gone",
    "rare.doubtful_topic_stood",
    "rare.duplicate_of_a_plain_producer",
    "rare.forgotten_by_age",
    "rare.forgotten_by_size",
    "rare.key_forgotten",
    "rare.memory_topic_emptied",
    "rare.partition_back",
    "rare.partition_offline",
    "rare.record_compacted",
    "rare.start_refused_in_a_storm",
    "rare.started_in_a_storm",
    "rare.tombstone_forgotten",
    "rare.unacknowledged_records_kept",
    "rare.unpromised_records_lost",
    "rare.write_ahead_replayed",
    "rare.write_ahead_round",
};

TEST(Simulation, keeps_every_promise_under_crashes_and_faults) {
  const std::optional<std::uint64_t> one = number(setting("PYRALOG_SEED"));
  const Seeds seeds = one ? Seeds{*one, *one} : chosen_seeds();
  std::string alarm;  // nothing rots in these runs
  observe::capture_log([&](const std::string& line) {
    if (line.find("log.scrub_damage") != std::string::npos) alarm = line;
    if (one) std::printf("                  log: %s\n", line.c_str());
  });
  io::sim::Stats total;
  std::uint64_t lines = 0;
  for (std::uint64_t seed = seeds.first; seed <= seeds.last; ++seed) {
    World world(seed, one.has_value());
    world.run();
    for (const auto& [name, count] : world.sim.stats().all()) total.add(name, count);
    lines += world.trace.lines();
    for (const std::string& violation : world.violations()) {
      ADD_FAILURE() << "seed " << seed << ": " << violation << "\n  replay: make sim SEED=" << seed;
    }
    if (!alarm.empty()) {
      ADD_FAILURE() << "seed " << seed << ": the scrubber takes what is sound for damaged: " << alarm
                    << "\n  replay: make sim SEED=" << seed;
    }
    if (HasFailure()) break;
  }
  observe::capture_log({});
  if (one || setting("PYRALOG_SIM_STATS") == "1") {
    for (const auto& [name, count] : total.all()) {
      std::printf("%10llu  %s\n", static_cast<unsigned long long>(count), name.c_str());
    }
    std::printf("%10llu  trace lines\n", static_cast<unsigned long long>(lines));
  }
  const std::uint64_t count = seeds.last - seeds.first + 1;
  if (count >= kDefaultSeeds && !HasFailure()) {
    for (const char* name : kMustHappen) EXPECT_GT(total[name], 0u) << name << " never happened";
  }
  std::printf("soak: simulation count=%llu seeds=%llu..%llu\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(seeds.first),
              static_cast<unsigned long long>(seeds.last));
}

TEST(Simulation, replays_a_seed_event_by_event) {
  if (!setting("PYRALOG_SEED").empty()) GTEST_SKIP() << "one seed is being replayed";
  observe::capture_log([](const std::string&) {});
  for (std::uint64_t seed = 1001; seed <= 1012; ++seed) {
    World first(seed, false);
    first.run();
    World second(seed, false);
    second.run();
    EXPECT_EQ(first.trace.hash(), second.trace.hash()) << "seed " << seed;
    EXPECT_EQ(first.trace.lines(), second.trace.lines()) << "seed " << seed;
    EXPECT_GT(first.trace.lines(), 100u) << "seed " << seed;
  }
  observe::capture_log({});
}

}  // namespace
}  // namespace pyralog::simtest
