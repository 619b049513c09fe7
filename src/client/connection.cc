#include "client/connection.h"

#include <algorithm>

#include "client/errors.h"
#include "wire/kafka/gen/api_versions.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {

constexpr std::int16_t kUnsupportedVersionCode = 35;

/// The frame with its payloads in place, as pieces for the stream.
std::vector<io::Piece> pieces_of(kafka::Frame frame, std::vector<SharedBytes> payloads) {
  const SharedBytes bytes(std::move(frame.bytes));
  std::vector<io::Piece> pieces;
  std::size_t at = 0;
  for (const kafka::Splice& splice : frame.splices) {
    if (splice.position > at) pieces.emplace_back(bytes.slice(at, splice.position - at));
    at = splice.position;
    PYRALOG_ASSERT(splice.external_id < payloads.size());
    pieces.emplace_back(payloads[splice.external_id]);
  }
  if (at < bytes.size()) pieces.emplace_back(bytes.slice(at, bytes.size() - at));
  return pieces;
}

}  // namespace

Connection::Connection(io::Address address, ConnectionOptions options,
                       std::unique_ptr<io::Stream> stream)
    : address_(std::move(address)),
      options_(std::move(options)),
      stream_(std::move(stream)),
      cutter_({options_.max_frame_bytes, 64u << 10}) {}

io::Task<Result<std::shared_ptr<Connection>>> Connection::open(io::Address address,
                                                               ConnectionOptions options,
                                                               io::TaskGroup& tasks,
                                                               Instant deadline) {
  PYRALOG_CO_ASSIGN(auto stream, co_await io::Shard::current().net().connect(address, deadline));
  auto connection =
      std::make_shared<Connection>(std::move(address), std::move(options), std::move(stream));
  tasks.spawn(read_all(connection));
  const auto negotiated = co_await connection->negotiate(deadline);
  if (!negotiated) {
    connection->close(negotiated.error());
    co_return fail(negotiated.error());
  }
  co_return connection;
}

io::Task<Result<void>> Connection::negotiate(Instant deadline) {
  kafka::ApiVersionsRequest request;
  request.client_software_name = "pyralog";
  request.client_software_version = "0.1.0";
  std::int16_t version = 3;
  for (int attempt = 0; attempt < 2; ++attempt) {
    const std::int32_t correlation = next_correlation_++;
    PYRALOG_CO_ASSIGN(auto frame,
                      kafka::encode_request(request, version, correlation, options_.client_id));
    PYRALOG_CO_ASSIGN(auto bytes, co_await exchange(correlation, std::move(frame), {}, deadline));
    // A server that does not know the version answers with version 0's body and error 35.
    const bool refused =
        bytes.size() >= 6 && load_be<std::int16_t>(bytes.data() + 4) == kUnsupportedVersionCode;
    const std::int16_t body_version = refused ? std::int16_t{0} : version;
    PYRALOG_CO_ASSIGN(
        auto reply, decode<kafka::ApiVersionsResponse>(SharedBytes(std::move(bytes)),
                                                       kafka::ApiKey::kApiVersions, body_version));
    for (const auto& api : reply.message.api_keys) {
      versions_[api.api_key] = {api.min_version, api.max_version};
    }
    if (reply.message.error_code == 0) co_return Result<void>();
    const auto known = versions_.find(static_cast<std::int16_t>(kafka::ApiKey::kApiVersions));
    if (!refused) {
      co_return fail(to_error("server " + io::to_string(address_), reply.message.error_code));
    }
    version = known == versions_.end() ? std::int16_t{0} : std::min(known->second.second, version);
    versions_.clear();
  }
  co_return fail(Code::kUnsupported, "server " + io::to_string(address_) +
                                         ": says no versions that this client can use");
}

Result<std::int16_t> Connection::pick(kafka::ApiKey key, std::int16_t min, std::int16_t max) const {
  const auto known = versions_.find(static_cast<std::int16_t>(key));
  const kafka::ApiInfo* info = kafka::find_api(static_cast<std::int16_t>(key));
  const std::string name = info == nullptr ? "request" : info->name;
  if (known == versions_.end()) {
    return fail(Code::kUnsupported,
                "server " + io::to_string(address_) + ": does not offer " + name);
  }
  const std::int16_t low = std::max(min, known->second.first);
  const std::int16_t high = std::min(max, known->second.second);
  if (low > high) {
    return fail(Code::kUnsupported, "server " + io::to_string(address_) +
                                        ": offers no version of " + name +
                                        " that this client knows");
  }
  return high;
}

io::Task<Result<void>> Connection::send(kafka::Frame frame, std::vector<SharedBytes> payloads,
                                        Instant deadline) {
  const auto self = shared_from_this();
  auto turn = co_await writing_.lock();
  if (broken_) co_return fail(*broken_);
  auto written =
      co_await stream_->write(pieces_of(std::move(frame), std::move(payloads)), deadline);
  if (!written) close(written.error());
  co_return written;
}

io::Task<Result<Bytes>> Connection::exchange(std::int32_t correlation, kafka::Frame frame,
                                             std::vector<SharedBytes> payloads, Instant deadline) {
  const auto self = shared_from_this();
  auto pending = std::make_shared<Pending>();
  pending_.emplace(correlation, pending);
  const auto sent = co_await send(std::move(frame), std::move(payloads), deadline);
  if (!sent) {
    pending_.erase(correlation);
    co_return fail(sent.error());
  }
  while (!pending->answer) {
    if (co_await pending->done.wait(deadline)) continue;
    if (pending->answer) break;
    close({Code::kTimedOut,
           "server " + io::to_string(address_) + ": did not answer in time; is it overloaded?", 0});
  }
  co_return std::move(*pending->answer);
}

Result<void> Connection::dispatch(Bytes frame) {
  if (frame.size() < 4) return fail(Code::kCorrupt, "a response has no header");
  const auto pending = pending_.find(load_be<std::int32_t>(frame.data()));
  if (pending == pending_.end()) return fail(Code::kCorrupt, "a response answers no request");
  pending->second->answer.emplace(std::move(frame));
  pending->second->done.wake_all();
  pending_.erase(pending);
  return {};
}

io::Task<void> Connection::read_all(std::shared_ptr<Connection> self) {
  while (!self->broken_) {
    const auto got = co_await self->stream_->read_some(self->cutter_.buffer(), Instant::never());
    const std::string who = "server " + io::to_string(self->address_);
    if (!got || *got == 0) {
      self->close({Code::kUnavailable,
                   who + ": " + (got ? "closed the connection" : got.error().message), 0});
      break;
    }
    self->cutter_.advance(*got);
    for (;;) {
      auto frame = self->cutter_.next();
      if (frame && !*frame) break;
      const auto taken =
          frame ? self->dispatch(std::move(**frame)) : Result<void>(fail(frame.error()));
      if (!taken) {
        self->close({Code::kCorrupt, who + ": " + taken.error().message, 0});
        break;
      }
    }
  }
}

void Connection::close(Error why) {
  if (broken_) return;
  broken_ = std::move(why);
  stream_->close();
  auto waiting = std::exchange(pending_, {});
  for (auto& [correlation, pending] : waiting) {
    pending->answer.emplace(fail(*broken_));
    pending->done.wake_all();
  }
}

}  // namespace pyralog::client
