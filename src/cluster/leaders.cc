#include "cluster/leaders.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::cluster {

namespace {
bool is_settled(const catalog::Partition& partition) {
  return partition.highest_proposed <= partition.current->epoch;
}
bool is_astray(const catalog::Partition& partition) {
  return !partition.replicas.empty() && partition.replicas.front() != partition.current->leader &&
         !is_leaving(partition, partition.replicas.front());
}
}  // namespace

bool is_leaving(const catalog::Partition& partition, NodeId node) {
  return !partition.target.empty() &&
         std::ranges::find(partition.target, node) == partition.target.end() &&
         !PYRALOG_PLANT("cluster.lead_by_who_leaves");
}

void Leaders::strike(const PartitionId& id, const catalog::Partition& partition) {
  if (!partition.current) return;
  if (!is_settled(partition)) {
    pending_.erase(id);
    return;
  }
  astray_.erase(id);
  const auto led = settled_.find(partition.current->leader);
  if (led == settled_.end()) return;
  led->second.erase(id);
  if (led->second.empty()) settled_.erase(led);
}

void Leaders::enter(const PartitionId& id, const PartitionPtr& partition) {
  if (!partition->current) return;
  if (!is_settled(*partition)) {
    pending_[id] = partition;
    return;
  }
  settled_[partition->current->leader][id] = partition;
  if (is_astray(*partition)) astray_[id] = partition;
}

void Leaders::compare(const catalog::Topic* before, const catalog::Topic* after,
                      std::vector<Change>& changes) {
  const std::size_t old = before == nullptr ? 0 : before->partitions.size();
  const std::size_t now = after == nullptr ? 0 : after->partitions.size();
  const TopicId topic = after != nullptr ? after->id : before->id;
  for (std::size_t i = 0; i < std::max(old, now); ++i) {
    PartitionPtr was = i < old ? before->partitions[i] : nullptr;
    PartitionPtr is = i < now ? after->partitions[i] : nullptr;
    if (was == is) continue;
    const PartitionId id{topic, PartitionIndex(static_cast<std::int32_t>(i))};
    if (was != nullptr) strike(id, *was);
    if (is != nullptr) enter(id, is);
    changes.push_back({id, std::move(was), std::move(is)});
  }
}

std::vector<Leaders::Change> Leaders::update(const catalog::Catalog& state) {
  std::vector<catalog::TopicPtr> topics = state.topics();
  std::vector<Change> changes;
  auto was = topics_.begin();
  auto is = topics.begin();
  while (was != topics_.end() || is != topics.end()) {
    if (is == topics.end() || (was != topics_.end() && (*was)->name < (*is)->name)) {
      compare((was++)->get(), nullptr, changes);
    } else if (was == topics_.end() || (*is)->name < (*was)->name) {
      compare(nullptr, (is++)->get(), changes);
    } else {
      if (*was != *is && (*was)->id != (*is)->id) {  // deleted, and made again
        compare(was->get(), nullptr, changes);
        compare(nullptr, is->get(), changes);
      } else if (*was != *is) {
        compare(was->get(), is->get(), changes);
      }
      ++was;
      ++is;
    }
  }
  topics_ = std::move(topics);
  return changes;
}

}  // namespace pyralog::cluster
