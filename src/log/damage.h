#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/fundamental.h"

namespace pyralog::log {

/// A part of a segment's file that did not pass its checks when it was read back from the device.
struct DamagedRange {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  Offset offset;  ///< where what lies before it ends
  std::string what;
  /// The device gave nothing: a read meets that itself, and is not refused before it has.
  bool unreadable = false;
};

/// The first of `ranges` that reads of [from, to) must be refused for; null = none. Pure.
[[nodiscard]] const DamagedRange* refused_in(const std::vector<DamagedRange>& ranges,
                                             std::uint64_t from, std::uint64_t to);
/// Forgets what lies at or above `end`.
void cut_damage(std::vector<DamagedRange>& ranges, std::uint64_t end);

/// What is said of damage at `position` of a segment's file, wherever it is met.
[[nodiscard]] std::string damage_message(std::string_view partition, std::string_view segment,
                                         std::uint64_t position, std::string_view what);

}  // namespace pyralog::log
