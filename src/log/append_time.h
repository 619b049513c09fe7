#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "model/fundamental.h"

namespace pyralog::log {

/// "At `append_ms` by the server's clock the batch at `base` was appended."
struct AppendTime {
  std::int64_t append_ms = 0;
  Offset base;
  friend bool operator==(const AppendTime&, const AppendTime&) = default;
};

inline constexpr std::size_t kAppendTimeEntryBytes = 20;

/// One entry of `.appendtime`, with its checksum, which binds it to its segment and place.
void encode_append_time(Bytes& out, Offset segment, std::uint64_t index, const AppendTime& entry);

struct AppendTimes {
  std::vector<AppendTime> entries;  ///< the sound ones, in order
  std::uint64_t bad_entries = 0;    ///< skipped: their checksum fails or they go back
  std::uint64_t next_index = 0;     ///< where the next entry goes
};
/// Reads an `.appendtime`, or the part of it that begins with entry `first_index`; entries at or above
/// `end` are left out.
[[nodiscard]] AppendTimes decode_append_times(ByteView bytes, Offset segment, Offset end,
                                              std::uint64_t first_index = 0);

}  // namespace pyralog::log
