#include "log/segment_scrub.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/plant.h"
#include "log/append_time.h"
#include "log/batch_scan.h"
#include "log/shard_logs.h"
#include "observe/log.h"

namespace pyralog::log {

namespace {
constexpr std::size_t kMaxRanges =
    256;  ///< of a segment; with more of them all the rest is damaged
constexpr std::uint64_t kTimesAtOnce = 4096;
}  // namespace

SegmentScrub::SegmentScrub(ShardLogs& shard, std::shared_ptr<PartitionLog> log,
                           std::shared_ptr<Segment> segment, Pace pace)
    : shard_(shard),
      log_(std::move(log)),
      segment_(std::move(segment)),
      pace_(std::move(pace)),
      cuts_(log_->cuts_) {}

bool SegmentScrub::still_there() const {
  if (PYRALOG_PLANT("log.scrub_blames_gone")) return true;
  return !log_->offline_ && log_->cuts_ == cuts_ && !log_->cutting_ && segment_->sealed &&
         !segment_->dropped && !segment_->replaced;
}

std::unexpected<Error> SegmentScrub::gone() const {
  return fail(Code::kUnavailable, fmt::format("partition {}: segment {} is gone", log_->name(),
                                              segment_file_name(segment_->base, "log")));
}

void SegmentScrub::tell(const DamagedRange& range) const {
  const std::string file = segment_file_name(segment_->base, "log");
  const std::string message = damage_message(to_string(log_->id()), file, range.from, range.what);
  const char* event = range.unreadable ? "log.scrub_unreadable" : "log.scrub_damage";
  observe::log_error(
      event,
      {{"partition", log_->name()}, {"segment", file}, {"byte", range.from}, {"reason", message}});
}

void SegmentScrub::publish() {
  const DamagedRange& range = found_.back();
  segment_->verified.remove(range.from, range.to);
  auto& known = segment_->damaged;
  const auto place = std::ranges::lower_bound(known, range.from, {}, &DamagedRange::from);
  if (place != known.end() && place->from == range.from) {
    *place = range;
    if (PYRALOG_PLANT("log.scrub_tells_again")) tell(range);
    return;
  }
  known.insert(place, range);
  tell(range);
}

void SegmentScrub::settle() {
  for (const DamagedRange& before : segment_->damaged) {
    if (std::ranges::count(found_, before.from, &DamagedRange::from) > 0) continue;
    observe::log_warn(
        "log.scrub_sound_again",
        {{"partition", log_->name()},
         {"segment", segment_file_name(segment_->base, "log")},
         {"byte", before.from},
         {"reason", "it passes its checks now and is served again; look at the disk"}});
  }
  segment_->damaged = std::move(found_);
}

void SegmentScrub::whole_file(std::string what) {
  found_.assign(1, {0, segment_->size, segment_->base, std::move(what)});
  publish();
}

io::Task<Result<std::string>> SegmentScrub::header_fault() {
  if (file_->size() != segment_->size) {
    co_return fmt::format("the file has {} bytes, {} were written", file_->size(), segment_->size);
  }
  Bytes bytes(kSegmentHeaderBytes);
  const bool cached = PYRALOG_PLANT("log.scrub_from_cache");
  auto got = cached ? co_await file_->read_at(0, bytes) : co_await file_->read_stored(0, bytes);
  if (!still_there()) co_return gone();
  if (!got && got.error().code != Code::kIo) co_return fail(got.error());
  if (!got) {
    found_.push_back({0, kSegmentHeaderBytes, segment_->base, got.error().message, true});
    publish();
    co_return std::string();
  }
  bytes.resize(*got);
  const auto header = decode_segment_header(bytes, file_->path());
  if (!header) co_return header.error().message;
  if (header->partition != log_->id() || header->base != segment_->base) {
    co_return "the header is that of another partition or offset";
  }
  co_return std::string();
}

io::Task<Result<void>> SegmentScrub::check_file() {
  auto opened =
      co_await shard_.disk_.open(log_->path_of(segment_->base, "log"), io::OpenMode::kRead);
  if (!still_there()) co_return gone();
  if (!opened) {
    if (opened.error().code != Code::kNotFound) co_return fail(opened.error());
    whole_file("the file is missing");
    co_return Result<void>{};
  }
  file_ = std::move(*opened);
  PYRALOG_CO_ASSIGN(std::string fault, co_await header_fault());
  if (!fault.empty()) {
    whole_file(std::move(fault));
    co_return Result<void>{};
  }
  co_return co_await check_batches();
}

std::string SegmentScrub::fault_of(const BatchHeader& header, Offset expected) const {
  std::string fault = order_fault(header, expected, segment_->epoch);
  const Epoch epoch = log_->epochs_.at(Offset(header.base_offset));
  if (fault.empty() && header.leader_epoch != static_cast<std::int64_t>(epoch.value)) {
    fault = fmt::format("the batch has epoch {}, the epoch there is {}", header.leader_epoch,
                        epoch.value);
  }
  return fault;
}

io::Task<Result<std::optional<SegmentScrub::Fault>>> SegmentScrub::walk(Spot& at) {
  BatchScan scan(file_, at.position, segment_->size, BatchScan::Mode::kChecked,
                 shard_.options().verify_step_bytes, shard_.options().max_batch_bytes);
  if (!PYRALOG_PLANT("log.scrub_from_cache")) scan.read_stored();
  for (;;) {
    const BatchScan::Step step = scan.step();
    if (step == BatchScan::Step::kNeedData) {
      auto filled = co_await scan.fill();
      if (!still_there()) co_return gone();
      if (!filled && filled.error().code == Code::kCorrupt) {
        co_return Fault{at, fmt::format("the file ends inside of the {} bytes that were written",
                                        segment_->size)};
      }
      if (!filled && filled.error().code == Code::kIo) {
        co_return Fault{at, filled.error().message, true};
      }
      PYRALOG_CO_TRY(filled);
      shard_.stats_.scrubbed_bytes += scan.filled();
      PYRALOG_CO_TRY(co_await pace_(scan.filled()));
      if (!still_there()) co_return gone();
      continue;
    }
    const BatchScan::Batch& batch = scan.batch();
    if (step == BatchScan::Step::kEnd) {
      if (at.base == segment_->next) co_return std::optional<Fault>();
      co_return Fault{last_sound_, fmt::format("the batches end at offset {}, not {}",
                                               at.base.value, segment_->next.value)};
    }
    if (step == BatchScan::Step::kBad) {
      Fault fault{at, scan.fault()};
      const Offset next(batch.header.next_offset());
      if (scan.header_parsed() && next <= segment_->next &&
          fault_of(batch.header, at.base).empty()) {
        fault.behind = Spot{batch.end(), next};
      }
      co_return fault;
    }
    if (std::string fault = fault_of(batch.header, at.base); !fault.empty()) {
      co_return Fault{at, std::move(fault)};
    }
    last_sound_ = at;
    at = {batch.end(), Offset(batch.header.next_offset())};
  }
}

io::Task<SegmentScrub::Spot> SegmentScrub::indexed_above(std::uint64_t position) {
  const Spot end{segment_->size, segment_->next};
  if (!co_await log_->load_index(segment_)) co_return end;
  const auto& entries = segment_->index.offset_entries();
  const auto next = std::ranges::upper_bound(
      entries, position, {}, [](const IndexEntry& e) { return std::uint64_t{e.position}; });
  if (next == entries.end() || next->position >= segment_->size) co_return end;
  co_return Spot{next->position, Offset(segment_->base.value + next->relative_offset)};
}

io::Task<Result<SegmentScrub::Spot>> SegmentScrub::pass_over(Fault fault) {
  const bool goes_on = !found_.empty() && found_.back().to >= fault.at.position;
  if (!goes_on) {
    found_.push_back({fault.at.position, fault.at.position, fault.at.base, std::move(fault.what),
                      fault.unreadable});
  }
  DamagedRange& range = found_.back();
  range.unreadable = range.unreadable && fault.unreadable;
  // Where its own length led, nothing sound began: that length may be what is damaged.
  if (!(goes_on && guessed_)) failed_at_ = fault.at.position;
  Spot next{segment_->size, segment_->next};
  guessed_ = !goes_on && fault.behind.has_value();
  if (guessed_) {
    next = *fault.behind;
  } else if (found_.size() < kMaxRanges) {
    next = co_await indexed_above(failed_at_);
    if (!still_there()) co_return gone();
  }
  range.to = next.position;
  publish();
  co_return next;
}

io::Task<Result<void>> SegmentScrub::check_batches() {
  Spot at{kSegmentHeaderBytes, segment_->base};
  for (;;) {
    PYRALOG_CO_ASSIGN(std::optional<Fault> fault, co_await walk(at));
    if (!fault) co_return Result<void>{};
    PYRALOG_CO_ASSIGN(at, co_await pass_over(std::move(*fault)));
    if (at.position >= segment_->size) co_return Result<void>{};
  }
}

/// Entries that fail their checks though sound ones follow. At the end they may have been lost with
/// the power.
io::Task<Result<void>> SegmentScrub::check_append_times() {
  const std::string path = log_->path_of(segment_->base, "appendtime");
  auto opened = co_await shard_.disk_.open(path, io::OpenMode::kRead);
  if (!opened && opened.error().code == Code::kNotFound) co_return Result<void>{};
  PYRALOG_CO_ASSIGN(const std::shared_ptr<io::File> file, std::move(opened));
  std::optional<AppendTime> last;
  std::uint64_t sound = 0;
  std::uint64_t sound_end = 0;
  const std::uint64_t count = file->size() / kAppendTimeEntryBytes;
  for (std::uint64_t index = 0; index < count;) {
    const std::uint64_t n = std::min(kTimesAtOnce, count - index);
    Bytes part(static_cast<std::size_t>(n * kAppendTimeEntryBytes));
    PYRALOG_CO_ASSIGN(const std::size_t got,
                      co_await file->read_stored(index * kAppendTimeEntryBytes, part));
    part.resize(got);
    const AppendTimes times = decode_append_times(part, segment_->base, segment_->next, index);
    for (const AppendTime& entry : times.entries) {
      if (last && (entry.append_ms < last->append_ms || entry.base <= last->base)) continue;
      last = entry;
      ++sound;
    }
    if (!times.entries.empty()) sound_end = times.next_index;
    shard_.stats_.scrubbed_bytes += got;
    PYRALOG_CO_TRY(co_await pace_(got));
    if (times.entries.size() + times.bad_entries < n) break;  // the rest is above the segment's end
    index += n;
  }
  if (!still_there()) co_return gone();
  if (sound_end == sound || segment_->bad_times_told) co_return Result<void>{};
  segment_->bad_times_told = true;
  shard_.stats_.scrub_bad_append_times += sound_end - sound;
  observe::log_warn("log.scrub_append_times",
                    {{"partition", log_->name()},
                     {"file", path},
                     {"bad_entries", sound_end - sound},
                     {"sound_entries", sound},
                     {"reason",
                      "entries fail their checks below sound ones; what was the end at "
                      "such a time is answered from those around; restore the file "
                      "from a copy"}});
  co_return Result<void>{};
}

io::Task<Result<void>> SegmentScrub::run() {
  // What a sync that fails has left of it on the device is told as that failure: it may be lying elsewhere.
  if (still_there() && !PYRALOG_PLANT("log.scrub_before_sync")) {
    co_await shard_.write_ahead_.settle_segment(log_->id(), segment_->base);
  }
  if (!still_there()) co_return gone();
  PYRALOG_CO_TRY(co_await check_file());
  settle();
  co_return co_await check_append_times();
}

}  // namespace pyralog::log
