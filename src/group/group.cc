#include "group/group.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::group {

const char* name(GroupState state) {
  switch (state) {
    case GroupState::kEmpty:
      return "Empty";
    case GroupState::kPreparingRebalance:
      return "PreparingRebalance";
    case GroupState::kCompletingRebalance:
      return "CompletingRebalance";
    case GroupState::kStable:
      return "Stable";
    case GroupState::kDead:
      return "Dead";
  }
  return "Unknown";
}

namespace {

Duration ms(std::int64_t count) {
  return std::chrono::milliseconds(count);
}

/// What a client is told when the record behind its answer could not be stored.
KafkaError store_error(KafkaError error, bool offsets) {
  switch (error) {
    case KafkaError::kUnknownTopicOrPartition:
    case KafkaError::kNotEnoughReplicas:
    case KafkaError::kNotEnoughReplicasAfterAppend:
      return KafkaError::kCoordinatorNotAvailable;
    case KafkaError::kNotLeaderOrFollower:
    case KafkaError::kKafkaStorageError:
      return KafkaError::kNotCoordinator;
    case KafkaError::kRequestTimedOut:
      return offsets ? KafkaError::kRequestTimedOut : KafkaError::kRebalanceInProgress;
    case KafkaError::kMessageTooLarge:
    case KafkaError::kRecordListTooLarge:
    case KafkaError::kInvalidFetchSize:
      return offsets ? KafkaError::kInvalidCommitOffsetSize : KafkaError::kUnknownServerError;
    default:
      return error;
  }
}

}  // namespace

const Protocol* Group::Member::protocol(std::string_view wanted) const {
  const auto at = std::find_if(protocols.begin(), protocols.end(),
                               [&](const Protocol& p) { return p.name == wanted; });
  return at != protocols.end() ? &*at : nullptr;
}

// ---- Shared by all inputs ----

/// A known instance id must be used with its present member id, and the member must be there.
KafkaError Group::check_member(const std::string& id,
                               const std::optional<std::string>& instance) const {
  if (instance) {
    const auto at = static_members_.find(*instance);
    if (at == static_members_.end()) return KafkaError::kUnknownMemberId;
    if (at->second != id && !PYRALOG_PLANT("group.forget_fencing")) {
      return KafkaError::kFencedInstanceId;
    }
  }
  return members_.contains(id) ? KafkaError::kNone : KafkaError::kUnknownMemberId;
}

void Group::touch(Member& member, const Now& now) {
  member.expires = now.at + ms(member.session_timeout_ms);
  schedule(member);
}

void Group::schedule(Member& member) {
  std::optional<Instant> at;
  if (member.can_expire() && member.expires != Instant::never()) at = member.expires;
  if (member.listed == at) return;
  if (member.listed) expiries_.erase({*member.listed, member.id});
  if (at) expiries_.emplace(*at, member.id);
  member.listed = at;
}

void Group::wait_join(Member& member, Token token) {
  member.joining = token;
  ++joined_;
  schedule(member);
}

void Group::wait_sync(Member& member, Token token) {
  member.syncing = token;
  schedule(member);
}

void Group::reply_join(Member& member, JoinResponse response, Effects& out) {
  if (!member.joining) return;
  out.replies.push_back(Reply{*member.joining, std::move(response)});
  member.joining.reset();
  --joined_;
  schedule(member);
}

void Group::reply_sync(Member& member, SyncResponse response, Effects& out) {
  if (!member.syncing) return;
  out.replies.push_back(Reply{*member.syncing, std::move(response)});
  member.syncing.reset();
  schedule(member);
}

void Group::become(GroupState state, const Now& now) {
  state_ = state;
  // A deletion that cannot be stored leaves the group as it was.
  if (state != GroupState::kDead) state_since_ms_ = now.wall.ms;
}

