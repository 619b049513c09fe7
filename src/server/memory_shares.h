#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/settings.h"

namespace pyralog::server {

/// How the memory that the node may take (`memory.max.bytes`) is divided among the rooms that can hold
/// much. What a setting names it gets; the others have fixed parts of what is left, none more than it
/// has use for. What all else takes (threads, sockets' state, the catalogue) has the part of the
/// machine that `memory.max.bytes` leaves.
struct MemoryShares {
  std::uint64_t all = 0;
  std::uint64_t requests = 0;    ///< being received or served, of all shards
  std::uint64_t largest_request = 0;  ///< that finds room among these on its shard
  std::uint64_t answers = 0;     ///< made and not taken by their clients yet, of all shards
  std::uint64_t topics = 0;      ///< records of topics with durability=memory, of all shards
  std::uint64_t groups = 0;      ///< members, offsets and their records under way, of all shards
  std::uint64_t compaction = 0;  ///< keys being compared, of each shard
  std::uint64_t indexes = 0;     ///< of closed segments, of each shard
};

/// kInvalidArgument if what is set comes to more than all there is; names what and how much.
[[nodiscard]] Result<MemoryShares> share_memory(const ServerOptions& options);

}  // namespace pyralog::server
