#include "client/fetcher.h"

#include <algorithm>

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {

/// Producers whose transactions were aborted, as a response's batches are walked (KIP-98): from the
/// first offset that the server names until the producer's abort marker.
class Aborted {
 public:
  explicit Aborted(const kafka::FetchResponse::Partition& answer) {
    if (!answer.aborted_transactions) return;
    for (const auto& each : *answer.aborted_transactions) {
      starts_.emplace(each.first_offset, each.producer_id);
    }
  }
  /// True if the batch's records must not be seen.
  bool hides(const BatchHeader& header) {
    while (!starts_.empty() && starts_.begin()->first <= header.last_offset()) {
      open_.insert(starts_.begin()->second);
      starts_.erase(starts_.begin());
    }
    if (!header.transactional()) return header.control();
    if (header.control()) {
      open_.erase(header.producer_id);
      return true;
    }
    return open_.contains(header.producer_id);
  }

 private:
  std::multimap<std::int64_t, std::int64_t> starts_;
  std::set<std::int64_t> open_;
};

}  // namespace

Fetcher::Fetcher(Cluster& cluster, FetchOptions options)
    : cluster_(cluster), options_(std::move(options)) {}

Fetcher::~Fetcher() {
  PYRALOG_ASSERT(tasks_.running() == 0);
}

void Fetcher::add(const TopicPartition& partition, std::int64_t offset) {
  remove(partition);
  State state;
  state.version = next_version_++;
  state.position = offset;
  state.fetch_at = offset;
  states_[partition] = state;
}

void Fetcher::remove(const TopicPartition& partition) {
  states_.erase(partition);
  std::erase_if(buffer_, [&](const PolledBatch& batch) { return batch.partition == partition; });
}

void Fetcher::clear() {
  states_.clear();
  buffer_.clear();
}

void Fetcher::wake() {
  woken_ = true;
  arrived_.wake_all();
}

void Fetcher::fail_with(Error error) {
  if (!error_) error_ = std::move(error);
}

std::optional<std::int64_t> Fetcher::position(const TopicPartition& partition) const {
  const auto state = states_.find(partition);
  if (state == states_.end()) return std::nullopt;
  return state->second.position;
}

std::int64_t Fetcher::high_watermark(const TopicPartition& partition) const {
  const auto state = states_.find(partition);
  return state == states_.end() ? -1 : state->second.high_watermark;
}

std::vector<TopicPartition> Fetcher::partitions() const {
  std::vector<TopicPartition> found;
  for (const auto& [partition, state] : states_) found.push_back(partition);
  return found;
}

std::vector<TopicPartition> Fetcher::out_of_range() const {
  std::vector<TopicPartition> found;
  for (const auto& [partition, state] : states_) {
    if (state.out_of_range) found.push_back(partition);
  }
  return found;
}

io::Task<Result<std::vector<PolledBatch>>> Fetcher::poll(Instant deadline) {
  for (;;) {
    if (closed_) co_return fail(Code::kCancelled, "the consumer is closed");
    if (error_) co_return fail(*std::exchange(error_, std::nullopt));
    PYRALOG_CO_TRY(co_await start_fetches(deadline));
    if (!buffer_.empty()) {
      auto batches = hand_out();
      // The next response is on its way while the caller works on this one.
      PYRALOG_CO_TRY(co_await start_fetches(deadline));
      co_return batches;
    }
    if (std::exchange(woken_, false)) co_return std::vector<PolledBatch>();
    if (error_) continue;
    const Instant now = io::Shard::current().now();
    if (now >= deadline) co_return std::vector<PolledBatch>();
    // A short step, so that partitions that wait out an error are asked for again.
    (void)co_await arrived_.wait(std::min(deadline, now + cluster_.options().backoff.first));
  }
}

std::int32_t Fetcher::replica(const TopicPartition& partition) const {
  const auto state = states_.find(partition);
  return state == states_.end() ? -1 : state->second.replica;
}

std::vector<PolledBatch> Fetcher::hand_out() {
  std::vector<PolledBatch> batches(std::make_move_iterator(buffer_.begin()),
                                   std::make_move_iterator(buffer_.end()));
  buffer_.clear();
  if (options_.session != nullptr) {
    for (const PolledBatch& each : batches) {
      const auto state = states_.find(each.partition);
      if (state == states_.end()) continue;
      options_.session->reached(each.partition, {state->second.topic, each.header.leader_epoch,
                                                 each.header.next_offset()});
    }
  }
  for (auto& [partition, state] : states_) {
    state.position = state.fetch_at;
    state.buffered = 0;
  }
  return batches;
}

