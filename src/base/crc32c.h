#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace pyralog::base {

/// CRC-32C (Castagnoli, RFC 3720 §B.4) of `bytes`. `seed` is the CRC of what came before, so
/// crc32c(b, crc32c(a)) == crc32c(a ∥ b). Any thread.
[[nodiscard]] std::uint32_t crc32c(ByteView bytes, std::uint32_t seed = 0);

}  // namespace pyralog::base
