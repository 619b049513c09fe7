#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "io/shard.h"
#include "log/partition_log.h"
#include "model/record_batch.h"
#include "replica/batches.h"
#include "replica/following.h"
#include "replica/leading.h"
#include "replica/recovery.h"

namespace pyralog::replica {

/// How the replicas of a partition reach each other, from one shard. What it carries may be lost.
class Wire {
 public:
  virtual ~Wire() = default;
  using Records = std::vector<SharedBytes>;
  struct Range {
    Offset end;
    std::vector<EpochStart> runs;
    SharedBytes records;
  };
  /// nullopt: the answer comes later, as progress.
  [[nodiscard]] virtual io::Task<Result<std::optional<AppendReply>>> append(NodeId to,
                                                                            PartitionId id,
                                                                            Append message,
                                                                            Records records) = 0;
  virtual void progress(NodeId to, PartitionId id, AppendReply reply) = 0;
  [[nodiscard]] virtual io::Task<Result<SealAnswer>> seal(NodeId to, PartitionId id, Seal seal) = 0;
  [[nodiscard]] virtual io::Task<Result<Range>> read(NodeId to, PartitionId id,
                                                     ReadRange range) = 0;
  [[nodiscard]] virtual bool connected(NodeId node) const = 0;
  /// When its link was last found to be up; nullopt: not since it was down.
  [[nodiscard]] virtual std::optional<Instant> heard(NodeId node) const = 0;
  /// Whether this node would hear of another leader by now: it hears who leads the metadata log.
  [[nodiscard]] virtual bool in_touch() const { return true; }
};

/// One partition's part in its replica set: carries out what Following, Leading and Recovery
/// decide, on the log, the promise and the wire. Lives on the partition's shard.
class Participant {
 public:
  /// What it needs of the partition around it; outlives it.
  class Host {
   public:
    virtual ~Host() = default;
    /// Another one after a cut that restarts it: who waits in it keeps it.
    [[nodiscard]] virtual std::shared_ptr<log::PartitionLog> log() = 0;
    /// The offset below which the log is durable.
    [[nodiscard]] virtual io::Task<Result<Offset>> sync() = 0;
    /// A batch of another replica has been appended.
    virtual void taken(const BatchHeader& header) = 0;
    /// Makes the log end at `to`, or, with `restart`, be empty and begin there; durably, and
    /// whatever is derived from the log with it.
    [[nodiscard]] virtual io::Task<Result<void>> cut(Offset to, bool restart) = 0;
    [[nodiscard]] virtual io::Task<Result<void>> store(Promise promise) = 0;
    /// Records below `log_start` may go; in the background.
    virtual void trim(Offset log_start) = 0;
    /// Everything below is committed; never falls but by a cut, which takes it down to where the
    /// log ends then.
    virtual void committed(Offset high_watermark) = 0;
    /// From now on this node leads in `epoch`, or not any more.
    virtual void leads(Epoch epoch) = 0;
    virtual void follows() = 0;
    /// `tenure` is over.
    virtual void tenure_ended() = 0;
    /// Asks the metadata log; returns once its newest state was given to `catalog`. kFenced and
    /// other refusals; kUnavailable and kTimedOut: it is asked again.
    [[nodiscard]] virtual io::Task<Result<void>> activate(catalog::EpochActivation activation,
                                                          std::optional<Recovery::Loss> loss) = 0;
    /// Whether records of others may be written now; else they come again.
    [[nodiscard]] virtual bool may_take() = 0;
    /// It takes part in nothing any more, until it is opened anew.
    virtual void failed(Error why) = 0;
    /// See `cut_off`: it has just become true.
    virtual void cut_off() {}
  };
  struct Options {
    std::string name;  ///< "topic-3", for messages
    Durability durability = Durability::kFsync;
    Leading::Options leading{};
    Recovery::Options recovery{};
    Duration tick = std::chrono::milliseconds(20);  ///< of a recovery
    std::size_t recent_bytes = 4u << 20;  ///< of own batches, kept in memory until all have them
  };
  using Answer = std::move_only_function<void(std::optional<AppendReply>)>;
  using SealedAnswer = std::move_only_function<void(Result<SealAnswer>)>;
  using RangeAnswer = std::move_only_function<void(Result<Wire::Range>)>;

  Participant(Wire& wire, Host& host, PartitionId id, Following::Opened opened, Options options);
  Participant(const Participant&) = delete;
  Participant& operator=(const Participant&) = delete;

