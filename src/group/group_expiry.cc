// What retention lets go of what the group has committed (KIP-211).

#include <algorithm>

#include "base/plant.h"
#include "group/group.h"

namespace pyralog::group {

/// What was committed after the group became empty, by an administrator, counts from then.
bool Group::is_old(const OffsetValue& value, WallMs by) const {
  if (value.expire_timestamp_ms >= 0) return value.expire_timestamp_ms <= by.ms;
  const bool emptied = !protocol_type_.empty() && state_ == GroupState::kEmpty;
  const std::int64_t since =
      emptied ? std::max(state_since_ms_, value.commit_timestamp_ms) : value.commit_timestamp_ms;
  return since >= 0 && by.ms - since >= options_->offsets_retention_ms;
}

bool Group::expire(WallMs by, ExpiryRoom& room, Context& ctx) {
  room.looks -= std::min(room.looks, offsets_.size() + 1);
  const bool empty = state_ == GroupState::kEmpty;
  // Only consumers say what they read, and all of them only once they have agreed.
  const bool told = state_ == GroupState::kStable && protocol_type_ == "consumer";
  if (!empty && !told) return false;
  const bool storing = std::ranges::any_of(appends_, [](const auto& append) {
    return std::holds_alternative<StoreExpiry>(append.second.what);
  });
  if (storing) return false;
  const ProtocolUse nothing{};
  const ProtocolUse* read = nullptr;
  if (told) {
    const bool any_old = std::ranges::any_of(
        offsets_, [&](const auto& each) { return is_old(each.second.value, by); });
    if (!any_old) return false;
    read = PYRALOG_PLANT("group.expire_subscribed") ? &nothing : agreed();
    if (read == nullptr) return false;
  }
  StoreExpiry pending{{}, false};
  std::vector<StoredRecord> records;
  bool cut = false;
  for (const auto& [where, stored] : offsets_) {
    if (!is_old(stored.value, by) || (read != nullptr && read->topics.contains(where.first)) ||
        (committing_.contains(where) && !PYRALOG_PLANT("group.expire_under_commit"))) {
      continue;
    }
    cut = room.records == 0 || room.bytes == 0;
    if (cut && !PYRALOG_PLANT("group.unbounded_expiry")) break;
    records.push_back(StoredRecord{encode_key(OffsetKey{name_, where.first, where.second}), {}});
    pending.offsets.push_back(where);
    room.records -= std::min<std::size_t>(room.records, 1);
    room.bytes -= std::min(room.bytes, records.back().key.size());
  }
  // Members that were given an id are expected back, and what is being stored may yet be kept.
  pending.whole = empty && pending.offsets.size() == offsets_.size() && pending_members_.empty() &&
                  appends_.empty() && !forgotten();
  if (pending.whole) {
    // A group that only stored offsets has no record of its own.
    if (generation_ != 0 || !protocol_type_.empty()) {
      records.push_back(StoredRecord{encode_key(GroupKey{name_}), {}});
      room.records -= std::min<std::size_t>(room.records, 1);
    }
    become(GroupState::kDead, ctx.now);
  }
  if (records.empty()) return false;
  if (PYRALOG_PLANT("group.expire_before_stored")) {
    for (const TopicPartition& where : pending.offsets) drop_offset(where);
  }
  append(std::move(records), std::move(pending), ctx);
  return cut;
}

void Group::done(StoreExpiry& what, std::uint64_t id, KafkaError error, Context& ctx) {
  // A tombstone that is late is in the log all the same, and replay will obey it: what it names
  // must not go on being served. Should a crash lose it, the offset comes back and expires again.
  const bool stored = error == KafkaError::kNone || error == KafkaError::kRequestTimedOut;
  if (!stored ||
      (error != KafkaError::kNone && PYRALOG_PLANT("group.late_tombstones_do_not_count"))) {
    if (what.whole) state_ = GroupState::kEmpty;
    ++ctx.out.expired.failures;
    return;
  }
  for (const TopicPartition& where : what.offsets) {
    // A commit that was stored after the tombstone stands.
    const auto at = offsets_.find(where);
    if (at == offsets_.end() || at->second.append_id >= id) continue;
    drop_offset(where);
    ++ctx.out.expired.offsets;
  }
  if (!what.whole) return;
  generation_ = 0;
  set_protocol_type({});
  ++ctx.out.expired.groups;
}

}  // namespace pyralog::group
