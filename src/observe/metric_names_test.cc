#include "observe/metric_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "observe/metrics.h"

namespace pyralog::observe {
namespace {

using ::testing::HasSubstr;

constexpr auto kCounter = MetricKind::kCounter;
constexpr auto kGauge = MetricKind::kGauge;
constexpr auto kHistogram = MetricKind::kHistogram;

TEST(MetricNames, these_are_good) {
  EXPECT_EQ(name_fault("pyralog_log_appended_bytes_total", "A.", kCounter), "");
  EXPECT_EQ(name_fault("pyralog_kafka_connections", "A.", kGauge), "");
  EXPECT_EQ(name_fault("pyralog_kafka_request_seconds", "A.", kHistogram), "");
  EXPECT_EQ(name_fault("pyralog_build_info", "A.", kGauge), "");
  EXPECT_EQ(name_fault("process_cpu_seconds_total", "A.", kCounter), "");
  EXPECT_EQ(name_fault("process_start_time_seconds", "A.", kGauge), "");
}

TEST(MetricNames, what_the_linter_of_prometheus_does_not_want_is_refused) {
  struct Bad {
    const char* name;
    MetricKind kind;
    const char* said;
  };
  const Bad all[] = {
      {"pyralog_a_things", kCounter, "a counter ends in _total"},
      {"pyralog_a_things_total", kGauge, "only a counter ends in _total"},
      {"pyralog_a_bytes_total", kHistogram, "only a counter ends in _total"},
      {"pyralog_a_things_count", kGauge, "_count is a part of a histogram"},
      {"pyralog_a_bytes_sum", kGauge, "_sum is a part of a histogram"},
      {"pyralog_a_bucket", kHistogram, "_bucket is a part of a histogram"},
      {"pyralog_a_things_count_total", kCounter, "_count is a part of a histogram"},
      {"pyralog_a_gauge_bytes", kGauge, "it tells its kind, gauge"},
      {"pyralog_a_wait_ms", kGauge, "ms is an abbreviation"},
      {"pyralog_a_mb_used", kGauge, "mb is an abbreviation"},
      {"pyralog_a_wait_milliseconds", kHistogram, "milliseconds is no base unit"},
      {"pyralog_a_used_percent", kGauge, "percent is no base unit"},
      {"pyralog_a_bytes_free", kGauge, "bytes, its unit, does not come last"},
      {"pyralog_aThing", kGauge, "does not say of what"},
      {"pyralog_a_Thing", kGauge, "a to z"},
      {"pyralog_a__x", kGauge, "one _ in between"},
      {"pyralog_a_x_", kGauge, "one _ in between"},
      {"other_a_x", kGauge, "begins with neither"},
      {"pyralog_a", kGauge, "does not say of what"},
      {"", kGauge, "begins with neither"},
  };
  for (const Bad& bad : all) {
    EXPECT_THAT(name_fault(bad.name, "Help.", bad.kind), HasSubstr(bad.said)) << bad.name;
  }
  EXPECT_THAT(name_fault("pyralog_a_x", "", kGauge), HasSubstr("it has no help"));
}

TEST(MetricNamesDeathTest, a_registry_takes_no_other) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Registry registry(1);
  EXPECT_DEATH(registry.gauge("pyralog_kafka_connections_count", "A."), "part of a histogram");
  EXPECT_DEATH(registry.counter("pyralog_kafka_requests_total", ""), "it has no help");
  EXPECT_DEATH(registry.histogram("pyralog_kafka_wait", "A.", Unit::kSeconds), "");
}

}  // namespace
}  // namespace pyralog::observe
