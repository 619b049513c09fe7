#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <deque>
#include <map>

#include "base/crc32c.h"
#include "producer/producer_id_block.h"
#include "producer/producer_table.h"
#include "producer/sequence.h"

namespace pyralog::producer {
namespace {

constexpr RunningMs kNow{1'700'000'000'000};
constexpr std::int64_t kDay = 86'400'000;

BatchHeader batch(std::int64_t id, std::int16_t epoch, std::int32_t sequence,
                  std::int32_t count = 1) {
  BatchHeader header;
  header.producer_id = id;
  header.producer_epoch = epoch;
  header.base_sequence = sequence;
  header.count = count;
  header.last_offset_delta = count - 1;
  header.base_timestamp = header.max_timestamp = std::int64_t{1000} + sequence;
  return header;
}

/// A table with the log's end beside it.
struct Log {
  ProducerTable table;
  RunningMs now = kNow;
  Judgement send(const BatchHeader& header) {
    const Judgement judgement = table.judge(header, now);
    if (judgement.verdict == Verdict::kAppend) table.apply(header, table.end(), now);
    return judgement;
  }
  Verdict verdict(const BatchHeader& header) { return table.judge(header, now).verdict; }
};

TEST(eos_sequence, wraps_like_kafkas) {
  EXPECT_EQ(sequence_plus(0, 1), 1);
  EXPECT_EQ(sequence_plus(INT32_MAX, 1), 0);
  EXPECT_EQ(sequence_plus(INT32_MAX - 2, 5), 2);
  Log log;
  ASSERT_EQ(log.send(batch(1, 0, 0)).verdict, Verdict::kAppend);
  log.table.apply(batch(1, 0, INT32_MAX - 1), Offset(1), kNow);
  EXPECT_EQ(log.send(batch(1, 0, INT32_MAX, 3)).verdict, Verdict::kAppend) << "max, 0, 1";
  EXPECT_EQ(log.verdict(batch(1, 0, 0)), Verdict::kOutOfOrder);
  EXPECT_EQ(log.send(batch(1, 0, 2)).verdict, Verdict::kAppend);
}

TEST(eos_judge, lets_a_batch_without_producer_pass) {
  Log log;
  EXPECT_EQ(log.send(batch(-1, -1, -1, 10)).verdict, Verdict::kAppend);
  EXPECT_EQ(log.table.size(), 0u);
  EXPECT_EQ(log.table.end(), Offset(10));
}

TEST(eos_judge, a_duplicate_of_the_last_five_gets_the_original_offsets) {
  Log log;
  for (std::int32_t i = 0; i < 8; ++i)
    ASSERT_EQ(log.send(batch(7, 0, i * 10, 10)).verdict, Verdict::kAppend);
  for (std::int32_t i = 3; i < 8; ++i) {
    const Judgement got = log.send(batch(7, 0, i * 10, 10));
    EXPECT_EQ(got.verdict, Verdict::kDuplicate);
    EXPECT_EQ(got.base_offset, Offset(i * 10));
    EXPECT_EQ(got.last_offset, Offset(i * 10 + 9));
    EXPECT_EQ(got.max_timestamp, 1000 + i * 10);
  }
  EXPECT_EQ(log.verdict(batch(7, 0, 20, 10)), Verdict::kOutOfOrder) << "older than five";
  EXPECT_EQ(log.verdict(batch(7, 0, 70, 9)), Verdict::kOutOfOrder)
      << "overlaps, but is another batch";
  EXPECT_EQ(log.table.end(), Offset(80));
}

TEST(eos_judge, refuses_a_gap) {
  Log log;
  log.send(batch(7, 0, 0, 3));
  const Judgement gap = log.send(batch(7, 0, 4));
  EXPECT_EQ(gap.verdict, Verdict::kOutOfOrder);
  EXPECT_EQ(gap.expected_sequence, 3);
  EXPECT_EQ(kafka_error(gap.verdict), KafkaError::kOutOfOrderSequenceNumber);
  EXPECT_EQ(log.send(batch(7, 0, 3)).verdict, Verdict::kAppend);
  EXPECT_EQ(log.send(batch(7, 0, 4)).verdict, Verdict::kAppend);
}

TEST(eos_judge, a_newer_epoch_fences_older_ones_and_begins_at_zero) {
  Log log;
  log.send(batch(7, 3, 0));
  EXPECT_EQ(log.verdict(batch(7, 4, 1)), Verdict::kOutOfOrder);
  EXPECT_EQ(log.send(batch(7, 4, 0)).verdict, Verdict::kAppend);
  EXPECT_EQ(log.verdict(batch(7, 3, 1)), Verdict::kFenced);
  EXPECT_EQ(log.verdict(batch(7, 3, 0)), Verdict::kFenced) << "not even as a duplicate";
  EXPECT_EQ(kafka_error(Verdict::kFenced), KafkaError::kInvalidProducerEpoch);
  EXPECT_EQ(log.verdict(batch(8, 3, 0)), Verdict::kAppend) << "other producers are not concerned";
}

TEST(eos_judge, an_unknown_producer_must_begin_at_zero) {
  Log log;
  EXPECT_EQ(log.verdict(batch(7, 0, 5)), Verdict::kUnknownProducer);
  EXPECT_EQ(kafka_error(Verdict::kUnknownProducer), KafkaError::kUnknownProducerId);
  EXPECT_EQ(log.verdict(batch(7, 9, 0)), Verdict::kAppend);
}

TEST(eos_expiry, forgets_by_time_only) {
  Log log;
  log.send(batch(7, 0, 0));
  log.now.ms += kDay;
  EXPECT_EQ(log.verdict(batch(7, 0, 1)), Verdict::kAppend) << "exactly a day is still known";
  log.now.ms += 1;
  EXPECT_EQ(log.verdict(batch(7, 0, 1)), Verdict::kUnknownProducer) << "before anybody swept";
  EXPECT_TRUE(log.table.list(log.now).empty());
  EXPECT_EQ(log.table.expire(log.now), 1u);
  EXPECT_EQ(log.table.size(), 0u);
}

TEST(eos_expiry, a_clock_that_steps_back_expires_nobody) {
  Log log;
  log.send(batch(7, 0, 0));
  EXPECT_EQ(log.table.expire(RunningMs{0}), 0u);
  EXPECT_EQ(log.table.judge(batch(7, 0, 1), RunningMs{0}).verdict, Verdict::kAppend);
}

TEST(eos_expiry, what_was_before_it_is_no_duplicate_after) {
  Log log;
  for (std::int32_t i = 0; i < 5; ++i) log.send(batch(7, 0, i));
  log.now.ms += kDay + 1;
  for (std::int32_t i = 0; i < 5; ++i)
    EXPECT_EQ(log.send(batch(7, 0, i)).verdict, Verdict::kAppend) << i;
  EXPECT_EQ(log.table.end(), Offset(10));
}

TEST(eos_bound, a_full_table_refuses_newcomers_and_keeps_the_known) {
  Log log{ProducerTable(Options{.expiration_ms = kDay, .max_producers = 3, .room = {}})};
  for (std::int64_t id = 0; id < 3; ++id) {
    EXPECT_EQ(log.send(batch(id, 0, 0)).verdict, Verdict::kAppend);
    log.now.ms += 10'000;
  }
  const Judgement full = log.send(batch(3, 0, 0));
  EXPECT_EQ(full.verdict, Verdict::kTooManyProducers);
  EXPECT_NE(describe(full, batch(3, 0, 0)).find("producer.id.expiration.ms"), std::string::npos);
  for (std::int64_t id = 0; id < 3; ++id) EXPECT_EQ(log.verdict(batch(id, 0, 1)), Verdict::kAppend);
  log.now = RunningMs{kNow.ms + kDay + 1};
  EXPECT_EQ(log.send(batch(3, 0, 0)).verdict, Verdict::kAppend) << "one has expired meanwhile";
  EXPECT_EQ(log.table.size(), 3u);
}

TEST(eos_bound, partitions_share_a_room_in_which_the_silent_make_place) {
  Options options{.expiration_ms = kDay, .max_producers = 100, .room = {}};
  options.room = std::make_shared<ProducerRoom>(4);
  Log one{ProducerTable(options)};
  Log two{ProducerTable(options)};
  for (std::int64_t id = 0; id < 2; ++id) {
    EXPECT_EQ(one.send(batch(id, 0, 0)).verdict, Verdict::kAppend);
    EXPECT_EQ(two.send(batch(id, 0, 0)).verdict, Verdict::kAppend);
  }
  EXPECT_EQ(options.room->used(), 4u);
  EXPECT_EQ(two.send(batch(9, 0, 0)).verdict, Verdict::kTooManyProducers);
  one.now.ms += 600'000;
  two.now = one.now;
  EXPECT_EQ(two.send(batch(1, 0, 1)).verdict, Verdict::kAppend) << "the known are not refused";
  one.now.ms += 600'000;
  two.now = one.now;
  EXPECT_EQ(two.send(batch(9, 0, 0)).verdict, Verdict::kAppend) << "0 was silent for 20 minutes";
  EXPECT_EQ(two.verdict(batch(1, 0, 2)), Verdict::kAppend);
  EXPECT_EQ(two.verdict(batch(0, 0, 1)), Verdict::kUnknownProducer);
  EXPECT_EQ(one.table.expire(one.now), 2u) << "here all were silent";
  EXPECT_EQ(options.room->used(), 2u);
  EXPECT_EQ(two.table.expire(RunningMs{one.now.ms + 3'600'000}), 0u) << "there is place: a day counts";
}

TEST(eos_bound, a_room_counts_what_is_restored_moved_and_dropped) {
  Options options{.expiration_ms = kDay, .max_producers = 100, .room = {}};
  options.room = std::make_shared<ProducerRoom>(10);
  {
    Log log{ProducerTable(options)};
    for (std::int64_t id = 0; id < 3; ++id) log.send(batch(id, 0, 0));
    const auto bytes = log.table.snapshot(log.table.end());
    ASSERT_TRUE(bytes);
    auto restored = ProducerTable::restore(*bytes, kNow, options);
    ASSERT_TRUE(restored);
    EXPECT_EQ(options.room->used(), 6u);
    log.table = std::move(*restored);
    EXPECT_EQ(options.room->used(), 3u);
    EXPECT_TRUE(log.table.truncate_from(Offset(1)));
    EXPECT_EQ(options.room->used(), 1u);
  }
  EXPECT_EQ(options.room->used(), 0u);
}

TEST(eos_list, shows_the_last_batch_of_each) {
  Log log;
  log.send(batch(9, 2, 0, 4));
  log.send(batch(7, 0, 0));
  log.send(batch(7, 0, 1, 2));
  const auto all = log.table.list(kNow);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].id, ProducerId(7));
  EXPECT_EQ(all[0].last_sequence, 2);
  EXPECT_EQ(all[0].last_timestamp, 1001);
  EXPECT_EQ(all[1].epoch, 2);
  EXPECT_EQ(all[1].last_sequence, 3);
}

