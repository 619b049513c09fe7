// What a member does as a leader.
#include <algorithm>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"
#include "raft/raft.h"

namespace pyralog::raft {

void Raft::become_leader() {
  reset(Role::kLeader, hard_.term);
  leader_ = options_.id;
  const Index next(log_.last().value + 1);
  for (const NodeId node : config_.all()) {
    if (node != options_.id) progress_.emplace(node, Progress(next, options_.sending));
  }
  // The last change there is may not be applied yet. Not what is behind it: those who stay need not
  // ever tell that this is committed.
  config_index_ = PYRALOG_PLANT("raft.wait_for_more_than_the_change") ? log_.last() : last_change();
  if (log_.last() > log_.committed()) {
    uncommitted_bytes_ = log_.bytes(Index(log_.committed().value + 1), log_.last());
  }
  // What is not applied may hold a change that takes this leader's vote.
  for (Index i(log_.applied().value + 1); i <= log_.last(); i = Index(i.value + 1)) {
    if (log_.at(i).kind != EntryKind::kConfig || PYRALOG_PLANT("raft.ignore_inherited_leave"))
      continue;
    const auto change = decode_config_change(log_.at(i).data.view());
    const auto after = change ? changed(config_, *change) : fail(change.error());
    leaving_ = leaving_ || (after && !after->is_voter(options_.id));
  }
  // Only by an entry of its own term does it learn what is committed (Raft's paper, §5.4.2).
  term_start_ = append(EntryKind::kNormal, {});
}

/// Of the entries that are here; 0 if none of them is a change of the group.
Index Raft::last_change() const {
  for (Index i = log_.last(); i >= log_.first(); i = Index(i.value - 1)) {
    if (log_.at(i).kind == EntryKind::kConfig) return i;
  }
  return Index(0);
}

Result<void> Raft::may_propose(std::size_t bytes) const {
  if (role_ != Role::kLeader) {
    return fail(Code::kUnavailable,
                leader_ == kNobody
                    ? std::string("the group has no leader now; try again")
                    : "node " + std::to_string(leader_.value) + " leads the group; ask there");
  }
  if (leaving_ && !PYRALOG_PLANT("raft.propose_while_leaving")) {
    return fail(Code::kUnavailable,
                "this node is leaving the group that it leads; try again at another");
  }
  if (transferee_ != kNobody) {
    return fail(Code::kUnavailable, "node " + std::to_string(transferee_.value) +
                                        " is about to lead the group; try again");
  }
  if (uncommitted_bytes_ > 0 && uncommitted_bytes_ + bytes > options_.max_uncommitted_bytes &&
      !PYRALOG_PLANT("raft.any_number_of_proposals")) {
    return fail(Code::kExhausted, "the group has " + std::to_string(uncommitted_bytes_) +
                                      " bytes under way that are not committed; try again");
  }
  return {};
}

Index Raft::append(EntryKind kind, SharedBytes data) {
  uncommitted_bytes_ += data.size();
  std::vector<Entry> one(1);
  one[0].term = hard_.term;
  one[0].kind = kind;
  one[0].data = std::move(data);
  log_.append(std::move(one));
  for (const auto& [node, progress] : progress_) send_append(node, false);
  return log_.last();
}

Result<Index> Raft::propose(SharedBytes data) {
  PYRALOG_TRY(may_propose(data.size()));
  return append(EntryKind::kNormal, std::move(data));
}

Result<Index> Raft::propose(const ConfigChange& change) {
  SharedBytes data(encode(change));
  PYRALOG_TRY(may_propose(data.size()));
  if (config_index_ > log_.applied() && !PYRALOG_PLANT("raft.change_twice_at_once")) {
    return fail(Code::kUnavailable, "another change of the group is under way; try again");
  }
  PYRALOG_ASSIGN(const Config next, changed(config_, change));
  config_index_ = append(EntryKind::kConfig, std::move(data));
  leaving_ = !next.is_voter(options_.id);
  return config_index_;
}

void Raft::leave_joint_if_due() {
  if (role_ != Role::kLeader || !config_.joint() || !config_.leaves_by_itself) return;
  if (config_index_ > log_.applied() || transferee_ != kNobody) return;
  config_index_ = append(EntryKind::kConfig, SharedBytes(encode(ConfigChange{})));
  leaving_ = !changed(config_, {})->is_voter(options_.id);
}

/// Those who stay may need this node's vote until they know that its leave is committed.
void Raft::leave_if_known() {
  if (config_.is_voter(options_.id)) return;
  const bool known = is_majority(config_, [this](NodeId node) {
    const auto found = progress_.find(node);
    return found != progress_.end() && found->second.committed() >= config_index_;
  });
  if (!known && !PYRALOG_PLANT("raft.leave_at_once")) return;
  NodeId next = kNobody;
  for (const auto& [node, progress] : progress_) {
    if (config_.is_voter(node) && progress.match() == log_.last()) next = node;
  }
  if (next != kNobody) {
    Message now;
    now.kind = MessageKind::kTimeoutNow;
    now.to = next;
    send(std::move(now));
  }
  become_follower(hard_.term, kNobody);
}

void Raft::set_config(Config config) {
  config_ = std::move(config);
  if (role_ != Role::kLeader) return;
  std::erase_if(progress_, [this](const auto& each) { return !config_.has(each.first); });
  if (!config_.is_voter(transferee_)) transferee_ = kNobody;
  for (const NodeId node : config_.all()) {
    if (node == options_.id || progress_.contains(node)) continue;
    Progress& progress =
        progress_.emplace(node, Progress(log_.last(), options_.sending)).first->second;
    // It had no time to be heard of.
    progress.heard_of(Index(0));
    send_append(node, true);
  }
  leaving_ = !config_.is_voter(options_.id);
  commit_what_is_agreed();
}

bool Raft::send_append(NodeId to, bool even_empty) {
  Progress& progress = progress_.at(to);
  if (progress.waits()) return false;
  const Index before(progress.next().value - 1);
  const auto term = log_.term_of(before);
  if (!term) return send_snapshot(to, progress);
  Message m;
  m.kind = MessageKind::kAppend;
  m.to = to;
  m.index = before;
  m.log_term = *term;
  m.commit = log_.committed();
  if (progress.next() <= log_.last()) {
    m.entries = log_.slice(progress.next(), log_.last(), options_.max_append_bytes);
  }
  if (m.entries.empty() && !even_empty) return false;
  if (m.entries.empty()) {
    progress.sent_probe();
  } else {
    std::size_t bytes = 0;
    for (const Entry& entry : m.entries) bytes += entry.data.size();
    progress.sent(m.entries.back().index, bytes);
  }
  send(std::move(m));
  return true;
}

bool Raft::send_snapshot(NodeId to, Progress& progress) {
  // Whoever is gone would be sent one after the other.
  if (!progress.active()) return false;
  Message m;
  m.kind = MessageKind::kSnapshot;
  m.to = to;
  m.snapshot = log_.snapshot();
  progress.sent_snapshot(m.snapshot->index);
  send(std::move(m));
  return true;
}

void Raft::send_appends() {
  for (const auto& [node, progress] : progress_) send_append(node, true);
}

void Raft::send_heartbeats() {
  since_heartbeat_ = 0;
  ++round_;
  round_began_.emplace_back(round_, now_);
  for (const auto& [node, progress] : progress_) {
    Message m;
    m.kind = MessageKind::kHeartbeat;
    m.to = node;
    // What it is known to have: of the rest it may have something else.
    m.commit = PYRALOG_PLANT("raft.commit_what_may_differ")
                   ? log_.committed()
                   : std::min(progress.match(), log_.committed());
    m.round = round_;
    send(std::move(m));
  }
  release_reads();
}

void Raft::handle_append_reply(const Message& m) {
  const auto found = progress_.find(m.from);
  if (found == progress_.end()) return;
  Progress& progress = found->second;
  progress.heard_of(m.commit);
  if (m.reject) {
    handle_refusal(progress, m);
    return;
  }
  const bool waited = progress.waits();
  const bool news = progress.agrees_up_to(std::min(m.index, log_.last()));
  const bool probed = progress.state() == Progress::State::kProbe && progress.match() == m.index;
  if (!news && !probed) return;
  switch (progress.state()) {
    case Progress::State::kProbe:
      progress.replicate();
      break;
    case Progress::State::kSnapshot:
      // It may have got there without the snapshot.
      if (progress.match().value + 1 >= log_.first().value) progress.replicate();
      break;
    case Progress::State::kReplicate:
      break;
  }
  const Index before = log_.committed();
  commit_what_is_agreed();
  if (log_.committed() == before && waited) send_append(m.from, true);
  while (send_append(m.from, false)) {
  }
  if (m.from == transferee_ && progress.match() == log_.last()) {
    Message now;
    now.kind = MessageKind::kTimeoutNow;
    now.to = m.from;
    lease_given_up_ = true;
    send(std::move(now));
  }
}

void Raft::handle_refusal(Progress& progress, const Message& m) {
  const Index hint = m.log_term > Term(0) ? log_.may_agree(m.hint, m.log_term) : m.hint;
  if (progress.refused(m.index, hint)) send_append(m.from, true);
}

void Raft::handle_heartbeat_reply(const Message& m) {
  const auto found = progress_.find(m.from);
  if (found == progress_.end()) return;
  Progress& progress = found->second;
  progress.heard_of(m.commit);
  progress.answered_round(std::min(m.round, round_));
  if (progress.match() < log_.last() || progress.state() == Progress::State::kProbe)
    send_append(m.from, true);
  release_reads();
  leave_if_known();
}

void Raft::commit_what_is_agreed() {
  const Index index = agreed(config_, [this](NodeId node) {
    if (node == options_.id)
      return PYRALOG_PLANT("raft.count_what_is_not_durable") ? log_.last() : log_.durable();
    const auto found = progress_.find(node);
    return found == progress_.end() ? Index(0) : found->second.match();
  });
  const bool of_this_term =
      log_.matches(index, hard_.term) || PYRALOG_PLANT("raft.commit_of_older_terms");
  if (index <= log_.committed() || !of_this_term) return;
  uncommitted_bytes_ -=
      std::min(uncommitted_bytes_, log_.bytes(Index(log_.committed().value + 1), index));
  log_.commit(index);
  send_appends();
  if (index < term_start_) return;
  for (const std::uint64_t context : std::exchange(early_reads_, {})) read(context);
}

void Raft::read(std::uint64_t context) {
  if (role_ != Role::kLeader) {
    next_.reads.push_back({context, std::nullopt});
    return;
  }
  if (log_.committed() < term_start_ && !PYRALOG_PLANT("raft.read_before_own_commit")) {
    early_reads_.push_back(context);
    return;
  }
  // By a heartbeat that is yet to leave: who answers it had no other leader when this was asked.
  reads_.push_back({context, log_.committed(), round_ + 1});
}

void Raft::release_reads() {
  const Index round = agreed(config_, [this](NodeId node) {
    if (node == options_.id || PYRALOG_PLANT("raft.read_without_asking")) return Index(round_);
    const auto found = progress_.find(node);
    return Index(found == progress_.end() ? 0 : found->second.round());
  });
  while (!round_began_.empty() && round_began_.front().first <= round.value) {
    lease_until_ = std::max(lease_until_, round_began_.front().second + options_.lease_ticks);
    round_began_.pop_front();
  }
  while (!reads_.empty() && reads_.front().round <= round.value) {
    next_.reads.push_back({reads_.front().context, reads_.front().index});
    reads_.pop_front();
  }
}

void Raft::refuse_reads() {
  for (const std::uint64_t context : std::exchange(early_reads_, {}))
    next_.reads.push_back({context, std::nullopt});
  for (const Read& each : std::exchange(reads_, {}))
    next_.reads.push_back({each.context, std::nullopt});
}

std::optional<Index> Raft::lease() const {
  const bool given_up = lease_given_up_ && !PYRALOG_PLANT("raft.lease_while_handing_over");
  if (role_ != Role::kLeader || given_up || now_ >= lease_until_ ||
      log_.committed() < term_start_) {
    return std::nullopt;
  }
  return log_.committed();
}

Result<void> Raft::transfer_to(NodeId node) {
  PYRALOG_TRY(may_propose(0));
  if (node == options_.id || !config_.is_voter(node)) {
    return fail(Code::kInvalidArgument,
                "node " + std::to_string(node.value) + " is no other voter of the group");
  }
  transferee_ = node;
  elapsed_ = 0;
  Progress& progress = progress_.at(node);
  if (progress.match() < log_.last()) {
    send_append(node, false);
    return {};
  }
  Message now;
  now.kind = MessageKind::kTimeoutNow;
  now.to = node;
  // It may arrive at any time from now on, and its votes ask for no leave.
  lease_given_up_ = true;
  send(std::move(now));
  return {};
}

void Raft::unreachable(NodeId node) {
  const auto found = progress_.find(node);
  if (found == progress_.end()) return;
  if (found->second.state() == Progress::State::kReplicate) found->second.probe();
}

void Raft::snapshot_ended(NodeId node, bool arrived) {
  const auto found = progress_.find(node);
  if (found != progress_.end()) found->second.snapshot_ended(arrived);
}

}  // namespace pyralog::raft
