#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/catalog_machine.h"
#include "cluster/cookie.h"
#include "cluster/peers.h"
#include "cluster/raft_log.h"
#include "cluster/raft_transport.h"
#include "cluster/watch.h"
#include "io/disk.h"
#include "multiraft/multiraft.h"

namespace pyralog::cluster {

/// The group that carries the metadata log.
inline constexpr multiraft::GroupId kGlobalGroup{0};

/// A node that the command line names: where the others reach it.
struct Member {
  NodeId node;
  io::Address peer;
  friend bool operator==(const Member&, const Member&) = default;
};

struct JoinOptions {
  std::vector<Member> members;        ///< empty = this node is alone
  std::optional<io::Address> listen;  ///< none = as `members` say of this node
  std::string advertise;              ///< host that other nodes are told; empty = as it listens
  Bytes secret;
  std::string secret_name;  ///< where it comes from, for errors
  io::Shards shards;
  peer::ChannelOptions channel{};
  multiraft::Options raft{};  ///< path, owner and self are filled in
  Watch::Options watch{};
  std::uint16_t feature_level = catalog::kFeatureLevel;  ///< that this node understands
  Duration tell_every = std::chrono::seconds(5);  ///< how often a start says what it waits for
};

/// A node's part in a cluster: its peers, the Global Raft, and the metadata log that this keeps.
/// Lives on shard 0.
class Joined {
 public:
  /// Listens, opens `<dir>/raft.log`, takes part. Does not wait for the others.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Joined>>> open(io::Disk& disk,
                                                                      std::string dir,
                                                                      const Cookie& cookie,
                                                                      JoinOptions options);
  Joined(const Joined&) = delete;
  Joined& operator=(const Joined&) = delete;
  ~Joined();

  /// Waits until the cluster has a name, giving it one if this node leads first. kCancelled once
  /// `give_up` says so.
  [[nodiscard]] io::Task<Result<Uuid>> named(Uuid proposed, WallMs now,
                                             std::function<bool()> give_up);
  /// What the connections say from now on.
  [[nodiscard]] io::Task<void> set_cluster(Uuid cluster);
  /// As MetadataLog::Plan; `may_stand`: a try before has ended so that what it proposed may have
  /// come to stand.
  using InsistentPlan =
      std::function<Result<std::vector<catalog::Entry>>(bool may_stand, const catalog::Catalog&)>;
  /// Tries until the entries, which are right or wrong in every state, stand or are refused.
  /// kCancelled as above.
  [[nodiscard]] io::Task<Result<CatalogPtr>> insist(InsistentPlan plan,
                                                    std::function<bool()> give_up);

  [[nodiscard]] RaftLog& log() { return *log_; }
  [[nodiscard]] const RaftLog& log() const { return *log_; }
  [[nodiscard]] Peers& peers() { return *peers_; }
  [[nodiscard]] Watch& watch() { return *watch_; }
  [[nodiscard]] multiraft::MultiRaft& raft() { return *raft_; }
  [[nodiscard]] const multiraft::MultiRaft& raft() const { return *raft_; }
  /// What other nodes are told of where this one listens.
  [[nodiscard]] const io::Address& advertised() const { return advertised_; }
  /// Whether a connection to it is up; itself counts.
  [[nodiscard]] bool reaches(NodeId node) const;
  /// Those that take part in the Global Raft and cannot be reached, with the reason: for people.
  [[nodiscard]] std::string missing() const;
  [[nodiscard]] io::Task<void> stop();

 private:
  Joined(NodeId self, Uuid incarnation, JoinOptions options);
  [[nodiscard]] Result<void> admit(const peer::Peer& peer) const;
  /// Of a cluster that has not formed yet: whether the command line says what it said first.
  [[nodiscard]] Result<void> check_first_voters(const Cookie& cookie) const;
  /// Somebody who is connected, another one each time.
  [[nodiscard]] NodeId anybody();
  [[nodiscard]] io::Task<Result<Forwarded>> forward(NodeId leader, std::uint64_t expected,
                                                    Bytes entries, Instant deadline);
  io::Task<void> take_proposal(peer::Request request);
  io::Task<void> follow_addresses();
  /// While this node leads: raises the cluster's feature level once all understand a higher one.
  io::Task<void> follow_levels();
  [[nodiscard]] std::map<NodeId, io::Address> addresses() const;
  void tell_waiting(std::string_view for_what);

  NodeId self_;
  Uuid incarnation_;
  JoinOptions options_;
  io::Address advertised_;
  std::unique_ptr<Peers> peers_;
  std::unique_ptr<RaftTransport> transport_;
  CatalogMachine machine_;
  std::unique_ptr<multiraft::MultiRaft> raft_;
  std::unique_ptr<RaftLog> log_;
  std::set<NodeId> try_said_;  ///< nodes that are looked for where the command line says
  NodeId asked_last_ = raft::kNobody;
  std::unique_ptr<Watch> watch_;
  Instant told_{};
  bool stopping_ = false;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::cluster
