#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "base/result.h"
#include "raft/config.h"
#include "raft/entry_log.h"
#include "raft/progress.h"
#include "raft/types.h"

namespace pyralog::raft {

enum class Role : std::uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };

struct Options {
  NodeId id = kNobody;
  /// In ticks. A follower that has not heard of a leader for this long, and up to as long again by
  /// chance, asks for an election; a leader that has not heard of a majority for this long steps
  /// down.
  unsigned election_ticks = 10;
  unsigned heartbeat_ticks = 1;
  /// For how long after a heartbeat that a majority has answered the leader may answer reads by
  /// itself; less than election_ticks by what clocks may differ: if the fastest member has n ticks
  /// while the slowest has one, at most election_ticks / n. 0 = never.
  /// With a lease, check_quorum must be on, and ticks that were missed are made up for before it is
  /// used and before a message is taken: the promise that an answer gives must not end by old ones.
  unsigned lease_ticks = 0;
  std::size_t max_append_bytes = 1u
                                 << 20;  ///< of one message's entries; a single one may be larger
  std::size_t max_uncommitted_bytes = 64u << 20;  ///< of proposals under way
  std::size_t max_apply_bytes = 16u << 20;        ///< of one Ready's committed entries
  Progress::Limits sending;
  bool pre_vote = true;
  bool check_quorum = true;
  std::uint64_t seed = 1;  ///< of election timeouts; another one for each member
};

/// What a member finds when it starts.
struct Stored {
  HardState hard;
  SnapshotMark snapshot;
  std::vector<Entry> entries;
};

/// An answer to `read`: what was asked may be answered from a state that has applied `index`, or,
/// without it, not by this node.
struct ReadReady {
  std::uint64_t context = 0;
  std::optional<Index> index;
};

/// What is to be done. Stored things are in order: the snapshot, then the entries, then the hard
/// state, all of one Ready by one sync; Readies in the order in which they came.
struct Ready {
  std::uint64_t number = 0;
  std::optional<HardState> hard;
  std::optional<SnapshotMark> snapshot;  ///< that has come replaces all there was
  std::vector<Entry> entries;            ///< replace what is stored from the first one's index on
  std::vector<Message> messages;         ///< may leave at once
  std::vector<Message>
      after;  ///< may leave once all of this Ready, and of those before, is durable
  std::vector<Entry> committed;  ///< to be applied in order, then `applied`
  std::vector<ReadReady> reads;
  [[nodiscard]] bool must_store() const { return hard || snapshot || !entries.empty(); }
  bool sync =
      false;  ///< without it what is stored may become durable with the next Ready that has it
};

/// One member of a Raft group (Ongaro's thesis, with pre-vote, check-quorum, leases, joint
/// consensus, learners, transfer of leadership and reads by ReadIndex). Pure: it is told of ticks
/// and messages and says what to store, send and apply. Whoever runs it lets no message of `after`
/// leave before what it depends on is durable, says `persisted` then, and applies what is
/// committed. Not safe for several threads.
class Raft {
 public:
  Raft(Options options, Stored stored);

  void tick();
  /// A member's message; one that cannot be for us changes nothing.
  void step(Message message);
  /// Appends as the leader. kUnavailable: another node leads, or is about to; kExhausted: too much
  /// is under way. What was appended may still be lost if another leader takes over. A leader whose
  /// vote is being taken appends nothing more, and leads on until a majority of those who stay know
  /// that it is.
  Result<Index> propose(SharedBytes data);
  /// kInvalidArgument if it may not follow; kUnavailable as above, and while another change is
  /// under way.
  Result<Index> propose(const ConfigChange& change);
  /// Answers by a ReadReady.
  void read(std::uint64_t context);
  /// Reads may be answered now, by a state that has applied this; nullopt: this node has no lease.
  [[nodiscard]] std::optional<Index> lease() const;
  /// Begins to hand the lead to `node`; it is given up after an election's time. kUnavailable,
  /// kInvalidArgument.
  Result<void> transfer_to(NodeId node);
  void campaign();
  /// `node` has ended: whoever followed it is not held back by having heard of it, and a follower
  /// asks for an election soon, one after the other by their ids. Changes nothing within a promise,
  /// nor for who follows somebody else; that it is not so costs at most an election.
  void has_ended(NodeId node);
  /// While it may not, this member begins no election, not even if a leader asks for one. It votes
  /// and follows, and one that leads goes on.
  void may_lead(bool may);
  /// While it may not, this member grants no vote: it may not be the one that others take it for.
  void may_vote(bool may) { may_vote_ = may; }
  /// A message to `node` did not arrive.
  void unreachable(NodeId node);
  /// What was asked for by a kSnapshot message has arrived there, or not; until one of both is
  /// told, nothing else is sent to `node`.
  void snapshot_ended(NodeId node, bool arrived);

