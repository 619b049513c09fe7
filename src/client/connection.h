#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "io/net.h"
#include "io/shard.h"
#include "io/task.h"
#include "wire/kafka/api.h"
#include "wire/kafka/frame_cutter.h"

namespace pyralog::client {

/// A response with the frame that its views point into.
template <typename Message>
struct Reply {
  Message message;
  std::int16_t version = 0;
  SharedBytes frame;
};

struct ConnectionOptions {
  std::string client_id = "pyralog";
  std::size_t max_frame_bytes = 128u << 20;
};

/// One connection to one server: versions are negotiated when it opens, requests are pipelined and
/// matched to responses by correlation id. Lives on one shard. A request that gets no answer in
/// time breaks the connection, because nobody knows what the server made of it; whoever waits on a
/// broken one is told so.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  /// Connects and asks for the server's versions. `tasks`, which the caller joins after close(),
  /// owns the reading coroutine.
  [[nodiscard]] static io::Task<Result<std::shared_ptr<Connection>>> open(io::Address address,
                                                                          ConnectionOptions options,
                                                                          io::TaskGroup& tasks,
                                                                          Instant deadline);
  /// For `open`.
  Connection(io::Address address, ConnectionOptions options, std::unique_ptr<io::Stream> stream);

  /// Sends `request` and waits for its answer. Records that are external(id) in the request are
  /// payloads[id], sent without a copy. kUnsupported if the server has no version in common,
  /// kUnavailable if the connection broke, kTimedOut. `max_version`: a newer one would need what
  /// the request does not have.
  template <typename Response, typename Request>
  [[nodiscard]] io::Task<Result<Reply<Response>>> call(
      Request request, Instant deadline, std::vector<SharedBytes> payloads = {},
      std::int16_t max_version = Request::kMaxVersion) {
    PYRALOG_CO_ASSIGN(const std::int16_t version,
                      pick(Request::kApiKey, Request::kMinVersion, max_version));
    const std::int32_t correlation = next_correlation_++;
    PYRALOG_CO_ASSIGN(
        auto frame, wire::kafka::encode_request(request, version, correlation, options_.client_id));
    PYRALOG_CO_ASSIGN(auto bytes, co_await exchange(correlation, std::move(frame),
                                                    std::move(payloads), deadline));
    co_return decode<Response>(SharedBytes(std::move(bytes)), Request::kApiKey, version);
  }
  /// Sends a request that gets no answer (Produce with acks 0).
  template <typename Request>
  [[nodiscard]] io::Task<Result<void>> tell(Request request, Instant deadline,
                                            std::vector<SharedBytes> payloads = {}) {
    PYRALOG_CO_ASSIGN(const std::int16_t version,
                      pick(Request::kApiKey, Request::kMinVersion, Request::kMaxVersion));
    PYRALOG_CO_ASSIGN(auto frame, wire::kafka::encode_request(request, version, next_correlation_++,
                                                              options_.client_id));
    co_return co_await send(std::move(frame), std::move(payloads), deadline);
  }

  /// Ends the connection; everything that waits on it fails with `why`.
  void close(Error why);
  [[nodiscard]] bool broken() const { return broken_.has_value(); }
  [[nodiscard]] const io::Address& address() const { return address_; }
  /// The highest version of an API that both sides have; kUnsupported if there is none.
  [[nodiscard]] Result<std::int16_t> pick(wire::kafka::ApiKey key, std::int16_t min,
                                          std::int16_t max) const;

 private:
  struct Pending {
    io::WaitList done;
    std::optional<Result<Bytes>> answer;
  };
  static io::Task<void> read_all(std::shared_ptr<Connection> self);
  io::Task<Result<void>> negotiate(Instant deadline);
  io::Task<Result<Bytes>> exchange(std::int32_t correlation, wire::kafka::Frame frame,
                                   std::vector<SharedBytes> payloads, Instant deadline);
  io::Task<Result<void>> send(wire::kafka::Frame frame, std::vector<SharedBytes> payloads,
                              Instant deadline);
  Result<void> dispatch(Bytes frame);

  template <typename Response>
  static Result<Reply<Response>> decode(SharedBytes frame, wire::kafka::ApiKey key,
                                        std::int16_t version) {
    PYRALOG_ASSIGN(const auto parsed, wire::kafka::parse_response(frame.view(), key, version));
    wire::kafka::DecodeLimits limits;
    limits.max_memory_bytes = 1u << 30;
    PYRALOG_ASSIGN(auto message,
                   wire::kafka::decode_message<Response>(parsed.body, version, limits));
    return Reply<Response>{std::move(message), version, std::move(frame)};
  }

  io::Address address_;
  ConnectionOptions options_;
  std::unique_ptr<io::Stream> stream_;
  wire::kafka::FrameCutter cutter_;
  io::Turn writing_;
  std::map<std::int32_t, std::shared_ptr<Pending>> pending_;
  std::map<std::int16_t, std::pair<std::int16_t, std::int16_t>> versions_;
  std::optional<Error> broken_;
  std::int32_t next_correlation_ = 1;
};

}  // namespace pyralog::client
