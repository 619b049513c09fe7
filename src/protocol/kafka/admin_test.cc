// Topics, settings and what clients learn of the cluster, on the wire.
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/alter_configs.h"
#include "wire/kafka/gen/create_partitions.h"
#include "wire/kafka/gen/create_topics.h"
#include "wire/kafka/gen/delete_topics.h"
#include "wire/kafka/gen/describe_cluster.h"
#include "wire/kafka/gen/describe_configs.h"
#include "wire/kafka/gen/incremental_alter_configs.h"
#include "wire/kafka/gen/metadata.h"

namespace pyralog::protocol::kafka {
namespace {

using testing::KafkaTest;
using testing::RawClient;
using testing::Received;

class AdminTest : public KafkaTest {
 protected:
  AdminTest() { start(); }
  static wire::CreateTopicsRequest topic(std::string name, std::int32_t partitions = -1,
                                         std::int16_t replicas = -1) {
    wire::CreateTopicsRequest made;
    auto& each = made.topics.emplace_back();
    each.name = std::move(name);
    each.num_partitions = partitions;
    each.replication_factor = replicas;
    return made;
  }
  static io::Task<std::int16_t> error(RawClient& client, wire::CreateTopicsRequest request) {
    const auto answer = co_await client.call<wire::CreateTopicsResponse>(request, 7);
    EXPECT_EQ(answer->topics.size(), 1u);
    co_return answer->topics.at(0).error_code;
  }
  static io::Task<Received<wire::MetadataResponse>> metadata(
      RawClient& client, std::optional<std::vector<std::string>> names, bool create = false,
      std::int16_t version = 12) {
    wire::MetadataRequest request;
    request.allow_auto_topic_creation = create;
    if (names) {
      request.topics.emplace();
      for (const auto& name : *names) request.topics->emplace_back().name = name;
    }
    co_return co_await client.call<wire::MetadataResponse>(request, version);
  }
  static io::Task<Received<wire::DescribeConfigsResponse>> describe(
      RawClient& client, std::int8_t type, std::string name, std::vector<std::string> keys) {
    wire::DescribeConfigsRequest request;
    request.include_synonyms = true;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = type;
    resource.resource_name = std::move(name);
    resource.configuration_keys = std::move(keys);
    co_return co_await client.call<wire::DescribeConfigsResponse>(request, 4);
  }
  static wire::IncrementalAlterConfigsRequest alter(std::int8_t type, std::string name,
                                                    std::string key, std::int8_t operation,
                                                    std::optional<std::string> value) {
    wire::IncrementalAlterConfigsRequest made;
    auto& resource = made.resources.emplace_back();
    resource.resource_type = type;
    resource.resource_name = std::move(name);
    resource.configs.push_back({std::move(key), operation, std::move(value)});
    return made;
  }
  static io::Task<std::int16_t> altered(RawClient& client,
                                        wire::IncrementalAlterConfigsRequest request) {
    const auto answer = co_await client.call<wire::IncrementalAlterConfigsResponse>(request, 1);
    co_return answer->responses.at(0).error_code;
  }
};

constexpr std::int8_t kTopic = 2;
constexpr std::int8_t kBroker = 4;

TEST_F(AdminTest, topics_are_made_with_their_defaults_filled_in) {
  with_client([](RawClient& client) -> io::Task<void> {
    for (const bool validate_only : {true, false}) {
      auto request = topic("t");
      request.validate_only = validate_only;
      const auto answer = co_await client.call<wire::CreateTopicsResponse>(request, 7);
      const auto& made = answer->topics.at(0);
      EXPECT_EQ(made.error_code, 0);
      EXPECT_EQ(made.num_partitions, 1) << "also where it is only validated";
      EXPECT_EQ(made.replication_factor, 1);
      EXPECT_EQ(made.topic_id.is_nil(), validate_only);
      EXPECT_TRUE(made.configs && !made.configs->empty());
    }
    EXPECT_EQ(co_await error(client, topic("t")), 36);
  });
}

TEST_F(AdminTest, topics_are_refused_with_kafkas_codes) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await error(client, topic("bad name")), 17);
    EXPECT_EQ(co_await error(client, topic("")), 17);
    EXPECT_EQ(co_await error(client, topic(std::string(250, 'x'))), 17);
    EXPECT_EQ(co_await error(client, topic("t", 0)), 37);
    EXPECT_EQ(co_await error(client, topic("t", -2)), 37);
    EXPECT_EQ(co_await error(client, topic("t", 1, 2)), 38);
    EXPECT_EQ(co_await error(client, topic("t", 1, 0)), 38);
    const std::vector<std::pair<std::string, std::string>> bad = {
        {"no.such", "1"}, {"compression.type", "gzip"}, {"min.insync.replicas", "2"},
        {"retention.ms", "soon"}};
    for (const auto& [key, value] : bad) {
      auto request = topic("t");
      request.topics[0].configs.push_back({key, value});
      EXPECT_EQ(co_await error(client, request), 40) << key;
    }
    auto assigned = topic("t");
    assigned.topics[0].assignments.push_back({0, {9}});
    EXPECT_EQ(co_await error(client, assigned), 39);
    assigned.topics[0].assignments[0] = {0, {1}};
    EXPECT_EQ(co_await error(client, assigned), 0);
    auto twice = topic("u");
    twice.topics.push_back(twice.topics[0]);
    EXPECT_EQ(co_await error(client, twice), 42);
    EXPECT_EQ((co_await metadata(client, std::vector<std::string>{"u"}))->topics.at(0).error_code, 3);
  });
}

