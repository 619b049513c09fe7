#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/shard.h"
#include "log/partition_log.h"
#include "log/shard_logs.h"
#include "model/fundamental.h"
#include "model/kafka_error.h"
#include "model/record_batch.h"
#include "producer/producer_table.h"
#include "replica/participant.h"

namespace pyralog::replica {

/// A batch that has been checked, in memory that its owner lets us write into.
struct NewBatch {
  std::shared_ptr<void> owner;  ///< keeps `bytes` alive
  MutableBytes bytes;           ///< one whole batch
  BatchHeader header;           ///< as parsed from them
  std::optional<Epoch> only_in = std::nullopt;  ///< not in another epoch than this
};

/// What became of an append. `end` is what to wait for; with an error it means nothing.
struct AppendOutcome {
  KafkaError error = KafkaError::kNone;
  std::string message;  ///< for humans, with an error
  bool no_space = false;  ///< the error is that the disk is full; nothing was appended
  Offset base{-1};
  Offset end{-1};
  std::int64_t append_time_ms = -1;  ///< on log-append-time topics
  Epoch epoch;                       ///< in which it was appended, to be waited for in it
};

/// Told when there is more to read: called on the replica's shard, once, then forgotten.
class DataWatcher {
 public:
  virtual ~DataWatcher() = default;
  virtual void data_available() = 0;
};

/// What a replica needs to be one of several.
struct Membership {
  Wire* wire = nullptr;  ///< outlives the replica
  Life self;
  Promise promise;        ///< as it is stored
  bool in_doubt = false;  ///< see Following::Opened
  /// Durable when it returns.
  std::function<io::Task<Result<void>>(Promise)> store;
  /// The log is about to be cut there, until `cut_ended`: whatever is kept outside of it must not speak
  /// of more, durably.
  std::function<io::Task<Result<void>>(Offset)> cutting;
  std::function<void()> cut_ended;
  /// Whether records of others may be written now.
  std::function<bool()> may_take;
  /// It takes part in nothing any more, until it is opened anew: called within the loop, may not wait.
  std::function<void()> failed;
  /// See Participant::Host::activate.
  std::function<io::Task<Result<void>>(catalog::EpochActivation, std::optional<Recovery::Loss>)> activate;
  /// It begins to lead, or ends to: called within the loop, may not wait.
  std::function<void(bool leads)> role_changed;
  Leading::Options leading{};
  Recovery::Options recovery{};
};

/// One partition's replica: judges, orders and stores what producers send where it leads, follows where
/// another one does, and knows how far it is committed. With one replica in all, the high watermark is this
/// log's stable end: the end of what is synced for `fsync` topics, the end of the log for the others. Lives
/// on the partition's shard; nobody else touches it.
class Replica {
 public:
  struct Options {
    std::string name;  ///< "topic-3", for messages
    log::LogConfig log;
    std::vector<EpochStart> epochs;  ///< that were activated, as far as they hold records
    bool log_append_time = false;
    producer::Options producers;
    producer::ProducerClock producer_clock;  ///< the node's
  };

  /// Opens the log and rebuilds what is known of producers: from `snapshot` (a ProducerTable's), if
  /// there is one that fits, and the batches after it. A log with nothing on disk begins at
  /// `initial`. kCorrupt: the partition is damaged and must stay offline.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Replica>>> open(
      log::ShardLogs& logs, PartitionId id, Options options, Offset initial,
      std::optional<Bytes> snapshot);
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;
  ~Replica();

  [[nodiscard]] const PartitionId& id() const { return id_; }
  [[nodiscard]] const std::string& name() const { return options_.name; }
  /// Begins to lead in `epoch`; the log must end where the epoch starts. Of a lone replica.
  void lead(Epoch epoch);
  /// Becomes one of several, before anything else; from now on `participant` is what leads and follows.
  /// kCorrupt: the log does not say of itself which epochs wrote it.
  [[nodiscard]] Result<void> join(Membership membership);
  /// Null of a lone replica.
  [[nodiscard]] Participant* participant() { return participant_.get(); }
  [[nodiscard]] const Participant* participant() const { return participant_.get(); }
  /// In which it leads; 0 = it does not.
  [[nodiscard]] Epoch epoch() const {
    return participant_ == nullptr ? epoch_ : participant_->leads() ? participant_->epoch() : Epoch(0);
  }
  /// See Participant::cut_off; never of a lone replica. Whoever waits here is sent away.
  [[nodiscard]] bool cut_off() const { return participant_ != nullptr && participant_->cut_off(); }
  void configure(Options options);

