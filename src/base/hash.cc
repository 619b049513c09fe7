#include "base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace pyralog::base {

std::uint64_t xxh3_64(ByteView bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

SecretHash::Value SecretHash::operator()(ByteView bytes) const {
  const XXH128_hash_t hash =
      XXH3_128bits_withSecret(bytes.data(), bytes.size(), secret_.data(), secret_.size());
  return {hash.low64, hash.high64};
}

std::uint32_t murmur2(ByteView bytes) {
  constexpr std::uint32_t kMul = 0x5bd1e995;
  constexpr std::uint32_t kSeed = 0x9747b28c;
  std::uint32_t h = kSeed ^ static_cast<std::uint32_t>(bytes.size());
  std::size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) {
    auto k = load_le<std::uint32_t>(bytes.data() + i);
    k *= kMul;
    k ^= k >> 24;
    k *= kMul;
    h = (h * kMul) ^ k;
  }
  const std::size_t tail = bytes.size() - i;
  if (tail == 3) h ^= static_cast<std::uint32_t>(bytes[i + 2]) << 16;
  if (tail >= 2) h ^= static_cast<std::uint32_t>(bytes[i + 1]) << 8;
  if (tail >= 1) h = (h ^ bytes[i]) * kMul;
  h ^= h >> 13;
  h *= kMul;
  h ^= h >> 15;
  return h;
}

std::uint32_t kafka_partition(ByteView key, std::uint32_t partitions) {
  PYRALOG_ASSERT(partitions > 0);
  return (murmur2(key) & 0x7fffffffu) % partitions;
}

}  // namespace pyralog::base
