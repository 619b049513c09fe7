// A node that has joined others: what its shards need for that, and what they follow.

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "broker/broker.h"
#include "observe/log.h"

namespace pyralog::broker {

namespace {
/// A proposal that is not through by then is tried again by whoever needs it.
constexpr Duration kProposal = std::chrono::seconds(2);
/// Epochs that are asked for at once.
constexpr std::size_t kProposedTogether = 2'000;

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

Seats::Ways Broker::ways_of(unsigned s) {
  ShardState& state = *states_[s];
  Seats::Ways ways;
  ways.self = {cluster_->node(), cluster_->cookie().incarnation};
  ways.start = cluster_->cookie().boot_counter;
  ways.wire = state.wire.get();
  ways.store = [this](PartitionId id, replica::Promise promise) {
    return io::on(*shards_[0], [this, id, promise] { return promises_->store(id, promise); });
  };
  ways.forget = [this](PartitionId id) { shards_[0]->post([this, id] { promises_->forget(id); }); };
  ways.activate = [this](Seats::Activation activation, std::optional<Seats::Loss> loss) {
    return activate(std::move(activation), std::move(loss));
  };
  ways.cutting = [&state](PartitionId id, Offset to) { return state.partitions.cutting(id, to); };
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
        peers.links(s));
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
    states_[s]->wire->serve(peers.service(s), wires);
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
    state.background.spawn(propose_own(state));
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
  std::set<NodeId> unreachable;
  for (const auto& [id, node] : cluster_->catalog()->nodes()) {
    if (!cluster_->joined()->reaches(id)) unreachable.insert(id);
  }
  if (unreachable == unreachable_) return;
  unreachable_ = unreachable;
  const auto told = std::make_shared<const std::set<NodeId>>(std::move(unreachable));
  for (unsigned s = 0; s < shards_.size(); ++s) {
    shards_[s]->post([state = states_[s].get(), told] { state->unreachable = told; });
  }
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
    state.groups.add(id, *state.partitions.leading(id), catalog);
  }
}

}  // namespace pyralog::broker
