#include "catalog/plan.h"

#include <gtest/gtest.h>

#include "catalog/catalog_testing.h"

namespace pyralog::catalog {
namespace {

using namespace testing;

KafkaError refused(const CreateTopic& request, const Catalog& c, const PlanOptions& options = {}) {
  const auto planned = plan_create_topic(request, c, WallMs{5}, uuid(50), options);
  if (!planned) EXPECT_FALSE(planned.error().message.empty());
  return planned ? KafkaError::kNone : planned.error().code;
}
CreateTopic create(std::string name, std::int32_t partitions = -1, std::int16_t replicas = -1) {
  CreateTopic r;
  r.name = std::move(name);
  r.partitions = partitions;
  r.replication_factor = replicas;
  return r;
}

TEST(PlanCreateTopic, fills_in_the_defaults) {
  for (const auto& [nodes, expected] : {std::pair{1, 1u}, {2, 2u}, {3, 3u}, {5, 3u}}) {
    const Catalog c = cluster(nodes);
    const auto planned = plan_create_topic(create("a"), c, WallMs{5}, uuid(50),
                                           PlanOptions{.default_partitions = 4});
    ASSERT_TRUE(planned);
    EXPECT_EQ(planned->partitions.size(), 4u);
    EXPECT_EQ(planned->partitions[0].size(), expected) << nodes;
    EXPECT_EQ(planned->created.ms, 5);
    Catalog copy = c;
    EXPECT_TRUE(apply(copy, *planned));
  }
}

TEST(PlanCreateTopic, refuses_with_kafkas_codes) {
  Catalog c = cluster(2);
  ASSERT_TRUE(apply(c, topic(1, "a.b")));
  EXPECT_EQ(refused(create("a.b"), c), KafkaError::kTopicAlreadyExists);
  EXPECT_EQ(refused(create("a_b"), c), KafkaError::kInvalidTopicException);
  EXPECT_EQ(refused(create("no/slash"), c), KafkaError::kInvalidTopicException);
  EXPECT_EQ(refused(create("x", 0), c), KafkaError::kInvalidPartitions);
  EXPECT_EQ(refused(create("x", -2), c), KafkaError::kInvalidPartitions);
  EXPECT_EQ(refused(create("x", 11), c, PlanOptions{.max_partitions = 10}),
            KafkaError::kInvalidPartitions);
  EXPECT_EQ(refused(create("x", 1, 3), c), KafkaError::kInvalidReplicationFactor);
  EXPECT_EQ(refused(create("x", 1, 0), c), KafkaError::kInvalidReplicationFactor);
  EXPECT_EQ(refused(create("x", 1, 2), c), KafkaError::kNone);

  CreateTopic r = create("x", 1, 1);
  r.settings = {{"min.insync.replicas", "2"}};
  EXPECT_EQ(refused(r, c), KafkaError::kInvalidConfig);
  r.settings = {{"compression.type", "gzip"}};
  EXPECT_EQ(refused(r, c), KafkaError::kInvalidConfig);
  r.settings = {{"retention.ms", std::nullopt}};
  EXPECT_EQ(refused(r, c), KafkaError::kInvalidConfig);
  r.settings = {{"no.such", "1"}};
  EXPECT_EQ(refused(r, c), KafkaError::kInvalidConfig);
}

TEST(PlanCreateTopic, takes_an_assignment_as_it_is_or_not_at_all) {
  const Catalog c = cluster(2);
  CreateTopic r = create("x");
  r.assignment = {{0, {NodeId(2), NodeId(1)}}, {1, {NodeId(1), NodeId(2)}}};
  const auto planned = plan_create_topic(r, c, WallMs{5}, uuid(50));
  ASSERT_TRUE(planned);
  EXPECT_EQ(planned->partitions[0], (std::vector<NodeId>{NodeId(2), NodeId(1)}));
  r.partitions = 2;
  EXPECT_EQ(refused(r, c), KafkaError::kInvalidRequest);
  for (const ManualAssignment& bad :
       {ManualAssignment{{1, {NodeId(1)}}}, ManualAssignment{{0, {NodeId(1), NodeId(1)}}},
        ManualAssignment{{0, {NodeId(7)}}}, ManualAssignment{{0, {}}},
        ManualAssignment{{0, {NodeId(1)}}, {1, {NodeId(1), NodeId(2)}}}}) {
    r = create("x");
    r.assignment = bad;
    EXPECT_EQ(refused(r, c), KafkaError::kInvalidReplicaAssignment);
  }
}

TEST(PlanDeleteTopic, by_name_and_by_id) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  EXPECT_EQ(plan_delete_topic("a", c)->id, topic_id(1));
  EXPECT_EQ(plan_delete_topic("b", c).error().code, KafkaError::kUnknownTopicOrPartition);
  EXPECT_EQ(plan_delete_topic(topic_id(1), c)->id, topic_id(1));
  EXPECT_EQ(plan_delete_topic(topic_id(2), c).error().code, KafkaError::kUnknownTopicId);
}

TEST(PlanCreateTopic, counts_the_partitions_of_all_topics) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a", 3)));
  const PlanOptions five{.max_partitions_in_all = 5};
  EXPECT_EQ(refused(create("b", 2), c, five), KafkaError::kNone);
  EXPECT_EQ(refused(create("b", 3), c, five), KafkaError::kInvalidPartitions);
  const auto planned = plan_create_topic(create("b", 3), c, WallMs{5}, uuid(50), five);
  ASSERT_FALSE(planned);
  EXPECT_NE(planned.error().message.find("max.partitions"), std::string::npos);
  EXPECT_EQ(refused(create("__consumer_offsets", 50), c, five), KafkaError::kNone)
      << "groups must not depend on it";
  EXPECT_TRUE(plan_create_partitions({"a", 5, {}}, c, five));
  EXPECT_EQ(plan_create_partitions({"a", 6, {}}, c, five).error().code,
            KafkaError::kInvalidPartitions);
}

