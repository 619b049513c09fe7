// Nodes come, go, and come back with another disk.
#include "cluster/members.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/joined_testing.h"

namespace pyralog::cluster {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MembersTest : public testing::NodesTest {
 protected:
  explicit MembersTest(std::uint64_t seed = 1) : testing::NodesTest(seed) {}

  /// As a node that comes later: the others are named, it is not.
  Cluster::Options newcomer(std::int32_t i, std::vector<Member> others) {
    Cluster::Options out = options(i);
    out.join.members = std::move(others);
    out.join.listen = address(i);
    return out;
  }
  /// A lone node, or with `listen` what becomes of it.
  Cluster::Options alone(bool listens) {
    Cluster::Options out = options(1);
    out.join.members.clear();
    if (listens) out.join.listen = address(1);
    if (!listens) out.join.secret.clear();
    return out;
  }
  std::optional<Error> change(std::int32_t asked, MemberChange::Kind kind, std::int32_t node,
                              Duration patience = 10s) {
    const auto done =
        machine(asked).try_run([this, asked, kind, node, patience]() -> io::Task<Result<void>> {
          co_return co_await at(asked).cluster->joined()->members().change(
              {kind, NodeId(node), address(node)}, io::Shard::current().now() + patience);
        });
    PYRALOG_ASSERT(done);
    if (!*done) return done->error();
    return std::nullopt;
  }
  static constexpr auto kAdd = MemberChange::Kind::kAdd;
  static constexpr auto kRemove = MemberChange::Kind::kRemove;
  static constexpr auto kReplace = MemberChange::Kind::kReplaceDisk;

