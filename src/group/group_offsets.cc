// What the group has consumed: commit, fetch, forget.

#include <algorithm>

#include "base/plant.h"
#include "group/assignor.h"
#include "group/group.h"

namespace pyralog::group {

namespace {

constexpr std::size_t kMaxStringBytes = 32'767;
/// What an offset's record takes beside the group's name, the topic and the metadata, at most.
constexpr std::size_t kOffsetRecordBytes = 48;

std::size_t record_bytes(const std::string& group, const CommitRequest::Partition& in) {
  return kOffsetRecordBytes + group.size() + in.topic.size() + in.metadata.size();
}

std::size_t record_bytes(const CommitRequest& in) {
  std::size_t total = 0;
  for (const CommitRequest::Partition& p : in.partitions) total += record_bytes(in.group, p);
  return total;
}

/// When a commit that says for how long it is to be kept expires; −1 if it does not say.
std::int64_t expiry_of(std::int64_t retention_ms, WallMs now) {
  if (retention_ms < 0) return -1;
  return retention_ms > INT64_MAX - now.ms ? INT64_MAX : now.ms + retention_ms;
}

}  // namespace

KafkaError Group::check_commit(const CommitRequest& in) const {
  if (state_ == GroupState::kDead) return KafkaError::kCoordinatorNotAvailable;
  // From an administrator, or a consumer that assigns its own partitions.
  if (in.generation < 0 && state_ == GroupState::kEmpty) return KafkaError::kNone;
  if (in.generation < 0 && in.member_id.empty() && !in.instance_id) {
    return KafkaError::kUnknownMemberId;
  }
  if (const KafkaError e = check_member(in.member_id, in.instance_id); e != KafkaError::kNone) {
    return e;
  }
  const bool planted =
      in.generation < generation_ && PYRALOG_PLANT("group.accept_stale_generation");
  if (in.generation != generation_ && !planted) return KafkaError::kIllegalGeneration;
  // Its member learns of a rebalance by heartbeat, and may commit until it rejoins; once the next
  // generation is agreed on, partitions may be another's.
  if (state_ == GroupState::kCompletingRebalance) return KafkaError::kRebalanceInProgress;
  return KafkaError::kNone;
}

/// Whether an offset is taken; if so, `room` and what is charged in `pending` say so.
KafkaError Group::check_offset(const CommitRequest::Partition& in, CommitRoom& room,
                               StoreOffsets& pending) const {
  const std::size_t longest = std::min(options_->offset_metadata_max_bytes, kMaxStringBytes);
  if (in.metadata.size() > longest) return KafkaError::kOffsetMetadataTooLarge;
  if (!is_valid_topic_name(in.topic)) return KafkaError::kInvalidTopicException;
  const TopicPartition where{in.topic, in.partition};
  const auto before = offsets_.find(where);
  const bool arrives = before == offsets_.end() && !committing_.contains(where);
  const std::size_t cost = cost_of(where, OffsetValue{-1, -1, in.metadata, -1, -1});
  const std::size_t replaced = before != offsets_.end() ? cost_of(where, before->second.value) : 0;
  const std::size_t growth = cost > replaced ? cost - replaced : 0;
  const std::size_t record = record_bytes(name_, in);
  const bool fits = (!arrives || room.offsets > 0) &&
                    (growth <= room.kept || PYRALOG_PLANT("group.unbounded_offsets")) &&
                    (record <= room.records || PYRALOG_PLANT("group.unbounded_commit"));
  if (!fits) return KafkaError::kInvalidCommitOffsetSize;
  room.offsets -= arrives ? 1 : 0;
  room.kept -= std::min(growth, room.kept);
  room.records -= std::min(record, room.records);
  pending.arriving += arrives ? 1 : 0;
  pending.growth += growth;
  return KafkaError::kNone;
}

void Group::commit(const CommitRequest& in, Context& ctx) {
  StoreOffsets pending{in.token, {}, {}, 0, 0};
  KafkaError error = check_commit(in);
  const auto left = [](std::size_t bound, std::size_t used) {
    return bound - std::min(bound, used);
  };
  CommitRoom room{left(options_->max_offsets_per_group, offsets_.size() + arriving_),
                  std::min(left(options_->max_group_offset_bytes, kept().offsets),
                           left(options_->max_offsets_bytes, share_.all().offsets)),
                  options_->max_commit_bytes};
  if (error == KafkaError::kNone) {
    if (const auto m = members_.find(in.member_id); m != members_.end()) touch(m->second, ctx.now);
    if (!may_store(record_bytes(in))) error = KafkaError::kCoordinatorNotAvailable;
  }
  std::vector<StoredRecord> records;
  const std::int64_t expires = expiry_of(in.retention_ms, ctx.now.wall);
  for (const CommitRequest::Partition& p : in.partitions) {
    const KafkaError told = error != KafkaError::kNone ? error : check_offset(p, room, pending);
    pending.response.partitions.push_back({p.topic, p.partition, told});
    if (told != KafkaError::kNone) continue;
    OffsetValue value{p.offset, p.leader_epoch, p.metadata, ctx.now.wall.ms, expires};
    records.push_back(
        StoredRecord{encode_key(OffsetKey{name_, p.topic, p.partition}), encode_value(value)});
    pending.offsets.emplace_back(TopicPartition{p.topic, p.partition}, std::move(value));
  }
  if (records.empty()) {
    ctx.out.replies.push_back(Reply{in.token, std::move(pending.response)});
    return;
  }
  if (PYRALOG_PLANT("group.reply_before_commit")) {
    ctx.out.replies.push_back(Reply{in.token, pending.response});
    pending.token.reset();
  }
  charge(&Kept::offsets, pending.growth);
  arriving_ += pending.arriving;
  for (const auto& [where, value] : pending.offsets) ++committing_[where];
  append(std::move(records), std::move(pending), ctx);
}

std::set<Group::TopicPartition> Group::known_offsets() const {
  std::set<TopicPartition> all;
  for (const auto& [where, stored] : offsets_) all.insert(where);
  for (const auto& [where, appends] : committing_) all.insert(where);
  return all;
}

void Group::forget_in_flight(const std::string& topic) {
  for (auto& [id, append] : appends_) {
    if (auto* store = std::get_if<StoreOffsets>(&append.what)) {
      std::erase_if(store->offsets, [&](const auto& o) { return o.first.first == topic; });
    }
  }
}

void Group::remove(const DeleteRequest& in, Context& ctx) {
  const auto refuse = [&](KafkaError error) {
    ctx.out.replies.push_back(Reply{in.token, DeleteResponse{error}});
  };
  if (state_ == GroupState::kDead) return refuse(KafkaError::kGroupIdNotFound);
  if (state_ != GroupState::kEmpty) return refuse(KafkaError::kNonEmptyGroup);
  std::vector<StoredRecord> records;
  for (const TopicPartition& where : known_offsets()) {
    records.push_back(StoredRecord{encode_key(OffsetKey{name_, where.first, where.second}), {}});
  }
  records.push_back(StoredRecord{encode_key(GroupKey{name_}), {}});
  while (!pending_members_.empty()) drop_pending(std::string(pending_members_.begin()->first));
  become(GroupState::kDead, ctx.now);
  append(std::move(records), StoreDeletion{in.token}, ctx);
}

const Group::ProtocolUse* Group::agreed() const {
  if (!protocol_) return nullptr;
  const auto use = protocols_.find(*protocol_);
  const bool all = use != protocols_.end() && use->second.members == members_.size() &&
                   use->second.unreadable == 0;
  return all ? &use->second : nullptr;
}

bool Group::may_read(const std::string& topic) const {
  if (members_.empty()) return false;
  if (PYRALOG_PLANT("group.read_subscriptions_each_time")) {
    for (const auto& [id, m] : members_) {
      for (const Protocol& p : m.protocols) (void)decode_topics(p.metadata);
    }
  }
  const ProtocolUse* use = agreed();
  return use == nullptr || use->topics.contains(topic);
}

void Group::delete_offsets(const DeleteOffsetsRequest& in, Context& ctx) {
  const auto refuse = [&](KafkaError error) {
    ctx.out.replies.push_back(Reply{in.token, DeleteOffsetsResponse{error, {}}});
  };
  if (state_ == GroupState::kDead) return refuse(KafkaError::kGroupIdNotFound);
  const bool in_use = state_ != GroupState::kEmpty;
  if (in_use && protocol_type_ != "consumer") return refuse(KafkaError::kNonEmptyGroup);
  StoreOffsetDeletion pending{in.token, {}, {}};
  std::vector<StoredRecord> records;
  std::size_t bytes = 0;
  for (const DeleteOffsetsRequest::Partition& p : in.partitions) {
    const bool refused = in_use && may_read(p.topic);
    pending.response.partitions.push_back(
        {p.topic, p.partition, refused ? KafkaError::kGroupSubscribedToTopic : KafkaError::kNone});
    const TopicPartition where{p.topic, p.partition};
    if (refused || (!offsets_.contains(where) && !committing_.contains(where))) continue;
    const bool first = pending.offsets.insert(where).second;
    if (!first && !PYRALOG_PLANT("group.delete_as_often_as_named")) continue;
    records.push_back(StoredRecord{encode_key(OffsetKey{name_, p.topic, p.partition}), {}});
    bytes += records.back().key.size();
  }
  if (!may_store(bytes)) return refuse(KafkaError::kCoordinatorNotAvailable);
  if (records.empty()) {
    ctx.out.replies.push_back(Reply{in.token, std::move(pending.response)});
    return;
  }
  append(std::move(records), std::move(pending), ctx);
}

void Group::topics_deleted(const std::vector<std::string>& topics, Context& ctx) {
  // Also of a group that is being deleted, for that may fail.
  std::vector<StoredRecord> records;
  for (const std::string& topic : topics) {
    std::set<TopicPartition> gone;
    const auto collect = [&](const auto& from) {
      for (auto at = from.lower_bound({topic, INT32_MIN}); at != from.end(); ++at) {
        if (at->first.first != topic) break;
        gone.insert(at->first);
      }
    };
    collect(offsets_);
    collect(committing_);
    if (gone.empty()) continue;
    forget_in_flight(topic);
    for (const TopicPartition& where : gone) {
      records.push_back(StoredRecord{encode_key(OffsetKey{name_, topic, where.second}), {}});
      drop_offset(where);
      committing_.erase(where);
    }
  }
  if (!records.empty()) append(std::move(records), StoreOther{}, ctx);
}

void Group::collect_topics(std::set<std::string>& topics) const {
  for (const auto& [where, stored] : offsets_) topics.insert(where.first);
}

std::vector<OffsetEntry> Group::offsets(const FetchOffsetsRequest& request) const {
  std::vector<OffsetEntry> found;
  const auto entry = [](const TopicPartition& where, const OffsetValue* value) {
    OffsetEntry e;
    e.topic = where.first;
    e.partition = where.second;
    if (value != nullptr) {
      e.offset = value->offset;
      e.leader_epoch = value->leader_epoch;
      e.metadata = value->metadata;
    }
    return e;
  };
  if (!request.topics) {
    for (const auto& [where, stored] : offsets_) found.push_back(entry(where, &stored.value));
    return found;
  }
  // Once each: four bytes of a request must not fetch the same metadata again and again.
  std::set<const StoredOffset*> told;
  for (const FetchOffsetsRequest::Topic& topic : *request.topics) {
    for (const std::int32_t partition : topic.partitions) {
      const TopicPartition where{topic.name, partition};
      const auto at = offsets_.find(where);
      if (at != offsets_.end() && !told.insert(&at->second).second &&
          !PYRALOG_PLANT("group.fetch_as_often_as_asked")) {
        continue;
      }
      found.push_back(entry(where, at != offsets_.end() ? &at->second.value : nullptr));
    }
  }
  return found;
}

}  // namespace pyralog::group
