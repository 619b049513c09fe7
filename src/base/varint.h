#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace pyralog::base {

/// Base-128 varints, least significant group first, as in Protocol Buffers and Kafka. Signed values
/// are zigzag-coded. `decode_*` reads from the front of `in` and moves it on; nullopt if `in` ends
/// too early or the value does not fit (more than 5 or 10 bytes, or spilled bits).
[[nodiscard]] std::optional<std::uint64_t> decode_uvarint64(ByteView& in);
[[nodiscard]] std::optional<std::uint32_t> decode_uvarint32(ByteView& in);
[[nodiscard]] std::optional<std::int64_t> decode_varint64(ByteView& in);
[[nodiscard]] std::optional<std::int32_t> decode_varint32(ByteView& in);

/// Appends the encoding to `out`.
void encode_uvarint(Bytes& out, std::uint64_t value);
void encode_varint(Bytes& out, std::int64_t value);

/// Encoded lengths in bytes, 1 to 10.
[[nodiscard]] std::size_t uvarint_size(std::uint64_t value);
[[nodiscard]] std::size_t varint_size(std::int64_t value);

[[nodiscard]] constexpr std::uint64_t zigzag(std::int64_t v) {
  return (static_cast<std::uint64_t>(v) << 1) ^ static_cast<std::uint64_t>(v >> 63);
}
[[nodiscard]] constexpr std::int64_t unzigzag(std::uint64_t v) {
  return static_cast<std::int64_t>(v >> 1) ^ -static_cast<std::int64_t>(v & 1);
}

}  // namespace pyralog::base
