#include "cli/dev_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "server/cluster_settings.h"
#include "server/settings.h"

namespace pyralog::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class DevFilesTest : public ::testing::Test {
 protected:
  DevFilesTest() : dir_(::testing::TempDir() + "pyralog_dev_" + std::to_string(::getpid())) {}
  ~DevFilesTest() override { std::filesystem::remove_all(dir_); }
  std::string refusal(std::size_t nodes, std::uint16_t base_port = 0) {
    const auto files = DevFiles::take(dir_, nodes, base_port);
    return files ? "accepted" : files.error().message;
  }
  std::string text_of(const std::string& name) {
    std::ifstream in(dir_ + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string dir_;
};

TEST_F(DevFilesTest, each_node_is_set_as_one_of_the_same_cluster) {
  const auto files = DevFiles::take(dir_, 3, 0);
  ASSERT_TRUE(files) << files.error().message;
  ASSERT_EQ(files->nodes().size(), 3u);
  std::set<std::string> addresses;
  std::set<std::string> members;
  for (const DevNode& node : files->nodes()) {
    server::SettingSources sources;
    sources.machine = {std::uint64_t{16} << 30, 2};
    sources.config_file = node.config;
    sources.command_line = {{"cluster.secret.file", files->secret(), "option"}};
    const auto loaded = server::load_settings(sources);
    ASSERT_TRUE(loaded) << loaded.error().message;
    const auto& o = loaded->options;
    EXPECT_EQ(o.node_id, node.id);
    const auto plan = server::plan_listeners(o);
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_TRUE(plan->warnings.empty());
    members.insert(o.members);
    for (const auto* each : {&plan->kafka, &plan->http, &plan->peer}) {
      EXPECT_TRUE(addresses.insert(io::to_string(**each)).second);
      EXPECT_NE((*each)->port, 0);
    }
  }
  EXPECT_EQ(members.size(), 1u);
}

TEST_F(DevFilesTest, its_secret_is_for_its_owner_only) {
  ASSERT_EQ(refusal(3), "accepted");
  struct stat found{};
  ASSERT_EQ(::stat((dir_ + "/secret").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777U, 0600U);
  const auto secret = server::read_secret(dir_ + "/secret");
  ASSERT_TRUE(secret) << secret.error().message;
  EXPECT_EQ(secret->size(), 64u);
}

TEST_F(DevFilesTest, what_is_there_stays_as_it_is) {
  ASSERT_EQ(refusal(3), "accepted");
  const std::string secret = text_of("secret");
  const std::string config = text_of("node-2.toml");
  ASSERT_EQ(refusal(3), "accepted");
  EXPECT_EQ(text_of("secret"), secret);
  EXPECT_EQ(text_of("node-2.toml"), config);
  EXPECT_THAT(refusal(5), AllOf(HasSubstr(dir_), HasSubstr("a cluster of 3")));
  EXPECT_THAT(refusal(3, 10), HasSubstr("leave --base-port out"));
}

TEST_F(DevFilesTest, a_first_start_that_was_cut_short_is_made_whole) {
  ASSERT_EQ(refusal(3), "accepted");
  const std::string secret = text_of("secret");
  std::filesystem::remove(dir_ + "/node-1.toml");
  std::ofstream(dir_ + "/node-2.toml") << "half a fi";
  ASSERT_EQ(refusal(5, 20'000), "accepted");
  EXPECT_EQ(text_of("secret"), secret);
  EXPECT_THAT(text_of("node-2.toml"), HasSubstr("listeners.kafka = \"127.0.0.1:20003\""));
  EXPECT_EQ(refusal(5, 20'000), "accepted") << "they are the ports that it has";
}

TEST_F(DevFilesTest, one_process_at_a_time_has_the_directory) {
  const auto files = DevFiles::take(dir_, 1, 0);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_THAT(refusal(1), HasSubstr("another `pyralog dev cluster`"));
}

TEST_F(DevFilesTest, a_node_of_its_own_is_left_alone) {
  std::filesystem::create_directories(dir_);
  std::ofstream(dir_ + "/cookie") << "PYRACOOK";
  EXPECT_THAT(refusal(3), HasSubstr("single node"));
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/secret"));
  std::filesystem::remove(dir_ + "/cookie");
  std::ofstream(dir_ + "/node-1.toml") << "shards = 1\n";
  EXPECT_THAT(refusal(3), HasSubstr("cluster.members"));
}

TEST(DevPorts, follow_each_other) {
  EXPECT_EQ(ports_from(19'000, 2),
            (std::vector<DevPorts>{{19'000, 19'001, 19'002}, {19'003, 19'004, 19'005}}));
  EXPECT_THAT(dev_config(2, ports_from(19'000, 2)),
              AllOf(HasSubstr("node.id = 2\n"),
                    HasSubstr("cluster.members = \"1@127.0.0.1:19002,2@127.0.0.1:19005\"\n")));
}

}  // namespace
}  // namespace pyralog::cli
