#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "base/plant.h"
#include "group/messages.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/delete_groups.h"
#include "wire/kafka/gen/describe_groups.h"
#include "wire/kafka/gen/heartbeat.h"
#include "wire/kafka/gen/join_group.h"
#include "wire/kafka/gen/leave_group.h"
#include "wire/kafka/gen/list_groups.h"
#include "wire/kafka/gen/offset_commit.h"
#include "wire/kafka/gen/offset_delete.h"
#include "wire/kafka/gen/offset_fetch.h"
#include "wire/kafka/gen/sync_group.h"

namespace pyralog::protocol::kafka {

namespace {

/// Operations that a client may do with a group, as bits: all that exist, as nobody is refused yet.
constexpr std::int32_t kGroupOperations = 328;  // read delete describe

/// Asks the group's coordinator and yields its typed answer, or why there is no coordinator; how
/// long that took is added to `spent`.
template <typename Answer, typename Question>
io::Task<std::expected<Answer, KafkaError>> ask(Service& service, std::string group,
                                                Question question, Duration& spent) {
  const Instant began = io::Shard::current().now();
  auto answer = co_await service.broker().with_group(
      group, [&](broker::GroupHost& host) -> io::Task<group::Response> {
        co_return co_await host.ask(group::Input(std::move(question)));
      });
  spent += io::Shard::current().now() - began;
  if (!answer) co_return std::unexpected(answer.error());
  co_return std::get<Answer>(std::move(*answer));
}

std::string random_suffix() {
  Uuid id;
  io::Shard::current().rng().fill(id.bytes);
  return to_string(id);
}

}  // namespace

Handled handle_join_group(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(auto in, decode<wire::JoinGroupRequest>(request));
  group::JoinRequest join;
  join.group = in.group_id;
  join.member_id = in.member_id;
  join.instance_id = in.group_instance_id;
  join.client_id = request.client_id();
  join.client_host = "/" + request.client_host;  // as Java prints an address, and tools expect it
  join.protocol_type = in.protocol_type;
  for (auto& protocol : in.protocols) {
    join.protocols.push_back({std::move(protocol.name), std::move(protocol.metadata)});
  }
  join.session_timeout_ms = in.session_timeout_ms;
  join.rebalance_timeout_ms =
      request.version() == 0 ? in.session_timeout_ms : in.rebalance_timeout_ms;
  join.require_known_member_id = request.version() >= 4;
  join.supports_skipping_assignment = request.version() >= 9;
  join.new_member_id =
      (in.group_instance_id ? *in.group_instance_id : request.client_id()) + "-" + random_suffix();
  const auto answer = co_await ask<group::JoinResponse>(service, in.group_id, std::move(join),
                                                        request.times->meant);
  wire::JoinGroupResponse out;
  if (!answer) {
    out.error_code = code(answer.error());
    out.member_id = in.member_id;
    out.protocol_name = "";
    co_return reply(request, out);
  }
  out.error_code = code(answer->error);
  out.generation_id = answer->generation;
  out.protocol_type = answer->protocol_type;
  out.protocol_name = answer->protocol_name;
  if (request.version() < 7 && !out.protocol_name) out.protocol_name = "";
  out.leader = answer->leader;
  out.skip_assignment = answer->skip_assignment;
  out.member_id = answer->member_id;
  for (const auto& member : answer->members) {
    out.members.push_back({member.member_id, member.instance_id, member.metadata});
  }
  co_return reply(request, out);
}

Handled handle_sync_group(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(auto in, decode<wire::SyncGroupRequest>(request));
  group::SyncRequest sync;
  sync.group = in.group_id;
  sync.generation = in.generation_id;
  sync.member_id = in.member_id;
  sync.instance_id = in.group_instance_id;
  sync.protocol_type = in.protocol_type;
  sync.protocol_name = in.protocol_name;
  for (auto& each : in.assignments) {
    sync.assignments.push_back({std::move(each.member_id), std::move(each.assignment)});
  }
  // The leader waits for its assignment to be stored, the others for the leader.
  Duration& spent = sync.assignments.empty() ? request.times->meant : request.times->disk;
  const auto answer =
      co_await ask<group::SyncResponse>(service, in.group_id, std::move(sync), spent);
  wire::SyncGroupResponse out;
  if (!answer) {
    out.error_code = code(answer.error());
    co_return reply(request, out);
  }
  out.error_code = code(answer->error);
  out.protocol_type = answer->protocol_type;
  out.protocol_name = answer->protocol_name;
  out.assignment = answer->assignment;
  co_return reply(request, out);
}

Handled handle_heartbeat(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::HeartbeatRequest>(request));
  group::HeartbeatRequest beat;
  beat.group = in.group_id;
  beat.generation = in.generation_id;
  beat.member_id = in.member_id;
  beat.instance_id = in.group_instance_id;
  const auto answer = co_await ask<group::HeartbeatResponse>(service, in.group_id, std::move(beat),
                                                             request.times->disk);
  wire::HeartbeatResponse out;
  out.error_code = code(answer ? answer->error : answer.error());
  co_return reply(request, out);
}

