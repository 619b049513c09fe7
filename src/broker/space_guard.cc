#include "broker/space_guard.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::broker {

namespace {
constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;
constexpr std::uint64_t kGiB = 1024 * kMiB;
constexpr std::uint64_t kBlock = 4 * kKiB;

/// Small disks must stay usable, and on large ones a share would be a waste.
constexpr std::uint64_t kMinFree = 256 * kMiB;
constexpr std::uint64_t kMinFreeShare = 20;
constexpr std::uint64_t kReserve = 32 * kMiB;
constexpr std::uint64_t kReserveShare = 100;

/// Faster than this no disk is filled, we assume: how long until the floor may be reached.
constexpr std::uint64_t kBytesPerMs = 2 * kMiB;
constexpr std::uint64_t kSoonestMs = 25;
constexpr std::uint64_t kRefusingMs = 250;
constexpr std::uint64_t kLatestMs = 5'000;
/// After a write was refused although the file system spoke of space: a quota, perhaps.
constexpr Duration kCalm = std::chrono::seconds(5);
}  // namespace

SpaceLimits space_limits(const SpaceOptions& options, std::uint64_t disk_bytes) {
  SpaceLimits out;
  out.reserve = options.reserve_bytes.value_or(std::min(kReserve, disk_bytes / kReserveShare)) /
                kBlock * kBlock;
  out.floor = std::max(
      options.min_free_bytes.value_or(std::min(kMinFree, disk_bytes / kMinFreeShare)), out.reserve);
  return out;
}

SpaceGuard::Step SpaceGuard::step(const Input& in, Instant now) {
  const std::uint64_t free = in.no_space ? 0 : in.free_bytes;
  const std::uint64_t all = free + in.held_bytes;
  std::uint64_t available = all > limits_.reserve ? all - limits_.reserve : 0;
  if (PYRALOG_PLANT("broker.reserve_for_anybody")) available = free;
  if (in.no_space) calm_from_ = now + kCalm;

  const bool was = refusing_;
  if (available < limits_.floor) {
    refusing_ = true;
  } else if (now >= calm_from_ && (available - limits_.floor >= limits_.floor / 8 ||
                                   PYRALOG_PLANT("broker.no_hysteresis"))) {
    refusing_ = false;
  }

  Step out;
  out.turned = refusing_ != was;
  if (in.held_bytes > 0 && (free < limits_.reserve || limits_.reserve == 0)) {
    out.reserve = Reserve::kRelease;
  } else if (!refusing_ && in.held_bytes != limits_.reserve) {
    out.reserve = Reserve::kHold;
  }
  const std::uint64_t above = available - std::min(available, limits_.floor);
  const std::uint64_t ms =
      refusing_ ? kRefusingMs : std::clamp(above / kBytesPerMs, kSoonestMs, kLatestMs);
  out.again = std::chrono::milliseconds(ms);
  return out;
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes >= 10 * kGiB) return std::to_string(bytes / kGiB) + " GiB";
  if (bytes >= 10 * kMiB) return std::to_string(bytes / kMiB) + " MiB";
  if (bytes >= 10 * kKiB) return std::to_string(bytes / kKiB) + " KiB";
  return std::to_string(bytes) + " bytes";
}

}  // namespace pyralog::broker
