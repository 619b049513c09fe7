#include "protocol/kafka/fetch_sessions.h"

#include <gtest/gtest.h>

#include <ctime>
#include <map>
#include <set>

namespace pyralog::protocol::kafka {
namespace {

using Items = std::vector<FetchSessions::Asked>;

Items items(std::initializer_list<std::pair<const char*, std::int64_t>> list) {
  Items made;
  for (const auto& [topic, offset] : list) {
    FetchSessions::Asked each;
    each.item.target = {topic, 0};
    each.item.offset = offset;
    made.push_back(each);
  }
  return made;
}
Instant at(Duration time) { return Instant{} + time; }
/// Partitions `from` to `upto` of one topic.
Items many(std::int32_t from, std::int32_t upto) {
  Items made(static_cast<std::size_t>(upto - from));
  for (auto& each : made) each.item.target = {"a-topic-with-a-name-of-some-length", from++};
  return made;
}
std::string order_of(const FetchSessions::Session& session) {
  std::string order;
  for (const auto& each : session.partitions) order += each.item.target.topic;
  return order;
}
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
  FetchSessions sessions(0, {.max_sessions = 2, .max_partitions = 10, .idle = 2min});
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
  FetchSessions sessions(0, {.max_sessions = 2, .max_partitions = 2});
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
  EXPECT_EQ(order_of(session), "bcd");
  for (const char* topic : {"b", "c", "d"}) {
    const auto* found = session.partitions.find(FetchSessions::Key{topic, 0});
    EXPECT_TRUE(found != nullptr && found->item.target.topic == topic);
  }
  EXPECT_EQ(session.partitions.find(FetchSessions::Key{"a", 0}), nullptr);
  EXPECT_TRUE(sessions.update(session, {}, {{"c", 0}, {"c", 0}, {"b", 0}, {"d", 0}}));
  EXPECT_EQ(session.partitions.size(), 0u);
}

TEST(FetchSessions, each_shard_has_its_share_of_the_slots_and_one_at_least) {
  struct Case {
    unsigned slots;
    unsigned shards;
    unsigned mine;
  };
  for (const auto& [slots, shards, mine] :
       {Case{1000, 4, 250}, Case{10, 4, 2}, Case{3, 4, 1}, Case{0, 4, 0}, Case{5, 1, 5}}) {
    FetchSessions sessions(0, {.max_sessions = slots});
    for (unsigned i = 0; i < 300; ++i) {
      const auto id = sessions.open(items({{"t", 0}}), shards, i * 7, at(0s));
      EXPECT_EQ(id != 0, i < mine) << slots << " " << shards << " " << i;
    }
    EXPECT_EQ(sessions.size(), mine);
  }
}

TEST(FetchSessions, what_all_of_them_take_is_bounded) {
  constexpr std::uint64_t kLimit = 1u << 20;
  FetchSessions sessions(0, {.max_bytes = kLimit});
  const auto first = sessions.open(many(0, 1000), 1, 1, at(0s));
  ASSERT_GT(first, 0);
  // What a partition takes: itself, a node that points to it, a place among the turns, its name.
  EXPECT_GT(sessions.bytes(), 1000 * (sizeof(FetchSessions::Partition) + 48 + 34));
  EXPECT_LT(sessions.bytes(), 1000u * 400);
  const std::uint64_t each = sessions.bytes();
  std::vector<std::int32_t> ids;
  while (const auto id = sessions.open(many(0, 1000), 1, ids.size() * 9, at(1s))) {
    ids.push_back(id);
    ASSERT_LT(ids.size(), 100u);
  }
  EXPECT_LE(sessions.bytes(), kLimit);
  EXPECT_GT(sessions.bytes(), kLimit - each);
  EXPECT_EQ(sessions.open(many(0, 20'000), 1, 2, at(1h)), 0) << "larger than all of the room";
  EXPECT_EQ(sessions.size(), ids.size() + 1) << "nobody goes for what cannot be";
  // Nor can one grow into what others use; when they are idle it can, and what it forgets is free.
  FetchSessions::Session& growing = **sessions.use(first, 1, at(60s));
  EXPECT_FALSE(sessions.update(growing, many(1000, 4000), {}));
  sessions.close(first);
  const auto second = sessions.open(many(0, 10), 1, 3, at(61s));
  ASSERT_GT(second, 0);
  FetchSessions::Session& later = **sessions.use(second, 1, at(10min));
  EXPECT_TRUE(sessions.update(later, many(10, 3500), {}));
  EXPECT_LT(sessions.size(), ids.size());
  EXPECT_LE(sessions.bytes(), kLimit);
  std::vector<FetchSessions::Key> forgotten;
  for (const auto& asked : many(0, 3500)) {
    forgotten.push_back({asked.item.target.topic, asked.item.target.partition});
  }
  const std::uint64_t before = sessions.bytes();
  EXPECT_TRUE(sessions.update(later, {}, forgotten));
  EXPECT_LT(sessions.bytes(), before - each * 3);
  sessions.close(second);
  for (const auto id : ids) sessions.close(id);
  EXPECT_EQ(sessions.bytes(), 0u);
}

TEST(FetchSessions, whoever_names_a_partition_twice_goes_without) {
  FetchSessions sessions(0, {});
  EXPECT_EQ(sessions.open(items({{"a", 1}, {"b", 2}, {"a", 3}}), 1, 1, at(0s)), 0);
  EXPECT_EQ(sessions.bytes(), 0u);
  EXPECT_EQ(sessions.size(), 0u);
}

FetchSessions::Asked by_id(std::uint8_t id, std::int64_t offset, std::string name = {}) {
  FetchSessions::Asked made;
  made.id = TopicId{Uuid{{id}}};
  made.item.target = {std::move(name), 0};
  made.item.offset = offset;
  return made;
}

TEST(FetchSessions, topics_go_by_their_ids_where_requests_name_them_so) {
  FetchSessions sessions(0, {});
  const auto id = sessions.open({by_id(1, 5, "a"), by_id(2, 6), by_id(3, 7)}, 1, 1, at(0s), true);
  ASSERT_GT(id, 0) << "those without a name are not the same";
  const std::uint64_t bytes = sessions.bytes();
  FetchSessions::Session& session = *sessions.find(id);
  EXPECT_TRUE(
      sessions.update(session, {by_id(1, 8), by_id(2, 9, "a-name-that-is-known-by-now")}, {}));
  EXPECT_EQ(session.partitions.size(), 3u);
  EXPECT_EQ(session.partitions[0].item.target.topic, "a") << "as it was called";
  EXPECT_EQ(session.partitions[0].item.offset, 8);
  EXPECT_EQ(session.partitions[1].item.offset, 9);
  EXPECT_EQ(sessions.bytes(), bytes);
  EXPECT_TRUE(sessions.update(session, {}, {{"", 0, TopicId{Uuid{{2}}}}, {"a", 0}}));
  EXPECT_EQ(session.partitions.size(), 2u) << "a name stands for none of them";
  EXPECT_EQ(sessions.open({by_id(1, 0, "a"), by_id(1, 0, "b")}, 1, 2, at(0s), true), 0);
  sessions.close(id);
  EXPECT_EQ(sessions.bytes(), 0u);
}

TEST(FetchSessions, names_and_ids_do_not_go_together) {
  FetchSessions sessions(0, {});
  const auto ids = sessions.open({by_id(1, 0, "a")}, 1, 1, at(0s), true);
  const auto names = sessions.open(items({{"a", 0}}), 1, 2, at(0s));
  const auto error = std::unexpected(KafkaError::kFetchSessionTopicIdError);
  EXPECT_EQ(sessions.use(ids, 1, at(0s), false), error);
  EXPECT_EQ(sessions.use(names, 1, at(0s), true), error);
  EXPECT_EQ(sessions.use(names, 2, at(0s), true),
            std::unexpected(KafkaError::kInvalidFetchSessionEpoch));
  EXPECT_TRUE(sessions.use(ids, 1, at(0s), true)) << "what was refused was no turn";
  EXPECT_TRUE(sessions.use(names, 1, at(0s), false));
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
  EXPECT_EQ(order_of(session), "bca");
  sessions.rotate(session, {false, false, false});
  EXPECT_EQ(order_of(session), "bca");
  sessions.rotate(session, {true, false, true});
  EXPECT_EQ(order_of(session), "cba");
  EXPECT_EQ(session.partitions.find(FetchSessions::Key{"a", 0}), &session.partitions[2]);
}

TEST(FetchSessions, a_turn_is_less_work_than_naming_all_partitions_again) {
  double opening = 1e9;
  double turn = 1e9;
  const auto seconds_since = [](std::clock_t began) {
    return static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
  };
  for (int i = 0; i < 5; ++i) {
    FetchSessions sessions(0, {});
    Items all = many(0, 50'000);
    std::clock_t began = std::clock();
    const auto id = sessions.open(std::move(all), 1, 1, at(0s));
    opening = std::min(opening, seconds_since(began));
    FetchSessions::Session& session = *sessions.find(id);
    std::vector<bool> served(50'000);
    served[7] = served[30'000] = true;
    began = std::clock();
    EXPECT_TRUE(sessions.update(session, many(20'000, 20'005), {}));
    sessions.rotate(session, served);
    turn = std::min(turn, seconds_since(began));
    EXPECT_EQ(session.partitions[49'999].item.target.partition, 30'000);
  }
  EXPECT_LT(turn * 5, opening);
}

}  // namespace
}  // namespace pyralog::protocol::kafka
