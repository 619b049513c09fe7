#include "broker/shard_broker.h"

#include <algorithm>

#include "base/hash.h"
#include "base/plant.h"
#include "observe/log.h"

namespace pyralog::broker {

namespace {
/// Producers that a round of snapshots looks at before it lets others run: about a millisecond.
constexpr std::size_t kProducersInOneGo = 10'000;
/// How long the node has run is written down so many times before a silent producer expires.
constexpr std::int64_t kClockWritings = 24;
/// For how long a coordinator's answer waits to be confirmed.
constexpr Duration kConfirmation = std::chrono::seconds(1);

bool may_pass(const Error& error) {
  return error.code == Code::kIo || error.code == Code::kUnavailable ||
         error.code == Code::kExhausted;
}
}  // namespace

std::vector<PartitionId> ids_of(const std::vector<cluster::LedPartition>& led) {
  std::vector<PartitionId> ids;
  for (const auto& each : led) ids.push_back(each.id);
  return ids;
}

log::LogConfig log_config(const catalog::TopicConfig& config) {
  log::LogConfig out;
  out.durability = config.durability;
  out.segment_bytes = static_cast<std::uint64_t>(config.segment_bytes);
  out.segment_ms = config.segment_ms;
  out.index_interval_bytes = static_cast<std::uint32_t>(config.index_interval_bytes);
  if (config.cleanup_compact) {
    out.compaction = log::Compaction{config.min_cleanable_dirty_ratio, config.min_compaction_lag_ms,
                                     config.max_compaction_lag_ms, config.delete_retention_ms};
  }
  if (config.cleanup_delete) out.retention = {config.retention_ms, config.retention_bytes};
  if (config.retention_bytes > 0) {
    out.memory_bytes = static_cast<std::uint64_t>(config.retention_bytes);
  }
  return out;
}

unsigned ShardBroker::shard_of(const PartitionId& id, std::size_t shards) {
  const std::uint64_t h = xxh3_64(id.topic.uuid.bytes);
  return static_cast<unsigned>((h + static_cast<std::uint64_t>(id.partition.value)) % shards);
}

replica::Replica::Options ShardBroker::replica_options(const catalog::Topic& topic,
                                                       PartitionIndex index) const {
  replica::Replica::Options out;
  out.name = topic.name + "-" + std::to_string(index.value);
  out.log = log_config(topic.config);
  out.log.name = out.name;
  out.log_append_time = topic.config.log_append_time;
  out.producers = options_.producers;
  out.producer_clock = options_.producer_clock;
  return out;
}

bool ShardBroker::there_at_start(const PartitionId& id) const {
  const auto failed = again_.find(id);
  return !leads_ || (failed != again_.end() && failed->second.at_start);
}

/// Why records that were acknowledged may be missing of a log that this start has found; empty if
/// not.
std::string ShardBroker::loss(const PartitionId& id, Durability durability, bool in_doubt) const {
  if (durability == Durability::kMemory) return "records were kept in memory only";
  if (in_doubt) {
    return "the journal of how far it was on disk was damaged: whether all of that is here could "
           "not be "
           "checked";
  }
  if (durability == Durability::kOs && new_os_boot_ && evidence_->clean(id) == nullptr) {
    return "the operating system stopped before it had written what was acknowledged";
  }
  return {};
}

void ShardBroker::note_losses(const PartitionId& id, const Hosted& hosted, Durability durability,
                              bool in_doubt) {
  // What is only being made has nothing to lose.
  if (!there_at_start(id) && !PYRALOG_PLANT("broker.new_partition_has_lost")) return;
  const auto& current = catalog_->partition(id)->current;
  const Offset end = hosted.replica->log_end();
  if (std::string why = loss(id, durability, in_doubt); !why.empty()) {
    const bool memory = durability == Durability::kMemory;
    // All of one in memory was written since the last start.
    if (!memory || current)
      lost_[id] = {memory ? std::min(current->start, end) : end, std::move(why)};
  }
  const auto lost = lost_.find(id);
  if (lost == lost_.end()) return;
  observe::log_warn("broker.records_may_be_missing", {{"partition", hosted.name},
                                                      {"from", lost->second.from.value},
                                                      {"reason", lost->second.reason}});
}

void ShardBroker::tell_offline(const PartitionId& id, const Hosted& hosted) const {
  const Hosted* before = find(id);
  if (before != nullptr && before->failed && before->failed->message == hosted.failed->message)
    return;
  observe::log_error("broker.partition_offline",
                     {{"partition", hosted.name}, {"reason", hosted.failed->message}});
}

void ShardBroker::try_later(const PartitionId& id) {
  io::Shard& shard = io::Shard::current();
  const auto [at, first] =
      again_.try_emplace(id, Retry{io::Backoff(options_.reopen), Instant(), !leads_});
  if (PYRALOG_PLANT("broker.reopen_at_every_look")) return;
  at->second.due = shard.now() + at->second.pause.next_delay(shard.rng());
}

io::Task<void> ShardBroker::open_partition(catalog::TopicPtr topic, PartitionIndex index) {
  const PartitionId id{topic->id, index};
  Hosted hosted;
  auto options = replica_options(*topic, index);
  hosted.name = options.name;
  const Durability durability = options.log.durability;
  const catalog::Partition& known = *catalog_->partition(id);
  Offset initial;
  if (seats_ == nullptr) {
    // Of several, each log has its own way to where they are all alike.
    if (known.current) initial = known.current->start;
    options.epochs = known.epochs;
  }
  std::optional<Bytes> snapshot;
  if (const auto at = snapshots_.find(id); at != snapshots_.end()) snapshot = at->second.state;
  const bool in_doubt = logs_->in_doubt(id);
  auto opened =
      co_await replica::Replica::open(*logs_, id, std::move(options), initial, std::move(snapshot));
  if (opened && seats_ != nullptr) {
    hosted.replica = std::move(*opened);
    // Before it takes anything.
    auto told = co_await cutting(id, hosted.replica->log_end());
    cut_ended(id);
    if (!told) {
      opened = fail(std::move(told.error()));
      hosted.replica.reset();
    } else if (auto taken = co_await take_seat(id, hosted, durability, in_doubt); !taken) {
      opened = fail(std::move(taken.error()));
      hosted.replica.reset();
    }
  } else if (opened) {
    hosted.replica = std::move(*opened);
    note_losses(id, hosted, durability, in_doubt);
  }
  if (opened) {
  } else if (!leads_ && !log::go_on(options_.log.give_up)) {
    co_return;  // nothing is wrong with it
  } else {
    hosted.failed = std::move(opened.error());
    tell_offline(id, hosted);
    if (may_pass(*hosted.failed)) {
      try_later(id);
    } else {
      again_.erase(id);
    }
  }
  hosted_[id] = std::move(hosted);
}

io::Task<Result<void>> ShardBroker::take_seat(PartitionId id, const Hosted& hosted,
                                              Durability durability, bool in_doubt) {
  std::optional<std::string> doubt;
  if (there_at_start(id)) {
    if (std::string why = loss(id, durability, in_doubt); !why.empty()) doubt = std::move(why);
  }
  // Of what the last look has brought this process has led nothing yet, nor another one.
  const bool fresh = leads_ && !again_.contains(id);
  co_return co_await seats_->join(hosted.replica, std::move(doubt), fresh, catalog_);
}

io::Task<bool> ShardBroker::keep_doubts() {
  bool kept = true;
  if (PYRALOG_PLANT("broker.forget_doubts_of_the_unopened")) co_return kept;
  for (const auto& [id, hosted] : hosted_) {
    if (hosted.replica != nullptr) continue;
    const Durability durability = catalog_->topic(id.topic)->config.durability;
    if (durability == Durability::kMemory || loss(id, durability, logs_->in_doubt(id)).empty())
      continue;
    kept = seats_ != nullptr && (co_await seats_->doubt(id)).has_value() && kept;
  }
  co_return kept;
}

io::Task<Result<void>> ShardBroker::cutting(PartitionId id, Offset to) {
  cutting_.insert(id);
  const auto at = snapshots_.find(id);
  if (at == snapshots_.end() || at->second.covers <= to) co_return Result<void>{};
  // The log may be longer than that again by the next start, with other records.
  snapshots_.erase(at);
  if (PYRALOG_PLANT("broker.keep_snapshot_of_what_is_cut")) co_return Result<void>{};
  co_return co_await store_snapshots();
}

io::Task<void> ShardBroker::open_all(std::vector<PartitionId> ids) {
  // A few at a time: enough to keep the disk busy, few enough to bound what is in memory.
  std::size_t next = 0;
  io::TaskGroup workers;
  const auto work = [&]() -> io::Task<void> {
    while (next < ids.size() && (leads_ || log::go_on(options_.log.give_up))) {
      const PartitionId id = ids[next++];
      co_await open_partition(catalog_->topic(id.topic), id.partition);
    }
  };
  for (std::size_t i = 0; i < std::min(options_.open_at_once, ids.size()); ++i) {
    workers.spawn(work());
  }
  co_await workers.join();
}

io::Task<Result<void>> ShardBroker::open(CatalogPtr catalog,
                                         std::shared_ptr<const log::Evidence> evidence,
                                         std::shared_ptr<const replica::ProducerSnapshots> known,
                                         bool new_os_boot) {
  log::Options log_options = options_.log;
  log_options.data_dir = options_.data_dir;
  log_options.shard = index_;
  log_options.shards = static_cast<unsigned>(shards_);
  io::Disk& disk = io::Shard::current().disk();
  evidence_ = evidence;
  PYRALOG_CO_ASSIGN(logs_, co_await log::ShardLogs::open(disk, log_options, std::move(evidence)));
  scrubber_ = std::make_unique<log::Scrubber>(*logs_);
  clock_written_ = options_.producer_clock.now(io::Shard::current().now());
  // From now on, so that a jump before the first check is seen as one.
  retention_clock_ = options_.retention_clock;
  (void)believed_now();
  catalog_ = std::move(catalog);
  // The files of these are gone: whoever deleted them may have died before the rest.
  logs_->drop_evidence([this](const PartitionId& id) {
    return catalog_->partition(id) == nullptr && catalog_->was_deleted(id.topic);
  });
  std::vector<PartitionId> ids;
  const auto known_here =
      std::ranges::count_if(*known, [this](const auto& each) { return mine(each.first); });
  for (const auto& topic : catalog_->topics()) {
    for (const auto& partition : topic->partitions) {
      const PartitionId id{topic->id, partition->index};
      if (!mine(id) || !hosts(*partition)) continue;
      ids.push_back(id);
      const auto at = known->find(id);
      if (at != known->end()) snapshots_.insert(*at);
    }
  }
  knows_what_left_ = snapshots_.size() < static_cast<std::size_t>(known_here);
  new_os_boot_ = new_os_boot;
  co_await open_all(std::move(ids));
  co_await find_set_aside();
  co_return log::go_on(options_.log.give_up);
}

io::Task<Result<void>> ShardBroker::drop_snapshots_beyond_the_logs(bool anew) {
  // A log that was cut by hand, or one in memory, grows again with other records: what its snapshot
  // knows must not fit once the log is as long as it was.
  const auto dropped = std::erase_if(snapshots_, [this](const auto& each) {
    const Hosted* hosted = find(each.first);
    return hosted != nullptr && hosted->replica != nullptr &&
           each.second.covers > hosted->replica->log_end();
  });
  anew = anew || knows_what_left_;
  if ((dropped == 0 && !anew) || PYRALOG_PLANT("broker.keep_long_snapshot")) {
    co_return Result<void>{};
  }
  co_return co_await store_snapshots();
}

std::vector<cluster::LedPartition> ShardBroker::led() const {
  std::vector<cluster::LedPartition> out;
  for (const auto& [id, hosted] : hosted_) {
    if (hosted.replica != nullptr) out.push_back(led_partition(id));
  }
  return out;
}

cluster::LedPartition ShardBroker::led_partition(const PartitionId& id) const {
  const replica::Replica& replica = *hosted_.at(id).replica;
  cluster::LedPartition out{id, replica.log_end(), replica.log_start(), {}};
  if (const auto lost = lost_.find(id); lost != lost_.end()) {
    out.lost_reason = lost->second.reason;
    out.lost_from = lost->second.from;
  }
  return out;
}

void ShardBroker::lead_one(const PartitionId& id, const catalog::Topic& topic,
                           const catalog::Catalog& state) {
  const Hosted* hosted = find(id);
  const catalog::Partition* partition = state.partition(id);
  if (hosted == nullptr || hosted->replica == nullptr) return;
  if (partition == nullptr || !partition->current) return;
  if (partition->current->epoch <= hosted->replica->epoch()) return;
  hosted->replica->lead(partition->current->epoch);
  if (on_partition_) on_partition_(id, topic, true);
}

void ShardBroker::lead(CatalogPtr catalog) {
  leads_ = true;
  catalog_ = std::move(catalog);
  for (const auto& topic : catalog_->topics()) {
    for (const auto& partition : topic->partitions) {
      const PartitionId id{topic->id, partition->index};
      if (mine(id)) lead_one(id, *topic, *catalog_);
    }
  }
}

io::Task<void> ShardBroker::remove(PartitionId id) {
  const auto at = hosted_.find(id);
  if (at == hosted_.end()) co_return;
  Hosted gone = std::move(at->second);
  hosted_.erase(at);
  again_.erase(id);
  const bool was_known = snapshots_.erase(id) > 0;
  if (seats_ != nullptr) seats_->leave(id);
  if (gone.replica != nullptr) {
    co_await gone.replica->stop(KafkaError::kUnknownTopicOrPartition);
  }
  Result<void> deleted;
  // It may come back and grow again with other records than those that only this node had.
  const bool may_come_back = was_known && catalog_->partition(id) != nullptr;
  if (may_come_back && !PYRALOG_PLANT("broker.keep_snapshot_of_what_left")) {
    deleted = co_await store_snapshots();
  }
  if (deleted) deleted = co_await logs_->delete_log(id);
  if (!deleted) {
    observe::log_error("broker.partition_not_deleted",
                       {{"partition", gone.name}, {"reason", deleted.error().message}});
  } else if (seats_ != nullptr) {
    seats_->forget(id);
  }
}

io::Task<void> ShardBroker::apply(CatalogPtr catalog) {
  const auto guard = co_await changing_.lock();
  if (catalog->position() < catalog_->position()) co_return;
  const CatalogPtr before = std::exchange(catalog_, std::move(catalog));
  std::vector<PartitionId> fresh;
  std::vector<std::pair<PartitionId, catalog::TopicPtr>> gone;
  for (const auto& topic : catalog_->topics()) {
    const catalog::TopicPtr old = before->topic(topic->id);
    if (old == topic) continue;
    for (const auto& partition : topic->partitions) {
      const PartitionId id{topic->id, partition->index};
      if (!mine(id)) continue;
      const Hosted* hosted = find(id);
      if (!hosts(*partition)) {
        if (hosted != nullptr) gone.emplace_back(id, topic);
      } else if (hosted == nullptr) {
        fresh.push_back(id);
      } else if (hosted->replica != nullptr && old != nullptr && old->config != topic->config) {
        hosted->replica->configure(replica_options(*topic, partition->index));
      }
      if (hosted != nullptr && seats_ != nullptr) seats_->tell(id, *catalog_);
    }
  }
  for (const auto& topic : before->topics()) {
    if (catalog_->topic(topic->id) != nullptr) continue;
    for (const auto& partition : topic->partitions) {
      const PartitionId id{topic->id, partition->index};
      if (mine(id)) gone.emplace_back(id, topic);
    }
  }
  for (const auto& [id, topic] : gone) {
    if (on_partition_) on_partition_(id, *topic, false);
    co_await remove(id);
  }
  const std::vector<PartitionId> opened = fresh;
  co_await open_all(std::move(fresh));
  lead_fresh(opened);
}

void ShardBroker::lead_fresh(const std::vector<PartitionId>& fresh) {
  if (seats_ != nullptr) return;  // what was told of them does
  for (const PartitionId& id : fresh) {
    if (!hosted_.at(id).failed) lead_one(id, *catalog_->topic(id.topic), *catalog_);
  }
}

io::Task<std::vector<cluster::LedPartition>> ShardBroker::open_failed() {
  const auto guard = co_await changing_.lock();
  give_up_damaged();
  for (const PartitionId& id : std::exchange(failed_, {})) {
    const auto at = hosted_.find(id);
    if (at == hosted_.end() || at->second.replica == nullptr || seats_ == nullptr) continue;
    const std::shared_ptr<replica::Replica> gone = at->second.replica;
    seats_->leave(id);
    co_await gone->stop(KafkaError::kKafkaStorageError);
    Hosted& hosted = hosted_.at(id);
    hosted.failed = gone->offline().value_or(Error{Code::kIo, "it has failed", 0});
    hosted.replica.reset();
    if (may_pass(*hosted.failed)) try_later(id);
  }
  co_await mend_damaged();
  const Instant now = io::Shard::current().now();
  std::vector<PartitionId> due;
  std::vector<PartitionId> closed;
  for (const auto& [id, retry] : again_) {
    if (retry.due > now) continue;
    if (retry.at_start && PYRALOG_PLANT("broker.leave_failed_at_start")) continue;
    due.push_back(id);
    if (hosted_.at(id).replica == nullptr) closed.push_back(id);
  }
  std::vector<cluster::LedPartition> back;
  if (due.empty()) co_return back;
  co_await open_all(std::move(closed));
  for (const PartitionId& id : due) {
    if (hosted_.at(id).replica == nullptr) continue;
    if (seats_ == nullptr && again_.at(id).at_start && !PYRALOG_PLANT("broker.lead_in_old_epoch")) {
      back.push_back(led_partition(id));
      continue;
    }
    again_.erase(id);
    lead_fresh({id});
    observe::log_info("broker.partition_online", {{"partition", hosted_.at(id).name}});
  }
  if (back.empty()) co_return back;
  // As at a start, before anything is appended.
  if (auto written = co_await drop_snapshots_beyond_the_logs(false); !written) {
    lead_again(ids_of(back), fail(std::move(written.error())));
    back.clear();
  }
  co_return back;
}

void ShardBroker::lead_again(const std::vector<PartitionId>& ids,
                             const Result<CatalogPtr>& activated) {
  for (const PartitionId& id : ids) {
    const auto at = hosted_.find(id);
    if (at == hosted_.end()) continue;  // deleted meanwhile
    Hosted& hosted = at->second;
    if (!activated) {
      Hosted told;
      told.name = hosted.name;
      told.failed = activated.error();
      tell_offline(id, told);
      hosted.failed = std::move(told.failed);
      try_later(id);
      continue;
    }
    const catalog::TopicPtr topic = (*activated)->topic(id.topic);
    if (topic == nullptr) continue;
    hosted.failed.reset();
    again_.erase(id);
    lead_one(id, *topic, **activated);
    observe::log_info("broker.partition_online", {{"partition", hosted.name}});
  }
}

const Hosted* ShardBroker::find(const PartitionId& id) const {
  const auto at = hosted_.find(id);
  return at == hosted_.end() ? nullptr : &at->second;
}

std::expected<std::shared_ptr<replica::Replica>, KafkaError> ShardBroker::leading(
    const PartitionId& id) const {
  auto found = serving(id);
  if (found && (*found)->participant() != nullptr && (*found)->epoch() == Epoch(0)) {
    return std::unexpected(KafkaError::kNotLeaderOrFollower);
  }
  return found;
}

std::expected<ShardBroker::Readable, KafkaError> ShardBroker::readable(const PartitionId& id,
                                                                       bool follows_too) const {
  auto found = serving(id);
  if (!found) return std::unexpected(found.error());
  replica::Replica& replica = **found;
  if (replica.participant() == nullptr || replica.epoch() != Epoch(0)) {
    const Epoch epoch = replica.epoch();
    return Readable{std::move(*found), epoch, std::nullopt};
  }
  // Its next epoch is about to begin, and nothing is cut for it.
  if (replica.participant()->between_terms() && !PYRALOG_PLANT("broker.read_nothing_between_terms")) {
    const Epoch last = replica.participant()->last_term();
    return Readable{std::move(*found), last, std::nullopt};
  }
  if (follows_too) {
    if (const auto followed = replica.participant()->followed(io::Shard::current().now())) {
      return Readable{std::move(*found), followed->epoch, followed->committed};
    }
  }
  return std::unexpected(KafkaError::kNotLeaderOrFollower);
}

KafkaError ShardBroker::may_coordinate(const PartitionId& id) const {
  if (seats_ == nullptr) return KafkaError::kNone;
  const auto replica = leading(id);
  if (!replica) return KafkaError::kNotCoordinator;
  // Another leader may have taken over by now, and know of newer offsets.
  const bool heard =
      (*replica)->participant()->may_accept() || PYRALOG_PLANT("broker.coordinate_cut_off");
  return heard ? KafkaError::kNone : KafkaError::kCoordinatorNotAvailable;
}

io::Task<KafkaError> ShardBroker::confirm(PartitionId id, Epoch spoke_in) const {
  if (seats_ == nullptr || PYRALOG_PLANT("broker.coordinate_cut_off") ||
      PYRALOG_PLANT("broker.coordinate_unconfirmed"))
    co_return KafkaError::kNone;
  const auto found = leading(id);
  if (!found || (*found)->epoch() != spoke_in) co_return KafkaError::kNotCoordinator;
  const std::shared_ptr<replica::Replica> replica = *found;
  const Instant deadline = io::Shard::current().now() + kConfirmation;
  if (co_await replica->participant()->confirm(deadline)) co_return KafkaError::kNone;
  const bool leads = replica->epoch() == spoke_in;
  co_return leads ? KafkaError::kCoordinatorNotAvailable : KafkaError::kNotCoordinator;
}

std::expected<std::shared_ptr<replica::Replica>, KafkaError> ShardBroker::serving(
    const PartitionId& id) const {
  const Hosted* hosted = find(id);
  if (hosted == nullptr) return std::unexpected(KafkaError::kNotLeaderOrFollower);
  if (hosted->replica == nullptr || hosted->replica->offline()) {
    return std::unexpected(KafkaError::kKafkaStorageError);
  }
  return hosted->replica;
}

io::Task<Result<void>> ShardBroker::store_snapshots() {
  const std::uint64_t wanted = ++snapshots_changed_;
  const auto guard = co_await storing_snapshots_.lock();
  if (snapshots_stored_ >= wanted) co_return Result<void>{};  // by who was before
  const std::uint64_t with = snapshots_changed_;
  const producer::RunningMs now = options_.producer_clock.now(io::Shard::current().now());
  PYRALOG_CO_TRY(co_await replica::write_producer_snapshots(
      io::Shard::current().disk(), options_.data_dir, index_, {snapshots_, now}));
  clock_written_ = now;
  snapshots_stored_ = with;
  co_return Result<void>{};
}

io::Task<Result<void>> ShardBroker::write_snapshots(bool end) {
  std::size_t producers = 0;
  bool changed = co_await take_snapshots(producers);
  if (producers > 0 && !PYRALOG_PLANT("broker.keep_the_clock_to_itself")) {
    // Else a node that does nothing else would begin to count their silence anew at each start.
    const producer::RunningMs now = options_.producer_clock.now(io::Shard::current().now());
    const std::int64_t ran = now.ms - clock_written_.ms;
    changed = changed || end || ran >= options_.producers.expiration_ms / kClockWritings;
  }
  if (!changed) co_return Result<void>{};
  co_return co_await store_snapshots();
}

io::Task<bool> ShardBroker::take_snapshots(std::size_t& producers) {
  bool changed = false;
  std::vector<PartitionId> ids;
  for (const auto& [id, hosted] : hosted_) ids.push_back(id);
  std::size_t looked_at = 0;
  for (const PartitionId& id : ids) {
    if (looked_at > kProducersInOneGo) {
      looked_at = 0;
      co_await io::yield();
    }
    const auto at = hosted_.find(id);
    if (at == hosted_.end() || at->second.replica == nullptr) continue;
    if (cutting_.contains(id)) continue;
    replica::Replica& replica = *at->second.replica;
    looked_at += replica.producers().size();
    replica.expire_producers();
    producers += replica.producers().size();
    const Offset synced = replica.log().synced_end();
    const auto known = snapshots_.find(id);
    if (known != snapshots_.end() && known->second.covers >= synced &&
        producer::ProducerTable::is_current(known->second.state)) {
      continue;
    }
    if (known == snapshots_.end() && synced == replica.log_start()) continue;
    const Offset upto = std::min(synced, replica.producers().end());
    auto state = replica.producers().snapshot(upto);
    if (!state) continue;  // the earlier snapshot stands
    snapshots_[id] = {upto, std::move(*state)};
    changed = true;
  }
  co_return changed;
}

WallMs ShardBroker::believed_now() {
  const io::Shard& shard = io::Shard::current();
  return retention_clock_.now(shard.wall(), shard.now());
}

io::Task<void> ShardBroker::retain() {
  std::vector<PartitionId> ids;
  for (const auto& [id, hosted] : hosted_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const PartitionId& id : ids) {
    const Hosted* hosted = find(id);
    if (hosted == nullptr || hosted->replica == nullptr || hosted->replica->offline()) continue;
    const std::shared_ptr<replica::Replica> replica = hosted->replica;
    // Followers let go what their leader has.
    if (replica->participant() != nullptr && replica->epoch() == Epoch(0)) continue;
    const Offset before = replica->log_start();
    const auto done = co_await replica->retain(believed_now());
    if (replica->log_start() > before) {
      observe::log_info("broker.records_forgotten", {{"partition", replica->name()},
                                                     {"from", before.value},
                                                     {"to", replica->log_start().value}});
    }
    if (!done) {
      observe::log_warn("broker.retention_failed",
                        {{"partition", replica->name()}, {"reason", done.error().message}});
    }
  }
}

io::Task<void> ShardBroker::compact(std::function<bool()> stop,
                                    std::function<bool(std::uint64_t bytes)> fits) {
  std::vector<PartitionId> ids;
  for (const auto& [id, hosted] : hosted_) {
    if (hosted.replica != nullptr && hosted.replica->log().config().compaction) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  for (const PartitionId& id : ids) {
    const Hosted* hosted = find(id);
    if (hosted == nullptr || hosted->replica == nullptr || hosted->replica->offline()) continue;
    const std::shared_ptr<replica::Replica> replica = hosted->replica;
    const log::PartitionLog& log = replica->log();
    if (!fits(std::min(log.size_bytes(), log.config().segment_bytes)) &&
        !PYRALOG_PLANT("broker.compact_on_full_disk")) {
      continue;
    }
    log::CompactionCall call;
    call.now = believed_now();
    call.table_bytes = options_.cleaner_table_bytes;
    call.bytes_per_second = options_.cleaner_bytes_per_second;
    call.stop = stop;
    co_await io::yield();  // there may be very many with nothing to do
    const auto done = co_await replica->compact(std::move(call));
    if (stop()) co_return;
    if (!done && done.error().code == Code::kCancelled) continue;  // a hold came, or it ends
    if (!done) {
      observe::log_warn("broker.compaction_failed",
                        {{"partition", replica->name()}, {"reason", done.error().message}});
    } else if (done->passes > 0) {
      observe::log_info("broker.compacted", {{"partition", replica->name()},
                                             {"upto", done->upto.value},
                                             {"removed_records", done->records_removed},
                                             {"segments_before", done->segments_in},
                                             {"segments_after", done->segments_out},
                                             {"bytes_before", done->bytes_in},
                                             {"bytes_after", done->bytes_out}});
    }
  }
}

io::Task<void> ShardBroker::scrub(std::function<bool()> stop) {
  log::ScrubCall call;
  call.interval = options_.scrub_interval;
  call.bytes_per_second = std::max<std::uint64_t>(options_.scrub_bytes_per_second / shards_, 1);
  call.stop = std::move(stop);
  const Instant began = io::Shard::current().now();
  const log::Scrubbed done = co_await scrubber_->round(std::move(call));
  if (!done.whole) co_return;
  const auto ms = [](Duration d) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
  };
  const Duration took = io::Shard::current().now() - began;
  observe::log_info("broker.scrubbed", {{"segments", done.segments},
                                        {"bytes", done.bytes},
                                        {"damaged_ranges", scrubber_->damaged_ranges()},
                                        {"ms", ms(took)}});
  if (took > options_.scrub_interval) {
    observe::log_warn("broker.scrub_behind",
                      {{"ms", ms(took)},
                       {"interval_ms", ms(options_.scrub_interval)},
                       {"next", "raise log.scrub.max.bytes.per.second or log.scrub.interval.ms"}});
  }
}

io::Task<Result<void>> ShardBroker::close() {
  for (const auto& [id, hosted] : hosted_) {
    if (seats_ != nullptr) seats_->leave(id);
    if (hosted.replica != nullptr) {
      co_await hosted.replica->stop(KafkaError::kNotLeaderOrFollower);
    }
  }
  if (logs_ == nullptr) co_return Result<void>{};
  if (!leads_ && !PYRALOG_PLANT("broker.checkpoint_of_failed_start")) {
    // What this start found and did not record, the next one must find as well.
    co_await logs_->abandon();
    hosted_.clear();
    scrubber_.reset();
    logs_.reset();
    co_return Result<void>{};
  }
  Result<void> closed = co_await logs_->close();
  Result<void> written = co_await write_snapshots(true);
  hosted_.clear();
  scrubber_.reset();
  logs_.reset();
  if (!closed) co_return closed;
  co_return written;
}

}  // namespace pyralog::broker
