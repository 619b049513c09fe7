#include "log/compactor.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/plant.h"
#include "io/pools.h"
#include "io/rng.h"
#include "log/append_time.h"
#include "log/segment_check.h"
#include "log/segment_swap.h"
#include "log/shard_logs.h"

namespace pyralog::log {

namespace {

constexpr std::size_t kMaxStateBytes = 64u << 10;
constexpr std::uint64_t kChunkBytes = 1u << 20;
constexpr std::uint64_t kSyncBytes = 16u << 20;
constexpr std::size_t kMaxAppendTimes = 64u << 10;

CleanableSegment described(const Segment& s) {
  return {s.base, s.next, s.size, s.created_ms};
}
std::vector<CleanableSegment> described(const std::vector<std::shared_ptr<Segment>>& segments) {
  std::vector<CleanableSegment> out;
  for (const auto& segment : segments) out.push_back(described(*segment));
  return out;
}

KeyTable::Secret random_secret() {
  KeyTable::Secret secret;
  io::Shard::current().rng().fill(secret);
  return secret;
}

/// Whether all records can be read.
bool parses(RecordReader reader) {
  for (;;) {
    const auto record = reader.next();
    if (!record || !*record) return record.has_value();
  }
}

Offset end_of(ByteView batch) {
  const auto header = parse_batch_header(batch);
  return Offset(header ? header->next_offset() : 0);
}

/// What a chunk's batches are checked against, and where that has come to.
struct Place {
  Offset expected;
  Epoch epoch;
  std::size_t consumed = 0;  ///< of the chunk
  std::string fault;         ///< of the batch at `consumed`
  bool more = true;
};

/// Shows the whole batches of `chunk`, each after its checks. Pure but for `visit`.
Result<Place> visit_chunk(ByteView chunk, Place place, const EpochTable& epochs,
                          const std::function<Result<bool>(ByteView)>& visit) {
  place.consumed = 0;
  while (place.more && chunk.size() - place.consumed >= kBatchHeaderBytes) {
    const ByteView rest = chunk.subspan(place.consumed);
    const auto header = parse_batch_header(rest);
    if (!header) {
      place.fault = "the batch header does not parse";
      return place;
    }
    if (header->total_bytes() > rest.size()) return place;
    const ByteView batch = rest.first(header->total_bytes());
    place.fault = order_fault(*header, place.expected, place.epoch);
    const Epoch due = epochs.at(Offset(header->base_offset));
    if (place.fault.empty() && header->leader_epoch != static_cast<std::int64_t>(due.value)) {
      place.fault = fmt::format("the batch has epoch {}, the epoch there is {}",
                                header->leader_epoch, due.value);
    }
    if (place.fault.empty() && batch_crc(batch) != header->crc) {
      place.fault = "the batch fails its checksum";
    }
    if (!place.fault.empty()) return place;
    PYRALOG_ASSIGN(place.more, visit(batch));
    place.expected = Offset(header->next_offset());
    place.epoch = due;
    place.consumed += batch.size();
  }
  return place;
}

}  // namespace

/// Append times of a log that may be small for ever, while the time they speak of goes on: of many
/// entries every second one goes, as often as it takes.
struct Compactor::Thinned {
  std::vector<AppendTime> entries;
  std::uint64_t step = 1;
  std::uint64_t seen = 0;

