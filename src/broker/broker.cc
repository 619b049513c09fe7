#include "broker/broker.h"

#include <algorithm>
#include <numeric>

#include "base/plant.h"
#include "cluster/pharaoh.h"
#include "log/believed_time.h"
#include "observe/log.h"

namespace pyralog::broker {

namespace {
/// After a node was lost its partitions get other leaders within this, if they get any.
constexpr Duration kSettling = std::chrono::seconds(1);
constexpr Duration kFirstScrubAfter = std::chrono::minutes(1);
constexpr Duration kLeastScrubPause = std::chrono::seconds(1);
constexpr Duration kLeastTimeStep = std::chrono::milliseconds(500);
}  // namespace

Broker::Broker(io::Shards shards, Options options)
    : shards_(std::move(shards)), options_(std::move(options)) {
  options_.producers.room = std::make_shared<producer::ProducerRoom>(options_.max_producer_ids);
  options_.groups = options_.groups.within(options_.group_bytes / shards_.size());
  for (unsigned s = 0; s < shards_.size(); ++s) {
    states_.push_back(
        std::make_unique<ShardState>(options_, s, shards_.size(), [this] { return make_room(); }));
  }
}

Broker::~Broker() = default;

CatalogPtr Broker::catalog() const {
  return states_[io::Shard::current().index()]->partitions.catalog();
}

PartitionRoles Broker::roles(const catalog::Topic& topic, const catalog::Partition& partition) const {
  PartitionRoles out;
  out.replicas = partition.replicas;
  const Lost& unreachable = *local().unreachable;
  for (const NodeId each : partition.replicas) {
    if (unreachable.contains(each)) out.offline.push_back(each);
  }
  if (!partition.current) return out;
  const catalog::EpochRecord& current = *partition.current;
  out.epoch = current.epoch;
  // While another epoch is being made its candidate has sealed this one, or will.
  if (partition.highest_proposed <= current.epoch && !current.end) out.leader = current.leader;
  const Lags& lags = *local().lags;
  for (const catalog::Replica& each : current.replicas) {
    const Lag lag{{topic.id, partition.index}, current.epoch, each.node};
    if (!unreachable.contains(each.node) && !is_lagging(lags, lag)) out.in_sync.push_back(each.node);
  }
  return out;
}

std::optional<Instant> Broker::lost_since(NodeId node) const {
  const Lost& unreachable = *local().unreachable;
  const auto found = unreachable.find(node);
  return found == unreachable.end() ? std::nullopt : std::optional(found->second);
}

bool Broker::settling() const {
  const Instant now = io::Shard::current().now();
  return std::ranges::any_of(*local().unreachable,
                             [now](const auto& lost) { return now < lost.second + kSettling; });
}

io::Task<bool> Broker::wait_news(Instant deadline) const {
  co_return co_await local().news.wait(deadline);
}

std::expected<NodeId, KafkaError> Broker::coordinator(const std::string& group) const {
  const auto id = group_partition(group);
  if (!id) return std::unexpected(id.error());
  const CatalogPtr state = catalog();
  const auto leader = roles(*state->topic(id->topic), *state->partition(*id)).leader;
  if (!leader) return std::unexpected(KafkaError::kCoordinatorNotAvailable);
  return *leader;
}

std::expected<PartitionId, KafkaError> Broker::resolve(const PartitionRef& target) const {
  const catalog::TopicPtr topic = catalog()->topic(target.topic);
  if (topic == nullptr || target.partition < 0 ||
      static_cast<std::size_t>(target.partition) >= topic->partitions.size()) {
    return std::unexpected(KafkaError::kUnknownTopicOrPartition);
  }
  return PartitionId{topic->id, PartitionIndex(target.partition)};
}

std::optional<unsigned> Broker::shard_of(const PartitionRef& target) const {
  const auto id = resolve(target);
  if (!id) return std::nullopt;
  return ShardBroker::shard_of(*id, shards_.size());
}

io::Task<Result<void>> Broker::remove_orphans(CatalogPtr catalog) {
  io::Disk& disk = io::Shard::current().disk();
  PYRALOG_CO_ASSIGN(const auto entries, co_await disk.list(options_.data_dir));
  for (const auto& entry : entries) {
    if (!entry.is_directory) continue;
    const auto id = parse_partition_id(entry.name);
    if (!id || catalog->partition(*id) != nullptr || !catalog->was_deleted(id->topic)) continue;
    PYRALOG_CO_TRY(co_await disk.remove_tree(options_.data_dir + "/" + entry.name));
  }
  co_return Result<void>{};
}

bool Broker::has_stray_snapshots(const replica::SnapshotFiles& files) const {
  if (PYRALOG_PLANT("broker.keep_stray_snapshots")) return false;
  return std::ranges::any_of(files, [this](const auto& file) {
    const auto elsewhere = [&](const auto& each) {
      return ShardBroker::shard_of(each.first, shards_.size()) != file.first;
    };
    return file.first >= shards_.size() ||
           std::ranges::any_of(file.second.partitions, elsewhere);
  });
}

io::Task<log::RetentionClock> Broker::last_clock() {
  io::Disk& disk = io::Shard::current().disk();
  const auto believed = co_await log::load_believed_time(disk, options_.data_dir);
  if (believed) co_return log::RetentionClock(*believed);
  // At its first start a node has nothing to forget.
  const bool none = believed.error().code == Code::kNotFound;
  if (none && cluster_->cookie().boot_counter <= 1) co_return log::RetentionClock();
  if (!none) {
    observe::log_warn("broker.believed_time_unknown", {{"reason", believed.error().message}});
  }
  co_return log::RetentionClock(log::RetentionClock::kUnknown);
}

io::Task<void> Broker::keep_time(ShardState& state) {
  if (&state != states_[0].get() || !keeps_time_ || PYRALOG_PLANT("broker.keep_no_time")) co_return;
  const auto guard = co_await time_turn_.lock();
  io::Shard& shard = io::Shard::current();
  if (!state.stopping && time_kept_ && shard.now() - *time_kept_ < kLeastTimeStep) co_return;
  time_kept_ = shard.now();
  const auto kept = co_await log::store_believed_time(shard.disk(), options_.data_dir,
                                                      state.partitions.believed_now());
  if (!kept) observe::log_warn("broker.time_not_kept", {{"reason", kept.error().message}});
}

io::Task<Result<void>> Broker::start(cluster::Cluster& cluster) {
  cluster_ = &cluster;
  node_ = cluster.node();
  io::Disk& disk = io::Shard::current().disk();
  PYRALOG_CO_TRY(co_await remove_orphans(cluster.catalog()));
  PYRALOG_CO_ASSIGN(auto evidence, co_await log::Evidence::load(disk, options_.data_dir, log::EvidenceAccess::kMend,
                                                             options_.log.give_up));
  std::vector<std::string> skipped;
  PYRALOG_CO_ASSIGN(const auto files,
                    co_await replica::load_producer_snapshots(disk, options_.data_dir, skipped));
  for (const auto& each : skipped) {
    observe::log_warn("broker.producer_snapshot_skipped", {{"file", each}});
  }
  const auto snapshots = std::make_shared<const replica::ProducerSnapshots>(replica::newest(files));
  options_.producer_clock =
      producer::ProducerClock(replica::time_run(files), io::Shard::current().now());
  options_.retention_clock = co_await last_clock();
  const bool stray = !skipped.empty() || has_stray_snapshots(files);
  if (cluster.joined() != nullptr) PYRALOG_CO_TRY(co_await prepare_seats());
  const CatalogPtr recovered = cluster.catalog();
  const Instant began = io::Shard::current().now();
  std::vector<Result<void>> opened(shards_.size());
  std::vector<log::ShardLogStats> read(shards_.size());
  std::vector<std::vector<cluster::LedPartition>> led(shards_.size());
  std::vector<std::size_t> hosted(shards_.size());
  std::vector<char> doubts_kept(shards_.size(), true);
  Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    ShardState& state = *states_[s];
    opened[s] = co_await state.partitions.open(recovered, evidence, snapshots,
                                               cluster.new_os_boot());
    if (opened[s]) opened[s] = co_await state.partitions.drop_snapshots_beyond_the_logs(stray);
    if (state.partitions.seats() == nullptr) led[s] = state.partitions.led();
    hosted[s] = state.partitions.hosted().size();
    if (opened[s]) doubts_kept[s] = co_await state.partitions.keep_doubts();
    if (state.partitions.logs() != nullptr) read[s] = state.partitions.logs()->stats();
  });
  std::vector<cluster::LedPartition> all;
  for (unsigned s = 0; s < shards_.size(); ++s) {
    started_ = true;
    PYRALOG_CO_TRY(opened[s]);
    std::ranges::move(led[s], std::back_inserter(all));
    recovery_.logs += read[s].recovered_logs;
    recovery_.scanned_bytes += read[s].scanned_bytes;
    recovery_.replayed_bytes += read[s].verified_bytes;
    recovery_.torn_bytes += read[s].torn_bytes;
  }
  if (stray) {
    PYRALOG_CO_TRY(
        co_await replica::remove_producer_snapshots(disk, options_.data_dir, shards_.size()));
  }
  recovery_.millis = std::chrono::duration_cast<std::chrono::milliseconds>(
                         io::Shard::current().now() - began)
                         .count();
  observe::log_info("broker.recovered", {{"partitions", std::accumulate(hosted.begin(), hosted.end(), 0u)},
                                         {"scanned_logs", recovery_.logs},
                                         {"scanned_bytes", recovery_.scanned_bytes},
                                         {"replayed_bytes", recovery_.replayed_bytes},
                                         {"torn_bytes", recovery_.torn_bytes},
                                         {"ms", recovery_.millis}});
  // Of several, each replica says of itself what it may have lost, and epochs are recovered one by one.
  CatalogPtr active;
  if (cluster.joined() == nullptr) {
    PYRALOG_CO_ASSIGN(active, co_await cluster.activate(std::move(all), io::Shard::current().wall()));
  }
  if (std::ranges::all_of(doubts_kept, std::identity{})) {
    PYRALOG_CO_TRY(co_await cluster.losses_recorded());
    PYRALOG_CO_TRY(co_await log::doubt_recorded(disk, options_.data_dir));
  }
  co_await look_at_space(false);
  co_await begin(active);
  keeps_time_ = true;
  states_[0]->background.spawn(keep_time(*states_[0]));  // a start waits for no more of the disk
  states_[0]->background.spawn(space_loop(*states_[0]));
  const catalog::Node* self = cluster.catalog()->node(node_);
  if (self == nullptr || self->role != catalog::NodeRole::kPyramid)
    pharaoh_ = std::make_unique<cluster::Pharaoh>(cluster.metadata(), node_);
  co_await cluster.metadata().on_change([this](CatalogPtr changed) {
    if (pharaoh_ != nullptr) pharaoh_->follow(*changed);
    return distribute(std::move(changed));
  });
  if (cluster.joined() != nullptr) co_await take_part();
  // What comes back has a new epoch, and every shard is to hear of that.
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    states_[s]->background.spawn(reopen_loop(*states_[s]));
    co_return;
  });
  co_return Result<void>{};
}

