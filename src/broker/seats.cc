#include "broker/seats.h"

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "observe/log.h"

namespace pyralog::broker {

namespace {
/// A replica that is opened again may have lost what it held and had not synced, so it counts as
/// another life; starts are further apart than that.
constexpr std::uint64_t kLivesOfAStart = 1u << 20;
/// Of a partition whose replicas move, between its epochs.
constexpr Duration kBetweenSteps = std::chrono::seconds(2);
constexpr Duration kBlockedForLong = std::chrono::seconds(20);
}  // namespace

bool Seats::hosts(const catalog::Partition& partition) const {
  const NodeId self = ways_.self.node;
  const auto has_self = [&](const std::vector<NodeId>& nodes) {
    return std::ranges::find(nodes, self) != nodes.end();
  };
  // An epoch may need a copy here before it is active.
  if (has_self(partition.replicas) || has_self(partition.target)) return true;
  return partition.current &&
         std::ranges::find(partition.current->replicas, self, &catalog::Replica::node) !=
             partition.current->replicas.end();
}

replica::Promise Seats::promised(const PartitionId& id) const {
  const auto known = ways_.promises.find(id);
  return known == ways_.promises.end() ? replica::Promise() : known->second;
}

io::Task<Result<void>> Seats::doubt(PartitionId id, bool emptied) {
  replica::Promise promise = promised(id);
  if (promise.in_doubt && promise.emptied >= emptied) co_return Result<void>{};
  promise.in_doubt = true;
  promise.emptied = promise.emptied || emptied;
  PYRALOG_CO_TRY(co_await ways_.store(id, promise));
  ways_.promises[id] = promise;
  co_return Result<void>{};
}

io::Task<Result<void>> Seats::join(std::shared_ptr<replica::Replica> replica,
                                   std::optional<std::string> doubt, bool fresh,
                                   std::shared_ptr<const catalog::Catalog> state) {
  const PartitionId id = replica->id();
  const catalog::Partition& partition = *state->partition(id);
  const bool again = !had_one_.try_emplace(id, true).second;
  if (again) ++opened_again_;
  replica::Promise promise;
  // A later start would not find what made this one doubt.
  if (doubt) PYRALOG_CO_TRY(co_await this->doubt(id));
  if (const auto known = ways_.promises.find(id); known != ways_.promises.end())
    promise = known->second;
  auto seat = std::make_shared<Seat>();
  seat->replica = replica;
  seat->since = partition.highest_proposed;
  seat->fresh = fresh && !again;
  replica::Membership membership;
  membership.wire = ways_.wire;
  membership.self = {ways_.self, ways_.start * kLivesOfAStart + opened_again_};
  membership.promise = promise;
  membership.leading = ways_.leading;
  membership.in_doubt = doubt.has_value();
  membership.store = [this, id](replica::Promise newer) -> io::Task<Result<void>> {
    PYRALOG_CO_TRY(co_await ways_.store(id, newer));
    ways_.promises[id] = newer;
    co_return Result<void>{};
  };
  membership.cutting = [this, id](Offset to) { return ways_.cutting(id, to); };
  membership.cut_ended = [this, id] { ways_.cut_ended(id); };
  membership.may_take = [this, id] { return ways_.may_take(id); };
  membership.failed = [this, id] { ways_.failed(id); };
  membership.activate = [this, weak = std::weak_ptr<Seat>(seat)](
                            Activation activation,
                            std::optional<Loss> loss) -> io::Task<Result<void>> {
    const auto held = weak.lock();
    if (held == nullptr) co_return fail(Code::kUnavailable, "the replica is being closed");
    co_return co_await activate(held, std::move(activation), std::move(loss));
  };
  membership.role_changed = [this, id, weak = std::weak_ptr<Seat>(seat)](bool now) {
    if (const auto held = weak.lock()) leads(id, held, now);
    ways_.role_changed(id);
  };
  PYRALOG_CO_TRY(replica->join(std::move(membership)));
  seats_[id] = seat;
  ways_.wire->add(id, *replica->participant());
  const bool led_before =
      partition.current && partition.current->leader == ways_.self.node && !seat->fresh;
  const bool asked_by_other = partition.current &&
                              partition.highest_proposed > partition.current->epoch &&
                              partition.candidate != ways_.self.node;
  tell(id, *state);
  if (led_before && !asked_by_other) to_propose_.push_back(id);
  co_return Result<void>{};
}

void Seats::leads(const PartitionId& id, const std::shared_ptr<Seat>& seat, bool now) {
  if (now && !seat->left) {
    led_[id] = seat;
  } else if (const auto at = led_.find(id); at != led_.end() && at->second == seat) {
    led_.erase(at);
  }
}

void Seats::tell(const PartitionId& id, const catalog::Catalog& state) {
  const auto at = seats_.find(id);
  const catalog::Partition* partition = state.partition(id);
  if (at == seats_.end() || partition == nullptr) return;
  const std::shared_ptr<Seat> seat = at->second;
  replica::Participant& participant = *seat->replica->participant();
  participant.catalog(*partition, seat->fresh);
  const Epoch current = partition->current ? partition->current->epoch : Epoch(0);
  const catalog::TopicConfig& config = state.topic(id.topic)->config;
  const std::uint16_t quorum =
      catalog::write_quorum(partition->replicas.size(), config.min_insync_replicas);
  // Every step of a move has a W of its own, and `advance` sees to it.
  const bool moving = !partition->target.empty() && !PYRALOG_PLANT("broker.no_quorum_of_a_step");
  if (participant.leads() && participant.epoch() == current &&
      partition->highest_proposed == current && partition->current->write_quorum != quorum &&
      !moving && !PYRALOG_PLANT("broker.keep_the_first_quorum")) {
    // What the topic's settings ask for now counts from the next epoch on.
    to_propose_.push_back(id);
  }
  const bool ours =
      partition->candidate == ways_.self.node && partition->highest_proposed > current;
  // What a former life has asked for it may have led.
  const bool of_this_life = partition->highest_proposed > seat->since;
  if (!ours || !of_this_life) return;
  const auto next = next_epoch(*seat, *partition, config.min_insync_replicas, state);
  if (!next) return;
  std::vector<catalog::Replica> replicas;
  for (const NodeId each : next->nodes) {
    if (const catalog::Node* node = state.node(each)) replicas.push_back({each, node->incarnation});
  }
  participant.campaign(partition->highest_proposed, *partition, std::move(replicas),
                       next->write_quorum, config.unclean_leader_election);
}

catalog::Keeping Seats::keeping(const Seat& seat, const catalog::Partition& partition,
                                const catalog::Catalog& state) const {
  catalog::Keeping out;
  out.replaced = catalog::replaced_disks(partition, state);
  out.caught_up.insert(ways_.self.node);
  const replica::Leading* leading = seat.replica->participant()->leading();
  if (leading == nullptr) return out;
  for (const replica::Leading::Follower& each : leading->followers()) {
    const bool has_all = each.contiguous && each.linked && each.log_end >= seat.committed;
    if (has_all) {
      out.caught_up.insert(each.disk.node);
    }
  }
  return out;
}

std::optional<catalog::NextReplicas> Seats::next_epoch(const Seat& seat,
                                                       const catalog::Partition& partition,
                                                       std::int32_t min_insync,
                                                       const catalog::Catalog& state) const {
  const NodeId self = ways_.self.node;
  const replica::Participant& participant = *seat.replica->participant();
  if (partition.current && participant.leads() && participant.epoch() == partition.current->epoch) {
    auto next = next_step(seat, partition, keeping(seat, partition, state), min_insync);
    if (next) return next;
  }
  std::set<NodeId> reached;
  for (const NodeId each : partition.target) {
    if (ways_.wire->connected(each)) reached.insert(each);
  }
  for (const NodeId each : partition.replicas) {
    if (ways_.wire->connected(each)) reached.insert(each);
  }
  return catalog::replicas_for_candidate(partition, self, min_insync, reached);
}

std::optional<catalog::NextReplicas> Seats::next_step(const Seat& seat,
                                                      const catalog::Partition& partition,
                                                      const catalog::Keeping& keeping,
                                                      std::int32_t min_insync) const {
  const NodeId self = ways_.self.node;
  if (auto next = catalog::next_replicas(partition, keeping, self, min_insync)) return next;
  // It stays unreadable, too, until a new one has a copy: a disk that is gone for good is not
  // waited for, a node that is to go for some time.
  if (!seat.blocked_since || PYRALOG_PLANT("broker.wait_for_what_is_gone")) return std::nullopt;
  const Duration patience = keeping.replaced.empty() ? kBlockedForLong : kBetweenSteps;
  if (io::Shard::current().now() - *seat.blocked_since < patience) return std::nullopt;
  return catalog::replace_missing(partition, keeping, self, min_insync);
}

std::vector<std::pair<PartitionId, NodeId>> Seats::advance(const catalog::Catalog& state) {
  std::vector<std::pair<PartitionId, NodeId>> others;
  const Instant now = io::Shard::current().now();
  for (const auto& [id, seat] : led_) {
    const catalog::Partition* partition = state.partition(id);
    replica::Participant& participant = *seat->replica->participant();
    if (partition == nullptr || !partition->current || !participant.leads()) continue;
    if (seat->led != participant.epoch()) {
      seat->led = participant.epoch();
      seat->led_since = now;
    }
    const catalog::EpochRecord& current = *partition->current;
    const bool settled =
        current.epoch == participant.epoch() && partition->highest_proposed == current.epoch;
    // Who has just been taken in is given the time to come.
    // What is to move, or was on a disk that is no more.
    const bool to_do =
        !partition->target.empty() || !catalog::replaced_disks(*partition, state).empty();
    if (participant.may_accept()) {
      seat->blocked_since.reset();
    } else if (!seat->blocked_since) {
      seat->blocked_since = now;
    }
    if (settled && to_do && now - seat->led_since >= kBetweenSteps) {
      const catalog::Keeping keep = keeping(*seat, *partition, state);
      const std::int32_t least = state.topic(id.topic)->config.min_insync_replicas;
      if (next_step(*seat, *partition, keep, least)) {
        to_propose_.push_back(id);
      } else if (const auto to = catalog::hand_over(*partition, keep, ways_.self.node)) {
        others.emplace_back(id, *to);
      }
    }
    seat->committed = seat->replica->high_watermark();
  }
  return others;
}

bool Seats::is_led_elsewhere(const PartitionId& id, const catalog::Catalog& state) const {
  const catalog::Partition* partition = state.partition(id);
  if (partition == nullptr || !partition->current) return false;
  const Epoch current = partition->current->epoch;
  const bool settled = partition->highest_proposed == current;
  const NodeId by = settled ? partition->current->leader : partition->candidate;
  if (by == ways_.self.node || !ways_.wire->connected(by)) return false;
  return settled || catalog::is_stuck(*partition);
}

bool Seats::can_be_spared(const PartitionId& id, const catalog::Catalog& state, Instant now) const {
  const catalog::Partition* partition = state.partition(id);
  const auto at = seats_.find(id);
  if (at == seats_.end() || partition == nullptr || !partition->current) return false;
  const catalog::EpochRecord& current = *partition->current;
  if (partition->highest_proposed != current.epoch) return false;
  if (current.replicas.size() <= current.write_quorum) return false;
  const replica::Participant& participant = *at->second->replica->participant();
  if (!participant.leads()) {
    const auto others = std::ranges::count_if(current.replicas, [&](const catalog::Replica& each) {
      return each.node != ways_.self.node && ways_.wire->connected(each.node);
    });
    return participant.followed(now).has_value() &&
           static_cast<std::size_t>(others) >= current.write_quorum;
  }
  if (participant.epoch() != current.epoch) return false;
  const std::vector<NodeId> in_sync = participant.leading()->in_sync(now);
  // Who has gone is in sync for as long as a lag may last.
  const auto others = std::ranges::count_if(
      participant.leading()->followers(), [&](const replica::Leading::Follower& each) {
        return each.linked && std::ranges::binary_search(in_sync, each.disk.node);
      });
  return static_cast<std::size_t>(others) >= current.write_quorum;
}

bool Seats::has_all(const PartitionId& id, Instant now) const {
  const auto at = seats_.find(id);
  if (at == seats_.end()) return false;
  const replica::Participant& participant = *at->second->replica->participant();
  if (participant.failed() || participant.following().promise().in_doubt) return false;
  return participant.leads() || participant.followed(now).has_value();
}

Lags Seats::lags(Instant now) const {
  Lags out;
  for (const auto& [id, seat] : led_) {
    const replica::Participant& participant = *seat->replica->participant();
    const replica::Leading* leading = participant.leading();
    if (!participant.leads() || leading == nullptr || leading->all_in_sync(now)) continue;
    const std::vector<NodeId> in_sync = leading->in_sync(now);
    for (const catalog::Replica& each : leading->term().replicas) {
      if (std::ranges::binary_search(in_sync, each.node)) continue;
      out.push_back({id, leading->term().epoch, each.node});
    }
  }
  std::ranges::sort(out);
  return out;
}

std::vector<PartitionId> Seats::take_to_propose() {
  std::vector<PartitionId> out = std::exchange(to_propose_, {});
  // One that is proposed twice in one go would be refused, and all with it.
  std::ranges::sort(out);
  out.erase(std::ranges::unique(out).begin(), out.end());
  return out;
}

void Seats::leave(const PartitionId& id) {
  const auto at = seats_.find(id);
  if (at == seats_.end()) return;
  ways_.wire->remove(id);
  at->second->left = true;
  at->second->ended.wake_all();
  leads(id, at->second, false);
  seats_.erase(at);
}

io::Task<Result<void>> Seats::activate(std::shared_ptr<Seat> seat, Activation activation,
                                       std::optional<Loss> loss) {
  // The observer of the catalogue may be waiting for this very replica to end.
  const auto result = std::make_shared<std::optional<Result<void>>>();
  tasks_.spawn([](Seats& self, std::shared_ptr<Seat> of, auto told, Activation a,
                  std::optional<Loss> lost) -> io::Task<void> {
    *told = co_await self.ways_.activate(std::move(a), std::move(lost));
    of->ended.wake_all();
  }(*this, seat, result, std::move(activation), std::move(loss)));
  while (!*result && !seat->left) co_await seat->ended.wait(Instant::never());
  if (*result) co_return **result;
  co_return fail(Code::kUnavailable, "the replica is being closed");
}

}  // namespace pyralog::broker
