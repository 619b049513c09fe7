#pragma once

#include <cstdint>
#include <vector>

namespace pyralog::log {

/// Disjoint half-open ranges of positions, sorted and merged. Pure.
class Intervals {
 public:
  void add(std::uint64_t from, std::uint64_t to);
  /// True if all of [from, to) is covered.
  [[nodiscard]] bool covers(std::uint64_t from, std::uint64_t to) const;
  /// The end of the covered range that holds `from`, or `from`.
  [[nodiscard]] std::uint64_t covered_to(std::uint64_t from) const;
  /// Forgets what lies in [from, to).
  void remove(std::uint64_t from, std::uint64_t to);
  /// Forgets everything at or above `end`.
  void truncate(std::uint64_t end);
  [[nodiscard]] std::size_t count() const { return ranges_.size(); }

 private:
  struct Range {
    std::uint64_t from;
    std::uint64_t to;
  };
  std::vector<Range> ranges_;
};

}  // namespace pyralog::log
