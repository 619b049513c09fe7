#include "client/cluster.h"

#include <algorithm>

#include "base/plant.h"
#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/metadata.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {
constexpr unsigned kCreationAttempts = 8;
/// Longer than a server that is told to lead needs to begin, or others to hear who does.
constexpr Duration kRefusalHolds = 500ms;
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
    if (address == doubted_) continue;
    if (slot->connection && !slot->connection->broken()) co_return slot->connection;
  }
  std::vector<io::Address> candidates = options_.bootstrap;
  for (const auto& [id, address] : nodes_) {
    if (std::ranges::find(candidates, address) == candidates.end()) candidates.push_back(address);
  }
  if (!candidates.empty())
    std::ranges::rotate(candidates, candidates.begin() + static_cast<std::ptrdiff_t>(
                                                             next_bootstrap_ % candidates.size()));
  const auto last_one = std::ranges::find_if(
      candidates, [this](const io::Address& each) { return io::to_string(each) == doubted_; });
  if (last_one != candidates.end()) std::rotate(last_one, last_one + 1, candidates.end());
  Error last{Code::kInvalidArgument, "bootstrap: names no server; give HOST:PORT", 0};
  for (const io::Address& each : candidates) {
    // There is nobody else.
    if (io::to_string(each) == doubted_) doubted_.clear();
    auto connection = co_await connect(each, deadline);
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
  answered_ = io::to_string(connection->address());
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
    found.push_back(info);
    keep(std::move(info), now);
  }
  co_return found;
}

void Cluster::keep(TopicInfo info, Instant now) {
  const auto known = topics_.find(info.name);
  const bool same =
      known != topics_.end() && known->second.info.id == info.id && info.id != TopicId{};
  // Servers hear of a change one after the other: one may know less than another has said.
  for (PartitionInfo& each : info.partitions) {
    if (!same || static_cast<std::size_t>(each.index) >= known->second.info.partitions.size())
      break;
    const PartitionInfo& before =
        known->second.info.partitions[static_cast<std::size_t>(each.index)];
    if (before.index != each.index || before.leader_epoch <= each.leader_epoch) continue;
    each.leader = before.leader;
    each.leader_epoch = before.leader_epoch;
  }
  const std::string name = info.name;
  topics_[name] = {std::move(info), now, false};
}

PartitionInfo* Cluster::find(const TopicPartition& partition) {
  const auto known = topics_.find(partition.topic);
  if (known == topics_.end()) return nullptr;
  for (PartitionInfo& each : known->second.info.partitions) {
    if (each.index == partition.partition) return &each;
  }
  return nullptr;
}

std::int32_t Cluster::leader_epoch(const TopicPartition& partition) const {
  const auto known = topics_.find(partition.topic);
  if (known == topics_.end()) return -1;
  for (const PartitionInfo& each : known->second.info.partitions) {
    if (each.index == partition.partition) return each.leader_epoch;
  }
  return -1;
}

TopicId Cluster::topic_id(const std::string& name) const {
  const auto known = topics_.find(name);
  return known == topics_.end() ? TopicId{} : known->second.info.id;
}

bool Cluster::refused(const TopicPartition& partition, const io::Address& by, KafkaError error,
                      LeaderHint hint) {
  PartitionInfo* info = find(partition);
  if (info == nullptr) return false;
  const bool usable = hint.leader >= 0 && nodes_.contains(hint.leader) &&
                      !PYRALOG_PLANT("client.ignore_leader_hints");
  if (usable && hint.epoch > info->leader_epoch) {
    info->leader = hint.leader;
    info->leader_epoch = hint.epoch;
    return true;
  }
  const auto at = nodes_.find(info->leader);
  // Another answer may have said meanwhile who leads.
  if (at != nodes_.end() && !(at->second == by)) return true;
  if (at != nodes_.end() && error == KafkaError::kNotLeaderOrFollower) {
    refusals_[partition] = {info->leader, info->leader_epoch,
                            io::Shard::current().now() + kRefusalHolds};
  }
  forget_topic(partition.topic);
  return false;
}

bool Cluster::is_refused(const TopicPartition& partition, const PartitionInfo& info) const {
  const auto found = refusals_.find(partition);
  if (found == refusals_.end()) return false;
  const Refusal& refusal = found->second;
  return refusal.leader == info.leader && refusal.epoch >= info.leader_epoch &&
         io::Shard::current().now() < refusal.until;
}

const TopicInfo* Cluster::known_topic(const std::string& name) const {
  const auto known = topics_.find(name);
  if (known == topics_.end() || known->second.stale) return nullptr;
  const Instant now = io::Shard::current().now();
  return now - known->second.asked > options_.metadata_max_age ? nullptr : &known->second.info;
}

void Cluster::forget_topic(const std::string& name) {
  const auto known = topics_.find(name);
  if (known != topics_.end()) known->second.stale = true;
}

void Cluster::doubt(const std::string& topic) {
  forget_topic(topic);
  if (!PYRALOG_PLANT("client.ask_the_same_again")) doubted_ = answered_;
}

io::Task<Result<TopicInfo>> Cluster::topic(std::string name, bool create, Instant deadline) {
  if (const TopicInfo* known = known_topic(name)) co_return *known;
  io::Backoff backoff(options_.backoff);
  for (;;) {
    while (asking_.contains(name)) {
      if (!co_await asked_.wait(deadline)) {
        co_return fail(Code::kTimedOut,
                       "topic \"" + name + "\": no server has said in time who leads it");
      }
      if (const TopicInfo* known = known_topic(name)) co_return *known;
    }
    asking_.insert(name);
    auto found = co_await ask(name, create, deadline);
    asking_.erase(name);
    asked_.wake_all();
    // As it is kept: another answer may have said more.
    const TopicInfo* known = known_topic(name);
    if (found && known != nullptr && !known->partitions.empty()) co_return *known;
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
      doubt(partition.topic);
      co_return fail(Code::kUnavailable, to_string(partition) + ": has no leader now");
    }
    if (is_refused(partition, each)) {
      doubt(partition.topic);
      co_return fail(Code::kUnavailable, to_string(partition) +
                                             ": who led it does not, and nobody "
                                             "else is said to");
    }
    auto connection = co_await node(each.leader, deadline);
    if (!connection) doubt(partition.topic);
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
