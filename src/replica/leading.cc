#include "replica/leading.h"

#include <algorithm>
#include <functional>
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

}  // namespace

Leading::Leading(Term term, History log, Options options, Instant now)
    : term_(std::move(term)), options_(options), log_(std::move(log)), begun_(now) {
  PYRALOG_ASSERT(log_.end() == term_.start && log_.last() < term_.epoch);
  PYRALOG_ASSERT(term_.write_quorum >= 1 && term_.write_quorum <= term_.replicas.size());
  PYRALOG_ASSERT(has(term_.replicas, term_.self.disk));
  for (const catalog::Replica& replica : term_.replicas) {
    if (replica == term_.self.disk) continue;
    Peer peer;
    peer.known.disk = replica;
    peer.next = log_.end();
    peer.quiet_until = peer.caught_up = peer.then = now;
    peers_.push_back(std::move(peer));
  }
  if (PYRALOG_PLANT("replica.serve_before_activation")) activated(now);
}

Leading::Peer* Leading::find(NodeId node) {
  const auto at = std::ranges::find(peers_, node, [](const Peer& p) { return p.known.disk.node; });
  return at == peers_.end() ? nullptr : &*at;
}
const Leading::Peer* Leading::find(NodeId node) const {
  const auto at = std::ranges::find(peers_, node, [](const Peer& p) { return p.known.disk.node; });
  return at == peers_.end() ? nullptr : &*at;
}

void Leading::activated(Instant now) {
  if (active_) return;
  active_ = true;
  begun_ = now;
  high_watermark_ = std::max(high_watermark_, term_.start);
  advance();
}

void Leading::appended(Offset end, Instant now) {
  PYRALOG_ASSERT(active_ && !fenced_);
  for (Peer& peer : peers_) {
    // Who had everything until now lags from now on.
    if (peer.known.contiguous && peer.known.log_end == log_.end()) peer.caught_up = now;
  }
  log_.append(term_.epoch, end);
}

void Leading::stable(Offset end) {
  PYRALOG_ASSERT(end <= log_.end());
  stable_ = std::max(stable_, end);
  advance();
}

void Leading::joined() {
  joined_ = true;
}

void Leading::trimmed(Offset log_start) {
  if (log_start <= log_.start()) return;
  log_.trim(std::min(log_start, log_.end()));
  for (Peer& peer : peers_) peer.told.reset();  // that is news
}

void Leading::advance() {
  if (!active_ || fenced_) return;
  std::vector<Offset> ends{stable_};
  for (const Peer& peer : peers_) {
    ends.push_back(PYRALOG_PLANT("replica.count_log_ends") ? peer.known.log_end
                                                           : peer.known.stable_end);
  }
  const Offset committed = committed_end(std::move(ends), term_.write_quorum);
  high_watermark_ = std::max(high_watermark_, std::min(committed, log_.end()));
}

std::size_t Leading::holders() const {
  const auto holds = [&](const Peer& peer) {
    return peer.known.contiguous && peer.known.joined == term_.epoch &&
           peer.known.stable_end >= term_.start;
  };
  const auto others = static_cast<std::size_t>(std::ranges::count_if(peers_, holds));
  return others + (joined_ && stable_ >= term_.start ? 1 : 0);
}

void Leading::forget_flights(Peer& peer, Offset next) {
  peer.flights.clear();
  peer.flying = 0;
  peer.next = next;
}

