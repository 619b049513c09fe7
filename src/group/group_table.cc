#include "group/group_table.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::group {
namespace {

void answer(const JoinRequest& in, KafkaError error, Effects& out) {
  JoinResponse response;
  response.error = error;
  response.member_id = in.member_id;
  out.replies.push_back(Reply{in.token, std::move(response)});
}
void answer(const SyncRequest& in, KafkaError error, Effects& out) {
  out.replies.push_back(Reply{in.token, SyncResponse{error, {}, {}, {}}});
}
void answer(const HeartbeatRequest& in, KafkaError error, Effects& out) {
  out.replies.push_back(Reply{in.token, HeartbeatResponse{error}});
}
void answer(const CommitRequest& in, KafkaError error, Effects& out) {
  CommitResponse response;
  for (const auto& p : in.partitions) response.partitions.push_back({p.topic, p.partition, error});
  out.replies.push_back(Reply{in.token, std::move(response)});
}
void answer(const DeleteRequest& in, KafkaError error, Effects& out) {
  out.replies.push_back(Reply{in.token, DeleteResponse{error}});
}

/// What is stored of a member must fit strings with 16-bit lengths.
bool storable(const JoinRequest& in) {
  constexpr std::size_t kMax = 32'767;
  return in.new_member_id.size() <= kMax && in.client_id.size() <= kMax &&
         in.client_host.size() <= kMax && in.protocol_type.size() <= kMax &&
         (!in.instance_id || in.instance_id->size() <= kMax) &&
         std::all_of(in.protocols.begin(), in.protocols.end(),
                     [](const Protocol& p) { return p.name.size() <= kMax; });
}

/// Whether a client may offer these. Kafka looks no further than that there are any, but counts
/// one that is named twice twice, so that it never is common to all.
bool well_formed(const std::vector<Protocol>& protocols, std::size_t most) {
  if (PYRALOG_PLANT("group.any_protocols")) return true;
  if (protocols.size() > most) return false;
  std::set<std::string_view> names;
  return std::ranges::all_of(
      protocols, [&](const Protocol& p) { return !p.name.empty() && names.insert(p.name).second; });
}

constexpr GroupState kStates[] = {GroupState::kEmpty, GroupState::kPreparingRebalance,
                                  GroupState::kCompletingRebalance, GroupState::kStable,
                                  GroupState::kDead};

bool same_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

GroupTable::GroupTable(Options options, std::shared_ptr<Tally> tally)
    : options_(std::make_unique<const Options>(options)), tally_(std::move(tally)) {}
GroupTable::~GroupTable() = default;
GroupTable::GroupTable(GroupTable&&) noexcept = default;
GroupTable& GroupTable::operator=(GroupTable&&) noexcept = default;

// ---- Loading ----

Result<void> GroupTable::load(ByteView key, std::optional<ByteView> value) {
  PYRALOG_ASSIGN(const StoredKey decoded, decode_key(key));
  if (const auto* offset = std::get_if<OffsetKey>(&decoded)) {
    std::optional<OffsetValue> stored;
    if (value) {
      PYRALOG_ASSIGN(stored, decode_offset_value(*value));
    } else if (find(offset->group) == nullptr) {
      return {};
    }
    make(offset->group).load(*offset, std::move(stored));
    return {};
  }
  const GroupKey& group = std::get<GroupKey>(decoded);
  std::optional<GroupValue> stored;
  if (value) {
    PYRALOG_ASSIGN(stored, decode_group_value(*value));
  } else if (find(group.group) == nullptr) {
    return {};
  }
  make(group.group).load(std::move(stored));
  return {};
}

Effects GroupTable::loaded(const Now& now) {
  Effects out;
  loaded_ = true;
  for (auto at = groups_.begin(); at != groups_.end();) {
    Group& group = *at->second;
    ++at;
    group.loaded(now);
    settle(group, 0, out);
  }
  out.next_timer = due_.empty() ? Instant::never() : due_.begin()->first;
  return out;
}

Effects GroupTable::unload() {
  Effects out;
  for (auto& [name, group] : groups_) group->fail_all(KafkaError::kNotCoordinator, out);
  groups_.clear();
  appends_.clear();
  timers_.clear();
  due_.clear();
  loaded_ = false;
  return out;
}

// ---- Steps ----

Effects GroupTable::step(const Input& input, const Now& now) {
  Effects out;
  std::visit([&](const auto& in) { take(in, now, out); }, input);
  out.next_timer = due_.empty() ? Instant::never() : due_.begin()->first;
  return out;
}

Effects GroupTable::expire(ExpiryRound& round, const Now& now) {
  Effects out;
  Group::ExpiryRoom room{options_->max_expired_at_once, options_->max_expired_bytes_at_once,
                         options_->max_looked_at_at_once};
  round.over = !loaded_ || options_->offsets_retention_ms < 0;
  for (auto at = groups_.lower_bound(round.next); !round.over;) {
    if (at == groups_.end()) {
      round.over = true;
      break;
    }
    round.next = at->first;
    if (room.records == 0 || room.bytes == 0 || room.looks == 0) break;
    Group& group = *at->second;
    ++at;
    Group::Context ctx{now, out, next_append_};
    const std::size_t before = out.appends.size();
    const bool again = group.expire(round.now, room, ctx);
    settle(group, before, out);
    if (again) break;
  }
  out.next_timer = due_.empty() ? Instant::never() : due_.begin()->first;
  return out;
}

std::optional<KafkaError> GroupTable::refused(std::string_view group, bool may_be_empty) const {
  if (group.empty() && !may_be_empty) return KafkaError::kInvalidGroupId;
  if (group.size() > kMaxGroupIdBytes) return KafkaError::kInvalidGroupId;
  if (!loaded_) return KafkaError::kCoordinatorLoadInProgress;
  return std::nullopt;
}

void GroupTable::take(const JoinRequest& in, const Now& now, Effects& out) {
  if (const auto error = refused(in.group, false)) return answer(in, *error, out);
  if (in.session_timeout_ms < options_->min_session_timeout_ms ||
      in.session_timeout_ms > options_->max_session_timeout_ms) {
    return answer(in, KafkaError::kInvalidSessionTimeout, out);
  }
  if (in.rebalance_timeout_ms < 0 || !storable(in))
    return answer(in, KafkaError::kInvalidRequest, out);
  if (!well_formed(in.protocols, options_->max_protocols)) {
    return answer(in, KafkaError::kInconsistentGroupProtocol, out);
  }
  Group* group = find(in.group);
  if (group == nullptr) {
    if (!in.member_id.empty()) return answer(in, KafkaError::kUnknownMemberId, out);
    if (!has_room_for(in.group)) return answer(in, KafkaError::kCoordinatorNotAvailable, out);
    group = find_or_make(in.group);
    if (group == nullptr) return answer(in, KafkaError::kPolicyViolation, out);
  }
  Group::Context ctx{now, out, next_append_};
  const std::size_t before = out.appends.size();
  group->join(in, ctx);
  settle(*group, before, out);
}

void GroupTable::take(const SyncRequest& in, const Now& now, Effects& out) {
  const auto error = refused(in.group, false);
  // Rejoining finds the group as it is once it is loaded.
  if (error == KafkaError::kCoordinatorLoadInProgress) {
    return answer(in, KafkaError::kRebalanceInProgress, out);
  }
  if (error) return answer(in, *error, out);
  Group* group = find(in.group);
  if (group == nullptr) return answer(in, KafkaError::kUnknownMemberId, out);
  Group::Context ctx{now, out, next_append_};
  const std::size_t before = out.appends.size();
  group->sync(in, ctx);
  settle(*group, before, out);
}

void GroupTable::take(const HeartbeatRequest& in, const Now& now, Effects& out) {
  const auto error = refused(in.group, false);
  // Clients treat any other answer as fatal here; the group is what it was once it is loaded.
  if (error == KafkaError::kCoordinatorLoadInProgress) return answer(in, KafkaError::kNone, out);
  if (error) return answer(in, *error, out);
  Group* group = find(in.group);
  if (group == nullptr) return answer(in, KafkaError::kUnknownMemberId, out);
  Group::Context ctx{now, out, next_append_};
  group->heartbeat(in, ctx);  // only ever moves the timer back, and that can wait for the tick
}

void GroupTable::take(const LeaveRequest& in, const Now& now, Effects& out) {
  LeaveResponse response;
  if (const auto error = refused(in.group, false)) {
    response.error = *error;
    out.replies.push_back(Reply{in.token, std::move(response)});
    return;
  }
  Group* group = find(in.group);
  if (group == nullptr) {
    for (const auto& m : in.members) {
      response.members.push_back({m.member_id, m.instance_id, KafkaError::kUnknownMemberId});
    }
    out.replies.push_back(Reply{in.token, std::move(response)});
    return;
  }
  Group::Context ctx{now, out, next_append_};
  const std::size_t before = out.appends.size();
  group->leave(in, ctx);
  settle(*group, before, out);
}

void GroupTable::take(const CommitRequest& in, const Now& now, Effects& out) {
  if (const auto error = refused(in.group, true)) return answer(in, *error, out);
  Group* group = find(in.group);
  if (group == nullptr) {
    if (in.generation >= 0) return answer(in, KafkaError::kIllegalGeneration, out);
    if (!has_room_for(in.group)) return answer(in, KafkaError::kInvalidCommitOffsetSize, out);
    group = find_or_make(in.group);
    if (group == nullptr) return answer(in, KafkaError::kPolicyViolation, out);
  }
  Group::Context ctx{now, out, next_append_};
  const std::size_t before = out.appends.size();
  group->commit(in, ctx);
  settle(*group, before, out);
}

void GroupTable::take(const DeleteRequest& in, const Now& now, Effects& out) {
  if (const auto error = refused(in.group, true)) return answer(in, *error, out);
  Group* group = find(in.group);
  if (group == nullptr) return answer(in, KafkaError::kGroupIdNotFound, out);
  Group::Context ctx{now, out, next_append_};
  const std::size_t before = out.appends.size();
  group->remove(in, ctx);
  settle(*group, before, out);
}

void GroupTable::take(const DeleteOffsetsRequest& in, const Now& now, Effects& out) {
  const auto refuse = [&](KafkaError error) {
    out.replies.push_back(Reply{in.token, DeleteOffsetsResponse{error, {}}});
  };
  if (const auto error = refused(in.group, true)) return refuse(*error);
  Group* group = find(in.group);
  if (group == nullptr) return refuse(KafkaError::kGroupIdNotFound);
  Group::Context ctx{now, out, next_append_};
  const std::size_t before = out.appends.size();
  group->delete_offsets(in, ctx);
  settle(*group, before, out);
}

void GroupTable::take(const TopicsDeleted& in, const Now& now, Effects& out) {
  if (!loaded_) return;  // see topics()
  for (auto at = groups_.begin(); at != groups_.end();) {
    Group& group = *at->second;
    ++at;
    Group::Context ctx{now, out, next_append_};
    const std::size_t before = out.appends.size();
    group.topics_deleted(in.topics, ctx);
    settle(group, before, out);
  }
}

void GroupTable::take(const Appended& in, const Now& now, Effects& out) {
  const auto at = appends_.find(in.append_id);
  if (at == appends_.end()) return;  // of an earlier leadership
  const std::string name = std::move(at->second);
  appends_.erase(at);
  Group* group = find(name);
  if (group == nullptr) return;
  Group::Context ctx{now, out, next_append_};
  const std::size_t before = out.appends.size();
  group->appended(in, ctx);
  settle(*group, before, out);
}

void GroupTable::take(const Tick&, const Now& now, Effects& out) {
  while (!due_.empty() && due_.begin()->first <= now.at) {
    const std::string name = due_.begin()->second;
    timers_.erase(name);
    due_.erase(due_.begin());
    Group* group = find(name);
    if (group == nullptr) continue;
    Group::Context ctx{now, out, next_append_};
    const std::size_t before = out.appends.size();
    group->tick(ctx);
    settle(*group, before, out);
  }
}

// ---- Bookkeeping ----

Group* GroupTable::find(std::string_view group) {
  const auto at = groups_.find(group);
  return at != groups_.end() ? at->second.get() : nullptr;
}
const Group* GroupTable::find(std::string_view group) const {
  const auto at = groups_.find(group);
  return at != groups_.end() ? at->second.get() : nullptr;
}

Group& GroupTable::make(const std::string& group) {
  auto& slot = groups_[group];
  if (!slot) slot = std::make_unique<Group>(group, *options_, tally_);
  return *slot;
}

bool GroupTable::has_room_for(std::string_view group) const {
  return tally_->kept().offsets + Group::cost_of_name(group) <= options_->max_offsets_bytes ||
         PYRALOG_PLANT("group.unbounded_names");
}

Group* GroupTable::find_or_make(const std::string& group) {
  if (Group* found = find(group)) return found;
  return groups_.size() < options_->max_groups ? &make(group) : nullptr;
}

void GroupTable::settle(Group& group, std::size_t appends_before, Effects& out) {
  for (std::size_t i = appends_before; i < out.appends.size(); ++i) {
    appends_.emplace(out.appends[i].append_id, group.name());
  }
  note_timer(group.name(), group.deadline());
  if (group.forgotten()) groups_.erase(groups_.find(group.name()));
}

void GroupTable::note_timer(const std::string& group, Instant at) {
  const auto known = timers_.find(group);
  if (known != timers_.end()) {
    if (known->second == at) return;
    due_.erase({known->second, group});
    timers_.erase(known);
  }
  if (at == Instant::never()) return;
  timers_.emplace(group, at);
  due_.emplace(at, group);
}

// ---- Reading ----

FetchOffsetsResponse GroupTable::fetch_offsets(const FetchOffsetsRequest& request) const {
  FetchOffsetsResponse response;
  if (const auto error = refused(request.group, true)) {
    response.error = *error;
    return response;
  }
  if (const Group* group = find(request.group)) {
    response.partitions = group->offsets(request);
  } else {
    const Group none(request.group, *options_, std::make_shared<Tally>());
    response.partitions = none.offsets(request);
  }
  return response;
}

GroupDescription GroupTable::describe(std::string_view name) const {
  GroupDescription description;
  description.group = name;
  if (const auto error = refused(name, true)) {
    description.error = *error;
    return description;
  }
  if (const Group* group = find(name)) return group->describe();
  description.error = KafkaError::kGroupIdNotFound;
  description.state = group::name(GroupState::kDead);
  return description;
}

std::set<std::string> GroupTable::topics() const {
  std::set<std::string> all;
  for (const auto& [name, group] : groups_) group->collect_topics(all);
  return all;
}

Kept GroupTable::kept() const {
  Kept all;
  for (const auto& [name, group] : groups_) all += group->kept();
  return all;
}

bool GroupTable::consistent() const {
  const Kept own = kept();
  const Kept& all = tally_->kept();
  return own.members <= all.members && own.offsets <= all.offsets && own.storing <= all.storing &&
         std::ranges::all_of(groups_, [](const auto& each) { return each.second->consistent(); });
}

ListGroupsResponse GroupTable::list(const std::vector<std::string>& states) const {
  ListGroupsResponse response;
  if (!loaded_) {
    response.error = KafkaError::kCoordinatorLoadInProgress;
    return response;
  }
  // Once for all groups: a request may name millions of states.
  const auto asked_for = [&](GroupState state) {
    return states.empty() || std::ranges::any_of(states, [&](const std::string& s) {
             return same_ignoring_case(s, group::name(state));
           });
  };
  std::set<GroupState> wanted;
  for (const GroupState state : kStates) {
    if (asked_for(state)) wanted.insert(state);
  }
  for (const auto& [name, group] : groups_) {
    const GroupState state = group->state();
    const bool listed =
        PYRALOG_PLANT("group.ask_all_filters") ? asked_for(state) : wanted.contains(state);
    if (listed) response.groups.push_back({name, group->protocol_type(), group::name(state)});
  }
  return response;
}

}  // namespace pyralog::group