  void add(const AppendTime& entry) {
    const bool rises = entries.empty() || (entry.append_ms >= entries.back().append_ms &&
                                           entry.base > entries.back().base);
    if (seen++ % step != 0 || !rises) return;
    entries.push_back(entry);
    if (entries.size() < kMaxAppendTimes) return;
    for (std::size_t i = 0; 2 * i < entries.size(); ++i) entries[i] = entries[2 * i];
    entries.resize((entries.size() + 1) / 2);
    step *= 2;
  }
};

/// The file that is being written.
struct Compactor::Output {
  std::string path;
  std::shared_ptr<io::File> file;
  SegmentHeader header;
  std::uint64_t size = 0;
  CleanCounts counts;
};

Result<void> Compactor::may_go_on() const {
  if (log_.offline_) return log_.refuse();
  if (call_.stop && call_.stop()) return fail(Code::kCancelled, "compaction was stopped");
  if (!log_.config_.compaction) return fail(Code::kCancelled, "the topic is compacted no more");
  if (cuts_ != log_.cuts_) return fail(Code::kUnavailable, "the log was cut meanwhile; try again");
  return {};
}

io::Task<Result<void>> Compactor::pace(std::uint64_t bytes) {
  co_await io::yield();
  PYRALOG_CO_TRY(may_go_on());
  if (call_.bytes_per_second == UINT64_MAX) co_return Result<void>{};
  const double seconds = static_cast<double>(bytes) /
                         static_cast<double>(std::max<std::uint64_t>(call_.bytes_per_second, 1));
  // In slices: a node that stops must not wait for the pace.
  for (double left = seconds; left > 0; left -= 0.2) {
    co_await io::sleep_for(
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::min(left, 0.2))));
    PYRALOG_CO_TRY(may_go_on());
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Compactor::load_state() {
  if (log_.compaction_state_) co_return Result<void>{};
  const std::string path = log_.dir_ + "/cleaned";
  auto bytes = co_await io::read_file(shard_.disk_, path, kMaxStateBytes);
  if (!bytes && bytes.error().code != Code::kNotFound) co_return fail(bytes.error());
  auto state = bytes ? CompactionState::decode(*bytes, path) : Result<CompactionState>();
  if (!state && state.error().code == Code::kUnsupported) co_return fail(state.error());
  PYRALOG_CO_TRY(may_go_on());  // it may have been cut since
  // A damaged one, or one that speaks of another log: all is compared again.
  log_.compaction_state_ =
      state && state->upto() <= log_.end_ ? std::move(*state) : CompactionState();
  co_return Result<void>{};
}

io::Task<Result<void>> Compactor::end_old_active() {
  if (log_.segments_.empty()) co_return Result<void>{};
  const Segment& active = *log_.segments_.back();
  const std::int64_t lag = rule_.max_lag_ms;
  if (active.sealed || active.size == kSegmentHeaderBytes ||
      io::Shard::current().wall().ms - lag < active.created_ms) {
    co_return Result<void>{};
  }
  co_return co_await log_.roll();
}

io::Task<Result<std::vector<Compactor::SegmentRef>>> Compactor::cleanable() {
  const std::vector<SegmentRef> segments = log_.segments_;
  const std::int64_t lag = rule_.min_lag_ms;
  std::vector<SegmentRef> found;
  for (std::size_t i = 0; i + 1 < segments.size(); ++i) {
    const Segment& segment = *segments[i];
    if (!segment.sealed || segment.file != nullptr || segment.synced < segment.size) break;
    if (segment.next > call_.limit || segment.next > log_.synced_end_) break;
    // When the next one was begun, nothing was appended to this one any more.
    PYRALOG_CO_ASSIGN(const std::int64_t ended, co_await log_.created_ms(segments[i + 1]));
    if (lag > 0 && call_.now.ms - lag < ended) break;
    PYRALOG_CO_TRY(co_await log_.created_ms(segments[i]));
    found.push_back(segments[i]);
  }
  co_return found;
}

/// Reads a segment, a chunk at a time.
io::Task<Result<void>> Compactor::feed(SegmentRef segment, Visitor visit, AfterChunk after) {
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, co_await log_.file_of(segment));
  const EpochTable epochs = log_.epochs_;
  Place place;
  place.expected = segment->base;
  place.epoch = segment->epoch;
  std::uint64_t position = kSegmentHeaderBytes;
  std::uint64_t want = kChunkBytes;
  while (position < segment->size && place.more) {
    Bytes chunk(static_cast<std::size_t>(std::min(want, segment->size - position)));
    PYRALOG_CO_ASSIGN(const std::size_t got, co_await file->read_at(position, chunk));
    if (got < chunk.size()) co_return log_.corrupt(*segment, position + got, "the file ends here");
    PYRALOG_CO_ASSIGN(place, co_await io::run_in(io::Pool::kWork, [&chunk, &epochs, &visit, place] {
                        return visit_chunk(chunk, place, epochs, visit);
                      }));
    if (!place.fault.empty()) {
      co_return log_.corrupt(*segment, position + place.consumed, place.fault);
    }
    position += place.consumed;
    want = kChunkBytes;
    if (place.consumed == 0 && place.more) {
      // A batch that is larger than a chunk.
      const auto header =
          chunk.size() < kBatchHeaderBytes ? fail(Code::kCorrupt, "") : parse_batch_header(chunk);
      if (!header || header->total_bytes() > shard_.options().max_batch_bytes ||
          header->total_bytes() > segment->size - position) {
        co_return log_.corrupt(*segment, position, "the segment ends inside a batch");
      }
      want = header->total_bytes();
    }
    std::uint64_t written = 0;
    if (after) {
      PYRALOG_CO_ASSIGN(written, co_await after());
    }
    PYRALOG_CO_TRY(co_await pace(place.consumed + written));
  }
  co_return Result<void>{};
}

