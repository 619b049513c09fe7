#include "client/cluster.h"

#include <algorithm>

#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/metadata.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {
constexpr unsigned kCreationAttempts = 8;
}  // namespace

Result<std::vector<io::Address>> parse_bootstrap(std::string_view text) {
  std::vector<io::Address> found;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    PYRALOG_ASSIGN(auto address, io::parse_address(text.substr(0, comma)));
    found.push_back(std::move(address));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  if (found.empty()) {
    return fail(Code::kInvalidArgument, "bootstrap: names no server; give HOST:PORT");
  }
  return found;
}

std::string to_string(const TopicPartition& partition) {
  return "topic \"" + partition.topic + "\" partition " + std::to_string(partition.partition);
}

Cluster::Cluster(ClusterOptions options) : options_(std::move(options)) {}

Cluster::~Cluster() {
  PYRALOG_ASSERT(tasks_.running() == 0);
}

Instant Cluster::attempt_end(Instant deadline) const {
  return std::min(deadline, io::Shard::current().now() + options_.request_timeout);
}

io::Task<Result<std::shared_ptr<Connection>>> Cluster::connect(io::Address address,
                                                               Instant deadline) {
  auto& place = slots_[io::to_string(address)];
  if (!place) place = std::make_unique<Slot>();
  Slot& slot = *place;
  if (slot.connection && !slot.connection->broken()) co_return slot.connection;
  auto turn = co_await slot.opening.lock();
  if (slot.connection && !slot.connection->broken()) co_return slot.connection;
  if (closed_) co_return fail(Code::kCancelled, "the client is closed");
  const Instant end = std::min(deadline, io::Shard::current().now() + options_.connect_timeout);
  PYRALOG_CO_ASSIGN(slot.connection,
                    co_await Connection::open(address, options_.connection, tasks_, end));
  if (closed_) slot.connection->close({Code::kCancelled, "the client is closed", 0});
  co_return slot.connection;
}

io::Task<Result<std::shared_ptr<Connection>>> Cluster::any(Instant deadline) {
  for (const auto& [address, slot] : slots_) {
    if (slot->connection && !slot->connection->broken()) co_return slot->connection;
  }
  std::vector<io::Address> candidates = options_.bootstrap;
  for (const auto& [id, address] : nodes_) {
    if (std::ranges::find(candidates, address) == candidates.end()) candidates.push_back(address);
  }
  Error last{Code::kInvalidArgument, "bootstrap: names no server; give HOST:PORT", 0};
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    auto connection =
        co_await connect(candidates[(next_bootstrap_ + i) % candidates.size()], deadline);
    if (connection) co_return connection;
    last = connection.error();
  }
  ++next_bootstrap_;
  co_return fail(std::move(last));
}

io::Task<Result<std::shared_ptr<Connection>>> Cluster::node(std::int32_t id, Instant deadline) {
  if (!nodes_.contains(id)) PYRALOG_CO_TRY(co_await all_topics(deadline));
  const auto known = nodes_.find(id);
  if (known == nodes_.end()) {
    co_return fail(Code::kUnavailable,
                   "server " + std::to_string(id) + ": the cluster does not say where it is");
  }
  co_return co_await connect(known->second, deadline);
}

io::Task<Result<std::vector<TopicInfo>>> Cluster::ask(std::optional<std::string> name, bool create,
                                                      Instant deadline) {
  kafka::MetadataRequest request;
  request.allow_auto_topic_creation = create;
  if (name) {
    kafka::MetadataRequest::Topic topic;
    topic.name = *name;
    request.topics.emplace().push_back(std::move(topic));
  }
  PYRALOG_CO_ASSIGN(auto connection, co_await any(deadline));
  PYRALOG_CO_ASSIGN(auto reply, co_await connection->call<kafka::MetadataResponse>(
                                    std::move(request), attempt_end(deadline)));
  for (const auto& broker : reply.message.brokers) {
    nodes_[broker.node_id] = {broker.host, static_cast<std::uint16_t>(broker.port)};
  }
  std::vector<TopicInfo> found;
  const Instant now = io::Shard::current().now();
  for (auto& topic : reply.message.topics) {
    if (topic.error_code != 0) {
      if (name) co_return fail(to_error("topic \"" + *name + "\"", topic.error_code));
      continue;
    }
    TopicInfo info;
    info.name = topic.name.value_or("");
    info.id.uuid = topic.topic_id;
    info.internal = topic.is_internal;
    for (auto& partition : topic.partitions) {
      info.partitions.push_back({partition.partition_index, partition.leader_id,
                                 partition.leader_epoch, std::move(partition.replica_nodes),
                                 std::move(partition.isr_nodes),
                                 std::move(partition.offline_replicas)});
    }
    std::ranges::sort(info.partitions, {}, &PartitionInfo::index);
    topics_[info.name] = {info, now};
    found.push_back(std::move(info));
  }
  co_return found;
}

