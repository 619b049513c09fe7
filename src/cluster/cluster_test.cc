// Who may use a data directory, and what every start leaves behind.
#include "cluster/cluster.h"

#include "cluster/testing.h"

namespace pyralog::cluster {
namespace {

using testing::ClusterTest;
using ::testing::HasSubstr;

TEST_F(ClusterTest, an_empty_directory_becomes_a_cluster_and_counts_its_starts) {
  Cookie first;
  EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
              first = cluster.cookie();
              EXPECT_FALSE(first.cluster.is_nil());
              EXPECT_FALSE(first.incarnation.is_nil());
              EXPECT_EQ(first.boot_counter, 1u);
              EXPECT_EQ(cluster.catalog()->cluster(), first.cluster);
              EXPECT_EQ(cluster.catalog()->node(NodeId(1))->boot_counter, 1u);
              EXPECT_FALSE(cluster.new_os_boot());
              co_return;
            }),
            "");
  restart();
  EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
              EXPECT_EQ(cluster.cookie().cluster, first.cluster);
              EXPECT_EQ(cluster.cookie().incarnation, first.incarnation);
              EXPECT_EQ(cluster.cookie().boot_counter, 2u);
              EXPECT_FALSE(cluster.new_os_boot()) << "only the process has ended";
              co_return;
            }),
            "");
  restart(true);
  EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
              EXPECT_EQ(cluster.cookie().boot_counter, 3u);
              EXPECT_TRUE(cluster.new_os_boot());
              EXPECT_EQ(cluster.catalog()->node(NodeId(1))->boot_counter, 3u);
              co_return;
            }),
            "");
}

TEST_F(ClusterTest, a_new_boot_is_new_until_its_losses_are_recorded) {
  EXPECT_EQ(life(), "");
  restart(true);
  for (int start = 0; start < 2; ++start) {
    EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
                EXPECT_TRUE(cluster.new_os_boot());
                co_return;
              }),
              "");
    restart();
  }
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_TRUE(co_await cluster.losses_recorded());
              EXPECT_TRUE(cluster.new_os_boot()) << "it stays so for this start";
            }),
            "");
  restart();
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_FALSE(cluster.new_os_boot());
              EXPECT_EQ(cluster.cookie().boot_counter, 5u);
              co_return;
            }),
            "");
}

/// A machine for each seed: what a power loss takes is a matter of chance.
struct Machine : ClusterTest {
  explicit Machine(std::uint64_t seed) : ClusterTest(seed) { options_.data_dir = "/srv/log/data"; }
  void TestBody() override {}
  /// A first start that is killed when it syncs a directory for the `count`-th time; a second one;
  /// a power loss. Whether the third finds what the second had.
  bool keeps_its_directory(int count) {
    int calls = 0;
    disk().set_hook([&](io::sim::DiskOp op, const std::string&) {
      return op == io::sim::DiskOp::kSyncDir && ++calls == count ? io::sim::DiskFault::kKill
                                                                 : io::sim::DiskFault::kNone;
    });
    EXPECT_EQ(life(), "crashed");
    disk().set_hook({});
    node().restart();
    Cookie second;
    EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
                second = cluster.cookie();
                co_return;
              }),
              "");
    restart(true);
    bool same = false;
    EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
                same = cluster.cookie().cluster == second.cluster &&
                       cluster.cookie().boot_counter > second.boot_counter;
                co_return;
              }),
              "");
    return same;
  }
};

TEST(ClusterDirectory, outlives_a_power_loss_though_a_start_was_killed_while_it_was_made) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    for (int count = 1; count <= 5; ++count) {
      EXPECT_TRUE(Machine(seed).keeps_its_directory(count))
          << "seed " << seed << ", sync " << count;
    }
  }
}

TEST_F(ClusterTest, what_clients_are_told_may_change_with_a_start) {
  EXPECT_EQ(life(), "");
  options_.host = "logs.example";
  options_.port = 19092;
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_EQ(cluster.catalog()->node(NodeId(1))->host, "logs.example");
              EXPECT_EQ(cluster.catalog()->node(NodeId(1))->port, 19092);
              co_return;
            }),
            "");
}

TEST_F(ClusterTest, a_second_process_on_the_directory_is_refused) {
  EXPECT_EQ(life([this](Cluster&) -> io::Task<void> {
              const Bytes before = bytes_of("/data/cookie");
              io::Shard& shard = io::Shard::current();
              const auto second = co_await Cluster::open(shard.disk(), shard.rng(), options_);
              EXPECT_FALSE(second);
              if (second) co_return;
              EXPECT_EQ(second.error().code, Code::kAlreadyExists);
              EXPECT_THAT(second.error().message, HasSubstr("/data"));
              EXPECT_THAT(second.error().message, HasSubstr("another pyralog"));
              EXPECT_EQ(bytes_of("/data/cookie"), before) << "it must touch nothing";
            }),
            "");
  EXPECT_EQ(life(), "") << "the lock goes with its holder";
}

