#include "log/recovery.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/plant.h"
#include "log/segment_swap.h"
#include "log/set_aside.h"
#include "log/shard_logs.h"

namespace pyralog::log {

namespace {
constexpr std::size_t kMaxEpochsBytes = 64u << 20;
}

Recovery::Recovery(ShardLogs& shard, PartitionLog& log, const SyncedEntry* synced,
                   EpochTable given_out, bool in_doubt)
    : shard_(shard),
      log_(log),
      synced_(synced),
      given_out_(std::move(given_out)),
      in_doubt_(in_doubt) {}

bool Recovery::below_evidence(Offset base, std::uint64_t position) const {
  if (synced_ == nullptr || PYRALOG_PLANT("log.cut_damage")) return false;
  return base < synced_->segment || (base == synced_->segment && position < synced_->end_position);
}

std::unexpected<Error> Recovery::damage(Offset base, std::uint64_t position,
                                        const std::string& what) const {
  return fail(Code::kCorrupt,
              fmt::format("partition {} is damaged: segment {}, byte {}: {}; this had been durable. "
                          "Restore the segment from a copy, or cut the log there with pyralog log "
                          "repair --below-synced",
                          to_string(log_.id_), segment_file_name(base, "log"), position, what));
}

io::Task<Result<void>> Recovery::list_segments() {
  // Names that a killed process made or removed are not durable yet, and the next evidence will
  // speak of them.
  if (!PYRALOG_PLANT("log.trust_names")) {
    auto synced = co_await shard_.disk_.sync_dir(log_.dir_);
    if (!synced && synced.error().code != Code::kNotFound) co_return synced;
  }
  auto names = co_await shard_.disk_.list(log_.dir_);
  if (!names && names.error().code != Code::kNotFound) co_return fail(names.error());
  if (names && std::ranges::any_of(*names, [](const io::DirEntry& entry) {
        return parse_swap_name(entry.name, kCleanedExtension) ||
               parse_swap_name(entry.name, kSwapExtension);
      })) {
    PYRALOG_CO_TRY(co_await shard_.begin_writing());
    PYRALOG_CO_TRY(co_await settle_swaps(shard_.disk_, log_.dir_, log_.id_));
    names = co_await shard_.disk_.list(log_.dir_);
    if (!names) co_return fail(names.error());
  }
  if (names) {
    for (const io::DirEntry& entry : *names) {
      has_compaction_ = has_compaction_ || entry.name == "cleaned";
      const auto base = parse_segment_name(entry.name);
      if (base && !entry.is_directory) found_.push_back({*base, entry.size});
      if (const auto beside = parse_side_file_name(entry.name); beside && !entry.is_directory) {
        side_files_.emplace_back(*beside, entry.name);
      }
    }
  }
  // An attempt before this one may have made the directory and failed before that was durable.
  if (names && found_.empty() && !PYRALOG_PLANT("log.directory_made_once")) {
    PYRALOG_CO_TRY(co_await shard_.disk_.sync_dir(shard_.options_.data_dir));
  }
  // Names have 20 digits, so the order of names is that of offsets.
  co_return Result<void>{};
}

/// A log that ends lower than it once did: what comes there now was not compared.
io::Task<Result<void>> Recovery::forget_compaction() {
  if (!has_compaction_) co_return Result<void>{};
  const std::string path = log_.dir_ + "/cleaned";
  auto bytes = co_await io::read_file(shard_.disk_, path, 64u << 10);
  if (!bytes) co_return fail(bytes.error());
  const auto state = CompactionState::decode(*bytes, path);
  if (state && state->upto() <= log_.end_) co_return Result<void>{};
  if (!state && state.error().code == Code::kUnsupported) co_return fail(state.error());
  PYRALOG_CO_TRY(co_await shard_.begin_writing());
  PYRALOG_CO_TRY(co_await shard_.disk_.remove(path));
  co_return co_await shard_.disk_.sync_dir(log_.dir_);
}

/// Whether the file beside a segment has no use: what was being written, what belongs to segments that
/// were dropped, or to one that compaction has merged into the one before it.
io::Task<bool> Recovery::is_left_over(Offset base, std::string_view name) {
  if (base < found_[0].base) co_return true;
  if (name.ends_with(kTimesBeingReplaced)) co_return !PYRALOG_PLANT("log.keep_half_made_times");
  const auto behind = std::ranges::upper_bound(found_, base, {}, &Found::base);
  const Offset before = std::prev(behind)->base;
  if (before == base || PYRALOG_PLANT("log.keep_merged_files")) co_return false;
  auto file = co_await shard_.disk_.open(log_.path_of(before, "log"), io::OpenMode::kRead);
  if (!file) co_return false;
  const auto header = co_await read_segment_header(std::move(*file));
  // Of a segment that is missing they stay, for the day when it is restored.
  co_return header && header->base == before && base < header->next;
}

/// Of segments whose records were all deleted a crash may leave one, or bring it back, torn as it was, and
/// not the next: they are no part of the log.
void Recovery::leave_out_deleted() {
  if (synced_ == nullptr || PYRALOG_PLANT("log.deleted_segments_come_back")) return;
  std::size_t gone = 0;
  while (gone + 1 < found_.size() && found_[gone + 1].base <= synced_->start &&
         found_[gone].base < synced_->segment) {
    deleted_.push_back(found_[gone++].base);
  }
  found_.erase(found_.begin(), found_.begin() + static_cast<std::ptrdiff_t>(gone));
}

io::Task<Result<void>> Recovery::sweep() {
  for (const Offset base : deleted_) {
    PYRALOG_CO_TRY(co_await shard_.begin_writing());
    auto removed = co_await shard_.disk_.remove(log_.path_of(base, "log"));
    if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  }
  for (const auto& [base, name] : side_files_) {
    if (PYRALOG_PLANT("log.no_sweep") || !co_await is_left_over(base, name)) continue;
    PYRALOG_CO_TRY(co_await shard_.begin_writing());
    auto removed = co_await shard_.disk_.remove(log_.dir_ + "/" + name);
    if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  }
  co_return Result<void>{};
}

Result<std::size_t> Recovery::first_to_scan() const {
  if (synced_ == nullptr) return 0;
  const auto at = std::find_if(found_.begin(), found_.end(),
                               [&](const Found& f) { return f.base == synced_->segment; });
  if (at == found_.end()) {
    return damage(synced_->segment, 0, "the file is missing");
  }
  return has_epochs_ ? static_cast<std::size_t>(at - found_.begin()) : 0;
}

io::Task<Result<void>> Recovery::read_epochs() {
  const std::string path = log_.dir_ + "/epochs";
  auto bytes = co_await io::read_file(shard_.disk_, path, kMaxEpochsBytes);
  if (!bytes && bytes.error().code != Code::kNotFound) co_return fail(bytes.error());
  if (!bytes) co_return Result<void>{};
  auto table = EpochTable::decode(*bytes, path);
  if (!table && table.error().code == Code::kUnsupported) co_return fail(table.error());
  // A damaged table is made anew from the batches of all segments.
  has_epochs_ = table.has_value();
  if (table) saved_epochs_ = std::move(*table);
  co_return Result<void>{};
}

void Recovery::trust(std::size_t index) {
  auto segment = std::make_shared<Segment>();
  segment->base = found_[index].base;
  segment->next = found_[index + 1].base;
  segment->size = segment->synced = found_[index].bytes;
  segment->epoch = saved_epochs_.at(segment->base);
  segment->sealed = true;
  segment->max_known = false;
  segment->index = SegmentIndex(segment->base, log_.config_.index_interval_bytes);
  log_.segments_.push_back(std::move(segment));
}

/// False if the segment's creation was cut short: it holds nothing.
io::Task<Result<bool>> Recovery::scan_header(std::shared_ptr<io::File> file, Offset base) {
  auto header = co_await read_segment_header(file);
  if (!header) {
    if (header.error().code != Code::kCorrupt) co_return fail(header.error());
    // The header was durable before the first batch was written behind it.
    if (file->size() <= kSegmentHeaderBytes && !below_evidence(base, 0)) co_return false;
    co_return damage(base, 0, header.error().message);
  }
  if (header->partition != log_.id_ || header->base != base) {
    co_return damage(base, 0, fmt::format("the header is that of partition {}, offset {}",
                                          to_string(header->partition), header->base.value));
  }
  header_ = *header;
  co_return true;
}

Result<void> Recovery::compare_evidence(Offset base, const SegmentCheck& check,
                                        std::uint64_t file_bytes) const {
  const bool cut_short = check.sound_bytes < file_bytes || !check.fault.empty();
  if (cut_short && below_evidence(base, check.sound_bytes)) {
    return damage(base, check.sound_bytes, check.fault);
  }
  if (synced_ == nullptr || base != synced_->segment || PYRALOG_PLANT("log.cut_damage")) return {};
  if (file_bytes < synced_->end_position) {
    return damage(base, file_bytes, fmt::format("the file ends here, {} bytes were durable",
                                                synced_->end_position));
  }
  if (!check.mark_seen || check.offset_at_mark != synced_->end_offset) {
    return damage(base, synced_->end_position,
                  fmt::format("no batch ends here at offset {}", synced_->end_offset.value));
  }
  if (check.chain_at_mark != synced_->chain) {
    return damage(base, kSegmentHeaderBytes,
                  "an offset or epoch in a batch header differs from what was durable");
  }
  return {};
}

void Recovery::take(Offset base, SegmentCheck check) {
  auto segment = std::make_shared<Segment>();
  segment->base = base;
  segment->next = check.next;
  segment->size = segment->synced = check.sound_bytes;
  segment->created_ms = header_.created_ms;
  segment->epoch = header_.epoch;
  segment->chain = check.chain;
  segment->header_checked = true;
  segment->index = std::move(check.index);
  segment->index_loaded = true;
  segment->max_timestamp = segment->index.max_timestamp();
  segment->verified.add(kSegmentHeaderBytes, check.sound_bytes);
  segment->sealed = true;
  for (const EpochStart& e : check.epochs) (void)log_.epochs_.note(e.epoch, e.start);
  shard_.stats_.scanned_bytes += check.sound_bytes;
  log_.segments_.push_back(std::move(segment));
}

/// Reads one segment back from the device. False if the log ends with it.
io::Task<Result<bool>> Recovery::scan(std::size_t index) {
  const Offset base = found_[index].base;
  const auto& segments = log_.segments_;
  if (!segments.empty() && segments.back()->next != base) {
    const std::string what = fmt::format("the segment before it ends at offset {}",
                                         segments.back()->next.value);
    if (below_evidence(base, 0) || (synced_ && base == synced_->segment)) {
      co_return damage(base, 0, what);
    }
    PYRALOG_CO_TRY(co_await set_aside(index));
    co_return false;
  }
  PYRALOG_CO_ASSIGN(file_, co_await shard_.disk_.open(log_.path_of(base, "log"),
                                                      io::OpenMode::kReadWrite));
  PYRALOG_CO_TRY(co_await file_->sync());
  file_->drop_cache();
  PYRALOG_CO_ASSIGN(const bool begun, co_await scan_header(file_, base));
  if (!begun) {
    file_.reset();
    PYRALOG_CO_TRY(co_await shard_.begin_writing());
    PYRALOG_CO_TRY(co_await log_.remove_files(base));
    PYRALOG_CO_TRY(co_await shard_.disk_.sync_dir(log_.dir_));
    PYRALOG_CO_TRY(co_await set_aside(index + 1));
    co_return false;
  }
  CheckOptions check;
  check.base = base;
  check.last_epoch = std::max(log_.last_epoch(), header_.epoch);
  if (!PYRALOG_PLANT("log.any_epoch")) check.given_out = &given_out_;
  check.index_interval_bytes = log_.config_.index_interval_bytes;
  check.step_bytes = shard_.options().verify_step_bytes;
  check.max_batch_bytes = shard_.options().max_batch_bytes;
  if (synced_ && base == synced_->segment) check.mark = synced_->end_position;
  check.give_up = shard_.options().give_up;
  PYRALOG_CO_ASSIGN(SegmentCheck done, co_await check_segment(file_, std::move(check)));
  PYRALOG_CO_TRY(compare_evidence(base, done, file_->size()));
  const std::uint64_t sound = done.sound_bytes;
  take(base, std::move(done));
  if (sound == file_->size()) co_return true;
  PYRALOG_CO_TRY(co_await cut(index, sound));
  co_return false;
}

io::Task<Result<void>> Recovery::cut(std::size_t index, std::uint64_t position) {
  shard_.stats_.torn_bytes += file_->size() - position;
  if (PYRALOG_PLANT("log.keep_torn_tail")) {
    log_.segments_.back()->size = file_->size();
    co_return Result<void>{};
  }
  PYRALOG_CO_TRY(co_await shard_.begin_writing());
  if (in_doubt_ && !PYRALOG_PLANT("log.doubt_keeps_nothing")) {
    const std::string path = log_.path_of(found_[index].base, "log");
    PYRALOG_CO_TRY(co_await keep_copy(shard_.disk_, file_, position,
                                      path + fmt::format(".from-{}", position)));
    PYRALOG_CO_TRY(co_await shard_.disk_.sync_dir(log_.dir_));
  }
  PYRALOG_CO_TRY(co_await file_->truncate(position));
  PYRALOG_CO_TRY(co_await file_->sync());
  co_return co_await set_aside(index + 1);
}

/// Segments behind the end can hold nothing that was acknowledged, but they are no garbage either.
io::Task<Result<void>> Recovery::set_aside(std::size_t from) {
  if (from >= found_.size()) co_return Result<void>{};
  for (std::size_t i = from; i < found_.size(); ++i) {
    if (below_evidence(found_[i].base, 0)) {
      co_return damage(found_[i - 1].base, found_[i - 1].bytes, "the log ends here");
    }
  }
  PYRALOG_CO_TRY(co_await shard_.begin_writing());
  for (std::size_t i = found_.size(); i-- > from;) {
    const std::string path = log_.path_of(found_[i].base, "log");
    shard_.stats_.torn_bytes += found_[i].bytes;
    PYRALOG_CO_ASSIGN(std::string name, co_await free_damaged_name(shard_.disk_, path));
    // What an earlier incident left is still to be looked at.
    if (PYRALOG_PLANT("log.one_incident_only")) name = path + ".damaged";
    PYRALOG_CO_TRY(co_await shard_.disk_.rename(path, std::move(name)));
  }
  co_return co_await shard_.disk_.sync_dir(log_.dir_);
}

io::Task<Result<void>> Recovery::run(Offset initial) {
  PYRALOG_CO_TRY(co_await list_segments());
  PYRALOG_CO_TRY(co_await read_epochs());
  leave_out_deleted();
  PYRALOG_CO_ASSIGN(const std::size_t first, first_to_scan());
  if (found_.empty()) {
    PYRALOG_CO_TRY(co_await shard_.disk_.make_dirs(log_.dir_));
    log_.start_ = log_.end_ = log_.synced_end_ = initial;
    co_return Result<void>{};
  }
  if (synced_ != nullptr && synced_->start.value >= 0 && found_[0].base > synced_->start) {
    co_return damage(synced_->start, 0,
                     fmt::format("it is missing, the first file begins at offset {}",
                                 found_[0].base.value));
  }
  PYRALOG_CO_TRY(co_await sweep());
  ++shard_.stats_.recovered_logs;
  // All the epochs that begin before the first scanned batch; the scan finds the rest.
  for (const EpochStart& e : saved_epochs_.entries()) {
    if (first > 0 && e.start < found_[first].base) (void)log_.epochs_.note(e.epoch, e.start);
  }
  for (std::size_t i = 0; i < first; ++i) trust(i);
  bool more = true;
  for (std::size_t i = first; i < found_.size() && more; ++i) {
    PYRALOG_CO_ASSIGN(more, co_await scan(i));
  }
  log_.end_ = log_.synced_end_ = log_.segments_.empty() ? initial : log_.segments_.back()->next;
  log_.start_ = log_.segments_.empty() ? log_.end_ : log_.segments_.front()->base;
  if (synced_ != nullptr) log_.start_ = std::max(log_.start_, std::min(synced_->start, log_.end_));
  PYRALOG_CO_TRY(co_await forget_compaction());
  log_.epochs_saved_ = SIZE_MAX;  // the file may lack what the scan found
  if (log_.segments_.empty()) co_return Result<void>{};
  // Evidence always lies in a scanned segment, so the last one was scanned and may be appended to.
  log_.segments_.back()->sealed = false;
  shard_.committer_.note(log_.synced_entry(*log_.segments_.back(), log_.end_));
  for (const auto& segment : log_.segments_) {
    PYRALOG_CO_TRY(go_on(shard_.options().give_up));
    if (!segment->sealed || !segment->index_loaded) continue;
    segment->index_saved = (co_await log_.write_index(segment, segment->index)).has_value();
    shard_.indexes_.used(segment);
  }
  for (std::size_t i = 0; i < first; ++i) {
    PYRALOG_CO_TRY(go_on(shard_.options().give_up));
    // Damage there is met, and named, when it is read.
    if (!co_await log_.load_index(log_.segments_[i])) continue;
    log_.segments_[i]->index = SegmentIndex(found_[i].base, log_.config_.index_interval_bytes);
    log_.segments_[i]->index_loaded = false;
  }
  co_return Result<void>{};
}

}  // namespace pyralog::log
