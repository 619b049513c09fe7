#include "wire/kafka/api.h"

#include <algorithm>

namespace pyralog::wire::kafka {

const ApiInfo* find_api(std::int16_t key) {
  const auto* at = std::ranges::lower_bound(kApis, static_cast<ApiKey>(key), {}, &ApiInfo::key);
  return at != kApis.end() && at->key == static_cast<ApiKey>(key) ? at : nullptr;
}

std::int16_t request_header_version(const ApiInfo& api, std::int16_t version) {
  return version >= api.flexible_from ? 2 : 1;
}

std::int16_t response_header_version(const ApiInfo& api, std::int16_t version) {
  return version >= api.flexible_from && api.key != ApiKey::kApiVersions ? 1 : 0;
}

Result<RequestFrame> parse_request(ByteView frame) {
  if (frame.size() < 8) {
    return fail(Code::kCorrupt,
                "request header: " + std::to_string(frame.size()) + " bytes instead of at least 8");
  }
  RequestFrame request;
  const auto key = load_be<std::int16_t>(frame.data());
  const auto version = load_be<std::int16_t>(frame.data() + 2);
  request.api = find_api(key);
  if (request.api == nullptr) {
    return fail(Code::kUnsupported, "request header: API key " + std::to_string(key) +
                                        " is not served; ask ApiVersions for those that are");
  }
  request.known_version =
      version >= request.api->min_version && version <= request.api->max_version;
  Decoder decoder(frame);
  auto header = RequestHeader::decode(decoder, request_header_version(*request.api, version));
  if (!header) {
    if (request.known_version || request.api->key != ApiKey::kApiVersions) {
      return fail(std::move(header.error()));
    }
    request.header = RequestHeader{key, version, load_be<std::int32_t>(frame.data() + 4), {}};
    return request;
  }
  request.header = std::move(*header);
  request.body = frame.subspan(decoder.position());
  return request;
}

Result<ResponseFrame> parse_response(ByteView frame, ApiKey key, std::int16_t version) {
  const ApiInfo* api = find_api(static_cast<std::int16_t>(key));
  PYRALOG_ASSERT(api != nullptr);
  Decoder decoder(frame);
  auto header = ResponseHeader::decode(decoder, response_header_version(*api, version));
  if (!header) return fail(std::move(header.error()));
  return ResponseFrame{header->correlation_id, frame.subspan(decoder.position())};
}

void begin_request(Encoder& encoder, ApiKey key, std::int16_t version, std::int32_t correlation_id,
                   const std::optional<std::string>& client_id) {
  const ApiInfo* api = find_api(static_cast<std::int16_t>(key));
  PYRALOG_ASSERT(api != nullptr);
  encoder.begin_frame();
  const RequestHeader header{static_cast<std::int16_t>(key), version, correlation_id, client_id};
  header.encode(encoder, request_header_version(*api, version));
}

void begin_response(Encoder& encoder, ApiKey key, std::int16_t version,
                    std::int32_t correlation_id) {
  const ApiInfo* api = find_api(static_cast<std::int16_t>(key));
  PYRALOG_ASSERT(api != nullptr);
  encoder.begin_frame();
  ResponseHeader{correlation_id}.encode(encoder, response_header_version(*api, version));
}

}  // namespace pyralog::wire::kafka
