#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/compression.h"
#include "base/result.h"
#include "client/cluster.h"
#include "client/session.h"
#include "io/shard.h"
#include "model/fundamental.h"
#include "model/record_batch.h"

namespace pyralog::client {

struct ProducerOptions {
  Acks acks = Acks::kAll;
  bool idempotent = true;  ///< each record once, in order; needs acks kAll, else it is off
  Codec codec = Codec::kNone;
  std::size_t batch_bytes = 256u << 10;  ///< uncompressed; a larger record gets a batch of its own
  Duration linger = 5ms;                 ///< how long a batch waits for more records
  Duration delivery_timeout = 120s;      ///< from send() to giving up
  unsigned max_in_flight = 5;            ///< batches under way per partition; at most 5
  std::size_t buffer_bytes = 64u << 20;  ///< unsent and unacknowledged; beyond it send() waits
  bool create_topics = true;
  std::shared_ptr<Session> session{};  ///< takes note of what is acknowledged; null = nobody reads it
};

struct ProducerRecord {
  std::string topic;
  std::optional<std::int32_t> partition;  ///< else by key (murmur2), else sticky
  std::optional<Bytes> key;
  std::optional<Bytes> value;
  std::vector<std::pair<std::string, std::optional<Bytes>>> headers;
  std::int64_t timestamp = -1;  ///< −1 = now
};

struct Delivery {
  TopicPartition partition;
  std::int64_t offset = -1;  ///< −1 = not told (acks 0)
};
/// Called once per record, on the producer's shard, in the order of a partition's records.
using Delivered = std::move_only_function<void(const Result<Delivery>&)>;

/// Batches records per partition and sends them until they are acknowledged or their time is up. An
/// idempotent producer numbers batches once and repeats them under the same numbers, so that the
/// server can drop what it has; when a batch is given up its partition goes on under a fresh
/// producer id. Lives on one shard, on top of a Cluster; close() before destroying, and before the
/// cluster.
class Producer {
 public:
  Producer(Cluster& cluster, ProducerOptions options);
  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;
  ~Producer();

  /// Queues a record; waits while the buffer is full. An error means that it was not queued and
  /// `done` will not be called.
  [[nodiscard]] io::Task<Result<void>> send(ProducerRecord record, Delivered done = {});
  /// Waits until everything sent before is acknowledged or given up; the first error since the last
  /// flush, if there was one.
  [[nodiscard]] io::Task<Result<void>> flush();
  /// Flushes, then ends the producer's coroutines.
  [[nodiscard]] io::Task<void> close();
  /// Gives up all that is not acknowledged; close() then returns soon.
  void abandon();

  [[nodiscard]] std::uint64_t acknowledged() const { return acknowledged_; }
  [[nodiscard]] std::uint64_t failed() const { return failed_; }
  [[nodiscard]] std::size_t buffered_bytes() const { return buffered_; }

 private:
  enum class Fate : std::uint8_t { kUnsent, kInFlight, kDelivered, kRetry, kFailed };
  struct Batch;
  struct Lane;

  [[nodiscard]] std::int32_t choose_partition(const ProducerRecord& record, const TopicInfo& info);
  Lane& lane_of(const TopicPartition& partition);
  void append(Lane& lane, const ProducerRecord& record, std::size_t size, Delivered done);
  io::Task<void> run(Lane& lane);
  [[nodiscard]] io::Task<void> recover(Lane& lane);
  [[nodiscard]] io::Task<void> launch(Lane& lane, io::Backoff& backoff);
  [[nodiscard]] io::Task<Result<std::shared_ptr<Connection>>> ready_to_send(Lane& lane);
  [[nodiscard]] io::Task<Result<void>> identify(Lane& lane, Instant deadline);
  io::Task<void> attempt(Lane& lane, std::shared_ptr<Batch> batch,
                         std::shared_ptr<Connection> connection);
  void judge(Lane& lane, Batch& batch, std::int16_t code, const std::optional<std::string>& said,
             std::int64_t base_offset, std::int64_t log_start);
  void settle(Lane& lane);
  void complete(Lane& lane, Batch& batch);
  void give_up(Batch& batch, const Error& error);
  void expire(Lane& lane);
  void release(Batch& batch);
  [[nodiscard]] bool is_due(const Lane& lane) const;

  Cluster& cluster_;
  ProducerOptions options_;
  std::map<TopicPartition, std::unique_ptr<Lane>> lanes_;
  std::map<std::string, std::int32_t> sticky_;
  std::int64_t shared_id_ = -1;
  std::int16_t shared_epoch_ = -1;
  io::Turn identifying_;
  std::size_t buffered_ = 0;
  std::size_t outstanding_ = 0;  ///< batches neither acknowledged nor given up
  unsigned flushing_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t failed_ = 0;
  std::optional<Error> first_error_;
  io::WaitList space_;
  io::WaitList idle_;
  io::TaskGroup tasks_;
  bool closed_ = false;
  bool abandoned_ = false;
};

}  // namespace pyralog::client
