#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/group_host.h"
#include "broker/lag_board.h"
#include "broker/options.h"
#include "broker/shard_broker.h"
#include "broker/space_guard.h"
#include "catalog/plan.h"
#include "catalog/reassign.h"
#include "cluster/cluster.h"
#include "io/net.h"
#include "io/shard.h"
#include "log/log_details.h"
#include "obelisk/scarab.h"
#include "producer/producer_id_block.h"
#include "replica/peer_wire.h"
#include "replica/promises.h"
#include "replica/replica.h"

namespace pyralog::cluster {
class Pharaoh;
}

namespace pyralog::broker {

/// A partition that a client names.
struct PartitionRef {
  std::string topic;
  std::int32_t partition = -1;
  auto operator<=>(const PartitionRef&) const = default;
};

struct ProduceItem {
  PartitionRef target;
  std::shared_ptr<void> owner;  ///< keeps the bytes alive
  MutableBytes records;         ///< what the client sent: one record batch
};
struct ProduceOutcome {
  KafkaError error = KafkaError::kNone;
  std::string message;
  std::vector<std::int32_t> bad_records;  ///< numbers within the batch of those that made it refused
  std::int64_t base_offset = -1;
  std::int64_t append_time_ms = -1;
  std::int64_t log_start = -1;
  Duration
      stored_in{};  ///< from the append's beginning until it was written or, with all, committed
  Duration waited{};  ///< of that, for this partition alone
};

struct FetchItem {
  PartitionRef target;
  std::int32_t leader_epoch = -1;  ///< that the client believes in; −1 = it does not say
  std::int64_t offset = 0;
  std::int32_t last_fetched_epoch = -1;  ///< of the record before `offset`; −1 = it does not say
  std::int64_t max_bytes = 0;
};
struct FetchOutcome {
  KafkaError error = KafkaError::kNone;
  std::int64_t high_watermark = -1;
  std::int64_t last_stable = -1;
  std::int64_t log_start = -1;
  std::vector<io::Piece> records;
  std::uint64_t bytes = 0;
  std::int64_t offsets = 0;  ///< that `records` span
  /// Where the client's log parts from ours, if it does.
  std::optional<EpochStart> diverging;
  std::optional<NodeId> read_from;  ///< a replica nearer to the client: it is to read there instead
  bool dead_end = false;            ///< its leader is cut off: nothing more will come here
  bool beyond = false;  ///< of a follower: the offset is above all that its leader has told it of
  Duration waited{};  ///< by the whole fetch, for records to come
  bool in_memory = false;     ///< the partition's records are, and stay there for as long as `records` live
  std::uint64_t lacking = 0;  ///< of these: the next batch, if FetchMemory had no room for it
};

/// Says how much a fetch may hold of records in memory. Called on the shard that fetches.
class FetchMemory {
 public:
  virtual ~FetchMemory() = default;
  /// What there is at once for a pass, at most `wanted`: bytes, held until `keep`. 0 where records in
  /// memory are not expected.
  virtual std::uint64_t take(std::uint64_t wanted) = 0;
  /// Waits until there is room for `least` bytes, or more, up to `wanted`; 0 = not by `deadline`, or not
  /// any more. Nothing is held meanwhile.
  virtual io::Task<std::uint64_t> wait_for(std::uint64_t least, std::uint64_t wanted,
                                           Instant deadline) = 0;
  /// So much was read; the rest is given back.
  virtual void keep(std::uint64_t bytes) = 0;
};

/// Ends the waits of fetches before their time: nobody is there for the answers any more. Lives on the
/// shard that fetches, and outlives the fetches.
class FetchEnd {
 public:
  /// From now on fetches answer with what there is.
  void end() {
    ended_ = true;
    for (replica::DataWatcher* each : waiting_) each->data_available();
  }
  [[nodiscard]] bool ended() const { return ended_; }