void Group::append(std::vector<StoredRecord> records, Pending pending, Context& ctx) {
  const std::uint64_t id = ctx.next_append++;
  std::size_t bytes = 0;
  for (const StoredRecord& r : records) bytes += r.key.size() + (r.value ? r.value->size() : 0);
  if (const auto* restart = std::get_if<StoreStaticMember>(&pending)) {
    bytes += restart->before.cost();
  }
  charge(&Kept::storing, bytes);
  ctx.out.appends.push_back(Append{id, std::move(records)});
  appends_.emplace(id, InFlight{std::move(pending), bytes});
}

StoredRecord Group::group_record(const std::map<std::string, Bytes>& assignment) const {
  GroupValue value;
  value.protocol_type = protocol_type_;
  value.generation = generation_;
  value.protocol = protocol_;
  if (!leader_.empty()) value.leader = leader_;
  value.state_timestamp_ms = state_since_ms_;
  for (const auto& [id, m] : members_) {
    const Protocol* chosen = protocol_ ? m.protocol(*protocol_) : nullptr;
    const auto assigned = assignment.find(id);
    value.members.push_back(
        StoredMember{id, m.instance_id, m.client_id, m.client_host, m.rebalance_timeout_ms,
                     m.session_timeout_ms, chosen != nullptr ? chosen->metadata : Bytes{},
                     assigned != assignment.end() ? assigned->second : Bytes{}});
  }
  return StoredRecord{encode_key(GroupKey{name_}), encode_value(value)};
}

std::map<std::string, Bytes> Group::assignments() const {
  std::map<std::string, Bytes> all;
  for (const auto& [id, m] : members_) all.emplace(id, m.assignment);
  return all;
}

// ---- Sync, heartbeat, leave ----

void Group::sync(const SyncRequest& in, Context& ctx) {
  const auto refuse = [&](KafkaError error) {
    ctx.out.replies.push_back(Reply{in.token, SyncResponse{error, {}, {}, {}}});
  };
  if (state_ == GroupState::kDead) return refuse(KafkaError::kCoordinatorNotAvailable);
  if (const KafkaError e = check_member(in.member_id, in.instance_id); e != KafkaError::kNone) {
    return refuse(e);
  }
  if (in.generation != generation_) return refuse(KafkaError::kIllegalGeneration);
  if ((in.protocol_type && *in.protocol_type != protocol_type_) ||
      (in.protocol_name && in.protocol_name != protocol_)) {
    return refuse(KafkaError::kInconsistentGroupProtocol);
  }
  Member& member = members_.at(in.member_id);
  switch (state_) {
    case GroupState::kEmpty:
    case GroupState::kDead:
      return refuse(KafkaError::kUnknownMemberId);
    case GroupState::kPreparingRebalance:
      return refuse(KafkaError::kRebalanceInProgress);
    case GroupState::kStable:
      synced(in.member_id);
      touch(member, ctx.now);
      ctx.out.replies.push_back(Reply{
          in.token, SyncResponse{KafkaError::kNone, protocol_type_, protocol_, member.assignment}});
      return;
    case GroupState::kCompletingRebalance:
      break;
  }
  const bool assigns = in.member_id == leader_ && assigning_ != generation_;
  if (assigns && !may_store(record_bytes_)) return refuse(KafkaError::kCoordinatorNotAvailable);
  reply_sync(member, SyncResponse{KafkaError::kRebalanceInProgress, {}, {}, {}}, ctx.out);
  wait_sync(member, in.token);
  synced(in.member_id);
  if (assigns) store_assignment(in, ctx);
}

void Group::store_assignment(const SyncRequest& in, Context& ctx) {
  std::map<std::string, Bytes> assignment;
  for (const auto& [id, m] : members_) assignment.emplace(id, Bytes{});
  bool too_large = false;
  for (const SyncRequest::Assignment& a : in.assignments) {
    const auto at = assignment.find(a.member_id);
    if (at == assignment.end()) continue;
    at->second = a.assignment;
    too_large = too_large || a.assignment.size() > options_->max_member_bytes;
  }
  StoredRecord record = group_record(assignment);
  too_large = too_large || record.value->size() > options_->max_record_bytes;
  if (too_large && !PYRALOG_PLANT("group.unbounded_record")) {
    // As Kafka, which learns so from the log.
    return fail_assignment(store_error(KafkaError::kMessageTooLarge, false), ctx);
  }
  std::size_t grows = 0;
  for (const auto& [id, share] : assignment) grows += share.size();
  if (!may_assign(grows)) return fail_assignment(KafkaError::kCoordinatorNotAvailable, ctx);
  assigning_ = generation_;
  std::vector<StoredRecord> records;
  records.push_back(std::move(record));
  append(std::move(records), StoreAssignment{generation_, std::move(assignment)}, ctx);
}

