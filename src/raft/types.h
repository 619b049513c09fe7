#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/strong.h"
#include "model/fundamental.h"

namespace pyralog {
using namespace base;
}

namespace pyralog::raft {

/// Grows with every election; 0 = none yet.
using Term = Strong<std::uint64_t, struct TermTag>;
/// Of an entry, from 1; 0 = before the first.
using Index = Strong<std::uint64_t, struct IndexTag>;

/// No node: nobody was voted for, nobody is known to lead.
inline constexpr NodeId kNobody{0};

enum class EntryKind : std::uint8_t {
  kNormal,  ///< the state machine's; empty = a leader's first
  kConfig,  ///< an encoded ConfigChange
};

struct Entry {
  Term term;
  Index index;
  EntryKind kind = EntryKind::kNormal;
  SharedBytes data;
};

/// Who takes part. While `outgoing` is not empty the group is in joint consensus: elections and
/// commits need a majority of `voters` and one of `outgoing`. All lists are sorted and without
/// doubles.
struct Config {
  std::vector<NodeId> voters{};
  std::vector<NodeId> outgoing{};
  std::vector<NodeId> learners{};
  std::vector<NodeId>
      next_learners{};  ///< outgoing voters that become learners at the end of the joint phase
  bool leaves_by_itself = false;  ///< the leader ends the joint phase as soon as it is committed

  [[nodiscard]] bool joint() const { return !outgoing.empty(); }
  [[nodiscard]] bool is_voter(NodeId node) const;  ///< of either majority
  [[nodiscard]] bool is_learner(NodeId node) const;
  [[nodiscard]] bool has(NodeId node) const;
  [[nodiscard]] std::vector<NodeId> all() const;
  friend bool operator==(const Config&, const Config&) = default;
};

/// What must outlive a crash beside entries and snapshot.
struct HardState {
  Term term;
  NodeId vote = kNobody;
  Index commit;
  friend bool operator==(const HardState&, const HardState&) = default;
};

/// The state after all entries up to `index`; its content is the state machine's own affair.
struct SnapshotMark {
  Index index;
  Term term;  ///< of that entry
  Config config;
  friend bool operator==(const SnapshotMark&, const SnapshotMark&) = default;
};

enum class MessageKind : std::uint8_t {
  kAppend,
  kAppendReply,
  kHeartbeat,
  kHeartbeatReply,
  kVote,
  kVoteReply,
  kPreVote,  ///< asks whether an election could be won, and changes nothing
  kPreVoteReply,
  kSnapshot,    ///< replaces the follower's log; sent and taken by whoever moves the content
  kTimeoutNow,  ///< the leader wants the receiver to take over at once
};

/// From one member to another. Which fields mean something depends on `kind`.
struct Message {
  MessageKind kind = MessageKind::kHeartbeat;
  NodeId from = kNobody;
  NodeId to = kNobody;
  Term term;
  Index index;  ///< Append: the entry before `entries`; its reply: up to where the logs agree, or,
                ///< with `reject`, the index that did not fit; Vote, PreVote: the candidate's last
                ///< entry
  Term log_term;  ///< of `index`; with `reject`, of `hint`
  Index commit;   ///< Append, Heartbeat: the leader's; their replies: up to where the sender knows,
                  ///< durably, that entries are committed; votes, asked for and given: the sender's
  Term commit_term;  ///< of `commit`, with votes
  std::vector<Entry> entries{};
  bool reject = false;
  bool force = false;       ///< Vote: the leader itself has asked for this election
  Index hint;               ///< with `reject`: the receiver's log may agree up to here
  std::uint64_t round = 0;  ///< Heartbeat and its reply
  std::optional<SnapshotMark> snapshot{};
};

}  // namespace pyralog::raft
