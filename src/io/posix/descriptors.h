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
/// Connections of each listener that may take half of those: one with few clients, such as those who ask
/// for the health, is heard whatever the clients of others have taken.
inline constexpr std::uint64_t kFirstConnections = 16;
/// Whether one more connection of a listener that has `others` leaves enough. Asks the system for the
/// limit.
[[nodiscard]] bool room_for_connection(std::uint64_t others);
/// What a listener says that has to wait for such room: kExhausted.
[[nodiscard]] Error no_room_for_connection(const std::string& listener);

}  // namespace pyralog::io::posix
