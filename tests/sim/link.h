#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "io/net.h"
#include "io/shard.h"
#include "wire/kafka/api.h"
#include "wire/kafka/frame_cutter.h"

namespace pyralog::simtest {

namespace wire = pyralog::wire::kafka;

/// A response and the bytes that its records point into.
template <typename T>
struct Answer {
  Bytes frame;
  T message;
};

/// One Kafka client connection over the simulated network. After an error it is closed; whoever
/// uses it connects anew. Lives on the client's shard.
class Link {
 public:
  explicit Link(std::string client_id) : client_id_(std::move(client_id)) {}

  [[nodiscard]] bool connected() const { return stream_ != nullptr; }
  [[nodiscard]] io::Task<Result<void>> connect(io::Address address, Duration within);
  void close();

  /// Sends a request and does not wait; `receive` takes the responses in order.
  template <typename Request>
  [[nodiscard]] io::Task<Result<void>> send(const Request& request, std::int16_t version) {
    auto frame = wire::encode_request(request, version, next_id_++, client_id_);
    PYRALOG_ASSERT(frame.has_value());
    return write(std::move(frame->bytes));
  }
  template <typename Response>
  [[nodiscard]] io::Task<Result<Answer<Response>>> receive(std::int16_t version, Duration within);

  template <typename Response, typename Request>
  [[nodiscard]] io::Task<Result<Answer<Response>>> call(Request request, std::int16_t version,
                                                        Duration within) {
    PYRALOG_CO_TRY(co_await send(request, version));
    co_return co_await receive<Response>(version, within);
  }

 private:
  io::Task<Result<void>> write(Bytes bytes);
  io::Task<Result<Bytes>> next_frame(Instant deadline);

  std::string client_id_;
  std::unique_ptr<io::Stream> stream_;
  std::optional<wire::FrameCutter> cutter_;
  std::int32_t next_id_ = 1;
  std::int32_t awaited_ = 1;
};

template <typename Response>
io::Task<Result<Answer<Response>>> Link::receive(std::int16_t version, Duration within) {
  auto frame = co_await next_frame(io::Shard::current().now() + within);
  if (!frame) {
    close();
    co_return fail(std::move(frame.error()));
  }
  Answer<Response> answer{std::move(*frame), {}};
  PYRALOG_CO_ASSIGN(const auto parsed,
                    wire::parse_response(answer.frame, Response::kApiKey, version));
  if (parsed.correlation_id != awaited_++)
    co_return fail(Code::kCorrupt, "another request's answer");
  PYRALOG_CO_ASSIGN(answer.message, wire::decode_message<Response>(parsed.body, version));
  co_return answer;
}

}  // namespace pyralog::simtest
