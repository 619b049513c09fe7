#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "client/cluster.h"
#include "client/membership.h"

namespace pyralog::client {

struct NewTopic {
  std::string name;
  std::int32_t partitions = -1;          ///< −1 = the server's default
  std::int16_t replication_factor = -1;  ///< −1 = the server's default
  std::vector<std::pair<std::string, std::string>> config;
};

struct ConfigEntry {
  std::string name;
  std::optional<std::string> value;
  std::int8_t source = -1;  ///< Kafka's number: 1 the topic itself, 4 and 5 defaults
  bool is_default = true;
};

struct GroupListing {
  std::string group;
  std::string protocol_type;
  std::string state;
};

struct GroupMember {
  std::string member_id;
  std::optional<std::string> instance_id;
  std::string client_id;
  std::string host;
  std::vector<TopicPartition> assigned;
};
struct GroupDescription {
  std::string group;
  std::string state;
  std::string protocol_type;
  std::string protocol;
  std::vector<GroupMember> members;
  Offsets offsets;  ///< committed
};

/// What became of the leader of a partition that was to be given back to its preferred replica.
enum class Election : std::uint8_t {
  kMoved,     ///< it leads now
  kNotNeeded  ///< it has led already
};
using Elections = std::map<TopicPartition, Result<Election>>;

/// Replicas of a partition that are being replaced by others.
struct Reassignment {
  std::vector<std::int32_t>
      replicas;  ///< that are to hold it, in order of preference, then `removing`
  std::vector<std::int32_t> adding;
  std::vector<std::int32_t> removing;
};
using Reassignments = std::map<TopicPartition, Reassignment>;

/// Numbered as DrainNode does.
enum class DrainChange : std::int8_t { kNone = 0, kDrain = 1, kDrainNoLonger = 2 };
/// How far a node is with giving everything to others, or what that would mean.
struct Drain {
  struct Stuck {
    TopicPartition partition;
    std::string reason;
  };
  bool draining = false;
  std::int32_t leading = 0;    ///< partitions that it leads
  std::int32_t under_way = 0;  ///< that are leaving it
  std::int32_t waiting = 0;    ///< that will, once others have
  std::int32_t stuck = 0;      ///< for which there is no other node
  std::vector<Stuck> examples;
  /// It holds nothing.
  [[nodiscard]] bool done() const {
    return leading == 0 && under_way == 0 && waiting == 0 && stuck == 0;
  }
};

/// Numbered as ChangeMember does.
enum class MemberChange : std::int8_t { kAdd = 1, kRemove = 2, kReplaceDisk = 3 };
/// A node, and where it listens for the others of its cluster.
struct MemberNode {
  std::int32_t node = 0;
  std::string host{};
  std::int32_t port = 0;
};

/// Administration. Each call goes on trying until `deadline` where an error may pass. One shard.
class Admin {
 public:
  explicit Admin(Cluster& cluster) : cluster_(cluster) {}
  [[nodiscard]] io::Task<Result<void>> create_topic(NewTopic topic, Instant deadline);
  /// The first error, after all have been tried.
  [[nodiscard]] io::Task<Result<void>> delete_topics(std::vector<std::string> names,
                                                     Instant deadline);
  [[nodiscard]] io::Task<Result<void>> grow_topic(std::string name, std::int32_t partitions,
                                                  Instant deadline);
  [[nodiscard]] io::Task<Result<std::vector<ConfigEntry>>> topic_config(std::string name,
                                                                        Instant deadline);
  /// nullopt puts a setting back to its default.
  [[nodiscard]] io::Task<Result<void>> alter_topic_config(
      std::string name, std::vector<std::pair<std::string, std::optional<std::string>>> changes,
      Instant deadline);
  /// Moves the start of each partition forward to an offset, −1 = its high watermark, and returns
  /// the new starts; a start that is there already stays. All leaders are asked, then the first
  /// error is told: kOutOfRange beyond the high watermark, kInvalidArgument for a topic that is
  /// compacted only.
  [[nodiscard]] io::Task<Result<Offsets>> delete_records(Offsets before, Instant deadline);
  /// Lets partitions be led by the replica that their assignment prefers, and returns once it does.
  /// Of all partitions (nullopt) only those are in the answer that it did not lead. kUnavailable
  /// for one whose preferred replica cannot lead now, kTimedOut if it may still come.
  [[nodiscard]] io::Task<Result<Elections>> elect_preferred(
      std::optional<std::set<TopicPartition>> partitions, Instant deadline);
  /// Gives a partition these replicas, in order of preference; nullopt takes back what is under
  /// way. Returns once that is decided: records are copied behind that. kInvalidArgument if the
  /// servers cannot hold it so, kNotFound if there is no such partition, or nothing to take back.
  /// Asked again while nobody can say what became of it, as `drain_node` is.
  [[nodiscard]] io::Task<Result<void>> reassign(TopicPartition partition,
                                                std::optional<std::vector<std::int32_t>> replicas,
                                                Instant deadline);
  /// All that are under way.
  [[nodiscard]] io::Task<Result<Reassignments>> reassignments(Instant deadline);
  /// Of servers of ours only; others: kUnsupported. kNotFound if there is no such node,
  /// kInvalidArgument if no other would be left.
  [[nodiscard]] io::Task<Result<Drain>> drain_node(std::int32_t node, DrainChange change,
                                                   Instant deadline);
  /// Lets a node come, takes one out, or lets one come with another disk. Of servers of ours only.
  /// kNotFound if there is no such node, kInvalidArgument with the reason if it cannot be. The
  /// nodes that there are.
  [[nodiscard]] io::Task<Result<std::vector<MemberNode>>> change_member(MemberNode node,
                                                                        MemberChange change,
                                                                        Instant deadline);
  /// The groups of all servers, by name.
  [[nodiscard]] io::Task<Result<std::vector<GroupListing>>> list_groups(Instant deadline);
  /// kNotFound if there is no such group.
  [[nodiscard]] io::Task<Result<GroupDescription>> describe_group(std::string group,
                                                                  Instant deadline);
  /// Stores `offsets` for a group without members, which need not exist yet. kAlreadyExists if it
  /// has members.
  [[nodiscard]] io::Task<Result<void>> commit_offsets(std::string group, Offsets offsets,
                                                      Instant deadline);
  /// Deletes a group without members, and its offsets. kAlreadyExists if it has members, kNotFound
  /// if there is no such group.
  [[nodiscard]] io::Task<Result<void>> delete_group(std::string group, Instant deadline);
  /// Forgets a group's offsets of `partitions`; one that has none is well. kAlreadyExists for a
  /// topic that members read, kNotFound if there is no such group; the first error of a partition.
  [[nodiscard]] io::Task<Result<void>> delete_offsets(std::string group,
                                                      std::set<TopicPartition> partitions,
                                                      Instant deadline);

 private:
  [[nodiscard]] io::Task<Result<void>> reassign_once(
      TopicPartition partition, std::optional<std::vector<std::int32_t>> replicas,
      Instant deadline);
  [[nodiscard]] io::Task<Result<Drain>> drain_node_once(std::int32_t node, DrainChange change,
                                                        Instant deadline);
  [[nodiscard]] io::Task<Result<Offsets>> group_offsets(std::string group, Instant deadline);
  Cluster& cluster_;
};

}  // namespace pyralog::client
