#include "cluster/steward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace pyralog::cluster {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Uuid disk(std::int32_t node, int which = 0) {
  Uuid id;
  id.bytes[0] = static_cast<std::uint8_t>(1 + which);
  id.bytes[15] = static_cast<std::uint8_t>(node);
  return id;
}
TopicId topic_id(std::uint8_t n) {
  TopicId id;
  id.uuid.bytes[1] = n;
  return id;
}
PartitionId part(std::int32_t index = 0, std::uint8_t topic = 1) {
  return {topic_id(topic), PartitionIndex(index)};
}
std::vector<NodeId> nodes(std::initializer_list<std::int32_t> ids) {
  std::vector<NodeId> out;
  for (const std::int32_t id : ids) out.emplace_back(id);
  return out;
}

/// A catalogue that changes, a clock, nodes that come and go, and the steward that sees it all.
class StewardTest : public ::testing::Test {
 protected:
  StewardTest() {
    apply(catalog::ClusterCreated{disk(99), 16, WallMs{1}});
    for (std::int32_t i = 1; i <= 4; ++i) {
      boot(i, 1);
      live(i, true);
    }
  }
  Result<void> try_apply(const catalog::Entry& entry) {
    return state_.apply(entry, state_.position() + 1);
  }
  void apply(const catalog::Entry& entry) {
    const auto done = try_apply(entry);
    ASSERT_TRUE(done) << done.error().message;
  }
  void boot(std::int32_t node, std::uint64_t counter, int which = 0) {
    catalog::NodeRegistered said;
    said.node = NodeId(node);
    said.incarnation = disk(node, which);
    said.boot_counter = counter;
    said.host = "n";
    said.port = 9092;
    said.replace_disk = which != 0;
    apply(said);
  }
  void live(std::int32_t node, bool up) { nodes_[NodeId(node)] = {.up = up, .since = now_}; }
  void make(std::uint8_t topic, std::vector<std::vector<NodeId>> partitions) {
    catalog::TopicCreated made;
    made.id = topic_id(topic);
    made.name = "topic-" + std::to_string(topic);
    made.partitions = partitions;
    apply(made);
    for (std::size_t i = 0; i < partitions.size(); ++i) {
      lead(part(static_cast<std::int32_t>(i), topic), partitions[i].front());
    }
  }
  /// Activates the next epoch, or the proposed one of this node, with all its replicas.
  void lead(const PartitionId& id, NodeId leader) {
    const catalog::Partition& p = *state_.partition(id);
    catalog::EpochActivation a;
    a.partition = id;
    const bool own = p.current && p.highest_proposed > p.current->epoch && p.candidate == leader;
    a.epoch = own ? p.highest_proposed : Epoch(p.highest_proposed.value + 1);
    a.leader = leader;
    for (const NodeId each : p.replicas)
      a.replicas.push_back({each, state_.node(each)->incarnation});
    if (p.current && !own) apply(catalog::EpochProposed{id, a.epoch, leader});
    apply(catalog::EpochsActivated{{a}});
  }
  Steward::Proposals step() {
    steward_.observe(std::make_shared<const catalog::Catalog>(state_), now_);
    return steward_.step(nodes_, now_);
  }
  Steward::Proposals balance() {
    steward_.observe(std::make_shared<const catalog::Catalog>(state_), now_);
    return steward_.balance(nodes_, now_);
  }
  /// What is proposed comes to stand.
  Steward::Proposals stand(Steward::Proposals said) {
    for (const auto& each : said) apply(each);
    steward_.observe(std::make_shared<const catalog::Catalog>(state_), now_);
    return said;
  }
  Steward::Proposals after(Duration time) {
    now_ = now_ + time;
    return step();
  }

  catalog::Catalog state_;
  Instant now_{1'000'000'000'000};
  Liveness nodes_;
  Steward steward_;
};

