#include "catalog/plan.h"

#include <algorithm>
#include <set>

#include "base/hash.h"
#include "base/plant.h"

namespace pyralog::catalog {
namespace {

std::unexpected<TopicError> refuse(KafkaError code, std::string message) {
  return std::unexpected<TopicError>(TopicError{code, std::move(message)});
}

std::unexpected<TopicError> no_topic(std::string_view name) {
  return refuse(KafkaError::kUnknownTopicOrPartition,
                "topic \"" + std::string(name) + "\": does not exist; ask for the topic list");
}

/// Splits at commas; blanks around items and empty items go.
std::vector<std::string> items(std::string_view list) {
  std::vector<std::string> found;
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    std::string_view item = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    if (!item.empty()) found.emplace_back(item);
  }
  return found;
}

std::string joined(const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& item : list) text += (text.empty() ? "" : ",") + item;
  return text;
}

/// The nodes that take new replicas.
struct Places {
  explicit Places(const Catalog& catalog) : nodes(catalog.nodes()) {
    if (PYRALOG_PLANT("catalog.place_on_draining")) return;
    std::erase_if(nodes, [&](const auto& each) {
      const bool obelisk = each.second.role == NodeRole::kObelisk;
      if (each.second.takes_replicas() || (obelisk && PYRALOG_PLANT("catalog.place_on_obelisk")))
        return false;
      without += (without.empty() ? " without node " : ", ") + std::to_string(each.first.value) +
                 (obelisk ? " (obelisk)" : "");
      drained = drained || !obelisk;
      return true;
    });
    if (drained) without += " (draining)";
  }
  std::map<NodeId, Node> nodes;
  std::string without;  ///< " without node 2 (obelisk), 3, 5 (draining)", or empty
  bool drained = false;
};

/// A client's replicas must be distinct, known, and as many everywhere.
Planned<void> check_assignment(const std::vector<std::vector<NodeId>>& partitions,
                               std::size_t replicas, const Catalog& catalog) {
  for (const auto& nodes : partitions) {
    const std::set<NodeId> distinct(nodes.begin(), nodes.end());
    if (nodes.empty() || nodes.size() > kMaxReplicas || distinct.size() != nodes.size() ||
        nodes.size() != replicas) {
      return refuse(KafkaError::kInvalidReplicaAssignment,
                    "the assignment needs the same number of replicas, from 1 to 64 on different "
                    "nodes, for every partition");
    }
    for (const NodeId node : nodes) {
      const Node* known = catalog.node(node);
      if (known != nullptr && known->takes_replicas()) continue;
      return refuse(KafkaError::kInvalidReplicaAssignment,
                    "the assignment names node " + std::to_string(node.value) + ", which is " +
                        (known == nullptr  ? "not registered"
                         : known->draining ? "draining"
                                           : "an obelisk") +
                        "; name another");
    }
  }
  return {};
}

Planned<std::vector<std::vector<NodeId>>> assigned(const CreateTopic& request,
                                                   const Catalog& catalog,
                                                   const PlanOptions& options) {
  if (request.partitions != -1 || request.replication_factor != -1) {
    return refuse(KafkaError::kInvalidRequest,
                  "both numbers and an assignment are given; leave one of them out");
  }
  if (request.assignment.size() > static_cast<std::size_t>(options.max_partitions)) {
    return refuse(KafkaError::kInvalidPartitions,
                  "a topic has at most " + std::to_string(options.max_partitions) + " partitions");
  }
  std::vector<std::vector<NodeId>> partitions;
  for (const auto& [index, nodes] : request.assignment) {
    if (index < 0 || static_cast<std::size_t>(index) != partitions.size()) {
      return refuse(KafkaError::kInvalidReplicaAssignment,
                    "the assignment must number partitions from 0 without gaps");
    }
    partitions.push_back(nodes);
  }
  if (auto ok = check_assignment(partitions, partitions.front().size(), catalog); !ok) {
    return std::unexpected(ok.error());
  }
  return partitions;
}

