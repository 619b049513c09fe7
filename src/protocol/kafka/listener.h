#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/net.h"
#include "io/shard.h"
#include "protocol/kafka/answer_memory.h"
#include "protocol/kafka/connection.h"
#include "protocol/kafka/request_memory.h"
#include "protocol/kafka/service.h"

namespace pyralog::protocol::kafka {

/// Accepts Kafka clients and spreads them over the shards. Accepts on the shard that calls `run`;
/// each connection lives on the shard that got it.
class Listener {
 public:
  struct Options {
    ConnectionLimits connection;
    std::size_t max_request_memory = 256u << 20;  ///< of all requests under way, over all shards
    std::size_t max_answer_memory = 128u << 20;   ///< of answers not taken yet, over all shards
    std::uint32_t send_buffer_bytes = 0;   ///< of each connection; 0 = as the system has it
    std::size_t max_connections = 20'000;  ///< in all; more are closed at once
  };

  Listener(std::unique_ptr<io::Listener> bound, io::Shards shards, std::vector<Service*> services,
           Options options);
  ~Listener();

  [[nodiscard]] const io::Address& local() const { return bound_->local(); }
  /// Accepts until `stop`.
  [[nodiscard]] io::Task<void> run();
  /// Takes no more connections and requests; those begun are answered. On the accepting shard.
  [[nodiscard]] io::Task<void> drain();
  /// After drain: waits for the answers until `deadline`, then closes what is left; returns when
  /// every connection has ended.
  [[nodiscard]] io::Task<void> finish(Instant deadline);
  struct MemoryUse {
    std::size_t requests = 0;  ///< bytes, of all shards
    std::size_t answers = 0;
    Waits request_waits;  ///< for this memory
    Waits answer_waits;
    Waits credit_waits;  ///< of requests, for others of their connection
  };
  [[nodiscard]] io::Task<MemoryUse> memory();
  /// Connections whose sockets are open; on the accepting shard, as of the last it has heard.
  [[nodiscard]] std::size_t connections() const { return connections_; }
  /// What has come so far; on the accepting shard.
  struct Arrivals {
    std::uint64_t accepted = 0;
    std::uint64_t refused = 0;   ///< beyond max_connections
    std::uint64_t failures = 0;  ///< to accept: out of descriptors, say
    std::uint64_t moved = 0;     ///< to the shard of the partitions that their client asked for first
  };
  [[nodiscard]] const Arrivals& arrivals() const { return arrivals_; }

 private:
  struct ShardPart {
    ShardPart(std::size_t request_memory, std::size_t answer_memory)
        : memory(request_memory), answers(answer_memory) {}
    RequestMemory memory;
    AnswerMemory answers;
    Waits credits;
    std::map<std::uint64_t, Connection*> open;  ///< in the order in which they came
    std::uint64_t next = 0;
    bool stopping = false;
    std::atomic<std::size_t> connections = 0;  ///< that it has or is about to have; any thread
  };
  io::Task<void> take(std::unique_ptr<io::Stream> stream, unsigned shard);
  /// On the shard itself. Where the connection is to go on, if it is.
  io::Task<std::optional<Connection::Move>> serve(std::unique_ptr<io::Stream> stream, unsigned shard,
                                                  std::optional<Connection::Unread> unread);
  /// Whether one more connection may go from one shard to another: they stay spread over all. Any shard.
  [[nodiscard]] bool may_move(unsigned from, unsigned to) const;

  std::unique_ptr<io::Listener> bound_;
  io::Shards shards_;
  std::vector<Service*> services_;
  Options options_;
  std::vector<std::unique_ptr<ShardPart>> parts_;
  io::Shard* home_ = nullptr;
  std::size_t connections_ = 0;
  Arrivals arrivals_;
  unsigned next_ = 0;
  bool stopping_ = false;
  io::TaskGroup accepting_;
};

}  // namespace pyralog::protocol::kafka
