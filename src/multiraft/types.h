#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/strong.h"
#include "io/task.h"
#include "raft/types.h"

namespace pyralog::multiraft {

/// One Raft group of a node; the same number on all of its members.
using GroupId = Strong<std::uint16_t, struct GroupIdTag>;

struct GroupMessage {
  GroupId group;
  raft::Message message;
};

/// What a group agrees on. Called on the shard of its MultiRaft, in the order of the log, never
/// twice for an index but after a start, which begins at the last snapshot.
class StateMachine {
 public:
  virtual ~StateMachine() = default;
  /// An entry that is committed; must come to the same on all members. Not for a leader's empty
  /// ones. An error: this member cannot understand it, and takes no part any more.
  [[nodiscard]] virtual Result<void> apply(raft::Index index, const SharedBytes& data) = 0;
  /// The whole state, as of the last entry applied.
  [[nodiscard]] virtual Bytes snapshot() const = 0;
  /// Becomes what another member's `snapshot` was. An error: the content is not one.
  [[nodiscard]] virtual Result<void> restore(ByteView content) = 0;
  /// Whether `restore` would take it; changes nothing that can be seen. What it has decoded may be
  /// kept for a `restore` of the same bytes, at the same place, if that is the next call of the
  /// two.
  [[nodiscard]] virtual Result<void> check(ByteView content) const = 0;
};

/// How messages get to other members. They may be lost, doubled and overtake each other.
class Transport {
 public:
  virtual ~Transport() = default;
  /// All that there is for `to` at this moment, of all groups: one frame. False: some of it is
  /// known not to leave.
  virtual bool send(NodeId to, std::vector<GroupMessage> messages) = 0;
  /// Brings a snapshot's content to where `message` (a kSnapshot) goes, in bounded pieces, and
  /// gives both to MultiRaft::install there; what that says is the result. Another error: it may
  /// not have arrived.
  [[nodiscard]] virtual io::Task<Result<void>> send_snapshot(GroupMessage message,
                                                             SharedBytes content) = 0;
  /// The MultiRaft stops: every send_snapshot is to end soon, whatever it waits for.
  virtual void stop() {}
};

}  // namespace pyralog::multiraft