 private:
  friend class Broker;
  std::set<replica::DataWatcher*> waiting_;
  bool ended_ = false;
};

struct FetchBounds {
  std::uint64_t min_bytes = 1;
  std::uint64_t max_bytes = 50u << 20;
  Instant deadline{};
  FetchMemory* memory = nullptr;  ///< outlives the fetch; null = records in memory have no bound
  FetchEnd* end = nullptr;        ///< likewise; null = only the deadline ends its wait
  std::string rack{};  ///< where the client is: it may be sent to a follower there, and read from one;
                     ///< empty = it reads from leaders
};

struct OffsetQuery {
  PartitionRef target;
  std::int32_t leader_epoch = -1;
  std::int64_t timestamp = -1;  ///< −1 latest, −2 earliest, −3 greatest timestamp, −4 local earliest
};
struct OffsetAnswer {
  KafkaError error = KafkaError::kNone;
  std::int64_t timestamp = -1;
  std::int64_t offset = -1;
  std::int32_t leader_epoch = -1;
};

struct EpochQuery {
  PartitionRef target;
  std::int32_t current_leader_epoch = -1;
  std::int32_t leader_epoch = -1;
};
struct EpochAnswer {
  KafkaError error = KafkaError::kNone;
  std::int32_t leader_epoch = -1;
  std::int64_t end_offset = -1;
};

struct AdminOutcome {
  KafkaError error = KafkaError::kNone;
  std::string message;
};

/// What a topic has got, or would get.
struct CreateOutcome : AdminOutcome {
  std::int32_t partitions = -1;
  std::int16_t replication_factor = -1;
};

/// Replicas that leave a draining node at once.
inline constexpr std::size_t kDrainedTogether = 10;

/// How far a node is with giving everything to others; as this node knows it.
struct DrainStatus {
  bool draining = false;
  std::size_t leading = 0;  ///< partitions that it leads
  catalog::DrainPlan plan;
};

/// Who leads a partition and who keeps up, as this node knows it.
struct PartitionRoles {
  std::optional<NodeId> leader;  ///< none = nobody leads it now
  Epoch epoch;                   ///< the newest that was led; 0 = none yet
  std::vector<NodeId> replicas;  ///< assigned, in order of preference
  std::vector<NodeId> in_sync;   ///< of these
  std::vector<NodeId> offline;   ///< of `replicas`: cannot be reached
};

struct PartitionStatus {
  PartitionId id;  ///< names its directory
  std::string name;
  std::uint32_t epoch = 0;
  std::int64_t log_start = 0;
  std::int64_t high_watermark = 0;
  std::int64_t log_end = 0;
  std::int64_t synced_end = 0;  ///< everything below is on the device
  std::uint64_t bytes = 0;
  std::string offline;  ///< reason; empty = online
  struct Hold {
    std::string by;
    std::int64_t offset = 0;
  };
  std::vector<Hold> holds;  ///< who keeps its records, and from where on
  std::uint64_t held_back_bytes = 0;  ///< that retention left for them when it looked last
  std::vector<catalog::LostRecord> lost;  ///< where records may be missing, and why
};

/// One partition, whole; for people.
struct PartitionDetails {
  PartitionStatus status;
  unsigned shard = 0;  ///< that it lives on
  Durability durability = Durability::kFsync;
  std::vector<EpochStart> epochs;     ///< that its log has records of, the newest hundred
  std::size_t producers = 0;          ///< that it remembers
  std::optional<log::LogDetails> log;  ///< none = it could not be opened
};

/// What the last start had to read before it could lead; all 0 after a clean stop.
struct RecoveryStatus {
  std::uint64_t logs = 0;            ///< logs that had no checkpoint of a clean stop
  std::uint64_t scanned_bytes = 0;   ///< read back and checked
  std::uint64_t replayed_bytes = 0;  ///< read again for what producers had sent
  std::uint64_t torn_bytes = 0;      ///< cut off behind the last sound batch
  std::int64_t millis = 0;
};

/// How the reading back of closed segments stands, of all shards.
struct ScrubStatus {
  std::int64_t last_round_ms = -1;  ///< since when all has been read back; −1 = not yet
  std::uint64_t damaged_ranges = 0;
  std::vector<std::string> damage;  ///< what there is to say about the first of them
};

/// The disk under the data directory, as it was seen last.
struct SpaceStatus {
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;  ///< 0 = the disk has not been asked yet
  std::uint64_t held_bytes = 0;   ///< that the reserve takes
  SpaceLimits limits;
  bool refusing = false;  ///< records of clients, except for topics in memory
};

/// What a node has done since it started, and holds now, of all its shards.
struct BrokerTotals {
  log::ShardLogStats log;
  group::Expired expired;
  group::Kept groups;  ///< held now
  std::uint64_t refused_for_space = 0;  ///< batches of clients
};

/// One node's API: what every door calls. Callable on any shard; hops to the shards that own the
/// partitions and comes back to the caller's. One per node.
class Broker {
 public:
  Broker(io::Shards shards, Options options);
  ~Broker();

