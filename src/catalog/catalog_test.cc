#include "catalog/catalog.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>

#include "base/crc32c.h"
#include "catalog/catalog_testing.h"

namespace pyralog::catalog {
namespace {

using namespace testing;

Code code_of(const Result<void>& result) {
  return result ? Code{-1} : result.error().code;
}
constexpr Code kTaken{-1};

TEST(Catalog, begins_with_the_cluster_and_only_once) {
  Catalog c;
  EXPECT_EQ(code_of(apply(c, node(1))), Code::kInvalidArgument);
  EXPECT_EQ(code_of(apply(c, ClusterCreated{uuid(1), 16, WallMs{1}})), kTaken);
  EXPECT_EQ(c.cluster(), uuid(1));
  EXPECT_EQ(c.epoch_groups(), 16);
  EXPECT_EQ(code_of(apply(c, ClusterCreated{uuid(2), 16, WallMs{1}})), Code::kAlreadyExists);
  EXPECT_EQ(c.cluster(), uuid(1));
}

TEST(Catalog, takes_positions_in_order) {
  Catalog c = cluster();
  const std::uint64_t at = c.position();
  EXPECT_FALSE(c.apply(topic(1, "a"), at).has_value());
  EXPECT_TRUE(c.apply(topic(1, "a"), at + 7).has_value());
  EXPECT_EQ(c.position(), at + 7);
  EXPECT_FALSE(c.apply(topic(2, "a"), at + 8).has_value());
  EXPECT_EQ(c.position(), at + 7) << "a refusal does not move the position";
}

TEST(Catalog, registers_a_disk_only_with_a_growing_boot_counter) {
  Catalog c = cluster();
  EXPECT_EQ(code_of(apply(c, node(1, 1))), Code::kFenced) << "an older or copied directory";
  EXPECT_EQ(code_of(apply(c, node(1, 2))), kTaken);
  NodeRegistered other = node(1, 1);
  other.incarnation = uuid(77);
  EXPECT_EQ(code_of(apply(c, other)), Code::kFenced) << "an unknown disk";
  other.replace_disk = true;
  EXPECT_EQ(code_of(apply(c, other)), kTaken);
  EXPECT_EQ(code_of(apply(c, node(1, 9))), Code::kFenced) << "the replaced disk came back";
  NodeRegistered stolen = node(2);
  stolen.incarnation = uuid(77);
  EXPECT_EQ(code_of(apply(c, stolen)), Code::kFenced) << "another node's disk";
}

TEST(Catalog, finds_topics_by_name_and_id_sorted) {
  Catalog c = cluster();
  for (int i = 0; i < 200; ++i) {
    const auto n = static_cast<std::uint8_t>(i);
    ASSERT_EQ(code_of(apply(c, topic(n, "t" + std::to_string(i)))), kTaken);
  }
  EXPECT_EQ(c.topic_count(), 200u);
  EXPECT_EQ(c.topic("t42")->id, topic_id(42));
  EXPECT_EQ(c.topic(topic_id(42))->name, "t42");
  EXPECT_EQ(c.topic("t200"), nullptr);
  const auto all = c.topics();
  ASSERT_EQ(all.size(), 200u);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(),
                             [](const auto& a, const auto& b) { return a->name < b->name; }));
}

TEST(Catalog, a_copy_keeps_what_it_saw) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  const Catalog before = c;
  ASSERT_TRUE(apply(c, TopicDeleted{topic_id(1)}));
  ASSERT_TRUE(apply(c, topic(2, "b")));
  EXPECT_NE(before.topic("a"), nullptr);
  EXPECT_EQ(before.topic("b"), nullptr);
  EXPECT_EQ(c.topic("a"), nullptr);
}

TEST(Catalog, refuses_bad_and_colliding_names) {
  Catalog c = cluster();
  for (const std::string& bad : {std::string(), std::string("."), std::string(".."),
                                 std::string("a b"), std::string("ä"), std::string(250, 'x')}) {
    EXPECT_EQ(code_of(apply(c, topic(1, bad))), Code::kInvalidArgument) << bad;
  }
  ASSERT_TRUE(apply(c, topic(1, "a.b_c")));
  EXPECT_EQ(code_of(apply(c, topic(2, "a_b.c"))), Code::kAlreadyExists);
  EXPECT_EQ(code_of(apply(c, topic(2, "a.b_c"))), Code::kAlreadyExists);
  ASSERT_TRUE(apply(c, TopicDeleted{topic_id(1)}));
  EXPECT_EQ(code_of(apply(c, topic(2, "a_b.c"))), kTaken);
}

