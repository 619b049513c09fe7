#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "model/fundamental.h"

namespace pyralog::cluster {

/// What makes a data directory the directory of one node: written before anything else, and again
/// at every start. The metadata log holds the last one that was registered, so a directory that was
/// copied, restored from a backup or mixed up is noticed.
struct Cookie {
  Uuid cluster;  ///< the cluster's name for good
  NodeId node;
  Uuid incarnation;                ///< a replaced disk gets another one
  std::uint64_t boot_counter = 0;  ///< starts so far; 0 while the first one has not finished
  std::string os_boot_id;          ///< the operating system's start that last recorded its losses
  friend bool operator==(const Cookie&, const Cookie&) = default;
};

inline constexpr std::uint32_t kCookieVersion = 1;

/// "PYRACOOK", u32 version, cluster, i32 node, incarnation, u64 boot counter, sized OS boot id,
/// CRC-32C of all before it; integers little-endian.
[[nodiscard]] Bytes encode(const Cookie& cookie);
/// kCorrupt for damage, kUnsupported for a newer version; `path` goes into the message.
[[nodiscard]] Result<Cookie> decode_cookie(ByteView bytes, const std::string& path);

[[nodiscard]] std::string cookie_path(const std::string& data_dir);
/// nullopt if there is none.
[[nodiscard]] io::Task<Result<std::optional<Cookie>>> read_cookie(io::Disk& disk,
                                                                  std::string data_dir);
/// Replaces the cookie durably.
[[nodiscard]] io::Task<Result<void>> write_cookie(io::Disk& disk, std::string data_dir,
                                                  Cookie cookie);

}  // namespace pyralog::cluster