  /// Recovers all partitions and leads them in new epochs. Called on shard 0; `cluster` lives there
  /// and outlives the broker.
  [[nodiscard]] io::Task<Result<void>> start(cluster::Cluster& cluster);
  /// Answers at once whoever waits for data or for a group; writes go on. Called on shard 0.
  [[nodiscard]] io::Task<void> drain();
  /// Ends everything, makes all of it durable, marks a clean end. Called on shard 0.
  [[nodiscard]] io::Task<Result<void>> stop();

  /// What exists, as of the last change that has reached this shard.
  [[nodiscard]] CatalogPtr catalog() const;
  [[nodiscard]] NodeId node() const { return node_; }
  /// Any shard; `partition` of `topic`, as in this shard's catalogue.
  [[nodiscard]] PartitionRoles roles(const catalog::Topic& topic,
                                     const catalog::Partition& partition) const;
  /// False for a node that this one knows it cannot reach; any shard.
  [[nodiscard]] bool reachable(NodeId node) const { return !local().unreachable->contains(node); }
  /// Since when this one knows that it cannot reach a node; nullopt if it can. Any shard.
  [[nodiscard]] std::optional<Instant> lost_since(NodeId node) const;
  /// A node was lost so lately that what it led may be about to get another leader; any shard.
  [[nodiscard]] bool settling() const;
  /// Waits until this shard hears of another catalogue, or of other nodes that can be reached; false
  /// at the deadline.
  [[nodiscard]] io::Task<bool> wait_news(Instant deadline) const;
  /// Who coordinates `group`: kCoordinatorNotAvailable while nobody does.
  [[nodiscard]] std::expected<NodeId, KafkaError> coordinator(const std::string& group) const;
  /// Where a partition lives, whoever leads it; nullopt if there is no such partition.
  [[nodiscard]] std::optional<unsigned> shard_of(const PartitionRef& target) const;
  [[nodiscard]] const Options& options() const { return options_; }

  /// Appends; outcomes in the order of the items. Calls made one after the other with the same
  /// `order`, or with none that has to open a large compressed batch (which is done in a pool), keep
  /// their order per partition. `order` belongs to the calling shard and outlives the call.
  [[nodiscard]] io::Task<std::vector<ProduceOutcome>> produce(std::vector<ProduceItem> items,
                                                              Acks acks, Duration timeout,
                                                              io::Turn* order = nullptr);
  /// Reads; waits until min_bytes are there or the deadline has come. Nothing is held meanwhile.
  [[nodiscard]] io::Task<std::vector<FetchOutcome>> fetch(std::vector<FetchItem> items,
                                                          FetchBounds bounds);
  /// The end, and what is found by time, count everything that was written when the question came:
  /// waits for its commit, at most commit_timeout, then answers from what is committed.
  [[nodiscard]] io::Task<std::vector<OffsetAnswer>> list_offsets(std::vector<OffsetQuery> queries);
  [[nodiscard]] io::Task<std::vector<EpochAnswer>> epoch_ends(std::vector<EpochQuery> queries);
  /// Makes a partition begin at `offset` (−1 = the high watermark), for good, and returns where it
  /// begins now. kOffsetOutOfRange above the high watermark, kPolicyViolation where a topic is only
  /// compacted or somebody holds records below `offset`, kRequestTimedOut at the deadline: it may still
  /// happen.
  [[nodiscard]] io::Task<std::expected<std::int64_t, KafkaError>> delete_records(
      PartitionRef target, std::int64_t offset, Duration timeout);
  /// Replica::hold, and its errors; kNotFound if there is no such partition, kUnavailable while it is
  /// offline. It ends with the node, and when the partition comes back after it was offline.
  [[nodiscard]] io::Task<Result<void>> hold(PartitionRef target, std::string name, std::int64_t offset);
  /// Lets a hold of that name go, if there is one.
  io::Task<void> release(PartitionRef target, std::string name);
  /// The producers that a partition knows; kUnknownTopicOrPartition.
  [[nodiscard]] io::Task<std::expected<std::vector<producer::ActiveProducer>, KafkaError>> producers(
      PartitionRef target);

