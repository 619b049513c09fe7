#pragma once

#include <cstdint>
#include <string>

#include "model/fundamental.h"

namespace pyralog {
using namespace base;
}

namespace pyralog::peer {

using model::NodeId;
using model::Uuid;

/// Who a node is: its number, its disk, and how often it has started.
struct Identity {
  NodeId node{0};
  Uuid incarnation;  ///< of its data directory
  std::int64_t boot_counter = 0;
  Uuid cluster;  ///< nil: not known yet
  friend bool operator==(const Identity&, const Identity&) = default;
};

/// What a node can do. Two nodes talk if they have a version and a level in common.
struct Abilities {
  std::int16_t least_version = 1;  ///< of the protocol between nodes
  std::int16_t greatest_version = 1;
  std::int16_t least_level = 1;    ///< that it still works with
  std::int16_t feature_level = 1;  ///< that it has
};

/// The node at the other end of a connection, as it has proved.
struct Peer {
  Identity identity;
  std::int16_t version = 0;  ///< the greatest that both speak
  std::int16_t level = 0;    ///< the greatest feature level of both
  std::int32_t lane = 0;     ///< the dialer's shard that the connection serves
};

inline constexpr std::int32_t kMaxLanes = 1024;

}  // namespace pyralog::peer
