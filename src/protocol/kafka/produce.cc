#include "wire/kafka/gen/produce.h"

#include <algorithm>

#include "protocol/kafka/nodes.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/describe_producers.h"
#include "wire/kafka/gen/init_producer_id.h"

namespace pyralog::protocol::kafka {

namespace {

Result<std::vector<broker::ProduceItem>> items_of(const Request& request,
                                                  const wire::ProduceRequest& produce) {
  std::vector<broker::ProduceItem> items;
  for (const auto& topic : produce.topic_data) {
    for (const auto& partition : topic.partition_data) {
      // Each has a copy of the name, and so has what is said of it.
      PYRALOG_TRY(request.take_room(sizeof(broker::ProduceItem) + sizeof(broker::ProduceOutcome) +
                                     4 * topic.name.size()));
      broker::ProduceItem item;
      item.target = {topic.name, partition.index};
      item.owner = request.bytes;
      // The request is ours alone; its batches get their offsets in place.
      const ByteView view = partition.records.view;
      if (!view.empty()) {
        item.records = {request.bytes->data() + (view.data() - request.bytes->data()), view.size()};
      }
      items.push_back(std::move(item));
    }
  }
  return items;
}

Result<Reply> answer(Service& service, const Request& request, const wire::ProduceRequest& produce,
                     const std::vector<broker::ProduceOutcome>& outcomes) {
  if (produce.acks == 0) {
    // No response is due; an error shows as the end of the connection, so that the client
    // refreshes.
    const bool failed =
        std::ranges::any_of(outcomes, [](const auto& o) { return o.error != KafkaError::kNone; });
    Reply nothing{.pieces = {}, .close = failed};
    for (const auto& outcome : outcomes) nothing.errors.add(code(outcome.error));
    return nothing;
  }
  wire::ProduceResponse out;
  constexpr std::int16_t kFirstWithLeaders = 10;
  LeaderHints leaders(service.broker(), request.version() >= kFirstWithLeaders);
  std::size_t next = 0;
  for (const auto& topic : produce.topic_data) {
    auto& to = out.responses.emplace_back();
    to.name = topic.name;
    for (const auto& partition : topic.partition_data) {
      const broker::ProduceOutcome& outcome = outcomes[next++];
      auto& each = to.partition_responses.emplace_back();
      each.index = partition.index;
      each.error_code = code(outcome.error);
      each.base_offset = outcome.base_offset;
      each.log_append_time_ms = outcome.append_time_ms;
      each.log_start_offset = outcome.log_start;
      if (!outcome.message.empty()) each.error_message = outcome.message;
      // KIP-467: clients keep to these and tell the rest of the batch apart.
      for (const std::int32_t record : outcome.bad_records) {
        each.record_errors.push_back({record, outcome.message});
      }
      leaders.add(outcome.error, {topic.name, partition.index}, each.current_leader);
    }
  }
  leaders.write(out.node_endpoints);
  return reply(request, out);
}

// KIP-110: zstd came with this version; whoever sends an older one is confused about its batches.
constexpr std::int16_t kFirstZstdVersion = 7;
bool any_zstd(const wire::ProduceRequest& produce) {
  for (const auto& topic : produce.topic_data) {
    for (const auto& partition : topic.partition_data) {
      const auto header = parse_batch_header(partition.records.view);
      if (header && header->codec() == Codec::kZstd) return true;
    }
  }
  return false;
}

std::vector<broker::ProduceOutcome> refuse_all(const wire::ProduceRequest& produce,
                                               KafkaError error, const char* message) {
  std::size_t count =
      produce.topic_data.empty() ? 1 : 0;  // a refusal shows even without partitions
  for (const auto& topic : produce.topic_data) count += topic.partition_data.size();
  broker::ProduceOutcome refused;
  refused.error = error;
  refused.message = message;
  return std::vector<broker::ProduceOutcome>(count, refused);
}

}  // namespace

namespace {
void note_slowest(const Service& service, const Request& request,
                  const wire::ProduceRequest& produce,
                  const std::vector<broker::ProduceOutcome>& outcomes) {
  std::size_t next = 0;
  Duration longest{};
  for (const auto& topic : produce.topic_data) {
    for (const auto& partition : topic.partition_data) {
      const broker::ProduceOutcome& outcome = outcomes[next++];
      request.times->disk = std::max(request.times->disk, outcome.stored_in);
      // Partitions are waited for one after another: to blame is who was waited for longest.
      if (outcome.waited <= longest) continue;
      longest = outcome.waited;
      if (!service.is_slow(outcome.stored_in)) continue;
      request.times->partition = topic.name + "-" + std::to_string(partition.index);
    }
  }
}
}  // namespace

namespace {
void count_traffic(Service& service, const wire::ProduceRequest& produce,
                   const std::vector<broker::ProduceOutcome>& outcomes) {
  if (!service.counts().counting()) return;
  std::size_t next = 0;
  for (const auto& topic : produce.topic_data) {
    for (const auto& partition : topic.partition_data) {
      if (outcomes[next++].error != KafkaError::kNone) continue;
      // The broker has taken it for a batch.
      const auto header = parse_batch_header(partition.records.view);
      if (header) service.counts().produced(topic.name, header->count, partition.records.view.size());
    }
  }
}
}  // namespace

Handled handle_produce(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto produce, decode<wire::ProduceRequest>(request));
  if (request.version() < 3) {
    co_return answer(service, request, produce,
                     refuse_all(produce, KafkaError::kUnsupportedVersion,
                                "record batches before format v2 are not accepted"));
  }
  if (produce.transactional_id) {
    co_return answer(service, request, produce,
                     refuse_all(produce, KafkaError::kTransactionalIdAuthorizationFailed,
                                "transactions are not supported"));
  }
  if (produce.acks != 0 && produce.acks != 1 && produce.acks != -1) {
    co_return answer(service, request, produce,
                     refuse_all(produce, KafkaError::kInvalidRequiredAcks, "acks is 0, 1 or -1"));
  }
  const auto acks = static_cast<Acks>(produce.acks);
  const Duration timeout =
      std::min<Duration>(std::chrono::milliseconds(std::max(produce.timeout_ms, 0)),
                         service.options().max_request_time);
  if (request.version() < kFirstZstdVersion && any_zstd(produce)) {
    co_return answer(service, request, produce,
                     refuse_all(produce, KafkaError::kUnsupportedCompressionType,
                                "zstd needs version 7 of the request"));
  }
  PYRALOG_CO_ASSIGN(auto items, items_of(request, produce));
  const auto outcomes =
      co_await service.broker().produce(std::move(items), acks, timeout, request.produces);
  note_slowest(service, request, produce, outcomes);
  count_traffic(service, produce, outcomes);
  co_return answer(service, request, produce, outcomes);
}

