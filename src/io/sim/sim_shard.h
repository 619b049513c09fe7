#pragma once

#include <map>
#include <vector>

#include "io/pools.h"
#include "io/sim/simulator.h"

namespace pyralog::io::sim {

/// The pools of one node: a job runs as a later event, on no shard.
class SimPools final : public Pools {
 public:
  explicit SimPools(Node& node) : node_(node) {}
  void submit(Pool pool, Shard::Job job) override;

 private:
  Node& node_;
};

/// One shard of one incarnation of a node.
class SimShard final : public Shard {
 public:
  SimShard(Node& node, unsigned index, std::uint64_t seed, detail::RootList& roots);
  ~SimShard() override;
  unsigned index() const override { return index_; }
  void post(Job job) override;
  TimerId call_at(Instant at, Job job) override;
  void cancel_timer(TimerId id) override;
  Instant now() const override;
  WallMs wall() const override;
  Disk& disk() override;
  Net& net() override { return *net_; }
  Rng& rng() override { return rng_; }
  Pools& pools() override { return pools_; }

  [[nodiscard]] Node& node() const { return node_; }
  [[nodiscard]] bool alive() const { return alive_; }
  void end() { alive_ = false; }

 private:
  friend class SimPools;
  Node& node_;
  unsigned index_;
  bool alive_ = true;
  SeededRng rng_;
  SimPools pools_;
  std::unique_ptr<Net> net_;
  std::uint64_t serial_;  ///< from 1; no other shard of the simulation has or had it
  // When the last job of each sender arrives, by its serial number; 0 stands for all that are no
  // shard. Addresses would not do: a shard that a restart makes may lie where a dead one lay.
  std::map<std::uint64_t, Instant> last_from_;
};

}  // namespace pyralog::io::sim
