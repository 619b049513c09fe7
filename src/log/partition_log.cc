#include "log/partition_log.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/plant.h"
#include "log/batch_scan.h"
#include "log/shard_logs.h"
#include "observe/log.h"

namespace pyralog::log {

namespace {
/// Bytes of a shard that are kept in memory until they are in a write-ahead file.
constexpr std::size_t kMostCopied = 16u << 20;
constexpr std::size_t kMaxIndexEntries = 1u << 23;
}  // namespace

PartitionLog::PartitionLog(ShardLogs& shard, PartitionId id, LogConfig config)
    : shard_(shard),
      id_(id),
      dir_(shard.options().data_dir + "/" + to_string(id)),
      config_(config) {}

PartitionLog::~PartitionLog() = default;

void PartitionLog::set_config(const LogConfig& config) {
  PYRALOG_ASSERT((config.durability == Durability::kMemory) == (memory_ != nullptr));
  config_ = config;
  if (memory_) memory_->set_budget(config.memory_bytes);
}

Offset PartitionLog::start_offset() const { return memory_ ? memory_->start() : start_; }

Offset PartitionLog::synced_end() const { return memory_ ? end_ : synced_end_; }

std::uint64_t PartitionLog::size_bytes() const {
  if (memory_) return memory_->bytes();
  std::uint64_t sum = 0;
  for (const SegmentRef& s : segments_) sum += s->size;
  return sum;
}

std::size_t PartitionLog::index_memory_bytes() const {
  std::size_t sum = 0;
  for (const SegmentRef& s : segments_) sum += s->index.memory_bytes();
  return sum;
}

TimestampHit PartitionLog::max_timestamp() const {
  TimestampHit best;
  if (memory_) {
    const std::int64_t max = memory_->max_timestamp();
    if (max < 0) return best;
    return {memory_->batches()[memory_->find_timestamp(0, max)].base, max};
  }
  for (const SegmentRef& s : segments_) {
    const TimeEntry& max = s->max_timestamp;
    if (max.timestamp > best.timestamp) {
      best = {Offset(s->base.value + max.relative_offset), max.timestamp};
    }
  }
  return best;
}

std::unexpected<Error> PartitionLog::refuse() const { return fail(*offline_); }

std::unexpected<Error> PartitionLog::go_offline(const Error& cause) {
  const bool news = !offline_;
  (void)end_serving(cause);
  if (news) {
    observe::log_error("log.partition_offline", {{"partition", name()}, {"reason", offline_->message}});
  }
  return refuse();
}

/// What keeps it from taking records for now, want of space above all. Once, until a write goes well again.
void PartitionLog::tell_no_space(const Error& error) {
  if (std::exchange(no_space_told_, true)) return;
  const bool full = io::is_no_space(error) || PYRALOG_PLANT("log.any_want_is_a_full_disk");
  const bool few = !full && io::is_no_descriptors(error);
  const char* event = full ? "log.no_space" : few ? "log.no_descriptors" : "log.cannot_write";
  observe::log_error(event, {{"partition", name()}, {"reason", error.message}});
}

std::unexpected<Error> PartitionLog::end_serving(const Error& cause) {
  if (!offline_) {
    offline_ = Error{cause.code == Code::kCorrupt || cause.code == Code::kNotFound ? cause.code
                                                                                   : Code::kIo,
                     fmt::format("partition {} is offline: {}; it must be verified from disk before "
                                 "it serves again (restart the server)",
                                 to_string(id_), cause.message),
                     cause.sys_errno};
  }
  return refuse();
}

std::string PartitionLog::path_of(Offset base, std::string_view extension) const {
  return dir_ + "/" + segment_file_name(base, extension);
}

bool PartitionLog::must_roll(std::uint64_t bytes, WallMs wall) const {
  const Segment& active = *segments_.back();
  if (active.size == kSegmentHeaderBytes) return false;
  return roll_asked_ || active.size + bytes > std::min(config_.segment_bytes, kMaxSegmentBytes) ||
         wall.ms - active.created_ms >= config_.segment_ms ||
         active.index.entries() >= kMaxIndexEntries ||
         end_.value - active.base.value >= kMaxRelativeOffset;
}

bool PartitionLog::ready(std::uint64_t bytes, WallMs wall) const {
  if (offline_) return false;
  if (memory_) return true;
  return !segments_.empty() && !segments_.back()->sealed && segments_.back()->file != nullptr &&
         times_file_ != nullptr && !tail_unknown_ && !must_roll(bytes, wall);
}

io::Task<Result<void>> PartitionLog::prepare(std::uint64_t bytes, WallMs wall) {
  const auto guard = co_await turn_.lock();
  if (offline_) co_return refuse();
  if (ready(bytes, wall)) co_return Result<void>{};
  Result<void> made = co_await shard_.begin_writing();
  SegmentRef sealed;
  if (made && !segments_.empty() && !segments_.back()->sealed) {
    made = co_await open_active();
    if (made && must_roll(bytes, wall)) {
      sealed = segments_.back();
      seal_active();
      if (PYRALOG_PLANT("log.seal_first")) (void)co_await shard_.disk_.sync({sealed->file});
    }
  }
  if (made && (segments_.empty() || segments_.back()->sealed)) made = co_await create_segment(wall);
  // Only now: what the old segment still has in the page cache may be a gigabyte, and the new one's
  // small syncs, which appends wait for, would queue behind it in the file system's journal.
  if (sealed != nullptr) shard_.spawn(finish_sealing(sealed));
  if (!made && !offline_ && !PYRALOG_PLANT("log.refuse_silently")) tell_no_space(made.error());
  PYRALOG_CO_TRY(made);
  if (offline_) co_return refuse();
  co_return Result<void>{};
}

io::Task<Result<void>> PartitionLog::open_active() {
  const SegmentRef active = segments_.back();
  PYRALOG_CO_TRY(co_await load_index(active));
  if (active->file == nullptr) {
    const std::string path = path_of(active->base, "log");
    shard_.files_.forget(path);
    PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file,
                      co_await shard_.disk_.open(path, io::OpenMode::kReadWrite));
    if (file->size() != active->size) {
      co_return corrupt(*active, std::min(file->size(), active->size),
                        fmt::format("the file has {} bytes, {} were written", file->size(),
                                    active->size));
    }
    active->file = std::move(file);
  }
  PYRALOG_CO_TRY(co_await cut_unknown_tail());
  if (times_file_ == nullptr) {
    auto opened = co_await open_append_times(active, io::OpenMode::kReadWrite);
    if (!opened && opened.error().code == Code::kNotFound) {
      opened = co_await open_append_times(active, io::OpenMode::kOpenOrCreate);
      auto synced = opened ? co_await shard_.disk_.sync_dir(dir_) : Result<void>{};
      if (!synced) co_return go_offline(synced.error());
    }
    PYRALOG_CO_TRY(opened);
  }
  active->index_saved = false;
  co_return Result<void>{};
}

