#include <algorithm>
#include <atomic>

#include "base/plant.h"
#include "broker/broker.h"
#include "observe/log.h"

namespace pyralog::broker {

namespace {

/// Questions about partitions that are answered before others of the shard may run.
constexpr std::size_t kQueriesInOneGo = 64;

/// Carries "there is more to read" from any shard to the one where a fetch waits; the first word is
/// enough.
class FetchWaiter : public replica::DataWatcher, public std::enable_shared_from_this<FetchWaiter> {
 public:
  explicit FetchWaiter(io::Shard& home) : home_(home) {}
  void data_available() override {
    if (told_.exchange(true)) return;
    home_.post([self = shared_from_this()] {
      self->woken_ = true;
      self->list_.wake_all();
    });
  }
  /// On the home shard; false at the deadline.
  io::Task<bool> wait(Instant deadline) {
    while (!woken_) {
      if (!co_await list_.wait(deadline)) co_return woken_;
    }
    co_return true;
  }

 private:
  io::Shard& home_;
  std::atomic<bool> told_ = false;
  bool woken_ = false;
  io::WaitList list_;
};

KafkaError check_epoch(std::int32_t believed, Epoch current) {
  if (believed < 0) return KafkaError::kNone;
  const auto ours = static_cast<std::int32_t>(current.value);
  if (believed < ours) return KafkaError::kFencedLeaderEpoch;
  if (believed > ours) return KafkaError::kUnknownLeaderEpoch;
  return KafkaError::kNone;
}

KafkaError read_error(const Error& error) {
  switch (error.code) {
    case Code::kOutOfRange:
      return KafkaError::kOffsetOutOfRange;
    case Code::kNotFound:
      return KafkaError::kUnknownTopicOrPartition;
    default:
      return KafkaError::kKafkaStorageError;
  }
}

/// Shards read side by side, each as if it were alone; what is over the whole goes. The first answer with
/// records stays whatever its size (KIP-74), unless it is more than may be held in memory.
void trim(std::vector<FetchOutcome>& outcomes, std::uint64_t max_bytes, std::uint64_t memory_room) {
  std::uint64_t total = 0;
  std::uint64_t in_memory = 0;
  for (FetchOutcome& out : outcomes) {
    if (out.bytes == 0) continue;
    const bool room = !out.in_memory || out.bytes <= memory_room - in_memory;
    if (!room || (total > 0 && total + out.bytes > max_bytes)) {
      if (!room) out.lacking = out.bytes;
      out.records.clear();
      out.bytes = 0;
      out.offsets = 0;
      continue;
    }
    total += out.bytes;
    if (out.in_memory) in_memory += out.bytes;
  }
}

/// What a pass has brought.
struct Brought {
  explicit Brought(const std::vector<FetchOutcome>& outcomes) {
    for (const FetchOutcome& each : outcomes) {
      bytes += each.bytes;
      if (each.in_memory) in_memory += each.bytes;
      if (lacking == 0) lacking = each.lacking;
      failed = failed || each.error != KafkaError::kNone || each.diverging.has_value() ||
               each.read_from.has_value();
      dead_end = dead_end || each.dead_end;
    }
  }
  std::uint64_t bytes = 0;
  std::uint64_t in_memory = 0;  ///< of these
  std::uint64_t lacking = 0;    ///< the first batch that there was no room for
  bool failed = false;          ///< somebody is to be told at once
  bool dead_end = false;        ///< nothing more is to come of some
};

/// How long records that are there wait for room: together with others that need none, or alone. Longer
/// than clients ask to wait, so that they keep their place, and less than they wait for an answer.
constexpr Duration kWaitWithOthers = std::chrono::milliseconds(500);
constexpr Duration kWaitForRoom = std::chrono::seconds(5);

}  // namespace

std::optional<NodeId> Broker::nearer(const replica::Replica& replica, const std::string& rack,
                                     Offset offset) const {
  const replica::Participant* participant = replica.participant();
  const replica::Leading* leading = participant == nullptr ? nullptr : participant->leading();
  if (rack.empty() || leading == nullptr) return std::nullopt;
  const CatalogPtr state = catalog();
  const auto stands_there = [&](NodeId id) {
    const catalog::Node* node = state->node(id);
    return node != nullptr && node->rack == rack;
  };
  if (stands_there(node_)) return std::nullopt;
  const std::vector<NodeId> in_sync = leading->in_sync(io::Shard::current().now());
  std::optional<replica::Leading::Follower> best;
  for (const replica::Leading::Follower& each : leading->followers()) {
    const NodeId id = each.disk.node;
    const bool has_it = each.contiguous && each.log_start <= offset && offset <= each.log_end;
    const bool there = each.linked && reachable(id) && std::ranges::binary_search(in_sync, id);
    if (!stands_there(id) || !has_it || !there) continue;
    if (!best || each.log_end > best->log_end) best = each;
  }
  if (!best) return std::nullopt;
  return best->disk.node;
}

io::Task<FetchOutcome> Broker::fetch_one(unsigned shard, PartitionId id, const FetchItem& item,
                                         const FetchBounds& bounds, std::uint64_t max_bytes,
                                         bool min_one) {
  FetchOutcome out;
  const auto readable = states_[shard]->partitions.readable(id, !bounds.rack.empty());
  if (!readable) {
    out.error = readable.error();
    co_return out;
  }
  const std::shared_ptr<replica::Replica>& replica = readable->replica;
  const bool follows = readable->told.has_value();
  out.error = check_epoch(item.leader_epoch, readable->epoch);
  if (out.error != KafkaError::kNone) co_return out;
  out.dead_end = !follows && replica->cut_off() && !PYRALOG_PLANT("broker.wait_where_cut_off");
  // What was committed before is right. Of what comes after, or is not here, another one knows.
  if (out.dead_end && item.offset >= replica->high_watermark().value) {
    out.error = KafkaError::kNotLeaderOrFollower;
    co_return out;
  }
  out.high_watermark = replica->high_watermark().value;
  out.last_stable = replica->last_stable_offset().value;
  out.log_start = replica->log_start().value;
  // A follower knows nothing yet of what it has not been told of: that comes.
  const bool to_come = follows && item.offset > out.high_watermark &&
                       !PYRALOG_PLANT("broker.out_of_range_between_the_watermarks");
  if (to_come) {
    out.beyond = item.offset > readable->told->value;
    co_return out;
  }
  if (item.last_fetched_epoch >= 0) {
    const EpochStart end =
        replica->epoch_end(Epoch(static_cast<std::uint32_t>(item.last_fetched_epoch)));
    if (static_cast<std::int32_t>(end.epoch.value) < item.last_fetched_epoch ||
        end.start.value < item.offset) {
      out.diverging = end;
      co_return out;
    }
  }
  if (item.offset < out.log_start || item.offset > replica->log_end().value) {
    out.error = KafkaError::kOffsetOutOfRange;
    co_return out;
  }
  if (!follows) out.read_from = nearer(*replica, bounds.rack, Offset(item.offset));
  if (out.read_from) co_return out;
  // What is in memory tells how large its next batch is.
  out.in_memory = replica->log().config().durability == Durability::kMemory;
  if (item.offset >= out.high_watermark || (max_bytes == 0 && !min_one && !out.in_memory)) {
    co_return out;
  }
  auto read = co_await replica->read(Offset(item.offset), max_bytes, min_one);
  if (!read) {
    out.error = read_error(read.error());
    out.log_start = replica->log_start().value;  // it may have risen meanwhile, and be the reason
    if (out.error == KafkaError::kKafkaStorageError) {
      observe::log_error("broker.read_failed", {{"partition", replica->name()},
                                         {"offset", item.offset},
                                         {"reason", read.error().message}});
    }
    co_return out;
  }
  out.records = std::move(read->pieces);
  out.bytes = read->bytes;
  out.lacking = read->next_bytes;
  out.offsets = read->next.value - std::max(read->first.value, item.offset);
  co_return out;
}

io::Task<FetchOutcome> Broker::fetch_held(unsigned shard, PartitionId id, const FetchItem& item,
                                          const FetchBounds& bounds, std::uint64_t wanted,
                                          std::uint64_t room, bool min_one) {
  FetchOutcome out =
      co_await fetch_one(shard, id, item, bounds, std::min(wanted, room), /*min_one=*/false);
  // The first batch goes out whatever the client's bounds, and never beyond ours.
  const bool first = min_one && out.bytes == 0 && out.lacking > wanted;
  if (first && out.lacking <= room) {
    out = co_await fetch_one(shard, id, item, bounds, out.lacking, /*min_one=*/false);
  }
  // Is it ours that held the next one back?
  const bool held_back = out.bytes + out.lacking > room &&
                         (out.bytes + out.lacking <= wanted || (min_one && out.bytes == 0));
  if (!held_back) out.lacking = 0;
  co_return out;
}

io::Task<void> Broker::fetch_pass(const std::vector<FetchItem>& items, const FetchBounds& bounds,
                                  std::uint64_t memory_room, std::vector<FetchOutcome>& out) {
  std::vector<PartitionId> ids(items.size());
  Groups groups(shards_.size());
  out.assign(items.size(), {});
  for (std::size_t i = 0; i < items.size(); ++i) {
    const auto id = resolve(items[i].target);
    if (!id) {
      out[i].error = id.error();
      continue;
    }
    ids[i] = *id;
    groups[ShardBroker::shard_of(*id, shards_.size())].push_back(i);
  }
  const auto work = [&](unsigned s, const std::vector<std::size_t>& mine) -> io::Task<void> {
    std::uint64_t left = bounds.max_bytes;
    std::uint64_t room = memory_room;
    bool first = true;
    for (const std::size_t i : mine) {
      const auto most = static_cast<std::uint64_t>(std::max<std::int64_t>(items[i].max_bytes, 0));
      const std::uint64_t want = std::min(left, most);
      const auto readable = states_[s]->partitions.readable(ids[i], !bounds.rack.empty());
      const bool held = readable &&
                        readable->replica->log().config().durability == Durability::kMemory &&
                        !PYRALOG_PLANT("broker.unbounded_memory_reads");
      if (held) {
        out[i] = co_await fetch_held(s, ids[i], items[i], bounds, want, room, first);
        room -= std::min(room, out[i].bytes);
      } else {
        out[i] = co_await fetch_one(s, ids[i], items[i], bounds, want, first);
      }
      if (out[i].bytes > 0) first = false;
      left -= std::min(left, out[i].bytes);
    }
  };
  co_await scatter(std::move(groups), work);
  trim(out, bounds.max_bytes,
       PYRALOG_PLANT("broker.unbounded_memory_reads") ? UINT64_MAX : memory_room);
}

/// A pass, and where records in memory find no room for the first of them, others once they do.
io::Task<void> Broker::fetch_within(const std::vector<FetchItem>& items, const FetchBounds& bounds,
                                    std::vector<FetchOutcome>& out) {
  if (bounds.memory == nullptr) {
    co_await fetch_pass(items, bounds, UINT64_MAX, out);
    co_return;
  }
  io::Shard& home = io::Shard::current();
  std::uint64_t room = bounds.memory->take(bounds.max_bytes);
  Instant last = Instant::never();
  while (true) {
    co_await fetch_pass(items, bounds, room, out);
    const Brought got(out);
    if (got.lacking == 0 || got.in_memory > 0 || got.failed) break;
    bounds.memory->keep(0);
    const Duration patience = got.bytes > 0 ? kWaitWithOthers : kWaitForRoom;
    last = std::min(last, home.now() + patience);
    room = co_await bounds.memory->wait_for(got.lacking, bounds.max_bytes, last);
    if (room == 0) break;
  }
}

io::Task<std::vector<FetchOutcome>> Broker::fetch(std::vector<FetchItem> items,
                                                  FetchBounds bounds) {
  io::Shard& home = io::Shard::current();
  std::vector<FetchOutcome> out;
  Duration waited{};
  // More than may be sent at once never comes.
  bounds.min_bytes = std::min(bounds.min_bytes, bounds.max_bytes);
  if (!options_.read_by_rack) bounds.rack.clear();
  while (true) {
    co_await fetch_within(items, bounds, out);
    const Brought got(out);
    // What finds no room is there: nothing more is waited for.
    const bool answer = items.empty() || got.failed || got.dead_end || got.lacking > 0;
    const auto is_left = [&bounds] {
      return bounds.end != nullptr && bounds.end->ended() && !PYRALOG_PLANT("broker.fetch_for_nobody");
    };
    const bool done = answer || got.bytes >= bounds.min_bytes || home.now() >= bounds.deadline ||
                      local().draining || is_left();
    if (bounds.memory != nullptr) bounds.memory->keep(done ? got.in_memory : 0);
    if (done) {
      for (FetchOutcome& each : out) {
        each.waited = waited;
        // It has not come: whether there is such an offset at all the leader knows.
        if (each.beyond && home.now() >= bounds.deadline) {
          each.error = KafkaError::kNotLeaderOrFollower;
        }
      }
      co_return out;
    }
    // What there is would be held for as long as the wait lasts: it is read again.
    for (FetchOutcome& each : out) each.records.clear();

    const auto waiter = std::make_shared<FetchWaiter>(home);
    Groups groups(shards_.size());
    std::vector<PartitionId> ids(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto id = resolve(items[i].target);
      if (!id) continue;  // gone meanwhile: the next pass says so
      ids[i] = *id;
      groups[ShardBroker::shard_of(*id, shards_.size())].push_back(i);
    }
    const auto watch = [&](unsigned s, const std::vector<std::size_t>& mine) -> io::Task<void> {
      for (const std::size_t i : mine) {
        const auto readable = states_[s]->partitions.readable(ids[i], !bounds.rack.empty());
        // Draining wakes those who watch; whoever comes after that must not begin to.
        if (!readable || states_[s]->draining) {
          waiter->data_available();
        } else {
          readable->replica->watch(Offset(out[i].high_watermark), waiter);
        }
      }
      co_return;
    };
    co_await scatter(std::move(groups), watch);
    const Instant began = home.now();
    if (bounds.end != nullptr) bounds.end->waiting_.insert(waiter.get());
    // It may have ended while the watches were set.
    const bool woken = is_left() || co_await waiter->wait(bounds.deadline);
    if (bounds.end != nullptr) bounds.end->waiting_.erase(waiter.get());
    waited += home.now() - began;
    if (!woken) {
      // One more pass takes what has come since; the deadline then ends it.
      bounds.min_bytes = 0;
    }
  }
}

io::Task<OffsetAnswer> Broker::offset_one(unsigned shard, PartitionId id,
                                          const OffsetQuery& query) {
  OffsetAnswer out;
  const auto serving = states_[shard]->partitions.leading(id);
  if (!serving) {
    out.error = serving.error();
    co_return out;
  }
  const std::shared_ptr<replica::Replica>& replica = *serving;
  out.error = check_epoch(query.leader_epoch, replica->epoch());
  if (out.error != KafkaError::kNone) co_return out;
  const auto kept = replica->kept_log();
  log::PartitionLog& log = *kept;
  const auto epoch_at = [&](std::int64_t offset) {
    std::int32_t epoch = -1;
    for (const EpochStart& each : log.epochs()) {
      if (each.start.value <= offset) epoch = static_cast<std::int32_t>(each.epoch.value);
    }
    return epoch;
  };
  constexpr std::int64_t kLatest = -1, kEarliest = -2, kMaxTimestamp = -3, kLocalEarliest = -4,
                         kLatestTiered = -5;
  if (query.timestamp >= 0 || query.timestamp == kLatest || query.timestamp == kMaxTimestamp) {
    if (replica->cut_off()) {
      out.error = KafkaError::kNotLeaderOrFollower;
      co_return out;
    }
    // What was answered to acks=1 may still be on its way to the disk: a producer that then asks for
    // the end means the end after its own records.
    const KafkaError waited = co_await replica->wait_committed(
        replica->log_end(), io::Shard::current().now() + options_.commit_timeout);
    // Too slow: the end of what is committed is an answer, but the greatest timestamp may lie above.
    if (waited != KafkaError::kNone &&
        (waited != KafkaError::kRequestTimedOut || query.timestamp == kMaxTimestamp)) {
      out.error = waited;
      co_return out;
    }
  }
  if (query.timestamp == kLatest) {
    out.offset = replica->high_watermark().value;
    out.leader_epoch = static_cast<std::int32_t>(replica->epoch().value);
  } else if (query.timestamp == kEarliest || query.timestamp == kLocalEarliest) {
    out.offset = replica->log_start().value;
    out.leader_epoch = epoch_at(out.offset);
  } else if (query.timestamp == kLatestTiered) {
    out.leader_epoch = -1;
  } else if (query.timestamp == kMaxTimestamp) {
    const log::TimestampHit batch = log.max_timestamp();
    if (batch.timestamp < 0) co_return out;
    auto exact = co_await log.find_timestamp(batch.timestamp, replica->high_watermark());
    if (!exact) {
      out.error = read_error(exact.error());
    } else if (*exact) {
      out = {KafkaError::kNone, (*exact)->timestamp, (*exact)->offset.value,
             epoch_at((*exact)->offset.value)};
    }
  } else if (query.timestamp < 0) {
    out.error = KafkaError::kUnsupportedVersion;
  } else {
    auto hit = co_await log.find_timestamp(query.timestamp, replica->high_watermark());
    if (!hit) {
      out.error = read_error(hit.error());
    } else if (*hit) {
      out = {KafkaError::kNone, (*hit)->timestamp, (*hit)->offset.value,
             epoch_at((*hit)->offset.value)};
    }
  }
  co_return out;
}

io::Task<std::vector<OffsetAnswer>> Broker::list_offsets(std::vector<OffsetQuery> queries) {
  std::vector<OffsetAnswer> out(queries.size());
  std::vector<PartitionId> ids(queries.size());
  Groups groups(shards_.size());
  for (std::size_t i = 0; i < queries.size(); ++i) {
    const auto id = resolve(queries[i].target);
    if (!id) {
      out[i].error = id.error();
      continue;
    }
    ids[i] = *id;
    groups[ShardBroker::shard_of(*id, shards_.size())].push_back(i);
  }
  const auto work = [&](unsigned s, const std::vector<std::size_t>& mine) -> io::Task<void> {
    std::size_t done = 0;
    for (const std::size_t i : mine) {
      out[i] = co_await offset_one(s, ids[i], queries[i]);
      if (++done % kQueriesInOneGo == 0) co_await io::yield();
    }
  };
  co_await scatter(std::move(groups), work);
  co_return out;
}

io::Task<std::vector<EpochAnswer>> Broker::epoch_ends(std::vector<EpochQuery> queries) {
  std::vector<EpochAnswer> out(queries.size());
  std::vector<PartitionId> ids(queries.size());
  Groups groups(shards_.size());
  for (std::size_t i = 0; i < queries.size(); ++i) {
    const auto id = resolve(queries[i].target);
    if (!id) {
      out[i].error = id.error();
      continue;
    }
    ids[i] = *id;
    groups[ShardBroker::shard_of(*id, shards_.size())].push_back(i);
  }
  const auto work = [&](unsigned s, const std::vector<std::size_t>& mine) -> io::Task<void> {
    std::size_t done = 0;
    for (const std::size_t i : mine) {
      if (++done % kQueriesInOneGo == 0) co_await io::yield();
      const auto serving = states_[s]->partitions.leading(ids[i]);
      if (!serving) {
        out[i].error = serving.error();
        continue;
      }
      replica::Replica& replica = **serving;
      out[i].error = check_epoch(queries[i].current_leader_epoch, replica.epoch());
      if (out[i].error != KafkaError::kNone) continue;
      if (replica.cut_off()) {
        out[i].error = KafkaError::kNotLeaderOrFollower;
        continue;
      }
      const std::int32_t asked = queries[i].leader_epoch;
      const auto ours = static_cast<std::int32_t>(replica.epoch().value);
      if (asked < 0 || asked > ours) continue;  // unknown to us: −1, −1
      if (asked == ours) {
        out[i].leader_epoch = ours;
        out[i].end_offset = replica.log_end().value;
        continue;
      }
      const EpochStart end = replica.epoch_end(Epoch(static_cast<std::uint32_t>(asked)));
      out[i].leader_epoch = static_cast<std::int32_t>(end.epoch.value);
      out[i].end_offset = end.start.value;
    }
    co_return;
  };
  co_await scatter(std::move(groups), work);
  co_return out;
}

}  // namespace pyralog::broker
