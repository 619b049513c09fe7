#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace pyralog::observe {

/// The buckets of every histogram here: 16 per power of two, so that a value is known to 1/16. Bucket
/// i holds the values in (lower, upper]; powers of two are upper bounds. Values are whole: ns, bytes.
struct HistogramLayout {
  static constexpr unsigned kSubBits = 4;
  static constexpr std::uint64_t kSub = 1U << kSubBits;
  static constexpr unsigned kMaxBits = 44;  ///< 2^44 ns are almost five hours; beyond counts there
  static constexpr std::size_t kBuckets = (kMaxBits - kSubBits + 1) * kSub;

  [[nodiscard]] static constexpr std::size_t bucket(std::uint64_t value) {
    const std::uint64_t v = value == 0 ? 0 : value - 1;
    if (v < kSub) return static_cast<std::size_t>(v);
    const auto top = static_cast<unsigned>(std::bit_width(v)) - 1;
    if (top >= kMaxBits) return kBuckets - 1;
    return static_cast<std::size_t>((top - kSubBits + 1) * kSub + ((v >> (top - kSubBits)) - kSub));
  }
  /// The greatest value that belongs to a bucket.
  [[nodiscard]] static constexpr std::uint64_t upper(std::size_t index) {
    if (index < kSub) return index + 1;
    const auto shift = static_cast<unsigned>(index / kSub) - 1;
    return ((index % kSub + kSub + 1) << shift);
  }
};

/// A plain histogram: what cells are merged into, and what benchmarks record into. One thread.
class HistogramData {
 public:
  void record(std::uint64_t value, std::uint64_t times = 1) {
    counts_[HistogramLayout::bucket(value)] += times;
    count_ += times;
    sum_ += value * times;
    if (value > max_) max_ = value;
  }
  void merge(const HistogramData& other);
  /// For cells that were counted elsewhere.
  void add_bucket(std::size_t index, std::uint64_t times) {
    counts_[index] += times;
    count_ += times;
  }
  void add_sum(std::uint64_t sum, std::uint64_t max) {
    sum_ += sum;
    if (max > max_) max_ = max;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t sum() const { return sum_; }
  [[nodiscard]] std::uint64_t max() const { return max_; }
  /// The least bucket bound that at least `quantile` (0…1) of the values do not exceed, at most
  /// max(); 0 if there are none.
  [[nodiscard]] std::uint64_t quantile(double quantile) const;
  /// How many values are at most `bound`, a power of two.
  [[nodiscard]] std::uint64_t count_up_to(std::uint64_t bound) const;

 private:
  std::array<std::uint64_t, HistogramLayout::kBuckets> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace pyralog::observe
