#include "group/records.h"

#include <string_view>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"
#include "wire/kafka/gen/consumer_offsets.h"

namespace pyralog::group {
namespace {

namespace kafka = wire::kafka;

constexpr std::int16_t kOffsetKeyVersion = 1;
constexpr std::int16_t kGroupKeyVersion = 2;
constexpr std::int16_t kValueVersion = 3;
/// The only version with an expiry of its own; it has no leader epoch.
constexpr std::int16_t kExpiringValueVersion = 1;
/// A group of the largest size that `Options` allows fits.
constexpr kafka::DecodeLimits kLimits{.max_memory_bytes = 512u << 20};

/// Version, then message. Callers keep strings below the 32,767 bytes that the encoding allows.
template <typename Message>
Bytes encode_versioned(const Message& message, std::int16_t version) {
  kafka::Encoder out;
  out.i16(version);
  message.encode(out, version);
  PYRALOG_ASSERT(out.status().has_value());
  return out.take();
}

/// The version in front; −1 if there is none.
std::int16_t version_of(ByteView bytes) {
  return bytes.size() < 2 ? std::int16_t{-1} : load_be<std::int16_t>(bytes.data());
}

template <typename Message>
Result<Message> decode_versioned(ByteView bytes) {
  const std::int16_t version = version_of(bytes);
  if (version < 0) return fail(Code::kCorrupt, "__consumer_offsets: a record without version");
  if (version > Message::kMaxVersion) {
    return fail(Code::kUnsupported, "__consumer_offsets: a record of version " +
                                        std::to_string(version) +
                                        " was written by newer software; the record is skipped");
  }
  return kafka::decode_message<Message>(bytes.subspan(2), version, kLimits);
}

}  // namespace

Bytes encode_key(const OffsetKey& key) {
  return encode_versioned(kafka::OffsetCommitKey{key.group, key.topic, key.partition},
                          kOffsetKeyVersion);
}

Bytes encode_key(const GroupKey& key) {
  return encode_versioned(kafka::GroupMetadataKey{key.group}, kGroupKeyVersion);
}

Bytes encode_value(const OffsetValue& value) {
  kafka::OffsetCommitValue wire;
  wire.offset = value.offset;
  wire.leader_epoch = value.leader_epoch;
  wire.metadata = value.metadata;
  wire.commit_timestamp = value.commit_timestamp_ms;
  wire.expire_timestamp = value.expire_timestamp_ms;
  const bool expires = value.expire_timestamp_ms >= 0 && !PYRALOG_PLANT("group.forget_own_expiry");
  return encode_versioned(wire, expires ? kExpiringValueVersion : kValueVersion);
}

Bytes encode_value(const GroupValue& value) {
  kafka::GroupMetadataValue wire;
  wire.protocol_type = value.protocol_type;
  wire.generation = value.generation;
  wire.protocol = value.protocol;
  wire.leader = value.leader;
  wire.current_state_timestamp = value.state_timestamp_ms;
  wire.members.reserve(value.members.size());
  for (const StoredMember& m : value.members) {
    wire.members.push_back({m.member_id, m.instance_id, m.client_id, m.client_host,
                            m.rebalance_timeout_ms, m.session_timeout_ms, m.subscription,
                            m.assignment});
  }
  return encode_versioned(wire, kValueVersion);
}

Result<StoredKey> decode_key(ByteView bytes) {
  if (version_of(bytes) == kGroupKeyVersion) {
    PYRALOG_ASSIGN(auto key, decode_versioned<kafka::GroupMetadataKey>(bytes));
    return GroupKey{std::move(key.group)};
  }
  PYRALOG_ASSIGN(auto key, decode_versioned<kafka::OffsetCommitKey>(bytes));
  return OffsetKey{std::move(key.group), std::move(key.topic), key.partition};
}

Result<OffsetValue> decode_offset_value(ByteView bytes) {
  PYRALOG_ASSIGN(auto wire, decode_versioned<kafka::OffsetCommitValue>(bytes));
  return OffsetValue{wire.offset, wire.leader_epoch, std::move(wire.metadata),
                     wire.commit_timestamp, wire.expire_timestamp};
}

Result<GroupValue> decode_group_value(ByteView bytes) {
  PYRALOG_ASSIGN(auto wire, decode_versioned<kafka::GroupMetadataValue>(bytes));
  // Version 4 allows longer strings than we can write again.
  const bool writable =
      version_of(bytes) <= kValueVersion || kafka::encode_message(wire, kValueVersion).has_value();
  if (wire.generation < 0 || !writable) {
    return fail(Code::kCorrupt,
                "__consumer_offsets: a group with a negative generation or a name "
                "over 32767 bytes; the record is skipped");
  }
  GroupValue value;
  value.protocol_type = std::move(wire.protocol_type);
  value.generation = wire.generation;
  value.protocol = std::move(wire.protocol);
  value.leader = std::move(wire.leader);
  value.state_timestamp_ms = wire.current_state_timestamp;
  value.members.reserve(wire.members.size());
  for (auto& m : wire.members) {
    const std::int32_t rebalance = version_of(bytes) == 0 ? m.session_timeout : m.rebalance_timeout;
    value.members.push_back(StoredMember{std::move(m.member_id), std::move(m.group_instance_id),
                                         std::move(m.client_id), std::move(m.client_host),
                                         rebalance, m.session_timeout, std::move(m.subscription),
                                         std::move(m.assignment)});
  }
  return value;
}

std::int32_t partition_for(std::string_view group, std::int32_t partitions) {
  std::uint32_t hash = 0;
  const auto add = [&](std::uint32_t unit) { hash = hash * 31 + unit; };
  for (std::size_t i = 0; i < group.size();) {
    // Java hashes UTF-16; bytes that are no UTF-8 count one by one.
    const auto byte = [&](std::size_t at) { return static_cast<std::uint8_t>(group[at]); };
    const std::uint8_t lead = byte(i);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (length == 1 || lead < 0xC0 || i + length > group.size()) {
      add(lead);
      ++i;
      continue;
    }
    std::uint32_t point = lead & (0x7Fu >> length);
    for (std::size_t k = 1; k < length; ++k) point = (point << 6) | (byte(i + k) & 0x3Fu);
    if (point >= 0x10000) {
      point -= 0x10000;
      add(0xD800 + (point >> 10));
      add(0xDC00 + (point & 0x3FF));
    } else {
      add(point);
    }
    i += length;
  }
  const auto code = static_cast<std::int32_t>(hash);
  const std::int32_t positive = code == INT32_MIN ? 0 : code < 0 ? -code : code;
  return positive % partitions;
}

}  // namespace pyralog::group