  void start();
  /// Ends everything; answers nobody any more.
  [[nodiscard]] io::Task<void> stop();

  // What other replicas say. `records` are what `message` goes with.
  void take(Append message, SharedBytes records, Answer answer);
  void take(const AppendReply& progress);
  /// The same, as the answer to a heartbeat.
  void take_again(const AppendReply& progress);
  void take(const Seal& seal, SealedAnswer answer);
  void take(ReadRange range, RangeAnswer answer);
  /// Links have come up, perhaps before anybody was told of them.
  void look_at_links();
  /// The connection to it has come up or ended.
  void link_changed(NodeId node);

  // What the catalogue says.
  /// The partition as it is now. `ours`: its current epoch is one that this process may lead
  /// without more ado, for it was made since it started and holds no record.
  void catalog(const catalog::Partition& partition, bool fresh);
  /// This node's proposal of `epoch` is committed: it becomes the candidate.
  void campaign(Epoch epoch, const catalog::Partition& partition,
                std::vector<catalog::Replica> replicas, std::uint16_t write_quorum, bool unclean);

  // Where it follows.
  /// What those who read here may go by.
  struct Followed {
    Epoch epoch;       ///< that is led by another node
    Offset committed;  ///< as that one said last; perhaps more than the own log has
  };
  /// Nullopt unless this log is a beginning of the leader's, and had within lag_time_max all that
  /// was committed then as that leader said: who reads is better off elsewhere.
  [[nodiscard]] std::optional<Followed> followed(Instant now) const;

  // Where it leads.
  /// Whether records may be appended now, in `epoch()`.
  [[nodiscard]] bool leads() const;
  [[nodiscard]] Epoch epoch() const { return leading_ ? leading_->term().epoch : Epoch(0); }
  /// The first of the epochs that this node has led one after the other, or is about to, with nobody else
  /// in between and nothing cut: what it took in any of them stands. 0 = there is no such.
  [[nodiscard]] Epoch tenure() const { return tenure_; }
  /// The last of them that it has led. What was committed in it may be read until the next begins.
  [[nodiscard]] Epoch last_term() const { return last_term_; }
  /// It has ended to lead only to lead again, in the epoch that it asks for now.
  [[nodiscard]] bool between_terms() const { return tenure_.value != 0 && !leads(); }
  /// False: fewer than W replicas have been heard of lately.
  [[nodiscard]] bool may_accept() { return may_accept(io::Shard::current().now()); }
  [[nodiscard]] bool may_accept(Instant now);
  /// Another one may lead by now without a word of it coming here: fewer than W replicas have been
  /// heard of for a lease, and nobody who leads the metadata log. Begins where `look_whether_cut_off`
  /// finds it so; ends at once.
  [[nodiscard]] bool cut_off() { return cut_off_ && alone(); }
  void look_whether_cut_off();
  /// Asks W replicas, itself included, whether this leads still: true if it did after this call.
  [[nodiscard]] io::Task<bool> confirm(Instant deadline);
  /// Adds what is to be said to each node where nothing else is; once in a heartbeat.
  void add_heartbeats(std::map<NodeId, std::vector<Heartbeat>>& out) const;
  /// The host has appended a batch of this epoch at the log's end; `pinned`: bytes that stay in
  /// memory as long as it is kept.
  void appended(SharedBytes batch, std::size_t pinned, Offset base, Offset end);
  /// Records below went from the log.
  void trimmed(Offset log_start);
  /// From now on records count as stable so; what counted before stays.
  void set_durability(Durability durability);
  /// The log can be used no more: it takes part in nothing, until it is opened anew.
  void give_up(Error why) { break_down(std::move(why)); }

  [[nodiscard]] const Following& following() const { return following_; }
  [[nodiscard]] const Leading* leading() const { return leading_ ? &*leading_ : nullptr; }
  [[nodiscard]] const Recovery* recovery() const { return recovery_ ? &*recovery_ : nullptr; }
  [[nodiscard]] Offset high_watermark() const { return high_watermark_; }
  [[nodiscard]] const std::optional<Error>& failed() const { return failed_; }