io::Task<Result<Offset>> Compactor::fill(KeyTable& table, const std::vector<SegmentRef>& segments,
                                         Offset from) {
  Offset upto = from;
  bool full = false;
  const std::size_t bound = shard_.options().max_inflated_bytes;
  for (const SegmentRef& segment : segments) {
    if (segment->next <= from || full) continue;
    PYRALOG_CO_TRY(co_await feed(
        segment,
        [&](ByteView batch) -> Result<bool> {
          auto opened = RecordReader::open(batch, bound, RecordReader::Headers::kRaw);
          // What does not parse to its end must replace nothing: nobody can read it.
          if (!opened || !parses(*opened)) {
            upto = end_of(batch);
            return true;
          }
          RecordReader& reader = *opened;
          if (reader.header().next_offset() <= from.value) return true;
          for (;;) {
            PYRALOG_ASSIGN(const std::optional<RecordView> record, reader.next());
            if (!record) break;
            if (record->offset < from.value || !record->key) continue;
            if (!record->value && PYRALOG_PLANT("log.compare_no_tombstones")) continue;
            if (!table.put(*record->key, Offset(record->offset))) {
              upto = Offset(record->offset);
              full = true;
              return false;
            }
          }
          upto = Offset(reader.header().next_offset());
          return true;
        },
        nullptr));
  }
  co_return upto;
}

io::Task<Result<std::size_t>> Compactor::write(std::span<const SegmentRef> segments,
                                               const KeyTable& table, Offset horizon, Output& out) {
  CleanRules rules;
  rules.table = &table;
  rules.tombstones_below = horizon;
  rules.producer_batches = producer_batches_;
  rules.max_inflated_bytes = shard_.options().max_inflated_bytes;
  BatchCleaner cleaner(rules);
  out.size = kSegmentHeaderBytes;
  std::uint64_t synced = 0;
  // A gigabyte that reaches the device at once would hold up everybody's syncs.
  const auto drain = [&]() -> io::Task<Result<std::uint64_t>> {
    const Bytes bytes = cleaner.take();
    if (bytes.empty()) co_return std::uint64_t{0};
    PYRALOG_CO_TRY(out.file->write_at(out.size, bytes));
    out.size += bytes.size();
    if (out.size - synced >= kSyncBytes) {
      PYRALOG_CO_TRY(co_await out.file->sync());
      synced = out.size;
    }
    co_return std::uint64_t{bytes.size()};
  };
  const auto clean = [&](ByteView batch) -> Result<bool> {
    PYRALOG_TRY(cleaner.add(batch));
    return true;
  };
  const CleanableSegment first = described(*segments.front());
  const std::uint64_t most = std::min(log_.config_.segment_bytes, kMaxSegmentBytes);
  std::size_t count = 0;
  do {
    PYRALOG_CO_TRY(co_await feed(segments[count++], clean, drain));
  } while (count < segments.size() &&
           may_join(first, out.size + cleaner.pending_bytes(), described(*segments[count]), most));
  PYRALOG_CO_TRY(cleaner.finish());
  PYRALOG_CO_TRY(co_await drain());
  out.counts = cleaner.counts();
  const Segment& last = *segments[count - 1];
  out.header = {log_.id_, first.base, segments.front()->epoch, first.created_ms, last.next};
  PYRALOG_CO_TRY(out.file->write_at(0, encode(out.header)));
  if (out.size > kMaxSegmentBytes) {
    co_return fail(Code::kTooLarge,
                   fmt::format("{}: compacted, it has {} bytes", out.path, out.size));
  }
  PYRALOG_CO_TRY(co_await out.file->sync());
  // What is checked next shall come from the device.
  out.file->drop_cache();
  co_return count;
}

