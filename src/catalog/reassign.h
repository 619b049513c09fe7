#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "model/fundamental.h"

namespace pyralog::catalog {

/// How a partition gets from the nodes C of its newest epoch to the nodes T where it is to be: its
/// target, or else its replicas. Every step is an epoch, and an epoch is active only once W′ of its
/// nodes hold everything. So that nobody waits for a copy, a step takes in only as many new nodes
/// as leave W′ to those that hold everything already; what leaves, leaves when all of T do. All
/// pure.

/// The nodes of an epoch, in the order of preference, and its W.
struct NextReplicas {
  std::vector<NodeId> nodes;
  std::uint16_t write_quorum = 1;
  friend bool operator==(const NextReplicas&, const NextReplicas&) = default;
};

/// How the nodes of an epoch keep up, as its leader sees it. Whoever is not caught up is taken for
/// gone or far behind: ask only once the nodes of an epoch had the time to join it.
struct Keeping {
  std::set<NodeId>
      caught_up;              ///< of C, who holds everything or will in a moment; the leader always
  std::set<NodeId> replaced;  ///< of C, whose disk is no longer the one of the epoch
};
/// Those whose registered disk is another than in the newest epoch. They are of no use to it, and a
/// next one brings them back in.
[[nodiscard]] std::set<NodeId> replaced_disks(const Partition& partition, const Catalog& catalog);

/// The next epoch of a partition that `leader` leads in its newest one; nullopt: none, as long as
/// nothing changes.
/// `min_insync`: the topic's, as in `write_quorum`, which gives W of every step but one:
/// - C and new ones that fit. If all of C hold everything and even one does not fit, as with a lone
///   replica, it comes alone and W stays: a seal of that epoch needs it too.
/// - Once all of T hold everything: T and the leader. A leader that is not in T hands over then.
/// - Nodes that leave and have fallen behind, dead ones too, go before, and new ones come in their
///   place. If so many have fallen behind that nothing is acknowledged, new ones go again as well.
/// Never fewer copies than W of now or of T, whichever is less.
[[nodiscard]] std::optional<NextReplicas> next_replicas(const Partition& partition,
                                                        const Keeping& keeping, NodeId leader,
                                                        std::int32_t min_insync);

/// To whom `leader`, not in T, hands over, once the epoch's nodes are T and the leader, and all of
/// T hold everything: the first of T that was not assigned before, for its epoch is T's, or the
/// first.
[[nodiscard]] std::optional<NodeId> hand_over(const Partition& partition, const Keeping& keeping,
                                              NodeId leader);

/// The one step that waits for a copy, for a partition in which nothing is acknowledged, that no
/// other step helps, and whose missing nodes will not come back: as many new nodes as are missing,
/// in their place. An operator's decision, or that of long patience; nullopt if it would not help.
[[nodiscard]] std::optional<NextReplicas> replace_missing(const Partition& partition,
                                                          const Keeping& keeping, NodeId leader,
                                                          std::int32_t min_insync);

/// The epoch of a candidate, which does not know who is caught up: the assigned replicas while all
/// of them are still in C, for they hold what they always held, new ones may hold nothing; else T
/// if it is C without one; else C, with its W. nullopt: the candidate has no place in any of these.
[[nodiscard]] std::optional<NextReplicas> replicas_for_candidate(const Partition& partition,
                                                                 NodeId candidate,
                                                                 std::int32_t min_insync);
/// Whether candidates were proposed again and again since the current epoch, and none got so far.
[[nodiscard]] bool is_stuck(const Partition& partition);
/// The same of a partition that is to move and is stuck: if too
/// few of those can be `reached`, the ones that can, and new ones in the place of the others, which get
/// all records before anybody is served.
[[nodiscard]] std::optional<NextReplicas> replicas_for_candidate(const Partition& partition,
                                                                 NodeId candidate,
                                                                 std::int32_t min_insync,
                                                                 const std::set<NodeId>& reached);

/// What is to be done next so that a node that is draining holds nothing.
struct DrainPlan {
  struct Stuck {
    PartitionId partition;
    std::string reason;  ///< for people
  };
  std::vector<ReplicasWanted> moves;  ///< the catalogue takes them all, one after the other
  std::size_t under_way = 0;          ///< partitions that leave the node already
  std::size_t waiting = 0;            ///< those beyond what may move at once
  std::size_t stuck = 0;              ///< those for which there is no other node
  std::vector<Stuck> examples;        ///< of these, the first kExamples
  static constexpr std::size_t kExamples = 10;
  /// The node may be removed.
  [[nodiscard]] bool done() const { return moves.empty() && under_way + waiting + stuck == 0; }
};

/// Replaces `node` in its partitions by the best other one that is not draining: in a rack where
/// the partition is not yet, then with the fewest partitions, then with the fewest new companions.
/// At most `max` leave at once, those under way included. Looks at every partition.
[[nodiscard]] DrainPlan plan_drain(const Catalog& catalog, NodeId node, std::size_t max);

}  // namespace pyralog::catalog