io::Task<Result<void>> PartitionLog::open_append_times(SegmentRef segment, io::OpenMode mode) {
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file,
                    co_await shard_.disk_.open(path_of(segment->base, "appendtime"), mode));
  Bytes content(file->size());
  PYRALOG_CO_ASSIGN(const std::size_t got, co_await file->read_at(0, content));
  content.resize(got);
  const AppendTimes times = decode_append_times(content, segment->base, segment->next);
  times_next_ = times.next_index;
  // The clock may have gone back since the segment before.
  if (!times.entries.empty()) times_last_ms_ = times.entries.back().append_ms;
  times_noted_.reset();
  if (file->size() != times_next_ * kAppendTimeEntryBytes) {
    PYRALOG_CO_TRY(co_await file->truncate(times_next_ * kAppendTimeEntryBytes));
  }
  times_file_ = std::move(file);
  times_unwritten_.clear();
  times_captured_ = 0;
  times_synced_ = io::Shard::current().now();
  co_return Result<void>{};
}

/// The files of a new segment; durable, with their names, when it returns.
io::Task<Result<std::shared_ptr<io::File>>> PartitionLog::create_files(SegmentRef segment) {
  const std::string path = path_of(segment->base, "log");
  if (stray_ == segment->base) (void)co_await shard_.disk_.remove(path);
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file,
                    co_await shard_.disk_.open(path, io::OpenMode::kCreate));
  const Bytes header =
      encode(SegmentHeader{id_, segment->base, segment->epoch, segment->created_ms});
  const Instant began = io::Shard::current().now();
  auto made = file->write_at(0, header);
  if (made) made = co_await file->sync();
  // One sync of the directory is for both names.
  if (made && !PYRALOG_PLANT("log.late_append_times")) {
    made = co_await open_append_times(segment, io::OpenMode::kOpenOrCreate);
  }
  if (made && !PYRALOG_PLANT("log.roll_no_dir_sync")) made = co_await shard_.disk_.sync_dir(dir_);
  if (made && times_file_ == nullptr) {
    made = co_await open_append_times(segment, io::OpenMode::kOpenOrCreate);
  }
  note_slow(observe::SlowKind::kSync, "new_segment", began);
  if (made) {
    stray_.reset();
    co_return file;
  }
  times_file_.reset();
  stray_ = segment->base;
  // Without space the next try makes it again; only what was made here may be removed.
  if (made.error().code != Code::kIo) (void)co_await shard_.disk_.remove(path);
  co_return fail(std::move(made.error()));
}

