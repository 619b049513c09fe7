#pragma once

#include <string_view>

#include "base/result.h"

namespace pyralog::io::posix {

/// The Error of a system call that failed with `number`: "WHAT: CALL failed: reason".
[[nodiscard]] Error system_error(int number, std::string_view what, std::string_view call);

}  // namespace pyralog::io::posix