  std::vector<std::int32_t> voters(std::int32_t asked) {
    std::vector<std::int32_t> out;
    if (at(asked).cluster == nullptr) return out;
    const auto config = at(asked).cluster->joined()->raft().status(kGlobalGroup).config;
    for (const NodeId id : config.voters) out.push_back(id.value);
    if (config.joint()) out.push_back(-1);
    return out;
  }
  bool vote(std::int32_t asked, std::vector<std::int32_t> wanted, Duration limit = 20s) {
    return sim_.run_until([&] { return voters(asked) == wanted; }, limit);
  }
  std::int32_t leader() {
    for (std::int32_t i = 1; i <= kMachines; ++i) {
      if (at(i).cluster == nullptr) continue;
      if (at(i).cluster->joined()->raft().settled_leader(kGlobalGroup)) return i;
    }
    return 0;
  }
  /// A topic of one partition on node 1, asked for until somebody takes it.
  bool make(std::int32_t asked, const std::string& name, Duration limit = 20s) {
    const Instant end = sim_.now() + limit;
    while (sim_.now() < end) {
      const auto made =
          machine(asked).try_run([this, asked, name]() -> io::Task<Result<CatalogPtr>> {
            co_return co_await at(asked).cluster->metadata().propose(
                [name](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
                  if (state.topic(name) != nullptr) return std::vector<catalog::Entry>{};
                  return std::vector<catalog::Entry>{testing::ClusterTest::topic(name)};
                });
          });
      if (made && *made) return true;
      sim_.run_for(100ms);
    }
    return false;
  }
  bool has(std::int32_t asked, const std::string& name) {
    return at(asked).cluster->catalog()->topic(name) != nullptr;
  }
  void three() {
    for (std::int32_t i = 1; i <= 3; ++i) start(i);
    ASSERT_TRUE(up({1, 2, 3})) << at(1).refused << at(2).refused << at(3).refused;
  }
  Cluster::Options wiped(std::int32_t i) {
    Cluster::Options out = options(i);
    out.data_dir = "/new";
    return out;
  }
};

TEST_F(MembersTest, a_lone_node_grows_to_three_and_survives_the_first) {
  start(1, alone(false));
  ASSERT_TRUE(up({1})) << at(1).refused;
  ASSERT_TRUE(make(1, "kept"));
  const Uuid name = at(1).cluster->cookie().cluster;
  stop(1);
  start(1, alone(true));
  ASSERT_TRUE(up({1})) << at(1).refused;
  EXPECT_TRUE(has(1, "kept"));
  EXPECT_EQ(at(1).cluster->catalog()->cluster(), name);
  EXPECT_EQ(at(1).cluster->catalog()->node(NodeId(1))->boot_counter, 2u);
  for (std::int32_t i = 2; i <= 3; ++i) {
    const auto refused = change(1, kAdd, i);
    ASSERT_FALSE(refused) << refused->message;
    ASSERT_FALSE(change(1, kAdd, i)) << "once more";
    start(i, newcomer(i, {members_[0]}));
    ASSERT_TRUE(up({i})) << at(i).refused;
    EXPECT_EQ(at(i).cluster->cookie().cluster, name);
    EXPECT_TRUE(has(i, "kept"));
  }
  // That they vote they have to know themselves, before the one that has told them may go.
  for (std::int32_t i = 1; i <= 3; ++i) ASSERT_TRUE(vote(i, {1, 2, 3}));
  stop(1);
  EXPECT_TRUE(make(2, "without-the-first"));
  start(1, alone(true));
  ASSERT_TRUE(up({1})) << at(1).refused;
  EXPECT_TRUE(sim_.run_until([&] { return has(1, "without-the-first"); }, 5s));
  // It stays a cluster's, whatever the command line says.
  stop(3);
  Cluster::Options later = newcomer(3, {});
  start(3, later);
  ASSERT_TRUE(up({3})) << at(3).refused;
}

TEST_F(MembersTest, a_conversion_that_is_cut_short_leaves_the_lone_node_or_the_cluster) {
  using io::sim::DiskFault;
  int cuts = 0;
  for (const bool power : {false, true}) {
    for (int op = 0; op < 200; ++op) {
      const std::string dir = "/d" + std::to_string(power) + std::to_string(op);
      Cluster::Options lone = alone(false);
      Cluster::Options joined = alone(true);
      lone.data_dir = joined.data_dir = dir;
      start(1, lone);
      ASSERT_TRUE(up({1})) << at(1).refused;
      ASSERT_TRUE(make(1, "kept"));
      stop(1);
      int left = op;
      machine(1).disk().set_hook([&](io::sim::DiskOp, const std::string&) {
        return left-- == 0 ? DiskFault::kKill : DiskFault::kNone;
      });
      start(1, joined);
      (void)up({1}, 3s);
      machine(1).disk().set_hook(nullptr);
      const bool cut = left < 0;
      stop(1, power);
      // As whichever it is: the lone one may go on alone, or be told again.
      start(1, op % 2 == 0 ? joined : lone);
      if (!up({1}, 10s)) {
        EXPECT_THAT(at(1).refused, HasSubstr("--cluster does not name")) << op;
        stop(1);
        start(1, joined);
        ASSERT_TRUE(up({1}, 10s)) << op << at(1).refused;
      }
      ASSERT_TRUE(has(1, "kept")) << op;
      ASSERT_TRUE(make(1, "more")) << op;
      stop(1, power);
      if (!cut) break;
      ++cuts;
    }
  }
  EXPECT_GT(cuts, 20);
}

TEST_F(MembersTest, wiped_nodes_form_no_cluster_beside_the_one_that_there_is) {
  three();
  ASSERT_TRUE(make(1, "kept"));
  for (const bool first_is_up : {true, false}) {
    for (std::int32_t i = 1; i <= 3; ++i) stop(i);
    if (first_is_up) start(1);
    for (std::int32_t i = 2; i <= 3; ++i) {
      Cluster::Options empty = options(i);
      empty.data_dir = "/empty" + std::to_string(first_is_up);
      start(i, empty);
    }
    EXPECT_FALSE(up({2}, 30s));
    EXPECT_EQ(at(3).cluster, nullptr);
    EXPECT_EQ(at(1).cluster, nullptr);
  }
  for (std::int32_t i = 1; i <= 3; ++i) stop(i);
  three();
  EXPECT_TRUE(has(1, "kept"));
}

TEST_F(MembersTest, a_lost_disk_is_replaced_and_votes_again_only_once_it_knows_all) {
  three();
  ASSERT_TRUE(make(1, "kept"));
  auto refused = change(1, kReplace, 3);
  ASSERT_TRUE(refused);
  EXPECT_THAT(refused->message, HasSubstr("stop it first"));
  stop(3);
  sim_.run_for(2s);
  const std::int32_t asked = leader() == 2 ? 1 : 2;
  refused = change(asked, kReplace, 3);
  ASSERT_FALSE(refused) << refused->message;
  ASSERT_FALSE(change(asked, kReplace, 3)) << "once more";
  ASSERT_TRUE(vote(1, {1, 2}));
  // The old directory never comes back.
  start(3);
  ASSERT_TRUE(refuses(3));
  EXPECT_THAT(at(3).refused, HasSubstr("was replaced"));
  stop(3);
  start(3, wiped(3));
  ASSERT_TRUE(up({3})) << at(3).refused;
  EXPECT_TRUE(has(3, "kept"));
  for (std::int32_t i = 1; i <= 3; ++i) ASSERT_TRUE(vote(i, {1, 2, 3}));
  stop(1);
  EXPECT_TRUE(make(3, "with-the-new-one"));
}

TEST_F(MembersTest, nobody_comes_or_loses_a_vote_before_all_understand_that) {
  Cluster::Options old = options(1);
  old.feature_level = 2;
  start(1, old);
  start(2);
  start(3);
  ASSERT_TRUE(up({1, 2, 3})) << at(1).refused << at(2).refused << at(3).refused;
  stop(3);
  sim_.run_for(2s);
  for (const auto kind : {kAdd, kReplace, kRemove}) {
    const auto refused = change(1, kind, kind == kAdd ? 4 : 3);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->code, Code::kUnsupported);
    EXPECT_THAT(refused->message, HasSubstr("needs feature level 3, which node 1 does not"));
    EXPECT_EQ(voters(1), (std::vector<std::int32_t>{1, 2, 3}))
        << "plant: cluster.leave_and_then_refuse";
  }
  // The disk of a first node is expected here as well.
  start(3, wiped(3));
  EXPECT_FALSE(up({3}, 5s));
  stop(3);
  Cluster::Options role = options(3);
  role.role = catalog::NodeRole::kObelisk;
  start(3, role);
  ASSERT_TRUE(refuses(3));
  EXPECT_THAT(at(3).refused, HasSubstr("node_role_set: needs feature level 3, which node 1"));
  stop(1);
  start(1);
  start(3, role);
  ASSERT_TRUE(up({1, 3})) << at(3).refused;
  EXPECT_FALSE(change(1, kAdd, 4));
}

