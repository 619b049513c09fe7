#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "catalog/cow_map.h"
#include "catalog/entry.h"
#include "catalog/topic_config.h"
#include "model/fundamental.h"

namespace pyralog::catalog {

struct Node {
  NodeId id;
  Uuid incarnation;
  std::uint64_t boot_counter = 0;
  std::string host;
  std::int32_t port = 0;
  std::string rack;
  std::string peer_host;  ///< where other nodes reach it; empty = it is alone
  std::int32_t peer_port = 0;
  std::uint16_t feature_level = 0;  ///< that it understands; 0 = it has not said
  std::vector<Uuid> retired;        ///< incarnations that were replaced; they never come back
  bool draining = false;            ///< nothing new is placed on it
  /// Whether its disk is lost, and another one may come in its place.
  [[nodiscard]] bool lacks_disk() const;
  NodeRole role = NodeRole::kAll;
  /// Whether new replicas may be placed on it.
  [[nodiscard]] bool takes_replicas() const { return !draining && role != NodeRole::kObelisk; }
  friend bool operator==(const Node&, const Node&) = default;
};

/// What is said of a disk that never comes back, so that its node can tell.
inline constexpr std::string_view kWasRemoved = "was removed from the cluster";
inline constexpr std::string_view kWasReplaced = "was replaced";

/// A node that may come.
struct Invitation {
  Uuid incarnation;  ///< of the only disk that it may come with; nil = any that is new
  std::string host;  ///< where it will listen for other nodes
  std::int32_t port = 0;
  friend bool operator==(const Invitation&, const Invitation&) = default;
};

/// The record of the newest epoch of a partition.
struct EpochRecord {
  Epoch epoch;
  Offset start;
  std::optional<Offset> end;  ///< set once sealed
  NodeId leader;
  std::vector<Replica> replicas;
  std::uint16_t write_quorum = 1;
  friend bool operator==(const EpochRecord&, const EpochRecord&) = default;
};

struct LostRecord {
  Offset from;
  Offset to;
  std::string reason;
  WallMs at;
  friend bool operator==(const LostRecord&, const LostRecord&) = default;
};

struct Partition {
  PartitionIndex index;
  std::vector<NodeId> replicas;        ///< assigned, in order of preference
  std::vector<NodeId> target;          ///< what they are to become, see reassign.h; empty = nothing
  Epoch highest_proposed;              ///< 0 = none yet
  NodeId candidate;                    ///< who proposed it
  std::optional<EpochRecord> current;  ///< none until the first activation
  std::vector<EpochStart> epochs;      ///< oldest first, without those that hold no record
  std::vector<LostRecord> lost;        ///< the newest 64
  friend bool operator==(const Partition&, const Partition&) = default;
};

/// A topic as of one position of the metadata log; never changes, any thread.
struct Topic {
  TopicId id;
  std::string name;
  WallMs created;
  Settings settings;
  TopicConfig config;
  std::vector<std::shared_ptr<const Partition>> partitions;
  [[nodiscard]] bool internal() const { return is_internal(name); }
  [[nodiscard]] static bool is_internal(std::string_view topic_name) {
    return topic_name == "__consumer_offsets" || topic_name == "__transaction_state";
  }
};
bool operator==(const Topic& a, const Topic& b);

using TopicPtr = std::shared_ptr<const Topic>;

struct MachineGrant {
  NodeId node;
  std::uint64_t ceiling_ms = 0;
  friend bool operator==(const MachineGrant&, const MachineGrant&) = default;
};

/// What exists and where: the state machine over the metadata log. Pure. A value: a copy costs a
/// few reference counts and shares everything until one of the two changes, so `cluster` applies an
/// entry to a copy and hands `shared_ptr<const Catalog>` to all shards.
class Catalog {
 public:
  /// Takes the entry at `position` (growing, gaps allowed). An error (kInvalidArgument, kNotFound,
  /// kAlreadyExists, kFenced, …) is a refusal and leaves the state, the position too, unchanged.
  /// The same entries give the same state everywhere.
  [[nodiscard]] Result<void> apply(const Entry& entry, std::uint64_t position);
  /// Takes all of the entries, at the positions that follow, or none: the first that is refused
  /// says why. As one after the other, but many EpochProposed in a row cost little more than one.
  [[nodiscard]] Result<void> apply_all(const std::vector<Entry>& entries);
  /// Whether `apply` would take it.
  [[nodiscard]] Result<void> check(const EpochProposed& entry) const;
  /// Position of the last applied entry; 0 = none.
  [[nodiscard]] std::uint64_t position() const { return position_; }

