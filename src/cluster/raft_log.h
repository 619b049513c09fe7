#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cluster/catalog_machine.h"
#include "cluster/metadata_log.h"
#include "multiraft/multiraft.h"

namespace pyralog::cluster {

/// What became of entries that were handed to the node that leads.
struct Forwarded {
  enum class Fate : std::uint8_t {
    kAgreed,     ///< they stand; `position` is the catalogue's with them
    kBehind,     ///< decided on an older state than `position`; nothing was done
    kNotLeader,  ///< nothing was done; `leader` may be known
    kRefused,    ///< `why` says so; nothing was done
    kUnknown,    ///< they may come to stand
  } fate = Fate::kUnknown;
  std::uint64_t position = 0;
  NodeId leader = raft::kNobody;
  Error why{Code::kTimedOut,
            "the node that leads the metadata has not said in time what became of it; it may stand",
            0};
};

/// The metadata log of a cluster: entries agreed on by the Global Raft. Any node proposes: plans
/// are made on the state that this node has, and the leader takes what comes of them if it has no
/// newer one. What waits is decided together: each plan on the state that the one before it leaves.
/// Lives on shard 0.
class RaftLog final : public MetadataLog {
 public:
  /// Hands entries that were decided at `expected` to `leader`. An error: it is sure that nothing
  /// was done.
  using Forward = std::function<io::Task<Result<Forwarded>>(NodeId leader, std::uint64_t expected,
                                                            Bytes entries, Instant deadline)>;
  struct Options {
    multiraft::GroupId group;
    Duration timeout = std::chrono::seconds(10);  ///< of a proposal, with all its tries
    Duration pause =
        std::chrono::milliseconds(20);  ///< before another try, and up to as long again
    std::size_t max_plans = 256;        ///< decided at a time
    std::size_t max_bytes = 2u << 20;   ///< of their entries; one alone may have more
    std::size_t max_waiting = 20'000;   ///< more are refused
    /// Somebody who may know who leads, when this node has not heard; kNobody = there is nobody.
    std::function<NodeId()> anybody{};
  };
  /// All outlive it. `start` before anything else.
  RaftLog(multiraft::MultiRaft& raft, CatalogMachine& machine, Forward forward, Options options);
  ~RaftLog() override;
  void start();
  /// Whoever waits is told kUnavailable, or kTimedOut if it may come to stand.
  [[nodiscard]] io::Task<void> stop();

  [[nodiscard]] const CatalogPtr& catalog() const override { return machine_.catalog(); }
  [[nodiscard]] io::Task<Result<CatalogPtr>> propose(Plan plan) override;
  [[nodiscard]] io::Task<Result<CatalogPtr>> propose_within(Plan plan, Duration timeout);
  /// Entries that are right or wrong in every state, as only the catalogue can tell: of a node that
  /// may be far behind, since nobody knows where it is. As propose.
  [[nodiscard]] io::Task<Result<CatalogPtr>> propose_as_is(std::vector<catalog::Entry> entries,
                                                           Duration timeout);
  [[nodiscard]] io::Task<void> on_change(Observer observer) override;

  /// As the state on which something was decided: none.
  static constexpr std::uint64_t kAnyState = UINT64_MAX;
  /// What another node has forwarded. No entries: only asks whether its state is the newest.
  [[nodiscard]] io::Task<Forwarded> take(std::uint64_t expected, Bytes entries, Instant deadline);
  /// Waits until this node has applied, and the observer seen, the catalogue of `position`.
  [[nodiscard]] io::Task<bool> wait_for(std::uint64_t position, Instant deadline);
  /// Waits for any change that the observer has seen, or the deadline.
  [[nodiscard]] io::Task<void> wait_change(Instant deadline);

 private:
  /// Somebody's plan; lives in the frame of whoever waits.
  struct Waiting {
    Plan plan;
    Instant deadline;
    std::optional<Result<CatalogPtr>> result;
    io::WaitList done;
  };
  /// Some plans and what comes of them, one after the other, on one state.
  struct Batch {
    std::vector<Waiting*> with_entries;
    std::vector<Waiting*> with_nothing;               ///< there was nothing to do
    std::vector<std::pair<Waiting*, Error>> refused;  ///< that is, if the state was the newest
    std::vector<catalog::Entry> entries;
    std::uint64_t base = 0;
    Instant deadline{};  ///< the last one's
  };
  [[nodiscard]] Batch plan(std::size_t max_plans, std::size_t max_bytes);
  static void end(Waiting& waiting, Result<CatalogPtr> result);
  void expire();
  /// True if something came of it.
  [[nodiscard]] io::Task<bool> batch_here();
  [[nodiscard]] io::Task<bool> batch_there(NodeId leader);
  void settle(Batch batch, Forwarded done);
  /// Who leads, or may know it; kNobody = there is nobody to ask.
  [[nodiscard]] NodeId whom_to_ask();
  io::Task<void> finish(Batch batch, std::uint64_t position);
  [[nodiscard]] io::Task<Forwarded> decide(std::vector<catalog::Entry> entries, Instant deadline);
  io::Task<void> work_loop();
  io::Task<void> publish_loop();

  multiraft::MultiRaft& raft_;
  CatalogMachine& machine_;
  Forward forward_;
  Options options_;
  Observer observer_;
  std::uint64_t observers_ = 0;  ///< how many there have been
  bool observing_ = false;
  CatalogPtr published_;
  bool stopping_ = false;
  std::deque<Waiting*> waiting_;  ///< in turn
  NodeId hint_ = raft::kNobody;   ///< who leads, as somebody else says
  io::Turn turn_;                 ///< of decisions at the leader
  io::WaitList wake_;             ///< the worker
  io::WaitList changed_;          ///< the machine's state
  io::WaitList seen_;             ///< published_
  io::WaitList observed_;         ///< no call of the observer runs
  std::size_t proposers_ = 0;     ///< whose frames there are
  io::TaskGroup tasks_;
};

}  // namespace pyralog::cluster