io::Task<Result<Fetcher::Way>> Fetcher::way_to(TopicPartition partition, Instant deadline) {
  const auto state = states_.find(partition);
  const Instant now = io::Shard::current().now();
  const bool nearest = options_.read_from == ReadFrom::kNearest && !options_.rack.empty();
  const bool near = nearest && now >= state->second.leader_until;
  if (near && state->second.replica >= 0 && now < state->second.replica_until) {
    const std::uint64_t version = state->second.version;
    const Instant soon = std::min(deadline, now + cluster_.options().backoff.most);
    auto connection = co_await cluster_.node(state->second.replica, soon);
    if (connection) co_return Way{std::move(*connection), true};
    const auto still = states_.find(partition);
    if (still != states_.end() && still->second.version == version) back_to_leader(still->second);
    PYRALOG_CO_ASSIGN(auto leader, co_await cluster_.leader(partition, deadline));
    co_return Way{std::move(leader), false};
  }
  PYRALOG_CO_ASSIGN(auto leader, co_await cluster_.leader(partition, deadline));
  co_return Way{std::move(leader), near};
}

void Fetcher::back_to_leader(State& state) {
  state.replica = -1;
  state.leader_until = io::Shard::current().now() + options_.back_at_leader;
  state.version = next_version_++;
}

io::Task<Result<void>> Fetcher::start_fetches(Instant deadline) {
  std::map<Way, std::vector<Wanted>> by_way;
  const Instant now = io::Shard::current().now();
  for (const TopicPartition& partition : partitions()) {
    const auto before = states_.find(partition);
    if (before == states_.end() || before->second.out_of_range || before->second.buffered > 0 ||
        now < before->second.not_before) {
      continue;
    }
    auto way = co_await way_to(partition, deadline);
    const auto state = states_.find(partition);
    if (state == states_.end()) continue;
    if (!way) {
      if (!is_retriable(way.error())) co_return fail(way.error());
      state->second.not_before = io::Shard::current().now() + cluster_.options().backoff.most;
      continue;
    }
    if (busy_.contains(*way)) continue;
    by_way[*way].push_back({partition, state->second.version, state->second.fetch_at,
                            way->near && state->second.replica >= 0,
                            cluster_.topic_id(partition.topic)});
  }
  if (closed_) co_return Result<void>();
  for (auto& [way, wanted] : by_way) {
    busy_.insert(way);
    tasks_.spawn(fetch(way, std::move(wanted)));
  }
  co_return Result<void>();
}

kafka::FetchRequest Fetcher::request_for(const Way& way, const std::vector<Wanted>& wanted) const {
  kafka::FetchRequest request;
  request.max_wait_ms = static_cast<std::int32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(options_.max_wait).count());
  request.min_bytes = options_.min_bytes;
  request.max_bytes = options_.max_bytes;
  request.isolation_level = options_.read_committed ? 1 : 0;
  if (way.near) request.rack_id = options_.rack;
  for (const Wanted& each : wanted) {
    if (request.topics.empty() || request.topics.back().topic != each.partition.topic) {
      request.topics.emplace_back().topic = each.partition.topic;
      request.topics.back().topic_id = each.id.uuid;
    }
    kafka::FetchRequest::Partition partition;
    partition.partition = each.partition.partition;
    partition.fetch_offset = each.at;
    partition.partition_max_bytes = options_.partition_max_bytes;
    // Who knows an older epoch only may lack what was there in a newer one.
    partition.current_leader_epoch = cluster_.leader_epoch(each.partition);
    if (options_.session != nullptr) {
      const auto met = options_.session->position(each.partition, each.id);
      if (met) {
        partition.current_leader_epoch =
            std::max(partition.current_leader_epoch, met->leader_epoch);
      }
    }
    request.topics.back().partitions.push_back(partition);
  }
  return request;
}

io::Task<void> Fetcher::fetch(Way way, std::vector<Wanted> wanted) {
  const Instant end =
      io::Shard::current().now() + options_.max_wait + cluster_.options().request_timeout;
  // Where topics have no ids they go by their names.
  constexpr std::int16_t kLastByName = 12;
  const bool by_id =
      std::ranges::all_of(wanted, [](const Wanted& each) { return each.id != TopicId{}; });
  const std::int16_t newest = by_id ? kafka::FetchRequest::kMaxVersion : kLastByName;
  const auto reply = co_await way.connection->call<kafka::FetchResponse>(request_for(way, wanted),
                                                                         end, {}, newest);
  busy_.erase(way);
  const auto answered = [&](const Wanted& each) -> const kafka::FetchResponse::Partition* {
    if (!reply) return nullptr;
    for (const auto& topic : reply->message.responses) {
      const bool of_it = reply->version > kLastByName ? topic.topic_id == each.id.uuid
                                                      : topic.topic == each.partition.topic;
      if (!of_it) continue;
      for (const auto& partition : topic.partitions) {
        if (partition.partition_index == each.partition.partition) return &partition;
      }
    }
    return nullptr;
  };
  if (!reply && !is_retriable(reply.error())) fail_with(reply.error());
  if (reply && reply->message.error_code != 0) {
    fail_with(to_error("fetch", reply->message.error_code));
  }
  if (reply) {
    for (const auto& each : reply->message.node_endpoints) {
      cluster_.learn_node(each.node_id, {each.host, static_cast<std::uint16_t>(each.port)});
    }
  }
  for (const Wanted& each : wanted) {
    const auto* answer = answered(each);
    const auto state = states_.find(each.partition);
    if (answer != nullptr) {
      take(*answer, each, way.connection->address(), reply->frame);
    } else if (state != states_.end() && state->second.version == each.version) {
      if (each.from_replica) {
        back_to_leader(state->second);
        continue;
      }
      cluster_.forget_topic(each.partition.topic);
      state->second.not_before = io::Shard::current().now() + cluster_.options().backoff.first;
    }
  }
  arrived_.wake_all();
}

