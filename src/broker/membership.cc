// A node that has joined others: what its shards need for that, and what they follow.

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "broker/broker.h"
#include "catalog/reassign.h"
#include "io/pace.h"
#include "observe/log.h"
#include "wire/peer/gen/lagging.h"
#include "wire/peer/gen/move_leader.h"

namespace pyralog::broker {

namespace {
/// A proposal that is not through by then is tried again by whoever needs it.
constexpr Duration kProposal = std::chrono::seconds(2);
/// How long a stop waits for others to lead what is led here.
constexpr Duration kHandOver = std::chrono::seconds(2);
/// Epochs that are asked for at once.
constexpr std::size_t kProposedTogether = 2'000;
/// For how long nobody may be heard of who leads the metadata log, and how often that is looked at.
constexpr Duration kOutOfTouch = std::chrono::seconds(1);
constexpr Duration kLookAtTouch = std::chrono::milliseconds(250);
/// Who does not keep up: how often that is looked at, said again though nothing changed, and how
/// much.
constexpr Duration kLookAtLags = std::chrono::seconds(1);
constexpr Duration kSayAgain = std::chrono::seconds(10);
constexpr std::size_t kMostLags = 20'000;
constexpr int kTimesToSay = 3;
/// Of groups' offsets, where nothing else is set.
constexpr std::size_t kReplicasOfOffsets = 3;

namespace wp = wire::peer;

using Entries = Result<std::vector<catalog::Entry>>;

/// Whether whoever answers to a connection is the disk that is registered.
Result<void> registered(const CatalogPtr& state, const peer::Peer& peer) {
  const peer::Identity& who = peer.identity;
  const catalog::Node* known = state->node(who.node);
  if (known == nullptr || known->incarnation == who.incarnation) return {};
  return fail(Code::kFenced, "node " + std::to_string(who.node.value) +
                                 ": its data directory is not the one registered");
}
}  // namespace

Duration Broker::heartbeat() const {
  // Who has nothing to take says so often enough to count as keeping up.
  return std::min(replica::Leading::Options().heartbeat, options_.replica_lag_time_max / 3);
}

Seats::Ways Broker::ways_of(unsigned s) {
  ShardState& state = *states_[s];
  Seats::Ways ways;
  ways.self = {cluster_->node(), cluster_->cookie().incarnation};
  ways.start = cluster_->cookie().boot_counter;
  ways.leading.lag_time_max = options_.replica_lag_time_max;
  ways.leading.heartbeat = heartbeat();
  ways.wire = state.wire.get();
  ways.store = [this](PartitionId id, replica::Promise promise) {
    return io::on(*shards_[0], [this, id, promise] { return promises_->store(id, promise); });
  };
  ways.forget = [this](PartitionId id) { shards_[0]->post([this, id] { promises_->forget(id); }); };
  ways.activate = [this](Seats::Activation activation, std::optional<Seats::Loss> loss) {
    return activate(std::move(activation), std::move(loss));
  };
  ways.cutting = [&state](PartitionId id, Offset to) { return state.partitions.cutting(id, to); };
  ways.cut_ended = [&state](PartitionId id) { state.partitions.cut_ended(id); };
  ways.may_take = [&state](PartitionId id) {
    if (!state.space.refusing) return true;
    // Coordinators go on, from what the reserve has set free.
    const catalog::TopicPtr topic = state.partitions.catalog()->topic(id.topic);
    return topic == nullptr || topic->internal() || topic->config.durability == Durability::kMemory;
  };
  ways.failed = [this, &state](PartitionId id) {
    state.partitions.failed(id);
    if (!state.stopping) state.background.spawn(hand_over(state, id));
  };
  ways.role_changed = [&state](PartitionId id) {
    state.changed_roles.insert(id);
    state.roles_changed.wake_all();
  };
  return ways;
}

io::Task<Result<void>> Broker::prepare_seats() {
  replica::Promises::Options options;
  options.owner = cluster_->cookie().incarnation;
  PYRALOG_CO_ASSIGN(promises_, co_await replica::Promises::open(io::Shard::current().disk(),
                                                                options_.data_dir, options));
  cluster::Peers& peers = cluster_->joined()->peers();
  std::vector<replica::PeerWire*> wires;
  for (unsigned s = 0; s < shards_.size(); ++s) {
    states_[s]->wire = std::make_unique<replica::PeerWire>(
        shards_,
        [count = shards_.size()](const PartitionId& id) {
          return ShardBroker::shard_of(id, count);
        },
        peers.links(s), replica::PeerWire::Options{.heartbeat = heartbeat()});
    wires.push_back(states_[s]->wire.get());
  }
  std::vector<std::unordered_map<PartitionId, replica::Promise>> promised(shards_.size());
  for (const auto& [id, promise] : promises_->all()) {
    promised[ShardBroker::shard_of(id, shards_.size())].emplace(id, promise);
  }
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    Seats::Ways ways = ways_of(s);
    ways.promises = std::move(promised[s]);
    states_[s]->partitions.join(std::make_unique<Seats>(std::move(ways)));
    peer::Service& service = peers.service(s);
    states_[s]->wire->serve(service, wires);
    service.on(wp::Kind::kLagging, [this](peer::Request request) {
      auto said = wp::decode_message<wp::Lagging>(request.body.view(), request.version);
      if (!said || said->lags.size() > kMostLags) return;
      Lags lags;
      for (const auto& each : said->lags) {
        lags.push_back({{TopicId{each.topic_id}, PartitionIndex(each.partition)},
                        Epoch(static_cast<std::uint32_t>(std::max(each.epoch, 0))),
                        NodeId(each.node)});
      }
      const auto lane = static_cast<unsigned>(request.peer->lane);
      shards_[0]->post([this, lane, from = request.from, lags = std::move(lags)]() mutable {
        take_lags(from, lane, std::move(lags));
      });
    });
    if (s == 0) {
      service.on_task(wp::Kind::kMoveLeader,
                      [this](peer::Request request) { return take_move(std::move(request)); });
    }
    co_return;
  });
  co_return Result<void>{};
}

