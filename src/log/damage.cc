#include "log/damage.h"

#include <fmt/format.h>

#include <algorithm>

namespace pyralog::log {

const DamagedRange* refused_in(const std::vector<DamagedRange>& ranges, std::uint64_t from,
                               std::uint64_t to) {
  const auto found = std::ranges::find_if(ranges, [&](const DamagedRange& range) {
    return !range.unreadable && range.from < to && from < range.to;
  });
  return found == ranges.end() ? nullptr : &*found;
}

void cut_damage(std::vector<DamagedRange>& ranges, std::uint64_t end) {
  std::erase_if(ranges, [end](const DamagedRange& range) { return range.from >= end; });
  for (DamagedRange& range : ranges) range.to = std::min(range.to, end);
}

std::string damage_message(std::string_view partition, std::string_view segment,
                           std::uint64_t position, std::string_view what) {
  return fmt::format(
      "partition {}, segment {}, byte {}: {}; run pyralog log verify, and "
      "restore the segment from a copy or cut it with pyralog log repair",
      partition, segment, position, what);
}

}  // namespace pyralog::log
