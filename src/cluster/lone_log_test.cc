// What the metadata log promises: seen means durable, all of a proposal or nothing of it.
#include "cluster/lone_log.h"

#include "cluster/testing.h"

namespace pyralog::cluster {
namespace {

using io::sim::DiskFault;
using io::sim::DiskOp;
using testing::ClusterTest;
using ::testing::HasSubstr;

class LoneLogTest : public ClusterTest {
 protected:
  explicit LoneLogTest(std::uint64_t seed = 1) : ClusterTest(seed) {}
  /// Opens once more and says which topics there are.
  std::vector<std::string> topics() {
    std::vector<std::string> names;
    EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
                for (const auto& each : cluster.catalog()->topics()) names.push_back(each->name);
                co_return;
              }),
              "");
    return names;
  }
};

TEST_F(LoneLogTest, what_was_committed_survives_power_loss) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    io::sim::Simulator sim(seed);
    io::sim::Node& machine = sim.add_node();
    Cluster::Options options;
    options.data_dir = "/data";
    EXPECT_TRUE(machine.run([&]() -> io::Task<bool> {
      io::Shard& shard = io::Shard::current();
      auto cluster = co_await Cluster::open(shard.disk(), shard.rng(), options);
      EXPECT_TRUE(co_await create(**cluster, "orders", 3));
      co_return true;
    }));
    machine.lose_power();
    machine.restart();
    EXPECT_TRUE(machine.run([&]() -> io::Task<bool> {
      io::Shard& shard = io::Shard::current();
      auto cluster = co_await Cluster::open(shard.disk(), shard.rng(), options);
      EXPECT_TRUE(cluster) << cluster.error().message;
      if (!cluster) co_return false;
      const auto topic = (*cluster)->catalog()->topic("orders");
      EXPECT_NE(topic, nullptr) << seed;
      co_return topic != nullptr && topic->partitions.size() == 3;
    }));
  }
}

TEST_F(LoneLogTest, nobody_sees_what_is_not_durable) {
  EXPECT_EQ(life([this](Cluster& cluster) -> io::Task<void> {
              disk().options().slow = 1;
              disk().options().slow_by = 1s;
              io::TaskGroup group;
              bool done = false;
              group.spawn([](Cluster& c, bool& flag) -> io::Task<void> {
                EXPECT_TRUE(co_await create(c, "slow"));
                flag = true;
              }(cluster, done));
              co_await io::sleep_for(500ms);
              EXPECT_FALSE(done);
              EXPECT_EQ(cluster.catalog()->topic("slow"), nullptr);
              co_await group.join();
              EXPECT_NE(cluster.catalog()->topic("slow"), nullptr);
              disk().options().slow = 0;
            }),
            "");
}

TEST_F(LoneLogTest, a_refused_proposal_leaves_nothing) {
  EXPECT_EQ(life([this](Cluster& cluster) -> io::Task<void> {
              EXPECT_TRUE(co_await create(cluster, "a"));
              const CatalogPtr before = cluster.catalog();
              const Bytes file = bytes_of("/data/metadata.log");
              const auto refused = co_await create(cluster, "a");
              EXPECT_FALSE(refused);
              // The second entry is what the catalogue refuses; the first must not stay.
              const auto half = co_await cluster.metadata().propose(
                  [](const catalog::Catalog&) -> Result<std::vector<catalog::Entry>> {
                    return std::vector<catalog::Entry>{topic("b"), topic("b")};
                  });
              EXPECT_FALSE(half);
              EXPECT_EQ(cluster.catalog(), before);
              EXPECT_EQ(bytes_of("/data/metadata.log"), file);
            }),
            "");
  EXPECT_EQ(topics(), std::vector<std::string>{"a"});
}

TEST_F(LoneLogTest, observers_hear_before_the_proposer_and_in_order) {
  EXPECT_EQ(
      life([](Cluster& cluster) -> io::Task<void> {
        std::vector<std::uint64_t> heard;
        co_await cluster.metadata().on_change([&](CatalogPtr state) -> io::Task<void> {
          co_await io::sleep_for(10ms);
          heard.push_back(state->position());
        });
        io::TaskGroup group;
        for (int i = 0; i < 5; ++i) {
          group.spawn([](Cluster& c, int n, std::vector<std::uint64_t>& all) -> io::Task<void> {
            const auto made = co_await create(c, "t" + std::to_string(n));
            EXPECT_TRUE(made);
            EXPECT_FALSE(all.empty());
            if (made && !all.empty()) EXPECT_GE(all.back(), (*made)->position());
          }(cluster, i, heard));
        }
        co_await group.join();
        EXPECT_EQ(heard.size(), 5u);
        EXPECT_TRUE(std::ranges::is_sorted(heard));
        co_await cluster.metadata().on_change(nullptr);
      }),
      "");
}