TEST(Catalog, never_takes_a_deleted_topics_id_again) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  ASSERT_TRUE(apply(c, TopicDeleted{topic_id(1)}));
  EXPECT_TRUE(c.was_deleted(topic_id(1)));
  EXPECT_EQ(code_of(apply(c, topic(1, "a"))), Code::kAlreadyExists);
  const auto restored = Catalog::decode_snapshot(c.encode_snapshot());
  ASSERT_TRUE(restored);
  Catalog again = *restored;
  EXPECT_EQ(code_of(apply(again, topic(1, "b"))), Code::kAlreadyExists) << "nor after a restart";
  EXPECT_EQ(code_of(apply(again, topic(2, "a"))), kTaken);
}

/// The snapshot of a catalogue that remembers deletions of `ids` at their positions.
Bytes snapshot_with(const Catalog& none_deleted,
                    const std::vector<std::pair<TopicId, std::uint64_t>>& deleted) {
  Bytes bytes = none_deleted.encode_snapshot();
  bytes.resize(bytes.size() - 8);  // their number and the checksum
  Writer out;
  out.raw(bytes).le(static_cast<std::uint32_t>(deleted.size()));
  for (const auto& [id, position] : deleted) out.raw(id.uuid.bytes).le(position);
  out.le(crc32c(out.view()));
  return out.take();
}

TEST(Catalog, remembers_the_last_deleted_topics_and_no_more) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  // One more than fits, the oldest in the middle by id.
  std::vector<std::pair<TopicId, std::uint64_t>> deleted(Catalog::kMaxDeleted + 1);
  for (std::uint32_t n = 0; n < deleted.size(); ++n) {
    deleted[n].first = topic_id(9);
    store_be(deleted[n].first.uuid.bytes.data(), n + 1);
    deleted[n].second = 1000 + (n + deleted.size() / 2) % deleted.size();
  }
  const auto with_position = [&deleted](std::uint64_t position) {
    return std::ranges::find(deleted, position, [](const auto& each) { return each.second; })
        ->first;
  };
  auto restored = Catalog::decode_snapshot(snapshot_with(c, deleted));
  ASSERT_TRUE(restored) << restored.error().message;
  EXPECT_FALSE(restored->was_deleted(with_position(1000))) << "an older version has written it";
  EXPECT_TRUE(restored->was_deleted(with_position(1001)));
  EXPECT_TRUE(restored->was_deleted(with_position(1000 + Catalog::kMaxDeleted)));
  const std::size_t full = restored->encode_snapshot().size();
  ASSERT_TRUE(restored->apply(TopicDeleted{topic_id(1)}, 200'000));
  EXPECT_TRUE(restored->was_deleted(topic_id(1)));
  EXPECT_FALSE(restored->was_deleted(with_position(1001)));
  EXPECT_TRUE(restored->was_deleted(with_position(1002)));
  EXPECT_LT(restored->encode_snapshot().size(), full);
  const auto again = Catalog::decode_snapshot(restored->encode_snapshot());
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, *restored);
}

TEST(Catalog, refuses_a_snapshot_with_a_deletion_twice) {
  const Catalog c = cluster();
  EXPECT_TRUE(Catalog::decode_snapshot(snapshot_with(c, {{topic_id(1), 5}, {topic_id(2), 4}})));
  EXPECT_FALSE(Catalog::decode_snapshot(snapshot_with(c, {{topic_id(1), 5}, {topic_id(1), 6}})));
  EXPECT_FALSE(Catalog::decode_snapshot(snapshot_with(c, {{topic_id(1), 5}, {topic_id(2), 5}})));
  EXPECT_FALSE(Catalog::decode_snapshot(snapshot_with(c, {{topic_id(2), 5}, {topic_id(1), 6}})));
}

