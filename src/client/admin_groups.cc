// Groups: what there is, and what an administrator does to their offsets.
#include <algorithm>

#include "client/admin.h"
#include "group/assignor.h"
#include "wire/kafka/gen/delete_groups.h"
#include "wire/kafka/gen/describe_groups.h"
#include "wire/kafka/gen/list_groups.h"
#include "wire/kafka/gen/offset_commit.h"
#include "wire/kafka/gen/offset_delete.h"
#include "wire/kafka/gen/offset_fetch.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {

std::string group_text(const std::string& group) {
  return "group \"" + group + "\"";
}

/// True of what a coordinator answers to a whole request, and elsewhere or later may not.
bool concerns_coordinator(std::int16_t code) {
  return traits_of(code).stale_coordinator ||
         static_cast<KafkaError>(code) == KafkaError::kCoordinatorLoadInProgress;
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
    const Error error = reply ? to_error(group_text(group), code) : reply.error();
    const bool again = reply ? traits_of(code).retriable : is_retriable(error);
    cluster.forget_coordinator(group);
    if (!again || !co_await backoff.wait(deadline)) co_return fail(error);
  }
}

}  // namespace

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
    co_return fail(Code::kNotFound,
                   "group \"" + group + "\": there is no such group; check the name");
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

io::Task<Result<void>> Admin::commit_offsets(std::string group, Offsets offsets, Instant deadline) {
  kafka::OffsetCommitRequest request;
  request.group_id = group;
  for (const auto& [partition, offset] : offsets) {
    if (request.topics.empty() || request.topics.back().name != partition.topic) {
      request.topics.emplace_back().name = partition.topic;
    }
    kafka::OffsetCommitRequest::Partition each;
    each.partition_index = partition.partition;
    each.committed_offset = offset;
    each.committed_metadata = "";
    request.topics.back().partitions.push_back(std::move(each));
  }
  const auto code_of = [](const kafka::OffsetCommitResponse& message) {
    for (const auto& topic : message.topics) {
      for (const auto& partition : topic.partitions) {
        if (concerns_coordinator(partition.error_code)) return partition.error_code;
      }
    }
    return std::int16_t{0};
  };
  PYRALOG_CO_ASSIGN(const auto reply, co_await ask_coordinator<kafka::OffsetCommitResponse>(
                                          cluster_, group, std::move(request), code_of, deadline));
  for (const auto& topic : reply.message.topics) {
    for (const auto& partition : topic.partitions) {
      const std::int16_t code = partition.error_code;
      if (code == 0) continue;
      // Without a member's name the coordinator takes commits of empty groups only.
      if (static_cast<KafkaError>(code) == KafkaError::kUnknownMemberId) {
        co_return fail(
            to_error(group_text(group), static_cast<std::int16_t>(KafkaError::kNonEmptyGroup)));
      }
      co_return fail(to_error(group_text(group) + ": " +
                                  to_string(TopicPartition{topic.name, partition.partition_index}),
                              code));
    }
  }
  co_return Result<void>();
}

io::Task<Result<void>> Admin::delete_group(std::string group, Instant deadline) {
  kafka::DeleteGroupsRequest request;
  request.groups_names = {group};
  const auto code_of = [](const kafka::DeleteGroupsResponse& message) {
    return message.results.empty() ? std::int16_t{0} : message.results.front().error_code;
  };
  PYRALOG_CO_TRY(co_await ask_coordinator<kafka::DeleteGroupsResponse>(
      cluster_, group, std::move(request), code_of, deadline));
  co_return Result<void>();
}

io::Task<Result<void>> Admin::delete_offsets(std::string group, std::set<TopicPartition> partitions,
                                             Instant deadline) {
  kafka::OffsetDeleteRequest request;
  request.group_id = group;
  for (const auto& partition : partitions) {
    if (request.topics.empty() || request.topics.back().name != partition.topic) {
      request.topics.emplace_back().name = partition.topic;
    }
    request.topics.back().partitions.push_back({partition.partition});
  }
  const auto code_of = [](const kafka::OffsetDeleteResponse& message) {
    return message.error_code;
  };
  PYRALOG_CO_ASSIGN(const auto reply, co_await ask_coordinator<kafka::OffsetDeleteResponse>(
                                          cluster_, group, std::move(request), code_of, deadline));
  for (const auto& topic : reply.message.topics) {
    for (const auto& partition : topic.partitions) {
      if (partition.error_code == 0) continue;
      co_return fail(to_error(group_text(group) + ": " +
                                  to_string(TopicPartition{topic.name, partition.partition_index}),
                              partition.error_code));
    }
  }
  co_return Result<void>();
}

}  // namespace pyralog::client