io::Task<Result<void>> PartitionLog::create_segment(WallMs wall) {
  // What the older segments say about epochs must not need a scan of them.
  if (!segments_.empty()) PYRALOG_CO_TRY(co_await save_epochs());
  auto segment = std::make_shared<Segment>();
  segment->base = segment->next = end_;
  // The clock may have gone back; retention goes by when the next segment was begun.
  segment->created_ms = segments_.empty() ? wall.ms : std::max(wall.ms, segments_.back()->created_ms);
  segment->epoch = last_epoch();
  segment->index = SegmentIndex(end_, config_.index_interval_bytes);
  segment->index_loaded = true;
  segment->synced = kSegmentHeaderBytes;
  segment->header_checked = true;
  auto file = co_await create_files(segment);
  if (!file) {
    const Code code = file.error().code;
    // A file that lies there already is not ours: it may be the log's, after a cut that went wrong.
    const bool strange = code == Code::kAlreadyExists && !PYRALOG_PLANT("log.remove_strange_file");
    // Where none was begun nothing is in doubt, and the next append tries again.
    const bool begun = stray_ == segment->base || PYRALOG_PLANT("log.offline_before_a_file_is_begun");
    if ((code == Code::kIo && begun) || strange) co_return go_offline(file.error());
    if (PYRALOG_PLANT("log.remove_strange_file")) {
      (void)co_await shard_.disk_.remove(path_of(end_, "log"));
    }
    co_return fail(std::move(file.error()));
  }
  // Only now: a group commit that runs meanwhile must not take it for durable.
  segment->file = std::move(*file);
  segments_.push_back(segment);
  if (segments_.size() == 1) start_ = end_;
  co_return Result<void>{};
}

void PartitionLog::seal_active() {
  const SegmentRef active = segments_.back();
  active->sealed = true;
  roll_asked_ = false;
  write_append_times();
  // What was noted last is synced with a later round.
  if (times_dirty_ && !PYRALOG_PLANT("log.drop_sealed_times")) sealed_times_.push_back(times_file_);
  times_dirty_ = false;
  times_file_.reset();
  ++shard_.stats_.rolls;
}