  [[nodiscard]] const Uuid& cluster() const { return cluster_; }  ///< nil before ClusterCreated
  [[nodiscard]] std::uint16_t epoch_groups() const { return epoch_groups_; }

  /// The highest feature level of any entry so far: who understands less cannot be one of the
  /// cluster. Never falls.
  [[nodiscard]] std::uint16_t level() const { return level_; }
  /// The highest level that all registered nodes understand, of those that this build does; who has
  /// not said beside others that have understands the least of a cluster. 0 = nobody has said.
  [[nodiscard]] std::uint16_t understood() const;
  /// Whether entries of `level` are taken: the log has such, or all understand them.
  [[nodiscard]] bool may_write(std::uint16_t level) const;

  [[nodiscard]] const Node* node(NodeId id) const;
  [[nodiscard]] const std::map<NodeId, Node>& nodes() const { return *nodes_; }
  static constexpr std::size_t kMaxInvited = 1'000;
  /// Who may come and is not registered yet.
  [[nodiscard]] const std::map<NodeId, Invitation>& invited() const { return *invited_; }
  /// Why a disk may not be one of this cluster's, and what to do; good: it is, or may come to be.
  [[nodiscard]] Result<void> check_disk(NodeId node, const Uuid& incarnation) const;
  /// Disks of removed nodes that are remembered; the oldest is forgotten for a new one.
  static constexpr std::size_t kMaxRemoved = 1'000;
  /// Oldest first. None of them is registered again.
  [[nodiscard]] const std::vector<Replica>& removed() const { return *removed_; }

  /// Null if there is none.
  [[nodiscard]] TopicPtr topic(std::string_view name) const;
  [[nodiscard]] TopicPtr topic(const TopicId& id) const;
  [[nodiscard]] std::size_t topic_count() const { return by_name_.size(); }
  /// All topics by name.
  [[nodiscard]] std::vector<TopicPtr> topics() const;
  /// The topic that `name` would collide with in metric names, where '.' and '_' are one; null if
  /// none. A topic of the very name counts.
  [[nodiscard]] TopicPtr collision(std::string_view name) const;
  /// Deletions that are remembered; the oldest is forgotten for a new one.
  static constexpr std::size_t kMaxDeleted = 100'000;
  /// True if a topic of this id existed and its deletion is remembered: its files may go.
  [[nodiscard]] bool was_deleted(const TopicId& id) const;

  /// Null if the topic or the partition does not exist. Alive as long as this catalog.
  [[nodiscard]] const Partition* partition(const PartitionId& id) const;

  [[nodiscard]] const Settings& cluster_settings() const { return *cluster_settings_; }
  [[nodiscard]] std::int64_t next_producer_id() const { return next_producer_id_; }
  [[nodiscard]] const std::map<std::uint16_t, MachineGrant>& machine_grants() const {
    return *machines_;
  }
  /// Counter → the value that its next block starts at.
  [[nodiscard]] const CowMap<std::string, std::int64_t>& counters() const { return counters_; }

  /// The whole state: magic, version, body, CRC-32C.
  [[nodiscard]] Bytes encode_snapshot() const;
  /// kUnsupported for a newer version, or a level above `understood`; kCorrupt for other damage.
  [[nodiscard]] static Result<Catalog> decode_snapshot(ByteView bytes,
                                                       std::uint16_t understood = kFeatureLevel);

  friend bool operator==(const Catalog& a, const Catalog& b);

