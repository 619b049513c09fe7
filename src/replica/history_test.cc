#include "replica/history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace pyralog::replica {
namespace {

using Runs = std::vector<EpochStart>;

EpochStart run(std::uint32_t epoch, std::int64_t start) {
  return {Epoch(epoch), Offset(start)};
}
History log(std::int64_t start, std::int64_t end, Runs runs) {
  auto made = History::make(Offset(start), Offset(end), std::move(runs));
  EXPECT_TRUE(made) << made.error().message;
  return made ? *made : History();
}

TEST(History, says_which_epoch_wrote_what) {
  const History h = log(2, 20, {run(1, 0), run(3, 5), run(4, 10)});
  EXPECT_EQ(h.last(), Epoch(4));
  EXPECT_EQ(h.before(Offset(2)), Epoch(0));
  EXPECT_EQ(h.before(Offset(3)), Epoch(1));
  EXPECT_EQ(h.before(Offset(5)), Epoch(1));
  EXPECT_EQ(h.before(Offset(6)), Epoch(3));
  EXPECT_EQ(h.before(Offset(20)), Epoch(4));
  EXPECT_EQ(h.before(Offset(21)), Epoch(0));
  EXPECT_EQ(h.end_of(Epoch(3)), (EpochTail{Epoch(3), Offset(10)}));
  EXPECT_EQ(h.end_of(Epoch(2)), (EpochTail{Epoch(1), Offset(5)}));
  EXPECT_EQ(h.end_of(Epoch(9)), (EpochTail{Epoch(4), Offset(20)}));
  EXPECT_EQ(log(2, 20, {run(3, 0)}).end_of(Epoch(2)), (EpochTail{Epoch(0), Offset(2)}));
  EXPECT_EQ(h.runs(Offset(4), Offset(10)), (Runs{run(1, 4), run(3, 5)}));
  EXPECT_EQ(h.runs(Offset(10), Offset(20)), (Runs{run(4, 10)}));
}

TEST(History, is_cut_and_trimmed) {
  History h = log(0, 20, {run(1, 0), run(3, 5), run(4, 10)});
  h.truncate(Offset(10));
  EXPECT_EQ(h, log(0, 10, {run(1, 0), run(3, 5)}));
  h.trim(Offset(6));
  EXPECT_EQ(h.epochs(), (Runs{run(3, 5)}));
  h.truncate(Offset(6));
  EXPECT_TRUE(h.empty());
  EXPECT_EQ(h.last(), Epoch(0));
  h.append(Epoch(2), Offset(8));
  EXPECT_EQ(h.epochs(), (Runs{run(2, 6)}));
}

TEST(History, refuses_what_describes_no_log) {
  EXPECT_FALSE(History::make(Offset(-1), Offset(5), {run(1, 0)}));
  EXPECT_FALSE(History::make(Offset(5), Offset(4), {}));
  EXPECT_FALSE(History::make(Offset(0), Offset(5), {}));
  EXPECT_FALSE(History::make(Offset(0), Offset(5), {run(1, 1)}));
  EXPECT_FALSE(History::make(Offset(0), Offset(5), {run(0, 0)}));
  EXPECT_FALSE(History::make(Offset(0), Offset(5), {run(2, 0), run(2, 3)}));
  EXPECT_FALSE(History::make(Offset(0), Offset(5), {run(2, 0), run(3, 0)}));
  EXPECT_FALSE(History::make(Offset(0), Offset(5), {run(2, 0), run(3, 5)}));
  EXPECT_TRUE(History::make(Offset(5), Offset(5), {}));
}

TEST(History, only_what_goes_on_at_the_end_follows) {
  const History h = log(0, 5, {run(2, 0)});
  EXPECT_TRUE(h.follows(Runs{run(2, 5), run(4, 7)}, Offset(9)));
  EXPECT_TRUE(h.follows({}, Offset(5)));
  EXPECT_FALSE(h.follows({}, Offset(6)));
  EXPECT_FALSE(h.follows(Runs{run(2, 6)}, Offset(9)));
  EXPECT_FALSE(h.follows(Runs{run(1, 5)}, Offset(9)));
  EXPECT_FALSE(h.follows(Runs{run(2, 5), run(2, 6)}, Offset(9)));
  EXPECT_FALSE(h.follows(Runs{run(2, 5), run(4, 9)}, Offset(9)));
}

/// Two logs that grew as replicas' logs do: a common past, then each its own epochs.
TEST(History, two_logs_agree_as_far_as_their_records_do) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::uint32_t> a;
    std::uint32_t epoch = 1;
    const auto grow = [&](std::vector<std::uint32_t>& log, std::uint32_t parity) {
      for (std::uint64_t runs = random() % 4; runs > 0; --runs) {
        epoch += 1 + static_cast<std::uint32_t>(random() % 3);
        if (parity < 2 && epoch % 2 != parity) ++epoch;
        log.insert(log.end(), 1 + random() % 3, epoch);
      }
    };
    grow(a, 2);
    std::vector<std::uint32_t> b = a;
    const std::size_t common = a.size();
    const std::uint32_t from = epoch;
    grow(a, 0);
    epoch = from;
    grow(b, 1);
    const auto history = [&](const std::vector<std::uint32_t>& log) {
      History made;
      for (const std::uint32_t e : log) made.append(Epoch(e), Offset(made.end().value + 1));
      made.trim(Offset(static_cast<std::int64_t>(random() % (log.size() + 1))));
      return made;
    };
    const History x = history(a);
    const History y = history(b);
    const auto expected =
        std::max({x.start(), y.start(), Offset(static_cast<std::int64_t>(common))});
    const Offset found = agreed_end(x, y);
    if (std::max(x.start(), y.start()).value <= static_cast<std::int64_t>(common)) {
      ASSERT_EQ(found, expected) << "round " << round;
    } else {
      ASSERT_EQ(found, std::max(x.start(), y.start())) << "round " << round;
    }
  }
}

TEST(HistoryTest, of_a_log_whose_records_are_all_gone_is_empty_whatever_comes_next) {
  const auto made = History::make(Offset(100), Offset(100), {{Epoch(3), Offset(100)}});
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE(made->empty());
  EXPECT_EQ(made->end(), Offset(100));
}

}  // namespace
}  // namespace pyralog::replica
