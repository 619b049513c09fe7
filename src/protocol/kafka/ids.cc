// Ids and counters, for clients that know messages of our own.
#include <algorithm>

#include "obelisk/scarab.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/next_counter.h"
#include "wire/kafka/gen/next_ids.h"

namespace pyralog::protocol::kafka {
namespace {

constexpr std::int32_t kMostTimeoutMs = 30'000;

Instant deadline_of(std::int32_t timeout_ms) {
  return io::Shard::current().now() +
         std::chrono::milliseconds(std::clamp(timeout_ms, 1, kMostTimeoutMs));
}

KafkaError kafka_error(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return KafkaError::kInvalidRequest;
    case Code::kExhausted:
      return KafkaError::kPolicyViolation;
    case Code::kNotFound:
      return KafkaError::kNotController;
    case Code::kUnsupported:
      return KafkaError::kUnsupportedVersion;
    case Code::kTimedOut:
      return KafkaError::kRequestTimedOut;
    default:
      return KafkaError::kCoordinatorNotAvailable;
  }
}

/// An int32 from outside that is below 1 is refused by whoever counts.
std::uint64_t wanted(std::int32_t count) {
  return static_cast<std::uint64_t>(std::max(count, 0));
}

}  // namespace

Handled handle_next_ids(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::NextIdsRequest>(request));
  wire::NextIdsResponse out;
  auto ids = co_await service.broker().next_ids(wanted(in.count), deadline_of(in.timeout_ms));
  if (ids) {
    const auto first = obelisk::scarab_parts((*ids)[0]);
    out.first_ms = static_cast<std::int64_t>(first.ms);
    out.machine = static_cast<std::int16_t>(first.machine);
    out.sequence = static_cast<std::int16_t>(first.sequence);
    out.count = static_cast<std::int32_t>(ids->size());
  } else {
    out.error_code = code(kafka_error(ids.error().code));
    out.error_message = std::move(ids.error().message);
  }
  co_return reply(request, out);
}

Handled handle_next_counter(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(auto in, decode<wire::NextCounterRequest>(request));
  wire::NextCounterResponse out;
  auto first = co_await service.broker().next_counter(std::string(in.name), in.count, in.strict,
                                                      deadline_of(in.timeout_ms));
  if (first) {
    out.first = *first;
  } else {
    out.error_code = code(kafka_error(first.error().code));
    out.error_message = std::move(first.error().message);
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
