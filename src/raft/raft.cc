#include "raft/raft.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"

namespace pyralog::raft {

Raft::Raft(Options options, Stored stored)
    : options_(options),
      hard_(stored.hard),
      hard_given_(stored.hard),
      log_(std::move(stored.snapshot), std::move(stored.entries), stored.hard.commit),
      config_(log_.snapshot().config),
      random_(options.seed * 0x9e3779b97f4a7c15U + static_cast<std::uint64_t>(options.id.value)) {
  PYRALOG_ASSERT(options_.id.value > 0 && options_.heartbeat_ticks > 0 &&
                 options_.election_ticks > options_.heartbeat_ticks &&
                 options_.lease_ticks < options_.election_ticks);
  PYRALOG_ASSERT(options_.sending.messages > 0 && options_.sending.bytes > 0);
  // It may have answered a heartbeat just before it ended, and its leader goes by that.
  if (options_.lease_ticks > 0 && hard_.term > Term(0) &&
      !PYRALOG_PLANT("raft.vote_at_the_start")) {
    promise();
  }
  PYRALOG_ASSERT(options_.lease_ticks == 0 || options_.check_quorum);
  durable_term_ = hard_.term;
  durable_commit_ = hard_.commit;
  // Its snapshot may be younger than its hard state.
  if (!PYRALOG_PLANT("raft.forget_what_a_snapshot_says")) {
    durable_commit_ = std::max(durable_commit_, log_.snapshot().index);
  }
  reset(Role::kFollower, hard_.term);
}

std::uint64_t Raft::random() {
  // splitmix64.
  random_ += 0x9e3779b97f4a7c15U;
  std::uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

void Raft::reset(Role role, Term term) {
  if (term != hard_.term) {
    hard_.term = term;
    hard_.vote = kNobody;
  }
  role_ = role;
  leader_ = kNobody;
  votes_.clear();
  progress_.clear();
  elapsed_ = 0;
  since_heartbeat_ = 0;
  timeout_ = election_timeout();
  hurries_ = false;
  transferee_ = kNobody;
  uncommitted_bytes_ = 0;
  round_began_.clear();
  lease_until_ = 0;
  lease_given_up_ = false;
  leaving_ = false;
  self_vote_ = Term(0);
  refuse_reads();
}

unsigned Raft::election_timeout() {
  return options_.election_ticks + static_cast<unsigned>(random() % options_.election_ticks);
}

void Raft::become_follower(Term term, NodeId leader) {
  reset(Role::kFollower, term);
  leader_ = leader;
}

void Raft::become_candidate(bool pre, bool force) {
  if (pre) {
    // Nothing of this has to outlive a crash.
    reset(Role::kPreCandidate, hard_.term);
  } else {
    reset(Role::kCandidate, Term(hard_.term.value + 1));
    hard_.vote = options_.id;
    self_vote_ = hard_.term;
  }
  for (const NodeId node : config_.all()) {
    if (node == options_.id || !config_.is_voter(node)) continue;
    Message ask;
    ask.kind = pre ? MessageKind::kPreVote : MessageKind::kVote;
    ask.to = node;
    ask.term = pre ? Term(hard_.term.value + 1) : hard_.term;
    ask.index = log_.last();
    ask.log_term = log_.last_term();
    ask.force = force;
    send(std::move(ask), !pre);
  }
  if (pre) poll(options_.id, true);
}

void Raft::poll(NodeId from, bool granted) {
  votes_.emplace(from, granted);
  switch (tally(config_, votes_)) {
    case Tally::kPending:
      return;
    case Tally::kLost:
      become_follower(hard_.term, kNobody);
      return;
    case Tally::kWon:
      if (role_ == Role::kPreCandidate) {
        become_candidate(false, false);
      } else {
        become_leader();
      }
      return;
  }
}

void Raft::may_lead(bool may) {
  if (may == may_lead_) return;
  may_lead_ = may;
  // Others had their time; now this one waits for its own.
  if (may && role_ == Role::kFollower) elapsed_ = 0;
  if (!may && (role_ == Role::kPreCandidate || role_ == Role::kCandidate)) {
    become_follower(hard_.term, kNobody);
  }
}

bool Raft::may_campaign() const {
  if (!may_lead_ && !PYRALOG_PLANT("raft.lead_whatever_was_said")) return false;
  if (!may_vote_) return false;
  if (!config_.is_voter(options_.id)) return false;
  // Who will take part is not known yet.
  for (Index i(log_.applied().value + 1); i <= log_.committed(); i = Index(i.value + 1)) {
    if (log_.at(i).kind == EntryKind::kConfig) return false;
  }
  return true;
}

void Raft::campaign() {
  if (promised() && !PYRALOG_PLANT("raft.campaign_in_lease")) return;
  if (role_ != Role::kLeader && may_campaign()) become_candidate(options_.pre_vote, false);
}

void Raft::has_ended(NodeId node) {
  if (role_ != Role::kFollower || leader_ != node || promised()) return;
  leader_ = kNobody;
  refuse_reads();
  // Two that ask at once may both fail, and wait for long: each leaves the one before it the time
  // to win.
  unsigned before = 0;
  for (const NodeId each : config_.all()) {
    if (each != node && each < options_.id && config_.is_voter(each)) ++before;
  }
  if (PYRALOG_PLANT("raft.all_ask_at_once")) before = 0;
  timeout_ = elapsed_ + 1 + 2 * before;
  hurries_ = true;
}

/// A leader that was heard of now may have a lease by it. The first tick from now on may come at
/// once, and the lease is of whole ones.
void Raft::promise() {
  no_votes_before_ =
      now_ + options_.election_ticks + (PYRALOG_PLANT("raft.promise_a_tick_less") ? 0 : 1);
}

/// Whether a leader may have a lease by what this member has answered. Terms do not matter: that
/// leader may not have heard of a newer one.
bool Raft::promised() const {
  return now_ < no_votes_before_;
}

bool Raft::in_lease() const {
  if (promised()) return true;
  return options_.check_quorum && leader_ != kNobody && elapsed_ < options_.election_ticks;
}

void Raft::tick() {
  ++now_;
  ++elapsed_;
  if (role_ != Role::kLeader) {
    if (elapsed_ < timeout_) return;
    if (may_campaign()) return campaign();
    // Who cannot ask for votes is not to believe for ever in a leader that is not heard of.
    if (leader_ != kNobody && !PYRALOG_PLANT("raft.learners_believe_for_ever")) {
      leader_ = kNobody;
      refuse_reads();
    }
    return;
  }
  ++since_heartbeat_;
  if (elapsed_ >= options_.election_ticks) {
    elapsed_ = 0;
    transferee_ = kNobody;
    if (!PYRALOG_PLANT("raft.stay_joint")) leave_joint_if_due();
    const bool heard = is_majority(config_, [this](NodeId node) {
      const auto found = progress_.find(node);
      return node == options_.id || (found != progress_.end() && found->second.take_active());
    });
    if (options_.check_quorum && !heard && !PYRALOG_PLANT("raft.lead_without_majority")) {
      become_follower(hard_.term, kNobody);
      return;
    }
  }
  // Who reads waits for the next one.
  const bool asked = !reads_.empty() && reads_.back().round > round_;
  if (asked || since_heartbeat_ >= options_.heartbeat_ticks) send_heartbeats();
}

unsigned Raft::idle_ticks() const {
  const auto before = [](unsigned due, unsigned now) { return due > now ? due - now - 1 : 0U; };
  if (role_ != Role::kLeader) return before(timeout_, elapsed_);
  if (!reads_.empty() && reads_.back().round > round_) return 0;
  return std::min(before(options_.heartbeat_ticks, since_heartbeat_),
                  before(options_.election_ticks, elapsed_));
}

bool Raft::settle_term(const Message& m) {
  const bool from_leader = m.kind == MessageKind::kAppend || m.kind == MessageKind::kHeartbeat ||
                           m.kind == MessageKind::kSnapshot;
  if (m.term > hard_.term) {
    const bool asks = m.kind == MessageKind::kVote || m.kind == MessageKind::kPreVote;
    if (asks && !m.force && in_lease() && !PYRALOG_PLANT("raft.vote_in_lease")) return true;
    // A pre-vote is about a term that may never be.
    if (m.kind == MessageKind::kPreVote || (m.kind == MessageKind::kPreVoteReply && !m.reject))
      return false;
    become_follower(m.term, from_leader ? m.from : kNobody);
    return false;
  }
  if (m.term == hard_.term) return false;
  // An old leader that comes back would go on for ever unheard, and a node that was cut off, with a
  // term that it won by itself, could not join: both learn of the present term.
  if (from_leader && (options_.check_quorum || options_.pre_vote)) {
    Message tell;
    tell.kind = MessageKind::kAppendReply;
    tell.to = m.from;
    send(std::move(tell), true);
  } else if (m.kind == MessageKind::kPreVote) {
    Message no;
    no.kind = MessageKind::kPreVoteReply;
    no.to = m.from;
    no.reject = true;
    send(std::move(no), true);
  }
  return true;
}

void Raft::step(Message m) {
  if (m.to != options_.id || m.from == options_.id || m.from == kNobody) return;
  learn_commit(m);
  if (settle_term(m)) return;
  switch (m.kind) {
    case MessageKind::kVote:
    case MessageKind::kPreVote:
      handle_vote(m);
      return;
    case MessageKind::kVoteReply:
    case MessageKind::kPreVoteReply:
      handle_vote_reply(m);
      return;
    case MessageKind::kAppend:
    case MessageKind::kHeartbeat:
    case MessageKind::kSnapshot:
      // Of one term there is one leader. Who says that it is another one is not believed.
      if (leader_ != kNobody && leader_ != m.from && !PYRALOG_PLANT("raft.follow_two_leaders")) {
        return;
      }
      if (role_ != Role::kFollower) become_follower(hard_.term, m.from);
      elapsed_ = 0;
      if (std::exchange(hurries_, false)) timeout_ = election_timeout();  // it was well after all
      leader_ = m.from;
      if (options_.lease_ticks > 0 && !PYRALOG_PLANT("raft.forget_the_lease")) {
        promise();
      }
      if (m.kind == MessageKind::kAppend) handle_append(m);
      if (m.kind == MessageKind::kHeartbeat) handle_heartbeat(m);
      if (m.kind == MessageKind::kSnapshot) handle_snapshot(m);
      return;
    case MessageKind::kAppendReply:
      if (role_ == Role::kLeader) handle_append_reply(m);
      return;
    case MessageKind::kHeartbeatReply:
      if (role_ == Role::kLeader) handle_heartbeat_reply(m);
      return;
    case MessageKind::kTimeoutNow:
      if (role_ == Role::kFollower && may_campaign()) become_candidate(false, true);
      return;
  }
}

/// Who is no member any more may have more of the log than those who do not know yet that its leave
/// is committed, and would refuse them its vote for ever: so votes, asked for and given, tell what
/// is.
void Raft::learn_commit(const Message& m) {
  const bool vote = m.kind == MessageKind::kVote || m.kind == MessageKind::kPreVote ||
                    m.kind == MessageKind::kVoteReply || m.kind == MessageKind::kPreVoteReply;
  if (vote && log_.matches(m.commit, m.commit_term) &&
      !PYRALOG_PLANT("raft.votes_tell_no_commit")) {
    log_.commit(m.commit);
  }
}

void Raft::handle_vote(const Message& m) {
  const bool pre = m.kind == MessageKind::kPreVote;
  const bool may = hard_.vote == m.from || (hard_.vote == kNobody && leader_ == kNobody) ||
                   (pre && m.term > hard_.term) || PYRALOG_PLANT("raft.vote_twice");
  const bool allowed = may_vote_ || PYRALOG_PLANT("raft.vote_unasked");
  const bool grants = may && allowed && (m.force || !promised()) && log_.is_up_to_date(m.index, m.log_term);
  Message reply;
  reply.kind = pre ? MessageKind::kPreVoteReply : MessageKind::kVoteReply;
  reply.to = m.from;
  reply.term = grants ? m.term : hard_.term;
  reply.reject = !grants;
  if (grants && !pre) {
    hard_.vote = m.from;
    elapsed_ = 0;
  }
  send(std::move(reply), true);
}

void Raft::handle_vote_reply(const Message& m) {
  if (m.kind == MessageKind::kVoteReply) {
    if (role_ == Role::kCandidate) poll(m.from, !m.reject);
    return;
  }
  const bool of_this = m.reject || m.term.value == hard_.term.value + 1;
  if (role_ == Role::kPreCandidate && of_this) poll(m.from, !m.reject);
}

void Raft::handle_append(Message& m) {
  Message reply;
  reply.kind = MessageKind::kAppendReply;
  reply.to = m.from;
  if (m.index < log_.committed()) {
    reply.index = log_.committed();
  } else if (const auto end = log_.append_after(m.index, m.log_term, m.entries)) {
    replaced_above(log_.handed_to_store());
    log_.commit(std::min(m.commit, *end));
    reply.index = *end;
  } else {
    reply.reject = true;
    reply.index = m.index;
    reply.hint = log_.may_agree(m.index, m.log_term);
    reply.log_term = log_.term_of(reply.hint).value_or(Term(0));
  }
  reply.commit = std::min(durable_commit_, log_.committed());
  send(std::move(reply), !PYRALOG_PLANT("raft.acknowledge_before_sync"));
}

/// What an earlier Ready has stored above `kept` will be written over by a later one, and may be
/// again by the same: only that one's end says that it is durable.
void Raft::replaced_above(Index kept) {
  if (PYRALOG_PLANT("raft.durable_by_an_older_write")) return;
  for (Pending& each : pending_) {
    if (each.last <= kept) continue;
    each.last = kept;
    each.last_term = log_.term_of(kept).value_or(Term(0));
  }
}

void Raft::handle_heartbeat(const Message& m) {
  log_.commit(std::min(m.commit, log_.last()));
  Message reply;
  reply.kind = MessageKind::kHeartbeatReply;
  reply.to = m.from;
  reply.round = m.round;
  reply.commit = std::min(durable_commit_, log_.committed());
  // A member without a durable term has nothing that would keep it from voting after a start.
  const bool remembers = options_.lease_ticks == 0 || durable_term_ > Term(0);
  send(std::move(reply), !remembers && !PYRALOG_PLANT("raft.answer_before_term_is_durable"));
}

void Raft::handle_snapshot(Message& m) {
  Message reply;
  reply.kind = MessageKind::kAppendReply;
  reply.to = m.from;
  // One that was taken before we were a member is as good: the change that made us one is behind
  // it.
  if (m.snapshot && log_.matches(m.snapshot->index, m.snapshot->term)) {
    // Its entries are here.
    log_.commit(m.snapshot->index);
  } else if (m.snapshot && would_restore(*m.snapshot)) {
    next_.snapshot = *m.snapshot;
    next_.committed.clear();
    config_ = m.snapshot->config;
    log_.restore(std::move(*m.snapshot));
    replaced_above(Index(log_.snapshot().index.value - 1));
  }
  reply.index = log_.committed();
  send(std::move(reply), true);
}

void Raft::send(Message m, bool after) {
  m.from = options_.id;
  if (m.term == Term(0)) m.term = hard_.term;
  if (m.kind == MessageKind::kVote || m.kind == MessageKind::kPreVote ||
      m.kind == MessageKind::kVoteReply || m.kind == MessageKind::kPreVoteReply) {
    m.commit = log_.committed();
    m.commit_term = log_.term_of(m.commit).value_or(Term(0));
  }
  (after ? next_.after : next_.messages).push_back(std::move(m));
}

bool Raft::has_ready() const {
  return next_.snapshot || !next_.messages.empty() || !next_.after.empty() ||
         !next_.reads.empty() || hard_.term != hard_given_.term || hard_.vote != hard_given_.vote ||
         log_.committed() != hard_given_.commit || self_vote_ != Term(0) || log_.has_unstored() ||
         log_.has_committed() || (!reads_.empty() && reads_.back().round > round_);
}

Ready Raft::ready() {
  if (!reads_.empty() && reads_.back().round > round_) send_heartbeats();
  Ready out = std::exchange(next_, {});
  out.number = ++number_;
  hard_.commit = log_.committed();
  if (hard_ != hard_given_) {
    out.sync = hard_.term != hard_given_.term || hard_.vote != hard_given_.vote;
    // Who has left may be gone for good: that it has must not be forgotten.
    for (Index i = std::max(hard_given_.commit, log_.snapshot().index); i < hard_.commit;) {
      i = Index(i.value + 1);
      const bool change =
          log_.at(i).kind == EntryKind::kConfig && !PYRALOG_PLANT("raft.sync_no_change");
      out.sync = out.sync || change;
    }
    out.hard = hard_given_ = hard_;
  }
  out.entries = log_.take_unstored();
  out.committed = log_.take_committed(options_.max_apply_bytes);
  out.sync = out.sync || out.snapshot || !out.entries.empty();
  // Nothing is to be remembered of what stores nothing: while a disk is full there may be many.
  if (out.must_store()) {
    pending_.push_back({out.number, log_.last(), log_.last_term(), hard_.term, hard_.commit,
                        out.sync, std::exchange(self_vote_, Term(0))});
  }
  return out;
}

void Raft::persisted(std::uint64_t number) {
  while (!pending_.empty() && pending_.front().number <= number) {
    const Pending done = pending_.front();
    pending_.pop_front();
    if (done.sync) {
      durable_term_ = done.term;
      durable_commit_ = std::max(durable_commit_, done.commit);
    }
    log_.stored(done.last, done.last_term);
    if (done.vote_term != Term(0) && role_ == Role::kCandidate && done.vote_term == hard_.term) {
      poll(options_.id, true);
    }
  }
  if (role_ == Role::kLeader) commit_what_is_agreed();
}

void Raft::applied(Index index) {
  const Index before = log_.applied();
  for (Index i(before.value + 1); i <= index; i = Index(i.value + 1)) {
    const Entry& entry = log_.at(i);
    if (entry.kind != EntryKind::kConfig) continue;
    // The leader looked before it appended; what may not follow all the same changes nothing,
    // everywhere.
    const auto change = decode_config_change(entry.data.view());
    auto next = change ? changed(config_, *change) : fail(change.error());
    if (next) set_config(std::move(*next));
  }
  log_.applied(index);
  leave_joint_if_due();
}

bool Raft::would_restore(const SnapshotMark& mark) const {
  return mark.index > log_.committed() && !log_.matches(mark.index, mark.term);
}

void Raft::compact(SnapshotMark mark, Keep keep) {
  durable_commit_ = std::max(durable_commit_, mark.index);
  log_.compact(std::move(mark), keep);
}

SnapshotMark Raft::mark() const {
  return {log_.applied(), log_.term_of(log_.applied()).value_or(Term(0)), config_};
}

}  // namespace pyralog::raft
