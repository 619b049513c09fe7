#pragma once

#include <functional>
#include <map>
#include <optional>

#include "cluster/raft_log.h"
#include "cluster/voters.h"
#include "cluster/watch.h"
#include "io/net.h"
#include "multiraft/multiraft.h"
#include "peer/links.h"
#include "peer/service.h"

namespace pyralog::cluster {

/// What an operator wants of who belongs to the cluster. Numbered as ChangeMember does.
struct MemberChange {
  enum class Kind : std::uint8_t {
    kAdd = 1,          ///< `node` may come, and will listen at `peer`
    kRemove = 2,       ///< it is none of the cluster any more
    kReplaceDisk = 3,  ///< its disk is lost: it may come again with an empty one
  } kind = Kind::kAdd;
  NodeId node;
  io::Address peer{};
};

/// Who belongs to the cluster, and who of them votes: carries out what is asked, and on the node
/// that leads the metadata log what `next_change` says. Lives on shard 0.
class Members {
 public:
  struct Options {
    Duration look_every = std::chrono::milliseconds(250);
    Duration gone_long = std::chrono::minutes(10);  ///< then another node takes a voter's place
    Duration patience = std::chrono::seconds(5);    ///< with one change of the group
    /// Where a node that has never registered is to be found; nullopt = nobody has said.
    std::function<std::optional<io::Address>(NodeId)> address_of{};
    std::function<bool()> removed{};  ///< whether the others say that this node is none of them
  };
  /// All outlive it.
  Members(NodeId self, peer::Links& links, RaftLog& log, multiraft::MultiRaft& raft,
          multiraft::GroupId group, const Watch& watch, Options options);
  Members(const Members&) = delete;
  Members& operator=(const Members&) = delete;

  /// Takes requests of other nodes from `service`.
  void start(peer::Service& service);
  void end();
  /// After `end`, and after log and Raft have stopped.
  [[nodiscard]] io::Task<void> join();

  /// Asked of any node. To ask for what is so already is good. kInvalidArgument, kAlreadyExists,
  /// kNotFound: it cannot be; kUnavailable: not now, and `deadline` has come; kTimedOut: it may be
  /// yet.
  [[nodiscard]] io::Task<Result<void>> change(MemberChange change, Instant deadline);

 private:
  [[nodiscard]] io::Task<Result<void>> decide(MemberChange change, Instant deadline);
  [[nodiscard]] io::Task<Result<void>> add(MemberChange change, Instant deadline);
  [[nodiscard]] io::Task<Result<void>> remove(NodeId node, Instant deadline);
  [[nodiscard]] io::Task<Result<void>> replace_disk(NodeId node, Instant deadline);
  /// Takes it out of the group.
  [[nodiscard]] io::Task<Result<void>> leave(NodeId node, Instant deadline);
  [[nodiscard]] io::Task<Result<void>> propose(catalog::Entry entry, Instant deadline);
  [[nodiscard]] VoterView view() const;
  io::Task<void> take(peer::Request request);
  io::Task<void> run();

  NodeId self_;
  peer::Links& links_;
  RaftLog& log_;
  multiraft::MultiRaft& raft_;
  multiraft::GroupId group_;
  const Watch& watch_;
  Options options_;
  std::optional<raft::Index> committed_before_;  ///< a look ago, as the leader of `term_`
  raft::Term term_;
  bool stopping_ = false;
  io::Turn turn_;  ///< of changes
  io::WaitList stop_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::cluster