  /// Judges the producer's sequence, assigns offsets and epoch, writes to the log (page cache). Order
  /// of calls = order of records. Between two epochs of this node it waits for the next, three seconds at
  /// most. A duplicate of an idempotent batch yields the original's offsets
  /// and the original's end to wait for.
  [[nodiscard]] io::Task<AppendOutcome> append(NewBatch batch);
  /// Waits until everything below `end` is committed: kNone, kRequestTimedOut at the deadline (it may
  /// still commit), kKafkaStorageError if the log has gone offline, kNotLeaderOrFollower if this has not
  /// led without a break since `epoch`, other records may be there then; so, too, if another one may
  /// lead, see `cut_off`, unless that is waited `through`.
  [[nodiscard]] io::Task<KafkaError> wait_committed(Offset end, Epoch epoch, Instant deadline,
                                                    bool through = false);
  /// The same of what is there now, in the epoch that is led.
  [[nodiscard]] io::Task<KafkaError> wait_committed(Offset end, Instant deadline) {
    return wait_committed(end, epoch(), deadline);
  }

  [[nodiscard]] Offset log_start() const { return log_->start_offset(); }
  [[nodiscard]] Offset log_end() const { return log_->end_offset(); }
  /// Nothing at or above it is shown to anybody.
  [[nodiscard]] Offset high_watermark() const { return high_watermark_; }
  /// What read_committed consumers may see; without transactions, the high watermark.
  [[nodiscard]] Offset last_stable_offset() const { return high_watermark_; }
  [[nodiscard]] const std::optional<Error>& offline() const {
    return participant_ != nullptr && participant_->failed() ? participant_->failed() : log_->offline();
  }
  /// Where `epoch` ends, with the greatest epoch up to it that has records; with itself if none has:
  /// who saw such an epoch while the log was empty has seen nothing that went.
  [[nodiscard]] EpochStart epoch_end(Epoch epoch) const;

  /// Whole batches from `offset`, below the high watermark. Errors as PartitionLog::read.
  [[nodiscard]] io::Task<Result<log::ReadResult>> read(Offset offset, std::uint64_t max_bytes,
                                                       bool min_one);
  /// Calls `watcher` once there is committed data at or above `from`, or the replica ends, or is
  /// cut off. At once if there is already, or it is.
  void watch(Offset from, const std::shared_ptr<DataWatcher>& watcher);

  /// Lets everybody who waits for data look again.
  void wake_watchers();

  [[nodiscard]] log::PartitionLog& log() { return *log_; }
  /// For who waits in it: a cut may put another in its place.
  [[nodiscard]] std::shared_ptr<log::PartitionLog> kept_log() { return log_; }
  [[nodiscard]] const producer::ProducerTable& producers() const { return producers_; }
  /// Those that have not been silent too long, by id.
  [[nodiscard]] std::vector<producer::ActiveProducer> active_producers() const {
    return producers_.list(time_run());
  }
  /// Forgets producers that have been silent too long.
  void expire_producers() { producers_.expire(time_run()); }

  /// Keeps all records from `offset` on as they are, for `name`, who reads them still: once this has
  /// returned, neither retention nor compaction touches a segment that reaches above the lowest hold, and
  /// DeleteRecords beyond it is refused. A hold of that name moves, forward or back; one caller at a time
  /// for each name. A hold lives as long as this object: whoever needs it takes it anew when the partition
  /// begins to be led. Two things go all the same: a topic that is deleted, and what a topic in memory
  /// must drop for want of room. kOutOfRange below the log's start (those records are gone) or above the
  /// high watermark, kExhausted with too many holds, kUnavailable while it is being closed: then all is
  /// as before.
  [[nodiscard]] io::Task<Result<void>> hold(std::string name, Offset offset);
  /// Nothing if there is no such hold.
  void release(std::string_view name);
  using Holds = std::map<std::string, Offset, std::less<>>;
  static constexpr std::size_t kMaxHolds = 100;
  [[nodiscard]] const Holds& holds() const { return holds_; }

