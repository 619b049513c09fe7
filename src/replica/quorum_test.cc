#include "replica/quorum.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>

#include "catalog/topic_config.h"

namespace pyralog::replica {
namespace {

constexpr std::size_t kMost = 7;

TEST(Quorum, what_w_replicas_hold_is_among_any_that_a_recovery_asks) {
  for (std::size_t all = 1; all <= kMost; ++all) {
    for (std::size_t w = 1; w <= all; ++w) {
      const auto asked_count = static_cast<int>(seals_needed(all, w));
      ASSERT_GE(asked_count, 1);
      for (std::uint32_t hold = 0; hold < (1u << all); ++hold) {
        if (std::popcount(hold) != static_cast<int>(w)) continue;
        for (std::uint32_t asked = 0; asked < (1u << all); ++asked) {
          if (std::popcount(asked) != asked_count) continue;
          ASSERT_NE(hold & asked, 0u) << all << " replicas, W " << w;
        }
      }
    }
  }
}

TEST(Quorum, once_a_recovery_has_its_seals_nobody_reaches_the_write_quorum) {
  for (std::size_t all = 1; all <= kMost; ++all) {
    for (std::size_t w = 1; w <= all; ++w) EXPECT_LT(all - seals_needed(all, w), w);
  }
}

TEST(Quorum, the_committed_end_is_the_greatest_that_w_replicas_have_reached) {
  for (std::size_t all = 1; all <= 5; ++all) {
    std::size_t cases = 1;
    for (std::size_t i = 0; i < all; ++i) cases *= 4;
    for (std::size_t code = 0; code < cases; ++code) {
      std::vector<Offset> ends;
      for (std::size_t i = 0, rest = code; i < all; ++i, rest /= 4) {
        ends.emplace_back(static_cast<std::int64_t>(rest % 4));
      }
      for (std::size_t w = 1; w <= all; ++w) {
        Offset greatest(0);
        for (std::int64_t x = 0; x < 4; ++x) {
          if (static_cast<std::size_t>(
                  std::ranges::count_if(ends, [&](Offset end) { return end.value >= x; })) >= w) {
            greatest = Offset(x);
          }
        }
        ASSERT_EQ(committed_end(ends, w), greatest);
      }
    }
  }
}

TEST(Quorum, the_write_quorum_is_a_majority_or_what_min_insync_replicas_asks) {
  for (std::size_t all = 1; all <= kMost; ++all) {
    for (std::int32_t least = 1; least <= static_cast<std::int32_t>(all); ++least) {
      const std::size_t w = catalog::write_quorum(all, least);
      EXPECT_EQ(w, std::max(all / 2 + 1, static_cast<std::size_t>(least)));
      EXPECT_LE(seals_needed(all, w), w) << "who may write may recover";
    }
  }
}

}  // namespace
}  // namespace pyralog::replica
