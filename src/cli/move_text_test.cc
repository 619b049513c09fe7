#include "cli/move_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pyralog::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(MoveText, lists_of_nodes_are_read_whole_or_not_at_all) {
  EXPECT_THAT(parse_nodes("3").value(), ElementsAre(3));
  EXPECT_THAT(parse_nodes("3,1,2").value(), ElementsAre(3, 1, 2));
  for (const char* bad : {"", ",", "1,", ",1", "1,,2", "1 ,2", "x", "1,-2", "2147483648", "1;2"}) {
    const auto nodes = parse_nodes(bad);
    ASSERT_FALSE(nodes) << bad;
    EXPECT_THAT(nodes.error().message, HasSubstr("; give ids such as 1,2,3"));
  }
}

TEST(MoveText, says_what_comes_and_what_goes) {
  const client::Reassignments moves{{{"a", 0}, {{3, 1, 2}, {3}, {2}}},
                                    {{"a", 4}, {{1, 2}, {}, {2}}}};
  EXPECT_EQ(moves_text(moves, false),
            "a  partition 0  replicas 3,1,2  adding 3  removing 2\n"
            "a  partition 4  replicas 1,2  removing 2\n");
  EXPECT_THAT(
      moves_text(moves, true),
      HasSubstr(R"([{"topic":"a","partition":0,"replicas":[3,1,2],"adding":[3],"removing":[2]},)"));
  EXPECT_EQ(moves_text({}, true), "[]\n");
}

TEST(MoveText, says_what_became_of_a_move) {
  EXPECT_EQ(move_text({"a", 1}, {3, 1}, "moved", false), "topic \"a\" partition 1: on 3,1 now\n");
  EXPECT_THAT(move_text({"a", 1}, {3, 1}, "moving", false), HasSubstr("on its way to 3,1"));
  EXPECT_THAT(move_text({"a", 1}, {3, 1}, "cancelled", false), HasSubstr("stays on 3,1"));
  EXPECT_EQ(move_text({"a", 1}, {3, 1}, "moved", true),
            "[{\"topic\":\"a\",\"partition\":1,\"replicas\":[3,1],\"state\":\"moved\"}]\n");
}

TEST(MoveText, says_how_far_a_drain_is_and_what_cannot_leave) {
  client::Drain drain;
  drain.draining = true;
  EXPECT_THAT(drain_text(3, drain, false), HasSubstr("node 3: drained"));
  EXPECT_TRUE(check_not_stuck(3, drain));
  drain.leading = 1;
  drain.under_way = 2;
  drain.stuck = 1;
  drain.examples = {{{"t", 5}, "topic \"t\" partition 5: needs 3 nodes; add a node"}};
  EXPECT_EQ(drain_text(3, drain, false),
            "node 3: draining; leads 1 partition, 2 leaving it, 0 to leave, 1 stuck\n"
            "  topic \"t\" partition 5: needs 3 nodes; add a node\n");
  EXPECT_THAT(drain_text(3, drain, true),
              AllOf(HasSubstr(R"("done":false,"leading":1,"under_way":2,"waiting":0,"stuck":1,)"),
                    HasSubstr(R"({"topic":"t","partition":5,"reason":")")));
  EXPECT_TRUE(check_not_stuck(3, drain)) << "others still leave it";
  drain.under_way = 0;
  const auto stuck = check_not_stuck(3, drain);
  ASSERT_FALSE(stuck);
  EXPECT_THAT(stuck.error().message,
              HasSubstr("such as topic \"t\" partition 5: needs 3 nodes; add"));
}

}  // namespace
}  // namespace pyralog::cli
