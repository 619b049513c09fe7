#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/net.h"
#include "io/shard.h"
#include "peer/channel.h"
#include "peer/handshake.h"

namespace pyralog::peer {

/// Answers one request, once, whenever the answer is there. Holds the request's part of its
/// connection's bound until then; for a cast it does only that. Used and destroyed on the service's
/// shard. A request whose Responder goes without an answer is answered with kUnavailable.
class Responder {
 public:
  Responder() = default;
  Responder(std::shared_ptr<Channel> channel, Kind kind, std::uint64_t correlation,
            Credits::Hold hold)
      : channel_(std::move(channel)),
        kind_(kind),
        correlation_(correlation),
        hold_(std::move(hold)) {}
  Responder(Responder&& other) noexcept = default;
  Responder& operator=(Responder&& other) noexcept;
  ~Responder();
  /// Whether anybody waits for an answer.
  [[nodiscard]] bool wanted() const { return channel_ != nullptr && correlation_ != 0; }
  /// Nothing happens if the connection has ended, or nobody waits.
  void reply(Packed message);
  void refuse(const Error& why);

 private:
  void send(Packed message, std::uint8_t flags);
  std::shared_ptr<Channel> channel_;
  Kind kind_{};
  std::uint64_t correlation_ = 0;
  Credits::Hold hold_;
};

/// What has come from another node.
struct Request {
  NodeId from{0};
  std::shared_ptr<const Peer> peer;
  Kind kind{};
  std::int16_t version = 0;
  SharedBytes body;  ///< may be a view into a larger block: copy what is kept for long
  Responder respond;
};

/// The request as a message. Records in it are views into its body.
template <typename T>
[[nodiscard]] Result<T> read(const Request& request) {
  return wire::peer::decode_message<T>(request.body.view(), request.version);
}
/// Answers with a message, in the request's version, or with why it could not be written.
template <typename T>
void answer(Request& request, const T& message, std::vector<SharedBytes> payloads = {}) {
  auto packed = wire::peer::pack(message, std::move(payloads), request.version);
  if (!packed) return request.respond.refuse(packed.error());
  request.respond.reply(std::move(*packed));
}

/// One shard's side of the connections that other nodes have made: calls the handlers. Requests of
/// one connection reach them in the order in which they were sent; answers leave in any order.
class Service {
 public:
  struct Options {
    ChannelOptions channel{};
    /// Of one connection, not answered yet: beyond that nothing is read from it.
    std::size_t max_requests = 1024;
    std::size_t max_request_bytes = 32u << 20;
  };
  struct Stats {
    std::uint64_t requests = 0;
    std::uint64_t casts = 0;
    std::uint64_t unknown = 0;  ///< kinds without a handler
    std::uint64_t paused =
        0;  ///< times that a connection was not read because too much was under way
    std::uint64_t opened = 0;
    std::uint64_t closed = 0;
  };
  using Handler = std::function<void(Request)>;
  using TaskHandler = std::function<io::Task<void>(Request)>;

  explicit Service(Options options) : options_(options) {}
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // Before the first connection; handlers stay as long as the service.
  void on(Kind kind, Handler handler);
  /// A handler that waits: stop() joins what it has begun.
  void on_task(Kind kind, TaskHandler handler);

  /// Serves a connection until it ends. `number` is the acceptor's name for it.
  [[nodiscard]] io::Task<Error> serve(std::unique_ptr<io::Stream> stream, Agreed agreed,
                                      std::string name, std::uint64_t number);
  /// Ends a connection, if it is still there.
  void drop(std::uint64_t number, Error why);
  /// Ends all connections and takes no more; returns when the handlers' tasks have ended.
  [[nodiscard]] io::Task<void> stop();
  [[nodiscard]] std::size_t connections() const { return open_.size(); }
  [[nodiscard]] const Stats& stats() const { return stats_; }

 private:
  struct Open;
  Result<void> take(Open& open, Frame frame);

  Options options_;
  std::unordered_map<std::uint16_t, Handler> handlers_;
  std::map<std::uint64_t, std::shared_ptr<Channel>> open_;
  bool stopping_ = false;
  Stats stats_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::peer