TEST_F(AdminTest, topics_are_deleted_by_name_or_by_id) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "a"), 0);
    EXPECT_EQ(co_await create(client, "b"), 0);
    const auto known = co_await metadata(client, std::vector<std::string>{"b"});
    const Uuid id = known->topics.at(0).topic_id;
    wire::DeleteTopicsRequest request;
    request.topics.push_back({"a", {}});
    request.topics.push_back({std::nullopt, id});
    request.topics.push_back({std::nullopt, Uuid{{1, 2, 3}}});
    request.topics.push_back({"nowhere", {}});
    const auto answer = co_await client.call<wire::DeleteTopicsResponse>(request, 6);
    EXPECT_EQ(answer->responses.at(0).error_code, 0);
    EXPECT_EQ(answer->responses.at(1).error_code, 0);
    EXPECT_EQ(answer->responses.at(1).name, "b");
    EXPECT_EQ(answer->responses.at(2).error_code, 100);
    EXPECT_EQ(answer->responses.at(3).error_code, 3);
    wire::DeleteTopicsRequest odd;
    odd.topics.push_back({"c", id});
    odd.topics.push_back({"d", {}});
    odd.topics.push_back({"d", {}});
    odd.topics.push_back({std::nullopt, {}});
    EXPECT_EQ(co_await create(client, "d"), 0);
    const auto refused = co_await client.call<wire::DeleteTopicsResponse>(odd, 6);
    for (const auto& each : refused->responses) EXPECT_EQ(each.error_code, 42);
    EXPECT_EQ((co_await metadata(client, std::vector<std::string>{"d"}))->topics.at(0).error_code, 0);
  });
}

TEST_F(AdminTest, partitions_are_added) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "t"), 0);
    const auto grow = [&](std::string name, std::int32_t count,
                          bool validate = false) -> io::Task<std::int16_t> {
      wire::CreatePartitionsRequest request;
      auto& each = request.topics.emplace_back();
      each.name = std::move(name);
      each.count = count;
      request.validate_only = validate;
      const auto answer = co_await client.call<wire::CreatePartitionsResponse>(request, 3);
      co_return answer->results.at(0).error_code;
    };
    EXPECT_EQ(co_await grow("t", 1), 37);
    EXPECT_EQ(co_await grow("nowhere", 2), 3);
    EXPECT_EQ(co_await grow("t", 3, true), 0);
    EXPECT_EQ((co_await metadata(client, std::vector<std::string>{"t"}))->topics[0].partitions.size(), 1u);
    EXPECT_EQ(co_await grow("t", 3), 0);
    EXPECT_EQ((co_await metadata(client, std::vector<std::string>{"t"}))->topics[0].partitions.size(), 3u);
  });
}

