#include "catalog/entry.h"

#include <algorithm>
#include <utility>

#include "base/plant.h"

namespace pyralog::catalog {
namespace {

constexpr std::uint16_t kEntryVersion = 1;

/// By the index of the alternative.
constexpr EntryType kTypes[] = {EntryType::kClusterCreated,
                                EntryType::kNodeRegistered,
                                EntryType::kTopicCreated,
                                EntryType::kTopicDeleted,
                                EntryType::kPartitionsAdded,
                                EntryType::kTopicSettingsChanged,
                                EntryType::kClusterSettingsChanged,
                                EntryType::kEpochProposed,
                                EntryType::kEpochsActivated,
                                EntryType::kEpochSealed,
                                EntryType::kProducerIdBlock,
                                EntryType::kLostRange,
                                EntryType::kMachineIdGranted,
                                EntryType::kPeerRegistered,
                                EntryType::kReplicasWanted,
                                EntryType::kNodeDraining,
                                EntryType::kNodeRemoved,
                                EntryType::kNodeInvited,
                                EntryType::kDiskRetired,
                                EntryType::kFeatureLevelRaised,
                                EntryType::kCounterBlock,
                                EntryType::kNodeRoleSet};
static_assert(std::size(kTypes) == std::variant_size_v<Entry>);

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};

std::unexpected<Error> corrupt(const char* what) {
  return fail(Code::kCorrupt, std::string("metadata entry: ") + what +
                                  "; the metadata log is damaged here, restore it from a copy");
}

// ---- Pieces ----

void write_flag(Writer& out, bool flag) {
  out.le(static_cast<std::uint8_t>(flag ? 1 : 0));
}

/// A flag is 0 or 1; anything else spoils the reader.
bool read_flag(Reader& in, bool& sound) {
  const auto raw = in.le<std::uint8_t>();
  if (raw > 1) sound = false;
  return raw == 1;
}

void write_partition(Writer& out, const PartitionId& id) {
  write_uuid(out, id.topic.uuid);
  out.le(id.partition.value);
}
PartitionId read_partition(Reader& in) {
  const TopicId topic{read_uuid(in)};
  return PartitionId{topic, PartitionIndex(in.le<std::int32_t>())};
}

/// A count of items that take at least `least` bytes each; spoils `sound` if they cannot be there.
std::size_t read_count(Reader& in, std::size_t least, std::size_t most, bool& sound) {
  const std::size_t count = in.le<std::uint32_t>();
  if (!in.ok() || count > most || count > in.left() / least) {
    sound = false;
    return 0;
  }
  return count;
}

void write_assignment(Writer& out, const std::vector<std::vector<NodeId>>& partitions) {
  out.le(static_cast<std::uint32_t>(partitions.size()));
  for (const auto& replicas : partitions) write_nodes(out, replicas);
}
std::vector<std::vector<NodeId>> read_assignment(Reader& in, bool& sound) {
  std::vector<std::vector<NodeId>> partitions(read_count(in, 1, kMaxPartitionsPerTopic, sound));
  for (auto& replicas : partitions) {
    replicas = read_nodes(in, sound);
    if (!sound) return {};
  }
  return partitions;
}

void write_changes(Writer& out, const SettingChanges& changes) {
  out.le(static_cast<std::uint32_t>(changes.size()));
  for (const auto& [key, value] : changes) {
    out.sized(key);
    write_flag(out, value.has_value());
    if (value) out.sized(*value);
  }
}
SettingChanges read_changes(Reader& in, bool& sound) {
  SettingChanges changes;
  const std::size_t count = read_count(in, 5, kMaxSettings, sound);
  for (std::size_t i = 0; i < count && sound && in.ok(); ++i) {
    std::string key(in.sized_text());
    std::optional<std::string> value;
    if (read_flag(in, sound)) value.emplace(in.sized_text());
    if (!changes.empty() && key <= changes.rbegin()->first) sound = false;
    changes.emplace_hint(changes.end(), std::move(key), std::move(value));
  }
  return changes;
}

// ---- Bodies ----

void write_activation(Writer& out, const EpochActivation& a) {
  write_partition(out, a.partition);
  out.le(a.epoch.value).le(a.start.value).le(a.log_start.value).le(a.leader.value);
  out.le(a.write_quorum);
  write_flag(out, a.unclean);
  out.le(static_cast<std::uint8_t>(a.replicas.size()));
  for (const Replica& r : a.replicas) {
    out.le(r.node.value);
    write_uuid(out, r.incarnation);
  }
}
EpochActivation read_activation(Reader& in, bool& sound) {
  EpochActivation a;
  a.partition = read_partition(in);
  a.epoch = Epoch(in.le<std::uint32_t>());
  a.start = Offset(in.le<std::int64_t>());
  a.log_start = Offset(in.le<std::int64_t>());
  a.leader = NodeId(in.le<std::int32_t>());
  a.write_quorum = in.le<std::uint16_t>();
  a.unclean = read_flag(in, sound);
  const std::size_t count = in.le<std::uint8_t>();
  if (count > kMaxReplicas || count > in.left() / 20) {
    sound = false;
    return a;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const NodeId node(in.le<std::int32_t>());
    a.replicas.push_back(Replica{node, read_uuid(in)});
  }
  return a;
}

void write_body(Writer& out, const Entry& entry) {
  std::visit(
      Overloaded{
          [&](const ClusterCreated& e) {
            write_uuid(out, e.cluster);
            out.le(e.epoch_groups).le(e.created.ms);
          },
          [&](const NodeRegistered& e) {
            out.le(e.node.value);
            write_uuid(out, e.incarnation);
            out.le(e.boot_counter).sized(e.host).le(e.port).sized(e.rack);
            write_flag(out, e.replace_disk);
          },
          [&](const TopicCreated& e) {
            write_uuid(out, e.id.uuid);
            out.sized(e.name);
            write_assignment(out, e.partitions);
            write_settings(out, e.settings);
            out.le(e.created.ms);
          },
          [&](const TopicDeleted& e) { write_uuid(out, e.id.uuid); },
          [&](const PartitionsAdded& e) {
            write_uuid(out, e.id.uuid);
            out.le(e.first.value);
            write_assignment(out, e.partitions);
          },
          [&](const TopicSettingsChanged& e) {
            write_uuid(out, e.id.uuid);
            write_changes(out, e.changes);
          },
          [&](const ClusterSettingsChanged& e) { write_changes(out, e.changes); },
          [&](const EpochProposed& e) {
            write_partition(out, e.partition);
            out.le(e.epoch.value).le(e.candidate.value);
          },
          [&](const EpochsActivated& e) {
            out.le(static_cast<std::uint32_t>(e.activations.size()));
            for (const EpochActivation& a : e.activations) write_activation(out, a);
          },
          [&](const EpochSealed& e) {
            write_partition(out, e.partition);
            out.le(e.epoch.value).le(e.end.value);
          },
          [&](const ProducerIdBlock& e) { out.le(e.start).le(e.count).le(e.node.value); },
          [&](const LostRange& e) {
            write_partition(out, e.partition);
            out.le(e.from.value).le(e.to.value).sized(e.reason).le(e.at.ms);
          },
          [&](const MachineIdGranted& e) { out.le(e.machine).le(e.node.value).le(e.ceiling_ms); },
          [&](const PeerRegistered& e) {
            out.le(e.node.value);
            write_uuid(out, e.incarnation);
            out.sized(e.host).le(e.port).le(e.feature_level);
          },
          [&](const ReplicasWanted& e) {
            write_partition(out, e.partition);
            write_nodes(out, e.target);
          },
          [&](const NodeDraining& e) {
            out.le(e.node.value);
            write_flag(out, e.draining);
          },
          [&](const NodeRemoved& e) { out.le(e.node.value); },
          [&](const NodeInvited& e) {
            out.le(e.node.value);
            write_uuid(out, e.incarnation);
            out.sized(e.host).le(e.port);
          },
          [&](const DiskRetired& e) {
            out.le(e.node.value);
            write_uuid(out, e.incarnation);
          },
          [&](const CounterBlock& e) { out.sized(e.name).le(e.start).le(e.size); },
          [&](const NodeRoleSet& e) { out.le(e.node.value).le(static_cast<std::uint8_t>(e.role)); },
          [&](const FeatureLevelRaised& e) { out.le(e.level); },
      },
      entry);
}

PeerRegistered read_peer_registered(Reader& in) {
  PeerRegistered e;
  e.node = NodeId(in.le<std::int32_t>());
  e.incarnation = read_uuid(in);
  e.host = in.sized_text();
  e.port = in.le<std::int32_t>();
  e.feature_level = in.le<std::uint16_t>();
  return e;
}

NodeInvited read_node_invited(Reader& in) {
  NodeInvited e;
  e.node = NodeId(in.le<std::int32_t>());
  e.incarnation = read_uuid(in);
  e.host = in.sized_text();
  e.port = in.le<std::int32_t>();
  return e;
}

CounterBlock read_counter_block(Reader& in) {
  CounterBlock e;
  e.name = in.sized_text();
  e.start = in.le<std::int64_t>();
  e.size = in.le<std::int64_t>();
  return e;
}

NodeRoleSet read_role(Reader& in, bool& sound) {
  NodeRoleSet e;
  e.node = NodeId(in.le<std::int32_t>());
  const auto role = in.le<std::uint8_t>();
  if (role > static_cast<std::uint8_t>(NodeRole::kObelisk)) sound = false;
  e.role = static_cast<NodeRole>(role);
  return e;
}

TopicCreated read_topic_created(Reader& in, bool& sound) {
  TopicCreated e;
  e.id.uuid = read_uuid(in);
  e.name = in.sized_text();
  e.partitions = read_assignment(in, sound);
  if (auto settings = read_settings(in); settings) {
    e.settings = std::move(*settings);
  } else {
    sound = false;
  }
  e.created = WallMs{in.le<std::int64_t>()};
  return e;
}

NodeRegistered read_node_registered(Reader& in, bool& sound) {
  NodeRegistered e;
  e.node = NodeId(in.le<std::int32_t>());
  e.incarnation = read_uuid(in);
  e.boot_counter = in.le<std::uint64_t>();
  e.host = in.sized_text();
  e.port = in.le<std::int32_t>();
  e.rack = in.sized_text();
  e.replace_disk = read_flag(in, sound);
  return e;
}

EpochsActivated read_epochs_activated(Reader& in, bool& sound) {
  EpochsActivated e;
  const std::size_t count = read_count(in, 48, kMaxActivationsPerEntry, sound);
  for (std::size_t i = 0; i < count && sound; ++i) {
    e.activations.push_back(read_activation(in, sound));
  }
  return e;
}

LostRange read_lost_range(Reader& in) {
  LostRange e;
  e.partition = read_partition(in);
  e.from = Offset(in.le<std::int64_t>());
  e.to = Offset(in.le<std::int64_t>());
  e.reason = in.sized_text();
  e.at = WallMs{in.le<std::int64_t>()};
  return e;
}

/// Fields are read in the order written: braced initialisers are evaluated left to right.
Entry read_body(EntryType type, Reader& in, bool& sound) {
  switch (type) {
    case EntryType::kClusterCreated:
      return ClusterCreated{read_uuid(in), in.le<std::uint16_t>(), WallMs{in.le<std::int64_t>()}};
    case EntryType::kNodeRegistered:
      return read_node_registered(in, sound);
    case EntryType::kTopicCreated:
      return read_topic_created(in, sound);
    case EntryType::kTopicDeleted:
      return TopicDeleted{TopicId{read_uuid(in)}};
    case EntryType::kPartitionsAdded:
      return PartitionsAdded{TopicId{read_uuid(in)}, PartitionIndex(in.le<std::int32_t>()),
                             read_assignment(in, sound)};
    case EntryType::kTopicSettingsChanged:
      return TopicSettingsChanged{TopicId{read_uuid(in)}, read_changes(in, sound)};
    case EntryType::kClusterSettingsChanged:
      return ClusterSettingsChanged{read_changes(in, sound)};
    case EntryType::kEpochProposed:
      return EpochProposed{read_partition(in), Epoch(in.le<std::uint32_t>()),
                           NodeId(in.le<std::int32_t>())};
    case EntryType::kEpochsActivated:
      return read_epochs_activated(in, sound);
    case EntryType::kEpochSealed:
      return EpochSealed{read_partition(in), Epoch(in.le<std::uint32_t>()),
                         Offset(in.le<std::int64_t>())};
    case EntryType::kProducerIdBlock:
      return ProducerIdBlock{in.le<std::int64_t>(), in.le<std::int32_t>(),
                             NodeId(in.le<std::int32_t>())};
    case EntryType::kLostRange:
      return read_lost_range(in);
    case EntryType::kMachineIdGranted:
      return MachineIdGranted{in.le<std::uint16_t>(), NodeId(in.le<std::int32_t>()),
                              in.le<std::uint64_t>()};
    case EntryType::kPeerRegistered:
      return read_peer_registered(in);
    case EntryType::kReplicasWanted:
      return ReplicasWanted{read_partition(in), read_nodes(in, sound)};
    case EntryType::kNodeDraining:
      return NodeDraining{NodeId(in.le<std::int32_t>()), read_flag(in, sound)};
    case EntryType::kNodeRemoved:
      return NodeRemoved{NodeId(in.le<std::int32_t>())};
    case EntryType::kNodeInvited:
      return read_node_invited(in);
    case EntryType::kDiskRetired:
      return DiskRetired{NodeId(in.le<std::int32_t>()), read_uuid(in)};
    case EntryType::kCounterBlock:
      return read_counter_block(in);
    case EntryType::kNodeRoleSet:
      return read_role(in, sound);
    case EntryType::kFeatureLevelRaised:
      return FeatureLevelRaised{in.le<std::uint16_t>()};
  }
  sound = false;
  return TopicDeleted{};
}

}  // namespace

