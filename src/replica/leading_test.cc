#include "replica/leading.h"

#include <gtest/gtest.h>

namespace pyralog::replica {
namespace {

using Kind = AppendReply::Kind;

catalog::Replica disk(std::int32_t node, std::uint8_t made = 0) {
  Uuid id;
  id.bytes[0] = static_cast<std::uint8_t>(node);
  id.bytes[1] = made;
  return {NodeId(node), id};
}
Instant at(std::int64_t ms) {
  return Instant{ms * 1'000'000};
}
/// The leader of epoch 4, which begins at 10, on node 1 of 1, 2, 3.
Leading leader(std::uint16_t w = 2) {
  Leading::Term term{Epoch(4), Offset(10), {disk(1), disk(2), disk(3)}, w, {disk(1), 7}, {}};
  History log =
      History::make(Offset(0), Offset(10), {{Epoch(2), Offset(0)}, {Epoch(3), Offset(6)}}).value();
  return Leading(std::move(term), std::move(log), {}, at(0));
}
AppendReply held(std::int32_t node, std::int64_t end, std::int64_t stable) {
  AppendReply r;
  r.kind = Kind::kHeld;
  r.epoch = Epoch(4);
  r.from = {disk(node), 5};
  r.log_end = Offset(end);
  r.stable_end = Offset(stable);
  r.joined = Epoch(4);
  return r;
}
AppendReply apart(std::int32_t node, std::uint32_t epoch, std::int64_t end) {
  AppendReply r = held(node, end, 0);
  r.kind = Kind::kApart;
  r.tail = {Epoch(epoch), Offset(end)};
  return r;
}
/// Sends what there is to `node`, as if each message took at most `most` records.
Append send(Leading& l, std::int32_t node, std::int64_t most, Instant now) {
  const auto next = l.next(NodeId(node), now);
  EXPECT_TRUE(next);
  if (!next) return {};
  Append a = next->message;
  if (next->max_bytes > 0) a.end = Offset(std::min(a.base.value + most, l.log().end().value));
  a.runs = l.log().runs(a.base, a.end);
  l.sent(NodeId(node), a, static_cast<std::uint64_t>(a.end.value - a.base.value), now);
  return a;
}
Leading active(std::uint16_t w = 2) {
  Leading l = leader(w);
  l.stable(Offset(10));
  l.joined();
  for (const std::int32_t node : {2, 3}) {
    l.received(apart(node, 3, 10), at(0));
    l.received(held(node, 10, 10), at(0));
  }
  l.activated(at(0));
  return l;
}

TEST(Leading, shows_nothing_before_its_epoch_is_active) {
  Leading l = leader();
  l.stable(Offset(10));
  l.received(held(2, 10, 10), at(0));
  l.received(held(3, 10, 10), at(0));
  EXPECT_EQ(l.high_watermark(), Offset(0));
  EXPECT_FALSE(l.may_accept(at(1)));
  l.activated(at(1));
  EXPECT_EQ(l.high_watermark(), Offset(10)) << "everything below the start is committed";
  EXPECT_TRUE(l.may_accept(at(1)));
}

TEST(Leading, commits_what_w_replicas_hold_at_the_topics_durability) {
  Leading l = active();
  l.appended(Offset(15), at(1));
  l.stable(Offset(15));
  EXPECT_EQ(l.high_watermark(), Offset(10));
  l.received(held(2, 15, 10), at(2));
  EXPECT_EQ(l.high_watermark(), Offset(10)) << "it has the records, its disk has not";
  l.received(held(2, 15, 13), at(2));
  EXPECT_EQ(l.high_watermark(), Offset(13));
  l.received(held(2, 14, 12), at(2));
  EXPECT_EQ(l.high_watermark(), Offset(13)) << "an old answer";
  l.received(held(3, 15, 15), at(2));
  EXPECT_EQ(l.high_watermark(), Offset(15));
  Leading all = active(3);
  all.appended(Offset(15), at(1));
  all.stable(Offset(15));
  all.received(held(2, 15, 15), at(2));
  EXPECT_EQ(all.high_watermark(), Offset(10));
}

TEST(Leading, another_disk_under_a_replicas_name_counts_nowhere) {
  Leading l = active();
  l.appended(Offset(15), at(1));
  l.stable(Offset(15));
  AppendReply r = held(2, 15, 15);
  r.from.disk = disk(2, 1);
  l.received(r, at(2));
  EXPECT_EQ(l.high_watermark(), Offset(10));
}

TEST(Leading, a_new_life_holds_what_it_says_and_old_words_no_longer_count) {
  Leading l = active(3);
  l.appended(Offset(15), at(1));
  l.stable(Offset(15));
  l.received(held(2, 15, 15), at(2));
  AppendReply started = apart(2, 3, 10);
  started.from.boot = 6;
  l.received(started, at(3));
  l.received(held(3, 15, 15), at(4));
  EXPECT_EQ(l.high_watermark(), Offset(10)) << "what it held then may have gone";
  l.received(held(2, 15, 15), at(4));
  EXPECT_EQ(l.high_watermark(), Offset(10)) << "that was the life before";
  const Append a = send(l, 2, 100, at(4));
  EXPECT_EQ(a.to_boot, 6u);
  EXPECT_EQ(a.base, Offset(10));
}

TEST(Leading, asks_down_the_epochs_until_the_logs_agree) {
  Leading l = leader();
  Append a = send(l, 2, 100, at(0));
  EXPECT_EQ(a.to_boot, 0u) << "it only asks";
  EXPECT_EQ(a.base, Offset(10));
  EXPECT_EQ(a.previous, Epoch(3));
  EXPECT_FALSE(l.next(NodeId(2), at(1)));
  l.received(apart(2, 2, 9), at(2));
  a = send(l, 2, 100, at(2));
  EXPECT_EQ(a.base, Offset(6)) << "epoch 2 ended at 6 here";
  EXPECT_EQ(a.previous, Epoch(2));
  EXPECT_EQ(a.to_boot, 5u);
  l.received(held(2, 6, 6), at(3));
  a = send(l, 2, 100, at(3));
  EXPECT_EQ(a.base, Offset(6));
  EXPECT_EQ(a.runs, (std::vector<EpochStart>{{Epoch(3), Offset(6)}}));
  EXPECT_EQ(a.end, Offset(10));
}

TEST(Leading, holders_have_joined_and_hold_everything_below_the_start) {
  Leading l = leader();
  EXPECT_EQ(l.holders(), 0u);
  l.stable(Offset(10));
  l.joined();
  EXPECT_EQ(l.holders(), 1u);
  AppendReply r = held(2, 10, 10);
  r.joined = Epoch(3);
  l.received(r, at(1));
  EXPECT_EQ(l.holders(), 1u);
  l.received(held(2, 10, 9), at(1));
  l.received(held(3, 9, 9), at(1));
  EXPECT_EQ(l.holders(), 2u) << "node 2 was stable up to 10 before";
}

TEST(Leading, records_go_out_before_the_answers_come_within_bounds) {
  Leading::Options options;
  Leading l = active();
  l.appended(Offset(1000), at(1));
  std::size_t sent = 0;
  while (true) {
    const auto next = l.next(NodeId(2), at(1));
    if (!next) break;
    ASSERT_GT(next->max_bytes, 0u);
    ASSERT_LE(next->max_bytes, options.request_bytes);
    (void)send(l, 2, 1, at(1));
    ASSERT_LE(++sent, options.window_requests);
  }
  EXPECT_EQ(sent, options.window_requests);
  l.received(held(2, 12, 12), at(2));
  EXPECT_EQ(send(l, 2, 1, at(2)).base, Offset(74));

  Leading big = active();
  big.appended(Offset(1000), at(1));
  std::uint64_t bytes = 0;
  for (auto next = big.next(NodeId(2), at(1)); next; next = big.next(NodeId(2), at(1))) {
    Append a = next->message;
    a.end = Offset(a.base.value + 1);
    a.runs = big.log().runs(a.base, a.end);
    big.sent(NodeId(2), a, next->max_bytes, at(1));
    bytes += next->max_bytes;
  }
  EXPECT_EQ(bytes, options.window_bytes);
}

TEST(Leading, what_was_lost_is_sent_again_once) {
  Leading l = active();
  l.appended(Offset(14), at(1));
  for (std::int64_t i = 10; i < 14; ++i) EXPECT_EQ(send(l, 2, 1, at(1)).base, Offset(i));
  AppendReply gap = held(2, 11, 11);
  gap.kind = Kind::kGap;
  l.received(gap, at(2));
  EXPECT_EQ(send(l, 2, 10, at(2)).base, Offset(11));
  l.received(gap, at(3));
  const auto next = l.next(NodeId(2), at(3));
  EXPECT_TRUE(!next || next->max_bytes == 0) << "each message behind the lost one is refused";
  l.lost(NodeId(2), at(3));
  EXPECT_EQ(send(l, 2, 10, at(13)).base, Offset(11)) << "said to be lost";
  EXPECT_EQ(send(l, 2, 10, at(10'100)).base, Offset(11)) << "nobody says so";
}

TEST(Leading, who_refuses_is_not_asked_again_at_once) {
  Leading l = active();
  (void)l.ask();
  std::int64_t now = 0;
  for (const std::int64_t pause : {10, 20, 40, 80, 160, 320, 500, 500}) {
    (void)send(l, 2, 0, at(now));
    l.lost(NodeId(2), at(now));
    EXPECT_FALSE(l.next(NodeId(2), at(now + pause - 1)));
    EXPECT_EQ(l.wake_at(NodeId(2)), at(now + pause));
    now += pause;
  }
  l.appended(Offset(12), at(now));
  (void)send(l, 2, 0, at(now));
  l.lost(NodeId(2), at(now));
  EXPECT_FALSE(l.next(NodeId(2), at(now + 1))) << "nor sent records";
  l.received(held(2, 10, 10), at(now + 2));
  EXPECT_TRUE(l.next(NodeId(2), at(now + 2))) << "it is back";
}

TEST(Leading, one_message_at_a_time_goes_to_who_does_not_answer) {
  Leading l = active();
  l.appended(Offset(1000), at(1));
  for (int i = 0; i < 64; ++i) (void)send(l, 2, 1, at(1));
  EXPECT_FALSE(l.next(NodeId(2), at(2)));
  EXPECT_EQ(send(l, 2, 1, at(10'100)).base, Offset(10));
  const auto second = l.next(NodeId(2), at(10'101));
  EXPECT_TRUE(!second || second->max_bytes == 0);
  l.received(held(2, 11, 11), at(10'102));
  EXPECT_EQ(send(l, 2, 1, at(10'102)).base, Offset(11));
  EXPECT_EQ(send(l, 2, 1, at(10'102)).base, Offset(12));
}

TEST(Leading, a_link_that_comes_back_goes_on_where_the_follower_was) {
  Leading l = active();
  l.appended(Offset(14), at(1));
  (void)send(l, 2, 2, at(1));
  l.received(held(2, 11, 11), at(2));
  l.link_down(NodeId(2));
  EXPECT_FALSE(l.next(NodeId(2), at(1'000)));
  l.link_up(NodeId(2), at(1'001));
  EXPECT_EQ(send(l, 2, 10, at(1'001)).base, Offset(11));
}

TEST(Leading, accepts_nothing_without_w_replicas_within_a_lease) {
  Leading l = active();
  EXPECT_TRUE(l.may_accept(at(999)));
  EXPECT_FALSE(l.may_accept(at(1'000)));
  l.received(held(3, 10, 10), at(1'500));
  EXPECT_TRUE(l.may_accept(at(2'000)));
  Leading all = active(3);
  all.received(held(3, 10, 10), at(1'500));
  EXPECT_FALSE(all.may_accept(at(1'500)));
  AppendReply started = apart(3, 3, 10);
  started.from.boot = 9;
  l.received(started, at(2'000));
  EXPECT_FALSE(l.may_accept(at(2'001))) << "heard of, but not known to be contiguous";
}

TEST(Leading, of_a_partition_that_was_just_made_it_accepts_before_the_others_have_heard) {
  Leading l({Epoch(1), Offset(0), {disk(1), disk(2), disk(3)}, 2, {disk(1), 7}, {}}, History(), {},
            at(0));
  EXPECT_FALSE(l.may_accept(at(1)));
  l.activated(at(100));
  EXPECT_TRUE(l.may_accept(at(101)));
  EXPECT_TRUE(l.may_accept(at(1'099)));
  EXPECT_FALSE(l.may_accept(at(1'100)));
  // And asks again soon, for they are about to hear.
  Instant now = at(100);
  int asked = 0;
  for (; now < at(200); now = l.wake_at(NodeId(2)), ++asked) (void)send(l, 2, 10, now);
  EXPECT_GE(asked, 4);
  now = at(60'000);
  (void)send(l, 2, 10, now);
  EXPECT_LE(l.wake_at(NodeId(2)) - now, Duration(std::chrono::milliseconds(500)));
}

TEST(Leading, a_link_that_is_up_speaks_for_a_follower_that_answers_now_and_then) {
  Leading l = active();
  EXPECT_TRUE(l.may_accept(at(900)));
  EXPECT_FALSE(l.may_accept(at(1'100)));
  l.link_heard(NodeId(2), at(1'000));
  EXPECT_TRUE(l.may_accept(at(1'100)));
  EXPECT_FALSE(l.may_accept(at(2'100))) << "nothing is heard of it any more";
  l.link_heard(NodeId(2), at(9'900));
  EXPECT_TRUE(l.may_accept(at(9'950)));
  l.link_heard(NodeId(2), at(10'100));
  EXPECT_FALSE(l.may_accept(at(10'150))) << "two heartbeats are unanswered";
  l.received(held(2, 10, 10), at(10'200));
  EXPECT_TRUE(l.may_accept(at(10'250)));
  l.link_down(NodeId(2));
  l.link_heard(NodeId(2), at(11'300));
  EXPECT_FALSE(l.may_accept(at(11'350)));
}

TEST(Leading, who_has_all_there_is_hears_of_it_in_heartbeats_only) {
  Leading l = active();
  (void)send(l, 2, 10, at(0));
  (void)send(l, 3, 10, at(0));
  for (const std::int32_t node : {2, 3}) {
    EXPECT_FALSE(l.next(NodeId(node), at(60'000)));
    EXPECT_EQ(l.wake_at(NodeId(node)), Instant::never());
  }
  const auto all = l.heartbeats();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].first, NodeId(2));
  const Append& said = all[0].second;
  EXPECT_EQ(std::pair(said.base, said.end), std::pair(Offset(10), Offset(10)));
  EXPECT_EQ(std::pair(said.previous, said.high_watermark), std::pair(Epoch(3), Offset(10)));
  EXPECT_EQ(said.to_boot, 5u);
  EXPECT_TRUE(said.active);
  // Records that are on their way speak for themselves, and who is gone is not spoken to.
  l.appended(Offset(12), at(1));
  (void)send(l, 2, 10, at(1));
  l.link_down(NodeId(3));
  EXPECT_TRUE(l.heartbeats().empty());
  EXPECT_EQ(l.wake_at(NodeId(2)), at(5'001)) << "it is asked, if it says nothing";
}

TEST(Leading, an_answer_that_says_the_same_again_counts_as_heard_and_no_other_does) {
  Leading l = active();
  l.link_heard(NodeId(2), at(9'500));
  EXPECT_TRUE(l.heard_again(held(2, 10, 10), at(9'500)));
  EXPECT_TRUE(l.may_accept(at(9'600)));
  AppendReply other = held(2, 10, 10);
  other.from.boot = 6;
  EXPECT_FALSE(l.heard_again(other, at(9'600))) << "another life";
  other = held(2, 10, 10);
  other.epoch = Epoch(5);
  EXPECT_FALSE(l.heard_again(other, at(9'600)));
  other.kind = Kind::kFenced;
  EXPECT_FALSE(l.heard_again(other, at(9'600)));
  EXPECT_FALSE(l.heard_again(apart(2, 3, 10), at(9'600)));
  l.appended(Offset(12), at(9'700));
  EXPECT_FALSE(l.heard_again(held(2, 12, 11), at(9'700))) << "that moves something";
}

TEST(Leading, over_a_new_link_a_follower_is_asked_at_once) {
  Leading l = active();
  (void)send(l, 2, 10, at(0));
  EXPECT_FALSE(l.next(NodeId(2), at(1)));
  l.link_down(NodeId(2));
  EXPECT_FALSE(l.next(NodeId(2), at(2)));
  l.link_up(NodeId(2), at(3));
  EXPECT_EQ(send(l, 2, 10, at(3)).base, Offset(10)) << "it may be another life";
  EXPECT_FALSE(l.next(NodeId(2), at(4)));
}

TEST(Leading, stops_when_it_is_fenced) {
  Leading l = active();
  l.appended(Offset(12), at(1));
  l.stable(Offset(12));
  AppendReply r = held(2, 12, 12);
  r.kind = Kind::kFenced;
  r.epoch = Epoch(4);
  l.received(r, at(1));
  EXPECT_FALSE(l.fenced()) << "that is its own";
  r.epoch = Epoch(6);
  l.received(r, at(1));
  EXPECT_EQ(l.fenced(), Epoch(6));
  EXPECT_FALSE(l.may_accept(at(1)));
  EXPECT_FALSE(l.next(NodeId(3), at(1)));
  l.received(held(3, 12, 12), at(1));
  EXPECT_EQ(l.high_watermark(), Offset(10));
}

TEST(Leading, tells_the_high_watermark_when_it_moves) {
  Leading l = active();
  l.appended(Offset(12), at(1));
  l.stable(Offset(12));
  (void)send(l, 2, 10, at(1));
  l.received(held(2, 12, 12), at(2));
  const Append a = send(l, 2, 10, at(2));
  EXPECT_EQ(a.base, a.end);
  EXPECT_EQ(a.high_watermark, Offset(12));
  EXPECT_FALSE(l.next(NodeId(2), at(3)));
  EXPECT_EQ(l.wake_at(NodeId(2)), Instant::never());
  EXPECT_FALSE(l.next(NodeId(2), at(60'000))) << "what is periodic goes with the heartbeats";
}

TEST(Leading, who_lags_too_long_is_not_in_sync) {
  Leading l = active();
  EXPECT_EQ(l.in_sync(at(1)), (std::vector<NodeId>{NodeId(1), NodeId(2), NodeId(3)}));
  l.appended(Offset(12), at(1'000));
  l.received(held(2, 12, 12), at(1'100));
  l.received(held(2, 12, 12), at(31'050));
  l.received(held(3, 11, 11), at(31'050));
  EXPECT_EQ(l.in_sync(at(31'060)), (std::vector<NodeId>{NodeId(1), NodeId(2)}));
}

TEST(Leading, an_answer_that_cannot_be_is_ignored) {
  Leading l = active();
  l.appended(Offset(12), at(1));
  l.stable(Offset(12));
  l.received(held(2, 13, 13), at(1));
  l.received(held(2, 11, 12), at(1));
  EXPECT_EQ(l.high_watermark(), Offset(10));
  AppendReply other = held(2, 12, 12);
  other.epoch = Epoch(3);
  l.received(other, at(1));
  EXPECT_EQ(l.high_watermark(), Offset(10));
  l.received(held(9, 12, 12), at(1));
  EXPECT_EQ(l.high_watermark(), Offset(10));
}

TEST(Leading, leads_still_once_w_replicas_have_answered_what_was_asked_since) {
  Leading l = active();
  send(l, 2, 0, at(0));
  send(l, 3, 0, at(0));
  ASSERT_FALSE(l.next(NodeId(2), at(10))) << "all is said";
  l.answered(disk(2), l.asked());
  const std::uint64_t asked = l.ask();
  EXPECT_LT(l.confirmed(), asked) << "that answer is of before";
  EXPECT_EQ(send(l, 2, 0, at(11)).end, Offset(10));
  EXPECT_FALSE(l.next(NodeId(2), at(12))) << "one question at a time";
  EXPECT_TRUE(l.next(NodeId(2), at(1'011))) << "no answer has come";
  l.answered(disk(2, 1), asked);
  EXPECT_LT(l.confirmed(), asked) << "another disk under its name";
  l.answered(disk(2), asked);
  EXPECT_EQ(l.confirmed(), asked);
  EXPECT_FALSE(l.next(NodeId(2), at(13)));
}

TEST(Leading, all_of_three_have_to_say_so_if_w_is_three) {
  Leading l = active(3);
  const std::uint64_t asked = l.ask();
  l.answered(disk(3), asked);
  EXPECT_LT(l.confirmed(), asked);
  l.answered(disk(2), asked);
  EXPECT_EQ(l.confirmed(), asked);
}

TEST(Leading, a_question_goes_before_records_that_are_answered_late) {
  Leading l = active();
  send(l, 2, 0, at(0));
  l.appended(Offset(12), at(1));
  const std::uint64_t asked = l.ask();
  EXPECT_EQ(send(l, 2, 9, at(1)).end, Offset(10));
  EXPECT_EQ(send(l, 2, 9, at(1)).end, Offset(12));
  l.answered(disk(2), asked);
  EXPECT_EQ(l.confirmed(), asked);
}

TEST(Leading, asks_soon_for_what_has_arrived_and_was_not_said_to_be_stable) {
  Leading l = active();
  send(l, 2, 0, at(0));
  l.appended(Offset(12), at(1));
  send(l, 2, 9, at(1));
  l.received(held(2, 12, 10), at(2));
  EXPECT_FALSE(l.next(NodeId(2), at(3)));
  EXPECT_EQ(l.wake_at(NodeId(2)), at(502));
  EXPECT_EQ(send(l, 2, 0, at(502)).base, Offset(12));
  EXPECT_EQ(l.wake_at(NodeId(2)), at(5'502)) << "unless it answers";
  l.received(held(2, 12, 11), at(600));
  EXPECT_EQ(l.wake_at(NodeId(2)), at(1'100));
  l.received(held(2, 12, 12), at(601));
  EXPECT_EQ(l.wake_at(NodeId(2)), Instant::never());
}

TEST(Leading, a_question_that_is_lost_is_asked_again_though_records_flow) {
  Leading l = active();
  send(l, 2, 0, at(0));
  const std::uint64_t asked = l.ask();
  send(l, 2, 9, at(1));
  l.appended(Offset(12), at(2));
  EXPECT_EQ(send(l, 2, 9, at(900)).end, Offset(12));
  EXPECT_EQ(send(l, 2, 9, at(1'001)).base, Offset(12)) << "no answer has come for a lease";
  l.link_down(NodeId(2));
  l.link_up(NodeId(2), at(1'100));
  EXPECT_EQ(send(l, 2, 9, at(1'100)).end, Offset(10)) << "it went with the connection";
  l.answered(disk(2), asked);
  EXPECT_EQ(l.confirmed(), asked);
}

}  // namespace
}  // namespace pyralog::replica
