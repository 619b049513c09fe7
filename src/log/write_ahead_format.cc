#include "log/write_ahead_format.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/crc32c.h"
#include "base/hash.h"

namespace pyralog::log {

namespace {

constexpr std::string_view kMagic = "PYRAWAHD";
constexpr std::size_t kHeaderBytes = 64;
constexpr std::size_t kSecondCopy = kWriteAheadBlock;
constexpr std::uint8_t kEvidenceItem = 1;
constexpr std::uint8_t kDataItem = 2;

Bytes encode_copy(const WriteAheadHeader& header) {
  Writer out;
  out.raw(as_bytes(kMagic)).le(kWriteAheadVersion).le(std::uint16_t{0}).le(header.shard);
  out.le(header.generation).le(header.salt);
  out.raw(Bytes(kHeaderBytes - 4 - out.size(), 0));
  out.le(crc32c(out.view()));
  return out.take();
}

std::uint64_t header_hash(const std::uint8_t* fields, std::uint64_t position, std::uint64_t salt) {
  std::uint8_t covered[16];
  store_le(covered, position);
  std::copy_n(fields, 8, covered + 8);
  return xxh3_64(covered, salt);
}

std::uint32_t body_crc(ByteView body, std::uint64_t salt) {
  return crc32c(body, static_cast<std::uint32_t>(salt));
}

}  // namespace

Bytes encode(const WriteAheadHeader& header) {
  Bytes block(kWriteAheadFirst, 0);
  const Bytes copy = encode_copy(header);
  std::ranges::copy(copy, block.begin());
  std::ranges::copy(copy, block.begin() + kSecondCopy);
  return block;
}

Result<WriteAheadHeader> decode_write_ahead_header(ByteView block, const std::string& path) {
  for (const std::size_t at : {std::size_t{0}, kSecondCopy}) {
    if (block.size() < at + kHeaderBytes) break;
    const ByteView copy = block.subspan(at, kHeaderBytes);
    Reader in(copy);
    if (as_text(in.raw(kMagic.size())) != kMagic) continue;
    const auto version = in.le<std::uint16_t>();
    (void)in.le<std::uint16_t>();
    WriteAheadHeader header;
    header.shard = in.le<std::uint32_t>();
    header.generation = in.le<std::uint64_t>();
    header.salt = in.le<std::uint64_t>();
    if (load_le<std::uint32_t>(copy.data() + kHeaderBytes - 4) != crc32c(copy.first(kHeaderBytes - 4)))
      continue;
    if (version == kWriteAheadVersion) return header;
    return fail(Code::kUnsupported,
                fmt::format("write-ahead file {} has format version {}, this program reads version "
                            "{}; start the version of pyralog that wrote it, or a later one",
                            path, version, kWriteAheadVersion));
  }
  return fail(Code::kCorrupt, fmt::format("write-ahead file {} has no sound header", path));
}

std::string_view extension_of(WriteAheadFile file) {
  return file == WriteAheadFile::kLog ? "log" : "appendtime";
}

void put_evidence(Bytes& body, const SyncedEntry& entry) {
  const Bytes encoded = encode(entry);
  Writer out;
  out.le(kEvidenceItem).sized(encoded);
  body.insert(body.end(), out.view().begin(), out.view().end());
}

void put_data_header(Bytes& body, const WriteAheadData& item, std::uint32_t length) {
  Writer out;
  out.le(kDataItem).raw(item.partition.topic.uuid.bytes).le(item.partition.partition.value);
  out.le(item.segment.value).le(static_cast<std::uint8_t>(item.file)).le(item.position).le(length);
  body.insert(body.end(), out.view().begin(), out.view().end());
}

Result<WriteAheadBody> decode_write_ahead_body(ByteView body) {
  WriteAheadBody found;
  Reader in(body);
  while (in.ok() && in.left() > 0) {
    const auto kind = in.le<std::uint8_t>();
    if (kind == kEvidenceItem) {
      PYRALOG_ASSIGN(const SyncedEntry entry, decode_synced_entry(in.sized()));
      found.evidence.push_back(entry);
      continue;
    }
    WriteAheadData& item = found.data.emplace_back();
    const ByteView topic = in.raw(item.partition.topic.uuid.bytes.size());
    std::ranges::copy(topic, item.partition.topic.uuid.bytes.begin());
    item.partition.partition.value = in.le<std::int32_t>();
    item.segment.value = in.le<std::int64_t>();
    const auto file = in.le<std::uint8_t>();
    item.file = static_cast<WriteAheadFile>(file);
    item.position = in.le<std::uint64_t>();
    item.bytes = in.sized();
    if (kind != kDataItem || file > static_cast<std::uint8_t>(WriteAheadFile::kAppendTimes) ||
        item.segment.value < 0 || item.position > UINT64_MAX - item.bytes.size()) {
      return fail(Code::kCorrupt, "a frame of a write-ahead file does not parse");
    }
  }
  if (!in.done()) return fail(Code::kCorrupt, "a frame of a write-ahead file does not parse");
  return found;
}

void seal_write_ahead_frame(MutableBytes frame, std::uint64_t position, std::uint64_t salt) {
  const ByteView body = ByteView(frame).subspan(kWriteAheadFrameHeaderBytes);
  store_le(frame.data(), static_cast<std::uint32_t>(body.size()));
  store_le(frame.data() + 4, body_crc(body, salt));
  store_le(frame.data() + 8, header_hash(frame.data(), position, salt));
}

std::optional<std::uint32_t> write_ahead_body_length(ByteView header, std::uint64_t position,
                                                     std::uint64_t salt) {
  if (header.size() < kWriteAheadFrameHeaderBytes) return std::nullopt;
  const auto length = load_le<std::uint32_t>(header.data());
  if (length == 0 || length > kMaxWriteAheadBody) return std::nullopt;
  if (load_le<std::uint64_t>(header.data() + 8) != header_hash(header.data(), position, salt)) {
    return std::nullopt;
  }
  return length;
}

bool write_ahead_body_sound(ByteView header, ByteView body, std::uint64_t salt) {
  return load_le<std::uint32_t>(header.data() + 4) == body_crc(body, salt);
}

std::string write_ahead_name(unsigned shard, unsigned half) {
  return fmt::format("shard-{}.{}.wal", shard, half);
}

}  // namespace pyralog::log
