#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "io/net.h"
#include "io/shard.h"
#include "peer/acceptor.h"
#include "peer/links.h"
#include "peer/service.h"

namespace pyralog::cluster {

/// A node's connections with the others of its cluster, on all its shards. Made, told and stopped
/// on shard 0; `links` and `service` are each their shard's own.
class Peers {
 public:
  struct Options {
    peer::Local local;
    peer::ChannelOptions channel{};
    io::Address listen;  ///< port 0 takes a free one
  };
  /// Binds the listener; nothing is accepted or dialled before `start`.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Peers>>> open(io::Shards shards,
                                                                     Options options);
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;
  ~Peers();

  [[nodiscard]] peer::Links& links(unsigned shard) { return *sides_[shard]->links; }
  [[nodiscard]] peer::Service& service(unsigned shard) { return *sides_[shard]->service; }
  [[nodiscard]] io::Address listening() const { return acceptor_->local(); }
  void set_admit(peer::Acceptor::AdmitPeer admit) { acceptor_->set_admit(std::move(admit)); }
  void start() { tasks_.spawn(acceptor_->run()); }
  /// Whom to be connected to.
  [[nodiscard]] io::Task<void> set_peers(std::map<NodeId, io::Address> peers);
  /// Ends connections, on all shards, with those who would not be admitted any more.
  [[nodiscard]] io::Task<void> admit_again();
  /// What the cluster is called, once that is known.
  [[nodiscard]] io::Task<void> set_cluster(Uuid cluster);
  [[nodiscard]] io::Task<void> stop();

 private:
  struct Side {
    std::unique_ptr<peer::Links> links;
    std::unique_ptr<peer::Service> service;
  };
  explicit Peers(io::Shards shards) : shards_(std::move(shards)) {}
  io::Shards shards_;
  std::vector<std::unique_ptr<Side>> sides_;
  std::unique_ptr<peer::Acceptor> acceptor_;
  std::map<NodeId, io::Address> known_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::cluster
