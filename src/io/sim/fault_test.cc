// Faults of disks, networks and clocks that are no crash.
#include <gtest/gtest.h>

#include "io/disk.h"
#include "io/net.h"
#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"

namespace pyralog::io::sim {
namespace {

using namespace std::chrono_literals;

Disk& disk() { return Shard::current().disk(); }
Instant in(Duration time) { return Shard::current().now() + time; }

Task<std::shared_ptr<File>> create(std::string path) {
  co_return (co_await disk().open(std::move(path), OpenMode::kOpenOrCreate)).value();
}

TEST(DiskFaults, the_pages_of_a_failed_sync_are_lost_though_they_can_be_read) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Simulator sim(seed);
    Node& node = sim.add_node({.disk = {.writeback = 0}});
    node.run([&]() -> Task<void> {
      auto file = co_await create("/a");
      EXPECT_TRUE(co_await disk().sync_dir("/"));
      EXPECT_TRUE(file->write_at(0, as_bytes("lost")));
      node.disk().options().sync_error = 1;
      EXPECT_EQ((co_await file->sync()).error().sys_errno, EIO);
      node.disk().options().sync_error = 0;
      EXPECT_FALSE(co_await file->sync());
      Bytes out(4);
      EXPECT_EQ((co_await file->read_at(0, out)).value(), 4U);
      EXPECT_EQ(as_text(out), "lost");
      auto again = co_await create("/a");  // a fresh descriptor hears nothing of the error
      EXPECT_TRUE(co_await again->sync());
      again->drop_cache();
      EXPECT_EQ((co_await again->read_at(0, out)).value(), 4U);
      EXPECT_EQ(out, Bytes(4));
    });
  }
}