/// Reads back what was written, before anything is given up for it.
io::Task<Result<Compactor::SegmentRef>> Compactor::check(std::span<const SegmentRef> group,
                                                         Output& out) {
  CheckOptions options;
  options.base = group.front()->base;
  options.last_epoch = group.front()->epoch;
  const EpochTable epochs = log_.epochs_;
  options.given_out = &epochs;
  options.index_interval_bytes = log_.config_.index_interval_bytes;
  options.step_bytes = shard_.options().verify_step_bytes;
  options.max_batch_bytes = shard_.options().max_batch_bytes;
  PYRALOG_CO_ASSIGN(SegmentCheck found, co_await check_segment(out.file, std::move(options)));
  const Offset next = group.back()->next;
  if (!found.fault.empty() || found.sound_bytes != out.size || found.next != next ||
      found.records != out.counts.records_out) {
    co_return fail(
        Code::kCorrupt,
        fmt::format("{}: what compaction wrote is not what it should be: {}, {} of {} "
                    "bytes, up to offset {} of {}, {} of {} records; the log stays as it "
                    "was",
                    out.path, found.fault, found.sound_bytes, out.size, found.next.value,
                    next.value, found.records, out.counts.records_out));
  }
  auto fresh = std::make_shared<Segment>();
  fresh->base = group.front()->base;
  fresh->next = next;
  fresh->size = fresh->synced = out.size;
  fresh->created_ms = out.header.created_ms;
  fresh->epoch = out.header.epoch;
  fresh->chain = found.chain;
  fresh->index = std::move(found.index);
  fresh->max_timestamp = fresh->index.max_timestamp();
  fresh->sealed = fresh->header_checked = fresh->index_loaded = true;
  fresh->verified.add(kSegmentHeaderBytes, out.size);
  fresh->file = out.file;
  co_return fresh;
}

/// Adds a segment's append times to `merged`, which keeps one of so many.
io::Task<Result<void>> Compactor::read_append_times(SegmentRef segment, Thinned& merged) {
  auto opened =
      co_await shard_.disk_.open(log_.path_of(segment->base, "appendtime"), io::OpenMode::kRead);
  if (!opened && opened.error().code == Code::kNotFound) co_return Result<void>{};
  PYRALOG_CO_ASSIGN(const std::shared_ptr<io::File> file, std::move(opened));
  constexpr std::uint64_t kEntries = 4096;
  for (std::uint64_t index = 0; index * kAppendTimeEntryBytes < file->size(); index += kEntries) {
    const std::uint64_t position = index * kAppendTimeEntryBytes;
    Bytes part(static_cast<std::size_t>(
        std::min(kEntries * kAppendTimeEntryBytes, file->size() - position)));
    PYRALOG_CO_ASSIGN(const std::size_t got, co_await file->read_at(position, part));
    part.resize(got);
    for (const AppendTime& entry :
         decode_append_times(part, segment->base, segment->next, index).entries) {
      merged.add(entry);
    }
    co_await io::yield();
  }
  co_return Result<void>{};
}

/// The append times of all for the first segment: they are bound to the segment that they lie
/// beside.
io::Task<Result<Bytes>> Compactor::merge_append_times(std::span<const SegmentRef> group) {
  Thinned merged;
  for (const SegmentRef& segment : group)
    PYRALOG_CO_TRY(co_await read_append_times(segment, merged));
  const Offset base = group.front()->base;
  Bytes bytes;
  std::uint64_t index = 0;
  for (const AppendTime& entry : merged.entries) encode_append_time(bytes, base, index++, entry);
  co_return bytes;
}