 private:
  [[nodiscard]] Result<void> take(const ClusterCreated& entry);
  [[nodiscard]] Result<void> take(const NodeRegistered& entry);
  [[nodiscard]] Result<void> take(const TopicCreated& entry);
  [[nodiscard]] Result<void> take(const TopicDeleted& entry);
  [[nodiscard]] Result<void> take(const PartitionsAdded& entry);
  [[nodiscard]] Result<void> take(const TopicSettingsChanged& entry);
  [[nodiscard]] Result<void> take(const ClusterSettingsChanged& entry);
  [[nodiscard]] Result<void> take(const EpochProposed& entry);
  [[nodiscard]] Result<void> take(const EpochsActivated& entry);
  [[nodiscard]] Result<void> take(const EpochSealed& entry);
  [[nodiscard]] Result<void> take(const ProducerIdBlock& entry);
  [[nodiscard]] Result<void> take(const LostRange& entry);
  [[nodiscard]] Result<void> take(const MachineIdGranted& entry);
  [[nodiscard]] Result<void> take(const PeerRegistered& entry);
  [[nodiscard]] Result<void> take(const ReplicasWanted& entry);
  [[nodiscard]] Result<void> take(const NodeDraining& entry);
  [[nodiscard]] Result<void> take(const NodeRemoved& entry);
  [[nodiscard]] Result<void> take(const NodeInvited& entry);
  [[nodiscard]] Result<void> take(const DiskRetired& entry);
  [[nodiscard]] Result<void> take(const CounterBlock& entry);
  [[nodiscard]] Result<void> take(const NodeRoleSet& entry);
  [[nodiscard]] Result<void> take(const FeatureLevelRaised& entry);

  void put(TopicPtr topic);
  void note_deleted(const TopicId& id, std::uint64_t position);
  /// Topics whose configuration changes with the cluster's settings, and what they become.
  using Reconfigured = std::unordered_map<TopicPtr, TopicPtr>;
  [[nodiscard]] Result<Reconfigured> reconfigured(const Settings& cluster,
                                                  const TopicConfig& defaults) const;
  [[nodiscard]] static Result<void> check_min_insync(std::string_view name,
                                                     const Settings& settings,
                                                     const TopicConfig& config,
                                                     std::size_t fewest_replicas);
  [[nodiscard]] Result<void> check_replicas(const std::vector<std::vector<NodeId>>& partitions,
                                            std::string_view topic) const;
  [[nodiscard]] Result<Partition> activated(const EpochActivation& a) const;
  [[nodiscard]] Result<void> take_in_a_row(const std::vector<const EpochProposed*>& entries);
  [[nodiscard]] Result<const Partition*> existing(const PartitionId& id) const;
  [[nodiscard]] Result<void> check_disk_is_free(NodeId node, const Uuid& incarnation) const;
  /// Refuses while a partition's replicas, target or newest epoch names the node.
  [[nodiscard]] Result<void> check_unnamed(NodeId node) const;
  [[nodiscard]] Result<void> check_all_understand(const Entry& entry) const;
  /// Replaces partitions of one topic; topic and partitions exist.
  void put_partitions(const TopicId& topic, std::vector<Partition> partitions);
  friend class SnapshotReader;

  std::uint64_t position_ = 0;
  Uuid cluster_;
  std::uint16_t epoch_groups_ = 0;
  std::uint16_t level_ = 1;
  WallMs created_;
  std::int64_t next_producer_id_ = 0;
  std::shared_ptr<const std::map<NodeId, Node>> nodes_ =
      std::make_shared<const std::map<NodeId, Node>>();
  std::shared_ptr<const std::vector<Replica>> removed_ =
      std::make_shared<const std::vector<Replica>>();
  std::shared_ptr<const std::map<NodeId, Invitation>> invited_ =
      std::make_shared<const std::map<NodeId, Invitation>>();
  std::shared_ptr<const Settings> cluster_settings_ = std::make_shared<const Settings>();
  std::shared_ptr<const std::map<std::uint16_t, MachineGrant>> machines_ =
      std::make_shared<const std::map<std::uint16_t, MachineGrant>>();
  CowMap<std::string, std::int64_t> counters_;
  CowMap<std::string, TopicPtr> by_name_;
  CowMap<TopicId, TopicPtr> by_id_;
  CowMap<std::string, TopicPtr> by_metric_name_;  ///< names with '.' or '_', '.' written as '_'
  CowMap<TopicId, std::uint64_t> deleted_;        ///< → position of the deletion
  CowMap<std::uint64_t, TopicId> deleted_by_position_;
};

}  // namespace pyralog::catalog