TEST(eos_snapshot, brings_the_table_back) {
  Log log;
  for (std::int32_t i = 0; i < 9; ++i) log.send(batch(7, 1, i));
  log.send(batch(8, 0, 0, 5));
  const auto bytes = log.table.snapshot(log.table.end());
  ASSERT_TRUE(bytes.has_value());
  auto back = ProducerTable::restore(*bytes, kNow);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->end(), log.table.end());
  EXPECT_EQ(back->judge(batch(7, 1, 8), kNow).base_offset, Offset(8));
  EXPECT_EQ(back->judge(batch(7, 1, 9), kNow).verdict, Verdict::kAppend);
  EXPECT_EQ(back->judge(batch(8, 0, 0, 5), kNow).base_offset, Offset(9));
  EXPECT_EQ(*back->snapshot(back->end()), *bytes);
}

TEST(eos_snapshot, holds_nothing_beyond_its_offset) {
  Log log;
  log.send(batch(7, 0, 0));
  log.send(batch(7, 0, 1));
  const Offset synced = log.table.end();
  log.send(batch(7, 0, 2));
  log.send(batch(8, 0, 0));
  const auto bytes = log.table.snapshot(synced);
  ASSERT_TRUE(bytes.has_value());
  auto back = ProducerTable::restore(*bytes, kNow);
  // The log lost what was not synced; both producers send it again.
  EXPECT_EQ(back->size(), 1u);
  EXPECT_EQ(back->end(), synced);
  EXPECT_EQ(back->judge(batch(7, 0, 2), kNow).verdict, Verdict::kAppend);
  EXPECT_EQ(back->judge(batch(8, 0, 0), kNow).verdict, Verdict::kAppend);
}

