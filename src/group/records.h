#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "group/messages.h"

namespace pyralog::group {

/// The records of __consumer_offsets in Kafka's own schemas: OffsetCommitKey 1, OffsetCommitValue
/// 3 (1 if it has a time of its own at which it expires), GroupMetadataKey 2, GroupMetadataValue 3;
/// all older versions are read too.

struct OffsetKey {
  std::string group;
  std::string topic;
  std::int32_t partition = 0;
  friend auto operator<=>(const OffsetKey&, const OffsetKey&) = default;
};
struct GroupKey {
  std::string group;
  friend auto operator<=>(const GroupKey&, const GroupKey&) = default;
};
using StoredKey = std::variant<OffsetKey, GroupKey>;

struct OffsetValue {
  std::int64_t offset = -1;
  std::int32_t leader_epoch = -1;
  std::string metadata;
  std::int64_t commit_timestamp_ms = -1;
  std::int64_t expire_timestamp_ms = -1;  ///< version 1 only; −1 = by retention
  friend bool operator==(const OffsetValue&, const OffsetValue&) = default;
};

struct StoredMember {
  std::string member_id;
  std::optional<std::string> instance_id;
  std::string client_id;
  std::string client_host;
  std::int32_t rebalance_timeout_ms = 0;
  std::int32_t session_timeout_ms = 0;
  Bytes subscription;
  Bytes assignment;
  friend bool operator==(const StoredMember&, const StoredMember&) = default;
};
struct GroupValue {
  std::string protocol_type;
  std::int32_t generation = 0;
  std::optional<std::string> protocol;
  std::optional<std::string> leader;
  std::int64_t state_timestamp_ms = -1;
  std::vector<StoredMember> members;
  friend bool operator==(const GroupValue&, const GroupValue&) = default;
};

[[nodiscard]] Bytes encode_key(const OffsetKey& key);
[[nodiscard]] Bytes encode_key(const GroupKey& key);
[[nodiscard]] Bytes encode_value(const OffsetValue& value);
[[nodiscard]] Bytes encode_value(const GroupValue& value);

/// kUnsupported for a newer version, which a reader skips; kCorrupt for bytes that break the
/// schema.
[[nodiscard]] Result<StoredKey> decode_key(ByteView bytes);
[[nodiscard]] Result<OffsetValue> decode_offset_value(ByteView bytes);
[[nodiscard]] Result<GroupValue> decode_group_value(ByteView bytes);

/// The partition of __consumer_offsets that coordinates `group`: |java.lang.String.hashCode| mod
/// `partitions`, as Kafka.
[[nodiscard]] std::int32_t partition_for(std::string_view group, std::int32_t partitions);

}  // namespace pyralog::group
