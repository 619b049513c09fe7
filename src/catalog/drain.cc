// Where the partitions of a node go that is to hold none.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "base/plant.h"
#include "catalog/reassign.h"

namespace pyralog::catalog {
namespace {

using Nodes = std::vector<NodeId>;

const Nodes& goal_of(const Partition& partition) {
  return partition.target.empty() ? partition.replicas : partition.target;
}

bool has(const Nodes& nodes, NodeId id) {
  return std::ranges::find(nodes, id) != nodes.end();
}

bool is_in_epoch(const Partition& partition, NodeId id) {
  return partition.current &&
         std::ranges::any_of(partition.current->replicas,
                             [id](const Replica& each) { return each.node == id; });
}

/// What the nodes are to hold, kept up while more is decided.
class Load {
 public:
  explicit Load(const Catalog& catalog) : catalog_(catalog) {
    for (const TopicPtr& topic : catalog.topics()) {
      for (const auto& p : topic->partitions) put(goal_of(*p));
    }
  }
  void put(const Nodes& nodes) {
    for (const NodeId each : nodes) {
      ++held_[each];
      met_[each].insert(nodes.begin(), nodes.end());
    }
  }
  void take(const Nodes& nodes) {
    for (const NodeId each : nodes) --held_[each];
  }
  /// The best node to be with `others`, none of these nor `without`; nullopt if there is none.
  [[nodiscard]] std::optional<NodeId> best_with(const Nodes& others, NodeId without) {
    std::set<std::string> racks;
    for (const NodeId each : others) {
      if (const Node* known = catalog_.node(each)) racks.insert(known->rack);
    }
    std::optional<NodeId> best;
    std::tuple<bool, std::size_t, std::size_t> least;
    for (const auto& [id, node] : catalog_.nodes()) {
      const bool full = !node.takes_replicas() && !PYRALOG_PLANT("catalog.drain_to_draining");
      if (full || id == without || has(others, id)) continue;
      const auto strangers =
          std::ranges::count_if(others, [&](NodeId each) { return !met_[id].contains(each); });
      const std::tuple costs(racks.contains(node.rack), held_[id],
                             static_cast<std::size_t>(strangers));
      if (best && least <= costs) continue;
      best = id;
      least = costs;
    }
    return best;
  }

 private:
  const Catalog& catalog_;
  std::map<NodeId, std::size_t> held_;
  std::map<NodeId, std::set<NodeId>> met_;
};

}  // namespace

DrainPlan plan_drain(const Catalog& catalog, NodeId node, std::size_t max) {
  DrainPlan plan;
  Load load(catalog);
  std::vector<PartitionId> to_move;
  for (const TopicPtr& topic : catalog.topics()) {
    for (const auto& p : topic->partitions) {
      if (has(goal_of(*p), node)) {
        to_move.push_back(PartitionId{topic->id, p->index});
      } else if (has(p->replicas, node) || is_in_epoch(*p, node)) {
        ++plan.under_way;
      }
    }
  }
  const auto stuck = [&](const PartitionId& id, std::string reason) {
    ++plan.stuck;
    if (plan.examples.size() < DrainPlan::kExamples)
      plan.examples.push_back({id, std::move(reason)});
  };
  Catalog rehearsed = catalog;
  for (const PartitionId& id : to_move) {
    const Nodes before = goal_of(*catalog.partition(id));
    Nodes others = before;
    std::erase(others, node);
    const std::optional<NodeId> instead = load.best_with(others, node);
    if (!instead) {
      stuck(id, "topic \"" + catalog.topic(id.topic)->name + "\" partition " +
                    std::to_string(id.partition.value) + ": needs " +
                    std::to_string(before.size()) +
                    " nodes that take replicas, and there is none beyond its own; add a node, or "
                    "give it fewer replicas");
      continue;
    }
    if (plan.under_way + plan.moves.size() >= max) {
      ++plan.waiting;
      continue;
    }
    ReplicasWanted move{id, before};
    std::ranges::replace(move.target, node, *instead);
    if (auto taken = rehearsed.apply(move, rehearsed.position() + 1); !taken) {
      stuck(id, std::move(taken.error().message));
      continue;
    }
    load.take(before);
    load.put(move.target);
    plan.moves.push_back(std::move(move));
  }
  return plan;
}

}  // namespace pyralog::catalog
