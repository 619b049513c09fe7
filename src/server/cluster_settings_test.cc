#include "server/cluster_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "server/settings.h"

namespace pyralog::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kThree = "1@127.0.0.1:9093,2@127.0.0.1:9193,3@127.0.0.1:9293";

std::string refusal_of_members(std::string_view text) {
  const auto members = parse_members(text);
  return members ? "accepted" : members.error().message;
}

TEST(Members, are_read_in_the_order_in_which_they_are_written) {
  const auto members = parse_members("3@c.example:9093,1@[::1]:9093,2147483647@10.0.0.2:1");
  ASSERT_TRUE(members) << members.error().message;
  ASSERT_EQ(members->size(), 3u);
  EXPECT_EQ(members->at(0), (cluster::Member{NodeId(3), {"c.example", 9093}}));
  EXPECT_EQ(members->at(1), (cluster::Member{NodeId(1), {"::1", 9093}}));
  EXPECT_EQ(members->at(2), (cluster::Member{NodeId(2147483647), {"10.0.0.2", 1}}));
}

TEST(Members, what_is_no_list_of_nodes_is_refused_by_its_entry) {
  for (const char* bad :
       {"", ",", "1@a:1,", "a:1", "@a:1", "1@", "1@a", "1@a:", "1@a:70000", "x@a:1", "1 @a:1",
        "+1@a:1", "0@a:1", "-1@a:1", "2147483648@a:1", "1@a:1;2@b:1"}) {
    EXPECT_THAT(refusal_of_members(bad), Not(HasSubstr("accepted"))) << bad;
  }
  EXPECT_THAT(refusal_of_members("1@a:1,two@b:1"), HasSubstr("\"two@b:1\""));
  for (const char* nowhere : {"1@0.0.0.0:9093", "1@[::]:9093", "1@a:0"}) {
    EXPECT_THAT(refusal_of_members(nowhere), HasSubstr("cannot connect")) << nowhere;
  }
  EXPECT_THAT(refusal_of_members("1@" + std::string(256, 'a') + ":1"), HasSubstr("256 bytes"));
}

TEST(Members, an_id_or_an_address_stands_for_one_node) {
  EXPECT_THAT(refusal_of_members("1@a:1,2@b:1,1@c:1"), HasSubstr("node 1 is named twice"));
  EXPECT_THAT(refusal_of_members("1@a:1,2@b:1,3@a:1"),
              AllOf(HasSubstr("nodes 1 and 3"), HasSubstr("a:1")));
}

TEST(Members, five_agree_and_no_more) {
  EXPECT_EQ(refusal_of_members("1@a:1,2@b:1,3@c:1,4@d:1,5@e:1"), "accepted");
  EXPECT_THAT(refusal_of_members("1@a:1,2@b:1,3@c:1,4@d:1,5@e:1,6@f:1"), HasSubstr("more than 5"));
}

/// What `plan_listeners` says of a node whose settings are a cluster's but for `change`.
template <typename F>
Result<ListenPlan> plan_with(F change) {
  ServerOptions options;
  options.members = kThree;
  options.node_id = 2;
  options.secret_file = "secret";
  change(options);
  return plan_listeners(options);
}
template <typename F>
std::string refusal_of_plan(F change) {
  const auto plan = plan_with(change);
  return plan ? "accepted" : plan.error().message;
}

TEST(ClusterSettings, a_node_listens_where_the_list_says_of_it_unless_it_says_otherwise) {
  auto plan = plan_with([](ServerOptions&) {});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->peer, (io::Address{"127.0.0.1", 9193}));
  plan = plan_with([](ServerOptions& o) { o.peer_listener = "127.0.0.2:9999"; });
  EXPECT_EQ(plan->peer, (io::Address{"127.0.0.2", 9999}));
  plan = plan_with([](ServerOptions& o) {
    o.members.clear();
    o.peer_listener = "127.0.0.1:9999";
  });
  EXPECT_EQ(plan->peer, (io::Address{"127.0.0.1", 9999}));
  EXPECT_EQ(plan_listeners({})->peer, std::nullopt);
}

TEST(ClusterSettings, a_node_that_the_list_does_not_name_is_refused) {
  EXPECT_THAT(refusal_of_plan([](ServerOptions& o) { o.node_id = 4; }),
              AllOf(HasSubstr("cluster.members does not name node 4"), HasSubstr("node.id")));
}

TEST(ClusterSettings, a_cluster_needs_a_secret) {
  EXPECT_THAT(refusal_of_plan([](ServerOptions& o) { o.secret_file.clear(); }),
              AllOf(HasSubstr("cluster.members without cluster.secret.file"),
                    HasSubstr("--cluster-secret-file")));
  EXPECT_THAT(refusal_of_plan([](ServerOptions& o) {
                o.secret_file.clear();
                o.members.clear();
                o.peer_listener = "127.0.0.1:9093";
              }),
              AllOf(HasSubstr("listeners.peer without cluster.secret.file"), HasSubstr("--peer")));
}

TEST(ClusterSettings, a_secret_needs_a_cluster) {
  EXPECT_THAT(
      refusal_of_plan([](ServerOptions& o) { o.members.clear(); }),
      AllOf(HasSubstr("cluster.secret.file without cluster.members"), HasSubstr("--cluster")));
}

