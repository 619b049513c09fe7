#include <algorithm>
#include <optional>

#include "base/plant.h"
#include "broker/broker.h"
#include "io/pools.h"

namespace pyralog::broker {

namespace {

/// A batch that opens to no more than this is opened on its shard: it takes less than a millisecond.
constexpr std::size_t kOpenedHere = 128u << 10;
/// What goes from a leader to its followers in one message.
constexpr std::size_t kMostReplicated = 31u << 20;

/// What a look at a batch gave.
struct Judged {
  std::optional<BatchFault> fault;
  BatchHeader header;
  BatchContent content;
};

Judged judge(ByteView records, const BatchCheck& limits) {
  Judged out;
  out.fault = check_batch(records, limits, out.header, &out.content);
  return out;
}

KafkaError kafka_error(BatchFault fault) {
  switch (fault) {
    case BatchFault::kTruncated:
    case BatchFault::kBadCrc:
      return KafkaError::kCorruptMessage;
    case BatchFault::kBadTimestamp:
      return KafkaError::kInvalidTimestamp;
    case BatchFault::kBadCodec:
      return KafkaError::kUnsupportedCompressionType;
    case BatchFault::kTransactional:
      return KafkaError::kInvalidTxnState;
    case BatchFault::kTooLarge:
      return KafkaError::kMessageTooLarge;
    case BatchFault::kNotOne:
    case BatchFault::kBadMagic:
    case BatchFault::kBadCount:
    case BatchFault::kBadProducer:
    case BatchFault::kControl:
    case BatchFault::kBadRecord:
    case BatchFault::kNullKey:
      return KafkaError::kInvalidRecord;
  }
  return KafkaError::kUnknownServerError;
}

ProduceOutcome refuse(KafkaError error, std::string message) {
  ProduceOutcome out;
  out.error = error;
  out.message = std::move(message);
  return out;
}

/// `min` and `max` are −1 where no record has a timestamp.
bool timestamps_allowed(std::int64_t min, std::int64_t max, const catalog::TopicConfig& config,
                        WallMs now) {
  if (config.log_append_time || max < 0) return true;
  if (max > now.ms && max - now.ms > config.timestamp_after_max_ms) return false;
  return min >= now.ms || min < 0 || now.ms - min <= config.timestamp_before_max_ms;
}

}  // namespace

ProduceOutcome Broker::admit(const ProduceItem& item, Acks acks, PartitionId& id,
                             catalog::TopicPtr& topic) const {
  const auto resolved = resolve(item.target);
  if (!resolved) {
    return refuse(resolved.error(), "topic " + item.target.topic + " has no partition " +
                                        std::to_string(item.target.partition));
  }
  id = *resolved;
  topic = catalog()->topic(id.topic);
  const catalog::TopicConfig& config = topic->config;
  if (topic->internal()) {
    return refuse(KafkaError::kInvalidTopicException,
                  "topic " + topic->name + ": only its coordinators write to it");
  }
  const SpaceStatus& space = local().space;
  if (space.refusing && config.durability != Durability::kMemory &&
      !PYRALOG_PLANT("broker.write_on_full_disk")) {
    ++local().refused_for_space;
    return refuse(KafkaError::kKafkaStorageError,
                  "topic " + topic->name + ": " + space_complaint());
  }
  const std::size_t replicas =
      topic->partitions[static_cast<std::size_t>(id.partition.value)]->replicas.size();
  if (replicas > 1 && item.records.size() > kMostReplicated) {
    return refuse(KafkaError::kMessageTooLarge,
                  "topic " + topic->name + ": a batch of a topic with several replicas takes at most " +
                      std::to_string(kMostReplicated) + " bytes");
  }
  if (acks == Acks::kAll &&
      static_cast<std::size_t>(config.min_insync_replicas) >
          replicas) {
    return refuse(KafkaError::kNotEnoughReplicas,
                  "topic " + topic->name + ": fewer replicas than min.insync.replicas");
  }
  return {};
}

namespace {

ProduceOutcome conclude(const ProduceItem& item, const catalog::Topic& topic, PartitionId id,
                        Judged judged, BatchHeader& header) {
  if (judged.fault) {
    ProduceOutcome out = refuse(kafka_error(*judged.fault),
                                "topic " + topic.name + ", partition " +
                                    std::to_string(id.partition.value) + ": " +
                                    describe(*judged.fault));
    if (*judged.fault == BatchFault::kNullKey) out.bad_records = std::move(judged.content.keyless);
    return out;
  }
  header = judged.header;
  const BatchContent& content = judged.content;
  const std::int64_t min = content.seen ? content.min_timestamp : header.base_timestamp;
  // A search by time goes by the header, so what it says must be true.
  if (content.seen && content.max_timestamp != header.max_timestamp &&
      !PYRALOG_PLANT("broker.believe_max_timestamp")) {
    assign_max_timestamp(item.records, content.max_timestamp);
    header = *parse_batch_header(item.records);
  }
  if (!timestamps_allowed(min, header.max_timestamp, topic.config, io::Shard::current().wall())) {
    return refuse(KafkaError::kInvalidTimestamp,
                  "topic " + topic.name +
                      ": a timestamp is further from now than message.timestamp.before.max.ms or "
                      "message.timestamp.after.max.ms allows");
  }
  return {};
}

}  // namespace

io::Task<std::vector<ProduceOutcome>> Broker::produce(std::vector<ProduceItem> items, Acks acks,
                                                      Duration timeout, io::Turn* order) {
  struct Checked {
    PartitionId id;
    BatchHeader header;
    replica::AppendOutcome appended;
  };
  std::vector<ProduceOutcome> outcomes(items.size());
  std::vector<Checked> checked(items.size());
  std::optional<io::Turn::Guard> turn;
  // Whatever comes after a batch that is opened elsewhere waits until that has been appended.
  if (order != nullptr && order->busy() && !PYRALOG_PLANT("broker.overtake_opening")) {
    turn.emplace(co_await order->lock());
  }
  Groups groups(shards_.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    catalog::TopicPtr topic;
    outcomes[i] = admit(items[i], acks, checked[i].id, topic);
    if (outcomes[i].error != KafkaError::kNone) continue;
    const catalog::TopicConfig& config = topic->config;
    BatchCheck limits;
    limits.max_bytes = static_cast<std::size_t>(config.max_message_bytes);
    limits.require_keys = config.cleanup_compact;
    limits.open_compressed = config.full_validation;
    limits.max_inflated_bytes = std::min(options_.max_inflated_bytes, kOpenedHere);
    Judged judged = judge(items[i].records, limits);
    if (judged.content.unopened && limits.max_inflated_bytes < options_.max_inflated_bytes) {
      // A small batch may open to a hundred megabytes: that holds up nobody's shard.
      if (order != nullptr && !turn) turn.emplace(co_await order->lock());
      limits.max_inflated_bytes = options_.max_inflated_bytes;
      judged = co_await io::run_in(io::Pool::kWork, [records = ByteView(items[i].records), limits] {
        return judge(records, limits);
      });
    }
    outcomes[i] = conclude(items[i], *topic, checked[i].id, std::move(judged), checked[i].header);
    if (outcomes[i].error != KafkaError::kNone) continue;
    groups[ShardBroker::shard_of(checked[i].id, shards_.size())].push_back(i);
  }
  const Instant deadline = io::Shard::current().now() + timeout;
  const auto append = [&](replica::Replica& to, std::size_t i) -> io::Task<void> {
    const Instant asked = io::Shard::current().now();
    checked[i].appended =
        co_await to.append({std::move(items[i].owner), items[i].records, checked[i].header});
    outcomes[i].waited = io::Shard::current().now() - asked;
  };
  const auto work = [&](unsigned s, const std::vector<std::size_t>& mine) -> io::Task<void> {
    std::vector<std::shared_ptr<replica::Replica>> replicas(mine.size());
    // All appends begin before the first is waited for: one that needs a new segment must not let
    // the next request overtake this one in the other partitions.
    const Instant began = io::Shard::current().now();
    io::TaskGroup appends;
    for (std::size_t k = 0; k < mine.size(); ++k) {
      const std::size_t i = mine[k];
      const Hosted* hosted = states_[s]->partitions.find(checked[i].id);
      if (hosted == nullptr || hosted->replica == nullptr) {
        outcomes[i] = refuse(
            hosted == nullptr ? KafkaError::kNotLeaderOrFollower : KafkaError::kKafkaStorageError,
            hosted == nullptr ? "the partition is being made" : hosted->failed->message);
        continue;
      }
      replicas[k] = hosted->replica;
      appends.spawn(append(*replicas[k], i));
    }
    co_await appends.join();
    for (std::size_t k = 0; k < mine.size(); ++k) {
      if (replicas[k] == nullptr) continue;
      const std::size_t i = mine[k];
      const replica::AppendOutcome& appended = checked[i].appended;
      ProduceOutcome& out = outcomes[i];
      out.log_start = replicas[k]->log_start().value;
      out.error = appended.error;
      out.message = appended.message;
      if (appended.no_space) look_soon(*states_[s]);
      if (out.error == KafkaError::kNone && acks == Acks::kAll) {
        const Instant asked = io::Shard::current().now();
        out.error = co_await replicas[k]->wait_committed(appended.end, appended.epoch, deadline);
        out.waited += io::Shard::current().now() - asked;
      }
      out.stored_in = io::Shard::current().now() - began;
      if (out.error != KafkaError::kNone) continue;
      out.base_offset = appended.base.value;
      out.append_time_ms = appended.append_time_ms;
    }
  };
  if (turn) {
    io::TaskGroup appending;
    appending.spawn(scatter(std::move(groups), work));  // begins all appends, or sends them on their way
    turn.reset();
    co_await appending.join();
  } else {
    co_await scatter(std::move(groups), work);
  }
  co_return outcomes;
}

}  // namespace pyralog::broker