/// It could not be stored: all start over.
void Group::fail_assignment(KafkaError error, Context& ctx) {
  const SyncResponse refusal{error, {}, {}, {}};
  for (auto& [id, m] : members_) {
    assign(m, {});
    reply_sync(m, refusal, ctx.out);
    touch(m, ctx.now);
  }
  maybe_rebalance(ctx);
}

void Group::heartbeat(const HeartbeatRequest& in, Context& ctx) {
  const auto answer = [&](KafkaError error) {
    ctx.out.replies.push_back(Reply{in.token, HeartbeatResponse{error}});
  };
  if (state_ == GroupState::kDead) return answer(KafkaError::kCoordinatorNotAvailable);
  if (const KafkaError e = check_member(in.member_id, in.instance_id); e != KafkaError::kNone) {
    return answer(e);
  }
  if (in.generation != generation_) return answer(KafkaError::kIllegalGeneration);
  switch (state_) {
    case GroupState::kEmpty:
    case GroupState::kDead:
      return answer(KafkaError::kUnknownMemberId);
    case GroupState::kPreparingRebalance:
      touch(members_.at(in.member_id), ctx.now);
      return answer(KafkaError::kRebalanceInProgress);
    case GroupState::kCompletingRebalance:
    case GroupState::kStable:
      touch(members_.at(in.member_id), ctx.now);
      return answer(KafkaError::kNone);
  }
}

void Group::leave(const LeaveRequest& in, Context& ctx) {
  LeaveResponse response;
  if (state_ == GroupState::kDead) {
    response.error = KafkaError::kCoordinatorNotAvailable;
    ctx.out.replies.push_back(Reply{in.token, std::move(response)});
    return;
  }
  for (const LeaveRequest::Member& leaving : in.members) {
    KafkaError error = KafkaError::kNone;
    std::string id = leaving.member_id;
    if (id.empty() && leaving.instance_id) {
      // An administrator removes whoever has the instance id.
      const auto at = static_members_.find(*leaving.instance_id);
      if (at != static_members_.end()) id = at->second;
    } else if (drop_pending(id)) {
      try_complete_join(ctx);
      response.members.push_back({leaving.member_id, leaving.instance_id, KafkaError::kNone});
      continue;
    }
    error = check_member(id, leaving.instance_id);
    if (error == KafkaError::kNone) remove_member(id, ctx);
    response.members.push_back({leaving.member_id, leaving.instance_id, error});
  }
  ctx.out.replies.push_back(Reply{in.token, std::move(response)});
}

// ---- Outcomes of appends ----

void Group::appended(const Appended& in, Context& ctx) {
  const auto at = appends_.find(in.append_id);
  if (at == appends_.end()) return;
  InFlight ended = std::move(at->second);
  appends_.erase(at);
  release(&Kept::storing, ended.bytes);
  std::visit([&](auto& what) { done(what, in.append_id, in.error, ctx); }, ended.what);
}

void Group::done(StoreAssignment& what, std::uint64_t, KafkaError error, Context& ctx) {
  if (assigning_ == what.generation) assigning_ = -1;
  // Another member may have joined meanwhile: then this generation is over before it began.
  if (state_ != GroupState::kCompletingRebalance || what.generation != generation_) return;
  if (error != KafkaError::kNone) return fail_assignment(store_error(error, false), ctx);
  for (auto& [id, m] : members_) {
    const auto assigned = what.assignment.find(id);
    assign(m, assigned != what.assignment.end() ? std::move(assigned->second) : Bytes{});
    if (!m.syncing) continue;
    reply_sync(m, SyncResponse{KafkaError::kNone, protocol_type_, protocol_, m.assignment},
               ctx.out);
    touch(m, ctx.now);
  }
  become(GroupState::kStable, ctx.now);
}

