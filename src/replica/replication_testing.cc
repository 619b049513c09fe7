#include "replica/replication_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace pyralog::replica::testing {
namespace {

constexpr std::uint8_t kTopic = 7;

Uuid uuid(std::uint8_t n, std::uint8_t kind) {
  Uuid id;
  id.bytes[0] = kind;
  id.bytes[15] = n;
  return id;
}

}  // namespace

Simulation::Simulation(std::uint64_t seed, Seen& seen) : random_(seed), seen_(seen), seed_(seed) {
  synced_topic_ = chance(0.75);
  unclean_ = synced_topic_ && chance(0.1);
  loss_ = chance(0.3) ? 0.0 : 0.2 * unit();
  doubles_ = 0.1 * unit();
  slow_disk_ = chance(0.5) ? 0.03 + 0.2 * unit() : 0.5;
  trouble_ = chance(0.5) ? 0.001 : 0.006;
  rivalry_ = chance(0.7) ? 0.0004 : 0.003;
  id_ = {TopicId{uuid(kTopic, 2)}, PartitionIndex(0)};

  catalog::Catalog first;
  PYRALOG_ASSERT(first.apply(catalog::ClusterCreated{uuid(1, 1), 16, WallMs{1}}, 1));
  const auto count = static_cast<std::int32_t>(3 + below(3));
  std::vector<NodeId> replicas;
  for (std::int32_t i = 1; i <= count; ++i) {
    Node n;
    n.id = NodeId(i);
    n.incarnation = uuid(++disks_made_, 3);
    catalog::NodeRegistered entry{n.id, n.incarnation, 1, "h", 1, "", false};
    PYRALOG_ASSERT(first.apply(entry, first.position() + 1));
    nodes_.push_back(std::move(n));
    if (i <= 3) replicas.emplace_back(i);
  }
  PYRALOG_ASSERT(first.apply(catalog::TopicCreated{id_.topic, "orders", {replicas}, {}, WallMs{1}},
                             first.position() + 1));
  catalogs_.push_back(std::move(first));
  for (Node& n : nodes_) start(n);
}

void Simulation::fail(const std::string& why) {
  if (failure_.empty()) {
    failure_ =
        "seed " + std::to_string(seed_) + ", step " + std::to_string(now_) + ": " + why + state();
  }
}

std::string Simulation::state() const {
  std::string out;
  const catalog::Partition& p = partition(catalogs_.size() - 1);
  out += "\nproposed " + std::to_string(p.highest_proposed.value);
  if (p.current) {
    out += ", current " + std::to_string(p.current->epoch.value) + " of node " +
           std::to_string(p.current->leader.value) + " from " +
           std::to_string(p.current->start.value) + ", W " +
           std::to_string(p.current->write_quorum) + ", replicas";
    for (const auto& r : p.current->replicas) out += " " + std::to_string(r.node.value);
  }
  for (const Node& n : nodes_) {
    out += "\nnode " + std::to_string(n.id.value) + (n.up() ? "" : " down") + ": log " +
           std::to_string(n.first.value) + ".." + std::to_string(n.end().value) + ", synced " +
           std::to_string(n.synced.value) + ", promised " +
           std::to_string(n.promise.promised.value) + ", joined " +
           std::to_string(n.promise.joined.value) + (n.promise.in_doubt ? ", in doubt" : "");
    if (n.following) {
      out += ", agreed " + std::to_string(n.following->agreed().value) + ", high watermark " +
             std::to_string(n.following->high_watermark().value);
    }
    if (n.leading) {
      out += ", leads " + std::to_string(n.leading->term().epoch.value) + " to " +
             std::to_string(n.leading->high_watermark().value) +
             (n.leading->may_accept(now()) ? "" : ", alone");
    }
    if (n.recovery) {
      out += ", recovers in phase " + std::to_string(static_cast<int>(n.recovery->phase())) + " " +
             n.recovery->why();
    }
  }
  return out;
}

