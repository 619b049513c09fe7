#pragma once
// Builders for the tests of this room.

#include <string>
#include <utility>
#include <vector>

#include "catalog/catalog.h"
#include "catalog/entry.h"

namespace pyralog::catalog::testing {

inline Uuid uuid(std::uint8_t n) {
  Uuid id;
  id.bytes[0] = 0xA0;
  id.bytes[15] = n;
  return id;
}
inline TopicId topic_id(std::uint8_t n) {
  return TopicId{uuid(n)};
}
inline PartitionId partition_id(std::uint8_t topic, std::int32_t partition = 0) {
  return PartitionId{topic_id(topic), PartitionIndex(partition)};
}
inline NodeRegistered node(std::int32_t id, std::uint64_t boot = 1, std::string rack = {}) {
  return NodeRegistered{NodeId(id), uuid(static_cast<std::uint8_t>(100 + id)),
                        boot,       "127.0.0.1",
                        9092,       std::move(rack),
                        false};
}
inline TopicCreated topic(std::uint8_t id, std::string name, std::size_t partitions = 1,
                          std::vector<NodeId> replicas = {NodeId(1)}) {
  return TopicCreated{topic_id(id),
                      std::move(name),
                      std::vector<std::vector<NodeId>>(partitions, std::move(replicas)),
                      {},
                      WallMs{1000}};
}
inline EpochActivation activation(std::uint8_t topic, std::uint32_t epoch, std::int64_t start,
                                  std::int32_t leader = 1) {
  EpochActivation a;
  a.partition = partition_id(topic);
  a.epoch = Epoch(epoch);
  a.start = Offset(start);
  a.leader = NodeId(leader);
  a.replicas = {Replica{NodeId(leader), uuid(static_cast<std::uint8_t>(100 + leader))}};
  return a;
}
inline EpochsActivated activated(EpochActivation a) {
  return EpochsActivated{{std::move(a)}};
}

/// A catalogue with a cluster and `nodes` nodes.
inline Catalog cluster(std::int32_t nodes = 1) {
  Catalog c;
  PYRALOG_ASSERT(c.apply(ClusterCreated{uuid(1), 16, WallMs{1}}, 1).has_value());
  for (std::int32_t n = 1; n <= nodes; ++n) {
    PYRALOG_ASSERT(c.apply(node(n), c.position() + 1).has_value());
  }
  return c;
}
inline Result<void> apply(Catalog& c, const Entry& entry) {
  return c.apply(entry, c.position() + 1);
}

}  // namespace pyralog::catalog::testing
