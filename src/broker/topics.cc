#include <algorithm>

#include "base/plant.h"
#include "broker/broker.h"
#include "observe/log.h"

namespace pyralog::broker {

namespace {

AdminOutcome refusal(const catalog::TopicError& error) { return {error.code, error.message}; }

AdminOutcome refusal(const Error& error) {
  switch (error.code) {
    case Code::kAlreadyExists:
      return {KafkaError::kTopicAlreadyExists, error.message};
    case Code::kUnsupported:
      return {KafkaError::kUnsupportedVersion, error.message};
    case Code::kNotFound:
      return {KafkaError::kUnknownTopicOrPartition, error.message};
    case Code::kInvalidArgument:
      return {KafkaError::kInvalidRequest, error.message};
    case Code::kIo:
    case Code::kExhausted:
      return {KafkaError::kKafkaStorageError, error.message};
    case Code::kUnavailable:
    case Code::kTimedOut:
      return {KafkaError::kRequestTimedOut, error.message};
    default:
      return {KafkaError::kUnknownServerError, error.message};
  }
}

KafkaError not_deleted(const Error& error) {
  if (error.code == Code::kOutOfRange) return KafkaError::kOffsetOutOfRange;
  if (error.code != Code::kFenced) return KafkaError::kKafkaStorageError;
  // The answer has no room for who it is.
  observe::log_warn("broker.records_held", {{"reason", error.message}});
  return KafkaError::kPolicyViolation;
}

using Entries = Result<std::vector<catalog::Entry>>;

}  // namespace

io::Task<AdminOutcome> Broker::propose(cluster::MetadataLog::Plan plan, bool validate_only) {
  if (validate_only && !PYRALOG_PLANT("broker.validate_by_the_log")) {
    // What this shard knows is what its clients see; nothing waits for a turn or for the disk.
    const auto planned = plan(*catalog());
    co_return planned ? AdminOutcome{} : refusal(planned.error());
  }
  auto done = co_await with_room([&] {
    return io::on(*shards_[0], [&]() -> io::Task<Result<CatalogPtr>> {
      co_return co_await cluster_->metadata().propose(plan);
    });
  });
  if (!done) co_return refusal(done.error());
  co_return AdminOutcome{};
}

io::Task<CreateOutcome> Broker::create_topic(catalog::CreateTopic request, bool validate_only) {
  Uuid id;
  io::Shard& shard = io::Shard::current();
  shard.rng().fill(id.bytes);
  id.bytes[6] = static_cast<std::uint8_t>((id.bytes[6] & 0x0f) | 0x40);
  id.bytes[8] = static_cast<std::uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  const WallMs now = shard.wall();
  if (request.replication_factor == -1 && request.assignment.empty()) {
    request.replication_factor = options_.default_replication_factor;
  }
  AdminOutcome refused;
  CreateOutcome made;
  AdminOutcome outcome;
  // Deleted while this waited for its turn: then there may be old offsets to wait for again.
  for (bool again = true; again;) {
    again = false;
    const bool existed = local().partitions.catalog()->topic(request.name) != nullptr;
    if (!validate_only && !PYRALOG_PLANT("broker.create_before_offsets")) {
      refused = co_await rid_of_offsets(request.name);
      if (refused.error != KafkaError::kNone) break;
    }
    outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
      refused = {};
      again = existed && state.topic(request.name) == nullptr;
      if (again) return std::vector<catalog::Entry>{};
      auto planned = catalog::plan_create_topic(request, state, now, id, options_.topics);
      if (!planned) {
        refused = refusal(planned.error());
        return std::vector<catalog::Entry>{};
      }
      made.partitions = static_cast<std::int32_t>(planned->partitions.size());
      made.replication_factor = static_cast<std::int16_t>(planned->partitions.front().size());
      if (validate_only) return std::vector<catalog::Entry>{};
      return cluster::Cluster::with_first_epochs(*planned, state);
    }, validate_only);
  }
  if (refused.error != KafkaError::kNone) outcome = std::move(refused);
  made.error = outcome.error;
  made.message = std::move(outcome.message);
  co_return made;
}

io::Task<AdminOutcome> Broker::delete_topic(TopicId id) {
  AdminOutcome refused;
  auto outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
    refused = {};
    auto planned = catalog::plan_delete_topic(id, state);
    if (planned) return std::vector<catalog::Entry>{*planned};
    refused = refusal(planned.error());
    return std::vector<catalog::Entry>{};
  });
  co_return refused.error != KafkaError::kNone ? refused : outcome;
}