const catalog::Partition& Simulation::partition(std::size_t view) const {
  return *catalogs_.at(view).partition(id_);
}

History Simulation::history(const Node& n) const {
  History made(n.first);
  for (const Record& record : n.log) made.append(record.epoch, Offset(made.end().value + 1));
  return made;
}

void Simulation::start(Node& n) {
  ++n.boot;
  ++n.life;
  n.storing.clear();
  n.cutting.reset();
  n.syncing.reset();
  n.proposed.reset();
  n.writes.clear();
  n.patience = static_cast<int>(150 + below(150));
  n.heard = now_;
  n.synced = n.end();  // what is found is synced before it is shown
  const bool doubt = !synced_topic_ && n.lost_something;
  if (doubt) ++seen_.doubts;
  n.following.emplace(
      Following::Opened{{{n.id, n.incarnation}, n.boot}, n.promise, history(n), n.end(), doubt});
  apply(n, n.following->start(), {});
}

void Simulation::crash(Node& n, bool power) {
  if (!n.up()) return;
  ++seen_.crashes;
  // Some of what was on its way to the disk may have got there, in order.
  std::size_t kept = n.storing.empty() ? 0 : below(n.storing.size() + 1);
  for (std::size_t i = 0; i < kept; ++i) store(n, n.storing[i]);
  if (n.cutting && kept == n.storing.size() && chance(0.5)) {
    const Following::Cut cut = *n.cutting;
    if (cut.restart) {
      n.first = n.synced = cut.to;
      n.log.clear();
    } else {
      n.log.resize(static_cast<std::size_t>(cut.to.value - n.first.value));
      n.synced = std::min(n.synced, n.end());
    }
  }
  if (power) {
    ++seen_.power_losses;
    n.lost_something = true;
    const Offset floor = synced_topic_ ? std::min(n.synced, n.end()) : n.first;
    const auto loose = static_cast<std::uint64_t>(n.end().value - floor.value);
    const std::uint64_t gone =
        synced_topic_ ? below(loose + 1) : below(std::min<std::uint64_t>(loose, 6) + 1);
    if (gone > 0) ++seen_.lost_suffixes;
    n.log.resize(n.log.size() - gone);
    n.synced = std::min(n.synced, n.end());
  }
  n.following.reset();
  n.recovery.reset();
  n.leading.reset();
  n.down_for = static_cast<int>(1 + below(chance(0.2) ? 600 : 100));
}

bool Simulation::may_wipe(const Node& n) const {
  if (!synced_topic_) return false;
  if (unclean_) return true;
  const auto& current = partition(catalogs_.size() - 1).current;
  if (!current) return true;
  std::size_t gone = 0;
  bool one = false;
  for (const catalog::Replica& r : current->replicas) {
    const Node& other = nodes_.at(static_cast<std::size_t>(r.node.value - 1));
    if (other.incarnation != r.incarnation) ++gone;
    if (other.id == n.id && other.incarnation == r.incarnation) one = true;
  }
  // W − 1 disks may be lost.
  return !one || gone + 2 <= current->write_quorum;
}

void Simulation::wipe(Node& n) {
  if (!may_wipe(n)) return;
  if (n.up()) crash(n, false);
  ++seen_.wiped;
  n.incarnation = uuid(++disks_made_, 3);
  n.boot = 0;
  n.first = n.synced = Offset(0);
  n.log.clear();
  n.promise = Promise{};
  catalog::Catalog next = catalogs_.back();
  const catalog::NodeRegistered entry{n.id, n.incarnation, 1, "h", 1, "", true};
  PYRALOG_ASSERT(next.apply(entry, next.position() + 1));
  catalogs_.push_back(std::move(next));
}

