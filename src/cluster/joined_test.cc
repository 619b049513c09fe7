// Nodes that form a cluster: who may take part, and what their starts wait for.
#include "cluster/joined.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/joined_testing.h"

namespace pyralog::cluster {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

class JoinedTest : public testing::NodesTest {};

TEST_F(JoinedTest, three_nodes_become_one_cluster) {
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3})) << at(1).refused << at(2).refused << at(3).refused;
  const Uuid name = at(1).cluster->cookie().cluster;
  EXPECT_FALSE(name.is_nil());
  for (std::int32_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(at(i).cluster->cookie().cluster, name);
    EXPECT_EQ(at(i).cluster->catalog()->node(NodeId(i))->boot_counter, 1u);
    EXPECT_EQ(at(i).cluster->catalog()->node(NodeId(i))->peer_host, "n" + std::to_string(i));
  }
  ASSERT_FALSE(create(1, "a"));
  ASSERT_FALSE(create(2, "b"));
  ASSERT_FALSE(create(3, "c"));
  ASSERT_TRUE(see({1, 2, 3}, "a") && see({1, 2, 3}, "b") && see({1, 2, 3}, "c"));
  const auto topic = at(2).cluster->catalog()->topic("a");
  EXPECT_EQ(topic->partitions[0]->current->leader, NodeId(1));
  EXPECT_EQ(topic->partitions[1]->current->leader, NodeId(2));
  EXPECT_EQ(topic->partitions[1]->current->replicas.size(), 3u);
  EXPECT_EQ(topic->partitions[1]->current->write_quorum, 2);
  EXPECT_EQ(topic->partitions[1]->current->replicas[0].incarnation,
            at(2).cluster->cookie().incarnation);
}

TEST_F(JoinedTest, goes_on_without_one_and_takes_it_back) {
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  for (std::int32_t gone = 1; gone <= 3; ++gone) {
    stop(gone, gone % 2 == 0);
    const std::int32_t other = gone % 3 + 1;
    auto said = create(other, "while-" + std::to_string(gone));
    if (said) said = create(other, "again-" + std::to_string(gone));
    ASSERT_FALSE(said) << said->message;
    start(gone);
    ASSERT_TRUE(up({gone})) << at(gone).refused;
    EXPECT_TRUE(sim_.run_until(
        [&] { return *at(gone).cluster->catalog() == *at(other).cluster->catalog(); }, 5s));
  }
}

TEST_F(JoinedTest, a_whole_cluster_starts_again_and_one_alone_waits) {
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  ASSERT_FALSE(create(1, "kept"));
  for (std::int32_t i = 1; i <= 3; ++i) machine(i).lose_power();
  for (std::int32_t i = 1; i <= 3; ++i) machine(i).restart();
  start(1);
  EXPECT_FALSE(up({1}, 10s));
  EXPECT_EQ(at(1).refused, "");
  // Its addresses are known by now: the command line need not say them.
  Cluster::Options bare = options(3);
  bare.join.members.clear();
  bare.join.listen = address(3);
  start(3, bare);
  ASSERT_TRUE(up({1, 3}));
  EXPECT_NE(at(1).cluster->catalog()->topic("kept"), nullptr);
  start(2);
  ASSERT_TRUE(up({2}));
}

TEST_F(JoinedTest, a_start_that_waits_can_be_ended) {
  start(1);
  EXPECT_FALSE(up({1}, 3s));
  at(1).give_up = true;
  ASSERT_TRUE(refuses(1));
  EXPECT_THAT(at(1).refused, HasSubstr("ended"));
  // And is none: the directory takes part later as if it had never been.
  at(1).give_up = false;
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
}

