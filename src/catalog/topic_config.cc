#include "catalog/topic_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "base/assert.h"

namespace pyralog::catalog {
namespace {

using enum SettingType;
constexpr double kI32 = 2147483647.0;
constexpr double kI64 = 9223372036854775807.0;

// Sorted by name. Bounds and defaults are those of Kafka's topic settings where it has one.
constexpr TopicSetting kTable[] = {
    {"cleanup.policy", kList, "delete", 0, 0, "delete|compact", "log.cleanup.policy", true,
     "What happens to old data: 'delete' by age and size, 'compact' keeps the last value of a "
     "key; with neither, everything is kept."},
    {"compression.type", kString, "producer", 0, 0, "producer", "compression.type", true,
     "Batches are stored as producers compressed them; no other value is supported."},
    {"delete.retention.ms", kLong, "86400000", 0, kI64, "", "log.cleaner.delete.retention.ms", true,
     "How long a tombstone of a compacted topic stays readable."},
    {"durability", kString, "fsync", 0, 0, "memory|os|fsync", "durability", false,
     "What 'written' means for acks=all: in memory, given to the operating system, or on the "
     "disk."},
    {"file.delete.delay.ms", kLong, "60000", 0, kI64, "", "log.segment.delete.delay.ms", true,
     "Accepted and stored for compatibility; files go at once, and who reads one keeps it open."},
    {"flush.messages", kLong, "9223372036854775807", 1, kI64, "", "log.flush.interval.messages",
     true, "Accepted and stored for compatibility; 'durability' decides when data is synced."},
    {"flush.ms", kLong, "9223372036854775807", 0, kI64, "", "log.flush.interval.ms", true,
     "Accepted and stored for compatibility; 'durability' decides when data is synced."},
    {"follower.replication.throttled.replicas", kList, "", 0, 0, "", "", true,
     "Accepted and stored for compatibility; replication is not throttled by replica."},
    {"index.interval.bytes", kInt, "4096", 0, kI32, "", "log.index.interval.bytes", true,
     "Bytes of log between two entries of the offset index."},
    {"leader.replication.throttled.replicas", kList, "", 0, 0, "", "", true,
     "Accepted and stored for compatibility; replication is not throttled by replica."},
    {"max.compaction.lag.ms", kLong, "9223372036854775807", 1, kI64, "",
     "log.cleaner.max.compaction.lag.ms", true,
     "The longest that a record of a compacted topic stays uncompacted."},
    {"max.message.bytes", kInt, "1048588", 0, kI32, "", "message.max.bytes", true,
     "The largest record batch that is accepted, compressed, with its header."},
    {"message.timestamp.after.max.ms", kLong, "3600000", 0, kI64, "",
     "log.message.timestamp.after.max.ms", true,
     "How far a record's timestamp may lie in the future."},
    {"message.timestamp.before.max.ms", kLong, "9223372036854775807", 0, kI64, "",
     "log.message.timestamp.before.max.ms", true,
     "How far a record's timestamp may lie in the past."},
    {"message.timestamp.type", kString, "CreateTime", 0, 0, "CreateTime|LogAppendTime",
     "log.message.timestamp.type", true,
     "Whether records carry the producer's time or that of the append."},
    {"min.cleanable.dirty.ratio", kDouble, "0.5", 0, 1, "", "log.cleaner.min.cleanable.ratio", true,
     "The share of uncompacted log from which a compacted topic is cleaned."},
    {"min.compaction.lag.ms", kLong, "0", 0, kI64, "", "log.cleaner.min.compaction.lag.ms", true,
     "The shortest time that a record of a compacted topic stays uncompacted."},
    {"min.insync.replicas", kInt, "1", 1, kI32, "", "min.insync.replicas", true,
     "Replicas that must hold a record before acks=all is answered, if more than the majority."},
    {"preallocate", kBoolean, "false", 0, 0, "", "log.preallocate", true,
     "Whether a new segment's space is reserved at once."},
    {"record.validation", kString, "basic", 0, 0, "basic|full", "", false,
     "'full' also opens compressed batches at produce and checks every record."},
    {"remote.storage.enable", kBoolean, "false", 0, 0, "false", "", true,
     "Tiered storage; only false is supported."},
    {"retention.bytes", kLong, "-1", -1, kI64, "", "log.retention.bytes", true,
     "The size of a partition above which its oldest segments go; -1 = no limit."},
    {"retention.ms", kLong, "604800000", -1, kI64, "", "log.retention.ms", true,
     "The age above which a partition's oldest segments go; -1 = no limit."},
    {"segment.bytes", kInt, "1073741824", 14, kI32, "", "log.segment.bytes", true,
     "The size at which a new segment is begun."},
    {"segment.index.bytes", kInt, "10485760", 4, kI32, "", "log.index.size.max.bytes", true,
     "The size of an offset index at which a new segment is begun."},
    {"segment.jitter.ms", kLong, "0", 0, kI64, "", "log.roll.jitter.ms", true,
     "The most that a segment's age limit is shortened at random."},
    {"segment.ms", kLong, "604800000", 1, kI64, "", "log.roll.ms", true,
     "The age at which a new segment is begun."},
    {"unclean.leader.election.enable", kBoolean, "false", 0, 0, "",
     "unclean.leader.election.enable", true,
     "Whether a partition may go on, losing records, when too few of its replicas are left."},
};

std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_double(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value != value) {
    return std::nullopt;
  }
  return value;
}

bool is_choice(std::string_view choices, std::string_view value) {
  while (!choices.empty()) {
    const std::size_t bar = choices.find('|');
    if (choices.substr(0, bar) == value) return true;
    if (bar == std::string_view::npos) return false;
    choices.remove_prefix(bar + 1);
  }
  return false;
}

/// Calls `visit` for each item of a comma-separated list; stops at the first false.
template <typename Visit>
bool every_item(std::string_view list, Visit visit) {
  if (trimmed(list).empty()) return true;
  while (true) {
    const std::size_t comma = list.find(',');
    if (!visit(trimmed(list.substr(0, comma)))) return false;
    if (comma == std::string_view::npos) return true;
    list.remove_prefix(comma + 1);
  }
}

bool is_valid(const TopicSetting& s, std::string_view value) {
  switch (s.type) {
    case kBoolean:
      return (value == "true" || value == "false") && (s.choices.empty() || value == s.choices);
    case kString:
      return s.choices.empty() || is_choice(s.choices, value);
    case kList:
      return s.choices.empty() || trimmed(value).empty() ||
             every_item(value, [&](std::string_view item) { return is_choice(s.choices, item); });
    case kDouble: {
      const auto number = parse_double(value);
      return number && *number >= s.min && *number <= s.max;
    }
    case kInt:
    case kShort:
    case kLong: {
      const auto number = parse_integer(value);
      // 2^63 as a double is above every int64, so the upper bound of a long needs no comparison.
      return number && static_cast<double>(*number) >= s.min &&
             (s.max >= kI64 || static_cast<double>(*number) <= s.max);
    }
  }
  return false;
}

std::string allowed(const TopicSetting& s) {
  if (!s.choices.empty()) {
    std::string text(s.choices);
    std::replace(text.begin(), text.end(), '|', ' ');
    return (s.type == kList ? "a list of: " : "one of: ") + text;
  }
  const auto number = [](double d) {
    return d >= kI64 ? std::string("9223372036854775807")
                     : std::to_string(static_cast<std::int64_t>(d));
  };
  switch (s.type) {
    case kBoolean:
      return "true or false";
    case kString:
    case kList:
      return "text";
    case kInt:
    case kShort:
    case kLong:
      return "a whole number from " + number(s.min) + " to " + number(s.max);
    case kDouble:
      return "a number from " + number(s.min) + " to " + number(s.max);
  }
  return {};
}

/// The value in force and where it comes from.
std::pair<std::string_view, SettingSource> in_force(const TopicSetting& s, const Settings& topic,
                                                    const Settings& cluster) {
  if (const auto at = topic.find(s.name); at != topic.end()) {
    return {at->second, SettingSource::kTopic};
  }
  if (const auto at = cluster.find(s.synonym); !s.synonym.empty() && at != cluster.end()) {
    return {at->second, SettingSource::kClusterDefault};
  }
  return {s.default_value, SettingSource::kDefault};
}

/// Typed look-ups of values that have been checked already.
class Values {
 public:
  Values(const Settings& topic, const Settings& cluster) : topic_(topic), cluster_(cluster) {}
  [[nodiscard]] std::string_view text(std::string_view name) const {
    const TopicSetting* s = find_topic_setting(name);
    PYRALOG_ASSERT(s != nullptr);
    return in_force(*s, topic_, cluster_).first;
  }
  [[nodiscard]] bool flag(std::string_view name) const { return text(name) == "true"; }
  [[nodiscard]] std::int64_t number(std::string_view name) const {
    const auto value = parse_integer(text(name));
    PYRALOG_ASSERT(value.has_value());
    return *value;
  }
  [[nodiscard]] std::int32_t number32(std::string_view name) const {
    return static_cast<std::int32_t>(number(name));
  }
  [[nodiscard]] double real(std::string_view name) const {
    const auto value = parse_double(text(name));
    PYRALOG_ASSERT(value.has_value());
    return *value;
  }
  [[nodiscard]] bool lists(std::string_view name, std::string_view item) const {
    return !every_item(text(name), [&](std::string_view i) { return i != item; });
  }

