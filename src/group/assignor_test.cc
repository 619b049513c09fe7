#include "group/assignor.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

namespace pyralog::group {
namespace {

AssignmentMember member(std::string id, std::vector<std::string> topics,
                        std::vector<TopicPartition> owned = {}, std::int32_t generation = -1) {
  AssignmentMember m;
  m.id = std::move(id);
  m.subscription.topics = std::move(topics);
  m.subscription.owned = std::move(owned);
  m.subscription.generation = generation;
  return m;
}
using Parts = std::vector<TopicPartition>;

TEST(Assignor, range_gives_the_first_members_one_more) {
  const auto a = assign(Assignor::kRange,
                        {member("c", {"t", "u"}), member("a", {"t", "u"}), member("b", {"t"})},
                        {{"t", 7}, {"u", 3}});
  EXPECT_EQ(a.at("a"), (Parts{{"t", 0}, {"t", 1}, {"t", 2}, {"u", 0}, {"u", 1}}));
  EXPECT_EQ(a.at("b"), (Parts{{"t", 3}, {"t", 4}}));
  EXPECT_EQ(a.at("c"), (Parts{{"t", 5}, {"t", 6}, {"u", 2}}));
}

TEST(Assignor, static_members_keep_their_place_under_a_new_id) {
  auto x = member("z-1", {"t"});
  auto y = member("b-1", {"t"});
  x.instance_id = "1";
  y.instance_id = "2";
  const auto before = assign(Assignor::kRange, {x, y}, {{"t", 3}});
  x.id = "z-2";
  y.id = "a-9";
  const auto after = assign(Assignor::kRange, {x, y}, {{"t", 3}});
  EXPECT_EQ(before.at("z-1"), after.at("z-2"));
  EXPECT_EQ(before.at("b-1"), after.at("a-9"));
}

TEST(Assignor, round_robin_goes_round_and_skips_who_did_not_ask) {
  const auto a = assign(Assignor::kRoundRobin,
                        {member("a", {"t", "u"}), member("b", {"t"}), member("c", {"t", "u"})},
                        {{"t", 2}, {"u", 3}});
  EXPECT_EQ(a.at("a"), (Parts{{"t", 0}, {"u", 1}}));
  EXPECT_EQ(a.at("b"), (Parts{{"t", 1}}));
  EXPECT_EQ(a.at("c"), (Parts{{"u", 0}, {"u", 2}}));
}

TEST(Assignor, sticky_moves_no_more_than_it_must) {
  const Parts first{{"t", 0}, {"t", 1}, {"t", 2}};
  const Parts second{{"t", 3}, {"t", 4}, {"t", 5}};
  const auto a =
      assign(Assignor::kSticky,
             {member("a", {"t"}, first, 1), member("b", {"t"}, second, 1), member("c", {"t"})},
             {{"t", 6}});
  EXPECT_EQ(a.at("c").size(), 2u);
  for (const auto& [id, had] : {std::pair{"a", first}, {"b", second}}) {
    EXPECT_EQ(a.at(id).size(), 2u);
    EXPECT_TRUE(std::includes(had.begin(), had.end(), a.at(id).begin(), a.at(id).end()));
  }
}

TEST(Assignor, of_two_claims_the_newer_generation_wins) {
  const auto a = assign(
      Assignor::kSticky,
      {member("a", {"t"}, {{"t", 0}, {"t", 1}}, 4), member("b", {"t"}, {{"t", 0}}, 5)}, {{"t", 2}});
  EXPECT_EQ(a.at("b"), (Parts{{"t", 0}}));
  EXPECT_EQ(a.at("a"), (Parts{{"t", 1}}));
}

TEST(Assignor, cooperative_hands_over_only_what_was_given_up) {
  std::vector<AssignmentMember> members{member("a", {"t"}, {{"t", 0}, {"t", 1}}, 1),
                                        member("b", {"t"})};
  auto a = assign(Assignor::kCooperativeSticky, members, {{"t", 2}});
  EXPECT_EQ(a.at("a").size(), 1u);
  EXPECT_TRUE(a.at("b").empty()) << "a still reads it";
  members[0].subscription.owned = a.at("a");
  members[0].subscription.generation = 2;
  a = assign(Assignor::kCooperativeSticky, members, {{"t", 2}});
  EXPECT_EQ(a.at("a").size(), 1u);
  EXPECT_EQ(a.at("b").size(), 1u);
}

TEST(Assignor, nobody_and_nothing) {
  for (const char* name : {"range", "roundrobin", "sticky", "cooperative-sticky"}) {
    const Assignor a = find_assignor(name).value();
    EXPECT_TRUE(assign(a, {}, {{"t", 3}}).empty());
    EXPECT_TRUE(assign(a, {member("a", {"gone"})}, {{"t", 3}}).at("a").empty());
  }
  EXPECT_FALSE(find_assignor("uniform"));
}

TEST(ConsumerProtocol, bytes_are_kafkas) {
  Subscription s;
  s.topics = {"t"};
  s.owned = {{"t", 1}};
  s.generation = 5;
  const Bytes expected{0, 3, 0,   0, 0, 1, 0, 1, 't', 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0,    1,
                       0, 1, 't', 0, 0, 0, 1, 0, 0,   0,    1,    0,    0,    0, 5, 0xFF, 0xFF};
  EXPECT_EQ(encode(s), expected);
  const auto back = decode_subscription(expected);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->topics, s.topics);
  EXPECT_EQ(back->owned, s.owned);
  EXPECT_EQ(back->generation, 5);
  const auto v0 = decode_subscription(Bytes{0, 0, 0, 0, 0, 1, 0, 1, 't', 0xFF, 0xFF, 0xFF, 0xFF});
  ASSERT_TRUE(v0);
  EXPECT_EQ(v0->generation, -1);
  Bytes future = expected;
  future[1] = 9;
  future.push_back(77);
  EXPECT_EQ(decode_subscription(future)->topics, s.topics);
  EXPECT_FALSE(decode_subscription(ByteView(expected).first(12)));
  Assignment a{{{"t", 1}, {"t", 2}, {"u", 0}}, std::nullopt};
  EXPECT_EQ(decode_assignment(encode(a))->partitions, a.partitions);
  EXPECT_TRUE(decode_assignment({})->partitions.empty());
  EXPECT_FALSE(decode_assignment(Bytes{0, 0, 0, 0, 0, 9}));
}

TEST(ConsumerProtocol, what_the_eager_sticky_assignor_remembers_is_read) {
  Subscription s;
  s.topics = {"t"};
  s.user_data = encode_sticky_user_data({{"t", 1}, {"t", 3}}, 8);
  auto back = decode_subscription(encode(s));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->owned, (Parts{{"t", 1}, {"t", 3}}));
  EXPECT_EQ(back->generation, 8);
  s.user_data = Bytes{9, 9, 9, 9, 9, 9, 9};
  back = decode_subscription(encode(s));
  ASSERT_TRUE(back);
  EXPECT_TRUE(back->owned.empty()) << "somebody else's bytes";
}

