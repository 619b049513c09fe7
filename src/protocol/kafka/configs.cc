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
// Where a value comes from. All nodes share what was set for one of them, as long as there is one.
constexpr std::int8_t kDynamicBrokerSource = 2;
constexpr std::int8_t kClusterSource = static_cast<std::int8_t>(catalog::SettingSource::kClusterDefault);
constexpr std::int8_t kStaticBrokerSource = 4;
constexpr std::int8_t kDefaultSource = static_cast<std::int8_t>(catalog::SettingSource::kDefault);

using Described = wire::DescribeConfigsResponse::ResourceResult;

struct DescribeWhat {
  std::optional<std::vector<std::string>> names;  ///< none = all
  bool synonyms = false;
  bool documentation = false;
  [[nodiscard]] bool wants(std::string_view name) const {
    return !names || std::ranges::find(*names, name) != names->end();
  }
};

void describe_topic(const catalog::Topic& topic, const catalog::Settings& defaults,
                    const DescribeWhat& what, Described& out) {
  for (const auto& setting :
       catalog::describe_topic_settings(topic.settings, defaults, what.names)) {
    auto& each = out.configs.emplace_back();
    each.name = std::string(setting.setting->name);
    each.value = setting.value;
    each.config_source = static_cast<std::int8_t>(setting.source);
    each.config_type = static_cast<std::int8_t>(setting.setting->type);
    if (what.documentation) each.documentation = std::string(setting.setting->help);
    if (!what.synonyms) continue;
    for (const auto& synonym : setting.synonyms) {
      each.synonyms.push_back(
          {synonym.name, synonym.value, static_cast<std::int8_t>(synonym.source)});
    }
  }
}

/// What it takes in memory until it is encoded.
std::size_t size_of(const Described& described) {
  std::size_t bytes = sizeof described + described.resource_name.size();
  for (const auto& each : described.configs) {
    bytes += sizeof each + each.name.size() + each.value.value_or("").size() +
             each.documentation.value_or("").size();
    for (const auto& synonym : each.synonyms) {
      bytes += sizeof synonym + synonym.name.size() + synonym.value.value_or("").size();
    }
  }
  return bytes;
}

/// What the node was started with, and what it knows of itself.
std::vector<NodeSetting> node_settings(Service& service) {
  using catalog::SettingType;
  const broker::CatalogPtr state = service.broker().catalog();
  const catalog::Node* node = state->node(service.broker().node());
  const std::string id = std::to_string(service.broker().node().value);
  const std::string told =
      node == nullptr ? "" : "PLAINTEXT://" + node->host + ":" + std::to_string(node->port);
  std::vector<NodeSetting> all = {
      {"advertised.listeners", told, SettingType::kString, "Where clients are told to connect.", false},
      {"broker.id", id, SettingType::kInt, "The node's number.", false},
      {"delete.topic.enable", "true", SettingType::kBoolean, "Topics may be deleted.", true},
      {"node.id", id, SettingType::kInt, "The node's number.", false},
  };
  for (const NodeSetting& setting : service.options().settings) {
    all.push_back(setting);
    // Clients take it for a number of replicas.
    if (setting.name.ends_with(".replication.factor") && setting.value == "-1") {
      all.back().value = std::to_string(std::min<std::size_t>(3, state->nodes().size()));
    }
  }
  std::ranges::sort(all, {}, &NodeSetting::name);
  return all;
}

void describe_node(Service& service, const DescribeWhat& what, Described& out) {
  for (auto& setting : node_settings(service)) {
    if (!what.wants(setting.name)) continue;
    auto& each = out.configs.emplace_back();
    each.name = setting.name;
    each.value = setting.value;
    each.read_only = true;
    each.config_source = setting.is_default ? kDefaultSource : kStaticBrokerSource;
    each.config_type = static_cast<std::int8_t>(setting.type);
    if (what.documentation) each.documentation = std::string(setting.help);
    if (what.synonyms) each.synonyms.push_back({setting.name, setting.value, each.config_source});
  }
}

