#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/time.h"

namespace pyralog::broker {

/// What is kept free on the disk; nullopt = as the disk's size suggests.
struct SpaceOptions {
  std::optional<std::uint64_t> min_free_bytes = 0;  ///< min.free.bytes
  std::optional<std::uint64_t> reserve_bytes = 0;   ///< disk.reserve.bytes
};

/// The same in bytes, for a disk of a certain size. Both 0 = nothing is ever refused.
struct SpaceLimits {
  std::uint64_t floor = 0;  ///< clients' records are refused below it; never less than the reserve
  std::uint64_t reserve = 0;  ///< what the reserve takes
};
[[nodiscard]] SpaceLimits space_limits(const SpaceOptions& options, std::uint64_t disk_bytes);

/// Whether records of clients may be written, and whether the reserve is to be there. Pure.
///
/// What is still missing of the reserve counts as taken. So that it goes or comes changes nothing
/// about who may write: what it sets free belongs to deletions, committed offsets and metadata.
class SpaceGuard {
 public:
  struct Input {
    std::uint64_t free_bytes = 0;  ///< as the file system says
    std::uint64_t held_bytes = 0;  ///< that the reserve takes
    bool no_space = false;         ///< a write has just been refused for want of space
  };
  enum class Reserve : std::uint8_t { kKeep, kRelease, kHold };
  struct Step {
    bool turned = false;  ///< it refuses now and did not, or the other way round
    Reserve reserve = Reserve::kKeep;
    Duration again{};  ///< look again after so long
  };

  explicit SpaceGuard(SpaceLimits limits) : limits_(limits) {}
  [[nodiscard]] Step step(const Input& in, Instant now);
  [[nodiscard]] bool refusing() const { return refusing_; }
  [[nodiscard]] const SpaceLimits& limits() const { return limits_; }
  /// The disk may have another size now.
  void limit(SpaceLimits limits) { limits_ = limits; }

 private:
  SpaceLimits limits_;
  bool refusing_ = false;
  Instant calm_from_{};  ///< earlier than this it is not believed that there is space again
};

/// "12 MiB", for people; rounded down.
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);

}  // namespace pyralog::broker