io::Task<void> Broker::take_part() {
  cluster::Joined& joined = *cluster_->joined();
  joined.watch().also_tell([this](NodeId node) {
    states_[0]->wire->link_changed(node);
    look_at_nodes();
  });
  // What has changed since the replicas were opened nobody has told.
  co_await distribute(cluster_->catalog());
  look_at_nodes();
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    ShardState& state = *states_[s];
    peer::Links& links = joined.peers().links(s);
    if (s > 0) {
      links.set_admit([&state](const peer::Peer& peer) {
        return registered(state.partitions.catalog(), peer);
      });
      links.on_change(
          [&state](NodeId node, bool, const std::string&) { state.wire->link_changed(node); });
    }
    state.background.spawn(state.wire->run());
    state.background.spawn(follow_roles(state));
    state.background.spawn(tell_lags(state, s));
    state.background.spawn(propose_own(state));
    if (s == 0) state.background.spawn(tell_touch(state));
    co_return;
  });
}

io::Task<void> Broker::leave_others() {
  cluster_->joined()->watch().also_tell(nullptr);
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    peer::Links& links = cluster_->joined()->peers().links(s);
    if (s > 0) {
      links.on_change(nullptr);
      links.set_admit(nullptr);
    }
    if (states_[s]->wire != nullptr) co_await states_[s]->wire->stop();
  });
}

void Broker::look_at_nodes() {
  Lost unreachable;
  bool forgotten = false;
  for (const auto& [id, node] : cluster_->catalog()->nodes()) {
    if (cluster_->joined()->reaches(id)) continue;
    const auto known = unreachable_.find(id);
    const bool fresh = known == unreachable_.end();
    unreachable.emplace(id, fresh ? io::Shard::current().now() : known->second);
    if (fresh) forgotten = lag_board_.forget(id) || forgotten;
  }
  if (unreachable == unreachable_) return;
  if (forgotten) publish_lags();
  unreachable_ = unreachable;
  const auto told = std::make_shared<const Lost>(std::move(unreachable));
  for (unsigned s = 0; s < shards_.size(); ++s) {
    shards_[s]->post([state = states_[s].get(), told] {
      state->unreachable = told;
      state->news.wake_all();
    });
  }
}

io::Task<void> Broker::tell_touch(ShardState& state) {
  cluster::Joined& joined = *cluster_->joined();
  Instant last = io::Shard::current().now();
  bool told = true;
  while (!state.stopping) {
    const Instant now = io::Shard::current().now();
    const NodeId leader = joined.raft().status(cluster::kGlobalGroup).leader;
    if (leader != raft::kNobody && joined.reaches(leader)) last = now;
    // Another one is elected in less.
    const bool in_touch = now - last < kOutOfTouch;
    if (in_touch != told) {
      told = in_touch;
      for (unsigned s = 0; s < shards_.size(); ++s) {
        shards_[s]->post([wire = states_[s]->wire.get(), in_touch] { wire->set_in_touch(in_touch); });
      }
    }
    co_await state.stop_wanted.wait(io::in_step(kLookAtTouch));
  }
}