TEST(PlanCreatePartitions, only_upwards) {
  Catalog c = cluster(2);
  ASSERT_TRUE(apply(c, topic(1, "a", 2, {NodeId(1)})));
  EXPECT_EQ(plan_create_partitions({"b", 3, {}}, c).error().code,
            KafkaError::kUnknownTopicOrPartition);
  EXPECT_EQ(plan_create_partitions({"a", 2, {}}, c).error().code, KafkaError::kInvalidPartitions);
  const auto planned = plan_create_partitions({"a", 5, {}}, c);
  ASSERT_TRUE(planned);
  EXPECT_EQ(planned->partitions.size(), 3u);
  EXPECT_TRUE(apply(c, *planned));
  EXPECT_EQ(plan_create_partitions({"a", 6, {{{NodeId(1), NodeId(2)}}}}, c).error().code,
            KafkaError::kInvalidReplicaAssignment);
  EXPECT_TRUE(plan_create_partitions({"a", 6, {{{NodeId(2)}}}}, c));
}

TEST(PlanAlterTopic, sets_deletes_appends_and_subtracts) {
  Catalog c = cluster();
  ASSERT_TRUE(apply(c, topic(1, "a")));
  const auto alter = [&](std::vector<AlterSetting> ops) {
    const auto planned = plan_alter_topic("a", ops, c);
    if (planned && !planned->changes.empty()) EXPECT_TRUE(apply(c, *planned));
    return planned ? KafkaError::kNone : planned.error().code;
  };
  const auto value = [&](const char* name) -> std::string {
    const auto& s = c.topic("a")->settings;
    return s.contains(name) ? s.at(name) : "none";
  };
  EXPECT_EQ(alter({{"retention.ms", AlterOp::kSet, "7"}}), KafkaError::kNone);
  EXPECT_EQ(value("retention.ms"), "7");
  EXPECT_EQ(alter({{"cleanup.policy", AlterOp::kAppend, "compact"}}), KafkaError::kNone);
  EXPECT_EQ(value("cleanup.policy"), "delete,compact") << "appended to the default";
  EXPECT_EQ(alter({{"cleanup.policy", AlterOp::kSubtract, "delete"}}), KafkaError::kNone);
  EXPECT_EQ(value("cleanup.policy"), "compact");
  EXPECT_EQ(alter({{"cleanup.policy", AlterOp::kSubtract, "compact"}}), KafkaError::kNone);
  EXPECT_EQ(value("cleanup.policy"), "");
  EXPECT_EQ(alter({{"retention.ms", AlterOp::kDelete, {}}}), KafkaError::kNone);
  EXPECT_EQ(value("retention.ms"), "none");
  EXPECT_EQ(alter({{"retention.ms", AlterOp::kAppend, "7"}}), KafkaError::kInvalidConfig);
  for (const AlterOp op : {AlterOp::kSet, AlterOp::kAppend, AlterOp::kSubtract}) {
    EXPECT_EQ(alter({{"retention.ms", op, {}}}), KafkaError::kInvalidRequest);
  }
  EXPECT_EQ(alter({{"retention.ms", AlterOp::kSet, "7"}, {"retention.ms", AlterOp::kDelete, {}}}),
            KafkaError::kInvalidRequest);
  EXPECT_EQ(alter({{"min.insync.replicas", AlterOp::kSet, "2"}}), KafkaError::kInvalidConfig);
  EXPECT_EQ(plan_alter_topic("b", {}, c).error().code, KafkaError::kUnknownTopicOrPartition);
}

