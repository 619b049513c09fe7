#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "client/cluster.h"
#include "io/shard.h"
#include "wire/kafka/api.h"

namespace pyralog::client::testing {

/// What the broker of a test does with one request beside answering it.
struct Fault {
  enum class Kind : std::uint8_t {
    kNone,
    kCutBefore,  ///< closes the connection, the request is not carried out
    kSwallow,    ///< carries it out, does not answer, closes the connection
    kError,      ///< does not carry it out, answers `code`
    kSilence,    ///< carries it out and never answers
  };
  Kind kind = Kind::kNone;
  std::int16_t code = 0;
};

/// A Kafka broker in memory for tests of the client: produce with the server's sequence checks,
/// fetch, offsets, groups of one member. Runs on the shard that calls serve().
class FakeBroker {
 public:
  struct Partition {
    std::vector<Bytes> batches;  ///< with base offsets
    std::int64_t start = 0;
    std::int64_t end = 0;
    bool led_by_another = false;  ///< than it prefers
    std::int16_t refuses_election = 0;  ///< an error code
    std::map<std::int64_t, std::int32_t> next_sequence;  ///< by producer id
  };

  FakeBroker(std::string host, std::uint16_t port) : host_(std::move(host)), port_(port) {}
  ~FakeBroker() = default;
  FakeBroker(const FakeBroker&) = delete;
  FakeBroker& operator=(const FakeBroker&) = delete;

  void add_topic(const std::string& name, std::int32_t partitions);
  [[nodiscard]] io::Task<void> serve();
  void stop();

  /// Asked for every request, in order.
  std::function<Fault(const wire::kafka::RequestFrame&)> fault;
  /// Highest versions told, for tests of negotiation.
  std::map<std::int16_t, std::int16_t> version_limits;

  [[nodiscard]] Partition& partition(const std::string& topic, std::int32_t index) {
    return topics_.at(topic).at(static_cast<std::size_t>(index));
  }
  /// The values of all records of a partition.
  [[nodiscard]] std::vector<std::string> values(const std::string& topic, std::int32_t index);
  [[nodiscard]] std::int64_t committed(const std::string& topic, std::int32_t index) const;
  /// How often an API was asked for.
  [[nodiscard]] int count(wire::kafka::ApiKey key) const;
  std::int64_t next_producer_id = 1000;
  /// Moves that do not end by themselves: where to.
  std::map<TopicPartition, std::vector<std::int32_t>> moves;
  std::set<std::int32_t> draining;
  std::uint64_t next_tick = std::uint64_t{1'000} << 13;  ///< of machine 7's Scarab ids
  std::int64_t next_value = 1;                           ///< of all counters
  /// A group's member is sent through a rebalance by its next heartbeat.
  void rebalance() { rebalance_asked_ = true; }
  [[nodiscard]] std::int32_t generation() const { return generation_; }

 private:
  io::Task<void> run(std::list<std::unique_ptr<io::Stream>>::iterator place);
  Result<Bytes> answer(const wire::kafka::RequestFrame& request, const Fault& fault);
  template <typename Response>
  Result<Bytes> finish(const wire::kafka::RequestFrame& request, const Response& response);

  Result<Bytes> api_versions(const wire::kafka::RequestFrame& request);
  Result<Bytes> metadata(const wire::kafka::RequestFrame& request);
  Result<Bytes> produce(const wire::kafka::RequestFrame& request, std::int16_t code);
  std::int16_t store(Partition& partition, ByteView batch, std::int64_t& base);
  Result<Bytes> fetch(const wire::kafka::RequestFrame& request, std::int16_t code);
  Result<Bytes> delete_records(const wire::kafka::RequestFrame& request, std::int16_t code);
  Result<Bytes> elect_leaders(const wire::kafka::RequestFrame& request, std::int16_t code);
  Result<Bytes> reassign(const wire::kafka::RequestFrame& request, std::int16_t code);
  Result<Bytes> list_moves(const wire::kafka::RequestFrame& request);
  Result<Bytes> drain_node(const wire::kafka::RequestFrame& request, std::int16_t code);
  Result<Bytes> next_ids(const wire::kafka::RequestFrame& request, std::int16_t code);
  Result<Bytes> next_counter(const wire::kafka::RequestFrame& request, std::int16_t code);
  Result<Bytes> list_offsets(const wire::kafka::RequestFrame& request);
  Result<Bytes> init_producer_id(const wire::kafka::RequestFrame& request);
  Result<Bytes> find_coordinator(const wire::kafka::RequestFrame& request);
  Result<Bytes> join_group(const wire::kafka::RequestFrame& request);
  Result<Bytes> sync_group(const wire::kafka::RequestFrame& request);
  Result<Bytes> heartbeat(const wire::kafka::RequestFrame& request);
  Result<Bytes> leave_group(const wire::kafka::RequestFrame& request);
  Result<Bytes> offset_commit(const wire::kafka::RequestFrame& request, std::int16_t code);
  Result<Bytes> offset_fetch(const wire::kafka::RequestFrame& request);

  std::string host_;
  std::uint16_t port_;
  std::map<std::string, std::vector<Partition>> topics_;
  std::map<std::int16_t, int> counts_;
  std::map<TopicPartition, std::int64_t> offsets_;
  std::int32_t generation_ = 0;
  bool rebalance_asked_ = false;
  std::string member_;
  std::unique_ptr<io::Listener> listener_;
  std::list<std::unique_ptr<io::Stream>> streams_;
  io::TaskGroup tasks_;
  Duration delay_{0};  ///< before the answer: a fetch that found nothing waits
  bool stopping_ = false;
};

}  // namespace pyralog::client::testing
