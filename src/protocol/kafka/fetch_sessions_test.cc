#include "protocol/kafka/fetch_sessions.h"

#include <gtest/gtest.h>

#include <set>

namespace pyralog::protocol::kafka {
namespace {

using Items = std::vector<broker::FetchItem>;

Items items(std::initializer_list<std::pair<const char*, std::int64_t>> list) {
  Items made;
  for (const auto& [topic, offset] : list) {
    broker::FetchItem item;
    item.target = {topic, 0};
    item.offset = offset;
    made.push_back(item);
  }
  return made;
}
Instant at(Duration time) { return Instant{} + time; }
broker::FetchOutcome outcome(std::int64_t high_watermark, std::uint64_t bytes = 0,
                             KafkaError error = KafkaError::kNone) {
  broker::FetchOutcome made;
  made.high_watermark = high_watermark;
  made.log_start = 0;
  made.bytes = bytes;
  made.error = error;
  return made;
}

TEST(FetchSessions, the_id_says_whose_shard_it_is_and_is_never_0) {
  for (std::size_t shards = 1; shards <= 7; ++shards) {
    for (unsigned shard = 0; shard < shards; ++shard) {
      FetchSessions sessions(shard, {});
      std::set<std::int32_t> ids;
      for (const std::uint64_t random : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{42},
                                         std::uint64_t{42}, std::uint64_t{0}}) {
        const auto id = sessions.open(items({{"t", 0}}), shards, random, at(0s));
        EXPECT_GT(id, 0);
        EXPECT_EQ(FetchSessions::shard_of(id, shards), shard);
        EXPECT_TRUE(ids.insert(id).second);
      }
    }
  }
}

TEST(FetchSessions, an_epoch_counts_up_by_one_and_skips_0_at_its_end) {
  FetchSessions sessions(0, {});
  const auto id = sessions.open(items({{"t", 0}}), 1, 1, at(0s));
  EXPECT_EQ(sessions.use(id + 1, 1, at(0s)), std::unexpected(KafkaError::kFetchSessionIdNotFound));
  EXPECT_EQ(sessions.use(id, 2, at(0s)), std::unexpected(KafkaError::kInvalidFetchSessionEpoch));
  EXPECT_TRUE(sessions.use(id, 1, at(0s)));
  EXPECT_EQ(sessions.use(id, 1, at(0s)), std::unexpected(KafkaError::kInvalidFetchSessionEpoch))
      << "a request that comes twice must not be served twice";
  EXPECT_TRUE(sessions.use(id, 2, at(0s)));
  sessions.find(id)->next_epoch = INT32_MAX;
  EXPECT_TRUE(sessions.use(id, INT32_MAX, at(0s)));
  EXPECT_TRUE(sessions.use(id, 1, at(0s)));
  sessions.close(id);
  EXPECT_EQ(sessions.find(id), nullptr);
}

TEST(FetchSessions, only_an_idle_one_makes_room) {
  FetchSessions sessions(0, {.max_sessions = 2, .idle = 2min, .max_partitions = 10});
  const auto first = sessions.open(items({{"t", 0}}), 1, 1, at(0s));
  const auto second = sessions.open(items({{"t", 0}}), 1, 2, at(1s));
  EXPECT_EQ(sessions.open(items({{"t", 0}}), 1, 3, at(60s)), 0);
  EXPECT_TRUE(sessions.use(first, 1, at(100s)));
  const auto third = sessions.open(items({{"t", 0}}), 1, 4, at(121s));
  EXPECT_GT(third, 0);
  EXPECT_NE(sessions.find(first), nullptr);
  EXPECT_EQ(sessions.find(second), nullptr);
  EXPECT_EQ(sessions.size(), 2u);
}

TEST(FetchSessions, partitions_are_bounded) {
  FetchSessions sessions(0, {.max_sessions = 2, .idle = 2min, .max_partitions = 2});
  EXPECT_EQ(sessions.open(items({{"a", 0}, {"b", 0}, {"c", 0}}), 1, 1, at(0s)), 0);
  const auto id = sessions.open(items({{"a", 0}, {"b", 0}}), 1, 1, at(0s));
  EXPECT_TRUE(sessions.update(*sessions.find(id), items({{"b", 5}}), {}));
  EXPECT_FALSE(sessions.update(*sessions.find(id), items({{"c", 0}}), {}));
}

TEST(FetchSessions, partitions_are_added_changed_and_forgotten) {
  FetchSessions sessions(0, {});
  const auto id = sessions.open(items({{"a", 1}, {"b", 2}, {"c", 3}}), 1, 1, at(0s));
  FetchSessions::Session& session = *sessions.find(id);
  EXPECT_TRUE(sessions.update(session, items({{"b", 7}, {"d", 4}}), {{"a", 0}, {"nowhere", 0}}));
  std::map<std::string, std::int64_t> now;
  for (const auto& each : session.partitions) now[each.item.target.topic] = each.item.offset;
  EXPECT_EQ(now, (std::map<std::string, std::int64_t>{{"b", 7}, {"c", 3}, {"d", 4}}));
  for (const auto& [key, index] : session.index) {
    EXPECT_EQ(session.partitions[index].item.target.topic, key.first);
  }
}

TEST(FetchSessions, only_news_is_told_and_errors_until_they_are_gone) {
  FetchSessions::Partition partition;
  EXPECT_TRUE(FetchSessions::is_news(partition, outcome(5)));
  EXPECT_FALSE(FetchSessions::is_news(partition, outcome(5)));
  EXPECT_TRUE(FetchSessions::is_news(partition, outcome(6)));
  EXPECT_TRUE(FetchSessions::is_news(partition, outcome(6, 10)));
  EXPECT_FALSE(FetchSessions::is_news(partition, outcome(6)));
  EXPECT_TRUE(FetchSessions::is_news(partition, outcome(-1, 0, KafkaError::kOffsetOutOfRange)));
  EXPECT_TRUE(FetchSessions::is_news(partition, outcome(-1, 0, KafkaError::kOffsetOutOfRange)));
  EXPECT_TRUE(FetchSessions::is_news(partition, outcome(6)));
  EXPECT_FALSE(FetchSessions::is_news(partition, outcome(6)));
}

TEST(FetchSessions, whoever_was_served_goes_to_the_back) {
  FetchSessions sessions(0, {});
  const auto id = sessions.open(items({{"a", 0}, {"b", 0}, {"c", 0}}), 1, 1, at(0s));
  FetchSessions::Session& session = *sessions.find(id);
  sessions.rotate(session, {true, false, false});
  std::string order;
  for (const auto& each : session.partitions) order += each.item.target.topic;
  EXPECT_EQ(order, "bca");
  EXPECT_EQ(session.index.at({"a", 0}), 2u);
}

}  // namespace
}  // namespace pyralog::protocol::kafka
