#include "broker/lag_board.h"

#include <gtest/gtest.h>

namespace pyralog::broker {
namespace {

Lag lag(std::int32_t partition, std::uint32_t epoch, std::int32_t node) {
  return {{TopicId{}, PartitionIndex(partition)}, Epoch(epoch), NodeId(node)};
}

TEST(LagBoard, what_a_shard_says_stands_until_it_says_otherwise) {
  LagBoard board;
  EXPECT_TRUE(board.take(NodeId(1), 0, {lag(2, 5, 3), lag(1, 4, 3)}));
  EXPECT_FALSE(board.take(NodeId(1), 0, {lag(1, 4, 3), lag(2, 5, 3)})) << "the same in other words";
  EXPECT_TRUE(board.take(NodeId(1), 1, {lag(3, 1, 2)}));
  EXPECT_TRUE(is_lagging(*board.all(), lag(1, 4, 3)));
  EXPECT_TRUE(is_lagging(*board.all(), lag(3, 1, 2)));
  EXPECT_FALSE(is_lagging(*board.all(), lag(1, 5, 3))) << "of another epoch";
  EXPECT_TRUE(board.take(NodeId(1), 0, {}));
  EXPECT_FALSE(board.take(NodeId(1), 0, {}));
  EXPECT_EQ(board.all()->size(), 1u);
}

TEST(LagBoard, of_a_node_that_is_gone_nothing_is_kept) {
  LagBoard board;
  EXPECT_TRUE(board.take(NodeId(1), 0, {lag(1, 4, 3)}));
  EXPECT_TRUE(board.take(NodeId(2), 0, {lag(2, 4, 3)}));
  EXPECT_TRUE(board.forget(NodeId(1)));
  EXPECT_FALSE(board.forget(NodeId(1)));
  EXPECT_EQ(*board.all(), Lags{lag(2, 4, 3)});
}

}  // namespace
}  // namespace pyralog::broker