void Broker::take_lags(NodeId from, unsigned shard, Lags lags) {
  if (lag_board_.take(from, shard, std::move(lags))) publish_lags();
}

void Broker::publish_lags() {
  for (unsigned s = 0; s < shards_.size(); ++s) {
    shards_[s]->post([state = states_[s].get(), all = lag_board_.all()] { state->lags = all; });
  }
}

io::Task<void> Broker::tell_lags(ShardState& state, unsigned shard) {
  while (!state.stopping) {
    const Instant now = io::Shard::current().now();
    Lags lags = state.partitions.seats()->lags(now);
    if (lags.size() > kMostLags) lags.resize(kMostLags);
    // What is said may be lost, and who has just come up has heard nothing.
    if (lags != state.said_lags || !lags.empty()) state.say_lags = kTimesToSay;
    const bool again = state.say_lags > 0 && now - state.said_lags_at >= kSayAgain;
    if (lags != state.said_lags || again) {
      --state.say_lags;
      wp::Lagging message;
      for (const Lag& each : lags) {
        message.lags.push_back({each.id.topic.uuid, each.id.partition.value,
                                static_cast<std::int32_t>(each.epoch.value), each.node.value});
      }
      peer::Links& links = cluster_->joined()->peers().links(shard);
      for (const auto& [node, registered] : state.partitions.catalog()->nodes()) {
        if (node == node_) continue;
        if (auto packed = wp::pack(message)) (void)links.cast(node, std::move(*packed));
      }
      state.said_lags = lags;
      state.said_lags_at = now;
      shards_[0]->post([this, shard, lags = std::move(lags)]() mutable {
        take_lags(node_, shard, std::move(lags));
      });
    }
    co_await state.stop_wanted.wait(now + kLookAtLags);
  }
}

io::Task<AdminOutcome> Broker::move_leader(PartitionRef target, std::optional<NodeId> to) {
  const auto id = resolve(target);
  const std::string name = target.topic + "-" + std::to_string(target.partition);
  if (!id) co_return AdminOutcome{id.error(), "partition " + name + ": there is none of that name"};
  const CatalogPtr state = catalog();
  const catalog::Partition& partition = *state->partition(*id);
  if (!to) {
    for (const NodeId each : partition.replicas) {
      if (local().unreachable->contains(each)) continue;
      to = each;
      break;
    }
    if (!to) {
      co_return AdminOutcome{KafkaError::kEligibleLeadersNotAvailable,
                             "partition " + name + ": none of its replicas can be reached"};
    }
  }
  if (partition.current && partition.current->leader == *to &&
      partition.highest_proposed == partition.current->epoch) {
    co_return AdminOutcome{KafkaError::kElectionNotNeeded,
                           "partition " + name + ": it leads already"};
  }
  auto done =
      co_await io::on(*shards_[0], [this, id = *id, node = *to]() -> io::Task<Result<void>> {
        cluster::Joined* joined = cluster_->joined();
        if (joined == nullptr) co_return fail(Code::kInvalidArgument, "this node is alone");
        const auto status = joined->raft().status(cluster::kGlobalGroup);
        if (status.role == raft::Role::kLeader) co_return co_await joined->watch().move(id, node);
        wp::MoveLeaderRequest request;
        request.topic_id = id.topic.uuid;
        request.partition = id.partition.value;
        request.to = node.value;
        PYRALOG_CO_ASSIGN(
            auto answer,
            co_await joined->peers().links(0).ask<wp::MoveLeaderResponse>(
                status.leader, std::move(request), io::Shard::current().now() + kProposal));
        if (answer.message.code == 0) co_return Result<void>{};
        co_return fail(wp::code_of(answer.message.code), std::move(answer.message.message));
      });
  if (done) co_return AdminOutcome{};
  KafkaError code = KafkaError::kInvalidRequest;
  if (done.error().code == Code::kAlreadyExists) code = KafkaError::kElectionNotNeeded;
  if (done.error().code == Code::kUnavailable) code = KafkaError::kEligibleLeadersNotAvailable;
  if (done.error().code == Code::kTimedOut) code = KafkaError::kRequestTimedOut;
  co_return AdminOutcome{code, done.error().message};
}