io::Task<void> Broker::begin(CatalogPtr active) {
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    ShardState& state = *states_[s];
    state.partitions.on_partition(
        [&state](const PartitionId& id, const catalog::Topic& topic, bool leads) {
          if (topic.name != "__consumer_offsets") return;
          if (!leads) return;
          state.groups.add(id, state.partitions.find(id)->replica, state.partitions.catalog());
        });
    if (active != nullptr) {
      state.partitions.lead(active);
    } else {
      state.partitions.begun();
    }
    state.background.spawn(snapshot_loop(state));
    state.background.spawn(retention_loop(state));
    state.background.spawn(compaction_loop(state));
    if (options_.scrub_interval > Duration::zero()) state.background.spawn(scrub_loop(state));
    state.background.spawn(expiry_loop(state));
    co_return;
  });
}

io::Task<void> Broker::distribute(CatalogPtr changed) {
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    ShardState& state = *states_[s];
    // Offsets of topics that are gone go too, and coordinators before their partitions.
    const CatalogPtr before = state.partitions.catalog();
    std::vector<std::string> deleted;
    for (const auto& topic : before->topics()) {
      if (changed->topic(topic->id) != nullptr) continue;
      deleted.push_back(topic->name);
      for (const auto& partition : topic->partitions) {
        co_await state.groups.remove({topic->id, partition->index});
      }
    }
    co_await state.partitions.apply(changed);
    state.news.wake_all();
    if (deleted.empty()) co_return;
    for (const auto& [id, host] : state.groups.all()) host->forget(deleted);
    // Among others that may wait for a quorum, which comes from the next change of the catalogue.
    if (state.partitions.seats() != nullptr) co_return;
    // Before anybody can make them again: a crash would show the old offsets under the new topic.
    if (PYRALOG_PLANT("broker.create_before_offsets")) co_return;
    co_await state.groups.settled(io::Shard::current().now() + options_.commit_timeout);
  });
}

