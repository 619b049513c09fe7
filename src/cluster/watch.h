#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>

#include "cluster/raft_log.h"
#include "cluster/steward.h"
#include "io/shard.h"
#include "multiraft/multiraft.h"
#include "peer/identity.h"
#include "peer/links.h"

namespace pyralog::cluster {

/// Sees to it that partitions are led: knows from the links who is up, and proposes what its
/// steward decides while this node leads the metadata log. Lives on shard 0.
class Watch {
 public:
  struct Options {
    Steward::Options steward;
    /// Whoever was cut off from most of the nodes itself believes of nobody for so long that it is
    /// down: the other connections are about to come up.
    Duration cut_off_grace = 1s;
    Duration look_every = 250ms;  ///< though nothing was heard of that changes anything
    Duration balance_every = 1s;
  };
  struct Stats {
    std::uint64_t proposed = 0;  ///< epochs, for other leaders
    std::uint64_t left_out = 0;  ///< that the newest state has refused
    std::uint64_t failures = 0;  ///< proposals that may not stand
  };

  /// `self` as it is registered once this start is. The others outlive it. Takes the links'
  /// on_change.
  Watch(peer::Identity self, peer::Links& links, RaftLog& log, multiraft::MultiRaft& raft,
        multiraft::GroupId group, Options options);
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch();

  void start();
  /// Looks at nothing any more.
  void end();
  /// Waits until all is over; after `end`, and after log and Raft have stopped.
  [[nodiscard]] io::Task<void> join();

  /// Called, too, when a connection of shard 0 has come up or ended. From within the loop.
  void also_tell(std::function<void(NodeId)> told) { also_ = std::move(told); }
  /// Who is up, as this node sees it now.
  [[nodiscard]] const Liveness& liveness() const { return nodes_; }
  /// Whether a node is to lead nothing any more; forgotten with this process.
  void set_draining(NodeId node, bool draining);
  /// Lets `to` take a partition over. Only where the metadata log is led: kUnavailable elsewhere;
  /// else as Steward::move and MetadataLog::propose.
  [[nodiscard]] io::Task<Result<void>> move(PartitionId partition, NodeId to);
  [[nodiscard]] const Stats& stats() const { return stats_; }

 private:
  [[nodiscard]] bool is_up(const catalog::Node& node) const;
  void look();
  /// Whether this node may decide; takes note of since when.
  [[nodiscard]] bool decides();
  io::Task<void> run();
  io::Task<void> follow();
  io::Task<Result<void>> propose(Steward::Proposals proposals);

  peer::Identity self_;
  peer::Links& links_;
  RaftLog& log_;
  multiraft::MultiRaft& raft_;
  multiraft::GroupId group_;
  Options options_;
  Steward steward_;
  Liveness nodes_;
  std::set<NodeId> draining_;
  std::optional<Instant> reaches_most_since_;
  std::optional<Instant> leads_since_;
  raft::Term term_;  ///< in which it does
  Instant balance_at_{};
  Stats stats_;
  std::function<void(NodeId)> also_;
  bool stopping_ = false;
  io::Turn proposing_;
  io::WaitList changed_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::cluster
