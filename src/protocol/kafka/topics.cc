#include <algorithm>
#include <set>

#include "protocol/kafka/service.h"
#include "wire/kafka/gen/create_partitions.h"
#include "wire/kafka/gen/create_topics.h"
#include "wire/kafka/gen/delete_topics.h"

namespace pyralog::protocol::kafka {

namespace {

std::optional<std::string> message_of(const broker::AdminOutcome& outcome) {
  if (outcome.message.empty()) return std::nullopt;
  return outcome.message;
}

catalog::CreateTopic plan_of(const wire::CreateTopicsRequest::Topic& topic) {
  catalog::CreateTopic create;
  create.name = topic.name;
  create.partitions = topic.num_partitions;
  create.replication_factor = topic.replication_factor;
  for (const auto& assignment : topic.assignments) {
    auto& nodes = create.assignment[assignment.partition_index];
    for (const std::int32_t id : assignment.broker_ids) nodes.emplace_back(id);
  }
  for (const auto& config : topic.configs) create.settings[config.name] = config.value;
  return create;
}

void describe_settings(const catalog::Settings& settings, const catalog::Settings& defaults,
                       wire::CreateTopicsResponse::Topic& out) {
  out.configs.emplace();
  for (const auto& setting : catalog::describe_topic_settings(settings, defaults, std::nullopt)) {
    auto& each = out.configs->emplace_back();
    each.name = std::string(setting.setting->name);
    each.value = setting.value;
    each.config_source = static_cast<std::int8_t>(setting.source);
  }
}

template <typename Topics, typename Name>
std::set<std::string> repeated(const Topics& topics, Name name_of) {
  std::set<std::string> seen;
  std::set<std::string> twice;
  for (const auto& topic : topics) {
    if (!seen.insert(name_of(topic)).second) twice.insert(name_of(topic));
  }
  return twice;
}

}  // namespace

Handled handle_create_topics(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::CreateTopicsRequest>(request));
  wire::CreateTopicsResponse out;
  const auto twice = repeated(in.topics, [](const auto& t) { return t.name; });
  std::set<std::string> answered;
  for (const auto& topic : in.topics) {
    if (!answered.insert(topic.name).second) continue;
    auto& to = out.topics.emplace_back();
    to.name = topic.name;
    if (twice.contains(topic.name)) {
      to.error_code = code(KafkaError::kInvalidRequest);
      to.error_message = "topic " + topic.name + " is named more than once";
      continue;
    }
    const auto outcome =
        co_await service.broker().create_topic(plan_of(topic), in.validate_only);
    to.error_code = code(outcome.error);
    to.error_message = message_of(outcome);
    if (outcome.error != KafkaError::kNone) continue;
    const auto state = service.broker().catalog();
    to.num_partitions = outcome.partitions;
    to.replication_factor = outcome.replication_factor;
    catalog::Settings settings;
    for (const auto& config : topic.configs) settings[config.name] = config.value.value_or("");
    describe_settings(settings, state->cluster_settings(), to);
    for (const auto& each : *to.configs) {
      PYRALOG_CO_TRY(request.take_room(sizeof each + each.name.size() + each.value.value_or("").size()));
    }
    const auto made = state->topic(topic.name);
    if (made != nullptr && !in.validate_only) to.topic_id = made->id.uuid;
  }
  co_return reply(request, out);
}

Handled handle_delete_topics(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DeleteTopicsRequest>(request));
  wire::DeleteTopicsResponse out;
  struct Target {
    std::optional<std::string> name;
    Uuid id;
  };
  std::vector<Target> targets;
  for (const auto& name : in.topic_names) targets.push_back({name, {}});
  for (const auto& topic : in.topics) targets.push_back({topic.name, topic.topic_id});
  const auto text_of = [](const Target& t) { return t.name ? "n" + *t.name : "i" + to_string(t.id); };
  const auto twice = repeated(targets, text_of);
  for (Target& target : targets) {
    auto& to = out.responses.emplace_back();
    // With both or neither it is not clear which one is meant.
    const bool clear = target.name.has_value() == target.id.is_nil();
    if (!clear || twice.contains(text_of(target))) {
      to.name = target.name;
      to.topic_id = target.id;
      to.error_code = code(KafkaError::kInvalidRequest);
      to.error_message = clear ? "the topic is named more than once"
                               : "a topic is named either by name or by id";
      continue;
    }
    const auto state = service.broker().catalog();
    const auto topic =
        target.name ? state->topic(*target.name) : state->topic(TopicId{target.id});
    if (topic == nullptr) {
      to.name = target.name;
      to.topic_id = target.id;
      to.error_code = code(target.name ? KafkaError::kUnknownTopicOrPartition
                                       : KafkaError::kUnknownTopicId);
      to.error_message = "there is no such topic; check the name";
      continue;
    }
    to.name = topic->name;
    to.topic_id = topic->id.uuid;
    const auto outcome = co_await service.broker().delete_topic(topic->id);
    to.error_code = code(outcome.error);
    to.error_message = message_of(outcome);
  }
  co_return reply(request, out);
}

Handled handle_create_partitions(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::CreatePartitionsRequest>(request));
  wire::CreatePartitionsResponse out;
  const auto twice = repeated(in.topics, [](const auto& t) { return t.name; });
  std::set<std::string> answered;
  for (const auto& topic : in.topics) {
    if (!answered.insert(topic.name).second) continue;
    auto& to = out.results.emplace_back();
    to.name = topic.name;
    if (twice.contains(topic.name)) {
      to.error_code = code(KafkaError::kInvalidRequest);
      to.error_message = "topic " + topic.name + " is named more than once";
      continue;
    }
    catalog::CreatePartitions create;
    create.name = topic.name;
    create.count = topic.count;
    if (topic.assignments) {
      create.assignments.emplace();
      for (const auto& assignment : *topic.assignments) {
        auto& nodes = create.assignments->emplace_back();
        for (const std::int32_t id : assignment.broker_ids) nodes.emplace_back(id);
      }
    }
    const auto outcome =
        co_await service.broker().create_partitions(std::move(create), in.validate_only);
    to.error_code = code(outcome.error);
    to.error_message = message_of(outcome);
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
