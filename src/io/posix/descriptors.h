#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace pyralog::io::posix {

/// What this process has open, as far as this room has opened it: files and sockets. The limit is the
/// process's, and so is the count. Any thread.
void count_opened();
void count_closed();

/// Of `limit` descriptors, those that new connections leave to files: segments and journals have to be
/// opened whatever clients do. Pure.
[[nodiscard]] std::uint64_t kept_for_files(std::uint64_t limit);
/// Whether one more connection leaves enough. Asks the system for the limit.
[[nodiscard]] bool room_for_connection();
/// What a listener says that has to wait for such room: kExhausted.
[[nodiscard]] Error no_room_for_connection(const std::string& listener);

}  // namespace pyralog::io::posix
