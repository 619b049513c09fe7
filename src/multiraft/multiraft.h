#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "io/retry.h"
#include "io/shard.h"
#include "journal/journal.h"
#include "multiraft/types.h"
#include "raft/raft.h"

namespace pyralog::multiraft {

struct Options {
  std::string path;  ///< of the journal
  Uuid owner;        ///< whose it is: another node's is refused
  NodeId self = raft::kNobody;
  Duration tick = std::chrono::milliseconds(30);
  /// Of every group; id and seed are filled in.
  raft::Options raft = [] {
    raft::Options out;
    out.heartbeat_ticks = 3;
    return out;
  }();
  std::uint64_t rewrite_bytes = 8u << 20;     ///< a longer journal is replaced by snapshots
  std::size_t max_proposal_bytes = 8u << 20;  ///< at most this, so that it fits between nodes
  /// While the disk is full: with more that waits for room no more entries are taken.
  std::size_t max_waiting_bytes = 16u << 20;
  /// Of each group, in memory behind a snapshot: who lags behind by less needs none.
  raft::Keep keep{.entries = 1000, .bytes = 1u << 20};
  /// Before a snapshot that did not arrive, or was refused, is sent to the same node again.
  io::BackoffOptions snapshot_pause{.first = std::chrono::milliseconds(100),
                                    .most = std::chrono::seconds(5)};
};

struct GroupSpec {
  GroupId id;
  raft::Config
      initial;  ///< who takes part in a group that nothing is stored of; the same everywhere
  StateMachine* machine = nullptr;  ///< outlives the MultiRaft
};

/// A group as a journal has it that nobody has written yet. With `content` the group begins with this
/// state of its machine, as entry 1 of term 1, the same on all that begin it; without it nothing is
/// known of it, and the members, and so who they are, come with the leader's snapshot.
struct Founding {
  GroupId id;
  raft::Config config;
  SharedBytes content;
};

/// Where a group stands, for people and for decisions that are good for a moment only.
struct GroupStatus {
  raft::Role role = raft::Role::kFollower;
  raft::Term term;
  NodeId leader = raft::kNobody;
  raft::Index applied;
  raft::Index committed;
  raft::Index last;
  raft::Config config;
};

struct Stats {
  std::uint64_t frames_sent = 0;  ///< one for each peer and turn
  std::uint64_t messages_sent = 0;
  std::uint64_t frames_dropped = 0;  ///< that did not leave
  std::uint64_t syncs = 0;
  std::uint64_t snapshots_sent = 0;
  std::uint64_t snapshots_encoded = 0;  ///< for others: several may get the same
  std::uint64_t snapshots_taken = 0;    ///< from other members
  std::uint64_t rewrites = 0;
  std::uint64_t elections_won = 0;
};

/// Many Raft groups of one node: one journal, one sync for all that a turn of the loop brings, one
/// frame a peer. Lives on the shard that opened it.
class MultiRaft {
 public:
  /// Opens or creates the journal and brings every machine to its last snapshot; nothing is applied
  /// and nothing sent before `start`. A group that the journal knows and `groups` lacks is
  /// kCorrupt. Errors name the file.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<MultiRaft>>> open(
      io::Disk& disk, Options options, std::vector<GroupSpec> groups);
  /// Makes the journal of a node that takes part from now on, whole or not at all. Whatever lies at
  /// the path is replaced.
  [[nodiscard]] static io::Task<Result<void>> found(io::Disk& disk, Options options,
                                                    std::vector<Founding> groups);
  /// Shows what a journal that nobody has open says of one group: `machine` becomes the state of
  /// all that was known to be committed. kNotFound: no such journal.
  [[nodiscard]] static io::Task<Result<void>> peek(io::Disk& disk, Options options, GroupId group,
                                                   StateMachine& machine);
  MultiRaft(const MultiRaft&) = delete;
  MultiRaft& operator=(const MultiRaft&) = delete;
  ~MultiRaft();

  void start(Transport& transport);
  /// Stops the transport, ends all waits with kUnavailable; then nothing is sent or stored any
  /// more.
  [[nodiscard]] io::Task<void> stop();