TEST(PlanAlterTopic, replacing_drops_what_is_not_named) {
  Catalog c = cluster();
  TopicCreated t = topic(1, "a");
  t.settings = {{"retention.ms", "7"}, {"segment.ms", "8"}};
  ASSERT_TRUE(apply(c, t));
  const auto planned = plan_replace_topic_settings("a", {{"segment.ms", "9"}}, c);
  ASSERT_TRUE(planned);
  ASSERT_TRUE(apply(c, *planned));
  EXPECT_EQ(c.topic("a")->settings, (Settings{{"segment.ms", "9"}}));
}

TEST(PlanAlterTopic, a_log_in_memory_stays_one_and_so_does_a_log_on_disk) {
  Catalog c = cluster();
  TopicCreated memory = topic(1, "memory");
  memory.settings = {{"durability", "memory"}};
  ASSERT_TRUE(apply(c, memory));
  ASSERT_TRUE(apply(c, topic(2, "disk")));
  const auto code = [&](const char* name, AlterOp op, std::optional<std::string> value) {
    const auto planned = plan_alter_topic(name, {{"durability", op, std::move(value)}}, c);
    return planned ? KafkaError::kNone : planned.error().code;
  };
  EXPECT_EQ(code("disk", AlterOp::kSet, "memory"), KafkaError::kInvalidConfig);
  EXPECT_EQ(code("disk", AlterOp::kSet, "os"), KafkaError::kNone);
  EXPECT_EQ(code("memory", AlterOp::kSet, "os"), KafkaError::kInvalidConfig);
  EXPECT_EQ(code("memory", AlterOp::kDelete, std::nullopt), KafkaError::kInvalidConfig);
  EXPECT_EQ(plan_replace_topic_settings("memory", {}, c).error().code, KafkaError::kInvalidConfig);
}

TEST(PlanAlterCluster, knows_the_brokers_names) {
  Catalog c = cluster();
  const auto planned = plan_alter_cluster({{"log.retention.ms", AlterOp::kSet, "5"}}, c);
  ASSERT_TRUE(planned);
  EXPECT_TRUE(apply(c, *planned));
  EXPECT_EQ(c.cluster_settings().at("log.retention.ms"), "5");
  // What has another name there, or none, is refused, and the message has the name that is meant.
  const auto refusal = [&](const std::string& name) {
    const auto refused = plan_alter_cluster({{name, AlterOp::kSet, "5"}}, c);
    EXPECT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, KafkaError::kInvalidConfig);
    return refused.error().message;
  };
  EXPECT_NE(refusal("retention.ms").find("by default is log.retention.ms"), std::string::npos);
  EXPECT_NE(refusal("record.validation").find("only topics have it"), std::string::npos);
  EXPECT_NE(refusal("no.such").find("nothing has this name"), std::string::npos);
  ASSERT_TRUE(apply(c, topic(1, "t")));
  const auto topics = plan_alter_topic("t", {{"log.retention.ms", AlterOp::kSet, "5"}}, c);
  ASSERT_FALSE(topics);
  EXPECT_NE(topics.error().message.find("a topic's own is retention.ms"), std::string::npos);
}

}  // namespace
}  // namespace pyralog::catalog
