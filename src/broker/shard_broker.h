#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "broker/options.h"
#include "broker/seats.h"
#include "catalog/catalog.h"
#include "cluster/cluster.h"
#include "io/retry.h"
#include "io/shard.h"
#include "log/scrubber.h"
#include "log/shard_logs.h"
#include "replica/producer_snapshots.h"
#include "replica/replica.h"

namespace pyralog::broker {

using CatalogPtr = cluster::CatalogPtr;

/// A partition as its shard has it: a replica, or the reason why there is none.
struct Hosted {
  std::shared_ptr<replica::Replica> replica;  ///< null = could not be opened
  std::string name;
  std::optional<Error> failed;  ///< why it could not be opened, or not be led
};

/// One shard's partitions: opens, configures, closes and deletes their replicas as the catalogue
/// says. Lives on its shard.
class ShardBroker {
 public:
  /// The shard that a partition lives on, among `shards`.
  [[nodiscard]] static unsigned shard_of(const PartitionId& id, std::size_t shards);

  ShardBroker(const Options& options, unsigned index, std::size_t shards)
      : options_(options),
        index_(index),
        shards_(shards) {}

  /// Before `open`: the node has joined others. Its replicas then lead and follow as their participants
  /// say, and `led`, `lead` and `lead_again` are not for it.
  void join(std::unique_ptr<Seats> seats) { seats_ = std::move(seats); }
  /// Null if the node is alone.
  [[nodiscard]] Seats* seats() { return seats_.get(); }
  /// All that it hosts was opened: from now on what is new is.
  void begun() { leads_ = true; }
  /// A log is about to be cut there: what is kept of its producers must not speak of more.
  [[nodiscard]] io::Task<Result<void>> cutting(PartitionId id, Offset to);
  void cut_ended(const PartitionId& id) { cutting_.erase(id); }
  /// Its replica takes part in nothing any more: the next `open_failed` closes it, to open it again.
  void failed(const PartitionId& id) { failed_.insert(id); }
  /// Of what could not be opened at the start: keeps durably that acknowledged records may be missing.
  /// False: that is not kept, so the next start has to find it as well.
  [[nodiscard]] io::Task<bool> keep_doubts();

  /// Recovers this shard's partitions of `catalog`. What cannot be opened is kept with its reason.
  [[nodiscard]] io::Task<Result<void>> open(CatalogPtr catalog,
                                            std::shared_ptr<const log::Evidence> evidence,
                                            std::shared_ptr<const replica::ProducerSnapshots> known,
                                            bool new_os_boot);
  /// After `open`, before anything is appended: what is known of producers must not speak of more
  /// than the logs hold. `anew`: write the file even if it would stay the same.
  [[nodiscard]] io::Task<Result<void>> drop_snapshots_beyond_the_logs(bool anew);
  /// Where this shard's partitions end: what the node is about to lead.
  [[nodiscard]] std::vector<cluster::LedPartition> led() const;
  /// Begins to lead in the epochs that `catalog` has activated.
  void lead(CatalogPtr catalog);

  /// Follows a change: opens what is new, removes what is gone, configures what has changed.
  [[nodiscard]] io::Task<void> apply(CatalogPtr catalog);
  /// Tries once more to open what could not be opened for a reason that may pass (space, descriptors,
  /// a device that failed a call), each partition after a pause that grows. What was made since the
  /// start leads at once. The others, which other starts have led before, need an epoch of this start:
  /// they are returned for the caller to activate, and then to `lead_again`.
  [[nodiscard]] io::Task<std::vector<cluster::LedPartition>> open_failed();
  /// Begins to lead those in the epochs that `activated` gave them; after an error they are tried later.
  void lead_again(const std::vector<PartitionId>& ids, const Result<CatalogPtr>& activated);
  /// Never null once opened.
  [[nodiscard]] const CatalogPtr& catalog() const { return catalog_; }