TEST_F(StewardTest, takes_over_from_a_leader_that_is_down_for_long_enough) {
  make(1, {nodes({1, 2, 3}), nodes({2, 3, 1}), nodes({3, 1, 2})});
  EXPECT_THAT(step(), IsEmpty());
  live(1, false);
  EXPECT_THAT(step(), IsEmpty());
  EXPECT_EQ(steward_.again(), now_ + 250ms);
  EXPECT_THAT(after(249ms), IsEmpty());
  EXPECT_THAT(after(1ms), ElementsAre(catalog::EpochProposed{part(), Epoch(2), NodeId(2)}));
  EXPECT_EQ(steward_.open_cases(), 1u);
}

TEST_F(StewardTest, a_short_absence_changes_nothing) {
  make(1, {nodes({1, 2, 3})});
  for (int i = 0; i < 20; ++i) {
    live(1, false);
    EXPECT_THAT(after(200ms), IsEmpty());
    live(1, true);
    EXPECT_THAT(after(200ms), IsEmpty());
  }
  EXPECT_EQ(steward_.open_cases(), 0u);
}

TEST_F(StewardTest, says_everything_once_and_forgets_what_is_solved) {
  make(1, {nodes({1, 2, 3})});
  step();
  live(1, false);
  ASSERT_THAT(after(300ms), SizeIs(1));
  EXPECT_THAT(after(50ms), IsEmpty()) << "it is on its way";
  EXPECT_THAT(after(500ms), IsEmpty());
  apply(catalog::EpochProposed{part(), Epoch(2), NodeId(2)});
  EXPECT_THAT(after(50ms), IsEmpty()) << "it stands";
  lead(part(), NodeId(2));
  EXPECT_THAT(after(50ms), IsEmpty());
  EXPECT_EQ(steward_.open_cases(), 0u);
  EXPECT_EQ(steward_.again(), Instant::never());
}

TEST_F(StewardTest, what_could_not_be_proposed_is_said_again) {
  make(1, {nodes({1, 2, 3})});
  step();
  live(1, false);
  const auto said = after(300ms);
  ASSERT_THAT(said, SizeIs(1));
  steward_.failed();
  EXPECT_EQ(after(50ms), said);
  // Nobody needs it any more.
  steward_.failed();
  live(1, true);
  EXPECT_THAT(after(50ms), IsEmpty());
  EXPECT_EQ(steward_.open_cases(), 0u);
}

TEST_F(StewardTest, another_candidate_follows_one_that_fails_until_all_have_had_a_turn) {
  make(1, {nodes({1, 2, 3, 4})});
  step();
  live(1, false);
  std::vector<std::int32_t> turns;
  stand(after(300ms));
  turns.push_back(state_.partition(part())->candidate.value);
  for (int i = 0; i < 7; ++i) {
    Steward::Proposals said;
    for (int waited = 0; said.empty() && waited < 100; ++waited) said = after(1s);
    ASSERT_THAT(said, SizeIs(1));
    turns.push_back(stand(said).front().candidate.value);
  }
  EXPECT_THAT(turns, ElementsAre(2, 3, 4, 2, 3, 4, 2, 3));
}

