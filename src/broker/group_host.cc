#include "broker/group_host.h"

#include <algorithm>

#include "base/plant.h"
#include "model/record_batch.h"
#include "observe/log.h"

namespace pyralog::broker {

namespace {
constexpr std::uint64_t kReplayBytes = 1u << 20;
constexpr Duration kReplayRetry = std::chrono::seconds(1);
}  // namespace

GroupHost::GroupHost(const Options& options, std::shared_ptr<replica::Replica> replica,
                     MakeRoom make_room, std::shared_ptr<group::Tally> tally)
    : options_(options),
      replica_(std::move(replica)),
      make_room_(std::move(make_room)),
      epoch_(replica_->epoch()),
      table_(options.groups, std::move(tally)) {}

group::Now GroupHost::now() {
  const io::Shard& shard = io::Shard::current();
  return {shard.now(), shard.wall()};
}

void GroupHost::load(std::shared_ptr<const catalog::Catalog> existing) {
  loading_ = true;
  tasks_.spawn(replay(std::move(existing)));
}

io::Task<void> GroupHost::replay(std::shared_ptr<const catalog::Catalog> existing) {
  co_await replay_all(std::move(existing));
  loading_ = false;
  progress_.wake_all();
}

io::Task<void> GroupHost::settled(Instant deadline) {
  while (loading_ && !stopped_) {
    if (!co_await progress_.wait(deadline)) co_return;
  }
  const std::uint64_t upto = last_storing_;
  while (!storing_.empty() && *storing_.begin() <= upto && !stopped_) {
    if (!co_await progress_.wait(deadline)) co_return;
  }
}

io::Task<void> GroupHost::replay_all(std::shared_ptr<const catalog::Catalog> existing) {
  Offset at = replica_->log_start();
  while (at < replica_->high_watermark() && !stopped_) {
    auto read = co_await replica_->read(at, kReplayBytes, true);
    Result<void> replayed;
    if (read && read->bytes > 0) {
      replayed = co_await replay_pieces(read->pieces);
      if (replayed) at = read->next;
    } else if (!read) {
      replayed = fail(read.error());
    }
    if (!replayed) {
      damaged_ = replayed.error().code == Code::kCorrupt;
      if (!damaged_ && !replica_->offline()) {
        observe::log_warn("broker.groups_load_retried", {{"partition", replica_->name()},
                                                         {"offset", at.value},
                                                         {"reason", replayed.error().message}});
        (void)co_await progress_.wait(io::Shard::current().now() + kReplayRetry);
        continue;
      }
      // Answers stay COORDINATOR_LOAD_IN_PROGRESS: guessing offsets would lose or repeat records.
      observe::log_error("broker.groups_not_loaded", {{"partition", replica_->name()},
                                               {"offset", at.value},
                                               {"reason", replayed.error().message}});
      co_return;
    }
    if (read->bytes == 0) break;
  }
  if (stopped_) co_return;
  carry_out(table_.loaded(now()));
  // Nobody can have committed meanwhile: what is there of a topic that did not exist when this
  // began, or was deleted since, belongs to one of the past, also if it has been made again.
  std::vector<std::string> gone;
  for (const std::string& topic : table_.topics()) {
    if (existing->topic(topic) == nullptr || gone_.contains(topic)) gone.push_back(topic);
  }
  gone_.clear();
  if (!gone.empty() && !PYRALOG_PLANT("broker.keep_orphaned_offsets")) forget(gone);
}

io::Task<Result<void>> GroupHost::replay_pieces(const std::vector<io::Piece>& pieces) {
  for (const io::Piece& piece : pieces) {
    Bytes bytes;
    if (const auto* memory = std::get_if<SharedBytes>(&piece)) {
      bytes.assign(memory->view().begin(), memory->view().end());
    } else {
      const auto& range = std::get<io::FileRange>(piece);
      bytes.resize(range.count);
      PYRALOG_CO_ASSIGN(const std::size_t got, co_await range.file->read_at(range.position, bytes));
      if (got != bytes.size()) co_return fail(Code::kCorrupt, range.file->path() + ": cut short");
    }
    PYRALOG_CO_TRY(replay_batches(bytes));
  }
  co_return Result<void>{};
}

Result<void> GroupHost::replay_batches(ByteView bytes) {
  if (PYRALOG_PLANT("broker.forget_offsets")) return {};
  while (!bytes.empty()) {
    PYRALOG_ASSIGN(const BatchHeader header, parse_batch_header(bytes));
    if (header.total_bytes() > bytes.size()) return fail(Code::kCorrupt, "a batch is cut short");
    const ByteView batch = bytes.first(header.total_bytes());
    bytes = bytes.subspan(header.total_bytes());
    if (header.control()) continue;
    PYRALOG_ASSIGN(RecordReader reader, RecordReader::open(batch, options_.max_inflated_bytes,
                                                            RecordReader::Headers::kRaw));
    while (true) {
      PYRALOG_ASSIGN(const auto record, reader.next());
      if (!record) break;
      if (!record->key) continue;
      auto loaded = table_.load(*record->key, record->value);
      if (!loaded && loaded.error().code != Code::kUnsupported) {
        return fail(Code::kCorrupt, "offset " + std::to_string(record->offset) + ": " +
                                        loaded.error().message);
      }
    }
  }
  return {};
}

void GroupHost::feed(const group::Input& input) { carry_out(table_.step(input, now())); }

void GroupHost::forget(const std::vector<std::string>& topics) {
  if (stopped_) return;
  if (!table_.is_loaded()) {
    if (!PYRALOG_PLANT("broker.forget_deletion_while_loading")) {
      gone_.insert(topics.begin(), topics.end());
    }
    return;
  }
  carry_out(table_.step(group::TopicsDeleted{topics}, now()), topics);
}

io::Task<group::Expired> GroupHost::expire(WallMs now) {
  // One whose log cannot be read would keep all the others waiting.
  if (!table_.is_loaded()) co_return group::Expired{};
  const group::Expired before = expired_;
  group::ExpiryRound round{now, {}, false};
  while (!stopped_ && !round.over && expired_.failures == before.failures) {
    carry_out(table_.expire(round, GroupHost::now()));
    co_await settled(Instant::never());
    co_await io::yield();  // a step may have stored nothing
  }
  if (expired_.failures != before.failures) {
    observe::log_warn("broker.offsets_not_expired",
                      {{"partition", replica_->name()},
                       {"reason",
                        "their tombstones could not be stored; they stay until the next "
                        "check (offsets.retention.check.interval.ms)"}});
  }
  co_return group::Expired{expired_.offsets - before.offsets, expired_.groups - before.groups,
                           expired_.failures - before.failures};
}

io::Task<bool> GroupHost::is_rid_of(std::string topic, Instant deadline) {
  co_await settled(deadline);
  // What has not been read may name any topic. What is damaged will not be read, though, before
  // somebody has mended it, and must not keep all others from making topics.
  if (!stopped_ && !table_.is_loaded() && !damaged_ && !PYRALOG_PLANT("broker.create_while_loading")) {
    co_return false;
  }
  while (!stopped_) {
    const auto owed = owed_.find(topic);
    if (owed == owed_.end()) break;
    const std::shared_ptr<const group::Append> records = owed->second;
    if (co_await append_records(*records) != KafkaError::kNone) co_return false;
    std::erase_if(owed_, [&](const auto& each) { return each.second == records; });
  }
  co_return true;
}

std::string GroupHost::obstacle() const {
  const std::string partition = "partition " + partition_name();
  if (table_.is_loaded()) {
    return partition + " takes no writes; see the server's log, mend the disk and restart";
  }
  if (loading_) return partition + " is still being loaded; try again later";
  return partition +
         " could not be loaded; see the server's log, mend the disk or restore the partition, and "
         "restart";
}

io::Task<group::Response> GroupHost::ask(group::Input request) {
  const group::Token token = next_token_++;
  std::visit(
      [token](auto& in) {
        if constexpr (requires { in.token; }) in.token = token;
      },
      request);
  auto waiting = std::make_shared<Waiting>();
  waiting_.emplace(token, waiting);
  feed(request);
  while (!waiting->response) co_await waiting->done.wait(Instant::never());
  co_return std::move(*waiting->response);
}

void GroupHost::carry_out(group::Effects effects, const std::vector<std::string>& forgotten) {
  // First: an append that is refused at once is a step of its own within this loop, and what that
  // step wants to be woken for is the younger wish.
  set_timer(effects.next_timer);
  expired_ += effects.expired;
  for (auto& each : effects.appends) tasks_.spawn(append(std::move(each), forgotten));
  for (auto& reply : effects.replies) {
    const auto at = waiting_.find(reply.token);
    if (at == waiting_.end()) continue;
    at->second->response = std::move(reply.response);
    at->second->done.wake_all();
    waiting_.erase(at);
  }
}

void GroupHost::set_timer(Instant at) {
  if (at == timer_at_ || stopped_) return;
  io::Shard& shard = io::Shard::current();
  if (timer_) shard.cancel_timer(*timer_);
  timer_.reset();
  timer_at_ = at;
  if (at == Instant::never()) return;
  timer_ = shard.call_at(at, [this] {
    timer_.reset();
    timer_at_ = Instant::never();
    feed(group::Tick{});
  });
}

io::Task<KafkaError> GroupHost::append_records(const group::Append& append) {
  BatchBuilder builder;
  const WallMs wall = io::Shard::current().wall();
  for (const auto& record : append.records) {
    NewRecord out;
    out.timestamp = wall.ms;
    out.key = ByteView(record.key);
    if (record.value) out.value = ByteView(*record.value);
    builder.add(out);
  }
  auto built = builder.build();
  if (!built) co_return KafkaError::kUnknownServerError;
  auto owner = std::make_shared<Bytes>(std::move(*built));
  auto header = parse_batch_header(*owner);
  PYRALOG_ASSERT(header.has_value());
  auto outcome = co_await replica_->append({owner, MutableBytes(*owner), *header, epoch_});
  if (outcome.no_space && !stopped_ && co_await make_room_()) {
    outcome = co_await replica_->append({owner, MutableBytes(*owner), *header, epoch_});
  }
  if (outcome.error != KafkaError::kNone) co_return outcome.error;
  // What is in the log and not in the table would be said otherwise by the next coordinator; and
  // nobody is told anything while this one is cut off.
  const bool through = !PYRALOG_PLANT("broker.give_up_what_is_stored_when_cut_off");
  co_return co_await replica_->wait_committed(
      outcome.end, epoch_, io::Shard::current().now() + options_.commit_timeout, through);
}

io::Task<void> GroupHost::append(group::Append append, std::vector<std::string> forgotten) {
  group::Appended done;
  done.append_id = append.append_id;
  const std::uint64_t number = ++last_storing_;
  storing_.insert(number);
  done.error = co_await append_records(append);
  if (done.error != KafkaError::kNone && !forgotten.empty()) {
    const auto records = std::make_shared<const group::Append>(std::move(append));
    for (const std::string& topic : forgotten) owed_.emplace(topic, records);
  }
  storing_.erase(number);
  progress_.wake_all();
  if (!stopped_) feed(done);
}

io::Task<void> GroupHost::stop() {
  if (!stopped_) {
    carry_out(table_.unload());
    stopped_ = true;
    if (timer_) io::Shard::current().cancel_timer(*timer_);
    timer_.reset();
  }
  progress_.wake_all();
  co_await tasks_.join();
}

void GroupHosts::add(const PartitionId& id, std::shared_ptr<replica::Replica> replica,
                     std::shared_ptr<const catalog::Catalog> existing) {
  auto tally = PYRALOG_PLANT("broker.bound_each_coordinator") ? std::make_shared<group::Tally>() : tally_;
  auto host =
      std::make_shared<GroupHost>(options_, std::move(replica), make_room_, std::move(tally));
  host->load(std::move(existing));
  hosts_[id] = std::move(host);
}

io::Task<void> GroupHosts::remove(PartitionId id) {
  const auto at = hosts_.find(id);
  if (at == hosts_.end()) co_return;
  const auto host = std::move(at->second);
  hosts_.erase(at);
  co_await host->stop();
}

std::shared_ptr<GroupHost> GroupHosts::find(const PartitionId& id) const {
  const auto at = hosts_.find(id);
  return at == hosts_.end() ? nullptr : at->second;
}

io::Task<void> GroupHosts::settled(Instant deadline) {
  std::vector<std::shared_ptr<GroupHost>> hosts;
  for (const auto& [id, host] : hosts_) hosts.push_back(host);
  for (const auto& host : hosts) co_await host->settled(deadline);
}

io::Task<std::optional<std::string>> GroupHosts::obstacle_to(std::string topic, Instant deadline) {
  std::vector<std::shared_ptr<GroupHost>> hosts;
  for (const auto& [id, host] : hosts_) hosts.push_back(host);
  for (const auto& host : hosts) {
    if (!co_await host->is_rid_of(topic, deadline)) co_return host->obstacle();
  }
  co_return std::nullopt;
}

io::Task<void> GroupHosts::expire() {
  std::vector<PartitionId> ids;
  for (const auto& [id, host] : hosts_) ids.push_back(id);
  std::ranges::sort(ids);
  for (const PartitionId& id : ids) {
    const std::shared_ptr<GroupHost> host = find(id);
    if (host == nullptr) continue;
    const WallMs believed = believed_now_();
    const WallMs now = PYRALOG_PLANT("broker.believe_clock_jump") ? io::Shard::current().wall() : believed;
    const group::Expired gone = co_await host->expire(now);
    expired_ += gone;
    if (gone.offsets == 0 && gone.groups == 0) continue;
    observe::log_info("broker.offsets_expired", {{"partition", host->partition_name()},
                                                 {"offsets", gone.offsets},
                                                 {"groups", gone.groups}});
  }
}

io::Task<void> GroupHosts::stop() {
  auto hosts = std::exchange(hosts_, {});
  for (auto& [id, host] : hosts) co_await host->stop();
}

}  // namespace pyralog::broker
