#include "obelisk/scarab.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::obelisk {
namespace {

constexpr std::uint64_t kSequenceMask = kScarabPerMs - 1;

ScarabId of_tick(std::uint64_t tick, std::uint64_t machine) {
  return ScarabId((tick >> 13) << 23 | machine << 13 | (tick & kSequenceMask));
}
std::int64_t since_epoch(WallMs wall) {
  return std::max<std::int64_t>(wall.ms - kScarabEpochMs, 0);
}
std::int64_t half_uptime_ms(Instant now) {
  return now.ns / 2'000'000;
}

}  // namespace

ScarabId make_scarab(const ScarabParts& parts) {
  if (PYRALOG_PLANT("scarab.sequence_bleeds")) {
    return ScarabId(parts.ms << 23 | std::uint64_t{parts.machine} << 12 | parts.sequence);
  }
  PYRALOG_ASSERT(parts.ms < kScarabEndMs && parts.machine < kScarabMachines &&
                 parts.sequence < kScarabPerMs);
  return of_tick(parts.ms << 13 | parts.sequence, parts.machine);
}

ScarabParts scarab_parts(ScarabId id) {
  return {id.value >> 23, static_cast<std::uint16_t>(id.value >> 13 & (kScarabMachines - 1)),
          static_cast<std::uint16_t>(id.value & kSequenceMask)};
}

ScarabId ScarabRange::operator[](std::uint64_t i) const {
  PYRALOG_ASSERT(i < count_);
  return of_tick(first_ + i, machine_);
}

ScarabClock::ScarabClock(std::uint64_t ceiling_ms, WallMs wall, Instant now)
    : ceiling_ms_(ceiling_ms) {
  std::int64_t start = std::max(since_epoch(wall), static_cast<std::int64_t>(ceiling_ms));
  if (PYRALOG_PLANT("scarab.trust_the_clock")) start = since_epoch(wall);
  origin_ms_.store(start - half_uptime_ms(now));
  last_.store(static_cast<std::uint64_t>(start) << 13);
}

std::uint64_t ScarabClock::time_ms(WallMs wall, Instant now) {
  const std::int64_t up = half_uptime_ms(now);
  const std::int64_t clock = since_epoch(wall);
  std::int64_t origin = origin_ms_.load(std::memory_order_relaxed);
  while (origin + up < clock && !origin_ms_.compare_exchange_weak(origin, clock - up)) {
  }
  return static_cast<std::uint64_t>(std::max(origin + up, clock));
}

std::expected<std::uint64_t, ScarabClock::Wait> ScarabClock::take(std::uint64_t count, WallMs wall,
                                                                  Instant now) {
  PYRALOG_ASSERT(count > 0 && count <= kScarabMaxBatch);
  std::uint64_t time = time_ms(wall, now);
  std::uint64_t last = last_.load(std::memory_order_relaxed);
  if (PYRALOG_PLANT("scarab.trust_the_clock")) {
    time = static_cast<std::uint64_t>(since_epoch(wall));
    if (last >> 13 > time) last = (time << 13) - 1;
    last_.store(last);
  }
  while (true) {
    const std::uint64_t first = std::max(last + 1, time << 13);
    const std::uint64_t end = first + count - 1;
    if (end >> 13 >= kScarabEndMs) return std::unexpected(Wait::kEnd);
    if (end >> 13 > time + kScarabBorrowMs) return std::unexpected(Wait::kTime);
    if (end >> 13 >= ceiling_ms_.load(std::memory_order_acquire) &&
        !PYRALOG_PLANT("scarab.past_the_ceiling")) {
      return std::unexpected(Wait::kCeiling);
    }
    const std::uint64_t after = PYRALOG_PLANT("scarab.batch_takes_one") ? first : end;
    if (last_.compare_exchange_weak(last, after, std::memory_order_acq_rel)) return first;
  }
}

void ScarabClock::raise_ceiling(std::uint64_t ms) {
  std::uint64_t now = ceiling_ms_.load();
  while (now < ms && !ceiling_ms_.compare_exchange_weak(now, ms)) {
  }
}

}  // namespace pyralog::obelisk
