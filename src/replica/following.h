#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "replica/history.h"
#include "replica/messages.h"

namespace pyralog::replica {

/// One partition as any of its replicas sees it, the leader's own too: what it has promised, what
/// its log holds, and what it takes from whom. Pure; lives on the partition's shard.
///
/// Each input gives effects to carry out at once, in order; `store`, `cut` and `sync` end later and
/// are reported then, each in the order in which they were asked for. What depends on something
/// durable is among the effects of that report, never before.
class Following {
 public:
  /// What is found on disk.
  struct Opened {
    Life self;
    Promise promise;
    History log;
    Offset stable;  ///< ≤ log.end()
    /// This start found that acknowledged records may have gone: the machine went down under a
    /// topic below fsync, the process under `memory`. Whoever finds it says so at every start until
    /// a promise that says it is stored.
    bool in_doubt = false;
  };

  /// Makes the log end at `to`, durably. `restart`: all of it goes, and it begins anew at `to`.
  struct Cut {
    Offset to;
    bool restart = false;
    friend bool operator==(const Cut&, const Cut&) = default;
  };

  struct Effects {
    std::optional<Promise> store;      ///< then `stored` with it
    std::optional<Cut> cut;            ///< then `cut_done`
    bool take = false;                 ///< append the message's records at the log's end, now
    std::optional<Offset> trim;        ///< records below may go, as they went at the leader
    bool sync = false;                 ///< make the log stable to its end; then `stable`
    std::optional<AppendReply> reply;  ///< to `reply_to`
    NodeId reply_to;
    std::optional<SealAnswer> sealed;  ///< to `sealed_to`
    NodeId sealed_to;
  };

  explicit Following(Opened opened);

  /// Once, first: what the opened state needs.
  [[nodiscard]] Effects start();
  [[nodiscard]] Effects seal(const Seal& seal);
  /// A malformed message has no effect at all.
  [[nodiscard]] Effects append(const Append& append);
  /// Records that this node appended itself, leading `epoch`.
  void led(Epoch epoch, Offset end);
  /// What this node, leading the active epoch, knows to be committed.
  [[nodiscard]] Effects committed(Offset high_watermark);
  /// What a candidate may read: kFenced, kOutOfRange, kUnavailable while the log is being cut.
  [[nodiscard]] Result<void> may_read(const ReadRange& range) const;

  [[nodiscard]] Effects stored(const Promise& promise);
  [[nodiscard]] Effects cut_done();
  /// The log is stable below `end`; never from a sync that began before a cut.
  [[nodiscard]] Effects stable(Offset end);
  /// Records below went, by retention or deletion.
  void trimmed(Offset log_start);

  [[nodiscard]] const Life& self() const { return self_; }
  [[nodiscard]] const Promise& promise() const { return promise_; }  ///< perhaps not durable yet
  [[nodiscard]] const History& log() const { return log_; }
  [[nodiscard]] Offset stable_end() const { return stable_; }
  /// Everything below is committed; never above the own log's end.
  [[nodiscard]] Offset high_watermark() const { return high_watermark_; }
  /// Everything below is committed as the leader that this log agrees with has said; it may be above
  /// the own log's end.
  [[nodiscard]] std::optional<Offset> told() const { return told_; }
  /// The epoch with whose leader this log agrees, since this start; 0 = none.
  [[nodiscard]] Epoch agreed() const { return agreed_; }
  /// Set if a leader asked to cut what was committed, or its log has changed under it: the replica
  /// takes part in nothing until it is opened anew.
  [[nodiscard]] const std::optional<Error>& broken() const { return broken_; }

 private:
  void raise(Epoch epoch, Effects& out);
  void join(const Append& a, Effects& out);
  void take(const Append& a, Effects& out);
  void agree(const Append& a, Effects& out);
  void tell(Offset high_watermark);
  void cut(const Append& a, Cut cut, Effects& out);
  void store(Effects& out);
  /// Notes what has become true: the epoch is joined, the doubt is over.
  void settle(Effects& out);
  void answer_seal(Effects& out);
  void reply(AppendReply::Kind kind, Effects& out, EpochTail tail = {});
  void apart(Effects& out);

  Life self_;
  Promise promise_;  ///< as asked to be stored
  Promise stored_;   ///< durable
  History log_;
  Offset stable_;
  Offset high_watermark_;
  Epoch told_in_;               ///< the epoch whose leader told the high watermark
  std::optional<Offset> told_;  ///< the leader's high watermark, since this log agrees with it
  Epoch agreed_;
  Offset agreed_start_;  ///< of the epoch `agreed_`
  Epoch agreed_lossy_;
  bool agreed_unclean_ = false;  ///< and it may never become active: then nothing is known of it
  NodeId leader_;
  bool reply_due_ = false;  ///< an Append waits for the promise
  std::optional<Cut> cutting_;
  Epoch cutting_for_;
  Offset cutting_start_;
  Epoch cutting_lossy_;
  bool cutting_unclean_ = false;
  std::optional<Seal> seal_;
  std::optional<Error> broken_;
};

}  // namespace pyralog::replica