void write_uuid(Writer& out, const Uuid& id) {
  out.raw(id.bytes);
}
Uuid read_uuid(Reader& in) {
  Uuid id;
  const ByteView raw = in.raw(id.bytes.size());
  std::copy(raw.begin(), raw.end(), id.bytes.begin());
  return id;
}

void write_nodes(Writer& out, const std::vector<NodeId>& nodes) {
  out.le(static_cast<std::uint8_t>(nodes.size()));
  for (const NodeId node : nodes) out.le(node.value);
}
std::vector<NodeId> read_nodes(Reader& in, bool& sound) {
  const std::size_t count = in.le<std::uint8_t>();
  std::vector<NodeId> nodes;
  if (!in.ok() || count > kMaxReplicas || count > in.left() / 4) {
    sound = false;
    return nodes;
  }
  for (std::size_t i = 0; i < count; ++i) nodes.emplace_back(in.le<std::int32_t>());
  return nodes;
}

void write_settings(Writer& out, const Settings& settings) {
  out.le(static_cast<std::uint32_t>(settings.size()));
  for (const auto& [key, value] : settings) out.sized(key).sized(value);
}

Result<Settings> read_settings(Reader& in) {
  bool sound = true;
  Settings settings;
  const std::size_t count = read_count(in, 8, kMaxSettings, sound);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    std::string key(in.sized_text());
    std::string value(in.sized_text());
    if (!settings.empty() && key <= settings.rbegin()->first) sound = false;
    settings.emplace_hint(settings.end(), std::move(key), std::move(value));
  }
  if (!sound || !in.ok()) return corrupt("the list of settings is broken");
  return settings;
}

