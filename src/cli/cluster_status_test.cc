#include "cli/cluster_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pyralog::cli {
namespace {

using ::testing::HasSubstr;

constexpr const char* kThree =
    R"({"cluster_id":"c","cluster":{"id":"c","node_id":1,"controller":2,"term":3,"committed":17,"feature_level":2,)"
    R"("reachable":2,"nodes":[)"
    R"({"node_id":1,"kafka":"a:1","peer":"a:2","voter":true,"controller":false,"reachable":true},)"
    R"({"node_id":2,"kafka":"b:1","peer":"b:2","rack":"r","feature_level":3,"controller":true,"reachable":true},)"
    R"({"node_id":3,"kafka":"","peer":"","controller":false,"reachable":false,"why":"refused"}]}})";

TEST(ClusterStatus, tells_who_leads_and_who_is_missing_and_why) {
  EXPECT_EQ(*cluster_status_text(kThree, false),
            "cluster c  controller 2  term 3  committed 17  feature level 2\n"
            "  node 1  kafka a:1  peer a:2  reachable\n"
            "  node 2  kafka b:1  peer b:2  rack r  level 3  controller  reachable\n"
            "  node 3  unreachable: refused\n");
  const std::string json = *cluster_status_text(kThree, true);
  EXPECT_THAT(json, HasSubstr(R"("controller":2)"));
  EXPECT_TRUE(json.ends_with("}\n"));
}

TEST(ClusterStatus, of_a_lone_node_is_that_of_a_cluster_of_one) {
  const auto text = cluster_status_text(R"({"cluster_id":"c","node_id":1,"kafka":"a:1"})", false);
  EXPECT_EQ(*text,
            "cluster c  controller 1  term -  committed -\n"
            "  node 1  kafka a:1  controller  reachable\n");
}

TEST(ClusterStatus, without_a_controller_says_so) {
  const auto text =
      cluster_status_text(R"({"cluster":{"id":"c","controller":null,"term":9,"nodes":[]}})", false);
  EXPECT_EQ(*text, "cluster c  controller -  term 9  committed -\n");
}

TEST(ClusterStatus, of_a_node_that_starts_is_what_it_waits_for) {
  const auto text = cluster_status_text(R"({"ready":false,"waits_for":"a majority"})", false);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, Code::kUnavailable);
  EXPECT_THAT(text.error().message, HasSubstr("waits for a majority"));
}

TEST(ClusterStatus, an_answer_of_something_else_is_refused) {
  for (const char* other : {"", "<html>", "[]", "{", R"({"cluster":7})", R"({"cluster":{}})",
                            R"({"cluster":{"nodes":{}}})"}) {
    EXPECT_FALSE(cluster_status_text(other, false)) << other;
  }
  EXPECT_TRUE(
      cluster_status_text(R"({"cluster":{"nodes":[7,{},{"node_id":"x","why":1}]}})", false));
}

}  // namespace
}  // namespace pyralog::cli
