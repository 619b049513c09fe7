// Where replicas are: partitions get others, and which are on the way.
#include <algorithm>
#include <map>
#include <set>

#include "base/plant.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/alter_partition_reassignments.h"
#include "wire/kafka/gen/list_partition_reassignments.h"

namespace pyralog::protocol::kafka {

namespace {

constexpr int kAtOnce = 16;  ///< changes under way for one request

/// One partition of a request.
struct Change {
  broker::PartitionRef target;
  std::optional<std::vector<NodeId>> replicas;  ///< none = take back what is under way
  broker::AdminOutcome outcome;
  bool open = true;
};

/// The partitions of one request; the request's own.
struct Changes {
  std::vector<Change> all;
  Instant deadline;
  std::size_t next = 0;
};

void refuse(Change& change, KafkaError error, const std::string& why) {
  change.outcome = {error, "partition " + change.target.topic + "-" +
                               std::to_string(change.target.partition) + ": " + why};
  change.open = false;
}

/// Null if there is none.
const catalog::Partition* find(const catalog::Topic* topic, std::int32_t index) {
  if (topic == nullptr || index < 0 ||
      static_cast<std::size_t>(index) >= topic->partitions.size()) {
    return nullptr;
  }
  return topic->partitions[static_cast<std::size_t>(index)].get();
}

/// One after another; several of these share the work.
io::Task<void> change_some(Service& service, const Request& request, Changes& work) {
  while (work.next < work.all.size()) {
    Change& each = work.all[work.next++];
    if (!each.open) continue;
    const bool late = io::Shard::current().now() >= work.deadline;
    if (late && !PYRALOG_PLANT("kafka.reassign_past_the_deadline")) {
      refuse(each, KafkaError::kRequestTimedOut, "it was not begun in time; allow more of it");
      continue;
    }
    if (request.answers != nullptr && request.answers->left()) {
      refuse(each, KafkaError::kRequestTimedOut, "whoever has asked is gone; ask again");
      continue;
    }
    each.outcome = co_await service.broker().reassign(each.target, each.replicas);
  }
}

/// Those of `from` that are not among `others`, in their order.
std::vector<std::int32_t> without(const std::vector<NodeId>& from,
                                  const std::vector<NodeId>& others) {
  std::vector<std::int32_t> out;
  for (const NodeId each : from) {
    if (std::ranges::find(others, each) == others.end()) out.push_back(each.value);
  }
  return out;
}

wire::ListPartitionReassignmentsResponse::Partition describe(const catalog::Partition& partition) {
  wire::ListPartitionReassignmentsResponse::Partition out;
  out.partition_index = partition.index.value;
  // As Kafka tells it: all that hold it until it is done. What comes back from a move that was
  // cancelled leaves those that had come in already.
  std::vector<NodeId> held = partition.replicas;
  if (partition.current) {
    for (const auto& each : partition.current->replicas) {
      if (std::ranges::find(held, each.node) == held.end()) held.push_back(each.node);
    }
  }
  out.adding_replicas = without(partition.target, partition.replicas);
  out.removing_replicas = without(held, partition.target);
  for (const NodeId each : partition.target) out.replicas.push_back(each.value);
  out.replicas.insert(out.replicas.end(), out.removing_replicas.begin(),
                      out.removing_replicas.end());
  return out;
}

}  // namespace

Handled handle_alter_partition_reassignments(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::AlterPartitionReassignmentsRequest>(request));
  wire::AlterPartitionReassignmentsResponse out;
  Changes work;
  work.deadline = io::Shard::current().now() +
                  std::min<Duration>(std::chrono::milliseconds(std::max(in.timeout_ms, 0)),
                                     service.options().max_request_time);
  const auto state = service.broker().catalog();
  std::map<broker::PartitionRef, std::size_t> places;
  for (const auto& named : in.topics) {
    const auto topic = state->topic(named.name);
    for (const auto& asked : named.partitions) {
      const auto [place, fresh] =
          places.try_emplace({named.name, asked.partition_index}, work.all.size());
      if (!fresh && !PYRALOG_PLANT("kafka.reassign_twice")) {
        // Which of them is meant is not clear.
        refuse(work.all[place->second], KafkaError::kInvalidRequest,
               "it is named more than once; name it once");
        continue;
      }
      Change& each = work.all.emplace_back();
      each.target = place->first;
      if (find(topic.get(), asked.partition_index) == nullptr) {
        refuse(each, KafkaError::kUnknownTopicOrPartition,
               "there is no such partition; check the topic and the number");
      } else if (asked.replicas && asked.replicas->size() > catalog::kMaxReplicas) {
        refuse(each, KafkaError::kInvalidReplicaAssignment,
               std::to_string(asked.replicas->size()) + " nodes are too many; name at most " +
                   std::to_string(catalog::kMaxReplicas));
      } else if (asked.replicas) {
        each.replicas.emplace();
        for (const std::int32_t id : *asked.replicas) each.replicas->emplace_back(id);
      }
      if (PYRALOG_PLANT("kafka.reassign_without_bound")) continue;
      PYRALOG_CO_TRY(
          request.take_room(2 * sizeof each + 4 * named.name.size() +
                            (each.replicas ? each.replicas->size() * sizeof(NodeId) : 0)));
    }
  }
  io::TaskGroup changes;
  for (int i = 0; i < kAtOnce; ++i) changes.spawn(change_some(service, request, work));
  co_await changes.join();
  std::ranges::sort(work.all, {}, &Change::target);
  for (Change& each : work.all) {
    if (out.responses.empty() || out.responses.back().name != each.target.topic) {
      out.responses.emplace_back().name = each.target.topic;
    }
    auto& to = out.responses.back().partitions.emplace_back();
    to.partition_index = each.target.partition;
    to.error_code = code(each.outcome.error);
    if (!each.outcome.message.empty()) to.error_message = std::move(each.outcome.message);
  }
  co_return reply(request, out);
}

Handled handle_list_partition_reassignments(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::ListPartitionReassignmentsRequest>(request));
  wire::ListPartitionReassignmentsResponse out;
  const auto state = service.broker().catalog();
  const auto tell = [&](const std::string& name,
                        const catalog::Partition* partition) -> Result<void> {
    if (partition == nullptr || partition->target.empty()) return {};
    if (out.topics.empty() || out.topics.back().name != name) out.topics.emplace_back().name = name;
    auto& each = out.topics.back().partitions.emplace_back(describe(*partition));
    return request.take_room(sizeof each + name.size() +
                             2 * sizeof(std::int32_t) * each.replicas.size());
  };
  if (in.topics) {
    std::map<std::string, std::set<std::int32_t>> wanted;
    for (const auto& named : *in.topics) {
      const auto topic = state->topic(named.name);
      if (topic == nullptr) continue;
      for (const std::int32_t index : named.partition_indexes) {
        if (find(topic.get(), index) != nullptr) wanted[named.name].insert(index);
      }
    }
    for (const auto& [name, partitions] : wanted) {
      const auto topic = state->topic(name);
      for (const std::int32_t index : partitions)
        PYRALOG_CO_TRY(tell(name, find(topic.get(), index)));
    }
  } else {
    for (const auto& topic : state->topics()) {
      for (const auto& each : topic->partitions) PYRALOG_CO_TRY(tell(topic->name, each.get()));
    }
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
