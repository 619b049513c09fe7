// Who leads partitions, and who holds them.
#include <algorithm>

#include "base/plant.h"
#include "client/admin.h"
#include "wire/kafka/gen/alter_partition_reassignments.h"
#include "wire/kafka/gen/change_member.h"
#include "wire/kafka/gen/drain_node.h"
#include "wire/kafka/gen/elect_leaders.h"
#include "wire/kafka/gen/list_partition_reassignments.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {

constexpr std::int8_t kPreferred = 0;

/// What a server may take, so that its answer comes before the request is given up.
std::int32_t server_time(Instant attempt_end) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      attempt_end - io::Shard::current().now());
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(left.count() * 3 / 4, 1, 60'000));
}

/// What the server says, without the partition that it may name first: it is named already.
std::optional<std::string> without_name(const std::optional<std::string>& said,
                                        const TopicPartition& partition) {
  const std::string name =
      "partition " + partition.topic + "-" + std::to_string(partition.partition) + ": ";
  return said && said->starts_with(name) ? said->substr(name.size()) : said;
}

}  // namespace

io::Task<Result<Elections>> Admin::elect_preferred(
    std::optional<std::set<TopicPartition>> partitions, Instant deadline) {
  kafka::ElectLeadersRequest request;
  request.election_type = kPreferred;
  request.timeout_ms = server_time(cluster_.attempt_end(deadline));
  if (partitions) {
    request.topic_partitions.emplace();
    for (const auto& [topic, partition] : *partitions) {
      auto& all = *request.topic_partitions;
      if (all.empty() || all.back().topic != topic) all.emplace_back().topic = topic;
      all.back().partitions.push_back(partition);
    }
  }
  PYRALOG_CO_ASSIGN(const auto reply, co_await cluster_.call_any<kafka::ElectLeadersResponse>(
                                          std::move(request), deadline));
  if (reply.message.error_code != 0) {
    co_return fail(to_error("election of leaders", reply.message.error_code));
  }
  Elections found;
  for (const auto& topic : reply.message.replica_election_results) {
    cluster_.forget_topic(topic.topic);
    for (const auto& each : topic.partition_result) {
      const TopicPartition partition{topic.topic, each.partition_id};
      const auto error = static_cast<KafkaError>(each.error_code);
      if (error == KafkaError::kNone) {
        found.emplace(partition, Election::kMoved);
      } else if (error == KafkaError::kElectionNotNeeded) {
        found.emplace(partition, Election::kNotNeeded);
      } else {
        found.emplace(partition, fail(to_error(to_string(partition), each.error_code,
                                               without_name(each.error_message, partition))));
      }
    }
  }
  // What is not answered is not done.
  if (partitions) {
    for (const TopicPartition& each : *partitions) {
      if (found.contains(each)) continue;
      found.emplace(each, fail(Code::kCorrupt, to_string(each) +
                                                   ": the server did not say what became of it; "
                                                   "look at pyralog partition list"));
    }
  }
  co_return found;
}

io::Task<Result<void>> Admin::reassign(TopicPartition partition,
                                       std::optional<std::vector<std::int32_t>> replicas,
                                       Instant deadline) {
  io::Backoff backoff(cluster_.options().backoff);
  for (bool again = false;; again = true) {
    auto done = co_await reassign_once(partition, replicas, deadline);
    // Cancelled by the attempt before of which nothing was heard.
    if (again && !done && !replicas && !PYRALOG_PLANT("client.cancel_twice") &&
        done.error().code == Code::kNotFound)
      co_return Result<void>();
    if (done || done.error().code != Code::kTimedOut || PYRALOG_PLANT("client.ask_once"))
      co_return done;
    if (!co_await backoff.wait(deadline)) co_return done;
  }
}

