// Clients that produce: with every acks, idempotent or not, several batches under way, sent again
// after every failure until the server says what became of them.
#include <algorithm>
#include <deque>
#include <set>

#include "wire/kafka/gen/init_producer_id.h"
#include "wire/kafka/gen/produce.h"
#include "world.h"

namespace pyralog::simtest {

namespace {

using wire::InitProducerIdRequest;
using wire::InitProducerIdResponse;
using wire::ProduceRequest;
using wire::ProduceResponse;
using namespace std::chrono_literals;

constexpr std::int16_t kVersion = 9;
constexpr Duration kPatience = 300ms;

class Producer {
 public:
  Producer(World& world, ProducerPlan plan, std::uint64_t seed)
      : world_(world),
        plan_(std::move(plan)),
        rng_(seed),
        link_(fmt::format("producer-{}", plan_.number)) {}

  io::Task<void> run() {
    while (const auto busy = co_await world_.enter(rng_, plan_.think)) {
      if (!co_await world_.connect(link_)) continue;
      if (plan_.idempotent && id_ < 0 && !co_await take_id()) continue;
      co_await round();
    }
    link_.close();
  }

 private:
  struct Batch {
    Bytes bytes;
    std::vector<std::uint64_t> records;
    std::int32_t sequence = -1;
    std::int64_t base = -1;  ///< where it was acknowledged
    bool sent_before = false;
  };

  io::Task<bool> take_id() {
    InitProducerIdRequest request;
    request.transaction_timeout_ms = 60'000;
    auto answer = co_await link_.call<InitProducerIdResponse>(std::move(request), 4, kPatience);
    if (!answer || answer->message.error_code != 0) co_return false;
    id_ = answer->message.producer_id;
    epoch_ = answer->message.producer_epoch;
    next_sequence_ = 0;
    last_ = -1;
    losses_ = world_.oracle.partition(plan_.partition).losses;
    world_.trace.add("producer {} has id {}", plan_.number, id_);
    if (!world_.oracle.is_new_producer_id(id_)) {
      world_.oracle.violate(fmt::format("producer id {} was given out twice", id_));
    }
    co_return true;
  }

  void make_batch() {
    const Codec codecs[] = {Codec::kNone,   Codec::kNone, Codec::kNone, Codec::kGzip,
                            Codec::kSnappy, Codec::kLz4,  Codec::kZstd};
    BatchBuilder builder(codecs[rng_.below(std::size(codecs))]);
    Batch batch;
    const std::uint64_t count = rng_.chance(0.1) ? 1 + rng_.below(20) : 1 + rng_.below(3);
    const std::int64_t wall = io::Shard::current().wall().ms;
    for (std::uint64_t i = 0; i < count; ++i) {
      NewRecord record;
      record.timestamp = wall - static_cast<std::int64_t>(rng_.below(50));
      const std::uint64_t number = world_.oracle.new_record(plan_.partition, plan_.number,
                                                            plan_.idempotent, record.timestamp);
      const Bytes value = Oracle::value_of(number);
      if (world_.oracle.sent(number).tombstone) {
        record.headers.push_back({"number", ByteView(value)});
      } else {
        record.value = ByteView(value);
      }
      const std::string key = Oracle::key_of(number);
      if (world_.oracle.partition(plan_.partition).forgets.compacted) record.key = as_bytes(key);
      builder.add(record);
      batch.records.push_back(number);
    }
    if (plan_.idempotent) {
      batch.sequence = next_sequence_;
      builder.producer(id_, epoch_, next_sequence_);
      next_sequence_ += static_cast<std::int32_t>(count);
    }
    batch.bytes = builder.build().value();
    pending_.push_back(std::move(batch));
  }

  io::Task<bool> send(Batch& batch) {
    ProduceRequest request;
    request.acks = static_cast<std::int16_t>(plan_.acks);
    request.timeout_ms = 200;
    auto& topic = request.topic_data.emplace_back();
    topic.name = plan_.topic;
    auto& partition = topic.partition_data.emplace_back();
    partition.index = plan_.index;
    partition.records = wire::Records::of(batch.bytes);
    for (const std::uint64_t record : batch.records) world_.oracle.attempted(record);
    if (std::exchange(batch.sent_before, true)) world_.count("client.sent_again");
    world_.trace.add("producer {} sends {}..{} acks {} sequence {}", plan_.number,
                     batch.records.front(), batch.records.back(), request.acks, batch.sequence);
    co_return (co_await link_.send(request, kVersion)).has_value();
  }

