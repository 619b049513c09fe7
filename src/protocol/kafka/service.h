#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/broker.h"
#include "io/net.h"
#include "io/shard.h"
#include "observe/metrics.h"
#include "observe/slow.h"
#include "protocol/kafka/answer_memory.h"
#include "protocol/kafka/connection.h"
#include "protocol/kafka/fetch_sessions.h"
#include "protocol/kafka/request_counts.h"
#include "wire/kafka/api.h"

namespace pyralog::protocol::kafka {

namespace wire = pyralog::wire::kafka;

/// Where a request's time went, as its handler says; for the slow-operation log.
struct RequestTimes {
  Duration
      meant{};  ///< waits that the client asked for: for records to come, for the other members
  Duration
      disk{};  ///< until what it wrote or read was there, with the way to the partition's shard
  std::string partition;  ///< the one that took longest, if that was slow
};

/// One request under way: header, body, and whose it is. Cheap to copy; keeps the bytes alive.
struct Request {
  RequestBytes bytes;
  wire::RequestFrame frame;
  std::string client_host;
  Duration queued{};              ///< before it was begun
  RequestTimes* times = nullptr;  ///< set, and outlives its handling
  AnswerRoom* room = nullptr;     ///< likewise: for what is built of it; null = no bound
  AnswerMemory::Holder* answers = nullptr;  ///< its connection's, if these are bounded; likewise
  broker::FetchEnd* fetch_end = nullptr;    ///< likewise: its connection's
  io::Turn* produces = nullptr;   ///< its connection's, as Broker::produce wants it; outlives it too
  [[nodiscard]] Result<void> take_room(std::size_t wanted) const {
    return room == nullptr ? Result<void>() : room->take(wanted);
  }
  [[nodiscard]] std::int16_t version() const { return frame.header.request_api_version; }
  [[nodiscard]] const std::string& client_id() const {
    static const std::string kNone;
    return frame.header.client_id ? *frame.header.client_id : kNone;
  }
};

/// A setting of this node as DescribeConfigs shows it.
struct NodeSetting {
  std::string name;
  std::string value;
  catalog::SettingType type = catalog::SettingType::kString;
  std::string_view help;
  bool is_default = true;
};

/// Turns Kafka's requests into calls on the broker. One per shard; the services of a node know each
/// other, because fetch sessions live on one shard each. A request that cannot be decoded is an
/// error, and the connection ends.
class Service {
 public:
  struct Options {
    std::size_t fetch_max_bytes = 55u << 20;   ///< of one fetch response (fetch.max.bytes)
    std::size_t max_answer_bytes = 128u << 20;  ///< that one request may make the server build
    Duration max_fetch_wait = std::chrono::seconds(60);
    Duration max_request_time = std::chrono::minutes(5);  ///< bound on what clients ask for
    FetchSessions::Options sessions;
    std::vector<NodeSetting> settings;     ///< what the node was started with, for clients to see
    observe::Registry* metrics = nullptr;  ///< outlives the service; nullptr = nothing is counted
    observe::SlowLog* slow = nullptr;      ///< likewise
  };

  Service(broker::Broker& broker, unsigned shard, Options options);
  /// Before the first request; all services of the node, by shard.
  void join(std::vector<Service*> services, io::Shards shards) {
    services_ = std::move(services);
    shards_ = std::move(shards);
  }

  [[nodiscard]] io::Task<Result<Reply>> handle(Request request);

  /// The other shard that has all partitions of a Produce or Fetch request, if there is one.
  [[nodiscard]] std::optional<unsigned> shard_of_all(ByteView request) const;

  [[nodiscard]] broker::Broker& broker() { return broker_; }
  /// Whether the slow-operation log wants to hear of it.
  [[nodiscard]] bool is_slow(Duration took) const {
    return options_.slow != nullptr && options_.slow->is_slow(took);
  }
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] FetchSessions& sessions() { return sessions_; }
  [[nodiscard]] RequestCounts& counts() { return counts_; }
  /// Partitions of all fetches under way on this shard.
  [[nodiscard]] std::size_t& fetching() { return fetching_; }
  [[nodiscard]] Service* peer(unsigned shard) {
    return shard < services_.size() ? services_[shard] : nullptr;
  }
  [[nodiscard]] io::Shard& shard(unsigned index) { return *shards_[index]; }
  [[nodiscard]] std::size_t shard_count() const { return services_.size(); }

 private:
  broker::Broker& broker_;
  Options options_;
  FetchSessions sessions_;
  unsigned shard_;
  std::size_t fetching_ = 0;
  RequestCounts counts_;
  std::vector<Service*> services_;
  io::Shards shards_;
};

