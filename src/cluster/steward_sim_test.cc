// A steward among nodes that come, go, start again and lose disks, and candidates that fail.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/steward.h"
#include "io/rng.h"

namespace pyralog::cluster {
namespace {

using namespace std::chrono_literals;

/// What all seeds together have met; a kind that none has is a test that tests nothing.
struct Met {
  std::uint64_t takeovers = 0, moves = 0, failed_candidates = 0, own = 0, lost = 0, successions = 0,
                disks = 0, restarts = 0, flaps = 0, drains = 0, deleted = 0;
};

class World {
 public:
  World(std::uint64_t seed, Met& met) : rng_(seed), met_(met) {
    options_.max_proposals = static_cast<std::size_t>(2 + below(30));
    options_.max_moves = 3;
    stewards_.assign(2, Steward(options_));
    apply(catalog::ClusterCreated{.cluster = {{1}}, .created = WallMs{1}});
    count_ = 3 + below(4);
    for (std::int32_t i = 1; i <= count_; ++i) {
      processes_[NodeId(i)] = {};
      enrol(NodeId(i), false);
      nodes_[NodeId(i)] = {.up = true, .since = now_};
    }
    for (int i = 0; i < 4; ++i) make_topic();
    observe();
  }

  void trouble() {
    for (int i = 0; i < 1200 && !::testing::Test::HasFailure(); ++i) {
      if (chance(0.05)) fault();
      tick();
    }
  }
  /// Faults are over, some nodes stay down: who can be led is led soon, and then nothing moves.
  void settle() {
    faults_ = false;
    loses_ = 0;
    tick_ = 500ms;
    for (auto& [id, process] : processes_) {
      nodes_[id].draining = false;
      if (!nodes_[id].up && chance(0.7)) start(id);
    }
    observe();
    for (int i = 0; i < 2 * 300; ++i) tick();
    expect_led();
    broken_.clear();
    for (int i = 0; i < 2 * 60; ++i) tick();
    const std::uint64_t before = met_.takeovers;
    const std::size_t astray = count_astray();
    const std::uint64_t moved = met_.moves;
    for (int i = 0; i < 2 * 900; ++i) tick();
    EXPECT_EQ(met_.takeovers, before) << "flaps";
    EXPECT_LE(met_.moves - moved, astray) << "flaps";
    expect_led();
  }

 private:
  struct Process {
    std::uint64_t boot = 0;
    int disk = 0;
    std::optional<Instant> proposes_at;  ///< for what it led before its start
  };
  struct Said {
    NodeId candidate;
    Instant at;
  };

  std::int32_t below(std::int32_t n) {
    return static_cast<std::int32_t>(rng_.below(static_cast<std::uint64_t>(n)));
  }
  bool chance(double p) { return static_cast<double>(rng_.below(1'000'000)) < p * 1e6; }
  NodeId any_node() { return NodeId(1 + below(count_)); }
  static Uuid disk(NodeId node, int which) {
    return {{static_cast<std::uint8_t>(10 + which), static_cast<std::uint8_t>(node.value)}};
  }
  bool apply(const catalog::Entry& entry) {
    const auto done = state_.apply(entry, state_.position() + 1);
    return done.has_value();
  }
  void observe() {
    if (state_.position() == observed_) return;
    observed_ = state_.position();
    const auto state = std::make_shared<const catalog::Catalog>(state_);
    for (Steward& each : stewards_) each.observe(state, now_);
  }
  Steward& leading() { return stewards_[leads_]; }