Handled handle_leave_group(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::LeaveGroupRequest>(request));
  group::LeaveRequest leave;
  leave.group = in.group_id;
  if (request.version() < 3) leave.members.push_back({in.member_id, std::nullopt});
  for (const auto& member : in.members) {
    leave.members.push_back({member.member_id, member.group_instance_id});
  }
  const auto answer = co_await ask<group::LeaveResponse>(service, in.group_id, std::move(leave),
                                                         request.times->disk);
  wire::LeaveGroupResponse out;
  if (!answer) {
    out.error_code = code(answer.error());
    co_return reply(request, out);
  }
  out.error_code = code(answer->error);
  if (request.version() < 3 && answer->error == KafkaError::kNone && !answer->members.empty()) {
    out.error_code = code(answer->members.front().error);
  }
  for (const auto& member : answer->members) {
    out.members.push_back({member.member_id, member.instance_id, code(member.error)});
  }
  co_return reply(request, out);
}

Handled handle_offset_commit(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::OffsetCommitRequest>(request));
  group::CommitRequest commit;
  commit.group = in.group_id;
  commit.generation = in.generation_id_or_member_epoch;
  commit.member_id = in.member_id;
  commit.instance_id = in.group_instance_id;
  commit.retention_ms = in.retention_time_ms;
  const auto exists = [](const catalog::TopicPtr& topic, std::int32_t partition) {
    return topic != nullptr && partition >= 0 &&
           static_cast<std::size_t>(partition) < topic->partitions.size();
  };
  std::vector<catalog::TopicPtr> meant;  // as it was named when the request came
  for (const auto& topic : in.topics) {
    PYRALOG_CO_TRY(request.take_room(topic.partitions.size() *
                                      (sizeof(group::OffsetEntry) + topic.name.size())));
    meant.push_back(service.broker().catalog()->topic(topic.name));
  }
  const Instant began = io::Shard::current().now();
  auto answer = co_await service.broker().with_group(
      in.group_id, [&](broker::GroupHost& host) -> io::Task<group::Response> {
        // A coordinator has forgotten what its shard knows to be deleted, and must not learn it
        // anew.
        const auto state = service.broker().catalog();
        for (std::size_t i = 0; i < in.topics.size(); ++i) {
          if (meant[i] != nullptr && state->topic(meant[i]->id) == nullptr &&
              !PYRALOG_PLANT("kafka.commit_for_deleted")) {
            meant[i] = nullptr;
          }
          for (const auto& partition : in.topics[i].partitions) {
            if (!exists(meant[i], partition.partition_index)) continue;
            commit.partitions.push_back(
                {in.topics[i].name, partition.partition_index, partition.committed_offset,
                 partition.committed_leader_epoch, partition.committed_metadata.value_or("")});
          }
        }
        co_return co_await host.ask(group::Input(std::move(commit)));
      });
  request.times->disk = io::Shard::current().now() - began;
  wire::OffsetCommitResponse out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < in.topics.size(); ++i) {
    const auto& topic = in.topics[i];
    auto& to = out.topics.emplace_back();
    to.name = topic.name;
    for (const auto& partition : topic.partitions) {
      auto& each = to.partitions.emplace_back();
      each.partition_index = partition.partition_index;
      if (!answer) {
        each.error_code = code(answer.error());
      } else if (!exists(meant[i], partition.partition_index)) {
        each.error_code = code(KafkaError::kUnknownTopicOrPartition);
      } else {
        each.error_code = code(std::get<group::CommitResponse>(*answer).partitions[next++].error);
      }
    }
  }
  co_return reply(request, out);
}

