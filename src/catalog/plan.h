#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "catalog/catalog.h"
#include "catalog/entry.h"
#include "model/kafka_error.h"

namespace pyralog::catalog {

/// Turns what a client asks for into the entry to propose, or into Kafka's error for it. Pure. What
/// is planned here against a catalogue, that catalogue's `apply` accepts.

struct TopicError {
  KafkaError code = KafkaError::kUnknownServerError;
  std::string message;
};
template <typename T>
using Planned = std::expected<T, TopicError>;

/// Partition → replicas, from a client that places by itself.
using ManualAssignment = std::map<std::int32_t, std::vector<NodeId>>;

struct PlanOptions {
  std::int32_t default_partitions = 1;
  std::int32_t max_partitions = 10'000;          ///< of one topic
  std::int64_t max_partitions_in_all = 100'000;  ///< of all topics; internal ones count and may
};

struct CreateTopic {
  std::string name;
  std::int32_t partitions = -1;          ///< −1 = default; −1 also with `assignment`
  std::int16_t replication_factor = -1;  ///< −1 = min(3, nodes that take replicas)
  ManualAssignment assignment;
  SettingChanges settings;  ///< a null value is refused, as Kafka does
};
[[nodiscard]] Planned<TopicCreated> plan_create_topic(const CreateTopic& request,
                                                      const Catalog& catalog, WallMs now,
                                                      const Uuid& id,
                                                      const PlanOptions& options = {});

[[nodiscard]] Planned<TopicDeleted> plan_delete_topic(std::string_view name,
                                                      const Catalog& catalog);
[[nodiscard]] Planned<TopicDeleted> plan_delete_topic(const TopicId& id, const Catalog& catalog);

struct CreatePartitions {
  std::string name;
  std::int32_t count = 0;                                       ///< the total afterwards
  std::optional<std::vector<std::vector<NodeId>>> assignments;  ///< of the new ones
};
[[nodiscard]] Planned<PartitionsAdded> plan_create_partitions(const CreatePartitions& request,
                                                              const Catalog& catalog,
                                                              const PlanOptions& options = {});

/// AlterPartitionReassignments: where the replicas of a partition are to be; nullopt cancels.
[[nodiscard]] Planned<ReplicasWanted> plan_reassign(
    std::string_view topic, std::int32_t partition,
    const std::optional<std::vector<NodeId>>& replicas, const Catalog& catalog);

/// Numbered as IncrementalAlterConfigs does.
enum class AlterOp : std::int8_t { kSet = 0, kDelete = 1, kAppend = 2, kSubtract = 3 };
struct AlterSetting {
  std::string name;
  AlterOp op = AlterOp::kSet;
  std::optional<std::string> value;
};
/// IncrementalAlterConfigs on a topic. An entry without changes means: nothing to propose.
[[nodiscard]] Planned<TopicSettingsChanged> plan_alter_topic(std::string_view name,
                                                             const std::vector<AlterSetting>& ops,
                                                             const Catalog& catalog);
/// AlterConfigs on a topic: `settings` become all there is.
[[nodiscard]] Planned<TopicSettingsChanged> plan_replace_topic_settings(
    std::string_view name, const SettingChanges& settings, const Catalog& catalog);
/// IncrementalAlterConfigs on the brokers' defaults (resource BROKER with an empty name).
[[nodiscard]] Planned<ClusterSettingsChanged> plan_alter_cluster(
    const std::vector<AlterSetting>& ops, const Catalog& catalog);

/// Spreads `partitions` × `replicas` over the nodes, the first of each the preferred leader.
/// Leaders go round, so that no node leads two more than another. A partition's replicas are in as
/// many racks as there are. With more than 2 × `replicas` nodes each node shares partitions with
/// few others, at most 2 × (`replicas` − 1) as long as racks leave a choice, and with the same ones
/// whatever `first` is: the fewer sets of disks there are, the less likely it is that those that
/// die at once are one of them (Cidon et al., Copysets, USENIX ATC 2013). Who follows first changes
/// from round to round, so the partitions of a node that is gone go to several. `replicas` ≤ nodes;
/// `first` is where to begin.
[[nodiscard]] std::vector<std::vector<NodeId>> place(const std::map<NodeId, Node>& nodes,
                                                     std::size_t partitions, std::size_t replicas,
                                                     std::uint64_t first);

}  // namespace pyralog::catalog
