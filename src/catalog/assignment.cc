// The part of the catalogue that decides which nodes there are, and on which of them partitions are
// to be.

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "base/plant.h"
#include "catalog/catalog.h"

namespace pyralog::catalog {
namespace {

std::set<NodeId> nodes_of(const std::optional<EpochRecord>& epoch) {
  std::set<NodeId> nodes;
  if (!epoch) return nodes;
  for (const Replica& each : epoch->replicas) nodes.insert(each.node);
  return nodes;
}

bool names(const std::vector<NodeId>& nodes, NodeId id) {
  return std::ranges::find(nodes, id) != nodes.end();
}

std::string label(NodeId id) {
  return "node " + std::to_string(id.value);
}

std::unexpected<Error> not_registered(NodeId id) {
  return fail(Code::kNotFound, label(id) + ": is not registered; ask for the list of nodes");
}

}  // namespace

Result<void> Catalog::take(const ReplicasWanted& e) {
  PYRALOG_ASSIGN(const Partition* before, existing(e.partition));
  const Topic& topic = **by_id_.find(e.partition.topic);
  const bool cancel = e.target.empty();
  if (cancel && before->target.empty()) {
    return fail(Code::kNotFound,
                "partition " + to_string(e.partition) +
                    ": its replicas are not being moved; nothing is to be cancelled");
  }
  Partition next = *before;
  next.target = cancel ? before->replicas : e.target;
  const std::set<NodeId> target(next.target.begin(), next.target.end());
  const std::set<NodeId> assigned(before->replicas.begin(), before->replicas.end());
  const std::set<NodeId> now = nodes_of(before->current);
  if (!cancel) {
    PYRALOG_TRY(check_replicas({e.target}, topic.name));
    PYRALOG_TRY(check_min_insync(topic.name, topic.settings, topic.config, target.size()));
    for (const NodeId id : target) {
      if (nodes_->at(id).takes_replicas() || assigned.contains(id) || now.contains(id) ||
          names(before->target, id))
        continue;
      return fail(Code::kInvalidArgument,
                  "partition " + to_string(e.partition) + ": " + label(id) +
                      (nodes_->at(id).draining ? " is draining" : " is an obelisk") +
                      " and takes no new replica; choose another");
    }
  }
  // On the way an epoch may hold those that come and those that go.
  std::set<NodeId> all = now;
  all.insert(target.begin(), target.end());
  if (all.size() > kMaxReplicas) {
    return fail(Code::kInvalidArgument,
                "partition " + to_string(e.partition) + ": old and new replicas are " +
                    std::to_string(all.size()) +
                    " nodes, at most 64 can hold it at once; move it in steps");
  }
  const bool only_order = before->target.empty() && target == assigned;
  if (only_order || (target == assigned && (target == now || now.empty()))) {
    next.replicas = std::exchange(next.target, {});
  }
  std::vector<Partition> one;
  one.push_back(std::move(next));
  put_partitions(e.partition.topic, std::move(one));
  return {};
}

Result<void> Catalog::take(const NodeDraining& e) {
  if (node(e.node) == nullptr) return not_registered(e.node);
  auto nodes = std::make_shared<std::map<NodeId, Node>>(*nodes_);
  nodes->at(e.node).draining = e.draining;
  nodes_ = std::move(nodes);
  return {};
}

Result<void> Catalog::take(const NodeRoleSet& e) {
  if (node(e.node) == nullptr) return not_registered(e.node);
  if (e.role == NodeRole::kObelisk) PYRALOG_TRY(check_unnamed(e.node));
  auto nodes = std::make_shared<std::map<NodeId, Node>>(*nodes_);
  nodes->at(e.node).role = e.role;
  nodes_ = std::move(nodes);
  return {};
}

Result<void> Catalog::check_unnamed(NodeId node) const {
  std::size_t count = 0;
  std::string example;
  by_name_.for_each([&](const std::string& name, const TopicPtr& topic) {
    for (const auto& p : topic->partitions) {
      const bool held =
          !PYRALOG_PLANT("catalog.remove_named_node") && nodes_of(p->current).contains(node);
      if (!held && !names(p->replicas, node) && !names(p->target, node)) continue;
      if (count++ == 0) example = "\"" + name + "\" " + std::to_string(p->index.value);
    }
  });
  if (count == 0) return {};
  return fail(Code::kInvalidArgument, label(node) + ": " + std::to_string(count) +
                                          " partitions are or are to be on it, such as " + example +
                                          "; drain it first");
}

Result<void> Catalog::take(const NodeRemoved& e) {
  const Node* gone = node(e.node);
  if (gone == nullptr && invited_->contains(e.node)) {
    auto invited = std::make_shared<std::map<NodeId, Invitation>>(*invited_);
    invited->erase(e.node);
    invited_ = std::move(invited);
    return {};
  }
  if (gone == nullptr) return not_registered(e.node);
  PYRALOG_TRY(check_unnamed(e.node));
  auto removed = std::make_shared<std::vector<Replica>>(*removed_);
  for (const Uuid& retired : gone->retired) removed->push_back(Replica{e.node, retired});
  if (!gone->lacks_disk()) removed->push_back(Replica{e.node, gone->incarnation});
  if (removed->size() > kMaxRemoved && !PYRALOG_PLANT("catalog.remember_all_removed")) {
    removed->erase(removed->begin(), removed->end() - static_cast<std::ptrdiff_t>(kMaxRemoved));
  }
  auto nodes = std::make_shared<std::map<NodeId, Node>>(*nodes_);
  nodes->erase(e.node);
  nodes_ = std::move(nodes);
  removed_ = std::move(removed);
  return {};
}

Result<void> Catalog::take(const NodeInvited& e) {
  // Where the first nodes of a cluster listen, their command lines say.
  const bool nowhere = e.host.empty() && e.port == 0 && !e.incarnation.is_nil();
  const bool somewhere = !e.host.empty() && e.host.size() <= 255 && e.port >= 1 && e.port <= 65535;
  if (e.node.value < 1 || (!somewhere && !nowhere)) {
    return fail(Code::kInvalidArgument,
                label(e.node) +
                    ": needs an id from 1, and a host and a port for other nodes; "
                    "name it as NODE@HOST:PORT");
  }
  if (node(e.node) != nullptr) {
    return fail(Code::kAlreadyExists, label(e.node) + ": is one of the cluster already");
  }
  const bool is_new = !invited_->contains(e.node);
  if (is_new && invited_->size() >= kMaxInvited) {
    return fail(Code::kExhausted, label(e.node) + ": " + std::to_string(kMaxInvited) +
                                      " others are expected and have not come; remove some");
  }
  auto invited = std::make_shared<std::map<NodeId, Invitation>>(*invited_);
  invited->insert_or_assign(e.node, Invitation{e.incarnation, e.host, e.port});
  invited_ = std::move(invited);
  return {};
}

Result<void> Catalog::take(const DiskRetired& e) {
  const Node* known = node(e.node);
  if (known == nullptr) return not_registered(e.node);
  if (known->incarnation != e.incarnation) {
    return fail(Code::kFenced, label(e.node) + ": another disk is registered by now; look again");
  }
  if (known->lacks_disk()) return {};
  auto nodes = std::make_shared<std::map<NodeId, Node>>(*nodes_);
  nodes->at(e.node).retired.push_back(e.incarnation);
  nodes_ = std::move(nodes);
  return {};
}

}  // namespace pyralog::catalog
