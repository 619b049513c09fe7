#include "client/producer.h"

#include <algorithm>

#include "base/hash.h"
#include "base/plant.h"
#include "wire/kafka/gen/init_producer_id.h"
#include "wire/kafka/gen/produce.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

struct Producer::Batch {
  explicit Batch(Codec codec) : builder(codec) {}
  BatchBuilder builder;
  std::vector<Delivered> waiting;
  std::size_t bytes = 0;  ///< held of the buffer
  Instant created;
  Instant deadline;
  Fate fate = Fate::kUnsent;
  bool full = false;
  bool attempted = false;
  std::int32_t sequence = -1;  ///< of the first record, once numbered
  SharedBytes encoded;
  std::int64_t offset = -1;
  TopicId topic;            ///< that it was sent to, and the epoch of its leader, as far as is known
  std::int32_t epoch = -1;
  Error error;
};

struct Producer::Lane {
  TopicPartition partition;
  std::deque<std::shared_ptr<Batch>> queued;     ///< the last may still take records
  std::deque<std::shared_ptr<Batch>> in_flight;  ///< in the order of their sequences
  std::int64_t producer_id = -1;
  std::int16_t producer_epoch = -1;
  bool own_id = false;    ///< the shared id is spoilt for this partition
  bool renumber = false;  ///< before anything is sent again, take a fresh id
  bool troubled = false;  ///< a batch is to be repeated: wait for the others first
  bool redirected = false;  ///< and where to is known: at once
  std::int32_t next_sequence = 0;
  std::int64_t last_offset = -1;  ///< acknowledged
  io::WaitList changed;
};

