#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace pyralog::io {

/// Random bits: the operating system's generator seeds the real one; the simulated one follows the
/// run's seed. One shard only.
class Rng {
 public:
  virtual ~Rng() = default;
  [[nodiscard]] virtual std::uint64_t next() = 0;
  void fill(MutableBytes out) {
    for (std::size_t i = 0; i < out.size(); i += 8) {
      const std::uint64_t word = next();
      const std::size_t n = out.size() - i < 8 ? out.size() - i : 8;
      std::memcpy(out.data() + i, &word, n);
    }
  }
  /// Uniform in [0, bound); bound > 0.
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
};

}  // namespace pyralog::io