std::optional<NodeId> Broker::successor(const catalog::Partition& partition) const {
  if (!partition.current || partition.current->leader != node_) return std::nullopt;
  const auto& replicas = partition.current->replicas;
  for (const NodeId each : partition.replicas) {
    const bool holds = std::ranges::find(replicas, each, &catalog::Replica::node) != replicas.end();
    if (each != node_ && holds && !local().unreachable->contains(each)) return each;
  }
  return std::nullopt;
}

io::Task<void> Broker::hand_over(ShardState& state, PartitionId id) {
  const CatalogPtr catalog = state.partitions.catalog();
  const catalog::TopicPtr topic = catalog->topic(id.topic);
  if (topic == nullptr) co_return;
  const auto to = successor(*catalog->partition(id));
  if (!to) co_return;
  const AdminOutcome moved = co_await move_leader({topic->name, id.partition.value}, to);
  if (moved.error == KafkaError::kNone) co_return;
  observe::log_warn("broker.not_handed_over",
                    {{"partition", topic->name + "-" + std::to_string(id.partition.value)},
                     {"reason", moved.message}});
}

io::Task<void> Broker::hand_over_all() {
  // Who is asked has to be reached, and the proposal goes by a majority: a stop waits for neither
  // long.
  const CatalogPtr state = catalog();
  std::vector<catalog::EpochProposed> wanted;
  for (const auto& topic : state->topics()) {
    for (const auto& partition : topic->partitions) {
      if (partition->current && partition->highest_proposed > partition->current->epoch) continue;
      const auto to = successor(*partition);
      if (!to) continue;
      wanted.push_back(
          {{topic->id, partition->index}, Epoch(partition->highest_proposed.value + 1), *to});
    }
  }
  if (wanted.empty()) co_return;
  const Instant until = io::Shard::current().now() + kHandOver;
  const auto done = co_await cluster_->joined()->log().propose_within(
      [&wanted](const catalog::Catalog& now) -> Entries {
        std::vector<catalog::Entry> entries;
        for (const catalog::EpochProposed& each : wanted) {
          if (now.partition(each.partition) != nullptr && now.check(each))
            entries.emplace_back(each);
        }
        return entries;
      },
      kHandOver);
  if (!done) {
    observe::log_warn("broker.not_handed_over",
                      {{"partition", "all"}, {"reason", done.error().message}});
    co_return;
  }
  const auto still_led = [&] {
    return std::ranges::any_of(wanted, [&](const catalog::EpochProposed& each) {
      const CatalogPtr now = cluster_->catalog();
      const catalog::Partition* partition = now->partition(each.partition);
      return partition != nullptr && partition->current && partition->current->leader == node_;
    });
  };
  while (still_led() && io::Shard::current().now() < until) {
    co_await cluster_->joined()->log().wait_change(
        std::min(until, io::Shard::current().now() + std::chrono::milliseconds(100)));
  }
}

io::Task<void> Broker::take_move(peer::Request request) {
  auto read = wp::decode_message<wp::MoveLeaderRequest>(request.body.view(), request.version);
  if (!read) {
    request.respond.refuse(read.error());
    co_return;
  }
  const PartitionId id{TopicId{read->topic_id}, PartitionIndex(read->partition)};
  const auto done = co_await cluster_->joined()->watch().move(id, NodeId(read->to));
  wp::MoveLeaderResponse answer;
  if (!done) {
    answer.code = wp::code_number(done.error().code);
    answer.message = done.error().message;
  }
  if (auto packed = wp::pack(answer)) request.respond.reply(std::move(*packed));
}

