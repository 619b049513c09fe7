#include "log/survey.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "log/segment_swap.h"

namespace pyralog::log {

namespace {

constexpr std::size_t kMaxEpochsBytes = 64u << 20;
constexpr std::size_t kMaxIndexFileBytes = 256u << 20;
constexpr std::size_t kMaxAppendTimeBytes = 1u << 30;
constexpr std::uint32_t kUsualInterval = 4096;

/// Compares saved index entries with the batches that go by.
class IndexJudge {
 public:
  explicit IndexJudge(std::optional<SegmentIndex> saved) : saved_(std::move(saved)) {}
  void see(Offset segment, const BatchScan::Batch& batch) {
    if (!saved_) return;
    const auto relative = static_cast<std::uint32_t>(batch.header.base_offset - segment.value);
    max_ = std::max(max_, batch.header.max_timestamp);
    const auto& offsets = saved_->offset_entries();
    if (offset_ < offsets.size() && offsets[offset_].relative_offset == relative) {
      sound_ = sound_ && offsets[offset_].position == batch.position;
      ++offset_;
    }
    const auto& times = saved_->time_entries();
    if (time_ < times.size() && times[time_].relative_offset == relative) {
      sound_ = sound_ && times[time_].timestamp == max_;
      ++time_;
    }
  }
  /// Every entry was that of a batch, and the greatest timestamp is the segment's.
  [[nodiscard]] bool sound() const {
    return saved_ && sound_ && offset_ == saved_->offset_entries().size() &&
           time_ == saved_->time_entries().size() && saved_->max_timestamp().timestamp == max_;
  }

 private:
  std::optional<SegmentIndex> saved_;
  std::int64_t max_ = -1;
  std::size_t offset_ = 0;
  std::size_t time_ = 0;
  bool sound_ = true;
};

/// Sorts the entries of an `.appendtime` into those that name a batch and the rest.
class TimesJudge {
 public:
  /// In a compacted segment several batches may have become one.
  TimesJudge(AppendTimes read, bool compacted) : read_(std::move(read)), compacted_(compacted) {
    kept_.bad_entries = read_.bad_entries;
  }
  void see(const BatchScan::Batch& batch) {
    while (compacted_ && next_ < read_.entries.size() &&
           read_.entries[next_].base.value < batch.header.next_offset()) {
      kept_.entries.push_back(read_.entries[next_++]);
    }
    skip_below(Offset(batch.header.base_offset));
    if (next_ == read_.entries.size() ||
        read_.entries[next_].base.value != batch.header.base_offset)
      return;
    kept_.entries.push_back(read_.entries[next_++]);
  }
  [[nodiscard]] AppendTimes finish(Offset end) {
    skip_below(end);
    kept_.next_index = kept_.entries.size();
    return std::move(kept_);
  }

 private:
  void skip_below(Offset base) {
    while (next_ < read_.entries.size() && read_.entries[next_].base < base) {
      ++kept_.bad_entries;
      ++next_;
    }
  }
  AppendTimes read_;
  bool compacted_;
  AppendTimes kept_;
  std::size_t next_ = 0;
};

/// Down to which byte the evidence vouches for a segment.
struct Vouched {
  std::uint64_t position = 0;
  Offset end;
  std::optional<std::uint32_t> chain;  ///< a segment that was not read since a crash has none
  bool whole_file = false;             ///< the segment was closed at that size
};

class Surveyor {
 public:
  Surveyor(io::Disk& disk, std::string dir, BatchScan::Mode mode, InspectOptions inspect)
      : disk_(disk), dir_(std::move(dir)), mode_(mode), inspect_(std::move(inspect)) {}
  [[nodiscard]] io::Task<Result<Survey>> run();