/// The defaults for topics, under the brokers' names for them. A broker by its name, or with an empty
/// one the cluster: of that only what somebody has set is told.
void describe_defaults(const catalog::Settings& defaults, bool cluster, const DescribeWhat& what,
                       Described& out) {
  const std::int8_t dynamic = cluster ? kClusterSource : kDynamicBrokerSource;
  for (const catalog::TopicSetting& setting : catalog::topic_settings()) {
    if (setting.synonym.empty() || !what.wants(setting.synonym)) continue;
    const auto changed = defaults.find(setting.synonym);
    const bool set = changed != defaults.end();
    if (cluster && !set) continue;
    auto& each = out.configs.emplace_back();
    each.name = std::string(setting.synonym);
    each.value = set ? changed->second : std::string(setting.default_value);
    each.config_source = set ? dynamic : kDefaultSource;
    each.config_type = static_cast<std::int8_t>(setting.type);
    if (what.documentation) each.documentation = std::string(setting.help);
    if (!what.synonyms) continue;
    if (set) each.synonyms.push_back({each.name, each.value, dynamic});
    each.synonyms.push_back({each.name, std::string(setting.default_value), kDefaultSource});
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
    DescribeWhat what{resource.configuration_keys, in.include_synonyms, in.include_documentation};
    if (what.names && what.names->empty()) what.names.reset();  // clients mean all by it, too
    if (resource.resource_type == kTopicResource) {
      if (const auto topic = state->topic(resource.resource_name)) {
        describe_topic(*topic, state->cluster_settings(), what, to);
      } else {
        const bool valid = is_valid_topic_name(resource.resource_name);
        to.error_code = code(valid ? KafkaError::kUnknownTopicOrPartition
                                   : KafkaError::kInvalidTopicException);
        to.error_message = "there is no topic " + resource.resource_name;
      }
    } else if (resource.resource_type == kBrokerResource &&
               is_this_broker(service, resource.resource_name)) {
      const bool cluster = resource.resource_name.empty();
      if (!cluster) describe_node(service, what, to);
      describe_defaults(state->cluster_settings(), cluster, what, to);
    } else {
      const auto refused = unknown_resource(resource.resource_type, resource.resource_name);
      to.error_code = code(refused.error);
      to.error_message = refused.message;
    }
    PYRALOG_CO_TRY(request.take_room(size_of(to)));
  }
  co_return reply(request, out);
}

namespace {

/// Says which settings cannot be changed while the node runs. Of one request: it keeps the names.
class Fixed {
 public:
  explicit Fixed(Service& service) : service_(service) {}
  /// Why `name` cannot be set; no error if this says nothing against it.
  broker::AdminOutcome refusal(const std::string& name) {
    if (names_.empty()) {
      for (const NodeSetting& each : node_settings(service_)) names_.insert(each.name);
    }
    if (!names_.contains(name)) return {};
    return {KafkaError::kInvalidConfig,
            "setting " + name + ": it is read when the node starts; change it in the node's "
            "configuration and start it anew"};
  }

 private:
  Service& service_;
  std::set<std::string> names_;
};

}  // namespace

Handled handle_alter_configs(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::AlterConfigsRequest>(request));
  wire::AlterConfigsResponse out;
  Fixed fixed(service);
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
      for (const auto& [name, value] : settings) {
        if (outcome.error == KafkaError::kNone) outcome = fixed.refusal(name);
      }
      if (outcome.error == KafkaError::kNone) {
        outcome = co_await service.broker().replace_defaults(std::move(settings), in.validate_only);
      }
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
  Fixed fixed(service);
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
      for (const catalog::AlterSetting& change : changes) {
        const bool sets = change.op != catalog::AlterOp::kDelete;
        if (sets && outcome.error == KafkaError::kNone) outcome = fixed.refusal(change.name);
      }
      if (outcome.error == KafkaError::kNone) {
        outcome = co_await service.broker().alter_defaults(std::move(changes), in.validate_only);
      }
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
