#include "replica/replica.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::replica {

Replica::Replica(log::ShardLogs& logs, PartitionId id, Options options)
    : logs_(logs), id_(id), options_(std::move(options)), producers_(options_.producers) {}

io::Task<Result<std::unique_ptr<Replica>>> Replica::open(log::ShardLogs& logs, PartitionId id,
                                                         Options options, Offset initial,
                                                         std::optional<Bytes> snapshot) {
  std::unique_ptr<Replica> self(new Replica(logs, id, std::move(options)));
  // An earlier attempt may have opened the log and failed behind that.
  const bool again = logs.find(id) != nullptr && !PYRALOG_PLANT("replica.open_once");
  auto opening = again ? logs.reopen(id)
                       : logs.open_log(id, self->options_.log, initial,
                                       log::EpochTable(self->options_.epochs));
  PYRALOG_CO_ASSIGN(self->log_, co_await std::move(opening));
  if (again) self->log_->set_config(self->options_.log);
  PYRALOG_CO_TRY(co_await self->rebuild_producers(std::move(snapshot), logs.options().give_up));
  // What recovery kept is as durable as its topic asks: recovery syncs before it trusts.
  self->high_watermark_ = self->log_->end_offset();
  co_return self;
}

io::Task<Result<void>> Replica::rebuild_producers(std::optional<Bytes> snapshot,
                                                  log::GiveUp give_up) {
  Offset from = log_->start_offset();
  bool from_snapshot = false;
  if (snapshot) {
    auto restored = producer::ProducerTable::restore(*snapshot, time_run(), options_.producers);
    // A snapshot only spares work: one that does not fit or is damaged is left aside.
    if (restored && restored->end() <= log_->end_offset() && restored->end() >= from) {
      from_snapshot = true;
      producers_ = std::move(*restored);
      from = producers_.end();
    }
  }
  if (from >= log_->end_offset() || PYRALOG_PLANT("replica.forget_sequences")) {
    co_return Result<void>{};
  }
  const producer::RunningMs now = time_run();
  bool begun = !from_snapshot || PYRALOG_PLANT("replica.trust_snapshot_end");
  bool fits = true;
  const auto take = [&](const BatchHeader& header) {
    // The log may be another one by now: a snapshot of this one ends where a batch begins.
    fits = begun || header.base_offset == from.value;
    begun = true;
    if (fits) producers_.apply(header, Offset(header.base_offset), now);
    return fits && log::go_on(give_up).has_value();
  };
  PYRALOG_CO_TRY(co_await log_->scan_headers(from, take));
  PYRALOG_CO_TRY(log::go_on(give_up));
  if (fits) co_return Result<void>{};
  producers_ = producer::ProducerTable(options_.producers);
  PYRALOG_CO_TRY(co_await log_->scan_headers(log_->start_offset(), take));
  co_return log::go_on(give_up);
}

producer::RunningMs Replica::time_run() const {
  const io::Shard& shard = io::Shard::current();
  if (PYRALOG_PLANT("replica.believe_the_wall_clock")) return {shard.wall().ms};
  return options_.producer_clock.now(shard.now());
}

void Replica::lead(Epoch epoch) {
  PYRALOG_ASSERT(epoch > epoch_);
  epoch_ = epoch;
}

void Replica::configure(Options options) {
  options_ = std::move(options);
  log_->set_config(options_.log);
  if (participant_ != nullptr && !PYRALOG_PLANT("replica.keep_the_first_durability")) {
    participant_->set_durability(options_.log.durability);
  }
}

AppendOutcome Replica::refused(KafkaError error, std::string message) const {
  AppendOutcome out;
  out.error = error;
  out.message = "partition " + options_.name + ": " + std::move(message);
  return out;
}

AppendOutcome Replica::storage_error(const Error& error) const {
  AppendOutcome out = refused(KafkaError::kKafkaStorageError, error.message);
  out.no_space = io::is_no_space(error);
  return out;
}

