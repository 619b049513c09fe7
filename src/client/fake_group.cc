// The fake broker's groups: one member, which leads, and offsets in a map.
#include "client/fake_broker.h"
#include "wire/kafka/gen/heartbeat.h"
#include "wire/kafka/gen/join_group.h"
#include "wire/kafka/gen/leave_group.h"
#include "wire/kafka/gen/offset_commit.h"
#include "wire/kafka/gen/offset_fetch.h"
#include "wire/kafka/gen/sync_group.h"

namespace pyralog::client::testing {

namespace kafka = wire::kafka;

namespace {
constexpr std::int16_t kUnknownMember = 25;
constexpr std::int16_t kIllegalGeneration = 22;
constexpr std::int16_t kRebalancing = 27;
constexpr std::int16_t kMemberIdRequired = 79;

template <typename Response>
Result<Bytes> finish_with(const kafka::RequestFrame& request, const Response& response) {
  PYRALOG_ASSIGN(auto frame, kafka::encode_response(response, request.header.request_api_version,
                                                    request.header.correlation_id));
  return std::move(frame.bytes);
}
}  // namespace

std::int64_t FakeBroker::committed(const std::string& topic, std::int32_t index) const {
  const auto found = offsets_.find({topic, index});
  return found == offsets_.end() ? -1 : found->second;
}

Result<Bytes> FakeBroker::join_group(const kafka::RequestFrame& request) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::JoinGroupRequest>(
                                       request.body, request.header.request_api_version));
  kafka::JoinGroupResponse response;
  if (asked.member_id.empty()) {
    member_ = "member-" + std::to_string(generation_ + 1);
    response.error_code = kMemberIdRequired;
    response.member_id = member_;
    return finish_with(request, response);
  }
  if (asked.member_id != member_) {
    response.error_code = kUnknownMember;
    return finish_with(request, response);
  }
  rebalance_asked_ = false;
  response.generation_id = ++generation_;
  response.protocol_type = asked.protocol_type;
  response.protocol_name = asked.protocols.front().name;
  response.leader = member_;
  response.member_id = member_;
  response.members.push_back({member_, asked.group_instance_id, asked.protocols.front().metadata});
  return finish_with(request, response);
}

Result<Bytes> FakeBroker::sync_group(const kafka::RequestFrame& request) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::SyncGroupRequest>(
                                       request.body, request.header.request_api_version));
  kafka::SyncGroupResponse response;
  if (asked.generation_id != generation_) response.error_code = kIllegalGeneration;
  response.protocol_type = asked.protocol_type;
  response.protocol_name = asked.protocol_name;
  for (const auto& assignment : asked.assignments) {
    if (assignment.member_id == asked.member_id) response.assignment = assignment.assignment;
  }
  return finish_with(request, response);
}

Result<Bytes> FakeBroker::heartbeat(const kafka::RequestFrame& request) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::HeartbeatRequest>(
                                       request.body, request.header.request_api_version));
  kafka::HeartbeatResponse response;
  if (asked.member_id != member_)
    response.error_code = kUnknownMember;
  else if (asked.generation_id != generation_)
    response.error_code = kIllegalGeneration;
  else if (rebalance_asked_)
    response.error_code = kRebalancing;
  return finish_with(request, response);
}

Result<Bytes> FakeBroker::leave_group(const kafka::RequestFrame& request) {
  member_.clear();
  return finish_with(request, kafka::LeaveGroupResponse{});
}

Result<Bytes> FakeBroker::offset_commit(const kafka::RequestFrame& request, std::int16_t code) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::OffsetCommitRequest>(
                                       request.body, request.header.request_api_version));
  kafka::OffsetCommitResponse response;
  for (const auto& topic : asked.topics) {
    kafka::OffsetCommitResponse::Topic into;
    into.name = topic.name;
    for (const auto& partition : topic.partitions) {
      if (code == 0) offsets_[{topic.name, partition.partition_index}] = partition.committed_offset;
      into.partitions.push_back({partition.partition_index, code});
    }
    response.topics.push_back(std::move(into));
  }
  return finish_with(request, response);
}

Result<Bytes> FakeBroker::offset_fetch(const kafka::RequestFrame& request) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::OffsetFetchRequest>(
                                       request.body, request.header.request_api_version));
  kafka::OffsetFetchResponse response;
  for (const auto& group : asked.groups) {
    kafka::OffsetFetchResponse::Group into;
    into.group_id = group.group_id;
    for (const auto& [name, offset] : offsets_) {
      kafka::OffsetFetchResponse::GroupTopic topic;
      topic.name = name.topic;
      kafka::OffsetFetchResponse::GroupPartition partition;
      partition.partition_index = name.partition;
      partition.committed_offset = offset;
      topic.partitions.push_back(partition);
      into.topics.push_back(std::move(topic));
    }
    response.groups.push_back(std::move(into));
  }
  return finish_with(request, response);
}

}  // namespace pyralog::client::testing