TEST_F(AdminTest, metadata_tells_all_some_or_no_topics) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "a"), 0);
    EXPECT_EQ(co_await create(client, "b", 2), 0);
    EXPECT_EQ((co_await metadata(client, std::nullopt))->topics.size(), 2u);
    EXPECT_EQ((co_await metadata(client, std::vector<std::string>{}))->topics.size(), 0u);
    EXPECT_EQ((co_await metadata(client, std::vector<std::string>{}, false, 0))->topics.size(), 2u)
        << "at version 0 the empty list asks for all";
    const auto some = co_await metadata(client, std::vector<std::string>{"b"});
    EXPECT_EQ(some->brokers.size(), 1u);
    EXPECT_EQ(some->brokers.at(0).host, "10.0.0.1");
    EXPECT_EQ(some->controller_id, 1);
    EXPECT_TRUE(some->cluster_id);
    const auto& topic = some->topics.at(0);
    EXPECT_FALSE(topic.topic_id.is_nil());
    EXPECT_FALSE(topic.is_internal);
    EXPECT_EQ(topic.partitions.size(), 2u);
    EXPECT_EQ(topic.partitions.at(1).leader_id, 1);
    EXPECT_EQ(topic.partitions.at(1).leader_epoch, 1);
    EXPECT_EQ(topic.partitions.at(1).isr_nodes, std::vector<std::int32_t>{1});
    wire::MetadataRequest by_id;
    by_id.topics.emplace();
    by_id.topics->push_back({topic.topic_id, std::nullopt});
    by_id.topics->push_back({Uuid{{9}}, std::nullopt});
    const auto found = co_await client.call<wire::MetadataResponse>(by_id, 12);
    EXPECT_EQ(found->topics.at(0).name, "b");
    EXPECT_EQ(found->topics.at(1).error_code, 100);
    // Java's client sends an empty name instead of null.
    for (auto& each : *by_id.topics) each.name = "";
    const auto again = co_await client.call<wire::MetadataResponse>(by_id, 12);
    EXPECT_EQ(again->topics.at(0).name, "b");
    EXPECT_EQ(again->topics.at(0).error_code, 0);
    EXPECT_EQ(again->topics.at(1).error_code, 100);
    // Clients take the bits apart before they look at the error.
    by_id.include_topic_authorized_operations = true;
    by_id.allow_auto_topic_creation = false;
    by_id.topics->push_back({{}, "nowhere"});
    const auto bits = co_await client.call<wire::MetadataResponse>(by_id, 12);
    EXPECT_EQ(bits->topics.at(0).topic_authorized_operations, 3576);
    EXPECT_EQ(bits->topics.at(1).topic_authorized_operations, INT32_MIN);
    EXPECT_EQ(bits->topics.at(2).error_code, 3);
    EXPECT_EQ(bits->topics.at(2).topic_authorized_operations, 3576);
  });
}

TEST_F(AdminTest, metadata_makes_topics_when_it_is_asked_and_allowed_to) {
  with_client([](RawClient& client) -> io::Task<void> {
    const auto ask = [&](std::string name, bool create,
                         std::int16_t version) -> io::Task<std::int16_t> {
      const auto answer =
          co_await metadata(client, std::vector<std::string>{std::move(name)}, create, version);
      co_return answer->topics.at(0).error_code;
    };
    EXPECT_EQ(co_await ask("new", false, 12), 3);
    EXPECT_EQ(co_await ask("new", true, 12), 0);
    EXPECT_EQ(co_await ask("old-client", false, 1), 0) << "before version 4 it is not asked";
    EXPECT_EQ(co_await ask("bad name", true, 12), 17);
    EXPECT_EQ(co_await ask("__consumer_offsets", true, 12), 0);
    const auto internal = co_await metadata(client, std::vector<std::string>{"__consumer_offsets"});
    EXPECT_TRUE(internal->topics.at(0).is_internal);
    EXPECT_EQ(internal->topics.at(0).partitions.size(), 2u);
  });
  stop();
  options_.auto_create_topics = false;
  start();
  with_client([](RawClient& client) -> io::Task<void> {
    const auto answer = co_await metadata(client, std::vector<std::string>{"never"}, true);
    EXPECT_EQ(answer->topics.at(0).error_code, 3);
  });
}

TEST_F(AdminTest, settings_say_where_they_come_from) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "t"), 0);
    const auto now = [&]() -> io::Task<std::string> {
      const auto answer = co_await describe(client, kTopic, "t", {"retention.ms"});
      const auto& config = answer->results.at(0).configs.at(0);
      std::string all = config.value.value_or("?") + " " + std::to_string(config.config_source);
      for (const auto& each : config.synonyms) {
        all += " " + each.name + "=" + each.value.value_or("?") + "/" + std::to_string(each.source);
      }
      co_return all;
    };
    EXPECT_EQ(co_await now(), "604800000 5 log.retention.ms=604800000/5");
    EXPECT_EQ(co_await altered(client, alter(kBroker, "", "log.retention.ms", 0, "7")), 0);
    EXPECT_EQ(co_await now(), "7 3 log.retention.ms=7/3 log.retention.ms=604800000/5");
    EXPECT_EQ(co_await altered(client, alter(kTopic, "t", "retention.ms", 0, "8")), 0);
    EXPECT_EQ(co_await now(),
              "8 1 retention.ms=8/1 log.retention.ms=7/3 log.retention.ms=604800000/5");
    EXPECT_EQ(co_await altered(client, alter(kTopic, "t", "retention.ms", 1, std::nullopt)), 0);
    EXPECT_EQ(co_await altered(client, alter(kBroker, "1", "log.retention.ms", 1, std::nullopt)), 0);
    EXPECT_EQ(co_await now(), "604800000 5 log.retention.ms=604800000/5");
  });
}