void Leading::received(const AppendReply& reply, Instant now) {
  if (reply.kind == AppendReply::Kind::kFenced) {
    if (reply.epoch > term_.epoch && (!fenced_ || *fenced_ < reply.epoch)) fenced_ = reply.epoch;
    return;
  }
  Peer* peer = find(reply.from.disk.node);
  // Another disk under the node's name is not this epoch's replica.
  if (peer == nullptr || reply.epoch != term_.epoch || reply.from.disk != peer->known.disk) return;
  if (reply.from.boot == 0 || reply.from.boot < peer->boot) return;
  if (reply.from.boot > peer->boot && PYRALOG_PLANT("replica.trust_earlier_life")) {
    peer->boot = reply.from.boot;
  } else if (reply.from.boot > peer->boot) {
    // Another life: what the last one had not made stable may be gone.
    peer->boot = reply.from.boot;
    peer->known.contiguous = false;
    peer->known.log_start = peer->known.log_end = peer->known.stable_end = Offset(0);
    peer->known.joined = Epoch(0);
    forget_flights(*peer, log_.end());
  }
  if (reply.kind == AppendReply::Kind::kApart) {
    apart(*peer, reply, now);
  } else {
    held(*peer, reply, now);
  }
}

bool Leading::heard_again(const AppendReply& reply, Instant now) {
  Peer* peer = find(reply.from.disk.node);
  if (peer == nullptr || fenced_ || reply.kind != AppendReply::Kind::kHeld) return false;
  const Follower& known = peer->known;
  const bool same = reply.epoch == term_.epoch && reply.from == Life{known.disk, peer->boot} &&
                    known.contiguous && reply.log_start == known.log_start &&
                    reply.log_end == known.log_end && reply.stable_end == known.stable_end &&
                    reply.joined == known.joined;
  if (same) held(*peer, reply, now);
  return same;
}

void Leading::apart(Peer& peer, const AppendReply& reply, Instant now) {
  peer.known.heard = now;
  if (peer.known.contiguous)
    return;  // an old answer of this life: its log has become the same since
  EpochTail mine = log_.end_of(reply.tail.epoch);
  if (PYRALOG_PLANT("replica.cut_by_offset")) mine.end = log_.end();
  const Offset agreed = std::max(std::min(reply.tail.end, mine.end), reply.log_start);
  peer.next = std::clamp(agreed, log_.start(), log_.end());
  peer.quiet_until = now;
}

void Leading::held(Peer& peer, const AppendReply& reply, Instant now) {
  if (reply.stable_end > reply.log_end || reply.log_end > log_.end()) return;  // it cannot be
  Follower& known = peer.known;
  known.heard = now;
  peer.unanswered = 0;
  peer.not_before.reset();
  if (!known.contiguous) forget_flights(peer, reply.log_end);
  known.contiguous = true;
  peer.stalled = false;
  known.log_start = std::max(known.log_start, reply.log_start);
  known.log_end = std::max(known.log_end, reply.log_end);
  known.stable_end = std::max(known.stable_end, reply.stable_end);
  known.joined = std::max(known.joined, reply.joined);
  while (!peer.flights.empty() && peer.flights.front().end <= known.log_end) {
    peer.flying -= peer.flights.front().bytes;
    peer.flights.pop_front();
  }
  peer.next = std::max(peer.next, known.log_end);
  if (peer.flights.empty() && !says_all(peer)) {
    peer.quiet_until = std::min(peer.quiet_until, now + options_.resend);
  }
  // As Kafka does it: caught up at the answer before, if it has now what there was then.
  if (known.log_end == log_.end()) {
    peer.caught_up = now;
  } else if (known.log_end >= peer.then_end) {
    peer.caught_up = std::max(peer.caught_up, peer.then);
  }
  peer.then = now;
  peer.then_end = log_.end();
  if (reply.kind == AppendReply::Kind::kGap && reply.log_end == known.log_end) {
    // All that followed the one that was lost is refused: once is enough.
    if (peer.rewound_to != known.log_end || now >= peer.rewound_until) {
      peer.rewound_to = known.log_end;
      peer.rewound_until = now + options_.resend;
      forget_flights(peer, known.log_end);
    }
  }
  advance();
}

void Leading::link_up(NodeId node, Instant now) {
  Peer* peer = find(node);
  if (peer == nullptr) return;
  peer->known.linked = true;
  peer->quiet_until = now;
  peer->not_before.reset();
  // What it was told may have been another life of it.
  if (!PYRALOG_PLANT("replica.ask_nothing_over_a_new_link")) peer->told.reset();
}