TEST_F(JoinedTest, a_level_rises_by_itself_once_the_last_node_understands_it_and_stays) {
  const auto pinned = [this](std::int32_t i) {
    Cluster::Options old = options(i);
    old.feature_level = 2;
    return old;
  };
  const auto drain = [this](std::int32_t at_node) {
    const auto done = machine(at_node).try_run([this, at_node]() -> io::Task<Result<CatalogPtr>> {
      co_return co_await at(at_node).cluster->metadata().propose([](const catalog::Catalog&) {
        return Result<std::vector<catalog::Entry>>({catalog::NodeDraining{NodeId(1), true}});
      });
    });
    PYRALOG_ASSERT(done);
    return *done ? std::optional<Error>() : std::optional<Error>(done->error());
  };
  const auto level = [this](std::int32_t i) { return at(i).cluster->catalog()->level(); };
  start(1, pinned(1));
  start(2);
  start(3);
  ASSERT_TRUE(up({1, 2, 3}));
  sim_.run_for(5s);
  for (std::int32_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(level(i), 2);
    const auto refused = drain(i);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->code, Code::kUnsupported);
    EXPECT_THAT(refused->message, HasSubstr("node 1 does not understand"));
  }
  // Away is not gone: the others wait with the level for who may come back as it was.
  stop(1);
  sim_.run_for(5s);
  EXPECT_EQ(level(2), 2);
  start(1);
  ASSERT_TRUE(up({1}));
  ASSERT_TRUE(sim_.run_until([&] { return level(1) == 3 && level(2) == 3 && level(3) == 3; }, 5s));
  EXPECT_FALSE(drain(2));
  stop(3);
  start(3, pinned(3));
  ASSERT_TRUE(refuses(3));
  EXPECT_THAT(at(3).refused, AllOf(HasSubstr("needs feature level 3"), HasSubstr("understands 2")));
  EXPECT_EQ(at(1).cluster->catalog()->node(NodeId(3))->feature_level, 3);
  // What it was refused for has changed nothing of it.
  stop(3);
  start(3);
  EXPECT_TRUE(up({3})) << at(3).refused;
}

TEST_F(JoinedTest, a_wiped_disk_is_not_the_node_it_was) {
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  machine(3).kill();
  machine(3).restart();
  Cluster::Options wiped = options(3);
  wiped.data_dir = "/other";
  start(3, wiped);
  sim_.run_for(5s);
  EXPECT_EQ(at(3).cluster, nullptr);
  EXPECT_FALSE(at(1).cluster->joined()->reaches(NodeId(3)));
  EXPECT_EQ(at(1).cluster->joined()->peers().links(0).connected(NodeId(3)), nullptr)
      << "it must not vote";
  ASSERT_FALSE(create(1, "without"));
  // The right one is taken back.
  stop(3);
  start(3);
  ASSERT_TRUE(up({3})) << at(3).refused;
}

TEST_F(JoinedTest, an_older_copy_of_a_directory_is_refused) {
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  const Bytes cookie = machine(2).disk().peek("/data/cookie").value();
  for (int again = 0; again < 2; ++again) {
    stop(2);
    start(2);
    ASSERT_TRUE(up({2}));
  }
  stop(2);
  machine(2).run([&]() -> io::Task<void> {
    EXPECT_TRUE(co_await io::replace_file(io::Shard::current().disk(), "/data/cookie", cookie));
  });
  start(2);
  ASSERT_TRUE(refuses(2));
  EXPECT_THAT(at(2).refused, HasSubstr("older"));
}

TEST_F(JoinedTest, a_node_with_another_secret_is_told_so) {
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  stop(3);
  Cluster::Options stranger = options(3);
  stranger.join.secret = Bytes(32, 9);
  start(3, stranger);
  sim_.run_for(3s);
  EXPECT_EQ(at(3).cluster, nullptr);
  EXPECT_THAT(at(1).cluster->joined()->missing(), HasSubstr("secret"));
  stop(3);
  start(3);
  ASSERT_TRUE(up({3}));
}

TEST_F(JoinedTest, who_is_not_named_is_none_of_the_cluster) {
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  Cluster::Options fourth = options(4);
  fourth.join.members.push_back({NodeId(4), address(4)});
  start(4, fourth);
  sim_.run_for(5s);
  EXPECT_EQ(at(4).cluster, nullptr);
  EXPECT_FALSE(at(1).cluster->joined()->reaches(NodeId(4)));
}

TEST_F(JoinedTest, nodes_that_have_moved_are_found_again) {
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  ASSERT_FALSE(create(1, "kept"));
  // One listens elsewhere now: only it knows that.
  stop(3);
  Cluster::Options moved = options(3);
  moved.join.members[2].peer.port = 9193;
  start(3, moved);
  ASSERT_TRUE(up({3})) << at(3).refused;
  EXPECT_EQ(at(3).cluster->catalog()->node(NodeId(3))->peer_port, 9193);
  // All do, and the new command lines say so.
  for (std::int32_t i = 1; i <= 3; ++i) stop(i);
  for (Member& each : members_) each.peer.port = 9293;
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3})) << at(1).refused << at(2).refused << at(3).refused;
  EXPECT_NE(at(2).cluster->catalog()->topic("kept"), nullptr);
}