  /// From a peer that has proved who it is; what does not fit is dropped.
  void receive(NodeId from, std::vector<GroupMessage> messages);
  /// A kSnapshot message with its content, whole. Good: it is taken, or was not needed.
  /// kInvalidArgument, kCorrupt, kUnsupported: it cannot be; kFenced: of an older term;
  /// kExhausted: the disk is full; kUnavailable, kIo: this node takes no part.
  Result<void> install(NodeId from, GroupMessage message, SharedBytes content);

  /// Appends as the leader and waits until it is applied here; its index. kUnavailable: this node
  /// does not lead; kExhausted: the disk is full, or too much is under way; kTooLarge (nothing was
  /// appended in any of these); kCancelled: it was appended and something else has taken its place;
  /// kTimedOut: it may be committed yet; kIo: the journal is dead.
  [[nodiscard]] io::Task<Result<raft::Index>> propose(GroupId group, SharedBytes data,
                                                      Instant deadline);
  [[nodiscard]] io::Task<Result<raft::Index>> change(GroupId group, raft::ConfigChange change,
                                                     Instant deadline);
  /// Waits until this node has applied all that was committed in the group when it was asked.
  /// kUnavailable: there is no leader that answers by the deadline.
  [[nodiscard]] io::Task<Result<raft::Index>> read(GroupId group, Instant deadline);
  /// Waits until `index` is applied here; false at the deadline and once it is stopped.
  [[nodiscard]] io::Task<bool> wait_applied(GroupId group, raft::Index index, Instant deadline);
  [[nodiscard]] Result<void> transfer(GroupId group, NodeId to);
  /// A node's process has ended, as far as can be seen from here: what it led has no leader.
  void has_ended(NodeId node);
  /// Called when `settled_leader` has become true of a group; from within the loop.
  void on_settled(std::function<void()> told) { on_settled_ = std::move(told); }
  /// Of each other member, up to where its log is known to agree; nothing unless this node leads.
  [[nodiscard]] std::map<NodeId, raft::Index> matched(GroupId group) const;
  /// As raft::Raft::may_vote.
  void may_vote(GroupId id, bool may) {
    group(id).raft->may_vote(may);
    wake();
  }

  [[nodiscard]] NodeId self() const { return options_.self; }
  [[nodiscard]] bool has(GroupId group) const { return groups_.contains(group); }
  [[nodiscard]] GroupStatus status(GroupId group) const;
  /// True if this node leads the group and has applied everything that its log has: it may decide.
  [[nodiscard]] bool settled_leader(GroupId group) const;
  [[nodiscard]] const Stats& stats() const { return stats_; }
  /// Why this node takes no part any more: its journal failed, or a machine does not understand
  /// what the others have agreed on.
  [[nodiscard]] const std::optional<Error>& dead() const { return dead_; }
  /// The disk is full: this node proposes nothing, leads as little as it can, and promises nothing.
  [[nodiscard]] bool out_of_space() const { return no_space_; }
  /// Of what found no room in the journal yet.
  [[nodiscard]] std::size_t waiting_bytes() const { return waiting_bytes_; }

 private:
  enum class Fate : std::uint8_t { kOpen, kApplied, kReplaced, kUnknown };
  /// Who waits to be told what became of an entry that was appended here or, with term 0, for what
  /// is applied to get there.
  struct Waiter {
    raft::Term term;
    Fate fate = Fate::kOpen;
    io::WaitList done;
  };
  struct Read {
    enum class State : std::uint8_t { kOpen, kAt, kRefused } state = State::kOpen;
    raft::Index index;
    io::WaitList done;
  };
  /// Snapshots for one other member: one at a time.
  struct Transfer {
    explicit Transfer(io::BackoffOptions pause) : backoff(pause) {}
    bool under_way = false;
    raft::Term asked;  ///< the term in which the core has asked for one last
    io::Backoff backoff;
  };
  /// What several members may get.
  struct Encoded {
    raft::SnapshotMark mark;
    SharedBytes content;
  };
  struct Storing;
  struct Group {
    GroupId id;
    StateMachine* machine = nullptr;
    std::unique_ptr<raft::Raft> raft;
    std::multimap<raft::Index, Waiter*> waiters;  ///< that nothing was told yet
    std::map<std::uint64_t, Read*> reads;         ///< by context; that were not answered yet
    std::optional<SharedBytes> arrived;           ///< content of the snapshot that is being stepped
    raft::SnapshotMark rewritten;                 ///< as the last rewrite has it
    Storing* newest = nullptr;                    ///< its last one that is not durable
    std::map<NodeId, Transfer> transfers;
    std::weak_ptr<const Encoded> encoded;  ///< as long as it is being sent
    std::set<NodeId> offered;              ///< to whom the lead was offered since the disk is full
    raft::Term two_leaders;                ///< the last term of which that was said
    bool led = false;
    bool settled = false;
  };
  /// A Ready that is to be stored, and those behind it that are not, until it is durable.
  struct Storing {
    Group* group;
    std::uint64_t number;
    std::vector<raft::Message> after;
    bool sync;
    std::uint64_t frame;                        ///< that holds it
    std::optional<journal::Position> position;  ///< once that frame is in the journal
  };

