#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "cluster/joined.h"

namespace pyralog::server {

/// Who takes part in agreeing on the metadata log: more would only make it slower.
inline constexpr std::size_t kMaxMembers = 5;
inline constexpr std::size_t kLeastSecretBytes = 16;
inline constexpr std::size_t kMostSecretBytes = 4096;

/// "1@HOST:PORT,2@HOST:PORT,3@HOST:PORT" in the order in which it is written. kInvalidArgument
/// names the entry and says what is wrong. Pure.
[[nodiscard]] Result<std::vector<cluster::Member>> parse_members(std::string_view text);

/// What the file holds, without the end of its last line. Refuses what is no file, what others than
/// its owner may read, and what is no secret: empty, too short or too long. Never says what it
/// holds. Blocks the calling thread.
[[nodiscard]] Result<Bytes> read_secret(const std::string& path);

}  // namespace pyralog::server