namespace {

io::Task<group::FetchOffsetsResponse> fetch_offsets(Service& service,
                                                    group::FetchOffsetsRequest question) {
  const std::string group = question.group;
  auto answer = co_await service.broker().with_group(
      group, [&](broker::GroupHost& host) -> io::Task<group::FetchOffsetsResponse> {
        co_return host.table().fetch_offsets(question);
      });
  if (answer) co_return std::move(*answer);
  group::FetchOffsetsResponse refused;
  refused.error = answer.error();
  co_return refused;
}

template <typename Topics>
group::FetchOffsetsRequest question_of(const std::string& group, const std::optional<Topics>& topics,
                                       bool none_is_all) {
  group::FetchOffsetsRequest question;
  question.group = group;
  if (topics && (!none_is_all || !topics->empty())) {
    question.topics.emplace();
    for (const auto& topic : *topics) {
      question.topics->push_back({topic.name, topic.partition_indexes});
    }
  }
  return question;
}

/// Takes room for the copies of names that a question about offsets makes, before it makes them.
template <typename Topics>
Result<void> take_room(const Request& request, const std::optional<Topics>& topics) {
  if (!topics) return {};
  for (const auto& topic : *topics) {
    PYRALOG_TRY(request.take_room(topic.partition_indexes.size() *
                                   (2 * sizeof(group::OffsetEntry) + topic.name.size())));
  }
  return {};
}

/// The same for what was found, which may be all that a group has.
Result<void> take_room(const Request& request, const group::FetchOffsetsResponse& found) {
  std::size_t bytes = 0;
  for (const auto& each : found.partitions) bytes += 2 * (sizeof each + each.metadata.size());
  return request.take_room(bytes);
}

template <typename Topic>
void write_offsets(const group::FetchOffsetsResponse& answer, std::vector<Topic>& topics) {
  for (const auto& entry : answer.partitions) {
    if (topics.empty() || topics.back().name != entry.topic) {
      topics.push_back({});
      topics.back().name = entry.topic;
    }
    auto& each = topics.back().partitions.emplace_back();
    each.partition_index = entry.partition;
    each.committed_offset = entry.offset;
    each.committed_leader_epoch = entry.leader_epoch;
    each.metadata = entry.metadata;
    each.error_code = code(entry.error);
  }
}

/// Before version 2 there is no place for the group's error but each partition's.
template <typename Topics>
void spread_error(const std::optional<Topics>& asked, KafkaError error,
                  std::vector<wire::OffsetFetchResponse::Topic>& topics) {
  if (!asked) return;
  topics.clear();
  for (const auto& topic : *asked) {
    auto& to = topics.emplace_back();
    to.name = topic.name;
    for (const std::int32_t index : topic.partition_indexes) {
      auto& each = to.partitions.emplace_back();
      each.partition_index = index;
      each.committed_offset = -1;
      each.metadata = "";
      each.error_code = code(error);
    }
  }
}

}  // namespace

Handled handle_offset_fetch(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::OffsetFetchRequest>(request));
  wire::OffsetFetchResponse out;
  if (request.version() < 8) {
    PYRALOG_CO_TRY(take_room(request, in.topics));
    const auto answer =
        co_await fetch_offsets(service, question_of(in.group_id, in.topics, false));
    PYRALOG_CO_TRY(take_room(request, answer));
    out.error_code = code(answer.error);
    write_offsets(answer, out.topics);
    if (answer.error != KafkaError::kNone) spread_error(in.topics, answer.error, out.topics);
    co_return reply(request, out);
  }
  for (const auto& group : in.groups) {
    PYRALOG_CO_TRY(take_room(request, group.topics));
    const auto answer =
        co_await fetch_offsets(service, question_of(group.group_id, group.topics, false));
    PYRALOG_CO_TRY(take_room(request, answer));
    auto& to = out.groups.emplace_back();
    to.group_id = group.group_id;
    to.error_code = code(answer.error);
    if (answer.error == KafkaError::kNone) write_offsets(answer, to.topics);
  }
  co_return reply(request, out);
}

