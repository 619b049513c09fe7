#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/broker.h"
#include "cluster/cluster.h"
#include "io/net.h"
#include "io/shard.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "observe/process.h"
#include "observe/slow.h"
#include "protocol/http/http.h"
#include "protocol/kafka/listener.h"
#include "protocol/kafka/service.h"
#include "server/cluster_view.h"
#include "server/health.h"
#include "server/last_minute.h"
#include "server/memory_shares.h"
#include "server/settings.h"

namespace pyralog::server {

/// One node, put together: the only place that knows all rooms. The same over the real and the
/// simulated io. Made, stopped and destroyed on shard 0.
class Node {
 public:
  Node(io::Shards shards, ServerOptions options);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Binds the listeners, takes the data directory, recovers, leads; when it returns clients are
  /// accepted. On failure call `stop` and forget the node; the error names the thing and the
  /// remedy.
  [[nodiscard]] io::Task<Result<void>> start();
  /// Ends a start that is under way before its next phase, and recovery within a step or two: it fails with
  /// kCancelled.
  void give_up_start() { *giving_up_ = true; }
  /// Takes over what can change while it runs and differs in `wanted`: log.level, and defaults for topics
  /// that are named there, or were and are not any more: these are the built-in ones then. Logs each change, and what else differs and needs a restart. Once started; on
  /// an error, of the metadata log, the defaults are as before.
  [[nodiscard]] io::Task<Result<void>> reload(ServerOptions wanted);
  /// No new requests; those in flight finish or fail within `shutdown_timeout_ms`; everything
  /// durable and marked, so that the next start scans nothing.
  [[nodiscard]] io::Task<Result<void>> stop();

  /// Where clients are accepted, if that listener is open.
  [[nodiscard]] const std::optional<io::Address>& kafka() const { return kafka_address_; }
  [[nodiscard]] const std::optional<io::Address>& http() const { return http_address_; }
  [[nodiscard]] broker::Broker& broker() { return *broker_; }
  [[nodiscard]] cluster::Cluster& cluster() { return *cluster_; }
  /// What the HTTP listener tells at /metrics.
  [[nodiscard]] io::Task<std::string> metrics_text();

 private:
  [[nodiscard]] io::Task<Result<void>> bind(const ListenPlan& plan);
  [[nodiscard]] io::Task<Result<void>> open(const ListenPlan& plan);
  /// kCancelled if the start is to end here.
  [[nodiscard]] Result<void> go_on() const;
  using Defaults = std::map<std::string, std::optional<std::string>>;  ///< nullopt = the built-in one
  /// Puts the named defaults for topics into the metadata log where they differ from what is there.
  [[nodiscard]] io::Task<Result<void>> put_defaults(Defaults defaults);
  /// Those of the settings; in a cluster until that has agreed.
  [[nodiscard]] io::Task<Result<void>> put_first_defaults();
  /// How this node takes part in a cluster, by its settings and its directory; no secret = alone.
  [[nodiscard]] io::Task<Result<cluster::JoinOptions>> join_options(const ListenPlan& plan);
  void serve_http();
  io::Task<void> serve_kafka();

  // node_status.cc
  io::Task<std::string> health_text();
  io::Task<std::string> status_json();
  io::Task<std::optional<std::string>> partition_json(std::string name);
  /// What does not work, by what the broker tells; nothing of it before the node is ready.
  [[nodiscard]] HealthFacts health_facts(const std::vector<broker::PartitionStatus>& partitions,
                                         const log::ShardLogUse& logs,
                                         const broker::ScrubStatus& scrub);
  /// What parts of the memory budget take now, of all shards.
  struct MemoryUsed {
    std::uint64_t requests = 0;
    std::uint64_t answers = 0;
    std::uint64_t topics = 0;
    std::uint64_t groups = 0;
    std::uint64_t indexes = 0;
  };
  [[nodiscard]] io::Task<MemoryUsed> memory_used();
  /// What the Kafka listener's counters say now; they are there once it serves.
  [[nodiscard]] Movement movement();
  io::Task<void> watch_traffic();
  /// Nothing before this node has started, and none once it leaves.
  [[nodiscard]] std::optional<ClusterView> cluster_view();
  /// Asks the system about the process, in the background: who reads `process_` waits for no pool.
  void look_at_process();

  // node_metrics.cc
  void add_process(observe::Registry& metrics) const;
  io::Task<void> add_kafka(observe::Registry& metrics);
  void add_waits(observe::Registry& metrics) const;
  void add_cluster(observe::Registry& metrics);
  void add_doors(observe::Registry& metrics) const;
  io::Task<void> add_topics(observe::Registry& metrics);
  void add_partitions(observe::Registry& metrics,
                      const std::vector<broker::PartitionStatus>& partitions) const;
  io::Task<void> add_lag(observe::Registry& metrics,
                         const std::vector<broker::PartitionStatus>& partitions);
  void add_space(observe::Registry& metrics) const;
  static void add_totals(observe::Registry& metrics, const broker::BrokerTotals& totals);
  void add_memory(observe::Registry& metrics, const log::ShardLogUse& logs,
                  const group::Kept& groups) const;

  io::Shards shards_;
  ServerOptions options_;
  MemoryShares memory_;
  observe::Registry metrics_;
  observe::SlowLog slow_;
  std::unique_ptr<io::Listener> kafka_bound_;
  std::unique_ptr<io::Listener> http_bound_;
  std::optional<io::Address> kafka_address_;
  std::optional<io::Address> http_address_;
  std::unique_ptr<cluster::Cluster> cluster_;
  std::unique_ptr<broker::Broker> broker_;
  std::vector<std::unique_ptr<protocol::kafka::Service>> services_;
  std::unique_ptr<protocol::kafka::Listener> kafka_;
  std::unique_ptr<protocol::http::HttpServer> http_;
  io::TaskGroup running_;
  ClockWatch clock_;
  WallMs began_;                     ///< this process, or nearly
  Instant began_at_;                 ///< the same
  LastMinute last_minute_;
  bool stopping_ = false;
  io::WaitList stop_watching_;
  observe::ProcessStats process_;    ///< as it was a look ago
  bool looking_at_process_ = false;
  protocol::kafka::Listener::MemoryUse kafka_memory_;  ///< at the last scrape
  bool ready_ = false;
  bool leaving_ = false;   ///< the cluster
  std::string waits_for_;  ///< what a start is up to, of a node that takes part in a cluster
  std::shared_ptr<std::atomic<bool>> giving_up_ = std::make_shared<std::atomic<bool>>(false);
};

/// What log.level means.
[[nodiscard]] observe::Level level_of(const ServerOptions& options);

/// What the settings mean for the broker.
[[nodiscard]] broker::Options broker_options(const ServerOptions& options, const MemoryShares& memory);
/// With less free, records of clients are refused, on a disk of so many bytes.
[[nodiscard]] std::uint64_t space_floor(const ServerOptions& options, std::uint64_t disk_bytes);

}  // namespace pyralog::server