void Leading::link_down(NodeId node) {
  Peer* peer = find(node);
  if (peer == nullptr) return;
  peer->known.linked = false;
  peer->link_heard.reset();
  peer->asked = peer->answered;
  if (peer->known.contiguous) forget_flights(*peer, peer->known.log_end);
}

void Leading::link_heard(NodeId node, Instant now) {
  Peer* peer = find(node);
  if (peer != nullptr && peer->known.linked) peer->link_heard = now;
}

void Leading::lost(NodeId node, Instant now) {
  Peer* peer = find(node);
  if (peer == nullptr) return;
  // Its replica may be closed while its node is well: then each answer would be followed by the
  // next question.
  if (!PYRALOG_PLANT("replica.ask_at_once_who_refuses")) peer->not_before = now + pause(*peer);
  peer->asked = peer->answered;
  if (peer->known.contiguous) forget_flights(*peer, peer->known.log_end);
}

std::optional<Leading::Sending> Leading::next(NodeId node, Instant now) {
  Peer* peer = find(node);
  if (peer == nullptr || fenced_ || !peer->known.linked) return std::nullopt;
  if (peer->not_before && now < *peer->not_before) return std::nullopt;
  peer->not_before.reset();
  const bool contiguous = peer->known.contiguous;
  if (contiguous && !peer->flights.empty() &&
      peer->flights.front().at + options_.lost_after <= now) {
    forget_flights(*peer, peer->known.log_end);
    peer->stalled = true;
  }
  peer->next = std::clamp(peer->next, log_.start(), log_.end());
  Sending out;
  const std::uint64_t room = options_.window_bytes - std::min(options_.window_bytes, peer->flying);
  const std::size_t requests = peer->stalled ? 1 : options_.window_requests;
  // One question at a time, unless its answer is overdue.
  const bool asks = contiguous && peer->answered < asked_ &&
                    (peer->answered >= peer->asked || peer->asked_at + options_.lease <= now);
  if (!asks && contiguous && peer->next < log_.end() && room > 0 &&
      (peer->flights.size() < requests || PYRALOG_PLANT("replica.no_window"))) {
    out.max_bytes = std::min<std::uint64_t>(room, options_.request_bytes);
  } else {
    const bool news =
        contiguous && peer->flights.empty() && active_ && peer->told != high_watermark_;
    if (!asks && !news && (idle(*peer) || now < peer->quiet_until)) return std::nullopt;
  }
  out.message = without_records(*peer);
  return out;
}

bool Leading::idle(const Peer& peer) const {
  if (PYRALOG_PLANT("replica.a_timer_for_each_follower")) return false;
  return peer.known.contiguous && active_ && peer.flights.empty() && says_all(peer) &&
         peer.answered >= asked_;
}

bool Leading::says_all(const Peer& peer) {
  return peer.known.stable_end >= peer.known.log_end ||
         PYRALOG_PLANT("replica.wait_for_lost_progress");
}

Append Leading::without_records(const Peer& peer) const {
  return {term_.epoch,
          term_.start,
          term_.self.disk.node,
          peer.boot,
          log_.before(peer.next),
          peer.next,
          peer.next,
          {},
          high_watermark_,
          log_.start(),
          term_.lossy,
          active_};
}

std::vector<std::pair<NodeId, Append>> Leading::heartbeats() const {
  std::vector<std::pair<NodeId, Append>> out;
  if (fenced_) return out;
  for (const Peer& peer : peers_) {
    // Who is behind the end is about to be sent what it lacks.
    const bool level = idle(peer) && peer.known.linked && peer.next == log_.end();
    if (level) out.emplace_back(peer.known.disk.node, without_records(peer));
  }
  return out;
}

Duration Leading::pause(Peer& peer) const {
  constexpr unsigned kMostDoublings = 10;
  return std::min(options_.resend,
                  options_.first_resend * (1u << std::min(peer.unanswered++, kMostDoublings)));
}

