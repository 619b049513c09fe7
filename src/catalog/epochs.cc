// The part of the catalogue that decides who leads a partition, and since when.

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/plant.h"
#include "catalog/catalog.h"

namespace pyralog::catalog {
namespace {

constexpr std::uint32_t kMaxEpoch = 2147483647;
constexpr std::size_t kMaxLostShown = 64;

std::string label(const PartitionId& id) {
  return "partition " + to_string(id);
}

/// Adds the newest epoch and forgets those without records: what starts where it starts or later,
/// and what ends below the log's start.
void add_epoch(std::vector<EpochStart>& epochs, EpochStart newest, Offset log_start) {
  while (!epochs.empty() && epochs.back().start >= newest.start) epochs.pop_back();
  epochs.push_back(newest);
  auto keep = epochs.begin();
  while (keep + 1 != epochs.end() && (keep + 1)->start <= log_start) ++keep;
  epochs.erase(epochs.begin(), keep);
}

}  // namespace

Result<const Partition*> Catalog::existing(const PartitionId& id) const {
  const Partition* found = partition(id);
  if (found != nullptr) return found;
  return fail(Code::kNotFound, label(id) + ": does not exist; ask for the topic list again");
}

void Catalog::put_partitions(const TopicId& topic_id, std::vector<Partition> partitions) {
  auto next = std::make_shared<Topic>(*topic(topic_id));
  for (Partition& p : partitions) {
    const auto index = static_cast<std::size_t>(p.index.value);
    next->partitions[index] = std::make_shared<const Partition>(std::move(p));
  }
  put(std::move(next));
}

Result<void> Catalog::check(const EpochProposed& e) const {
  PYRALOG_ASSIGN(const Partition* before, existing(e.partition));
  if (!nodes_->contains(e.candidate)) {
    return fail(Code::kNotFound, label(e.partition) + ": candidate " +
                                     std::to_string(e.candidate.value) +
                                     " is not registered; register it first");
  }
  if (e.epoch <= before->highest_proposed || e.epoch.value > kMaxEpoch) {
    return fail(Code::kFenced, label(e.partition) + ": epoch " + std::to_string(e.epoch.value) +
                                   " is not above " +
                                   std::to_string(before->highest_proposed.value) +
                                   ", which was proposed; propose a higher one");
  }
  return {};
}

Result<void> Catalog::take(const EpochProposed& e) {
  return take_in_a_row({&e});
}

Result<void> Catalog::take_in_a_row(const std::vector<const EpochProposed*>& entries) {
  // A topic is copied once, not once for each of its partitions.
  std::map<TopicId, std::vector<Partition>> next;
  std::set<PartitionId> changed;
  const auto put_all = [&] {
    for (auto& [topic, partitions] : next) put_partitions(topic, std::move(partitions));
    next.clear();
    changed.clear();
  };
  for (const EpochProposed* e : entries) {
    // What was proposed of a partition decides on what may be proposed of it next.
    if (!changed.insert(e->partition).second && !PYRALOG_PLANT("catalog.forget_in_a_row")) {
      put_all();
      changed.insert(e->partition);
    }
    PYRALOG_TRY(check(*e));
    Partition partition = *this->partition(e->partition);
    partition.highest_proposed = e->epoch;
    partition.candidate = e->candidate;
    next[e->partition.topic].push_back(std::move(partition));
  }
  put_all();
  return {};
}

Result<void> Catalog::apply_all(const std::vector<Entry>& entries) {
  Catalog next = *this;
  for (auto at = entries.begin(); at != entries.end();) {
    std::vector<const EpochProposed*> row;
    auto end = at;
    while (end != entries.end() && std::holds_alternative<EpochProposed>(*end)) {
      row.push_back(&std::get<EpochProposed>(*end++));
    }
    // `apply` knows what may come first of all.
    if (row.size() < 2 || next.cluster_.is_nil()) {
      PYRALOG_TRY(next.apply(*at++, next.position_ + 1));
      continue;
    }
    PYRALOG_TRY(next.take_in_a_row(row));
    next.position_ += row.size();
    at = end;
  }
  *this = std::move(next);
  return {};
}

namespace {

/// Whether `a` may follow `before` as far as epochs and offsets go.
Result<void> check_succession(const Partition& before, const EpochActivation& a) {
  const std::string what = label(a.partition) + ": epoch " + std::to_string(a.epoch.value);
  if (a.epoch.value == 0 || a.epoch.value > kMaxEpoch) {
    return fail(Code::kInvalidArgument, what + ": epochs go from 1 to 2147483647");
  }
  const bool stale = a.epoch < before.highest_proposed;
  if (stale && !PYRALOG_PLANT("catalog.stale_epoch")) {
    return fail(Code::kFenced, what + ": is below " +
                                   std::to_string(before.highest_proposed.value) +
                                   ", which was proposed since; give way to it");
  }
  if (a.epoch == before.highest_proposed && before.candidate != a.leader) {
    return fail(Code::kFenced, what + ": was proposed by node " +
                                   std::to_string(before.candidate.value) +
                                   "; propose one of your own");
  }
  if (a.start.value < 0 || a.log_start.value < 0 || a.log_start > a.start) {
    return fail(Code::kInvalidArgument,
                what + ": starts at " + std::to_string(a.start.value) + " with a log from " +
                    std::to_string(a.log_start.value) + "; both are from 0, the log first");
  }
  if (!before.current) return {};
  const EpochRecord& current = *before.current;
  // Who has not proposed has sealed nothing: the others could still acknowledge what they are sent.
  // A lone replica that goes on by itself has nobody to ask.
  const bool alone = current.replicas.size() == 1 && current.replicas.front().node == a.leader;
  if (a.epoch > before.highest_proposed && !alone && !PYRALOG_PLANT("catalog.unproposed_epoch")) {
    return fail(Code::kFenced, what + ": was not proposed; propose it, then seal epoch " +
                                   std::to_string(current.epoch.value));
  }
  if (a.epoch <= current.epoch && !stale) {
    return fail(Code::kFenced, what + ": was activated already; propose the next one");
  }
  if (a.unclean) return {};
  if (a.start < current.start || (current.end && a.start != *current.end)) {
    return fail(Code::kInvalidArgument,
                what + ": starts at " + std::to_string(a.start.value) + ", but epoch " +
                    std::to_string(current.epoch.value) +
                    (current.end ? " ended at " + std::to_string(current.end->value)
                                 : " started at " + std::to_string(current.start.value)) +
                    "; recover the partition, uncleanly if records are lost");
  }
  return {};
}

}  // namespace

Result<Partition> Catalog::activated(const EpochActivation& a) const {
  PYRALOG_ASSIGN(const Partition* before, existing(a.partition));
  PYRALOG_TRY(check_succession(*before, a));
  std::set<NodeId> nodes;
  for (const Replica& r : a.replicas) {
    const Node* known = node(r.node);
    if (known == nullptr || known->incarnation != r.incarnation) {
      return fail(Code::kFenced, label(a.partition) + ": replica on node " +
                                     std::to_string(r.node.value) +
                                     " is not on the disk registered for it; use that disk");
    }
    nodes.insert(r.node);
  }
  if (a.replicas.empty() || a.replicas.size() > kMaxReplicas || nodes.size() != a.replicas.size() ||
      !nodes.contains(a.leader) || a.write_quorum < 1 || a.write_quorum > a.replicas.size()) {
    return fail(Code::kInvalidArgument,
                label(a.partition) +
                    ": an epoch needs replicas on different nodes, its leader among them, and a "
                    "write quorum from 1 to their number");
  }
  Partition next = *before;
  next.highest_proposed = a.epoch;
  next.candidate = a.leader;
  next.current = EpochRecord{a.epoch, a.start, std::nullopt, a.leader, a.replicas, a.write_quorum};
  add_epoch(next.epochs, EpochStart{a.epoch, a.start}, a.log_start);
  // One of the same nodes that acknowledges with fewer copies is a step on the way there.
  if (nodes == std::set<NodeId>(next.target.begin(), next.target.end())) {
    const std::int32_t min_insync = topic(a.partition.topic)->config.min_insync_replicas;
    const bool there = a.write_quorum >= write_quorum(nodes.size(), min_insync);
    if (there || PYRALOG_PLANT("catalog.done_with_fewer_copies")) {
      next.replicas = std::exchange(next.target, {});
    }
  }
  return next;
}

Result<void> Catalog::take(const EpochsActivated& e) {
  if (e.activations.empty() || e.activations.size() > kMaxActivationsPerEntry) {
    return fail(Code::kInvalidArgument, "epochs_activated: holds 1 to " +
                                            std::to_string(kMaxActivationsPerEntry) +
                                            " activations; split it");
  }
  std::map<TopicId, std::vector<Partition>> next;
  std::set<PartitionId> seen;
  for (const EpochActivation& a : e.activations) {
    if (!seen.insert(a.partition).second) {
      return fail(Code::kInvalidArgument,
                  label(a.partition) + ": is activated twice in one record; name it once");
    }
    PYRALOG_ASSIGN(Partition partition, activated(a));
    next[a.partition.topic].push_back(std::move(partition));
  }
  for (auto& [topic, partitions] : next) put_partitions(topic, std::move(partitions));
  return {};
}

Result<void> Catalog::take(const EpochSealed& e) {
  PYRALOG_ASSIGN(const Partition* before, existing(e.partition));
  const std::string what = label(e.partition) + ": epoch " + std::to_string(e.epoch.value);
  if (!before->current || before->current->epoch != e.epoch ||
      before->highest_proposed != e.epoch || before->current->end) {
    return fail(Code::kFenced, what + ": is sealed or succeeded already; nothing is left to do");
  }
  if (e.end < before->current->start) {
    return fail(Code::kInvalidArgument,
                what + ": cannot end at " + std::to_string(e.end.value) + ", before its start");
  }
  Partition next = *before;
  next.current->end = e.end;
  std::vector<Partition> one;
  one.push_back(std::move(next));
  put_partitions(e.partition.topic, std::move(one));
  return {};
}

Result<void> Catalog::take(const LostRange& e) {
  PYRALOG_ASSIGN(const Partition* before, existing(e.partition));
  if (e.from.value < 0 || e.to < e.from || e.reason.size() > 1024) {
    return fail(Code::kInvalidArgument,
                label(e.partition) +
                    ": a lost range goes from its first offset to the one after "
                    "its last, with a reason of at most 1024 bytes");
  }
  Partition next = *before;
  next.lost.push_back(LostRecord{e.from, e.to, e.reason, e.at});
  if (next.lost.size() > kMaxLostShown) next.lost.erase(next.lost.begin());
  std::vector<Partition> one;
  one.push_back(std::move(next));
  put_partitions(e.partition.topic, std::move(one));
  return {};
}

}  // namespace pyralog::catalog
