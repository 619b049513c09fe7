#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "protocol/kafka/testing.h"

namespace pyralog::protocol::kafka::testing {

using Ids = std::vector<std::int32_t>;

inline Uuid disk_of(std::int32_t node) {
  return Uuid{{0xd1, static_cast<std::uint8_t>(node)}};
}

/// A node whose catalogue knows of nodes 2 and 3 and of what they lead.
class KafkaOfManyTest : public KafkaTest {
 protected:
  KafkaOfManyTest() {
    start();
    propose({catalog::NodeRegistered{NodeId(2), disk_of(2), 1, "10.0.0.2", 9192, "b", false},
             catalog::NodeRegistered{NodeId(3), disk_of(3), 1, "10.0.0.3", 9292, "c", false}});
  }
  io::Task<bool> stand(std::vector<catalog::Entry> entries) {
    const auto done = co_await cluster_->metadata().propose(
        [&](const catalog::Catalog&) -> Result<std::vector<catalog::Entry>> { return entries; });
    EXPECT_TRUE(done) << done.error().message;
    co_return done.has_value();
  }
  void propose(std::vector<catalog::Entry> entries) {
    EXPECT_TRUE(node().run([&] { return stand(entries); }));
  }
  static TopicId id_of(const std::string& topic) {
    return TopicId{Uuid{{0x70, static_cast<std::uint8_t>(topic.size())}}};
  }
  /// A topic with these replicas of each partition, that nobody leads yet.
  static catalog::Entry topic(const std::string& name,
                              std::vector<std::vector<NodeId>> partitions) {
    return catalog::TopicCreated{id_of(name), name, std::move(partitions), {}, WallMs{1}};
  }
  static catalog::EpochProposed proposed(TopicId topic, std::int32_t index, std::uint32_t epoch,
                                         std::int32_t candidate) {
    return {{topic, PartitionIndex(index)}, Epoch(epoch), NodeId(candidate)};
  }
  catalog::EpochsActivated led(TopicId topic, std::int32_t index, std::uint32_t epoch,
                               std::int32_t leader, Ids others = {}) const {
    catalog::EpochActivation made;
    made.partition = {topic, PartitionIndex(index)};
    made.epoch = Epoch(epoch);
    made.leader = NodeId(leader);
    others.insert(others.begin(), leader);
    for (const std::int32_t each : others) {
      made.replicas.push_back(
          {NodeId(each), each == 1 ? cluster_->cookie().incarnation : disk_of(each)});
    }
    return {{made}};
  }
  static std::vector<NodeId> nodes(const Ids& ids) {
    std::vector<NodeId> made;
    for (const std::int32_t id : ids) made.emplace_back(id);
    return made;
  }
};

}  // namespace pyralog::protocol::kafka::testing