io::Task<Result<void>> Compactor::swap(std::span<const SegmentRef> group, SegmentRef fresh,
                                       std::string cleaned) {
  Bytes times;
  if (group.size() > 1) {
    PYRALOG_CO_ASSIGN(times, co_await merge_append_times(group));
  }
  const auto guard = co_await log_.turn_.lock();
  PYRALOG_CO_TRY(may_go_on());
  auto& segments = log_.segments_;
  const auto first = std::find(segments.begin(), segments.end(), group.front());
  if (segments.end() - first < static_cast<std::ptrdiff_t>(group.size()) ||
      !std::equal(group.begin(), group.end(), first)) {
    co_return fail(Code::kUnavailable, "its segments were forgotten meanwhile");
  }
  const auto at = first - segments.begin();
  // The evidence must speak of no segment that goes.
  if (!PYRALOG_PLANT("log.swap_under_evidence")) {
    PYRALOG_CO_TRY(co_await log_.put_start(log_.start_));
  }
  // Until the swap nobody minds entries above the segment's end.
  if (group.size() > 1) {
    PYRALOG_CO_TRY(co_await io::replace_file(shard_.disk_, log_.path_of(fresh->base, "appendtime"),
                                             std::move(times)));
  }
  const std::string swap = log_.path_of(fresh->base, kSwapExtension);
  auto done = co_await shard_.disk_.rename(cleaned, swap);
  // A full disk may refuse a name, too; then nothing has happened.
  if (!done && done.error().code == Code::kExhausted) co_return done;
  if (done) done = co_await shard_.disk_.sync_dir(log_.dir_);
  // Which of the two counts is not known: only the disk can tell.
  if (!done) co_return log_.go_offline(done.error());
  for (const SegmentRef& segment : group) segment->replaced = true;
  const auto place = segments.begin() + at;
  *place = fresh;
  segments.erase(place + 1, place + static_cast<std::ptrdiff_t>(group.size()));
  ++log_.swaps_;
  log_.memo_offset_ = Offset(-1);
  done = co_await finish_swap(shard_.disk_, log_.dir_, fresh->base, fresh->next,
                              [this](const std::string& path) { shard_.forget_file(path); });
  if (!done) co_return log_.go_offline(done.error());
  // From now on it is opened by its name.
  fresh->file.reset();
  fresh->index_saved = (co_await log_.write_index(fresh, fresh->index)).has_value();
  shard_.indexes_.used(fresh);
  co_return Result<void>{};
}

io::Task<Result<std::size_t>> Compactor::replace(std::span<const SegmentRef> segments,
                                                 const KeyTable& table, Offset horizon) {
  Output out;
  out.path = log_.path_of(segments.front()->base, kCleanedExtension);
  {
    // Not into a directory that is being removed.
    const auto guard = co_await log_.turn_.lock();
    PYRALOG_CO_TRY(may_go_on());
    PYRALOG_CO_TRY(co_await shard_.begin_writing());
    PYRALOG_CO_ASSIGN(out.file, co_await shard_.disk_.open(out.path, io::OpenMode::kOpenOrCreate));
    if (out.file->size() != 0) PYRALOG_CO_TRY(co_await out.file->truncate(0));
  }
  auto count = co_await write(segments, table, horizon, out);
  tombstones_ += out.counts.tombstones;
  const bool same = count && *count == 1 && out.counts.records_in == out.counts.records_out &&
                    out.counts.batches_in == out.counts.batches_out;
  Result<void> done;
  if (!count) done = fail(count.error());
  if (done && !same) {
    const std::span<const SegmentRef> group = segments.first(*count);
    auto fresh = co_await check(group, out);
    done = fresh ? co_await swap(group, *fresh, out.path) : Result<void>(fail(fresh.error()));
    if (done) {
      for (const SegmentRef& segment : group) done_.bytes_in += segment->size;
      done_.segments_in += group.size();
      done_.segments_out += 1;
      done_.bytes_out += out.size;
      done_.records_removed += out.counts.records_in - out.counts.records_out;
    }
  }
  if (same || !done) (void)co_await shard_.disk_.remove(out.path);
  PYRALOG_CO_TRY(done);
  co_return *count;
}