io::Task<AdminOutcome> Broker::delete_topic(std::string name) {
  AdminOutcome refused;
  auto outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
    refused = {};
    auto planned = catalog::plan_delete_topic(name, state);
    if (planned) return std::vector<catalog::Entry>{*planned};
    refused = refusal(planned.error());
    return std::vector<catalog::Entry>{};
  });
  co_return refused.error != KafkaError::kNone ? refused : outcome;
}

io::Task<std::expected<std::int64_t, KafkaError>> Broker::delete_records(PartitionRef target,
                                                                         std::int64_t offset,
                                                                         Duration timeout) {
  using Answer = std::expected<std::int64_t, KafkaError>;
  const auto id = resolve(target);
  if (!id) co_return std::unexpected(id.error());
  const catalog::TopicPtr topic = catalog()->topic(id->topic);
  if (topic->internal() || (topic->config.cleanup_compact && !topic->config.cleanup_delete)) {
    co_return std::unexpected(KafkaError::kPolicyViolation);
  }
  if (offset < -1) co_return std::unexpected(KafkaError::kOffsetOutOfRange);
  const unsigned shard = ShardBroker::shard_of(*id, shards_.size());
  struct Done {
    std::optional<Answer> answer;
    io::WaitList done;
  };
  co_return co_await io::on(*shards_[shard], [&]() -> io::Task<Answer> {
    const auto serving = states_[shard]->partitions.leading(*id);
    if (!serving) co_return std::unexpected(serving.error());
    // Who leads by now would not hear of it.
    if ((*serving)->cut_off()) co_return std::unexpected(KafkaError::kNotLeaderOrFollower);
    const auto state = std::make_shared<Done>();
    // A client's time is meant for other replicas, of which there are none; 0 is usual.
    const Instant deadline =
        io::Shard::current().now() + std::max(timeout, options_.commit_timeout);
    // It outlives the wait: what has begun is done.
    states_[shard]->background.spawn(
        [](Broker* self, std::shared_ptr<replica::Replica> replica, std::int64_t below,
           Instant until, std::shared_ptr<Done> told) -> io::Task<void> {
          // What acks=1 has answered may be on its way to the disk still; it is to go as well.
          const Offset end = replica->log_end();
          if (below < 0 || (Offset(below) > replica->high_watermark() && Offset(below) <= end)) {
            const KafkaError waited = co_await replica->wait_committed(end, until);
            if (waited != KafkaError::kNone) {
              told->answer = std::unexpected(waited);
              told->done.wake_all();
              co_return;
            }
          }
          const Offset to = below < 0 ? replica->high_watermark() : Offset(below);
          const auto deleted =
              co_await self->with_room([&] { return replica->delete_records_below(to); });
          if (deleted) {
            told->answer = replica->log_start().value;
          } else {
            told->answer = std::unexpected(not_deleted(deleted.error()));
          }
          told->done.wake_all();
        }(this, *serving, offset, deadline, state));
    while (!state->answer) {
      if (!co_await state->done.wait(deadline)) break;
    }
    co_return state->answer ? *state->answer : std::unexpected(KafkaError::kRequestTimedOut);
  });
}

io::Task<Result<void>> Broker::hold(PartitionRef target, std::string name, std::int64_t offset) {
  const std::string partition = target.topic + "-" + std::to_string(target.partition);
  const auto id = resolve(target);
  if (!id) co_return fail(Code::kNotFound, "partition " + partition + ": there is none of that name");
  const unsigned shard = ShardBroker::shard_of(*id, shards_.size());
  co_return co_await io::on(*shards_[shard], [&, this]() -> io::Task<Result<void>> {
    const auto replica = states_[shard]->partitions.leading(*id);
    if (!replica) co_return fail(Code::kUnavailable, "partition " + partition + ": it is offline");
    co_return co_await (*replica)->hold(name, Offset(offset));
  });
}

io::Task<void> Broker::release(PartitionRef target, std::string name) {
  const auto id = resolve(target);
  if (!id) co_return;
  const unsigned shard = ShardBroker::shard_of(*id, shards_.size());
  co_await io::on(*shards_[shard], [&, this]() -> io::Task<void> {
    const Hosted* hosted = states_[shard]->partitions.find(*id);
    if (hosted != nullptr && hosted->replica != nullptr) hosted->replica->release(name);
    co_return;
  });
}

