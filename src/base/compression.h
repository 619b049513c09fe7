#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"

namespace pyralog::base {

/// Kafka's numbers (attributes bits 0–2).
enum class Codec : std::uint8_t { kNone = 0, kGzip = 1, kSnappy = 2, kLz4 = 3, kZstd = 4 };

/// "none", "gzip", …
[[nodiscard]] const char* name(Codec codec);

/// Compresses `in`; the framing is what Kafka clients read (gzip member, snappy-java blocks, LZ4
/// frame, zstd frame). Fails only for want of memory. Any thread.
[[nodiscard]] Result<Bytes> compress(Codec codec, ByteView in);

/// Inflates `in` into at most `max_bytes`; kTooLarge beyond it (the input's own idea of its size is
/// not believed, memory grows with what was really inflated), kCorrupt for anything malformed.
/// Reads gzip of several members, snappy both raw and in snappy-java's framing, and several LZ4 or
/// zstd frames in a row. Any thread.
[[nodiscard]] Result<Bytes> decompress(Codec codec, ByteView in, std::size_t max_bytes);

}  // namespace pyralog::base