io::Task<Result<void>> Compactor::pass(const std::vector<SegmentRef>& segments) {
  CompactionState& state = *log_.compaction_state_;
  producer_batches_ = call_.producer_batches ? call_.producer_batches() : std::vector<Offset>();
  const std::int64_t retention = rule_.delete_retention_ms;
  const Offset horizon = state.horizon(call_.now, retention);
  const Offset from = std::max(state.upto(), log_.start_);
  // Some megabytes to be cleared: not here.
  const std::size_t bytes =
      KeyTable::bytes_for(call_.table_bytes, static_cast<std::uint64_t>(std::max<std::int64_t>(
                                                 segments.back()->next.value - from.value, 0)));
  const KeyTable::Secret secret = random_secret();
  KeyTable table =
      co_await io::run_in(io::Pool::kWork, [bytes, secret] { return KeyTable(bytes, secret); });
  PYRALOG_CO_ASSIGN(const Offset upto, co_await fill(table, segments, from));
  std::vector<SegmentRef> below;
  for (const SegmentRef& s : segments) {
    if (s->base < upto) below.push_back(s);
  }
  tombstones_ = 0;
  for (std::span<const SegmentRef> rest = below; !rest.empty();) {
    PYRALOG_CO_ASSIGN(const std::size_t count, co_await replace(rest, table, horizon));
    rest = rest.subspan(count);
  }
  PYRALOG_CO_TRY(may_go_on());
  CompactionState next = state;
  // Not by a clock that lags behind what it is not believed yet, as after a long stop: when it follows,
  // tombstones that were met just now would look old.
  const std::int64_t wall =
      PYRALOG_PLANT("log.mark_by_the_clock_that_lags") ? 0 : io::Shard::current().wall().ms;
  next.passed(upto, WallMs{std::max(call_.now.ms, wall)}, retention, tombstones_, horizon);
  {
    const auto guard = co_await log_.turn_.lock();
    PYRALOG_CO_TRY(may_go_on());
    PYRALOG_CO_TRY(co_await io::replace_file(shard_.disk_, log_.dir_ + "/cleaned", next.encode()));
    log_.compaction_state_ = std::move(next);
  }
  ++done_.passes;
  co_return Result<void>{};
}

io::Task<Result<Compacted>> Compactor::run() {
  PYRALOG_CO_TRY(co_await end_old_active());
  cuts_ = log_.cuts_;
  PYRALOG_CO_TRY(co_await load_state());
  for (;;) {
    PYRALOG_CO_ASSIGN(const std::vector<SegmentRef> segments, co_await cleanable());
    PYRALOG_CO_TRY(may_go_on());
    const Offset before = log_.compaction_state_->upto();
    const bool more = done_.passes > 0 && !segments.empty() && segments.back()->next > before;
    if (!more && (done_.passes > 0 || !compaction_is_due(described(segments), rule_,
                                                         *log_.compaction_state_, call_.now))) {
      break;
    }
    PYRALOG_CO_TRY(co_await pass(segments));
    if (log_.compaction_state_->upto() <= before) break;
  }
  done_.upto = log_.compaction_state_->upto();
  co_return done_;
}

io::Task<Result<Compacted>> PartitionLog::compact(const CompactionCall& call) {
  if (offline_) co_return refuse();
  if (memory_ || !config_.compaction || compacting_) co_return Compacted{};
  compacting_ = true;
  Compactor compactor(shard_, *this, call);
  auto done = co_await compactor.run();
  compacting_ = false;
  ShardLogStats& stats = shard_.stats_;
  const Compacted& so_far = compactor.done();
  stats.compaction_passes += so_far.passes;
  stats.compaction_read_bytes += so_far.bytes_in;
  stats.compaction_written_bytes += so_far.bytes_out;
  stats.compaction_removed_records += so_far.records_removed;
  if (!done && done.error().code != Code::kCancelled) ++stats.compaction_failures;
  co_return done;
}

}  // namespace pyralog::log
