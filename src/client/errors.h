#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/kafka_error.h"

namespace pyralog::client {

/// What a Kafka error code means to a client.
struct ErrorTraits {
  KafkaError error = KafkaError::kUnknownServerError;
  const char* text = "";  ///< "topic or partition is not known"
  Code code = Code::kUnavailable;
  bool retriable = false;          ///< the same request may succeed later
  bool stale_metadata = false;     ///< ask for metadata before trying again
  bool stale_coordinator = false;  ///< look for the group's coordinator before trying again
};
/// Never fails: unknown codes are not retriable.
[[nodiscard]] const ErrorTraits& traits_of(KafkaError error);
[[nodiscard]] inline const ErrorTraits& traits_of(std::int16_t code) {
  return traits_of(static_cast<KafkaError>(code));
}

/// "topic \"a\": topic or partition is not known (error 3)", with the server's own words if any.
[[nodiscard]] Error to_error(std::string_view thing, std::int16_t code,
                             const std::optional<std::string>& said = std::nullopt);

/// True if trying again, over a new connection, may help.
[[nodiscard]] bool is_retriable(const Error& error);

}  // namespace pyralog::client
