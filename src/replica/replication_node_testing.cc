// What one node's edge does: carries out effects, passes messages on, campaigns, leads, serves.

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "catalog/topic_config.h"
#include "replica/replication_testing.h"

namespace pyralog::replica::testing {

void Simulation::receive(Node& n, Message& message) {
  if (const auto* seal = std::get_if<Seal>(&message.body)) {
    apply(n, n.following->seal(*seal), {});
  } else if (const auto* answer = std::get_if<SealAnswer>(&message.body)) {
    if (n.recovery) apply(n, n.recovery->answered(*answer, now()), {});
  } else if (const auto* carried = std::get_if<Carried>(&message.body)) {
    if (carried->append.epoch >= n.following->promise().promised) n.heard = now_;
    apply(n, n.following->append(carried->append), carried->records);
  } else if (const auto* reply = std::get_if<AppendReply>(&message.body)) {
    if (reply->kind == AppendReply::Kind::kGap) ++seen_.gaps;
    if (message.from == n.id) return reply_to_self(n, *reply);
    if (n.recovery) apply(n, n.recovery->received(*reply, now()), {});
    if (n.leading) n.leading->received(*reply, now());
  } else if (const auto* read = std::get_if<ReadRange>(&message.body)) {
    Range reading{*read, n.following->may_read(*read).has_value(), {}};
    for (Offset at = read->from;
         reading.given && at < read->to && reading.records.size() < read->max_bytes;
         at = Offset(at.value + 1)) {
      reading.records.push_back(n.at(at));
    }
    send(n.id, message.from, std::move(reading));
  } else if (const auto* range = std::get_if<Range>(&message.body)) {
    if (!n.recovery) return;
    if (!range->given) return apply(n, n.recovery->read_failed(now()), {});
    History given(range->range.from);
    for (const Record& r : range->records) given.append(r.epoch, Offset(given.end().value + 1));
    const auto runs = given.runs(given.start(), given.end());
    apply(n, n.recovery->range_read(range->range, given.end(), runs, now()), range->records);
  }
}

void Simulation::reply_to_self(Node& n, const AppendReply& reply) {
  if (n.recovery) apply(n, n.recovery->offered(reply, now()), {});
  if (n.leading && reply.epoch == n.leading->term().epoch && reply.from == n.leading->term().self &&
      reply.kind == AppendReply::Kind::kHeld) {
    n.leading->stable(reply.stable_end);
    if (reply.joined == reply.epoch) n.leading->joined();
  }
}

void Simulation::take(Node& n, const Following::Effects& effects, const Records& records) {
  if (!effects.take) return;
  for (const Record& record : records) {
    const auto wrote = wrote_.find({record.epoch, n.end()});
    if (wrote == wrote_.end() || wrote->second != record.value)
      fail("a record that no leader wrote");
    n.log.push_back(record);
  }
}

void Simulation::apply(Node& n, const Following::Effects& effects, const Records& records) {
  take(n, effects, records);
  if (effects.store) n.storing.push_back(*effects.store);
  if (effects.cut) n.cutting = effects.cut;
  if (effects.trim) {
    const auto gone = effects.trim->value - n.first.value;
    n.log.erase(n.log.begin(), n.log.begin() + gone);
    n.first = *effects.trim;
    n.synced = std::max(n.synced, n.first);
  }
  if (n.end() != n.following->log().end()) fail("the log and what is known of it differ");
  if (effects.reply) {
    if (effects.reply->kind == AppendReply::Kind::kFenced) ++seen_.fenced_leaders;
    send(n.id, effects.reply_to, *effects.reply);
  }
  if (effects.sealed) {
    if (effects.sealed->promised > effects.sealed->epoch) ++seen_.fenced_seals;
    send(n.id, effects.sealed_to, *effects.sealed);
  }
  if (!synced_topic_ && n.following->stable_end() < n.end()) {
    apply(n, n.following->stable(n.end()), {});
  }
}

void Simulation::apply(Node& n, const Recovery::Effects& effects, const Records& records) {
  const Recovery& recovery = *n.recovery;
  for (const NodeId to : effects.seal) send(n.id, to, Seal{recovery.plan().epoch, n.id});
  if (effects.read) send(n.id, effects.read_from, *effects.read);
  if (effects.commit) propose(n, catalog::EpochsActivated{{*effects.commit}});
  if (effects.offer) {
    const bool with_records = effects.offer->end > effects.offer->base;
    apply(n, n.following->append(*effects.offer), with_records ? records : Records{});
  }
  if (n.recovery->phase() == Recovery::Phase::kActive) activated(n);
}

void Simulation::activated(Node& n) {
  ++seen_.recoveries;
  if (n.recovery->copied()) ++seen_.copied;
  if (n.recovery->loss()) ++(n.recovery->plan().unclean ? seen_.unclean : seen_.from_what_there_is);
  n.leading.emplace(n.recovery->take_leading());
  n.recovery.reset();
  n.writes.clear();
  const Epoch epoch = n.leading->term().epoch;
  if (!leaders_.try_emplace(epoch, n.life).second) fail("an epoch has two leaders");
  if (epoch < lossy_) return;
  for (const auto& [offset, record] : known_) {
    if (offset < n.first) continue;
    if (offset >= n.end() || n.at(offset) != record) {
      return fail("the leader of epoch " + std::to_string(epoch.value) + " lacks record " +
                  std::to_string(offset.value) + ", which was acknowledged or read");
    }
  }
}

void Simulation::answered(Node& n, const Answer& answer) {
  n.view = std::max(n.view, answer.view);
  if (const auto* proposed = std::get_if<catalog::EpochProposed>(&answer.entry)) {
    if (!answer.error && n.proposed == proposed->epoch) recover(n, n.view);
  } else if (std::holds_alternative<catalog::EpochsActivated>(answer.entry) && n.recovery) {
    const auto& activation = std::get<catalog::EpochsActivated>(answer.entry).activations.front();
    if (activation.epoch != n.recovery->plan().epoch) return;
    const catalog::Partition& p = partition(n.view);
    apply(
        n,
        answer.error ? n.recovery->refused(p, *answer.error, now()) : n.recovery->catalog(p, now()),
        {});
  }
}

void Simulation::look(Node& n) {
  n.view += below(catalogs_.size() - n.view);
  if (chance(0.5)) n.view = catalogs_.size() - 1;
  const catalog::Partition& p = partition(n.view);
  if (n.recovery) apply(n, n.recovery->catalog(p, now()), {});
  if (n.leading && p.current && p.current->epoch > n.leading->term().epoch) stop_leading(n);
  if (n.proposed && !n.recovery && p.highest_proposed == *n.proposed && p.candidate == n.id) {
    recover(n, n.view);
  }
}

void Simulation::campaign(Node& n, bool faults) {
  if (n.proposed && now_ - n.proposed_at > 300) n.proposed.reset();
  if (n.recovery || n.proposed) return;
  const bool silent = !n.leading && now_ - n.heard > n.patience;
  const bool restless = faults && chance(rivalry_);
  // What the leader sees: one of its replicas is on another disk now, or it is to have others.
  bool others = false;
  if (!faults && n.leading && chance(0.02)) {
    for (const catalog::Replica& r : n.leading->term().replicas) {
      others = others || node(r.node).incarnation != r.incarnation;
    }
  }
  if (!silent && !restless && !others) return;
  const Epoch highest = partition(n.view).highest_proposed;
  if (highest > (n.leading ? n.leading->term().epoch : Epoch(0)) && !silent) ++seen_.rivals;
  n.proposed = Epoch(highest.value + 1 + static_cast<std::uint32_t>(below(2)));
  n.proposed_at = now_;
  n.heard = now_;
  n.patience = static_cast<int>(150 + below(300));
  propose(n, catalog::EpochProposed{id_, *n.proposed, n.id});
}

void Simulation::recover(Node& n, std::size_t view) {
  if (n.leading) stop_leading(n);
  Recovery::Plan plan;
  plan.partition = id_;
  plan.epoch = *n.proposed;
  plan.self = n.following->self();
  plan.unclean = unclean_;
  n.proposed.reset();
  n.recovering_since = now_;
  const auto& current = partition(view).current;
  std::vector<NodeId> wanted = partition(view).replicas;
  if (current && !calm_) {
    wanted.clear();
    for (const catalog::Replica& r : current->replicas) wanted.push_back(r.node);
  }
  if (!calm_ && chance(0.2)) {
    ++seen_.changed_sets;
    wanted.clear();
    for (const Node& other : nodes_) {
      if (chance(0.6)) wanted.push_back(other.id);
    }
  }
  if (std::ranges::find(wanted, n.id) == wanted.end()) wanted.push_back(n.id);
  for (const NodeId id : wanted) {
    plan.replicas.push_back({id, catalogs_.at(view).node(id)->incarnation});
  }
  const auto least =
      static_cast<std::int32_t>(chance(0.3) && !calm_ ? 1 + below(wanted.size()) : 1);
  plan.write_quorum = catalog::write_quorum(wanted.size(), least);
  if (current && plan.write_quorum != current->write_quorum) ++seen_.changed_quorums;
  Recovery::Options options;
  options.resend = 20ms;
  options.read_resend = 40ms;
  options.unclean_patience = 80ms;
  options.read_bytes = 8;
  options.leading.lease = 100ms;
  options.leading.lag_time_max = 200ms;
  options.leading.heartbeat = 15ms;  // as `lead` sends them
  options.leading.resend = 40ms;
  options.leading.lost_after = 40ms;
  options.leading.window_requests = 4;
  options.leading.window_bytes = 24;
  options.leading.request_bytes = 8;
  n.recovery.emplace(std::move(plan), partition(view), options, now());
}

void Simulation::drive(Node& n) {
  if (!n.recovery) return;
  apply(n, n.recovery->tick(now()), {});
  if (!n.recovery) return;
  const Recovery::Phase phase = n.recovery->phase();
  if (phase == Recovery::Phase::kHolding || phase == Recovery::Phase::kCommitting) {
    feed(n, n.recovery->leading());
  }
  if (phase == Recovery::Phase::kAborted || now_ - n.recovering_since > 900) {
    ++seen_.aborted;
    n.recovery.reset();
    n.heard = now_;
  }
}

void Simulation::feed(Node& n, Leading& leading) {
  for (const Leading::Follower& follower : leading.followers()) {
    for (int i = 0; i < 3; ++i) {
      const std::optional<Leading::Sending> next = leading.next(follower.disk.node, now());
      if (!next) break;
      Carried out{next->message, {}};
      const Offset end(std::min(
          n.end().value, next->message.base.value + static_cast<std::int64_t>(next->max_bytes)));
      for (Offset at = next->message.base; at < end; at = Offset(at.value + 1)) {
        out.records.push_back(n.at(at));
      }
      out.append.end = end;
      out.append.runs = leading.log().runs(next->message.base, end);
      leading.sent(follower.disk.node, out.append, out.records.size(), now());
      send(n.id, follower.disk.node, std::move(out));
    }
  }
}

void Simulation::stop_leading(Node& n) {
  n.leading.reset();
  n.heard = now_;
}

void Simulation::lead(Node& n) {
  if (!n.leading) return;
  if (n.leading->fenced() || n.following->promise().promised > n.leading->term().epoch) {
    return stop_leading(n);
  }
  n.heard = now_;
  feed(n, *n.leading);
  if (now_ % 15 == 0) {
    for (auto& [to, message] : n.leading->heartbeats()) send(n.id, to, Carried{message, {}});
  }
  apply(n, n.following->committed(n.leading->high_watermark()), {});
  if (chance(0.002) && n.leading->high_watermark() > n.first) {
    ++seen_.trims;
    const auto gone = static_cast<std::int64_t>(
        below(static_cast<std::uint64_t>(n.leading->high_watermark().value - n.first.value) + 1));
    n.first = Offset(n.first.value + gone);
    n.log.erase(n.log.begin(), n.log.begin() + gone);
    n.synced = std::max(n.synced, n.first);
    n.leading->trimmed(n.first);
    n.following->trimmed(n.first);
  }
}

void Simulation::know(const Node& n, Offset at) {
  if (at < n.first) return;
  const auto [found, fresh] = known_.try_emplace(at, n.at(at));
  if (found->second != n.at(at)) {
    fail("node " + std::to_string(n.id.value) + " shows another record at " +
         std::to_string(at.value) + " than somebody was shown before");
  }
}

void Simulation::client(Node& n, bool faults) {
  if (n.leading && chance(faults ? 0.15 : 0.1)) {
    if (n.leading->may_accept(now())) {
      const Record record{n.leading->term().epoch, ++values_};
      const Offset at = n.end();
      wrote_[{record.epoch, at}] = record.value;
      n.log.push_back(record);
      n.following->led(record.epoch, n.end());
      n.leading->appended(n.end(), now());
      if (!synced_topic_) apply(n, n.following->stable(n.end()), {});
      // acks=1 is answered now, and promises nothing more.
      if (chance(0.7)) n.writes.push_back({at, record});
    } else {
      ++seen_.refused_writes;
    }
  }
  if (n.leading) {
    // acks=all: told once it is committed.
    const Offset committed = n.leading->high_watermark();
    std::erase_if(n.writes, [&](const Write& write) {
      if (write.at >= committed) return false;
      ++seen_.commits;
      if (n.leading->term().epoch >= lossy_) know(n, write.at);
      return true;
    });
  }
  if (!chance(0.1)) return;
  const Epoch epoch = n.leading ? n.leading->term().epoch : n.following->agreed();
  if (epoch < lossy_ || (!n.leading && epoch.value == 0)) return;
  const Offset shown =
      std::min(n.leading ? n.leading->high_watermark() : n.following->high_watermark(), n.end());
  if (shown <= n.first || n.cutting) return;
  ++seen_.reads;
  know(n, Offset(n.first.value + static_cast<std::int64_t>(below(
                                     static_cast<std::uint64_t>(shown.value - n.first.value)))));
  know(n, Offset(shown.value - 1));
}

}  // namespace pyralog::replica::testing
