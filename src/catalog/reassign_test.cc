// How a partition gets from the nodes where it is to those where it is to be.
#include "catalog/reassign.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "catalog/catalog_testing.h"
#include "catalog/plan.h"

namespace pyralog::catalog {
namespace {

using namespace testing;
using Nodes = std::vector<NodeId>;
using Set = std::set<NodeId>;

Nodes ids(std::initializer_list<std::int32_t> numbers) {
  Nodes nodes;
  for (const std::int32_t each : numbers) nodes.emplace_back(each);
  return nodes;
}
/// These are caught up.
Keeping full(std::initializer_list<std::int32_t> numbers, Set replaced = {}) {
  const Nodes nodes = ids(numbers);
  return Keeping{Set(nodes.begin(), nodes.end()), std::move(replaced)};
}
Set set_of(const Nodes& nodes) {
  return Set(nodes.begin(), nodes.end());
}
bool includes(const Set& all, const Set& some) {
  return std::ranges::includes(all, some);
}

/// A partition of `replicas` that is to be on `target`, its newest epoch of `now`, the first
/// leading.
Partition at(const Nodes& replicas, const Nodes& target, const Nodes& now, std::uint16_t w) {
  Partition p;
  p.replicas = replicas;
  p.target = target;
  p.current = EpochRecord{Epoch(1), Offset(0), std::nullopt, now.front(), {}, w};
  for (const NodeId each : now) p.current->replicas.push_back({each, uuid(1)});
  return p;
}
NextReplicas step(std::initializer_list<std::int32_t> nodes, std::uint16_t w) {
  return NextReplicas{ids(nodes), w};
}

TEST(NextReplicas, takes_in_as_many_as_leave_nobody_waiting) {
  const Nodes three = ids({1, 2, 3});
  const NodeId leader(1);
  EXPECT_EQ(next_replicas(at(three, ids({4, 5, 6}), three, 2), full({1, 2, 3}), leader, 1),
            step({4, 5, 1, 2, 3}, 3));
  EXPECT_EQ(next_replicas(at(three, ids({1, 2, 4}), three, 2), full({1, 2, 3}), leader, 1),
            step({1, 2, 4, 3}, 3));
  const Nodes five = ids({1, 2, 3, 4, 5});
  EXPECT_EQ(next_replicas(at(three, ids({4, 5, 6}), five, 3), full({1, 2, 3}), leader, 1),
            std::nullopt)
      << "one of the new ones has to catch up first";
  EXPECT_EQ(next_replicas(at(three, ids({4, 5, 6}), five, 3), full({1, 2, 3, 4}), leader, 1),
            step({4, 5, 6, 1, 2, 3}, 4));
}

TEST(NextReplicas, the_second_copy_of_a_lone_replica_counts_once_it_is_one) {
  const NodeId leader(1);
  EXPECT_EQ(next_replicas(at(ids({1}), ids({2, 1, 3}), ids({1}), 1), {}, leader, 1),
            step({2, 1}, 1));
  const Partition two = at(ids({1}), ids({1, 2}), ids({1, 2}), 1);
  EXPECT_EQ(next_replicas(two, full({1}), leader, 1), std::nullopt);
  EXPECT_EQ(next_replicas(two, full({1, 2}), leader, 1), step({1, 2}, 2));
  EXPECT_EQ(next_replicas(at(ids({1, 2}), ids({1, 2, 3}), ids({1, 2}), 2), full({1, 2}), leader, 3),
            step({1, 2, 3}, 2))
      << "nor with a cluster-wide min.insync.replicas above what there was";
}

TEST(NextReplicas, keeps_who_leaves_until_all_who_stay_hold_everything) {
  const Partition p = at(ids({1, 2, 3}), ids({1, 2, 4}), ids({1, 2, 4, 3}), 3);
  EXPECT_EQ(next_replicas(p, full({1, 2, 3}), NodeId(1), 1), std::nullopt);
  EXPECT_EQ(next_replicas(p, full({1, 2, 3, 4}), NodeId(1), 1), step({1, 2, 4}, 2));
  EXPECT_EQ(next_replicas(p, full({1, 2, 4}), NodeId(1), 1), step({1, 2, 4}, 2));
}

TEST(NextReplicas, replaces_a_node_that_is_gone_without_waiting_for_it) {
  const Nodes three = ids({1, 2, 3});
  EXPECT_EQ(next_replicas(at(three, ids({1, 2, 4}), three, 2), full({1, 2}), NodeId(1), 1),
            step({1, 2, 4}, 2));
  EXPECT_EQ(
      next_replicas(at(three, ids({1, 2, 4}), ids({1, 2, 3, 4}), 3), full({1, 2}), NodeId(1), 1),
      step({1, 2, 4}, 2))
      << "also when it went after the new one had come";
  EXPECT_EQ(
      next_replicas(at(three, ids({4, 5, 6}), ids({1, 2, 3, 4, 5}), 3), full({1, 2}), NodeId(1), 1),
      step({4, 1, 2}, 2))
      << "as few copies as promised are enough to go on";
}

TEST(NextReplicas, never_promises_less_than_before_or_after) {
  EXPECT_EQ(next_replicas(at(ids({1, 2}), ids({1, 3}), ids({1, 2}), 2), full({1}), NodeId(1), 1),
            std::nullopt)
      << "node 1 alone would acknowledge";
  EXPECT_EQ(next_replicas(at(ids({1, 2, 3}), {}, ids({1, 2, 3}), 2), full({1}), NodeId(1), 1),
            std::nullopt);
  EXPECT_EQ(next_replicas(at(ids({1, 2}), ids({1}), ids({1, 2}), 2), full({1}), NodeId(1), 1),
            step({1}, 1))
      << "what is asked for";
}

TEST(NextReplicas, missing_ones_are_replaced_by_waiting_only_if_asked_for) {
  const Partition two = at(ids({1, 2}), ids({1, 3}), ids({1, 2}), 2);
  EXPECT_EQ(replace_missing(two, full({1}), NodeId(1), 1), step({1, 3}, 2));
  EXPECT_EQ(replace_missing(two, full({1, 2}), NodeId(1), 1), std::nullopt);
  const Partition all = at(ids({1, 2, 3}), ids({1, 2, 4}), ids({1, 2, 3}), 3);
  EXPECT_EQ(replace_missing(all, full({1, 2}), NodeId(1), 3), step({1, 2, 4}, 3));
  const Partition three = at(ids({1, 2, 3}), ids({1, 4, 5}), ids({1, 2, 3}), 2);
  EXPECT_EQ(replace_missing(three, full({1}), NodeId(1), 1), std::nullopt)
      << "nobody knows what nodes 2 and 3 acknowledged";
}

TEST(NextReplicas, a_candidate_that_never_gets_far_takes_new_ones_for_those_that_are_to_go) {
  Partition p = at(ids({2, 3}), ids({1, 3}), ids({2, 3}), 2);
  const Epoch now = p.current->epoch;
  p.highest_proposed = Epoch(now.value + 1);
  EXPECT_EQ(replicas_for_candidate(p, NodeId(3), 1, {NodeId(1)}), step({2, 3}, 2))
      << "node 2 may come back";
  p.highest_proposed = Epoch(now.value + 3);
  EXPECT_EQ(replicas_for_candidate(p, NodeId(3), 1, {NodeId(1)}), step({3, 1}, 2));
  EXPECT_EQ(replicas_for_candidate(p, NodeId(3), 1, {NodeId(1), NodeId(2)}), step({2, 3}, 2));
  EXPECT_EQ(replicas_for_candidate(p, NodeId(3), 1, {}), step({2, 3}, 2)) << "one copy is too few";
  p.target.clear();
  EXPECT_EQ(replicas_for_candidate(p, NodeId(3), 1, {NodeId(1)}), step({2, 3}, 2))
      << "nobody asked for it";
}

TEST(NextReplicas, nothing_is_to_be_done_where_it_is_to_be) {
  const Nodes three = ids({1, 2, 3});
  EXPECT_EQ(next_replicas(at(three, {}, three, 2), full({1, 2, 3}), NodeId(1), 1), std::nullopt);
  EXPECT_EQ(next_replicas(at(three, {}, three, 2), full({1, 2}), NodeId(1), 1), std::nullopt);
  EXPECT_EQ(next_replicas(at(three, {}, three, 2), full({1, 2, 3}), NodeId(4), 1), std::nullopt);
  Partition none;
  none.replicas = three;
  EXPECT_EQ(next_replicas(none, full({1, 2, 3}), NodeId(1), 1), std::nullopt);
  EXPECT_EQ(next_replicas(at(three, {}, ids({1, 2, 3, 4}), 3), full({1, 2, 3}), NodeId(1), 1),
            step({1, 2, 3}, 2))
      << "a step that was under way when all was cancelled";
}

TEST(NextReplicas, follows_a_change_of_min_insync_replicas) {
  const Partition p = at(ids({1, 2, 3}), {}, ids({1, 2, 3}), 2);
  EXPECT_EQ(next_replicas(p, full({1, 2, 3}), NodeId(1), 3), step({1, 2, 3}, 3));
  EXPECT_EQ(next_replicas(p, full({1, 2}), NodeId(1), 3), std::nullopt);
  EXPECT_EQ(next_replicas(at(ids({1, 2, 3}), {}, ids({1, 2, 3}), 3), full({1, 2}), NodeId(1), 1),
            step({1, 2, 3}, 2));
}

TEST(NextReplicas, bring_a_node_back_whose_disk_was_replaced) {
  const Nodes three = ids({1, 2, 3});
  const Set third{NodeId(3)};
  EXPECT_EQ(next_replicas(at(three, {}, three, 2), full({1, 2}, third), NodeId(1), 1),
            step({1, 2, 3}, 2));
  EXPECT_EQ(next_replicas(at(three, ids({1, 2}), three, 2), full({1, 2}, third), NodeId(1), 1),
            step({1, 2}, 2));
  EXPECT_EQ(next_replicas(at(ids({1, 2}), {}, three, 2), full({1, 2}, third), NodeId(1), 1),
            step({1, 2}, 2))
      << "a disk that nobody waits for";
  const Nodes two = ids({1, 2});
  EXPECT_EQ(next_replicas(at(two, {}, two, 2), full({1}, {NodeId(2)}), NodeId(1), 1), std::nullopt)
      << "it has to get everything first";
  EXPECT_EQ(replace_missing(at(two, {}, two, 2), full({1}, {NodeId(2)}), NodeId(1), 1),
            step({1, 2}, 2));
  Catalog c = cluster(3);
  ASSERT_TRUE(apply(c, topic(1, "a", 1, two)));
  EXPECT_EQ(replaced_disks(*c.partition(partition_id(1)), c), Set());
  EpochActivation first = activation(1, 1, 0);
  first.replicas.push_back({NodeId(2), uuid(102)});
  ASSERT_TRUE(apply(c, activated(first)));
  EXPECT_EQ(replaced_disks(*c.partition(partition_id(1)), c), Set());
  NodeRegistered replaced = node(2);
  replaced.incarnation = uuid(77);
  replaced.replace_disk = true;
  ASSERT_TRUE(apply(c, replaced));
  EXPECT_EQ(replaced_disks(*c.partition(partition_id(1)), c), Set{NodeId(2)});
}

TEST(HandOver, a_leader_that_leaves_goes_last) {
  const Partition p = at(ids({1, 2, 3}), ids({4, 5, 6}), ids({1, 4, 5, 6}), 3);
  EXPECT_EQ(next_replicas(p, full({1, 4, 5, 6}), NodeId(1), 1), std::nullopt);
  EXPECT_EQ(hand_over(p, full({1, 4, 5, 6}), NodeId(1)), NodeId(4));
  EXPECT_EQ(hand_over(p, full({1, 4, 5}), NodeId(1)), std::nullopt) << "holds what node 6 lacks";
  EXPECT_EQ(hand_over(p, full({4, 5, 6}), NodeId(4)), std::nullopt) << "does not leave";
  EXPECT_EQ(replicas_for_candidate(p, NodeId(5), 1), step({4, 5, 6}, 2));
  const Partition some = at(ids({1, 2, 3}), ids({2, 3, 4}), ids({1, 2, 3, 4}), 3);
  EXPECT_EQ(hand_over(some, full({1, 2, 3, 4}), NodeId(1)), NodeId(4));
  EXPECT_EQ(replicas_for_candidate(some, NodeId(4), 1), step({2, 3, 4}, 2));
  const Partition fewer = at(ids({1, 2, 3}), ids({3, 2}), ids({1, 2, 3}), 2);
  EXPECT_EQ(hand_over(fewer, full({1, 2, 3}), NodeId(1)), NodeId(3));
  const Partition early = at(ids({1, 2, 3}), ids({4, 5, 6}), ids({1, 2, 3, 4, 5}), 3);
  EXPECT_EQ(hand_over(early, full({1, 2, 3, 4, 5}), NodeId(1)), std::nullopt);
}

TEST(ReplicasForCandidate, are_those_that_surely_hold_something) {
  const Nodes three = ids({1, 2, 3});
  EXPECT_EQ(replicas_for_candidate(at(three, {}, three, 2), NodeId(2), 1), step({1, 2, 3}, 2));
  EXPECT_EQ(replicas_for_candidate(at(three, {}, three, 2), NodeId(2), 3), step({1, 2, 3}, 3));
  EXPECT_EQ(replicas_for_candidate(at(three, {}, three, 2), NodeId(9), 1), std::nullopt);
  const Partition coming = at(three, ids({1, 2, 4}), ids({1, 2, 4, 3}), 3);
  EXPECT_EQ(replicas_for_candidate(coming, NodeId(2), 1), step({1, 2, 3}, 2))
      << "without node 1, node 4 had to get everything first";
  EXPECT_EQ(replicas_for_candidate(coming, NodeId(4), 1), step({1, 2, 4}, 2));
  EXPECT_EQ(replicas_for_candidate(at(three, ids({4, 5, 6}), ids({1, 2, 4}), 2), NodeId(4), 1),
            step({1, 2, 4}, 2));
  EXPECT_EQ(replicas_for_candidate(at(ids({1}), ids({1, 4}), ids({1, 4}), 1), NodeId(1), 1),
            step({1}, 1));
  Partition none;
  none.replicas = three;
  none.target = ids({4, 5});
  EXPECT_EQ(replicas_for_candidate(none, NodeId(5), 1), step({4, 5}, 2));
  EXPECT_EQ(replicas_for_candidate(none, NodeId(3), 1), step({1, 2, 3}, 2));
}

// ---- All of them ----

/// A partition whose replicas are moved, in a catalogue that takes every step.
class Journey {
 public:
  Journey(const Catalog& base, const Nodes& from, std::int32_t min_insync, std::uint32_t seed)
      : c_(base), min_insync_(min_insync), rng_(seed) {
    PYRALOG_ASSERT(
        apply(c_, ClusterSettingsChanged{{{"min.insync.replicas", std::to_string(min_insync)}}})
            .has_value());
    PYRALOG_ASSERT(apply(c_, topic(1, "a", 1, from)).has_value());
    leader_ = from.front();
    full_ = set_of(from);
    activate(NextReplicas{from, write_quorum(from.size(), min_insync)});
  }