 private:
  struct Walk;
  [[nodiscard]] io::Task<Result<void>> read_evidence();
  [[nodiscard]] io::Task<Result<void>> list_segments();
  [[nodiscard]] io::Task<Result<void>> put_in_place(const io::DirEntry& entry, Offset base);
  [[nodiscard]] io::Task<Result<void>> read_epochs();
  [[nodiscard]] io::Task<Result<void>> look(std::size_t at);
  [[nodiscard]] io::Task<Result<bool>> look_at_header(std::shared_ptr<io::File> file,
                                                      std::size_t at);
  [[nodiscard]] io::Task<Result<std::pair<std::optional<SegmentIndex>, std::uint32_t>>> read_index(
      Offset base, std::uint64_t bytes);
  [[nodiscard]] io::Task<Result<AppendTimes>> read_times(Offset base);
  [[nodiscard]] io::Task<Result<void>> walk(std::shared_ptr<io::File> file, std::size_t at);
  void visit(Walk& walk, std::size_t at, const BatchScan::Batch& batch);
  void judge(const Walk& walk, const SegmentCheck& check, std::size_t at);
  void judge_times(std::size_t at);
  void finish();
  [[nodiscard]] std::optional<Vouched> vouched(Offset base) const;
  [[nodiscard]] bool below_evidence(Offset base, std::uint64_t position) const;
  void note_missing(Offset before, std::size_t at);
  /// A fault from which on the log cannot stay; `end` is the log's end before it.
  void fault(std::size_t at, Offset base, std::uint64_t position, Offset end, std::string what);

