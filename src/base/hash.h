#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"

namespace pyralog::base {

/// XXH3, 64 bits; for placement and tables, not against adversaries.
[[nodiscard]] std::uint64_t xxh3_64(ByteView bytes, std::uint64_t seed = 0);

/// XXH3, 128 bits, under a secret of random bytes: for tables that take a hash for the key itself. Who
/// does not know the secret cannot look for two keys with one hash.
class SecretHash {
 public:
  static constexpr std::size_t kSecretBytes = 192;
  using Secret = std::array<std::uint8_t, kSecretBytes>;
  struct Value {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    friend bool operator==(const Value&, const Value&) = default;
  };
  explicit SecretHash(const Secret& secret) : secret_(secret) {}
  [[nodiscard]] Value operator()(ByteView bytes) const;

 private:
  Secret secret_;
};

/// MurmurHash2 with Kafka's seed 0x9747b28c: the hash behind the default partitioner of its clients.
[[nodiscard]] std::uint32_t murmur2(ByteView bytes);

/// Kafka's partition of a key: (murmur2 & 0x7fffffff) mod `partitions`; `partitions` > 0.
[[nodiscard]] std::uint32_t kafka_partition(ByteView key, std::uint32_t partitions);

}  // namespace pyralog::base
