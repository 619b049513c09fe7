#include "cli/partition_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pyralog::cli {
namespace {

using ::testing::HasSubstr;

client::TopicInfo orders() {
  client::TopicInfo topic;
  topic.name = "orders";
  topic.partitions = {{.index = 0,
                       .leader = 1,
                       .leader_epoch = 5,
                       .replicas = {1, 2, 3},
                       .in_sync = {1, 2},
                       .offline = {3}},
                      {.index = 1,
                       .leader = 1,
                       .leader_epoch = 7,
                       .replicas = {2, 1, 3},
                       .in_sync = {1, 2, 3},
                       .offline = {}},
                      {.index = 2,
                       .leader = -1,
                       .leader_epoch = 4,
                       .replicas = {3},
                       .in_sync = {},
                       .offline = {3}}};
  return topic;
}

TEST(PartitionText, says_who_leads_who_should_and_who_is_missing) {
  EXPECT_EQ(partitions_text({orders()}, false),
            "orders  partition 0  leader 1  epoch 5  replicas 1,2,3  in sync 1,2  offline 3\n"
            "orders  partition 1  leader 1  epoch 7  replicas 2,1,3  in sync 1,2,3  prefers 2\n"
            "orders  partition 2  leader none  epoch 4  replicas 3  in sync none  offline 3\n");
  const std::string json = partitions_text({orders()}, true);
  EXPECT_THAT(json,
              HasSubstr(R"({"topic":"orders","partition":0,"leader":1,"leader_epoch":5,)"
                        R"("preferred":1,"replicas":[1,2,3],"in_sync":[1,2],"offline":[3]})"));
  EXPECT_THAT(json, HasSubstr(R"("partition":2,"leader":null,)"));
  EXPECT_EQ(partitions_text({}, true), "[]\n");
  EXPECT_EQ(partitions_text({}, false), "");
}

TEST(PartitionText, says_what_became_of_each_leader_and_fails_if_one_stayed) {
  client::Elections elections;
  elections.emplace(client::TopicPartition{"a", 0}, client::Election::kMoved);
  elections.emplace(client::TopicPartition{"a", 1}, client::Election::kNotNeeded);
  EXPECT_TRUE(failures_of(elections));
  elections.emplace(client::TopicPartition{"b", 0}, fail(Code::kUnavailable, "b is down"));
  elections.emplace(client::TopicPartition{"b", 1}, fail(Code::kUnavailable, "b is down, too"));
  EXPECT_EQ(elections_text(elections, false),
            "topic \"a\" partition 0: led by its preferred replica now\n"
            "topic \"a\" partition 1: led by its preferred replica already\n");
  EXPECT_THAT(elections_text(elections, true),
              HasSubstr(R"({"topic":"b","partition":0,"leader":"failed","error":"b is down"})"));
  const auto failed = failures_of(elections);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "b is down; and 1 more, see --json");
}

}  // namespace
}  // namespace pyralog::cli
