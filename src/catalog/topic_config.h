#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "catalog/entry.h"
#include "model/fundamental.h"

namespace pyralog::catalog {

/// Numbered as Kafka's DescribeConfigs does.
enum class SettingType : std::int8_t {
  kBoolean = 1,
  kString = 2,
  kInt = 3,
  kShort = 4,
  kLong = 5,
  kDouble = 6,
  kList = 7,
};

/// Where a value comes from, numbered as Kafka's DescribeConfigs does.
enum class SettingSource : std::int8_t {
  kTopic = 1,
  kClusterDefault = 3,
  kDefault = 5,
};

/// One row of the table of topic settings.
struct TopicSetting {
  std::string_view name;
  SettingType type;
  std::string_view default_value;
  double min;  ///< bounds of numbers; both 0 for other types
  double max;
  std::string_view choices;  ///< "a|b|c"; empty = any
  std::string_view
      synonym;  ///< the cluster-wide default's name, as Kafka's brokers call it; or empty
  bool kafka;   ///< Kafka has a topic setting of this name
  std::string_view help;
};

/// The one table, sorted by name.
[[nodiscard]] std::span<const TopicSetting> topic_settings();
/// The row of a name, or of a cluster-wide default's name; null if there is none.
[[nodiscard]] const TopicSetting* find_topic_setting(std::string_view name);
[[nodiscard]] const TopicSetting* find_cluster_setting(std::string_view synonym);
/// Without the blanks around it: values are taken so, like Kafka's.
[[nodiscard]] std::string_view trimmed(std::string_view value);
/// kInvalidArgument, naming setting, value and what is allowed.
[[nodiscard]] Result<void> check_setting(const TopicSetting& setting, std::string_view value);

/// A topic's settings, parsed. Milliseconds and bytes; −1 = no limit where Kafka says so.
struct TopicConfig {
  bool cleanup_delete = true;
  bool cleanup_compact = false;
  std::int64_t delete_retention_ms = 86'400'000;
  Durability durability = Durability::kFsync;
  std::int64_t file_delete_delay_ms = 60'000;
  std::int64_t flush_messages = INT64_MAX;
  std::int64_t flush_ms = INT64_MAX;
  std::int32_t index_interval_bytes = 4096;
  std::int64_t max_compaction_lag_ms = INT64_MAX;
  std::int32_t max_message_bytes = 1'048'588;
  std::int64_t timestamp_after_max_ms = 3'600'000;
  std::int64_t timestamp_before_max_ms = INT64_MAX;
  bool log_append_time = false;
  double min_cleanable_dirty_ratio = 0.5;
  std::int64_t min_compaction_lag_ms = 0;
  std::int32_t min_insync_replicas = 1;
  bool preallocate = false;
  bool full_validation = false;
  std::int64_t retention_bytes = -1;
  std::int64_t retention_ms = 604'800'000;
  std::int32_t segment_bytes = 1'073'741'824;
  std::int32_t segment_index_bytes = 10'485'760;
  std::int64_t segment_jitter_ms = 0;
  std::int64_t segment_ms = 604'800'000;
  bool unclean_leader_election = false;
  friend bool operator==(const TopicConfig&, const TopicConfig&) = default;
};

/// `topic` over `cluster` (under its own names) over the table's defaults. kInvalidArgument for an
/// unknown name or a value out of bounds.
[[nodiscard]] Result<TopicConfig> make_topic_config(const Settings& topic, const Settings& cluster);

/// W: how many replicas must hold a record before it is acknowledged. A majority, or more if
/// `min_insync` asks for it, at most all: a topic's own min.insync.replicas never exceeds its
/// replicas, but a cluster-wide default may.
[[nodiscard]] std::uint16_t write_quorum(std::size_t replicas, std::int32_t min_insync);

struct SettingSynonym {
  std::string name;
  std::string value;
  SettingSource source;
};

/// What DescribeConfigs tells of one setting. No topic setting is sensitive.
struct DescribedSetting {
  const TopicSetting* setting;
  std::string value;
  SettingSource source;
  std::vector<SettingSynonym> synonyms;  ///< in force first: topic, cluster, default
  [[nodiscard]] bool is_default() const { return source != SettingSource::kTopic; }
};

/// Every setting in `names` (all if nullopt; unknown names are left out), sorted.
[[nodiscard]] std::vector<DescribedSetting> describe_topic_settings(
    const Settings& topic, const Settings& cluster,
    const std::optional<std::vector<std::string>>& names);

}  // namespace pyralog::catalog
