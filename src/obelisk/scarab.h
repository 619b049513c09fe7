#pragma once

#include <atomic>
#include <cstdint>
#include <expected>

#include "base/assert.h"
#include "base/result.h"
#include "base/strong.h"
#include "base/time.h"

namespace pyralog::obelisk {

/// A unique id that sorts by time: 41 bits of milliseconds since 2025-01-01T00:00Z, 10 bits of
/// machine, 13 bits of sequence. Positive as int64 until 2059-11-04.
using ScarabId = Strong<std::uint64_t, struct ScarabIdTag>;

inline constexpr std::int64_t kScarabEpochMs = 1'735'689'600'000;  ///< 2025-01-01T00:00Z
inline constexpr std::uint64_t kScarabMachines = 1024;
inline constexpr std::uint64_t kScarabPerMs = 8192;
inline constexpr std::uint64_t kScarabEndMs = std::uint64_t{1} << 41;  ///< 2094-09-07
/// How far ids may run ahead of the clock before a generator waits.
inline constexpr std::uint64_t kScarabBorrowMs = 10;
/// The most ids of one call: what may be borrowed.
inline constexpr std::uint64_t kScarabMaxBatch = kScarabBorrowMs * kScarabPerMs;

struct ScarabParts {
  std::uint64_t ms = 0;  ///< since kScarabEpochMs
  std::uint16_t machine = 0;
  std::uint16_t sequence = 0;
  friend bool operator==(const ScarabParts&, const ScarabParts&) = default;
};
/// Each part within its bits.
[[nodiscard]] ScarabId make_scarab(const ScarabParts& parts);
[[nodiscard]] ScarabParts scarab_parts(ScarabId id);

/// Consecutive ids of one generator; its milliseconds may change within.
class ScarabRange {
 public:
  ScarabRange(std::uint64_t first_tick, std::uint64_t count, std::uint16_t machine)
      : first_(first_tick), count_(count), machine_(machine) {}
  [[nodiscard]] std::uint64_t size() const { return count_; }
  /// The i-th id, i < size().
  [[nodiscard]] ScarabId operator[](std::uint64_t i) const;

 private:
  std::uint64_t first_;  ///< milliseconds ∥ sequence
  std::uint64_t count_;
  std::uint16_t machine_;
};

/// The arithmetic of a Scarab generator: pure (both clocks are handed in) and safe for any number
/// of threads without a lock. Its state is a tick, milliseconds ∥ sequence: each id takes max(last
/// + 1, now ∥ 0), so ids are unique and ascend however the wall clock jumps. When that steps back,
/// the generator's own time goes on at half speed until the clock has caught up.
class ScarabClock {
 public:
  enum class Wait : std::uint8_t {
    kCeiling,  ///< the durable ceiling must rise first
    kTime,     ///< ids have run `kScarabBorrowMs` ahead of the clock
    kEnd,      ///< the 41 bits are used up
  };

  /// Begins at the later of clock and `ceiling_ms`, which nothing issued before has reached.
  ScarabClock(std::uint64_t ceiling_ms, WallMs wall, Instant now);

  /// The first of `count` consecutive ticks, all below the ceiling; 1 ≤ count ≤
  /// kScarabMaxBatch.
  [[nodiscard]] std::expected<std::uint64_t, Wait> take(std::uint64_t count, WallMs wall,
                                                        Instant now);
  /// The generator's time: the wall clock, or ahead of it after a step back.
  [[nodiscard]] std::uint64_t time_ms(WallMs wall, Instant now);

  /// Milliseconds below which ids may be issued; only grows.
  [[nodiscard]] std::uint64_t ceiling_ms() const { return ceiling_ms_.load(); }
  void raise_ceiling(std::uint64_t ms);
  /// The millisecond of the newest id.
  [[nodiscard]] std::uint64_t last_ms() const { return last_.load() >> 13; }

 private:
  std::atomic<std::uint64_t> last_;  ///< the newest tick that has been issued
  std::atomic<std::uint64_t> ceiling_ms_;
  std::atomic<std::int64_t> origin_ms_;  ///< the generator's time is at least this + uptime / 2
};

}  // namespace pyralog::obelisk
