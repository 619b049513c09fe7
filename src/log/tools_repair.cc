#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "io/shard.h"
#include "journal/journal.h"
#include "log/segment_swap.h"
#include "log/set_aside.h"
#include "log/survey.h"
#include "log/tools.h"
#include "log/write_ahead_replay.h"

namespace pyralog::log {

namespace {

/// One repair. A crash at any point leaves a log that recovery can open, or that a second repair
/// mends: the evidence is lowered before anything that it vouches for goes.
class Repair {
 public:
  Repair(io::Disk& disk, std::string dir, const Survey& found)
      : disk_(disk), dir_(std::move(dir)), found_(found) {}
  [[nodiscard]] io::Task<Result<void>> cut();
  [[nodiscard]] io::Task<Result<void>> drop_checkpoints();
  /// The log begins with the first file that is there.
  [[nodiscard]] io::Task<Result<void>> give_up_front();
  /// Writes anew what can be made from the batches; `found_` has no faults in its segments.
  [[nodiscard]] io::Task<Result<void>> mend_side_files();

 private:
  [[nodiscard]] std::string path_of(Offset base, std::string_view extension) const {
    return dir_ + "/" + segment_file_name(base, extension);
  }
  [[nodiscard]] io::Task<Result<SyncedEntry>> entry_at_cut();
  [[nodiscard]] io::Task<Result<void>> lower_evidence(SyncedEntry entry);
  [[nodiscard]] io::Task<Result<void>> set_aside(Offset base);
  [[nodiscard]] io::Task<Result<void>> begin_empty(Offset base);
  [[nodiscard]] io::Task<Result<void>> mend_append_times(const SurveyedSegment& segment);

  /// Segments that stay, the last one perhaps in part.
  [[nodiscard]] std::size_t kept() const {
    const CutPoint& cut = *found_.cut;
    return cut.segment + (cut.position > kSegmentHeaderBytes ? 1 : 0);
  }

  io::Disk& disk_;
  std::string dir_;
  const Survey& found_;
};

io::Task<Result<void>> Repair::drop_checkpoints() {
  const auto& files = found_.evidence->checkpoint_files();
  for (const std::string& path : files) {
    auto removed = co_await disk_.remove(path);
    if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  }
  if (files.empty()) co_return Result<void>{};
  co_return co_await disk_.sync_dir(io::parent_dir(dir_));
}

io::Task<Result<void>> Repair::give_up_front() {
  SyncedEntry entry = *found_.evidence->synced(found_.report.partition);
  entry.generation = found_.evidence->generation();
  entry.start = found_.report.segments.front().first;
  co_return co_await lower_evidence(entry);
}

/// What is durable once the cut is made.
io::Task<Result<SyncedEntry>> Repair::entry_at_cut() {
  SyncedEntry entry;
  entry.partition = found_.report.partition;
  entry.generation = found_.evidence->generation();
  entry.segment = entry.end_offset = found_.cut->end;
  entry.end_position = kSegmentHeaderBytes;
  entry.start = std::min(found_.report.start, found_.cut->end);
  entry.epoch = found_.epochs.last();
  if (kept() == 0) co_return entry;
  const SurveyedSegment& last = found_.segments[kept() - 1];
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file,
                    co_await disk_.open(path_of(last.base, "log"), io::OpenMode::kRead));
  CheckOptions check;
  check.base = last.base;
  check.mode = BatchScan::Mode::kHeaders;
  check.to = kept() - 1 == found_.cut->segment ? found_.cut->position : last.bytes;
  PYRALOG_CO_ASSIGN(const SegmentCheck sound,
                    co_await check_segment(std::move(file), std::move(check)));
  if (!sound.fault.empty() || sound.next != found_.cut->end) {
    co_return fail(Code::kIo, dir_ + ": it changed while it was being repaired");
  }
  entry.segment = last.base;
  entry.end_position = sound.sound_bytes;
  entry.chain = sound.chain;
  co_return entry;
}

io::Task<Result<void>> Repair::lower_evidence(SyncedEntry entry) {
  journal::Options options;
  options.kind = kSyncedJournalKind;
  // Entries count by their generation, in whichever shard's journal they are.
  PYRALOG_CO_ASSIGN(
      const auto journal,
      co_await journal::Journal::open(disk_, io::parent_dir(dir_) + "/" + synced_journal_name(0),
                                      options, [](ByteView) -> Result<void> { return {}; }));
  PYRALOG_CO_ASSIGN(const journal::Position written, journal->append(encode(entry)));
  co_return co_await journal->commit(written);
}

/// A whole segment goes: its indexes are of no use any more, its append times may be.
io::Task<Result<void>> Repair::set_aside(Offset base) {
  for (const std::string_view extension : {"log", "appendtime"}) {
    const std::string path = path_of(base, extension);
    PYRALOG_CO_ASSIGN(std::string name, co_await free_damaged_name(disk_, path));
    auto renamed = co_await disk_.rename(path, std::move(name));
    if (!renamed && renamed.error().code != Code::kNotFound) co_return renamed;
  }
  for (const std::string_view extension : {"index", "timeindex"}) {
    auto removed = co_await disk_.remove(path_of(base, extension));
    if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  }
  co_return Result<void>{};
}

/// A log of which nothing is left goes on where it was cut: its offsets are not issued again.
io::Task<Result<void>> Repair::begin_empty(Offset base) {
  const SegmentHeader header{found_.report.partition, base, found_.epochs.last(),
                             io::Shard::current().wall().ms};
  PYRALOG_CO_ASSIGN(const std::shared_ptr<io::File> file,
                    co_await disk_.open(path_of(base, "log"), io::OpenMode::kCreate));
  PYRALOG_CO_TRY(file->write_at(0, encode(header)));
  co_return co_await file->sync();
}

io::Task<Result<void>> Repair::cut() {
  const CutPoint& cut = *found_.cut;
  PYRALOG_CO_ASSIGN(SyncedEntry entry, co_await entry_at_cut());
  std::shared_ptr<io::File> file;
  if (kept() > cut.segment) {
    const Offset base = found_.segments[cut.segment].base;
    PYRALOG_CO_ASSIGN(file, co_await disk_.open(path_of(base, "log"), io::OpenMode::kReadWrite));
    if (file->size() > cut.position && !PYRALOG_PLANT("log.repair_keeps_nothing")) {
      PYRALOG_CO_TRY(co_await keep_copy(
          disk_, file, cut.position, path_of(base, "log") + fmt::format(".from-{}", cut.position)));
    }
    PYRALOG_CO_TRY(co_await disk_.sync_dir(dir_));
  }
  PYRALOG_CO_TRY(co_await drop_checkpoints());
  if (cut.synced) PYRALOG_CO_TRY(co_await lower_evidence(std::move(entry)));
  // What comes in the place of the records that go was not compared with the others.
  auto forgotten = co_await disk_.remove(dir_ + "/cleaned");
  if (!forgotten && forgotten.error().code != Code::kNotFound) co_return forgotten;
  for (std::size_t i = found_.segments.size(); i-- > kept();) {
    PYRALOG_CO_TRY(co_await set_aside(found_.segments[i].base));
  }
  if (kept() == 0) PYRALOG_CO_TRY(co_await begin_empty(cut.end));
  if (file) {
    PYRALOG_CO_TRY(co_await file->truncate(cut.position));
    PYRALOG_CO_TRY(co_await file->sync());
  }
  co_return co_await disk_.sync_dir(dir_);
}

io::Task<Result<void>> Repair::mend_append_times(const SurveyedSegment& segment) {
  const std::string path = path_of(segment.base, "appendtime");
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> old, co_await disk_.open(path, io::OpenMode::kRead));
  PYRALOG_CO_TRY(co_await keep_copy(disk_, std::move(old), 0, path));
  Bytes entries;
  std::uint64_t index = 0;
  for (const AppendTime& entry : segment.append_times.entries) {
    encode_append_time(entries, segment.base, index++, entry);
  }
  co_return co_await io::replace_file(disk_, path, std::move(entries));
}

