#include "client/membership.h"

#include <algorithm>

#include "wire/kafka/gen/heartbeat.h"
#include "wire/kafka/gen/leave_group.h"
#include "wire/kafka/gen/offset_commit.h"
#include "wire/kafka/gen/offset_fetch.h"
#include "wire/kafka/gen/sync_group.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {

constexpr const char* kProtocolType = "consumer";

std::int32_t to_ms(Duration duration) {
  return static_cast<std::int32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

}  // namespace

Membership::Membership(Cluster& cluster, MembershipOptions options, std::function<void()> changed)
    : cluster_(cluster), options_(std::move(options)), changed_(std::move(changed)) {}

Membership::~Membership() {
  PYRALOG_ASSERT(tasks_.running() == 0);
}

bool Membership::cooperative() const {
  return std::ranges::all_of(options_.assignors, [](group::Assignor assignor) {
    return assignor == group::Assignor::kCooperativeSticky;
  });
}

Error Membership::note(std::int16_t code, const std::optional<std::string>& said) {
  Error error = to_error("group \"" + options_.group + "\"", code, said);
  const ErrorTraits& traits = traits_of(code);
  if (traits.stale_coordinator) cluster_.forget_coordinator(options_.group);
  switch (traits.error) {
    case KafkaError::kRebalanceInProgress:
      needs_join_ = true;
      break;
    case KafkaError::kIllegalGeneration:
      needs_join_ = true;
      lost_ = true;
      break;
    case KafkaError::kUnknownMemberId:
      needs_join_ = true;
      lost_ = true;
      member_id_.clear();
      generation_ = -1;
      break;
    case KafkaError::kFencedInstanceId:
      joined_ = false;
      lost_ = true;
      break;
    default:
      break;
  }
  return error;
}

io::Task<Result<std::vector<TopicPartition>>> Membership::join(std::vector<std::string> topics,
                                                               std::vector<TopicPartition> owned,
                                                               Instant deadline) {
  io::Backoff backoff(cluster_.options().backoff);
  for (;;) {
    if (leaving_) co_return fail(Code::kCancelled, "the consumer is closed");
    if (lost_) owned.clear();
    auto got = co_await join_once(topics, owned, deadline);
    if (got) co_return got;
    const bool again = is_retriable(got.error()) ||
                       (got.error().code == Code::kFenced && needs_join_ && !leaving_);
    if (!again || !co_await backoff.wait(deadline)) co_return got;
  }
}

io::Task<Result<std::vector<TopicPartition>>> Membership::join_once(
    std::vector<std::string> topics, std::vector<TopicPartition> owned, Instant deadline) {
  group::Subscription subscription;
  subscription.topics = std::move(topics);
  subscription.generation = generation_;
  for (const TopicPartition& each : owned) {
    subscription.owned.emplace_back(each.topic, each.partition);
  }
  kafka::JoinGroupRequest request;
  request.group_id = options_.group;
  request.session_timeout_ms = to_ms(options_.session_timeout);
  request.rebalance_timeout_ms = to_ms(options_.rebalance_timeout);
  request.group_instance_id = options_.instance_id;
  request.protocol_type = kProtocolType;
  for (const group::Assignor assignor : options_.assignors) {
    request.protocols.push_back({group::name(assignor), group::encode(subscription)});
  }
  kafka::JoinGroupResponse joined;
  for (int round = 0;; ++round) {
    request.member_id = member_id_;
    PYRALOG_CO_ASSIGN(auto coordinator, co_await cluster_.coordinator(options_.group, deadline));
    const Instant end =
        std::min(deadline, io::Shard::current().now() + options_.rebalance_timeout + 5s);
    auto reply = co_await coordinator->call<kafka::JoinGroupResponse>(request, end);
    if (!reply) {
      cluster_.forget_coordinator(options_.group);
      co_return fail(reply.error());
    }
    joined = std::move(reply->message);
    if (static_cast<KafkaError>(joined.error_code) == KafkaError::kMemberIdRequired && round == 0) {
      member_id_ = joined.member_id;
      continue;
    }
    break;
  }
  if (joined.error_code != 0) co_return fail(note(joined.error_code));
  member_id_ = joined.member_id;
  generation_ = joined.generation_id;
  needs_join_ = false;
  lost_ = false;
  const std::string protocol = joined.protocol_name.value_or("");
  std::map<std::string, Bytes> assignments;
  if (joined.leader == member_id_ && !joined.skip_assignment) {
    PYRALOG_CO_ASSIGN(assignments, co_await divide(std::move(joined), deadline));
  }
  PYRALOG_CO_ASSIGN(const Bytes mine, co_await sync(protocol, std::move(assignments), deadline));
  joined_ = true;
  if (!beating_) {
    beating_ = true;
    tasks_.spawn(beat());
  }
  std::vector<TopicPartition> got;
  if (mine.empty()) co_return got;
  PYRALOG_CO_ASSIGN(const group::Assignment assignment, group::decode_assignment(mine));
  for (const auto& [topic, partition] : assignment.partitions) got.push_back({topic, partition});
  co_return got;
}