 private:
  const Settings& topic_;
  const Settings& cluster_;
};

}  // namespace

std::span<const TopicSetting> topic_settings() {
  return kTable;
}

const TopicSetting* find_topic_setting(std::string_view name) {
  const auto* at =
      std::lower_bound(std::begin(kTable), std::end(kTable), name,
                       [](const TopicSetting& s, std::string_view key) { return s.name < key; });
  return at != std::end(kTable) && at->name == name ? at : nullptr;
}

const TopicSetting* find_cluster_setting(std::string_view synonym) {
  if (synonym.empty()) return nullptr;
  const auto* at = std::find_if(std::begin(kTable), std::end(kTable),
                                [&](const TopicSetting& s) { return s.synonym == synonym; });
  return at != std::end(kTable) ? at : nullptr;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

Result<void> check_setting(const TopicSetting& setting, std::string_view value) {
  if (value.size() <= kMaxSettingBytes && is_valid(setting, value)) return {};
  const std::string shown(value.substr(0, 100));
  std::string message = "setting " + std::string(setting.name) + ": value \"" + shown +
                        "\" is not allowed; use " + allowed(setting);
  if (setting.name == "compression.type") {
    message += "; batches keep the codec that their producer chose, so set it there";
  }
  return fail(Code::kInvalidArgument, std::move(message));
}

Result<TopicConfig> make_topic_config(const Settings& topic, const Settings& cluster) {
  for (const auto& [name, value] : topic) {
    const TopicSetting* s = find_topic_setting(name);
    if (s == nullptr) {
      return fail(
          Code::kInvalidArgument,
          "setting " + name + ": no topic setting has this name; see the configuration page");
    }
    PYRALOG_TRY(check_setting(*s, value));
  }
  for (const auto& [name, value] : cluster) {
    const TopicSetting* s = find_cluster_setting(name);
    if (s == nullptr) {
      return fail(Code::kInvalidArgument, "setting " + name +
                                              ": no cluster-wide topic default has this name; see "
                                              "the configuration page");
    }
    PYRALOG_TRY(check_setting(*s, value));
  }
  const Values v(topic, cluster);
  TopicConfig c;
  c.cleanup_delete = v.lists("cleanup.policy", "delete");
  c.cleanup_compact = v.lists("cleanup.policy", "compact");
  c.delete_retention_ms = v.number("delete.retention.ms");
  c.durability = v.text("durability") == "memory" ? Durability::kMemory
                 : v.text("durability") == "os"   ? Durability::kOs
                                                  : Durability::kFsync;
  c.file_delete_delay_ms = v.number("file.delete.delay.ms");
  c.flush_messages = v.number("flush.messages");
  c.flush_ms = v.number("flush.ms");
  c.index_interval_bytes = v.number32("index.interval.bytes");
  c.max_compaction_lag_ms = v.number("max.compaction.lag.ms");
  c.max_message_bytes = v.number32("max.message.bytes");
  c.timestamp_after_max_ms = v.number("message.timestamp.after.max.ms");
  c.timestamp_before_max_ms = v.number("message.timestamp.before.max.ms");
  c.log_append_time = v.text("message.timestamp.type") == "LogAppendTime";
  c.min_cleanable_dirty_ratio = v.real("min.cleanable.dirty.ratio");
  c.min_compaction_lag_ms = v.number("min.compaction.lag.ms");
  c.min_insync_replicas = v.number32("min.insync.replicas");
  c.preallocate = v.flag("preallocate");
  c.full_validation = v.text("record.validation") == "full";
  c.retention_bytes = v.number("retention.bytes");
  c.retention_ms = v.number("retention.ms");
  c.segment_bytes = v.number32("segment.bytes");
  c.segment_index_bytes = v.number32("segment.index.bytes");
  c.segment_jitter_ms = v.number("segment.jitter.ms");
  c.segment_ms = v.number("segment.ms");
  c.unclean_leader_election = v.flag("unclean.leader.election.enable");
  return c;
}

std::uint16_t write_quorum(std::size_t replicas, std::int32_t min_insync) {
  PYRALOG_ASSERT(replicas > 0 && replicas <= kMaxReplicas);
  const auto all = static_cast<std::int32_t>(replicas);
  return static_cast<std::uint16_t>(std::min(all, std::max(all / 2 + 1, min_insync)));
}

std::vector<DescribedSetting> describe_topic_settings(
    const Settings& topic, const Settings& cluster,
    const std::optional<std::vector<std::string>>& names) {
  std::vector<DescribedSetting> described;
  for (const TopicSetting& s : kTable) {
    if (names && std::find(names->begin(), names->end(), s.name) == names->end()) continue;
    const auto [value, source] = in_force(s, topic, cluster);
    DescribedSetting d{&s, std::string(value), source, {}};
    if (const auto at = topic.find(s.name); at != topic.end()) {
      d.synonyms.push_back({std::string(s.name), at->second, SettingSource::kTopic});
    }
    if (const auto at = cluster.find(s.synonym); !s.synonym.empty() && at != cluster.end()) {
      d.synonyms.push_back({std::string(s.synonym), at->second, SettingSource::kClusterDefault});
    }
    d.synonyms.push_back({std::string(s.synonym.empty() ? s.name : s.synonym),
                          std::string(s.default_value), SettingSource::kDefault});
    described.push_back(std::move(d));
  }
  return described;
}

}  // namespace pyralog::catalog
