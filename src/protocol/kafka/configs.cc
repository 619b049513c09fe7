#include <algorithm>
#include <set>
#include <utility>

#include "protocol/kafka/service.h"
#include "wire/kafka/gen/alter_configs.h"
#include "wire/kafka/gen/describe_configs.h"
#include "wire/kafka/gen/incremental_alter_configs.h"

namespace pyralog::protocol::kafka {

namespace {

constexpr std::int8_t kTopicResource = 2;
constexpr std::int8_t kBrokerResource = 4;
constexpr std::int8_t kStaticBrokerSource = 4;

using Described = wire::DescribeConfigsResponse::ResourceResult;

void describe_topic(const catalog::Topic& topic, const catalog::Settings& defaults,
                    const std::optional<std::vector<std::string>>& names, bool synonyms,
                    bool documentation, Described& out) {
  for (const auto& setting : catalog::describe_topic_settings(topic.settings, defaults, names)) {
    auto& each = out.configs.emplace_back();
    each.name = std::string(setting.setting->name);
    each.value = setting.value;
    each.config_source = static_cast<std::int8_t>(setting.source);
    each.config_type = static_cast<std::int8_t>(setting.setting->type);
    if (documentation) each.documentation = std::string(setting.setting->help);
    if (!synonyms) continue;
    for (const auto& synonym : setting.synonyms) {
      each.synonyms.push_back(
          {synonym.name, synonym.value, static_cast<std::int8_t>(synonym.source)});
    }
  }
}

struct BrokerSetting {
  const char* name;
  std::string value;
  catalog::SettingType type;
  const char* help;
};

std::vector<BrokerSetting> broker_settings(Service& service) {
  using catalog::SettingType;
  const broker::Options& o = service.broker().options();
  const broker::CatalogPtr state = service.broker().catalog();
  const catalog::Node* node = state->node(service.broker().node());
  const std::string told =
      node == nullptr ? "" : "PLAINTEXT://" + node->host + ":" + std::to_string(node->port);
  return {
      {"advertised.listeners", told, SettingType::kString, "Where clients are told to connect."},
      {"auto.create.topics.enable", o.auto_create_topics ? "true" : "false", SettingType::kBoolean,
       "Make a topic when a client first asks for it."},
      {"broker.id", std::to_string(service.broker().node().value), SettingType::kInt,
       "The node's number."},
      {"default.replication.factor", std::to_string(o.default_replication_factor),
       SettingType::kInt, "Replicas of a topic that does not say; -1 is min(3, nodes)."},
      {"delete.topic.enable", "true", SettingType::kBoolean, "Topics may be deleted."},
      {"fetch.max.bytes", std::to_string(service.options().fetch_max_bytes), SettingType::kInt,
       "Bytes of one fetch response at most."},
      {"group.initial.rebalance.delay.ms", std::to_string(o.groups.initial_rebalance_delay_ms),
       SettingType::kInt, "How long an empty group waits for more members."},
      {"group.max.session.timeout.ms", std::to_string(o.groups.max_session_timeout_ms),
       SettingType::kInt, "Greatest session timeout of a group's members."},
      {"group.min.session.timeout.ms", std::to_string(o.groups.min_session_timeout_ms),
       SettingType::kInt, "Least session timeout of a group's members."},
      {"num.partitions", std::to_string(o.topics.default_partitions), SettingType::kInt,
       "Partitions of a topic that does not say."},
      {"offset.metadata.max.bytes", std::to_string(o.groups.offset_metadata_max_bytes),
       SettingType::kInt, "Bytes that may go with a committed offset."},
      {"offsets.retention.check.interval.ms",
       std::to_string(
           std::chrono::duration_cast<std::chrono::milliseconds>(o.offsets_check_interval).count()),
       SettingType::kLong, "How often offsets are looked at for those to forget."},
      {"offsets.retention.minutes", std::to_string(o.groups.offsets_retention_ms / 60'000),
       SettingType::kInt, "How long offsets are kept that nobody uses."},
      {"offsets.topic.num.partitions", std::to_string(o.offsets_partitions), SettingType::kInt,
       "Partitions of __consumer_offsets, fixed when it is made."},
      {"producer.id.expiration.ms", std::to_string(o.producers.expiration_ms), SettingType::kInt,
       "When a silent idempotent producer is forgotten."},
  };
}

void describe_broker(Service& service, const catalog::Settings& defaults,
                     const std::optional<std::vector<std::string>>& names, bool documentation,
                     Described& out) {
  const auto wanted = [&](std::string_view name) {
    return !names || std::ranges::find(*names, name) != names->end();
  };
  for (auto& setting : broker_settings(service)) {
    if (!wanted(setting.name)) continue;
    auto& each = out.configs.emplace_back();
    each.name = setting.name;
    each.value = std::move(setting.value);
    each.read_only = true;
    each.config_source = kStaticBrokerSource;
    each.config_type = static_cast<std::int8_t>(setting.type);
    if (documentation) each.documentation = setting.help;
  }
  // The defaults for topics, under the brokers' names for them.
  for (const catalog::TopicSetting& setting : catalog::topic_settings()) {
    if (setting.synonym.empty() || !wanted(setting.synonym)) continue;
    auto& each = out.configs.emplace_back();
    each.name = std::string(setting.synonym);
    const auto changed = defaults.find(setting.synonym);
    each.value = changed == defaults.end() ? std::string(setting.default_value) : changed->second;
    each.config_source = static_cast<std::int8_t>(changed == defaults.end()
                                                      ? catalog::SettingSource::kDefault
                                                      : catalog::SettingSource::kClusterDefault);
    each.config_type = static_cast<std::int8_t>(setting.type);
    if (documentation) each.documentation = std::string(setting.help);
  }
}

bool is_this_broker(Service& service, const std::string& name) {
  return name.empty() || name == std::to_string(service.broker().node().value);
}

using ResourceName = std::pair<std::int8_t, std::string>;

template <typename Resource>
std::set<ResourceName> named_twice(const std::vector<Resource>& all) {
  std::set<ResourceName> seen;
  std::set<ResourceName> twice;
  for (const Resource& each : all) {
    ResourceName name(each.resource_type, each.resource_name);
    if (!seen.insert(name).second) twice.insert(std::move(name));
  }
  return twice;
}

broker::AdminOutcome unknown_resource(std::int8_t type, const std::string& name) {
  if (type == kBrokerResource) {
    return {KafkaError::kInvalidRequest, "there is no broker " + name};
  }
  return {KafkaError::kInvalidRequest,
          "resource type " + std::to_string(type) + " has no settings; 2 (topic) and 4 (broker) have"};
}

}  // namespace

Handled handle_describe_configs(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DescribeConfigsRequest>(request));
  wire::DescribeConfigsResponse out;
  const auto state = service.broker().catalog();
  for (const auto& resource : in.resources) {
    auto& to = out.results.emplace_back();
    to.resource_type = resource.resource_type;
    to.resource_name = resource.resource_name;
    auto names = resource.configuration_keys;
    if (names && names->empty()) names.reset();  // clients mean all by it, too
    if (resource.resource_type == kTopicResource) {
      if (const auto topic = state->topic(resource.resource_name)) {
        describe_topic(*topic, state->cluster_settings(), names, in.include_synonyms,
                       in.include_documentation, to);
      } else {
        const bool valid = is_valid_topic_name(resource.resource_name);
        to.error_code = code(valid ? KafkaError::kUnknownTopicOrPartition
                                   : KafkaError::kInvalidTopicException);
        to.error_message = "there is no topic " + resource.resource_name;
      }
    } else if (resource.resource_type == kBrokerResource &&
               is_this_broker(service, resource.resource_name)) {
      describe_broker(service, state->cluster_settings(), names, in.include_documentation, to);
    } else {
      const auto refused = unknown_resource(resource.resource_type, resource.resource_name);
      to.error_code = code(refused.error);
      to.error_message = refused.message;
    }
  }
  co_return reply(request, out);
}

Handled handle_alter_configs(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::AlterConfigsRequest>(request));
  wire::AlterConfigsResponse out;
  const auto twice = named_twice(in.resources);
  for (const auto& resource : in.resources) {
    broker::AdminOutcome outcome;
    catalog::SettingChanges settings;
    for (const auto& config : resource.configs) settings[config.name] = config.value;
    if (twice.contains({resource.resource_type, resource.resource_name})) {
      outcome = {KafkaError::kInvalidRequest, "the resource is named more than once"};
    } else if (settings.size() != resource.configs.size()) {
      outcome = {KafkaError::kInvalidRequest, "duplicate config keys: name each setting once"};
    } else if (resource.resource_type == kTopicResource) {
      outcome = co_await service.broker().replace_topic_settings(
          resource.resource_name, std::move(settings), in.validate_only);
    } else if (resource.resource_type == kBrokerResource &&
               is_this_broker(service, resource.resource_name)) {
      outcome = co_await service.broker().replace_defaults(std::move(settings), in.validate_only);
    } else {
      outcome = unknown_resource(resource.resource_type, resource.resource_name);
    }
    auto& to = out.responses.emplace_back();
    to.error_code = code(outcome.error);
    if (!outcome.message.empty()) to.error_message = outcome.message;
    to.resource_type = resource.resource_type;
    to.resource_name = resource.resource_name;
  }
  co_return reply(request, out);
}