TEST(Catalog, refuses_min_insync_above_the_replication_factor) {
  Catalog c = cluster(2);
  TopicCreated t = topic(1, "a", 1, {NodeId(1), NodeId(2)});
  t.settings = {{"min.insync.replicas", "3"}};
  EXPECT_EQ(code_of(apply(c, t)), Code::kInvalidArgument);
  t.settings = {{"min.insync.replicas", "2"}};
  EXPECT_EQ(code_of(apply(c, t)), kTaken);
  EXPECT_EQ(code_of(apply(c, TopicSettingsChanged{topic_id(1), {{"min.insync.replicas", "3"}}})),
            Code::kInvalidArgument);
  EXPECT_EQ(c.topic("a")->config.min_insync_replicas, 2);
  EXPECT_EQ(write_quorum(2, 1), 2);
  EXPECT_EQ(write_quorum(3, 1), 2);
  EXPECT_EQ(write_quorum(3, 3), 3);
  EXPECT_EQ(write_quorum(1, 2), 1) << "a cluster-wide default cannot make a topic unwritable";
}

TEST(Catalog, a_topic_in_memory_stays_there_and_no_other_gets_there) {
  Catalog c = cluster();
  const TopicCreated disk = topic(1, "disk");
  TopicCreated memory = topic(2, "memory");
  memory.settings = {{"durability", "memory"}};
  ASSERT_TRUE(apply(c, disk));
  ASSERT_TRUE(apply(c, memory));
  EXPECT_EQ(code_of(apply(c, TopicSettingsChanged{disk.id, {{"durability", "memory"}}})),
            Code::kInvalidArgument);
  EXPECT_TRUE(apply(c, TopicSettingsChanged{disk.id, {{"durability", "os"}}}));
  EXPECT_EQ(code_of(apply(c, TopicSettingsChanged{memory.id, {{"durability", "fsync"}}})),
            Code::kInvalidArgument);
  EXPECT_EQ(code_of(apply(c, TopicSettingsChanged{memory.id, {{"durability", std::nullopt}}})),
            Code::kInvalidArgument);
  EXPECT_EQ(code_of(apply(c, ClusterSettingsChanged{{{"durability", "memory"}}})),
            Code::kInvalidArgument);
  EXPECT_TRUE(apply(c, ClusterSettingsChanged{{{"durability", "os"}}}));
  EXPECT_EQ(c.topic("memory")->config.durability, Durability::kMemory);
}

TEST(Catalog, cluster_defaults_reach_every_topic_that_has_no_own_value) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  ASSERT_TRUE(apply(c, topic(2, "b")));
  ASSERT_TRUE(apply(c, TopicSettingsChanged{topic_id(2), {{"retention.ms", "5"}}}));
  ASSERT_TRUE(apply(c, ClusterSettingsChanged{{{"log.retention.ms", "9"}}}));
  EXPECT_EQ(c.topic("a")->config.retention_ms, 9);
  EXPECT_EQ(c.topic("b")->config.retention_ms, 5);
  ASSERT_TRUE(apply(c, ClusterSettingsChanged{{{"log.retention.ms", std::nullopt}}}));
  EXPECT_EQ(c.topic("a")->config.retention_ms, 604'800'000);
  EXPECT_EQ(code_of(apply(c, ClusterSettingsChanged{{{"no.such", "1"}}})), Code::kInvalidArgument);
}

TEST(Catalog, a_cluster_default_leaves_alone_whom_it_does_not_change) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a.x")));
  ASSERT_TRUE(apply(c, topic(2, "b_y")));
  ASSERT_TRUE(apply(c, topic(3, "c")));
  ASSERT_TRUE(apply(c, TopicSettingsChanged{topic_id(2), {{"retention.ms", "5"}}}));
  ASSERT_TRUE(apply(c, TopicSettingsChanged{topic_id(3), {{"segment.bytes", "2000"}}}));
  const Catalog before = c;
  ASSERT_TRUE(apply(c, ClusterSettingsChanged{{{"log.retention.ms", "9"}}}));
  EXPECT_EQ(c.topic("b_y"), before.topic("b_y")) << "the very same";
  for (const char* name : {"a.x", "c"}) {
    EXPECT_EQ(c.topic(name)->config.retention_ms, 9);
    EXPECT_EQ(c.topic(name), c.topic(c.topic(name)->id)) << "under its id, too";
    EXPECT_EQ(c.topic(name), c.collision(name));
    EXPECT_EQ(before.topic(name)->config.retention_ms, 604'800'000) << "a copy stays";
  }
  EXPECT_EQ(c.topic("c")->config.segment_bytes, 2000);
  EXPECT_EQ(c.collision("a_x"), c.topic("a.x"));
  const Catalog again = c;
  ASSERT_TRUE(apply(c, ClusterSettingsChanged{{{"log.retention.ms", "9"}}}));
  for (const TopicPtr& each : c.topics()) EXPECT_EQ(each, again.topic(each->name));
}

