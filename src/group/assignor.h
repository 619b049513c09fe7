#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace pyralog::group {

/// The client's side of a classic group: how the leader divides partitions, and the bytes of
/// Kafka's consumer protocol in which members say what they want. Pure functions; any thread.

using TopicPartition = std::pair<std::string, std::int32_t>;

/// ConsumerProtocolSubscription, version 0 to 3.
struct Subscription {
  std::vector<std::string> topics;
  std::optional<Bytes> user_data;
  std::vector<TopicPartition> owned;  ///< version ≥ 1
  std::int32_t generation = -1;       ///< version ≥ 2
  std::optional<std::string> rack;    ///< version ≥ 3
};
/// ConsumerProtocolAssignment.
struct Assignment {
  std::vector<TopicPartition> partitions;
  std::optional<Bytes> user_data;
};

/// Writes version 3, and 0 for assignments, which every client reads.
[[nodiscard]] Bytes encode(const Subscription& subscription);
[[nodiscard]] Bytes encode(const Assignment& assignment);
/// kCorrupt for bytes that break the schema; versions above 3 are read as 3, as Kafka asks. What
/// the eager sticky assignor of the Java client says of its partitions in the user data is read
/// into `owned` and `generation`. No bytes at all are an empty assignment.
[[nodiscard]] Result<Subscription> decode_subscription(ByteView bytes);
/// Of a subscription only the topics, sorted, each once.
[[nodiscard]] Result<std::vector<std::string>> decode_topics(ByteView subscription);
[[nodiscard]] Result<Assignment> decode_assignment(ByteView bytes);
/// The user data in which an eager sticky member says what it had: StickyAssignorUserData 1.
[[nodiscard]] Bytes encode_sticky_user_data(const std::vector<TopicPartition>& owned,
                                            std::int32_t generation);

struct AssignmentMember {
  std::string id;
  std::optional<std::string> instance_id;
  Subscription subscription;
};
/// Topic → number of partitions; topics that do not exist are absent.
using PartitionCounts = std::map<std::string, std::int32_t>;
/// Member id → its partitions, sorted; every member has an entry.
using Assignments = std::map<std::string, std::vector<TopicPartition>>;

enum class Assignor : std::uint8_t { kRange, kRoundRobin, kSticky, kCooperativeSticky };
/// "range", "roundrobin", "sticky", "cooperative-sticky".
[[nodiscard]] const char* name(Assignor assignor);
[[nodiscard]] std::optional<Assignor> find_assignor(std::string_view name);

/// Range: per topic, contiguous runs; the first n mod m members get one more.
/// Round robin: all partitions in order, members in turns.
/// Sticky: balanced (two members that could exchange differ by at most one), keeping as much as
/// possible of what members say they own; of two claims the higher generation wins.
/// Cooperative sticky: sticky, but a partition that changes hands is left out until its owner has
/// given it up, so that nobody stops consuming what it keeps.
[[nodiscard]] Assignments assign(Assignor assignor, const std::vector<AssignmentMember>& members,
                                 const PartitionCounts& topics);

}  // namespace pyralog::group
