#include "replica/recovery.h"

#include <gtest/gtest.h>

namespace pyralog::replica {
namespace {

using Phase = Recovery::Phase;

catalog::Replica disk(std::int32_t node, std::uint8_t made = 0) {
  Uuid id;
  id.bytes[0] = static_cast<std::uint8_t>(node);
  id.bytes[1] = made;
  return {NodeId(node), id};
}
Instant at(std::int64_t ms) {
  return Instant{ms * 1'000'000};
}
History log(std::int64_t end, std::vector<EpochStart> runs) {
  return History::make(Offset(0), Offset(end), std::move(runs)).value();
}
EpochStart run(std::uint32_t epoch, std::int64_t start) {
  return {Epoch(epoch), Offset(start)};
}

/// Epoch 4 of nodes 1, 2, 3 began at 10; node 1 has proposed epoch 6.
catalog::Partition partition(std::uint16_t w = 2) {
  catalog::Partition p;
  p.highest_proposed = Epoch(6);
  p.candidate = NodeId(1);
  p.current = catalog::EpochRecord{
      Epoch(4), Offset(10), std::nullopt, NodeId(3), {disk(1), disk(2), disk(3)}, w};
  p.epochs = {run(2, 0), run(3, 6), run(4, 10)};
  return p;
}
Recovery::Plan plan(bool unclean = false) {
  Recovery::Plan p;
  p.epoch = Epoch(6);
  p.self = {disk(1), 5};
  p.replicas = {disk(1), disk(2), disk(3)};
  p.write_quorum = 2;
  p.unclean = unclean;
  return p;
}
Recovery recovery(std::uint16_t w = 2, bool unclean = false) {
  return Recovery(plan(unclean), partition(w), {}, at(0));
}
SealAnswer answer(std::int32_t node, std::uint32_t last_epoch, History history) {
  return {Epoch(6), Epoch(6), {disk(node), 5}, Epoch(last_epoch), std::move(history), {},
          {},       false};
}
/// What a log of epoch 4 up to `end` looks like.
History whole(std::int64_t end) {
  return end > 10 ? log(end, {run(2, 0), run(3, 6), run(4, 10)}) : log(end, {run(2, 0), run(3, 6)});
}
AppendReply held(std::int32_t node, std::int64_t end, std::uint32_t joined) {
  AppendReply r;
  r.epoch = Epoch(6);
  r.from = {disk(node), 5};
  r.log_end = r.stable_end = Offset(end);
  r.joined = Epoch(joined);
  return r;
}
/// Sealed by nodes 1 and 2, both up to 20, and on this node everything is in its place.
Recovery holding() {
  Recovery r = recovery();
  (void)r.answered(answer(1, 4, whole(20)), at(1));
  (void)r.answered(answer(2, 4, whole(20)), at(1));
  (void)r.offered(held(1, 20, 6), at(2));
  return r;
}

TEST(Recovery, asks_again_until_enough_of_the_epochs_replicas_have_answered) {
  Recovery r = recovery();
  EXPECT_EQ(r.tick(at(0)).seal, (std::vector<NodeId>{NodeId(1), NodeId(2), NodeId(3)}));
  EXPECT_TRUE(r.tick(at(1)).seal.empty());
  EXPECT_FALSE(r.answered(answer(1, 4, whole(20)), at(1)).offer);
  EXPECT_EQ(r.tick(at(300)).seal, (std::vector<NodeId>{NodeId(2), NodeId(3)}));
  EXPECT_EQ(r.missing(), (std::vector<catalog::Replica>{disk(2), disk(3)}));
  EXPECT_NE(r.why().find("missing: node 2, 3"), std::string::npos) << r.why();
  EXPECT_EQ(r.phase(), Phase::kSealing);
  EXPECT_TRUE(r.answered(answer(3, 4, whole(12)), at(301)).offer);
  EXPECT_EQ(r.phase(), Phase::kCopying);
  EXPECT_EQ(r.start(), Offset(20));
}

TEST(Recovery, asks_as_many_as_the_write_quorum_leaves) {
  Recovery one = recovery(3);
  EXPECT_TRUE(one.answered(answer(1, 4, whole(20)), at(1)).offer) << "every replica has it all";
  Recovery all = recovery(1);
  (void)all.answered(answer(1, 4, whole(20)), at(1));
  EXPECT_FALSE(all.answered(answer(2, 4, whole(20)), at(1)).offer);
  EXPECT_TRUE(all.answered(answer(3, 4, whole(20)), at(1)).offer);
}

TEST(Recovery, an_answer_counts_only_from_the_disk_in_the_epochs_record) {
  Recovery r = recovery();
  (void)r.answered(answer(1, 4, whole(15)), at(1));
  SealAnswer wiped = answer(2, 0, History());
  wiped.from.disk = disk(2, 1);
  EXPECT_FALSE(r.answered(wiped, at(1)).offer);
  EXPECT_NE(r.why().find("2 (on another disk)"), std::string::npos) << r.why();
  EXPECT_FALSE(r.answered(answer(4, 4, whole(30)), at(1)).offer) << "none of its replicas";
  EXPECT_TRUE(r.answered(answer(3, 4, whole(18)), at(1)).offer);
  EXPECT_EQ(r.start(), Offset(18));
}

TEST(Recovery, goes_on_from_the_newest_epoch_and_then_the_longest_log) {
  Recovery r = recovery();
  (void)r.answered(answer(1, 3, log(30, {run(2, 0), run(3, 6)})), at(1));
  const auto out = r.answered(answer(2, 4, whole(12)), at(1));
  EXPECT_EQ(r.start(), Offset(12)) << "what epoch 3 has above 10 is void";
  ASSERT_TRUE(out.offer);
  EXPECT_EQ(out.offer->base, Offset(10)) << "up to there the two are the same";
  EXPECT_EQ(out.offer->previous, Epoch(3));
  EXPECT_EQ(out.offer->end, Offset(10));
}

TEST(Recovery, none_that_holds_what_was_committed_is_not_enough) {
  Recovery r = recovery();
  (void)r.answered(answer(1, 3, whole(10)), at(1));
  EXPECT_FALSE(r.answered(answer(2, 3, whole(8)), at(1)).offer);
  EXPECT_EQ(r.phase(), Phase::kSealing);
  EXPECT_TRUE(r.answered(answer(3, 4, whole(11)), at(1)).offer);
}

TEST(Recovery, fetches_what_this_node_lacks_piece_by_piece) {
  Recovery r = recovery();
  (void)r.answered(answer(1, 4, whole(8)), at(1));
  auto out = r.answered(answer(2, 4, whole(12)), at(1));
  ASSERT_TRUE(out.offer);
  EXPECT_EQ(out.offer->base, Offset(8));
  out = r.offered(held(1, 8, 4), at(2));
  ASSERT_TRUE(out.read);
  EXPECT_EQ(out.read_from, NodeId(2));
  EXPECT_EQ(out.read->from, Offset(8));
  EXPECT_EQ(out.read->to, Offset(12));
  const ReadRange asked = *out.read;
  EXPECT_FALSE(r.range_read(asked, Offset(11), {run(3, 8)}, at(3)).offer) << "not what it has";
  EXPECT_FALSE(r.range_read(asked, Offset(13), {run(3, 8), run(4, 10)}, at(3)).offer);
  out = r.range_read(asked, Offset(11), {run(3, 8), run(4, 10)}, at(3));
  ASSERT_TRUE(out.offer);
  EXPECT_EQ(out.offer->end, Offset(11));
  out = r.offered(held(1, 11, 4), at(4));
  ASSERT_TRUE(out.read);
  EXPECT_EQ(out.read->from, Offset(11));
  EXPECT_FALSE(r.range_read(asked, Offset(11), {run(3, 8), run(4, 10)}, at(5)).offer) << "twice";
  (void)r.range_read(*out.read, Offset(12), {run(4, 11)}, at(5));
  (void)r.offered(held(1, 12, 4), at(6));
  EXPECT_EQ(r.phase(), Phase::kHolding);
  EXPECT_TRUE(r.copied());
}

TEST(Recovery, gives_up_when_the_source_gives_nothing) {
  Recovery r = recovery();
  (void)r.answered(answer(1, 4, whole(8)), at(1));
  (void)r.answered(answer(2, 4, whole(12)), at(1));
  (void)r.offered(held(1, 8, 4), at(2));
  int asked = 1;
  for (int i = 1; i < 100 && r.phase() == Phase::kCopying; ++i) {
    if (r.tick(at(2 + 1000 * i)).read) ++asked;
  }
  EXPECT_EQ(r.phase(), Phase::kAborted);
  EXPECT_EQ(asked, Recovery::Options{}.reads);
}

TEST(Recovery, asks_for_the_activation_once_w_new_replicas_hold_everything) {
  Recovery r = holding();
  EXPECT_EQ(r.phase(), Phase::kHolding) << "this node alone is not two";
  EXPECT_FALSE(r.received(held(3, 19, 4), at(3)).commit);
  EXPECT_FALSE(r.received(held(3, 20, 4), at(3)).commit) << "it would not say so after a crash";
  const auto out = r.received(held(3, 20, 6), at(3));
  ASSERT_TRUE(out.commit);
  EXPECT_EQ(out.commit->epoch, Epoch(6));
  EXPECT_EQ(out.commit->start, Offset(20));
  EXPECT_EQ(out.commit->leader, NodeId(1));
  EXPECT_EQ(out.commit->replicas, plan().replicas);
  EXPECT_EQ(out.commit->write_quorum, 2);
  EXPECT_FALSE(out.commit->unclean);
  EXPECT_FALSE(r.leading().active());
  EXPECT_TRUE(r.tick(at(1'500)).commit) << "the answer may have been lost";
}

TEST(Recovery, leads_when_the_catalogue_says_so_whatever_became_of_the_answers) {
  Recovery r = holding();
  (void)r.received(held(3, 20, 6), at(3));
  catalog::Partition now = partition();
  (void)r.catalog(now, at(4));
  EXPECT_EQ(r.phase(), Phase::kCommitting);
  now.current = catalog::EpochRecord{Epoch(6), Offset(20), {}, NodeId(1), plan().replicas, 2};
  (void)r.refused(now, Error{Code::kFenced, "was activated already", 0}, at(4));
  EXPECT_EQ(r.phase(), Phase::kActive) << "it was asked for twice";
  EXPECT_EQ(r.take_leading().high_watermark(), Offset(20));
}

TEST(Recovery, gives_way_to_a_higher_epoch) {
  catalog::Partition later = partition();
  later.highest_proposed = Epoch(7);
  later.candidate = NodeId(2);
  Recovery proposed = holding();
  (void)proposed.catalog(later, at(3));
  EXPECT_EQ(proposed.phase(), Phase::kAborted);
  EXPECT_FALSE(proposed.received(held(3, 20, 6), at(3)).commit);

  Recovery promised = recovery();
  SealAnswer fenced = answer(2, 4, whole(20));
  fenced.promised = Epoch(8);
  (void)promised.answered(fenced, at(1));
  EXPECT_EQ(promised.phase(), Phase::kAborted);
  EXPECT_NE(promised.why().find("promised epoch 8"), std::string::npos) << promised.why();

  Recovery refused = holding();
  (void)refused.received(held(3, 20, 6), at(3));
  (void)refused.refused(partition(), Error{Code::kFenced, "another disk", 0}, at(3));
  EXPECT_EQ(refused.phase(), Phase::kAborted);
  EXPECT_EQ(Recovery(plan(), later, {}, at(0)).phase(), Phase::kAborted);
}

TEST(Recovery, who_is_in_doubt_counts_only_when_all_have_answered) {
  Recovery r = recovery();
  SealAnswer one = answer(1, 4, whole(12));
  one.in_doubt = true;
  SealAnswer two = answer(2, 4, whole(15));
  two.in_doubt = true;
  two.high_watermark = Offset(17);
  (void)r.answered(one, at(1));
  EXPECT_FALSE(r.answered(two, at(1)).offer);
  EXPECT_NE(r.why().find("2 in doubt"), std::string::npos) << r.why();
  EXPECT_TRUE(r.answered(answer(3, 4, whole(11)), at(1)).offer);
  EXPECT_EQ(r.start(), Offset(15)) << "the greatest end there is";
  ASSERT_TRUE(r.loss());
  EXPECT_EQ(r.loss()->from, Offset(15));
  EXPECT_EQ(r.loss()->to, Offset(17));

  Recovery enough = recovery();
  (void)enough.answered(one, at(1));
  (void)enough.answered(answer(2, 4, whole(11)), at(1));
  EXPECT_TRUE(enough.answered(answer(3, 4, whole(11)), at(1)).offer);
  EXPECT_EQ(enough.start(), Offset(11));
  EXPECT_FALSE(enough.loss());
}

TEST(Recovery, does_not_begin_with_nothing_where_all_have_lost_their_logs_to_damage) {
  Recovery r = recovery();
  Recovery forced = recovery(2, true);
  for (const std::int32_t node : {1, 2, 3}) {
    SealAnswer emptied = answer(node, 4, whole(0));
    emptied.in_doubt = emptied.emptied = true;
    EXPECT_FALSE(r.answered(emptied, at(1)).offer) << node;
    (void)forced.answered(emptied, at(1));
  }
  EXPECT_FALSE(r.tick(at(3'600'000)).offer);
  EXPECT_NE(r.why().find("2 lost its log to damage"), std::string::npos) << r.why();
  EXPECT_TRUE(forced.tick(at(3'600'000)).offer) << "somebody has decided it";
  Recovery one_left = recovery();
  for (const std::int32_t node : {1, 2, 3}) {
    SealAnswer each = answer(node, 4, whole(node == 3 ? 12 : 0));
    each.in_doubt = each.emptied = node != 3;
    (void)one_left.answered(each, at(1));
  }
  EXPECT_EQ(one_left.start(), Offset(12));
  Recovery partly = recovery();
  for (const std::int32_t node : {1, 2, 3}) {
    SealAnswer each = answer(node, 4, whole(node == 3 ? 12 : 0));
    each.in_doubt = each.emptied = true;
    EXPECT_FALSE(partly.answered(each, at(1)).offer) << "what it has got back is not all";
  }
}

TEST(Recovery, from_what_there_is_takes_no_records_that_were_never_committed) {
  Recovery r = recovery();
  SealAnswer stale = answer(1, 4, log(30, {run(2, 0), run(3, 6)}));
  stale.in_doubt = true;
  (void)r.answered(stale, at(1));
  SealAnswer two = answer(2, 4, whole(9));
  two.in_doubt = true;
  (void)r.answered(two, at(1));
  SealAnswer three = answer(3, 4, whole(7));
  three.in_doubt = true;
  (void)r.answered(three, at(1));
  EXPECT_EQ(r.start(), Offset(10)) << "above 10 the log is epoch 4's";
}

TEST(Recovery, an_unclean_one_waits_a_while_and_says_what_may_be_lost) {
  Recovery clean = recovery();
  (void)clean.answered(answer(1, 3, whole(9)), at(1));
  EXPECT_FALSE(clean.tick(at(3'600'000)).offer);
  Recovery r = recovery(2, true);
  (void)r.answered(answer(1, 3, whole(9)), at(1));
  EXPECT_FALSE(r.tick(at(4'999)).offer);
  const auto out = r.tick(at(5'000));
  ASSERT_TRUE(out.offer);
  EXPECT_EQ(out.offer->lossy, Epoch(6));
  EXPECT_EQ(r.start(), Offset(9));
  ASSERT_TRUE(r.loss());
  EXPECT_EQ(r.loss()->from, Offset(9));
  EXPECT_EQ(r.loss()->to, Offset(10));
  (void)r.offered(held(1, 9, 6), at(5'001));
  const auto asked = r.received(held(2, 9, 6), at(5'002));
  ASSERT_TRUE(asked.commit);
  EXPECT_TRUE(asked.commit->unclean);
}

TEST(Recovery, an_answer_that_cannot_be_is_ignored) {
  Recovery r = recovery();
  (void)r.answered(answer(1, 4, whole(20)), at(1));
  EXPECT_FALSE(r.answered(answer(2, 6, whole(20)), at(1)).offer);
  EXPECT_FALSE(r.answered(answer(2, 4, log(30, {run(2, 0), run(7, 20)})), at(1)).offer);
  SealAnswer other = answer(2, 4, whole(20));
  other.epoch = Epoch(5);
  EXPECT_FALSE(r.answered(other, at(1)).offer);
  EXPECT_TRUE(r.answered(answer(2, 4, whole(20)), at(1)).offer);
}

TEST(Recovery, the_first_epoch_begins_at_once) {
  catalog::Partition p;
  p.highest_proposed = Epoch(1);
  p.candidate = NodeId(1);
  Recovery::Plan first = plan();
  first.epoch = Epoch(1);
  Recovery r(first, p, {}, at(0));
  EXPECT_EQ(r.tick(at(0)).seal, (std::vector<NodeId>{NodeId(1)}));
  SealAnswer own = answer(1, 0, History());
  own.epoch = own.promised = Epoch(1);
  EXPECT_TRUE(r.answered(own, at(1)).offer);
  EXPECT_EQ(r.start(), Offset(0));
}

TEST(Recovery, a_sealed_epoch_ends_where_it_was_sealed) {
  catalog::Partition p = partition();
  p.current->end = Offset(18);
  Recovery r(plan(), p, {}, at(0));
  (void)r.answered(answer(1, 4, whole(15)), at(1));
  EXPECT_FALSE(r.answered(answer(2, 4, whole(17)), at(1)).offer);
  EXPECT_TRUE(r.answered(answer(3, 4, whole(20)), at(1)).offer);
  EXPECT_EQ(r.start(), Offset(18));
}

}  // namespace
}  // namespace pyralog::replica
