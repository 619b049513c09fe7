// Clients that keep offsets in a group: bare commits, and a lone member that joins, commits in its
// generation and joins again after every failure.
#include <algorithm>
#include <set>

#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/heartbeat.h"
#include "wire/kafka/gen/join_group.h"
#include "wire/kafka/gen/offset_commit.h"
#include "wire/kafka/gen/offset_fetch.h"
#include "wire/kafka/gen/sync_group.h"
#include "world.h"

namespace pyralog::simtest {

namespace {

using namespace std::chrono_literals;
constexpr Duration kPatience = 300ms;

class Committer {
 public:
  Committer(World& world, unsigned number, bool member, std::uint64_t seed)
      : world_(world),
        member_(member),
        group_(fmt::format("group-{}", number)),
        topic_(world.topics().front().name),
        rng_(seed),
        link_(group_) {}

  io::Task<void> run() {
    while (const auto busy = co_await world_.enter(rng_, 30ms)) {
      if (!co_await world_.connect(link_)) continue;
      if (!found_ && !co_await find()) continue;
      if (member_ && generation_ < 0 && !co_await join()) continue;
      if (rng_.chance(0.3)) {
        co_await fetch();
      } else if (member_ && rng_.chance(0.2)) {
        co_await beat();
      } else {
        co_await commit();
      }
    }
    link_.close();
  }

 private:
  io::Task<bool> find() {
    wire::FindCoordinatorRequest request;
    request.key = group_;
    auto answer = co_await link_.call<wire::FindCoordinatorResponse>(std::move(request), 3, 1s);
    found_ = answer && answer->message.error_code == 0;
    co_return found_;
  }

  io::Task<bool> join() {
    wire::JoinGroupRequest request;
    request.group_id = group_;
    request.session_timeout_ms = 10'000;
    request.rebalance_timeout_ms = 100;
    request.member_id = member_id_;
    request.protocol_type = "consumer";
    request.protocols.push_back({"range", Bytes{0, 0}});
    auto answer = co_await link_.call<wire::JoinGroupResponse>(std::move(request), 7, 1s);
    if (!answer) co_return false;
    const auto error = static_cast<KafkaError>(answer->message.error_code);
    world_.count(fmt::format("client.join_error_{}", answer->message.error_code));
    if (error == KafkaError::kMemberIdRequired) member_id_ = answer->message.member_id;
    if (error == KafkaError::kUnknownMemberId) member_id_.clear();
    if (error != KafkaError::kNone) co_return false;
    member_id_ = answer->message.member_id;
    const std::int32_t joined = answer->message.generation_id;
    world_.trace.add("{} joined in generation {}", group_, joined);
    if (joined <= settled_generation_) {
      world_.oracle.violate(
          fmt::format("{}: generation {} after {}", group_, joined, settled_generation_));
    }
    wire::SyncGroupRequest sync;
    sync.group_id = group_;
    sync.generation_id = joined;
    sync.member_id = member_id_;
    if (answer->message.leader == member_id_) sync.assignments.push_back({member_id_, Bytes{0, 0}});
    auto synced = co_await link_.call<wire::SyncGroupResponse>(std::move(sync), 3, kPatience);
    if (!synced || synced->message.error_code != 0) co_return false;
    generation_ = settled_generation_ = joined;
    world_.count("client.group_joined");
    co_return true;
  }

  io::Task<void> beat() {
    wire::HeartbeatRequest request;
    request.group_id = group_;
    request.generation_id = generation_;
    request.member_id = member_id_;
    auto answer = co_await link_.call<wire::HeartbeatResponse>(std::move(request), 3, kPatience);
    if (!answer || answer->message.error_code != 0) generation_ = -1;
    if (answer) world_.count(fmt::format("client.heartbeat_error_{}", answer->message.error_code));
  }

