#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "client/cluster.h"
#include "group/assignor.h"
#include "io/shard.h"
#include "wire/kafka/gen/join_group.h"

namespace pyralog::client {

struct MembershipOptions {
  std::string group;
  std::optional<std::string> instance_id;  ///< static membership
  Duration session_timeout = 45s;
  Duration rebalance_timeout = 60s;
  Duration heartbeat_interval = 3s;
  /// In order of preference. With only kCooperativeSticky members keep what they do not lose; with
  /// any other they give everything up before a rebalance.
  std::vector<group::Assignor> assignors = {group::Assignor::kRange,
                                            group::Assignor::kCooperativeSticky};
};

using Offsets = std::map<TopicPartition, std::int64_t>;

/// One consumer's part in a classic group: join, assign if it leads, sync, heartbeats, offsets,
/// leave. Lives on one shard; leave() before destroying.
class Membership {
 public:
  /// `changed` is called when a rebalance has begun or the membership is lost.
  Membership(Cluster& cluster, MembershipOptions options, std::function<void()> changed);
  Membership(const Membership&) = delete;
  Membership& operator=(const Membership&) = delete;
  ~Membership();

  /// Joins or rejoins and returns what this member gets, after as many rebalances as it takes.
  /// `owned` is what it holds and means to keep. Bound by `deadline`; may take a rebalance timeout.
  [[nodiscard]] io::Task<Result<std::vector<TopicPartition>>> join(
      std::vector<std::string> topics, std::vector<TopicPartition> owned, Instant deadline);
  /// True before the first join, when the coordinator asks for a rebalance, and after being fenced.
  [[nodiscard]] bool needs_join() const { return needs_join_; }
  void ask_to_rejoin() { needs_join_ = true; }
  /// True if the coordinator no longer counts this member: what it held is another's by now.
  [[nodiscard]] bool lost() const { return lost_; }
  [[nodiscard]] bool cooperative() const;

  /// Stores offsets of partitions; kFenced if the group has moved on.
  [[nodiscard]] io::Task<Result<void>> commit(Offsets offsets, Instant deadline);
  /// The stored offsets; partitions without one are absent.
  [[nodiscard]] io::Task<Result<Offsets>> committed(std::vector<TopicPartition> partitions,
                                                    Instant deadline);
  /// Tells the group, if it still counts us, and ends the heartbeats.
  [[nodiscard]] io::Task<void> leave(Instant deadline);

  [[nodiscard]] std::int32_t generation() const { return generation_; }
  [[nodiscard]] const std::string& member_id() const { return member_id_; }

 private:
  /// kUnavailable = go round again.
  [[nodiscard]] io::Task<Result<std::vector<TopicPartition>>> join_once(
      std::vector<std::string> topics, std::vector<TopicPartition> owned, Instant deadline);
  [[nodiscard]] io::Task<Result<std::map<std::string, Bytes>>> divide(
      wire::kafka::JoinGroupResponse joined, Instant deadline);
  [[nodiscard]] io::Task<Result<Bytes>> sync(std::string protocol,
                                             std::map<std::string, Bytes> assignments,
                                             Instant deadline);
  /// What a group error means for this member; the error to report.
  Error note(std::int16_t code, const std::optional<std::string>& said = std::nullopt);
  io::Task<void> beat();

  Cluster& cluster_;
  MembershipOptions options_;
  std::function<void()> changed_;
  std::string member_id_;
  std::int32_t generation_ = -1;
  bool needs_join_ = true;
  bool joined_ = false;  ///< heartbeats are due
  bool lost_ = false;
  bool leaving_ = false;
  bool beating_ = false;
  io::WaitList beat_now_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::client