io::Task<AdminOutcome> Broker::rid_of_offsets(std::string topic) {
  std::vector<std::optional<std::string>> obstacles(shards_.size());
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    const Instant deadline = io::Shard::current().now() + options_.commit_timeout;
    obstacles[s] = co_await states_[s]->groups.obstacle_to(topic, deadline);
  });
  for (const auto& obstacle : obstacles) {
    if (!obstacle) continue;
    co_return AdminOutcome{KafkaError::kKafkaStorageError,
                           "topic " + topic + ": what was committed for an earlier topic of this " +
                               "name, if anything, cannot be removed, since " + *obstacle};
  }
  co_return AdminOutcome{};
}

io::Task<void> Broker::snapshot_loop(ShardState& state) {
  while (!state.stopping) {
    const Instant next = io::Shard::current().now() + options_.producer_snapshot_interval;
    if (co_await state.stop_wanted.wait(next)) break;
    auto written = co_await state.partitions.write_snapshots();
    if (!written) {
      observe::log_warn("broker.producer_snapshot_failed", {{"reason", written.error().message}});
    }
  }
}

io::Task<void> Broker::retention_loop(ShardState& state) {
  while (!state.stopping) {
    const Instant next = io::Shard::current().now() + options_.retention_check_interval;
    if (co_await state.stop_wanted.wait(next)) break;
    co_await state.partitions.retain();
    co_await keep_time(state);
  }
}