EntryType type_of(const Entry& entry) {
  return kTypes[entry.index()];
}

bool is_valid_counter_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxCounterName && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  });
}

const char* name(NodeRole role) {
  switch (role) {
    case NodeRole::kAll:
      return "all";
    case NodeRole::kPyramid:
      return "pyramid";
    case NodeRole::kObelisk:
      return "obelisk";
  }
  return "unknown";
}

const char* name(EntryType type) {
  switch (type) {
    case EntryType::kClusterCreated:
      return "cluster_created";
    case EntryType::kNodeRegistered:
      return "node_registered";
    case EntryType::kTopicCreated:
      return "topic_created";
    case EntryType::kTopicDeleted:
      return "topic_deleted";
    case EntryType::kPartitionsAdded:
      return "partitions_added";
    case EntryType::kTopicSettingsChanged:
      return "topic_settings_changed";
    case EntryType::kClusterSettingsChanged:
      return "cluster_settings_changed";
    case EntryType::kEpochProposed:
      return "epoch_proposed";
    case EntryType::kEpochsActivated:
      return "epochs_activated";
    case EntryType::kEpochSealed:
      return "epoch_sealed";
    case EntryType::kProducerIdBlock:
      return "producer_id_block";
    case EntryType::kLostRange:
      return "lost_range";
    case EntryType::kMachineIdGranted:
      return "machine_id_granted";
    case EntryType::kPeerRegistered:
      return "peer_registered";
    case EntryType::kReplicasWanted:
      return "replicas_wanted";
    case EntryType::kNodeDraining:
      return "node_draining";
    case EntryType::kNodeRemoved:
      return "node_removed";
    case EntryType::kNodeInvited:
      return "node_invited";
    case EntryType::kDiskRetired:
      return "disk_retired";
    case EntryType::kCounterBlock:
      return "counter_block";
    case EntryType::kNodeRoleSet:
      return "node_role_set";
    case EntryType::kFeatureLevelRaised:
      return "feature_level_raised";
  }
  return "unknown";
}

