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
#include "cluster/first_start.h"
#include "cluster/members.h"
#include "cluster/peers.h"
#include "cluster/raft_log.h"
#include "cluster/raft_transport.h"
#include "cluster/watch.h"
#include "io/disk.h"
#include "multiraft/multiraft.h"

namespace pyralog::cluster {

/// The group that carries the metadata log.
inline constexpr multiraft::GroupId kGlobalGroup{0};

struct JoinOptions {
  std::vector<Member> members;        ///< empty = this node is alone, unless it listens
  std::optional<io::Address> listen;  ///< none = as `members` say of this node
  std::string advertise;              ///< host that other nodes are told; empty = as it listens
  Bytes secret;
  std::string secret_name;  ///< where it comes from, for errors
  io::Shards shards;
  peer::ChannelOptions channel{};
  multiraft::Options raft{};  ///< path, owner and self are filled in
  Watch::Options watch{};
  Members::Options voters{};
  std::uint16_t feature_level = catalog::kFeatureLevel;  ///< that this node understands
  Duration tell_every = std::chrono::seconds(5);  ///< how often a start says what it waits for
  /// A first start joins a cluster that exists once it could not reach others for so long.
  Duration first_patience = std::chrono::seconds(10);
  [[nodiscard]] bool wanted() const { return !members.empty() || listen.has_value(); }
};

/// A node's part in a cluster: its peers, the Global Raft, and the metadata log that this keeps.
/// Lives on shard 0.
class Joined {
 public:
  /// Listens, opens `<dir>/raft.log`, takes part. A first start waits until it knows whether the
  /// cluster exists, see FirstStart, and puts the name into the cookie; kCancelled once `give_up`
  /// says so. Later ones wait for nobody.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Joined>>> open(
      io::Disk& disk, std::string dir, Cookie& cookie, JoinOptions options,
      std::function<bool()> give_up);
  /// Makes the `<dir>/raft.log` of a cluster that has just this node, and `state`.
  [[nodiscard]] static io::Task<Result<void>> found_alone(io::Disk& disk, std::string dir,
                                                          const Cookie& cookie,
                                                          const catalog::Catalog& state);
  Joined(const Joined&) = delete;
  Joined& operator=(const Joined&) = delete;
  ~Joined();

  /// Waits until the cluster has a name, giving it one if this node leads first. kCancelled once
  /// `give_up` says so.
  [[nodiscard]] io::Task<Result<Uuid>> named(Uuid proposed, WallMs now,
                                             std::function<bool()> give_up);
  /// What the connections say from now on.
  [[nodiscard]] io::Task<void> set_cluster(Uuid cluster);
  /// Whether this node knows nothing yet of the cluster that it comes to.
  [[nodiscard]] bool is_new() const;
  /// Why the others refuse this node for good; nullopt = they do not.
  [[nodiscard]] std::optional<Error> refused_for_good() const;
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
  [[nodiscard]] Members& members() { return *members_; }
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
  [[nodiscard]] io::Task<Result<void>> first_start(io::Disk& disk, std::string dir, Cookie& cookie,
                                                   std::function<bool()> give_up);
  [[nodiscard]] io::Task<Result<void>> open_raft(io::Disk& disk, std::string dir);
  /// By what is known by now.
  void decide_whether_to_vote();
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
  Uuid cluster_;  ///< nil: not known yet
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
  std::unique_ptr<Members> members_;
  Instant told_{};
  bool stopping_ = false;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::cluster
