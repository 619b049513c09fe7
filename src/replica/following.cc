#include "replica/following.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"

namespace pyralog::replica {
namespace {

/// Whether a message makes sense by itself. It may come from anywhere.
bool well_formed(const Append& a) {
  if (a.epoch.value == 0 || a.epoch.value > kMaxEpoch || a.lossy > a.epoch || a.start.value < 0 ||
      a.log_start.value < 0 || a.base < a.log_start || a.end < a.base ||
      a.high_watermark.value < 0 || a.previous > a.epoch) {
    return false;
  }
  if (a.base == a.end) return a.runs.empty();
  if (a.runs.empty() || a.runs.front().start != a.base) return false;
  Epoch before = a.previous;
  for (std::size_t i = 0; i < a.runs.size(); ++i) {
    const Offset end = i + 1 < a.runs.size() ? a.runs[i + 1].start : a.end;
    const EpochStart& run = a.runs[i];
    if (run.start >= end || run.epoch.value == 0 || run.epoch < before || run.epoch > a.epoch ||
        (i > 0 && run.epoch == before)) {
      return false;
    }
    if (run.epoch == a.epoch ? run.start < a.start : end > a.start) return false;
    before = run.epoch;
  }
  return true;
}

}  // namespace

Following::Following(Opened opened)
    : self_(std::move(opened.self)),
      promise_(opened.promise),
      stored_(opened.promise),
      log_(std::move(opened.log)),
      stable_(opened.stable) {
  PYRALOG_ASSERT(log_.start() <= stable_ && stable_ <= log_.end());
  // Records of an epoch are taken only where all before them are the leader's.
  promise_.joined = std::max(promise_.joined, log_.last());
  promise_.promised = std::max(promise_.promised, promise_.joined);
  promise_.in_doubt = promise_.in_doubt || opened.in_doubt;
}

Following::Effects Following::start() {
  Effects out;
  if (promise_ != stored_) store(out);
  return out;
}

void Following::store(Effects& out) {
  out.store = promise_;
}

void Following::raise(Epoch epoch, Effects& out) {
  promise_.promised = epoch;
  agreed_ = Epoch(0);
  told_.reset();
  reply_due_ = false;
  store(out);
  if (PYRALOG_PLANT("replica.promise_before_durable")) stored_ = promise_;
}

Following::Effects Following::seal(const Seal& seal) {
  Effects out;
  if (broken_ || seal.epoch.value == 0 || seal.epoch.value > kMaxEpoch) return out;
  if (seal.epoch < promise_.promised) {
    out.sealed = SealAnswer{seal.epoch, promise_.promised, self_,           {}, {}, {},
                            {},         promise_.in_doubt, promise_.emptied};
    out.sealed_to = seal.candidate;
    return out;
  }
  if (seal.epoch > promise_.promised) raise(seal.epoch, out);
  seal_ = seal;
  if (stable_ < log_.end()) out.sync = true;
  answer_seal(out);
  return out;
}

void Following::answer_seal(Effects& out) {
  if (!seal_ || broken_ || cutting_ || seal_->epoch != promise_.promised) return;
  if (stored_ != promise_ || stable_ < log_.end()) return;
  out.sealed = SealAnswer{
      seal_->epoch,    promise_.promised, self_,           promise_.joined, log_, promise_.lossy,
      high_watermark_, promise_.in_doubt, promise_.emptied};
  out.sealed_to = seal_->candidate;
  seal_.reset();
}

void Following::reply(AppendReply::Kind kind, Effects& out, EpochTail tail) {
  out.reply = AppendReply{kind,       promise_.promised, self_,          log_.start(),
                          log_.end(), stable_,           stored_.joined, tail};
  out.reply_to = leader_;
}

void Following::apart(Effects& out) {
  reply(AppendReply::Kind::kApart, out, {log_.last(), log_.end()});
}

Following::Effects Following::append(const Append& a) {
  Effects out;
  if (broken_ || (!well_formed(a) && !PYRALOG_PLANT("replica.any_message"))) return out;
  if (a.epoch < promise_.promised && !PYRALOG_PLANT("replica.no_fence")) {
    reply(AppendReply::Kind::kFenced, out);
    out.reply_to = a.leader;
    return out;
  }
  if (a.epoch > promise_.promised) raise(a.epoch, out);
  leader_ = a.leader;
  if (stored_.promised < a.epoch) {
    reply_due_ = true;
    return out;
  }
  if (cutting_) return out;  // its end is answered
  if (a.to_boot != self_.boot && !PYRALOG_PLANT("replica.hear_for_earlier_life")) {
    // Meant for an earlier life, or for none: it may ask to cut what this one has acknowledged.
    apart(out);
    return out;
  }
  if (agreed_ == a.epoch) {
    take(a, out);
  } else {
    join(a, out);
  }
  return out;
}

void Following::join(const Append& a, Effects& out) {
  if (a.previous.value == 0) {
    // The leader has nothing below: nothing here can be compared with it.
    if (log_.empty() && log_.end() == a.base) return agree(a, out);
    return cut(a, {a.base, true}, out);
  }
  if (a.base > log_.end()) return apart(out);
  if (a.base < log_.start()) return cut(a, {a.base, true}, out);
  const Epoch mine = log_.before(a.base);
  if (a.base > log_.start() && mine != a.previous && !PYRALOG_PLANT("replica.cut_by_offset")) {
    // The greatest epoch that both may have, and where it ends here.
    const EpochTail tail = log_.end_of(std::min(mine, a.previous));
    return reply(AppendReply::Kind::kApart, out,
                 {tail.epoch, std::min(tail.end, Offset(a.base.value - 1))});
  }
  if (a.base < log_.end()) return cut(a, {a.base, false}, out);
  agree(a, out);
}

void Following::cut(const Append& a, Cut cut, Effects& out) {
  // It was committed, so every later leader has it: one that has not must not lead.
  if (high_watermark_ > cut.to && a.lossy <= told_in_ && !PYRALOG_PLANT("replica.cut_committed")) {
    broken_ = Error{Code::kFenced, "epoch " + std::to_string(a.epoch.value) + " of node " +
                                       std::to_string(a.leader.value) + " begins without records " +
                                       std::to_string(cut.to.value) + " to " +
                                       std::to_string(high_watermark_.value) +
                                       ", which were committed; compare the replicas' logs before "
                                       "this one is opened again"};
    return;
  }
  cutting_ = cut;
  cutting_for_ = a.epoch;
  cutting_start_ = a.start;
  cutting_lossy_ = a.lossy;
  cutting_unclean_ = a.may_come_to_nothing();
  out.cut = cut;
}

Following::Effects Following::cut_done() {
  Effects out;
  PYRALOG_ASSERT(cutting_);
  if (cutting_->restart) {
    log_ = History(cutting_->to);
  } else {
    log_.truncate(cutting_->to);
  }
  stable_ = cutting_->restart ? cutting_->to : std::min(stable_, cutting_->to);
  high_watermark_ = std::min(high_watermark_, log_.end());
  cutting_.reset();
  if (cutting_for_ == promise_.promised) {
    agreed_ = cutting_for_;
    agreed_start_ = cutting_start_;
    agreed_lossy_ = cutting_lossy_;
    agreed_unclean_ = cutting_unclean_;
    settle(out);
    reply(AppendReply::Kind::kHeld, out);
  }
  if (stable_ < log_.end()) out.sync = true;
  answer_seal(out);
  return out;
}

void Following::agree(const Append& a, Effects& out) {
  agreed_ = a.epoch;
  agreed_start_ = a.start;
  agreed_lossy_ = a.lossy;
  agreed_unclean_ = a.may_come_to_nothing();
  take(a, out);
}

void Following::take(const Append& a, Effects& out) {
  const bool behind_start = a.previous.value == 0 && a.base == a.log_start && a.base > log_.end();
  if (behind_start) return cut(a, {a.base, true}, out);
  if (a.base == log_.end() && a.previous.value != 0 && !log_.empty() && a.previous != log_.last()) {
    broken_ = Error{Code::kCorrupt, "epoch " + std::to_string(a.epoch.value) + " of node " +
                                        std::to_string(a.leader.value) + ": the records below " +
                                        std::to_string(a.base.value) +
                                        " were the same and no longer are; compare the replicas' "
                                        "logs before this one is opened again"};
    return;
  }
  if (a.base == log_.end() && a.end > a.base && log_.follows(a.runs, a.end)) {
    log_.append(a.runs, a.end);
    out.take = true;
  }
  if (!a.may_come_to_nothing()) tell(a.high_watermark);
  const Offset trim = std::min(a.log_start, high_watermark_);
  if (trim > log_.start()) {
    log_.trim(trim);
    stable_ = std::max(stable_, trim);
    out.trim = trim;
  }
  settle(out);
  reply(a.base > log_.end() || a.end > log_.end() ? AppendReply::Kind::kGap
                                                  : AppendReply::Kind::kHeld,
        out);
}

void Following::settle(Effects& out) {
  if (agreed_.value == 0 || agreed_ != promise_.promised || stable_ < agreed_start_) return;
  Promise next = promise_;
  next.joined = agreed_;
  next.lossy = agreed_lossy_;
  if (agreed_unclean_) {
    // Unless that epoch becomes active, whoever recovers the one before must know that this log may
    // have lost something to it.
    if (!PYRALOG_PLANT("replica.no_doubt_of_failed_recovery")) next.in_doubt = true;
  } else if (told_ && stable_ >= *told_) {
    next.in_doubt = next.emptied = false;
  }
  if (next == promise_) return;
  promise_ = next;
  store(out);
}

void Following::led(Epoch epoch, Offset end) {
  PYRALOG_ASSERT(epoch == promise_.promised && epoch == agreed_ && !cutting_);
  log_.append(epoch, end);
}

Following::Effects Following::committed(Offset high_watermark) {
  Effects out;
  if (agreed_.value == 0 || agreed_ != promise_.promised || cutting_) return out;
  tell(high_watermark);
  settle(out);
  return out;
}

void Following::tell(Offset high_watermark) {
  agreed_unclean_ = false;
  told_in_ = agreed_;
  told_ = std::max(told_.value_or(Offset(0)), high_watermark);
  high_watermark_ = std::max(high_watermark_, std::min(*told_, log_.end()));
}

Result<void> Following::may_read(const ReadRange& range) const {
  if (broken_) return fail(*broken_);
  if (range.epoch != promise_.promised && !PYRALOG_PLANT("replica.read_by_anybody")) {
    return fail(Code::kFenced, "read for epoch " + std::to_string(range.epoch.value) +
                                   ": this replica has promised " +
                                   std::to_string(promise_.promised.value) + "; seal it first");
  }
  if (cutting_) return fail(Code::kUnavailable, "the log is being cut; ask again");
  if (range.from < log_.start() || range.to < range.from || range.to > log_.end()) {
    return fail(Code::kOutOfRange, "records " + std::to_string(range.from.value) + " to " +
                                       std::to_string(range.to.value) + " of a log from " +
                                       std::to_string(log_.start().value) + " to " +
                                       std::to_string(log_.end().value) + "; seal it again");
  }
  return {};
}

Following::Effects Following::stored(const Promise& promise) {
  Effects out;
  const bool joined = promise.joined > stored_.joined;
  stored_ = promise;
  if (reply_due_ && stored_.promised == promise_.promised) {
    reply_due_ = false;
    if (!broken_ && !cutting_) apart(out);
  } else if (joined && !broken_ && agreed_.value != 0 && agreed_ == stored_.joined) {
    reply(AppendReply::Kind::kHeld, out);
  }
  answer_seal(out);
  return out;
}

Following::Effects Following::stable(Offset end) {
  Effects out;
  PYRALOG_ASSERT(end <= log_.end());
  if (end <= stable_) return out;
  stable_ = end;
  if (broken_) return out;
  if (agreed_.value != 0 && !cutting_) {
    settle(out);
    reply(AppendReply::Kind::kHeld, out);
  }
  answer_seal(out);
  return out;
}

void Following::trimmed(Offset log_start) {
  if (log_start <= log_.start()) return;
  log_.trim(std::min(log_start, log_.end()));
  stable_ = std::max(stable_, log_.start());
}

}  // namespace pyralog::replica
