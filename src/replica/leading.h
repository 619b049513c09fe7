#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "base/time.h"
#include "catalog/entry.h"
#include "model/fundamental.h"
#include "replica/history.h"
#include "replica/messages.h"

namespace pyralog::replica {

/// What the leader of one epoch knows, and its candidate once it holds everything below the start:
/// what to send to whom, how far the replicas are, what is committed. Pure; lives on the
/// partition's shard.
///
/// Records go out one message after the other, before the answers come; what is lost is sent again
/// from what the follower says it has. Messages may come late, twice and out of order.
class Leading {
 public:
  struct Options {
    Duration lease = 1s;          ///< without W replicas heard of for so long nothing is accepted
    Duration lag_time_max = 30s;  ///< replica.lag.time.max.ms
    /// How often `heartbeats` go to followers that have all there is. In between its link says
    /// whether one can be reached.
    Duration heartbeat = 5s;
    Duration resend = 500ms;       ///< of questions that are not answered; at first sooner:
    Duration first_resend = 10ms;  ///< the replica may be about to be made
    Duration lost_after = 10s;     ///< records that are not answered by then, though nobody said so
    std::size_t window_requests = 64;  ///< on their way to one follower
    std::uint64_t window_bytes = 16u << 20;
    std::uint32_t request_bytes = 1u << 20;
  };
  struct Term {
    Epoch epoch;
    Offset start;
    std::vector<catalog::Replica> replicas;
    std::uint16_t write_quorum = 1;
    Life self;
    Epoch lossy;  ///< as in Append
  };
  /// Who follows, as it is shown.
  struct Follower {
    catalog::Replica disk;
    bool contiguous = false;  ///< its log is the leader's as far as it goes
    bool linked = true;
    Offset log_start;  ///< as far as it has said so
    Offset log_end;
    Offset stable_end;
    Epoch joined;
    std::optional<Instant> heard;
  };
  /// One message, but for the records: at most `max_bytes` of those from `message.base` (0: none).
  struct Sending {
    Append message;
    std::uint64_t max_bytes = 0;
  };

  /// `log`: this node's, which holds everything below `term.start` and nothing else. Not active
  /// yet.
  Leading(Term term, History log, Options options, Instant now);

  /// The epoch is in the metadata log: high watermark := start, and records may come.
  void activated(Instant now);
  [[nodiscard]] bool active() const { return active_; }
  /// Records of this epoch were appended up to `end`; only if `may_accept`.
  void appended(Offset end, Instant now);
  /// This node's log is stable below `end`: a position that was captured before its sync began.
  void stable(Offset end);
  /// This node has joined the epoch, durably.
  void joined();
  /// Records below went from this node's log; not above the high watermark.
  void trimmed(Offset log_start);

  void received(const AppendReply& reply, Instant now);
  void link_up(NodeId node, Instant now);
  void link_down(NodeId node);
  /// Its link is up: what it said last holds, as long as it answers a heartbeat now and then.
  void link_heard(NodeId node, Instant now);
  /// What was sent to it did not arrive.
  void lost(NodeId node, Instant now);

  /// What to send to `node` now, or nothing. `sent` must follow before the next call.
  [[nodiscard]] std::optional<Sending> next(NodeId node, Instant now);
  /// `message` went, with `end` and `runs` filled in (`History::runs` of `log()`), `bytes` of
  /// records.
  void sent(NodeId node, const Append& message, std::uint64_t bytes, Instant now);
  /// `next` may have something by then even if nothing happens; never, of a follower that has all
  /// there is.
  [[nodiscard]] Instant wake_at(NodeId node) const;
  /// What to say, every `heartbeat`, to followers that have all there is: without records, to each
  /// as its answer would be to any Append. It counts as nothing sent.
  [[nodiscard]] std::vector<std::pair<NodeId, Append>> heartbeats() const;
  /// Takes an answer that says the same as the one before. False: it does not, and is to be
  /// `received`.
  bool heard_again(const AppendReply& reply, Instant now);

