#include "base/varint.h"

#include <bit>

namespace pyralog::base {

namespace detail {

std::optional<std::uint64_t> decode_long_uvarint(ByteView& in, unsigned max_bytes) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < max_bytes; ++i) {
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

}  // namespace detail

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