/// It forgets what it is about to promise, and for a while sees nobody but who leads.
void Simulation::crash_with_leader(Node& n) {
  crash(n, false);
  n.down_for = 1;
  const auto& current = partition(catalogs_.size() - 1).current;
  if (!current) return;
  std::erase_if(flying_, [&](const Message& each) {
    return each.to == current->leader && each.from != n.id && each.from != each.to;
  });
  for (const Node& other : nodes_) {
    if (other.id == n.id || other.id == current->leader) continue;
    for (const NodeId one : {n.id, current->leader}) {
      cut_.insert({one, other.id});
      cut_.insert({other.id, one});
    }
  }
}

void Simulation::make_trouble() {
  if (chance(trouble_)) crash(any(), chance(0.5));
  if (chance(trouble_ * 0.05)) {
    for (Node& n : nodes_) crash(n, true);
  }
  if (chance(trouble_ * (unclean_ ? 0.4 : 0.1)) && disks_made_ < 200) wipe(any());
  for (Node& n : nodes_) {
    const bool committing = n.recovery && n.recovery->phase() == Recovery::Phase::kCommitting;
    if (chance(committing ? 0.003 : n.storing.empty() ? 0.0 : trouble_)) crash(n, chance(0.5));
    if (!n.storing.empty() && chance(0.01)) crash_with_leader(n);
  }
  if (chance(0.008)) cut_.insert({any().id, any().id});  // one way
  if (chance(0.01)) cut_.clear();
}

void Simulation::send(NodeId from, NodeId to, Body body) {
  if (from == to) {
    flying_.push_back({from, to, now_ + 1, std::move(body)});
    return;
  }
  if (cut_.contains({from, to}) || chance(loss_)) return;
  const int copies = chance(doubles_) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    flying_.push_back({from, to, now_ + static_cast<int>(1 + below(chance(0.05) ? 150 : 6)), body});
  }
}

void Simulation::deliver() {
  std::vector<Message> due;
  std::erase_if(flying_, [&](Message& each) {
    if (each.due > now_) return false;
    due.push_back(std::move(each));
    return true;
  });
  std::ranges::shuffle(due, random_);
  for (Message& each : due) {
    Node& to = node(each.to);
    if (to.up() && failure_.empty()) receive(to, each);
  }
}

void Simulation::store(Node& n, const Promise& promise) {
  const bool joins = promise.joined > n.promise.joined;
  if (joins && n.incarnation.bytes[15] > nodes_.size()) ++seen_.wiped_caught_up;
  if (promise.in_doubt) n.lost_something = false;
  if (n.promise.in_doubt && !promise.in_doubt) ++seen_.doubts_over;
  n.promise = promise;
}

void Simulation::disks(Node& n, bool faults) {
  const double pace = faults ? slow_disk_ : 0.5;
  if (!n.storing.empty() && chance(pace)) {
    store(n, n.storing.front());
    n.storing.pop_front();
    apply(n, n.following->stored(n.promise), {});
  }
  if (n.cutting && chance(pace)) {
    const Following::Cut cut = *std::exchange(n.cutting, std::nullopt);
    n.syncing.reset();
    ++(cut.restart ? seen_.restarts_of_logs : seen_.cuts);
    if (cut.restart) {
      n.first = n.synced = cut.to;
      n.log.clear();
    } else {
      n.log.resize(static_cast<std::size_t>(cut.to.value - n.first.value));
      n.synced = std::min(n.synced, cut.to);
    }
    apply(n, n.following->cut_done(), {});
  }
  if (!n.syncing && n.synced < n.end() && !n.cutting) n.syncing = n.end();
  if (n.syncing && chance(pace)) {
    n.synced = std::max(n.synced, *std::exchange(n.syncing, std::nullopt));
    if (synced_topic_) apply(n, n.following->stable(n.synced), {});
  }
}

void Simulation::propose(Node& n, catalog::Entry entry) {
  if (!calm_ && chance(0.1)) return;
  proposals_.push_back(
      {n.id, n.life, now_ + static_cast<int>(1 + below(chance(0.1) ? 200 : 10)), std::move(entry)});
}

