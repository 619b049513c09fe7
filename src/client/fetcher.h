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
#include "client/session.h"
#include "io/shard.h"
#include "model/record_batch.h"
#include "wire/kafka/gen/fetch.h"

namespace pyralog::client {

/// Which replica of a partition a consumer reads.
enum class ReadFrom : std::uint8_t {
  kLeader,
  kNearest,  ///< in FetchOptions::rack, if the leader names one there (KIP-392); else the leader
};

struct FetchOptions {
  Duration max_wait = 500ms;  ///< how long the server may wait for min_bytes
  std::int32_t min_bytes = 1;
  std::int32_t max_bytes = 50 << 20;
  std::int32_t partition_max_bytes = 1 << 20;
  bool read_committed = true;
  ReadFrom read_from = ReadFrom::kLeader;
  std::string rack{};  ///< where this client is; needed for kNearest
  std::shared_ptr<Session>
      session{};                 ///< what is read is not older than this; null = as it is found
  Duration back_at_leader = 2s;  ///< for so long after a replica was of no use
};

/// One record batch as it was stored, CRC checked. Records below `from` were seen before.
struct PolledBatch {
  TopicPartition partition;
  BatchHeader header;
  SharedBytes bytes;
  std::int64_t from = 0;
};

/// Reads partitions from their leaders, or the replicas that those name, one request per server at
/// a time, a response ahead of the reader. A replica that fails, is behind the session, or lacks
/// what is asked for sends the reader back to the leader. Lives on one shard; close() before
/// destroying.
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
  /// The replica that is read in place of the leader; −1 = none.
  [[nodiscard]] std::int32_t replica(const TopicPartition& partition) const;

  [[nodiscard]] io::Task<void> close();

 private:
  struct State {
    std::uint64_t version = 0;  ///< answers to older requests are dropped
    std::int64_t position = 0;  ///< after what was handed out
    std::int64_t fetch_at = 0;  ///< after what was read
    std::int64_t high_watermark = -1;
    TopicId topic;             ///< of the last answer
    std::size_t buffered = 0;  ///< batches read and not handed out
    bool out_of_range = false;
    Instant not_before{};       ///< after an error
    std::int32_t replica = -1;  ///< to read from, until then
    Instant replica_until{};
    Instant leader_until{};  ///< no replica before then
  };
  struct Wanted {
    TopicPartition partition;
    std::uint64_t version = 0;
    std::int64_t at = 0;
    bool from_replica = false;
    TopicId id;
  };
  /// What goes in one request: `near` says where the client is, so that it may be sent to a replica
  /// there, or reads from one.
  struct Way {
    std::shared_ptr<Connection> connection;
    bool near = false;
    friend auto operator<=>(const Way& a, const Way& b) {
      return std::pair(a.connection.get(), a.near) <=> std::pair(b.connection.get(), b.near);
    }
    friend bool operator==(const Way& a, const Way& b) { return (a <=> b) == 0; }
  };

  [[nodiscard]] io::Task<Result<void>> start_fetches(Instant deadline);
  [[nodiscard]] io::Task<Result<Way>> way_to(TopicPartition partition, Instant deadline);
  io::Task<void> fetch(Way way, std::vector<Wanted> wanted);
  [[nodiscard]] wire::kafka::FetchRequest request_for(const Way& way,
                                                      const std::vector<Wanted>& wanted) const;
  void take(const wire::kafka::FetchResponse::Partition& answer, const Wanted& wanted,
            const io::Address& from, const SharedBytes& frame);
  void refused(const wire::kafka::FetchResponse::Partition& answer, const Wanted& wanted,
               const io::Address& from, State& state);
  /// Whether the replica that has just had nothing lacks what the session has met.
  [[nodiscard]] bool is_behind(const TopicPartition& partition, const State& state) const;
  void back_to_leader(State& state);
  void take_batches(const wire::kafka::FetchResponse::Partition& answer, State& state,
                    const TopicPartition& partition, const SharedBytes& frame);
  void fail_with(Error error);
  std::vector<PolledBatch> hand_out();

  Cluster& cluster_;
  FetchOptions options_;
  std::map<TopicPartition, State> states_;
  std::deque<PolledBatch> buffer_;
  std::set<Way> busy_;
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
