#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/time.h"
#include "broker/broker.h"
#include "model/kafka_error.h"

namespace pyralog::protocol::kafka {

/// Incremental fetch sessions (KIP-227) of one shard: a client names its partitions once, then only
/// what changes, and is told only what changed. Lives on its shard; the shard is part of the id.
class FetchSessions {
 public:
  struct Options {
    std::size_t max_sessions = 1000;  ///< per shard; beyond it new sessions are not opened
    Duration idle = std::chrono::minutes(2);  ///< an older one may be evicted for a new one
    std::size_t max_partitions = 100'000;     ///< of one session
  };
  using Key = std::pair<std::string, std::int32_t>;  ///< topic, partition

  struct Partition {
    broker::FetchItem item;
    std::int64_t sent_high_watermark = -2;  ///< what the client was told; −2 = nothing yet
    std::int64_t sent_log_start = -2;
  };
  struct Session {
    std::int32_t id = 0;
    std::int32_t next_epoch = 1;
    Instant used;
    std::vector<Partition> partitions;  ///< in the order in which they take turns to be first
    std::map<Key, std::size_t> index;
  };

  FetchSessions(unsigned shard, Options options) : shard_(shard), options_(options) {}

  /// The shard whose session `id` is.
  [[nodiscard]] static unsigned shard_of(std::int32_t id, std::size_t shards) {
    return static_cast<unsigned>(static_cast<std::uint32_t>(id) % shards);
  }

  /// Opens a session over `items`; its id, or 0 if there is no room (the client then goes without).
  [[nodiscard]] std::int32_t open(std::vector<broker::FetchItem> items, std::size_t shards,
                                  std::uint64_t random, Instant now);
  /// The session for the request (id, epoch): FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH.
  [[nodiscard]] std::expected<Session*, KafkaError> use(std::int32_t id, std::int32_t epoch,
                                                        Instant now);
  /// The session, without using it; null if there is none.
  [[nodiscard]] Session* find(std::int32_t id);
  void close(std::int32_t id);
  /// Adds or changes `items`, forgets `forgotten`; false if the session would grow too large.
  [[nodiscard]] bool update(Session& session, std::vector<broker::FetchItem> items,
                            const std::vector<Key>& forgotten);
  /// True if the client must hear of this outcome: records, an error, or news of the offsets.
  [[nodiscard]] static bool is_news(Partition& partition, const broker::FetchOutcome& outcome);
  /// Whoever got records goes to the back, so that each is first in its turn.
  void rotate(Session& session, const std::vector<bool>& served);

  [[nodiscard]] std::size_t size() const { return sessions_.size(); }

 private:
  void index(Session& session);

  unsigned shard_;
  Options options_;
  std::unordered_map<std::int32_t, Session> sessions_;
};

}  // namespace pyralog::protocol::kafka
