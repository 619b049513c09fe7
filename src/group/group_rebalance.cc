// How a generation comes about: waiting for members to join, for the leader to assign, and for
// those who are gone.

#include <algorithm>

#include "base/plant.h"
#include "group/group.h"

namespace pyralog::group {
namespace {

/// So often at most it is asked whether static members have come back.
constexpr std::int32_t kLeastRetryMs = 1'000;

Duration ms(std::int64_t count) {
  return std::chrono::milliseconds(count);
}

}  // namespace

std::int32_t Group::rebalance_timeout_ms() const {
  // A deadline is never now.
  return rebalance_timeouts_ms_.empty() ? 1 : std::max(1, *rebalance_timeouts_ms_.rbegin());
}

std::size_t Group::joined() const {
  if (!PYRALOG_PLANT("group.ask_all_members")) return joined_;
  return static_cast<std::size_t>(
      std::count_if(members_.begin(), members_.end(),
                    [](const auto& m) { return m.second.joining.has_value(); }));
}

/// Every member votes for the first of its protocols that all support; the leader breaks ties.
std::string Group::select_protocol() const {
  std::map<std::string_view, std::size_t> votes;
  for (const Protocol& p : members_.begin()->second.protocols) {
    if (protocols_.at(p.name).members == members_.size()) votes.emplace(p.name, 0);
  }
  if (votes.size() == 1) return std::string(votes.begin()->first);
  for (const auto& [id, m] : members_) {
    for (const Protocol& p : m.protocols) {
      const auto choice = votes.find(p.name);
      if (choice == votes.end()) continue;
      ++choice->second;
      break;
    }
  }
  std::string_view best;
  std::size_t most = 0;
  const auto leader = members_.find(leader_);
  if (leader != members_.end()) {
    for (const Protocol& p : leader->second.protocols) {
      const auto at = votes.find(p.name);
      if (at == votes.end() || at->second <= most) continue;
      best = at->first;
      most = at->second;
    }
  }
  return std::string(best);
}

void Group::maybe_rebalance(Context& ctx) {
  switch (state_) {
    case GroupState::kEmpty:
    case GroupState::kStable:
    case GroupState::kCompletingRebalance:
      return prepare_rebalance(ctx);
    case GroupState::kPreparingRebalance:
    case GroupState::kDead:
      return;
  }
}

void Group::prepare_rebalance(Context& ctx) {
  if (state_ == GroupState::kCompletingRebalance) {
    for (auto& [id, m] : members_) {
      assign(m, {});
      if (!m.syncing) continue;
      reply_sync(m, SyncResponse{KafkaError::kRebalanceInProgress, {}, {}, {}}, ctx.out);
      touch(m, ctx.now);
    }
  }
  pending_sync_.clear();
  sync_deadline_ = Instant::never();
  member_added_ = false;
  initial_delay_ = state_ == GroupState::kEmpty && options_->initial_rebalance_delay_ms > 0;
  if (initial_delay_) {
    // Give the others of a group that just starts a chance to be in its first generation.
    const std::int64_t delay = options_->initial_rebalance_delay_ms;
    join_deadline_ = ctx.now.at + ms(delay);
    initial_remaining_ms_ = std::max<std::int64_t>(rebalance_timeout_ms() - delay, 0);
  } else {
    join_deadline_ = ctx.now.at + ms(rebalance_timeout_ms());
  }
  become(GroupState::kPreparingRebalance, ctx.now);
  try_complete_join(ctx);
}

void Group::try_complete_join(Context& ctx) {
  if (state_ != GroupState::kPreparingRebalance || initial_delay_) return;
  if (pending_members_.empty() && joined() == members_.size()) complete_join(ctx);
}

void Group::join_deadline_passed(Context& ctx) {
  if (initial_delay_ && member_added_ && initial_remaining_ms_ > 0) {
    const std::int64_t delay =
        std::min<std::int64_t>(options_->initial_rebalance_delay_ms, initial_remaining_ms_);
    member_added_ = false;
    initial_remaining_ms_ -= delay;
    join_deadline_ = ctx.now.at + ms(delay);
    return;
  }
  initial_delay_ = false;
  complete_join(ctx);
}

void Group::complete_join(Context& ctx) {
  std::vector<std::string> gone;
  for (const auto& [id, m] : members_) {
    if (!m.joining && !m.instance_id) gone.push_back(id);
  }
  for (const std::string& id : gone) erase_member(id);
  if (!members_.empty() && !elect_joined_leader()) {
    // Only static members are left and none of them is here; their sessions decide.
    const bool at_once = PYRALOG_PLANT("group.ask_again_at_once");
    join_deadline_ = ctx.now.at + ms(std::max(rebalance_timeout_ms(), at_once ? 1 : kLeastRetryMs));
    return;
  }
  generation_ = generation_ == INT32_MAX ? 1 : generation_ + 1;
  // Who has not said so by now is not asked again: each question would give it another session.
  if (!PYRALOG_PLANT("group.ask_again_and_again")) offers_ = Offers::kKnown;
  join_deadline_ = Instant::never();
  initial_delay_ = false;
  if (members_.empty()) {
    protocol_.reset();
    leader_.clear();
    become(GroupState::kEmpty, ctx.now);
    std::vector<StoredRecord> records;
    records.push_back(group_record({}));
    append(std::move(records), StoreOther{}, ctx);
    return;
  }
  protocol_ = select_protocol();
  become(GroupState::kCompletingRebalance, ctx.now);
  for (auto& [id, m] : members_) {
    reply_join(m, current(m, id == leader_), ctx.out);
    touch(m, ctx.now);
    m.is_new = false;
    schedule(m);
    pending_sync_.insert(id);
  }
  sync_deadline_ = ctx.now.at + ms(rebalance_timeout_ms());
}

/// The leader stays if it is here, else another who is takes its place; false if nobody is.
bool Group::elect_joined_leader() {
  const auto leader = members_.find(leader_);
  if (leader != members_.end() && leader->second.joining) return true;
  const auto next = std::find_if(members_.begin(), members_.end(),
                                 [](const auto& m) { return m.second.joining.has_value(); });
  if (next == members_.end()) return false;
  leader_ = next->first;
  return true;
}

void Group::synced(const std::string& member_id) {
  pending_sync_.erase(member_id);
  if (pending_sync_.empty()) sync_deadline_ = Instant::never();
}

void Group::sync_deadline_passed(Context& ctx) {
  const std::set<std::string> late = std::exchange(pending_sync_, {});
  sync_deadline_ = Instant::never();
  for (const std::string& id : late) {
    const auto at = members_.find(id);
    if (at == members_.end()) continue;
    answer_unknown(at->second, ctx);
    erase_member(id);
  }
  maybe_rebalance(ctx);
}

void Group::erase_member(const std::string& id) {
  const auto at = members_.find(id);
  const Member& m = at->second;
  count(m, false);
  if (m.joining) --joined_;
  if (m.listed) expiries_.erase({*m.listed, m.id});
  if (m.instance_id) {
    const auto mapped = static_members_.find(*m.instance_id);
    if (mapped != static_members_.end() && mapped->second == id) static_members_.erase(mapped);
  }
  pending_sync_.erase(id);
  const bool led = leader_ == id;
  members_.erase(at);
  if (led) leader_ = members_.empty() ? std::string() : members_.begin()->first;
}

/// Before a member is erased: told so, a client that is still there joins anew.
void Group::answer_unknown(Member& m, Context& ctx) {
  JoinResponse unknown;
  unknown.error = KafkaError::kUnknownMemberId;
  reply_join(m, std::move(unknown), ctx.out);
  reply_sync(m, SyncResponse{KafkaError::kUnknownMemberId, {}, {}, {}}, ctx.out);
}

void Group::remove_member(const std::string& id, Context& ctx) {
  answer_unknown(members_.at(id), ctx);
  erase_member(std::string(id));
  maybe_rebalance(ctx);
  try_complete_join(ctx);
}

void Group::expire_members(Context& ctx) {
  const Instant now = ctx.now.at;
  bool gave_up = false;
  while (!pending_expiries_.empty() && pending_expiries_.begin()->first <= now) {
    gave_up = drop_pending(std::string(pending_expiries_.begin()->second));
  }
  if (gave_up) try_complete_join(ctx);
  std::vector<std::string> late;
  for (const auto& [expires, id] : expiries_) {
    if (expires > now) break;
    late.emplace_back(id);
  }
  std::ranges::sort(late);
  for (const std::string& id : late) {
    // Removing one may have completed the rebalance, and so renewed or removed the next.
    const auto at = members_.find(id);
    if (at == members_.end() || !at->second.can_expire() || at->second.expires > now) continue;
    remove_member(id, ctx);
  }
}

void Group::tick(Context& ctx) {
  expire_members(ctx);
  if (state_ == GroupState::kPreparingRebalance && join_deadline_ <= ctx.now.at) {
    join_deadline_passed(ctx);
  }
  if (!pending_sync_.empty() && sync_deadline_ <= ctx.now.at) sync_deadline_passed(ctx);
}

}  // namespace pyralog::group
