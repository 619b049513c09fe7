#include <fmt/format.h>

#include <algorithm>

#include "base/plant.h"
#include "log/batch_scan.h"
#include "log/partition_log.h"
#include "log/segment_check.h"
#include "log/shard_logs.h"
#include "observe/log.h"

namespace pyralog::log {

namespace {
constexpr std::size_t kWalkStepBytes = 4096;
constexpr std::size_t kMaxIndexFileBytes = 256u << 20;
}  // namespace

/// Brings word of ranges that could not be sent from the shards of clients to the log's own.
class PartitionLog::GivenOut final : public io::RangeOwner {
 public:
  explicit GivenOut(std::weak_ptr<PartitionLog> log)
      : home_(io::Shard::current()), log_(std::move(log)) {}
  void unreadable(const std::string& path, std::uint64_t position, std::uint64_t count,
                  const Error& error) override {
    home_.post([log = log_, path, position, count, error] {
      if (const auto alive = log.lock()) alive->distrust(path, position, count, error);
    });
  }

 private:
  io::Shard& home_;
  std::weak_ptr<PartitionLog> log_;
};

void PartitionLog::distrust(const std::string& path, std::uint64_t from, std::uint64_t count,
                            const Error& error) {
  observe::log_error("log.send_failed", {{"partition", name()},
                                         {"file", path},
                                         {"position", static_cast<std::int64_t>(from)},
                                         {"bytes", static_cast<std::int64_t>(count)},
                                         {"reason", error.message}});
  if (PYRALOG_PLANT("log.trust_what_could_not_be_sent")) return;
  for (const SegmentRef& segment : segments_) {
    if (path_of(segment->base, "log") == path) segment->verified.remove(from, from + count);
  }
  shard_.files_.forget(path);
}

PartitionLog::SegmentRef PartitionLog::segment_of(Offset offset) const {
  const auto next = std::upper_bound(segments_.begin(), segments_.end(), offset,
                                     [](Offset o, const SegmentRef& s) { return o < s->base; });
  return next == segments_.begin() ? nullptr : *std::prev(next);
}

std::unexpected<Error> PartitionLog::gone(Offset offset) const {
  return fail(Code::kOutOfRange,
              fmt::format("partition {}: offset {} is gone", to_string(id_), offset.value));
}

/// Who meets this finds the records in the new segment.
std::unexpected<Error> PartitionLog::was_replaced() const {
  return fail(Code::kUnavailable,
              fmt::format("partition {} was compacted meanwhile; try again", to_string(id_)));
}

std::unexpected<Error> PartitionLog::corrupt(const Segment& segment, std::uint64_t position,
                                             std::string_view what) {
  if (segment.dropped) return gone(segment.base);
  if (segment.replaced) return was_replaced();
  ++shard_.stats_.corrupt_ranges;
  damage_met_ = Met{segment.base, damage_message(to_string(id_), segment_file_name(segment.base, "log"),
                                                 position, what)};
  return fail(Code::kCorrupt, damage_met_->message);
}

io::Task<Result<std::shared_ptr<io::File>>> PartitionLog::file_of(SegmentRef segment) {
  if (segment->file) co_return segment->file;
  auto opened = co_await shard_.files_.open(path_of(segment->base, "log"));
  if (!opened && segment->dropped) co_return gone(segment->base);
  if (segment->replaced) co_return was_replaced();
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, std::move(opened));
  if (segment->file) co_return segment->file;
  if (file->size() != segment->size) {
    co_return corrupt(*segment, std::min(file->size(), segment->size),
                      fmt::format("the file has {} bytes, {} were written", file->size(),
                                  segment->size));
  }
  if (segment->header_checked) co_return file;
  const auto header = co_await read_segment_header(file);
  if (!header) {
    if (header.error().code != Code::kCorrupt) co_return fail(header.error());
    co_return corrupt(*segment, 0, header.error().message);
  }
  if (header->partition != id_ || header->base != segment->base) {
    co_return corrupt(*segment, 0, "the header is that of another partition or offset");
  }
  segment->header_checked = true;
  co_return file;
}

