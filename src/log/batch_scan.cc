#include "log/batch_scan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/crc32c.h"

namespace pyralog::log {

namespace {
constexpr std::size_t kCrcFrom = 21;  // Kafka's checksum covers everything from the attributes on
}  // namespace

BatchScan::BatchScan(std::shared_ptr<io::File> file, std::uint64_t from, std::uint64_t to, Mode mode,
                     std::size_t step_bytes, std::size_t max_batch_bytes)
    : file_(std::move(file)),
      at_(from),
      to_(to),
      mode_(mode),
      step_bytes_(std::max<std::size_t>(step_bytes, kBatchHeaderBytes)),
      max_batch_bytes_(max_batch_bytes) {}

ByteView BatchScan::have(std::uint64_t position) const {
  if (position < buffer_at_ || position - buffer_at_ >= buffer_.size()) return {};
  return ByteView(buffer_).subspan(static_cast<std::size_t>(position - buffer_at_));
}

BatchScan::Step BatchScan::bad(std::string why) {
  fault_ = std::move(why);
  batch_.position = at_;
  return Step::kBad;
}

BatchScan::Step BatchScan::begin_batch() {
  const ByteView bytes = have(at_);
  if (bytes.size() < kBatchHeaderBytes) {
    if (to_ - at_ < kBatchHeaderBytes) return bad("the file ends inside a batch header");
    need_ = at_;
    return Step::kNeedData;
  }
  auto header = parse_batch_header(bytes.first(kBatchHeaderBytes));
  if (!header) return bad("the batch header does not parse");
  if (header->magic != 2) return bad(fmt::format("the batch has magic {}, not 2", header->magic));
  if (header->total_bytes() > max_batch_bytes_) {
    return bad(fmt::format("the batch claims {} bytes", header->total_bytes()));
  }
  if (header->total_bytes() > to_ - at_) return bad("the file ends inside a batch");
  if (header->last_offset_delta < 0 || header->base_offset < 0 || header->leader_epoch < 0) {
    return bad("the batch has a negative offset or epoch");
  }
  batch_.header = *header;
  batch_.position = at_;
  std::copy_n(bytes.begin(), kUncoveredBytes, batch_.uncovered.begin());
  in_batch_ = true;
  checked_to_ = at_ + kCrcFrom;
  crc_ = 0;
  return Step::kBatch;
}

BatchScan::Step BatchScan::step() {
  if (!in_batch_) {
    if (at_ >= to_) return Step::kEnd;
    if (const Step begun = begin_batch(); begun != Step::kBatch) return begun;
  }
  if (mode_ == Mode::kChecked) {
    const std::uint64_t end = batch_.end();
    ByteView bytes = have(checked_to_);
    bytes = bytes.first(static_cast<std::size_t>(
        std::min<std::uint64_t>(bytes.size(), end - checked_to_)));
    crc_ = crc32c(bytes, crc_);
    checked_to_ += bytes.size();
    if (checked_to_ < end) {
      need_ = checked_to_;
      return Step::kNeedData;
    }
    if (crc_ != batch_.header.crc) return bad("the batch fails its checksum");
  }
  in_batch_ = false;
  at_ = batch_.end();
  return Step::kBatch;
}

io::Task<Result<void>> BatchScan::fill() {
  // Between large batches only their headers are wanted; the first may be the only one.
  const bool header = mode_ == Mode::kHeaders && (batch_.header.length > 16384 || buffer_.empty());
  const std::size_t wanted = header ? std::min<std::size_t>(512, step_bytes_) : step_bytes_;
  buffer_at_ = need_;
  buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(wanted, to_ - need_)));
  PYRALOG_CO_ASSIGN(const std::size_t got, stored_ ? co_await file_->read_stored(need_, buffer_)
                                                   : co_await file_->read_at(need_, buffer_));
  if (got < buffer_.size()) {
    co_return fail(Code::kCorrupt,
                   fmt::format("segment {}: byte {}: the file ends here, {} bytes were expected",
                               file_->path(), need_ + got, to_));
  }
  co_return Result<void>{};
}

std::string order_fault(const BatchHeader& header, Offset expected, Epoch last) {
  if (header.base_offset != expected.value) {
    return fmt::format("the batch begins at offset {}, {} was expected", header.base_offset,
                       expected.value);
  }
  if (header.leader_epoch < static_cast<std::int64_t>(last.value)) {
    return fmt::format("the batch has epoch {}, an earlier one has {}", header.leader_epoch,
                       last.value);
  }
  return {};
}

}  // namespace pyralog::log