io::Task<void> PartitionLog::finish_sealing(SegmentRef segment) {
  const std::shared_ptr<PartitionLog> self = shard_.find(id_);
  if (self.get() != this) co_return;
  const std::uint64_t cuts = cuts_;
  if (!co_await shard_.sync(self) || cuts != cuts_) co_return;
  // An index that could not be written is rebuilt when it is wanted.
  const bool written = (co_await write_index(segment, segment->index)).has_value();
  if (cuts != cuts_ || !segment->sealed || segment->synced < segment->size) co_return;
  segment->index_saved = written;
  segment->file.reset();
  segment->index = SegmentIndex(segment->base, config_.index_interval_bytes);
  segment->index_loaded = false;
}

io::Task<Result<void>> PartitionLog::write_index(SegmentRef segment, const SegmentIndex& index) {
  const Bytes offsets = index.encode_offsets(segment->size);
  const Bytes times = index.encode_times(segment->size);
  for (const auto& [extension, bytes] : {std::pair("index", &offsets), {"timeindex", &times}}) {
    PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file,
                      co_await shard_.disk_.open(path_of(segment->base, extension),
                                                 io::OpenMode::kOpenOrCreate));
    if (file->size() != 0) PYRALOG_CO_TRY(co_await file->truncate(0));
    PYRALOG_CO_TRY(file->write_at(0, *bytes));
  }
  // It was forgotten meanwhile, its files are gone: these must not stay behind.
  const SegmentRef there = segment_of(segment->base);
  const bool merged = segment->replaced && (there == nullptr || there->base != segment->base);
  if (segment->dropped || merged) PYRALOG_CO_TRY(co_await remove_side_files(segment->base));
  co_return Result<void>{};
}

io::Task<Result<void>> PartitionLog::save_epochs() {
  const std::size_t count = epochs_.entries().size();
  const Epoch last = last_epoch();
  if (epochs_saved_ == count) co_return Result<void>{};
  PYRALOG_CO_TRY(co_await io::replace_file(shard_.disk_, dir_ + "/epochs", epochs_.encode()));
  // An append may have begun an epoch meanwhile.
  epochs_saved_ = last_epoch() == last && epochs_.entries().size() == count ? count : SIZE_MAX;
  co_return Result<void>{};
}

Result<void> PartitionLog::parse_appended(std::span<const ByteView> batches) {
  parsed_.clear();
  Offset expected = end_;
  Epoch last = last_epoch();
  for (const ByteView batch : batches) {
    PYRALOG_ASSIGN(const BatchHeader header, parse_batch_header(batch));
    std::string fault;
    if (header.total_bytes() != batch.size()) {
      fault = fmt::format("it has {} bytes and says {}", batch.size(), header.total_bytes());
    } else if (header.leader_epoch <= 0 || header.last_offset_delta < 0) {
      fault = "it has no epoch or a negative length in offsets";
    } else {
      fault = order_fault(header, expected, last);
    }
    if (!fault.empty()) {
      return fail(Code::kInvalidArgument, fmt::format("partition {}: a batch cannot be appended: {}",
                                                      to_string(id_), fault));
    }
    expected = Offset(header.next_offset());
    last = Epoch(static_cast<std::uint32_t>(header.leader_epoch));
    parsed_.push_back(header);
  }
  return {};
}

Result<Appended> PartitionLog::append(std::span<const ByteView> batches, WallMs wall) {
  if (offline_) return refuse();
  PYRALOG_TRY(parse_appended(batches));
  if (memory_) return append_to_memory(batches, wall);
  PYRALOG_ASSERT(!segments_.empty() && segments_.back()->file && !tail_unknown_);
  Segment& active = *segments_.back();
  const Instant began = io::Shard::current().now();
  auto written = active.file->write_at(active.size, batches);
  note_slow(observe::SlowKind::kWrite, "append", began);
  if (!written) {
    tail_unknown_ = true;
    if (written.error().code != Code::kExhausted) return go_offline(written.error());
    tell_no_space(written.error());
    return fail(std::move(written.error()));
  }
  no_space_told_ = false;
  const Appended done{end_, parsed_.empty() ? end_ : Offset(parsed_.back().next_offset())};
  keep_copy(batches, active.size);
  take_appended(batches);
  note_append_time(done.first, wall);
  return done;
}