io::Task<Result<void>> PartitionLog::load_index(SegmentRef segment) {
  if (segment->index_loaded) {
    shard_.indexes_.used(segment);
    co_return Result<void>{};
  }
  const auto offsets = co_await io::read_file(shard_.disk_, path_of(segment->base, "index"),
                                              kMaxIndexFileBytes);
  const auto times = co_await io::read_file(shard_.disk_, path_of(segment->base, "timeindex"),
                                            kMaxIndexFileBytes);
  if (segment->index_loaded) {
    shard_.indexes_.used(segment);
    co_return Result<void>{};
  }
  if (offsets && times) {
    auto index = SegmentIndex::decode(segment->base, config_.index_interval_bytes, segment->size,
                                      *offsets, *times);
    if (index) {
      segment->index = std::move(*index);
      segment->index_loaded = segment->index_saved = true;
      if (!segment->max_known) segment->max_timestamp = segment->index.max_timestamp();
      segment->max_known = true;
      shard_.indexes_.used(segment);
      co_return Result<void>{};
    }
  }
  co_return co_await rebuild_index(segment);
}

io::Task<Result<void>> PartitionLog::rebuild_index(SegmentRef segment) {
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, co_await file_of(segment));
  const std::uint64_t cuts = cuts_;
  const std::uint64_t size = segment->size;
  CheckOptions check;
  check.base = segment->base;
  check.last_epoch = segment->epoch;
  check.index_interval_bytes = config_.index_interval_bytes;
  check.step_bytes = shard_.options().verify_step_bytes;
  check.max_batch_bytes = shard_.options().max_batch_bytes;
  check.mode = BatchScan::Mode::kHeaders;
  check.to = size;
  PYRALOG_CO_ASSIGN(SegmentCheck found, co_await check_segment(file, std::move(check)));
  if (cuts != cuts_) co_return fail(Code::kUnavailable, "the log was cut meanwhile; try again");
  if (segment->size != size) co_return Result<void>{};  // appended to: its index was made already
  if (!found.fault.empty()) co_return corrupt(*segment, found.sound_bytes, found.fault);
  if (found.next != segment->next) {
    co_return corrupt(*segment, found.sound_bytes,
                      fmt::format("its batches end at offset {}, the next segment begins at {}",
                                  found.next.value, segment->next.value));
  }
  // It may be let go when others are read, and should not be made from the batches each time.
  const bool stays = segment->sealed && !offline_ && segment_of(segment->base) == segment;
  const bool saved = stays && co_await write_index(segment, found.index);
  if (cuts != cuts_) co_return fail(Code::kUnavailable, "the log was cut meanwhile; try again");
  segment->index = std::move(found.index);
  segment->index_loaded = true;
  segment->index_saved = saved;
  segment->max_timestamp = segment->index.max_timestamp();
  segment->max_known = true;
  shard_.indexes_.used(segment);
  co_return Result<void>{};
}

/// The batch that holds `offset`, or the last one that begins at or below `position_limit`.
io::Task<Result<PartitionLog::Place>> PartitionLog::walk_to(SegmentRef segment, IndexEntry from,
                                                            Offset offset,
                                                            std::uint64_t position_limit) {
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, co_await file_of(segment));
  // Appends that come while the file is read lie behind this end.
  const std::uint64_t size = segment->size;
  BatchScan scan(file, from.position, size, BatchScan::Mode::kHeaders, kWalkStepBytes,
                 shard_.options().max_batch_bytes);
  Offset expected(segment->base.value + from.relative_offset);
  for (;;) {
    const BatchScan::Step step = scan.step();
    if (step == BatchScan::Step::kNeedData) {
      PYRALOG_CO_TRY(co_await scan.fill());
      continue;
    }
    if (step == BatchScan::Step::kEnd) {
      const std::uint64_t end = PYRALOG_PLANT("log.walk_past_end") ? segment->size : size;
      co_return Place{end, expected, end};
    }
    const BatchScan::Batch& batch = scan.batch();
    if (step == BatchScan::Step::kBad) co_return corrupt(*segment, batch.position, scan.fault());
    if (const std::string fault = order_fault(batch.header, expected, segment->epoch);
        !fault.empty() && !PYRALOG_PLANT("log.trust_index")) {
      co_return corrupt(*segment, batch.position, fault);
    }
    if (batch.header.next_offset() > offset.value || batch.end() > position_limit) {
      co_return Place{batch.position, Offset(batch.header.base_offset), batch.end()};
    }
    expected = Offset(batch.header.next_offset());
  }
}