/// The leader's work: who gets what.
io::Task<Result<std::map<std::string, Bytes>>> Membership::divide(kafka::JoinGroupResponse joined,
                                                                  Instant deadline) {
  const auto assignor = group::find_assignor(joined.protocol_name.value_or(""));
  if (!assignor) {
    co_return fail(Code::kUnsupported, "group \"" + options_.group + "\": assignor \"" +
                                           joined.protocol_name.value_or("") +
                                           "\" is not known here");
  }
  std::vector<group::AssignmentMember> members;
  group::PartitionCounts counts;
  for (const auto& member : joined.members) {
    PYRALOG_CO_ASSIGN(auto subscription, group::decode_subscription(member.metadata));
    for (const std::string& name : subscription.topics) {
      if (counts.contains(name)) continue;
      const auto topic = co_await cluster_.topic(name, false, deadline);
      if (topic) {
        counts[name] = static_cast<std::int32_t>(topic->partitions.size());
      } else if (topic.error().code != Code::kNotFound) {
        co_return fail(topic.error());
      }
    }
    members.push_back({member.member_id, member.group_instance_id, std::move(subscription)});
  }
  std::map<std::string, Bytes> encoded;
  for (const auto& [member, partitions] : group::assign(*assignor, members, counts)) {
    encoded[member] = group::encode(group::Assignment{partitions, std::nullopt});
  }
  co_return encoded;
}

io::Task<Result<Bytes>> Membership::sync(std::string protocol,
                                         std::map<std::string, Bytes> assignments,
                                         Instant deadline) {
  kafka::SyncGroupRequest request;
  request.group_id = options_.group;
  request.generation_id = generation_;
  request.member_id = member_id_;
  request.group_instance_id = options_.instance_id;
  request.protocol_type = kProtocolType;
  request.protocol_name = protocol;
  for (auto& [member, bytes] : assignments)
    request.assignments.push_back({member, std::move(bytes)});
  PYRALOG_CO_ASSIGN(auto coordinator, co_await cluster_.coordinator(options_.group, deadline));
  const Instant end =
      std::min(deadline, io::Shard::current().now() + options_.rebalance_timeout + 5s);
  auto reply = co_await coordinator->call<kafka::SyncGroupResponse>(std::move(request), end);
  if (!reply) {
    cluster_.forget_coordinator(options_.group);
    needs_join_ = true;
    co_return fail(reply.error());
  }
  if (reply->message.error_code != 0) {
    needs_join_ = true;
    co_return fail(note(reply->message.error_code));
  }
  co_return std::move(reply->message.assignment);
}

io::Task<void> Membership::beat() {
  while (!leaving_) {
    (void)co_await beat_now_.wait(io::Shard::current().now() + options_.heartbeat_interval);
    if (leaving_) break;
    if (!joined_ || generation_ < 0) continue;
    const Instant deadline = io::Shard::current().now() + options_.session_timeout;
    const auto coordinator = co_await cluster_.coordinator(options_.group, deadline);
    if (!coordinator || leaving_) continue;
    kafka::HeartbeatRequest request;
    request.group_id = options_.group;
    request.generation_id = generation_;
    request.member_id = member_id_;
    request.group_instance_id = options_.instance_id;
    const std::int32_t generation = generation_;
    const auto reply =
        co_await (*coordinator)
            ->call<kafka::HeartbeatResponse>(std::move(request), cluster_.attempt_end(deadline));
    if (!reply) {
      cluster_.forget_coordinator(options_.group);
      continue;
    }
    // An answer about a generation that a rejoin has replaced meanwhile says nothing.
    if (reply->message.error_code == 0 || generation != generation_) continue;
    (void)note(reply->message.error_code);
    if (needs_join_ || lost_) changed_();
  }
}