  void want(const Nodes& target) {
    PYRALOG_ASSERT(apply(c_, ReplicasWanted{partition_id(1), target}).has_value());
  }
  void kill(NodeId node) {
    dead_.insert(node);
    full_.erase(node);
  }
  [[nodiscard]] std::uint32_t roll(std::uint32_t below) { return rng_() % below; }
  [[nodiscard]] NodeId leader() const { return leader_; }
  [[nodiscard]] const Partition& now() const { return *c_.partition(partition_id(1)); }
  [[nodiscard]] Set nodes() const {
    Set all;
    for (const Replica& each : now().current->replicas) all.insert(each.node);
    return all;
  }
  /// Somebody who lives catches up; false if nobody is behind.
  bool catch_up() {
    for (const NodeId each : nodes()) {
      if (dead_.contains(each) || full_.contains(each)) continue;
      full_.insert(each);
      return true;
    }
    return false;
  }
  /// Some who are not the leader fall behind.
  void fall_behind() {
    for (const NodeId each : nodes()) {
      if (each != leader_ && roll(2) == 0) full_.erase(each);
    }
  }
  /// Another node leads, out of the blue, if enough are there to let it.
  void fail_over() {
    const Set all = nodes();
    Nodes alive;
    for (const NodeId each : all) {
      if (!dead_.contains(each)) alive.push_back(each);
    }
    if (alive.size() < all.size() - now().current->write_quorum + 1) return;
    const NodeId candidate = alive[roll(static_cast<std::uint32_t>(alive.size()))];
    const auto next = replicas_for_candidate(now(), candidate, min_insync_);
    ASSERT_TRUE(next);
    ASSERT_TRUE(includes(all, set_of(next->nodes)));
    ASSERT_TRUE(set_of(next->nodes).contains(candidate));
    std::size_t living = 0;
    for (const NodeId each : next->nodes) living += dead_.contains(each) ? 0 : 1;
    if (living < next->write_quorum) return;
    leader_ = candidate;
    full_.insert(candidate);
    copied_for(*next);
    activate(*next);
  }
  /// One step of the leader; false if there is none.
  bool go_on() {
    const Set all = nodes();
    const std::size_t w = now().current->write_quorum;
    if (const auto next = next_replicas(now(), {full_, {}}, leader_, min_insync_)) {
      check(*next);
      activate(*next);
    } else if (const auto to = hand_over(now(), {full_, {}}, leader_)) {
      const auto theirs = replicas_for_candidate(now(), *to, min_insync_);
      PYRALOG_ASSERT(theirs.has_value());
      leader_ = *to;
      check(*theirs);
      activate(*theirs);
    } else if (const auto waiting = replace_missing(now(), {full_, {}}, leader_, min_insync_)) {
      EXPECT_LT(full_in(all), w);
      EXPECT_GE(waiting->write_quorum, std::min(w, goal_quorum()));
      copied_for(*waiting);
      activate(*waiting);
    } else {
      return false;
    }
    return true;
  }