io::Task<Result<void>> Admin::reassign_once(TopicPartition partition,
                                            std::optional<std::vector<std::int32_t>> replicas,
                                            Instant deadline) {
  kafka::AlterPartitionReassignmentsRequest request;
  request.timeout_ms = server_time(cluster_.attempt_end(deadline));
  auto& topic = request.topics.emplace_back();
  topic.name = partition.topic;
  auto& wanted = topic.partitions.emplace_back();
  wanted.partition_index = partition.partition;
  wanted.replicas = std::move(replicas);
  PYRALOG_CO_ASSIGN(const auto reply,
                    co_await cluster_.call_any<kafka::AlterPartitionReassignmentsResponse>(
                        std::move(request), deadline));
  cluster_.forget_topic(partition.topic);
  const auto& message = reply.message;
  const std::string name = to_string(partition);
  if (message.error_code != 0) {
    co_return fail(to_error(name, message.error_code, message.error_message));
  }
  for (const auto& each : message.responses) {
    for (const auto& result : each.partitions) {
      if (each.name != partition.topic || result.partition_index != partition.partition) continue;
      if (result.error_code == 0) co_return Result<void>();
      co_return fail(
          to_error(name, result.error_code, without_name(result.error_message, partition)));
    }
  }
  co_return fail(Code::kCorrupt, name +
                                     ": the server did not say what became of it; look at pyralog "
                                     "partition list --moving");
}

io::Task<Result<Reassignments>> Admin::reassignments(Instant deadline) {
  kafka::ListPartitionReassignmentsRequest request;
  request.timeout_ms = server_time(cluster_.attempt_end(deadline));
  PYRALOG_CO_ASSIGN(auto reply,
                    co_await cluster_.call_any<kafka::ListPartitionReassignmentsResponse>(
                        std::move(request), deadline));
  if (reply.message.error_code != 0) {
    co_return fail(
        to_error("list of moves", reply.message.error_code, reply.message.error_message));
  }
  Reassignments found;
  for (auto& topic : reply.message.topics) {
    for (auto& each : topic.partitions) {
      found[{topic.name, each.partition_index}] = {std::move(each.replicas),
                                                   std::move(each.adding_replicas),
                                                   std::move(each.removing_replicas)};
    }
  }
  co_return found;
}

io::Task<Result<Drain>> Admin::drain_node(std::int32_t node, DrainChange change, Instant deadline) {
  io::Backoff backoff(cluster_.options().backoff);
  for (;;) {
    auto done = co_await drain_node_once(node, change, deadline);
    if (done || done.error().code != Code::kTimedOut || !co_await backoff.wait(deadline))
      co_return done;
  }
}

io::Task<Result<Drain>> Admin::drain_node_once(std::int32_t node, DrainChange change,
                                               Instant deadline) {
  kafka::DrainNodeRequest request;
  request.timeout_ms = server_time(cluster_.attempt_end(deadline));
  request.node_id = node;
  request.change = static_cast<std::int8_t>(change);
  PYRALOG_CO_ASSIGN(auto reply, co_await cluster_.call_any<kafka::DrainNodeResponse>(
                                    std::move(request), deadline));
  auto& message = reply.message;
  if (message.error_code != 0) {
    co_return fail(
        to_error("node " + std::to_string(node), message.error_code, message.error_message));
  }
  Drain drain{message.draining, message.leading,     message.under_way,
              message.waiting,  message.stuck_count, {}};
  for (auto& each : message.stuck) {
    drain.examples.push_back({{std::move(each.topic), each.partition}, std::move(each.reason)});
  }
  co_return drain;
}

io::Task<Result<std::vector<MemberNode>>> Admin::change_member(MemberNode node, MemberChange change,
                                                               Instant deadline) {
  kafka::ChangeMemberRequest request;
  request.timeout_ms = server_time(cluster_.attempt_end(deadline));
  request.node_id = node.node;
  request.change = static_cast<std::int8_t>(change);
  request.host = std::move(node.host);
  request.port = node.port;
  PYRALOG_CO_ASSIGN(auto reply, co_await cluster_.call_any<kafka::ChangeMemberResponse>(
                                    std::move(request), deadline));
  auto& message = reply.message;
  if (message.error_code != 0) {
    const Error told =
        to_error("node " + std::to_string(node.node), message.error_code, message.error_message);
    // It names the node itself.
    co_return fail(told.code, message.error_message.value_or(told.message));
  }
  std::vector<MemberNode> nodes;
  for (auto& each : message.nodes) nodes.push_back({each.node_id, std::move(each.host), each.port});
  co_return nodes;
}

}  // namespace pyralog::client