TEST(Catalog, a_cluster_default_is_less_work_than_setting_it_for_every_topic) {
  constexpr std::uint32_t kTopics = 3000;
  Catalog c = cluster();
  const auto id = [](std::uint32_t n) {
    TopicId made = topic_id(7);
    store_be(made.uuid.bytes.data() + 4, n);
    return made;
  };
  for (std::uint32_t n = 0; n < kTopics; ++n) {
    TopicCreated made = topic(7, "topic." + std::to_string(n));
    made.id = id(n);
    ASSERT_TRUE(apply(c, made));
  }
  const auto seconds_since = [](std::clock_t began) {
    return static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
  };
  double together = 1e9;
  for (int turn = 0; turn < 3; ++turn) {
    const std::clock_t began = std::clock();
    ASSERT_TRUE(apply(c, ClusterSettingsChanged{{{"log.retention.ms", std::to_string(turn)}}}));
    together = std::min(together, seconds_since(began));
  }
  const std::clock_t began = std::clock();
  for (std::uint32_t n = 0; n < kTopics; ++n) {
    ASSERT_TRUE(apply(c, TopicSettingsChanged{id(n), {{"retention.ms", "5"}}}));
  }
  EXPECT_LT(together * 4, seconds_since(began));
}

TEST(Catalog, adds_partitions_behind_those_there_are) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a", 2)));
  const std::vector<std::vector<NodeId>> one{{NodeId(1)}};
  EXPECT_FALSE(apply(c, PartitionsAdded{topic_id(1), PartitionIndex(1), one}));
  EXPECT_TRUE(apply(c, PartitionsAdded{topic_id(1), PartitionIndex(2), one}));
  EXPECT_FALSE(apply(c, PartitionsAdded{topic_id(1), PartitionIndex(3), {{NodeId(9)}}}));
  ASSERT_EQ(c.topic("a")->partitions.size(), 3u);
  EXPECT_EQ(c.partition(partition_id(1, 2))->index, PartitionIndex(2));
  EXPECT_EQ(c.partition(partition_id(1, 3)), nullptr);
  EXPECT_EQ(c.partition(partition_id(1, -1)), nullptr);
}

TEST(Catalog, hands_out_producer_ids_once) {
  Catalog c = cluster();
  EXPECT_TRUE(apply(c, ProducerIdBlock{0, 1000, NodeId(1)}));
  EXPECT_FALSE(apply(c, ProducerIdBlock{0, 1000, NodeId(1)}));
  EXPECT_FALSE(apply(c, ProducerIdBlock{999, 1000, NodeId(1)}));
  EXPECT_TRUE(apply(c, ProducerIdBlock{1000, 1, NodeId(1)}));
  EXPECT_EQ(c.next_producer_id(), 1001);
}