namespace {

std::size_t size_of(const ProducerRecord& record) {
  std::size_t size =
      64 + (record.key ? record.key->size() : 0) + (record.value ? record.value->size() : 0);
  for (const auto& [name, value] : record.headers) {
    size += 8 + name.size() + (value ? value->size() : 0);
  }
  return size;
}

std::optional<ByteView> view_of(const std::optional<Bytes>& bytes) {
  return bytes ? std::optional<ByteView>(*bytes) : std::nullopt;
}

/// Sequences go from 0 to 2³¹−1 and round.
std::int32_t advance(std::int32_t sequence, std::int32_t count) {
  return static_cast<std::int32_t>(
      (static_cast<std::uint32_t>(sequence) + static_cast<std::uint32_t>(count)) & 0x7FFF'FFFFu);
}

}  // namespace

Producer::Producer(Cluster& cluster, ProducerOptions options)
    : cluster_(cluster), options_(std::move(options)) {
  if (options_.acks != Acks::kAll) options_.idempotent = false;
  options_.max_in_flight = std::clamp(options_.max_in_flight, 1u, 5u);
}

Producer::~Producer() {
  PYRALOG_ASSERT(tasks_.running() == 0);
}

std::int32_t Producer::choose_partition(const ProducerRecord& record, const TopicInfo& info) {
  const auto count = static_cast<std::uint32_t>(info.partitions.size());
  if (record.key) return static_cast<std::int32_t>(kafka_partition(*record.key, count));
  const auto chosen = sticky_.find(record.topic);
  if (chosen != sticky_.end()) {
    const auto lane = lanes_.find({record.topic, chosen->second});
    if (lane != lanes_.end() && !lane->second->queued.empty() &&
        !lane->second->queued.back()->full) {
      return chosen->second;
    }
  }
  // A partition that has a leader, if there is one.
  std::vector<std::int32_t> led;
  for (const PartitionInfo& partition : info.partitions) {
    if (partition.leader >= 0) led.push_back(partition.index);
  }
  auto& rng = io::Shard::current().rng();
  const std::int32_t next = led.empty() ? static_cast<std::int32_t>(rng.below(count))
                                        : led[static_cast<std::size_t>(rng.below(led.size()))];
  sticky_[record.topic] = next;
  return next;
}

io::Task<Result<void>> Producer::send(ProducerRecord record, Delivered done) {
  const std::size_t size = size_of(record);
  const Instant deadline = io::Shard::current().now() + options_.delivery_timeout;
  while (!closed_ && buffered_ > 0 && buffered_ + size > options_.buffer_bytes) {
    if (!co_await space_.wait(deadline)) {
      co_return fail(
          Code::kTimedOut,
          "topic \"" + record.topic + "\": the send buffer stayed full; is the server reachable?");
    }
  }
  std::int32_t partition = record.partition.value_or(-1);
  if (const TopicInfo* known = cluster_.known_topic(record.topic); known != nullptr) {
    if (!record.partition) partition = choose_partition(record, *known);
  } else {
    PYRALOG_CO_ASSIGN(const TopicInfo info,
                      co_await cluster_.topic(record.topic, options_.create_topics, deadline));
    if (!record.partition) partition = choose_partition(record, info);
  }
  if (closed_) co_return fail(Code::kCancelled, "the producer is closed");
  if (record.timestamp < 0) record.timestamp = io::Shard::current().wall().ms;
  append(lane_of({record.topic, partition}), record, size, std::move(done));
  co_return Result<void>();
}

Producer::Lane& Producer::lane_of(const TopicPartition& partition) {
  auto& lane = lanes_[partition];
  if (!lane) {
    lane = std::make_unique<Lane>();
    lane->partition = partition;
    tasks_.spawn(run(*lane));
  }
  return *lane;
}

void Producer::append(Lane& lane, const ProducerRecord& record, std::size_t size, Delivered done) {
  const bool fits = !lane.queued.empty() && !lane.queued.back()->full &&
                    lane.queued.back()->sequence < 0 && !lane.queued.back()->attempted &&
                    lane.queued.back()->builder.size_bytes() + size <= options_.batch_bytes;
  if (!fits) {
    if (!lane.queued.empty()) lane.queued.back()->full = true;
    auto batch = std::make_shared<Batch>(options_.codec);
    batch->created = io::Shard::current().now();
    batch->deadline = batch->created + options_.delivery_timeout;
    lane.queued.push_back(std::move(batch));
    ++outstanding_;
  }
  Batch& batch = *lane.queued.back();
  std::vector<HeaderView> headers;
  for (const auto& [name, value] : record.headers) headers.push_back({name, view_of(value)});
  batch.builder.add({record.timestamp, view_of(record.key), view_of(record.value), headers});
  batch.waiting.push_back(std::move(done));
  batch.bytes += size;
  buffered_ += size;
  if (batch.builder.size_bytes() >= options_.batch_bytes) batch.full = true;
  if (!fits || batch.full) lane.changed.wake_all();
}

bool Producer::is_due(const Lane& lane) const {
  const Batch& first = *lane.queued.front();
  return first.full || lane.queued.size() > 1 || flushing_ > 0 || closed_ ||
         io::Shard::current().now() >= first.created + options_.linger;
}

io::Task<void> Producer::run(Lane& lane) {
  io::Backoff backoff(cluster_.options().backoff);
  for (;;) {
    settle(lane);
    if (abandoned_) expire(lane);
    if (lane.queued.empty() && lane.in_flight.empty()) {
      if (closed_) break;
      co_await lane.changed.wait(Instant::never());
      continue;
    }
    if (lane.troubled) {
      co_await recover(lane);
      const bool pause = !lane.troubled && !std::exchange(lane.redirected, false);
      if (pause && !lane.queued.empty() && !abandoned_) {
        if (!co_await backoff.wait(lane.queued.front()->deadline)) expire(lane);
      }
      continue;
    }
    if (lane.queued.empty() || lane.in_flight.size() >= options_.max_in_flight) {
      co_await lane.changed.wait(Instant::never());
      continue;
    }
    if (!is_due(lane)) {
      co_await lane.changed.wait(lane.queued.front()->created + options_.linger);
      continue;
    }
    co_await launch(lane, backoff);
  }
}

/// Waits until nothing is under way, then puts what must be repeated back in front, in order.
io::Task<void> Producer::recover(Lane& lane) {
  const auto under_way = [&] {
    return std::ranges::any_of(lane.in_flight,
                               [](const auto& batch) { return batch->fate == Fate::kInFlight; });
  };
  if (under_way()) {
    co_await lane.changed.wait(Instant::never());
    co_return;
  }
  while (!lane.in_flight.empty()) {
    lane.in_flight.back()->fate = Fate::kUnsent;
    lane.queued.push_front(std::move(lane.in_flight.back()));
    lane.in_flight.pop_back();
  }
  if (lane.renumber || PYRALOG_PLANT("client.renumber_on_retry")) {
    lane.renumber = false;
    lane.own_id = true;
    lane.producer_id = -1;
    for (auto& batch : lane.queued) {
      batch->sequence = -1;
      batch->encoded = {};
      // A batch that is to be numbered anew takes no more records, so that it stays one batch.
      if (batch->attempted) batch->full = true;
    }
  }
  expire(lane);
  lane.troubled = false;
}

io::Task<Result<std::shared_ptr<Connection>>> Producer::ready_to_send(Lane& lane) {
  const Instant deadline = lane.queued.front()->deadline;
  PYRALOG_CO_ASSIGN(auto connection, co_await cluster_.leader(lane.partition, deadline));
  if (options_.idempotent && lane.producer_id < 0)
    PYRALOG_CO_TRY(co_await identify(lane, deadline));
  co_return connection;
}

io::Task<void> Producer::launch(Lane& lane, io::Backoff& backoff) {
  auto connection = co_await ready_to_send(lane);
  if (lane.queued.empty() || abandoned_) co_return;
  auto batch = lane.queued.front();
  if (!connection) {
    cluster_.forget_topic(lane.partition.topic);
    batch->error = connection.error();
    if (!is_retriable(connection.error())) {
      lane.queued.pop_front();
      give_up(*batch, connection.error());
    } else if (!co_await backoff.wait(batch->deadline)) {
      expire(lane);
    }
    co_return;
  }
  if (batch->encoded.empty()) {
    batch->full = true;
    if (options_.idempotent) {
      batch->sequence = lane.next_sequence;
      lane.next_sequence = advance(lane.next_sequence, batch->builder.count());
      batch->builder.producer(lane.producer_id, lane.producer_epoch, batch->sequence);
    }
    auto built = batch->builder.build();
    if (!built) {
      lane.queued.pop_front();
      give_up(*batch, built.error());
      co_return;
    }
    batch->encoded = SharedBytes(std::move(*built));
  }
  lane.queued.pop_front();
  batch->fate = Fate::kInFlight;
  batch->attempted = true;
  batch->topic = cluster_.topic_id(lane.partition.topic);
  batch->epoch = cluster_.leader_epoch(lane.partition);
  lane.in_flight.push_back(batch);
  backoff.reset();
  tasks_.spawn(attempt(lane, std::move(batch), std::move(*connection)));
}

io::Task<Result<void>> Producer::identify(Lane& lane, Instant deadline) {
  auto turn = co_await identifying_.lock();
  if (!lane.own_id && shared_id_ >= 0) {
    lane.producer_id = shared_id_;
    lane.producer_epoch = shared_epoch_;
    co_return Result<void>();
  }
  kafka::InitProducerIdRequest request;
  request.transaction_timeout_ms = 60'000;
  PYRALOG_CO_ASSIGN(auto reply, co_await cluster_.call_any<kafka::InitProducerIdResponse>(
                                    std::move(request), deadline));
  if (reply.message.error_code != 0) {
    co_return fail(to_error("producer id", reply.message.error_code));
  }
  lane.producer_id = reply.message.producer_id;
  lane.producer_epoch = reply.message.producer_epoch;
  lane.next_sequence = 0;
  if (!lane.own_id) {
    shared_id_ = lane.producer_id;
    shared_epoch_ = lane.producer_epoch;
  }
  co_return Result<void>();
}

io::Task<void> Producer::attempt(Lane& lane, std::shared_ptr<Batch> batch,
                                 std::shared_ptr<Connection> connection) {
  kafka::ProduceRequest request;
  request.acks = static_cast<std::int16_t>(options_.acks);
  request.timeout_ms = static_cast<std::int32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(cluster_.options().request_timeout)
          .count());
  kafka::ProduceRequest::Topic topic;
  topic.name = lane.partition.topic;
  topic.partition_data.push_back(
      {lane.partition.partition, kafka::Records::external(0, batch->encoded.size())});
  request.topic_data.push_back(std::move(topic));
  const Instant end = cluster_.attempt_end(batch->deadline);
  if (options_.acks == Acks::kNone) {
    const auto told = co_await connection->tell(std::move(request), end, {batch->encoded});
    batch->fate = told ? Fate::kDelivered : Fate::kRetry;
    if (!told) batch->error = told.error();
    lane.changed.wake_all();
    co_return;
  }
  const auto reply =
      co_await connection->call<kafka::ProduceResponse>(std::move(request), end, {batch->encoded});
  if (!reply) {
    batch->error = reply.error();
    batch->fate = is_retriable(reply.error()) ? Fate::kRetry : Fate::kFailed;
    cluster_.forget_topic(lane.partition.topic);
  } else if (reply->message.responses.size() != 1 ||
             reply->message.responses[0].partition_responses.size() != 1) {
    batch->error = {Code::kCorrupt, to_string(lane.partition) + ": the answer is about another", 0};
    batch->fate = Fate::kFailed;
  } else {
    const auto& answer = reply->message.responses[0].partition_responses[0];
    for (const auto& each : reply->message.node_endpoints) {
      cluster_.learn_node(each.node_id, {each.host, static_cast<std::uint16_t>(each.port)});
    }
    if (traits_of(answer.error_code).stale_metadata) {
      const LeaderHint hint{answer.current_leader.leader_id, answer.current_leader.leader_epoch};
      const bool known = cluster_.refused(lane.partition, connection->address(),
                                          static_cast<KafkaError>(answer.error_code), hint);
      lane.redirected = known || lane.redirected;
    }
    judge(lane, *batch, answer.error_code, answer.error_message, answer.base_offset,
          answer.log_start_offset);
  }
  lane.changed.wake_all();
}