TEST_F(ClusterTest, a_directory_with_other_things_is_not_taken) {
  write("/data/holiday.jpg", Bytes{1, 2, 3});
  EXPECT_THAT(life(), HasSubstr("holiday.jpg"));
  remove("/data/holiday.jpg");
  write("/data/lost+found/x", Bytes{1});
  EXPECT_EQ(life(), "") << "what file systems put there is no data";
}

TEST_F(ClusterTest, a_missing_cookie_is_not_made_up) {
  EXPECT_EQ(life(), "");
  const Bytes cookie = bytes_of("/data/cookie");
  remove("/data/cookie");
  EXPECT_THAT(life(), HasSubstr("no cookie"));
  write("/data/cookie", cookie);
  EXPECT_EQ(life(), "");
}

TEST_F(ClusterTest, a_lone_node_that_is_pinned_neither_writes_nor_reads_what_is_newer) {
  const Body drain = [](Cluster& cluster) -> io::Task<void> {
    const auto done = co_await cluster.metadata().propose([](const catalog::Catalog&) {
      return Result<std::vector<catalog::Entry>>({catalog::NodeDraining{NodeId(1), true}});
    });
    const bool pinned = cluster.catalog()->level() < 3;
    EXPECT_EQ(done.has_value(), !pinned) << "plant: cluster.write_newer";
    if (!done) EXPECT_EQ(done.error().code, Code::kUnsupported);
  };
  options_.feature_level = 2;
  EXPECT_EQ(life(drain), "");
  EXPECT_EQ(life(), "");
  options_.feature_level = 3;
  EXPECT_EQ(life(drain), "");
  options_.feature_level = 2;
  EXPECT_THAT(life(), ::testing::HasSubstr("needs feature level 3, this node understands 2"));
  options_.feature_level = 3;
  EXPECT_EQ(life(), "");
}

TEST_F(ClusterTest, an_older_cookie_is_refused) {
  EXPECT_EQ(life(), "");
  const Bytes old = bytes_of("/data/cookie");
  EXPECT_EQ(life(), "");
  const Bytes current = bytes_of("/data/cookie");
  write("/data/cookie", old);
  const std::string told = life();
  EXPECT_THAT(told, HasSubstr("older than what was registered (start 1 of 2)"));
  EXPECT_EQ(bytes_of("/data/cookie"), old) << "a refusal must touch nothing";
  write("/data/cookie", current);
  EXPECT_EQ(life(), "");
}

TEST_F(ClusterTest, a_cookie_ahead_of_the_log_is_a_start_that_was_cut_short) {
  EXPECT_EQ(life(), "");
  Cookie cookie = decode_cookie(bytes_of("/data/cookie"), "cookie").value();
  cookie.boot_counter += 3;
  write("/data/cookie", encode(cookie));
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_EQ(cluster.cookie().boot_counter, 5u);
              co_return;
            }),
            "");
}

TEST_F(ClusterTest, an_unknown_cookie_is_refused) {
  EXPECT_EQ(life(), "");
  const Cookie mine = decode_cookie(bytes_of("/data/cookie"), "cookie").value();
  Cookie other = mine;
  other.cluster.bytes[0] ^= 1;
  write("/data/cookie", encode(other));
  EXPECT_THAT(life(), HasSubstr("another cluster"));
  other = mine;
  other.incarnation.bytes[0] ^= 1;
  write("/data/cookie", encode(other));
  EXPECT_THAT(life(), HasSubstr("replace-disk"));
  other = mine;
  other.node = NodeId(2);
  write("/data/cookie", encode(other));
  EXPECT_THAT(life(), HasSubstr("belongs to node 2"));
  write("/data/cookie", encode(mine));
  EXPECT_EQ(life(), "");
}

TEST_F(ClusterTest, a_lost_metadata_log_is_not_replaced_by_an_empty_one) {
  EXPECT_EQ(life(), "");
  remove("/data/metadata.log");
  EXPECT_THAT(life(), HasSubstr("restore the whole directory"));
}

TEST_F(ClusterTest, a_newer_cookie_is_refused_by_its_version) {
  EXPECT_EQ(life(), "");
  Bytes newer = bytes_of("/data/cookie");
  newer[8] = 9;
  write("/data/cookie", newer);
  EXPECT_THAT(life(), HasSubstr("format 9 is newer"));
}

