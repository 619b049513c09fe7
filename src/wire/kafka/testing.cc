#include "wire/kafka/testing.h"

#include <algorithm>

#include "wire/kafka/api.h"
#include "wire/kafka/frame_cutter.h"

namespace pyralog::wire::kafka::testing {
namespace {

constexpr std::size_t kFuzzMemory = 4u << 20;

void try_stream(ByteView stream, std::size_t step) {
  FrameCutter cutter({.max_frame_bytes = 1u << 16, .read_buffer_bytes = 32});
  std::size_t cut = 0;
  while (!stream.empty()) {
    const MutableBytes room = cutter.buffer();
    PYRALOG_ASSERT(!room.empty());
    const std::size_t count = std::min({stream.size(), room.size(), step});
    std::copy_n(stream.begin(), count, room.begin());
    cutter.advance(count);
    stream = stream.subspan(count);
    for (;;) {
      auto frame = cutter.next();
      if (!frame) return;
      if (!*frame) break;
      PYRALOG_ASSERT((*frame)->size() <= 1u << 16);
      ++cut;
      PYRALOG_ASSERT(cut <= 1u << 20);
    }
  }
}

}  // namespace

model::Uuid Random::uuid() {
  model::Uuid id;
  if (below(3) == 0) return id;
  for (auto& byte : id.bytes) byte = static_cast<std::uint8_t>(engine_());
  return id;
}

std::string Random::string() {
  const Bytes raw = bytes();
  return std::string(as_text(raw));
}

Bytes Random::bytes() {
  Bytes raw(below(8) == 0 ? below(300) : below(12));
  for (auto& byte : raw) byte = static_cast<std::uint8_t>(engine_());
  return raw;
}

Records Random::records(bool null_allowed) {
  static constexpr std::uint8_t kPayload[] = "not a batch, but the codec does not look inside";
  if (null_allowed && null()) return {};
  return Records::of(ByteView(kPayload).first(below(sizeof kPayload)));
}

void try_input(ByteView input) {
  if (input.size() < 2) return;
  const auto all = all_messages();
  const AnyMessage& message = all[input[0] % all.size()];
  const auto version = static_cast<std::int16_t>(static_cast<std::int8_t>(input[1]));
  const ByteView body = input.subspan(2);
  static_cast<void>(message.recode(body, version, {.max_memory_bytes = kFuzzMemory}));
  if (const auto request = parse_request(body)) {
    PYRALOG_ASSERT(request->api != nullptr && request->body.size() <= body.size());
  }
  try_stream(body, std::size_t{1} + input[1] % 40);
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

}  // namespace pyralog::wire::kafka::testing