  /// Pharaoh::next_ids, from any shard. kNotFound on a node whose role is without ids.
  [[nodiscard]] io::Task<Result<obelisk::ScarabRange>> next_ids(std::uint64_t count,
                                                                Instant deadline);
  /// Pharaoh::next_counter, likewise.
  [[nodiscard]] io::Task<Result<std::int64_t>> next_counter(std::string name, std::int64_t count,
                                                            bool strict, Instant deadline);

  [[nodiscard]] io::Task<CreateOutcome> create_topic(catalog::CreateTopic request,
                                                     bool validate_only);
  [[nodiscard]] io::Task<AdminOutcome> delete_topic(std::string name);
  [[nodiscard]] io::Task<AdminOutcome> delete_topic(TopicId id);
  [[nodiscard]] io::Task<AdminOutcome> create_partitions(catalog::CreatePartitions request,
                                                         bool validate_only);
  [[nodiscard]] io::Task<AdminOutcome> alter_topic(std::string name,
                                                   std::vector<catalog::AlterSetting> changes,
                                                   bool validate_only);
  [[nodiscard]] io::Task<AdminOutcome> replace_topic_settings(std::string name,
                                                              catalog::SettingChanges settings,
                                                              bool validate_only);
  [[nodiscard]] io::Task<AdminOutcome> alter_defaults(std::vector<catalog::AlterSetting> changes,
                                                      bool validate_only);
  /// `settings` become all the defaults that are set.
  [[nodiscard]] io::Task<AdminOutcome> replace_defaults(catalog::SettingChanges settings,
                                                        bool validate_only);
  /// Lets `to`, which holds a replica, lead the partition; none = whom its assignment prefers. Not for a
  /// lone node: kInvalidRequest.
  [[nodiscard]] io::Task<AdminOutcome> move_leader(PartitionRef target, std::optional<NodeId> to);
  /// Lets a partition's replicas come to be on these nodes, in order of preference, step by step, while it
  /// is written and read; none = stop and go back.
  [[nodiscard]] io::Task<AdminOutcome> reassign(PartitionRef target,
                                                std::optional<std::vector<NodeId>> replicas);
  /// Whether a node is to lead and hold nothing; its replicas are moved to others, as far as there are any.
  /// kBrokerIdNotRegistered, kInvalidRequest if it would leave no other.
  [[nodiscard]] io::Task<AdminOutcome> set_draining(NodeId node, bool draining);
  /// How far that is, or what it would mean; nullopt: there is no such node. Looks at every partition.
  [[nodiscard]] std::optional<DrainStatus> drain_status(NodeId node) const;
  /// Changes who belongs to the cluster. Not of a lone node: kInvalidRequest says how it becomes one of
  /// a cluster.
  [[nodiscard]] io::Task<AdminOutcome> change_member(cluster::MemberChange change, Duration timeout);
  /// A producer id that nobody has had.
  [[nodiscard]] io::Task<Result<std::int64_t>> new_producer_id();