Planned<std::vector<std::vector<NodeId>>> placed(const CreateTopic& request, const Catalog& catalog,
                                                 const Uuid& id, const PlanOptions& options) {
  const Places places(catalog);
  const std::size_t nodes = places.nodes.size();
  const std::int32_t partitions =
      request.partitions == -1 ? options.default_partitions : request.partitions;
  if (partitions < 1 || partitions > options.max_partitions) {
    return refuse(KafkaError::kInvalidPartitions,
                  "the number of partitions is " + std::to_string(partitions) +
                      ", allowed is 1 to " + std::to_string(options.max_partitions));
  }
  std::size_t replicas = std::clamp<std::size_t>(nodes, 1, 3);
  if (request.replication_factor != -1) {
    if (request.replication_factor < 1) {
      return refuse(KafkaError::kInvalidReplicationFactor,
                    "the replication factor is at least 1, or -1 for the default");
    }
    replicas = static_cast<std::size_t>(request.replication_factor);
  }
  if (replicas > nodes || replicas == 0 || replicas > kMaxReplicas) {
    return refuse(KafkaError::kInvalidReplicationFactor,
                  "replication factor " + std::to_string(replicas) + " is larger than the " +
                      std::to_string(nodes) + " nodes there are" + places.without +
                      "; lower it or add nodes");
  }
  return place(places.nodes, static_cast<std::size_t>(partitions), replicas, xxh3_64(id.bytes));
}

/// Each partition costs memory and open files, whoever asks for it.
Planned<void> check_total(const std::string& topic, std::size_t added, const Catalog& catalog,
                          const PlanOptions& options) {
  if (Topic::is_internal(topic) || PYRALOG_PLANT("catalog.unbounded_partitions")) return {};
  std::size_t now = 0;
  for (const TopicPtr& each : catalog.topics()) now += each->partitions.size();
  if (now + added <= static_cast<std::size_t>(options.max_partitions_in_all)) return {};
  return refuse(KafkaError::kInvalidPartitions,
                "topic \"" + topic + "\": " + std::to_string(added) + " partitions more than the " +
                    std::to_string(now) + " there are would be above max.partitions (" +
                    std::to_string(options.max_partitions_in_all) +
                    "); delete topics, ask for fewer, or raise it");
}

/// Applies the entry to a copy, so that what was planned will be accepted.
Planned<void> rehearse(const Entry& entry, const Catalog& catalog, KafkaError otherwise) {
  Catalog copy = catalog;
  if (auto applied = copy.apply(entry, catalog.position() + 1); !applied) {
    return refuse(otherwise, std::move(applied.error().message));
  }
  return {};
}

/// What to say to a name that has no setting where it was given. What topics and brokers call
/// differently is often taken for each other.
std::string unknown_name(const std::string& name) {
  const std::string begin = "setting " + name + ": ";
  if (const TopicSetting* topic = find_topic_setting(name); topic != nullptr) {
    if (topic->synonym.empty()) return begin + "only topics have it; set it on a topic";
    return begin + "topics have it; what they get by default is " + std::string(topic->synonym);
  }
  if (const TopicSetting* broker = find_cluster_setting(name); broker != nullptr) {
    return begin + "brokers have it, as a default; a topic's own is " + std::string(broker->name);
  }
  return begin + "nothing has this name; see the configuration page";
}

/// One operation on the settings `all`, as they would then be written by the user.
Planned<void> alter(Settings& all, const AlterSetting& op, const TopicSetting* setting,
                    std::string_view in_force) {
  if (op.op != AlterOp::kDelete && !op.value) {
    return refuse(KafkaError::kInvalidRequest, "setting " + op.name + ": needs a value");
  }
  if (op.op == AlterOp::kDelete) {
    all.erase(op.name);  // what nobody knows is not set, either
    return {};
  }
  if (setting == nullptr) return refuse(KafkaError::kInvalidConfig, unknown_name(op.name));
  std::string value(trimmed(*op.value));
  switch (op.op) {
    case AlterOp::kSet:
    case AlterOp::kDelete:
      break;
    case AlterOp::kAppend:
    case AlterOp::kSubtract: {
      if (setting->type != SettingType::kList) {
        return refuse(KafkaError::kInvalidConfig,
                      "setting " + op.name + ": is no list; set its whole value");
      }
      std::vector<std::string> list = items(in_force);
      for (const std::string& item : items(value)) {
        const auto at = std::find(list.begin(), list.end(), item);
        if (op.op == AlterOp::kAppend && at == list.end()) list.push_back(item);
        if (op.op == AlterOp::kSubtract && at != list.end()) list.erase(at);
      }
      value = joined(list);
      break;
    }
  }
  if (auto ok = check_setting(*setting, value); !ok) {
    return refuse(KafkaError::kInvalidConfig, std::move(ok.error().message));
  }
  all.insert_or_assign(op.name, std::move(value));
  return {};
}

Planned<void> check_ops(const std::vector<AlterSetting>& ops) {
  std::set<std::string_view> names;
  for (const AlterSetting& op : ops) {
    if (!names.insert(op.name).second) {
      return refuse(KafkaError::kInvalidRequest,
                    "setting " + op.name + ": is altered twice in one request; name it once");
    }
    if (static_cast<std::int8_t>(op.op) < 0 || static_cast<std::int8_t>(op.op) > 3) {
      return refuse(KafkaError::kInvalidRequest,
                    "setting " + op.name +
                        ": the operation is none of set, delete, append and "
                        "subtract");
    }
  }
  return {};
}