void Group::done(StoreStaticMember& what, std::uint64_t, KafkaError error, Context& ctx) {
  const std::string& instance = *what.before.instance_id;
  const auto at = static_members_.find(instance);
  if (at == static_members_.end() || at->second != what.new_id) return;  // replaced again, or gone
  Member& member = members_.at(what.new_id);
  if (error == KafkaError::kNone) {
    if (state_ != GroupState::kStable) return;  // the rebalance under way will answer
    JoinResponse response = current(member, what.skip_assignment);
    response.skip_assignment = what.skip_assignment;
    response.leader = what.leader_told;
    touch(member, ctx.now);
    reply_join(member, std::move(response), ctx.out);
    return;
  }
  JoinResponse refusal;
  refusal.error = store_error(error, false);
  refusal.leader = what.leader_told;
  reply_join(member, std::move(refusal), ctx.out);
  const std::string old_id = what.before.id;
  Member& back = replace_static(instance, what.new_id, old_id, ctx);
  count(back, false);
  back.protocols = std::move(what.before.protocols);
  back.is_loaded = what.before.is_loaded;
  back.session_timeout_ms = what.before.session_timeout_ms;
  back.rebalance_timeout_ms = what.before.rebalance_timeout_ms;
  count(back, true);
  touch(back, ctx.now);
}

void Group::done(StoreOffsets& what, std::uint64_t id, KafkaError error, Context& ctx) {
  const KafkaError told = store_error(error, true);
  release(&Kept::offsets, what.growth);
  arriving_ -= what.arriving;
  for (auto& [where, value] : what.offsets) {
    const auto committing = committing_.find(where);
    if (--committing->second == 0) committing_.erase(committing);
    if (error != KafkaError::kNone) continue;
    const auto before = offsets_.find(where);
    if (before != offsets_.end() && before->second.append_id > id) continue;
    put_offset(where, std::move(value), id);
  }
  if (error != KafkaError::kNone) {
    for (CommitResponse::Partition& p : what.response.partitions) {
      if (p.error == KafkaError::kNone) p.error = told;
    }
  }
  if (what.token) ctx.out.replies.push_back(Reply{*what.token, std::move(what.response)});
}

void Group::done(StoreDeletion& what, std::uint64_t, KafkaError error, Context& ctx) {
  if (error == KafkaError::kNone) {
    while (!offsets_.empty()) drop_offset(offsets_.begin()->first);
    generation_ = 0;
    set_protocol_type({});
  } else {
    state_ = GroupState::kEmpty;
  }
  ctx.out.replies.push_back(Reply{what.token, DeleteResponse{store_error(error, false)}});
}

void Group::done(StoreOffsetDeletion& what, std::uint64_t id, KafkaError error, Context& ctx) {
  if (error == KafkaError::kNone) {
    for (const TopicPartition& where : what.offsets) {
      // A commit that was stored after the deletion stands.
      const auto at = offsets_.find(where);
      if (at != offsets_.end() && at->second.append_id < id) drop_offset(where);
    }
  } else {
    for (CommitResponse::Partition& p : what.response.partitions) {
      if (p.error == KafkaError::kNone) p.error = store_error(error, false);
    }
  }
  ctx.out.replies.push_back(Reply{what.token, std::move(what.response)});
}

void Group::done(StoreOther&, std::uint64_t, KafkaError, Context&) {}

// ---- Reading ----

GroupDescription Group::describe() const {
  GroupDescription d;
  d.group = name_;
  d.state = group::name(state_);
  d.protocol_type = protocol_type_;
  d.generation = generation_;
  const bool stable = state_ == GroupState::kStable;
  if (stable && protocol_) d.protocol = *protocol_;
  for (const auto& [id, m] : members_) {
    const Protocol* chosen = stable && protocol_ ? m.protocol(*protocol_) : nullptr;
    d.members.push_back({id, m.instance_id, m.client_id, m.client_host,
                         chosen != nullptr ? chosen->metadata : Bytes{},
                         stable ? m.assignment : Bytes{}});
  }
  return d;
}