/// Counts the error codes of a response, wherever they stand in it. The lists that can have any are
/// named here; tests/docs looks whether the schemas know others.
template <typename Message>
void count_errors(const Message& message, ErrorCounts& out) {
  [[maybe_unused]] const auto each = [&out](const auto& list) {
    for (const auto& part : list) count_errors(part, out);
  };
  if constexpr (requires { message.error_code; }) out.add(message.error_code);
  if constexpr (requires { message.responses.begin(); }) each(message.responses);
  if constexpr (requires { message.partition_responses.begin(); }) each(message.partition_responses);
  if constexpr (requires { message.topics.begin(); }) each(message.topics);
  if constexpr (requires { message.partitions.begin(); }) each(message.partitions);
  if constexpr (requires { message.results.begin(); }) each(message.results);
  if constexpr (requires { message.groups.begin(); }) each(message.groups);
  if constexpr (requires { message.members.begin(); }) each(message.members);
  if constexpr (requires { message.coordinators.begin(); }) each(message.coordinators);
  if constexpr (requires { message.replica_election_results.begin(); }) each(message.replica_election_results);
  if constexpr (requires { message.partition_result.begin(); }) each(message.partition_result);
}

/// The encoded response to `request`, with the payload of external records put in their places.
template <typename Response>
[[nodiscard]] Result<Reply> reply(const Request& request, const Response& response,
                                  std::vector<std::vector<io::Piece>> external = {});
[[nodiscard]] Reply assemble(wire::Frame frame, std::vector<std::vector<io::Piece>> external);

template <typename Response>
Result<Reply> reply(const Request& request, const Response& response,
                    std::vector<std::vector<io::Piece>> external) {
  PYRALOG_ASSIGN(wire::Frame frame,
                 wire::encode_response(response, request.version(),
                                       request.frame.header.correlation_id));
  Reply out = assemble(std::move(frame), std::move(external));
  count_errors(response, out.errors);
  return out;
}

/// Decodes the body as `Message`.
template <typename Message>
[[nodiscard]] Result<Message> decode(const Request& request) {
  return wire::decode_message<Message>(request.frame.body, request.version(),
                                       {.allow_trailing = true});
}

[[nodiscard]] inline std::int16_t code(KafkaError error) { return static_cast<std::int16_t>(error); }

/// The versions that are offered: what ApiVersions lists, and what is served. Those of our own
/// (wire::is_native) are listed to clients only whose software calls itself pyralog.
struct OfferedApi {
  wire::ApiKey key;
  std::int16_t min_version;
  std::int16_t max_version;
};
[[nodiscard]] const std::vector<OfferedApi>& offered_apis();

/// Whether this version of Fetch names topics by their ids (KIP-516).
[[nodiscard]] constexpr bool names_topics_by_id(std::int16_t fetch_version) {
  return fetch_version >= 13;
}

// The handlers, by subject.
using Handled = io::Task<Result<Reply>>;
Handled handle_api_versions(Service& service, Request request);
Handled handle_produce(Service& service, Request request);
Handled handle_init_producer_id(Service& service, Request request);
Handled handle_describe_producers(Service& service, Request request);
Handled handle_fetch(Service& service, Request request);
Handled handle_list_offsets(Service& service, Request request);
Handled handle_offset_for_leader_epoch(Service& service, Request request);
Handled handle_metadata(Service& service, Request request);
Handled handle_describe_cluster(Service& service, Request request);
Handled handle_find_coordinator(Service& service, Request request);
Handled handle_create_topics(Service& service, Request request);
Handled handle_delete_topics(Service& service, Request request);
Handled handle_delete_records(Service& service, Request request);
Handled handle_describe_log_dirs(Service& service, Request request);
Handled handle_create_partitions(Service& service, Request request);
Handled handle_elect_leaders(Service& service, Request request);
Handled handle_alter_partition_reassignments(Service& service, Request request);
Handled handle_list_partition_reassignments(Service& service, Request request);
Handled handle_describe_configs(Service& service, Request request);
Handled handle_alter_configs(Service& service, Request request);
Handled handle_incremental_alter_configs(Service& service, Request request);
Handled handle_join_group(Service& service, Request request);
Handled handle_sync_group(Service& service, Request request);
Handled handle_heartbeat(Service& service, Request request);
Handled handle_leave_group(Service& service, Request request);
Handled handle_offset_commit(Service& service, Request request);
Handled handle_offset_fetch(Service& service, Request request);
Handled handle_describe_groups(Service& service, Request request);
Handled handle_list_groups(Service& service, Request request);
Handled handle_offset_delete(Service& service, Request request);
Handled handle_delete_groups(Service& service, Request request);

// Of our own messages.
Handled handle_drain_node(Service& service, Request request);
Handled handle_change_member(Service& service, Request request);
Handled handle_next_ids(Service& service, Request request);
Handled handle_next_counter(Service& service, Request request);

}  // namespace pyralog::protocol::kafka