io::Task<AdminOutcome> Broker::create_partitions(catalog::CreatePartitions request,
                                                 bool validate_only) {
  if (catalog::Topic::is_internal(request.name)) {
    co_return AdminOutcome{KafkaError::kInvalidPartitions,
                           "topic " + request.name +
                               ": has as many partitions as it was made with; groups would move "
                               "away from what is stored about them"};
  }
  AdminOutcome refused;
  auto outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
    refused = {};
    auto planned = catalog::plan_create_partitions(request, state, options_.topics);
    if (!planned) {
      refused = refusal(planned.error());
      return std::vector<catalog::Entry>{};
    }
    if (validate_only) return std::vector<catalog::Entry>{};
    return cluster::Cluster::with_first_epochs(*planned, state);
  }, validate_only);
  co_return refused.error != KafkaError::kNone ? refused : outcome;
}

io::Task<AdminOutcome> Broker::alter_topic(std::string name,
                                           std::vector<catalog::AlterSetting> changes,
                                           bool validate_only) {
  AdminOutcome refused;
  auto outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
    refused = {};
    auto planned = catalog::plan_alter_topic(name, changes, state);
    if (!planned) refused = refusal(planned.error());
    if (!planned || validate_only || planned->changes.empty()) return std::vector<catalog::Entry>{};
    return std::vector<catalog::Entry>{*planned};
  }, validate_only);
  co_return refused.error != KafkaError::kNone ? refused : outcome;
}

io::Task<AdminOutcome> Broker::replace_topic_settings(std::string name,
                                                      catalog::SettingChanges settings,
                                                      bool validate_only) {
  AdminOutcome refused;
  auto outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
    refused = {};
    auto planned = catalog::plan_replace_topic_settings(name, settings, state);
    if (!planned) refused = refusal(planned.error());
    if (!planned || validate_only || planned->changes.empty()) return std::vector<catalog::Entry>{};
    return std::vector<catalog::Entry>{*planned};
  }, validate_only);
  co_return refused.error != KafkaError::kNone ? refused : outcome;
}

io::Task<AdminOutcome> Broker::alter_defaults(std::vector<catalog::AlterSetting> changes,
                                              bool validate_only) {
  AdminOutcome refused;
  auto outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
    refused = {};
    auto planned = catalog::plan_alter_cluster(changes, state);
    if (!planned) refused = refusal(planned.error());
    if (!planned || validate_only || planned->changes.empty()) return std::vector<catalog::Entry>{};
    return std::vector<catalog::Entry>{*planned};
  }, validate_only);
  co_return refused.error != KafkaError::kNone ? refused : outcome;
}

io::Task<AdminOutcome> Broker::replace_defaults(catalog::SettingChanges settings,
                                                bool validate_only) {
  AdminOutcome refused;
  auto outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
    refused = {};
    std::vector<catalog::AlterSetting> changes;
    for (const auto& [name, value] : settings) {
      changes.push_back({name, catalog::AlterOp::kSet, value});
    }
    for (const auto& [name, value] : state.cluster_settings()) {
      if (!settings.contains(name)) {
        changes.push_back({name, catalog::AlterOp::kDelete, std::nullopt});
      }
    }
    auto planned = catalog::plan_alter_cluster(changes, state);
    if (!planned) refused = refusal(planned.error());
    if (!planned || validate_only || planned->changes.empty()) return std::vector<catalog::Entry>{};
    return std::vector<catalog::Entry>{*planned};
  }, validate_only);
  co_return refused.error != KafkaError::kNone ? refused : outcome;
}

io::Task<AdminOutcome> Broker::reassign(PartitionRef target,
                                        std::optional<std::vector<NodeId>> replicas) {
  AdminOutcome refused;
  auto outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
    refused = {};
    auto planned = catalog::plan_reassign(target.topic, target.partition, replicas, state);
    if (planned) return std::vector<catalog::Entry>{*planned};
    refused = refusal(planned.error());
    return std::vector<catalog::Entry>{};
  });
  co_return refused.error != KafkaError::kNone ? refused : outcome;
}

io::Task<AdminOutcome> Broker::set_draining(NodeId node, bool draining) {
  AdminOutcome refused;
  const std::string name = "node " + std::to_string(node.value);
  auto outcome = co_await propose([&](const catalog::Catalog& state) -> Entries {
    refused = {};
    const catalog::Node* known = state.node(node);
    if (known == nullptr) {
      refused = {KafkaError::kBrokerIdNotRegistered,
                 name + ": the cluster has no such node; look at pyralog cluster status"};
      return std::vector<catalog::Entry>{};
    }
    if (known->draining == draining) return std::vector<catalog::Entry>{};
    const bool others = std::ranges::any_of(state.nodes(), [&](const auto& each) {
      return each.first != node && !each.second.draining;
    });
    if (draining && !others && !PYRALOG_PLANT("broker.drain_the_last")) {
      refused = {KafkaError::kInvalidRequest,
                 name + ": no other node would be left to take what it holds; add a node, or let "
                        "another one drain no longer"};
      return std::vector<catalog::Entry>{};
    }
    return std::vector<catalog::Entry>{catalog::NodeDraining{node, draining}};
  });
  co_return refused.error != KafkaError::kNone ? refused : outcome;
}

