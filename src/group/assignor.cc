#include "group/assignor.h"

#include <algorithm>
#include <set>

namespace pyralog::group {
namespace {

/// Members in the order of Kafka's assignors: static ones by instance id, then the others by id; so
/// a static member keeps its place when its id changes.
std::vector<const AssignmentMember*> ordered(const std::vector<AssignmentMember>& members) {
  std::vector<const AssignmentMember*> all;
  for (const AssignmentMember& m : members) all.push_back(&m);
  std::sort(all.begin(), all.end(), [](const AssignmentMember* a, const AssignmentMember* b) {
    if (a->instance_id && b->instance_id) return *a->instance_id < *b->instance_id;
    if (a->instance_id.has_value() != b->instance_id.has_value()) {
      return a->instance_id.has_value();
    }
    return a->id < b->id;
  });
  return all;
}

/// Topic → its subscribers in order; only topics that exist.
using Subscribers = std::map<std::string, std::vector<const AssignmentMember*>>;
Subscribers subscribers(const std::vector<AssignmentMember>& members,
                        const PartitionCounts& topics) {
  Subscribers all;
  for (const AssignmentMember* m : ordered(members)) {
    const std::set<std::string> wanted(m->subscription.topics.begin(),
                                       m->subscription.topics.end());
    for (const std::string& topic : wanted) {
      if (topics.contains(topic)) all[topic].push_back(m);
    }
  }
  return all;
}

Assignments range(const std::vector<AssignmentMember>& members, const PartitionCounts& topics) {
  Assignments result;
  for (const auto& [topic, readers] : subscribers(members, topics)) {
    const auto n = static_cast<std::size_t>(std::max(topics.at(topic), 0));
    const std::size_t m = readers.size();
    std::int32_t next = 0;
    for (std::size_t i = 0; i < m; ++i) {
      const std::size_t share = n / m + (i < n % m ? 1 : 0);
      for (std::size_t k = 0; k < share; ++k) result[readers[i]->id].emplace_back(topic, next++);
    }
  }
  return result;
}

Assignments round_robin(const std::vector<AssignmentMember>& members,
                        const PartitionCounts& topics) {
  Assignments result;
  const auto order = ordered(members);
  const Subscribers readers = subscribers(members, topics);
  std::size_t turn = 0;
  for (const auto& [topic, who] : readers) {
    for (std::int32_t p = 0; p < topics.at(topic); ++p) {
      while (std::find(who.begin(), who.end(), order[turn % order.size()]) == who.end()) ++turn;
      result[order[turn++ % order.size()]->id].emplace_back(topic, p);
    }
  }
  return result;
}

/// What members own, after the claims of older generations and contested ones are dropped.
struct Claims {
  std::map<TopicPartition, std::string> owner;                ///< undisputed
  std::map<TopicPartition, std::set<std::string>> claimants;  ///< of the newest generation
};
Claims claims(const std::vector<AssignmentMember>& members, const PartitionCounts& topics) {
  Claims result;
  std::map<TopicPartition, std::int32_t> newest;
  for (const AssignmentMember& m : members) {
    for (const TopicPartition& tp : m.subscription.owned) {
      const auto topic = topics.find(tp.first);
      if (topic == topics.end() || tp.second < 0 || tp.second >= topic->second) continue;
      const std::int32_t generation = m.subscription.generation;
      const auto [known, first] = newest.emplace(tp, generation);
      if (!first && generation < known->second) continue;
      if (first || generation > known->second) result.claimants[tp].clear();
      known->second = generation;
      result.claimants[tp].insert(m.id);
    }
  }
  for (const auto& [tp, who] : result.claimants) {
    if (who.size() == 1) result.owner.emplace(tp, *who.begin());
  }
  return result;
}

/// Keeps what it can, gives what is free to those with least, then moves single partitions from
/// members to others with at least two fewer. Each move lowers the sum of squares, so it ends.
class Sticky {
 public:
  Sticky(const std::vector<AssignmentMember>& members, const PartitionCounts& topics,
         const Claims& claims)
      : readers_(subscribers(members, topics)) {
    for (const AssignmentMember& m : members) count_[m.id] = 0;
    for (const auto& [topic, who] : readers_) {
      for (std::int32_t p = 0; p < topics.at(topic); ++p) {
        const TopicPartition tp{topic, p};
        const auto owner = claims.owner.find(tp);
        std::string& holder = holder_[tp];
        if (owner == claims.owner.end() || !reads(who, owner->second)) continue;
        holder = owner->second;
        ++count_[holder];
      }
    }
  }

  Assignments run() {
    for (auto& [tp, holder] : holder_) {
      if (!holder.empty()) continue;
      holder = least(readers_.at(tp.first));
      ++count_[holder];
    }
    for (bool moved = true; moved;) {
      moved = false;
      for (auto& [tp, holder] : holder_) {
        const std::string& other = least(readers_.at(tp.first));
        if (count_[holder] < count_[other] + 2) continue;
        --count_[holder];
        ++count_[other];
        holder = other;
        moved = true;
      }
    }
    Assignments result;
    for (const auto& [tp, holder] : holder_) result[holder].push_back(tp);
    return result;
  }

 private:
  static bool reads(const std::vector<const AssignmentMember*>& who, const std::string& id) {
    return std::any_of(who.begin(), who.end(), [&](const auto* m) { return m->id == id; });
  }
  const std::string& least(const std::vector<const AssignmentMember*>& who) {
    return (*std::min_element(
                who.begin(), who.end(),
                [&](const auto* a, const auto* b) { return count_[a->id] < count_[b->id]; }))
        ->id;
  }

  Subscribers readers_;
  std::map<TopicPartition, std::string> holder_;
  std::map<std::string, std::size_t> count_;
};

}  // namespace

const char* name(Assignor assignor) {
  switch (assignor) {
    case Assignor::kRange:
      return "range";
    case Assignor::kRoundRobin:
      return "roundrobin";
    case Assignor::kSticky:
      return "sticky";
    case Assignor::kCooperativeSticky:
      return "cooperative-sticky";
  }
  return "unknown";
}

std::optional<Assignor> find_assignor(std::string_view wanted) {
  for (const Assignor a :
       {Assignor::kRange, Assignor::kRoundRobin, Assignor::kSticky, Assignor::kCooperativeSticky}) {
    if (wanted == name(a)) return a;
  }
  return std::nullopt;
}

Assignments assign(Assignor assignor, const std::vector<AssignmentMember>& members,
                   const PartitionCounts& topics) {
  Assignments result;
  switch (assignor) {
    case Assignor::kRange:
      result = range(members, topics);
      break;
    case Assignor::kRoundRobin:
      result = round_robin(members, topics);
      break;
    case Assignor::kSticky:
      result = Sticky(members, topics, claims(members, topics)).run();
      break;
    case Assignor::kCooperativeSticky: {
      const Claims owned = claims(members, topics);
      result = Sticky(members, topics, owned).run();
      for (auto& [id, partitions] : result) {
        std::erase_if(partitions, [&](const TopicPartition& tp) {
          const auto at = owned.claimants.find(tp);
          if (at == owned.claimants.end()) return false;
          return at->second.size() > (at->second.contains(id) ? 1u : 0u);
        });
      }
      break;
    }
  }
  for (const AssignmentMember& m : members) {
    auto& partitions = result[m.id];
    std::sort(partitions.begin(), partitions.end());
  }
  return result;
}

}  // namespace pyralog::group
