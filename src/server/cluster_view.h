#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/cluster.h"

namespace pyralog::server {

/// A node of the cluster, as this one sees it.
struct NodeView {
  NodeId id;
  std::string kafka;  ///< HOST:PORT that clients are told; empty = it has not registered yet
  std::string peer;   ///< HOST:PORT where other nodes connect; empty = it has not said
  std::string rack;
  std::string role;
  std::uint16_t feature_level = 0;  ///< that it understands; 0 = it has not said
  bool voter = false;               ///< takes part in agreeing on the metadata log
  bool reachable = false;           ///< there is a connection, or it is this node
  bool controller = false;
  std::string why;  ///< it cannot be reached; may be empty
};

/// The cluster, as this node sees it at this moment. A lone node is one of one.
struct ClusterView {
  bool alone = true;
  Uuid name;
  NodeId self;
  std::optional<NodeId> controller;  ///< who leads the metadata log; none = nobody that is known of
  std::uint64_t term = 0;            ///< of the metadata log; 0 = alone
  std::uint64_t committed = 0;       ///< entries of it that stand; of a lone node its position
  std::uint16_t feature_level = 0;   ///< of the log: who understands less is not let in
  std::string failed;                ///< why this node takes no part any more; empty = it does
  std::vector<NodeView> nodes;       ///< by id

  [[nodiscard]] std::size_t reachable() const;
};

/// On shard 0, while the cluster runs.
[[nodiscard]] ClusterView view_of(cluster::Cluster& cluster);
/// The object that /status has as "cluster".
[[nodiscard]] std::string cluster_json(const ClusterView& view);

}  // namespace pyralog::server
