#include "client/admin.h"

#include <algorithm>

#include "wire/kafka/gen/create_partitions.h"
#include "wire/kafka/gen/create_topics.h"
#include "wire/kafka/gen/delete_topics.h"
#include "wire/kafka/gen/describe_configs.h"
#include "wire/kafka/gen/incremental_alter_configs.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {

constexpr std::int8_t kTopicResource = 2;
constexpr std::int8_t kSourceTopic = 1;

std::int32_t ms_until(Instant deadline) {
  const auto left = deadline - io::Shard::current().now();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(left).count();
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(ms, 1, 60'000));
}

std::string topic_text(const std::string& name) {
  return "topic \"" + name + "\"";
}

}  // namespace

io::Task<Result<void>> Admin::create_topic(NewTopic topic, Instant deadline) {
  kafka::CreateTopicsRequest request;
  request.timeout_ms = ms_until(deadline);
  auto& wanted = request.topics.emplace_back();
  wanted.name = topic.name;
  wanted.num_partitions = topic.partitions;
  wanted.replication_factor = topic.replication_factor;
  for (const auto& [name, value] : topic.config) wanted.configs.push_back({name, value});
  PYRALOG_CO_ASSIGN(const auto reply, co_await cluster_.call_any<kafka::CreateTopicsResponse>(
                                          std::move(request), deadline));
  cluster_.forget_topic(topic.name);
  for (const auto& each : reply.message.topics) {
    if (each.error_code != 0) {
      co_return fail(to_error(topic_text(each.name), each.error_code, each.error_message));
    }
  }
  co_return Result<void>();
}

io::Task<Result<void>> Admin::delete_topics(std::vector<std::string> names, Instant deadline) {
  kafka::DeleteTopicsRequest request;
  request.timeout_ms = ms_until(deadline);
  request.topic_names = names;
  for (const std::string& name : names) request.topics.push_back({name, {}});
  PYRALOG_CO_ASSIGN(const auto reply, co_await cluster_.call_any<kafka::DeleteTopicsResponse>(
                                          std::move(request), deadline));
  for (const std::string& name : names) cluster_.forget_topic(name);
  for (const auto& each : reply.message.responses) {
    if (each.error_code == 0) continue;
    co_return fail(
        to_error(topic_text(each.name.value_or("?")), each.error_code, each.error_message));
  }
  co_return Result<void>();
}

io::Task<Result<void>> Admin::grow_topic(std::string name, std::int32_t partitions,
                                         Instant deadline) {
  kafka::CreatePartitionsRequest request;
  request.timeout_ms = ms_until(deadline);
  auto& topic = request.topics.emplace_back();
  topic.name = name;
  topic.count = partitions;
  PYRALOG_CO_ASSIGN(const auto reply, co_await cluster_.call_any<kafka::CreatePartitionsResponse>(
                                          std::move(request), deadline));
  cluster_.forget_topic(name);
  for (const auto& each : reply.message.results) {
    if (each.error_code != 0) {
      co_return fail(to_error(topic_text(each.name), each.error_code, each.error_message));
    }
  }
  co_return Result<void>();
}

io::Task<Result<std::vector<ConfigEntry>>> Admin::topic_config(std::string name, Instant deadline) {
  kafka::DescribeConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.resource_type = kTopicResource;
  resource.resource_name = name;
  PYRALOG_CO_ASSIGN(const auto reply, co_await cluster_.call_any<kafka::DescribeConfigsResponse>(
                                          std::move(request), deadline));
  std::vector<ConfigEntry> found;
  for (const auto& result : reply.message.results) {
    if (result.error_code != 0) {
      co_return fail(to_error(topic_text(name), result.error_code, result.error_message));
    }
    for (const auto& config : result.configs) {
      found.push_back(
          {config.name, config.value, config.config_source, config.config_source != kSourceTopic});
    }
  }
  std::ranges::sort(found, {}, &ConfigEntry::name);
  co_return found;
}

io::Task<Result<void>> Admin::alter_topic_config(
    std::string name, std::vector<std::pair<std::string, std::optional<std::string>>> changes,
    Instant deadline) {
  kafka::IncrementalAlterConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.resource_type = kTopicResource;
  resource.resource_name = name;
  for (const auto& [key, value] : changes) {
    const std::int8_t operation = value ? 0 : 1;
    resource.configs.push_back({key, operation, value});
  }
  PYRALOG_CO_ASSIGN(const auto reply,
                    co_await cluster_.call_any<kafka::IncrementalAlterConfigsResponse>(
                        std::move(request), deadline));
  for (const auto& each : reply.message.responses) {
    if (each.error_code != 0) {
      co_return fail(to_error(topic_text(name), each.error_code, each.error_message));
    }
  }
  co_return Result<void>();
}

}  // namespace pyralog::client