TEST(ClusterSettings, the_others_are_told_where_clients_connect) {
  EXPECT_THAT(refusal_of_plan([](ServerOptions& o) { o.http_listener = "127.0.0.1:0"; }),
              HasSubstr("--kafka HOST:PORT"));
  EXPECT_THAT(refusal_of_plan([](ServerOptions& o) { o.rack = std::string(256, 'r'); }),
              HasSubstr("broker.rack has 256 bytes"));
}

TEST(ClusterSettings, nodes_that_meet_beyond_the_loopback_need_consent) {
  const auto beyond = [](ServerOptions& o) { o.members = "1@10.0.0.1:9093,2@10.0.0.2:9093"; };
  EXPECT_THAT(refusal_of_plan(beyond),
              AllOf(HasSubstr("listener peer 10.0.0.2:9093"), HasSubstr("--allow-insecure")));
  const auto plan = plan_with([&](ServerOptions& o) {
    beyond(o);
    o.allow_insecure = true;
    o.advertise = "10.0.0.2:9092";
  });
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(plan->warnings, ::testing::ElementsAre(HasSubstr("without encryption")));
}

TEST(ClusterSettings, clients_of_nodes_on_several_machines_are_not_told_the_loopback) {
  const auto beyond = [](ServerOptions& o) {
    o.members = "1@10.0.0.1:9093,2@127.0.0.1:9093";
    o.allow_insecure = true;
  };
  EXPECT_THAT(refusal_of_plan(beyond),
              AllOf(HasSubstr("127.0.0.1:9092"), HasSubstr("--advertise")));
  EXPECT_EQ(refusal_of_plan([&](ServerOptions& o) {
              beyond(o);
              o.kafka_listener = "10.0.0.2:9092";
            }),
            "accepted");
  EXPECT_EQ(refusal_of_plan([&](ServerOptions& o) {
              beyond(o);
              o.advertise = "127.0.0.1:9092";
            }),
            "accepted")
      << "who says it means it";
}

TEST(ClusterSettings, nobody_is_told_to_connect_to_a_wildcard) {
  const auto wildcard = [](ServerOptions& o) {
    o.allow_insecure = true;
    o.peer_listener = "0.0.0.0:9093";
    o.kafka_listener = "10.0.0.2:9092";
  };
  EXPECT_EQ(refusal_of_plan(wildcard), "accepted") << "the list says where it is";
  const auto alone = [&](ServerOptions& o) {
    wildcard(o);
    o.members.clear();
  };
  EXPECT_THAT(refusal_of_plan(alone), AllOf(HasSubstr("0.0.0.0:9093"), HasSubstr("--advertise")));
  const auto plan = plan_with([&](ServerOptions& o) {
    alone(o);
    o.advertise = "n2.example:9092";
  });
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->peer_host, "n2.example");
}

class SecretFile : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "pyralog_secret_" + std::to_string(::getpid());
  }
  void TearDown() override { std::remove(path_.c_str()); }
  Result<Bytes> read(const std::string& content, mode_t mode = 0600) {
    std::remove(path_.c_str());
    std::ofstream(path_, std::ios::binary) << content;
    EXPECT_EQ(::chmod(path_.c_str(), mode), 0);
    return read_secret(path_);
  }
  std::string refusal(const std::string& content, mode_t mode = 0600) {
    const auto secret = read(content, mode);
    return secret ? "accepted" : secret.error().message;
  }
  std::string path_;
};

TEST_F(SecretFile, is_taken_without_the_end_of_its_line) {
  const std::string secret = "0123456789abcdef";
  for (const char* end : {"", "\n", "\r\n"}) {
    const auto got = read(secret + end);
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(as_text(*got), secret);
  }
  EXPECT_EQ(as_text(*read(secret + "\n\n")), secret + "\n") << "one line's end only";
  EXPECT_TRUE(read(secret, 0400));
}

TEST_F(SecretFile, that_others_can_read_or_change_is_refused) {
  for (const mode_t mode : {0640U, 0604U, 0660U, 0620U, 0602U, 0610U, 0644U, 0777U}) {
    EXPECT_THAT(refusal("0123456789abcdef", mode),
                AllOf(HasSubstr(path_), HasSubstr("chmod 600"), Not(HasSubstr("0123"))))
        << std::oct << mode;
  }
}

TEST_F(SecretFile, that_is_no_secret_is_refused) {
  EXPECT_THAT(refusal(""), AllOf(HasSubstr(path_), HasSubstr("empty")));
  EXPECT_THAT(refusal("\n"), HasSubstr("empty"));
  EXPECT_THAT(refusal("012345678abcdef\n"),
              AllOf(HasSubstr("15 bytes"), HasSubstr("openssl rand"), Not(HasSubstr("0123"))));
  EXPECT_TRUE(read(std::string(4096, 'x')));
  EXPECT_THAT(refusal(std::string(4097, 'x')), HasSubstr("longer than 4096"));
}

TEST_F(SecretFile, that_is_missing_or_no_file_is_named) {
  const auto missing = read_secret("/nonexistent/secret");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/secret"));
  EXPECT_FALSE(read_secret(::testing::TempDir()));
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_FALSE(read_secret(path_)) << "and it waits for nobody";
}

}  // namespace
}  // namespace pyralog::server