  explicit MultiRaft(Options options);
  [[nodiscard]] Group& group(GroupId id);
  [[nodiscard]] const Group& group(GroupId id) const;
  void wake();
  void wake_everybody();
  io::Task<void> run();
  io::Task<void> sync_loop();
  /// Does what idle ticks have passed. Before any group is told anything.
  void catch_up();
  void tick_if_due();
  /// Until when nothing has to be done but count.
  void plan_ticks();
  void hand_over(Group& from);
  [[nodiscard]] bool takes(Group& into, const raft::Message& message);
  /// Takes all Readies: sends, applies, and puts what is to be stored into the journal.
  void turn();
  void take_ready(Group& from, Writer& frame);
  [[nodiscard]] Result<SharedBytes> restore(Group& into, const raft::SnapshotMark& mark);
  void apply(Group& to, std::vector<raft::Entry> committed);
  void answer_reads(Group& from, const std::vector<raft::ReadReady>& reads);
  /// Tells those who wait for what lies up to `index`; `term` is that of the entry there, unless a
  /// snapshot has brought it.
  void settle(Group& in, raft::Index index, std::optional<raft::Term> term);
  void end_frame(Writer& frame);
  void store();
  void set_no_space(bool none);
  /// Says to the groups what is durable by now, and posts what waited for that.
  void complete();
  void post(Group& from, std::vector<raft::Message> messages);
  void flush();
  void die(const Error& cause);

  // Snapshots, to others and into a new journal (snapshots.cc).
  void begin_snapshot(Group& from, raft::Message message);
  io::Task<void> bring_snapshot(GroupId id, raft::Message message);
  [[nodiscard]] std::shared_ptr<const Encoded> encoded(Group& from, raft::Index least);
  io::Task<void> rewrite();
  [[nodiscard]] std::vector<Bytes> snapshots();

  // Whoever asks and waits (requests.cc).
  [[nodiscard]] Result<void> may_propose(const Group& to, std::size_t bytes) const;
  [[nodiscard]] io::Task<Fate> wait(GroupId id, raft::Index index, raft::Term term,
                                    Instant deadline);
  [[nodiscard]] io::Task<Result<raft::Index>> wait_fate(GroupId id, raft::Index index,
                                                        Instant deadline);

  Options options_;
  std::unique_ptr<journal::Journal> journal_;
  std::map<GroupId, Group> groups_;
  Transport* transport_ = nullptr;
  std::map<NodeId, std::vector<GroupMessage>> outbox_;
  std::deque<Storing> storing_;  ///< in order
  std::deque<Bytes> frames_;     ///< not in the journal yet
  std::size_t waiting_bytes_ = 0;
  std::uint64_t next_frame_ = 1;
  bool no_space_ = false;
  Instant ticked_{};    ///< when the last tick was due
  unsigned idle_ = 0;   ///< ticks after that which do nothing but count
  bool idled_ = false;  ///< idle ones were the last
  bool woken_ = false;
  bool stopping_ = false;
  bool syncing_ = false;
  bool rewriting_ = false;
  std::uint64_t rewrite_at_ = 0;
  std::uint64_t next_read_ = 1;
  std::size_t waiting_ = 0;  ///< coroutines that wait for a Waiter or a Read
  std::optional<Error> dead_;
  Stats stats_;
  std::function<void()> on_settled_;
  io::WaitList wake_;
  io::WaitList halted_;  ///< dead, or about to stop
  io::TaskGroup tasks_;
};

}  // namespace pyralog::multiraft
