#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cli/machine.h"

namespace pyralog::cli {

enum class Health : std::uint8_t { kOk, kWarning, kProblem };
[[nodiscard]] const char* to_text(Health health);

/// One line of `doctor`.
struct Check {
  std::string name;  ///< "disk sync"
  Health health = Health::kOk;
  std::string what;
  std::string remedy;                                         ///< empty if it is ok
  std::vector<std::pair<std::string, std::int64_t>> numbers;  ///< for programs, unit in the name
};

/// What the settings say that a machine must bear.
struct Needs {
  std::uint64_t segment_bytes = 0;
  std::uint64_t memory_bytes = 0;  ///< that requests, answers and topics may take, memory.max.bytes
  std::uint64_t min_free_bytes = 0;  ///< with less of the disk free, records are refused
};

/// Judges what was seen of a machine. Pure. The bounds stand in checkup.cc, each with its reason.
[[nodiscard]] std::vector<Check> check_up(const Machine& machine, const Needs& needs);

}  // namespace pyralog::cli
