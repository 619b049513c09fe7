#include "observe/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace pyralog::observe {
namespace {

TEST(HistogramLayout, every_value_lies_in_its_bucket_and_buckets_touch) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t value = 1 + (random() >> (20 + random() % 44));
    const std::size_t bucket = HistogramLayout::bucket(value);
    ASSERT_LT(bucket, HistogramLayout::kBuckets);
    if (value > (std::uint64_t{1} << HistogramLayout::kMaxBits)) continue;
    ASSERT_LE(value, HistogramLayout::upper(bucket)) << value;
    if (bucket > 0) ASSERT_GT(value, HistogramLayout::upper(bucket - 1)) << value;
  }
  for (std::size_t i = 1; i < HistogramLayout::kBuckets; ++i) {
    ASSERT_EQ(HistogramLayout::bucket(HistogramLayout::upper(i)), i);
    ASSERT_EQ(HistogramLayout::bucket(HistogramLayout::upper(i - 1) + 1), i);
  }
  for (unsigned bits = 0; bits <= HistogramLayout::kMaxBits; ++bits) {
    const std::uint64_t power = std::uint64_t{1} << bits;
    EXPECT_EQ(HistogramLayout::upper(HistogramLayout::bucket(power)), power);
  }
  EXPECT_EQ(HistogramLayout::bucket(UINT64_MAX), HistogramLayout::kBuckets - 1);
  EXPECT_EQ(HistogramLayout::bucket(0), 0U);
}

TEST(HistogramData, quantiles_are_exact_to_a_sixteenth) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 50; ++round) {
    HistogramData all;
    HistogramData half;
    std::vector<std::uint64_t> values;
    const auto shift = 24 + random() % 30;
    for (int i = 0; i < 2000; ++i) {
      values.push_back(1 + (random() >> shift));
      (i % 2 == 0 ? all : half).record(values.back());
    }
    all.merge(half);
    std::sort(values.begin(), values.end());
    EXPECT_EQ(all.count(), values.size());
    EXPECT_EQ(all.max(), values.back());
    for (const double q : {0.0, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const auto rank = std::max<std::size_t>(1, static_cast<std::size_t>(q * 2000 + 0.999999));
      const std::uint64_t exact = values[rank - 1];
      EXPECT_GE(all.quantile(q), exact);
      EXPECT_LE(all.quantile(q), exact + exact / 8 + 1);
    }
  }
  EXPECT_EQ(HistogramData().quantile(0.5), 0U);
}

TEST(HistogramData, counts_up_to_a_power_of_two_are_exact) {
  HistogramData data;
  for (std::uint64_t v = 1; v <= 5000; ++v) data.record(v);
  for (const std::uint64_t bound : {1U, 2U, 16U, 32U, 1024U, 4096U}) {
    EXPECT_EQ(data.count_up_to(bound), bound);
  }
  EXPECT_EQ(data.count_up_to(8192), 5000U);
}

}  // namespace
}  // namespace pyralog::observe
