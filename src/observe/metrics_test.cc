#include "observe/metrics.h"

#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

namespace pyralog::observe {
namespace {

using namespace std::chrono_literals;

/// Checks the text format: every family has HELP and TYPE first, samples belong to it, no sample
/// comes twice, histograms are cumulative. Returns name{labels} → value.
std::map<std::string, double> parsed(const std::string& text) {
  std::map<std::string, double> samples;
  std::set<std::string> families;
  std::string family;
  std::string type;
  double last_bucket = 0;
  const std::regex sample(
      R"re(([a-z_][a-z0-9_]*)(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)+\})? (\S+))re");
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# HELP ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << "twice: " << family;
    } else if (line.starts_with("# TYPE ")) {
      EXPECT_TRUE(line.starts_with("# TYPE " + family + " ")) << line;
      type = line.substr(line.rfind(' ') + 1);
    } else {
      std::smatch match;
      EXPECT_TRUE(std::regex_match(line, match, sample)) << line;
      std::string name = match[1];
      const double value = std::stod(match[5]);
      EXPECT_TRUE(samples.emplace(line.substr(0, line.rfind(' ')), value).second) << line;
      if (type == "histogram") {
        if (name.ends_with("_bucket")) {
          EXPECT_NE(line.find("le=\""), std::string::npos);
          EXPECT_GE(value, last_bucket) << line;
          last_bucket = value;
        }
        if (name.ends_with("_count")) {
          EXPECT_EQ(value, last_bucket) << line;
          last_bucket = 0;
        }
        name = std::regex_replace(name, std::regex("_(bucket|sum|count)$"), "");
      }
      EXPECT_EQ(name, family) << line;
    }
  }
  EXPECT_TRUE(text.empty() || text.back() == '\n');
  return samples;
}

TEST(Registry, writes_prometheus_text) {
  Registry registry(2);
  registry.counter("pyralog_log_appended_bytes_total", "Bytes appended.").add(7);
  registry.counter("pyralog_kafka_requests_total", "Requests.", {{"api", "Fetch"}}).add();
  registry.counter("pyralog_kafka_requests_total", "Requests.", {{"api", "Produce"}}).add(2);
  registry.gauge("pyralog_kafka_connections", "Open\nconnections \\ now.").set(-3);
  registry.gauge_from("pyralog_disk_free_ratio", "Free part.", {}, [] { return 0.25; });
  registry.counter_from("process_cpu_seconds_total", "Time.", {}, [] { return 1.5; });
  const auto samples = parsed(registry.text());
  EXPECT_EQ(samples.at("process_cpu_seconds_total"), 1.5);
  EXPECT_EQ(samples.at("pyralog_log_appended_bytes_total"), 7);
  EXPECT_EQ(samples.at("pyralog_kafka_requests_total{api=\"Fetch\"}"), 1);
  EXPECT_EQ(samples.at("pyralog_kafka_requests_total{api=\"Produce\"}"), 2);
  EXPECT_EQ(samples.at("pyralog_kafka_connections"), -3);
  EXPECT_EQ(samples.at("pyralog_disk_free_ratio"), 0.25);
  EXPECT_NE(registry.text().find("Open\\nconnections \\\\ now."), std::string::npos);
}

TEST(Registry, escapes_label_values) {
  Registry registry(1);
  registry.counter("pyralog_a_total", "A.", {{"topic", "a\"b\\c\nd"}}).add();
  const std::string text = registry.text();
  EXPECT_NE(text.find(R"(topic="a\"b\\c\nd"})"), std::string::npos) << text;
  parsed(text);
}

TEST(Registry, histograms_are_cumulative_and_in_seconds) {
  Registry registry(1);
  Histogram& histogram =
      registry.histogram("pyralog_log_append_seconds", "Time.", Unit::kSeconds, {{"a", "b"}});
  histogram.record(Duration(3us));
  histogram.record(Duration(2ms));
  histogram.record(Duration(5min));
  histogram.record(Duration(-1s));
  const auto samples = parsed(registry.text());
  EXPECT_EQ(samples.at("pyralog_log_append_seconds_bucket{a=\"b\",le=\"4.096e-06\"}"), 2);
  EXPECT_EQ(samples.at("pyralog_log_append_seconds_bucket{a=\"b\",le=\"+Inf\"}"), 4);
  EXPECT_EQ(samples.at("pyralog_log_append_seconds_count{a=\"b\"}"), 4);
  EXPECT_NEAR(samples.at("pyralog_log_append_seconds_sum{a=\"b\"}"), 300.002003, 1e-6);
}

TEST(Registry, the_same_name_and_labels_are_the_same_metric) {
  Registry registry(1);
  Counter& one = registry.counter("pyralog_a_total", "A.", {{"x", "1"}, {"y", "2"}});
  EXPECT_EQ(&one, &registry.counter("pyralog_a_total", "A.", {{"y", "2"}, {"x", "1"}}));
  EXPECT_NE(&one, &registry.counter("pyralog_a_total", "A.", {{"x", "1"}}));
  registry.remove("y", "2");
  EXPECT_EQ(parsed(registry.text()).size(), 1U);
}

TEST(Registry, foreign_threads_lose_no_counts_while_it_is_scraped) {
  Registry registry(2);
  Counter& counter = registry.counter("pyralog_a_total", "A.");
  Histogram& histogram = registry.histogram("pyralog_c_bytes", "B.", Unit::kBytes);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (std::uint64_t n = 1; n <= 20'000; ++n) {
        counter.add();
        histogram.record(n);
      }
    });
  }
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(registry.text().empty());
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 60'000U);
  EXPECT_EQ(histogram.snapshot().count(), 60'000U);
  EXPECT_EQ(histogram.snapshot().max(), 20'000U);
}

}  // namespace
}  // namespace pyralog::observe
