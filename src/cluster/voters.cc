#include "cluster/voters.h"

#include <algorithm>
#include <string>

#include "base/plant.h"

namespace pyralog::cluster {

namespace {

using raft::ConfigChange;
using Kind = ConfigChange::Kind;

constexpr std::size_t kMostVoters = 5;

class Decision {
 public:
  explicit Decision(const VoterView& view) : view_(view) {}

  [[nodiscard]] const VoterNode* find(NodeId id) const {
    const auto at = std::ranges::find(view_.nodes, id, &VoterNode::id);
    return at == view_.nodes.end() ? nullptr : &*at;
  }
  [[nodiscard]] bool is_up(NodeId id) const {
    if (id == view_.self) return true;
    const VoterNode* node = find(id);
    return node != nullptr && node->up;
  }
  [[nodiscard]] bool votes(NodeId id) const {
    return std::ranges::binary_search(view_.config.voters, id);
  }
  /// Whether a majority of the voters after it is up.
  [[nodiscard]] bool keeps_majority(const ConfigChange& change) const {
    const auto next = raft::changed(view_.config, change);
    if (!next) return false;
    const auto up = static_cast<std::size_t>(
        std::ranges::count_if(next->voters, [this](NodeId id) { return is_up(id); }));
    return 2 * up > next->voters.size() || PYRALOG_PLANT("cluster.change_without_majority");
  }
  [[nodiscard]] std::optional<ConfigChange> if_safe(std::vector<ConfigChange::Step> steps) const {
    ConfigChange change;
    change.steps = std::move(steps);
    if (!keeps_majority(change)) return std::nullopt;
    return change;
  }
  /// Learners that may vote.
  [[nodiscard]] std::vector<NodeId> ready(NodeId without) const {
    std::vector<NodeId> out;
    for (const VoterNode& node : view_.nodes) {
      if (node.id == without || !view_.config.is_learner(node.id)) continue;
      const bool knows = node.caught_up || PYRALOG_PLANT("cluster.promote_at_once");
      if (node.up && knows && !node.leaving && !node.lacks_disk) out.push_back(node.id);
    }
    return out;
  }

  [[nodiscard]] std::optional<ConfigChange> members() const {
    for (const VoterNode& node : view_.nodes) {
      const bool is_member = view_.config.has(node.id);
      if (is_member && node.lacks_disk && node.id != view_.self) {
        if (auto change = if_safe({{Kind::kRemove, node.id}})) return change;
      }
      if (!is_member && node.up && !node.lacks_disk) return if_safe({{Kind::kAddLearner, node.id}});
    }
    return std::nullopt;
  }
  [[nodiscard]] std::optional<ConfigChange> more(std::size_t wanted) const {
    const std::size_t now = view_.config.voters.size();
    if (now >= wanted) return std::nullopt;
    std::vector<NodeId> fit = ready(raft::kNobody);
    std::size_t count = std::min(fit.size(), wanted - now);
    // An even number bears no more losses than one fewer.
    while (count > 0 && now + count != wanted && (now + count) % 2 == 0) --count;
    if (count == 0) return std::nullopt;
    std::vector<ConfigChange::Step> steps;
    for (std::size_t i = 0; i < count; ++i) steps.push_back({Kind::kAddVoter, fit[i]});
    return if_safe(std::move(steps));
  }
  [[nodiscard]] std::optional<ConfigChange> fewer(std::size_t wanted) const {
    if (view_.config.voters.size() <= wanted) return std::nullopt;
    std::optional<NodeId> least;
    int best = -1;
    for (const NodeId id : view_.config.voters) {
      const VoterNode* node = find(id);
      // Of the first disks of a cluster: one that has not come yet.
      if (id == view_.self) continue;
      const int rank = node == nullptr ? 0 : node->leaving ? 2 : !node->up ? 1 : 0;
      if (rank < best) continue;
      best = rank;
      least = id;
    }
    if (!least) return std::nullopt;
    return if_safe({{Kind::kAddLearner, *least}});
  }
  [[nodiscard]] std::optional<ConfigChange> exchange() const {
    const std::vector<NodeId> fit = ready(raft::kNobody);
    if (fit.empty()) return std::nullopt;
    for (const NodeId id : view_.config.voters) {
      const VoterNode* node = find(id);
      if (node == nullptr || (!node->leaving && !(node->gone_long && !node->up))) continue;
      if (auto change = if_safe({{Kind::kAddVoter, fit.front()}, {Kind::kAddLearner, id}}))
        return change;
    }
    return std::nullopt;
  }

 private:
  const VoterView& view_;
};

}  // namespace

std::size_t wanted_voters(std::size_t nodes) {
  if (nodes <= 2) return nodes;
  const std::size_t most = std::min(nodes, kMostVoters);
  return most % 2 == 0 ? most - 1 : most;
}

std::optional<raft::ConfigChange> next_change(const VoterView& view) {
  if (view.config.joint() || !view.config.is_voter(view.self)) return std::nullopt;
  const Decision decision(view);
  if (auto change = decision.members()) return change;
  // First disks that have not come yet are expected, and count.
  std::size_t nodes = 0;
  for (const VoterNode& node : view.nodes) nodes += node.lacks_disk ? 0u : 1u;
  for (const NodeId id : view.config.voters) nodes += decision.find(id) == nullptr ? 1u : 0u;
  const std::size_t wanted = wanted_voters(nodes);
  if (auto change = decision.more(wanted)) return change;
  if (auto change = decision.exchange()) return change;
  return decision.fewer(wanted);
}

Result<std::optional<raft::ConfigChange>> change_without(const VoterView& view, NodeId node) {
  const std::string who = "node " + std::to_string(node.value);
  if (view.config.joint()) {
    return fail(Code::kUnavailable, who + ": another change of who votes is under way; try again");
  }
  if (!view.config.has(node)) return std::optional<raft::ConfigChange>{};
  if (node == view.self) {
    return fail(Code::kUnavailable,
                who + ": it leads the metadata log; try again once another does");
  }
  const Decision decision(view);
  std::vector<ConfigChange::Step> steps{{Kind::kRemove, node}};
  if (decision.votes(node)) {
    const auto fit = decision.ready(node);
    if (!fit.empty()) steps.push_back({Kind::kAddVoter, fit.front()});
  }
  auto change = decision.if_safe(std::move(steps));
  if (!change) {
    return fail(Code::kUnavailable,
                who +
                    ": without it a majority of the nodes that vote would not be up; bring the "
                    "others back first");
  }
  return change;
}

}  // namespace pyralog::cluster
