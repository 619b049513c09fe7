#include "catalog/topic_config.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pyralog::catalog {
namespace {

TEST(TopicConfig, the_table_is_sorted_and_its_defaults_are_those_of_the_struct) {
  const auto table = topic_settings();
  EXPECT_TRUE(std::is_sorted(table.begin(), table.end(),
                             [](const auto& a, const auto& b) { return a.name < b.name; }));
  for (const TopicSetting& s : table) {
    EXPECT_TRUE(check_setting(s, s.default_value)) << s.name;
    EXPECT_FALSE(s.help.empty()) << s.name;
    EXPECT_EQ(find_topic_setting(s.name), &s);
    if (!s.synonym.empty()) EXPECT_EQ(find_cluster_setting(s.synonym), &s);
  }
  EXPECT_EQ(make_topic_config({}, {}).value(), TopicConfig{});
}

TEST(TopicConfig, a_codec_is_refused_with_where_to_set_it) {
  const auto refused = check_setting(*find_topic_setting("compression.type"), "gzip");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "setting compression.type: value \"gzip\" is not allowed; use one of: producer; batches keep "
            "the codec that their producer chose, so set it there");
}

TEST(TopicConfig, parses_what_is_set) {
  const auto c = make_topic_config({{"cleanup.policy", "compact,delete"},
                                    {"durability", "memory"},
                                    {"message.timestamp.type", "LogAppendTime"},
                                    {"min.cleanable.dirty.ratio", "0.25"},
                                    {"record.validation", "full"},
                                    {"retention.ms", "-1"},
                                    {"max.message.bytes", "2147483647"}},
                                   {{"log.retention.ms", "7"}, {"log.retention.bytes", "8"}});
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_TRUE(c->cleanup_compact && c->cleanup_delete && c->log_append_time && c->full_validation);
  EXPECT_EQ(c->durability, Durability::kMemory);
  EXPECT_EQ(c->min_cleanable_dirty_ratio, 0.25);
  EXPECT_EQ(c->retention_ms, -1);
  EXPECT_EQ(c->retention_bytes, 8);
  EXPECT_EQ(c->max_message_bytes, 2147483647);
}

TEST(TopicConfig, may_name_no_cleanup_at_all) {
  const auto c = make_topic_config({{"cleanup.policy", ""}}, {});
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_FALSE(c->cleanup_compact || c->cleanup_delete);
}

TEST(TopicConfig, refuses_by_name_what_is_not_allowed) {
  const std::vector<std::pair<std::string, std::string>> bad{
      {"compression.type", "zstd"},
      {"cleanup.policy", ","},
      {"cleanup.policy", "delete,x"},
      {"retention.ms", "-2"},
      {"retention.ms", "7d"},
      {"retention.ms", "99999999999999999999"},
      {"segment.bytes", "2147483648"},
      {"min.insync.replicas", "0"},
      {"preallocate", "yes"},
      {"remote.storage.enable", "true"},
      {"min.cleanable.dirty.ratio", "1.5"},
      {"min.cleanable.dirty.ratio", "nan"},
      {"durability", "FSYNC"},
      {"no.such", "1"}};
  for (const auto& [name, value] : bad) {
    const auto refused = make_topic_config({{name, value}}, {});
    ASSERT_FALSE(refused) << name << "=" << value;
    EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
    EXPECT_NE(refused.error().message.find(name), std::string::npos);
  }
}

TEST(TopicConfig, describes_value_source_and_synonyms) {
  const Settings topic{{"retention.ms", "5"}};
  const Settings cluster{{"log.retention.ms", "6"}, {"log.segment.bytes", "100"}};
  const auto all = describe_topic_settings(topic, cluster, std::nullopt);
  EXPECT_EQ(all.size(), topic_settings().size());
  const auto some = describe_topic_settings(
      topic, cluster, std::vector<std::string>{"segment.bytes", "retention.ms", "durability", "x"});
  ASSERT_EQ(some.size(), 3u);
  EXPECT_EQ(some[0].setting->name, "durability");
  EXPECT_EQ(some[0].source, SettingSource::kDefault);
  EXPECT_EQ(some[1].value, "5");
  EXPECT_EQ(some[1].source, SettingSource::kTopic);
  ASSERT_EQ(some[1].synonyms.size(), 3u);
  EXPECT_EQ(some[1].synonyms[1].name, "log.retention.ms");
  EXPECT_EQ(some[1].synonyms[1].value, "6");
  EXPECT_EQ(some[2].value, "100");
  EXPECT_EQ(some[2].source, SettingSource::kClusterDefault);
  EXPECT_TRUE(some[2].is_default());
}

}  // namespace
}  // namespace pyralog::catalog
