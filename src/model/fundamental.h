#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/strong.h"

namespace pyralog::model {

/// Position of a record in its partition, dense from 0; what Kafka clients see.
using Offset = Strong<std::int64_t, struct OffsetTag>;
/// Leadership epoch of a partition; 0 is none, the first is 1; at most 2³¹−1 (Kafka's leader epoch).
using Epoch = Strong<std::uint32_t, struct EpochTag>;
/// epoch[32] ∥ (offset − epoch.start)[32]; computed, never stored.
using Lsn = Strong<std::uint64_t, struct LsnTag>;
/// Index of a partition in its topic, from 0.
using PartitionIndex = Strong<std::int32_t, struct PartitionIndexTag>;
/// A node of the cluster; from 1.
using NodeId = Strong<std::int32_t, struct NodeIdTag>;
/// Kafka's producer id; −1 = none.
using ProducerId = Strong<std::int64_t, struct ProducerIdTag>;

/// 128 random bits, RFC 4122 version 4 where we make them. All zero = none.
struct Uuid {
  std::array<std::uint8_t, 16> bytes{};
  friend auto operator<=>(const Uuid&, const Uuid&) = default;
  [[nodiscard]] bool is_nil() const { return *this == Uuid{}; }
};
/// Lower-case hex with hyphens: "0188d1e2-…", 36 characters.
[[nodiscard]] std::string to_string(const Uuid& id);
/// kInvalidArgument for anything but the form that to_string writes (either case).
[[nodiscard]] Result<Uuid> parse_uuid(std::string_view text);

/// Names a topic for good: a topic that is deleted and created again gets another id.
struct TopicId {
  Uuid uuid;
  friend auto operator<=>(const TopicId&, const TopicId&) = default;
};

struct PartitionId {
  TopicId topic;
  PartitionIndex partition;
  friend auto operator<=>(const PartitionId&, const PartitionId&) = default;
};
/// "TOPICUUID-PARTITION": the partition's directory name.
[[nodiscard]] std::string to_string(const PartitionId& id);
[[nodiscard]] Result<PartitionId> parse_partition_id(std::string_view text);

/// What "written" means for a topic (topic setting `durability`).
enum class Durability : std::uint8_t { kMemory = 0, kOs = 1, kFsync = 2 };
[[nodiscard]] const char* name(Durability durability);
[[nodiscard]] Result<Durability> parse_durability(std::string_view text);

/// What a producer waits for; Kafka's acks 0, 1, −1.
enum class Acks : std::int8_t { kAll = -1, kNone = 0, kLeader = 1 };

/// Where an epoch of a partition begins; a partition's epochs are kept oldest first.
struct EpochStart {
  Epoch epoch;
  Offset start;
  friend bool operator==(const EpochStart&, const EpochStart&) = default;
};

/// True for names that Kafka accepts: 1 to 249 of [a-zA-Z0-9._-], not "." nor "..".
[[nodiscard]] bool is_valid_topic_name(std::string_view name);

}  // namespace pyralog::model

namespace pyralog {
using namespace model;
}  // namespace pyralog

template <>
struct std::hash<pyralog::model::Uuid> {
  std::size_t operator()(const pyralog::model::Uuid& id) const noexcept {
    std::size_t h;
    static_assert(sizeof h <= sizeof id.bytes);
    std::memcpy(&h, id.bytes.data() + 8, sizeof h);
    return h;
  }
};
template <>
struct std::hash<pyralog::model::TopicId> {
  std::size_t operator()(const pyralog::model::TopicId& id) const noexcept {
    return std::hash<pyralog::model::Uuid>{}(id.uuid);
  }
};
template <>
struct std::hash<pyralog::model::PartitionId> {
  std::size_t operator()(const pyralog::model::PartitionId& id) const noexcept {
    return std::hash<pyralog::model::TopicId>{}(id.topic) * 31u +
           static_cast<std::size_t>(id.partition.value);
  }
};
