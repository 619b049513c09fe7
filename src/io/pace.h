#pragma once

#include "io/shard.h"

namespace pyralog::io {

/// The next multiple of `every` by the shard's clock, at most that far away: who does something
/// that often and does not care when, waits until then, so that a shard with nothing else to do
/// wakes up for all of them at once.
[[nodiscard]] inline Instant in_step(Duration every) {
  const std::int64_t step = every.count();
  return {(Shard::current().now().ns / step + 1) * step};
}

}  // namespace pyralog::io