TEST_F(AdminTest, alterations_are_checked) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "t"), 0);
    EXPECT_EQ(co_await altered(client, alter(kTopic, "t", "no.such", 0, "1")), 40);
    EXPECT_EQ(co_await altered(client, alter(kTopic, "t", "retention.ms", 2, "1")), 40)
        << "a number is no list";
    EXPECT_EQ(co_await altered(client, alter(kTopic, "t", "retention.ms", 9, "1")), 42);
    for (const std::int8_t operation : std::initializer_list<std::int8_t>{0, 2, 3}) {
      EXPECT_EQ(co_await altered(client, alter(kTopic, "t", "cleanup.policy", operation, {})), 42);
      EXPECT_EQ(co_await altered(client, alter(kBroker, "1", "log.retention.ms", operation, {})),
                42);
    }
    EXPECT_EQ(co_await altered(client, alter(kTopic, "t", "compression.type", 0, "zstd")), 40);
    EXPECT_EQ(co_await altered(client, alter(kTopic, "t", "durability", 0, "memory")), 40);
    EXPECT_EQ(co_await altered(client, alter(kTopic, "nowhere", "retention.ms", 0, "1")), 3);
    for (const char* fixed : {"broker.id", "no.such.setting"}) {
      const auto answer = co_await client.call<wire::IncrementalAlterConfigsResponse>(
          alter(kBroker, "1", fixed, 0, "2"), 1);
      EXPECT_EQ(answer->responses.at(0).error_code, 40);
      const std::string why = answer->responses.at(0).error_message.value_or("");
      EXPECT_EQ(why.find("read when the node starts") != std::string::npos,
                std::string_view(fixed) == "broker.id")
          << why;
    }
    EXPECT_EQ(co_await altered(client, alter(kBroker, "7", "log.retention.ms", 0, "2")), 42);
    EXPECT_EQ(co_await altered(client, alter(9, "x", "y", 0, "2")), 42);
    EXPECT_EQ(co_await altered(client, alter(kTopic, "t", "cleanup.policy", 2, "compact")), 0);
    const auto both = co_await describe(client, kTopic, "t", {"cleanup.policy"});
    EXPECT_EQ(both->results.at(0).configs.at(0).value, "delete,compact");
    auto validate = alter(kTopic, "t", "retention.ms", 0, "5");
    validate.validate_only = true;
    EXPECT_EQ(co_await altered(client, validate), 0);
    auto twice = alter(kTopic, "t", "retention.ms", 0, "5");
    twice.resources.push_back(twice.resources[0]);
    const auto refused = co_await client.call<wire::IncrementalAlterConfigsResponse>(twice, 1);
    for (const auto& each : refused->responses) EXPECT_EQ(each.error_code, 42);
    const auto still = co_await describe(client, kTopic, "t", {"retention.ms"});
    EXPECT_EQ(still->results.at(0).configs.at(0).value, "604800000");
  });
}

