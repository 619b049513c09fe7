// What wall clocks do while a broker runs, or does not, and what retention makes of it.
#include "broker/testing.h"

namespace pyralog::broker {
namespace {

using testing::batch_of;
using testing::BrokerTest;

constexpr Duration kDay = std::chrono::hours(24);

/// A topic that keeps a day, with a closed segment of one record.
class ClockTest : public BrokerTest {
 protected:
  ClockTest() {
    options_.retention_check_interval = 1min;
    start();
    EXPECT_EQ(create("t", 1, {{"retention.ms", "86400000"}, {"segment.ms", "60000"}}),
              KafkaError::kNone);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
      sim_.run_for(2min);
    }
  }
  ~ClockTest() override { node().set_wall_offset(0s); }
  std::int64_t log_start() { return offset("t", -2).offset; }
  void restart_with(Duration wrong, bool power = false) {
    power ? crash(true) : stop();
    node().set_wall_offset(wrong);
    start();
  }
};

TEST_F(ClockTest, one_that_is_ahead_after_a_start_takes_nothing_along) {
  for (const bool power : {false, true}) {
    restart_with(kDay + 1h, power);
    sim_.run_for(59min);
    EXPECT_EQ(log_start(), 0);
    restart_with(kDay + 1h, power);
    sim_.run_for(59min);
    EXPECT_EQ(log_start(), 0) << "each start waits anew";
    restart_with(0s, power);
    sim_.run_for(2min);
    EXPECT_EQ(log_start(), 0);
  }
}

TEST_F(ClockTest, one_that_was_behind_after_a_start_takes_nothing_along_when_it_is_right_again) {
  restart_with(-kDay - 1h);
  sim_.run_for(2h);
  EXPECT_EQ(log_start(), 0);
  node().set_wall_offset(kDay);
  sim_.run_for(59min);
  EXPECT_EQ(log_start(), 0);
  restart_with(kDay);
  sim_.run_for(59min);
  EXPECT_EQ(log_start(), 0);
}

TEST_F(ClockTest, one_that_stays_ahead_is_believed_after_an_hour) {
  restart_with(kDay + 1h);
  sim_.run_for(62min);
  EXPECT_GE(log_start(), 1);
}

TEST_F(ClockTest, a_node_that_was_really_off_forgets_an_hour_later) {
  stop();
  sim_.run_for(kDay + 1h);
  start();
  sim_.run_for(58min);
  EXPECT_EQ(log_start(), 0);
  sim_.run_for(4min);
  EXPECT_GE(log_start(), 1);
}

TEST_F(ClockTest, what_was_believed_may_be_lost_or_damaged) {
  stop();
  ASSERT_TRUE(disk().corrupt("/data/believed-time", 13));
  node().set_wall_offset(kDay + 1h);
  start();
  sim_.run_for(58min);
  EXPECT_EQ(log_start(), 0);
  EXPECT_TRUE(run([]() -> io::Task<bool> {
    co_return (co_await io::Shard::current().disk().remove("/data/believed-time")).has_value();
  }));
  crash();
  start();
  sim_.run_for(58min);
  EXPECT_EQ(log_start(), 0);
}

}  // namespace
}  // namespace pyralog::broker