  io::Task<void> round() {
    const std::size_t want = 1 + rng_.below(plan_.window);
    while (pending_.size() < want) make_batch();
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      order.push_back(i);
      if (!plan_.idempotent || !rng_.chance(0.1)) continue;
      order.push_back(i);
      world_.count("client.sent_twice_at_once");
    }
    if (order.size() > 1) world_.count("client.pipelined");
    for (const std::size_t i : order) {
      if (!co_await send(pending_[i])) co_return;
    }
    if (plan_.acks == Acks::kNone) {
      pending_.clear();
      co_return;
    }
    for (const std::size_t i : order) {
      auto answer = co_await link_.receive<ProduceResponse>(kVersion, kPatience);
      if (!answer) {
        world_.trace.add("producer {} hears nothing", plan_.number);
        break;
      }
      if (!take(i, answer->message.responses.at(0).partition_responses.at(0))) break;
    }
    settle();
  }

  /// False if the producer begins anew.
  bool take(std::size_t i, const ProduceResponse::Partition& answer) {
    Batch& batch = pending_[i];
    const auto error = static_cast<KafkaError>(answer.error_code);
    world_.trace.add("producer {} hears of {}..{}: error {} offset {}", plan_.number,
                     batch.records.front(), batch.records.back(), answer.error_code,
                     answer.base_offset);
    if (error == KafkaError::kNone) {
      if (batch.base < 0) {
        batch.base = answer.base_offset;
        last_ = std::max(last_, batch.base + static_cast<std::int64_t>(batch.records.size()) - 1);
        world_.oracle.acknowledged(plan_.partition, batch.base, batch.records, plan_.acks);
        world_.count("client.acknowledged");
      } else if (batch.base != answer.base_offset) {
        world_.oracle.violate(fmt::format("a batch of {}-{} was acknowledged at {} and at {}",
                                          plan_.topic, plan_.index, batch.base,
                                          answer.base_offset));
      }
      return true;
    }
    world_.count(fmt::format("client.produce_error_{}", answer.error_code));
    switch (error) {
      case KafkaError::kOutOfOrderSequenceNumber:
      case KafkaError::kUnknownProducerId: {
        // Batches behind one that failed are refused, too; they are sent again after it.
        for (std::size_t k = 0; k < i; ++k) {
          if (pending_[k].base < 0) return true;
        }
        if (batch.base >= 0) return true;
        const bool unknown = error == KafkaError::kUnknownProducerId;
        // Of a batch in doubt the front may have been forgotten and a later one not. That answer does
        // not say where the log begins.
        const std::int64_t start = unknown             ? answer.log_start_offset
                                   : batch.sent_before ? world_.oracle.start_of(plan_.partition)
                                                       : -1;
        world_.oracle.sequence_lost(plan_.partition, losses_, start, last_,
                                    answer.error_message.value_or(""));
        begin_anew_ = true;
        return false;
      }
      case KafkaError::kInvalidTimestamp:
        if (world_.sim.stats()["fault.clock_jump_of_a_day"] > 0) return true;
        [[fallthrough]];
      default:
        world_.oracle.violate(fmt::format("a batch for {}-{} was refused with error {}: {}",
                                          plan_.topic, plan_.index, answer.error_code,
                                          answer.error_message.value_or("")));
        return true;
      case KafkaError::kNotLeaderOrFollower:
      case KafkaError::kRequestTimedOut:
      case KafkaError::kKafkaStorageError:
        return true;
    }
  }

  void settle() {
    std::erase_if(pending_, [](const Batch& b) { return b.base >= 0; });
    if (!std::exchange(begin_anew_, false)) return;
    // Whether the rest was appended nobody can tell; sent under another id it could be twice.
    pending_.clear();
    link_.close();
    id_ = -1;
  }

  World& world_;
  ProducerPlan plan_;
  io::SeededRng rng_;
  Link link_;
  std::int64_t id_ = -1;
  std::int16_t epoch_ = 0;
  std::int32_t next_sequence_ = 0;
  std::uint64_t losses_ = 0;
  std::int64_t last_ = -1;  ///< greatest offset that was acknowledged to this id
  bool begin_anew_ = false;
  std::deque<Batch> pending_;
};

}  // namespace

io::Task<void> run_producer(World& world, ProducerPlan plan, std::uint64_t seed) {
  Producer producer(world, std::move(plan), seed);
  co_await producer.run();
}

}  // namespace pyralog::simtest
