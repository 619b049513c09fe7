#include "server/cluster_view.h"

#include <algorithm>
#include <map>

#include "base/json.h"
#include "base/plant.h"
#include "io/net.h"

namespace pyralog::server {

namespace {

std::string address_text(const std::string& host, std::int32_t port) {
  if (host.empty()) return {};
  return io::to_string(io::Address{host, static_cast<std::uint16_t>(port)});
}

NodeView registered(const catalog::Node& node) {
  NodeView out;
  out.id = node.id;
  out.kafka = address_text(node.host, node.port);
  out.peer = address_text(node.peer_host, node.peer_port);
  out.rack = node.rack;
  out.role = catalog::name(node.role);
  out.feature_level = node.feature_level;
  return out;
}

}  // namespace

std::size_t ClusterView::reachable() const {
  return static_cast<std::size_t>(std::ranges::count_if(nodes, &NodeView::reachable));
}

ClusterView view_of(cluster::Cluster& cluster) {
  ClusterView view;
  view.name = cluster.cookie().cluster;
  view.self = cluster.node();
  const auto state = cluster.catalog();
  std::map<NodeId, NodeView> nodes;
  for (const auto& [id, node] : state->nodes()) nodes[id] = registered(node);
  cluster::Joined* const joined = cluster.joined();
  view.alone = joined == nullptr;
  view.feature_level = state->level();
  if (joined == nullptr) {
    view.controller = view.self;
    view.committed = state->position();
  } else {
    const auto status = joined->raft().status(cluster::kGlobalGroup);
    if (status.leader.value > 0) view.controller = status.leader;
    view.term = status.term.value;
    view.committed = status.committed.value;
    if (const auto& dead = joined->raft().dead()) view.failed = dead->message;
    for (const NodeId id : status.config.all()) nodes[id].id = id;
    for (const NodeId id : status.config.voters) nodes[id].voter = true;
  }
  for (auto& [id, node] : nodes) {
    node.voter = node.voter || view.alone;
    node.controller = view.controller == id;
    node.reachable = view.alone || joined->reaches(id) || PYRALOG_PLANT("server.all_are_reached");
    if (!node.reachable) node.why = joined->peers().links(0).why_down(id);
    view.nodes.push_back(std::move(node));
  }
  return view;
}

std::string cluster_json(const ClusterView& view) {
  JsonWriter json;
  json.object().field("id", to_string(view.name)).field("node_id", view.self.value);
  json.key("controller");
  view.controller ? json.value(view.controller->value) : json.null();
  json.field("term", view.term).field("committed", view.committed);
  json.field("feature_level", view.feature_level);
  if (!view.failed.empty()) json.field("failed", view.failed);
  json.field("reachable", view.reachable()).key("nodes").array();
  for (const NodeView& node : view.nodes) {
    json.object()
        .field("node_id", node.id.value)
        .field("kafka", node.kafka)
        .field("peer", node.peer);
    if (!node.rack.empty()) json.field("rack", node.rack);
    if (!node.role.empty()) json.field("role", node.role);
    if (node.feature_level != 0) json.field("feature_level", node.feature_level);
    json.field("voter", node.voter)
        .field("controller", node.controller)
        .field("reachable", node.reachable);
    if (!node.why.empty()) json.field("why", node.why);
    json.end();
  }
  return json.end().end().take();
}

}  // namespace pyralog::server
