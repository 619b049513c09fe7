#include <algorithm>

#include "base/plant.h"
#include "io/pools.h"
#include "log/append_time.h"
#include "log/batch_scan.h"
#include "log/partition_log.h"
#include "log/shard_logs.h"

namespace pyralog::log {

namespace {

constexpr std::size_t kMaxAppendTimesBytes = 256u << 20;
constexpr std::uint64_t kWindowBytes = 1u << 20;
constexpr std::size_t kMaxSearchedHere = 32u << 10;  ///< a larger batch is searched in a pool

Result<std::optional<TimestampHit>> first_at_or_above(const SharedBytes& batch, std::int64_t ts,
                                                      Offset from, Offset upto,
                                                      std::size_t max_inflated_bytes) {
  PYRALOG_ASSIGN(RecordReader reader, RecordReader::open(batch.view(), max_inflated_bytes,
                                                        RecordReader::Headers::kRaw));
  for (;;) {
    PYRALOG_ASSIGN(const std::optional<RecordView> record, reader.next());
    if (!record || record->offset >= upto.value) return std::nullopt;
    if (record->offset < from.value) continue;
    if (record->timestamp >= ts) return TimestampHit{Offset(record->offset), record->timestamp};
  }
}

}  // namespace

io::Task<Result<std::optional<TimestampHit>>> PartitionLog::find_in_batch(SharedBytes batch,
                                                                          std::int64_t ts,
                                                                          Offset upto) {
  const std::size_t bound = shard_.options().max_inflated_bytes;
  const Offset from = start_offset();
  const auto header = parse_batch_header(batch.view());
  if (!header) co_return fail(header.error());
  if (PYRALOG_PLANT("log.search_in_one_go")) {
    co_return first_at_or_above(batch, ts, from, upto, bound);
  }
  if (header->codec() == Codec::kNone && batch.size() <= kMaxSearchedHere) {
    auto found = first_at_or_above(batch, ts, from, upto, bound);
    // One request may ask for thousands of such searches.
    co_await io::yield();
    co_return found;
  }
  co_return co_await io::run_in(io::Pool::kWork, [batch = std::move(batch), ts, from, upto, bound] {
    return first_at_or_above(batch, ts, from, upto, bound);
  });
}

io::Task<Result<bool>> PartitionLog::walk(SegmentRef segment, Offset from, BatchVisitor visit) {
  const Offset end = segment->next;
  while (from < end) {
    PYRALOG_CO_ASSIGN(const Extent whole, co_await extent(segment, from, end, kWindowBytes, true));
    PYRALOG_CO_ASSIGN(const Extent window, co_await verify(segment, whole));
    PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, co_await file_of(segment));
    BatchScan scan(file, window.from, window.to, BatchScan::Mode::kHeaders,
                   shard_.options().verify_step_bytes, shard_.options().max_batch_bytes);
    for (bool more = true; more;) {
      switch (scan.step()) {
        case BatchScan::Step::kBatch:
          if (!visit(scan.batch().header, scan.batch().position)) co_return false;
          break;
        case BatchScan::Step::kNeedData: PYRALOG_CO_TRY(co_await scan.fill()); break;
        case BatchScan::Step::kEnd: more = false; break;
        case BatchScan::Step::kBad:
          co_return corrupt(*segment, scan.batch().position, scan.fault());
      }
    }
    PYRALOG_ASSERT(window.next > from);
    from = window.next;
  }
  co_return true;
}

io::Task<Result<std::optional<TimestampHit>>> PartitionLog::find_in_segment(SegmentRef segment,
                                                                            std::int64_t ts,
                                                                            Offset upto) {
  PYRALOG_CO_TRY(co_await load_index(segment));
  Offset from(segment->base.value + segment->index.floor_timestamp(ts).relative_offset);
  from = std::max(from, start_);
  for (;;) {
    // The headers that are passed over decide what is found, so the walk checks them too.
    std::optional<std::pair<BatchHeader, std::uint64_t>> candidate;
    PYRALOG_CO_ASSIGN(const bool none,
                      co_await walk(segment, from,
                                    [&](const BatchHeader& header, std::uint64_t position) {
                                      if (header.base_offset >= upto.value) return false;
                                      if (header.max_timestamp < ts) return true;
                                      candidate.emplace(header, position);
                                      return false;
                                    }));
    if (none || !candidate) co_return std::nullopt;
    const auto& [header, position] = *candidate;
    PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, co_await file_of(segment));
    Bytes bytes(header.total_bytes());
    PYRALOG_CO_ASSIGN(const std::size_t got, co_await file->read_at(position, bytes));
    if (got != bytes.size()) co_return corrupt(*segment, position, "the file ends inside a batch");
    auto hit = co_await find_in_batch(SharedBytes(std::move(bytes)), ts, upto);
    if (!hit && hit.error().code == Code::kCorrupt) {
      co_return corrupt(*segment, position, hit.error().message);
    }
    if (!hit || *hit) co_return hit;
    from = Offset(header.next_offset());
  }
}

