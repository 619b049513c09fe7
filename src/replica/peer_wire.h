#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "io/shard.h"
#include "peer/links.h"
#include "peer/service.h"
#include "replica/participant.h"

namespace pyralog::replica {

/// A shard's participants and the way between them and those of other nodes: what they say leaves
/// by this shard's links, and what comes for one of them is brought to its shard. One for each
/// shard.
class PeerWire final : public Wire {
 public:
  struct Options {
    Duration append_timeout = std::chrono::seconds(30);
    Duration seal_timeout = std::chrono::seconds(5);
    Duration read_timeout = std::chrono::seconds(30);
    Duration look_every = std::chrono::milliseconds(250);
    Duration heartbeat = Leading::Options().heartbeat;  ///< as that of the participants
    Duration ask_every = Leading::Options().lease;      ///< heartbeats while not `in_touch`
  };
  struct Stats {
    std::uint64_t heartbeats = 0;  ///< messages of them, of any number of partitions
    std::uint64_t appends = 0;     ///< messages for one partition
  };
  /// The shard, of the node's, on which a partition lives.
  using ShardOf = std::function<unsigned(const PartitionId&)>;

  PeerWire(io::Shards shards, ShardOf shard_of, peer::Links& links)
      : PeerWire(std::move(shards), std::move(shard_of), links, Options()) {}
  PeerWire(io::Shards shards, ShardOf shard_of, peer::Links& links, Options options);

  /// Serves what comes to this shard's `service`; `all` has the wire of each shard.
  void serve(peer::Service& service, std::vector<PeerWire*> all);
  /// On its shard, like everything but what `serve` brings about.
  void add(const PartitionId& id, Participant& participant) { here_[id] = &participant; }
  void remove(const PartitionId& id) { here_.erase(id); }
  /// Tells all of this shard.
  void link_changed(NodeId node);
  /// Looks at the links again and again, and sends heartbeats, until `stop`.
  [[nodiscard]] io::Task<void> run();
  [[nodiscard]] io::Task<void> stop();

  [[nodiscard]] io::Task<Result<std::optional<AppendReply>>> append(NodeId to, PartitionId id,
                                                                    Append message,
                                                                    Records records) override;
  void progress(NodeId to, PartitionId id, AppendReply reply) override;
  [[nodiscard]] io::Task<Result<SealAnswer>> seal(NodeId to, PartitionId id, Seal seal) override;
  [[nodiscard]] io::Task<Result<Range>> read(NodeId to, PartitionId id, ReadRange range) override;
  [[nodiscard]] bool connected(NodeId node) const override;
  [[nodiscard]] std::optional<Instant> heard(NodeId node) const override;
  [[nodiscard]] bool in_touch() const override { return in_touch_; }
  void set_in_touch(bool now) { in_touch_ = now; }
  [[nodiscard]] const Stats& stats() const { return stats_; }

 private:
  /// What came for one shard of some Heartbeats.
  struct Heard;
  void look_at_links();
  void send_heartbeats(Duration every);
  io::Task<void> send_heartbeats(NodeId to, std::vector<Heartbeat> all, Duration patience);
  [[nodiscard]] io::Task<Result<void>> send_some(NodeId to, std::span<const Heartbeat> some,
                                                 Duration patience);
  io::Task<void> send_apart(NodeId to, std::vector<Heartbeat> all);
  void take_heartbeats(peer::Request request);
  void hear(const std::shared_ptr<Heard>& heard);
  void take_append(peer::Request request);
  void take_progress(const peer::Request& request);
  void take_seal(peer::Request request);
  void take_read(peer::Request request);
  /// Runs `work` with the participant, or null, on its shard.
  void at(const PartitionId& id, std::move_only_function<void(Participant*)> work);

  io::Shards shards_;
  ShardOf shard_of_;
  peer::Links& links_;
  Options options_;
  std::vector<PeerWire*> all_;
  std::unordered_map<PartitionId, Participant*> here_;
  std::map<NodeId, Instant> heard_;
  std::optional<std::uint64_t> links_changed_;  ///< so often, when last looked
  std::set<NodeId> beating_;                    ///< whose answer to heartbeats is not there yet
  bool in_touch_ = true;
  bool was_in_touch_ = true;                    ///< when last looked
  Stats stats_;
  bool running_ = false;
  bool stopping_ = false;
  io::WaitList stop_wanted_;
  io::WaitList stopped_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::replica
