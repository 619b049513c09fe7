// The memory of a shard's requests: bounded, no circle, and room for small ones.
#include "protocol/kafka/request_memory.h"

#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/api_versions.h"

namespace pyralog::protocol::kafka {
namespace {

constexpr std::size_t kMiB = 1u << 20;

/// Of 160 MiB, 8 are for small requests, 40 for ordinary ones and the rest for large ones.
constexpr std::size_t kLargest = 112 * kMiB;

/// Outlives the machines that use it.
struct Uploads {
  RequestMemory memory_{160 * kMiB};
  std::size_t most_ = 0;
  int done_ = 0;
  RequestMemory::Holder client_{memory_};
  RequestMemory::Holder other_{memory_};
  std::vector<RequestMemory::Hold> held_;
  std::string came_;
};

class RequestMemoryTest : protected Uploads, public testing::KafkaTest {
 protected:
  RequestMemoryTest() : KafkaTest(1) {}
  ~RequestMemoryTest() override { give_back(held_.size()); }
  /// Receives a request of `whole` bytes, twice as much with each step, and serves it.
  io::Task<void> upload(std::size_t whole, Duration step = 1ms) {
    RequestMemory::Holder holder(memory_);
    auto hold = co_await memory_.begin(holder, whole, kMiB, Instant::never());
    for (std::size_t now = kMiB; now < whole; now = std::min(whole, now * 2)) {
      most_ = std::max(most_, memory_.used());
      co_await io::sleep_for(step);
      EXPECT_TRUE(co_await memory_.grow(hold, std::min(whole, now * 2), Instant::never()));
    }
    most_ = std::max(most_, memory_.used());
    co_await io::sleep_for(step);
    ++done_;
  }
  void start_upload(std::size_t whole, Duration step = 1ms) {
    node().spawn([=, this] { return upload(whole, step); });
  }
  /// A whole request that is there and being served.
  void take(RequestMemory::Holder& holder, std::size_t bytes, std::string name = "") {
    node().spawn([=, this, &holder]() -> io::Task<void> {
      held_.push_back(co_await memory_.begin(holder, bytes, bytes, Instant::never()));
      came_ += name;
    });
    sim_.run_for(1s);
  }
  void give_back(std::size_t count) {
    node().run([=, this]() -> io::Task<bool> {
      for (std::size_t i = 0; i < count; ++i) held_[i].release();
      held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(count));
      co_return true;
    });
    sim_.run_for(1s);
  }
};

TEST_F(RequestMemoryTest, large_requests_at_once_all_end_within_the_limit) {
  for (int i = 0; i < 20; ++i) start_upload((i % 3 == 0 ? 100 : 70) * kMiB);
  sim_.run_for(60s);
  EXPECT_EQ(done_, 20);
  EXPECT_LE(most_, kLargest);
  EXPECT_GE(most_, 70 * kMiB);
  EXPECT_EQ(memory_.used(), 0u);
}

TEST_F(RequestMemoryTest, requests_of_all_sizes_at_once_all_end_within_the_limit) {
  constexpr std::size_t kSizes[] = {100 * kMiB, 3 * kMiB, 20 * kMiB, 32u << 10, 25 * kMiB, kMiB};
  for (int i = 0; i < 300; ++i) start_upload(kSizes[static_cast<std::size_t>(i) % 6], 1ms * (i % 7));
  sim_.run_for(60s);
  EXPECT_EQ(done_, 300);
  EXPECT_LE(most_, memory_.limit());
  EXPECT_GE(most_, kLargest) << "ordinary ones use what large ones leave";
  EXPECT_EQ(memory_.used(), 0u);
  EXPECT_GT(memory_.waits().count, 0u);
  EXPECT_GT(memory_.waits().time, Duration(0));
}

TEST_F(RequestMemoryTest, what_is_being_served_counts) {
  take(client_, kLargest);
  start_upload(70 * kMiB);
  sim_.run_for(1s);
  EXPECT_EQ(memory_.used(), kLargest);
  EXPECT_EQ(done_, 0);
  give_back(1);
  EXPECT_EQ(done_, 1);
}

TEST_F(RequestMemoryTest, more_than_there_will_ever_be_counts_as_all_of_it) {
  start_upload(300 * kMiB);
  start_upload(300 * kMiB);
  sim_.run_for(60s);
  EXPECT_EQ(done_, 2);
  EXPECT_EQ(most_, kLargest);
}

TEST_F(RequestMemoryTest, small_requests_do_not_wait_behind_large_ones) {
  start_upload(kLargest, 1h);
  sim_.run_for(5h);
  start_upload(kLargest);
  sim_.run_for(1s);
  EXPECT_EQ(memory_.used(), 32 * kMiB) << "half of what has come, and the next one waits";
  start_upload(RequestMemory::kSmall);
  sim_.run_for(1s);
  EXPECT_EQ(done_, 1);
  sim_.run_for(24h);
  EXPECT_EQ(done_, 3);
}

TEST_F(RequestMemoryTest, ordinary_requests_do_not_wait_behind_large_ones) {
  start_upload(kLargest, 1h);
  sim_.run_for(5h);
  start_upload(kLargest);
  sim_.run_for(1s);
  for (int i = 0; i < 100; ++i) start_upload(2 * kMiB);
  sim_.run_for(1s);
  EXPECT_EQ(done_, 100);
  sim_.run_for(24h);
  EXPECT_EQ(done_, 102);
}

TEST_F(RequestMemoryTest, who_holds_its_fair_part_lets_others_go_first) {
  take(client_, kLargest - 50 * kMiB);
  take(client_, 50 * kMiB);
  take(client_, 20 * kMiB);
  take(client_, 20 * kMiB);
  take(client_, 20 * kMiB, "client ");
  take(other_, 20 * kMiB, "other ");
  EXPECT_EQ(came_, "");
  give_back(1);  // there is room for both now
  EXPECT_EQ(came_, "other client ");
}

TEST_F(RequestMemoryTest, who_waits_goes_when_its_time_is_over_or_its_client_left) {
  take(client_, kLargest);
  const auto wait = [this](Duration time) {
    return node().run([this, time]() -> io::Task<bool> {
      const auto hold = co_await memory_.begin(other_, 30 * kMiB, 30 * kMiB, in(time));
      co_return static_cast<bool>(hold);
    });
  };
  EXPECT_FALSE(wait(10s));
  node().spawn([this]() -> io::Task<void> {
    co_await io::sleep_for(1s);
    other_.leave();
  });
  const Instant begun = sim_.now();
  EXPECT_FALSE(wait(1h));
  EXPECT_LT(sim_.now() - begun, 2s);
  give_back(1);
  EXPECT_EQ(memory_.used(), 0u);
}

TEST_F(RequestMemoryTest, who_only_announces_a_large_request_holds_nobody_up) {
  start();
  EXPECT_TRUE(sim_.node(1).run([&]() -> io::Task<bool> {
    const auto idler = co_await connect();
    const auto client = co_await connect();
    Bytes length(4);
    store_be(length.data(), static_cast<std::int32_t>(100 * kMiB));
    co_await idler->send_raw(std::move(length));
    co_await io::sleep_for(1s);
    const Instant begun = io::Shard::current().now();
    static_cast<void>(
        co_await client->call<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0));
    EXPECT_EQ(co_await create(*client, "t"), 0);
    const auto sent = co_await send(*client, "t", testing::batch_of({std::string(500'000, 'x')}));
    EXPECT_EQ(sent.error_code, 0) << "also one that is not small";
    EXPECT_LT(io::Shard::current().now() - begun, 5s);
    idler->close();
    client->close();
    co_return true;
  }));
}

}  // namespace
}  // namespace pyralog::protocol::kafka
