// What logs in memory hold together, who pays for it, and searches by time in one of them.
#include "log/memory_store.h"

#include <ctime>
#include <functional>
#include <random>

#include "log/log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::Node;
using io::sim::Simulator;
using Stores = std::vector<std::unique_ptr<MemoryStore>>;

constexpr std::uint64_t kPlenty = 1u << 30;

Stores stores(std::size_t count, const std::shared_ptr<MemoryRoom>& room) {
  Stores made;
  for (std::size_t i = 0; i < count; ++i) {
    made.push_back(std::make_unique<MemoryStore>(Offset(0), kPlenty, room));
  }
  return made;
}
/// Appends one batch of one record with `bytes` bytes.
void add(MemoryStore& store, std::size_t bytes, std::int64_t timestamp = 1000) {
  BatchHeader header;
  header.base_offset =
      store.batches().empty() ? store.start().value : store.batches().back().next.value;
  header.max_timestamp = timestamp;
  store.append(SharedBytes(Bytes(bytes)), header, 0);
}
std::uint64_t held(const Stores& all) {
  std::uint64_t sum = 0;
  for (const auto& each : all) sum += each->held_bytes();
  return sum;
}
double seconds_of(const std::function<void()>& work) {
  const std::clock_t began = std::clock();
  work();
  return static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
}

/// Who gives up its oldest batch next, as make_room says it.
std::size_t who_pays(const Stores& all, std::size_t written, std::uint64_t sum) {
  const MemoryStore& mine = *all[written];
  if (mine.batches().size() > 1 && mine.held_bytes() >= sum / all.size()) return written;
  std::size_t most = all.size();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i]->batches().size() <= (i == written ? 1U : 0U)) continue;
    if (most == all.size() || all[i]->held_bytes() > all[most]->held_bytes()) most = i;
  }
  return most;
}

TEST(MemoryRoom, lets_the_log_with_most_pay_and_of_equals_the_first) {
  std::mt19937 random(3);
  constexpr std::uint64_t kLimit = 40'000;
  const auto room = std::make_shared<MemoryRoom>(kLimit);
  const auto shadow_room = std::make_shared<MemoryRoom>(kPlenty);
  Stores real = stores(7, room);
  Stores shadow = stores(7, shadow_room);
  for (int step = 0; step < 3000; ++step) {
    const std::size_t written = random() % real.size();
    const std::size_t bytes = random() % 20 == 0 ? 3000 : 100;
    add(*real[written], bytes);
    add(*shadow[written], bytes);
    std::uint64_t dropped = 0;
    while (held(shadow) > kLimit) {
      const std::size_t pays = who_pays(shadow, written, held(shadow));
      if (pays == shadow.size()) break;
      dropped += shadow[pays]->batches().front().bytes.size();
      shadow[pays]->drop_below(shadow[pays]->batches().front().next);
    }
    ASSERT_EQ(room->make_room(*real[written]), dropped) << step;
    for (std::size_t i = 0; i < real.size(); ++i) {
      ASSERT_EQ(real[i]->start(), shadow[i]->start()) << step << " " << i;
    }
    if (step % 500 == 499) {  // one ends, and is there no more
      const std::size_t gone = random() % real.size();
      real.erase(real.begin() + static_cast<std::ptrdiff_t>(gone));
      shadow.erase(shadow.begin() + static_cast<std::ptrdiff_t>(gone));
    }
    if (step % 300 == 299) {
      const std::size_t cut = random() % real.size();
      const Offset end = real[cut]->start();
      real[cut]->truncate(end);
      shadow[cut]->truncate(end);
    }
  }
  EXPECT_LE(held(real), kLimit);
}

TEST(MemoryRoom, the_newest_batch_of_what_is_written_stays) {
  const auto room = std::make_shared<MemoryRoom>(1000);
  const Stores all = stores(2, room);
  add(*all[1], 100);
  add(*all[0], 5000);
  EXPECT_EQ(room->make_room(*all[0]), 100u);
  EXPECT_EQ(all[0]->batches().size(), 1u);
  EXPECT_TRUE(all[1]->batches().empty());
}

