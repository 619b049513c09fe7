// Which nodes hold a partition.

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <string>

#include "base/assert.h"
#include "base/plant.h"
#include "catalog/plan.h"

namespace pyralog::catalog {
namespace {

/// Steps of the search for one set, after which it settles for what racks allow.
constexpr int kPatience = 2000;

/// The nodes in turns from the racks: neighbours are in different racks while racks last.
struct Ring {
  std::vector<NodeId> nodes;
  std::vector<std::size_t> rack;  ///< of each, numbered
  std::size_t racks = 0;
  [[nodiscard]] std::size_t size() const { return nodes.size(); }
};

Ring ring_of(const std::map<NodeId, Node>& nodes) {
  std::map<std::string, std::vector<NodeId>> racks;
  for (const auto& [id, node] : nodes) racks[node.rack].push_back(id);
  Ring ring;
  ring.racks = racks.size();
  for (std::size_t turn = 0; ring.size() < nodes.size(); ++turn) {
    std::size_t rack = 0;
    for (const auto& [name, members] : racks) {
      if (turn < members.size()) {
        ring.nodes.push_back(members[turn]);
        ring.rack.push_back(rack);
      }
      ++rack;
    }
  }
  return ring;
}

/// A set of places on the ring that hold partitions together, their leader's first.
using Set = std::vector<std::size_t>;

/// Whether `next` may join: while there are racks that `set` is not in, it must be in one of them.
bool widens(const Ring& ring, const Set& set, std::size_t next) {
  std::set<std::size_t> used;
  for (const std::size_t each : set) used.insert(ring.rack[each]);
  if (std::ranges::find(set, next) != set.end()) return false;
  return used.size() == ring.racks || !used.contains(ring.rack[next]) ||
         PYRALOG_PLANT("catalog.place_in_one_rack");
}

/// Those that follow on the ring, from `shift` on, first a replica in every rack.
Set next_ones(const Ring& ring, std::size_t leader, std::size_t replicas, std::size_t shift) {
  Set set{leader};
  const std::size_t n = ring.size();
  // Twice: what was passed by for its rack may be needed in the end.
  for (std::size_t i = 0; i < 2 * n && set.size() < replicas; ++i) {
    const std::size_t next = (leader + 1 + (i + shift) % (n - 1)) % n;
    if (widens(ring, set, next)) set.push_back(next);
  }
  return set;
}

/// For each node the set that it leads, so that no node is together with more than `width` others,
/// while racks allow that.
class Sets {
 public:
  Sets(const Ring& ring, std::size_t replicas)
      : ring_(ring), replicas_(replicas), width_(2 * (replicas - 1)), met_(ring.size()) {
    for (std::size_t leader = 0; leader < ring.size(); ++leader) {
      Set set{leader};
      steps_ = 0;
      if (!complete(set)) set = next_ones(ring, leader, replicas, 0);
      for (const std::size_t each : set) met_[each].insert(set.begin(), set.end());
      sets_.push_back(std::move(set));
    }
  }
  [[nodiscard]] const Set& led_by(std::size_t place) const { return sets_[place]; }

 private:
  /// Depth first, the nearest on the ring first; with even racks that is each time the next ones.
  bool complete(Set& set) {
    if (set.size() == replicas_) return true;
    for (std::size_t i = 1; i < ring_.size() && ++steps_ < kPatience; ++i) {
      const std::size_t next = (set.front() + i) % ring_.size();
      if (!widens(ring_, set, next)) continue;
      set.push_back(next);
      if (all_narrow(set) && complete(set)) return true;
      set.pop_back();
    }
    return false;
  }
  [[nodiscard]] bool all_narrow(const Set& set) const {
    return std::ranges::all_of(set, [&](std::size_t each) {
      std::set<std::size_t> met = met_[each];
      met.insert(set.begin(), set.end());
      met.insert(each);
      return met.size() - 1 <= width_;
    });
  }

  const Ring& ring_;
  std::size_t replicas_;
  std::size_t width_;
  int steps_ = 0;
  std::vector<std::set<std::size_t>> met_;  ///< by place, itself too
  std::vector<Set> sets_;
};

}  // namespace

std::vector<std::vector<NodeId>> place(const std::map<NodeId, Node>& nodes, std::size_t partitions,
                                       std::size_t replicas, std::uint64_t first) {
  PYRALOG_ASSERT(replicas > 0 && replicas <= nodes.size());
  const Ring ring = ring_of(nodes);
  const std::size_t n = ring.size();
  std::optional<Sets> sets;
  if (n > 2 * replicas && !PYRALOG_PLANT("catalog.place_anywhere")) sets.emplace(ring, replicas);
  std::vector<std::vector<NodeId>> all(partitions);
  for (std::size_t p = 0; p < partitions; ++p) {
    const std::size_t leader = (static_cast<std::size_t>(first % n) + p % n) % n;
    const std::size_t round = p / n;
    Set set;
    if (sets) {
      set = sets->led_by(leader);
      if (replicas > 1) {
        const auto by = static_cast<std::ptrdiff_t>(round % (replicas - 1));
        std::rotate(set.begin() + 1, set.begin() + 1 + by, set.end());
      }
    } else {
      set = next_ones(ring, leader, replicas, round);
    }
    for (const std::size_t each : set) all[p].push_back(ring.nodes[each]);
  }
  return all;
}

}  // namespace pyralog::catalog
