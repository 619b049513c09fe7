#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
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
  raft::Options raft;                      ///< of every group; id and seed are filled in
  std::uint64_t rewrite_bytes = 8u << 20;  ///< a longer journal is replaced by snapshots
};

struct GroupSpec {
  GroupId id;
  raft::Config
      initial;  ///< who takes part in a group that nothing is stored of; the same everywhere
  StateMachine* machine = nullptr;  ///< outlives the MultiRaft
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
  std::uint64_t syncs = 0;
  std::uint64_t snapshots_sent = 0;
  std::uint64_t snapshots_taken = 0;  ///< from other members
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
  /// Shows what a journal that nobody has open says of one group: `machine` becomes the state of
  /// all that was known to be committed. kNotFound: no such journal.
  [[nodiscard]] static io::Task<Result<void>> peek(io::Disk& disk, Options options, GroupId group,
                                                   StateMachine& machine);
  MultiRaft(const MultiRaft&) = delete;
  MultiRaft& operator=(const MultiRaft&) = delete;
  ~MultiRaft();

  void start(Transport& transport);
  /// Ends all waits with kUnavailable; then nothing is sent or stored any more.
  [[nodiscard]] io::Task<void> stop();

  /// From a peer that has proved who it is; what does not fit is dropped.
  void receive(NodeId from, std::vector<GroupMessage> messages);
  /// A kSnapshot message with its content, whole.
  void install(NodeId from, GroupMessage message, SharedBytes content);

  /// Appends as the leader and waits until it is applied here; its index. kUnavailable: this node
  /// does not lead (nothing was appended); kCancelled: it was appended and something else has taken
  /// its place; kTimedOut: it may be committed yet; kIo: the journal is dead.
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

  [[nodiscard]] NodeId self() const { return options_.self; }
  [[nodiscard]] GroupStatus status(GroupId group) const;
  /// True if this node leads the group and has applied everything that its log has: it may decide.
  [[nodiscard]] bool settled_leader(GroupId group) const;
  [[nodiscard]] const Stats& stats() const { return stats_; }
  /// Why this node takes no part any more: its journal failed, or a machine does not understand what
  /// the others have agreed on.
  [[nodiscard]] const std::optional<Error>& dead() const { return dead_; }

 private:
  /// Who waits to be told what became of an entry that was appended here.
  struct Waiter {
    raft::Term term;
    enum class Fate : std::uint8_t { kOpen, kApplied, kReplaced, kUnknown } fate = Fate::kOpen;
  };
  struct Read {
    enum class State : std::uint8_t { kOpen, kAt, kRefused } state = State::kOpen;
    raft::Index index{};
  };
  struct Group {
    GroupId id;
    StateMachine* machine = nullptr;
    std::unique_ptr<raft::Raft> raft;
    std::multimap<raft::Index, Waiter*> waiters;
    std::map<std::uint64_t, Read> reads;  ///< by context
    std::optional<SharedBytes> arrived;   ///< content of the snapshot that is being stepped
    raft::SnapshotMark rewritten;         ///< as the last rewrite has it
    bool led = false;
  };
  /// A Ready, from when it was taken until what it says is durable.
  struct Storing {
    Group* group;
    std::uint64_t number;
    std::vector<raft::Message> after;
    bool sync;
    std::uint64_t frame;                        ///< that holds it; 0 = none
    std::optional<journal::Position> position;  ///< once that frame is in the journal
  };

  explicit MultiRaft(Options options);
  [[nodiscard]] Group& group(GroupId id);
  [[nodiscard]] const Group& group(GroupId id) const;
  [[nodiscard]] io::Task<Result<raft::Index>> wait_fate(GroupId id, raft::Index index,
                                                        Instant deadline);
  void wake();
  io::Task<void> run();
  io::Task<void> sync_loop();
  io::Task<void> rewrite();
  io::Task<void> bring_snapshot(GroupMessage message, SharedBytes content);
  void tick_if_due(Instant now);
  /// Takes all Readies: sends, applies, and puts what is to be stored into the journal.
  void turn();
  void take_ready(Group& from, Writer& frame);
  void apply(Group& to, std::vector<raft::Entry> committed);
  void end_frame(Writer& frame);
  void store();
  /// Says to the groups what is durable by now, and posts what waited for that.
  void complete();
  void post(Group& from, std::vector<raft::Message> messages);
  void flush();
  [[nodiscard]] std::vector<Bytes> snapshots();
  void die(const Error& cause);

  Options options_;
  std::unique_ptr<journal::Journal> journal_;
  std::map<GroupId, Group> groups_;
  Transport* transport_ = nullptr;
  std::map<NodeId, std::vector<GroupMessage>> outbox_;
  std::deque<Storing> storing_;  ///< in order
  std::deque<Bytes> frames_;     ///< not in the journal yet
  std::uint64_t next_frame_ = 1;
  bool no_space_ = false;
  Instant next_tick_{};
  bool woken_ = false;
  bool stopping_ = false;
  bool syncing_ = false;
  bool rewriting_ = false;
  std::uint64_t rewrite_at_ = 0;
  std::uint64_t next_read_ = 1;
  std::optional<Error> dead_;
  Stats stats_;
  io::WaitList wake_;
  io::WaitList changed_;  ///< of what anybody waits for in a group
  io::TaskGroup tasks_;
};

}  // namespace pyralog::multiraft
