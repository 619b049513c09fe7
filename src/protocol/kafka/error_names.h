#pragma once

#include <string_view>

#include "model/kafka_error.h"

namespace pyralog::protocol::kafka {

/// What Kafka's protocol guide calls an error: "NOT_LEADER_OR_FOLLOWER"; docs/errors.md has them all.
/// "UNKNOWN" for a number that is none. Pure.
[[nodiscard]] std::string_view error_name(KafkaError error);

}  // namespace pyralog::protocol::kafka