 private:
  [[nodiscard]] std::size_t full_in(const Set& nodes) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(nodes, [&](NodeId each) { return full_.contains(each); }));
  }
  [[nodiscard]] const Nodes& goal() const {
    return now().target.empty() ? now().replicas : now().target;
  }
  [[nodiscard]] std::size_t goal_quorum() const { return write_quorum(goal().size(), min_insync_); }
  /// A step that nobody waits for, and that drops nobody whose copy is still needed.
  void check(const NextReplicas& next) {
    const Set before = nodes();
    const Set after = set_of(next.nodes);
    const Set to = set_of(goal());
    const std::size_t w = now().current->write_quorum;
    EXPECT_EQ(after.size(), next.nodes.size());
    EXPECT_TRUE(after.contains(leader_));
    EXPECT_GE(full_in(after), next.write_quorum) << "waits for a copy";
    EXPECT_GE(next.write_quorum, std::min(w, goal_quorum())) << "acknowledges with fewer copies";
    EXPECT_LE(next.write_quorum, write_quorum(after.size(), min_insync_));
    const std::size_t seals = before.size() - w + 1;
    EXPECT_TRUE(seals >= 1 && seals + w > before.size());
    for (const NodeId each : before) {
      if (after.contains(each) || !full_.contains(each)) continue;
      EXPECT_FALSE(to.contains(each)) << "a full copy that is to stay";
      EXPECT_TRUE(includes(full_, to) || next.nodes == now().replicas)
          << "a full copy that is needed";
    }
    for (const NodeId each : after) EXPECT_TRUE(before.contains(each) || to.contains(each));
  }
  /// Those who wait for copies get them.
  void copied_for(const NextReplicas& next) {
    for (const NodeId each : next.nodes) {
      if (full_in(set_of(next.nodes)) >= next.write_quorum) break;
      if (!dead_.contains(each)) full_.insert(each);
    }
    ASSERT_GE(full_in(set_of(next.nodes)), next.write_quorum);
  }
  void activate(const NextReplicas& next) {
    EpochActivation a = activation(1, now().highest_proposed.value + 1, 0, leader_.value);
    a.replicas.clear();
    for (const NodeId each : next.nodes) a.replicas.push_back({each, c_.node(each)->incarnation});
    a.write_quorum = next.write_quorum;
    PYRALOG_ASSERT(apply(c_, EpochProposed{a.partition, a.epoch, a.leader}).has_value());
    PYRALOG_ASSERT(apply(c_, activated(a)).has_value());
    // Who is not of the epoch hears no more of it.
    Set still;
    for (const NodeId each : full_) {
      if (set_of(next.nodes).contains(each)) still.insert(each);
    }
    full_ = still;
  }