io::Task<void> Broker::propose_own(ShardState& state) {
  std::vector<PartitionId> ids = state.partitions.seats()->take_to_propose();
  while (!ids.empty() && !state.stopping) {
    const std::size_t count = std::min(ids.size(), kProposedTogether);
    const std::vector<PartitionId> some(ids.end() - static_cast<std::ptrdiff_t>(count), ids.end());
    ids.resize(ids.size() - count);
    const auto done = co_await io::on(*shards_[0], [&, this]() -> io::Task<Result<CatalogPtr>> {
      co_return co_await cluster_->joined()->log().propose_within(
          [&](const catalog::Catalog& now) -> Entries {
            std::vector<catalog::Entry> entries;
            for (const PartitionId& id : some) {
              const catalog::Partition* partition = now.partition(id);
              if (partition == nullptr || !partition->current) continue;
              const Epoch current = partition->current->epoch;
              if (partition->current->leader != node_) continue;
              if (partition->highest_proposed > current && partition->candidate != node_) continue;
              const Epoch highest = std::max(partition->highest_proposed, current);
              entries.emplace_back(catalog::EpochProposed{id, Epoch(highest.value + 1), node_});
            }
            return entries;
          },
          kProposal);
    });
    if (done) continue;
    // Whoever leads the metadata log looks after them, too, if this goes on.
    observe::log_warn("broker.epochs_not_asked_for",
                      {{"partitions", some.size()}, {"reason", done.error().message}});
    state.partitions.seats()->propose_later(some);
    break;
  }
  if (!ids.empty()) state.partitions.seats()->propose_later(ids);
}

io::Task<Result<void>> Broker::activate(Seats::Activation activation,
                                        std::optional<Seats::Loss> loss) {
  const WallMs now = io::Shard::current().wall();
  co_return co_await io::on(*shards_[0], [&, this]() -> io::Task<Result<void>> {
    auto done = co_await cluster_->joined()->log().propose_within(
        [&](const catalog::Catalog& state) -> Entries {
          const catalog::Partition* partition = state.partition(activation.partition);
          if (partition == nullptr) return fail(Code::kNotFound, "the partition is gone");
          // An earlier try may have come to stand without anybody hearing of it.
          const bool stands = partition->current && partition->current->epoch == activation.epoch &&
                              partition->current->leader == activation.leader;
          if (stands) return std::vector<catalog::Entry>{};
          std::vector<catalog::Entry> entries;
          if (loss) {
            entries.emplace_back(
                catalog::LostRange{activation.partition, loss->from, loss->to, loss->reason, now});
          }
          entries.emplace_back(catalog::EpochsActivated{{activation}});
          return entries;
        },
        kProposal);
    if (!done) co_return fail(std::move(done.error()));
    co_return Result<void>{};
  });
}

io::Task<void> Broker::advance_moves(ShardState& state) {
  const CatalogPtr catalog = state.partitions.catalog();
  for (const auto& [id, to] : state.partitions.seats()->advance(*catalog)) {
    const catalog::TopicPtr topic = catalog->topic(id.topic);
    const AdminOutcome moved = co_await move_leader({topic->name, id.partition.value}, to);
    if (moved.error == KafkaError::kNone) continue;
    observe::log_warn("broker.not_handed_over",
                      {{"partition", topic->name + "-" + std::to_string(id.partition.value)},
                       {"reason", moved.message}});
  }
}

io::Task<void> Broker::look_after_nodes() {
  cluster::Joined& joined = *cluster_->joined();
  if (!joined.raft().settled_leader(cluster::kGlobalGroup)) co_return;
  co_await drain_nodes();
  co_await spread_offsets();
}

namespace {
/// More replicas of a partition, as many as wanted if there are nodes for them; empty = it has
/// enough.
std::vector<NodeId> spread(const catalog::Partition& partition, std::size_t wanted,
                           std::map<NodeId, std::size_t>& held) {
  std::vector<NodeId> out = partition.replicas;
  if (!partition.target.empty() || out.size() >= wanted) return {};
  while (out.size() < wanted) {
    const std::pair<const NodeId, std::size_t>* next = nullptr;
    for (const auto& each : held) {
      if (std::ranges::find(out, each.first) != out.end()) continue;
      if (next == nullptr || each.second < next->second) next = &each;
    }
    if (next == nullptr) break;
    ++held[next->first];
    out.push_back(next->first);
  }
  return out.size() > partition.replicas.size() ? out : std::vector<NodeId>{};
}
}  // namespace