TEST_F(StewardTest, gives_a_candidate_its_patience_and_a_failing_lot_ever_more) {
  make(1, {nodes({1, 2})});
  step();
  live(1, false);
  stand(after(300ms));
  EXPECT_THAT(after(2999ms), IsEmpty());
  EXPECT_THAT(stand(after(1ms)), ElementsAre(catalog::EpochProposed{part(), Epoch(3), NodeId(2)}));
  EXPECT_THAT(after(5999ms), IsEmpty());
  EXPECT_THAT(stand(after(1ms)), SizeIs(1));
  for (int i = 0; i < 8; ++i) stand(after(60s));
  EXPECT_THAT(after(59'999ms), IsEmpty());
  EXPECT_THAT(stand(after(1ms)), SizeIs(1));
  // Once another replica is back, what could not be done may be possible: it is not waited for.
  live(4, false);
  step();
  live(4, true);
  EXPECT_THAT(after(3s), IsEmpty()) << "that holds none";
  live(1, true);
  EXPECT_THAT(after(3s), SizeIs(1));
}

TEST_F(StewardTest, a_candidate_that_goes_down_is_replaced_at_once) {
  make(1, {nodes({1, 2, 3})});
  step();
  live(1, false);
  stand(after(300ms));
  live(2, false);
  EXPECT_THAT(after(249ms), IsEmpty());
  EXPECT_THAT(stand(after(1ms)), ElementsAre(catalog::EpochProposed{part(), Epoch(3), NodeId(3)}));
  // And nobody, if there is nobody.
  live(3, false);
  EXPECT_THAT(after(10s), IsEmpty());
  EXPECT_EQ(steward_.again(), Instant::never());
  live(2, true);
  EXPECT_THAT(after(0ms), ElementsAre(catalog::EpochProposed{part(), Epoch(4), NodeId(2)}));
}

TEST_F(StewardTest, nothing_is_proposed_where_no_replica_is_left) {
  make(1, {nodes({1}), nodes({1, 2})});
  step();
  live(1, false);
  live(2, false);
  EXPECT_THAT(after(10s), IsEmpty());
  nodes_.erase(NodeId(2));
  EXPECT_THAT(after(10s), IsEmpty()) << "of whom nothing is known";
}

TEST_F(StewardTest, a_node_that_has_started_again_may_come_back_by_itself) {
  make(1, {nodes({1, 2, 3}), nodes({1, 2, 3})});
  step();
  boot(1, 2);
  EXPECT_THAT(step(), IsEmpty());
  lead(part(0), NodeId(1));
  EXPECT_THAT(after(1999ms), IsEmpty());
  EXPECT_THAT(after(1ms), ElementsAre(catalog::EpochProposed{part(1), Epoch(2), NodeId(2)}));
}

TEST_F(StewardTest, a_node_that_has_started_again_is_asked_if_there_is_no_other) {
  make(1, {nodes({1}), nodes({1, 2})});
  step();
  live(2, false);
  boot(1, 2);
  step();
  EXPECT_THAT(after(2s), ElementsAre(catalog::EpochProposed{part(0), Epoch(2), NodeId(1)},
                                     catalog::EpochProposed{part(1), Epoch(2), NodeId(1)}));
}

TEST_F(StewardTest, what_comes_with_a_start_is_not_older_than_it) {
  make(1, {nodes({1, 2, 3}), nodes({1, 2, 3})});
  step();
  boot(1, 2);
  lead(part(0), NodeId(1));  // seen in one look
  step();
  EXPECT_THAT(after(2s), ElementsAre(catalog::EpochProposed{part(1), Epoch(2), NodeId(2)}));
}

TEST_F(StewardTest, a_replaced_disk_leads_nothing_and_is_no_candidate) {
  make(1, {nodes({1, 2, 3}), nodes({2, 1, 3})});
  step();
  boot(1, 1, 1);
  live(2, false);
  EXPECT_THAT(after(300ms),
              testing::UnorderedElementsAre(catalog::EpochProposed{part(0), Epoch(2), NodeId(3)},
                                            catalog::EpochProposed{part(1), Epoch(2), NodeId(3)}));
  // Whoever sees it only now comes to the same.
  Steward later;
  later.observe(std::make_shared<const catalog::Catalog>(state_), now_);
  EXPECT_THAT(later.step(nodes_, now_), SizeIs(2));
}

TEST_F(StewardTest, who_is_draining_leads_only_what_nobody_else_can) {
  make(1, {nodes({1, 2, 3}), nodes({1, 2})});
  step();
  nodes_[NodeId(2)].draining = true;
  live(1, false);
  EXPECT_THAT(after(300ms), ElementsAre(catalog::EpochProposed{part(0), Epoch(2), NodeId(3)},
                                        catalog::EpochProposed{part(1), Epoch(2), NodeId(2)}));
}

TEST_F(StewardTest, who_is_draining_leads_on_if_the_others_fail) {
  make(1, {nodes({1, 2})});
  step();
  nodes_[NodeId(1)].draining = true;
  EXPECT_THAT(stand(balance()), ElementsAre(catalog::EpochProposed{part(), Epoch(2), NodeId(2)}));
  EXPECT_THAT(after(3s), ElementsAre(catalog::EpochProposed{part(), Epoch(3), NodeId(1)}));
}

TEST_F(StewardTest, does_a_bounded_lot_at_a_time) {
  make(1, std::vector<std::vector<NodeId>>(2500, nodes({1, 2, 3})));
  step();
  live(1, false);
  std::size_t all = 0;
  for (const std::size_t expected : {1000u, 1000u, 500u, 0u}) {
    const auto said = after(250ms);
    EXPECT_EQ(said.size(), expected);
    all += said.size();
  }
  EXPECT_EQ(all, 2500u);
}

TEST_F(StewardTest, forgets_topics_that_are_gone_and_sees_those_made_again) {
  make(1, {nodes({1, 2, 3}), nodes({1, 2, 3})});
  step();
  live(1, false);
  stand(after(300ms));
  EXPECT_EQ(steward_.open_cases(), 2u);
  apply(catalog::TopicDeleted{topic_id(1)});
  catalog::TopicCreated made;
  made.id = topic_id(2);
  made.name = "topic-1";
  made.partitions = {nodes({1, 3})};
  apply(made);
  step();
  EXPECT_EQ(steward_.open_cases(), 0u);
  lead(part(0, 2), NodeId(1));
  EXPECT_THAT(step(), ElementsAre(catalog::EpochProposed{part(0, 2), Epoch(2), NodeId(3)}));
}

TEST_F(StewardTest, a_move_needs_a_replica_that_is_up) {
  make(1, {nodes({1, 2, 3})});
  step();
  const auto code = [&](const PartitionId& id, std::int32_t to) -> std::optional<Code> {
    const auto said = steward_.move(id, NodeId(to), nodes_, now_);
    if (said) return std::nullopt;
    return said.error().code;
  };
  EXPECT_EQ(code(part(1), 2), Code::kNotFound);
  EXPECT_EQ(code(part(), 1), Code::kAlreadyExists);
  EXPECT_EQ(code(part(), 4), Code::kUnavailable);
  live(2, false);
  nodes_[NodeId(3)].draining = true;
  EXPECT_EQ(code(part(), 2), Code::kUnavailable);
  EXPECT_EQ(code(part(), 3), Code::kUnavailable);
  live(2, true);
  const auto said = steward_.move(part(), NodeId(2), nodes_, now_);
  ASSERT_TRUE(said);
  EXPECT_EQ(*said, (catalog::EpochProposed{part(), Epoch(2), NodeId(2)}));
  EXPECT_EQ(code(part(), 2), Code::kUnavailable) << "is on its way";
  stand({*said});
  EXPECT_EQ(code(part(), 2), Code::kUnavailable);
  lead(part(), NodeId(2));
  EXPECT_THAT(step(), IsEmpty());
  EXPECT_EQ(code(part(), 2), Code::kAlreadyExists);
}

TEST_F(StewardTest, a_move_that_does_not_come_off_ends_with_another_leader) {
  make(1, {nodes({1, 2, 3})});
  step();
  stand({*steward_.move(part(), NodeId(2), nodes_, now_)});
  EXPECT_THAT(after(2999ms), IsEmpty());
  EXPECT_THAT(after(1ms), ElementsAre(catalog::EpochProposed{part(), Epoch(3), NodeId(1)}));
}

TEST_F(StewardTest, leaders_go_back_to_where_they_should_be_once_that_has_lasted) {
  make(1, std::vector<std::vector<NodeId>>(25, nodes({1, 2, 3})));
  for (std::int32_t i = 0; i < 25; ++i) lead(part(i), NodeId(2));
  step();
  EXPECT_THAT(balance(), IsEmpty());
  now_ = now_ + 5min - 1ms;
  EXPECT_THAT(balance(), IsEmpty());
  now_ = now_ + 1ms;
  std::size_t moved = 0;
  for (const std::size_t expected : {10u, 10u, 5u, 0u}) {
    const auto said = stand(balance());
    EXPECT_EQ(said.size(), expected);
    EXPECT_THAT(balance(), IsEmpty()) << "one lot after the other";
    for (const auto& each : said) {
      EXPECT_EQ(each.candidate, NodeId(1));
      lead(each.partition, NodeId(1));
    }
    moved += said.size();
  }
  EXPECT_EQ(moved, 25u);
}

TEST_F(StewardTest, does_not_balance_in_trouble_nor_soon_after) {
  make(1, {nodes({1, 2, 3}), nodes({2, 3, 1})});
  lead(part(0), NodeId(3));
  step();
  now_ = now_ + 10min;
  live(2, false);
  EXPECT_THAT(balance(), IsEmpty()) << "a takeover may be next";
  const auto said = stand(after(300ms));
  ASSERT_THAT(said, SizeIs(1));
  EXPECT_THAT(balance(), IsEmpty()) << "it is under way";
  lead(part(1), said.front().candidate);
  now_ = now_ + 5min - 1ms;
  EXPECT_THAT(balance(), IsEmpty());
  now_ = now_ + 1ms;
  EXPECT_THAT(balance(), ElementsAre(catalog::EpochProposed{part(0), Epoch(3), NodeId(1)}));
}

TEST_F(StewardTest, a_draining_node_is_led_away_from_and_not_back_to) {
  make(1, {nodes({1, 2, 3}), nodes({1}), nodes({2, 1, 3})});
  step();
  nodes_[NodeId(1)].draining = true;
  EXPECT_THAT(stand(balance()), ElementsAre(catalog::EpochProposed{part(0), Epoch(2), NodeId(2)}));
  lead(part(0), NodeId(2));
  now_ = now_ + 1h;
  EXPECT_THAT(balance(), IsEmpty());
  nodes_[NodeId(1)].draining = false;
  EXPECT_THAT(balance(), ElementsAre(catalog::EpochProposed{part(0), Epoch(3), NodeId(1)}));
}

TEST_F(StewardTest, nobody_is_led_back_to_a_replica_that_is_to_leave) {
  make(1, {nodes({1, 2, 3})});
  step();
  const auto proposed = steward_.move(part(0), NodeId(2), nodes_, now_);
  ASSERT_TRUE(proposed);
  apply(*proposed);
  lead(part(0), NodeId(2));
  apply(catalog::ReplicasWanted{part(0), nodes({2, 3, 4})});
  now_ = now_ + 1h;
  EXPECT_THAT(balance(), IsEmpty());
  apply(catalog::ReplicasWanted{part(0), {}});
  EXPECT_THAT(balance(), ElementsAre(catalog::EpochProposed{part(0), Epoch(3), NodeId(1)}));
}

TEST_F(StewardTest, a_draining_node_is_led_away_from_to_a_replica_that_stays) {
  make(1, {nodes({1, 2, 3}), nodes({1, 2})});
  apply(catalog::ReplicasWanted{part(0), nodes({4, 3})});
  apply(catalog::ReplicasWanted{part(1), nodes({1, 4})});
  step();
  nodes_[NodeId(1)].draining = true;
  EXPECT_THAT(balance(), ElementsAre(catalog::EpochProposed{part(0), Epoch(2), NodeId(3)},
                                     catalog::EpochProposed{part(1), Epoch(2), NodeId(2)}))
      << "where there is none, to one that leaves";
}

TEST_F(StewardTest, ten_thousand_partitions_that_are_well_cost_nothing) {
  for (std::uint8_t topic = 1; topic <= 100; ++topic) {
    make(topic, std::vector<std::vector<NodeId>>(100, nodes({1, 2, 3})));
  }
  const auto state = std::make_shared<const catalog::Catalog>(state_);
  steward_.observe(state, now_);
  ASSERT_THAT(steward_.step(nodes_, now_), IsEmpty());
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 10'000; ++i) {
    now_ = now_ + 50ms;
    steward_.observe(state, now_);
    ASSERT_THAT(steward_.step(nodes_, now_), IsEmpty());
  }
  const auto each = (std::chrono::steady_clock::now() - begin) / 10'000;
  EXPECT_LT(each, 100us);
}

}  // namespace
}  // namespace pyralog::cluster
