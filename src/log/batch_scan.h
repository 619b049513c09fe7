#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "io/task.h"
#include "log/segment.h"
#include "model/record_batch.h"

namespace pyralog::log {

/// The header bytes that Kafka's checksum leaves out: base offset, length, leader epoch, magic.
inline constexpr std::size_t kUncoveredBytes = 17;

/// Walks the batches of a segment's file in bounded reads:
///   while (…) switch (scan.step()) { kBatch: use batch(); kNeedData: co_await fill(); … }
/// Trusts nothing it reads. One shard.
class BatchScan {
 public:
  enum class Mode : std::uint8_t {
    kHeaders,  ///< skips the records
    kChecked,  ///< reads all bytes and compares the checksum
  };
  enum class Step : std::uint8_t {
    kBatch,     ///< batch() is the next one
    kNeedData,  ///< await fill()
    kEnd,       ///< the range is used up
    kBad,       ///< what lies at batch().position is no sound batch: fault() says why
  };
  struct Batch {
    BatchHeader header;
    std::uint64_t position = 0;
    std::array<std::uint8_t, kUncoveredBytes> uncovered{};
    [[nodiscard]] std::uint64_t end() const { return position + header.total_bytes(); }
  };

  /// Batches in [from, to) of `file`, reading `step_bytes` at a time.
  BatchScan(std::shared_ptr<io::File> file, std::uint64_t from, std::uint64_t to, Mode mode,
            std::size_t step_bytes, std::size_t max_batch_bytes);
  /// Reads what the device holds from now on, whatever lies in memory.
  void read_stored() { stored_ = true; }
  [[nodiscard]] Step step();
  [[nodiscard]] io::Task<Result<void>> fill();
  /// Bytes that the last fill has read.
  [[nodiscard]] std::size_t filled() const { return buffer_.size(); }
  [[nodiscard]] const Batch& batch() const { return batch_; }
  /// After kBad: batch() has a header, what fails is the checksum.
  [[nodiscard]] bool header_parsed() const { return in_batch_; }
  [[nodiscard]] const std::string& fault() const { return fault_; }

 private:
  [[nodiscard]] ByteView have(std::uint64_t position) const;
  [[nodiscard]] Step bad(std::string why);
  [[nodiscard]] Step begin_batch();

  std::shared_ptr<io::File> file_;
  std::uint64_t at_;  ///< start of the next batch
  std::uint64_t to_;
  Mode mode_;
  std::size_t step_bytes_;
  std::size_t max_batch_bytes_;
  bool stored_ = false;
  Batch batch_;
  std::string fault_;
  Bytes buffer_;
  std::uint64_t buffer_at_ = 0;   ///< position of its first byte
  std::uint64_t need_ = 0;        ///< position that the next fill begins with
  bool in_batch_ = false;
  std::uint64_t checked_to_ = 0;  ///< of the batch in work
  std::uint32_t crc_ = 0;
};

/// Why `header` cannot follow what ended before offset `expected` in epoch `last`; empty = it can.
[[nodiscard]] std::string order_fault(const BatchHeader& header, Offset expected, Epoch last);

}  // namespace pyralog::log
