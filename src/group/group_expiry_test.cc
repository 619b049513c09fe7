// What retention lets go, when, and that nothing is gone before its tombstone is stored.
#include <gtest/gtest.h>

#include "group/assignor.h"
#include "group/group_testing.h"

namespace pyralog::group {
namespace {

using namespace testing;
using enum KafkaError;

constexpr std::int64_t kRetention = 60'000;
const Options kShort{.offsets_retention_ms = kRetention};

std::int64_t wall(const Coordinator& c) {
  return c.now().wall.ms;
}
void store(Coordinator& c, const CommitRequest& in) {
  c.feed(in);
  const auto answer = c.reply<CommitResponse>(in.token);
  ASSERT_TRUE(answer && answer->partitions.at(0).error == kNone);
}
CommitRequest commit_of(std::string group, std::int32_t partitions) {
  CommitRequest r = commit(77, -1, "", 1);
  r.group = std::move(group);
  r.partitions.clear();
  for (std::int32_t p = 0; p < partitions; ++p) r.partitions.push_back({"t", p, 1, -1, ""});
  return r;
}
/// The only member of group "g", which reads `topic`.
std::string reader_of(Coordinator& c, const std::string& topic) {
  JoinRequest reader = join(800, {}, 3);
  reader.protocols = {Protocol{"range", encode(Subscription{{topic}, {}, {}, -1, {}})}};
  c.feed(reader);
  c.pass(3'000);
  const auto joined = c.reply<JoinResponse>(800);
  PYRALOG_ASSERT(joined && joined->error == kNone);
  c.feed(sync(801, joined->generation, joined->member_id, {{joined->member_id, bytes("all")}}));
  PYRALOG_ASSERT(c.reply<SyncResponse>(801)->error == kNone);
  return joined->member_id;
}

TEST(Expiry, of_a_group_that_only_stores_goes_by_each_commit) {
  Coordinator c(kShort);
  store(c, commit(1, -1, "", 42));
  const std::int64_t first = wall(c);
  c.pass(40'000);
  store(c, commit(2, -1, "", 43, "later"));
  c.expire(first + kRetention - 1);
  EXPECT_EQ(committed(c.table()), 42);
  c.expire(first + kRetention);
  EXPECT_EQ(committed(c.table()), -1);
  EXPECT_EQ(committed(c.table(), "later"), 43);
  EXPECT_EQ(c.expired.offsets, 1u);
  EXPECT_EQ(c.expired.groups, 0u);
  c.restart();
  EXPECT_EQ(committed(c.table()), -1);
  EXPECT_EQ(committed(c.table(), "later"), 43);
  c.expire(first + 40'000 + kRetention);
  EXPECT_EQ(c.table().size(), 0u) << "nothing of it is left";
  EXPECT_EQ(c.expired.offsets, 2u);
  c.restart();
  EXPECT_EQ(c.table().size(), 0u);
}

TEST(Expiry, of_an_empty_group_counts_from_when_it_became_so) {
  Coordinator c(kShort);
  const std::string id = stable_alone(c);
  store(c, commit(1, 1, id, 42));
  c.pass(9'000);
  c.feed(leave(2, id));
  const std::int64_t emptied = wall(c);
  ASSERT_EQ(c.table().describe("g").state, "Empty");
  c.restart();
  c.pass(30'000);
  c.expire(emptied + kRetention - 1);
  EXPECT_EQ(committed(c.table()), 42);
  c.expire(emptied + kRetention);
  EXPECT_EQ(c.table().describe("g").error, kGroupIdNotFound);
  EXPECT_EQ(c.table().describe("g").state, "Dead");
  EXPECT_EQ(committed(c.table()), -1);
  EXPECT_EQ(c.expired.offsets, 1u);
  EXPECT_EQ(c.expired.groups, 1u);
  c.restart();
  EXPECT_EQ(c.table().size(), 0u) << "its record has a tombstone, too";
}

TEST(Expiry, an_offset_that_was_set_in_an_empty_group_counts_from_then) {
  Coordinator c(kShort);
  const std::string id = stable_alone(c);
  store(c, commit(1, 1, id, 42));
  c.feed(leave(2, id));
  const std::int64_t emptied = wall(c);
  c.pass(50'000);
  store(c, commit(3, -1, "", 7, "reset"));
  c.expire(emptied + kRetention);
  EXPECT_EQ(committed(c.table()), -1);
  EXPECT_EQ(committed(c.table(), "reset"), 7);
  EXPECT_EQ(c.table().describe("g").state, "Empty");
  c.expire(emptied + 50'000 + kRetention);
  EXPECT_EQ(c.table().size(), 0u);
}

TEST(Expiry, an_empty_group_without_offsets_goes_at_once_but_not_one_that_somebody_joins) {
  Coordinator c(kShort);
  c.feed(leave(1, stable_alone(c)));
  c.feed(join(2));
  const auto told = c.reply<JoinResponse>(2);
  ASSERT_TRUE(told && told->error == kMemberIdRequired);
  c.expire(wall(c));
  EXPECT_EQ(c.table().describe("g").state, "Empty") << "who was given an id is expected";
  c.feed(leave(3, told->member_id));
  c.expire(wall(c));
  EXPECT_EQ(c.table().size(), 0u);
}

TEST(Expiry, of_a_group_with_members_takes_only_what_nobody_reads) {
  Coordinator c(kShort);
  store(c, commit(1, -1, "", 41));
  store(c, commit(2, -1, "", 43, "unread"));
  const std::int64_t first = wall(c);
  (void)reader_of(c, "t");
  c.expire(first + kRetention - 1);
  EXPECT_EQ(committed(c.table(), "unread"), 43);
  c.expire(first + kRetention);
  EXPECT_EQ(committed(c.table(), "unread"), -1);
  EXPECT_EQ(committed(c.table()), 41);
  EXPECT_EQ(c.table().describe("g").state, "Stable");
  c.restart();
  c.expire(first + 10 * kRetention);
  EXPECT_EQ(committed(c.table()), 41) << "also after a restart it is known what they read";
}

TEST(Expiry, keeps_all_while_it_is_not_known_what_members_read) {
  Coordinator c(kShort);
  store(c, commit(1, -1, "", 41));
  const std::string id = stable_alone(c);  // its subscription says nothing that can be read
  c.expire(wall(c) + 10 * kRetention);
  EXPECT_EQ(committed(c.table()), 41);
  c.feed(leave(2, id));
  (void)reader_of(c, "other");
  c.feed(join(3, {}, 3));
  ASSERT_EQ(c.table().describe("g").state, "PreparingRebalance");
  c.expire(wall(c) + 10 * kRetention);
  EXPECT_EQ(committed(c.table()), 41) << "they are still agreeing";
}

TEST(Expiry, a_time_that_came_with_the_commit_is_kept_to) {
  Coordinator c(kShort);
  CommitRequest brief = commit(1, -1, "", 42);
  brief.retention_ms = 5'000;
  store(c, brief);
  CommitRequest lasting = commit(2, -1, "", 43, "lasting");
  lasting.retention_ms = INT64_MAX;
  store(c, lasting);
  const std::int64_t first = wall(c);
  c.restart();
  c.expire(first + 4'999);
  EXPECT_EQ(committed(c.table()), 42);
  c.expire(first + 5'000);
  EXPECT_EQ(committed(c.table()), -1);
  c.expire(first + 100 * kRetention);
  EXPECT_EQ(committed(c.table(), "lasting"), 43);
  store(c, commit(3, -1, "", 44, "lasting"));
  c.expire(first + 100 * kRetention);
  EXPECT_EQ(committed(c.table(), "lasting"), -1) << "the next commit did not say so";
}

TEST(Expiry, that_cannot_be_stored_leaves_all_as_it_was) {
  Coordinator c(kShort);
  const std::string id = stable_alone(c);
  store(c, commit(1, 1, id, 42));
  c.feed(leave(2, id));
  const std::int64_t emptied = wall(c);
  c.pass(kRetention);
  c.hold = true;
  c.expire(emptied + kRetention);
  EXPECT_EQ(committed(c.table()), 42) << "not before the tombstone is stored";
  EXPECT_EQ(c.table().describe("g").state, "Dead");
  c.feed(join(3));
  EXPECT_EQ(c.reply<JoinResponse>(3)->error, kCoordinatorNotAvailable);
  c.release(kNotEnoughReplicas);
  EXPECT_EQ(committed(c.table()), 42);
  EXPECT_EQ(c.table().describe("g").state, "Empty");
  EXPECT_EQ(c.expired.offsets, 0u);
  EXPECT_EQ(c.expired.failures, 1u);
  c.hold = false;
  c.expire(emptied + kRetention);
  EXPECT_EQ(c.table().size(), 0u) << "it is still as old as it was";
  EXPECT_EQ(c.expired.offsets, 1u);
}

TEST(Expiry, a_tombstone_that_is_late_counts) {
  Coordinator c(kShort);
  store(c, commit(1, -1, "", 42));
  const std::int64_t first = wall(c);
  c.hold = true;
  c.expire(first + kRetention);
  EXPECT_EQ(committed(c.table()), 42);
  // It is in the log, and replay will obey it: nobody may be told otherwise until then.
  c.release(KafkaError::kRequestTimedOut);
  EXPECT_EQ(committed(c.table()), -1);
  c.hold = false;
  c.restart();
  EXPECT_EQ(committed(c.table()), -1);
}

TEST(Expiry, a_commit_on_its_way_and_one_that_comes_later_stand) {
  Coordinator c(kShort);
  store(c, commit(1, -1, "", 42));
  store(c, commit(2, -1, "", 43, "later"));
  store(c, commit(3, -1, "", 44, "third"));
  const std::int64_t first = wall(c);
  c.hold = true;
  c.feed(commit(4, -1, "", 52));
  c.expire(first + kRetention);
  c.feed(commit(5, -1, "", 53, "later"));
  c.release();
  EXPECT_EQ(committed(c.table()), 52);
  EXPECT_EQ(committed(c.table(), "later"), 53);
  EXPECT_EQ(committed(c.table(), "third"), -1);
  c.restart();
  EXPECT_EQ(committed(c.table()), 52);
  EXPECT_EQ(committed(c.table(), "later"), 53);
  EXPECT_EQ(committed(c.table(), "third"), -1);
}

TEST(Expiry, a_step_is_bounded_and_a_round_gets_through) {
  Options options = kShort;
  options.max_expired_at_once = 10;
  Coordinator c(options);
  store(c, commit_of("a", 35));
  for (int i = 0; i < 30; ++i) store(c, commit_of("b" + std::to_string(i), 2));
  const std::size_t before = c.log().size();
  c.largest_append = 0;
  c.expire(wall(c) + kRetention);
  EXPECT_EQ(c.largest_append, 10u);
  EXPECT_GE(c.expiry_steps, 95u / 10);
  EXPECT_EQ(c.log().size(), before + 95) << "each offset once";
  EXPECT_EQ(c.table().size(), 0u);
  EXPECT_EQ(c.expired.offsets, 95u);
}

TEST(Expiry, long_names_and_many_groups_bound_a_step_too) {
  Options options = kShort;
  options.max_expired_bytes_at_once = 100'000;
  Coordinator c(options);
  store(c, commit_of(std::string(kMaxGroupIdBytes, 'g'), 12));
  c.largest_append = 0;
  c.expire(wall(c) + kRetention);
  EXPECT_LE(c.largest_append, 4u);
  EXPECT_EQ(c.table().size(), 0u);

  options = kShort;
  options.max_looked_at_at_once = 100;
  Coordinator many(options);
  for (int i = 0; i < 300; ++i) store(many, commit_of("g" + std::to_string(i), 1));
  many.expire(wall(many));
  EXPECT_GE(many.expiry_steps, 6u);
  EXPECT_EQ(many.table().size(), 300u);
}

TEST(Expiry, waits_for_loading_and_can_be_off) {
  GroupTable loading(kShort);
  ExpiryRound round{WallMs{1}, {}, false};
  EXPECT_TRUE(loading.expire(round, Now{}).appends.empty());
  EXPECT_TRUE(round.over);
  Coordinator c(Options{.offsets_retention_ms = -1});
  store(c, commit(1, -1, "", 42));
  c.expire(INT64_MAX);
  EXPECT_EQ(committed(c.table()), 42);
}

}  // namespace
}  // namespace pyralog::group
