// The journal's frames: see README.md.
#include "multiraft/stored.h"

#include <string>

namespace pyralog::multiraft {

namespace {

constexpr std::uint8_t kFormat = 1;
// What a record has, in this order.
constexpr std::uint8_t kHasSnapshot = 1;
constexpr std::uint8_t kHasEntries = 2;
constexpr std::uint8_t kHasHard = 4;

void write_entries(Writer& frame, const std::vector<raft::Entry>& entries) {
  frame.le(entries.front().index.value).le(static_cast<std::uint32_t>(entries.size()));
  for (const raft::Entry& entry : entries) {
    frame.le(entry.term.value).le(static_cast<std::uint8_t>(entry.kind)).sized(entry.data.view());
  }
}

void write_hard(Writer& frame, const raft::HardState& hard) {
  frame.le(hard.term.value).le(hard.vote.value).le(hard.commit.value);
}

void write_snapshot(Writer& frame, const raft::SnapshotMark& mark, ByteView content) {
  frame.le(mark.index.value).le(mark.term.value).sized(raft::encode(mark.config)).sized(content);
}

Error corrupt(GroupId group, const std::string& what) {
  return {Code::kCorrupt, "group " + std::to_string(group.value) + " of the Raft journal: " + what,
          0};
}

Result<void> read_snapshot(Reader& in, GroupId group, StoredGroup& stored) {
  raft::SnapshotMark mark;
  mark.index = raft::Index(in.le<std::uint64_t>());
  mark.term = raft::Term(in.le<std::uint64_t>());
  const ByteView config = in.sized();
  const ByteView content = in.sized();
  if (!in.ok()) return fail(corrupt(group, "a snapshot is cut short"));
  PYRALOG_ASSIGN(mark.config, raft::decode_config(config));
  stored.raft.snapshot = std::move(mark);
  stored.raft.entries.clear();
  stored.content = SharedBytes::copy(content);
  return {};
}

Result<void> read_entries(Reader& in, GroupId group, StoredGroup& stored) {
  const std::uint64_t first = in.le<std::uint64_t>();
  const auto count = in.le<std::uint32_t>();
  const std::uint64_t base = stored.raft.snapshot.index.value + 1;
  auto& entries = stored.raft.entries;
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    raft::Entry entry;
    entry.term = raft::Term(in.le<std::uint64_t>());
    entry.index = raft::Index(first + i);
    const auto kind = in.le<std::uint8_t>();
    const ByteView data = in.sized();
    if (!in.ok()) break;
    if (kind > static_cast<std::uint8_t>(raft::EntryKind::kConfig)) {
      return fail(Code::kUnsupported,
                  "group " + std::to_string(group.value) +
                      " of the Raft journal: entries of kind " + std::to_string(kind) +
                      " are newer than this pyralog; start the version that wrote them");
    }
    entry.kind = static_cast<raft::EntryKind>(kind);
    entry.data = SharedBytes::copy(data);
    // A journal that was rewritten has what came meanwhile twice.
    if (entry.index.value < base) continue;
    const std::uint64_t at = entry.index.value - base;
    if (at > entries.size()) return fail(corrupt(group, "entries are missing"));
    entries.resize(at);
    entries.push_back(std::move(entry));
  }
  if (!in.ok()) return fail(corrupt(group, "entries are cut short"));
  return {};
}

}  // namespace

void write_record(Writer& frame, GroupId group, const raft::Ready& ready,
                  const SharedBytes& content) {
  std::uint8_t has = 0;
  if (ready.snapshot) has |= kHasSnapshot;
  if (!ready.entries.empty()) has |= kHasEntries;
  if (ready.hard) has |= kHasHard;
  if (frame.size() == 0) frame.le(kFormat);
  frame.le(group.value).le(has);
  if (ready.snapshot) write_snapshot(frame, *ready.snapshot, content.view());
  if (!ready.entries.empty()) write_entries(frame, ready.entries);
  if (ready.hard) write_hard(frame, *ready.hard);
}

Bytes snapshot_frame(GroupId group, const StoredGroup& stored) {
  Writer frame;
  std::uint8_t has = kHasSnapshot | kHasHard;
  if (!stored.raft.entries.empty()) has |= kHasEntries;
  frame.le(kFormat).le(group.value).le(has);
  write_snapshot(frame, stored.raft.snapshot, stored.content.view());
  if (!stored.raft.entries.empty()) write_entries(frame, stored.raft.entries);
  write_hard(frame, stored.raft.hard);
  return frame.take();
}

Result<void> read_frame(ByteView frame, std::map<GroupId, StoredGroup>& groups) {
  Reader in(frame);
  const auto format = in.le<std::uint8_t>();
  if (!in.ok()) return fail(Code::kCorrupt, "the Raft journal has an empty frame");
  if (format != kFormat) {
    return fail(Code::kUnsupported,
                "the Raft journal has frames of format " + std::to_string(format) +
                    ", newer than this pyralog; start the version that wrote them");
  }
  while (in.left() > 0) {
    const GroupId id(in.le<std::uint16_t>());
    const auto has = in.le<std::uint8_t>();
    if (!in.ok() || has == 0 || has > (kHasSnapshot | kHasEntries | kHasHard)) {
      return fail(corrupt(id, "a record is none"));
    }
    StoredGroup& stored = groups[id];
    if ((has & kHasSnapshot) != 0) PYRALOG_TRY(read_snapshot(in, id, stored));
    if ((has & kHasEntries) != 0) PYRALOG_TRY(read_entries(in, id, stored));
    if ((has & kHasHard) != 0) {
      stored.raft.hard.term = raft::Term(in.le<std::uint64_t>());
      stored.raft.hard.vote = NodeId(in.le<std::int32_t>());
      stored.raft.hard.commit = raft::Index(in.le<std::uint64_t>());
      if (!in.ok()) return fail(corrupt(id, "a term is cut short"));
    }
  }
  return {};
}

}  // namespace pyralog::multiraft
