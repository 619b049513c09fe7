#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/time.h"
#include "model/fundamental.h"
#include "model/kafka_error.h"

namespace pyralog::group {

/// Names a request until it is answered; chosen by the caller.
using Token = std::uint64_t;

/// The two clocks, read once by the caller.
struct Now {
  Instant at;
  WallMs wall;
};

/// An assignor that a member offers, with what it tells that assignor; opaque to the coordinator.
struct Protocol {
  std::string name;
  Bytes metadata;
  friend bool operator==(const Protocol&, const Protocol&) = default;
};

// ---- What clients ask ----

struct JoinRequest {
  Token token = 0;
  std::string group;
  std::string member_id;                   ///< empty = new
  std::optional<std::string> instance_id;  ///< static member
  std::string client_id;
  std::string client_host;
  std::string protocol_type;
  std::vector<Protocol> protocols;  ///< in order of preference
  std::int32_t session_timeout_ms = 0;
  std::int32_t rebalance_timeout_ms = 0;      ///< version 0 has none: the session timeout
  bool require_known_member_id = false;       ///< version ≥ 4 (KIP-394)
  bool supports_skipping_assignment = false;  ///< version ≥ 9 (KIP-814)
  /// The id to give if the member is new: client id (or instance id) + "-" + a random UUID.
  std::string new_member_id;
};

struct SyncRequest {
  Token token = 0;
  std::string group;
  std::int32_t generation = -1;
  std::string member_id;
  std::optional<std::string> instance_id;
  std::optional<std::string> protocol_type;  ///< version ≥ 5
  std::optional<std::string> protocol_name;  ///< version ≥ 5
  struct Assignment {
    std::string member_id;
    Bytes assignment;
  };
  std::vector<Assignment> assignments;  ///< from the leader
};

struct HeartbeatRequest {
  Token token = 0;
  std::string group;
  std::int32_t generation = -1;
  std::string member_id;
  std::optional<std::string> instance_id;
};

struct LeaveRequest {
  Token token = 0;
  std::string group;
  struct Member {
    std::string member_id;  ///< empty = whoever has the instance id
    std::optional<std::string> instance_id;
  };
  std::vector<Member> members;
};

struct CommitRequest {
  Token token = 0;
  std::string group;
  std::int32_t generation =
      -1;  ///< −1 with an empty member id: a consumer without group management
  std::string member_id;
  std::optional<std::string> instance_id;
  struct Partition {
    std::string topic;
    std::int32_t partition = 0;
    std::int64_t offset = -1;
    std::int32_t leader_epoch = -1;
    std::string metadata;
  };
  std::vector<Partition> partitions;
  std::int64_t retention_ms = -1;  ///< versions 2–4: kept so long, whatever the group does; <0 none
};

struct DeleteRequest {
  Token token = 0;
  std::string group;
};

/// Forgets some of a group's offsets.
struct DeleteOffsetsRequest {
  Token token = 0;
  std::string group;
  struct Partition {
    std::string topic;
    std::int32_t partition = 0;
  };
  std::vector<Partition> partitions;
};

/// The topics no longer exist: their offsets go.
struct TopicsDeleted {
  std::vector<std::string> topics;
};

/// What became of an Append: committed (kNone) or not.
struct Appended {
  std::uint64_t append_id = 0;
  KafkaError error = KafkaError::kNone;
};

/// A timer that was asked for is due.
struct Tick {};

using Input = std::variant<JoinRequest, SyncRequest, HeartbeatRequest, LeaveRequest, CommitRequest,
                           DeleteRequest, DeleteOffsetsRequest, TopicsDeleted, Appended, Tick>;

// ---- What they are told ----

struct JoinResponse {
  KafkaError error = KafkaError::kNone;
  std::int32_t generation = -1;
  std::optional<std::string> protocol_type;
  std::optional<std::string> protocol_name;
  std::string leader;
  bool skip_assignment = false;
  std::string member_id;
  struct Member {
    std::string member_id;
    std::optional<std::string> instance_id;
    Bytes metadata;
  };
  std::vector<Member> members;  ///< for the leader only
};

struct SyncResponse {
  KafkaError error = KafkaError::kNone;
  std::optional<std::string> protocol_type;
  std::optional<std::string> protocol_name;
  Bytes assignment;
};

struct HeartbeatResponse {
  KafkaError error = KafkaError::kNone;
};

struct LeaveResponse {
  KafkaError error = KafkaError::kNone;
  struct Member {
    std::string member_id;
    std::optional<std::string> instance_id;
    KafkaError error = KafkaError::kNone;
  };
  std::vector<Member> members;
};

struct CommitResponse {
  struct Partition {
    std::string topic;
    std::int32_t partition = 0;
    KafkaError error = KafkaError::kNone;
  };
  std::vector<Partition> partitions;  ///< in the order of the request
};

struct DeleteResponse {
  KafkaError error = KafkaError::kNone;
};

struct DeleteOffsetsResponse {
  KafkaError error = KafkaError::kNone;  ///< of all; then there are no partitions
  std::vector<CommitResponse::Partition> partitions;  ///< in the order of the request
};

using Response = std::variant<JoinResponse, SyncResponse, HeartbeatResponse, LeaveResponse,
                              CommitResponse, DeleteResponse, DeleteOffsetsResponse>;

// ---- What the caller is to do ----

struct Reply {
  Token token = 0;
  Response response;
};

/// A record of the offsets topic; no value = tombstone.
struct StoredRecord {
  Bytes key;
  std::optional<Bytes> value;
};

/// Records to append to the coordinator's partition of __consumer_offsets with acks=all, as one
/// batch, or as several if one grows too large. Once all are below the high watermark, or one has
/// failed, the caller feeds Appended back; only then does the answer that waits for them go out.
/// Appends are made, and their outcomes fed back, in the order given.
struct Append {
  std::uint64_t append_id = 0;
  std::vector<StoredRecord> records;
};

/// What retention has forgotten by now, of appends that have ended.
struct Expired {
  std::uint64_t offsets = 0;
  std::uint64_t groups = 0;
  std::uint64_t failures = 0;  ///< appends that failed; what they meant is still there
  Expired& operator+=(const Expired& other) {
    offsets += other.offsets;
    groups += other.groups;
    failures += other.failures;
    return *this;
  }
};

/// A round of expiry over all groups of a table, in steps of bounded size.
struct ExpiryRound {
  WallMs now;        ///< must not run ahead of time: what expires is gone
  std::string next;  ///< the group to go on with; begins empty
  bool over = false;
};

struct Effects {
  std::vector<Append> appends;
  std::vector<Reply> replies;
  Instant next_timer = Instant::never();  ///< feed Tick then; replaces any earlier wish
  Expired expired;                        ///< by this step
};

// ---- Reads, answered at once ----

struct OffsetEntry {
  std::string topic;
  std::int32_t partition = 0;
  std::int64_t offset = -1;  ///< −1 = none committed
  std::int32_t leader_epoch = -1;
  std::string metadata;
  KafkaError error = KafkaError::kNone;
};
struct FetchOffsetsRequest {
  std::string group;
  struct Topic {
    std::string name;
    std::vector<std::int32_t> partitions;
  };
  std::optional<std::vector<Topic>> topics;  ///< none = all that the group has committed
};
struct FetchOffsetsResponse {
  KafkaError error = KafkaError::kNone;
  /// As asked, each that is committed once, however often it is asked for; or sorted by topic and
  /// partition.
  std::vector<OffsetEntry> partitions;
};

struct GroupDescription {
  KafkaError error = KafkaError::kNone;
  std::string group;
  std::string state;  ///< Empty, PreparingRebalance, CompletingRebalance, Stable, Dead
  std::string protocol_type;
  std::string protocol;  ///< the chosen assignor, if stable
  std::int32_t generation = 0;
  struct Member {
    std::string member_id;
    std::optional<std::string> instance_id;
    std::string client_id;
    std::string client_host;
    Bytes metadata;
    Bytes assignment;
  };
  std::vector<Member> members;
};

struct GroupListing {
  std::string group;
  std::string protocol_type;
  std::string state;
};
struct ListGroupsResponse {
  KafkaError error = KafkaError::kNone;
  std::vector<GroupListing> groups;  ///< sorted
};

}  // namespace pyralog::group