bool Fetcher::is_behind(const TopicPartition& partition, const State& state) const {
  if (options_.session == nullptr) return false;
  const auto met = options_.session->position(partition, state.topic);
  return met && state.fetch_at < met->next && state.high_watermark < met->next;
}

void Fetcher::take(const kafka::FetchResponse::Partition& answer, const Wanted& wanted,
                   const io::Address& from, const SharedBytes& frame) {
  const auto found = states_.find(wanted.partition);
  if (found == states_.end() || found->second.version != wanted.version) return;
  State& state = found->second;
  state.topic = wanted.id;
  if (answer.error_code != 0) return refused(answer, wanted, from, state);
  if (answer.preferred_read_replica >= 0 && !wanted.from_replica) {
    state.replica = answer.preferred_read_replica;
    state.replica_until = io::Shard::current().now() + cluster_.options().metadata_max_age;
    return;
  }
  state.high_watermark = answer.high_watermark;
  const std::int64_t before = state.fetch_at;
  take_batches(answer, state, wanted.partition, frame);
  // It has waited there for as long as a fetch does.
  const bool nothing = state.fetch_at == before;
  if (wanted.from_replica && nothing && is_behind(wanted.partition, state)) back_to_leader(state);
}

void Fetcher::refused(const kafka::FetchResponse::Partition& answer, const Wanted& wanted,
                      const io::Address& from, State& state) {
  const ErrorTraits& traits = traits_of(answer.error_code);
  if (wanted.from_replica) {
    // Whatever it is, the leader knows better; and of a newer epoch the next use asks.
    if (traits.error == KafkaError::kFencedLeaderEpoch)
      cluster_.forget_topic(wanted.partition.topic);
    return back_to_leader(state);
  }
  if (traits.error == KafkaError::kOffsetOutOfRange) {
    state.out_of_range = true;
    fail_with(to_error(to_string(wanted.partition) + " offset " + std::to_string(wanted.at),
                       answer.error_code));
    return;
  }
  if (!traits.retriable) fail_with(to_error(to_string(wanted.partition), answer.error_code));
  const bool redirected =
      traits.stale_metadata &&
      cluster_.refused(wanted.partition, from, traits.error,
                       {answer.current_leader.leader_id, answer.current_leader.leader_epoch});
  if (!redirected) state.not_before = io::Shard::current().now() + cluster_.options().backoff.first;
}

void Fetcher::take_batches(const kafka::FetchResponse::Partition& answer, State& state,
                           const TopicPartition& partition, const SharedBytes& frame) {
  ByteView rest = answer.records.view;
  Aborted aborted(answer);
  while (rest.size() >= kBatchHeaderBytes) {
    const auto header = parse_batch_header(rest);
    if (!header) {
      fail_with({Code::kCorrupt, to_string(partition) + ": " + header.error().message, 0});
      return;
    }
    if (header->total_bytes() > rest.size()) break;  // cut off by the byte limit
    const ByteView batch = rest.first(header->total_bytes());
    rest = rest.subspan(header->total_bytes());
    if (header->next_offset() <= state.fetch_at) continue;
    if (header->magic != 2 || batch_crc(batch) != header->crc) {
      fail_with({Code::kCorrupt,
                 to_string(partition) + " offset " + std::to_string(header->base_offset) +
                     ": the batch's checksum is wrong",
                 0});
      return;
    }
    const std::int64_t from = std::exchange(state.fetch_at, header->next_offset());
    const bool hidden = options_.read_committed ? aborted.hides(*header) : header->control();
    if (hidden) continue;
    const auto at = static_cast<std::size_t>(batch.data() - frame.data());
    buffer_.push_back({partition, *header, frame.slice(at, batch.size()), from});
    ++state.buffered;
  }
  // Nothing to hand out, control batches say: the reader stands behind them.
  if (state.buffered == 0) state.position = state.fetch_at;
}

io::Task<void> Fetcher::close() {
  closed_ = true;
  arrived_.wake_all();
  co_await tasks_.join();
}

}  // namespace pyralog::client
