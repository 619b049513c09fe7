#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"
#include "io/net.h"

namespace pyralog::cli {

inline constexpr std::size_t kMaxHealthBytes = 1u << 20;
/// /status tells of every partition in some 200 bytes.
inline constexpr std::size_t kMaxStatusBytes = 256u << 20;

/// The body of what a server answers to GET `path` there, whatever its status; kUnavailable if
/// nobody does, or it stalls for some seconds or takes half a minute, kTooLarge beyond `most`
/// bytes. Blocks the calling thread.
[[nodiscard]] Result<std::string> http_get(const io::Address& address, std::string_view path,
                                           std::size_t most);

}  // namespace pyralog::cli
