#include "wire/peer/testing.h"

namespace pyralog::wire::peer::testing {
namespace {

constexpr std::size_t kFuzzMemory = 4u << 20;

}  // namespace

void try_input(ByteView input) {
  if (input.size() < 2) return;
  const auto all = all_messages();
  const AnyMessage& message = all[input[0] % all.size()];
  const auto version = static_cast<std::int16_t>(static_cast<std::int8_t>(input[1]));
  static_cast<void>(message.recode(input.subspan(2), version, {.max_memory_bytes = kFuzzMemory}));
}

Bytes make_input(Random& random) {
  const auto all = all_messages();
  const std::size_t index = random.below(all.size());
  const MessageInfo& info = all[index].info;
  const auto versions = static_cast<std::uint64_t>(info.max_version - info.min_version + 1);
  const auto version = static_cast<std::int16_t>(info.min_version +
                                                 static_cast<std::int16_t>(random.below(versions)));
  const auto body = all[index].make(random, version);
  PYRALOG_ASSERT(body.has_value());
  Bytes input{static_cast<std::uint8_t>(index), static_cast<std::uint8_t>(version)};
  input.insert(input.end(), body->begin(), body->end());
  return input;
}

}  // namespace pyralog::wire::peer::testing
