#include "catalog/reassign.h"

#include <algorithm>
#include <iterator>

#include "base/plant.h"

namespace pyralog::catalog {
namespace {

using Nodes = std::vector<NodeId>;

bool has(const Nodes& nodes, NodeId id) {
  return std::ranges::find(nodes, id) != nodes.end();
}
bool has_all(const Nodes& nodes, const Nodes& others) {
  return std::ranges::all_of(others, [&](NodeId each) { return has(nodes, each); });
}
bool same(const Nodes& a, const Nodes& b) {
  return a.size() == b.size() && has_all(a, b);
}
void add(Nodes& nodes, NodeId id) {
  if (!has(nodes, id)) nodes.push_back(id);
}

/// Where a partition's replicas are to be.
const Nodes& goal_of(const Partition& partition) {
  return partition.target.empty() ? partition.replicas : partition.target;
}

/// A partition under way, as its leader sees it.
struct Way {
  Way(const Partition& partition, const Keeping& keeping, NodeId leading, std::int32_t min)
      : leader(leading),
        goal(goal_of(partition)),
        size(partition.current->replicas.size()),
        write_quorum(partition.current->write_quorum),
        min_insync(min) {
    const auto& [caught_up, replaced] = keeping;
    for (const Replica& each : partition.current->replicas) {
      if (!replaced.contains(each.node)) add(now, each.node);
    }
    for (const NodeId each : now) {
      if (caught_up.contains(each) || each == leader) full.push_back(each);
    }
    for (const NodeId each : goal) {
      if (!has(now, each)) missing.push_back(each);
    }
    last = goal;
    add(last, leader);
  }
  [[nodiscard]] std::uint16_t quorum(std::size_t nodes) const {
    return catalog::write_quorum(nodes, min_insync);
  }
  /// Whether an epoch of so many nodes is active as soon as those that hold everything have joined.
  [[nodiscard]] bool fits(std::size_t nodes) const {
    return nodes <= kMaxReplicas && quorum(nodes) <= full.size();
  }
  [[nodiscard]] bool blocked() const { return full.size() < write_quorum; }
  /// Whether an epoch of so many nodes keeps as many copies as were promised.
  [[nodiscard]] bool keeps_promise(std::size_t nodes) const {
    return quorum(nodes) >= std::min(write_quorum, quorum(goal.size())) ||
           PYRALOG_PLANT("catalog.fewer_copies");
  }
  [[nodiscard]] bool leaves(NodeId id) const { return !has(goal, id) && id != leader; }

  /// In the order of the goal, then of the epoch.
  [[nodiscard]] NextReplicas step(const Nodes& nodes, std::uint16_t w) const {
    NextReplicas next;
    next.write_quorum = w;
    for (const NodeId each : goal) {
      if (has(nodes, each)) next.nodes.push_back(each);
    }
    for (const NodeId each : nodes) add(next.nodes, each);
    return next;
  }
  [[nodiscard]] NextReplicas step(const Nodes& nodes) const {
    return step(nodes, quorum(nodes.size()));
  }

