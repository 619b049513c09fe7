#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

#include "io/pools.h"
#include "io/posix/follow_readers.h"
#include "io/posix/posix_shard.h"
#include "io/posix/runtime.h"
#include "io/posix/send_pipe.h"

namespace pyralog::io::posix {
namespace {

using namespace std::chrono_literals;

/// A file of one letter; and two ends of a connection that do not wait.
class SendPipeTest : public testing::Test {
 protected:
  SendPipeTest() {
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, first_.data()), 0);
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, second_.data()), 0);
  }
  ~SendPipeTest() override {
    for (const int fd : opened_) ::close(fd);
    for (const int fd : first_) ::close(fd);
    for (const int fd : second_) ::close(fd);
  }
  int file_of(char letter, std::size_t bytes) {
    const std::string path = testing::TempDir() + "send_pipe." + std::to_string(::getpid());
    const int fd = ::open(path.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    ::unlink(path.c_str());
    opened_.push_back(fd);
    const std::string content(bytes, letter);
    EXPECT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(bytes));
    return fd;
  }
  /// What has arrived at an end.
  static std::string taken_from(int socket) {
    std::string all;
    std::array<char, 65'536> part{};
    while (true) {
      const ssize_t got = ::recv(socket, part.data(), part.size(), 0);
      if (got <= 0) return all;
      all.append(part.data(), static_cast<std::size_t>(got));
    }
  }

  SendPipe pipe_;
  std::array<int, 2> first_{};
  std::array<int, 2> second_{};
  std::vector<int> opened_;
};

