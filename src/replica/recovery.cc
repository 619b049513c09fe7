#include "replica/recovery.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"
#include "replica/quorum.h"

namespace pyralog::replica {
namespace {

template <typename T>
bool has(const std::vector<T>& list, const T& what) {
  return std::ranges::find(list, what) != list.end();
}
std::string number(Epoch epoch) {
  return std::to_string(epoch.value);
}

}  // namespace

Recovery::Recovery(Plan plan, const catalog::Partition& partition, Options options, Instant now)
    : plan_(std::move(plan)),
      before_(partition.current),
      epochs_(partition.epochs),
      options_(options),
      begun_(now),
      again_(now) {
  PYRALOG_ASSERT(has(plan_.replicas, plan_.self.disk));
  PYRALOG_ASSERT(plan_.write_quorum >= 1 && plan_.write_quorum <= plan_.replicas.size());
  if (partition.highest_proposed != plan_.epoch || partition.candidate != plan_.self.disk.node) {
    abort("epoch " + number(partition.highest_proposed) + " was proposed since");
  } else if (before_ && before_->epoch >= plan_.epoch) {
    abort("epoch " + number(before_->epoch) + " was activated already");
  }
}

void Recovery::abort(std::string why) {
  phase_ = Phase::kAborted;
  why_ = "epoch " + number(plan_.epoch) + ": " + std::move(why) + "; propose another to go on";
}

std::vector<catalog::Replica> Recovery::missing() const {
  std::vector<catalog::Replica> found;
  if (before_) found = before_->replicas;
  if (!has(found, plan_.self.disk)) found.push_back(plan_.self.disk);
  std::erase_if(found, [&](const catalog::Replica& r) { return answer_of(r) != nullptr; });
  return found;
}

std::string Recovery::why() const {
  if (phase_ != Phase::kSealing || !before_) return why_;
  std::string who;
  for (const catalog::Replica& replica : missing()) {
    who += (who.empty() ? "" : ", ") + std::to_string(replica.node.value);
    const auto other = answers_.find(replica.node);
    if (other != answers_.end()) who += " (on another disk)";
  }
  for (const auto& [node, answer] : answers_) {
    if (answer.in_doubt) {
      who += (who.empty() ? "" : ", ") + std::to_string(node.value) +
             (answer.emptied ? " lost its log to damage" : " in doubt");
    }
  }
  return "epoch " + number(plan_.epoch) + ": to recover epoch " + number(before_->epoch) + ", " +
         std::to_string(seals_needed(before_->replicas.size(), before_->write_quorum)) +
         " of its replicas must answer; missing: node " + who +
         "; start them, or recover uncleanly and lose what only they have" +
         (why_.empty() ? "" : " (" + why_ + ")");
}

const SealAnswer* Recovery::answer_of(const catalog::Replica& replica) const {
  const auto at = answers_.find(replica.node);
  if (at == answers_.end() || at->second.from.disk != replica) return nullptr;
  return &at->second;
}

bool Recovery::counts(const SealAnswer& answer) const {
  const auto is = [&](const catalog::Replica& replica) {
    if (PYRALOG_PLANT("replica.count_wiped_disk")) return replica.node == answer.from.disk.node;
    return replica == answer.from.disk;
  };
  if (answer.in_doubt && !PYRALOG_PLANT("replica.count_in_doubt")) return false;
  return before_ && std::ranges::any_of(before_->replicas, is);
}

Recovery::Effects Recovery::tick(Instant now) {
  Effects out;
  switch (phase_) {
    case Phase::kSealing:
      decide(now, out);
      if (phase_ != Phase::kSealing || now < again_) break;
      again_ = now + options_.resend;
      for (const catalog::Replica& replica : missing()) out.seal.push_back(replica.node);
      // Who was in doubt, or on another disk, may have caught up or come back.
      for (const auto& [node, answer] : answers_) {
        if (answer.in_doubt && !has(out.seal, node)) out.seal.push_back(node);
      }
      break;
    case Phase::kCopying:
      if (now < again_) break;
      if (!own_) {
        begin_copy(answers_.at(source_), now, out);
      } else {
        read(now, out);
      }
      break;
    case Phase::kHolding:
      see_holders(now, out);
      break;
    case Phase::kCommitting:
      if (now >= again_) ask(now, out);
      break;
    case Phase::kActive:
    case Phase::kAborted:
      break;
  }
  return out;
}

Recovery::Effects Recovery::answered(const SealAnswer& answer, Instant now) {
  Effects out;
  if (phase_ == Phase::kAborted || phase_ == Phase::kActive) return out;
  if (answer.promised > plan_.epoch) {
    abort("node " + std::to_string(answer.from.disk.node.value) + " has promised epoch " +
          number(answer.promised));
    return out;
  }
  if (phase_ != Phase::kSealing || answer.epoch != plan_.epoch) return out;
  // Nobody can have joined what has not begun.
  const Epoch newest = std::max({answer.last_epoch, answer.lossy, answer.log.last()});
  if (newest >= plan_.epoch) return out;
  const auto [at, fresh] = answers_.try_emplace(answer.from.disk.node, answer);
  if (!fresh && at->second.from.boot <= answer.from.boot) at->second = answer;
  decide(now, out);
  return out;
}

const SealAnswer* Recovery::greatest_counted() {
  const SealAnswer* best = nullptr;
  for (const auto& [node, answer] : answers_) {
    if (!counts(answer)) continue;
    const auto rank = [](const SealAnswer& a) { return std::pair(a.last_epoch, a.log.end()); };
    if (best == nullptr || rank(answer) > rank(*best)) best = &answer;
  }
  if (best == nullptr) return nullptr;
  // One of those that held everything below e's start when e was activated is among any RF − W + 1.
  // A lone replica may lead without having asked itself.
  const Offset end = before_->end.value_or(best->log.end());
  const bool joined = best->last_epoch >= before_->epoch || before_->replicas.size() == 1;
  if (!joined && before_->start == Offset(0) && end >= Offset(0) && !before_->end &&
      !PYRALOG_PLANT("replica.wait_for_an_epoch_that_nobody_joined")) {
    // Nothing lies below its start, and who held a record of it, durably, has joined it: it has
    // none.
    start_ = Offset(0);
    return best;
  }
  if (!joined || end < before_->start || best->log.end() < end) {
    why_ = "none of those that answered holds what was committed";
    return nullptr;
  }
  start_ = end;
  return best;
}

const SealAnswer* Recovery::greatest_known(std::string reason) {
  // What was committed follows the catalogue's epochs; the rest of a log is void.
  const Offset endless(INT64_MAX);
  const Offset first = epochs_.empty() ? Offset(0) : epochs_.front().start;
  const Result<History> committed =
      epochs_.empty() ? History(first) : History::make(first, endless, epochs_);
  if (!committed) return nullptr;
  const SealAnswer* best = nullptr;
  Offset to = before_->end.value_or(before_->start);
  for (const auto& [node, answer] : answers_) {
    to = std::max(to, answer.high_watermark);
    const Offset end = std::min(agreed_end(answer.log, *committed), answer.log.end());
    if (best != nullptr && end <= *start_) continue;
    best = &answer;
    start_ = end;
  }
  if (best != nullptr) loss_ = Loss{*start_, std::max(*start_, to), std::move(reason)};
  return best;
}

const SealAnswer* Recovery::choose(Instant now) {
  const SealAnswer* own = answer_of(plan_.self.disk);
  if (own == nullptr || own->from.boot != plan_.self.boot) return nullptr;
  if (!before_) {
    start_ = own->log.end();
    return own;
  }
  std::size_t counted = 0;
  bool all = true;
  bool any_log = PYRALOG_PLANT("replica.begin_with_nothing");
  for (const auto& [node, answer] : answers_) {
    counted += counts(answer) ? 1U : 0U;
    any_log = any_log || !answer.emptied;
  }
  for (const catalog::Replica& replica : before_->replicas) {
    all = all && answer_of(replica) != nullptr;
  }
  const std::size_t needed = seals_needed(before_->replicas.size(), before_->write_quorum);
  if (counted >= needed) {
    if (const SealAnswer* best = greatest_counted()) return best;
  } else if (all && any_log) {
    // Where all have set aside what they had, it lies there for somebody to decide.
    return greatest_known("all replicas answered, and only " + std::to_string(counted) + " of " +
                          std::to_string(needed) + " are sure to have all they acknowledged");
  }
  if (plan_.unclean && now >= begun_ + options_.unclean_patience) {
    return greatest_known("unclean recovery with " + std::to_string(counted) + " of " +
                          std::to_string(needed) + " answers");
  }
  return nullptr;
}

void Recovery::decide(Instant now, Effects& out) {
  if (const SealAnswer* source = choose(now)) begin_copy(*source, now, out);
}

void Recovery::begin_copy(const SealAnswer& source, Instant now, Effects& out) {
  phase_ = Phase::kCopying;
  lossy_ = loss_ ? plan_.epoch : source.lossy;
  source_ = source.from.disk.node;
  reads_left_ = options_.reads;
  again_ = now + options_.read_resend;
  known_ = *start_ < source.log.start() ? History(*start_) : source.log;
  known_.truncate(*start_);
  const History& own = answers_.at(plan_.self.disk.node).log;
  Offset base = agreed_end(own, known_);
  if (base > known_.end()) base = known_.start();
  held_ = base;
  offer(base, base, {}, out);
}

void Recovery::offer(Offset base, Offset end, std::vector<EpochStart> runs, Effects& out) {
  out.offer =
      Append{plan_.epoch, *start_, plan_.self.disk.node, plan_.self.boot, known_.before(base),
             base,        end,     std::move(runs),      Offset(0),       known_.start(),
             lossy_,      false};
}

Recovery::Effects Recovery::offered(const AppendReply& reply, Instant now) {
  Effects out;
  if (phase_ == Phase::kSealing || phase_ == Phase::kAborted || reply.from != plan_.self)
    return out;
  if (reply.kind == AppendReply::Kind::kFenced) {
    if (reply.epoch > plan_.epoch) abort("this node has promised epoch " + number(reply.epoch));
    return out;
  }
  if (reply.epoch != plan_.epoch || reply.kind == AppendReply::Kind::kApart) return out;
  if (leading_) {
    leading_->stable(reply.stable_end);
    if (reply.joined == plan_.epoch) leading_->joined();
    see_holders(now, out);
    return out;
  }
  const bool moved = !own_ || reply.log_end > held_;
  own_ = reply;
  held_ = reply.log_end;
  if (held_ >= *start_) {
    begin_holding(now, out);
  } else if (moved) {
    reads_left_ = options_.reads;
    read(now, out);
  }
  return out;
}

void Recovery::read(Instant now, Effects& out) {
  if (reads_left_ == 0 && !PYRALOG_PLANT("replica.read_for_ever")) {
    return abort("node " + std::to_string(source_.value) + " no longer gives its records");
  }
  --reads_left_;
  again_ = now + options_.read_resend;
  out.read = ReadRange{plan_.epoch, held_, *start_, options_.read_bytes};
  out.read_from = source_;
}

Recovery::Effects Recovery::range_read(const ReadRange& range, Offset end,
                                       const std::vector<EpochStart>& runs, Instant now) {
  Effects out;
  if (phase_ != Phase::kCopying || range.epoch != plan_.epoch || range.from != held_) return out;
  if (end <= held_ || end > *start_ || runs != known_.runs(held_, end)) return read_failed(now);
  copied_ = true;
  again_ = now + options_.read_resend;
  offer(held_, end, runs, out);
  return out;
}

Recovery::Effects Recovery::read_failed(Instant now) {
  Effects out;
  if (phase_ != Phase::kCopying) return out;
  // Asked again in a while; its last answer stays the last.
  again_ = now + options_.read_resend;
  if (reads_left_ == 0) read(now, out);
  return out;
}

void Recovery::begin_holding(Instant now, Effects& out) {
  phase_ = Phase::kHolding;
  History log = known_;
  const Offset own_start = std::min(answers_.at(plan_.self.disk.node).log.start(), log.end());
  if (own_start > log.start()) log.trim(own_start);
  leading_.emplace(
      Leading::Term{plan_.epoch, *start_, plan_.replicas, plan_.write_quorum, plan_.self, lossy_},
      std::move(log), options_.leading, now);
  leading_->stable(own_->stable_end);
  if (own_->joined == plan_.epoch) leading_->joined();
  see_holders(now, out);
}

void Recovery::see_holders(Instant now, Effects& out) {
  if (phase_ != Phase::kHolding) return;
  if (leading_->holders() < plan_.write_quorum && !PYRALOG_PLANT("replica.activate_at_once"))
    return;
  phase_ = Phase::kCommitting;
  ask(now, out);
}

Recovery::Effects Recovery::received(const AppendReply& reply, Instant now) {
  Effects out;
  if (!leading_ || phase_ == Phase::kAborted) return out;
  leading_->received(reply, now);
  if (leading_->fenced()) {
    abort("node " + std::to_string(reply.from.disk.node.value) + " has promised epoch " +
          number(*leading_->fenced()));
    return out;
  }
  see_holders(now, out);
  return out;
}

catalog::EpochActivation Recovery::activation() const {
  catalog::EpochActivation a;
  a.partition = plan_.partition;
  a.epoch = plan_.epoch;
  a.start = *start_;
  a.log_start = known_.start();
  a.leader = plan_.self.disk.node;
  a.replicas = plan_.replicas;
  a.write_quorum = plan_.write_quorum;
  a.unclean = loss_.has_value();
  return a;
}

void Recovery::ask(Instant now, Effects& out) {
  again_ = now + options_.read_resend;
  out.commit = activation();
}

Recovery::Effects Recovery::catalog(const catalog::Partition& partition, Instant now) {
  Effects out;
  if (phase_ == Phase::kAborted || phase_ == Phase::kActive) return out;
  const bool ours = partition.current && partition.current->epoch == plan_.epoch &&
                    partition.current->leader == plan_.self.disk.node;
  if (ours && phase_ == Phase::kCommitting) {
    phase_ = Phase::kActive;
    leading_->activated(now);
  } else if (partition.highest_proposed > plan_.epoch) {
    abort("epoch " + number(partition.highest_proposed) + " was proposed since");
  }
  return out;
}

Recovery::Effects Recovery::refused(const catalog::Partition& partition, const Error& error,
                                    Instant now) {
  Effects out = catalog(partition, now);
  if (phase_ == Phase::kCommitting) abort("the catalogue refuses it: " + error.message);
  return out;
}

}  // namespace pyralog::replica
