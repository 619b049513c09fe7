#include <chrono>
#include <memory>
#include <vector>

#include "io/budget.h"
#include "io/contract.h"
#include "io/pools.h"
#include "io/rng.h"
#include "io/shard.h"

namespace pyralog::io {
namespace {

using namespace std::chrono_literals;

TEST_P(ShardContract, jobs_of_one_sender_keep_their_order) {
  constexpr int kJobs = 20'000;
  std::vector<int> seen;
  run([&]() -> Task<void> {
    Shard& home = Shard::current();
    WaitList done;
    for (int i = 0; i < kJobs; ++i) {
      shard(1).post([&seen, i] { seen.push_back(i); });
    }
    shard(1).post([&home, &done] { home.post([&done] { done.wake_all(); }); });
    EXPECT_TRUE(co_await done.wait(home.now() + 30s));
  });
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(kJobs));
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST_P(ShardContract, a_job_posted_to_its_own_shard_runs_later) {
  run([&]() -> Task<void> {
    bool ran = false;
    Shard::current().post([&ran] { ran = true; });
    EXPECT_FALSE(ran);
    co_await yield();
    EXPECT_TRUE(ran);
  });
}

TEST_P(ShardContract, timers_fire_in_order_and_not_early) {
  run([&]() -> Task<void> {
    Shard& self = Shard::current();
    std::vector<int> order;
    const Instant start = self.now();
    for (const int ms : {12, 4, 8}) {
      self.call_at(start + std::chrono::milliseconds(ms), [&order, &self, start, ms] {
        EXPECT_GE(self.now() - start, std::chrono::milliseconds(ms));
        order.push_back(ms);
      });
    }
    co_await sleep_for(40ms);
    EXPECT_EQ(order, (std::vector<int>{4, 8, 12}));
  });
}

TEST_P(ShardContract, a_cancelled_timer_does_not_fire) {
  run([&]() -> Task<void> {
    Shard& self = Shard::current();
    bool fired = false;
    const Shard::TimerId first = self.call_at(self.now() + 2ms, [&fired] { fired = true; });
    self.cancel_timer(first);
    self.cancel_timer(first);
    bool second_fired = false;
    const Shard::TimerId second =
        self.call_at(self.now() + 3ms, [&second_fired] { second_fired = true; });
    co_await sleep_for(20ms);
    EXPECT_FALSE(fired);
    EXPECT_TRUE(second_fired);
    self.cancel_timer(second);
  });
}

TEST_P(ShardContract, a_wait_ends_by_wake_or_by_deadline) {
  run([&]() -> Task<void> {
    Shard& self = Shard::current();
    WaitList list;
    EXPECT_FALSE(co_await list.wait(self.now() + 1ms));
    self.call_at(self.now() + 1ms, [&list] { list.wake_one(); });
    EXPECT_TRUE(co_await list.wait(self.now() + 30s));
    EXPECT_TRUE(list.empty());
  });
}

TEST_P(ShardContract, wake_one_wakes_the_longest_waiter) {
  run([&]() -> Task<void> {
    WaitList list;
    std::vector<int> order;
    TaskGroup group;
    const auto waiter = [](WaitList* on, std::vector<int>* to, int i) -> Task<void> {
      co_await on->wait(Instant::never());
      to->push_back(i);
    };
    for (int i = 0; i < 3; ++i) group.spawn(waiter(&list, &order, i));
    EXPECT_EQ(group.running(), 3U);
    for (int i = 0; i < 3; ++i) {
      list.wake_one();
      co_await yield();
    }
    co_await group.join();
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
  });
}

TEST_P(ShardContract, a_turn_lets_one_in_at_a_time_and_in_order) {
  run([&]() -> Task<void> {
    Turn turn;
    int inside = 0;
    std::vector<int> order;
    TaskGroup group;
    const auto enter = [&](int i) -> Task<void> {
      const Turn::Guard guard = co_await turn.lock();
      EXPECT_EQ(++inside, 1);
      co_await sleep_for(100us);
      order.push_back(i);
      --inside;
    };
    for (int i = 0; i < 10; ++i) group.spawn(enter(i));
    co_await group.join();
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  });
}

TEST_P(ShardContract, a_budget_is_never_exceeded_and_serves_in_order) {
  run([&]() -> Task<void> {
    Budget budget(100);
    TaskGroup tasks;
    std::vector<int> order;
    std::size_t most = 0;
    const auto user = [&](int number, std::size_t bytes) -> Task<void> {
      const auto hold = co_await budget.take(bytes);
      order.push_back(number);
      most = std::max(most, budget.used());
      co_await sleep_for(1ms);
    };
    auto first = budget.try_take(60);
    EXPECT_TRUE(first);
    EXPECT_FALSE(budget.try_take(41));
    tasks.spawn(user(0, 90));    // does not fit beside the first
    tasks.spawn(user(1, 10));    // would fit, and waits its turn
    tasks.spawn(user(2, 1000));  // more than there is: gets all of it, alone
    tasks.spawn(user(3, 50));
    co_await yield();
    EXPECT_TRUE(order.empty());
    EXPECT_FALSE(budget.try_take(1));
    first.release();
    co_await tasks.join();
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
    EXPECT_EQ(most, 100u);
    EXPECT_EQ(budget.used(), 0u);
    EXPECT_TRUE(budget.try_take(100));
  });
}

TEST_P(ShardContract, a_task_can_run_on_another_shard_and_come_back) {
  run([&]() -> Task<void> {
    Shard& home = Shard::current();
    const auto number = co_await on(shard(1), []() -> Task<std::unique_ptr<unsigned>> {
      co_await yield();
      co_return std::make_unique<unsigned>(Shard::current().index());
    });
    EXPECT_EQ(*number, 1U);
    EXPECT_EQ(&Shard::current(), &home);
  });
}

TEST_P(ShardContract, a_pool_job_runs_elsewhere_and_comes_back) {
  run([&]() -> Task<void> {
    Shard& home = Shard::current();
    for (const Pool pool : {Pool::kSync, Pool::kDisk, Pool::kWork}) {
      const bool on_a_shard = co_await run_in(pool, [] { return Shard::has_current(); });
      EXPECT_FALSE(on_a_shard);
      EXPECT_EQ(&Shard::current(), &home);
    }
  });
}

TEST_P(ShardContract, ping_pong_between_shards) {
  run([&]() -> Task<void> {
    int rounds = 0;
    for (int i = 0; i < 2'000; ++i) {
      rounds += co_await on(shard(1), []() -> Task<int> { co_return 1; });
    }
    EXPECT_EQ(rounds, 2'000);
  });
}

TEST_P(ShardContract, foreign_threads_jobs_arrive) {
  run([&]() -> Task<void> {
    Shard& home = Shard::current();
    int arrived = 0;
    WaitList done;
    for (int i = 0; i < 200; ++i) {
      home.pools().submit(Pool::kWork, [&home, &arrived, &done] {
        home.post([&arrived, &done] {
          if (++arrived == 200) done.wake_all();
        });
      });
    }
    EXPECT_TRUE(co_await done.wait(home.now() + 30s));
    EXPECT_EQ(arrived, 200);
  });
}

TEST_P(ShardContract, clocks_go_on) {
  run([&]() -> Task<void> {
    Shard& self = Shard::current();
    const Instant before = self.now();
    EXPECT_GT(self.wall().ms, 1'700'000'000'000);
    co_await sleep_for(2ms);
    EXPECT_GE(self.now() - before, Duration(2ms));
    EXPECT_NE(self.rng().next(), self.rng().next());
  });
}

TEST_P(ShardContract, many_timers_fire_once_each_unless_cancelled) {
  run([&]() -> Task<void> {
    Shard& self = Shard::current();
    std::vector<int> fired(5'000, 0);
    std::vector<bool> cancelled(fired.size(), false);
    std::vector<Shard::TimerId> ids;
    for (std::size_t i = 0; i < fired.size(); ++i) {
      const Duration delay(10'000'000 + self.rng().below(20'000'000));
      ids.push_back(self.call_at(self.now() + delay, [&fired, i] { ++fired[i]; }));
    }
    for (std::size_t i = 0; i < fired.size(); ++i) {
      if (self.rng().below(4) == 0 || fired[i] > 0) continue;
      self.cancel_timer(ids[i]);
      cancelled[i] = fired[i] == 0;
    }
    co_await sleep_for(60ms);
    for (std::size_t i = 0; i < fired.size(); ++i) EXPECT_EQ(fired[i], cancelled[i] ? 0 : 1) << i;
  });
}

}  // namespace
}  // namespace pyralog::io
