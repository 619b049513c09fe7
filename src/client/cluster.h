#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "client/connection.h"
#include "client/errors.h"
#include "io/net.h"
#include "io/retry.h"
#include "io/shard.h"
#include "model/fundamental.h"

namespace pyralog::client {

struct ClusterOptions {
  std::vector<io::Address> bootstrap;
  ConnectionOptions connection;
  Duration connect_timeout = 10s;
  Duration request_timeout = 30s;
  Duration metadata_max_age = std::chrono::minutes(5);
  io::BackoffOptions backoff;
};

/// "a:1,b:2" → addresses; kInvalidArgument names the bad one.
[[nodiscard]] Result<std::vector<io::Address>> parse_bootstrap(std::string_view text);

/// Who leads a partition, as an answer says.
struct LeaderHint {
  std::int32_t leader = -1;
  std::int32_t epoch = -1;
};

struct PartitionInfo {
  std::int32_t index = 0;
  std::int32_t leader = -1;  ///< −1 = none now
  std::int32_t leader_epoch = -1;
  std::vector<std::int32_t> replicas;
  std::vector<std::int32_t> in_sync;
  std::vector<std::int32_t> offline;  ///< of `replicas`: cannot be reached
};
struct TopicInfo {
  std::string name;
  TopicId id;
  bool internal = false;
  std::vector<PartitionInfo> partitions;  ///< by index, dense
};

/// A topic's partition, by name.
struct TopicPartition {
  std::string topic;
  std::int32_t partition = 0;
  friend auto operator<=>(const TopicPartition&, const TopicPartition&) = default;
};
[[nodiscard]] std::string to_string(const TopicPartition& partition);

/// What a client knows of a cluster, and its connections: one per server, opened when needed and
/// again when broken. Metadata is refreshed when an answer says that it is stale, and by age. Lives
/// on one shard; close() before destroying.
class Cluster {
 public:
  explicit Cluster(ClusterOptions options);
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;
  ~Cluster();

  /// The topic as known, or as asked for until `deadline`. An unknown one is created if `create`
  /// and the server allow it; else kNotFound.
  [[nodiscard]] io::Task<Result<TopicInfo>> topic(std::string name, bool create, Instant deadline);
  /// All topics, asked for now.
  [[nodiscard]] io::Task<Result<std::vector<TopicInfo>>> all_topics(Instant deadline);
  /// What is known of a topic now; null if nothing, or if it is to be asked for again.
  [[nodiscard]] const TopicInfo* known_topic(const std::string& name) const;
  /// The next use asks the server again.
  void forget_topic(const std::string& name);
  /// A server has refused with an error that says that the metadata are stale, and may have said
  /// who leads `partition` (KIP-951): true if that is news, and where it is is known, so that it
  /// can be asked next. Else the servers are asked; one that does not lead is not believed to, in
  /// the same epoch, for a moment.
  bool refused(const TopicPartition& partition, const io::Address& by, KafkaError error,
               LeaderHint hint);
  /// Where a server is, as an answer says.
  void learn_node(std::int32_t id, io::Address address) { nodes_[id] = std::move(address); }
  /// The newest epoch that is known of a partition; −1 = none.
  [[nodiscard]] std::int32_t leader_epoch(const TopicPartition& partition) const;
  /// As last known; zero if it is not, or if servers have no ids.
  [[nodiscard]] TopicId topic_id(const std::string& name) const;

  /// The server that leads a partition; kUnavailable if none does, kNotFound if there is no such
  /// partition. One attempt: callers retry with backoff.
  [[nodiscard]] io::Task<Result<std::shared_ptr<Connection>>> leader(TopicPartition partition,
                                                                     Instant deadline);
  [[nodiscard]] io::Task<Result<std::shared_ptr<Connection>>> node(std::int32_t id,
                                                                   Instant deadline);
  /// Any server that can be reached; rather not one whose last answer named a leader that does not
  /// lead.
  [[nodiscard]] io::Task<Result<std::shared_ptr<Connection>>> any(Instant deadline);
  [[nodiscard]] io::Task<Result<std::shared_ptr<Connection>>> coordinator(std::string group,
                                                                          Instant deadline);
  void forget_coordinator(const std::string& group) { coordinators_.erase(group); }

  /// Calls any server, trying again until `deadline` while connections fail.
  template <typename Response, typename Request>
  [[nodiscard]] io::Task<Result<Reply<Response>>> call_any(Request request, Instant deadline) {
    io::Backoff backoff(options_.backoff);
    for (;;) {
      auto connection = co_await any(deadline);
      Error error;
      if (connection) {
        auto reply =
            co_await (*connection)->template call<Response>(request, attempt_end(deadline));
        if (reply || !is_retriable(reply.error())) co_return reply;
        error = reply.error();
      } else {
        error = connection.error();
        if (!is_retriable(error)) co_return fail(error);
      }
      if (!co_await backoff.wait(deadline)) co_return fail(error);
    }
  }

  /// Ids and addresses of the servers, as far as known.
  [[nodiscard]] const std::map<std::int32_t, io::Address>& nodes() const { return nodes_; }
  [[nodiscard]] const ClusterOptions& options() const { return options_; }
  /// When an attempt that may be repeated is given up: the request timeout from now, at most
  /// `deadline`.
  [[nodiscard]] Instant attempt_end(Instant deadline) const;

  /// Ends all connections and waits for their coroutines.
  [[nodiscard]] io::Task<void> close();

 private:
  struct Slot {
    std::shared_ptr<Connection> connection;
    io::Turn opening;
  };
  struct CachedTopic {
    TopicInfo info;
    Instant asked;
    bool stale = false;  ///< to be asked for again; older epochs are not believed then
  };
  struct Refusal {
    std::int32_t leader = -1;
    std::int32_t epoch = -1;
    Instant until;
  };
  [[nodiscard]] PartitionInfo* find(const TopicPartition& partition);
  void keep(TopicInfo info, Instant now);
  /// What the last answer says of a topic's leaders is not so: it is asked for again, elsewhere.
  void doubt(const std::string& topic);
  [[nodiscard]] bool is_refused(const TopicPartition& partition, const PartitionInfo& info) const;
  io::Task<Result<std::shared_ptr<Connection>>> connect(io::Address address, Instant deadline);
  io::Task<Result<std::vector<TopicInfo>>> ask(std::optional<std::string> name, bool create,
                                               Instant deadline);

  ClusterOptions options_;
  std::map<std::string, std::unique_ptr<Slot>> slots_;  ///< by address
  std::map<std::int32_t, io::Address> nodes_;
  std::map<std::string, CachedTopic> topics_;
  std::map<TopicPartition, Refusal> refusals_;
  std::set<std::string> asking_;  ///< topics: who wants to know meanwhile waits for that answer
  io::WaitList asked_;
  std::map<std::string, std::int32_t> coordinators_;
  std::size_t next_bootstrap_ = 0;
  std::string answered_;  ///< by whom metadata came last,
  std::string doubted_;   ///< and who is asked after all others; empty = nobody
  io::TaskGroup tasks_;
  bool closed_ = false;
};

}  // namespace pyralog::client
