#include "cli/bench_report.h"

#include <gtest/gtest.h>

namespace pyralog::cli {
namespace {

TEST(BenchSchedule, is_due_at_its_rate_whatever_was_sent) {
  const Schedule schedule(Instant{1'000}, 1000);
  EXPECT_EQ(schedule.due(0), Instant{1'000});
  EXPECT_EQ(schedule.due(1), Instant{1'001'000});
  EXPECT_EQ(schedule.due(3'600'000), Instant{1'000} + 1h);
  EXPECT_EQ(schedule.due_by(Instant{999}), 0u);
  EXPECT_EQ(schedule.due_by(Instant{1'000}), 1u);
  EXPECT_EQ(schedule.due_by(Instant{1'000'999}), 1u);
  EXPECT_EQ(schedule.due_by(Instant{1'001'000}), 2u);
}

TEST(BenchSchedule, counts_what_is_due_exactly_at_odd_rates) {
  for (const double rate : {3.0, 7.0, 333'333.0, 1'000'003.0}) {
    const Schedule schedule(Instant{0}, rate);
    for (std::uint64_t n : {0ULL, 1ULL, 2ULL, 3ULL, 10ULL, 999'999ULL}) {
      EXPECT_EQ(schedule.due_by(schedule.due(n)), n + 1) << rate << " " << n;
      EXPECT_EQ(schedule.due_by(schedule.due(n) - Duration(1)), n) << rate << " " << n;
    }
  }
}

TEST(BenchValues, have_their_size_and_differ) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{5000}}) {
    const auto values = bench_values(size, 1);
    for (const Bytes& value : values) EXPECT_EQ(value.size(), size);
    if (size >= 100) EXPECT_NE(values[0], values[1]);
  }
}

TEST(BenchReport, says_rates_and_quantiles) {
  EXPECT_EQ(moved_text({.records = 1000, .bytes = 500'000, .seconds = 0.5}),
            "1000 records, 0.5 MB in 0.50 s: 2000 records/s, 1.0 MB/s");
  observe::HistogramData latency;
  for (int i = 0; i < 99; ++i) latency.record(1 << 20);
  latency.record(64 << 20);
  EXPECT_EQ(latency_text(latency), "p50 1.05 ms  p90 1.05 ms  p99 1.05 ms  p99.9 67.11 ms  max 67.11 ms");
  JsonWriter json;
  json.object();
  add_latency(json, "ack_ms", latency);
  json.end();
  EXPECT_EQ(json.text().substr(0, 25), R"({"ack_ms":{"p50":1.048576)");
  EXPECT_NE(json.text().find(R"("mean":1.70)"), std::string::npos) << json.text();
}

}  // namespace
}  // namespace pyralog::cli
