#pragma once

#include <map>
#include <optional>

#include "base/bytes.h"
#include "base/result.h"
#include "multiraft/types.h"
#include "raft/raft.h"

namespace pyralog::multiraft {

/// What the journal holds of one group.
struct StoredGroup {
  raft::Stored raft;
  SharedBytes content;  ///< the state machine's, as of raft.snapshot; empty at index 0
};

/// Adds to `frame` what a Ready wants stored; `content` is that of `ready.snapshot`.
void write_record(Writer& frame, GroupId group, const raft::Ready& ready,
                  const SharedBytes& content);
/// All of one group, as the first record of a journal: a frame of its own.
[[nodiscard]] Bytes snapshot_frame(GroupId group, const StoredGroup& stored);
/// Takes the records of a frame, oldest frame first. kCorrupt, kUnsupported.
[[nodiscard]] Result<void> read_frame(ByteView frame, std::map<GroupId, StoredGroup>& groups);

}  // namespace pyralog::multiraft
