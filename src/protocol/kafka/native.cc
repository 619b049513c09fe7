// What Kafka has no message for. The handlers are like the others.
#include <algorithm>

#include "protocol/kafka/service.h"
#include "wire/kafka/gen/change_member.h"
#include "wire/kafka/gen/drain_node.h"

namespace pyralog::protocol::kafka {

namespace {

constexpr std::int8_t kOnlyAsk = 0;
constexpr std::int8_t kDrain = 1;
constexpr std::int8_t kDrainNoLonger = 2;

/// Counts of partitions are bounded far below.
std::int32_t count(std::size_t n) {
  return static_cast<std::int32_t>(std::min<std::size_t>(n, INT32_MAX));
}

void tell(const broker::DrainStatus& status, const catalog::Catalog& state,
          wire::DrainNodeResponse& out) {
  out.draining = status.draining;
  out.leading = count(status.leading);
  out.under_way = count(status.plan.under_way);
  out.waiting = count(status.plan.waiting + status.plan.moves.size());
  out.stuck_count = count(status.plan.stuck);
  for (const auto& each : status.plan.examples) {
    const auto topic = state.topic(each.partition.topic);
    if (topic == nullptr) continue;
    out.stuck.push_back({topic->name, each.partition.partition.value, each.reason});
  }
}

}  // namespace

Handled handle_drain_node(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DrainNodeRequest>(request));
  wire::DrainNodeResponse out;
  const NodeId node(in.node_id);
  broker::AdminOutcome outcome;
  if (in.change < kOnlyAsk || in.change > kDrainNoLonger) {
    outcome = {KafkaError::kInvalidRequest, "drain of a node: change " + std::to_string(in.change) +
                                                " is none of 0, 1 and 2; send one of these"};
  } else if (in.change != kOnlyAsk) {
    outcome = co_await service.broker().set_draining(node, in.change == kDrain);
  }
  const auto status = service.broker().drain_status(node);
  if (!status && outcome.error == KafkaError::kNone) {
    outcome = {KafkaError::kBrokerIdNotRegistered,
               "node " + std::to_string(node.value) +
                   ": the cluster has no such node; look at pyralog cluster status"};
  }
  if (status) tell(*status, *service.broker().catalog(), out);
  out.error_code = code(outcome.error);
  if (!outcome.message.empty()) out.error_message = std::move(outcome.message);
  co_return reply(request, out);
}

Handled handle_change_member(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(auto in, decode<wire::ChangeMemberRequest>(request));
  wire::ChangeMemberResponse out;
  broker::AdminOutcome outcome;
  cluster::MemberChange change;
  change.node = NodeId(in.node_id);
  if (in.change < 1 || in.change > 3 || in.port < 0 || in.port > 65535 || in.node_id < 1) {
    outcome = {KafkaError::kInvalidRequest,
               "change of a member: there is no such change, node or port; use this version's own "
               "pyralog cluster add, remove or replace-disk"};
  } else {
    change.kind = static_cast<cluster::MemberChange::Kind>(in.change);
    change.peer = {std::move(in.host), static_cast<std::uint16_t>(in.port)};
    const auto patience = std::min<Duration>(std::chrono::milliseconds(std::max(in.timeout_ms, 0)),
                                             service.options().max_request_time);
    outcome = co_await service.broker().change_member(std::move(change), patience);
  }
  out.error_code = code(outcome.error);
  if (!outcome.message.empty()) out.error_message = std::move(outcome.message);
  for (const auto& [id, node] : service.broker().catalog()->nodes()) {
    PYRALOG_CO_TRY(request.take_room(sizeof(wire::ChangeMemberResponse::Node) + node.peer_host.size()));
    out.nodes.push_back({id.value, node.peer_host, node.peer_port});
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