  /// The coordinator of a group: makes __consumer_offsets if need be.
  [[nodiscard]] io::Task<AdminOutcome> ensure_offsets_topic();
  /// Runs `call(host)` on the shard that coordinates `group`; kNotCoordinator or
  /// kCoordinatorNotAvailable if there is none. Unless `confirmed`, for figures only: another one may
  /// have gone beyond what it says.
  template <typename F>
  auto with_group(const std::string& group, F call, bool confirmed = true)
      -> io::Task<std::expected<typename GroupCallResult<F>::type, KafkaError>> {
    using R = std::expected<typename GroupCallResult<F>::type, KafkaError>;
    const auto id = group_partition(group);
    if (!id) co_return R(std::unexpected(id.error()));
    const unsigned shard = ShardBroker::shard_of(*id, shards_.size());
    co_return co_await io::on(*shards_[shard], [=, this, id = *id, &call]() -> io::Task<R> {
      const std::shared_ptr<GroupHost> host = states_[shard]->groups.find(id);
      if (host == nullptr || !host->is_current()) {
        co_return R(std::unexpected(KafkaError::kNotCoordinator));
      }
      if (const KafkaError no = states_[shard]->partitions.may_coordinate(id); no != KafkaError::kNone) {
        co_return R(std::unexpected(no));
      }
      R answer(co_await call(*host));
      if (!confirmed) co_return answer;
      // By now another one may have taken over, and be asked by others.
      const KafkaError no = co_await states_[shard]->partitions.confirm(id, host->epoch());
      if (no != KafkaError::kNone) co_return R(std::unexpected(no));
      co_return answer;
    });
  }
  /// All groups of this node.
  [[nodiscard]] io::Task<group::ListGroupsResponse> list_groups(std::vector<std::string> states);

  [[nodiscard]] io::Task<std::vector<PartitionStatus>> status();
  /// One partition; nullopt if there is none of that name.
  [[nodiscard]] io::Task<std::optional<PartitionDetails>> partition(PartitionRef target);
  [[nodiscard]] io::Task<BrokerTotals> totals();
  /// What the logs of all shards have now.
  [[nodiscard]] io::Task<log::ShardLogUse> log_use();
  [[nodiscard]] io::Task<ScrubStatus> scrub_status();
  [[nodiscard]] const SpaceStatus& space() const { return local().space; }
  /// Why records of clients are refused; empty if they are not.
  [[nodiscard]] std::string space_complaint() const;
  /// Of the last start; valid once `start` has returned. Called on shard 0.
  [[nodiscard]] const RecoveryStatus& recovery() const { return recovery_; }

 private:
  /// Nodes that this one cannot reach, and since when.
  using Lost = std::map<NodeId, Instant>;
  /// What a shard has of the broker; touched by that shard only.
  struct ShardState {
    ShardState(const Options& options, unsigned index, std::size_t shards,
               GroupHosts::MakeRoom room)
        : partitions(options, index, shards),
          groups(options, std::move(room), [this] { return partitions.believed_now(); }) {}
    ShardBroker partitions;
    GroupHosts groups;
    producer::ProducerIdBlock producer_ids;
    io::Turn producer_ids_turn;
    bool draining = false;
    bool stopping = false;
    std::shared_ptr<const Lost> unreachable = std::make_shared<const Lost>();
    io::WaitList news;  ///< of them, or a catalogue
    std::shared_ptr<const Lags> lags = std::make_shared<const Lags>();  ///< of all that is led anywhere
    SpaceStatus space;
    std::uint64_t refused_for_space = 0;
    bool looking = false;  ///< the disk is being looked at for a write that was refused here
    io::WaitList stop_wanted;
    io::TaskGroup background;
    // Of a node that has joined others.
    std::unique_ptr<replica::PeerWire> wire;
    std::set<PartitionId> changed_roles;  ///< not followed yet
    io::WaitList roles_changed;
    std::map<PartitionId, Epoch> coordinated;  ///< in which epochs `groups` speak
    Lags said_lags;                            ///< to all nodes, last
    Instant said_lags_at;
    int say_lags = 0;  ///< how often still
  };
  using Groups = std::vector<std::vector<std::size_t>>;  ///< shard → indices of items