TEST(eos_snapshot, says_when_the_past_is_gone) {
  Log log;
  for (std::int32_t i = 0; i < 5; ++i) log.send(batch(7, 0, i));
  EXPECT_TRUE(log.table.snapshot(Offset(1)).has_value());
  log.send(batch(7, 0, 5));
  const auto late = log.table.snapshot(Offset(1));
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().code, Code::kUnavailable);
  EXPECT_TRUE(log.table.snapshot(Offset(6)).has_value());
}

TEST(eos_snapshot, goes_on_counting_silence) {
  Log log;
  log.send(batch(7, 0, 0));
  const Bytes bytes = *log.table.snapshot(log.table.end());
  EXPECT_TRUE(ProducerTable::is_current(bytes));
  const auto later = ProducerTable::restore(bytes, RunningMs{kNow.ms + kDay / 2});
  EXPECT_EQ(later->list(RunningMs{kNow.ms + kDay}).size(), 1u);
  EXPECT_EQ(later->list(RunningMs{kNow.ms + kDay + 1}).size(), 0u);
  // What was written down of the clock may be less than what it had come to.
  const auto earlier = ProducerTable::restore(bytes, RunningMs{100});
  EXPECT_EQ(earlier->list(RunningMs{100 + kDay}).size(), 1u);
  EXPECT_EQ(earlier->list(RunningMs{100 + kDay + 1}).size(), 0u);
}

