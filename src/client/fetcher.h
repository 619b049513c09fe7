#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "client/cluster.h"
#include "io/shard.h"
#include "model/record_batch.h"
#include "wire/kafka/gen/fetch.h"

namespace pyralog::client {

struct FetchOptions {
  Duration max_wait = 500ms;  ///< how long the server may wait for min_bytes
  std::int32_t min_bytes = 1;
  std::int32_t max_bytes = 50 << 20;
  std::int32_t partition_max_bytes = 1 << 20;
  bool read_committed = true;
};

/// One record batch as it was stored, CRC checked. Records below `from` were seen before.
struct PolledBatch {
  TopicPartition partition;
  BatchHeader header;
  SharedBytes bytes;
  std::int64_t from = 0;
};

/// Reads partitions from their leaders, one request per server at a time, a response ahead of the
/// reader. Lives on one shard; close() before destroying.
class Fetcher {
 public:
  Fetcher(Cluster& cluster, FetchOptions options);
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;
  ~Fetcher();

  /// Reads `partition` from `offset` on; forgets what was read ahead of it.
  void add(const TopicPartition& partition, std::int64_t offset);
  void remove(const TopicPartition& partition);
  void clear();

  /// The batches that have arrived, in each partition's order; empty at `deadline` or after wake().
  /// An error that will not pass ends the call; kOutOfRange means that `out_of_range` names
  /// partitions to be added again.
  [[nodiscard]] io::Task<Result<std::vector<PolledBatch>>> poll(Instant deadline);
  /// Partitions whose offset the log does not have.
  [[nodiscard]] std::vector<TopicPartition> out_of_range() const;
  void wake();

  /// The offset after what poll() has handed out; nullopt if the partition is not read.
  [[nodiscard]] std::optional<std::int64_t> position(const TopicPartition& partition) const;
  [[nodiscard]] std::vector<TopicPartition> partitions() const;
  /// As last told; −1 before the first answer.
  [[nodiscard]] std::int64_t high_watermark(const TopicPartition& partition) const;

  [[nodiscard]] io::Task<void> close();

 private:
  struct State {
    std::uint64_t version = 0;  ///< answers to older requests are dropped
    std::int64_t position = 0;  ///< after what was handed out
    std::int64_t fetch_at = 0;  ///< after what was read
    std::int64_t high_watermark = -1;
    std::size_t buffered = 0;  ///< batches read and not handed out
    bool out_of_range = false;
    Instant not_before{};  ///< after an error
  };
  struct Wanted {
    TopicPartition partition;
    std::uint64_t version = 0;
    std::int64_t at = 0;
  };

  [[nodiscard]] io::Task<Result<void>> start_fetches(Instant deadline);
  io::Task<void> fetch(std::shared_ptr<Connection> connection, std::vector<Wanted> wanted);
  void take(const wire::kafka::FetchResponse::Partition& answer, const Wanted& wanted,
            const SharedBytes& frame);
  void take_batches(const wire::kafka::FetchResponse::Partition& answer, State& state,
                    const TopicPartition& partition, const SharedBytes& frame);
  void fail_with(Error error);
  std::vector<PolledBatch> hand_out();

  Cluster& cluster_;
  FetchOptions options_;
  std::map<TopicPartition, State> states_;
  std::deque<PolledBatch> buffer_;
  std::set<const Connection*> busy_;
  std::uint64_t next_version_ = 1;
  std::optional<Error> error_;
  io::WaitList arrived_;
  io::TaskGroup tasks_;
  bool woken_ = false;
  bool closed_ = false;
};

/// Calls `use` with each record of `batch` from `batch.from` on. kCorrupt, kTooLarge.
template <typename F>
[[nodiscard]] Result<void> for_each_record(const PolledBatch& batch, F use) {
  PYRALOG_ASSIGN(auto reader, RecordReader::open(batch.bytes.view(), 1u << 30));
  for (;;) {
    PYRALOG_ASSIGN(const auto record, reader.next());
    if (!record) return {};
    if (record->offset >= batch.from) use(*record);
  }
}

}  // namespace pyralog::client
