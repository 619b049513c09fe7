#include "broker/space_guard.h"

#include <gtest/gtest.h>

#include "io/rng.h"

namespace pyralog::broker {
namespace {

using namespace std::chrono_literals;
using Reserve = SpaceGuard::Reserve;

constexpr std::uint64_t kMiB = 1u << 20;
constexpr Instant at(Duration time) {
  return Instant{} + time;
}

TEST(SpaceLimits, follow_the_size_of_the_disk_unless_they_are_set) {
  const SpaceOptions by_size{std::nullopt, std::nullopt};
  const SpaceLimits large = space_limits(by_size, std::uint64_t{4} << 40U);
  EXPECT_EQ(large.floor, 256 * kMiB);
  EXPECT_EQ(large.reserve, 32 * kMiB);
  const SpaceLimits small = space_limits(by_size, 100 * kMiB);
  EXPECT_EQ(small.floor, 5 * kMiB);
  EXPECT_EQ(small.reserve, kMiB);
  const SpaceLimits set = space_limits({3 * kMiB, kMiB + 5}, 100 * kMiB);
  EXPECT_EQ(set.floor, 3 * kMiB);
  EXPECT_EQ(set.reserve, kMiB) << "whole blocks";
  EXPECT_EQ(space_limits({0, 2 * kMiB}, 100 * kMiB).floor, 2 * kMiB)
      << "clients must not be let into the reserve";
  const SpaceLimits off = space_limits({}, 100 * kMiB);
  EXPECT_EQ(off.floor + off.reserve, 0u);
}

TEST(SpaceGuard, refuses_below_the_floor_and_goes_on_well_above_it) {
  SpaceGuard guard({16 * kMiB, 0});
  EXPECT_FALSE(guard.step({16 * kMiB, 0}, at(0s)).turned);
  EXPECT_FALSE(guard.refusing());
  EXPECT_TRUE(guard.step({16 * kMiB - 1, 0}, at(1s)).turned);
  EXPECT_TRUE(guard.refusing());
  EXPECT_FALSE(guard.step({10, 0}, at(2s)).turned);
  EXPECT_FALSE(guard.step({18 * kMiB - 1, 0}, at(3s)).turned) << "it would turn to and fro";
  EXPECT_TRUE(guard.refusing());
  EXPECT_TRUE(guard.step({18 * kMiB, 0}, at(4s)).turned);
  EXPECT_FALSE(guard.refusing());
}

TEST(SpaceGuard, lets_the_reserve_go_when_the_disk_is_full_and_gives_it_to_nobody) {
  SpaceGuard guard({16 * kMiB, 4 * kMiB});
  EXPECT_EQ(guard.step({60 * kMiB, 0}, at(0s)).reserve, Reserve::kHold);
  EXPECT_EQ(guard.step({56 * kMiB, 4 * kMiB}, at(0s)).reserve, Reserve::kKeep);
  EXPECT_EQ(guard.step({15 * kMiB, 4 * kMiB}, at(1s)).reserve, Reserve::kKeep);
  EXPECT_TRUE(guard.refusing());
  EXPECT_EQ(guard.step({4 * kMiB - 1, 4 * kMiB}, at(2s)).reserve, Reserve::kRelease);
  // What it sets free, and as much again that others set free, lets nobody write.
  EXPECT_EQ(guard.step({8 * kMiB - 1, 0}, at(3s)).reserve, Reserve::kKeep);
  EXPECT_EQ(guard.step({22 * kMiB - 1, 0}, at(4s)).reserve, Reserve::kKeep);
  EXPECT_TRUE(guard.refusing());
  const auto back = guard.step({22 * kMiB, 0}, at(5s));
  EXPECT_TRUE(back.turned);
  EXPECT_EQ(back.reserve, Reserve::kHold);
  EXPECT_FALSE(guard.step({18 * kMiB, 4 * kMiB}, at(6s)).turned)
      << "making it must not turn it back";
}

TEST(SpaceGuard, believes_a_write_that_was_refused_more_than_the_file_system) {
  SpaceGuard guard({16 * kMiB, 4 * kMiB});
  const auto full = guard.step({900 * kMiB, 4 * kMiB, true}, at(1s));
  EXPECT_TRUE(full.turned);
  EXPECT_EQ(full.reserve, Reserve::kRelease);
  EXPECT_TRUE(guard.refusing());
  EXPECT_FALSE(guard.step({904 * kMiB, 0}, at(2s)).turned);
  EXPECT_TRUE(guard.step({904 * kMiB, 0}, at(6s)).turned);
}

TEST(SpaceGuard, without_limits_refuses_nothing_and_keeps_nothing) {
  SpaceGuard guard({0, 0});
  EXPECT_FALSE(guard.step({0, 0, true}, at(0s)).turned);
  EXPECT_FALSE(guard.refusing());
  EXPECT_EQ(guard.step({5, 4096}, at(0s)).reserve, Reserve::kRelease) << "of an earlier setting";
}

TEST(SpaceGuard, looks_again_before_the_floor_can_be_reached) {
  SpaceGuard guard({16 * kMiB, 0});
  EXPECT_EQ(guard.step({1'000'000 * kMiB, 0}, at(0s)).again, Duration(5s));
  EXPECT_EQ(guard.step({(16 + 4'000) * kMiB, 0}, at(0s)).again, Duration(2s));
  EXPECT_EQ(guard.step({16 * kMiB, 0}, at(0s)).again, Duration(25ms));
  EXPECT_EQ(guard.step({0, 0}, at(0s)).again, Duration(250ms));
}

// A disk that clients, others and what goes on by itself fill and empty at random.
TEST(SpaceGuard, whatever_happens_clients_never_take_what_the_reserve_set_free) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    io::SeededRng rng(seed);
    const SpaceLimits limits =
        space_limits({rng.below(20) * kMiB, rng.below(8) * kMiB}, 100 * kMiB);
    SpaceGuard guard(limits);
    std::uint64_t free = rng.below(100) * kMiB;
    std::uint64_t held = 0;
    for (int i = 0; i < 200; ++i) {
      const Instant now = at(i * 1s);
      auto step = guard.step({free, held, rng.chance(0.02)}, now);
      if (step.reserve == Reserve::kRelease) {
        EXPECT_TRUE(guard.refusing() || limits.reserve == 0) << "seed " << seed;
        free += std::exchange(held, 0);
      } else if (step.reserve == Reserve::kHold) {
        ASSERT_GE(free + held, limits.reserve) << "seed " << seed;
        free = free + held - limits.reserve;
        held = limits.reserve;
        EXPECT_FALSE(guard.step({free, held}, now).turned) << "seed " << seed;
      }
      if (!guard.refusing()) {
        EXPECT_EQ(held, limits.reserve) << "seed " << seed;
        EXPECT_GE(free, limits.floor) << "seed " << seed;
      }
      const std::uint64_t taken = rng.below(10) * kMiB;
      free = rng.chance(0.4) ? free + taken : free - std::min(free, taken);
    }
  }
}

}  // namespace
}  // namespace pyralog::broker