  /// Forgets what the topic's retention says, nothing that is not committed or is held. `now`:
  /// RetentionClock.
  [[nodiscard]] io::Task<Result<void>> retain(WallMs now);
  /// Compacts what is committed and not held, as the topic's settings say; kCancelled, too, when a hold
  /// came meanwhile. The caller fills in the rest of `call`.
  [[nodiscard]] io::Task<Result<log::Compacted>> compact(log::CompactionCall call);
  /// Deletes the records below `offset` for good (Kafka's DeleteRecords). kOutOfRange above the high
  /// watermark; kFenced above a hold: whoever deletes is told instead of a reader that finds a gap.
  [[nodiscard]] io::Task<Result<void>> delete_records_below(Offset offset);

  /// Wakes everybody who waits with an error and takes nothing more; join before destroying.
  [[nodiscard]] io::Task<void> stop(KafkaError reason);

 private:
  Replica(log::ShardLogs& logs, PartitionId id, Options options);
  [[nodiscard]] io::Task<Result<void>> rebuild_producers(std::optional<Bytes> snapshot,
                                                           log::GiveUp give_up);
  [[nodiscard]] AppendOutcome append_now(NewBatch& batch, WallMs wall);
  /// Answers for the producer's sequence, or nullopt: append.
  [[nodiscard]] std::optional<AppendOutcome> judge(const BatchHeader& header,
                                                   producer::RunningMs now);
  /// What producers' silence is measured by.
  [[nodiscard]] producer::RunningMs time_run() const;
  [[nodiscard]] AppendOutcome refused(KafkaError error, std::string message) const;
  [[nodiscard]] AppendOutcome storage_error(const Error& error) const;
  void committed_to(Offset end);
  static constexpr Duration kBetweenTerms = std::chrono::seconds(3);
  [[nodiscard]] bool between_terms() const;
  /// Returns when this is not so any more.
  io::Task<void> next_term(Instant until);
  /// Whether what was taken in `epoch` is here still, and led by this node or soon again.
  [[nodiscard]] bool stands(Epoch epoch) const;
  /// What the participant asks of the partition: replica_seat.cc.
  class Seat;
  /// Whether this node may append now; else why not.
  [[nodiscard]] std::optional<AppendOutcome> may_lead(std::optional<Epoch> only_in) const;
  [[nodiscard]] io::Task<Result<void>> cut(Offset to, bool restart);
  /// Where the lowest hold lies; nullopt = there is none.
  [[nodiscard]] std::optional<Offset> held_from() const;
  /// Runs what may remove records below `limit`, so that a hold that comes meanwhile waits for it.
  template <typename T>
  [[nodiscard]] io::Task<T> clean(Offset limit, io::Task<T> work);
  /// Wakes those who wait for what will not come any more.
  void tell_if_offline();
  io::Task<void> sync_loop();
  /// Records from `before` on went.
  void tell_trimmed(Offset before);
  [[nodiscard]] io::Task<Result<void>> cut_log(Offset to, bool restart);

  log::ShardLogs& logs_;
  PartitionId id_;
  Options options_;
  std::shared_ptr<log::PartitionLog> log_;
  producer::ProducerTable producers_;
  Epoch epoch_;
  Offset high_watermark_{0};
  bool syncing_ = false;
  KafkaError stopped_ = KafkaError::kNone;
  io::WaitList committed_;
  io::WaitList next_term_;
  struct Watch {
    Offset from;
    std::weak_ptr<DataWatcher> watcher;  ///< gone = its reader has stopped waiting
  };
  std::vector<Watch> watches_;
  std::size_t purge_watches_at_ = 16;
  Holds holds_;
  std::map<std::uint64_t, Offset> cleaning_;  ///< what cleans now, numbered as it began, and its limit
  std::uint64_t next_cleaning_ = 0;
  io::WaitList cleaned_;  ///< of cleaning_
  io::Turn append_turn_;
  std::size_t queued_appends_ = 0;
  Membership membership_;
  std::unique_ptr<Participant::Host> seat_;
  std::unique_ptr<Participant> participant_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::replica
