#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "broker/lag_board.h"
#include "catalog/catalog.h"
#include "catalog/reassign.h"
#include "io/shard.h"
#include "replica/peer_wire.h"
#include "replica/replica.h"

namespace pyralog::broker {

/// A shard's replicas as parts of their sets, where the node has joined others: joins them, tells
/// them what the catalogue says, and finds what this node has to ask an epoch for. Lives on its
/// shard.
class Seats {
 public:
  using Activation = catalog::EpochActivation;
  using Loss = replica::Recovery::Loss;
  struct Ways {
    catalog::Replica self;
    std::uint64_t start = 0;  ///< of this node, counted
    replica::Leading::Options leading{};
    replica::PeerWire* wire = nullptr;
    /// What the node had promised when it started.
    std::unordered_map<PartitionId, replica::Promise> promises;
    /// Durable when it returns.
    std::function<io::Task<Result<void>>(PartitionId, replica::Promise)> store;
    /// The partition is gone for good. May not wait.
    std::function<void(PartitionId)> forget;
    /// Proposes it; returns once the newest state was told here.
    std::function<io::Task<Result<void>>(Activation, std::optional<Loss>)> activate;
    /// See replica::Membership.
    std::function<io::Task<Result<void>>(PartitionId, Offset)> cutting;
    std::function<void(PartitionId)> cut_ended;
    std::function<bool(PartitionId)> may_take;
    std::function<void(PartitionId)> failed;
    std::function<void(PartitionId)> role_changed;
  };

  explicit Seats(Ways ways) : ways_(std::move(ways)) {}

  /// Whether this node holds, or is to hold, a replica of it.
  [[nodiscard]] bool hosts(const catalog::Partition& partition) const;
  /// Keeps durably that acknowledged records may be missing of a partition that could not be
  /// opened.
  /// What a replica that is not open has promised.
  [[nodiscard]] replica::Promise promised(const PartitionId& id) const;
  [[nodiscard]] io::Task<Result<void>> doubt(PartitionId id, bool emptied = false);
  /// Makes a replica that was just opened part of its set. `doubt`: why acknowledged records may be
  /// missing; durable before the replica says anything. `fresh`: it was made while this node ran.
  [[nodiscard]] io::Task<Result<void>> join(std::shared_ptr<replica::Replica> replica,
                                            std::optional<std::string> doubt, bool fresh,
                                            std::shared_ptr<const catalog::Catalog> state);
  /// The catalogue is another now, and says something of this partition.
  void tell(const PartitionId& id, const catalog::Catalog& state);
  /// Before the replica is stopped: nobody waits for the metadata log any more.
  void leave(const PartitionId& id);
  /// And, if the partition is gone for good, after it was deleted.
  void forget(const PartitionId& id) {
    ways_.promises.erase(id);
    ways_.forget(id);
  }
  /// Now and then: finds which of what is led here can go on to where its replicas are to be. Some
  /// of it comes from `take_to_propose`, of the rest another node is to lead: that is returned.
  [[nodiscard]] std::vector<std::pair<PartitionId, NodeId>> advance(const catalog::Catalog& state);
  /// Whether another node leads it, settled and within reach: all that is committed is there. Or asks for it
  /// again and again without getting so far: it may be a copy here that it lacks.
  [[nodiscard]] bool is_led_elsewhere(const PartitionId& id, const catalog::Catalog& state) const;
  /// Whether enough others go on without this node's replica.
  [[nodiscard]] bool can_be_spared(const PartitionId& id, const catalog::Catalog& state,
                                   Instant now) const;
  /// Whether its replica has, in this start, all that was committed when it was last told of it.
  [[nodiscard]] bool has_all(const PartitionId& id, Instant now) const;
  /// Who does not keep up with what is led here.
  [[nodiscard]] Lags lags(Instant now) const;
  /// What this node leads by the catalogue, but in an epoch of another life, or of a replica that
  /// was closed since: it takes an epoch that this one has asked for. Each is returned once.
  [[nodiscard]] std::vector<PartitionId> take_to_propose();
  /// They could not be proposed yet.
  void propose_later(const std::vector<PartitionId>& ids) {
    to_propose_.insert(to_propose_.end(), ids.begin(), ids.end());
  }
  /// Waits for what is on its way to the metadata log.
  [[nodiscard]] io::Task<void> stop() { return tasks_.join(); }

 private:
  struct Seat {
    std::shared_ptr<replica::Replica> replica;
    Epoch since;  ///< highest that was proposed before it was opened: none of those is its own
    bool fresh = false;
    bool left = false;
    Offset committed;  ///< at the last look
    Epoch led;         ///< likewise, and since when
    Instant led_since;
    std::optional<Instant> blocked_since;  ///< what is led takes nothing since, for want of copies
    io::WaitList ended;                    ///< of an activation, or of the seat
  };
  /// Of what it leads: who has all that was committed at the last look, itself included.
  [[nodiscard]] catalog::Keeping keeping(const Seat& seat, const catalog::Partition& partition,
                                         const catalog::Catalog& state) const;
  /// The next step of what it leads to where its replicas are to be.
  [[nodiscard]] std::optional<catalog::NextReplicas> next_step(const Seat& seat,
                                                               const catalog::Partition& partition,
                                                               const catalog::Keeping& keeping,
                                                               std::int32_t min_insync) const;
  /// The epoch that this node is to make of it; nullopt: it has no place there.
  [[nodiscard]] std::optional<catalog::NextReplicas> next_epoch(
      const Seat& seat, const catalog::Partition& partition, std::int32_t min_insync,
      const catalog::Catalog& state) const;
  void leads(const PartitionId& id, const std::shared_ptr<Seat>& seat, bool now);
  io::Task<Result<void>> activate(std::shared_ptr<Seat> seat, Activation activation,
                                  std::optional<Loss> loss);

  Ways ways_;
  std::uint64_t opened_again_ = 0;
  std::unordered_map<PartitionId, std::shared_ptr<Seat>> seats_;
  std::map<PartitionId, std::shared_ptr<Seat>> led_;  ///< those of them that lead
  std::unordered_map<PartitionId, bool> had_one_;  ///< opened before in this start
  std::vector<PartitionId> to_propose_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::broker
