#include "raft/progress.h"

#include <gtest/gtest.h>

namespace pyralog::raft {
namespace {

constexpr Progress::Limits kLimits{.messages = 2, .bytes = 100};

TEST(Progress, probes_one_message_at_a_time_and_then_sends_ahead) {
  Progress progress(Index(10), kLimits);
  EXPECT_FALSE(progress.waits());
  progress.sent(Index(12), 10);
  EXPECT_TRUE(progress.waits());
  EXPECT_TRUE(progress.refused(Index(9), Index(4)));
  EXPECT_EQ(progress.next(), Index(5));
  EXPECT_FALSE(progress.refused(Index(9), Index(4))) << "old news";
  EXPECT_TRUE(progress.agrees_up_to(Index(4)));
  progress.replicate();
  progress.sent(Index(5), 10);
  progress.sent(Index(6), 10);
  EXPECT_EQ(progress.next(), Index(7));
  EXPECT_TRUE(progress.waits()) << "two messages are on their way";
  EXPECT_TRUE(progress.agrees_up_to(Index(5)));
  EXPECT_FALSE(progress.waits());
  EXPECT_FALSE(progress.agrees_up_to(Index(5)));
}

TEST(Progress, a_window_is_bounded_by_bytes_and_a_lost_answer_does_not_close_it) {
  Progress progress(Index(1), kLimits);
  progress.replicate();
  progress.sent(Index(1), 100);
  EXPECT_TRUE(progress.is_full());
  progress.answered_round(1);
  EXPECT_FALSE(progress.is_full());
  EXPECT_EQ(progress.round(), 1U);
}

TEST(Progress, a_refusal_while_sending_ahead_goes_back_to_what_is_known) {
  Progress progress(Index(1), kLimits);
  progress.replicate();
  EXPECT_TRUE(progress.agrees_up_to(Index(3)));
  progress.sent(Index(8), 1);
  EXPECT_FALSE(progress.refused(Index(3), Index(0))) << "it agrees that far";
  EXPECT_TRUE(progress.refused(Index(8), Index(0)));
  EXPECT_EQ(progress.state(), Progress::State::kProbe);
  EXPECT_EQ(progress.next(), Index(4));
}

TEST(Progress, nothing_is_sent_until_a_snapshot_has_ended) {
  Progress progress(Index(1), kLimits);
  progress.sent_snapshot(Index(20));
  EXPECT_TRUE(progress.waits());
  progress.snapshot_ended(false);
  EXPECT_EQ(progress.next(), Index(1));
  progress.sent_snapshot(Index(20));
  progress.snapshot_ended(true);
  EXPECT_EQ(progress.next(), Index(21));
  EXPECT_TRUE(progress.waits()) << "until it is heard of";
  progress.answered_round(2);
  EXPECT_FALSE(progress.waits());
}

}  // namespace
}  // namespace pyralog::raft
