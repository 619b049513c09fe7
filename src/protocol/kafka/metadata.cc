#include <algorithm>
#include <set>

#include "base/plant.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/describe_cluster.h"
#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/metadata.h"

namespace pyralog::protocol::kafka {

namespace {

// Operations that a client may do, as bits: all that exist for the kind, as nobody is refused yet.
constexpr std::int32_t kTopicOperations = 3576;    // read write create delete alter describe configs
constexpr std::int32_t kClusterOperations = 8096;  // create alter describe cluster_action configs …

wire::MetadataResponse::Topic describe(const catalog::Topic& topic) {
  wire::MetadataResponse::Topic out;
  out.name = topic.name;
  out.topic_id = topic.id.uuid;
  out.is_internal = topic.internal();
  for (const auto& partition : topic.partitions) {
    auto& each = out.partitions.emplace_back();
    each.partition_index = partition->index.value;
    if (partition->current) {
      each.leader_id = partition->current->leader.value;
      each.leader_epoch = static_cast<std::int32_t>(partition->current->epoch.value);
      for (const auto& replica : partition->current->replicas) {
        each.isr_nodes.push_back(replica.node.value);
      }
    } else {
      each.leader_id = -1;
      each.error_code = code(KafkaError::kLeaderNotAvailable);
    }
    for (const NodeId node : partition->replicas) each.replica_nodes.push_back(node.value);
  }
  return out;
}

/// What it takes in memory until it is encoded.
std::size_t size_of(const wire::MetadataResponse::Topic& topic) {
  std::size_t bytes = sizeof topic + (topic.name ? topic.name->size() : 0);
  for (const auto& each : topic.partitions) {
    bytes += sizeof each + sizeof(std::int32_t) * (each.replica_nodes.size() + each.isr_nodes.size());
  }
  return bytes;
}

wire::MetadataResponse::Topic missing(std::optional<std::string> name, Uuid id, KafkaError error) {
  wire::MetadataResponse::Topic out;
  out.name = std::move(name);
  out.topic_id = id;
  out.error_code = code(error);
  return out;
}

io::Task<wire::MetadataResponse::Topic> find_or_create(Service& service, std::string name,
                                                       bool may_create) {
  if (const auto topic = service.broker().catalog()->topic(name)) co_return describe(*topic);
  if (!is_valid_topic_name(name)) {
    co_return missing(name, {}, KafkaError::kInvalidTopicException);
  }
  if (!may_create || !service.broker().options().auto_create_topics) {
    co_return missing(name, {}, KafkaError::kUnknownTopicOrPartition);
  }
  broker::AdminOutcome made;
  if (name == "__consumer_offsets") {
    made = co_await service.broker().ensure_offsets_topic();
  } else {
    catalog::CreateTopic create;
    create.name = name;
    made = co_await service.broker().create_topic(std::move(create), false);
  }
  const auto topic = service.broker().catalog()->topic(name);
  if (topic != nullptr) co_return describe(*topic);
  co_return missing(name, {}, made.error == KafkaError::kNone
                                  ? KafkaError::kUnknownTopicOrPartition
                                  : made.error);
}

wire::MetadataResponse::Topic by_id(Service& service, Uuid id) {
  const auto topic = service.broker().catalog()->topic(TopicId{id});
  return topic == nullptr ? missing(std::nullopt, id, KafkaError::kUnknownTopicId)
                          : describe(*topic);
}

}  // namespace

Handled handle_metadata(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::MetadataRequest>(request));
  wire::MetadataResponse out;
  const bool all = !in.topics || (request.version() == 0 && in.topics->empty());
  if (all) {
    for (const auto& topic : service.broker().catalog()->topics()) {
      out.topics.push_back(describe(*topic));
      PYRALOG_CO_TRY(request.take_room(size_of(out.topics.back())));
    }
  } else {
    const bool may_create = request.version() < 4 || in.allow_auto_topic_creation;
    std::set<std::string> seen;
    std::set<Uuid> seen_ids;
    for (const auto& topic : *in.topics) {
      // Java's client sends an empty name beside the id, not null.
      if (!topic.name || !topic.topic_id.is_nil()) {
        if (!seen_ids.insert(topic.topic_id).second && !PYRALOG_PLANT("kafka.repeated_ids")) continue;
        out.topics.push_back(by_id(service, topic.topic_id));
      } else if (seen.insert(*topic.name).second) {
        out.topics.push_back(co_await find_or_create(service, *topic.name, may_create));
      } else {
        continue;
      }
      PYRALOG_CO_TRY(request.take_room(size_of(out.topics.back())));
    }
  }
  if (in.include_topic_authorized_operations) {
    // Of a name that no topic has, too: clients decode the bits before they look at the error.
    for (auto& topic : out.topics) {
      if (topic.error_code != code(KafkaError::kUnknownTopicId)) {
        topic.topic_authorized_operations = kTopicOperations;
      }
    }
  }
  const broker::CatalogPtr state = service.broker().catalog();
  for (const auto& [id, node] : state->nodes()) {
    auto& each = out.brokers.emplace_back();
    each.node_id = id.value;
    each.host = node.host;
    each.port = node.port;
    if (!node.rack.empty()) each.rack = node.rack;
  }
  out.cluster_id = to_string(state->cluster());
  out.controller_id = service.broker().node().value;
  if (in.include_cluster_authorized_operations) {
    out.cluster_authorized_operations = kClusterOperations;
  }
  co_return reply(request, out);
}