 private:
  struct Inbound {
    Append message;
    Batches batches;
    SharedBytes records;
    Answer answer;
  };
  struct Recent {
    Offset base;
    Offset end;
    SharedBytes bytes;
    std::size_t pinned = 0;  ///< memory that it keeps
  };
  void give(Inbound in);
  /// Whether the catalogue, as it is known here, lets `node` speak for `epoch`.
  [[nodiscard]] bool may_speak(NodeId node, Epoch epoch) const;
  void note_leader(const Append& said);
  void end_old_seals();
  /// Whether the catalogue, as it is known here, says nothing of that epoch yet.
  [[nodiscard]] bool is_early(Epoch epoch) const;
  void take_early_seals(Epoch heard_before);
  void apply(Following::Effects effects, const Batches* batches);
  void apply(Recovery::Effects effects, const Batches* batches = nullptr);
  void answer_self(const AppendReply& reply);
  void offer_again();
  /// After every input: who leads, what is committed, who has to be woken.
  void settle();
  void stop_leading();
  void end_tenure();
  /// Whether the newest epoch that the catalogue knows of is this node's, led or asked for.
  [[nodiscard]] bool is_ours_next() const;
  void make_stable();
  void begin_feeding(Leading& leading);
  void break_down(Error why);
  void flush_replies();
  [[nodiscard]] Leading* feeding();
  [[nodiscard]] std::optional<Wire::Records> recent(Offset from, std::uint64_t max_bytes,
                                                    Offset& end) const;
  void drop_recent();

  io::Task<void> drain();
  io::Task<void> give_range(ReadRange range, RangeAnswer answer);
  [[nodiscard]] io::Task<Result<Wire::Range>> range_of(ReadRange range);
  [[nodiscard]] io::Task<Result<void>> make_room(std::size_t bytes);
  io::Task<void> store_all();
  io::Task<void> cut(Following::Cut cut);
  io::Task<void> sync_all();
  io::Task<void> feed(NodeId node, std::uint64_t generation);
  io::Task<void> send(NodeId node, Append message, Wire::Records records, std::uint64_t asked,
                      std::uint64_t generation);
  [[nodiscard]] bool alone();
  io::Task<void> ask_seal(NodeId node, Seal seal);
  io::Task<void> read_range(NodeId from, ReadRange range);
  io::Task<void> activate(catalog::EpochActivation activation);
  io::Task<void> recover(std::uint64_t generation);

  Wire& wire_;
  Host& host_;
  PartitionId id_;
  Options options_;
  Following following_;
  std::optional<Leading> leading_;
  std::optional<Recovery> recovery_;
  std::optional<Append> own_offer_;  ///< of a first epoch, until the own log has joined it
  Offset high_watermark_{0};
  /// How it keeps up with the leader of an active epoch.
  struct Level {
    Epoch epoch;
    std::optional<Instant> at;  ///< all that was committed then is here
    Offset asked;               ///< what was committed when last heard of, and when that was
    Instant asked_at;
  } level_;
  std::optional<Error> failed_;
  /// What the catalogue says of who may ask for what.
  struct Known {
    Epoch highest;
    NodeId candidate;
    Epoch current;
    NodeId leader;
  } known_;
  Epoch campaigned_;  ///< the newest epoch that this life has asked for
  bool stopping_ = false;

  std::deque<Inbound> inbox_;  ///< what waits for room in the log
  bool draining_ = false;
  Answer answer_;  ///< of the Append that is being given
  NodeId answer_to_;
  std::vector<std::pair<NodeId, AppendReply>>
      replies_;  ///< the newest to each, until the input is settled
  std::vector<std::pair<Seal, SealedAnswer>> seals_;
  std::deque<Promise> storing_;
  bool storing_now_ = false;
  bool syncing_ = false;
  bool sync_wanted_ = false;
  std::uint64_t cuts_ = 0;
  bool cutting_ = false;
  io::Turn read_turn_;  ///< one range at a time is in memory
  io::Turn log_turn_;   ///< of cuts and of what makes room in the log
  std::deque<Recent> recent_;
  std::size_t recent_bytes_ = 0;
  std::uint64_t feeding_ = 0;  ///< of the feeders that run
  std::uint64_t recovering_ = 0;
  Epoch activating_;  ///< whose activation is on its way; 0 = none
  bool settling_ = false;
  bool cut_off_ = false;
  std::optional<Epoch> told_leads_;
  Epoch tenure_;
  Epoch last_term_;
  io::WaitList confirmed_;
  io::WaitList wake_feeders_;
  io::WaitList wake_recovery_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::replica
