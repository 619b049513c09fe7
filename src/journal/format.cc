#include "journal/format.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/crc32c.h"

namespace pyralog::journal {

namespace {

constexpr std::string_view kMagic = "PYRAJRNL";

std::uint32_t frame_header_crc(const std::uint8_t* fields, std::uint64_t position,
                               std::uint32_t seed) {
  std::uint8_t covered[24];
  store_le(covered, position);
  std::copy_n(fields, 16, covered + 8);
  return crc32c(covered, seed);
}

}  // namespace

Bytes encode(const FileHeader& header) {
  Writer out;
  out.raw(as_bytes(kMagic)).le(kVersion).le(std::uint16_t{0}).le(header.kind);
  out.raw(header.owner.bytes).le(header.salt);
  out.raw(Bytes(kFileHeaderBytes - 4 - out.size(), 0));
  out.le(crc32c(out.view()));
  return out.take();
}

Result<FileHeader> decode_file_header(ByteView file, const std::string& path) {
  const auto damaged = [&](const char* what) {
    return fail(Code::kCorrupt,
                fmt::format("journal {} is damaged at byte 0: {}; restore it from a copy", path, what));
  };
  if (file.size() < kFileHeaderBytes) return damaged("it is shorter than its header");
  Reader in(file.first(kFileHeaderBytes));
  if (as_text(in.raw(kMagic.size())) != kMagic) return damaged("it does not begin as a journal");
  const auto version = in.le<std::uint16_t>();
  (void)in.le<std::uint16_t>();
  FileHeader header;
  header.kind = in.le<std::uint32_t>();
  const ByteView owner = in.raw(header.owner.bytes.size());
  std::copy(owner.begin(), owner.end(), header.owner.bytes.begin());
  header.salt = in.le<std::uint64_t>();
  const auto crc = load_le<std::uint32_t>(file.data() + kFileHeaderBytes - 4);
  if (crc != crc32c(file.first(kFileHeaderBytes - 4))) return damaged("its header fails the checksum");
  if (version != kVersion) {
    return fail(Code::kUnsupported,
                fmt::format("journal {} has format version {}, this program reads version {}; start "
                            "the version of pyralog that wrote it, or a later one",
                            path, version, kVersion));
  }
  return header;
}

void encode_frame_header(Bytes& out, ByteView payload, std::uint64_t position,
                         std::uint64_t durable, std::uint32_t seed) {
  out.resize(kFrameHeaderBytes);
  store_le(out.data(), static_cast<std::uint32_t>(payload.size()));
  store_le(out.data() + 4, crc32c(payload, seed));
  store_le(out.data() + 8, durable);
  store_le(out.data() + 16, frame_header_crc(out.data(), position, seed));
}

std::optional<Frame> read_frame(ByteView file, std::uint64_t position, std::uint32_t seed,
                                std::size_t max_frame_bytes) {
  if (position > file.size() || file.size() - position < kFrameHeaderBytes) return std::nullopt;
  const std::uint8_t* header = file.data() + position;
  const auto length = load_le<std::uint32_t>(header);
  if (length > max_frame_bytes || length > file.size() - position - kFrameHeaderBytes) {
    return std::nullopt;
  }
  if (load_le<std::uint32_t>(header + 16) != frame_header_crc(header, position, seed)) {
    return std::nullopt;
  }
  Frame frame;
  frame.durable = load_le<std::uint64_t>(header + 8);
  frame.payload = file.subspan(position + kFrameHeaderBytes, length);
  if (frame.durable > position || load_le<std::uint32_t>(header + 4) != crc32c(frame.payload, seed)) {
    return std::nullopt;
  }
  return frame;
}

std::optional<std::uint64_t> find_witness(ByteView file, std::uint64_t bad, std::uint32_t seed,
                                          std::size_t max_frame_bytes) {
  // Lengths below the bad frame cannot be trusted, so every byte may begin a frame; the checksum of
  // the 20 bytes settles nearly all of them.
  std::uint64_t at = bad + 1;
  while (at < file.size() && file.size() - at >= kFrameHeaderBytes) {
    const auto frame = read_frame(file, at, seed, max_frame_bytes);
    if (!frame) {
      ++at;
      continue;
    }
    if (frame->durable > bad) return at;
    at += kFrameHeaderBytes + frame->payload.size();
  }
  return std::nullopt;
}

}  // namespace pyralog::journal
