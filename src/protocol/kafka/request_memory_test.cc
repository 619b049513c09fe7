// The memory of a shard's requests: bounded, no circle, and room for small ones.
#include "protocol/kafka/request_memory.h"

#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/api_versions.h"

namespace pyralog::protocol::kafka {
namespace {

constexpr std::size_t kMiB = 1u << 20;

/// Outlives the machines that use it.
struct Uploads {
  RequestMemory memory_{100 * kMiB, kMiB};
  std::size_t most_ = 0;
  int done_ = 0;
};

class RequestMemoryTest : protected Uploads, public testing::KafkaTest {
 protected:
  RequestMemoryTest() : KafkaTest(1) {}
  /// Receives a request of `whole` bytes, twice as much with each step, and serves it.
  io::Task<void> upload(std::size_t whole, Duration step = 1ms) {
    auto hold = co_await memory_.begin(whole, kMiB);
    for (std::size_t now = kMiB; now < whole; now = std::min(whole, now * 2)) {
      most_ = std::max(most_, memory_.used());
      co_await io::sleep_for(step);
      co_await memory_.grow(hold, std::min(whole, now * 2));
    }
    most_ = std::max(most_, memory_.used());
    co_await io::sleep_for(step);
    ++done_;
  }
  void start_upload(std::size_t whole, Duration step = 1ms) {
    node().spawn([=, this] { return upload(whole, step); });
  }
};

TEST_F(RequestMemoryTest, large_requests_at_once_all_end_within_the_limit) {
  for (int i = 0; i < 20; ++i) start_upload((i % 3 == 0 ? 100 : 70) * kMiB);
  sim_.run_for(60s);
  EXPECT_EQ(done_, 20);
  EXPECT_LE(most_, 100 * kMiB);
  EXPECT_GE(most_, 70 * kMiB);
  EXPECT_EQ(memory_.used(), 0u);
}

TEST_F(RequestMemoryTest, what_is_being_served_counts) {
  RequestMemory::Hold served = node().run([this]() -> io::Task<RequestMemory::Hold> {
    co_return co_await memory_.begin(100 * kMiB, 100 * kMiB);
  });
  start_upload(70 * kMiB);
  sim_.run_for(1s);
  EXPECT_EQ(memory_.used(), 100 * kMiB);
  EXPECT_EQ(done_, 0);
  node().run([&]() -> io::Task<bool> {
    served.release();
    co_return true;
  });
  sim_.run_for(1s);
  EXPECT_EQ(done_, 1);
}

TEST_F(RequestMemoryTest, more_than_there_will_ever_be_counts_as_all_of_it) {
  start_upload(300 * kMiB);
  start_upload(300 * kMiB);
  sim_.run_for(60s);
  EXPECT_EQ(done_, 2);
  EXPECT_EQ(most_, 100 * kMiB);
}

TEST_F(RequestMemoryTest, small_requests_do_not_wait_behind_large_ones) {
  start_upload(100 * kMiB, 1h);
  sim_.run_for(5h);
  start_upload(100 * kMiB);
  sim_.run_for(1s);
  EXPECT_EQ(memory_.used(), 32 * kMiB) << "half of what has come, and the next one waits";
  start_upload(RequestMemory::kSmall);
  sim_.run_for(1s);
  EXPECT_EQ(done_, 1);
  sim_.run_for(24h);
  EXPECT_EQ(done_, 3);
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