TEST(MemoryRoom, counts_what_small_batches_take_beside_their_bytes) {
  constexpr std::uint64_t kLimit = 1u << 20;
  const auto room = std::make_shared<MemoryRoom>(kLimit);
  const Stores all = stores(1, room);
  for (int i = 0; i < 20'000; ++i) {
    add(*all[0], 68);
    (void)room->make_room(*all[0]);
  }
  // Each takes its place, a block with its header, and the bytes.
  const std::uint64_t least = sizeof(MemoryStore::Batch) + sizeof(Bytes) + 16 + 68;
  EXPECT_LE(all[0]->batches().size() * least, kLimit);
  EXPECT_GT(all[0]->batches().size() * 400, kLimit) << "nor much more than they take";
}

// Each of the many has one batch; one of them then makes most of the others give up theirs.
double time_to_drop(std::size_t logs) {
  constexpr std::size_t kDropped = 400;
  const std::uint64_t one = 100 + MemoryStore::kBookkeepingBytes;
  const auto room = std::make_shared<MemoryRoom>(logs * one);
  const Stores all = stores(logs, room);
  for (const auto& each : all) add(*each, 100);
  return seconds_of([&] {
    add(*all[0], kDropped * one);
    EXPECT_GE(room->make_room(*all[0]), kDropped * 100);
  });
}