io::Task<Result<void>> Repair::mend_side_files() {
  for (std::size_t i = 0; i < found_.segments.size(); ++i) {
    const SurveyedSegment& segment = found_.segments[i];
    if (!segment.append_times_whole) PYRALOG_CO_TRY(co_await mend_append_times(segment));
    if (found_.report.segments[i].index_sound) continue;
    PYRALOG_CO_TRY(co_await io::replace_file(disk_, path_of(segment.base, "index"),
                                             segment.index.encode_offsets(segment.bytes)));
    PYRALOG_CO_TRY(co_await io::replace_file(disk_, path_of(segment.base, "timeindex"),
                                             segment.index.encode_times(segment.bytes)));
  }
  if (found_.epochs_file_sound) co_return Result<void>{};
  co_return co_await io::replace_file(disk_, dir_ + "/epochs", found_.epochs.encode());
}

}  // namespace

io::Task<Result<LogReport>> repair(io::Disk& disk, std::string dir, RepairOptions options) {
  InspectOptions look;
  look.given_out = options.given_out;
  if (!options.dry_run) PYRALOG_CO_TRY(co_await replay_write_ahead(disk, io::parent_dir(dir)));
  PYRALOG_CO_ASSIGN(Survey before, co_await survey(disk, dir, BatchScan::Mode::kChecked, look));
  if (options.dry_run) co_return std::move(before.report);
  const auto& findings = before.report.findings;
  const auto damage = std::find_if(findings.begin(), findings.end(),
                                   [](const Finding& finding) { return finding.synced; });
  if (damage != findings.end() && !options.below_synced) {
    co_return fail(
        Code::kCorrupt,
        fmt::format("partition {} is damaged: {}, byte {}: {}; this had been durable, nothing was "
                    "changed. Restore the segment from a copy, or cut the log there with pyralog "
                    "log repair --below-synced: acknowledged records go",
                    to_string(before.report.partition), damage->file, damage->position,
                    damage->what));
  }
  PYRALOG_CO_TRY(co_await settle_swaps(disk, dir, before.report.partition, true));
  {
    Repair work(disk, dir, before);
    if (before.cut) {
      PYRALOG_CO_TRY(co_await work.cut());
    } else if (damage != findings.end()) {
      PYRALOG_CO_TRY(co_await work.drop_checkpoints());
      if (before.front_missing) PYRALOG_CO_TRY(co_await work.give_up_front());
    }
  }
  PYRALOG_CO_ASSIGN(Survey after, co_await survey(disk, dir, BatchScan::Mode::kHeaders, look));
  if (after.cut) {
    co_return fail(Code::kIo,
                   dir + ": it still has faults after it was cut; the device may be bad");
  }
  Repair work(disk, dir, after);
  PYRALOG_CO_TRY(co_await work.mend_side_files());
  for (SegmentReport& segment : after.report.segments) segment.index_sound = true;
  after.report.findings = std::move(before.report.findings);
  after.report.cut_bytes = before.report.cut_bytes;
  co_return std::move(after.report);
}

}  // namespace pyralog::log