RC_GTEST_PROP(AssignorProperty, each_partition_has_one_subscribed_owner_and_sticky_is_balanced,
              ()) {
  PartitionCounts topics;
  const int topic_count = *rc::gen::inRange(1, 5);
  for (int t = 0; t < topic_count; ++t) topics["t" + std::to_string(t)] = *rc::gen::inRange(0, 9);
  std::vector<AssignmentMember> members;
  const int member_count = *rc::gen::inRange(1, 7);
  for (int m = 0; m < member_count; ++m) {
    auto one = member("m" + std::to_string(m), {});
    for (const auto& [topic, count] : topics) {
      if (*rc::gen::inRange(0, 3) > 0) one.subscription.topics.push_back(topic);
      for (int p = 0; p < count + 1; ++p) {
        if (*rc::gen::inRange(0, 6) == 0) one.subscription.owned.emplace_back(topic, p);
      }
    }
    one.subscription.generation = *rc::gen::inRange(0, 3);
    members.push_back(std::move(one));
  }
  const auto reads = [&](const AssignmentMember& m, const std::string& topic) {
    const auto& all = m.subscription.topics;
    return std::find(all.begin(), all.end(), topic) != all.end();
  };
  for (const Assignor a : {Assignor::kRange, Assignor::kRoundRobin, Assignor::kSticky}) {
    const auto result = assign(a, members, topics);
    std::map<TopicPartition, std::string> owner;
    for (const AssignmentMember& m : members) {
      for (const TopicPartition& tp : result.at(m.id)) {
        RC_ASSERT(reads(m, tp.first));
        RC_ASSERT(owner.emplace(tp, m.id).second);
      }
    }
    for (const auto& [topic, count] : topics) {
      const bool wanted = std::any_of(members.begin(), members.end(),
                                      [&, &t = topic](const auto& m) { return reads(m, t); });
      for (int p = 0; wanted && p < count; ++p) RC_ASSERT(owner.contains({topic, p}));
    }
    if (a != Assignor::kSticky) continue;
    for (const auto& [tp, id] : owner) {
      for (const AssignmentMember& m : members) {
        if (reads(m, tp.first)) RC_ASSERT(result.at(id).size() <= result.at(m.id).size() + 1);
      }
    }
  }
}

RC_GTEST_PROP(AssignorProperty, cooperative_never_overlaps_and_settles, ()) {
  const PartitionCounts topics{{"t", *rc::gen::inRange(1, 12)}};
  std::vector<AssignmentMember> members;
  std::int32_t generation = 0;
  for (int round = 0; round < 8; ++round) {
    if (round < 4 || members.empty()) {  // somebody comes or goes
      if (members.size() > 1 && *rc::gen::inRange(0, 2) == 0) {
        members.erase(members.begin());
      } else {
        members.push_back(member("m" + std::to_string(round), {"t"}));
      }
    }
    ++generation;
    const auto result = assign(Assignor::kCooperativeSticky, members, topics);
    std::map<TopicPartition, std::string> holder;
    for (const AssignmentMember& m : members) {
      for (const TopicPartition& tp : m.subscription.owned) holder[tp] = m.id;
    }
    for (AssignmentMember& m : members) {
      for (const TopicPartition& tp : result.at(m.id)) {
        RC_ASSERT(!holder.contains(tp) || holder[tp] == m.id);
      }
    }
    for (AssignmentMember& m : members) {
      m.subscription.owned = result.at(m.id);
      m.subscription.generation = generation;
    }
  }
  std::size_t total = 0;
  std::size_t most = 0;
  std::size_t least = SIZE_MAX;
  for (const AssignmentMember& m : members) {
    total += m.subscription.owned.size();
    most = std::max(most, m.subscription.owned.size());
    least = std::min(least, m.subscription.owned.size());
  }
  RC_ASSERT(total == static_cast<std::size_t>(topics.at("t")));
  RC_ASSERT(most <= least + 1);
}

}  // namespace
}  // namespace pyralog::group