Instant Group::deadline() const {
  Instant at = Instant::never();
  if (state_ == GroupState::kPreparingRebalance) at = std::min(at, join_deadline_);
  if (!pending_sync_.empty()) at = std::min(at, sync_deadline_);
  if (!pending_expiries_.empty()) at = std::min(at, pending_expiries_.begin()->first);
  if (!expiries_.empty()) at = std::min(at, expiries_.begin()->first);
  return at;
}

bool Group::forgotten() const {
  const bool idle = state_ == GroupState::kEmpty || state_ == GroupState::kDead;
  return idle && generation_ == 0 && members_.empty() && pending_members_.empty() &&
         offsets_.empty() && appends_.empty();
}

// ---- Loading ----

void Group::load(const OffsetKey& key, std::optional<OffsetValue> value) {
  const TopicPartition where{key.topic, key.partition};
  if (value) {
    put_offset(where, std::move(*value), 0);
  } else {
    drop_offset(where);
  }
}

void Group::load(std::optional<GroupValue> value) {
  members_.clear();  // they are counted once it is known who is there
  static_members_.clear();
  leader_.clear();
  protocol_.reset();
  generation_ = 0;
  set_protocol_type({});
  state_ = GroupState::kEmpty;
  offers_ = Offers::kKnown;
  state_since_ms_ = -1;
  if (!value) return;
  set_protocol_type(std::move(value->protocol_type));
  generation_ = value->generation;
  protocol_ = std::move(value->protocol);
  leader_ = value->leader.value_or("");
  state_since_ms_ = value->state_timestamp_ms;
  for (StoredMember& s : value->members) {
    Member m;
    m.id = s.member_id;
    m.instance_id = std::move(s.instance_id);
    m.client_id = std::move(s.client_id);
    m.client_host = std::move(s.client_host);
    m.rebalance_timeout_ms = s.rebalance_timeout_ms;
    m.session_timeout_ms = s.session_timeout_ms;
    if (protocol_) m.protocols.push_back(Protocol{*protocol_, std::move(s.subscription)});
    m.assignment = std::move(s.assignment);
    m.is_loaded = true;
    if (members_.contains(m.id)) continue;
    if (m.instance_id) static_members_[*m.instance_id] = m.id;
    members_.emplace(s.member_id, std::move(m));
  }
  if (!members_.empty()) {
    state_ = GroupState::kStable;
    offers_ = Offers::kLoaded;
    if (!members_.contains(leader_)) leader_ = members_.begin()->first;
  } else {
    leader_.clear();
  }
}

void Group::loaded(const Now& now) {
  for (auto& [id, m] : members_) {
    count(m, true);
    touch(m, now);
  }
}

void Group::fail_all(KafkaError error, Effects& out) {
  for (auto& [id, m] : members_) {
    JoinResponse refusal;
    refusal.error = error;
    refusal.member_id = id;
    reply_join(m, std::move(refusal), out);
    reply_sync(m, SyncResponse{error, {}, {}, {}}, out);
  }
  for (auto& [id, append] : appends_) {
    if (auto* offsets = std::get_if<StoreOffsets>(&append.what); offsets && offsets->token) {
      for (CommitResponse::Partition& p : offsets->response.partitions) p.error = error;
      out.replies.push_back(Reply{*offsets->token, std::move(offsets->response)});
    } else if (auto* deletion = std::get_if<StoreDeletion>(&append.what)) {
      out.replies.push_back(Reply{deletion->token, DeleteResponse{error}});
    } else if (auto* some = std::get_if<StoreOffsetDeletion>(&append.what)) {
      out.replies.push_back(Reply{some->token, DeleteOffsetsResponse{error, {}}});
    }
  }
  appends_.clear();
}

}  // namespace pyralog::group
