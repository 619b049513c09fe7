#pragma once

#include <cstdint>
#include <vector>

#include "catalog/catalog.h"

namespace pyralog::cluster {

/// The feature level to which a cluster can be raised, or 0 if there is none above its own: all
/// nodes that are registered understand it, and each of `members`, who take part in agreeing, is
/// registered. Pure.
[[nodiscard]] std::uint16_t level_to_raise(const catalog::Catalog& state,
                                           const std::vector<model::NodeId>& members);

}  // namespace pyralog::cluster