  /// Null if this shard does not have the partition.
  [[nodiscard]] const Hosted* find(const PartitionId& id) const;
  /// As `serving`; NOT_LEADER_OR_FOLLOWER, too, if another node leads it, or none does.
  [[nodiscard]] std::expected<std::shared_ptr<replica::Replica>, KafkaError> leading(
      const PartitionId& id) const;
  /// A replica that may be read, and what its readers go by.
  struct Readable {
    std::shared_ptr<replica::Replica> replica;
    Epoch epoch;                    ///< in which it leads or follows
    std::optional<Offset> told;     ///< of a follower: see Participant::Followed::committed
  };
  /// As `leading`, or where `follows_too` one that follows and keeps up: see Participant::followed.
  [[nodiscard]] std::expected<Readable, KafkaError> readable(const PartitionId& id,
                                                             bool follows_too) const;
  /// kNone if its groups may be coordinated here now: it is led, and not cut off from the others.
  [[nodiscard]] KafkaError may_coordinate(const PartitionId& id) const;
  /// kNone if no other coordinator had begun when this was called: W of the replicas say so. A lone
  /// node's is never another.
  [[nodiscard]] io::Task<KafkaError> confirm(PartitionId id, Epoch spoke_in) const;
  /// The replica, if it can be asked; else NOT_LEADER_OR_FOLLOWER, or KAFKA_STORAGE_ERROR for one that
  /// is offline.
  [[nodiscard]] std::expected<std::shared_ptr<replica::Replica>, KafkaError> serving(
      const PartitionId& id) const;
  [[nodiscard]] const std::unordered_map<PartitionId, Hosted>& hosted() const { return hosted_; }
  [[nodiscard]] log::ShardLogs* logs() { return logs_.get(); }

  /// Called when a partition that is led appears, and before one that was goes.
  void on_partition(std::function<void(const PartitionId&, const catalog::Topic&, bool led)> f) {
    on_partition_ = std::move(f);
  }

  /// Writes what is known of producers as far as it is synced, and how long the node has run. Now and
  /// then, and at the `end`.
  [[nodiscard]] io::Task<Result<void>> write_snapshots(bool end = false);
  /// The time that everything on this shard is forgotten by. After `open`.
  [[nodiscard]] WallMs believed_now();
  /// Lets each log forget what its topic's retention says. Now and then.
  [[nodiscard]] io::Task<void> retain();
  /// Compacts the logs that are due, one after another. Now and then; `stop` ends it early, and a
  /// log is left for later if what compaction may write of it before it removes anything does not
  /// fit.
  [[nodiscard]] io::Task<void> compact(std::function<bool()> stop,
                                       std::function<bool(std::uint64_t bytes)> fits);
  /// Reads all closed segments back once and says what is damaged. `stop` ends it early.
  [[nodiscard]] io::Task<void> scrub(std::function<bool()> stop);
  /// Null before `open`.
  [[nodiscard]] const log::Scrubber* scrubber() const { return scrubber_.get(); }
  /// Everything durable, and the next start scans nothing; if it never came to lead, nothing is
  /// written.
  [[nodiscard]] io::Task<Result<void>> close();