const TopicInfo* Cluster::known_topic(const std::string& name) const {
  const auto known = topics_.find(name);
  if (known == topics_.end()) return nullptr;
  const Instant now = io::Shard::current().now();
  return now - known->second.asked > options_.metadata_max_age ? nullptr : &known->second.info;
}

void Cluster::forget_topic(const std::string& name) {
  topics_.erase(name);
}

io::Task<Result<TopicInfo>> Cluster::topic(std::string name, bool create, Instant deadline) {
  if (const TopicInfo* known = known_topic(name)) co_return *known;
  io::Backoff backoff(options_.backoff);
  for (;;) {
    auto found = co_await ask(name, create, deadline);
    if (found && !found->empty() && !found->front().partitions.empty()) {
      co_return std::move(found->front());
    }
    const Error error =
        found ? Error{Code::kUnavailable, "topic \"" + name + "\": has no partitions yet", 0}
              : found.error();
    // What does not exist will not come by waiting, unless asking has just created it.
    const bool again = is_retriable(error) || (create && error.code == Code::kNotFound &&
                                               backoff.attempts() < kCreationAttempts);
    if (!again || !co_await backoff.wait(deadline)) co_return fail(error);
  }
}

io::Task<Result<std::vector<TopicInfo>>> Cluster::all_topics(Instant deadline) {
  io::Backoff backoff(options_.backoff);
  for (;;) {
    auto found = co_await ask(std::nullopt, false, deadline);
    if (found || !is_retriable(found.error())) co_return found;
    if (!co_await backoff.wait(deadline)) co_return found;
  }
}

io::Task<Result<std::shared_ptr<Connection>>> Cluster::leader(TopicPartition partition,
                                                              Instant deadline) {
  PYRALOG_CO_ASSIGN(const TopicInfo info, co_await topic(partition.topic, false, deadline));
  for (const PartitionInfo& each : info.partitions) {
    if (each.index != partition.partition) continue;
    if (each.leader < 0) {
      forget_topic(partition.topic);
      co_return fail(Code::kUnavailable, to_string(partition) + ": has no leader now");
    }
    auto connection = co_await node(each.leader, deadline);
    if (!connection) forget_topic(partition.topic);
    co_return connection;
  }
  co_return fail(Code::kNotFound, to_string(partition) + ": there is no such partition");
}

io::Task<Result<std::shared_ptr<Connection>>> Cluster::coordinator(std::string group,
                                                                   Instant deadline) {
  io::Backoff backoff(options_.backoff);
  Error error;
  for (;;) {
    if (const auto known = coordinators_.find(group); known != coordinators_.end()) {
      auto connection = co_await node(known->second, deadline);
      if (connection) co_return connection;
      coordinators_.erase(group);
    }
    kafka::FindCoordinatorRequest request;
    request.key = group;
    request.coordinator_keys = {group};
    auto reply = co_await call_any<kafka::FindCoordinatorResponse>(std::move(request), deadline);
    if (!reply) co_return fail(reply.error());
    const auto& message = reply->message;
    std::int16_t code = message.error_code;
    std::int32_t id = message.node_id;
    io::Address address{message.host, static_cast<std::uint16_t>(message.port)};
    std::optional<std::string> said = message.error_message;
    if (reply->version >= 4 && !message.coordinators.empty()) {
      const auto& first = message.coordinators.front();
      code = first.error_code;
      id = first.node_id;
      address = {first.host, static_cast<std::uint16_t>(first.port)};
      said = first.error_message;
    }
    if (code == 0) {
      nodes_[id] = address;
      coordinators_[group] = id;
      auto connection = co_await node(id, deadline);
      if (connection) co_return connection;
      error = connection.error();
      coordinators_.erase(group);
    } else {
      error = to_error("group \"" + group + "\"", code, said);
      if (!traits_of(code).retriable) co_return fail(error);
    }
    if (!co_await backoff.wait(deadline)) co_return fail(error);
  }
}

io::Task<void> Cluster::close() {
  closed_ = true;
  for (auto& [address, slot] : slots_) {
    auto turn = co_await slot->opening.lock();
    if (slot->connection) slot->connection->close({Code::kCancelled, "the client is closed", 0});
  }
  co_await tasks_.join();
}

}  // namespace pyralog::client
