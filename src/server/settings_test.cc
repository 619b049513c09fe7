#include "server/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <set>

namespace pyralog::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class SettingsFile : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "pyralog_settings_" + std::to_string(::getpid()) + ".toml";
  }
  void TearDown() override { std::remove(path_.c_str()); }
  LoadedSettings load(const std::string& text) {
    auto loaded = try_load(text);
    EXPECT_TRUE(loaded) << loaded.error().message;
    return loaded.value_or(LoadedSettings{});
  }
  Result<LoadedSettings> try_load(const std::string& text) {
    std::ofstream(path_) << text;
    sources_.config_file = path_;
    return load_settings(sources_);
  }
  std::string refusal(const std::string& text) {
    auto loaded = try_load(text);
    return loaded ? "accepted" : loaded.error().message;
  }
  std::string path_;
  SettingSources sources_;
};

TEST(SettingsTable, keys_flags_and_variables_are_unique_and_no_key_opens_another) {
  std::set<std::string> keys, flags, variables;
  for (const Setting& setting : settings()) {
    EXPECT_TRUE(keys.insert(std::string(setting.key)).second) << setting.key;
    EXPECT_TRUE(flags.insert(flag_of(setting)).second) << setting.key;
    EXPECT_TRUE(variables.insert(environment_of(setting)).second) << setting.key;
    EXPECT_FALSE(setting.help.empty()) << setting.key;
  }
  for (const auto& key : keys) {
    EXPECT_FALSE(keys.contains(key.substr(0, key.rfind('.'))) && key.contains('.')) << key;
  }
}

TEST(SettingsTable, every_default_is_a_value_that_its_row_accepts) {
  const ServerOptions defaults;
  for (const Setting& setting : settings()) {
    const std::string text = value_of(defaults, setting);
    if (text.empty()) continue;
    ServerOptions copy;
    const auto set = assign(copy, setting, text, "default");
    EXPECT_TRUE(set) << set.error().message;
    EXPECT_EQ(value_of(copy, setting), text);
  }
}

TEST(SettingsTable, every_number_refuses_what_lies_beyond_its_bounds) {
  for (const Setting& setting : settings()) {
    if (!std::holds_alternative<std::int64_t ServerOptions::*>(setting.field)) continue;
    ServerOptions options;
    EXPECT_TRUE(assign(options, setting, std::to_string(setting.min), "x")) << setting.key;
    EXPECT_TRUE(assign(options, setting, std::to_string(setting.max), "x")) << setting.key;
    EXPECT_FALSE(assign(options, setting, std::to_string(setting.min - 1), "x")) << setting.key;
    EXPECT_FALSE(assign(options, setting, std::to_string(setting.max + 1), "x")) << setting.key;
    EXPECT_FALSE(assign(options, setting, "99999999999999999999", "x")) << setting.key;
    EXPECT_FALSE(assign(options, setting, "3 apples", "x")) << setting.key;
    EXPECT_FALSE(assign(options, setting, "", "x")) << setting.key;
  }
}

TEST(SettingsTable, the_longest_time_from_now_can_still_be_told) {
  for (const Setting& setting : settings()) {
    if (setting.kind != SettingKind::kMillis) continue;
    std::int64_t ns = 0;
    EXPECT_FALSE(__builtin_mul_overflow(setting.max, 1'000'000, &ns)) << setting.key;
    const auto wall = std::chrono::system_clock::now().time_since_epoch();
    EXPECT_FALSE(__builtin_add_overflow(ns, std::chrono::nanoseconds(wall).count(), &ns))
        << setting.key;
  }
}

TEST_F(SettingsFile, reads_dotted_keys_tables_and_units) {
  const auto o = load(
                     "num.partitions = 3\n\"group.max.size\" = 7\n[log]\nlevel = \"warn\"\n"
                     "segment.bytes = \"64MiB\"\nretention.ms = \"2d\"\n[auto.create]\n"
                     "topics.enable = false\n")
                     .options;
  EXPECT_EQ(o.num_partitions, 3);
  EXPECT_EQ(o.group_max_size, 7);
  EXPECT_EQ(o.log_level, "warn");
  EXPECT_EQ(o.segment_bytes, 64 << 20);
  EXPECT_EQ(o.retention_ms, 2 * 86'400'000);
  EXPECT_FALSE(o.auto_create_topics);
}

TEST_F(SettingsFile, command_line_beats_environment_beats_file_beats_default) {
  const std::string file = "num.partitions = 2\nmax.connections = 2\nshards = 2\n";
  sources_.environment = {{"PYRALOG_NUM_PARTITIONS", "3"}, {"PYRALOG_MAX_CONNECTIONS", "3"}};
  sources_.command_line = {{"num.partitions", "4", "option --num-partitions"}};
  const auto loaded = load(file);
  EXPECT_EQ(loaded.options.num_partitions, 4);
  EXPECT_EQ(loaded.options.max_connections, 3);
  EXPECT_EQ(loaded.options.shards, 2);
  EXPECT_EQ(loaded.options.sync_threads, ServerOptions().sync_threads);
  EXPECT_EQ(loaded.origins.at("num.partitions"), "option --num-partitions");
  EXPECT_EQ(loaded.origins.at("shards"), path_ + ":3");
}

