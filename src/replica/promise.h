#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "model/fundamental.h"
#include "replica/messages.h"

namespace pyralog::replica {

/// What a journal keeps of a partition's promise: one frame, the newest of a partition counts.
struct PromiseFrame {
  PartitionId partition;
  Promise promise;
  friend bool operator==(const PromiseFrame&, const PromiseFrame&) = default;
};

/// u8 version (1; 2: it is emptied), 16 bytes topic, i32 partition, u32 promised, u32 joined, u32
/// lossy, u8 in doubt (0, 1); little-endian. The journal around it carries length and checksum.
[[nodiscard]] Bytes encode(const PromiseFrame& frame);
/// kUnsupported for another version; kCorrupt for anything else that `encode` does not write.
[[nodiscard]] Result<PromiseFrame> decode_promise(ByteView bytes);

}  // namespace pyralog::replica
