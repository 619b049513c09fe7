#pragma once

#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "broker/broker.h"
#include "catalog/catalog.h"
#include "model/kafka_error.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/metadata.h"

namespace pyralog::protocol::kafka {

/// The nodes that one answer tells its client of. Those that cannot be reached lead nothing, and
/// are left out after some seconds, as Kafka leaves out fenced brokers; but a node that reaches no
/// majority is cut off itself and judges nobody: its clients may well reach the others. On the
/// handler's shard, as of its catalogue.
class Nodes {
 public:
  explicit Nodes(const broker::Broker& broker);
  /// Reached; lost a moment ago: still told of, since librdkafka loses its place in partitions
  /// that get another leader in the same answer that leaves out the old one; or left out.
  enum class Seen : std::uint8_t { kReached, kLost, kGone };
  /// `self` is always reached.
  Nodes(broker::CatalogPtr state, NodeId self, const std::function<Seen(NodeId)>& seen);

  /// By id.
  [[nodiscard]] const std::vector<const catalog::Node*>& all() const { return all_; }
  /// Null if it is not reached.
  [[nodiscard]] const catalog::Node* find(NodeId id) const;
  /// The leader, unless it is not reached.
  [[nodiscard]] std::optional<NodeId> leader(const broker::PartitionRoles& roles) const;
  /// What Metadata says of a partition.
  [[nodiscard]] wire::MetadataResponse::Partition describe(
      PartitionIndex index, const broker::PartitionRoles& roles) const;

 private:
  broker::CatalogPtr state_;  ///< keeps the nodes alive
  std::vector<const catalog::Node*> all_;
  std::vector<const catalog::Node*> reached_;
};

/// Who leads, told beside a refusal (KIP-951), and where those nodes are: the client need not ask
/// for metadata first. For one answer; on the handler's shard, as of its catalogue.
class LeaderHints {
 public:
  /// `told` = the version of the answer has a place for them.
  LeaderHints(const broker::Broker& broker, bool told) : broker_(broker), told_(told) {}

  /// Fills `out` if `error` says that the client knows the leader wrong.
  template <typename LeaderIdAndEpoch>
  void add(KafkaError error, const broker::PartitionRef& target, LeaderIdAndEpoch& out) {
    if (!told_) return;
    const auto leader = leader_of(error, target);
    if (!leader) return;
    out.leader_id = leader->id;
    out.leader_epoch = leader->epoch;
  }
  /// Where the leaders are that `add` has told of.
  template <typename NodeEndpoint>
  void write(std::vector<NodeEndpoint>& out) const {
    for (const NodeId id : named_) {
      const catalog::Node& node = *nodes_->find(id);
      auto& each = out.emplace_back();
      each.node_id = id.value;
      each.host = node.host;
      each.port = node.port;
      if (!node.rack.empty()) each.rack = node.rack;
    }
  }

 private:
  struct Leader {
    std::int32_t id = -1;
    std::int32_t epoch = -1;
  };
  std::optional<Leader> leader_of(KafkaError error, const broker::PartitionRef& target);

  const broker::Broker& broker_;
  bool told_;
  std::optional<Nodes> nodes_;  ///< from the first that is told on
  std::set<NodeId> named_;
};

}  // namespace pyralog::protocol::kafka
