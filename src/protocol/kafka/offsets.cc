// Offsets by time, and where leader epochs end.
#include <set>

#include "base/plant.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/list_offsets.h"
#include "wire/kafka/gen/offset_for_leader_epoch.h"

namespace pyralog::protocol::kafka {

namespace {

/// Whether this version of ListOffsets has such a timestamp. Each that stands for a place came with
/// a version: −3, the greatest timestamp, with 7; those of tiered storage with versions above ours.
bool has_timestamp(std::int16_t version, std::int64_t timestamp) {
  constexpr std::int64_t kLatest = -1, kEarliest = -2, kMaxTimestamp = -3;
  if (PYRALOG_PLANT("kafka.timestamps_of_other_versions")) return true;
  return timestamp >= 0 || timestamp == kLatest || timestamp == kEarliest ||
         (timestamp == kMaxTimestamp && version >= 7);
}

/// The partitions that a request names more than once.
std::set<broker::PartitionRef> named_twice(const wire::ListOffsetsRequest& in) {
  std::set<broker::PartitionRef> seen;
  std::set<broker::PartitionRef> twice;
  if (PYRALOG_PLANT("kafka.partitions_named_twice")) return twice;
  for (const auto& topic : in.topics) {
    for (const auto& partition : topic.partitions) {
      broker::PartitionRef each{topic.name, partition.partition_index};
      if (!seen.insert(each).second) twice.insert(std::move(each));
    }
  }
  return twice;
}

}  // namespace

Handled handle_list_offsets(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::ListOffsetsRequest>(request));
  for (const auto& topic : in.topics) {
    const std::size_t each = 2 * sizeof(broker::OffsetQuery) + 2 * topic.name.size();
    PYRALOG_CO_TRY(request.take_room(topic.partitions.size() * each));
  }
  const auto twice = named_twice(in);
  std::vector<broker::OffsetQuery> queries;
  std::vector<KafkaError> refused;  // by partition, in the order of the request
  for (const auto& topic : in.topics) {
    for (const auto& partition : topic.partitions) {
      const broker::PartitionRef target{topic.name, partition.partition_index};
      refused.push_back(twice.contains(target) ? KafkaError::kInvalidRequest
                        : has_timestamp(request.version(), partition.timestamp)
                            ? KafkaError::kNone
                            : KafkaError::kUnsupportedVersion);
      if (refused.back() != KafkaError::kNone) continue;
      queries.push_back({target, partition.current_leader_epoch, partition.timestamp});
    }
  }
  const auto answers = co_await service.broker().list_offsets(std::move(queries));
  wire::ListOffsetsResponse out;
  std::size_t at = 0;
  std::size_t next = 0;
  for (const auto& topic : in.topics) {
    auto& to = out.topics.emplace_back();
    to.name = topic.name;
    for (const auto& partition : topic.partitions) {
      auto& each = to.partitions.emplace_back();
      each.partition_index = partition.partition_index;
      if (const KafkaError why = refused[at++]; why != KafkaError::kNone) {
        each.error_code = code(why);
        continue;
      }
      const broker::OffsetAnswer& answer = answers[next++];
      each.error_code = code(answer.error);
      each.timestamp = answer.timestamp;
      each.offset = answer.offset;
      each.leader_epoch = answer.leader_epoch;
    }
  }
  co_return reply(request, out);
}

Handled handle_offset_for_leader_epoch(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::OffsetForLeaderEpochRequest>(request));
  std::vector<broker::EpochQuery> queries;
  for (const auto& topic : in.topics) {
    for (const auto& partition : topic.partitions) {
      PYRALOG_CO_TRY(request.take_room(sizeof(broker::EpochQuery) + topic.topic.size()));
      queries.push_back({{topic.topic, partition.partition},
                         partition.current_leader_epoch,
                         partition.leader_epoch});
    }
  }
  const auto answers = co_await service.broker().epoch_ends(std::move(queries));
  wire::OffsetForLeaderEpochResponse out;
  std::size_t next = 0;
  for (const auto& topic : in.topics) {
    auto& to = out.topics.emplace_back();
    to.topic = topic.topic;
    for (const auto& partition : topic.partitions) {
      const broker::EpochAnswer& answer = answers[next++];
      auto& each = to.partitions.emplace_back();
      each.error_code = code(answer.error);
      each.partition = partition.partition;
      each.leader_epoch = answer.leader_epoch;
      each.end_offset = answer.end_offset;
    }
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
