#include "base/crc32c.h"

#include <isa-l/crc.h>

namespace pyralog::base {

std::uint32_t crc32c(ByteView bytes, std::uint32_t seed) {
  // ISA-L takes an int length and a non-const pointer that it does not write to; it neither inverts
  // before nor after.
  std::uint32_t crc = ~seed;
  const std::uint8_t* p = bytes.data();
  std::size_t left = bytes.size();
  constexpr std::size_t kStep = 1u << 30;
  while (left > 0) {
    const std::size_t step = left < kStep ? left : kStep;
    crc = crc32_iscsi(const_cast<unsigned char*>(p), static_cast<int>(step), crc);
    p += step;
    left -= step;
  }
  return ~crc;
}

}  // namespace pyralog::base
