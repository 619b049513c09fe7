#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/time.h"
#include "io/rng.h"
#include "io/shard.h"
#include "io/sim/sim_disk.h"
#include "io/sim/stats.h"

namespace pyralog::io::sim {

class Node;
class SimNet;
class SimShard;

struct NodeOptions {
  std::string name{};  ///< how other nodes connect to it; empty = "node-N"
  unsigned shards = 1;
  DiskOptions disk{};
  Duration wall_offset{0};  ///< how wrong its wall clock is
};

/// Any number of nodes with their shards, disks, networks and clocks in one thread and in virtual
/// time. The order of events, every delay and every fault follow from the seed: the same seed and the
/// same calls replay the same run. Events run by time; what is due at once runs in a seeded order,
/// but jobs from one sender to one shard keep theirs.
class Simulator {
 public:
  explicit Simulator(std::uint64_t seed);
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;
  ~Simulator();

  Node& add_node(NodeOptions options = {});
  [[nodiscard]] Node& node(std::size_t index) { return *nodes_.at(index); }
  [[nodiscard]] std::size_t node_count() const { return nodes_.size(); }
  [[nodiscard]] std::uint64_t seed() const { return seed_; }

  /// Runs the next event; false if there is none.
  bool step();
  /// Runs until nothing is due any more; false if `limit` of virtual time passed first.
  bool run_until_idle(Duration limit = std::chrono::hours(1));
  /// Runs until `done()` holds, asked after every event; false if it went idle or `limit` passed.
  bool run_until(const std::function<bool()>& done, Duration limit = std::chrono::hours(1));
  void run_for(Duration time);
  /// Runs `job` outside of every node after `delay`: for faults that come at their time.
  void schedule(Duration delay, Shard::Job job);

  [[nodiscard]] Instant now() const { return now_; }
  /// For the test's own choices; drawing from it does not disturb the nodes' choices.
  [[nodiscard]] Rng& rng() { return test_rng_; }
  [[nodiscard]] Stats& stats() { return stats_; }
  [[nodiscard]] SimNet& net() { return *net_; }

 private:
  friend class Node;
  friend class SimShard;
  friend class SimPools;
  friend class SimNet;
  struct Key {
    std::int64_t at;
    std::uint64_t tie;
    std::uint64_t sequence;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Event {
    Node* node;    ///< nullptr: outside of all nodes
    Shard* shard;  ///< whose code it is; nullptr for a pool's
    Shard::Job job;
  };
  std::uint64_t add(Instant at, Event event);
  void cancel(std::uint64_t sequence);
  void drop_events_of(const Node& node);

  std::uint64_t seed_;
  Instant now_{};
  SeededRng order_rng_;
  std::uint64_t shards_made_ = 0;
  SeededRng test_rng_;
  Stats stats_;
  std::map<Key, Event> events_;
  std::unordered_map<std::uint64_t, Key> by_sequence_;
  std::uint64_t next_sequence_ = 1;
  Node* running_ = nullptr;
  std::unique_ptr<SimNet> net_;
  std::vector<std::unique_ptr<Node>> nodes_;
};

/// One simulated machine with one process on it. The disk outlives the process.
class Node {
 public:
  Node(Simulator& sim, unsigned index, NodeOptions options);
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();

  [[nodiscard]] unsigned index() const { return index_; }
  [[nodiscard]] const std::string& name() const { return options_.name; }
  [[nodiscard]] bool up() const { return up_ && crash_ == Crash::kNone; }
  /// How often the node has been started, from 1.
  [[nodiscard]] std::uint64_t incarnation() const { return incarnation_; }
  /// The shards of the running process; new ones after every restart.
  [[nodiscard]] const Shards& shards() const { return shard_pointers_; }
  [[nodiscard]] Shard& shard(unsigned index = 0) const { return *shard_pointers_.at(index); }
  [[nodiscard]] SimDisk& disk() { return disk_; }
  [[nodiscard]] Simulator& simulator() { return sim_; }
  /// Makes the wall clock jump.
  void set_wall_offset(Duration offset) { options_.wall_offset = offset; }
  [[nodiscard]] Duration wall_offset() const { return options_.wall_offset; }

  /// Ends the process, as `kill -9` does: what it wrote stays, its coroutines are destroyed, its
  /// connections are reset. Called from the node's own code it happens when that event is over.
  void kill() { crash(Crash::kKill); }
  /// Takes the power away: as kill, and what was not synced is lost, kept or torn as the seed says;
  /// peers notice nothing until they time out or the node is back.
  void lose_power() { crash(Crash::kPower); }
  /// Starts the process again, with new shards; the caller then spawns what it runs.
  void restart();

  /// Starts `make()`, a Task<void>, as a root of a shard; it ends at the latest with the node.
  template <typename F>
  void spawn(F make, unsigned shard_index = 0) {
    spawn_on(shard(shard_index), std::move(make));
  }
  /// Runs the simulation until `make()`, a Task, has finished on the shard, and returns its value
  /// (true for Task<void>); nothing if the node crashed or `limit` passed first.
  template <typename F>
  auto try_run(F make, unsigned shard_index = 0, Duration limit = std::chrono::minutes(10));
  /// The same where it cannot fail.
  template <typename F>
  auto run(F make, unsigned shard_index = 0, Duration limit = std::chrono::minutes(10)) {
    auto value = try_run(std::move(make), shard_index, limit);
    PYRALOG_ASSERT(value.has_value());
    return std::move(*value);
  }

 private:
  friend class Simulator;
  friend class SimShard;
  enum class Crash : std::uint8_t { kNone, kKill, kPower };
  void crash(Crash kind);
  void crash_now();
  void make_shards();

  Simulator& sim_;
  unsigned index_;
  NodeOptions options_;
  SimDisk disk_;
  bool up_ = true;
  Crash crash_ = Crash::kNone;
  std::uint64_t incarnation_ = 1;
  detail::RootList roots_;
  std::vector<std::unique_ptr<SimShard>> shards_;
  Shards shard_pointers_;
  // Objects of a test that outlive a crash may still name their old shard.
  std::vector<std::unique_ptr<SimShard>> old_shards_;
};

template <typename F>
auto Node::try_run(F make, unsigned shard_index, Duration limit) {
  using Value = typename std::invoke_result_t<F>::Value;
  using Kept = std::conditional_t<std::is_void_v<Value>, bool, Value>;
  auto slot = std::make_shared<std::optional<Kept>>();
  spawn(
      [slot, make = std::move(make)]() mutable -> Task<void> {
        if constexpr (std::is_void_v<Value>) {
          co_await make();
          slot->emplace(true);
        } else {
          slot->emplace(co_await make());
        }
      },
      shard_index);
  const std::uint64_t started = incarnation_;
  sim_.run_until(
      [&] { return slot->has_value() || !up() || incarnation_ != started; }, limit);
  return std::move(*slot);
}

}  // namespace pyralog::io::sim
