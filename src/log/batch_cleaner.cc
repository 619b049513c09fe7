#include "log/batch_cleaner.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::log {

namespace {

constexpr std::int16_t kCodecBits = 7;

/// Calls `use` with every record.
template <typename Use>
Result<void> for_each(ByteView batch, std::size_t max_inflated_bytes, Use use) {
  PYRALOG_ASSIGN(RecordReader reader,
                 RecordReader::open(batch, max_inflated_bytes, RecordReader::Headers::kRaw));
  for (;;) {
    PYRALOG_ASSIGN(const std::optional<RecordView> record, reader.next());
    if (!record) return {};
    use(*record);
  }
}

}  // namespace

bool BatchCleaner::keeps(const RecordView& record) const {
  // Accepted before the topic was compacted; nothing can be newer than a record without key.
  if (!record.key) return true;
  const std::optional<Offset> newest = rules_.table->newest(*record.key);
  if (newest && newest->value > record.offset) {
    return PYRALOG_PLANT("log.keep_an_older_version") && record.offset % 1000 == 0;
  }
  const bool tombstone = !record.value;
  return !tombstone || record.offset >= rules_.tombstones_below.value;
}

/// Whether a batch can be taken into the run.
bool BatchCleaner::joins(const BatchHeader& header, std::size_t bytes, bool empty) const {
  if (!run_ || run_->alone || run_->first.leader_epoch != header.leader_epoch) return false;
  if (header.next_offset() - 1 - run_->first.base_offset > INT32_MAX) return false;
  if (empty) return true;
  const std::optional<BatchHeader>& kind = run_->kind;
  if (!kind) return true;
  return run_->bytes + bytes <= rules_.merge_bytes && kind->attributes == header.attributes &&
         (!header.log_append_time() || kind->max_timestamp == header.max_timestamp);
}

void BatchCleaner::copy(ByteView batch) {
  out_.insert(out_.end(), batch.begin(), batch.end());
  ++counts_.batches_out;
}

Result<BatchCleaner::Kept> BatchCleaner::look(ByteView batch) const {
  Kept kept;
  PYRALOG_TRY(for_each(batch, rules_.max_inflated_bytes, [&](const RecordView& record) {
    if (!keeps(record)) return;
    ++kept.records;
    kept.bytes += 24 + record.raw_headers.size() + (record.key ? record.key->size() : 0) +
                  (record.value ? record.value->size() : 0);
    kept.tombstones += record.key && !record.value ? 1 : 0;
  }));
  return kept;
}

Result<void> BatchCleaner::put(ByteView batch, const BatchHeader& header, bool all) {
  return for_each(batch, rules_.max_inflated_bytes, [&](const RecordView& record) {
    if (!all && !keeps(record)) return;
    if (!run_->kind) {
      run_->kind = header;
      run_->builder = BatchBuilder(header.codec());
      run_->builder.attributes(static_cast<std::int16_t>(header.attributes & ~kCodecBits));
    }
    run_->builder.add_at(static_cast<std::int32_t>(record.offset - run_->first.base_offset),
                         record);
    run_->bytes = run_->builder.size_bytes();
  });
}

/// The run is more than a copy of its first batch.
Result<void> BatchCleaner::unpack() {
  if (run_->original.empty()) return {};
  const Bytes original = std::exchange(run_->original, {});
  run_->kind.reset();
  return put(original, run_->first, true);
}

Result<void> BatchCleaner::flush() {
  if (!run_) return {};
  Run run = std::move(*run_);
  run_.reset();
  if (!run.original.empty()) {
    copy(run.original);
    return {};
  }
  std::optional<std::int64_t> timestamp;
  if (run.kind && run.kind->log_append_time()) timestamp = run.kind->max_timestamp;
  if (run.alone) {
    run.builder.producer(run.first.producer_id, run.first.producer_epoch, run.first.base_sequence);
    timestamp = run.first.max_timestamp;
  }
  const Offset base(run.first.base_offset);
  PYRALOG_ASSIGN(Bytes batch,
                 run.builder.build_sparse(
                     base, static_cast<std::int32_t>(run.next - 1 - base.value), timestamp));
  assign_offset_and_epoch(batch, base, Epoch(static_cast<std::uint32_t>(run.first.leader_epoch)));
  copy(batch);
  return {};
}

Result<void> BatchCleaner::add(ByteView batch) {
  PYRALOG_ASSIGN(const BatchHeader header, parse_batch_header(batch));
  ++counts_.batches_in;
  counts_.records_in += static_cast<std::uint64_t>(header.count);
  if (header.control() || header.transactional()) {
    PYRALOG_TRY(flush());
    counts_.records_out += static_cast<std::uint64_t>(header.count);
    copy(batch);
    return {};
  }
  const auto kept = look(batch);
  if (!kept) {
    PYRALOG_TRY(flush());
    ++counts_.unreadable;
    counts_.records_out += static_cast<std::uint64_t>(header.count);
    copy(batch);
    return {};
  }
  counts_.records_out += static_cast<std::uint64_t>(kept->records);
  counts_.tombstones += kept->tombstones;
  const bool changed = kept->records != header.count;
  const bool alone =
      std::ranges::binary_search(rules_.producer_batches, Offset(header.base_offset)) &&
      !PYRALOG_PLANT("log.clean_forgets_producers");
  if (!alone && joins(header, kept->bytes, kept->records == 0)) {
    PYRALOG_TRY(unpack());
    if (kept->records > 0) PYRALOG_TRY(put(batch, header, false));
    run_->next = header.next_offset();
    return {};
  }
  PYRALOG_TRY(flush());
  run_.emplace();
  run_->first = header;
  run_->next = header.next_offset();
  run_->alone = alone;
  run_->bytes = kBatchHeaderBytes + kept->bytes;
  if (!changed) {
    if (kept->records > 0) run_->kind = header;
    run_->original.assign(batch.begin(), batch.end());
    return {};
  }
  if (alone) {
    run_->builder.attributes(static_cast<std::int16_t>(header.attributes & ~kCodecBits));
  }
  if (kept->records > 0) return put(batch, header, false);
  return {};
}

}  // namespace pyralog::log
