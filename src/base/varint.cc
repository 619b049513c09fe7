#include "base/varint.h"

#include <bit>

namespace pyralog::base {

std::optional<std::uint64_t> decode_uvarint64(ByteView& in) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < 10; ++i) {
    if (i >= in.size()) return std::nullopt;
    const std::uint8_t byte = in[i];
    if (i == 9 && byte > 1) return std::nullopt;
    value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      in = in.subspan(i + 1);
      return value;
    }
  }
  return std::nullopt;
}

std::optional<std::uint32_t> decode_uvarint32(ByteView& in) {
  ByteView rest = in;
  const auto value = decode_uvarint64(rest);
  if (!value || *value > UINT32_MAX || in.size() - rest.size() > 5) return std::nullopt;
  in = rest;
  return static_cast<std::uint32_t>(*value);
}

std::optional<std::int64_t> decode_varint64(ByteView& in) {
  const auto raw = decode_uvarint64(in);
  if (!raw) return std::nullopt;
  return unzigzag(*raw);
}

std::optional<std::int32_t> decode_varint32(ByteView& in) {
  const auto raw = decode_uvarint32(in);
  if (!raw) return std::nullopt;
  return static_cast<std::int32_t>(unzigzag(*raw));
}

void encode_uvarint(Bytes& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<std::uint8_t>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<std::uint8_t>(value));
}

void encode_varint(Bytes& out, std::int64_t value) { encode_uvarint(out, zigzag(value)); }

std::size_t uvarint_size(std::uint64_t value) {
  return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7;
}

std::size_t varint_size(std::int64_t value) { return uvarint_size(zigzag(value)); }

}  // namespace pyralog::base