TEST(Catalog, knows_where_nodes_reach_each_other_and_keeps_it_over_their_starts) {
  Catalog c = cluster(2);
  const Bytes alone = c.encode_snapshot();
  EXPECT_EQ(load_le<std::uint16_t>(alone.data() + 8), 1)
      << "older versions read what a lone node writes";
  EXPECT_FALSE(apply(c, PeerRegistered{NodeId(3), uuid(103), "h", 9093, 2})) << "no such node";
  EXPECT_FALSE(apply(c, PeerRegistered{NodeId(2), uuid(101), "h", 9093, 2})) << "another disk";
  EXPECT_FALSE(apply(c, PeerRegistered{NodeId(2), uuid(102), "", 9093, 2}));
  EXPECT_FALSE(apply(c, PeerRegistered{NodeId(2), uuid(102), "h", 0, 2}));
  ASSERT_TRUE(apply(c, PeerRegistered{NodeId(2), uuid(102), "h", 9093, 2}));
  ASSERT_TRUE(apply(c, node(2, 7)));
  EXPECT_EQ(c.node(NodeId(2))->peer_host, "h");
  EXPECT_EQ(c.node(NodeId(2))->feature_level, 2);
  EXPECT_EQ(c.node(NodeId(1))->peer_host, "");
  const auto back = Catalog::decode_snapshot(c.encode_snapshot());
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, c);
}

Catalog cluster_with_levels(std::vector<std::uint16_t> levels) {
  Catalog c = cluster(static_cast<int>(levels.size()));
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i + 1);
    EXPECT_TRUE(apply(c, PeerRegistered{NodeId(id), uuid(static_cast<std::uint8_t>(100 + id)), "h",
                                        9093, levels[i]}));
  }
  return c;
}

TEST(Catalog, takes_no_entry_that_one_of_its_nodes_does_not_understand) {
  Catalog c = cluster_with_levels({3, 2, 3});
  EXPECT_EQ(c.level(), 2);
  EXPECT_EQ(c.understood(), 2);
  const Catalog before = c;
  for (const Entry& entry : {Entry(NodeDraining{NodeId(1), true}), Entry(FeatureLevelRaised{3})}) {
    const auto refused = c.apply(entry, c.position() + 1);
    ASSERT_FALSE(refused) << "plant: catalog.newer_while_mixed";
    EXPECT_EQ(refused.error().code, Code::kUnsupported);
    EXPECT_NE(refused.error().message.find("node 2 does not"), std::string::npos);
  }
  EXPECT_EQ(c, before);
  EXPECT_EQ(load_le<std::uint16_t>(c.encode_snapshot().data() + 8), 2);
  EXPECT_TRUE(Catalog::decode_snapshot(c.encode_snapshot(), 2));
  ASSERT_TRUE(apply(c, PeerRegistered{NodeId(2), uuid(102), "h", 9093, 3}));
  EXPECT_EQ(c.level(), 2);
  ASSERT_TRUE(apply(c, NodeDraining{NodeId(1), true}));
  EXPECT_EQ(c.level(), 3);
}

TEST(Catalog, a_node_may_go_back_until_the_level_is_raised_and_never_afterwards) {
  Catalog c = cluster_with_levels({3, 3});
  ASSERT_TRUE(apply(c, PeerRegistered{NodeId(2), uuid(102), "h", 9093, 2}));
  ASSERT_TRUE(apply(c, PeerRegistered{NodeId(2), uuid(102), "h", 9093, 3}));
  ASSERT_TRUE(apply(c, FeatureLevelRaised{3}));
  EXPECT_EQ(c.level(), 3);
  EXPECT_FALSE(apply(c, FeatureLevelRaised{3}));
  const auto refused =
      c.apply(PeerRegistered{NodeId(2), uuid(102), "h", 9093, 2}, c.position() + 1);
  ASSERT_FALSE(refused) << "plant: catalog.take_older_node";
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  const Bytes snapshot = c.encode_snapshot();
  EXPECT_EQ(Catalog::decode_snapshot(snapshot, 2).error().code, Code::kUnsupported);
  const auto back = Catalog::decode_snapshot(snapshot);
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, c);
}

TEST(Catalog, who_has_not_said_beside_others_understands_the_least_of_a_cluster) {
  Catalog c = cluster(2);
  EXPECT_EQ(c.understood(), 0);
  EXPECT_TRUE(c.may_write(3)) << "a lone node says nothing to anybody";
  ASSERT_TRUE(apply(c, PeerRegistered{NodeId(1), uuid(101), "h", 9093, 3}));
  EXPECT_EQ(c.understood(), 2);
  const auto refused = apply(c, CounterBlock{"orders", 1, 10});
  ASSERT_FALSE(refused) << "plant: catalog.unsaid_is_newest";
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  EXPECT_NE(refused.error().message.find("node 2 does not understand (it has not said)"),
            std::string::npos);
  EXPECT_NE(refused.error().message.find("; finish the rolling upgrade"), std::string::npos);
  ASSERT_TRUE(apply(c, PeerRegistered{NodeId(2), uuid(102), "h", 9093, 3}));
  EXPECT_TRUE(apply(c, CounterBlock{"orders", 1, 10}));
}

