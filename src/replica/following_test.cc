#include "replica/following.h"

#include <gtest/gtest.h>

namespace pyralog::replica {
namespace {

using Kind = AppendReply::Kind;

constexpr NodeId kLeader(1);
constexpr std::uint64_t kBoot = 5;

EpochStart run(std::uint32_t epoch, std::int64_t start) {
  return {Epoch(epoch), Offset(start)};
}
History log(std::int64_t start, std::int64_t end, std::vector<EpochStart> runs) {
  return History::make(Offset(start), Offset(end), std::move(runs)).value();
}
Following::Opened opened(History log, Promise promise) {
  Uuid disk;
  disk.bytes[0] = 2;
  const Offset end = log.end();
  return {{{NodeId(2), disk}, kBoot}, promise, std::move(log), end, false};
}
/// A replica with records 0 to 10 of epoch 3, which it has joined.
Following replica(Promise promise = {Epoch(3), Epoch(3), Epoch(0), false}) {
  return Following(opened(log(0, 10, {run(3, 0)}), promise));
}
Append message(std::uint32_t epoch, std::int64_t start, std::uint32_t previous, std::int64_t base) {
  Append a;
  a.epoch = Epoch(epoch);
  a.start = Offset(start);
  a.leader = kLeader;
  a.to_boot = kBoot;
  a.previous = Epoch(previous);
  a.base = a.end = Offset(base);
  a.active = true;
  return a;
}
Append records(std::uint32_t epoch, std::int64_t start, std::uint32_t previous, std::int64_t base,
               std::int64_t end) {
  Append a = message(epoch, start, previous, base);
  a.end = Offset(end);
  a.runs = {run(epoch, base)};
  return a;
}
/// Takes part in `epoch`, which began at `start`, where its log is whole.
void agree(Following& f, std::uint32_t epoch, std::int64_t start) {
  auto out = f.append(message(epoch, start, f.log().last().value, f.log().end().value));
  if (out.store) out = f.stored(*out.store);
  out = f.append(message(epoch, start, f.log().last().value, f.log().end().value));
  if (out.store) (void)f.stored(*out.store);
  ASSERT_EQ(f.agreed(), Epoch(epoch));
}

TEST(Following, a_promise_is_answered_once_it_and_the_log_are_durable) {
  Following f = replica();
  agree(f, 4, 10);
  ASSERT_TRUE(f.append(records(4, 10, 3, 10, 12)).take);
  auto out = f.seal({Epoch(6), NodeId(3)});
  ASSERT_TRUE(out.store);
  EXPECT_EQ(out.store->promised, Epoch(6));
  EXPECT_TRUE(out.sync);
  EXPECT_FALSE(out.sealed);
  const Promise promise = *out.store;
  EXPECT_FALSE(f.stable(Offset(12)).sealed) << "a crash would forget the promise";
  out = f.stored(promise);
  ASSERT_TRUE(out.sealed);
  EXPECT_EQ(out.sealed_to, NodeId(3));
  EXPECT_EQ(out.sealed->log, log(0, 12, {run(3, 0), run(4, 10)}));
  EXPECT_EQ(out.sealed->last_epoch, Epoch(4));
  EXPECT_EQ(out.sealed->promised, Epoch(6));

  Following other = replica();
  agree(other, 4, 10);
  ASSERT_TRUE(other.append(records(4, 10, 3, 10, 12)).take);
  out = other.seal({Epoch(6), NodeId(3)});
  EXPECT_FALSE(other.stored(*out.store).sealed) << "a power loss would take the log's end";
  EXPECT_TRUE(other.stable(Offset(12)).sealed);
}

TEST(Following, fences_what_is_below_a_promise) {
  Following f = replica();
  auto out = f.seal({Epoch(6), NodeId(3)});
  EXPECT_FALSE(f.append(records(3, 0, 3, 10, 12)).take) << "not even before it is durable";
  (void)f.stored(*out.store);
  out = f.append(records(3, 0, 3, 10, 12));
  ASSERT_TRUE(out.reply);
  EXPECT_EQ(out.reply->kind, Kind::kFenced);
  EXPECT_EQ(out.reply->epoch, Epoch(6));
  EXPECT_FALSE(out.take);
  out = f.seal({Epoch(5), NodeId(1)});
  ASSERT_TRUE(out.sealed);
  EXPECT_EQ(out.sealed->promised, Epoch(6));
  EXPECT_FALSE(out.store);
  EXPECT_TRUE(f.seal({Epoch(6), NodeId(3)}).sealed) << "asked again, it answers again";
}

TEST(Following, a_newer_leader_is_a_promise_too) {
  Following f = replica();
  auto out = f.append(records(5, 10, 3, 10, 12));
  ASSERT_TRUE(out.store);
  EXPECT_FALSE(out.take);
  EXPECT_FALSE(out.reply);
  out = f.stored(*out.store);
  ASSERT_TRUE(out.reply);
  EXPECT_EQ(out.reply->kind, Kind::kApart);
  EXPECT_EQ(out.reply->tail, (EpochTail{Epoch(3), Offset(10)}));
  EXPECT_EQ(f.append(records(4, 10, 3, 10, 12)).reply->kind, Kind::kFenced);
}

TEST(Following, appends_at_its_own_end_only_and_says_where_that_is) {
  Following f = replica();
  agree(f, 4, 10);
  EXPECT_TRUE(f.append(records(4, 10, 3, 10, 12)).take);
  auto out = f.append(records(4, 10, 4, 13, 15));
  EXPECT_FALSE(out.take);
  EXPECT_EQ(out.reply->kind, Kind::kGap);
  EXPECT_EQ(out.reply->log_end, Offset(12));
  out = f.append(records(4, 10, 3, 10, 12));
  EXPECT_FALSE(out.take) << "the same once more";
  EXPECT_EQ(out.reply->kind, Kind::kHeld);
  out = f.append(records(4, 10, 4, 11, 14));
  EXPECT_FALSE(out.take);
  EXPECT_EQ(out.reply->kind, Kind::kGap);
  EXPECT_TRUE(f.append(records(4, 10, 4, 12, 14)).take);
  out = f.stable(Offset(13));
  ASSERT_TRUE(out.reply) << "again when the stable end moves";
  EXPECT_EQ(out.reply->log_end, Offset(14));
  EXPECT_EQ(out.reply->stable_end, Offset(13));
}

TEST(Following, cuts_where_the_epochs_part_before_it_takes_anything) {
  // The leader: epoch 2 to 5, then 4. Here: epoch 2 to 5, then 3 to 10.
  Following f(opened(log(0, 10, {run(2, 0), run(3, 5)}), {Epoch(5), Epoch(3), Epoch(0), false}));
  auto out = f.append(message(5, 8, 4, 8));
  ASSERT_TRUE(out.reply);
  EXPECT_EQ(out.reply->kind, Kind::kApart) << "what it has at 8 is of another epoch";
  EXPECT_EQ(out.reply->tail, (EpochTail{Epoch(3), Offset(7)}));
  EXPECT_FALSE(out.cut);
  out = f.append(message(5, 8, 2, 5));
  ASSERT_TRUE(out.cut);
  EXPECT_EQ(*out.cut, (Following::Cut{Offset(5), false}));
  EXPECT_FALSE(out.reply);
  EXPECT_FALSE(f.append(records(5, 8, 2, 5, 8)).take) << "the cut is not durable yet";
  out = f.cut_done();
  ASSERT_TRUE(out.reply);
  EXPECT_EQ(out.reply->kind, Kind::kHeld);
  EXPECT_EQ(out.reply->log_end, Offset(5));
  Append rest = message(5, 8, 2, 5);
  rest.end = Offset(8);
  rest.runs = {run(4, 5)};
  out = f.append(rest);
  EXPECT_TRUE(out.take);
  EXPECT_FALSE(out.store) << "joined when it is stable";
  out = f.stable(Offset(8));
  ASSERT_TRUE(out.store);
  EXPECT_EQ(out.store->joined, Epoch(5));
  EXPECT_EQ(f.stored(*out.store).reply->joined, Epoch(5));
}

TEST(Following, once_it_agrees_nothing_old_cuts_it) {
  Following f = replica();
  agree(f, 4, 10);
  (void)f.append(records(4, 10, 3, 10, 15));
  EXPECT_FALSE(f.append(message(4, 10, 3, 10)).cut) << "the question came a second time";
  // After a start the same question must not cut what the life before has acknowledged.
  Following::Opened again = opened(f.log(), {Epoch(4), Epoch(4), Epoch(0), false});
  again.self.boot = kBoot + 1;
  Following next(again);
  auto out = next.append(message(4, 10, 3, 10));
  EXPECT_FALSE(out.cut);
  EXPECT_EQ(out.reply->kind, Kind::kApart);
  EXPECT_EQ(out.reply->tail, (EpochTail{Epoch(4), Offset(15)}));
}

TEST(Following, never_cuts_what_it_knows_to_be_committed) {
  Following f = replica();
  agree(f, 4, 10);
  Append told = records(4, 10, 3, 10, 12);
  told.high_watermark = Offset(20);
  (void)f.append(told);
  EXPECT_EQ(f.high_watermark(), Offset(12)) << "never above its own end";
  auto out = f.append(message(6, 11, 4, 11));
  out = f.stored(*out.store);
  out = f.append(message(6, 11, 4, 11));
  EXPECT_FALSE(out.cut);
  ASSERT_TRUE(f.broken());
  EXPECT_EQ(f.broken()->code, Code::kFenced);
  EXPECT_FALSE(f.seal({Epoch(9), NodeId(3)}).sealed);
  // Epoch 5, which this replica has not heard of, began uncleanly.
  Append unclean = message(6, 11, 4, 11);
  unclean.lossy = Epoch(5);
  Following other = replica();
  agree(other, 4, 10);
  (void)other.append(told);
  out = other.append(unclean);
  (void)other.stored(*out.store);
  EXPECT_TRUE(other.append(unclean).cut) << "that it may be lost was decided";
}

TEST(Following, a_leader_whose_log_changes_under_it_is_not_followed) {
  Following f = replica();
  agree(f, 4, 10);
  EXPECT_FALSE(f.append(records(4, 10, 2, 10, 12)).take);
  ASSERT_TRUE(f.broken());
  EXPECT_EQ(f.broken()->code, Code::kCorrupt);
}

TEST(Following, begins_anew_where_the_leaders_log_begins) {
  Following f = replica();
  auto out = f.append(message(4, 60, 0, 50));
  (void)f.stored(*out.store);
  Append behind = message(4, 60, 0, 50);
  behind.log_start = Offset(50);
  out = f.append(behind);
  ASSERT_TRUE(out.cut);
  EXPECT_EQ(*out.cut, (Following::Cut{Offset(50), true}));
  out = f.cut_done();
  EXPECT_EQ(out.reply->log_end, Offset(50));
  EXPECT_EQ(out.reply->joined, Epoch(3)) << "it lacks what is below the epoch's start";
}

TEST(Following, records_go_where_they_went_at_the_leader) {
  Following f = replica();
  agree(f, 4, 10);
  Append told = message(4, 10, 3, 10);
  told.log_start = Offset(7);
  told.high_watermark = Offset(6);
  EXPECT_EQ(f.append(told).trim, Offset(6)) << "only what it knows to be committed";
  EXPECT_EQ(f.log().start(), Offset(6));
}

TEST(Following, a_doubt_is_over_when_it_has_all_that_is_committed_again) {
  Following::Opened found = opened(log(0, 10, {run(3, 0)}), {Epoch(3), Epoch(3), Epoch(0), false});
  found.in_doubt = true;
  Following f(found);
  auto out = f.start();
  ASSERT_TRUE(out.store);
  EXPECT_TRUE(out.store->in_doubt);
  (void)f.stored(*out.store);
  Append told = records(3, 0, 3, 10, 12);
  told.high_watermark = Offset(14);
  EXPECT_TRUE(f.append(told).take);
  EXPECT_FALSE(f.stable(Offset(12)).store);
  told = records(3, 0, 3, 12, 14);
  told.high_watermark = Offset(15);
  EXPECT_TRUE(f.append(told).take);
  EXPECT_FALSE(f.stable(Offset(14)).store);
  EXPECT_TRUE(f.append(records(3, 0, 3, 14, 15)).take);
  out = f.stable(Offset(15));
  ASSERT_TRUE(out.store);
  EXPECT_FALSE(out.store->in_doubt);
}

TEST(Following, an_unclean_recovery_that_fails_leaves_a_doubt) {
  Following f = replica();
  Append push = message(5, 8, 3, 8);
  push.active = false;
  push.lossy = Epoch(5);
  auto out = f.append(push);
  (void)f.stored(*out.store);
  ASSERT_TRUE(f.append(push).cut);
  out = f.cut_done();
  ASSERT_TRUE(out.store);
  EXPECT_EQ(out.store->joined, Epoch(5));
  EXPECT_TRUE(out.store->in_doubt) << "it lacks what it acknowledged in epoch 3, which may go on";
  (void)f.stored(*out.store);
  Append active = message(5, 8, 3, 8);
  active.lossy = Epoch(5);
  active.high_watermark = Offset(8);
  out = f.append(active);
  ASSERT_TRUE(out.store);
  EXPECT_FALSE(out.store->in_doubt);
}

TEST(Following, is_read_only_by_whom_it_was_sealed_for) {
  Following f = replica();
  auto out = f.seal({Epoch(6), NodeId(3)});
  (void)f.stored(*out.store);
  EXPECT_TRUE(f.may_read({Epoch(6), Offset(2), Offset(10), 100}));
  EXPECT_EQ(f.may_read({Epoch(5), Offset(2), Offset(10), 100}).error().code, Code::kFenced);
  EXPECT_EQ(f.may_read({Epoch(6), Offset(2), Offset(11), 100}).error().code, Code::kOutOfRange);
  EXPECT_EQ(f.may_read({Epoch(6), Offset(5), Offset(4), 100}).error().code, Code::kOutOfRange);
}

TEST(Following, a_message_that_makes_no_sense_has_no_effect) {
  Following f = replica();
  agree(f, 4, 10);
  const auto ignored = [&](const Append& a) {
    const auto out = f.append(a);
    return !out.reply && !out.store && !out.cut && !out.take;
  };
  Append a = records(4, 10, 3, 10, 12);
  a.end = Offset(9);
  EXPECT_TRUE(ignored(a));
  a = records(4, 10, 3, 10, 12);
  a.runs.clear();
  EXPECT_TRUE(ignored(a));
  a = records(4, 10, 3, 10, 12);
  a.runs = {run(5, 10)};
  EXPECT_TRUE(ignored(a)) << "records of an epoch to come";
  a.runs = {run(3, 10)};
  EXPECT_TRUE(ignored(a)) << "records of the epoch before, after its end";
  a.runs = {run(4, 10), run(4, 11)};
  EXPECT_TRUE(ignored(a));
  a.runs = {run(4, 10), run(3, 11)};
  EXPECT_TRUE(ignored(a));
  a = message(4, 10, 3, -1);
  EXPECT_TRUE(ignored(a));
  a = message(4, 10, 5, 10);
  EXPECT_TRUE(ignored(a));
  a = message(2147483648u, 10, 3, 10);
  EXPECT_TRUE(ignored(a)) << "nobody could ever lead again";
  EXPECT_FALSE(f.seal({Epoch(2147483648u), NodeId(3)}).store);
  a = message(0, 10, 0, 10);
  EXPECT_TRUE(ignored(a));
  a = message(4, 10, 3, 10);
  a.log_start = Offset(11);
  EXPECT_TRUE(ignored(a));
  a = message(4, 10, 3, 10);
  a.high_watermark = Offset(-1);
  EXPECT_TRUE(ignored(a));
}

}  // namespace
}  // namespace pyralog::replica