TEST_F(MembersTest, what_a_lost_disk_has_agreed_to_stays_agreed) {
  // {1, 2} agree while 3 is behind; the disk of 2 is lost while 1 is down.
  three();
  stop(3);
  sim_.run_for(1s);
  ASSERT_TRUE(make(1, "agreed"));
  stop(1);
  stop(2);
  start(3);
  start(2, wiped(2));
  EXPECT_FALSE(up({2}, 30s)) << "it must not vote for 3, which lacks what was agreed";
  EXPECT_EQ(at(3).cluster, nullptr);
  // With 1 there is a majority, which knows all.
  start(1);
  ASSERT_TRUE(up({1, 3})) << at(1).refused << at(3).refused;
  EXPECT_TRUE(has(1, "agreed"));
  const auto refused = change(1, kReplace, 2);
  ASSERT_FALSE(refused) << refused->message;
  ASSERT_TRUE(up({2})) << at(2).refused;
  EXPECT_TRUE(has(2, "agreed"));
  ASSERT_TRUE(vote(1, {1, 2, 3}));
}

TEST_F(MembersTest, a_node_that_is_removed_is_told_so_and_stays_out) {
  three();
  ASSERT_FALSE(change(2, kAdd, 4));
  start(4, newcomer(4, members_));
  ASSERT_TRUE(up({4})) << at(4).refused;
  EXPECT_EQ(voters(1), (std::vector<std::int32_t>{1, 2, 3}));
  const Uuid disk = at(4).cluster->cookie().incarnation;
  // The leader itself, too: another one takes over first.
  const std::int32_t first = leader();
  ASSERT_NE(first, 0);
  auto refused = change(first, kRemove, first, 20s);
  ASSERT_FALSE(refused) << refused->message;
  ASSERT_TRUE(sim_.run_until([&] { return leader() != 0 && leader() != first; }, 10s));
  EXPECT_TRUE(sim_.run_until(
      [&] { return leader() != 0 && leader() != first && voters(leader()).size() == 3; }, 10s))
      << "the fourth takes its place";
  EXPECT_TRUE(sim_.run_until(
      [&] { return at(first).cluster->joined()->refused_for_good().has_value(); }, 10s));
  EXPECT_THAT(at(first).cluster->joined()->refused_for_good()->message,
              HasSubstr("removed from the cluster"));
  stop(first);
  start(first);
  ASSERT_TRUE(refuses(first));
  EXPECT_THAT(at(first).refused, HasSubstr("removed from the cluster"));
  // Its id may come again, with another disk.
  stop(first);
  ASSERT_FALSE(change(4, kAdd, first));
  std::vector<Member> others = members_;
  std::erase_if(others, [&](const Member& each) { return each.node == NodeId(first); });
  Cluster::Options again = newcomer(first, others);
  again.data_dir = "/new";
  start(first, again);
  ASSERT_TRUE(up({first})) << at(first).refused;
  EXPECT_EQ(at(4).cluster->cookie().incarnation, disk);
}

TEST_F(MembersTest, who_is_named_by_a_partition_is_not_removed) {
  three();
  ASSERT_TRUE(make(1, "on-one"));
  const auto refused = change(2, kRemove, 1);
  ASSERT_TRUE(refused);
  EXPECT_THAT(refused->message, HasSubstr("drain"));
  EXPECT_EQ(change(2, kRemove, 9)->code, Code::kNotFound);
  ASSERT_FALSE(change(1, kAdd, 5));
  ASSERT_FALSE(change(1, kRemove, 5)) << "it may not come any more";
  EXPECT_EQ(change(1, kAdd, 2), std::nullopt) << "it is there";
}

}  // namespace
}  // namespace pyralog::cluster
