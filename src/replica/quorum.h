#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "base/assert.h"
#include "base/plant.h"
#include "model/fundamental.h"

namespace pyralog::replica {

/// The W-th largest of the stable ends of an epoch's replicas, all of them given: everything below
/// it is held by W. Pure. 1 ≤ W ≤ ends.size().
[[nodiscard]] inline Offset committed_end(std::vector<Offset> ends, std::size_t write_quorum) {
  PYRALOG_ASSERT(write_quorum >= 1 && write_quorum <= ends.size());
  if (PYRALOG_PLANT("replica.ack_before_quorum")) write_quorum = 1;
  const auto nth = ends.begin() + static_cast<std::ptrdiff_t>(write_quorum - 1);
  std::nth_element(ends.begin(), nth, ends.end(), std::greater<>());
  return *nth;
}

/// How many of an epoch's replicas must have promised to take nothing more of it, so that one of
/// them is among any W: RF − W + 1. Then nobody can reach W any longer, and all that W ever held is
/// found.
[[nodiscard]] inline std::size_t seals_needed(std::size_t replicas, std::size_t write_quorum) {
  PYRALOG_ASSERT(write_quorum >= 1 && write_quorum <= replicas);
  const std::size_t needed = replicas - write_quorum + 1;
  return PYRALOG_PLANT("replica.one_seal_too_few") ? needed - 1 : needed;
}

}  // namespace pyralog::replica
