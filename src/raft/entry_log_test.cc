#include "raft/entry_log.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

namespace pyralog::raft {
namespace {

/// Entries from `from` on, of these terms, of three bytes each.
std::vector<Entry> entries(std::uint64_t from, std::initializer_list<std::uint64_t> terms) {
  std::vector<Entry> out;
  for (const std::uint64_t term : terms) {
    out.push_back(
        {Term(term), Index(from + out.size()), EntryKind::kNormal, SharedBytes(Bytes(3, 'x'))});
  }
  return out;
}

/// All that is there is durable and handed out.
void store(EntryLog& log) {
  (void)log.take_unstored();
  log.stored(log.last(), log.last_term());
}

TEST(EntryLog, replaces_what_differs_and_nothing_else) {
  EntryLog log({}, entries(1, {1, 1, 2, 2}), Index(2));
  EXPECT_EQ(log.append_after(Index(4), Term(3), {}), std::nullopt);
  EXPECT_EQ(log.append_after(Index(1), Term(1), entries(2, {1, 2})), Index(3)) << "it has these";
  EXPECT_EQ(log.last(), Index(4));
  EXPECT_FALSE(log.has_unstored());
  EXPECT_EQ(log.append_after(Index(2), Term(1), entries(3, {3, 3, 3})), Index(5));
  EXPECT_EQ(log.term_of(Index(3)), Term(3));
  EXPECT_EQ(log.durable(), Index(2)) << "what was durable has been replaced";
  EXPECT_EQ(log.take_unstored().front().index, Index(3));
}

TEST(EntryLog, what_was_stored_and_then_replaced_is_not_durable) {
  EntryLog log({}, entries(1, {1}), Index(1));
  (void)log.append_after(Index(1), Term(1), entries(2, {2, 2}));
  (void)log.take_unstored();
  (void)log.append_after(Index(1), Term(1), entries(2, {3}));
  log.stored(Index(3), Term(2));
  EXPECT_EQ(log.durable(), Index(1));
  store(log);
  EXPECT_EQ(log.durable(), Index(2));
}

TEST(EntryLog, hands_out_what_is_committed_and_durable_once_and_in_parts) {
  EntryLog log({}, {}, Index(0));
  log.append(entries(0, {1, 1, 1}));
  log.commit(Index(3));
  EXPECT_FALSE(log.has_committed()) << "not durable";
  store(log);
  EXPECT_EQ(log.take_committed(6).size(), 2U);
  EXPECT_EQ(log.take_committed(1).size(), 1U) << "at least one";
  EXPECT_FALSE(log.has_committed());
  log.applied(Index(3));
  EXPECT_EQ(log.applied(), Index(3));
}

TEST(EntryLog, compacts_what_is_applied_and_begins_anew_behind_a_snapshot) {
  EntryLog log({}, entries(1, {1, 1, 2}), Index(3));
  (void)log.take_committed(SIZE_MAX);
  log.applied(Index(3));
  log.compact({Index(2), Term(1), {}});
  EXPECT_EQ(log.first(), Index(3));
  EXPECT_EQ(log.term_of(Index(2)), Term(1));
  EXPECT_EQ(log.term_of(Index(1)), std::nullopt);
  log.restore({Index(9), Term(4), {}});
  EXPECT_EQ(log.last(), Index(9));
  EXPECT_LT(log.durable(), Index(9)) << "until it is stored";
  log.stored(Index(9), Term(4));
  EXPECT_EQ(log.durable(), Index(9));
}

TEST(EntryLog, keeps_the_newest_of_what_a_snapshot_has_within_both_bounds) {
  const auto compacted = [](Keep keep) {
    EntryLog log({}, entries(1, {1, 1, 2, 2, 3}), Index(4));
    (void)log.take_committed(SIZE_MAX);
    log.applied(Index(4));
    log.compact({Index(4), Term(2), {}}, keep);
    EXPECT_EQ(log.snapshot().index, Index(4));
    EXPECT_EQ(log.last(), Index(5));
    EXPECT_EQ(log.term_of(Index(log.first().value - 1)).has_value(), true);
    return log;
  };
  const std::size_t each = entries(1, {1})[0].data.size();
  EXPECT_EQ(compacted({}).first(), Index(5));
  EXPECT_EQ(compacted({.entries = 2, .bytes = 1'000}).first(), Index(3));
  EXPECT_EQ(compacted({.entries = 9, .bytes = 1'000}).first(), Index(1)) << "there is no more";
  if (each > 0) EXPECT_EQ(compacted({.entries = 9, .bytes = each}).first(), Index(4));
  EntryLog log = compacted({.entries = 2, .bytes = 1'000});
  EXPECT_EQ(log.term_of(Index(2)), Term(1)) << "a member that ends there is sent what follows";
  EXPECT_EQ(log.slice(Index(3), Index(5), SIZE_MAX).size(), 3U);
  EXPECT_EQ(log.append_after(Index(3), Term(2), {}), Index(3));
  (void)log.take_committed(SIZE_MAX);
  log.commit(Index(5));
  EXPECT_EQ(log.take_committed(SIZE_MAX).size(), 1U);
  log.applied(Index(5));
  log.compact({Index(5), Term(3), {}}, {.entries = 1, .bytes = 1'000});
  EXPECT_EQ(log.first(), Index(5));
  log.restore({Index(9), Term(4), {}});
  EXPECT_EQ(log.first(), Index(10));
  EXPECT_EQ(log.term_of(Index(9)), Term(4));
}

TEST(EntryLog, says_where_logs_may_agree_and_whose_is_newer) {
  const EntryLog log({}, entries(1, {1, 2, 2, 5}), Index(0));
  EXPECT_EQ(log.may_agree(Index(9), Term(9)), Index(4));
  EXPECT_EQ(log.may_agree(Index(4), Term(3)), Index(3));
  EXPECT_EQ(log.may_agree(Index(3), Term(1)), Index(1));
  EXPECT_TRUE(log.is_up_to_date(Index(4), Term(5)));
  EXPECT_FALSE(log.is_up_to_date(Index(9), Term(4)));
  EXPECT_TRUE(log.is_up_to_date(Index(1), Term(6)));
}

}  // namespace
}  // namespace pyralog::raft
