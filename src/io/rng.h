#pragma once

#include <array>
#include <bit>
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
  /// True with the given probability.
  [[nodiscard]] bool chance(double probability) {
    return static_cast<double>(next() >> 11) * 0x1.0p-53 < probability;
  }
};

/// xoshiro256** (Blackman and Vigna), its state filled by splitmix64 from one seed.
class SeededRng final : public Rng {
 public:
  explicit SeededRng(std::uint64_t seed) {
    for (auto& word : state_) {
      seed += 0x9e3779b97f4a7c15U;
      std::uint64_t z = seed;
      z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
      z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
      word = z ^ (z >> 31U);
    }
  }
  [[nodiscard]] std::uint64_t next() override {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t t = state_[1] << 17U;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

 private:
  std::array<std::uint64_t, 4> state_{};
};

}  // namespace pyralog::io
