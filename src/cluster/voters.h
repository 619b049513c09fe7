#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "base/result.h"
#include "model/fundamental.h"
#include "raft/config.h"
#include "raft/types.h"

namespace pyralog::cluster {

/// A node of the cluster, as whoever leads the metadata log sees it.
struct VoterNode {
  NodeId id;
  bool up = false;          ///< its registered disk is here
  bool caught_up = false;   ///< it has all that was committed a moment ago
  bool leaving = false;     ///< it is draining
  bool lacks_disk = false;  ///< its disk is lost: it is to have no part in anything
  bool gone_long = false;   ///< down for so long that another one may take its place
};

struct VoterView {
  NodeId self;  ///< the leader
  raft::Config config;
  std::vector<VoterNode> nodes;  ///< that are registered, by id
};

/// How many of so many nodes vote: three or five, with fewer nodes one or two.
[[nodiscard]] std::size_t wanted_voters(std::size_t nodes);

/// Who takes part in agreeing on the metadata, and as what: the next change of the group; nullopt =
/// none, now. Pure. One change at a time; none leaves fewer voters up than the majority of those
/// there are then; nobody votes before it has caught up.
/// - A node that is up and no member becomes a learner; one whose disk is lost is a member no more.
/// - Learners that have caught up become voters as long as more are wanted.
/// - A learner that has caught up takes the place of a voter that is draining, or gone for long.
/// - Voters beyond what is wanted become learners: the draining first, then those that are down.
[[nodiscard]] std::optional<raft::ConfigChange> next_change(const VoterView& view);

/// The change after which `node` is no member; a learner that has caught up takes its vote.
/// nullopt: it is none already. kUnavailable, with the reason, while it may not be taken out: it
/// leads, another change is under way, or a majority of those who stay is not up.
[[nodiscard]] Result<std::optional<raft::ConfigChange>> change_without(const VoterView& view,
                                                                       NodeId node);

}  // namespace pyralog::cluster
