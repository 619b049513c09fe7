#include "protocol/kafka/nodes.h"

#include <algorithm>
#include <utility>

#include "base/plant.h"

namespace pyralog::protocol::kafka {

namespace {
/// For how long after it was lost clients are told where a node is; about as long as with Kafka.
constexpr Duration kToldOf = std::chrono::seconds(10);
}  // namespace

Nodes::Nodes(const broker::Broker& broker)
    : Nodes(broker.catalog(), broker.node(), [&broker](NodeId id) {
        const auto since = broker.lost_since(id);
        if (!since) return Seen::kReached;
        const bool lately = io::Shard::current().now() < *since + kToldOf;
        return lately && !PYRALOG_PLANT("kafka.leave_out_at_once") ? Seen::kLost : Seen::kGone;
      }) {}

Nodes::Nodes(broker::CatalogPtr state, NodeId self, const std::function<Seen(NodeId)>& seen)
    : state_(std::move(state)) {
  const auto& nodes = state_->nodes();
  for (const auto& [id, node] : nodes) {
    if (node.host.empty()) continue;  // one of the first that is still expected
    const Seen is = id == self ? Seen::kReached : seen(id);
    if (is == Seen::kReached) reached_.push_back(&node);
    if (is != Seen::kGone) all_.push_back(&node);
  }
  const bool cut_off = reached_.size() * 2 <= nodes.size();
  if (!cut_off || PYRALOG_PLANT("kafka.cut_off_and_still_judging")) return;
  all_.clear();
  for (const auto& [id, node] : nodes) {
    if (!node.host.empty()) all_.push_back(&node);
  }
  reached_ = all_;
}

const catalog::Node* Nodes::find(NodeId id) const {
  const auto at = std::ranges::lower_bound(reached_, id, {}, &catalog::Node::id);
  return at != reached_.end() && (*at)->id == id ? *at : nullptr;
}

std::optional<NodeId> Nodes::leader(const broker::PartitionRoles& roles) const {
  return roles.leader && find(*roles.leader) != nullptr ? roles.leader : std::nullopt;
}

wire::MetadataResponse::Partition Nodes::describe(PartitionIndex index,
                                                  const broker::PartitionRoles& roles) const {
  const auto ids = [](const std::vector<NodeId>& nodes) {
    std::vector<std::int32_t> out;
    out.reserve(nodes.size());
    for (const NodeId node : nodes) out.push_back(node.value);
    return out;
  };
  wire::MetadataResponse::Partition out;
  out.partition_index = index.value;
  const auto led_by = leader(roles);
  out.leader_id = led_by ? led_by->value : -1;
  if (!led_by) out.error_code = code(KafkaError::kLeaderNotAvailable);
  if (roles.epoch.value > 0) out.leader_epoch = static_cast<std::int32_t>(roles.epoch.value);
  out.replica_nodes = ids(roles.replicas);
  out.isr_nodes = ids(roles.in_sync);
  out.offline_replicas = ids(roles.offline);
  return out;
}

std::optional<LeaderHints::Leader> LeaderHints::leader_of(KafkaError error,
                                                          const broker::PartitionRef& target) {
  const bool not_here = error == KafkaError::kNotLeaderOrFollower;
  if (!not_here && error != KafkaError::kFencedLeaderEpoch) return std::nullopt;
  if (PYRALOG_PLANT("kafka.no_leader_hints")) return std::nullopt;
  const broker::CatalogPtr state = broker_.catalog();
  const catalog::TopicPtr topic = state->topic(target.topic);
  if (topic == nullptr || target.partition < 0 ||
      static_cast<std::size_t>(target.partition) >= topic->partitions.size()) {
    return std::nullopt;
  }
  const auto roles =
      broker_.roles(*topic, *topic->partitions[static_cast<std::size_t>(target.partition)]);
  if (!nodes_) nodes_.emplace(broker_);
  Leader out;
  if (roles.epoch.value > 0) out.epoch = static_cast<std::int32_t>(roles.epoch.value);
  const auto leader = nodes_->leader(roles);
  // Who has just refused as not the leader is not where the client should go.
  if (!leader || (not_here && *leader == broker_.node())) return out;
  out.id = leader->value;
  named_.insert(*leader);
  return out;
}

}  // namespace pyralog::protocol::kafka
