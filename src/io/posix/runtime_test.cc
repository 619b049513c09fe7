#include "io/posix/runtime.h"

#include <gtest/gtest.h>

namespace pyralog::io::posix {
namespace {

TEST(Runtime, runs_a_task_on_each_shard) {
  Runtime runtime({.shards = 2});
  ASSERT_TRUE(runtime.start());
  for (const unsigned i : {0U, 1U}) {
    EXPECT_EQ(runtime.run([]() -> Task<unsigned> { co_return Shard::current().index(); }, i), i);
  }
}

}  // namespace
}  // namespace pyralog::io::posix
