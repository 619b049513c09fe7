#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "model/fundamental.h"

namespace pyralog::journal {

// The bytes of a journal file; README.md has the tables. Pure.

inline constexpr std::size_t kFileHeaderBytes = 64;
inline constexpr std::size_t kFrameHeaderBytes = 20;
inline constexpr std::uint16_t kVersion = 1;

struct FileHeader {
  std::uint32_t kind = 0;
  Uuid owner;
  std::uint64_t salt = 0;  ///< drawn for each file; part of every checksum by way of the header's
};
[[nodiscard]] Bytes encode(const FileHeader& header);
[[nodiscard]] Result<FileHeader> decode_file_header(ByteView file, const std::string& path);

struct Frame {
  ByteView payload;
  std::uint64_t durable = 0;  ///< the file was durable up to here when the frame was written
};
void encode_frame_header(Bytes& out, ByteView payload, std::uint64_t position,
                         std::uint64_t durable, std::uint32_t seed);
/// The frame at `position` of `file`, if there is a sound one.
[[nodiscard]] std::optional<Frame> read_frame(ByteView file, std::uint64_t position,
                                              std::uint32_t seed, std::size_t max_frame_bytes);
/// Position of a sound frame after `bad` which says that `bad` had been durable.
[[nodiscard]] std::optional<std::uint64_t> find_witness(ByteView file, std::uint64_t bad,
                                                        std::uint32_t seed,
                                                        std::size_t max_frame_bytes);

}  // namespace pyralog::journal