/// As walk_to; where the walk fails, the index may be to blame: it is made anew, once.
io::Task<Result<PartitionLog::Place>> PartitionLog::place(SegmentRef segment, IndexEntry from,
                                                          Offset offset,
                                                          std::uint64_t position_limit) {
  auto found = co_await walk_to(segment, from, offset, position_limit);
  if (found || found.error().code != Code::kCorrupt || !segment->index_saved) co_return found;
  PYRALOG_CO_TRY(co_await rebuild_index(segment));
  const IndexEntry again = position_limit == UINT64_MAX
                               ? segment->index.floor(offset)
                               : segment->index.floor_position(position_limit);
  co_return co_await walk_to(segment, again, offset, position_limit);
}

io::Task<Result<PartitionLog::Place>> PartitionLog::locate(SegmentRef segment, Offset offset) {
  if (offset >= segment->next) co_return Place{segment->size, segment->next, segment->size};
  PYRALOG_CO_TRY(co_await load_index(segment));
  co_return co_await place(segment, segment->index.floor(offset), offset, UINT64_MAX);
}

io::Task<Result<PartitionLog::Extent>> PartitionLog::extent(SegmentRef segment, Offset from,
                                                            Offset upto, std::uint64_t max_bytes,
                                                            bool min_one) {
  Extent extent;
  if (memo_segment_ == segment->base && memo_offset_ == from) {
    extent.from = memo_position_;
    extent.first = from;
  } else {
    PYRALOG_CO_ASSIGN(const Place first, co_await locate(segment, from));
    extent.from = first.position;
    extent.first = first.base;
  }
  Place end{segment->size, segment->next, segment->size};
  if (upto < segment->next) {
    PYRALOG_CO_ASSIGN(end, co_await locate(segment, upto));
  }
  extent.to = end.position;
  extent.next = end.base;
  if (extent.to - extent.from <= max_bytes) co_return extent;

  PYRALOG_CO_TRY(co_await load_index(segment));
  const std::uint64_t limit = extent.from + max_bytes;
  IndexEntry floor = segment->index.floor_position(limit);
  if (floor.position < extent.from) {
    floor = {static_cast<std::uint32_t>(extent.first.value - segment->base.value),
             static_cast<std::uint32_t>(extent.from)};
  }
  PYRALOG_CO_ASSIGN(Place last, co_await place(segment, floor, Offset(INT64_MAX), limit));
  if (last.position == extent.from && min_one) {
    PYRALOG_CO_ASSIGN(last, co_await place(segment, floor, Offset(INT64_MAX), last.end));
  }
  extent.to = last.position;
  extent.next = last.base;
  co_return extent;
}

io::Task<Result<PartitionLog::Extent>> PartitionLog::verify(SegmentRef segment, Extent extent) {
  // Pages in memory may still be sound, or look so: what leaves them is read from the device again.
  if (const DamagedRange* damage = refused_in(segment->damaged, extent.from, extent.to);
      damage != nullptr && !PYRALOG_PLANT("log.scrub_serves_damaged")) {
    co_return corrupt(*segment, damage->from, damage->what);
  }
  if (segment->verified.covers(extent.from, extent.to)) co_return extent;
  if (PYRALOG_PLANT("log.no_cold_verify")) co_return extent;
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, co_await file_of(segment));
  const std::uint64_t cuts = cuts_;
  BatchScan scan(file, extent.from, extent.to, BatchScan::Mode::kChecked,
                 shard_.options().verify_step_bytes, shard_.options().max_batch_bytes);
  Offset expected = extent.first;
  // What lies before damage is sound, and whoever reads on meets that.
  const auto up_to = [&](std::uint64_t position, std::string_view fault) -> Result<Extent> {
    auto damage = corrupt(*segment, position, fault);
    if (position == extent.from || PYRALOG_PLANT("log.refuse_what_lies_before_damage")) return damage;
    segment->verified.add(extent.from, position);
    return Extent{extent.from, position, extent.first, expected};
  };
  for (;;) {
    const BatchScan::Step step = scan.step();
    if (cuts != cuts_) co_return fail(Code::kUnavailable, "the log was cut meanwhile; try again");
    if (step == BatchScan::Step::kNeedData) {
      PYRALOG_CO_TRY(co_await scan.fill());
      co_await io::yield();
      continue;
    }
    if (step == BatchScan::Step::kEnd) break;
    const BatchScan::Batch& batch = scan.batch();
    if (step == BatchScan::Step::kBad) co_return up_to(batch.position, scan.fault());
    std::string fault = order_fault(batch.header, expected, segment->epoch);
    const Epoch epoch = epochs_.at(Offset(batch.header.base_offset));
    if (fault.empty() && batch.header.leader_epoch != static_cast<std::int64_t>(epoch.value)) {
      fault = fmt::format("the batch has epoch {}, the epoch there is {}", batch.header.leader_epoch,
                          epoch.value);
    }
    if (!fault.empty()) co_return up_to(batch.position, fault);
    expected = Offset(batch.header.next_offset());
  }
  if (expected != extent.next) {
    co_return corrupt(*segment, extent.to, fmt::format("the batches end at offset {}, not {}",
                                                       expected.value, extent.next.value));
  }
  segment->verified.add(extent.from, extent.to);
  shard_.stats_.verified_bytes += extent.to - extent.from;
  co_return extent;
}

