#include "client/admin.h"

#include <algorithm>

#include "group/assignor.h"
#include "wire/kafka/gen/create_partitions.h"
#include "wire/kafka/gen/create_topics.h"
#include "wire/kafka/gen/delete_topics.h"
#include "wire/kafka/gen/describe_configs.h"
#include "wire/kafka/gen/describe_groups.h"
#include "wire/kafka/gen/incremental_alter_configs.h"
#include "wire/kafka/gen/list_groups.h"
#include "wire/kafka/gen/offset_fetch.h"

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

/// One coordinator's answer to a group request; tries again while an error may pass.
template <typename Response, typename Request, typename CodeOf>
io::Task<Result<Reply<Response>>> ask_coordinator(Cluster& cluster, std::string group,
                                                  Request request, CodeOf code_of,
                                                  Instant deadline) {
  io::Backoff backoff(cluster.options().backoff);
  for (;;) {
    PYRALOG_CO_ASSIGN(auto coordinator, co_await cluster.coordinator(group, deadline));
    auto reply =
        co_await coordinator->template call<Response>(request, cluster.attempt_end(deadline));
    const std::int16_t code = reply ? code_of(reply->message) : std::int16_t{0};
    if (reply && code == 0) co_return reply;
    const Error error = reply ? to_error("group \"" + group + "\"", code) : reply.error();
    const bool again = reply ? traits_of(code).retriable : is_retriable(error);
    cluster.forget_coordinator(group);
    if (!again || !co_await backoff.wait(deadline)) co_return fail(error);
  }
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

io::Task<Result<std::vector<GroupListing>>> Admin::list_groups(Instant deadline) {
  PYRALOG_CO_TRY(co_await cluster_.all_topics(deadline));
  std::vector<GroupListing> found;
  const auto nodes = cluster_.nodes();
  for (const auto& [id, address] : nodes) {
    PYRALOG_CO_ASSIGN(auto connection, co_await cluster_.node(id, deadline));
    PYRALOG_CO_ASSIGN(const auto reply,
                      co_await connection->call<kafka::ListGroupsResponse>(
                          kafka::ListGroupsRequest{}, cluster_.attempt_end(deadline)));
    if (reply.message.error_code != 0) {
      co_return fail(to_error("groups", reply.message.error_code));
    }
    for (const auto& group : reply.message.groups) {
      found.push_back({group.group_id, group.protocol_type, group.group_state});
    }
  }
  std::ranges::sort(found, {}, &GroupListing::group);
  co_return found;
}

io::Task<Result<GroupDescription>> Admin::describe_group(std::string group, Instant deadline) {
  kafka::DescribeGroupsRequest request;
  request.groups = {group};
  const auto code_of = [](const kafka::DescribeGroupsResponse& message) {
    return message.groups.empty() ? std::int16_t{0} : message.groups.front().error_code;
  };
  PYRALOG_CO_ASSIGN(const auto reply, co_await ask_coordinator<kafka::DescribeGroupsResponse>(
                                          cluster_, group, std::move(request), code_of, deadline));
  GroupDescription description;
  description.group = group;
  for (const auto& each : reply.message.groups) {
    description.state = each.group_state;
    description.protocol_type = each.protocol_type;
    description.protocol = each.protocol_data;
    for (const auto& member : each.members) {
      GroupMember into{
          member.member_id, member.group_instance_id, member.client_id, member.client_host, {}};
      const auto assignment = group::decode_assignment(member.member_assignment);
      if (assignment) {
        for (const auto& [topic, partition] : assignment->partitions) {
          into.assigned.push_back({topic, partition});
        }
      }
      description.members.push_back(std::move(into));
    }
  }
  PYRALOG_CO_ASSIGN(description.offsets, co_await group_offsets(group, deadline));
  const bool unknown = description.state.empty() || description.state == "Dead";
  if (unknown && description.offsets.empty()) {
    co_return fail(Code::kNotFound, "group \"" + group + "\": there is no such group; check the name");
  }
  co_return description;
}

io::Task<Result<Offsets>> Admin::group_offsets(std::string group, Instant deadline) {
  kafka::OffsetFetchRequest request;
  request.group_id = group;
  request.groups.emplace_back().group_id = group;
  const auto code_of = [](const kafka::OffsetFetchResponse& message) {
    return message.groups.empty() ? message.error_code : message.groups.front().error_code;
  };
  PYRALOG_CO_ASSIGN(const auto reply, co_await ask_coordinator<kafka::OffsetFetchResponse>(
                                          cluster_, group, std::move(request), code_of, deadline));
  Offsets found;
  const auto take = [&](const auto& topics) {
    for (const auto& topic : topics) {
      for (const auto& partition : topic.partitions) {
        if (partition.committed_offset < 0) continue;
        found[{topic.name, partition.partition_index}] = partition.committed_offset;
      }
    }
  };
  take(reply.message.topics);
  for (const auto& each : reply.message.groups) take(each.topics);
  co_return found;
}

}  // namespace pyralog::client