void PartitionLog::note_slow(observe::SlowKind kind, const char* what, Instant began) const {
  observe::SlowLog* slow = shard_.options().slow;
  if (slow == nullptr) return;
  const Duration took = io::Shard::current().now() - began;
  if (slow->is_slow(took)) slow->note(kind, took, {{"what", what}, {"partition", name()}});
}

void PartitionLog::take_appended(std::span<const ByteView> batches) {
  Segment& active = *segments_.back();
  const std::uint64_t from = active.size;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const BatchHeader& header = parsed_[i];
    active.index.note(header, active.size);
    active.chain = chain_header(active.chain, batches[i]);
    active.size += batches[i].size();
    const Epoch epoch(static_cast<std::uint32_t>(header.leader_epoch));
    // It may take the place of one that is forgotten, so that their number stays what it was.
    if (epoch != last_epoch()) epochs_saved_ = SIZE_MAX;
    (void)epochs_.note(epoch, Offset(header.base_offset));
    end_ = Offset(header.next_offset());
  }
  active.next = end_;
  active.max_timestamp = active.index.max_timestamp();
  active.verified.add(from, active.size);
  shard_.stats_.appended_bytes += active.size - from;
}

void PartitionLog::keep_copy(std::span<const ByteView> batches, std::uint64_t position) {
  if (!shard_.committer_.goes_ahead() || PYRALOG_PLANT("log.read_back_always")) return;
  const Segment& active = *segments_.back();
  const bool follows = copy_ != nullptr && copy_segment_ == active.base &&
                       copy_from_ + copy_->bytes.size() == position;
  std::size_t bytes = 0;
  for (const ByteView batch : batches) bytes += batch.size();
  // What is not at hand is read back, if it goes to a write-ahead file at all.
  if (!WriteAhead::takes((follows ? copy_->bytes.size() : 0) + bytes) ||
      *shard_.copies_ + bytes > kMostCopied) {
    copy_.reset();
    return;
  }
  if (!follows) {
    copy_ = std::make_shared<Copy>(shard_.copies_);
    copy_segment_ = active.base;
    copy_from_ = position;
    copy_->bytes.reserve(bytes);
  }
  for (const ByteView batch : batches) copy_->bytes.insert(copy_->bytes.end(), batch.begin(), batch.end());
  *copy_->all += bytes;
}

/// What was written from `from` to the end of `segment`; empty if that is not at hand.
SharedBytes PartitionLog::take_copy(const Segment& segment, std::uint64_t from) {
  const std::shared_ptr<Copy> copy = std::exchange(copy_, nullptr);
  if (copy == nullptr || copy_segment_ != segment.base || copy_from_ != from ||
      copy_from_ + copy->bytes.size() != segment.size) {
    return {};
  }
  return {copy, copy->bytes};
}

void PartitionLog::note_append_time(Offset base, WallMs wall) {
  // The wall clock may stand still or go back for long; how far entries lie apart it does not say.
  const Instant now = io::Shard::current().now();
  if (base == end_ || (times_noted_ && now - *times_noted_ < shard_.options().append_time_step)) {
    return;
  }
  const std::int64_t ms = std::max(wall.ms, times_last_ms_);
  encode_append_time(times_unwritten_, segments_.back()->base, times_next_, {ms, base});
  ++times_next_;
  times_last_ms_ = ms;
  times_noted_ = now;
  // Many logs are each written to a few times a second: a write for each entry would be every tenth of
  // what an append costs. What a crash may take is never more than this behind the last one.
  if (now - times_written_ >= shard_.options().append_time_sync) write_append_times();
}

void PartitionLog::write_append_times() {
  if (times_unwritten_.empty()) return;
  const std::uint64_t first = times_next_ - times_unwritten_.size() / kAppendTimeEntryBytes;
  const Bytes entries = std::exchange(times_unwritten_, {});
  times_written_ = io::Shard::current().now();
  // Coarser append times are no reason to refuse the append; the next one tries this place again.
  if (!times_file_->write_at(first * kAppendTimeEntryBytes, entries)) {
    times_next_ = first;
    return;
  }
  times_dirty_ = true;
}