  NodeId leader;
  Nodes goal;        ///< T
  Nodes now;         ///< C, without disks that are no more
  Nodes full;        ///< of C, who holds everything
  Nodes missing;     ///< of T, who is not in C
  Nodes last;        ///< T and the leader
  std::size_t size;  ///< of C, with such disks
  std::uint16_t write_quorum;
  std::int32_t min_insync;
};

/// All of the goal hold everything.
bool arrived(const Way& way) {
  return way.missing.empty() &&
         (has_all(way.full, way.goal) || PYRALOG_PLANT("catalog.drop_too_early"));
}

/// C and new ones, as many as fit.
std::optional<NextReplicas> grown(const Way& way) {
  Nodes nodes = way.now;
  for (const NodeId each : way.missing) {
    if (!way.fits(nodes.size() + 1) && !PYRALOG_PLANT("catalog.add_too_many")) break;
    nodes.push_back(each);
  }
  if (nodes.size() > way.now.size()) return way.step(nodes);
  const bool all_full = way.full.size() == way.now.size() && !way.blocked();
  if (way.missing.empty() || !all_full || nodes.size() >= kMaxReplicas) return std::nullopt;
  nodes.push_back(way.missing.front());
  return way.step(nodes, way.write_quorum);
}

/// Those that hold everything, and of the goal as many as fit; without those that leave and have
/// fallen behind.
std::optional<NextReplicas> exchanged(const Way& way) {
  const bool behind = std::ranges::any_of(
      way.now, [&](NodeId each) { return way.leaves(each) && !has(way.full, each); });
  if (!behind && !way.blocked()) return std::nullopt;
  Nodes nodes = way.full;
  Nodes wanted;
  for (const NodeId each : way.goal) {
    if (has(way.now, each)) wanted.push_back(each);
  }
  for (const NodeId each : way.goal) add(wanted, each);
  for (const NodeId each : wanted) {
    if (has(nodes, each)) continue;
    if (!way.fits(nodes.size() + 1)) break;
    nodes.push_back(each);
  }
  if (same(nodes, way.now) || !way.fits(nodes.size()) || !way.keeps_promise(nodes.size()))
    return std::nullopt;
  return way.step(nodes);
}

}  // namespace

std::set<NodeId> replaced_disks(const Partition& partition, const Catalog& catalog) {
  std::set<NodeId> replaced;
  if (!partition.current) return replaced;
  for (const Replica& each : partition.current->replicas) {
    const Node* known = catalog.node(each.node);
    if (known == nullptr || known->incarnation != each.incarnation) replaced.insert(each.node);
  }
  return replaced;
}

std::optional<NextReplicas> next_replicas(const Partition& partition, const Keeping& keeping,
                                          NodeId leader, std::int32_t min_insync) {
  if (!partition.current) return std::nullopt;
  const Way way(partition, keeping, leader, min_insync);
  if (!has(way.now, leader)) return std::nullopt;
  const std::uint16_t as_is = way.quorum(way.now.size());
  if (arrived(way)) {
    const bool there = same(way.now, way.last);
    if (there && !has(way.goal, leader)) return std::nullopt;  // hands over
    const bool is_last = partition.target.empty() && way.size == way.now.size();
    if (there && is_last && way.write_quorum == as_is) return std::nullopt;
    return way.step(way.last);
  }
  if (auto next = grown(way)) return next;
  if (auto next = exchanged(way)) return next;
  // min.insync.replicas has changed.
  if (way.write_quorum != as_is && way.fits(way.now.size()) && way.keeps_promise(way.now.size())) {
    return way.step(way.now);
  }
  return std::nullopt;
}

std::optional<NodeId> hand_over(const Partition& partition, const Keeping& keeping, NodeId leader) {
  if (!partition.current) return std::nullopt;
  const Way way(partition, keeping, leader, 1);
  if (has(way.goal, leader) || !same(way.now, way.last) || !arrived(way)) return std::nullopt;
  // One that was not assigned before takes T for its epoch, and not what was assigned.
  const auto fresh =
      std::ranges::find_if(way.goal, [&](NodeId each) { return !has(partition.replicas, each); });
  return fresh != way.goal.end() ? *fresh : way.goal.front();
}

std::optional<NextReplicas> replace_missing(const Partition& partition, const Keeping& keeping,
                                            NodeId leader, std::int32_t min_insync) {
  if (!partition.current || next_replicas(partition, keeping, leader, min_insync))
    return std::nullopt;
  const Way way(partition, keeping, leader, min_insync);
  const std::size_t seals = way.size - std::min<std::size_t>(way.write_quorum, way.size) + 1;
  if (!has(way.now, leader) || !way.blocked() || way.full.size() < seals) return std::nullopt;
  Nodes nodes = way.full;
  for (const NodeId each : way.missing) {
    if (nodes.size() < way.size) nodes.push_back(each);
  }
  if (nodes.size() == way.full.size() || !way.keeps_promise(nodes.size())) return std::nullopt;
  return way.step(nodes);
}

std::optional<NextReplicas> replicas_for_candidate(const Partition& partition, NodeId candidate,
                                                   std::int32_t min_insync) {
  const auto of = [&](const Nodes& nodes) {
    return NextReplicas{nodes, write_quorum(nodes.size(), min_insync)};
  };
  const Nodes& goal = goal_of(partition);
  if (!partition.current) {
    for (const Nodes* nodes : {&goal, &partition.replicas}) {
      if (has(*nodes, candidate)) return of(*nodes);
    }
    return std::nullopt;
  }
  Nodes now;
  for (const Replica& each : partition.current->replicas) add(now, each.node);
  const bool assigned = has(partition.replicas, candidate) && has_all(now, partition.replicas);
  const bool arriving = has(goal, candidate) && has_all(now, goal) && now.size() <= goal.size() + 1;
  if (assigned) return of(partition.replicas);
  if (arriving) return of(goal);
  if (!has(now, candidate)) return std::nullopt;
  return NextReplicas{now, partition.current->write_quorum};
}

bool is_stuck(const Partition& partition) {
  constexpr std::uint32_t kOften = 3;
  if (!partition.current) return false;
  return partition.highest_proposed.value - partition.current->epoch.value >= kOften;
}

std::optional<NextReplicas> replicas_for_candidate(const Partition& partition, NodeId candidate,
                                                   std::int32_t min_insync,
                                                   const std::set<NodeId>& reached) {
  auto next = replicas_for_candidate(partition, candidate, min_insync);
  if (!next || partition.target.empty() || !is_stuck(partition)) return next;
  const auto is_reached = [&](NodeId each) { return each == candidate || reached.contains(each); };
  const auto count = std::ranges::count_if(next->nodes, is_reached);
  if (static_cast<std::size_t>(count) >= next->write_quorum) return next;
  Nodes nodes;
  for (const Nodes* some : {static_cast<const Nodes*>(&next->nodes), &goal_of(partition)}) {
    for (const NodeId each : *some) {
      if (is_reached(each)) add(nodes, each);
    }
  }
  const auto quorum = write_quorum(nodes.size(), min_insync);
  const auto promised =
      std::min(partition.current->write_quorum, write_quorum(partition.target.size(), min_insync));
  const bool keeps_promise = quorum >= promised || PYRALOG_PLANT("catalog.fewer_copies");
  if (!keeps_promise || nodes.size() > kMaxReplicas) return next;
  return NextReplicas{nodes, quorum};
}

}  // namespace pyralog::catalog