TEST_F(SettingsFile, defaults_for_topics_are_handed_on_only_if_they_were_named) {
  EXPECT_TRUE(load("shards = 2\n").options.cluster_defaults.empty());
  sources_.command_line = {{"durability", "os", "option --durability"}};
  const auto o = load("log.retention.ms = \"1d\"\ndurability = \"fsync\"\n").options;
  EXPECT_THAT(o.cluster_defaults,
              ::testing::ElementsAre(
                  std::pair<const std::string, std::string>("durability", "os"),
                  std::pair<const std::string, std::string>("log.retention.ms", "86400000")));
}

TEST_F(SettingsFile, an_unknown_key_is_named_with_file_line_and_the_nearest_key) {
  EXPECT_THAT(refusal("\nnum.partition = 3\n"),
              AllOf(HasSubstr(path_ + ":2"), HasSubstr("\"num.partition\""),
                    HasSubstr("did you mean \"num.partitions\"")));
  EXPECT_THAT(refusal("[log]\nlevle = \"info\"\n"), HasSubstr("did you mean \"log.level\""));
  EXPECT_THAT(refusal("frobnicate = 1\n"), HasSubstr("config reference"));
}

TEST_F(SettingsFile, an_impossible_value_is_named_with_file_line_and_what_is_possible) {
  EXPECT_THAT(
      refusal("shards = 2\nnum.partitions = 0\n"),
      AllOf(HasSubstr(path_ + ":2"), HasSubstr("num.partitions"), HasSubstr("1 to 100000")));
  EXPECT_THAT(refusal("num.partitions = 1.5\n"), HasSubstr("num.partitions cannot be \"1.5\""));
  EXPECT_THAT(refusal("num.partitions = \"many\"\n"), HasSubstr("\"many\""));
  EXPECT_THAT(refusal("num.partitions = [1]\n"), HasSubstr(":1: num.partitions"));
  EXPECT_THAT(refusal("log.level = \"loud\"\n"), HasSubstr("debug, info, warn or error"));
  EXPECT_THAT(refusal("listeners.kafka = \"nowhere\"\n"), HasSubstr("HOST:PORT"));
  EXPECT_THAT(refusal("shards = 2\ncluster.members = \"1@a:1,1@b:1\"\n"),
              AllOf(HasSubstr(path_ + ":2: cluster.members"), HasSubstr("twice")));
  EXPECT_THAT(refusal("node.id = 0\n"), HasSubstr("1 to 2147483647"));
  EXPECT_THAT(refusal("allow_insecure = \"perhaps\"\n"), HasSubstr("true or false"));
  EXPECT_THAT(refusal("num.partitions = \n"), HasSubstr(path_ + ":1"));
}

TEST_F(SettingsFile, settings_that_contradict_each_other_are_refused) {
  EXPECT_THAT(
      refusal("group.min.session.timeout.ms = 50000\ngroup.max.session.timeout.ms = 40000\n"),
      AllOf(HasSubstr(path_ + ":1"), HasSubstr("group.max.session.timeout.ms")));
  EXPECT_THAT(refusal("message.max.bytes = \"200MiB\"\n"), HasSubstr("max.request.bytes"));
}

TEST_F(SettingsFile, a_request_that_finds_no_room_on_its_shard_is_refused_if_it_was_asked_for) {
  sources_.machine = {16ULL << 30, 8};
  EXPECT_EQ(refusal(""), "accepted");
  EXPECT_EQ(refusal("max.request.bytes = \"100MiB\"\n"), "accepted");
  const std::string little = "queued.max.request.bytes = \"256MiB\"\n";
  EXPECT_THAT(refusal("max.request.bytes = \"100MiB\"\n" + little),
              AllOf(HasSubstr(path_ + ":1: max.request.bytes (104857600)"),
                    HasSubstr("queued.max.request.bytes (268435456)"), HasSubstr("up to 20971520")));
  EXPECT_THAT(refusal("message.max.bytes = \"50MiB\"\n" + little),
              AllOf(HasSubstr("message.max.bytes (52428800)"), HasSubstr("queued.max.request.bytes")));
  EXPECT_EQ(refusal("max.request.bytes = \"100MiB\"\nqueued.max.request.bytes = \"1280MiB\"\n"), "accepted");
  EXPECT_EQ(refusal("max.request.bytes = \"100MiB\"\nshards = 1\n" + little), "accepted");
}

