#include "log/segment_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "io/shard.h"

namespace pyralog::log {

namespace {

void take(SegmentCheck& check, const BatchScan::Batch& batch, std::uint64_t mark) {
  const Epoch epoch(static_cast<std::uint32_t>(batch.header.leader_epoch));
  if (check.batches == 0 || epoch != check.last_epoch) {
    check.epochs.push_back({epoch, Offset(batch.header.base_offset)});
    check.last_epoch = epoch;
  }
  check.index.note(batch.header, batch.position);
  check.chain = chain_header(check.chain, batch.uncovered);
  check.next = Offset(batch.header.next_offset());
  check.sound_bytes = batch.end();
  ++check.batches;
  check.records += static_cast<std::uint64_t>(std::max(batch.header.count, 0));
  if (check.sound_bytes == mark) {
    check.mark_seen = true;
    check.chain_at_mark = check.chain;
    check.offset_at_mark = check.next;
  }
}

/// Why a batch cannot have the epoch that its header says.
std::string epoch_fault(const BatchHeader& header, const EpochTable* given_out) {
  if (given_out == nullptr) return {};
  const Epoch due = given_out->at(Offset(header.base_offset));
  if (due.value == 0 || header.leader_epoch == static_cast<std::int64_t>(due.value)) return {};
  return fmt::format("the batch has epoch {}, there it was {}", header.leader_epoch, due.value);
}

}  // namespace

io::Task<Result<SegmentCheck>> check_segment(std::shared_ptr<io::File> file, CheckOptions options) {
  SegmentCheck check;
  check.next = options.base;
  check.last_epoch = options.last_epoch;
  check.index = SegmentIndex(options.base, options.index_interval_bytes);
  if (options.mark == kSegmentHeaderBytes) {
    check.mark_seen = true;
    check.offset_at_mark = options.base;
  }
  const std::uint64_t to = std::min<std::uint64_t>({file->size(), options.to, UINT32_MAX});
  BatchScan scan(file, kSegmentHeaderBytes, to, options.mode, options.step_bytes,
                 options.max_batch_bytes);
  for (;;) {
    switch (scan.step()) {
      case BatchScan::Step::kBatch:
        check.fault = order_fault(scan.batch().header, check.next, check.last_epoch);
        if (check.fault.empty()) check.fault = epoch_fault(scan.batch().header, options.given_out);
        if (!check.fault.empty()) co_return check;
        take(check, scan.batch(), options.mark);
        if (options.visit) options.visit(scan.batch());
        break;
      case BatchScan::Step::kNeedData:
        PYRALOG_CO_TRY(go_on(options.give_up));
        PYRALOG_CO_TRY(co_await scan.fill());
        co_await io::yield();
        break;
      case BatchScan::Step::kEnd:
        if (to < std::min(file->size(), options.to)) check.fault = "the segment is over 4 GiB";
        co_return check;
      case BatchScan::Step::kBad:
        check.fault = scan.fault();
        co_return check;
    }
  }
}

io::Task<Result<SegmentHeader>> read_segment_header(std::shared_ptr<io::File> file) {
  Bytes bytes(kSegmentHeaderBytes);
  PYRALOG_CO_ASSIGN(const std::size_t got, co_await file->read_at(0, bytes));
  bytes.resize(got);
  co_return decode_segment_header(bytes, file->path());
}

}  // namespace pyralog::log