io::Task<AppendOutcome> Replica::append(NewBatch batch) {
  if (stopped_ != KafkaError::kNone) co_return refused(stopped_, "is being closed");
  const bool waits = between_terms() && !batch.only_in;
  if (!waits) {
    if (auto no = may_lead(batch.only_in)) co_return std::move(*no);
  }
  const WallMs wall = io::Shard::current().wall();
  const Instant until = io::Shard::current().now() + kBetweenTerms;
  // The usual case awaits nothing; a roll, and whoever comes while one is under way, takes turns.
  if (!waits && queued_appends_ == 0 && log_->ready(batch.bytes.size(), wall)) {
    co_return append_now(batch, wall);
  }
  ++queued_appends_;
  const auto guard = co_await append_turn_.lock();
  if (!batch.only_in) co_await next_term(until);
  Result<void> prepared;
  if (!log_->ready(batch.bytes.size(), wall)) {
    const auto log = log_;
    prepared = co_await log->prepare(batch.bytes.size(), wall);
  }
  --queued_appends_;
  if (stopped_ != KafkaError::kNone) co_return refused(stopped_, "is being closed");
  // It may have ended to lead meanwhile.
  if (auto no = may_lead(batch.only_in)) co_return std::move(*no);
  if (!prepared) {
    tell_if_offline();
    co_return storage_error(prepared.error());
  }
  co_return append_now(batch, wall);
}

std::optional<AppendOutcome> Replica::judge(const BatchHeader& header, producer::RunningMs now) {
  const producer::Judgement judgement = producers_.judge(header, now);
  switch (judgement.verdict) {
    case producer::Verdict::kAppend:
      return std::nullopt;
    case producer::Verdict::kDuplicate: {
      AppendOutcome original;
      original.base = judgement.base_offset;
      original.end = Offset(judgement.last_offset.value + 1);
      original.epoch = epoch();
      if (options_.log_append_time) original.append_time_ms = judgement.max_timestamp;
      return original;
    }
    case producer::Verdict::kOutOfOrder:
    case producer::Verdict::kFenced:
    case producer::Verdict::kUnknownProducer:
    case producer::Verdict::kTooManyProducers:
      break;
  }
  return refused(producer::kafka_error(judgement.verdict), producer::describe(judgement, header));
}

AppendOutcome Replica::append_now(NewBatch& batch, WallMs wall) {
  const producer::RunningMs now = time_run();
  if (batch.header.idempotent()) {
    if (auto answer = judge(batch.header, now)) return std::move(*answer);
  }
  AppendOutcome out;
  out.epoch = epoch();
  out.base = log_->end_offset();
  const Offset began = log_->start_offset();
  assign_offset_and_epoch(batch.bytes, out.base, epoch());
  batch.header.base_offset = out.base.value;
  batch.header.leader_epoch = static_cast<std::int32_t>(epoch().value);
  if (options_.log_append_time) {
    out.append_time_ms = wall.ms;
    assign_append_time(batch.bytes, wall.ms);
    batch.header.max_timestamp = wall.ms;
  }
  const ByteView bytes = batch.bytes;
  auto appended = log_->append(std::span<const ByteView>(&bytes, 1), wall);
  if (!appended) {
    tell_if_offline();
    return storage_error(appended.error());
  }
  out.end = appended->end;
  producers_.apply(batch.header, out.base, now);
  if (participant_ != nullptr) {
    const std::size_t pinned = batch.bytes.size();
    participant_->appended(SharedBytes(std::move(batch.owner), bytes), pinned, out.base, out.end);
    tell_trimmed(began);  // one in memory has let its oldest go
    return out;
  }
  if (options_.log.durability != Durability::kFsync || PYRALOG_PLANT("replica.ack_before_sync")) {
    committed_to(out.end);
  }
  if (options_.log.durability == Durability::kFsync && !syncing_) {
    syncing_ = true;
    tasks_.spawn(sync_loop());
  }
  return out;
}

io::Task<void> Replica::sync_loop() {
  // Let the appends of this turn of the loop share the round.
  co_await io::yield();
  while (high_watermark_ < log_->end_offset() && !log_->offline()) {
    auto synced = co_await logs_.sync(log_);
    if (!synced) break;
    committed_to(*synced);
  }
  syncing_ = false;
  tell_if_offline();
}

