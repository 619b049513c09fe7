#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace pyralog::base {

/// XXH3, 64 bits; for placement and tables, not against adversaries.
[[nodiscard]] std::uint64_t xxh3_64(ByteView bytes, std::uint64_t seed = 0);

/// MurmurHash2 with Kafka's seed 0x9747b28c: the hash behind the default partitioner of its clients.
[[nodiscard]] std::uint32_t murmur2(ByteView bytes);

/// Kafka's partition of a key: (murmur2 & 0x7fffffff) mod `partitions`; `partitions` > 0.
[[nodiscard]] std::uint32_t kafka_partition(ByteView key, std::uint32_t partitions);

}  // namespace pyralog::base