TEST(MemoryRoom, the_work_for_a_batch_that_goes_does_not_grow_with_the_number_of_logs) {
  double few = 1e9;
  double many = 1e9;
  for (int i = 0; i < 5; ++i) {
    few = std::min(few, time_to_drop(500));
    many = std::min(many, time_to_drop(50'000));
  }
  EXPECT_LT(many, std::max(few, 1e-4) * 25) << few << " s with a hundredth of the logs";
}

class MemoryLogTest : public ::testing::Test {
 protected:
  MemoryLogTest() : sim_(4), node_(sim_.add_node(quiet_disk())) {}
  /// Runs `make` with a log in memory.
  template <typename F>
  void with_log(std::uint64_t budget_bytes, F make) {
    node_.run([&]() -> io::Task<void> {
      Options wide = options();
      wide.memory_bytes = kPlenty;
      auto shard = (co_await open_shard(wide)).value();
      LogConfig config;
      config.durability = Durability::kMemory;
      config.memory_bytes = budget_bytes;
      auto log = (co_await shard->open_log(partition(), config)).value();
      co_await make(*log);
      (co_await shard->close()).value();
    });
  }
  Simulator sim_;
  Node& node_;
};

using Records = std::vector<std::pair<Offset, std::int64_t>>;  ///< offset, timestamp

/// Searches the long way and compares.
io::Task<void> compare(PartitionLog& log, const Records& records, std::int64_t timestamp) {
  std::optional<TimestampHit> wanted;
  for (const auto& [offset, ts] : records) {
    if (offset < log.start_offset() || offset >= log.end_offset() || ts < timestamp) continue;
    wanted = TimestampHit{offset, ts};
    break;
  }
  const auto found = (co_await log.find_timestamp(timestamp, log.end_offset())).value();
  EXPECT_EQ(found.has_value(), wanted.has_value()) << timestamp;
  if (!found || !wanted) co_return;
  EXPECT_EQ(found->offset, wanted->offset) << timestamp;
  EXPECT_EQ(found->timestamp, wanted->timestamp) << timestamp;
}

TEST_F(MemoryLogTest, a_search_by_time_is_exact_whatever_was_dropped_deleted_or_cut) {
  with_log(60'000, [](PartitionLog& log) -> io::Task<void> {
    std::mt19937 random(9);
    Records records;
    for (int step = 0; step < 1500; ++step) {
      const Offset base = log.end_offset();
      const auto ts =
          static_cast<std::int64_t>(5000 + step % 100 - step / 3 + static_cast<int>(random() % 40));
      const int count = 1 + static_cast<int>(random() % 3);
      for (int i = 0; i < count; ++i) records.emplace_back(Offset(base.value + i), ts + i);
      (void)(co_await append(log, batch(base.value, 1, count, ts))).value();
      if (step % 211 == 210) {  // inside a batch, too
        const std::int64_t up = log.end_offset().value - log.start_offset().value;
        const Offset start(log.start_offset().value + up / 3 + step % 2);
        (co_await log.delete_records_below(start)).value();
      }
      if (step % 307 == 306) {
        (co_await log.truncate_to(base)).value();
        records.resize(records.size() - static_cast<std::size_t>(count));
      }
      if (step % 10 != 0) continue;
      co_await compare(log, records, ts - 20);
      co_await compare(log, records, ts + 20);
      co_await compare(log, records, log.max_timestamp().timestamp);
      co_await compare(log, records, log.max_timestamp().timestamp + 1);
    }
    EXPECT_GT(log.start_offset(), Offset(1000)) << "its budget was full";
  });
}

TEST_F(MemoryLogTest, many_searches_one_after_the_other_let_other_work_through) {
  with_log(kPlenty, [](PartitionLog& log) -> io::Task<void> {
    (void)(co_await append(log, batch(0, 1, 3, 1000))).value();
    (void)(co_await append(log, batch(3, 1, 1000, 5000, 100))).value();  // a large one
    for (const std::int64_t timestamp : {1001, 5500}) {
      bool others = false;
      io::Shard::current().post([&others] { others = true; });
      const auto found = (co_await log.find_timestamp(timestamp, log.end_offset())).value();
      EXPECT_TRUE(found && found->timestamp == timestamp);
      EXPECT_TRUE(others) << timestamp;
      co_await io::yield();
    }
  });
}

TEST_F(MemoryLogTest, the_greatest_timestamp_is_that_of_what_is_kept) {
  with_log(1u << 20, [](PartitionLog& log) -> io::Task<void> {
    EXPECT_EQ(log.max_timestamp().timestamp, -1);
    for (const std::int64_t ts : {50, 90, 90, 10, 70}) {
      (void)(co_await append(log, batch(log.end_offset().value, 1, 1, ts))).value();
    }
    const auto is = [&log](std::int64_t offset, std::int64_t timestamp) {
      EXPECT_EQ(log.max_timestamp().offset, Offset(offset));
      EXPECT_EQ(log.max_timestamp().timestamp, timestamp);
    };
    is(1, 90);
    (co_await log.delete_records_below(Offset(2))).value();
    is(2, 90);
    (co_await log.delete_records_below(Offset(3))).value();
    is(4, 70);
    (co_await log.truncate_to(Offset(4))).value();
    is(3, 10);
    (co_await log.truncate_to(Offset(3))).value();
    EXPECT_EQ(log.max_timestamp().timestamp, -1);
  });
}

TEST_F(MemoryLogTest, the_work_of_a_search_by_time_does_not_grow_with_the_number_of_batches) {
  with_log(kPlenty, [](PartitionLog& log) -> io::Task<void> {
    const auto fill = [&log](std::int64_t upto) -> io::Task<void> {
      while (log.end_offset().value < upto) {
        const std::int64_t base = log.end_offset().value;
        (void)(co_await append(log, batch(base, 1, 1, 1'000'000 - base))).value();
      }
    };
    const auto look = [&log]() -> io::Task<double> {
      double best = 1e9;
      for (int turn = 0; turn < 5; ++turn) {
        const std::clock_t began = std::clock();
        for (int i = 0; i < 100; ++i) {
          EXPECT_EQ(log.max_timestamp().timestamp, 1'000'000);
          EXPECT_FALSE((co_await log.find_timestamp(1'000'001, log.end_offset())).value());
        }
        best = std::min(best, static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC);
      }
      co_return best;
    };
    co_await fill(400);
    const double few = co_await look();
    co_await fill(40'000);
    const double many = co_await look();
    EXPECT_LT(many, std::max(few, 1e-4) * 25) << few << " s with a hundredth of the batches";
  });
}

}  // namespace
}  // namespace pyralog::log