void Leading::sent(NodeId node, const Append& message, std::uint64_t bytes, Instant now) {
  Peer* peer = find(node);
  if (peer == nullptr) return;
  peer->told = message.high_watermark;
  if (message.end == message.base) {
    peer->asked = asked_;
    peer->asked_at = now;
  }
  if (peer->known.contiguous) {
    peer->quiet_until = now + options_.heartbeat;
  } else {
    peer->quiet_until = now + pause(*peer);
  }
  // What came meanwhile may have moved it: then these records count for nothing.
  if (message.end == message.base || !peer->known.contiguous || message.base != peer->next) return;
  peer->flights.push_back({message.end, bytes, now});
  peer->flying += bytes;
  peer->next = message.end;
}

Instant Leading::wake_at(NodeId node) const {
  const Peer* peer = find(node);
  if (peer == nullptr || fenced_ || !peer->known.linked) return Instant::never();
  if (peer->not_before) return *peer->not_before;
  if (idle(*peer)) return Instant::never();
  Instant at = peer->quiet_until;
  if (!peer->flights.empty()) at = std::min(at, peer->flights.front().at + options_.lost_after);
  if (peer->known.contiguous && peer->answered < asked_) {
    at = std::min(at, peer->asked_at + options_.lease);
  }
  return at;
}

std::uint64_t Leading::confirmed() const {
  if (term_.write_quorum <= 1 || PYRALOG_PLANT("replica.confirm_by_itself")) return asked_;
  std::vector<std::uint64_t> answers;
  for (const Peer& peer : peers_) answers.push_back(peer.answered);
  std::ranges::sort(answers, std::greater());
  return answers[term_.write_quorum - 2u];
}

void Leading::answered(const catalog::Replica& disk, std::uint64_t asked) {
  Peer* peer = find(disk.node);
  // Another disk's seal would not count, nor does its word.
  if (peer != nullptr && peer->known.disk == disk) peer->answered = std::max(peer->answered, asked);
}

bool Leading::may_accept(Instant now) const {
  if (PYRALOG_PLANT("replica.accept_without_quorum")) return active_ && !fenced_;
  if (!active_ || fenced_) return false;
  // Of a partition that has just been made the others may not have heard yet.
  const bool made = term_.start == Offset(0) && begun_ + options_.lease > now;
  if (made && !PYRALOG_PLANT("replica.refuse_until_all_have_heard")) return true;
  const auto reached = std::ranges::count_if(peers_, [&](const Peer& peer) {
    if (!peer.known.contiguous || !peer.known.heard) return false;
    if (*peer.known.heard + options_.lease > now) return true;
    const bool answers = *peer.known.heard + 2 * options_.heartbeat > now;
    return answers && peer.link_heard && *peer.link_heard + options_.lease > now;
  });
  return static_cast<std::size_t>(reached) + 1 >= term_.write_quorum;
}

bool Leading::is_in_sync(const Peer& peer, Instant now) const {
  const bool level = peer.known.contiguous && peer.known.log_end == log_.end();
  const bool recent = peer.known.heard && *peer.known.heard + options_.lag_time_max >= now;
  return recent && (level || peer.caught_up + options_.lag_time_max >= now);
}

bool Leading::all_in_sync(Instant now) const {
  return std::ranges::all_of(peers_, [&](const Peer& peer) { return is_in_sync(peer, now); });
}

std::vector<NodeId> Leading::in_sync(Instant now) const {
  std::vector<NodeId> found{term_.self.disk.node};
  for (const Peer& peer : peers_) {
    if (is_in_sync(peer, now)) found.push_back(peer.known.disk.node);
  }
  std::ranges::sort(found);
  return found;
}

std::vector<Leading::Follower> Leading::followers() const {
  std::vector<Follower> all;
  for (const Peer& peer : peers_) all.push_back(peer.known);
  return all;
}

}  // namespace pyralog::replica
