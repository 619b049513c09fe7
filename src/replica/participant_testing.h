#pragma once
// Replicas of one partition on simulated machines: real logs, promises, links and their protocol;
// the catalogue is one object that all hear of late. For the tests of this room.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"
#include "log/evidence.h"
#include "log/shard_logs.h"
#include "peer/acceptor.h"
#include "peer/links.h"
#include "peer/service.h"
#include "replica/participant.h"
#include "replica/peer_wire.h"
#include "replica/promises.h"
#include "replica/replica.h"

namespace pyralog::replica::testing {

using namespace std::chrono_literals;

class Replicas {
 public:
  struct Options {
    std::size_t nodes = 3;
    std::uint16_t write_quorum = 2;
    Durability durability = Durability::kFsync;
    Duration news = 5ms;  ///< at most until a node hears of a new catalogue
  };
  explicit Replicas(std::uint64_t seed) : Replicas(seed, Options()) {}
  Replicas(std::uint64_t seed, Options options);
  ~Replicas();

  /// One machine's process; null while it does not run.
  struct One;

  io::sim::Node& machine(std::size_t i) { return sim_.node(i); }
  void start(std::size_t i);
  void kill(std::size_t i) { machine(i).kill(); }
  void lose_power(std::size_t i) { machine(i).lose_power(); }
  void restart(std::size_t i) {
    machine(i).restart();
    start(i);
  }
  void cut(std::size_t i);
  void heal() { sim_.net().heal_all(); }

  [[nodiscard]] Participant* at(std::size_t i);
  /// Whether machine `i` leads and would take records.
  [[nodiscard]] bool accepts(std::size_t i) {
    return at(i) != nullptr && at(i)->leads() && at(i)->may_accept(sim_.now());
  }
  /// −1: nobody leads.
  [[nodiscard]] int leader();
  /// Proposes a new epoch with `i` as the candidate, over all machines' disks.
  void campaign(std::size_t i, bool unclean = false);
  /// Lets machine `i` try until it leads.
  [[nodiscard]] bool take_over(std::size_t i, Duration limit = 10s);

  /// Appends one record where `i` leads, without waiting; its offset.
  [[nodiscard]] std::optional<Offset> append(std::size_t i, const std::string& value);
  /// Waits as acks=all does, beside what goes on; `told` outlives it.
  void wait(std::size_t i, Offset end, std::optional<KafkaError>& told);
  /// Waits for what was appended in `epoch`, five seconds at most.
  [[nodiscard]] KafkaError wait_in(std::size_t i, Offset end, Epoch epoch);
  /// Appends and waits.
  [[nodiscard]] KafkaError produce(std::size_t i, const std::string& value);
  [[nodiscard]] bool committed(std::size_t i, Offset end, Duration limit = 5s);
  /// All of the log below the high watermark, value by value, as it lies on the machine.
  [[nodiscard]] std::vector<std::string> values(std::size_t i);
  /// The same, with epochs, for comparing.
  [[nodiscard]] Bytes bytes(std::size_t i);
  [[nodiscard]] bool all_have(Offset end, Duration limit = 10s);
  /// Everybody runs, one leads, all hold the same up to its end.
  [[nodiscard]] bool well(Duration limit = 30s);

  [[nodiscard]] const catalog::Partition& partition() const { return *state_.partition(id_); }
  [[nodiscard]] catalog::Catalog& state() { return state_; }
  [[nodiscard]] const PartitionId& id() const { return id_; }
  [[nodiscard]] const Options& options() const { return options_; }
  std::string refused;  ///< why the last append did not happen

 private:
  friend struct One;
  io::Task<void> live(std::size_t i);
  void tell_all();
  [[nodiscard]] std::vector<catalog::Replica> disks() const;

  Options options_;
  PartitionId id_;
  catalog::Catalog state_;
  std::vector<std::unique_ptr<One>> nodes_;
  std::vector<std::uint64_t> boots_;

 public:
  io::sim::Simulator sim_;  ///< goes first
};

}  // namespace pyralog::replica::testing
