#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/net.h"
#include "io/retry.h"
#include "io/shard.h"
#include "peer/channel.h"
#include "peer/shake.h"

namespace pyralog::peer {

struct LinkLimits {
  std::size_t max_casts = 4096;  ///< of a link, that have not left
  std::size_t max_cast_bytes = 8u << 20;
  std::size_t max_calls = 1024;  ///< of a link, that are not answered
  std::size_t max_call_bytes = 16u << 20;
};

/// The reply to a call. `body` may be a view into a larger block: copy what is kept for long.
struct Reply {
  std::int16_t version = 0;
  SharedBytes body;
};

/// A reply as a message. Records in it are views into `body`.
template <typename Response>
struct Answer {
  Response message;
  SharedBytes body;
};

/// What a call does while there is no connection.
enum class WhenDown : std::uint8_t {
  kFail,  ///< kUnavailable at once
  kWait,  ///< waits for one, until the deadline
};

/// The connections of one shard to all other nodes, on which it asks and they answer. One object
/// and one lane per shard; used on that shard only. It dials again and again; nothing that was sent
/// is sent again.
class Links {
 public:
  struct Options {
    Local local;
    std::int32_t lane = 0;  ///< this shard's index
    ChannelOptions channel{};
    LinkLimits limits{};
    io::BackoffOptions redial{.first = 50ms, .most = 1s};
    Duration connect_timeout = 1s;  ///< of connecting and of the handshake
  };
  struct Stats {
    std::uint64_t dials = 0;
    std::uint64_t failed_dials = 0;
    std::uint64_t ups = 0;
    std::uint64_t downs = 0;
    std::uint64_t casts = 0;
    std::uint64_t casts_refused = 0;  ///< no connection, or the queue was full
    std::uint64_t calls = 0;          ///< that have been sent
    std::uint64_t calls_timed_out = 0;
    std::uint64_t late_replies = 0;
  };
  /// `why` is empty when a connection has come up. Called, too, once `has_ended` says so. Called
  /// from within the loop; may call anything here.
  using OnChange = std::function<void(NodeId node, bool up, const std::string& why)>;

  explicit Links(Options options);
  Links(const Links&) = delete;
  Links& operator=(const Links&) = delete;
  ~Links();

  void on_change(OnChange told) { on_change_ = std::move(told); }
  /// Whether whoever answers there, and knows the secret, is the node that is meant; the error is
  /// why there is no connection.
  void set_admit(std::function<Result<void>(const Peer&)> admit) { admit_ = std::move(admit); }
  /// Ends connections to those who would not be admitted any more.
  void admit_again();
  /// What the node has learned of its cluster; said at the next handshake.
  void set_cluster(const Uuid& cluster) { options_.local.self.cluster = cluster; }
  /// Whom to be connected to, and where they listen. Who is left out, or has moved, is let go.
  void set_peers(std::map<NodeId, io::Address> peers);

  /// Sends without an answer. False if there is no connection or its queue is full: nothing is sent
  /// then. True promises nothing either; a connection may break.
  bool cast(NodeId node, Packed message);
  /// Sends a request and waits for its reply. Waits for room first, if requests or bytes under way
  /// are at their bound; who came first goes first. kUnavailable: no connection, or it broke, and
  /// the request may have been done; kTimedOut likewise; kTooLarge; or the error that the other
  /// node answered.
  [[nodiscard]] io::Task<Result<Reply>> call(NodeId node, Packed message, Instant deadline,
                                             WhenDown when_down = WhenDown::kFail);

  /// A call with messages instead of bytes; records that are external(i) in `request` are
  /// payloads[i]. kCorrupt if the reply is none.
  template <typename Response, typename Request>
  [[nodiscard]] io::Task<Result<Answer<Response>>> ask(NodeId node, Request request,
                                                       Instant deadline,
                                                       std::vector<SharedBytes> payloads = {},
                                                       WhenDown when_down = WhenDown::kFail) {
    static_assert(Request::kKind == Response::kKind);
    PYRALOG_CO_ASSIGN(Packed packed, wire::peer::pack(request, std::move(payloads)));
    PYRALOG_CO_ASSIGN(Reply reply, co_await call(node, std::move(packed), deadline, when_down));
    PYRALOG_CO_ASSIGN(auto message,
                      wire::peer::decode_message<Response>(reply.body.view(), reply.version));
    co_return Answer<Response>{std::move(message), std::move(reply.body)};
  }

  /// The node as it has proved itself; nullptr while there is no connection. Valid until the next
  /// wait.
  [[nodiscard]] const Peer* connected(NodeId node) const;
  /// All nodes to which there is one.
  [[nodiscard]] std::vector<NodeId> up() const;
  /// Whether, since there is no connection any more, nobody has listened where it did: its process
  /// has ended.
  [[nodiscard]] bool has_ended(NodeId node) const;
  /// Why there is no connection; empty if there is one or none has failed yet.
  [[nodiscard]] std::string why_down(NodeId node) const;
  [[nodiscard]] const Stats& stats() const { return stats_; }
  /// Of the present connection; zeros if there is none.
  [[nodiscard]] Channel::Stats channel_stats(NodeId node) const;

  /// Ends all connections; calls fail. Returns when all is over. No other call after it has begun.
  [[nodiscard]] io::Task<void> stop();

 private:
  struct Pending;
  struct Ticket;
  struct Link;
  struct Dialled;
  io::Task<void> keep(std::shared_ptr<Link> link);
  io::Task<Result<Dialled>> dial(std::shared_ptr<Link> link);
  io::Task<void> live(std::shared_ptr<Link> link, Dialled dialled);
  io::Task<Result<void>> admit(std::shared_ptr<Link> link, std::size_t bytes, Instant deadline,
                               WhenDown when_down);
  Result<void> take(Link& link, Frame frame);
  void end(Link& link, const char* why);
  void note_failure(Link& link, const Error& why);

  Options options_;
  OnChange on_change_;
  std::function<Result<void>(const Peer&)> admit_;
  std::map<NodeId, std::shared_ptr<Link>> links_;
  std::uint64_t handshakes_ = 0;
  bool stopping_ = false;
  Stats stats_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::peer