 private:
  [[nodiscard]] bool mine(const PartitionId& id) const {
    return shard_of(id, shards_) == index_;
  }
  [[nodiscard]] replica::Replica::Options replica_options(const catalog::Topic& topic,
                                                          PartitionIndex index) const;
  [[nodiscard]] bool hosts(const catalog::Partition& partition) const {
    return seats_ == nullptr || seats_->hosts(partition);
  }
  io::Task<void> open_partition(catalog::TopicPtr topic, PartitionIndex index);
  [[nodiscard]] io::Task<Result<void>> take_seat(PartitionId id, const Hosted& hosted,
                                                 Durability durability, bool in_doubt);
  io::Task<void> open_all(std::vector<PartitionId> ids);
  io::Task<void> remove(PartitionId id);
  // shard_broker_damage.cc: one of several replicas whose log is damaged gets another from the others.
  void give_up_damaged();
  io::Task<void> mend_damaged();
  [[nodiscard]] io::Task<Result<void>> make_anew(PartitionId id);
  /// What was set aside, by this start or an earlier one, goes once the replica is whole again.
  io::Task<void> find_set_aside();
  io::Task<void> remove_set_aside();
  struct SetAside {
    std::string path;
    Epoch lossy;        ///< Promise::lossy before it; 0 if that is not known
    bool told = false;  ///< that it stays
  };
  [[nodiscard]] io::Task<bool> is_needless(PartitionId id, SetAside copy) const;
  /// Says why a partition is offline, unless it was the last thing said.
  void tell_offline(const PartitionId& id, const Hosted& hosted) const;
  void try_later(const PartitionId& id);
  [[nodiscard]] bool there_at_start(const PartitionId& id) const;
  /// What may be missing of a log that was just opened and that an earlier start has led.
  void note_losses(const PartitionId& id, const Hosted& hosted, Durability durability, bool in_doubt);
  [[nodiscard]] std::string loss(const PartitionId& id, Durability durability, bool in_doubt) const;
  [[nodiscard]] cluster::LedPartition led_partition(const PartitionId& id) const;
  /// Brings `snapshots_` up to date; true if that changed them. `producers`: how many there are.
  io::Task<bool> take_snapshots(std::size_t& producers);
  io::Task<Result<void>> store_snapshots();
  void lead_one(const PartitionId& id, const catalog::Topic& topic, const catalog::Catalog& state);
  /// Leads those of `fresh` that could be opened.
  void lead_fresh(const std::vector<PartitionId>& fresh);

  const Options& options_;
  unsigned index_;
  std::size_t shards_;
  CatalogPtr catalog_;
  std::shared_ptr<const log::Evidence> evidence_;
  std::unique_ptr<log::ShardLogs> logs_;
  std::unique_ptr<log::Scrubber> scrubber_;  ///< of these
  bool leads_ = false;
  bool new_os_boot_ = false;
  std::unique_ptr<Seats> seats_;  ///< outlives the replicas
  std::unordered_map<PartitionId, Hosted> hosted_;
  struct Retry {
    io::Backoff pause;
    Instant due;
    bool at_start;  ///< it could not be opened when this node started: it has no epoch of this start
  };
  std::map<PartitionId, Retry> again_;  ///< what is not opened and led yet, and may be later
  struct Mending {
    io::Backoff pause;
    Instant due;
  };
  std::map<PartitionId, Mending> mending_;
  std::map<PartitionId, std::vector<SetAside>> set_aside_;
  io::Turn changing_;  ///< one at a time changes which partitions there are
  struct Lost {
    Offset from;
    std::string reason;
  };
  std::unordered_map<PartitionId, Lost> lost_;  ///< records that may be missing
  log::RetentionClock retention_clock_;
  std::set<PartitionId> cutting_;  ///< nothing is written down of their producers
  std::set<PartitionId> failed_;
  io::Turn storing_snapshots_;
  std::uint64_t snapshots_changed_ = 0;
  std::uint64_t snapshots_stored_ = 0;
  replica::ProducerSnapshots snapshots_;  ///< the last written of each partition
  bool knows_what_left_ = false;  ///< what was written speaks of partitions that are not here
  producer::RunningMs clock_written_;     ///< beside them, or at the start
  std::function<void(const PartitionId&, const catalog::Topic&, bool)> on_partition_;
};

[[nodiscard]] std::vector<PartitionId> ids_of(const std::vector<cluster::LedPartition>& led);

/// What a topic's settings mean for its partitions' logs.
[[nodiscard]] log::LogConfig log_config(const catalog::TopicConfig& config);

}  // namespace pyralog::broker