Result<Appended> PartitionLog::append_to_memory(std::span<const ByteView> batches, WallMs wall) {
  const Offset first = end_;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    memory_->append(SharedBytes::copy(batches[i]), parsed_[i], wall.ms);
    (void)epochs_.note(Epoch(static_cast<std::uint32_t>(parsed_[i].leader_epoch)),
                       Offset(parsed_[i].base_offset));
    end_ = Offset(parsed_[i].next_offset());
    shard_.stats_.appended_bytes += batches[i].size();
    shard_.stats_.memory_dropped_bytes += shard_.memory_room_->make_room(*memory_);
  }
  epochs_.drop_below(memory_->start());
  return Appended{first, end_};
}

io::Task<Result<void>> PartitionLog::roll() {
  if (offline_) co_return refuse();
  if (memory_ || segments_.empty()) co_return Result<void>{};
  roll_asked_ = segments_.back()->sealed || segments_.back()->size > kSegmentHeaderBytes;
  if (!roll_asked_) co_return Result<void>{};
  co_return co_await prepare(0, io::Shard::current().wall());
}

SyncedEntry PartitionLog::synced_entry(const Segment& segment, Offset end) const {
  SyncedEntry entry;
  entry.partition = id_;
  entry.segment = segment.base;
  entry.end_position = segment.size;
  entry.end_offset = end;
  entry.epoch = last_epoch();
  entry.chain = segment.chain;
  entry.start = start_;
  return entry;
}

PartitionLog::Capture PartitionLog::capture() {
  Capture captured;
  captured.cuts = cuts_;
  if (segments_.empty()) return captured;
  for (auto s = segments_.rbegin(); s != segments_.rend(); ++s) {
    Segment& segment = **s;
    if (segment.synced == segment.size && s != segments_.rbegin()) break;
    // What a round that is not over has taken becomes durable with that, or the log goes offline.
    const std::uint64_t from = std::max(segment.synced, segment.captured);
    if (segment.file == nullptr || from == segment.size) continue;
    captured.ranges.push_back({id_, segment.base, WriteAheadFile::kLog, segment.file, from, segment.size,
                               take_copy(segment, from)});
    captured.segments.emplace_back(*s, segment.size);
    segment.captured = segment.size;
  }
  captured.entry = synced_entry(*segments_.back(), end_);
  captured.sealed_times = sealed_times_;
  // How much of these is durable is not known; once a segment, whole files do.
  for (const auto& file : sealed_times_) {
    captured.ranges.push_back({id_, Offset(0), WriteAheadFile::kAppendTimes, file, 0, UINT64_MAX});
  }
  const Instant now = io::Shard::current().now();
  const bool due = times_file_ && now - times_synced_ >= shard_.options().append_time_sync;
  if (due && !PYRALOG_PLANT("log.capture_times_unwritten")) write_append_times();
  if (due && times_dirty_) {
    captured.ranges.push_back({id_, segments_.back()->base, WriteAheadFile::kAppendTimes, times_file_,
                               times_captured_ * kAppendTimeEntryBytes,
                               times_next_ * kAppendTimeEntryBytes});
    times_captured_ = times_next_;
    times_dirty_ = false;
    times_synced_ = now;
  }
  return captured;
}

void PartitionLog::apply(const Capture& captured) {
  if (captured.cuts != cuts_) return;
  for (const auto& [segment, bytes] : captured.segments) {
    segment->synced = std::max(segment->synced, bytes);
  }
  std::erase_if(sealed_times_, [&captured](const auto& file) {
    return std::ranges::find(captured.sealed_times, file) != captured.sealed_times.end();
  });
  synced_end_ = std::max(synced_end_, captured.entry.end_offset);
}

}  // namespace pyralog::log
