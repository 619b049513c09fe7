// What a group keeps in memory and writes at once, counted as it changes, and when that is too
// much.

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "base/plant.h"
#include "group/assignor.h"
#include "group/group.h"

namespace pyralog::group {
namespace {

// Generous for the structures and the nodes of the maps that they are in.
constexpr std::size_t kGroupCost = 1'280;
constexpr std::size_t kMemberCost = 768;
constexpr std::size_t kProtocolCost = 192;
constexpr std::size_t kTopicCost = 112;
constexpr std::size_t kPendingCost = 192;
constexpr std::size_t kOffsetCost = 192;
/// With all that it offers a member takes at most so many times what it takes as it was stored; if it
/// takes more, it offers more than before.
constexpr std::size_t kOfferedOfStored = 4;
/// The fields of a member in the group's record that are no text.
constexpr std::size_t kMemberRecordBytes = 32;

std::size_t cost_of_pending(std::string_view id) {
  return kPendingCost + id.size();
}
std::size_t cost_of_topic(std::string_view topic) {
  return kTopicCost + topic.size();
}

/// How often each text is kept: an id also as key, and by those who wait for it.
std::size_t cost_of_member(std::string_view id, const std::optional<std::string>& instance_id,
                           std::string_view client_id, std::string_view client_host,
                           const std::vector<Protocol>& protocols) {
  std::size_t total = kMemberCost + 5 * id.size() + client_id.size() + client_host.size();
  if (instance_id) total += 2 * instance_id->size();
  for (const Protocol& p : protocols) {
    total += kProtocolCost + 3 * p.name.size() + p.metadata.size();
  }
  return total;
}

std::size_t record_bytes_of(std::string_view id, const std::optional<std::string>& instance_id,
                            std::string_view client_id, std::string_view client_host,
                            const std::vector<Protocol>& protocols) {
  std::size_t metadata = 0;
  for (const Protocol& p : protocols) metadata = std::max(metadata, p.metadata.size());
  return kMemberRecordBytes + id.size() + client_id.size() + client_host.size() + metadata +
         (instance_id ? instance_id->size() : 0);
}

/// Whether `used` may grow by `more` within `bound`.
bool fits(std::size_t used, std::size_t more, std::size_t bound) {
  return (more == 0 && !PYRALOG_PLANT("group.refuse_what_is_loaded")) ||
         (used <= bound && more <= bound - used);
}

}  // namespace

Options Options::within(std::size_t bytes) const {
  Options out = *this;
  out.max_offsets_bytes = bytes / 2;
  out.max_members_bytes = out.max_storing_bytes = bytes / 4;
  out.max_group_bytes = std::min(max_group_bytes, out.max_members_bytes);
  out.max_group_offset_bytes = std::min(max_group_offset_bytes, out.max_offsets_bytes);
  out.max_commit_bytes = std::min(max_commit_bytes, out.max_storing_bytes);
  return out;
}

Tally::Share::~Share() {
  if (PYRALOG_PLANT("group.keep_what_is_unloaded")) return;
  tally_->kept_.members -= kept_.members;
  tally_->kept_.offsets -= kept_.offsets;
  tally_->kept_.storing -= kept_.storing;
}

Group::Group(std::string name, const Options& options, std::shared_ptr<Tally> tally)
    : name_(std::move(name)), options_(&options), share_(std::move(tally)) {
  charge(&Kept::offsets, cost_of_name(name_));
}

std::size_t Group::cost_of_name(std::string_view name) {
  return kGroupCost + 4 * name.size();
}

std::size_t Group::Member::cost() const {
  return cost_of_member(id, instance_id, client_id, client_host, protocols) + assignment.size();
}

std::size_t Group::Member::record_bytes() const {
  return record_bytes_of(id, instance_id, client_id, client_host, protocols) + assignment.size();
}

void Group::charge(std::size_t Kept::* what, std::size_t bytes) {
  share_.charge(what, bytes);
}

void Group::release(std::size_t Kept::* what, std::size_t bytes) {
  if (PYRALOG_PLANT("group.keep_the_charge")) return;
  share_.release(what, bytes);
}

// ---- What is let in ----

KafkaError Group::room_for(const JoinRequest& in) const {
  if (PYRALOG_PLANT("group.unbounded_members")) return KafkaError::kNone;
  const Member* prior = nullptr;
  if (const auto at = members_.find(in.member_id); at != members_.end()) {
    prior = &at->second;
  } else if (in.member_id.empty() && in.instance_id) {
    const auto instance = static_members_.find(*in.instance_id);
    if (instance != static_members_.end()) prior = &members_.at(instance->second);
  } else if (!in.member_id.empty() && !pending_members_.contains(in.member_id)) {
    return KafkaError::kNone;  // a stranger, who is told so
  }
  // The last quarter is for assignments, so that those who have joined get on.
  const std::size_t for_joins = options_->max_members_bytes - options_->max_members_bytes / 4;
  if (prior == nullptr && in.member_id.empty() && !in.instance_id && in.require_known_member_id) {
    // For now only the id is kept.
    return fits(share_.all().members, cost_of_pending(in.new_member_id), for_joins)
               ? KafkaError::kNone
               : KafkaError::kCoordinatorNotAvailable;
  }
  std::size_t sent = 0;
  for (const Protocol& p : in.protocols) sent += p.name.size() + p.metadata.size();
  if (sent > options_->max_member_bytes) return KafkaError::kGroupMaxSizeReached;
  const std::string& id = in.member_id.empty() ? in.new_member_id : in.member_id;
  const auto growth = [](std::size_t after, std::size_t before) {
    return after > before ? after - before : std::size_t{0};
  };
  const std::size_t assigned = prior != nullptr ? prior->assignment.size() : 0;
  const bool same = prior != nullptr && prior->protocols == in.protocols;
  const std::size_t cost =
      cost_of_member(id, in.instance_id, in.client_id, in.client_host, in.protocols) + assigned +
      (same ? 0 : cost_of_topics(in));
  if (prior != nullptr && prior->is_loaded && cost <= kOfferedOfStored * cost_as_stored(*prior) &&
      !PYRALOG_PLANT("group.count_what_is_offered_again")) {
    return KafkaError::kNone;
  }
  const std::size_t record = growth(
      record_bytes_of(id, in.instance_id, in.client_id, in.client_host, in.protocols) + assigned,
      prior != nullptr ? prior->record_bytes() : 0);
  const std::size_t kept = growth(cost, prior != nullptr ? prior->cost() : 0);
  // Its own size is the group's to mend. What others fill becomes free again, so that a client is
  // to come back: the Java client does at COORDINATOR_NOT_AVAILABLE, and gives up at the other.
  if ((!fits(record_bytes_, record, options_->max_record_bytes) &&
       !PYRALOG_PLANT("group.unbounded_record")) ||
      !fits(share_.kept().members, kept, options_->max_group_bytes)) {
    return KafkaError::kGroupMaxSizeReached;
  }
  return fits(share_.all().members, kept, for_joins) ? KafkaError::kNone
                                                     : KafkaError::kCoordinatorNotAvailable;
}

/// Of those that nobody reads yet.
std::size_t Group::cost_of_topics(const JoinRequest& in) const {
  if (in.protocol_type != "consumer") return 0;
  std::size_t total = 0;
  for (const Protocol& p : in.protocols) {
    const auto topics = decode_topics(p.metadata);
    if (!topics) continue;
    const auto use = protocols_.find(p.name);
    for (const std::string& topic : *topics) {
      if (use == protocols_.end() || !use->second.topics.contains(topic)) {
        total += cost_of_topic(topic);
      }
    }
  }
  return total;
}

/// With all that it reads, though others may read that, too. The log knows one protocol of each member:
/// it had offered the others as well, and had been let in with them; others may have taken that room
/// since, or there may be less of it.
std::size_t Group::cost_as_stored(const Member& member) const {
  std::size_t total = member.cost();
  if (protocol_type_ != "consumer") return total;
  for (const Protocol& p : member.protocols) {
    const auto topics = decode_topics(p.metadata);
    if (!topics) continue;
    for (const std::string& topic : *topics) total += cost_of_topic(topic);
  }
  return total;
}

bool Group::may_store(std::size_t bytes) const {
  return share_.all().storing == 0 || fits(share_.all().storing, bytes, options_->max_storing_bytes) ||
         PYRALOG_PLANT("group.unbounded_appends");
}

bool Group::may_assign(std::size_t bytes) const {
  std::size_t before = 0;
  for (const auto& [id, m] : members_) before += m.assignment.size();
  return fits(share_.all().members, bytes > before ? bytes - before : 0, options_->max_members_bytes) ||
         PYRALOG_PLANT("group.unbounded_members");
}

// ---- Members ----

void Group::weigh(const Member& member, bool add) {
  if (add) {
    charge(&Kept::members, member.cost());
    record_bytes_ += member.record_bytes();
  } else {
    release(&Kept::members, member.cost());
    record_bytes_ -= member.record_bytes();
  }
}

void Group::count(const Member& member, bool add) {
  weigh(member, add);
  if (add) {
    rebalance_timeouts_ms_.insert(member.rebalance_timeout_ms);
  } else {
    rebalance_timeouts_ms_.erase(rebalance_timeouts_ms_.find(member.rebalance_timeout_ms));
  }
  for (const Protocol& p : member.protocols) {
    ProtocolUse& use = protocols_[p.name];
    use.members = add ? use.members + 1 : use.members - 1;
    count_topics(use, p, add);
    if (use.members == 0) protocols_.erase(p.name);
  }
}

/// Only of consumers it is known how they say what they read.
void Group::count_topics(ProtocolUse& use, const Protocol& protocol, bool add) {
  if (protocol_type_ != "consumer") return;
  const auto topics = decode_topics(protocol.metadata);
  if (!topics) {
    use.unreadable = add ? use.unreadable + 1 : use.unreadable - 1;
    return;
  }
  for (const std::string& topic : *topics) {
    std::size_t& readers = use.topics[topic];
    if (add && readers == 0) charge(&Kept::members, cost_of_topic(topic));
    readers = add ? readers + 1 : readers - 1;
    if (readers > 0) continue;
    use.topics.erase(topic);
    release(&Kept::members, cost_of_topic(topic));
  }
}

void Group::assign(Member& member, Bytes assignment) {
  weigh(member, false);
  member.assignment = std::move(assignment);
  weigh(member, true);
}

void Group::add_pending(const std::string& id, Instant expires) {
  drop_pending(id);
  const auto at = pending_members_.emplace(id, expires).first;
  pending_expiries_.emplace(expires, at->first);
  charge(&Kept::members, cost_of_pending(id));
}

/// False if there is none.
bool Group::drop_pending(const std::string& id) {
  const auto at = pending_members_.find(id);
  if (at == pending_members_.end()) return false;
  release(&Kept::members, cost_of_pending(id));
  pending_expiries_.erase({at->second, at->first});
  pending_members_.erase(at);
  return true;
}

void Group::set_protocol_type(std::string type) {
  release(&Kept::offsets, protocol_type_.size());
  protocol_type_ = std::move(type);
  charge(&Kept::offsets, protocol_type_.size());
}

// ---- Offsets ----

/// The group's name counts, too: the tombstone that forgets the offset carries it.
std::size_t Group::cost_of(const TopicPartition& where, const OffsetValue& value) const {
  return kOffsetCost + name_.size() + where.first.size() + value.metadata.size();
}

void Group::put_offset(const TopicPartition& where, OffsetValue value, std::uint64_t append_id) {
  const auto [at, is_new] = offsets_.try_emplace(where);
  if (!is_new) release(&Kept::offsets, cost_of(where, at->second.value));
  at->second = StoredOffset{std::move(value), append_id};
  charge(&Kept::offsets, cost_of(where, at->second.value));
}

void Group::drop_offset(const TopicPartition& where) {
  const auto at = offsets_.find(where);
  if (at == offsets_.end()) return;
  release(&Kept::offsets, cost_of(where, at->second.value));
  offsets_.erase(at);
}

// ---- For tests ----

bool Group::consistent() const {
  Group again(name_, *options_, std::make_shared<Tally>());
  again.set_protocol_type(protocol_type_);
  for (const auto& [id, m] : members_) {
    again.count(m, true);
    if (m.joining) ++again.joined_;
    if (m.can_expire() && m.expires != Instant::never()) again.expiries_.emplace(m.expires, id);
  }
  for (const auto& [id, expires] : pending_members_) again.add_pending(id, expires);
  for (const auto& [where, stored] : offsets_) {
    again.put_offset(where, stored.value, stored.append_id);
  }
  for (const auto& [id, append] : appends_) {
    again.charge(&Kept::storing, append.bytes);
    const auto* store = std::get_if<StoreOffsets>(&append.what);
    if (store == nullptr) continue;
    again.arriving_ += store->arriving;
    again.charge(&Kept::offsets, store->growth);
    for (const auto& [where, value] : store->offsets) ++again.committing_[where];
  }
  return again.kept() == kept() && again.protocols_ == protocols_ &&
         again.record_bytes_ == record_bytes_ && again.joined_ == joined_ &&
         again.rebalance_timeouts_ms_ == rebalance_timeouts_ms_ && again.expiries_ == expiries_ &&
         again.pending_expiries_ == pending_expiries_ && again.committing_ == committing_ &&
         again.arriving_ == arriving_;
}

}  // namespace pyralog::group