Handled handle_init_producer_id(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::InitProducerIdRequest>(request));
  wire::InitProducerIdResponse out;
  if (in.transactional_id) {
    out.error_code =
        code(in.transactional_id->empty() ? KafkaError::kInvalidRequest
                                          : KafkaError::kTransactionalIdAuthorizationFailed);
    out.producer_epoch = -1;
    co_return reply(request, out);
  }
  // An idempotent producer that has lost its place starts anew under another id (KIP-360 keeps the
  // id only for transactional ones).
  auto id = co_await service.broker().new_producer_id();
  if (!id) {
    out.error_code = code(KafkaError::kCoordinatorNotAvailable);
    out.producer_epoch = -1;
  } else {
    out.producer_id = *id;
    out.producer_epoch = 0;
  }
  co_return reply(request, out);
}

Handled handle_describe_producers(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DescribeProducersRequest>(request));
  wire::DescribeProducersResponse out;
  for (const auto& topic : in.topics) {
    auto& to = out.topics.emplace_back();
    to.name = topic.name;
    for (const std::int32_t index : topic.partition_indexes) {
      auto& partition = to.partitions.emplace_back();
      partition.partition_index = index;
      const auto producers = co_await service.broker().producers({topic.name, index});
      if (!producers) {
        partition.error_code = code(producers.error());
        continue;
      }
      PYRALOG_CO_TRY(request.take_room(
          producers->size() * sizeof(wire::DescribeProducersResponse::Producer)));
      for (const auto& producer : *producers) {
        auto& each = partition.active_producers.emplace_back();
        each.producer_id = producer.id.value;
        each.producer_epoch = producer.epoch;
        each.last_sequence = producer.last_sequence;
        each.last_timestamp = producer.last_timestamp;
        each.coordinator_epoch = -1;
      }
    }
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
