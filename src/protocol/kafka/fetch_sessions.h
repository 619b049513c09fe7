#pragma once

#include <cstdint>
#include <expected>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/time.h"
#include "broker/broker.h"
#include "model/kafka_error.h"

namespace pyralog::protocol::kafka {

/// Incremental fetch sessions (KIP-227) of one shard: a client names its partitions once, then only
/// what changes, and is told only what changed. Lives on its shard; the shard is part of the id.
/// Sessions and their memory are bounded: whoever finds no room goes without one, and one that
/// grows beyond it is closed, whereupon its client names all of its partitions again.
class FetchSessions {
 public:
  struct Options {
    /// Of the node: each shard has its share of it, one at least; 0 = none.
    std::size_t max_sessions = 1000;
    std::uint64_t max_bytes = 32u << 20;      ///< that the sessions of a shard take in memory
    std::size_t max_partitions = 100'000;     ///< of one session
    Duration idle = std::chrono::minutes(2);  ///< after it one goes if another needs its room
  };
  /// Names a partition as its client does: by the topic's name, or by its id (KIP-516).
  struct Key {
    std::string topic;  ///< does not count where there is an id
    std::int32_t partition = -1;
    TopicId id{};  ///< nil = by name
  };
  /// What a client asks of a partition.
  struct Asked {
    broker::FetchItem item;  ///< by id: with the name that the topic had, empty if there was none
    TopicId id{};            ///< nil = by name
  };

  struct Partition {
    broker::FetchItem item;
    TopicId id{};
    std::int64_t sent_high_watermark = -2;  ///< what the client was told; −2 = nothing yet
    std::int64_t sent_log_start = -2;
    bool forgotten = false;  ///< while the session lets it go
  };

  /// The partitions of a session, in the order in which they take turns to be first.
  class Partitions {
   public:
    class Iterator {
     public:
      explicit Iterator(Partition* const* at) : at_(at) {}
      Partition& operator*() const { return **at_; }
      Iterator& operator++() {
        ++at_;
        return *this;
      }
      friend bool operator==(const Iterator&, const Iterator&) = default;

     private:
      Partition* const* at_;
    };
    [[nodiscard]] std::size_t size() const { return turns_.size(); }
    [[nodiscard]] Partition& operator[](std::size_t turn) const { return *turns_[turn]; }
    [[nodiscard]] Iterator begin() const { return Iterator(turns_.data()); }
    [[nodiscard]] Iterator end() const { return Iterator(turns_.data() + turns_.size()); }
    /// Null if it is not among them.
    [[nodiscard]] Partition* find(const Key& key) const;
    [[nodiscard]] Partition* find(const Asked& asked) const;

   private:
    friend class FetchSessions;
    struct ByTarget {
      using is_transparent = void;
      using Name = std::tuple<std::int32_t, TopicId, std::string_view>;
      static Name name(std::int32_t partition, const TopicId& id, std::string_view topic) {
        return {partition, id, id.uuid.is_nil() ? topic : std::string_view()};
      }
      static Name name(const Key& key) { return name(key.partition, key.id, key.topic); }
      template <typename T>
      static Name name_of(const T& each) {
        return name(each.item.target.partition, each.id, each.item.target.topic);
      }
      static Name name(const Asked& asked) { return name_of(asked); }
      static Name name(const std::unique_ptr<Partition>& each) { return name_of(*each); }
      template <typename A, typename B>
      bool operator()(const A& a, const B& b) const {
        return name(a) < name(b);
      }
    };
    std::vector<Partition*> turns_;
    std::set<std::unique_ptr<Partition>, ByTarget> all_;
  };

  struct Session {
    std::int32_t id = 0;
    std::int32_t next_epoch = 1;
    bool by_id = false;  ///< its requests name topics by their ids
    Instant used;
    std::uint64_t bytes = 0;  ///< that it takes in memory, about
    Partitions partitions;
  };

  FetchSessions(unsigned shard, Options options) : shard_(shard), options_(options) {}

  /// The shard whose session `id` is.
  [[nodiscard]] static unsigned shard_of(std::int32_t id, std::size_t shards) {
    return static_cast<unsigned>(static_cast<std::uint32_t>(id) % shards);
  }

  /// Opens a session over `items`, in their order; its id, or 0 if there is no room or if a
  /// partition is named twice (the client then goes without).
  [[nodiscard]] std::int32_t open(std::vector<Asked> items, std::size_t shards,
                                  std::uint64_t random, Instant now, bool by_id = false);
  /// The session for the request (id, epoch): FETCH_SESSION_ID_NOT_FOUND,
  /// INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR if it was opened by requests that
  /// name topics the other way.
  [[nodiscard]] std::expected<Session*, KafkaError> use(std::int32_t id, std::int32_t epoch,
                                                        Instant now, bool by_id = false);
  /// The session, without using it; null if there is none.
  [[nodiscard]] Session* find(std::int32_t id);
  void close(std::int32_t id);
  /// Adds or changes `items`, forgets `forgotten`; false if the session would grow too large: close
  /// it then. It is the one that was used last.
  [[nodiscard]] bool update(Session& session, std::vector<Asked> items,
                            const std::vector<Key>& forgotten);
  /// True if the client must hear of this outcome: records, an error, or news of the offsets.
  [[nodiscard]] static bool is_news(Partition& partition, const broker::FetchOutcome& outcome);
  /// Whoever got records goes to the back, so that each is first in its turn.
  void rotate(Session& session, const std::vector<bool>& served);

  [[nodiscard]] std::size_t size() const { return sessions_.size(); }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  using Sessions = std::list<Session>;
  /// False if `item` is there already.
  static bool add(Session& session, Asked asked);
  void forget(Session& session, const std::vector<Key>& keys);
  void close(Sessions::iterator session);
  /// Lets idle sessions go until there are at most `sessions` and `bytes` more fit; false if they
  /// don't.
  [[nodiscard]] bool make_room(std::size_t sessions, std::uint64_t bytes, Instant now);

  unsigned shard_;
  Options options_;
  Sessions sessions_;  ///< whichever was used last is at the back
  std::unordered_map<std::int32_t, Sessions::iterator> by_id_;
  std::uint64_t bytes_ = 0;  ///< of all of them
};

}  // namespace pyralog::protocol::kafka