TEST_F(JoinedTest, a_command_line_that_cannot_be_is_refused) {
  Cluster::Options twice = options(1);
  twice.join.members.push_back({NodeId(1), {"n9", 9093}});
  start(1, twice);
  ASSERT_TRUE(refuses(1));
  EXPECT_THAT(at(1).refused, HasSubstr("twice"));
  Cluster::Options same = options(2);
  same.join.members[0].peer = same.join.members[1].peer;
  start(2, same);
  ASSERT_TRUE(refuses(2));
  EXPECT_THAT(at(2).refused, HasSubstr("both listen at n2:9093"));
  Cluster::Options weak = options(3);
  weak.join.secret = Bytes(3, 1);
  start(3, weak);
  ASSERT_TRUE(refuses(3));
  EXPECT_THAT(at(3).refused, HasSubstr("secret"));
}

TEST_F(JoinedTest, nodes_that_are_told_of_different_members_begin_no_cluster) {
  Cluster::Options fewer = options(1);
  fewer.join.members.pop_back();
  start(1, fewer);
  start(2);
  start(3);
  EXPECT_FALSE(up({1}, 5s));
  EXPECT_EQ(at(2).cluster, nullptr);
  EXPECT_EQ(at(3).cluster, nullptr);
}

TEST_F(JoinedTest, a_cluster_begins_with_all_of_its_nodes_and_not_with_a_majority) {
  start(1);
  start(2);
  EXPECT_FALSE(up({1}, 30s));
  start(3);
  ASSERT_TRUE(up({1, 2, 3})) << at(1).refused;
  EXPECT_EQ(at(1).cluster->joined()->raft().status(kGlobalGroup).config.voters.size(), 3u);
}

TEST_F(JoinedTest, a_first_start_that_was_cut_short_may_go_on_as_the_other_kind) {
  // Alone at first, for no longer than its cookie took.
  Cluster::Options alone = options(1);
  alone.join.members.clear();
  machine(1).disk().set_hook([](io::sim::DiskOp op, const std::string& path) {
    return op == io::sim::DiskOp::kOpen && path.find("metadata.log") != std::string::npos
               ? io::sim::DiskFault::kKill
               : io::sim::DiskFault::kNone;
  });
  start(1, alone);
  sim_.run_for(1s);
  machine(1).disk().set_hook(nullptr);
  machine(1).restart();
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3})) << at(1).refused;
  EXPECT_EQ(at(1).cluster->cookie().cluster, at(2).cluster->cookie().cluster);
}

TEST_F(JoinedTest, a_copied_directory_does_not_start_beside_its_twin) {
  for (std::int32_t i = 1; i <= 3; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  const auto counter = at(2).cluster->cookie().boot_counter;
  const Bytes cookie = machine(2).disk().peek("/data/cookie").value();
  stop(2);
  start(2);
  ASSERT_TRUE(up({2}));
  EXPECT_EQ(at(2).cluster->cookie().boot_counter, counter + 1);
  // The copy has the counter from before, and counts to the same.
  stop(2);
  machine(2).run([&]() -> io::Task<void> {
    EXPECT_TRUE(co_await io::replace_file(io::Shard::current().disk(), "/data/cookie", cookie));
  });
  start(2);
  ASSERT_TRUE(refuses(2));
  EXPECT_THAT(at(2).refused, HasSubstr("older"));
}

TEST_F(JoinedTest, what_a_directory_is_it_stays) {
  Cluster::Options alone = options(1);
  alone.join.members.clear();
  start(1, alone);
  ASSERT_TRUE(up({1}));
  stop(1);
  start(1);
  ASSERT_TRUE(refuses(1));
  EXPECT_THAT(at(1).refused, HasSubstr("cluster add"));
  stop(1);
  Cluster::Options unnamed = options(2);
  unnamed.node = NodeId(9);
  start(2, unnamed);
  ASSERT_TRUE(refuses(2));
  EXPECT_THAT(at(2).refused, HasSubstr("--cluster does not name node 9"));
}

}  // namespace
}  // namespace pyralog::cluster
