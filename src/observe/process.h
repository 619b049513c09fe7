#pragma once

#include <cstdint>

namespace pyralog::observe {

/// What the operating system says of this process. What cannot be asked is 0.
struct ProcessStats {
  double cpu_seconds = 0;  ///< of all threads since it began, user and system
  std::uint64_t resident_bytes = 0;
  std::uint64_t virtual_bytes = 0;
  std::uint64_t open_files = 0;      ///< descriptors
  std::uint64_t max_open_files = 0;  ///< that there may be
};

/// Asks it. Blocks the thread while it reads /proc, a few milliseconds where there are very many
/// descriptors: call it in a pool.
[[nodiscard]] ProcessStats process_stats();

}  // namespace pyralog::observe