void Producer::judge(Lane& lane, Batch& batch, std::int16_t code,
                     const std::optional<std::string>& said, std::int64_t base_offset,
                     std::int64_t log_start) {
  const auto error = static_cast<KafkaError>(code);
  if (error == KafkaError::kNone || error == KafkaError::kDuplicateSequenceNumber) {
    batch.fate = Fate::kDelivered;
    batch.offset = base_offset;
    return;
  }
  batch.error = to_error(to_string(lane.partition), code, said);
  const ErrorTraits& traits = traits_of(code);
  // The server cannot take a batch before those ahead of it: only the first in line is really
  // wrong.
  const bool first = lane.in_flight.empty() || lane.in_flight.front().get() == &batch;
  const bool gap =
      error == KafkaError::kOutOfOrderSequenceNumber || error == KafkaError::kUnknownProducerId;
  if (gap && !first) {
    batch.fate = Fate::kRetry;
    return;
  }
  if (error == KafkaError::kUnknownProducerId && log_start > lane.last_offset) {
    // All that the server remembered of us has been deleted by retention: nothing was lost.
    batch.fate = Fate::kRetry;
    lane.renumber = true;
    return;
  }
  batch.fate = traits.retriable ? Fate::kRetry : Fate::kFailed;
}

/// Takes out of flight what is decided.
void Producer::settle(Lane& lane) {
  for (auto it = lane.in_flight.begin(); it != lane.in_flight.end();) {
    const std::shared_ptr<Batch> batch = *it;
    if (batch->fate == Fate::kInFlight || batch->fate == Fate::kRetry) {
      if (batch->fate == Fate::kRetry) lane.troubled = true;
      ++it;
      continue;
    }
    it = lane.in_flight.erase(it);
    if (batch->fate == Fate::kDelivered) {
      complete(lane, *batch);
      continue;
    }
    // The server did not take it, so it will refuse the numbers that follow.
    if (options_.idempotent) {
      lane.renumber = true;
      lane.troubled = true;
    }
    give_up(*batch, batch->error);
  }
}