  io::Disk& disk_;
  std::string dir_;
  BatchScan::Mode mode_;
  InspectOptions inspect_;
  Survey result_;
  const SyncedEntry* synced_ = nullptr;
  const CleanLog* clean_ = nullptr;
  std::optional<EpochTable> saved_epochs_;
  bool missing_noted_ = false;
  std::size_t listed_headers_ = 0;
};

struct Surveyor::Walk {
  IndexJudge index;
  TimesJudge times;
  std::int64_t max_timestamp = -1;
  std::optional<Epoch> first_epoch;
  // The first batch whose epoch is not the table's.
  std::optional<std::uint64_t> stray_position = std::nullopt;
  Offset stray_offset{};
  std::string stray = {};
};

bool Surveyor::below_evidence(Offset base, std::uint64_t position) const {
  if (PYRALOG_PLANT("log.repair_ignores_evidence")) return false;
  if (synced_ != nullptr && base < synced_->segment) return true;
  const auto known = vouched(base);
  return known && position < known->position;
}

std::optional<Vouched> Surveyor::vouched(Offset base) const {
  if (clean_ != nullptr) {
    for (const CleanLog::CleanSegment& s : clean_->segments) {
      if (s.base != base) continue;
      Vouched known{s.size, s.next, std::nullopt, true};
      if (&s == &clean_->segments.back()) known.chain = s.chain;
      return known;
    }
  }
  if (synced_ == nullptr || base != synced_->segment) return std::nullopt;
  return Vouched{synced_->end_position, synced_->end_offset, synced_->chain, false};
}

void Surveyor::fault(std::size_t at, Offset base, std::uint64_t position, Offset end,
                     std::string what) {
  const bool synced = below_evidence(base, position);
  result_.report.findings.push_back(
      {segment_file_name(base, "log"), position, std::move(what), synced});
  if (!result_.cut) result_.cut = CutPoint{at, position, end, synced};
}

io::Task<Result<void>> Surveyor::read_evidence() {
  const std::size_t slash = dir_.rfind('/');
  const auto id = parse_partition_id(slash == std::string::npos ? dir_ : dir_.substr(slash + 1));
  if (!id) {
    co_return fail(Code::kInvalidArgument,
                   dir_ +
                       ": a partition's directory is named TOPICID-PARTITION; name one, or the "
                       "data directory that holds them");
  }
  LogReport& report = result_.report;
  report.dir = dir_;
  report.partition = *id;
  BesidePtr beside = inspect_.beside;
  if (beside == nullptr || PYRALOG_PLANT("log.read_evidence_each_time")) {
    PYRALOG_CO_ASSIGN(beside, co_await read_beside(disk_, io::parent_dir(dir_)));
  }
  result_.evidence = beside->evidence;
  const auto waiting = beside->unplaced.find(*id);
  if (waiting != beside->unplaced.end() && waiting->second.unreadable) {
    co_return fail(*waiting->second.unreadable);
  }
  const std::uint64_t unplaced = waiting == beside->unplaced.end() ? 0 : waiting->second.bytes;
  if (unplaced > 0) {
    co_return fail(Code::kUnavailable,
                   fmt::format("partition {}: {} bytes that were acknowledged are in the write-ahead "
                               "files but not in its segments, as after a power loss; start the server "
                               "once, or run pyralog log repair: both put them in place",
                               to_string(*id), unplaced));
  }
  synced_ = result_.evidence->synced(*id);
  clean_ = result_.evidence->clean(*id);
  if (synced_ == nullptr) co_return Result<void>{};
  report.has_synced = true;
  report.synced_segment = synced_->segment;
  report.synced_position = synced_->end_position;
  report.synced_end = synced_->end_offset;
  co_return Result<void>{};
}

/// A compacted segment that a crash has kept from its name counts for those that it replaces.
io::Task<Result<void>> Surveyor::put_in_place(const io::DirEntry& entry, Offset base) {
  const auto next = co_await swap_end(disk_, dir_, entry.name, result_.report.partition);
  if (!next) {
    if (next.error().code != Code::kCorrupt) co_return fail(next.error());
    result_.report.findings.push_back({entry.name, 0, next.error().message, true});
    co_return Result<void>{};
  }
  SegmentReport report;
  report.file = entry.name;
  report.bytes = entry.size;
  report.first = report.next = base;
  SurveyedSegment segment;
  segment.base = base;
  segment.bytes = report.bytes;
  segment.index = SegmentIndex(base, kUsualInterval);
  auto& reports = result_.report.segments;
  auto& segments = result_.segments;
  std::erase_if(reports, [&](const auto& r) { return r.first >= base && r.first < *next; });
  std::erase_if(segments, [&](const auto& s) { return s.base >= base && s.base < *next; });
  const auto behind = std::ranges::find_if(segments, [&](const auto& s) { return s.base > base; });
  const auto at = behind - segments.begin();
  segments.insert(behind, std::move(segment));
  reports.insert(reports.begin() + at, std::move(report));
  co_return Result<void>{};
}

io::Task<Result<void>> Surveyor::list_segments() {
  PYRALOG_CO_ASSIGN(const std::vector<io::DirEntry> names, co_await disk_.list(dir_));
  for (const io::DirEntry& entry : names) {
    const auto base = parse_segment_name(entry.name);
    if (!base || entry.is_directory) continue;
    SegmentReport report;
    report.file = entry.name;
    report.bytes = entry.size;
    report.first = report.next = *base;
    result_.report.segments.push_back(std::move(report));
    SurveyedSegment segment;
    segment.base = *base;
    segment.bytes = entry.size;
    segment.index = SegmentIndex(*base, kUsualInterval);
    result_.segments.push_back(std::move(segment));
  }
  for (const io::DirEntry& entry : names) {
    const auto base = parse_swap_name(entry.name, kSwapExtension);
    if (base) PYRALOG_CO_TRY(co_await put_in_place(entry, *base));
  }
  // Files of deleted records that a crash has left or brought back are no part of the log.
  while (synced_ != nullptr && result_.segments.size() > 1 &&
         result_.segments[1].base <= synced_->start && result_.segments[0].base < synced_->segment) {
    result_.segments.erase(result_.segments.begin());
    result_.report.segments.erase(result_.report.segments.begin());
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Surveyor::read_epochs() {
  const std::string path = dir_ + "/epochs";
  auto bytes = co_await io::read_file(disk_, path, kMaxEpochsBytes);
  if (!bytes) {
    if (bytes.error().code != Code::kNotFound) co_return fail(bytes.error());
    // It is written when the second segment begins.
    result_.epochs_file_sound = result_.segments.size() < 2;
    co_return Result<void>{};
  }
  auto table = EpochTable::decode(*bytes, path);
  if (!table && table.error().code == Code::kUnsupported) co_return fail(table.error());
  if (table) {
    saved_epochs_ = std::move(*table);
  } else {
    result_.epochs_file_sound = false;
    result_.report.findings.push_back({"epochs", 0, table.error().message, false});
  }
  co_return Result<void>{};
}

/// The segment that the evidence names lies before `before` and is not there.
void Surveyor::note_missing(Offset before, std::size_t at) {
  if (missing_noted_ || synced_ == nullptr || synced_->segment >= before) return;
  missing_noted_ = true;
  const auto& segments = result_.segments;
  const auto found = std::find_if(segments.begin(), segments.end(), [&](const SurveyedSegment& s) {
    return s.base == synced_->segment;
  });
  if (found != segments.end()) return;
  const Offset end = at == 0 ? synced_->segment : result_.report.segments[at - 1].next;
  fault(at, synced_->segment, 0, end, "the file is missing");
}

io::Task<Result<bool>> Surveyor::look_at_header(std::shared_ptr<io::File> file, std::size_t at) {
  SegmentReport& report = result_.report.segments[at];
  const auto header = co_await read_segment_header(std::move(file));
  if (!header && header.error().code != Code::kCorrupt) co_return fail(header.error());
  std::string what;
  if (!header) {
    what = report.bytes < kSegmentHeaderBytes ? "the file ends inside its header"
                                              : "the header fails its checks";
  } else if (header->partition != result_.report.partition || header->base != report.first) {
    what = fmt::format("the header is that of partition {}, offset {}",
                       to_string(header->partition), header->base.value);
  } else {
    report.created_ms = header->created_ms;
    result_.segments[at].compacted = header->next.value >= 0;
    report.first_epoch = report.last_epoch = header->epoch;
    co_return true;
  }
  fault(at, report.first, 0, report.first, std::move(what));
  co_return false;
}

io::Task<Result<std::pair<std::optional<SegmentIndex>, std::uint32_t>>> Surveyor::read_index(
    Offset base, std::uint64_t bytes) {
  std::pair<std::optional<SegmentIndex>, std::uint32_t> found{std::nullopt, kUsualInterval};
  const std::string stem = dir_ + "/" + segment_file_name(base, "");
  const auto offsets = co_await io::read_file(disk_, stem + "index", kMaxIndexFileBytes);
  const auto times = co_await io::read_file(disk_, stem + "timeindex", kMaxIndexFileBytes);
  if (!offsets || !times) co_return found;  // it will be rebuilt
  const auto interval = SegmentIndex::interval_of(*offsets);
  if (!interval) co_return found;
  auto index = SegmentIndex::decode(base, *interval, bytes, *offsets, *times);
  if (!index) co_return found;
  found = {std::move(*index), *interval};
  co_return found;
}

io::Task<Result<AppendTimes>> Surveyor::read_times(Offset base) {
  auto bytes = co_await io::read_file(disk_, dir_ + "/" + segment_file_name(base, "appendtime"),
                                      kMaxAppendTimeBytes);
  if (!bytes && bytes.error().code != Code::kNotFound) co_return fail(bytes.error());
  if (!bytes) co_return AppendTimes{};
  co_return decode_append_times(*bytes, base, Offset(INT64_MAX));
}

void Surveyor::visit(Walk& walk, std::size_t at, const BatchScan::Batch& batch) {
  SegmentReport& report = result_.report.segments[at];
  const Epoch epoch(static_cast<std::uint32_t>(batch.header.leader_epoch));
  if (!walk.first_epoch) walk.first_epoch = epoch;
  walk.max_timestamp = std::max(walk.max_timestamp, batch.header.max_timestamp);
  walk.index.see(report.first, batch);
  walk.times.see(batch);
  // The table was complete when the last segment began.
  const Offset base(batch.header.base_offset);
  if (saved_epochs_ && !walk.stray_position && base < result_.segments.back().base &&
      saved_epochs_->at(base) != epoch) {
    walk.stray_position = batch.position;
    walk.stray_offset = base;
    walk.stray = fmt::format("the batch has epoch {}, the epoch table says {}", epoch.value,
                             saved_epochs_->at(base).value);
  }
  if (!inspect_.headers || listed_headers_ >= inspect_.max_headers) return;
  ++listed_headers_;
  report.headers.push_back(batch.header);
}

io::Task<Result<void>> Surveyor::walk(std::shared_ptr<io::File> file, std::size_t at) {
  SegmentReport& report = result_.report.segments[at];
  SurveyedSegment& segment = result_.segments[at];
  PYRALOG_CO_ASSIGN(auto saved, co_await read_index(report.first, report.bytes));
  PYRALOG_CO_ASSIGN(AppendTimes times, co_await read_times(report.first));
  const std::size_t times_read = times.entries.size();
  Walk walk{IndexJudge(std::move(saved.first)), TimesJudge(std::move(times), segment.compacted), -1,
            std::nullopt};
  CheckOptions check;
  check.base = report.first;
  check.last_epoch = std::max(result_.epochs.last(), report.first_epoch);
  check.index_interval_bytes = saved.second;
  check.given_out = &inspect_.given_out;
  check.mode = mode_;
  if (const auto known = vouched(report.first)) check.mark = known->position;
  check.visit = [this, &walk, at](const BatchScan::Batch& batch) { visit(walk, at, batch); };
  PYRALOG_CO_ASSIGN(SegmentCheck found, co_await check_segment(std::move(file), std::move(check)));
  report.sound_bytes = found.sound_bytes;
  report.next = found.next;
  report.first_epoch = walk.first_epoch.value_or(report.first_epoch);
  report.last_epoch = found.batches == 0 ? report.first_epoch : found.last_epoch;
  report.max_timestamp = walk.max_timestamp;
  report.batches = found.batches;
  report.records = found.records;
  report.index_sound =
      walk.index.sound() || (found.batches == 0 && report.bytes == kSegmentHeaderBytes);
  segment.append_times = walk.times.finish(found.next);
  report.append_times = segment.append_times.entries.size();
  report.bad_append_times = segment.append_times.bad_entries;
  segment.append_times_whole =
      report.bad_append_times == 0 && times_read == segment.append_times.entries.size();
  const bool counts = !result_.cut.has_value();
  judge(walk, found, at);
  judge_times(at);
  segment.index = std::move(found.index);
  if (!counts) co_return Result<void>{};
  for (const EpochStart& e : found.epochs) (void)result_.epochs.note(e.epoch, e.start);
  co_return Result<void>{};
}

void Surveyor::judge(const Walk& walk, const SegmentCheck& check, std::size_t at) {
  const SegmentReport& report = result_.report.segments[at];
  const Offset base = report.first;
  const auto known = vouched(base);
  const bool whole = check.fault.empty() && check.sound_bytes == report.bytes;
  const bool as_vouched = known && check.mark_seen && check.offset_at_mark == known->end &&
                          check.chain_at_mark == known->chain.value_or(check.chain_at_mark);
  if (walk.stray_position && as_vouched && *walk.stray_position < known->position) {
    result_.epochs_file_sound = false;
    result_.report.findings.push_back(
        {"epochs", 0, "it contradicts batches that are sound", false});
  } else if (walk.stray_position) {
    fault(at, base, *walk.stray_position, walk.stray_offset, walk.stray);
  }
  if (known && check.sound_bytes >= known->position && !as_vouched && !walk.stray_position) {
    fault(at, base, kSegmentHeaderBytes, base,
          !check.mark_seen || check.offset_at_mark != known->end
              ? fmt::format(
                    "no batch ends at byte {} and offset {}, as one did when this was durable",
                    known->position, known->end.value)
              : "an offset or epoch in a batch header differs from what was durable");
  }
  if (!whole) {
    fault(at, base, check.sound_bytes, check.next, check.fault);
  } else if (known && report.bytes < known->position) {
    fault(at, base, report.bytes, check.next,
          fmt::format("the file ends here, {} bytes were durable", known->position));
  } else if (known && known->whole_file && report.bytes > known->position && as_vouched) {
    fault(at, base, known->position, known->end, "the log was closed here, yet the file goes on");
  }
}

void Surveyor::judge_times(std::size_t at) {
  const SegmentReport& report = result_.report.segments[at];
  if (report.bad_append_times == 0) return;
  result_.report.findings.push_back({segment_file_name(report.first, "appendtime"), 0,
                                     fmt::format("{} entries fail their checks, {} are sound",
                                                 report.bad_append_times, report.append_times),
                                     false});
}

io::Task<Result<void>> Surveyor::look(std::size_t at) {
  const Offset base = result_.segments[at].base;
  note_missing(base, at);
  if (at > 0 && !result_.cut && result_.report.segments[at - 1].next != base) {
    const Offset end = result_.report.segments[at - 1].next;
    fault(at, base, 0, end, fmt::format("the segment before it ends at offset {}", end.value));
  }
  PYRALOG_CO_ASSIGN(
      std::shared_ptr<io::File> file,
      co_await disk_.open(dir_ + "/" + result_.report.segments[at].file, io::OpenMode::kRead));
  if (mode_ == BatchScan::Mode::kChecked) file->drop_cache();
  PYRALOG_CO_ASSIGN(const bool begun, co_await look_at_header(file, at));
  if (!begun) co_return Result<void>{};
  co_return co_await walk(std::move(file), at);
}

void Surveyor::finish() {
  LogReport& report = result_.report;
  if (synced_ != nullptr && synced_->start.value >= 0 && !report.segments.empty() &&
      report.segments.front().first > synced_->start) {
    result_.front_missing = true;
    report.findings.push_back(
        {segment_file_name(synced_->start, "log"), 0,
         fmt::format("it is missing: the log began at offset {}", synced_->start.value), true});
  }
  if (clean_ != nullptr && !report.segments.empty() &&
      report.segments.front().first > clean_->start) {
    report.findings.push_back(
        {segment_file_name(clean_->start, "log"), 0,
         fmt::format("the log began at offset {} when it was closed", clean_->start.value), true});
  }
  if (!report.segments.empty()) {
    report.start = report.segments.front().first;
    if (synced_ != nullptr) report.start = std::max(report.start, synced_->start);
    report.end = report.segments.back().next;
  }
  if (!result_.cut) {
    report.epochs = result_.epochs.entries();
    return;
  }
  const CutPoint& cut = *result_.cut;
  report.end = cut.end;
  if (report.segments.empty()) report.start = cut.end;
  for (std::size_t i = cut.segment; i < report.segments.size(); ++i) {
    report.cut_bytes += report.segments[i].bytes - (i == cut.segment ? cut.position : 0);
  }
  result_.epochs.truncate(cut.end);
  report.epochs = result_.epochs.entries();
}

io::Task<Result<Survey>> Surveyor::run() {
  PYRALOG_CO_TRY(co_await read_evidence());
  PYRALOG_CO_TRY(co_await list_segments());
  PYRALOG_CO_TRY(co_await read_epochs());
  for (std::size_t i = 0; i < result_.segments.size(); ++i) {
    PYRALOG_CO_TRY(co_await look(i));
    if (inspect_.on_segment) inspect_.on_segment(result_.segments[i].bytes);
  }
  note_missing(Offset(INT64_MAX), result_.segments.size());
  finish();
  co_return std::move(result_);
}

}  // namespace

io::Task<Result<BesidePtr>> read_beside(io::Disk& disk, std::string data_dir) {
  auto beside = std::make_shared<Beside>();
  PYRALOG_CO_ASSIGN(beside->evidence,
                    co_await Evidence::load(disk, data_dir, EvidenceAccess::kReadOnly));
  PYRALOG_CO_ASSIGN(beside->unplaced, co_await unplaced_bytes(disk, data_dir));
  co_return BesidePtr(std::move(beside));
}

io::Task<Result<Survey>> survey(io::Disk& disk, std::string dir, BatchScan::Mode mode,
                                InspectOptions inspect) {
  Surveyor surveyor(disk, std::move(dir), mode, std::move(inspect));
  co_return co_await surveyor.run();
}

}  // namespace pyralog::log
