#include "cluster/levels.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::cluster {

std::uint16_t level_to_raise(const catalog::Catalog& state,
                             const std::vector<model::NodeId>& members) {
  // Whoever has not come yet may understand less, and could never come afterwards.
  const bool all_here = std::ranges::all_of(members, [&](model::NodeId each) {
    const catalog::Node* known = state.node(each);
    return known != nullptr && known->feature_level != 0;
  });
  if (!all_here && !PYRALOG_PLANT("cluster.raise_without_all")) return 0;
  const std::uint16_t level = state.understood();
  return level > std::max(state.level(), catalog::kLeastClusterLevel) ? level : std::uint16_t{0};
}

}  // namespace pyralog::cluster
