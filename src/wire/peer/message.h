#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "wire/peer/codec.h"
#include "wire/peer/gen/kind.h"

namespace pyralog::wire::peer {

/// A message ready to be sent: its bytes in order, payloads where they lie.
struct Packed {
  Kind kind{};
  std::int16_t version = 0;
  std::vector<SharedBytes> pieces;
  std::size_t bytes = 0;  ///< of all pieces
};

/// Encodes `message`. Records that are external(id) are payloads[id], which is not copied.
/// kInvalidArgument for a value that cannot be written or a payload of another length than
/// announced.
[[nodiscard]] Result<Packed> pack_encoded(Kind kind, std::int16_t version, Encoder encoder,
                                          std::vector<SharedBytes> payloads);
template <typename T>
[[nodiscard]] Result<Packed> pack(const T& message, std::vector<SharedBytes> payloads = {},
                                  std::int16_t version = T::kMaxVersion) {
  Encoder encoder;
  message.encode(encoder, version);
  return pack_encoded(T::kKind, version, std::move(encoder), std::move(payloads));
}

/// The name of a kind for errors and logs; "kind 77" if it has none here.
[[nodiscard]] std::string kind_name(std::uint16_t kind);

/// Codes of errors as Refusal and replies carry them: fixed numbers; 0 is none. A number that is
/// not known here reads as kUnavailable.
[[nodiscard]] std::int16_t code_number(Code code);
[[nodiscard]] Code code_of(std::int16_t number);

}  // namespace pyralog::wire::peer