void Replica::tell_if_offline() {
  if (!offline()) return;
  if (participant_ != nullptr && log_->offline()) participant_->give_up(*log_->offline());
  committed_.wake_all();
  wake_watchers();
}

void Replica::committed_to(Offset end) {
  if (end <= high_watermark_) return;
  high_watermark_ = end;
  committed_.wake_all();
  if (watches_.empty()) return;
  std::vector<Watch> due;
  std::erase_if(watches_, [&](Watch& w) {
    if (w.from >= end) return false;
    due.push_back(std::move(w));
    return true;
  });
  for (auto& w : due) {
    if (const auto watcher = w.watcher.lock()) watcher->data_available();
  }
}

io::Task<KafkaError> Replica::wait_committed(Offset end, Epoch epoch, Instant deadline,
                                             bool through) {
  // Another leader may commit other records there.
  if (PYRALOG_PLANT("replica.wait_in_any_epoch")) epoch = this->epoch();
  if (participant_ != nullptr && epoch == Epoch(0)) co_return KafkaError::kNotLeaderOrFollower;
  while (high_watermark_ < end) {
    if (offline()) co_return KafkaError::kKafkaStorageError;
    if (stopped_ != KafkaError::kNone) co_return stopped_;
    if (!stands(epoch) || (cut_off() && !through)) co_return KafkaError::kNotLeaderOrFollower;
    if (!co_await committed_.wait(deadline) && high_watermark_ < end) {
      co_return KafkaError::kRequestTimedOut;
    }
  }
  co_return stands(epoch) ? KafkaError::kNone : KafkaError::kNotLeaderOrFollower;
}

io::Task<Result<log::ReadResult>> Replica::read(Offset offset, std::uint64_t max_bytes,
                                                bool min_one) {
  log::ReadLimits limits;
  limits.max_bytes = max_bytes;
  limits.upto =
      PYRALOG_PLANT("replica.serve_past_high_watermark") ? log_->end_offset() : high_watermark_;
  limits.min_one = min_one;
  const auto log = log_;
  auto result = co_await log->read(offset, limits);
  // Damage that a read finds ends the partition for everybody.
  if (!result) tell_if_offline();
  co_return result;
}

io::Task<Result<void>> Replica::delete_records_below(Offset offset) {
  if (offset > high_watermark_) {
    co_return fail(Code::kOutOfRange,
                   "partition " + options_.name + ": offset " + std::to_string(offset.value) +
                       " is above the high watermark, " + std::to_string(high_watermark_.value));
  }
  for (const auto& [name, from] : holds_) {
    if (from >= offset || PYRALOG_PLANT("replica.delete_what_is_held")) continue;
    co_return fail(Code::kFenced,
                   "partition " + options_.name + ": its records from offset " +
                       std::to_string(from.value) + " on are still read by " + name +
                       "; delete up to there, or try again when it has come further");
  }
  const auto log = log_;
  const Offset began = log->start_offset();
  Result<void> done = co_await clean(offset, log->delete_records_below(offset));
  tell_trimmed(began);
  co_return done;
}

void Replica::tell_trimmed(Offset before) {
  if (participant_ == nullptr || PYRALOG_PLANT("replica.keep_the_start_to_itself")) return;
  if (log_->start_offset() > before) participant_->trimmed(log_->start_offset());
}

std::optional<Offset> Replica::held_from() const {
  std::optional<Offset> lowest;
  if (PYRALOG_PLANT("replica.clean_what_is_held")) return lowest;
  for (const auto& [name, from] : holds_) lowest = std::min(lowest.value_or(from), from);
  return lowest;
}

template <typename T>
io::Task<T> Replica::clean(Offset limit, io::Task<T> work) {
  const std::uint64_t number = next_cleaning_++;
  cleaning_.emplace(number, limit);
  T done = co_await std::move(work);
  cleaning_.erase(number);
  cleaned_.wake_all();
  co_return done;
}