  io::Task<void> commit() {
    const std::int64_t offset = ++last_;
    wire::OffsetCommitRequest request;
    request.group_id = group_;
    if (member_) {
      request.generation_id_or_member_epoch = generation_;
      request.member_id = member_id_;
    }
    auto& topic = request.topics.emplace_back();
    topic.name = topic_;
    auto& partition = topic.partitions.emplace_back();
    partition.committed_offset = offset;
    partition.committed_metadata = fmt::format("m{}", offset);
    in_doubt_.emplace(offset, world_.life());
    auto answer = co_await link_.call<wire::OffsetCommitResponse>(std::move(request), 8, kPatience);
    world_.trace.add("{} commits {}: {}", group_, offset,
                     answer
                         ? std::to_string(answer->message.topics.at(0).partitions.at(0).error_code)
                         : "no answer");
    if (!answer) co_return;
    const auto error =
        static_cast<KafkaError>(answer->message.topics.at(0).partitions.at(0).error_code);
    if (error == KafkaError::kNone) {
      world_.count("client.committed");
      acknowledged_ = offset;
      // What was in doubt in this life may still come late, over a connection that was given up.
      std::erase_if(in_doubt_,
                    [&](const auto& d) { return d.first == offset || d.second != world_.life(); });
      co_return;
    }
    count_error("commit", error);
    generation_ = -1;
  }

  void count_error(const char* what, KafkaError error) {
    world_.count(fmt::format("client.{}_error_{}", what, static_cast<int>(error)));
    switch (error) {
      case KafkaError::kCoordinatorLoadInProgress:
      case KafkaError::kCoordinatorNotAvailable:
      case KafkaError::kNotCoordinator:
      case KafkaError::kRequestTimedOut:
      case KafkaError::kRebalanceInProgress:
      case KafkaError::kKafkaStorageError:
        return;
      default:
        world_.oracle.violate(
            fmt::format("{}: {} failed with error {}", group_, what, static_cast<int>(error)));
    }
  }

  io::Task<void> fetch() {
    wire::OffsetFetchRequest request;
    request.group_id = group_;
    request.topics.emplace().push_back({topic_, {0}});
    auto answer = co_await link_.call<wire::OffsetFetchResponse>(std::move(request), 5, kPatience);
    if (!answer) co_return;
    if (answer->message.error_code != 0) {
      count_error("offset_fetch", static_cast<KafkaError>(answer->message.error_code));
      co_return;
    }
    const auto& found = answer->message.topics.at(0).partitions.at(0);
    world_.trace.add("{} has committed {}", group_, found.committed_offset);
    world_.count("client.offset_fetched");
    const bool fits = found.committed_offset == acknowledged_ ||
                      std::ranges::any_of(in_doubt_, [&](const auto& d) {
                        return d.first == found.committed_offset;
                      });
    if (!fits) {
      world_.oracle.violate(fmt::format("{}: offset {} is committed, {} was acknowledged last",
                                        group_, found.committed_offset, acknowledged_));
    }
    if (found.committed_offset >= 0 &&
        found.metadata != fmt::format("m{}", found.committed_offset)) {
      world_.oracle.violate(fmt::format("{}: metadata {} beside offset {}", group_,
                                        found.metadata.value_or("null"), found.committed_offset));
    }
    if (found.committed_offset != acknowledged_) world_.count("rare.doubtful_commit_stood");
  }

  World& world_;
  bool member_;
  std::string group_;
  std::string topic_;
  io::SeededRng rng_;
  Link link_;
  bool found_ = false;
  std::string member_id_;
  std::int32_t generation_ = -1;
  std::int32_t settled_generation_ = 0;
  std::int64_t last_ = 0;
  std::int64_t acknowledged_ = -1;
  std::set<std::pair<std::int64_t, std::uint64_t>> in_doubt_;  ///< offset, life
};

}  // namespace

io::Task<void> run_committer(World& world, unsigned number, bool member, std::uint64_t seed) {
  Committer committer(world, number, member, seed);
  co_await committer.run();
}

}  // namespace pyralog::simtest
