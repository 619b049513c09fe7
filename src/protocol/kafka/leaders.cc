// Who leads: partitions are given back to the replica that their assignment prefers.
#include <algorithm>
#include <set>
#include <utility>

#include "base/plant.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/elect_leaders.h"

namespace pyralog::protocol::kafka {

namespace {

constexpr std::int8_t kPreferred = 0;
constexpr std::int8_t kUnclean = 1;
constexpr int kAtOnce = 16;  ///< moves under way for one request
constexpr Duration kLookEvery = std::chrono::milliseconds(100);  ///< whether the client is there

/// One partition that a request asks for, and what becomes of it.
struct Election {
  broker::PartitionRef target;
  PartitionId id;
  NodeId preferred;
  broker::AdminOutcome outcome;
  bool open = false;  ///< its leader is to be moved, or is on the way
  bool seen = false;  ///< that it is on the way
};

/// The partitions of one request; the request's own.
struct Elections {
  std::vector<Election> all;
  Instant deadline;
  std::size_t next = 0;
};

broker::AdminOutcome refused(KafkaError error, const broker::PartitionRef& target,
                             std::string why) {
  return {error, "partition " + target.topic + "-" + std::to_string(target.partition) + ": " +
                     std::move(why)};
}

std::string node_text(NodeId id) {
  return "node " + std::to_string(id.value);
}

/// The partition, if there is one.
const catalog::Partition* partition_of(const catalog::Topic* topic, std::int32_t index) {
  if (topic == nullptr || index < 0 || static_cast<std::size_t>(index) >= topic->partitions.size())
    return nullptr;
  return topic->partitions[static_cast<std::size_t>(index)].get();
}

/// Whether the leader is to be moved; else the outcome is there.
void judge(const broker::Broker& broker, const catalog::Topic& topic,
           const catalog::Partition& partition, Election& out) {
  const broker::PartitionRoles roles = broker.roles(topic, partition);
  out.id = {topic.id, partition.index};
  out.preferred = roles.replicas.front();
  const std::string who = node_text(out.preferred);
  if (roles.leader == out.preferred) {
    out.outcome = refused(KafkaError::kElectionNotNeeded, out.target, who + " leads it already");
  } else if (!broker.reachable(out.preferred)) {
    out.outcome = refused(KafkaError::kPreferredLeaderNotAvailable, out.target,
                          who + ", which its assignment prefers, cannot be reached; start it");
  } else if (std::ranges::find(roles.in_sync, out.preferred) == roles.in_sync.end() &&
             !PYRALOG_PLANT("kafka.elect_who_lags")) {
    // Whoever is to lead first copies what it lacks, and nobody leads meanwhile.
    out.outcome = refused(
        KafkaError::kPreferredLeaderNotAvailable, out.target,
        who +
            ", which its assignment prefers, does not have all of it yet; try again when it "
            "is in sync");
  } else {
    out.open = true;
  }
}

/// What an unclean election gets: it may lose records, so the topic has to say that it may.
void refuse_unclean(const broker::Broker& broker, const catalog::Topic& topic,
                    const catalog::Partition& partition, Election& out) {
  const auto leader = broker.roles(topic, partition).leader;
  out.outcome =
      leader
          ? refused(KafkaError::kElectionNotNeeded, out.target,
                    node_text(*leader) + " leads it already")
          : refused(
                KafkaError::kInvalidRequest, out.target,
                "an unclean election is not to be had by request; start its other replicas, or, if "
                "records that only they have may be lost, set unclean.leader.election.enable=true "
                "for the "
                "topic until it is led");
}

/// Moves one leader after another; several of these share the work.
io::Task<void> move_leaders(Service& service, const Request& request, Elections& work) {
  while (work.next < work.all.size()) {
    Election& each = work.all[work.next++];
    if (!each.open) continue;
    if (request.answers != nullptr && request.answers->left()) co_return;
    if (io::Shard::current().now() >= work.deadline &&
        !PYRALOG_PLANT("kafka.elect_past_the_deadline"))
      co_return;
    auto outcome = co_await service.broker().move_leader(each.target, each.preferred);
    if (outcome.error == KafkaError::kNone) continue;
    each.outcome = std::move(outcome);
    each.open = false;
  }
}

/// Whether it is decided by now who leads after the move.
bool is_decided(const broker::Broker& broker, Election& each) {
  const broker::CatalogPtr state = broker.catalog();
  const catalog::Partition* partition = state->partition(each.id);
  if (partition == nullptr) {
    each.outcome = refused(KafkaError::kUnknownTopicOrPartition, each.target,
                           "its topic was deleted meanwhile");
    return true;
  }
  if (!partition->current || partition->highest_proposed > partition->current->epoch) {
    each.seen = each.seen || partition->candidate == each.preferred;
    return false;
  }
  const NodeId leader = partition->current->leader;
  if (leader == each.preferred) return true;
  if (!each.seen) return false;  // what was moved has not come here yet
  each.outcome = refused(KafkaError::kPreferredLeaderNotAvailable, each.target,
                         node_text(each.preferred) + " was asked to lead and could not, " +
                             node_text(leader) + " leads instead; see the log of both");
  return true;
}

/// Waits until those whose move was asked for are led; what is open after that was not in time.
io::Task<void> wait_led(Service& service, const Request& request, Elections& work) {
  std::vector<Election*> open;
  for (Election& each : work.all) {
    if (each.open) open.push_back(&each);
  }
  std::uint64_t seen = 0;
  while (true) {
    const std::uint64_t position = service.broker().catalog()->position();
    if (std::exchange(seen, position) != position) {
      std::erase_if(open, [&](Election* each) {
        if (!is_decided(service.broker(), *each)) return false;
        each->open = false;
        return true;
      });
    }
    const bool left = request.fetch_end != nullptr && request.fetch_end->ended();
    if (open.empty() || left || PYRALOG_PLANT("kafka.elect_without_waiting") ||
        io::Shard::current().now() >= work.deadline)
      co_return;
    const Instant look = io::Shard::current().now() + kLookEvery;
    (void)co_await service.broker().wait_news(std::min(look, work.deadline));
  }
}

}  // namespace

Handled handle_elect_leaders(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::ElectLeadersRequest>(request));
  wire::ElectLeadersResponse out;
  const std::int8_t type = request.version() == 0 ? kPreferred : in.election_type;
  if (type != kPreferred && type != kUnclean) {
    out.error_code = code(KafkaError::kInvalidRequest);
    co_return reply(request, out);
  }
  Elections work;
  work.deadline = io::Shard::current().now() +
                  std::min<Duration>(std::chrono::milliseconds(std::max(in.timeout_ms, 0)),
                                     service.options().max_request_time);
  const auto state = service.broker().catalog();
  const auto add = [&](const std::string& name, std::int32_t index,
                       const catalog::Topic* topic) -> Result<void> {
    Election each;
    each.target = {name, index};
    const catalog::Partition* partition = partition_of(topic, index);
    if (partition == nullptr) {
      each.outcome = refused(KafkaError::kUnknownTopicOrPartition, each.target,
                             "there is no such partition; check the topic and the number");
    } else if (type == kUnclean) {
      refuse_unclean(service.broker(), *topic, *partition, each);
    } else {
      judge(service.broker(), *topic, *partition, each);
    }
    // Of all partitions only those are told of that were to be moved.
    if (!in.topic_partitions && each.outcome.error == KafkaError::kElectionNotNeeded) return {};
    work.all.push_back(std::move(each));
    if (PYRALOG_PLANT("kafka.elect_without_bound")) return {};
    return request.take_room(2 * sizeof each + 3 * name.size() +
                             work.all.back().outcome.message.size());
  };
  if (in.topic_partitions) {
    std::set<broker::PartitionRef> wanted;
    for (const auto& named : *in.topic_partitions) {
      const auto topic = state->topic(named.topic);
      for (const std::int32_t index : named.partitions) {
        const bool fresh =
            wanted.insert({named.topic, index}).second || PYRALOG_PLANT("kafka.elect_twice");
        if (fresh) PYRALOG_CO_TRY(add(named.topic, index, topic.get()));
      }
    }
    std::ranges::sort(work.all, {}, &Election::target);
  } else {
    for (const auto& topic : state->topics()) {
      for (const auto& each : topic->partitions)
        PYRALOG_CO_TRY(add(topic->name, each->index.value, topic.get()));
    }
  }
  io::TaskGroup moves;
  for (int i = 0; i < kAtOnce; ++i) moves.spawn(move_leaders(service, request, work));
  co_await moves.join();
  co_await wait_led(service, request, work);
  for (Election& each : work.all) {
    if (each.open) {
      each.outcome = refused(KafkaError::kRequestTimedOut, each.target,
                             node_text(each.preferred) +
                                 " does not lead it yet, and may still; look again, or allow "
                                 "more time");
    }
    if (out.replica_election_results.empty() ||
        out.replica_election_results.back().topic != each.target.topic) {
      out.replica_election_results.emplace_back().topic = each.target.topic;
    }
    auto& to = out.replica_election_results.back().partition_result.emplace_back();
    to.partition_id = each.target.partition;
    to.error_code = code(each.outcome.error);
    if (!each.outcome.message.empty()) to.error_message = std::move(each.outcome.message);
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
