#include "multiraft/stored.h"

#include <gtest/gtest.h>

namespace pyralog::multiraft {
namespace {

raft::Entry entry(std::uint64_t term, std::uint64_t index, std::string_view data) {
  return {raft::Term(term), raft::Index(index), raft::EntryKind::kNormal,
          SharedBytes::copy(as_bytes(data))};
}

raft::Ready entries(std::vector<raft::Entry> list) {
  raft::Ready ready;
  ready.entries = std::move(list);
  return ready;
}

Bytes frame_of(GroupId id, const raft::Ready& ready, std::string_view content = "") {
  Writer frame;
  write_record(frame, id, ready, SharedBytes::copy(as_bytes(content)));
  return frame.take();
}

TEST(StoredTest, later_entries_replace_what_lies_behind_their_first) {
  std::map<GroupId, StoredGroup> groups;
  const GroupId id(3);
  ASSERT_TRUE(read_frame(
      frame_of(id, entries({entry(1, 1, "a"), entry(1, 2, "b"), entry(1, 3, "c")})), groups));
  ASSERT_TRUE(read_frame(frame_of(id, entries({entry(2, 2, "B")})), groups));
  const auto& log = groups.at(id).raft.entries;
  ASSERT_EQ(log.size(), 2u);
  EXPECT_EQ(log[1].term, raft::Term(2));
  EXPECT_EQ(as_text(log[1].data.view()), "B");
}

TEST(StoredTest, a_snapshot_replaces_everything_and_what_it_has_is_passed_over) {
  std::map<GroupId, StoredGroup> groups;
  const GroupId id(0);
  ASSERT_TRUE(read_frame(frame_of(id, entries({entry(1, 1, "a"), entry(1, 2, "b")})), groups));
  raft::Ready ready;
  ready.snapshot = raft::SnapshotMark{raft::Index(5), raft::Term(4), {}};
  ready.snapshot->config.voters = {NodeId(1), NodeId(2)};
  ready.hard = raft::HardState{raft::Term(6), NodeId(2), raft::Index(5)};
  ASSERT_TRUE(read_frame(frame_of(id, ready, "state"), groups));
  ASSERT_TRUE(read_frame(frame_of(id, entries({entry(4, 5, "old"), entry(6, 6, "new")})), groups));
  const StoredGroup& stored = groups.at(id);
  EXPECT_EQ(as_text(stored.content.view()), "state");
  EXPECT_EQ(stored.raft.snapshot, *ready.snapshot);
  EXPECT_EQ(stored.raft.hard, *ready.hard);
  ASSERT_EQ(stored.raft.entries.size(), 1u);
  EXPECT_EQ(stored.raft.entries[0].index, raft::Index(6));
}

TEST(StoredTest, refuses_a_gap_and_every_cut) {
  std::map<GroupId, StoredGroup> groups;
  EXPECT_EQ(read_frame(frame_of(GroupId(1), entries({entry(1, 2, "b")})), groups).error().code,
            Code::kCorrupt);
  raft::Ready ready = entries({entry(1, 1, "abc")});
  ready.hard = raft::HardState{raft::Term(1), NodeId(1), raft::Index(1)};
  const Bytes whole = frame_of(GroupId(1), ready);
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    std::map<GroupId, StoredGroup> none;
    const auto read = read_frame(ByteView(whole).first(cut), none);
    // A frame without records is one: a turn may have nothing.
    if (cut != 1) EXPECT_FALSE(read) << cut;
  }
  Bytes newer = whole;
  newer[0] = 2;
  EXPECT_EQ(read_frame(newer, groups).error().code, Code::kUnsupported);
}

TEST(StoredTest, a_group_is_written_whole_and_read_the_same) {
  StoredGroup stored;
  stored.raft.snapshot = {raft::Index(7), raft::Term(3), {}};
  stored.raft.snapshot.config.voters = {NodeId(1), NodeId(2), NodeId(3)};
  stored.raft.snapshot.config.learners = {NodeId(9)};
  stored.raft.hard = {raft::Term(4), NodeId(3), raft::Index(8)};
  stored.raft.entries = {entry(3, 8, "x"), entry(4, 9, "")};
  stored.content = SharedBytes::copy(as_bytes("all of it"));
  std::map<GroupId, StoredGroup> groups;
  ASSERT_TRUE(read_frame(snapshot_frame(GroupId(16), stored), groups));
  const StoredGroup& read = groups.at(GroupId(16));
  EXPECT_EQ(read.raft.snapshot, stored.raft.snapshot);
  EXPECT_EQ(read.raft.hard, stored.raft.hard);
  EXPECT_EQ(read.raft.entries.size(), 2u);
  EXPECT_EQ(as_text(read.content.view()), "all of it");
}

}  // namespace
}  // namespace pyralog::multiraft
