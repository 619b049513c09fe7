#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/segment.h"
#include "model/fundamental.h"

namespace pyralog::log {

/// How compaction puts one file in the place of several, so that a crash anywhere leaves the old
/// ones or the new one:
///   1. BASE.log.cleaned is written and synced; an accident leaves it, and it is removed.
///   2. It becomes BASE.log.swap, durably: from here on the new file counts. Its header says up to
///   which
///      offset it replaces the others.
///   3. The segments that it replaces, but for the first, and the first one's indexes are removed,
///      durably; then it takes the first one's name.
/// The evidence must lie in a later segment before step 2.
inline constexpr std::string_view kCleanedExtension = "log.cleaned";
inline constexpr std::string_view kSwapExtension = "log.swap";

/// The base offset if `name` is that of such a file with this extension.
[[nodiscard]] std::optional<Offset> parse_swap_name(std::string_view name,
                                                    std::string_view extension);

/// Step 3, for the file BASE.log.swap in `dir` that is there. May be done again after a crash
/// anywhere in it. `forget` is told of each path before it goes or changes.
[[nodiscard]] io::Task<Result<void>> finish_swap(io::Disk& disk, std::string dir, Offset base,
                                                 Offset next,
                                                 std::function<void(const std::string&)> forget);

/// Up to which offset the file `name` (BASE.log.swap) in the directory of partition `id` replaces
/// others. kCorrupt, with the reason, if its header is damaged or another partition's, or if no
/// segment begins where it ends: then it replaces nothing.
[[nodiscard]] io::Task<Result<Offset>> swap_end(io::Disk& disk, std::string dir, std::string name,
                                                PartitionId id);

/// Finishes what a crash has interrupted in `dir`, the directory of partition `id`, and removes
/// what never counted. A BASE.log.swap that cannot be right: kCorrupt names it, or with `set_aside`
/// it gets the ending .damaged.
[[nodiscard]] io::Task<Result<void>> settle_swaps(io::Disk& disk, std::string dir, PartitionId id,
                                                  bool set_aside = false);

}  // namespace pyralog::log