ReadResult PartitionLog::read_memory(Offset offset, const ReadLimits& limits) const {
  ReadResult result{{}, 0, offset, offset};
  const auto& batches = memory_->batches();
  for (std::size_t i = memory_->find(offset); i < batches.size(); ++i) {
    const MemoryStore::Batch& batch = batches[i];
    if (batch.next > limits.upto) break;
    const bool forced = limits.min_one && result.pieces.empty();
    if (result.bytes + batch.bytes.size() > limits.max_bytes && !forced) {
      result.next_bytes = batch.bytes.size();
      break;
    }
    if (result.pieces.empty()) result.first = batch.base;
    result.pieces.emplace_back(batch.bytes);
    result.bytes += batch.bytes.size();
    result.next = batch.next;
  }
  return result;
}

void PartitionLog::stop_before_damage(const std::vector<DamagedRange>& damaged, Extent& extent) {
  const DamagedRange* damage = refused_in(damaged, extent.from, extent.to);
  if (damage == nullptr || damage->from <= extent.from) return;
  extent.to = damage->from;
  extent.next = damage->offset;
}

io::Task<Result<ReadResult>> PartitionLog::read(Offset offset, ReadLimits limits) {
  for (;;) {
    const std::uint64_t swaps = swaps_;
    auto result = co_await read_once(offset, limits);
    if (result || swaps == swaps_ || result.error().code != Code::kUnavailable || offline_) {
      co_return result;
    }
  }
}

io::Task<Result<ReadResult>> PartitionLog::read_once(Offset offset, ReadLimits limits) {
  if (offline_) co_return refuse();
  if (offset < start_offset() || offset > end_) {
    co_return fail(Code::kOutOfRange,
                   fmt::format("partition {}: offset {} is outside of {} to {}", to_string(id_),
                               offset.value, start_offset().value, end_.value));
  }
  if (memory_) co_return read_memory(offset, limits);
  ReadResult result{{}, 0, offset, offset};
  while (result.next < limits.upto && result.next < end_) {
    const SegmentRef segment = segment_of(result.next);
    if (segment == nullptr) {
      co_return gone(result.next);
    }
    auto found = co_await this->extent(segment, result.next, limits.upto,
                                       limits.max_bytes - std::min(limits.max_bytes, result.bytes),
                                       limits.min_one && result.pieces.empty());
    if (found) {
      stop_before_damage(segment->damaged, *found);
      if (found->to <= found->from) break;
      found = co_await verify(segment, *found);
    }
    // What lies before damage is read; who comes to it is refused.
    if (!found && found.error().code == Code::kCorrupt && !result.pieces.empty()) break;
    PYRALOG_CO_ASSIGN(const Extent extent, std::move(found));
    PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, co_await file_of(segment));
    if (offline_) co_return refuse();
    if (segment->replaced) co_return was_replaced();
    if (result.pieces.empty()) result.first = extent.first;
    if (given_out_ == nullptr) given_out_ = std::make_shared<GivenOut>(shard_.find(id_));
    result.pieces.emplace_back(
        io::FileRange{file, extent.from, extent.to - extent.from, given_out_});
    result.bytes += extent.to - extent.from;
    result.next = extent.next;
    memo_segment_ = segment->base;
    memo_position_ = extent.to;
    memo_offset_ = extent.next;
    if (extent.next < segment->next) break;
  }
  co_return result;
}

}  // namespace pyralog::log