std::uint16_t level_of(const Entry& entry) {
  if (const auto* raised = std::get_if<FeatureLevelRaised>(&entry)) return raised->level;
  const EntryType type = type_of(entry);
  if (type >= EntryType::kReplicasWanted) return 3;
  return type >= EntryType::kPeerRegistered ? 2 : 1;
}

Bytes encode_entry(const Entry& entry) {
  Writer out;
  out.le(static_cast<std::uint16_t>(type_of(entry))).le(kEntryVersion).le(level_of(entry));
  write_body(out, entry);
  return out.take();
}

Error too_new(const std::string& what, std::uint16_t level, std::uint16_t understood) {
  return {Code::kUnsupported,
          what + " needs feature level " + std::to_string(level) + ", this node understands " +
              std::to_string(understood) +
              (understood < kFeatureLevel
                   ? "; start it without feature.level (--feature-level), or with a higher one"
                   : "; run a newer pyralog on this data"),
          0};
}

Result<Entry> decode_entry(ByteView bytes, std::uint16_t understood) {
  Reader in(bytes);
  const auto type = in.le<std::uint16_t>();
  const auto version = in.le<std::uint16_t>();
  const auto level = in.le<std::uint16_t>();
  if (!in.ok()) return corrupt("shorter than its header");
  if (type == 0 || version == 0 || level == 0) return corrupt("type, version or level is 0");
  const bool known = std::ranges::find(kTypes, static_cast<EntryType>(type)) != std::end(kTypes) &&
                     version <= kEntryVersion;
  if (PYRALOG_PLANT("catalog.read_newer")) understood = kFeatureLevel;
  if (level > understood || !known) {
    const auto needs = known ? level : std::max<std::uint16_t>(level, kFeatureLevel + 1);
    return fail(too_new(
        "metadata entry type " + std::to_string(type) + " version " + std::to_string(version),
        needs, understood));
  }
  bool sound = true;
  Entry entry = read_body(static_cast<EntryType>(type), in, sound);
  if (!sound || !in.done()) return corrupt(name(static_cast<EntryType>(type)));
  if (level != level_of(entry)) return corrupt("its level is another's");
  return entry;
}

}  // namespace pyralog::catalog
