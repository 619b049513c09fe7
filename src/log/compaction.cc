#include "log/compaction.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/crc32c.h"
#include "base/plant.h"
#include "log/segment.h"

namespace pyralog::log {

namespace {
constexpr std::string_view kMagic = "PYRACLND";
constexpr std::uint16_t kVersion = 1;
}  // namespace

Offset CompactionState::horizon(WallMs now, std::int64_t retention_ms) const {
  Offset below(0);
  for (const Mark& mark : marks_) {
    // Both sides may be extreme, so not their sum.
    if (now.ms - retention_ms >= mark.at_ms) below = mark.upto;
  }
  return PYRALOG_PLANT("log.drop_tombstones_at_once") ? upto() : below;
}

void CompactionState::passed(Offset upto, WallMs now, std::int64_t retention_ms,
                             std::uint64_t tombstones, Offset horizon) {
  tombstones_ = tombstones;
  horizon_ = horizon;
  // The clock may have gone back; marks never do.
  const std::int64_t at = marks_.empty() ? now.ms : std::max(now.ms, marks_.back().at_ms);
  if (!marks_.empty() && marks_.back().upto >= upto) return;
  // A mark for each 32nd of the retention is enough: of those between, the time of a later one
  // holds.
  const std::size_t n = marks_.size();
  if (n > 1 && at - marks_[n - 2].at_ms < retention_ms / 32) marks_.pop_back();
  marks_.push_back({upto, at});
  // Of those that are old enough the newest says all.
  while (marks_.size() > 1 && now.ms - retention_ms >= marks_[1].at_ms)
    marks_.erase(marks_.begin());
  if (marks_.size() > kMaxMarks) marks_.erase(marks_.begin());
}

Bytes CompactionState::encode() const {
  Writer out;
  out.raw(as_bytes(kMagic)).le(kVersion).le(std::uint16_t{0});
  out.le(static_cast<std::uint32_t>(marks_.size())).le(tombstones_).le(horizon_.value);
  for (const Mark& mark : marks_) out.le(mark.upto.value).le(mark.at_ms);
  out.le(crc32c(out.view()));
  return out.take();
}

Result<CompactionState> CompactionState::decode(ByteView bytes, const std::string& path) {
  const auto damaged = [&] {
    return fail(Code::kCorrupt, fmt::format("compaction state {} fails its checks", path));
  };
  constexpr std::size_t kFixed = 8 + 4 + 4 + 8 + 8;
  if (bytes.size() < kFixed + 4) return damaged();
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
                fmt::format("compaction state {} has format version {}, this program reads version "
                            "{}; start the version of pyralog that wrote it, or a later one",
                            path, version, kVersion));
  }
  CompactionState state;
  state.tombstones_ = in.le<std::uint64_t>();
  state.horizon_ = Offset(in.le<std::int64_t>());
  if (count > kMaxMarks || in.left() != count * 16 + 4) return damaged();
  for (std::uint32_t i = 0; i < count; ++i) {
    const Mark mark{Offset(in.le<std::int64_t>()), in.le<std::int64_t>()};
    if (!state.marks_.empty() &&
        (mark.upto <= state.marks_.back().upto || mark.at_ms < state.marks_.back().at_ms)) {
      return damaged();
    }
    state.marks_.push_back(mark);
  }
  return state;
}

bool compaction_is_due(std::span<const CleanableSegment> segments, const Compaction& rule,
                       const CompactionState& state, WallMs now) {
  std::uint64_t dirty = 0;
  std::uint64_t all = 0;
  bool waited = false;
  for (const CleanableSegment& segment : segments) {
    all += segment.bytes;
    if (segment.next <= state.upto()) continue;
    dirty += segment.bytes;
    waited = waited || now.ms - rule.max_lag_ms >= segment.created_ms;
  }
  if (dirty > 0 &&
      (waited || static_cast<double>(dirty) >= rule.min_dirty_ratio * static_cast<double>(all))) {
    return true;
  }
  return !segments.empty() && state.has_old_tombstones(now, rule.delete_retention_ms);
}

bool may_join(const CleanableSegment& first, std::uint64_t written, const CleanableSegment& next,
              std::uint64_t max_bytes) {
  return written + next.bytes <= max_bytes &&
         next.next.value - first.base.value <= kMaxRelativeOffset;
}

}  // namespace pyralog::log
