#include "log/segment.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/crc32c.h"
#include "base/plant.h"

namespace pyralog::log {

namespace {

constexpr std::string_view kSegmentMagic = "PYRALOG1";
constexpr std::string_view kOffsetsMagic = "PYRAOFFX";
constexpr std::string_view kTimesMagic = "PYRATIMX";
constexpr std::uint16_t kIndexVersion = 1;
constexpr std::size_t kIndexHeaderBytes = 32;

/// 28 bytes; the checksum over these and the entries follows.
Writer index_header(std::string_view magic, std::size_t count, std::uint64_t segment_bytes,
                    std::uint32_t interval) {
  Writer out;
  out.raw(as_bytes(magic)).le(kIndexVersion).le(std::uint16_t{0});
  out.le(static_cast<std::uint32_t>(count)).le(segment_bytes).le(interval);
  return out;
}

Bytes finish_index(Writer header, const Bytes& entries) {
  const std::uint32_t crc = crc32c(entries, crc32c(header.view()));
  header.le(crc).raw(entries);
  return header.take();
}

/// The entries of an index file that passes every check.
Result<ByteView> open_index(std::string_view magic, std::size_t entry_bytes,
                            std::uint64_t segment_bytes, std::uint32_t interval, ByteView file) {
  const auto no = [] { return fail(Code::kCorrupt, "index file fails its checks"); };
  if (file.size() < kIndexHeaderBytes) return no();
  const ByteView entries = file.subspan(kIndexHeaderBytes);
  Reader in(file);
  if (as_text(in.raw(magic.size())) != magic || in.le<std::uint16_t>() != kIndexVersion) return no();
  (void)in.le<std::uint16_t>();
  const auto count = in.le<std::uint32_t>();
  if (in.le<std::uint64_t>() != segment_bytes || in.le<std::uint32_t>() != interval) return no();
  if (entries.size() != std::size_t{count} * entry_bytes) return no();
  if (in.le<std::uint32_t>() != crc32c(entries, crc32c(file.first(kIndexHeaderBytes - 4))) &&
      !PYRALOG_PLANT("log.trust_index")) {
    return no();
  }
  return entries;
}

}  // namespace

Bytes encode(const SegmentHeader& header) {
  Writer out;
  out.raw(as_bytes(kSegmentMagic)).le(kSegmentVersion).le(std::uint16_t{0});
  out.raw(header.partition.topic.uuid.bytes).le(header.partition.partition.value);
  out.le(header.base.value).le(header.epoch.value).le(header.created_ms);
  // 0 stands for none, as it did before there was such a field: a segment ends above its base.
  out.le(std::max<std::int64_t>(header.next.value, 0));
  out.raw(Bytes(kSegmentHeaderBytes - 4 - out.size(), 0));
  out.le(crc32c(out.view()));
  return out.take();
}

Result<SegmentHeader> decode_segment_header(ByteView bytes, const std::string& path) {
  const auto damaged = [&](const char* what) {
    return fail(Code::kCorrupt, fmt::format("segment {}: byte 0: {}", path, what));
  };
  if (bytes.size() < kSegmentHeaderBytes) return damaged("the file is shorter than its header");
  bytes = bytes.first(kSegmentHeaderBytes);
  Reader in(bytes);
  if (as_text(in.raw(kSegmentMagic.size())) != kSegmentMagic) {
    return damaged("the file does not begin as a segment");
  }
  const auto version = in.le<std::uint16_t>();
  (void)in.le<std::uint16_t>();
  if (load_le<std::uint32_t>(bytes.data() + kSegmentHeaderBytes - 4) !=
      crc32c(bytes.first(kSegmentHeaderBytes - 4))) {
    return damaged("the header fails its checksum");
  }
  if (version != kSegmentVersion) {
    return fail(Code::kUnsupported,
                fmt::format("segment {} has format version {}, this program reads version {}; start "
                            "the version of pyralog that wrote it, or a later one",
                            path, version, kSegmentVersion));
  }
  SegmentHeader header;
  const ByteView topic = in.raw(16);
  std::copy(topic.begin(), topic.end(), header.partition.topic.uuid.bytes.begin());
  header.partition.partition.value = in.le<std::int32_t>();
  header.base.value = in.le<std::int64_t>();
  header.epoch.value = in.le<std::uint32_t>();
  header.created_ms = in.le<std::int64_t>();
  if (const auto next = in.le<std::int64_t>(); next != 0) header.next = Offset(next);
  if (header.next.value >= 0 && header.next <= header.base) return damaged("its end is impossible");
  return header;
}

std::string segment_file_name(Offset base, std::string_view extension) {
  return fmt::format("{:020}.{}", base.value, extension);
}

std::optional<Offset> parse_segment_name(std::string_view name) {
  if (name.size() != 24 || name.substr(20) != ".log") return std::nullopt;
  Offset base;
  const auto [end, error] = std::from_chars(name.data(), name.data() + 20, base.value);
  if (error != std::errc{} || end != name.data() + 20 || base.value < 0) return std::nullopt;
  return base;
}

std::optional<Offset> parse_side_file_name(std::string_view name) {
  const std::string_view extension = name.size() > 20 ? name.substr(20) : std::string_view();
  if (extension != ".index" && extension != ".timeindex" && extension != ".appendtime" &&
      extension != kTimesBeingReplaced) {
    return std::nullopt;
  }
  return parse_segment_name(std::string(name.substr(0, 20)) + ".log");
}

void SegmentIndex::note(const BatchHeader& header, std::uint64_t position) {
  const auto relative = static_cast<std::uint32_t>(header.base_offset - base_.value);
  if (header.max_timestamp > max_.timestamp) max_ = {header.max_timestamp, relative};
  if (!offsets_.empty() && position - last_indexed_ < interval_) return;
  offsets_.push_back({relative, static_cast<std::uint32_t>(position)});
  last_indexed_ = position;
  if (times_.empty() || max_.timestamp > times_.back().timestamp) times_.push_back(max_);
}

IndexEntry SegmentIndex::floor(Offset offset) const {
  const auto next = std::upper_bound(
      offsets_.begin(), offsets_.end(), offset.value - base_.value,
      [](std::int64_t o, const IndexEntry& e) { return o < std::int64_t{e.relative_offset}; });
  return next == offsets_.begin() ? IndexEntry{0, kSegmentHeaderBytes} : *std::prev(next);
}

IndexEntry SegmentIndex::floor_position(std::uint64_t position) const {
  const auto next = std::upper_bound(
      offsets_.begin(), offsets_.end(), position,
      [](std::uint64_t p, const IndexEntry& e) { return p < std::uint64_t{e.position}; });
  return next == offsets_.begin() ? IndexEntry{0, kSegmentHeaderBytes} : *std::prev(next);
}

IndexEntry SegmentIndex::floor_timestamp(std::int64_t ts) const {
  // Up to the batch of an entry with a smaller maximum nothing can be at or above `ts`.
  const auto next = std::lower_bound(times_.begin(), times_.end(), ts,
                                     [](const TimeEntry& e, std::int64_t t) { return e.timestamp < t; });
  if (next == times_.begin()) return {0, kSegmentHeaderBytes};
  return floor(Offset(base_.value + std::prev(next)->relative_offset));
}

std::size_t SegmentIndex::memory_bytes() const {
  return offsets_.capacity() * sizeof(IndexEntry) + times_.capacity() * sizeof(TimeEntry);
}

Bytes SegmentIndex::encode_offsets(std::uint64_t segment_bytes) const {
  Writer entries;
  for (const IndexEntry& e : offsets_) entries.le(e.relative_offset).le(e.position);
  return finish_index(index_header(kOffsetsMagic, offsets_.size(), segment_bytes, interval_),
                      entries.bytes());
}

Bytes SegmentIndex::encode_times(std::uint64_t segment_bytes) const {
  Writer entries;
  for (const TimeEntry& e : times_) entries.le(e.timestamp).le(e.relative_offset);
  std::size_t count = times_.size();
  if (max_.timestamp >= 0 && (times_.empty() || times_.back() != max_)) {
    entries.le(max_.timestamp).le(max_.relative_offset);
    ++count;
  }
  return finish_index(index_header(kTimesMagic, count, segment_bytes, interval_), entries.bytes());
}

Result<SegmentIndex> SegmentIndex::decode(Offset base, std::uint32_t interval_bytes,
                                          std::uint64_t segment_bytes, ByteView offsets,
                                          ByteView times) {
  const auto no = [] { return fail(Code::kCorrupt, "index entries contradict one another"); };
  PYRALOG_ASSIGN(const ByteView pairs,
                 open_index(kOffsetsMagic, 8, segment_bytes, interval_bytes, offsets));
  PYRALOG_ASSIGN(const ByteView maxima,
                 open_index(kTimesMagic, 12, segment_bytes, interval_bytes, times));
  SegmentIndex index(base, interval_bytes);
  index.offsets_.reserve(pairs.size() / 8);
  for (std::size_t i = 0; i < pairs.size(); i += 8) {
    const IndexEntry e{load_le<std::uint32_t>(&pairs[i]), load_le<std::uint32_t>(&pairs[i + 4])};
    const bool first = index.offsets_.empty();
    if (first ? e != IndexEntry{0, kSegmentHeaderBytes}
              : e.relative_offset <= index.offsets_.back().relative_offset ||
                    e.position <= index.offsets_.back().position) {
      return no();
    }
    if (e.position >= segment_bytes) return no();
    index.offsets_.push_back(e);
  }
  if (!index.offsets_.empty()) index.last_indexed_ = index.offsets_.back().position;
  if (index.offsets_.empty() != (segment_bytes == kSegmentHeaderBytes)) return no();
  index.times_.reserve(maxima.size() / 12);
  for (std::size_t i = 0; i < maxima.size(); i += 12) {
    const TimeEntry e{load_le<std::int64_t>(&maxima[i]), load_le<std::uint32_t>(&maxima[i + 8])};
    if (!index.times_.empty() && (e.timestamp <= index.times_.back().timestamp ||
                                  e.relative_offset < index.times_.back().relative_offset)) {
      return no();
    }
    index.times_.push_back(e);
  }
  if (!index.times_.empty()) index.max_ = index.times_.back();
  return index;
}

std::optional<std::uint32_t> SegmentIndex::interval_of(ByteView file) {
  if (file.size() < kIndexHeaderBytes) return std::nullopt;
  return load_le<std::uint32_t>(file.data() + 24);
}

std::uint32_t chain_header(std::uint32_t chain, ByteView batch) {
  return crc32c(batch.first(17), chain);
}

}  // namespace pyralog::log
