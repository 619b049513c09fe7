#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "log/evidence.h"
#include "model/fundamental.h"

namespace pyralog::log {

// The bytes of a write-ahead file; docs/on-disk-format.md has the tables. Pure.

inline constexpr std::uint16_t kWriteAheadVersion = 1;
/// The header and every frame begin at a multiple of this: what is durable shares no block with what
/// is being written, and behind a bad frame the next sound one is found without reading each byte.
inline constexpr std::uint64_t kWriteAheadBlock = 4096;
/// Where the first frame begins, behind two blocks with a copy of the header each.
inline constexpr std::uint64_t kWriteAheadFirst = 2 * kWriteAheadBlock;
inline constexpr std::size_t kWriteAheadFrameHeaderBytes = 16;
/// A frame is begun anew when it has grown to this; bodies are at most twice as long.
inline constexpr std::size_t kWriteAheadFrameBytes = 1u << 20;
inline constexpr std::size_t kMaxWriteAheadBody = 2u << 20;

/// Written twice, in blocks of their own: a sector that rots is no loss.
struct WriteAheadHeader {
  std::uint32_t shard = 0;
  std::uint64_t generation = 0;  ///< a shard's files are read in this order; each use has a new one
  /// Drawn for each use, and part of every frame's checks: neither a frame of an earlier use nor bytes
  /// that a client has made up are taken for one.
  std::uint64_t salt = 0;
};
[[nodiscard]] Bytes encode(const WriteAheadHeader& header);
/// kCorrupt if no copy is sound, kUnsupported for a newer version; both name `path`.
[[nodiscard]] Result<WriteAheadHeader> decode_write_ahead_header(ByteView block,
                                                                 const std::string& path);
/// Which file of a segment a range belongs to.
enum class WriteAheadFile : std::uint8_t { kLog = 0, kAppendTimes = 1 };
[[nodiscard]] std::string_view extension_of(WriteAheadFile file);

/// Bytes of a file as they were when the frame was written.
struct WriteAheadData {
  PartitionId partition;
  Offset segment;
  WriteAheadFile file = WriteAheadFile::kLog;
  std::uint64_t position = 0;
  ByteView bytes;
};

/// What one frame says: evidence of earlier rounds, and data.
struct WriteAheadBody {
  std::vector<SyncedEntry> evidence;
  std::vector<WriteAheadData> data;  ///< views into what was decoded
};
void put_evidence(Bytes& body, const SyncedEntry& entry);
/// Appends everything of a data item but its bytes, which are to follow.
void put_data_header(Bytes& body, const WriteAheadData& item, std::uint32_t length);
/// kCorrupt if it does not parse.
[[nodiscard]] Result<WriteAheadBody> decode_write_ahead_body(ByteView body);

/// Fills in the first bytes of `frame`, which hold kWriteAheadFrameHeaderBytes and the body.
void seal_write_ahead_frame(MutableBytes frame, std::uint64_t position, std::uint64_t salt);
/// Length of the body if `header` is that of a frame at `position`.
[[nodiscard]] std::optional<std::uint32_t> write_ahead_body_length(ByteView header,
                                                                   std::uint64_t position,
                                                                   std::uint64_t salt);
/// Whether `body` is the one of which `header` speaks.
[[nodiscard]] bool write_ahead_body_sound(ByteView header, ByteView body, std::uint64_t salt);

[[nodiscard]] std::string write_ahead_name(unsigned shard, unsigned half);

}  // namespace pyralog::log
