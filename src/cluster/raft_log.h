#pragma once

#include <functional>
#include <string>
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
    kNotLeader,  ///< nothing was done
    kRefused,    ///< `why` says so; nothing was done
    kUnknown,    ///< they may come to stand
  } fate = Fate::kUnknown;
  std::uint64_t position = 0;
  Error why{Code::kTimedOut,
            "the node that leads the metadata has not said in time what became of it; it may stand",
            0};
};

/// The metadata log of a cluster: entries agreed on by the Global Raft. Any node proposes: a plan
/// is made on the state that this node has, and the leader takes what comes of it if it has no
/// newer one. Lives on shard 0.
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
  };
  /// All outlive it. `start` before anything else.
  RaftLog(multiraft::MultiRaft& raft, CatalogMachine& machine, Forward forward, Options options);
  ~RaftLog() override;
  void start();
  [[nodiscard]] io::Task<void> stop();

  [[nodiscard]] const CatalogPtr& catalog() const override { return machine_.catalog(); }
  [[nodiscard]] io::Task<Result<CatalogPtr>> propose(Plan plan) override;
  void on_change(std::function<io::Task<void>(CatalogPtr)> observer) override;

  /// What another node has forwarded. No entries: only asks whether its state is the newest.
  [[nodiscard]] io::Task<Forwarded> take(std::uint64_t expected, Bytes entries, Instant deadline);
  /// Waits until this node has applied, and the observer seen, the catalogue of `position`.
  [[nodiscard]] io::Task<bool> wait_for(std::uint64_t position, Instant deadline);
  /// Waits for any change that the observer has seen, or the deadline.
  [[nodiscard]] io::Task<void> wait_change(Instant deadline);

 private:
  /// A try; nullopt: another one is worth it.
  using Attempt = std::optional<Result<CatalogPtr>>;
  [[nodiscard]] io::Task<Attempt> propose_here(const Plan& plan, Instant deadline);
  [[nodiscard]] io::Task<Attempt> propose_there(const Plan& plan, NodeId leader, Instant deadline);
  [[nodiscard]] io::Task<Forwarded> decide(std::vector<catalog::Entry> entries, Instant deadline);
  io::Task<void> publish_loop();

  multiraft::MultiRaft& raft_;
  CatalogMachine& machine_;
  Forward forward_;
  Options options_;
  std::function<io::Task<void>(CatalogPtr)> observer_;
  CatalogPtr published_;
  bool stopping_ = false;
  io::Turn turn_;
  io::Turn observing_;
  io::WaitList changed_;  ///< the machine's state
  io::WaitList seen_;     ///< published_
  io::TaskGroup tasks_;
};

}  // namespace pyralog::cluster
