#include "io/posix/mailbox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "io/posix/timers.h"
#include "io/rng.h"

namespace pyralog::io::posix {
namespace {

TEST(Mailbox, hands_over_jobs_in_order_between_threads) {
  constexpr std::uint64_t kJobs = 200'000;
  Mailbox mailbox;
  std::uint64_t expected = 0;
  std::thread producer([&] {
    for (std::uint64_t i = 0; i < kJobs; ++i) {
      mailbox.push([&expected, i] {
        ASSERT_EQ(expected, i);
        ++expected;
      });
    }
  });
  Shard::Job job;
  while (expected < kJobs) {
    if (mailbox.pop(job)) job();
  }
  producer.join();
  EXPECT_TRUE(mailbox.empty());
  EXPECT_FALSE(mailbox.pop(job));
}

TEST(Mailbox, frees_what_was_never_taken) {
  auto counted = std::make_shared<int>(1);
  {
    Mailbox mailbox;
    for (int i = 0; i < 500; ++i) mailbox.push([counted] {});
    Shard::Job job;
    for (int i = 0; i < 130; ++i) ASSERT_TRUE(mailbox.pop(job));
    EXPECT_FALSE(mailbox.empty());
  }
  EXPECT_EQ(counted.use_count(), 1);
}

TEST(Inbox, keeps_the_order_of_each_producer) {
  constexpr int kJobs = 20'000;
  Inbox inbox;
  std::vector<int> next(4, 0);
  std::vector<std::thread> producers;
  for (std::size_t p = 0; p < next.size(); ++p) {
    producers.emplace_back([&inbox, &next, p] {
      for (int i = 0; i < kJobs; ++i) inbox.push([&next, p, i] { ASSERT_EQ(next[p]++, i); });
    });
  }
  std::size_t taken = 0;
  while (taken < next.size() * kJobs) taken += inbox.take([](Shard::Job job) { job(); });
  for (std::thread& producer : producers) producer.join();
  EXPECT_TRUE(inbox.empty());
}

TEST(Timers, agree_with_a_sorted_list) {
  SeededRng rng(3);
  Timers timers;
  std::vector<std::pair<std::int64_t, int>> model;  // time, number of its arming
  std::vector<Shard::TimerId> ids;
  std::vector<int> fired;
  std::vector<int> expected;
  std::int64_t now = 0;
  for (int step = 0; step < 20'000; ++step) {
    const std::uint64_t choice = rng.below(10);
    if (choice < 5) {
      const auto at = now + static_cast<std::int64_t>(rng.below(1000));
      const auto number = static_cast<int>(ids.size());
      ids.push_back(timers.add({at}, [&fired, number] { fired.push_back(number); }));
      model.emplace_back(at, number);
    } else if (choice < 8 && !ids.empty()) {
      const auto number = static_cast<int>(rng.below(ids.size()));
      timers.cancel(ids[static_cast<std::size_t>(number)]);
      std::erase_if(model, [number](const auto& entry) { return entry.second == number; });
    } else {
      now += static_cast<std::int64_t>(rng.below(100));
      while (Shard::Job job = timers.take_due({now})) job();
      std::sort(model.begin(), model.end());
      while (!model.empty() && model.front().first <= now) {
        expected.push_back(model.front().second);
        model.erase(model.begin());
      }
      ASSERT_EQ(fired, expected);
    }
    ASSERT_EQ(timers.size(), model.size());
  }
}

}  // namespace
}  // namespace pyralog::io::posix