void Simulation::metadata() {
  for (std::size_t i = 0; i < proposals_.size();) {
    if (proposals_[i].due > now_) {
      ++i;
      continue;
    }
    const Proposal due = std::move(proposals_[i]);
    proposals_.erase(proposals_.begin() + static_cast<std::ptrdiff_t>(i));
    catalog::Catalog next = catalogs_.back();
    const Result<void> applied = next.apply(due.entry, next.position() + 1);
    if (applied) catalogs_.push_back(std::move(next));
    const auto* activations = std::get_if<catalog::EpochsActivated>(&due.entry);
    if (activations != nullptr && !applied) ++seen_.refused_activations;
    if (activations != nullptr && applied && activations->activations.front().unclean) {
      lossy_ = activations->activations.front().epoch;
      known_.erase(known_.lower_bound(activations->activations.front().start), known_.end());
    }
    if (activations != nullptr && applied && node(due.from).life != due.life)
      ++seen_.activated_unknown;
    if (!calm_ && chance(0.15)) {
      ++seen_.lost_answers;
      continue;
    }
    answers_.push_back({due.from, due.life, now_ + static_cast<int>(1 + below(20)), due.entry,
                        catalogs_.size() - 1,
                        applied ? std::nullopt : std::optional(applied.error())});
  }
  std::vector<Answer> due;
  std::erase_if(answers_, [&](Answer& each) {
    if (each.due > now_) return false;
    due.push_back(std::move(each));
    return true;
  });
  for (const Answer& each : due) {
    Node& n = node(each.to);
    if (n.up() && n.life == each.life) answered(n, each);
  }
}

void Simulation::step(bool faults) {
  ++now_;
  if (faults) make_trouble();
  deliver();
  metadata();
  for (Node& n : nodes_) {
    if (!failure_.empty()) return;
    if (!n.up()) {
      if (--n.down_for <= 0) start(n);
      continue;
    }
    disks(n, faults);
    if (chance(0.2)) look(n);
    campaign(n, faults);
    drive(n);
    lead(n);
    client(n, faults);
    if (n.following->broken())
      fail("node " + std::to_string(n.id.value) + ": " + n.following->broken()->message);
  }
}

bool Simulation::all_is_well(std::uint64_t before) {
  const auto& current = partition(catalogs_.size() - 1).current;
  if (!current || seen_.commits < before + 20) return false;
  const Node& leader = node(current->leader);
  if (!leader.leading || leader.leading->term().epoch != current->epoch) return false;
  for (const catalog::Replica& r : current->replicas) {
    const Node& n = node(r.node);
    if (n.incarnation != r.incarnation || n.end().value + 5 < leader.end().value) return false;
    if (n.promise.joined != current->epoch || n.promise.in_doubt) return false;
  }
  for (const catalog::Replica& r : current->replicas) {
    const Node& n = node(r.node);
    for (const auto& [offset, record] : known_) {
      if (offset >= n.first && offset < n.end() && n.at(offset) != record) {
        fail("node " + std::to_string(n.id.value) + " has another record at " +
             std::to_string(offset.value));
      }
    }
  }
  return leader.leading->may_accept(now());
}

void Simulation::run(int steps) {
  for (int i = 0; i < steps && failure_.empty(); ++i) step(true);
  calm_ = true;
  loss_ = doubles_ = 0;
  cut_.clear();
  for (Node& n : nodes_) {
    if (!n.up()) start(n);
  }
  const std::uint64_t before = seen_.commits;
  bool well = false;
  for (int i = 0; i < 6'000 && failure_.empty() && !well; ++i) {
    step(false);
    well = i % 50 == 49 && all_is_well(before);
  }
  if (failure_.empty() && !well) fail("the partition does not go on when all faults are over");
}

}  // namespace pyralog::replica::testing
