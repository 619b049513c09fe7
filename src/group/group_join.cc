// JoinGroup: who becomes, or stays, a member.

#include <algorithm>

#include "base/assert.h"
#include "base/plant.h"
#include "group/assignor.h"
#include "group/group.h"

namespace pyralog::group {
namespace {

JoinResponse refusal(KafkaError error, std::string member_id) {
  JoinResponse response;
  response.error = error;
  response.member_id = std::move(member_id);
  return response;
}

/// Whether two subscriptions of Kafka's consumer protocol name the same topics; what else members
/// say there (owned partitions, generation) changes at every restart. Other protocols are opaque.
bool same_topics(const std::string& protocol_type, const Bytes& a, const Bytes& b) {
  if (protocol_type != "consumer") return a == b;
  const auto left = decode_topics(a);
  const auto right = decode_topics(b);
  if (!left || !right) return a == b;
  return *left == *right;
}

}  // namespace

void Group::join(const JoinRequest& in, Context& ctx) {
  const auto refuse = [&](KafkaError error) {
    ctx.out.replies.push_back(Reply{in.token, refusal(error, in.member_id)});
  };
  if (state_ == GroupState::kDead) return refuse(KafkaError::kCoordinatorNotAvailable);
  const KafkaError room = accepts(in) ? room_for(in) : KafkaError::kGroupMaxSizeReached;
  if (room == KafkaError::kGroupMaxSizeReached && members_.contains(in.member_id)) {
    remove_member(in.member_id, ctx);
  }
  if (room != KafkaError::kNone) {
    // Nobody waits for one that may not come in.
    drop_pending(in.member_id);
    refuse(room);
    return try_complete_join(ctx);
  }
  if (!supports(in)) {
    if (!may_offer_more(in)) return refuse(KafkaError::kInconsistentGroupProtocol);
    // The answer that clients come back after; by then those who are there have said what else.
    maybe_rebalance(ctx);
    refuse(KafkaError::kRebalanceInProgress);
    return try_complete_join(ctx);
  }
  if (in.member_id.empty()) {
    join_new(in, ctx);
  } else {
    join_known(in, ctx);
  }
  try_complete_join(ctx);
}

bool Group::accepts(const JoinRequest& in) const {
  const auto known = members_.find(in.member_id);
  const std::size_t most = options_->max_group_size;
  switch (state_) {
    case GroupState::kEmpty:
    case GroupState::kDead:
      return in.member_id.empty() ? pending_members_.size() < most : true;
    case GroupState::kPreparingRebalance:
      if (known != members_.end() && known->second.joining) return true;
      // Those who do not rejoin in time will make room.
      return joined() + (in.member_id.empty() ? pending_members_.size() : 0) < most;
    case GroupState::kCompletingRebalance:
    case GroupState::kStable:
      if (known != members_.end()) return true;
      if (in.instance_id && static_members_.contains(*in.instance_id)) return true;
      return members_.size() + (in.member_id.empty() ? pending_members_.size() : 0) < most;
  }
  return false;
}

/// All members share at least one protocol. What a member offered before it comes back, or before
/// another takes its instance's place, does not count any more.
bool Group::supports(const JoinRequest& in) const {
  if (in.protocol_type.empty() || in.protocols.empty()) return false;
  if (members_.empty()) return true;
  auto before = members_.find(in.member_id);
  if (before == members_.end() && in.instance_id) {
    const auto at = static_members_.find(*in.instance_id);
    if (at != static_members_.end()) before = members_.find(at->second);
  }
  const std::size_t others = members_.size() - (before == members_.end() ? 0 : 1);
  if (others == 0) return in.protocol_type == protocol_type_;
  return in.protocol_type == protocol_type_ &&
         std::any_of(in.protocols.begin(), in.protocols.end(), [&](const Protocol& p) {
           const auto at = protocols_.find(p.name);
           if (at == protocols_.end()) return false;
           const bool counted = before != members_.end() && before->second.protocol(p.name);
           return at->second.members - (counted ? 1 : 0) == others;
         });
}

/// Whether somebody else may support what `in` offers: of one that was loaded only the protocol is
/// known that was in use. Kafka takes it for all that the member has, and refuses for good.
bool Group::may_offer_more(const JoinRequest& in) {
  if (in.protocol_type != protocol_type_ || in.protocols.empty()) return false;
  if (PYRALOG_PLANT("group.believe_what_was_stored")) return false;
  if (offers_ == Offers::kLoaded) {
    const bool others = std::ranges::any_of(
        members_, [&](const auto& m) { return m.second.is_loaded && m.first != in.member_id; });
    offers_ = others ? Offers::kAsked : Offers::kKnown;
  }
  return offers_ == Offers::kAsked;
}

void Group::join_new(const JoinRequest& in, Context& ctx) {
  if (in.instance_id) {
    const auto at = static_members_.find(*in.instance_id);
    if (at != static_members_.end()) return join_static(in, std::string(at->second), ctx);
    add_member(in, in.new_member_id, ctx);
    return;
  }
  if (in.require_known_member_id) {
    // The client comes back with this id, so a lost answer leaves no member behind.
    add_pending(in.new_member_id, ctx.now.at + std::chrono::milliseconds(in.session_timeout_ms));
    ctx.out.replies.push_back(
        Reply{in.token, refusal(KafkaError::kMemberIdRequired, in.new_member_id)});
    return;
  }
  add_member(in, in.new_member_id, ctx);
}

/// A static member restarted: it takes over the id's place, and if nothing that matters to the
/// assignment changed, the generation goes on.
void Group::join_static(const JoinRequest& in, const std::string& old_id, Context& ctx) {
  if (state_ == GroupState::kStable && !may_store(record_bytes_ + members_.at(old_id).cost())) {
    ctx.out.replies.push_back(
        Reply{in.token, refusal(KafkaError::kCoordinatorNotAvailable, in.member_id)});
    return;
  }
  const std::string leader_before = leader_;
  Member before = members_.at(old_id);
  before.joining.reset();
  before.syncing.reset();
  Member& member = replace_static(*in.instance_id, old_id, in.new_member_id, ctx);
  update_member(member, in, ctx);
  touch(member, ctx.now);
  if (state_ != GroupState::kStable) {
    // Whatever the leader is about to assign still names the old id.
    if (state_ == GroupState::kCompletingRebalance) maybe_rebalance(ctx);
    return;
  }
  const Protocol* now = protocol_ ? member.protocol(*protocol_) : nullptr;
  const Protocol* then = protocol_ ? before.protocol(*protocol_) : nullptr;
  if (now == nullptr || then == nullptr || select_protocol() != *protocol_ ||
      !same_topics(protocol_type_, then->metadata, now->metadata)) {
    maybe_rebalance(ctx);
    return;
  }
  // An old client that learns it leads would assign in vain; it is told of a leader that is gone.
  const bool skip = in.supports_skipping_assignment && leader_ == member.id;
  std::vector<StoredRecord> records;
  records.push_back(group_record(assignments()));
  append(std::move(records),
         StoreStaticMember{std::move(before), member.id,
                           in.supports_skipping_assignment ? leader_ : leader_before, skip},
         ctx);
}

void Group::join_known(const JoinRequest& in, Context& ctx) {
  if (drop_pending(in.member_id)) {
    if (in.instance_id) {
      const auto at = static_members_.find(*in.instance_id);
      if (at != static_members_.end()) {
        ctx.out.replies.push_back(
            Reply{in.token, refusal(KafkaError::kFencedInstanceId, in.member_id)});
        return;
      }
    }
    add_member(in, in.member_id, ctx);
    return;
  }
  const KafkaError error = check_member(in.member_id, in.instance_id);
  if (error != KafkaError::kNone) {
    ctx.out.replies.push_back(Reply{in.token, refusal(error, in.member_id)});
    return;
  }
  Member& member = members_.at(in.member_id);
  const bool leads = leader_ == member.id;
  const bool same = member.protocols == in.protocols;
  switch (state_) {
    case GroupState::kEmpty:
    case GroupState::kDead:
      ctx.out.replies.push_back(
          Reply{in.token, refusal(KafkaError::kUnknownMemberId, in.member_id)});
      return;
    case GroupState::kPreparingRebalance:
      return rejoin(member, in, ctx);
    case GroupState::kCompletingRebalance:
      if (!same) return rejoin(member, in, ctx);
      break;  // it did not hear the answer: say it again
    case GroupState::kStable:
      if (leads || !same) return rejoin(member, in, ctx);
      break;
  }
  touch(member, ctx.now);
  const bool with_members = leads && state_ == GroupState::kCompletingRebalance;
  ctx.out.replies.push_back(Reply{in.token, current(member, with_members)});
}

void Group::rejoin(Member& member, const JoinRequest& in, Context& ctx) {
  update_member(member, in, ctx);
  maybe_rebalance(ctx);
}

void Group::add_member(const JoinRequest& in, const std::string& id, Context& ctx) {
  Member m;
  m.id = id;
  m.instance_id = in.instance_id;
  m.client_id = in.client_id;
  m.client_host = in.client_host;
  m.session_timeout_ms = in.session_timeout_ms;
  m.rebalance_timeout_ms = in.rebalance_timeout_ms;
  m.protocols = in.protocols;
  m.is_new = true;
  // It has no id to send heartbeats with; should it be gone, this bounds how long it is waited for.
  m.expires = ctx.now.at + std::chrono::milliseconds(options_->new_member_join_timeout_ms);
  if (state_ == GroupState::kPreparingRebalance && generation_ == 0) member_added_ = true;
  if (members_.empty()) set_protocol_type(in.protocol_type);
  if (leader_.empty()) leader_ = id;
  if (m.instance_id) static_members_[*m.instance_id] = id;
  drop_pending(id);
  const auto [at, is_new] = members_.emplace(id, std::move(m));
  PYRALOG_ASSERT(is_new);  // ids given out are random
  count(at->second, true);
  wait_join(at->second, in.token);
  maybe_rebalance(ctx);
}

void Group::update_member(Member& member, const JoinRequest& in, Context& ctx) {
  count(member, false);
  member.protocols = in.protocols;
  member.session_timeout_ms = in.session_timeout_ms;
  member.rebalance_timeout_ms = in.rebalance_timeout_ms;
  member.client_id = in.client_id;
  member.client_host = in.client_host;
  member.is_loaded = false;
  count(member, true);
  reply_join(member, refusal(KafkaError::kRebalanceInProgress, member.id), ctx.out);
  wait_join(member, in.token);
}

Group::Member& Group::replace_static(const std::string& instance, const std::string& old_id,
                                     const std::string& new_id, Context& ctx) {
  auto node = members_.extract(old_id);
  Member& member = node.mapped();
  reply_join(member, refusal(KafkaError::kFencedInstanceId, old_id), ctx.out);
  reply_sync(member, SyncResponse{KafkaError::kFencedInstanceId, {}, {}, {}}, ctx.out);
  weigh(member, false);
  if (member.listed) expiries_.erase({*member.listed, member.id});
  member.listed.reset();
  member.id = new_id;
  node.key() = new_id;
  weigh(member, true);
  schedule(member);
  members_.insert(std::move(node));
  static_members_[instance] = new_id;
  if (leader_ == old_id) leader_ = new_id;
  if (pending_sync_.erase(old_id) > 0) pending_sync_.insert(new_id);
  return members_.at(new_id);
}

JoinResponse Group::current(const Member& member, bool with_members) const {
  JoinResponse response;
  response.generation = generation_;
  response.protocol_type = protocol_type_;
  response.protocol_name = protocol_;
  response.leader = leader_;
  response.member_id = member.id;
  if (with_members) response.members = member_metadata();
  return response;
}

std::vector<JoinResponse::Member> Group::member_metadata() const {
  std::vector<JoinResponse::Member> all;
  all.reserve(members_.size());
  for (const auto& [id, m] : members_) {
    const Protocol* chosen = protocol_ ? m.protocol(*protocol_) : nullptr;
    all.push_back({id, m.instance_id, chosen != nullptr ? chosen->metadata : Bytes{}});
  }
  return all;
}

}  // namespace pyralog::group
