#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "io/net.h"
#include "io/rng.h"

namespace pyralog::io::sim {

class Node;
class SimShard;
class Simulator;
struct Connection;
struct Backlog;

/// What the simulated network does; rates are probabilities per call or segment.
struct NetOptions {
  Duration latency_min = std::chrono::microseconds(20);
  Duration latency_max = std::chrono::microseconds(500);
  std::uint64_t buffer_bytes = 256 * 1024;  ///< sent and not yet read, per direction
  std::uint64_t segment_bytes = 64 * 1024;
  double short_read = 0.2;  ///< a read that yields less than there is
  double reset = 0;         ///< per segment: the connection breaks, what is under way is lost
  double refuse = 0;        ///< per connect
};

/// The network between all nodes. A connection keeps its order; different connections overtake each
/// other. Loss shows as it does with TCP: as delay, or as a reset. A node reaches itself by loopback
/// names and its own, others by their names or 10.0.0.(index + 1).
class SimNet {
 public:
  SimNet(Simulator& sim, std::uint64_t seed);
  SimNet(const SimNet&) = delete;
  SimNet& operator=(const SimNet&) = delete;
  ~SimNet();

  [[nodiscard]] NetOptions& options() { return options_; }
  /// From now on nothing from `from` reaches `to`; what is under way waits. One way only.
  void block(const Node& from, const Node& to);
  void unblock(const Node& from, const Node& to);
  /// Cuts a node off from all others, or joins it again.
  void isolate(const Node& node);
  void heal_all();
  /// Makes a link slower by `extra`; one way only.
  void slow(const Node& from, const Node& to, Duration extra);
  /// Breaks every connection of a node.
  void reset_all(const Node& node);

  // For the simulator and its shards.
  [[nodiscard]] std::unique_ptr<Net> endpoint(SimShard& shard);
  void node_down(const Node& node, bool silent);
  void node_up(const Node& node);

 private:
  friend class SimEndpoint;
  friend class SimListener;
  friend class SimStream;
  using Link = std::pair<unsigned, unsigned>;
  [[nodiscard]] bool blocked(const Node& from, const Node& to) const;
  [[nodiscard]] Duration delay(const Node& from, const Node& to);
  /// A port that nobody listens on.
  [[nodiscard]] std::uint16_t take_port(const Node& node);
  [[nodiscard]] Node* resolve(const Node& from, const std::string& host) const;
  /// Sends one segment of side `from`; empty bytes with `fin` end the stream.
  void send(const std::shared_ptr<Connection>& connection, int from, Bytes bytes, bool fin);
  void arm(const std::shared_ptr<Connection>& connection, int from);
  void arrive(const std::shared_ptr<Connection>& connection, int from);
  void reset(Connection& connection);
  void close_end(const std::shared_ptr<Connection>& connection, int side);
  void rearm_stalled();
  [[nodiscard]] std::vector<std::shared_ptr<Connection>> connections_of(const Node& node);

  Simulator& sim_;
  NetOptions options_;
  SeededRng rng_;
  std::set<Link> blocked_;
  std::map<Link, Duration> slow_;
  std::map<std::pair<unsigned, std::uint16_t>, std::shared_ptr<Backlog>> listeners_;
  std::vector<std::weak_ptr<Connection>> connections_;
  std::uint16_t next_port_ = 40'000;
};

}  // namespace pyralog::io::sim
