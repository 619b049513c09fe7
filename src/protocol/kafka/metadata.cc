#include "wire/kafka/gen/metadata.h"

#include <algorithm>
#include <set>

#include "base/plant.h"
#include "protocol/kafka/nodes.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/describe_cluster.h"
#include "wire/kafka/gen/find_coordinator.h"

namespace pyralog::protocol::kafka {

namespace {

// Operations that a client may do, as bits: all that exist for the kind, as nobody is refused yet.
constexpr std::int32_t kTopicOperations = 3576;  // read write create delete alter describe configs
constexpr std::int32_t kClusterOperations = 8096;  // create alter describe cluster_action configs …

wire::MetadataResponse::Topic describe(const broker::Broker& broker, const Nodes& nodes,
                                       const catalog::Topic& topic) {
  wire::MetadataResponse::Topic out;
  out.name = topic.name;
  out.topic_id = topic.id.uuid;
  out.is_internal = topic.internal();
  out.partitions.reserve(topic.partitions.size());
  for (const auto& partition : topic.partitions) {
    out.partitions.push_back(nodes.describe(partition->index, broker.roles(topic, *partition)));
  }
  return out;
}

/// What it takes in memory until it is encoded.
std::size_t size_of(const wire::MetadataResponse::Topic& topic) {
  std::size_t bytes = sizeof topic + (topic.name ? topic.name->size() : 0);
  for (const auto& each : topic.partitions) {
    bytes += sizeof each +
             sizeof(std::int32_t) *
                 (each.replica_nodes.size() + each.isr_nodes.size() + each.offline_replicas.size());
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

/// The topic, or why there is none.
struct Found {
  catalog::TopicPtr topic;
  KafkaError error = KafkaError::kNone;
};

io::Task<Found> find_or_create(Service& service, std::string name, bool may_create) {
  if (auto topic = service.broker().catalog()->topic(name)) co_return Found{std::move(topic)};
  if (!is_valid_topic_name(name)) co_return Found{nullptr, KafkaError::kInvalidTopicException};
  if (!may_create || !service.broker().options().auto_create_topics) {
    co_return Found{nullptr, KafkaError::kUnknownTopicOrPartition};
  }
  broker::AdminOutcome made;
  if (name == "__consumer_offsets") {
    made = co_await service.broker().ensure_offsets_topic();
  } else {
    catalog::CreateTopic create;
    create.name = name;
    made = co_await service.broker().create_topic(std::move(create), false);
  }
  if (auto topic = service.broker().catalog()->topic(name)) co_return Found{std::move(topic)};
  co_return Found{
      nullptr, made.error == KafkaError::kNone ? KafkaError::kUnknownTopicOrPartition : made.error};
}

/// At most; less than clients wait for an answer, and than anybody takes to lead after a loss.
constexpr Duration kWaitForLeaders = std::chrono::milliseconds(500);

/// Whether somebody is about to lead a partition that nobody leads now.
bool expects_leader(const broker::Broker& broker, const Nodes& nodes, const catalog::Topic& topic) {
  return std::ranges::any_of(topic.partitions, [&](const auto& partition) {
    if (!partition->current || nodes.leader(broker.roles(topic, *partition))) return false;
    const auto& replicas = partition->current->replicas;
    return std::ranges::any_of(
        replicas, [&](const catalog::Replica& each) { return nodes.find(each.node) != nullptr; });
  });
}

bool expects_leader(const broker::Broker& broker, const wire::MetadataRequest& in, bool all) {
  const Nodes nodes(broker);
  const broker::CatalogPtr state = broker.catalog();
  if (all) {
    return std::ranges::any_of(state->topics(), [&](const catalog::TopicPtr& topic) {
      return expects_leader(broker, nodes, *topic);
    });
  }
  return std::ranges::any_of(*in.topics, [&](const auto& named) {
    const catalog::TopicPtr topic = named.topic_id.is_nil() && named.name
                                        ? state->topic(*named.name)
                                        : state->topic(TopicId{named.topic_id});
    return topic != nullptr && expects_leader(broker, nodes, *topic);
  });
}

/// A client that hears that nobody leads asks again after a pause of its own, a second with
/// librdkafka; a takeover takes a fraction of that. So, for a moment after a node was lost, it is
/// told who leads then.
io::Task<void> wait_for_leaders(const broker::Broker& broker, const wire::MetadataRequest& in,
                                bool all) {
  const Instant deadline = io::Shard::current().now() + kWaitForLeaders;
  while (broker.settling() && expects_leader(broker, in, all) &&
         !PYRALOG_PLANT("kafka.tell_of_no_leader_at_once")) {
    if (!co_await broker.wait_news(deadline)) co_return;
  }
}

template <typename Broker>
void tell(const catalog::Node& node, Broker& out) {
  out.host = node.host;
  out.port = node.port;
  if (!node.rack.empty()) out.rack = node.rack;
}

}  // namespace

Handled handle_metadata(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::MetadataRequest>(request));
  wire::MetadataResponse out;
  const bool all = !in.topics || (request.version() == 0 && in.topics->empty());
  co_await wait_for_leaders(service.broker(), in, all);
  std::optional<Nodes> nodes(service.broker());
  const auto tell_of = [&](const catalog::TopicPtr& topic) {
    out.topics.push_back(describe(service.broker(), *nodes, *topic));
    return request.take_room(size_of(out.topics.back()));
  };
  if (all) {
    for (const auto& topic : service.broker().catalog()->topics()) PYRALOG_CO_TRY(tell_of(topic));
  } else {
    const bool may_create = request.version() < 4 || in.allow_auto_topic_creation;
    std::set<std::string> seen;
    std::set<Uuid> seen_ids;
    for (const auto& topic : *in.topics) {
      Found found;
      // Java's client sends an empty name beside the id, not null.
      const bool by_id = !topic.name || !topic.topic_id.is_nil();
      if (by_id) {
        if (!seen_ids.insert(topic.topic_id).second && !PYRALOG_PLANT("kafka.repeated_ids"))
          continue;
        found.topic = service.broker().catalog()->topic(TopicId{topic.topic_id});
        if (found.topic == nullptr) found.error = KafkaError::kUnknownTopicId;
      } else if (seen.insert(*topic.name).second) {
        found = co_await find_or_create(service, *topic.name, may_create);
        nodes.emplace(service.broker());  // as new as the topic
      } else {
        continue;
      }
      if (found.topic != nullptr) {
        PYRALOG_CO_TRY(tell_of(found.topic));
        continue;
      }
      out.topics.push_back(by_id ? missing(std::nullopt, topic.topic_id, found.error)
                                 : missing(topic.name, {}, found.error));
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
  for (const catalog::Node* node : nodes->all()) {
    auto& each = out.brokers.emplace_back();
    each.node_id = node->id.value;
    tell(*node, each);
  }
  out.cluster_id = to_string(service.broker().catalog()->cluster());
  out.controller_id = service.broker().node().value;
  if (in.include_cluster_authorized_operations) {
    out.cluster_authorized_operations = kClusterOperations;
  }
  co_return reply(request, out);
}

Handled handle_describe_cluster(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DescribeClusterRequest>(request));
  wire::DescribeClusterResponse out;
  out.endpoint_type = in.endpoint_type;
  if (in.endpoint_type != 1) {
    out.error_code = code(KafkaError::kInvalidRequest);
    out.error_message = "only brokers have endpoints here; ask with endpoint type 1";
  }
  out.cluster_id = to_string(service.broker().catalog()->cluster());
  out.controller_id = service.broker().node().value;
  const Nodes nodes(service.broker());
  for (const catalog::Node* node : nodes.all()) {
    auto& each = out.brokers.emplace_back();
    each.broker_id = node->id.value;
    tell(*node, each);
  }
  if (in.include_cluster_authorized_operations) {
    out.cluster_authorized_operations = kClusterOperations;
  }
  co_return reply(request, out);
}

namespace {

/// Where a coordinator is, or why there is none.
struct Coordinator {
  KafkaError error = KafkaError::kNone;
  std::optional<std::string> message;
  const catalog::Node* node = nullptr;
};

/// Why nobody coordinates anything of this kind now.
io::Task<Coordinator> ready_for(Service& service, std::int8_t key_type) {
  constexpr std::int8_t kGroup = 0;
  constexpr std::int8_t kTransaction = 1;
  if (key_type == kTransaction) {
    co_return Coordinator{KafkaError::kTransactionalIdAuthorizationFailed,
                          "transactions are not supported", nullptr};
  }
  if (key_type != kGroup) {
    co_return Coordinator{KafkaError::kInvalidRequest,
                          "unknown coordinator type " + std::to_string(key_type), nullptr};
  }
  auto made = co_await service.broker().ensure_offsets_topic();
  if (made.error == KafkaError::kNone) co_return Coordinator{};
  co_return Coordinator{KafkaError::kCoordinatorNotAvailable, std::move(made.message), nullptr};
}

Coordinator coordinator_of(const broker::Broker& broker, const Nodes& nodes,
                           const std::string& group) {
  const auto id = broker.coordinator(group);
  Coordinator out;
  if (!id) {
    out.error = id.error();
    out.message =
        "nobody leads the partition of __consumer_offsets that the group belongs to; ask again";
  } else {
    out.node = nodes.find(PYRALOG_PLANT("kafka.coordinate_everything") ? broker.node() : *id);
    if (out.node != nullptr) return out;
    out.error = KafkaError::kCoordinatorNotAvailable;
    out.message = "node " + std::to_string(id->value) +
                  " coordinates the group and cannot be reached now; ask again";
  }
  return out;
}

template <typename Answer>
void write(const Coordinator& from, Answer& to) {
  to.error_code = code(from.error);
  to.error_message = from.message;
  to.node_id = from.node == nullptr ? -1 : from.node->id.value;
  to.host = from.node == nullptr ? "" : from.node->host;
  to.port = from.node == nullptr ? -1 : from.node->port;
}

}  // namespace

Handled handle_find_coordinator(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::FindCoordinatorRequest>(request));
  const Coordinator none = co_await ready_for(service, in.key_type);
  const Nodes nodes(service.broker());
  const auto find = [&](const std::string& key) {
    return none.error == KafkaError::kNone ? coordinator_of(service.broker(), nodes, key) : none;
  };
  wire::FindCoordinatorResponse out;
  constexpr std::int16_t kFirstOfMany = 4;
  if (request.version() < kFirstOfMany) write(find(in.key), out);
  for (const auto& key : in.coordinator_keys) {
    const Coordinator found = find(key);
    const std::size_t host = found.node == nullptr ? 0 : found.node->host.size();
    PYRALOG_CO_TRY(request.take_room(sizeof(wire::FindCoordinatorResponse::Coordinator) +
                                     key.size() + host + found.message.value_or("").size()));
    auto& each = out.coordinators.emplace_back();
    each.key = key;
    write(found, each);
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