io::Task<Result<void>> Membership::commit(Offsets offsets, Instant deadline) {
  kafka::OffsetCommitRequest request;
  request.group_id = options_.group;
  request.generation_id_or_member_epoch = generation_;
  request.member_id = member_id_;
  request.group_instance_id = options_.instance_id;
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
  io::Backoff backoff(cluster_.options().backoff);
  for (;;) {
    PYRALOG_CO_ASSIGN(auto coordinator, co_await cluster_.coordinator(options_.group, deadline));
    const auto reply = co_await coordinator->call<kafka::OffsetCommitResponse>(
        request, cluster_.attempt_end(deadline));
    std::optional<Error> error;
    bool again = false;
    if (!reply) {
      cluster_.forget_coordinator(options_.group);
      error = reply.error();
      again = is_retriable(reply.error());
    } else {
      for (const auto& topic : reply->message.topics) {
        for (const auto& partition : topic.partitions) {
          if (partition.error_code == 0) continue;
          error = note(partition.error_code);
          const ErrorTraits& traits = traits_of(partition.error_code);
          again = traits.retriable && traits.error != KafkaError::kRebalanceInProgress;
        }
      }
    }
    if (!error) co_return Result<void>();
    if (!again || !co_await backoff.wait(deadline)) co_return fail(*error);
  }
}

io::Task<Result<Offsets>> Membership::committed(std::vector<TopicPartition> partitions,
                                                Instant deadline) {
  std::ranges::sort(partitions);
  kafka::OffsetFetchRequest request;
  request.group_id = options_.group;
  request.require_stable = true;
  auto& topics = request.topics.emplace();
  for (const TopicPartition& each : partitions) {
    if (topics.empty() || topics.back().name != each.topic) topics.emplace_back().name = each.topic;
    topics.back().partition_indexes.push_back(each.partition);
  }
  auto& whole = request.groups.emplace_back();
  whole.group_id = options_.group;
  auto& group_topics = whole.topics.emplace();
  for (const auto& topic : topics) {
    auto& copy = group_topics.emplace_back();
    copy.name = topic.name;
    copy.partition_indexes = topic.partition_indexes;
  }
  io::Backoff backoff(cluster_.options().backoff);
  for (;;) {
    PYRALOG_CO_ASSIGN(auto coordinator, co_await cluster_.coordinator(options_.group, deadline));
    const auto reply = co_await coordinator->call<kafka::OffsetFetchResponse>(
        request, cluster_.attempt_end(deadline));
    Offsets found;
    std::int16_t code = 0;
    const auto take = [&](const auto& answered) {
      for (const auto& topic : answered) {
        for (const auto& each : topic.partitions) {
          if (each.error_code != 0) code = each.error_code;
          if (each.committed_offset < 0) continue;
          const TopicPartition partition{topic.name, each.partition_index};
          if (std::ranges::binary_search(partitions, partition))
            found[partition] = each.committed_offset;
        }
      }
    };
    if (reply) {
      code = reply->message.error_code;
      take(reply->message.topics);
      for (const auto& each : reply->message.groups) {
        if (each.error_code != 0) code = each.error_code;
        take(each.topics);
      }
      if (code == 0) co_return found;
    } else {
      cluster_.forget_coordinator(options_.group);
    }
    const Error error = reply ? note(code) : reply.error();
    const bool again = reply ? traits_of(code).retriable : is_retriable(error);
    if (!again || !co_await backoff.wait(deadline)) co_return fail(error);
  }
}

io::Task<void> Membership::leave(Instant deadline) {
  leaving_ = true;
  beat_now_.wake_all();
  // A static member stays in the group until its session ends, so that it may come back unnoticed.
  if (joined_ && !lost_ && !member_id_.empty() && !options_.instance_id) {
    const auto coordinator = co_await cluster_.coordinator(options_.group, deadline);
    if (coordinator) {
      kafka::LeaveGroupRequest request;
      request.group_id = options_.group;
      request.member_id = member_id_;
      request.members.push_back({member_id_, std::nullopt, "the consumer is closed"});
      (void)co_await (*coordinator)->call<kafka::LeaveGroupResponse>(std::move(request), deadline);
    }
  }
  joined_ = false;
  co_await tasks_.join();
}

}  // namespace pyralog::client
