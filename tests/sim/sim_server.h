#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "cluster/cluster.h"
#include "io/sim/simulator.h"
#include "protocol/kafka/listener.h"
#include "protocol/kafka/service.h"

namespace pyralog::simtest {

inline constexpr std::uint16_t kKafkaPort = 9092;

/// One life of a node: cluster, broker and the Kafka listener, put together as `server` does it but
/// with bounds so small that a short run meets them. Lives in a root coroutine of the simulated
/// node's shard 0, so that a crash takes it down like a process.
class SimServer {
 public:
  struct Options {
    cluster::Cluster::Options cluster;
    broker::Options broker;
  };

  SimServer(io::Shards shards, Options options);
  [[nodiscard]] io::Task<Result<void>> start();
  [[nodiscard]] io::Task<Result<void>> stop();
  [[nodiscard]] broker::Broker& broker() { return *broker_; }
  [[nodiscard]] cluster::Cluster& cluster() { return *cluster_; }

 private:
  io::Shards shards_;
  Options options_;
  std::unique_ptr<cluster::Cluster> cluster_;
  std::unique_ptr<broker::Broker> broker_;
  std::vector<std::unique_ptr<protocol::kafka::Service>> services_;
  std::unique_ptr<protocol::kafka::Listener> listener_;
  io::TaskGroup running_;
};

/// Looks at a running server from inside, again and again; on shard 0.
using Inspection = std::function<io::Task<void>(SimServer& server)>;

/// What the world outside shares with the root coroutine of one life.
struct Life {
  Inspection inspect;  ///< called every few milliseconds while it runs
  bool started = false;
  bool stop_wanted = false;
  bool stopped = false;
  std::string start_error;
  std::string stop_error;
  io::WaitList stop;
};

/// Starts a life on `node`; it goes on until `life->stop_wanted` or a crash.
void run_server(io::sim::Node& node, std::shared_ptr<Life> life, SimServer::Options options);

}  // namespace pyralog::simtest