Handled handle_describe_cluster(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DescribeClusterRequest>(request));
  wire::DescribeClusterResponse out;
  const broker::CatalogPtr state = service.broker().catalog();
  out.endpoint_type = in.endpoint_type;
  if (in.endpoint_type != 1) {
    out.error_code = code(KafkaError::kInvalidRequest);
    out.error_message = "only brokers have endpoints here; ask with endpoint type 1";
  }
  out.cluster_id = to_string(state->cluster());
  out.controller_id = service.broker().node().value;
  for (const auto& [id, node] : state->nodes()) {
    auto& each = out.brokers.emplace_back();
    each.broker_id = id.value;
    each.host = node.host;
    each.port = node.port;
    if (!node.rack.empty()) each.rack = node.rack;
  }
  if (in.include_cluster_authorized_operations) {
    out.cluster_authorized_operations = kClusterOperations;
  }
  co_return reply(request, out);
}

Handled handle_find_coordinator(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::FindCoordinatorRequest>(request));
  constexpr std::int8_t kGroup = 0;
  KafkaError error = KafkaError::kNone;
  std::optional<std::string> message;
  if (in.key_type == kGroup) {
    const auto made = co_await service.broker().ensure_offsets_topic();
    if (made.error != KafkaError::kNone) {
      error = KafkaError::kCoordinatorNotAvailable;
      message = made.message;
    }
  } else if (in.key_type == 1) {
    error = KafkaError::kTransactionalIdAuthorizationFailed;
    message = "transactions are not supported";
  } else {
    error = KafkaError::kInvalidRequest;
    message = "unknown coordinator type " + std::to_string(in.key_type);
  }
  const broker::CatalogPtr state = service.broker().catalog();
  const catalog::Node* node = state->node(service.broker().node());
  const bool found = error == KafkaError::kNone && node != nullptr;
  wire::FindCoordinatorResponse out;
  out.error_code = code(error);
  out.error_message = message;
  out.node_id = found ? node->id.value : -1;
  out.host = found ? node->host : "";
  out.port = found ? node->port : -1;
  for (const auto& key : in.coordinator_keys) {
    PYRALOG_CO_TRY(request.take_room(sizeof(wire::FindCoordinatorResponse::Coordinator) + key.size() +
                                      out.host.size() + message.value_or("").size()));
    auto& each = out.coordinators.emplace_back();
    each.key = key;
    each.node_id = out.node_id;
    each.host = out.host;
    each.port = out.port;
    each.error_code = out.error_code;
    each.error_message = out.error_message;
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
