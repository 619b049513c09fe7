#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace pyralog::log {

/// Numbers that come at the back and go at both ends. What is asked of them takes a few hundred
/// steps however many there are: it keeps the maxima of blocks of 64, of 64 such blocks, and so on.
/// Pure.
class MaxWindow {
 public:
  void push_back(std::int64_t value);
  /// There must be one.
  void pop_front();
  /// Keeps the first `count`, at most all.
  void truncate(std::size_t count);
  [[nodiscard]] std::size_t size() const { return levels_.front().size(); }
  /// The greatest of them; nullopt if there is none.
  [[nodiscard]] std::optional<std::int64_t> max() const;
  /// Place, counted from the front, of the first that is at least `bound` and not before place
  /// `from`; size() if there is none.
  [[nodiscard]] std::size_t first_at_or_above(std::size_t from, std::int64_t bound) const;

 private:
  /// The numbers themselves, counted since the window was made, or the maxima of the blocks of the
  /// level below. The block at the front may show what is gone: nobody asks it, for it is not
  /// whole.
  struct Level {
    std::vector<std::int64_t> values;
    std::size_t head = 0;     ///< values before it are gone
    std::uint64_t first = 0;  ///< number of the value at `head`
    [[nodiscard]] std::size_t size() const { return values.size() - head; }
    [[nodiscard]] std::uint64_t end() const { return first + size(); }
    [[nodiscard]] std::int64_t& at(std::uint64_t number) { return values[head + (number - first)]; }
    [[nodiscard]] std::int64_t at(std::uint64_t number) const {
      return values[head + (number - first)];
    }
    void note(std::uint64_t number, std::int64_t value);
    void pop_front();
  };
  struct Found {
    std::size_t level;
    std::uint64_t number;
  };
  /// Shows `visit` values that together stand for all from number `from` on, in order, until it
  /// returns true; where that was.
  template <typename Visit>
  [[nodiscard]] std::optional<Found> walk(std::uint64_t from, Visit visit) const;

  std::vector<Level> levels_ = std::vector<Level>(1);
};

}  // namespace pyralog::log