  /// Everything below is held by W replicas. Never falls; 0 until active, then not below the start.
  [[nodiscard]] Offset high_watermark() const { return high_watermark_; }
  /// Those of the epoch's replicas that have joined it and hold everything below its start,
  /// durably.
  [[nodiscard]] std::size_t holders() const;
  /// Asks the others whether this still leads: it did, after this call, once `confirmed` has come
  /// to what it returns.
  [[nodiscard]] std::uint64_t ask() { return ++asked_; }
  /// The newest such question that W replicas, this one included, have answered in this epoch. As
  /// ReadIndex in Raft; no clock has a part in it.
  [[nodiscard]] std::uint64_t confirmed() const;
  /// `disk` has answered, in this epoch, a message without records that went when `asked` was the
  /// newest.
  void answered(const catalog::Replica& disk, std::uint64_t asked);
  [[nodiscard]] std::uint64_t asked() const { return asked_; }
  /// False: NOT_ENOUGH_REPLICAS, before the append.
  [[nodiscard]] bool may_accept(Instant now) const;
  /// A higher epoch was promised somewhere: stop, at once and for good.
  [[nodiscard]] const std::optional<Epoch>& fenced() const { return fenced_; }
  /// Whether all of them are in sync.
  [[nodiscard]] bool all_in_sync(Instant now) const;
  /// Who lags by no more than lag_time_max; for show.
  [[nodiscard]] std::vector<NodeId> in_sync(Instant now) const;
  [[nodiscard]] std::vector<Follower> followers() const;

  [[nodiscard]] const Term& term() const { return term_; }
  [[nodiscard]] const History& log() const { return log_; }

 private:
  struct Flight {
    Offset end;
    std::uint64_t bytes = 0;
    Instant at;
  };
  struct Peer {
    Follower known;
    std::uint64_t boot = 0;  ///< 0: never heard
    Offset next;             ///< to be sent, or to be asked about
    std::deque<Flight> flights;
    std::uint64_t flying = 0;    ///< bytes
    std::optional<Offset> told;  ///< the high watermark that it was last sent
    Instant quiet_until;         ///< for questions
    std::optional<Instant> not_before;  ///< for anything: it has just refused something
    std::uint64_t asked = 0;     ///< see `ask`: the newest that was sent to it,
    Instant asked_at;
    std::uint64_t answered = 0;  ///< and that it has answered
    std::optional<Instant> link_heard;
    Instant caught_up;
    Offset then_end;  ///< the log's end at the answer before the last
    Instant then;
    unsigned unanswered = 0;
    bool stalled = false;  ///< something was not answered in time: one message until something is
    Offset rewound_to{-1};
    Instant rewound_until;
  };

  /// For how long it is left alone that has not answered; longer each time.
  [[nodiscard]] Duration pause(Peer& peer) const;
  /// Whether nothing is to be sent to it, asked of it, or on its way.
  [[nodiscard]] bool idle(const Peer& peer) const;
  /// Whether it has said of all that it has that it is stable. Else it is asked soon: what it says
  /// by itself may be lost.
  [[nodiscard]] static bool says_all(const Peer& peer);
  [[nodiscard]] bool is_in_sync(const Peer& peer, Instant now) const;
  [[nodiscard]] Append without_records(const Peer& peer) const;
  [[nodiscard]] Peer* find(NodeId node);
  [[nodiscard]] const Peer* find(NodeId node) const;
  void forget_flights(Peer& peer, Offset next);
  void held(Peer& peer, const AppendReply& reply, Instant now);
  void apart(Peer& peer, const AppendReply& reply, Instant now);
  void advance();

  Term term_;
  Options options_;
  History log_;
  Offset stable_;
  bool joined_ = false;
  bool active_ = false;
  Offset high_watermark_;
  std::optional<Epoch> fenced_;
  Instant begun_;
  std::uint64_t asked_ = 0;
  std::vector<Peer> peers_;
};

}  // namespace pyralog::replica
