#include "cluster/steward.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"

namespace pyralog::cluster {

namespace {

constexpr std::uint32_t kMaxEpoch = 0x7fffffff;

const NodeLife* life_of(const Liveness& nodes, NodeId node) {
  const auto found = nodes.find(node);
  return found == nodes.end() ? nullptr : &found->second;
}
bool is_up(const Liveness& nodes, NodeId node) {
  const NodeLife* life = life_of(nodes, node);
  return life != nullptr && (life->up || PYRALOG_PLANT("cluster.choose_the_unreachable"));
}
bool is_draining(const Liveness& nodes, NodeId node) {
  const NodeLife* life = life_of(nodes, node);
  return life != nullptr && life->draining;
}
bool contains(const std::vector<NodeId>& list, NodeId node) {
  return std::ranges::find(list, node) != list.end();
}
void add(std::vector<NodeId>& list, NodeId node) {
  if (!contains(list, node)) list.push_back(node);
}

}  // namespace

// --- what is known

void Steward::observe(std::shared_ptr<const catalog::Catalog> state, Instant now) {
  PYRALOG_ASSERT(state != nullptr);
  if (state == state_) return;
  state_ = std::move(state);
  changed_ = true;
  std::set<PartitionId> fresh;
  for (const Leaders::Change& change : leaders_.update(*state_)) {
    note(change, now);
    if (change.before == nullptr || change.after == nullptr ||
        change.before->current != change.after->current) {
      fresh.insert(change.id);
    }
  }
  for (const auto& [id, node] : state_->nodes()) {
    const Start start{node.incarnation, node.boot_counter};
    const auto [known, is_new] = starts_.try_emplace(id, start);
    if (is_new || known->second == start) continue;
    const bool same_disk = known->second.incarnation == start.incarnation;
    known->second = start;
    note_start(id, same_disk, fresh, now);
  }
}

void Steward::note(const Leaders::Change& change, Instant now) {
  const auto open = cases_.find(change.id);
  if (change.after == nullptr || !change.after->current) {
    if (open != cases_.end()) cases_.erase(open);
    return;
  }
  const catalog::Partition& partition = *change.after;
  const catalog::EpochRecord& current = *partition.current;
  if (open != cases_.end() && open->second.of != current.epoch) cases_.erase(open);
  if (partition.highest_proposed > current.epoch) {
    Case& one = case_of(change.id, current);
    if (one.proposed == partition.highest_proposed) return;
    one.proposed = partition.highest_proposed;
    one.since = now;
    one.own_until.reset();
    if (one.asked <= one.proposed) one.asked = Epoch(0);
  } else if (!holds(partition, current.leader)) {
    // Its leader's disk was replaced: nobody leads it, nor comes back to.
    case_of(change.id, current).own_until = now;
  }
}

Steward::Case& Steward::case_of(const PartitionId& id, const catalog::EpochRecord& current) {
  const auto [open, is_new] = cases_.try_emplace(id);
  if (is_new) open->second.of = open->second.proposed = current.epoch;
  return open->second;
}

void Steward::note_start(NodeId node, bool same_disk, const std::set<PartitionId>& fresh,
                         Instant now) {
  const Duration grace = PYRALOG_PLANT("cluster.no_own_grace") ? Duration(0) : options_.own_grace;
  const Instant until = same_disk ? now + grace : now;
  const auto led = leaders_.settled().find(node);
  if (led != leaders_.settled().end()) {
    for (const auto& [id, partition] : led->second) {
      // What has come with this very catalogue may be of the new start.
      if (same_disk ? fresh.contains(id) : holds(*partition, node)) continue;
      case_of(id, *partition->current).own_until = until;
    }
  }
  for (const auto& [id, partition] : leaders_.pending()) {
    if (partition->candidate == node && !fresh.contains(id)) cases_.at(id).own_until = until;
  }
}

bool Steward::holds(const catalog::Partition& partition, NodeId node) const {
  const catalog::Node* known = state_->node(node);
  if (known == nullptr) return false;
  return std::ranges::any_of(partition.current->replicas, [&](const catalog::Replica& each) {
    return each.node == node && each.incarnation == known->incarnation;
  });
}

std::vector<NodeId> Steward::candidates(const catalog::Partition& partition,
                                        const Liveness& nodes) const {
  std::vector<NodeId> preferred = partition.replicas;
  for (const catalog::Replica& each : partition.current->replicas) add(preferred, each.node);
  std::vector<NodeId> out;
  // Better led from where it must leave again than not at all.
  for (const bool draining : {false, true}) {
    for (const NodeId node : preferred) {
      if (is_draining(nodes, node) == draining && is_up(nodes, node) && holds(partition, node))
        out.push_back(node);
    }
  }
  return out;
}

Duration Steward::patience(const Case& open) const {
  Duration out = options_.candidate_patience;
  for (std::size_t i = 0; i < open.repeats && out < options_.most_patience; i += open.tried.size())
    out *= 2;
  return std::min(out, std::max(options_.most_patience, options_.candidate_patience));
}

void Steward::failed() {
  changed_ = true;
  for (auto at = cases_.begin(); at != cases_.end();) {
    Case& open = at->second;
    open.asked = Epoch(0);
    const bool settled = open.proposed <= open.of;
    at = settled && !open.own_until ? cases_.erase(at) : std::next(at);
  }
}

// --- takeovers

Steward::Proposals Steward::step(const Liveness& nodes, Instant now) {
  PYRALOG_ASSERT(state_ != nullptr);
  if (!changed_ && now < again_ && nodes == seen_) return {};
  changed_ = false;
  for (const auto& [node, life] : nodes) {
    const NodeLife* before = life_of(seen_, node);
    if (!life.up || (before != nullptr && before->up)) continue;
    // What could not be done without it may be possible now.
    for (auto& [id, open] : cases_) {
      if (holds(*state_->partition(id), node)) open.repeats = 0;
    }
  }
  seen_ = nodes;
  again_ = Instant::never();
  Proposals out;
  look_at_leaders(nodes, now, out);
  look_at_orphans(nodes, now, out);
  look_at_pending(nodes, now, out);
  if (!out.empty()) trouble_ = now;
  return out;
}

void Steward::look_at_leaders(const Liveness& nodes, Instant now, Proposals& out) {
  for (const auto& [leader, led] : leaders_.settled()) {
    const NodeLife* life = life_of(nodes, leader);
    if (life == nullptr || life->up) continue;
    const Instant due = life->since + options_.takeover_after;
    if (now < due && !PYRALOG_PLANT("cluster.take_over_at_once")) {
      come_back(due);
      continue;
    }
    for (const auto& [id, partition] : led) {
      if (!ask(id, *partition, leader, nodes, now, out)) return;
    }
  }
}

void Steward::look_at_orphans(const Liveness& nodes, Instant now, Proposals& out) {
  std::erase_if(cases_, [&](const auto& each) {
    const Case& open = each.second;
    const bool settled = open.proposed <= open.of;
    return settled && !open.own_until && now >= open.asked_at + options_.most_patience;
  });
  for (const auto& [id, open] : cases_) {
    if (!open.own_until || open.proposed > open.of) continue;
    if (now < *open.own_until) {
      come_back(*open.own_until);
      continue;
    }
    const catalog::Partition* partition = state_->partition(id);
    if (!ask(id, *partition, partition->current->leader, nodes, now, out)) return;
  }
}

void Steward::look_at_pending(const Liveness& nodes, Instant now, Proposals& out) {
  for (const auto& [id, partition] : leaders_.pending()) {
    const Case& open = cases_.at(id);
    const NodeLife* life = life_of(nodes, partition->candidate);
    Instant due = open.since + patience(open);
    if (open.own_until) due = std::max(due, *open.own_until);
    if (life != nullptr && !life->up) due = std::min(due, life->since + options_.takeover_after);
    if (now < due) {
      come_back(due);
      continue;
    }
    if (!ask(id, *partition, partition->candidate, nodes, now, out)) return;
  }
}

bool Steward::ask(const PartitionId& id, const catalog::Partition& partition,
                  std::optional<NodeId> failed_one, const Liveness& nodes, Instant now,
                  Proposals& out) {
  const auto known = cases_.find(id);
  if (known != cases_.end() && known->second.asked > partition.highest_proposed) {
    const Instant due = known->second.asked_at + options_.candidate_patience;
    if (now < due && !PYRALOG_PLANT("cluster.ask_again_and_again")) {
      come_back(due);
      return true;
    }
  }
  if (partition.highest_proposed.value >= kMaxEpoch) return true;
  const std::vector<NodeId> all = candidates(partition, nodes);
  if (all.empty()) return true;  // until that changes
  if (out.size() >= options_.max_proposals && !PYRALOG_PLANT("cluster.unbounded_takeovers")) {
    come_back(now);
    return false;
  }
  Case& open = case_of(id, *partition.current);
  if (failed_one && !PYRALOG_PLANT("cluster.insist_on_the_failed")) {
    std::erase(open.tried, *failed_one);
    open.tried.push_back(*failed_one);
  }
  auto chosen = std::ranges::find_if(all, [&](NodeId each) { return !contains(open.tried, each); });
  if (chosen == all.end()) {
    // All have failed: again the one whose failure is the oldest.
    const auto when = [&](NodeId each) { return std::ranges::find(open.tried, each); };
    chosen = std::ranges::min_element(all, {}, when);
    ++open.repeats;
  }
  open.asked = Epoch(partition.highest_proposed.value + 1);
  open.asked_at = now;
  out.push_back({id, open.asked, *chosen});
  return true;
}

// --- moves

catalog::EpochProposed Steward::move_now(const PartitionId& id, const catalog::Partition& partition,
                                         NodeId to, Instant now) {
  Case& open = case_of(id, *partition.current);
  open.asked = Epoch(partition.highest_proposed.value + 1);
  open.asked_at = now;
  changed_ = true;
  return {id, open.asked, to};
}

Result<catalog::EpochProposed> Steward::move(const PartitionId& id, NodeId to,
                                             const Liveness& nodes, Instant now) {
  PYRALOG_ASSERT(state_ != nullptr);
  const std::string what = "partition " + to_string(id);
  const std::string who = "node " + std::to_string(to.value);
  const catalog::Partition* partition = state_->partition(id);
  if (partition == nullptr) {
    return fail(Code::kNotFound, what + ": does not exist; ask for the topic list again");
  }
  if (!partition->current || cases_.contains(id) ||
      partition->highest_proposed.value >= kMaxEpoch) {
    return fail(Code::kUnavailable, what + ": its leader is changing; try again in a while");
  }
  if (partition->current->leader == to) {
    return fail(Code::kAlreadyExists, what + ": is led by " + who + "; nothing is left to do");
  }
  if (!holds(*partition, to)) {
    return fail(Code::kUnavailable,
                what + ": " + who + " holds no replica of its newest epoch; choose one that does");
  }
  if (!is_up(nodes, to) || is_draining(nodes, to)) {
    return fail(Code::kUnavailable, what + ": " + who + " is " +
                                        (is_up(nodes, to) ? "draining" : "not reached") +
                                        "; choose another or wait until it is back");
  }
  return move_now(id, *partition, to, now);
}

bool Steward::is_calm(const Liveness& nodes, Instant now) const {
  // What nobody can take over is in nobody's way.
  const bool under_way = std::ranges::any_of(cases_, [&](const auto& each) {
    return !candidates(*state_->partition(each.first), nodes).empty();
  });
  if (under_way && !PYRALOG_PLANT("cluster.balance_in_trouble")) return false;
  // Who has just gone may be taken over from at any moment.
  return std::ranges::none_of(leaders_.settled(), [&](const auto& each) {
    const NodeLife* life = life_of(nodes, each.first);
    return life != nullptr && !life->up && now < life->since + options_.takeover_after;
  });
}

void Steward::drain(NodeId node, const Leaders::Partitions& led, const Liveness& nodes, Instant now,
                    Proposals& out) {
  for (const auto& [id, partition] : led) {
    if (out.size() >= options_.max_moves) return;
    if (cases_.contains(id)) continue;
    const std::vector<NodeId> all = candidates(*partition, nodes);
    const auto may = [&](NodeId each) { return each != node && !is_draining(nodes, each); };
    auto to = std::ranges::find_if(
        all, [&](NodeId each) { return may(each) && !is_leaving(*partition, each); });
    if (to == all.end()) to = std::ranges::find_if(all, may);
    if (to != all.end() && partition->highest_proposed.value < kMaxEpoch)
      out.push_back(move_now(id, *partition, *to, now));
  }
}

Steward::Proposals Steward::balance(const Liveness& nodes, Instant now) {
  PYRALOG_ASSERT(state_ != nullptr);
  Proposals out;
  if (!is_calm(nodes, now)) return out;
  for (const auto& [node, led] : leaders_.settled()) {
    if (is_draining(nodes, node) && is_up(nodes, node)) drain(node, led, nodes, now, out);
  }
  const bool early = PYRALOG_PLANT("cluster.balance_early");
  if (!out.empty() || (trouble_ && now < *trouble_ + options_.balance_after && !early)) return out;
  // Goes round, so that those that cannot be moved do not stand in the way of the others.
  const Leaders::Partitions& astray = leaders_.astray();
  auto at = balanced_ ? astray.upper_bound(*balanced_) : astray.begin();
  for (std::size_t i = 0; i < astray.size() && out.size() < options_.max_moves; ++i, ++at) {
    if (at == astray.end()) at = astray.begin();
    const catalog::Partition& partition = *at->second;
    const NodeId to = partition.replicas.front();
    const NodeLife* life = life_of(nodes, to);
    if (life == nullptr || !life->up || life->draining) continue;
    if (now < life->since + options_.balance_after && !early) continue;
    if (!is_up(nodes, partition.current->leader) || !holds(partition, to) ||
        cases_.contains(at->first) || partition.highest_proposed.value >= kMaxEpoch) {
      continue;
    }
    out.push_back(move_now(at->first, partition, to, now));
    balanced_ = at->first;
  }
  return out;
}

}  // namespace pyralog::cluster
