#include "obelisk/scarab.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

namespace pyralog::obelisk {
namespace {

constexpr std::uint64_t kForever = kScarabEndMs;
WallMs wall_at(std::int64_t ms) {
  return WallMs{kScarabEpochMs + ms};
}
Instant up_at(std::int64_t ms) {
  return Instant{ms * 1'000'000};
}

TEST(scarab_layout, golden_vectors) {
  EXPECT_EQ(make_scarab({0, 0, 0}).value, 0u);
  EXPECT_EQ(make_scarab({1, 0, 0}).value, 0x800000u);
  EXPECT_EQ(make_scarab({0, 1, 0}).value, 0x2000u);
  EXPECT_EQ(make_scarab({0, 0, 1}).value, 1u);
  EXPECT_EQ(make_scarab({1, 2, 3}).value, 0x804003u);
  // 2026-01-01T00:00Z: 31,536,000,000 ms after the epoch.
  EXPECT_EQ(make_scarab({31'536'000'000, 5, 7}).value, 264'543'141'888'040'967u);
  EXPECT_EQ(make_scarab({kScarabEndMs - 1, 1023, 8191}).value, UINT64_MAX);
}

TEST(scarab_layout, the_largest_parts_do_not_bleed) {
  EXPECT_EQ(make_scarab({0, 1023, 0}).value, 0x7fe000u);
  EXPECT_EQ(make_scarab({0, 0, 8191}).value, 0x1fffu);
  const ScarabParts edge{123'456'789, 1023, 8191};
  EXPECT_EQ(scarab_parts(make_scarab(edge)), edge);
  EXPECT_EQ(make_scarab(edge).value & make_scarab({0, 0, 8191}).value, 8191u);
  const ScarabParts machine_only{5, 1023, 0};
  EXPECT_EQ(scarab_parts(make_scarab(machine_only)), machine_only);
}

TEST(scarab_layout, is_positive_as_int64_until_2059) {
  // 2059-11-04T00:00Z and the end of the 41 bits' lower half, 2^40 ms.
  const std::uint64_t last = (std::uint64_t{1} << 40) - 1;
  EXPECT_GT(static_cast<std::int64_t>(make_scarab({last, 1023, 8191}).value), 0);
  EXPECT_LT(static_cast<std::int64_t>(make_scarab({last + 1, 0, 0}).value), 0);
  EXPECT_EQ((kScarabEpochMs + static_cast<std::int64_t>(last)) / 86'400'000, 32'814)
      << "days from 1970 to 2059-11-04";
}

TEST(scarab_layout, a_range_crosses_milliseconds) {
  const ScarabRange range(100 * kScarabPerMs + 8190, 4, 9);
  EXPECT_EQ(scarab_parts(range[0]), (ScarabParts{100, 9, 8190}));
  EXPECT_EQ(scarab_parts(range[1]), (ScarabParts{100, 9, 8191}));
  EXPECT_EQ(scarab_parts(range[2]), (ScarabParts{101, 9, 0}));
  EXPECT_EQ(scarab_parts(range[3]), (ScarabParts{101, 9, 1}));
}

TEST(scarab_clock, follows_the_clock) {
  ScarabClock clock(0, wall_at(1000), up_at(0));
  clock.raise_ceiling(kForever);
  EXPECT_EQ(clock.take(1, wall_at(1005), up_at(5)), 1005 * kScarabPerMs);
  EXPECT_EQ(clock.take(1, wall_at(1005), up_at(5)), 1005 * kScarabPerMs + 1);
  EXPECT_EQ(clock.take(1, wall_at(2000), up_at(6)), 2000 * kScarabPerMs);
}

TEST(scarab_clock, a_step_back_of_five_seconds_keeps_ids_unique_and_ascending) {
  ScarabClock clock(0, wall_at(10'000), up_at(0));
  clock.raise_ceiling(kForever);
  std::uint64_t last = 0;
  std::int64_t offset = 10'000;
  int refused = 0;
  for (std::int64_t ms = 0; ms < 20'000; ++ms) {
    if (ms == 100) offset -= 5000;
    for (int i = 0; i < 20; ++i) {
      const auto tick = clock.take(1, wall_at(ms + offset), up_at(ms));
      if (!tick) {
        ++refused;
        continue;
      }
      ASSERT_GT(*tick, last);
      last = *tick;
    }
  }
  EXPECT_EQ(refused, 0) << "time goes on, at half speed, while the clock catches up";
  EXPECT_EQ(last >> 13, 24'999u) << "and has met the clock again";
}

TEST(scarab_clock, a_restart_begins_above_the_ceiling) {
  ScarabClock first(0, wall_at(5000), up_at(0));
  first.raise_ceiling(6000);
  std::uint64_t last = 0;
  while (true) {
    const auto tick = first.take(1000, wall_at(5995), up_at(995));
    if (!tick) break;
    last = *tick + 999;
  }
  EXPECT_LT(last >> 13, 6000u);
  // The clock was set back by an hour while the machine was off.
  ScarabClock second(6000, wall_at(1), up_at(0));
  second.raise_ceiling(kForever);
  EXPECT_GT(second.take(1, wall_at(1), up_at(0)).value(), last);
}

TEST(scarab_clock, ten_times_over_rate_borrows_ten_milliseconds_and_then_waits) {
  ScarabClock clock(0, wall_at(0), up_at(0));
  clock.raise_ceiling(kForever);
  std::uint64_t last = 0;
  std::uint64_t taken = 0;
  std::uint64_t refused = 0;
  for (std::int64_t ms = 1; ms <= 100; ++ms) {
    for (int i = 0; i < 10; ++i) {
      const auto tick = clock.take(kScarabPerMs, wall_at(ms), up_at(ms));
      if (!tick) {
        EXPECT_EQ(tick.error(), ScarabClock::Wait::kTime);
        ++refused;
        continue;
      }
      ASSERT_GT(*tick, last);
      last = *tick + kScarabPerMs - 1;
      ++taken;
      ASSERT_LE(last >> 13, static_cast<std::uint64_t>(ms) + kScarabBorrowMs);
    }
  }
  EXPECT_EQ(taken, 100 + kScarabBorrowMs) << "8192 each millisecond, and what was borrowed";
  EXPECT_GT(refused, 0u);
}

TEST(scarab_clock, nothing_reaches_the_ceiling) {
  ScarabClock clock(0, wall_at(100), up_at(0));
  clock.raise_ceiling(103);
  EXPECT_EQ(clock.take(4 * kScarabPerMs, wall_at(100), up_at(0)),
            std::unexpected(ScarabClock::Wait::kCeiling));
  EXPECT_TRUE(clock.take(kScarabPerMs, wall_at(102), up_at(2)).has_value());
  EXPECT_EQ(clock.take(1, wall_at(103), up_at(3)), std::unexpected(ScarabClock::Wait::kCeiling));
  clock.raise_ceiling(50);
  EXPECT_EQ(clock.ceiling_ms(), 103u) << "it only grows";
}

TEST(scarab_clock, ends_with_its_bits) {
  ScarabClock clock(kScarabEndMs - 1, wall_at(0), up_at(0));
  clock.raise_ceiling(UINT64_MAX);
  EXPECT_TRUE(clock.take(1, wall_at(0), up_at(0)).has_value());
  EXPECT_EQ(clock.take(kScarabPerMs, wall_at(0), up_at(0)),
            std::unexpected(ScarabClock::Wait::kEnd));
}

TEST(scarab_clock, a_clock_before_the_epoch_is_the_epoch) {
  ScarabClock clock(0, WallMs{0}, up_at(0));
  clock.raise_ceiling(kForever);
  EXPECT_EQ(clock.take(1, WallMs{0}, up_at(0)), 1u);
}

TEST(scarab_batch, eight_threads_never_overlap) {
  ScarabClock clock(0, wall_at(1000), up_at(0));
  clock.raise_ceiling(kForever);
  std::atomic<std::int64_t> ms{1000};
  std::vector<std::vector<std::pair<std::uint64_t, std::uint64_t>>> taken(8);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 2000; ++i) {
        const std::uint64_t count = 1 + (i * 7919 + t * 104'729) % 5000;
        auto tick = clock.take(count, wall_at(ms.load()), up_at(0));
        for (; !tick; tick = clock.take(count, wall_at(ms.load()), up_at(0))) ++ms;
        taken[t].emplace_back(*tick, count);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::vector<std::pair<std::uint64_t, std::uint64_t>> all;
  for (const auto& mine : taken) {
    EXPECT_TRUE(std::ranges::is_sorted(mine)) << "ascending for each thread";
    all.insert(all.end(), mine.begin(), mine.end());
  }
  std::ranges::sort(all);
  for (std::size_t i = 1; i < all.size(); ++i) {
    ASSERT_LE(all[i - 1].first + all[i - 1].second, all[i].first);
  }
}

}  // namespace
}  // namespace pyralog::obelisk