std::optional<DrainStatus> Broker::drain_status(NodeId node) const {
  const CatalogPtr state = catalog();
  const catalog::Node* known = state->node(node);
  if (known == nullptr) return std::nullopt;
  DrainStatus status;
  status.draining = known->draining;
  for (const auto& topic : state->topics()) {
    for (const auto& each : topic->partitions) {
      if (each->current && each->current->leader == node) ++status.leading;
    }
  }
  status.plan = catalog::plan_drain(*state, node, kDrainedTogether);
  return status;
}

io::Task<Result<std::int64_t>> Broker::new_producer_id() {
  ShardState& state = local();
  const auto guard = co_await state.producer_ids_turn.lock();
  if (state.producer_ids.left() == 0) {
    PYRALOG_CO_ASSIGN(
        const std::int64_t first, co_await with_room([&] {
          return io::on(*shards_[0], [&]() -> io::Task<Result<std::int64_t>> {
            co_return co_await cluster_->reserve_producer_ids(options_.producer_id_block);
          });
        }));
    state.producer_ids = producer::ProducerIdBlock(ProducerId(first), options_.producer_id_block);
  }
  co_return state.producer_ids.next()->value;
}

io::Task<std::expected<std::vector<producer::ActiveProducer>, KafkaError>> Broker::producers(
    PartitionRef target) {
  using Answer = std::expected<std::vector<producer::ActiveProducer>, KafkaError>;
  const auto id = resolve(target);
  if (!id) co_return Answer(std::unexpected(id.error()));
  const unsigned shard = ShardBroker::shard_of(*id, shards_.size());
  co_return co_await io::on(*shards_[shard], [this, shard, id = *id]() -> io::Task<Answer> {
    const auto replica = states_[shard]->partitions.leading(id);
    if (!replica) co_return Answer(std::unexpected(replica.error()));
    co_return Answer((*replica)->active_producers());
  });
}

io::Task<AdminOutcome> Broker::ensure_offsets_topic() {
  constexpr const char* kName = "__consumer_offsets";
  if (catalog()->topic(kName) != nullptr) co_return AdminOutcome{};
  catalog::CreateTopic request;
  request.name = kName;
  request.partitions = options_.offsets_partitions;
  request.replication_factor = options_.offsets_replication_factor;
  // Durable whatever the default for topics is: a committed offset survives what records survive.
  request.settings = {
      {"cleanup.policy", "compact"}, {"durability", "fsync"}, {"segment.bytes", "104857600"}};
  AdminOutcome made = co_await create_topic(std::move(request), false);
  if (made.error == KafkaError::kTopicAlreadyExists) made = {};
  co_return made;
}

std::expected<PartitionId, KafkaError> Broker::group_partition(const std::string& group) const {
  const catalog::TopicPtr topic = catalog()->topic("__consumer_offsets");
  if (topic == nullptr) return std::unexpected(KafkaError::kCoordinatorNotAvailable);
  const auto partitions = static_cast<std::int32_t>(topic->partitions.size());
  return PartitionId{topic->id, PartitionIndex(group::partition_for(group, partitions))};
}

io::Task<group::ListGroupsResponse> Broker::list_groups(std::vector<std::string> states) {
  std::vector<group::ListGroupsResponse> parts(shards_.size());
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    for (const auto& [id, host] : states_[s]->groups.all()) {
      const KafkaError no = host->is_current() ? states_[s]->partitions.may_coordinate(id)
                                               : KafkaError::kNotCoordinator;
      if (no != KafkaError::kNone) continue;
      auto listed = host->table().list(states);
      if (listed.error != KafkaError::kNone) parts[s].error = listed.error;
      std::ranges::move(listed.groups, std::back_inserter(parts[s].groups));
    }
    co_return;
  });
  group::ListGroupsResponse all;
  for (auto& part : parts) {
    if (part.error != KafkaError::kNone) all.error = part.error;
    std::ranges::move(part.groups, std::back_inserter(all.groups));
  }
  std::ranges::sort(all.groups, {}, &group::GroupListing::group);
  co_return all;
}

}  // namespace pyralog::broker