TEST(Cookie, every_damage_is_noticed) {
  Cookie cookie;
  cookie.cluster.bytes[3] = 4;
  cookie.incarnation.bytes[5] = 6;
  cookie.node = NodeId(7);
  cookie.boot_counter = 8;
  cookie.os_boot_id = "boot";
  const Bytes sound = encode(cookie);
  EXPECT_EQ(decode_cookie(sound, "cookie").value(), cookie);
  for (std::size_t i = 0; i < sound.size(); ++i) {
    Bytes bad = sound;
    bad[i] ^= 0x10;
    const auto decoded = decode_cookie(bad, "dir/cookie");
    ASSERT_FALSE(decoded) << i;
    EXPECT_THAT(decoded.error().message, HasSubstr("dir/cookie"));
    EXPECT_FALSE(decode_cookie(ByteView(sound).first(i), "cookie")) << i;
  }
}

TEST_F(ClusterTest, every_start_activates_a_new_epoch) {
  const PartitionId id{topic("orders", 2).id, PartitionIndex(1)};
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_TRUE(co_await create(cluster, "orders", 2));
            }),
            "");
  for (std::uint32_t start = 2; start <= 4; ++start) {
    restart(start % 2 == 0);
    EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
                EXPECT_EQ(cluster.catalog()->partition(id)->current->epoch, Epoch(start - 1));
                std::vector<LedPartition> led{{id, Offset(10 * start), Offset(0), {}}};
                const auto state = co_await cluster.activate(std::move(led), WallMs{1});
                EXPECT_TRUE(state);
                if (!state) co_return;
                const auto& current = *(*state)->partition(id)->current;
                EXPECT_EQ(current.epoch, Epoch(start));
                EXPECT_EQ(current.start, Offset(10 * start));
                EXPECT_EQ(current.leader, NodeId(1));
                EXPECT_EQ(current.replicas.front().incarnation, cluster.cookie().incarnation);
                EXPECT_EQ(current.write_quorum, 1);
              }),
              "");
  }
}

TEST_F(ClusterTest, what_may_be_missing_is_recorded_and_deleted_partitions_are_passed_over) {
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_TRUE(co_await create(cluster, "orders"));
              const PartitionId here{topic("orders").id, PartitionIndex(0)};
              const PartitionId gone{topic("gone").id, PartitionIndex(0)};
              std::vector<LedPartition> led{{here, Offset(5), Offset(0), "the power went"},
                                            {gone, Offset(0), Offset(0), {}}};
              const auto state = co_await cluster.activate(std::move(led), WallMs{77});
              EXPECT_TRUE(state);
              if (!state) co_return;
              const auto& lost = (*state)->partition(here)->lost;
              EXPECT_EQ(lost.size(), 1u);
              if (lost.empty()) co_return;
              EXPECT_EQ(lost[0].reason, "the power went");
              EXPECT_EQ(lost[0].from, Offset(5));
            }),
            "");
}

TEST_F(ClusterTest, a_log_that_was_cut_is_led_on_and_what_is_gone_is_recorded) {
  EXPECT_EQ(life([](Cluster& cluster) -> io::Task<void> {
              EXPECT_TRUE(co_await create(cluster, "orders"));
              const PartitionId id{topic("orders").id, PartitionIndex(0)};
              std::vector<LedPartition> whole{{id, Offset(10), Offset(0), {}}};
              EXPECT_TRUE(co_await cluster.activate(std::move(whole), WallMs{1}));
              std::vector<LedPartition> cut{{id, Offset(4), Offset(0), {}}};
              const auto state = co_await cluster.activate(std::move(cut), WallMs{2});
              EXPECT_TRUE(state) << "one partition must not keep the node from starting";
              if (!state) co_return;
              const auto& partition = *(*state)->partition(id);
              EXPECT_EQ(partition.current->epoch, Epoch(3));
              EXPECT_EQ(partition.current->start, Offset(4));
              EXPECT_EQ(partition.lost.size(), 1u);
              if (partition.lost.empty()) co_return;
              EXPECT_EQ(partition.lost[0].from, Offset(4));
              EXPECT_EQ(partition.lost[0].to, Offset(10));
            }),
            "");
}

TEST_F(ClusterTest, producer_ids_are_never_given_twice) {
  std::int64_t next = 0;
  for (int start = 0; start < 4; ++start) {
    EXPECT_EQ(life([&](Cluster& cluster) -> io::Task<void> {
                for (int i = 0; i < 3; ++i) {
                  const auto first = co_await cluster.reserve_producer_ids(1000);
                  EXPECT_TRUE(first);
                  EXPECT_GE(first.value_or(-1), next);
                  next = first.value_or(0) + 1000;
                }
              }),
              "");
    restart(true);
  }
}

}  // namespace
}  // namespace pyralog::cluster