io::Task<void> Broker::compaction_loop(ShardState& state) {
  while (!state.stopping) {
    const Instant next = io::Shard::current().now() + options_.cleaner_backoff;
    if (co_await state.stop_wanted.wait(next)) break;
    co_await state.partitions.compact(
        [&state] { return state.stopping; },
        [this, &state](std::uint64_t bytes) { return may_compact(state, bytes); });
  }
}

io::Task<void> Broker::scrub_loop(ShardState& state) {
  const Duration interval = options_.scrub_interval;
  // A node that restarts often must get on, too, yet a start has enough to read.
  Duration pause = std::min(interval / 2, kFirstScrubAfter);
  while (!state.stopping) {
    const Instant began = io::Shard::current().now();
    if (co_await state.stop_wanted.wait(began + pause)) break;
    const Instant round = io::Shard::current().now();
    co_await state.partitions.scrub([&state] { return state.stopping; });
    const Duration took = io::Shard::current().now() - round;
    pause = std::max(interval - took, std::min(interval, kLeastScrubPause));
  }
}

io::Task<void> Broker::expiry_loop(ShardState& state) {
  while (!state.stopping) {
    const Instant next = io::Shard::current().now() + options_.offsets_check_interval;
    if (co_await state.stop_wanted.wait(next)) break;
    if (!state.draining) co_await state.groups.expire();
    co_await keep_time(state);
  }
}

io::Task<void> Broker::reopen_loop(ShardState& state) {
  while (!state.stopping) {
    const Instant next = io::Shard::current().now() + options_.reopen.first;
    if (co_await state.stop_wanted.wait(next)) break;
    if (state.draining) continue;
    co_await open_failed(state);
    if (state.partitions.seats() == nullptr) continue;
    co_await advance_moves(state);
    co_await propose_own(state);
    if (&state == states_[0].get()) co_await look_after_nodes();
  }
}

io::Task<void> Broker::open_failed(ShardState& state) {
  auto back = co_await state.partitions.open_failed();
  if (back.empty()) co_return;
  const std::vector<PartitionId> ids = ids_of(back);
  const WallMs now = io::Shard::current().wall();
  const Result<CatalogPtr> activated = co_await io::on(
      *shards_[0], [this, led = std::move(back), now]() mutable -> io::Task<Result<CatalogPtr>> {
        co_return co_await cluster_->activate(std::move(led), now);
      });
  state.partitions.lead_again(ids, activated);
}

io::Task<void> Broker::drain() {
  if (promises_ != nullptr && started_ && !PYRALOG_PLANT("broker.stop_without_handing_over")) {
    co_await hand_over_all();
  }
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    states_[s]->draining = true;
    co_return;
  });
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    ShardState& state = *states_[s];
    for (const auto& [id, hosted] : state.partitions.hosted()) {
      if (hosted.replica != nullptr) hosted.replica->wake_watchers();
    }
    co_await state.groups.stop();
  });
}

io::Task<Result<void>> Broker::stop() {
  if (!started_) co_return Result<void>{};
  started_ = false;
  if (cluster_ != nullptr) co_await cluster_->metadata().on_change(nullptr);
  if (pharaoh_ != nullptr) co_await pharaoh_->stop();
  if (promises_ != nullptr) co_await leave_others();
  std::vector<Result<void>> closed(shards_.size());
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    ShardState& state = *states_[s];
    state.stopping = true;
    state.stop_wanted.wake_all();
    state.roles_changed.wake_all();
    co_await state.background.join();  // may still bring a coordinator
    co_await state.groups.stop();
    co_await keep_time(state);
    closed[s] = co_await state.partitions.close();
    if (state.partitions.seats() != nullptr) co_await state.partitions.seats()->stop();
  });
  if (promises_ != nullptr) co_await promises_->stop();
  for (auto& each : closed) PYRALOG_CO_TRY(each);
  co_return Result<void>{};
}

}  // namespace pyralog::broker