  [[nodiscard]] ShardState& local() const { return *states_[io::Shard::current().index()]; }
  [[nodiscard]] std::expected<PartitionId, KafkaError> resolve(const PartitionRef& target) const;
  [[nodiscard]] std::expected<PartitionId, KafkaError> group_partition(const std::string& group) const;
  /// Runs `work(shard index, item indices)` on every shard that has items; waits for all.
  template <typename Work>
  io::Task<void> scatter(Groups groups, Work work);
  /// Waits until offsets of an earlier topic of this name are gone for good; an error if they cannot.
  io::Task<AdminOutcome> rid_of_offsets(std::string topic);

  /// Whether `item` may be written at all, and where.
  [[nodiscard]] ProduceOutcome admit(const ProduceItem& item, Acks acks, PartitionId& id,
                                     catalog::TopicPtr& topic) const;
  io::Task<ProduceOutcome> produce_one(unsigned shard, PartitionId id, replica::NewBatch batch,
                                       Acks acks, Instant deadline);
  io::Task<FetchOutcome> fetch_one(unsigned shard, PartitionId id, const FetchItem& item,
                                   const FetchBounds& bounds, std::uint64_t max_bytes,
                                   bool min_one);
  io::Task<FetchOutcome> fetch_held(unsigned shard, PartitionId id, const FetchItem& item,
                                    const FetchBounds& bounds, std::uint64_t wanted,
                                    std::uint64_t room, bool min_one);
  /// Of a partition that is led here: the replica in the client's rack, if there is one that keeps
  /// up, has the offset, and can be reached.
  [[nodiscard]] std::optional<NodeId> nearer(const replica::Replica& replica,
                                             const std::string& rack, Offset offset) const;
  io::Task<void> fetch_pass(const std::vector<FetchItem>& items, const FetchBounds& bounds,
                            std::uint64_t memory_room, std::vector<FetchOutcome>& out);
  io::Task<void> fetch_within(const std::vector<FetchItem>& items, const FetchBounds& bounds,
                              std::vector<FetchOutcome>& out);
  io::Task<OffsetAnswer> offset_one(unsigned shard, PartitionId id, const OffsetQuery& query);
  /// Lets every shard begin with what it has opened, leading it as `active` says, if that is not null.
  io::Task<void> begin(CatalogPtr active);
  io::Task<void> distribute(CatalogPtr catalog);
  /// True if what a shard knew of producers lies where it would never be written anew.
  [[nodiscard]] bool has_stray_snapshots(const replica::SnapshotFiles& files) const;
  io::Task<Result<void>> remove_orphans(CatalogPtr catalog);
  /// Makes a plan come true; `validate_only`: says only what is to be said against it.
  io::Task<AdminOutcome> propose(cluster::MetadataLog::Plan plan, bool validate_only = false);
  io::Task<void> snapshot_loop(ShardState& state);
  /// What the shards' clocks of retention go on from.
  io::Task<log::RetentionClock> last_clock();
  /// Writes down the time that retention goes by, for the next start. On shard 0; elsewhere nothing.
  io::Task<void> keep_time(ShardState& state);
  io::Task<void> retention_loop(ShardState& state);
  io::Task<void> compaction_loop(ShardState& state);
  io::Task<void> scrub_loop(ShardState& state);
  io::Task<void> expiry_loop(ShardState& state);
  io::Task<void> reopen_loop(ShardState& state);
  io::Task<void> open_failed(ShardState& state);

