#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/disk.h"

namespace pyralog::io::posix {

// Blocking calls, for the pools. Errors name the path.

/// Descriptor and size.
[[nodiscard]] Result<std::pair<int, std::uint64_t>> open_file(const std::string& path,
                                                              OpenMode mode);
/// Returns the parents of the directories that it created, outermost first.
[[nodiscard]] Result<std::vector<std::string>> make_directories(const std::string& path);
[[nodiscard]] Result<void> sync_directory(const std::string& path);
[[nodiscard]] Result<std::vector<DirEntry>> list_directory(const std::string& path);
[[nodiscard]] std::string read_boot_id();

}  // namespace pyralog::io::posix