TEST(DiskFaults, a_full_disk_takes_a_part_and_says_so) {
  Simulator sim(1);
  Node& node = sim.add_node({.disk = {.capacity = 10'000}});
  node.run([&]() -> Task<void> {
    auto a = co_await create("/a");
    auto b = co_await create("/b");
    EXPECT_TRUE(a->write_at(0, Bytes(6'000)));
    const auto refused = b->write_at(0, Bytes(6'000));
    EXPECT_EQ(refused.error().code, Code::kExhausted);
    EXPECT_EQ(refused.error().sys_errno, ENOSPC);
    EXPECT_EQ(b->size(), 4'000U);
    EXPECT_TRUE(a->write_at(0, Bytes(6'000)));  // in place
    EXPECT_EQ((co_await disk().space("/")).value().free_bytes, 0U);
    EXPECT_TRUE(co_await disk().remove("/b"));
    EXPECT_EQ((co_await disk().space("/")).value().free_bytes, 4'000U);
    auto c = co_await create("/c");
    EXPECT_EQ((co_await c->allocate(4'001)).error().sys_errno, ENOSPC);
    EXPECT_TRUE(co_await c->allocate(4'000));
    EXPECT_EQ((co_await disk().space("/")).value().free_bytes, 0U);
    EXPECT_TRUE(c->write_at(100, Bytes(3'900)));  // the space is there
    EXPECT_TRUE(co_await disk().remove("/c"));
    EXPECT_TRUE(co_await a->truncate(0));
    EXPECT_EQ((co_await disk().space("/")).value().free_bytes, 10'000U);
  });
  EXPECT_GT(sim.stats()["disk.no_space"], 0U);
}

TEST(DiskFaults, rates_make_every_kind_happen_and_count_it) {
  Simulator sim(2);
  Node& node = sim.add_node({.disk = {.slow = 0.05,
                                      .read_error = 0.1,
                                      .write_error = 0.1,
                                      .sync_error = 0.1,
                                      .metadata_error = 0.1}});
  node.run([&]() -> Task<void> {
    for (int i = 0; i < 300; ++i) {
      auto file = co_await disk().open("/f" + std::to_string(i), OpenMode::kOpenOrCreate);
      if (!file) continue;
      static_cast<void>((*file)->write_at(0, Bytes(9'000, 1)));
      Bytes out(100);
      static_cast<void>(co_await (*file)->read_at(0, out));
      static_cast<void>(co_await (*file)->sync());
      static_cast<void>(co_await disk().sync_dir("/"));
    }
  });
  for (const char* name : {"disk.error_open", "disk.error_read", "disk.error_write",
                           "disk.error_sync", "disk.error_sync directory", "disk.slow",
                           "disk.cold_read", "disk.writeback", "disk.write_cut_short"}) {
    EXPECT_GT(sim.stats()[name], 0U) << name;
  }
}

TEST(DiskFaults, bits_rot_where_they_are_stored) {
  Simulator sim(3);
  Node& node = sim.add_node({.disk = {.bit_rot = 1}});
  node.run([&]() -> Task<void> {
    auto file = co_await create("/a");
    EXPECT_TRUE(file->write_at(0, Bytes(5'000)));
    EXPECT_TRUE(co_await file->sync());
    file->drop_cache();
  });
  Bytes after = node.disk().peek("/a").value();
  EXPECT_EQ(std::count(after.begin(), after.end(), 0), 4'999);
  EXPECT_TRUE(node.disk().corrupt("/a", 17, 0x80));
  EXPECT_NE(node.disk().peek("/a").value(), after);
  EXPECT_EQ(node.disk().corrupt("/a", 5'000).error().code, Code::kOutOfRange);
  EXPECT_EQ(sim.stats()["disk.bit_rot"], 2U);
}

TEST(DiskFaults, what_rots_on_the_device_shows_once_it_is_read_from_there) {
  Simulator sim(3);
  Node& node = sim.add_node();
  const Bytes before(9'000, 7);
  node.run([&]() -> Task<void> {
    auto file = co_await create("/a");
    EXPECT_TRUE(file->write_at(0, before));
    EXPECT_TRUE(co_await file->sync());
    EXPECT_TRUE(node.disk().corrupt_stored("/a", 5'000, 0x80));
    EXPECT_EQ(node.disk().corrupt_stored("/a", 9'000).error().code, Code::kOutOfRange);
    EXPECT_EQ(node.disk().peek("/a").value(), before);
    Bytes out(100);
    EXPECT_EQ((co_await file->read_stored(4'950, out)).value(), 100U);
    EXPECT_EQ(out[50], 0x87);
  });
  EXPECT_EQ(node.disk().peek("/a").value()[5'000], 0x87) << "what is in memory is what was read";
}

TEST(Clock, the_wall_clock_can_jump_and_the_monotonic_one_does_not) {
  Simulator sim(4);
  Node& node = sim.add_node();
  const Instant before = node.shard().now();
  const WallMs wall = node.shard().wall();
  node.set_wall_offset(-1h);
  EXPECT_EQ(node.shard().wall().ms, wall.ms - 3'600'000);
  EXPECT_EQ(node.shard().now(), before);
}

/// Two nodes; the second echoes what it reads on port 7.
class Network : public testing::TestWithParam<std::uint64_t> {
 protected:
  Network() : sim_(GetParam()), a_(sim_.add_node()), b_(sim_.add_node()) { serve(); }
  void serve() {
    b_.spawn([]() -> Task<void> {
      auto listener = (co_await Shard::current().net().listen({"0.0.0.0", 7})).value();
      TaskGroup group;
      const auto echo = [](std::unique_ptr<Stream> stream) -> Task<void> {
        Bytes out(1000);
        while (true) {
          const auto got = co_await stream->read_some(out, in(1h));
          if (!got || *got == 0) break;
          std::vector<Piece> pieces;
          pieces.emplace_back(SharedBytes::copy(ByteView(out).first(*got)));
          if (!co_await stream->write(std::move(pieces), in(1h))) break;
        }
      };
      while (true) {
        auto stream = co_await listener->accept();
        if (!stream) break;
        group.spawn(echo(std::move(*stream)));
      }
      co_await group.join();
    });
  }
  static Task<Result<std::unique_ptr<Stream>>> connect(Duration patience = 5s) {
    co_return co_await Shard::current().net().connect({"node-1", 7}, in(patience));
  }
  static Task<Result<std::string>> ask(Stream* stream, std::string text, Duration patience) {
    std::vector<Piece> pieces;
    pieces.emplace_back(SharedBytes::copy(as_bytes(text)));
    PYRALOG_CO_TRY(co_await stream->write(std::move(pieces), in(patience)));
    std::string answer;
    while (answer.size() < text.size()) {
      Bytes out(100);
      PYRALOG_CO_ASSIGN(const std::size_t got, co_await stream->read_some(out, in(patience)));
      if (got == 0) co_return fail(Code::kUnavailable, "the end");
      answer += as_text(ByteView(out).first(got));
    }
    co_return answer;
  }
  Simulator sim_;
  Node& a_;
  Node& b_;
};

TEST_P(Network, a_one_way_partition_delays_and_healing_delivers) {
  a_.run([&]() -> Task<void> {
    auto stream = co_await connect();
    EXPECT_EQ((co_await ask(stream->get(), "one", 1s)).value(), "one");
    sim_.net().block(b_, a_);
    EXPECT_EQ((co_await ask(stream->get(), "two", 1s)).error().code, Code::kTimedOut);
    EXPECT_EQ((co_await connect(1s)).error().code, Code::kTimedOut);
    sim_.net().unblock(b_, a_);
    Bytes out(3);
    std::size_t done = 0;
    while (done < 3) {
      done += (co_await (*stream)->read_some(MutableBytes(out).subspan(done), in(1s))).value();
    }
    EXPECT_EQ(as_text(out), "two");
  });
  EXPECT_GT(sim_.stats()["net.stalled"], 0U);
}

TEST_P(Network, a_killed_peer_ends_its_connections_and_refuses_new_ones) {
  a_.run([&]() -> Task<void> {
    auto stream = co_await connect();
    EXPECT_TRUE(co_await ask(stream->get(), "one", 1s));
    b_.kill();
    Bytes out(1);
    const auto end = co_await (*stream)->read_some(out, in(5s));
    EXPECT_TRUE(!end || *end == 0);
    EXPECT_EQ((co_await connect()).error().code, Code::kUnavailable);
    b_.restart();
    serve();
    co_await sleep_for(1ms);
    auto again = co_await connect();
    EXPECT_TRUE(co_await ask(again->get(), "two", 1s));
    EXPECT_FALSE(co_await ask(stream->get(), "three", 1s));
  });
}

TEST_P(Network, a_peer_without_power_is_silent_until_it_is_back) {
  a_.run([&]() -> Task<void> {
    auto stream = co_await connect();
    EXPECT_TRUE(co_await ask(stream->get(), "one", 1s));
    b_.lose_power();
    EXPECT_EQ((co_await ask(stream->get(), "two", 1s)).error().code, Code::kTimedOut);
    b_.restart();
    Bytes out(1);
    EXPECT_EQ((co_await (*stream)->read_some(out, in(1s))).error().code, Code::kUnavailable);
  });
}

TEST_P(Network, resets_and_refusals_come_by_rate) {
  sim_.net().options().reset = 0.2;
  sim_.net().options().refuse = 0.2;
  a_.run([&]() -> Task<void> {
    for (int i = 0; i < 60; ++i) {
      auto stream = co_await connect();
      if (!stream) continue;
      for (int n = 0; n < 10; ++n) {
        if (!co_await ask(stream->get(), "hello", 1s)) break;
      }
    }
  });
  for (const char* name : {"net.reset", "net.refused", "net.connect", "net.short_read"}) {
    EXPECT_GT(sim_.stats()[name], 0U) << name;
  }
}

TEST_P(Network, a_slow_link_is_slow_one_way) {
  sim_.net().slow(a_, b_, 300ms);
  a_.run([&]() -> Task<void> {
    auto stream = co_await connect();
    const Instant start = Shard::current().now();
    EXPECT_TRUE(co_await ask(stream->get(), "one", 2s));
    const Duration took = Shard::current().now() - start;
    EXPECT_GE(took, Duration(300ms));
    EXPECT_LT(took, Duration(500ms));
  });
}

INSTANTIATE_TEST_SUITE_P(Seeds, Network, testing::Range<std::uint64_t>(0, 20));

}  // namespace
}  // namespace pyralog::io::sim
