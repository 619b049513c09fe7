#pragma once

#include <cstdint>

#include "base/assert.h"

namespace pyralog::producer {

/// Sequence numbers count 0 … 2³¹−1 and go on with 0, as Kafka's do. `by` ≥ 0.
[[nodiscard]] constexpr std::int32_t sequence_plus(std::int32_t sequence, std::int32_t by) {
  return static_cast<std::int32_t>(
      (static_cast<std::uint32_t>(sequence) + static_cast<std::uint32_t>(by)) & 0x7fffffffU);
}

}  // namespace pyralog::producer
