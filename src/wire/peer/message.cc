#include "wire/peer/message.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/plant.h"

namespace pyralog::wire::peer {
namespace {

constexpr std::array<std::pair<std::int16_t, Code>, 13> kCodes{{
    {1, Code::kInvalidArgument},
    {2, Code::kNotFound},
    {3, Code::kAlreadyExists},
    {4, Code::kOutOfRange},
    {5, Code::kCorrupt},
    {6, Code::kUnsupported},
    {7, Code::kFenced},
    {8, Code::kUnavailable},
    {9, Code::kTimedOut},
    {10, Code::kCancelled},
    {11, Code::kTooLarge},
    {12, Code::kExhausted},
    {13, Code::kIo},
}};

}  // namespace

Result<Packed> pack_encoded(Kind kind, std::int16_t version, Encoder encoder,
                            std::vector<SharedBytes> payloads) {
  PYRALOG_TRY(encoder.status());
  const std::vector<kafka::Splice> splices = encoder.splices();
  Packed packed{kind, version, {}, 0};
  const SharedBytes body(encoder.take());
  if (splices.empty()) {
    packed.bytes = body.size();
    packed.pieces.push_back(body);
    return packed;
  }
  packed.pieces.reserve(2 * splices.size() + 1);
  const auto add = [&packed](SharedBytes piece) {
    if (piece.empty()) return;
    packed.bytes += piece.size();
    packed.pieces.push_back(std::move(piece));
  };
  std::size_t at = 0;
  for (const kafka::Splice& splice : splices) {
    add(body.slice(at, splice.position - at));
    at = splice.position;
    const bool there = splice.external_id < payloads.size();
    if (!there || (payloads[splice.external_id].size() != splice.bytes &&
                   !PYRALOG_PLANT("wire.any_payload_length"))) {
      return fail(Code::kInvalidArgument, kind_name(static_cast<std::uint16_t>(kind)) +
                                              ": payload " + std::to_string(splice.external_id) +
                                              " is missing or not as long as the message says");
    }
    add(payloads[splice.external_id]);
  }
  add(body.slice(at, body.size() - at));
  return packed;
}

std::string kind_name(std::uint16_t kind) {
  const auto* at = std::ranges::find(kKinds, static_cast<Kind>(kind), &KindInfo::key);
  return at == kKinds.end() ? "kind " + std::to_string(kind) : at->name;
}

std::int16_t code_number(Code code) {
  for (const auto& [number, known] : kCodes) {
    if (known == code) return number;
  }
  PYRALOG_ASSERT(false);
  return 0;
}

Code code_of(std::int16_t number) {
  for (const auto& [known, code] : kCodes) {
    if (known == number) return code;
  }
  return Code::kUnavailable;
}

}  // namespace pyralog::wire::peer