Handled handle_describe_groups(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DescribeGroupsRequest>(request));
  wire::DescribeGroupsResponse out;
  for (const std::string& name : in.groups) {
    auto answer = co_await service.broker().with_group(
        name, [&](broker::GroupHost& host) -> io::Task<group::GroupDescription> {
          co_return host.table().describe(name);
        });
    auto& to = out.groups.emplace_back();
    to.group_id = name;
    if (!answer) {
      to.error_code = code(answer.error());
      continue;
    }
    if (in.include_authorized_operations) to.authorized_operations = kGroupOperations;
    // Before version 6 a group that does not exist is one in state Dead, and no error.
    const bool dead = answer->error == KafkaError::kGroupIdNotFound && request.version() < 6;
    to.error_code = code(dead ? KafkaError::kNone : answer->error);
    to.group_state = answer->state;
    to.protocol_type = answer->protocol_type;
    to.protocol_data = answer->protocol;
    for (auto& member : answer->members) {
      PYRALOG_CO_TRY(request.take_room(sizeof member + member.member_id.size() +
                                        member.client_id.size() + member.metadata.size() +
                                        member.assignment.size()));
      auto& each = to.members.emplace_back();
      each.member_id = member.member_id;
      each.group_instance_id = member.instance_id;
      each.client_id = member.client_id;
      each.client_host = member.client_host;
      each.member_metadata = std::move(member.metadata);
      each.member_assignment = std::move(member.assignment);
    }
  }
  co_return reply(request, out);
}

namespace {

/// Of a filter what can match, each once: a request may name millions. None of them is none.
std::vector<std::string> known_states(const std::vector<std::string>& filter) {
  std::set<std::string> known;
  for (std::string state : filter) {
    std::ranges::transform(state, state.begin(), [](unsigned char c) { return std::tolower(c); });
    const bool matches = state == "empty" || state == "preparingrebalance" ||
                         state == "completingrebalance" || state == "stable" || state == "dead";
    known.insert(matches ? state : "none");
  }
  return {known.begin(), known.end()};
}

}  // namespace

Handled handle_list_groups(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::ListGroupsRequest>(request));
  wire::ListGroupsResponse out;
  const auto is_classic = [](std::string type) {
    std::ranges::transform(type, type.begin(), [](unsigned char c) { return std::tolower(c); });
    return type == "classic";
  };
  const bool wanted =
      in.types_filter.empty() || std::ranges::any_of(in.types_filter, is_classic);
  if (!wanted) co_return reply(request, out);
  const auto listed = co_await service.broker().list_groups(known_states(in.states_filter));
  out.error_code = code(listed.error);
  for (const auto& group : listed.groups) {
    out.groups.push_back({group.group, group.protocol_type, group.state, "classic"});
  }
  co_return reply(request, out);
}

Handled handle_delete_groups(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DeleteGroupsRequest>(request));
  wire::DeleteGroupsResponse out;
  for (const std::string& name : in.groups_names) {
    group::DeleteRequest gone;
    gone.group = name;
    const auto answer =
        co_await ask<group::DeleteResponse>(service, name, std::move(gone), request.times->disk);
    out.results.push_back({name, code(answer ? answer->error : answer.error())});
  }
  co_return reply(request, out);
}

Handled handle_offset_delete(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::OffsetDeleteRequest>(request));
  group::DeleteOffsetsRequest gone;
  gone.group = in.group_id;
  const auto state = service.broker().catalog();
  for (const auto& topic : in.topics) {
    // A copy of the name for each, and one more in what was found.
    PYRALOG_CO_TRY(request.take_room(topic.partitions.size() *
                                      (2 * sizeof(group::OffsetEntry) + 2 * topic.name.size())));
    const auto known = state->topic(topic.name);
    for (const auto& partition : topic.partitions) {
      const std::int32_t index = partition.partition_index;
      const bool exists = known != nullptr && index >= 0 &&
                          static_cast<std::size_t>(index) < known->partitions.size();
      if (exists) gone.partitions.push_back({topic.name, index});
    }
  }
  wire::OffsetDeleteResponse out;
  const auto answer = co_await ask<group::DeleteOffsetsResponse>(
      service, in.group_id, std::move(gone), request.times->disk);
  const KafkaError error = answer ? answer->error : answer.error();
  out.error_code = code(error);
  if (error != KafkaError::kNone) co_return reply(request, out);
  std::map<std::pair<std::string, std::int32_t>, KafkaError> told;
  for (const auto& p : answer->partitions) told[{p.topic, p.partition}] = p.error;
  for (const auto& topic : in.topics) {
    auto& to = out.topics.emplace_back();
    to.name = topic.name;
    for (const auto& partition : topic.partitions) {
      const auto at = told.find({topic.name, partition.partition_index});
      to.partitions.push_back(
          {partition.partition_index,
           code(at == told.end() ? KafkaError::kUnknownTopicOrPartition : at->second)});
    }
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