io::Task<Result<std::optional<TimestampHit>>> PartitionLog::find_in_memory(std::int64_t ts,
                                                                           Offset upto) {
  // Batches may be dropped while one is inflated: go by offset, not by place.
  Offset from = memory_->start();
  for (;;) {
    const std::size_t found = memory_->find_timestamp(memory_->find(from), ts);
    if (found == memory_->batches().size()) co_return std::nullopt;
    const MemoryStore::Batch& batch = memory_->batches()[found];
    if (batch.base >= upto) co_return std::nullopt;
    from = batch.next;
    auto hit = co_await find_in_batch(batch.bytes, ts, upto);
    if (!hit || *hit) co_return hit;
  }
}

/// A read met a segment that was replaced, or went, since `swaps` and `start` were noted: it is to be
/// begun again, on the segments that there are now.
bool PartitionLog::has_moved(const Error& error, std::uint64_t swaps, Offset start) const {
  if (error.code == Code::kUnavailable) return swaps != swaps_;
  return error.code == Code::kOutOfRange && start != start_ && !PYRALOG_PLANT("log.find_once");
}

io::Task<Result<std::optional<TimestampHit>>> PartitionLog::find_timestamp(
    std::int64_t timestamp_ms, Offset upto) {
  if (memory_ && !offline_) co_return co_await find_in_memory(timestamp_ms, upto);
  for (;;) {
    if (offline_) co_return refuse();
    const std::uint64_t swaps = swaps_;
    const Offset start = start_;
    auto hit = co_await find_on_disk(timestamp_ms, upto);
    if (hit || !has_moved(hit.error(), swaps, start)) co_return hit;
  }
}

io::Task<Result<std::optional<TimestampHit>>> PartitionLog::find_on_disk(std::int64_t timestamp_ms,
                                                                         Offset upto) {
  const std::vector<SegmentRef> segments = segments_;
  for (const SegmentRef& segment : segments) {
    if (segment->base >= upto) break;
    if (segment->next <= start_) continue;
    if (segment->max_known && segment->max_timestamp.timestamp < timestamp_ms) continue;
    auto hit = co_await find_in_segment(segment, timestamp_ms, upto);
    if (!hit || *hit) co_return hit;
  }
  co_return std::nullopt;
}

io::Task<Result<void>> PartitionLog::scan_headers(Offset from, HeaderVisitor visit) {
  if (offline_) co_return refuse();
  if (memory_) {
    for (std::size_t i = memory_->find(from); i < memory_->batches().size(); ++i) {
      const auto header = parse_batch_header(memory_->batches()[i].bytes.view());
      if (!header) co_return fail(header.error());
      if (!visit(*header)) break;
    }
    co_return Result<void>{};
  }
  for (;;) {
    const std::vector<SegmentRef> segments = segments_;
    const std::uint64_t swaps = swaps_;
    const Offset start = start_;
    from = std::max(from, start);  // what lies below may be going
    Result<bool> more = true;
    for (const SegmentRef& segment : segments) {
      if (segment->next <= from || !more || !*more) continue;
      more = co_await walk(segment, std::max(from, segment->base),
                           [&](const BatchHeader& header, std::uint64_t) {
                             // Where to go on if the segment is replaced in the middle.
                             if (header.next_offset() <= from.value) return true;
                             from = Offset(header.next_offset());
                             return visit(header);
                           });
    }
    if (more) co_return Result<void>{};
    if (offline_ || !has_moved(more.error(), swaps, start)) {
      co_return fail(std::move(more.error()));
    }
  }
}

io::Task<Result<Offset>> PartitionLog::end_offset_at(WallMs wall) {
  if (offline_) co_return refuse();
  if (!PYRALOG_PLANT("log.times_not_written_yet")) write_append_times();
  Offset end = end_;
  const std::uint64_t swaps = swaps_;
  const std::vector<SegmentRef> segments = segments_;
  for (auto s = segments.rbegin(); s != segments.rend(); ++s) {
    auto bytes = co_await io::read_file(shard_.disk_, path_of((*s)->base, "appendtime"),
                                        kMaxAppendTimesBytes);
    if (!bytes && bytes.error().code != Code::kNotFound) co_return fail(bytes.error());
    const AppendTimes times =
        decode_append_times(bytes ? ByteView(*bytes) : ByteView{}, (*s)->base, (*s)->next);
    const auto later = std::find_if(times.entries.begin(), times.entries.end(),
                                    [&](const AppendTime& t) { return t.append_ms > wall.ms; });
    if (later != times.entries.end()) end = later->base;
    if (!times.entries.empty() && later != times.entries.begin()) break;
  }
  // A segment's entries may have gone to another meanwhile.
  if (swaps != swaps_) co_return co_await end_offset_at(wall);
  co_return end;
}

}  // namespace pyralog::log
