#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace pyralog::base {

[[nodiscard]] constexpr std::uint64_t zigzag(std::int64_t v) {
  return (static_cast<std::uint64_t>(v) << 1) ^ static_cast<std::uint64_t>(v >> 63);
}
[[nodiscard]] constexpr std::int64_t unzigzag(std::uint64_t v) {
  return static_cast<std::int64_t>(v >> 1) ^ -static_cast<std::int64_t>(v & 1);
}

namespace detail {
/// The general case, of at most `max_bytes`.
[[nodiscard]] std::optional<std::uint64_t> decode_long_uvarint(ByteView& in, unsigned max_bytes);

/// Nearly all varints of a record have one or two bytes, and a produced record has half a dozen: read
/// here, in line, they cost a tenth.
[[nodiscard]] inline bool take_short_uvarint(ByteView& in, std::uint32_t& value) {
  const std::size_t size = in.size();
  if (size >= 1 && in[0] < 0x80) {
    value = in[0];
    in = in.subspan(1);
    return true;
  }
  if (size >= 2 && in[1] < 0x80) {
    value = (in[0] & 0x7fu) | (static_cast<std::uint32_t>(in[1]) << 7);
    in = in.subspan(2);
    return true;
  }
  return false;
}
}  // namespace detail

/// Base-128 varints, least significant group first, as in Protocol Buffers and Kafka. Signed values
/// are zigzag-coded. `decode_*` reads from the front of `in` and moves it on; nullopt if `in` ends
/// too early or the value does not fit (more than 5 or 10 bytes, or spilled bits).
[[nodiscard]] inline std::optional<std::uint64_t> decode_uvarint64(ByteView& in) {
  std::uint32_t value = 0;
  if (detail::take_short_uvarint(in, value)) return value;
  return detail::decode_long_uvarint(in, 10);
}
[[nodiscard]] inline std::optional<std::uint32_t> decode_uvarint32(ByteView& in) {
  std::uint32_t value = 0;
  if (detail::take_short_uvarint(in, value)) return value;
  ByteView rest = in;
  const auto wide = detail::decode_long_uvarint(rest, 5);
  if (!wide || *wide > UINT32_MAX) return std::nullopt;
  in = rest;
  return static_cast<std::uint32_t>(*wide);
}
[[nodiscard]] inline std::optional<std::int64_t> decode_varint64(ByteView& in) {
  const auto raw = decode_uvarint64(in);
  if (!raw) return std::nullopt;
  return unzigzag(*raw);
}
[[nodiscard]] inline std::optional<std::int32_t> decode_varint32(ByteView& in) {
  const auto raw = decode_uvarint32(in);
  if (!raw) return std::nullopt;
  return static_cast<std::int32_t>(unzigzag(*raw));
}

/// Appends the encoding to `out`.
void encode_uvarint(Bytes& out, std::uint64_t value);
void encode_varint(Bytes& out, std::int64_t value);

/// Encoded lengths in bytes, 1 to 10.
[[nodiscard]] std::size_t uvarint_size(std::uint64_t value);
[[nodiscard]] std::size_t varint_size(std::int64_t value);

}  // namespace pyralog::base
