#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "catalog/catalog.h"
#include "replica/following.h"
#include "replica/leading.h"
#include "replica/messages.h"

namespace pyralog::replica {

/// A candidate's way from a committed proposal to leading one partition: seals the epoch before,
/// finds where it ends, fetches what this node lacks, has enough of the new replicas hold all of
/// it, and asks for the activation. Pure; lives on the partition's shard.
///
/// The node's own replica takes part like any other: `seal`, `offer` and the answers to them go to
/// its Following as messages do to the others'.
class Recovery {
 public:
  enum class Phase : std::uint8_t {
    kSealing,     ///< waits for answers to Seal
    kCopying,     ///< brings this node's log to the end of the epoch before
    kHolding,     ///< brings W′ of the new replicas there; `leading` sends
    kCommitting,  ///< the activation is on its way to the metadata log
    kActive,      ///< take `leading` over
    kAborted,     ///< another candidate came in between, or the catalogue refuses; see `why`
  };
  struct Options {
    Duration resend = 100ms;
    Duration read_resend = 1s;
    int reads = 5;                   ///< without an answer, then another source is looked for
    Duration unclean_patience = 5s;  ///< an unclean recovery waits so long for whoever may answer
    std::uint32_t read_bytes = 1u << 20;
    Leading::Options leading;
  };
  struct Plan {
    PartitionId partition;
    Epoch epoch;  ///< e′: proposed by this node, and that is committed
    Life self;
    std::vector<catalog::Replica> replicas;  ///< of e′, this node's disk among them
    std::uint16_t write_quorum = 1;          ///< W′
    bool unclean = false;                    ///< go on without enough answers; records may be lost
  };
  /// What may be missing: records [from, to) and perhaps more after them.
  struct Loss {
    Offset from;
    Offset to;
    std::string reason;
  };

  struct Effects {
    std::vector<NodeId> seal;       ///< send Seal{e′, self} to these; their disks by name
    std::optional<Append> offer;    ///< give it to the own Following, reply to `offered`
    std::optional<ReadRange> read;  ///< from `read_from`, answer to `range_read`
    NodeId read_from;
    std::optional<catalog::EpochActivation> commit;  ///< propose it; then `catalog` or `refused`
  };

  /// `partition`: as of the proposal of e′, or later.
  Recovery(Plan plan, const catalog::Partition& partition, Options options, Instant now);

  [[nodiscard]] Effects tick(Instant now);
  [[nodiscard]] Effects answered(const SealAnswer& answer, Instant now);
  /// The own Following's answer to an offer, to a cut's end, to a sync.
  [[nodiscard]] Effects offered(const AppendReply& reply, Instant now);
  /// What the source gave: records [base, end) by their epochs. The effects' `offer` then goes with
  /// these records.
  [[nodiscard]] Effects range_read(const ReadRange& range, Offset end,
                                   const std::vector<EpochStart>& runs, Instant now);
  /// It gave nothing; its log may be another by now.
  [[nodiscard]] Effects read_failed(Instant now);
  /// A new follower's answer, while holding and committing.
  [[nodiscard]] Effects received(const AppendReply& reply, Instant now);
  /// The partition as it is in a newer catalogue.
  [[nodiscard]] Effects catalog(const catalog::Partition& partition, Instant now);
  /// The catalogue, which stands as `partition` does, refuses the activation.
  [[nodiscard]] Effects refused(const catalog::Partition& partition, const Error& error,
                                Instant now);

  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] const Plan& plan() const { return plan_; }
  /// Whose answer is still missing.
  [[nodiscard]] std::vector<catalog::Replica> missing() const;
  /// One sentence for humans: what it waits for, or why it was aborted.
  [[nodiscard]] std::string why() const;
  /// Once the end of the epoch before is known.
  [[nodiscard]] std::optional<Offset> start() const { return start_; }
  /// Set if records may be lost; to be recorded once active.
  [[nodiscard]] const std::optional<Loss>& loss() const { return loss_; }
  /// True if this node's log lacked records.
  [[nodiscard]] bool copied() const { return copied_; }
  /// From kHolding on: feeds the new replicas.
  [[nodiscard]] Leading& leading() { return *leading_; }
  /// kActive: hands it over.
  [[nodiscard]] Leading take_leading() { return std::move(*leading_); }

 private:
  [[nodiscard]] bool counts(const SealAnswer& answer) const;
  [[nodiscard]] const SealAnswer* answer_of(const catalog::Replica& replica) const;
  void decide(Instant now, Effects& out);
  /// The answer to recover from, or null: not enough.
  [[nodiscard]] const SealAnswer* choose(Instant now);
  [[nodiscard]] const SealAnswer* greatest_counted();
  [[nodiscard]] const SealAnswer* greatest_known(std::string reason);
  void begin_copy(const SealAnswer& source, Instant now, Effects& out);
  void begin_holding(Instant now, Effects& out);
  void see_holders(Instant now, Effects& out);
  void ask(Instant now, Effects& out);
  void read(Instant now, Effects& out);
  void offer(Offset base, Offset end, std::vector<EpochStart> runs, Effects& out);
  void abort(std::string why);
  [[nodiscard]] catalog::EpochActivation activation() const;

  Plan plan_;
  std::optional<catalog::EpochRecord> before_;  ///< e
  std::vector<EpochStart> epochs_;              ///< of what was committed, by the catalogue
  Options options_;
  Phase phase_ = Phase::kSealing;
  Instant begun_;
  Instant again_;  ///< when to ask again
  std::map<NodeId, SealAnswer> answers_;
  std::optional<Offset> start_;  ///< L
  std::optional<Loss> loss_;
  Epoch lossy_;
  NodeId source_;
  History known_;  ///< the log of e′'s start: the source's, up to L
  Offset held_;    ///< this node has it up to here
  std::optional<AppendReply> own_;
  int reads_left_ = 0;
  bool copied_ = false;
  std::string why_;
  std::optional<Leading> leading_;
};

}  // namespace pyralog::replica