  [[nodiscard]] bool has_ready() const;
  [[nodiscard]] Ready ready();
  /// All of the Ready of that number, and of those before, is durable.
  void persisted(std::uint64_t number);
  /// Entries up to `index` are applied; changes of the group take effect by this.
  void applied(Index index);
  /// What a snapshot of the state machine that is taken now has.
  [[nodiscard]] SnapshotMark mark() const;
  /// Whether a kSnapshot message with this mark would replace the log. It may still be of an older
  /// term.
  [[nodiscard]] bool would_restore(const SnapshotMark& mark) const;
  /// A snapshot is durable: what it has is forgotten here, but for the newest entries, not more
  /// than `keep`, for members that lag behind a little.
  void compact(SnapshotMark mark, Keep keep = {});

  [[nodiscard]] NodeId id() const { return options_.id; }
  [[nodiscard]] Role role() const { return role_; }
  [[nodiscard]] Term term() const { return hard_.term; }
  /// As of the last Ready.
  [[nodiscard]] const HardState& hard() const { return hard_given_; }
  /// So many ticks from now on do nothing but count: whoever has nothing to tell it meanwhile may do
  /// them later, in one go.
  [[nodiscard]] unsigned idle_ticks() const;
  [[nodiscard]] NodeId leader() const { return leader_; }
  /// To whom the lead is being handed over; kNobody = to no one.
  [[nodiscard]] NodeId transferee() const { return transferee_; }
  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] const EntryLog& log() const { return log_; }
  [[nodiscard]] const std::map<NodeId, Progress>& progress() const { return progress_; }

 private:
  /// What is to happen once a Ready is durable.
  struct Pending {
    std::uint64_t number;
    Index last;  ///< of what was stored, and is not replaced by a later one
    Term last_term;
    Term term;
    Index commit;
    bool sync;
    Term vote_term;  ///< of an election in which we vote for ourselves by it; 0 = none
  };
  struct Read {
    std::uint64_t context;
    Index index;
    std::uint64_t round;
  };

  // Elections.
  void become_follower(Term term, NodeId leader);
  void become_candidate(bool pre, bool force);
  void become_leader();
  void reset(Role role, Term term);
  [[nodiscard]] std::uint64_t random();
  [[nodiscard]] unsigned election_timeout();
  void poll(NodeId from, bool granted);
  void handle_vote(const Message& m);
  void learn_commit(const Message& m);
  void promise();
  [[nodiscard]] bool promised() const;
  void handle_vote_reply(const Message& m);
  [[nodiscard]] bool in_lease() const;
  [[nodiscard]] bool may_campaign() const;
  /// True if the message is of an older term and has been dealt with.
  bool settle_term(const Message& m);

  // Followers.
  void handle_append(Message& m);
  void replaced_above(Index kept);
  void handle_heartbeat(const Message& m);
  void handle_snapshot(Message& m);

  // Leaders.
  [[nodiscard]] Result<void> may_propose(std::size_t bytes) const;
  Index append(EntryKind kind, SharedBytes data);
  void handle_append_reply(const Message& m);
  void handle_refusal(Progress& progress, const Message& m);
  void handle_heartbeat_reply(const Message& m);
  bool send_append(NodeId to, bool even_empty);
  void send_appends();
  void send_heartbeats();
  bool send_snapshot(NodeId to, Progress& progress);
  void commit_what_is_agreed();
  void release_reads();
  void refuse_reads();
  void leave_joint_if_due();
  void leave_if_known();
  [[nodiscard]] Index last_change() const;
  void set_config(Config config);

  void send(Message m, bool after = false);

  Options options_;
  HardState hard_;
  HardState hard_given_;  ///< as of the last Ready
  EntryLog log_;
  Config config_;
  Role role_ = Role::kFollower;
  NodeId leader_ = kNobody;
  bool may_lead_ = true;
  bool may_vote_ = true;
  std::map<NodeId, bool> votes_;
  std::map<NodeId, Progress> progress_;  ///< a leader's
  unsigned elapsed_ = 0;  ///< ticks since a leader was heard of, or a majority was looked for
  unsigned timeout_ = 0;
  bool hurries_ = false;  ///< its leader has ended, as it was told
  unsigned since_heartbeat_ = 0;
  std::uint64_t now_ = 0;  ///< ticks
  std::uint64_t random_;
  NodeId transferee_ = kNobody;
  Index config_index_;    ///< no other change is proposed before this one is applied
  Index term_start_;      ///< a leader's first entry
  bool leaving_ = false;  ///< a change that is under way, or applied, takes this leader's vote
  std::size_t uncommitted_bytes_ = 0;

  std::uint64_t round_ = 0;  ///< of heartbeats
  std::uint64_t agreed_round_ = 0;
  std::deque<std::pair<std::uint64_t, std::uint64_t>>
      round_began_;  ///< (round, tick) not agreed yet
  std::uint64_t lease_until_ = 0;
  std::uint64_t no_votes_before_ = 0;  ///< a leader may have a lease by what we have answered
  bool lease_given_up_ = false;
  std::deque<Read> reads_;
  std::vector<std::uint64_t>
      early_reads_;  ///< that came before the leader had committed in its term

  Ready next_;
  std::uint64_t number_ = 0;
  std::deque<Pending> pending_;
  Term durable_term_;
  Index durable_commit_;
  Term self_vote_;  ///< for ourselves, since the last Ready; 0 = none
};

}  // namespace pyralog::raft
