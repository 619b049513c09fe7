#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "catalog/catalog.h"
#include "catalog/entry.h"
#include "cluster/leaders.h"

namespace pyralog::cluster {

/// A node as whoever decides sees it.
struct NodeLife {
  bool up = false;        ///< can be reached, on the registered disk, its last start registered
  Instant since;          ///< when that began
  bool ended = false;     ///< not up, and its process is gone: it comes back by a start
  bool draining = false;  ///< is to lead nothing any more
  friend bool operator==(const NodeLife&, const NodeLife&) = default;
};
/// Of nobody that is missing here anything is believed: it is not taken over from, nor made a
/// candidate.
using Liveness = std::map<NodeId, NodeLife>;

/// Decides which partitions get another leader. Pure; lives on the node that leads the metadata
/// log, and watches on all others, so that whoever leads next knows since when things are as they
/// are. What it returns reserves an epoch for a candidate, which seals the one before and activates
/// its own; that the old leader is dead is nobody's assumption.
class Steward {
 public:
  struct Options {
    Duration takeover_after = 250ms;   ///< a leader that is down for less keeps its partitions,
                                       ///< unless it has ended
    Duration own_grace = 2s;           ///< for a node that has started again to propose for itself
    Duration candidate_patience = 3s;  ///< for a candidate to activate its epoch; doubles each time
                                       ///< that all of a partition's candidates have failed,
    Duration most_patience = 60s;      ///< up to this
    Duration balance_after = 5min;     ///< up and without takeovers for so long, before moving back
    std::size_t max_proposals = 1000;  ///< of one `step`
    std::size_t max_moves = 10;        ///< of one `balance`
  };
  using Proposals = std::vector<catalog::EpochProposed>;

  Steward() : Steward(Options()) {}
  explicit Steward(const Options& options) : options_(options) {}

  /// Takes note of the newest catalogue, which is not null. Before any of the following.
  void observe(std::shared_ptr<const catalog::Catalog> state, Instant now);

  /// Takeovers that are due: of each partition whose leader is down, or has started again and not
  /// come back to it, or whose candidate is down or does not come to lead. To another replica of
  /// the newest epoch that is up, in the order of preference, those that have not failed yet
  /// first, and draining ones only if there are no others. What was returned comes again only after
  /// `failed` or its patience.
  [[nodiscard]] Proposals step(const Liveness& nodes, Instant now);
  /// When `step` has something to do though nothing changes; as of its last call.
  [[nodiscard]] Instant again() const { return again_; }

  /// Moves that nobody waits for, none while there are takeovers: from nodes that are draining, and
  /// back to whom a partition should be led by, once that one has been up for long.
  [[nodiscard]] Proposals balance(const Liveness& nodes, Instant now);

  /// A move that somebody asks for. kNotFound; kAlreadyExists: `to` leads it; kUnavailable: `to`
  /// holds no replica of the newest epoch, is down or draining, or another change is under way.
  [[nodiscard]] Result<catalog::EpochProposed> move(const PartitionId& id, NodeId to,
                                                    const Liveness& nodes, Instant now);

  /// What was returned last may not stand: it is not waited for.
  void failed();

  /// Partitions that something is remembered of.
  [[nodiscard]] std::size_t open_cases() const { return cases_.size(); }

 private:
  /// A partition that is to get another leader. Forgotten once it has one.
  struct Case {
    Epoch of;                          ///< that is to end
    Epoch proposed;                    ///< the highest, as seen
    Instant since;                     ///< when that was seen first
    std::optional<Instant> own_until;  ///< who has lost its start or disk may propose until then
    std::vector<NodeId> tried;         ///< and failed, the last one last
    std::size_t repeats = 0;           ///< of those that had failed before
    Epoch asked;                       ///< returned and not seen to stand; 0 = none
    Instant asked_at;
  };
  struct Start {
    Uuid incarnation;
    std::uint64_t boot_counter = 0;
    friend bool operator==(const Start&, const Start&) = default;
  };

  void note(const Leaders::Change& change, Instant now);
  /// The open one, or a new one.
  Case& case_of(const PartitionId& id, const catalog::EpochRecord& current);
  void note_start(NodeId node, bool same_disk, const std::set<PartitionId>& fresh, Instant now);
  void look_at_pending(const Liveness& nodes, Instant now, Proposals& out);
  void look_at_leaders(const Liveness& nodes, Instant now, Proposals& out);
  void look_at_orphans(const Liveness& nodes, Instant now, Proposals& out);
  /// False once there is no room.
  bool ask(const PartitionId& id, const catalog::Partition& partition,
           std::optional<NodeId> failed_one, const Liveness& nodes, Instant now, Proposals& out);
  catalog::EpochProposed move_now(const PartitionId& id, const catalog::Partition& partition,
                                  NodeId to, Instant now);
  void drain(NodeId node, const Leaders::Partitions& led, const Liveness& nodes, Instant now,
             Proposals& out);
  [[nodiscard]] bool is_calm(const Liveness& nodes, Instant now) const;
  [[nodiscard]] bool holds(const catalog::Partition& partition, NodeId node) const;
  [[nodiscard]] std::vector<NodeId> candidates(const catalog::Partition& partition,
                                               const Liveness& nodes) const;
  [[nodiscard]] Duration patience(const Case& open) const;
  /// When a node that is down is taken over from.
  [[nodiscard]] Instant takeover_due(const NodeLife& life) const;
  void come_back(Instant at) { again_ = std::min(again_, at); }

  Options options_;
  std::shared_ptr<const catalog::Catalog> state_;
  Leaders leaders_;
  std::map<NodeId, Start> starts_;
  std::map<PartitionId, Case> cases_;
  std::optional<Instant> trouble_;  ///< the last takeover
  std::optional<PartitionId> balanced_;
  // Of the last step, which holds until something changes.
  Liveness seen_;
  bool changed_ = true;
  Instant again_ = Instant::never();
};

}  // namespace pyralog::cluster
