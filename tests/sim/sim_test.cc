// One seed = one node's lives under faults, with its clients (README.md beside this file). Chosen by
// the environment: PYRALOG_SEED=n replays one run and prints it; PYRALOG_SEEDS=a..b runs those;
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
    "disk.page_lost",
};

TEST(Simulation, keeps_every_promise_under_crashes_and_faults) {
  const std::optional<std::uint64_t> one = number(setting("PYRALOG_SEED"));
  const Seeds seeds = one ? Seeds{*one, *one} : chosen_seeds();
  observe::capture_log([&](const std::string& line) {
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
  if (count >= kDefaultSeeds) {
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