SettingChanges difference(const Settings& before, const Settings& after) {
  SettingChanges changes;
  for (const auto& [name, value] : before) {
    if (!after.contains(name)) changes.emplace(name, std::nullopt);
  }
  for (const auto& [name, value] : after) {
    const auto old = before.find(name);
    if (old == before.end() || old->second != value) changes.emplace(name, value);
  }
  return changes;
}

Planned<TopicSettingsChanged> settings_entry(const Topic& topic, const Settings& after,
                                             const Catalog& catalog) {
  TopicSettingsChanged entry{topic.id, difference(topic.settings, after)};
  if (auto ok = rehearse(entry, catalog, KafkaError::kInvalidConfig); !ok) {
    return std::unexpected(ok.error());
  }
  return entry;
}

}  // namespace

Planned<TopicCreated> plan_create_topic(const CreateTopic& request, const Catalog& catalog,
                                        WallMs now, const Uuid& id, const PlanOptions& options) {
  if (!is_valid_topic_name(request.name)) {
    return refuse(KafkaError::kInvalidTopicException,
                  "topic \"" + request.name.substr(0, 260) +
                      "\": a name has 1 to 249 of a-z A-Z 0-9 . _ - and is not . or ..");
  }
  if (const TopicPtr other = catalog.collision(request.name)) {
    if (other->name == request.name) {
      return refuse(
          KafkaError::kTopicAlreadyExists,
          "topic \"" + request.name + "\": exists already; choose another name, or alter it");
    }
    return refuse(KafkaError::kInvalidTopicException,
                  "topic \"" + request.name + "\": collides with \"" + other->name +
                      "\", for '.' and '_' are one in metric names; choose another");
  }
  TopicCreated entry;
  entry.id.uuid = id;
  entry.name = request.name;
  entry.created = now;
  for (const auto& [name, value] : request.settings) {
    if (!value) {
      return refuse(KafkaError::kInvalidConfig, "setting " + name + ": needs a value");
    }
    entry.settings.emplace(name, trimmed(*value));
  }
  if (auto config = make_topic_config(entry.settings, catalog.cluster_settings()); !config) {
    return refuse(KafkaError::kInvalidConfig, std::move(config.error().message));
  }
  auto partitions = request.assignment.empty() ? placed(request, catalog, id, options)
                                               : assigned(request, catalog, options);
  if (!partitions) return std::unexpected(partitions.error());
  if (auto ok = check_total(entry.name, partitions->size(), catalog, options); !ok) {
    return std::unexpected(ok.error());
  }
  entry.partitions = std::move(*partitions);
  if (auto ok = rehearse(entry, catalog, KafkaError::kInvalidConfig); !ok) {
    return std::unexpected(ok.error());
  }
  return entry;
}

Planned<TopicDeleted> plan_delete_topic(std::string_view name, const Catalog& catalog) {
  const TopicPtr topic = catalog.topic(name);
  if (!topic) return no_topic(name);
  return TopicDeleted{topic->id};
}

Planned<TopicDeleted> plan_delete_topic(const TopicId& id, const Catalog& catalog) {
  if (!catalog.topic(id)) {
    return refuse(KafkaError::kUnknownTopicId,
                  "topic id " + to_string(id.uuid) + ": does not exist; ask for the topic list");
  }
  return TopicDeleted{id};
}

Planned<PartitionsAdded> plan_create_partitions(const CreatePartitions& request,
                                                const Catalog& catalog,
                                                const PlanOptions& options) {
  const TopicPtr topic = catalog.topic(request.name);
  if (!topic) return no_topic(request.name);
  const auto now = static_cast<std::int32_t>(topic->partitions.size());
  if (request.count <= now || request.count > options.max_partitions) {
    return refuse(KafkaError::kInvalidPartitions,
                  "topic \"" + request.name + "\": has " + std::to_string(now) +
                      " partitions; the new total must be above that and at most " +
                      std::to_string(options.max_partitions));
  }
  const auto added = static_cast<std::size_t>(request.count - now);
  if (auto ok = check_total(topic->name, added, catalog, options); !ok) {
    return std::unexpected(ok.error());
  }
  const std::size_t replicas = topic->partitions.front()->replicas.size();
  PartitionsAdded entry{topic->id, PartitionIndex(now), {}};
  if (request.assignments) {
    if (request.assignments->size() != added) {
      return refuse(KafkaError::kInvalidReplicaAssignment,
                    "topic \"" + request.name + "\": the assignment names " +
                        std::to_string(request.assignments->size()) + " partitions, " +
                        std::to_string(added) + " are new");
    }
    if (auto ok = check_assignment(*request.assignments, replicas, catalog); !ok) {
      return std::unexpected(ok.error());
    }
    entry.partitions = *request.assignments;
  } else {
    const Places places(catalog);
    if (replicas > places.nodes.size()) {
      return refuse(KafkaError::kInvalidReplicationFactor,
                    "topic \"" + request.name + "\": has " + std::to_string(replicas) +
                        " replicas, more than the " + std::to_string(places.nodes.size()) +
                        " nodes there are" + places.without + "; add nodes");
    }
    auto all = place(places.nodes, static_cast<std::size_t>(request.count), replicas,
                     xxh3_64(topic->id.uuid.bytes));
    entry.partitions.assign(all.begin() + now, all.end());
  }
  if (auto ok = rehearse(entry, catalog, KafkaError::kInvalidRequest); !ok) {
    return std::unexpected(ok.error());
  }
  return entry;
}