io::Task<Result<void>> Replica::hold(std::string name, Offset offset) {
  const auto refuse = [&](Code code, std::string why) {
    return fail(code, "partition " + options_.name + ": offset " + std::to_string(offset.value) +
                          " cannot be held for " + name + ": " + std::move(why));
  };
  if (stopped_ != KafkaError::kNone) co_return refuse(Code::kUnavailable, "it is being closed");
  if (offset > high_watermark_) {
    co_return refuse(Code::kOutOfRange,
                     "the high watermark is " + std::to_string(high_watermark_.value));
  }
  std::optional<Offset> before;
  if (const auto at = holds_.find(name); at != holds_.end()) before = at->second;
  if (!before && holds_.size() >= kMaxHolds) {
    co_return refuse(Code::kExhausted,
                     "it has " + std::to_string(kMaxHolds) + " holds, which is the most");
  }
  holds_[name] = offset;
  // What began before knows nothing of it, and may still take something along.
  const std::uint64_t upto = next_cleaning_;
  const auto in_the_way = [&] {
    if (PYRALOG_PLANT("replica.hold_at_once")) return false;
    return std::ranges::any_of(
        cleaning_, [&](const auto& each) { return each.first < upto && each.second > offset; });
  };
  while (in_the_way() && stopped_ == KafkaError::kNone) co_await cleaned_.wait(Instant::never());
  if (offset >= log_->start_offset() && stopped_ == KafkaError::kNone) co_return Result<void>{};
  if (before) {
    holds_[name] = *before;
  } else {
    holds_.erase(name);
  }
  if (stopped_ != KafkaError::kNone) co_return refuse(Code::kUnavailable, "it is being closed");
  co_return refuse(Code::kOutOfRange,
                   "the log begins at " + std::to_string(log_->start_offset().value) + " by now");
}

void Replica::release(std::string_view name) {
  if (const auto at = holds_.find(name); at != holds_.end()) holds_.erase(at);
}

io::Task<Result<void>> Replica::retain(WallMs now) {
  const std::optional<Offset> held = held_from();
  const Offset limit = std::min(high_watermark_, held.value_or(high_watermark_));
  const auto log = log_;
  const Offset began = log->start_offset();
  Result<void> done = co_await clean(limit, log->retain(now, high_watermark_, held));
  tell_trimmed(began);
  co_return done;
}

io::Task<Result<log::Compacted>> Replica::compact(log::CompactionCall call) {
  call.limit = std::min(high_watermark_, held_from().value_or(high_watermark_));
  call.producer_batches = [this] { return producers_.remembered(); };
  // A pass may take long, and whoever wants a hold waits for it.
  call.stop = [this, limit = call.limit, stop = std::move(call.stop)] {
    return stopped_ != KafkaError::kNone || held_from().value_or(limit) < limit || (stop && stop());
  };
  const Offset limit = call.limit;
  const auto log = log_;
  co_return co_await clean(limit, log->compact(call));
}

EpochStart Replica::epoch_end(Epoch epoch) const {
  EpochStart end = log_->epoch_end(epoch);
  if (end.epoch.value == 0 && !PYRALOG_PLANT("replica.no_epoch_without_records")) end.epoch = epoch;
  return end;
}

void Replica::watch(Offset from, const std::shared_ptr<DataWatcher>& watcher) {
  if (high_watermark_ > from || stopped_ != KafkaError::kNone || offline() || cut_off()) {
    watcher->data_available();
    return;
  }
  // Readers of an idle partition come and go; their traces are cleared as they double.
  if (watches_.size() >= purge_watches_at_) {
    std::erase_if(watches_, [](const Watch& w) { return w.watcher.expired(); });
    purge_watches_at_ = std::max<std::size_t>(16, 2 * watches_.size());
  }
  watches_.push_back({from, watcher});
}

void Replica::wake_watchers() {
  for (auto& w : std::exchange(watches_, {})) {
    if (const auto watcher = w.watcher.lock()) watcher->data_available();
  }
}

io::Task<void> Replica::stop(KafkaError reason) {
  stopped_ = reason;
  committed_.wake_all();
  next_term_.wake_all();
  wake_watchers();
  cleaned_.wake_all();
  if (participant_ != nullptr) co_await participant_->stop();
  co_await tasks_.join();
  // Whoever was woken leaves before the lists go.
  while (queued_appends_ > 0 || !committed_.empty() || !cleaned_.empty()) co_await io::yield();
}

}  // namespace pyralog::replica