TEST_F(SettingsFile, a_variable_that_means_nothing_is_refused_and_those_of_others_are_left_alone) {
  sources_.environment = {{"PYRALOG_NUM_PARTITION", "3"}};
  EXPECT_THAT(refusal(""), AllOf(HasSubstr("PYRALOG_NUM_PARTITION:"),
                                 HasSubstr("did you mean PYRALOG_NUM_PARTITIONS")));
  sources_.environment = {{"PYRALOG_SERVICE_HOST", "10.0.0.1"},
                          {"PYRALOG_PORT_9092_TCP", "x"},
                          {"PYRALOG_BOOTSTRAP", "127.0.0.1:1"}};
  EXPECT_EQ(refusal(""), "accepted");
}

TEST_F(SettingsFile, variables_of_services_whose_names_begin_alike_are_left_alone) {
  for (const char* name :
       {"PYRALOG_PYRAMID_SERVICE_HOST", "PYRALOG_PYRAMID_SERVICE_PORT", "PYRALOG_PYRAMID_SERVICE_PORT_KAFKA",
        "PYRALOG_PYRAMID_PORT", "PYRALOG_PYRAMID_PORT_9092_TCP", "PYRALOG_A_B_PORT_9092_TCP_ADDR",
        "PYRALOG_X_PORT_53_UDP_PROTO", "PYRALOG_PORT_PORT_7_SCTP"}) {
    sources_.environment = {{name, "tcp://10.0.0.1:9092"}};
    EXPECT_EQ(refusal(""), "accepted") << name;
  }
  for (const char* name : {"PYRALOG_LOG_PORTS", "PYRALOG_A_PORT_B", "PYRALOG_A_PORT_9092",
                           "PYRALOG_HTTP_PORT"}) {
    sources_.environment = {{name, "1"}};
    EXPECT_THAT(refusal(""), HasSubstr(name)) << name;
  }
}

TEST(Settings, a_missing_file_is_named) {
  SettingSources sources;
  sources.config_file = "/nonexistent/pyralog.toml";
  const auto loaded = load_settings(sources);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Code::kNotFound);
  EXPECT_THAT(loaded.error().message, HasSubstr("/nonexistent/pyralog.toml"));
}

TEST(Settings, a_directory_is_no_file) {
  SettingSources sources;
  sources.config_file = ::testing::TempDir();
  const auto loaded = load_settings(sources);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message,
              AllOf(HasSubstr(*sources.config_file), HasSubstr("directory")));
}

TEST(Listeners, with_none_named_all_open_on_the_loopback) {
  const auto plan = plan_listeners({});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->kafka, (io::Address{"127.0.0.1", 9092}));
  EXPECT_EQ(plan->http, (io::Address{"127.0.0.1", 9094}));
  EXPECT_TRUE(plan->warnings.empty());
}

TEST(Listeners, only_the_named_ones_open) {
  ServerOptions options;
  options.http_listener = "127.0.0.1:0";
  const auto plan = plan_listeners(options);
  ASSERT_TRUE(plan);
  EXPECT_FALSE(plan->kafka);
  EXPECT_TRUE(plan->http);
}

TEST(Listeners, beyond_the_loopback_needs_consent_and_says_so) {
  ServerOptions options;
  options.kafka_listener = "10.0.0.7:9092";
  const auto refused = plan_listeners(options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message,
              AllOf(HasSubstr("10.0.0.7:9092"), HasSubstr("--allow-insecure")));
  options.allow_insecure = true;
  const auto plan = plan_listeners(options);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->warnings.size(), 1u);
}

TEST(Listeners, a_wildcard_needs_an_advertised_address) {
  ServerOptions options;
  options.allow_insecure = true;
  options.kafka_listener = "0.0.0.0:9092";
  const auto refused = plan_listeners(options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("--advertise"));
  for (const char* host : {"[::]", "0", "[::ffff:0.0.0.0]"}) {
    options.kafka_listener = std::string(host) + ":9092";
    EXPECT_FALSE(plan_listeners(options)) << host;
  }
  options.advertise = "0.0.0.0:9092";
  EXPECT_FALSE(plan_listeners(options));
  options.advertise = "broker.example:9092";
  EXPECT_TRUE(plan_listeners(options));
}

TEST(Reference, names_every_setting_with_its_default) {
  const std::string page = reference_markdown();
  const std::string json = reference_json();
  for (const Setting& setting : settings()) {
    EXPECT_THAT(page, HasSubstr("| `" + std::string(setting.key) + "` | "));
    EXPECT_THAT(json, HasSubstr("{\"key\":\"" + std::string(setting.key) + "\""));
  }
  EXPECT_THAT(page, HasSubstr("`--num-partitions`, `PYRALOG_NUM_PARTITIONS`"));
}

}  // namespace
}  // namespace pyralog::server