  Catalog c_;
  std::int32_t min_insync_;
  std::mt19937 rng_;
  NodeId leader_;
  Set full_;
  Set dead_;
};

/// All sets of 1 to 4 of the nodes 1 to 6.
std::vector<Nodes> all_sets() {
  std::vector<Nodes> all;
  for (unsigned bits = 1; bits < 64; ++bits) {
    Nodes nodes;
    for (std::int32_t n = 1; n <= 6; ++n) {
      if ((bits >> (n - 1) & 1) != 0) nodes.emplace_back(n);
    }
    if (nodes.size() <= 4) all.push_back(std::move(nodes));
  }
  return all;
}

void travel(Journey& journey, const Nodes& from, const Nodes& to, const std::vector<Nodes>& all) {
  journey.want(to);
  // What changes on the way, and the odd node that leaves and is gone for good.
  const std::uint32_t kind = journey.roll(4);
  for (int i = 0; i < 6 && kind != 0; ++i) {
    const std::uint32_t what = journey.roll(8);
    if (what < 3) journey.catch_up();
    if (what == 3) journey.fall_behind();
    if (what == 4) journey.fail_over();
    if (what == 5 && kind == 2)
      journey.want(all[journey.roll(static_cast<std::uint32_t>(all.size()))]);
    if (what > 5) journey.go_on();
  }
  if (kind == 2) journey.want(to);
  if (kind == 3 && from.size() > 1 && journey.nodes() == set_of(from)) {
    const NodeId gone = from.back();
    if (std::ranges::find(to, gone) == to.end() && gone != journey.leader()) journey.kill(gone);
  }
  for (int i = 0; i < 100 && (journey.go_on() || journey.catch_up()); ++i) {
  }
  EXPECT_EQ(journey.now().replicas, to);
  EXPECT_TRUE(journey.now().target.empty());
  EXPECT_EQ(journey.nodes(), set_of(to));
}

TEST(NextReplicas, lead_from_any_nodes_to_any_others_whatever_happens) {
  const Catalog base = cluster(6);
  const std::vector<Nodes> all = all_sets();
  std::uint32_t seed = 0;
  for (const Nodes& from : all) {
    for (Nodes to : all) {
      for (const std::int32_t min_insync : {1, 3}) {
        Journey journey(base, from, min_insync, ++seed);
        if (journey.roll(2) == 0) std::ranges::reverse(to);
        SCOPED_TRACE(seed);
        travel(journey, from, to, all);
        if (HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace pyralog::catalog
