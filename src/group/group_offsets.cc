// What the group has consumed: commit, fetch, forget.

#include <algorithm>

#include "base/plant.h"
#include "group/assignor.h"
#include "group/group.h"

namespace pyralog::group {

namespace {
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

void Group::commit(const CommitRequest& in, Context& ctx) {
  StoreOffsets pending{in.token, {}, {}};
  const KafkaError error = check_commit(in);
  std::vector<StoredRecord> records;
  const std::int64_t expires = expiry_of(in.retention_ms, ctx.now.wall);
  std::size_t room =
      options_->max_offsets_per_group - std::min(options_->max_offsets_per_group, offsets_.size());
  for (const CommitRequest::Partition& p : in.partitions) {
    KafkaError told = error;
    TopicPartition where{p.topic, p.partition};
    if (told == KafkaError::kNone && p.metadata.size() > options_->offset_metadata_max_bytes) {
      told = KafkaError::kOffsetMetadataTooLarge;
    }
    if (told == KafkaError::kNone && !is_valid_topic_name(p.topic)) {
      told = KafkaError::kInvalidTopicException;
    }
    if (told == KafkaError::kNone && !offsets_.contains(where)) {
      if (room == 0) {
        told = KafkaError::kInvalidCommitOffsetSize;
      } else {
        --room;
      }
    }
    pending.response.partitions.push_back({p.topic, p.partition, told});
    if (told != KafkaError::kNone) continue;
    OffsetValue value{p.offset, p.leader_epoch, p.metadata, ctx.now.wall.ms, expires};
    records.push_back(
        StoredRecord{encode_key(OffsetKey{name_, p.topic, p.partition}), encode_value(value)});
    pending.offsets.emplace_back(std::move(where), std::move(value));
  }
  if (error == KafkaError::kNone) {
    if (const auto m = members_.find(in.member_id); m != members_.end()) touch(m->second, ctx.now);
  }
  if (records.empty()) {
    ctx.out.replies.push_back(Reply{in.token, std::move(pending.response)});
    return;
  }
  if (PYRALOG_PLANT("group.reply_before_commit")) {
    ctx.out.replies.push_back(Reply{in.token, pending.response});
    pending.token.reset();
  }
  append(std::move(records), std::move(pending), ctx);
}

/// Committed, or on the way to be.
std::set<Group::TopicPartition> Group::known_offsets() const {
  std::set<TopicPartition> all;
  for (const auto& [where, stored] : offsets_) all.insert(where);
  for (const auto& [id, pending] : appends_) {
    if (const auto* store = std::get_if<StoreOffsets>(&pending)) {
      for (const auto& [where, value] : store->offsets) all.insert(where);
    }
  }
  return all;
}

void Group::forget_in_flight(const TopicPartition& where) {
  for (auto& [id, pending] : appends_) {
    if (auto* store = std::get_if<StoreOffsets>(&pending)) {
      std::erase_if(store->offsets, [&](const auto& o) { return o.first == where; });
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
  pending_members_.clear();
  become(GroupState::kDead, ctx.now);
  append(std::move(records), StoreDeletion{in.token}, ctx);
}

std::optional<std::set<std::string>> Group::subscribed_topics() const {
  std::set<std::string> topics;
  for (const auto& [id, member] : members_) {
    // While they rejoin, none of their protocols is chosen yet: any may be.
    bool known = false;
    for (const Protocol& protocol : member.protocols) {
      if (protocol_ && protocol.name != *protocol_) continue;
      known = true;
      const auto subscription = decode_subscription(protocol.metadata);
      if (!subscription) return std::nullopt;
      topics.insert(subscription->topics.begin(), subscription->topics.end());
    }
    if (!known) return std::nullopt;
  }
  return topics;
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
  const std::set<TopicPartition> known = known_offsets();
  const auto read = subscribed_topics();
  for (const DeleteOffsetsRequest::Partition& p : in.partitions) {
    const bool refused = in_use && (!read || read->contains(p.topic));
    pending.response.partitions.push_back(
        {p.topic, p.partition, refused ? KafkaError::kGroupSubscribedToTopic : KafkaError::kNone});
    const TopicPartition where{p.topic, p.partition};
    if (refused || !known.contains(where)) continue;
    records.push_back(StoredRecord{encode_key(OffsetKey{name_, p.topic, p.partition}), {}});
    pending.offsets.push_back(where);
  }
  if (records.empty()) {
    ctx.out.replies.push_back(Reply{in.token, std::move(pending.response)});
    return;
  }
  append(std::move(records), std::move(pending), ctx);
}

void Group::topics_deleted(const std::vector<std::string>& topics, Context& ctx) {
  // Also of a group that is being deleted, for that may fail.
  std::vector<StoredRecord> records;
  for (const TopicPartition& where : known_offsets()) {
    if (std::find(topics.begin(), topics.end(), where.first) == topics.end()) continue;
    records.push_back(StoredRecord{encode_key(OffsetKey{name_, where.first, where.second}), {}});
    offsets_.erase(where);
    forget_in_flight(where);
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
  for (const FetchOffsetsRequest::Topic& topic : *request.topics) {
    for (const std::int32_t partition : topic.partitions) {
      const TopicPartition where{topic.name, partition};
      const auto at = offsets_.find(where);
      found.push_back(entry(where, at != offsets_.end() ? &at->second.value : nullptr));
    }
  }
  return found;
}

}  // namespace pyralog::group