TEST_F(LoneLogTest, a_full_disk_takes_all_of_a_proposal_or_nothing) {
  // The n-th write to the log fails for want of space, then there is space again.
  for (int full = 1; full <= 4; ++full) {
    SCOPED_TRACE(full);
    EXPECT_EQ(life([&, this](Cluster& cluster) -> io::Task<void> {
                int writes = 0;
                disk().set_hook([&](DiskOp op, const std::string& path) {
                  const bool here = op == DiskOp::kWrite && path.starts_with("/data/metadata.log");
                  return here && ++writes == full ? DiskFault::kNoSpace : DiskFault::kNone;
                });
                const std::string name = "t" + std::to_string(full);
                const auto made = co_await create(cluster, name);
                if (!made) EXPECT_EQ(cluster.catalog()->topic(name), nullptr);
                disk().set_hook({});
                if (!made) EXPECT_TRUE(co_await create(cluster, name));
              }),
              "");
  }
  EXPECT_EQ(topics(), (std::vector<std::string>{"t1", "t2", "t3", "t4"}));
}

TEST_F(LoneLogTest, after_a_failed_sync_nothing_is_proposed_until_a_restart) {
  EXPECT_EQ(
      life([this](Cluster& cluster) -> io::Task<void> {
        EXPECT_TRUE(co_await create(cluster, "before"));
        disk().set_hook([](DiskOp op, const std::string& path) {
          return op == DiskOp::kSync && path.starts_with("/data/metadata.log") ? DiskFault::kError
                                                                               : DiskFault::kNone;
        });
        EXPECT_FALSE(co_await create(cluster, "lost"));
        EXPECT_EQ(cluster.catalog()->topic("lost"), nullptr);
        disk().set_hook({});
        EXPECT_FALSE(co_await create(cluster, "after")) << "a failed sync must not be forgotten";
      }),
      "");
  restart();
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_NE(cluster.catalog()->topic("before"), nullptr);
              EXPECT_EQ(cluster.catalog()->topic("after"), nullptr);
              EXPECT_TRUE(co_await create(cluster, "after"));
            }),
            "");
}

TEST_F(LoneLogTest, a_long_log_becomes_a_snapshot_and_loses_nothing) {
  options_.metadata.rewrite_bytes = 4096;
  std::vector<std::string> names;
  std::uint64_t position = 0;
  EXPECT_EQ(life([&, this](Cluster& cluster) -> io::Task<void> {
              std::size_t largest = 0;
              bool shrank = false;
              for (int i = 100; i < 200; ++i) {
                names.push_back("topic-" + std::to_string(i));
                EXPECT_TRUE(co_await create(cluster, names.back()));
                const std::size_t now = bytes_of("/data/metadata.log").size();
                shrank = shrank || now < largest;
                largest = std::max(largest, now);
              }
              EXPECT_TRUE(shrank);
              position = cluster.catalog()->position();
            }),
            "");
  restart(true);
  EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
              EXPECT_GT(cluster.catalog()->position(), position);
              co_return;
            }),
            "");
  EXPECT_EQ(topics(), names);
}

TEST_F(LoneLogTest, a_frame_of_a_later_version_is_refused_by_name) {
  EXPECT_EQ(life(), "");
  EXPECT_TRUE(node().run([]() -> io::Task<bool> {
    journal::Options options;
    options.kind = 0x4154454d;
    auto journal =
        co_await journal::Journal::open(io::Shard::current().disk(), "/data/metadata.log", options,
                                        [](ByteView) -> Result<void> { return {}; });
    EXPECT_TRUE(journal) << journal.error().message;
    const auto end = (*journal)->append(Bytes{200, 1, 2});
    co_return end&& co_await (*journal)->commit(*end);
  }));
  EXPECT_THAT(life(), HasSubstr("kind 200"));
}

// Each life creates topics one after the other and finds those that were acknowledged before.
TEST_F(LoneLogTest, recovers_from_a_crash_at_every_disk_call) {
  std::uint64_t crashes = 0;
  for (std::uint64_t at = 1; crashes + 1 == at; ++at) {
    SCOPED_TRACE(at);
    io::sim::Simulator sim(at * 7919);
    io::sim::Node& machine = sim.add_node();
    Cluster::Options options;
    options.data_dir = "/data";
    options.metadata.rewrite_bytes = 1500;
    std::vector<std::string> acknowledged;
    std::uint64_t calls = 0;
    machine.disk().set_hook([&](DiskOp, const std::string&) {
      if (++calls != at) return DiskFault::kNone;
      ++crashes;
      return at % 3 == 0 ? DiskFault::kKill : DiskFault::kPowerLoss;
    });
    const auto live = [&]() -> io::Task<bool> {
      io::Shard& shard = io::Shard::current();
      auto cluster = co_await Cluster::open(shard.disk(), shard.rng(), options);
      if (!cluster) {
        EXPECT_FALSE(machine.up()) << cluster.error().message;
        co_return false;
      }
      for (const auto& name : acknowledged) {
        EXPECT_NE((*cluster)->catalog()->topic(name), nullptr) << name;
      }
      for (int i = 0; i < 12; ++i) {
        const std::string name = "t" + std::to_string(i);
        if ((*cluster)->catalog()->topic(name) != nullptr) continue;
        if (co_await create(**cluster, name, 2)) acknowledged.push_back(name);
      }
      co_return true;
    };
    for (int lives = 0; lives < 2; ++lives) {
      static_cast<void>(machine.try_run(live));
      machine.disk().set_hook({});
      if (machine.up()) machine.lose_power();
      machine.restart();
    }
    EXPECT_TRUE(machine.try_run(live).value_or(false));
    if (::testing::Test::HasFailure()) break;
  }
  EXPECT_GT(crashes, 40u);
}

}  // namespace
}  // namespace pyralog::cluster