TEST_F(SendPipeTest, what_a_full_socket_does_not_take_reaches_no_other) {
  const int slow = file_of('a', 2'000'000);
  const int quick = file_of('b', 300'000);
  std::size_t taken = 0;
  while (true) {
    const SendPipe::Sent sent = pipe_.send(first_[0], slow, taken, SendPipe::kBytes);
    taken += sent.bytes;
    if (sent.error == EAGAIN) break;
    ASSERT_EQ(sent.error, 0);
    ASSERT_LT(taken, 2'000'000U) << "it is never full";
  }
  const SendPipe::Sent sent = pipe_.send(second_[0], quick, 0, 100'000);
  EXPECT_EQ(sent.error, 0);
  EXPECT_GT(sent.bytes, 0U);
  EXPECT_EQ(taken_from(second_[1]), std::string(sent.bytes, 'b'));
  EXPECT_EQ(taken_from(first_[1]), std::string(taken, 'a'));
}

TEST_F(SendPipeTest, tells_the_end_of_a_file_from_a_socket_that_is_full) {
  const int file = file_of('a', 100'001);
  for (const std::size_t few : {std::size_t{10'000}, std::size_t{100'000}}) {
    const SendPipe::Sent rest = pipe_.send(first_[0], file, 100'000, few);
    EXPECT_EQ(rest.bytes, 1U);
    const SendPipe::Sent beyond = pipe_.send(first_[0], file, 100'001, few);
    EXPECT_EQ(beyond.offered, 0U);
    EXPECT_EQ(beyond.error, 0);
  }
  EXPECT_EQ(taken_from(first_[1]), "aa");
}

constexpr Duration kPeriod = FollowReaders::kPeriod;
constexpr std::uint64_t kMuch = 100'000'000;  // in a period

TEST(FollowReaders, stays_beside_readers_for_as_long_as_they_take_much) {
  FollowReaders follow;
  EXPECT_TRUE(follow.at_rest());
  follow.sent(1, kMuch);
  EXPECT_FALSE(follow.at_rest());
  EXPECT_EQ(follow.end_period(kPeriod, 8ms), std::nullopt) << "one period may be chance";
  for (int i = 0; i < 100; ++i) {
    follow.sent(1, kMuch);
    follow.sent(0, kMuch / 20);
    EXPECT_EQ(follow.end_period(kPeriod, 8ms), 1);
  }
  follow.sent(1, 100'000);
  EXPECT_EQ(follow.end_period(kPeriod, 1ms), std::nullopt);
  EXPECT_FALSE(follow.at_rest());
  EXPECT_EQ(follow.end_period(kPeriod, 0ms), std::nullopt);
  EXPECT_TRUE(follow.at_rest());
}

TEST(FollowReaders, one_shard_stays_at_each_processor) {
  FollowedProcessors followed;
  EXPECT_TRUE(followed.join(1));
  EXPECT_FALSE(followed.join(1));
  EXPECT_TRUE(followed.join(0));
  followed.leave(1);
  EXPECT_TRUE(followed.join(1));
}

TEST(FollowReaders, goes_nowhere_for_readers_on_several_processors) {
  FollowReaders follow;
  for (int i = 0; i < 20; ++i) {
    follow.sent(0, kMuch);
    follow.sent(1, kMuch);
    EXPECT_EQ(follow.end_period(kPeriod, 16ms), std::nullopt);
  }
  for (int i = 0; i < 20; ++i) {
    follow.sent(-1, kMuch);
    EXPECT_EQ(follow.end_period(kPeriod, 8ms), std::nullopt) << "nobody knows where";
  }
}

TEST(FollowReaders, goes_nowhere_with_much_other_work) {
  FollowReaders follow;
  for (int i = 0; i < 20; ++i) {
    follow.sent(1, kMuch / 5);
    EXPECT_EQ(follow.end_period(kPeriod, 19ms), std::nullopt);
  }
}

TEST(FollowReaders, does_not_chase_readers_that_move_away) {
  FollowReaders follow;
  unsigned moves = 0;
  int reader = 0;
  for (int i = 0; i < 1'000; ++i) {
    follow.sent(reader, kMuch);
    if (follow.end_period(kPeriod, 8ms) != reader) continue;
    ++moves;
    reader = 1 - reader;  // the system makes room for whoever came
  }
  EXPECT_LT(moves, 12U);
}

TEST(PosixShard, runs_beside_its_readers_and_where_it_may_when_they_have_gone) {
  cpu_set_t all;
  ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "there is one processor only";
  Runtime runtime({.shards = 1});
  ASSERT_TRUE(runtime.start());
  runtime.run([]() -> Task<void> {
    auto& shard = static_cast<PosixShard&>(Shard::current());
    cpu_set_t before;
    cpu_set_t now;
    EXPECT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    const int reader = ::sched_getcpu();
    const Instant deadline = shard.now() + 30s;
    // The system tells nobody when a thread is moved, so both loops look again until it has been.
    do {
      shard.sent_file(reader, 10'000'000'000);
      co_await sleep_for(2ms);  // nothing tells that a thread is not moved: ten periods go by
      EXPECT_EQ(::sched_getaffinity(0, sizeof now, &now), 0);
    } while (CPU_COUNT(&now) > 1 && shard.now() < deadline);
    EXPECT_EQ(CPU_COUNT(&now), 1);
    EXPECT_TRUE(CPU_ISSET(static_cast<std::size_t>(reader), &now));
    do {
      co_await sleep_for(2ms);
      EXPECT_EQ(::sched_getaffinity(0, sizeof now, &now), 0);
    } while (!CPU_EQUAL(&now, &before) && shard.now() < deadline);
    EXPECT_TRUE(CPU_EQUAL(&now, &before));
  });
}

TEST(PosixShard, goes_to_no_reader_if_it_is_not_to) {
  cpu_set_t all;
  ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "there is one processor only";
  Runtime runtime({.shards = 1, .follow_readers = false});
  ASSERT_TRUE(runtime.start());
  runtime.run([all]() -> Task<void> {
    auto& shard = static_cast<PosixShard&>(Shard::current());
    const int reader = ::sched_getcpu();
    const Instant end = shard.now() + 10 * FollowReaders::kPeriod;
    while (shard.now() < end) {
      shard.sent_file(reader, 10'000'000'000);
      co_await sleep_for(2ms);
      cpu_set_t now;
      EXPECT_EQ(::sched_getaffinity(0, sizeof now, &now), 0);
      EXPECT_TRUE(CPU_EQUAL(&now, &all));
    }
  });
}

TEST(Pools, run_where_the_process_may_though_shards_stay_somewhere) {
  cpu_set_t all;
  ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
  Runtime runtime({.shards = 1, .pin = true});
  ASSERT_TRUE(runtime.start());
  runtime.run([all]() -> Task<void> {
    const cpu_set_t there = co_await run_in(Pool::kWork, [] {
      cpu_set_t set;
      EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
      return set;
    });
    EXPECT_TRUE(CPU_EQUAL(&there, &all));
  });
}

}  // namespace
}  // namespace pyralog::io::posix
