// The tests that every implementation of io passes, on the simulated one, for some seeds.
#include "io/contract.h"

#include "io/sim/simulator.h"

namespace pyralog::io::sim {
namespace {

template <std::uint64_t seed>
class SimulatedMachine final : public ContractMachine {
 public:
  SimulatedMachine() : sim_(seed), node_(sim_.add_node({.shards = 2})) {}
  const Shards& shards() const override { return node_.shards(); }
  std::string directory() const override { return ""; }
  void run(std::function<Task<void>()> make, unsigned shard) override {
    node_.run(std::move(make), shard);
  }

 private:
  Simulator sim_;
  Node& node_;
};

template <std::uint64_t seed>
std::unique_ptr<ContractMachine> simulated() {
  return std::make_unique<SimulatedMachine<seed>>();
}

}  // namespace
}  // namespace pyralog::io::sim

namespace pyralog::io {
INSTANTIATE_TEST_SUITE_P(Sim, ShardContract,
                         testing::Values(sim::simulated<1>, sim::simulated<2>, sim::simulated<3>));
INSTANTIATE_TEST_SUITE_P(Sim, DiskContract,
                         testing::Values(sim::simulated<1>, sim::simulated<2>, sim::simulated<3>));
INSTANTIATE_TEST_SUITE_P(Sim, NetContract,
                         testing::Values(sim::simulated<1>, sim::simulated<2>, sim::simulated<3>));
}  // namespace pyralog::io