  // membership.cc: of a node that has joined others.
  [[nodiscard]] io::Task<Result<void>> prepare_seats();
  [[nodiscard]] Duration heartbeat() const;
  [[nodiscard]] Seats::Ways ways_of(unsigned shard);
  /// Begins to follow the catalogue and the connections, and asks for epochs of what was led here.
  io::Task<void> take_part();
  io::Task<void> leave_others();
  io::Task<void> propose_own(ShardState& state);
  /// Takes replicas of what this shard leads a step further to where they are to be.
  io::Task<void> advance_moves(ShardState& state);
  /// Where the metadata log is led: moves replicas away from nodes that are draining. On shard 0.
  io::Task<void> look_after_nodes();
  io::Task<void> drain_nodes();
  /// There too: groups' offsets get more replicas once there are nodes for them. On shard 0.
  io::Task<void> spread_offsets();
  io::Task<void> follow_roles(ShardState& state);
  /// Tells all shards whether this node hears who leads the metadata log. On shard 0.
  io::Task<void> tell_touch(ShardState& state);
  /// Tells all shards whom this node reaches. On shard 0.
  void look_at_nodes();
  /// Tells all nodes who does not keep up with what this shard leads, when that changes.
  io::Task<void> tell_lags(ShardState& state, unsigned shard);
  /// On shard 0.
  void take_lags(NodeId from, unsigned shard, Lags lags);
  void publish_lags();
  io::Task<void> take_move(peer::Request request);
  /// Who could lead it, if this node does now.
  [[nodiscard]] std::optional<NodeId> successor(const catalog::Partition& partition) const;
  /// Its replica here has failed: another one is to lead, if this did.
  io::Task<void> hand_over(ShardState& state, PartitionId id);
  /// Before a stop, on shard 0.
  io::Task<void> hand_over_all();
  [[nodiscard]] io::Task<Result<void>> activate(Seats::Activation activation,
                                                std::optional<Seats::Loss> loss);

  // space.cc
  /// Looks at the disk, tells all shards what may be written, and lets the reserve go or come.
  /// `no_space`: a write has just been refused. On shard 0.
  io::Task<void> look_at_space(bool no_space);
  io::Task<void> follow_reserve(SpaceGuard::Reserve what);
  io::Task<void> space_loop(ShardState& state);
  /// After a write that must go on was refused for want of space: true if it is worth another try.
  /// Any shard.
  io::Task<bool> make_room();
  /// The same in the background, at most once at a time.
  void look_soon(ShardState& state);
  /// Runs `call`, and once more if it found no space and room could be made.
  template <typename F>
  auto with_room(F call) -> std::invoke_result_t<F> {
    auto done = co_await call();
    if (!done && io::is_no_space(done.error()) && co_await make_room()) done = co_await call();
    co_return done;
  }
  [[nodiscard]] bool may_compact(const ShardState& state, std::uint64_t bytes) const;

  io::Shards shards_;
  Options options_;
  NodeId node_{1};
  cluster::Cluster* cluster_ = nullptr;  ///< shard 0
  std::unique_ptr<replica::Promises> promises_;  ///< shard 0; null of a lone node
  std::unique_ptr<cluster::Pharaoh> pharaoh_;  ///< shard 0; null if the node's role is without it
  LagBoard lag_board_;                           ///< shard 0
  Lost unreachable_;                             ///< shard 0: as all were told last
  std::vector<std::unique_ptr<ShardState>> states_;
  bool started_ = false;
  RecoveryStatus recovery_;  ///< shard 0
  bool keeps_time_ = false;  ///< shard 0: its clock has begun
  io::Turn time_turn_;       ///< shard 0: of the file
  std::optional<Instant> time_kept_;  ///< shard 0: last

  // Of the disk; shard 0.
  SpaceGuard space_guard_{{}};
  io::Turn space_turn_;
  Duration space_again_ = std::chrono::seconds(1);
  Instant reserve_not_before_{};  ///< making it failed a while ago
  bool space_unknown_ = false;
};

template <typename Work>
io::Task<void> Broker::scatter(Groups groups, Work work) {
  io::TaskGroup running;
  for (unsigned s = 0; s < groups.size(); ++s) {
    if (groups[s].empty()) continue;
    running.spawn(io::on(*shards_[s], [&work, s, &items = groups[s]] { return work(s, items); }));
  }
  co_await running.join();
}

}  // namespace pyralog::broker
