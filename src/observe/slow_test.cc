#include "observe/slow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/sim/simulator.h"

namespace pyralog::observe {
namespace {

using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;

TEST(LineBound, a_few_lines_in_a_while_and_the_next_says_how_many_were_left_out) {
  LineBound bound;
  Instant now{5};
  for (unsigned i = 0; i < LineBound::kLines; ++i) EXPECT_EQ(bound.admit(now), 0u);
  for (int i = 0; i < 1'000; ++i) EXPECT_EQ(bound.admit(now + i * 9ms), std::nullopt);
  now = now + LineBound::kWindow;
  EXPECT_EQ(bound.admit(now), 1'000u);
  EXPECT_EQ(bound.admit(now), 0u);
  std::size_t lines = 0;
  for (int i = 0; i < 3'600'000; i += 10) lines += bound.admit(now + i * 1ms).has_value() ? 1 : 0;
  EXPECT_LE(lines, 360u * LineBound::kLines) << "an hour of a sick disk";
  EXPECT_GE(lines, 359u * LineBound::kLines);
}

class Slow : public testing::Test {
 protected:
  Slow() {
    sim_.add_node();
    capture_log([this](const std::string& line) { lines_.push_back(line); });
  }
  ~Slow() override { capture_log({}); }
  void note(SlowLog& slow, SlowKind kind, Duration took) {
    sim_.node(0).run([&]() -> io::Task<bool> {
      slow.note(kind, took, {{"what", "orders"}});
      co_return true;
    });
  }
  io::sim::Simulator sim_{1};
  Registry registry_{1};
  std::vector<std::string> lines_;
};

TEST_F(Slow, what_is_beyond_the_limit_is_counted_and_told) {
  SlowLog slow(registry_, 1s);
  note(slow, SlowKind::kSync, 1s);
  EXPECT_TRUE(lines_.empty()) << "as long as the limit is not longer";
  note(slow, SlowKind::kSync, 1'500ms);
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_THAT(lines_[0], HasSubstr("WARN slow.sync what=orders ms=1500 limit_ms=1000"));
  EXPECT_THAT(lines_[0], Not(HasSubstr("left_out")));
  EXPECT_THAT(registry_.text(), HasSubstr("pyralog_slow_operations_total{kind=\"sync\"} 1\n"));
  EXPECT_THAT(registry_.text(), HasSubstr("pyralog_slow_operations_total{kind=\"request\"} 0\n"));
}

TEST_F(Slow, lines_are_bounded_for_each_kind_and_the_count_is_not) {
  SlowLog slow(registry_, 10ms);
  for (int i = 0; i < 100; ++i) note(slow, SlowKind::kSync, 1s);
  EXPECT_EQ(lines_.size(), LineBound::kLines);
  note(slow, SlowKind::kRequest, 1s);
  EXPECT_THAT(lines_.back(), HasSubstr("slow.request")) << "one kind does not silence another";
  sim_.run_for(LineBound::kWindow);
  note(slow, SlowKind::kSync, 1s);
  EXPECT_THAT(lines_.back(), HasSubstr("left_out=95"));
  EXPECT_THAT(registry_.text(), HasSubstr("pyralog_slow_operations_total{kind=\"sync\"} 101\n"));
}

TEST_F(Slow, zero_tells_all_and_less_tells_nothing) {
  SlowLog all(registry_, 0s);
  note(all, SlowKind::kWrite, 1ns);
  EXPECT_EQ(lines_.size(), 1u);
  SlowLog off(registry_, -1ms);
  note(off, SlowKind::kWrite, 1h);
  EXPECT_EQ(lines_.size(), 1u);
}

}  // namespace
}  // namespace pyralog::observe
