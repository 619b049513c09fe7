#pragma once

#include <compare>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "model/fundamental.h"

namespace pyralog::broker {

/// A replica that does not keep up with its leader, as that one says.
struct Lag {
  PartitionId id;
  Epoch epoch;  ///< that is led
  NodeId node;  ///< of the replica
  friend auto operator<=>(const Lag&, const Lag&) = default;
};
/// Sorted.
using Lags = std::vector<Lag>;

/// Whether `lags` names the replica.
[[nodiscard]] bool is_lagging(const Lags& lags, const Lag& replica);

/// What the shards of all nodes say of the replicas of what they lead. Pure.
class LagBoard {
 public:
  /// In place of what that shard said before. False: nothing is new.
  bool take(NodeId from, unsigned shard, Lags lags);
  /// It cannot be reached: whoever leads in its place will say.
  bool forget(NodeId from);
  [[nodiscard]] std::shared_ptr<const Lags> all() const;

 private:
  std::map<std::pair<NodeId, unsigned>, Lags> said_;
};

}  // namespace pyralog::broker