TEST_F(AdminTest, alter_configs_replaces_all_that_was_set) {
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await create(client, "t", 1, {{"retention.ms", "5"}}), 0);
    EXPECT_EQ(co_await altered(client, alter(kBroker, "", "log.segment.bytes", 0, "5000")), 0);
    const auto replace = [&](std::int8_t type, std::string name, std::string key,
                             std::optional<std::string> value) -> io::Task<std::int16_t> {
      wire::AlterConfigsRequest request;
      auto& resource = request.resources.emplace_back();
      resource.resource_type = type;
      resource.resource_name = std::move(name);
      resource.configs.push_back({std::move(key), std::move(value)});
      const auto answer = co_await client.call<wire::AlterConfigsResponse>(request, 2);
      co_return answer->responses.at(0).error_code;
    };
    const auto value = [&](std::string key) -> io::Task<std::string> {
      const auto answer = co_await describe(client, kTopic, "t", {std::move(key)});
      co_return answer->results.at(0).configs.at(0).value.value_or("?");
    };
    EXPECT_EQ(co_await replace(kTopic, "t", "max.message.bytes", "1000"), 0);
    EXPECT_EQ(co_await value("retention.ms"), "604800000");
    EXPECT_EQ(co_await value("max.message.bytes"), "1000");
    EXPECT_EQ(co_await value("segment.bytes"), "5000");
    EXPECT_EQ(co_await replace(kBroker, "1", "log.retention.ms", "9"), 0);
    EXPECT_EQ(co_await value("retention.ms"), "9");
    EXPECT_EQ(co_await value("segment.bytes"), "1073741824");
    EXPECT_EQ(co_await replace(kTopic, "t", "retention.ms", "never"), 40);
    EXPECT_EQ(co_await replace(kTopic, "nowhere", "retention.ms", "1"), 3);
    EXPECT_EQ(co_await replace(kTopic, "t", "retention.ms", std::nullopt), 42);
    EXPECT_EQ(co_await replace(kBroker, "1", "log.retention.ms", std::nullopt), 42);
    wire::AlterConfigsRequest twice;
    auto& resource = twice.resources.emplace_back();
    resource.resource_type = kTopic;
    resource.resource_name = "t";
    resource.configs = {{"retention.ms", "3"}, {"retention.ms", "4"}};
    const auto refused = co_await client.call<wire::AlterConfigsResponse>(twice, 2);
    EXPECT_EQ(refused->responses.at(0).error_code, 42);
    EXPECT_EQ(co_await value("retention.ms"), "9");
  });
}

TEST_F(AdminTest, the_broker_describes_itself) {
  with_client([](RawClient& client) -> io::Task<void> {
    const auto answer = co_await describe(client, kBroker, "1", {"broker.id", "log.retention.ms"});
    const auto& configs = answer->results.at(0).configs;
    EXPECT_EQ(configs.size(), 2u);
    EXPECT_EQ(configs.at(0).value, "1");
    EXPECT_TRUE(configs.at(0).read_only);
    EXPECT_EQ(configs.at(0).config_source, 4);
    EXPECT_FALSE(configs.at(1).read_only);
    const auto told = co_await describe(client, kBroker, "1", {"advertised.listeners"});
    const auto address = (co_await metadata(client, std::nullopt))->brokers.at(0);
    EXPECT_EQ(told->results.at(0).configs.at(0).value,
              "PLAINTEXT://" + address.host + ":" + std::to_string(address.port));
    // Of the cluster only what somebody has set is told.
    EXPECT_TRUE((co_await describe(client, kBroker, "", {}))->results.at(0).configs.empty());
    EXPECT_EQ(co_await altered(client, alter(kBroker, "1", "log.retention.ms", 0, " 7 ")), 0);
    EXPECT_EQ(co_await altered(client, alter(kBroker, "1", "no.such", 1, std::nullopt)), 0)
        << "what nobody knows is not set, either";
    for (const auto& [name, source] : {std::pair{"", 3}, std::pair{"1", 2}}) {
      const auto set = co_await describe(client, kBroker, name, {"log.retention.ms"});
      const auto& config = set->results.at(0).configs.at(0);
      EXPECT_EQ(config.value, "7");
      EXPECT_EQ(config.config_source, source);
      EXPECT_EQ(config.synonyms.size(), 2u);
    }
    EXPECT_EQ(co_await altered(client, alter(kBroker, "1", "log.retention.ms", 1, std::nullopt)), 0);
    EXPECT_EQ(co_await create(client, "t"), 0);
    for (const auto& [type, name] : {std::pair{kBroker, "1"}, std::pair{kTopic, "t"}}) {
      const auto all = co_await describe(client, type, name, {});
      EXPECT_GT(all->results.at(0).configs.size(), 5u) << "no keys are all keys";
    }
    EXPECT_EQ((co_await describe(client, kBroker, "2", {}))->results.at(0).error_code, 42);
    EXPECT_EQ((co_await describe(client, kTopic, "nowhere", {}))->results.at(0).error_code, 3);
    for (std::int16_t version = 0; version <= 1; ++version) {
      const auto cluster =
          co_await client.call<wire::DescribeClusterResponse>(wire::DescribeClusterRequest{}, version);
      EXPECT_EQ(cluster->error_code, 0);
      EXPECT_EQ(cluster->brokers.size(), 1u);
      EXPECT_EQ(cluster->brokers.at(0).port, 9092);
      EXPECT_EQ(cluster->cluster_authorized_operations, INT32_MIN);
      wire::DescribeClusterRequest more;
      more.include_cluster_authorized_operations = true;
      const auto allowed = co_await client.call<wire::DescribeClusterResponse>(more, version);
      // CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE
      EXPECT_EQ(allowed->cluster_authorized_operations,
                1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12);
    }
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
