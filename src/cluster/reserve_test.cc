// The file that keeps space.
#include "cluster/reserve.h"

#include "cluster/testing.h"

namespace pyralog::cluster {
namespace {

using testing::ClusterTest;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1u << 20;

class ReserveTest : public ClusterTest {
 protected:
  std::uint64_t free_bytes() {
    return node().run([]() -> io::Task<std::uint64_t> {
      co_return (co_await io::Shard::current().disk().space("/")).value().free_bytes;
    });
  }
  /// Writes until nothing fits any more.
  void fill() {
    node().run([this]() -> io::Task<bool> {
      auto file = (co_await disk().open("/data/foreign", io::OpenMode::kOpenOrCreate)).value();
      const Bytes some(512);
      while (file->write_at(file->size(), some)) {
      }
      co_return true;
    });
  }
};

TEST_F(ReserveTest, takes_its_space_and_gives_it_back) {
  disk().options().capacity = 8 * kMiB;
  EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
              Reserve& reserve = cluster.reserve();
              EXPECT_EQ(reserve.bytes(), 0u);
              EXPECT_TRUE(co_await reserve.release()) << "there is none";
              EXPECT_TRUE(co_await reserve.hold(kMiB));
              EXPECT_EQ(reserve.bytes(), kMiB);
              EXPECT_TRUE(co_await reserve.hold(2 * kMiB));
              EXPECT_TRUE(co_await reserve.hold(kMiB / 2));
              EXPECT_EQ(reserve.bytes(), kMiB / 2);
              EXPECT_EQ(bytes_of("/data/reserve").size(), kMiB / 2);
              EXPECT_EQ((co_await reserve.hold(9 * kMiB)).error().code, Code::kExhausted);
              EXPECT_EQ(reserve.bytes(), 0u);
              EXPECT_FALSE(disk().peek("/data/reserve")) << "a part of it is of no use";
            }),
            "");
}

TEST_F(ReserveTest, outlives_a_power_loss_and_is_gone_for_good_when_it_is_gone) {
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_TRUE(co_await cluster.reserve().hold(kMiB));
            }),
            "");
  restart(true);
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_EQ(cluster.reserve().bytes(), kMiB);
              EXPECT_TRUE(co_await cluster.reserve().release());
            }),
            "");
  restart(true);
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_EQ(cluster.reserve().bytes(), 0u);
              co_return;
            }),
            "");
}

TEST_F(ReserveTest, goes_before_a_start_on_a_full_disk_is_counted) {
  disk().options().capacity = 8 * kMiB;
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_TRUE(co_await cluster.reserve().hold(kMiB));
            }),
            "");
  fill();
  restart();
  ASSERT_LT(free_bytes(), 512u);
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_EQ(cluster.reserve().bytes(), 0u);
              EXPECT_TRUE(co_await create(cluster, "t"));
            }),
            "");
  // With nothing left to let go it says what is wrong.
  fill();
  restart();
  EXPECT_THAT(life(), HasSubstr("no space left"));
}

}  // namespace
}  // namespace pyralog::cluster