  void enrol(NodeId node, bool replaced) {
    Process& process = processes_[node];
    if (replaced) ++process.disk;
    ++process.boot;
    catalog::NodeRegistered said;
    said.node = node;
    said.incarnation = disk(node, process.disk);
    said.boot_counter = process.boot;
    said.host = "n";
    said.port = 1;
    said.replace_disk = replaced;
    EXPECT_TRUE(apply(said));
  }
  void start(NodeId node) {
    enrol(node, false);
    nodes_[node].up = true;
    nodes_[node].since = now_;
    processes_[node].proposes_at = now_ + Duration(5s) * below(100) / 100;
    observe();
    ++met_.restarts;
  }
  void make_topic() {
    catalog::TopicCreated made;
    made.id.uuid.bytes[0] = ++topics_;
    made.id.uuid.bytes[1] = 77;
    made.name = "t" + std::to_string(topics_);
    for (std::int32_t p = 1 + below(10); p > 0; --p) {
      std::vector<NodeId> replicas;
      const auto factor = static_cast<std::size_t>(1 + below(3));
      while (replicas.size() < factor) {
        const NodeId next = any_node();
        if (std::ranges::find(replicas, next) == replicas.end()) replicas.push_back(next);
      }
      made.partitions.push_back(replicas);
    }
    ASSERT_TRUE(apply(made));
    for (std::size_t i = 0; i < made.partitions.size(); ++i) {
      activate({made.id, PartitionIndex(static_cast<std::int32_t>(i))}, made.partitions[i].front());
    }
  }
  void activate(const PartitionId& id, NodeId leader) {
    const catalog::Partition& p = *state_.partition(id);
    catalog::EpochActivation a;
    a.partition = id;
    const bool own = p.current && p.highest_proposed > p.current->epoch && p.candidate == leader;
    a.epoch = own ? p.highest_proposed : Epoch(p.highest_proposed.value + 1);
    a.leader = leader;
    for (const NodeId each : p.replicas)
      a.replicas.push_back({each, state_.node(each)->incarnation});
    if (p.current && !own) ASSERT_TRUE(apply(catalog::EpochProposed{id, a.epoch, leader}));
    ASSERT_TRUE(apply(catalog::EpochsActivated{{a}}));
    boots_[id] = processes_[leader].boot;
    last_.erase(id);
    observe();
  }
  template <typename F>
  void each_partition(F visit) {
    const catalog::Catalog state = state_;
    for (const auto& topic : state.topics()) {
      for (const auto& p : topic->partitions) visit(PartitionId{topic->id, p->index}, *p);
    }
  }
  bool holds(const catalog::Partition& p, NodeId node) const {
    return std::ranges::any_of(p.current->replicas, [&](const catalog::Replica& each) {
      return each == catalog::Replica{node, state_.node(node)->incarnation};
    });
  }
  bool breaks(const PartitionId& id, NodeId node) { return broken_.contains({id, node}); }

  void fault() {
    const NodeId node = any_node();
    NodeLife& life = nodes_[node];
    switch (below(9)) {
      case 0:
      case 1:
      case 2:  // a process ends, or comes back
        if (!life.up) return start(node);
        life.up = false;
        life.since = now_;
        return;
      case 3:  // only its connection is gone for a moment
        if (!life.up) return;
        ++met_.flaps;
        life = {.up = false, .since = now_, .draining = life.draining};
        for (int i = below(8); i > 0; --i) tick();
        life = {.up = true, .since = now_, .draining = life.draining};
        return;
      case 4:
        if (life.up) start(node);  // so fast that nobody misses it
        return;
      case 5:
        if (disks_ > 0 || chance(0.8)) return;
        ++disks_;
        ++met_.disks;
        enrol(node, true);
        return observe();
      case 6:
        life.draining = !life.draining;
        met_.drains += life.draining ? 1 : 0;
        return;
      case 7:
        ++met_.successions;
        leads_ = 1 - leads_;
        return;
      default:
        if (chance(0.5)) {
          make_topic();
        } else if (const auto topics = state_.topics(); topics.size() > 2) {
          ++met_.deleted;
          EXPECT_TRUE(apply(catalog::TopicDeleted{
              topics[static_cast<std::size_t>(below(static_cast<std::int32_t>(topics.size())))]
                  ->id}));
        }
        return observe();
    }
  }

  void tick() {
    now_ = now_ + tick_;
    take(leading().step(nodes_, now_), options_.max_proposals, met_.takeovers);
    if (!faults_ || chance(0.05))
      take(leading().balance(nodes_, now_), options_.max_moves, met_.moves);
    for (auto& [node, process] : processes_) {
      if (!process.proposes_at || now_ < *process.proposes_at || !nodes_[node].up) continue;
      process.proposes_at.reset();
      each_partition([&](const PartitionId& id, const catalog::Partition& p) {
        if (p.current->leader != node || p.highest_proposed > p.current->epoch ||
            breaks(id, node) || boots_[id] == process.boot || !holds(p, node)) {
          return;
        }
        ++met_.own;
        activate(id, node);
      });
    }
    each_partition([&](const PartitionId& id, const catalog::Partition& p) {
      if (p.highest_proposed <= p.current->epoch || !nodes_[p.candidate].up) return;
      // Some never come to lead some partitions, but of each somebody does.
      if (faults_ && chance(0.01) && p.replicas.size() > 1 && !broken_partitions_.contains(id)) {
        broken_.insert({id, p.candidate});
        broken_partitions_.insert(id);
      }
      if (breaks(id, p.candidate)) {
        ++met_.failed_candidates;
        return;
      }
      if (!faults_ || chance(0.2)) activate(id, p.candidate);
    });
    observe();
  }

