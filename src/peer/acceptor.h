#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/net.h"
#include "io/shard.h"
#include "peer/service.h"
#include "peer/shake.h"

namespace pyralog::peer {

/// Takes the connections of other nodes: shakes hands on the shard that runs it, then gives each to
/// the service of its lane's shard. Used on the shard that runs it only.
class Acceptor {
 public:
  struct Options {
    Local local;
    std::size_t max_half_open =
        64;  ///< handshakes under way; one more takes the place of the oldest
    Duration handshake_timeout = 2s;
    std::size_t max_per_lane =
        4;  ///< connections of one peer and lane, those that are ending included
    std::size_t max_connections = 4096;
  };
  struct Stats {
    std::uint64_t accepted = 0;
    std::uint64_t welcomed = 0;
    std::uint64_t refused = 0;    ///< handshakes that failed
    std::uint64_t displaced = 0;  ///< half-open ones that made room
    std::uint64_t replaced = 0;   ///< by a newer connection of the same node
    std::string last_refusal;
  };
  /// Whether a node that has proved to know the secret is one of this cluster's: decides on unknown
  /// nodes and on new incarnations of a known one. The error is told to the node.
  using AdmitPeer = std::function<Result<void>(const Peer&)>;

  /// `services` has one for each of `shards`; all of them outlive this.
  Acceptor(std::unique_ptr<io::Listener> bound, io::Shards shards, std::vector<Service*> services,
           Options options);
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  [[nodiscard]] const io::Address& local() const { return bound_->local(); }
  void set_admit(AdmitPeer admit) { admit_ = std::move(admit); }
  /// Ends connections of those who would not be admitted any more.
  void admit_again();
  /// As Links::set_cluster.
  void set_cluster(const Uuid& cluster) { options_.local.self.cluster = cluster; }
  /// Accepts until stop().
  [[nodiscard]] io::Task<void> run();
  /// Ends everything, the services too, and returns when it is over.
  [[nodiscard]] io::Task<void> stop();
  [[nodiscard]] std::size_t half_open() const { return half_open_.size(); }
  [[nodiscard]] std::size_t connections() const { return open_.size(); }
  [[nodiscard]] const Stats& stats() const { return stats_; }

 private:
  struct Open {
    Peer peer;
    std::int32_t lane = 0;
    bool replaced = false;
  };
  using HalfOpen = std::list<io::Stream*>;
  io::Task<void> take(std::unique_ptr<io::Stream> stream);
  io::Task<void> give(std::unique_ptr<io::Stream> stream, Agreed agreed, std::string name,
                      std::uint64_t number);
  Result<void> admit(const Peer& peer, std::uint64_t number);
  void replace(std::uint64_t number, Open& open, Error why);
  [[nodiscard]] unsigned shard_of(std::int32_t lane) const;

  std::unique_ptr<io::Listener> bound_;
  io::Shards shards_;
  std::vector<Service*> services_;
  Options options_;
  AdmitPeer admit_;
  HalfOpen half_open_;  ///< oldest first
  std::map<std::uint64_t, Open> open_;
  std::uint64_t next_number_ = 1;
  bool stopping_ = false;
  Stats stats_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::peer
