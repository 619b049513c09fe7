#include "log/epoch_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/crc32c.h"

namespace pyralog::log {

namespace {
constexpr std::string_view kMagic = "PYRAEPOC";
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kEntryBytes = 12;
}  // namespace

EpochTable::EpochTable(const std::vector<EpochStart>& entries) {
  for (const EpochStart& e : entries) (void)note(e.epoch, e.start);
}

bool EpochTable::note(Epoch epoch, Offset at) {
  if (epoch == last()) return true;
  if (epoch < last()) return false;
  if (!entries_.empty() && entries_.back().start > at) return false;
  // Its records have all been forgotten: nothing is left of it where the new one begins.
  if (!entries_.empty() && entries_.back().start == at) entries_.pop_back();
  entries_.push_back({epoch, at});
  return true;
}

Epoch EpochTable::at(Offset at) const {
  const auto next = std::upper_bound(entries_.begin(), entries_.end(), at,
                                     [](Offset o, const EpochStart& e) { return o < e.start; });
  return next == entries_.begin() ? Epoch(0) : std::prev(next)->epoch;
}

EpochStart EpochTable::end_of(Epoch epoch, Offset log_end) const {
  const auto next = std::upper_bound(entries_.begin(), entries_.end(), epoch,
                                     [](Epoch e, const EpochStart& s) { return e < s.epoch; });
  const Offset end = next == entries_.end() ? log_end : next->start;
  return {next == entries_.begin() ? Epoch(0) : std::prev(next)->epoch, end};
}

void EpochTable::truncate(Offset end) {
  while (!entries_.empty() && entries_.back().start >= end) entries_.pop_back();
}

void EpochTable::drop_below(Offset start) {
  while (entries_.size() > 1 && entries_[1].start <= start) entries_.erase(entries_.begin());
  if (!entries_.empty()) entries_[0].start = std::max(entries_[0].start, start);
}

Bytes EpochTable::encode() const {
  Writer out;
  out.raw(as_bytes(kMagic)).le(kVersion).le(std::uint16_t{0});
  out.le(static_cast<std::uint32_t>(entries_.size()));
  for (const EpochStart& e : entries_) out.le(e.epoch.value).le(e.start.value);
  out.le(crc32c(out.view()));
  return out.take();
}

Result<EpochTable> EpochTable::decode(ByteView bytes, const std::string& path) {
  const auto damaged = [&] {
    return fail(Code::kCorrupt, fmt::format("epoch table {} fails its checks", path));
  };
  if (bytes.size() < 20) return damaged();
  Reader in(bytes);
  if (as_text(in.raw(kMagic.size())) != kMagic) return damaged();
  const auto version = in.le<std::uint16_t>();
  (void)in.le<std::uint16_t>();
  const auto count = in.le<std::uint32_t>();
  if (load_le<std::uint32_t>(bytes.data() + bytes.size() - 4) !=
      crc32c(bytes.first(bytes.size() - 4))) {
    return damaged();
  }
  if (version != kVersion) {
    return fail(Code::kUnsupported,
                fmt::format("epoch table {} has format version {}, this program reads version {}; "
                            "start the version of pyralog that wrote it, or a later one",
                            path, version, kVersion));
  }
  if (in.left() != count * kEntryBytes + 4) return damaged();
  EpochTable table;
  for (std::uint32_t i = 0; i < count; ++i) {
    const Epoch epoch(in.le<std::uint32_t>());
    const Offset start(in.le<std::int64_t>());
    const bool rises = table.entries_.empty() || start > table.entries_.back().start;
    if (epoch <= table.last() || !rises || !table.note(epoch, start)) return damaged();
  }
  return table;
}

}  // namespace pyralog::log