  void take(const Steward::Proposals& said, std::size_t most, std::uint64_t& count) {
    ASSERT_LE(said.size(), most);
    if (!said.empty() && chance(loses_)) {  // the leader has lost its majority
      ++met_.lost;
      leading().failed();
      return;
    }
    for (const auto& each : said) {
      const catalog::Partition* p = state_.partition(each.partition);
      ASSERT_NE(p, nullptr);
      ASSERT_EQ(each.epoch.value, p->highest_proposed.value + 1);
      ASSERT_TRUE(nodes_[each.candidate].up) << "cannot be reached";
      ASSERT_TRUE(holds(*p, each.candidate)) << "has no replica";
      const auto before = last_.find(each.partition);
      if (before != last_.end() && nodes_[before->second.candidate].up &&
          nodes_[before->second.candidate].since <= before->second.at) {
        ASSERT_GE(now_ - before->second.at, options_.candidate_patience) << "impatient";
        bool others = false;
        for (const NodeId other : p->replicas) {
          others |= other != before->second.candidate && nodes_[other].up && holds(*p, other) &&
                    !nodes_[other].draining;
        }
        if (others) ASSERT_NE(each.candidate, before->second.candidate);
      }
      last_[each.partition] = {each.candidate, now_};
      ASSERT_TRUE(apply(each));
      ++count;
    }
    observe();
  }

  std::size_t count_astray() {
    std::size_t out = 0;
    each_partition([&](const PartitionId&, const catalog::Partition& p) {
      out += p.current->leader != p.replicas.front() ? 1u : 0u;
    });
    return out;
  }
  void expect_led() {
    each_partition([&](const PartitionId& id, const catalog::Partition& p) {
      bool can = false;
      for (const NodeId node : p.replicas)
        can |= nodes_[node].up && holds(p, node) && !breaks(id, node);
      if (!can) return;
      const NodeId leader = p.current->leader;
      EXPECT_TRUE(nodes_[leader].up) << to_string(id);
      EXPECT_EQ(boots_[id], processes_[leader].boot) << to_string(id) << " by " << leader.value;
    });
  }

  io::SeededRng rng_;
  Met& met_;
  std::int32_t count_ = 0;
  catalog::Catalog state_;
  std::uint64_t observed_ = 0;
  Instant now_{1'000'000'000'000};
  Liveness nodes_;
  std::map<NodeId, Process> processes_;
  std::map<PartitionId, std::uint64_t> boots_;  ///< of its leader, when it began to lead
  std::map<PartitionId, Said> last_;
  std::set<std::pair<PartitionId, NodeId>> broken_;
  std::set<PartitionId> broken_partitions_;
  Steward::Options options_;
  std::vector<Steward> stewards_;
  std::size_t leads_ = 0;
  std::uint8_t topics_ = 0;
  int disks_ = 0;
  bool faults_ = true;
  Duration tick_ = 50ms;
  double loses_ = 0.1;
};

TEST(StewardSimulation, who_can_be_led_is_led_and_nothing_flaps) {
  Met met;
  const std::uint64_t last = std::getenv("PYRALOG_SOAK") != nullptr ? 5'000 : 200;
  for (std::uint64_t seed = 1; seed <= last; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed, met);
    world.trouble();
    if (!HasFailure()) world.settle();
    ASSERT_FALSE(HasFailure());
  }
  for (const std::uint64_t kind :
       {met.takeovers, met.moves, met.failed_candidates, met.own, met.lost, met.successions,
        met.disks, met.restarts, met.flaps, met.drains, met.deleted}) {
    EXPECT_GT(kind, 10u);
  }
}

}  // namespace
}  // namespace pyralog::cluster
