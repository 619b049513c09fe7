#include "log/max_window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

namespace pyralog::log {
namespace {

/// The same, the long way.
struct Model {
  std::deque<std::int64_t> values;
  [[nodiscard]] std::optional<std::int64_t> max() const {
    if (values.empty()) return std::nullopt;
    return *std::ranges::max_element(values);
  }
  [[nodiscard]] std::size_t first_at_or_above(std::size_t from, std::int64_t bound) const {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(from);
    const auto found = std::find_if(begin, values.end(), [&](auto v) { return v >= bound; });
    return static_cast<std::size_t>(found - values.begin());
  }
};

TEST(MaxWindow, finds_what_a_search_through_all_finds) {
  std::mt19937 random(7);
  const auto below = [&random](std::size_t n) { return random() % n; };
  for (int round = 0; round < 60; ++round) {
    MaxWindow window;
    Model model;
    const std::size_t most = round < 50 ? 1 + below(300) : 10'000;
    std::int64_t now = 0;
    for (int step = 0; step < 400; ++step) {
      const auto kind = below(10);
      if (kind < 6) {
        for (std::size_t n = 1 + below(most / 4 + 1); n > 0 && model.values.size() < most; --n) {
          now += round % 3 == 0 ? 1 : round % 3 == 1 ? -1 : 0;
          const auto value = now + static_cast<std::int64_t>(below(50));
          window.push_back(value);
          model.values.push_back(value);
        }
      } else if (kind < 9) {
        for (std::size_t n = below(model.values.size() + 1); n > 0; --n) {
          window.pop_front();
          model.values.pop_front();
        }
      } else {
        const std::size_t left = model.values.size() - below(model.values.size() / 2 + 1);
        window.truncate(left);
        model.values.resize(left);
      }
      ASSERT_EQ(window.size(), model.values.size());
      ASSERT_EQ(window.max(), model.max()) << round << " " << step;
      for (int look = 0; look < 4; ++look) {
        const std::size_t from = below(model.values.size() + 1);
        const auto bound = window.max().value_or(0) + 2 - static_cast<std::int64_t>(below(100));
        ASSERT_EQ(window.first_at_or_above(from, bound), model.first_at_or_above(from, bound))
            << round << " " << step << " from " << from << " at or above " << bound;
      }
    }
  }
}

TEST(MaxWindow, of_equal_values_the_first_is_found_and_then_the_next) {
  MaxWindow window;
  for (const std::int64_t value : {3, 5, 5, 2, 5}) window.push_back(value);
  EXPECT_EQ(window.first_at_or_above(0, 5), 1u);
  EXPECT_EQ(window.first_at_or_above(2, 5), 2u);
  window.pop_front();
  window.pop_front();
  EXPECT_EQ(window.max(), 5);
  EXPECT_EQ(window.first_at_or_above(0, 5), 0u);
  EXPECT_EQ(window.first_at_or_above(1, 5), 2u);
  EXPECT_EQ(window.first_at_or_above(0, 6), 3u);
}

}  // namespace
}  // namespace pyralog::log