TEST(Catalog, opens_a_snapshot_of_form_2) {
  Writer out;
  out.raw(as_bytes(std::string_view("PYRACAT1"))).le(std::uint16_t{2}).le(std::uint16_t{2});
  out.le(std::uint64_t{7});
  write_uuid(out, uuid(1));
  out.le(std::uint16_t{16}).le(std::int64_t{1}).le(std::int64_t{500});
  out.le(std::uint32_t{1}).le(std::int32_t{1});
  write_uuid(out, uuid(101));
  out.le(std::uint64_t{3}).sized("host").le(std::int32_t{9092}).sized("rack");
  out.sized("peer").le(std::int32_t{9093}).le(std::uint16_t{2}).le(std::uint32_t{0});
  out.le(std::uint32_t{0}).le(std::uint32_t{0});  // settings, machines
  out.le(std::uint32_t{1});
  write_uuid(out, uuid(9));
  out.sized("orders").le(std::int64_t{1000}).le(std::uint32_t{0}).le(std::uint32_t{1});
  write_nodes(out, {NodeId(1)});
  out.le(std::uint32_t{0}).le(std::int32_t{0}).le(std::uint8_t{0});
  out.le(std::uint32_t{0}).le(std::uint8_t{0});  // epochs, lost
  out.le(std::uint32_t{0});                      // deleted
  out.le(crc32c(out.view()));
  const auto read = Catalog::decode_snapshot(out.view(), 2);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->level(), 2);
  EXPECT_EQ(read->node(NodeId(1))->peer_host, "peer");
  EXPECT_EQ(read->node(NodeId(1))->role, NodeRole::kAll);
  EXPECT_EQ(read->topic("orders")->partitions.at(0)->replicas, (std::vector<NodeId>{NodeId(1)}));
  EXPECT_EQ(read->encode_snapshot(), Bytes(out.view().begin(), out.view().end()));
}

TEST(Catalog, machine_ids_only_ever_get_a_higher_ceiling) {
  Catalog c = cluster(2);
  EXPECT_TRUE(apply(c, MachineIdGranted{3, NodeId(1), 100}));
  EXPECT_FALSE(apply(c, MachineIdGranted{3, NodeId(2), 100}));
  EXPECT_TRUE(apply(c, MachineIdGranted{3, NodeId(2), 101}));
  EXPECT_FALSE(apply(c, MachineIdGranted{1024, NodeId(1), 1}));
  EXPECT_EQ(c.machine_grants().at(3), (MachineGrant{NodeId(2), 101}));
}

TEST(Catalog, hands_out_blocks_of_a_counter_once) {
  Catalog c = cluster();
  EXPECT_FALSE(apply(c, CounterBlock{"orders", 0, 10})) << "the first starts at 1";
  ASSERT_TRUE(apply(c, CounterBlock{"orders", 1, 10}));
  for (const std::int64_t start : {1, 10, 12}) {
    const auto again = apply(c, CounterBlock{"orders", start, 10});
    ASSERT_FALSE(again) << start;
    EXPECT_EQ(again.error().code, Code::kFenced);
  }
  ASSERT_TRUE(apply(c, CounterBlock{"orders", 11, kMaxCounterBlock}));
  EXPECT_EQ(*c.counters().find("orders"), 11 + kMaxCounterBlock);
  EXPECT_FALSE(apply(c, CounterBlock{"orders", 11 + kMaxCounterBlock, 0}));
  EXPECT_FALSE(apply(c, CounterBlock{"orders", 11 + kMaxCounterBlock, kMaxCounterBlock + 1}));
  for (const char* name : {"", "Orders", "a b", "a/b"})
    EXPECT_FALSE(apply(c, CounterBlock{name, 1, 1})) << name;
  EXPECT_FALSE(apply(c, CounterBlock{std::string(250, 'a'), 1, 1}));
  EXPECT_TRUE(apply(c, CounterBlock{std::string(249, 'a'), 1, 1}));
  const auto back = Catalog::decode_snapshot(c.encode_snapshot());
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, c);
}