io::Task<void> Broker::spread_offsets() {
  const auto plan = [this](const catalog::Catalog& now) -> Entries {
    std::vector<catalog::Entry> entries;
    const catalog::TopicPtr topic = now.topic("__consumer_offsets");
    // Before all understand moves this waits for the end of the upgrade.
    if (topic == nullptr || !now.may_write(catalog::level_of(catalog::ReplicasWanted{})))
      return entries;
    std::map<NodeId, std::size_t> held;
    for (const auto& [id, node] : now.nodes()) {
      if (!node.draining && !node.lacks_disk() && !unreachable_.contains(id)) held[id] = 0;
    }
    std::size_t under_way = 0;
    for (const auto& each : topic->partitions) {
      under_way += each->target.empty() ? 0u : 1u;
      for (const NodeId id : each->target.empty() ? each->replicas : each->target) {
        if (const auto at = held.find(id); at != held.end()) ++at->second;
      }
    }
    const auto set = options_.offsets_replication_factor;
    const std::size_t wanted = set > 0 ? static_cast<std::size_t>(set) : kReplicasOfOffsets;
    for (const auto& each : topic->partitions) {
      if (under_way >= kDrainedTogether) break;
      auto target = spread(*each, wanted, held);
      if (target.empty()) continue;
      ++under_way;
      entries.emplace_back(catalog::ReplicasWanted{{topic->id, each->index}, std::move(target)});
    }
    return entries;
  };
  const auto wanted = plan(*cluster_->catalog());
  if (!wanted || wanted->empty()) co_return;
  const auto done = co_await cluster_->joined()->log().propose_within(plan, kProposal);
  if (!done) observe::log_warn("broker.offsets_not_spread", {{"reason", done.error().message}});
}

io::Task<AdminOutcome> Broker::change_member(cluster::MemberChange change, Duration timeout) {
  auto done = co_await io::on(*shards_[0], [&, this]() -> io::Task<Result<void>> {
    cluster::Joined* joined = cluster_->joined();
    if (joined == nullptr) {
      co_return fail(Code::kInvalidArgument,
                     "this node is alone; stop it and start it again on the same directory with "
                     "--peer HOST:PORT, where other nodes will reach it, and --cluster-secret-file "
                     "FILE: then it is a cluster of one, to which nodes can be added");
    }
    co_return co_await joined->members().change(change, io::Shard::current().now() + timeout);
  });
  if (done) co_return AdminOutcome{};
  KafkaError code = KafkaError::kInvalidRequest;
  if (done.error().code == Code::kNotFound) code = KafkaError::kBrokerIdNotRegistered;
  if (done.error().code == Code::kUnsupported) code = KafkaError::kUnsupportedVersion;
  if (done.error().code == Code::kTimedOut) code = KafkaError::kRequestTimedOut;
  co_return AdminOutcome{code, done.error().message};
}

io::Task<void> Broker::drain_nodes() {
  cluster::Joined& joined = *cluster_->joined();
  const CatalogPtr state = cluster_->catalog();
  for (const auto& [id, node] : state->nodes()) {
    if (!node.draining) continue;
    if (catalog::plan_drain(*state, id, kDrainedTogether).moves.empty()) continue;
    const auto done = co_await joined.log().propose_within(
        [node = id](const catalog::Catalog& now) -> Entries {
          std::vector<catalog::Entry> entries;
          for (auto& each : catalog::plan_drain(now, node, kDrainedTogether).moves) {
            entries.emplace_back(std::move(each));
          }
          return entries;
        },
        kProposal);
    if (!done) {
      observe::log_warn("broker.not_drained",
                        {{"node", id.value}, {"reason", done.error().message}});
    }
  }
}

io::Task<void> Broker::follow_roles(ShardState& state) {
  while (!state.stopping) {
    if (state.changed_roles.empty()) {
      co_await state.roles_changed.wait(Instant::never());
      continue;
    }
    const PartitionId id = *state.changed_roles.begin();
    state.changed_roles.erase(state.changed_roles.begin());
    const CatalogPtr catalog = state.partitions.catalog();
    const catalog::TopicPtr topic = catalog->topic(id.topic);
    if (topic == nullptr || topic->name != "__consumer_offsets") continue;
    const auto led_in = [&] {
      const auto replica = state.partitions.leading(id);
      return replica ? (*replica)->epoch() : Epoch(0);
    };
    const auto known = state.coordinated.find(id);
    if (known != state.coordinated.end() && known->second != led_in()) {
      state.coordinated.erase(known);
      co_await state.groups.remove(id);
    }
    const Epoch epoch = led_in();
    if (epoch == Epoch(0) || state.draining || state.coordinated.contains(id)) continue;
    state.coordinated[id] = epoch;
    // As it is by now: what has been made meanwhile is not gone.
    state.groups.add(id, *state.partitions.leading(id), state.partitions.catalog());
  }
}

}  // namespace pyralog::broker
