#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "wire/kafka/codec.h"
#include "wire/kafka/gen/api_key.h"
#include "wire/kafka/gen/header.h"

namespace pyralog::wire::kafka {

/// Keys from here on are our own: what Kafka has no message for.
inline constexpr std::int16_t kFirstNativeKey = 10'000;
[[nodiscard]] constexpr bool is_native(ApiKey key) {
  return static_cast<std::int16_t>(key) >= kFirstNativeKey;
}

/// The API with this key; nullptr if there is no codec for it. Any thread.
[[nodiscard]] const ApiInfo* find_api(std::int16_t key);

/// A request whose header has been read.
struct RequestFrame {
  RequestHeader header;
  const ApiInfo* api = nullptr;  ///< never null
  bool known_version = false;    ///< the codec has this version; if not, leave the body alone
  ByteView body;                 ///< view into the frame
};

/// Reads the header of a request frame (without its length prefix). kUnsupported for a key without
/// codec, kCorrupt if the header is cut off. A version out of range is no error: the answer to
/// ApiVersions then is version 0 with error 35; its header may be unreadable to us but for the
/// correlation id, and then has no client id. Pure.
[[nodiscard]] Result<RequestFrame> parse_request(ByteView frame);

/// A response whose header has been read.
struct ResponseFrame {
  std::int32_t correlation_id = 0;
  ByteView body;
};

/// Reads the header of the response to a request of this key and version. Pure.
[[nodiscard]] Result<ResponseFrame> parse_response(ByteView frame, ApiKey key,
                                                   std::int16_t version);

/// Versions of the headers that go with a request version.
[[nodiscard]] std::int16_t request_header_version(const ApiInfo& api, std::int16_t version);
[[nodiscard]] std::int16_t response_header_version(const ApiInfo& api, std::int16_t version);

/// Writes length prefix and header; the message follows, then Encoder::finish_frame().
void begin_request(Encoder& encoder, ApiKey key, std::int16_t version, std::int32_t correlation_id,
                   const std::optional<std::string>& client_id);
void begin_response(Encoder& encoder, ApiKey key, std::int16_t version,
                    std::int32_t correlation_id);

/// A whole request frame, length prefix included.
template <typename Request>
[[nodiscard]] Result<Frame> encode_request(const Request& request, std::int16_t version,
                                           std::int32_t correlation_id,
                                           const std::optional<std::string>& client_id) {
  static_assert(Request::kIsRequest);
  Encoder encoder;
  begin_request(encoder, Request::kApiKey, version, correlation_id, client_id);
  request.encode(encoder, version);
  return encoder.finish_frame();
}

/// A whole response frame, length prefix included. External records leave splices.
template <typename Response>
[[nodiscard]] Result<Frame> encode_response(const Response& response, std::int16_t version,
                                            std::int32_t correlation_id) {
  static_assert(!Response::kIsRequest);
  Encoder encoder;
  begin_response(encoder, Response::kApiKey, version, correlation_id);
  response.encode(encoder, version);
  return encoder.finish_frame();
}

}  // namespace pyralog::wire::kafka