TEST(eos_snapshot, by_the_wall_clock_says_nothing_about_silence) {
  Log log;
  log.send(batch(7, 0, 0));
  Bytes old = *log.table.snapshot(log.table.end());
  old[8] = 1;
  old.resize(old.size() - 4);
  Writer whole;
  whole.raw(old).le(crc32c(old));
  old = whole.take();
  EXPECT_FALSE(ProducerTable::is_current(old));
  for (const std::int64_t now : {std::int64_t{0}, kNow.ms + 10 * kDay}) {
    auto back = ProducerTable::restore(old, RunningMs{now});
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->list(RunningMs{now + kDay}).size(), 1u);
    EXPECT_EQ(back->list(RunningMs{now + kDay + 1}).size(), 0u);
    EXPECT_TRUE(ProducerTable::is_current(*back->snapshot(back->end())));
  }
}

TEST(eos_clock, counts_while_it_runs_and_goes_on_from_where_it_was) {
  const ProducerClock clock(RunningMs{5'000}, Instant{7'000'000'000});
  EXPECT_EQ(clock.now(Instant{7'000'000'000}), RunningMs{5'000});
  EXPECT_EQ(clock.now(Instant{9'500'000'000}), RunningMs{7'500});
  EXPECT_EQ(clock.now(Instant{1'000'000'000}), RunningMs{5'000}) << "never back";
}

TEST(eos_snapshot, refuses_every_damaged_byte_and_a_newer_version) {
  Log log;
  for (std::int32_t i = 0; i < 7; ++i) log.send(batch(7, 0, i));
  log.send(batch(8, 0, 0));
  const Bytes good = *log.table.snapshot(log.table.end());
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(ProducerTable::restore(ByteView(good).first(size), kNow).has_value()) << size;
  }
  for (std::size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] ^= 0x10;
    EXPECT_FALSE(ProducerTable::restore(bad, kNow).has_value()) << at;
  }
  Bytes newer = good;
  newer[8] = 3;
  EXPECT_EQ(ProducerTable::restore(newer, kNow).error().code, Code::kUnsupported);
}

TEST(eos_truncate, forgets_what_the_log_lost) {
  Log log;
  for (std::int32_t i = 0; i < 4; ++i) log.send(batch(7, 0, i));
  log.send(batch(8, 0, 0));
  ASSERT_TRUE(log.table.truncate_from(Offset(2)));
  EXPECT_EQ(log.table.end(), Offset(2));
  EXPECT_EQ(log.table.size(), 1u);
  EXPECT_EQ(log.verdict(batch(7, 0, 2)), Verdict::kAppend);
  EXPECT_EQ(log.verdict(batch(8, 0, 0)), Verdict::kAppend);
  EXPECT_TRUE(log.table.truncate_from(Offset(99))) << "nothing to forget";
}

TEST(eos_truncate, says_when_it_must_be_rebuilt) {
  Log log;
  for (std::int32_t i = 0; i < 6; ++i) log.send(batch(7, 0, i));
  EXPECT_FALSE(log.table.truncate_from(Offset(3)));
  Log bumped;
  bumped.send(batch(7, 0, 0));
  bumped.send(batch(7, 1, 0));
  EXPECT_FALSE(bumped.table.truncate_from(Offset(1))) << "epoch 0 is forgotten";
}

TEST(eos_id_block, hands_out_each_id_once) {
  ProducerIdBlock block(ProducerId(1000), 4);
  EXPECT_FALSE(block.low());
  for (std::int64_t i = 0; i < 4; ++i) EXPECT_EQ(block.next(), ProducerId(1000 + i));
  EXPECT_TRUE(block.low());
  EXPECT_EQ(block.next(), std::nullopt);
  EXPECT_EQ(block.left(), 0);
  EXPECT_TRUE(ProducerIdBlock().low());
  EXPECT_EQ(ProducerIdBlock().next(), std::nullopt);
}

// The oracle remembers every batch for ever and looks at the last five of the newest epoch.
struct Oracle {
  struct Sent {
    std::int16_t epoch;
    std::int32_t sequence;
    std::int32_t count;
    std::int64_t offset;
  };
  std::map<std::int64_t, std::vector<Sent>> all;

  Judgement judge(const BatchHeader& h) const {
    Judgement out;
    const auto found = all.find(h.producer_id);
    if (found == all.end()) {
      out.verdict = h.base_sequence == 0 ? Verdict::kAppend : Verdict::kUnknownProducer;
      return out;
    }
    const auto& sent = found->second;
    const Sent& last = sent.back();
    if (h.producer_epoch != last.epoch) {
      out.verdict = h.producer_epoch < last.epoch ? Verdict::kFenced
                    : h.base_sequence == 0        ? Verdict::kAppend
                                                  : Verdict::kOutOfOrder;
      return out;
    }
    for (std::size_t back = 0; back < 5 && back < sent.size(); ++back) {
      const Sent& s = sent[sent.size() - 1 - back];
      if (s.epoch == h.producer_epoch && s.sequence == h.base_sequence && s.count == h.count) {
        out.verdict = Verdict::kDuplicate;
        out.base_offset = Offset(s.offset);
        return out;
      }
    }
    const auto next = (std::int64_t{last.sequence} + last.count) % (std::int64_t{INT32_MAX} + 1);
    out.verdict = next == h.base_sequence ? Verdict::kAppend : Verdict::kOutOfOrder;
    return out;
  }
};

RC_GTEST_PROP(eos_property, agrees_with_a_table_that_never_forgets, ()) {
  ProducerTable table;
  Oracle oracle;
  std::vector<std::pair<BatchHeader, std::int64_t>> log;
  Bytes snapshot = *table.snapshot(Offset(0));
  const int steps = *rc::gen::inRange(1, 200);
  for (int i = 0; i < steps; ++i) {
    const int what = *rc::gen::inRange(0, 20);
    if (what == 0) snapshot = *table.snapshot(table.end());
    if (what == 1) {  // restart: snapshot, then the log behind it
      auto back = ProducerTable::restore(snapshot, kNow);
      RC_ASSERT(back.has_value());
      for (const auto& [header, offset] : log) {
        if (offset >= back->end().value) back->apply(header, Offset(offset), kNow);
      }
      RC_ASSERT(back->end() == table.end());
      table = std::move(*back);
    }
    const auto id = *rc::gen::inRange<std::int64_t>(0, 2);
    const auto& past = oracle.all[id];
    BatchHeader header = batch(id, 0, 0, *rc::gen::inRange(1, 4));
    if (!past.empty()) {
      const auto& last = past.back();
      const auto& pick = past[past.size() - std::min<std::size_t>(
                                                past.size(), *rc::gen::inRange<std::size_t>(1, 8))];
      switch (*rc::gen::inRange(0, 5)) {
        case 0:
          header = batch(id, pick.epoch, pick.sequence, pick.count);
          break;  // again
        case 1:
          header = batch(id, last.epoch, last.sequence + last.count + 1);
          break;  // a gap
        case 2:
          header = batch(id, static_cast<std::int16_t>(last.epoch + 1), *rc::gen::inRange(0, 2));
          break;
        default:
          header = batch(id, last.epoch, last.sequence + last.count, header.count);
          break;
      }
    } else {
      oracle.all.erase(id);
      header.base_sequence = *rc::gen::inRange(0, 2);
    }
    const Judgement got = table.judge(header, kNow);
    const Judgement want = oracle.judge(header);
    RC_ASSERT(got.verdict == want.verdict);
    RC_ASSERT(got.base_offset == want.base_offset);
    if (got.verdict != Verdict::kAppend) continue;
    const std::int64_t at = table.end().value;
    table.apply(header, Offset(at), kNow);
    oracle.all[id].push_back({header.producer_epoch, header.base_sequence, header.count, at});
    log.emplace_back(header, at);
  }
}

/// A client with up to five batches in flight over a network that loses, repeats and reorders, and
/// a broker that restarts with or without its unsynced tail.
struct Network {
  ProducerTable table;
  std::vector<BatchHeader> log;  // every batch holds one record: index = offset
  std::size_t synced = 0;
  Bytes snapshot = *table.snapshot(Offset(0));
  std::deque<std::int32_t> wire;  // requests under way
  std::int32_t acked = 0;         // all below are acknowledged
  std::map<std::int32_t, bool> answered;

  void deliver(std::int32_t sequence, bool answer_arrives) {
    const BatchHeader header = batch(1, 0, sequence);
    const Judgement judgement = table.judge(header, kNow);
    std::int64_t at = judgement.base_offset.value;
    if (judgement.verdict == Verdict::kAppend) {
      at = static_cast<std::int64_t>(log.size());
      table.apply(header, Offset(at), kNow);
      log.push_back(header);
    } else if (judgement.verdict != Verdict::kDuplicate) {
      return;
    }
    // acks=all: the answer, also to a duplicate, waits until the original is synced.
    if (answer_arrives) {
      sync();
      answered[sequence] = true;
      RC_ASSERT(log[static_cast<std::size_t>(at)].base_sequence == sequence);
    }
    while (answered.contains(acked)) ++acked;
  }
  void sync() { synced = log.size(); }
  void take_snapshot() {
    Bytes taken = *table.snapshot(table.end());
    sync();
    snapshot = std::move(taken);
  }
  void restart(bool power_loss) {
    if (power_loss) log.resize(synced);
    table = *ProducerTable::restore(snapshot, kNow);
    for (auto at = static_cast<std::size_t>(table.end().value); at < log.size(); ++at) {
      table.apply(log[at], Offset(static_cast<std::int64_t>(at)), kNow);
    }
  }
};

RC_GTEST_PROP(eos_property, each_sequence_exactly_once_and_in_order, ()) {
  Network net;
  const std::int32_t total = *rc::gen::inRange(1, 60);
  for (int step = 0; net.acked < total; ++step) {
    // Faults for a while, then a quiet network, so that every run comes to its end.
    const int what = step < 400 ? *rc::gen::inRange(0, 16) : 15;
    for (std::int32_t s = net.acked; s < std::min(total, net.acked + 5); ++s) {
      if (!net.answered.contains(s) && net.wire.size() < 12) net.wire.push_back(s);
    }
    if (net.wire.empty()) continue;
    const std::size_t pick = what < 6 ? *rc::gen::inRange<std::size_t>(0, net.wire.size()) : 0;
    const std::int32_t sequence = net.wire[pick];
    if (what != 0)
      net.wire.erase(net.wire.begin() + static_cast<std::ptrdiff_t>(pick));  // 0: repeated
    if (what == 1) continue;                                                 // lost
    net.deliver(sequence, what != 2 && what != 7);
    if (what == 9) net.take_snapshot();
    if (what == 10) net.restart(false);
    if (what == 11) net.restart(true);
  }
  RC_ASSERT(net.log.size() == static_cast<std::size_t>(total));
  for (std::int32_t i = 0; i < total; ++i)
    RC_ASSERT(net.log[static_cast<std::size_t>(i)].base_sequence == i);
}

}  // namespace
}  // namespace pyralog::producer
