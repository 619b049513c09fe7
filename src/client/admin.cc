#include "client/admin.h"

#include <algorithm>
#include <map>
#include <memory>

#include "wire/kafka/gen/create_partitions.h"
#include "wire/kafka/gen/create_topics.h"
#include "wire/kafka/gen/delete_records.h"
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

namespace {

kafka::DeleteRecordsRequest delete_request(const Offsets& before, Instant deadline) {
  kafka::DeleteRecordsRequest request;
  request.timeout_ms = ms_until(deadline);
  for (const auto& [partition, offset] : before) {
    if (request.topics.empty() || request.topics.back().name != partition.topic) {
      request.topics.emplace_back().name = partition.topic;
    }
    request.topics.back().partitions.push_back({partition.partition, offset});
  }
  return request;
}

/// What becomes of the partitions of one call of delete_records.
struct Deletion {
  Offsets open;
  Offsets starts;
  std::optional<Error> refused;  ///< the first that trying again does not help
  Error passing{Code::kTimedOut, "records: not deleted in time", 0};

  void note(const TopicPartition& partition, Error error, bool again) {
    if (again) {
      passing = std::move(error);
      return;
    }
    if (!refused) refused = std::move(error);
    open.erase(partition);
  }
};

Error deletion_error(const TopicPartition& partition, std::int16_t code) {
  std::optional<std::string> said;
  if (static_cast<KafkaError>(code) == KafkaError::kPolicyViolation) {
    said =
        "records of a topic that is compacted only cannot be deleted by offset; write "
        "tombstones, or add delete to its cleanup.policy";
  }
  return to_error(to_string(partition), code, said);
}

/// One round over the leaders of what is open.
io::Task<void> delete_at_leaders(Cluster& cluster, Deletion& work, Instant deadline) {
  std::map<std::shared_ptr<Connection>, Offsets> by_leader;
  const Offsets all = work.open;
  for (const auto& [partition, offset] : all) {
    auto leader = co_await cluster.leader(partition, deadline);
    if (leader) {
      by_leader[*leader].emplace(partition, offset);
    } else {
      work.note(partition, leader.error(), is_retriable(leader.error()));
    }
  }
  for (const auto& [connection, before] : by_leader) {
    const Instant end = cluster.attempt_end(deadline);
    const auto reply =
        co_await connection->call<kafka::DeleteRecordsResponse>(delete_request(before, end), end);
    if (!reply) {
      for (const auto& [partition, offset] : before) {
        work.note(partition, reply.error(), is_retriable(reply.error()));
      }
      continue;
    }
    for (const auto& topic : reply->message.topics) {
      for (const auto& answer : topic.partitions) {
        const TopicPartition partition{topic.name, answer.partition_index};
        if (answer.error_code == 0) {
          work.starts[partition] = answer.low_watermark;
          work.open.erase(partition);
          continue;
        }
        const ErrorTraits& traits = traits_of(answer.error_code);
        if (traits.stale_metadata) cluster.forget_topic(topic.name);
        work.note(partition, deletion_error(partition, answer.error_code), traits.retriable);
      }
    }
  }
}

}  // namespace

io::Task<Result<Offsets>> Admin::delete_records(Offsets before, Instant deadline) {
  Deletion work;
  work.open = std::move(before);
  io::Backoff backoff(cluster_.options().backoff);
  for (;;) {
    co_await delete_at_leaders(cluster_, work, deadline);
    if (work.open.empty()) break;
    if (!co_await backoff.wait(deadline)) {
      co_return fail(work.refused ? *work.refused : work.passing);
    }
  }
  if (work.refused) co_return fail(*work.refused);
  co_return work.starts;
}

}  // namespace pyralog::client
