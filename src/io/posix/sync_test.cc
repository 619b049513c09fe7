// What reaches the system when files are synced. This binary has its own fdatasync, which the library
// calls: it counts, can be held at a gate, and can fail.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "io/disk.h"
#include "io/posix/posix_shard.h"
#include "io/posix/posix_stream.h"
#include "io/posix/runtime.h"

namespace {
struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  int begun = 0;
  int ended = 0;
  bool closed = false;
  int let_through = 0;  ///< so many, though it is closed
  int fail_with = 0;
} gate;
}  // namespace

extern "C" int fdatasync(int fd) {
  int fail_with = 0;
  {
    std::unique_lock lock(gate.mutex);
    ++gate.begun;
    gate.changed.notify_all();
    gate.changed.wait(lock, [] { return !gate.closed || gate.let_through > 0; });
    if (gate.closed) --gate.let_through;
    fail_with = gate.fail_with;
  }
  const int result = fail_with == 0 ? static_cast<int>(::syscall(SYS_fdatasync, fd)) : -1;
  {
    const std::lock_guard lock(gate.mutex);
    ++gate.ended;
  }
  gate.changed.notify_all();
  if (fail_with != 0) errno = fail_with;
  return result;
}

namespace pyralog::io::posix {
namespace {

class Sync : public testing::Test {
 protected:
  static constexpr int kThreads = 4;  ///< that sync
  Sync() : runtime_({.shards = 1, .sync_threads = kThreads}) {
    std::string name = (std::filesystem::temp_directory_path() / "pyralog-sync-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
    const std::lock_guard lock(gate.mutex);
    gate.begun = gate.ended = gate.fail_with = gate.let_through = 0;
    gate.closed = false;
    PYRALOG_ASSERT(runtime_.start());
  }
  ~Sync() override {
    runtime_.stop();
    std::filesystem::remove_all(directory_);
  }
  static void set_closed(bool closed) {
    {
      const std::lock_guard lock(gate.mutex);
      gate.closed = closed;
    }
    gate.changed.notify_all();
  }
  static int begun() {
    const std::lock_guard lock(gate.mutex);
    return gate.begun;
  }
  static int ended() {
    const std::lock_guard lock(gate.mutex);
    return gate.ended;
  }
  [[nodiscard]] std::shared_ptr<File> open(const std::string& name) {
    return runtime_.run([path = directory_ + "/" + name]() -> Task<std::shared_ptr<File>> {
      co_return (co_await Shard::current().disk().open(path, OpenMode::kCreate)).value();
    });
  }
  /// One that may be written past the page cache.
  [[nodiscard]] ByteView block() {
    constexpr std::size_t kBlock = File::kDirectBlock;
    space_.resize(2 * kBlock);
    return ByteView(space_).subspan(kBlock - reinterpret_cast<std::uintptr_t>(space_.data()) % kBlock, kBlock);
  }
  /// Waits until so many syncs are at the gate; opens it if that takes for ever.
  static Task<bool> all_begun(int count) {
    for (int i = 0; i < 10'000 && begun() < count; ++i) co_await sleep_for(std::chrono::milliseconds(1));
    if (begun() < count) set_closed(false);
    co_return begun() >= count;
  }
  /// One that has begun fails.
  static void let_one_fail() {
    {
      const std::lock_guard lock(gate.mutex);
      gate.fail_with = EIO;
      gate.let_through = 1;
    }
    gate.changed.notify_all();
  }
  void close(std::shared_ptr<File> file) {
    runtime_.run([&file]() -> Task<void> {
      file.reset();
      co_return;
    });
  }

  Runtime runtime_;
  std::string directory_;
  Bytes space_;
};

TEST_F(Sync, returns_only_after_fdatasync) {
  auto file = open("a");
  runtime_.run([&]() -> Task<void> {
    for (int i = 1; i <= 20; ++i) {
      EXPECT_TRUE(file->write_at(0, as_bytes("x")));
      EXPECT_TRUE(co_await file->sync());
      EXPECT_EQ(ended(), i);
    }
  });
  close(std::move(file));
}

TEST_F(Sync, a_sync_in_flight_does_not_cover_a_later_write) {
  auto file = open("a");
  set_closed(true);
  runtime_.run([&]() -> Task<void> {
    std::vector<int> ended_at_return;
    TaskGroup group;
    const auto sync = [](File* f, std::vector<int>* ends) -> Task<void> {
      EXPECT_TRUE(co_await f->sync());
      ends->push_back(ended());
    };
    group.spawn(sync(file.get(), &ended_at_return));
    while (begun() == 0) co_await sleep_for(std::chrono::milliseconds(1));
    // The first is in flight: these were written after it began.
    for (int i = 0; i < 5; ++i) {
      EXPECT_TRUE(file->write_at(static_cast<std::uint64_t>(i), as_bytes("y")));
      group.spawn(sync(file.get(), &ended_at_return));
    }
    set_closed(false);
    co_await group.join();
    EXPECT_EQ(ended_at_return.size(), 6U);
    EXPECT_GE(ended_at_return.front(), 1);  // the next is lined up, and may be quicker than this shard
    for (std::size_t i = 1; i < ended_at_return.size(); ++i) EXPECT_EQ(ended_at_return[i], 2);
    EXPECT_EQ(begun(), 2);  // one more covered all five
  });
  close(std::move(file));
}

TEST_F(Sync, the_next_waits_for_the_one_under_way_and_fails_with_it) {
  auto file = open("a");
  set_closed(true);
  gate.fail_with = EIO;
  runtime_.run([&]() -> Task<void> {
    TaskGroup group;
    int failed = 0;
    const auto sync = [](File* f, int* failures) -> Task<void> {
      if (!co_await f->sync()) ++*failures;
    };
    group.spawn(sync(file.get(), &failed));
    while (begun() == 0) co_await sleep_for(std::chrono::milliseconds(1));
    EXPECT_TRUE(file->write_at(0, as_bytes("y")));
    group.spawn(sync(file.get(), &failed));
    // Nothing tells that a thread does not begin: long enough for one of the pool that does not wait.
    for (int i = 0; i < 20; ++i) co_await sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(begun(), 1);
    set_closed(false);
    while (begun() == 1 && failed < 2) co_await sleep_for(std::chrono::milliseconds(1));
    gate.fail_with = 0;
    co_await group.join();
    EXPECT_EQ(failed, 2);
    EXPECT_EQ(begun(), 1);  // the system would say that all is well
    EXPECT_EQ(file->syncs(), 0U);
  });
  close(std::move(file));
}

TEST_F(Sync, after_a_failure_no_sync_succeeds_and_none_is_tried) {
  auto file = open("a");
  gate.fail_with = EIO;
  runtime_.run([&]() -> Task<void> {
    EXPECT_TRUE(file->write_at(0, as_bytes("x")));
    const auto failed = co_await file->sync();
    EXPECT_FALSE(failed);
    if (!failed) {
      EXPECT_EQ(failed.error().code, Code::kIo);
      EXPECT_EQ(failed.error().sys_errno, EIO);
      EXPECT_NE(failed.error().message.find(file->path()), std::string::npos);
    }
    gate.fail_with = 0;
    EXPECT_FALSE(co_await file->sync());
    EXPECT_EQ(begun(), 1);
  });
  close(std::move(file));
}

TEST_F(Sync, nothing_is_sent_of_a_file_whose_sync_has_failed) {
  auto file = open("a");
  runtime_.run([&]() -> Task<void> {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
    PosixStream stream(static_cast<PosixShard&>(Shard::current()), ends[0], {"127.0.0.1", 1});
    const auto send = [&] {
      std::vector<Piece> pieces;
      pieces.emplace_back(FileRange{file, 0, 6});
      return stream.write(std::move(pieces), Instant::never());
    };
    EXPECT_TRUE(file->write_at(0, as_bytes("record")));
    EXPECT_TRUE(co_await send());
    gate.fail_with = EIO;
    EXPECT_FALSE(co_await file->sync());
    gate.fail_with = 0;
    const auto refused = co_await send();
    EXPECT_FALSE(refused);
    if (!refused) EXPECT_NE(refused.error().message.find(file->path()), std::string::npos);
    std::array<char, 16> got{};
    EXPECT_EQ(::recv(ends[1], got.data(), got.size(), 0), 6);
    ::close(ends[1]);
  });
  close(std::move(file));
}

TEST_F(Sync, durable_writes_go_side_by_side_and_return_after_fdatasync) {
  auto file = open("a");
  const ByteView block = this->block();
  set_closed(true);
  runtime_.run([&]() -> Task<void> {
    TaskGroup group;
    std::vector<int> ended_at_return;
    const auto write = [](File* f, std::uint64_t at, ByteView bytes, std::vector<int>* ends) -> Task<void> {
      EXPECT_TRUE(co_await f->write_durably(at, bytes));
      ends->push_back(ended());
    };
    for (std::uint64_t i = 0; i < 2; ++i) group.spawn(write(file.get(), i * block.size(), block, &ended_at_return));
    EXPECT_TRUE(co_await all_begun(2)) << "do files here take writes past the page cache?";
    EXPECT_TRUE(ended_at_return.empty());
    set_closed(false);
    co_await group.join();
    EXPECT_GE(ended_at_return.front(), 1);
    EXPECT_EQ(ended_at_return.back(), 2);
    EXPECT_EQ(file->syncs(), 2U);
    // Once one has failed nothing of the file becomes durable.
    gate.fail_with = EIO;
    EXPECT_FALSE(co_await file->write_durably(0, block));
    gate.fail_with = 0;
    EXPECT_FALSE(co_await file->write_durably(0, block));
    EXPECT_FALSE(co_await file->sync());
    EXPECT_EQ(begun(), 3);
  });
  close(std::move(file));
}

TEST_F(Sync, one_that_fails_takes_those_along_that_go_beside_it) {
  auto file = open("a");
  const ByteView block = this->block();
  set_closed(true);
  runtime_.run([&]() -> Task<void> {
    TaskGroup group;
    int failed = 0;
    const auto write = [](File* f, std::uint64_t at, ByteView bytes, int* failures) -> Task<void> {
      if (!co_await f->write_durably(at, bytes)) ++*failures;
    };
    for (std::uint64_t i = 0; i < 2; ++i) group.spawn(write(file.get(), i * block.size(), block, &failed));
    EXPECT_TRUE(co_await all_begun(2)) << "do files here take writes past the page cache?";
    let_one_fail();
    for (int i = 0; i < 10'000 && failed == 0; ++i) co_await sleep_for(std::chrono::milliseconds(1));
    // The device says that the other one is well.
    gate.fail_with = 0;
    set_closed(false);
    co_await group.join();
    EXPECT_EQ(failed, 2);
    EXPECT_EQ(file->syncs(), 0U);
  });
  close(std::move(file));
}

TEST_F(Sync, none_that_waited_for_a_thread_begins_behind_one_that_has_failed) {
  auto file = open("a");
  const ByteView block = this->block();
  set_closed(true);
  runtime_.run([&]() -> Task<void> {
    constexpr int kWrites = 3 * kThreads;
    TaskGroup group;
    int failed = 0;
    const auto write = [](File* f, std::uint64_t at, ByteView bytes, int* failures) -> Task<void> {
      if (!co_await f->write_durably(at, bytes)) ++*failures;
    };
    for (std::uint64_t i = 0; i < kWrites; ++i) group.spawn(write(file.get(), i * block.size(), block, &failed));
    EXPECT_TRUE(co_await all_begun(kThreads)) << "do files here take writes past the page cache?";
    let_one_fail();
    for (int i = 0; i < 10'000 && failed == 0; ++i) co_await sleep_for(std::chrono::milliseconds(1));
    gate.fail_with = 0;
    set_closed(false);
    co_await group.join();
    EXPECT_EQ(failed, kWrites);
    EXPECT_EQ(begun(), kThreads);
  });
  close(std::move(file));
}

TEST_F(Sync, a_set_fans_out_and_each_file_has_its_result) {
  std::vector<std::shared_ptr<File>> files;
  for (int i = 0; i < 4; ++i) files.push_back(open("f" + std::to_string(i)));
  set_closed(true);
  runtime_.run([&]() -> Task<void> {
    TaskGroup group;
    const auto sync = [](std::vector<std::shared_ptr<File>> set) -> Task<void> {
      for (const auto& result : co_await Shard::current().disk().sync(std::move(set))) {
        EXPECT_TRUE(result);
      }
    };
    group.spawn(sync(files));
    // All four are in flight at once.
    while (begun() < 4) co_await sleep_for(std::chrono::milliseconds(1));
    set_closed(false);
    co_await group.join();
    files.clear();
  });
}

}  // namespace
}  // namespace pyralog::io::posix
