#include "observe/histogram.h"

#include <algorithm>
#include <cmath>

namespace pyralog::observe {

void HistogramData::merge(const HistogramData& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

std::uint64_t HistogramData::quantile(double quantile) const {
  if (count_ == 0) return 0;
  const double wanted = std::ceil(std::clamp(quantile, 0.0, 1.0) * static_cast<double>(count_));
  const auto rank = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(wanted));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen >= rank) return std::min(HistogramLayout::upper(i), max_);
  }
  return max_;
}

std::uint64_t HistogramData::count_up_to(std::uint64_t bound) const {
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i <= HistogramLayout::bucket(bound); ++i) seen += counts_[i];
  return seen;
}

}  // namespace pyralog::observe
