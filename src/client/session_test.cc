#include "client/session.h"

#include <gtest/gtest.h>

namespace pyralog::client {
namespace {

const TopicPartition kThere{"t", 0};
const TopicId kTopic{Uuid{{1}}};

TEST(SessionTest, keeps_the_farthest_of_what_was_written_and_read) {
  Session session;
  EXPECT_EQ(session.position(kThere, kTopic), std::nullopt);
  session.reached(kThere, {kTopic, 3, 10});
  session.reached(kThere, {kTopic, 2, 12});
  session.reached(kThere, {kTopic, 4, 5});
  EXPECT_EQ(session.position(kThere, kTopic), (Session::Position{kTopic, 4, 12}));
  EXPECT_EQ(session.position({"t", 1}, kTopic), std::nullopt);
}

TEST(SessionTest, begins_anew_with_a_topic_that_is_made_again) {
  Session session;
  session.reached(kThere, {kTopic, 3, 10});
  const TopicId again{Uuid{{2}}};
  EXPECT_EQ(session.position(kThere, again), std::nullopt)
      << "its offsets are not those of the old";
  session.reached(kThere, {again, 1, 2});
  EXPECT_EQ(session.position(kThere, again), (Session::Position{again, 1, 2}));
  EXPECT_EQ(session.position(kThere, kTopic), std::nullopt);
}

TEST(SessionTest, is_carried_from_one_client_to_another) {
  Session first;
  first.reached(kThere, {kTopic, 3, 10});
  Session second;
  for (const auto& [partition, met] : first.positions()) second.reached(partition, met);
  EXPECT_EQ(second.position(kThere, kTopic), (Session::Position{kTopic, 3, 10}));
}

}  // namespace
}  // namespace pyralog::client
