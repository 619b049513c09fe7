#pragma once

#include <map>
#include <memory>
#include <vector>

#include "catalog/catalog.h"

namespace pyralog::cluster {

/// Whether the partition is being moved away from `node`. Nobody is led back to there.
[[nodiscard]] bool is_leaving(const catalog::Partition& partition, NodeId node);

/// Who leads what, from one catalogue to the next. Pure. Costs what has changed, and one look at
/// each topic; partitions that were never led are left out.
class Leaders {
 public:
  using PartitionPtr = std::shared_ptr<const catalog::Partition>;
  using Partitions = std::map<PartitionId, PartitionPtr>;
  /// A partition as it was and as it is; null: there was, or is, none.
  struct Change {
    PartitionId id;
    PartitionPtr before;
    PartitionPtr after;
  };

  /// What has changed since the last call.
  std::vector<Change> update(const catalog::Catalog& state);

  /// Those whose newest epoch is the highest that was proposed, by its leader.
  [[nodiscard]] const std::map<NodeId, Partitions>& settled() const { return settled_; }
  /// Those of which a higher epoch is proposed and not active yet.
  [[nodiscard]] const Partitions& pending() const { return pending_; }
  /// Settled ones that another node leads than the one that should by preference, unless that one
  /// is to leave.
  [[nodiscard]] const Partitions& astray() const { return astray_; }

 private:
  void compare(const catalog::Topic* before, const catalog::Topic* after,
               std::vector<Change>& changes);
  void strike(const PartitionId& id, const catalog::Partition& partition);
  void enter(const PartitionId& id, const PartitionPtr& partition);

  std::vector<catalog::TopicPtr> topics_;  ///< by name
  std::map<NodeId, Partitions> settled_;
  Partitions pending_;
  Partitions astray_;
};

}  // namespace pyralog::cluster