TEST(Catalog, has_so_many_counters_and_no_more) {
  Catalog c = cluster();
  for (std::size_t i = 0; i < kMaxCounters; ++i)
    ASSERT_TRUE(apply(c, CounterBlock{"c" + std::to_string(i), 1, 1}));
  const auto one_more = apply(c, CounterBlock{"more", 1, 1});
  ASSERT_FALSE(one_more);
  EXPECT_EQ(one_more.error().code, Code::kExhausted);
  EXPECT_TRUE(apply(c, CounterBlock{"c7", 2, 1})) << "those that are there go on";
  EXPECT_TRUE(Catalog::decode_snapshot(c.encode_snapshot()));
}

// ---- Epochs ----

TEST(CatalogEpochs, activates_upwards_from_where_the_last_one_ended) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  EXPECT_FALSE(apply(c, activated(activation(1, 0, 0))));
  EXPECT_TRUE(apply(c, activated(activation(1, 1, 0))));
  EXPECT_EQ(code_of(apply(c, activated(activation(1, 1, 0)))), Code::kFenced);
  EXPECT_TRUE(apply(c, activated(activation(1, 2, 10))));
  EXPECT_FALSE(apply(c, activated(activation(1, 3, 9)))) << "acknowledged records would be cut";
  EpochActivation unclean = activation(1, 3, 9);
  unclean.unclean = true;
  EXPECT_TRUE(apply(c, activated(unclean)));
  const Partition& p = *c.partition(partition_id(1));
  EXPECT_EQ(p.current->epoch, Epoch(3));
  EXPECT_EQ(p.epochs, (std::vector<EpochStart>{{Epoch(1), Offset(0)}, {Epoch(3), Offset(9)}}));
}

TEST(CatalogEpochs, only_the_highest_proposed_is_activated_and_only_by_its_candidate) {
  Catalog c = cluster(2);
  ASSERT_TRUE(apply(c, topic(1, "a", 1, {NodeId(1), NodeId(2)})));
  ASSERT_TRUE(apply(c, EpochProposed{partition_id(1), Epoch(3), NodeId(1)}));
  ASSERT_TRUE(apply(c, EpochProposed{partition_id(1), Epoch(5), NodeId(2)}));
  EXPECT_EQ(code_of(apply(c, EpochProposed{partition_id(1), Epoch(5), NodeId(1)})), Code::kFenced);
  EXPECT_EQ(code_of(apply(c, activated(activation(1, 3, 0, 1)))), Code::kFenced)
      << "a higher epoch was proposed since";
  EXPECT_EQ(code_of(apply(c, activated(activation(1, 5, 0, 1)))), Code::kFenced)
      << "somebody else proposed it";
  EXPECT_EQ(code_of(apply(c, activated(activation(1, 5, 0, 2)))), kTaken);
  EXPECT_EQ(c.partition(partition_id(1))->current->leader, NodeId(2));
}

TEST(CatalogEpochs, whoever_has_others_to_seal_proposes_first) {
  Catalog c = cluster(2);
  ASSERT_TRUE(apply(c, topic(1, "a", 1, {NodeId(1), NodeId(2)})));
  EpochActivation both = activation(1, 1, 0);
  both.replicas.push_back(activation(1, 1, 0, 2).replicas.front());
  ASSERT_TRUE(apply(c, activated(both)));
  both.epoch = Epoch(2);
  EXPECT_EQ(code_of(apply(c, activated(both))), Code::kFenced);
  ASSERT_TRUE(apply(c, EpochProposed{partition_id(1), Epoch(2), NodeId(1)}));
  EXPECT_TRUE(apply(c, activated(both)));
  ASSERT_TRUE(apply(c, EpochProposed{partition_id(1), Epoch(3), NodeId(1)}));
  ASSERT_TRUE(apply(c, activated(activation(1, 3, 0))));
  EXPECT_EQ(code_of(apply(c, activated(activation(1, 4, 0, 2)))), Code::kFenced)
      << "node 1 may still acknowledge";
  EXPECT_TRUE(apply(c, activated(activation(1, 4, 0)))) << "it has nobody to ask";
}

