#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "model/fundamental.h"

namespace pyralog::catalog {

/// The newest form of the metadata log that this build understands. An entry carries the level that
/// brought its form in; a newer one is refused (kUnsupported), never skipped. 2: clusters. 3:
/// moves, drains, removals, nodes that come later, counters, roles, and levels that are raised.
inline constexpr std::uint16_t kFeatureLevel = 3;
/// The oldest level that a node of a cluster may have.
inline constexpr std::uint16_t kLeastClusterLevel = 2;

/// Bounds on what one entry may hold; decode and apply refuse more.
inline constexpr std::size_t kMaxPartitionsPerTopic = 100'000;
inline constexpr std::size_t kMaxReplicas = 64;
inline constexpr std::size_t kMaxSettings = 1'000;
inline constexpr std::size_t kMaxSettingBytes = 1u << 16;
inline constexpr std::size_t kMaxActivationsPerEntry = 10'000;
inline constexpr std::size_t kMaxCounters = 10'000;
inline constexpr std::size_t kMaxCounterName = 249;
inline constexpr std::int64_t kMaxCounterBlock = 1'000'000;

/// Setting name → value, as written by the user; only what differs from the defaults.
using Settings = std::map<std::string, std::string, std::less<>>;
/// Setting name → new value, or none to go back to the default.
using SettingChanges = std::map<std::string, std::optional<std::string>, std::less<>>;

/// A disk that holds a partition: the node, and the incarnation of its data directory. A replaced
/// disk is another replica, for it remembers nothing.
struct Replica {
  NodeId node;
  Uuid incarnation;
  friend auto operator<=>(const Replica&, const Replica&) = default;
};

/// The first entry of every metadata log.
struct ClusterCreated {
  Uuid cluster;
  std::uint16_t epoch_groups = 16;  ///< fixed for good at the first start
  WallMs created;
  friend bool operator==(const ClusterCreated&, const ClusterCreated&) = default;
};

/// A data directory's cookie, registered before its node serves. With the incarnation that is
/// already known, `boot_counter` must have grown; another incarnation needs `replace_disk`.
struct NodeRegistered {
  NodeId node;
  Uuid incarnation;
  std::uint64_t boot_counter = 0;
  std::string host;  ///< what clients are told
  std::int32_t port = 0;
  std::string rack;
  bool replace_disk = false;
  friend bool operator==(const NodeRegistered&, const NodeRegistered&) = default;
};

struct TopicCreated {
  TopicId id;
  std::string name;
  std::vector<std::vector<NodeId>> partitions;  ///< replicas in order of preference
  Settings settings;
  WallMs created;
  friend bool operator==(const TopicCreated&, const TopicCreated&) = default;
};

struct TopicDeleted {
  TopicId id;
  friend bool operator==(const TopicDeleted&, const TopicDeleted&) = default;
};

struct PartitionsAdded {
  TopicId id;
  PartitionIndex first;  ///< the number of partitions before
  std::vector<std::vector<NodeId>> partitions;
  friend bool operator==(const PartitionsAdded&, const PartitionsAdded&) = default;
};

struct TopicSettingsChanged {
  TopicId id;
  SettingChanges changes;
  friend bool operator==(const TopicSettingsChanged&, const TopicSettingsChanged&) = default;
};

/// Defaults for all topics, under the broker's names for them ("log.retention.ms").
struct ClusterSettingsChanged {
  SettingChanges changes;
  friend bool operator==(const ClusterSettingsChanged&, const ClusterSettingsChanged&) = default;
};

/// Step 2 of a recovery: `candidate` reserves `epoch`, above every epoch ever proposed.
struct EpochProposed {
  PartitionId partition;
  Epoch epoch;
  NodeId candidate;
  friend bool operator==(const EpochProposed&, const EpochProposed&) = default;
};

/// Step 5: seals the epoch before at `start` and activates `epoch` there, in one. Refused if
/// `epoch` is below the highest proposed, or is that and `leader` is not who proposed it. An epoch
/// above the highest proposed is proposed by this very record: a partition's first one, or one of
/// the only replica that the epoch before had.
struct EpochActivation {
  PartitionId partition;
  Epoch epoch;
  Offset start;      ///< = end of the epoch before, and not below its start unless `unclean`
  Offset log_start;  ///< epochs that end at or below it are forgotten
  NodeId leader;
  std::vector<Replica> replicas;
  std::uint16_t write_quorum = 1;  ///< W
  bool unclean =
      false;  ///< recovered from too few answers: records may be lost, the start may fall
  friend bool operator==(const EpochActivation&, const EpochActivation&) = default;
};

/// All partitions that a starting node leads, in one record; applied wholly or not at all.
struct EpochsActivated {
  std::vector<EpochActivation> activations;
  friend bool operator==(const EpochsActivated&, const EpochsActivated&) = default;
};

/// Closes the current epoch without opening another: nobody may append until the next activation,
/// which must start at `end`.
struct EpochSealed {
  PartitionId partition;
  Epoch epoch;
  Offset end;
  friend bool operator==(const EpochSealed&, const EpochSealed&) = default;
};

/// Producer ids [start, start + count) are handed to `node`.
struct ProducerIdBlock {
  std::int64_t start = 0;
  std::int32_t count = 0;
  NodeId node;
  friend bool operator==(const ProducerIdBlock&, const ProducerIdBlock&) = default;
};

/// Records [from, to) may be missing, and why; kept to be shown.
struct LostRange {
  PartitionId partition;
  Offset from;
  Offset to;
  std::string reason;
  WallMs at;
  friend bool operator==(const LostRange&, const LostRange&) = default;
};

/// A Scarab machine id lent to a node, which may issue ids up to `ceiling_ms` (milliseconds since
/// the Scarab epoch); the ceiling only grows.
struct MachineIdGranted {
  std::uint16_t machine = 0;
  NodeId node;
  std::uint64_t ceiling_ms = 0;
  friend bool operator==(const MachineIdGranted&, const MachineIdGranted&) = default;
};

/// Where a registered node listens for the others of its cluster, and the newest feature level that
/// it understands. Only nodes of a cluster have one; brought in by feature level 2.
struct PeerRegistered {
  NodeId node;
  Uuid incarnation;  ///< as registered
  std::string host;
  std::int32_t port = 0;
  std::uint16_t feature_level = kFeatureLevel;
  friend bool operator==(const PeerRegistered&, const PeerRegistered&) = default;
};

/// Where a partition's replicas are to be from now on, in order of preference, on different nodes
/// that are registered and not draining unless they hold it already or are to, at least as many as
/// its topic's own min.insync.replicas; empty = stop, and go back to where they were assigned
/// before. It is done once an epoch of just these nodes is active.
struct ReplicasWanted {
  PartitionId partition;
  std::vector<NodeId> target;
  friend bool operator==(const ReplicasWanted&, const ReplicasWanted&) = default;
};

/// Whether `node` is to get rid of all that it holds: nothing new is placed on it.
struct NodeDraining {
  NodeId node;
  bool draining = false;
  friend bool operator==(const NodeDraining&, const NodeDraining&) = default;
};

/// `node` is no longer one of the cluster. Refused while a partition's replicas, target or newest
/// epoch names it. Its id may be a new node's; its disks never come back. Of a node that was only
/// invited: it may not come any more.
struct NodeRemoved {
  NodeId node;
  friend bool operator==(const NodeRemoved&, const NodeRemoved&) = default;
};

/// A node that is no part of the cluster may come, with a disk that nobody knows yet or, if
/// `incarnation` is not nil, with just that one; another address replaces the one that was noted.
/// It is one of the cluster once it is registered. Brought in by feature level 3.
struct NodeInvited {
  NodeId node;
  Uuid incarnation;
  std::string host;  ///< where it will listen for other nodes
  std::int32_t port = 0;
  friend bool operator==(const NodeInvited&, const NodeInvited&) = default;
};

/// The disk of a registered node is lost, or is to be: it never comes back, and another one may be
/// registered in its place. Brought in by feature level 3.
struct DiskRetired {
  NodeId node;
  Uuid incarnation;  ///< as registered
  friend bool operator==(const DiskRetired&, const DiskRetired&) = default;
};

/// The next `size` values of a named counter, from `start` on, are handed to whoever proposed it,
/// and to nobody else. A counter is there from its first block on, which starts at 1.
struct CounterBlock {
  std::string name;  ///< see is_valid_counter_name
  std::int64_t start = 1;
  std::int64_t size = 0;  ///< 1 to kMaxCounterBlock
  friend bool operator==(const CounterBlock&, const CounterBlock&) = default;
};
/// Lower-case letters, digits and . _ -, 1 to kMaxCounterName of them.
[[nodiscard]] bool is_valid_counter_name(std::string_view name);

/// What a node is there for.
enum class NodeRole : std::uint8_t {
  kAll = 0,
  kPyramid = 1,  ///< holds partitions; issues no ids and counters
  kObelisk = 2,  ///< issues ids and counters; holds no partitions
};
/// "all", "pyramid", "obelisk".
[[nodiscard]] const char* name(NodeRole role);

/// Gives `node` a role. That of an obelisk is refused while a partition names the node.
struct NodeRoleSet {
  NodeId node;
  NodeRole role = NodeRole::kAll;
  friend bool operator==(const NodeRoleSet&, const NodeRoleSet&) = default;
};

/// From here on whoever does not understand `level` cannot be one of the cluster. Refused unless
/// all registered nodes do. An entry of that very level, so who does not understand it stops here.
struct FeatureLevelRaised {
  std::uint16_t level = kFeatureLevel;  ///< 3 and more
  friend bool operator==(const FeatureLevelRaised&, const FeatureLevelRaised&) = default;
};

/// One record of the metadata log. Types are numbered on disk by EntryType.
using Entry =
    std::variant<ClusterCreated, NodeRegistered, TopicCreated, TopicDeleted, PartitionsAdded,
                 TopicSettingsChanged, ClusterSettingsChanged, EpochProposed, EpochsActivated,
                 EpochSealed, ProducerIdBlock, LostRange, MachineIdGranted, PeerRegistered,
                 ReplicasWanted, NodeDraining, NodeRemoved, NodeInvited, DiskRetired,
                 FeatureLevelRaised, CounterBlock, NodeRoleSet>;

enum class EntryType : std::uint16_t {
  kClusterCreated = 1,
  kNodeRegistered = 2,
  kTopicCreated = 3,
  kTopicDeleted = 4,
  kPartitionsAdded = 5,
  kTopicSettingsChanged = 6,
  kClusterSettingsChanged = 7,
  kEpochProposed = 8,
  kEpochsActivated = 9,
  kEpochSealed = 10,
  kProducerIdBlock = 11,
  kLostRange = 12,
  kMachineIdGranted = 13,
  kPeerRegistered = 14,
  kReplicasWanted = 15,
  kNodeDraining = 16,
  kNodeRemoved = 17,
  kNodeInvited = 18,
  kDiskRetired = 19,
  kFeatureLevelRaised = 20,
  kCounterBlock = 30,
  kNodeRoleSet = 31,
};
[[nodiscard]] EntryType type_of(const Entry& entry);
/// "topic_created" and so on, for logs and `inspect`.
[[nodiscard]] const char* name(EntryType type);
/// The feature level that brought its form in.
[[nodiscard]] std::uint16_t level_of(const Entry& entry);

/// u16 type, u16 version, u16 feature level, then the body; little-endian. The journal around it
/// carries length and checksum.
[[nodiscard]] Bytes encode_entry(const Entry& entry);
/// kUnsupported for a type, version or level newer than `understood` (the message names the level);
/// kCorrupt for anything else that encode_entry does not write, bytes left over included.
[[nodiscard]] Result<Entry> decode_entry(ByteView bytes, std::uint16_t understood = kFeatureLevel);
/// Why a node that understands only `understood` does not read `what`, which needs `level`.
[[nodiscard]] Error too_new(const std::string& what, std::uint16_t level, std::uint16_t understood);

/// The pieces that entries and snapshots share.
void write_settings(Writer& out, const Settings& settings);
[[nodiscard]] Result<Settings> read_settings(Reader& in);
void write_uuid(Writer& out, const Uuid& id);
[[nodiscard]] Uuid read_uuid(Reader& in);
/// u8 number, then each; at most kMaxReplicas.
void write_nodes(Writer& out, const std::vector<NodeId>& nodes);
/// Spoils `sound` if they are not there.
[[nodiscard]] std::vector<NodeId> read_nodes(Reader& in, bool& sound);

}  // namespace pyralog::catalog