void Producer::complete(Lane& lane, Batch& batch) {
  const auto count = static_cast<std::int64_t>(batch.waiting.size());
  if (batch.offset >= 0) {
    lane.last_offset = std::max(lane.last_offset, batch.offset + count - 1);
    if (options_.session != nullptr) {
      options_.session->reached(lane.partition, {batch.topic, batch.epoch, batch.offset + count});
    }
  }
  acknowledged_ += static_cast<std::uint64_t>(count);
  for (std::int64_t i = 0; i < count; ++i) {
    Delivered& done = batch.waiting[static_cast<std::size_t>(i)];
    if (done) done(Delivery{lane.partition, batch.offset < 0 ? -1 : batch.offset + i});
  }
  release(batch);
}

void Producer::give_up(Batch& batch, const Error& error) {
  failed_ += batch.waiting.size();
  if (!first_error_) first_error_ = error;
  for (Delivered& done : batch.waiting) {
    if (done) done(fail(error));
  }
  release(batch);
}

void Producer::release(Batch& batch) {
  batch.waiting.clear();
  buffered_ -= std::exchange(batch.bytes, 0);
  --outstanding_;
  space_.wake_all();
  if (outstanding_ == 0) idle_.wake_all();
}

/// Gives up the queued batches whose time is up. What was tried may have been stored: everything
/// after it that was tried too is given up with it, for under fresh numbers it might be stored
/// twice.
void Producer::expire(Lane& lane) {
  const Instant now = io::Shard::current().now();
  const Duration slack = cluster_.options().backoff.most;
  bool uncertain = false;
  while (!lane.queued.empty()) {
    const std::shared_ptr<Batch> batch = lane.queued.front();
    const bool due = abandoned_ || now + slack >= batch->deadline;
    if (!due && !(uncertain && batch->attempted)) break;
    lane.queued.pop_front();
    if (options_.idempotent && batch->attempted) {
      uncertain = true;
      lane.own_id = true;
      lane.producer_id = -1;
    }
    Error error{Code::kTimedOut, to_string(lane.partition) + ": not acknowledged in time", 0};
    if (abandoned_) error = {Code::kCancelled, to_string(lane.partition) + ": given up", 0};
    if (!batch->error.message.empty()) error.message += "; last: " + batch->error.message;
    give_up(*batch, error);
  }
}

io::Task<Result<void>> Producer::flush() {
  ++flushing_;
  for (auto& [partition, lane] : lanes_) lane->changed.wake_all();
  while (outstanding_ > 0) co_await idle_.wait(Instant::never());
  --flushing_;
  if (first_error_) co_return fail(*std::exchange(first_error_, std::nullopt));
  co_return Result<void>();
}

io::Task<void> Producer::close() {
  closed_ = true;
  space_.wake_all();
  for (auto& [partition, lane] : lanes_) lane->changed.wake_all();
  co_await tasks_.join();
}

void Producer::abandon() {
  abandoned_ = true;
  closed_ = true;
  space_.wake_all();
  for (auto& [partition, lane] : lanes_) lane->changed.wake_all();
}

}  // namespace pyralog::client
