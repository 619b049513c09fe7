#pragma once

#include <map>
#include <vector>

#include "catalog/catalog.h"
#include "io/net.h"
#include "model/fundamental.h"

namespace pyralog::cluster {

/// A node that the command line names: where the others reach it.
struct Member {
  NodeId node;
  io::Address peer;
  friend bool operator==(const Member&, const Member&) = default;
};

/// How an empty directory begins to take part in the Global Raft. Whoever begins a cluster votes
/// from then on, so it must be sure that there is none yet, of which it might have been a part with
/// a disk that is lost: that only those can say whom the command line names, all of them. Pure.
struct FirstStart {
  enum class Kind : std::uint8_t {
    kWait,   ///< not enough is known
    kBegin,  ///< nobody has begun, or only with just these disks: they are the first of `cluster`
    kJoin,   ///< `cluster` exists; this node comes to it, and votes for nobody until it is let in
  } kind = Kind::kWait;
  Uuid cluster;
  std::uint16_t level = 0;  ///< kBegin: that all of its nodes understand
};

/// Another node as its connection says.
struct Seen {
  Uuid incarnation;
  Uuid cluster;                                  ///< nil: it has not begun either
  std::uint16_t level = catalog::kFeatureLevel;  ///< that both sides understand
};

/// What to do, by whom this node is connected with. `waited_long`: others whom the command line
/// names could not be reached for so long that an existing cluster is joined without having heard
/// of them.
[[nodiscard]] FirstStart decide_first_start(NodeId self, const Uuid& incarnation,
                                            const std::vector<Member>& members,
                                            const std::map<NodeId, Seen>& seen, bool waited_long,
                                            std::uint16_t own_level = catalog::kFeatureLevel);

/// Its name is that of its first disks and its first level: who counts others among them, or begins
/// with another level, is of another cluster.
[[nodiscard]] Uuid cluster_of(const std::map<NodeId, Uuid>& disks,
                              std::uint16_t level = catalog::kFeatureLevel);

/// With what a cluster of these first disks begins: the same on all of them, and of no higher level
/// than this. No other disk may be registered as one of these nodes, from the beginning.
[[nodiscard]] catalog::Catalog first_catalog(const std::map<NodeId, Uuid>& disks,
                                             std::uint16_t level = catalog::kFeatureLevel);

}  // namespace pyralog::cluster