Planned<ReplicasWanted> plan_reassign(std::string_view name, std::int32_t partition,
                                      const std::optional<std::vector<NodeId>>& replicas,
                                      const Catalog& catalog) {
  const TopicPtr topic = catalog.topic(name);
  if (!topic) return no_topic(name);
  const std::string what = "topic \"" + topic->name + "\" partition " + std::to_string(partition);
  ReplicasWanted entry{{topic->id, PartitionIndex(partition)}, {}};
  if (replicas) entry.target = *replicas;
  const Partition* now = catalog.partition(entry.partition);
  if (now == nullptr) {
    return refuse(KafkaError::kUnknownTopicOrPartition,
                  what + ": does not exist; ask for the topic list");
  }
  if (!replicas && now->target.empty()) {
    return refuse(KafkaError::kNoReassignmentInProgress,
                  what + ": its replicas are not being moved; nothing is to be cancelled");
  }
  if (replicas && replicas->empty()) {
    return refuse(KafkaError::kInvalidReplicaAssignment,
                  what + ": the assignment is empty; name the nodes, or leave it out to cancel");
  }
  if (auto ok = rehearse(entry, catalog, KafkaError::kInvalidReplicaAssignment); !ok) {
    return std::unexpected(ok.error());
  }
  return entry;
}

Planned<TopicSettingsChanged> plan_alter_topic(std::string_view name,
                                               const std::vector<AlterSetting>& ops,
                                               const Catalog& catalog) {
  const TopicPtr topic = catalog.topic(name);
  if (!topic) return no_topic(name);
  if (auto ok = check_ops(ops); !ok) return std::unexpected(ok.error());
  Settings after = topic->settings;
  for (const AlterSetting& op : ops) {
    const TopicSetting* setting = find_topic_setting(op.name);
    std::string in_force;
    if (setting != nullptr) {
      auto described = describe_topic_settings(after, catalog.cluster_settings(),
                                               std::vector<std::string>{op.name});
      in_force = std::move(described.front().value);
    }
    if (auto ok = alter(after, op, setting, in_force); !ok) return std::unexpected(ok.error());
  }
  return settings_entry(*topic, after, catalog);
}

Planned<TopicSettingsChanged> plan_replace_topic_settings(std::string_view name,
                                                          const SettingChanges& settings,
                                                          const Catalog& catalog) {
  const TopicPtr topic = catalog.topic(name);
  if (!topic) return no_topic(name);
  Settings after;
  for (const auto& [key, value] : settings) {
    const AlterSetting set{key, AlterOp::kSet, value};
    if (auto ok = alter(after, set, find_topic_setting(key), {}); !ok) {
      return std::unexpected(ok.error());
    }
  }
  return settings_entry(*topic, after, catalog);
}

Planned<ClusterSettingsChanged> plan_alter_cluster(const std::vector<AlterSetting>& ops,
                                                   const Catalog& catalog) {
  if (auto ok = check_ops(ops); !ok) return std::unexpected(ok.error());
  Settings after = catalog.cluster_settings();
  for (const AlterSetting& op : ops) {
    const TopicSetting* setting = find_cluster_setting(op.name);
    std::string in_force;
    if (setting != nullptr) {
      const auto at = after.find(op.name);
      in_force = at != after.end() ? at->second : std::string(setting->default_value);
    }
    if (auto ok = alter(after, op, setting, in_force); !ok) return std::unexpected(ok.error());
  }
  ClusterSettingsChanged entry{difference(catalog.cluster_settings(), after)};
  if (auto ok = rehearse(entry, catalog, KafkaError::kInvalidConfig); !ok) {
    return std::unexpected(ok.error());
  }
  return entry;
}

}  // namespace pyralog::catalog
