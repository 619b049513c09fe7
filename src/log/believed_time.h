#pragma once

#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "io/disk.h"
#include "io/task.h"

namespace pyralog::log {

/// The wall time that a node's retention has gone by, in the file `believed-time` of its data directory:
/// what the next start's RetentionClock goes on from. It may be behind, never ahead: lost, or old, it only
/// lets things be kept longer.

/// kNotFound if there is none yet; any other error means that it cannot be known.
[[nodiscard]] io::Task<Result<WallMs>> load_believed_time(io::Disk& disk, std::string data_dir);
/// Replaces it durably.
[[nodiscard]] io::Task<Result<void>> store_believed_time(io::Disk& disk, std::string data_dir,
                                                         WallMs time);

[[nodiscard]] Bytes encode_believed_time(WallMs time);
/// kCorrupt, kUnsupported (a newer version). `path` is for messages.
[[nodiscard]] Result<WallMs> decode_believed_time(ByteView bytes, const std::string& path);

}  // namespace pyralog::log
