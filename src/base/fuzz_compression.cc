#include <cstdlib>

#include "base/compression.h"

/// First byte: codec; the rest is foreign data to inflate, and then plain data to carry round.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pyralog::base;
  if (size < 1) return 0;
  const auto codec = static_cast<Codec>(data[0] % 5);
  const ByteView rest(data + 1, size - 1);
  constexpr std::size_t kBound = 1u << 16;
  if (const auto out = decompress(codec, rest, kBound); out && out->size() > kBound) std::abort();
  const auto packed = compress(codec, rest);
  if (!packed) std::abort();
  const auto back = decompress(codec, *packed, rest.size());
  if (!back || back->size() != rest.size() ||
      !std::equal(back->begin(), back->end(), rest.begin())) {
    std::abort();
  }
  return 0;
}
