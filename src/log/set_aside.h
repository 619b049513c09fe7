#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"

namespace pyralog::log {

/// What a log does not need any more, and people may: kept beside it under names that no server reads.

/// "PATH.damaged", or with a number where an earlier one is there.
[[nodiscard]] io::Task<Result<std::string>> free_damaged_name(io::Disk& disk, std::string path);

/// PATH of a name that it gives; nullopt: it is none.
[[nodiscard]] std::optional<std::string_view> path_of_damaged(std::string_view name);

/// A copy of what `from` holds from `position` on, under a free name that begins with `path`; one that an
/// earlier try has made is not made again. Its bytes are durable, its name is not before the directory is
/// synced. kExhausted if there is no room for it: then, as after any error, nothing is left of it.
[[nodiscard]] io::Task<Result<void>> keep_copy(io::Disk& disk, std::shared_ptr<io::File> from,
                                               std::uint64_t position, std::string path);

}  // namespace pyralog::log
