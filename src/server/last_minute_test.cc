#include "server/last_minute.h"

#include <gtest/gtest.h>

namespace pyralog::server {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

TEST(LastMinute, tells_what_was_moved_since_a_minute_ago) {
  LastMinute minute;
  Movement now;
  EXPECT_EQ(minute.until(now).seconds, 0);
  for (int step = 0; step < 100; ++step) {
    minute.note(now);
    now.at = now.at + LastMinute::kStep;
    now.records_in += 10;
    now.bytes_in += 1000;
    now.records_out += 20;
    now.bytes_out += 2000;
    // The first five minutes were slow.
    for (int i = 0; i < 10; ++i) now.produce.record(step < 30 ? 1000 * kMs : 2 * kMs);
    const MinuteMoved told = minute.until(now);
    const auto steps = static_cast<std::uint64_t>(std::min(step + 1, 6));
    ASSERT_EQ(told.seconds, static_cast<double>(10 * steps)) << step;
    ASSERT_EQ(told.records_in, 10 * steps);
    ASSERT_EQ(told.bytes_in, 1000 * steps);
    ASSERT_EQ(told.records_out, 20 * steps);
    ASSERT_EQ(told.bytes_out, 2000 * steps);
    ASSERT_TRUE(told.produce_p99);
    if (step < 30) ASSERT_GE(*told.produce_p99, 1s);
    if (step >= 36) ASSERT_LE(*told.produce_p99, 3ms) << step;
  }
}

TEST(LastMinute, where_nothing_was_produced_there_is_no_p99) {
  LastMinute minute;
  Movement now;
  now.produce.record(5 * kMs);
  minute.note(now);
  now.at = now.at + 30s;
  EXPECT_EQ(minute.until(now).produce_p99, std::nullopt);
  EXPECT_EQ(minute.until(now).seconds, 30);
}

}  // namespace
}  // namespace pyralog::server
