#include "io/posix/runtime.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <functional>

#include "io/disk.h"
#include "io/net.h"
#include "io/pools.h"
#include "io/posix/descriptors.h"
#include "io/posix/write_patience.h"

namespace pyralog::io::posix {
namespace {

using namespace std::chrono_literals;

TEST(Runtime, runs_a_task_on_each_shard) {
  Runtime runtime({.shards = 2, .pin = true});
  ASSERT_TRUE(runtime.start());
  for (const unsigned i : {0U, 1U}) {
    EXPECT_EQ(runtime.run([]() -> Task<unsigned> { co_return Shard::current().index(); }, i), i);
  }
}

TEST(Runtime, stopping_destroys_what_has_not_finished) {
  auto witness = std::make_shared<int>(1);
  {
    Runtime runtime({.shards = 2});
    ASSERT_TRUE(runtime.start());
    std::atomic<int> started = 0;
    for (const unsigned i : {0U, 1U}) {
      // Each kind of wait: a group, a list, a turn, a timer, a socket, a pool's job, a mailbox.
      spawn_on(runtime.shard(i), [&started, witness]() -> Task<void> {
        TaskGroup group;
        WaitList list;
        Turn turn;
        auto listener = (co_await Shard::current().net().listen({"127.0.0.1", 0})).value();
        auto client = (co_await Shard::current().net().connect(listener->local(),
                                                               Shard::current().now() + 10s))
                          .value();
        const auto wait = [](WaitList* on, std::shared_ptr<int>) -> Task<void> {
          co_await on->wait(Instant::never());
        };
        const auto take_turn = [](Turn* of, std::shared_ptr<int>) -> Task<void> {
          const Turn::Guard guard = co_await of->lock();
          co_await sleep_for(1h);
        };
        const auto read = [](Stream* from, std::shared_ptr<int>) -> Task<void> {
          Bytes out(10);
          static_cast<void>(co_await from->read_some(out, Shard::current().now() + 1h));
        };
        const auto go_round = [](std::shared_ptr<int>) -> Task<void> {
          while (true) co_await run_in(Pool::kWork, [] { return 1; });
        };
        group.spawn(wait(&list, witness));
        group.spawn(take_turn(&turn, witness));
        group.spawn(take_turn(&turn, witness));
        group.spawn(read(client.get(), witness));
        group.spawn(go_round(witness));
        ++started;
        co_await group.join();
      });
    }
    while (started < 2) std::this_thread::yield();
    runtime.stop();
    EXPECT_EQ(witness.use_count(), 1);
    runtime.shard(0).post([witness] {});
  }
  EXPECT_EQ(witness.use_count(), 1);
}

TEST(Runtime, can_be_stopped_at_once_and_twice) {
  for (int i = 0; i < 20; ++i) {
    Runtime runtime({.shards = 3});
    ASSERT_TRUE(runtime.start());
    runtime.stop();
    runtime.stop();
  }
}

TEST(Runtime, an_idle_shard_uses_no_time) {
  Runtime runtime({.shards = 2});
  ASSERT_TRUE(runtime.start());
  runtime.run([]() -> Task<void> { co_await sleep_for(50ms); });
  rusage before{};
  ::getrusage(RUSAGE_SELF, &before);
  runtime.run([]() -> Task<void> { co_await sleep_for(400ms); });
  rusage after{};
  ::getrusage(RUSAGE_SELF, &after);
  const auto micros = [](const rusage& use) {
    return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1'000'000 + use.ru_utime.tv_usec +
           use.ru_stime.tv_usec;
  };
  EXPECT_LT(micros(after) - micros(before), 100'000);
}

TEST(Runtime, a_sleeping_shard_is_woken_by_each_kind_of_sender) {
  Runtime runtime({.shards = 2});
  ASSERT_TRUE(runtime.start());
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(runtime.run([]() -> Task<int> { co_return 1; }), 1);
    EXPECT_EQ(runtime.run([&]() -> Task<unsigned> {
      co_return co_await on(runtime.shard(1), []() -> Task<unsigned> {
        co_return co_await run_in(Pool::kWork, [] { return 2U; });
      });
    }),
              2U);
  }
}

TEST(Runtime, jobs_that_lead_to_jobs_for_ever_leave_sockets_their_turn) {
  Runtime runtime({.shards = 1});
  ASSERT_TRUE(runtime.start());
  runtime.run([]() -> Task<void> {
    Shard& shard = Shard::current();
    Net& net = shard.net();
    auto listener = (co_await net.listen({"127.0.0.1", 0})).value();
    auto client = (co_await net.connect(listener->local(), shard.now() + 10s)).value();
    auto server = (co_await listener->accept()).value();
    // Not for ever: where sockets get no turn nothing can be waited for, not even the end of a deadline.
    const Instant last = shard.now() + 3s;
    bool going = true;
    std::function<void()> again = [&] {
      if (going && shard.now() < last) shard.post([&] { again(); });
    };
    again();
    for (int i = 0; i < 3; ++i) {
      std::vector<Piece> pieces;
      pieces.emplace_back(SharedBytes(Bytes(100)));
      EXPECT_TRUE(co_await server->write(std::move(pieces), shard.now() + 5s));
      Bytes out(200);
      EXPECT_EQ(co_await client->read_some(out, shard.now() + 1s), std::size_t{100});
      // Now it has to wait for the socket.
      EXPECT_EQ((co_await client->read_some(out, shard.now() + 10ms)).error().code, Code::kTimedOut);
    }
    // Nothing of it is there yet when this begins to wait.
    TaskGroup later;
    later.spawn([](Stream* stream) -> Task<void> {
      co_await sleep_for(10ms);  // nothing tells that the other one has begun to wait for its socket
      std::vector<Piece> pieces;
      pieces.emplace_back(SharedBytes(Bytes(100)));
      EXPECT_TRUE(co_await stream->write(std::move(pieces), Shard::current().now() + 5s));
    }(server.get()));
    Bytes out(200);
    EXPECT_EQ(co_await client->read_some(out, shard.now() + 1s), std::size_t{100});
    co_await later.join();
    EXPECT_LT(shard.now(), last);
    going = false;
    co_await yield();
    co_await yield();
  });
}

TEST(Signals, are_awaited_on_a_shard) {
  block_signals({SIGUSR1, SIGUSR2});
  Runtime runtime({.shards = 1});
  ASSERT_TRUE(runtime.start());
  ::kill(::getpid(), SIGUSR2);
  const auto number = runtime.run(
      []() -> Task<Result<int>> { co_return co_await next_signal({SIGUSR1, SIGUSR2}); });
  EXPECT_EQ(number.value(), SIGUSR2);
}

TEST(Limits, open_files_go_as_high_as_they_may) {
  const auto limit = raise_open_file_limit();
  ASSERT_TRUE(limit);
  rlimit now{};
  ::getrlimit(RLIMIT_NOFILE, &now);
  EXPECT_EQ(*limit, now.rlim_cur);
  EXPECT_EQ(now.rlim_cur, now.rlim_max);
}

TEST(PosixDisk, what_is_allocated_takes_its_space) {
  Runtime runtime({.shards = 1});
  ASSERT_TRUE(runtime.start());
  const std::string path = testing::TempDir() + "allocate." + std::to_string(::getpid());
  runtime.run([&]() -> Task<void> {
    Disk& disk = Shard::current().disk();
    auto file = (co_await disk.open(path, OpenMode::kCreate)).value();
    EXPECT_TRUE(co_await file->allocate(1U << 20));
    EXPECT_TRUE(co_await file->sync());
    struct stat seen{};
    EXPECT_EQ(::stat(path.c_str(), &seen), 0);
    EXPECT_EQ(seen.st_size, 1 << 20);
    EXPECT_GE(seen.st_blocks * 512, 1 << 20);
    EXPECT_TRUE(co_await disk.remove(path));
  });
}

TEST(PosixNet, running_out_of_descriptors_is_told_and_does_not_spin) {
  Runtime runtime({.shards = 1});
  ASSERT_TRUE(runtime.start());
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  runtime.run([&]() -> Task<void> {
    Net& net = Shard::current().net();
    const Instant deadline = Shard::current().now() + 10s;
    auto listener = (co_await net.listen({"127.0.0.1", 0})).value();
    auto client = (co_await net.connect(listener->local(), deadline)).value();
    const int lowest = ::dup(0);
    ::close(lowest);
    rlimit tight = before;
    tight.rlim_cur = static_cast<rlim_t>(lowest);
    ::setrlimit(RLIMIT_NOFILE, &tight);
    const Instant start = Shard::current().now();
    for (int i = 0; i < 3; ++i) {
      const auto refused = co_await listener->accept();
      EXPECT_EQ(refused.error().code, Code::kExhausted);
    }
    EXPECT_GE(Shard::current().now() - start, Duration(90ms));
    ::setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_TRUE(co_await listener->accept());
  });
}

TEST(Descriptors, an_eighth_is_kept_for_files_within_bounds) {
  EXPECT_EQ(kept_for_files(100), 25U);
  EXPECT_EQ(kept_for_files(256), 64U);
  EXPECT_EQ(kept_for_files(1024), 128U);
  EXPECT_EQ(kept_for_files(1'048'576), 4096U);
}

TEST(Descriptors, connections_leave_enough_of_them_for_files) {
  Runtime runtime({.shards = 1});
  ASSERT_TRUE(runtime.start());
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const std::string path = testing::TempDir() + "kept." + std::to_string(::getpid()) + ".";
  runtime.run([&]() -> Task<void> {
    Net& net = Shard::current().net();
    Disk& disk = Shard::current().disk();
    const Instant deadline = Shard::current().now() + 30s;
    auto listener = (co_await net.listen({"127.0.0.1", 0})).value();
    rlimit tight = before;
    tight.rlim_cur = 300;
    ::setrlimit(RLIMIT_NOFILE, &tight);
    std::vector<std::unique_ptr<Stream>> streams;
    std::string refused;
    while (refused.empty() && streams.size() < 300) {
      auto client = co_await net.connect(listener->local(), deadline);
      if (!client) break;
      streams.push_back(std::move(*client));
      auto server = co_await listener->accept();
      if (server) {
        streams.push_back(std::move(*server));
      } else {
        refused = server.error().message;
      }
    }
    EXPECT_GT(streams.size(), 100U);
    EXPECT_NE(refused.find("are for files"), std::string::npos) << refused;
    std::vector<std::shared_ptr<File>> files;
    for (int i = 0; i < 50; ++i) {
      auto file = co_await disk.open(path + std::to_string(i), OpenMode::kCreate);
      EXPECT_TRUE(file) << (file ? "" : file.error().message);
      if (file) files.push_back(std::move(*file));
    }
    files.clear();
    std::unique_ptr<Stream> last = std::move(streams.back());
    streams.clear();
    if (!refused.empty()) EXPECT_TRUE(co_await listener->accept()) << "it waited in the backlog";
    ::setrlimit(RLIMIT_NOFILE, &before);
    for (int i = 0; i < 50; ++i) (void)co_await disk.remove(path + std::to_string(i));
  });
}

TEST(Descriptors, clients_of_one_listener_leave_some_for_another) {
  Runtime runtime({.shards = 2});
  ASSERT_TRUE(runtime.start());
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  runtime.run([&]() -> Task<void> {
    Net& net = Shard::current().net();
    const Instant deadline = Shard::current().now() + 30s;
    auto crowded = (co_await net.listen({"127.0.0.1", 0})).value();
    auto other = (co_await net.listen({"127.0.0.1", 0})).value();
    rlimit tight = before;
    tight.rlim_cur = 300;
    ::setrlimit(RLIMIT_NOFILE, &tight);
    std::vector<std::unique_ptr<Stream>> streams;
    const auto connect_to = [&](Listener& listener) -> Task<bool> {
      auto client = co_await net.connect(listener.local(), deadline);
      if (!client) co_return false;
      streams.push_back(std::move(*client));
      auto server = co_await listener.accept();
      if (!server) co_return false;
      streams.push_back(std::move(*server));
      co_return true;
    };
    while (streams.size() < 300 && co_await connect_to(*crowded)) {
    }
    EXPECT_GT(streams.size(), 100U);
    EXPECT_LT(streams.size(), 300U);
    for (int i = 0; i < 8; ++i) EXPECT_TRUE(co_await connect_to(*other)) << i;
    EXPECT_FALSE(co_await connect_to(*crowded)) << "what is left is not for its clients";
    streams.clear();
    ::setrlimit(RLIMIT_NOFILE, &before);
  });
}

TEST(WritePatience, lasts_for_as_long_as_bytes_are_confirmed_and_ends_when_none_are) {
  const Instant start{0};
  WritePatience patience(start, 8s);
  EXPECT_EQ(patience.next_look(start), start + 2s);
  Instant now = start;
  for (std::int64_t left = 1'000'000; left > 0; left -= 1'000) {
    now = now + 7s;  // a thousand bytes at a time, for two hours
    ASSERT_FALSE(patience.is_over(now, left)) << left;
  }
  EXPECT_FALSE(patience.is_over(now + 7s, 1'000)) << "nothing was confirmed, but not for long enough";
  EXPECT_EQ(patience.next_look(now + 7s), now + 8s);
  EXPECT_TRUE(patience.is_over(now + 8s, 1'000));
}

TEST(WritePatience, what_nobody_can_tell_is_no_progress) {
  WritePatience patience(Instant{0}, 8s);
  EXPECT_FALSE(patience.is_over(Instant{0} + 2s, std::nullopt));
  EXPECT_TRUE(patience.is_over(Instant{0} + 8s, std::nullopt));
}

TEST(PosixNet, a_peer_that_takes_little_at_a_time_is_waited_for_and_one_that_takes_nothing_is_not) {
  Runtime runtime({.shards = 1});
  ASSERT_TRUE(runtime.start());
  runtime.run([]() -> Task<void> {
    constexpr Duration kPatience = 1s;
    Net& net = Shard::current().net();
    auto listener = (co_await net.listen({"127.0.0.1", 0})).value();
    auto client =
        (co_await net.connect(listener->local(), Shard::current().now() + 10s)).value();
    auto server = (co_await listener->accept()).value();
    TaskGroup group;
    Instant ended = Instant::never();
    const auto send = [&](Stream* stream) -> Task<void> {
      std::vector<Piece> pieces;
      pieces.emplace_back(SharedBytes(Bytes(60'000'000)));
      const auto written = co_await stream->write_while_taken(std::move(pieces), kPatience);
      EXPECT_EQ(written.error().code, Code::kTimedOut);
      ended = Shard::current().now();
    };
    group.spawn(send(server.get()));
    Bytes out(300'000);
    Instant last = Shard::current().now();
    for (int i = 0; i < 15; ++i) {
      co_await sleep_for(200ms);  // a reader that takes its time is what this is about
      EXPECT_EQ(ended, Instant::never());
      const auto got = co_await client->read_some(out, Shard::current().now() + 10s);
      EXPECT_TRUE(got);
      last = Shard::current().now();
    }
    co_await group.join();
    EXPECT_GE(ended - last, kPatience - 1ms);
  });
}

TEST(PosixNet, resolves_names_and_speaks_ipv6) {
  Runtime runtime({.shards = 1});
  ASSERT_TRUE(runtime.start());
  runtime.run([]() -> Task<void> {
    Net& net = Shard::current().net();
    const Instant deadline = Shard::current().now() + 20s;
    auto listener = (co_await net.listen({"localhost", 0})).value();
    EXPECT_TRUE(co_await net.connect({"localhost", listener->local().port}, deadline));
    const auto nobody = co_await net.connect({"no-such-host.invalid", 1}, deadline);
    EXPECT_EQ(nobody.error().code, Code::kNotFound);
    auto six = co_await net.listen({"::1", 0});
    if (six) {  // where the machine has it
      EXPECT_EQ((*six)->local().host, "::1");
      EXPECT_TRUE(co_await net.connect((*six)->local(), deadline));
    }
  });
}

}  // namespace
}  // namespace pyralog::io::posix
