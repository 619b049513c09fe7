#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/time.h"
#include "observe/metrics.h"
#include "protocol/kafka/connection.h"

namespace pyralog::protocol::kafka {

/// What clients have written to a topic and read from it since the node started.
struct TopicTraffic {
  std::uint64_t produced_records = 0;
  std::uint64_t produced_bytes = 0;
  std::uint64_t fetched_records = 0;  ///< by their offsets: what compaction has removed counts
  std::uint64_t fetched_bytes = 0;
  [[nodiscard]] std::uint64_t bytes() const { return produced_bytes + fetched_bytes; }
  TopicTraffic& operator+=(const TopicTraffic& other);
};

/// Counts what a shard's requests are, how long they take, how they end, and what they carry. Lives on
/// its shard; what it counts for all shards together lies in the node's registry.
class RequestCounts {
 public:
  /// Topics that a shard counts one by one; what more there are goes into the sums only.
  static constexpr std::size_t kMaxTopics = 100'000;

  /// `registry` outlives it; null = nothing is counted.
  explicit RequestCounts(observe::Registry* registry);
  RequestCounts(const RequestCounts&) = delete;
  RequestCounts& operator=(const RequestCounts&) = delete;

  /// A request of the API with this place among offered_apis() is about to be served.
  void begun(std::size_t api, std::size_t bytes, Duration queued);
  /// It has been, and `reply` is what it gets.
  void served(std::size_t api, Duration took, Reply& reply);
  /// A request was refused: its connection ends.
  void refused();
  void produced(std::string_view topic, std::int64_t records, std::uint64_t bytes);
  void fetched(std::string_view topic, std::int64_t records, std::uint64_t bytes);
  [[nodiscard]] bool counting() const { return registry_ != nullptr; }

  struct NameHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view name) const {
      return std::hash<std::string_view>{}(name);
    }
  };
  using Topics = std::unordered_map<std::string, TopicTraffic, NameHash, std::equal_to<>>;
  /// By name. Whoever looks may take those out that are gone.
  [[nodiscard]] Topics& topics() { return topics_; }

 private:
  struct Api {
    std::string name;
    observe::Histogram* queued;
    observe::Histogram* served;
    observe::Histogram* whole;
    observe::Counter* request_bytes;
    observe::Counter* response_bytes;
    std::map<std::int16_t, observe::Counter*> errors;  ///< those that there were
  };
  void note_errors(Api& api, const ErrorCounts& errors);
  [[nodiscard]] TopicTraffic* traffic(std::string_view topic);

  observe::Registry* registry_;
  std::vector<Api> apis_;  ///< as offered_apis(); empty = nothing is counted
  observe::Counter* refused_ = nullptr;
  observe::Counter* produced_records_ = nullptr;
  observe::Counter* produced_bytes_ = nullptr;
  observe::Counter* fetched_records_ = nullptr;
  observe::Counter* fetched_bytes_ = nullptr;
  Topics topics_;
};

}  // namespace pyralog::protocol::kafka
