#include "replica/promises.h"

#include <gtest/gtest.h>

#include "io/sim/simulator.h"

namespace pyralog::replica {
namespace {

PartitionId partition(std::uint8_t number) {
  PartitionId id;
  id.topic.uuid.bytes[0] = number;
  id.partition = PartitionIndex(number);
  return id;
}

Promise promise(std::uint32_t epoch) {
  Promise out;
  out.promised = Epoch(epoch);
  out.joined = Epoch(epoch - 1);
  return out;
}

Promises::Options options() {
  Promises::Options out;
  out.owner.bytes[0] = 1;
  return out;
}

TEST(PromisesTest, what_is_promised_survives_power_loss) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    io::sim::Simulator sim(seed);
    io::sim::Node& node = sim.add_node();
    const auto life = [&](auto body) {
      return node.run([&]() -> io::Task<bool> {
        io::Disk& disk = io::Shard::current().disk();
        EXPECT_TRUE(co_await disk.make_dirs("/data"));
        auto opened = co_await Promises::open(disk, "/data", options());
        EXPECT_TRUE(opened) << opened.error().message;
        if (!opened) co_return false;
        co_await body(**opened);
        co_await (*opened)->stop();
        co_return true;
      });
    };
    for (std::uint32_t epoch = 2; epoch < 6; ++epoch) {
      ASSERT_TRUE(life([&](Promises& promises) -> io::Task<void> {
        for (std::uint8_t p = 1; p <= 3; ++p) {
          EXPECT_EQ(promises.of(partition(p)), epoch == 2 ? Promise{} : promise(epoch - 1)) << seed;
          EXPECT_TRUE(co_await promises.store(partition(p), promise(epoch)));
          EXPECT_EQ(promises.of(partition(p)), promise(epoch));
        }
      }));
      node.lose_power();
      node.restart();
    }
  }
}

TEST(PromisesTest, a_long_journal_is_made_short_and_forgets_what_is_gone) {
  io::sim::Simulator sim(3);
  io::sim::Node& node = sim.add_node();
  ASSERT_TRUE(node.run([&]() -> io::Task<bool> {
    io::Disk& disk = io::Shard::current().disk();
    EXPECT_TRUE(co_await disk.make_dirs("/data"));
    Promises::Options small = options();
    small.rewrite_bytes = 2000;
    auto opened = co_await Promises::open(disk, "/data", small);
    for (std::uint32_t epoch = 2; epoch < 200; ++epoch) {
      EXPECT_TRUE(co_await (*opened)->store(partition(1), promise(epoch)));
      if (epoch == 3) EXPECT_TRUE(co_await (*opened)->store(partition(2), promise(epoch)));
      if (epoch == 4) (*opened)->forget(partition(2));
    }
    co_await (*opened)->stop();
    co_return true;
  }));
  EXPECT_LT(node.disk().peek("/data/promises.log")->size(), 5000u);
  node.lose_power();
  node.restart();
  ASSERT_TRUE(node.run([&]() -> io::Task<bool> {
    auto opened = co_await Promises::open(io::Shard::current().disk(), "/data", options());
    EXPECT_TRUE(opened);
    EXPECT_EQ((*opened)->of(partition(1)), promise(199));
    EXPECT_EQ((*opened)->of(partition(2)), Promise{});
    Promises::Options other = options();
    other.owner.bytes[0] = 2;
    opened->reset();
    EXPECT_FALSE(co_await Promises::open(io::Shard::current().disk(), "/data", other)) << "another disk's";
    co_return true;
  }));
}

}  // namespace
}  // namespace pyralog::replica