Handled handle_incremental_alter_configs(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::IncrementalAlterConfigsRequest>(request));
  wire::IncrementalAlterConfigsResponse out;
  const auto twice = named_twice(in.resources);
  for (const auto& resource : in.resources) {
    std::vector<catalog::AlterSetting> changes;
    bool known_operations = true;
    for (const auto& config : resource.configs) {
      known_operations = known_operations && config.config_operation >= 0 &&
                         config.config_operation <= 3;
      changes.push_back({config.name, static_cast<catalog::AlterOp>(config.config_operation),
                         config.value});
    }
    broker::AdminOutcome outcome;
    if (twice.contains({resource.resource_type, resource.resource_name})) {
      outcome = {KafkaError::kInvalidRequest, "the resource is named more than once"};
    } else if (!known_operations) {
      outcome = {KafkaError::kInvalidRequest, "an operation is 0 set, 1 delete, 2 append or 3 subtract"};
    } else if (resource.resource_type == kTopicResource) {
      outcome = co_await service.broker().alter_topic(resource.resource_name, std::move(changes),
                                                      in.validate_only);
    } else if (resource.resource_type == kBrokerResource &&
               is_this_broker(service, resource.resource_name)) {
      outcome = co_await service.broker().alter_defaults(std::move(changes), in.validate_only);
    } else {
      outcome = unknown_resource(resource.resource_type, resource.resource_name);
    }
    auto& to = out.responses.emplace_back();
    to.error_code = code(outcome.error);
    if (!outcome.message.empty()) to.error_message = outcome.message;
    to.resource_type = resource.resource_type;
    to.resource_name = resource.resource_name;
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