TEST(CatalogEpochs, forgets_epochs_without_records) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  for (std::uint32_t e = 1; e <= 4; ++e) ASSERT_TRUE(apply(c, activated(activation(1, e, 0))));
  ASSERT_TRUE(apply(c, activated(activation(1, 5, 20))));
  ASSERT_TRUE(apply(c, activated(activation(1, 6, 30))));
  EXPECT_EQ(c.partition(partition_id(1))->epochs,
            (std::vector<EpochStart>{
                {Epoch(4), Offset(0)}, {Epoch(5), Offset(20)}, {Epoch(6), Offset(30)}}));
  EpochActivation trimmed = activation(1, 7, 40);
  trimmed.log_start = Offset(30);
  ASSERT_TRUE(apply(c, activated(trimmed)));
  EXPECT_EQ(c.partition(partition_id(1))->epochs,
            (std::vector<EpochStart>{{Epoch(6), Offset(30)}, {Epoch(7), Offset(40)}}));
}

TEST(CatalogEpochs, a_batch_is_taken_whole_or_not_at_all) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  ASSERT_TRUE(apply(c, topic(2, "b")));
  const Catalog before = c;
  EXPECT_FALSE(apply(c, EpochsActivated{{activation(1, 1, 0), activation(2, 0, 0)}}));
  EXPECT_FALSE(apply(c, EpochsActivated{{activation(1, 1, 0), activation(1, 2, 0)}}));
  EXPECT_TRUE(c == before);
  EXPECT_TRUE(apply(c, EpochsActivated{{activation(1, 1, 0), activation(2, 1, 0)}}));
}

TEST(CatalogEpochs, counts_only_registered_disks) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  EpochActivation a = activation(1, 1, 0);
  a.replicas[0].incarnation = uuid(9);
  EXPECT_EQ(code_of(apply(c, activated(a))), Code::kFenced);
  a = activation(1, 1, 0);
  a.write_quorum = 2;
  EXPECT_EQ(code_of(apply(c, activated(a))), Code::kInvalidArgument);
}

TEST(CatalogEpochs, a_sealed_epoch_goes_on_where_it_ended) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  ASSERT_TRUE(apply(c, activated(activation(1, 1, 0))));
  EXPECT_FALSE(apply(c, EpochSealed{partition_id(1), Epoch(2), Offset(5)}));
  EXPECT_TRUE(apply(c, EpochSealed{partition_id(1), Epoch(1), Offset(5)}));
  EXPECT_EQ(code_of(apply(c, EpochSealed{partition_id(1), Epoch(1), Offset(5)})), Code::kFenced);
  EXPECT_FALSE(apply(c, activated(activation(1, 2, 6))));
  EXPECT_TRUE(apply(c, activated(activation(1, 2, 5))));
}

TEST(CatalogEpochs, remembers_the_newest_lost_ranges) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  for (int i = 0; i < 70; ++i) {
    ASSERT_TRUE(apply(c, LostRange{partition_id(1), Offset(i), Offset(i + 1), "power", WallMs{i}}));
  }
  const auto& lost = c.partition(partition_id(1))->lost;
  ASSERT_EQ(lost.size(), 64u);
  EXPECT_EQ(lost.front().from, Offset(6));
}

// ---- Snapshots ----

TEST(CatalogSnapshot, refuses_damage_and_newer_forms) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  const Bytes sound = c.encode_snapshot();
  ASSERT_TRUE(Catalog::decode_snapshot(sound));
  for (std::size_t i = 0; i < sound.size(); ++i) {
    Bytes damaged = sound;
    damaged[i] ^= 0x40;
    EXPECT_FALSE(Catalog::decode_snapshot(damaged)) << i;
    EXPECT_FALSE(Catalog::decode_snapshot(ByteView(sound).first(i))) << i;
  }
  Bytes newer = sound;
  newer[10] = 9;
  const auto refused = Catalog::decode_snapshot(newer);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  EXPECT_NE(refused.error().message.find("feature level 9"), std::string::npos);
}

}  // namespace
}  // namespace pyralog::catalog
